/* Tokens: nothing but our own key signs. */
#include "0_base/die.h"
#include "1_code/jwt.h"
#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct arena *arena = arena_make();
	struct str in = str_copy(arena, (struct str){ (const char *)data, size });
	fault_clear(arena);
	json_t *header, *claims, *set;
	struct str seed = STR("a seed of thirty-two bytes here!");
	if (jwt_peek(arena, in, &header, &claims) && json_read(arena, jwt_key_set(arena, seed, STR("k")), &set) == OK)
		bug_unless(!jwt_signed_by(arena, in, header, jwt_keys_read(arena, set)));
	if (json_read(arena, in, &set) == OK)
		jwt_keys_read(arena, set);
	fault_clear(NULL);
	arena_drop(arena);
	return 0;
}
