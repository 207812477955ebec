/* Voices: routes. */
#include "voices.h"
#include "voices.sql.h"
#include "../uploads/uploads.h"
#include "../../0_base/clock.h"
#include "../../1_code/uuid.h"
#include "../../3_core/effect.h"
#include "../../3_core/events.h"
#include "../../4_out/objects.h"
#include "../../4_out/voice_provider.h"

#define FIELD(field, ...) { .name = #field, .offset = offsetof(struct voice_new, field), __VA_ARGS__ }
static const struct shape_field new_fields[] = {
	FIELD(name, .type = SHAPE_TEXT, .flags = SHAPE_REQUIRED, .min = 1, .max = 100),
	FIELD(description, .type = SHAPE_TEXT, .max = 240),
	FIELD(language, .type = SHAPE_TEXT, .min = 2, .max = 35, .preset = "en-US"),
	FIELD(strategy, .type = SHAPE_ENUM, .values = "auto,native,external", .preset = "auto"),
	FIELD(source, .type = SHAPE_OBJECT, .max = 65536, .doc = "type: native or external; samples, 1..10 of s3_key or upload_id, "
		"duration_seconds and text; or provider_voice_id"),
	FIELD(provider_overrides, .type = SHAPE_OBJECT, .max = 16384, .doc = "provider, voice_id, model, settings"),
};
static const struct shape new_shape = SHAPE("voice_new", new_fields);
static const struct shape_field patch_fields[] = {
	FIELD(name, .type = SHAPE_TEXT, .min = 1, .max = 100),
	FIELD(description, .type = SHAPE_TEXT, .flags = SHAPE_MAYBE, .max = 240),
	FIELD(language, .type = SHAPE_TEXT, .min = 2, .max = 35),
};
static const struct shape patch_shape = SHAPE("voice_patch", patch_fields);

static const struct shape_field voice_fields[] = {
	{ "id", SHAPE_UUID },
	{ "client_id", SHAPE_UUID },
	{ "name", SHAPE_TEXT },
	{ "description", SHAPE_TEXT, SHAPE_MAYBE },
	{ "provider", SHAPE_TEXT },
	{ "type", SHAPE_ENUM, .values = "custom,reference" },
	{ "language", SHAPE_TEXT },
	{ "status", SHAPE_ENUM, .values = "training,active,failed" },
	{ "sync_status", SHAPE_ENUM, .values = "synced,pending,failed" },
	{ "training_info", SHAPE_OBJECT, .doc = "progress in percent, started_at, completed_at" },
	{ "provider_voice_id", SHAPE_TEXT, SHAPE_MAYBE },
	{ "ultravox_voice_id", SHAPE_TEXT, SHAPE_MAYBE },
	{ "last_error", SHAPE_TEXT, SHAPE_OMIT },
	{ "created_at", SHAPE_TIME },
	{ "updated_at", SHAPE_TIME },
};
static const struct shape voice_shape = SHAPE("voice", voice_fields);

static enum fault load_row(struct tx *tx, struct str id, struct rows *ret) { return voices_get(tx, (struct voices_get){ .id = id }, ret); }

static const struct effect pushing = { "voice.push", "voice", "voice", "ultravox", &voice_shape, load_row, true };

static enum fault may_spend(struct str status)
{
	if (str_is(status, "active"))
		return OK;
	enum fault fault = fault_raise(FAULT_PAYMENT_REQUIRED, "The subscription is %.*s", STRF(status));
	fault_detail("reason", STR("subscription_suspended"));
	return fault;
}

/* The credits of a training, among the transaction's last statements. */
static void hold(struct req *req, struct str hold_id, struct str reference)
{
	voices_hold_later(&req->tx, (struct voices_hold){ .hold_id = hold_id, .reference = reference, .amount = TRAINING_CREDITS }, NULL);
}

static enum fault create(struct req *req)
{
	struct voice_new *in = req->in;
	struct voice_plan plan;
	struct rows client, row;
	struct str id = uuid_make(req->arena);
	TRY(req_need_client(req));
	TRY(voice_plan_read(req, in, &plan));
	struct str hold_id = plan.native ? uuid_make(req->arena) : STR_NULL;
	TRY(req_begin(req));
	TRY(voices_client(&req->tx, (struct voices_client){ 0 }, &client));
	TRY(voice_account_expect(&req->tx, pg_col(req->arena, &client, 0, "mode")));
	if (plan.native)
		TRY(may_spend(pg_col(req->arena, &client, 0, "subscription_status")));
	voices_insert_later(&req->tx, (struct voices_insert){ .id = id, .name = in->name, .description = in->description,
		.language = in->language,
		.provider = plan.provider, .type = plan.sample_count ? STR("custom") : STR("reference"),
		.provider_voice_id = plan.provider_voice_id,
		.overrides = in->provider_overrides, .hold_id = hold_id }, NULL);
	for (size_t i = 0; i < plan.sample_count; i++) {
		const struct voice_sample *s = &plan.samples[i];
		voices_sample_later(&req->tx, (struct voices_sample){ .voice_id = id, .position = (int64_t)i, .upload_id = s->upload_id,
			.text = s->text,
			.seconds = str_format(req->arena, "%.3f", s->seconds), .format = str_of(s->format) }, NULL);
		uploads_mark(&req->tx, s->upload_id, "used", s->bytes);
	}
	TRY(voices_get(&req->tx, (struct voices_get){ .id = id }, &row));
	if (plan.native)
		hold(req, hold_id, id);
	effect_location(req, "voices", id);
	return effect_run(req, &pushing, id, &row, STR_NULL, plan.sample_count ? "voice.training.started" : NULL,
		voice_event_data(req->arena, id, STR_NULL, "training", STR_NULL), 201);
}

