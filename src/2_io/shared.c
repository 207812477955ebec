/* Mapping and counting. */
#include "shared.h"
#include "../0_base/die.h"
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static struct shared own, *page = &own;
static int my_slot;

static const struct {
	const char *name, *kind, *help;
} rows[METRIC_COUNT] = {
#define METRIC(name, kind, help) [METRIC_##name] = { #name, #kind, help },
#include "../../tbl/metrics.def"
#undef METRIC
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

int64_t metric_sum(enum metric m)
{
	int64_t sum = 0;
	for (int i = 0; i < SHARED_SLOTS; i++)
		sum += atomic_load_explicit(&page->counters[i][m], memory_order_relaxed);
	return sum;
}

void metric_slot_clear(int slot)
{
	for (int m = 0; m < METRIC_COUNT; m++)
		if (strcmp(rows[m].kind, "gauge") == 0)
			atomic_store(&page->counters[slot][m], 0);
}

void metric_write(struct buf *b)
{
	for (int m = 0; m < METRIC_COUNT; m++) {
		bool counter = strcmp(rows[m].kind, "counter") == 0;
		buf_format(b, "# HELP trunkline_%s%s %s\n# TYPE trunkline_%s%s %s\ntrunkline_%s%s %lld\n",
			rows[m].name, counter ? "_total" : "", rows[m].help,
			rows[m].name, counter ? "_total" : "", rows[m].kind,
			rows[m].name, counter ? "_total" : "", (long long)metric_sum((enum metric)m));
	}
}
