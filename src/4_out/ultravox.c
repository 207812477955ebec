/* The Ultravox client. Authentication by X-API-Key; camelCase bodies; errors of free form. */
#include "voice_provider.h"
#include "../0_base/clock.h"
#include "../0_base/die.h"
#include "../2_io/fetch.h"
#include "../3_core/config.h"
#include "../3_core/credentials.h"
#include "../3_core/limit.h"
#include "core.sql.h"
#include <stdio.h>

#define ANSWER_BYTES ((size_t)4 << 20)
#define PREVIEW_BYTES ((size_t)10 << 20)
#define TRANSFER_MS 600000
#define MOST_PAGES 200
#define REAL_BASE_URL "https://api.ultravox.ai"

enum fault voice_account_for(struct str mode, struct voice_account *ret)
{
	bool sandbox = str_starts(config.sandbox, "http"), test = str_is(mode, "test");
	bool real = config.ultravox_api_key.n && !str_eq(config.ultravox_base_url, config.sandbox);
	*ret = (struct voice_account){ .base_url = test ? config.sandbox : config.ultravox_base_url,
		.api_key = test ? STR("sandbox") : config.ultravox_api_key };
	if (test ? sandbox : real)
		return OK;
	enum fault fault = fault_raise(FAULT_UNAVAILABLE, test ? "No sandbox runs for test clients; start with --set sandbox=on"
		: "No voice provider is configured for live clients; set ULTRAVOX_API_KEY");
	fault_detail("reason", STR("not_configured"));
	return fault;
}

static enum fault own_account(struct str mode, const struct credential_use *use, struct voice_account *ret)
{
	bool test = str_is(mode, "test"), sandboxed = str_eq(config.ultravox_base_url, config.sandbox);
	*ret = (struct voice_account){ .base_url = test ? config.sandbox : sandboxed ? STR(REAL_BASE_URL) : config.ultravox_base_url,
		.api_key = use->secret, .credential_id = use->key_id };
	if (test ? !str_starts(config.sandbox, "http") : config.test_clock) {
		enum fault fault = fault_raise(FAULT_UNAVAILABLE, test ? "No sandbox runs for test clients; start with --set sandbox=on"
			: "On the test clock no real provider is called");
		fault_detail("reason", STR("not_configured"));
		return fault;
	}
	return OK;
}

enum fault voice_account_open(struct arena *arena, const struct scope *scope, struct str mode, struct str id, struct voice_account *ret)
{
	struct credential_use use;
	enum fault fault = OK;
	if (!id.p)
		fault = voice_account_for(mode, ret);
	else if ((fault = credential_open(arena, scope, "ultravox", id, &use)) == OK)
		fault = own_account(mode, &use, ret);
	ret->request_id = scope->request_id;
	return fault;
}

enum fault voice_account_choose(struct arena *arena, const struct scope *scope, struct str mode, struct voice_account *ret)
{
	struct credential_use use;
	enum fault fault = credential_open(arena, scope, "ultravox", STR_NULL, &use);
	fault = fault == FAULT_NOT_FOUND ? voice_account_for(mode, ret) : fault == OK ? own_account(mode, &use, ret) : fault;
	ret->request_id = scope->request_id;
	return fault;
}

enum fault voice_account_expect(struct tx *tx, struct str mode)
{
	struct voice_account account;
	struct rows r;
	if (voice_account_for(mode, &account) == OK)
		return OK;
	TRY(credential_there(tx, (struct credential_there){ .service = STR("ultravox") }, &r));
	return pg_bool(&r, 0, "there") ? OK : voice_account_for(mode, &account);
}

/* `detail`, else the start of whatever came (the provider documents no error body). */
static struct str problem_of(struct arena *arena, struct str answer)
{
	json_t *body;
	if (answer.n && json_read_any(arena, answer, &body) == OK) {
		struct str detail = json_text(body, "detail");
		if (detail.p)
			return str_copy(arena, str_clip(detail, 300));
	}
	answer = str_clip(answer, 300);
	return str_utf8(answer) ? str_copy(arena, answer) : STR("an answer that is no text");
}

