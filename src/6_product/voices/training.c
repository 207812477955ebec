/* The workflows voice-clone-native and voice-clone-external (contract 3.3) as one job of durable steps: the copy is made once, credits
 * are charged when the provider accepts it, and while it is not to be found yet it is asked for every minute, four hours long. */
#include "voices.h"
#include "voices.sql.h"
#include "../uploads/uploads.h"
#include "../../0_base/clock.h"
#include "../../1_code/audio.h"
#include "../../3_core/config.h"
#include "../../3_core/events.h"
#include "../../4_out/copy.h"
#include "../../4_out/elevenlabs.h"
#include "../../4_out/objects.h"

#define POLL_US (60 * US_PER_S)
#define POLLS 240
#define LANGUAGE_MOST 10	/* characters of primaryLanguage */

struct str voice_event_data(struct arena *arena, struct str id, struct str provider_id, const char *status, struct str error)
{
	struct buf b = BUF_IN(arena, 4096);
	buf_format(&b, "{\"voice_id\":\"%.*s\",\"ultravox_voice_id\":", STRF(id));
	buf_json(&b, provider_id);
	buf_format(&b, ",\"status\":\"%s\"", status);
	if (error.p) {
		buf_text(&b, ",\"error_message\":");
		buf_json(&b, error);
	}
	buf_char(&b, '}');
	return buf_view(&b);
}

static struct str column(const struct copy *c, const char *name) { return pg_col(c->job->arena, &c->row, 0, name); }
static bool native(const struct copy *c) { return str_is(column(c, "provider"), "ultravox"); }
static bool cloned_elsewhere(const struct copy *c) { return str_is(column(c, "type"), "custom") && !native(c); }

/* What this training is known by in the ledger: the voice, and which try it is after the first. */
static struct str reference(const struct copy *c)
{
	int64_t n = pg_int(&c->row, 0, "trainings");
	return n <= 1 ? c->job->resource_id : str_format(c->job->arena, "%.*s/%lld", STRF(c->job->resource_id), (long long)n);
}

static enum fault load(struct tx *tx, struct str id, struct rows *ret) { return voices_load(tx, (struct voices_load){ .id = id }, ret); }

/* Names and words; a voice's sound never changes. */
static enum fault body(struct copy *c, bool fresh, struct str *ret)
{
	struct str about = column(c, "description"), language = column(c, "language"), definition;
	struct buf b = BUF_IN(c->job->arena, 65536);
	buf_text(&b, "{\"name\":");
	buf_json(&b, copy_name(c, column(c, "name")));
	buf_text(&b, ",\"description\":");
	buf_json(&b, about.p ? about : STR(""));
	if (language.n <= LANGUAGE_MOST) {
		buf_text(&b, ",\"primaryLanguage\":");
		buf_json(&b, language);
	}
	if (fresh) {
		TRY(voice_definition(c->job->arena, column(c, "provider"), column(c, "provider_voice_id"), column(c, "overrides"), &definition));
		buf_format(&b, ",\"definition\":%.*s", STRF(definition));
	}
	buf_char(&b, '}');
	*ret = buf_view(&b);
	return OK;
}

static enum fault fetch_samples(struct copy *c, struct rows *ret_rows, struct str *bytes)
{
	struct tx tx;
	tenant_read(&tx, c->job->arena, &c->job->scope);
	TRY(voices_samples(&tx, (struct voices_samples){ .id = c->job->resource_id }, ret_rows));
	for (int i = 0; i < ret_rows->count && i < SAMPLES_MOST; i++)
		TRY(objects_get(c->job->arena, pg_col(c->job->arena, ret_rows, i, "object"), SAMPLE_BYTES + 4096, &bytes[i]));
	return ret_rows->count ? OK : fault_raise(FAULT_PROVIDER_ERROR, "The voice has no samples");
}

/* The provider takes one file: equal WAVs joined while they fit, else the longest wav or mp3, else the first. */
static struct str one_file(struct copy *c, const struct rows *samples, const struct str *bytes, const char **ret_format)
{
	struct arena *a = c->job->arena;
	size_t n = (size_t)samples->count, best = 0;
	double longest = 0, seconds;
	struct str joined = audio_join_wav(a, bytes, n);
	*ret_format = "wav";
	if (joined.p && joined.n <= SAMPLE_BYTES)
		return joined;
	for (size_t i = 0; i < n; i++) {
		struct str format = pg_col(a, samples, (int)i, "format");
		seconds = strtod(pg_col(a, samples, (int)i, "seconds").p, NULL);
		if ((str_is(format, "wav") || str_is(format, "mp3")) && seconds > longest)
			longest = seconds, best = i;
	}
	*ret_format = str_copy(a, pg_col(a, samples, (int)best, "format")).p;
	return bytes[best];
}

