/* Claiming in batches, one fiber a job, leases renewed while it runs. */
#include "jobs.h"
#include "config.h"
#include "core.sql.h"
#include "../0_base/clock.h"
#include "../0_base/die.h"
#include "../0_base/log.h"
#include "../1_code/uuid.h"
#include "../2_io/fiber.h"
#include "../2_io/loop.h"
#include "../2_io/shared.h"
#include <stdatomic.h>
#include <stdlib.h>

#define CLAIM_MOST 64
#define POLL_MS 500
#define TEST_POLL_MS 5

struct running {
	struct running *next;
	struct job job;
	const struct job_kind *kind;
	struct fiber *waiter;
	bool waiter_left, over;
};

static const struct job_kind *const *kind_lists;
static struct running *running_first;
static int64_t running_count;
static struct fiber *claimer;
static bool woken, draining;

void jobs_open(const struct job_kind *const *lists) { kind_lists = lists; }
int64_t jobs_running(void) { return running_count; }
void jobs_drain(void) { draining = true; }

static const struct job_kind *kind_of(struct str name)
{
	for (const struct job_kind *const *list = kind_lists; *list; list++)
		for (const struct job_kind *k = *list; k->name; k++)
			if (str_is(name, k->name))
				return k;
	return NULL;
}

static void end(struct job *job, struct tx *tx, const char *status, int64_t run_at_us, struct str payload,
	const char *error)
{
	char at[CLOCK_TEXT_BYTES];
	job_end_later(tx, (struct job_end){ .id = job->id, .generation = job->generation, .status = str_of(status),
		.run_at = run_at_us ? str_of(clock_text_us(run_at_us, at)) : STR_NULL, .payload = payload,
		.error = error ? str_of(error) : STR_NULL }, NULL);
	job->ended = true;
}

void job_done(struct job *job, struct tx *tx) { end(job, tx, "done", 0, STR_NULL, NULL); }
void job_fail(struct job *job, struct tx *tx, const char *error) { end(job, tx, "failed", 0, STR_NULL, error); }

void job_note(struct job *job, struct tx *tx, struct str payload)
{
	job_mark_later(tx, (struct job_mark){ .id = job->id, .generation = job->generation, .payload = payload }, NULL);
}

void job_park(struct job *job, struct tx *tx, int64_t run_at_us, struct str payload)
{
	end(job, tx, "queued", run_at_us, payload, NULL);
	tx->wakes_jobs = true;
}

/* 0.5 s doubling, cap 10 min, plus 0..30 %. */
static int64_t backoff_us(int64_t attempts)
{
	int64_t us = 500000;
	for (int64_t i = 1; i < attempts && us < 600 * US_PER_S; i++)
		us *= 2;
	unsigned char dice;
	random_bytes(&dice, 1);
	return us + us * 3 * dice / 2550;
}

/* A body that failed without ending itself: put back, or dead after its tries. */
static void settle(struct running *r, enum fault fault)
{
	struct job *job = &r->job;
	struct tx tx;
	char reason[280];
	memcpy(reason, fault_note->message, sizeof fault_note->message);
	if (fault == FAULT_STALE_LEASE) {
		metric_add(METRIC_jobs_stale, 1);
		return;
	}
	bool dead = fault != OK && job->attempts >= r->kind->tries;
	if (fault != OK)
		log_line(LOG_WARN, dead ? "job given up" : "job put back", "kind", r->kind->name, "job_id", job->id.p,
			"reason", reason, NULL);
	if (system_begin(&tx, job->arena) != OK)
		return;		/* the lease runs out and somebody claims it again */
	if (fault == OK)
		job_done(job, &tx);
	else
		end(job, &tx, dead ? "dead" : "queued", dead ? 0 : clock_now_us() + (job->again_us ? job->again_us :
			backoff_us(job->attempts)), STR_NULL, reason);
	metric_add(fault == OK ? METRIC_jobs_done : dead ? METRIC_jobs_failed : METRIC_jobs_retried, 1);
	if (tx_commit(&tx) != OK)
		tx_abort(&tx);
}

