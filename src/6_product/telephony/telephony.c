/* Telephony: routes. */
#include "telephony.h"
#include "telephony.sql.h"
#include "../../1_code/uuid.h"
#include "../../3_core/config.h"
#include "../../3_core/effect.h"
#include "../../3_core/events.h"
#include "../../4_out/telnyx.h"

#define STATUSES "pending,active,failed,released"

static const struct shape_field config_fields[] = {
	{ "provider", SHAPE_ENUM, .values = "telnyx" },
	{ "configured", SHAPE_BOOL, .doc = "is there a carrier account to buy with" },
	{ "sip_domain", SHAPE_TEXT, SHAPE_MAYBE },
	{ "inbound_webhook_url", SHAPE_TEXT, .doc = "the voice URL of the carrier's application; {agent_id} is the agent's ultravox_agent_id" },
	{ "status_webhook_url", SHAPE_TEXT, .doc = "where the carrier tells us of calls and orders" },
};
static const struct shape config_shape = SHAPE("telephony_config", config_fields);

static const struct shape_field number_fields[] = {
	{ "id", SHAPE_UUID },
	{ "client_id", SHAPE_UUID },
	{ "phone_number", SHAPE_PHONE },
	{ "label", SHAPE_TEXT, SHAPE_MAYBE },
	{ "provider", SHAPE_ENUM, .values = "telnyx" },
	{ "origin", SHAPE_ENUM, .values = "purchase,import" },
	{ "status", SHAPE_ENUM, .values = STATUSES },
	{ "sync_status", SHAPE_ENUM, .values = "synced,pending,failed" },
	{ "agent_id", SHAPE_UUID, SHAPE_MAYBE, .doc = "answers calls to it" },
	{ "outbound_agent_id", SHAPE_UUID, SHAPE_MAYBE, .doc = "calls from it" },
	{ "features", SHAPE_LIST },
	{ "last_error", SHAPE_TEXT, SHAPE_OMIT },
	{ "created_at", SHAPE_TIME },
	{ "updated_at", SHAPE_TIME },
};
static const struct shape number_shape = SHAPE("phone_number", number_fields);

struct number_new {
	struct str phone_number, label;
};
static const struct shape_field new_fields[] = {
	{ .name = "phone_number", .type = SHAPE_PHONE, .flags = SHAPE_REQUIRED },
	{ .name = "label", .type = SHAPE_TEXT, .max = 100, .offset = offsetof(struct number_new, label) },
};
static const struct shape new_shape = SHAPE("phone_number_new", new_fields);
static const struct shape_field label_fields[] = {
	{ .name = "label", .type = SHAPE_TEXT, .flags = SHAPE_MAYBE, .max = 100, .offset = offsetof(struct number_new, label) },
};
static const struct shape label_shape = SHAPE("phone_number_patch", label_fields);

struct assignment {
	struct str number_id, agent_id, assignment_type;
};
#define FIELD(in, field, ...) { .name = #field, .offset = offsetof(struct in, field), __VA_ARGS__ }
static const struct shape_field assignment_fields[] = {
	FIELD(assignment, number_id, .type = SHAPE_UUID, .flags = SHAPE_REQUIRED),
	FIELD(assignment, agent_id, .type = SHAPE_UUID, .flags = SHAPE_REQUIRED),
	FIELD(assignment, assignment_type, .type = SHAPE_ENUM, .flags = SHAPE_REQUIRED, .values = "inbound,outbound"),
};
static const struct shape assignment_shape = SHAPE("number_assignment", assignment_fields);

