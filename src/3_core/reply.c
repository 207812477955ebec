/* Answers: the envelope, rows by their shape, lists with signed cursors. */
#include "req.h"
#include "vault.h"
#include "../0_base/clock.h"
#include "../1_code/b64.h"
#include "../1_code/sign.h"
#include "../1_code/url.h"
#include "../1_code/uuid.h"
#include "../0_base/die.h"

#define ANSWER_BYTES ((size_t)8 << 20)

static void start(struct req *req, int status)
{
	req->status = status;
	req->out = BUF_IN(req->arena, ANSWER_BYTES);
}

static void meta_open(struct req *req)
{
	char at[CLOCK_TEXT_BYTES];
	buf_text(&req->out, ",\"meta\":{\"request_id\":");
	buf_json(&req->out, req->request_id);
	buf_text(&req->out, ",\"ts\":\"");
	buf_text(&req->out, clock_text(clock_now_us(), at));
	buf_char(&req->out, '"');
	buf_str(&req->out, buf_view(&req->meta));
	if (req->warnings) {
		buf_text(&req->out, ",\"warnings\":[");
		for (struct shape_warning *w = req->warnings; w; w = w->next) {
			buf_text(&req->out, "{\"field\":");
			buf_json(&req->out, w->field);
			buf_text(&req->out, ",\"reason\":");
			buf_json(&req->out, str_of(w->reason));
			buf_text(&req->out, w->next ? "}," : "}");
		}
		buf_char(&req->out, ']');
	}
}

void reply_meta(struct req *req, const char *name, struct str json)
{
	buf_char(&req->meta, ',');
	buf_json(&req->meta, str_of(name));
	buf_char(&req->meta, ':');
	buf_str(&req->meta, json);
}

void row_json(struct buf *b, struct arena *arena, const struct shape *shape, const struct rows *rows, int row)
{
	const char *comma = "";
	buf_char(b, '{');
	bug_unless(rows->columns >= (int)shape->count);
	for (size_t i = 0; i < shape->count; i++) {
		const struct shape_field *f = &shape->fields[i];
		if (f->flags & SHAPE_OMIT && !pg_text(arena, rows, row, (int)i).p)
			continue;
		buf_text(b, comma);
		buf_char(b, '"');
		buf_text(b, f->name);
		buf_text(b, "\":");
		pg_json(b, arena, rows, row, (int)i);
		comma = ",";
	}
	buf_char(b, '}');
}

void reply_row(struct req *req, int status, const struct shape *shape, const struct rows *rows, int row)
{
	start(req, status);
	buf_text(&req->out, "{\"data\":");
	row_json(&req->out, req->arena, shape, rows, row);
	meta_open(req);
	buf_text(&req->out, "}}");
}

void reply_json(struct req *req, int status, struct str data)
{
	start(req, status);
	buf_text(&req->out, "{\"data\":");
	buf_str(&req->out, data);
	meta_open(req);
	buf_text(&req->out, "}}");
}

/* t.i.mac, where mac binds place and filters to this installation and client. */
static struct str cursor_mac(struct req *req, struct str place, struct str filters)
{
	struct str text = str_format(req->arena, "%.*s|%.*s|%.*s|%.*s", STRF(place), STRF(filters),
		STRF(req->scope.agency_id), STRF(req->scope.client_id));
	struct str mac = sign_hmac(req->arena, vault_key(req->arena, "cursor"), text);
	return b64url_write(req->arena, (struct str){ mac.p, 12 });
}

void reply_list(struct req *req, const struct shape *shape, const struct rows *rows, int64_t limit, struct str filters)
{
	int shown = rows->count > limit ? (int)limit : rows->count;
	start(req, 200);
	buf_text(&req->out, "{\"data\":[");
	for (int i = 0; i < shown; i++) {
		if (i)
			buf_char(&req->out, ',');
		row_json(&req->out, req->arena, shape, rows, i);
	}
	buf_char(&req->out, ']');
	meta_open(req);
	buf_format(&req->out, ",\"limit\":%lld,\"next_cursor\":", (long long)limit);
	if (rows->count > limit) {
		struct str id = pg_col(req->arena, rows, shown - 1, "id");
		struct str place = str_format(req->arena, "%lld.%.*s",
			(long long)pg_int(rows, shown - 1, "cursor_us"), STRF(id));
		buf_format(&req->out, "\"%.*s.%.*s\",\"has_more\":true}}", STRF(place), STRF(cursor_mac(req, place, filters)));
	} else {
		buf_text(&req->out, "null,\"has_more\":false}}");
	}
}

