/* Numbered, checksummed migrations, carried in the binary, applied under a lock. */
#ifndef TL_MIGRATE_H
#define TL_MIGRATE_H

#include <stdbool.h>

void migrate_up(bool quiet);		/* makes roles, database and schema; dies on a problem */
void migrate_down(int to_version);	/* undoes down to, not including, that version */
void migrate_status(void);		/* prints a line a migration */

#endif
