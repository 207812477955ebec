/* Credentials. A token once verified is remembered with its claims; expiry is judged on every request, the row behind
 * it is read again when what is remembered is older than STATE_US. */
#include "auth.h"
#include "config.h"
#include "core.sql.h"
#include "issuers.h"
#include "vault.h"
#include "../0_base/clock.h"
#include "../1_code/b64.h"
#include "../1_code/sign.h"
#include "../1_code/uuid.h"
#include "../2_io/fiber.h"
#include <stdio.h>

#define CACHE_SLOTS 4096
#define LEEWAY_US (60 * US_PER_S)
#define STATE_US (5 * US_PER_S)
#define TOUCH_US (60 * US_PER_S)
#define KEY_ID "dev-1"
#define AGENT_BYTES 300
#define KEY_PREFIX_BYTES 24
#define KEY_BYTES (KEY_PREFIX_BYTES + 1 + 64)

/* A credential as remembered. `claims` is what the token says; `row` what our rows said at `read_us`. Fibers that wait
 * with one in hand count as uses, so that a slot can be taken over meanwhile. */
struct credential {
	struct arena *arena;
	int uses;
	struct str token;
	struct issuer *issuer;		/* NULL: a platform key */
	uint64_t generation;
	struct principal claims;
	bool verified_email;
	struct arena *row_arena;
	struct principal row;
	int64_t read_us;
};

static struct credential *cache[CACHE_SLOTS];

struct str auth_dev_keys(struct arena *arena)
{
	return jwt_key_set(arena, vault_key(arena, "issuer"), STR(KEY_ID));
}

struct str auth_dev_token(struct arena *arena, const struct principal *who, int64_t ttl_s)
{
	struct buf c = BUF_IN(arena, 8192);
	int64_t now_s = clock_now_us() / US_PER_S;
	buf_format(&c, "{\"iss\":\"%s\",\"aud\":\"%s\",\"iat\":%lld,\"exp\":%lld,\"sub\":", DEV_ISSUER, DEV_AUDIENCE,
		(long long)now_s, (long long)(now_s + ttl_s));
	buf_json(&c, who->subject);
	buf_format(&c, ",\"role\":\"%s\",\"agency_id\":", role_name(who->role));
	buf_json(&c, who->agency_id);
	if (who->client_id.p) {
		buf_text(&c, ",\"client_id\":");
		buf_json(&c, who->client_id);
	}
	if (who->email.p) {
		buf_text(&c, ",\"email\":");
		buf_json(&c, who->email);
	}
	buf_char(&c, '}');
	return jwt_make(arena, vault_key(arena, "issuer"), STR(KEY_ID), buf_view(&c));
}

static struct str hex_digest(struct arena *arena, struct str text) { return hex_write(arena, sign_sha256(arena, text)); }

struct platform_key auth_make_key(struct arena *arena, bool test)
{
	char random[40];
	random_bytes(random, sizeof random);
	struct str hex = hex_write(arena, (struct str){ random, sizeof random });
	struct str secret = str_from(hex, 16);
	struct platform_key k = { .prefix = str_format(arena, "tl_%s_%.16s", test ? "test" : "live", hex.p) };
	k.text = str_format(arena, "%.*s_%.*s", STRF(k.prefix), STRF(secret));
	k.hash = str_format(arena, "\\x%.*s", STRF(hex_digest(arena, secret)));
	return k;
}

static enum fault refuse(const char *reason, const char *message)
{
	enum fault fault = fault_raise(FAULT_UNAUTHORIZED, "%s", message);
	fault_detail("reason", str_of(reason));
	return fault;
}

static enum fault no_tenant(void)
{
	enum fault fault = fault_raise(FAULT_FORBIDDEN, "This identity belongs to no agency or client here; ask for an invitation");
	fault_detail("reason", STR("no_tenant"));
	return fault;
}

/* Is `value`, a string or one of a list of strings, in `wanted`? */
static bool listed(const json_t *wanted, const json_t *value)
{
	json_t *one, *want;
	size_t i, j;
	if (json_is_string(value)) {
		json_array_foreach(wanted, i, want)
			if (strcmp(json_string_value(want), json_string_value(value)) == 0)
				return true;
		return false;
	}
	json_array_foreach(value, j, one)
		if (json_is_string(one) && listed(wanted, one))
			return true;
	return false;
}

