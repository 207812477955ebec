/* Turns of the loop, all work in the prepare phase as ARCHITECTURE.md tells. */
#include "loop.h"
#include "fiber.h"
#include "loop_uv.h"
#include "../0_base/die.h"
#include "../0_base/log.h"
#include <signal.h>
#include <stdlib.h>

#define HOOKS 8

static uv_loop_t the_loop;
static uv_prepare_t prepare;
static bool (*turn_hooks[HOOKS])(void);
static void (*flush_hooks[HOOKS])(void);
static int turn_count, flush_count;

uv_loop_t *loop_uv(void) { return &the_loop; }

static void on_prepare(uv_prepare_t *handle)
{
	(void)handle;
	bool more = true;
	while (more) {
		more = fiber_run_ready();
		for (int i = 0; i < turn_count; i++)
			more |= turn_hooks[i]();
	}
	for (int i = 0; i < flush_count; i++)
		flush_hooks[i]();
	log_flush();
}

void loop_init(void)
{
	signal(SIGPIPE, SIG_IGN);
	bug_unless(uv_loop_init(&the_loop) == 0);
	uv_prepare_init(&the_loop, &prepare);
	uv_prepare_start(&prepare, on_prepare);
}

void loop_run(void) { uv_run(&the_loop, UV_RUN_DEFAULT); }
void loop_stop(void) { uv_stop(&the_loop); }

void loop_on_turn(bool (*hook)(void))
{
	bug_unless(turn_count < HOOKS);
	turn_hooks[turn_count++] = hook;
}

void loop_on_flush(void (*hook)(void))
{
	bug_unless(flush_count < HOOKS);
	flush_hooks[flush_count++] = hook;
}

static void on_signal(uv_signal_t *handle, int number)
{
	((void (*)(int))handle->data)(number);
}

void loop_on_signal(int number, void (*run)(int))
{
	uv_signal_t *handle = must_alloc(sizeof *handle);
	uv_signal_init(&the_loop, handle);
	handle->data = (void *)run;
	uv_signal_start(handle, on_signal, number);
}

static void on_every(uv_timer_t *timer)
{
	((void (*)(void))timer->data)();
}

void loop_every_ms(int64_t ms, void (*run)(void))
{
	uv_timer_t *timer = must_alloc(sizeof *timer);
	uv_timer_init(&the_loop, timer);
	timer->data = (void *)run;
	uv_timer_start(timer, on_every, (uint64_t)ms, (uint64_t)ms);
}

struct once {
	uv_timer_t timer;
	void (*run)(void *);
	void *argument;
};

static void once_closed(uv_handle_t *handle) { free(handle->data); }

static void on_once(uv_timer_t *timer)
{
	struct once *once = timer->data;
	once->run(once->argument);
	uv_close((uv_handle_t *)timer, once_closed);
}

void loop_once_ms(int64_t ms, void (*run)(void *), void *argument)
{
	struct once *once = must_alloc(sizeof *once);
	*once = (struct once){ .run = run, .argument = argument };
	uv_timer_init(&the_loop, &once->timer);
	once->timer.data = once;
	uv_timer_start(&once->timer, on_once, (uint64_t)ms, 0);
}