static void run_job(void *argument)
{
	struct running *r = argument;
	fault_clear(r->job.arena);
	enum fault fault = r->kind->run(&r->job);
	if (fault != OK)
		r->job.ended = false;	/* whatever it queued was not committed */
	if (!r->job.ended)
		settle(r, fault);
	else
		metric_add(METRIC_jobs_done, 1);
	for (struct running **p = &running_first; *p; p = &(*p)->next)
		if (*p == r) {
			*p = r->next;
			break;
		}
	running_count--;
	fault_clear(NULL);
	r->over = true;
	if (r->waiter && !r->waiter_left) {
		fiber_wake(r->waiter);	/* the waiter frees it */
	} else {
		arena_drop(r->job.arena);
		free(r);
	}
	jobs_wake();
}

static struct running *launch(const struct job *job, const struct job_kind *kind, struct fiber *waiter)
{
	struct running *r = must_alloc(sizeof *r);
	*r = (struct running){ .next = running_first, .job = *job, .kind = kind, .waiter = waiter };
	running_first = r;
	running_count++;
	fiber_spawn(run_job, r, false);
	return r;
}

static struct str add(struct tx *tx, const struct job_order *o, bool here)
{
	char at[CLOCK_TEXT_BYTES];
	struct str id = uuid_make(tx->arena);
	const struct job_kind *kind = kind_of(str_of(o->kind));
	bug_unless(kind);
	job_insert_later(tx, (struct job_insert){ .id = id, .queue = str_of(kind->queue), .kind = str_of(o->kind),
		.payload = o->payload.p ? o->payload : STR("{}"), .resource_type = str_of(o->resource_type),
		.resource_id = o->resource_id, .run_at = o->run_at_us ? str_of(clock_text_us(o->run_at_us, at)) : STR_NULL,
		.lease_ms = here ? config.job_lease_ms : 0, .dedupe = o->dedupe }, NULL);
	tx->wakes_jobs = !here;
	return id;
}

struct str job_add(struct tx *tx, const struct job_order *o) { return add(tx, o, false); }
struct str job_add_here(struct tx *tx, const struct job_order *o) { return add(tx, o, true); }

bool job_run_here(struct str id, const struct job_order *o, const struct scope *scope, int64_t wait_ms, struct arena *to,
	struct str *ret_answer)
{
	struct arena *arena = arena_make();
	const struct job_kind *kind = kind_of(str_of(o->kind));
	struct job job = { .arena = arena, .id = str_copy(arena, id), .kind = str_copy(arena, str_of(o->kind)),
		.resource_id = str_copy(arena, o->resource_id), .attempts = 1, .generation = 1,
		.scope = { .agency_id = str_copy(arena, scope->agency_id), .client_id = str_copy(arena, scope->client_id),
			.request_id = str_copy(arena, scope->request_id) } };
	if (json_read(arena, o->payload.p ? o->payload : STR("{}"), &job.payload) != OK)
		bug("a job payload of our own making");
	struct running *r = launch(&job, kind, fiber_current());
	int64_t until = clock_real_us() + wait_ms * US_PER_MS;
	while (!r->over && clock_real_us() < until)
		fiber_park_ms((until - clock_real_us()) / US_PER_MS + 1);
	if (!r->over) {
		r->waiter_left = true;
		return false;
	}
	if (to)
		*ret_answer = str_copy(to, r->job.answer);
	arena_drop(r->job.arena);
	free(r);
	return true;
}

static struct job read_job(const struct rows *rows, int i)
{
	struct arena *a = arena_make();
	struct job job = { .arena = a, .id = str_copy(a, pg_col(a, rows, i, "id")),
		.kind = str_copy(a, pg_col(a, rows, i, "kind")),
		.resource_id = str_copy(a, pg_col(a, rows, i, "resource_id")),
		.attempts = pg_int(rows, i, "attempts"), .generation = pg_int(rows, i, "generation"),
		.scope = { .agency_id = str_copy(a, pg_col(a, rows, i, "agency_id")),
			.client_id = str_copy(a, pg_col(a, rows, i, "client_id")),
			.request_id = str_copy(a, pg_col(a, rows, i, "request_id")) } };
	if (json_read(a, str_copy(a, pg_col(a, rows, i, "payload")), &job.payload) != OK)
		bug("a job payload that is no object");
	return job;
}

