/* Large objects in parts. The parts lie in a folder of the upload beside the bucket, with the object's path in it, so that a
 * part is good for its own key alone; completing writes them behind one another and renames. */
#include "store.h"
#include "../../0_base/clock.h"
#include "../../1_code/sign.h"
#include "../../1_code/b64.h"
#include "../../1_code/url.h"
#include "../../1_code/uuid.h"
#include "../../2_io/file.h"
#include "../../3_core/config.h"
#include <fcntl.h>

#define MOST_PARTS 10000
#define LIST_BYTES ((size_t)1 << 20)

static struct str folder_of(struct req *req, struct str upload_id)
{
	return str_format(req->arena, "%.*s/objects/.multipart/%.*s", STRF(config.data), STRF(upload_id));
}

static struct str part_of(struct req *req, struct str folder, int64_t number)
{
	return str_format(req->arena, "%.*s/%05lld", STRF(folder), (long long)number);
}

/* Of which object? A digest of its path is the name of an empty file in the folder. */
static struct str mark_of(struct req *req, struct str folder, struct str file)
{
	return str_format(req->arena, "%.*s/for-%.*s", STRF(folder), STRF(hex_write(req->arena, sign_sha256(req->arena, file))));
}

static bool known(struct req *req, struct str file, struct str upload_id)
{
	int fd;
	if (!uuid_valid(upload_id) || file_open(mark_of(req, folder_of(req, upload_id), file).p, O_RDONLY, &fd) != OK)
		return false;
	file_close(fd);
	return true;
}

