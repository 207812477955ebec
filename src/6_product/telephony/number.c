/* Numbers at the carrier: one order each, bearing our reference; what is assigned; what is given back. */
#include "telephony.h"
#include "telephony.sql.h"
#include "../../0_base/clock.h"
#include "../../1_code/url.h"
#include "../../1_code/uuid.h"
#include "../../3_core/events.h"
#include "../../4_out/telnyx.h"

#define POLL_US (30 * US_PER_S)
#define PATIENCE_US (72 * 3600 * US_PER_S)

struct work {
	struct job *job;
	struct rows row;
	struct carrier_account account;
};

static struct str column(const struct work *w, const char *name) { return pg_col(w->job->arena, &w->row, 0, name); }

struct str number_event_data(struct arena *arena, struct str id, struct str number, struct str error)
{
	struct buf b = BUF_IN(arena, 4096);
	buf_format(&b, "{\"number_id\":\"%.*s\",\"phone_number\":\"%.*s\"", STRF(id), STRF(number));
	if (error.p) {
		buf_text(&b, ",\"error_message\":");
		buf_json(&b, error);
	}
	buf_char(&b, '}');
	return buf_view(&b);
}

/* failed or released, once. */
static enum fault end(struct work *w, const char *status, struct str error)
{
	struct arena *a = w->job->arena;
	struct str id = w->job->resource_id;
	struct rows ended;
	struct tx tx;
	TRY(tenant_begin(&tx, a, &w->job->scope));
	orders_end_later(&tx, (struct orders_end){ .number_id = id, .status = STR("failure") }, NULL);
	job_done(w->job, &tx);
	TRY(numbers_end(&tx, (struct numbers_end){ .id = id, .status = str_of(status), .error = error }, &ended));
	if (ended.count)
		event_emit(&tx, error.p ? "number.failed" : "number.released", "number", id, number_event_data(a, id, column(w,
			"phone_number"), error));
	return tx_commit(&tx);
}

/* Put back, or failed when the carrier has said no or three days are over. */
static enum fault judge(struct work *w, enum fault fault)
{
	struct str why = str_copy(w->job->arena, str_of(fault_note->message));
	bool late = clock_now_us() > pg_time_us(&w->row, 0, "created_at") + PATIENCE_US;
	if (fault == FAULT_PROVIDER_ERROR || fault == FAULT_NOT_FOUND || (late && str_is(column(w, "status"), "pending")))
		return end(w, "failed", why);
	w->job->again_us = provider_pause_us(w->job->attempts, fault_note->retry_after_s);
	return fault;
}

static enum fault park(struct work *w)
{
	struct tx tx;
	if (clock_now_us() > pg_time_us(&w->row, 0, "created_at") + PATIENCE_US)
		return end(w, "failed", STR("The carrier did not finish the order within three days"));
	TRY(tenant_begin(&tx, w->job->arena, &w->job->scope));
	job_park(w->job, &tx, clock_now_us() + POLL_US, STR_NULL);
	return tx_commit(&tx);
}

/* An import that cannot be: the request is told, and no row stays. */
static enum fault forget(struct work *w)
{
	struct tx tx;
	TRY(tenant_begin(&tx, w->job->arena, &w->job->scope));
	numbers_forget_later(&tx, (struct numbers_forget){ .id = w->job->resource_id }, NULL);
	job_done(w->job, &tx);
	return tx_commit(&tx);
}

/* Owned: by the carrier's own list, which alone gives the number's id. In use by somebody else here: not ours after all. */
static enum fault activate(struct work *w)
{
	struct arena *a = w->job->arena;
	struct str id = w->job->resource_id;
	struct rows done;
	struct tx tx;
	json_t *owned;
	bool import = str_is(column(w, "origin"), "import");
	enum fault fault = carrier_find_number(a, &w->account, column(w, "phone_number"), &owned);
	if (fault == FAULT_NOT_FOUND && import)
		return forget(w);
	if (fault != OK)
		return judge(w, fault);
	TRY(tenant_begin(&tx, a, &w->job->scope));
	TRY(numbers_active(&tx, (struct numbers_active){ .id = id, .provider_id = json_text(owned, "id"),
		.credential_id = w->account.credential_id, .features = STR("[\"voice\"]") }, &done));
	if (!done.count) {
		tx_abort(&tx);
		if (import)
			return forget(w);
		return end(w, "failed", STR("This number is in use by another client of this installation"));
	}
	orders_end_later(&tx, (struct orders_end){ .number_id = id, .status = STR("success") }, NULL);
	job_done(w->job, &tx);
	event_emit(&tx, "number.active", "number", id, number_event_data(a, id, column(w, "phone_number"), STR_NULL));
	return tx_commit(&tx);
}

