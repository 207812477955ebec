/* PostgreSQL for commands and start-up: one connection, one statement at a time, blocking. Never on a
 * worker's loop. */
#ifndef TL_PG_ONCE_H
#define TL_PG_ONCE_H

#include "../0_base/fault.h"

struct pg_once;

struct pg_once *pg_once_open(const char *conninfo, char *ret_error, size_t error_size);	/* NULL = failed */
void pg_once_close(struct pg_once *once);

/* Runs a script (several statements) or one statement with text parameters (p NULL = null). On failure
 * FAULT_INTERNAL_ERROR, or what our own functions raised, with the database's message. */
enum fault pg_once_script(struct pg_once *once, const char *text) MUST_CHECK;
enum fault pg_once_run(struct pg_once *once, const char *text, const struct str *values, int n) MUST_CHECK;

/* The last result, as text. */
int pg_once_rows(const struct pg_once *once);
int pg_once_columns(const struct pg_once *once);
const char *pg_once_name(const struct pg_once *once, int column);
const char *pg_once_cell(const struct pg_once *once, int row, int column);	/* NULL = null */
unsigned pg_once_type(const struct pg_once *once, int column);
/* A conninfo string from a URL or conninfo, with user, password and database replaced where not NULL. */
struct str pg_once_conninfo(struct arena *arena, struct str base, const char *user, const char *password, const char *database,
	const char *options);
/* Columns of a statement without running it, '\n'-separated name:oid lines. */
enum fault pg_once_describe(struct pg_once *once, struct arena *arena, const char *text, struct str *ret_columns) MUST_CHECK;

#endif
