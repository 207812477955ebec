/* Calls as the API sees them: accepted with their hold, event and dial job in one transaction, read
 * from rows alone. What must never happen here: talking to the provider, or answering 2xx before the
 * row, the hold and the job are durable. */
#include "calls.h"
#include "calls.sql.h"
#include "../../0_base/clock.h"
#include "../../1_code/uuid.h"
#include "../../3_core/config.h"
#include "../../3_core/effect.h"
#include "../../3_core/events.h"
#include "../../4_out/objects.h"
#include "../../4_out/voice_provider.h"

#define RECORDING_URL_S 3600

struct call_settings {
	bool recording_enabled, transcription_enabled;
	struct str greeting, voicemail_message;
	int64_t max_duration_seconds, ring_timeout_seconds;
};

struct call_new {
	struct str agent_id, phone_number, direction, from_number, context, external_ref;
	struct call_settings settings;
};

#define SETTING_FIELD(field, ...) { .name = #field, .offset = offsetof(struct call_settings, field), __VA_ARGS__ }
static const struct shape_field settings_fields[] = {
	SETTING_FIELD(recording_enabled, .type = SHAPE_BOOL, .preset = "true"),
	SETTING_FIELD(transcription_enabled, .type = SHAPE_BOOL, .preset = "true"),
	SETTING_FIELD(greeting, .type = SHAPE_TEXT, .min = 1, .max = 1000, .doc = "what the agent says first"),
	SETTING_FIELD(max_duration_seconds, .type = SHAPE_INT, .min = 10, .max = 14400, .doc = "the agent's, else 3600"),
	SETTING_FIELD(ring_timeout_seconds, .type = SHAPE_INT, .min = 5, .max = 120),
	SETTING_FIELD(voicemail_message, .type = SHAPE_TEXT, .min = 1, .max = 1000, .doc = "absent: hang up on a machine"),
};
static const struct shape settings_shape = SHAPE("call_settings", settings_fields);

#define NEW_FIELD(field, ...) { .name = #field, .offset = offsetof(struct call_new, field), __VA_ARGS__ }
static const struct shape_field new_fields[] = {
	NEW_FIELD(agent_id, .type = SHAPE_UUID, .flags = SHAPE_REQUIRED),
	NEW_FIELD(phone_number, .type = SHAPE_PHONE, .flags = SHAPE_REQUIRED, .doc = "E.164; blanks, dots and brackets are stripped"),
	NEW_FIELD(direction, .type = SHAPE_ENUM, .values = "outbound,inbound", .preset = "outbound",
		.doc = "inbound: nobody is dialled, the answer has a join_url to bridge the caller to"),
	NEW_FIELD(from_number, .type = SHAPE_PHONE, .doc = "the agent's, else the client's, else the installation's"),
	NEW_FIELD(context, .type = SHAPE_OBJECT, .max = 16384, .doc = "variables for the agent's prompt"),
	NEW_FIELD(external_ref, .type = SHAPE_TEXT, .min = 1, .max = 128, .doc = "your own reference"),
	{ .name = "call_settings", .offset = offsetof(struct call_new, settings), .type = SHAPE_PART, .sub = &settings_shape },
};
static const struct shape new_shape = SHAPE("call_new", new_fields);

#define STATUSES "queued,dialing,unknown,ringing,in_progress,completed,voicemail,busy,no_answer,failed,cancelled"
#define OUTCOMES "completed,voicemail,call_screened,busy,no_answer,declined,invalid_number,failed,not_placed,cancelled," \
	"expired,no_funds,unknown"

