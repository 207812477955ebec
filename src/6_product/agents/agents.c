/* Agents. The row is the truth; the job `agent.push` makes the provider's copy follow it. */
#include "agents.h"
#include "agents.sql.h"
#include "links.h"
#include "settings.h"
#include "../../1_code/uuid.h"
#include "../../3_core/config.h"
#include "../../3_core/effect.h"
#include "../../3_core/events.h"
#include "../../4_out/voice_provider.h"

#define FIELD(field, ...) { .name = #field, .offset = offsetof(struct agent_new, field), __VA_ARGS__ }
static const struct shape_field new_fields[] = {
	FIELD(name, .type = SHAPE_TEXT, .flags = SHAPE_REQUIRED, .min = 1, .max = 100),
	FIELD(description, .type = SHAPE_TEXT, .max = 500),
	FIELD(system_prompt, .type = SHAPE_TEXT, .flags = SHAPE_REQUIRED, .min = 10, .max = 50000),
	FIELD(model, .type = SHAPE_TEXT, .min = 1, .max = 100, .doc = "default: the installation's"),
	FIELD(settings, .type = SHAPE_OBJECT, .max = 65536, .doc = "tuning, in snake_case: temperature, agent_language, first_message, "
		"first_speaker, max_conversation_duration, join_timeout, time_exceeded_message, "
		"inactivity_messages, context_schema; docs/making.md lists all"),
	FIELD(voice_id, .type = SHAPE_UUID, .flags = SHAPE_MAYBE),
	FIELD(tools, .type = SHAPE_LIST, .max = 20, .sub = &agent_tool_shape),
	FIELD(knowledge_bases, .type = SHAPE_LIST, .max = 10, .sub = &agent_kb_shape),
};
const struct shape agent_new_shape = SHAPE("agent_new", new_fields);

static const struct shape_field patch_fields[] = {
	FIELD(name, .type = SHAPE_TEXT, .min = 1, .max = 100),
	FIELD(description, .type = SHAPE_TEXT, .flags = SHAPE_MAYBE, .max = 500),
	FIELD(system_prompt, .type = SHAPE_TEXT, .min = 10, .max = 50000),
	FIELD(model, .type = SHAPE_TEXT, .min = 1, .max = 100),
	FIELD(settings, .type = SHAPE_OBJECT, .max = 65536),
	FIELD(voice_id, .type = SHAPE_UUID, .flags = SHAPE_MAYBE),
	FIELD(tools, .type = SHAPE_LIST, .max = 20, .sub = &agent_tool_shape, .doc = "the new list; an empty one takes all away"),
	FIELD(knowledge_bases, .type = SHAPE_LIST, .max = 10, .sub = &agent_kb_shape),
};
static const struct shape patch_shape = SHAPE("agent_patch", patch_fields);

static const struct shape_field copy_fields[] = {
	FIELD(name, .type = SHAPE_TEXT, .min = 1, .max = 100, .doc = "default: the old name with (copy)"),
};
static const struct shape copy_shape = SHAPE("agent_copy", copy_fields);

struct agent_bulk {
	struct str ids;
};

static const struct shape_field id_item[] = { { "id", SHAPE_UUID } };
static const struct shape id_shape = { "id", id_item, 1, .item_is_text = true };
static const struct shape_field bulk_fields[] = {
	{ .name = "ids", .type = SHAPE_LIST, .flags = SHAPE_REQUIRED, .min = 1, .max = 100, .sub = &id_shape },
};
static const struct shape bulk_shape = SHAPE("agent_bulk", bulk_fields);

static const struct shape_field bulk_done_fields[] = {
	{ "deleted_count", SHAPE_INT },
	{ "failed_count", SHAPE_INT },
	{ "deleted_ids", SHAPE_LIST, .sub = &id_shape },
	{ "failed_ids", SHAPE_LIST, .sub = &id_shape },
	{ "errors", SHAPE_LIST, .doc = "id, code, message of each that failed" },
};
static const struct shape bulk_done_shape = SHAPE("bulk_done", bulk_done_fields);

