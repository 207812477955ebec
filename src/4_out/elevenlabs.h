/* ElevenLabs: instant voice clones with a tenant's own key (https://api.elevenlabs.io, POST /v1/voices/add). A clone burns one of the
 * account's slots each time it is made, so it is looked for by its name before another is. */
#ifndef TL_ELEVENLABS_H
#define TL_ELEVENLABS_H

#include "voice_provider.h"

struct eleven_sample {
	struct str bytes, file_name, type;
};

/* NOT_FOUND when neither client nor agency has such a key. */
enum fault eleven_key(struct arena *arena, const struct scope *scope, struct str *ret_key) MUST_CHECK;
struct voice_answer eleven_clone(struct arena *arena, const struct scope *scope, struct str key, struct str name,
	const struct eleven_sample *samples, size_t n);
/* By the start of its name; NULL p = none. */
enum fault eleven_find(struct arena *arena, const struct scope *scope, struct str key, struct str reference, struct str *ret_id) MUST_CHECK;
enum fault eleven_delete(struct arena *arena, const struct scope *scope, struct str key, struct str id) MUST_CHECK;	/* absent is OK */

#endif
