/* Moving a setup between clients: GET /export/agents gives agents with their tools and knowledge bases as one versioned document,
 * POST /agents/import makes them anew. Secrets do not travel. A file of a knowledge base travels as a sealed word that only this
 * installation can open, good for a week; the import copies the file in our own store. */
#include "agents.h"
#include "agents.sql.h"
#include "links.h"
#include "settings.h"
#include "../knowledge/knowledge.h"
#include "../tools/tools.h"
#include "../uploads/uploads.h"
#include "../../0_base/clock.h"
#include "../../1_code/b64.h"
#include "../../1_code/uuid.h"
#include "../../3_core/config.h"
#include "../../3_core/events.h"
#include "../../3_core/vault.h"
#include "../../4_out/voice_provider.h"

#define VERSION 1
#define AGENTS_MOST 100
#define SOURCE_CONTEXT STR("moving:document")
#define SOURCE_LIFE_US (7 * 86400 * US_PER_S)

static const struct shape_field document_fields[] = {
	{ "version", SHAPE_INT },
	{ "exported_at", SHAPE_TIME },
	{ "agents", SHAPE_LIST },
	{ "tools", SHAPE_LIST, .doc = "without their secrets" },
	{ "knowledge_bases", SHAPE_LIST, .doc = "with documents; a file's source is good for a week, in this installation" },
};
const struct shape agent_export_shape = SHAPE("agent_export", document_fields);

struct import_in {
	int64_t version;
	struct str exported_at, agents, tools, knowledge_bases, secrets;
};
_Static_assert(sizeof(struct import_in) <= AGENT_IMPORT_BYTES, "the route row says how much");
#define FIELD(field, ...) { .name = #field, .offset = offsetof(struct import_in, field), __VA_ARGS__ }
static const struct shape_field import_fields[] = {
	FIELD(version, .type = SHAPE_INT, .flags = SHAPE_REQUIRED, .min = VERSION, .max = VERSION),
	FIELD(exported_at, .type = SHAPE_TEXT, .doc = "as exported; not looked at"),
	FIELD(agents, .type = SHAPE_LIST, .flags = SHAPE_REQUIRED, .min = 1, .max = AGENTS_MOST),
	FIELD(tools, .type = SHAPE_LIST, .max = 200),
	FIELD(knowledge_bases, .type = SHAPE_LIST, .max = 100),
	FIELD(secrets, .type = SHAPE_OBJECT, .max = 262144, .doc = "secrets of tools, by their ref"),
};
const struct shape agent_import_shape = SHAPE("agent_import", import_fields);
static const struct shape_field made_fields[] = { { "ref", SHAPE_TEXT }, { "id", SHAPE_UUID } };
static const struct shape made_shape = SHAPE("imported", made_fields);
static const struct shape_field imported_fields[] = {
	{ "agents", SHAPE_LIST, .sub = &made_shape },
	{ "tools", SHAPE_LIST, .sub = &made_shape },
	{ "knowledge_bases", SHAPE_LIST, .sub = &made_shape },
};
const struct shape agent_imported_shape = SHAPE("agents_imported", imported_fields);

static void put_rows(struct req *req, struct buf *b, const char *name, const struct rows *rows)
{
	buf_format(b, ",\"%s\":[", name);
	for (int i = 0; i < rows->count; i++) {
		buf_text(b, i ? "," : "");
		buf_str(b, pg_col(req->arena, rows, i, "doc"));
	}
	buf_char(b, ']');
}

/* object, bytes and ext, sealed with the hour it is good until. */
static void put_source(struct req *req, struct buf *b, const struct rows *docs, int i)
{
	struct str object = pg_col(req->arena, docs, i, "object"), ext = pg_col(req->arena, docs, i, "ext"), raw;
	struct str plain = str_format(req->arena, "%lld %lld %.*s %.*s", (long long)(clock_now_us() + SOURCE_LIFE_US),
		(long long)pg_int(docs, i, "file_size"), STRF(ext), STRF(object));
	struct str sealed = vault_close(req->arena, SOURCE_CONTEXT, plain);
	if (hex_read(req->arena, str_from(sealed, 2), &raw))
		buf_json(b, b64url_write(req->arena, raw));
	else
		buf_text(b, "null");
}

