/* The object store: S3 by SigV4, path style; the embedded store of this server speaks the same. */
#ifndef TL_OBJECTS_H
#define TL_OBJECTS_H

#include "../0_base/fault.h"
#include "../1_code/sigv4.h"

/* A file's bytes, mapped, not read into memory; in parts when it is large (S3 multipart upload). */
enum fault objects_put_file(struct arena *arena, struct str key, struct str type, const char *path) MUST_CHECK;
enum fault objects_put(struct arena *arena, struct str key, struct str type, struct str bytes) MUST_CHECK;
enum fault objects_get(struct arena *arena, struct str key, size_t most, struct str *ret_bytes) MUST_CHECK;
/* Into `take`, part by part; never the whole in memory. */
enum fault objects_get_to(struct arena *arena, struct str key, int64_t most, enum fault (*take)(void *context, struct str part),
	void *context) MUST_CHECK;
/* NOT_FOUND when absent. */
enum fault objects_head(struct arena *arena, struct str key, int64_t *ret_bytes) MUST_CHECK;
enum fault objects_delete(struct arena *arena, struct str key) MUST_CHECK;	/* absent is OK */
/* A URL that GETs `key` for `ttl_s` seconds of business time. */
/* A PUT of exactly `bytes` bytes: the length is signed, so neither more nor less is taken. */
struct str objects_presign_put(struct arena *arena, struct str key, int64_t bytes, int ttl_s);
struct str objects_presign(struct arena *arena, const char *method, struct str key, int ttl_s);
struct sigv4_key objects_key(struct arena *arena);	/* also what the embedded store accepts */

#endif
