/* libmicrohttpd in external-epoll mode. A connection is suspended while its fiber waits and
 * resumed when the answer is there or more body is wanted. */
#include "http.h"
#include "http_stream.h"
#include "fiber.h"
#include "loop.h"
#include "loop_uv.h"
#include "shared.h"
#include "../0_base/clock.h"
#include "../0_base/die.h"
#include "../0_base/log.h"
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <microhttpd.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define POOL_BYTES ((size_t)33 * 1024)	/* above 32 KiB the library maps it: pages that are not touched take no memory */
#define DRAIN_BYTES ((int64_t)8 << 20)	/* read and dropped so that a refusal can be answered */
#define IDLE_TIMEOUT_S 75u
#define MAX_CONNECTIONS 8192u

#define SLOW_BYTES_S 1024	/* a body that comes slower than this for long is cut */
#define ANSWER_US (120 * US_PER_S)	/* and an answer in memory that is taken more slowly than this */

/* A connection, from accept to close. Who trickles a head, a body or takes its answer by the byte is cut. */
struct link {
	struct link *next, **at;
	int fd;
	struct exchange *exchange;	/* NULL between requests */
	int64_t since_us;		/* start of the wait for a head */
	bool kept;			/* has answered before: may lie idle for a while */
};

struct exchange {
	struct http_request request;	/* first: handlers get its address */
	struct MHD_Connection *connection;
	struct link *link;
	struct fiber *fiber;
	struct str part;		/* body bytes offered to the fiber */
	bool started, suspended, wants_body, body_ended, finished, gone, file, bare;
	int64_t drained, received, finished_us;
};

static struct MHD_Daemon *daemon_;
static void (*handle_request)(struct http_request *);
static uv_poll_t poll_;
static uv_timer_t timer_;
static uv_idle_t idle_;
static bool run_wanted;
static int64_t open_requests;
static struct link *links;
static struct http_options options = { .head_ms = 10000, .body_ms = 30000 };

void http_configure(const struct http_options *o) { options = *o; }

struct str http_header(const struct http_request *r, const char *name)
{
	for (const struct http_header *h = r->headers; h; h = h->next)
		if (str_is(h->name, name))
			return h->value;
	return STR_NULL;
}

void http_reply_header(struct http_request *r, const char *name, struct str value)
{
	struct http_header *h = arena_new(r->arena, struct http_header);
	*h = (struct http_header){ .next = r->reply_headers, .name = str_of(name),
		.value = str_copy(r->arena, value) };
	r->reply_headers = h;
}

void http_reply(struct http_request *r, int status, const char *type, struct str body)
{
	r->status = status;
	r->reply_body = body;
	if (type)
		http_reply_header(r, "Content-Type", str_of(type));
}

static void resume(struct exchange *x)
{
	if (x->suspended) {
		x->suspended = false;
		MHD_resume_connection(x->connection);
		run_wanted = true;
	}
}

enum fault http_read_part(struct http_request *r, struct str *ret_part)
{
	struct exchange *x = (struct exchange *)(void *)r;
	*ret_part = (struct str){ "", 0 };
	x->part.n = 0;
	if (x->body_ended)
		return OK;
	x->wants_body = true;
	resume(x);
	while (x->wants_body)
		fiber_park();
	if (x->gone)
		return fault_raise(FAULT_IO, "the client went away");
	*ret_part = x->part;
	return OK;
}

enum fault http_read_body(struct http_request *r, size_t max, struct str *ret_body)
{
	struct buf body = BUF_IN(r->arena, max);
	struct str part;
	if (r->body_bytes > (int64_t)max)
		return fault_raise(FAULT_PAYLOAD_TOO_LARGE, "The body is larger than %zu bytes", max);
	do {
		TRY(http_read_part(r, &part));
		buf_str(&body, part);
		if (body.full)
			return fault_raise(FAULT_PAYLOAD_TOO_LARGE, "The body is larger than %zu bytes", max);
	} while (part.n);
	*ret_body = buf_view(&body);
	return OK;
}

static void run_exchange(void *argument)
{
	struct exchange *x = argument;
	handle_request(&x->request);
	x->finished = true;
	x->finished_us = clock_real_us();
	if (x->request.status == 0 && !x->request.reply_break)
		bug("a handler left no answer");
	open_requests--;
	if (x->gone) {
		if (x->request.reply_fd >= 0)
			close(x->request.reply_fd);
		if (x->request.reply_stream)
			http_stream_gone(x->request.reply_stream);
		arena_drop(x->request.arena);
		return;
	}
	resume(x);
}