static void put_kbs(struct req *req, struct buf *b, const struct rows *kbs, const struct rows *docs)
{
	buf_text(b, ",\"knowledge_bases\":[");
	for (int k = 0; k < kbs->count; k++) {
		struct str doc = pg_col(req->arena, kbs, k, "doc"), id = pg_col(req->arena, kbs, k, "id");
		const char *comma = "";
		buf_text(b, k ? "," : "");
		buf_add(b, doc.p, doc.n - 1);
		buf_text(b, ",\"documents\":[");
		for (int i = 0; i < docs->count; i++) {
			if (!str_eq(pg_col(req->arena, docs, i, "knowledge_base_id"), id))
				continue;
			buf_format(b, "%s{\"kind\":", comma);
			buf_json(b, pg_col(req->arena, docs, i, "kind"));
			buf_text(b, ",\"file_name\":");
			buf_json(b, pg_col(req->arena, docs, i, "file_name"));
			buf_text(b, ",\"url\":");
			buf_json(b, pg_col(req->arena, docs, i, "url"));
			buf_format(b, ",\"crawl\":%.*s,\"source\":", STRF(pg_col(req->arena, docs, i, "crawl")));
			pg_null(docs, i, "object") ? buf_text(b, "null") : put_source(req, b, docs, i);
			buf_char(b, '}');
			comma = ",";
		}
		buf_text(b, "]}");
	}
	buf_char(b, ']');
}

enum fault agent_export(struct req *req)
{
	struct str wanted = req_query(req, "agent_id"), rest = wanted, ids;
	struct rows agents, tools, kbs, docs;
	struct tx tx;
	char now[CLOCK_TEXT_BYTES];
	struct buf list = BUF_IN(req->arena, 65536), b = BUF_IN(req->arena, 32 << 20);
	TRY(req_need_client(req));
	while (rest.n)
		if (!uuid_valid(str_cut(&rest, ',')))
			return fault_field("agent_id", "must be a UUID or a comma list of them");
	req_read(req, &tx);
	TRY(moving_agents(&tx, (struct moving_agents){ .ids = wanted, .most = AGENTS_MOST + 1 }, &agents));
	if (agents.count > AGENTS_MOST)
		return fault_field("agent_id", "there are more than 100 agents: name the ones to export");
	for (int i = 0; i < agents.count; i++)
		buf_format(&list, "%s%.*s", i ? "," : "", STRF(pg_col(req->arena, &agents, i, "id")));
	ids = buf_view(&list);
	TRY(moving_tools(&tx, (struct moving_tools){ .ids = ids }, &tools));
	TRY(moving_kbs(&tx, (struct moving_kbs){ .ids = ids }, &kbs));
	TRY(moving_documents(&tx, (struct moving_documents){ .ids = ids }, &docs));
	buf_format(&b, "{\"version\":%d,\"exported_at\":\"%s\"", VERSION, clock_text(clock_now_us(), now));
	put_rows(req, &b, "agents", &agents);
	put_rows(req, &b, "tools", &tools);
	put_kbs(req, &b, &kbs, &docs);
	buf_char(&b, '}');
	reply_json(req, 200, buf_view(&b));
	return OK;
}

/* What an import makes, by the references of its document. */
struct made {
	struct str ref, id;
};
struct import {
	struct req *req;
	json_t *agents, *tools, *kbs, *secrets;
	struct tool_made *made_tools;
	struct kb_new *made_kbs;
	struct made *tool_ids, *kb_ids, *agent_ids;
	struct agent_new *made_agents;
	json_t **agent_settings;
};

static void warn(struct req *req, const char *field, const char *reason)
{
	struct shape_warning *w = arena_new(req->arena, struct shape_warning);
	*w = (struct shape_warning){ .next = req->warnings, .field = str_of(field), .reason = reason };
	req->warnings = w;
}

