/* Connections, pipelines and the matching of results to fibers by sync marks. */
#include "pg.h"
#include "fiber.h"
#include "loop.h"
#include "loop_uv.h"
#include "pg_map.h"
#include "shared.h"
#include "../0_base/clock.h"
#include "../0_base/die.h"
#include "../0_base/log.h"
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define MAX_STEPS 24
#define CONNECT_MS 5000
#define ANSWER_MS 30000		/* past this the connection is broken on purpose */

struct segment {		/* what lies between two syncs; on the stack of its fiber */
	struct segment *next;
	struct fiber *fiber;
	PGresult *results[MAX_STEPS];
	const char *names[MAX_STEPS];
	size_t steps, at;
	PGresult *failed;
	const char *failed_name;
	bool done, lost;
};

struct pg_conn {
	struct pg_conn *next;
	struct pg_pool *pool;
	PGconn *pq;
	uv_poll_t *poll;
	struct segment *first, **last;
	struct segment *open;		/* being filled by pg_queue */
	struct segment own;		/* of a taken connection */
	struct pg_step queued[MAX_STEPS];
	int64_t trips;
	bool dirty, dead, writing;
};

struct pg_pool {
	const char *name, *conninfo;
	const struct sql *const *statements;
	struct pg_conn *idle, **shared;
	int shared_count, taken, most, turn;
	bool *shared_opening;
	struct fiber_queue waiters, shared_waiters;
	int64_t retry_at_us;
};

#define POOLS 8
static struct pg_pool *pools[POOLS];
static int pool_count;
static struct pg_conn *dirty_list[512];
static int dirty_count;

static void close_poll(uv_handle_t *handle) { free(handle); }

static void conn_break(struct pg_conn *c, const char *why)
{
	if (c->dead)
		return;
	c->dead = true;
	log_line(LOG_WARN, "database connection lost", "pool", c->pool->name, "reason", why, NULL);
	uv_poll_stop(c->poll);
	uv_close((uv_handle_t *)c->poll, close_poll);
	PQfinish(c->pq);
	c->pq = NULL;
	while (c->first) {
		struct segment *s = c->first;
		c->first = s->next;
		s->done = s->lost = true;
		fiber_wake(s->fiber);
	}
	c->last = &c->first;
}

static void segment_result(struct segment *s, PGresult *result)
{
	ExecStatusType status = PQresultStatus(result);
	if (status == PGRES_FATAL_ERROR || status == PGRES_PIPELINE_ABORTED || s->at >= s->steps) {
		if (!s->failed && status == PGRES_FATAL_ERROR) {
			s->failed = result;
			s->failed_name = s->at < s->steps ? s->names[s->at] : "commit";
			s->at++;
			return;
		}
		PQclear(result);
		s->at++;
		return;
	}
	s->results[s->at++] = result;
}

static void drain(struct pg_conn *c)
{
	while (!c->dead && c->first && !PQisBusy(c->pq)) {
		PGresult *result = PQgetResult(c->pq);
		struct segment *s = c->first;
		if (!result) {	/* the end of one statement's results */
			if (PQstatus(c->pq) != CONNECTION_OK)
				break;
			continue;
		}
		if (PQresultStatus(result) != PGRES_PIPELINE_SYNC) {
			segment_result(s, result);
			continue;
		}
		PQclear(result);
		c->first = s->next;
		if (!c->first)
			c->last = &c->first;
		s->done = true;
		fiber_wake(s->fiber);
	}
}

static void on_ready(uv_poll_t *handle, int status, int events);

static void watch(struct pg_conn *c, bool write)
{
	if (c->writing != write) {
		c->writing = write;
		uv_poll_start(c->poll, UV_READABLE | (write ? UV_WRITABLE : 0), on_ready);
	}
}

static void conn_flush(struct pg_conn *c)
{
	if (c->dead)
		return;
	int left = PQflush(c->pq);
	if (left < 0)
		conn_break(c, PQerrorMessage(c->pq));
	else
		watch(c, left == 1);
}

