/* auth/me: who the credential is, what it may do, what its client has left. */
#include "identity.h"
#include "identity.sql.h"
#include "../../3_core/auth.h"

static const struct shape_field me_fields[] = {
	{ "subject", SHAPE_TEXT },
	{ "email", SHAPE_TEXT, SHAPE_MAYBE },
	{ "name", SHAPE_TEXT, SHAPE_MAYBE },
	{ "role", SHAPE_ENUM, .values = "agency_admin,client_admin,client_user" },
	{ "agency_id", SHAPE_UUID },
	{ "permissions", SHAPE_LIST, .doc = "scopes this credential has" },
	{ "client", SHAPE_PART, SHAPE_MAYBE, .sub = &client_shape },
	{ "credits_balance", SHAPE_INT, SHAPE_MAYBE },
	{ "auth", SHAPE_OBJECT, .doc = "type jwt or api_key, key_id, mode live or test" },
};
static const struct shape me_shape = SHAPE("me", me_fields);

static void permissions(struct buf *b, const struct principal *who)
{
	const char *comma = "";
	buf_char(b, '[');
	for (const struct route *const *list = dispatch_routes(); *list; list++)
		for (const struct route *r = *list; r->method; r++) {
			if (!r->scope || *r->scope == '*' || !(r->roles & who->role) || !auth_scope_held(who, r->scope) ||
			    strstr(b->p, str_format(b->arena, "\"%s\"", r->scope).p))
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
	permissions(&scopes, who);
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
	buf_text(&b, ",\"credits_balance\":");
	if (row.count)
		buf_int(&b, pg_int(&row, 0, "credits_balance"));
	else
		buf_text(&b, "null");
	struct str mode = row.count ? pg_col(req->arena, &row, 0, "mode") : STR("live");
	buf_format(&b, ",\"auth\":{\"type\":\"%s\",\"mode\":\"%.*s\"", who->key_id.p ? "api_key" : "jwt", STRF(mode));
	if (who->key_id.p)
		buf_format(&b, ",\"key_id\":\"%.*s\"", STRF(who->key_id));
	buf_text(&b, "}}");
	reply_json(req, 200, buf_view(&b));
	return OK;
}

/* Any credential may ask who it is. */
#define ME(path) { "GET", API path, ROLE_R, SCOPE_ANY, me, .out = &me_shape, .status = 200, .summary = "Who am I" }

const struct route identity_routes[] = { TWICE(ME, "/me"), { 0 } };
