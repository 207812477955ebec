/* What the till tells (https://docs.stripe.com/api/events/types). One grant a payment, however many events speak of it: its key is the
 * payment intent of a purchase, the invoice of a subscription's period. Events come in any order: what takes back waits for its
 * payment, and an older word never undoes a newer one. Metadata is believed only where it agrees with the customer we know; what
 * cannot be believed is kept unresolved for a person. */
#include "billing.h"
#include "billing.sql.h"
#include "../../0_base/clock.h"
#include "../../1_code/uuid.h"
#include "../../3_core/config.h"
#include "../../3_core/events.h"
#include "../../4_out/stripe.h"

#define WAIT_US (60 * US_PER_S)	/* for a payment that is told of later: 1, 2, 4 ... minutes, in all nearly three days */
#define WAITS 11

struct hearing {
	struct job *job;
	struct str inbound_id, id, type;	/* of the event */
	int64_t created;			/* Unix time, seconds */
	const json_t *object;
	bool live;
	struct scope *scope;
	const char *status;
	struct str why;
};

static int64_t integer(const json_t *object, const char *name) { return json_integer_value(json_object_get(object, name)); }

static enum fault unresolved(struct hearing *h, const char *why)
{
	h->status = "unresolved";
	h->why = str_of(why);
	return OK;
}

static enum fault ignored(struct hearing *h, const char *why)
{
	h->status = "ignored";
	h->why = str_of(why);
	return OK;
}

/* Whose payment is it? By metadata, else by customer; both must mean one client, of the event's mode. *ret false: unresolved. */
static enum fault find_client(struct hearing *h, const json_t *metadata, struct str customer, bool *ret)
{
	struct rows r;
	struct tx tx;
	struct str named = json_text(metadata, "client_id");
	*ret = false;
	if (named.n && !uuid_valid(named))
		return unresolved(h, "metadata names no client");
	system_read(&tx, h->job->arena);
	TRY(till_owner(&tx, (struct till_owner){ .customer = customer, .client_id = named.n ? named : STR_NULL }, &r));
	if (!r.count)
		return unresolved(h, "no client of ours");
	if (r.count > 1)
		return unresolved(h, "metadata and customer mean different clients");
	struct str known = pg_col(h->job->arena, &r, 0, "customer"), id = pg_col(h->job->arena, &r, 0, "client_id");
	if (named.n && !str_eq(named, id))
		return unresolved(h, "metadata and customer mean different clients");
	if (!known.n || !str_eq(known, customer))
		return unresolved(h, "the customer is not the one we know this client by");
	if (h->live != str_is(pg_col(h->job->arena, &r, 0, "mode"), "live"))
		return unresolved(h, "livemode does not match the client's mode");
	h->scope->client_id = id;
	h->scope->agency_id = pg_col(h->job->arena, &r, 0, "agency_id");
	h->scope->request_id = h->job->scope.request_id;
	*ret = true;
	return OK;
}

/* The grant, once; the purchase becomes paid with it. */
static enum fault grant(struct hearing *h, struct str key, struct str checkout_id, int64_t cents, struct str currency)
{
	struct arena *a = h->job->arena;
	struct rows checkout = { 0 }, made;
	struct tx tx;
	int64_t credits = cents / (config.credit_price_cents ? config.credit_price_cents : 1);
	TRY(tenant_begin(&tx, a, h->scope));
	if (checkout_id.n && uuid_valid(checkout_id))
		TRY(till_checkout(&tx, (struct till_checkout){ .id = checkout_id }, &checkout));
	if (checkout.count) {
		credits = pg_int(&checkout, 0, "credits");
		bool right = pg_int(&checkout, 0, "amount_cents") == cents && str_eq(pg_col(a, &checkout, 0, "currency"), currency);
		if (!right) {
			tx_abort(&tx);
			return unresolved(h, "amount or currency differ from the purchase");
		}
		till_checkout_moved_later(&tx, (struct till_checkout_moved){ .id = checkout_id, .status = STR("paid"),
			.payment_intent = str_starts(key, "pi_") ? key : STR_NULL }, NULL);
	} else if (!str_eq(currency, config.credit_currency) || credits < 1) {
		tx_abort(&tx);
		return unresolved(h, credits < 1 ? "less than one credit" : "another currency than credits are sold in");
	}
	TRY(till_grant(&tx, (struct till_grant){ .key = key, .credits = credits, .cents = cents, .currency = currency,
		.event = h->inbound_id }, &made));
	if (pg_bool(&made, 0, "granted")) {
		struct str id = pg_col(a, &made, 0, "id");
		event_emit(&tx, "credits.purchased", "credit_transaction", id, str_format(a, "{\"amount\":%lld,\"credits\":%lld,\"balance\":%lld,"
			"\"transaction_id\":\"%.*s\",\"reference_id\":\"%.*s\"}", (long long)credits, (long long)credits,
			(long long)pg_int(&made, 0, "balance"), STRF(id), STRF(key)));
	}
	return tx_commit(&tx);
}