/* A refusal of one item, under the item's place in the document. */
static enum fault within(struct req *req, const char *place, enum fault fault)
{
	if (fault != FAULT_VALIDATION_ERROR)
		return fault;
	json_t *details;
	struct str text = str_format(req->arena, "{%.*s}", STRF(buf_view(&fault_note->details)));
	const char *name = "", *reason = "is not valid";
	if (json_read(req->arena, text, &details) == OK && json_object_iter(details)) {
		name = json_object_iter_key(json_object_iter(details));
		json_t *value = json_object_iter_value(json_object_iter(details));
		reason = json_is_string(value) ? json_string_value(value) : reason;
	}
	struct str field = str_format(req->arena, "%s.%s", place, name), why = str_format(req->arena, "%s", reason);
	fault_clear(req->arena);
	return fault_field(field.p, why.p);
}

static struct str id_of(const struct made *all, size_t n, struct str ref)
{
	for (size_t i = 0; i < n; i++)
		if (str_eq(all[i].ref, ref))
			return all[i].id;
	return STR_NULL;
}

static enum fault read_ref(struct req *req, const json_t *item, const char *place, struct made *into)
{
	*into = (struct made){ json_text(item, "ref"), uuid_make(req->arena) };
	return into->ref.n && into->ref.n <= 100 ? OK : fault_field(str_format(req->arena, "%s.ref", place).p, "must have 1..100 characters");
}

static enum fault read_tools(struct import *m)
{
	json_t *one;
	size_t i;
	json_array_foreach(m->tools, i, one) {
		const char *place = str_format(m->req->arena, "tools[%zu]", i).p;
		TRY(read_ref(m->req, one, place, &m->tool_ids[i]));
		TRY(within(m->req, place, tool_read(m->req, one, json_text(m->secrets, m->tool_ids[i].ref.p), &m->made_tools[i])));
		m->tool_ids[i].id = m->made_tools[i].id;
		if (m->made_tools[i].lacks_secret)
			warn(m->req, place, "has no secret yet: send it in secrets, or PATCH the tool");
	}
	return OK;
}

static enum fault read_kbs(struct import *m)
{
	json_t *one;
	size_t i;
	json_array_foreach(m->kbs, i, one) {
		const char *place = str_format(m->req->arena, "knowledge_bases[%zu]", i).p;
		TRY(read_ref(m->req, one, place, &m->kb_ids[i]));
		TRY(within(m->req, place, kb_read(m->req, one, &m->made_kbs[i])));
	}
	return OK;
}

/* The lists of an agent as POST /agents takes them, with the new ids. */
static enum fault relink(struct import *m, const json_t *agent, const char *place, json_t *plain)
{
	json_t *tools = json_array(), *kbs = json_array(), *one;
	size_t i;
	json_object_set_new(plain, "tools", tools);
	json_object_set_new(plain, "knowledge_bases", kbs);
	json_array_foreach(json_object_get(agent, "tools"), i, one) {
		struct str id = id_of(m->tool_ids, json_array_size(m->tools), json_text(one, "ref"));
		if (!id.p)
			return fault_field(str_format(m->req->arena, "%s.tools[%zu].ref", place, i).p, "is not among tools");
		json_t *link = json_pack("{s:s#}", "tool_id", id.p, (int)id.n);
		if (json_is_boolean(json_object_get(one, "enabled")))
			json_object_set(link, "enabled", json_object_get(one, "enabled"));
		if (json_is_object(json_object_get(one, "parameters")))
			json_object_set(link, "parameters", json_object_get(one, "parameters"));
		json_array_append_new(tools, link);
	}
	json_array_foreach(json_object_get(agent, "knowledge_bases"), i, one) {
		struct str id = id_of(m->kb_ids, json_array_size(m->kbs), str_of(json_string_value(one)));
		if (!id.p)
			return fault_field(str_format(m->req->arena, "%s.knowledge_bases[%zu]", place, i).p, "is not among knowledge_bases");
		json_array_append_new(kbs, json_stringn(id.p, id.n));
	}
	return OK;
}

