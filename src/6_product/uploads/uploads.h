/* Uploads: a row, and a signed URL that puts exactly the declared bytes at a key of our own making. */
#ifndef TL_UPLOADS_H
#define TL_UPLOADS_H

#include "../../3_core/jobs.h"
#include "../../3_core/route.h"

extern const struct route uploads_routes[];
extern const struct job_kind uploads_jobs[];

/* What a kind of upload takes. */
struct upload_rule {
	const char *kind, *extensions;	/* voices, kb, campaigns; comma list */
	size_t most_files;
	int64_t most_bytes;
};
#define UPLOAD_FILES_MOST 50

struct upload_file {
	struct str id, key;		/* made by us */
	struct str name, ext, type;
	int64_t bytes;
};

extern const struct shape uploads_shape;

/* Reads and judges the list `files` of a request: 422 naming the item. */
enum fault uploads_read(struct req *req, struct str files, const struct upload_rule *rule, struct upload_file *ret_files,
	size_t *ret_n) MUST_CHECK;
/* In req->tx: the rows, and the quota among its last statements; the answer's items as a JSON array. */
enum fault uploads_put(struct req *req, const struct upload_rule *rule, struct str parent_id, const struct upload_file *files, size_t n,
	struct str *ret_items) MUST_CHECK;
void uploads_admit_last(struct req *req);
/* A file that we put there ourselves: its row, already used. */
void uploads_move(struct tx *tx, const char *kind, struct str parent_id, struct str id, struct str name, struct str ext, int64_t bytes);

/* A file that was issued to this client for this kind and parent, named by its id or key; NOT_FOUND else, whatever the spelling. */
struct upload_row {
	struct str id, key, ext, status;
	int64_t declared_bytes;
};
enum fault uploads_find(struct tx *tx, const char *kind, struct str parent_id, struct str id_or_key, struct upload_row *ret) MUST_CHECK;
void uploads_mark(struct tx *tx, struct str id, const char *status, int64_t bytes);	/* queued; bytes 0 = as they are */
/* By extension; what providers are told (IANA media types). */
const char *uploads_type(struct str ext);

#endif
