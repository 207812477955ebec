/* Stripe's till as far as Trunkline uses it: customers, checkout sessions, charges; and its events, signed. Form bodies, JSON answers,
 * idempotency by key. Paid, refunded and disputed by the control routes. */
#include "sandbox.h"
#include "../0_base/clock.h"
#include "../1_code/url.h"
#include "../1_code/uuid.h"
#include <stdlib.h>

static struct answered {	/* by idempotency key */
	struct answered *next;
	struct str key, path, body, answer;
} *answers;
static struct session {
	struct session *next;
	json_t *object;
	struct str id, intent, charge;
	int64_t amount, refunded;
	bool saves, paid;	/* the card is kept for later */
} *sessions;

static struct str id_of(struct arena *arena, const char *prefix)
{
	struct str uuid = uuid_make(arena);
	struct buf b = BUF_IN(arena, 128);
	buf_text(&b, prefix);
	for (size_t i = 0; i < uuid.n; i++)
		if (uuid.p[i] != '-')
			buf_char(&b, uuid.p[i]);
	return buf_view(&b);
}

static void error(struct http_request *r, int status, const char *type, const char *message)
{
	http_reply(r, status, "application/json", str_format(r->arena, "{\"error\":{\"type\":\"%s\",\"message\":\"%s\"}}", type, message));
}

static json_t *text(struct http_request *r, struct str body, const char *name)
{
	struct str value = url_query(r->arena, body, name);
	return value.p ? json_stringn(value.p, value.n) : json_null();
}

static json_t *metadata(struct http_request *r, struct str body, const char *prefix)
{
	json_t *m = json_object();
	static const char *const names[] = { "client_id", "checkout_id" };
	for (int i = 0; i < 2; i++) {
		struct str name = str_format(r->arena, "%s[%s]", prefix, names[i]), value = url_query(r->arena, body, name.p);
		if (value.p)
			json_object_set_new(m, names[i], json_stringn(value.p, value.n));
	}
	return m;
}

static void customer_make(struct http_request *r, struct str body)
{
	json_t *o = json_pack("{s:s,s:s,s:o,s:o,s:o,s:b}", "id", id_of(r->arena, "cus_").p, "object", "customer", "name", text(r, body,
		"name"), "email",
		text(r, body, "email"), "metadata", metadata(r, body, "metadata"), "livemode", 0);
	say(r, 200, o);
	json_decref(o);
}

static void session_make(struct http_request *r, struct str body)
{
	int64_t amount = 0, quantity = 1;
	str_int(url_query(r->arena, body, "line_items[0][price_data][unit_amount]"), &amount);
	str_int(url_query(r->arena, body, "line_items[0][quantity]"), &quantity);
	if (amount <= 0 || !url_query(r->arena, body, "success_url").n || !url_query(r->arena, body, "mode").n) {
		error(r, 400, "invalid_request_error", "Missing required param: line_items, mode or success_url.");
		return;
	}
	struct session *s = must_alloc(sizeof *s);
	struct str id = id_of(r->arena, "cs_test_");
	*s = (struct session){ .next = sessions, .id = keep(id), .intent = keep(id_of(r->arena, "pi_")), .charge = keep(id_of(r->arena, "ch_")),
		.amount = amount * quantity,
		.saves = str_is(url_query(r->arena, body, "payment_intent_data[setup_future_usage]"), "off_session") };
	sessions = s;
	s->object = json_pack("{s:s,s:s,s:o,s:s,s:s,s:n,s:o,s:o,s:I,s:o,s:o,s:b,s:s,s:I}", "id", s->id.p, "object", "checkout.session", "mode",
		text(r, body, "mode"), "status", "open", "payment_status", "unpaid", "payment_intent", "customer", text(r, body, "customer"),
		"client_reference_id", text(r, body, "client_reference_id"), "amount_total", (json_int_t)s->amount, "currency",
		text(r, body, "line_items[0][price_data][currency]"), "metadata", metadata(r, body, "metadata"), "livemode", 0, "url",
		str_format(r->arena, "https://checkout.stripe.invalid/c/%.*s", STRF(s->id)).p, "expires_at",
		(json_int_t)(clock_now_us() / US_PER_S + 86400));
	say(r, 200, s->object);
}

