/* Decoding and describing shapes. */
#include "shape.h"
#include "url.h"
#include "uuid.h"
#include "../0_base/clock.h"
#include <math.h>
#include <stdio.h>

struct reading {
	struct arena *arena;
	bool bad;
	struct shape_warning **warnings;
};

static void violation(struct reading *r, struct str path, const char *reason)
{
	if (!r->bad)
		fault_raise(FAULT_VALIDATION_ERROR, "Some fields break a rule; details names each");
	r->bad = true;
	fault_detail(path.p, str_of(reason));
}

static bool known(const char *values, struct str word)
{
	struct str rest = str_of(values);
	while (rest.n)
		if (str_eq(str_cut(&rest, ','), word))
			return true;
	return false;
}

bool phone_read(struct arena *arena, struct str text, struct str *ret_e164)
{
	char *p = arena_alloc(arena, text.n + 1);
	size_t n = 0;
	for (size_t i = 0; i < text.n; i++)
		if (!strchr(" .-/()\t", text.p[i]))
			p[n++] = text.p[i];
	if (n < 8 || n > 16 || p[0] != '+' || p[1] < '1' || p[1] > '9')
		return false;
	for (size_t i = 2; i < n; i++)
		if (p[i] < '0' || p[i] > '9')
			return false;
	*ret_e164 = (struct str){ p, n };
	return true;
}

/* NULL when the text fits the field; *value may be rewritten to its normal form. */
static const char *text_problem(struct arena *arena, const struct shape_field *f, struct str *value)
{
	struct url url;
	int64_t at;
	size_t chars;
	switch (f->type) {
	case SHAPE_UUID:
		if (!uuid_valid(*value))
			return "must be a UUID";
		*value = str_lower(arena, *value);
		return NULL;
	case SHAPE_ENUM:
		return known(f->values, *value) ? NULL : str_format(arena, "must be one of %s", f->values).p;
	case SHAPE_PHONE:
		return phone_read(arena, *value, value) ? NULL
			: "must be an E.164 number such as +15550100";
	case SHAPE_TIME:
		return clock_parse(*value, &at) ? NULL : "must be an ISO-8601 time with offset";
	case SHAPE_URL:
		if (value->n > 2048 || !url_read(*value, &url))
			return "must be an http or https URL of at most 2048 bytes";
		return NULL;
	default:
		chars = str_chars(*value);
		if ((int64_t)chars < f->min || (f->max && (int64_t)chars > f->max))
			return str_format(arena, "must have %lld..%lld characters",
				(long long)f->min, (long long)f->max).p;
		return NULL;
	}
}

static void read_part(struct reading *r, const struct shape *shape, const json_t *body, char *out,
	const char *prefix, uint64_t *ret_set);

static const char *read_list(struct reading *r, const struct shape_field *f, const json_t *value,
	struct str path)
{
	size_t n = json_array_size(value), i;
	json_t *item;
	if ((int64_t)n < f->min || (int64_t)n > f->max)
		return str_format(r->arena, "must have %lld..%lld items", (long long)f->min, (long long)f->max).p;
	json_array_foreach(value, i, item) {
		struct str at = str_format(r->arena, "%.*s[%zu]", STRF(path), i);
		struct str text = { json_string_value(item), json_string_length(item) };
		if (!f->sub || !f->sub->item_is_text)
			continue;
		const char *problem = json_is_string(item)
			? text_problem(r->arena, &f->sub->fields[0], &text) : "must be a string";
		if (problem)
			violation(r, at, problem);
	}
	return NULL;
}

