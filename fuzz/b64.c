/* Base64, hexadecimal, UUIDs, UTF-8, numbers. */
#include "0_base/die.h"
#include "0_base/fault.h"
#include "1_code/b64.h"
#include "1_code/uuid.h"
#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct arena *arena = arena_make();
	struct str in = str_copy(arena, (struct str){ (const char *)data, size });
	fault_clear(arena);
	struct str bytes, again;
	int64_t n;
	if (b64_read(arena, in, &bytes))
		bug_unless(b64_read(arena, b64_write(arena, bytes), &again) && str_eq(bytes, again));
	if (hex_read(arena, in, &bytes))
		hex_write(arena, bytes);
	uuid_valid(in);
	str_int(in, &n);
	if (str_utf8(in))
		str_chars(in);
	fault_clear(NULL);
	arena_drop(arena);
	return 0;
}