static void on_ready(uv_poll_t *handle, int status, int events)
{
	struct pg_conn *c = handle->data;
	if (c->dead)
		return;
	if (status < 0 || ((events & UV_READABLE) && !PQconsumeInput(c->pq))) {
		drain(c);
		conn_break(c, PQerrorMessage(c->pq));
		return;
	}
	drain(c);
	if (!c->dead && PQstatus(c->pq) != CONNECTION_OK)
		conn_break(c, PQerrorMessage(c->pq));
	else if (events & UV_WRITABLE)
		conn_flush(c);
}

static void mark_dirty(struct pg_conn *c)
{
	if (c->dirty)
		return;
	if (dirty_count == (int)(sizeof dirty_list / sizeof *dirty_list)) {
		conn_flush(c);
		return;
	}
	c->dirty = true;
	dirty_list[dirty_count++] = c;
}

static void flush_all(void)
{
	for (int i = 0; i < dirty_count; i++) {
		dirty_list[i]->dirty = false;
		conn_flush(dirty_list[i]);
	}
	dirty_count = 0;
}

static void send_step(struct pg_conn *c, struct segment *s, const struct pg_step *step)
{
	const char *values[32];
	int lengths[32];
	bug_unless(step->sql->params <= 32 && s->steps < MAX_STEPS);
	for (int i = 0; i < step->sql->params; i++) {
		values[i] = step->values[i].p;
		lengths[i] = (int)step->values[i].n;
	}
	s->names[s->steps++] = step->sql->name;
	metric_add(METRIC_sql_statements, 1);
	int sent = step->sql->fresh
		? PQsendQueryParams(c->pq, step->sql->text, step->sql->params, NULL, values, lengths, NULL, 1)
		: PQsendQueryPrepared(c->pq, step->sql->name, step->sql->params, values, lengths, NULL, 1);
	if (!sent)
		conn_break(c, PQerrorMessage(c->pq));
}

static void segment_wait(struct pg_conn *c, struct segment *s)
{
	if (c->dead) {
		s->done = s->lost = true;
		return;
	}
	s->fiber = fiber_current();
	s->next = NULL;
	if (!c->first)
		c->last = &c->first;
	*c->last = s;
	c->last = &s->next;
	c->trips++;
	metric_add(METRIC_sql_round_trips, 1);
	if (!PQpipelineSync(c->pq))
		conn_break(c, PQerrorMessage(c->pq));
	mark_dirty(c);
	while (!s->done)
		if (!fiber_park_ms(ANSWER_MS) && !s->done)
			conn_break(c, "no answer in time");
}

static void clear_result(void *result) { PQclear(result); }

/* Hands the results to the arena; the fault of the first failed step, if any. */
static enum fault segment_end(struct segment *s, struct arena *arena, struct rows **ret_rows)
{
	enum fault fault = OK;
	if (s->lost)
		fault = fault_raise(FAULT_UNAVAILABLE, "The database connection was lost; the outcome is "
			"unknown, retry with the same idempotency key");
	else if (s->failed)
		fault = pg_map_error(s->failed, s->failed_name);
	for (size_t i = 0; i < s->steps; i++) {
		if (!s->results[i])
			continue;
		if (fault == OK && ret_rows[i]) {
			*ret_rows[i] = (struct rows){ .result = s->results[i],
				.count = PQntuples(s->results[i]), .columns = PQnfields(s->results[i]),
				.affected = atoll(PQcmdTuples(s->results[i])) };
			arena_defer(arena, clear_result, s->results[i]);
		} else {
			PQclear(s->results[i]);
		}
	}
	if (s->failed)
		PQclear(s->failed);
	*s = (struct segment){ 0 };
	return fault;
}

static void connect_wait(uv_poll_t *poll, int status, int events)
{
	(void)status, (void)events;
	uv_poll_stop(poll);
	fiber_wake(poll->data);
}

