/* Request limits: GCRA (generic cell rate algorithm) on the real clock. On one machine its processes share cells, one
 * compare-and-swap a decision. Between machines each draws small slices from a bucket in Redis or PostgreSQL; when that
 * is away, the machine's own cells decide at the full rate (docs/operations.md says which policy does what then). */
#ifndef TL_LIMIT_H
#define TL_LIMIT_H

#include "../0_base/str.h"

struct limit_answer {
	bool allowed;
	int64_t remaining;	/* how many more could pass at once */
	int64_t wait_us;	/* until the next one passes */
	int64_t full_us;	/* until the whole burst is there again */
};

/* `key` names the bucket; the rate is per second. take = false only looks. This machine alone. */
struct limit_answer limit_take(struct str key, int64_t rate, int64_t burst, bool take);
/* The same for `units` in `per_us`. */
struct limit_answer limit_take_per(struct str key, int64_t units, int64_t per_us, int64_t burst, bool take);

/* Reads the setting rate_limits; dies when it cannot be followed. */
void limit_open(void);
/* One unit of a bucket that all machines share, when they do; may wait for a slice. */
struct limit_answer limit_spend(struct str key, int64_t rate, int64_t burst);

/* What a client's row says about its rate and day, remembered from its last transaction. */
struct limit_known {
	int64_t rate, burst, calls_per_day;
};
void limit_learn(struct str client_id, struct str limits_json);
struct limit_known limit_of(struct str client_id);

#endif
