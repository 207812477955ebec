/* The database behind the server: a private PostgreSQL in the data folder, or the one that
 * DATABASE_URL names. */
#ifndef TL_CLUSTER_H
#define TL_CLUSTER_H

#include "0_base/str.h"
#include <sys/types.h>

/* Fills the data setting, makes the folder (0711) and its parents. */
void data_folder_open(void);
/* Takes the folder's lock for this process; dies when another server has it. */
void data_folder_lock(void);

/* Makes the cluster on first use and starts it; waits until it answers. Returns the postmaster. */
pid_t cluster_start(void);
pid_t cluster_restart(void);	/* after it died: no initdb, waits again */
void cluster_stop(pid_t postmaster);
bool cluster_is_new(void);	/* made by this start */

/* Conninfo of a door: tl_app, tl_agency, tl_system, tl_migrate; NULL = the administrator. */
struct str cluster_conninfo(struct arena *arena, const char *role);
struct str cluster_role_password(struct arena *arena, const char *role);	/* NULL p for a private cluster */

#endif