enum fault req_page(struct req *req, const char *const *filters, struct page *ret)
{
	struct str limit = url_query(req->arena, req->http->query, "limit"), cursor = req_query(req, "cursor");
	*ret = (struct page){ .limit = 50, .created_after = req_query(req, "created_after"),
		.created_before = req_query(req, "created_before") };
	int64_t at;
	if (limit.p && (!str_int(limit, &ret->limit) || ret->limit < 1 || ret->limit > 1000))
		return fault_field("limit", "must be 1..1000");
	if (ret->created_after.p && !clock_parse(ret->created_after, &at))
		return fault_field("created_after", "must be an ISO-8601 time with offset");
	if (ret->created_before.p && !clock_parse(ret->created_before, &at))
		return fault_field("created_before", "must be an ISO-8601 time with offset");
	struct buf bound = BUF_IN(req->arena, 16384);
	buf_format(&bound, "%.*s|%.*s", STRF(ret->created_after), STRF(ret->created_before));
	for (; *filters; filters++)
		buf_format(&bound, "|%s=%.*s", *filters, STRF(req_query(req, *filters)));
	ret->filters = buf_view(&bound);
	if (!cursor.p)
		return OK;
	struct str rest = cursor, us = str_cut(&rest, '.'), id = str_cut(&rest, '.');
	struct str place = { cursor.p, us.n + 1 + id.n };
	if (!str_int(us, &at) || !uuid_valid(id) || !sign_same(rest, cursor_mac(req, place, ret->filters)))
		return fault_raise(FAULT_BAD_REQUEST, "The cursor does not belong to this list");
	ret->after_us = us;
	ret->after_id = id;
	return OK;
}

struct str req_enum_filter(struct req *req, const char *name, const char *values)
{
	struct str given = req_query(req, name), rest = given;
	while (rest.n) {
		struct str word = str_cut(&rest, ','), all = str_of(values);
		bool known = false;
		while (all.n && !known)
			known = str_eq(str_cut(&all, ','), word);
		if (known)
			continue;
		struct shape_warning *w = arena_new(req->arena, struct shape_warning);
		*w = (struct shape_warning){ .next = req->warnings, .field = str_of(name), .reason = "unknown value, matches nothing" };
		req->warnings = w;
	}
	return given;
}

void reply_fault(struct req *req, enum fault fault)
{
	char at[CLOCK_TEXT_BYTES];
	const struct fault_row *row = &fault_rows[fault];
	if (row->status == 0) {		/* never meant to leave: say so little, log the rest */
		fault = fault == FAULT_SERIALIZE ? FAULT_UNAVAILABLE : FAULT_INTERNAL_ERROR;
		row = &fault_rows[fault];
		fault_raise(fault, fault == FAULT_UNAVAILABLE ? "Busy; try again" : "Something went wrong; quote the request id");
	}
	start(req, row->status);
	buf_format(&req->out, "{\"error\":{\"code\":\"%s\",\"message\":", row->code);
	buf_json(&req->out, str_of(*fault_note->message ? fault_note->message : row->when));
	if (fault_note->details.n) {
		buf_text(&req->out, ",\"details\":{");
		buf_str(&req->out, buf_view(&fault_note->details));
		buf_char(&req->out, '}');
	}
	buf_text(&req->out, ",\"request_id\":");
	buf_json(&req->out, req->request_id);
	buf_format(&req->out, ",\"ts\":\"%s\"}}", clock_text(clock_now_us(), at));
	if (fault_note->retry_after_s > 0)
		http_reply_header(req->http, "Retry-After", str_format(req->arena, "%d", fault_note->retry_after_s));
	else if (fault == FAULT_UNAVAILABLE)
		http_reply_header(req->http, "Retry-After", STR("1"));
}
