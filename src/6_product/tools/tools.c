/* Tools: routes. The row is the truth; the job `tool.push` makes the provider's copy follow it. */
#include "tools.h"
#include "tools.sql.h"
#include "../../1_code/url.h"
#include "../../1_code/uuid.h"
#include "../../3_core/config.h"
#include "../../3_core/effect.h"
#include "../../3_core/events.h"
#include "../../3_core/vault.h"
#include "../../4_out/voice_provider.h"

#define METHODS "GET,POST,PUT,PATCH,DELETE"

#define FIELD(field, ...) { .name = #field, .offset = offsetof(struct tool_new, field), __VA_ARGS__ }
#define AUTHENTICATION "type: none, bearer, basic or api_key; secret (of basic user:password), kept sealed and never " \
	"answered; for api_key name and location: header or query"
static const struct shape_field new_fields[] = {
	FIELD(name, .type = SHAPE_TEXT, .flags = SHAPE_REQUIRED, .min = 1, .max = 100),
	FIELD(description, .type = SHAPE_TEXT, .max = 1000, .doc = "tells the model when to use it"),
	FIELD(category, .type = SHAPE_TEXT, .max = 100),
	FIELD(endpoint, .type = SHAPE_URL, .flags = SHAPE_REQUIRED, .doc = "{name} in the path is filled from parameters"),
	FIELD(method, .type = SHAPE_ENUM, .flags = SHAPE_REQUIRED, .values = METHODS),
	FIELD(authentication, .type = SHAPE_OBJECT, .max = 16384, .doc = AUTHENTICATION),
	FIELD(parameters, .type = SHAPE_OBJECT, .max = 65536, .doc = "JSON Schema of one object"),
	FIELD(response_schema, .type = SHAPE_OBJECT, .max = 65536),
	FIELD(timeout_seconds, .type = SHAPE_INT, .min = 1, .max = 40, .preset = "5"),
};
static const struct shape new_shape = SHAPE("tool_new", new_fields);
static const struct shape_field patch_fields[] = {
	FIELD(name, .type = SHAPE_TEXT, .min = 1, .max = 100),
	FIELD(description, .type = SHAPE_TEXT, .flags = SHAPE_MAYBE, .max = 1000),
	FIELD(category, .type = SHAPE_TEXT, .flags = SHAPE_MAYBE, .max = 100),
	FIELD(endpoint, .type = SHAPE_URL),
	FIELD(method, .type = SHAPE_ENUM, .values = METHODS),
	FIELD(authentication, .type = SHAPE_OBJECT, .max = 16384, .doc = "without secret: the old one stays"),
	FIELD(parameters, .type = SHAPE_OBJECT, .flags = SHAPE_MAYBE, .max = 65536),
	FIELD(response_schema, .type = SHAPE_OBJECT, .flags = SHAPE_MAYBE, .max = 65536),
	FIELD(timeout_seconds, .type = SHAPE_INT, .min = 1, .max = 40),
};
static const struct shape patch_shape = SHAPE("tool_patch", patch_fields);

static const struct shape_field tool_fields[] = {
	{ "id", SHAPE_UUID },
	{ "client_id", SHAPE_UUID },
	{ "name", SHAPE_TEXT },
	{ "description", SHAPE_TEXT, SHAPE_MAYBE },
	{ "category", SHAPE_TEXT, SHAPE_MAYBE },
	{ "endpoint", SHAPE_TEXT },
	{ "method", SHAPE_ENUM, .values = METHODS },
	{ "authentication", SHAPE_OBJECT, .doc = "without the secret" },
	{ "parameters", SHAPE_OBJECT, SHAPE_MAYBE },
	{ "response_schema", SHAPE_OBJECT, SHAPE_MAYBE },
	{ "timeout_seconds", SHAPE_INT },
	{ "status", SHAPE_ENUM, .values = "creating,active,failed" },
	{ "sync_status", SHAPE_ENUM, .values = "synced,pending,failed" },
	{ "revision", SHAPE_INT },
	{ "ultravox_tool_id", SHAPE_TEXT, SHAPE_MAYBE },
	{ "last_error", SHAPE_TEXT, SHAPE_OMIT },
	{ "created_at", SHAPE_TIME },
	{ "updated_at", SHAPE_TIME },
};
static const struct shape tool_shape = SHAPE("tool", tool_fields);

