/* From news to state. News come from webhooks, from the dial job and from polling, in any order and any
 * number; each changes only what is not yet known. The final status is written by call_finish, which
 * reads the messages and waits a while for the carrier's cause. */
#include "calls.h"
#include "dial.h"
#include "progress.h"
#include "progress.sql.h"
#include "../../0_base/clock.h"
#include "../../0_base/log.h"
#include "../../1_code/uuid.h"
#include "../../2_io/shared.h"
#include "../../3_core/events.h"

#define CARRIER_WAIT_US (60 * US_PER_S)
#define WATCH_SLACK_US (120 * US_PER_S)
#define MICROS_PER_STEP 5000	/* the provider bills $0.005 for each 6 seconds begun */

enum fault call_move(struct tx *tx, struct str id, const char *status, const char *outcome, const char *source,
	struct str raw, bool *ret_moved)
{
	struct rows rows;
	TRY(progress_move(tx, (struct progress_move){ .id = id, .status = str_of(status), .outcome = str_of(outcome),
		.source = str_of(source), .raw = raw }, &rows));
	*ret_moved = rows.count == 1;
	if (!*ret_moved)
		metric_add(METRIC_transitions_dropped, 1);
	return OK;
}

void call_tell(struct tx *tx, struct str id, const char *type)
{
	progress_event_later(tx, (struct progress_event){ .event_id = uuid_make(tx_arena(tx)), .type = str_of(type), .id = id }, NULL);
	tx->wakes_jobs = true;
}

static int64_t time_of(const json_t *call, const char *field)
{
	int64_t us;
	struct str text = json_text(call, field);
	return text.n && clock_parse(text, &us) ? us : 0;
}

void call_news_read(struct arena *arena, const json_t *call, struct call_news *ret)
{
	struct str billing = json_text(call, "billingStatus");
	bool final = billing.n && !str_is(billing, "BILLING_STATUS_PENDING") && !str_is(billing, "BILLING_STATUS_UNSPECIFIED");
	int64_t billed = final ? voice_duration_s(json_text(call, "billedDuration")) : -1;
	*ret = (struct call_news){ .call_id = json_text(call, "metadata.trunkline_call_id"),
		.provider_id = json_text(call, "callId"), .join_url = json_text(call, "joinUrl"),
		.joined_us = time_of(call, "joined"), .ended_us = time_of(call, "ended"),
		.end_reason = json_text(call, "endReason"), .billed_s = final && billed < 0 ? 0 : billed,
		.billing_status = billing, .summary = json_text(call, "shortSummary") };
	(void)arena;
}

/* Ends the hold once and writes what it cost. `estimated`: the bill never came. */
static enum fault settle(struct tx *tx, struct str id, bool joined, int64_t seconds, int64_t price, struct str billing,
	bool estimated)
{
	struct rows billed, charged;
	bool free_of_charge = !joined || (billing.n && str_is(billing, "BILLING_STATUS_FREE_SYSTEM_ERROR"));
	int64_t minutes = (seconds + 59) / 60;
	int64_t amount = free_of_charge ? 0 : (minutes < 1 ? 1 : minutes) * price;
	TRY(progress_billed(tx, (struct progress_billed){ .id = id, .seconds = seconds,
		.cost = (seconds + 5) / 6 * MICROS_PER_STEP }, &billed));
	if (!billed.count)
		return OK;
	TRY(progress_settle(tx, (struct progress_settle){ .id = id, .amount = amount,
		.description = str_format(tx_arena(tx), "call of %lld s", (long long)seconds), .estimated = estimated }, &charged));
	if (charged.count && pg_int(&charged, 0, "charged") < amount)
		metric_add(METRIC_settle_overrun, amount - pg_int(&charged, 0, "charged"));
	progress_charged_later(tx, (struct progress_charged){ .id = id }, NULL);
	call_tell(tx, id, "call.billed");
	return OK;
}

