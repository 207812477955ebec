/* How the sandbox's APIs answer. */
#include "sandbox.h"
#include "../0_base/clock.h"
#include "../1_code/url.h"

void say(struct http_request *r, int status, const json_t *value)
{
	http_reply(r, status, "application/json", value ? json_dump(r->arena, value) : STR(""));
}

void refuse(struct http_request *r, int status, const char *detail)
{
	http_reply(r, status, "application/json", str_format(r->arena, "{\"detail\":\"%s\"}", detail));
}

/* The whole, or the rest that was asked for (RFC 9110 14.2, bytes=N- alone). */
void say_part(struct http_request *r, const char *type, struct str whole)
{
	struct str range = http_header(r, "range");
	int64_t from;
	if (range.n < 8 || !str_starts(range, "bytes=") || !str_int((struct str){ range.p + 6, range.n - 7 }, &from) || from < 0 ||
	    from >= (int64_t)whole.n) {
		http_reply(r, 200, type, whole);
		return;
	}
	http_reply_header(r, "Content-Range", str_format(r->arena, "bytes %lld-%zu/%zu", (long long)from, whole.n - 1, whole.n));
	http_reply(r, 206, type, str_from(whole, (size_t)from));
}

struct str keep(struct str text)
{
	char *p = must_alloc(text.n + 1);
	if (text.n)
		memcpy(p, text.p, text.n);
	return (struct str){ p, text.n };
}

json_t *time_text(int64_t at_us)
{
	char at[CLOCK_TEXT_BYTES];
	return json_string(clock_text_us(at_us, at));
}

json_t *now_text(void) { return time_text(clock_now_us()); }

void say_page(struct http_request *r, json_t *all)
{
	int64_t from = 0, size = 100;
	str_int(url_query(r->arena, r->query, "cursor"), &from);
	str_int(url_query(r->arena, r->query, "pageSize"), &size);
	size = size < 1 ? 1 : size > 100 ? 100 : size;
	json_t *out = json_object(), *results = json_array();
	for (int64_t i = from; i < from + size && i < (int64_t)json_array_size(all); i++)
		json_array_append(results, json_array_get(all, (size_t)i));
	bool more = from + size < (int64_t)json_array_size(all);
	struct str next = str_format(r->arena, "http://%.*s%.*s?cursor=%lld&pageSize=%lld", STRF(http_header(r, "host")),
		STRF(r->path), (long long)(from + size), (long long)size);
	json_object_set_new(out, "results", results);
	json_object_set_new(out, "next", more ? json_string(next.p) : json_null());
	json_object_set_new(out, "previous", json_null());
	json_object_set_new(out, "total", json_integer((json_int_t)json_array_size(all)));
	say(r, 200, out);
	json_decref(out);
	json_decref(all);
}

static struct str line_value(struct str head, const char *key)
{
	const char *at = head.n ? memmem(head.p, head.n, key, strlen(key)) : NULL;
	if (!at)
		return STR_NULL;
	struct str rest = str_from(head, (size_t)(at - head.p) + strlen(key));
	return str_cut(&rest, *key == ' ' || key[strlen(key) - 1] == '"' ? '"' : '\r');
}

struct str form_names(struct http_request *r, struct str body)
{
	struct buf b = BUF_IN(r->arena, 4096);
	const char *at;
	while ((at = memmem(body.p, body.n, "form-data; name=\"", 17))) {
		body = str_from(body, (size_t)(at - body.p) + 17);
		if (b.n)
			buf_char(&b, ',');
		buf_str(&b, str_cut(&body, '"'));
	}
	return buf_view(&b);
}

/* The next part whose name is `name`, from *rest on. */
bool form_part(struct http_request *r, struct str *rest, const char *name, struct form_field *ret)
{
	struct str mark = str_format(r->arena, "--%.*s", STRF(line_value(http_header(r, "content-type"), "boundary=")));
	while (mark.p && mark.n > 2 && rest->p) {
		const char *start = memmem(rest->p, rest->n, mark.p, mark.n);
		if (!start)
			return false;
		struct str part = str_from(*rest, (size_t)(start - rest->p) + mark.n + 2);
		const char *end = memmem(part.p, part.n, mark.p, mark.n), *blank = memmem(part.p, part.n, "\r\n\r\n", 4);
		if (!end || !blank || blank > end)
			return false;
		*rest = (struct str){ end, part.n - (size_t)(end - part.p) };
		struct str head = { part.p, (size_t)(blank - part.p) };
		*ret = (struct form_field){ .value = { blank + 4, (size_t)(end - blank) - 6 }, .file_name = line_value(head, "filename=\""),
			.type = line_value(head, "Content-Type: ") };
		if (str_is(line_value(head, " name=\""), name))
			return true;
	}
	return false;
}
