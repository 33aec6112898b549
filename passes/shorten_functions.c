/* shorten_functions: functions with no more digits than what becomes of them keeps.
 *
 * Powers of an attention's softmax, without what is too small to count:
 *
 *   Before:  m[i] = max_j x[i,j];  e[i,j] = exp(x[i,j] - m[i]);  s[i] = sum_j e[i,j];
 *            y[i,d] = sum_j e[i,j] * v[j,d] / s[i]
 *   After:   e[i,j] = exp_neg(x[i,j] - m[i])      0 below the normal numbers; a quarter less work
 *
 * The largest power of a row is 1, so nothing is lost beside it. Masks that add -100 make powers
 * that are subnormal, and a processor needs a hundred cycles for each operation with one. Only
 * powers that end in sums: read by folds with addition and by contractions, directly or through
 * products and quotients that nobody else reads, rounded to 16 bits or not, or in the body of the
 * fold itself (LogSoftmax). A softmax that the model gives away keeps all its bits.
 *
 * Sums of 1 and a function, written out by an exporter:
 *
 *   Before:  x * (1 + erf(x / sqrt 2)) * 0.5      and   x * 0.5 * (1 + tanh u)
 *   After:   x * normal(x)                              x * sigmoid(2 u)
 *
 * where the 1 swallows most digits of a small erf or tanh anyway.
 *
 * What a sigmoid multiplies is divided by its reciprocal, SiLU and the gates of LSTM and GLU:
 *
 *   Before:  x * sigmoid(u)
 *   After:   x / rsigmoid(u)               1 + e^-u, a quarter less work than quotient and product
 *
 * unless x is a function as well, for which the division would wait. Requires definitions. */
#include <math.h>

#include "passes/pass.h"

/* ---- powers ---------------------------------------------------------------------------------- */

enum { MOST_STEPS = 4 }; /* maps between powers and sums */

/* What a 16-bit float is widened from; e itself otherwise. */
static const KExpr *narrow_read(const KExpr *e) {
    bool is_wide = e->op == KO_cast && e->dtype == DT_F32 && e->arg[0]->op == KO_at &&
                   dtype_is_float(e->arg[0]->dtype) && dtype_bytes(e->arg[0]->dtype) == 2;
    return is_wide ? e->arg[0] : e;
}

/* Does read `x` of the tensor that `peak` folds lie among the elements of the fold at `at`? */
static bool is_in_row(KCtx *k, const Stage *peak, const KExpr *x, const KExpr *at) {
    const KExpr *folded = narrow_read(peak->body);
    if (folded->op != KO_at || folded->u.tensor != x->u.tensor || folded->n_args != x->n_args)
        return false;
    for (int i = 0; i < x->n_args; i++) {
        bool is_any = false;
        for (int r = 0; r < peak->n_red; r++)
            is_any |= folded->arg[i]->op == KO_var && folded->arg[i]->u.var == peak->red[r];
        if (is_any) continue;
        const KExpr *own = k_subst(k, folded->arg[i], peak->axis, at->arg, peak->out->rank);
        if (own != x->arg[i]) return false;
    }
    return true;
}

/* What a fold gives: its result, or 0 for a row without any key, in which all x are -inf. */
static bool is_largest(const Stage *peak) {
    const KExpr *e = peak->finish;
    if (e->op == KO_select && e->arg[0]->op == KO_eq && k_is_value(e->arg[1], 0)) {
        const KExpr *seen = e->arg[0];
        bool is_none = false;
        for (int i = 0; i < 2; i++)
            is_none |= seen->arg[i]->op == KO_const_f && seen->arg[i]->u.f == -INFINITY &&
                       seen->arg[1 - i] == e->arg[2];
        if (is_none) e = e->arg[2];
    }
    return e->op == KO_var;
}

/* Is it exp(x - m) with m the largest x of the row, so that it is at most 1? */
static bool is_power(KCtx *k, const KExpr *e) {
    if (e->op != KO_exp || e->arg[0]->op != KO_sub) return false;
    const KExpr *x = narrow_read(e->arg[0]->arg[0]), *m = e->arg[0]->arg[1];
    const Stage *peak = m->op == KO_at && !at_pred(m) ? m->u.tensor->def : NULL;
    return peak && peak->form == FORM_REDUCE && peak->fold == KO_max && x->op == KO_at &&
           !at_pred(x) && is_largest(peak) && is_in_row(k, peak, x, m);
}

static bool ends_in_sums(const KTensor *t, int steps);

/* Is t added up by s, or a factor of what is? */
static bool adds_up(const Stage *s, const KTensor *t, int steps) {
    if (s->form == FORM_CONTRACT) return true;
    if (s->form == FORM_REDUCE)
        return s->fold == KO_add && s->body->op == KO_at && s->body->u.tensor == t;
    const KExpr *e = s->form == FORM_MAP ? s->body : NULL;
    while (e && e->op == KO_cast && dtype_is_float(e->dtype)) e = e->arg[0]; /* of 16 bits */
    if (!e || (e->op != KO_mul && e->op != KO_div)) return false;
    e = e->arg[0];
    return e->op == KO_at && e->u.tensor == t && ends_in_sums(s->out, steps - 1);
}

static bool ends_in_sums(const KTensor *t, int steps) {
    if (!steps || t->is_output || t->dense_only || !t->users.n) return false;
    if (t->n_users != t->users.n) return false;
    for (uint32_t u = 0; u < t->users.n; u++)
        if (!adds_up(t->users.at[u], t, steps)) return false;
    return true;
}

/* ---- 1 + erf, 1 + tanh ----------------------------------------------------------------------- */

