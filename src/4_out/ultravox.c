/* The Ultravox client. Authentication by X-API-Key; camelCase bodies; errors of free form. */
#include "voice_provider.h"
#include "../0_base/clock.h"
#include "../0_base/log.h"
#include "../1_code/url.h"
#include "../2_io/fetch.h"
#include "../2_io/shared.h"
#include "../3_core/config.h"
#include "../3_core/credentials.h"
#include "core.sql.h"
#include <stdio.h>

#define ANSWER_BYTES ((size_t)4 << 20)
#define RECORDING_BYTES ((size_t)64 << 20)
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
	if (!id.p)
		return voice_account_for(mode, ret);
	TRY(credential_open(arena, scope, "ultravox", id, &use));
	return own_account(mode, &use, ret);
}

enum fault voice_account_choose(struct arena *arena, const struct scope *scope, struct str mode, struct voice_account *ret)
{
	struct credential_use use;
	enum fault fault = credential_open(arena, scope, "ultravox", STR_NULL, &use);
	if (fault == FAULT_NOT_FOUND)
		return voice_account_for(mode, ret);
	TRY(fault);
	return own_account(mode, &use, ret);
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

static enum fault exchange(struct arena *arena, const struct voice_account *account, const char *method, struct str url,
	struct str body, size_t most, struct fetch *f)
{
	struct fetch_header headers[] = {
		{ "X-API-Key", account->api_key }, { "Accept", STR("*/*") }, { "Content-Type", STR("application/json") } };
	*f = (struct fetch){ .method = method, .url = url, .headers = headers, .header_count = body.p ? 3 : 2, .body = body,
		.timeout_ms = config.provider_timeout_ms, .most_bytes = most };
	int64_t started_us = clock_real_us();
	metric_add(METRIC_provider_requests, 1);
	enum fault fault = fetch_run(arena, f);
	f->headers = NULL;
	char status[16], took[24];
	snprintf(status, sizeof status, "%d", f->status);
	snprintf(took, sizeof took, "%.3f", (double)(clock_real_us() - started_us) / 1000);
	struct url parts;
	struct str path = url_read(url, &parts) ? str_copy(arena, parts.path) : STR("?");
	log_line(fault == OK && f->status < 400 ? LOG_INFO : LOG_WARN, "provider", "provider", "ultravox", "method", method,
		"path", path.p, "#status_code", status, "#duration_ms", took, "reason", fault == OK ? NULL : fault_note->message, NULL);
	if (fault != OK || f->status >= 400)
		metric_add(METRIC_provider_errors, 1);
	return fault;
}

static struct str url_of(struct arena *arena, const struct voice_account *account, const char *path)
{
	return str_format(arena, "%.*s%s", STRF(account->base_url), path);
}

struct voice_answer voice_create(struct arena *arena, const struct voice_account *account, const char *path,
	struct str body, const char *id_field)
{
	struct fetch f;
	struct voice_answer a = { .verdict = VOICE_AMBIGUOUS, .retry_after_s = -1 };
	enum fault fault = exchange(arena, account, "POST", url_of(arena, account, path), body, ANSWER_BYTES, &f);
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

enum fault voice_call(struct arena *arena, const struct voice_account *account, const char *method, const char *path,
	struct str body, json_t **ret_body)
{
	struct fetch f;
	TRY(exchange(arena, account, method, url_of(arena, account, path), body, ANSWER_BYTES, &f));
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

enum fault voice_find_agent(struct arena *arena, const struct voice_account *account, struct str reference, json_t **ret_agent)
{
	json_t *page, *one;
	size_t i;
	struct str path = str_format(arena, "/api/agents?search=%.*s&pageSize=10", STRF(reference));
	TRY(voice_call(arena, account, "GET", path.p, STR_NULL, &page));
	*ret_agent = NULL;
	json_array_foreach(json_object_get(page, "results"), i, one) {
		struct str name = json_text(one, "name");
		if (name.p && str_starts(name, reference.p))
			*ret_agent = one;
	}
	return OK;
}

enum fault voice_messages(struct arena *arena, const struct voice_account *account, struct str call_id, json_t **ret_array)
{
	json_t *all = json_array(), *page;
	arena_defer(arena, (void (*)(void *))json_decref, all);
	struct str path = str_format(arena, "/api/calls/%.*s/messages?mode=in_call&pageSize=100", STRF(call_id));
	for (int pages = 0; pages < MOST_PAGES; pages++) {
		TRY(voice_call(arena, account, "GET", path.p, STR_NULL, &page));
		json_array_extend(all, json_object_get(page, "results"));
		struct str next = json_text(page, "next");
		if (!next.n)
			break;
		if (!str_starts(next, account->base_url.p))	/* our key goes to no other host */
			return fault_raise(FAULT_IO, "The provider's next page is elsewhere");
		path = str_copy(arena, str_from(next, account->base_url.n));
	}
	*ret_array = all;
	return OK;
}

enum fault voice_recording(struct arena *arena, const struct voice_account *account, struct str call_id,
	struct str *ret_audio, struct str *ret_type)
{
	struct fetch f;
	struct str path = str_format(arena, "/api/calls/%.*s/recording", STRF(call_id));
	TRY(exchange(arena, account, "GET", url_of(arena, account, path.p), STR_NULL, RECORDING_BYTES, &f));
	if (f.status >= 300 && f.status < 400 && f.location.n) {
		f = (struct fetch){ .method = "GET", .url = f.location, .timeout_ms = config.provider_timeout_ms,
			.most_bytes = RECORDING_BYTES };
		TRY(fetch_run(arena, &f));
	}
	if (f.status == 404 || f.status == 425)
		return fault_raise(FAULT_NOT_FOUND, "The provider has no recording yet");
	if (f.status != 200)
		return fault_raise(FAULT_PROVIDER_ERROR, "Ultravox answered %d to a recording", f.status);
	*ret_audio = f.answer;
	*ret_type = f.content_type;
	return OK;
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
