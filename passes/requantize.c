/* requantize: values that become integers again are scaled once, without division.
 *
 * Before:  u8(min(max(rint((f32(acc)*(sx*sw[j]) + f32(b[j])*sb[j]) / sy) + zy, 0.0), 255.0))
 * After:   u8(min(max(rint(f32(acc + b[j])*m[j]) + zy, 0.0), 255.0))     m[j] = sx*sw[j] / sy
 *
 * The argument of such a rounding is taken apart into whole numbers times constant scales, a
 * constant, and clamps around the sum. Then
 *   one whole number      rint(f32(i)*m) + zy; a bias that has the product's scale is added before
 *   several               rint(f32(a)*ma + (f32(b)*mb + c)), c with all zero points in it
 *   a product of two      rint(f32(a - za)*f32(b - zb)*m + zy)
 *   the same scale twice  dequantizing and quantizing again is nothing
 *   clamps                become bounds of the saturation, which mostly has them already
 *   a choice by place     each of its parts by itself (a Concat of tensors with their own scales)
 * in the order of operations of ONNX Runtime's integer kernels, which are the judge. All constants
 * are computed at compile time. Signed bytes that are stored biased lose the two conversions around
 * the bias.
 *
 * Requires definitions after fusion; every stage is looked at. What does not have this form stays:
 * scales found while running, sums that are not of whole numbers. */
#include <math.h>
#include <stdlib.h>

#include "passes/integers.h"
#include "passes/pass.h"

enum { MAX_TERMS = 4 };

typedef struct Term {
    const KExpr *whole; /* f32: f32(i), or a product of such */
    const KExpr *scale; /* constant f32 */
} Term;

typedef struct Linear {
    DefProgram *p;
    Stage *s;
    KCtx *k;
    Term term[MAX_TERMS];
    int n;
    const KExpr *constant; /* f32; NULL is 0 */
    double low, high;      /* clamps of the sum */
} Linear;

/* ---- taking apart ---------------------------------------------------------------------------- */

static const KExpr *scaled(Linear *l, const KExpr *a, const KExpr *scale) {
    return scale ? k_mul(l->k, a, scale) : a;
}

static void note_read(const KExpr *e, void *user) {
    if (e->op == KO_at) *(bool *)user = true;
}

typedef struct Sought {
    KCtx *k;
    bool any;
} Sought;

static void note_sought(const KExpr *e, void *user) {
    Sought *s = user;
    for (int i = 0; e->op == KO_at && i < e->u.tensor->rank; i++)
        k_visit(s->k, e->arg[i], note_read, &s->any);
}

/* Does the map find its places in tables, like the columns of a Resize, whose rows read each again
 * and again? */
static bool seeks_places(KCtx *k, const Stage *map) {
    Sought s = {k, false};
    k_visit(k, map->body, note_sought, &s);
    return s.any;
}

/* What a map computes that is in memory, or of a constant's map that is not folded yet. */
static const KExpr *behind_map(Linear *l, const KExpr *e) {
    const Stage *map = e->u.tensor->def;
    bool is_small =
        map && map->form == FORM_MAP && map->owner == l->p && !e->u.tensor->data && !at_pred(e);
    return is_small && !seeks_places(l->k, map) ? stage_value_at(l->k, map, e) : NULL;
}

static bool add_term(Linear *l, const KExpr *whole, const KExpr *scale) {
    if (l->n == MAX_TERMS) return false;
    scale = scale ? scale : k_const(l->k, DT_F32, 1);
    const KExpr *table = tabulate_constant(l->p, l->s, "scale", scale);
    l->term[l->n++] = (Term){whole, table};
    return table != NULL;
}

static bool add_constant(Linear *l, const KExpr *e, const KExpr *scale) {
    e = scaled(l, e, scale);
    l->constant = l->constant ? k_add(l->k, l->constant, e) : e;
    return true;
}

static bool is_constant(Linear *l, const KExpr *e) {
    return tabulate_constant(l->p, l->s, "constant", e) != NULL;
}

/* f32(i32(byte) - constant) */
static bool is_byte_difference(const KExpr *e) {
    if (e->op != KO_cast) return false;
    const KExpr *i = e->arg[0];
    if (i->op == KO_sub && i->arg[1]->op == KO_const_i && llabs(i->arg[1]->u.i) <= 255)
        i = i->arg[0];
    return i->op == KO_cast && dtype_is_int(i->arg[0]->dtype) && dtype_bytes(i->arg[0]->dtype) == 1;
}

