/* Base64 (RFC 4648, standard and URL-safe) and hexadecimal. */
#ifndef TL_B64_H
#define TL_B64_H

#include "../0_base/buf.h"

struct str b64_write(struct arena *arena, struct str bytes);		/* '+', '/', padded */
struct str b64url_write(struct arena *arena, struct str bytes);	/* '-', '_', no padding */

/* Accepts either alphabet, padding optional; false on any other byte or impossible length. */
bool b64_read(struct arena *arena, struct str text, struct str *ret_bytes);

struct str hex_write(struct arena *arena, struct str bytes);	/* lower case */
bool hex_read(struct arena *arena, struct str text, struct str *ret_bytes);

#endif
