/* Digests, MACs and signatures, all by OpenSSL; comparisons in constant time. Results are raw
 * bytes in the arena. */
#ifndef TL_SIGN_H
#define TL_SIGN_H

#include "../0_base/str.h"

#define SHA256_BYTES 32
#define ED25519_BYTES 64

struct str sign_sha256(struct arena *arena, struct str bytes);
struct str sign_hmac(struct arena *arena, struct str key, struct str message);	/* HMAC-SHA256 */
/* The same in parts; the end frees it. */
struct sign_hash;
struct sign_hash *sign_hash_start(void);
void sign_hash_add(struct sign_hash *hash, struct str bytes);
struct str sign_hash_end(struct arena *arena, struct sign_hash *hash);
bool sign_same(struct str a, struct str b);	/* equal, in time that depends on the lengths only */

/* Ed25519 (RFC 8032) with raw 32-byte seed and public key. */
struct str sign_ed25519_public(struct arena *arena, struct str seed);
struct str sign_ed25519(struct arena *arena, struct str seed, struct str message);
bool sign_ed25519_check(struct str public_key, struct str message, struct str signature);

/* Standard Webhooks 1.0: "v1,<base64>" over id.timestamp.body; secret is "whsec_" + base64.
 * False when the secret is not of that form. */
bool sign_webhook(struct arena *arena, struct str secret, struct str id, struct str timestamp,
	struct str body, struct str *ret_signature);

#endif