static void read_field(struct reading *r, const struct shape_field *f, const json_t *value,
	char *out, struct str path)
{
	const char *problem = NULL;
	struct str text = { json_string_value(value), json_string_length(value) };
	switch (f->type) {
	case SHAPE_INT: {
		json_int_t n = json_integer_value(value);
		if (json_is_real(value) && json_real_value(value) == floor(json_real_value(value)) &&
		    fabs(json_real_value(value)) < 9e15)
			n = (json_int_t)json_real_value(value);
		else if (!json_is_integer(value))
			problem = "must be an integer";
		if (!problem && (n < f->min || n > f->max))
			problem = str_format(r->arena, "must be %lld..%lld", (long long)f->min, (long long)f->max).p;
		*(int64_t *)(void *)(out + f->offset) = n;
		break;
	}
	case SHAPE_BOOL:
		problem = json_is_boolean(value) ? NULL : "must be true or false";
		*(bool *)(out + f->offset) = json_is_true(value);
		break;
	case SHAPE_PART:
		if (json_is_object(value)) {
			uint64_t ignored;
			read_part(r, f->sub, value, out + f->offset, path.p, &ignored);
		} else {
			problem = "must be an object";
		}
		break;
	case SHAPE_OBJECT:
	case SHAPE_LIST:
		if (f->type == SHAPE_OBJECT ? !json_is_object(value) : !json_is_array(value)) {
			problem = f->type == SHAPE_OBJECT ? "must be an object" : "must be a list";
			break;
		}
		text = json_dump(r->arena, value);
		if (f->type == SHAPE_LIST)
			problem = read_list(r, f, value, path);
		else if (f->max && text.n > (size_t)f->max)
			problem = str_format(r->arena, "must be at most %lld bytes", (long long)f->max).p;
		*(struct str *)(void *)(out + f->offset) = text;
		break;
	default:
		problem = json_is_string(value) ? text_problem(r->arena, f, &text) : "must be a string";
		*(struct str *)(void *)(out + f->offset) = text;
	}
	if (problem)
		violation(r, path, problem);
}

static void preset(const struct shape_field *f, char *out)
{
	if (!f->preset)
		return;
	if (f->type == SHAPE_BOOL)
		*(bool *)(out + f->offset) = true;
	else if (f->type == SHAPE_INT)
		str_int(str_of(f->preset), (int64_t *)(void *)(out + f->offset));
	else
		*(struct str *)(void *)(out + f->offset) = str_of(f->preset);
}

static void warn(struct reading *r, const char *prefix, const char *key)
{
	static const char *const tenant[] = { "client_id", "agency_id", "org_id", "organization_id" };
	struct shape_warning *w = arena_new(r->arena, struct shape_warning);
	w->field = str_format(r->arena, "%s%.*s", prefix, STRF(str_clip(str_of(key), 120)));
	w->reason = "unknown field, ignored";
	for (size_t i = 0; i < 4; i++)
		if (strcmp(key, tenant[i]) == 0)
			w->reason = "the tenant comes from the credential, ignored";
	w->next = *r->warnings;
	*r->warnings = w;
}

static void read_part(struct reading *r, const struct shape *shape, const json_t *body, char *out,
	const char *prefix, uint64_t *ret_set)
{
	const char *key;
	json_t *value;
	*ret_set = 0;
	struct str lead = *prefix ? str_format(r->arena, "%s.", prefix) : STR("");
	for (size_t i = 0; i < shape->count; i++) {
		const struct shape_field *f = &shape->fields[i];
		struct str path = str_format(r->arena, "%.*s%s", STRF(lead), f->name);
		value = json_object_get(body, f->name);
		bool empty = json_is_string(value) && json_string_length(value) == 0 &&
			(f->type == SHAPE_UUID || f->type == SHAPE_URL);
		if (value)
			*ret_set |= UINT64_C(1) << i;
		if (!value || json_is_null(value) || empty) {
			preset(f, out);
			if (f->type == SHAPE_PART) {	/* absent: its own presets still count */
				json_t *none = json_object();
				uint64_t ignored;
				read_part(r, f->sub, none, out + f->offset, path.p, &ignored);
				json_decref(none);
			}
			if (f->flags & SHAPE_REQUIRED)
				violation(r, path, "is required");
			continue;
		}
		read_field(r, f, value, out, path);
	}
	json_object_foreach((json_t *)body, key, value) {
		bool mine = false;
		for (size_t i = 0; i < shape->count && !mine; i++)
			mine = strcmp(shape->fields[i].name, key) == 0;
		if (!mine)
			warn(r, lead.n ? lead.p : "", key);
	}
}

