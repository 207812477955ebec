/* Token issuers we trust (setting oidc_issuers) and their public keys. Keys are cached for ten minutes; an unknown
 * key id asks again, at most once in 30 s; while the issuer is down a cached set serves for 24 h. Nothing else
 * is ever asked of an identity provider (OpenID Connect Discovery 1.0, RFC 7517). */
#ifndef TL_ISSUERS_H
#define TL_ISSUERS_H

#include "../0_base/fault.h"
#include "../1_code/json.h"
#include "../1_code/jwt.h"

struct issuer {
	struct str name;		/* `iss`, exact */
	struct str jwks_url;		/* NULL: found by discovery */
	struct str agency_id;		/* good for this agency only; NULL = for any */
	json_t *audiences, *azp;	/* lists of strings; azp NULL = not looked at */
	json_t *claims, *roles;		/* our names to theirs; their role values to ours */
	struct jwt_keys *keys;		/* NULL until fetched */
	uint64_t generation;		/* changes with the keys: signatures verified before are judged anew */
	struct arena *arena;		/* of the keys */
	struct str text;
	int64_t fetched_us, tried_us;
	bool busy;
};

/* Reads the setting; a problem ends the program. The development issuer is added when it is on. */
void issuers_open(void);
struct issuer *issuer_find(struct str name);	/* NULL = not trusted */
/* Keys good enough for a token with this key id (NULL = any). Waits when they must be fetched.
 * FAULT_UNAVAILABLE, reason issuer_unreachable, when there are none to be had. */
enum fault issuer_refresh(struct issuer *issuer, struct str kid) MUST_CHECK;

/* A claim by our name for it (subject, client, agency, role, email, email_verified, name), which the issuer's own
 * `claims` may rename: a member of that very name, else a dotted path. NULL when absent. */
json_t *issuer_claim(const struct issuer *issuer, const json_t *claims, const char *name);

#endif
