/* Fibers: each request and each job reads top to bottom on a small stack of its own, and all of
 * them share one thread. A fiber that waits parks; whoever has its answer wakes it. errno and
 * OpenSSL's error queue do not survive a park. Stacks have a guard page and are pooled. */
#ifndef TL_FIBER_H
#define TL_FIBER_H

#include "../0_base/fault.h"

struct fiber;

/* Starts at the next turn of the loop. Background fibers (pollers) do not count as busy. */
void fiber_spawn(void (*run)(void *), void *argument, bool background);
struct fiber *fiber_current(void);	/* NULL on the loop's own stack */
void fiber_park(void);			/* until woken */
bool fiber_park_ms(int64_t ms);		/* real time; false when the time passed first */
void fiber_wake(struct fiber *fiber);	/* harmless when it is not parked */
void fiber_sleep_ms(int64_t ms);	/* real time; for pollers and pacing, never for business waits */

/* A fiber that holds a transaction may call nothing but SQL: whoever waits for something else
 * calls fiber_may_wait first, and that is a bug() when the fiber is bound. */
void fiber_bind(int delta);		/* +1 on taking a transaction, -1 on ending it */
void fiber_may_wait(const char *what);

/* Fibers waiting for the same thing, woken in order. */
struct fiber_queue {
	struct fiber *first, **last;
};
void fiber_queue_wait(struct fiber_queue *queue);
bool fiber_queue_wake(struct fiber_queue *queue);	/* one; false when none waits */

void fiber_rest(void);			/* the running fiber counts as background from now on */
bool fiber_run_ready(void);		/* by the loop; true when any ran */
int64_t fiber_busy(void);		/* live fibers that are not background */

#endif
