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

#define HASHED_BYTES ((size_t)8 << 20)	/* larger bodies are signed without their digest, as S3 allows */

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

static enum fault send(struct arena *arena, const char *method, struct str object, struct str type, struct str body,
	size_t most, struct fetch *f)
{
	struct sigv4_key key = objects_key(arena);
	struct str date = sigv4_date(arena, clock_now_us() / US_PER_S), path = path_of(arena, config.s3_endpoint, object);
	struct str hash = body.n > HASHED_BYTES ? STR("UNSIGNED-PAYLOAD") : hex_write(arena, sign_sha256(arena, body.p ? body : STR("")));
	struct sigv4_header signed_headers[] = { { STR("host"), host_of(arena, config.s3_endpoint) },
		{ STR("x-amz-content-sha256"), hash }, { STR("x-amz-date"), date } };
	struct sigv4_request r = { .method = str_of(method), .path = path, .headers = signed_headers, .header_count = 3,
		.payload_hash = hash };
	struct fetch_header headers[] = { { "Authorization", sigv4_authorization(arena, &key, &r, date) },
		{ "x-amz-content-sha256", hash }, { "x-amz-date", date }, { "Content-Type", type } };
	struct buf url = BUF_IN(arena, 8192);
	buf_str(&url, origin_of(arena, config.s3_endpoint));
	url_escape(&url, path, true);
	*f = (struct fetch){ .method = method, .url = buf_view(&url), .headers = headers, .header_count = body.p ? 4 : 3,
		.body = body, .timeout_ms = 60000, .most_bytes = most };
	enum fault fault = fetch_run(arena, f);
	f->headers = NULL;
	return fault;
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
	enum fault fault = send(arena, "PUT", key, type, (struct str){ bytes, n }, 65536, &f);
	munmap(bytes, n);
	return fault == OK ? judge(&f) : fault;
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
