/* Thin, checked calls into OpenSSL. */
#include "sign.h"
#include "b64.h"
#include "../0_base/die.h"
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

struct str sign_sha256(struct arena *arena, struct str bytes)
{
	unsigned char *out = arena_alloc(arena, SHA256_BYTES);
	bug_unless(EVP_Digest(bytes.p, bytes.n, out, NULL, EVP_sha256(), NULL) == 1);
	return (struct str){ (char *)out, SHA256_BYTES };
}

struct sign_hash *sign_hash_start(void)
{
	EVP_MD_CTX *context = EVP_MD_CTX_new();
	bug_unless(context && EVP_DigestInit_ex(context, EVP_sha256(), NULL) == 1);
	return (struct sign_hash *)context;
}

void sign_hash_add(struct sign_hash *hash, struct str bytes)
{
	bug_unless(EVP_DigestUpdate((EVP_MD_CTX *)hash, bytes.p, bytes.n) == 1);
}

struct str sign_hash_end(struct arena *arena, struct sign_hash *hash)
{
	unsigned char *out = arena_alloc(arena, SHA256_BYTES);
	bug_unless(EVP_DigestFinal_ex((EVP_MD_CTX *)hash, out, NULL) == 1);
	EVP_MD_CTX_free((EVP_MD_CTX *)hash);
	return (struct str){ (char *)out, SHA256_BYTES };
}

struct str sign_hmac(struct arena *arena, struct str key, struct str message)
{
	unsigned char *out = arena_alloc(arena, SHA256_BYTES);
	unsigned n = 0;
	bug_unless(HMAC(EVP_sha256(), key.n ? key.p : "", (int)key.n,
		(const unsigned char *)message.p, message.n, out, &n) && n == SHA256_BYTES);
	return (struct str){ (char *)out, n };
}

bool sign_same(struct str a, struct str b)
{
	return a.n == b.n && CRYPTO_memcmp(a.p, b.p, a.n) == 0;
}

struct str sign_ed25519_public(struct arena *arena, struct str seed)
{
	unsigned char *out = arena_alloc(arena, 32);
	size_t n = 32;
	EVP_PKEY *key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL,
		(const unsigned char *)seed.p, seed.n);
	bug_unless(key && EVP_PKEY_get_raw_public_key(key, out, &n) == 1);
	EVP_PKEY_free(key);
	return (struct str){ (char *)out, n };
}

struct str sign_ed25519(struct arena *arena, struct str seed, struct str message)
{
	unsigned char *out = arena_alloc(arena, ED25519_BYTES);
	size_t n = ED25519_BYTES;
	EVP_PKEY *key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL,
		(const unsigned char *)seed.p, seed.n);
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	bug_unless(key && ctx && EVP_DigestSignInit(ctx, NULL, NULL, NULL, key) == 1 &&
		EVP_DigestSign(ctx, out, &n, (const unsigned char *)message.p, message.n) == 1);
	EVP_MD_CTX_free(ctx);
	EVP_PKEY_free(key);
	return (struct str){ (char *)out, n };
}

bool sign_ed25519_check(struct str public_key, struct str message, struct str signature)
{
	if (public_key.n != 32 || signature.n != ED25519_BYTES)
		return false;
	EVP_PKEY *key = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL,
		(const unsigned char *)public_key.p, public_key.n);
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	bool good = key && ctx && EVP_DigestVerifyInit(ctx, NULL, NULL, NULL, key) == 1 &&
		EVP_DigestVerify(ctx, (const unsigned char *)signature.p, signature.n,
			(const unsigned char *)message.p, message.n) == 1;
	EVP_MD_CTX_free(ctx);
	EVP_PKEY_free(key);
	return good;
}

bool sign_webhook(struct arena *arena, struct str secret, struct str id, struct str timestamp,
	struct str body, struct str *ret_signature)
{
	struct str key;
	if (!str_starts(secret, "whsec_") || !b64_read(arena, str_from(secret, 6), &key) || !key.n)
		return false;
	struct buf signed_bytes = BUF_IN(arena, id.n + timestamp.n + body.n + 3);
	buf_str(&signed_bytes, id);
	buf_char(&signed_bytes, '.');
	buf_str(&signed_bytes, timestamp);
	buf_char(&signed_bytes, '.');
	buf_str(&signed_bytes, body);
	struct str mac = b64_write(arena, sign_hmac(arena, key, buf_view(&signed_bytes)));
	*ret_signature = str_format(arena, "v1,%.*s", STRF(mac));
	return true;
}
