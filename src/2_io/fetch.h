/* Outgoing HTTP by libcurl's multi interface on the loop; the calling fiber waits. One total
 * deadline covers names, connecting, sending and the whole body; the body is capped after
 * decompression; redirects are never followed; the address that was checked is the one used. */
#ifndef TL_FETCH_H
#define TL_FETCH_H

#include "../0_base/fault.h"

struct fetch_header {
	const char *name;
	struct str value;
};

struct fetch {
	const char *method;
	struct str url;
	const struct fetch_header *headers;
	size_t header_count;
	struct str body;
	bool public_only;		/* refuse any address that is not public */
	int64_t timeout_ms;		/* real time, total */
	size_t most_bytes;		/* of the answer; more is FAULT_IO, for a taker FAULT_PAYLOAD_TOO_LARGE */
	/* Where a 2xx body goes, part by part, instead of memory: called on the waiting fiber, which may wait; the other side is held
	 * back meanwhile and may look at `status`. A fault ends the transfer. Other answers stay in memory, 64 KiB of them. */
	enum fault (*take)(void *context, struct str part);
	void *context;
	bool cut;			/* keep the first most_bytes instead and stop reading */
	/* the answer */
	int status;
	struct str answer;		/* in the arena */
	struct str content_type;
	struct str location, etag;
	int64_t answer_bytes;		/* what Content-Length says, also of a HEAD; -1 = not said */
	int retry_after_s;		/* -1 = not said; a date is turned into seconds */
	bool sent;			/* the request may have reached the other side */
};

/* OK = an answer with any status. FAULT_CONNECT: nothing was sent. FAULT_TIMEOUT, FAULT_IO:
 * unknown unless `sent` is false. FAULT_FORBIDDEN: the address may not be called. */
enum fault fetch_run(struct arena *arena, struct fetch *fetch) MUST_CHECK;

/* Our own server behind TLS: URLs that begin with one of `origins` (comma list) are known by this very certificate, whatever
 * name it bears; all others by the system's authorities. */
void fetch_trust_own(const char *origins, const char *certificate_file);

/* Seconds from a Retry-After value (RFC 9110 10.2.3), -1 when unreadable. */
int fetch_retry_after(struct str value, int64_t now_s);

#endif
