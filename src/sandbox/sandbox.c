/* The sandbox's front: faults and the request log around the API, and the control routes. */
#include "sandbox.h"
#include "../0_base/clock.h"
#include "../0_base/die.h"
#include "../0_base/log.h"
#include "../1_code/url.h"
#include "../2_io/fiber.h"
#include "../2_io/loop.h"
#include <fnmatch.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define BODY_BYTES ((size_t)16 << 20)
#define TEXT_BYTES ((size_t)4 << 20)
#define LOG_BYTES ((size_t)64 << 20)
#define TICK_MS 5
#define HANG_MS 120000

struct entry {
	struct entry *next;
	int64_t n;
	size_t size;
	char *path;
	char text[];
};

struct fault_rule {
	struct fault_rule *next;
	char *match;
	char mode[16];
	int status, left;
	int64_t delay_ms;
};

static struct entry *log_first, **log_last = &log_first;
static size_t log_bytes;
static int64_t log_count;
static struct fault_rule *rules;

static void remember(struct http_request *r, struct str body)
{
	struct buf b = { .max = BODY_BYTES * 2 };
	char at[CLOCK_TEXT_BYTES];
	buf_format(&b, "{\"n\":%lld,\"at\":\"%s\",\"method\":\"%.*s\",\"path\":", (long long)++log_count,
		clock_text(clock_now_us(), at), STRF(r->method));
	buf_json(&b, r->target);
	buf_text(&b, ",\"headers\":{");
	const char *comma = "";
	for (struct http_header *h = r->headers; h; h = h->next, comma = ",") {
		buf_text(&b, comma);
		buf_json(&b, h->name);
		buf_char(&b, ':');
		buf_json(&b, str_is(h->name, "x-api-key") || str_is(h->name, "xi-api-key") || str_is(h->name, "authorization")
			? STR("***") : h->value);
	}
	buf_format(&b, "},\"status\":%d,\"body\":", r->reply_break ? 0 : r->status);
	buf_json(&b, str_starts(http_header(r, "content-type"), "multipart/") ? form_names(r, body) : str_utf8(body) && body.n < TEXT_BYTES
		? body : STR("(binary)"));
	buf_text(&b, ",\"answer\":");
	buf_json(&b, str_utf8(r->reply_body) ? r->reply_body : STR("(binary)"));
	buf_char(&b, '}');
	struct entry *e = must_alloc(sizeof *e + b.n + 1);
	memcpy(e->text, b.p, b.n);
	e->n = log_count;
	e->size = b.n;
	e->path = strndup(r->path.p, r->path.n);
	buf_fini(&b);
	*log_last = e;
	log_last = &e->next;
	log_bytes += e->size;
	while (log_bytes > LOG_BYTES && log_first->next) {
		struct entry *old = log_first;
		log_first = old->next;
		log_bytes -= old->size;
		free(old->path);
		free(old);
	}
}

static void control_requests(struct http_request *r)
{
	int64_t since = 0;
	struct str path = url_query(r->arena, r->query, "path");
	struct buf b = BUF_IN(r->arena, LOG_BYTES * 2);
	str_int(url_query(r->arena, r->query, "since"), &since);
	buf_char(&b, '[');
	for (struct entry *e = log_first; e; e = e->next)
		if (e->n > since && (!path.n || fnmatch(path.p, e->path, 0) == 0)) {
			buf_text(&b, b.n > 1 ? ",\n" : "");
			buf_add(&b, e->text, e->size);
		}
	buf_char(&b, ']');
	http_reply(r, 200, "application/json", buf_view(&b));
}

static void control_calls(struct http_request *r)
{
	struct buf b = BUF_IN(r->arena, LOG_BYTES * 2);
	buf_char(&b, '[');
	for (struct call *c = calls_first; c; c = c->next) {
		const json_t *o = c->object;
		buf_text(&b, b.n > 1 ? ",\n" : "");
		struct str metadata = json_dump(r->arena, json_object_get(o, "metadata"));
		buf_format(&b, "{\"id\":\"%.*s\",\"to\":\"%.*s\",\"outcome\":\"%s\",\"metadata\":%.*s,\"created\":", STRF(c->id),
			STRF(c->to), c->outcome->name, STRF(metadata));
		static const char *const fields[][2] = { { "", "created" }, { ",\"joined\":", "joined" }, { ",\"ended\":", "ended" },
			{ ",\"reason\":", "endReason" }, { ",\"billed\":", "billedDuration" } };
		for (int i = 0; i < 5; i++) {
			buf_text(&b, fields[i][0]);
			buf_json(&b, json_text(o, fields[i][1]));
		}
		buf_char(&b, '}');
	}
	buf_char(&b, ']');
	http_reply(r, 200, "application/json", buf_view(&b));
}

