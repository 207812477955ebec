/* Shapes: what a JSON object looks like, said once. A request shape decodes and validates into
 * a C struct, a reply shape encodes a row, and both become OpenAPI schemas. All violations of
 * one body are gathered before it is refused; unknown fields become warnings. */
#ifndef TL_SHAPE_H
#define TL_SHAPE_H

#include "json.h"

enum shape_type {
	SHAPE_UUID,	/* struct str, lower-cased */
	SHAPE_TEXT,	/* struct str; min..max code points */
	SHAPE_ENUM,	/* struct str; one of the comma list `values` */
	SHAPE_PHONE,	/* struct str, normalised to E.164 */
	SHAPE_URL,	/* struct str; http or https */
	SHAPE_TIME,	/* struct str; RFC 3339 with offset */
	SHAPE_INT,	/* int64_t; min..max */
	SHAPE_NUMBER,	/* reply only */
	SHAPE_BOOL,	/* bool */
	SHAPE_OBJECT,	/* struct str: compact JSON of an object, at most max bytes */
	SHAPE_LIST,	/* struct str: compact JSON of an array of `sub`, min..max items */
	SHAPE_PART,	/* a nested struct described by `sub` */
};

enum shape_flag {
	SHAPE_REQUIRED = 1,
	SHAPE_MAYBE = 2,	/* reply: may be null; request: null clears it on PATCH */
	SHAPE_OMIT = 4,		/* reply: left out when null */
};

struct shape_field {
	const char *name;
	enum shape_type type;
	unsigned flags;
	int64_t min, max;
	const char *values;
	const struct shape *sub;
	size_t offset;
	const char *doc;
	const char *preset;	/* what an absent request field counts as: text, digits or "true" */
};

struct shape {
	const char *name;
	const struct shape_field *fields;
	size_t count;		/* at most 64 */
	bool item_is_text;	/* as the sub of a list: plain strings, bounds in fields[0] */
};

#define SHAPE(shape_name, list) { .name = (shape_name), .fields = (list), .count = sizeof(list) / sizeof *(list) }

struct shape_warning {
	struct shape_warning *next;
	struct str field;
	const char *reason;
};

/* Reads `body` into `out`, whose fields keep what they held when absent (defaults). Bit i of
 * *ret_set tells that field i was given; nested parts have no bits of their own.
 * FAULT_VALIDATION_ERROR with every violation in the details. */
enum fault shape_read(struct arena *arena, const struct shape *shape, const json_t *body, void *out,
	uint64_t *ret_set, struct shape_warning **ret_warnings) MUST_CHECK;

/* JSON Schema (2020-12) of the shape, as OpenAPI 3.1 wants it. */
void shape_schema(struct buf *buf, const struct shape *shape, bool reply);

/* E.164 from what people type: blanks, dots, dashes, slashes and brackets are stripped. */
bool phone_read(struct arena *arena, struct str text, struct str *ret_e164);

#endif