enum fault shape_read(struct arena *arena, const struct shape *shape, const json_t *body, void *out,
	uint64_t *ret_set, struct shape_warning **ret_warnings)
{
	struct reading r = { .arena = arena, .warnings = ret_warnings };
	read_part(&r, shape, body, out, "", ret_set);
	return r.bad ? FAULT_VALIDATION_ERROR : OK;
}

static const char *schema_type(enum shape_type type)
{
	switch (type) {
	case SHAPE_INT: return "integer";
	case SHAPE_NUMBER: return "number";
	case SHAPE_BOOL: return "boolean";
	case SHAPE_OBJECT: case SHAPE_PART: return "object";
	case SHAPE_LIST: return "array";
	default: return "string";
	}
}

static void field_schema(struct buf *b, const struct shape_field *f, bool reply)
{
	if (f->type == SHAPE_PART && !(f->flags & SHAPE_MAYBE)) {
		shape_schema(b, f->sub, reply);
		return;
	}
	bool maybe = reply ? f->flags & SHAPE_MAYBE : !(f->flags & SHAPE_REQUIRED);
	buf_format(b, maybe ? "{\"type\":[\"%s\",\"null\"]" : "{\"type\":\"%s\"", schema_type(f->type));
	if (f->type == SHAPE_UUID)
		buf_text(b, ",\"format\":\"uuid\"");
	if (f->type == SHAPE_TIME)
		buf_text(b, ",\"format\":\"date-time\"");
	if (f->type == SHAPE_URL)
		buf_text(b, ",\"format\":\"uri\",\"maxLength\":2048");
	if (f->type == SHAPE_PHONE)
		buf_text(b, ",\"examples\":[\"+15550100\"]");
	if (f->type == SHAPE_TEXT && !reply && f->max)
		buf_format(b, ",\"minLength\":%lld,\"maxLength\":%lld", (long long)f->min, (long long)f->max);
	if (f->type == SHAPE_INT && !reply)
		buf_format(b, ",\"minimum\":%lld,\"maximum\":%lld", (long long)f->min, (long long)f->max);
	if (f->type == SHAPE_LIST) {
		if (!reply)
			buf_format(b, ",\"minItems\":%lld,\"maxItems\":%lld", (long long)f->min, (long long)f->max);
		buf_text(b, ",\"items\":");
		if (!f->sub)
			buf_text(b, "{}");
		else if (f->sub->item_is_text)
			field_schema(b, &f->sub->fields[0], reply);
		else
			shape_schema(b, f->sub, reply);
	}
	if (f->type == SHAPE_ENUM) {
		struct str rest = str_of(f->values);
		buf_text(b, ",\"enum\":[");
		while (rest.n) {
			buf_json(b, str_cut(&rest, ','));
			buf_text(b, rest.n ? "," : maybe ? ",null" : "");
		}
		buf_char(b, ']');
	}
	if (f->preset) {
		buf_text(b, ",\"default\":");
		if (f->type == SHAPE_BOOL || f->type == SHAPE_INT)
			buf_text(b, f->preset);
		else
			buf_json(b, str_of(f->preset));
	}
	if (f->doc) {
		buf_text(b, ",\"description\":");
		buf_json(b, str_of(f->doc));
	}
	buf_char(b, '}');
}

void shape_schema(struct buf *b, const struct shape *shape, bool reply)
{
	bool first = true;
	buf_text(b, "{\"type\":\"object\",\"properties\":{");
	for (size_t i = 0; i < shape->count; i++) {
		if (i)
			buf_char(b, ',');
		buf_json(b, str_of(shape->fields[i].name));
		buf_char(b, ':');
		field_schema(b, &shape->fields[i], reply);
	}
	buf_text(b, "},\"required\":[");
	for (size_t i = 0; i < shape->count; i++) {
		if (reply ? shape->fields[i].flags & SHAPE_OMIT : !(shape->fields[i].flags & SHAPE_REQUIRED))
			continue;
		buf_text(b, first ? "" : ",");
		buf_json(b, str_of(shape->fields[i].name));
		first = false;
	}
	buf_text(b, "]}");
}
