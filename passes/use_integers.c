/* use_integers: products of quantized tensors are summed as integers.
 *
 * Before:  dx = f32(i32(x[i, k]) - zx)*sx;  dw = f32(i32(w[k, j]) - zw)*sw[j]        maps
 *          y = contract lhs = dx[i, k], rhs = dw[k, j], acc f32, finish = acc + b[j]
 * After:   y = contract lhs = i32(x[i, k]) - zx, rhs = i32(w[k, j]) - zw, acc i32,
 *              finish = f32(acc)*(sx*sw[j]) + b[j]
 *
 * Three rewrites of definitions, before anything is fused, so that quantized tensors stay bytes in
 * memory:
 *   contracts   as above, where scales depend on the result's axes only and the sum fits 32 bits
 *   maxima      of dequantized values are taken of the integers (the scale is positive)
 *   signs       an i8 tensor that such a contract reads is stored as u8, x ^ 128, since the dot
 *               product of bytes takes one operand unsigned; everybody who reads it takes the bias
 *               off. Weights, which maps make of constants, stay as they are
 *
 * Requires definitions in which every map stands alone. What stays as it is: factors of 16 bits,
 * sums of symbolic length, and scales that change within a sum (blocks). */
#include <string.h>

#include "passes/integers.h"
#include "passes/pass.h"

enum { MAX_DEPTH = 6, MAX_MAP_NODES = 48 };

/* ---- through maps ---------------------------------------------------------------------------- */

static void count_node(const KExpr *e, void *user) {
    (void)e;
    ++*(int *)user;
}

/* A short map of bytes to i32 or f32, or one that moves what such a map made. */
static bool is_transparent(KCtx *k, const DefProgram *p, const KTensor *t) {
    const Stage *s = t->def;
    int n = 0;
    if (!s || s->form != FORM_MAP || s->owner != p || (t->dtype != DT_F32 && t->dtype != DT_I32))
        return false;
    k_visit(k, s->body, count_node, &n);
    return n <= MAX_MAP_NODES;
}

typedef struct Through {
    const DefProgram *p;
    bool found;
} Through;

/* at(t; index if pred) as what t's map computes there. */
static const KExpr *enter_map(KCtx *k, const KExpr *e, void *user) {
    Through *t = user;
    if (e->op != KO_at || !is_transparent(k, t->p, e->u.tensor)) return e;
    t->found = true;
    return stage_value_at(k, e->u.tensor->def, e);
}

/* e with the maps it reads written out; false when they are more than a few. */
static const KExpr *see_through(DefProgram *p, const KExpr *e) {
    Through t = {p, true};
    for (int i = 0; i < MAX_DEPTH && t.found; i++) {
        t.found = false;
        e = k_rewrite(p->m->k, e, enter_map, &t);
    }
    return e;
}

/* ---- contracts ------------------------------------------------------------------------------- */

static bool uses_reduction(KCtx *k, const Stage *s, const KExpr *e) {
    for (int r = 0; e && r < s->n_red; r++)
        if (k_uses_var(k, e, s->red[r])) return true;
    return false;
}

typedef struct Factor {
    const KExpr *whole, *scale; /* i32; f32 or NULL */
    IntFactor f;
} Factor;

static bool find_factor(DefProgram *p, const Stage *s, const KExpr *e, Factor *out) {
    KCtx *k = p->m->k;
    e = see_through(p, e);
    out->scale = NULL;
    out->whole = e;
    if (e->dtype == DT_F32 && !match_scaled_int(k, e, &out->whole, &out->scale)) return false;
    return match_int_factor(k, out->whole, &out->f) && !uses_reduction(k, s, out->scale) &&
           !uses_reduction(k, s, out->f.zero);
}

static bool use_integer_sum(DefProgram *p, Stage *s) {
    KCtx *k = p->m->k;
    Factor l, r;
    if (s->fold != KO_add || !k_is_value(s->init, 0)) return false;
    if (s->acc->dtype != DT_F32 && s->acc->dtype != DT_I32) return false;
    if (!find_factor(p, s, s->lhs, &l) || !find_factor(p, s, s->rhs, &r)) return false;
    double largest = int_sum_bound(s, &l.f, &r.f);
    bool was_float = s->acc->dtype == DT_F32;
    if (was_float && (largest <= 0 || largest >= 2147483648.0)) return false;
    if (!pass_may_rewrite()) return false;
    pass_count_rewrite();
    s->lhs = l.whole;
    s->rhs = r.whole;
    if (was_float) {
        KVar *acc = kvar_new(k, KV_AXIS, DT_I32, s->acc->name, INT64_MIN, INT64_MAX);
        const KExpr *scale = !l.scale ? r.scale : !r.scale ? l.scale : k_mul(k, l.scale, r.scale);
        const KExpr *value = k_cast(k, DT_F32, k_var(k, acc));
        if (scale) value = k_mul(k, value, scale);
        s->finish = k_subst(k, s->finish, &s->acc, &value, 1);
        s->acc = acc;
        s->init = k_const(k, DT_I32, 0);
    }
    pass_trace("use_integers", s->node, "sums integers");
    return true;
}