enum fault call_hear(struct tx *tx, const struct call_news *n)
{
	struct rows row;
	struct arena *a = tx_arena(tx);
	char joined[CLOCK_TEXT_BYTES], ended[CLOCK_TEXT_BYTES];
	bool moved;
	TRY(progress_facts(tx, (struct progress_facts){ .id = n->call_id, .provider_id = n->provider_id, .join_url = n->join_url,
		.joined = n->joined_us ? str_of(clock_text_us(n->joined_us, joined)) : STR_NULL,
		.ended = n->ended_us ? str_of(clock_text_us(n->ended_us, ended)) : STR_NULL,
		.end_reason = n->ended_us ? n->end_reason : STR_NULL, .summary = n->summary }, &row));
	if (!row.count) {
		tx_abort(tx);
		return fault_raise(FAULT_NOT_FOUND, "No such call");
	}
	struct str status = pg_col(a, &row, 0, "status");
	if (str_is(status, "unknown"))		/* it is there after all */
		TRY(call_move(tx, n->call_id, "dialing", NULL, n->source, STR("found at the provider"), &moved));
	if (str_is(status, "unknown") || str_is(status, "dialing")) {
		struct job_order watch = { .kind = "call.watch", .resource_type = "call", .resource_id = n->call_id,
			.run_at_us = clock_now_us() + pg_int(&row, 0, "provider_max_seconds") * US_PER_S + WATCH_SLACK_US,
			.dedupe = str_format(a, "watch:%.*s", STRF(n->call_id)) };
		job_add(tx, &watch);
	}
	if (n->joined_us) {
		TRY(call_move(tx, n->call_id, "in_progress", NULL, n->source, STR("joined"), &moved));
		if (moved)
			call_tell(tx, n->call_id, "call.started");
	}
	if (n->ended_us && pg_null(&row, 0, "ended_at")) {
		struct job_order finish = { .kind = "call.finish", .resource_type = "call", .resource_id = n->call_id,
			.dedupe = str_format(a, "finish:%.*s", STRF(n->call_id)) };
		job_add(tx, &finish);
	}
	if (pg_bool(&row, 0, "cancel_requested") && !n->ended_us && pg_null(&row, 0, "provider_ended_at"))
		call_hangup_order(tx, n->call_id);
	if (n->billed_s >= 0)
		TRY(settle(tx, n->call_id, n->joined_us || !pg_null(&row, 0, "answered_at"), n->billed_s,
			pg_int(&row, 0, "price_per_minute"), n->billing_status, false));
	return OK;
}

enum fault call_carrier(struct tx *tx, struct str id, struct str carrier_id, struct str status, struct str cause)
{
	bool moved;
	bool final = str_is(status, "busy") || str_is(status, "no-answer") || str_is(status, "failed") || str_is(status, "canceled");
	struct str word = !final ? STR_NULL : str_is(status, "failed") && cause.n ? cause : status;
	progress_carrier_later(tx, (struct progress_carrier){ .id = id, .carrier_id = carrier_id, .cause = word }, NULL);
	if (str_is(status, "ringing")) {
		TRY(call_move(tx, id, "ringing", NULL, "webhook", status, &moved));
		if (moved)
			call_tell(tx, id, "call.ringing");
	}
	return OK;
}

enum fault call_owner_find(struct arena *arena, struct str call_id, struct str provider_id, struct str carrier_id,
	struct scope *ret_scope, struct str *ret_call_id)
{
	struct rows rows;
	struct tx tx;
	system_read(&tx, arena);
	TRY(progress_owner(&tx, (struct progress_owner){ .call_id = call_id.n && uuid_valid(call_id) ? call_id : STR_NULL,
		.provider_id = provider_id, .carrier_id = carrier_id }, &rows));
	if (!rows.count)
		return fault_raise(FAULT_NOT_FOUND, "Not one of our calls");
	*ret_scope = (struct scope){ .agency_id = pg_col(arena, &rows, 0, "agency_id"),
		.client_id = pg_col(arena, &rows, 0, "client_id") };
	*ret_call_id = pg_col(arena, &rows, 0, "id");
	return OK;
}

