/* GET /events/stream: server-sent events (HTML standard 9.2). One fiber a process looks where the streams of its clients stand, asks the
 * database once for all heads, reads what is new through each stream's own door, and writes. A stream that is not taken waits
 * in the database, not here: at most one small batch of it is in memory. */
#include "insight.h"
#include "insight.sql.h"
#include "../../0_base/clock.h"
#include "../../0_base/die.h"
#include "../../0_base/map.h"
#include "../../2_io/fiber.h"
#include "../../2_io/shared.h"
#include <stdlib.h>

#define LOOK_MS 200
#define HEARTBEAT_US (15 * US_PER_S)
#define PER_CLIENT 10		/* on one machine */
#define BATCH 20
#define BATCH_BYTES ((size_t)256 << 10)

static struct stream {
	struct stream *next, **at;
	struct http_stream *http;
	char *words;		/* of the scope and the filter */
	struct scope scope;
	struct str types;	/* NULL = all */
	int64_t seq, written_us;	/* last event sent; last byte */
	bool seated;
} *streams;
static bool looking;

static const struct shape_field event_fields[] = {
	{ "id", SHAPE_TEXT },
	{ "seq", SHAPE_INT },
	{ "type", SHAPE_TEXT },
	{ "timestamp", SHAPE_TIME },
	{ "client_id", SHAPE_UUID },
	{ "resource", SHAPE_OBJECT },
	{ "data", SHAPE_OBJECT },
};
static const struct shape event_shape = SHAPE("stream_event", event_fields);

static void stand_up(struct stream *s)
{
	if (s->seated)
		seat_leave(str_hash(s->scope.client_id));
	s->seated = false;
}

static void gone(void *owner)
{
	struct stream *s = owner;
	stand_up(s);
	*s->at = s->next;
	if (s->next)
		s->next->at = s->at;
	free(s->words);
	free(s);
}

static bool wanted(const struct stream *s, struct str type)
{
	struct str rest = s->types;
	if (!rest.p)
		return true;
	while (rest.n)
		if (str_eq(str_cut(&rest, ','), type))
			return true;
	return false;
}

/* The next batch of one stream. A fault (a revoked key, a database away for long) ends it: its reader comes again and says where it was. */
static void feed(struct stream *s, int64_t head, struct arena *arena)
{
	struct rows rows;
	struct tx tx;
	struct buf b = BUF_IN(arena, BATCH_BYTES);
	struct http_stream *http = s->http;
	tenant_read(&tx, arena, &s->scope);
	enum fault fault = insight_events(&tx, (struct insight_events){ .after = str_format(arena, "%lld", (long long)s->seq),
		.limit = BATCH }, &rows);
	bool here = false;
	for (struct stream *still = streams; still; still = still->next)	/* its client may have left while we waited */
		here |= still == s && still->http == http;
	if (!here)
		return;
	if (fault != OK) {
		http_stream_end(s->http);
		return;
	}
	if (!rows.count)	/* what lay between is kept no longer */
		s->seq = head;
	for (int i = 0; i < rows.count; i++) {
		struct str type = pg_col(arena, &rows, i, "type");
		s->seq = pg_int(&rows, i, "seq");
		if (!wanted(s, type))
			continue;
		buf_format(&b, "id: %lld\nevent: %.*s\ndata: ", (long long)s->seq, STRF(type));
		row_json(&b, arena, &event_shape, &rows, i);
		buf_text(&b, "\n\n");
	}
	if (b.n) {
		http_stream_write(s->http, buf_view(&b));
		s->written_us = clock_real_us();
	}
}

/* Where do the streams of our clients stand? One question for all; *heads: client -> seq. */
static enum fault ask_heads(struct arena *arena, struct map *ret_heads)
{
	struct buf ids = BUF_IN(arena, 1 << 20);
	struct rows rows;
	struct tx tx;
	for (struct stream *s = streams; s; s = s->next) {
		if (map_get(ret_heads, s->scope.client_id))
			continue;
		map_put(ret_heads, s->scope.client_id, (void *)(intptr_t)1);
		buf_format(&ids, "%s%.*s", ids.n ? "," : "", STRF(s->scope.client_id));
	}
	system_read(&tx, arena);
	TRY(insight_heads(&tx, (struct insight_heads){ .ids = buf_view(&ids) }, &rows));
	for (int i = 0; i < rows.count; i++)
		map_put(ret_heads, pg_col(arena, &rows, i, "client_id"), (void *)(intptr_t)pg_int(&rows, i, "last_seq"));
	return OK;
}