/* Drives PQconnectPoll on the loop. */
static bool conn_establish(PGconn *pq)
{
	int64_t until = clock_real_us() + CONNECT_MS * US_PER_MS;
	PostgresPollingStatusType want = PGRES_POLLING_WRITING;
	while (PQstatus(pq) != CONNECTION_BAD && want != PGRES_POLLING_OK && want != PGRES_POLLING_FAILED) {
		uv_poll_t *poll = must_alloc(sizeof *poll);
		if (PQsocket(pq) < 0 || uv_poll_init(loop_uv(), poll, PQsocket(pq)) != 0) {
			free(poll);
			return false;
		}
		poll->data = fiber_current();
		uv_poll_start(poll, want == PGRES_POLLING_READING ? UV_READABLE : UV_WRITABLE, connect_wait);
		bool in_time = fiber_park_ms((until - clock_real_us()) / US_PER_MS);
		uv_poll_stop(poll);
		uv_close((uv_handle_t *)poll, close_poll);
		if (!in_time)
			return false;
		want = PQconnectPoll(pq);
	}
	return want == PGRES_POLLING_OK;
}

/* Each statement in a segment of its own, so that one that fails cannot hide behind another. */
static enum fault prepare_all(struct pg_conn *c)
{
	enum fault fault = OK;
	for (const struct sql *const *s = c->pool->statements; *s && !c->dead; ) {
		struct segment batch[16];
		size_t n = 0;
		memset(batch, 0, sizeof batch);
		for (; *s && n < 16 && !c->dead; s++, n++) {
			struct segment *g = &batch[n];
			g->names[0] = (*s)->name;
			g->steps = 1;
			if (!PQsendPrepare(c->pq, (*s)->name, (*s)->text, 0, NULL) || !PQpipelineSync(c->pq)) {
				conn_break(c, PQerrorMessage(c->pq));
				g->done = g->lost = true;
				continue;
			}
			g->fiber = fiber_current();
			if (!c->first)
				c->last = &c->first;
			*c->last = g;
			c->last = &g->next;
		}
		mark_dirty(c);
		for (size_t i = 0; i < n; i++) {
			while (!batch[i].done)
				if (!fiber_park_ms(ANSWER_MS) && !batch[i].done)
					conn_break(c, "no answer while preparing");
			if (batch[i].failed && fault == OK)
				log_line(LOG_ERROR, "statement cannot be prepared", "statement", batch[i].names[0],
					"reason", PQresultErrorMessage(batch[i].failed), NULL);
			struct rows *none[1] = { NULL };
			enum fault one = segment_end(&batch[i], NULL, none);
			fault = fault == OK ? one : fault;
		}
	}
	return c->dead ? FAULT_UNAVAILABLE : fault;
}

static void no_notice(void *arg, const PGresult *result) { (void)arg, (void)result; }

static enum fault conn_open(struct pg_pool *pool, struct pg_conn **ret_conn)
{
	if (clock_real_us() < pool->retry_at_us)	/* staggered: not every fiber tries at once */
		return fault_raise(FAULT_UNAVAILABLE, "The database is away");
	PGconn *pq = PQconnectStart(pool->conninfo);
	if (!pq || !conn_establish(pq) || PQsetnonblocking(pq, 1) != 0 || !PQenterPipelineMode(pq)) {
		log_line(LOG_WARN, "database connection failed", "pool", pool->name,
			"reason", pq ? PQerrorMessage(pq) : "out of memory", NULL);
		PQfinish(pq);
		pool->retry_at_us = clock_real_us() + 100 * US_PER_MS + (int64_t)(getpid() % 16) * 10000;
		return fault_raise(FAULT_UNAVAILABLE, "The database is away");
	}
	struct pg_conn *c = must_alloc(sizeof *c);
	*c = (struct pg_conn){ .pool = pool, .pq = pq };
	c->last = &c->first;
	PQsetNoticeReceiver(pq, no_notice, NULL);
	c->poll = must_alloc(sizeof *c->poll);
	uv_poll_init(loop_uv(), c->poll, PQsocket(pq));
	c->poll->data = c;
	uv_poll_start(c->poll, UV_READABLE, on_ready);
	enum fault fault = prepare_all(c);
	if (fault != OK) {
		conn_break(c, "statements cannot be prepared");
		free(c);
		pool->retry_at_us = clock_real_us() + US_PER_S;
		return fault_raise(FAULT_UNAVAILABLE, "The database is not ready: run trunkline migrate");
	}
	*ret_conn = c;
	return OK;
}

