/* The log writer. */
#include "log.h"
#include "clock.h"
#include <errno.h>
#include <stdarg.h>
#include <unistd.h>

#define LINE_BYTES 4000
#define GATHER_BYTES 65536

static const char *const level_names[] = { "debug", "info", "warn", "error" };
static enum log_level least = LOG_INFO;
static bool gathering;
static char gathered[GATHER_BYTES];
static size_t gathered_n;
static uint64_t dropped;

void log_level_set(struct str name)
{
	for (int i = 0; i < 4; i++)
		if (str_is(name, level_names[i]))
			least = (enum log_level)i;
}

void log_buffered(bool on) { gathering = on; }
uint64_t log_dropped(void) { return dropped; }

static void write_out(const char *p, size_t n)
{
	while (n) {	/* whole lines of at most PIPE_BUF, so readers never see halves mixed */
		size_t part = n;
		if (part > LINE_BYTES + 96) {
			part = LINE_BYTES + 96;
			while (part && p[part - 1] != '\n')
				part--;
		}
		ssize_t done = write(STDERR_FILENO, p, part);
		if (done < 0 && errno == EINTR)
			continue;
		if (done < 0) {
			for (size_t i = 0; i < n; i++)
				dropped += p[i] == '\n';
			return;
		}
		p += done, n -= (size_t)done;
	}
}

void log_flush(void)
{
	write_out(gathered, gathered_n);
	gathered_n = 0;
}

static void emit(struct buf *line)
{
	buf_text(line, "}\n");
	if (line->full) {
		dropped++;
		return;
	}
	if (!gathering) {
		write_out(line->p, line->n);
		return;
	}
	if (gathered_n + line->n > sizeof gathered)
		log_flush();
	memcpy(gathered + gathered_n, line->p, line->n);
	gathered_n += line->n;
}

static struct buf line_start(enum log_level level, const char *message, char *space)
{
	char at[CLOCK_TEXT_BYTES];
	struct buf line = { .p = space, .cap = LINE_BYTES + 1, .max = LINE_BYTES - 4 };
	buf_text(&line, "{\"timestamp\":\"");
	buf_text(&line, clock_text(clock_now_us(), at));
	buf_text(&line, "\",\"level\":\"");
	buf_text(&line, level_names[level]);
	buf_text(&line, "\",\"message\":");
	buf_json(&line, str_of(message));
	return line;
}

void log_members(enum log_level level, const char *message, struct str members)
{
	char space[LINE_BYTES + 1];
	if (level < least)
		return;
	struct buf line = line_start(level, message, space);
	buf_str(&line, members);
	line.max = LINE_BYTES;
	emit(&line);
}

void log_line(enum log_level level, const char *message, ...)
{
	char space[LINE_BYTES + 1];
	if (level < least)
		return;
	struct buf line = line_start(level, message, space);
	va_list ap;
	va_start(ap, message);
	const char *name;
	while ((name = va_arg(ap, const char *))) {
		const char *value = va_arg(ap, const char *);
		if (!value)
			continue;
		buf_char(&line, ',');
		buf_json(&line, str_of(name + (*name == '#')));
		buf_char(&line, ':');
		if (*name == '#')
			buf_text(&line, value);
		else	/* a long value is cut, never the line */
			buf_json(&line, (struct str){ value, strnlen(value, 600) });
	}
	va_end(ap);
	line.max = LINE_BYTES;
	emit(&line);
}