static void look(void)
{
	struct arena *arena = arena_make();
	struct map heads = { 0 };
	int64_t now_us = clock_real_us();
	bool more = ask_heads(arena, &heads) == OK;
	while (more) {		/* begins anew after each wait: the list may have changed */
		more = false;
		for (struct stream *s = streams; s && !more; s = s->next) {
			int64_t head = (int64_t)(intptr_t)map_get(&heads, s->scope.client_id);
			more = !http_stream_waiting(s->http) && head > s->seq;
			if (more)
				feed(s, head, arena);
		}
	}
	for (struct stream *s = streams; s; s = s->next)
		if (now_us - s->written_us > HEARTBEAT_US && !http_stream_waiting(s->http)) {
			http_stream_write(s->http, STR(": still here\n\n"));
			s->written_us = now_us;
		}
	map_fini(&heads);
	arena_drop(arena);
}

static void look_loop(void *unused)
{
	(void)unused;
	while (streams) {
		look();
		fiber_sleep_ms(LOOK_MS);
	}
	looking = false;
}

/* Streams are many and lie open for long: their few words lie in one small block. */
static struct stream *add(struct req *req, int64_t seq, struct str types)
{
	struct stream *s = must_alloc(sizeof *s);
	struct str given[] = { req->scope.agency_id, req->scope.client_id, req->scope.user_id, req->scope.key_id, req->request_id, types };
	struct str *kept[] = { &s->scope.agency_id, &s->scope.client_id, &s->scope.user_id, &s->scope.key_id, &s->scope.request_id, &s->types };
	size_t room = 0, at = 0;
	for (int i = 0; i < 6; i++)
		room += given[i].n + 1;
	*s = (struct stream){ .next = streams, .at = &streams, .words = must_alloc(room), .seq = seq, .written_us = clock_real_us() };
	for (int i = 0; i < 6; i++) {
		if (given[i].p) {
			memcpy(s->words + at, given[i].p, given[i].n);
			s->words[at + given[i].n] = 0;
			*kept[i] = (struct str){ s->words + at, given[i].n };
		}
		at += given[i].n + 1;
	}
	if (streams)
		streams->at = &s->next;
	streams = s;
	return s;
}

static enum fault stream(struct req *req)
{
	struct str after = http_header(req->http, "last-event-id"), types = req_query(req, "type");
	struct rows span;
	struct tx tx;
	int64_t seq = -1;
	int n = 0;
	TRY(req_need_client(req));
	after = after.n ? after : req_query(req, "after");
	if (after.p && (!str_int(after, &seq) || seq < 0))
		return fault_raise(FAULT_BAD_REQUEST, "Last-Event-ID must be the seq of the last event seen");
	for (struct stream *s = streams; s; s = s->next) {
		bool own = str_eq(s->scope.client_id, req->scope.client_id), left = own && http_stream_left(s->http);
		if (left) {	/* a page that was loaded anew: its old stream does not count */
			stand_up(s);
			http_stream_end(s->http);
		}
		n += own && !left;
	}
	req_read(req, &tx);
	TRY(insight_span(&tx, (struct insight_span){ 0 }, &span));
	int64_t last = pg_int(&span, 0, "last"), oldest = pg_int(&span, 0, "oldest");
	if (!seat_take(str_hash(req->scope.client_id), PER_CLIENT, n)) {
		enum fault fault = fault_raise(FAULT_RATE_LIMIT_EXCEEDED, "This client has %d streams open", PER_CLIENT);
		fault_detail("policy", STR("streams"));
		fault_detail_int("limit", PER_CLIENT);
		fault_detail_int("retry_after", 15);
		fault_note->retry_after_s = 15;
		return fault;
	}
	struct stream *s = add(req, seq < 0 ? last : seq, types);
	s->seated = true;
	s->http = http_reply_stream(req->http, 200, "text/event-stream", gone, s);
	http_reply_header(req->http, "Cache-Control", STR("no-store"));
	http_reply_header(req->http, "X-Accel-Buffering", STR("no"));
	http_stream_write(s->http, STR(": welcome\nretry: 2000\n\n"));
	if (seq >= 0 && oldest && seq < oldest - 1) {	/* what lies between is kept no longer: the reader must begin anew */
		s->seq = oldest - 1;
		http_stream_write(s->http, str_format(req->arena, "event: reset\ndata: {\"oldest_seq\":%lld}\n\n", (long long)oldest));
	}
	if (!looking) {
		looking = true;
		fiber_spawn(look_loop, NULL, true);
	}
	return OK;
}

const struct route stream_routes[] = {
	{ "GET", API "/events/stream", ROLE_R, "events:read", stream, .status = 200, .query = "after,type", .media = "text/event-stream",
		.summary = "Events as they happen (server-sent events); Last-Event-ID goes on where a stream broke" },
	{ 0 },
};
