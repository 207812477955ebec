/* OpenAPI 3.1 and the offline pages, from route rows, shapes and faults alone. */
#include "auth.h"
#include "route.h"

#define DOCUMENT_BYTES ((size_t)4 << 20)

static void operation_id(struct buf *b, const struct route *r)
{
	struct str path = str_of(r->path);
	struct str method = str_lower(b->arena, str_of(r->method));
	buf_str(b, method);
	if (str_starts(path, API))
		path = str_from(path, strlen(API));
	for (size_t i = 0; i < path.n; i++) {
		char c = path.p[i];
		if (c == '/' || c == '-' || c == '.')
			buf_char(b, '_');
		else if (c != '{' && c != '}')
			buf_char(b, c);
	}
}

static void parameters(struct buf *b, const struct route *r)
{
	struct str rest = str_of(r->path), query = str_of(r->query ? r->query : "");
	const char *comma = "";
	buf_text(b, ",\"parameters\":[");
	while (rest.n) {
		struct str part = str_cut(&rest, '/');
		if (!part.n || part.p[0] != '{')
			continue;
		bool id = str_ends(part, "id}");
		buf_format(b, "%s{\"name\":\"%.*s\",\"in\":\"path\",\"required\":true,\"schema\":{\"type\":\"string\"%s}}", comma,
			(int)part.n - 2, part.p + 1, id ? ",\"format\":\"uuid\"" : "");
		comma = ",";
	}
	if (r->flags & ROUTE_LIST) {
		buf_format(b, "%s{\"name\":\"limit\",\"in\":\"query\",\"schema\":{\"type\":\"integer\",\"minimum\":1,\"maximum\":1000,"
			"\"default\":50}},{\"name\":\"cursor\",\"in\":\"query\",\"schema\":{\"type\":\"string\"}}", comma);
		comma = ",";
	}
	while (query.n) {
		struct str name = str_cut(&query, ',');
		buf_format(b, "%s{\"name\":\"%.*s\",\"in\":\"query\",\"schema\":{\"type\":\"string\"}}", comma, STRF(name));
		comma = ",";
	}
	if (!(r->flags & ROUTE_OPEN)) {
		buf_format(b, "%s{\"name\":\"x-client-id\",\"in\":\"header\",\"schema\":{\"type\":\"string\",\"format\":\"uuid\"},"
			"\"description\":\"For an agency_admin: the client to act for.\"}", comma);
		comma = ",";
		if (strcmp(r->method, "GET") != 0)
			buf_text(b, ",{\"name\":\"Idempotency-Key\",\"in\":\"header\",\"schema\":{\"type\":\"string\",\"minLength\":1,"
				"\"maxLength\":255}}");
	}
	buf_char(b, ']');
}

/* What can be done with what was just made: every route of its path with an id. */
static void links(struct buf *b, const struct route *made)
{
	const char *comma = "";
	size_t n = strlen(made->path);
	buf_text(b, ",\"links\":{");
	for (const struct route *const *list = dispatch_routes(); *list; list++)
		for (const struct route *r = *list; r->method; r++) {
			if (strncmp(r->path, made->path, n) != 0 || strncmp(r->path + n, "/{id}", 5) != 0)
				continue;
			buf_format(b, "%s\"", comma);
			operation_id(b, r);
			buf_text(b, "\":{\"operationId\":\"");
			operation_id(b, r);
			buf_text(b, "\",\"parameters\":{\"id\":\"$response.body#/data/id\"}}");
			comma = ",";
		}
	buf_char(b, '}');
}

static void success(struct buf *b, const struct route *r, int status)
{
	buf_format(b, "\"%d\":{\"description\":\"%s\"", status, status == 202 ? "Accepted; still under way" : "Success");
	if (r->out) {
		buf_text(b, ",\"content\":{\"application/json\":{\"schema\":{\"type\":\"object\",\"properties\":{\"data\":");
		if (r->flags & ROUTE_LIST)
			buf_text(b, "{\"type\":\"array\",\"items\":");
		buf_format(b, "{\"$ref\":\"#/components/schemas/%s\"}", r->out->name);
		if (r->flags & ROUTE_LIST)
			buf_char(b, '}');
		buf_text(b, ",\"meta\":{\"$ref\":\"#/components/schemas/meta\"}},\"required\":[\"data\",\"meta\"]}}}");
	}
	if (r->media) {
		struct str rest = str_of(r->media);
		const char *comma = "";
		buf_text(b, ",\"content\":{");
		for (; rest.n; comma = ",") {
			struct str one = str_cut(&rest, ',');
			buf_format(b, "%s\"%.*s\":{\"schema\":{\"type\":\"string\"%s}}", comma, STRF(one), str_starts(one, "text/") ? ""
				: ",\"format\":\"binary\"");
		}
		buf_char(b, '}');
	}
	if (strcmp(r->method, "POST") == 0 && r->out)
		links(b, r);
	buf_char(b, '}');
}

