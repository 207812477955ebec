/* What a person does to a call: cancel, note, opt out, settle by word, delete; and numbers that are not called. */
#include "calls.h"
#include "dial.h"
#include "manage.sql.h"
#include "progress.h"
#include "../../0_base/clock.h"
#include "../../1_code/uuid.h"
#include "../../3_core/events.h"
#include "../../4_out/objects.h"

#define HANGUP_AGAIN_US (2 * US_PER_S)
#define HANGUP_TRIES 300	/* ten minutes: what rings so long has ended by itself */
#define WATCH_SLACK_US (120 * US_PER_S)

struct call_patch {
	struct str context, call_settings;
	bool opt_out;
};
#define FIELD(in, field, ...) { .name = #field, .offset = offsetof(struct in, field), __VA_ARGS__ }
static const struct shape_field patch_fields[] = {
	FIELD(call_patch, context, .type = SHAPE_OBJECT, .max = 16384, .doc = "notes and tags: merged, null takes a member away"),
	FIELD(call_patch, call_settings, .type = SHAPE_OBJECT, .max = 16384, .doc = "while queued"),
	FIELD(call_patch, opt_out, .type = SHAPE_BOOL, .doc = "true: the number is not called again by this client"),
};
static const struct shape patch_shape = SHAPE("call_patch", patch_fields);

struct call_resolve {
	struct str outcome, ultravox_call_id;
};
static const struct shape_field resolve_fields[] = {
	FIELD(call_resolve, outcome, .type = SHAPE_ENUM, .flags = SHAPE_REQUIRED, .values = "placed,not_placed"),
	FIELD(call_resolve, ultravox_call_id, .type = SHAPE_UUID, .doc = "required with placed: the provider's call"),
};
static const struct shape resolve_shape = SHAPE("call_resolve", resolve_fields);

struct call_bulk {
	struct str action, ids;
};
static const struct shape_field id_item[] = { { "id", SHAPE_UUID } };
static const struct shape id_shape = { "id", id_item, 1, .item_is_text = true };
static const struct shape_field bulk_fields[] = {
	FIELD(call_bulk, action, .type = SHAPE_ENUM, .flags = SHAPE_REQUIRED, .values = "cancel,delete"),
	FIELD(call_bulk, ids, .type = SHAPE_LIST, .flags = SHAPE_REQUIRED, .min = 1, .max = 100, .sub = &id_shape),
};
static const struct shape bulk_shape = SHAPE("call_bulk", bulk_fields);
static const struct shape_field bulk_one_fields[] = {
	{ "id", SHAPE_UUID },
	{ "ok", SHAPE_BOOL },
	{ "status", SHAPE_TEXT, SHAPE_MAYBE, .doc = "the call's, afterwards" },
	{ "error", SHAPE_TEXT, SHAPE_MAYBE },
};
static const struct shape bulk_one_shape = SHAPE("call_bulk_one", bulk_one_fields);
static const struct shape_field bulk_done_fields[] = { { "calls", SHAPE_LIST, .sub = &bulk_one_shape } };
static const struct shape bulk_done_shape = SHAPE("call_bulk_done", bulk_done_fields);

struct suppression_new {
	struct str phone_number, reason, expires_at;
};
static const struct shape_field suppression_new_fields[] = {
	FIELD(suppression_new, phone_number, .type = SHAPE_PHONE, .flags = SHAPE_REQUIRED),
	FIELD(suppression_new, reason, .type = SHAPE_TEXT, .max = 500),
	FIELD(suppression_new, expires_at, .type = SHAPE_TIME),
};
static const struct shape suppression_new_shape = SHAPE("suppression_new", suppression_new_fields);
static const struct shape_field suppression_fields[] = {
	{ "id", SHAPE_UUID },
	{ "client_id", SHAPE_UUID, SHAPE_MAYBE, .doc = "null: the whole agency's" },
	{ "phone_number", SHAPE_PHONE },
	{ "reason", SHAPE_TEXT, SHAPE_MAYBE },
	{ "source", SHAPE_ENUM, .values = "api,call" },
	{ "call_id", SHAPE_UUID, SHAPE_MAYBE },
	{ "expires_at", SHAPE_TIME, SHAPE_MAYBE },
	{ "created_at", SHAPE_TIME },
	{ "updated_at", SHAPE_TIME },
};
static const struct shape suppression_shape = SHAPE("suppression", suppression_fields);

