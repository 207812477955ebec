/* Agents. The row is the truth; the job `agent.push` makes the provider's copy follow it. */
#include "agents.h"
#include "agents.sql.h"
#include "../../1_code/uuid.h"
#include "../../3_core/config.h"
#include "../../3_core/events.h"
#include "../../4_out/voice_provider.h"

#define NAME_AT_PROVIDER 64

struct agent_new {
	struct str name, description, system_prompt, model, settings, voice_id, tools, knowledge_bases;
};

#define FIELD(field, ...) { .name = #field, .offset = offsetof(struct agent_new, field), __VA_ARGS__ }
static const struct shape_field new_fields[] = {
	FIELD(name, .type = SHAPE_TEXT, .flags = SHAPE_REQUIRED, .min = 1, .max = 100),
	FIELD(description, .type = SHAPE_TEXT, .max = 500),
	FIELD(system_prompt, .type = SHAPE_TEXT, .flags = SHAPE_REQUIRED, .min = 10, .max = 50000),
	FIELD(model, .type = SHAPE_TEXT, .min = 1, .max = 100, .doc = "default: the installation's"),
	FIELD(settings, .type = SHAPE_OBJECT, .max = 65536, .doc = "tuning, in snake_case: temperature, agent_language, first_message, "
		"first_speaker, max_conversation_duration, join_timeout, time_exceeded_message"),
	FIELD(voice_id, .type = SHAPE_UUID),
	FIELD(tools, .type = SHAPE_LIST, .max = 20),
	FIELD(knowledge_bases, .type = SHAPE_LIST, .max = 10),
};
static const struct shape new_shape = SHAPE("agent_new", new_fields);

static const struct shape_field patch_fields[] = {
	FIELD(name, .type = SHAPE_TEXT, .min = 1, .max = 100),
	FIELD(description, .type = SHAPE_TEXT, .flags = SHAPE_MAYBE, .max = 500),
	FIELD(system_prompt, .type = SHAPE_TEXT, .min = 10, .max = 50000),
	FIELD(model, .type = SHAPE_TEXT, .min = 1, .max = 100),
	FIELD(settings, .type = SHAPE_OBJECT, .max = 65536),
	FIELD(voice_id, .type = SHAPE_UUID),
	FIELD(tools, .type = SHAPE_LIST, .max = 20),
	FIELD(knowledge_bases, .type = SHAPE_LIST, .max = 10),
};
static const struct shape patch_shape = SHAPE("agent_patch", patch_fields);

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

/* Tools, voices and knowledge bases do not exist yet in this release: whatever is named is missing. */
static enum fault check_links(const struct agent_new *in)
{
	const char *field = in->voice_id.p ? "voice_id" : in->tools.n > 2 ? "tools" : in->knowledge_bases.n > 2 ? "knowledge_bases" : NULL;
	if (!field)
		return OK;
	enum fault fault = fault_raise(FAULT_NOT_FOUND, "No such %s", field);
	fault_detail("field", str_of(field));
	return fault;
}

static struct str data_of(struct arena *arena, struct str id, const char *status)
{
	return str_format(arena, "{\"agent_id\":\"%.*s\",\"status\":\"%s\"}", STRF(id), status);
}

static enum fault answer(struct req *req, struct str id, int status)
{
	struct rows row;
	struct tx tx;
	req_read(req, &tx);
	TRY(agents_get(&tx, (struct agents_get){ .id = id }, &row));
	if (!row.count)
		return fault_raise(FAULT_NOT_FOUND, "No such agent");
	if (str_is(pg_col(req->arena, &row, 0, "sync_status"), "failed")) {
		enum fault fault = fault_raise(FAULT_PROVIDER_ERROR, "%.*s", STRF(pg_col(req->arena, &row, 0, "last_error")));
		fault_detail("provider", STR("ultravox"));
		fault_detail("agent_id", id);
		return fault;
	}
	bool synced = str_is(pg_col(req->arena, &row, 0, "sync_status"), "synced");
	reply_row(req, synced ? status : 202, &agent_shape, &row, 0);
	return OK;
}

