/* JSON bodies: whatever arrives is a value or a refusal. */
#include "1_code/json.h"
#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct arena *arena = arena_make();
	struct str in = str_copy(arena, (struct str){ (const char *)data, size });
	fault_clear(arena);
	json_t *value;
	if (json_read_any(arena, in, &value) == OK)
		json_dump(arena, value);
	fault_clear(NULL);
	arena_drop(arena);
	return 0;
}
