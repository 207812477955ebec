/* Switching stacks with ucontext, annotated for the address sanitizer. */
#include "fiber.h"
#include "loop_uv.h"
#include "shared.h"
#include "../0_base/die.h"
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#include <sanitizer/lsan_interface.h>
#define STACK_BYTES ((size_t)512 * 1024)
#define POOL_FIBERS 64
#else
#define __sanitizer_start_switch_fiber(save, bottom, size) ((void)(save), (void)(bottom), (void)(size))
#define __sanitizer_finish_switch_fiber(fake, bottom, size) ((void)(fake), (void)(bottom), (void)(size))
#define __lsan_register_root_region(p, n)
#define STACK_BYTES ((size_t)128 * 1024)
#define POOL_FIBERS 1024
#endif

struct fiber {
	ucontext_t context;
	struct fiber *next;		/* in the ready list or the pool */
	struct fiber *next_waiter;
	void (*run)(void *);
	void *argument;
	char *stack;
	void *fake_stack;
	struct fault_note note;
	uv_timer_t timer;
	bool timer_made, waiting, ready, parked, background, timed_out;
	int bound;
};

static ucontext_t loop_context;
static void *loop_fake_stack;
static const void *loop_stack;
static size_t loop_stack_size;
static struct fault_note *loop_note;
static struct fiber *running, *pool, *ready_first, **ready_last = &ready_first;
static unsigned pooled;
static int64_t busy;

struct fiber *fiber_current(void) { return running; }
int64_t fiber_busy(void) { return busy; }

static void switch_out(struct fiber *f, bool ending)
{
	__sanitizer_start_switch_fiber(ending ? NULL : &f->fake_stack, loop_stack, loop_stack_size);
	swapcontext(&f->context, &loop_context);
	__sanitizer_finish_switch_fiber(f->fake_stack, &loop_stack, &loop_stack_size);
}

static void body(void)
{
	struct fiber *f = running;
	__sanitizer_finish_switch_fiber(NULL, &loop_stack, &loop_stack_size);
	for (;;) {
		f->run(f->argument);
		f->run = NULL;
		switch_out(f, false);	/* the same stack serves the next fiber of the pool */
		f = running;
	}
}

static struct fiber *fiber_make(void)
{
	struct fiber *f = must_alloc(sizeof *f);
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	char *map = mmap(NULL, STACK_BYTES + page, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
	if (map == MAP_FAILED || mprotect(map, page, PROT_NONE) != 0)
		bug("no memory for a stack");
	f->stack = map + page;
	__lsan_register_root_region(f->stack, STACK_BYTES);
	getcontext(&f->context);
	f->context.uc_stack.ss_sp = f->stack;
	f->context.uc_stack.ss_size = STACK_BYTES;
	makecontext(&f->context, body, 0);
	return f;
}

static void make_ready(struct fiber *f)
{
	f->ready = true;
	f->next = NULL;
	*ready_last = f;
	ready_last = &f->next;
}

void fiber_spawn(void (*run)(void *), void *argument, bool background)
{
	struct fiber *f = pool;
	if (f) {
		pool = f->next;
		pooled--;
	} else {
		f = fiber_make();
	}
	f->run = run;
	f->argument = argument;
	f->background = background;
	f->bound = 0;
	f->note = (struct fault_note){ .details = { .max = 16384 } };
	if (!background) {
		busy++;
		metric_add(METRIC_fibers_busy, 1);
	}
	make_ready(f);
}

static void fiber_end(struct fiber *f)
{
	bug_unless(f->bound == 0);
	if (!f->background) {
		busy--;
		metric_add(METRIC_fibers_busy, -1);
	}
	buf_fini(&f->note.details);
	f->next = pool;
	pool = f;
	if (++pooled > POOL_FIBERS)	/* give the pages back, keep the address */
		madvise(f->stack, STACK_BYTES - 16384, MADV_DONTNEED);
}

bool fiber_run_ready(void)
{
	struct fiber *f = ready_first;
	ready_first = NULL;
	ready_last = &ready_first;
	bool any = f != NULL;
	while (f) {
		struct fiber *next = f->next;
		f->ready = f->parked = false;
		running = f;
		loop_note = fault_note;
		fault_note = &f->note;
		__sanitizer_start_switch_fiber(&loop_fake_stack, f->stack, STACK_BYTES);
		swapcontext(&loop_context, &f->context);
		__sanitizer_finish_switch_fiber(loop_fake_stack, NULL, NULL);
		fault_note = loop_note;
		running = NULL;
		if (!f->run)
			fiber_end(f);
		f = next;
	}
	return any;
}

void fiber_park(void)
{
	bug_unless(running);
	running->parked = true;
	switch_out(running, false);
}

void fiber_wake(struct fiber *f)
{
	if (f->parked && !f->ready)
		make_ready(f);
}

static void on_timer(uv_timer_t *timer)
{
	struct fiber *f = timer->data;
	f->timed_out = true;
	fiber_wake(f);
}

bool fiber_park_ms(int64_t ms)
{
	struct fiber *f = running;
	if (!f->timer_made) {
		uv_timer_init(loop_uv(), &f->timer);
		f->timer.data = f;
		f->timer_made = true;
	}
	f->timed_out = false;
	uv_timer_start(&f->timer, on_timer, (uint64_t)(ms < 0 ? 0 : ms), 0);
	fiber_park();
	uv_timer_stop(&f->timer);
	return !f->timed_out;
}

void fiber_sleep_ms(int64_t ms)
{
	int64_t until = clock_real_us() + ms * US_PER_MS;
	for (int64_t left = ms; left > 0; left = (until - clock_real_us()) / US_PER_MS)
		fiber_park_ms(left);
}

void fiber_rest(void)
{
	if (running->background)
		return;
	running->background = true;
	busy--;
	metric_add(METRIC_fibers_busy, -1);
}

void fiber_bind(int delta) { if (running) running->bound += delta; }

void fiber_may_wait(const char *what)
{
	if (running && running->bound)
		bug("%s inside a transaction", what);
}

void fiber_queue_wait(struct fiber_queue *q)
{
	struct fiber *f = running;
	if (!q->first)
		q->last = &q->first;
	f->next_waiter = NULL;
	f->waiting = true;
	*q->last = f;
	q->last = &f->next_waiter;
	while (f->waiting)
		fiber_park();
}

bool fiber_queue_wake(struct fiber_queue *q)
{
	struct fiber *f = q->first;
	if (!f)
		return false;
	q->first = f->next_waiter;
	f->waiting = false;
	fiber_wake(f);
	return true;
}
