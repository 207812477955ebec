/* Encrypt and Decrypt at KMS. */
#include "kms.h"
#include "../0_base/clock.h"
#include "../1_code/b64.h"
#include "../1_code/json.h"
#include "../1_code/sign.h"
#include "../1_code/sigv4.h"
#include "../1_code/url.h"
#include "../2_io/fetch.h"
#include "../3_core/config.h"

#define TIMEOUT_MS 5000
#define KEY_BYTES 32
#define MEMORY 256
#define MEMORY_US (300 * US_PER_S)

static struct {
	char digest[SHA256_BYTES], key[KEY_BYTES];
	int64_t until_us;
} memory[MEMORY];

static enum fault call(struct arena *arena, const char *action, struct str body, json_t **ret)
{
	struct sigv4_key key = { config.kms_access_key_id, config.kms_secret_access_key, config.kms_region };
	struct str endpoint = config.kms_endpoint.n ? config.kms_endpoint
		: str_format(arena, "https://kms.%.*s.amazonaws.com", STRF(config.kms_region));
	struct str host = endpoint, target = str_format(arena, "TrentService.%s", action);
	struct str date = sigv4_date(arena, clock_real_us() / US_PER_S), type = STR("application/x-amz-json-1.1");
	str_cut(&host, '/');
	str_cut(&host, '/');
	struct str hash = hex_write(arena, sign_sha256(arena, body));
	struct sigv4_header signed_headers[] = { { STR("content-type"), type }, { STR("host"), host }, { STR("x-amz-date"), date },
		{ STR("x-amz-target"), target } };
	struct sigv4_request r = { .method = STR("POST"), .path = STR("/"), .headers = signed_headers, .header_count = 4,
		.payload_hash = hash, .service = "kms" };
	struct fetch_header headers[] = { { "Authorization", sigv4_authorization(arena, &key, &r, date) }, { "Content-Type", type },
		{ "X-Amz-Date", date }, { "X-Amz-Target", target } };
	struct fetch f = { .method = "POST", .url = str_format(arena, "%.*s/", STRF(endpoint)), .headers = headers, .header_count = 4,
		.body = body, .timeout_ms = TIMEOUT_MS, .most_bytes = 65536 };
	enum fault fault = fetch_run(arena, &f);
	if (fault != OK || f.status != 200) {
		fault = fault_raise(FAULT_UNAVAILABLE, "The key service does not answer%s; try again", fault == OK ? " as it should" : "");
		fault_detail("reason", STR("key_service"));
		return fault;
	}
	return json_read(arena, f.answer, ret);
}

static void context_json(struct buf *b, struct str context)
{
	buf_text(b, ",\"EncryptionContext\":{\"trunkline\":");
	buf_json(b, context);
	buf_text(b, "}}");
}

static enum fault wrap(struct arena *arena, struct str data_key, struct str context, struct str *ret_wrapped)
{
	struct buf b = BUF_IN(arena, 4096);
	json_t *answer;
	buf_text(&b, "{\"KeyId\":");
	buf_json(&b, config.kms_key_id);
	buf_text(&b, ",\"Plaintext\":");
	buf_json(&b, b64_write(arena, data_key));
	context_json(&b, context);
	TRY(call(arena, "Encrypt", buf_view(&b), &answer));
	if (!b64_read(arena, json_text(answer, "CiphertextBlob"), ret_wrapped) || !ret_wrapped->n || ret_wrapped->n > 6144)
		return fault_raise(FAULT_UNAVAILABLE, "The key service's answer could not be read");
	return OK;
}

static enum fault unwrap(struct arena *arena, struct str wrapped, struct str context, struct str *ret_data_key)
{
	struct buf b = BUF_IN(arena, 16384);
	json_t *answer;
	struct str digest = sign_sha256(arena, str_format(arena, "%.*s\n%.*s", STRF(context), STRF(b64_write(arena, wrapped))));
	size_t slot = (unsigned char)digest.p[0] % MEMORY;
	if (memory[slot].until_us > clock_real_us() && memcmp(memory[slot].digest, digest.p, SHA256_BYTES) == 0) {
		*ret_data_key = str_copy(arena, (struct str){ memory[slot].key, KEY_BYTES });
		return OK;
	}
	buf_text(&b, "{\"KeyId\":");
	buf_json(&b, config.kms_key_id);
	buf_text(&b, ",\"CiphertextBlob\":");
	buf_json(&b, b64_write(arena, wrapped));
	context_json(&b, context);
	TRY(call(arena, "Decrypt", buf_view(&b), &answer));
	if (!b64_read(arena, json_text(answer, "Plaintext"), ret_data_key) || ret_data_key->n != KEY_BYTES)
		return fault_raise(FAULT_UNAVAILABLE, "The key service's answer could not be read");
	memcpy(memory[slot].digest, digest.p, SHA256_BYTES);
	memcpy(memory[slot].key, ret_data_key->p, KEY_BYTES);
	memory[slot].until_us = clock_real_us() + MEMORY_US;
	return OK;
}

const struct vault_kek *kms_kek(void)
{
	static const struct vault_kek kek = { "kms", wrap, unwrap };
	return config.kms_key_id.n ? &kek : NULL;
}
