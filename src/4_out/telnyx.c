/* The Telnyx client. Bearer key, JSON, everything under data; errors as a list whose code is text. */
#include "telnyx.h"
#include "../1_code/url.h"
#include "../3_core/config.h"
#include "../3_core/credentials.h"

#define ANSWER_BYTES ((size_t)4 << 20)

static enum fault not_configured(const char *message)
{
	enum fault fault = fault_raise(FAULT_UNAVAILABLE, "%s", message);
	fault_detail("reason", STR("not_configured"));
	return fault;
}

static bool sandboxed(void) { return str_starts(config.sandbox, "http"); }
static struct str real_url(void) { return config.telnyx_base_url.n ? config.telnyx_base_url : STR("https://api.telnyx.com"); }

bool carrier_configured(struct str mode, bool has_credential)
{
	return str_is(mode, "test") ? sandboxed() : !config.test_clock && (has_credential || config.telnyx_api_key.n);
}

enum fault carrier_open(struct arena *arena, const struct scope *scope, struct str mode, struct str id, struct carrier_account *ret)
{
	struct credential_use use;
	bool test = str_is(mode, "test");
	enum fault fault = credential_open(arena, scope, "telnyx", id, &use);
	*ret = (struct carrier_account){ .base_url = test ? config.sandbox : real_url(), .connection_id = config.telnyx_connection_id,
		.request_id = scope->request_id };
	if (fault != OK && (fault != FAULT_NOT_FOUND || id.p))
		return fault;
	if (fault == OK) {
		ret->api_key = use.secret;
		ret->credential_id = use.key_id;
		if (json_text(use.settings, "connection_id").n)
			ret->connection_id = json_text(use.settings, "connection_id");
	} else {
		ret->api_key = test ? STR("sandbox") : config.telnyx_api_key;
	}
	if (!carrier_configured(mode, fault == OK))
		return not_configured(test ? "No sandbox runs for test clients; start with --set sandbox=on"
			: "No carrier is configured; add a telnyx credential or set TELNYX_API_KEY");
	return OK;
}

static enum fault exchange(struct arena *arena, const struct carrier_account *account, const char *method, const char *path,
	struct str body,
	struct fetch *f)
{
	struct provider_at at = { .provider = "telnyx", .base_url = account->base_url, .key = account->api_key,
		.request_id = account->request_id };
	struct fetch_header headers[] = { { "Authorization", str_format(arena, "Bearer %.*s", STRF(account->api_key)) },
		{ "Accept", STR("application/json") }, { "Content-Type", STR("application/json") } };
	*f = (struct fetch){ .method = method, .headers = headers, .header_count = body.p ? 3 : 2, .body = body, .most_bytes = ANSWER_BYTES };
	return provider_exchange(arena, &at, path, f);
}

static struct str problem_of(struct arena *arena, struct str answer)
{
	json_t *body;
	if (answer.n && json_read(arena, answer, &body) == OK) {
		json_t *first = json_array_get(json_object_get(body, "errors"), 0);
		struct str detail = json_text(first, "detail");
		if (detail.n || json_text(first, "title").n)
			return str_copy(arena, str_clip(detail.n ? detail : json_text(first, "title"), 300));
	}
	return STR("an answer that tells no reason");
}

enum fault carrier_call(struct arena *arena, const struct carrier_account *account, const char *method, const char *path, struct str body,
	json_t **ret)
{
	struct fetch f;
	json_t *answer;
	TRY(exchange(arena, account, method, path, body, &f));
	if (f.status == 404)
		return fault_raise(FAULT_NOT_FOUND, "The carrier does not know it");
	if (f.status / 100 != 2) {
		bool refused = f.status / 100 == 4 && f.status != 429 && f.status != 408;
		struct str problem = problem_of(arena, f.answer);
		enum fault fault = fault_raise(refused ? FAULT_PROVIDER_ERROR : FAULT_IO, "Telnyx answered %d: %.*s", f.status, STRF(problem));
		fault_note->retry_after_s = f.retry_after_s > 0 ? f.retry_after_s : 0;
		return fault;
	}
	*ret = NULL;
	if (!f.answer.n)
		return OK;
	TRY(json_read(arena, f.answer, &answer));
	*ret = json_object_get(answer, "data");
	return *ret ? OK : fault_raise(FAULT_IO, "The carrier's answer could not be read");
}

struct voice_answer carrier_order(struct arena *arena, const struct carrier_account *account, struct str number, struct str reference)
{
	struct voice_answer a = { .verdict = VOICE_AMBIGUOUS, .retry_after_s = -1, .provider = "Telnyx" };
	struct buf b = BUF_IN(arena, 4096);
	struct fetch f;
	buf_text(&b, "{\"phone_numbers\":[{\"phone_number\":");
	buf_json(&b, number);
	buf_text(&b, "}],\"customer_reference\":");
	buf_json(&b, reference);
	if (account->connection_id.n) {
		buf_text(&b, ",\"connection_id\":");
		buf_json(&b, account->connection_id);
	}
	buf_char(&b, '}');
	enum fault fault = exchange(arena, account, "POST", "/v2/number_orders", buf_view(&b), &f);
	a.http_status = f.status;
	a.retry_after_s = f.retry_after_s;
	if (fault != OK) {
		a.verdict = f.sent ? VOICE_AMBIGUOUS : VOICE_NOT_ACCEPTED;
		a.problem = str_copy(arena, str_of(fault_note->message));
	} else if (f.status / 100 == 2) {
		if (json_read(arena, f.answer, &a.body) == OK)
			a.id = json_text(a.body, "data.id");
		a.verdict = a.id.n ? VOICE_ACCEPTED : VOICE_AMBIGUOUS;
		a.problem = STR("The answer could not be read");
	} else {
		a.problem = problem_of(arena, f.answer);
		a.verdict = f.status == 429 || f.status == 503 ? VOICE_NOT_ACCEPTED : f.status == 500 ? VOICE_FAILED
			: f.status / 100 == 4 ? VOICE_REFUSED : VOICE_AMBIGUOUS;
	}
	return a;
}

/* The first of a list that is filtered by `field`; NULL when empty. */
static enum fault first_of(struct arena *arena, const struct carrier_account *account, const char *path, const char *field,
	struct str value,
	json_t **ret)
{
	struct buf b = BUF_IN(arena, 1024);
	json_t *list, *one;
	size_t i;
	buf_format(&b, "%s?filter[%s]=", path, field);
	url_escape(&b, value, false);
	*ret = NULL;
	TRY(carrier_call(arena, account, "GET", str_copy(arena, buf_view(&b)).p, STR_NULL, &list));
	json_array_foreach(list, i, one)	/* believed only where it says so itself */
		if (!*ret && str_eq(json_text(one, field), value))
			*ret = one;
	return json_is_array(list) ? OK : fault_raise(FAULT_IO, "The carrier's list could not be read");
}

enum fault carrier_find_order(struct arena *arena, const struct carrier_account *account, struct str reference, json_t **ret)
{
	return first_of(arena, account, "/v2/number_orders", "customer_reference", reference, ret);
}

enum fault carrier_find_number(struct arena *arena, const struct carrier_account *account, struct str number, json_t **ret)
{
	TRY(first_of(arena, account, "/v2/phone_numbers", "phone_number", number, ret));
	return *ret ? OK : fault_raise(FAULT_NOT_FOUND, "The carrier account does not own this number");
}
