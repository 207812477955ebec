/* Calls: routes, the jobs that dial, follow, settle and fetch, and what provider events may do. */
#ifndef TL_CALLS_H
#define TL_CALLS_H

#include "../../3_core/jobs.h"
#include "../../3_core/route.h"

extern const struct route calls_routes[];
extern const struct job_kind calls_jobs[];
extern const struct shape call_shape;

/* What a provider or carrier told about one of our calls. Applied upwards only, so order, repetition
 * and loss of events do not matter. */
struct call_news {
	struct str call_id;		/* ours */
	const char *source;		/* webhook, job, reconcile */
	struct str provider_id, join_url;
	int64_t joined_us, ended_us;	/* 0 = not told */
	struct str end_reason;		/* the provider's word, NULL until ended */
	int64_t billed_s;		/* -1 = billing is not final */
	struct str billing_status;
	struct str summary;
};

/* Queues what the news changes in `tx`, whose door is the call's tenant. Waits for one round trip. */
enum fault call_hear(struct tx *tx, const struct call_news *news) MUST_CHECK;
/* Reads an Ultravox Call object. */
void call_news_read(struct arena *arena, const json_t *call, struct call_news *ret_news);

/* The carrier's status of the call: ringing, or the cause that it was not answered. */
enum fault call_carrier(struct tx *tx, struct str call_id, struct str carrier_id, struct str status, struct str cause) MUST_CHECK;

/* Tells which call: by our id, the provider's or the carrier's. NOT_FOUND when it is not ours. */
enum fault call_owner_find(struct arena *arena, struct str call_id, struct str provider_id, struct str carrier_id,
	struct scope *ret_scope, struct str *ret_call_id) MUST_CHECK;

#endif