/* The highest of our roles that the claim's value, or one of its values, stands for. None known: client_user. */
static enum role claimed_role(const struct issuer *issuer, const json_t *value)
{
	enum role best = CLIENT_USER;
	json_t *one;
	size_t i;
	json_array_foreach(value, i, one) {
		enum role role = json_is_string(one) ? claimed_role(issuer, one) : CLIENT_USER;
		best = role > best ? role : best;
	}
	if (!json_is_string(value))
		return best;
	const char *mapped = json_string_value(json_object_get(issuer->roles, json_string_value(value)));
	enum role role = role_of(str_of(mapped ? mapped : json_string_value(value)));
	return role > best ? role : best;
}

static struct str text_claim(struct arena *arena, const struct issuer *issuer, const json_t *claims, const char *name)
{
	json_t *value = issuer_claim(issuer, claims, name);
	return json_is_string(value) && *json_string_value(value) ? str_copy(arena, str_of(json_string_value(value))) : STR_NULL;
}

static struct str uuid_claim(struct arena *arena, const struct issuer *issuer, const json_t *claims, const char *name)
{
	struct str text = text_claim(arena, issuer, claims, name);
	return text.p && uuid_valid(text) ? str_lower(arena, text) : STR_NULL;
}

/* Claims of a token whose signature is good. */
static enum fault read_claims(struct credential *c, const json_t *claims)
{
	struct principal *who = &c->claims;
	json_t *exp = json_object_get(claims, "exp"), *nbf = json_object_get(claims, "nbf");
	json_t *verified = issuer_claim(c->issuer, claims, "email_verified");
	if (!listed(c->issuer->audiences, json_object_get(claims, "aud")))
		return refuse("audience", "The token is meant for somebody else");
	if (c->issuer->azp && !listed(c->issuer->azp, json_object_get(claims, "azp")))
		return refuse("azp", "The token was made for another application");
	if (!json_is_number(exp) || (nbf && !json_is_number(nbf)))
		return refuse("malformed", "The token has no usable exp");
	double until = json_number_value(exp), from = nbf ? json_number_value(nbf) : 0;
	who->expires_us = until > 4e12 ? INT64_MAX / 2 : until < 0 ? 0 : (int64_t)until * US_PER_S;
	who->not_before_us = from > 4e12 ? INT64_MAX / 2 : from < 0 ? 0 : (int64_t)from * US_PER_S;
	who->issuer = c->issuer->name;
	who->subject = text_claim(c->arena, c->issuer, claims, "subject");
	who->email = text_claim(c->arena, c->issuer, claims, "email");
	who->name = text_claim(c->arena, c->issuer, claims, "name");
	who->agency_id = uuid_claim(c->arena, c->issuer, claims, "agency");
	who->client_id = uuid_claim(c->arena, c->issuer, claims, "client");
	who->role = claimed_role(c->issuer, issuer_claim(c->issuer, claims, "role"));
	c->verified_email = json_is_true(verified) || (json_is_string(verified) && strcmp(json_string_value(verified), "true") == 0);
	if (who->client_id.p && who->role == AGENCY_ADMIN)
		who->role = CLIENT_ADMIN;	/* an agency_admin is of no client */
	if (!who->subject.p || who->subject.n > 255)
		return refuse("claims", "The token lacks a usable subject");
	return OK;
}

static void release(struct credential *c)
{
	if (!c || --c->uses)
		return;
	if (c->row_arena)
		arena_drop(c->row_arena);
	arena_drop(c->arena);
}

/* The slow way: parse, find the issuer, verify. */
static enum fault verify(struct str token, struct credential *c)
{
	json_t *header, *claims;
	if (str_starts(token, "tl_live_") || str_starts(token, "tl_test_"))
		return token.n == KEY_BYTES && token.p[KEY_PREFIX_BYTES] == '_' ? OK : refuse("malformed", "This is not a whole platform key");
	if (!jwt_peek(c->arena, token, &header, &claims))
		return refuse("malformed", "The bearer token is neither a JSON Web Token nor a platform key");
	c->issuer = issuer_find(json_text(claims, "iss"));
	if (!c->issuer)
		return refuse("issuer", "The token's issuer is not trusted here");
	TRY(issuer_refresh(c->issuer, json_text(header, "kid")));
	c->generation = c->issuer->generation;
	if (!jwt_signed_by(c->arena, token, header, c->issuer->keys))
		return refuse("signature", "The token's signature does not verify");
	return read_claims(c, claims);
}

