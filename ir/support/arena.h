/* Arena memory: the three lifetimes of docs/design.md ("Memory") without free().
 *
 * An arena hands out zeroed memory that lives until arena_reset() or arena_destroy(); zero is a
 * valid empty state of every struct in the compiler. Running out of memory ends the process with
 * a message, so callers never check. */
#ifndef SMELT_IR_SUPPORT_ARENA_H
#define SMELT_IR_SUPPORT_ARENA_H

#include <stddef.h>
#include <stdint.h>

typedef struct Arena Arena;

Arena *arena_create(void);
void arena_destroy(Arena *a);
/* Forgets everything allocated so far; under ASan the memory is poisoned. */
void arena_reset(Arena *a);
/* Zeroed, 16-byte aligned memory (64-byte aligned from 4 KiB on). */
void *arena_alloc(Arena *a, size_t n_bytes);
/* arena_alloc of n * item_bytes; ends the process if the product overflows. */
void *arena_alloc_array(Arena *a, size_t n, size_t item_bytes);
/* Copy of n bytes / of a string, owned by the arena. */
void *arena_copy(Arena *a, const void *bytes, size_t n_bytes);
char *arena_strdup(Arena *a, const char *s);
/* printf into the arena. */
char *arena_printf(Arena *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Bytes handed out so far, for --time. */
size_t arena_used_bytes(const Arena *a);

#define arena_new(a, T)      ((T *)arena_alloc((a), sizeof(T)))
#define arena_array(a, T, n) ((T *)arena_alloc_array((a), (size_t)(n), sizeof(T)))

/* The heap, for what outlives every arena: never returns NULL, memory is zeroed. */
void *xmalloc(size_t n_bytes);
/* Memory of a size that data asked for: NULL when there is none. */
void *try_malloc(size_t n_bytes);
void *xrealloc(void *p, size_t n_bytes);

/* A growing array in an arena: VEC(int) v = {0}; vec_push(a, &v, 3); */
#define VEC(T)                                                                                     \
    struct {                                                                                       \
        T *at;                                                                                     \
        uint32_t n, cap;                                                                           \
    }
#define vec_push(a, v, item)                                                                       \
    (vec_grow((a), (void **)&(v)->at, (v)->n, &(v)->cap, sizeof *(v)->at),                         \
     (v)->at[(v)->n++] = (item))
void vec_grow(Arena *a, void **at, uint32_t n, uint32_t *cap, size_t item_bytes);

#endif
