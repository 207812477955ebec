/* PostgreSQL by libpq in pipeline mode. Two ways: a segment rides a connection shared by all
 * fibers (reads that cannot wait for a lock; its own sync, so an implicit transaction), and a
 * taken connection belongs to one fiber until given back (every write). Parameters travel as
 * text, results in binary. Every statement is prepared by name when a connection opens. */
#ifndef TL_PG_H
#define TL_PG_H

#include "../0_base/fault.h"

struct sql {			/* made by tools/sql2c, listed in sql_all */
	const char *name, *text;
	int params;
	bool fresh;		/* planned anew for its parameters: lists with optional filters */
};

struct rows {			/* a result; belongs to the arena it was asked for with */
	void *result;
	int count, columns;
	int64_t affected;
};

struct pg_step {
	const struct sql *sql;
	const struct str *values;	/* p == NULL is SQL null */
	struct rows *ret_rows;		/* may be NULL */
};

struct pg_pool;
struct pg_conn;

/* `statements` ends with NULL. `most` limits taken connections; more takers wait in order. */
struct pg_pool *pg_pool_make(const char *name, const char *conninfo, const struct sql *const *statements,
	int shared, int most);
void pg_pool_drop(struct pg_pool *pool);

/* One segment on a shared connection: all steps or none. The first failing step decides the fault. */
enum fault pg_segment(struct pg_pool *pool, struct arena *arena, const struct pg_step *steps, size_t n) MUST_CHECK;

enum fault pg_take(struct pg_pool *pool, struct pg_conn **ret_conn) MUST_CHECK;
void pg_give(struct pg_conn *conn);
/* Queues without waiting; values are copied. */
void pg_queue(struct pg_conn *conn, const struct pg_step *step);
/* Sends what is queued with a sync and waits for all of it. */
enum fault pg_flush(struct pg_conn *conn, struct arena *arena) MUST_CHECK;
int64_t pg_round_trips(const struct pg_conn *conn);

/* Columns. Text of any type as the API writes it: uuid lower-case, times ISO-8601 with
 * milliseconds, jsonb as JSON. STR_NULL for SQL null. */
struct str pg_text(struct arena *arena, const struct rows *rows, int row, int column);
struct str pg_col(struct arena *arena, const struct rows *rows, int row, const char *name);
int64_t pg_int(const struct rows *rows, int row, const char *name);	/* null = 0 */
bool pg_bool(const struct rows *rows, int row, const char *name);
bool pg_null(const struct rows *rows, int row, const char *name);
int64_t pg_time_us(const struct rows *rows, int row, const char *name);	/* null = 0 */
const char *pg_name(const struct rows *rows, int column);
/* The JSON value of a cell: numbers and JSON bare, the rest quoted. */
void pg_json(struct buf *buf, struct arena *arena, const struct rows *rows, int row, int column);

#endif
