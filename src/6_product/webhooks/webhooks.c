/* Webhook endpoints. The secret is shown once, in the answer that makes it. */
#include "webhooks.h"
#include "webhooks.sql.h"
#include "../../1_code/b64.h"
#include "../../1_code/url.h"
#include "../../1_code/uuid.h"
#include "../../3_core/config.h"
#include "../../3_core/events.h"
#include "../../3_core/vault.h"

struct webhook_new {
	struct str url, event_types, secret, description, retry_config;
	bool enabled;
};

static const struct shape_field type_item[] = { { "type", SHAPE_TEXT, .min = 1, .max = 100 } };
static const struct shape type_shape = { "event_type", type_item, 1, .item_is_text = true };

#define FIELD(field, ...) { .name = #field, .offset = offsetof(struct webhook_new, field), __VA_ARGS__ }
static const struct shape_field new_fields[] = {
	FIELD(url, .type = SHAPE_URL, .flags = SHAPE_REQUIRED, .doc = "public https"),
	FIELD(event_types, .type = SHAPE_LIST, .flags = SHAPE_REQUIRED, .min = 1, .max = 64, .sub = &type_shape,
		.doc = "names such as call.completed, call.* or *"),
	FIELD(secret, .type = SHAPE_TEXT, .min = 24, .max = 128, .doc = "whsec_ and base64; made for you when absent"),
	FIELD(enabled, .type = SHAPE_BOOL, .preset = "true"),
	FIELD(description, .type = SHAPE_TEXT, .max = 500),
	FIELD(retry_config, .type = SHAPE_OBJECT, .max = 4096, .doc = "max_attempts 1..20, schedule_seconds[], timeout_seconds 1..30"),
};
static const struct shape new_shape = SHAPE("webhook_new", new_fields);

static const struct shape_field webhook_fields[] = {
	{ "id", SHAPE_UUID },
	{ "client_id", SHAPE_UUID },
	{ "url", SHAPE_URL },
	{ "event_types", SHAPE_LIST, .sub = &type_shape, .max = 64 },
	{ "enabled", SHAPE_BOOL },
	{ "description", SHAPE_TEXT, SHAPE_MAYBE },
	{ "retry_config", SHAPE_OBJECT },
	{ "disabled_reason", SHAPE_TEXT, SHAPE_MAYBE },
	{ "failing_since", SHAPE_TIME, SHAPE_MAYBE },
	{ "created_at", SHAPE_TIME },
	{ "updated_at", SHAPE_TIME },
};
static const struct shape webhook_shape = SHAPE("webhook", webhook_fields);

struct str webhook_context(struct arena *arena, struct str client_id)
{
	return str_format(arena, "webhook:%.*s", STRF(client_id));
}

static enum fault check(struct req *req, struct webhook_new *in)
{
	struct url url;
	json_t *types, *type;
	size_t i;
	struct str key;
	const char *problem = url_read(in->url, &url) ? url_egress_problem(&url, config.egress_allow_private) : "must be a URL";
	if (problem)
		return fault_field("url", problem);
	TRY(json_read_any(req->arena, in->event_types, &types));
	json_array_foreach(types, i, type)
		if (!event_known(str_of(json_string_value(type))))
			return fault_field(str_format(req->arena, "event_types[%zu]", i).p, "is no event type");
	if (in->secret.p && (!str_starts(in->secret, "whsec_") || !b64_read(req->arena, str_from(in->secret, 6), &key) || key.n < 16))
		return fault_field("secret", "must be whsec_ followed by base64 of at least 16 bytes");
	if (in->retry_config.p) {
		json_t *r;
		TRY(json_read(req->arena, in->retry_config, &r));
		json_t *most = json_object_get(r, "max_attempts"), *timeout = json_object_get(r, "timeout_seconds");
		if (most && (!json_is_integer(most) || json_integer_value(most) < 1 || json_integer_value(most) > 20))
			return fault_field("retry_config.max_attempts", "must be 1..20");
		if (timeout && (!json_is_integer(timeout) || json_integer_value(timeout) < 1 || json_integer_value(timeout) > 30))
			return fault_field("retry_config.timeout_seconds", "must be 1..30");
		json_array_foreach(json_object_get(r, "schedule_seconds"), i, type)
			if (!json_is_integer(type) || json_integer_value(type) < 0 || json_integer_value(type) > 604800)
				return fault_field("retry_config.schedule_seconds", "must hold seconds, 0..604800");
	}
	return OK;
}

