/* Links of agents. */
#include "links.h"
#include "agents.sql.h"
#include "../../1_code/uuid.h"

static const struct shape_field tool_fields[] = {
	{ "tool_id", SHAPE_UUID, SHAPE_REQUIRED },
	{ "enabled", SHAPE_BOOL, .preset = "true" },
	{ "parameters", SHAPE_OBJECT, .max = 16384, .doc = "fixed values for parameters of the tool: the model no longer chooses them" },
};
const struct shape agent_tool_shape = SHAPE("agent_tool", tool_fields);
static const struct shape_field kb_item[] = { { "id", SHAPE_UUID } };
const struct shape agent_kb_shape = { "id", kb_item, 1, .item_is_text = true };

static enum fault missing(const char *field)
{
	enum fault fault = fault_raise(FAULT_NOT_FOUND, "No such %s", field);
	fault_detail("field", str_of(field));
	return fault;
}

/* The ids of a list as comma text; each a UUID, none twice. */
static enum fault read_ids(struct req *req, struct str list, const char *name, bool objects, struct str *ret_ids, size_t *ret_n)
{
	json_t *all, *one;
	size_t i;
	struct buf b = BUF_IN(req->arena, 4096);
	TRY(json_read_any(req->arena, list, &all));
	json_array_foreach(all, i, one) {
		const char *field = str_format(req->arena, objects ? "%s[%zu].tool_id" : "%s[%zu]", name, i).p;
		json_t *parameters = json_object_get(one, "parameters"), *enabled = json_object_get(one, "enabled");
		struct str id = objects ? json_text(one, "tool_id") : str_of(json_string_value(one));
		if (!id.p || !uuid_valid(id))
			return fault_field(field, "must be a UUID");
		id = str_lower(req->arena, id);
		if (b.n && strstr(str_copy(req->arena, buf_view(&b)).p, id.p))
			return fault_field(field, "is named twice");
		if (parameters && !json_is_null(parameters) && !json_is_object(parameters))
			return fault_field(str_format(req->arena, "%s[%zu].parameters", name, i).p, "must be an object");
		if (enabled && !json_is_null(enabled) && !json_is_boolean(enabled))
			return fault_field(str_format(req->arena, "%s[%zu].enabled", name, i).p, "must be true or false");
		buf_format(&b, "%s%.*s", i ? "," : "", STRF(id));
	}
	*ret_ids = buf_view(&b);
	*ret_n = json_array_size(all);
	return OK;
}

static enum fault judge(const struct rows *there, size_t wanted, const char *field)
{
	if ((size_t)there->count < wanted)
		return missing(field);
	for (int i = 0; i < there->count; i++)
		if (!pg_bool(there, i, "usable"))
			return fault_field(field, "is not active yet");
	return OK;
}

enum fault agent_links_check(struct req *req, const struct agent_new *in)
{
	struct rows there;
	struct str ids;
	size_t n = 0;
	if (in->voice_id.p) {
		TRY(agents_voice_there(&req->tx, (struct agents_voice_there){ .id = in->voice_id }, &there));
		TRY(judge(&there, 1, "voice_id"));
	}
	if (in->tools.p)
		TRY(read_ids(req, in->tools, "tools", true, &ids, &n));
	if (in->tools.p && n) {
		TRY(agents_tools_there(&req->tx, (struct agents_tools_there){ .ids = ids }, &there));
		TRY(judge(&there, n, "tools"));
	}
	n = 0;
	if (in->knowledge_bases.p)
		TRY(read_ids(req, in->knowledge_bases, "knowledge_bases", false, &ids, &n));
	if (in->knowledge_bases.p && n) {
		TRY(agents_kbs_there(&req->tx, (struct agents_kbs_there){ .ids = ids }, &there));
		TRY(judge(&there, n, "knowledge_bases"));
	}
	return OK;
}

void agent_links_write(struct req *req, struct str id, const struct agent_new *in)
{
	if (in->tools.p) {
		agents_no_tools_later(&req->tx, (struct agents_no_tools){ .id = id }, NULL);
		agents_link_tools_later(&req->tx, (struct agents_link_tools){ .id = id, .tools = in->tools }, NULL);
	}
	if (in->knowledge_bases.p) {
		agents_no_kbs_later(&req->tx, (struct agents_no_kbs){ .id = id }, NULL);
		agents_link_kbs_later(&req->tx, (struct agents_link_kbs){ .id = id, .ids = in->knowledge_bases }, NULL);
	}
}
