/* Parameters of tools as JSON Schema (draft 2020-12, the part that models are told: type, properties, required, items, enum and words
 * about them). A model's arguments are one object, so the outermost schema is one. */
#include "tools.h"

#define MOST_DEEP 8
#define MOST_PROPERTIES 64

static bool is_type(const char *word)
{
	static const char *const types[] = { "string", "number", "integer", "boolean", "object", "array", "null" };
	for (size_t i = 0; word && i < sizeof types / sizeof *types; i++)
		if (strcmp(word, types[i]) == 0)
			return true;
	return false;
}

static const char *type_problem(const json_t *type)
{
	size_t i;
	json_t *one;
	if (!type)
		return NULL;
	if (json_is_string(type))
		return is_type(json_string_value(type)) ? NULL : "must be string, number, integer, boolean, object, array or null";
	if (!json_is_array(type) || !json_array_size(type))
		return "must be a type or a list of types";
	json_array_foreach(type, i, one)
		if (!is_type(json_string_value(one)))
			return "must be string, number, integer, boolean, object, array or null";
	return NULL;
}

static enum fault check(struct arena *arena, const char *field, const json_t *schema, int depth);

static enum fault check_object(struct arena *arena, const char *field, const json_t *schema, int depth)
{
	json_t *properties = json_object_get(schema, "properties"), *required = json_object_get(schema, "required"), *one;
	const char *name;
	size_t i;
	if (properties && !json_is_object(properties))
		return fault_field(str_format(arena, "%s.properties", field).p, "must be an object of schemas");
	if (json_object_size(properties) > MOST_PROPERTIES)
		return fault_field(str_format(arena, "%s.properties", field).p, "has more than 64 members");
	json_object_foreach(properties, name, one)
		TRY(check(arena, str_format(arena, "%s.properties.%s", field, name).p, one, depth + 1));
	if (required && !json_is_array(required))
		return fault_field(str_format(arena, "%s.required", field).p, "must be a list of property names");
	json_array_foreach(required, i, one)
		if (!json_is_string(one) || !json_object_get(properties, json_string_value(one)))
			return fault_field(str_format(arena, "%s.required[%zu]", field, i).p, "is no property");
	return OK;
}

static enum fault check(struct arena *arena, const char *field, const json_t *schema, int depth)
{
	json_t *items = json_object_get(schema, "items"), *choices = json_object_get(schema, "enum");
	json_t *about = json_object_get(schema, "description");
	if (!json_is_object(schema))
		return fault_field(field, "must be a JSON Schema object");
	if (depth > MOST_DEEP)
		return fault_field(field, "is nested more than 8 deep");
	const char *problem = type_problem(json_object_get(schema, "type"));
	if (problem)
		return fault_field(str_format(arena, "%s.type", field).p, problem);
	if (choices && !json_array_size(choices))
		return fault_field(str_format(arena, "%s.enum", field).p, "must be a list that is not empty");
	if (about && !json_is_string(about))
		return fault_field(str_format(arena, "%s.description", field).p, "must be text");
	if (items)
		TRY(check(arena, str_format(arena, "%s.items", field).p, items, depth + 1));
	return check_object(arena, field, schema, depth);
}

enum fault tool_schema_check(struct arena *arena, const char *field, const json_t *schema)
{
	json_t *type = json_object_get(schema, "type");
	if (type && !(json_is_string(type) && strcmp(json_string_value(type), "object") == 0))
		return fault_field(str_format(arena, "%s.type", field).p, "must be object: arguments are named");
	return check(arena, field, schema, 0);
}

enum fault tool_placeholders_check(struct arena *arena, struct str endpoint, const json_t *schema)
{
	struct str rest = endpoint;
	str_cut(&rest, '{');
	while (rest.n) {
		struct str name = str_cut(&rest, '}');
		if (!json_object_getn(json_object_get(schema, "properties"), name.p, name.n))
			return fault_field("endpoint", str_format(arena, "has {%.*s}, which is no property of parameters", STRF(name)).p);
		str_cut(&rest, '{');
	}
	return OK;
}

const char *tool_location(struct arena *arena, struct str endpoint, struct str method, const char *name)
{
	struct str mark = str_format(arena, "{%s}", name);
	if (strstr(str_copy(arena, endpoint).p, mark.p))
		return "PATH";
	return str_is(method, "GET") || str_is(method, "DELETE") ? "QUERY" : "BODY";
}