/* The remembered credential of a token, verified now if need be; one use of it is the caller's. */
static enum fault credential_of(struct str token, struct credential **ret)
{
	struct credential **slot = &cache[str_hash(token) % CACHE_SLOTS], *c = *slot;
	if (c && sign_same(c->token, token)) {
		c->uses++;
		enum fault fault = c->issuer ? issuer_refresh(c->issuer, STR_NULL) : OK;
		if (fault == OK && (!c->issuer || c->generation == c->issuer->generation)) {
			*ret = c;
			return OK;
		}
		release(c);
		TRY(fault);
	}
	struct arena *arena = arena_make();
	c = arena_new(arena, struct credential);
	*c = (struct credential){ .arena = arena, .uses = 1, .token = str_copy(arena, token) };
	enum fault fault = verify(token, c);
	if (fault != OK) {
		release(c);
		return fault;
	}
	c->uses++;
	release(*slot);
	*slot = c;
	*ret = c;
	return OK;
}

static struct str keep_col(struct arena *arena, const struct rows *rows, const char *name)
{
	return str_copy(arena, pg_col(arena, rows, 0, name));
}

/* The row of a platform key; the secret is compared before anything else is said. */
static enum fault read_key(struct arena *arena, struct str token, struct principal *ret)
{
	struct rows r;
	struct tx tx;
	struct str hash = sign_sha256(arena, str_from(token, KEY_PREFIX_BYTES + 1));
	system_read(&tx, arena);
	TRY(key_find(&tx, (struct key_find){ .prefix = (struct str){ token.p, KEY_PREFIX_BYTES } }, &r));
	if (!r.count || !sign_same(hash, pg_col(arena, &r, 0, "secret_hash")))
		return refuse("key", "No such platform key");
	if (!pg_bool(&r, 0, "live"))
		return refuse("revoked", "This key is revoked");
	int64_t until = pg_time_us(&r, 0, "expires_at");
	*ret = (struct principal){ .issuer = STR("key"), .key_id = keep_col(arena, &r, "key_id"),
		.agency_id = keep_col(arena, &r, "agency_id"), .client_id = keep_col(arena, &r, "client_id"),
		.scopes = keep_col(arena, &r, "scopes"), .mode = keep_col(arena, &r, "mode"),
		.role = role_of(pg_col(arena, &r, 0, "role")), .expires_us = until ? until - LEEWAY_US : INT64_MAX / 2,
		.seen_us = pg_time_us(&r, 0, "seen_at") };
	ret->subject = ret->key_id;
	return OK;
}

static enum fault find_user(struct arena *arena, const struct principal *claims, bool by_claim, struct rows *ret)
{
	struct tx tx;
	system_read(&tx, arena);
	return principal_find(&tx, (struct principal_find){ .issuer = claims->issuer, .subject = claims->subject,
		.agency = by_claim ? claims->agency_id : STR_NULL, .client = by_claim ? claims->client_id : STR_NULL }, ret);
}

static enum fault bind_user(struct arena *arena, const struct credential *c, bool by_claim)
{
	char now[CLOCK_TEXT_BYTES];
	struct rows r;
	struct tx tx;
	const struct principal *p = &c->claims;
	struct str only = c->issuer->agency_id.p ? c->issuer->agency_id : by_claim ? STR_NULL : p->agency_id;
	TRY(system_begin(&tx, arena));
	TRY(principal_bind(&tx, (struct principal_bind){ .id = uuid_make(arena), .issuer = p->issuer, .subject = p->subject,
		.agency = by_claim ? p->agency_id : STR_NULL, .client = by_claim ? p->client_id : STR_NULL,
		.role = str_of(role_name(p->role)), .email = p->email, .name = p->name, .verified = c->verified_email, .only = only,
		.now = str_copy(arena, str_of(clock_text_us(clock_now_us(), now))) }, &r));
	bool bound = str_is(pg_col(arena, &r, 0, "state"), "bound");
	TRY(tx_commit(&tx));
	return bound ? OK : no_tenant();
}

