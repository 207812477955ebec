/* The depth and count scan, and small readers. */
#include "json.h"
#include <stdlib.h>

static void drop(void *value) { json_decref(value); }

/* Walks the bytes once, outside strings only. Syntax is the parser's business. */
static enum fault scan(struct str t)
{
	size_t depth = 0, values = 1;
	bool quoted = false;
	for (size_t i = 0; i < t.n; i++) {
		char c = t.p[i];
		if (quoted) {
			if (c == '\\')
				i++;
			else if (c == '"')
				quoted = false;
			continue;
		}
		if (c == '"')
			quoted = true;
		else if (c == '{' || c == '[')
			depth++, values++;
		else if ((c == '}' || c == ']') && depth)
			depth--;
		else if (c == ',')
			values++;
		if (depth > JSON_MAX_DEPTH)
			return fault_raise(FAULT_BAD_REQUEST, "JSON is nested deeper than %d levels", JSON_MAX_DEPTH);
		if (values > JSON_MAX_VALUES)
			return fault_raise(FAULT_BAD_REQUEST, "JSON holds more than %d values", JSON_MAX_VALUES);
	}
	return OK;
}

enum fault json_read_any(struct arena *arena, struct str text, json_t **ret_value)
{
	json_error_t error;
	TRY(scan(text));
	json_t *value = json_loadb(text.n ? text.p : "", text.n, JSON_REJECT_DUPLICATES, &error);
	if (!value)
		return fault_raise(FAULT_BAD_REQUEST, "Bad JSON at line %d, column %d: %.160s",
			error.line, error.column, error.text);
	arena_defer(arena, drop, value);
	*ret_value = value;
	return OK;
}

enum fault json_read(struct arena *arena, struct str text, json_t **ret_object)
{
	TRY(json_read_any(arena, text, ret_object));
	if (!json_is_object(*ret_object))
		return fault_raise(FAULT_BAD_REQUEST, "The body must be one JSON object");
	return OK;
}

json_t *json_at(const json_t *value, const char *dotted_path)
{
	struct str path = str_of(dotted_path);
	json_t *at = (json_t *)value;
	while (at && path.n) {
		struct str part = str_cut(&path, '.');
		at = json_object_getn(at, part.p, part.n);
	}
	return at;
}

struct str json_text(const json_t *value, const char *dotted_path)
{
	json_t *at = json_at(value, dotted_path);
	if (!json_is_string(at))
		return STR_NULL;
	return (struct str){ json_string_value(at), json_string_length(at) };
}

static void free_text(void *p) { free(p); }

struct str json_dump(struct arena *arena, const json_t *value)
{
	char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
	if (!text)
		return STR_NULL;
	arena_defer(arena, free_text, text);
	return str_of(text);
}
