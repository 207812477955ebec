/* Fetches transcript and recording from the provider into our own store. A job may run twice: the
 * object key is fixed by the call, so the second run writes the same object. */
#include "calls.h"
#include "artifacts.sql.h"
#include "dial.h"
#include "../../0_base/clock.h"
#include "../../0_base/log.h"
#include "../../1_code/b64.h"
#include "../../1_code/sign.h"
#include "../../1_code/uuid.h"
#include "../../2_io/fiber.h"
#include "../../2_io/file.h"
#include "../../3_core/config.h"
#include "../../3_core/events.h"
#include "../../4_out/objects.h"
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>

#define DEADLINE_US (86400 * US_PER_S)

struct artifact {
	const char *kind, *event;
	struct str provider_id;
	struct voice_account account;
	int64_t ended_us, answered_us;
	bool pending;
};

static enum fault load(struct job *job, struct artifact *ret)
{
	struct rows row;
	struct tx tx;
	tenant_read(&tx, job->arena, &job->scope);
	TRY(artifacts_load(&tx, (struct artifacts_load){ .id = job->resource_id, .kind = str_of(ret->kind) }, &row));
	ret->pending = row.count && str_is(pg_col(job->arena, &row, 0, "status"), "pending");
	if (!ret->pending)
		return OK;
	TRY(voice_account_open(job->arena, &job->scope, pg_col(job->arena, &row, 0, "mode"),
		pg_col(job->arena, &row, 0, "credential_id"), &ret->account));
	ret->provider_id = pg_col(job->arena, &row, 0, "ultravox_call_id");
	ret->answered_us = pg_time_us(&row, 0, "answered_at");
	ret->ended_us = pg_time_us(&row, 0, "provider_ended_at");
	return OK;
}

static enum fault store(struct job *job, const struct artifact *a, struct artifacts_store in, struct str data)
{
	struct rows stored;
	struct tx tx;
	in.id = job->resource_id;
	in.kind = str_of(a->kind);
	TRY(tenant_begin(&tx, job->arena, &job->scope));
	TRY(artifacts_store(&tx, in, &stored));
	job_done(job, &tx);
	if (stored.count && data.p)
		event_emit(&tx, a->event, "call", job->resource_id, data);
	return tx_commit(&tx);
}

/* Not there yet: 10 s, doubling to 10 min, for a day; then there is none. */
static enum fault later(struct job *job, const struct artifact *a)
{
	struct tx tx;
	int64_t n = json_integer_value(json_object_get(job->payload, "n")), wait_s = 10;
	if (clock_now_us() > a->ended_us + DEADLINE_US)
		return store(job, a, (struct artifacts_store){ .status = STR("none") }, STR_NULL);
	for (int64_t i = 0; i < n && wait_s < 600; i++)
		wait_s *= 2;
	TRY(tenant_begin(&tx, job->arena, &job->scope));
	job_park(job, &tx, clock_now_us() + (wait_s > 600 ? 600 : wait_s) * US_PER_S,
		str_format(job->arena, "{\"n\":%lld}", (long long)n + 1));
	return tx_commit(&tx);
}

static const char *speaker_of(struct str role)
{
	return str_is(role, "MESSAGE_ROLE_AGENT") ? "agent" : str_is(role, "MESSAGE_ROLE_USER") ? "customer" : "tool";
}

static struct str items_of(struct arena *arena, const json_t *messages, int64_t answered_us, int64_t *ret_count)
{
	struct buf b = BUF_IN(arena, (size_t)6 << 20);
	size_t i;
	json_t *m;
	*ret_count = 0;
	buf_char(&b, '[');
	json_array_foreach(messages, i, m) {
		struct str text = json_text(m, "text"), start = json_text(m, "timespan.start");
		char at[CLOCK_TEXT_BYTES];
		double s = 0;
		if (!text.n)
			continue;
		if (start.n)	/* "12.5s" */
			s = strtod(start.p, NULL);
		buf_text(&b, (*ret_count)++ ? ",{" : "{");
		buf_format(&b, "\"speaker\":\"%s\",\"text\":", speaker_of(json_text(m, "role")));
		buf_json(&b, text);
		buf_format(&b, ",\"start_seconds\":%.3f,\"timestamp\":%.3f,\"at\":\"%s\"}", s, s,
			clock_text(answered_us + (int64_t)(s * 1e6), at));
	}
	buf_char(&b, ']');
	return buf_view(&b);
}

