/* Users. A row is made by an invitation here or by a trusted claim at first sight, never by a header. */
#include "identity.h"
#include "users.sql.h"
#include "../../1_code/uuid.h"
#include "../../3_core/issuers.h"

struct user_in {
	struct str email, role, name, subject, issuer;
	bool is_active;
};

#define ROLES "agency_admin,client_admin,client_user"
#define FIELD(field, ...) { .name = #field, .offset = offsetof(struct user_in, field), __VA_ARGS__ }
static const struct shape_field new_fields[] = {
	FIELD(email, .type = SHAPE_TEXT, .flags = SHAPE_REQUIRED, .min = 3, .max = 254),
	FIELD(role, .type = SHAPE_ENUM, .flags = SHAPE_REQUIRED, .values = ROLES, .doc = "at most your own"),
	FIELD(name, .type = SHAPE_TEXT, .min = 1, .max = 200),
	FIELD(subject, .type = SHAPE_TEXT, .min = 1, .max = 255, .doc = "binds the user at once instead of by verified e-mail"),
	FIELD(issuer, .type = SHAPE_TEXT, .min = 1, .max = 500, .doc = "of that subject; default: your own token's"),
};
static const struct shape new_shape = SHAPE("user_new", new_fields);

static const struct shape_field patch_fields[] = {
	FIELD(role, .type = SHAPE_ENUM, .values = ROLES),
	FIELD(name, .type = SHAPE_TEXT, .min = 1, .max = 200),
	FIELD(is_active, .type = SHAPE_BOOL),
};
static const struct shape patch_shape = SHAPE("user_patch", patch_fields);

static const struct shape_field user_fields[] = {
	{ "id", SHAPE_UUID },
	{ "client_id", SHAPE_UUID, SHAPE_MAYBE, .doc = "null: a user of the agency" },
	{ "agency_id", SHAPE_UUID },
	{ "email", SHAPE_TEXT, SHAPE_MAYBE },
	{ "name", SHAPE_TEXT, SHAPE_MAYBE },
	{ "role", SHAPE_ENUM, .values = ROLES },
	{ "is_active", SHAPE_BOOL },
	{ "joined", SHAPE_BOOL, .doc = "false: invited, not seen yet" },
	{ "invited_at", SHAPE_TIME, SHAPE_MAYBE },
	{ "last_seen_at", SHAPE_TIME, SHAPE_MAYBE },
	{ "created_at", SHAPE_TIME },
	{ "updated_at", SHAPE_TIME },
};
static const struct shape user_shape = SHAPE("user", user_fields);

/* A role fits its place (agency_admin to the agency, the others to a client) and is not above the giver's own. */
static enum fault check_role(struct req *req, struct str role)
{
	enum role wanted = role_of(role);
	if (!role.p)
		return OK;
	if (wanted > req->who.role) {
		enum fault fault = fault_raise(FAULT_FORBIDDEN, "You cannot give a role above your own");
		fault_detail("reason", STR("role"));
		return fault;
	}
	if ((wanted == AGENCY_ADMIN) == (req->scope.client_id.p != NULL))
		return fault_field("role", wanted == AGENCY_ADMIN ? "is of the agency: send no x-client-id"
			: "is of a client: name it by x-client-id");
	return OK;
}

static enum fault invite(struct req *req)
{
	struct user_in *in = req->in;
	struct rows made, row;
	const char *at = memchr(in->email.p, '@', in->email.n);
	if (!at || at == in->email.p || memchr(in->email.p, ' ', in->email.n))
		return fault_field("email", "must be an e-mail address");
	TRY(check_role(req, in->role));
	if (in->subject.p && !in->issuer.p)
		in->issuer = req->who.issuer;
	if (in->subject.p && !issuer_find(in->issuer))
		return fault_field("issuer", "must be an issuer this installation trusts");
	struct str id = uuid_make(req->arena);
	TRY(req_begin(req));
	TRY(users_invite(&req->tx, (struct users_invite){ .id = id, .issuer = in->subject.p ? in->issuer : STR_NULL, .subject = in->subject,
		.email = in->email, .name = in->name, .role = in->role }, &made));
	if (!made.count) {
		TRY(users_by_email(&req->tx, (struct users_by_email){ .email = in->email }, &row));
		enum fault fault = fault_raise(FAULT_CONFLICT, "There is a user with that e-mail or subject already");
		fault_detail("field", row.count ? STR("email") : STR("subject"));
		if (row.count)
			fault_detail("id", pg_col(req->arena, &row, 0, "id"));
		return fault;
	}
	TRY(users_get(&req->tx, (struct users_get){ .id = id }, &row));
	reply_row(req, 201, &user_shape, &row, 0);
	http_reply_header(req->http, "Location", str_format(req->arena, API "/auth/users/%.*s", STRF(id)));
	return req_commit(req, false);
}