static enum fault session(struct hearing *h)
{
	const json_t *o = h->object;
	struct str paid = json_text(o, "payment_status"), checkout_id = json_text(o, "metadata.checkout_id"), intent = json_text(o,
		"payment_intent");
	bool done = str_is(paid, "paid") || str_is(paid, "no_payment_required"), ours;
	bool failed = str_is(h->type, "checkout.session.async_payment_failed"), expired = str_is(h->type, "checkout.session.expired");
	struct tx tx;
	if (!str_is(json_text(o, "mode"), "payment"))
		return ignored(h, "its invoices tell of the payments");
	TRY(find_client(h, json_object_get(o, "metadata"), json_text(o, "customer"), &ours));
	if (!ours)
		return OK;
	if (failed || expired || !done) {
		if (!(failed || expired) || !uuid_valid(checkout_id))
			return ignored(h, "not paid yet");
		TRY(tenant_begin(&tx, h->job->arena, h->scope));
		till_checkout_moved_later(&tx, (struct till_checkout_moved){ .id = checkout_id, .status = failed
			? STR("failed") : STR("expired") }, NULL);
		return tx_commit(&tx);
	}
	return grant(h, intent.n ? intent : json_text(o, "id"), checkout_id, integer(o, "amount_total"), json_text(o, "currency"));
}

static enum fault intent(struct hearing *h)
{
	bool ours;
	if (!json_text(h->object, "metadata.checkout_id").n && !json_text(h->object, "metadata.client_id").n)
		return ignored(h, "not a purchase of credits");
	TRY(find_client(h, json_object_get(h->object, "metadata"), json_text(h->object, "customer"), &ours));
	return ours ? grant(h, json_text(h->object, "id"), json_text(h->object, "metadata.checkout_id"), integer(h->object, "amount_received"),
		json_text(h->object, "currency")) : OK;
}

static enum fault invoice(struct hearing *h)
{
	bool ours;
	TRY(find_client(h, NULL, json_text(h->object, "customer"), &ours));
	return ours ? grant(h, json_text(h->object, "id"), STR_NULL, integer(h->object, "amount_paid"), json_text(h->object, "currency")) : OK;
}

static enum fault subscription(struct hearing *h)
{
	static const char *const map[][2] = { { "active", "active" }, { "trialing", "active" }, { "past_due", "suspended" }, { "unpaid",
		"suspended" },
		{ "paused", "suspended" }, { "incomplete", "suspended" }, { "canceled", "cancelled" }, { "incomplete_expired", "cancelled" } };
	struct str status = json_text(h->object, "status"), customer = json_text(h->object, "customer");
	const char *ours = str_is(h->type, "customer.subscription.deleted") ? "cancelled" : NULL;
	struct rows changed;
	struct tx tx;
	bool known;
	for (size_t i = 0; !ours && i < sizeof map / sizeof *map; i++)
		if (str_is(status, map[i][0]))
			ours = map[i][1];
	if (!ours)
		return unresolved(h, "a subscription status that is not known here: nobody is activated by it");
	TRY(find_client(h, NULL, customer, &known));
	if (!known)
		return OK;
	TRY(tenant_begin(&tx, h->job->arena, h->scope));
	TRY(till_subscription(&tx, (struct till_subscription){ .status = str_of(ours), .customer = customer,
		.created = h->created, .first = str_is(h->type, "customer.subscription.created") }, &changed));
	if (changed.count)
		event_emit(&tx, strcmp(ours, "suspended") == 0 ? "client.suspended" : "client.updated", "client", h->scope->client_id,
			str_format(h->job->arena, "{\"client_id\":\"%.*s\",\"subscription_status\":\"%s\"}", STRF(h->scope->client_id), ours));
	return tx_commit(&tx);
}

