/* Webhooks in: verify over the raw bytes, store once, answer, process by a job. */
#ifndef TL_INBOUND_H
#define TL_INBOUND_H

#include "../../3_core/jobs.h"
#include "../../3_core/route.h"

extern const struct route inbound_routes[];
extern const struct job_kind inbound_jobs[];

#define ULTRAVOX_SECRET "ultravox_webhook_secret"
#define TELNYX_KEY "telnyx_public_key"
#define STRIPE_SECRET "stripe_webhook_secret"

#endif