static enum fault open(struct work *w, bool *ret_go)
{
	struct tx tx;
	*ret_go = false;
	tenant_read(&tx, w->job->arena, &w->job->scope);
	TRY(numbers_load(&tx, (struct numbers_load){ .id = w->job->resource_id }, &w->row));
	if (!w->row.count)
		return OK;
	enum fault fault = carrier_open(w->job->arena, &w->job->scope, column(w, "mode"), column(w, "credential_id"), &w->account);
	if (fault == FAULT_NOT_FOUND || fault == FAULT_UNAVAILABLE)
		return str_is(column(w, "status"), "pending") ? judge(w, FAULT_NOT_FOUND) : fault;
	*ret_go = fault == OK;
	return fault;
}

/* What the order says of itself and of its one number. */
static enum fault follow(struct work *w, const json_t *order)
{
	json_t *number = json_array_get(json_object_get(order, "phone_numbers"), 0);
	struct str status = json_text(order, "status"), one = json_text(number, "status");
	if (str_is(status, "pending"))
		return park(w);
	if (!str_is(status, "success") || (one.n && !str_is(one, "success")))
		return end(w, "failed", str_format(w->job->arena, "The carrier's order ended as %.*s", STRF(one.n ? one : status)));
	return activate(w);
}

static enum fault placed(struct work *w, struct str order_id)
{
	struct tx tx;
	TRY(tenant_begin(&tx, w->job->arena, &w->job->scope));
	orders_placed_later(&tx, (struct orders_placed){ .number_id = w->job->resource_id, .provider_id = order_id }, NULL);
	job_park(w->job, &tx, clock_now_us() + POLL_US, STR_NULL);
	return tx_commit(&tx);
}

static enum fault place(struct work *w)
{
	struct job *job = w->job;
	struct tx tx;
	json_t *order;
	if (json_object_get(job->payload, "posted")) {
		enum fault fault = carrier_find_order(job->arena, &w->account, job->resource_id, &order);
		if (fault != OK)
			return judge(w, fault);
		if (order)
			return placed(w, json_text(order, "id"));
		if (json_object_get(job->payload, "heard"))	/* only the purchase itself ever orders */
			return OK;
	}
	TRY(tenant_begin(&tx, job->arena, &job->scope));
	job_note(job, &tx, STR("{\"posted\":true}"));
	TRY(tx_commit(&tx));
	struct voice_answer v = carrier_order(job->arena, &w->account, column(w, "phone_number"), job->resource_id);
	struct str why = str_format(job->arena, "Telnyx answered %d: %.*s", v.http_status, STRF(v.problem));
	if (v.verdict == VOICE_ACCEPTED)
		return placed(w, v.id);
	fault_raise(v.verdict == VOICE_REFUSED ? FAULT_PROVIDER_ERROR : FAULT_IO, "%.*s", STRF(why));
	fault_note->retry_after_s = v.retry_after_s > 0 ? v.retry_after_s : 0;
	return judge(w, v.verdict == VOICE_REFUSED ? FAULT_PROVIDER_ERROR : FAULT_IO);
}

/* A purchase, or (without an order) an import: the account owns it already, or it does not. */
enum fault number_order(struct job *job)
{
	struct work w = { .job = job };
	json_t *order;
	bool go;
	TRY(open(&w, &go));
	if (!go || !str_is(column(&w, "status"), "pending"))
		return OK;
	if (str_is(column(&w, "origin"), "import"))
		return activate(&w);
	struct str order_id = column(&w, "provider_order_id");
	if (!order_id.n)
		return place(&w);
	enum fault fault = carrier_call(job->arena, &w.account, "GET", str_format(job->arena, "/v2/number_orders/%.*s",
		STRF(order_id)).p, STR_NULL,
		&order);
	return fault == OK ? follow(&w, order) : judge(&w, fault);
}

static enum fault synced(struct work *w, const char *status, struct str error)
{
	struct tx tx;
	TRY(tenant_begin(&tx, w->job->arena, &w->job->scope));
	numbers_synced_later(&tx, (struct numbers_synced){ .id = w->job->resource_id, .status = str_of(status), .error = error }, NULL);
	job_done(w->job, &tx);
	return tx_commit(&tx);
}

