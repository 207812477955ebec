/* Mapping and counting. */
#include "shared.h"
#include "../0_base/die.h"
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SEATS_NEAR 16	/* how far a holder's seats lie from where its hash points */

static struct shared own, *page = &own;
static int my_slot;

static const struct {
	const char *name, *kind, *help;
} rows[METRIC_COUNT] = {
#define METRIC(name, kind, help) [METRIC_##name] = { #name, #kind, help },
#include "../../tbl/metrics.def"
#undef METRIC
};

static const struct {
	const char *name, *provider;
} operations[OPERATION_COUNT] = {
#define OPERATION(name, provider, method, path, repeat) [OPERATION_##name] = { #name, #provider },
#include "../../tbl/operations.def"
#undef OPERATION
};

int shared_make(void)
{
	int fd = memfd_create("trunkline", 0);
	if (fd < 0 || ftruncate(fd, sizeof(struct shared)) != 0)
		die("cannot make shared memory");
	return fd;
}

void shared_map(int fd, int slot)
{
	void *p = mmap(NULL, sizeof(struct shared), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED || slot < 0 || slot >= SHARED_SLOTS)
		die("cannot map shared memory");
	page = p;
	my_slot = slot;
	clock_use(&page->clock);
}

void shared_unmap(void)
{
	munmap(page, sizeof *page);
	page = &own;
	my_slot = 0;
}

struct shared *shared_get(void) { return page; }
int shared_slot(void) { return my_slot; }

void metric_add(enum metric m, int64_t n)
{
	atomic_fetch_add_explicit(&page->counters[my_slot][m], n, memory_order_relaxed);
}

void metric_operation(enum operation o, enum operation_end end, int64_t took_ms)
{
	atomic_fetch_add_explicit(&page->operations[my_slot][o][end], 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&page->operations[my_slot][o][TOOK_MS], took_ms, memory_order_relaxed);
}

int64_t metric_sum(enum metric m)
{
	int64_t sum = 0;
	for (int i = 0; i < SHARED_SLOTS; i++)
		sum += atomic_load_explicit(&page->counters[i][m], memory_order_relaxed);
	return sum;
}

static int taken(const struct seats *s)
{
	int n = 0;
	for (int i = 0; i < SHARED_SLOTS; i++)
		n += atomic_load_explicit(&s->taken[i], memory_order_relaxed);
	return n;
}

/* The holder's, else an empty one when `make`. NULL: it has none, or all nearby are others'. */
static struct seats *seats_of(uint64_t holder, bool make)
{
	for (int round = 0; round <= make; round++)
		for (uint64_t i = 0; i < SEATS_NEAR; i++) {
			struct seats *s = &page->seats[(holder + i) % SEATS];
			uint64_t was = atomic_load(&s->holder);
			if (was == holder || (round && !taken(s) && atomic_compare_exchange_strong(&s->holder, &was, holder)))
				return s;
		}
	return NULL;
}

bool seat_take(uint64_t holder, int most, int mine)
{
	struct seats *s = seats_of(holder, true);
	if (!s)
		return mine < most;
	atomic_fetch_add(&s->taken[my_slot], 1);	/* first taken, then counted: two at once are never both too many */
	if (taken(s) <= most)
		return true;
	atomic_fetch_sub(&s->taken[my_slot], 1);
	return false;
}

void seat_leave(uint64_t holder)
{
	struct seats *s = seats_of(holder, false);
	if (s && atomic_load(&s->taken[my_slot]))
		atomic_fetch_sub(&s->taken[my_slot], 1);
}

void shared_slot_clear(int slot)
{
	for (int i = 0; i < SEATS; i++)
		if (atomic_load(&page->seats[i].taken[slot]))
			atomic_store(&page->seats[i].taken[slot], 0);
	for (int m = 0; m < METRIC_COUNT; m++)
		if (strcmp(rows[m].kind, "gauge") == 0)
			atomic_store(&page->counters[slot][m], 0);
}

static int64_t operation_sum(int o, int end)
{
	int64_t sum = 0;
	for (int i = 0; i < SHARED_SLOTS; i++)
		sum += atomic_load_explicit(&page->operations[i][o][end], memory_order_relaxed);
	return sum;
}

static void operations_write(struct buf *b)
{
	static const char *const ends[] = { "answered", "refused", "failed" };
	buf_text(b, "# HELP trunkline_provider_operations_total Exchanges with providers by operation and how they ended\n"
		"# TYPE trunkline_provider_operations_total counter\n");
	for (int o = 0; o < OPERATION_COUNT; o++)
		for (int end = ANSWERED; end < TOOK_MS; end++)
			if (operation_sum(o, end))
				buf_format(b, "trunkline_provider_operations_total{provider=\"%s\",operation=\"%s\",result=\"%s\"} %lld\n",
					operations[o].provider, operations[o].name, ends[end], (long long)operation_sum(o, end));
	buf_text(b, "# HELP trunkline_provider_operation_seconds_total Time spent in them\n"
		"# TYPE trunkline_provider_operation_seconds_total counter\n");
	for (int o = 0; o < OPERATION_COUNT; o++)
		if (operation_sum(o, TOOK_MS))
			buf_format(b, "trunkline_provider_operation_seconds_total{provider=\"%s\",operation=\"%s\"} %.3f\n",
				operations[o].provider, operations[o].name, (double)operation_sum(o, TOOK_MS) / 1000);
}

void metric_write(struct buf *b)
{
	operations_write(b);
	for (int m = 0; m < METRIC_COUNT; m++) {
		bool counter = strcmp(rows[m].kind, "counter") == 0;
		buf_format(b, "# HELP trunkline_%s%s %s\n# TYPE trunkline_%s%s %s\ntrunkline_%s%s %lld\n",
			rows[m].name, counter ? "_total" : "", rows[m].help,
			rows[m].name, counter ? "_total" : "", rows[m].kind,
			rows[m].name, counter ? "_total" : "", (long long)metric_sum((enum metric)m));
	}
}