static enum fault answer(struct req *req, const char *name, struct str inside)
{
	http_reply(req->http, 200, "application/xml", str_format(req->arena, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>"
		"<%s xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">%.*s</%s>", name, STRF(inside), name));
	return OK;
}

/* Bucket and key as XML, from the request's own path. */
static struct str place(struct req *req)
{
	struct str path, bucket;
	if (!url_unescape(req->arena, req->http->path, false, &path))
		return STR("");
	path = str_from(path, strlen("/objects/"));
	bucket = str_cut(&path, '/');
	struct buf b = BUF_IN(req->arena, 8192);
	buf_format(&b, "<Bucket>%.*s</Bucket><Key>", STRF(bucket));
	for (size_t i = 0; i < path.n; i++)
		if (path.p[i] == '&' || path.p[i] == '<' || path.p[i] == '>')
			buf_format(&b, "&#%d;", path.p[i]);
		else
			buf_char(&b, path.p[i]);
	buf_text(&b, "</Key>");
	return buf_view(&b);
}

enum fault multipart_begin(struct req *req, struct str file)
{
	struct str id = uuid_make(req->arena), mark = mark_of(req, folder_of(req, id), file), q = req->http->query;
	int fd;
	if (!str_starts(q, "uploads"))
		return store_refuse(req, 400, "InvalidRequest");
	TRY(file_make_folders(req->arena, mark.p));
	TRY(file_open(mark.p, O_WRONLY | O_CREAT | O_EXCL, &fd));
	file_close(fd);
	return answer(req, "InitiateMultipartUploadResult",
		str_format(req->arena, "%.*s<UploadId>%.*s</UploadId>", STRF(place(req)), STRF(id)));
}

enum fault multipart_put(struct req *req, struct str file, struct str hash, struct str upload_id)
{
	struct str hex;
	int64_t number;
	if (!known(req, file, upload_id))
		return store_refuse(req, 404, "NoSuchUpload");
	if (!str_int(url_query(req->arena, req->http->query, "partNumber"), &number) || number < 1 || number > MOST_PARTS)
		return store_refuse(req, 400, "InvalidArgument");
	TRY(store_write(req, part_of(req, folder_of(req, upload_id), number), hash, &hex));
	if (!hex.p)
		return OK;
	http_reply_header(req->http, "ETag", str_format(req->arena, "\"%.32s\"", hex.p));
	http_reply(req->http, 200, NULL, STR(""));
	return OK;
}

/* The parts the body names, in order, into one file; the S3 error word, or NULL. */
static enum fault join(struct req *req, struct str list, struct str folder, int fd, int *ret_count, const char **ret_problem)
{
	int64_t last = 0, number, bytes;
	*ret_count = 0;
	*ret_problem = NULL;
	for (const char *at = list.p; (at = strstr(at, "<PartNumber>")); (*ret_count)++) {
		struct str rest = str_of(at + strlen("<PartNumber>"));
		if (!str_int(str_trim(str_cut(&rest, '<')), &number) || number <= last || number > MOST_PARTS) {
			*ret_problem = "InvalidPartOrder";
			return OK;
		}
		enum fault fault = file_append(fd, part_of(req, folder, number).p, &bytes);
		if (fault == FAULT_NOT_FOUND) {
			*ret_problem = "InvalidPart";
			return OK;
		}
		TRY(fault);
		last = number;
		at = rest.p;
	}
	if (!*ret_count)
		*ret_problem = "MalformedXML";
	return OK;
}

enum fault multipart_complete(struct req *req, struct str file, struct str upload_id)
{
	struct str list, folder = folder_of(req, upload_id);
	const char *problem;
	int fd, parts;
	if (!known(req, file, upload_id))
		return store_refuse(req, 404, "NoSuchUpload");
	TRY(http_read_body(req->http, LIST_BYTES, &list));
	list = str_copy(req->arena, list);
	struct str whole = str_format(req->arena, "%.*s.part-%.*s", STRF(file), STRF(upload_id));
	TRY(file_make_folders(req->arena, file.p));
	TRY(file_open(whole.p, O_WRONLY | O_CREAT | O_TRUNC, &fd));
	enum fault fault = join(req, list, folder, fd, &parts, &problem);
	if (fault == OK)
		fault = file_sync(fd);
	file_close(fd);
	if (fault == OK && !problem)
		fault = file_rename(whole.p, file.p);
	if (fault != OK || problem) {
		struct fault_note keep = *fault_note;
		enum fault ignored = file_remove(whole.p);
		(void)ignored;
		*fault_note = keep;
	}
	TRY(fault);
	if (problem)
		return store_refuse(req, 400, problem);
	TRY(file_remove_folder(folder.p));
	return answer(req, "CompleteMultipartUploadResult", str_format(req->arena, "%.*s<ETag>&quot;%.32s-%d&quot;</ETag>",
		STRF(place(req)), hex_write(req->arena, sign_sha256(req->arena, list)).p, parts));
}

enum fault multipart_abort(struct req *req, struct str file, struct str upload_id)
{
	if (!known(req, file, upload_id))
		return store_refuse(req, 404, "NoSuchUpload");
	TRY(file_remove_folder(folder_of(req, upload_id).p));
	http_reply(req->http, 204, NULL, STR(""));
	return OK;
}

/* An upload's id tells when it began (RFC 9562: the first 48 bits of a version 7 UUID are milliseconds). */
enum fault multipart_sweep(struct arena *arena)
{
	struct str folder = str_format(arena, "%.*s/objects/.multipart", STRF(config.data)), names, raw;
	TRY(file_list(arena, folder.p, &names));
	while (names.n) {
		struct str id = str_cut(&names, '\n'), digits = str_format(arena, "%.8s%.4s", id.p, id.p + 9);
		int64_t began_ms = 0;
		if (!uuid_valid(id) || !hex_read(arena, digits, &raw))
			continue;
		for (size_t i = 0; i < raw.n; i++)
			began_ms = began_ms << 8 | (unsigned char)raw.p[i];
		if (began_ms * US_PER_MS < clock_now_us() - 86400 * US_PER_S)
			TRY(file_remove_folder(str_format(arena, "%.*s/%.*s", STRF(folder), STRF(id)).p));
	}
	return OK;
}
