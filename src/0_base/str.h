/* Text as pointer and length. A str never owns its bytes and may hold NUL bytes; those made by
 * str_copy, str_format and buf_str are NUL-terminated one past the end. p == NULL means absent
 * (SQL null, JSON null), which is not the same as empty. */
#ifndef TL_STR_H
#define TL_STR_H

#include "arena.h"
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

struct str {
	const char *p;
	size_t n;
};

#define STR(literal) ((struct str){ (literal), sizeof(literal) - 1 })
#define STR_NULL ((struct str){ NULL, 0 })
#define STRF(s) (int)(s).n, (s).p ? (s).p : ""	/* for "%.*s" */

static inline struct str str_of(const char *text)
{
	return (struct str){ text, text ? strlen(text) : 0 };
}

static inline bool str_eq(struct str a, struct str b)
{
	return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

static inline bool str_is(struct str a, const char *b)
{
	return str_eq(a, str_of(b));
}

static inline bool str_starts(struct str a, const char *prefix)
{
	size_t n = strlen(prefix);
	return a.n >= n && memcmp(a.p, prefix, n) == 0;
}

static inline bool str_ends(struct str a, const char *suffix)
{
	size_t n = strlen(suffix);
	return a.n >= n && memcmp(a.p + a.n - n, suffix, n) == 0;
}

static inline struct str str_from(struct str a, size_t start)
{
	return start >= a.n ? (struct str){ a.p + a.n, 0 } : (struct str){ a.p + start, a.n - start };
}

struct str str_copy(struct arena *arena, struct str text);
struct str str_format(struct arena *arena, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
struct str str_lower(struct arena *arena, struct str text);
struct str str_trim(struct str text);	/* blanks and tabs at both ends */

/* Cuts the part before the first `mark` off *rest and returns it; without a mark, all of it. */
struct str str_cut(struct str *rest, char mark);

/* Decimal, optional sign, nothing else, fits int64. */
bool str_int(struct str text, int64_t *ret_value);
struct str str_clip(struct str text, size_t most);	/* at most so many bytes, never within a UTF-8 character */
bool str_utf8(struct str text);		/* RFC 3629: no surrogates, no overlong forms */
size_t str_chars(struct str text);	/* code points of valid UTF-8 */
uint64_t str_hash(struct str text);	/* FNV-1a 64, for tables, not for secrets */

#endif
