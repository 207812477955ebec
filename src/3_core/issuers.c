/* Issuers and their keys. One fiber fetches, the others that need the same set wait for it. */
#include "issuers.h"
#include "auth.h"
#include "config.h"
#include "../0_base/clock.h"
#include "../0_base/die.h"
#include "../0_base/log.h"
#include "../1_code/uuid.h"
#include "../2_io/fetch.h"
#include "../2_io/fiber.h"
#include <string.h>

#define MOST_ISSUERS 32
#define GOOD_US (600 * US_PER_S)
#define AGAIN_US (30 * US_PER_S)	/* between two attempts while a set is at hand */
#define FIRST_AGAIN_US (2 * US_PER_S)	/* and while there is none */
#define STALE_US (24 * 3600 * US_PER_S)
#define FETCH_MS 5000
#define DOCUMENT_BYTES ((size_t)1 << 20)

static struct issuer issuers[MOST_ISSUERS];
static size_t count;
static struct fiber_queue waiting;

/* What a claim is called where the issuer's settings do not say. Tenant and role have no default name: a claim that
 * nobody configured is not trusted. */
static const char *const usual[][2] = { { "subject", "sub" }, { "email", "email" }, { "email_verified", "email_verified" },
	{ "name", "name" } };

json_t *issuer_claim(const struct issuer *issuer, const json_t *claims, const char *name)
{
	const char *theirs = json_string_value(json_object_get(issuer->claims, name));
	for (size_t i = 0; !theirs && i < sizeof usual / sizeof *usual; i++)
		if (strcmp(usual[i][0], name) == 0)
			theirs = usual[i][1];
	if (!theirs)
		return NULL;
	json_t *direct = json_object_get(claims, theirs);
	return direct ? direct : json_at(claims, theirs);
}

static json_t *list_of(json_t *value, const char *where)
{
	json_t *list = json_is_array(value) ? json_incref(value) : json_pack("[O]", value), *one;
	size_t i;
	if (value)
		json_array_foreach(list, i, one)
			if (!json_is_string(one))
				die("oidc_issuers: %s must be a string or a list of strings", where);
	return list;
}

static void check_names(const json_t *object, const char *const *known, const char *where)
{
	const char *key;
	json_t *value;
	json_object_foreach((json_t *)(uintptr_t)object, key, value) {
		size_t i = 0;
		while (known[i] && strcmp(known[i], key) != 0)
			i++;
		if (!known[i])
			die("oidc_issuers: %s knows no '%s'", where, key);
		if (strcmp(where, "claims") == 0 && !json_is_string(value))
			die("oidc_issuers: claims.%s must be a string", key);
	}
}

static void add(struct arena *arena, json_t *row)
{
	static const char *const fields[] = { "issuer", "audience", "azp", "jwks_url", "agency_id", "claims", "roles", NULL };
	static const char *const names[] = { "subject", "client", "agency", "role", "email", "email_verified", "name", NULL };
	const char *key;
	json_t *value;
	check_names(row, fields, "an issuer");
	struct issuer *s = &issuers[count];
	*s = (struct issuer){ .name = str_copy(arena, json_text(row, "issuer")), .jwks_url = str_copy(arena, json_text(row, "jwks_url")),
		.claims = json_object_get(row, "claims"), .roles = json_object_get(row, "roles") };
	struct str agency = json_text(row, "agency_id");
	if (count + 1 == MOST_ISSUERS)
		die("oidc_issuers: more than %d", MOST_ISSUERS);
	if (!s->name.n)
		die("oidc_issuers: each needs \"issuer\", the exact iss of its tokens");
	if (!json_object_get(row, "audience"))
		die("oidc_issuers: %s needs \"audience\": tokens made for somebody else must not be good here", s->name.p);
	if (agency.p && !uuid_valid(agency))
		die("oidc_issuers: agency_id of %s must be a UUID", s->name.p);
	if (issuer_find(s->name))
		die("oidc_issuers: %s is named twice", s->name.p);
	s->agency_id = agency.p ? str_lower(arena, agency) : STR_NULL;
	s->audiences = list_of(json_object_get(row, "audience"), "audience");
	s->azp = json_object_get(row, "azp") ? list_of(json_object_get(row, "azp"), "azp") : NULL;
	check_names(s->claims, names, "claims");
	json_object_foreach(s->roles, key, value)
		if (!json_is_string(value) || role_of(str_of(json_string_value(value))) == ROLE_NONE)
			die("oidc_issuers: roles.%s must be agency_admin, client_admin or client_user", key);
	count++;
}

