/* The S3 client. Endpoint, bucket and key come from settings; by default they are our own. */
#include "objects.h"
#include "../0_base/clock.h"
#include "../1_code/b64.h"
#include "../1_code/sign.h"
#include "../1_code/url.h"
#include "../2_io/fetch.h"
#include "../3_core/config.h"
#include "../3_core/vault.h"
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define PART_TRIES 3
#define HASHED_BYTES ((size_t)8 << 20)	/* larger bodies are signed without their digest, as S3 allows */

static size_t part_bytes(void) { return config.s3_part_bytes < 1 << 20 ? 1 << 20 : (size_t)config.s3_part_bytes; }

struct sigv4_key objects_key(struct arena *arena)
{
	struct sigv4_key key = { config.s3_access_key_id, config.s3_secret_access_key, config.s3_region };
	if (!key.id.n) {
		struct str hex = hex_write(arena, vault_key(arena, "objects"));
		key.id = str_format(arena, "TL%.18s", hex.p);
		key.secret = str_format(arena, "%.40s", hex.p + 20);
	}
	return key;
}

static struct str host_of(struct arena *arena, struct str endpoint)
{
	struct str rest = endpoint;
	str_cut(&rest, '/');
	str_cut(&rest, '/');
	return str_copy(arena, str_cut(&rest, '/'));
}

/* Path of the endpoint (for ours: /objects), bucket, key. */
static struct str path_of(struct arena *arena, struct str endpoint, struct str key)
{
	struct url url;
	struct str base = url_read(endpoint, &url) && url.path.n > 1 ? url.path : STR("");
	return str_format(arena, "%.*s/%.*s/%.*s", STRF(base), STRF(config.s3_bucket), STRF(key));
}

static struct str origin_of(struct arena *arena, struct str endpoint)
{
	struct url url;
	if (!url_read(endpoint, &url))
		return endpoint;
	return str_format(arena, "%.*s://%.*s", STRF(url.scheme), STRF(host_of(arena, endpoint)));
}

/* `query` is as S3 canonicalises it: sorted, escaped, a value for each name; NULL = none. `more` sets what else the fetch needs. */
static enum fault send_with(struct arena *arena, const char *method, struct str object, struct str query, struct str type, struct str body,
	const struct fetch *more, struct fetch *f)
{
	struct sigv4_key key = objects_key(arena);
	struct str date = sigv4_date(arena, clock_now_us() / US_PER_S), path = path_of(arena, config.s3_endpoint, object);
	struct str hash = body.n > HASHED_BYTES ? STR("UNSIGNED-PAYLOAD") : hex_write(arena, sign_sha256(arena, body.p ? body : STR("")));
	struct sigv4_header signed_headers[] = { { STR("host"), host_of(arena, config.s3_endpoint) },
		{ STR("x-amz-content-sha256"), hash }, { STR("x-amz-date"), date } };
	struct sigv4_request r = { .method = str_of(method), .path = path, .query = query, .headers = signed_headers, .header_count = 3,
		.payload_hash = hash };
	struct fetch_header headers[] = { { "Authorization", sigv4_authorization(arena, &key, &r, date) },
		{ "x-amz-content-sha256", hash }, { "x-amz-date", date }, { "Content-Type", type } };
	struct buf url = BUF_IN(arena, 8192);
	buf_str(&url, origin_of(arena, config.s3_endpoint));
	url_escape(&url, path, true);
	if (query.n)
		buf_format(&url, "?%.*s", STRF(query));
	*f = (struct fetch){ .method = method, .url = buf_view(&url), .headers = headers, .header_count = body.p ? 4 : 3,
		.body = body, .timeout_ms = more->timeout_ms ? more->timeout_ms : 60000, .most_bytes = more->most_bytes, .take = more->take,
		.context = more->context };
	enum fault fault = fetch_run(arena, f);
	f->headers = NULL;
	return fault;
}

