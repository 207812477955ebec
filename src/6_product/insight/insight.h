/* Reading what happened. */
#ifndef TL_INSIGHT_H
#define TL_INSIGHT_H

#include "../../3_core/jobs.h"
#include "../../3_core/route.h"

extern const struct route insight_routes[], audit_routes[], privacy_routes[], stats_routes[], csv_routes[], stream_routes[];
extern const struct job_kind insight_jobs[];

enum fault analytics_nightly(struct job *job) MUST_CHECK;
enum fault calls_net(struct job *job) MUST_CHECK;

#endif