void issuers_open(void)
{
	static struct arena *arena;
	json_t *list, *row;
	size_t i;
	arena = arena_make();
	count = 0;
	if (config.oidc_issuers.n) {
		if (json_read_any(arena, config.oidc_issuers, &list) != OK || !json_is_array(list))
			die("oidc_issuers must be a JSON list such as [{\"issuer\":\"https://you.eu.auth0.com/\",\"audience\":\"trunkline\"}]: %s",
				fault_note->message);
		json_array_foreach(list, i, row)
			add(arena, row);
	}
	if (!config.dev_issuer)
		return;
	json_t *keys;
	if (json_read_any(arena, STR("{\"issuer\":\"" DEV_ISSUER "\",\"audience\":\"" DEV_AUDIENCE "\",\"claims\":{\"agency\":\"agency_id\","
			"\"client\":\"client_id\",\"role\":\"role\"}}"), &row) != OK || json_read(arena, auth_dev_keys(arena), &keys) != OK)
		bug("the development issuer does not read");
	add(arena, row);
	issuers[count - 1].keys = jwt_keys_read(arena, keys);
	issuers[count - 1].fetched_us = INT64_MAX;	/* our own: never fetched */
}

struct issuer *issuer_find(struct str name)
{
	for (size_t i = 0; i < count; i++)
		if (str_eq(issuers[i].name, name))
			return &issuers[i];
	return NULL;
}

static enum fault get(struct arena *arena, struct str url, json_t **ret)
{
	struct fetch f = { .method = "GET", .url = url, .timeout_ms = FETCH_MS, .most_bytes = DOCUMENT_BYTES };
	TRY(fetch_run(arena, &f));
	if (f.status != 200)
		return fault_raise(FAULT_IO, "%.*s answered %d", STRF(url), f.status);
	return json_read(arena, f.answer, ret);
}

static enum fault fetch_keys(struct issuer *s)
{
	struct arena *arena = arena_make();
	struct str url = s->jwks_url;
	json_t *document, *set;
	enum fault fault = OK;
	if (!url.p) {
		bool slash = str_ends(s->name, "/");
		fault = get(arena, str_format(arena, "%.*s%s.well-known/openid-configuration", STRF(s->name), slash ? "" : "/"), &document);
		if (fault == OK && !str_eq(json_text(document, "issuer"), s->name))
			fault = fault_raise(FAULT_IO, "the discovery document is another issuer's");
		if (fault == OK)
			url = json_text(document, "jwks_uri");
	}
	if (fault == OK)
		fault = get(arena, url, &set);
	if (fault == OK && !json_array_size(json_object_get(set, "keys")))
		fault = fault_raise(FAULT_IO, "the key set is empty");
	if (fault != OK) {
		log_line(LOG_WARN, "issuer keys not fetched", "issuer", s->name.p, "reason", fault_note->message, NULL);
		arena_drop(arena);
		return fault;
	}
	struct str text = json_dump(arena, set);
	s->fetched_us = clock_now_us();
	if (s->keys && str_eq(text, s->text)) {
		arena_drop(arena);
		return OK;
	}
	if (s->arena)
		arena_drop(s->arena);
	s->keys = jwt_keys_read(arena, set);
	s->text = text;
	s->arena = arena;
	s->generation++;
	return OK;
}

enum fault issuer_refresh(struct issuer *s, struct str kid)
{
	if (s->fetched_us == INT64_MAX)
		return OK;
	for (;;) {
		int64_t now_us = clock_now_us(), age_us = now_us - s->fetched_us;
		if (s->keys && age_us < GOOD_US && jwt_keys_know(s->keys, kid))
			return OK;
		if (s->busy) {
			fiber_queue_wait(&waiting);
			continue;
		}
		bool usable = s->keys && age_us < STALE_US;
		if (s->tried_us && now_us - s->tried_us < (usable ? AGAIN_US : FIRST_AGAIN_US)) {
			if (usable)
				return OK;	/* the signature check says what an unknown key id is */
		} else {
			s->tried_us = now_us;
			s->busy = true;
			enum fault fault = fetch_keys(s);
			s->busy = false;
			while (fiber_queue_wake(&waiting))
				;
			if (fault == OK || usable)
				return OK;
		}
		enum fault fault = fault_raise(FAULT_UNAVAILABLE, "The token's issuer cannot be reached; try again");
		fault_detail("reason", STR("issuer_unreachable"));
		fault_note->retry_after_s = 2;
		return fault;
	}
}
