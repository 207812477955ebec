/* The hourly broom: what has outlived its keeping time goes, in batches, so that no table grows for ever. */
#include "operations.h"
#include "operations.sql.h"
#include "store.h"
#include "../../0_base/clock.h"

#define BATCH 1000
#define HOUR_US (3600 * US_PER_S)

static enum fault tidy(struct job *job)
{
	struct rows keys, jobs, inbound;
	struct tx tx;
	int64_t removed;
	TRY(multipart_sweep(job->arena));
	do {
		TRY(system_begin(&tx, job->arena));
		tidy_jobs_later(&tx, (struct tidy_jobs){ .most = BATCH }, &jobs);
		tidy_inbound_later(&tx, (struct tidy_inbound){ .most = BATCH }, &inbound);
		TRY(tidy_keys(&tx, (struct tidy_keys){ .most = BATCH }, &keys));
		removed = pg_int(&keys, 0, "removed");
		bool more = removed == BATCH || jobs.affected == BATCH || inbound.affected == BATCH;
		if (!more)
			job_park(job, &tx, (clock_now_us() / HOUR_US + 1) * HOUR_US, JOB_IDLE);
		TRY(tx_commit(&tx));
	} while (!job->ended);
	return OK;
}

const struct job_kind operations_jobs[] = {
	{ "operations.tidy", "q-artifacts-sync", tidy, 1000000 },
	{ 0 },
};
