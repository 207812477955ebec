/* Clients: made and bounded by their agency, described by themselves. */
#include "identity.h"
#include "clients.sql.h"
#include "../../1_code/uuid.h"
#include "../../3_core/events.h"

struct client_in {
	struct str name, email, mode, subscription_status, limits, settings;
	int64_t price_per_minute, credits_ceiling;
};

#define FIELD(field, ...) { .name = #field, .offset = offsetof(struct client_in, field), __VA_ARGS__ }
#define NAME FIELD(name, .type = SHAPE_TEXT, .min = 1, .max = 100)
#define EMAIL FIELD(email, .type = SHAPE_TEXT, .min = 3, .max = 254)
#define SETTINGS FIELD(settings, .type = SHAPE_OBJECT, .max = 16384, .doc = "timezone, default_country, default_calling_windows, " \
	"low_balance_threshold, retention_days{calls, transcripts, recordings}, return_hosts[], from_number, " \
	"auto_recharge{enabled, credits, most_per_day}")
#define LIMITS FIELD(limits, .type = SHAPE_OBJECT, .max = 4096, .doc = "requests_per_second, burst, concurrent_calls, " \
	"calls_per_day, active_campaigns, storage_bytes; null takes one away")
#define MONEY(...) FIELD(price_per_minute, .type = SHAPE_INT, .max = 1000, __VA_ARGS__), \
	FIELD(credits_ceiling, .type = SHAPE_INT, .max = 100000000, __VA_ARGS__)
static const struct shape_field new_fields[] = {
	FIELD(name, .type = SHAPE_TEXT, .flags = SHAPE_REQUIRED, .min = 1, .max = 100),
	FIELD(email, .type = SHAPE_TEXT, .flags = SHAPE_REQUIRED, .min = 3, .max = 254),
	FIELD(mode, .type = SHAPE_ENUM, .values = "live,test", .preset = "live", .doc = "test: the sandbox, never a real provider"),
	FIELD(price_per_minute, .type = SHAPE_INT, .max = 1000, .preset = "1"),
	FIELD(credits_ceiling, .type = SHAPE_INT, .max = 100000000, .preset = "10000"), LIMITS, SETTINGS,
};
static const struct shape new_shape = SHAPE("client_new", new_fields);

/* The agency's fields come last: whoever is no agency_admin may not name them. */
static const struct shape_field patch_fields[] = { NAME, EMAIL, SETTINGS,
	FIELD(subscription_status, .type = SHAPE_ENUM, .values = "active,suspended,cancelled"), MONEY(), LIMITS };
static const struct shape patch_shape = SHAPE("client_patch", patch_fields);
#define FIRST_AGENCY_FIELD 3

static const struct shape_field client_fields[] = {
	{ "id", SHAPE_UUID },
	{ "client_id", SHAPE_UUID },
	{ "agency_id", SHAPE_UUID },
	{ "name", SHAPE_TEXT },
	{ "email", SHAPE_TEXT },
	{ "mode", SHAPE_ENUM, .values = "live,test" },
	{ "subscription_status", SHAPE_ENUM, .values = "active,suspended,cancelled" },
	{ "credits_balance", SHAPE_INT },
	{ "credits_held", SHAPE_INT },
	{ "credits_available", SHAPE_INT },
	{ "credits_ceiling", SHAPE_INT },
	{ "price_per_minute", SHAPE_INT },
	{ "limits", SHAPE_OBJECT },
	{ "settings", SHAPE_OBJECT },
	{ "created_at", SHAPE_TIME },
	{ "updated_at", SHAPE_TIME },
};
const struct shape client_shape = SHAPE("client", client_fields);

static bool email_good(struct str email)
{
	const char *at = email.p ? memchr(email.p, '@', email.n) : NULL;
	for (size_t i = 0; i < email.n; i++)
		if ((unsigned char)email.p[i] <= ' ')
			return false;
	return at && at > email.p && memchr(at, '.', (size_t)(email.p + email.n - at)) && email.p[email.n - 1] != '.';
}

enum fault client_limits_check(struct req *req, struct str limits)
{
	static const struct { const char *name; json_int_t least, most; } known[] = { { "requests_per_second", 1, 100000 },
		{ "burst", 1, 200000 }, { "concurrent_calls", 1, 100000 }, { "calls_per_day", 0, 100000000 },
		{ "active_campaigns", 0, 10000 }, { "storage_bytes", 0, INT64_C(1) << 50 } };
	json_t *object, *value;
	const char *key;
	if (!limits.p)
		return OK;
	TRY(json_read(req->arena, limits, &object));
	json_object_foreach(object, key, value) {
		struct str field = str_format(req->arena, "limits.%.*s", STRF(str_clip(str_of(key), 60)));
		size_t i = 0, n = sizeof known / sizeof *known;
		while (i < n && strcmp(known[i].name, key) != 0)
			i++;
		if (i == n)
			return fault_field(field.p, "is no limit");
		if (!json_is_null(value) && (!json_is_integer(value) || json_integer_value(value) < known[i].least ||
		    json_integer_value(value) > known[i].most))
			return fault_field(field.p, str_format(req->arena, "must be %lld..%lld", (long long)known[i].least,
				(long long)known[i].most).p);
	}
	return OK;
}

