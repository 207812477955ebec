/* Presigned uploads. What must never happen here: a key that the caller chose, a URL good for more than was declared, or room
 * promised beyond the quota. */
#include "uploads.h"
#include "uploads.sql.h"
#include "../../0_base/clock.h"
#include "../../1_code/uuid.h"
#include "../../4_out/objects.h"

#define URL_S 3600
#define CLEAN_BATCH 200
#define HOUR_US (3600 * US_PER_S)
#define VOICE_FILES 10
#define VOICE_BYTES ((json_int_t)10 << 20)

struct presign_in {
	struct str files;
};

static const struct shape_field file_fields[] = {
	{ "filename", SHAPE_TEXT, SHAPE_REQUIRED, 1, 255 },
	{ "file_size", SHAPE_INT, SHAPE_REQUIRED, 1, VOICE_BYTES },
	{ "content_type", SHAPE_TEXT, .min = 1, .max = 100 },
};
static const struct shape file_shape = SHAPE("upload_file", file_fields);
static const struct shape_field presign_fields[] = {
	{ .name = "files", .type = SHAPE_LIST, .flags = SHAPE_REQUIRED, .min = 1, .max = VOICE_FILES, .sub = &file_shape,
		.doc = "wav mp3 ogg flac webm m4a, up to 10 MiB each" },
};
static const struct shape presign_shape = SHAPE("upload_presign", presign_fields);

static const struct shape_field upload_fields[] = {
	{ "upload_id", SHAPE_UUID },
	{ "doc_id", SHAPE_UUID, .doc = "the same value" },
	{ "s3_key", SHAPE_TEXT },
	{ "url", SHAPE_URL, .doc = "PUT exactly file_size bytes here within the hour" },
	{ "method", SHAPE_ENUM, .values = "PUT" },
	{ "headers", SHAPE_OBJECT, .doc = "to send with it" },
	{ "max_bytes", SHAPE_INT },
	{ "expires_at", SHAPE_TIME },
};
static const struct shape upload_shape = SHAPE("upload", upload_fields);
static const struct shape_field uploads_fields[] = {
	{ "uploads", SHAPE_LIST, .sub = &upload_shape, .doc = "in the order of the request" },
};
static const struct shape uploads_shape = SHAPE("uploads", uploads_fields);

struct file {
	struct str name, ext, type;
	int64_t bytes;
};

/* The extension, lower-cased, when the kind takes it; NULL p else. */
static struct str extension(struct arena *arena, struct str name, const char *allowed)
{
	size_t dot = name.n;
	while (dot && name.p[dot - 1] != '.')
		dot--;
	struct str ext = dot ? str_lower(arena, str_from(name, dot)) : STR_NULL, rest = str_of(allowed);
	while (ext.n && rest.n)
		if (str_eq(str_cut(&rest, ','), ext))
			return ext;
	return STR_NULL;
}

static enum fault read_file(struct req *req, const json_t *in, size_t i, const char *allowed, struct file *ret)
{
	json_t *size = json_object_get(in, "file_size"), *type = json_object_get(in, "content_type");
	const char *field = str_format(req->arena, "files[%zu]", i).p;
	*ret = (struct file){ .name = json_text(in, "filename"), .type = json_text(in, "content_type"), .bytes = json_integer_value(size) };
	if (!json_is_object(in))
		return fault_field(field, "must be an object");
	if (!ret->name.n || str_chars(ret->name) > 255)
		return fault_field(str_format(req->arena, "%s.filename", field).p, "must have 1..255 characters");
	if (!json_is_integer(size) || ret->bytes < 1 || ret->bytes > VOICE_BYTES)
		return fault_field(str_format(req->arena, "%s.file_size", field).p, "must be 1..10485760");
	if (type && !json_is_null(type) && (!ret->type.n || ret->type.n > 100))
		return fault_field(str_format(req->arena, "%s.content_type", field).p, "must have 1..100 characters");
	ret->ext = extension(req->arena, ret->name, allowed);
	return ret->ext.p ? OK : fault_field(str_format(req->arena, "%s.filename", field).p,
		str_format(req->arena, "must end in one of %s", allowed).p);
}

