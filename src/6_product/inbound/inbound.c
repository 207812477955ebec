/* Provider events. No token: the signature is the credential. The answer never waits for processing,
 * and an event that was answered 2xx is stored. */
#include "inbound.h"
#include "inbound.sql.h"
#include "../billing/billing.h"
#include "../calls/calls.h"
#include "../telephony/telephony.h"
#include "../../0_base/clock.h"
#include "../../1_code/b64.h"
#include "../../1_code/sign.h"
#include "../../1_code/url.h"
#include "../../1_code/uuid.h"
#include "../../2_io/fetch.h"
#include "../../2_io/shared.h"
#include "../../3_core/config.h"
#include "../../3_core/limit.h"
#include "../../3_core/vault.h"
#include "../../4_out/voice_provider.h"

#define BODY_BYTES ((size_t)1 << 20)

#define STATUSES "received,processed,ignored,failed,unresolved"

struct incoming {
	const char *provider;
	struct str dedupe_key, type, headers, body;
};

/* Secrets are read once and again after a failed check: another process may have made them. */
static struct str remembered(struct arena *arena, const char *name, struct str *memory, bool again)
{
	struct str fresh;
	static struct arena *keep;
	keep = keep ? keep : arena_make();
	if ((!memory->n || again) && vault_get(arena, name, &fresh) == OK && !str_eq(fresh, *memory))
		*memory = str_copy(keep, fresh);
	return *memory;
}

static enum fault refuse(const char *reason)
{
	metric_add(METRIC_inbound_refused, 1);
	enum fault fault = fault_raise(FAULT_UNAUTHORIZED, "The signature does not verify");
	fault_detail("reason", str_of(reason));
	return fault;
}

static enum fault not_configured(void)
{
	enum fault fault = fault_raise(FAULT_UNAVAILABLE, "No secret is configured for this provider");
	fault_detail("reason", STR("not_configured"));
	return fault;
}

static bool fresh(int64_t at_us)
{
	int64_t away = clock_now_us() - at_us;
	return (away < 0 ? -away : away) <= config.signature_tolerance_s * US_PER_S;
}

/* Hex HMAC-SHA256 over body then timestamp; any signature of the header, any secret of the list. */
static bool ultravox_signed(struct arena *arena, struct str secrets, struct str stamp, struct str header, struct str body)
{
	struct buf message = BUF_IN(arena, body.n + stamp.n + 1);
	bool good = false;
	buf_str(&message, body);
	buf_str(&message, stamp);
	while (secrets.n) {
		struct str secret = str_trim(str_cut(&secrets, ',')), rest = header, raw;
		if (!secret.n)
			continue;
		struct str want = sign_hmac(arena, secret, buf_view(&message));
		while (rest.n)
			if (hex_read(arena, str_trim(str_cut(&rest, ',')), &raw) && raw.n == SHA256_BYTES)
				good |= sign_same(raw, want);
	}
	return good;
}

static enum fault ultravox_verify(struct req *req, struct incoming *in)
{
	static struct str made;
	struct str stamp = http_header(req->http, "x-ultravox-webhook-timestamp");
	struct str header = http_header(req->http, "x-ultravox-webhook-signature"), text = stamp;
	int64_t at_us;
	json_t *body;
	struct str secrets = config.ultravox_webhook_secret.n ? config.ultravox_webhook_secret
		: remembered(req->arena, ULTRAVOX_SECRET, &made, false);
	if (!secrets.n)
		return not_configured();
	if (!stamp.n || !header.n)
		return refuse("missing");
	if (!clock_parse(text, &at_us) && !clock_parse(str_format(req->arena, "%.*sZ", STRF(stamp)), &at_us))
		return refuse("timestamp");
	if (!ultravox_signed(req->arena, secrets, stamp, header, in->body))
		return refuse("signature");
	if (!fresh(at_us))
		return refuse("stale");
	TRY(json_read(req->arena, in->body, &body));
	in->type = json_text(body, "event");
	struct str call = json_text(body, "call.callId");
	if (!in->type.n || in->type.n > 100)
		return fault_raise(FAULT_BAD_REQUEST, "The event has no type");
	in->dedupe_key = str_format(req->arena, "%.*s:%.*s", STRF(in->type), STRF(call));
	return OK;
}