static enum fault exchange(struct arena *arena, const struct voice_account *account, const char *method, const char *path,
	struct str type, struct str body, size_t most, struct fetch *f)
{
	struct provider_at at = { "ultravox", account->base_url, account->api_key, account->request_id, config.ultravox_requests_per_second };
	struct fetch_header headers[] = { { "X-API-Key", account->api_key }, { "Accept", STR("*/*") }, { "Content-Type", type } };
	*f = (struct fetch){ .method = method, .headers = headers, .header_count = body.p ? 3 : 2, .body = body, .most_bytes = most };
	return provider_exchange(arena, &at, path, f);
}

#define JSON_TYPE STR("application/json")

static struct voice_answer create(struct arena *arena, const struct voice_account *account, const char *path, struct str type,
	struct str body, const char *id_field)
{
	struct fetch f;
	struct voice_answer a = { .verdict = VOICE_AMBIGUOUS, .retry_after_s = -1 };
	enum fault fault = exchange(arena, account, "POST", path, type, body, ANSWER_BYTES, &f);
	a.http_status = f.status;
	a.retry_after_s = f.retry_after_s;
	if (fault != OK) {
		a.verdict = f.sent ? VOICE_AMBIGUOUS : VOICE_NOT_ACCEPTED;
		a.problem = str_copy(arena, str_of(fault_note->message));
		return a;
	}
	if (f.status >= 200 && f.status < 300) {
		if (json_read(arena, f.answer, &a.body) == OK)
			a.id = json_text(a.body, id_field);
		a.verdict = a.id.n ? VOICE_ACCEPTED : VOICE_AMBIGUOUS;
		a.problem = STR("The answer could not be read");
		return a;
	}
	a.problem = problem_of(arena, f.answer);
	a.verdict = f.status == 429 || f.status == 503 ? VOICE_NOT_ACCEPTED
		: f.status == 500 ? VOICE_FAILED
		: f.status >= 400 && f.status < 500 ? VOICE_REFUSED : VOICE_AMBIGUOUS;
	return a;
}

struct voice_answer voice_create(struct arena *arena, const struct voice_account *account, const char *path, struct str body,
	const char *id_field)
{
	return create(arena, account, path, JSON_TYPE, body, id_field);
}

struct voice_answer voice_create_form(struct arena *arena, const struct voice_account *account, const char *path,
	const struct form_part *parts, size_t n, const char *id_field)
{
	struct str type, body = form_write(arena, parts, n, &type);
	return create(arena, account, path, type, body, id_field);
}

enum fault voice_call(struct arena *arena, const struct voice_account *account, const char *method, const char *path,
	struct str body, json_t **ret_body)
{
	struct fetch f;
	TRY(exchange(arena, account, method, path, JSON_TYPE, body, ANSWER_BYTES, &f));
	if (f.status == 404)
		return fault_raise(FAULT_NOT_FOUND, "The provider does not know it");
	if (f.status == 425)
		return fault_raise(FAULT_UNAVAILABLE, "Not ready at the provider yet");
	if (f.status < 200 || f.status >= 300) {
		struct str problem = problem_of(arena, f.answer);
		bool refused = f.status >= 400 && f.status < 500 && f.status != 429 && f.status != 408;
		enum fault fault = fault_raise(refused ? FAULT_PROVIDER_ERROR : FAULT_IO, "Ultravox answered %d: %.*s", f.status, STRF(problem));
		fault_detail("provider", STR("ultravox"));
		fault_detail_int("http_status", f.status);
		fault_note->retry_after_s = f.retry_after_s > 0 ? f.retry_after_s : 0;
		return fault;
	}
	*ret_body = NULL;
	return f.answer.n ? json_read_any(arena, f.answer, ret_body) : OK;
}

enum fault voice_find_call(struct arena *arena, const struct voice_account *account, struct str reference, json_t **ret_call)
{
	json_t *page;
	struct str path = str_format(arena, "/api/calls?metadata.trunkline_call_id=%.*s&pageSize=2", STRF(reference));
	TRY(voice_call(arena, account, "GET", path.p, STR_NULL, &page));
	if (!json_is_array(json_object_get(page, "results")))
		return fault_raise(FAULT_IO, "The provider's list could not be read");
	*ret_call = json_array_get(json_object_get(page, "results"), 0);
	return OK;
}