enum fault call_transcript(struct job *job)
{
	struct artifact a = { .kind = "transcript", .event = "call.transcript.ready" };
	json_t *messages;
	int64_t count;
	TRY(load(job, &a));
	if (!a.pending)
		return OK;
	enum fault fault = voice_messages(job->arena, &a.account, a.provider_id, &messages);
	if (fault == FAULT_NOT_FOUND || fault == FAULT_UNAVAILABLE)
		return later(job, &a);
	TRY(fault);
	struct str items = items_of(job->arena, messages, a.answered_us, &count);
	struct str key = str_format(job->arena, "transcripts/client_%.*s/%.*s.json", STRF(job->scope.client_id),
		STRF(job->resource_id));
	TRY(objects_put(job->arena, key, STR("application/json"), items));
	return store(job, &a, (struct artifacts_store){ .status = STR("ready"), .object_key = key, .format = STR("json"),
			.items = items, .bytes = (int64_t)items.n },
		str_format(job->arena, "{\"call_id\":\"%.*s\",\"items\":%lld}", STRF(job->resource_id), (long long)count));
}

/* A recording on its way through a file of ours: never the whole in memory. What broke off on the way is kept, and the next try asks
 * for the rest: a recording does not change once its call is over. */
struct tape {
	struct arena *arena;
	const char *path;
	int fd;
	int64_t kept, bytes;	/* of an earlier try; in all */
	bool begun, resumed;
	struct sign_hash *hash;
	char head[4096];	/* enough for a WAV's header */
};

/* Header and digest of what is about to be, or is already, in the file. */
static void learn(struct tape *t, struct str part)
{
	if (t->bytes < (int64_t)sizeof t->head) {
		size_t at = (size_t)t->bytes, room = sizeof t->head - at;
		memcpy(t->head + at, part.p, part.n < room ? part.n : room);
	}
	t->bytes += (int64_t)part.n;
	sign_hash_add(t->hash, part);
}

#define LEARN_BYTES ((size_t)256 << 10)

static enum fault learn_kept(struct tape *t)
{
	size_t n = (size_t)t->kept;
	char *bytes = n ? mmap(NULL, n, PROT_READ, MAP_PRIVATE, t->fd, 0) : NULL;
	if (bytes == MAP_FAILED)
		return fault_raise(FAULT_IO, "The file cannot be mapped");
	for (size_t at = 0; at < n; at += LEARN_BYTES) {
		learn(t, (struct str){ bytes + at, n - at < LEARN_BYTES ? n - at : LEARN_BYTES });
		fiber_sleep_ms(0);	/* others too */
	}
	return n && munmap(bytes, n) != 0 ? fault_raise(FAULT_IO, "The file cannot be unmapped") : OK;
}

static enum fault take(void *context, struct str part)
{
	struct tape *t = context;
	if (!t->begun && !t->kept) {	/* from the start, whatever lies there */
		int fd;
		TRY(file_open(t->path, O_RDWR | O_TRUNC, &fd));
		file_close(t->fd);
		t->fd = fd;
		sign_hash_end(t->arena, t->hash);
		t->hash = sign_hash_start();
		t->bytes = 0;
	}
	t->begun = true;
	learn(t, part);
	return file_write(t->fd, part);
}

static uint32_t little(const char *p) { uint32_t v; memcpy(&v, p, 4); return v; }

/* RIFF/WAVE: byte rate at 28, then chunks until "data". The length is what came, whatever the header of a stream says. */
static int64_t wav_ms(const struct tape *t)
{
	size_t n = t->bytes < (int64_t)sizeof t->head ? (size_t)t->bytes : sizeof t->head;
	if (n < 44 || memcmp(t->head, "RIFF", 4) != 0 || memcmp(t->head + 8, "WAVE", 4) != 0)
		return -1;
	uint32_t rate = little(t->head + 28);
	for (size_t at = 12; at + 8 <= n && rate; ) {
		int64_t size = little(t->head + at + 4), left = t->bytes - (int64_t)at - 8;
		if (memcmp(t->head + at, "data", 4) == 0)
			return (size > left ? left : size) * 1000 / rate;
		at += 8 + (size_t)size + (size & 1);
	}
	return -1;
}