struct verdict {
	const char *status, *outcome, *event;
};

/* Unjoined: the provider says no more than that; the carrier knows why. */
static struct verdict unjoined(struct str cause)
{
	static const struct {
		const char *cause;
		struct verdict verdict;
	} map[] = {
		{ "busy", { "busy", "busy", "call.busy" } },
		{ "user_busy", { "busy", "busy", "call.busy" } },
		{ "no-answer", { "no_answer", "no_answer", "call.no_answer" } },
		{ "timeout", { "no_answer", "no_answer", "call.no_answer" } },
		{ "call_rejected", { "failed", "declined", "call.failed" } },
		{ "not_found", { "failed", "invalid_number", "call.failed" } },
		{ "canceled", { "cancelled", "cancelled", "call.cancelled" } },
		{ "failed", { "failed", "failed", "call.failed" } },
	};
	for (size_t i = 0; i < sizeof map / sizeof *map; i++)
		if (str_is(cause, map[i].cause))
			return map[i].verdict;
	return (struct verdict){ "no_answer", "no_answer", "call.no_answer" };
}

/* Joined: a conversation, unless the agent's tools tell of a machine or a screening handset. */
static struct verdict joined(const json_t *messages, struct str reason)
{
	size_t i;
	json_t *m;
	if (str_is(reason, "connection_error") || str_is(reason, "system_error"))
		return (struct verdict){ "failed", "failed", "call.failed" };
	json_array_foreach(messages, i, m) {
		struct str tool = json_text(m, "toolName");
		if (str_is(tool, "leaveVoicemail"))
			return (struct verdict){ "voicemail", "voicemail", "call.voicemail" };
		if (str_is(tool, "report_call_screening"))
			return (struct verdict){ "voicemail", "call_screened", "call.voicemail" };
	}
	return (struct verdict){ "completed", "completed", "call.completed" };
}

static void want_artifact(struct tx *tx, struct job *job, const char *kind, const char *setting, const json_t *settings, bool spoken)
{
	bool enabled = !json_is_false(json_object_get(settings, setting));
	progress_artifact_later(tx, (struct progress_artifact){ .call_id = job->resource_id, .kind = str_of(kind),
		.status = !enabled ? STR("disabled") : spoken ? STR("pending") : STR("none") }, NULL);
	if (!enabled || !spoken)
		return;
	struct job_order order = { .kind = str_format(job->arena, "call.%s", kind).p, .resource_type = "call",
		.resource_id = job->resource_id, .dedupe = str_format(job->arena, "%s:%.*s", kind, STRF(job->resource_id)) };
	job_add(tx, &order);
}

enum fault call_finish(struct job *job)
{
	struct arena *a = job->arena;
	struct voice_account account;
	struct rows row;
	struct tx tx;
	json_t *settings, *messages = NULL;
	bool moved;
	tenant_read(&tx, a, &job->scope);
	TRY(progress_load(&tx, (struct progress_load){ .id = job->resource_id }, &row));
	if (!row.count || !pg_null(&row, 0, "ended_at"))
		return OK;
	TRY(voice_account_open(a, &job->scope, pg_col(a, &row, 0, "mode"), pg_col(a, &row, 0, "credential_id"), &account));
	bool spoken = !pg_null(&row, 0, "answered_at");
	struct str cause = pg_col(a, &row, 0, "carrier_cause"), reason = pg_col(a, &row, 0, "end_reason_raw");
	if (!spoken && !cause.n && clock_now_us() < pg_time_us(&row, 0, "provider_ended_at") + CARRIER_WAIT_US) {
		TRY(tenant_begin(&tx, a, &job->scope));
		job_park(job, &tx, clock_now_us() + 5 * US_PER_S, STR_NULL);
		return tx_commit(&tx);
	}
	if (spoken)
		TRY(voice_messages(a, &account, pg_col(a, &row, 0, "ultravox_call_id"), &messages));
	TRY(json_read(a, pg_col(a, &row, 0, "call_settings"), &settings));
	struct verdict v = spoken ? joined(messages, reason) : pg_bool(&row, 0, "cancel_requested") && !cause.n
		? (struct verdict){ "cancelled", "cancelled", "call.cancelled" } : unjoined(cause);
	TRY(tenant_begin(&tx, a, &job->scope));
	TRY(call_move(&tx, job->resource_id, v.status, v.outcome, "job", spoken ? reason : cause, &moved));
	if (moved) {
		want_artifact(&tx, job, "transcript", "transcription_enabled", settings, spoken);
		want_artifact(&tx, job, "recording", "recording_enabled", settings, spoken);
	}
	job_done(job, &tx);
	if (moved && !spoken)	/* never joined costs nothing, whatever the bill says later */
		progress_settle_later(&tx, (struct progress_settle){ .id = job->resource_id, .amount = 0 }, NULL);
	if (moved)
		call_tell(&tx, job->resource_id, v.event);
	return tx_commit(&tx);
}