static void operation(struct buf *b, const struct route *r)
{
	struct str path = str_of(r->path);
	struct str method = str_lower(b->arena, str_of(r->method));
	buf_format(b, "\"%.*s\":{\"operationId\":\"", STRF(method));
	operation_id(b, r);
	buf_text(b, "\",\"summary\":");
	buf_json(b, str_of(r->summary));
	if (str_starts(path, API "/")) {
		struct str rest = str_from(path, strlen(API) + 1), tag = str_cut(&rest, '/');
		buf_format(b, ",\"tags\":[\"%.*s\"]", STRF(tag));
	}
	if (r->scope)
		buf_format(b, ",\"x-scope\":\"%s\",\"x-roles\":%u,\"x-agency\":%s", r->scope, r->roles,
			r->flags & ROUTE_AGENCY ? "true" : "false");
	if (r->flags & ROUTE_OPEN)
		buf_text(b, ",\"security\":[]");
	parameters(b, r);
	if (r->in) {
		buf_text(b, ",\"requestBody\":{\"required\":true,\"content\":{\"application/json\":{\"schema\":");
		shape_schema(b, r->in, false);
		buf_text(b, "}}}");
	}
	buf_text(b, ",\"responses\":{");
	success(b, r, r->status);
	if (r->flags & (ROUTE_ASYNC | ROUTE_LATER) && r->status != 202) {
		buf_char(b, ',');
		success(b, r, 202);
	}
	buf_text(b, ",\"default\":{\"$ref\":\"#/components/responses/error\"}}}");
}

/* All methods of a path, from whichever rooms they come. False, and nothing written, when `r` is not the first of them. */
static bool path(struct buf *b, const struct route *r, const char *comma)
{
	bool any = false;
	for (const struct route *const *list = dispatch_routes(); *list; list++)
		for (const struct route *q = *list; q->method; q++) {
			if (strcmp(q->path, r->path) != 0)
				continue;
			if (!any && q != r)
				return false;
			if (!any)
				buf_format(b, "%s\"%s\":{", comma, r->path);
			else
				buf_char(b, ',');
			operation(b, q);
			any = true;
		}
	buf_char(b, '}');
	return true;
}

static void paths(struct buf *b)
{
	const char *comma = "";
	for (const struct route *const *list = dispatch_routes(); *list; list++)
		for (const struct route *r = *list; r->method; r++)
			if (!(r->flags & ROUTE_TEST) && path(b, r, comma))
				comma = ",";
}

static void schemas(struct buf *b)
{
	buf_text(b, "\"meta\":{\"type\":\"object\",\"properties\":{\"request_id\":{\"type\":\"string\"},\"ts\":{\"type\":\"string\","
		"\"format\":\"date-time\"}},\"required\":[\"request_id\",\"ts\"]},\"error\":{\"type\":\"object\",\"properties\":"
		"{\"error\":{\"type\":\"object\",\"properties\":{\"code\":{\"type\":\"string\",\"enum\":[");
	const char *comma = "";
	for (int i = 1; i < FAULT_COUNT; i++)
		if (fault_rows[i].status) {
			buf_format(b, "%s\"%s\"", comma, fault_rows[i].code);
			comma = ",";
		}
	buf_text(b, "]},\"message\":{\"type\":\"string\"},\"details\":{\"type\":\"object\"},\"request_id\":{\"type\":\"string\"},"
		"\"ts\":{\"type\":\"string\",\"format\":\"date-time\"}},\"required\":[\"code\",\"message\",\"request_id\",\"ts\"]}},"
		"\"required\":[\"error\"]}");
	const struct shape *seen[64];
	int n = 0;
	for (const struct route *const *list = dispatch_routes(); *list; list++)
		for (const struct route *r = *list; r->method; r++) {
			bool known = !r->out;
			for (int i = 0; i < n && !known; i++)
				known = seen[i] == r->out;
			if (known || n == 64)
				continue;
			seen[n++] = r->out;
			buf_format(b, ",\"%s\":", r->out->name);
			shape_schema(b, r->out, true);
		}
}

