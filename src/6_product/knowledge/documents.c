/* Documents of knowledge bases: routes. */
#include "knowledge.h"
#include "knowledge.sql.h"
#include "../uploads/uploads.h"
#include "../../1_code/url.h"
#include "../../1_code/uuid.h"
#include "../../3_core/config.h"
#include "../../3_core/events.h"

#define STATUSES "pending_upload,uploaded,processing,indexed,failed"

struct list_in {
	struct str items;
};

static const struct shape_field file_fields[] = {
	{ "filename", SHAPE_TEXT, SHAPE_REQUIRED, 1, 255 },
	{ "file_size", SHAPE_INT, SHAPE_REQUIRED, 1, 10 << 20 },
	{ "content_type", SHAPE_TEXT, .min = 1, .max = 100 },
};
static const struct shape file_shape = SHAPE("kb_file", file_fields);
static const struct shape_field presign_fields[] = {
	{ .name = "files", .type = SHAPE_LIST, .flags = SHAPE_REQUIRED, .min = 1, .max = UPLOAD_FILES_MOST, .sub = &file_shape,
		.doc = "pdf txt md doc docx ppt pptx" },
};
static const struct shape presign_shape = SHAPE("kb_presign", presign_fields);
static const struct shape_field uuid_item[] = { { "id", SHAPE_UUID } };
static const struct shape uuid_shape = { "id", uuid_item, 1, .item_is_text = true };
static const struct shape_field ingest_fields[] = {
	{ .name = "document_ids", .type = SHAPE_LIST, .flags = SHAPE_REQUIRED, .min = 1, .max = 200, .sub = &uuid_shape,
		.doc = "from presign" },
};
static const struct shape ingest_shape = SHAPE("kb_ingest", ingest_fields);

struct url_in {
	struct str url;
	int64_t max_depth, max_documents;
};
static const struct shape_field url_fields[] = {
	{ .name = "url", .type = SHAPE_URL, .flags = SHAPE_REQUIRED },
	{ .name = "max_depth", .type = SHAPE_INT, .min = 1, .max = 5, .preset = "1", .offset = offsetof(struct url_in, max_depth),
		.doc = "1 = this page alone" },
	{ .name = "max_documents", .type = SHAPE_INT, .min = 1, .max = 200, .preset = "1", .offset = offsetof(struct url_in, max_documents) },
};
static const struct shape url_shape = SHAPE("kb_url", url_fields);

static const struct shape_field document_fields[] = {
	{ "id", SHAPE_UUID },
	{ "client_id", SHAPE_UUID },
	{ "doc_id", SHAPE_UUID, .doc = "the same value" },
	{ "knowledge_base_id", SHAPE_UUID },
	{ "kind", SHAPE_ENUM, .values = "file,url" },
	{ "file_name", SHAPE_TEXT, SHAPE_MAYBE },
	{ "file_type", SHAPE_TEXT, SHAPE_MAYBE },
	{ "file_size", SHAPE_INT, SHAPE_MAYBE },
	{ "url", SHAPE_TEXT, SHAPE_MAYBE },
	{ "status", SHAPE_ENUM, .values = STATUSES },
	{ "ultravox_source_id", SHAPE_TEXT, SHAPE_MAYBE },
	{ "error_message", SHAPE_TEXT, SHAPE_OMIT },
	{ "created_at", SHAPE_TIME },
	{ "updated_at", SHAPE_TIME },
};
static const struct shape document_shape = SHAPE("kb_document", document_fields);
static const struct shape_field begun_fields[] = {
	{ "doc_id", SHAPE_UUID },
	{ "status", SHAPE_ENUM, .values = STATUSES },
	{ "ultravox_source_id", SHAPE_TEXT, SHAPE_MAYBE },
	{ "error_message", SHAPE_TEXT, SHAPE_OMIT },
};
static const struct shape begun_shape = SHAPE("kb_document_begun", begun_fields);
static const struct shape_field ingested_fields[] = { { "documents", SHAPE_LIST, .sub = &begun_shape } };
static const struct shape ingested_shape = SHAPE("kb_ingested", ingested_fields);

static enum fault missing(const char *what) { return fault_raise(FAULT_NOT_FOUND, "No such %s", what); }

/* The base of the path, locked: what is read into it and its status change together. */
static enum fault lock(struct req *req, struct rows *ret)
{
	TRY(kb_lock(&req->tx, (struct kb_lock){ .id = req->ids[0] }, ret));
	return ret->count ? OK : missing("knowledge base");
}

static enum fault presign(struct req *req)
{
	struct list_in *in = req->in;
	struct upload_file files[UPLOAD_FILES_MOST];
	struct upload_rule rule = { "kb", "pdf,txt,md,doc,docx,ppt,pptx", UPLOAD_FILES_MOST, config.kb_max_file_bytes };
	struct rows kb;
	struct str items;
	size_t n;
	TRY(req_need_client(req));
	TRY(uploads_read(req, in->items, &rule, files, &n));
	TRY(req_begin(req));
	TRY(lock(req, &kb));
	TRY(uploads_put(req, &rule, req->ids[0], files, n, &items));
	for (size_t i = 0; i < n; i++)
		docs_insert_file_later(&req->tx, (struct docs_insert_file){ .id = files[i].id, .kb = req->ids[0], .name = files[i].name,
			.type = str_of(uploads_type(files[i].ext)), .bytes = files[i].bytes }, NULL);
	reply_json(req, 200, str_format(req->arena, "{\"uploads\":%.*s,\"documents\":%.*s}", STRF(items), STRF(items)));
	uploads_admit_last(req);
	return req_commit(req, false);
}

