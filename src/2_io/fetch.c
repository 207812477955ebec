/* curl_multi_socket_action with libuv. Easy handles are pooled; names are resolved by dns.c and
 * pinned, because curl's own resolver would block a thread and hide the address. */
#include "fetch.h"
#include "dns.h"
#include "fiber.h"
#include "loop.h"
#include "loop_uv.h"
#include "../0_base/clock.h"
#include "../0_base/die.h"
#include "../1_code/url.h"
#include <curl/curl.h>
#include <stdlib.h>

#define POOL_HANDLES 64
#define PART_BYTES ((size_t)1 << 20)
#define REFUSAL_BYTES ((size_t)64 << 10)

struct transfer {
	struct fetch *fetch;
	struct fiber *fiber;
	struct buf answer;
	struct arena *arena;
	size_t sent, taken;
	CURL *easy;
	CURLcode result;
	bool done, over, taking, paused;
};

static CURLM *multi;
static uv_timer_t timer;
static CURL *pool[POOL_HANDLES];
static int pooled;

struct watch {
	uv_poll_t poll;
	curl_socket_t fd;
};

static void collect(void)
{
	int left;
	CURLMsg *message;
	while ((message = curl_multi_info_read(multi, &left))) {
		struct transfer *t;
		if (message->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &t);
		t->result = message->data.result;
		t->done = true;
		fiber_wake(t->fiber);
	}
}

static void on_timer(uv_timer_t *handle)
{
	int running;
	(void)handle;
	curl_multi_socket_action(multi, CURL_SOCKET_TIMEOUT, 0, &running);
	collect();
}

static int set_timer(CURLM *m, long ms, void *user)
{
	(void)m, (void)user;
	if (ms < 0)
		uv_timer_stop(&timer);
	else
		uv_timer_start(&timer, on_timer, (uint64_t)ms, 0);
	return 0;
}

static void on_socket(uv_poll_t *poll, int status, int events)
{
	struct watch *w = poll->data;
	int running, flags = status < 0 ? CURL_CSELECT_ERR : 0;
	flags |= events & UV_READABLE ? CURL_CSELECT_IN : 0;
	flags |= events & UV_WRITABLE ? CURL_CSELECT_OUT : 0;
	curl_multi_socket_action(multi, w->fd, flags, &running);
	collect();
}

static void free_watch(uv_handle_t *handle) { free(handle->data); }

static int set_socket(CURL *easy, curl_socket_t fd, int what, void *user, void *socket_user)
{
	struct watch *w = socket_user;
	(void)easy, (void)user;
	if (what == CURL_POLL_REMOVE) {
		if (w) {
			uv_poll_stop(&w->poll);
			uv_close((uv_handle_t *)&w->poll, free_watch);
			curl_multi_assign(multi, fd, NULL);
		}
		return 0;
	}
	if (!w) {
		w = must_alloc(sizeof *w);
		w->fd = fd;
		uv_poll_init(loop_uv(), &w->poll, fd);
		w->poll.data = w;
		curl_multi_assign(multi, fd, w);
	}
	uv_poll_start(&w->poll, (what != CURL_POLL_OUT ? UV_READABLE : 0) | (what != CURL_POLL_IN ? UV_WRITABLE : 0),
		on_socket);
	return 0;
}

static void fetch_start(void)
{
	if (multi)
		return;
	curl_global_init(CURL_GLOBAL_DEFAULT);
	multi = curl_multi_init();
	uv_timer_init(loop_uv(), &timer);
	curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, set_socket);
	curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, set_timer);
	curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, 256L);
}

/* The body goes out by a reader that cannot be rewound: curl would otherwise repeat a request by itself
 * when a pooled connection breaks before the first byte of an answer, which places a call twice. */
static size_t on_send(char *out, size_t size, size_t n, void *user)
{
	struct transfer *t = user;
	size_t left = t->fetch->body.n - t->sent, part = size * n < left ? size * n : left;
	memcpy(out, t->fetch->body.p + t->sent, part);
	t->sent += part;
	return part;
}

/* A part for the taker: what fills is taken by the waiting fiber, and the transfer rests until then. */
static size_t on_part(struct transfer *t, const char *bytes, size_t n)
{
	if (t->taken + t->answer.n + n > t->fetch->most_bytes) {
		t->over = true;
		return 0;
	}
	if (t->answer.n && t->answer.n + n > PART_BYTES) {
		t->paused = true;
		fiber_wake(t->fiber);
		return CURL_WRITEFUNC_PAUSE;
	}
	buf_add(&t->answer, bytes, n);
	return n;
}

