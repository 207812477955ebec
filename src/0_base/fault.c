/* The fault table and the note of the running fiber. */
#include "fault.h"
#include <stdarg.h>
#include <stdio.h>

const struct fault_row fault_rows[FAULT_COUNT] = {
	[OK] = { 200, "ok", "" },
#define FAULT(name, status, code, when) [FAULT_##name] = { status, code, when },
#include "../../tbl/faults.def"
#undef FAULT
};

#define DETAIL_BYTES 16384

static struct fault_note base_note = { .details = { .max = DETAIL_BYTES } };
struct fault_note *fault_note = &base_note;

void fault_clear(struct arena *arena)
{
	fault_note->fault = OK;
	fault_note->retry_after_s = 0;
	fault_note->message[0] = 0;
	buf_fini(&fault_note->details);
	fault_note->details = BUF_IN(arena, DETAIL_BYTES);
}

enum fault fault_raise(enum fault fault, const char *format, ...)
{
	va_list ap;
	char whole[4 * sizeof fault_note->message];	/* cut behind a whole character: the message goes out as JSON */
	va_start(ap, format);
	vsnprintf(whole, sizeof whole, format, ap);
	va_end(ap);
	struct str kept = str_clip(str_of(whole), sizeof fault_note->message - 1);
	memcpy(fault_note->message, kept.p, kept.n);
	fault_note->message[kept.n] = 0;
	fault_note->fault = fault;
	fault_note->details.n = 0;
	fault_note->retry_after_s = 0;
	return fault;
}

static void detail_key(const char *key)
{
	struct buf *d = &fault_note->details;
	if (d->n)
		buf_char(d, ',');
	buf_json(d, str_of(key));
	buf_char(d, ':');
}

void fault_detail(const char *key, struct str value)
{
	if (fault_note->details.n + strlen(key) + value.n * 6 + 8 > DETAIL_BYTES)
		return;		/* whole members or none */
	detail_key(key);
	buf_json(&fault_note->details, value);
}

void fault_detail_int(const char *key, int64_t value)
{
	detail_key(key);
	buf_int(&fault_note->details, value);
}

enum fault fault_field(const char *field, const char *reason)
{
	enum fault fault = fault_raise(FAULT_VALIDATION_ERROR, "Some fields break a rule; details names each");
	fault_detail(field, str_of(reason));
	return fault;
}
