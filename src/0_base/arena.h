/* Arenas: memory that dies together. A request, a job and a command each own one; nothing in
 * it is freed alone. Foreign objects are tied to it with arena_defer the moment they exist and
 * are undone in reverse order. Allocation never fails: out of memory ends the process. */
#ifndef TL_ARENA_H
#define TL_ARENA_H

#include <stddef.h>

struct arena;

struct arena *arena_make(void);
void arena_drop(struct arena *arena);

/* Zeroed, aligned for any object. */
void *arena_alloc(struct arena *arena, size_t size);
void arena_defer(struct arena *arena, void (*undo)(void *), void *object);

#define arena_new(arena, type) ((type *)arena_alloc(arena, sizeof(type)))
#define arena_array(arena, type, n) ((type *)arena_alloc(arena, sizeof(type) * (n)))

/* malloc and realloc that never return NULL; for the few long-lived tables of floors 0 to 2. */
void *must_alloc(size_t size);
void *must_grow(void *old, size_t size);

#endif
