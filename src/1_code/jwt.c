/* JWS over OpenSSL keys. */
#include "jwt.h"
#include "b64.h"
#include "sign.h"
#include "../0_base/die.h"
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>

#define MAX_KEYS 32

struct jwt_key {
	struct str kid;
	const char *alg;
	EVP_PKEY *key;
};

struct jwt_keys {
	size_t count;
	struct jwt_key keys[MAX_KEYS];
};

static void free_keys(void *object)
{
	struct jwt_keys *keys = object;
	for (size_t i = 0; i < keys->count; i++)
		EVP_PKEY_free(keys->keys[i].key);
}

static EVP_PKEY *from_params(const char *type, OSSL_PARAM_BLD *builder)
{
	EVP_PKEY *key = NULL;
	OSSL_PARAM *params = OSSL_PARAM_BLD_to_param(builder);
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, type, NULL);
	if (params && ctx && EVP_PKEY_fromdata_init(ctx) == 1)
		EVP_PKEY_fromdata(ctx, &key, EVP_PKEY_PUBLIC_KEY, params);
	EVP_PKEY_CTX_free(ctx);
	OSSL_PARAM_free(params);
	return key;
}

static EVP_PKEY *rsa_key(struct str n_bytes, struct str e_bytes)
{
	if (n_bytes.n < 256 || n_bytes.n > 1024 || !e_bytes.n || e_bytes.n > 8)
		return NULL;	/* below 2048 bits is refused (RFC 7518 3.3) */
	BIGNUM *n = BN_bin2bn((const unsigned char *)n_bytes.p, (int)n_bytes.n, NULL);
	BIGNUM *e = BN_bin2bn((const unsigned char *)e_bytes.p, (int)e_bytes.n, NULL);
	OSSL_PARAM_BLD *b = OSSL_PARAM_BLD_new();
	OSSL_PARAM_BLD_push_BN(b, OSSL_PKEY_PARAM_RSA_N, n);
	OSSL_PARAM_BLD_push_BN(b, OSSL_PKEY_PARAM_RSA_E, e);
	EVP_PKEY *key = from_params("RSA", b);
	OSSL_PARAM_BLD_free(b);
	BN_free(n);
	BN_free(e);
	return key;
}

static EVP_PKEY *p256_key(struct str x, struct str y)
{
	unsigned char point[65] = { 4 };
	if (x.n != 32 || y.n != 32)
		return NULL;
	memcpy(point + 1, x.p, 32);
	memcpy(point + 33, y.p, 32);
	OSSL_PARAM_BLD *b = OSSL_PARAM_BLD_new();
	OSSL_PARAM_BLD_push_utf8_string(b, OSSL_PKEY_PARAM_GROUP_NAME, "prime256v1", 0);
	OSSL_PARAM_BLD_push_octet_string(b, OSSL_PKEY_PARAM_PUB_KEY, point, sizeof point);
	EVP_PKEY *key = from_params("EC", b);
	OSSL_PARAM_BLD_free(b);
	return key;
}

static struct str part(struct arena *arena, const json_t *jwk, const char *name)
{
	struct str bytes, text = json_text(jwk, name);
	return text.p && b64_read(arena, text, &bytes) ? bytes : (struct str){ "", 0 };
}

struct jwt_keys *jwt_keys_read(struct arena *arena, const json_t *set)
{
	struct jwt_keys *keys = arena_new(arena, struct jwt_keys);
	arena_defer(arena, free_keys, keys);
	size_t i;
	json_t *jwk;
	json_array_foreach(json_object_get(set, "keys"), i, jwk) {
		struct str type = json_text(jwk, "kty"), curve = json_text(jwk, "crv");
		struct str use = json_text(jwk, "use");
		struct jwt_key key = { .kid = str_copy(arena, json_text(jwk, "kid")) };
		if (keys->count == MAX_KEYS || (use.p && !str_is(use, "sig")))
			continue;
		if (str_is(type, "OKP") && str_is(curve, "Ed25519")) {
			struct str x = part(arena, jwk, "x");
			key.alg = "EdDSA";
			key.key = x.n == 32 ? EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL,
				(const unsigned char *)x.p, 32) : NULL;
		} else if (str_is(type, "RSA")) {
			key.alg = "RS256";
			key.key = rsa_key(part(arena, jwk, "n"), part(arena, jwk, "e"));
		} else if (str_is(type, "EC") && str_is(curve, "P-256")) {
			key.alg = "ES256";
			key.key = p256_key(part(arena, jwk, "x"), part(arena, jwk, "y"));
		}
		if (key.key)
			keys->keys[keys->count++] = key;
	}
	return keys;
}