static enum fault telnyx_verify(struct req *req, struct incoming *in)
{
	static struct str made;
	struct str stamp = http_header(req->http, "telnyx-timestamp"), signature, key;
	struct str header = http_header(req->http, "telnyx-signature-ed25519");
	int64_t at_s;
	json_t *body;
	struct str public_key = config.telnyx_public_key.n ? config.telnyx_public_key
		: remembered(req->arena, TELNYX_KEY, &made, false);
	if (!public_key.n)
		return not_configured();
	if (!stamp.n || !header.n)
		return refuse("missing");
	struct str message = str_format(req->arena, "%.*s|%.*s", STRF(stamp), STRF(in->body));
	if (!str_int(stamp, &at_s))
		return refuse("timestamp");
	if (!b64_read(req->arena, public_key, &key) || !b64_read(req->arena, header, &signature) ||
	    !sign_ed25519_check(key, message, signature))
		return refuse("signature");
	if (!fresh(at_s * US_PER_S))
		return refuse("stale");
	if (config.telnyx_hmac_secret.n) {
		struct str given, dotted = str_format(req->arena, "%.*s.%.*s", STRF(stamp), STRF(in->body));
		struct str want = sign_hmac(req->arena, config.telnyx_hmac_secret, dotted);
		if (!hex_read(req->arena, http_header(req->http, "x-telnyx-signature"), &given) || !sign_same(given, want))
			return refuse("hmac");
	}
	if (in->body.n && in->body.p[0] != '{') {	/* a TeXML status callback is a form */
		struct str sid = url_query(req->arena, in->body, "CallSid"), n = url_query(req->arena, in->body, "SequenceNumber");
		struct str status = url_query(req->arena, in->body, "CallStatus");
		if (!sid.n || !status.n)
			return fault_raise(FAULT_BAD_REQUEST, "The status callback names no call");
		in->type = str_format(req->arena, "texml.%.*s", STRF(status));
		in->dedupe_key = str_format(req->arena, "%.*s:%.*s:%.*s", STRF(sid), STRF(n), STRF(status));
		return OK;
	}
	TRY(json_read(req->arena, in->body, &body));
	in->type = json_text(body, "data.event_type");
	in->dedupe_key = json_text(body, "data.id");
	if (!in->type.n || !in->dedupe_key.n)
		return fault_raise(FAULT_BAD_REQUEST, "The event has no type or id");
	return OK;
}

/* Stripe-Signature: t=…,v1=…[,v1=…]: HMAC-SHA256 of "t.body" by the whole secret string (docs.stripe.com/webhooks/signature). v0 never. */
static enum fault stripe_verify(struct req *req, struct incoming *in)
{
	static struct str made;
	struct str header = http_header(req->http, "stripe-signature"), rest = header, stamp = STR_NULL, raw;
	int64_t at_s;
	json_t *body;
	bool good = false;
	struct str secrets = config.stripe_webhook_secret.n ? config.stripe_webhook_secret : remembered(req->arena, STRIPE_SECRET,
		&made, false);
	if (!secrets.n)
		return not_configured();
	if (!header.n)
		return refuse("missing");
	while (rest.n) {
		struct str value = str_cut(&rest, ','), name = str_trim(str_cut(&value, '='));
		if (str_is(name, "t"))
			stamp = value;
	}
	if (!str_int(stamp, &at_s))
		return refuse("timestamp");
	struct str message = str_format(req->arena, "%.*s.%.*s", STRF(stamp), STRF(in->body));
	while (secrets.n) {
		struct str secret = str_trim(str_cut(&secrets, ',')), want = sign_hmac(req->arena, secret, message);
		for (rest = header; secret.n && rest.n;) {
			struct str value = str_cut(&rest, ','), name = str_trim(str_cut(&value, '='));
			if (str_is(name, "v1") && hex_read(req->arena, value, &raw) && raw.n == SHA256_BYTES)
				good |= sign_same(raw, want);
		}
	}
	if (!good)
		return refuse("signature");
	if (!fresh(at_s * US_PER_S))
		return refuse("stale");
	TRY(json_read(req->arena, in->body, &body));
	in->type = json_text(body, "type");
	in->dedupe_key = json_text(body, "id");
	if (!in->type.n || in->type.n > 100 || !in->dedupe_key.n)
		return fault_raise(FAULT_BAD_REQUEST, "The event has no type or id");
	return OK;
}