static const struct shape_field cost_fields[] = {
	{ "call_id", SHAPE_UUID },
	{ "price_per_minute", SHAPE_INT },
	{ "billed_seconds", SHAPE_INT, SHAPE_MAYBE },
	{ "billed_minutes", SHAPE_INT, SHAPE_MAYBE, .doc = "each begun one" },
	{ "credits_held", SHAPE_INT },
	{ "credits_charged", SHAPE_INT },
	{ "credits_released", SHAPE_INT, .doc = "of the hold, once the bill is final" },
	{ "provider_cost_usd", SHAPE_NUMBER, SHAPE_MAYBE },
	{ "final", SHAPE_BOOL },
	{ "estimated", SHAPE_BOOL, .doc = "the provider's bill never came" },
};
static const struct shape cost_shape = SHAPE("call_cost", cost_fields);

static enum fault missing(void) { return fault_raise(FAULT_NOT_FOUND, "No such call"); }

static bool is_final(struct str status)
{
	static const char *const finals[] = { "completed", "voicemail", "busy", "no_answer", "failed", "cancelled" };
	for (size_t i = 0; i < sizeof finals / sizeof *finals; i++)
		if (str_is(status, finals[i]))
			return true;
	return false;
}

static enum fault wrong_state(struct str status)
{
	enum fault fault = fault_raise(FAULT_VALIDATION_ERROR, "The call is %.*s", STRF(status));
	fault_detail("status", status);
	return fault;
}

void call_hangup_order(struct tx *tx, struct str id)
{
	struct job_order order = { .kind = "call.hangup", .resource_type = "call", .resource_id = id,
		.dedupe = str_format(tx->arena, "hangup:%.*s", STRF(id)) };
	job_add(tx, &order);
}

/* In the request's transaction. *ret_event: to be told among its last statements. A queued call ends at once; one that the provider may
 * have is hung up as soon as it is known there. */
static enum fault cancel_one(struct req *req, struct str id, struct str *ret_status, const char **ret_event)
{
	struct rows row;
	bool moved;
	*ret_event = NULL;
	TRY(manage_lock(&req->tx, (struct manage_lock){ .id = id }, &row));
	if (!row.count)
		return missing();
	struct str status = pg_col(req->arena, &row, 0, "status");
	if (is_final(status))
		return wrong_state(status);
	manage_cancel_later(&req->tx, (struct manage_cancel){ .id = id }, NULL);
	*ret_status = status;
	if (!str_is(status, "queued")) {
		if (!pg_null(&row, 0, "ultravox_call_id"))
			call_hangup_order(&req->tx, id);
		return OK;
	}
	TRY(call_move(&req->tx, id, "cancelled", "cancelled", "api", STR("cancelled by a user"), &moved));
	manage_release_later(&req->tx, (struct manage_release){ .id = id }, NULL);
	*ret_status = STR("cancelled");
	*ret_event = "call.cancelled";
	return OK;
}

static enum fault answer(struct req *req, struct str id, int status)
{
	struct rows row;
	TRY(call_shown(&req->tx, id, &row));
	reply_row(req, status, &call_shape, &row, 0);
	return OK;
}

static enum fault cancel(struct req *req)
{
	struct str status;
	const char *event;
	TRY(req_need_client(req));
	TRY(req_begin(req));
	TRY(cancel_one(req, req->ids[0], &status, &event));
	TRY(answer(req, req->ids[0], str_is(status, "cancelled") ? 200 : 202));
	if (event)
		call_tell(&req->tx, req->ids[0], event);
	return req_commit(req, false);
}

/* The words, the recording and the transcript go; numbers are masked; the ledger stays. Provider and store by a job. */
static enum fault delete_one(struct req *req, struct str id, struct str *ret_status)
{
	struct rows row, objects;
	TRY(manage_lock(&req->tx, (struct manage_lock){ .id = id }, &row));
	if (!row.count)
		return missing();
	*ret_status = pg_col(req->arena, &row, 0, "status");
	if (!is_final(*ret_status))
		return wrong_state(*ret_status);
	TRY(manage_objects(&req->tx, (struct manage_objects){ .id = id }, &objects));
	struct buf payload = BUF_IN(req->arena, 16384);
	buf_text(&payload, "{\"objects\":");
	buf_json(&payload, pg_col(req->arena, &objects, 0, "objects"));
	buf_char(&payload, '}');
	struct job_order erase = { .kind = "call.erase", .resource_type = "call", .resource_id = id, .payload = buf_view(&payload) };
	job_add(&req->tx, &erase);
	manage_mask_later(&req->tx, (struct manage_mask){ .id = id }, NULL);
	return OK;
}

