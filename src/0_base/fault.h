/* Refusals as values. Every fallible function returns enum fault and is checked; a fault is
 * recorded once, where it was born, in the note of the running fiber, and passed up with TRY.
 * The list with statuses and texts is tbl/faults.def. */
#ifndef TL_FAULT_H
#define TL_FAULT_H

#include "buf.h"

enum fault {
	OK = 0,
#define FAULT(name, status, code, when) FAULT_##name,
#include "../../tbl/faults.def"
#undef FAULT
	FAULT_COUNT
};

#define MUST_CHECK __attribute__((warn_unused_result))
#define TRY(call) do { enum fault try_ = (call); if (try_ != OK) return try_; } while (0)

struct fault_row {
	int status;		/* HTTP; 0 = never leaves the program */
	const char *code, *when;
};
extern const struct fault_row fault_rows[FAULT_COUNT];

/* What is known of the latest fault of this fiber. `details` holds JSON members without braces. */
struct fault_note {
	enum fault fault;
	int retry_after_s;	/* 0 = say nothing */
	char message[256];
	struct buf details;
};

/* The running fiber's note; the fiber switch moves it. */
extern struct fault_note *fault_note;

void fault_clear(struct arena *arena);	/* details will live in `arena` */
enum fault fault_raise(enum fault fault, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* VALIDATION_ERROR about one field. */
enum fault fault_field(const char *field, const char *reason);
void fault_detail(const char *key, struct str value);
void fault_detail_int(const char *key, int64_t value);

#endif
