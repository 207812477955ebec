/* A person's or a client's data: asked for, or asked to be gone. The request is a row; jobs do the work. */
#include "insight.h"
#include "privacy.h"
#include "privacy.sql.h"
#include "../../1_code/uuid.h"
#include "../../3_core/jobs.h"
#include "../../4_out/objects.h"

#define LINK_S 3600

struct request_in {
	struct {
		struct str type, value;
	} subject;
	bool confirm;
};

static const struct shape_field subject_fields[] = {
	{ .name = "type", .type = SHAPE_ENUM, .flags = SHAPE_REQUIRED, .values = "user,phone,client", .doc = "client: an agency_admin's" },
	{ .name = "value", .type = SHAPE_TEXT, .flags = SHAPE_REQUIRED, .min = 1, .max = 254, .offset = sizeof(struct str),
		.doc = "user: id or e-mail; phone: E.164; client: id" },
};
static const struct shape subject_shape = SHAPE("privacy_subject", subject_fields);

#define FIELD(field, ...) { .name = #field, .offset = offsetof(struct request_in, field), __VA_ARGS__ }
static const struct shape_field export_fields[] = {
	FIELD(subject, .type = SHAPE_PART, .flags = SHAPE_REQUIRED, .sub = &subject_shape),
};
static const struct shape export_shape = SHAPE("privacy_export", export_fields);
static const struct shape_field erasure_fields[] = {
	FIELD(subject, .type = SHAPE_PART, .flags = SHAPE_REQUIRED, .sub = &subject_shape),
	FIELD(confirm, .type = SHAPE_BOOL, .flags = SHAPE_REQUIRED, .doc = "true: this cannot be undone"),
};
static const struct shape erasure_shape = SHAPE("privacy_erasure", erasure_fields);

static const struct shape_field request_fields[] = {
	{ "id", SHAPE_UUID },
	{ "client_id", SHAPE_UUID, SHAPE_MAYBE },
	{ "kind", SHAPE_ENUM, .values = "export,erasure" },
	{ "subject", SHAPE_OBJECT, .doc = "type and value; of an erasure that is done, its digest" },
	{ "status", SHAPE_ENUM, .values = "queued,running,done,failed" },
	{ "due_at", SHAPE_TIME, SHAPE_MAYBE, .doc = "when what is masked now is deleted" },
	{ "bytes", SHAPE_INT, SHAPE_MAYBE },
	{ "error", SHAPE_TEXT, SHAPE_OMIT },
	{ "finished_at", SHAPE_TIME, SHAPE_MAYBE },
	{ "created_at", SHAPE_TIME },
	{ "updated_at", SHAPE_TIME },
};
static const struct shape request_shape = SHAPE("privacy", request_fields);

/* The subject as it is stored: a user by id, a number in its normal form, a client whose door becomes the request's. */
static enum fault resolve(struct req *req, struct request_in *in)
{
	struct str *value = &in->subject.value;
	struct rows user;
	struct tx tx;
	if (str_is(in->subject.type, "phone")) {
		TRY(req_need_client(req));
		return phone_read(req->arena, *value, value) ? OK : fault_field("subject.value", "must be an E.164 number");
	}
	if (str_is(in->subject.type, "client")) {
		if (req->who.role != AGENCY_ADMIN) {
			enum fault fault = fault_raise(FAULT_FORBIDDEN, "A client's data is its agency_admin's to export or erase");
			fault_detail("reason", STR("role"));
			return fault;
		}
		if (!uuid_valid(*value))
			return fault_field("subject.value", "must be the client's id");
		*value = str_lower(req->arena, *value);
		if (req->scope.client_id.p && !str_eq(*value, req->scope.client_id))
			return fault_field("subject.value", "is not the client of x-client-id");
		req->scope.client_id = *value;
		return OK;
	}
	req_read(req, &tx);
	TRY(privacy_user(&tx, (struct privacy_user){ .value = *value }, &user));
	if (!user.count) {
		enum fault fault = fault_raise(FAULT_NOT_FOUND, "No such user");
		fault_detail("field", STR("subject.value"));
		return fault;
	}
	*value = pg_col(req->arena, &user, 0, "id");
	return OK;
}

