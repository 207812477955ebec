/* Keys. A platform key of ours is shown once and kept as a digest; a provider's credential is sealed and never shown.
 * What must never happen here: a secret in an answer after the first, in a log, or in an error. */
#include "identity.h"
#include "keys.sql.h"
#include "../../0_base/clock.h"
#include "../../1_code/uuid.h"
#include "../../3_core/auth.h"
#include "../../3_core/credentials.h"
#include "../../3_core/vault.h"

struct key_in {
	struct str service, key_name, api_key, settings, role, scopes, expires_at;
	bool is_active;
};

#define PROVIDERS "ultravox,stripe,telnyx,google_cloud,google,elevenlabs,cartesia,lmnt,inworld,respeecher,aws,azure,openai"
static const struct shape_field scope_item[] = { { "scope", SHAPE_TEXT, .min = 1, .max = 40 } };
static const struct shape scope_shape = { "scope", scope_item, 1, .item_is_text = true };

#define FIELD(field, ...) { .name = #field, .offset = offsetof(struct key_in, field), __VA_ARGS__ }
#define SCOPES FIELD(scopes, .type = SHAPE_LIST, .min = 1, .max = 32, .sub = &scope_shape, .doc = "\"*\" or <area>:read, <area>:write")
#define EXPIRES FIELD(expires_at, .type = SHAPE_TIME)
#define API_KEY FIELD(api_key, .type = SHAPE_TEXT, .min = 8, .max = 8192, .doc = "a provider's secret; it never comes back")
#define KEY_SETTINGS FIELD(settings, .type = SHAPE_OBJECT, .max = 16384, .doc = "for you; ultravox: dedicated true if no one else uses " \
	"that account")
static const struct shape_field new_fields[] = {
	FIELD(service, .type = SHAPE_ENUM, .values = "trunkline," PROVIDERS, .doc = "default trunkline when no api_key is sent"),
	FIELD(key_name, .type = SHAPE_TEXT, .flags = SHAPE_REQUIRED, .min = 1, .max = 100), API_KEY, KEY_SETTINGS,
	FIELD(role, .type = SHAPE_ENUM, .values = "agency_admin,client_admin,client_user", .doc = "of a platform key; at most your own; "
		"client_user, or agency_admin for an agency's"), SCOPES, EXPIRES,
};
static const struct shape new_shape = SHAPE("api_key_new", new_fields);

static const struct shape_field patch_fields[] = {
	FIELD(key_name, .type = SHAPE_TEXT, .min = 1, .max = 100), API_KEY, KEY_SETTINGS, FIELD(is_active, .type = SHAPE_BOOL),
	SCOPES, EXPIRES,
};
static const struct shape patch_shape = SHAPE("api_key_patch", patch_fields);

static const struct shape_field key_fields[] = {
	{ "id", SHAPE_UUID },
	{ "client_id", SHAPE_UUID, SHAPE_MAYBE, .doc = "null: the agency's" },
	{ "service", SHAPE_TEXT },
	{ "key_name", SHAPE_TEXT },
	{ "is_active", SHAPE_BOOL },
	{ "role", SHAPE_ENUM, SHAPE_MAYBE, .values = "agency_admin,client_admin,client_user" },
	{ "scopes", SHAPE_LIST, SHAPE_MAYBE, .sub = &scope_shape },
	{ "key_prefix", SHAPE_TEXT, SHAPE_MAYBE },
	{ "expires_at", SHAPE_TIME, SHAPE_MAYBE },
	{ "last_used_at", SHAPE_TIME, SHAPE_MAYBE, .doc = "to the minute" },
	{ "settings", SHAPE_OBJECT },
	{ "voice_id", SHAPE_TEXT, SHAPE_MAYBE },
	{ "sync_status", SHAPE_ENUM, SHAPE_MAYBE, .values = "synced,pending,stored_only,failed" },
	{ "last_error", SHAPE_TEXT, SHAPE_OMIT },
	{ "revoked_at", SHAPE_TIME, SHAPE_MAYBE },
	{ "created_at", SHAPE_TIME },
	{ "updated_at", SHAPE_TIME },
};
const struct shape api_key_shape = SHAPE("api_key", key_fields);