static const struct shape_field call_fields[] = {
	{ "id", SHAPE_UUID },
	{ "client_id", SHAPE_UUID },
	{ "agent_id", SHAPE_UUID },
	{ "campaign_id", SHAPE_UUID, SHAPE_MAYBE },
	{ "contact_id", SHAPE_UUID, SHAPE_MAYBE },
	{ "external_ref", SHAPE_TEXT, SHAPE_MAYBE },
	{ "ultravox_call_id", SHAPE_TEXT, SHAPE_MAYBE },
	{ "phone_number", SHAPE_PHONE, SHAPE_MAYBE, .doc = "null for a call by browser" },
	{ "from_number", SHAPE_PHONE, SHAPE_MAYBE },
	{ "direction", SHAPE_ENUM, .values = "outbound,inbound" },
	{ "status", SHAPE_ENUM, .values = STATUSES },
	{ "outcome", SHAPE_ENUM, SHAPE_MAYBE, .values = OUTCOMES },
	{ "end_reason_raw", SHAPE_TEXT, SHAPE_MAYBE, .doc = "the provider's own word" },
	{ "context", SHAPE_OBJECT },
	{ "call_settings", SHAPE_OBJECT },
	{ "started_at", SHAPE_TIME, SHAPE_MAYBE, .doc = "the provider accepted it" },
	{ "answered_at", SHAPE_TIME, SHAPE_MAYBE },
	{ "ended_at", SHAPE_TIME, SHAPE_MAYBE },
	{ "duration_seconds", SHAPE_INT, SHAPE_MAYBE, .doc = "answered to ended" },
	{ "billed_seconds", SHAPE_INT, SHAPE_MAYBE },
	{ "credits_held", SHAPE_INT, .doc = "reserved when the call was accepted; the call never costs more" },
	{ "credits_charged", SHAPE_INT },
	{ "cost_usd", SHAPE_NUMBER, SHAPE_OMIT, .doc = "what the provider charged" },
	{ "summary", SHAPE_TEXT, SHAPE_MAYBE },
	{ "recording_available", SHAPE_BOOL },
	{ "join_url", SHAPE_TEXT, SHAPE_OMIT },
	{ "error", SHAPE_OBJECT, SHAPE_OMIT, .doc = "code and message when it failed" },
	{ "created_at", SHAPE_TIME },
	{ "updated_at", SHAPE_TIME },
};
const struct shape call_shape = SHAPE("call", call_fields);

static const struct shape_field test_call_in_fields[] = { NEW_FIELD(context, .type = SHAPE_OBJECT, .max = 16384) };
static const struct shape test_call_in_shape = SHAPE("test_call_new", test_call_in_fields);
static const struct shape_field test_call_fields[] = {
	{ "id", SHAPE_UUID, .doc = "of the call" },
	{ "call_id", SHAPE_UUID, .doc = "the same value" },
	{ "agent_id", SHAPE_UUID },
	{ "status", SHAPE_ENUM, .values = STATUSES },
	{ "join_url", SHAPE_TEXT, SHAPE_OMIT, .doc = "for the provider's browser library" },
	{ "created_at", SHAPE_TIME },
};
static const struct shape test_call_shape = SHAPE("test_call", test_call_fields);

static const struct shape_field transcript_fields[] = {
	{ "call_id", SHAPE_UUID },
	{ "transcript", SHAPE_LIST, .doc = "speaker, text, start_seconds, timestamp, at" },
	{ "summary", SHAPE_TEXT, SHAPE_MAYBE },
};
static const struct shape transcript_shape = SHAPE("transcript", transcript_fields);

static const struct shape_field recording_fields[] = {
	{ "call_id", SHAPE_UUID },
	{ "recording_url", SHAPE_URL, .doc = "good for one hour" },
	{ "format", SHAPE_ENUM, .values = "wav,mp3" },
	{ "duration_seconds", SHAPE_NUMBER, SHAPE_MAYBE },
	{ "size_bytes", SHAPE_INT },
	{ "expires_at", SHAPE_TIME },
};
static const struct shape recording_shape = SHAPE("recording", recording_fields);

/* Only what was given: each field's own preset must not overwrite what stands there. */
enum fault call_settings_check(struct arena *arena, struct str in, struct str *ret)
{
	struct call_settings read;
	struct shape_warning *ignored = NULL;
	json_t *given, *kept = json_object(), *value;
	uint64_t set;
	arena_defer(arena, (void (*)(void *))json_decref, kept);
	TRY(json_read(arena, in, &given));
	TRY(shape_read(arena, &settings_shape, given, &read, &set, &ignored));
	for (size_t i = 0; i < settings_shape.count; i++)
		if ((value = json_object_get(given, settings_shape.fields[i].name)))
			json_object_set(kept, settings_shape.fields[i].name, value);
	*ret = json_dump(arena, kept);
	return OK;
}

