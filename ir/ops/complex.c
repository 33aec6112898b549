/* Complex numbers in operators that compute: what is linear goes part by part (OPF_PARTS), and the
 * few others use the arithmetic here.
 *
 *   y = Resize(x)    x.re = re(x); y.re = Resize(x.re); the same for im; y = complex(y.re, y.im)
 *
 * ONNX says nothing of an order; it is numpy's where no part is NaN: by real parts, then by
 * imaginary ones. */
#include "ir/ops/common.h"

/* ---- part by part ---------------------------------------------------------------------------- */

static KTensor *part_of(Def *d, KTensor *x, bool is_imaginary) {
    KCtx *k = d->k;
    KTensor *part = def_temp(d, is_imaginary ? "im" : "re", dtype_part(x->dtype), x->rank, x->dims);
    Stage *s = def_begin(d, FORM_MAP, part);
    const KExpr *e = lower_elem(d, s, x, x->dtype);
    def_map(d, s, is_imaginary ? k_im(k, e) : k_re(k, e));
    return part;
}

static void lower_parts(Def *d, const Node *n) {
    KTensor *x = def_in(d, 0), *out = def_out(d, 0), *of[2];
    for (int i = 0; i < 2; i++) {
        d->is_imaginary = i;
        d->in_part = part_of(d, x, i);
        d->out_part = of[i] = def_temp(d, i ? "im" : "re", d->in_part->dtype, out->rank, out->dims);
        op_info[n->op].lower(d, n);
    }
    d->in_part = d->out_part = NULL;
    Stage *s = def_begin(d, FORM_MAP, out);
    const KExpr *re = lower_elem(d, s, of[0], of[0]->dtype);
    def_map(d, s, k_complex(d->k, re, lower_elem(d, s, of[1], of[1]->dtype)));
}

void def_lower(Def *d) {
    const Node *n = d->node;
    if (op_has(n->op, OPF_PARTS) && dtype_is_complex(n->in[0]->dtype))
        lower_parts(d, n);
    else
        op_info[n->op].lower(d, n);
}

/* ---- arithmetic ------------------------------------------------------------------------------ */

const KExpr *lower_complex_add(Def *d, const KExpr *a, const KExpr *b) {
    KCtx *k = d->k;
    return k_complex(k, k_add(k, k_re(k, a), k_re(k, b)), k_add(k, k_im(k, a), k_im(k, b)));
}

const KExpr *lower_complex_mul(Def *d, const KExpr *a, const KExpr *b) {
    KCtx *k = d->k;
    const KExpr *x = k_re(k, a), *y = k_im(k, a), *u = k_re(k, b), *v = k_im(k, b);
    return k_complex(k, k_sub(k, k_mul(k, x, u), k_mul(k, y, v)),
                     k_add(k, k_mul(k, x, v), k_mul(k, y, u)));
}

const KExpr *lower_differs_from_zero(Def *d, const KExpr *e) {
    KCtx *k = d->k;
    if (e->dtype == DT_STR) return k_ne(k, k_str_len(k, e), k_int(k, 0));
    if (!dtype_is_complex(e->dtype)) return k_ne(k, e, k_const(k, e->dtype, 0));
    const KExpr *zero = k_const(k, dtype_part(e->dtype), 0);
    return k_or(k, k_ne(k, k_re(k, e), zero), k_ne(k, k_im(k, e), zero));
}

const KExpr *lower_comes_before(Def *d, const KExpr *a, const KExpr *b) {
    KCtx *k = d->k;
    if (dtype_is_complex(a->dtype)) {
        const KExpr *x = k_re(k, a), *u = k_re(k, b);
        const KExpr *tied =
            k_and(k, k_not(k, lower_comes_before(d, x, u)), k_not(k, lower_comes_before(d, u, x)));
        const KExpr *behind = lower_comes_before(d, k_im(k, a), k_im(k, b));
        return k_or(k, lower_comes_before(d, x, u), k_and(k, tied, behind));
    }
    if (a->dtype == DT_BOOL) return k_lt(k, k_cast(k, DT_I32, a), k_cast(k, DT_I32, b));
    const KExpr *less = k_lt(k, a, b);
    if (!dtype_is_float(a->dtype)) return less;
    return k_or(k, less, k_and(k, k_ne(k, b, b), k_eq(k, a, a)));
}
