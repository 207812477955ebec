/* Knowledge bases: routes. */
#include "knowledge.h"
#include "knowledge.sql.h"
#include "../../1_code/uuid.h"
#include "../../3_core/effect.h"
#include "../../3_core/events.h"
#include "../../4_out/voice_provider.h"

#define FIELD(field, ...) { .name = #field, .offset = offsetof(struct kb_new, field), __VA_ARGS__ }
static const struct shape_field new_fields[] = {
	FIELD(name, .type = SHAPE_TEXT, .flags = SHAPE_REQUIRED, .min = 1, .max = 100),
	FIELD(description, .type = SHAPE_TEXT, .max = 500),
	FIELD(language, .type = SHAPE_TEXT, .min = 2, .max = 35, .preset = "en-US", .doc = "BCP 47"),
};
static const struct shape new_shape = SHAPE("knowledge_base_new", new_fields);
static const struct shape_field patch_fields[] = {
	FIELD(name, .type = SHAPE_TEXT, .min = 1, .max = 100),
	FIELD(description, .type = SHAPE_TEXT, .flags = SHAPE_MAYBE, .max = 500),
};
static const struct shape patch_shape = SHAPE("knowledge_base_patch", patch_fields);

static const struct shape_field kb_fields[] = {
	{ "id", SHAPE_UUID },
	{ "client_id", SHAPE_UUID },
	{ "name", SHAPE_TEXT },
	{ "description", SHAPE_TEXT, SHAPE_MAYBE },
	{ "language", SHAPE_TEXT },
	{ "status", SHAPE_ENUM, .values = "creating,ready,processing,failed" },
	{ "sync_status", SHAPE_ENUM, .values = "synced,pending,failed" },
	{ "document_counts", SHAPE_OBJECT, .doc = "total, indexed, processing, failed" },
	{ "ultravox_corpus_id", SHAPE_TEXT, SHAPE_MAYBE },
	{ "last_error", SHAPE_TEXT, SHAPE_OMIT },
	{ "created_at", SHAPE_TIME },
	{ "updated_at", SHAPE_TIME },
};
static const struct shape kb_shape = SHAPE("knowledge_base", kb_fields);

struct query_in {
	struct str query;
	int64_t max_results;
};
static const struct shape_field query_fields[] = {
	{ .name = "query", .type = SHAPE_TEXT, .flags = SHAPE_REQUIRED, .min = 1, .max = 1000 },
	{ .name = "max_results", .type = SHAPE_INT, .min = 1, .max = 20, .preset = "5", .offset = offsetof(struct query_in, max_results) },
};
static const struct shape query_shape = SHAPE("knowledge_base_query", query_fields);
static const struct shape_field result_fields[] = {
	{ "content", SHAPE_TEXT },
	{ "score", SHAPE_NUMBER },
	{ "doc_id", SHAPE_UUID, SHAPE_MAYBE },
	{ "file_name", SHAPE_TEXT, SHAPE_MAYBE },
	{ "url", SHAPE_TEXT, SHAPE_MAYBE },
};
static const struct shape result_shape = SHAPE("knowledge_base_result", result_fields);
static const struct shape_field results_fields[] = { { "results", SHAPE_LIST, .sub = &result_shape } };
static const struct shape results_shape = SHAPE("knowledge_base_results", results_fields);

static enum fault load_row(struct tx *tx, struct str id, struct rows *ret) { return kb_get(tx, (struct kb_get){ .id = id }, ret); }

static const struct effect pushing = { "kb.push", "knowledge_base", "knowledge base", "ultravox", &kb_shape, load_row };

/* BCP 47 as far as its alphabet goes: letters, digits and hyphens between them. */
static bool language_tag(struct str t)
{
	for (size_t i = 0; i < t.n; i++)
		if (!((t.p[i] | 32) >= 'a' && (t.p[i] | 32) <= 'z') && !(t.p[i] >= '0' && t.p[i] <= '9') && t.p[i] != '-')
			return false;
	return t.n >= 2 && t.p[0] != '-' && t.p[t.n - 1] != '-';
}