/* What is planted, and how often it is left. */
static void list_faults(struct http_request *r)
{
	struct buf b = BUF_IN(r->arena, 1 << 20);
	buf_char(&b, '[');
	for (struct fault_rule *f = rules; f; f = f->next) {
		buf_text(&b, b.n > 1 ? ",{\"match\":" : "{\"match\":");
		buf_json(&b, str_of(f->match));
		buf_format(&b, ",\"mode\":\"%s\",\"left\":%d}", f->mode, f->left);
	}
	buf_char(&b, ']');
	http_reply(r, 200, "application/json", buf_view(&b));
}

static void control_faults(struct http_request *r, const json_t *in)
{
	if (str_is(r->method, "GET")) {
		list_faults(r);
		return;
	}
	if (str_is(r->method, "DELETE")) {
		rules = NULL;
		http_reply(r, 204, NULL, STR(""));
		return;
	}
	static const char *const modes[] = { "status", "delay", "drop_before", "drop_after", "garbage", "cut", "cut_whole" };
	struct str match = json_text(in, "match"), mode = json_text(in, "mode");
	bool known = false;
	for (int i = 0; i < (int)(sizeof modes / sizeof *modes); i++)
		known |= str_is(mode, modes[i]);
	if (!match.n || !known) {
		http_reply(r, 422, "application/json", STR("{\"detail\":\"match is required, and mode: status, delay, "
			"drop_before, drop_after, garbage, cut or cut_whole\"}"));
		return;
	}
	struct fault_rule *f = must_alloc(sizeof *f);
	json_t *status = json_object_get(in, "status"), *times = json_object_get(in, "times");
	*f = (struct fault_rule){ .match = strdup(match.p),
		.status = json_is_integer(status) ? (int)json_integer_value(status) : 500,
		.left = json_is_integer(times) ? (int)json_integer_value(times) : 1,
		.delay_ms = json_integer_value(json_object_get(in, "delay_ms")) };
	snprintf(f->mode, sizeof f->mode, "%.*s", STRF(mode));
	struct fault_rule **last = &rules;
	while (*last)
		last = &(*last)->next;
	*last = f;
	http_reply(r, 201, "application/json", STR("{}"));
}

static void control_clock(struct http_request *r, const json_t *in)
{
	char now[CLOCK_TEXT_BYTES], next[CLOCK_TEXT_BYTES];
	int64_t at_us = 0;
	json_t *by = json_object_get(in, "advance_seconds");
	if (json_is_number(by))
		at_us = clock_now_us() + (int64_t)(json_number_value(by) * 1e6);
	else
		clock_parse(json_text(in, "set"), &at_us);
	if (at_us && at_us < clock_now_us() && clock_is_test()) {
		http_reply(r, 422, "application/json", STR("{\"detail\":\"the clock does not go backwards\"}"));
		return;
	}
	if (at_us && !clock_is_test())
		clock_freeze(at_us);	/* whoever moves it owns it from now on */
	if (at_us)
		timer_run_due(at_us);
	int64_t next_us = timer_next();
	http_reply(r, 200, "application/json", str_format(r->arena, "{\"now\":\"%s\",\"idle\":%s,\"next\":%s%s%s}",
		clock_text_us(clock_now_us(), now), fiber_busy() <= 1 && (!next_us || next_us > clock_now_us()) ? "true" : "false",
		next_us ? "\"" : "", next_us ? clock_text_us(next_us, next) : "null", next_us ? "\"" : ""));
}