/* The users row a token means: by claimed tenant, by subject, by invitation. */
static enum fault read_user(struct arena *arena, const struct credential *c, struct principal *ret)
{
	const struct principal *p = &c->claims;
	/* a claim that names an agency but neither a client nor an agency_admin leaves the client open */
	bool by_claim = p->client_id.p || (p->agency_id.p && p->role == AGENCY_ADMIN);
	struct rows r;
	TRY(find_user(arena, p, by_claim, &r));
	if (!r.count) {
		TRY(bind_user(arena, c, by_claim));
		TRY(find_user(arena, p, by_claim, &r));
	}
	if (!r.count)
		return no_tenant();
	if (!pg_bool(&r, 0, "is_active"))
		return refuse("deactivated", "This user is deactivated");
	*ret = *p;
	ret->user_id = keep_col(arena, &r, "user_id");
	ret->agency_id = keep_col(arena, &r, "agency_id");
	ret->client_id = keep_col(arena, &r, "client_id");
	ret->mode = keep_col(arena, &r, "mode");
	ret->seen_us = pg_time_us(&r, 0, "seen_at");
	enum role role = role_of(pg_col(arena, &r, 0, "role"));
	ret->role = by_claim && p->role < role ? p->role : role;	/* never above the claim's, never above the row's */
	if (c->issuer->agency_id.p && !str_eq(c->issuer->agency_id, ret->agency_id))
		return no_tenant();
	return OK;
}

struct touch {
	struct arena *arena;
	struct str user_id, key_id;
};

static void touch(void *argument)
{
	struct touch *t = argument;
	char now[CLOCK_TEXT_BYTES];
	struct tx tx;
	if (system_begin(&tx, t->arena) == OK) {
		principal_touch_later(&tx, (struct principal_touch){ .user = t->user_id, .key = t->key_id,
			.now = str_of(clock_text_us(clock_now_us(), now)) }, NULL);
		if (tx_commit(&tx) != OK)
			tx_abort(&tx);	/* a missed "last used" is made up by the next request */
	}
	arena_drop(t->arena);
}

static void touch_later(const struct principal *who)
{
	struct arena *arena = arena_make();
	struct touch *t = arena_new(arena, struct touch);
	*t = (struct touch){ arena, str_copy(arena, who->user_id), str_copy(arena, who->key_id) };
	fiber_spawn(touch, t, false);
}

/* Reads the row behind a credential again when it is older than it may be. */
static enum fault read_row(struct credential *c)
{
	int64_t now_us = clock_now_us();
	if (c->read_us && now_us - c->read_us < STATE_US && now_us >= c->read_us)
		return OK;
	struct arena *arena = arena_make();
	struct principal row;
	enum fault fault = c->issuer ? read_user(arena, c, &row) : read_key(arena, c->token, &row);
	if (fault != OK) {
		arena_drop(arena);
		c->read_us = 0;
		return fault;
	}
	if (now_us - row.seen_us > TOUCH_US)
		touch_later(&row);
	if (c->row_arena)
		arena_drop(c->row_arena);
	c->row_arena = arena;
	c->row = row;
	c->read_us = now_us;
	return OK;
}

static enum fault judge_time(const struct principal *who)
{
	int64_t now_us = clock_now_us();
	if (now_us > who->expires_us + LEEWAY_US)
		return refuse("expired", "The token has expired");
	if (now_us < who->not_before_us - LEEWAY_US)
		return refuse("not_before", "The token is not valid yet");
	return OK;
}

static enum fault check_credential(struct req *req, struct credential *c)
{
	struct principal *who = &req->who;
	if (c->issuer)
		TRY(judge_time(&c->claims));
	TRY(read_row(c));
	TRY(judge_time(&c->row));
	*who = c->row;
	struct str *texts[] = { &who->issuer, &who->subject, &who->email, &who->name, &who->agency_id, &who->client_id, &who->user_id,
		&who->key_id, &who->scopes, &who->mode };
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
		*texts[i] = str_copy(req->arena, *texts[i]);
	return OK;
}

