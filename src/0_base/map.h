/* A hash map from text to a pointer; keys are copied, values are the caller's. For the small long-lived
 * tables of a process. */
#ifndef TL_MAP_H
#define TL_MAP_H

#include "str.h"

struct map {
	struct map_slot *slots;
	size_t cap, used;
};

void *map_get(const struct map *map, struct str key);	/* NULL when absent */
void map_put(struct map *map, struct str key, void *value);	/* value NULL removes */

void map_fini(struct map *map);		/* empty again, its memory given back */

#endif
