/* Every exchange with a provider passes here: it is one of tbl/operations.def, paced to the account's documented rate, stopped while the
 * account's circuit is open, counted and logged. And the one retry policy. */
#ifndef TL_EXCHANGE_H
#define TL_EXCHANGE_H

#include "../2_io/fetch.h"

#define PROVIDER_TRIES 5

struct provider_at {
	const char *provider;		/* ultravox, telnyx, elevenlabs */
	struct str base_url;
	struct str key;			/* tells accounts apart; its hash alone is kept */
	struct str request_id;		/* of the request that caused it, for the log; may be NULL */
	int64_t per_second;		/* requests; 0 = unpaced */
};

/* Sends `f` (method, headers, body, most_bytes set; timeout_ms 0 = the usual one) to base_url + path. As fetch_run; while the
 * circuit is open FAULT_CONNECT with f->sent false and f->retry_after_s until the next probe. */
enum fault provider_exchange(struct arena *arena, const struct provider_at *at, const char *path, struct fetch *f) MUST_CHECK;

/* How long until the next try, after `tries` of them: 0.5 s doubling, at most 10 s, plus 0..30 %, never less than Retry-After. */
int64_t provider_pause_us(int64_t tries, int retry_after_s);

/* A multipart/form-data body (RFC 7578). */
struct form_part {
	const char *name;
	struct str value, file_name, type;	/* file_name NULL: a plain field */
};
struct str form_write(struct arena *arena, const struct form_part *parts, size_t n, struct str *ret_content_type);

#endif