static enum fault delete(struct req *req)
{
	struct str status;
	TRY(req_need_client(req));
	TRY(req_begin(req));
	TRY(delete_one(req, req->ids[0], &status));
	reply_json(req, 200, str_format(req->arena, "{\"id\":\"%.*s\",\"deleted\":true}", STRF(req->ids[0])));
	return req_commit(req, false);
}

/* Each on its own: what cannot be done to one does not hold up the others. */
static enum fault bulk(struct req *req)
{
	struct call_bulk *in = req->in;
	json_t *ids, *one;
	size_t i;
	bool cancels = str_is(in->action, "cancel");
	struct buf b = BUF_IN(req->arena, 65536), told = BUF_IN(req->arena, 8192);
	TRY(req_need_client(req));
	TRY(json_read_any(req->arena, in->ids, &ids));
	TRY(req_begin(req));
	buf_text(&b, "{\"calls\":[");
	json_array_foreach(ids, i, one) {
		struct str id = str_lower(req->arena, str_of(json_string_value(one))), status = STR_NULL;
		const char *event = NULL;
		enum fault fault = cancels ? cancel_one(req, id, &status, &event) : delete_one(req, id, &status);
		if (fault != OK && fault != FAULT_NOT_FOUND && fault != FAULT_VALIDATION_ERROR)
			return fault;
		buf_format(&b, "%s{\"id\":\"%.*s\",\"ok\":%s,\"status\":", i ? "," : "", STRF(id), fault == OK ? "true" : "false");
		buf_json(&b, status);
		buf_text(&b, ",\"error\":");
		buf_json(&b, fault == OK ? STR_NULL : str_of(fault_note->message));
		buf_char(&b, '}');
		if (event)
			buf_format(&told, "%.*s,", STRF(id));
		fault_clear(req->arena);
	}
	buf_text(&b, "]}");
	reply_json(req, 200, buf_view(&b));
	struct str rest = buf_view(&told);
	while (rest.n) {
		struct str id = str_cut(&rest, ',');
		call_tell(&req->tx, id, "call.cancelled");
	}
	TRY(req_judged(req));
	return req_commit(req, false);
}

static enum fault patch(struct req *req)
{
	struct call_patch *in = req->in;
	struct rows row, made;
	struct str id = req->ids[0], settings = in->call_settings;
	TRY(req_need_client(req));
	TRY(req_begin(req));
	TRY(manage_lock(&req->tx, (struct manage_lock){ .id = id }, &row));
	if (!row.count)
		return missing();
	struct str status = pg_col(req->arena, &row, 0, "status"), number = pg_col(req->arena, &row, 0, "phone_number");
	if (settings.p && !str_is(status, "queued"))
		return fault_field("call_settings", "can be changed while the call is queued");
	if (settings.p)
		TRY(call_settings_check(req->arena, settings, &settings));
	if (in->opt_out && (!number.n || number.p[0] != '+'))
		return fault_field("opt_out", "this call has no number");
	manage_patch_later(&req->tx, (struct manage_patch){ .id = id, .context = in->context, .settings = settings,
		.opt_out = in->opt_out }, NULL);
	if (in->opt_out)
		TRY(manage_suppress(&req->tx, (struct manage_suppress){ .id = uuid_make(req->arena), .number = number, .call_id = id }, &made));
	TRY(answer(req, id, 200));
	if (in->opt_out) {
		struct str suppression = pg_col(req->arena, &made, 0, "id");
		event_emit(&req->tx, "contact.opted_out", "call", id, str_format(req->arena,
			"{\"phone_number\":\"%.*s\",\"call_id\":\"%.*s\",\"suppression_id\":\"%.*s\"}", STRF(number), STRF(id), STRF(suppression)));
	}
	return req_commit(req, false);
}