/* What the prospect allows: an agent that can speak, a client that may spend, a number to call from. */
static enum fault judge(struct req *req, const struct rows *p, struct call_new *in)
{
	struct str status = pg_col(req->arena, p, 0, "subscription_status");
	if (!str_is(status, "active")) {
		enum fault fault = fault_raise(FAULT_PAYMENT_REQUIRED, "The subscription is %.*s", STRF(status));
		fault_detail("reason", STR("subscription_suspended"));
		return fault;
	}
	TRY(voice_account_expect(&req->tx, pg_col(req->arena, p, 0, "mode")));
	if (pg_null(p, 0, "agent_id")) {
		enum fault fault = fault_raise(FAULT_NOT_FOUND, "No such agent");
		fault_detail("field", STR("agent_id"));
		return fault;
	}
	if (!str_is(pg_col(req->arena, p, 0, "agent_status"), "active"))
		return fault_field("agent_id", "the agent is not active");
	if (pg_bool(p, 0, "suppressed"))
		return fault_field("phone_number", "is suppressed: this number is not called");
	struct str numbers[] = { in->from_number, pg_col(req->arena, p, 0, "agent_number"),
		pg_col(req->arena, p, 0, "client_number"), config.default_from_number };
	bool web = !in->phone_number.p;
	for (size_t i = 0; i < 4 && !in->from_number.n && !web; i++)
		in->from_number = numbers[i];
	if (!in->from_number.n && !web && str_is(in->direction, "outbound"))
		return fault_field("from_number", "no caller number is known: give one here, on the agent or on the client");
	int64_t agent_max;
	if (!in->settings.max_duration_seconds)
		in->settings.max_duration_seconds = str_int(pg_col(req->arena, p, 0, "agent_max"), &agent_max) &&
			agent_max >= 10 && agent_max <= 14400 ? agent_max : 3600;
	return OK;
}

static struct str settings_json(struct arena *arena, const struct call_settings *s)
{
	struct buf b = BUF_IN(arena, 32768);
	buf_format(&b, "{\"recording_enabled\":%s,\"transcription_enabled\":%s,\"max_duration_seconds\":%lld",
		s->recording_enabled ? "true" : "false", s->transcription_enabled ? "true" : "false",
		(long long)s->max_duration_seconds);
	if (s->ring_timeout_seconds)
		buf_format(&b, ",\"ring_timeout_seconds\":%lld", (long long)s->ring_timeout_seconds);
	if (s->greeting.p) {
		buf_text(&b, ",\"greeting\":");
		buf_json(&b, s->greeting);
	}
	if (s->voicemail_message.p) {
		buf_text(&b, ",\"voicemail_message\":");
		buf_json(&b, s->voicemail_message);
	}
	buf_char(&b, '}');
	return buf_view(&b);
}

static struct str created_data(struct arena *arena, struct str id, const struct call_new *in)
{
	struct buf b = BUF_IN(arena, 4096);
	buf_format(&b, "{\"call_id\":\"%.*s\",\"agent_id\":\"%.*s\",\"campaign_id\":null,\"contact_id\":null,\"ultravox_call_id\":null,"
		"\"phone_number\":", STRF(id), STRF(in->agent_id));
	buf_json(&b, in->phone_number);
	buf_format(&b, ",\"direction\":\"%.*s\",\"status\":\"queued\"}", STRF(in->direction));
	return buf_view(&b);
}

static enum fault shown(struct tx *tx, struct str id, const struct shape *shape, struct rows *ret)
{
	return shape == &call_shape ? calls_get(tx, (struct calls_get){ .id = id }, ret) : calls_get_test(tx,
		(struct calls_get_test){ .id = id }, ret);
}

enum fault call_shown(struct tx *tx, struct str id, struct rows *ret) { return shown(tx, id, &call_shape, ret); }

/* After waiting: 201 once the provider has it, 502 when it has definitely refused, else 202, which alone
 * names the job. `plain` is the meta without it. */
static enum fault answer(struct req *req, struct str id, struct buf plain, const struct shape *shape)
{
	struct rows row;
	struct tx tx;
	req_read(req, &tx);
	TRY(shown(&tx, id, shape, &row));
	bool placed = !pg_null(&row, 0, "ultravox_call_id");
	if (!placed && str_is(pg_col(req->arena, &row, 0, "status"), "failed")) {
		json_t *error;
		TRY(json_read(req->arena, pg_col(req->arena, &row, 0, "error"), &error));
		enum fault fault = fault_raise(FAULT_PROVIDER_ERROR, "%.*s", STRF(json_text(error, "message")));
		fault_detail("provider", STR("ultravox"));
		fault_detail("call_id", id);
		return fault;
	}
	if (placed)
		req->meta = plain;
	reply_row(req, placed ? 201 : 202, shape, &row, 0);
	return OK;
}

/* Accepts a call: `shape` is what the answer shows of it. */
static enum fault place(struct req *req, struct call_new *in, const struct shape *shape)
{
	struct rows p, row;
	TRY(req_need_client(req));
	TRY(req_begin(req));
	TRY(calls_prospect(&req->tx, (struct calls_prospect){ .agent_id = in->agent_id, .number = in->phone_number }, &p));
	TRY(judge(req, &p, in));