enum fault kb_read(struct req *req, const json_t *object, struct kb_new *ret)
{
	struct shape_warning *ignored = NULL;
	uint64_t set;
	*ret = (struct kb_new){ 0 };
	TRY(shape_read(req->arena, &new_shape, object, ret, &set, &ignored));
	return language_tag(ret->language) ? OK : fault_field("language", "must be a BCP 47 tag such as en-US");
}

void kb_add(struct tx *tx, struct str id, const struct kb_new *in)
{
	struct job_order push = { .kind = "kb.push", .resource_type = "knowledge_base", .resource_id = id };
	kb_insert_later(tx, (struct kb_insert){ .id = id, .name = in->name, .description = in->description, .language = in->language }, NULL);
	job_add(tx, &push);
}

static enum fault create(struct req *req)
{
	struct kb_new *in = req->in;
	struct rows client, row;
	struct str id = uuid_make(req->arena);
	TRY(req_need_client(req));
	if (!language_tag(in->language))
		return fault_field("language", "must be a BCP 47 tag such as en-US");
	TRY(req_begin(req));
	TRY(kb_mode(&req->tx, (struct kb_mode){ 0 }, &client));
	TRY(voice_account_expect(&req->tx, pg_col(req->arena, &client, 0, "mode")));
	kb_insert_later(&req->tx, (struct kb_insert){ .id = id, .name = in->name, .description = in->description,
		.language = in->language }, NULL);
	TRY(kb_get(&req->tx, (struct kb_get){ .id = id }, &row));
	effect_location(req, "kb", id);
	return effect_run(req, &pushing, id, &row, STR_NULL, "knowledge_base.created",
		kb_event_data(req->arena, id, STR_NULL, "creating", NULL, STR_NULL), 201);
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
	TRY(kb_list(&tx, (struct kb_list){ .status = req_enum_filter(req, "status", "creating,ready,processing,failed"),
		.q = req_query(req, "q"), PAGE_OF(page) }, &rows));
	reply_list(req, &kb_shape, &rows, page.limit, page.filters);
	return OK;
}

static enum fault patch(struct req *req)
{
	struct kb_new *in = req->in;
	struct rows changed, row;
	struct str id = req->ids[0];
	TRY(req_need_client(req));
	TRY(req_begin(req));
	kb_update_later(&req->tx, (struct kb_update){ .id = id, .name = in->name, .set_description = req->set & 2,
		.description = in->description }, &changed);
	TRY(kb_get(&req->tx, (struct kb_get){ .id = id }, &row));
	if (!changed.count)
		return fault_raise(FAULT_NOT_FOUND, "No such knowledge base");
	return effect_run(req, &pushing, id, &row, STR_NULL, "knowledge_base.updated", kb_event_data(req->arena, id,
		pg_col(req->arena, &changed, 0, "ultravox_corpus_id"), str_copy(req->arena, pg_col(req->arena, &row, 0, "status")).p, NULL,
		STR_NULL), 200);
}

static enum fault sync(struct req *req)
{
	struct rows found, row;
	TRY(req_need_client(req));
	TRY(req_begin(req));
	kb_resync_later(&req->tx, (struct kb_resync){ .id = req->ids[0] }, &found);
	TRY(kb_get(&req->tx, (struct kb_get){ .id = req->ids[0] }, &row));
	if (!found.count)
		return fault_raise(FAULT_NOT_FOUND, "No such knowledge base");
	return effect_run(req, &pushing, req->ids[0], &row, STR("{\"repair\":true}"), NULL, STR_NULL, 200);
}

static enum fault delete(struct req *req)
{
	struct rows found, used;
	struct str id = req->ids[0];
	TRY(req_need_client(req));
	TRY(req_begin(req));
	TRY(kb_lock(&req->tx, (struct kb_lock){ .id = id }, &found));
	if (!found.count)
		return fault_raise(FAULT_NOT_FOUND, "No such knowledge base");
	TRY(kb_used(&req->tx, (struct kb_used){ .id = id }, &used));
	if (used.count) {
		enum fault fault = fault_raise(FAULT_CONFLICT, "An agent uses this knowledge base");
		fault_detail("agent_id", pg_col(req->arena, &used, 0, "id"));
		return fault;
	}
	if (str_is(pg_col(req->arena, &found, 0, "status"), "processing"))
		return fault_field("status", "documents are being read; wait or delete them first");
	kb_delete_later(&req->tx, (struct kb_delete){ .id = id }, NULL);
	struct job_order push = { .kind = "kb.push", .resource_type = "knowledge_base", .resource_id = id };
	job_add(&req->tx, &push);
	reply_json(req, 200, str_format(req->arena, "{\"id\":\"%.*s\",\"deleted\":true}", STRF(id)));
	event_emit(&req->tx, "knowledge_base.deleted", "knowledge_base", id, kb_event_data(req->arena, id,
		pg_col(req->arena, &found, 0, "ultravox_corpus_id"), "deleted", NULL, STR_NULL));
	return req_commit(req, false);
}

