/* One delivery: at least once, the same id on every try, the signed bytes are the sent bytes. The
 * retry time lives in the job's row; a receiver's answer decides what happens next. */
#include "webhooks.h"
#include "webhooks.sql.h"
#include "../../0_base/clock.h"
#include "../../1_code/b64.h"
#include "../../1_code/sign.h"
#include "../../1_code/uuid.h"
#include "../../2_io/fetch.h"
#include "../../2_io/shared.h"
#include "../../3_core/config.h"
#include "../../3_core/events.h"
#include "../../3_core/vault.h"

#define ANSWER_BYTES ((size_t)64 << 10)
#define KEPT_BYTES 4096
#define FAILING_US (5 * 86400 * US_PER_S)

/* Standard Webhooks: now, 5 s, 5 m, 30 m, 2 h, 5 h, 10 h, 14 h, 20 h, 24 h. */
static const int64_t ladder_s[] = { 5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400 };

struct plan {
	int64_t most, timeout_ms;
	json_t *schedule;
};

static struct plan plan_of(const json_t *config_object)
{
	struct plan p = { .most = 10, .timeout_ms = 15000, .schedule = json_object_get(config_object, "schedule_seconds") };
	json_t *most = json_object_get(config_object, "max_attempts"), *timeout = json_object_get(config_object, "timeout_seconds");
	if (json_is_integer(most))
		p.most = json_integer_value(most);
	if (json_is_integer(timeout))
		p.timeout_ms = json_integer_value(timeout) * 1000;
	return p;
}

/* Microseconds until try n + 1, +-20 %, never before Retry-After. */
static int64_t wait_us(const struct plan *p, int64_t n, int retry_after_s)
{
	unsigned char dice;
	size_t rungs = sizeof ladder_s / sizeof *ladder_s, at = (size_t)(n - 1);
	int64_t s = ladder_s[at < rungs ? at : rungs - 1];
	size_t own = json_array_size(p->schedule);
	if (own)
		s = json_integer_value(json_array_get(p->schedule, at < own ? at : own - 1));
	random_bytes(&dice, 1);
	int64_t us = s * US_PER_S * 8 / 10 + s * US_PER_S * 4 / 10 * dice / 255;
	return retry_after_s > 0 && retry_after_s * US_PER_S > us ? retry_after_s * US_PER_S : us;
}

static struct str body_of(struct job *job, const struct rows *d)
{
	struct buf b = BUF_IN(job->arena, (size_t)1 << 20);
	struct arena *a = job->arena;
	buf_format(&b, "{\"id\":\"evt_%.*s\",\"type\":\"%.*s\",\"timestamp\":\"%.*s\",\"client_id\":\"%.*s\",\"data\":%.*s}",
		STRF(pg_col(a, d, 0, "event_id")), STRF(pg_col(a, d, 0, "type")), STRF(pg_col(a, d, 0, "event_at")),
		STRF(job->scope.client_id), STRF(pg_col(a, d, 0, "data")));
	return buf_view(&b);
}

static enum fault send(struct job *job, const struct rows *d, const struct plan *plan, struct fetch *f)
{
	struct arena *a = job->arena;
	struct str secret, signature, body = body_of(job, d);
	TRY(vault_reveal(a, webhook_context(a, job->scope.client_id), pg_col(a, d, 0, "secret_sealed"), &secret));
	struct str id = str_format(a, "evt_%.*s", STRF(pg_col(a, d, 0, "event_id")));
	struct str stamp = str_format(a, "%lld", (long long)(clock_now_us() / US_PER_S));
	if (!sign_webhook(a, secret, id, stamp, body, &signature))
		return fault_raise(FAULT_INTERNAL_ERROR, "The endpoint's secret cannot sign");
	struct str plain = sign_hmac(a, secret, str_format(a, "%.*s.%.*s", STRF(stamp), STRF(body)));
	struct fetch_header headers[] = {
		{ "Content-Type", STR("application/json") }, { "User-Agent", STR("Trunkline/" TRUNKLINE_VERSION) },
		{ "webhook-id", id }, { "webhook-timestamp", stamp }, { "webhook-signature", signature },
		{ "X-Trunkline-Timestamp", stamp }, { "X-Trunkline-Signature", hex_write(a, plain) } };
	*f = (struct fetch){ .method = "POST", .url = pg_col(a, d, 0, "url"), .headers = headers,
		.header_count = sizeof headers / sizeof *headers, .body = body, .public_only = !config.egress_allow_private,
		.timeout_ms = plan->timeout_ms, .most_bytes = ANSWER_BYTES, .cut = true };
	enum fault fault = fetch_run(a, f);
	f->headers = NULL;
	return fault;
}