	int64_t price = pg_int(&p, 0, "price_per_minute"), available = pg_int(&p, 0, "available");
	int64_t minutes = (in->settings.max_duration_seconds + 59) / 60;
	if (price && available / price < minutes)
		minutes = available / price;
	if (minutes < 1) {
		enum fault fault = fault_raise(FAULT_PAYMENT_REQUIRED, "Not enough credits for one minute");
		fault_detail_int("required", price);
		fault_detail_int("available", available);
		return fault;
	}
	int64_t most_s = minutes * 60 < in->settings.max_duration_seconds ? minutes * 60 : in->settings.max_duration_seconds;
	struct str id = uuid_make(req->arena), hold = price ? uuid_make(req->arena) : STR_NULL;
	calls_insert_later(&req->tx, (struct calls_insert){ .id = id, .agent_id = in->agent_id, .external_ref = in->external_ref,
		.phone_number = in->phone_number, .from_number = in->from_number, .direction = in->direction,
		.medium = !in->phone_number.p ? STR("web") : str_is(in->direction, "inbound") ? STR("bridge") : STR("phone"),
			.context = in->context,
		.call_settings = settings_json(req->arena, &in->settings), .price = price, .hold_id = hold, .held = minutes * price,
		.max_seconds = most_s }, NULL);
	TRY(shown(&req->tx, id, shape, &row));

	reply_meta(req, "concurrency", str_format(req->arena, "{\"current\":%lld,\"max\":%lld}",
		(long long)pg_int(&p, 0, "current"), (long long)pg_int(&p, 0, "most")));
	struct job_order dial = { .kind = "call.dial", .resource_type = "call", .resource_id = id };
	struct str job = req->respond_async ? job_add(&req->tx, &dial) : job_add_here(&req->tx, &dial);
	struct buf plain = req->meta;
	reply_meta(req, "job_id", str_format(req->arena, "\"%.*s\"", STRF(job)));
	reply_row(req, 202, shape, &row, 0);
	calls_admit_later(&req->tx, (struct calls_admit){ .call_id = id, .hold_id = hold, .amount = minutes * price, .least = price,
		.quota = pg_int(&p, 0, "quota") }, NULL);
	event_emit(&req->tx, "call.created", "call", id, created_data(req->arena, id, in));
	http_reply_header(req->http, "Location", str_format(req->arena, API "/calls/%.*s", STRF(id)));
	TRY(req_commit(req, !req->respond_async));
	if (req->respond_async)
		return OK;

	job_run_here(job, &dial, &req->scope, config.provider_wait_ms, NULL, NULL);
	TRY(answer(req, id, plain, shape));
	req_finish(req);
	return OK;
}

static enum fault create(struct req *req) { return place(req, req->in, &call_shape); }

/* A call by browser, to hear an agent: held and charged like any other. */
static enum fault test_call(struct req *req)
{
	struct call_new *in = req->in;
	*in = (struct call_new){ .agent_id = req->ids[0], .direction = STR("inbound"), .context = in->context,
		.settings = { .recording_enabled = true, .transcription_enabled = true } };
	enum fault fault = place(req, in, &test_call_shape);
	return fault == FAULT_NOT_FOUND ? fault_raise(FAULT_NOT_FOUND, "No such agent") : fault;
}

static enum fault get(struct req *req)
{
	struct rows row;
	struct tx tx;
	req_read(req, &tx);
	TRY(calls_get(&tx, (struct calls_get){ .id = req->ids[0] }, &row));
	if (!row.count)
		return fault_raise(FAULT_NOT_FOUND, "No such call");
	reply_row(req, 200, &call_shape, &row, 0);
	return effect_refresh(req, NULL, "call", &row);
}

static bool uuid_list(struct str list)
{
	while (list.n)
		if (!uuid_valid(str_cut(&list, ',')))
			return false;
	return true;
}

static enum fault list(struct req *req)
{
	static const char *const filters[] = { "agent_id", "campaign_id", "status", "outcome", "direction", "phone_number",
		"external_ref", NULL };
	struct page page;
	struct rows rows;
	struct tx tx;
	TRY(req_page(req, filters, &page));
	struct str agents = req_query(req, "agent_id"), campaigns = req_query(req, "campaign_id");
	if (agents.p && !uuid_list(agents))
		return fault_field("agent_id", "must be a UUID or a comma list of them");
	if (campaigns.p && !uuid_list(campaigns))
		return fault_field("campaign_id", "must be a UUID or a comma list of them");
	req_read(req, &tx);
	TRY(calls_list(&tx, (struct calls_list){ .agent_id = agents, .campaign_id = campaigns,
		.status = req_enum_filter(req, "status", STATUSES),
		.outcome = req_enum_filter(req, "outcome", OUTCOMES), .direction = req_enum_filter(req, "direction", "outbound,inbound"),
		.phone_number = req_query(req, "phone_number"), .external_ref = req_query(req, "external_ref"),
		PAGE_OF(page) }, &rows));
	reply_list(req, &call_shape, &rows, page.limit, page.filters);
	return effect_refresh(req, NULL, "call", &rows);
}

