/* Cells and slices. A cell holds 16 bits of tag and 48 bits of theoretical arrival time in microseconds. A bucket
 * probes a few cells for its tag and takes over one whose time has passed: an idle bucket is full,
 * so forgetting it changes nothing. */
#include "limit.h"
#include "config.h"
#include "core.sql.h"
#include "../0_base/clock.h"
#include "../0_base/die.h"
#include "../1_code/json.h"
#include "../2_io/fiber.h"
#include "../2_io/redis.h"
#include "../2_io/shared.h"
#include <stdatomic.h>

#define PROBES 8
#define TIME_MASK ((UINT64_C(1) << 48) - 1)
#define KNOWN 4096

#define ASKERS 256
#define SLICE_MS 250		/* what is drawn and not used by then is lost */
#define DENIED 0xFFFF		/* a slice cell that says: none before its time */
#define MOST_SLICE 1000

static struct {
	uint64_t hash, text;
	struct limit_known limits;
} known[KNOWN];

static enum { MACHINE, POSTGRES, REDIS } between;
static struct {
	bool busy;
	struct fiber_queue waiting;
	int64_t remaining;	/* what the shared bucket said last */
} askers[ASKERS];

static _Atomic int64_t *cell_of(uint64_t hash, int64_t now_us)
{
	_Atomic int64_t *cells = shared_get()->gcra, *spare = NULL;
	uint64_t tag = hash >> 48;
	for (uint64_t i = 0; i < PROBES; i++) {
		_Atomic int64_t *c = &cells[(hash + i) % GCRA_CELLS];
		uint64_t v = (uint64_t)atomic_load_explicit(c, memory_order_relaxed);
		if (v >> 48 == tag && v)
			return c;
		if (!spare && (int64_t)(v & TIME_MASK) <= now_us)
			spare = c;
	}
	return spare ? spare : &cells[hash % GCRA_CELLS];
}

struct limit_answer limit_take(struct str key, int64_t rate, int64_t burst, bool take)
{
	return limit_take_per(key, rate, US_PER_S, burst, take);
}

struct limit_answer limit_take_per(struct str key, int64_t units, int64_t per_us, int64_t burst, bool take)
{
	uint64_t hash = str_hash(key);
	int64_t now_us = clock_real_us(), step = per_us / (units < 1 ? 1 : units), room = step * burst;
	_Atomic int64_t *cell = cell_of(hash, now_us);
	int64_t old = atomic_load(cell);
	for (;;) {
		int64_t tat = (uint64_t)old >> 48 == hash >> 48 ? (int64_t)((uint64_t)old & TIME_MASK) : 0;
		if (tat < now_us)
			tat = now_us;
		int64_t next = tat + step, wait = next - now_us - room;
		struct limit_answer a = { .allowed = wait <= 0, .wait_us = wait > 0 ? wait : 0 };
		int64_t after = a.allowed ? next : tat;
		a.remaining = (room - (after - now_us)) / step;
		a.full_us = after - now_us;
		if (!take || !a.allowed)
			return a;
		int64_t fresh = (int64_t)((hash >> 48 << 48) | ((uint64_t)next & TIME_MASK));
		if (atomic_compare_exchange_weak(cell, &old, fresh))
			return a;
	}
}

/* A slice cell: 16 bits of tag, 16 of units left, 32 of expiry in milliseconds. */
static uint64_t slice_make(uint64_t hash, uint64_t units, int64_t until_ms)
{
	return hash >> 48 << 48 | units << 32 | ((uint64_t)until_ms & 0xFFFFFFFF);
}

/* 1 = took one, -1 = denied for *ret_wait_us more, 0 = nothing here: draw. */
static int slice_take(uint64_t hash, int64_t now_ms, int64_t *ret_wait_us)
{
	_Atomic uint64_t *cell = &shared_get()->slices[hash % GCRA_CELLS];
	uint64_t old = atomic_load(cell);
	for (;;) {
		int64_t left_ms = (int32_t)((uint32_t)old - (uint32_t)now_ms);
		uint64_t units = old >> 32 & 0xFFFF;
		if (old >> 48 != hash >> 48 || left_ms <= 0 || !units)
			return 0;
		if (units == DENIED) {
			*ret_wait_us = left_ms * US_PER_MS;
			return -1;
		}
		if (atomic_compare_exchange_weak(cell, &old, old - (UINT64_C(1) << 32)))
			return 1;
	}
}

static enum fault draw_postgres(struct str key, int64_t rate, int64_t burst, int64_t most, int64_t out[3])
{
	struct arena *arena = arena_make();
	struct rows r;
	struct tx tx;
	enum fault fault = system_begin(&tx, arena);
	if (fault == OK)
		fault = rate_draw(&tx, (struct rate_draw){ .key = key, .rate = rate, .burst = burst, .most = most }, &r);
	if (fault == OK) {
		out[0] = pg_int(&r, 0, "granted");
		out[1] = pg_int(&r, 0, "remaining");
		out[2] = pg_int(&r, 0, "wait_us");
		fault = tx_commit(&tx);
	}
	arena_drop(arena);
	return fault;
}