/* Fetched into `path`, then stored under `key` of its format. */
static enum fault copy(struct job *job, struct artifact *a, struct tape *t, struct artifacts_store *ret)
{
	struct str type;
	struct file_stat stat;
	TRY(file_open(t->path, O_RDWR | O_CREAT | O_APPEND, &t->fd));
	t->hash = sign_hash_start();
	enum fault fault = file_size(t->fd, &stat);
	t->kept = fault == OK && stat.size < config.recording_max_bytes ? stat.size : 0;
	t->resumed = t->kept > 0;
	if (fault == OK)
		fault = learn_kept(t);
	if (fault == OK)
		fault = voice_bytes_to(job->arena, &a->account, str_format(job->arena, "/api/calls/%.*s/recording", STRF(a->provider_id)),
			config.recording_max_bytes, &t->kept, take, t, &type);
	file_close(t->fd);
	struct str digest = hex_write(job->arena, sign_hash_end(job->arena, t->hash));
	TRY(fault);
	int64_t ms = wav_ms(t);
	const char *format = ms >= 0 ? "wav" : "mp3";
	struct str key = str_format(job->arena, "recordings/client_%.*s/%.*s.%s", STRF(job->scope.client_id), STRF(job->resource_id), format);
	TRY(objects_put_file(job->arena, key, ms >= 0 ? STR("audio/wav") : STR("audio/mpeg"), t->path));
	*ret = (struct artifacts_store){ .status = STR("ready"), .object_key = key, .format = str_of(format), .bytes = t->bytes,
		.duration_ms = ms < 0 ? 0 : ms, .sha256 = digest };
	return OK;
}

enum fault call_recording(struct job *job)
{
	struct artifact a = { .kind = "recording", .event = "call.recording.ready" };
	struct artifacts_store stored;
	TRY(load(job, &a));
	if (!a.pending)
		return OK;
	struct str path = str_format(job->arena, "%.*s/tmp/recording-%.*s-%.*s", STRF(config.data), STRF(job->resource_id), STRF(job->id));
	struct tape tape = { .arena = job->arena, .path = path.p };
	TRY(file_make_folders(job->arena, path.p));
	enum fault fault = copy(job, &a, &tape, &stored);
	struct fault_note keep = *fault_note;
	if ((fault != FAULT_IO && fault != FAULT_TIMEOUT) || !tape.begun)	/* broken off after some bytes: the next try goes on there */
		TRY(file_remove(path.p));
	*fault_note = keep;
	if (fault == FAULT_NOT_FOUND)
		return later(job, &a);
	if (fault == FAULT_PAYLOAD_TOO_LARGE && !tape.resumed) {	/* else perhaps the whole came on top of a part: tried anew */
		log_line(LOG_WARN, "recording larger than recording_max_bytes", "call_id", job->resource_id.p, NULL);
		return store(job, &a, (struct artifacts_store){ .status = STR("none") }, STR_NULL);
	}
	TRY(fault);
	return store(job, &a, stored, str_format(job->arena, "{\"call_id\":\"%.*s\",\"format\":\"%.*s\",\"size_bytes\":%lld}",
		STRF(job->resource_id), STRF(stored.format), (long long)tape.bytes));
}

/* A call's jobs are never given up within a week of backing off: nothing accepted is lost. */
#define TRIES 1000
const struct job_kind calls_jobs[] = {
	{ "call.dial", "q-campaign-dialer", call_dial, TRIES },
	{ "call.lookup", "q-campaign-dialer", call_lookup, TRIES },
	{ "call.finish", "q-artifacts-sync", call_finish, TRIES },
	{ "call.watch", "q-artifacts-sync", call_watch, TRIES },
	{ "call.transcript", "q-artifacts-sync", call_transcript, TRIES },
	{ "call.recording", "q-artifacts-sync", call_recording, TRIES },
	{ "call.hangup", "q-campaign-dialer", call_hangup, TRIES },
	{ "call.erase", "q-artifacts-sync", call_erase, TRIES },
	{ 0 },
};
