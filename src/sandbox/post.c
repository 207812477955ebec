/* Deliveries of the provider and the carrier: signed as the real ones, repeated as the real ones
 * (30 s after a failure, doubling, ten times). */
#include "sandbox.h"
#include "../0_base/clock.h"
#include "../1_code/b64.h"
#include "../1_code/sign.h"
#include "../2_io/fetch.h"
#include "../2_io/fiber.h"
#include <stdlib.h>

#define TRIES 11

struct webhook *webhooks;

struct post {
	struct str url, body;
	json_t *secrets;	/* of the voice provider's webhook; NULL = the carrier's or the till's */
	bool till;
	int tries;
};

static struct {
	int64_t duplicate;
	bool shuffle;
	double drop;
	uint64_t state;
} chaos = { .duplicate = 1 };

static const char carrier_seed[] = "trunkline sandbox carrier seed 1";	/* 32 bytes, public on purpose */

void post_chaos(int64_t duplicate, bool shuffle, double drop, int64_t seed)
{
	chaos.duplicate = duplicate < 1 ? 1 : duplicate;
	chaos.shuffle = shuffle;
	chaos.drop = drop;
	chaos.state = (uint64_t)seed;
}

static double chance(void)	/* splitmix64 */
{
	uint64_t z = chaos.state += 0x9e3779b97f4a7c15u;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return (double)((z ^ z >> 31) >> 11) / 9007199254740992.0;
}

struct str post_telnyx_key(struct arena *arena)
{
	return b64_write(arena, sign_ed25519_public(arena, (struct str){ carrier_seed, 32 }));
}

static void start(void *argument);

static struct str ultravox_signatures(struct arena *arena, const json_t *secrets, struct str body, struct str stamp)
{
	struct buf message = BUF_IN(arena, body.n + stamp.n + 1), header = BUF_IN(arena, 4096);
	size_t i;
	json_t *secret;
	buf_str(&message, body);
	buf_str(&message, stamp);
	json_array_foreach(secrets, i, secret) {
		buf_text(&header, i ? "," : "");
		buf_str(&header, hex_write(arena, sign_hmac(arena, str_of(json_string_value(secret)), buf_view(&message))));
	}
	return buf_view(&header);
}

static void send(void *argument)
{
	struct post *p = argument;
	struct arena *arena = arena_make();
	char now[CLOCK_TEXT_BYTES];
	struct fetch_header headers[3];
	if (p->secrets) {
		struct str stamp = str_of(clock_text_us(clock_now_us(), now));
		headers[0] = (struct fetch_header){ "X-Ultravox-Webhook-Timestamp", stamp };
		headers[1] = (struct fetch_header){ "X-Ultravox-Webhook-Signature", ultravox_signatures(arena, p->secrets, p->body, stamp) };
		headers[2] = (struct fetch_header){ "Content-Type", STR("application/json") };
	} else if (p->till) {
		struct str stamp = str_format(arena, "%lld", (long long)(clock_now_us() / US_PER_S));
		struct str message = str_format(arena, "%.*s.%.*s", STRF(stamp), STRF(p->body));
		struct str hex = hex_write(arena, sign_hmac(arena, STR(STRIPE_SECRET), message));
		headers[0] = (struct fetch_header){ "Stripe-Signature", str_format(arena, "t=%.*s,v1=%.*s", STRF(stamp), STRF(hex)) };
		headers[1] = (struct fetch_header){ "Content-Type", STR("application/json; charset=utf-8") };
		headers[2] = (struct fetch_header){ "User-Agent", STR("Stripe/1.0") };
	} else {
		struct str stamp = str_format(arena, "%lld", (long long)(clock_now_us() / US_PER_S));
		struct str message = str_format(arena, "%.*s|%.*s", STRF(stamp), STRF(p->body));
		headers[0] = (struct fetch_header){ "telnyx-timestamp", stamp };
		headers[1] = (struct fetch_header){ "telnyx-signature-ed25519",
			b64_write(arena, sign_ed25519(arena, (struct str){ carrier_seed, 32 }, message)) };
		headers[2] = (struct fetch_header){ "Content-Type", p->body.n && p->body.p[0] == '{' ? STR("application/json")
			: STR("application/x-www-form-urlencoded") };
	}
	struct fetch f = { .method = "POST", .url = p->url, .headers = headers, .header_count = 3, .body = p->body,
		.timeout_ms = 10000, .most_bytes = 65536 };
	bool good = fetch_run(arena, &f) == OK && f.status >= 200 && f.status < 300;
	arena_drop(arena);
	if (!good && ++p->tries < TRIES) {
		timer_at(clock_now_us() + (INT64_C(30) << (p->tries - 1)) * US_PER_S, start, p);
		return;
	}
	json_decref(p->secrets);
	free((char *)p->url.p);
	free((char *)p->body.p);
	free(p);
}

static void start(void *argument) { fiber_spawn(send, argument, false); }

static void post(struct str url, struct str body, json_t *secrets, bool till)
{
	for (int64_t i = 0; i < (secrets ? chaos.duplicate : 1); i++) {
		struct post *p = must_alloc(sizeof *p);
		if (secrets && chaos.drop > 0 && chance() < chaos.drop) {
			free(p);
			continue;
		}
		*p = (struct post){ .url = keep(url), .body = keep(body), .secrets = json_incref(secrets), .till = till };
		if (secrets && chaos.shuffle)
			timer_at(clock_now_us() + (int64_t)(chance() * 40) * US_PER_S, start, p);
		else
			start(p);
	}
}

void post_ultravox(const char *event, json_t *call)
{
	struct arena *arena = arena_make();
	json_t *body = json_pack("{s:s,s:O}", "event", event, "call", call);
	struct str text = json_dump(arena, body);
	json_decref(body);
	for (struct webhook *w = webhooks; w; w = w->next) {
		size_t i;
		json_t *wanted;
		bool mine = false;
		json_array_foreach(json_object_get(w->object, "events"), i, wanted)
			mine |= str_is(str_of(json_string_value(wanted)), event);
		if (mine)
			post(json_text(w->object, "url"), text, json_object_get(w->object, "secrets"), false);
	}
	arena_drop(arena);
}

void post_telnyx(struct str url, struct str form) { post(url, form, NULL, false); }

static struct str carrier_url;
void post_telnyx_to(struct str url) { carrier_url = keep(url); }
void post_telnyx_json(struct str body)
{
	if (carrier_url.n)
		post(carrier_url, body, NULL, false);
}

static struct str till_url;
void post_stripe_to(struct str url) { till_url = keep(url); }
void post_stripe(struct str body)
{
	if (till_url.n)
		post(till_url, body, NULL, true);
}
