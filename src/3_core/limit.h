/* Request limits: GCRA (generic cell rate algorithm) on cells shared by the processes of a machine,
 * one compare-and-swap a decision, on the real clock. */
#ifndef TL_LIMIT_H
#define TL_LIMIT_H

#include "../0_base/str.h"

struct limit_answer {
	bool allowed;
	int64_t remaining;	/* how many more could pass at once */
	int64_t wait_us;	/* until the next one passes */
	int64_t full_us;	/* until the whole burst is there again */
};

/* `key` names the bucket; the rate is per second. take = false only looks. */
struct limit_answer limit_take(struct str key, int64_t rate, int64_t burst, bool take);

/* What a client's row says about its rate, remembered from its last transaction. */
void limit_learn(struct str client_id, int64_t rate, int64_t burst);
void limit_of(struct str client_id, int64_t *ret_rate, int64_t *ret_burst);

#endif
