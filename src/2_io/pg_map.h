/* SQLSTATE to fault, in one table. Our own functions raise TLnnn with the HTTP status in the
 * code, the message for people, and the details as JSON members in DETAIL. */
#ifndef TL_PG_MAP_H
#define TL_PG_MAP_H

#include "../0_base/fault.h"
#include <libpq-fe.h>

enum fault pg_map_error(const PGresult *failed, const char *statement);

#endif
