/* Webhooks out: endpoints, and the job that delivers. */
#ifndef TL_WEBHOOKS_H
#define TL_WEBHOOKS_H

#include "../../3_core/jobs.h"
#include "../../3_core/route.h"

extern const struct route webhooks_routes[];
extern const struct job_kind webhooks_jobs[];

enum fault webhook_deliver(struct job *job) MUST_CHECK;
/* What an endpoint's secret is sealed for. */
struct str webhook_context(struct arena *arena, struct str client_id);

#endif
