/* The jobs behind /privacy and the nightly retention. */
#ifndef TL_PRIVACY_H
#define TL_PRIVACY_H

#include "../../3_core/jobs.h"

enum fault privacy_export(struct job *job);
enum fault privacy_erase(struct job *job);
enum fault retention_nightly(struct job *job);	/* starts one job a client */
enum fault retention_client(struct job *job);

/* Deletes the objects that a page of rows names (column objects, blank-separated) and gives their ids as a comma list. */
enum fault privacy_drop_objects(struct arena *arena, const struct rows *rows, struct str *ret_ids) MUST_CHECK;

#endif