struct search_in {
	struct str country_code, type, area_code, locality, contains;
	int64_t limit;
};
static const struct shape_field search_fields[] = {
	FIELD(search_in, country_code, .type = SHAPE_TEXT, .min = 2, .max = 2, .preset = "US"),
	FIELD(search_in, type, .type = SHAPE_ENUM, .values = "local,toll_free,mobile,national,shared_cost"),
	FIELD(search_in, area_code, .type = SHAPE_TEXT, .min = 1, .max = 10),
	FIELD(search_in, locality, .type = SHAPE_TEXT, .min = 1, .max = 100),
	FIELD(search_in, contains, .type = SHAPE_TEXT, .min = 1, .max = 15),
	FIELD(search_in, limit, .type = SHAPE_INT, .min = 1, .max = 100, .preset = "10"),
};
static const struct shape search_shape = SHAPE("number_search", search_fields);
static const struct shape_field offer_fields[] = {
	{ "phone_number", SHAPE_TEXT },
	{ "features", SHAPE_LIST },
	{ "upfront_cost", SHAPE_NUMBER },
	{ "monthly_cost", SHAPE_NUMBER },
	{ "currency", SHAPE_TEXT, SHAPE_MAYBE },
};
static const struct shape offer_shape = SHAPE("number_offer", offer_fields);
static const struct shape_field offers_fields[] = { { "numbers", SHAPE_LIST, .sub = &offer_shape } };
static const struct shape offers_shape = SHAPE("number_offers", offers_fields);

static enum fault load_row(struct tx *tx, struct str id, struct rows *ret) { return numbers_get(tx,
	(struct numbers_get){ .id = id }, ret); }

static const struct effect pushing = { "number.push", "number", "number", "telnyx", &number_shape, load_row };
static const struct effect importing = { "number.order", "number", "number", "telnyx", &number_shape, load_row };

static enum fault missing(void) { return fault_raise(FAULT_NOT_FOUND, "No such number"); }

static enum fault get_config(struct req *req)
{
	struct rows client;
	struct tx tx;
	struct buf b = BUF_IN(req->arena, 4096);
	bool configured = config.telnyx_api_key.n > 0;
	if (req->scope.client_id.p) {
		req_read(req, &tx);
		TRY(numbers_client(&tx, (struct numbers_client){ 0 }, &client));
		configured = client.count && carrier_configured(pg_col(req->arena, &client, 0, "mode"), pg_bool(&client, 0, "has_credential"));
	}
	buf_format(&b, "{\"provider\":\"telnyx\",\"configured\":%s,\"sip_domain\":null,\"inbound_webhook_url\":"
		"\"https://app.ultravox.ai/api/agents/{agent_id}/telephony_xml\",\"status_webhook_url\":", configured ? "true" : "false");
	buf_json(&b, str_format(req->arena, "%.*s" API "/webhooks/telnyx", STRF(config.public_url)));
	buf_char(&b, '}');
	reply_json(req, 200, buf_view(&b));
	return OK;
}

static enum fault expect_carrier(struct req *req, struct str *ret_mode)
{
	struct rows client;
	TRY(numbers_client(&req->tx, (struct numbers_client){ 0 }, &client));
	*ret_mode = pg_col(req->arena, &client, 0, "mode");
	if (carrier_configured(*ret_mode, pg_bool(&client, 0, "has_credential")))
		return OK;
	enum fault fault = fault_raise(FAULT_UNAVAILABLE, "No carrier is configured; add a telnyx credential or set TELNYX_API_KEY");
	fault_detail("reason", STR("not_configured"));
	return fault;
}

static enum fault get(struct req *req) { return effect_get(req, &pushing); }

static enum fault list(struct req *req)
{
	static const char *const filters[] = { "status", "agent_id", NULL };
	struct page page;
	struct rows rows;
	struct tx tx;
	struct str agent = req_query(req, "agent_id");
	TRY(req_page(req, filters, &page));
	if (agent.p && !uuid_valid(agent))
		return fault_field("agent_id", "must be a UUID");
	req_read(req, &tx);
	TRY(numbers_list(&tx, (struct numbers_list){ .status = req_enum_filter(req, "status", STATUSES), .agent_id = agent,
		PAGE_OF(page) }, &rows));
	reply_list(req, &number_shape, &rows, page.limit, page.filters);
	return OK;
}

static enum fault patch(struct req *req)
{
	struct number_new *in = req->in;
	struct rows changed, row;
	TRY(req_need_client(req));
	TRY(req_begin(req));
	if (req->set & 1)
		numbers_label_later(&req->tx, (struct numbers_label){ .id = req->ids[0], .label = in->label }, &changed);
	TRY(numbers_get(&req->tx, (struct numbers_get){ .id = req->ids[0] }, &row));
	if (!row.count)
		return missing();
	reply_row(req, 200, &number_shape, &row, 0);
	return req_commit(req, false);
}

