/* Balance, transactions, adjustments, checkouts. The ledger itself is SQL: db/schema, functions ledger_*. */
#include "billing.h"
#include "billing.sql.h"
#include "../../1_code/url.h"
#include "../../1_code/uuid.h"
#include "../../3_core/config.h"
#include "../../3_core/effect.h"
#include "../../3_core/events.h"
#include "../../4_out/stripe.h"

#define TYPES "purchased,spent,refunded,adjusted,reversed"
#define REFERENCES "voice_training,call,stripe_payment,stripe_refund,stripe_dispute,manual_adjustment"

static const struct shape_field balance_fields[] = {
	{ "balance", SHAPE_INT, .doc = "credits owned, held ones included" },
	{ "held", SHAPE_INT, .doc = "reserved for calls under way" },
	{ "available", SHAPE_INT },
	{ "debt", SHAPE_INT, .doc = "of payments taken back after their credits were spent" },
	{ "price_per_minute", SHAPE_INT },
	{ "credits_ceiling", SHAPE_INT },
	{ "low_balance_threshold", SHAPE_INT, SHAPE_MAYBE },
	{ "as_of", SHAPE_TIME },
};
static const struct shape balance_shape = SHAPE("balance", balance_fields);

static const struct shape_field transaction_fields[] = {
	{ "id", SHAPE_UUID },
	{ "client_id", SHAPE_UUID },
	{ "type", SHAPE_ENUM, .values = TYPES },
	{ "amount", SHAPE_INT },
	{ "delta", SHAPE_INT, .doc = "with its sign" },
	{ "balance_after", SHAPE_INT },
	{ "reference_type", SHAPE_ENUM, .values = REFERENCES },
	{ "reference_id", SHAPE_TEXT },
	{ "description", SHAPE_TEXT, SHAPE_MAYBE },
	{ "estimated", SHAPE_BOOL, .doc = "the provider's bill never came" },
	{ "created_at", SHAPE_TIME },
	{ "updated_at", SHAPE_TIME },
};
const struct shape transaction_shape = SHAPE("credit_transaction", transaction_fields);

struct adjustment {
	int64_t amount;
	struct str reason;
};
#define FIELD(in, field, ...) { .name = #field, .offset = offsetof(struct in, field), __VA_ARGS__ }
static const struct shape_field adjustment_fields[] = {
	FIELD(adjustment, amount, .type = SHAPE_INT, .flags = SHAPE_REQUIRED, .min = -1000000, .max = 1000000, .doc = "not 0"),
	FIELD(adjustment, reason, .type = SHAPE_TEXT, .flags = SHAPE_REQUIRED, .min = 3, .max = 500),
};
static const struct shape adjustment_shape = SHAPE("credit_adjustment", adjustment_fields);

struct checkout_new {
	int64_t credits;
	struct str success_url, cancel_url;
};
static const struct shape_field checkout_new_fields[] = {
	FIELD(checkout_new, credits, .type = SHAPE_INT, .flags = SHAPE_REQUIRED, .min = 5, .max = 100000),
	FIELD(checkout_new, success_url, .type = SHAPE_URL, .flags = SHAPE_REQUIRED, .doc = "its host must stand in settings.return_hosts"),
	FIELD(checkout_new, cancel_url, .type = SHAPE_URL, .flags = SHAPE_REQUIRED),
};
static const struct shape checkout_new_shape = SHAPE("checkout_new", checkout_new_fields);
static const struct shape_field checkout_fields[] = {
	{ "id", SHAPE_UUID },
	{ "client_id", SHAPE_UUID },
	{ "session_id", SHAPE_TEXT, SHAPE_MAYBE },
	{ "url", SHAPE_TEXT, SHAPE_MAYBE, .doc = "where to send the payer" },
	{ "credits", SHAPE_INT },
	{ "amount_cents", SHAPE_INT },
	{ "currency", SHAPE_TEXT },
	{ "status", SHAPE_ENUM, .values = "pending,open,paid,expired,failed,reversed" },
	{ "origin", SHAPE_ENUM, .values = "page,auto", .doc = "auto: paid by the saved card when the balance was low" },
	{ "sync_status", SHAPE_ENUM, .values = "synced,pending,failed" },
	{ "last_error", SHAPE_TEXT, SHAPE_OMIT },
	{ "expires_at", SHAPE_TIME, SHAPE_MAYBE },
	{ "created_at", SHAPE_TIME },
	{ "updated_at", SHAPE_TIME },
};
static const struct shape checkout_shape = SHAPE("checkout", checkout_fields);