/* The ids as comma text and as a JSON array; each a UUID. */
static enum fault read_ids(struct req *req, struct str list, struct str *ret_ids, size_t *ret_n)
{
	json_t *all, *one;
	size_t i;
	struct buf b = BUF_IN(req->arena, 16384);
	TRY(json_read_any(req->arena, list, &all));
	*ret_n = 0;
	json_array_foreach(all, i, one) {
		struct str id = str_lower(req->arena, str_of(json_string_value(one)));
		if (b.n && strstr(str_copy(req->arena, buf_view(&b)).p, id.p))
			continue;	/* named twice is meant once */
		buf_format(&b, "%s%.*s", b.n ? "," : "", STRF(id));
		++*ret_n;
	}
	*ret_ids = buf_view(&b);
	return OK;
}

/* Begins the reading of `begun` and tells so; the event is among the last statements. */
static void begin(struct req *req, const struct rows *begun, struct str corpus_id)
{
	struct arena *a = req->arena;
	struct buf ids = BUF_IN(a, 32768);
	buf_char(&ids, '[');
	for (int i = 0; i < begun->count; i++) {
		struct str id = pg_col(a, begun, i, "id");
		kb_ingest_order(&req->tx, id, !pg_null(begun, i, "ultravox_source_id"));
		buf_format(&ids, "%s\"%.*s\"", i ? "," : "", STRF(id));
	}
	buf_char(&ids, ']');
	if (!begun->count)
		return;
	kb_busy_later(&req->tx, (struct kb_busy){ .id = req->ids[0] }, NULL);
	event_emit(&req->tx, "knowledge_base.ingestion.started", "knowledge_base", req->ids[0], kb_event_data(a, req->ids[0], corpus_id,
		"processing", "document_ids", buf_view(&ids)));
}

static void reply_documents(struct req *req, int status, const struct rows *rows)
{
	struct buf b = BUF_IN(req->arena, 256 << 10);
	buf_text(&b, "{\"documents\":[");
	for (int i = 0; i < rows->count; i++) {
		if (i)
			buf_char(&b, ',');
		row_json(&b, req->arena, &begun_shape, rows, i);
	}
	buf_text(&b, "]}");
	reply_json(req, status, buf_view(&b));
}

static enum fault ingest(struct req *req)
{
	struct list_in *in = req->in;
	struct rows kb, known, begun, some;
	struct str ids;
	size_t n;
	TRY(req_need_client(req));
	TRY(read_ids(req, in->items, &ids, &n));
	TRY(req_begin(req));
	TRY(lock(req, &kb));
	TRY(docs_known(&req->tx, (struct docs_known){ .kb = req->ids[0], .ids = ids }, &known));
	if ((size_t)known.count < n) {
		enum fault fault = missing("document");
		fault_detail("field", STR("document_ids"));
		return fault;
	}
	docs_begin_later(&req->tx, (struct docs_begin){ .kb = req->ids[0], .ids = ids }, &begun);
	TRY(docs_some(&req->tx, (struct docs_some){ .kb = req->ids[0], .ids = ids }, &some));
	reply_documents(req, 202, &some);
	begin(req, &begun, pg_col(req->arena, &kb, 0, "ultravox_corpus_id"));
	return req_commit(req, false);
}

/* One failed document, once more. Its new job looks first whether the earlier one left a source. */
static enum fault retry(struct req *req)
{
	struct rows kb, begun, row;
	TRY(req_need_client(req));
	TRY(req_begin(req));
	TRY(lock(req, &kb));
	TRY(docs_get(&req->tx, (struct docs_get){ .id = req->ids[1], .kb = req->ids[0] }, &row));
	if (!row.count)
		return missing("document");
	if (!str_is(pg_col(req->arena, &row, 0, "status"), "failed"))
		return fault_field("status", "only a failed document is tried again");
	docs_begin_later(&req->tx, (struct docs_begin){ .kb = req->ids[0], .ids = req->ids[1] }, &begun);
	TRY(docs_get(&req->tx, (struct docs_get){ .id = req->ids[1], .kb = req->ids[0] }, &row));
	reply_row(req, 202, &document_shape, &row, 0);
	begin(req, &begun, pg_col(req->arena, &kb, 0, "ultravox_corpus_id"));
	return req_commit(req, false);
}