static enum fault get(struct req *req) { return effect_get(req, &pushing); }

static enum fault list(struct req *req)
{
	static const char *const filters[] = { "status", "type", "provider", "q", NULL };
	struct page page;
	struct rows rows;
	struct tx tx;
	TRY(req_page(req, filters, &page));
	req_read(req, &tx);
	TRY(voices_list(&tx, (struct voices_list){ .status = req_enum_filter(req, "status", "training,active,failed"),
		.type = req_enum_filter(req, "type", "custom,reference"), .provider = req_query(req, "provider"), .q = req_query(req, "q"),
		PAGE_OF(page) }, &rows));
	reply_list(req, &voice_shape, &rows, page.limit, page.filters);
	return effect_refresh(req, pushing.kind, pushing.resource, &rows);
}

/* Words alone. While it is not active there is nothing to push: what is made then bears them. */
static enum fault patch(struct req *req)
{
	struct voice_new *in = req->in;
	struct rows changed, row;
	struct str id = req->ids[0];
	TRY(req_need_client(req));
	TRY(req_begin(req));
	voices_update_later(&req->tx, (struct voices_update){ .id = id, .name = in->name, .set_description = req->set & 2,
		.description = in->description, .language = in->language }, &changed);
	TRY(voices_get(&req->tx, (struct voices_get){ .id = id }, &row));
	if (!changed.count)
		return fault_raise(FAULT_NOT_FOUND, "No such voice");
	struct str status = pg_col(req->arena, &changed, 0, "status");
	struct str data = voice_event_data(req->arena, id, pg_col(req->arena, &changed, 0, "ultravox_voice_id"),
		str_copy(req->arena, status).p, STR_NULL);
	if (str_is(status, "active"))
		return effect_run(req, &pushing, id, &row, STR_NULL, "voice.updated", data, 200);
	reply_row(req, 200, &voice_shape, &row, 0);
	event_emit(&req->tx, "voice.updated", "voice", id, data);
	return req_commit(req, false);
}

/* Active: is the provider's copy there and right? Failed: trained again, at the price of a training. */
static enum fault sync(struct req *req)
{
	struct rows found, row;
	struct str id = req->ids[0], hold_id = STR_NULL;
	TRY(req_need_client(req));
	TRY(req_begin(req));
	TRY(voices_lock(&req->tx, (struct voices_lock){ .id = id }, &found));
	if (!found.count)
		return fault_raise(FAULT_NOT_FOUND, "No such voice");
	bool failed = str_is(pg_col(req->arena, &found, 0, "status"), "failed");
	bool native = str_is(pg_col(req->arena, &found, 0, "provider"), "ultravox");
	if (failed && native) {
		TRY(may_spend(pg_col(req->arena, &found, 0, "subscription_status")));
		hold_id = uuid_make(req->arena);
	}
	if (failed)
		voices_retrain_later(&req->tx, (struct voices_retrain){ .id = id, .hold_id = hold_id }, NULL);
	else
		voices_resync_later(&req->tx, (struct voices_resync){ .id = id }, NULL);
	TRY(voices_get(&req->tx, (struct voices_get){ .id = id }, &row));
	if (hold_id.p)
		hold(req, hold_id, str_format(req->arena, "%.*s/%lld", STRF(id), (long long)pg_int(&found, 0, "trainings") + 1));
	bool started = failed && str_is(pg_col(req->arena, &found, 0, "type"), "custom");
	return effect_run(req, &pushing, id, &row, STR_NULL, started ? "voice.training.started" : NULL,
		voice_event_data(req->arena, id, STR_NULL, "training", STR_NULL), 200);
}

