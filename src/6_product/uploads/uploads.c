/* Presigned uploads. What must never happen here: a key that the caller chose, a URL good for more than was declared, or room
 * promised beyond the quota. */
#include "uploads.h"
#include "uploads.sql.h"
#include "../../0_base/clock.h"
#include "../../0_base/die.h"
#include "../../1_code/uuid.h"
#include "../../4_out/objects.h"

#define URL_S 3600
#define CLEAN_BATCH 200
#define HOUR_US (3600 * US_PER_S)

static const struct upload_rule voices_rule = { "voices", "wav,mp3,ogg,flac,webm,m4a", 10, (int64_t)10 << 20 };

struct presign_in {
	struct str files;
};

static const struct shape_field file_fields[] = {
	{ "filename", SHAPE_TEXT, SHAPE_REQUIRED, 1, 255 },
	{ "file_size", SHAPE_INT, SHAPE_REQUIRED, 1, 10 << 20 },
	{ "content_type", SHAPE_TEXT, .min = 1, .max = 100 },
};
static const struct shape file_shape = SHAPE("upload_file", file_fields);
static const struct shape_field presign_fields[] = {
	{ .name = "files", .type = SHAPE_LIST, .flags = SHAPE_REQUIRED, .min = 1, .max = 10, .sub = &file_shape,
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
const struct shape uploads_shape = SHAPE("uploads", uploads_fields);

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

static enum fault read_file(struct req *req, const json_t *in, const char *field, const struct upload_rule *rule, struct upload_file *ret)
{
	struct arena *a = req->arena;
	json_t *size = json_object_get(in, "file_size"), *type = json_object_get(in, "content_type");
	*ret = (struct upload_file){ .name = json_text(in, "filename"), .type = json_text(in, "content_type"),
		.bytes = json_integer_value(size) };
	if (!json_is_object(in))
		return fault_field(field, "must be an object");
	if (!ret->name.n || str_chars(ret->name) > 255)
		return fault_field(str_format(a, "%s.filename", field).p, "must have 1..255 characters");
	if (!json_is_integer(size) || ret->bytes < 1 || ret->bytes > rule->most_bytes)
		return fault_field(str_format(a, "%s.file_size", field).p, str_format(a, "must be 1..%lld", (long long)rule->most_bytes).p);
	if (type && !json_is_null(type) && (!ret->type.n || ret->type.n > 100))
		return fault_field(str_format(a, "%s.content_type", field).p, "must have 1..100 characters");
	ret->ext = extension(a, ret->name, rule->extensions);
	if (!ret->ext.p)
		return fault_field(str_format(a, "%s.filename", field).p, str_format(a, "must end in one of %s", rule->extensions).p);
	ret->id = uuid_make(a);
	ret->key = str_format(a, "uploads/client_%.*s/%s/%.*s.%.*s", STRF(req->scope.client_id), rule->kind, STRF(ret->id), STRF(ret->ext));
	return OK;
}

enum fault uploads_read(struct req *req, struct str files, const struct upload_rule *rule, struct upload_file *ret, size_t *ret_n)
{
	json_t *list, *one;
	size_t i;
	TRY(json_read_any(req->arena, files, &list));
	bug_unless(json_array_size(list) <= rule->most_files);	/* the shape has counted */
	*ret_n = json_array_size(list);
	json_array_foreach(list, i, one)
		TRY(read_file(req, one, str_format(req->arena, "files[%zu]", i).p, rule, &ret[i]));
	return OK;
}

static void item(struct buf *b, struct req *req, const struct upload_file *f)
{
	char until[CLOCK_TEXT_BYTES];
	buf_format(b, "{\"upload_id\":\"%.*s\",\"doc_id\":\"%.*s\",\"s3_key\":\"%.*s\",\"url\":", STRF(f->id), STRF(f->id), STRF(f->key));
	buf_json(b, objects_presign_put(req->arena, f->key, f->bytes, URL_S));
	buf_format(b, ",\"method\":\"PUT\",\"headers\":{\"Content-Length\":\"%lld\"", (long long)f->bytes);
	if (f->type.n) {
		buf_text(b, ",\"Content-Type\":");
		buf_json(b, f->type);
	}
	buf_format(b, "},\"max_bytes\":%lld,\"expires_at\":\"%s\"}", (long long)f->bytes, clock_text(clock_now_us() + URL_S * US_PER_S, until));
}

enum fault uploads_put(struct req *req, const struct upload_rule *rule, struct str parent_id, const struct upload_file *files, size_t n,
	struct str *ret_items)
{
	struct buf b = BUF_IN(req->arena, 256 << 10);
	buf_char(&b, '[');
	for (size_t i = 0; i < n; i++) {
		const struct upload_file *f = &files[i];
		uploads_insert_later(&req->tx, (struct uploads_insert){ .id = f->id, .kind = str_of(rule->kind), .parent_id = parent_id,
			.filename = f->name, .ext = f->ext, .content_type = f->type, .bytes = f->bytes, .key = f->key }, NULL);
		if (i)
			buf_char(&b, ',');
		item(&b, req, f);
	}
	buf_char(&b, ']');
	*ret_items = buf_view(&b);
	return OK;
}

void uploads_admit_last(struct req *req) { uploads_admit_later(&req->tx, (struct uploads_admit){ 0 }, NULL); }

void uploads_move(struct tx *tx, const char *kind, struct str parent_id, struct str id, struct str name, struct str ext, int64_t bytes)
{
	uploads_insert_later(tx, (struct uploads_insert){ .id = id, .kind = str_of(kind), .parent_id = parent_id, .filename = name, .ext = ext,
		.bytes = bytes, .key = str_format(tx->arena, "uploads/client_%.*s/%s/%.*s.%.*s", STRF(tx->scope.client_id), kind, STRF(id),
			STRF(ext)) }, NULL);
	uploads_mark(tx, id, "uploaded", bytes);
}

enum fault uploads_find(struct tx *tx, const char *kind, struct str parent_id, struct str id_or_key, struct upload_row *ret)
{
	struct rows r;
	struct arena *a = tx_arena(tx);
	bool id = uuid_valid(id_or_key);
	TRY(uploads_get(tx, (struct uploads_get){ .kind = str_of(kind), .parent_id = parent_id, .id = id ? id_or_key : STR_NULL,
		.key = id ? STR_NULL : id_or_key }, &r));
	if (!r.count)
		return fault_raise(FAULT_NOT_FOUND, "No such upload");
	*ret = (struct upload_row){ .id = pg_col(a, &r, 0, "id"), .key = pg_col(a, &r, 0, "object"), .ext = pg_col(a, &r, 0, "ext"),
		.status = pg_col(a, &r, 0, "status"), .declared_bytes = pg_int(&r, 0, "declared_bytes") };
	return OK;
}

void uploads_mark(struct tx *tx, struct str id, const char *status, int64_t bytes)
{
	uploads_set_later(tx, (struct uploads_set){ .id = id, .status = str_of(status), .bytes = bytes }, NULL);
}

const char *uploads_type(struct str ext)
{
	static const char *const types[][2] = { { "wav", "audio/wav" }, { "mp3", "audio/mpeg" }, { "ogg", "audio/ogg" }, { "flac",
		"audio/flac" },
		{ "webm", "audio/webm" }, { "m4a", "audio/mp4" }, { "pdf", "application/pdf" }, { "txt", "text/plain" }, { "md", "text/markdown" },
		{ "doc", "application/msword" }, { "ppt", "application/vnd.ms-powerpoint" },
		{ "docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document" },
		{ "pptx", "application/vnd.openxmlformats-officedocument.presentationml.presentation" } };
	for (size_t i = 0; i < sizeof types / sizeof *types; i++)
		if (str_is(ext, types[i][0]))
			return types[i][1];
	return "application/octet-stream";
}

static enum fault presign_voices(struct req *req)
{
	struct presign_in *in = req->in;
	struct upload_file files[UPLOAD_FILES_MOST];
	struct str items;
	size_t n;
	TRY(req_need_client(req));
	TRY(uploads_read(req, in->files, &voices_rule, files, &n));
	TRY(req_begin(req));
	TRY(req_judged(req));
	TRY(uploads_put(req, &voices_rule, STR_NULL, files, n, &items));
	reply_json(req, 200, str_format(req->arena, "{\"uploads\":%.*s}", STRF(items)));
	uploads_admit_last(req);
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
			job_park(job, &tx, (clock_now_us() / HOUR_US + 1) * HOUR_US, JOB_IDLE);
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