static bool is_whole(const KExpr *e) {
    return e->op == KO_cast && e->arg[0]->dtype == DT_I32;
}

static bool take_apart(Linear *l, const KExpr *e, const KExpr *scale, int depth);

/* (f32(a)*sa) * (f32(b)*sb), both bytes less a zero point: the product of whole numbers is exact.
 */
static bool take_product(Linear *l, const KExpr *e, const KExpr *scale, int depth) {
    Linear part = {.p = l->p, .s = l->s, .k = l->k};
    if (!take_apart(&part, e->arg[0], NULL, depth + 1) || part.n != 1) return false;
    if (!take_apart(&part, e->arg[1], NULL, depth + 1) || part.n != 2 || part.constant)
        return false;
    for (int i = 0; i < 2; i++)
        if (!is_byte_difference(part.term[i].whole)) return false;
    const KExpr *both = k_mul(l->k, part.term[0].scale, part.term[1].scale);
    return add_term(l, k_mul(l->k, part.term[0].whole, part.term[1].whole), scaled(l, both, scale));
}

/* Adds e * scale to the sum. */
static bool take_apart(Linear *l, const KExpr *e, const KExpr *scale, int depth) {
    KCtx *k = l->k;
    const KExpr *behind;
    if (e->dtype != DT_F32 || depth > 12) return false;
    switch ((int)e->op) {
    case KO_add:
        return take_apart(l, e->arg[0], scale, depth + 1) &&
               take_apart(l, e->arg[1], scale, depth + 1);
    case KO_cast: return e->arg[0]->dtype == DT_I32 && add_term(l, e, scale);
    case KO_const_f: return add_constant(l, e, scale);
    case KO_at:
        behind = behind_map(l, e);
        if (behind) return take_apart(l, behind, scale, depth + 1);
        return e->u.tensor->data && add_constant(l, e, scale);
    case KO_mul:
        for (int i = 0; i < 2; i++) /* whole numbers, constant ones too, are terms */
            if (is_whole(e->arg[1 - i]) && is_constant(l, e->arg[i]))
                return take_apart(l, e->arg[1 - i], scaled(l, e->arg[i], scale), depth + 1);
        for (int i = 0; i < 2; i++)
            if (is_constant(l, e->arg[i]))
                return take_apart(l, e->arg[1 - i], scaled(l, e->arg[i], scale), depth + 1);
        return take_product(l, e, scale, depth);
    case KO_div:
        if (!is_constant(l, e->arg[1])) return false;
        scale = k_div(k, scale ? scale : k_const(k, DT_F32, 1), e->arg[1]);
        return take_apart(l, e->arg[0], scale, depth + 1);
    default: return false;
    }
}

/* Clamps around the sum, outermost first. */
static const KExpr *take_clamps(Linear *l, const KExpr *e) {
    while (e->op == KO_max || e->op == KO_min) {
        int at = e->arg[0]->op == KO_const_f ? 0 : 1;
        if (e->arg[at]->op != KO_const_f) return e;
        double bound = e->arg[at]->u.f;
        if (isnan(bound)) return e;
        if (e->op == KO_max) {
            l->low = fmax(l->low, bound);
            l->high = fmax(l->high, bound);
        } else {
            l->high = fmin(l->high, bound);
            l->low = fmin(l->low, bound);
        }
        e = e->arg[1 - at];
    }
    return e;
}

/* ---- putting together ------------------------------------------------------------------------ */

/* The other term that has this one's scale; -1 when there is none. */
static int twin(const Linear *l, int i) {
    for (int o = 0; o < l->n; o++)
        if (o != i && constants_agree(l->k, l->term[i].scale, l->term[o].scale)) return o;
    return -1;
}

/* A constant whole number joins a term that has its scale, as the bias of a product has; else the
 * constant. */
static void join_bias(Linear *l) {
    KCtx *k = l->k;
    for (int i = 0; i < l->n; i++) {
        Term *t = &l->term[i];
        const KExpr *bias = t->whole->op == KO_cast
                                ? tabulate_constant(l->p, l->s, "bias", t->whole->arg[0])
                                : NULL;
        int other = bias ? twin(l, i) : -1;
        if (!bias) continue;
        if (other >= 0 && l->term[other].whole->op != KO_cast) other = -1;
        const KExpr **sum = other >= 0 ? &l->term[other].whole : NULL;
        if (sum && !constant_is_zero(k, bias))
            *sum = k_cast(k, DT_F32, k_add(k, (*sum)->arg[0], bias));
        if (!sum) add_constant(l, k_mul(k, k_cast(k, DT_F32, bias), t->scale), NULL);
        for (int r = i--; r + 1 < l->n; r++) l->term[r] = l->term[r + 1];
        l->n--;
    }
}

