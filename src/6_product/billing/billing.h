/* Reading credits. */
#ifndef TL_BILLING_H
#define TL_BILLING_H

#include "../../3_core/route.h"

extern const struct route billing_routes[];

#endif