/* An unknown call, by a person's word: the provider has it under this id, or never had it. */
static enum fault resolve(struct req *req)
{
	struct call_resolve *in = req->in;
	struct rows row, taken;
	struct str id = req->ids[0];
	bool moved, placed = str_is(in->outcome, "placed");
	TRY(req_need_client(req));
	if (placed && !in->ultravox_call_id.n)
		return fault_field("ultravox_call_id", "is required: which call of the provider is it?");
	TRY(req_begin(req));
	TRY(manage_lock(&req->tx, (struct manage_lock){ .id = id }, &row));
	if (!row.count)
		return missing();
	struct str status = pg_col(req->arena, &row, 0, "status");
	if (!str_is(status, "unknown"))
		return wrong_state(status);
	manage_resolved_later(&req->tx, (struct manage_resolved){ .id = id, .outcome = in->outcome }, NULL);
	if (placed) {
		TRY(manage_taken(&req->tx, (struct manage_taken){ .id = id, .provider_id = in->ultravox_call_id }, &taken));
		if (taken.count)
			return fault_field("ultravox_call_id", "belongs to another call");
		struct call_news news = { .call_id = id, .source = "api", .provider_id = in->ultravox_call_id, .billed_s = -1 };
		struct job_order watch = { .kind = "call.watch", .resource_type = "call", .resource_id = id };
		TRY(call_hear(&req->tx, &news));
		job_add(&req->tx, &watch);	/* asks the provider at once what became of it */
		TRY(answer(req, id, 200));
		return req_commit(req, false);
	}
	manage_error_later(&req->tx, (struct manage_error){ .id = id, .code = STR("not_placed"),
		.message = STR("Settled by a person: the provider never had it") }, NULL);
	TRY(call_move(&req->tx, id, "failed", "not_placed", "api", STR("settled by a person"), &moved));
	manage_release_later(&req->tx, (struct manage_release){ .id = id }, NULL);
	TRY(answer(req, id, 200));
	call_tell(&req->tx, id, "call.failed");
	return req_commit(req, false);
}

/* Asked for while it may still ring, the provider answers that the call is not active: asked again until it has ended. */
enum fault call_hangup(struct job *job)
{
	struct voice_account account;
	struct rows row;
	struct tx tx;
	json_t *ignored, *n = json_object_get(job->payload, "n");
	int64_t tries = json_integer_value(n);
	tenant_read(&tx, job->arena, &job->scope);
	TRY(manage_hangup_load(&tx, (struct manage_hangup_load){ .id = job->resource_id }, &row));
	bool force = json_is_true(json_object_get(job->payload, "force"));	/* the row has ended, the caller is still there */
	if (!row.count || pg_null(&row, 0, "ultravox_call_id") || !pg_null(&row, 0, "provider_ended_at") ||
	    (!force && !pg_null(&row, 0, "ended_at")))
		return OK;
	TRY(voice_account_open(job->arena, &job->scope, pg_col(job->arena, &row, 0, "mode"), pg_col(job->arena, &row, 0,
		"credential_id"), &account));
	struct str path = str_format(job->arena, "/api/calls/%.*s/send_data_message", STRF(pg_col(job->arena, &row, 0, "ultravox_call_id")));
	enum fault fault = voice_call(job->arena, &account, "POST", path.p, STR("{\"type\":\"hang_up\"}"), &ignored);
	if (fault == FAULT_NOT_FOUND || tries >= HANGUP_TRIES)
		return OK;
	if (fault != OK && fault != FAULT_PROVIDER_ERROR)
		return fault;
	TRY(tenant_begin(&tx, job->arena, &job->scope));
	job_park(job, &tx, clock_now_us() + (fault == OK ? 10 : 1) * HANGUP_AGAIN_US, str_format(job->arena, "{\"n\":%lld,\"force\":%s}",
		(long long)tries + 1, force ? "true" : "false"));
	return tx_commit(&tx);
}

/* After DELETE: what is left of the call outside of the database. */
enum fault call_erase(struct job *job)
{
	struct voice_account account;
	struct rows row;
	struct tx tx;
	json_t *ignored;
	struct str keys = json_text(job->payload, "objects");
	while (keys.n)
		TRY(objects_delete(job->arena, str_copy(job->arena, str_cut(&keys, ' '))));
	tenant_read(&tx, job->arena, &job->scope);
	TRY(manage_hangup_load(&tx, (struct manage_hangup_load){ .id = job->resource_id }, &row));
	if (!row.count || pg_null(&row, 0, "ultravox_call_id"))
		return OK;
	enum fault fault = voice_account_open(job->arena, &job->scope, pg_col(job->arena, &row, 0, "mode"),
		pg_col(job->arena, &row, 0, "credential_id"), &account);
	if (fault == OK)
		fault = voice_call(job->arena, &account, "DELETE", str_format(job->arena, "/api/calls/%.*s",
			STRF(pg_col(job->arena, &row, 0, "ultravox_call_id"))).p, STR_NULL, &ignored);
	return fault == FAULT_NOT_FOUND ? OK : fault;
}

