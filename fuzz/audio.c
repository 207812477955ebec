/* Headers of uploaded audio, alone and joined. */
#include "1_code/audio.h"
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct arena *arena = arena_make();
	struct str bytes = str_copy(arena, (struct str){ (const char *)data, size }), files[] = { bytes, bytes };
	struct audio audio;
	if (size && audio_read(bytes, &audio) && !(audio.seconds >= 0))
		abort();
	if (size)
		audio_join_wav(arena, files, 2);
	arena_drop(arena);
	return 0;
}
