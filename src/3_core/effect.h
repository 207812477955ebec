/* A request whose effect lies at a provider (contract 1.8): the row commits in its transitional status together with the job and the
 * event, the job runs in this process, and the request waits for it as long as the route may. Then the row answers: synced is the
 * route's own status, pending 202 with the job's id, failed 502. The row says which in its column sync_status. */
#ifndef TL_EFFECT_H
#define TL_EFFECT_H

#include "jobs.h"
#include "req.h"

struct effect {
	const char *kind;	/* of the job */
	const char *resource;	/* "agent": events and details name agent_id */
	const char *title;	/* for people, after "No such " */
	const char *provider;	/* named in a 502 */
	const struct shape *shape;
	enum fault (*get)(struct tx *tx, struct str id, struct rows *ret_row);
	bool looks;		/* the job knows the payload look: true, so a read may say refresh=true */
};

/* Commits what is queued in req->tx. `row` as it is now; payload NULL = {}; event NULL = none. */
enum fault effect_run(struct req *req, const struct effect *effect, struct str id, const struct rows *row, struct str payload,
	const char *event, struct str event_data, int status) MUST_CHECK;

/* The single read of such a resource. */
enum fault effect_get(struct req *req, const struct effect *effect) MUST_CHECK;
/* `refresh=true` on a read: the provider is asked by a job soon; this answer is what we know. `push`: the job kind that can look, or NULL
 * where what is under way has a job of its own that looks. */
enum fault effect_refresh(struct req *req, const char *push, const char *resource, const struct rows *rows) MUST_CHECK;
void effect_location(struct req *req, const char *path, struct str id);

/* A question to somebody outside that leaves nothing behind: a job whose answer is handed over in memory. *ret_answer NULL p = it
 * took longer than the route may wait: FAULT_UNAVAILABLE with Retry-After. Commits req->tx; the handler ends with req_finish. */
enum fault effect_ask(struct req *req, const char *kind, const char *resource, struct str id, struct str payload,
	struct str *ret_answer) MUST_CHECK;

#endif