static json_t *charge_of(const struct session *s)
{
	return json_pack("{s:s,s:s,s:I,s:I,s:b,s:s,s:O,s:O,s:b}", "id", s->charge.p, "object", "charge", "amount", (json_int_t)s->amount,
		"amount_refunded", (json_int_t)s->refunded, "refunded", s->refunded >= s->amount, "payment_intent", s->intent.p, "customer",
		json_object_get(s->object, "customer"), "currency", json_object_get(s->object, "currency"), "livemode", 0);
}

static struct session *find(struct str id)
{
	for (struct session *s = sessions; s; s = s->next)
		if (str_eq(s->id, id) || str_eq(s->charge, id) || str_eq(s->intent, id))
			return s;
	return NULL;
}

static void tell(const char *type, json_t *object)
{
	struct arena *arena = arena_make();
	json_t *event = json_pack("{s:s,s:s,s:s,s:I,s:s,s:b,s:i,s:n,s:{s:o}}", "id", id_of(arena, "evt_").p, "object", "event", "api_version",
		"2026-09-30.endive", "created", (json_int_t)(clock_now_us() / US_PER_S), "type", type, "livemode", 0, "pending_webhooks", 1,
		"request",
		"data", "object", object);
	post_stripe(json_dump(arena, event));
	json_decref(event);
	arena_drop(arena);
}

static json_t *intent_of(const struct session *s)
{
	return json_pack("{s:s,s:s,s:I,s:I,s:O,s:O,s:O,s:s,s:s}", "id", s->intent.p, "object", "payment_intent", "amount",
		(json_int_t)s->amount, "amount_received", (json_int_t)s->amount, "currency", json_object_get(s->object, "currency"), "customer",
		json_object_get(s->object, "customer"), "metadata", json_object_get(s->object, "metadata"), "latest_charge", s->charge.p, "status",
		"succeeded");
}

/* The cards that a customer saved when paying on a page. */
static void cards(struct http_request *r, struct str customer)
{
	json_t *o = json_pack("{s:s,s:[],s:b}", "object", "list", "data", "has_more", 0);
	for (struct session *s = sessions; s; s = s->next)
		if (s->paid && s->saves && str_eq(json_text(s->object, "customer"), customer))
			json_array_append_new(json_object_get(o, "data"), json_pack("{s:s,s:s,s:s,s:s}", "id",
				str_format(r->arena, "pm_%.*s", STRF(str_from(s->charge, 3))).p, "object", "payment_method", "type", "card", "customer",
				customer.p));
	say(r, 200, o);
	json_decref(o);
}

/* A payment without a page: made and confirmed at once, by a card saved before. */
static void intent_make(struct http_request *r, struct str body)
{
	int64_t amount = 0;
	struct str card = url_query(r->arena, body, "payment_method");
	str_int(url_query(r->arena, body, "amount"), &amount);
	if (amount <= 0 || !str_starts(card, "pm_") || !str_is(url_query(r->arena, body, "confirm"), "true")) {
		error(r, 400, "invalid_request_error", "Missing required param: amount, payment_method or confirm.");
		return;
	}
	struct session *s = must_alloc(sizeof *s);
	*s = (struct session){ .next = sessions, .id = keep(id_of(r->arena, "auto_")), .intent = keep(id_of(r->arena, "pi_")),
		.charge = keep(id_of(r->arena, "ch_")), .amount = amount, .paid = true };
	sessions = s;
	s->object = json_pack("{s:o,s:o,s:o}", "customer", text(r, body, "customer"), "currency", text(r, body, "currency"), "metadata",
		metadata(r, body, "metadata"));
	json_t *made = intent_of(s);
	tell("payment_intent.succeeded", json_deep_copy(made));
	say(r, 200, made);
	json_decref(made);
}

