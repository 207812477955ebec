/* What a new voice is made of. */
#include "voices.h"
#include "../uploads/uploads.h"
#include "../../1_code/audio.h"
#include "../../3_core/config.h"
#include "../../3_core/credentials.h"
#include "../../4_out/elevenlabs.h"
#include "../../4_out/objects.h"

#define SAMPLE_LEAST_S 3
#define SAMPLE_MOST_S 10
#define ALL_LEAST_S 15

/* Our names of providers, and theirs in a definition, with the member that names the model and the settings each takes. */
static const struct {
	const char *name, *there, *model;
	const char *settings[6][2];
} providers[] = {
	{ "elevenlabs", "elevenLabs", "model", { { "speed", "speed" }, { "use_speaker_boost", "useSpeakerBoost" }, { "style", "style" },
		{ "similarity_boost", "similarityBoost" }, { "stability", "stability" } } },
	{ "cartesia", "cartesia", "model", { { NULL } } },
	{ "lmnt", "lmnt", "model", { { "speed", "speed" }, { "conversational", "conversational" } } },
	{ "google_cloud", "google", NULL, { { "speaking_rate", "speakingRate" } } },
	{ "inworld", "inworld", "modelId", { { "speaking_rate", "speakingRate" }, { "temperature", "temperature" } } },
	{ "respeecher", "respeecher", "model", { { "temperature", "temperature" } } },
};
#define PROVIDERS (sizeof providers / sizeof *providers)

static size_t find(struct str name)
{
	size_t i = 0;
	while (i < PROVIDERS && !str_is(name, providers[i].name))
		i++;
	return i;
}

bool voice_provider_known(struct str name) { return find(name) < PROVIDERS; }

enum fault voice_definition(struct arena *arena, struct str provider, struct str voice_id, struct str overrides, struct str *ret)
{
	size_t p = find(provider);
	struct buf b = BUF_IN(arena, 65536);
	json_t *all, *settings;
	if (p == PROVIDERS)
		return fault_raise(FAULT_PROVIDER_ERROR, "The voice provider does not speak with %.*s", STRF(provider));
	TRY(json_read(arena, overrides, &all));
	settings = json_object_get(all, "settings");
	buf_format(&b, "{\"%s\":{\"voiceId\":", providers[p].there);
	buf_json(&b, voice_id);
	if (providers[p].model && json_text(all, "model").p) {
		buf_format(&b, ",\"%s\":", providers[p].model);
		buf_json(&b, json_text(all, "model"));
	}
	for (int i = 0; i < 6 && providers[p].settings[i][0]; i++) {
		json_t *value = json_object_get(settings, providers[p].settings[i][0]);
		if (json_is_number(value))
			buf_format(&b, ",\"%s\":%.9g", providers[p].settings[i][1], json_number_value(value));
		else if (json_is_boolean(value))
			buf_format(&b, ",\"%s\":%s", providers[p].settings[i][1], json_is_true(value) ? "true" : "false");
	}
	buf_text(&b, "}}");
	*ret = buf_view(&b);
	return OK;
}

static void warn(struct req *req, const char *field, const char *reason)
{
	struct shape_warning *w = arena_new(req->arena, struct shape_warning);
	*w = (struct shape_warning){ .next = req->warnings, .field = str_of(field), .reason = reason };
	req->warnings = w;
}

/* Advice about lengths: a warning, or a refusal where the installation is strict. */
static enum fault advise(struct req *req, const char *field, const char *reason)
{
	if (config.voice_samples_strict)
		return fault_field(field, reason);
	warn(req, field, reason);
	return OK;
}

/* The sample's file, measured. Its arena lives no longer than this, so ten samples need the room of one. */
static enum fault measure(struct voice_sample *s, const char *field)
{
	struct arena *arena = arena_make();
	struct audio audio;
	struct str bytes;
	enum fault fault = objects_get(arena, s->key, SAMPLE_BYTES + 4096, &bytes);
	if (fault == FAULT_NOT_FOUND)
		fault_detail("field", str_of(field));
	if (fault == OK && !audio_read(bytes, &audio))
		fault = fault_field(field, "is no wav, mp3, ogg, flac, webm or m4a audio");
	if (fault == OK) {
		s->format = audio.format;
		s->seconds = audio.seconds;
		s->bytes = (int64_t)bytes.n;
	}
	arena_drop(arena);
	return fault;
}

