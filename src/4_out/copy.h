/* The provider's copy of one of our rows: an agent, a tool, a knowledge base, a voice. Made once: it bears our id in its name, the
 * creation is noted before it is sent, and after any doubt the provider's list is asked before another is sent. Changed and taken
 * away freely, because those may be repeated. A copy that the provider has lost is made again only when a person asked (sync). */
#ifndef TL_COPY_H
#define TL_COPY_H

#include "voice_provider.h"
#include "../3_core/jobs.h"

struct copy {
	struct job *job;
	const struct copy_kind *kind;
	struct rows row;		/* of `load` */
	struct voice_account account;
	struct str provider_id;		/* NULL until it has one */
	int64_t revision;
	struct str reference;		/* what its name there begins with: our id, shortened where names are */
	bool ready;			/* for a kind that is not usable when accepted: is it? */
	bool lost;			/* the provider no longer knows it */
	bool posted;			/* a creation was sent and its answer is not known */
	struct str posted_credential;	/* to this account */
};

struct copy_kind {
	const char *path, *id_field;	/* "/api/tools", "toolId" */
	const char *change;		/* PATCH or PUT */
	size_t name_most;		/* characters of a name there */
	const char *search;		/* a list to look for our id in, which is appended; NULL = all of path, page by page */
	/* One row with at least mode, provider_id, credential_id, revision, deleted_at. */
	enum fault (*load)(struct tx *tx, struct str id, struct rows *ret_row);
	/* What is sent; may wait. FAULT_PROVIDER_ERROR: cannot be said to this provider, and so fails. `fresh`: a creation. */
	enum fault (*body)(struct copy *copy, bool fresh, struct str *ret_body);
	/* The creation, if it is more than a POST of the body as JSON. */
	enum fault (*create)(struct copy *copy, struct voice_answer *ret_answer);
	/* What the row learns, queued in the job's last transaction. The job ends there unless the hook has parked it. */
	void (*pushed)(struct copy *copy, struct tx *tx);
	void (*failed)(struct copy *copy, struct tx *tx, struct str why);
	/* After the provider has let go of a deleted one; may be NULL. */
	enum fault (*gone)(struct copy *copy);
};

/* The job. One at a time for a row (copy_claims). Payload: {}, repair: true (make a lost one again) or look: true (only see
 * whether it is there). */
enum fault copy_push(struct job *job, const struct copy_kind *kind) MUST_CHECK;
/* Ends the job with the row's failure. */
enum fault copy_failed(struct copy *copy, struct str why) MUST_CHECK;
/* "<reference> <name>", as much of it as fits. */
struct str copy_name(const struct copy *copy, struct str name);

#endif
