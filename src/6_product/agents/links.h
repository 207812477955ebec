/* What an agent is linked to: a voice, tools, knowledge bases. */
#ifndef TL_AGENT_LINKS_H
#define TL_AGENT_LINKS_H

#include "../../3_core/req.h"

struct agent_new {
	struct str name, description, system_prompt, model, settings, voice_id, tools, knowledge_bases;
};

extern const struct shape agent_tool_shape, agent_kb_shape;

/* Is each there, usable at the provider and named once? 404 with details.field, or 422. Locks them until the commit. */
enum fault agent_links_check(struct req *req, const struct agent_new *in) MUST_CHECK;
/* Queues the lists that were given (NULL: stays as it is). */
void agent_links_write(struct req *req, struct str id, const struct agent_new *in);

#endif
