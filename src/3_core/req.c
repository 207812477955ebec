/* Transactions of a request: the idempotency key is judged with the first statement and stored with
 * the effect. What must never happen here: an effect without its record, or a record without it. */
#include "req.h"
#include "config.h"
#include "core.sql.h"
#include "route.h"
#include "vault.h"
#include "../0_base/clock.h"
#include "../1_code/b64.h"
#include "../1_code/url.h"

#define PROVISIONAL_SLACK_MS 3000	/* beyond the longest wait for a job */

enum role role_of(struct str name)
{
	return str_is(name, "agency_admin") ? AGENCY_ADMIN : str_is(name, "client_admin") ? CLIENT_ADMIN
		: str_is(name, "client_user") ? CLIENT_USER : ROLE_NONE;
}

const char *role_name(enum role role)
{
	return role == AGENCY_ADMIN ? "agency_admin" : role == CLIENT_ADMIN ? "client_admin" : "client_user";
}

/* Stored: status line of our own, then the body, sealed for this scope and key. */
static struct str idem_context(struct req *req)
{
	return str_format(req->arena, "idem:%.*s:%.*s", STRF(req->idem_scope), STRF(req->idem_key));
}

static enum fault idem_judge_answer(void *context)
{
	struct req *req = context;
	struct str state = pg_col(req->arena, &req->idem_rows, 0, "state"), body;
	if (str_is(state, "new"))
		return OK;
	if (str_is(state, "expired")) {
		idem_drop_later(&req->tx, (struct idem_drop){ .scope = req->idem_scope, .key = req->idem_key }, NULL);
		return OK;
	}
	if (str_is(state, "reused"))
		return fault_raise(FAULT_IDEMPOTENCY_KEY_REUSED, "This idempotency key came with a different request");
	if (str_is(state, "running")) {
		enum fault fault = fault_raise(FAULT_IDEMPOTENCY_IN_PROGRESS, "A request with this key is still running");
		fault_detail_int("retry_after", 1);
		fault_note->retry_after_s = 1;
		return fault;
	}
	TRY(vault_open(req->arena, idem_context(req), pg_col(req->arena, &req->idem_rows, 0, "body_sealed"), &body));
	req->status = (int)pg_int(&req->idem_rows, 0, "status_code");
	req->out = BUF_IN(req->arena, body.n + 1);
	buf_str(&req->out, body);
	http_reply_header(req->http, "Idempotency-Replayed", STR("true"));
	return FAULT_REPLAY;
}

enum fault req_begin(struct req *req)
{
	TRY(tenant_begin(&req->tx, req->arena, &req->scope));
	if (!req->idem_key.p)
		return OK;
	req->idem_scope = req->scope.client_id.p ? req->scope.client_id : req->scope.agency_id;
	idem_judge_later(&req->tx, (struct idem_judge){ .scope = req->idem_scope, .key = req->idem_key,
		.fingerprint = req->idem_fingerprint }, &req->idem_rows);
	req->tx.first_answer = idem_judge_answer;
	req->tx.context = req;
	return OK;
}

enum fault req_judged(struct req *req)
{
	struct rows one;
	return req->idem_key.p ? ready_check(&req->tx, (struct ready_check){ 0 }, &one) : OK;
}

enum fault req_commit(struct req *req, bool provisional)
{
	if (req->idem_key.p) {
		idem_put_later(&req->tx, (struct idem_put){ .scope = req->idem_scope, .key = req->idem_key,
			.fingerprint = req->idem_fingerprint, .state = provisional ? STR("in_flight") : STR("done"),
			.status = provisional ? 202 : req->status,
			.body = vault_close(req->arena, idem_context(req), buf_view(&req->out)),
			.lease_ms = config.provider_wait_ms + PROVISIONAL_SLACK_MS }, NULL);
		req->idem_stored = provisional;
	}
	return tx_commit(&req->tx);
}

void req_finish(struct req *req)
{
	struct tx tx;
	if (!req->idem_stored)
		return;
	req->idem_stored = false;
	if (tenant_begin(&tx, req->arena, &req->scope) != OK)
		return;		/* the provisional answer stays: still one effect, still replayable */
	if (req->status >= 200 && req->status < 300)
		idem_finish_later(&tx, (struct idem_finish){ .scope = req->idem_scope, .key = req->idem_key,
			.fingerprint = req->idem_fingerprint, .status = req->status,
			.body = vault_close(req->arena, idem_context(req), buf_view(&req->out)) }, NULL);
	else
		idem_forget_later(&tx, (struct idem_forget){ .scope = req->idem_scope, .key = req->idem_key,
			.fingerprint = req->idem_fingerprint }, NULL);
	if (tx_commit(&tx) != OK)
		tx_abort(&tx);
}

void req_read(struct req *req, struct tx *ret_tx) { tenant_read(ret_tx, req->arena, &req->scope); }

enum fault req_need_client(struct req *req)
{
	if (req->scope.client_id.p)
		return OK;
	return fault_field("x-client-id", "is required here: name the client this is for");
}

struct str req_query(struct req *req, const char *name)
{
	struct str value = url_query(req->arena, req->http->query, name);
	return value.p && value.n == 0 ? STR_NULL : value;
}

bool req_given(const struct req *req, const char *name)
{
	json_t *value = json_object_get(req->json, name);
	return value && !json_is_null(value);
}