static enum fault search(struct req *req)
{
	struct search_in *in = req->in;
	struct str mode, answer;
	json_t *read;
	struct buf b = BUF_IN(req->arena, 4096);
	TRY(req_need_client(req));
	TRY(req_begin(req));
	TRY(expect_carrier(req, &mode));
	buf_format(&b, "{\"limit\":%lld,\"mode\":\"%.*s\"", (long long)in->limit, STRF(mode));
	struct str values[] = { in->country_code, in->type, in->area_code, in->locality, in->contains };
	static const char *const names[] = { "country_code", "type", "area_code", "locality", "contains" };
	for (int i = 0; i < 5; i++) {
		buf_format(&b, ",\"%s\":", names[i]);
		buf_json(&b, values[i]);
	}
	buf_char(&b, '}');
	TRY(effect_ask(req, "number.search", "number", STR_NULL, buf_view(&b), &answer));
	TRY(json_read(req->arena, answer, &read));
	if (json_text(read, "problem").p) {
		enum fault fault = fault_raise(FAULT_PROVIDER_ERROR, "%.*s", STRF(json_text(read, "problem")));
		fault_detail("provider", STR("telnyx"));
		return fault;
	}
	reply_json(req, 200, answer);
	req_finish(req);
	return OK;
}

/* The row; 409 when the client has the number already. */
static enum fault begin(struct req *req, const char *origin, struct str *ret_id, struct rows *ret_row)
{
	struct number_new *in = req->in;
	struct rows made, known;
	struct str mode;
	*ret_id = uuid_make(req->arena);
	TRY(req_need_client(req));
	TRY(req_begin(req));
	TRY(expect_carrier(req, &mode));
	TRY(numbers_insert(&req->tx, (struct numbers_insert){ .id = *ret_id, .number = in->phone_number, .label = in->label,
		.origin = str_of(origin) }, &made));
	if (!made.count) {
		TRY(numbers_known(&req->tx, (struct numbers_known){ .number = in->phone_number }, &known));
		enum fault fault = fault_raise(FAULT_CONFLICT, "This number is known already");
		fault_detail("id", known.count ? pg_col(req->arena, &known, 0, "id") : STR_NULL);
		return fault;
	}
	effect_location(req, "telephony/numbers", *ret_id);
	return numbers_get(&req->tx, (struct numbers_get){ .id = *ret_id }, ret_row);
}

/* Row and reference first, then one order; active when the carrier says that it is provisioned. */
static enum fault purchase(struct req *req)
{
	struct rows row;
	struct str id;
	TRY(begin(req, "purchase", &id, &row));
	orders_insert_later(&req->tx, (struct orders_insert){ .id = uuid_make(req->arena), .number_id = id }, NULL);
	struct job_order order = { .kind = "number.order", .resource_type = "number", .resource_id = id };
	struct str job = job_add(&req->tx, &order);
	reply_meta(req, "job_id", str_format(req->arena, "\"%.*s\"", STRF(job)));
	reply_row(req, 202, &number_shape, &row, 0);
	return req_commit(req, false);
}

static enum fault import(struct req *req)
{
	struct rows row;
	struct str id;
	TRY(begin(req, "import", &id, &row));
	enum fault fault = effect_run(req, &importing, id, &row, STR_NULL, NULL, STR_NULL, 201);
	return fault == FAULT_NOT_FOUND ? fault_field("phone_number",
		"the carrier account does not own this number, or another client here uses it")
		: fault;
}

/* An active number of the caller's, locked. */
static enum fault lock(struct req *req, struct str id, struct rows *ret)
{
	TRY(numbers_lock(&req->tx, (struct numbers_lock){ .id = id }, ret));
	if (!ret->count)
		return missing();
	if (!str_is(pg_col(req->arena, ret, 0, "status"), "active") || pg_bool(ret, 0, "releasing"))
		return fault_field("status", "the number is not active");
	return OK;
}

