/* Arena memory: a list of blocks, each twice the size of the last up to 1 MiB; larger requests
 * get a block of their own. Reset keeps the first block. Out of memory ends the process here and
 * nowhere else. */
#include "ir/support/arena.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__has_feature) /* clang's way to say it */
#if __has_feature(address_sanitizer)
#define HAS_ASAN
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define HAS_ASAN
#endif
#ifdef HAS_ASAN
#include <sanitizer/asan_interface.h>
#define POISON(p, n)   ASAN_POISON_MEMORY_REGION(p, n)
#define UNPOISON(p, n) ASAN_UNPOISON_MEMORY_REGION(p, n)
#else
#define POISON(p, n)   ((void)(p), (void)(n))
#define UNPOISON(p, n) ((void)(p), (void)(n))
#endif

enum { FIRST_BLOCK = 16 << 10, LARGEST_BLOCK = 1 << 20 };

typedef struct Block {
    struct Block *next;
    size_t cap, used;
} Block;

struct Arena {
    Block *top;
    size_t next_cap, n_used;
};

static void out_of_memory(size_t n_bytes) {
    fprintf(stderr, "smelt: out of memory (%zu bytes asked for)\n", n_bytes);
    exit(1); /* the model is too large for this machine: no bug */
}

void *xmalloc(size_t n_bytes) {
    void *p = calloc(1, n_bytes ? n_bytes : 1);
    if (!p) out_of_memory(n_bytes);
    return p;
}

void *try_malloc(size_t n_bytes) {
    return malloc(n_bytes);
}

void *xrealloc(void *p, size_t n_bytes) {
    p = realloc(p, n_bytes ? n_bytes : 1);
    if (!p) out_of_memory(n_bytes);
    return p;
}

static unsigned char *block_bytes(Block *b) {
    return (unsigned char *)b + ((sizeof(Block) + 63) & ~(size_t)63);
}

static void arena_add_block(Arena *a, size_t least) {
    size_t cap = least > a->next_cap ? least : a->next_cap;
    Block *b = xmalloc(((sizeof(Block) + 63) & ~(size_t)63) + cap);
    b->cap = cap;
    b->next = a->top;
    a->top = b;
    if (a->next_cap < LARGEST_BLOCK) a->next_cap *= 2;
    POISON(block_bytes(b), cap);
}

Arena *arena_create(void) {
    Arena *a = xmalloc(sizeof *a);
#ifdef SMELT_STRESS
    a->next_cap = 64;
#else
    a->next_cap = FIRST_BLOCK;
#endif
    return a;
}

void arena_destroy(Arena *a) {
    if (!a) return;
    for (Block *b = a->top, *next; b; b = next) {
        next = b->next;
        UNPOISON(block_bytes(b), b->cap);
        free(b);
    }
    free(a);
}

void arena_reset(Arena *a) {
    while (a->top && a->top->next) {
        Block *b = a->top;
        a->top = b->next;
        UNPOISON(block_bytes(b), b->cap);
        free(b);
    }
    if (a->top) {
        UNPOISON(block_bytes(a->top), a->top->cap);
        memset(block_bytes(a->top), 0, a->top->used);
        a->top->used = 0;
        POISON(block_bytes(a->top), a->top->cap);
    }
    a->n_used = 0;
}

/* The first free place of this alignment; the block itself has only malloc's. */
static size_t aligned_start(Block *b, size_t align) {
    uintptr_t base = (uintptr_t)block_bytes(b);
    return (size_t)(((base + b->used + align - 1) & ~(uintptr_t)(align - 1)) - base);
}

void *arena_alloc(Arena *a, size_t n_bytes) {
    size_t align = n_bytes >= 4096 ? 64 : 16;
    if (n_bytes > SIZE_MAX / 2) out_of_memory(n_bytes);
    size_t start = a->top ? aligned_start(a->top, align) : 0;
    if (!a->top || start > a->top->cap || n_bytes > a->top->cap - start) {
        arena_add_block(a, n_bytes + 64);
        start = aligned_start(a->top, align);
    }
    void *p = block_bytes(a->top) + start;
    a->top->used = start + n_bytes;
    a->n_used += n_bytes;
    UNPOISON(p, n_bytes);
    return p;
}

void *arena_alloc_array(Arena *a, size_t n, size_t item_bytes) {
    size_t n_bytes;
    if (__builtin_mul_overflow(n, item_bytes, &n_bytes)) out_of_memory(SIZE_MAX);
    return arena_alloc(a, n_bytes);
}

void *arena_copy(Arena *a, const void *bytes, size_t n_bytes) {
    void *p = arena_alloc(a, n_bytes);
    if (n_bytes) memcpy(p, bytes, n_bytes);
    return p;
}

char *arena_strdup(Arena *a, const char *s) {
    return arena_copy(a, s, strlen(s) + 1);
}

char *arena_printf(Arena *a, const char *fmt, ...) {
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    char *s = arena_alloc(a, (size_t)n + 1);
    vsnprintf(s, (size_t)n + 1, fmt, again);
    va_end(again);
    return s;
}

size_t arena_used_bytes(const Arena *a) {
    return a->n_used;
}

void vec_grow(Arena *a, void **at, uint32_t n, uint32_t *cap, size_t item_bytes) {
    if (n < *cap) return;
    if (n > UINT32_MAX / 2 - 8) out_of_memory(SIZE_MAX);
#ifdef SMELT_STRESS
    uint32_t wider = n < 64 ? n + 1 : n * 2; /* every growth moves, in less than quadratic memory */
#else
    uint32_t wider = *cap ? *cap * 2 : 8;
#endif
    void *grown = arena_alloc_array(a, wider, item_bytes);
    if (n) memcpy(grown, *at, (size_t)n * item_bytes);
    *at = grown;
    *cap = wider;
}