static enum MHD_Result send_answer(struct exchange *x)
{
	struct http_request *r = &x->request;
	struct MHD_Response *answer;
	if (r->reply_break)
		return MHD_NO;
	if (r->reply_fd >= 0) {
		answer = MHD_create_response_from_fd_at_offset64((size_t)r->reply_length, r->reply_fd,
			(uint64_t)r->reply_offset);
		r->reply_fd = -1;
		x->file = true;
	} else if (r->reply_stream) {
		answer = http_stream_answer(r->reply_stream, x->connection);
		r->reply_stream_queued = x->file = true;	/* taken as slowly as its client likes */
	} else {
		answer = MHD_create_response_from_buffer(r->reply_body.n,
			(void *)(r->reply_body.n ? r->reply_body.p : ""), MHD_RESPMEM_PERSISTENT);
	}
	if (!answer)
		return MHD_NO;
	for (struct http_header *h = r->reply_headers; h; h = h->next)
		MHD_add_response_header(answer, h->name.p, h->value.p);
	enum MHD_Result queued = MHD_queue_response(x->connection, (unsigned)r->status, answer);
	MHD_destroy_response(answer);
	return queued;
}

static enum MHD_Result add_header(void *cls, enum MHD_ValueKind kind, const char *key, const char *value)
{
	struct http_request *r = cls;
	(void)kind;
	struct http_header *h = arena_new(r->arena, struct http_header);
	h->name = str_lower(r->arena, str_of(key));
	h->value = str_copy(r->arena, str_of(value ? value : ""));
	r->head_bytes += h->name.n + h->value.n + 4;
	h->next = r->headers;
	r->headers = h;
	return MHD_YES;
}

/* Called with the raw target before anything is unescaped; the exchange is born here. */
static void *on_target(void *cls, const char *target, struct MHD_Connection *connection)
{
	(void)cls;
	struct arena *arena = arena_make();
	struct exchange *x = arena_new(arena, struct exchange);
	struct http_request *r = &x->request;
	x->connection = connection;
	x->link = *(struct link **)MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
	x->link->since_us = clock_real_us();
	x->link->kept = false;		/* a head has begun */
	r->arena = arena;
	r->reply_fd = -1;
	r->started_us = x->link->since_us;
	r->target = str_copy(arena, str_of(target));
	r->query = r->target;
	r->path = str_cut(&r->query, '?');
	return x;
}

static void read_head(struct exchange *x, const char *method)
{
	struct http_request *r = &x->request;
	char text[64] = "";
	r->method = str_copy(r->arena, str_of(method));
	x->link->exchange = x;
	MHD_get_connection_values(x->connection, MHD_HEADER_KIND, add_header, r);
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(x->connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
	if (info)
		getnameinfo(info->client_addr, info->client_addr->sa_family == AF_INET6 ?
			sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in),
			text, sizeof text, NULL, 0, NI_NUMERICHOST);
	r->peer = str_copy(r->arena, str_of(text));
	if (http_header(r, "transfer-encoding").p)
		r->body_bytes = -1;
	else if (!str_int(http_header(r, "content-length"), &r->body_bytes))
		r->body_bytes = 0;
}

/* Hands bytes to the fiber, drops them when it has finished, or says "not now". */
static enum MHD_Result offer_body(struct exchange *x, const char *bytes, size_t *size)
{
	if (x->finished) {
		x->drained += (int64_t)*size;
		*size = 0;
		return x->drained > DRAIN_BYTES ? MHD_NO : MHD_YES;
	}
	if (!x->wants_body) {
		if (!x->suspended) {
			x->suspended = true;
			MHD_suspend_connection(x->connection);
		}
		return MHD_YES;
	}
	x->part = (struct str){ bytes, *size };
	x->received += (int64_t)*size;
	x->wants_body = false;
	fiber_wake(x->fiber);
	fiber_run_ready();	/* the bytes are only lent: the fiber uses them now */
	*size = 0;
	return MHD_YES;
}

static void exchange_start(void *argument)
{
	struct exchange *x = argument;
	x->fiber = fiber_current();
	run_exchange(x);
}

/* A stream lies open for hours: of its request no more is kept than the library needs to name it. */
static struct exchange *shrunk(struct exchange *x)
{
	struct exchange *small = must_alloc(sizeof *small);
	*small = (struct exchange){ .connection = x->connection, .link = x->link, .started = true, .finished = true, .file = true,
		.bare = true };
	small->request.reply_fd = -1;
	small->request.reply_stream_queued = true;
	small->request.method = STR("GET");
	x->link->exchange = small;
	arena_drop(x->request.arena);
	return small;
}

