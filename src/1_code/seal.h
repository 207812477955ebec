/* Sealing at rest: AES-256-GCM (NIST SP 800-38D) with a random 96-bit nonce and a context that
 * must match on opening (which client, which row), so that a sealed value cannot be moved.
 * Form: version byte, key version byte, nonce 12, ciphertext, tag 16. */
#ifndef TL_SEAL_H
#define TL_SEAL_H

#include "../0_base/fault.h"

#define SEAL_KEY_BYTES 32

struct str seal_close(struct arena *arena, struct str key, int key_version, struct str context, struct str plain);
int seal_key_version(struct str sealed);	/* 0 when it is nothing we sealed */
bool seal_open(struct arena *arena, struct str key, struct str context, struct str sealed,
	struct str *ret_plain) MUST_CHECK;

#endif
