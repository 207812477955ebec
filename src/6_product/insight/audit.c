/* Reading the audit. It is written by the database itself (db/schema, audit_row), so no handler can forget it. */
#include "insight.h"
#include "audit.sql.h"

#define ACTIONS "create,update,delete,use,resolve"

static const struct shape_field entry_fields[] = {
	{ "id", SHAPE_UUID },
	{ "seq", SHAPE_INT, .doc = "dense in its chain: one chain a client, one an agency" },
	{ "at", SHAPE_TIME },
	{ "client_id", SHAPE_UUID, SHAPE_MAYBE, .doc = "null: the agency's own chain" },
	{ "actor", SHAPE_OBJECT, .doc = "type user, key, system or operator, and id" },
	{ "action", SHAPE_ENUM, .values = ACTIONS },
	{ "table_name", SHAPE_TEXT },
	{ "record_id", SHAPE_TEXT },
	{ "diff", SHAPE_OBJECT, SHAPE_MAYBE, .doc = "before and after, secrets as \"changed\"; null when erased" },
	{ "ip_address", SHAPE_TEXT, SHAPE_MAYBE },
	{ "user_agent", SHAPE_TEXT, SHAPE_MAYBE },
	{ "request_id", SHAPE_TEXT, SHAPE_MAYBE },
	{ "prev_hash", SHAPE_TEXT },
	{ "hash", SHAPE_TEXT, .doc = "SHA-256 of prev_hash, the fixed fields and the SHA-256 of diff" },
};
static const struct shape entry_shape = SHAPE("audit", entry_fields);

static const struct shape_field verdict_fields[] = {
	{ "ok", SHAPE_BOOL },
	{ "checked", SHAPE_INT, .doc = "entries walked" },
	{ "erased", SHAPE_INT, .doc = "of these, with an erased diff" },
	{ "first_bad_seq", SHAPE_INT, SHAPE_OMIT },
	{ "bad_client_id", SHAPE_UUID, SHAPE_OMIT, .doc = "whose chain; absent for the agency's own" },
	{ "problem", SHAPE_TEXT, SHAPE_OMIT },
};
static const struct shape verdict_shape = SHAPE("audit_verdict", verdict_fields);

static enum fault list(struct req *req)
{
	static const char *const filters[] = { "action", "table_name", "record_id", "user_id", NULL };
	struct page page;
	struct rows rows;
	struct tx tx;
	TRY(req_page(req, filters, &page));
	req_read(req, &tx);
	TRY(audit_list(&tx, (struct audit_list){ .action = req_enum_filter(req, "action", ACTIONS),
		.table_name = req_query(req, "table_name"), .record_id = req_query(req, "record_id"), .user_id = req_query(req, "user_id"),
		PAGE_OF(page) }, &rows));
	reply_list(req, &entry_shape, &rows, page.limit, page.filters);
	return OK;
}

static enum fault verify(struct req *req)
{
	struct rows r;
	struct tx tx;
	int64_t checked = 0, erased = 0;
	int bad = -1;
	req_read(req, &tx);
	TRY(audit_check(&tx, (struct audit_check){ 0 }, &r));
	for (int i = 0; i < r.count; i++) {
		checked += pg_int(&r, i, "checked");
		erased += pg_int(&r, i, "erased");
		if (bad < 0 && !pg_null(&r, i, "first_bad_seq"))
			bad = i;
	}
	struct buf b = BUF_IN(req->arena, 2048);
	buf_format(&b, "{\"ok\":%s,\"checked\":%lld,\"erased\":%lld", bad < 0 ? "true" : "false", (long long)checked, (long long)erased);
	if (bad >= 0) {
		buf_format(&b, ",\"first_bad_seq\":%lld,\"problem\":", (long long)pg_int(&r, bad, "first_bad_seq"));
		buf_json(&b, pg_col(req->arena, &r, bad, "problem"));
		if (!pg_null(&r, bad, "client_id")) {
			buf_text(&b, ",\"bad_client_id\":");
			buf_json(&b, pg_col(req->arena, &r, bad, "client_id"));
		}
	}
	buf_char(&b, '}');
	reply_json(req, 200, buf_view(&b));
	return OK;
}

const struct route audit_routes[] = {
	{ "GET", API "/audit", ROLE_W, "audit:read", list, .out = &entry_shape, .status = 200, .flags = ROUTE_LIST,
		.query = "action,table_name,record_id,user_id,created_after,created_before", .summary = "Who changed what, newest first" },
	{ "GET", API "/audit/verify", ROLE_W, "audit:read", verify, .out = &verdict_shape, .status = 200,
		.summary = "Walk the hash chains I may see" },
	{ 0 },
};