bool jwt_keys_know(const struct jwt_keys *keys, struct str kid)
{
	for (size_t i = 0; i < keys->count; i++)
		if (!kid.p || str_eq(keys->keys[i].kid, kid))
			return true;
	return false;
}

bool jwt_peek(struct arena *arena, struct str token, json_t **ret_header, json_t **ret_claims)
{
	struct str rest = token, head = str_cut(&rest, '.'), body = str_cut(&rest, '.'), text;
	if (!head.n || !body.n || !rest.n || memchr(rest.p, '.', rest.n))
		return false;
	if (!b64_read(arena, head, &text) || json_read(arena, text, ret_header) != OK)
		return false;
	return b64_read(arena, body, &text) && json_read(arena, text, ret_claims) == OK;
}

/* ES256 signatures are r and s side by side (RFC 7518 3.4); OpenSSL wants DER. */
static int der_signature(struct str raw, unsigned char **ret_der)
{
	ECDSA_SIG *sig = ECDSA_SIG_new();
	BIGNUM *r = BN_bin2bn((const unsigned char *)raw.p, 32, NULL);
	BIGNUM *s = BN_bin2bn((const unsigned char *)raw.p + 32, 32, NULL);
	*ret_der = NULL;
	ECDSA_SIG_set0(sig, r, s);
	int n = i2d_ECDSA_SIG(sig, ret_der);
	ECDSA_SIG_free(sig);
	return n;
}

static bool key_signed(const struct jwt_key *key, struct str message, struct str signature)
{
	unsigned char *der = NULL;
	bool hashed = strcmp(key->alg, "EdDSA") != 0;
	if (strcmp(key->alg, "ES256") == 0) {
		if (signature.n != 64)
			return false;
		int n = der_signature(signature, &der);
		if (n <= 0)
			return false;
		signature = (struct str){ (char *)der, (size_t)n };
	}
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	bool good = ctx && EVP_DigestVerifyInit(ctx, NULL, hashed ? EVP_sha256() : NULL, NULL, key->key) == 1 &&
		EVP_DigestVerify(ctx, (const unsigned char *)signature.p, signature.n,
			(const unsigned char *)message.p, message.n) == 1;
	EVP_MD_CTX_free(ctx);
	OPENSSL_free(der);
	return good;
}

bool jwt_signed_by(struct arena *arena, struct str token, const json_t *header, const struct jwt_keys *keys)
{
	struct str alg = json_text(header, "alg"), kid = json_text(header, "kid"), signature;
	size_t dot = token.n;
	while (dot && token.p[dot - 1] != '.')
		dot--;
	if (!alg.p || !dot || json_object_get(header, "crit") || !b64_read(arena, str_from(token, dot), &signature))
		return false;
	for (size_t i = 0; i < keys->count; i++) {
		const struct jwt_key *key = &keys->keys[i];
		if (!str_is(alg, key->alg) || (kid.p && key->kid.p && !str_eq(kid, key->kid)))
			continue;
		if (key_signed(key, (struct str){ token.p, dot - 1 }, signature))
			return true;
	}
	return false;
}

struct str jwt_make(struct arena *arena, struct str seed, struct str kid, struct str claims)
{
	struct str head = b64url_write(arena, str_format(arena,
		"{\"alg\":\"EdDSA\",\"typ\":\"JWT\",\"kid\":\"%.*s\"}", STRF(kid)));
	struct str body = b64url_write(arena, claims);
	struct str text = str_format(arena, "%.*s.%.*s", STRF(head), STRF(body));
	struct str mac = b64url_write(arena, sign_ed25519(arena, seed, text));
	return str_format(arena, "%.*s.%.*s", STRF(text), STRF(mac));
}

struct str jwt_key_set(struct arena *arena, struct str seed, struct str kid)
{
	struct str x = b64url_write(arena, sign_ed25519_public(arena, seed));
	return str_format(arena, "{\"keys\":[{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"use\":\"sig\","
		"\"alg\":\"EdDSA\",\"kid\":\"%.*s\",\"x\":\"%.*s\"}]}", STRF(kid), STRF(x));
}