static enum fault create(struct req *req)
{
	struct webhook_new *in = req->in;
	struct rows row;
	char random[32];
	TRY(req_need_client(req));
	TRY(check(req, in));
	struct str id = uuid_make(req->arena);
	random_bytes(random, sizeof random);
	if (!in->secret.p)
		in->secret = str_format(req->arena, "whsec_%.*s", STRF(b64_write(req->arena, (struct str){ random, sizeof random })));
	struct str sealed;
	TRY(vault_entrust(req->arena, webhook_context(req->arena, req->scope.client_id), in->secret, &sealed));
	TRY(req_begin(req));
	webhooks_insert_later(&req->tx, (struct webhooks_insert){ .id = id, .url = in->url, .event_types = in->event_types,
		.secret = sealed,
		.enabled = in->enabled, .description = in->description, .retry_config = in->retry_config }, NULL);
	TRY(webhooks_get(&req->tx, (struct webhooks_get){ .id = id }, &row));
	struct buf b = BUF_IN(req->arena, 65536);
	row_json(&b, req->arena, &webhook_shape, &row, 0);
	b.n--;		/* the one answer with the secret in it */
	buf_text(&b, ",\"secret\":");
	buf_json(&b, in->secret);
	buf_char(&b, '}');
	reply_json(req, 201, buf_view(&b));
	http_reply_header(req->http, "Location", str_format(req->arena, API "/webhooks/%.*s", STRF(id)));
	return req_commit(req, false);
}

static enum fault get(struct req *req)
{
	struct rows row;
	struct tx tx;
	req_read(req, &tx);
	TRY(webhooks_get(&tx, (struct webhooks_get){ .id = req->ids[0] }, &row));
	if (!row.count)
		return fault_raise(FAULT_NOT_FOUND, "No such webhook");
	reply_row(req, 200, &webhook_shape, &row, 0);
	return OK;
}

static enum fault list(struct req *req)
{
	static const char *const filters[] = { "enabled", NULL };
	struct page page;
	struct rows rows;
	struct tx tx;
	TRY(req_page(req, filters, &page));
	req_read(req, &tx);
	TRY(webhooks_list(&tx, (struct webhooks_list){ .enabled = req_enum_filter(req, "enabled", "true,false"),
		PAGE_OF(page) }, &rows));
	reply_list(req, &webhook_shape, &rows, page.limit, page.filters);
	return OK;
}

static enum fault delete(struct req *req)
{
	struct rows gone;
	TRY(req_need_client(req));
	TRY(req_begin(req));
	TRY(webhooks_delete(&req->tx, (struct webhooks_delete){ .id = req->ids[0] }, &gone));
	if (!gone.count)
		return fault_raise(FAULT_NOT_FOUND, "No such webhook");
	req->status = 204;
	req->out = BUF_IN(req->arena, 1);
	return req_commit(req, false);
}

const struct route webhooks_routes[] = {
	{ "POST", API "/webhooks", ROLE_W, "webhooks:write", create, &new_shape, sizeof(struct webhook_new), &webhook_shape, 201,
		.summary = "Register an endpoint; the answer alone shows its secret" },
	{ "GET", API "/webhooks", ROLE_R, "webhooks:read", list, .out = &webhook_shape, .status = 200, .flags = ROUTE_LIST,
		.query = "enabled", .summary = "List endpoints" },
	{ "GET", API "/webhooks/{id}", ROLE_R, "webhooks:read", get, .out = &webhook_shape, .status = 200, .summary = "Read an endpoint" },
	{ "DELETE", API "/webhooks/{id}", ROLE_W, "webhooks:write", delete, .status = 204, .summary = "Remove an endpoint" },
	{ 0 },
};

const struct job_kind webhooks_jobs[] = {
	{ "webhook.deliver", "q-webhook-egress", webhook_deliver, 1000 },
	{ 0 },
};
