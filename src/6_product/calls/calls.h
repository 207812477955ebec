/* Calls: routes, the jobs that dial, follow, settle and fetch, and what provider events may do. */
#ifndef TL_CALLS_H
#define TL_CALLS_H

#include "../../3_core/jobs.h"
#include "../../3_core/route.h"

extern const struct route calls_routes[], manage_routes[];
extern const struct job_kind calls_jobs[];
extern const struct shape call_shape;

enum fault call_shown(struct tx *tx, struct str id, struct rows *ret_row) MUST_CHECK;	/* as the API shows it */
/* Settings of a queued call that change: judged by the shape of POST /calls; compact JSON of those given. */
enum fault call_settings_check(struct arena *arena, struct str in, struct str *ret) MUST_CHECK;
void call_hangup_order(struct tx *tx, struct str id);
enum fault call_hangup(struct job *job) MUST_CHECK;
enum fault call_erase(struct job *job) MUST_CHECK;
/* A call that somebody made to one of our agents, first heard of from the provider: a row with its hold, or hung up without credits. */
struct call_ring {
	struct str agent_id, provider_id, from, to;
	int64_t created_us;
};
enum fault call_ring_in(struct arena *arena, const struct scope *scope, const struct call_ring *ring, struct str *ret_call_id) MUST_CHECK;

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
