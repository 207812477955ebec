/* URLs, queries and addresses. */
#include "0_base/fault.h"
#include "1_code/url.h"
#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct arena *arena = arena_make();
	struct str in = str_copy(arena, (struct str){ (const char *)data, size });
	fault_clear(arena);
	struct url url;
	struct str plain;
	if (url_read(in, &url))
		url_egress_problem(&url, false);
	url_query(arena, in, "a");
	url_address_public(in);
	if (url_unescape(arena, in, true, &plain)) {
		struct buf again = BUF_IN(arena, 1 << 20);
		url_escape(&again, plain, false);
	}
	fault_clear(NULL);
	arena_drop(arena);
	return 0;
}
