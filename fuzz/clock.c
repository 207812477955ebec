/* Times, and the round trip through text. */
#include "0_base/clock.h"
#include "0_base/die.h"
#include "0_base/fault.h"
#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct arena *arena = arena_make();
	struct str in = str_copy(arena, (struct str){ (const char *)data, size });
	fault_clear(arena);
	int64_t at, again;
	char text[CLOCK_TEXT_BYTES];
	if (clock_parse(in, &at))
		bug_unless(clock_parse(str_of(clock_text_us(at, text)), &again) && again == at);
	fault_clear(NULL);
	arena_drop(arena);
	return 0;
}
