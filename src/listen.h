/* The receiver of the README. */
#ifndef TL_LISTEN_H
#define TL_LISTEN_H

#include "0_base/str.h"

int listen_run(int port, struct str secret);

#endif