static enum fault receive(struct req *req, const char *provider, enum fault (*verify)(struct req *, struct incoming *), int status)
{
	struct incoming in = { .provider = provider };
	struct rows row;
	struct tx tx;
	TRY(http_read_body(req->http, BODY_BYTES, &in.body));
	enum fault fault = verify(req, &in);
	if (fault == FAULT_UNAUTHORIZED) {	/* a failed signature charges the address */
		struct fault_note keep = *fault_note;
		struct limit_answer a = limit_take(str_format(req->arena, "ip:%.*s", STRF(req->http->peer)), 20, 60, true);
		*fault_note = keep;
		if (!a.allowed) {
			fault = fault_raise(FAULT_RATE_LIMIT_EXCEEDED, "Too many failed signatures");
			fault_note->retry_after_s = (int)(a.wait_us / US_PER_S) + 1;
		}
	}
	TRY(fault);
	if (!str_utf8(in.body) || memchr(in.body.p, 0, in.body.n) || in.dedupe_key.n > 500)
		return fault_raise(FAULT_BAD_REQUEST, "The body is not text");
	struct buf headers = BUF_IN(req->arena, 8192);
	buf_text(&headers, "{\"query\":");
	buf_json(&headers, req->http->query);
	buf_char(&headers, '}');
	TRY(system_begin(&tx, req->arena));
	inbound_store_later(&tx, (struct inbound_store){ .id = uuid_make(req->arena), .job_id = uuid_make(req->arena),
		.provider = str_of(provider), .dedupe_key = in.dedupe_key, .type = in.type, .headers = buf_view(&headers),
		.body = in.body }, &row);
	tx.wakes_jobs = true;
	TRY(tx_commit(&tx));
	metric_add(METRIC_inbound_events, 1);
	req->status = 0;
	http_reply(req->http, status, NULL, STR(""));
	return OK;
}

static enum fault ultravox(struct req *req) { return receive(req, "ultravox", ultravox_verify, 204); }
static enum fault stripe(struct req *req) { return receive(req, "stripe", stripe_verify, 200); }
static enum fault telnyx(struct req *req) { return receive(req, "telnyx", telnyx_verify, 200); }

/* A call that we did not create: ours if the agent is. */
static enum fault ring_in(struct job *job, const json_t *call, struct scope *scope, struct str *ret_id)
{
	struct rows owner;
	struct tx tx;
	struct str agent = json_text(call, "agent.agentId").n ? json_text(call, "agent.agentId") : json_text(call, "agentId");
	struct call_ring ring = { .provider_id = json_text(call, "callId"), .created_us = clock_now_us() };
	if (!agent.n || !ring.provider_id.n)
		return fault_raise(FAULT_NOT_FOUND, "Not one of our calls");
	system_read(&tx, job->arena);
	TRY(inbound_agent(&tx, (struct inbound_agent){ .provider_id = agent }, &owner));
	if (!owner.count)
		return fault_raise(FAULT_NOT_FOUND, "Not one of our agents");
	*scope = (struct scope){ .agency_id = pg_col(job->arena, &owner, 0, "agency_id"), .client_id = pg_col(job->arena, &owner, 0,
		"client_id") };
	ring.agent_id = pg_col(job->arena, &owner, 0, "agent_id");
	if (!phone_read(job->arena, json_text(call, "requestContext.From"), &ring.from))
		ring.from = STR_NULL;
	if (!phone_read(job->arena, json_text(call, "requestContext.To"), &ring.to))
		ring.to = STR_NULL;
	clock_parse(json_text(call, "created"), &ring.created_us);
	return call_ring_in(job->arena, scope, &ring, ret_id);
}

/* One transaction at the call's own door. */
static enum fault apply_ultravox(struct job *job, const json_t *body, struct scope *scope)
{
	struct call_news news;
	struct tx tx;
	struct str id;
	call_news_read(job->arena, json_object_get(body, "call"), &news);
	enum fault fault = call_owner_find(job->arena, news.call_id, news.provider_id, STR_NULL, scope, &id);
	if (fault == FAULT_NOT_FOUND && !news.call_id.n)
		fault = ring_in(job, json_object_get(body, "call"), scope, &id);
	TRY(fault);
	news.call_id = id;
	news.source = "webhook";
	if (!str_is(json_text(body, "event"), "call.billed") && !str_is(json_text(body, "event"), "call.ended"))
		news.ended_us = 0;
	TRY(tenant_begin(&tx, job->arena, scope));
	TRY(call_hear(&tx, &news));
	return tx_commit(&tx);
}

