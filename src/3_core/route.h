/* Route rows: one each, read by router, checks, OpenAPI, documentation and test coverage. */
#ifndef TL_ROUTE_H
#define TL_ROUTE_H

#include "req.h"

enum route_flag {
	ROUTE_OPEN = 1,		/* no credential */
	ROUTE_RAW = 2,		/* with ROUTE_OPEN: the handler reads the body and answers by itself, no envelope on success */
	ROUTE_AGENCY = 4,	/* agency_admin without a client may write here */
	ROUTE_LIST = 8,		/* answers a list of `out` */
	ROUTE_FREE = 16,	/* not charged by any rate limit */
	ROUTE_TEST = 32,	/* exists under --test-clock only */
	ROUTE_LATER = 128,	/* may answer 202 */
	ROUTE_ASYNC = 64,	/* honours Prefer: respond-async, may answer 202 */
};

struct route {
	const char *method, *path;	/* path with {id} parts */
	unsigned roles;			/* any of; 0 with ROUTE_OPEN */
	const char *scope;		/* "<area>:read" or ":write"; NULL with ROUTE_OPEN */
	enum fault (*handle)(struct req *req);
	const struct shape *in;		/* body; NULL = none is read */
	size_t in_bytes;		/* sizeof the struct the shape fills */
	const struct shape *out;
	int status;			/* of success */
	unsigned flags;
	size_t body_max;		/* 0 = 1 MiB */
	const char *query;		/* comma list of query parameters, for documentation */
	const char *summary;
	const char *media;		/* what a success is, when it is no JSON: a comma list of media types; the handler replies by itself */
};

/* Ends with method NULL. Lists end with NULL. */
void dispatch_open(const struct route *const *route_lists);
void dispatch(struct http_request *request);
const struct route *const *dispatch_routes(void);

void dispatch_drain(void);	/* answer 503 from now on */
bool dispatch_draining(void);

/* OpenAPI 3.1 of all routes, and the pages made from it. */
struct str openapi_json(struct arena *arena);
struct str openapi_page(struct arena *arena);
struct str openapi_errors_page(struct arena *arena);

#endif
