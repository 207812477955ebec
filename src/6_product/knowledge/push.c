/* The provider's corpus of a knowledge base. Lists of corpora cannot be searched, so a doubt reads all pages. */
#include "knowledge.h"
#include "knowledge.sql.h"
#include "../../3_core/events.h"
#include "../../4_out/copy.h"

struct str kb_event_data(struct arena *arena, struct str id, struct str corpus_id, const char *status, const char *more_name,
	struct str more)
{
	struct buf b = BUF_IN(arena, 65536);
	buf_format(&b, "{\"knowledge_base_id\":\"%.*s\",\"ultravox_corpus_id\":", STRF(id));
	buf_json(&b, corpus_id);
	buf_format(&b, ",\"status\":\"%s\"", status);
	if (more_name)
		buf_format(&b, ",\"%s\":%.*s", more_name, STRF(more));
	buf_char(&b, '}');
	return buf_view(&b);
}

static enum fault body(struct copy *c, bool fresh, struct str *ret)
{
	struct arena *a = c->job->arena;
	struct buf b = BUF_IN(a, 65536);
	struct str about = pg_col(a, &c->row, 0, "description");
	(void)fresh;
	buf_text(&b, "{\"name\":");
	buf_json(&b, copy_name(c, pg_col(a, &c->row, 0, "name")));
	buf_text(&b, ",\"description\":");
	buf_json(&b, about.p ? about : STR(""));
	buf_char(&b, '}');
	*ret = buf_view(&b);
	return OK;
}

static enum fault load(struct tx *tx, struct str id, struct rows *ret) { return kb_load(tx, (struct kb_load){ .id = id }, ret); }

static void pushed(struct copy *c, struct tx *tx)
{
	struct str id = c->job->resource_id, old = pg_col(c->job->arena, &c->row, 0, "provider_id");
	kb_pushed_later(tx, (struct kb_pushed){ .id = id, .provider_id = c->provider_id, .credential_id = c->account.credential_id,
		.revision = c->revision }, NULL);
	if (old.p && !str_eq(old, c->provider_id)) {
		kb_refill_later(tx, (struct kb_refill){ .id = id }, NULL);
		tx->wakes_jobs = true;
	}
}

static void failed(struct copy *c, struct tx *tx, struct str why)
{
	kb_push_failed_later(tx, (struct kb_push_failed){ .id = c->job->resource_id, .error = why }, NULL);
}

static const struct copy_kind corpus_copy = { .path = "/api/corpora", .id_field = "corpusId", .change = "PATCH", .name_most = 200,
	.load = load, .body = body, .pushed = pushed, .failed = failed };

enum fault kb_push(struct job *job) { return copy_push(job, &corpus_copy); }

/* Results with the documents they come from. */
static struct str results_json(struct job *job, const json_t *found, const struct rows *docs)
{
	struct buf b = BUF_IN(job->arena, 4 << 20);
	json_t *one;
	size_t i;
	buf_text(&b, "{\"results\":[");
	json_array_foreach(found, i, one) {
		json_t *score = json_object_get(one, "score");
		struct str source = json_text(one, "citation.sourceId"), page = json_text(one, "citation.publicUrl");
		int row = -1;
		for (int k = 0; k < docs->count; k++)
			if (source.n && str_eq(pg_col(job->arena, docs, k, "ultravox_source_id"), source))
				row = k;
		buf_text(&b, i ? ",{\"content\":" : "{\"content\":");
		buf_json(&b, json_text(one, "content"));
		buf_format(&b, ",\"score\":%.6f,\"doc_id\":", json_number_value(score));
		buf_json(&b, row < 0 ? STR_NULL : pg_col(job->arena, docs, row, "id"));
		buf_text(&b, ",\"file_name\":");
		buf_json(&b, row < 0 ? STR_NULL : pg_col(job->arena, docs, row, "file_name"));
		buf_text(&b, ",\"url\":");
		buf_json(&b, page.n ? page : row < 0 ? STR_NULL : pg_col(job->arena, docs, row, "url"));
		buf_char(&b, '}');
	}
	buf_text(&b, "]}");
	return buf_view(&b);
}

/* A question to the corpus. Asked again by whoever waits, not by the engine. */
enum fault kb_query(struct job *job)
{
	struct arena *a = job->arena;
	struct voice_account account;
	struct rows kb, docs;
	struct tx tx;
	json_t *found;
	tenant_read(&tx, a, &job->scope);
	TRY(kb_load(&tx, (struct kb_load){ .id = job->resource_id }, &kb));
	TRY(docs_by_source(&tx, (struct docs_by_source){ .kb = job->resource_id }, &docs));
	if (!kb.count || job->attempts > 1)
		return OK;
	TRY(voice_account_open(a, &job->scope, pg_col(a, &kb, 0, "mode"), pg_col(a, &kb, 0, "credential_id"), &account));
	struct str path = str_format(a, "/api/corpora/%.*s/query", STRF(pg_col(a, &kb, 0, "provider_id")));
	enum fault fault = voice_call(a, &account, "POST", path.p, json_dump(a, job->payload), &found);
	if (fault == OK && json_is_array(found)) {
		job->answer = results_json(job, found, &docs);
		return OK;
	}
	struct buf b = BUF_IN(a, 4096);
	buf_text(&b, "{\"problem\":");
	buf_json(&b, fault == OK ? STR("The answer could not be read") : str_of(fault_note->message));
	buf_char(&b, '}');
	job->answer = buf_view(&b);
	return OK;
}