static enum fault balance(struct req *req)
{
	struct rows row;
	struct tx tx;
	TRY(req_need_client(req));
	req_read(req, &tx);
	TRY(billing_balance(&tx, (struct billing_balance){ 0 }, &row));
	if (!row.count)
		return fault_raise(FAULT_NOT_FOUND, "This client has no account");
	reply_row(req, 200, &balance_shape, &row, 0);
	return OK;
}

static enum fault transactions(struct req *req)
{
	static const char *const filters[] = { "type", "reference_type", "reference_id", NULL };
	struct page page;
	struct rows rows;
	struct tx tx;
	TRY(req_page(req, filters, &page));
	req_read(req, &tx);
	TRY(transactions_list(&tx, (struct transactions_list){ .type = req_enum_filter(req, "type", TYPES),
		.reference_type = req_enum_filter(req, "reference_type", REFERENCES), .reference_id = req_query(req, "reference_id"),
		PAGE_OF(page) }, &rows));
	reply_list(req, &transaction_shape, &rows, page.limit, page.filters);
	return OK;
}

/* By hand, with a reason, by the agency alone. Never below what is available. */
static enum fault adjust(struct req *req)
{
	struct adjustment *in = req->in;
	struct rows row, now;
	struct str id = uuid_make(req->arena);
	TRY(req_need_client(req));
	if (!in->amount)
		return fault_field("amount", "must not be 0");
	TRY(req_begin(req));
	TRY(req_judged(req));
	billing_adjust_later(&req->tx, (struct billing_adjust){ .id = id, .amount = in->amount, .reason = in->reason }, NULL);
	transactions_get_later(&req->tx, (struct transactions_get){ .id = id }, &row);
	TRY(billing_balance(&req->tx, (struct billing_balance){ 0 }, &now));
	reply_row(req, 201, &transaction_shape, &row, 0);
	event_emit(&req->tx, "credits.adjusted", "credit_transaction", id, str_format(req->arena,
		"{\"amount\":%lld,\"credits\":%lld,\"balance\":%lld,\"transaction_id\":\"%.*s\",\"reference_id\":\"%.*s\"}", (long long)in->amount,
		(long long)in->amount, (long long)pg_int(&now, 0, "balance"), STRF(id), STRF(id)));
	return req_commit(req, false);
}

/* Payers are sent back only to hosts that the client has named. */
static enum fault check_return(struct str text, const char *field, const json_t *hosts)
{
	struct url url;
	size_t i;
	json_t *one;
	if (!url_read(text, &url))
		return fault_field(field, "must be a URL");
	json_array_foreach(hosts, i, one)
		if (json_is_string(one) && str_is(url.host, json_string_value(one)))
			return OK;
	return fault_field(field, "must lead to a host in the client's settings.return_hosts");
}

static enum fault load_row(struct tx *tx, struct str id, struct rows *ret) { return checkouts_get(tx,
	(struct checkouts_get){ .id = id }, ret); }
static const struct effect opening = { "checkout.open", "checkout", "checkout", "stripe", &checkout_shape, load_row };

static enum fault checkout(struct req *req)
{
	struct checkout_new *in = req->in;
	struct rows p, row;
	struct till till;
	json_t *hosts = NULL;
	struct str id = uuid_make(req->arena);
	TRY(req_need_client(req));
	TRY(req_begin(req));
	TRY(checkout_prospect(&req->tx, (struct checkout_prospect){ 0 }, &p));
	TRY(till_open(pg_col(req->arena, &p, 0, "mode"), req->request_id, &till));
	if (!pg_null(&p, 0, "return_hosts"))
		TRY(json_read_any(req->arena, pg_col(req->arena, &p, 0, "return_hosts"), &hosts));
	TRY(check_return(in->success_url, "success_url", hosts));
	TRY(check_return(in->cancel_url, "cancel_url", hosts));
	if (pg_int(&p, 0, "balance") + in->credits > pg_int(&p, 0, "credits_ceiling"))
		return fault_field("credits", "would exceed the client's credits_ceiling");
	checkouts_insert_later(&req->tx, (struct checkouts_insert){ .id = id, .credits = in->credits,
		.cents = in->credits * config.credit_price_cents, .currency = config.credit_currency, .success_url = in->success_url,
		.cancel_url = in->cancel_url }, NULL);
	TRY(checkouts_get(&req->tx, (struct checkouts_get){ .id = id }, &row));
	effect_location(req, "billing/checkouts", id);
	return effect_run(req, &opening, id, &row, STR_NULL, NULL, STR_NULL, 201);
}

static enum fault get_checkout(struct req *req) { return effect_get(req, &opening); }