static bool scope_known(const char *scope)
{
	static const char *const areas[] = { "agents", "voices", "kb", "tools", "calls", "campaigns", "suppressions", "webhooks", "events",
		"billing", "telephony", "export", "audit", "accounts" };
	struct str verb = str_of(scope), area = str_cut(&verb, ':');
	if (strcmp(scope, "*") == 0)
		return true;
	for (size_t i = 0; i < sizeof areas / sizeof *areas; i++)
		if (str_is(area, areas[i]))
			return str_is(verb, "read") || str_is(verb, "write");
	return false;
}

/* The list as commas, each known and held by whoever gives it. */
static enum fault read_scopes(struct req *req, struct str json, struct str *ret)
{
	json_t *list, *one;
	size_t i;
	struct buf b = BUF_IN(req->arena, 2048);
	TRY(json_read_any(req->arena, json, &list));
	json_array_foreach(list, i, one) {
		const char *scope = json_string_value(one), *field = str_format(req->arena, "scopes[%zu]", i).p;
		if (!scope_known(scope))
			return fault_field(field, "must be \"*\" or an area with :read or :write");
		if (!auth_scope_held(&req->who, scope)) {
			enum fault fault = fault_raise(FAULT_FORBIDDEN, "You cannot give the scope %s, which you do not have", scope);
			fault_detail("reason", STR("scope"));
			return fault;
		}
		buf_format(&b, "%s%s", i ? "," : "", scope);
	}
	*ret = buf_view(&b);
	return OK;
}

static enum fault check_expiry(struct str at)
{
	int64_t at_us;
	return !at.p || (clock_parse(at, &at_us) && at_us > clock_now_us()) ? OK : fault_field("expires_at", "must lie in the future");
}

static enum fault name_taken(struct req *req, const struct key_in *in)
{
	struct rows other;
	TRY(keys_by_name(&req->tx, (struct keys_by_name){ .service = in->service, .key_name = in->key_name }, &other));
	enum fault fault = fault_raise(FAULT_CONFLICT, "There is a live %.*s key of that name", STRF(in->service));
	fault_detail("field", STR("key_name"));
	if (other.count)
		fault_detail("id", pg_col(req->arena, &other, 0, "id"));
	return fault;
}

static enum fault made(struct req *req, struct str id, struct str secret)
{
	struct rows row;
	struct buf b = BUF_IN(req->arena, 65536);
	TRY(keys_get(&req->tx, (struct keys_get){ .id = id }, &row));
	row_json(&b, req->arena, &api_key_shape, &row, 0);
	if (secret.p) {		/* the one answer with the key in it */
		b.n--;
		buf_text(&b, ",\"key\":");
		buf_json(&b, secret);
		buf_char(&b, '}');
	}
	reply_json(req, 201, buf_view(&b));
	http_reply_header(req->http, "Location", str_format(req->arena, API "/auth/api-keys/%.*s", STRF(id)));
	return req_commit(req, false);
}

