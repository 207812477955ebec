/* The test clock: steps from one due instant to the next, of server or sandbox, and lets everything
 * become idle in between, so that a campaign's day passes in seconds and nothing sleeps. */
#include "operations.h"
#include "../../0_base/clock.h"
#include "../../1_code/json.h"
#include "../../2_io/fetch.h"
#include "../../2_io/fiber.h"
#include "../../2_io/shared.h"
#include "../../3_core/config.h"
#include "core.sql.h"
#include "../../3_core/jobs.h"

#define QUANTUM_US US_PER_S
#define SETTLE_MS 60000		/* real time after which "not idle" is answered as such */

struct state {
	bool idle;
	int64_t next_us;	/* 0 = nothing waits */
};

static enum fault ask_sandbox(struct arena *arena, struct str body, struct state *s)
{
	json_t *answer;
	int64_t at;
	struct fetch f = { .method = body.p ? "POST" : "GET", .body = body, .timeout_ms = 30000, .most_bytes = 65536,
		.url = str_format(arena, "%.*s/_sandbox/clock", STRF(config.sandbox)) };
	TRY(fetch_run(arena, &f));
	TRY(json_read(arena, f.answer, &answer));
	s->idle &= json_is_true(json_object_get(answer, "idle"));
	if (clock_parse(json_text(answer, "next"), &at) && (!s->next_us || at < s->next_us))
		s->next_us = at;
	return OK;
}

static bool others_busy(void)
{
	int64_t movers = metric_sum(METRIC_clock_movers);
	return metric_sum(METRIC_fibers_busy) > (movers ? movers : 1);
}

/* Idle: no fiber in any process but those that ask this, no due or running job, a sandbox at rest. */
static enum fault look(struct arena *arena, struct state *s)
{
	struct rows row;
	struct tx tx;
	*s = (struct state){ .idle = !others_busy() };
	system_read(&tx, arena);
	TRY(jobs_next_due(&tx, (struct jobs_next_due){ 0 }, &row));
	s->idle &= pg_int(&row, 0, "due") == 0 && pg_int(&row, 0, "running") == 0;
	s->next_us = pg_time_us(&row, 0, "next_at");
	if (str_starts(config.sandbox, "http"))
		TRY(ask_sandbox(arena, STR_NULL, s));
	s->idle &= !others_busy();
	return OK;
}

/* Waits until two looks in a row find everything at rest. */
static enum fault settle(struct arena *arena, struct state *s)
{
	int64_t until = clock_real_us() + SETTLE_MS * US_PER_MS;
	int quiet = 0;
	jobs_wake();
	while (quiet < 2 && clock_real_us() < until) {
		struct arena *scratch = arena_make();
		enum fault fault = look(scratch, s);
		arena_drop(scratch);
		TRY(fault);
		quiet = s->idle ? quiet + 1 : 0;
		if (!s->idle)
			fiber_sleep_ms(2);
	}
	(void)arena;
	return OK;
}

static enum fault move(struct arena *arena, int64_t to_us)
{
	char at[CLOCK_TEXT_BYTES];
	struct state ignored = { .idle = true };
	struct tx tx;
	if (to_us < clock_now_us())
		return OK;	/* another mover was ahead */
	clock_set(to_us);
	TRY(system_begin(&tx, arena));
	clock_save_later(&tx, (struct clock_save){ .at_us = to_us }, NULL);
	TRY(tx_commit(&tx));
	if (!str_starts(config.sandbox, "http"))
		return OK;
	return ask_sandbox(arena, str_format(arena, "{\"set\":\"%s\"}", clock_text_us(to_us, at)), &ignored);
}

static enum fault walk(struct arena *arena, int64_t target_us, struct state *s)
{
	TRY(settle(arena, s));
	while (clock_now_us() < target_us) {
		int64_t next = s->next_us ? (s->next_us + QUANTUM_US - 1) / QUANTUM_US * QUANTUM_US : target_us;
		if (next <= clock_now_us())
			next = clock_now_us() + QUANTUM_US;
		struct arena *scratch = arena_make();
		enum fault fault = move(scratch, next < target_us ? next : target_us);
		arena_drop(scratch);
		TRY(fault);
		TRY(settle(arena, s));
	}
	return OK;
}

static enum fault answer(struct req *req, bool idle)
{
	char at[CLOCK_TEXT_BYTES];
	http_reply(req->http, 200, "application/json", str_format(req->arena, "{\"now\":\"%s\",\"idle\":%s}",
		clock_text(clock_now_us(), at), idle ? "true" : "false"));
	return OK;
}

enum fault clock_route_get(struct req *req)
{
	struct state s;
	TRY(look(req->arena, &s));
	return answer(req, s.idle);
}

enum fault clock_route_set(struct req *req)
{
	struct str body;
	json_t *in;
	struct state s;
	int64_t target_us;
	TRY(http_read_body(req->http, 4096, &body));
	TRY(json_read(req->arena, body.n ? body : STR("{}"), &in));
	json_t *by = json_object_get(in, "advance_seconds");
	if (json_is_number(by))
		target_us = clock_now_us() + (int64_t)(json_number_value(by) * 1e6);
	else if (!clock_parse(json_text(in, "set"), &target_us))
		return fault_raise(FAULT_VALIDATION_ERROR, "Say advance_seconds (a number) or set (an ISO-8601 time)");
	if (target_us < clock_now_us())
		return fault_raise(FAULT_VALIDATION_ERROR, "The clock does not go backwards");
	metric_add(METRIC_clock_movers, 1);
	enum fault fault = walk(req->arena, target_us, &s);
	metric_add(METRIC_clock_movers, -1);
	TRY(fault);
	return answer(req, s.idle);
}
