/* Changes of a call's state, each a transition row and an event. */
#ifndef TL_PROGRESS_H
#define TL_PROGRESS_H

#include "../../3_core/tenant.h"

/* Moves upwards only (contract 3.2); *ret_moved tells whether it did. One round trip. */
enum fault call_move(struct tx *tx, struct str id, const char *status, const char *outcome, const char *source,
	struct str raw, bool *ret_moved) MUST_CHECK;
/* Queues an event whose data are the call's own columns. Last before the commit. */
void call_tell(struct tx *tx, struct str id, const char *type);

#endif
