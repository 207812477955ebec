/* AWS Signature Version 4 for S3, path style: presigned queries and signed headers, both made
 * and checked (docs.aws.amazon.com "Signature Version 4 signing process", S3 variant: the path
 * is escaped once and not normalised). Times are seconds since 1970 UTC. */
#ifndef TL_SIGV4_H
#define TL_SIGV4_H

#include "../0_base/buf.h"

struct sigv4_key {
	struct str id, secret, region;
};

struct sigv4_header {
	struct str name, value;		/* lower-case name */
};

struct sigv4_request {
	struct str method, host, path, query;	/* path unescaped; query raw without '?' */
	const struct sigv4_header *headers;
	size_t header_count;
	struct str payload_hash;	/* hex, or "UNSIGNED-PAYLOAD" */
	const char *service;		/* NULL = "s3" */
};

/* Query with X-Amz-* and signature, no '?'. `expires_s` 1..604800. Host is signed. */
struct str sigv4_presign(struct arena *arena, const struct sigv4_key *key,
	const struct sigv4_request *request, int64_t now_s, int expires_s);

/* Value of Authorization; request->headers must hold host and x-amz-date, all get signed. */
struct str sigv4_authorization(struct arena *arena, const struct sigv4_key *key,
	const struct sigv4_request *request, struct str amz_date);

/* Checks a presigned query or an Authorization header (taken from request->headers) against
 * `key`. NULL when good, else what is wrong, in a word of S3's error codes. */
const char *sigv4_check(struct arena *arena, const struct sigv4_key *key,
	const struct sigv4_request *request, int64_t now_s);

struct str sigv4_date(struct arena *arena, int64_t at_s);	/* 20261122T143315Z */

#endif
