/* trunkline keys rotate: seals everything at rest anew, beside a running server. */
#ifndef TL_KEYS_H
#define TL_KEYS_H

#include <stdbool.h>

/* Adds a key to the key file, waits until running servers have read it, re-seals. With `retire` the older keys but the
 * root leave the file when nothing needs them any more. Prints counts. Ends the program on a problem. */
int keys_rotate(bool retire);

#endif
