/* What the night does with the day (02:00 UTC): daily sums, the proof of the ledger, holds that nothing will end; and, every few minutes,
 * the safety net under calls whose job was lost. */
#include "insight.h"
#include "stats.sql.h"
#include "../../0_base/clock.h"
#include "../../0_base/log.h"
#include "../../2_io/shared.h"

#define DAY_US (86400 * US_PER_S)
#define AT_US (2 * 3600 * US_PER_S)
#define DAYS_BACK 6		/* a bill may come three days late, an unknown call be settled after one */
#define NET_US (60 * US_PER_S)
#define BATCH 1000

enum fault analytics_nightly(struct job *job)
{
	struct rows usage, holds, proof;
	struct tx tx;
	int64_t today_us = clock_now_us() / DAY_US * DAY_US;
	char from[CLOCK_TEXT_BYTES], to[CLOCK_TEXT_BYTES];
	TRY(system_begin(&tx, job->arena));
	nightly_usage_later(&tx, (struct nightly_usage){ .from = (struct str){ clock_text(today_us - DAYS_BACK * DAY_US, from), 10 },
		.to = (struct str){ clock_text(today_us, to), 10 } }, &usage);
	nightly_holds_later(&tx, (struct nightly_holds){ .most = BATCH }, &holds);
	TRY(nightly_proof(&tx, (struct nightly_proof){ 0 }, &proof));
	job_park(job, &tx, (clock_now_us() - AT_US >= today_us ? today_us + DAY_US : today_us) + AT_US, STR_NULL);
	TRY(tx_commit(&tx));
	for (int i = 0; i < proof.count; i++)
		log_line(LOG_ERROR, "ledger difference", "problem", pg_col(job->arena, &proof, i, "problem").p, "client_id",
			pg_col(job->arena, &proof, i, "client_id").p, "detail", pg_col(job->arena, &proof, i, "detail").p, NULL);
	metric_add(METRIC_ledger_differences, proof.count);
	return OK;
}

enum fault calls_net(struct job *job)
{
	struct rows n;
	struct tx tx;
	TRY(system_begin(&tx, job->arena));
	TRY(adrift(&tx, (struct adrift){ .most = BATCH }, &n));
	tx.wakes_jobs = pg_int(&n, 0, "n") > 0;
	job_park(job, &tx, (clock_now_us() / NET_US + 1) * NET_US, JOB_IDLE);
	return tx_commit(&tx);
}
