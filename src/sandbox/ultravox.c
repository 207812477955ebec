/* Ultravox's API as far as Trunkline uses it: agents, calls, messages, recordings, webhooks, account.
 * Answers carry every field that the provider's schema requires. */
#include "sandbox.h"
#include "../0_base/clock.h"
#include "../1_code/url.h"
#include "../1_code/uuid.h"
#include <stdio.h>
#include <stdlib.h>

struct call *calls_first;
static struct call **calls_last = &calls_first;
static struct map calls, by_reference, agents, tries;
static struct agent {
	struct agent *next;
	json_t *object;
} *agents_first;

/* agents */

static void agent_create(struct http_request *r, const json_t *in)
{
	struct str id = uuid_make(r->arena);
	if (!json_text(in, "name").n || str_chars(json_text(in, "name")) > 64) {
		refuse(r, 400, "name: must have 1..64 characters");
		return;
	}
	struct agent *a = must_alloc(sizeof *a);
	a->object = json_pack("{s:s,s:n,s:O,s:o,s:{s:i}}", "agentId", id.p, "publishedRevisionId", "name", json_object_get(in, "name"),
		"created", now_text(), "statistics", "calls", 0);
	json_t *template = json_object_get(in, "callTemplate");
	if (template)
		json_object_set(a->object, "callTemplate", template);
	a->next = agents_first;
	agents_first = a;
	map_put(&agents, id, a);
	say(r, 201, a->object);
}

static void agent_one(struct http_request *r, struct str id, const json_t *in)
{
	struct agent *a = map_get(&agents, id);
	if (!a) {
		refuse(r, 404, "No Agent matches the given query.");
	} else if (str_is(r->method, "DELETE")) {
		map_put(&agents, id, NULL);
		http_reply(r, 204, NULL, STR(""));
	} else {
		if (str_is(r->method, "PATCH") && json_object_get(in, "name"))
			json_object_set(a->object, "name", json_object_get(in, "name"));
		if (str_is(r->method, "PATCH") && json_object_get(in, "callTemplate"))
			json_object_set(a->object, "callTemplate", json_object_get(in, "callTemplate"));
		say(r, 200, a->object);
	}
}

static void agent_list(struct http_request *r)
{
	struct str search = url_query(r->arena, r->query, "search");
	json_t *all = json_array();
	for (struct agent *a = agents_first; a; a = a->next)
		if (map_get(&agents, json_text(a->object, "agentId")) && (!search.n || strstr(json_text(a->object, "name").p, search.p)))
			json_array_append(all, a->object);
	say_page(r, all);
}

/* calls */

static json_t *or_null(const json_t *in, const char *name)
{
	json_t *value = json_object_get(in, name);
	return value ? json_incref(value) : json_null();
}

static json_t *call_object(struct http_request *r, const struct agent *agent, const json_t *in, struct str id)
{
	static const char *const nulls[] = { "clientVersion", "joined", "ended", "endReason", "billedDuration", "billedSideInputTokens",
		"billedSideOutputTokens", "shortSummary", "summary", "sipDetails", "joinUrl" };
	json_t *template = json_object_get(agent->object, "callTemplate"), *o = json_object(), *max = json_object_get(in, "maxDuration");
	max = max ? max : json_object_get(template, "maxDuration");
	(void)r;
	json_object_set_new(o, "callId", json_string(id.p));
	for (size_t i = 0; i < sizeof nulls / sizeof *nulls; i++)
		json_object_set_new(o, nulls[i], json_null());
	json_object_set_new(o, "created", now_text());
	json_object_set_new(o, "billingStatus", json_string("BILLING_STATUS_PENDING"));
	json_object_set_new(o, "firstSpeaker", json_string("FIRST_SPEAKER_USER"));
	json_object_set_new(o, "firstSpeakerSettings", json_pack("{s:{}}", "user"));
	json_object_set_new(o, "initialOutputMedium", json_string("MESSAGE_MEDIUM_VOICE"));
	json_object_set_new(o, "joinTimeout", json_object_get(in, "joinTimeout") ? or_null(in, "joinTimeout") : json_string("30s"));
	json_object_set_new(o, "maxDuration", max ? json_incref(max) : json_string("3600s"));
	json_object_set_new(o, "medium", or_null(in, "medium"));
	json_object_set_new(o, "model", json_object_get(template, "model") ? or_null(template, "model") : json_string("ultravox-v0.7"));
	json_object_set_new(o, "recordingEnabled", json_boolean(json_is_true(json_object_get(in, "recordingEnabled"))));
	json_object_set_new(o, "agent", json_pack("{s:O,s:O}", "agentId", json_object_get(agent->object, "agentId"), "name",
		json_object_get(agent->object, "name")));
	json_object_set(o, "agentId", json_object_get(agent->object, "agentId"));
	json_object_set_new(o, "metadata", json_object_get(in, "metadata") ? or_null(in, "metadata") : json_object());
	json_object_set_new(o, "experimentalSettings", json_object());
	json_object_set_new(o, "initialState", json_object());
	json_object_set_new(o, "requestContext", json_object());
	return o;
}

