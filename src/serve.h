/* The processes of a running server. */
#ifndef TL_SERVE_H
#define TL_SERVE_H

#include "0_base/str.h"

int master_run(void);		/* serve: returns the exit status */
int worker_run(void);		/* one worker, started by the master */

/* Fills in what depends on other settings: URLs, sandbox, demo, public_url. */
void settings_resolve(int port, int sandbox_port);
bool split_host_port(struct str text, char *host, size_t size, int *ret_port);

/* Rows made from the command line; NULL-ended printing as JSON. */
void tenants_seed_demo(void);

/* Lets fetch know our own server by its certificate (it calls itself: objects, and the sandbox's webhooks). */
void trust_own_certificate(struct arena *arena);

#endif
