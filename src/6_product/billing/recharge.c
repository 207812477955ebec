/* Auto-recharge: when the balance falls below the client's threshold, and the client has said so (settings.auto_recharge), the card that
 * paid on a page before pays again without one (https://docs.stripe.com/payments/save-during-payment). The payment is a purchase like
 * any other: its row's id is Stripe's idempotency key, and its event grants the credits. A card that is refused is tried again only
 * after the balance has been above the threshold. */
#include "billing.h"
#include "billing.sql.h"
#include "../../0_base/clock.h"
#include "../../1_code/url.h"
#include "../../1_code/uuid.h"
#include "../../3_core/config.h"
#include "../../3_core/events.h"
#include "../../4_out/stripe.h"

struct recharge {
	struct job *job;
	struct rows p;			/* the prospect */
	struct str id, customer;	/* of the purchase; of the till */
	int64_t credits;
};

static enum fault refused(struct recharge *r, struct str why)
{
	struct arena *a = r->job->arena;
	struct buf data = BUF_IN(a, 4096);
	struct tx tx;
	TRY(tenant_begin(&tx, a, &r->job->scope));
	if (r->id.p)
		checkouts_failed_later(&tx, (struct checkouts_failed){ .id = r->id, .error = why }, NULL);
	job_done(r->job, &tx);
	buf_format(&data, "{\"credits\":%lld,\"reason\":", (long long)r->credits);
	buf_json(&data, why);
	buf_char(&data, '}');
	event_emit(&tx, "credits.recharge.failed", "client", r->job->scope.client_id, buf_view(&data));
	return tx_commit(&tx);
}

/* The purchase, noted in the job so that its repetition goes on with the same one. */
static enum fault begin(struct recharge *r)
{
	struct tx tx;
	struct str id = uuid_make(r->job->arena);
	TRY(tenant_begin(&tx, r->job->arena, &r->job->scope));
	recharge_insert_later(&tx, (struct recharge_insert){ .id = id, .credits = r->credits, .cents = r->credits * config.credit_price_cents,
		.currency = config.credit_currency }, NULL);
	job_note(r->job, &tx, str_format(r->job->arena, "{\"checkout_id\":\"%.*s\"}", STRF(id)));
	TRY(tx_commit(&tx));
	r->id = id;
	return OK;
}

static enum fault pay(struct recharge *r, const struct till *till, struct str *ret_intent, struct str *ret_status)
{
	struct arena *a = r->job->arena;
	struct buf path = BUF_IN(a, 512);
	json_t *cards, *made;
	buf_text(&path, "/v1/customers/");
	url_escape(&path, r->customer, false);
	buf_text(&path, "/payment_methods?type=card&limit=1");
	TRY(till_get(a, till, str_copy(a, buf_view(&path)).p, &cards));
	struct str card = json_text(json_array_get(json_object_get(cards, "data"), 0), "id");
	if (!card.n)
		return fault_raise(FAULT_PROVIDER_ERROR, "No card is saved: one purchase on the payment page saves it");
	struct till_field fields[] = { { "amount", str_format(a, "%lld", (long long)(r->credits * config.credit_price_cents)) },
		{ "currency", config.credit_currency }, { "customer", r->customer }, { "payment_method", card }, { "off_session", STR("true") },
		{ "confirm", STR("true") }, { "description", str_format(a, "%lld credits", (long long)r->credits) },
		{ "metadata[client_id]", r->job->scope.client_id }, { "metadata[checkout_id]", r->id } };
	TRY(till_post(a, till, "/v1/payment_intents", fields, sizeof fields / sizeof *fields, r->id, &made));
	*ret_intent = json_text(made, "id");
	*ret_status = json_text(made, "status");
	return OK;
}

enum fault credits_recharge(struct job *job)
{
	struct recharge r = { .job = job, .id = json_text(job->payload, "checkout_id") };
	struct arena *a = job->arena;
	struct str intent = STR_NULL, status = STR_NULL;
	struct till till;
	struct tx tx;
	tenant_read(&tx, a, &job->scope);
	TRY(recharge_prospect(&tx, (struct recharge_prospect){ .id = r.id }, &r.p));
	if (!r.p.count || !pg_bool(&r.p, 0, "wanted"))
		return OK;
	r.customer = pg_col(a, &r.p, 0, "customer");
	r.credits = pg_int(&r.p, 0, "credits");
	if (!r.customer.n)
		return refused(&r, STR("No card is saved: one purchase on the payment page saves it"));
	if (!r.id.p && pg_int(&r.p, 0, "today") >= pg_int(&r.p, 0, "most"))
		return refused(&r, STR("The day's recharges are used up"));
	if (!r.id.p && pg_int(&r.p, 0, "balance") + r.credits > pg_int(&r.p, 0, "credits_ceiling"))
		return refused(&r, STR("It would exceed the client's credits_ceiling"));
	if (till_open(pg_col(a, &r.p, 0, "mode"), job->scope.request_id, &till) != OK)
		return refused(&r, str_copy(a, str_of(fault_note->message)));
	if (!r.id.p)
		TRY(begin(&r));
	enum fault fault = pay(&r, &till, &intent, &status);
	if (fault != OK && fault != FAULT_PROVIDER_ERROR && job->attempts < PROVIDER_TRIES) {
		job->again_us = provider_pause_us(job->attempts, fault_note->retry_after_s);
		return fault;
	}
	if (fault != OK)
		return refused(&r, str_copy(a, str_of(fault_note->message)));
	if (!str_is(status, "succeeded") && !str_is(status, "processing"))
		return refused(&r, str_format(a, "The payment needs its payer: %.*s", STRF(status)));
	TRY(tenant_begin(&tx, a, &job->scope));
	recharge_sent_later(&tx, (struct recharge_sent){ .id = r.id, .payment_intent = intent }, NULL);
	job_done(job, &tx);
	return tx_commit(&tx);
}
