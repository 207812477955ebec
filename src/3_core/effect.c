/* Requests that wait for their job. */
#include "effect.h"
#include "core.sql.h"
#include "config.h"
#include "events.h"

static enum fault missing(const struct effect *e) { return fault_raise(FAULT_NOT_FOUND, "No such %s", e->title); }

/* `plain` is the meta without the job's id, which a 202 alone tells. */
static enum fault answer(struct req *req, const struct effect *e, struct str id, int status, struct buf plain)
{
	struct rows row;
	struct tx tx;
	req_read(req, &tx);
	TRY(e->get(&tx, id, &row));
	if (!row.count)
		return missing(e);
	struct str state = pg_col(req->arena, &row, 0, "sync_status");
	if (str_is(state, "failed")) {
		enum fault fault = fault_raise(FAULT_PROVIDER_ERROR, "%.*s", STRF(pg_col(req->arena, &row, 0, "last_error")));
		fault_detail("provider", str_of(e->provider));
		fault_detail(str_format(req->arena, "%s_id", e->resource).p, id);
		return fault;
	}
	bool synced = str_is(state, "synced");
	if (synced)
		req->meta = plain;
	reply_row(req, synced ? status : 202, e->shape, &row, 0);
	return OK;
}

enum fault effect_run(struct req *req, const struct effect *e, struct str id, const struct rows *row, struct str payload,
	const char *event, struct str event_data, int status)
{
	struct job_order order = { .kind = e->kind, .resource_type = e->resource, .resource_id = id, .payload = payload };
	struct str job = req->respond_async ? job_add(&req->tx, &order) : job_add_here(&req->tx, &order);
	struct buf plain = req->meta;
	reply_meta(req, "job_id", str_format(req->arena, "\"%.*s\"", STRF(job)));
	reply_row(req, 202, e->shape, row, 0);
	if (event)
		event_emit(&req->tx, event, e->resource, id, event_data);
	TRY(req_commit(req, !req->respond_async));
	if (req->respond_async)
		return OK;
	job_run_here(job, &order, &req->scope, config.provider_wait_ms, NULL, NULL);
	TRY(answer(req, e, id, status, plain));
	req_finish(req);
	return OK;
}

enum fault effect_get(struct req *req, const struct effect *e)
{
	struct rows row;
	struct tx tx;
	req_read(req, &tx);
	TRY(e->get(&tx, req->ids[0], &row));
	if (!row.count)
		return missing(e);
	reply_row(req, 200, e->shape, &row, 0);
	return e->looks ? effect_refresh(req, e->kind, e->resource, &row) : OK;
}

enum fault effect_refresh(struct req *req, const char *push, const char *resource, const struct rows *rows)
{
	struct buf ids = BUF_IN(req->arena, 65536), clients = BUF_IN(req->arena, 65536);
	struct str wanted = req_query(req, "refresh");
	struct tx tx;
	if (wanted.p && !str_is(wanted, "true") && !str_is(wanted, "false"))
		return fault_field("refresh", "must be true or false");
	if (!str_is(wanted, "true") || !rows->count)
		return OK;
	for (int i = 0; i < rows->count; i++) {
		buf_format(&ids, "%s%.*s", i ? "," : "{", STRF(pg_col(req->arena, rows, i, "id")));
		buf_format(&clients, "%s%.*s", i ? "," : "{", STRF(pg_col(req->arena, rows, i, "client_id")));
	}
	buf_text(&ids, "}");
	buf_text(&clients, "}");
	TRY(system_begin(&tx, req->arena));
	jobs_look_later(&tx, (struct jobs_look){ .ids = buf_view(&ids), .clients = buf_view(&clients), .agency_id = req->scope.agency_id,
		.kind = push ? str_of(push) : STR(""), .resource_type = str_of(resource) }, NULL);
	tx.wakes_jobs = true;
	return tx_commit(&tx);
}

void effect_location(struct req *req, const char *path, struct str id)
{
	http_reply_header(req->http, "Location", str_format(req->arena, API "/%s/%.*s", path, STRF(id)));
}

enum fault effect_ask(struct req *req, const char *kind, const char *resource, struct str id, struct str payload, struct str *ret_answer)
{
	struct job_order order = { .kind = kind, .resource_type = resource, .resource_id = id, .payload = payload };
	TRY(req_judged(req));
	struct str job = job_add_here(&req->tx, &order);
	*ret_answer = STR_NULL;
	reply_json(req, 202, STR("{\"status\":\"asked\"}"));	/* all that a key can tell if we die on the way */
	TRY(req_commit(req, true));
	job_run_here(job, &order, &req->scope, config.provider_wait_ms, req->arena, ret_answer);
	if (ret_answer->p)
		return OK;
	enum fault fault = fault_raise(FAULT_UNAVAILABLE, "No answer from outside in time; ask again");
	fault_detail("reason", STR("slow"));
	fault_detail_int("retry_after", 5);
	fault_note->retry_after_s = 5;
	return fault;
}