static enum fault create_platform(struct req *req, struct key_in *in)
{
	struct rows client, inserted;
	struct str scopes = STR("*"), id = uuid_make(req->arena);
	bool agency = !req->scope.client_id.p;
	enum role role = in->role.p ? role_of(in->role) : agency ? AGENCY_ADMIN : CLIENT_USER;
	if (role > req->who.role) {
		enum fault fault = fault_raise(FAULT_FORBIDDEN, "A key cannot have a role above your own");
		fault_detail("reason", STR("role"));
		return fault;
	}
	if ((role == AGENCY_ADMIN) != agency)
		return fault_field("role", agency ? "of an agency's key is agency_admin; name a client by x-client-id for others"
			: "agency_admin is of an agency's key: send no x-client-id");
	if (req->who.scopes.p)
		scopes = req->who.scopes;	/* a key that says nothing gives what it has */
	if (in->scopes.p)
		TRY(read_scopes(req, in->scopes, &scopes));
	TRY(check_expiry(in->expires_at));
	TRY(req_begin(req));
	TRY(keys_mode(&req->tx, (struct keys_mode){ 0 }, &client));
	bool test = client.count && str_is(pg_col(req->arena, &client, 0, "mode"), "test");
	struct platform_key key = auth_make_key(req->arena, test);
	TRY(keys_platform_insert(&req->tx, (struct keys_platform_insert){ .id = id, .key_name = in->key_name,
		.role = str_of(role_name(role)), .scopes = scopes, .prefix = key.prefix, .hash = key.hash, .expires_at = in->expires_at },
		&inserted));
	return inserted.count ? made(req, id, key.text) : name_taken(req, in);
}

static enum fault create_provider(struct req *req, const struct key_in *in)
{
	struct rows inserted;
	struct str id = uuid_make(req->arena), sealed;
	struct str owner = req->scope.client_id.p ? req->scope.client_id : req->scope.agency_id;
	if (!in->api_key.p)
		return fault_field("api_key", "is required for a provider's credential");
	if (in->role.p || in->scopes.p || in->expires_at.p)
		return fault_field(in->role.p ? "role" : in->scopes.p ? "scopes" : "expires_at", "is for platform keys alone");
	TRY(vault_entrust(req->arena, credential_context(req->arena, owner, id), in->api_key, &sealed));
	TRY(req_begin(req));
	TRY(keys_provider_insert(&req->tx, (struct keys_provider_insert){ .id = id, .service = in->service, .key_name = in->key_name,
		.sealed = sealed, .settings = in->settings }, &inserted));
	if (!inserted.count)
		return name_taken(req, in);
	struct job_order job = { .kind = "credential.register", .resource_type = "api_key", .resource_id = id };
	if (str_is(in->service, "ultravox"))
		job_add(&req->tx, &job);
	return made(req, id, STR_NULL);
}

static enum fault create(struct req *req)
{
	struct key_in *in = req->in;
	if (!in->service.p && in->api_key.p)
		return fault_field("service", "is required with api_key: whose key is it?");
	if (!in->service.p)
		in->service = STR("trunkline");
	in->service = credential_service(in->service);
	if (!str_is(in->service, "trunkline"))
		return create_provider(req, in);
	return in->api_key.p ? fault_field("api_key", "is made for you when service is trunkline") : create_platform(req, in);
}

static enum fault list(struct req *req)
{
	static const char *const filters[] = { "service", "is_active", NULL };
	struct page page;
	struct rows rows;
	struct tx tx;
	TRY(req_page(req, filters, &page));
	req_read(req, &tx);
	TRY(keys_list(&tx, (struct keys_list){ .service = req_enum_filter(req, "service", "trunkline," PROVIDERS),
		.is_active = req_enum_filter(req, "is_active", "true,false"), PAGE_OF(page) }, &rows));
	reply_list(req, &api_key_shape, &rows, page.limit, page.filters);
	return OK;
}

static enum fault get(struct req *req)
{
	struct rows row;
	struct tx tx;
	req_read(req, &tx);
	TRY(keys_get(&tx, (struct keys_get){ .id = req->ids[0] }, &row));
	if (!row.count)
		return fault_raise(FAULT_NOT_FOUND, "No such key");
	reply_row(req, 200, &api_key_shape, &row, 0);
	return OK;
}

/* A field given for the other kind of key; NULL when all fit. */
static const char *misplaced(struct req *req, bool platform)
{
	if (platform)
		return req_given(req, "api_key") ? "api_key" : NULL;
	return json_object_get(req->json, "scopes") ? "scopes" : json_object_get(req->json, "expires_at") ? "expires_at" : NULL;
}