static const char *setting_problem(struct req *req, const char *key, json_t *value)
{
	static const char *const kept[] = { "calls", "transcripts", "recordings" };
	struct str text = str_of(json_string_value(value)), phone;
	json_t *one;
	size_t i;
	if (json_is_null(value))
		return NULL;
	if (strcmp(key, "timezone") == 0)
		return text.n && text.n <= 64 ? NULL : "must be an IANA time zone such as Europe/Berlin";
	if (strcmp(key, "default_country") == 0)
		return text.n == 2 && text.p[0] >= 'A' && text.p[0] <= 'Z' && text.p[1] >= 'A' && text.p[1] <= 'Z' ? NULL
			: "must be an ISO 3166 code such as US";
	if (strcmp(key, "from_number") == 0)
		return text.p && phone_read(req->arena, text, &phone) ? NULL : "must be an E.164 number";
	if (strcmp(key, "low_balance_threshold") == 0)
		return json_is_integer(value) && json_integer_value(value) >= 0 ? NULL : "must be a number of credits";
	if (strcmp(key, "auto_recharge") == 0) {
		json_t *credits = json_object_get(value, "credits"), *most = json_object_get(value, "most_per_day");
		size_t good = 2 + (most != NULL);
		return json_is_boolean(json_object_get(value, "enabled")) && json_integer_value(credits) >= 5 &&
			json_integer_value(credits) <= 100000 && (!most || (json_integer_value(most) >= 1 && json_integer_value(most) <= 20)) &&
			json_object_size(value) == good ? NULL : "must hold enabled, credits (5..100000) and perhaps most_per_day (1..20)";
	}
	if (strcmp(key, "default_calling_windows") == 0)
		return json_is_array(value) && json_array_size(value) <= 50 ? NULL : "must be a list of at most 50 windows";
	if (strcmp(key, "return_hosts") == 0) {
		json_array_foreach(value, i, one)
			if (!json_is_string(one) || !*json_string_value(one) || strpbrk(json_string_value(one), "/:@ "))
				return "must be a list of host names";
		return json_is_array(value) && json_array_size(value) <= 20 ? NULL : "must be a list of at most 20 host names";
	}
	if (strcmp(key, "retention_days") == 0) {
		size_t good = 0;
		for (i = 0; i < 3; i++) {
			one = json_object_get(value, kept[i]);
			if (one && (!json_is_integer(one) || json_integer_value(one) < 1 || json_integer_value(one) > 3650))
				return "must hold days, 1..3650";
			good += one != NULL;
		}
		return json_is_object(value) && json_object_size(value) == good ? NULL : "must hold calls, transcripts, recordings";
	}
	return "is no setting";
}

enum fault client_settings_check(struct req *req, struct str settings)
{
	json_t *object, *value;
	const char *key;
	if (!settings.p)
		return OK;
	TRY(json_read(req->arena, settings, &object));
	json_object_foreach(object, key, value) {
		const char *problem = setting_problem(req, key, value);
		if (problem)
			return fault_field(str_format(req->arena, "settings.%.*s", STRF(str_clip(str_of(key), 60))).p, problem);
	}
	struct str zone = json_text(object, "timezone");
	struct rows known;
	struct tx tx;
	if (!zone.p)
		return OK;
	req_read(req, &tx);
	TRY(clients_timezone(&tx, (struct clients_timezone){ .name = zone }, &known));
	return pg_bool(&known, 0, "known") ? OK : fault_field("settings.timezone", "must be an IANA time zone such as Europe/Berlin");
}

static enum fault check(struct req *req, const struct client_in *in)
{
	if (in->email.p && !email_good(in->email))
		return fault_field("email", "must be an e-mail address");
	TRY(client_limits_check(req, in->limits));
	return client_settings_check(req, in->settings);
}

static enum fault email_taken(struct req *req, struct str email)
{
	struct rows other;
	TRY(clients_by_email(&req->tx, (struct clients_by_email){ .email = email }, &other));
	enum fault fault = fault_raise(FAULT_CONFLICT, "This agency has a client with that e-mail already");
	fault_detail("field", STR("email"));
	if (other.count)
		fault_detail("id", pg_col(req->arena, &other, 0, "id"));
	return fault;
}

static struct str event_data(struct arena *arena, struct str id, const char *status)
{
	return str_format(arena, "{\"client_id\":\"%.*s\",\"subscription_status\":\"%s\"}", STRF(id), status);
}

