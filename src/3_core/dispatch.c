/* From a parsed head to an answer, in the order the contract gives: sizes, request id, route, media
 * types, credential, rate, tenant, role, idempotency key, body, handler. */
#include "auth.h"
#include "config.h"
#include "limit.h"
#include "route.h"
#include "../0_base/clock.h"
#include "../0_base/die.h"
#include "../0_base/log.h"
#include "../1_code/b64.h"
#include "../1_code/cidr.h"
#include "../1_code/sign.h"
#include "../1_code/uuid.h"
#include "../2_io/shared.h"
#include <stdio.h>

#define URL_BYTES 8192
#define HEAD_BYTES 16384
#define BODY_BYTES ((size_t)1 << 20)
#define RERUNS 4

static const struct route *const *route_lists;
static bool draining;

static void learn_limits(const struct tx *tx);

/* Every route says who may use it: nothing, for all; or roles and a scope. */
static void check_routes(void)
{
	for (const struct route *const *list = route_lists; *list; list++)
		for (const struct route *r = *list; r->method; r++) {
			bool scoped = r->roles && r->scope && strchr(r->scope, ':');
			if (r->flags & ROUTE_OPEN ? r->roles || r->scope : !scoped || r->flags & ROUTE_RAW)
				die("route without a scope: %s %s", r->method, r->path);
		}
}

void dispatch_open(const struct route *const *lists)
{
	route_lists = lists;
	check_routes();
	tenant_on_enter(learn_limits);
}

const struct route *const *dispatch_routes(void) { return route_lists; }
void dispatch_drain(void) { draining = true; }
bool dispatch_draining(void) { return draining; }

/* {id} and {..._id} take one UUID segment; {rest} takes all that is left. */
static bool path_matches(const char *pattern, struct str path, struct str ids[2], bool *ret_bad_id)
{
	struct str p = str_of(pattern);
	int n = 0;
	*ret_bad_id = false;
	while (p.n || path.n) {
		struct str want = str_cut(&p, '/');
		if (str_is(want, "{rest}")) {
			ids[n] = path;
			return path.n > 0;
		}
		struct str got = str_cut(&path, '/');
		if (want.n && want.p[0] == '{') {
			if (!got.n || n == 2)
				return false;
			*ret_bad_id |= str_ends(want, "id}") && !uuid_valid(got);
			ids[n++] = got;
		} else if (!str_eq(want, got)) {
			return false;
		}
	}
	return true;
}

/* A path of plain words goes before one with {id}: "templates" is no malformed id. */
static enum fault find_route(struct req *req)
{
	struct str path = req->http->path;
	char allowed[128] = "";
	bool bad_id = false;
	while (path.n > 1 && path.p[path.n - 1] == '/')
		path.n--;
	for (const struct route *const *list = route_lists; *list; list++)
		for (const struct route *r = *list; r->method; r++) {
			struct str ids[2] = { STR_NULL, STR_NULL };
			bool bad;
			if ((r->flags & ROUTE_TEST && !config.test_clock) || !path_matches(r->path, path, ids, &bad))
				continue;
			bad_id |= bad;
			if (bad)
				continue;
			bool head = str_is(req->http->method, "HEAD") && strcmp(r->method, "GET") == 0;
			if (str_is(req->http->method, r->method) || head) {
				req->route = r;
				for (int i = 0; i < 2; i++)
					req->ids[i] = ids[i].p && !(r->flags & ROUTE_RAW) ? str_lower(req->arena, ids[i]) : ids[i];
				if (!head)
					return OK;
			}
			if (!strstr(allowed, r->method))
				snprintf(allowed + strlen(allowed), sizeof allowed - strlen(allowed), "%s%s",
					*allowed ? ", " : "", r->method);
		}
	if (req->route)
		return OK;
	if (!*allowed)
		return fault_raise(FAULT_NOT_FOUND, bad_id ? "No such row" : "No such route; /openapi.json lists them");
	http_reply_header(req->http, "Allow", str_of(allowed));
	enum fault fault = fault_raise(FAULT_METHOD_NOT_ALLOWED, "This path answers %s", allowed);
	fault_detail("allowed", str_of(allowed));
	return fault;
}