static enum fault delete(struct req *req)
{
	struct rows found, used;
	struct str id = req->ids[0];
	TRY(req_need_client(req));
	TRY(req_begin(req));
	TRY(voices_lock(&req->tx, (struct voices_lock){ .id = id }, &found));
	if (!found.count)
		return fault_raise(FAULT_NOT_FOUND, "No such voice");
	TRY(voices_used(&req->tx, (struct voices_used){ .id = id }, &used));
	if (used.count) {
		enum fault fault = fault_raise(FAULT_CONFLICT, "An agent uses this voice");
		fault_detail("agent_id", pg_col(req->arena, &used, 0, "id"));
		return fault;
	}
	voices_delete_later(&req->tx, (struct voices_delete){ .id = id }, NULL);
	struct job_order push = { .kind = "voice.push", .resource_type = "voice", .resource_id = id };
	job_add(&req->tx, &push);
	reply_json(req, 200, str_format(req->arena, "{\"id\":\"%.*s\",\"deleted\":true}", STRF(id)));
	event_emit(&req->tx, "voice.deleted", "voice", id, voice_event_data(req->arena, id,
		pg_col(req->arena, &found, 0, "ultravox_voice_id"), "deleted", STR_NULL));
	return req_commit(req, false);
}

/* What was made within a day, else what a job makes now. */
static enum fault preview(struct req *req)
{
	struct rows row;
	struct tx tx;
	struct str text = req_query(req, "text"), shown, bytes;
	json_t *made;
	int64_t until_us = 0;
	if (text.p && str_chars(text) > 300)
		return fault_field("text", "must have at most 300 characters");
	req_read(req, &tx);
	TRY(voices_load(&tx, (struct voices_load){ .id = req->ids[0] }, &row));
	if (!row.count || !pg_null(&row, 0, "deleted_at"))
		return fault_raise(FAULT_NOT_FOUND, "No such voice");
	if (!str_is(pg_col(req->arena, &row, 0, "status"), "active"))
		return fault_field("status", "the voice is not active");
	shown = pg_col(req->arena, &row, 0, "preview");
	if (shown.p)
		TRY(json_read(req->arena, shown, &made));
	if (!shown.p || !clock_parse(json_text(made, "until"), &until_us) || until_us < clock_now_us()) {
		req->scope.client_id = pg_col(req->arena, &row, 0, "client_id");
		TRY(req_begin(req));
		TRY(effect_ask(req, "voice.preview", "voice", req->ids[0], STR_NULL, &shown));
		TRY(json_read(req->arena, shown, &made));
	}
	if (json_text(made, "problem").p) {
		enum fault fault = fault_raise(FAULT_PROVIDER_ERROR, "%.*s", STRF(json_text(made, "problem")));
		fault_detail("provider", STR("ultravox"));
		return fault;
	}
	TRY(objects_get(req->arena, json_text(made, "object"), SAMPLE_BYTES, &bytes));
	req->status = 0;
	http_reply(req->http, 200, json_text(made, "type").p, bytes);
	return OK;
}

const struct route voices_routes[] = {
	{ "POST", API "/voices", ROLE_W, "voices:write", create, &new_shape, sizeof(struct voice_new), &voice_shape, 201, .flags = ROUTE_ASYNC,
		.summary = "Clone a voice from samples (50 credits), or refer to one of another provider" },
	{ "GET", API "/voices", ROLE_R, "voices:read", list, .out = &voice_shape, .status = 200, .flags = ROUTE_LIST,
		.query = "status,type,provider,q,refresh,created_after,created_before", .summary = "List voices, newest first" },
	{ "GET", API "/voices/{id}", ROLE_R, "voices:read", get, .out = &voice_shape, .status = 200, .query = "refresh",
		.summary = "Read a voice; refresh=true has a job ask the provider" },
	{ "PATCH", API "/voices/{id}", ROLE_W, "voices:write", patch, &patch_shape, sizeof(struct voice_new), &voice_shape, 200,
		.flags = ROUTE_ASYNC, .summary = "Change a voice's name, description or language" },
	{ "DELETE", API "/voices/{id}", ROLE_W, "voices:write", delete, .status = 200, .summary = "Delete a voice" },
	{ "POST", API "/voices/{id}/sync", ROLE_W, "voices:write", sync, .out = &voice_shape, .status = 200, .flags = ROUTE_ASYNC,
		.summary = "See that the provider still has the voice; train a failed one again" },
	{ "GET", API "/voices/{id}/preview", ROLE_R, "voices:read", preview, .status = 200, .query = "text",
		.media = "audio/wav,audio/mpeg", .summary = "Hear a voice (wav or mp3); the provider chooses the words" },
	{ 0 },
};

const struct job_kind voices_jobs[] = {
	{ "voice.push", "q-artifacts-sync", voice_push, 1000 },
	{ "voice.preview", "q-artifacts-sync", voice_preview, 1 },
	{ "voice.watch", "q-artifacts-sync", voice_watch, 1000000 },
	{ 0 },
};