static enum fault add_url(struct req *req)
{
	struct url_in *in = req->in;
	struct rows kb, row;
	struct url url;
	struct str id = uuid_make(req->arena);
	const char *problem = url_read(in->url, &url) ? url_egress_problem(&url, config.egress_allow_private) : "must be a URL";
	TRY(req_need_client(req));
	if (problem)
		return fault_field("url", problem);
	TRY(req_begin(req));
	TRY(lock(req, &kb));
	docs_insert_url_later(&req->tx, (struct docs_insert_url){ .id = id, .kb = req->ids[0], .url = in->url, .crawl = str_format(req->arena,
		"{\"max_depth\":%lld,\"max_documents\":%lld}", (long long)in->max_depth, (long long)in->max_documents) }, NULL);
	TRY(docs_get(&req->tx, (struct docs_get){ .id = id, .kb = req->ids[0] }, &row));
	reply_row(req, 202, &document_shape, &row, 0);
	begin(req, &row, pg_col(req->arena, &kb, 0, "ultravox_corpus_id"));
	return req_commit(req, false);
}

enum fault kb_moved_check(const struct kb_moved *d)
{
	struct url url;
	if (d->object.p)
		return OK;
	const char *problem = url_read(d->url, &url) ? url_egress_problem(&url, config.egress_allow_private) : "must be a URL";
	return problem ? fault_field("url", problem) : OK;
}

void kb_add_document(struct tx *tx, struct str kb_id, const struct kb_moved *d)
{
	struct str id = uuid_make(tx->arena);
	if (d->object.p) {
		uploads_move(tx, "kb", kb_id, id, d->file_name, d->ext, d->bytes);
		docs_insert_moved_later(tx, (struct docs_insert_moved){ .id = id, .kb = kb_id, .name = d->file_name,
			.type = str_of(uploads_type(d->ext)), .bytes = d->bytes, .object = d->object }, NULL);
	} else {
		docs_insert_url_later(tx, (struct docs_insert_url){ .id = id, .kb = kb_id, .url = d->url, .crawl = d->crawl }, NULL);
	}
	kb_ingest_order(tx, id, false);
}

static enum fault list(struct req *req)
{
	static const char *const filters[] = { "status", NULL };
	struct page page;
	struct rows kb, rows;
	struct tx tx;
	TRY(req_page(req, filters, &page));
	req_read(req, &tx);
	TRY(kb_get(&tx, (struct kb_get){ .id = req->ids[0] }, &kb));
	if (!kb.count)
		return missing("knowledge base");
	TRY(docs_list(&tx, (struct docs_list){ .kb = req->ids[0], .status = req_enum_filter(req, "status", STATUSES), PAGE_OF(page) }, &rows));
	reply_list(req, &document_shape, &rows, page.limit, page.filters);
	return OK;
}

/* Gone here at once; the provider's source and our file by a job. It may have been the last that was waited for. */
static enum fault delete(struct req *req)
{
	struct rows kb, gone, settled;
	struct str id = req->ids[1];
	TRY(req_need_client(req));
	TRY(req_begin(req));
	TRY(lock(req, &kb));
	docs_delete_later(&req->tx, (struct docs_delete){ .id = id, .kb = req->ids[0] }, &gone);
	TRY(kb_settle(&req->tx, (struct kb_settle){ .id = req->ids[0] }, &settled));
	if (!gone.count)
		return missing("document");
	struct job_order forget = { .kind = "kb.forget", .resource_type = "kb_document", .resource_id = id };
	job_add(&req->tx, &forget);
	reply_json(req, 200, str_format(req->arena, "{\"id\":\"%.*s\",\"deleted\":true}", STRF(id)));
	if (settled.count)
		event_emit(&req->tx, "knowledge_base.ingestion.completed", "knowledge_base", req->ids[0], kb_event_data(req->arena, req->ids[0],
			pg_col(req->arena, &kb, 0, "ultravox_corpus_id"), "ready", "document_counts", pg_col(req->arena, &settled, 0, "counts")));
	return req_commit(req, false);
}

const struct route documents_routes[] = {
	{ "POST", API "/kb/{id}/files/presign", ROLE_W, "kb:write", presign, &presign_shape, sizeof(struct list_in), &uploads_shape, 200,
		.summary = "Get signed URLs to upload documents to" },
	{ "POST", API "/kb/{id}/files/ingest", ROLE_W, "kb:write", ingest, &ingest_shape, sizeof(struct list_in), &ingested_shape, 202,
		.summary = "Read uploaded documents into the knowledge base" },
	{ "POST", API "/kb/{id}/urls", ROLE_W, "kb:write", add_url, &url_shape, sizeof(struct url_in), &document_shape, 202,
		.summary = "Read a web page, or what it links to" },
	{ "GET", API "/kb/{id}/documents", ROLE_R, "kb:read", list, .out = &document_shape, .status = 200, .flags = ROUTE_LIST,
		.query = "status,created_after,created_before", .summary = "List documents, newest first" },
	{ "POST", API "/kb/{id}/documents/{doc_id}/retry", ROLE_W, "kb:write", retry, .out = &document_shape, .status = 202,
		.summary = "Try a failed document again" },
	{ "DELETE", API "/kb/{id}/documents/{doc_id}", ROLE_W, "kb:write", delete, .status = 200, .summary = "Delete a document" },
	{ 0 },
};