static enum fault check_sizes(struct req *req)
{
	if (req->http->target.n > URL_BYTES)
		return fault_raise(FAULT_PAYLOAD_TOO_LARGE, "The URL is longer than %d bytes", URL_BYTES);
	if (req->http->head_bytes > HEAD_BYTES)
		return fault_raise(FAULT_PAYLOAD_TOO_LARGE, "The headers are larger than %d bytes", HEAD_BYTES);
	return OK;
}

static void take_request_id(struct req *req)
{
	struct str given = http_header(req->http, "x-request-id");
	bool good = given.n >= 8 && given.n <= 128;
	for (size_t i = 0; good && i < given.n; i++)
		good = (given.p[i] >= 'a' && given.p[i] <= 'z') || (given.p[i] >= 'A' && given.p[i] <= 'Z') ||
			(given.p[i] >= '0' && given.p[i] <= '9') || strchr("._-", given.p[i]);
	req->request_id = good ? given : uuid_make(req->arena);
	struct str parent = http_header(req->http, "traceparent"), version = str_cut(&parent, '-');
	struct str trace = str_cut(&parent, '-'), raw;
	char bytes[16];
	random_bytes(bytes, sizeof bytes);
	bool continued = version.n == 2 && trace.n == 32 && hex_read(req->arena, trace, &raw);
	req->trace_id = continued ? str_lower(req->arena, trace) : hex_write(req->arena, (struct str){ bytes, sizeof bytes });
}

/* Behind trusted proxies the peer is the last address they were told that is none of theirs. */
static void take_peer(struct req *req)
{
	struct str list = http_header(req->http, "x-forwarded-for");
	while (config.trusted_proxies.n && list.n && cidr_listed(config.trusted_proxies, req->http->peer)) {
		size_t n = list.n;
		while (n && list.p[n - 1] != ',')
			n--;
		struct str last = str_trim(str_from(list, n));
		if (!cidr_valid(last) || memchr(last.p, '/', last.n))
			return;
		req->http->peer = last;
		list = (struct str){ list.p, n ? n - 1 : 0 };
	}
}

static bool origin_allowed(struct str origin)
{
	struct str rest = config.cors_origins;
	while (origin.n && rest.n) {
		struct str one = str_trim(str_cut(&rest, ','));
		if (str_is(one, "*") || str_eq(one, origin))
			return true;
	}
	return false;
}

/* Cross-origin pages (Fetch standard, CORS protocol): an allow-list, no credentials mode. True when it was a preflight. */
static bool take_origin(struct req *req)
{
	struct http_request *h = req->http;
	struct str origin = http_header(h, "origin");
	bool preflight = str_is(h->method, "OPTIONS") && http_header(h, "access-control-request-method").p;
	if (config.cors_origins.n)
		http_reply_header(h, "Vary", STR("Origin"));
	if (origin_allowed(origin)) {
		http_reply_header(h, "Access-Control-Allow-Origin", str_is(config.cors_origins, "*") ? STR("*") : origin);
		if (!preflight)
			http_reply_header(h, "Access-Control-Expose-Headers", STR("X-Request-Id, X-Trace-Id, Idempotency-Replayed, RateLimit-Policy, "
				"RateLimit, Retry-After, Location, Allow, Preference-Applied, Deprecation, Sunset"));
		else {
			http_reply_header(h, "Access-Control-Allow-Methods", STR("GET, POST, PUT, PATCH, DELETE, OPTIONS"));
			http_reply_header(h, "Access-Control-Allow-Headers", STR("authorization, content-type, x-client-id, last-event-id, prefer, "
				"x-request-id, traceparent, x-idempotency-key, idempotency-key"));
			http_reply_header(h, "Access-Control-Max-Age", STR("600"));
		}
	}
	if (preflight)
		http_reply(h, 204, NULL, STR(""));
	return preflight;
}

/* Is one of the route's own media types within the range? */
static bool offers(const struct route *route, struct str range)
{
	struct str rest = str_of(route->media);
	bool all = str_ends(range, "/*");
	while (rest.n) {
		struct str one = str_cut(&rest, ',');
		if (str_eq(one, range) || (all && one.n >= range.n - 1 && memcmp(one.p, range.p, range.n - 1) == 0))
			return true;
	}
	return false;
}

