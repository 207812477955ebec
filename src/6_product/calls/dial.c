/* The dial job: intent, provider call carrying our reference, acceptance. What must never happen here:
 * a second creation for one call. A creation is repeated only when the provider certainly has none;
 * otherwise the call is looked up by its reference, and what stays open is `unknown`.
 *
 * The job's payload says how far it came: nothing (not yet intended), posted (a creation may be on its
 * way; found at the start of a run it means that we died meanwhile), repeat (certainly not accepted),
 * look (a 500 whose list must be asked). */
#include "calls.h"
#include "dial.h"
#include "dial.sql.h"
#include "progress.h"
#include "../../0_base/clock.h"
#include "../../0_base/die.h"
#include "../../1_code/url.h"
#include "../../3_core/config.h"
#include "../../3_core/events.h"

#define QUEUE_LIFE_US (600 * US_PER_S)
#define SLOT_WAIT_US (2 * US_PER_S)
#define REPEATS_AFTER_500 2

struct dialing {
	struct job *job;
	struct rows row;
	struct voice_account account;
	struct str step;
	int64_t repeats, refusals, looks;	/* of this call so far */
};

static struct str progress_json(struct dialing *d, const char *step)
{
	return str_format(d->job->arena, "{\"step\":\"%s\",\"repeats\":%lld,\"refusals\":%lld,\"looks\":%lld}", step,
		(long long)d->repeats, (long long)d->refusals, (long long)d->looks);
}

static struct str column(struct dialing *d, const char *name) { return pg_col(d->job->arena, &d->row, 0, name); }

/* StartAgentCallRequest. Metadata values are strings; the carrier tells us ringing, busy and no answer
 * through the TeXML status callback that travels in additionalParams. */
static struct str creation_body(struct dialing *d)
{
	struct arena *a = d->job->arena;
	struct buf b = BUF_IN(a, 65536), callback = BUF_IN(a, 2048);
	json_t *settings;
	struct str id = d->job->resource_id, context = column(d, "context");
	if (json_read(a, column(d, "call_settings"), &settings) != OK)
		bug("stored call_settings are no object");
	bool record = !json_is_false(json_object_get(settings, "recording_enabled"));
	buf_format(&callback, "%.*s" API "/webhooks/telnyx?call_id=%.*s", STRF(config.public_url), STRF(id));
	buf_format(&b, "{\"metadata\":{\"trunkline_call_id\":\"%.*s\"},\"maxDuration\":\"%llds\",\"recordingEnabled\":%s", STRF(id),
		(long long)pg_int(&d->row, 0, "provider_max_seconds"), record ? "true" : "false");
	if (context.n > 2)
		buf_format(&b, ",\"templateContext\":%.*s", STRF(context));
	json_t *ring = json_object_get(settings, "ring_timeout_seconds");
	if (json_is_integer(ring))
		buf_format(&b, ",\"joinTimeout\":\"%llds\"", (long long)json_integer_value(ring));
	struct str greeting = json_text(settings, "greeting");
	if (greeting.p) {
		buf_text(&b, ",\"firstSpeakerSettings\":{\"agent\":{\"text\":");
		buf_json(&b, greeting);
		buf_text(&b, "}}");
	}
	if (!str_is(column(d, "medium"), "phone")) {	/* somebody else brings the audio to the join URL */
		buf_text(&b, str_is(column(d, "medium"), "web") ? ",\"medium\":{\"webRtc\":{}}}" : ",\"medium\":{\"telnyx\":{}}}");
		return buf_view(&b);
	}
	buf_text(&b, ",\"medium\":{\"telnyx\":{\"outgoing\":{\"to\":");
	buf_json(&b, column(d, "phone_number"));
	buf_text(&b, ",\"from\":");
	buf_json(&b, column(d, "from_number"));
	buf_text(&b, ",\"additionalParams\":{\"StatusCallback\":");
	buf_json(&b, buf_view(&callback));
	buf_text(&b, ",\"StatusCallbackEvent\":\"initiated ringing answered completed\",\"StatusCallbackMethod\":\"POST\"}}}}}");
	return buf_view(&b);
}

static enum fault open_account(struct dialing *d)
{
	return voice_account_open(d->job->arena, &d->job->scope, column(d, "mode"), column(d, "credential_id"), &d->account);
}

static enum fault park(struct dialing *d, const char *step, int64_t wait_us)
{
	struct tx tx;
	TRY(tenant_begin(&tx, d->job->arena, &d->job->scope));
	job_park(d->job, &tx, clock_now_us() + wait_us, progress_json(d, step));
	return tx_commit(&tx);
}

