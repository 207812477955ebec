/* The ElevenLabs client. Authentication by xi-api-key; errors in two shapes: detail as a list, or an object with a message. */
#include "elevenlabs.h"
#include "../3_core/config.h"
#include "../3_core/credentials.h"

#define ANSWER_BYTES ((size_t)1 << 20)
#define SAMPLES_MOST 10

static enum fault exchange(struct arena *arena, const struct scope *scope, struct str key, const char *method, const char *path,
	struct str type,
	struct str body, struct fetch *f)
{
	struct str base = config.elevenlabs_base_url.n ? config.elevenlabs_base_url : str_starts(config.sandbox, "http") ? config.sandbox
		: STR("https://api.elevenlabs.io");
	struct provider_at at = { .provider = "elevenlabs", .base_url = base, .key = key, .request_id = scope->request_id };
	struct fetch_header headers[] = { { "xi-api-key", key }, { "Content-Type", type } };
	*f = (struct fetch){ .method = method, .headers = headers, .header_count = body.p ? 2 : 1, .body = body, .most_bytes = ANSWER_BYTES };
	return provider_exchange(arena, &at, path, f);
}

static struct str problem_of(struct arena *arena, struct str answer)
{
	json_t *body;
	if (json_read(arena, answer, &body) == OK) {
		struct str object = json_text(body, "detail.message"), item = json_text(json_array_get(json_object_get(body, "detail"), 0), "msg");
		if (object.p || item.p)
			return str_copy(arena, str_clip(object.p ? object : item, 300));
	}
	return STR("an answer that tells no reason");
}

enum fault eleven_key(struct arena *arena, const struct scope *scope, struct str *ret)
{
	struct credential_use use;
	TRY(credential_open(arena, scope, "elevenlabs", STR_NULL, &use));
	*ret = use.secret;
	return OK;
}

struct voice_answer eleven_clone(struct arena *arena, const struct scope *scope, struct str key, struct str name,
	const struct eleven_sample *samples, size_t n)
{
	struct form_part parts[SAMPLES_MOST + 1] = { { "name", name, STR_NULL, STR_NULL } };
	struct voice_answer a = { .verdict = VOICE_AMBIGUOUS, .retry_after_s = -1, .provider = "ElevenLabs" };
	struct str type, body;
	struct fetch f;
	for (size_t i = 0; i < n && i < SAMPLES_MOST; i++)
		parts[i + 1] = (struct form_part){ "files", samples[i].bytes, samples[i].file_name, samples[i].type };
	body = form_write(arena, parts, n + 1, &type);
	enum fault fault = exchange(arena, scope, key, "POST", "/v1/voices/add", type, body, &f);
	a.http_status = f.status;
	a.retry_after_s = f.retry_after_s;
	if (fault != OK) {
		a.verdict = f.sent ? VOICE_AMBIGUOUS : VOICE_NOT_ACCEPTED;
		a.problem = str_copy(arena, str_of(fault_note->message));
	} else if (f.status / 100 == 2) {
		if (json_read(arena, f.answer, &a.body) == OK)
			a.id = json_text(a.body, "voice_id");
		a.verdict = a.id.n ? VOICE_ACCEPTED : VOICE_AMBIGUOUS;
		a.problem = STR("The answer could not be read");
	} else {
		a.problem = problem_of(arena, f.answer);
		a.verdict = f.status == 429 || f.status == 503 ? VOICE_NOT_ACCEPTED : f.status == 500 ? VOICE_FAILED
			: f.status / 100 == 4 ? VOICE_REFUSED : VOICE_AMBIGUOUS;
	}
	return a;
}

enum fault eleven_find(struct arena *arena, const struct scope *scope, struct str key, struct str reference, struct str *ret_id)
{
	struct fetch f;
	json_t *page, *one;
	size_t i;
	*ret_id = STR_NULL;
	TRY(exchange(arena, scope, key, "GET", str_format(arena, "/v2/voices?page_size=100&search=%.*s", STRF(reference)).p, STR_NULL,
		STR_NULL, &f));
	if (f.status != 200 || json_read(arena, f.answer, &page) != OK || !json_is_array(json_object_get(page, "voices")))
		return fault_raise(FAULT_IO, "ElevenLabs answered %d to a look-up", f.status);
	json_array_foreach(json_object_get(page, "voices"), i, one) {
		struct str name = json_text(one, "name");
		if (name.p && str_starts(name, reference.p))
			*ret_id = json_text(one, "voice_id");
	}
	return OK;
}

enum fault eleven_delete(struct arena *arena, const struct scope *scope, struct str key, struct str id)
{
	struct fetch f;
	TRY(exchange(arena, scope, key, "DELETE", str_format(arena, "/v1/voices/%.*s", STRF(id)).p, STR_NULL, STR_NULL, &f));
	bool gone = f.status / 100 == 2 || f.status == 404 || f.status == 400 || f.status == 401;	/* a key taken back ends it too */
	return gone ? OK : fault_raise(FAULT_IO, "ElevenLabs answered %d to a deletion", f.status);
}