/* A customer once, then the session; each POST with a key of its own, so a repeated one gives what the first one made. */
enum fault checkout_open(struct job *job)
{
	struct arena *a = job->arena;
	struct till till;
	struct rows row, kept;
	struct tx tx;
	json_t *made;
	tenant_read(&tx, a, &job->scope);
	TRY(checkouts_load(&tx, (struct checkouts_load){ .id = job->resource_id }, &row));
	if (!row.count || !str_is(pg_col(a, &row, 0, "status"), "pending"))
		return OK;
	TRY(till_open(pg_col(a, &row, 0, "mode"), job->scope.request_id, &till));
	struct str customer = pg_col(a, &row, 0, "customer"), client = job->scope.client_id, id = job->resource_id;
	enum fault fault = OK;
	if (!customer.n) {
		struct till_field fields[] = { { "name", pg_col(a, &row, 0, "client_name") }, { "email", pg_col(a, &row, 0, "client_email") },
			{ "metadata[client_id]", client } };
		fault = till_post(a, &till, "/v1/customers", fields, 3, str_format(a, "customer-%.*s", STRF(client)), &made);
		if (fault == OK) {
			TRY(tenant_begin(&tx, a, &job->scope));
			TRY(customer_keep(&tx, (struct customer_keep){ .customer = json_text(made, "id") }, &kept));
			TRY(tx_commit(&tx));
			customer = pg_col(a, &kept, 0, "customer");
		}
	}
	if (fault == OK) {
		struct str credits = str_format(a, "%lld", (long long)pg_int(&row, 0, "credits"));
		bool saves = pg_bool(&row, 0, "saves");	/* the card, to recharge with */
		struct till_field fields[] = { { "mode", STR("payment") }, { "customer", customer }, { "client_reference_id", client },
			{ "line_items[0][quantity]", STR("1") }, { "line_items[0][price_data][currency]", pg_col(a, &row, 0, "currency") },
			{ "line_items[0][price_data][unit_amount]", str_format(a, "%lld", (long long)pg_int(&row, 0, "amount_cents")) },
			{ "line_items[0][price_data][product_data][name]", str_format(a, "%.*s credits", STRF(credits)) },
			{ "success_url", pg_col(a, &row, 0, "success_url") }, { "cancel_url", pg_col(a, &row, 0, "cancel_url") },
			{ "metadata[client_id]", client }, { "metadata[checkout_id]", id },
			{ "payment_intent_data[metadata][client_id]", client }, { "payment_intent_data[metadata][checkout_id]", id },
			{ "payment_intent_data[setup_future_usage]", STR("off_session") } };
		fault = till_post(a, &till, "/v1/checkout/sessions", fields, sizeof fields / sizeof *fields - !saves, id, &made);
	}
	if (fault != OK && fault != FAULT_PROVIDER_ERROR && job->attempts < PROVIDER_TRIES) {
		job->again_us = provider_pause_us(job->attempts, fault_note->retry_after_s);
		return fault;
	}
	struct str why = fault == OK ? STR_NULL : str_copy(a, str_of(fault_note->message));
	TRY(tenant_begin(&tx, a, &job->scope));
	if (fault == OK)
		checkouts_opened_later(&tx, (struct checkouts_opened){ .id = id, .session_id = json_text(made, "id"), .url = json_text(made, "url"),
			.expires = json_integer_value(json_object_get(made, "expires_at")) }, NULL);
	else
		checkouts_failed_later(&tx, (struct checkouts_failed){ .id = id, .error = why }, NULL);
	job_done(job, &tx);
	return tx_commit(&tx);
}

const struct route billing_routes[] = {
	{ "GET", API "/billing/balance", ROLE_R, "billing:read", balance, .out = &balance_shape, .status = 200, .summary = "Read the balance" },
	{ "GET", API "/billing/transactions", ROLE_R, "billing:read", transactions, .out = &transaction_shape, .status = 200,
		.flags = ROUTE_LIST,
		.query = "type,reference_type,reference_id,created_after,created_before", .summary = "List credit transactions, newest first" },
	{ "POST", API "/billing/adjustments", AGENCY_ADMIN, "billing:write", adjust, &adjustment_shape, sizeof(struct adjustment),
		&transaction_shape,
		201, .summary = "Add or take credits by hand" },
	{ "POST", API "/billing/checkout", ROLE_W, "billing:write", checkout, &checkout_new_shape, sizeof(struct checkout_new),
		&checkout_shape, 201,
		.flags = ROUTE_ASYNC, .summary = "Buy credits: a payment page at Stripe" },
	{ "GET", API "/billing/checkouts/{id}", ROLE_R, "billing:read", get_checkout, .out = &checkout_shape, .status = 200,
		.summary = "Read a purchase" },
	{ 0 },
};

const struct job_kind billing_jobs[] = {
	{ "checkout.open", "q-artifacts-sync", checkout_open, 1000 },
	{ "credits.recharge", "q-artifacts-sync", credits_recharge, 1000 },
	{ 0 },
};
