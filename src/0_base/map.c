/* Open addressing, linear probing; removed keys stay as empty values until the table grows. */
#include "map.h"
#include <stdlib.h>

struct map_slot {
	char *key;
	size_t n;
	uint64_t hash;
	void *value;
};

static struct map_slot *find(const struct map *m, struct str key, uint64_t hash)
{
	for (size_t i = hash & (m->cap - 1);; i = (i + 1) & (m->cap - 1)) {
		struct map_slot *s = &m->slots[i];
		if (!s->key || (s->hash == hash && s->n == key.n && memcmp(s->key, key.p, key.n) == 0))
			return s;
	}
}

void *map_get(const struct map *m, struct str key)
{
	return m->cap ? find(m, key, str_hash(key))->value : NULL;
}

static void grow(struct map *m)
{
	struct map old = *m;
	m->cap = old.cap ? old.cap * 2 : 64;
	m->slots = must_alloc(m->cap * sizeof *m->slots);
	m->used = 0;
	for (size_t i = 0; i < old.cap; i++) {
		struct map_slot *s = &old.slots[i];
		if (s->value) {
			*find(m, (struct str){ s->key, s->n }, s->hash) = *s;
			m->used++;
		} else {
			free(s->key);
		}
	}
	free(old.slots);
}

void map_put(struct map *m, struct str key, void *value)
{
	if (m->used * 2 >= m->cap)
		grow(m);
	uint64_t hash = str_hash(key);
	struct map_slot *s = find(m, key, hash);
	if (!s->key) {
		if (!value)
			return;
		s->key = must_alloc(key.n + 1);
		memcpy(s->key, key.p, key.n);
		s->n = key.n;
		s->hash = hash;
		m->used++;
	}
	s->value = value;
}

void map_fini(struct map *m)
{
	for (size_t i = 0; i < m->cap; i++)
		free(m->slots[i].key);
	free(m->slots);
	*m = (struct map){ 0 };
}
