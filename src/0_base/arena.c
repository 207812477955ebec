/* Chunks of 8 KiB, kept in a small pool because every request takes one. */
#include "arena.h"
#include "die.h"
#include <stdalign.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK_BYTES 8192
#define POOL_CHUNKS 256

struct chunk {
	struct chunk *next;
	size_t size, used;
	alignas(16) char bytes[];
};

struct defer {
	struct defer *next;
	void (*undo)(void *);
	void *object;
};

struct arena {
	struct chunk *chunks;
	struct defer *defers;
};

static struct chunk *pool;
static unsigned pooled;

void *must_alloc(size_t size)
{
	void *p = calloc(1, size ? size : 1);
	if (!p)
		bug("out of memory");
	return p;
}

void *must_grow(void *old, size_t size)
{
	void *p = realloc(old, size);
	if (!p)
		bug("out of memory");
	return p;
}

static struct chunk *chunk_take(size_t need)
{
	struct chunk *c = pool;
	if (need <= CHUNK_BYTES && c) {
		pool = c->next;
		pooled--;
	} else {
		size_t size = need > CHUNK_BYTES ? need : CHUNK_BYTES;
		c = malloc(sizeof *c + size);
		if (!c)
			bug("out of memory");
		c->size = size;
	}
	c->used = 0;
	c->next = NULL;
	return c;
}

static void chunk_give(struct chunk *c)
{
	if (c->size != CHUNK_BYTES || pooled >= POOL_CHUNKS) {
		free(c);
		return;
	}
	c->next = pool;
	pool = c;
	pooled++;
}

struct arena *arena_make(void)
{
	struct chunk *c = chunk_take(0);
	struct arena *a = (struct arena *)(void *)c->bytes;
	*a = (struct arena){ .chunks = c };
	c->used = (sizeof *a + 15) & ~(size_t)15;
	return a;
}

void arena_drop(struct arena *a)
{
	if (!a)
		return;
	while (a->defers) {
		struct defer *d = a->defers;
		a->defers = d->next;
		d->undo(d->object);
	}
	struct chunk *c = a->chunks;
	while (c) {
		struct chunk *next = c->next;
		chunk_give(c);
		c = next;
	}
}

void *arena_alloc(struct arena *a, size_t size)
{
	size = (size + 15) & ~(size_t)15;
	struct chunk *c = a->chunks;
	if (c->size - c->used < size) {
		struct chunk *fresh = chunk_take(size);
		if (size > CHUNK_BYTES / 2) {	/* a large one must not hide the half-empty chunk */
			fresh->next = c->next;
			c->next = fresh;
		} else {
			fresh->next = c;
			a->chunks = fresh;
		}
		c = fresh;
	}
	void *p = c->bytes + c->used;
	c->used += size;
	return memset(p, 0, size);
}

void arena_defer(struct arena *a, void (*undo)(void *), void *object)
{
	struct defer *d = arena_new(a, struct defer);
	*d = (struct defer){ .next = a->defers, .undo = undo, .object = object };
	a->defers = d;
}