static struct call *call_make(struct http_request *r, const struct agent *agent, const json_t *in)
{
	struct call *c = must_alloc(sizeof *c);
	struct str id = uuid_make(r->arena);
	c->object = call_object(r, agent, in, id);
	c->id = keep(id);
	c->to = keep(json_text(in, "medium.telnyx.outgoing.to"));
	c->from = keep(json_text(in, "medium.telnyx.outgoing.from"));
	c->callback = keep(json_text(in, "medium.telnyx.outgoing.additionalParams.StatusCallback"));
	c->reference = keep(json_text(in, "metadata.trunkline_call_id"));
	c->created_us = clock_now_us();
	c->live = true;
	c->outcome = outcome_of(r->arena, c->to.n ? c->to : STR("+15555550100"), &c->talk_s);	/* who has a join URL joins in a moment */
	if (!c->to.n)
		json_object_set_new(c->object, "joinUrl", json_string(str_format(r->arena, "wss://sandbox.invalid/calls/%.*s", STRF(id)).p));
	*calls_last = c;
	calls_last = &c->next;
	map_put(&calls, c->id, c);
	if (c->reference.n) {
		struct call *older = map_get(&by_reference, c->reference);
		if (!older)
			map_put(&by_reference, c->reference, c);
	}
	return c;
}

static struct {
	int64_t per_second, per_minute, concurrent, in_second, in_minute, second, minute;
} plan;

void ultravox_limits(int64_t per_second, int64_t per_minute, int64_t concurrent)
{
	plan.per_second = per_second, plan.per_minute = per_minute, plan.concurrent = concurrent;
	plan.in_second = plan.in_minute = 0;
}

static bool over_plan(void)
{
	int64_t now_s = clock_now_us() / US_PER_S, live = 0;
	if (now_s != plan.second)
		plan.second = now_s, plan.in_second = 0;
	if (now_s / 60 != plan.minute)
		plan.minute = now_s / 60, plan.in_minute = 0;
	for (struct call *c = plan.concurrent ? calls_first : NULL; c; c = c->next)
		live += c->live;
	if ((plan.per_second && plan.in_second >= plan.per_second) || (plan.per_minute && plan.in_minute >= plan.per_minute) ||
	    (plan.concurrent && live >= plan.concurrent))
		return true;
	plan.in_second++, plan.in_minute++;
	return false;
}

/* How often this creation was tried: per reference, so that two calls to one number do not mix. */
static long tries_of(struct http_request *r, const json_t *in)
{
	struct str key = json_text(in, "metadata.trunkline_call_id");
	(void)r;
	long n = (long)(intptr_t)map_get(&tries, key) + 1;
	map_put(&tries, key, (void *)(intptr_t)n);
	return n;
}

