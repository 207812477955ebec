/* Address blocks, IPv4 and IPv6, as "10.0.0.0/8" or a single address (RFC 4632, RFC 4291 2.3). */
#ifndef TL_CIDR_H
#define TL_CIDR_H

#include "../0_base/str.h"

bool cidr_valid(struct str block);
/* Is `address` in one of the blocks of a comma list? IPv4 mapped into IPv6 counts as IPv4. */
bool cidr_listed(struct str blocks, struct str address);

#endif
