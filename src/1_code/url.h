/* URLs as far as we use them (RFC 3986): scheme, host, port, path, query; percent coding; and
 * the special-purpose address ranges outgoing requests must not reach (RFC 6890 and IANA). */
#ifndef TL_URL_H
#define TL_URL_H

#include "../0_base/buf.h"

struct url {
	struct str scheme, host, path, query;	/* host without brackets; path begins with '/' */
	int port;
	bool user_info, ip6;
};

bool url_read(struct str text, struct url *ret_url);
void url_escape(struct buf *buf, struct str text, bool keep_slash);	/* RFC 3986 unreserved stay */
bool url_unescape(struct arena *arena, struct str text, bool plus_is_blank, struct str *ret_text);
/* Value of `name` in a query or form body, unescaped; STR_NULL when absent. */
struct str url_query(struct arena *arena, struct str query, const char *name);
bool url_address_public(struct str address);	/* textual IPv4 or IPv6 */

/* Who may be called: https on 443 or 8443 without user info, unless private egress is allowed. */
const char *url_egress_problem(const struct url *url, bool allow_private);	/* NULL = fine */

#endif
