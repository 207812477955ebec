/* URLs and public addresses. */
#include "url.h"
#include <arpa/inet.h>
#include <strings.h>

bool url_read(struct str t, struct url *u)
{
	*u = (struct url){ 0 };
	for (size_t i = 0; i < t.n; i++)
		if ((unsigned char)t.p[i] <= 0x20 || t.p[i] == 0x7f || t.p[i] == '\\')
			return false;
	size_t colon = 0;
	while (colon < t.n && t.p[colon] != ':')
		colon++;
	if (colon == 0 || t.n < colon + 4 || memcmp(t.p + colon, "://", 3) != 0)
		return false;
	u->scheme = (struct str){ t.p, colon };
	struct str rest = str_from(t, colon + 3), authority = rest;
	authority.n = 0;
	while (authority.n < rest.n && !strchr("/?#", rest.p[authority.n]))
		authority.n++;
	rest = str_from(rest, authority.n);
	const char *at = memchr(authority.p, '@', authority.n);
	if (at) {
		u->user_info = true;
		authority = str_from(authority, (size_t)(at - authority.p) + 1);
	}
	bool https = u->scheme.n == 5 && strncasecmp(u->scheme.p, "https", 5) == 0;
	bool http = u->scheme.n == 4 && strncasecmp(u->scheme.p, "http", 4) == 0;
	if (!https && !http)
		return false;
	u->scheme = https ? STR("https") : STR("http");
	u->port = https ? 443 : 80;
	if (authority.n && authority.p[0] == '[') {
		const char *close = memchr(authority.p, ']', authority.n);
		if (!close)
			return false;
		u->ip6 = true;
		u->host = (struct str){ authority.p + 1, (size_t)(close - authority.p) - 1 };
		authority = str_from(authority, (size_t)(close - authority.p) + 1);
	} else {
		u->host = authority;
		u->host.n = 0;
		while (u->host.n < authority.n && authority.p[u->host.n] != ':')
			u->host.n++;
		authority = str_from(authority, u->host.n);
	}
	if (authority.n) {
		int64_t port;
		if (authority.p[0] != ':' || !str_int(str_from(authority, 1), &port) || port < 1 || port > 65535)
			return false;
		u->port = (int)port;
	}
	if (!u->host.n || u->host.n > 253)
		return false;
	struct str query = rest, path;
	const char *hash = query.n ? memchr(query.p, '#', query.n) : NULL;
	if (hash)
		query.n = (size_t)(hash - query.p);
	path = str_cut(&query, '?');
	u->path = path.n ? path : STR("/");
	u->query = query;
	return true;
}

static bool unreserved(char c)
{
	return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
		c == '-' || c == '.' || c == '_' || c == '~';
}

void url_escape(struct buf *b, struct str t, bool keep_slash)
{
	for (size_t i = 0; i < t.n; i++)
		if (unreserved(t.p[i]) || (keep_slash && t.p[i] == '/'))
			buf_char(b, t.p[i]);
		else
			buf_format(b, "%%%02X", (unsigned char)t.p[i]);
}