/* f32(v - zero), with zero a constant, as f32(v); anything else as it is, with zero 0. */
static const KExpr *without_zero(KCtx *k, const KExpr *whole, int64_t *zero) {
    *zero = 0;
    if (whole->op != KO_cast) return whole;
    const KExpr *i = whole->arg[0];
    if (i->op != KO_sub || i->arg[1]->op != KO_const_i) return whole;
    *zero = i->arg[1]->u.i;
    return k_cast(k, DT_F32, i->arg[0]);
}

static const KExpr *multiply_add(Linear *l, const KExpr *a, const KExpr *b, const KExpr *c) {
    if (!c) return k_mul(l->k, a, b);
    return l->p->m->target->fma ? k_fma(l->k, a, b, c) : k_add(l->k, k_mul(l->k, a, b), c);
}

/* The sum over step, rounded, plus zero; NULL when a constant could not be computed. */
static const KExpr *rounded_sum(Linear *l, const KExpr *step, double zero) {
    KCtx *k = l->k;
    const KExpr *ratio[MAX_TERMS], *all = NULL, *zeros = NULL;
    for (int i = 0; i < l->n; i++) {
        ratio[i] = tabulate_constant(l->p, l->s, "ratio", k_div(k, l->term[i].scale, step));
        if (!ratio[i]) return NULL;
    }
    if (l->constant) {
        l->constant = tabulate_constant(l->p, l->s, "constant", k_div(k, l->constant, step));
        if (!l->constant) return NULL;
    }
    if (l->n == 1) {
        bool is_product = l->term[0].whole->op == KO_mul;
        const KExpr *z = k_const_f(k, DT_F32, zero);
        if (is_product && !l->constant)
            return k_rint(k, k_add(k, k_mul(k, l->term[0].whole, ratio[0]), z));
        all = multiply_add(l, l->term[0].whole, ratio[0], l->constant);
        return k_add(k, k_rint(k, all), z);
    }
    for (int i = 0; i < l->n; i++) {
        int64_t z;
        l->term[i].whole = without_zero(k, l->term[i].whole, &z);
        const KExpr *part = k_mul(k, ratio[i], k_const_f(k, DT_F32, (double)z));
        zeros = zeros ? k_add(k, zeros, part) : part;
    }
    all = k_sub(k, k_const_f(k, DT_F32, zero), zeros);
    if (l->constant) all = k_add(k, all, l->constant);
    all = tabulate_constant(l->p, l->s, "constant", all);
    if (!all) return NULL;
    for (int i = l->n; i-- > 0;) all = multiply_add(l, l->term[i].whole, ratio[i], all);
    return k_rint(k, all);
}

/* Where a clamp of the sum lies among the steps. */
static double clamp_step(double bound, double step, double zero) {
    return isinf(bound) ? bound : (double)rintf((float)bound / (float)step) + zero;
}

typedef struct Quantized {
    const KExpr *value; /* of which the quotient is rounded */
    const KExpr *step;  /* constant */
    double zero, low, high;
} Quantized;

/* u8(min(max(rint(value / step) + zero, low), high)), or i8. */
static bool match_quantized(KCtx *k, const KExpr *e, Quantized *q) {
    if (e->op != KO_cast || (e->dtype != DT_U8 && e->dtype != DT_I8)) return false;
    e = e->arg[0];
    if (e->dtype != DT_F32 || e->op != KO_min || e->arg[1]->op != KO_const_f) return false;
    q->high = e->arg[1]->u.f;
    e = e->arg[0];
    if (e->op != KO_max || e->arg[1]->op != KO_const_f) return false;
    q->low = e->arg[1]->u.f;
    e = e->arg[0];
    q->zero = 0;
    if (e->op == KO_add && e->arg[1]->op == KO_const_f) {
        q->zero = e->arg[1]->u.f;
        e = e->arg[0];
    }
    if (e->op != KO_rint) return false;
    e = e->arg[0];
    q->value = e;
    q->step = NULL;
    bool by_constant = (e->op == KO_div || e->op == KO_mul) && e->arg[1]->op == KO_const_f;
    if (!by_constant || !(e->arg[1]->u.f > 0)) return true;
    int exponent;
    if (e->op == KO_mul && frexp(e->arg[1]->u.f, &exponent) != 0.5) return true;
    q->value = e->arg[0]; /* a division by a power of two has become a multiplication */
    q->step = e->op == KO_div ? e->arg[1] : k_const_f(k, DT_F32, 1 / e->arg[1]->u.f);
    return true;
}

