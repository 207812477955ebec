/* Knowledge bases: routes of bases and their documents, and the jobs that keep the provider's corpus and read documents into it. */
#ifndef TL_KNOWLEDGE_H
#define TL_KNOWLEDGE_H

#include "../../3_core/jobs.h"
#include "../../3_core/route.h"

extern const struct route knowledge_routes[], documents_routes[];
extern const struct job_kind knowledge_jobs[];

/* One that is moved here, by the shape of POST /kb; then its documents, whose files are copied from `object`. */
struct kb_new {
	struct str name, description, language;
};
enum fault kb_read(struct req *req, const json_t *object, struct kb_new *ret) MUST_CHECK;
void kb_add(struct tx *tx, struct str id, const struct kb_new *in);
struct kb_moved {
	struct str file_name, ext, object;	/* a file; or */
	struct str url, crawl;
	int64_t bytes;
};
/* 422 `url` when it may not be read. */
enum fault kb_moved_check(const struct kb_moved *document) MUST_CHECK;
void kb_add_document(struct tx *tx, struct str kb_id, const struct kb_moved *document);

enum fault kb_push(struct job *job) MUST_CHECK;
enum fault kb_ingest(struct job *job) MUST_CHECK;	/* of one document */
enum fault kb_forget(struct job *job) MUST_CHECK;	/* of a deleted document */
enum fault kb_query(struct job *job) MUST_CHECK;

/* Where in our tables; counts as JSON or NULL. */
struct str kb_event_data(struct arena *arena, struct str id, struct str corpus_id, const char *status, const char *more_name,
	struct str more_json);
/* Queues the reading of a document. Its second job looks first whether the first one left a source. */
void kb_ingest_order(struct tx *tx, struct str document_id, bool again);

#endif
