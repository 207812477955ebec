/* Floor 2: fibers and the loop. */
#include "fiber.h"
#include "loop.h"
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

static int steps;
static struct fiber *sleeper;

static void waits(void *unused)
{
	(void)unused;
	sleeper = fiber_current();
	fiber_park();
	steps += 10;
	if (!fiber_park_ms(1))
		steps += 100;
	loop_stop();
}

static void wakes(void *unused)
{
	(void)unused;
	steps++;
	fiber_wake(sleeper);
	fiber_wake(sleeper);	/* twice is as good as once */
}

static void fibers_take_turns(void **state)
{
	(void)state;
	fiber_spawn(waits, NULL, false);
	fiber_spawn(wakes, NULL, false);
	loop_run();
	assert_int_equal(steps, 111);
	assert_int_equal(fiber_busy(), 0);
}

static void notes_fault(void *argument)
{
	fault_raise(FAULT_CONFLICT, "%s", (const char *)argument);
	fiber_park_ms(2);
	if (strcmp(fault_note->message, argument) == 0)
		steps++;
}

static void stops(void *unused)
{
	(void)unused;
	fiber_sleep_ms(10);
	loop_stop();
}

static void each_fiber_has_its_own_fault(void **state)
{
	(void)state;
	steps = 0;
	fiber_spawn(notes_fault, (void *)"one", false);
	fiber_spawn(notes_fault, (void *)"two", false);
	fiber_spawn(stops, NULL, true);
	loop_run();
	assert_int_equal(steps, 2);
}

static int deeper(volatile char *below, int depth)
{
	volatile char room[4096];
	room[0] = (char)depth;
	return depth > 100000 ? *below : deeper(room, depth + 1) + room[0];
}

static void overflows(void *unused)
{
	(void)unused;
	volatile char here = 0;
	printf("%d", deeper(&here, 0));
}

/* A stack that runs over dies at once, it does not write into its neighbour. */
static void an_overflow_hits_the_guard_page(void **state)
{
	int status;
	(void)state;
	pid_t pid = fork();
	if (pid == 0) {
		signal(SIGSEGV, SIG_DFL);
		signal(SIGBUS, SIG_DFL);
		freopen("/dev/null", "w", stderr);
		fiber_spawn(overflows, NULL, false);
		loop_run();
		_exit(0);
	}
	waitpid(pid, &status, 0);
	assert_true(WIFSIGNALED(status) || WEXITSTATUS(status) != 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(fibers_take_turns), cmocka_unit_test(each_fiber_has_its_own_fault),
		cmocka_unit_test(an_overflow_hits_the_guard_page),
	};
	loop_init();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
