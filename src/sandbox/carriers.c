/* Telnyx's numbers (v2: search, orders, owned numbers) and ElevenLabs' voice clones. An order takes 5 s; a number that ends in 99 cannot
 * be had. The account owns +15005550006 to +15005550015 from the start. */
#include "sandbox.h"
#include "../0_base/clock.h"
#include "../1_code/url.h"
#include "../1_code/uuid.h"
#include <stdio.h>
#include <stdlib.h>

#define ORDER_US (5 * US_PER_S)
#define FIRST_OWNED 15005550006LL

static struct number {
	struct number *next;
	struct str id, number;
	bool gone;
} *numbers;
static struct order {
	struct order *next;
	struct str id, number, reference;
	int64_t done_us;
} *orders;
static struct clone {
	struct clone *next;
	struct str id, name;
	bool gone;
} *clones;

static void error(struct http_request *r, int status, const char *code, const char *title)
{
	http_reply(r, status, "application/json", str_format(r->arena,
		"{\"errors\":[{\"code\":\"%s\",\"title\":\"%s\",\"detail\":\"%s\"}]}", code,
		title, title));
}

static struct number *own(struct str number)
{
	struct number *n = must_alloc(sizeof *n);
	struct arena *arena = arena_make();
	*n = (struct number){ .next = numbers, .id = keep(uuid_make(arena)), .number = keep(number) };
	arena_drop(arena);
	return numbers = n;
}

static void begin(void)
{
	char text[32];
	for (long long i = 0; !numbers && i < 1; i++)
		for (long long k = 9; k >= 0; k--) {
			snprintf(text, sizeof text, "+%lld", FIRST_OWNED + k);
			own(str_of(text));
		}
}

static struct number *owned(struct str number, struct str id)
{
	for (struct number *n = numbers; n; n = n->next)
		if (!n->gone && (str_eq(n->number, number) || str_eq(n->id, id)))
			return n;
	return NULL;
}

static json_t *number_json(const struct number *n)
{
	return json_pack("{s:s,s:s,s:s,s:s,s:n,s:[]}", "id", n->id.p, "record_type", "phone_number", "phone_number", n->number.p,
		"status", "active",
		"connection_id", "tags");
}

static json_t *order_json(const struct order *o)
{
	bool bad = str_ends(o->number, "99");
	const char *status = clock_now_us() < o->done_us ? "pending" : bad ? "failure" : "success";
	return json_pack("{s:s,s:s,s:s,s:s,s:i,s:b,s:[{s:s,s:s,s:s}]}", "id", o->id.p, "record_type", "number_order", "status", status,
		"customer_reference", o->reference.p, "phone_numbers_count", 1, "requirements_met", 1, "phone_numbers", "id", o->id.p,
		"phone_number",
		o->number.p, "status", status);
}

static void order_done(void *argument)
{
	struct order *o = argument;
	struct arena *arena = arena_make();
	if (!str_ends(o->number, "99"))
		own(o->number);
	json_t *event = json_pack("{s:{s:s,s:s,s:s,s:o,s:o},s:{s:i}}", "data", "record_type", "event", "event_type",
		"number_order.complete", "id",
		uuid_make(arena).p, "occurred_at", now_text(), "payload", order_json(o), "meta", "attempt", 1);
	post_telnyx_json(json_dump(arena, event));
	json_decref(event);
	arena_drop(arena);
}

static void order_make(struct http_request *r, const json_t *in)
{
	struct str number = json_text(json_array_get(json_object_get(in, "phone_numbers"), 0), "phone_number");
	if (!number.n) {
		error(r, 422, "10015", "phone_numbers is required");
		return;
	}
	struct order *o = must_alloc(sizeof *o);
	*o = (struct order){ .next = orders, .id = keep(uuid_make(r->arena)), .number = keep(number),
		.reference = keep(json_text(in, "customer_reference")), .done_us = clock_now_us() + ORDER_US };
	orders = o;
	timer_at(o->done_us, order_done, o);
	json_t *out = json_pack("{s:o}", "data", order_json(o));
	say(r, 200, out);
	json_decref(out);
}

static void data(struct http_request *r, json_t *list)
{
	json_t *out = json_pack("{s:o,s:{s:i,s:i,s:i,s:i}}", "data", list, "meta", "page_number", 1, "page_size", 250, "total_pages", 1,
		"total_results", (int)json_array_size(list));
	say(r, 200, out);
	json_decref(out);
}

static void order_list(struct http_request *r)
{
	struct str reference = url_query(r->arena, r->query, "filter[customer_reference]");
	json_t *list = json_array();
	for (struct order *o = orders; o; o = o->next)
		if (!reference.n || str_eq(o->reference, reference))
			json_array_append_new(list, order_json(o));
	data(r, list);
}

static void search(struct http_request *r)
{
	struct str area = url_query(r->arena, r->query, "filter[national_destination_code]"), contains = url_query(r->arena, r->query,
		"filter[phone_number][contains]");
	int64_t most = 10;
	str_int(url_query(r->arena, r->query, "filter[limit]"), &most);
	json_t *list = json_array();
	for (int i = 0; i < 100 && (int64_t)json_array_size(list) < most; i++) {
		struct str number = str_format(r->arena, "+1%.*s55502%02d", STRF(area.n == 3 ? area : STR("312")), i);
		if (owned(number, STR("-")) || (contains.n && !strstr(number.p, contains.p)))
			continue;
		json_array_append_new(list, json_pack("{s:s,s:s,s:[{s:s},{s:s}],s:{s:s,s:s,s:s},s:b}", "record_type", "available_phone_number",
			"phone_number", number.p, "features", "name", "voice", "name", "sms", "cost_information", "upfront_cost", "1.00000",
			"monthly_cost",
			"1.00000", "currency", "USD", "reservable", 1));
	}
	data(r, list);
}

