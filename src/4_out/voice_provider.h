/* The voice provider, Ultravox (https://api.ultravox.ai, its own schema): what we ask of it and what
 * its answers mean. Every function waits on the calling fiber and holds no transaction. */
#ifndef TL_VOICE_PROVIDER_H
#define TL_VOICE_PROVIDER_H

#include "../0_base/fault.h"
#include "../1_code/json.h"
#include "../3_core/tenant.h"
#include "exchange.h"

/* What an answer to something that must not happen twice tells (the table in docs/calls.md). */
enum voice_verdict {
	VOICE_ACCEPTED,
	VOICE_NOT_ACCEPTED,	/* certainly not: connect failure, 429, 503; may be repeated */
	VOICE_REFUSED,		/* other 4xx: final */
	VOICE_FAILED,		/* 500: answered, so its own list is authoritative */
	VOICE_AMBIGUOUS,	/* 502, 504, garbage, time-out, reset: may have been accepted */
};

struct voice_account {
	struct str base_url, api_key;
	struct str credential_id;	/* of the tenant's own; NULL = the platform's account */
	struct str request_id;		/* of what caused the job, for the log */
};

struct voice_answer {
	enum voice_verdict verdict;
	int http_status, retry_after_s;	/* -1 = not said */
	struct str id;			/* of the created object */
	json_t *body;			/* NULL when there is none to read */
	struct str problem;		/* for people, no secret */
	const char *provider;		/* whose answer it is; NULL = Ultravox */
};

/* Reads the settings of rates; dies when it cannot. */
void voice_open(void);

/* A test client is wired to the sandbox and never reaches a real provider; a live one needs a real key.
 * FAULT_UNAVAILABLE, details.reason not_configured, when there is none for this mode (live, test). */
enum fault voice_account_for(struct str mode, struct voice_account *ret_account) MUST_CHECK;
/* For a job: the account named by `credential_id`, where what the job is about lives. */
enum fault voice_account_open(struct arena *arena, const struct scope *scope, struct str mode, struct str credential_id,
	struct voice_account *ret_account) MUST_CHECK;
/* For something new: the client's own account, else its agency's, else the platform's. */
enum fault voice_account_choose(struct arena *arena, const struct scope *scope, struct str mode,
	struct voice_account *ret_account) MUST_CHECK;
/* For a request: is there an account at all? Asks in its transaction when the platform has none. */
enum fault voice_account_expect(struct tx *tx, struct str mode) MUST_CHECK;

/* POST a creation; `id_field` names the identifier in a 201. */
struct voice_answer voice_create(struct arena *arena, const struct voice_account *account, const char *path,
	struct str body, const char *id_field);
/* What may be repeated freely (AGAIN in tbl/operations.def). 404 is FAULT_NOT_FOUND, 425 FAULT_UNAVAILABLE,
 * other 4xx FAULT_PROVIDER_ERROR with details: refused for good; what is left FAULT_IO: may be tried again. */
enum fault voice_call(struct arena *arena, const struct voice_account *account, const char *method, const char *path,
	struct str body, json_t **ret_body) MUST_CHECK;

/* By our reference in its metadata; *ret_call NULL = its list knows none. */
enum fault voice_find_call(struct arena *arena, const struct voice_account *account, struct str reference,
	json_t **ret_call) MUST_CHECK;
/* What bears our reference at the start of its name, in the list at `path` (which searches for it when `searches`); *ret_id NULL =
 * its list knows none. Every page is read. */
enum fault voice_find(struct arena *arena, const struct voice_account *account, const char *path, bool searches, struct str reference,
	const char *id_field, struct str *ret_id) MUST_CHECK;
/* A creation by multipart/form-data. */
struct voice_answer voice_create_form(struct arena *arena, const struct voice_account *account, const char *path,
	const struct form_part *parts, size_t n, const char *id_field);
/* Bytes of any type (recording, preview), a redirect followed without our key. NOT_FOUND while there is none. */
enum fault voice_bytes(struct arena *arena, const struct voice_account *account, struct str path, struct str *ret_bytes,
	struct str *ret_type) MUST_CHECK;
/* The same into `take`, part by part, at most `most` bytes with the *from that are there already. When the provider begins anew instead of
 * going on, *from is 0 at the first part. */
enum fault voice_bytes_to(struct arena *arena, const struct voice_account *account, struct str path, int64_t most, int64_t *from,
	enum fault (*take)(void *context, struct str part), void *context, struct str *ret_type) MUST_CHECK;
/* How long a call's creation must wait for the account's documented rate; 0 = now, and one is taken. */
int64_t voice_call_wait_us(const struct voice_account *account);
/* All messages of a call, every page. */
enum fault voice_messages(struct arena *arena, const struct voice_account *account, struct str call_id,
	json_t **ret_array) MUST_CHECK;
/* Registers our one webhook, or repairs its URL and events. The secret is ours. */
enum fault voice_webhook(struct arena *arena, const struct voice_account *account, struct str url, struct str secret) MUST_CHECK;

/* "95.5s" to whole seconds, rounded up; -1 when unreadable (google.protobuf.Duration in JSON). */
int64_t voice_duration_s(struct str text);

#endif
