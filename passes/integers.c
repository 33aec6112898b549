/* See integers.h. The forms are those that the operators' definitions and their substitution into
 * each other leave:
 *
 *     i32(x[..]) - zero          inside ? i32(x[.. if inside]) - zero : 0
 *     f32(that)*scale            i32(bitcast(i8, x[..] ^ 128u8))     a signed byte, stored biased
 */
#include "passes/integers.h"

#include <string.h>

#include "passes/pass.h"

static const KExpr *drop_same(KCtx *k, const KExpr *e, void *user) {
    if (e->op != KO_at || at_pred(e) != user) return e;
    if (k_is_word(e)) return k_at_word(k, e->u.tensor, e->arg, e->u.tensor->rank);
    return k_at(k, e->u.tensor, e->arg, e->u.tensor->rank);
}

const KExpr *drop_predicate(KCtx *k, const KExpr *e, const KExpr *inside) {
    return inside ? k_rewrite(k, e, drop_same, (void *)inside) : e;
}

static bool is_byte(DType t) {
    return t == DT_U8 || t == DT_I8;
}

static bool add_zero(KCtx *k, IntFactor *f, const KExpr *zero) {
    f->zero = f->zero ? k_add(k, f->zero, zero) : zero;
    return true;
}

/* bitcast(i8, x[..] ^ 128u8) is x[..] - 128. */
static const KExpr *unbiased(const KExpr *e) {
    if (e->op != KO_bitcast || e->dtype != DT_I8 || e->arg[0]->op != KO_xor) return NULL;
    const KExpr *x = e->arg[0];
    if (k_is_value(x->arg[1], 128) && x->arg[0]->op == KO_at) return x->arg[0];
    return k_is_value(x->arg[0], 128) && x->arg[1]->op == KO_at ? x->arg[1] : NULL;
}

static bool match(KCtx *k, const KExpr *e, IntFactor *f) {
    if (e->dtype != DT_I32) return false;
    if (e->op == KO_select && k_is_value(e->arg[2], 0)) {
        if (f->inside && f->inside != e->arg[0]) return false;
        f->inside = e->arg[0];
        return match(k, e->arg[1], f);
    }
    if (e->op == KO_sub) return match(k, e->arg[0], f) && add_zero(k, f, e->arg[1]);
    if (e->op == KO_add && e->arg[1]->op == KO_const_i)
        return match(k, e->arg[0], f) && add_zero(k, f, k_neg(k, e->arg[1]));
    if (e->op != KO_cast) return false;
    const KExpr *x = e->arg[0], *biased = unbiased(x);
    f->at = biased ? biased : x;
    if (biased) add_zero(k, f, k_const_i(k, DT_I32, 128));
    return f->at->op == KO_at && is_byte(f->at->dtype);
}

bool match_int_factor(KCtx *k, const KExpr *e, IntFactor *f) {
    *f = (IntFactor){0};
    if (!match(k, e, f)) return false;
    if (f->zero) f->zero = drop_predicate(k, f->zero, f->inside);
    if (f->zero && k_is_value(f->zero, 0)) f->zero = NULL;
    const KExpr *pred = at_pred(f->at);
    if (!pred || f->inside == pred) return true;
    if (f->inside || f->zero) return false; /* it is 0 - zero outside */
    f->inside = pred;
    return true;
}

int64_t int_factor_bound(const IntFactor *f) {
    int64_t lo = f->at->dtype == DT_I8 ? -128 : 0, hi = lo + 255;
    if (f->zero && f->zero->op == KO_const_i) {
        lo -= f->zero->u.i;
        hi -= f->zero->u.i;
    } else if (f->zero) { /* a byte of the same kind, or its twin */
        lo = -255;
        hi = 255;
    }
    if (lo < 0) lo = -lo;
    if (hi < 0) hi = -hi;
    return lo > hi ? lo : hi;
}

/* f32(i), perhaps under a select with 0 */
static const KExpr *whole_number(KCtx *k, const KExpr *e) {
    if (e->op == KO_cast && e->dtype == DT_F32 && e->arg[0]->dtype == DT_I32) return e->arg[0];
    if (e->op != KO_select || !k_is_value(e->arg[2], 0)) return NULL;
    const KExpr *in = whole_number(k, e->arg[1]);
    return in ? k_select(k, e->arg[0], in, k_const_i(k, DT_I32, 0)) : NULL;
}

static bool take_apart(KCtx *k, const KExpr *e, const KExpr **factor, const KExpr **scale) {
    *scale = NULL;
    if (e->op == KO_select && k_is_value(e->arg[2], 0)) {
        if (!take_apart(k, e->arg[1], factor, scale)) return false;
        *factor = k_select(k, e->arg[0], *factor, k_const_i(k, DT_I32, 0));
        if (*scale) *scale = drop_predicate(k, *scale, e->arg[0]);
        return true;
    }
    int at = e->op == KO_mul && !whole_number(k, e->arg[0]);
    *factor = whole_number(k, e->op == KO_mul ? e->arg[at] : e);
    if (e->op == KO_mul) *scale = e->arg[1 - at];
    return *factor != NULL;
}