static enum fault draw_redis(struct str key, int64_t rate, int64_t burst, int64_t most, int64_t out[3])
{
	static const char script[] =
		"local now = redis.call('TIME') local t = now[1] * 1000000 + now[2] "
		"local rate, burst, most = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]) "
		"local step = 1000000 / rate local tat = tonumber(redis.call('GET', KEYS[1]) or 0) "
		"if tat < t then tat = t end "
		"local room = math.floor((t + burst * step - tat) / step) local grant = math.max(0, math.min(most, room)) "
		"if grant == 0 then return {0, 0, math.max(1, math.ceil(tat + step - burst * step - t))} end "
		"tat = tat + grant * step "
		"redis.call('SET', KEYS[1], string.format('%.0f', tat), 'PX', math.ceil((tat - t) / 1000) + 1000) "
		"return {grant, room - grant, 0}";
	int64_t in[] = { rate, burst, most };
	return redis_eval(script, key, in, 3, out, 3);
}

/* Fills the slice of a bucket from the shared one. One fiber asks, others that need the same wait for it. */
static enum fault draw(struct str key, uint64_t hash, int64_t rate, int64_t burst)
{
	size_t a = hash % ASKERS;
	int64_t out[3] = { 0 }, now_ms = clock_real_us() / US_PER_MS;
	int64_t most = burst / 400 < 1 ? 1 : burst / 400 > MOST_SLICE ? MOST_SLICE : burst / 400;
	if (askers[a].busy) {
		fiber_queue_wait(&askers[a].waiting);
		return OK;
	}
	askers[a].busy = true;
	enum fault fault = between == REDIS ? draw_redis(key, rate, burst, most, out) : draw_postgres(key, rate, burst, most, out);
	if (fault == OK) {
		int64_t wait_ms = out[2] / US_PER_MS + 1;
		askers[a].remaining = out[1];
		atomic_store(&shared_get()->slices[hash % GCRA_CELLS], out[0] > 0 ? slice_make(hash, (uint64_t)out[0], now_ms + SLICE_MS)
			: slice_make(hash, DENIED, now_ms + (wait_ms > 60000 ? 60000 : wait_ms)));
	}
	askers[a].busy = false;
	while (fiber_queue_wake(&askers[a].waiting))
		;
	return fault;
}

struct limit_answer limit_spend(struct str key, int64_t rate, int64_t burst)
{
	uint64_t hash = str_hash(key);
	for (int tries = 0; between != MACHINE && tries < 50; tries++) {
		int64_t wait_us = 0;
		int took = slice_take(hash, clock_real_us() / US_PER_MS, &wait_us);
		int64_t left = askers[hash % ASKERS].remaining, used = burst - left < 0 ? 0 : burst - left;
		if (took)
			return (struct limit_answer){ .allowed = took > 0, .remaining = took > 0 ? left : 0, .wait_us = wait_us,
				.full_us = (took > 0 ? used : burst) * US_PER_S / (rate < 1 ? 1 : rate) };
		if (draw(key, hash, rate, burst) != OK) {
			metric_add(METRIC_limits_alone, 1);
			break;
		}
	}
	return limit_take(key, rate, burst, true);
}

void limit_open(void)
{
	struct str how = config.rate_limits;
	if (config.redis_url.n)
		redis_open(config.redis_url);
	if (str_is(how, "auto"))
		how = config.redis_url.n ? STR("redis") : config.database_url.n ? STR("postgres") : STR("machine");
	if (!str_is(how, "machine") && !str_is(how, "postgres") && !str_is(how, "redis"))
		die("rate_limits must be auto, machine, postgres or redis");
	if (str_is(how, "redis") && !config.redis_url.n)
		die("rate_limits=redis needs redis_url");
	between = str_is(how, "redis") ? REDIS : str_is(how, "postgres") ? POSTGRES : MACHINE;
}

/* Parsed only when the text has changed: every transaction brings it. */
void limit_learn(struct str client_id, struct str text)
{
	uint64_t hash = str_hash(client_id), text_hash = str_hash(text);
	size_t slot = hash % KNOWN;
	json_t *limits;
	if (known[slot].hash == hash && known[slot].text == text_hash)
		return;
	struct arena *arena = arena_make();
	if (json_read(arena, text, &limits) == OK) {
		json_int_t rate = json_integer_value(json_object_get(limits, "requests_per_second"));
		json_int_t burst = json_integer_value(json_object_get(limits, "burst"));
		json_t *day = json_object_get(limits, "calls_per_day");
		rate = rate > 0 ? rate : 500;
		known[slot].hash = hash;
		known[slot].text = text_hash;
		known[slot].limits = (struct limit_known){ .rate = rate, .burst = burst > 0 ? burst : 2 * rate,
			.calls_per_day = json_is_integer(day) ? json_integer_value(day) : 10000 };
	}
	arena_drop(arena);
}

struct limit_known limit_of(struct str client_id)
{
	uint64_t hash = str_hash(client_id);
	return known[hash % KNOWN].hash == hash ? known[hash % KNOWN].limits : (struct limit_known){ 500, 1000, 10000 };
}