static bool claim(void)
{
	struct arena *arena = arena_make();
	struct rows rows = { 0 };
	struct tx tx;
	int64_t room = config.jobs_at_once - running_count, most = room < CLAIM_MOST ? room : CLAIM_MOST;
	enum fault fault = system_begin(&tx, arena);
	if (fault == OK) {
		jobs_claim_later(&tx, (struct jobs_claim){ .most = most, .share = (config.jobs_at_once + 3) / 4,
			.lease_ms = config.job_lease_ms, .paused = config.jobs_paused }, &rows);
		fault = tx_commit(&tx);
	}
	for (int i = 0; fault == OK && i < rows.count; i++) {
		struct job job = read_job(&rows, i);
		const struct job_kind *kind = kind_of(job.kind);
		if (!kind) {	/* a newer release's kind: leave it for later */
			struct tx back;
			if (system_begin(&back, job.arena) == OK) {
				job_park(&job, &back, clock_now_us() + 60 * US_PER_S, STR_NULL);
				if (tx_commit(&back) != OK)
					tx_abort(&back);
			}
			arena_drop(job.arena);
			continue;
		}
		launch(&job, kind, NULL);
	}
	bool full = fault == OK && rows.count == most && most > 0;
	arena_drop(arena);
	return full;
}

void jobs_wake(void)
{
	woken = true;
	if (claimer)
		fiber_wake(claimer);
}

/* What the worker before us in this slot held when it died: the master has seen it dead, so nobody waits for the lease. At once for
 * the first time; a job that may be what kills us comes ever later. */
static void inherit(void)
{
	struct arena *arena = arena_make();
	struct tx tx;
	if (system_begin(&tx, arena) == OK) {
		jobs_inherit_later(&tx, (struct jobs_inherit){ 0 }, NULL);
		if (tx_commit(&tx) != OK)
			tx_abort(&tx);
	}
	arena_drop(arena);
}

static void claim_loop(void *unused)
{
	(void)unused;
	claimer = fiber_current();
	inherit();
	uint64_t moved = 0;
	int64_t polled_us = 0;
	while (!draining) {
		uint64_t now_moved = atomic_load(&clock_current()->moved);
		bool due = woken || now_moved != moved || clock_real_us() - polled_us > POLL_MS * US_PER_MS;
		if (due && running_count < config.jobs_at_once) {
			woken = false;
			moved = now_moved;
			metric_add(METRIC_fibers_busy, 1);	/* not idle while deciding what to run */
			while (claim() && running_count < config.jobs_at_once)
				;
			metric_add(METRIC_fibers_busy, -1);
			polled_us = clock_real_us();
		}
		if (!woken || running_count >= config.jobs_at_once)
			fiber_park_ms(clock_is_test() ? TEST_POLL_MS : POLL_MS);
	}
}

/* The ids and generations of what runs, as two PostgreSQL arrays. */
static void running_arrays(struct arena *arena, struct str *ret_ids, struct str *ret_generations)
{
	struct buf ids = BUF_IN(arena, 1 << 20), generations = BUF_IN(arena, 1 << 20);
	const char *comma = "{";
	for (struct running *r = running_first; r; r = r->next, comma = ",") {
		buf_format(&ids, "%s%.*s", comma, STRF(r->job.id));
		buf_format(&generations, "%s%lld", comma, (long long)r->job.generation);
	}
	buf_text(&ids, "}");
	buf_text(&generations, "}");
	*ret_ids = buf_view(&ids);
	*ret_generations = buf_view(&generations);
}

static void renew_loop(void *unused)
{
	(void)unused;
	while (!draining || running_count) {
		fiber_sleep_ms(config.job_lease_ms / 3 + 1);
		if (!running_first)
			continue;
		struct arena *arena = arena_make();
		struct jobs_renew in = { .lease_ms = config.job_lease_ms };
		struct tx tx;
		running_arrays(arena, &in.ids, &in.generations);
		if (system_begin(&tx, arena) == OK) {
			jobs_renew_later(&tx, in, NULL);
			if (tx_commit(&tx) != OK)
				tx_abort(&tx);
		}
		arena_drop(arena);
	}
}

void jobs_release_all(void)
{
	struct arena *arena = arena_make();
	struct jobs_release in;
	struct tx tx;
	if (running_first) {
		running_arrays(arena, &in.ids, &in.generations);
		if (system_begin(&tx, arena) == OK) {
			jobs_release_later(&tx, in, NULL);
			if (tx_commit(&tx) != OK)
				tx_abort(&tx);
		}
	}
	arena_drop(arena);
}

void jobs_start(void)
{
	tenant_on_jobs(jobs_wake);
	fiber_spawn(claim_loop, NULL, true);
	fiber_spawn(renew_loop, NULL, true);
}