static enum fault open_request(struct req *req, struct request_in *in, const char *kind)
{
	struct rows row;
	bool agency = !req->scope.client_id.p;
	struct str id = uuid_make(req->arena);
	TRY(resolve(req, in));
	TRY(req_begin(req));
	privacy_insert_later(&req->tx, (struct privacy_insert){ .id = id, .kind = str_of(kind), .type = in->subject.type,
		.value = in->subject.value }, NULL);
	enum fault fault = privacy_get(&req->tx, (struct privacy_get){ .id = id, .kind = str_of(kind) }, &row);
	if (agency && fault == FAULT_FORBIDDEN)	/* the door of a client that is not ours */
		return fault_raise(FAULT_NOT_FOUND, "No such client");
	TRY(fault);
	struct job_order job = { .kind = *kind == 'e' && kind[1] == 'x' ? "privacy.export" : "privacy.erase",
		.resource_type = "privacy_request", .resource_id = id };
	struct str job_id = job_add(&req->tx, &job);
	reply_meta(req, "job_id", str_format(req->arena, "\"%.*s\"", STRF(job_id)));
	reply_row(req, 202, &request_shape, &row, 0);
	http_reply_header(req->http, "Location", str_format(req->arena, API "/privacy/%ss/%.*s", kind, STRF(id)));
	return req_commit(req, false);
}

static enum fault export(struct req *req) { return open_request(req, req->in, "export"); }

static enum fault erase(struct req *req)
{
	struct request_in *in = req->in;
	if (!in->confirm)
		return fault_field("confirm", "must be true: an erasure cannot be undone");
	return open_request(req, in, "erasure");
}

static enum fault erase_one_user(struct req *req)
{
	struct request_in in = { .subject = { STR("user"), req->ids[0] }, .confirm = true };
	return open_request(req, &in, "erasure");
}

static enum fault list(struct req *req, const char *kind)
{
	static const char *const filters[] = { "status", NULL };
	struct page page;
	struct rows rows;
	struct tx tx;
	TRY(req_page(req, filters, &page));
	req_read(req, &tx);
	TRY(privacy_list(&tx, (struct privacy_list){ .kind = str_of(kind),
		.status = req_enum_filter(req, "status", "queued,running,done,failed"),
		PAGE_OF(page) }, &rows));
	reply_list(req, &request_shape, &rows, page.limit, page.filters);
	return OK;
}

static enum fault list_exports(struct req *req) { return list(req, "export"); }
static enum fault list_erasures(struct req *req) { return list(req, "erasure"); }

static enum fault get(struct req *req, const char *kind)
{
	struct rows row;
	struct tx tx;
	req_read(req, &tx);
	TRY(privacy_get(&tx, (struct privacy_get){ .id = req->ids[0], .kind = str_of(kind) }, &row));
	if (!row.count)
		return fault_raise(FAULT_NOT_FOUND, "No such request");
	struct buf b = BUF_IN(req->arena, 65536);
	row_json(&b, req->arena, &request_shape, &row, 0);
	if (!pg_null(&row, 0, "object_key")) {
		b.n--;
		buf_text(&b, ",\"url\":");
		buf_json(&b, objects_presign(req->arena, "GET", pg_col(req->arena, &row, 0, "object_key"), LINK_S));
		buf_char(&b, '}');
	}
	reply_json(req, 200, buf_view(&b));
	return OK;
}

static enum fault get_export(struct req *req) { return get(req, "export"); }
static enum fault get_erasure(struct req *req) { return get(req, "erasure"); }