static enum fault check_media(struct req *req)
{
	struct str accept = http_header(req->http, "accept"), type = http_header(req->http, "content-type");
	bool admits = !accept.n;
	while (accept.n) {
		struct str one = str_cut(&accept, ',');
		struct str range = str_trim(str_cut(&one, ';'));
		admits |= str_is(range, "*/*") || str_is(range, "application/*") || str_is(range, "application/json") || offers(req->route, range);
	}
	if (!admits)
		return fault_raise(FAULT_NOT_ACCEPTABLE, "This route answers %s", req->route->media ? req->route->media : "application/json");
	struct str media = str_trim(str_cut(&type, ';'));
	if (req->http->body_bytes != 0 && !str_is(str_lower(req->arena, media), "application/json")) {
		enum fault fault = fault_raise(FAULT_UNSUPPORTED_MEDIA_TYPE, "Send the body as application/json");
		fault_detail("expected", STR("application/json"));
		return fault;
	}
	return OK;
}

static enum fault rate_fault(struct req *req, const char *policy, int64_t limit, struct limit_answer a)
{
	char at[CLOCK_TEXT_BYTES];
	int retry = (int)((a.wait_us + US_PER_S - 1) / US_PER_S);
	metric_add(METRIC_rate_limited, 1);
	enum fault fault = fault_raise(FAULT_RATE_LIMIT_EXCEEDED, "Too many requests; wait %d s", retry);
	fault_detail("policy", str_of(policy));
	fault_detail_int("limit", limit);
	fault_detail_int("remaining", a.remaining < 0 ? 0 : a.remaining);
	fault_detail("reset_at", str_copy(req->arena, str_of(clock_text(clock_now_us() + a.wait_us, at))));
	fault_detail_int("retry_after", retry);
	fault_note->retry_after_s = retry;
	return fault;
}

static struct limit_answer take_address(struct req *req)
{
	if (config.address_requests_per_second < 1)
		return (struct limit_answer){ .allowed = true };
	return limit_take(str_format(req->arena, "ip:%.*s", STRF(req->http->peer)), config.address_requests_per_second,
		3 * config.address_requests_per_second, true);
}

/* Failed credentials charge the address; while it has something left they are 401. */
static enum fault charge_address(struct req *req, enum fault reason)
{
	if (reason != FAULT_UNAUTHORIZED && reason != FAULT_FORBIDDEN)
		return reason;	/* our trouble or the issuer's, not the caller's */
	struct fault_note keep = *fault_note;
	struct limit_answer a = take_address(req);
	if (!a.allowed)
		return rate_fault(req, "address", config.address_requests_per_second, a);
	*fault_note = keep;
	return reason;
}

#define KEY_RATE 200

static int64_t seconds(int64_t us) { return (us + US_PER_S - 1) / US_PER_S; }

/* A request is charged to its client (or agency) and, when it came by one, to its platform key. */
static enum fault charge_client(struct req *req)
{
	struct str who = req->scope.client_id.p ? req->scope.client_id : req->scope.agency_id;
	struct limit_known limits = limit_of(who);
	struct limit_answer a = limit_spend(str_format(req->arena, "client:%.*s", STRF(who)), limits.rate, limits.burst);
	struct limit_answer k = { .allowed = true };
	struct buf policy = BUF_IN(req->arena, 256), state = BUF_IN(req->arena, 256);
	buf_format(&policy, "\"client\";q=%lld;w=1", (long long)limits.rate);
	buf_format(&state, "\"client\";r=%lld;t=%lld", (long long)(a.remaining < 0 ? 0 : a.remaining), (long long)seconds(a.full_us));
	if (req->who.key_id.p && a.allowed) {
		int64_t rate = limits.rate < KEY_RATE ? limits.rate : KEY_RATE;
		k = limit_spend(str_format(req->arena, "key:%.*s", STRF(req->who.key_id)), rate, 2 * rate);
		buf_format(&policy, ", \"key\";q=%lld;w=1", (long long)rate);
		buf_format(&state, ", \"key\";r=%lld;t=%lld", (long long)(k.remaining < 0 ? 0 : k.remaining), (long long)seconds(k.full_us));
	}
	if (req->scope.client_id.p)
		buf_format(&policy, ", \"calls-day\";q=%lld;w=86400", (long long)limits.calls_per_day);
	req->rate_policy = buf_view(&policy);
	req->rate_state = buf_view(&state);
	if (!a.allowed)
		return rate_fault(req, "client", limits.rate, a);
	return k.allowed ? OK : rate_fault(req, "key", KEY_RATE, k);
}

