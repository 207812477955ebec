/* The carrier, Telnyx (https://api.telnyx.com/v2): numbers searched, ordered, owned. An accepted order is not a number yet; orders have no
 * idempotency key, so each bears our reference and is looked for by it. */
#ifndef TL_TELNYX_H
#define TL_TELNYX_H

#include "voice_provider.h"

struct carrier_account {
	struct str base_url, api_key, connection_id;	/* connection: what numbers are attached to; may be NULL */
	struct str credential_id, request_id;
};

/* The named credential's account, else (NULL) the client's own, its agency's, the platform's. A test client has the sandbox's.
 * UNAVAILABLE with reason not_configured when there is none; NOT_FOUND when a named one is gone. */
enum fault carrier_open(struct arena *arena, const struct scope *scope, struct str mode, struct str credential_id,
	struct carrier_account *ret) MUST_CHECK;
/* Without opening anything: is there one? */
bool carrier_configured(struct str mode, bool has_credential);

/* What may be repeated. `data` of the answer. Faults as voice_call. */
enum fault carrier_call(struct arena *arena, const struct carrier_account *account, const char *method, const char *path, struct str body,
	json_t **ret_data) MUST_CHECK;
struct voice_answer carrier_order(struct arena *arena, const struct carrier_account *account, struct str number, struct str reference);
/* By our reference; *ret_order NULL = there is none. */
enum fault carrier_find_order(struct arena *arena, const struct carrier_account *account, struct str reference,
	json_t **ret_order) MUST_CHECK;
/* The number if the account owns it; NOT_FOUND else. */
enum fault carrier_find_number(struct arena *arena, const struct carrier_account *account, struct str number,
	json_t **ret_number) MUST_CHECK;

#endif
