/* Where elements of tensors lie: layouts, halos, windows, aliases; at() nodes as loads. */
#include "ir/define.h"
#include "ir/schedule.h"

static const KExpr *blocks_of(KCtx *k, const KExpr *dim, int block) {
    return k_fdiv(k, k_add(k, dim, k_int(k, block - 1)), k_int(k, block));
}

static bool is_blocked(const KTensor *t) {
    return t->layout.block > 1;
}

const KExpr *tensor_stored_dim(KCtx *k, const KTensor *t, int axis) {
    const Layout *l = &t->layout;
    if (is_blocked(t) && axis == l->block_axis) return blocks_of(k, t->dims[axis], l->block);
    return l->has_halo ? k_add(k, t->dims[axis], k_int(k, l->halo[axis][0] + l->halo[axis][1]))
                       : t->dims[axis];
}

int tensor_axis_at(const KTensor *t, int i) {
    return t->layout.permuted ? t->layout.order[i] : i;
}

const KExpr *tensor_ring_row(KCtx *k, const KTensor *t) {
    const KExpr *n = k_int(k, is_blocked(t) ? t->layout.block : 1);
    for (int i = 0; i < t->rank; i++)
        if (!t->window->fixed[i] && i != t->window->row_axis)
            n = k_mul(k, n, tensor_stored_dim(k, t, i));
    return n;
}

/* [slot][place][axes that are not shared, in order][lanes] */
static const KExpr *ring_flat_index(KCtx *k, const KTensor *t, const KExpr *const *index) {
    const RowWindow *w = t->window;
    const Layout *l = &t->layout;
    const KExpr *place = k_and(k, index[w->row_axis], k_int(k, w->ring - 1));
    const KExpr *flat = k_add(k, k_mul(k, w->of->slot, k_int(k, w->ring)), place);
    const KExpr *block = k_int(k, l->block);
    for (int i = 0; i < t->rank; i++) {
        int axis = tensor_axis_at(t, i);
        if (w->fixed[axis] || axis == w->row_axis) continue;
        const KExpr *at = index[axis];
        if (is_blocked(t) && axis == l->block_axis) at = k_fdiv(k, at, block);
        if (l->has_halo) at = k_add(k, at, k_int(k, l->halo[axis][0]));
        flat = k_add(k, k_mul(k, flat, tensor_stored_dim(k, t, axis)), at);
    }
    if (!is_blocked(t)) return flat;
    return k_add(k, k_mul(k, flat, block), k_fmod(k, index[l->block_axis], block));
}

/* Of a tensor in a window: [slot][row of the block][axes that are not shared]. */
static const KExpr *window_n_elems(KCtx *k, const KTensor *t) {
    const RowWindow *w = t->window;
    if (w->ring) return k_mul(k, k_int(k, w->of->n_slots * w->ring), tensor_ring_row(k, t));
    const KExpr *n = k_int(k, w->of->n_slots * w->of->rows);
    for (int i = 0; i < t->rank; i++)
        if (!w->fixed[i] && i != w->row_axis) n = k_mul(k, n, t->dims[i]);
    return n;
}

static const KExpr *window_flat_index(KCtx *k, const KTensor *t, const KExpr *const *index) {
    const RowWindow *w = t->window;
    if (w->ring) return ring_flat_index(k, t, index);
    const KExpr *flat = k_mul(k, w->of->slot, k_int(k, w->of->rows));
    if (w->row_axis >= 0) flat = k_add(k, flat, k_sub(k, index[w->row_axis], w->of->first));
    for (int i = 0; i < t->rank; i++)
        if (!w->fixed[i] && i != w->row_axis) flat = k_add(k, k_mul(k, flat, t->dims[i]), index[i]);
    return flat;
}

const KExpr *tensor_n_elems(KCtx *k, const KTensor *t) {
    if (t->window) return window_n_elems(k, t);
    const KExpr *n = k_int(k, is_blocked(t) ? t->layout.block : 1);
    for (int i = 0; i < t->rank; i++) n = k_mul(k, n, tensor_stored_dim(k, t, i));
    return n;
}

/* Elements of another tensor in steps. */
static const KExpr *phase_flat_index(KCtx *k, const KTensor *t, const KExpr *const *index) {
    const KExpr *of[MAX_RANK];
    for (int i = 0; i < t->rank; i++) {
        of[i] = k_mul(k, index[i], k_int(k, t->phase->step[i]));
        of[i] = k_add(k, of[i], k_int(k, t->phase->first[i]));
        if (t->phase->shift[i]) of[i] = k_add(k, of[i], t->phase->shift[i]);
    }
    return tensor_flat_index(k, t->alias, of);
}