/* refunded, disputed: cents in all of that payment; -1 = as it was. */
static enum fault reverse(struct hearing *h, struct str key, int64_t refunded, int64_t disputed, const char *event,
	const char *reference_type)
{
	struct arena *a = h->job->arena;
	struct rows owner, changed;
	struct tx tx;
	system_read(&tx, a);
	TRY(till_grant_owner(&tx, (struct till_grant_owner){ .key = key }, &owner));
	if (!owner.count && h->job->attempts > WAITS)
		return unresolved(h, "no purchase of ours was paid by it");
	if (!owner.count) {
		h->job->again_us = WAIT_US << (h->job->attempts > 0 ? h->job->attempts - 1 : 0);
		return fault_raise(FAULT_UNAVAILABLE, "Its payment has not been told of yet");
	}
	*h->scope = (struct scope){ .client_id = pg_col(a, &owner, 0, "client_id"), .agency_id = pg_col(a, &owner, 0, "agency_id") };
	TRY(tenant_begin(&tx, a, h->scope));
	till_checkout_of_later(&tx, (struct till_checkout_of){ .payment_intent = key, .status = refunded > 0 || disputed > 0 ? STR("reversed")
		: STR("paid") }, NULL);
	TRY(till_reverse(&tx, (struct till_reverse){ .key = key, .refunded = refunded, .disputed = disputed, .created = h->created,
		.type = str_of(reference_type), .reference = h->id }, &changed));
	int64_t credits = pg_int(&changed, 0, "changed");
	if (changed.count && credits)
		event_emit(&tx, event, "client", h->scope->client_id, str_format(a, "{\"amount\":%lld,\"credits\":%lld,\"balance\":%lld,"
			"\"transaction_id\":null,\"reference_id\":\"%.*s\"}", (long long)credits, (long long)-credits,
			(long long)pg_int(&changed, 0, "balance"), STRF(key)));
	return tx_commit(&tx);
}

/* A charge says in all what was refunded of it; a refund names its charge, which is asked. */
static enum fault refund(struct hearing *h)
{
	const json_t *charge = h->object;
	if (!str_is(h->type, "charge.refunded")) {
		struct till till;
		json_t *read;
		struct str id = json_text(h->object, "charge");
		if (!id.n)
			return ignored(h, "names no charge");
		TRY(till_open(h->live ? STR("live") : STR("test"), h->job->scope.request_id, &till));
		TRY(till_get(h->job->arena, &till, str_format(h->job->arena, "/v1/charges/%.*s", STRF(id)).p, &read));
		charge = read;
	}
	struct str key = json_text(charge, "payment_intent");
	return key.n ? reverse(h, key, integer(charge, "amount_refunded"), -1, "credits.refunded", "stripe_refund") : ignored(h,
		"names no payment");
}

static enum fault dispute(struct hearing *h)
{
	bool withdrawn = str_is(h->type, "charge.dispute.funds_withdrawn");
	struct str key = json_text(h->object, "payment_intent");
	if (!withdrawn && !str_is(h->type, "charge.dispute.funds_reinstated"))
		return ignored(h, "no money moves with it");
	return key.n ? reverse(h, key, -1, withdrawn ? integer(h->object, "amount") : 0, "credits.reversed", "stripe_dispute")
		: ignored(h, "names no payment");
}

enum fault till_hear(struct job *job, struct str inbound_id, const json_t *event, struct scope *scope, const char **ret_status,
	struct str *ret_why)
{
	struct hearing h = { .job = job, .inbound_id = inbound_id, .id = json_text(event, "id"), .type = json_text(event, "type"),
		.created = integer(event, "created"),
		.object = json_at(event, "data.object"), .live = json_is_true(json_object_get(event, "livemode")), .scope = scope,
		.status = "processed" };
	enum fault fault;
	if (str_starts(h.type, "checkout.session."))
		fault = session(&h);
	else if (str_is(h.type, "payment_intent.succeeded"))
		fault = intent(&h);
	else if (str_is(h.type, "invoice.paid"))
		fault = invoice(&h);
	else if (str_starts(h.type, "customer.subscription."))
		fault = subscription(&h);
	else if (str_is(h.type, "charge.refunded") || str_starts(h.type, "refund."))
		fault = refund(&h);
	else if (str_starts(h.type, "charge.dispute."))
		fault = dispute(&h);
	else
		fault = ignored(&h, "of no meaning here");
	*ret_status = h.status;
	*ret_why = h.why;
	return fault;
}
