/* Who asks: a bearer token of a trusted issuer or a platform key. Signatures are remembered; what a user or key may
 * is read from its row again after five seconds at most, and its being alive is asked by every transaction. */
#ifndef TL_AUTH_H
#define TL_AUTH_H

#include "req.h"

#define DEV_ISSUER "trunkline-dev"
#define DEV_AUDIENCE "trunkline"

/* Fills req->who from the Authorization header. FAULT_UNAUTHORIZED with details.reason; FAULT_FORBIDDEN, reason
 * no_tenant, for a good token that belongs to nobody here. */
enum fault auth_check(struct req *req) MUST_CHECK;
/* req->scope from the principal and x-client-id, as the contract's table says. */
enum fault auth_scope(struct req *req) MUST_CHECK;
/* May this principal use a route of these roles and this scope? FAULT_FORBIDDEN, reason role or scope. */
enum fault auth_allows(const struct req *req, unsigned roles, const char *scope) MUST_CHECK;
#define SCOPE_ANY "*:read"	/* of a route that every credential may use */
bool auth_scope_held(const struct principal *who, const char *scope);

/* A platform key: tl_live_ or tl_test_, 16 hexadecimal digits that find the row, 64 of secret. */
struct platform_key {
	struct str text, prefix, hash;	/* shown once; stored; stored: SHA-256 of the secret */
};
struct platform_key auth_make_key(struct arena *arena, bool test);

/* The development issuer. */
struct str auth_dev_token(struct arena *arena, const struct principal *who, int64_t ttl_s);
struct str auth_dev_keys(struct arena *arena);	/* JWK set */

#endif