/* The door tells the client's limits with its first answer; the next request uses them. */
static void learn_limits(const struct tx *tx)
{
	if (tx->scope.request_id.p)
		limit_learn(tx->scope.client_id.p ? tx->scope.client_id : tx->scope.agency_id, pg_col(tx->arena, &tx->entered, 0, "limits"));
}

static enum fault take_idempotency_key(struct req *req)
{
	struct str a = http_header(req->http, "x-idempotency-key"), b = http_header(req->http, "idempotency-key");
	struct str method = req->http->method, key;
	if ((!a.p && !b.p) || str_is(method, "GET") || str_is(method, "HEAD"))
		return OK;
	struct str *each[2] = { &a, &b };
	for (int i = 0; i < 2; i++) {
		struct str *t = each[i];
		if (t->n >= 2 && t->p[0] == '"' && t->p[t->n - 1] == '"')
			*t = (struct str){ t->p + 1, t->n - 2 };
	}
	if (a.p && b.p && !str_eq(a, b))
		return fault_raise(FAULT_BAD_REQUEST, "The two idempotency headers differ");
	key = a.p ? a : b;
	bool good = key.n >= 1 && key.n <= 255;
	for (size_t i = 0; good && i < key.n; i++)
		good = key.p[i] > 0x20 && key.p[i] < 0x7f;
	if (!good)
		return fault_raise(FAULT_BAD_REQUEST, "The idempotency key must be 1..255 visible ASCII characters");
	req->idem_key = key;
	return OK;
}

/* SHA-256 over principal, method, path, query and body as received. */
static void fingerprint(struct req *req)
{
	if (!req->idem_key.p)
		return;
	struct http_request *h = req->http;
	struct buf b = BUF_IN(req->arena, h->target.n + req->body.n + 1024);
	struct str parts[] = { req->who.issuer, req->who.subject, h->method, h->path, h->query, req->body };
	for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
		buf_str(&b, parts[i]);
		buf_char(&b, 0);
	}
	struct str hex = hex_write(req->arena, sign_sha256(req->arena, buf_view(&b)));
	req->idem_fingerprint = str_format(req->arena, "\\x%.*s", STRF(hex));
}

static enum fault read_input(struct req *req)
{
	const struct route *route = req->route;
	if (str_is(req->http->method, "GET") || str_is(req->http->method, "HEAD"))
		return OK;
	TRY(http_read_body(req->http, route->body_max ? route->body_max : BODY_BYTES, &req->body));
	fingerprint(req);
	req->json = NULL;
	if (!req->body.n)
		req->body = STR("{}");
	if (!str_utf8(req->body))
		return fault_raise(FAULT_BAD_REQUEST, "The body is not valid UTF-8");
	TRY(json_read(req->arena, req->body, &req->json));
	if (!route->in)
		return OK;
	req->in = arena_alloc(req->arena, route->in_bytes);
	return OK;
}

/* Handlers may be run again when a lock or a balance moved under them: nothing was committed. */
static enum fault run_handler(struct req *req)
{
	enum fault fault = OK;
	for (int try = 0; try < RERUNS; try++) {
		fault_clear(req->arena);
		req->warnings = NULL;
		req->meta = BUF_IN(req->arena, 65536);
		if (req->route->in && req->json) {
			memset(req->in, 0, req->route->in_bytes);
			fault = shape_read(req->arena, req->route->in, req->json, req->in, &req->set, &req->warnings);
			if (fault != OK)
				return fault;
		}
		fault = req->route->handle(req);
		tx_abort(&req->tx);
		if (fault != FAULT_SERIALIZE)
			return fault;
	}
	return fault;
}