static enum fault list(struct req *req)
{
	static const char *const filters[] = { NULL };
	struct page page;
	struct rows rows;
	struct tx tx;
	TRY(req_page(req, filters, &page));
	req_read(req, &tx);
	struct str none = STR("00000000-0000-0000-0000-000000000000");
	struct str self = req->who.role != CLIENT_USER ? STR_NULL : req->who.user_id.p ? req->who.user_id : none;
	TRY(users_list(&tx, (struct users_list){ .self = self, PAGE_OF(page) }, &rows));
	reply_list(req, &user_shape, &rows, page.limit, page.filters);
	return OK;
}

static enum fault change(struct req *req, const struct user_in *in, bool deletes)
{
	struct rows changed, row;
	bool self = str_eq(req->ids[0], req->who.user_id);
	if (self && (deletes || (req_given(req, "is_active") && !in->is_active)))
		return fault_field(deletes ? "id" : "is_active", "you cannot remove yourself");
	if (self && in->role.p && role_of(in->role) > req->who.role)
		return fault_field("role", "you cannot raise yourself");
	TRY(check_role(req, in->role));
	TRY(req_begin(req));
	struct str active = deletes || (req_given(req, "is_active") && !in->is_active) ? STR("false")
		: req_given(req, "is_active") ? STR("true") : STR_NULL;
	users_patch_later(&req->tx, (struct users_patch){ .id = req->ids[0], .set_name = !deletes && json_object_get(req->json, "name"),
		.name = in->name, .role = in->role, .is_active = active }, &changed);
	TRY(users_get(&req->tx, (struct users_get){ .id = req->ids[0] }, &row));
	if (!changed.count)
		return fault_raise(FAULT_NOT_FOUND, "No such user");
	if (deletes)
		reply_json(req, 200, str_format(req->arena, "{\"id\":\"%.*s\",\"deleted\":true}", STRF(req->ids[0])));
	else
		reply_row(req, 200, &user_shape, &row, 0);
	return req_commit(req, false);
}

static enum fault patch(struct req *req) { return change(req, req->in, false); }
static enum fault delete(struct req *req) { return change(req, &(struct user_in){ 0 }, true); }

#define INVITE(path) { "POST", API path, ROLE_W, "accounts:write", invite, &new_shape, sizeof(struct user_in), &user_shape, 201, \
	.flags = ROUTE_AGENCY, .summary = "Invite a user, who joins by a verified e-mail" }
#define LIST(path) { "GET", API path, ROLE_R, "accounts:read", list, .out = &user_shape, .status = 200, .flags = ROUTE_LIST, \
	.summary = "List users; a client_user sees itself" }
#define PATCH(path) { "PATCH", API path, ROLE_W, "accounts:write", patch, &patch_shape, sizeof(struct user_in), &user_shape, 200, \
	.flags = ROUTE_AGENCY, .summary = "Change a user" }
#define DELETE(path) { "DELETE", API path, ROLE_W, "accounts:write", delete, .status = 200, .flags = ROUTE_AGENCY, \
	.summary = "Deactivate a user: the next request is 401" }

const struct route users_routes[] = { TWICE(INVITE, "/users"), TWICE(LIST, "/users"), TWICE(PATCH, "/users/{id}"),
	TWICE(DELETE, "/users/{id}"), { 0 } };
