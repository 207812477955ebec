/* The provider's copy of an agent: its call template, with the voice, tools and knowledge bases it is linked to. */
#include "agents.h"
#include "agents.sql.h"
#include "settings.h"
#include "../tools/tools.h"
#include "../../0_base/clock.h"
#include "../../3_core/events.h"
#include "../../4_out/copy.h"

#define LINK_WAIT_US (2 * US_PER_S)

/* Everything an agent speaks with must live in its own voice account. */
static enum fault lives_here(struct copy *c, const struct rows *links, int i)
{
	struct arena *a = c->job->arena;
	struct str kind = pg_col(a, links, i, "kind"), name = pg_col(a, links, i, "name");
	if (pg_bool(links, i, "coming")) {		/* imported together: its own job is on the way */
		c->job->again_us = LINK_WAIT_US;
		return fault_raise(FAULT_UNAVAILABLE, "The %.*s '%.*s' is not at the provider yet", STRF(kind), STRF(name));
	}
	if (pg_null(links, i, "provider_id"))
		return fault_raise(FAULT_PROVIDER_ERROR, "The %.*s '%.*s' is not active at the provider", STRF(kind), STRF(name));
	if (!str_eq(pg_col(a, links, i, "credential_id"), c->account.credential_id))
		return fault_raise(FAULT_PROVIDER_ERROR, "The %.*s '%.*s' lives in another voice account; make it again in this one", STRF(kind),
			STRF(name));
	return OK;
}

/* SelectedTool of a tool of ours: its secret travels here, because the provider's tool has none. */
static enum fault put_tool(struct copy *c, struct buf *b, const struct rows *links, int i)
{
	struct arena *a = c->job->arena;
	struct str token;
	buf_text(b, "{\"toolId\":");
	buf_json(b, pg_col(a, links, i, "provider_id"));
	TRY(tool_token(a, pg_col(a, links, i, "id"), pg_col(a, links, i, "authentication"), pg_col(a, links, i, "sealed"), &token));
	if (token.p) {
		buf_text(b, ",\"authTokens\":{\"" TOOL_AUTH_NAME "\":");
		buf_json(b, token);
		buf_char(b, '}');
	}
	struct str parameters = pg_col(a, links, i, "parameters");
	if (parameters.n > 2)
		buf_format(b, ",\"parameterOverrides\":%.*s", STRF(parameters));
	buf_char(b, '}');
	return OK;
}

/* The provider's own tool that searches a corpus; names are unique in a call. */
static void put_corpus(struct copy *c, struct buf *b, const struct rows *links, int i, int n, const json_t *settings)
{
	json_t *window = json_object_get(settings, "knowledge_base_context_window");
	buf_text(b, "{\"toolName\":\"queryCorpus\",");
	if (n)
		buf_format(b, "\"nameOverride\":\"queryCorpus%d\",", n + 1);
	buf_text(b, "\"parameterOverrides\":{\"corpus_id\":");
	buf_json(b, pg_col(c->job->arena, links, i, "provider_id"));
	if (json_is_integer(window) && json_integer_value(window) >= 1 && json_integer_value(window) <= 20)
		buf_format(b, ",\"max_results\":%lld", (long long)json_integer_value(window));
	buf_text(b, "}}");
}

static enum fault put_links(struct copy *c, struct buf *b, const json_t *settings)
{
	struct rows links;
	struct tx tx;
	int tools = 0, corpora = 0;
	bool search = !json_is_false(json_object_get(settings, "knowledge_base_search_enabled"));
	struct buf selected = BUF_IN(c->job->arena, 1 << 20);
	tenant_read(&tx, c->job->arena, &c->job->scope);
	TRY(agents_push_links(&tx, (struct agents_push_links){ .id = c->job->resource_id }, &links));
	for (int i = 0; i < links.count; i++) {
		struct str kind = pg_col(c->job->arena, &links, i, "kind");
		TRY(lives_here(c, &links, i));
		if (str_is(kind, "voice")) {
			buf_text(b, ",\"voice\":");
			buf_json(b, pg_col(c->job->arena, &links, i, "provider_id"));
			agent_settings_voice(b, settings, pg_col(c->job->arena, &links, i, "provider"));
			continue;
		}
		if (str_is(kind, "knowledge base") && !search)
			continue;
		buf_text(&selected, tools + corpora ? "," : "");
		if (str_is(kind, "tool")) {
			TRY(put_tool(c, &selected, &links, i));
			tools++;
		} else {
			put_corpus(c, &selected, &links, i, corpora++, settings);
		}
	}
	buf_format(b, ",\"selectedTools\":[%.*s]", STRF(buf_view(&selected)));
	return OK;
}

static enum fault body(struct copy *c, bool fresh, struct str *ret)
{
	struct arena *a = c->job->arena;
	struct buf b = BUF_IN(a, 2 << 20);
	json_t *settings;
	(void)fresh;
	TRY(json_read(a, pg_col(a, &c->row, 0, "settings"), &settings));
	buf_text(&b, "{\"name\":");
	buf_json(&b, copy_name(c, pg_col(a, &c->row, 0, "name")));
	buf_text(&b, ",\"callTemplate\":{\"systemPrompt\":");
	buf_json(&b, pg_col(a, &c->row, 0, "system_prompt"));
	buf_text(&b, ",\"model\":");
	buf_json(&b, pg_col(a, &c->row, 0, "model"));
	agent_settings_template(&b, settings);
	TRY(put_links(c, &b, settings));
	buf_text(&b, "}}");
	*ret = buf_view(&b);
	return OK;
}

static enum fault load(struct tx *tx, struct str id, struct rows *ret)
{
	return agents_push_load(tx, (struct agents_push_load){ .id = id }, ret);
}

static void pushed(struct copy *c, struct tx *tx)
{
	agents_pushed_later(tx, (struct agents_pushed){ .id = c->job->resource_id, .provider_id = c->provider_id,
		.credential_id = c->account.credential_id, .revision = c->revision }, NULL);
}

static void failed(struct copy *c, struct tx *tx, struct str why)
{
	agents_push_failed_later(tx, (struct agents_push_failed){ .id = c->job->resource_id, .error = why }, NULL);
	event_emit(tx, "agent.failed", "agent", c->job->resource_id, agent_event_data(c->job->arena, c->job->resource_id, "failed"));
}

static const struct copy_kind agent_copy = { .path = "/api/agents", .id_field = "agentId", .change = "PATCH", .name_most = 64,
	.search = "/api/agents?search=", .load = load, .body = body, .pushed = pushed, .failed = failed };

enum fault agent_push(struct job *job) { return copy_push(job, &agent_copy); }