const KExpr *tensor_flat_index(KCtx *k, const KTensor *t, const KExpr *const *index) {
    if (t->window) return window_flat_index(k, t, index);
    if (t->phase) return phase_flat_index(k, t, index);
    const KExpr *flat = k_int(k, 0), *block = k_int(k, t->layout.block);
    for (int i = 0; i < t->rank; i++) {
        int axis = tensor_axis_at(t, i);
        const KExpr *at = index[axis];
        if (is_blocked(t) && axis == t->layout.block_axis) at = k_fdiv(k, at, block);
        if (t->layout.has_halo) at = k_add(k, at, k_int(k, t->layout.halo[axis][0]));
        flat = k_add(k, k_mul(k, flat, tensor_stored_dim(k, t, axis)), at);
    }
    if (is_blocked(t))
        flat = k_add(k, k_mul(k, flat, block), k_fmod(k, index[t->layout.block_axis], block));
    return flat;
}

KTensor *tensor_root(KCtx *k, KTensor *t, const KExpr **offset) {
    *offset = k_int(k, 0);
    for (; t->alias; t = t->alias)
        if (t->alias_offset) *offset = k_add(k, *offset, t->alias_offset);
    return t;
}

/* Is c of the form 0 <= index[a] or index[a] < dims[a], with index[a] always inside the halo? */
static bool halo_covers(const KExpr *at, const KExpr *c) {
    const KTensor *t = at->u.tensor;
    int64_t dim;
    for (int a = 0; a < t->rank; a++) {
        const KExpr *i = at->arg[a];
        if (!k_is_int(t->dims[a], &dim)) continue;
        bool inside = i->lo >= -(int64_t)t->layout.halo[a][0] && i->hi < dim + t->layout.halo[a][1];
        bool is_lower = c->op == KO_le && k_is_value(c->arg[0], 0) && c->arg[1] == i;
        bool is_upper = c->op == KO_lt && c->arg[0] == i && c->arg[1] == t->dims[a];
        if (inside && (is_lower || is_upper)) return true;
    }
    return false;
}

static const KExpr *pred_beyond_halo(KCtx *k, const KExpr *at, const KExpr *pred) {
    if (pred->op == KO_and) {
        const KExpr *a = pred_beyond_halo(k, at, pred->arg[0]),
                    *b = pred_beyond_halo(k, at, pred->arg[1]);
        return !a ? b : !b ? a : k_and(k, a, b);
    }
    return halo_covers(at, pred) ? NULL : pred;
}

const KExpr *at_pred_beyond_halo(KCtx *k, const KExpr *at, int32_t value) {
    const KExpr *pred = at_pred(at);
    const Layout *l = &at->u.tensor->layout;
    if (!pred || !l->has_halo || l->halo_value != value) return pred;
    return pred_beyond_halo(k, at, pred);
}

static const KExpr *open_at(KCtx *k, const KExpr *e, void *user) {
    (void)user;
    if (e->op != KO_at) return e;
    const KExpr *offset, *pred = at_pred_beyond_halo(k, e, 0);
    KTensor *root = tensor_root(k, e->u.tensor, &offset);
    const KExpr *flat = k_add(k, tensor_flat_index(k, e->u.tensor, e->arg), offset);
    if (k_is_word(e)) return k_load_word(k, root->buf, flat, pred);
    return pred ? k_load_if(k, root->buf, flat, pred) : k_load(k, root->buf, flat);
}

const KExpr *expr_open(DefProgram *p, const KExpr *e) {
    return k_rewrite(p->m->k, e, open_at, NULL);
}

bool tensor_has_aliases(const DefProgram *p, const KTensor *t) {
    for (uint32_t i = 0; i < p->tensors.n; i++)
        if (p->tensors.at[i]->alias == t) return true;
    return false;
}

bool tensor_is_dense(KCtx *k, const KTensor *t) {
    const Layout *l = &t->layout;
    if (t->window || t->phase) return false;
    if (!l->permuted && l->block <= 1 && !l->has_halo) return true;
    const KExpr *index[MAX_RANK];
    for (int i = 0; i < t->rank; i++)
        index[i] = k_var(k, kvar_new(k, KV_AXIS, DT_I64, "i", 0, k_last_index(t->dims[i])));
    return tensor_flat_index(k, t, index) == def_flatten(k, index, t->dims, t->rank);
}
