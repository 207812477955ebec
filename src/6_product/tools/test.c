/* Trying a tool: the request that the provider would send, sent by us, by the egress rules of webhooks. */
#include "tools.h"
#include "tools.sql.h"
#include "../../0_base/clock.h"
#include "../../1_code/url.h"
#include "../../2_io/fetch.h"
#include "../../3_core/config.h"

#define ANSWER_BYTES ((size_t)64 << 10)
#define SHOWN_BYTES 4096

struct trial {
	struct job *job;
	struct str endpoint, method, token;
	json_t *how, *schema, *given;
	struct buf url, shown_url;	/* the second without the secret */
	struct str body;
	struct fetch_header headers[4];
	size_t header_count;
};

static struct str text_of(struct arena *arena, const json_t *value)
{
	if (json_is_string(value))
		return (struct str){ json_string_value(value), json_string_length(value) };
	char *plain = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
	struct str text = str_copy(arena, str_of(plain));
	free(plain);
	return text;
}

static void both(struct trial *t, struct str text, bool escape)
{
	for (int i = 0; i < 2; i++)
		escape ? url_escape(i ? &t->shown_url : &t->url, text, false) : buf_str(i ? &t->shown_url : &t->url, text);
}

/* The endpoint with its placeholders filled, then what goes into the query. */
static void write_url(struct trial *t)
{
	struct arena *a = t->job->arena;
	struct str rest = t->endpoint;
	const char *name, *mark = memchr(t->endpoint.p, '?', t->endpoint.n) ? "&" : "?";
	json_t *value;
	while (rest.n) {
		both(t, str_cut(&rest, '{'), false);
		struct str field = str_cut(&rest, '}');
		json_t *filled = field.n ? json_object_getn(t->given, field.p, field.n) : NULL;
		if (filled)
			both(t, text_of(a, filled), true);
	}
	json_object_foreach(t->given, name, value) {
		if (strcmp(tool_location(a, t->endpoint, t->method, name), "QUERY") != 0)
			continue;
		both(t, str_of(mark), false);
		both(t, str_of(name), true);
		both(t, STR("="), false);
		both(t, text_of(a, value), true);
		mark = "&";
	}
	if (t->token.p && str_is(json_text(t->how, "location"), "query")) {
		both(t, str_of(mark), false);
		both(t, json_text(t->how, "name"), true);
		buf_char(&t->url, '=');
		url_escape(&t->url, t->token, false);
		buf_text(&t->shown_url, "=***");
	}
}

static void write_body(struct trial *t)
{
	json_t *body = json_object(), *value;
	const char *name;
	arena_defer(t->job->arena, (void (*)(void *))json_decref, body);
	json_object_foreach(t->given, name, value)
		if (strcmp(tool_location(t->job->arena, t->endpoint, t->method, name), "BODY") == 0)
			json_object_set(body, name, value);
	if (!str_is(t->method, "GET") && !str_is(t->method, "DELETE"))
		t->body = json_dump(t->job->arena, body);
}

static void write_headers(struct trial *t)
{
	struct str type = json_text(t->how, "type");
	t->headers[t->header_count++] = (struct fetch_header){ "User-Agent", STR("Trunkline/" TRUNKLINE_VERSION) };
	if (t->body.p)
		t->headers[t->header_count++] = (struct fetch_header){ "Content-Type", STR("application/json") };
	if (!t->token.p || str_is(json_text(t->how, "location"), "query"))
		return;
	bool key = str_is(type, "api_key");
	t->headers[t->header_count++] = key ? (struct fetch_header){ json_text(t->how, "name").p, t->token }
		: (struct fetch_header){ "Authorization", str_format(t->job->arena, "%s %.*s", str_is(type, "basic") ? "Basic" : "Bearer",
			STRF(t->token)) };
}

static void put_text(struct buf *b, struct str text)
{
	text = str_clip(text, SHOWN_BYTES);
	bool plain = str_utf8(text) && !(text.n && memchr(text.p, 0, text.n));
	buf_json(b, plain ? text : STR("(binary)"));
}

/* What is shown: the request as sent, secrets starred; the answer; how long it took. */
static void show(struct trial *t, const struct fetch *f, enum fault fault, int64_t took_us)
{
	struct buf b = BUF_IN(t->job->arena, 256 << 10);
	buf_text(&b, "{\"request\":{\"method\":");
	buf_json(&b, t->method);
	buf_text(&b, ",\"url\":");
	buf_json(&b, buf_view(&t->shown_url));
	buf_text(&b, ",\"headers\":{");
	for (size_t i = 0; i < t->header_count; i++) {
		bool secret = i == t->header_count - 1 && t->token.p && !str_is(json_text(t->how, "location"), "query");
		buf_text(&b, i ? "," : "");
		buf_json(&b, str_of(t->headers[i].name));
		buf_char(&b, ':');
		buf_json(&b, secret ? STR("***") : t->headers[i].value);
	}
	buf_text(&b, "},\"body\":");
	t->body.p ? put_text(&b, t->body) : buf_text(&b, "null");
	buf_text(&b, "},\"response\":");
	if (fault == OK) {
		buf_format(&b, "{\"status\":%d,\"content_type\":", f->status);
		buf_json(&b, f->content_type);
		buf_text(&b, ",\"body\":");
		put_text(&b, f->answer);
		buf_char(&b, '}');
	} else {
		buf_text(&b, "null");
	}
	buf_format(&b, ",\"ok\":%s,\"duration_ms\":%lld,\"error\":", fault == OK && f->status < 400 ? "true" : "false",
		(long long)(took_us / US_PER_MS));
	buf_json(&b, fault == OK ? STR_NULL : str_of(fault_note->message));
	buf_char(&b, '}');
	t->job->answer = buf_view(&b);
}

enum fault tool_test(struct job *job)
{
	struct arena *a = job->arena;
	struct rows row;
	struct tx tx;
	if (job->attempts > 1)		/* who asked is gone, and a tool may do something each time */
		return OK;
	tenant_read(&tx, a, &job->scope);
	TRY(tools_load(&tx, (struct tools_load){ .id = job->resource_id }, &row));
	if (!row.count)
		return OK;
	struct trial t = { .job = job, .endpoint = pg_col(a, &row, 0, "endpoint"), .method = pg_col(a, &row, 0, "method"),
		.given = json_object_get(job->payload, "parameters"), .url = BUF_IN(a, 64 << 10), .shown_url = BUF_IN(a, 64 << 10) };
	TRY(json_read(a, pg_col(a, &row, 0, "authentication"), &t.how));
	TRY(tool_token(a, job->resource_id, pg_col(a, &row, 0, "authentication"), pg_col(a, &row, 0, "sealed"), &t.token));
	write_url(&t);
	write_body(&t);
	write_headers(&t);
	struct fetch f = { .method = str_copy(a, t.method).p, .url = buf_view(&t.url), .headers = t.headers, .header_count = t.header_count,
		.body = t.body, .public_only = !config.egress_allow_private, .timeout_ms = pg_int(&row, 0, "timeout_seconds") * 1000,
		.most_bytes = ANSWER_BYTES, .cut = true };
	int64_t started_us = clock_real_us();
	enum fault fault = fetch_run(a, &f);
	show(&t, &f, fault, clock_real_us() - started_us);
	return OK;
}
