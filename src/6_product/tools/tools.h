/* Tools: endpoints of a client's own that its agents may call. */
#ifndef TL_TOOLS_H
#define TL_TOOLS_H

#include "../../3_core/jobs.h"
#include "../../3_core/route.h"

#define TOOL_AUTH_NAME "auth"	/* the name of a tool's one secret at the provider */

extern const struct route tools_routes[];
extern const struct job_kind tools_jobs[];

struct tool_new {
	struct str name, description, category, endpoint, method, authentication, parameters, response_schema;
	int64_t timeout_seconds;
};

/* What the secret becomes in a request: the bearer token, base64 of user:password, the key. NULL when the tool has none.
 * `authentication` is the row's JSON, `sealed` its secret. */
enum fault tool_token(struct arena *arena, struct str id, struct str authentication, struct str sealed, struct str *ret_token) MUST_CHECK;
struct str tool_context(struct arena *arena, struct str id);

/* Is it a JSON Schema that a model's arguments can be described by? 422 naming the path under `field`. Placeholders of the endpoint
 * ({name}) must be among its properties. */
enum fault tool_schema_check(struct arena *arena, const char *field, const json_t *schema) MUST_CHECK;
enum fault tool_placeholders_check(struct arena *arena, struct str endpoint, const json_t *schema) MUST_CHECK;
/* Where a parameter goes: path, query or body. */
const char *tool_location(struct arena *arena, struct str endpoint, struct str method, const char *name);

/* One that is moved here: read by the shape of POST /tools and sealed (waits); then queued with its job in a transaction. */
struct tool_made {
	struct str id, how, sealed;
	struct tool_new in;
	bool lacks_secret;
};
enum fault tool_read(struct req *req, const json_t *object, struct str secret, struct tool_made *ret) MUST_CHECK;
void tool_add(struct tx *tx, const struct tool_made *made);

enum fault tool_push(struct job *job) MUST_CHECK;
enum fault tool_test(struct job *job) MUST_CHECK;
struct str tool_event_data(struct arena *arena, struct str id, struct str provider_id, const char *status);

#endif
