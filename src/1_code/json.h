/* JSON in by jansson, with the limits it lacks: one scan refuses depth and count before the
 * recursive parser runs. Values belong to the arena. */
#ifndef TL_JSON_H
#define TL_JSON_H

#include "../0_base/fault.h"
#include <jansson.h>

#define JSON_MAX_DEPTH 32
#define JSON_MAX_VALUES 200000

/* One object (RFC 8259), no duplicate members, valid UTF-8, no NUL, integers within 64 bits.
 * FAULT_BAD_REQUEST with a message that says where. */
enum fault json_read(struct arena *arena, struct str text, json_t **ret_object) MUST_CHECK;
/* The same for an array or an object, used for providers' answers. */
enum fault json_read_any(struct arena *arena, struct str text, json_t **ret_value) MUST_CHECK;

/* The value at a dotted path as text; STR_NULL when absent or not a string. */
struct str json_text(const json_t *value, const char *dotted_path);
json_t *json_at(const json_t *value, const char *dotted_path);
struct str json_dump(struct arena *arena, const json_t *value);	/* compact */

#endif