static enum MHD_Result on_access(void *cls, struct MHD_Connection *connection, const char *url,
	const char *method, const char *version, const char *bytes, size_t *size, void **con_cls)
{
	struct exchange *x = *con_cls;
	(void)cls, (void)url, (void)version;
	x->connection = connection;
	if (!x->request.method.p) {
		read_head(x, method);
		return MHD_YES;
	}
	if (!x->started) {
		x->started = true;
		open_requests++;
		fiber_spawn(exchange_start, x, false);
		fiber_run_ready();
	}
	if (*size)
		return offer_body(x, bytes, size);
	x->body_ended = true;
	if (x->wants_body) {
		x->wants_body = false;
		x->part.n = 0;
		fiber_wake(x->fiber);
		fiber_run_ready();
	}
	if (x->finished) {
		enum MHD_Result queued = send_answer(x);
		if (x->request.reply_stream_queued && queued == MHD_YES)
			*con_cls = shrunk(x);
		return queued;
	}
	x->suspended = true;
	MHD_suspend_connection(connection);
	return MHD_YES;
}

static void on_completed(void *cls, struct MHD_Connection *connection, void **con_cls,
	enum MHD_RequestTerminationCode why)
{
	struct exchange *x = *con_cls;
	(void)cls, (void)connection, (void)why;
	if (!x)
		return;
	*con_cls = NULL;
	x->link->exchange = NULL;
	x->link->kept = true;
	x->link->since_us = clock_real_us();
	if (x->bare) {
		free(x);
		return;
	}
	if (!x->started || x->finished) {
		if (x->request.reply_fd >= 0)
			close(x->request.reply_fd);
		if (x->request.reply_stream && !x->request.reply_stream_queued)
			http_stream_gone(x->request.reply_stream);
		arena_drop(x->request.arena);
		return;
	}
	x->gone = true;		/* the fiber still uses it and drops it at its end */
	x->suspended = false;
	if (x->wants_body) {
		x->wants_body = false;
		fiber_wake(x->fiber);
	}
}

static void on_connection(void *cls, struct MHD_Connection *connection, void **socket_cls,
	enum MHD_ConnectionNotificationCode code)
{
	(void)cls;
	struct link *l = *socket_cls;
	if (code == MHD_CONNECTION_NOTIFY_STARTED) {
		*socket_cls = l = must_alloc(sizeof *l);
		*l = (struct link){ .next = links, .at = &links, .since_us = clock_real_us(),
			.fd = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd };
		if (links)
			links->at = &l->next;
		links = l;
		metric_add(METRIC_http_connections, 1);
		return;
	}
	*l->at = l->next;
	if (l->next)
		l->next->at = l->at;
	free(l);
	metric_add(METRIC_http_connections, -1);
}

static bool too_slow(const struct link *l, int64_t now_us)
{
	const struct exchange *x = l->exchange;
	if (!x)		/* a head: since the connection came, or since the answer before plus what may lie between */
		return now_us - l->since_us > options.head_ms * US_PER_MS + (l->kept ? IDLE_TIMEOUT_S * US_PER_S : 0);
	if (x->finished)
		return x->request.reply_fd < 0 && !x->file && now_us - x->finished_us > ANSWER_US;
	int64_t late_us = now_us - x->request.started_us - options.body_ms * US_PER_MS;
	return x->wants_body && late_us > 0 && x->received < (options.body_ms / 1000 + late_us / US_PER_S) * SLOW_BYTES_S;
}

/* The library sees the end of the stream and closes. */
static void cut_slow(void)
{
	int64_t now_us = clock_real_us();
	for (struct link *l = links; l; l = l->next)
		if (too_slow(l, now_us)) {
			metric_add(METRIC_http_slow, 1);
			shutdown(l->fd, SHUT_RDWR);
		}
}

static void on_error(void *cls, const char *format, va_list ap)
{
	char text[300];
	(void)cls;
	vsnprintf(text, sizeof text, format, ap);
	log_line(LOG_DEBUG, "http", "detail", text, NULL);
}