/* Commits with the push job and its event, then waits for the provider as long as the route may. */
static enum fault commit_and_push(struct req *req, struct str id, const struct rows *row, const char *event, int status)
{
	struct job_order push = { .kind = "agent.push", .resource_type = "agent", .resource_id = id };
	struct str job = req->respond_async ? job_add(&req->tx, &push) : job_add_here(&req->tx, &push);
	struct buf plain = req->meta;
	reply_meta(req, "job_id", str_format(req->arena, "\"%.*s\"", STRF(job)));
	reply_row(req, 202, &agent_shape, row, 0);
	event_emit(&req->tx, event, "agent", id, data_of(req->arena, id, "creating"));
	TRY(req_commit(req, !req->respond_async));
	if (req->respond_async)
		return OK;
	if (job_run_here(job, &push, &req->scope, config.provider_wait_ms))
		req->meta = plain;
	TRY(answer(req, id, status));
	req_finish(req);
	return OK;
}

static enum fault create(struct req *req)
{
	struct agent_new *in = req->in;
	struct rows client, row;
	TRY(req_need_client(req));
	TRY(check_links(in));
	struct str id = uuid_make(req->arena);
	TRY(req_begin(req));
	TRY(agents_mode(&req->tx, (struct agents_mode){ 0 }, &client));
	TRY(voice_account_expect(&req->tx, pg_col(req->arena, &client, 0, "mode")));
	agents_insert_later(&req->tx, (struct agents_insert){ .id = id, .name = in->name, .description = in->description,
		.system_prompt = in->system_prompt, .model = in->model.p ? in->model : config.default_model,
		.settings = in->settings }, NULL);
	TRY(agents_get(&req->tx, (struct agents_get){ .id = id }, &row));
	http_reply_header(req->http, "Location", str_format(req->arena, API "/agents/%.*s", STRF(id)));
	return commit_and_push(req, id, &row, "agent.created", 201);
}

static enum fault get(struct req *req)
{
	struct rows row;
	struct tx tx;
	req_read(req, &tx);
	TRY(agents_get(&tx, (struct agents_get){ .id = req->ids[0] }, &row));
	if (!row.count)
		return fault_raise(FAULT_NOT_FOUND, "No such agent");
	reply_row(req, 200, &agent_shape, &row, 0);
	return OK;
}

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
	return OK;
}

static enum fault patch(struct req *req)
{
	struct agent_new *in = req->in;
	struct rows changed, row;
	TRY(req_need_client(req));
	TRY(check_links(in));
	TRY(req_begin(req));
	agents_patch_later(&req->tx, (struct agents_patch){ .id = req->ids[0], .name = in->name,
		.set_description = req->set & 2, .description = in->description, .system_prompt = in->system_prompt,
		.model = in->model, .settings = in->settings }, &changed);
	TRY(agents_get(&req->tx, (struct agents_get){ .id = req->ids[0] }, &row));
	if (!changed.count)
		return fault_raise(FAULT_NOT_FOUND, "No such agent");
	return commit_and_push(req, req->ids[0], &row, "agent.updated", 200);
}

static enum fault delete(struct req *req)
{
	struct rows gone;
	TRY(req_need_client(req));
	TRY(req_begin(req));
	TRY(agents_delete(&req->tx, (struct agents_delete){ .id = req->ids[0] }, &gone));
	if (!gone.count)
		return fault_raise(FAULT_NOT_FOUND, "No such agent");
	struct job_order push = { .kind = "agent.push", .resource_type = "agent", .resource_id = req->ids[0] };
	job_add(&req->tx, &push);
	reply_json(req, 200, str_format(req->arena, "{\"id\":\"%.*s\",\"deleted\":true}", STRF(req->ids[0])));
	event_emit(&req->tx, "agent.deleted", "agent", req->ids[0], data_of(req->arena, req->ids[0], "deleted"));
	return req_commit(req, false);
}