/* A stored artifact, or 404 with the reason why there is none. */
static enum fault artifact(struct req *req, const char *kind, struct rows *ret)
{
	struct tx tx;
	req_read(req, &tx);
	TRY(calls_artifact(&tx, (struct calls_artifact){ .kind = str_of(kind), .id = req->ids[0] }, ret));
	if (!ret->count)
		return fault_raise(FAULT_NOT_FOUND, "No such call");
	struct str status = pg_col(req->arena, ret, 0, "status");
	if (str_is(status, "ready"))
		return OK;
	const char *reason = pg_null(ret, 0, "ended_at") ? "not_ended"
		: !status.p || str_is(status, "failed") ? "none" : str_copy(req->arena, status).p;
	enum fault fault = fault_raise(FAULT_NOT_FOUND, "There is no %s: %s", kind, reason);
	fault_detail("reason", str_of(reason));
	return fault;
}

static enum fault transcript(struct req *req)
{
	struct rows a;
	TRY(artifact(req, "transcript", &a));
	struct buf b = BUF_IN(req->arena, (size_t)8 << 20);
	struct str items = pg_col(req->arena, &a, 0, "items");
	buf_format(&b, "{\"call_id\":\"%.*s\",\"transcript\":%.*s,\"summary\":", STRF(req->ids[0]), STRF(items));
	buf_json(&b, pg_col(req->arena, &a, 0, "summary"));
	buf_char(&b, '}');
	reply_json(req, 200, buf_view(&b));
	return OK;
}

static enum fault recording(struct req *req)
{
	struct rows a;
	char until[CLOCK_TEXT_BYTES];
	TRY(artifact(req, "recording", &a));
	struct str url = objects_presign(req->arena, "GET", pg_col(req->arena, &a, 0, "object_key"), RECORDING_URL_S);
	struct str duration = pg_col(req->arena, &a, 0, "duration_seconds"), format = pg_col(req->arena, &a, 0, "format");
	struct buf b = BUF_IN(req->arena, 16384);
	buf_format(&b, "{\"call_id\":\"%.*s\",\"recording_url\":", STRF(req->ids[0]));
	buf_json(&b, url);
	buf_format(&b, ",\"format\":\"%.*s\",\"duration_seconds\":%.*s,\"size_bytes\":%lld,\"expires_at\":\"%s\"}", STRF(format),
		STRF(duration.p ? duration : STR("null")), (long long)pg_int(&a, 0, "bytes"),
		clock_text(clock_now_us() + RECORDING_URL_S * US_PER_S, until));
	reply_json(req, 200, buf_view(&b));
	return OK;
}

const struct route calls_routes[] = {
	{ "POST", API "/calls", ROLE_R, "calls:write", create, &new_shape, sizeof(struct call_new), &call_shape, 201,
		.flags = ROUTE_ASYNC, .summary = "Place a call" },
	{ "POST", API "/agents/{id}/test-call", ROLE_R, "calls:write", test_call, &test_call_in_shape, sizeof(struct call_new),
		&test_call_shape, 201,
		.flags = ROUTE_ASYNC, .summary = "Talk to an agent in the browser" },
	{ "GET", API "/calls", ROLE_R, "calls:read", list, .out = &call_shape, .status = 200, .flags = ROUTE_LIST,
		.query = "agent_id,campaign_id,status,outcome,direction,phone_number,external_ref,refresh,created_after,created_before",
		.summary = "List calls, newest first" },
	{ "GET", API "/calls/{id}", ROLE_R, "calls:read", get, .out = &call_shape, .status = 200, .query = "refresh",
		.summary = "Read a call; refresh=true has the provider asked by a job" },
	{ "GET", API "/calls/{id}/transcript", ROLE_R, "calls:read", transcript, .out = &transcript_shape, .status = 200,
		.summary = "Read what was said" },
	{ "GET", API "/calls/{id}/recording", ROLE_R, "calls:read", recording, .out = &recording_shape, .status = 200,
		.summary = "Get a link to the recording" },
	{ 0 },
};