struct trial_in {
	struct str parameters;
};
static const struct shape_field trial_fields[] = {
	{ .name = "parameters", .type = SHAPE_OBJECT, .max = 65536, .doc = "what the model would fill in" },
};
static const struct shape trial_shape = SHAPE("tool_trial", trial_fields);
static const struct shape_field trial_done_fields[] = {
	{ "ok", SHAPE_BOOL, .doc = "an answer below 400" },
	{ "duration_ms", SHAPE_INT },
	{ "request", SHAPE_OBJECT, .doc = "method, url, headers, body as sent; secrets are starred" },
	{ "response", SHAPE_OBJECT, SHAPE_MAYBE, .doc = "status, content_type and the first 4 KiB of the body" },
	{ "error", SHAPE_TEXT, SHAPE_MAYBE, .doc = "why there was no answer" },
};
static const struct shape trial_done_shape = SHAPE("tool_trial_done", trial_done_fields);

static enum fault load_row(struct tx *tx, struct str id, struct rows *ret) { return tools_get(tx, (struct tools_get){ .id = id }, ret); }

static const struct effect pushing = { "tool.push", "tool", "tool", "ultravox", &tool_shape, load_row };

/* A field name of HTTP (RFC 9110 5.1), or of a query. */
static bool token(struct str t)
{
	for (size_t i = 0; i < t.n; i++)
		if (t.p[i] <= ' ' || t.p[i] >= 127 || strchr("\"(),/:;<=>?@[\\]{}&#%", t.p[i]))
			return false;
	return t.n > 0 && t.n <= 100;
}

static bool printable(struct str t)
{
	for (size_t i = 0; i < t.n; i++)
		if ((unsigned char)t.p[i] < ' ' || t.p[i] == 127)
			return false;
	return t.n > 0;
}

/* What is stored of it: type, name and location; *ret_secret NULL p = none was sent. */
static enum fault read_authentication(struct req *req, struct str in, bool had_secret, struct str *ret_json, struct str *ret_secret)
{
	json_t *how;
	*ret_secret = STR_NULL;
	*ret_json = STR("{\"type\":\"none\"}");
	if (!in.p)
		return OK;
	TRY(json_read(req->arena, in, &how));
	struct str type = json_text(how, "type"), name = json_text(how, "name"), location = json_text(how, "location");
	struct str secret = json_text(how, "secret");
	bool key = str_is(type, "api_key");
	if (str_is(type, "none"))
		return OK;
	if (!key && !str_is(type, "bearer") && !str_is(type, "basic"))
		return fault_field("authentication.type", "must be none, bearer, basic or api_key");
	if (!secret.n && !had_secret)
		return fault_field("authentication.secret", "is required");
	if (secret.p && (!printable(secret) || secret.n > 8192))
		return fault_field("authentication.secret", "must be 1..8192 bytes without control characters");
	if (secret.p && str_is(type, "basic") && !memchr(secret.p, ':', secret.n))
		return fault_field("authentication.secret", "must be user:password");
	if (key && !token(name))
		return fault_field("authentication.name", "must name the header or query parameter");
	if (key && location.p && !str_is(location, "header") && !str_is(location, "query"))
		return fault_field("authentication.location", "must be header or query");
	*ret_secret = secret;
	*ret_json = key ? str_format(req->arena, "{\"type\":\"api_key\",\"name\":\"%.*s\",\"location\":\"%s\"}", STRF(name),
		str_is(location, "query") ? "query" : "header") : str_format(req->arena, "{\"type\":\"%.*s\"}", STRF(type));
	return OK;
}

static enum fault check(struct req *req, const struct tool_new *in)
{
	struct url url;
	json_t *schema = NULL;
	const char *problem = url_read(in->endpoint, &url) ? url_egress_problem(&url, config.egress_allow_private) : "must be a URL";
	if (problem)
		return fault_field("endpoint", problem);
	if (memchr(url.host.p, '{', url.host.n))
		return fault_field("endpoint", "must name its host: placeholders belong into the path");
	if (in->parameters.p) {
		TRY(json_read(req->arena, in->parameters, &schema));
		TRY(tool_schema_check(req->arena, "parameters", schema));
	}
	return tool_placeholders_check(req->arena, in->endpoint, schema);
}

