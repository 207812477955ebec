/* Signed requests: no input is a good signature. */
#include "0_base/die.h"
#include "0_base/fault.h"
#include "1_code/sigv4.h"
#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct arena *arena = arena_make();
	struct str in = str_copy(arena, (struct str){ (const char *)data, size });
	fault_clear(arena);
	struct sigv4_key key = { STR("id"), STR("secret"), STR("us-east-1") };
	struct str query = in, header = str_cut(&query, 0);
	struct sigv4_header headers[] = { { STR("authorization"), header }, { STR("x-amz-date"), STR("20261122T000000Z") } };
	struct sigv4_request request = { .method = STR("GET"), .host = STR("h"), .path = STR("/a b"), .query = query,
		.headers = headers, .header_count = header.n ? 2 : 0, .payload_hash = STR("UNSIGNED-PAYLOAD") };
	bug_unless(sigv4_check(arena, &key, &request, 1795305600));
	fault_clear(NULL);
	arena_drop(arena);
	return 0;
}