/* The path of the next page; NULL p at the end. Our key goes to no other host. */
static enum fault next_page(struct arena *arena, const struct voice_account *account, const json_t *page, struct str *ret_path)
{
	struct str next = json_text(page, "next");
	*ret_path = STR_NULL;
	if (next.n && !str_starts(next, account->base_url.p))
		return fault_raise(FAULT_IO, "The provider's next page is elsewhere");
	if (next.n)
		*ret_path = str_copy(arena, str_from(next, account->base_url.n));
	return OK;
}

enum fault voice_find(struct arena *arena, const struct voice_account *account, const char *list, bool searches, struct str reference,
	const char *id_field, struct str *ret_id)
{
	struct str path = searches ? str_format(arena, "%s%.*s&pageSize=10", list, STRF(reference)) : str_format(arena,
		"%s?pageSize=100", list);
	json_t *page, *one;
	size_t i;
	*ret_id = STR_NULL;
	for (int pages = 0; path.p && pages < MOST_PAGES; pages++) {
		TRY(voice_call(arena, account, "GET", path.p, STR_NULL, &page));
		if (!json_is_array(json_object_get(page, "results")))
			return fault_raise(FAULT_IO, "The provider's list could not be read");
		json_array_foreach(json_object_get(page, "results"), i, one) {
			struct str name = json_text(one, "name");
			if (name.p && str_starts(name, reference.p))
				*ret_id = json_text(one, id_field);
		}
		if (ret_id->p)
			return OK;
		TRY(next_page(arena, account, page, &path));
	}
	return OK;
}

enum fault voice_messages(struct arena *arena, const struct voice_account *account, struct str call_id, json_t **ret_array)
{
	json_t *all = json_array(), *page;
	arena_defer(arena, (void (*)(void *))json_decref, all);
	struct str path = str_format(arena, "/api/calls/%.*s/messages?mode=in_call&pageSize=100", STRF(call_id));
	for (int pages = 0; path.p && pages < MOST_PAGES; pages++) {
		TRY(voice_call(arena, account, "GET", path.p, STR_NULL, &page));
		json_array_extend(all, json_object_get(page, "results"));
		TRY(next_page(arena, account, page, &path));
	}
	*ret_array = all;
	return OK;
}

/* Bytes of any type: 200 or 206, or a redirect to a store that gets no key of ours. `more` may bring one header. */
static enum fault bytes(struct arena *arena, const struct voice_account *account, struct str path, const struct fetch *more,
	struct fetch *f)
{
	struct provider_at at = { "ultravox", account->base_url, account->api_key, account->request_id, config.ultravox_requests_per_second };
	struct fetch_header headers[3] = { { "X-API-Key", account->api_key }, { "Accept", STR("*/*") } };
	for (size_t i = 0; i < more->header_count; i++)
		headers[2 + i] = more->headers[i];
	*f = *more;
	f->method = "GET", f->headers = headers, f->header_count = 2 + more->header_count;
	TRY(provider_exchange(arena, &at, path.p, f));
	if (f->status >= 300 && f->status < 400 && f->location.n) {
		struct str location = f->location;
		*f = *more;
		f->method = "GET", f->url = location, f->timeout_ms = more->timeout_ms ? more->timeout_ms : config.provider_timeout_ms;
		TRY(fetch_run(arena, f));
	}
	if (f->status == 404 || f->status == 425)
		return fault_raise(FAULT_NOT_FOUND, "The provider has none yet");
	if (f->status == 200 || f->status == 206)
		return OK;
	struct str problem = f->status < 500 ? problem_of(arena, f->answer) : STR("");
	return fault_raise(f->status < 500 && f->status != 429 ? FAULT_PROVIDER_ERROR : FAULT_IO, "Ultravox answered %d: %.*s", f->status,
		STRF(problem));
}

enum fault voice_bytes(struct arena *arena, const struct voice_account *account, struct str path, struct str *ret_bytes,
	struct str *ret_type)
{
	struct fetch f, more = { .most_bytes = PREVIEW_BYTES };
	TRY(bytes(arena, account, path, &more, &f));
	*ret_bytes = f.answer;
	*ret_type = f.content_type;
	return OK;
}

struct rest {
	const struct fetch *f;
	int64_t *from;
	enum fault (*take)(void *context, struct str part);
	void *context;
};

static enum fault take_rest(void *context, struct str part)
{
	struct rest *r = context;
	if (r->f->status != 206)	/* asked for the rest, given the whole */
		*r->from = 0;
	return r->take(r->context, part);
}

