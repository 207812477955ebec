/* Routes without a tenant, and GET /jobs/{id}. */
#include "operations.h"
#include "operations.sql.h"
#include "../../0_base/clock.h"
#include "../../1_code/sign.h"
#include "../../2_io/shared.h"
#include "../../3_core/auth.h"
#include "../../3_core/config.h"
#include "core.sql.h"
#include <stdio.h>

static int64_t started_us;

void operations_started(void) { started_us = clock_real_us(); }

static enum fault plain(struct req *req, int status, const char *type, struct str body)
{
	http_reply(req->http, status, type, body);
	return OK;
}

static enum fault health(struct req *req)
{
	return plain(req, 200, "application/json", str_format(req->arena, "{\"status\":\"healthy\",\"service\":\"trunkline\","
		"\"version\":\"%s\",\"uptime_seconds\":%lld}", TRUNKLINE_VERSION, (long long)((clock_real_us() - started_us) / US_PER_S)));
}

static enum fault ready(struct req *req)
{
	struct rows row;
	struct tx tx;
	system_read(&tx, req->arena);
	/* the doors open only when every statement prepares, so an answer also means migrated */
	bool good = ready_check(&tx, (struct ready_check){ 0 }, &row) == OK && !dispatch_draining();
	const char *word = good ? "ok" : "failing";
	return plain(req, good ? 200 : 503, "application/json", str_format(req->arena,
		"{\"status\":\"%s\",\"checks\":{\"database\":\"%s\",\"migrations\":\"%s\",\"workers\":\"%s\"}}",
		good ? "ready" : "not_ready", word, word, dispatch_draining() ? "draining" : "ok"));
}

static enum fault metrics(struct req *req)
{
	struct str token = http_header(req->http, "authorization");
	bool local = str_is(req->http->peer, "127.0.0.1") || str_is(req->http->peer, "::1");
	struct str want = str_format(req->arena, "Bearer %.*s", STRF(config.metrics_token));
	if (config.metrics_token.n ? !sign_same(token, want) : !local)
		return fault_raise(FAULT_UNAUTHORIZED, "Metrics are for loopback or METRICS_TOKEN");
	struct buf b = BUF_IN(req->arena, 262144);
	metric_write(&b);
	return plain(req, 200, "text/plain; version=0.0.4", buf_view(&b));
}

static enum fault openapi(struct req *req) { return plain(req, 200, "application/json", openapi_json(req->arena)); }

static enum fault page(struct req *req, struct str html)
{
	http_reply_header(req->http, "Content-Security-Policy", STR("default-src 'none'; style-src 'unsafe-inline'"));
	return plain(req, 200, "text/html; charset=utf-8", html);
}

static enum fault docs(struct req *req) { return page(req, openapi_page(req->arena)); }
static enum fault docs_errors(struct req *req) { return page(req, openapi_errors_page(req->arena)); }

static enum fault jwks(struct req *req)
{
	if (!config.dev_issuer)
		return fault_raise(FAULT_NOT_FOUND, "The development issuer is off");
	return plain(req, 200, "application/json", auth_dev_keys(req->arena));
}

static const struct shape_field job_fields[] = {
	{ "id", SHAPE_UUID },
	{ "client_id", SHAPE_UUID, SHAPE_MAYBE },
	{ "kind", SHAPE_TEXT },
	{ "resource_type", SHAPE_TEXT, SHAPE_MAYBE },
	{ "resource_id", SHAPE_UUID, SHAPE_MAYBE },
	{ "status", SHAPE_ENUM, .values = "queued,running,done,failed,dead" },
	{ "attempts", SHAPE_INT },
	{ "last_error", SHAPE_TEXT, SHAPE_OMIT },
	{ "created_at", SHAPE_TIME },
	{ "updated_at", SHAPE_TIME },
	{ "finished_at", SHAPE_TIME, SHAPE_MAYBE },
};
static const struct shape job_shape = SHAPE("job", job_fields);

static enum fault job(struct req *req)
{
	struct rows row;
	struct tx tx;
	req_read(req, &tx);
	TRY(operations_job(&tx, (struct operations_job){ .id = req->ids[0] }, &row));
	if (!row.count)
		return fault_raise(FAULT_NOT_FOUND, "No such job");
	reply_row(req, 200, &job_shape, &row, 0);
	return OK;
}

#define OPEN (ROUTE_OPEN | ROUTE_RAW | ROUTE_FREE)
const struct route operations_routes[] = {
	{ "GET", "/health", .handle = health, .status = 200, .flags = OPEN, .summary = "Is the process up" },
	{ "GET", "/ready", .handle = ready, .status = 200, .flags = OPEN, .summary = "May traffic come" },
	{ "GET", "/metrics", .handle = metrics, .status = 200, .flags = OPEN, .summary = "Prometheus metrics" },
	{ "GET", "/openapi.json", .handle = openapi, .status = 200, .flags = OPEN, .summary = "This description" },
	{ "GET", "/docs", .handle = docs, .status = 200, .flags = OPEN, .summary = "The API as a page" },
	{ "GET", "/docs/errors", .handle = docs_errors, .status = 200, .flags = OPEN, .summary = "Error codes as a page" },
	{ "GET", "/.well-known/jwks.json", .handle = jwks, .status = 200, .flags = OPEN, .summary = "Keys of the development issuer" },
	{ "GET", "/_test/clock", .handle = clock_route_get, .status = 200, .flags = OPEN | ROUTE_TEST, .summary = "Read the test clock" },
	{ "POST", "/_test/clock", .handle = clock_route_set, .status = 200, .flags = OPEN | ROUTE_TEST, .summary = "Move the test clock" },
	{ "GET", API "/jobs/{id}", ROLE_R, "events:read", job, .out = &job_shape, .status = 200, .summary = "Read a job" },
	{ 0 },
};
