/* The HTTP server: libmicrohttpd on our loop, one fiber a request. The fiber starts when the
 * head is read and pulls the body itself, so a credential is judged before a body is buffered.
 * Malformed heads and chunks get libmicrohttpd's own answer and the connection closes. */
#ifndef TL_HTTP_H
#define TL_HTTP_H

#include "../0_base/fault.h"

struct http_header {
	struct http_header *next;
	struct str name, value;		/* name lower-cased */
};

struct http_request {
	struct arena *arena;		/* lives until the answer is sent */
	struct str method, target, path, query;	/* raw; path and query still escaped */
	struct str peer;		/* textual address */
	struct http_header *headers;
	int64_t body_bytes;		/* Content-Length; -1 = chunked; 0 = none */
	size_t head_bytes;
	int64_t started_us;		/* real clock */
	/* the answer, set by the handler */
	int status;
	struct http_header *reply_headers;
	struct str reply_body;		/* in the arena */
	int reply_fd;			/* >= 0: a file instead of reply_body; closed by the server */
	int64_t reply_offset, reply_length;
	struct http_stream *reply_stream;
	bool reply_stream_queued;	/* the library has it, and says when it is gone */
	bool reply_break;		/* answer nothing: the connection is cut (the sandbox's faults) */
};

/* First value of a header, name in lower case; STR_NULL when absent. */
struct str http_header(const struct http_request *request, const char *name);

/* The whole body, at most `max` bytes: FAULT_PAYLOAD_TOO_LARGE past it, FAULT_IO when the
 * client went away. */
enum fault http_read_body(struct http_request *request, size_t max, struct str *ret_body) MUST_CHECK;
/* The next part, as it comes; n == 0 at the end. Valid until the next call. */
enum fault http_read_part(struct http_request *request, struct str *ret_part) MUST_CHECK;

void http_reply_header(struct http_request *request, const char *name, struct str value);
void http_reply(struct http_request *request, int status, const char *type, struct str body);

/* An answer without an end: the handler makes it and returns; whoever keeps it writes until it is gone. It holds no fiber and, while
 * there is nothing to send, no buffer. A client that has left is found when something is written. */
struct http_stream;
struct http_stream *http_reply_stream(struct http_request *request, int status, const char *type, void (*gone)(void *owner), void *owner);
void http_stream_write(struct http_stream *stream, struct str bytes);
size_t http_stream_waiting(const struct http_stream *stream);	/* bytes that the client has not taken yet */
bool http_stream_left(const struct http_stream *stream);	/* has the client closed its side? */
void http_stream_end(struct http_stream *stream);		/* closes after what was written; gone() follows */

/* How long heads and bodies may take (real time); PEM texts of certificate chain and key, NULL = no TLS. Before http_serve. */
struct http_options {
	int64_t head_ms, body_ms;
	const char *certificate, *key;
};
void http_configure(const struct http_options *options);

/* A bound socket (SO_REUSEPORT) on HOST:PORT, port 0 = any; *ret_port tells which. It does not
 * listen: workers do. -1 with errno on failure. */
int http_bind(const char *host, int port, int *ret_port);
/* Serves on `fd` from now on; `handle` runs on a fiber and leaves an answer in the request. */
void http_serve(int fd, void (*handle)(struct http_request *));
void http_stop_accepting(void);
int64_t http_open_requests(void);
void http_stop(void);

#endif
