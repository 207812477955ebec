/* An export: pages of rows into a file of ours, then the file into the object store, so that memory stays flat however
 * much is kept. */
#include "privacy.h"
#include "privacy.sql.h"
#include "../../1_code/json.h"
#include "../../2_io/file.h"
#include "../../3_core/config.h"
#include "../../3_core/events.h"
#include "../../4_out/objects.h"
#include <fcntl.h>

#define PAGE 200
#define FIRST "00000000-0000-0000-0000-000000000000"

static const char *const tables[] = { "client", "users", "agents", "voices", "tools", "knowledge_bases", "phone_numbers",
	"api_keys", "webhooks", "calls", "events", "credit_transactions",
	"audit" };

static enum fault write_table(struct job *job, int fd, const char *table, struct str type, struct str value)
{
	char after[40] = FIRST;
	bool first = true;
	for (int n = PAGE; n == PAGE; first = false) {
		struct arena *page = arena_make();
		struct rows rows;
		struct tx tx;
		tenant_read(&tx, page, &job->scope);
		enum fault fault = export_next(&tx, (struct export_next){ .table = str_of(table), .type = type, .value = value,
			.after = str_of(after), .most = PAGE }, &rows);
		struct buf b = BUF_IN(page, (size_t)64 << 20);
		if (fault == OK && first)
			buf_format(&b, "\"%s\":[", table);
		for (int i = 0; fault == OK && i < rows.count; i++) {
			buf_text(&b, first && !i ? "\n" : ",\n");
			buf_str(&b, pg_col(page, &rows, i, "doc"));
		}
		n = fault == OK ? rows.count : 0;
		if (n)
			memcpy(after, pg_col(page, &rows, n - 1, "id").p, 36);
		if (n < PAGE)
			buf_text(&b, "]");
		if (fault == OK)
			fault = b.full ? fault_raise(FAULT_INTERNAL_ERROR, "A page of the export is too large") : file_write(fd, buf_view(&b));
		arena_drop(page);
		TRY(fault);
	}
	return OK;
}

static enum fault write_all(struct job *job, int fd, struct str type, struct str value)
{
	TRY(file_write(fd, str_format(job->arena, "{\"version\":1,\"subject\":{\"type\":\"%.*s\"},", STRF(type))));
	for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) {
		if (i)
			TRY(file_write(fd, STR(",\n")));
		TRY(write_table(job, fd, tables[i], type, value));
	}
	return file_write(fd, STR("}\n"));
}

enum fault privacy_export(struct job *job)
{
	struct rows r;
	struct file_stat stat;
	struct tx tx;
	int fd;
	tenant_read(&tx, job->arena, &job->scope);
	TRY(privacy_load(&tx, (struct privacy_load){ .id = job->resource_id }, &r));
	if (!r.count || str_is(pg_col(job->arena, &r, 0, "status"), "done"))
		return OK;
	struct str path = str_format(job->arena, "%.*s/tmp/export-%.*s.json", STRF(config.data), STRF(job->resource_id));
	TRY(file_make_folders(job->arena, path.p));
	TRY(file_open(path.p, O_WRONLY | O_CREAT | O_TRUNC, &fd));
	enum fault fault = write_all(job, fd, pg_col(job->arena, &r, 0, "subject_type"), pg_col(job->arena, &r, 0, "subject_value"));
	if (fault == OK)
		fault = file_size(fd, &stat);
	file_close(fd);
	struct str key = str_format(job->arena, "exports/%s_%.*s/%.*s.json", job->scope.client_id.p ? "client" : "agency",
		STRF(job->scope.client_id.p ? job->scope.client_id : job->scope.agency_id), STRF(job->resource_id));
	if (fault == OK)
		fault = objects_put_file(job->arena, key, STR("application/json"), path.p);
	enum fault removed = file_remove(path.p);
	TRY(fault);
	TRY(removed);
	TRY(tenant_begin(&tx, job->arena, &job->scope));
	privacy_done_later(&tx, (struct privacy_done){ .id = job->resource_id, .object_key = key,
		.bytes = str_format(job->arena, "%lld", (long long)stat.size) }, NULL);
	if (job->scope.client_id.p)
		event_emit(&tx, "privacy.completed", "privacy_request", job->resource_id,
			str_format(job->arena, "{\"request_id\":\"%.*s\",\"kind\":\"export\"}", STRF(job->resource_id)));
	job_done(job, &tx);
	return tx_commit(&tx);
}
