/* Opening doors. The tenant setting and the first statement always travel together. */
#include "tenant.h"
#include "core.sql.h"
#include "../0_base/clock.h"
#include "../0_base/die.h"

static struct pg_pool *pools[3];
static const struct sql *all_statements[512];
static void (*wake_jobs)(void);
static void (*hear_enter)(const struct tx *);

void tenant_open(const char *client_door, const char *agency_door, const char *system_door,
	const struct sql *const *const *lists, int write_connections)
{
	size_t n = 0;
	for (; *lists; lists++)
		for (const struct sql *const *s = *lists; *s; s++) {
			bug_unless(n + 1 < sizeof all_statements / sizeof *all_statements);
			all_statements[n++] = *s;
		}
	pools[DOOR_CLIENT] = pg_pool_make("client", client_door, all_statements, 1, write_connections);
	pools[DOOR_AGENCY] = pg_pool_make("agency", agency_door, all_statements, 1, 2);
	pools[DOOR_SYSTEM] = pg_pool_make("system", system_door, all_statements, 1, 3);
}

const struct sql *const *tenant_statements(void) { return all_statements; }
void tenant_on_enter(void (*hear)(const struct tx *)) { hear_enter = hear; }
void tenant_on_jobs(void (*wake)(void)) { wake_jobs = wake; }

struct str tx_text(struct tx *tx, struct str value)
{
	return value.p ? str_copy(tx->arena, value) : STR_NULL;	/* libpq wants a NUL at the end */
}

struct arena *tx_arena(struct tx *tx) { return tx->arena; }
int64_t tx_round_trips(const struct tx *tx) { return tx->conn ? pg_round_trips(tx->conn) : 0; }

static void tx_init(struct tx *tx, struct arena *arena, enum door door, const struct scope *scope)
{
	*tx = (struct tx){ .door = door, .arena = arena };
	if (scope)
		tx->scope = *scope;
}

/* The step that opens the door; its values live in the arena. */
static struct pg_step enter_step(struct tx *tx)
{
	char now[CLOCK_TEXT_BYTES];
	struct str *v = arena_array(tx->arena, struct str, 7);
	struct str at = str_copy(tx->arena, str_of(clock_text_us(clock_now_us(), now)));
	const struct scope *s = &tx->scope;
	if (tx->door == DOOR_SYSTEM) {
		v[0] = tx_text(tx, s->agency_id), v[1] = tx_text(tx, s->client_id), v[2] = at;
		v[3] = tx_text(tx, s->request_id);
		return (struct pg_step){ &sql_door_system, v, NULL };
	}
	v[0] = tx_text(tx, s->agency_id), v[1] = tx_text(tx, s->client_id), v[2] = tx_text(tx, s->user_id);
	v[3] = tx_text(tx, s->key_id), v[4] = at;
	v[5] = s->request_id.p ? tx_text(tx, s->request_id) : STR("");
	v[6] = !tx->conn ? STR_NULL : s->source.p ? tx_text(tx, s->source) : STR("");	/* a read tells nothing of itself */
	return (struct pg_step){ &sql_door_tenant, v, &tx->entered };
}

void tenant_read(struct tx *tx, struct arena *arena, const struct scope *scope)
{
	tx_init(tx, arena, scope->client_id.p ? DOOR_CLIENT : DOOR_AGENCY, scope);
}

void system_read(struct tx *tx, struct arena *arena) { tx_init(tx, arena, DOOR_SYSTEM, NULL); }

static enum fault begin(struct tx *tx)
{
	TRY(pg_take(pools[tx->door], &tx->conn));
	tx->open = true;
	struct pg_step enter = enter_step(tx);
	pg_queue(tx->conn, &(struct pg_step){ &sql_door_begin, NULL, NULL });
	pg_queue(tx->conn, &enter);
	return OK;
}

enum fault tenant_begin(struct tx *tx, struct arena *arena, const struct scope *scope)
{
	tx_init(tx, arena, scope->client_id.p ? DOOR_CLIENT : DOOR_AGENCY, scope);
	return begin(tx);
}

enum fault system_begin(struct tx *tx, struct arena *arena)
{
	tx_init(tx, arena, DOOR_SYSTEM, NULL);
	return begin(tx);
}

void tx_queue(struct tx *tx, const struct pg_step *step)
{
	if (tx->conn) {
		bug_unless(tx->open);
		pg_queue(tx->conn, step);
		return;
	}
	bug_unless(tx->queued < sizeof tx->steps / sizeof *tx->steps);
	struct str *values = arena_array(tx->arena, struct str, (size_t)step->sql->params + 1);
	memcpy(values, step->values, sizeof *values * (size_t)step->sql->params);
	tx->steps[tx->queued++] = (struct pg_step){ step->sql, values, step->ret_rows };
}

enum fault tx_run(struct tx *tx, const struct pg_step *step)
{
	if (tx->conn) {
		bug_unless(tx->open);
		pg_queue(tx->conn, step);
		enum fault fault = pg_flush(tx->conn, tx->arena);
		if (fault != OK) {	/* nothing more can happen in it */
			tx_abort(tx);
			return fault;
		}
		if (tx->entered.count && hear_enter && pg_round_trips(tx->conn) == 1)
			hear_enter(tx);
		if (tx->first_answer) {
			enum fault (*check)(void *) = tx->first_answer;
			tx->first_answer = NULL;
			return check(tx->context);
		}
		return OK;
	}
	struct pg_step all[12] = { enter_step(tx) };
	memcpy(all + 1, tx->steps, tx->queued * sizeof *all);
	all[1 + tx->queued] = *step;
	size_t n = tx->queued + 2;
	tx->queued = 0;
	TRY(pg_segment(pools[tx->door], tx->arena, all, n));
	if (tx->entered.count && hear_enter)
		hear_enter(tx);
	return OK;
}

enum fault tx_commit(struct tx *tx)
{
	bug_unless(tx->open);
	pg_queue(tx->conn, &(struct pg_step){ &sql_door_commit, NULL, NULL });
	enum fault fault = pg_flush(tx->conn, tx->arena);
	if (fault == OK && tx->first_answer)
		bug("a transaction committed before its idempotency key was judged");
	if (fault != OK) {
		tx_abort(tx);
		return fault;
	}
	tx->open = false;
	pg_give(tx->conn);
	tx->conn = NULL;
	if (tx->wakes_jobs && wake_jobs)
		wake_jobs();
	return OK;
}

void tx_abort(struct tx *tx)
{
	if (!tx->conn || !tx->open)
		return;
	struct fault_note keep = *fault_note;	/* the reason, not the rollback's own news */
	pg_queue(tx->conn, &(struct pg_step){ &sql_door_rollback, NULL, NULL });
	enum fault ignored = pg_flush(tx->conn, tx->arena);
	(void)ignored;
	*fault_note = keep;
	tx->open = false;
	pg_give(tx->conn);
	tx->conn = NULL;
}