static void call_create(struct http_request *r, struct str agent_id, const json_t *in, bool *ret_hang)
{
	struct agent *agent = map_get(&agents, agent_id);
	struct str to = json_text(in, "medium.telnyx.outgoing.to");
	bool special = to.n > 7 && memcmp(to.p + to.n - 7, "55501", 5) == 0;
	int last = special ? (to.p[to.n - 2] - '0') * 10 + to.p[to.n - 1] - '0' : -1;
	if (!agent) {
		refuse(r, 404, "No Agent matches the given query.");
		return;
	}
	if (!to.n && json_object_get(in, "medium") && !json_at(in, "medium.telnyx") && !json_at(in, "medium.webRtc")) {
		refuse(r, 400, "medium: only telnyx and webRtc are known here");
		return;
	}
	if (over_plan()) {
		http_reply_header(r, "Retry-After", STR("1"));
		refuse(r, 429, "Request was throttled.");
		return;
	}
	long n = last == 20 || last == 22 ? tries_of(r, in) : 0;
	if (last == 20 && n <= 2) {
		refuse(r, 500, "Internal server error");
		return;
	}
	if (last == 22 && n == 1) {
		http_reply_header(r, "Retry-After", STR("2"));
		refuse(r, 429, "Request was throttled.");
		return;
	}
	if (last == 23) {	/* hangs until the caller gives up; there is no call */
		*ret_hang = true;
		return;
	}
	struct call *c = call_make(r, agent, in);
	say(r, 201, c->object);
	outcome_start(c);
	r->reply_break = last == 21;
}

void ultravox_ring(struct http_request *r, struct str agent_id, struct str from, struct str to)
{
	struct agent *agent = map_get(&agents, agent_id);
	if (!agent) {
		refuse(r, 404, "No Agent matches the given query.");
		return;
	}
	json_t *in = json_pack("{s:{s:{}},s:b}", "medium", "telnyx", "recordingEnabled", 1);
	struct call *c = call_make(r, agent, in);
	json_object_set_new(c->object, "requestContext", json_pack("{s:s#,s:s#}", "From", from.n ? from.p : "", (int)from.n, "To", to.n
		? to.p : "",
		(int)to.n));
	json_decref(in);
	say(r, 201, c->object);
	outcome_start(c);
}

static void call_list(struct http_request *r)
{
	struct str reference = url_query(r->arena, r->query, "metadata.trunkline_call_id");
	json_t *all = json_array();
	for (struct call *c = reference.p ? map_get(&by_reference, reference) : calls_first; c; c = reference.p ? NULL : c->next)
		if (!c->deleted)
			json_array_append(all, c->object);
	say_page(r, all);
}

static void call_one(struct http_request *r, struct str id, struct str part, const json_t *in)
{
	struct call *c = map_get(&calls, id);
	if (!c || c->deleted) {
		refuse(r, 404, "No Call matches the given query.");
	} else if (!part.n && str_is(r->method, "DELETE")) {
		c->deleted = true;
		http_reply(r, 204, NULL, STR(""));
	} else if (!part.n) {
		say(r, 200, c->object);
	} else if (str_is(part, "messages")) {
		say_page(r, outcome_messages(c));
	} else if (str_is(part, "recording")) {
		bool there = !c->live && json_is_string(json_object_get(c->object, "joined")) && clock_now_us() >= c->recording_us &&
			json_is_true(json_object_get(c->object, "recordingEnabled"));
		if (there)
			say_part(r, "audio/wav", outcome_recording(r->arena, c));
		else
			refuse(r, 404, "Not found.");
	} else if (str_is(part, "send_data_message")) {
		if (!c->live) {
			refuse(r, 422, "The call is not active.");
			return;
		}
		if (str_is(json_text(in, "type"), "hang_up"))
			outcome_hang_up(c, "agent_hangup");
		http_reply(r, 204, NULL, STR(""));
	} else {
		refuse(r, 404, "Not found.");
	}
}

/* webhooks */

static void webhook_create(struct http_request *r, const json_t *in)
{
	if (!json_text(in, "url").n || !json_array_size(json_object_get(in, "events"))) {
		refuse(r, 400, "url and events are required");
		return;
	}
	struct webhook *w = must_alloc(sizeof *w);
	w->object = json_pack("{s:s,s:O,s:O,s:o,s:s,s:n,s:[],s:n}", "webhookId", uuid_make(r->arena).p, "url", json_object_get(in, "url"),
		"events", json_object_get(in, "events"), "created", now_text(), "status", "normal", "lastStatusChange", "recentFailures",
		"agentId");
	json_t *secrets = json_object_get(in, "secrets");
	json_object_set_new(w->object, "secrets", json_array_size(secrets) ? json_incref(secrets)
		: json_pack("[s]", uuid_make(r->arena).p));
	w->next = webhooks;
	webhooks = w;
	say(r, 201, w->object);
}