enum { MOST_FACTORS = 8 };

typedef struct Product {
    const KExpr *factor[MOST_FACTORS];
    int n;
    double scale; /* of the constants among them */
} Product;

static bool collect_factors(Product *p, const KExpr *e) {
    if (e->op == KO_mul) return collect_factors(p, e->arg[0]) && collect_factors(p, e->arg[1]);
    if (e->op == KO_const_f) {
        p->scale *= e->u.f;
        return true;
    }
    if (p->n == MOST_FACTORS) return false;
    p->factor[p->n++] = e;
    return true;
}

static bool is_near(const KExpr *e, double value) {
    return e->op == KO_const_f && fabs(e->u.f - value) <= 1e-6 * value;
}

/* x of x / sqrt 2, NULL when it is not. */
static const KExpr *over_root(const KExpr *e) {
    bool is_quotient = e->op == KO_div && is_near(e->arg[1], M_SQRT2);
    for (int i = 0; i < 2 && e->op == KO_mul; i++)
        if (is_near(e->arg[i], M_SQRT1_2)) return e->arg[1 - i];
    return is_quotient ? e->arg[0] : NULL;
}

static const KExpr *twice(KCtx *k, const KExpr *e) {
    for (int i = 0; i < 2 && e->op == KO_mul; i++)
        if (e->arg[i]->op == KO_const_f)
            return k_mul(k, e->arg[1 - i], k_const_f(k, e->dtype, 2 * e->arg[i]->u.f));
    return k_mul(k, e, k_const_f(k, e->dtype, 2));
}

/* Half of 1 + erf(..) or 1 + tanh(..); NULL when it is neither. */
static const KExpr *half_of_sum(KCtx *k, const KExpr *e) {
    if (e->op != KO_add) return NULL;
    int one = e->arg[0]->op != KO_const_f;
    const KExpr *f = e->arg[1 - one], *x = f->op == KO_erf ? over_root(f->arg[0]) : NULL;
    if (e->arg[one]->op != KO_const_f || e->arg[one]->u.f != 1) return NULL;
    if (x) return k_unary(k, KO_normal, x);
    return f->op == KO_tanh ? k_unary(k, KO_sigmoid, twice(k, f->arg[0])) : NULL;
}

static const KExpr *shorten_product(KCtx *k, const KExpr *e, void *user) {
    Product p = {.scale = 1};
    int at = -1;
    if (e->op != KO_mul || e->dtype != DT_F32 || !collect_factors(&p, e) || p.scale != 0.5)
        return e;
    const KExpr *half = NULL, *r = NULL;
    for (int i = 0; i < p.n && !half; i++)
        if ((half = half_of_sum(k, p.factor[i]))) at = i;
    if (!half || !pass_may_rewrite()) return e;
    pass_count_rewrite();
    *(bool *)user = true;
    p.factor[at] = half;
    for (int i = 0; i < p.n; i++) r = r ? k_mul(k, r, p.factor[i]) : p.factor[i];
    return r;
}

/* ---- x * sigmoid(u) -------------------------------------------------------------------------- */

static void note_function(const KExpr *e, void *user) {
    if (kop_info[e->op].class == KC_MATH || e->op == KO_div) *(bool *)user = true;
}

static const KExpr *divide_by_gate(KCtx *k, const KExpr *e, void *user) {
    if (e->op != KO_mul || e->dtype != DT_F32) return e;
    for (int i = 0; i < 2; i++) {
        const KExpr *gate = e->arg[i], *x = e->arg[1 - i];
        bool has_function = false;
        k_visit(k, x, note_function, &has_function);
        if (gate->op != KO_sigmoid || has_function || !pass_may_rewrite()) continue;
        pass_count_rewrite();
        *(bool *)user = true;
        return k_div(k, x, k_unary(k, KO_rsigmoid, gate->arg[0]));
    }
    return e;
}

static bool rewrite_parts(DefProgram *p, Stage *s, KRewrite *rewrite, const char *what) {
    KCtx *k = p->m->k;
    bool changed = false;
    if (s->form != FORM_MAP && s->form != FORM_REDUCE && s->form != FORM_CONTRACT) return false;
    const KExpr **parts[] = {&s->body, &s->lhs, &s->rhs, &s->finish};
    for (int i = 0; i < 4; i++)
        if (*parts[i]) *parts[i] = k_rewrite(k, *parts[i], rewrite, &changed);
    if (changed) pass_trace("shorten_functions", s->node, "%s", what);
    return changed;
}

static void shorten_in_program(DefProgram *p, void *user) {
    KCtx *k = p->m->k;
    bool *changed = user;
    for (Stage *s = p->first; s; s = s->next) {
        *changed |= rewrite_parts(p, s, shorten_product, "half of a sum of 1 and a function");
        *changed |= rewrite_parts(p, s, divide_by_gate, "a quotient, not a sigmoid's product");
        bool is_sum = s->form == FORM_REDUCE && s->fold == KO_add && is_power(k, s->body);
        bool is_map = s->form == FORM_MAP && is_power(k, s->body);
        if (!is_sum && !(is_map && ends_in_sums(s->out, MOST_STEPS))) continue;
        if (!pass_may_rewrite()) continue;
        pass_count_rewrite();
        pass_trace("shorten_functions", s->node, "powers of at most 1, for sums");
        s->body = k_unary(k, KO_exp_neg, s->body->arg[0]);
        *changed = true;
    }
}

bool pass_shorten_functions(Module *m) {
    bool changed = false;
    program_count_users(m->defs);
    program_visit(m->defs, shorten_in_program, &changed);
    return changed;
}
