/* Answers without an end: resting connections that somebody writes to. */
#include "http.h"
#include "http_stream.h"
#include "../0_base/die.h"
#include <stdlib.h>
#include <sys/socket.h>

#define BLOCK_BYTES 128u

struct http_stream {
	struct http_stream *next, **at;
	struct MHD_Connection *connection;
	char *p;
	size_t n, sent;
	bool suspended, ended;
	void (*gone)(void *owner);
	void *owner;
};
static struct http_stream *streams;

struct http_stream *http_reply_stream(struct http_request *r, int status, const char *type, void (*gone)(void *owner), void *owner)
{
	struct http_stream *s = must_alloc(sizeof *s);
	*s = (struct http_stream){ .next = streams, .at = &streams, .gone = gone, .owner = owner };
	if (streams)
		streams->at = &s->next;
	streams = s;
	http_reply(r, status, type, STR(""));
	r->reply_stream = s;
	return s;
}

static void stream_wake(struct http_stream *s)
{
	if (s->suspended) {
		s->suspended = false;
		MHD_resume_connection(s->connection);
		http_turn_soon();
	}
}

void http_stream_write(struct http_stream *s, struct str bytes)
{
	s->p = must_grow(s->p, s->n + bytes.n);
	memcpy(s->p + s->n, bytes.p, bytes.n);
	s->n += bytes.n;
	stream_wake(s);
}

size_t http_stream_waiting(const struct http_stream *s) { return s->n - s->sent; }

bool http_stream_left(const struct http_stream *s)
{
	char byte;
	const union MHD_ConnectionInfo *info = s->connection ? MHD_get_connection_info(s->connection, MHD_CONNECTION_INFO_CONNECTION_FD) : NULL;
	return info && recv(info->connect_fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}

void http_stream_end(struct http_stream *s)
{
	s->ended = true;
	stream_wake(s);
}

/* The library asks for more. Nothing there: the connection rests until somebody writes. */
static ssize_t stream_read(void *cls, uint64_t position, char *out, size_t most)
{
	struct http_stream *s = cls;
	size_t n = s->n - s->sent < most ? s->n - s->sent : most;
	(void)position;
	if (n) {
		memcpy(out, s->p + s->sent, n);
		s->sent += n;
	}
	if (s->sent == s->n) {
		free(s->p);
		s->p = NULL;
		s->n = s->sent = 0;
	}
	if (n)
		return (ssize_t)n;
	if (s->ended)
		return MHD_CONTENT_READER_END_OF_STREAM;
	s->suspended = true;
	MHD_suspend_connection(s->connection);
	return 0;
}

void http_stream_gone(void *cls)
{
	struct http_stream *s = cls;
	*s->at = s->next;
	if (s->next)
		s->next->at = s->at;
	s->gone(s->owner);
	free(s->p);
	free(s);
}

struct MHD_Response *http_stream_answer(struct http_stream *s, struct MHD_Connection *connection)
{
	s->connection = connection;
	return MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, BLOCK_BYTES, stream_read, s, http_stream_gone);
}

void http_stream_end_all(void)
{
	for (struct http_stream *s = streams; s; s = s->next)
		http_stream_end(s);
}
