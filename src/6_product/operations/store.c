/* The embedded object store: a folder behind S3's path-style GET, HEAD, PUT, POST (multipart) and DELETE, by SigV4 alone.
 * A PUT is written beside its place and renamed when it is whole, so a crash leaves nothing half. */
#include "store.h"
#include "../../0_base/clock.h"
#include "../../1_code/b64.h"
#include "../../1_code/sign.h"
#include "../../1_code/url.h"
#include "../../1_code/uuid.h"
#include "../../2_io/file.h"
#include "../../3_core/config.h"
#include "../../4_out/objects.h"
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <time.h>

#define OBJECT_BYTES ((int64_t)512 << 20)

enum fault store_refuse(struct req *req, int status, const char *code)
{
	http_reply(req->http, status, "application/xml", str_format(req->arena,
		"<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>%s</Code><Message>%s</Message><RequestId>%.*s</RequestId></Error>",
		code, code, STRF(req->request_id)));
	return OK;
}

/* Checks the signature and turns the path into a file; false when it has answered. */
bool store_admit(struct req *req, struct str *ret_file, struct str *ret_hash)
{
	struct http_request *h = req->http;
	struct sigv4_header headers[64];
	size_t n = 0;
	struct str path;
	for (struct http_header *x = h->headers; x && n < 64; x = x->next)
		headers[n++] = (struct sigv4_header){ x->name, x->value };
	if (!url_unescape(req->arena, h->path, false, &path)) {
		store_refuse(req, 400, "InvalidURI");
		return false;
	}
	struct str hash = http_header(h, "x-amz-content-sha256"), rest = str_from(path, strlen("/objects/"));
	struct sigv4_request r = { .method = h->method, .host = http_header(h, "host"), .path = path, .query = h->query,
		.headers = headers, .header_count = n, .payload_hash = hash.n && http_header(h, "authorization").p ? hash
			: STR("UNSIGNED-PAYLOAD") };
	struct sigv4_key key = objects_key(req->arena);
	const char *problem = sigv4_check(req->arena, &key, &r, clock_now_us() / US_PER_S);
	if (problem) {
		store_refuse(req, 403, problem);
		return false;
	}
	struct str bucket = str_cut(&rest, '/');
	bool plain = rest.n && rest.n <= 900 && rest.p[0] != '/' && str_eq(bucket, config.s3_bucket);
	for (size_t i = 0; plain && i < rest.n; i++)
		plain = (unsigned char)rest.p[i] >= 0x20 && (rest.p[i] != '.' || i + 1 >= rest.n || rest.p[i + 1] != '.');
	if (!plain) {
		store_refuse(req, 404, str_eq(bucket, config.s3_bucket) ? "NoSuchKey" : "NoSuchBucket");
		return false;
	}
	*ret_file = str_format(req->arena, "%.*s/objects/%.*s/%.*s", STRF(config.data), STRF(bucket), STRF(rest));
	*ret_hash = r.payload_hash;
	return true;
}

static enum fault get(struct req *req)
{
	struct str file, hash, range = http_header(req->http, "range");
	struct file_stat stat;
	char date[64];
	int fd;
	int64_t first = 0, last;
	if (!store_admit(req, &file, &hash))
		return OK;
	enum fault fault = file_open(file.p, O_RDONLY, &fd);
	if (fault == FAULT_NOT_FOUND)
		return store_refuse(req, 404, "NoSuchKey");
	TRY(fault);
	TRY(file_size(fd, &stat));
	last = stat.size - 1;
	int status = 200;
	if (str_starts(range, "bytes=") && !memchr(range.p, ',', range.n)) {
		struct str to = str_from(range, 6), from = str_cut(&to, '-');
		if (!from.n && str_int(to, &last)) {	/* the last n bytes */
			first = stat.size > last ? stat.size - last : 0;
			last = stat.size - 1;
		} else if (!str_int(from, &first) || (to.n && !str_int(to, &last))) {
			first = stat.size;
		}
		last = last >= stat.size ? stat.size - 1 : last;
		status = 206;
		if (first > last || first < 0) {
			file_close(fd);
			http_reply_header(req->http, "Content-Range", str_format(req->arena, "bytes */%lld", (long long)stat.size));
			return store_refuse(req, 416, "InvalidRange");
		}
		http_reply_header(req->http, "Content-Range", str_format(req->arena, "bytes %lld-%lld/%lld", (long long)first,
			(long long)last, (long long)stat.size));
	}
	time_t at = stat.modified_us / US_PER_S;
	struct tm tm;
	strftime(date, sizeof date, "%a, %d %b %Y %H:%M:%S GMT", gmtime_r(&at, &tm));
	http_reply_header(req->http, "Last-Modified", str_of(date));
	http_reply_header(req->http, "Accept-Ranges", STR("bytes"));
	http_reply_header(req->http, "ETag", str_format(req->arena, "\"%llx-%llx\"", (long long)stat.size, (long long)stat.modified_us));
	http_reply(req->http, status, str_ends(file, ".wav") ? "audio/wav" : str_ends(file, ".mp3") ? "audio/mpeg"
		: str_ends(file, ".json") ? "application/json" : "application/octet-stream", STR(""));
	req->http->reply_fd = fd;
	req->http->reply_offset = first;
	req->http->reply_length = last - first + 1;
	return OK;
}