static void pay(struct http_request *r, struct session *s)
{
	s->paid = true;
	json_object_set_new(s->object, "status", json_string("complete"));
	json_object_set_new(s->object, "payment_status", json_string("paid"));
	json_object_set_new(s->object, "payment_intent", json_string(s->intent.p));
	tell("payment_intent.succeeded", intent_of(s));
	tell("checkout.session.completed", json_deep_copy(s->object));
	say(r, 200, s->object);
}

/* refund {session, amount}; dispute {session, amount, won}. */
void stripe_control(struct http_request *r, struct str what, const json_t *in)
{
	struct str rest = what, verb = str_cut(&rest, '/');
	struct session *s = str_is(verb, "checkout") ? find(str_cut(&rest, '/')) : find(json_text(in, "session"));
	json_t *amount = json_object_get(in, "amount");
	if (!s) {
		refuse(r, 404, "no such session");
	} else if (str_is(verb, "checkout")) {
		pay(r, s);
	} else if (str_is(verb, "refund")) {
		s->refunded += json_is_integer(amount) ? json_integer_value(amount) : s->amount - s->refunded;
		tell("charge.refunded", charge_of(s));
		tell("refund.created", json_pack("{s:s,s:s,s:I,s:s,s:s,s:s}", "id", "re_1", "object", "refund", "amount", (json_int_t)s->refunded,
			"charge", s->charge.p, "payment_intent", s->intent.p, "status", "succeeded"));
		http_reply(r, 200, "application/json", STR("{}"));
	} else {
		bool won = json_is_true(json_object_get(in, "won"));
		tell(won ? "charge.dispute.funds_reinstated" : "charge.dispute.funds_withdrawn", json_pack("{s:s,s:s,s:I,s:s,s:s,s:s}",
			"id", "dp_1",
			"object", "dispute", "amount", json_is_integer(amount) ? json_integer_value(amount) : (json_int_t)s->amount, "charge",
			s->charge.p,
			"payment_intent", s->intent.p, "status", won ? "won" : "needs_response"));
		http_reply(r, 200, "application/json", STR("{}"));
	}
}

bool stripe_handle(struct http_request *r, struct str body)
{
	struct str rest = r->path, key = http_header(r, "idempotency-key");
	if (!str_starts(rest, "/v1/") || str_starts(rest, "/v1/voices"))
		return false;
	rest = str_from(rest, 4);
	if (!str_starts(http_header(r, "authorization"), "Bearer sk_")) {
		error(r, 401, "invalid_request_error", "You did not provide an API key.");
		return true;
	}
	for (struct answered *a = answers; a && key.n; a = a->next)
		if (str_eq(a->key, key)) {
			bool same = str_eq(a->path, r->path) && str_eq(a->body, body);
			if (same)
				http_reply(r, 200, "application/json", str_copy(r->arena, a->answer));
			else
				error(r, 400, "idempotency_error", "Keys for idempotent requests can only be used with the same parameters.");
			return true;
		}
	bool post = str_is(r->method, "POST");
	if (post && str_is(rest, "customers")) {
		customer_make(r, body);
	} else if (post && str_is(rest, "checkout/sessions")) {
		session_make(r, body);
	} else if (post && str_is(rest, "payment_intents")) {
		intent_make(r, body);
	} else if (!post && str_starts(rest, "customers/")) {
		struct str tail = str_from(rest, 10);
		cards(r, str_copy(r->arena, str_cut(&tail, '/')));
	} else if (!post && str_starts(rest, "charges/") && find(str_from(rest, 8))) {
		json_t *charge = charge_of(find(str_from(rest, 8)));
		say(r, 200, charge);
		json_decref(charge);
	} else {
		error(r, 404, "invalid_request_error", "Unrecognized request URL.");
	}
	if (post && key.n && r->status == 200) {
		struct answered *a = must_alloc(sizeof *a);
		*a = (struct answered){ .next = answers, .key = keep(key), .path = keep(r->path), .body = keep(body),
			.answer = keep(r->reply_body) };
		answers = a;
	}
	return true;
}