static enum fault set(struct req *req, bool assign)
{
	struct assignment *in = req->in;
	struct rows number, agent, row;
	bool inbound = str_is(in->assignment_type, "inbound");
	TRY(req_need_client(req));
	TRY(req_begin(req));
	TRY(lock(req, in->number_id, &number));
	TRY(numbers_agent(&req->tx, (struct numbers_agent){ .id = in->agent_id }, &agent));
	if (!agent.count) {
		enum fault fault = fault_raise(FAULT_NOT_FOUND, "No such agent");
		fault_detail("field", STR("agent_id"));
		return fault;
	}
	if (assign && !str_is(pg_col(req->arena, &agent, 0, "status"), "active"))
		return fault_field("agent_id", "the agent is not active");
	if (!assign && !str_eq(pg_col(req->arena, &number, 0, inbound ? "agent_id" : "outbound_agent_id"), in->agent_id))
		return fault_field("agent_id", "this agent does not have the number");
	numbers_assign_later(&req->tx, (struct numbers_assign){ .id = in->number_id, .inbound = inbound,
		.agent_id = assign ? in->agent_id : STR_NULL }, NULL);
	TRY(numbers_get(&req->tx, (struct numbers_get){ .id = in->number_id }, &row));
	return effect_run(req, &pushing, in->number_id, &row, STR_NULL, NULL, STR_NULL, 200);
}

static enum fault assign(struct req *req) { return set(req, true); }
static enum fault unassign(struct req *req) { return set(req, false); }

static enum fault release(struct req *req)
{
	struct rows number, row;
	struct str id = req->ids[0];
	TRY(req_need_client(req));
	TRY(req_begin(req));
	TRY(lock(req, id, &number));
	numbers_release_later(&req->tx, (struct numbers_release){ .id = id }, NULL);
	TRY(numbers_get(&req->tx, (struct numbers_get){ .id = id }, &row));
	return effect_run(req, &pushing, id, &row, STR_NULL, NULL, STR_NULL, 200);
}

#define NUMBERS API "/telephony/numbers"
const struct route telephony_routes[] = {
	{ "GET", API "/telephony/config", ROLE_R, "telephony:read", get_config, .out = &config_shape, .status = 200,
		.summary = "How telephony is set up; no secret" },
	{ "POST", NUMBERS "/search", ROLE_W, "telephony:write", search, &search_shape, sizeof(struct search_in), &offers_shape, 200,
		.summary = "Numbers that can be bought" },
	{ "POST", NUMBERS "/purchase", ROLE_W, "telephony:write", purchase, &new_shape, sizeof(struct number_new), &number_shape, 202,
		.summary = "Buy a number; it becomes active when the carrier has provisioned it" },
	{ "POST", NUMBERS "/import", ROLE_W, "telephony:write", import, &new_shape, sizeof(struct number_new), &number_shape, 201,
		.flags = ROUTE_ASYNC, .summary = "Use a number that the carrier account owns already" },
	{ "POST", NUMBERS "/assign", ROLE_W, "telephony:write", assign, &assignment_shape, sizeof(struct assignment), &number_shape, 200,
		.flags = ROUTE_ASYNC, .summary = "Give a number to an agent, for calls in or out" },
	{ "POST", NUMBERS "/unassign", ROLE_W, "telephony:write", unassign, &assignment_shape, sizeof(struct assignment), &number_shape, 200,
		.flags = ROUTE_ASYNC, .summary = "Take a number from an agent" },
	{ "GET", NUMBERS, ROLE_R, "telephony:read", list, .out = &number_shape, .status = 200, .flags = ROUTE_LIST,
		.query = "status,agent_id,created_after,created_before", .summary = "List numbers, newest first" },
	{ "GET", NUMBERS "/{id}", ROLE_R, "telephony:read", get, .out = &number_shape, .status = 200, .summary = "Read a number" },
	{ "PATCH", NUMBERS "/{id}", ROLE_W, "telephony:write", patch, &label_shape, sizeof(struct number_new), &number_shape, 200,
		.summary = "Change a number's label" },
	{ "POST", NUMBERS "/{id}/release", ROLE_W, "telephony:write", release, .out = &number_shape, .status = 200, .flags = ROUTE_ASYNC,
		.summary = "Give a number back to the carrier; an imported one is only forgotten here" },
	{ 0 },
};

const struct job_kind telephony_jobs[] = {
	{ "number.order", "q-artifacts-sync", number_order, 10000 },
	{ "number.push", "q-artifacts-sync", number_push, 1000 },
	{ "number.search", "q-artifacts-sync", number_search, 1 },
	{ 0 },
};
