/* Inside the embedded object store. */
#ifndef TL_STORE_H
#define TL_STORE_H

#include "operations.h"

/* Checks the signature and turns the path into a file; false when it has answered. */
bool store_admit(struct req *req, struct str *ret_file, struct str *ret_hash);
/* Answers with an S3 error. */
enum fault store_refuse(struct req *req, int status, const char *code);
/* The body into `file`, whole or not at all. *ret_hex: its SHA-256; NULL when it was refused and answered. */
enum fault store_write(struct req *req, struct str file, struct str hash, struct str *ret_hex) MUST_CHECK;

/* Multipart uploads (S3 API: CreateMultipartUpload, UploadPart, CompleteMultipartUpload, AbortMultipartUpload). */
enum fault multipart_begin(struct req *req, struct str file) MUST_CHECK;
enum fault multipart_put(struct req *req, struct str file, struct str hash, struct str upload_id) MUST_CHECK;
enum fault multipart_complete(struct req *req, struct str file, struct str upload_id) MUST_CHECK;
enum fault multipart_abort(struct req *req, struct str file, struct str upload_id) MUST_CHECK;

/* Uploads in parts that nobody has completed for a day. */
enum fault multipart_sweep(struct arena *arena) MUST_CHECK;

#endif