bool match_scaled_int(KCtx *k, const KExpr *e, const KExpr **factor, const KExpr **scale) {
    IntFactor f;
    return e->dtype == DT_F32 && take_apart(k, e, factor, scale) &&
           match_int_factor(k, *factor, &f);
}

/* ---- constants ------------------------------------------------------------------------------- */

int stage_axes_of(KCtx *k, const Stage *s, const KExpr *e, KVar **axis, const KExpr **extent) {
    int n = 0;
    for (int i = 0; i < s->out->rank; i++)
        if (k_uses_var(k, e, s->axis[i])) {
            axis[n] = s->axis[i];
            extent[n++] = s->out->dims[i];
        }
    return n;
}

typedef struct Constant {
    const Stage *s;
    bool is_constant;
} Constant;

static void note_variable(const KExpr *e, void *user) {
    Constant *c = user;
    if (e->op == KO_at && !e->u.tensor->data) c->is_constant = false;
    if (e->op == KO_at && !e->u.tensor->data_bytes) c->is_constant = false; /* no elements */
    if (e->op == KO_load) c->is_constant = false;
    if (e->op == KO_var) c->is_constant &= stage_axis_of(c->s, e) >= 0;
}

/* Row-major elements of a scalar constant's or table's expression. */
static const KExpr *first_element(KCtx *k, const KTensor *t) {
    float f;
    int32_t i;
    memcpy(&f, t->data, sizeof f);
    memcpy(&i, t->data, sizeof i);
    return t->dtype == DT_F32 ? k_const_f(k, DT_F32, f) : k_const_i(k, DT_I32, i);
}

const KExpr *tabulate_constant(DefProgram *p, Stage *s, const char *name, const KExpr *e) {
    KCtx *k = p->m->k;
    KVar *axis[MAX_RANK];
    const KExpr *extent[MAX_RANK] = {0}, *index[MAX_RANK];
    Constant c = {s, true};
    if (e->op == KO_const_f || e->op == KO_const_i) return e;
    k_visit(k, e, note_variable, &c);
    if (!c.is_constant || (e->dtype != DT_F32 && e->dtype != DT_I32)) return NULL;
    int n = stage_axes_of(k, s, e, axis, extent);
    KTensor *t = constant_table(p, s, name, e, axis, extent, n);
    if (!t) return NULL;
    if (!n) return first_element(k, t);
    for (int i = 0; i < n; i++) index[i] = k_var(k, axis[i]);
    return k_at(k, t, index, n);
}

static int64_t n_constants(KCtx *k, const KExpr *e) {
    int64_t n;
    return e->op == KO_at && k_is_int(tensor_n_elems(k, e->u.tensor), &n) ? n : 1;
}

static double constant_at(const KExpr *e, int64_t i) {
    if (e->op == KO_const_i) return (double)e->u.i;
    if (e->op == KO_const_f) return e->u.f;
    const void *data = e->u.tensor->data;
    return e->dtype == DT_F32 ? (double)((const float *)data)[i]
                              : (double)((const int32_t *)data)[i];
}

bool constant_is_zero(KCtx *k, const KExpr *e) {
    int64_t n = n_constants(k, e);
    for (int64_t i = 0; i < n; i++)
        if (constant_at(e, i) != 0) return false;
    return true;
}

bool constants_agree(KCtx *k, const KExpr *a, const KExpr *b) {
    int64_t na = n_constants(k, a), nb = n_constants(k, b), n = na > nb ? na : nb;
    if (na != nb && na != 1 && nb != 1) return false;
    for (int i = 0; na == nb && a->op == KO_at && b->op == KO_at && i < a->n_args; i++)
        if (b->n_args != a->n_args || a->arg[i] != b->arg[i]) return false;
    for (int64_t i = 0; i < n; i++) {
        double x = constant_at(a, na == 1 ? 0 : i), y = constant_at(b, nb == 1 ? 0 : i);
        double off = x > y ? x - y : y - x;
        if (!(off <= (y < 0 ? -y : y) * 0x1p-20)) return false;
    }
    return true;
}

/* ---- words ----------------------------------------------------------------------------------- */

const KExpr *join_parts(KCtx *k, const KExpr *const *part, int n) {
    const KExpr *word = NULL;
    for (int i = 0; i < n; i++) {
        if (!part[i]) continue;
        const KExpr *moved = k_shl(k, part[i], k_const_i(k, DT_I32, 32 / n * i));
        word = word ? k_or(k, word, moved) : moved;
    }
    return word;
}

/* ---- sums ------------------------------------------------------------------------------------ */

double int_sum_bound(const Stage *s, const IntFactor *l, const IntFactor *r) {
    double n = (double)int_factor_bound(l) * (double)int_factor_bound(r);
    int64_t extent;
    for (int i = 0; i < s->n_red; i++)
        n *= k_is_int(s->red_extent[i], &extent) ? (double)extent : 0;
    return n;
}
