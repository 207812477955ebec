/* The jobs of a call, for the table in jobs.c of this slice. */
#ifndef TL_DIAL_H
#define TL_DIAL_H

#include "../../3_core/jobs.h"
#include "../../4_out/voice_provider.h"

enum fault call_dial(struct job *job) MUST_CHECK;
enum fault call_lookup(struct job *job) MUST_CHECK;
enum fault call_finish(struct job *job) MUST_CHECK;
enum fault call_watch(struct job *job) MUST_CHECK;
enum fault call_transcript(struct job *job) MUST_CHECK;
enum fault call_recording(struct job *job) MUST_CHECK;

#endif
