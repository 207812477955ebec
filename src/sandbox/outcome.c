/* What happens when a number is called: the table of the documentation, and chance drawn from the
 * number itself for all others. */
#include "sandbox.h"
#include "../0_base/clock.h"
#include "../1_code/b64.h"
#include "../1_code/url.h"
#include <math.h>
#include <stdio.h>

#define RATE 8000

static const struct outcome table[] = {
	{ 0, "answered", 5, 30, NULL, NULL, NULL },
	{ 1, "answered", 5, 95, NULL, NULL, NULL },
	{ 2, "answered", 5, 600, NULL, NULL, NULL },
	{ 10, "no answer", 30, 0, "no-answer", "timeout", NULL },
	{ 11, "busy", 2, 0, "busy", "user_busy", NULL },
	{ 12, "voicemail", 8, 12, NULL, NULL, "leaveVoicemail" },
	{ 13, "declined", 4, 0, "failed", "call_rejected", NULL },
	{ 14, "screened", 5, 15, NULL, NULL, "report_call_screening" },
};
static const struct outcome by_chance[] = {
	{ -1, "answered", 5, 30, NULL, NULL, NULL },
	{ -1, "no answer", 30, 0, "no-answer", "timeout", NULL },
	{ -1, "busy", 2, 0, "busy", "user_busy", NULL },
	{ -1, "voicemail", 8, 12, NULL, NULL, "leaveVoicemail" },
	{ -1, "declined", 4, 0, "failed", "call_rejected", NULL },
	{ -1, "failed", 3, 0, "failed", "not_found", NULL },
};

/* The last two digits of a number that ends 555-01XX; -1 for any other. */
static int ends(struct str number)
{
	if (number.n < 8 || memcmp(number.p + number.n - 7, "55501", 5) != 0)
		return -1;
	return (number.p[number.n - 2] - '0') * 10 + number.p[number.n - 1] - '0';
}

const struct outcome *outcome_of(struct arena *arena, struct str number, int *ret_talk_s)
{
	int last = ends(number);
	(void)arena;
	if (last >= 0) {
		const struct outcome *o = &table[0];
		for (size_t i = 0; i < sizeof table / sizeof *table; i++)
			if (table[i].ends == last)
				o = &table[i];
		*ret_talk_s = o->talk_s;
		return o;
	}
	uint64_t dice = str_hash(number) % 10000;
	size_t kind = dice < 5500 ? 0 : dice < 7500 ? 1 : dice < 8300 ? 2 : dice < 9500 ? 3 : dice < 9800 ? 4 : 5;
	*ret_talk_s = kind == 0 ? 10 + (int)(str_hash(number) / 10000 % 231) : by_chance[kind].talk_s;
	return &by_chance[kind];
}

static void set_time(struct call *c, const char *field, int64_t at_us)
{
	char at[CLOCK_TEXT_BYTES];
	json_object_set_new(c->object, field, json_string(clock_text_us(at_us, at)));
}

/* A TeXML status callback: a form, signed by the carrier's key. */
static void carrier_says(struct call *c, const char *status, const char *cause)
{
	struct arena *arena = arena_make();
	struct buf form = BUF_IN(arena, 4096);
	if (c->callback.n) {
		struct str sid = str_format(arena, "tx-%.*s", STRF(c->id));
		buf_format(&form, "AccountSid=sandbox&CallSid=%.*s&CallStatus=%s&ConnectionId=sandbox&SequenceNumber=%d&From=", STRF(sid),
			status, c->sequence++);
		url_escape(&form, c->from, false);
		buf_text(&form, "&To=");
		url_escape(&form, c->to, false);
		buf_format(&form, "&Timestamp=%lld", (long long)(clock_now_us() / US_PER_S));
		if (cause)
			buf_format(&form, "&HangupCause=%s", cause);
		post_telnyx(c->callback, buf_view(&form));
	}
	arena_drop(arena);
}

static void bill(void *argument)
{
	struct call *c = argument;
	char text[32];
	bool spoke = json_is_string(json_object_get(c->object, "joined"));
	int steps = spoke ? (c->talk_s + 5) / 6 : 0;
	snprintf(text, sizeof text, "%ds", steps * 6);
	json_object_set_new(c->object, "billedDuration", json_string(text));
	json_object_set_new(c->object, "billingStatus", json_string(spoke ? "BILLING_STATUS_BILLED"
		: "BILLING_STATUS_FREE_ZERO_EFFECTIVE_DURATION"));
	int last = ends(c->to);
	if (last != 30)
		post_ultravox("call.billed", c->object);
	if (last == 31)
		for (int i = 0; i < 2; i++)
			post_ultravox("call.billed", c->object);
	if (last == 32) {	/* the others come only now, backwards */
		post_ultravox("call.ended", c->object);
		post_ultravox("call.joined", c->object);
		post_ultravox("call.started", c->object);
	}
}

static void tell(struct call *c, const char *event)
{
	int last = ends(c->to);
	for (int i = 0; i < (last == 31 ? 3 : 1) && last != 32; i++)
		post_ultravox(event, c->object);
}

static void end(struct call *c, const char *reason)
{
	if (!c->live)
		return;
	c->live = false;
	int64_t joined_us, now_us = clock_now_us();
	struct str joined = json_text(c->object, "joined");
	if (joined.n && clock_parse(joined, &joined_us))
		c->talk_s = (int)((now_us - joined_us) / US_PER_S);
	set_time(c, "ended", now_us);
	json_object_set_new(c->object, "endReason", json_string(reason));
	json_t *summary = joined.n ? json_string("The caller asked about opening hours and was answered.") : json_null();
	json_object_set(c->object, "shortSummary", summary);
	json_object_set_new(c->object, "summary", summary);
	c->recording_us = now_us + (ends(c->to) == 33 ? 600 : 0) * US_PER_S;
	tell(c, "call.ended");
	timer_at(now_us + 2 * US_PER_S, bill, c);
}

