/* Between http.c and http_stream.c alone. */
#ifndef TL_HTTP_STREAM_H
#define TL_HTTP_STREAM_H

#include <microhttpd.h>

struct http_stream;
void http_turn_soon(void);	/* the library has something to do */
struct MHD_Response *http_stream_answer(struct http_stream *stream, struct MHD_Connection *connection);
void http_stream_gone(void *stream);
void http_stream_end_all(void);

#endif
