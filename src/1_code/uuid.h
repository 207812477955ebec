/* UUIDs (RFC 9562): version 7, time-ordered by the business clock, lower-case text. */
#ifndef TL_UUID_H
#define TL_UUID_H

#include "../0_base/str.h"

struct str uuid_make(struct arena *arena);
struct str uuid_text(struct arena *arena, const unsigned char bytes[16]);
bool uuid_valid(struct str text);	/* 8-4-4-4-12 lower- or upper-case hexadecimal */
void random_bytes(void *out, size_t n);	/* cryptographic; never fails (the process dies) */

#endif
