/* Checks and small definition helpers shared by operator families: see check.h. */
#include "ir/ops/check.h"

#include "ir/support/str.h"

bool check_dtype(Module *m, const Node *n, int i, uint32_t accepted) {
    if (i >= n->n_in || !n->in[i]) return true;
    if (accepted >> n->in[i]->dtype & 1) return true;
    StrBuf list = {0};
    for (int t = 1; t < DT_COUNT; t++)
        if (accepted >> t & 1) strbuf_printf(&list, "%s%s", list.n ? ", " : "", dtype_info[t].name);
    diag_error(m->diag, n->loc, "input %d has dtype %s, accepted are %s", i,
               dtype_info[n->in[i]->dtype].name, strbuf_text(&list));
    strbuf_free(&list);
    return false;
}

bool check_same_dtype(Module *m, const Node *n, int i, int as) {
    if (i >= n->n_in || !n->in[i] || n->in[i]->dtype == n->in[as]->dtype) return true;
    diag_error(m->diag, n->loc, "input %d has dtype %s, must be %s like input %d", i,
               dtype_info[n->in[i]->dtype].name, dtype_info[n->in[as]->dtype].name, as);
    return false;
}

bool check_dim(Module *m, const Node *n, int i, int axis, const KExpr *want, const char *what) {
    if (i >= n->n_in || !n->in[i]) return true;
    int64_t have, need;
    if (!shape_dim_int(n->in[i]->shape, axis, &have) || !k_is_int(want, &need) || have == need) {
        infer_rule(m, n, k_eq(m->k, n->in[i]->shape.dims[axis], want));
        return true;
    }
    diag_error(m->diag, n->loc, "input %d has shape %s: dim %d is %lld, must be %lld (%s)", i,
               shape_text(m->scratch, n->in[i]->shape), axis, (long long)have, (long long)need,
               what);
    return false;
}

bool check_broadcasts_to(Module *m, const Node *n, int i, Shape to) {
    if (i >= n->n_in || !n->in[i]) return true;
    Shape s = n->in[i]->shape;
    bool good = s.rank <= to.rank;
    for (int a = 0; good && a < s.rank; a++) {
        int64_t from, into;
        if (shape_dim_int(s, a, &from) && shape_dim_int(to, to.rank - s.rank + a, &into))
            good = from == into || from == 1;
        else
            infer_rule(m, n,
                       k_or(m->k, k_eq(m->k, s.dims[a], k_int(m->k, 1)),
                            k_eq(m->k, s.dims[a], to.dims[to.rank - s.rank + a])));
    }
    if (!good)
        diag_error(m->diag, n->loc, "input %d has shape %s, which does not broadcast to %s", i,
                   shape_text(m->scratch, s), shape_text(m->scratch, to));
    return good;
}

bool check_attr_int(Module *m, const Node *n, const char *name, int64_t found, int64_t lo,
                    int64_t hi) {
    if (found >= lo && found <= hi) return true;
    if (found < lo && hi >= INT32_MAX)
        diag_error(m->diag, n->loc, "%s is %lld, must be at least %lld", name, (long long)found,
                   (long long)lo);
    else
        diag_error(m->diag, n->loc, "%s is %lld, must be %lld to %lld", name, (long long)found,
                   (long long)lo, (long long)hi);
    return false;
}

DType acc_dtype(DType t) {
    switch (t) {
    case DT_F16:
    case DT_BF16: return DT_F32;
    case DT_I8:
    case DT_U8:
    case DT_I16:
    case DT_U16: return DT_I32;
    default: return t;
    }
}

const KExpr *def_at_as(Def *d, DType t, KTensor *of, const KExpr *const *idx, int rank) {
    return k_cast(d->k, t, def_at(d, of, idx, rank));
}

const KExpr *k_ceil_div(KCtx *k, const KExpr *a, int64_t b) {
    return k_fdiv(k, k_add(k, a, k_int(k, b - 1)), k_int(k, b));
}

const KExpr *k_rsqrt(KCtx *k, const KExpr *a) {
    return k_div(k, k_const(k, a->dtype, 1), k_sqrt(k, a));
}

const KExpr *k_and_fits(Def *d, const KExpr *p, const KTensor *t, const KExpr *const *index,
                        const KExpr *const *bound) {
    int64_t have, need;
    for (int a = 0; a < t->rank; a++) {
        const KExpr *dim = t->dims[a];
        if (!bound[a] || dim == bound[a]) continue;
        if (k_is_int(dim, &have) && (have == 1 || k_is_int(bound[a], &need))) continue;
        p = k_and(d->k, p, k_lt(d->k, index[a], dim));
    }
    return p;
}

const KExpr *k_and_inside(Def *d, const KExpr *p, const KExpr *index, const KExpr *dim) {
    const KExpr *in = lower_inside(d, index, dim);
    return p ? k_and(d->k, p, in) : in;
}

const KExpr *k_whole_place(KCtx *k, const KExpr *x, const KExpr *dim) {
    enum { SHORT_AXIS = 1 << 29 };
    return k_cast(k, dim->hi <= SHORT_AXIS ? DT_I32 : DT_I64, x);
}