enum fault auth_check(struct req *req)
{
	struct str header = http_header(req->http, "authorization"), token = header;
	struct str scheme = str_lower(req->arena, str_cut(&token, ' '));
	struct credential *c;
	token = str_trim(token);
	if (!header.p || !str_is(scheme, "bearer") || !token.n)
		return refuse("missing", "Send Authorization: Bearer <token or platform key>");
	TRY(credential_of(token, &c));
	enum fault fault = check_credential(req, c);
	release(c);
	return fault;
}

/* Address and agent of a write, for the audit. */
static struct str source_of(struct req *req)
{
	struct str agent = http_header(req->http, "user-agent");
	agent = str_clip(agent, AGENT_BYTES);
	if (!str_utf8(agent))
		agent.n = 0;
	return str_format(req->arena, "%.*s\n%.*s", STRF(req->http->peer), STRF(agent));
}

/* Is the client the agency's? Asked before anything else of the request is judged; a yes is good for STATE_US. */
static enum fault check_client(struct req *req, struct str client_id)
{
	static struct {
		char agency[36], client[36];
		int64_t at_us;
	} known[1024];
	size_t slot = str_hash(client_id) % 1024;
	int64_t now_us = clock_now_us();
	struct rows r;
	struct tx tx;
	if (now_us >= known[slot].at_us && now_us - known[slot].at_us < STATE_US && known[slot].at_us &&
	    memcmp(known[slot].client, client_id.p, 36) == 0 && memcmp(known[slot].agency, req->scope.agency_id.p, 36) == 0)
		return OK;
	system_read(&tx, req->arena);
	TRY(client_of(&tx, (struct client_of){ .agency = req->scope.agency_id, .client = client_id }, &r));
	if (!pg_bool(&r, 0, "theirs")) {
		enum fault fault = fault_raise(FAULT_FORBIDDEN, "This client is not yours");
		fault_detail("reason", STR("foreign_client"));
		return fault;
	}
	memcpy(known[slot].client, client_id.p, 36);
	memcpy(known[slot].agency, req->scope.agency_id.p, 36);
	known[slot].at_us = now_us;
	return OK;
}

enum fault auth_scope(struct req *req)
{
	const struct principal *who = &req->who;
	struct str header = http_header(req->http, "x-client-id");
	req->scope = (struct scope){ .agency_id = who->agency_id, .client_id = who->client_id, .user_id = who->user_id,
		.key_id = who->key_id, .request_id = req->request_id };
	if (!str_is(req->http->method, "GET") && !str_is(req->http->method, "HEAD"))
		req->scope.source = source_of(req);
	if (!header.p)
		return OK;
	if (!uuid_valid(header))
		return fault_field("x-client-id", "must be a UUID");
	struct str id = str_lower(req->arena, header);
	if (who->client_id.p && !str_eq(id, who->client_id)) {
		enum fault fault = fault_raise(FAULT_FORBIDDEN, "This client is not yours");
		fault_detail("reason", STR("foreign_client"));
		return fault;
	}
	req->scope.client_id = id;	/* for an agency_admin the door checks again that it is theirs */
	return who->client_id.p ? OK : check_client(req, id);
}

bool auth_scope_held(const struct principal *who, const char *scope)
{
	struct str rest = who->scopes;
	if (!rest.p || strcmp(scope, SCOPE_ANY) == 0)
		return true;
	while (rest.n) {
		struct str one = str_cut(&rest, ',');
		if (str_is(one, "*") || str_is(one, scope))
			return true;
	}
	return false;
}

enum fault auth_allows(const struct req *req, unsigned roles, const char *scope)
{
	const char *lacks = !(req->who.role & roles) ? "role" : !auth_scope_held(&req->who, scope) ? "scope" : NULL;
	if (!lacks)
		return OK;
	enum fault fault = fault_raise(FAULT_FORBIDDEN, *lacks == 'r' ? "Your role may not do this" : "This key lacks the scope %s", scope);
	fault_detail("reason", str_of(lacks));
	return fault;
}
