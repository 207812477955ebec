/* An erasure. At once: everything that names the subject is masked, its recordings are gone, nobody comes in as it. When due:
 * rows and the provider's copies are deleted. Each step may run twice. Ledger and audit hashes stay. */
#include "privacy.h"
#include "privacy.sql.h"
#include "../../1_code/json.h"
#include "../../0_base/clock.h"
#include "../../3_core/events.h"
#include "../../4_out/objects.h"
#include "../../4_out/voice_provider.h"

#define BATCH 100
#define AGAIN_US (60 * US_PER_S)	/* while a call of the subject is still under way */

enum fault privacy_drop_objects(struct arena *arena, const struct rows *rows, struct str *ret_ids)
{
	struct buf ids = BUF_IN(arena, 65536);
	for (int i = 0; i < rows->count; i++) {
		struct str keys = pg_col(arena, rows, i, "objects");
		while (keys.n)
			TRY(objects_delete(arena, str_copy(arena, str_cut(&keys, ' '))));
		buf_format(&ids, "%s%.*s", i ? "," : "", STRF(pg_col(arena, rows, i, "id")));
	}
	*ret_ids = buf_view(&ids);
	return OK;
}

/* Masks all ended calls of a number (NULL: of the client) in batches. */
static enum fault mask_calls(struct job *job, struct str phone)
{
	for (int n = BATCH; n == BATCH;) {
		struct arena *arena = arena_make();
		struct rows rows;
		struct str ids;
		struct tx tx;
		tenant_read(&tx, arena, &job->scope);
		enum fault fault = erase_calls(&tx, (struct erase_calls){ .phone = phone, .most = BATCH }, &rows);
		n = fault == OK ? rows.count : 0;
		if (fault == OK && n)
			fault = privacy_drop_objects(arena, &rows, &ids);
		if (fault == OK && n)
			fault = tenant_begin(&tx, arena, &job->scope);
		if (fault == OK && n) {
			erase_mask_later(&tx, (struct erase_mask){ .ids = ids, .request = job->resource_id }, NULL);
			fault = tx_commit(&tx);
		}
		arena_drop(arena);
		TRY(fault);
	}
	return OK;
}

/* The provider's agents go by their own push jobs. */
static enum fault close_client(struct job *job, struct str client_id)
{
	struct rows agents;
	struct tx tx;
	TRY(tenant_begin(&tx, job->arena, &job->scope));
	TRY(erase_client(&tx, (struct erase_client){ .id = client_id }, &agents));
	for (int i = 0; i < agents.count; i++) {
		struct job_order push = { .kind = "agent.push", .resource_type = "agent",
			.resource_id = pg_col(job->arena, &agents, i, "agent_id") };
		job_add(&tx, &push);
	}
	return tx_commit(&tx);
}

static enum fault forget(struct job *job, const char *type, struct str value)
{
	struct str phone = strcmp(type, "phone") == 0 ? value : STR_NULL;
	struct tx tx;
	if (strcmp(type, "user") == 0) {
		TRY(tenant_begin(&tx, job->arena, &job->scope));
		erase_user_later(&tx, (struct erase_user){ .id = value }, NULL);
		TRY(tx_commit(&tx));
		TRY(tenant_begin(&tx, job->arena, &job->scope));	/* the change above wrote the name into the audit once more */
		erase_audit_later(&tx, (struct erase_audit){ .record = value }, NULL);
		return tx_commit(&tx);
	}
	if (strcmp(type, "client") == 0)
		TRY(close_client(job, value));
	TRY(mask_calls(job, phone));
	TRY(tenant_begin(&tx, job->arena, &job->scope));
	erase_raw_later(&tx, (struct erase_raw){ .text = phone }, NULL);
	return tx_commit(&tx);
}

