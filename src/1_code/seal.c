/* AES-256-GCM by OpenSSL. */
#include "seal.h"
#include "uuid.h"
#include "../0_base/die.h"
#include <openssl/evp.h>

#define HEAD_BYTES 2
#define NONCE_BYTES 12
#define TAG_BYTES 16

int seal_key_version(struct str sealed)
{
	return sealed.n >= HEAD_BYTES + NONCE_BYTES + TAG_BYTES && sealed.p[0] == 1 ? (unsigned char)sealed.p[1] : 0;
}

struct str seal_close(struct arena *arena, struct str key, int key_version, struct str context, struct str plain)
{
	unsigned char *out = arena_alloc(arena, HEAD_BYTES + NONCE_BYTES + plain.n + TAG_BYTES);
	unsigned char *nonce = out + HEAD_BYTES, *text = nonce + NONCE_BYTES;
	int n = 0, end = 0;
	bug_unless(key.n == SEAL_KEY_BYTES && key_version > 0 && key_version < 256);
	out[0] = 1, out[1] = (unsigned char)key_version;
	random_bytes(nonce, NONCE_BYTES);
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
	bug_unless(ctx && EVP_EncryptInit_ex(ctx, EVP_aes_256_gcm(), NULL,
			(const unsigned char *)key.p, nonce) == 1 &&
		EVP_EncryptUpdate(ctx, NULL, &n, (const unsigned char *)context.p, (int)context.n) == 1 &&
		EVP_EncryptUpdate(ctx, text, &n, (const unsigned char *)(plain.n ? plain.p : ""), (int)plain.n) == 1 &&
		EVP_EncryptFinal_ex(ctx, text + n, &end) == 1 &&
		EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_GET_TAG, TAG_BYTES, text + plain.n) == 1);
	EVP_CIPHER_CTX_free(ctx);
	return (struct str){ (char *)out, HEAD_BYTES + NONCE_BYTES + plain.n + TAG_BYTES };
}

bool seal_open(struct arena *arena, struct str key, struct str context, struct str sealed,
	struct str *ret_plain)
{
	if (key.n != SEAL_KEY_BYTES || sealed.n < HEAD_BYTES + NONCE_BYTES + TAG_BYTES || sealed.p[0] != 1)
		return false;
	size_t size = sealed.n - HEAD_BYTES - NONCE_BYTES - TAG_BYTES;
	const unsigned char *nonce = (const unsigned char *)sealed.p + HEAD_BYTES;
	const unsigned char *text = nonce + NONCE_BYTES;
	unsigned char *out = arena_alloc(arena, size + 1), tag[TAG_BYTES];
	int n = 0, end = 0;
	memcpy(tag, text + size, TAG_BYTES);
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
	bool good = ctx && EVP_DecryptInit_ex(ctx, EVP_aes_256_gcm(), NULL,
			(const unsigned char *)key.p, nonce) == 1 &&
		EVP_DecryptUpdate(ctx, NULL, &n, (const unsigned char *)context.p, (int)context.n) == 1 &&
		EVP_DecryptUpdate(ctx, out, &n, text, (int)size) == 1 &&
		EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_SET_TAG, TAG_BYTES, tag) == 1 &&
		EVP_DecryptFinal_ex(ctx, out + n, &end) == 1;
	EVP_CIPHER_CTX_free(ctx);
	*ret_plain = (struct str){ (char *)out, size };
	return good;
}