static enum fault process(struct req *req)
{
	TRY(check_sizes(req));
	if (take_origin(req))
		return OK;
	TRY(find_route(req));
	const struct route *route = req->route;
	if (draining && !(route->flags & ROUTE_OPEN))
		return fault_raise(FAULT_UNAVAILABLE, "This process is stopping; try again");
	if (route->flags & ROUTE_RAW)
		return route->handle(req);
	TRY(check_media(req));
	if (!(route->flags & ROUTE_OPEN)) {
		enum fault fault = auth_check(req);
		if (fault != OK)
			return charge_address(req, fault);
		req->scope.agency_id = req->who.agency_id;	/* charged first: a foreign x-client-id is no way round the rate */
		req->scope.client_id = req->who.client_id;
		TRY(charge_client(req));
		TRY(auth_scope(req));
		TRY(auth_allows(req, route->roles, route->scope));
		TRY(take_idempotency_key(req));
	} else if (!(route->flags & ROUTE_FREE)) {
		struct limit_answer a = take_address(req);
		if (!a.allowed)
			return rate_fault(req, "address", config.address_requests_per_second, a);
	}
	struct str prefer = http_header(req->http, "prefer");
	if (route->flags & ROUTE_ASYNC && prefer.p && strstr(prefer.p, "respond-async")) {
		req->respond_async = true;
		http_reply_header(req->http, "Preference-Applied", STR("respond-async"));
	}
	TRY(read_input(req));
	return run_handler(req);
}

static void log_request(const struct req *req)
{
	struct buf m = BUF_IN(req->arena, 2048);
	buf_text(&m, ",\"request_id\":");
	buf_json(&m, req->request_id);
	buf_text(&m, ",\"trace_id\":");
	buf_json(&m, req->trace_id);
	if (req->scope.client_id.p) {
		buf_text(&m, ",\"client_id\":");
		buf_json(&m, req->scope.client_id);
	}
	buf_text(&m, ",\"method\":");
	buf_json(&m, (struct str){ req->http->method.p, req->http->method.n > 16 ? 16 : req->http->method.n });
	buf_text(&m, ",\"route\":");
	buf_json(&m, req->route ? str_of(req->route->path) : STR("unknown"));
	buf_format(&m, ",\"status_code\":%d,\"duration_ms\":%.3f", req->status,
		(double)(clock_real_us() - req->http->started_us) / 1000);
	if (req->status >= 400 && *fault_note->message && req->status >= 500) {
		buf_text(&m, ",\"reason\":");
		buf_json(&m, str_of(fault_note->message));
	}
	log_members(req->status >= 500 ? LOG_ERROR : LOG_INFO, "request", buf_view(&m));
}

void dispatch(struct http_request *http)
{
	struct req *req = arena_new(http->arena, struct req);
	req->http = http;
	req->arena = http->arena;
	req->meta = BUF_IN(req->arena, 65536);
	fault_clear(req->arena);
	take_request_id(req);
	take_peer(req);
	enum fault fault = process(req);
	tx_abort(&req->tx);
	if (fault != OK && fault != FAULT_REPLAY) {
		reply_fault(req, fault);
		req_finish(req);
	}
	metric_add(METRIC_http_requests, 1);
	if (req->status >= 500)
		metric_add(METRIC_http_errors, 1);
	if (req->status || !http->status) {
		http_reply_header(http, "Cache-Control", STR("no-store"));
		http_reply(http, req->status, req->out.n ? "application/json" : NULL, buf_view(&req->out));
	} else {
		req->status = http->status;
	}
	http_reply_header(http, "X-Request-Id", req->request_id);
	http_reply_header(http, "X-Trace-Id", req->trace_id);
	http_reply_header(http, "X-Content-Type-Options", STR("nosniff"));
	if (!http->reply_stream) {	/* about documents; a stream is none, and each header is kept as long as it lies open */
		http_reply_header(http, "X-Frame-Options", STR("DENY"));
		http_reply_header(http, "Referrer-Policy", STR("no-referrer"));
	}
	if (config.tls_certificate_file.n)
		http_reply_header(http, "Strict-Transport-Security", STR("max-age=31536000"));
	if (req->rate_policy.p) {
		http_reply_header(http, "RateLimit-Policy", req->rate_policy);
		http_reply_header(http, "RateLimit", req->rate_state);
	}
	log_request(req);
	fault_clear(NULL);
}