static enum fault clone_native(struct copy *c, struct voice_answer *ret)
{
	struct arena *a = c->job->arena;
	struct rows samples;
	struct str bytes[SAMPLES_MOST];
	const char *format;
	TRY(fetch_samples(c, &samples, bytes));
	struct str file = one_file(c, &samples, bytes, &format), about = column(c, "description");
	struct form_part parts[] = { { "file", file, str_format(a, "sample.%s", format), str_of(uploads_type(str_of(format))) },
		{ "name", copy_name(c, column(c, "name")), STR_NULL, STR_NULL }, { "language", column(c, "language"), STR_NULL, STR_NULL },
		{ "description", about, STR_NULL, STR_NULL } };
	*ret = voice_create_form(a, &c->account, c->kind->path, parts, about.p ? 4 : 3, c->kind->id_field);
	return OK;
}

/* The clone at ElevenLabs, found or made; then *ret_go, and the row names it. */
static enum fault clone_eleven(struct copy *c, struct voice_answer *ret, bool *ret_go)
{
	struct job *job = c->job;
	struct eleven_sample files[SAMPLES_MOST];
	struct rows samples;
	struct str bytes[SAMPLES_MOST], key, id;
	struct tx tx;
	*ret_go = false;
	enum fault fault = eleven_key(job->arena, &job->scope, &key);
	if (fault == FAULT_NOT_FOUND)
		return fault_raise(FAULT_PROVIDER_ERROR, "The elevenlabs key is gone");
	TRY(fault);
	TRY(eleven_find(job->arena, &job->scope, key, c->reference, &id));
	if (!id.p) {
		TRY(fetch_samples(c, &samples, bytes));
		for (int i = 0; i < samples.count; i++) {
			struct str ext = pg_col(job->arena, &samples, i, "format");
			files[i] = (struct eleven_sample){ bytes[i], str_format(job->arena, "sample%d.%.*s", i, STRF(ext)), str_of(uploads_type(ext)) };
		}
		*ret = eleven_clone(job->arena, &job->scope, key, copy_name(c, column(c, "name")), files, (size_t)samples.count);
		if (ret->verdict != VOICE_ACCEPTED)
			return OK;
		id = ret->id;
	}
	TRY(tenant_begin(&tx, job->arena, &job->scope));
	voices_cloned_later(&tx, (struct voices_cloned){ .id = job->resource_id, .provider_voice_id = id }, NULL);
	TRY(tx_commit(&tx));
	tenant_read(&tx, job->arena, &job->scope);
	TRY(load(&tx, job->resource_id, &c->row));
	*ret_go = true;
	return OK;
}

/* Can it speak? A 404 right after the 201 means that it is still being trained. */
static enum fault look(struct copy *c, struct str id, bool *ret_ready)
{
	json_t *ignored;
	enum fault fault = voice_call(c->job->arena, &c->account, "GET", str_format(c->job->arena, "%s/%.*s", c->kind->path,
		STRF(id)).p, STR_NULL,
		&ignored);
	*ret_ready = fault == OK;
	return fault == FAULT_NOT_FOUND ? OK : fault;
}

static enum fault create(struct copy *c, struct voice_answer *ret)
{
	struct str text;
	bool go = true;
	if (native(c)) {
		TRY(clone_native(c, ret));
	} else {
		if (cloned_elsewhere(c) && pg_null(&c->row, 0, "provider_voice_id"))
			TRY(clone_eleven(c, ret, &go));
		if (!go)
			return OK;
		TRY(body(c, true, &text));
		*ret = voice_create(c->job->arena, &c->account, c->kind->path, text, c->kind->id_field);
	}
	if (ret->verdict == VOICE_ACCEPTED && look(c, ret->id, &c->ready) != OK)
		c->ready = false;	/* accepted all the same: it is asked for in a minute */
	return OK;
}