static enum fault read_agents(struct import *m)
{
	struct arena *a = m->req->arena;
	json_t *one;
	size_t i;
	uint64_t set;
	json_array_foreach(m->agents, i, one) {
		const char *place = str_format(a, "agents[%zu]", i).p;
		struct shape_warning *ignored = NULL;
		json_t *plain = json_copy(one);
		arena_defer(a, (void (*)(void *))json_decref, plain);
		json_object_del(plain, "voice");
		json_object_del(plain, "voice_id");
		TRY(read_ref(m->req, one, place, &m->agent_ids[i]));
		TRY(relink(m, one, place, plain));
		TRY(within(m->req, place, shape_read(a, &agent_new_shape, plain, &m->made_agents[i], &set, &ignored)));
	}
	return OK;
}

/* Documents of one knowledge base. What cannot travel is told, not refused. */
static enum fault read_document(struct import *m, const json_t *in, const char *place, struct kb_moved *ret, bool *ret_good)
{
	struct arena *a = m->req->arena;
	struct str source = json_text(in, "source"), raw, plain;
	json_t *crawl = json_object_get(in, "crawl");
	int64_t until_us = 0;
	*ret_good = true;
	*ret = (struct kb_moved){ .url = json_text(in, "url"), .file_name = json_text(in, "file_name"),
		.crawl = json_is_object(crawl) ? json_dump(a, crawl) : STR("{}") };
	if (!str_is(json_text(in, "kind"), "file"))
		return within(m->req, place, ret->url.n ? kb_moved_check(ret) : fault_field("url", "is required"));
	bool opened = source.n && b64_read(a, source, &raw) && vault_open(a, SOURCE_CONTEXT, raw, &plain) == OK;
	if (opened) {
		str_int(str_cut(&plain, ' '), &until_us);
		str_int(str_cut(&plain, ' '), &ret->bytes);
		ret->ext = str_cut(&plain, ' ');
		ret->object = plain;
	}
	*ret_good = opened && until_us > clock_now_us() && ret->file_name.n && ret->file_name.n <= 255;
	if (!*ret_good)
		warn(m->req, place, "its source is not of this installation or has expired: upload the file again");
	return OK;
}

static enum fault add_documents(struct import *m, size_t k)
{
	json_t *one;
	size_t i;
	json_array_foreach(json_object_get(json_array_get(m->kbs, k), "documents"), i, one) {
		const char *place = str_format(m->req->arena, "knowledge_bases[%zu].documents[%zu]", k, i).p;
		struct kb_moved document;
		bool good;
		TRY(read_document(m, one, place, &document, &good));
		if (good)
			kb_add_document(&m->req->tx, m->kb_ids[k].id, &document);
	}
	return OK;
}

static enum fault voice_of(struct import *m, size_t i)
{
	json_t *voice = json_object_get(json_array_get(m->agents, i), "voice");
	struct rows found;
	if (!json_is_object(voice))
		return OK;
	TRY(moving_voice(&m->req->tx, (struct moving_voice){ .provider = json_text(voice, "provider"),
		.provider_voice_id = json_text(voice, "provider_voice_id"), .name = json_text(voice, "name") }, &found));
	if (found.count)
		m->made_agents[i].voice_id = pg_col(m->req->arena, &found, 0, "id");
	else
		warn(m->req, str_format(m->req->arena, "agents[%zu].voice", i).p,
		"this client has no such voice: the agent speaks with the default one");
	return OK;
}

static void put_made(struct buf *b, const char *name, const struct made *all, size_t n)
{
	buf_format(b, "%s\"%s\":[", b->n > 1 ? "," : "", name);
	for (size_t i = 0; i < n; i++) {
		buf_text(b, i ? ",{\"ref\":" : "{\"ref\":");
		buf_json(b, all[i].ref);
		buf_format(b, ",\"id\":\"%.*s\"}", STRF(all[i].id));
	}
	buf_char(b, ']');
}