static const struct shape_field agent_fields[] = {
	{ "id", SHAPE_UUID },
	{ "client_id", SHAPE_UUID },
	{ "name", SHAPE_TEXT },
	{ "description", SHAPE_TEXT, SHAPE_MAYBE },
	{ "voice_id", SHAPE_UUID, SHAPE_MAYBE },
	{ "system_prompt", SHAPE_TEXT },
	{ "model", SHAPE_TEXT },
	{ "tools", SHAPE_LIST },
	{ "knowledge_bases", SHAPE_LIST },
	{ "settings", SHAPE_OBJECT },
	{ "status", SHAPE_ENUM, .values = "creating,active,failed" },
	{ "sync_status", SHAPE_ENUM, .values = "synced,pending,failed" },
	{ "revision", SHAPE_INT },
	{ "ultravox_agent_id", SHAPE_TEXT, SHAPE_MAYBE },
	{ "last_error", SHAPE_TEXT, SHAPE_OMIT },
	{ "created_at", SHAPE_TIME },
	{ "updated_at", SHAPE_TIME },
};
static const struct shape agent_shape = SHAPE("agent", agent_fields);

struct str agent_event_data(struct arena *arena, struct str id, const char *status)
{
	return str_format(arena, "{\"agent_id\":\"%.*s\",\"status\":\"%s\"}", STRF(id), status);
}

static enum fault load_row(struct tx *tx, struct str id, struct rows *ret)
{
	return agents_get(tx, (struct agents_get){ .id = id }, ret);
}

static const struct effect pushing = { "agent.push", "agent", "agent", "ultravox", &agent_shape, load_row, true };
#define REPAIR STR("{\"repair\":true}")

static enum fault push(struct req *req, struct str id, const struct rows *row, const char *event, int status)
{
	return effect_run(req, &pushing, id, row, STR_NULL, event, agent_event_data(req->arena, id, "creating"), status);
}

static enum fault create(struct req *req)
{
	struct agent_new *in = req->in;
	struct rows client, row;
	TRY(req_need_client(req));
	struct str id = uuid_make(req->arena);
	TRY(req_begin(req));
	TRY(agent_links_check(req, in));
	TRY(agents_mode(&req->tx, (struct agents_mode){ 0 }, &client));
	TRY(voice_account_expect(&req->tx, pg_col(req->arena, &client, 0, "mode")));
	agents_insert_later(&req->tx, (struct agents_insert){ .id = id, .name = in->name, .description = in->description,
		.voice_id = in->voice_id, .system_prompt = in->system_prompt, .model = in->model.p ? in->model : config.default_model,
		.settings = agent_settings_read(req, in->settings) }, NULL);
	agent_links_write(req, id, in);
	TRY(agents_get(&req->tx, (struct agents_get){ .id = id }, &row));
	effect_location(req, "agents", id);
	return push(req, id, &row, "agent.created", 201);
}

static enum fault get(struct req *req) { return effect_get(req, &pushing); }

static enum fault list(struct req *req)
{
	static const char *const filters[] = { "status", "q", NULL };
	struct page page;
	struct rows rows;
	struct tx tx;
	TRY(req_page(req, filters, &page));
	req_read(req, &tx);
	TRY(agents_list(&tx, (struct agents_list){ .status = req_enum_filter(req, "status", "creating,active,failed"),
		.q = req_query(req, "q"), PAGE_OF(page) }, &rows));
	reply_list(req, &agent_shape, &rows, page.limit, page.filters);
	return effect_refresh(req, pushing.kind, pushing.resource, &rows);
}

static enum fault patch(struct req *req)
{
	struct agent_new *in = req->in;
	struct rows changed, row;
	TRY(req_need_client(req));
	TRY(req_begin(req));
	TRY(agent_links_check(req, in));
	agents_patch_later(&req->tx, (struct agents_patch){ .id = req->ids[0], .name = in->name,
		.set_description = req->set & 2, .description = in->description, .set_voice = req->set & 1 << 5,
		.voice_id = in->voice_id, .system_prompt = in->system_prompt, .model = in->model,
		.settings = agent_settings_read(req, in->settings) }, &changed);
	agent_links_write(req, req->ids[0], in);
	TRY(agents_get(&req->tx, (struct agents_get){ .id = req->ids[0] }, &row));
	if (!changed.count)
		return fault_raise(FAULT_NOT_FOUND, "No such agent");
	return push(req, req->ids[0], &row, "agent.updated", 200);
}