static void tell_active(struct copy *c, struct tx *tx)
{
	struct str id = c->job->resource_id;
	const char *event = native(c) || cloned_elsewhere(c) ? "voice.training.completed" : "voice.created";
	event_emit(tx, event, "voice", id, voice_event_data(c->job->arena, id, c->provider_id, "active", STR_NULL));
}

static void pushed(struct copy *c, struct tx *tx)
{
	struct str id = c->job->resource_id;
	bool was_active = str_is(column(c, "status"), "active");
	c->ready |= was_active;
	voices_accepted_later(tx, (struct voices_accepted){ .id = id, .provider_id = c->provider_id, .credential_id = c->account.credential_id,
		.revision = c->revision, .ready = c->ready }, NULL);
	if (!c->ready)
		job_park(c->job, tx, clock_now_us() + POLL_US, STR("{\"polls\":1}"));
	if (native(c) && !was_active)
		voices_charge_later(tx, (struct voices_charge){ .id = id, .amount = TRAINING_CREDITS }, NULL);
	if (c->ready && !was_active)
		tell_active(c, tx);
}

static void failed(struct copy *c, struct tx *tx, struct str why)
{
	struct str id = c->job->resource_id;
	bool training = str_is(column(c, "status"), "training");
	voices_failed_later(tx, (struct voices_failed){ .id = id, .error = why, .lost = c->lost }, NULL);
	if (native(c) && training) {
		voices_charge_later(tx, (struct voices_charge){ .id = id, .amount = 0 }, NULL);
		voices_refund_later(tx, (struct voices_refund){ .reference = reference(c) }, NULL);
	}
	if (training && !str_is(column(c, "type"), "reference"))
		event_emit(tx, "voice.training.failed", "voice", id, voice_event_data(c->job->arena, id, c->provider_id, "failed", why));
}

/* What is ours of it: the samples and our preview; a hold that nothing will settle any more returns. */
static enum fault drop_own(struct copy *c)
{
	struct arena *a = c->job->arena;
	struct str preview = column(c, "preview");
	struct rows samples;
	struct tx tx;
	json_t *shown;
	if (preview.p) {
		TRY(json_read(a, preview, &shown));
		TRY(objects_delete(a, json_text(shown, "object")));
	}
	tenant_read(&tx, a, &c->job->scope);
	TRY(voices_samples(&tx, (struct voices_samples){ .id = c->job->resource_id }, &samples));
	for (int i = 0; i < samples.count; i++)
		TRY(objects_delete(a, pg_col(a, &samples, i, "object")));
	TRY(tenant_begin(&tx, a, &c->job->scope));
	for (int i = 0; i < samples.count; i++)
		uploads_mark(&tx, pg_col(a, &samples, i, "upload_id"), "expired", 0);
	voices_charge_later(&tx, (struct voices_charge){ .id = c->job->resource_id, .amount = 0 }, NULL);
	return tx_commit(&tx);
}

/* Then the clone that ElevenLabs keeps for it. */
static enum fault gone(struct copy *c)
{
	struct arena *a = c->job->arena;
	struct str key, other = column(c, "provider_voice_id");
	TRY(drop_own(c));
	if (!cloned_elsewhere(c) || eleven_key(a, &c->job->scope, &key) != OK)
		return OK;
	if (!other.p)
		TRY(eleven_find(a, &c->job->scope, key, c->reference, &other));
	return other.p ? eleven_delete(a, &c->job->scope, key, other) : OK;
}

static const struct copy_kind voice_copy = { .path = "/api/voices", .id_field = "voiceId", .change = "PATCH", .name_most = 40,
	.search = "/api/voices?search=", .load = load, .body = body, .create = create, .pushed = pushed, .failed = failed, .gone = gone };

