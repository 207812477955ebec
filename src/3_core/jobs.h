/* The job engine. A job is a row born in the caller's transaction; it may run twice, so its body
 * must be able to meet its own half-finished self. Its finishing statement travels in the body's
 * last transaction and names the generation it was claimed with. */
#ifndef TL_JOBS_H
#define TL_JOBS_H

#include "tenant.h"
#include "../1_code/json.h"

struct job {
	struct arena *arena;
	struct str id, kind, resource_id;
	json_t *payload;
	struct scope scope;		/* of the row that caused it; client may be NULL */
	int64_t attempts, generation;
	bool ended;			/* finished, parked or retried by its body */
	struct str answer;		/* for whoever waits for it; of effect_ask */
	int64_t again_us;		/* how long to wait before the next try; 0 = the engine's own pause */
};

struct job_kind {
	const char *name, *queue;
	enum fault (*run)(struct job *job);	/* a fault puts the job back, after `tries` it is dead */
	int tries;
};

/* NULL-ended lists of kinds, each ended by a NULL name. */
void jobs_open(const struct job_kind *const *kind_lists);
void jobs_start(void);		/* claiming, renewing leases */
void jobs_drain(void);		/* claim nothing more; call jobs_running until it is 0 */
int64_t jobs_running(void);
void jobs_wake(void);
void jobs_release_all(void);	/* hands back the leases of what still runs; on a fiber */

struct job_order {
	const char *kind;
	struct str resource_id, payload;	/* payload: JSON object, NULL = {} */
	const char *resource_type;
	int64_t run_at_us;			/* 0 = now */
	struct str dedupe;			/* NULL = none */
};

/* Queues the insert in `tx`; gives the new id. */
struct str job_add(struct tx *tx, const struct job_order *order);
/* Born running and leased to this process: after the commit the caller must job_run_here. */
struct str job_add_here(struct tx *tx, const struct job_order *order);
/* Runs it on a fiber of its own and waits at most `wait_ms`; false when it is still running then. With `arena`, *ret_answer is
 * what the job left in job->answer, or NULL. */
bool job_run_here(struct str id, const struct job_order *order, const struct scope *scope, int64_t wait_ms, struct arena *arena,
	struct str *ret_answer);

/* Endings, queued in the body's last transaction; then tx_commit. */
void job_done(struct job *job, struct tx *tx);
void job_fail(struct job *job, struct tx *tx, const char *error);
/* Notes how far it has come, before the next effect outside; a stale job fails the transaction. */
void job_note(struct job *job, struct tx *tx, struct str payload);
/* Parks until business time `run_at_us` with a new payload (NULL = the old one). */
void job_park(struct job *job, struct tx *tx, int64_t run_at_us, struct str payload);
/* Payload of a periodic look that found nothing to look after: a jump of the virtual clock does not stop for it on the way. */
#define JOB_IDLE STR("{\"idle\":true}")

#endif
