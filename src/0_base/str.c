/* Text helpers without a home elsewhere. */
#include "str.h"
#include "die.h"
#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>

struct str str_copy(struct arena *arena, struct str text)
{
	if (!text.p)
		return STR_NULL;
	char *p = arena_alloc(arena, text.n + 1);
	if (text.n)
		memcpy(p, text.p, text.n);
	return (struct str){ p, text.n };
}

struct str str_format(struct arena *arena, const char *format, ...)
{
	char small[512];
	va_list ap, again;
	va_start(ap, format);
	va_copy(again, ap);
	int n = vsnprintf(small, sizeof small, format, ap);
	va_end(ap);
	bug_unless(n >= 0);
	char *p = arena_alloc(arena, (size_t)n + 1);
	if ((size_t)n < sizeof small)
		memcpy(p, small, (size_t)n);
	else
		vsnprintf(p, (size_t)n + 1, format, again);
	va_end(again);
	return (struct str){ p, (size_t)n };
}

struct str str_lower(struct arena *arena, struct str text)
{
	char *p = arena_alloc(arena, text.n + 1);
	for (size_t i = 0; i < text.n; i++)
		p[i] = (char)tolower((unsigned char)text.p[i]);
	return (struct str){ p, text.n };
}

struct str str_trim(struct str t)
{
	while (t.n && (t.p[0] == ' ' || t.p[0] == '\t'))
		t.p++, t.n--;
	while (t.n && (t.p[t.n - 1] == ' ' || t.p[t.n - 1] == '\t'))
		t.n--;
	return t;
}

struct str str_cut(struct str *rest, char mark)
{
	const char *at = rest->n ? memchr(rest->p, mark, rest->n) : NULL;
	struct str head = *rest;
	if (!at) {
		*rest = (struct str){ rest->p + rest->n, 0 };
		return head;
	}
	head.n = (size_t)(at - rest->p);
	*rest = (struct str){ at + 1, rest->n - head.n - 1 };
	return head;
}

bool str_int(struct str t, int64_t *ret_value)
{
	bool minus = t.n && t.p[0] == '-';
	int64_t v = 0;
	size_t i = minus || (t.n && t.p[0] == '+');
	if (i == t.n)
		return false;
	for (; i < t.n; i++) {
		if (t.p[i] < '0' || t.p[i] > '9')
			return false;
		int digit = t.p[i] - '0';
		if (__builtin_mul_overflow(v, 10, &v) ||
		    (minus ? __builtin_sub_overflow(v, digit, &v) : __builtin_add_overflow(v, digit, &v)))
			return false;
	}
	*ret_value = v;
	return true;
}

bool str_utf8(struct str t)
{
	const unsigned char *p = (const unsigned char *)t.p, *end = p + t.n;
	while (p < end) {
		unsigned c = *p++;
		if (c < 0x80)
			continue;
		int more = c >= 0xC2 && c <= 0xDF ? 1 : c >= 0xE0 && c <= 0xEF ? 2
			: c >= 0xF0 && c <= 0xF4 ? 3 : -1;
		if (more < 0 || end - p < more)
			return false;
		unsigned low = c == 0xE0 ? 0xA0 : c == 0xF0 ? 0x90 : 0x80;
		unsigned high = c == 0xED ? 0x9F : c == 0xF4 ? 0x8F : 0xBF;
		if (p[0] < low || p[0] > high)
			return false;
		for (int i = 1; i < more; i++)
			if (p[i] < 0x80 || p[i] > 0xBF)
				return false;
		p += more;
	}
	return true;
}

size_t str_chars(struct str t)
{
	size_t n = 0;
	for (size_t i = 0; i < t.n; i++)
		n += ((unsigned char)t.p[i] & 0xC0) != 0x80;
	return n;
}

uint64_t str_hash(struct str t)
{
	uint64_t h = 0xcbf29ce484222325u;
	for (size_t i = 0; i < t.n; i++)
		h = (h ^ (unsigned char)t.p[i]) * 0x100000001b3u;
	return h;
}

struct str str_clip(struct str text, size_t most)
{
	if (text.n <= most)
		return text;
	while (most && ((unsigned char)text.p[most] & 0xC0) == 0x80)
		most--;
	return (struct str){ text.p, most };
}
