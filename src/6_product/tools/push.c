/* The provider's copy of a tool. Its secret is no part of it: agents carry that (selectedTools.authTokens). */
#include "tools.h"
#include "tools.sql.h"
#include "../../1_code/b64.h"
#include "../../3_core/events.h"
#include "../../3_core/vault.h"
#include "../../4_out/copy.h"

#define MODEL_NAME_MOST 64

struct str tool_context(struct arena *arena, struct str id) { return str_format(arena, "tool:%.*s", STRF(id)); }

enum fault tool_token(struct arena *arena, struct str id, struct str authentication, struct str sealed, struct str *ret)
{
	json_t *how;
	*ret = STR_NULL;
	if (!sealed.p)
		return OK;
	TRY(json_read(arena, authentication, &how));
	TRY(vault_reveal(arena, tool_context(arena, id), sealed, ret));
	if (str_is(json_text(how, "type"), "basic"))
		*ret = b64_write(arena, *ret);
	return OK;
}

struct str tool_event_data(struct arena *arena, struct str id, struct str provider_id, const char *status)
{
	struct buf b = BUF_IN(arena, 1024);
	buf_format(&b, "{\"tool_id\":\"%.*s\",\"ultravox_tool_id\":", STRF(id));
	buf_json(&b, provider_id);
	buf_format(&b, ",\"status\":\"%s\"}", status);
	return buf_view(&b);
}

/* What the model calls it: ^[a-zA-Z0-9_-]{1,64}$. */
static void put_model_name(struct buf *b, struct str name)
{
	buf_char(b, '"');
	for (size_t i = 0; i < name.n && i < MODEL_NAME_MOST; i++) {
		char c = name.p[i];
		bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
		buf_char(b, plain ? c : '_');
	}
	buf_char(b, '"');
}

static bool listed(const json_t *names, const char *name)
{
	size_t i;
	json_t *one;
	json_array_foreach(names, i, one)
		if (json_is_string(one) && strcmp(json_string_value(one), name) == 0)
			return true;
	return false;
}

static void put_parameters(struct copy *c, struct buf *b, const json_t *schema)
{
	struct arena *a = c->job->arena;
	json_t *properties = json_object_get(schema, "properties"), *one;
	const char *name, *comma = "";
	buf_text(b, ",\"dynamicParameters\":[");
	json_object_foreach(properties, name, one) {
		struct str text = json_dump(a, one);
		buf_format(b, "%s{\"name\":", comma);
		buf_json(b, str_of(name));
		buf_format(b, ",\"location\":\"PARAMETER_LOCATION_%s\",\"schema\":%.*s,\"required\":%s}",
			tool_location(a, pg_col(a, &c->row, 0, "endpoint"), pg_col(a, &c->row, 0, "method"), name), STRF(text),
			listed(json_object_get(schema, "required"), name) ? "true" : "false");
		comma = ",";
	}
	buf_char(b, ']');
}

static void put_security(struct buf *b, const json_t *how)
{
	struct str type = json_text(how, "type");
	if (!type.p || str_is(type, "none"))
		return;
	buf_text(b, ",\"requirements\":{\"httpSecurityOptions\":{\"options\":[{\"requirements\":{\"" TOOL_AUTH_NAME "\":{");
	if (str_is(type, "api_key")) {
		buf_format(b, "\"%s\":{\"name\":", str_is(json_text(how, "location"), "query") ? "queryApiKey" : "headerApiKey");
		buf_json(b, json_text(how, "name"));
		buf_char(b, '}');
	} else {
		buf_format(b, "\"httpAuth\":{\"scheme\":\"%s\"}", str_is(type, "basic") ? "Basic" : "Bearer");
	}
	buf_text(b, "}}}]}}");
}

static enum fault body(struct copy *c, bool fresh, struct str *ret)
{
	struct arena *a = c->job->arena;
	struct buf b = BUF_IN(a, 1 << 20);
	json_t *how, *schema = NULL;
	struct str parameters = pg_col(a, &c->row, 0, "parameters"), about = pg_col(a, &c->row, 0, "description");
	(void)fresh;
	TRY(json_read(a, pg_col(a, &c->row, 0, "authentication"), &how));
	if (parameters.p)
		TRY(json_read(a, parameters, &schema));
	buf_text(&b, "{\"name\":");
	buf_json(&b, copy_name(c, pg_col(a, &c->row, 0, "name")));
	buf_text(&b, ",\"definition\":{\"modelToolName\":");
	put_model_name(&b, pg_col(a, &c->row, 0, "name"));
	buf_text(&b, ",\"description\":");
	buf_json(&b, about.p ? about : pg_col(a, &c->row, 0, "name"));
	put_parameters(c, &b, schema);
	put_security(&b, how);
	buf_format(&b, ",\"timeout\":\"%llds\",\"http\":{\"baseUrlPattern\":", (long long)pg_int(&c->row, 0, "timeout_seconds"));
	buf_json(&b, pg_col(a, &c->row, 0, "endpoint"));
	buf_text(&b, ",\"httpMethod\":");
	buf_json(&b, pg_col(a, &c->row, 0, "method"));
	buf_text(&b, "}}}");
	*ret = buf_view(&b);
	return OK;
}

static enum fault load(struct tx *tx, struct str id, struct rows *ret) { return tools_load(tx, (struct tools_load){ .id = id }, ret); }

static void pushed(struct copy *c, struct tx *tx)
{
	struct str id = c->job->resource_id, old = pg_col(c->job->arena, &c->row, 0, "provider_id");
	tools_pushed_later(tx, (struct tools_pushed){ .id = id, .provider_id = c->provider_id, .credential_id = c->account.credential_id,
		.revision = c->revision }, NULL);
	if (json_is_true(json_object_get(c->job->payload, "secret")) || (old.p && !str_eq(old, c->provider_id))) {
		tools_retell_later(tx, (struct tools_retell){ .id = id }, NULL);
		tx->wakes_jobs = true;
	}
}

static void failed(struct copy *c, struct tx *tx, struct str why)
{
	struct str id = c->job->resource_id;
	tools_push_failed_later(tx, (struct tools_push_failed){ .id = id, .error = why }, NULL);
	event_emit(tx, "tool.failed", "tool", id, tool_event_data(c->job->arena, id, c->provider_id, "failed"));
}

static const struct copy_kind tool_copy = { .path = "/api/tools", .id_field = "toolId", .change = "PUT", .name_most = 40,
	.search = "/api/tools?search=",
	.load = load, .body = body, .pushed = pushed, .failed = failed };

enum fault tool_push(struct job *job) { return copy_push(job, &tool_copy); }
