/* The small pages that the processes of one machine share: clock, counters, GCRA cells, seats.
 * The master makes them (memfd), workers map them. Nothing else is shared. */
#ifndef TL_SHARED_H
#define TL_SHARED_H

#include "../0_base/buf.h"
#include "../0_base/clock.h"

enum metric {
#define METRIC(name, kind, help) METRIC_##name,
#include "../../tbl/metrics.def"
#undef METRIC
	METRIC_COUNT
};

enum operation {
#define OPERATION(name, provider, method, path, repeat) OPERATION_##name,
#include "../../tbl/operations.def"
#undef OPERATION
	OPERATION_COUNT
};
enum operation_end { ANSWERED, REFUSED, FAILED, TOOK_MS, OPERATION_ENDS };	/* 2xx and 3xx, 4xx, everything else; time in all */

#define SHARED_SLOTS 64		/* most workers on one machine */
#define GCRA_CELLS (1 << 16)
#define SEATS (1 << 14)		/* holders of long-lived seats at a time */

struct shared {
	struct clock_page clock;
	_Atomic int64_t counters[SHARED_SLOTS][METRIC_COUNT + 8];
	_Atomic int64_t operations[SHARED_SLOTS][OPERATION_COUNT][OPERATION_ENDS];
	_Atomic int64_t gcra[GCRA_CELLS];
	_Atomic uint64_t slices[GCRA_CELLS];	/* drawn from the bucket that machines share */
	struct seats {
		_Atomic uint64_t holder;
		_Atomic uint8_t taken[SHARED_SLOTS];
	} seats[SEATS];
	_Atomic int64_t pid[SHARED_SLOTS];
	_Atomic int64_t ready[SHARED_SLOTS];
};

int shared_make(void);			/* a descriptor to hand to children */
void shared_map(int fd, int slot);	/* also makes the clock page current */
void shared_unmap(void);		/* back to private memory (the sandbox counts for itself) */
struct shared *shared_get(void);	/* private memory until mapped */
int shared_slot(void);

void metric_add(enum metric metric, int64_t n);
void metric_operation(enum operation operation, enum operation_end end, int64_t took_ms);	/* one exchange with a provider */
int64_t metric_sum(enum metric metric);
void metric_write(struct buf *buf);	/* Prometheus text */
void shared_slot_clear(int slot);	/* gauges and seats of a dead worker */

/* Seats that a holder (a hash of its id) may take at most `most` of on this machine, in whichever process: event streams. With more
 * holders than there is room for, this process counts its own by itself: `mine` so far. */
bool seat_take(uint64_t holder, int most, int mine);
void seat_leave(uint64_t holder);

#endif