static enum fault suppress(struct req *req)
{
	struct suppression_new *in = req->in;
	struct rows made, row;
	TRY(req_begin(req));
	TRY(suppressions_insert(&req->tx, (struct suppressions_insert){ .id = uuid_make(req->arena), .number = in->phone_number,
		.reason = in->reason, .expires_at = in->expires_at }, &made));
	TRY(suppressions_get(&req->tx, (struct suppressions_get){ .id = pg_col(req->arena, &made, 0, "id") }, &row));
	reply_row(req, 201, &suppression_shape, &row, 0);
	return req_commit(req, false);
}

static enum fault suppressions(struct req *req)
{
	static const char *const filters[] = { "phone_number", NULL };
	struct page page;
	struct rows rows;
	struct tx tx;
	TRY(req_page(req, filters, &page));
	req_read(req, &tx);
	TRY(suppressions_list(&tx, (struct suppressions_list){ .number = req_query(req, "phone_number"), PAGE_OF(page) }, &rows));
	reply_list(req, &suppression_shape, &rows, page.limit, page.filters);
	return OK;
}

static enum fault unsuppress(struct req *req)
{
	struct rows gone;
	TRY(req_begin(req));
	TRY(suppressions_delete(&req->tx, (struct suppressions_delete){ .id = req->ids[0] }, &gone));
	if (!gone.count)
		return fault_raise(FAULT_NOT_FOUND, "No such suppression");
	reply_json(req, 200, str_format(req->arena, "{\"id\":\"%.*s\",\"deleted\":true}", STRF(req->ids[0])));
	return req_commit(req, false);
}

/* What the provider charged, and what the client paid. */
static enum fault cost(struct req *req)
{
	struct rows row;
	struct tx tx;
	req_read(req, &tx);
	TRY(manage_cost(&tx, (struct manage_cost){ .id = req->ids[0] }, &row));
	if (!row.count)
		return missing();
	reply_row(req, 200, &cost_shape, &row, 0);
	return OK;
}

const struct route manage_routes[] = {
	{ "GET", API "/calls/{id}/cost", ROLE_R, "calls:read", cost, .out = &cost_shape, .status = 200, .summary = "What a call cost" },
	{ "POST", API "/calls/bulk", ROLE_W, "calls:write", bulk, &bulk_shape, sizeof(struct call_bulk), &bulk_done_shape, 200,
		.summary = "Cancel or delete up to 100 calls" },
	{ "POST", API "/calls/{id}/cancel", ROLE_R, "calls:write", cancel, .out = &call_shape, .status = 200, .flags = ROUTE_LATER,
		.summary = "Cancel a queued call, hang up a live one" },
	{ "POST", API "/calls/{id}/resolve", ROLE_W, "calls:write", resolve, &resolve_shape, sizeof(struct call_resolve), &call_shape, 200,
		.summary = "Settle an unknown call by your word" },
	{ "PATCH", API "/calls/{id}", ROLE_W, "calls:write", patch, &patch_shape, sizeof(struct call_patch), &call_shape, 200,
		.summary = "Note, tag, opt out; change a queued call" },
	{ "DELETE", API "/calls/{id}", ROLE_W, "calls:write", delete, .status = 200, .summary = "Erase what a call left; its ledger stays" },
	{ "POST", API "/suppressions", ROLE_W, "suppressions:write", suppress, &suppression_new_shape, sizeof(struct suppression_new),
		&suppression_shape, 201, .flags = ROUTE_AGENCY, .summary = "Never call a number; without x-client-id for the whole agency" },
	{ "GET", API "/suppressions", ROLE_R, "suppressions:read", suppressions, .out = &suppression_shape, .status = 200, .flags = ROUTE_LIST,
		.query = "phone_number,created_after,created_before", .summary = "Numbers that are not called" },
	{ "DELETE", API "/suppressions/{id}", ROLE_W, "suppressions:write", unsuppress, .status = 200, .flags = ROUTE_AGENCY,
		.summary = "A number may be called again" },
	{ 0 },
};