struct pg_pool *pg_pool_make(const char *name, const char *conninfo, const struct sql *const *statements,
	int shared, int most)
{
	struct pg_pool *pool = must_alloc(sizeof *pool);
	*pool = (struct pg_pool){ .name = name, .conninfo = strdup(conninfo), .statements = statements,
		.shared_count = shared, .most = most };
	pool->shared = must_alloc(sizeof(void *) * (size_t)(shared + 1));
	pool->shared_opening = must_alloc(sizeof(bool) * (size_t)(shared + 1));
	if (pool_count == 0)
		loop_on_flush(flush_all);
	bug_unless(pool_count < POOLS);
	pools[pool_count++] = pool;
	return pool;
}

static enum fault shared_conn(struct pg_pool *pool, struct pg_conn **ret_conn)
{
	int i = pool->turn++ % pool->shared_count;
	while (pool->shared_opening[i])
		fiber_queue_wait(&pool->shared_waiters);
	struct pg_conn *c = pool->shared[i];
	if (c && c->dead && !c->dirty) {
		free(c);
		c = pool->shared[i] = NULL;
	}
	if (!c) {
		pool->shared_opening[i] = true;
		enum fault fault = conn_open(pool, &c);
		pool->shared_opening[i] = false;
		while (fiber_queue_wake(&pool->shared_waiters))
			;
		TRY(fault);
		pool->shared[i] = c;
	}
	if (c->dead)
		return fault_raise(FAULT_UNAVAILABLE, "The database is away");
	*ret_conn = c;
	return OK;
}

enum fault pg_segment(struct pg_pool *pool, struct arena *arena, const struct pg_step *steps, size_t n)
{
	struct pg_conn *c = NULL;
	struct segment s = { 0 };
	struct rows *outs[MAX_STEPS];
	fiber_may_wait("a read on a shared connection");
	TRY(shared_conn(pool, &c));
	for (size_t i = 0; i < n && !c->dead; i++) {
		outs[i] = steps[i].ret_rows;
		send_step(c, &s, &steps[i]);
	}
	segment_wait(c, &s);
	return segment_end(&s, arena, outs);
}

enum fault pg_take(struct pg_pool *pool, struct pg_conn **ret_conn)
{
	fiber_may_wait("a second transaction");
	while (pool->taken >= pool->most)
		fiber_queue_wait(&pool->waiters);
	pool->taken++;
	struct pg_conn *c = NULL;
	while ((c = pool->idle) && c->dead) {
		pool->idle = c->next;
		free(c);
	}
	if (c) {
		pool->idle = c->next;
	} else {
		enum fault fault = conn_open(pool, &c);
		if (fault != OK) {
			pool->taken--;
			fiber_queue_wake(&pool->waiters);
			return fault;
		}
	}
	c->trips = 0;
	fiber_bind(1);
	*ret_conn = c;
	return OK;
}

void pg_give(struct pg_conn *c)
{
	struct pg_pool *pool = c->pool;
	fiber_bind(-1);
	pool->taken--;
	if (c->dead && !c->dirty) {
		free(c);
	} else {
		c->next = pool->idle;
		pool->idle = c;
	}
	fiber_queue_wake(&pool->waiters);
}

void pg_queue(struct pg_conn *c, const struct pg_step *step)
{
	c->queued[c->own.steps] = *step;
	if (!c->dead)
		send_step(c, &c->own, step);
}

enum fault pg_flush(struct pg_conn *c, struct arena *arena)
{
	struct rows *outs[MAX_STEPS];
	for (size_t i = 0; i < c->own.steps; i++)
		outs[i] = c->queued[i].ret_rows;
	segment_wait(c, &c->own);
	return segment_end(&c->own, arena, outs);
}

int64_t pg_round_trips(const struct pg_conn *c) { return c->trips; }

void pg_pool_drop(struct pg_pool *pool)
{
	for (int i = 0; i < pool->shared_count; i++)
		if (pool->shared[i] && !pool->shared[i]->dead)
			PQfinish(pool->shared[i]->pq);
	for (struct pg_conn *c = pool->idle; c; c = c->next)
		if (!c->dead)
			PQfinish(c->pq);
}