enum fault voice_bytes_to(struct arena *arena, const struct voice_account *account, struct str path, int64_t most, int64_t *from,
	enum fault (*take)(void *context, struct str part), void *context, struct str *ret_type)
{
	struct fetch f;
	struct rest rest = { .f = &f, .from = from, .take = take, .context = context };
	struct fetch_header range = { "Range", str_format(arena, "bytes=%lld-", (long long)*from) };
	struct fetch more = { .most_bytes = (size_t)(most - *from), .timeout_ms = TRANSFER_MS, .take = take_rest, .context = &rest,
		.headers = &range, .header_count = *from ? 1 : 0 };
	TRY(bytes(arena, account, path, &more, &f));
	*ret_type = f.content_type;
	return OK;
}

static int64_t rate_of(struct str setting, int64_t real)
{
	int64_t n;
	return str_int(setting, &n) ? n : real;
}

void voice_open(void)
{
	struct str rates[] = { config.ultravox_calls_per_second, config.ultravox_calls_per_minute };
	for (int i = 0; i < 2; i++) {
		int64_t n;
		if (!str_is(rates[i], "auto") && (!str_int(rates[i], &n) || n < 0))
			die("ultravox_calls_per_%s must be auto or a number, not '%.*s'", i ? "minute" : "second", STRF(rates[i]));
	}
}

int64_t voice_call_wait_us(const struct voice_account *account)
{
	bool real = !str_eq(account->base_url, config.sandbox);
	int64_t second = rate_of(config.ultravox_calls_per_second, real ? 5 : 0), minute = rate_of(config.ultravox_calls_per_minute,
		real ? 30 : 0);
	char by_second[64], by_minute[64];
	int64_t burst = minute / 6 + 1, rest = minute - burst > 0 ? minute - burst : 1;	/* together no more than `minute` in any minute */
	snprintf(by_second, sizeof by_second, "calls/s:%016llx", (unsigned long long)str_hash(account->api_key));
	snprintf(by_minute, sizeof by_minute, "calls/min:%016llx", (unsigned long long)str_hash(account->api_key));
	struct limit_answer a = { .allowed = true };
	if (second)
		a = limit_take(str_of(by_second), second, 1, false);
	if (a.allowed && minute)
		a = limit_take_per(str_of(by_minute), rest, 60 * US_PER_S, burst, true);
	if (a.allowed && second)
		a = limit_take(str_of(by_second), second, 1, true);
	return a.allowed ? 0 : a.wait_us;
}

enum fault voice_webhook(struct arena *arena, const struct voice_account *account, struct str url, struct str secret)
{
	json_t *page, *one, *mine = NULL, *ignored;
	size_t i;
	TRY(voice_call(arena, account, "GET", "/api/webhooks?pageSize=100", STR_NULL, &page));
	json_array_foreach(json_object_get(page, "results"), i, one) {
		json_t *first = json_array_get(json_object_get(one, "secrets"), 0);
		if (json_is_string(first) && str_is(secret, json_string_value(first)))
			mine = one;
	}
	struct buf body = BUF_IN(arena, 4096);
	buf_text(&body, "{\"url\":");
	buf_json(&body, url);
	buf_text(&body, ",\"events\":[\"call.started\",\"call.joined\",\"call.ended\",\"call.billed\"],\"secrets\":[");
	buf_json(&body, secret);
	buf_text(&body, "]}");
	if (!mine)
		return voice_call(arena, account, "POST", "/api/webhooks", buf_view(&body), &ignored);
	if (str_eq(json_text(mine, "url"), url))
		return OK;
	struct str path = str_format(arena, "/api/webhooks/%.*s", STRF(json_text(mine, "webhookId")));
	return voice_call(arena, account, "PATCH", path.p, buf_view(&body), &ignored);
}

int64_t voice_duration_s(struct str t)
{
	int64_t whole;
	if (t.n < 2 || t.p[t.n - 1] != 's')
		return -1;
	t.n--;
	struct str fraction = t, head = str_cut(&fraction, '.');
	if (!str_int(head, &whole) || whole < 0)
		return -1;
	for (size_t i = 0; i < fraction.n; i++)
		if (fraction.p[i] != '0')
			return whole + 1;
	return whole;
}
