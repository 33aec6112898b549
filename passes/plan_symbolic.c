/* plan_memory for buffers whose sizes the caller's symbols decide.
 *
 * Their sizes cannot be compared in general, so there are no offsets to search for. Instead buffers
 * that never live at the same time share a slot, which is as large as the largest of them: an
 * expression,
 *
 *     slot 0: max(batch*seq*3072, batch*12*seq*seq)      slot 1: batch*seq*768      ...
 *
 * and the slots lie one behind the other. To have few and even slots, buffers come in the order of
 * their sizes for one example, all symbols being EXAMPLE; each takes the slot that needs to grow
 * least, by the example too, of those that are free over its life. The layers of a network end in
 * the same few slots. */
#include <stdlib.h>

#include "passes/plan_memory.h"

enum { EXAMPLE = 128 };

typedef struct Slot {
    VEC(const KExpr *) sizes; /* bytes; the slot is as large as their maximum */
    VEC(const Life *) lives;
    double example; /* of that maximum */
} Slot;

typedef struct SymbolicLife {
    Life *life;
    const KExpr *bytes;
    double example;
} SymbolicLife;

typedef struct Slots {
    Plan *p;
    VEC(Slot) at;
} Slots;

/* A size in bytes where every symbol is EXAMPLE, or the nearest that its range allows. */
static double example_of(const Plan *p, const KExpr *bytes) {
    const KModule *km = p->km;
    const KExpr **by = arena_array(p->arena, const KExpr *, km->n_symbols + 1);
    for (uint32_t i = 0; i < km->n_symbols; i++) {
        int64_t v = EXAMPLE;
        if (v < km->symbols[i]->lo) v = km->symbols[i]->lo;
        if (v > km->symbols[i]->hi) v = km->symbols[i]->hi;
        by[i] = k_int(p->k, v);
    }
    const KExpr *e = k_subst(p->k, bytes, km->symbols, by, (int)km->n_symbols);
    int64_t n;
    return k_is_int(e, &n) ? (double)n : 0;
}

static int by_example(const void *a, const void *b) {
    const SymbolicLife *x = a, *y = b;
    if (x->example != y->example) return x->example > y->example ? -1 : 1;
    return x->life->first != y->life->first      ? (x->life->first < y->life->first ? -1 : 1)
           : x->life->buf->id < y->life->buf->id ? -1
                                                 : 1;
}

static bool is_free(const Slot *s, const Life *l) {
    for (uint32_t i = 0; i < s->lives.n; i++)
        if (s->lives.at[i]->first <= l->last && l->first <= s->lives.at[i]->last) return false;
    return true;
}

static bool is_within(KCtx *k, const Slot *s, const KExpr *bytes) {
    for (uint32_t i = 0; i < s->sizes.n; i++)
        if (s->sizes.at[i] == bytes || k_sub(k, s->sizes.at[i], bytes)->lo >= 0) return true;
    return false;
}

/* A free slot that has the room for sure; else the free one that is largest; else a new one. */
static Slot *slot_for(Slots *slots, const SymbolicLife *l) {
    Slot *best = NULL;
    for (uint32_t i = 0; i < slots->at.n; i++) {
        Slot *s = &slots->at.at[i];
        if (!is_free(s, l->life)) continue;
        if (is_within(slots->p->k, s, l->bytes)) return s;
        if (!best || s->example > best->example) best = s;
    }
    if (best) return best;
    vec_push(slots->p->arena, &slots->at, (Slot){.example = l->example});
    return &slots->at.at[slots->at.n - 1];
}

static const KExpr *rounded(KCtx *k, const KExpr *bytes) {
    const KExpr *align = k_int(k, PLACE_ALIGN);
    return k_mul(k, k_fdiv(k, k_add(k, bytes, k_int(k, PLACE_ALIGN - 1)), align), align);
}

const KExpr *plan_symbolic(Plan *p, const KExpr *end) {
    KCtx *k = p->k;
    SymbolicLife *order = arena_array(p->arena, SymbolicLife, p->lives.n + 1);
    uint32_t *slot_of = arena_array(p->arena, uint32_t, p->lives.n + 1), n = 0;
    for (uint32_t i = 0; i < p->lives.n; i++) {
        Life *l = &p->lives.at[i];
        if (!l->symbolic) continue;
        const KExpr *bytes =
            k_mul(k, k_upper_bound(k, l->buf->n_elems), k_int(k, dtype_bytes(l->buf->dtype)));
        order[n++] = (SymbolicLife){l, bytes, example_of(p, bytes)};
    }
    qsort(order, n, sizeof *order, by_example);
    Slots slots = {.p = p};
    for (uint32_t i = 0; i < n; i++) {
        Slot *s = slot_for(&slots, &order[i]);
        if (!is_within(k, s, order[i].bytes)) vec_push(p->arena, &s->sizes, order[i].bytes);
        vec_push(p->arena, &s->lives, order[i].life);
        slot_of[i] = (uint32_t)(s - slots.at.at);
    }
    const KExpr **offset = arena_array(p->arena, const KExpr *, slots.at.n + 1);
    for (uint32_t i = 0; i < slots.at.n; i++) {
        const Slot *s = &slots.at.at[i];
        const KExpr *most = s->sizes.at[0];
        for (uint32_t j = 1; j < s->sizes.n; j++) most = k_max(k, most, s->sizes.at[j]);
        offset[i] = end;
        end = k_add(k, end, rounded(k, most));
    }
    for (uint32_t i = 0; i < n; i++) order[i].life->buf->offset = offset[slot_of[i]];
    return end;
}
