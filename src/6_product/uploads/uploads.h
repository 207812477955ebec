/* Uploads: a row, and a signed URL that puts exactly the declared bytes at a key of our own making. */
#ifndef TL_UPLOADS_H
#define TL_UPLOADS_H

#include "../../3_core/jobs.h"
#include "../../3_core/route.h"

extern const struct route uploads_routes[];
extern const struct job_kind uploads_jobs[];

#endif