static enum fault apply_telnyx(struct job *job, struct str query, struct str body, struct scope *scope)
{
	struct arena *a = job->arena;
	struct str id, sid, status, cause;
	struct tx tx;
	if (body.p[0] == '{') {
		json_t *object;
		TRY(json_read(a, body, &object));
		struct str type = json_text(object, "data.event_type");
		if (str_is(type, "number_order.complete"))
			return number_heard(a, json_text(object, "data.payload.customer_reference"), scope);
		sid = json_text(object, "data.payload.call_control_id");
		cause = json_text(object, "data.payload.hangup_cause");
		status = str_is(type, "call.hangup") ? str_is(cause, "user_busy") ? STR("busy") : str_is(cause, "no_answer") ||
			str_is(cause, "timeout") ? STR("no-answer") : str_is(cause, "normal_clearing") ? STR("completed") : STR("failed")
			: str_is(type, "call.answered") ? STR("in-progress") : STR("initiated");
	} else {
		sid = url_query(a, body, "CallSid");
		status = url_query(a, body, "CallStatus");
		cause = url_query(a, body, "HangupCause");
	}
	TRY(call_owner_find(a, url_query(a, query, "call_id"), STR_NULL, sid, scope, &id));
	TRY(tenant_begin(&tx, a, scope));
	TRY(call_carrier(&tx, id, sid, status, cause));
	return tx_commit(&tx);
}

static enum fault process(struct job *job)
{
	struct arena *a = job->arena;
	struct scope scope = { 0 };
	const char *status = "processed";
	struct str why = STR_NULL;
	struct rows row;
	struct tx tx;
	json_t *headers, *body;
	system_read(&tx, a);
	TRY(inbound_load(&tx, (struct inbound_load){ .id = job->resource_id }, &row));
	if (!row.count || str_is(pg_col(a, &row, 0, "status"), "processed"))
		return OK;
	struct str text = pg_col(a, &row, 0, "body");
	TRY(json_read(a, pg_col(a, &row, 0, "headers"), &headers));
	enum fault fault;
	if (str_is(pg_col(a, &row, 0, "provider"), "ultravox")) {
		TRY(json_read(a, text, &body));
		fault = apply_ultravox(job, body, &scope);
	} else if (str_is(pg_col(a, &row, 0, "provider"), "stripe")) {
		TRY(json_read(a, text, &body));
		fault = till_hear(job, job->resource_id, body, &scope, &status, &why);
	} else {
		fault = apply_telnyx(job, json_text(headers, "query"), text, &scope);
	}
	if (fault != OK && fault != FAULT_NOT_FOUND)
		return fault;
	TRY(system_begin(&tx, a));
	inbound_mark_later(&tx, (struct inbound_mark){ .id = job->resource_id, .agency_id = scope.agency_id,
		.client_id = scope.client_id, .status = str_of(fault == OK ? status : "ignored"),
		.error = fault == OK ? why : STR("not one of our calls") }, NULL);
	job_done(job, &tx);
	return tx_commit(&tx);
}

/* The sandbox's carrier signs with a key of its own; a configured one wins over it. */
static enum fault learn_sandbox_keys(struct arena *arena)
{
	json_t *answer;
	struct buf b = BUF_IN(arena, 4096);
	buf_text(&b, "{\"stripe\":");
	buf_json(&b, str_format(arena, "%.*s" API "/webhooks/stripe", STRF(config.public_url)));
	buf_text(&b, ",\"telnyx\":");
	buf_json(&b, str_format(arena, "%.*s" API "/webhooks/telnyx", STRF(config.public_url)));
	buf_char(&b, '}');
	struct fetch f = { .method = "POST", .body = buf_view(&b), .timeout_ms = 10000, .most_bytes = 65536,
		.url = str_format(arena, "%.*s/_sandbox/destinations", STRF(config.sandbox)) };
	TRY(fetch_run(arena, &f));
	TRY(json_read(arena, f.answer, &answer));
	TRY(vault_put(arena, STRIPE_SECRET, json_text(answer, "stripe.secret")));
	return vault_put(arena, TELNYX_KEY, json_text(answer, "telnyx.public_key"));
}

/* Our webhook at an account: registered with a secret of our own making, its URL repaired. */
static enum fault register_at(struct job *job, const struct voice_account *account)
{
	char random[32];
	struct str secret = config.ultravox_webhook_secret;
	if (!secret.n) {
		random_bytes(random, sizeof random);
		TRY(vault_once(job->arena, ULTRAVOX_SECRET, hex_write(job->arena, (struct str){ random, sizeof random }), &secret));
	}
	secret = str_trim(str_cut(&secret, ','));
	return voice_webhook(job->arena, account, str_format(job->arena, "%.*s" API "/webhooks/ultravox", STRF(config.public_url)), secret);
}