static void talk_over(void *argument)
{
	struct call *c = argument;
	if (!c->live)
		return;
	int64_t most = 0;
	struct str max = json_text(c->object, "maxDuration");
	str_int((struct str){ max.p, max.n ? max.n - 1 : 0 }, &most);
	bool cut = most && c->talk_s >= most;
	carrier_says(c, "completed", "normal_clearing");
	end(c, cut ? "timeout" : c->outcome->tool ? "agent_hangup" : "hangup");
}

static void ring_over(void *argument)
{
	struct call *c = argument;
	if (!c->live)
		return;
	if (c->outcome->carrier) {
		carrier_says(c, c->outcome->carrier, c->outcome->cause);
		end(c, "unjoined");
		return;
	}
	int64_t most = 0;
	struct str max = json_text(c->object, "maxDuration");
	if (max.n && str_int((struct str){ max.p, max.n - 1 }, &most) && c->talk_s > most)
		c->talk_s = (int)most;
	carrier_says(c, "in-progress", NULL);
	set_time(c, "joined", clock_now_us());
	tell(c, "call.joined");
	timer_at(clock_now_us() + c->talk_s * US_PER_S, talk_over, c);
}

static void ring(void *argument)
{
	struct call *c = argument;
	if (c->live)
		carrier_says(c, "ringing", NULL);
}

void outcome_start(struct call *c)
{
	tell(c, "call.started");
	carrier_says(c, "initiated", NULL);
	timer_at(c->created_us + US_PER_S, ring, c);
	timer_at(c->created_us + c->outcome->ring_s * US_PER_S, ring_over, c);
}

void outcome_hang_up(struct call *c, const char *reason)
{
	bool spoke = json_is_string(json_object_get(c->object, "joined"));
	carrier_says(c, spoke ? "completed" : "canceled", spoke ? "normal_clearing" : "originator_cancel");
	end(c, spoke ? reason : "unjoined");
}

static json_t *message(const struct call *c, int index, const char *role, const char *text, const char *tool, int start, int stop)
{
	char from[16], to[16];
	snprintf(from, sizeof from, "%ds", start);
	snprintf(to, sizeof to, "%ds", stop);
	json_t *m = json_pack("{s:s,s:s,s:s,s:s,s:i,s:{s:s,s:s}}", "role", role, "text", text, "medium", "MESSAGE_MEDIUM_VOICE",
		"callStageId", c->id.p, "callStageMessageIndex", index, "timespan", "start", from, "end", to);
	if (tool) {
		json_object_set_new(m, "toolName", json_string(tool));
		json_object_set_new(m, "invocationId", json_string("inv-1"));
	}
	return m;
}

json_t *outcome_messages(const struct call *c)
{
	static const char *const lines[] = { "Hello, this is the assistant of the office. How can I help?",
		"Hi. Are you open on Saturday?", "We are, from nine until one.", "And is there parking?",
		"Yes, behind the building, free of charge.", "Great, thank you. Goodbye." };
	json_t *list = json_array();
	if (!json_is_string(json_object_get(c->object, "joined")))
		return list;
	if (c->outcome->tool) {
		json_array_append_new(list, message(c, 0, "MESSAGE_ROLE_USER", "Please leave a message after the tone.", NULL, 0, 4));
		json_array_append_new(list, message(c, 1, "MESSAGE_ROLE_TOOL_CALL", "{}", c->outcome->tool, 5, 5));
		json_array_append_new(list, message(c, 2, "MESSAGE_ROLE_TOOL_RESULT", "ok", c->outcome->tool, 5, 6));
		return list;
	}
	for (int i = 0; i < 6; i++)
		json_array_append_new(list, message(c, i, i % 2 ? "MESSAGE_ROLE_USER" : "MESSAGE_ROLE_AGENT", lines[i], NULL,
			i * c->talk_s / 6, (i + 1) * c->talk_s / 6));
	return list;
}

static void little(struct buf *b, uint32_t v, int bytes)
{
	for (int i = 0; i < bytes; i++)
		buf_char(b, (char)(v >> 8 * i));
}

/* Two voices as two tones, taking turns: audible proof that the file is this call's. */
struct str outcome_recording(struct arena *arena, const struct call *c)
{
	uint32_t samples = (uint32_t)(c->talk_s > 0 ? c->talk_s : 1) * RATE, bytes = samples * 2;
	struct buf b = BUF_IN(arena, (size_t)bytes + 64);
	buf_text(&b, "RIFF");
	little(&b, 36 + bytes, 4);
	buf_text(&b, "WAVEfmt ");
	little(&b, 16, 4), little(&b, 1, 2), little(&b, 1, 2), little(&b, RATE, 4), little(&b, RATE * 2, 4);
	little(&b, 2, 2), little(&b, 16, 2);
	buf_text(&b, "data");
	little(&b, bytes, 4);
	static int16_t tone[2][RATE];	/* one second of each voice, whole periods */
	for (int i = 0; i < RATE; i++) {
		tone[0][i] = (int16_t)(6000 * sin(2 * M_PI * 220 * i / RATE));
		tone[1][i] = (int16_t)(6000 * sin(2 * M_PI * 330 * i / RATE));
	}
	for (uint32_t s = 0; s < samples / RATE; s++)
		buf_add(&b, tone[s * 6 / (samples / RATE) % 2], sizeof tone[0]);
	return buf_view(&b);
}
