/* JSON Web Tokens: compact JWS (RFC 7515, 7519) with EdDSA, ES256 or RS256, keys as JWK sets
 * (RFC 7517, 8037). Nothing else is accepted: not "none", not HMAC. */
#ifndef TL_JWT_H
#define TL_JWT_H

#include "json.h"

struct jwt_keys;	/* a parsed JWK set; keys of unknown kind are skipped */

struct jwt_keys *jwt_keys_read(struct arena *arena, const json_t *jwk_set);
bool jwt_keys_know(const struct jwt_keys *keys, struct str kid);

/* Splits and decodes without trust: for finding issuer and key id. False when malformed. */
bool jwt_peek(struct arena *arena, struct str token, json_t **ret_header, json_t **ret_claims);
/* Signature only; claims are the caller's to judge. The key's type decides the algorithm and
 * the header must agree (no key confusion). */
bool jwt_signed_by(struct arena *arena, struct str token, const json_t *header, const struct jwt_keys *keys);

/* A token signed with an Ed25519 seed; `claims` is a JSON object as text. */
struct str jwt_make(struct arena *arena, struct str seed, struct str kid, struct str claims);
/* {"keys":[...]} with the one public key of `seed`. */
struct str jwt_key_set(struct arena *arena, struct str seed, struct str kid);

#endif