static void number_list(struct http_request *r)
{
	struct str wanted = url_query(r->arena, r->query, "filter[phone_number]");
	json_t *list = json_array();
	for (struct number *n = numbers; n; n = n->next)
		if (!n->gone && (!wanted.n || str_eq(n->number, wanted)))
			json_array_append_new(list, number_json(n));
	data(r, list);
}

static void number_one(struct http_request *r, struct str id)
{
	struct number *n = owned(STR("-"), id);
	if (!n) {
		error(r, 404, "10005", "Resource not found");
		return;
	}
	n->gone = str_is(r->method, "DELETE");
	json_t *out = json_pack("{s:o}", "data", number_json(n));
	say(r, 200, out);
	json_decref(out);
}

static void order_one(struct http_request *r, struct str id)
{
	for (struct order *o = orders; o; o = o->next)
		if (str_eq(o->id, id)) {
			json_t *out = json_pack("{s:o}", "data", order_json(o));
			say(r, 200, out);
			json_decref(out);
			return;
		}
	error(r, 404, "10005", "Resource not found");
}

bool telnyx_handle(struct http_request *r, struct str body)
{
	struct str rest = r->path;
	json_t *in = NULL;
	if (!str_starts(rest, "/v2/") || str_starts(rest, "/v2/voices"))
		return false;
	begin();
	if (!str_starts(http_header(r, "authorization"), "Bearer ")) {
		error(r, 401, "10009", "Authentication failed");
		return true;
	}
	if (body.n && json_read(r->arena, body, &in) != OK) {
		error(r, 400, "10015", "Bad Request");
		return true;
	}
	rest = str_from(rest, 4);
	struct str area = str_cut(&rest, '/'), id = rest;
	if (str_is(area, "available_phone_numbers"))
		search(r);
	else if (str_is(area, "number_orders") && str_is(r->method, "POST"))
		order_make(r, in);
	else if (str_is(area, "number_orders"))
		id.n ? order_one(r, id) : order_list(r);
	else if (str_is(area, "phone_numbers"))
		id.n ? number_one(r, id) : number_list(r);
	else
		error(r, 404, "10005", "Resource not found");
	return true;
}

static void clone_add(struct http_request *r, struct str body)
{
	struct form_field name, file;
	struct str rest = body;
	bool good = form_part(r, &rest, "name", &name) && name.value.n;
	rest = body;
	if (!good || !form_part(r, &rest, "files", &file) || !file.value.n) {
		http_reply(r, 422, "application/json", STR("{\"detail\":[{\"loc\":[\"body\",\"files\"],"
			"\"msg\":\"Field required\",\"type\":\"missing\"}]}"));
		return;
	}
	if (memmem(name.value.p, name.value.n, "broken", 6)) {
		http_reply(r, 400, "application/json", STR("{\"detail\":{\"status\":\"voice_limit_reached\",\"message\":\"You have reached your "
			"voice limit.\"}}"));
		return;
	}
	struct clone *c = must_alloc(sizeof *c);
	*c = (struct clone){ .next = clones, .id = keep(uuid_make(r->arena)), .name = keep(name.value) };
	clones = c;
	http_reply(r, 200, "application/json", str_format(r->arena, "{\"voice_id\":\"%.*s\",\"requires_verification\":false}", STRF(c->id)));
}

bool elevenlabs_handle(struct http_request *r, struct str body)
{
	if (!str_starts(r->path, "/v1/voices") && !str_starts(r->path, "/v2/voices"))
		return false;
	if (!http_header(r, "xi-api-key").n) {
		http_reply(r, 401, "application/json", STR("{\"detail\":{\"status\":\"invalid_api_key\",\"message\":\"Invalid API key\"}}"));
		return true;
	}
	if (str_is(r->path, "/v1/voices/add") && str_is(r->method, "POST")) {
		clone_add(r, body);
		return true;
	}
	struct str search = url_query(r->arena, r->query, "search");
	json_t *list = json_array();
	bool done = false;
	for (struct clone *c = clones; c; c = c->next) {
		if (str_is(r->method, "DELETE") && !c->gone && str_ends(r->path, c->id.p))
			done = c->gone = true;
		if (!c->gone && (!search.n || strstr(c->name.p, search.p)))
			json_array_append_new(list, json_pack("{s:s,s:s,s:s}", "voice_id", c->id.p, "name", c->name.p, "category", "cloned"));
	}
	if (str_is(r->method, "DELETE")) {
		http_reply(r, done ? 200 : 400, "application/json", done ? STR("{\"status\":\"ok\"}") : STR("{\"detail\":{\"status\":"
			"\"voice_does_not_exist\",\"message\":\"no such voice\"}}"));
		json_decref(list);
		return true;
	}
	json_t *out = json_pack("{s:o,s:b,s:i,s:n}", "voices", list, "has_more", 0, "total_count", (int)json_array_size(list),
		"next_page_token");
	say(r, 200, out);
	json_decref(out);
	return true;
}