/* Dequantized and quantized again with one scale and zero point: the byte itself; else NULL. */
static const KExpr *same_byte(const Linear *l, const Quantized *q, DType t) {
    int64_t zero;
    if (l->n != 1 || l->constant || !isinf(l->low) || !isinf(l->high)) return NULL;
    const KExpr *v = without_zero(l->k, l->term[0].whole, &zero);
    v = v->op == KO_cast ? v->arg[0] : v;
    bool is_same = l->term[0].scale->op == KO_const_f && l->term[0].scale->u.f == q->step->u.f;
    bool is_byte = v->op == KO_cast && v->arg[0]->dtype == t;
    return is_same && is_byte && (double)zero == q->zero ? v->arg[0] : NULL;
}

static const KExpr *scaled_once(DefProgram *p, Stage *s, const KExpr *e) {
    KCtx *k = p->m->k;
    Quantized q;
    Linear l = {.p = p, .s = s, .k = k, .low = -INFINITY, .high = INFINITY};
    if (!match_quantized(k, e, &q)) return e;
    if (!q.step) q.step = k_const_f(k, DT_F32, 1);
    if (!take_apart(&l, take_clamps(&l, q.value), NULL, 0) || !l.n) return e;
    join_bias(&l);
    if (!l.n) return e;
    const KExpr *same = same_byte(&l, &q, e->dtype);
    if (same) return same;
    double low = fmin(fmax(q.low, clamp_step(l.low, q.step->u.f, q.zero)), q.high);
    double high = fmax(fmin(q.high, clamp_step(l.high, q.step->u.f, q.zero)), q.low);
    const KExpr *sum = rounded_sum(&l, q.step, q.zero);
    if (!sum) return e;
    sum = k_max(k, sum, k_const_f(k, DT_F32, low));
    return k_cast(k, e->dtype, k_min(k, sum, k_const_f(k, DT_F32, high)));
}

/* ---- biased bytes ---------------------------------------------------------------------------- */

static bool is_flip(const KExpr *e, const KExpr **of) {
    if (e->op != KO_xor || e->dtype != DT_U8) return false;
    bool last = k_is_value(e->arg[1], 128);
    *of = e->arg[last ? 0 : 1];
    return last || k_is_value(e->arg[0], 128);
}

/* i32(bitcast(i8, x ^ 128u8)) - z  to  i32(x) - (z + 128);  bitcast(u8, i8(..)) ^ 128u8 of what is
 * saturated  to  u8(.. + 128) */
static const KExpr *drop_bias(KCtx *k, const KExpr *e, void *user) {
    const KExpr *x, *sum = NULL;
    (void)user;
    if (e->op == KO_sub && e->dtype == DT_I32 && e->arg[1]->op == KO_const_i &&
        e->arg[0]->op == KO_sub && e->arg[0]->arg[1]->op == KO_const_i)
        return k_sub(k, e->arg[0]->arg[0], k_add(k, e->arg[0]->arg[1], e->arg[1]));
    if (e->op == KO_cast && e->dtype == DT_I32 && e->arg[0]->op == KO_bitcast &&
        e->arg[0]->dtype == DT_I8 && is_flip(e->arg[0]->arg[0], &x))
        return k_sub(k, k_cast(k, DT_I32, x), k_const_i(k, DT_I32, 128));
    if (!is_flip(e, &x) || x->op != KO_bitcast || x->arg[0]->dtype != DT_I8) return e;
    const KExpr *v = x->arg[0];
    if (v->op == KO_bitcast && is_flip(v->arg[0], &sum)) return e;
    if (v->op != KO_cast || v->arg[0]->dtype != DT_F32 || v->arg[0]->op != KO_min) return e;
    const KExpr *top = v->arg[0], *bottom = top->arg[0];
    if (bottom->op != KO_max || top->arg[1]->op != KO_const_f || bottom->arg[1]->op != KO_const_f)
        return e;
    double low = bottom->arg[1]->u.f, high = top->arg[1]->u.f, zero = 128;
    sum = bottom->arg[0];
    if (sum->op == KO_add && sum->arg[1]->op == KO_const_f && sum->arg[0]->op == KO_rint) {
        zero += sum->arg[1]->u.f;
        sum = sum->arg[0];
    }
    if (sum->op != KO_rint || low < -128 || high > 127) return e;
    sum = k_add(k, sum, k_const_f(k, DT_F32, zero));
    sum = k_max(k, sum, k_const_f(k, DT_F32, low + 128));
    return k_cast(k, DT_U8, k_min(k, sum, k_const_f(k, DT_F32, high + 128)));
}

