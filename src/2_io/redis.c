/* hiredis, asynchronous. */
#include "redis.h"
#include "fiber.h"
#include "loop_uv.h"
#include "../0_base/clock.h"
#include "../0_base/die.h"
#include "../0_base/log.h"
#include "../1_code/b64.h"
#include <hiredis/async.h>
#include <hiredis/adapters/libuv.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>

#define WAIT_MS 100
#define AGAIN_US (500 * US_PER_MS)	/* between two attempts to connect */
#define MOST_NUMBERS 8

static char host[256], password[256];
static int port = 6379, database;
static redisAsyncContext *connection;
static int64_t tried_us;

struct call {
	struct fiber *fiber;
	bool answered, left, missing;	/* left: the fiber gave up, the answer frees the call */
	int64_t out[MOST_NUMBERS];
	size_t n;
};

void redis_open(struct str url)
{
	struct str rest = url, at;
	int64_t n;
	if (!str_starts(url, "redis://"))
		die("redis_url must be redis://[:PASSWORD@]HOST[:PORT][/DB]");
	rest = str_from(rest, 8);
	if (memchr(rest.p, '@', rest.n)) {
		at = str_cut(&rest, '@');
		str_cut(&at, ':');
		snprintf(password, sizeof password, "%.*s", STRF(at));
	}
	struct str path = rest, where = str_cut(&path, '/');
	struct str number = where, name = str_cut(&number, ':');
	snprintf(host, sizeof host, "%.*s", STRF(name));
	if (number.n && memchr(where.p, ':', where.n) && (!str_int(number, &n) || n < 1 || n > 65535))
		die("redis_url: the port must be 1..65535");
	port = number.n && memchr(where.p, ':', where.n) ? (int)n : 6379;
	database = path.n && path.p != rest.p && str_int(path, &n) ? (int)n : 0;
	if (!*host)
		die("redis_url names no host");
}

bool redis_configured(void) { return *host; }

static void on_disconnect(const redisAsyncContext *c, int status)
{
	(void)status;
	if (connection == c)
		connection = NULL;
}

static void on_connect(const redisAsyncContext *c, int status)
{
	if (status == REDIS_OK)
		return;
	log_line(LOG_WARN, "redis is away", "reason", c->errstr, NULL);
	if (connection == c)
		connection = NULL;
}

static enum fault connect_now(void)
{
	int64_t now_us = clock_real_us();
	if (connection)
		return OK;
	if (now_us - tried_us < AGAIN_US)
		return fault_raise(FAULT_IO, "Redis is away");
	tried_us = now_us;
	redisAsyncContext *c = redisAsyncConnect(host, port);
	if (!c || c->err) {
		if (c)
			redisAsyncFree(c);
		return fault_raise(FAULT_IO, "Redis cannot be reached");
	}
	redisLibuvAttach(c, loop_uv());
	redisAsyncSetConnectCallback(c, on_connect);
	redisAsyncSetDisconnectCallback(c, on_disconnect);
	connection = c;
	if (*password)
		redisAsyncCommand(c, NULL, NULL, "AUTH %s", password);
	if (database)
		redisAsyncCommand(c, NULL, NULL, "SELECT %d", database);
	return OK;
}

static void on_answer(redisAsyncContext *c, void *answer, void *data)
{
	struct call *call = data;
	redisReply *r = answer;
	(void)c;
	if (call->left) {
		free(call);
		return;
	}
	call->missing = r && r->type == REDIS_REPLY_ERROR && strncmp(r->str, "NOSCRIPT", 8) == 0;
	for (size_t i = 0; r && r->type == REDIS_REPLY_ARRAY && i < r->elements && i < MOST_NUMBERS; i++)
		call->out[call->n++] = r->element[i]->integer;
	call->answered = true;
	fiber_wake(call->fiber);
}

static const char *digest_of(const char *script)
{
	static const char *known;
	static char hex[41];
	unsigned char raw[20];
	if (known == script)
		return hex;
	SHA1((const unsigned char *)script, strlen(script), raw);
	for (int i = 0; i < 20; i++)
		snprintf(hex + 2 * i, 3, "%02x", raw[i]);
	known = script;
	return hex;
}

static enum fault ask(const char *verb, const char *script, struct str key, const int64_t *in, size_t n, struct call **ret)
{
	const char *argv[4 + MOST_NUMBERS] = { verb, script, "1", key.p };
	size_t lengths[4 + MOST_NUMBERS] = { strlen(verb), strlen(script), 1, key.n };
	char numbers[MOST_NUMBERS][24];
	TRY(connect_now());
	for (size_t i = 0; i < n; i++) {
		lengths[4 + i] = (size_t)snprintf(numbers[i], sizeof numbers[i], "%lld", (long long)in[i]);
		argv[4 + i] = numbers[i];
	}
	struct call *call = must_alloc(sizeof *call);
	*call = (struct call){ .fiber = fiber_current() };
	if (redisAsyncCommandArgv(connection, on_answer, call, (int)(4 + n), argv, lengths) != REDIS_OK) {
		free(call);
		return fault_raise(FAULT_IO, "Redis is away");
	}
	int64_t until_us = clock_real_us() + WAIT_MS * US_PER_MS;
	while (!call->answered && clock_real_us() < until_us)
		fiber_park_ms((until_us - clock_real_us()) / US_PER_MS + 1);
	if (!call->answered) {
		call->left = true;
		return fault_raise(FAULT_IO, "Redis does not answer");
	}
	*ret = call;
	return OK;
}

enum fault redis_eval(const char *script, struct str key, const int64_t *in, size_t n, int64_t *ret_out, size_t out_n)
{
	struct call *call;
	bug_unless(n <= MOST_NUMBERS && out_n <= MOST_NUMBERS);
	TRY(ask("EVALSHA", digest_of(script), key, in, n, &call));
	if (call->missing) {
		free(call);
		TRY(ask("EVAL", script, key, in, n, &call));
	}
	bool whole = call->n >= out_n;
	memcpy(ret_out, call->out, out_n * sizeof *ret_out);
	free(call);
	return whole ? OK : fault_raise(FAULT_IO, "Redis answered something else");
}
