/* Doors to the database. Holding a struct tx is proof that the tenant is set: nothing else sends
 * a statement. A read tx makes each call one segment on a shared connection; a write tx owns a
 * connection from begin to commit or abort. Statements queued with the _later functions travel
 * with the next one that waits. */
#ifndef TL_TENANT_H
#define TL_TENANT_H

#include "../0_base/fault.h"
#include "../2_io/pg.h"

/* Who acts for whom; made from a verified principal or from a job's row, never from input. */
struct scope {
	struct str agency_id, client_id;	/* client NULL = the whole agency */
	struct str user_id, key_id;		/* NULL for jobs */
	struct str request_id;
	struct str source;			/* address and agent of a write, a line each; for the audit */
};

enum door { DOOR_CLIENT, DOOR_AGENCY, DOOR_SYSTEM };

struct tx {
	enum door door;
	struct scope scope;
	struct arena *arena;
	struct pg_conn *conn;		/* NULL: a read tx */
	struct pg_step steps[8];	/* queued by a read tx */
	size_t queued;
	struct rows entered;		/* what the door told: limits */
	bool open, wakes_jobs;
	enum fault (*first_answer)(void *context);	/* runs once after the first round trip */
	void *context;
};

void tenant_read(struct tx *tx, struct arena *arena, const struct scope *scope);
enum fault tenant_begin(struct tx *tx, struct arena *arena, const struct scope *scope) MUST_CHECK;
/* The system door: claiming jobs, provider events before their client is known, the vault. */
void system_read(struct tx *tx, struct arena *arena);
enum fault system_begin(struct tx *tx, struct arena *arena) MUST_CHECK;

/* Commits with all that is queued; OK means it is durable. Ends the tx either way. */
enum fault tx_commit(struct tx *tx) MUST_CHECK;
void tx_abort(struct tx *tx);	/* harmless on an ended or read tx */

/* For the functions that tools/sql2c makes. A failed statement aborts a write tx at once. */
enum fault tx_run(struct tx *tx, const struct pg_step *step) MUST_CHECK;
void tx_queue(struct tx *tx, const struct pg_step *step);
struct str tx_text(struct tx *tx, struct str value);
struct arena *tx_arena(struct tx *tx);
int64_t tx_round_trips(const struct tx *tx);

/* conninfo of each door; statements of every slice, NULL-terminated lists ended by NULL. */
void tenant_open(const char *client_door, const char *agency_door, const char *system_door,
	const struct sql *const *const *statement_lists, int write_connections);
const struct sql *const *tenant_statements(void);

/* Called when a door has opened, with what it told in tx->entered. */
void tenant_on_enter(void (*hear)(const struct tx *tx));
void tenant_on_jobs(void (*wake)(void));	/* called after a commit that made jobs */

#endif
