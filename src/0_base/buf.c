/* The growing buffer and the JSON string writer that every answer and log line goes through. */
#include "buf.h"
#include "die.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static bool buf_room(struct buf *b, size_t more)
{
	if (b->full || more > b->max || b->n > b->max - more) {
		b->full = true;
		return false;
	}
	if (b->cap - b->n > more)	/* one byte stays for a NUL */
		return true;
	size_t cap = b->cap ? b->cap : 256;
	while (cap - b->n <= more)
		cap *= 2;
	if (b->arena) {
		char *fresh = arena_alloc(b->arena, cap);
		if (b->n)
			memcpy(fresh, b->p, b->n);
		b->p = fresh;
	} else {
		b->p = must_grow(b->p, cap);
	}
	b->cap = cap;
	return true;
}

void buf_add(struct buf *b, const void *bytes, size_t n)
{
	if (!buf_room(b, n))
		return;
	if (n)
		memcpy(b->p + b->n, bytes, n);
	b->n += n;
	b->p[b->n] = 0;
}

void buf_str(struct buf *b, struct str text) { buf_add(b, text.p, text.n); }
void buf_text(struct buf *b, const char *text) { buf_add(b, text, strlen(text)); }
void buf_char(struct buf *b, char c) { buf_add(b, &c, 1); }

void buf_int(struct buf *b, int64_t value)
{
	char text[24], *p = text + sizeof text;
	uint64_t v = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
	do
		*--p = (char)('0' + v % 10);
	while (v /= 10);
	if (value < 0)
		*--p = '-';
	buf_add(b, p, (size_t)(text + sizeof text - p));
}

void buf_format(struct buf *b, const char *format, ...)
{
	char small[256];
	va_list ap, again;
	va_start(ap, format);
	va_copy(again, ap);
	int n = vsnprintf(small, sizeof small, format, ap);
	va_end(ap);
	bug_unless(n >= 0);
	if ((size_t)n < sizeof small) {
		buf_add(b, small, (size_t)n);
	} else if (buf_room(b, (size_t)n)) {
		vsnprintf(b->p + b->n, (size_t)n + 1, format, again);
		b->n += (size_t)n;
	}
	va_end(again);
}

void buf_json(struct buf *b, struct str text)
{
	if (!text.p) {
		buf_text(b, "null");
		return;
	}
	buf_char(b, '"');
	size_t start = 0;
	for (size_t i = 0; i < text.n; i++) {
		unsigned char c = (unsigned char)text.p[i];
		if (c >= 0x20 && c != '"' && c != '\\')
			continue;
		buf_add(b, text.p + start, i - start);
		start = i + 1;
		const char *known = c == '"' ? "\\\"" : c == '\\' ? "\\\\" : c == '\n' ? "\\n"
			: c == '\r' ? "\\r" : c == '\t' ? "\\t" : NULL;
		if (known)
			buf_text(b, known);
		else
			buf_format(b, "\\u%04x", c);
	}
	buf_add(b, text.p + start, text.n - start);
	buf_char(b, '"');
}

void buf_fini(struct buf *b)
{
	if (!b->arena)
		free(b->p);
	*b = (struct buf){ .max = b->max, .arena = b->arena };
}