static enum fault read_sample(struct req *req, struct tx *tx, const json_t *in, size_t i, struct voice_sample *ret)
{
	const char *field = str_format(req->arena, "source.samples[%zu]", i).p;
	struct str name = json_text(in, "upload_id"), key = json_text(in, "s3_key"), text = json_text(in, "text");
	json_t *said = json_object_get(in, "duration_seconds");
	struct upload_row upload;
	if (!json_is_object(in) || (!name.n && !key.n))
		return fault_field(field, "must have s3_key or upload_id");
	if (!json_is_number(said) || json_number_value(said) <= 0)
		return fault_field(str_format(req->arena, "%s.duration_seconds", field).p, "must be above 0");
	if (text.p && str_chars(text) > 1000)
		return fault_field(str_format(req->arena, "%s.text", field).p, "must have at most 1000 characters");
	enum fault fault = uploads_find(tx, "voices", STR_NULL, name.n ? name : key, &upload);
	if (fault == FAULT_NOT_FOUND)
		fault_detail("field", str_of(field));
	TRY(fault);
	*ret = (struct voice_sample){ .upload_id = upload.id, .key = upload.key, .text = text };
	TRY(measure(ret, field));
	if (ret->seconds > 0 && (ret->seconds < SAMPLE_LEAST_S || ret->seconds > SAMPLE_MOST_S))
		TRY(advise(req, field, "3 to 10 seconds are advised"));
	return OK;
}

static enum fault read_samples(struct req *req, const json_t *list, struct voice_plan *plan)
{
	struct tx tx;
	json_t *one;
	size_t i;
	double seconds = 0;
	if (!json_is_array(list) || !json_array_size(list) || json_array_size(list) > SAMPLES_MOST)
		return fault_field("source.samples", "must have 1..10 items");
	req_read(req, &tx);
	json_array_foreach(list, i, one) {
		TRY(read_sample(req, &tx, one, i, &plan->samples[i]));
		seconds += plan->samples[i].seconds;
	}
	plan->sample_count = json_array_size(list);
	return seconds < ALL_LEAST_S ? advise(req, "source.samples", "15 seconds in total are advised") : OK;
}

/* A clone at ElevenLabs needs a key of the client's or its agency's. */
static enum fault need_eleven(struct req *req)
{
	struct str key;
	enum fault fault = eleven_key(req->arena, &req->scope, &key);
	return fault == FAULT_NOT_FOUND ? fault_field("provider_overrides.provider",
		"needs an elevenlabs key: PATCH /auth/providers/tts") : fault;
}

static enum fault external(struct req *req, const json_t *source, const json_t *overrides, struct voice_plan *plan)
{
	struct str id = json_text(source, "provider_voice_id"), there = json_text(overrides, "voice_id");
	plan->provider_voice_id = id.n ? id : there;
	(void)req;
	if (!plan->provider.n)
		return fault_field("provider_overrides.provider", "is required: elevenlabs, cartesia, lmnt, google_cloud, inworld or respeecher");
	if (!voice_provider_known(plan->provider))
		return fault_field("provider_overrides.provider", "must be elevenlabs, cartesia, lmnt, google_cloud, inworld or respeecher");
	if (!plan->provider_voice_id.n || plan->provider_voice_id.n > 200)
		return fault_field("source.provider_voice_id", "is required, at most 200 characters");
	return OK;
}

enum fault voice_plan_read(struct req *req, const struct voice_new *in, struct voice_plan *plan)
{
	json_t *source, *overrides, *samples;
	TRY(json_read(req->arena, in->source.p ? in->source : STR("{}"), &source));
	TRY(json_read(req->arena, in->provider_overrides.p ? in->provider_overrides : STR("{}"), &overrides));
	samples = json_object_get(source, "samples");
	struct str type = json_text(source, "type"), strategy = in->strategy;
	*plan = (struct voice_plan){ .provider = credential_service(json_text(overrides, "provider")) };
	if (type.p && !str_is(type, "native") && !str_is(type, "external"))
		return fault_field("source.type", "must be native or external");
	if (str_is(strategy, "auto"))
		strategy = type.p ? type : json_array_size(samples) ? STR("native") : STR("external");
	if (str_is(strategy, "external") && !json_text(source, "provider_voice_id").n && !json_text(overrides, "voice_id").n &&
		!plan->provider.n)
		return fault_field("source", "needs samples, or a provider_voice_id");
	if (str_is(strategy, "external"))
		return external(req, source, overrides, plan);
	TRY(read_samples(req, samples, plan));
	if (str_is(plan->provider, "elevenlabs"))
		return need_eleven(req);
	if (plan->provider.n && !str_is(plan->provider, "ultravox"))
		return fault_field("provider_overrides.provider", "clones are made by the voice provider or by elevenlabs");
	plan->native = true;
	plan->provider = STR("ultravox");
	return OK;
}
