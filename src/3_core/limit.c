/* A cell holds 16 bits of tag and 48 bits of theoretical arrival time in microseconds. A bucket
 * probes a few cells for its tag and takes over one whose time has passed: an idle bucket is full,
 * so forgetting it changes nothing. */
#include "limit.h"
#include "../0_base/clock.h"
#include "../2_io/shared.h"
#include <stdatomic.h>

#define PROBES 8
#define TIME_MASK ((UINT64_C(1) << 48) - 1)
#define KNOWN 4096

static struct {
	uint64_t hash;
	int64_t rate, burst;
} known[KNOWN];

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
	uint64_t hash = str_hash(key);
	int64_t now_us = clock_real_us(), step = US_PER_S / (rate < 1 ? 1 : rate), room = step * burst;
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

void limit_learn(struct str client_id, int64_t rate, int64_t burst)
{
	uint64_t hash = str_hash(client_id);
	known[hash % KNOWN].hash = hash;
	known[hash % KNOWN].rate = rate;
	known[hash % KNOWN].burst = burst;
}

void limit_of(struct str client_id, int64_t *ret_rate, int64_t *ret_burst)
{
	uint64_t hash = str_hash(client_id);
	bool mine = known[hash % KNOWN].hash == hash && known[hash % KNOWN].rate;
	*ret_rate = mine ? known[hash % KNOWN].rate : 500;
	*ret_burst = mine ? known[hash % KNOWN].burst : 1000;
}