static enum fault accepted(struct dialing *d, const json_t *call)
{
	struct call_news news;
	struct tx tx;
	kill_point("call.provider_answered");
	call_news_read(d->job->arena, call, &news);
	news.call_id = d->job->resource_id;
	news.source = "job";
	TRY(tenant_begin(&tx, d->job->arena, &d->job->scope));
	TRY(call_hear(&tx, &news));
	job_done(d->job, &tx);
	TRY(tx_commit(&tx));
	kill_point("call.accepted");
	return OK;
}

static enum fault failed(struct dialing *d, const char *code, struct str message, const char *outcome)
{
	struct str id = d->job->resource_id;
	struct tx tx;
	bool moved;
	TRY(tenant_begin(&tx, d->job->arena, &d->job->scope));
	dial_error_later(&tx, (struct dial_error){ .id = id, .code = str_of(code), .message = message }, NULL);
	TRY(call_move(&tx, id, "failed", outcome, "job", message, &moved));
	dial_release_later(&tx, (struct dial_release){ .id = id }, NULL);
	job_fail(d->job, &tx, message.p);
	if (moved)
		call_tell(&tx, id, "call.failed");
	return tx_commit(&tx);
}

/* Cancelled while the provider certainly had nothing. */
static enum fault cancelled(struct dialing *d)
{
	struct str id = d->job->resource_id;
	struct tx tx;
	bool moved;
	TRY(tenant_begin(&tx, d->job->arena, &d->job->scope));
	TRY(call_move(&tx, id, "cancelled", "cancelled", "job", STR("cancelled before the provider took it"), &moved));
	dial_release_later(&tx, (struct dial_release){ .id = id }, NULL);
	job_done(d->job, &tx);
	if (moved)
		call_tell(&tx, id, "call.cancelled");
	return tx_commit(&tx);
}

/* May have been accepted: the user sees `unknown`, the ladder looks it up, nobody dials again. */
static enum fault ambiguous(struct dialing *d)
{
	struct str id = d->job->resource_id;
	struct tx tx;
	bool moved;
	TRY(tenant_begin(&tx, d->job->arena, &d->job->scope));
	TRY(call_move(&tx, id, "unknown", "unknown", "job", STR("the creation may have been accepted"), &moved));
	struct job_order look = { .kind = "call.lookup", .resource_type = "call", .resource_id = id,
		.run_at_us = clock_now_us() + 5 * US_PER_S, .dedupe = str_format(d->job->arena, "lookup:%.*s", STRF(id)) };
	job_add(&tx, &look);
	job_done(d->job, &tx);
	if (moved)
		call_tell(&tx, id, "call.unknown");
	return tx_commit(&tx);
}

static enum fault post(struct dialing *d)
{
	struct arena *a = d->job->arena;
	struct str path = str_format(a, "/api/agents/%.*s/calls", STRF(column(d, "ultravox_agent_id")));
	struct voice_answer v = voice_create(a, &d->account, path.p, creation_body(d), "callId");
	struct str why = str_format(a, "Ultravox answered %d: %.*s", v.http_status, STRF(v.problem));
	switch (v.verdict) {
	case VOICE_ACCEPTED:
		return accepted(d, v.body);
	case VOICE_REFUSED:
		return failed(d, "provider_error", why, "failed");
	case VOICE_NOT_ACCEPTED:
		if (++d->refusals >= PROVIDER_TRIES)
			return failed(d, "provider_error", why, "failed");
		return park(d, "repeat", provider_pause_us(d->refusals, v.retry_after_s));
	case VOICE_FAILED:
		d->looks = 0;
		return park(d, "look", 2 * US_PER_S);
	default:
		return ambiguous(d);
	}
}

/* Commits the intent: a slot for the first creation, a note for a repeated one. */
static enum fault intend(struct dialing *d, bool *ret_go)
{
	struct arena *a = d->job->arena;
	struct rows verdict;
	struct tx tx;
	bool first = !d->step.n;
	*ret_go = true;
	TRY(tenant_begin(&tx, a, &d->job->scope));
	job_note(d->job, &tx, progress_json(d, "posted"));
	if (first) {
		TRY(dial_intend(&tx, (struct dial_intend){ .id = d->job->resource_id }, &verdict));
		*ret_go = str_is(pg_col(a, &verdict, 0, "verdict"), "dial");
		if (!*ret_go) {
			tx_abort(&tx);
			return OK;
		}
	}
	return tx_commit(&tx);
}

