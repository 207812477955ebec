/* What the product is made of: the tables that are handed down to the floors below. */
#ifndef TL_PRODUCT_H
#define TL_PRODUCT_H

#include "3_core/jobs.h"
#include "3_core/route.h"

extern const struct route *const product_routes[];
extern const struct job_kind *const product_jobs[];
extern const struct sql *const *const product_sql[];

#endif
