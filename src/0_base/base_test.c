/* Floor 0: text, buffers, time, arenas. */
#include "buf.h"
#include "clock.h"
#include "fault.h"
#include "map.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

static void time_is_read_and_written(void **state)
{
	static const struct {
		const char *in, *out;	/* out NULL = refused */
	} rows[] = {
		{ "2026-11-22T14:33:15Z", "2026-11-22T14:33:15.000Z" },
		{ "2026-11-22T14:33:15.678901Z", "2026-11-22T14:33:15.678Z" },
		{ "2026-11-22T14:33:15+01:30", "2026-11-22T13:03:15.000Z" },
		{ "2024-02-29T00:00:00Z", "2024-02-29T00:00:00.000Z" },
		{ "2026-02-29T00:00:00Z", NULL }, { "2026-11-22T14:33:15", NULL }, { "2026-11-22", NULL },
		{ "2026-13-01T00:00:00Z", NULL }, { "2026-11-22T24:00:00Z", NULL }, { "2026-11-22T14:33:15.Z", NULL },
		{ "2026-11-22T14:33:15Zx", NULL }, { "", NULL },
	};
	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		int64_t at;
		char text[CLOCK_TEXT_BYTES];
		bool good = clock_parse(str_of(rows[i].in), &at);
		assert_int_equal(good, rows[i].out != NULL);
		if (good)
			assert_string_equal(clock_text(at, text), rows[i].out);
	}
}

static void utf8_is_judged(void **state)
{
	(void)state;
	assert_true(str_utf8(STR("gr\xc3\xbc\xc3\x9f \xf0\x9f\x93\x9e")));
	assert_false(str_utf8(STR("\xc0\xaf")));		/* overlong */
	assert_false(str_utf8(STR("\xed\xa0\x80")));		/* surrogate */
	assert_false(str_utf8(STR("\xf4\x90\x80\x80")));	/* past U+10FFFF */
	assert_false(str_utf8(STR("\xc3")));
	assert_int_equal(str_chars(STR("gr\xc3\xbc\xc3\x9f")), 4);
}

static void integers_stop_at_64_bits(void **state)
{
	int64_t n;
	(void)state;
	assert_true(str_int(STR("-9223372036854775808"), &n));
	assert_true(n == INT64_MIN);
	assert_false(str_int(STR("9223372036854775808"), &n));
	assert_false(str_int(STR("1x"), &n));
	assert_false(str_int(STR(""), &n));
	assert_false(str_int(STR("-"), &n));
}

static void a_full_buffer_keeps_what_it_had(void **state)
{
	struct buf b = { .max = 4 };
	(void)state;
	buf_text(&b, "abc");
	buf_text(&b, "de");
	assert_true(b.full);
	assert_true(str_is(buf_view(&b), "abc"));
	buf_fini(&b);
}

static void json_text_is_escaped(void **state)
{
	struct buf b = { .max = 100 };
	(void)state;
	buf_json(&b, STR("a\"\\\n\x01/"));
	assert_true(str_is(buf_view(&b), "\"a\\\"\\\\\\n\\u0001/\""));
	buf_fini(&b);
}

static void undo(void *p) { ++*(int *)p; }

static void an_arena_undoes_what_it_was_told(void **state)
{
	int undone = 0;
	(void)state;
	struct arena *a = arena_make();
	for (int i = 0; i < 100; i++)
		memset(arena_alloc(a, 3000), 0xaa, 3000);
	char *zeroed = arena_alloc(a, 100000);
	assert_int_equal(zeroed[99999], 0);
	arena_defer(a, undo, &undone);
	arena_drop(a);
	assert_int_equal(undone, 1);
}

static void a_map_finds_what_was_put(void **state)
{
	static struct map m;
	char key[16];
	(void)state;
	for (intptr_t i = 1; i <= 1000; i++) {
		snprintf(key, sizeof key, "k%d", (int)i);
		map_put(&m, str_of(key), (void *)i);
	}
	map_put(&m, STR("k500"), NULL);
	assert_ptr_equal(map_get(&m, STR("k999")), (void *)999);
	assert_null(map_get(&m, STR("k500")));
	assert_null(map_get(&m, STR("k1001")));
}

static void a_fault_carries_its_details(void **state)
{
	(void)state;
	struct arena *a = arena_make();
	fault_clear(a);
	assert_int_equal(fault_raise(FAULT_VALIDATION_ERROR, "no %s", "good"), FAULT_VALIDATION_ERROR);
	fault_detail("name", STR("is \"required\""));
	fault_detail_int("n", 7);
	assert_true(str_is(buf_view(&fault_note->details), "\"name\":\"is \\\"required\\\"\",\"n\":7"));
	assert_int_equal(fault_rows[FAULT_VALIDATION_ERROR].status, 422);
	fault_clear(NULL);
	arena_drop(a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(time_is_read_and_written), cmocka_unit_test(utf8_is_judged),
		cmocka_unit_test(integers_stop_at_64_bits), cmocka_unit_test(a_full_buffer_keeps_what_it_had),
		cmocka_unit_test(json_text_is_escaped), cmocka_unit_test(an_arena_undoes_what_it_was_told),
		cmocka_unit_test(a_map_finds_what_was_put), cmocka_unit_test(a_fault_carries_its_details),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