int http_bind(const char *host, int port, int *ret_port)
{
	struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM,
		.ai_flags = AI_PASSIVE | AI_NUMERICHOST }, *list = NULL;
	char service[16];
	snprintf(service, sizeof service, "%d", port);
	if (getaddrinfo(*host ? host : NULL, service, &hints, &list) != 0) {
		errno = EINVAL;
		return -1;
	}
	int one = 1, fd = socket(list->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	struct sockaddr_storage at;
	socklen_t n = sizeof at;
	bool good = fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) == 0 &&
		setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one) == 0 &&
		bind(fd, list->ai_addr, list->ai_addrlen) == 0 &&
		getsockname(fd, (struct sockaddr *)&at, &n) == 0;
	freeaddrinfo(list);
	if (!good) {
		int why = errno;
		if (fd >= 0)
			close(fd);
		errno = why;
		return -1;
	}
	*ret_port = ntohs(at.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&at)->sin6_port
		: ((struct sockaddr_in *)&at)->sin_port);
	return fd;
}

static void on_readable(uv_poll_t *handle, int status, int events)
{
	(void)handle, (void)status, (void)events;
	run_wanted = true;
}

static void on_timer(uv_timer_t *timer) { (void)timer; run_wanted = true; }
static void on_idle(uv_idle_t *idle) { (void)idle; }

static bool turn(void)
{
	if (!run_wanted)
		return false;
	run_wanted = false;
	MHD_run(daemon_);
	return true;
}

static void before_sleep(void)
{
	MHD_UNSIGNED_LONG_LONG ms;
	bool busy = false;
	if (run_wanted)
		busy = true;
	else if (MHD_get_timeout(daemon_, &ms) != MHD_YES)
		uv_timer_stop(&timer_);
	else if (ms == 0)
		busy = run_wanted = true;
	else
		uv_timer_start(&timer_, on_timer, ms, 0);
	if (busy)
		uv_idle_start(&idle_, on_idle);
	else
		uv_idle_stop(&idle_);
}

void http_serve(int fd, void (*handle)(struct http_request *))
{
	handle_request = handle;
	if (listen(fd, 1024) != 0)
		die("cannot listen: %s", strerror(errno));
	struct MHD_OptionItem tls[] = { { MHD_OPTION_HTTPS_MEM_CERT, 0, (void *)(uintptr_t)options.certificate },
		{ MHD_OPTION_HTTPS_MEM_KEY, 0, (void *)(uintptr_t)options.key },
		{ MHD_OPTION_HTTPS_PRIORITIES, 0, (void *)(uintptr_t)"NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2" }, { MHD_OPTION_END, 0, NULL } };
	if (!options.certificate)
		tls[0].option = MHD_OPTION_END;
	daemon_ = MHD_start_daemon(MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG |
		(options.certificate ? MHD_USE_TLS : 0), 0, NULL, NULL,
		on_access, NULL,
		MHD_OPTION_EXTERNAL_LOGGER, on_error, NULL,
		MHD_OPTION_LISTEN_SOCKET, fd,
		MHD_OPTION_CONNECTION_MEMORY_LIMIT, POOL_BYTES,
		MHD_OPTION_CONNECTION_LIMIT, MAX_CONNECTIONS,
		MHD_OPTION_CONNECTION_TIMEOUT, IDLE_TIMEOUT_S,
		MHD_OPTION_URI_LOG_CALLBACK, on_target, NULL,
		MHD_OPTION_NOTIFY_COMPLETED, on_completed, NULL,
		MHD_OPTION_NOTIFY_CONNECTION, on_connection, NULL,
		MHD_OPTION_ARRAY, tls,
		MHD_OPTION_END);
	if (!daemon_)
		die("the HTTP server does not start%s", options.certificate ? "; are certificate and key a pair?" : "");
	int epoll = MHD_get_daemon_info(daemon_, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;
	uv_poll_init(loop_uv(), &poll_, epoll);
	uv_poll_start(&poll_, UV_READABLE, on_readable);
	uv_timer_init(loop_uv(), &timer_);
	uv_idle_init(loop_uv(), &idle_);
	loop_every_ms(options.head_ms < 4000 ? options.head_ms / 4 + 1 : 1000, cut_slow);
	loop_on_turn(turn);
	loop_on_flush(before_sleep);
	run_wanted = true;
}

void http_turn_soon(void) { run_wanted = true; }
int64_t http_open_requests(void) { return open_requests; }

void http_stop_accepting(void)
{
	MHD_socket fd = MHD_quiesce_daemon(daemon_);
	if (fd != MHD_INVALID_SOCKET)
		close(fd);
}

void http_stop(void)
{
	uv_poll_stop(&poll_);
	http_stream_end_all();	/* the library must not be stopped with a resting connection */
	MHD_run(daemon_);
	MHD_stop_daemon(daemon_);
}