static enum fault query(struct req *req)
{
	struct query_in *in = req->in;
	struct rows row;
	struct tx tx;
	struct str answer;
	json_t *read;
	struct buf payload = BUF_IN(req->arena, 65536);
	TRY(req_need_client(req));
	req_read(req, &tx);
	TRY(kb_get(&tx, (struct kb_get){ .id = req->ids[0] }, &row));
	if (!row.count)
		return fault_raise(FAULT_NOT_FOUND, "No such knowledge base");
	if (pg_null(&row, 0, "ultravox_corpus_id"))
		return fault_field("status", "the knowledge base is not ready");
	buf_text(&payload, "{\"query\":");
	buf_json(&payload, in->query);
	buf_format(&payload, ",\"maxResults\":%lld}", (long long)in->max_results);
	TRY(req_begin(req));
	TRY(effect_ask(req, "kb.query", "knowledge_base", req->ids[0], buf_view(&payload), &answer));
	TRY(json_read(req->arena, answer, &read));
	struct str problem = json_text(read, "problem");
	if (problem.p) {
		enum fault fault = fault_raise(FAULT_PROVIDER_ERROR, "%.*s", STRF(problem));
		fault_detail("provider", STR("ultravox"));
		return fault;
	}
	reply_json(req, 200, answer);
	req_finish(req);
	return OK;
}

const struct route knowledge_routes[] = {
	{ "POST", API "/kb", ROLE_W, "kb:write", create, &new_shape, sizeof(struct kb_new), &kb_shape, 201, .flags = ROUTE_ASYNC,
		.summary = "Create a knowledge base" },
	{ "GET", API "/kb", ROLE_R, "kb:read", list, .out = &kb_shape, .status = 200, .flags = ROUTE_LIST,
		.query = "status,q,created_after,created_before", .summary = "List knowledge bases, newest first" },
	{ "GET", API "/kb/{id}", ROLE_R, "kb:read", get, .out = &kb_shape, .status = 200, .summary = "Read a knowledge base and its counts" },
	{ "PATCH", API "/kb/{id}", ROLE_W, "kb:write", patch, &patch_shape, sizeof(struct kb_new), &kb_shape, 200, .flags = ROUTE_ASYNC,
		.summary = "Change a knowledge base" },
	{ "PUT", API "/kb/{id}", ROLE_W, "kb:write", patch, &patch_shape, sizeof(struct kb_new), &kb_shape, 200, .flags = ROUTE_ASYNC,
		.summary = "Change a knowledge base (as PATCH)" },
	{ "DELETE", API "/kb/{id}", ROLE_W, "kb:write", delete, .status = 200, .summary = "Delete a knowledge base" },
	{ "POST", API "/kb/{id}/sync", ROLE_W, "kb:write", sync, .out = &kb_shape, .status = 200, .flags = ROUTE_ASYNC,
		.summary = "Bring the provider's corpus up to date, or make a lost one again" },
	{ "POST", API "/kb/{id}/query", ROLE_R, "kb:read", query, &query_shape, sizeof(struct query_in), &results_shape, 200,
		.summary = "Ask a knowledge base what an agent would find" },
	{ 0 },
};

const struct job_kind knowledge_jobs[] = {
	{ "kb.push", "q-artifacts-sync", kb_push, 1000 },
	{ "kb.ingest", "q-artifacts-sync", kb_ingest, 1000 },
	{ "kb.forget", "q-artifacts-sync", kb_forget, 1000 },
	{ "kb.query", "q-artifacts-sync", kb_query, 1 },
	{ 0 },
};
