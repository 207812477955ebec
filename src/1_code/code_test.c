/* Floor 1: published vectors, and what must be refused. */
#include "audio.h"
#include "b64.h"
#include "cidr.h"
#include "jwt.h"
#include "seal.h"
#include "shape.h"
#include "sign.h"
#include "sigv4.h"
#include "url.h"
#include "uuid.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static struct arena *arena;

static int setup(void **state)
{
	(void)state;
	arena = arena_make();
	fault_clear(arena);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	fault_clear(NULL);
	arena_drop(arena);
	return 0;
}

static void base64_reads_both_alphabets(void **state)
{
	struct str bytes;
	(void)state;
	assert_true(str_is(b64_write(arena, STR("any carnal pleas")), "YW55IGNhcm5hbCBwbGVhcw=="));
	assert_true(str_is(b64url_write(arena, STR("\xfb\xff\xfe")), "-__-"));
	assert_true(b64_read(arena, STR("-__-"), &bytes) && str_is(bytes, "\xfb\xff\xfe"));
	assert_true(b64_read(arena, STR("+//+"), &bytes) && str_is(bytes, "\xfb\xff\xfe"));
	assert_false(b64_read(arena, STR("YQ=a"), &bytes));
	assert_false(b64_read(arena, STR("Y"), &bytes));
}

/* The vector of Standard Webhooks 1.0 with key bytes 0x00..0x1f. */
static void a_webhook_is_signed_as_the_standard_says(void **state)
{
	struct str signature, secret = STR("whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=");
	(void)state;
	assert_true(sign_webhook(arena, secret, STR("msg_1"), STR("1700000000"), STR("{\"type\":\"a.b\"}"), &signature));
	assert_true(str_is(signature, "v1,g/7pdtE59kLhHwE+paqxPg3db6vlB4eHQJMnrKduzME="));
	assert_false(sign_webhook(arena, STR("secret"), STR("a"), STR("1"), STR(""), &signature));
}

/* The voice provider's form: hex HMAC over body, then timestamp. */
static void the_provider_vector_holds(void **state)
{
	struct str body = STR("{\"event\":\"call.ended\",\"call\":{\"callId\":\"3c90c3cc-0d44-4b50-8888-8dd25736052a\"}}");
	struct str message = str_format(arena, "%s2026-01-02T03:04:05.678901Z", body.p);
	(void)state;
	assert_true(str_is(hex_write(arena, sign_hmac(arena, STR("uv-test-secret"), message)),
		"c50ee8732c26b5f31edef98ad36da17ef1492731ec5e8bc33b9790e4cf30ec53"));
}

/* The carrier's form: Ed25519 over timestamp|body, seed of 32 bytes 0x01. */
static void the_carrier_vector_holds(void **state)
{
	char seed[32];
	struct str key, signature, message = STR("1700000000|{\"data\":{\"event_type\":\"call.hangup\"}}");
	(void)state;
	memset(seed, 1, sizeof seed);
	struct str s = { seed, sizeof seed };
	assert_true(str_is(b64_write(arena, sign_ed25519_public(arena, s)), "iojj3XQJ8ZX9UtstPLpdcspnCb8dlBIb83SIAbQPb1w="));
	assert_true(str_is(b64_write(arena, sign_ed25519(arena, s, message)),
		"ITSlL7fMtukwxpyQgj1u3fF/h8OV2IxPFCcWeRNHke7B9ES82j8jwB2k5TG6kbENQ31sZlWMwFPh3zkQ83qYBw=="));
	assert_true(b64_read(arena, STR("iojj3XQJ8ZX9UtstPLpdcspnCb8dlBIb83SIAbQPb1w="), &key));
	signature = sign_ed25519(arena, s, message);
	assert_true(sign_ed25519_check(key, message, signature));
	((char *)signature.p)[3] ^= 1;
	assert_false(sign_ed25519_check(key, message, signature));
}

