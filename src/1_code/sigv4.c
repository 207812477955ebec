/* SigV4: canonical request, string to sign, derived key. */
#include "sigv4.h"
#include "b64.h"
#include "sign.h"
#include "url.h"
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define MAX_PAIRS 128

struct pair {
	struct str name, value;
};

static int by_name(const void *a, const void *b)
{
	const struct pair *x = a, *y = b;
	size_t n = x->name.n < y->name.n ? x->name.n : y->name.n;
	int c = memcmp(x->name.p, y->name.p, n);
	if (c == 0)
		c = (x->name.n > y->name.n) - (x->name.n < y->name.n);
	if (c)
		return c;
	n = x->value.n < y->value.n ? x->value.n : y->value.n;
	c = memcmp(x->value.p, y->value.p, n);
	return c ? c : (x->value.n > y->value.n) - (x->value.n < y->value.n);
}

struct str sigv4_date(struct arena *arena, int64_t at_s)
{
	time_t t = (time_t)at_s;
	struct tm tm;
	gmtime_r(&t, &tm);
	char text[32];
	size_t n = strftime(text, sizeof text, "%Y%m%dT%H%M%SZ", &tm);
	return str_copy(arena, (struct str){ text, n });
}

/* Sorted, escaped again from their plain form, without the signature itself. */
static void canonical_query(struct arena *arena, struct buf *out, struct str query)
{
	struct pair pairs[MAX_PAIRS];
	size_t count = 0;
	while (query.n && count < MAX_PAIRS) {
		struct str value = str_cut(&query, '&'), name = str_cut(&value, '='), plain;
		struct buf n = BUF_IN(arena, 65536), v = BUF_IN(arena, 65536);
		if (!url_unescape(arena, name, false, &plain) || str_is(plain, "X-Amz-Signature"))
			continue;
		url_escape(&n, plain, false);
		if (url_unescape(arena, value, false, &plain))
			url_escape(&v, plain, false);
		pairs[count++] = (struct pair){ buf_view(&n), buf_view(&v) };
	}
	qsort(pairs, count, sizeof *pairs, by_name);
	for (size_t i = 0; i < count; i++) {
		if (i)
			buf_char(out, '&');
		buf_str(out, pairs[i].name);
		buf_char(out, '=');
		buf_str(out, pairs[i].value);
	}
}

static struct str header_value(const struct sigv4_request *r, struct str name)
{
	for (size_t i = 0; i < r->header_count; i++)
		if (str_eq(r->headers[i].name, name))
			return str_trim(r->headers[i].value);
	return str_is(name, "host") ? r->host : STR_NULL;
}

static struct str signature(struct arena *arena, const struct sigv4_key *key,
	const struct sigv4_request *r, struct str date, struct str signed_headers, struct str query)
{
	const char *service = r->service ? r->service : "s3";
	struct buf c = BUF_IN(arena, 1 << 20);
	buf_str(&c, r->method);
	buf_char(&c, '\n');
	url_escape(&c, r->path, true);
	buf_char(&c, '\n');
	canonical_query(arena, &c, query);
	buf_char(&c, '\n');
	struct str names = signed_headers;
	while (names.n) {
		struct str name = str_cut(&names, ';');
		buf_str(&c, name);
		buf_char(&c, ':');
		buf_str(&c, header_value(r, name));
		buf_char(&c, '\n');
	}
	buf_char(&c, '\n');
	buf_str(&c, signed_headers);
	buf_char(&c, '\n');
	buf_str(&c, r->payload_hash);

	struct str hash = hex_write(arena, sign_sha256(arena, buf_view(&c)));
	struct str to_sign = str_format(arena, "AWS4-HMAC-SHA256\n%.*s\n%.8s/%.*s/%s/aws4_request\n%.*s",
		STRF(date), date.p, STRF(key->region), service, STRF(hash));
	struct str k = str_format(arena, "AWS4%.*s", STRF(key->secret));
	k = sign_hmac(arena, k, (struct str){ date.p, 8 });
	k = sign_hmac(arena, k, key->region);
	k = sign_hmac(arena, k, str_of(service));
	k = sign_hmac(arena, k, STR("aws4_request"));
	return hex_write(arena, sign_hmac(arena, k, to_sign));
}

struct str sigv4_presign(struct arena *arena, const struct sigv4_key *key,
	const struct sigv4_request *r, int64_t now_s, int expires_s)
{
	struct str date = sigv4_date(arena, now_s);
	struct buf names = BUF_IN(arena, 4096), q = BUF_IN(arena, 16384);
	bool host_put = false;
	for (size_t i = 0; i < r->header_count; i++) {	/* callers give them sorted */
		if (!host_put && strncmp(r->headers[i].name.p, "host", 4) > 0) {
			buf_text(&names, "host;");
			host_put = true;
		}
		buf_str(&names, r->headers[i].name);
		buf_char(&names, ';');
	}
	if (!host_put)
		buf_text(&names, "host;");
	struct str signed_headers = { names.p, names.n - 1 };
	if (r->query.n) {
		buf_str(&q, r->query);
		buf_char(&q, '&');
	}
	buf_text(&q, "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=");
	url_escape(&q, str_format(arena, "%.*s/%.8s/%.*s/%s/aws4_request", STRF(key->id), date.p,
		STRF(key->region), r->service ? r->service : "s3"), false);
	buf_format(&q, "&X-Amz-Date=%.*s&X-Amz-Expires=%d&X-Amz-SignedHeaders=", STRF(date), expires_s);
	url_escape(&q, signed_headers, false);
	struct str mac = signature(arena, key, r, date, signed_headers, buf_view(&q));
	buf_text(&q, "&X-Amz-Signature=");
	buf_str(&q, mac);
	return buf_view(&q);
}

