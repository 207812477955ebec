/* Provider credentials that tenants entrust to us (table api_keys). The client's own goes before its agency's; the
 * platform's stand in the settings. Secrets are opened only by the job that uses them. */
#ifndef TL_CREDENTIALS_H
#define TL_CREDENTIALS_H

#include "tenant.h"
#include "../1_code/json.h"

struct credential_use {
	struct str key_id, owner_id;	/* owner: client or agency */
	struct str secret;
	json_t *settings;
};

/* What binds a sealed credential to its row. */
struct str credential_context(struct arena *arena, struct str owner_id, struct str key_id);
/* Our one name for a provider: google is google_cloud. */
struct str credential_service(struct str name);
/* The one named by `id`, else the client's, else the agency's. NOT_FOUND when there is none that lives. */
enum fault credential_open(struct arena *arena, const struct scope *scope, const char *service, struct str id,
	struct credential_use *ret) MUST_CHECK;

#endif