/* Pushes the row as it is; a copy that the provider has lost is made again. */
static enum fault sync(struct req *req)
{
	struct rows found, row;
	TRY(req_need_client(req));
	TRY(req_begin(req));
	agents_resync_later(&req->tx, (struct agents_resync){ .id = req->ids[0] }, &found);
	TRY(agents_get(&req->tx, (struct agents_get){ .id = req->ids[0] }, &row));
	if (!found.count)
		return fault_raise(FAULT_NOT_FOUND, "No such agent");
	return effect_run(req, &pushing, req->ids[0], &row, REPAIR, NULL, STR_NULL, 200);
}

static enum fault duplicate(struct req *req)
{
	struct agent_new *in = req->in;
	struct rows client, made, row;
	struct str id = uuid_make(req->arena);
	TRY(req_need_client(req));
	TRY(req_begin(req));
	TRY(agents_mode(&req->tx, (struct agents_mode){ 0 }, &client));
	TRY(voice_account_expect(&req->tx, pg_col(req->arena, &client, 0, "mode")));
	agents_copy_later(&req->tx, (struct agents_copy){ .id = id, .from = req->ids[0], .name = in->name }, &made);
	agents_copy_tools_later(&req->tx, (struct agents_copy_tools){ .id = id, .from = req->ids[0] }, NULL);
	agents_copy_kbs_later(&req->tx, (struct agents_copy_kbs){ .id = id, .from = req->ids[0] }, NULL);
	TRY(agents_get(&req->tx, (struct agents_get){ .id = id }, &row));
	if (!made.count)
		return fault_raise(FAULT_NOT_FOUND, "No such agent");
	effect_location(req, "agents", id);
	return push(req, id, &row, "agent.created", 201);
}

enum removal { REMOVED, MISSING, USED };

/* The row is gone for everybody at once, the provider's copy by its job. */
static enum fault delete_one(struct req *req, struct str id, enum removal *ret)
{
	struct rows found, gone;
	TRY(agents_lock(&req->tx, (struct agents_lock){ .id = id }, &found));
	*ret = !found.count ? MISSING : pg_bool(&found, 0, "used") ? USED : REMOVED;
	if (*ret != REMOVED)
		return OK;
	TRY(agents_delete(&req->tx, (struct agents_delete){ .id = id }, &gone));
	struct job_order push = { .kind = "agent.push", .resource_type = "agent", .resource_id = id };
	job_add(&req->tx, &push);
	return OK;
}

static enum fault delete_many(struct req *req)
{
	struct agent_bulk *in = req->in;
	json_t *ids, *one;
	size_t i;
	int64_t deleted = 0, failed = 0;
	struct buf good = BUF_IN(req->arena, 8192), bad = BUF_IN(req->arena, 8192), errors = BUF_IN(req->arena, 32768);
	TRY(req_need_client(req));
	TRY(json_read_any(req->arena, in->ids, &ids));
	TRY(req_begin(req));
	json_array_foreach(ids, i, one) {
		struct str id = str_lower(req->arena, str_of(json_string_value(one)));
		enum removal removal;
		TRY(delete_one(req, id, &removal));
		bool gone = removal == REMOVED;
		buf_format(gone ? &good : &bad, "%s\"%.*s\"", (gone ? deleted : failed) ? "," : "", STRF(id));
		if (!gone)
			buf_format(&errors, "%s{\"id\":\"%.*s\",\"code\":\"%s\",\"message\":\"%s\"}", failed ? "," : "", STRF(id),
				removal == USED ? "conflict" : "not_found", removal == USED ? "A number uses this agent" : "No such agent");
		gone ? deleted++ : failed++;
	}
	reply_json(req, 200, str_format(req->arena, "{\"deleted_count\":%lld,\"failed_count\":%lld,\"deleted_ids\":[%.*s],"
		"\"failed_ids\":[%.*s],\"errors\":[%.*s]}", (long long)deleted, (long long)failed, STRF(buf_view(&good)),
		STRF(buf_view(&bad)), STRF(buf_view(&errors))));
	struct str all = buf_view(&good);
	while (all.n) {		/* the stream's row is locked from here on: no round trip follows but the commit */
		struct str id = str_cut(&all, ',');
		id = (struct str){ id.p + 1, id.n - 2 };
		event_emit(&req->tx, "agent.deleted", "agent", id, agent_event_data(req->arena, id, "deleted"));
	}
	return req_commit(req, false);
}

