/* The provider sandbox: the outside world on one machine. Stateful, deterministic for its seed, on the
 * virtual clock, keeps nothing on disk. Stands on floors 0 to 2 alone. */
#ifndef TL_SANDBOX_H
#define TL_SANDBOX_H

#include "../0_base/map.h"
#include "../1_code/json.h"
#include "../2_io/http.h"

/* Serves on `fd` until SIGTERM. */
void sandbox_run(int fd, const char *public_url, bool test_clock, int64_t frozen_us);

/* timers.c: things that happen at an instant of the virtual clock, in order. */
void timer_at(int64_t at_us, void (*run)(void *), void *argument);
void timer_run_due(int64_t until_us);	/* steps a test clock from instant to instant */
int64_t timer_next(void);		/* 0 = none */

/* say.c: answers. */
void say(struct http_request *request, int status, const json_t *value);	/* NULL: an empty body */
void say_part(struct http_request *r, const char *type, struct str whole);
void refuse(struct http_request *request, int status, const char *detail);
void say_page(struct http_request *request, json_t *all);	/* {results, next, previous, total}; takes `all`, cursor is an offset */
struct str keep(struct str text);				/* a copy for ever */
json_t *now_text(void);
json_t *time_text(int64_t at_us);
struct form_field {
	struct str value, file_name, type;
};
/* Parts of a multipart/form-data body (RFC 7578), one after the other; *rest begins as the body. */
bool form_part(struct http_request *request, struct str *rest, const char *name, struct form_field *ret_field);

struct str form_names(struct http_request *request, struct str body);	/* comma list of its parts' names */

/* making.c: tools, corpora with their sources, voices. false: not its path. */
bool making_handle(struct http_request *request, struct str area, struct str id, struct str part, const json_t *in, struct str body);
bool upload_handle(struct http_request *request, struct str body);	/* PUT to a presigned URL */
/* carriers.c: Telnyx's numbers and ElevenLabs' clones. */
bool telnyx_handle(struct http_request *request, struct str body);
bool elevenlabs_handle(struct http_request *request, struct str body);

/* stripe.c: the till, and what happens there. */
bool stripe_handle(struct http_request *request, struct str body);
void stripe_control(struct http_request *request, struct str what, const json_t *in);
#define STRIPE_SECRET "whsec_sandbox_of_the_till"	/* public on purpose */

/* post.c: signed deliveries to whoever registered. */
struct webhook {
	struct webhook *next;
	json_t *object;			/* as the API shows it; NULL once deleted */
};
extern struct webhook *webhooks;
void post_ultravox(const char *event, json_t *call);	/* a copy of `call` as it is now */
void post_telnyx(struct str url, struct str form);
void post_telnyx_json(struct str body);		/* to the destination that was told; nowhere without one */
void post_telnyx_to(struct str url);
void post_stripe(struct str body);
void post_stripe_to(struct str url);
struct str post_telnyx_key(struct arena *arena);	/* base64 of the raw public key */
void post_chaos(int64_t duplicate, bool shuffle, double drop, int64_t seed);

/* ultravox.c: the API. Answers when the path is its own; *ret_hang instead of an answer when it should
 * never come. */
bool ultravox_handle(struct http_request *request, struct str body, bool *ret_hang);
/* Somebody rings one of our agents. */
void ultravox_ring(struct http_request *request, struct str agent_id, struct str from, struct str to);
struct call {
	struct call *next;
	json_t *object;
	struct str id, to, from, reference, callback;	/* long-lived */
	int64_t created_us, recording_us;
	const struct outcome *outcome;
	int talk_s, sequence;
	bool live, deleted;
};
extern struct call *calls_first;

/* The account's plan; 0 = no limit. Exceeding it is 429, as at the provider. */
void ultravox_limits(int64_t per_second, int64_t per_minute, int64_t concurrent);

/* outcome.c: what a telephone number does. */
struct outcome {
	int ends;		/* last two digits; -1 = by chance */
	const char *name;
	int ring_s, talk_s;	/* until answered or given up; speaking */
	const char *carrier;	/* TeXML status when it is not answered; NULL = answered */
	const char *cause;
	const char *tool;	/* called by the agent during the call */
};
const struct outcome *outcome_of(struct arena *arena, struct str number, int *ret_talk_s);
void outcome_start(struct call *call);
void outcome_hang_up(struct call *call, const char *reason);
json_t *outcome_messages(const struct call *call);
struct str outcome_recording(struct arena *arena, const struct call *call);	/* WAV, 8 kHz 16 bit mono */

#endif