struct str sigv4_authorization(struct arena *arena, const struct sigv4_key *key,
	const struct sigv4_request *r, struct str date)
{
	struct pair names[MAX_PAIRS];
	size_t n = r->header_count < MAX_PAIRS ? r->header_count : MAX_PAIRS;
	for (size_t i = 0; i < n; i++)
		names[i] = (struct pair){ r->headers[i].name, STR_NULL };
	qsort(names, n, sizeof *names, by_name);
	struct buf list = BUF_IN(arena, 8192);
	for (size_t i = 0; i < n; i++) {
		if (i)
			buf_char(&list, ';');
		buf_str(&list, names[i].name);
	}
	struct str mac = signature(arena, key, r, date, buf_view(&list), r->query);
	return str_format(arena, "AWS4-HMAC-SHA256 Credential=%.*s/%.8s/%.*s/%s/aws4_request, "
		"SignedHeaders=%.*s, Signature=%.*s", STRF(key->id), date.p, STRF(key->region),
		r->service ? r->service : "s3", STRF(buf_view(&list)), STRF(mac));
}

/* Seconds since 1970 of 20261122T143315Z; -1 when malformed. */
static int64_t date_read(struct str t)
{
	struct tm tm = { 0 };
	char text[17];
	if (t.n != 16)
		return -1;
	memcpy(text, t.p, 16);
	text[16] = 0;
	const char *end = strptime(text, "%Y%m%dT%H%M%SZ", &tm);
	return end && !*end ? timegm(&tm) : -1;
}

/* The part of "Name=value, ..." in an Authorization header. */
static struct str auth_part(struct str header, const char *name)
{
	struct str rest = str_from(header, strlen("AWS4-HMAC-SHA256 "));
	while (rest.n) {
		struct str value = str_trim(str_cut(&rest, ',')), key = str_cut(&value, '=');
		if (str_is(key, name))
			return value;
	}
	return STR_NULL;
}

static bool covers(struct str signed_headers, const char *name)
{
	while (signed_headers.n)
		if (str_is(str_cut(&signed_headers, ';'), name))
			return true;
	return false;
}

const char *sigv4_check(struct arena *arena, const struct sigv4_key *key,
	const struct sigv4_request *r, int64_t now_s)
{
	struct str header = header_value(r, STR("authorization"));
	struct str credential, date, names, mac;
	int64_t expires = 900;
	bool presigned = !header.p;
	if (!presigned) {
		if (!str_starts(header, "AWS4-HMAC-SHA256 "))
			return "AccessDenied";
		credential = auth_part(header, "Credential");
		names = auth_part(header, "SignedHeaders");
		mac = auth_part(header, "Signature");
		date = header_value(r, STR("x-amz-date"));
	} else {
		if (!str_is(url_query(arena, r->query, "X-Amz-Algorithm"), "AWS4-HMAC-SHA256"))
			return "AccessDenied";
		credential = url_query(arena, r->query, "X-Amz-Credential");
		names = url_query(arena, r->query, "X-Amz-SignedHeaders");
		mac = url_query(arena, r->query, "X-Amz-Signature");
		date = url_query(arena, r->query, "X-Amz-Date");
		if (!str_int(url_query(arena, r->query, "X-Amz-Expires"), &expires) || expires < 1 || expires > 604800)
			return "AuthorizationQueryParametersError";
	}
	int64_t at = date_read(date);
	if (!credential.p || !names.p || !mac.p || at < 0)
		return "AccessDenied";
	struct str scope = str_format(arena, "%.*s/%.8s/%.*s/%s/aws4_request", STRF(key->id), date.p,
		STRF(key->region), r->service ? r->service : "s3");
	if (!str_eq(credential, scope))
		return "InvalidAccessKeyId";
	if (at > now_s + 900 || now_s > at + expires)
		return presigned ? "AccessDenied" : "RequestTimeTooSkewed";
	if (!covers(names, "host"))
		return "AccessDenied";
	for (size_t i = 0; i < r->header_count; i++)	/* x-amz-* that arrive must be signed */
		if (str_starts(r->headers[i].name, "x-amz-") && !covers(names, r->headers[i].name.p) &&
		    !presigned)
			return "AccessDenied";
	struct str good = signature(arena, key, r, date, names, r->query);
	return sign_same(good, mac) ? NULL : "SignatureDoesNotMatch";
}
