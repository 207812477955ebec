/* Time as an input. Business time (run_at, expiry, windows, timestamps) is clock_now_us and may
 * stand still or jump under --test-clock; socket deadlines, heartbeats and rate limits use
 * clock_real_us, which is monotonic. Microseconds throughout; business time counts from 1970 UTC. */
#ifndef TL_CLOCK_H
#define TL_CLOCK_H

#include "str.h"

/* One per machine, mapped by the master into every process. Zeroed = real time. */
struct clock_page {
	_Atomic int64_t frozen_us;	/* 0 = runs with the real clock */
	_Atomic int64_t offset_us;
	_Atomic uint64_t moved;		/* counts moves, so that idle processes notice */
};

void clock_use(struct clock_page *page);
struct clock_page *clock_current(void);
int64_t clock_now_us(void);
int64_t clock_real_us(void);
bool clock_is_test(void);
void clock_freeze(int64_t at_us);
void clock_set(int64_t at_us);

#define US_PER_S INT64_C(1000000)
#define US_PER_MS INT64_C(1000)
#define CLOCK_TEXT_BYTES 32

/* "2026-11-22T14:33:15.123Z"; RFC 3339 in, offset mandatory. Returns text for chaining. */
char *clock_text(int64_t at_us, char text[CLOCK_TEXT_BYTES]);
char *clock_text_us(int64_t at_us, char text[CLOCK_TEXT_BYTES]);	/* six fraction digits */
bool clock_parse(struct str text, int64_t *ret_us);

#endif
