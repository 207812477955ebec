/* A growing byte buffer with a ceiling. With an arena its bytes live there; without one they
 * are the buffer's own and buf_fini frees them. Past `max` it keeps what it had, refuses more
 * and remembers that in `full`, so a writer checks once at the end. */
#ifndef TL_BUF_H
#define TL_BUF_H

#include "str.h"

struct buf {
	char *p;
	size_t n, cap, max;
	struct arena *arena;
	bool full;
};

#define BUF_IN(a, ceiling) ((struct buf){ .arena = (a), .max = (ceiling) })

void buf_add(struct buf *buf, const void *bytes, size_t n);
void buf_str(struct buf *buf, struct str text);
void buf_text(struct buf *buf, const char *text);
void buf_char(struct buf *buf, char c);
void buf_int(struct buf *buf, int64_t value);
void buf_format(struct buf *buf, const char *format, ...) __attribute__((format(printf, 2, 3)));
void buf_json(struct buf *buf, struct str text);	/* a JSON string, quotes included; NULL -> null */
void buf_fini(struct buf *buf);

static inline struct str buf_view(const struct buf *buf)
{
	return (struct str){ buf->p ? buf->p : "", buf->n };
}

#endif