/* Our settings to the provider's callTemplate; what it cannot take is kept and not sent. */
static void template_settings(struct buf *b, const json_t *s)
{
	static const char *const texts[][2] = { { "agent_language", "languageHint" }, { "time_exceeded_message", "timeExceededMessage" } };
	static const char *const seconds[][2] = { { "join_timeout", "joinTimeout" }, { "max_conversation_duration", "maxDuration" } };
	json_t *t = json_object_get(s, "temperature");
	if (json_is_number(t) && json_number_value(t) >= 0 && json_number_value(t) <= 1)
		buf_format(b, ",\"temperature\":%g", json_number_value(t));
	for (size_t i = 0; i < 2; i++) {
		struct str text = json_text(s, texts[i][0]);
		json_t *n = json_object_get(s, seconds[i][0]);
		if (text.n) {
			buf_format(b, ",\"%s\":", texts[i][1]);
			buf_json(b, text);
		}
		if (json_is_integer(n) && json_integer_value(n) > 0)
			buf_format(b, ",\"%s\":\"%llds\"", seconds[i][1], (long long)json_integer_value(n));
	}
	struct str first = json_text(s, "first_message");
	if (first.n) {
		buf_text(b, ",\"firstSpeakerSettings\":{\"agent\":{\"text\":");
		buf_json(b, first);
		buf_text(b, "}}");
	} else if (str_is(json_text(s, "first_speaker"), "user")) {
		buf_text(b, ",\"firstSpeakerSettings\":{\"user\":{}}");
	}
}

/* The provider's name begins with our id, so that a lost answer can be looked up. */
static struct str push_body(struct job *job, const struct rows *row, const json_t *settings)
{
	struct buf b = BUF_IN(job->arena, 262144);
	struct str name = pg_col(job->arena, row, 0, "name");
	size_t room = NAME_AT_PROVIDER - 37, n = 0, chars = 0;
	while (n < name.n && (chars < room || ((unsigned char)name.p[n] & 0xC0) == 0x80))
		chars += ((unsigned char)name.p[n++] & 0xC0) != 0x80;
	buf_text(&b, "{\"name\":");
	buf_json(&b, str_format(job->arena, "%.*s %.*s", STRF(job->resource_id), (int)n, name.p));
	buf_text(&b, ",\"callTemplate\":{\"systemPrompt\":");
	buf_json(&b, pg_col(job->arena, row, 0, "system_prompt"));
	buf_text(&b, ",\"model\":");
	buf_json(&b, pg_col(job->arena, row, 0, "model"));
	template_settings(&b, settings);
	buf_text(&b, "}}");
	return buf_view(&b);
}

static enum fault pushed(struct job *job, const struct voice_account *account, struct str provider_id, int64_t revision)
{
	struct tx tx;
	TRY(tenant_begin(&tx, job->arena, &job->scope));
	agents_pushed_later(&tx, (struct agents_pushed){ .id = job->resource_id, .provider_id = provider_id,
		.credential_id = account->credential_id, .revision = revision }, NULL);
	job_done(job, &tx);
	return tx_commit(&tx);
}

static enum fault push_failed(struct job *job, struct str error)
{
	struct tx tx;
	TRY(tenant_begin(&tx, job->arena, &job->scope));
	agents_push_failed_later(&tx, (struct agents_push_failed){ .id = job->resource_id, .error = error }, NULL);
	job_fail(job, &tx, error.p);
	event_emit(&tx, "agent.failed", "agent", job->resource_id, data_of(job->arena, job->resource_id, "failed"));
	return tx_commit(&tx);
}

/* Notes before the POST that it was made, and in whose account, so that a lost answer is looked for in the right place. */
static enum fault note_posted(struct job *job, const struct voice_account *account)
{
	struct tx tx;
	struct buf b = BUF_IN(job->arena, 256);
	buf_text(&b, "{\"posted\":true,\"credential_id\":");
	buf_json(&b, account->credential_id);
	buf_char(&b, '}');
	TRY(tenant_begin(&tx, job->arena, &job->scope));
	job_note(job, &tx, buf_view(&b));
	return tx_commit(&tx);
}

