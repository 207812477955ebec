/* Voices: cloned from samples (native at the voice provider, or at ElevenLabs and then imported) or referenced by another provider's id. */
#ifndef TL_VOICES_H
#define TL_VOICES_H

#include "../../3_core/jobs.h"
#include "../../3_core/route.h"

#define TRAINING_CREDITS 50
#define SAMPLES_MOST 10
#define SAMPLE_BYTES ((size_t)10 << 20)

extern const struct route voices_routes[];
extern const struct job_kind voices_jobs[];

struct voice_new {
	struct str name, description, language, strategy, source, provider_overrides;
};

/* A sample as measured. */
struct voice_sample {
	struct str upload_id, key, text;
	const char *format;
	double seconds;
	int64_t bytes;
};

/* What a creation asks for, judged: 422 or 404 naming the field. Reads the samples from our store, so it holds no transaction. */
struct voice_plan {
	bool native;				/* credits are taken; the samples go to the voice provider */
	struct str provider, provider_voice_id;	/* provider: ultravox when native */
	struct voice_sample samples[SAMPLES_MOST];
	size_t sample_count;
};
enum fault voice_plan_read(struct req *req, const struct voice_new *in, struct voice_plan *ret) MUST_CHECK;
/* The `definition` of an import (schema ultravox.v1.ExternalVoice). */
enum fault voice_definition(struct arena *arena, struct str provider, struct str voice_id, struct str overrides,
	struct str *ret) MUST_CHECK;
bool voice_provider_known(struct str provider);	/* can the voice provider speak with it? */

enum fault voice_push(struct job *job) MUST_CHECK;
enum fault voice_preview(struct job *job) MUST_CHECK;
enum fault voice_watch(struct job *job) MUST_CHECK;	/* retry-voice-status */

struct str voice_event_data(struct arena *arena, struct str id, struct str provider_id, const char *status, struct str error);

#endif