static enum fault delete(struct req *req)
{
	enum removal removal;
	TRY(req_need_client(req));
	TRY(req_begin(req));
	TRY(delete_one(req, req->ids[0], &removal));
	if (removal == MISSING)
		return fault_raise(FAULT_NOT_FOUND, "No such agent");
	if (removal == USED)
		return fault_raise(FAULT_CONFLICT, "A telephone number uses this agent; unassign it first");
	reply_json(req, 200, str_format(req->arena, "{\"id\":\"%.*s\",\"deleted\":true}", STRF(req->ids[0])));
	event_emit(&req->tx, "agent.deleted", "agent", req->ids[0], agent_event_data(req->arena, req->ids[0], "deleted"));
	return req_commit(req, false);
}

const struct route agents_routes[] = {
	{ "GET", API "/agents/templates", ROLE_R, "agents:read", agent_templates, .out = &agent_templates_shape, .status = 200,
		.summary = "Starting points for agents: copy one into POST /agents" },
	{ "POST", API "/agents/import", ROLE_W, "agents:write", agent_import, &agent_import_shape, AGENT_IMPORT_BYTES,
		&agent_imported_shape, 202,
		.body_max = 5 << 20, .summary = "Make agents with their tools and knowledge bases from an export" },
	{ "GET", API "/export/agents", ROLE_W, "export:read", agent_export, .out = &agent_export_shape, .status = 200, .query = "agent_id",
		.summary = "Agents with their tools and knowledge bases, to import elsewhere" },
	{ "POST", API "/agents/bulk", ROLE_W, "agents:write", delete_many, &bulk_shape, sizeof(struct agent_bulk), &bulk_done_shape, 200,
		.summary = "Delete up to 100 agents" },
	{ "POST", API "/agents/{id}/sync", ROLE_W, "agents:write", sync, .out = &agent_shape, .status = 200, .flags = ROUTE_ASYNC,
		.summary = "Push the agent to the provider again; a lost copy is made anew" },
	{ "POST", API "/agents/{id}/duplicate", ROLE_W, "agents:write", duplicate, &copy_shape, sizeof(struct agent_new), &agent_shape, 201,
		.flags = ROUTE_ASYNC, .summary = "Make another agent like this one" },
	{ "POST", API "/agents", ROLE_W, "agents:write", create, &agent_new_shape, sizeof(struct agent_new), &agent_shape, 201,
		.flags = ROUTE_ASYNC, .summary = "Create an agent" },
	{ "GET", API "/agents", ROLE_R, "agents:read", list, .out = &agent_shape, .status = 200, .flags = ROUTE_LIST,
		.query = "status,q,refresh,created_after,created_before", .summary = "List agents, newest first" },
	{ "GET", API "/agents/{id}", ROLE_R, "agents:read", get, .out = &agent_shape, .status = 200, .query = "refresh",
		.summary = "Read an agent; refresh=true has a job see whether the provider still has it" },
	{ "PATCH", API "/agents/{id}", ROLE_W, "agents:write", patch, &patch_shape, sizeof(struct agent_new), &agent_shape, 200,
		.flags = ROUTE_ASYNC, .summary = "Change an agent" },
	{ "PUT", API "/agents/{id}", ROLE_W, "agents:write", patch, &patch_shape, sizeof(struct agent_new), &agent_shape, 200,
		.flags = ROUTE_ASYNC, .summary = "Change an agent (as PATCH)" },
	{ "DELETE", API "/agents/{id}", ROLE_W, "agents:write", delete, .status = 200, .summary = "Delete an agent" },
	{ 0 },
};

const struct job_kind agents_jobs[] = {
	{ "agent.push", "q-artifacts-sync", agent_push, 1000 },
	{ 0 },
};
