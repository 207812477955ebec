/* What an audio file says of itself: its container and how long it lasts. Reads headers and frame heads, decodes nothing. WAV (RIFF), MP3
 * (MPEG-1/2/2.5 layer III, ISO 11172-3; ID3v2 skipped), Ogg (RFC 3533, Vorbis and Opus), FLAC (RFC 9639), WebM (Matroska
 * Duration), M4A (ISO 14496-12 mvhd). */
#ifndef TL_AUDIO_H
#define TL_AUDIO_H

#include "../0_base/str.h"

struct audio {
	const char *format;	/* wav, mp3, ogg, flac, webm or m4a */
	double seconds;		/* 0 = it does not say */
};

bool audio_read(struct str bytes, struct audio *ret_audio);	/* false: none of these */

/* Several WAVs of equal format as one; NULL p when they differ. */
struct str audio_join_wav(struct arena *arena, const struct str *files, size_t n);

#endif