/* ---- maxima ---------------------------------------------------------------------------------- */

typedef struct MaxOf {
    KTensor *from;    /* dequantized */
    const KExpr *x;   /* what it is made of: a read of bytes at the map's axes */
    const KExpr *low; /* stands for -inf */
    bool fits;
} MaxOf;

/* The body over bytes: reads of the map become reads of its tensor, the least float the least byte.
 */
static const KExpr *of_bytes(KCtx *k, const KExpr *e, MaxOf *m) {
    if (e->op == KO_at && e->u.tensor == m->from && e->n_args >= m->from->rank) {
        const KExpr *x = k_subst(k, m->x, m->from->def->axis, e->arg, m->from->rank);
        const KExpr *arg[MAX_RANK + 1];
        int rank = x->u.tensor->rank;
        memcpy(arg, x->arg, sizeof *arg * (size_t)rank);
        if (at_pred(e)) arg[rank] = at_pred(e);
        return k_at(k, x->u.tensor, arg, rank + (at_pred(e) != NULL));
    }
    if (e->op == KO_const_f && e->u.f == -__builtin_inf()) return m->low;
    if (e->op == KO_select)
        return k_select(k, e->arg[0], of_bytes(k, e->arg[1], m), of_bytes(k, e->arg[2], m));
    m->fits = false;
    return m->low;
}

static const KExpr *first_read(const KExpr *e) {
    return e->op == KO_select ? first_read(e->arg[1]) : e->op == KO_at ? e : NULL;
}

static bool use_integer_max(DefProgram *p, Stage *s) {
    KCtx *k = p->m->k;
    const KExpr *read = first_read(s->body), *whole, *scale;
    IntFactor f;
    if (s->fold != KO_max || s->acc->dtype != DT_F32 || s->init->op != KO_const_f || !read)
        return false;
    Stage *map = read->u.tensor->def;
    if (!map || map->form != FORM_MAP || map->owner != p) return false;
    if (!match_scaled_int(k, map->body, &whole, &scale) || !match_int_factor(k, whole, &f))
        return false;
    if (f.inside || (scale && (scale->op != KO_const_f || !(scale->u.f > 0)))) return false;
    if (f.zero && f.zero->op != KO_const_i) return false;
    if (s->init->u.f != -__builtin_inf() || !pass_may_rewrite()) return false;
    DType t = f.at->dtype;
    MaxOf m = {map->out, f.at, k_const_i(k, t, t == DT_I8 ? -128 : 0), true};
    const KExpr *body = of_bytes(k, s->body, &m);
    if (!m.fits) return false;
    pass_count_rewrite();
    s->body = body;
    KVar *acc = kvar_new(k, KV_AXIS, t, s->acc->name, INT64_MIN, INT64_MAX);
    const KExpr *value = k_cast(k, DT_I32, k_var(k, acc));
    if (f.zero) value = k_sub(k, value, f.zero);
    value = k_cast(k, DT_F32, value);
    if (scale) value = k_mul(k, value, scale);
    s->finish = k_subst(k, s->finish, &s->acc, &value, 1);
    s->acc = acc;
    s->init = m.low;
    pass_trace("use_integers", s->node, "maximum of bytes");
    return true;
}

/* ---- signs ----------------------------------------------------------------------------------- */

typedef struct Bias {
    KTensor *from, *to;
} Bias;

static const KExpr *read_biased(KCtx *k, const KExpr *e, void *user) {
    const Bias *b = user;
    if (e->op != KO_at || e->u.tensor != b->from) return e;
    const KExpr *v = k_xor(k, k_at(k, b->to, e->arg, e->n_args), k_const_i(k, DT_U8, 128));
    v = k_bitcast(k, DT_I8, v);
    return at_pred(e) ? k_select(k, at_pred(e), v, k_const_i(k, DT_I8, 0)) : v;
}

/* i32(p ? v : 0) as p ? i32(v) : 0, which is how factors are written; within the same select it is
 * i32(v). */
