/* Who asks: bearer tokens of trusted issuers. Only the signature is cached, never the right. */
#ifndef TL_AUTH_H
#define TL_AUTH_H

#include "req.h"

#define DEV_ISSUER "trunkline-dev"
#define DEV_AUDIENCE "trunkline"

/* Fills req->who from the Authorization header. FAULT_UNAUTHORIZED with details.reason. */
enum fault auth_check(struct req *req) MUST_CHECK;
/* req->scope from the principal and x-client-id, as the contract's table says. */
enum fault auth_scope(struct req *req) MUST_CHECK;
/* First sight of a subject: makes its users row. */
enum fault auth_first_sight(struct req *req) MUST_CHECK;

/* The development issuer. */
struct str auth_dev_token(struct arena *arena, const struct principal *who, int64_t ttl_s);
struct str auth_dev_keys(struct arena *arena);	/* JWK set */

#endif