/* One user at once: what little there is fits an answer. */
static enum fault export_one_user(struct req *req)
{
	static const char *const tables[] = { "users", "audit" };
	struct buf b = BUF_IN(req->arena, (size_t)6 << 20);
	struct rows rows;
	struct tx tx;
	buf_char(&b, '{');
	for (size_t t = 0; t < 2; t++) {
		struct str after = STR("00000000-0000-0000-0000-000000000000");
		buf_format(&b, "%s\"%s\":[", t ? "," : "", tables[t]);
		for (bool first = true;; first = false) {
			req_read(req, &tx);
			TRY(export_next(&tx, (struct export_next){ .table = str_of(tables[t]), .type = STR("user"), .value = req->ids[0],
				.after = after, .most = 500 }, &rows));
			if (!t && first && !rows.count)
				return fault_raise(FAULT_NOT_FOUND, "No such user");
			for (int i = 0; i < rows.count; i++) {
				buf_text(&b, first && !i ? "" : ",");
				buf_str(&b, pg_col(req->arena, &rows, i, "doc"));
			}
			if (rows.count < 500)
				break;
			after = pg_col(req->arena, &rows, rows.count - 1, "id");
		}
		buf_char(&b, ']');
	}
	buf_char(&b, '}');
	if (b.full)
		return fault_field("id", "has too much to say at once; use POST /privacy/exports");
	reply_json(req, 200, buf_view(&b));
	return OK;
}

static const struct shape_field user_export_fields[] = {
	{ "users", SHAPE_LIST, .doc = "the user's row" },
	{ "audit", SHAPE_LIST, .doc = "what the user did, and what was done to its row" },
};
static const struct shape user_export_shape = SHAPE("user_export", user_export_fields);

const struct route privacy_routes[] = {
	{ "POST", API "/privacy/exports", ROLE_W, "export:write", export, &export_shape, sizeof(struct request_in), &request_shape, 202,
		.flags = ROUTE_AGENCY, .summary = "Gather all that is kept about a person or client, as JSON" },
	{ "GET", API "/privacy/exports", ROLE_W, "export:read", list_exports, .out = &request_shape, .status = 200, .flags = ROUTE_LIST,
		.query = "status,created_after,created_before", .summary = "List exports" },
	{ "GET", API "/privacy/exports/{id}", ROLE_W, "export:read", get_export, .out = &request_shape, .status = 200,
		.summary = "Read an export; url, good for an hour, when it is done" },
	{ "POST", API "/privacy/erasures", ROLE_W, "accounts:write", erase, &erasure_shape, sizeof(struct request_in), &request_shape, 202,
		.flags = ROUTE_AGENCY, .summary = "Erase a person or client: masked at once, deleted after 30 days" },
	{ "GET", API "/privacy/erasures", ROLE_W, "accounts:read", list_erasures, .out = &request_shape, .status = 200, .flags = ROUTE_LIST,
		.query = "status,created_after,created_before", .summary = "List erasures" },
	{ "GET", API "/privacy/erasures/{id}", ROLE_W, "accounts:read", get_erasure, .out = &request_shape, .status = 200,
		.summary = "Read an erasure" },
	{ "GET", API "/admin/users/{id}/export", AGENCY_ADMIN, "export:read", export_one_user, .out = &user_export_shape, .status = 200,
		.summary = "All that is kept about one user" },
	{ "DELETE", API "/admin/users/{id}", AGENCY_ADMIN, "accounts:write", erase_one_user, .out = &request_shape, .status = 202,
		.flags = ROUTE_AGENCY, .summary = "Erase one user" },
	{ 0 },
};

const struct job_kind insight_jobs[] = {
	{ "privacy.export", "q-artifacts-sync", privacy_export, 20 },
	{ "privacy.erase", "q-artifacts-sync", privacy_erase, 1000 },
	{ "retention.nightly", "q-artifacts-sync", retention_nightly, 1000000 },
	{ "retention.client", "q-artifacts-sync", retention_client, 20 },
	{ "analytics.nightly", "q-artifacts-sync", analytics_nightly, 1000000 },
	{ "calls.net", "q-campaign-dialer", calls_net, 1000000 },
	{ 0 },
};
