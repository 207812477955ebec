/* What operators and machines ask: health, metrics, documents, jobs, the test clock, the embedded
 * object store. */
#ifndef TL_OPERATIONS_H
#define TL_OPERATIONS_H

#include "../../3_core/jobs.h"
#include "../../3_core/route.h"

extern const struct route operations_routes[];
extern const struct route store_routes[];
extern const struct job_kind operations_jobs[];

enum fault clock_route_get(struct req *req) MUST_CHECK;
enum fault clock_route_set(struct req *req) MUST_CHECK;

void operations_started(void);	/* uptime counts from here */

#endif
