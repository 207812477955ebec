/* The client's credits: what it has, what it paid and was charged; the till and what the till tells. */
#ifndef TL_BILLING_H
#define TL_BILLING_H

#include "../../3_core/jobs.h"
#include "../../3_core/route.h"

extern const struct route billing_routes[];
extern const struct job_kind billing_jobs[];
extern const struct shape transaction_shape;

enum fault checkout_open(struct job *job) MUST_CHECK;

/* An event of the till, its signature verified. *ret_status: processed, ignored or unresolved (with *ret_why); *ret_scope whose it was. */
enum fault till_hear(struct job *job, struct str inbound_id, const json_t *event, struct scope *ret_scope, const char **ret_status,
	struct str *ret_why) MUST_CHECK;

enum fault credits_recharge(struct job *job) MUST_CHECK;

#endif