static int hex(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10
		: c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

bool url_unescape(struct arena *arena, struct str t, bool plus, struct str *ret_text)
{
	char *out = arena_alloc(arena, t.n + 1);
	size_t n = 0;
	for (size_t i = 0; i < t.n; i++) {
		if (t.p[i] != '%') {
			out[n++] = plus && t.p[i] == '+' ? ' ' : t.p[i];
			continue;
		}
		if (t.n - i < 3 || hex(t.p[i + 1]) < 0 || hex(t.p[i + 2]) < 0)
			return false;
		out[n] = (char)(hex(t.p[i + 1]) << 4 | hex(t.p[i + 2]));
		if (!out[n++])
			return false;
		i += 2;
	}
	*ret_text = (struct str){ out, n };
	return true;
}

struct str url_query(struct arena *arena, struct str query, const char *name)
{
	while (query.n) {
		struct str value = str_cut(&query, '&'), key = str_cut(&value, '='), plain;
		if (url_unescape(arena, key, true, &plain) && str_is(plain, name) &&
		    url_unescape(arena, value, true, &plain))
			return plain;
	}
	return STR_NULL;
}

struct range {
	unsigned char bytes[16];
	int bits;
};

static bool within(const unsigned char *address, const struct range *r)
{
	int whole = r->bits / 8, rest = r->bits % 8;
	return memcmp(address, r->bytes, (size_t)whole) == 0 &&
		(rest == 0 || (address[whole] ^ r->bytes[whole]) >> (8 - rest) == 0);
}

static bool public4(const unsigned char *a)
{
	static const struct range special[] = {
		{ { 0 }, 8 }, { { 10 }, 8 }, { { 100, 64 }, 10 }, { { 127 }, 8 }, { { 169, 254 }, 16 },
		{ { 172, 16 }, 12 }, { { 192, 0, 0 }, 24 }, { { 192, 0, 2 }, 24 }, { { 192, 88, 99 }, 24 },
		{ { 192, 168 }, 16 }, { { 198, 18 }, 15 }, { { 198, 51, 100 }, 24 }, { { 203, 0, 113 }, 24 },
		{ { 224 }, 4 }, { { 240 }, 4 },
	};
	for (size_t i = 0; i < sizeof special / sizeof *special; i++)
		if (within(a, &special[i]))
			return false;
	return true;
}

static bool public6(const unsigned char *a)
{
	static const struct range special[] = {
		{ { 0x01, 0x00 }, 64 }, { { 0x20, 0x01, 0x0d, 0xb8 }, 32 }, { { 0x20, 0x01, 0x00 }, 23 },
		{ { 0x3f, 0xff }, 20 }, { { 0x5f, 0x00 }, 16 }, { { 0xfc }, 7 }, { { 0xfe, 0x80 }, 10 },
		{ { 0xfe, 0xc0 }, 10 }, { { 0xff }, 8 },
	};
	static const unsigned char zero[12];
	static const unsigned char mapped[12] = { [10] = 0xff, [11] = 0xff };
	static const unsigned char nat64[12] = { 0x00, 0x64, 0xff, 0x9b };
	if (memcmp(a, mapped, 12) == 0 || memcmp(a, nat64, 12) == 0)
		return public4(a + 12);
	if (memcmp(a, zero, 12) == 0)	/* ::, ::1 and the old compatible form */
		return false;
	if (a[0] == 0x20 && a[1] == 0x02)	/* 6to4 carries its IPv4 address */
		return public4(a + 2);
	if (memcmp(a, nat64, 4) == 0)	/* local-use translation 64:ff9b:1::/48 */
		return false;
	for (size_t i = 0; i < sizeof special / sizeof *special; i++)
		if (within(a, &special[i]))
			return false;
	return true;
}

bool url_address_public(struct str address)
{
	char text[64];
	unsigned char raw[16];
	if (address.n >= sizeof text)
		return false;
	memcpy(text, address.p, address.n);
	text[address.n] = 0;
	if (inet_pton(AF_INET, text, raw) == 1)
		return public4(raw);
	return inet_pton(AF_INET6, text, raw) == 1 && public6(raw);
}

const char *url_egress_problem(const struct url *u, bool allow_private)
{
	if (u->user_info)
		return "must not carry user info";
	if (allow_private)
		return NULL;
	if (!str_is(u->scheme, "https"))
		return "must be https";
	if (u->port != 443 && u->port != 8443)
		return "must use port 443 or 8443";
	char last = u->host.p[u->host.n - 1];
	bool literal = u->ip6 || (last >= '0' && last <= '9');
	if (str_is(u->host, "localhost") || (literal && !url_address_public(u->host)))
		return "must be a public address";
	return NULL;
}
