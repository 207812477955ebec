/* trunkline check: prepares every statement against the migrated database and compares the columns of
 * each resource's view with its shape, so that SQL and C cannot drift apart. */
#include "check.h"
#include "cluster.h"
#include "product.h"
#include "0_base/die.h"
#include "2_io/pg_once.h"
#include <stdio.h>

static int compare(struct pg_once *once, struct arena *arena, const struct shape *shape)
{
	struct str columns;
	int bad = 0;
	struct str text = str_format(arena, "select * from %s_rows", shape->name);
	if (pg_once_describe(once, arena, text.p, &columns) != OK)
		return 0;	/* not a resource with a view */
	for (size_t i = 0; i < shape->count; i++) {
		struct str type = str_cut(&columns, '\n'), name = str_cut(&type, ':');
		if (str_is(name, shape->fields[i].name))
			continue;
		printf("%s_rows: column %zu is '%.*s', the shape says '%s'\n", shape->name, i + 1, STRF(name), shape->fields[i].name);
		bad++;
	}
	return bad;
}

int check_run(void)
{
	struct arena *arena = arena_make();
	char error[300];
	int statements = 0, bad = 0;
	struct pg_once *once = pg_once_open(cluster_conninfo(arena, "tl_migrate").p, error, sizeof error);
	if (!once)
		die("no database answers: %s", error);
	for (const struct sql *const *const *list = product_sql; *list; list++)
		for (const struct sql *const *s = *list; *s; s++) {
			struct str columns;
			statements++;
			if (pg_once_describe(once, arena, (*s)->text, &columns) == OK)
				continue;
			printf("%s: %s\n", (*s)->name, fault_note->message);
			bad++;
		}
	for (const struct route *const *list = product_routes; *list; list++)
		for (const struct route *r = *list; r->method; r++)
			if (r->out)
				bad += compare(once, arena, r->out);
	printf("%d statements checked, %d problems\n", statements, bad);
	pg_once_close(once);
	arena_drop(arena);
	return bad ? 1 : 0;
}
