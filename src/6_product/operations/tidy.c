/* The hourly broom: what has outlived its keeping time goes, in batches, so that no table grows for ever. */
#include "operations.h"
#include "operations.sql.h"
#include "store.h"
#include "../../0_base/clock.h"
#include "../../2_io/file.h"
#include "../../3_core/config.h"
#include <fcntl.h>

#define BATCH 1000
#define HOUR_US (3600 * US_PER_S)

/* What a job left half done and never came back to. */
static enum fault sweep_files(struct arena *arena)
{
	struct str folder = str_format(arena, "%.*s/tmp", STRF(config.data)), names;
	TRY(file_list(arena, folder.p, &names));
	while (names.n) {
		struct str name = str_cut(&names, '\n'), path = str_format(arena, "%.*s/%.*s", STRF(folder), STRF(name));
		struct file_stat stat;
		int fd;
		if (file_open(path.p, O_RDONLY, &fd) != OK)
			continue;	/* gone meanwhile */
		enum fault fault = file_size(fd, &stat);
		file_close(fd);
		if (fault == OK && stat.modified_us < clock_now_us() - 86400 * US_PER_S)
			TRY(file_remove(path.p));
	}
	return OK;
}

static enum fault tidy(struct job *job)
{
	struct rows keys, jobs, inbound;
	struct tx tx;
	int64_t removed;
	TRY(multipart_sweep(job->arena));
	TRY(sweep_files(job->arena));
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
