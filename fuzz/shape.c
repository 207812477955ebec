/* Bodies through a shape of every type. */
#include "1_code/shape.h"
#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct arena *arena = arena_make();
	struct str in = str_copy(arena, (struct str){ (const char *)data, size });
	fault_clear(arena);
	static const struct shape_field item[] = { { "x", SHAPE_TEXT, .min = 1, .max = 4 } };
	static const struct shape texts = { "texts", item, 1, .item_is_text = true };
	static const struct shape_field inner_fields[] = { { "n", SHAPE_INT, .min = 1, .max = 9, .preset = "3" } };
	static const struct shape inner = SHAPE("inner", inner_fields);
	struct sample {
		struct str a, b, c, d, e, f, g;
		int64_t n;
		bool on;
	} out = { 0 };
	static const struct shape_field fields[] = {
		{ "a", SHAPE_UUID, .offset = offsetof(struct sample, a) },
		{ "b", SHAPE_TEXT, SHAPE_REQUIRED, 1, 5, .offset = offsetof(struct sample, b) },
		{ "c", SHAPE_PHONE, .offset = offsetof(struct sample, c) }, { "d", SHAPE_URL, .offset = offsetof(struct sample, d) },
		{ "e", SHAPE_TIME, .offset = offsetof(struct sample, e) }, { "f", SHAPE_OBJECT, .max = 64, .offset = offsetof(struct sample, f) },
		{ "g", SHAPE_LIST, .min = 1, .max = 3, .sub = &texts, .offset = offsetof(struct sample, g) },
		{ "p", SHAPE_PART, .sub = &inner, .offset = offsetof(struct sample, n) },
		{ "on", SHAPE_BOOL, .offset = offsetof(struct sample, on) },
	};
	static const struct shape shape = SHAPE("sample", fields);
	struct shape_warning *warnings = NULL;
	uint64_t set;
	json_t *body;
	if (json_read(arena, in, &body) == OK && shape_read(arena, &shape, body, &out, &set, &warnings) == OK)
		fault_raise(FAULT_BAD_REQUEST, "%.*s", STRF(out.b));
	fault_clear(NULL);
	arena_drop(arena);
	return 0;
}