/* The carrier learns whom the number serves; or it goes back, if it was bought here. */
enum fault number_push(struct job *job)
{
	struct work w = { .job = job };
	struct arena *a = job->arena;
	json_t *ignored;
	bool go;
	TRY(open(&w, &go));
	if (!go || !str_is(column(&w, "status"), "active"))
		return OK;
	struct str path = str_format(a, "/v2/phone_numbers/%.*s", STRF(column(&w, "provider_number_id")));
	bool releasing = pg_bool(&w.row, 0, "releasing");
	if (releasing && str_is(column(&w, "origin"), "import"))
		return end(&w, "released", STR_NULL);
	struct buf b = BUF_IN(a, 4096);
	buf_text(&b, "{\"customer_reference\":");
	buf_json(&b, job->resource_id);
	buf_format(&b, ",\"tags\":[\"trunkline\"%s%s]", pg_null(&w.row, 0, "agent_id") ? "" : ",\"inbound\"",
		pg_null(&w.row, 0, "outbound_agent_id") ? "" : ",\"outbound\"");
	if (w.account.connection_id.n) {
		buf_text(&b, ",\"connection_id\":");
		buf_json(&b, w.account.connection_id);
	}
	buf_char(&b, '}');
	enum fault fault = carrier_call(a, &w.account, releasing ? "DELETE" : "PATCH", path.p, releasing ? STR_NULL : buf_view(&b), &ignored);
	if (releasing && (fault == OK || fault == FAULT_NOT_FOUND))
		return end(&w, "released", STR_NULL);
	if (fault == OK)
		return synced(&w, "synced", STR_NULL);
	if (fault == FAULT_PROVIDER_ERROR || fault == FAULT_NOT_FOUND || (!releasing && job->attempts >= PROVIDER_TRIES))
		return synced(&w, "failed", str_copy(a, str_of(fault_note->message)));
	job->again_us = provider_pause_us(job->attempts, fault_note->retry_after_s);
	return fault;
}

static void put_filter(struct buf *b, const char *name, struct str value)
{
	if (!value.n)
		return;
	buf_format(b, "&filter%s=", name);
	url_escape(b, value, false);
}

/* One offered number in our words: amounts stay the carrier's decimals, as numbers. */
static void put_offer(struct buf *b, const json_t *offer)
{
	json_t *features = json_object_get(offer, "features"), *one;
	size_t i;
	buf_text(b, "{\"phone_number\":");
	buf_json(b, json_text(offer, "phone_number"));
	buf_text(b, ",\"features\":[");
	json_array_foreach(features, i, one) {
		buf_text(b, i ? "," : "");
		buf_json(b, json_text(one, "name"));
	}
	static const char *const costs[] = { "upfront_cost", "monthly_cost" };
	buf_char(b, ']');
	for (int c = 0; c < 2; c++) {
		struct str cost = json_text(offer, c ? "cost_information.monthly_cost" : "cost_information.upfront_cost");
		buf_format(b, ",\"%s\":%.5g", costs[c], cost.n ? strtod(cost.p, NULL) : 0);
	}
	buf_text(b, ",\"currency\":");
	buf_json(b, json_text(offer, "cost_information.currency"));
	buf_char(b, '}');
}

enum fault number_search(struct job *job)
{
	struct arena *a = job->arena;
	struct carrier_account account;
	json_t *found, *one, *limit = json_object_get(job->payload, "limit");
	struct buf path = BUF_IN(a, 4096), b = BUF_IN(a, 1 << 20);
	size_t i;
	if (job->attempts > 1)
		return OK;
	enum fault fault = carrier_open(a, &job->scope, json_text(job->payload, "mode"), STR_NULL, &account);
	buf_format(&path, "/v2/available_phone_numbers?filter[limit]=%lld", (long long)json_integer_value(limit));
	put_filter(&path, "[country_code]", json_text(job->payload, "country_code"));
	put_filter(&path, "[phone_number_type]", json_text(job->payload, "type"));
	put_filter(&path, "[national_destination_code]", json_text(job->payload, "area_code"));
	put_filter(&path, "[locality]", json_text(job->payload, "locality"));
	put_filter(&path, "[phone_number][contains]", json_text(job->payload, "contains"));
	if (fault == OK)
		fault = carrier_call(a, &account, "GET", str_copy(a, buf_view(&path)).p, STR_NULL, &found);
	if (fault != OK) {
		buf_text(&b, "{\"problem\":");
		buf_json(&b, str_of(fault_note->message));
	} else {
		buf_text(&b, "{\"numbers\":[");
		json_array_foreach(found, i, one) {
			buf_text(&b, i ? "," : "");
			put_offer(&b, one);
		}
		buf_char(&b, ']');
	}
	buf_char(&b, '}');
	job->answer = buf_view(&b);
	return OK;
}

enum fault number_heard(struct arena *arena, struct str reference, struct scope *ret_scope)
{
	struct rows owner;
	struct tx tx;
	if (!uuid_valid(reference))
		return fault_raise(FAULT_NOT_FOUND, "No order of ours");
	system_read(&tx, arena);
	TRY(numbers_owner(&tx, (struct numbers_owner){ .id = reference }, &owner));
	if (!owner.count)
		return fault_raise(FAULT_NOT_FOUND, "No order of ours");
	ret_scope->client_id = pg_col(arena, &owner, 0, "client_id");
	ret_scope->agency_id = pg_col(arena, &owner, 0, "agency_id");
	struct job_order order = { .kind = "number.order", .resource_type = "number", .resource_id = reference,
		.payload = STR("{\"posted\":true,\"heard\":true}") };
	TRY(tenant_begin(&tx, arena, ret_scope));
	job_add(&tx, &order);
	return tx_commit(&tx);
}
