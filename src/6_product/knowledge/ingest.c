/* Reading one document into the corpus: the file goes to the provider's upload, a source is made of it, and the source is asked until it
 * is ready. The provider knows no failed source, so half an hour without an indexed document is one. */
#include "knowledge.h"
#include "knowledge.sql.h"
#include "../uploads/uploads.h"
#include "../../0_base/clock.h"
#include "../../2_io/fetch.h"
#include "../../3_core/config.h"
#include "../../3_core/events.h"
#include "../../4_out/objects.h"
#include "../../4_out/voice_provider.h"

#define DEADLINE_US (1800 * US_PER_S)
#define POLL_US (10 * US_PER_S)
#define STORE_WORDS 4096		/* room for what the store says when it refuses */
#define CORPUS_WAIT_US (2 * US_PER_S)

struct reading {
	struct job *job;
	struct rows row;
	struct voice_account account;
	struct str corpus_id, source_id;
};

static struct str column(struct reading *r, const char *name) { return pg_col(r->job->arena, &r->row, 0, name); }

void kb_ingest_order(struct tx *tx, struct str id, bool again)
{
	struct job_order order = { .kind = "kb.ingest", .resource_type = "kb_document", .resource_id = id,
		.payload = again ? STR("{\"posted\":true}") : STR_NULL, .dedupe = str_format(tx->arena, "ingest:%.*s", STRF(id)) };
	job_add(tx, &order);
}

/* The document's end; the last one of its base ends the base's reading. */
static enum fault end(struct reading *r, const char *status, struct str error)
{
	struct arena *a = r->job->arena;
	struct str kb = column(r, "kb_id"), id = r->job->resource_id;
	struct rows lock, settled;
	struct tx tx;
	json_t *counts;
	TRY(tenant_begin(&tx, a, &r->job->scope));
	kb_lock_later(&tx, (struct kb_lock){ .id = kb }, &lock);
	docs_end_later(&tx, (struct docs_end){ .id = id, .status = str_of(status), .error = error }, NULL);
	if (!pg_null(&r->row, 0, "upload_id"))
		uploads_mark(&tx, column(r, "upload_id"), str_is(str_of(status), "indexed") ? "used" : "uploaded", 0);
	job_done(r->job, &tx);
	TRY(kb_settle(&tx, (struct kb_settle){ .id = kb }, &settled));
	if (settled.count) {
		struct str text = pg_col(a, &settled, 0, "counts");
		TRY(json_read(a, text, &counts));
		bool any = json_integer_value(json_object_get(counts, "indexed")) > 0;
		event_emit(&tx, any ? "knowledge_base.ingestion.completed" : "knowledge_base.ingestion.failed", "knowledge_base", kb,
			kb_event_data(a, kb, r->corpus_id, "ready", "document_counts", text));
	}
	return tx_commit(&tx);
}

static enum fault fail(struct reading *r, struct str why) { return end(r, "failed", why); }

static enum fault park(struct reading *r, int64_t wait_us)
{
	struct tx tx;
	TRY(tenant_begin(&tx, r->job->arena, &r->job->scope));
	job_park(r->job, &tx, clock_now_us() + wait_us, STR_NULL);
	return tx_commit(&tx);
}

static bool late(struct reading *r) { return clock_now_us() > pg_time_us(&r->row, 0, "started_at") + DEADLINE_US; }

/* Put back for another try, until the deadline. */
static enum fault again(struct reading *r, struct str why, int retry_after_s)
{
	if (late(r))
		return fail(r, why);
	r->job->again_us = provider_pause_us(r->job->attempts, retry_after_s);
	return fault_raise(FAULT_IO, "%.*s", STRF(why));
}

/* What a refusal of an exchange that may be repeated means for the document. */
static enum fault told(struct reading *r, enum fault fault)
{
	struct str why = str_copy(r->job->arena, str_of(fault_note->message));
	return fault == FAULT_PROVIDER_ERROR || fault == FAULT_NOT_FOUND ? fail(r, why) : again(r, why, fault_note->retry_after_s);
}

static enum fault source_call(struct reading *r, const char *method, json_t **ret)
{
	struct str path = str_format(r->job->arena, "/api/corpora/%.*s/sources/%.*s", STRF(r->corpus_id), STRF(r->source_id));
	return voice_call(r->job->arena, &r->account, method, path.p, STR_NULL, ret);
}

