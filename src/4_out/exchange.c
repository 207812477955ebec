/* Pacing, circuits, the log and the counters of what goes to providers. */
#include "exchange.h"
#include "../0_base/clock.h"
#include "../0_base/die.h"
#include "../0_base/log.h"
#include "../1_code/uuid.h"
#include "../2_io/fiber.h"
#include "../2_io/shared.h"
#include "../3_core/config.h"
#include "../3_core/limit.h"
#include <stdio.h>

#define CIRCUITS 64
#define FAILURES_IN_A_ROW 20
#define OPEN_US (30 * US_PER_S)

static const struct {
	const char *name, *provider, *method, *path;
} operations[] = {
#define OPERATION(name, provider, method, path, repeat) { #name, #provider, method, path },
#include "../../tbl/operations.def"
#undef OPERATION
};

/* An account as this process sees it. Closed: requests pass. Open: none until `until_us`; then one probes, and its end decides. */
static struct circuit {
	uint64_t account;
	int failures;
	int64_t until_us;
	bool probing;
} circuits[CIRCUITS];

static bool fits(const char *pattern, struct str path)
{
	struct str want = str_of(pattern);
	while (want.n && path.n) {
		struct str w = str_cut(&want, '/'), p = str_cut(&path, '/');
		if (str_is(w, "*") ? !p.n : !str_eq(w, p))
			return false;
	}
	return !want.n && !path.n;
}

static enum operation operation_of(const struct provider_at *at, const char *method, const char *path)
{
	struct str rest = str_of(path), plain = str_cut(&rest, '?');
	for (int i = 0; i < OPERATION_COUNT; i++)
		if (strcmp(operations[i].method, method) == 0 && strcmp(operations[i].provider, at->provider) == 0 &&
		    fits(operations[i].path, plain))
			return (enum operation)i;
	bug("an operation that tbl/operations.def does not list");
}

static struct circuit *circuit_of(const struct provider_at *at)
{
	uint64_t account = str_hash(at->base_url) * 31 + str_hash(at->key);
	struct circuit *c = &circuits[account % CIRCUITS];
	if (c->account != account)	/* two accounts in one place: the later one begins anew */
		*c = (struct circuit){ .account = account };
	return c;
}

static enum fault circuit_enter(struct circuit *c, struct fetch *f)
{
	int64_t left_us = c->until_us - clock_now_us();
	if (!c->until_us)
		return OK;
	if (left_us > 0 || c->probing) {
		f->sent = false;
		f->status = 0;
		f->retry_after_s = left_us > 0 ? (int)((left_us + US_PER_S - 1) / US_PER_S) : 1;
		enum fault fault = fault_raise(FAULT_CONNECT, "The provider fails; it is asked again in a moment");
		fault_note->retry_after_s = f->retry_after_s;
		return fault;
	}
	c->probing = true;
	return OK;
}

static void circuit_leave(struct circuit *c, uint64_t account, bool failed)
{
	if (c->account != account)
		return;
	c->failures = failed ? c->failures + 1 : 0;
	if (!failed) {
		c->until_us = 0;
	} else if (c->probing || c->failures == FAILURES_IN_A_ROW) {
		c->until_us = clock_now_us() + OPEN_US;
		metric_add(METRIC_provider_circuits_opened, 1);
	}
	c->probing = false;
}

/* Waits on the real clock, as the provider counts. */
static void pace(const struct provider_at *at)
{
	char key[64];
	snprintf(key, sizeof key, "pace:%s:%016llx", at->provider, (unsigned long long)str_hash(at->key));
	for (bool first = true; at->per_second > 0; first = false) {
		struct limit_answer a = limit_take(str_of(key), at->per_second, at->per_second, true);
		if (a.allowed)
			return;
		if (first)
			metric_add(METRIC_provider_paced, 1);
		fiber_sleep_ms(a.wait_us / US_PER_MS + 1);
	}
}

enum fault provider_exchange(struct arena *arena, const struct provider_at *at, const char *path, struct fetch *f)
{
	enum operation operation = operation_of(at, f->method, path);
	struct circuit *c = circuit_of(at);
	uint64_t account = c->account;
	char status[16], took[24];
	TRY(circuit_enter(c, f));
	pace(at);
	f->url = str_format(arena, "%.*s%s", STRF(at->base_url), path);
	f->timeout_ms = f->timeout_ms ? f->timeout_ms : config.provider_timeout_ms;
	int64_t started_us = clock_real_us();
	metric_add(METRIC_provider_requests, 1);
	enum fault fault = fetch_run(arena, f);
	f->headers = NULL;	/* they may be the caller's own, and secret */
	int64_t took_us = clock_real_us() - started_us;
	bool failed = fault != OK || f->status >= 500;
	circuit_leave(c, account, failed && f->status != 500);	/* a 500 answers: it is about the request, not the account */
	metric_operation(operation, failed ? FAILED : f->status >= 400 ? REFUSED : ANSWERED, took_us / US_PER_MS);
	if (fault != OK || f->status >= 400)
		metric_add(METRIC_provider_errors, 1);
	snprintf(status, sizeof status, "%d", f->status);
	snprintf(took, sizeof took, "%.3f", (double)took_us / 1000);
	log_line(failed || f->status >= 400 ? LOG_WARN : LOG_INFO, "provider", "provider", at->provider, "operation",
		operations[operation].name,
		"method", f->method, "path", operations[operation].path, "#status_code", status, "#duration_ms", took, "request_id",
		at->request_id.p, "reason", fault == OK ? NULL : fault_note->message, NULL);
	return fault;
}

int64_t provider_pause_us(int64_t tries, int retry_after_s)
{
	unsigned char dice;
	int64_t us = 500000;
	for (int64_t i = 1; i < tries && us < 10 * US_PER_S; i++)
		us *= 2;
	us = us < 10 * US_PER_S ? us : 10 * US_PER_S;
	random_bytes(&dice, 1);
	us += us * 3 * dice / 2550;
	return retry_after_s > 0 && retry_after_s * US_PER_S > us ? retry_after_s * US_PER_S : us;
}

struct str form_write(struct arena *arena, const struct form_part *parts, size_t n, struct str *ret_content_type)
{
	size_t room = 1024;
	struct str boundary = uuid_make(arena);
	for (size_t i = 0; i < n; i++)
		room += parts[i].value.n + parts[i].file_name.n * 3 + 512;
	struct buf b = BUF_IN(arena, room);
	for (size_t i = 0; i < n; i++) {
		const struct form_part *p = &parts[i];
		buf_format(&b, "--%.*s\r\nContent-Disposition: form-data; name=\"%s\"", STRF(boundary), p->name);
		if (p->file_name.p)
			buf_format(&b, "; filename=\"%.*s\"\r\nContent-Type: %.*s", STRF(p->file_name), STRF(p->type));
		buf_text(&b, "\r\n\r\n");
		buf_str(&b, p->value);
		buf_text(&b, "\r\n");
	}
	buf_format(&b, "--%.*s--\r\n", STRF(boundary));
	*ret_content_type = str_format(arena, "multipart/form-data; boundary=%.*s", STRF(boundary));
	return buf_view(&b);
}