static enum fault patch(struct req *req)
{
	struct key_in *in = req->in;
	struct rows kind, changed, row;
	struct tx tx;
	struct str sealed = STR_NULL, scopes = STR_NULL;
	req_read(req, &tx);	/* sealing may wait, so it comes before the transaction */
	TRY(keys_kind(&tx, (struct keys_kind){ .id = req->ids[0] }, &kind));
	if (!kind.count)
		return fault_raise(FAULT_NOT_FOUND, "No such key");
	const char *field = misplaced(req, str_is(pg_col(req->arena, &kind, 0, "service"), "trunkline"));
	if (field)
		return fault_field(field, "does not belong to this kind of key");
	if (!pg_null(&kind, 0, "role") && role_of(pg_col(req->arena, &kind, 0, "role")) > req->who.role)
		return fault_raise(FAULT_FORBIDDEN, "This key's role is above your own");
	struct str owner = pg_null(&kind, 0, "client_id") ? req->scope.agency_id : pg_col(req->arena, &kind, 0, "client_id");
	if (in->api_key.p)
		TRY(vault_entrust(req->arena, credential_context(req->arena, owner, req->ids[0]), in->api_key, &sealed));
	if (in->scopes.p)
		TRY(read_scopes(req, in->scopes, &scopes));
	TRY(check_expiry(in->expires_at));
	TRY(req_begin(req));
	TRY(keys_patch(&req->tx, (struct keys_patch){ .id = req->ids[0], .key_name = in->key_name, .settings = in->settings,
		.is_active = req_given(req, "is_active") ? in->is_active ? STR("true") : STR("false") : STR_NULL, .sealed = sealed,
		.scopes = scopes, .set_expires = json_object_get(req->json, "expires_at"), .expires_at = in->expires_at }, &changed));
	if (!changed.count)
		return fault_raise(FAULT_NOT_FOUND, "No such key");
	TRY(keys_get(&req->tx, (struct keys_get){ .id = req->ids[0] }, &row));
	reply_row(req, 200, &api_key_shape, &row, 0);
	return req_commit(req, false);
}

static enum fault revoke(struct req *req)
{
	struct rows gone;
	TRY(req_begin(req));
	TRY(keys_revoke(&req->tx, (struct keys_revoke){ .id = req->ids[0] }, &gone));
	if (!gone.count)
		return fault_raise(FAULT_NOT_FOUND, "No such key");
	reply_json(req, 200, str_format(req->arena, "{\"id\":\"%.*s\",\"deleted\":true,\"revoked_at\":\"%.*s\"}", STRF(req->ids[0]),
		STRF(pg_col(req->arena, &gone, 0, "revoked_at"))));
	return req_commit(req, false);
}

#define CREATE(path) { "POST", API path, ROLE_W, "accounts:write", create, &new_shape, sizeof(struct key_in), &api_key_shape, 201, \
	.flags = ROUTE_AGENCY, .summary = "Make a platform key (shown once) or keep a provider's credential (never shown)" }
#define LIST(path) { "GET", API path, ROLE_W, "accounts:read", list, .out = &api_key_shape, .status = 200, .flags = ROUTE_LIST, \
	.query = "service,is_active", .summary = "List keys of both kinds, without secrets" }
#define GET(path) { "GET", API path, ROLE_W, "accounts:read", get, .out = &api_key_shape, .status = 200, .summary = "Read a key" }
#define PATCH(path) { "PATCH", API path, ROLE_W, "accounts:write", patch, &patch_shape, sizeof(struct key_in), &api_key_shape, 200, \
	.flags = ROUTE_AGENCY, .summary = "Change a key" }
#define DELETE(path) { "DELETE", API path, ROLE_W, "accounts:write", revoke, .status = 200, .flags = ROUTE_AGENCY, \
	.summary = "Revoke a key; refused everywhere from then on" }

const struct route keys_routes[] = { TWICE(CREATE, "/api-keys"), TWICE(LIST, "/api-keys"), TWICE(GET, "/api-keys/{id}"),
	TWICE(PATCH, "/api-keys/{id}"), TWICE(DELETE, "/api-keys/{id}"), { 0 } };
