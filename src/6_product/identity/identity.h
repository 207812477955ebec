/* Who asks, and which clients there are. */
#ifndef TL_IDENTITY_H
#define TL_IDENTITY_H

#include "../../3_core/route.h"

extern const struct route identity_routes[];
extern const struct shape client_shape;

#endif