/* One look at a voice in training. */
static enum fault poll(struct copy *c, int64_t polls)
{
	struct job *job = c->job;
	struct tx tx;
	bool ready;
	TRY(voice_account_open(job->arena, &job->scope, column(c, "mode"), column(c, "credential_id"), &c->account));
	enum fault fault = look(c, c->provider_id, &ready);
	if (fault != OK && fault != FAULT_PROVIDER_ERROR)
		return fault;
	if (fault == FAULT_PROVIDER_ERROR)
		return copy_failed(c, str_copy(job->arena, str_of(fault_note->message)));
	if (!ready && polls >= POLLS)
		return copy_failed(c, STR("The provider did not finish the training within four hours"));
	TRY(tenant_begin(&tx, job->arena, &job->scope));
	if (ready) {
		voices_accepted_later(&tx, (struct voices_accepted){ .id = job->resource_id, .provider_id = c->provider_id,
			.credential_id = c->account.credential_id, .revision = c->revision, .ready = true }, NULL);
		job_done(job, &tx);
		tell_active(c, &tx);
	} else {
		voices_progress_later(&tx, (struct voices_progress){ .id = job->resource_id, .progress = polls * 99 / POLLS }, NULL);
		job_park(job, &tx, clock_now_us() + POLL_US, str_format(job->arena, "{\"polls\":%lld}", (long long)polls + 1));
	}
	return tx_commit(&tx);
}

enum fault voice_push(struct job *job)
{
	struct copy c = { .job = job, .kind = &voice_copy };
	struct tx tx;
	tenant_read(&tx, job->arena, &job->scope);
	TRY(load(&tx, job->resource_id, &c.row));
	if (!c.row.count)
		return OK;
	c.provider_id = column(&c, "provider_id");
	c.revision = pg_int(&c.row, 0, "revision");
	json_t *polls = json_object_get(job->payload, "polls");
	bool training = str_is(column(&c, "status"), "training") && c.provider_id.n && pg_null(&c.row, 0, "deleted_at");
	if (training && json_is_true(json_object_get(job->payload, "look")))
		return OK;	/* the job that polls comes sooner */
	if (training)
		return poll(&c, json_is_integer(polls) ? json_integer_value(polls) : 1);
	if (polls && pg_null(&c.row, 0, "deleted_at"))
		return OK;	/* settled meanwhile */
	return copy_push(job, &voice_copy);
}

/* retry-voice-status, every five minutes: voices in training that no job looks after get one. */
enum fault voice_watch(struct job *job)
{
	struct rows n;
	struct tx tx;
	TRY(system_begin(&tx, job->arena));
	TRY(voices_drift(&tx, (struct voices_drift){ 0 }, &n));
	tx.wakes_jobs = pg_int(&n, 0, "n") > 0;
	job_park(job, &tx, (clock_now_us() / (300 * US_PER_S) + 1) * 300 * US_PER_S, pg_bool(&n, 0, "living") ? STR("{}") : JOB_IDLE);
	return tx_commit(&tx);
}

/* The provider's sample of the voice, kept for a day. */
enum fault voice_preview(struct job *job)
{
	struct arena *a = job->arena;
	struct copy c = { .job = job, .kind = &voice_copy };
	struct str bytes, type;
	struct tx tx;
	char until[CLOCK_TEXT_BYTES];
	tenant_read(&tx, a, &job->scope);
	TRY(load(&tx, job->resource_id, &c.row));
	if (!c.row.count || job->attempts > 1)
		return OK;
	TRY(voice_account_open(a, &job->scope, column(&c, "mode"), column(&c, "credential_id"), &c.account));
	enum fault fault = voice_bytes(a, &c.account, str_format(a, "/api/voices/%.*s/preview", STRF(column(&c, "provider_id"))),
		&bytes, &type);
	if (fault == FAULT_PROVIDER_ERROR || fault == FAULT_NOT_FOUND) {
		struct buf b = BUF_IN(a, 4096);
		buf_text(&b, "{\"problem\":");
		buf_json(&b, str_of(fault_note->message));
		buf_char(&b, '}');
		job->answer = buf_view(&b);
		return OK;
	}
	TRY(fault);
	bool wav = !str_starts(type, "audio/mp");
	struct str object = str_format(a, "voices/client_%.*s/%.*s/preview", STRF(job->scope.client_id), STRF(job->resource_id));
	TRY(objects_put(a, object, wav ? STR("audio/wav") : STR("audio/mpeg"), bytes));
	job->answer = str_format(a, "{\"object\":\"%.*s\",\"type\":\"%s\",\"until\":\"%s\"}", STRF(object), wav ? "audio/wav" : "audio/mpeg",
		clock_text(clock_now_us() + 86400 * US_PER_S, until));
	TRY(tenant_begin(&tx, a, &job->scope));
	voices_previewed_later(&tx, (struct voices_previewed){ .id = job->resource_id, .preview = job->answer }, NULL);
	job_done(job, &tx);
	return tx_commit(&tx);
}
