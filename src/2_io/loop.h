/* The event loop: one a process. Each turn runs the ready fibers, then the turn hooks (HTTP
 * answers, database flushes), until nothing is left to do at once; then it sleeps. */
#ifndef TL_LOOP_H
#define TL_LOOP_H

#include <stdbool.h>
#include <stdint.h>

void loop_init(void);
void loop_run(void);		/* until loop_stop */
void loop_stop(void);

/* Called every turn, in the order of their registration; true = more may be ready now. */
void loop_on_turn(bool (*hook)(void));
/* Called once before sleeping: flush what the turn wrote. */
void loop_on_flush(void (*hook)(void));

void loop_on_signal(int signal_number, void (*run)(int));
/* Every `ms` of real time, on the loop's stack. */
void loop_every_ms(int64_t ms, void (*run)(void));
void loop_once_ms(int64_t ms, void (*run)(void *), void *argument);

#endif