/* No slot: wait, and say so once; after ten minutes the call is cancelled. */
static enum fault wait_for_slot(struct dialing *d, int64_t wait_us)
{
	struct str id = d->job->resource_id;
	struct tx tx;
	bool moved;
	int64_t born_us = pg_time_us(&d->row, 0, "created_at");
	if (!str_is(column(d, "status"), "queued"))
		return OK;
	TRY(tenant_begin(&tx, d->job->arena, &d->job->scope));
	if (clock_now_us() < born_us + QUEUE_LIFE_US) {
		if (!d->job->payload || !json_object_get(d->job->payload, "told"))
			call_tell(&tx, id, "call.queued");
		job_park(d->job, &tx, clock_now_us() + wait_us, STR("{\"told\":true}"));
		return tx_commit(&tx);
	}
	TRY(call_move(&tx, id, "cancelled", "expired", "job", STR("no slot was free for ten minutes"), &moved));
	dial_release_later(&tx, (struct dial_release){ .id = id }, NULL);
	job_done(d->job, &tx);
	if (moved)
		call_tell(&tx, id, "call.cancelled");
	return tx_commit(&tx);
}

/* After a 500 the provider's list decides: found is adopted, absent twice may be repeated. */
static enum fault look(struct dialing *d, bool *ret_repeat)
{
	json_t *call;
	*ret_repeat = false;
	TRY(voice_find_call(d->job->arena, &d->account, d->job->resource_id, &call));
	if (call)
		return accepted(d, call);
	if (++d->looks < 2)
		return park(d, "look", 3 * US_PER_S);
	if (d->repeats >= REPEATS_AFTER_500)
		return failed(d, "provider_error", STR("Ultravox answered 500 to every try"), "failed");
	d->repeats++;
	*ret_repeat = true;
	return OK;
}

enum fault call_dial(struct job *job)
{
	struct dialing d = { .job = job, .step = json_text(job->payload, "step"),
		.repeats = json_integer_value(json_object_get(job->payload, "repeats")),
		.refusals = json_integer_value(json_object_get(job->payload, "refusals")),
		.looks = json_integer_value(json_object_get(job->payload, "looks")) };
	struct tx tx;
	bool go = true;
	tenant_read(&tx, job->arena, &job->scope);
	TRY(dial_load(&tx, (struct dial_load){ .id = job->resource_id }, &d.row));
	if (!d.row.count)
		return OK;
	if (!pg_bool(&d.row, 0, "wanting"))
		return OK;
	enum fault fault = open_account(&d);
	if (fault == FAULT_NOT_FOUND && !d.step.p)
		return failed(&d, "credential_gone", STR("The credential of the agent's account is gone"), "failed");
	TRY(fault);
	if (str_is(d.step, "posted"))
		return ambiguous(&d);
	if (str_is(d.step, "repeat") && pg_bool(&d.row, 0, "cancel_requested"))
		return cancelled(&d);
	if (str_is(d.step, "look")) {
		TRY(look(&d, &go));
		if (!go)
			return OK;
	}
	if (!d.step.n) {	/* the account's documented rate, before a slot is taken */
		int64_t wait_us = voice_call_wait_us(&d.account);
		if (wait_us)
			return wait_for_slot(&d, wait_us);
	}
	kill_point("call.before_intent");
	TRY(intend(&d, &go));
	if (!go)
		return wait_for_slot(&d, SLOT_WAIT_US);
	kill_point("call.intent_committed");
	return post(&d);
}

/* 5 s, 30 s, 2, 10, 30 min after the first doubt, then hourly; absent for a day is not placed. */
enum fault call_lookup(struct job *job)
{
	static const int64_t rungs_s[] = { 30, 120, 600, 1800 };
	struct dialing d = { .job = job };
	struct tx tx;
	json_t *call = NULL;
	tenant_read(&tx, job->arena, &job->scope);
	TRY(dial_load(&tx, (struct dial_load){ .id = job->resource_id }, &d.row));
	if (!d.row.count || !pg_bool(&d.row, 0, "wanting"))
		return OK;
	TRY(open_account(&d));
	int64_t n = json_integer_value(json_object_get(job->payload, "n"));
	int64_t intended_us = pg_time_us(&d.row, 0, "intended_at");
	enum fault asked = voice_find_call(job->arena, &d.account, job->resource_id, &call);
	if (asked == OK && call)
		return accepted(&d, call);
	if (asked == OK && clock_now_us() >= intended_us + 86400 * US_PER_S)
		return failed(&d, "not_placed", STR("The provider never had this call"), "not_placed");
	int64_t next_us = n < 4 ? intended_us + rungs_s[n] * US_PER_S : clock_now_us() + 3600 * US_PER_S;
	if (next_us <= clock_now_us())
		next_us = clock_now_us() + 30 * US_PER_S;
	if (next_us > intended_us + 86400 * US_PER_S && clock_now_us() < intended_us + 86400 * US_PER_S)
		next_us = intended_us + 86400 * US_PER_S;
	TRY(tenant_begin(&tx, job->arena, &job->scope));
	job_park(job, &tx, next_us, str_format(job->arena, "{\"n\":%lld}", (long long)n + 1));
	return tx_commit(&tx);
}