static void insert(struct tx *tx, struct str id, const struct tool_new *in, struct str how, struct str sealed)
{
	tools_insert_later(tx, (struct tools_insert){ .id = id, .name = in->name, .description = in->description, .category = in->category,
		.endpoint = in->endpoint, .method = in->method, .authentication = how, .sealed = sealed, .parameters = in->parameters,
		.response_schema = in->response_schema, .timeout = in->timeout_seconds }, NULL);
}

enum fault tool_read(struct req *req, const json_t *object, struct str secret, struct tool_made *ret)
{
	struct shape_warning *ignored = NULL;
	struct str none;
	json_t *how;
	uint64_t set;
	*ret = (struct tool_made){ .id = uuid_make(req->arena) };
	TRY(shape_read(req->arena, &new_shape, object, &ret->in, &set, &ignored));
	TRY(check(req, &ret->in));
	TRY(read_authentication(req, ret->in.authentication, true, &ret->how, &none));
	TRY(json_read(req->arena, ret->how, &how));
	ret->lacks_secret = !secret.n && !str_is(json_text(how, "type"), "none");
	if (secret.n && (!printable(secret) || secret.n > 8192))
		return fault_field("secret", "must be 1..8192 bytes without control characters");
	return secret.n ? vault_entrust(req->arena, tool_context(req->arena, ret->id), secret, &ret->sealed) : OK;
}

void tool_add(struct tx *tx, const struct tool_made *made)
{
	struct job_order push = { .kind = "tool.push", .resource_type = "tool", .resource_id = made->id };
	insert(tx, made->id, &made->in, made->how, made->sealed);
	job_add(tx, &push);
}

static enum fault create(struct req *req)
{
	struct tool_new *in = req->in;
	struct rows client, row;
	struct str how, secret, sealed = STR_NULL, id = uuid_make(req->arena);
	TRY(req_need_client(req));
	TRY(check(req, in));
	TRY(read_authentication(req, in->authentication, false, &how, &secret));
	if (secret.p)
		TRY(vault_entrust(req->arena, tool_context(req->arena, id), secret, &sealed));
	TRY(req_begin(req));
	TRY(tools_mode(&req->tx, (struct tools_mode){ 0 }, &client));
	TRY(voice_account_expect(&req->tx, pg_col(req->arena, &client, 0, "mode")));
	insert(&req->tx, id, in, how, sealed);
	TRY(tools_get(&req->tx, (struct tools_get){ .id = id }, &row));
	effect_location(req, "tools", id);
	return effect_run(req, &pushing, id, &row, STR_NULL, "tool.created", tool_event_data(req->arena, id, STR_NULL, "creating"), 201);
}

static enum fault get(struct req *req) { return effect_get(req, &pushing); }

static enum fault list(struct req *req)
{
	static const char *const filters[] = { "status", "category", "q", NULL };
	struct page page;
	struct rows rows;
	struct tx tx;
	TRY(req_page(req, filters, &page));
	req_read(req, &tx);
	TRY(tools_list(&tx, (struct tools_list){ .status = req_enum_filter(req, "status", "creating,active,failed"),
		.category = req_query(req, "category"), .q = req_query(req, "q"), PAGE_OF(page) }, &rows));
	reply_list(req, &tool_shape, &rows, page.limit, page.filters);
	return OK;
}

/* What the body leaves out is what the row says. */
static void merge(struct req *req, struct tool_new *in, const struct rows *old)
{
	struct str *fields[] = { &in->name, &in->description, &in->category, &in->endpoint, &in->method, NULL, &in->parameters,
		&in->response_schema };
	static const char *const names[] = { "name", "description", "category", "endpoint", "method", NULL, "parameters", "response_schema" };
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (names[i] && !(req->set & UINT64_C(1) << i))
			*fields[i] = pg_col(req->arena, old, 0, names[i]);
	if (!(req->set & 1 << 8))
		in->timeout_seconds = pg_int(old, 0, "timeout_seconds");
}

