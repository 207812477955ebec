/* Decisions of our limiter: PROCESSES hammer the cells of one shared page for SECONDS over KEYS buckets, then say how many
 * decisions they made and how many units they let in. With a Redis URL each decision may draw a slice there. */
#include "../src/0_base/clock.h"
#include "../src/0_base/die.h"
#include "../src/2_io/fiber.h"
#include "../src/2_io/loop.h"
#include "../src/2_io/shared.h"
#include "../src/3_core/config.h"
#include "../src/3_core/limit.h"
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define FIBERS 64
#define MOST 64

static int64_t until_us, rate, burst;
static int keys, live;
static struct { _Atomic int64_t decisions, admitted; } *totals;
static struct str names[1 << 16];

static void run(void *argument)
{
	int64_t decisions = 0, admitted = 0;
	uint64_t dice = (uint64_t)getpid() * 2654435761u + (uint64_t)(uintptr_t)argument;
	while ((decisions & 255) || clock_real_us() < until_us) {
		dice = dice * 6364136223846793005u + 1442695040888963407u;
		admitted += limit_spend(names[(dice >> 33) % (uint64_t)keys], rate, burst).allowed;
		decisions++;
	}
	totals->decisions += decisions;
	totals->admitted += admitted;
	if (--live == 0)
		_exit(0);
}

static void child(int fd, int slot, bool redis)
{
	shared_map(fd, slot);
	loop_init();
	limit_open();
	live = redis ? FIBERS : 1;
	for (int i = live; i > 0; i--)
		fiber_spawn(run, (void *)(uintptr_t)i, false);
	loop_run();
	_exit(1);
}

int main(int argc, char **argv)
{
	if (argc < 6)
		die("usage: limiter PROCESSES SECONDS KEYS RATE BURST [REDIS_URL]");
	int processes = atoi(argv[1]), fd = shared_make();
	keys = atoi(argv[3]);
	rate = atoll(argv[4]);
	burst = atoll(argv[5]);
	config_load(NULL);
	if (argc > 6)
		config_set_value("redis_url", argv[6]);
	config_set_value("database_url", "");
	struct arena *arena = arena_make();
	for (int i = 0; i < keys && i < 1 << 16; i++)
		names[i] = str_format(arena, "client:%08x-0000-7000-8000-000000000000", i);
	totals = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int64_t began_us = clock_real_us();
	until_us = began_us + atoll(argv[2]) * US_PER_S;
	for (int i = 0; i < processes && i < MOST; i++)
		if (fork() == 0)
			child(fd, i, argc > 6);
	while (wait(NULL) > 0)
		;
	double s = (double)(clock_real_us() - began_us) / 1e6;
	printf("{\"decisions_per_s\":%.0f,\"admitted\":%lld,\"allowed\":%.0f,\"seconds\":%.3f}\n", (double)totals->decisions / s,
		(long long)totals->admitted, keys * ((double)burst + (double)rate * s), s);
	return 0;
}
