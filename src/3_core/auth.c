/* Tokens of the development issuer. A signature once verified is remembered with the exact token;
 * expiry, user and tenant are judged anew on every request. */
#include "auth.h"
#include "config.h"
#include "core.sql.h"
#include "vault.h"
#include "../0_base/clock.h"
#include "../1_code/jwt.h"
#include "../1_code/uuid.h"

#define CACHE_SLOTS 4096
#define LEEWAY_US (60 * US_PER_S)
#define KEY_ID "dev-1"

struct verified {
	struct arena *arena;
	struct str token;
	struct principal who;
};

static struct verified cache[CACHE_SLOTS];
static struct jwt_keys *dev_keys;

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

static enum fault refuse(const char *reason, const char *message)
{
	enum fault fault = fault_raise(FAULT_UNAUTHORIZED, "%s", message);
	fault_detail("reason", str_of(reason));
	return fault;
}

static bool audience_good(const json_t *claims)
{
	json_t *aud = json_object_get(claims, "aud"), *one;
	size_t i;
	if (json_is_string(aud))
		return strcmp(json_string_value(aud), DEV_AUDIENCE) == 0;
	json_array_foreach(aud, i, one)
		if (json_is_string(one) && strcmp(json_string_value(one), DEV_AUDIENCE) == 0)
			return true;
	return false;
}

static struct str claim(struct arena *arena, const json_t *claims, const char *name)
{
	struct str value = json_text(claims, name);
	return value.n ? str_copy(arena, value) : STR_NULL;
}

/* The slow way: parse, verify, remember. */
static enum fault verify(struct str token, struct verified *ret)
{
	struct arena *arena = arena_make();
	json_t *header, *claims;
	*ret = (struct verified){ .arena = arena, .token = str_copy(arena, token) };
	if (!jwt_peek(arena, token, &header, &claims))
		return refuse("malformed", "The bearer token is not a JSON Web Token");
	if (!config.dev_issuer || !str_is(json_text(claims, "iss"), DEV_ISSUER))
		return refuse("issuer", "The token's issuer is not trusted here");
	if (!dev_keys) {
		static struct arena *keep;
		json_t *set;
		keep = keep ? keep : arena_make();
		TRY(json_read(keep, auth_dev_keys(keep), &set));
		dev_keys = jwt_keys_read(keep, set);
	}
	if (!jwt_signed_by(arena, token, header, dev_keys))
		return refuse("signature", "The token's signature does not verify");
	if (!audience_good(claims))
		return refuse("audience", "The token is meant for somebody else");
	json_t *exp = json_object_get(claims, "exp"), *nbf = json_object_get(claims, "nbf");
	if (!json_is_number(exp) || (nbf && !json_is_number(nbf)))
		return refuse("malformed", "The token has no usable exp");
	struct principal *who = &ret->who;
	double until = json_number_value(exp), from = nbf ? json_number_value(nbf) : 0;
	who->expires_us = until > 4e12 ? INT64_MAX / 2 : until < 0 ? 0 : (int64_t)until * US_PER_S;
	who->not_before_us = from > 4e12 ? INT64_MAX / 2 : from < 0 ? 0 : (int64_t)from * US_PER_S;
	who->issuer = STR(DEV_ISSUER);
	who->subject = claim(arena, claims, "sub");
	who->email = claim(arena, claims, "email");
	who->name = claim(arena, claims, "name");
	who->agency_id = claim(arena, claims, "agency_id");
	who->client_id = claim(arena, claims, "client_id");
	struct str role = json_text(claims, "role");
	who->role = role.p ? role_of(role) : CLIENT_USER;
	if (!who->subject.p || who->subject.n > 255 || !who->agency_id.p || !uuid_valid(who->agency_id) ||
	    (who->client_id.p && !uuid_valid(who->client_id)) || who->role == ROLE_NONE)
		return refuse("claims", "The token lacks a usable sub, role or agency_id");
	if (who->role != AGENCY_ADMIN && !who->client_id.p)
		return refuse("claims", "The token names no client");
	return OK;
}

enum fault auth_check(struct req *req)
{
	struct str header = http_header(req->http, "authorization"), token = header;
	struct str scheme = str_lower(req->arena, str_cut(&token, ' '));
	token = str_trim(token);
	if (!header.p || !str_is(scheme, "bearer") || !token.n)
		return refuse("missing", "Send Authorization: Bearer <token>");
	struct verified *slot = &cache[str_hash(token) % CACHE_SLOTS];
	if (!slot->arena || !str_eq(slot->token, token)) {
		struct verified fresh;
		enum fault fault = verify(token, &fresh);
		if (fault != OK) {
			arena_drop(fresh.arena);
			return fault;
		}
		arena_drop(slot->arena);
		*slot = fresh;
	}
	int64_t now_us = clock_now_us();
	struct principal *who = &req->who;
	*who = slot->who;
	who->subject = str_copy(req->arena, who->subject);
	who->email = str_copy(req->arena, who->email);
	who->name = str_copy(req->arena, who->name);
	who->agency_id = str_lower(req->arena, who->agency_id);
	who->client_id = who->client_id.p ? str_lower(req->arena, who->client_id) : STR_NULL;
	if (now_us > who->expires_us + LEEWAY_US)
		return refuse("expired", "The token has expired");
	if (now_us < who->not_before_us - LEEWAY_US)
		return refuse("not_before", "The token is not valid yet");
	return OK;
}

enum fault auth_scope(struct req *req)
{
	const struct principal *who = &req->who;
	struct str header = http_header(req->http, "x-client-id");
	req->scope = (struct scope){ .agency_id = who->agency_id, .client_id = who->client_id,
		.issuer = who->issuer, .subject = who->subject, .request_id = req->request_id };
	if (!header.p || !header.n)
		return OK;
	if (!uuid_valid(header))
		return fault_field("x-client-id", "must be a UUID");
	struct str id = str_lower(req->arena, header);
	if (who->client_id.p && !str_eq(id, who->client_id)) {
		enum fault fault = fault_raise(FAULT_FORBIDDEN, "This client is not yours");
		fault_detail("reason", STR("foreign_client"));
		return fault;
	}
	req->scope.client_id = id;	/* for an agency_admin the door checks that it is theirs */
	return OK;
}

enum fault auth_first_sight(struct req *req)
{
	char now[CLOCK_TEXT_BYTES];
	struct tx tx;
	const struct principal *who = &req->who;
	TRY(system_begin(&tx, req->arena));
	user_first_sight_later(&tx, (struct user_first_sight){ .id = uuid_make(req->arena), .agency = who->agency_id,
		.client = who->client_id, .issuer = who->issuer, .subject = who->subject, .email = who->email,
		.name = who->name, .role = str_of(role_name(who->role)), .now = str_of(clock_text_us(clock_now_us(), now)) }, NULL);
	return tx_commit(&tx);
}
