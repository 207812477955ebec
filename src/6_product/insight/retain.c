/* Retention: every night at 03:30 UTC what has outlived its keeping time goes, a job a client, in batches. */
#include "privacy.h"
#include "privacy.sql.h"
#include "../../0_base/clock.h"

#define BATCH 500
#define DAY_US (86400 * US_PER_S)
#define AT_US ((3 * 3600 + 1800) * US_PER_S)
#define FIRST "00000000-0000-0000-0000-000000000000"

enum fault retention_nightly(struct job *job)
{
	struct str after = STR(FIRST);
	struct rows r;
	struct tx tx;
	int64_t now_us = clock_now_us(), next_us = now_us / DAY_US * DAY_US + AT_US;
	bool due = json_object_get(job->payload, "next");	/* born at the first start: only parks */
	while (due && after.p) {
		TRY(system_begin(&tx, job->arena));
		TRY(retain_start(&tx, (struct retain_start){ .after = after, .most = BATCH }, &r));
		after = pg_col(job->arena, &r, 0, "last");
		tx.wakes_jobs = true;
		TRY(tx_commit(&tx));
	}
	TRY(system_begin(&tx, job->arena));
	job_park(job, &tx, next_us > now_us ? next_us : next_us + DAY_US, STR("{\"next\":true}"));
	return tx_commit(&tx);
}

/* A page of rows whose objects go first; *ret_n tells how many. */
static enum fault sweep(struct job *job, struct rows *rows, void (*mark)(struct tx *tx, struct str ids))
{
	struct str ids;
	struct tx tx;
	if (!rows->count)
		return OK;
	TRY(privacy_drop_objects(job->arena, rows, &ids));
	TRY(tenant_begin(&tx, job->arena, &job->scope));
	mark(&tx, ids);
	return tx_commit(&tx);
}

static void mark_artifacts(struct tx *tx, struct str ids)
{
	retain_artifacts_gone_later(tx, (struct retain_artifacts_gone){ .ids = ids }, NULL);
}

/* What is masked here goes at the provider too. */
static void mark_calls(struct tx *tx, struct str ids)
{
	retain_mask_later(tx, (struct retain_mask){ .ids = ids }, NULL);
	retain_erase_later(tx, (struct retain_erase){ .ids = ids }, NULL);
	tx->wakes_jobs = true;
}

enum fault retention_client(struct job *job)
{
	struct rows rows, events, audit;
	struct tx tx;
	do {
		tenant_read(&tx, job->arena, &job->scope);
		TRY(retain_artifacts(&tx, (struct retain_artifacts){ .most = BATCH }, &rows));
		TRY(sweep(job, &rows, mark_artifacts));
	} while (rows.count == BATCH);
	do {
		tenant_read(&tx, job->arena, &job->scope);
		TRY(retain_calls(&tx, (struct retain_calls){ .most = BATCH }, &rows));
		TRY(sweep(job, &rows, mark_calls));
	} while (rows.count == BATCH);
	do {
		TRY(tenant_begin(&tx, job->arena, &job->scope));
		retain_audit_later(&tx, (struct retain_audit){ .most = BATCH }, &audit);
		TRY(retain_events(&tx, (struct retain_events){ .most = BATCH }, &events));
		TRY(tx_commit(&tx));
	} while (pg_int(&events, 0, "removed") == BATCH || pg_int(&audit, 0, "removed") == BATCH);
	TRY(tenant_begin(&tx, job->arena, &job->scope));
	retain_mark_later(&tx, (struct retain_mark){ 0 }, NULL);
	job_done(job, &tx);
	return tx_commit(&tx);
}