static void webhook_one(struct http_request *r, struct str id, const json_t *in)
{
	static const char *const fields[] = { "url", "events", "secrets" };
	for (struct webhook **p = &webhooks; *p; p = &(*p)->next) {
		struct webhook *w = *p;
		if (!str_eq(json_text(w->object, "webhookId"), id))
			continue;
		if (str_is(r->method, "DELETE")) {
			*p = w->next;
			http_reply(r, 204, NULL, STR(""));
			return;
		}
		for (int i = 0; i < 3 && !str_is(r->method, "GET"); i++)
			if (json_object_get(in, fields[i]))
				json_object_set(w->object, fields[i], json_object_get(in, fields[i]));
		say(r, 200, w->object);
		return;
	}
	refuse(r, 404, "No Webhook matches the given query.");
}

static void webhook_list(struct http_request *r)
{
	json_t *all = json_array();
	for (struct webhook *w = webhooks; w; w = w->next)
		json_array_append(all, w->object);
	say_page(r, all);
}

/* Speech providers' keys of an account, by its API key: what comes back is a prefix (schema AccountTtsKeys). */
static void tts_keys(struct http_request *r, json_t *in)
{
	static json_t *accounts;
	static const char *const names[] = { "elevenLabs", "cartesia", "lmnt", "google", "inworld", "respeecher" };
	struct str key = http_header(r, "x-api-key");
	if (!accounts)
		accounts = json_object();
	json_t *mine = json_object_getn(accounts, key.p, key.n);
	if (!mine)
		json_object_setn_new(accounts, key.p, key.n, mine = json_object());
	for (size_t i = 0; str_is(r->method, "PATCH") && i < sizeof names / sizeof *names; i++) {
		json_t *value = json_object_get(in, names[i]);
		if (json_is_string(value) && str_starts(str_of(json_string_value(value)), "broken")) {
			refuse(r, 400, "The key was refused by its provider.");
			return;
		}
		if (json_is_string(value))
			json_object_set_new(mine, names[i], json_pack("{s:s#}", "prefix", json_string_value(value), 4));
		else if (json_is_null(value))
			json_object_del(mine, names[i]);
	}
	say(r, 200, mine);
}

bool ultravox_handle(struct http_request *r, struct str body, bool *ret_hang)
{
	struct str rest = r->path;
	json_t *in = NULL;
	if (!str_starts(rest, "/api/"))
		return false;
	if (!http_header(r, "x-api-key").n) {
		refuse(r, 401, "Authentication credentials were not provided.");
		return true;
	}
	if (body.n && !str_starts(http_header(r, "content-type"), "multipart/") && json_read(r->arena, body, &in) != OK) {
		refuse(r, 400, "JSON parse error");
		return true;
	}
	rest = str_from(rest, 5);
	struct str area = str_cut(&rest, '/'), id = str_cut(&rest, '/'), part = rest;
	bool post = str_is(r->method, "POST");
	if (str_is(area, "agents") && !id.n)
		post ? agent_create(r, in) : agent_list(r);
	else if (str_is(area, "agents") && str_is(part, "calls") && post)
		call_create(r, id, in, ret_hang);
	else if (str_is(area, "agents") && !part.n)
		agent_one(r, id, in);
	else if (str_is(area, "calls") && !id.n && !post)
		call_list(r);
	else if (str_is(area, "calls") && id.n)
		call_one(r, id, part, in);
	else if (str_is(area, "accounts") && str_is(id, "me") && str_is(part, "tts_api_keys"))
		tts_keys(r, in);
	else if (str_is(area, "webhooks") && !id.n)
		post ? webhook_create(r, in) : webhook_list(r);
	else if (str_is(area, "webhooks"))
		webhook_one(r, id, in);
	else if (!making_handle(r, area, id, part, in, body))
		refuse(r, 404, "Not found.");
	return true;
}