static enum fault patch(struct req *req)
{
	struct tool_new *in = req->in;
	struct rows old, changed, row;
	struct tx tx;
	struct str how, secret = STR_NULL, sealed = STR_NULL, id = req->ids[0];
	json_t *was;
	TRY(req_need_client(req));
	req_read(req, &tx);
	TRY(tools_get(&tx, (struct tools_get){ .id = id }, &old));
	if (!old.count)
		return fault_raise(FAULT_NOT_FOUND, "No such tool");
	merge(req, in, &old);
	TRY(check(req, in));
	how = pg_col(req->arena, &old, 0, "authentication");
	TRY(json_read(req->arena, how, &was));
	if (in->authentication.p)
		TRY(read_authentication(req, in->authentication, !str_is(json_text(was, "type"), "none"), &how, &secret));
	if (secret.p)
		TRY(vault_entrust(req->arena, tool_context(req->arena, id), secret, &sealed));
	bool none = str_is(how, "{\"type\":\"none\"}");
	TRY(req_begin(req));
	TRY(tools_update(&req->tx, (struct tools_update){ .id = id, .name = in->name, .description = in->description,
		.category = in->category, .endpoint = in->endpoint, .method = in->method, .authentication = how, .reseal = secret.p || none,
		.sealed = sealed, .parameters = in->parameters, .response_schema = in->response_schema, .timeout = in->timeout_seconds,
		.was = pg_int(&old, 0, "revision") }, &changed));
	if (!changed.count)	/* changed or deleted since we looked: judge again */
		return FAULT_SERIALIZE;
	TRY(tools_get(&req->tx, (struct tools_get){ .id = id }, &row));
	return effect_run(req, &pushing, id, &row, in->authentication.p ? STR("{\"secret\":true}") : STR_NULL, "tool.updated",
		tool_event_data(req->arena, id, pg_col(req->arena, &row, 0, "ultravox_tool_id"), "creating"), 200);
}

static enum fault sync(struct req *req)
{
	struct rows found, row;
	TRY(req_need_client(req));
	TRY(req_begin(req));
	tools_resync_later(&req->tx, (struct tools_resync){ .id = req->ids[0] }, &found);
	TRY(tools_get(&req->tx, (struct tools_get){ .id = req->ids[0] }, &row));
	if (!found.count)
		return fault_raise(FAULT_NOT_FOUND, "No such tool");
	return effect_run(req, &pushing, req->ids[0], &row, STR("{\"repair\":true}"), NULL, STR_NULL, 200);
}

static enum fault delete(struct req *req)
{
	struct rows found, used;
	struct str id = req->ids[0];
	TRY(req_need_client(req));
	TRY(req_begin(req));
	TRY(tools_lock(&req->tx, (struct tools_lock){ .id = id }, &found));
	if (!found.count)
		return fault_raise(FAULT_NOT_FOUND, "No such tool");
	TRY(tools_used(&req->tx, (struct tools_used){ .id = id }, &used));
	if (used.count) {
		enum fault fault = fault_raise(FAULT_CONFLICT, "An agent uses this tool");
		fault_detail("agent_id", pg_col(req->arena, &used, 0, "id"));
		return fault;
	}
	tools_delete_later(&req->tx, (struct tools_delete){ .id = id }, NULL);
	struct job_order push = { .kind = "tool.push", .resource_type = "tool", .resource_id = id };
	job_add(&req->tx, &push);
	reply_json(req, 200, str_format(req->arena, "{\"id\":\"%.*s\",\"deleted\":true}", STRF(id)));
	event_emit(&req->tx, "tool.deleted", "tool", id, tool_event_data(req->arena, id, pg_col(req->arena, &found, 0,
		"ultravox_tool_id"), "deleted"));
	return req_commit(req, false);
}

static bool is_of(const json_t *value, const json_t *type)
{
	size_t i;
	json_t *one;
	bool any = false;
	if (json_is_array(type)) {
		json_array_foreach(type, i, one)
			any |= is_of(value, one);
		return any;
	}
	struct str t = str_of(json_string_value(type));
	return !t.p || (str_is(t, "string") && json_is_string(value)) || (str_is(t, "number") && json_is_number(value)) ||
		(str_is(t, "integer") && json_is_integer(value)) || (str_is(t, "boolean") && json_is_boolean(value)) ||
		(str_is(t, "object") && json_is_object(value)) || (str_is(t, "array") && json_is_array(value)) ||
		(str_is(t, "null") && json_is_null(value));
}

