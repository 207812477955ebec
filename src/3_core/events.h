/* Events: written in the causing transaction by the last statement before COMMIT. */
#ifndef TL_EVENTS_H
#define TL_EVENTS_H

#include "tenant.h"

/* `data` is a JSON object. The type must stand in tbl/events.def. */
void event_emit(struct tx *tx, const char *type, const char *resource_type, struct str resource_id, struct str data);
bool event_known(struct str type);	/* a type, "area.*" or "*" */

#endif