static enum fault send(struct arena *arena, const char *method, struct str object, struct str type, struct str body, size_t most,
	struct fetch *f)
{
	struct fetch more = { .most_bytes = most };
	return send_with(arena, method, object, STR_NULL, type, body, &more, f);
}

static enum fault judge(const struct fetch *f)
{
	if (f->status >= 200 && f->status < 300)
		return OK;
	if (f->status == 404)
		return fault_raise(FAULT_NOT_FOUND, "No such object");
	return fault_raise(FAULT_UNAVAILABLE, "The object store answered %d", f->status);
}

enum fault objects_put(struct arena *arena, struct str key, struct str type, struct str bytes)
{
	struct fetch f;
	TRY(send(arena, "PUT", key, type, bytes, 65536, &f));
	return judge(&f);
}

/* The text between two marks of an XML answer. */
static struct str between(struct str xml, const char *start, const char *end)
{
	const char *from = memmem(xml.p, xml.n, start, strlen(start));
	if (!from)
		return STR_NULL;
	struct str rest = str_from(xml, (size_t)(from - xml.p) + strlen(start));
	const char *to = memmem(rest.p, rest.n, end, strlen(end));
	return to ? (struct str){ rest.p, (size_t)(to - rest.p) } : STR_NULL;
}

static enum fault one_part(struct arena *arena, struct str key, struct str upload, int number, struct str part, struct str *ret_etag)
{
	struct fetch f, more = { .most_bytes = 65536, .timeout_ms = 300000 };
	struct buf id = BUF_IN(arena, 4096);
	url_escape(&id, upload, false);
	struct str query = str_format(arena, "partNumber=%d&uploadId=%.*s", number, STRF(buf_view(&id)));
	enum fault fault = OK;
	for (int try = 0; try < PART_TRIES; try++) {	/* a part sent twice is the same part */
		fault = send_with(arena, "PUT", key, query, STR("application/octet-stream"), part, &more, &f);
		fault = fault == OK ? judge(&f) : fault;
		if (fault == OK || fault == FAULT_NOT_FOUND)
			break;
	}
	*ret_etag = f.etag;
	return fault;
}

/* A multipart upload (Amazon S3 API: CreateMultipartUpload, UploadPart, CompleteMultipartUpload); what fails is aborted. */
static enum fault put_parts(struct arena *arena, struct str key, struct str type, struct str whole)
{
	struct fetch f, more = { .most_bytes = 1 << 20, .timeout_ms = 300000 };
	struct buf list = BUF_IN(arena, 2 << 20), id = BUF_IN(arena, 4096);
	TRY(send_with(arena, "POST", key, STR("uploads="), type, STR(""), &more, &f));
	TRY(judge(&f));
	struct str upload = str_copy(arena, between(f.answer, "<UploadId>", "</UploadId>")), etag;
	if (!upload.n)
		return fault_raise(FAULT_UNAVAILABLE, "The object store began no upload");
	enum fault fault = OK;
	buf_text(&list, "<CompleteMultipartUpload>");
	for (int n = 1; fault == OK && whole.n; n++) {
		struct str part = { whole.p, whole.n < part_bytes() ? whole.n : part_bytes() };
		whole = str_from(whole, part.n);
		fault = one_part(arena, key, upload, n, part, &etag);
		if (fault == OK)
			buf_format(&list, "<Part><PartNumber>%d</PartNumber><ETag>%.*s</ETag></Part>", n, STRF(etag));
	}
	buf_text(&list, "</CompleteMultipartUpload>");
	url_escape(&id, upload, false);
	struct str query = str_format(arena, "uploadId=%.*s", STRF(buf_view(&id)));
	if (fault == OK)
		fault = send_with(arena, "POST", key, query, STR("application/xml"), buf_view(&list), &more, &f);
	if (fault == OK)
		fault = judge(&f);
	if (fault == OK && memmem(f.answer.p, f.answer.n, "<Error>", 7))	/* S3 may find out only after it has said 200 */
		fault = fault_raise(FAULT_UNAVAILABLE, "The object store did not complete the upload");
	if (fault == OK)
		return OK;
	struct fault_note keep = *fault_note;
	enum fault ignored = send_with(arena, "DELETE", key, query, STR_NULL, STR_NULL, &more, &f);
	(void)ignored;
	*fault_note = keep;
	return fault;
}