/* Remembers the source; when the document was deleted meanwhile, the source goes. */
static enum fault adopt(struct reading *r, struct str source_id)
{
	struct rows kept;
	struct tx tx;
	json_t *ignored;
	r->source_id = source_id;
	TRY(tenant_begin(&tx, r->job->arena, &r->job->scope));
	TRY(docs_source(&tx, (struct docs_source){ .id = r->job->resource_id, .source_id = source_id }, &kept));
	if (kept.count)
		job_park(r->job, &tx, clock_now_us() + POLL_US, STR_NULL);
	TRY(tx_commit(&tx));
	if (kept.count)
		return OK;
	enum fault fault = source_call(r, "DELETE", &ignored);
	return fault == FAULT_NOT_FOUND ? OK : fault;
}

/* Steps one and two of the provider's upload flow; *ret_document NULL p: the document has ended. */
static enum fault send_file(struct reading *r, struct str *ret_document)
{
	struct arena *a = r->job->arena;
	struct str bytes, type = column(r, "file_type");
	json_t *upload;
	int64_t most = pg_int(&r->row, 0, "declared_bytes");
	*ret_document = STR_NULL;
	struct str from = column(r, "copy_from");
	enum fault fault = objects_get(a, from.p ? from : column(r, "object"), (size_t)most + STORE_WORDS, &bytes);
	if (fault == OK && from.p) {
		TRY(objects_put(a, column(r, "object"), type, bytes));
		struct tx tx;
		TRY(tenant_begin(&tx, a, &r->job->scope));
		docs_copied_later(&tx, (struct docs_copied){ .id = r->job->resource_id }, NULL);
		TRY(tx_commit(&tx));
	}
	if (fault == FAULT_NOT_FOUND)
		return fail(r, from.p ? STR("The exported file is gone") : STR("The file was never uploaded"));
	TRY(fault);
	struct buf b = BUF_IN(a, 4096);
	buf_text(&b, "{\"mimeType\":");
	buf_json(&b, type);
	buf_text(&b, ",\"fileName\":");
	buf_json(&b, column(r, "file_name"));
	buf_char(&b, '}');
	fault = voice_call(a, &r->account, "POST", str_format(a, "/api/corpora/%.*s/uploads", STRF(r->corpus_id)).p, buf_view(&b), &upload);
	if (fault != OK)
		return told(r, fault);
	struct fetch_header headers[] = { { "Content-Type", type } };	/* to the byte as announced, and no key */
	struct fetch f = { .method = "PUT", .url = json_text(upload, "presignedUrl"), .headers = headers, .header_count = 1, .body = bytes,
		.timeout_ms = 60000, .most_bytes = 65536 };
	fault = fetch_run(a, &f);
	f.headers = NULL;
	if (fault != OK || f.status / 100 != 2)
		return again(r, str_format(a, "The provider's upload answered %d", f.status), f.retry_after_s);
	*ret_document = json_text(upload, "documentId");
	return OK;
}

static struct str source_body(struct reading *r, struct str document)
{
	struct arena *a = r->job->arena;
	struct buf b = BUF_IN(a, 65536);
	json_t *crawl, *depth, *most;
	bool file = document.p;
	struct str name = file ? column(r, "file_name") : column(r, "url");
	buf_text(&b, "{\"name\":");
	buf_json(&b, str_format(a, "%.*s %.*s", STRF(r->job->resource_id), STRF(str_clip(name, 200))));
	if (file) {
		buf_text(&b, ",\"upload\":{\"documentIds\":[");
		buf_json(&b, document);
		buf_text(&b, "]}}");
		return buf_view(&b);
	}
	if (json_read(a, column(r, "crawl"), &crawl) != OK)
		crawl = NULL;
	depth = json_object_get(crawl, "max_depth"), most = json_object_get(crawl, "max_documents");
	buf_text(&b, ",\"crawl\":{\"startUrls\":[");
	buf_json(&b, column(r, "url"));
	buf_format(&b, "],\"maxDepth\":%lld,\"maxDocuments\":%lld}}", json_is_integer(depth) ? (long long)json_integer_value(depth) : 1,
		json_is_integer(most) ? (long long)json_integer_value(most) : 1);
	return buf_view(&b);
}

