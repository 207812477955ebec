/* Agents: routes, and the job that keeps the provider's copy. */
#ifndef TL_AGENTS_H
#define TL_AGENTS_H

#include "../../3_core/jobs.h"
#include "../../3_core/route.h"

extern const struct route agents_routes[];
extern const struct job_kind agents_jobs[];
extern const struct shape agent_templates_shape, agent_new_shape, agent_export_shape, agent_import_shape, agent_imported_shape;
#define AGENT_IMPORT_BYTES 128
enum fault agent_export(struct req *req) MUST_CHECK;
enum fault agent_import(struct req *req) MUST_CHECK;

enum fault agent_templates(struct req *req) MUST_CHECK;
enum fault agent_push(struct job *job) MUST_CHECK;	/* payload repair: true makes a lost copy again */
struct str agent_event_data(struct arena *arena, struct str id, const char *status);

#endif