enum fault objects_get_to(struct arena *arena, struct str key, int64_t most, enum fault (*take)(void *context, struct str part),
	void *context)
{
	struct fetch f, more = { .most_bytes = (size_t)most, .timeout_ms = 600000, .take = take, .context = context };
	TRY(send_with(arena, "GET", key, STR_NULL, STR_NULL, STR_NULL, &more, &f));
	return judge(&f);
}

enum fault objects_put_file(struct arena *arena, struct str key, struct str type, const char *path)
{
	struct stat stat;
	struct fetch f;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &stat) != 0 || stat.st_size == 0) {
		if (fd >= 0)
			close(fd);
		return fault_raise(FAULT_IO, "The file cannot be read");
	}
	size_t n = (size_t)stat.st_size;
	void *bytes = mmap(NULL, n, PROT_READ, MAP_PRIVATE, fd, 0);
	close(fd);
	if (bytes == MAP_FAILED)
		return fault_raise(FAULT_IO, "The file cannot be mapped");
	struct str whole = { bytes, n };
	enum fault fault = n > part_bytes() ? put_parts(arena, key, type, whole) : send(arena, "PUT", key, type, whole, 65536, &f);
	if (fault == OK && n <= part_bytes())
		fault = judge(&f);
	munmap(bytes, n);
	return fault;
}

enum fault objects_get(struct arena *arena, struct str key, size_t most, struct str *ret_bytes)
{
	struct fetch f;
	TRY(send(arena, "GET", key, STR_NULL, STR_NULL, most, &f));
	*ret_bytes = f.answer;
	return judge(&f);
}

enum fault objects_head(struct arena *arena, struct str key, int64_t *ret_bytes)
{
	struct fetch f;
	TRY(send(arena, "HEAD", key, STR_NULL, STR_NULL, 65536, &f));
	*ret_bytes = f.answer_bytes;
	return judge(&f);
}

enum fault objects_delete(struct arena *arena, struct str key)
{
	struct fetch f;
	TRY(send(arena, "DELETE", key, STR_NULL, STR_NULL, 65536, &f));
	return f.status == 404 ? OK : judge(&f);
}

static struct str presign(struct arena *arena, const char *method, struct str object, const struct sigv4_header *headers, size_t n,
	int ttl_s)
{
	struct sigv4_key key = objects_key(arena);
	bool own = str_starts(config.s3_endpoint, "http://127.0.0.1:") || str_starts(config.s3_endpoint, "https://127.0.0.1:");
	struct str endpoint = own ? str_format(arena, "%.*s/objects", STRF(config.public_url)) : config.s3_endpoint;
	struct sigv4_request r = { .method = str_of(method), .host = host_of(arena, endpoint), .headers = headers, .header_count = n,
		.path = path_of(arena, endpoint, object), .payload_hash = STR("UNSIGNED-PAYLOAD") };
	struct buf url = BUF_IN(arena, 16384);
	buf_str(&url, origin_of(arena, endpoint));
	url_escape(&url, r.path, true);
	buf_char(&url, '?');
	buf_str(&url, sigv4_presign(arena, &key, &r, clock_now_us() / US_PER_S, ttl_s));
	return buf_view(&url);
}

struct str objects_presign(struct arena *arena, const char *method, struct str object, int ttl_s)
{
	return presign(arena, method, object, NULL, 0, ttl_s);
}

struct str objects_presign_put(struct arena *arena, struct str object, int64_t bytes, int ttl_s)
{
	struct sigv4_header length = { STR("content-length"), str_format(arena, "%lld", (long long)bytes) };
	return presign(arena, "PUT", object, &length, 1, ttl_s);
}