static enum fault write_all(struct import *m)
{
	struct req *req = m->req;
	size_t tools = json_array_size(m->tools), kbs = json_array_size(m->kbs), agents = json_array_size(m->agents), i;
	for (i = 0; i < agents; i++)
		TRY(voice_of(m, i));
	for (i = 0; i < tools; i++)
		tool_add(&req->tx, &m->made_tools[i]);
	for (i = 0; i < kbs; i++) {
		kb_add(&req->tx, m->kb_ids[i].id, &m->made_kbs[i]);
		TRY(add_documents(m, i));
	}
	for (i = 0; i < agents; i++) {
		const struct agent_new *in = &m->made_agents[i];
		struct job_order push = { .kind = "agent.push", .resource_type = "agent", .resource_id = m->agent_ids[i].id };
		agents_insert_later(&req->tx, (struct agents_insert){ .id = m->agent_ids[i].id, .name = in->name, .description = in->description,
			.voice_id = in->voice_id, .system_prompt = in->system_prompt, .model = in->model.p ? in->model : config.default_model,
			.settings = agent_settings_read(req, in->settings) }, NULL);
		agent_links_write(req, m->agent_ids[i].id, in);
		job_add(&req->tx, &push);
	}
	struct buf b = BUF_IN(req->arena, 1 << 20);
	buf_char(&b, '{');
	put_made(&b, "agents", m->agent_ids, agents);
	put_made(&b, "tools", m->tool_ids, tools);
	put_made(&b, "knowledge_bases", m->kb_ids, kbs);
	buf_char(&b, '}');
	reply_json(req, 202, buf_view(&b));
	uploads_admit_last(req);
	for (i = 0; i < agents; i++)
		event_emit(&req->tx, "agent.created", "agent", m->agent_ids[i].id, agent_event_data(req->arena, m->agent_ids[i].id, "creating"));
	return req_commit(req, false);
}

/* All or nothing: the rows of a whole setup in one transaction; the provider's copies follow by their jobs, agents after what they use. */
enum fault agent_import(struct req *req)
{
	struct import_in *in = req->in;
	struct import m = { .req = req };
	struct rows client;
	TRY(req_need_client(req));
	TRY(json_read_any(req->arena, in->agents, &m.agents));
	TRY(json_read_any(req->arena, in->tools.p ? in->tools : STR("[]"), &m.tools));
	TRY(json_read_any(req->arena, in->knowledge_bases.p ? in->knowledge_bases : STR("[]"), &m.kbs));
	TRY(json_read(req->arena, in->secrets.p ? in->secrets : STR("{}"), &m.secrets));
	m.made_tools = arena_alloc(req->arena, sizeof *m.made_tools * (json_array_size(m.tools) + 1));
	m.tool_ids = arena_alloc(req->arena, sizeof *m.tool_ids * (json_array_size(m.tools) + 1));
	m.made_kbs = arena_alloc(req->arena, sizeof *m.made_kbs * (json_array_size(m.kbs) + 1));
	m.kb_ids = arena_alloc(req->arena, sizeof *m.kb_ids * (json_array_size(m.kbs) + 1));
	m.made_agents = arena_alloc(req->arena, sizeof *m.made_agents * (json_array_size(m.agents) + 1));
	m.agent_ids = arena_alloc(req->arena, sizeof *m.agent_ids * (json_array_size(m.agents) + 1));
	memset(m.made_agents, 0, sizeof *m.made_agents * json_array_size(m.agents));
	TRY(read_tools(&m));
	TRY(read_kbs(&m));
	TRY(read_agents(&m));
	TRY(req_begin(req));
	TRY(agents_mode(&req->tx, (struct agents_mode){ 0 }, &client));
	TRY(voice_account_expect(&req->tx, pg_col(req->arena, &client, 0, "mode")));
	return write_all(&m);
}
