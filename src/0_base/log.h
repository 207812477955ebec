/* JSON log lines on stderr, one a line, at most 4 KiB so that a pipe keeps them whole. Lines
 * gather in a buffer that the loop flushes once a turn; a full pipe drops and counts.
 * Nothing secret and no telephone number, name or prompt is ever passed here. */
#ifndef TL_LOG_H
#define TL_LOG_H

#include "buf.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };

void log_level_set(struct str name);	/* debug, info, warn, error; unknown names change nothing */
void log_buffered(bool on);		/* gather until log_flush */
void log_flush(void);
uint64_t log_dropped(void);

/* One line. `fields` alternate name and value as text, ended by NULL; a name that begins with
 * '#' has a value that is JSON already (numbers). NULL values are left out. */
void log_line(enum log_level level, const char *message, ...) __attribute__((sentinel));
/* The same from a ready list of members (",\"k\":v"), for the hot path. */
void log_members(enum log_level level, const char *message, struct str members);

#endif