/* Streams to disk, hashing as it goes. */
static enum fault receive(struct req *req, int fd, struct str *ret_hex, int64_t *ret_bytes)
{
	struct str part;
	unsigned char digest[32];
	EVP_MD_CTX *md = EVP_MD_CTX_new();
	enum fault fault = OK;
	EVP_DigestInit_ex(md, EVP_sha256(), NULL);
	*ret_bytes = 0;
	do {
		fault = http_read_part(req->http, &part);
		if (fault != OK || !part.n)
			break;
		struct arena *scratch = arena_make();	/* the part is only lent until the next wait */
		struct str copy = str_copy(scratch, part);
		EVP_DigestUpdate(md, copy.p, copy.n);
		*ret_bytes += (int64_t)copy.n;
		fault = *ret_bytes > OBJECT_BYTES ? fault_raise(FAULT_PAYLOAD_TOO_LARGE, "The object is too large") : file_write(fd, copy);
		arena_drop(scratch);
	} while (fault == OK);
	EVP_DigestFinal_ex(md, digest, NULL);
	EVP_MD_CTX_free(md);
	*ret_hex = hex_write(req->arena, (struct str){ (char *)digest, sizeof digest });
	return fault;
}

/* The body into `file`, written beside it and renamed when it is whole. Answers refusals itself: *ret_hex NULL then. */
enum fault store_write(struct req *req, struct str file, struct str hash, struct str *ret_hex)
{
	struct str hex;
	int64_t bytes;
	int fd;
	struct str own = uuid_make(req->arena), part = str_format(req->arena, "%.*s.part-%.*s", STRF(file), STRF(own));
	*ret_hex = STR_NULL;
	TRY(file_make_folders(req->arena, file.p));
	TRY(file_open(part.p, O_WRONLY | O_CREAT | O_EXCL, &fd));
	enum fault fault = receive(req, fd, &hex, &bytes);
	if (fault == OK)
		fault = file_sync(fd);
	file_close(fd);
	const char *problem = hash.n == 64 && !str_eq(hash, hex) ? "XAmzContentSHA256Mismatch"
		: req->http->body_bytes >= 0 && bytes != req->http->body_bytes ? "IncompleteBody" : NULL;
	if (fault == OK && !problem)
		fault = file_rename(part.p, file.p);
	if (fault != OK || problem) {
		struct fault_note keep = *fault_note;
		enum fault ignored = file_remove(part.p);
		(void)ignored;
		*fault_note = keep;
	}
	TRY(fault);
	if (problem)
		return store_refuse(req, 400, problem);
	*ret_hex = hex;
	return OK;
}

static enum fault put(struct req *req)
{
	struct str file, hash, hex;
	if (req->http->body_bytes > OBJECT_BYTES)
		return store_refuse(req, 413, "EntityTooLarge");
	if (!store_admit(req, &file, &hash))
		return OK;
	if (str_starts(hash, "STREAMING-"))
		return store_refuse(req, 501, "NotImplemented");
	struct str upload = url_query(req->arena, req->http->query, "uploadId");
	if (upload.p)
		return multipart_put(req, file, hash, upload);
	TRY(store_write(req, file, hash, &hex));
	if (!hex.p)
		return OK;
	http_reply_header(req->http, "ETag", str_format(req->arena, "\"%.32s\"", hex.p));
	http_reply(req->http, 200, NULL, STR(""));
	return OK;
}

static enum fault post(struct req *req)
{
	struct str file, hash, upload = url_query(req->arena, req->http->query, "uploadId");
	if (!store_admit(req, &file, &hash))
		return OK;
	return upload.p ? multipart_complete(req, file, upload) : multipart_begin(req, file);
}

static enum fault delete(struct req *req)
{
	struct str file, hash;
	if (!store_admit(req, &file, &hash))
		return OK;
	struct str upload = url_query(req->arena, req->http->query, "uploadId");
	if (upload.p)
		return multipart_abort(req, file, upload);
	TRY(file_remove(file.p));
	http_reply(req->http, 204, NULL, STR(""));
	return OK;
}

#define STORE(method, run) { method, "/objects/{rest}", .handle = run, .status = 200, \
	.flags = ROUTE_OPEN | ROUTE_RAW | ROUTE_FREE, .summary = "Embedded object store (S3, SigV4)" }
const struct route store_routes[] = { STORE("GET", get), STORE("HEAD", get), STORE("PUT", put), STORE("POST", post),
	STORE("DELETE", delete), { 0 } };
