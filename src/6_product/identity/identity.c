/* auth/me and auth/clients, with their aliases without /auth. */
#include "identity.h"
#include "identity.sql.h"

static const struct shape_field client_fields[] = {
	{ "id", SHAPE_UUID },
	{ "client_id", SHAPE_UUID },
	{ "agency_id", SHAPE_UUID },
	{ "name", SHAPE_TEXT },
	{ "email", SHAPE_TEXT },
	{ "mode", SHAPE_ENUM, .values = "live,test" },
	{ "subscription_status", SHAPE_ENUM, .values = "active,suspended,cancelled" },
	{ "credits_balance", SHAPE_INT },
	{ "credits_held", SHAPE_INT },
	{ "credits_available", SHAPE_INT },
	{ "credits_ceiling", SHAPE_INT },
	{ "price_per_minute", SHAPE_INT },
	{ "limits", SHAPE_OBJECT },
	{ "settings", SHAPE_OBJECT },
	{ "created_at", SHAPE_TIME },
	{ "updated_at", SHAPE_TIME },
};
const struct shape client_shape = SHAPE("client", client_fields);

static const struct shape_field me_fields[] = {
	{ "subject", SHAPE_TEXT },
	{ "email", SHAPE_TEXT, SHAPE_MAYBE },
	{ "name", SHAPE_TEXT, SHAPE_MAYBE },
	{ "role", SHAPE_ENUM, .values = "agency_admin,client_admin,client_user" },
	{ "agency_id", SHAPE_UUID },
	{ "permissions", SHAPE_LIST, .doc = "scopes this credential has" },
	{ "client", SHAPE_PART, SHAPE_MAYBE, .sub = &client_shape },
	{ "credits_balance", SHAPE_INT, SHAPE_MAYBE },
	{ "auth", SHAPE_OBJECT, .doc = "type, mode" },
};
static const struct shape me_shape = SHAPE("me", me_fields);

static void permissions(struct buf *b, enum role role)
{
	const char *comma = "";
	buf_char(b, '[');
	for (const struct route *const *list = dispatch_routes(); *list; list++)
		for (const struct route *r = *list; r->method; r++) {
			if (!r->scope || !(r->roles & role) || strstr(b->p, str_format(b->arena, "\"%s\"", r->scope).p))
				continue;
			buf_format(b, "%s\"%s\"", comma, r->scope);
			comma = ",";
		}
	buf_char(b, ']');
}

static enum fault me(struct req *req)
{
	struct rows row = { 0 };
	struct tx tx;
	struct buf b = BUF_IN(req->arena, 65536), scopes = BUF_IN(req->arena, 8192);
	const struct principal *who = &req->who;
	req_read(req, &tx);
	TRY(identity_client(&tx, (struct identity_client){ 0 }, &row));
	permissions(&scopes, who->role);
	buf_text(&b, "{\"subject\":");
	buf_json(&b, who->subject);
	buf_text(&b, ",\"email\":");
	buf_json(&b, who->email);
	buf_text(&b, ",\"name\":");
	buf_json(&b, who->name);
	buf_format(&b, ",\"role\":\"%s\",\"agency_id\":\"%.*s\",\"permissions\":%.*s,\"client\":", role_name(who->role),
		STRF(who->agency_id), STRF(buf_view(&scopes)));
	if (row.count)
		row_json(&b, req->arena, &client_shape, &row, 0);
	else
		buf_text(&b, "null");
	if (row.count)
		buf_format(&b, ",\"credits_balance\":%lld,\"auth\":{\"type\":\"jwt\",\"mode\":\"%.*s\"}}",
			(long long)pg_int(&row, 0, "credits_balance"), STRF(pg_col(req->arena, &row, 0, "mode")));
	else
		buf_text(&b, ",\"credits_balance\":null,\"auth\":{\"type\":\"jwt\",\"mode\":\"live\"}}");
	reply_json(req, 200, buf_view(&b));
	return OK;
}

static enum fault clients(struct req *req)
{
	static const char *const filters[] = { "q", "subscription_status", NULL };
	struct page page;
	struct rows rows;
	struct tx tx;
	TRY(req_page(req, filters, &page));
	req_read(req, &tx);
	TRY(identity_list(&tx, (struct identity_list){ .q = req_query(req, "q"),
		.subscription_status = req_enum_filter(req, "subscription_status", "active,suspended,cancelled"),
		.created_after = page.created_after, .created_before = page.created_before, .after_us = page.after_us,
		.after_id = page.after_id, .limit = page.limit + 1 }, &rows));
	reply_list(req, &client_shape, &rows, page.limit, page.filters);
	return OK;
}

#define ME(path) { "GET", API path, ROLE_R, "accounts:read", me, .out = &me_shape, .status = 200, .summary = "Who am I" }
#define CLIENTS(path) { "GET", API path, ROLE_R, "accounts:read", clients, .out = &client_shape, .status = 200, \
	.flags = ROUTE_LIST, .query = "q,subscription_status", .summary = "List the clients I may see" }

const struct route identity_routes[] = { ME("/auth/me"), ME("/me"), CLIENTS("/auth/clients"), CLIENTS("/clients"), { 0 } };