static const char *const modes[] = { "live", "test" };

/* At every account of the platform's that we use. */
static enum fault register_webhook(struct job *job)
{
	struct voice_account account;
	if (str_starts(config.sandbox, "http"))
		TRY(learn_sandbox_keys(job->arena));
	for (int i = 0; i < 2; i++)
		if (voice_account_for(str_of(modes[i]), &account) == OK)
			TRY(register_at(job, &account));
	return OK;
}

/* At the account of a credential that a tenant has just entrusted to us. */
static enum fault register_credential(struct job *job)
{
	struct voice_account account;
	for (int i = 0; i < 2; i++)
		if (voice_account_open(job->arena, &job->scope, str_of(modes[i]), job->resource_id, &account) == OK)
			TRY(register_at(job, &account));
	return OK;
}

static const struct shape_field event_fields[] = {
	{ "id", SHAPE_UUID },
	{ "client_id", SHAPE_UUID, SHAPE_MAYBE },
	{ "provider", SHAPE_ENUM, .values = "ultravox,telnyx,stripe" },
	{ "type", SHAPE_TEXT },
	{ "status", SHAPE_ENUM, .values = STATUSES },
	{ "attempts", SHAPE_INT },
	{ "error", SHAPE_TEXT, SHAPE_MAYBE },
	{ "created_at", SHAPE_TIME },
	{ "updated_at", SHAPE_TIME },
};
static const struct shape event_shape = SHAPE("inbound_event", event_fields);

static enum fault list(struct req *req)
{
	static const char *const filters[] = { "provider", "status", "type", NULL };
	struct page page;
	struct rows rows;
	struct tx tx;
	TRY(req_page(req, filters, &page));
	req_read(req, &tx);
	TRY(inbound_list(&tx, (struct inbound_list){ .provider = req_enum_filter(req, "provider", "ultravox,telnyx,stripe"),
		.status = req_enum_filter(req, "status", STATUSES), .type = req_query(req, "type"), PAGE_OF(page) }, &rows));
	reply_list(req, &event_shape, &rows, page.limit, page.filters);
	return OK;
}

/* After a fix: the stored event is processed once more. Effects are such that a second time changes nothing that the first one did. */
static enum fault reprocess(struct req *req)
{
	struct rows again;
	TRY(req_begin(req));
	TRY(inbound_again(&req->tx, (struct inbound_again){ .id = req->ids[0] }, &again));
	if (!again.count)
		return fault_raise(FAULT_NOT_FOUND, "No such event, or it is being processed");
	req->tx.wakes_jobs = true;
	reply_json(req, 202, str_format(req->arena, "{\"id\":\"%.*s\",\"status\":\"received\"}", STRF(req->ids[0])));
	return req_commit(req, false);
}

const struct route inbound_routes[] = {
	{ "GET", API "/inbound-events", AGENCY_ADMIN, "events:read", list, .out = &event_shape, .status = 200, .flags = ROUTE_LIST,
		.query = "provider,status,type,created_after,created_before", .summary = "Events of providers about your clients, newest first" },
	{ "POST", API "/inbound-events/{id}/reprocess", AGENCY_ADMIN, "events:write", reprocess, .status = 202, .flags = ROUTE_AGENCY,
		.summary = "Process a provider event once more" },
	{ "POST", API "/webhooks/ultravox", .handle = ultravox, .status = 204, .flags = ROUTE_OPEN | ROUTE_RAW | ROUTE_FREE,
		.summary = "Events of the voice provider, signed" },
	{ "POST", API "/webhooks/stripe", .handle = stripe, .status = 200, .flags = ROUTE_OPEN | ROUTE_RAW | ROUTE_FREE,
		.summary = "Events of the till, signed" },
	{ "POST", API "/webhooks/telnyx", .handle = telnyx, .status = 200, .flags = ROUTE_OPEN | ROUTE_RAW | ROUTE_FREE,
		.summary = "Events of the carrier, signed" },
	{ 0 },
};

const struct job_kind inbound_jobs[] = {
	{ "inbound.process", "q-artifacts-sync", process, 1000 },
	{ "provider.register", "q-artifacts-sync", register_webhook, 1000 },
	{ "credential.register", "q-artifacts-sync", register_credential, 20 },
	{ 0 },
};