/* The values are what a model might have chosen: all that is required, each of its type, none unknown. */
static enum fault check_trial(struct req *req, const struct rows *row, struct str parameters)
{
	json_t *schema = NULL, *given, *one;
	const char *name;
	size_t i;
	struct str text = pg_col(req->arena, row, 0, "parameters");
	TRY(json_read(req->arena, parameters.p ? parameters : STR("{}"), &given));
	if (text.p)
		TRY(json_read(req->arena, text, &schema));
	json_object_foreach(given, name, one) {
		json_t *property = json_object_get(json_object_get(schema, "properties"), name);
		const char *field = str_format(req->arena, "parameters.%s", name).p;
		if (!property)
			return fault_field(field, "is no parameter of this tool");
		if (!is_of(one, json_object_get(property, "type")))
			return fault_field(field, "has another type in the tool's parameters");
	}
	json_array_foreach(json_object_get(schema, "required"), i, one)
		if (!json_object_get(given, json_string_value(one)))
			return fault_field(str_format(req->arena, "parameters.%s", json_string_value(one)).p, "is required");
	return OK;
}

static enum fault test(struct req *req)
{
	struct trial_in *in = req->in;
	struct rows row;
	struct tx tx;
	struct str answer;
	TRY(req_need_client(req));
	req_read(req, &tx);
	TRY(tools_get(&tx, (struct tools_get){ .id = req->ids[0] }, &row));
	if (!row.count)
		return fault_raise(FAULT_NOT_FOUND, "No such tool");
	TRY(check_trial(req, &row, in->parameters));
	TRY(req_begin(req));
	TRY(effect_ask(req, "tool.test", "tool", req->ids[0], str_format(req->arena, "{\"parameters\":%.*s}",
		STRF(in->parameters.p ? in->parameters : STR("{}"))), &answer));
	reply_json(req, 200, answer);
	req_finish(req);
	return OK;
}

const struct route tools_routes[] = {
	{ "POST", API "/tools", ROLE_W, "tools:write", create, &new_shape, sizeof(struct tool_new), &tool_shape, 201, .flags = ROUTE_ASYNC,
		.summary = "Create a tool" },
	{ "GET", API "/tools", ROLE_R, "tools:read", list, .out = &tool_shape, .status = 200, .flags = ROUTE_LIST,
		.query = "status,category,q,created_after,created_before", .summary = "List tools, newest first" },
	{ "GET", API "/tools/{id}", ROLE_R, "tools:read", get, .out = &tool_shape, .status = 200, .summary = "Read a tool" },
	{ "PATCH", API "/tools/{id}", ROLE_W, "tools:write", patch, &patch_shape, sizeof(struct tool_new), &tool_shape, 200,
		.flags = ROUTE_ASYNC, .summary = "Change a tool" },
	{ "PUT", API "/tools/{id}", ROLE_W, "tools:write", patch, &patch_shape, sizeof(struct tool_new), &tool_shape, 200,
		.flags = ROUTE_ASYNC, .summary = "Change a tool (as PATCH)" },
	{ "DELETE", API "/tools/{id}", ROLE_W, "tools:write", delete, .status = 200, .summary = "Delete a tool" },
	{ "POST", API "/tools/{id}/sync", ROLE_W, "tools:write", sync, .out = &tool_shape, .status = 200, .flags = ROUTE_ASYNC,
		.summary = "Bring the provider's copy up to date, or make a lost one again" },
	{ "POST", API "/tools/{id}/test", ROLE_W, "tools:write", test, &trial_shape, sizeof(struct trial_in), &trial_done_shape, 200,
		.summary = "Call the tool and see request, answer and timing" },
	{ 0 },
};

const struct job_kind tools_jobs[] = {
	{ "tool.push", "q-artifacts-sync", tool_push, 1000 },
	{ "tool.test", "q-artifacts-sync", tool_test, 1 },
	{ 0 },
};
