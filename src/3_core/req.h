/* A request on its way: what arrived, who asks, what is answered. Handlers see only this. */
#ifndef TL_REQ_H
#define TL_REQ_H

#include "tenant.h"
#include "../1_code/shape.h"
#include "../2_io/http.h"

#define API "/api/v1"

enum role { ROLE_NONE, CLIENT_USER = 1, CLIENT_ADMIN = 2, AGENCY_ADMIN = 4 };
#define ROLE_R (CLIENT_USER | CLIENT_ADMIN | AGENCY_ADMIN)
#define ROLE_W (CLIENT_ADMIN | AGENCY_ADMIN)

struct principal {
	struct str issuer, subject, email, name;	/* of a key: issuer "key", subject its id */
	struct str user_id, key_id;		/* one of the two */
	struct str agency_id, client_id;	/* client NULL = the agency's own */
	struct str mode;			/* of the client: live or test */
	struct str scopes;			/* comma list of a key; NULL = all that the role may */
	enum role role;
	int64_t expires_us, not_before_us, seen_us;
};

struct req {
	struct http_request *http;
	struct arena *arena;
	const struct route *route;
	struct str request_id, trace_id;
	struct str ids[2];		/* path parameters in order */
	struct principal who;
	struct scope scope;
	struct str body;
	json_t *json;
	void *in;			/* decoded by the route's shape */
	uint64_t set;
	struct shape_warning *warnings;
	struct tx tx;			/* the write transaction; dispatch aborts what is left open */
	struct rows idem_rows;
	struct str idem_key, idem_fingerprint, idem_scope;
	bool idem_stored, respond_async;
	struct buf out;			/* the answer's body */
	struct buf meta;		/* extra members of meta: ,"k":v */
	int status;
	struct str rate_policy, rate_state;
};

enum role role_of(struct str name);
const char *role_name(enum role role);

/* The write transaction with the idempotency key judged on its first round trip. */
enum fault req_begin(struct req *req) MUST_CHECK;
/* For a transaction that has nothing to ask before its commit: waits for the key's judgement alone. */
enum fault req_judged(struct req *req) MUST_CHECK;
/* Commits the effect with the answer that stands in req->out as the key's record: final when the
 * request does not wait for a job, else provisional (a 202) for `lease_ms`. */
enum fault req_commit(struct req *req, bool provisional) MUST_CHECK;
/* After waiting: the answer in req->out replaces the provisional record. */
void req_finish(struct req *req);
void req_read(struct req *req, struct tx *ret_tx);	/* a read tx in the request's scope */

/* Writes refuse without a client: AA must name one by x-client-id. */
enum fault req_need_client(struct req *req) MUST_CHECK;

/* Did the body name this field with a value other than null? */
bool req_given(const struct req *req, const char *name);

/* Answers. They may be called again; the last one counts. */
void reply_row(struct req *req, int status, const struct shape *shape, const struct rows *rows, int row);
void reply_json(struct req *req, int status, struct str data);
void reply_list(struct req *req, const struct shape *shape, const struct rows *rows, int64_t limit, struct str filters);
void reply_meta(struct req *req, const char *name, struct str json);
void reply_fault(struct req *req, enum fault fault);
/* One row as JSON, without envelope. */
void row_json(struct buf *buf, struct arena *arena, const struct shape *shape, const struct rows *rows, int row);

/* Query parameters. */
struct str req_query(struct req *req, const char *name);

struct page {
	int64_t limit;
	struct str after_us, after_id;		/* decimal and UUID of the last row seen; NULL at the start */
	struct str created_after, created_before;
	struct str filters;			/* binds the cursor */
};
/* The parameters of a statement that sql2c made from a `list`; one row more than the page tells whether there is another. */
#define PAGE_OF(page) .created_after = (page).created_after, .created_before = (page).created_before, \
	.after_us = (page).after_us, .after_id = (page).after_id, .limit = (page).limit + 1
/* limit, cursor, created_after, created_before; `filters` names the query parameters of the list. */
enum fault req_page(struct req *req, const char *const *filters, struct page *ret_page) MUST_CHECK;
/* A comma list of enum values; unknown ones match nothing and warn. NULL when absent. */
struct str req_enum_filter(struct req *req, const char *name, const char *values);

#endif
