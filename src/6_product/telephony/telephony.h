/* Telephone numbers at the carrier: searched, bought, imported, given to agents, given back. */
#ifndef TL_TELEPHONY_H
#define TL_TELEPHONY_H

#include "../../3_core/jobs.h"
#include "../../3_core/route.h"

extern const struct route telephony_routes[];
extern const struct job_kind telephony_jobs[];

enum fault number_order(struct job *job) MUST_CHECK;
enum fault number_push(struct job *job) MUST_CHECK;
enum fault number_search(struct job *job) MUST_CHECK;

struct str number_event_data(struct arena *arena, struct str id, struct str number, struct str error);
/* The carrier says that an order has ended: `reference` is ours. NOT_FOUND when it is nobody's here; *ret_scope is its owner. */
enum fault number_heard(struct arena *arena, struct str reference, struct scope *ret_scope) MUST_CHECK;

#endif
