/* An agent's tuning: the names our users write, and what the provider's call template calls them. One table. */
#ifndef TL_AGENT_SETTINGS_H
#define TL_AGENT_SETTINGS_H

#include "../../3_core/req.h"

/* The settings of a request, compact JSON in snake_case: members of `settings` and tuning fields beside it, camelCase or
 * snake_case. STR_NULL when the body names none. What the provider cannot take is kept and warned of; what nobody knows is
 * left out and warned of; warnings about tuning fields at the top level are taken back. */
struct str agent_settings_read(struct req *req, struct str settings);

/* The members of callTemplate that come from settings, each with a comma before it (schema ultravox.v1.CallTemplate). */
void agent_settings_template(struct buf *buf, const json_t *settings);
/* The member voiceOverrides of callTemplate with a comma before it,
	when the voice's provider takes any (schema ultravox.v1.ExternalVoice). */
void agent_settings_voice(struct buf *buf, const json_t *settings, struct str provider);

#endif
