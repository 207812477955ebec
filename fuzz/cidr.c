/* Address blocks: the first line is the list, the rest an address. */
#include "0_base/fault.h"
#include "1_code/cidr.h"
#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct arena *arena = arena_make();
	struct str address = str_copy(arena, (struct str){ (const char *)data, size }), blocks = str_cut(&address, '\n');
	cidr_valid(blocks);
	cidr_listed(blocks, address);
	arena_drop(arena);
	return 0;
}