/* What was masked is deleted, at the provider first: a row that is gone cannot say what is left there. */
static enum fault delete_calls(struct job *job)
{
	for (int n = BATCH; n == BATCH;) {
		struct rows rows;
		struct tx tx;
		json_t *ignored;
		struct buf ids = BUF_IN(job->arena, 65536);
		tenant_read(&tx, job->arena, &job->scope);
		TRY(erase_due_calls(&tx, (struct erase_due_calls){ .request = job->resource_id, .most = BATCH }, &rows));
		n = rows.count;
		for (int i = 0; i < n; i++) {
			struct voice_account account;
			struct str there = pg_col(job->arena, &rows, i, "ultravox_call_id");
			buf_format(&ids, "%s%.*s", i ? "," : "", STRF(pg_col(job->arena, &rows, i, "id")));
			if (!there.n)
				continue;
			enum fault fault = voice_account_open(job->arena, &job->scope, pg_col(job->arena, &rows, i, "mode"),
				pg_col(job->arena, &rows, i, "credential_id"), &account);
			if (fault == FAULT_NOT_FOUND)
				continue;	/* the tenant took its account back, and with it the copy */
			TRY(fault);
			const char *path = str_format(job->arena, "/api/calls/%.*s", STRF(there)).p;
			fault = voice_call(job->arena, &account, "DELETE", path, STR_NULL, &ignored);
			if (fault != OK && fault != FAULT_NOT_FOUND)
				return fault;
		}
		if (n) {
			TRY(tenant_begin(&tx, job->arena, &job->scope));
			erase_call_row_later(&tx, (struct erase_call_row){ .ids = buf_view(&ids) }, NULL);
			TRY(tx_commit(&tx));
		}
	}
	return OK;
}

/* What a client has uploaded: objects, then rows. */
static enum fault delete_uploads(struct job *job)
{
	for (int n = BATCH; n == BATCH;) {
		struct rows rows;
		struct str ids;
		struct tx tx;
		tenant_read(&tx, job->arena, &job->scope);
		TRY(erase_uploads(&tx, (struct erase_uploads){ .most = BATCH }, &rows));
		n = rows.count;
		if (!n)
			break;
		TRY(privacy_drop_objects(job->arena, &rows, &ids));
		TRY(tenant_begin(&tx, job->arena, &job->scope));
		erase_upload_rows_later(&tx, (struct erase_upload_rows){ .ids = ids }, NULL);
		TRY(tx_commit(&tx));
	}
	return OK;
}

static enum fault destroy(struct job *job, const char *type, struct str value)
{
	struct rows r;
	struct tx tx;
	TRY(delete_calls(job));
	if (strcmp(type, "client") == 0)
		TRY(delete_uploads(job));
	for (bool more = strcmp(type, "client") == 0; more;) {
		TRY(tenant_begin(&tx, job->arena, &job->scope));
		TRY(erase_purge(&tx, (struct erase_purge){ .id = value, .most = 1000 }, &r));
		more = pg_bool(&r, 0, "more");
		TRY(tx_commit(&tx));
	}
	TRY(tenant_begin(&tx, job->arena, &job->scope));
	if (strcmp(type, "user") == 0)
		erase_user_row_later(&tx, (struct erase_user_row){ .id = value }, NULL);
	privacy_done_later(&tx, (struct privacy_done){ .id = job->resource_id }, NULL);
	if (job->scope.client_id.p && strcmp(type, "client") != 0)
		event_emit(&tx, "privacy.completed", "privacy_request", job->resource_id,
			str_format(job->arena, "{\"request_id\":\"%.*s\",\"kind\":\"erasure\"}", STRF(job->resource_id)));
	job_done(job, &tx);
	return tx_commit(&tx);
}

enum fault privacy_erase(struct job *job)
{
	struct rows r, live;
	struct tx tx;
	tenant_read(&tx, job->arena, &job->scope);
	TRY(privacy_load(&tx, (struct privacy_load){ .id = job->resource_id }, &r));
	if (!r.count || str_is(pg_col(job->arena, &r, 0, "status"), "done"))
		return OK;
	const char *type = str_copy(job->arena, pg_col(job->arena, &r, 0, "subject_type")).p;
	struct str value = pg_col(job->arena, &r, 0, "subject_value");
	int64_t due_us = pg_time_us(&r, 0, "due_at"), next_us = due_us;
	if (str_is(json_text(job->payload, "step"), "masked") && clock_now_us() >= due_us)
		return destroy(job, type, value);
	TRY(forget(job, type, value));
	bool masked = true;
	if (strcmp(type, "user") != 0) {
		tenant_read(&tx, job->arena, &job->scope);
		TRY(erase_live(&tx, (struct erase_live){ .phone = strcmp(type, "phone") == 0 ? value : STR_NULL }, &live));
		masked = pg_int(&live, 0, "live") == 0;
	}
	if (!masked)
		next_us = clock_now_us() + AGAIN_US;
	TRY(tenant_begin(&tx, job->arena, &job->scope));
	privacy_running_later(&tx, (struct privacy_running){ .id = job->resource_id }, NULL);
	job_park(job, &tx, next_us, masked ? STR("{\"step\":\"masked\"}") : STR("{}"));
	return tx_commit(&tx);
}