/* The safety net of one call: asks the provider when the end, and later the bill, is overdue. */
enum fault call_watch(struct job *job)
{
	static const int64_t bill_rungs_s[] = { 900, 3600, 14400, 43200, 86400, 259200 };
	struct arena *a = job->arena;
	struct voice_account account;
	struct call_news news;
	struct rows row;
	struct tx tx;
	json_t *call;
	tenant_read(&tx, a, &job->scope);
	TRY(progress_load(&tx, (struct progress_load){ .id = job->resource_id }, &row));
	if (!row.count || (!pg_null(&row, 0, "ended_at") && !pg_null(&row, 0, "billed_seconds")) ||
	    pg_null(&row, 0, "ultravox_call_id"))
		return OK;
	TRY(voice_account_open(a, &job->scope, pg_col(a, &row, 0, "mode"), pg_col(a, &row, 0, "credential_id"), &account));
	struct str path = str_format(a, "/api/calls/%.*s", STRF(pg_col(a, &row, 0, "ultravox_call_id")));
	int64_t ended_us = pg_time_us(&row, 0, "provider_ended_at");
	int64_t n = json_integer_value(json_object_get(job->payload, "n"));
	bool last = ended_us && clock_now_us() >= ended_us + bill_rungs_s[5] * US_PER_S;
	enum fault asked = voice_call(a, &account, "GET", path.p, STR_NULL, &call);
	if (asked != OK && !last && asked != FAULT_NOT_FOUND)
		return asked;
	TRY(tenant_begin(&tx, a, &job->scope));
	if (asked == OK) {
		call_news_read(a, call, &news);
		news.call_id = job->resource_id;
		news.source = "reconcile";
		TRY(call_hear(&tx, &news));
		ended_us = ended_us ? ended_us : news.ended_us;
		if (news.ended_us && news.billed_s >= 0) {
			job_done(job, &tx);
			return tx_commit(&tx);
		}
	}
	if (last) {
		int64_t answered_us = pg_time_us(&row, 0, "answered_at");
		TRY(settle(&tx, job->resource_id, answered_us != 0,
			answered_us ? (ended_us - answered_us + US_PER_S - 1) / US_PER_S : 0,
			pg_int(&row, 0, "price_per_minute"), STR_NULL, true));
		job_done(job, &tx);
		return tx_commit(&tx);
	}
	int64_t next_us = clock_now_us() + 300 * US_PER_S;
	if (ended_us) {
		while (n < 5 && ended_us + bill_rungs_s[n] * US_PER_S <= clock_now_us())
			n++;
		next_us = ended_us + bill_rungs_s[n] * US_PER_S;
	}
	job_park(job, &tx, next_us, str_format(a, "{\"n\":%lld}", (long long)n));
	return tx_commit(&tx);
}