struct str openapi_json(struct arena *arena)
{
	struct buf b = BUF_IN(arena, DOCUMENT_BYTES);
	buf_text(&b, "{\"openapi\":\"3.1.0\",\"info\":{\"title\":\"Trunkline\",\"version\":\"" TRUNKLINE_VERSION "\",\"description\":"
		"\"Backend of voice-AI calling: agents, calls, webhooks, prepaid credits.\",\"license\":{\"name\":\"Apache-2.0\","
		"\"identifier\":\"Apache-2.0\"}},\"servers\":[{\"url\":\"/\"}],\"security\":[{\"bearer\":[]}],\"paths\":{");
	paths(&b);
	buf_text(&b, "},\"components\":{\"securitySchemes\":{\"bearer\":{\"type\":\"http\",\"scheme\":\"bearer\"}},\"responses\":{"
		"\"error\":{\"description\":\"A refusal; see code\",\"content\":{\"application/json\":{\"schema\":"
		"{\"$ref\":\"#/components/schemas/error\"}}}}},\"schemas\":{");
	schemas(&b);
	buf_text(&b, "}}}");
	return buf_view(&b);
}

static const char page_head[] =
	"<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'><title>Trunkline</title>"
	"<style>body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1a1a2e}"
	"h2{margin-top:2.5rem;border-bottom:1px solid #ddd}code{background:#f2f2f7;padding:.1em .3em;border-radius:4px}"
	"details{border:1px solid #ddd;border-radius:6px;margin:.4rem 0;padding:.4rem .8rem}summary{cursor:pointer}"
	".m{display:inline-block;min-width:4.2rem;font-weight:700}table{border-collapse:collapse;width:100%}"
	"td,th{text-align:left;border-bottom:1px solid #eee;padding:.25rem .6rem .25rem 0;vertical-align:top}</style>";

static void page_fields(struct buf *b, const struct shape *shape, bool reply)
{
	buf_text(b, "<table><tr><th>field<th>type<th>");
	for (size_t i = 0; i < shape->count; i++) {
		const struct shape_field *f = &shape->fields[i];
		static const char *const names[] = { "uuid", "text", "one of", "E.164 number", "URL", "time", "integer", "number",
			"true or false", "object", "list", "object" };
		buf_format(b, "<tr><td><code>%s</code>%s<td>%s %s<td>%s", f->name,
			!reply && f->flags & SHAPE_REQUIRED ? " *" : "", names[f->type], f->values ? f->values : "", f->doc ? f->doc : "");
	}
	buf_text(b, "</table>");
}

struct str openapi_page(struct arena *arena)
{
	struct buf b = BUF_IN(arena, DOCUMENT_BYTES);
	buf_text(&b, page_head);
	buf_text(&b, "<h1>Trunkline API</h1><p>Version " TRUNKLINE_VERSION ". Machine-readable: <a href=/openapi.json>/openapi.json"
		"</a>. Every refusal: <a href=/docs/errors>/docs/errors</a>. Send <code>Authorization: Bearer TOKEN</code>; fields with * "
		"are required.</p>");
	for (const struct route *const *list = dispatch_routes(); *list; list++) {
		for (const struct route *r = *list; r->method; r++) {
			if (r->flags & ROUTE_TEST)
				continue;
			buf_format(&b, "<details><summary><span class=m>%s</span> <code>%s</code> %s</summary>", r->method, r->path, r->summary);
			if (r->scope)
				buf_format(&b, "<p>Scope <code>%s</code>. Roles:%s%s%s.</p>", r->scope,
					r->roles & AGENCY_ADMIN ? " agency_admin" : "", r->roles & CLIENT_ADMIN ? " client_admin" : "",
					r->roles & CLIENT_USER ? " client_user" : "");
			if (r->query)
				buf_format(&b, "<p>Query: <code>%s</code></p>", r->query);
			if (r->in) {
				buf_text(&b, "<h4>Body</h4>");
				page_fields(&b, r->in, false);
			}
			if (r->out) {
				buf_format(&b, "<h4>%d answers %s</h4>", r->status, r->flags & ROUTE_LIST ? "a list of" : "");
				page_fields(&b, r->out, true);
			}
			buf_text(&b, "</details>");
		}
	}
	return buf_view(&b);
}

struct str openapi_errors_page(struct arena *arena)
{
	struct buf b = BUF_IN(arena, DOCUMENT_BYTES);
	buf_text(&b, page_head);
	buf_text(&b, "<h1>Error codes</h1><table><tr><th>code<th>HTTP<th>when");
	for (int i = 1; i < FAULT_COUNT; i++)
		if (fault_rows[i].status)
			buf_format(&b, "<tr id=%s><td><code>%s</code><td>%d<td>%s", fault_rows[i].code, fault_rows[i].code,
				fault_rows[i].status, fault_rows[i].when);
	buf_text(&b, "</table>");
	return buf_view(&b);
}