/* Step three. Made once: noted before it is sent, and after any doubt its name is looked for among the corpus's sources. */
static enum fault make_source(struct reading *r)
{
	struct arena *a = r->job->arena;
	struct str sources = str_format(a, "/api/corpora/%.*s/sources", STRF(r->corpus_id)), document = STR_NULL, found;
	struct tx tx;
	if (json_object_get(r->job->payload, "posted")) {
		enum fault fault = voice_find(a, &r->account, sources.p, false, r->job->resource_id, "sourceId", &found);
		if (fault != OK)
			return told(r, fault);
		if (found.p)
			return adopt(r, found);
	}
	if (str_is(column(r, "kind"), "file")) {
		TRY(send_file(r, &document));
		if (!document.p)
			return OK;
	}
	TRY(tenant_begin(&tx, a, &r->job->scope));
	job_note(r->job, &tx, STR("{\"posted\":true}"));
	TRY(tx_commit(&tx));
	struct voice_answer v = voice_create(a, &r->account, sources.p, source_body(r, document), "sourceId");
	struct str why = str_format(a, "Ultravox answered %d: %.*s", v.http_status, STRF(v.problem));
	if (v.verdict == VOICE_ACCEPTED)
		return adopt(r, v.id);
	return v.verdict == VOICE_REFUSED ? fail(r, why) : again(r, why, v.retry_after_s);
}

static enum fault poll(struct reading *r)
{
	json_t *source;
	enum fault fault = source_call(r, "GET", &source);
	if (fault != OK)
		return told(r, fault);
	struct str status = json_text(source, "stats.status");
	json_t *n = json_at(source, "stats.numDocs");
	if (str_is(status, "SOURCE_STATUS_READY") && json_is_integer(n) && json_integer_value(n) > 0)
		return end(r, "indexed", STR_NULL);
	if (str_is(status, "SOURCE_STATUS_READY"))
		return fail(r, STR("The provider could read nothing in it"));
	return late(r) ? fail(r, STR("The provider did not finish within 30 minutes")) : park(r, POLL_US);
}

static enum fault open(struct reading *r, bool *ret_go)
{
	struct tx tx;
	*ret_go = false;
	tenant_read(&tx, r->job->arena, &r->job->scope);
	TRY(docs_load(&tx, (struct docs_load){ .id = r->job->resource_id }, &r->row));
	if (!r->row.count || !pg_null(&r->row, 0, "kb_deleted_at"))	/* a deleted corpus takes its sources along */
		return OK;
	r->corpus_id = column(r, "ultravox_corpus_id");
	r->source_id = column(r, "ultravox_source_id");
	*ret_go = true;
	return OK;
}

static enum fault open_account(struct reading *r)
{
	return voice_account_open(r->job->arena, &r->job->scope, column(r, "mode"), column(r, "credential_id"), &r->account);
}

enum fault kb_ingest(struct job *job)
{
	struct reading r = { .job = job };
	bool go;
	TRY(open(&r, &go));
	if (!go || !pg_null(&r.row, 0, "deleted_at") || !str_is(column(&r, "status"), "processing"))
		return OK;
	if (!r.corpus_id.n)
		return late(&r) ? fail(&r, STR("The knowledge base is not at the provider")) : park(&r, CORPUS_WAIT_US);
	enum fault fault = open_account(&r);
	if (fault == FAULT_NOT_FOUND)
		return fail(&r, STR("The credential of the account it lives in is gone"));
	TRY(fault);
	return r.source_id.n ? poll(&r) : make_source(&r);
}

/* The source goes, found by name if its id was never told; then the file, and with it its room. */
enum fault kb_forget(struct job *job)
{
	struct reading r = { .job = job };
	struct str sources;
	struct tx tx;
	json_t *ignored;
	bool go;
	TRY(open(&r, &go));
	if (go && r.corpus_id.n && open_account(&r) == OK) {
		sources = str_format(job->arena, "/api/corpora/%.*s/sources", STRF(r.corpus_id));
		enum fault fault = OK;
		if (!r.source_id.n)
			fault = voice_find(job->arena, &r.account, sources.p, false, job->resource_id, "sourceId", &r.source_id);
		if (fault == OK && r.source_id.n)
			fault = source_call(&r, "DELETE", &ignored);
		if (fault != OK && fault != FAULT_NOT_FOUND)
			return fault;
	}
	if (!r.row.count || pg_null(&r.row, 0, "upload_id"))
		return OK;
	TRY(objects_delete(job->arena, column(&r, "object")));
	TRY(tenant_begin(&tx, job->arena, &job->scope));
	uploads_mark(&tx, column(&r, "upload_id"), "expired", 0);
	job_done(job, &tx);
	return tx_commit(&tx);
}
