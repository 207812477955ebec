/* Version 7 identifiers: 48 bits of milliseconds, then random. */
#include "uuid.h"
#include "../0_base/clock.h"
#include "../0_base/die.h"
#include <sys/random.h>

void random_bytes(void *out, size_t n)
{
	static unsigned char pool[4096];
	static size_t left;
	unsigned char *p = out;
	while (n) {
		if (!left) {
			if (getrandom(pool, sizeof pool, 0) != (ssize_t)sizeof pool)
				bug("getrandom");
			left = sizeof pool;
		}
		size_t part = n < left ? n : left;
		memcpy(p, pool + sizeof pool - left, part);
		memset(pool + sizeof pool - left, 0, part);
		p += part, n -= part, left -= part;
	}
}

struct str uuid_text(struct arena *arena, const unsigned char b[16])
{
	static const char digits[] = "0123456789abcdef";
	char *p = arena_alloc(arena, 37), *q = p;
	for (int i = 0; i < 16; i++) {
		if (i == 4 || i == 6 || i == 8 || i == 10)
			*q++ = '-';
		*q++ = digits[b[i] >> 4];
		*q++ = digits[b[i] & 15];
	}
	return (struct str){ p, 36 };
}

struct str uuid_make(struct arena *arena)
{
	unsigned char b[16];
	uint64_t ms = (uint64_t)(clock_now_us() / US_PER_MS);
	random_bytes(b, sizeof b);
	for (int i = 0; i < 6; i++)
		b[i] = (unsigned char)(ms >> (40 - 8 * i));
	b[6] = (unsigned char)(0x70 | (b[6] & 0x0f));
	b[8] = (unsigned char)(0x80 | (b[8] & 0x3f));
	return uuid_text(arena, b);
}

bool uuid_valid(struct str t)
{
	if (t.n != 36)
		return false;
	for (size_t i = 0; i < 36; i++) {
		char c = t.p[i];
		bool dash = i == 8 || i == 13 || i == 18 || i == 23;
		if (dash ? c != '-' : !((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F')))
			return false;
	}
	return true;
}