/* Text a column can hold: valid UTF-8 without NUL. */
static struct str kept(struct str answer)
{
	if (answer.n > KEPT_BYTES)
		answer.n = KEPT_BYTES;
	while (answer.n && !str_utf8(answer))
		answer.n--;
	return answer.n && memchr(answer.p, 0, answer.n) ? STR("(binary)") : answer;
}

enum fault webhook_deliver(struct job *job)
{
	struct arena *a = job->arena;
	struct rows d;
	struct tx tx;
	struct fetch f = { .retry_after_s = -1 };
	json_t *retry;
	tenant_read(&tx, a, &job->scope);
	TRY(deliver_load(&tx, (struct deliver_load){ .id = job->resource_id }, &d));
	if (!d.count)
		return OK;	/* the endpoint was removed */
	struct str status = pg_col(a, &d, 0, "status");
	if (str_is(status, "delivered") || str_is(status, "failed_permanently"))
		return OK;
	TRY(json_read(a, pg_col(a, &d, 0, "retry_config"), &retry));
	struct plan plan = plan_of(retry);
	int64_t n = pg_int(&d, 0, "attempt") + 1, started_us = clock_real_us();
	bool enabled = pg_bool(&d, 0, "enabled");
	enum fault fault = enabled ? send(job, &d, &plan, &f) : fault_raise(FAULT_FORBIDDEN, "The endpoint is disabled");
	int64_t took_ms = (clock_real_us() - started_us) / US_PER_MS;
	bool good = fault == OK && f.status >= 200 && f.status < 300;
	bool gone = fault == OK && f.status == 410, last = n >= plan.most || !enabled || gone;
	struct str error = good ? STR_NULL : fault != OK ? str_copy(a, str_of(fault_note->message))
		: str_format(a, "The receiver answered %d", f.status);
	int64_t failing_us = pg_time_us(&d, 0, "failing_since");
	const char *disable = gone ? "the receiver answered 410 Gone"
		: !good && failing_us && clock_now_us() > failing_us + FAILING_US ? "failing for five days" : NULL;
	int64_t next_us = good || last ? 0 : clock_now_us() + wait_us(&plan, n, f.retry_after_s);
	char next[CLOCK_TEXT_BYTES];
	metric_add(good ? METRIC_webhooks_delivered : METRIC_webhooks_failed, 1);

	TRY(tenant_begin(&tx, a, &job->scope));
	deliver_attempt_later(&tx, (struct deliver_attempt){ .id = job->resource_id, .n = n, .duration_ms = took_ms,
		.code = f.status, .body = kept(f.answer), .error = error }, NULL);
	deliver_outcome_later(&tx, (struct deliver_outcome){ .id = job->resource_id,
		.status = good ? STR("delivered") : last ? STR("failed_permanently") : STR("failed"), .n = n, .code = f.status,
		.error = error, .next = next_us ? str_of(clock_text_us(next_us, next)) : STR_NULL }, NULL);
	if (enabled)
		deliver_health_later(&tx, (struct deliver_health){ .id = job->resource_id, .good = good, .disable = str_of(disable) }, NULL);
	if (next_us)
		job_park(job, &tx, next_us, STR_NULL);
	else
		job_done(job, &tx);
	struct str endpoint = json_text(job->payload, "endpoint_id");
	struct str told = str_format(a, "{\"webhook_id\":\"%.*s\",\"delivery_id\":\"%.*s\"}", STRF(endpoint), STRF(job->resource_id));
	if (disable && enabled)
		event_emit(&tx, "webhook.endpoint.disabled", "webhook", endpoint, told);
	if (last && !good && enabled)
		event_emit(&tx, "webhook.delivery.exhausted", "webhook", endpoint, told);
	return tx_commit(&tx);
}