static enum fault create(struct req *req)
{
	struct client_in *in = req->in;
	struct rows made, row;
	if (req->scope.client_id.p)
		return fault_field("x-client-id", "must be absent: a client is made by its agency");
	TRY(check(req, in));
	struct str id = uuid_make(req->arena);
	TRY(req_begin(req));
	TRY(clients_insert(&req->tx, (struct clients_insert){ .id = id, .name = in->name, .email = in->email, .mode = in->mode,
		.price = in->price_per_minute, .ceiling = in->credits_ceiling, .limits = in->limits, .settings = in->settings }, &made));
	if (!made.count)
		return email_taken(req, in->email);
	clients_open_later(&req->tx, (struct clients_open){ .id = id, .event_id = uuid_make(req->arena),
		.data = event_data(req->arena, id, "active") }, NULL);
	TRY(clients_get(&req->tx, (struct clients_get){ .id = id }, &row));
	reply_row(req, 201, &client_shape, &row, 0);
	http_reply_header(req->http, "Location", str_format(req->arena, API "/auth/clients/%.*s", STRF(id)));
	return req_commit(req, false);
}

static enum fault list(struct req *req)
{
	static const char *const filters[] = { "q", "subscription_status", NULL };
	struct page page;
	struct rows rows;
	struct tx tx;
	TRY(req_page(req, filters, &page));
	req_read(req, &tx);
	TRY(clients_list(&tx, (struct clients_list){ .q = req_query(req, "q"),
		.subscription_status = req_enum_filter(req, "subscription_status", "active,suspended,cancelled"),
		PAGE_OF(page) }, &rows));
	reply_list(req, &client_shape, &rows, page.limit, page.filters);
	return OK;
}

static enum fault get(struct req *req)
{
	struct rows row;
	struct tx tx;
	req_read(req, &tx);
	TRY(clients_get(&tx, (struct clients_get){ .id = req->ids[0] }, &row));
	if (!row.count)
		return fault_raise(FAULT_NOT_FOUND, "No such client");
	reply_row(req, 200, &client_shape, &row, 0);
	return OK;
}

static struct str number_if(struct req *req, const char *name, int64_t value)
{
	return req_given(req, name) ? str_format(req->arena, "%lld", (long long)value) : STR_NULL;
}

static enum fault patch(struct req *req)
{
	struct client_in *in = req->in;
	struct rows changed, row;
	for (size_t i = FIRST_AGENCY_FIELD; i < patch_shape.count; i++)
		if (json_object_get(req->json, patch_fields[i].name) && req->who.role != AGENCY_ADMIN) {
			enum fault fault = fault_raise(FAULT_FORBIDDEN, "Only an agency_admin may set %s", patch_fields[i].name);
			fault_detail("reason", STR("role"));
			fault_detail("field", str_of(patch_fields[i].name));
			return fault;
		}
	TRY(check(req, in));
	bool agency = !req->scope.client_id.p;
	if (agency)	/* its event belongs to the client's own stream, so its own door is used */
		req->scope.client_id = req->ids[0];
	TRY(req_begin(req));
	enum fault fault = clients_patch(&req->tx, (struct clients_patch){ .id = req->ids[0], .name = in->name, .email = in->email,
		.settings = in->settings, .limits = in->limits, .subscription_status = in->subscription_status,
		.price = number_if(req, "price_per_minute", in->price_per_minute),
		.ceiling = number_if(req, "credits_ceiling", in->credits_ceiling) }, &changed);
	if (fault == FAULT_CONFLICT) {
		fault_detail("field", STR("email"));
		return fault;
	}
	if ((agency && fault == FAULT_FORBIDDEN) || (fault == OK && !changed.count))
		return fault_raise(FAULT_NOT_FOUND, "No such client");
	TRY(fault);
	TRY(clients_get(&req->tx, (struct clients_get){ .id = req->ids[0] }, &row));
	struct str status = pg_col(req->arena, &row, 0, "subscription_status");
	struct str data = event_data(req->arena, req->ids[0], str_copy(req->arena, status).p);
	reply_row(req, 200, &client_shape, &row, 0);
	if (req_given(req, "subscription_status") && str_is(status, "suspended"))
		event_emit(&req->tx, "client.suspended", "client", req->ids[0], data);
	event_emit(&req->tx, "client.updated", "client", req->ids[0], data);
	return req_commit(req, false);
}

#define CREATE(path) { "POST", API path, AGENCY_ADMIN, "accounts:write", create, &new_shape, sizeof(struct client_in), &client_shape, 201, \
	.flags = ROUTE_AGENCY, .summary = "Make a client" }
#define LIST(path) { "GET", API path, ROLE_R, "accounts:read", list, .out = &client_shape, .status = 200, .flags = ROUTE_LIST, \
	.query = "q,subscription_status", .summary = "List the clients I may see" }
#define GET(path) { "GET", API path, ROLE_R, "accounts:read", get, .out = &client_shape, .status = 200, .summary = "Read a client" }
#define PATCH(path) { "PATCH", API path, ROLE_W, "accounts:write", patch, &patch_shape, sizeof(struct client_in), &client_shape, 200, \
	.flags = ROUTE_AGENCY, .summary = "Change a client; status, price, ceiling and limits are the agency's" }

const struct route clients_routes[] = { TWICE(CREATE, "/clients"), TWICE(LIST, "/clients"), TWICE(GET, "/clients/{id}"),
	TWICE(PATCH, "/clients/{id}"), { 0 } };