static size_t on_body(char *bytes, size_t size, size_t n, void *user)
{
	struct transfer *t = user;
	long status = 0;
	if (t->fetch->take && !t->answer.n && !t->taken) {
		curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
		t->taking = status / 100 == 2;
		t->fetch->status = (int)status;		/* for the taker */
	}
	if (t->taking)
		return on_part(t, bytes, size * n);
	if (t->fetch->take && t->answer.n + size * n > REFUSAL_BYTES)
		return size * n;
	size_t room = t->fetch->most_bytes - t->answer.n, want = size * n;
	if (want > room) {
		buf_add(&t->answer, bytes, room);
		t->over = true;
		return 0;	/* ends the transfer */
	}
	buf_add(&t->answer, bytes, want);
	return want;
}

int fetch_retry_after(struct str value, int64_t now_s)
{
	int64_t s;
	struct str t = str_trim(value);
	if (!t.n)
		return -1;
	if (str_int(t, &s))
		return s < 0 ? -1 : s > 86400 ? 86400 : (int)s;
	char text[64];
	if (t.n >= sizeof text)
		return -1;
	memcpy(text, t.p, t.n);
	text[t.n] = 0;
	time_t at = curl_getdate(text, NULL);
	if (at < 0)
		return -1;
	s = at - now_s;
	return s < 0 ? 0 : s > 86400 ? 86400 : (int)s;
}

static size_t on_header(char *bytes, size_t size, size_t n, void *user)
{
	struct transfer *t = user;
	struct str line = { bytes, size * n }, name = str_cut(&line, ':');
	while (line.n && (line.p[line.n - 1] == '\r' || line.p[line.n - 1] == '\n'))
		line.n--;
	struct str key = str_lower(t->arena, name), value = str_trim(line);
	if (str_is(key, "content-type"))
		t->fetch->content_type = str_copy(t->arena, value);
	else if (str_is(key, "location"))
		t->fetch->location = str_copy(t->arena, value);
	else if (str_is(key, "etag"))
		t->fetch->etag = str_copy(t->arena, value);
	else if (str_is(key, "content-length"))
		t->fetch->answer_bytes = str_int(value, &t->fetch->answer_bytes) ? t->fetch->answer_bytes : -1;
	else if (str_is(key, "retry-after"))
		t->fetch->retry_after_s = fetch_retry_after(value, clock_now_us() / US_PER_S);
	return size * n;
}

/* Every address of the name must pass; the first is the one connected to. */
static enum fault pin(struct arena *arena, const struct fetch *f, struct str *ret_connect_to)
{
	struct url url;
	struct str addresses[DNS_MOST];
	size_t n = 0;
	if (!url_read(f->url, &url))
		return fault_raise(FAULT_FORBIDDEN, "The URL cannot be read");
	const char *problem = url_egress_problem(&url, !f->public_only);
	if (problem)
		return fault_raise(FAULT_FORBIDDEN, "The URL %s", problem);
	struct str host = str_is(url.host, "localhost") ? STR("127.0.0.1") : url.host;
	TRY(dns_lookup(arena, host, addresses, &n));
	for (size_t i = 0; f->public_only && i < n; i++)
		if (!url_address_public(addresses[i]))
			return fault_raise(FAULT_FORBIDDEN, "The host resolves to an address that is not public");
	bool six = memchr(addresses[0].p, ':', addresses[0].n) != NULL;
	*ret_connect_to = str_format(arena, six ? "::[%.*s]:" : "::%.*s:", STRF(addresses[0]));
	return OK;
}

static const char *own_origins, *own_certificate;

void fetch_trust_own(const char *origins, const char *certificate_file)
{
	own_origins = origins;
	own_certificate = certificate_file;
}

static bool own(struct str url)
{
	struct str rest = str_of(own_origins);
	while (rest.n) {
		struct str origin = str_cut(&rest, ',');
		if (origin.n && url.n > origin.n && memcmp(url.p, origin.p, origin.n) == 0 && strchr("/?", url.p[origin.n]))
			return true;
	}
	return false;
}

static void set_options(CURL *easy, struct transfer *t, const struct fetch *f, struct curl_slist *headers,
	struct curl_slist *connect_to, int64_t left_ms)
{
	curl_easy_setopt(easy, CURLOPT_URL, str_copy(t->arena, f->url).p);
	if (strcmp(f->method, "HEAD") == 0)
		curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
	if (f->body.p) {
		curl_easy_setopt(easy, CURLOPT_POST, 1L);
		curl_easy_setopt(easy, CURLOPT_READFUNCTION, on_send);
		curl_easy_setopt(easy, CURLOPT_READDATA, t);
		curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)f->body.n);
	}
	curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, f->method);
	curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers);
	curl_easy_setopt(easy, CURLOPT_CONNECT_TO, connect_to);
	curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)left_ms);
	curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)(left_ms < 5000 ? left_ms : 5000));
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(easy, CURLOPT_ACCEPT_ENCODING, "gzip, deflate");
	curl_easy_setopt(easy, CURLOPT_PROXY, "");
	curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(easy, CURLOPT_WRITEDATA, t);
	curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(easy, CURLOPT_HEADERDATA, t);
	if (own_certificate && own(f->url)) {
		curl_easy_setopt(easy, CURLOPT_CAINFO, own_certificate);
		curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 0L);
	}
	curl_easy_setopt(easy, CURLOPT_PRIVATE, t);
}

