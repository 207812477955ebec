/* The event log of a client: dense sequence numbers, oldest first, so a reader that remembers the last
 * one misses nothing. */
#include "insight.h"
#include "insight.sql.h"
#include "../../1_code/uuid.h"

static const struct shape_field event_fields[] = {
	{ "id", SHAPE_TEXT },
	{ "seq", SHAPE_INT },
	{ "type", SHAPE_TEXT },
	{ "timestamp", SHAPE_TIME },
	{ "client_id", SHAPE_UUID },
	{ "resource", SHAPE_OBJECT, .doc = "type and id" },
	{ "data", SHAPE_OBJECT },
};
static const struct shape event_shape = SHAPE("event", event_fields);

static enum fault events(struct req *req)
{
	static const char *const filters[] = { NULL };
	struct page page;
	struct rows rows;
	struct tx tx;
	int64_t seq;
	struct str after = req_query(req, "after"), resource = req_query(req, "resource_id");
	TRY(req_need_client(req));
	TRY(req_page(req, filters, &page));
	if (after.p && (!str_int(after, &seq) || seq < 0))
		return fault_raise(FAULT_BAD_REQUEST, "after must be the seq of the last event seen");
	if (resource.p && !uuid_valid(resource))
		return fault_field("resource_id", "must be a UUID");
	req_read(req, &tx);
	TRY(insight_events(&tx, (struct insight_events){ .after = after, .type = req_query(req, "type"), .resource_id = resource,
		.limit = page.limit + 1 }, &rows));
	int shown = rows.count > page.limit ? (int)page.limit : rows.count;
	struct buf b = BUF_IN(req->arena, (size_t)8 << 20);
	buf_char(&b, '[');
	for (int i = 0; i < shown; i++) {
		if (i)
			buf_char(&b, ',');
		row_json(&b, req->arena, &event_shape, &rows, i);
	}
	buf_char(&b, ']');
	reply_meta(req, "limit", str_format(req->arena, "%lld", (long long)page.limit));
	reply_meta(req, "has_more", rows.count > page.limit ? STR("true") : STR("false"));
	reply_meta(req, "next_cursor", rows.count > page.limit
		? str_format(req->arena, "\"%lld\"", (long long)pg_int(&rows, shown - 1, "seq")) : STR("null"));
	reply_json(req, 200, buf_view(&b));
	return OK;
}

const struct route insight_routes[] = {
	{ "GET", API "/events", ROLE_R, "events:read", events, .out = &event_shape, .status = 200, .flags = ROUTE_LIST,
		.query = "after,type,resource_id", .summary = "Read events, oldest first; after = the last seq you saw" },
	{ 0 },
};