/* Creates once: after any doubt the provider's list is asked first. */
static enum fault push_new(struct job *job, struct str mode, struct str body, int64_t revision)
{
	struct voice_account account;
	bool posted = json_object_get(job->payload, "posted");
	TRY(posted ? voice_account_open(job->arena, &job->scope, mode, json_text(job->payload, "credential_id"), &account)
		: voice_account_choose(job->arena, &job->scope, mode, &account));
	if (posted) {
		json_t *found;
		TRY(voice_find_agent(job->arena, &account, job->resource_id, &found));
		if (found)
			return pushed(job, &account, json_text(found, "agentId"), revision);
	}
	TRY(note_posted(job, &account));
	struct voice_answer v = voice_create(job->arena, &account, "/api/agents", body, "agentId");
	struct str why = str_format(job->arena, "Ultravox answered %d: %.*s", v.http_status, STRF(v.problem));
	if (v.verdict == VOICE_ACCEPTED)
		return pushed(job, &account, v.id, revision);
	if (v.verdict == VOICE_REFUSED || job->attempts >= 5)
		return push_failed(job, why);
	return fault_raise(FAULT_IO, "%.*s", STRF(why));	/* put back; the look-up comes first then */
}

static enum fault push(struct job *job)
{
	struct voice_account account;
	struct rows row;
	struct tx tx;
	json_t *settings, *ignored;
	tenant_read(&tx, job->arena, &job->scope);
	TRY(agents_push_load(&tx, (struct agents_push_load){ .id = job->resource_id }, &row));
	if (!row.count)
		return OK;
	TRY(json_read(job->arena, pg_col(job->arena, &row, 0, "settings"), &settings));
	struct str provider_id = pg_col(job->arena, &row, 0, "ultravox_agent_id"), mode = pg_col(job->arena, &row, 0, "mode");
	struct str path = str_format(job->arena, "/api/agents/%.*s", STRF(provider_id));
	bool deleted = !pg_null(&row, 0, "deleted_at");
	if (deleted && !provider_id.n)
		return OK;
	int64_t revision = pg_int(&row, 0, "revision");
	struct str body = push_body(job, &row, settings);
	if (!provider_id.n)
		return push_new(job, mode, body, revision);
	enum fault fault = voice_account_open(job->arena, &job->scope, mode, pg_col(job->arena, &row, 0, "credential_id"), &account);
	if (fault == FAULT_NOT_FOUND)
		return deleted ? OK : push_failed(job, STR("The credential of the agent's account is gone"));
	TRY(fault);
	if (deleted) {
		fault = voice_call(job->arena, &account, "DELETE", path.p, STR_NULL, &ignored);
		return fault == FAULT_NOT_FOUND ? OK : fault;
	}
	fault = voice_call(job->arena, &account, "PATCH", path.p, body, &ignored);
	if (fault == OK)
		return pushed(job, &account, provider_id, revision);
	if (fault == FAULT_NOT_FOUND || fault == FAULT_PROVIDER_ERROR || job->attempts >= 5)
		return push_failed(job, str_copy(job->arena, str_of(fault_note->message)));
	return fault;
}

const struct route agents_routes[] = {
	{ "POST", API "/agents", ROLE_W, "agents:write", create, &new_shape, sizeof(struct agent_new), &agent_shape, 201,
		.flags = ROUTE_ASYNC, .summary = "Create an agent" },
	{ "GET", API "/agents", ROLE_R, "agents:read", list, .out = &agent_shape, .status = 200, .flags = ROUTE_LIST,
		.query = "status,q,created_after,created_before", .summary = "List agents, newest first" },
	{ "GET", API "/agents/{id}", ROLE_R, "agents:read", get, .out = &agent_shape, .status = 200, .summary = "Read an agent" },
	{ "PATCH", API "/agents/{id}", ROLE_W, "agents:write", patch, &patch_shape, sizeof(struct agent_new), &agent_shape, 200,
		.flags = ROUTE_ASYNC, .summary = "Change an agent" },
	{ "PUT", API "/agents/{id}", ROLE_W, "agents:write", patch, &patch_shape, sizeof(struct agent_new), &agent_shape, 200,
		.flags = ROUTE_ASYNC, .summary = "Change an agent (as PATCH)" },
	{ "DELETE", API "/agents/{id}", ROLE_W, "agents:write", delete, .status = 200, .summary = "Delete an agent" },
	{ 0 },
};

const struct job_kind agents_jobs[] = {
	{ "agent.push", "q-artifacts-sync", push, 8 },
	{ 0 },
};