static enum fault outcome(const struct transfer *t, CURL *easy, struct fetch *f)
{
	long status = 0;
	curl_off_t connected = 0, up = 0;
	curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
	curl_easy_getinfo(easy, CURLINFO_PRETRANSFER_TIME_T, &connected);
	curl_easy_getinfo(easy, CURLINFO_SIZE_UPLOAD_T, &up);
	f->status = (int)status;
	f->sent = connected > 0 || up > 0;
	f->answer = buf_view(&t->answer);
	if (t->result == CURLE_OK || (t->over && f->cut))
		return OK;
	if (t->over)
		return fault_raise(t->taking ? FAULT_PAYLOAD_TOO_LARGE : FAULT_IO, "The answer is larger than %zu bytes", f->most_bytes);
	if (t->result == CURLE_OPERATION_TIMEDOUT)
		return fault_raise(f->sent ? FAULT_TIMEOUT : FAULT_CONNECT, "No answer in time");
	if (!f->sent)
		return fault_raise(FAULT_CONNECT, "Not reachable: %s", curl_easy_strerror(t->result));
	return fault_raise(FAULT_IO, "The connection broke: %s", curl_easy_strerror(t->result));
}

static enum fault take_part(struct transfer *t)
{
	bool resume = t->paused;
	struct str part = buf_view(&t->answer);
	t->taken += part.n;
	enum fault fault = part.n ? t->fetch->take(t->fetch->context, part) : OK;
	t->answer.n = 0;
	t->paused = false;
	if (fault == OK && resume && !t->done)
		curl_easy_pause(t->easy, CURLPAUSE_CONT);	/* gives the held part again */
	return fault;
}

enum fault fetch_run(struct arena *arena, struct fetch *f)
{
	int64_t started_us = clock_real_us();
	struct str target;
	fiber_may_wait("an HTTP request");
	fetch_start();
	f->status = 0;
	f->retry_after_s = -1;
	f->answer_bytes = -1;
	f->sent = false;
	TRY(pin(arena, f, &target));
	int64_t left_ms = f->timeout_ms - (clock_real_us() - started_us) / US_PER_MS;
	if (left_ms < 1)
		return fault_raise(FAULT_CONNECT, "The name was not resolved in time");

	struct transfer t = { .fetch = f, .fiber = fiber_current(), .arena = arena,
		.answer = BUF_IN(arena, f->take ? PART_BYTES + CURL_MAX_WRITE_SIZE : f->most_bytes) };
	struct curl_slist *headers = NULL, *connect_to = curl_slist_append(NULL, target.p);
	for (size_t i = 0; i < f->header_count; i++) {
		const struct fetch_header *h = &f->headers[i];
		if (h->value.n && (memchr(h->value.p, '\n', h->value.n) || memchr(h->value.p, '\r', h->value.n)))
			continue;	/* curl does not clean them */
		headers = curl_slist_append(headers, str_format(arena, h->value.n ? "%s: %.*s" : "%s;%.*s",
			h->name, STRF(h->value)).p);
	}
	headers = curl_slist_append(headers, "Expect:");
	CURL *easy = pooled ? pool[--pooled] : curl_easy_init();
	t.easy = easy;
	set_options(easy, &t, f, headers, connect_to, left_ms);
	curl_multi_add_handle(multi, easy);
	enum fault stopped = OK;
	while (!t.done && stopped == OK) {
		fiber_park();
		if (t.taking && (t.paused || t.done))
			stopped = take_part(&t);
	}
	if (t.taking && stopped == OK && t.answer.n)
		stopped = take_part(&t);
	curl_multi_remove_handle(multi, easy);
	enum fault fault = stopped != OK ? stopped : outcome(&t, easy, f);
	if (t.taking)
		f->answer = STR("");
	curl_slist_free_all(headers);
	curl_slist_free_all(connect_to);
	curl_easy_reset(easy);
	if (pooled < POOL_HANDLES)
		pool[pooled++] = easy;
	else
		curl_easy_cleanup(easy);
	return fault;
}
