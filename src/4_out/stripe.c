/* The Stripe client. */
#include "stripe.h"
#include "../1_code/url.h"
#include "../3_core/config.h"

#define ANSWER_BYTES ((size_t)1 << 20)
#define VERSION STR("2026-09-30.endive")

enum fault till_open(struct str mode, struct str request_id, struct till *ret)
{
	bool test = str_is(mode, "test"), sandbox = str_starts(config.sandbox, "http");
	*ret = (struct till){ .base_url = test ? config.sandbox : config.stripe_base_url.n
		? config.stripe_base_url : STR("https://api.stripe.com"),
		.secret_key = test ? STR("sk_test_sandbox") : config.stripe_secret_key, .request_id = request_id, .live = !test };
	if (test && config.stripe_base_url.n && !config.stripe_secret_key.n)	/* a stand-in of somebody's own */
		ret->base_url = config.stripe_base_url;
	if (test ? sandbox : config.stripe_secret_key.n && !config.test_clock)
		return OK;
	enum fault fault = fault_raise(FAULT_UNAVAILABLE, test ? "No sandbox runs for test clients; start with --set sandbox=on"
		: "No till is configured; set STRIPE_SECRET_KEY");
	fault_detail("reason", STR("not_configured"));
	return fault;
}

static enum fault ask(struct arena *arena, const struct till *till, const char *method, const char *path, struct str body, struct str key,
	json_t **ret)
{
	struct provider_at at = { .provider = "stripe", .base_url = till->base_url, .key = till->secret_key, .request_id = till->request_id };
	struct fetch_header headers[] = { { "Authorization", str_format(arena, "Bearer %.*s", STRF(till->secret_key)) },
		{ "Stripe-Version", VERSION }, { "Content-Type", STR("application/x-www-form-urlencoded") }, { "Idempotency-Key", key } };
	struct fetch f = { .method = method, .headers = headers, .header_count = body.p ? 4 : 2, .body = body, .most_bytes = ANSWER_BYTES };
	json_t *answer = NULL;
	TRY(provider_exchange(arena, &at, path, &f));
	bool read = f.answer.n && json_read(arena, f.answer, &answer) == OK;
	if (f.status / 100 == 2 && read) {
		*ret = answer;
		return OK;
	}
	struct str message = read ? json_text(answer, "error.message") : STR_NULL;
	bool refused = f.status / 100 == 4 && f.status != 409 && f.status != 429;
	enum fault fault = fault_raise(refused ? FAULT_PROVIDER_ERROR : FAULT_IO, "Stripe answered %d: %.*s", f.status,
		STRF(message.n ? message : STR("no reason told")));
	fault_note->retry_after_s = f.retry_after_s > 0 ? f.retry_after_s : 0;
	return fault;
}

enum fault till_post(struct arena *arena, const struct till *till, const char *path, const struct till_field *fields, size_t n,
	struct str key,
	json_t **ret)
{
	struct buf b = BUF_IN(arena, 65536);
	for (size_t i = 0; i < n; i++) {
		buf_text(&b, i ? "&" : "");
		url_escape(&b, str_of(fields[i].name), false);
		buf_char(&b, '=');
		url_escape(&b, fields[i].value, false);
	}
	return ask(arena, till, "POST", path, buf_view(&b), key, ret);
}

enum fault till_get(struct arena *arena, const struct till *till, const char *path, json_t **ret)
{
	return ask(arena, till, "GET", path, STR_NULL, STR_NULL, ret);
}
