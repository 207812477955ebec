/* Names to addresses by c-ares on the loop; the calling fiber waits. */
#ifndef TL_DNS_H
#define TL_DNS_H

#include "../0_base/fault.h"

#define DNS_MOST 16

/* Textual addresses, IPv4 first. FAULT_CONNECT when the name has none. Literals pass through. */
enum fault dns_lookup(struct arena *arena, struct str host, struct str ret_addresses[DNS_MOST],
	size_t *ret_count) MUST_CHECK;

#endif
