/* A binary heap of instants. */
#include "sandbox.h"
#include "../0_base/clock.h"

struct timer {
	int64_t at_us;
	uint64_t order;
	void (*run)(void *);
	void *argument;
};

static struct timer *heap;
static size_t count, room;
static uint64_t orders;

static bool before(const struct timer *a, const struct timer *b)
{
	return a->at_us != b->at_us ? a->at_us < b->at_us : a->order < b->order;
}

static void swap(size_t a, size_t b)
{
	struct timer t = heap[a];
	heap[a] = heap[b];
	heap[b] = t;
}

void timer_at(int64_t at_us, void (*run)(void *), void *argument)
{
	if (count == room)
		heap = must_grow(heap, sizeof *heap * (room = room ? room * 2 : 256));
	heap[count] = (struct timer){ at_us, orders++, run, argument };
	for (size_t i = count++; i && before(&heap[i], &heap[(i - 1) / 2]); i = (i - 1) / 2)
		swap(i, (i - 1) / 2);
}

static struct timer take(void)
{
	struct timer first = heap[0];
	heap[0] = heap[--count];
	for (size_t i = 0;;) {
		size_t least = i;
		for (size_t c = 2 * i + 1; c <= 2 * i + 2; c++)
			if (c < count && before(&heap[c], &heap[least]))
				least = c;
		if (least == i)
			break;
		swap(i, least);
		i = least;
	}
	return first;
}

int64_t timer_next(void) { return count ? heap[0].at_us : 0; }

void timer_run_due(int64_t until_us)
{
	while (count && heap[0].at_us <= until_us) {
		struct timer t = take();
		if (clock_is_test() && t.at_us > clock_now_us())
			clock_set(t.at_us);
		t.run(t.argument);
	}
	if (clock_is_test() && until_us > clock_now_us())
		clock_set(until_us);
}