static void item(struct buf *b, struct req *req, const struct file *f, struct str id, struct str key)
{
	char until[CLOCK_TEXT_BYTES];
	buf_format(b, "{\"upload_id\":\"%.*s\",\"doc_id\":\"%.*s\",\"s3_key\":\"%.*s\",\"url\":", STRF(id), STRF(id), STRF(key));
	buf_json(b, objects_presign_put(req->arena, key, f->bytes, URL_S));
	buf_format(b, ",\"method\":\"PUT\",\"headers\":{\"Content-Length\":\"%lld\"", (long long)f->bytes);
	if (f->type.n) {
		buf_text(b, ",\"Content-Type\":");
		buf_json(b, f->type);
	}
	buf_format(b, "},\"max_bytes\":%lld,\"expires_at\":\"%s\"}", (long long)f->bytes, clock_text(clock_now_us() + URL_S * US_PER_S, until));
}

static enum fault presign_voices(struct req *req)
{
	struct presign_in *in = req->in;
	struct file files[VOICE_FILES];
	struct rows quota;
	json_t *list, *one;
	size_t i, n;
	struct buf b = BUF_IN(req->arena, 65536);
	TRY(req_need_client(req));
	TRY(json_read_any(req->arena, in->files, &list));
	n = json_array_size(list);
	json_array_foreach(list, i, one)
		TRY(read_file(req, one, i, "wav,mp3,ogg,flac,webm,m4a", &files[i]));
	TRY(req_begin(req));
	TRY(uploads_quota(&req->tx, (struct uploads_quota){ 0 }, &quota));
	buf_text(&b, "{\"uploads\":[");
	for (i = 0; i < n; i++) {
		struct str id = uuid_make(req->arena);
		struct str key = str_format(req->arena, "uploads/client_%.*s/voices/%.*s.%.*s", STRF(req->scope.client_id), STRF(id),
			STRF(files[i].ext));
		uploads_insert_later(&req->tx, (struct uploads_insert){ .id = id, .kind = STR("voices"), .filename = files[i].name,
			.ext = files[i].ext, .content_type = files[i].type, .bytes = files[i].bytes, .key = key }, NULL);
		if (i)
			buf_char(&b, ',');
		item(&b, req, &files[i], id, key);
	}
	buf_text(&b, "]}");
	reply_json(req, 200, buf_view(&b));
	uploads_admit_later(&req->tx, (struct uploads_admit){ .quota = pg_int(&quota, 0, "quota") }, NULL);
	return req_commit(req, false);
}

/* stale-upload-cleaner: what was never filled, or never used, within a day goes, object and room. */
static enum fault clean(struct job *job)
{
	struct rows old;
	struct tx tx;
	do {
		struct buf ids = BUF_IN(job->arena, 65536);
		system_read(&tx, job->arena);
		TRY(uploads_old(&tx, (struct uploads_old){ .most = CLEAN_BATCH }, &old));
		for (int i = 0; i < old.count; i++) {
			TRY(objects_delete(job->arena, pg_col(job->arena, &old, i, "objects")));
			buf_format(&ids, "%s%.*s", i ? "," : "", STRF(pg_col(job->arena, &old, i, "id")));
		}
		TRY(system_begin(&tx, job->arena));
		uploads_gone_later(&tx, (struct uploads_gone){ .ids = buf_view(&ids) }, NULL);
		if (old.count < CLEAN_BATCH)
			job_park(job, &tx, (clock_now_us() / HOUR_US + 1) * HOUR_US, STR_NULL);
		TRY(tx_commit(&tx));
	} while (old.count == CLEAN_BATCH);
	return OK;
}

const struct route uploads_routes[] = {
	{ "POST", API "/voices/files/presign", ROLE_W, "voices:write", presign_voices, &presign_shape, sizeof(struct presign_in),
		&uploads_shape, 200, .summary = "Get signed URLs to upload voice samples to" },
	{ 0 },
};

const struct job_kind uploads_jobs[] = {
	{ "uploads.clean", "q-artifacts-sync", clean, 1000000 },
	{ 0 },
};