/* Amazon's own S3 examples ("Authenticating Requests: Using Query Parameters", "... Authorization Header"). */
static void sigv4_matches_the_published_examples(void **state)
{
	struct sigv4_key key = { STR("AKIAIOSFODNN7EXAMPLE"), STR("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"), STR("us-east-1") };
	struct sigv4_request get = { .method = STR("GET"), .host = STR("examplebucket.s3.amazonaws.com"), .path = STR("/test.txt"),
		.payload_hash = STR("UNSIGNED-PAYLOAD") };
	(void)state;
	struct str query = sigv4_presign(arena, &key, &get, 1369353600, 86400);
	assert_true(str_ends(query, "X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"));
	get.query = query;
	assert_null(sigv4_check(arena, &key, &get, 1369353600 + 3600));
	assert_string_equal(sigv4_check(arena, &key, &get, 1369353600 + 86401), "AccessDenied");
	get.method = STR("PUT");
	assert_string_equal(sigv4_check(arena, &key, &get, 1369353600), "SignatureDoesNotMatch");

	struct str hash = STR("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
	struct sigv4_header headers[5] = { { STR("host"), STR("examplebucket.s3.amazonaws.com") }, { STR("range"), STR("bytes=0-9") },
		{ STR("x-amz-content-sha256"), hash }, { STR("x-amz-date"), STR("20130524T000000Z") } };
	struct sigv4_request header_get = { .method = STR("GET"), .path = STR("/test.txt"), .headers = headers, .header_count = 4,
		.payload_hash = hash };
	struct str authorization = sigv4_authorization(arena, &key, &header_get, STR("20130524T000000Z"));
	assert_true(str_ends(authorization, "Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"));
	headers[4] = (struct sigv4_header){ STR("authorization"), authorization };
	header_get.header_count = 5;
	assert_null(sigv4_check(arena, &key, &header_get, 1369353600));
	headers[1].value = STR("bytes=0-99");
	assert_string_equal(sigv4_check(arena, &key, &header_get, 1369353600), "SignatureDoesNotMatch");
}

static void a_token_is_verified_by_its_own_kind_of_key(void **state)
{
	char seed[32] = "a seed of thirty-two bytes here";
	json_t *set, *header, *claims;
	struct str s = { seed, 32 };
	(void)state;
	assert_int_equal(json_read(arena, jwt_key_set(arena, s, STR("k1")), &set), OK);
	struct jwt_keys *keys = jwt_keys_read(arena, set);
	struct str token = jwt_make(arena, s, STR("k1"), STR("{\"sub\":\"me\"}"));
	assert_true(jwt_peek(arena, token, &header, &claims));
	assert_true(jwt_signed_by(arena, token, header, keys));
	((char *)token.p)[token.n - 5] ^= 4;
	assert_false(jwt_signed_by(arena, token, header, keys));
	/* alg none and HMAC with the public key are nobody's signature */
	static const char *const heads[] = { "{\"alg\":\"none\"}", "{\"alg\":\"HS256\",\"kid\":\"k1\"}", "{\"alg\":\"RS256\",\"kid\":\"k1\"}" };
	for (int i = 0; i < 3; i++) {
		struct str h = b64url_write(arena, str_of(heads[i]));
		token = str_format(arena, "%.*s.e30.AAAA", STRF(h));
		assert_true(jwt_peek(arena, token, &header, &claims));
		assert_false(jwt_signed_by(arena, token, header, keys));
	}
}

static void a_sealed_value_opens_only_where_it_was_closed(void **state)
{
	char raw[32] = { 7 };
	struct str key = { raw, 32 }, plain, sealed = seal_close(arena, key, 1, STR("row 1"), STR("secret"));
	(void)state;
	assert_true(seal_open(arena, key, STR("row 1"), sealed, &plain) && str_is(plain, "secret"));
	assert_false(seal_open(arena, key, STR("row 2"), sealed, &plain));
	((char *)sealed.p)[20] ^= 1;
	assert_false(seal_open(arena, key, STR("row 1"), sealed, &plain));
	assert_false(seal_open(arena, key, STR("row 1"), STR("short"), &plain));
}

static void json_is_bounded_before_it_is_parsed(void **state)
{
	json_t *v;
	struct buf deep = BUF_IN(arena, 1 << 20), wide = BUF_IN(arena, 1 << 20);
	(void)state;
	for (int i = 0; i < 40; i++)
		buf_text(&deep, "{\"a\":");
	assert_int_equal(json_read(arena, buf_view(&deep), &v), FAULT_BAD_REQUEST);
	buf_text(&wide, "{\"a\":[0");
	for (int i = 0; i < 200001; i++)
		buf_text(&wide, ",0");
	buf_text(&wide, "]}");
	assert_int_equal(json_read(arena, buf_view(&wide), &v), FAULT_BAD_REQUEST);
	assert_int_equal(json_read(arena, STR("{\"a\":1,\"a\":2}"), &v), FAULT_BAD_REQUEST);
	assert_int_equal(json_read(arena, STR("{\"a\":99999999999999999999}"), &v), FAULT_BAD_REQUEST);
	assert_int_equal(json_read(arena, STR("{\"a\":\"\\u0000\"}"), &v), FAULT_BAD_REQUEST);
	assert_int_equal(json_read(arena, STR("[1]"), &v), FAULT_BAD_REQUEST);
	assert_int_equal(json_read(arena, STR("{\"a\":{\"b\":\"c\"}}"), &v), OK);
	assert_true(str_is(json_text(v, "a.b"), "c"));
}

static void only_public_addresses_are_public(void **state)
{
	static const char *const no[] = { "127.0.0.1", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254",
		"100.64.0.1", "0.0.0.0", "224.0.0.1", "255.255.255.255", "198.18.0.1", "203.0.113.5", "::1", "::", "fe80::1", "fc00::1",
		"fd12::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "2001:db8::1", "ff02::1",
		"::7f00:1", "3fff::1", "not an address" };
	static const char *const yes[] = { "8.8.8.8", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "::ffff:8.8.8.8" };
	(void)state;
	for (size_t i = 0; i < sizeof no / sizeof *no; i++)
		if (url_address_public(str_of(no[i])))
			fail_msg("%s counts as public", no[i]);
	for (size_t i = 0; i < sizeof yes / sizeof *yes; i++)
		if (!url_address_public(str_of(yes[i])))
			fail_msg("%s does not count as public", yes[i]);
}

static void urls_are_taken_apart(void **state)
{
	struct url u;
	(void)state;
	assert_true(url_read(STR("https://user@Example.com:8443/a/b?x=1#f"), &u));
	assert_true(u.user_info && u.port == 8443 && str_is(u.path, "/a/b") && str_is(u.query, "x=1"));
	assert_true(url_read(STR("http://[::1]:80"), &u) && u.ip6 && str_is(u.host, "::1") && str_is(u.path, "/"));
	assert_false(url_read(STR("ftp://x"), &u));
	assert_false(url_read(STR("https://"), &u));
	assert_false(url_read(STR("https://a b"), &u));
	assert_false(url_read(STR("https://a:0"), &u));
	assert_true(url_read(STR("https://127.0.0.1/"), &u));
	assert_non_null(url_egress_problem(&u, false));
	assert_null(url_egress_problem(&u, true));
}

static void phone_numbers_become_e164(void **state)
{
	struct str n;
	(void)state;
	assert_true(phone_read(arena, STR("+1 (555) 555-0100"), &n) && str_is(n, "+15555550100"));
	assert_false(phone_read(arena, STR("555-0100"), &n));
	assert_false(phone_read(arena, STR("+0123456789"), &n));
	assert_false(phone_read(arena, STR("+1555555010000000"), &n));
	assert_false(phone_read(arena, STR("+1555x550100"), &n));
}

struct sample {
	struct str name, mode;
	int64_t n;
	bool on;
};

static const struct shape_field sample_fields[] = {
	{ "name", SHAPE_TEXT, SHAPE_REQUIRED, 1, 5, .offset = offsetof(struct sample, name) },
	{ "mode", SHAPE_ENUM, .values = "a,b", .offset = offsetof(struct sample, mode), .preset = "a" },
	{ "n", SHAPE_INT, 0, 1, 9, .offset = offsetof(struct sample, n), .preset = "3" },
	{ "on", SHAPE_BOOL, .offset = offsetof(struct sample, on), .preset = "true" },
};
static const struct shape sample_shape = SHAPE("sample", sample_fields);

static void a_shape_gathers_every_violation(void **state)
{
	struct sample s = { 0 };
	struct shape_warning *warnings = NULL;
	json_t *body;
	uint64_t set;
	(void)state;
	assert_int_equal(json_read(arena, STR("{\"name\":\"Anna\",\"client_id\":\"x\"}"), &body), OK);
	assert_int_equal(shape_read(arena, &sample_shape, body, &s, &set, &warnings), OK);
	assert_true(str_is(s.name, "Anna") && str_is(s.mode, "a") && s.n == 3 && s.on && set == 1);
	assert_non_null(warnings);
	assert_true(str_is(warnings->field, "client_id"));
	assert_int_equal(json_read(arena, STR("{\"name\":\"Annabel\",\"mode\":\"c\",\"n\":10,\"on\":1}"), &body), OK);
	assert_int_equal(shape_read(arena, &sample_shape, body, &s, &set, &warnings), FAULT_VALIDATION_ERROR);
	const char *details = fault_note->details.p;
	assert_non_null(strstr(details, "\"name\""));
	assert_non_null(strstr(details, "\"mode\""));
	assert_non_null(strstr(details, "\"n\""));
	assert_non_null(strstr(details, "\"on\""));
}

static void blocks_hold_their_addresses(void **state)
{
	static const struct { const char *blocks, *address; bool in; } cases[] = {
		{ "10.0.0.0/8", "10.255.0.1", true }, { "10.0.0.0/8", "11.0.0.1", false }, { "192.168.1.128/25", "192.168.1.127", false },
		{ "192.168.1.128/25", "192.168.1.200", true }, { "127.0.0.1", "127.0.0.1", true }, { "127.0.0.1", "127.0.0.2", false },
		{ "x, 2001:db8::/33", "2001:db8:7fff::1", true }, { "2001:db8::/33", "2001:db8:8000::1", false },
		{ "10.0.0.0/8", "::ffff:10.1.1.1", true }, { "0.0.0.0/0", "::1", false }, { "::/0", "10.1.1.1", true }, { "", "10.1.1.1", false },
		{ "10.0.0.0/8", "zebra", false } };
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		assert_int_equal(cidr_listed(str_of(cases[i].blocks), str_of(cases[i].address)), cases[i].in);
	assert_true(cidr_valid(STR("10.0.0.0/8")) && cidr_valid(STR("::1")) && cidr_valid(STR("0.0.0.0/0")));
	assert_false(cidr_valid(STR("10.0.0.0/33")) || cidr_valid(STR("::/129")) || cidr_valid(STR("/8")) || cidr_valid(STR("10.0.0.0/")) ||
		cidr_valid(STR("10.0.0.0/-1")) || cidr_valid(STR("host")));
}

static void ids_are_ordered_by_time(void **state)
{
	(void)state;
	struct str a = uuid_make(arena);
	assert_true(uuid_valid(a));
	assert_int_equal(a.p[14], '7');
	assert_false(uuid_valid(STR("01a203e3-f079-7aca-8f40-12e4a8c2a87")));
	assert_false(uuid_valid(STR("01a203e3xf079-7aca-8f40-12e4a8c2a87b")));
}

/* A second of 8 kHz 16 bit mono silence. */
static struct str second_of_wav(void)
{
	struct buf b = BUF_IN(arena, 20000);
	buf_add(&b, "RIFF\xa4\x3e\0\0WAVEfmt \x10\0\0\0\1\0\1\0\x40\x1f\0\0\x80\x3e\0\0\2\0\x10\0data\x80\x3e\0\0", 44);
	for (int i = 0; i < 16000; i++)
		buf_char(&b, 0);
	return buf_view(&b);
}

static void audio_tells_its_length(void **state)
{
	(void)state;
	struct audio a;
	struct str one = second_of_wav(), two[] = { one, one };
	assert_true(audio_read(one, &a));
	assert_string_equal(a.format, "wav");
	assert_true(a.seconds > 0.999 && a.seconds < 1.001);
	struct str joined = audio_join_wav(arena, two, 2);
	assert_true(audio_read(joined, &a));
	assert_true(a.seconds > 1.999 && a.seconds < 2.001);
	assert_int_equal(joined.n, 44 + 32000);
	two[1] = STR("RIFF1234WAVE");
	assert_null(audio_join_wav(arena, two, 2).p);
	for (size_t n = 0; n < 60; n++)		/* cut anywhere it is no audio, or less of it */
		audio_read((struct str){ one.p, n }, &a);
	assert_false(audio_read(STR("hello"), &a));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(base64_reads_both_alphabets), cmocka_unit_test(a_webhook_is_signed_as_the_standard_says),
		cmocka_unit_test(the_provider_vector_holds), cmocka_unit_test(the_carrier_vector_holds),
		cmocka_unit_test(sigv4_matches_the_published_examples), cmocka_unit_test(a_token_is_verified_by_its_own_kind_of_key),
		cmocka_unit_test(a_sealed_value_opens_only_where_it_was_closed), cmocka_unit_test(json_is_bounded_before_it_is_parsed),
		cmocka_unit_test(only_public_addresses_are_public), cmocka_unit_test(urls_are_taken_apart),
		cmocka_unit_test(phone_numbers_become_e164), cmocka_unit_test(a_shape_gathers_every_violation),
		cmocka_unit_test(ids_are_ordered_by_time), cmocka_unit_test(audio_tells_its_length),
		cmocka_unit_test(blocks_hold_their_addresses),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
