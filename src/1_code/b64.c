/* Base64 and hexadecimal. */
#include "b64.h"

static const char std64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
static const char url64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static struct str write64(struct arena *arena, struct str in, const char *alphabet, bool pad)
{
	char *out = arena_alloc(arena, (in.n + 2) / 3 * 4 + 1);
	const unsigned char *p = (const unsigned char *)in.p;
	size_t n = 0, i = 0;
	for (; i + 2 < in.n; i += 3) {
		unsigned v = (unsigned)p[i] << 16 | (unsigned)p[i + 1] << 8 | p[i + 2];
		out[n++] = alphabet[v >> 18];
		out[n++] = alphabet[v >> 12 & 63];
		out[n++] = alphabet[v >> 6 & 63];
		out[n++] = alphabet[v & 63];
	}
	if (i < in.n) {
		unsigned v = (unsigned)p[i] << 16 | (i + 1 < in.n ? (unsigned)p[i + 1] << 8 : 0);
		out[n++] = alphabet[v >> 18];
		out[n++] = alphabet[v >> 12 & 63];
		if (i + 1 < in.n)
			out[n++] = alphabet[v >> 6 & 63];
		else if (pad)
			out[n++] = '=';
		if (pad)
			out[n++] = '=';
	}
	return (struct str){ out, n };
}

struct str b64_write(struct arena *arena, struct str bytes) { return write64(arena, bytes, std64, true); }
struct str b64url_write(struct arena *arena, struct str bytes) { return write64(arena, bytes, url64, false); }

static int digit64(char c)
{
	return c >= 'A' && c <= 'Z' ? c - 'A' : c >= 'a' && c <= 'z' ? c - 'a' + 26
		: c >= '0' && c <= '9' ? c - '0' + 52 : c == '+' || c == '-' ? 62
		: c == '/' || c == '_' ? 63 : -1;
}

bool b64_read(struct arena *arena, struct str text, struct str *ret_bytes)
{
	while (text.n && text.p[text.n - 1] == '=')
		text.n--;
	if (text.n % 4 == 1)
		return false;
	unsigned char *out = arena_alloc(arena, text.n * 3 / 4 + 1);
	size_t n = 0;
	unsigned v = 0;
	int bits = 0;
	for (size_t i = 0; i < text.n; i++) {
		int d = digit64(text.p[i]);
		if (d < 0)
			return false;
		v = v << 6 | (unsigned)d;
		bits += 6;
		if (bits >= 8) {
			bits -= 8;
			out[n++] = (unsigned char)(v >> bits);
			v &= (1u << bits) - 1;
		}
	}
	*ret_bytes = (struct str){ (char *)out, n };
	return true;
}

struct str hex_write(struct arena *arena, struct str in)
{
	static const char digits[] = "0123456789abcdef";
	char *out = arena_alloc(arena, in.n * 2 + 1);
	for (size_t i = 0; i < in.n; i++) {
		out[2 * i] = digits[(unsigned char)in.p[i] >> 4];
		out[2 * i + 1] = digits[(unsigned char)in.p[i] & 15];
	}
	return (struct str){ out, in.n * 2 };
}

static int digit16(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10
		: c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

bool hex_read(struct arena *arena, struct str text, struct str *ret_bytes)
{
	if (text.n % 2)
		return false;
	char *out = arena_alloc(arena, text.n / 2 + 1);
	for (size_t i = 0; i < text.n; i += 2) {
		int high = digit16(text.p[i]), low = digit16(text.p[i + 1]);
		if (high < 0 || low < 0)
			return false;
		out[i / 2] = (char)(high << 4 | low);
	}
	*ret_bytes = (struct str){ out, text.n / 2 };
	return true;
}