/* ---- whole floats ---------------------------------------------------------------------------- */

/* f32(i32(u8(e)) - z) is e - z where e is a whole number that u8 has. */
static const KExpr *drop_conversions(KCtx *k, const KExpr *e, void *user) {
    Quantized q;
    (void)user;
    if (e->op != KO_cast || e->dtype != DT_F32 || e->arg[0]->dtype != DT_I32) return e;
    const KExpr *i = e->arg[0], *zero = NULL;
    if (i->op == KO_sub && i->arg[1]->op == KO_const_i) {
        zero = k_cast(k, DT_F32, i->arg[1]);
        i = i->arg[0];
    }
    if (i->op != KO_cast || !match_quantized(k, i->arg[0], &q)) return e;
    const KExpr *byte = i->arg[0];
    double least = byte->dtype == DT_I8 ? -128 : 0;
    bool whole = q.zero == rint(q.zero) && q.low == rint(q.low) && q.high == rint(q.high);
    if (!whole || q.low < least || q.high > least + 255) return e;
    return zero ? k_sub(k, byte->arg[0], zero) : byte->arg[0];
}

/* ---- choices --------------------------------------------------------------------------------- */

/* What is quantized of a choice by place, as in a Concat, is a choice of bytes: each of its parts
 * has a scale and a zero point of its own. */
static const KExpr *choose_bytes(KCtx *k, const KExpr *e, void *user) {
    Quantized q;
    bool reads = false;
    (void)user;
    if (!match_quantized(k, e, &q) || q.value->op != KO_select) return e;
    const KExpr *at = q.value->arg[0], *part[2];
    k_visit(k, at, note_read, &reads);
    if (reads) return e;
    for (int i = 0; i < 2; i++) {
        const KExpr *to = q.value->arg[1 + i];
        if (to->op == KO_select && to->arg[0] == at) to = to->arg[1 + i];
        part[i] = choose_bytes(k, k_replace(k, e, q.value, to), NULL);
    }
    return k_select(k, at, part[0], part[1]);
}

/* ---- the pass -------------------------------------------------------------------------------- */

typedef struct Requantize {
    DefProgram *p;
    Stage *s;
    bool changed;
} Requantize;

static const KExpr *rewrite_node(KCtx *k, const KExpr *e, void *user) {
    Requantize *r = user;
    (void)k;
    const KExpr *by = scaled_once(r->p, r->s, e);
    r->changed |= by != e;
    return by;
}

static void requantize_program(DefProgram *p, void *user) {
    KCtx *k = p->m->k;
    for (Stage *s = p->first; s; s = s->next) {
        Requantize r = {p, s, false};
        const KExpr **value = s->form == FORM_MAP                                  ? &s->body
                              : s->form == FORM_REDUCE || s->form == FORM_CONTRACT ? &s->finish
                                                                                   : NULL;
        if (!value || !*value || !pass_may_rewrite()) continue;
        const KExpr *old = *value;
        *value = k_rewrite(k, *value, drop_bias, NULL);
        *value = k_rewrite(k, *value, choose_bytes, NULL);
        *value = k_rewrite(k, *value, rewrite_node, &r);
        *value = k_rewrite(k, *value, drop_bias, NULL);
        *value = k_rewrite(k, *value, drop_conversions, NULL);
        if (*value == old) continue;
        pass_count_rewrite();
        *(bool *)user = true;
        if (r.changed) pass_trace("requantize", s->node, "scaled once");
    }
}

bool pass_requantize(Module *m) {
    bool changed = false;
    program_visit(m->defs, requantize_program, &changed);
    program_count_users(m->defs);
    return changed;
}