static void control(struct http_request *r, struct str body)
{
	json_t *in = NULL;
	struct str what = str_from(r->path, strlen("/_sandbox/"));
	if (body.n && json_read(r->arena, body, &in) != OK) {
		http_reply(r, 400, "application/json", STR("{\"detail\":\"bad JSON\"}"));
	} else if (str_is(what, "requests")) {
		control_requests(r);
	} else if (str_is(what, "calls")) {
		control_calls(r);
	} else if (str_is(what, "faults")) {
		control_faults(r, in);
	} else if (str_is(what, "clock")) {
		control_clock(r, in);
	} else if (str_is(what, "destinations")) {
		if (json_text(in, "telnyx").n)
			post_telnyx_to(json_text(in, "telnyx"));
		if (json_text(in, "stripe").n)
			post_stripe_to(json_text(in, "stripe"));
		http_reply(r, 200, "application/json", str_format(r->arena, "{\"telnyx\":{\"public_key\":\"%.*s\"},"
			"\"stripe\":{\"secret\":\"" STRIPE_SECRET "\"}}",
			STRF(post_telnyx_key(r->arena))));
	} else if (str_is(what, "inbound")) {
		ultravox_ring(r, json_text(in, "agent_id"), json_text(in, "from"), json_text(in, "to"));
	} else if (str_starts(what, "stripe/")) {
		stripe_control(r, str_from(what, 7), in);
	} else if (str_is(what, "limits")) {
		ultravox_limits(json_integer_value(json_object_get(in, "calls_per_second")),
			json_integer_value(json_object_get(in, "calls_per_minute")), json_integer_value(json_object_get(in, "concurrent_calls")));
		http_reply(r, 200, "application/json", STR("{}"));
	} else if (str_is(what, "events")) {
		json_t *drop = json_object_get(in, "drop");
		post_chaos(json_integer_value(json_object_get(in, "duplicate")), json_is_true(json_object_get(in, "shuffle")),
			json_number_value(drop), json_integer_value(json_object_get(in, "seed")));
		http_reply(r, 200, "application/json", STR("{}"));
	} else {
		http_reply(r, 404, "application/json", STR("{\"detail\":\"requests, calls, faults, clock, limits, events or destinations\"}"));
	}
}

static struct fault_rule *rule_for(struct http_request *r)
{
	struct str line = str_format(r->arena, "%.*s %.*s", STRF(r->method), STRF(r->path));
	for (struct fault_rule *f = rules; f; f = f->next)
		if (f->left > 0 && fnmatch(f->match, line.p, FNM_PATHNAME) == 0) {
			f->left--;
			return f;
		}
	return NULL;
}

/* Half of the body, then the connection breaks. */
static void cut(struct http_request *r)
{
	struct str half = { r->reply_body.p, r->reply_body.n / 2 };
	int fd = memfd_create("cut", MFD_CLOEXEC);
	if (fd < 0 || write(fd, half.p, half.n) != (ssize_t)half.n)
		die("no memory for a fault");
	r->reply_fd = fd;
	r->reply_length = (int64_t)r->reply_body.n;
}

static void handle(struct http_request *r)
{
	struct str body;
	bool hang = false;
	if (http_read_body(r, BODY_BYTES, &body) != OK) {
		http_reply(r, 413, "application/json", STR("{\"detail\":\"too large\"}"));
		return;
	}
	if (str_starts(r->path, "/_sandbox/")) {
		control(r, body);
		return;
	}
	struct fault_rule *f = rule_for(r);
	if (f && strcmp(f->mode, "cut_whole") == 0)	/* and it knows no ranges */
		for (struct http_header *h = r->headers; h; h = h->next)
			if (str_is(h->name, "range"))
				h->name = STR("x-range");
	if (f && f->delay_ms) {
		fiber_rest();
		fiber_sleep_ms(f->delay_ms);
	}
	if (f && strcmp(f->mode, "status") == 0)
		http_reply(r, f->status, "application/json", STR("{\"detail\":\"a planted fault\"}"));
	else if (f && strcmp(f->mode, "drop_before") == 0)
		r->reply_break = true;
	else if (!ultravox_handle(r, body, &hang) && !upload_handle(r, body) && !telnyx_handle(r, body) && !elevenlabs_handle(r, body) &&
	    !stripe_handle(r, body))
		http_reply(r, 404, "application/json", STR("{\"detail\":\"Not found.\"}"));
	if (f && strcmp(f->mode, "drop_after") == 0)
		r->reply_break = true;
	if (f && strcmp(f->mode, "garbage") == 0)
		r->reply_body = STR("<html>502 Bad Gateway {\"callId\":");
	if (f && strncmp(f->mode, "cut", 3) == 0)
		cut(r);
	r->reply_break |= hang;
	remember(r, body);
	if (hang) {
		fiber_rest();
		fiber_sleep_ms(HANG_MS);
	}
}

static void tick(void)
{
	timer_run_due(clock_now_us());	/* on a frozen clock: what was born due */
}

static void stop(int number)
{
	(void)number;
	loop_stop();
}

void sandbox_run(int fd, const char *public_url, bool test_clock, int64_t frozen_us)
{
	(void)public_url;
	if (test_clock)
		clock_freeze(frozen_us);
	loop_on_signal(SIGTERM, stop);
	loop_on_signal(SIGINT, stop);
	loop_every_ms(TICK_MS, tick);
	http_serve(fd, handle);
	loop_run();
}
