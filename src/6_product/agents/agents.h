/* Agents: routes, and the job that keeps the provider's copy. */
#ifndef TL_AGENTS_H
#define TL_AGENTS_H

#include "../../3_core/jobs.h"
#include "../../3_core/route.h"

extern const struct route agents_routes[];
extern const struct job_kind agents_jobs[];

#endif