static const KExpr *lift_select(KCtx *k, const KExpr *e, void *user) {
    const KExpr *zero = k_const_i(k, DT_I32, 0);
    (void)user;
    if (e->op == KO_cast && e->dtype == DT_I32 && e->arg[0]->op == KO_select &&
        k_is_value(e->arg[0]->arg[2], 0))
        return k_select(k, e->arg[0]->arg[0], k_cast(k, DT_I32, e->arg[0]->arg[1]), zero);
    if (e->op != KO_select || e->arg[1]->op != KO_sub || e->arg[1]->arg[0]->op != KO_select)
        return e;
    const KExpr *inner = e->arg[1]->arg[0];
    if (inner->arg[0] != e->arg[0]) return e;
    return k_select(k, e->arg[0], k_sub(k, inner->arg[1], e->arg[1]->arg[1]), e->arg[2]);
}

static bool can_bias(const DefProgram *p, const KTensor *t) {
    const Stage *s = t->def;
    if (!s || s->owner != p || t->dense_only || t->data || t->alias || t->dtype != DT_I8)
        return false;
    if (s->form != FORM_MAP && s->form != FORM_REDUCE && s->form != FORM_CONTRACT) return false;
    for (uint32_t i = 0; i < t->users.n; i++) {
        Form f = t->users.at[i]->form;
        if (t->users.at[i]->owner != p || (f != FORM_MAP && f != FORM_REDUCE && f != FORM_CONTRACT))
            return false;
    }
    return t->n_users == t->users.n;
}

static bool store_biased(DefProgram *p, KTensor *t) {
    KCtx *k = p->m->k;
    if (!can_bias(p, t) || !pass_may_rewrite()) return false;
    pass_count_rewrite();
    Stage *s = t->def;
    KTensor *to = program_add_tensor(p, t->name, DT_U8, t->rank, t->dims);
    to->def = s;
    s->out = to;
    const KExpr **value = s->form == FORM_MAP ? &s->body : &s->finish;
    *value = k_xor(k, k_bitcast(k, DT_U8, *value), k_const_i(k, DT_U8, 128));
    s->movement = s->view = false;
    Bias b = {t, to};
    for (uint32_t i = 0; i < t->users.n; i++) {
        Stage *reader = t->users.at[i];
        stage_rewrite(p, reader, read_biased, &b);
        stage_rewrite(p, reader, lift_select, NULL);
        reader->movement = reader->view = false;
        vec_push(p->arena, &to->users, reader);
        to->n_users++;
    }
    t->def = NULL;
    t->users.n = t->n_users = 0;
    pass_trace("use_integers", s->node, "stored as u8");
    return true;
}

/* ---- the pass -------------------------------------------------------------------------------- */

/* Is t made of constants by a few maps? */
static bool is_weight(DefProgram *p, const KTensor *t, int depth) {
    KTensor *read[256];
    const Stage *s = t->def;
    if (t->data) return true;
    if (!s || s->form != FORM_MAP || s->owner != p || depth == MAX_DEPTH) return false;
    int n = stage_reads(p, s, read, 256);
    for (int i = 0; i < n; i++)
        if (!is_weight(p, read[i], depth + 1)) return false;
    return n > 0;
}

/* Activations of an integer contract whose result has the other factor's axes too; weights have the
 * sign that the dot product wants. */
static void note_signed(DefProgram *p, Stage *s, bool *changed) {
    const KExpr *factor[] = {s->lhs, s->rhs};
    IntFactor f;
    for (int i = 0; i < 2; i++)
        if (match_int_factor(p->m->k, factor[i], &f) && f.at->dtype == DT_I8 &&
            !is_weight(p, f.at->u.tensor, 0))
            *changed |= store_biased(p, f.at->u.tensor);
}

static void sum_in_program(DefProgram *p, void *user) {
    for (Stage *s = p->first; s; s = s->next) {
        if (s->form == FORM_CONTRACT) *(bool *)user |= use_integer_sum(p, s);
        if (s->form == FORM_REDUCE) *(bool *)user |= use_integer_max(p, s);
    }
}

static void sign_in_program(DefProgram *p, void *user) {
    for (Stage *s = p->first; s; s = s->next)
        if (s->form == FORM_CONTRACT && s->acc->dtype == DT_I32) note_signed(p, s, user);
}

bool pass_use_integers(Module *m) {
    bool changed = false;
    program_visit(m->defs, sum_in_program, &changed);
    program_count_users(m->defs);
    program_visit(m->defs, sign_in_program, &changed);
    return changed;
}
