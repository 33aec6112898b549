/* Scratch memory of kernels: tensors that only one call's kernel knows, and the loop over slots
 * that deals the work out. scratch.h has the idea. */
#include "ir/scratch.h"

#include "ir/schedule.h"

int64_t slots_for(int64_t n_items) {
    return n_items < 1 ? 1 : n_items < MOST_SLOTS ? n_items : MOST_SLOTS;
}

KTensor *scratch_tensor(DefProgram *p, const char *name, DType t, int rank,
                        const KExpr *const *dims) {
    KTensor *x = arena_new(p->arena, KTensor);
    x->name = intern(name);
    x->dtype = t;
    x->rank = rank;
    x->dims = arena_copy(p->arena, dims, sizeof *dims * (size_t)rank);
    x->buf = kbuf_new(p->m->k, MEM_ARENA, t, name, tensor_n_elems(p->m->k, x));
    x->buf->align = 64;
    return x;
}

void kb_slots(KBuild *b, int64_t n_slots, const KExpr *n_items, const KExpr **slot,
              const KExpr **item) {
    KCtx *k = b->k;
    const KExpr *count = k_int(k, n_slots);
    *slot = kb_for(b, n_slots > 1 ? LOOP_PARALLEL : LOOP_SERIAL, "slot", count);
    const KExpr *from = k_fdiv(k, k_mul(k, *slot, n_items), count);
    const KExpr *to = k_fdiv(k, k_mul(k, k_add(k, *slot, k_int(k, 1)), n_items), count);
    from = kb_let(b, "from", from);
    const KExpr *i = kb_for(b, LOOP_SERIAL, "i", k_sub(k, to, from));
    *item = kb_let_index(b, "item", k_add(k, from, i), n_items);
}
