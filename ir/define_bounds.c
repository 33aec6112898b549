/* What a program's reads take for granted: see program_require_bounds() in define.h.
 *
 * Shape inference may meet dims of which it cannot know whether they fit: [n] + [m], Split of n
 * into 7 and 6. ONNX says that such a model is only valid where they do. Each read states what has
 * to hold so that it stays inside its tensor,
 *
 *     v[i, j] = x[i, j + 7]  with j < 6, x: f32[a, n]      requires  6 - 1 + 7 < n
 *
 * and a view that both sides have as many elements. What the ranges of the symbols prove is left
 * out, and so are predicated reads, which need nothing. lower_kernels has the rest tested where the
 * symbols have their values, and the call returns a status where it does not hold. */
#include "ir/define.h"

typedef struct Bounds {
    DefProgram *p;
    KCtx *k;
    const Stage *s;
} Bounds;

static void note_foreign(const KExpr *e, void *user) {
    bool own = e->op == KO_var ? e->u.var->kind == KV_SYMBOL : e->op != KO_at && e->op != KO_load;
    if (!own) *(bool *)user = true;
}

/* Notes that cond holds, or that the stage has nothing to compute. */
static void require(const Bounds *b, const KExpr *cond) {
    KCtx *k = b->k;
    const Stage *s = b->s;
    bool foreign = false;
    k_visit(k, cond, note_foreign, &foreign);
    for (int i = 0; i < s->out->rank + s->n_red; i++) {
        const KExpr *n = i < s->out->rank ? s->out->dims[i] : s->red_extent[i - s->out->rank];
        if (n->lo < 1) cond = k_binary(k, KO_or, cond, k_binary(k, KO_le, n, k_int(k, 0)));
    }
    if (foreign || k_is_value(cond, 1)) return;
    for (uint32_t i = 0; i < b->p->required.n; i++)
        if (b->p->required.at[i] == cond) return;
    vec_push(b->p->arena, &b->p->required, cond);
}

/* The largest (or least) value of e over the variable's 0 .. extent-1; NULL where that is not
 * seen. */
static const KExpr *extreme(KCtx *k, const KExpr *e, KVar *v, const KExpr *extent, bool largest) {
    const KExpr *base, *coeff;
    int64_t c;
    if (!k_uses_var(k, e, v)) return e;
    if (!k_linear_in(k, e, v, &base, &coeff) || !k_is_int(coeff, &c)) return NULL;
    bool at_end = (c > 0) == largest;
    return at_end ? k_add(k, base, k_mul(k, coeff, k_sub(k, extent, k_int(k, 1)))) : base;
}

static const KExpr *extreme_of_stage(const Bounds *b, const KExpr *e, bool largest) {
    const Stage *s = b->s;
    for (int i = 0; e && i < s->out->rank; i++)
        e = extreme(b->k, e, s->axis[i], s->out->dims[i], largest);
    for (int i = 0; e && i < s->n_red; i++)
        e = extreme(b->k, e, s->red[i], s->red_extent[i], largest);
    return e;
}

static void note_read(const KExpr *e, void *user) {
    const Bounds *b = user;
    KCtx *k = b->k;
    if (e->op != KO_at || at_pred(e)) return;
    const KTensor *t = e->u.tensor;
    for (int i = 0; i < t->rank; i++) {
        if (e->arg[i]->lo >= 0 && e->arg[i]->hi < t->dims[i]->lo) continue;
        const KExpr *high = extreme_of_stage(b, e->arg[i], true),
                    *low = extreme_of_stage(b, e->arg[i], false);
        if (high) require(b, k_lt(k, high, t->dims[i]));
        if (low && low->lo < 0) require(b, k_le(k, k_int(k, 0), low));
    }
}

static const KExpr *n_elements(KCtx *k, const KTensor *t) {
    const KExpr *n = k_int(k, 1);
    for (int i = 0; i < t->rank; i++) n = k_mul(k, n, t->dims[i]);
    return n;
}

static void require_bounds(DefProgram *p, void *user) {
    (void)user;
    Bounds b = {.p = p, .k = p->m->k};
    for (Stage *s = p->first; s; s = s->next) {
        if (s->form == FORM_PROGRAM || s->form == FORM_REGION) continue;
        b.s = s;
        if (s->view && s->body->op == KO_at) {
            require(&b, k_eq(b.k, n_elements(b.k, s->body->u.tensor), n_elements(b.k, s->out)));
            continue;
        }
        stage_visit(b.k, s, note_read, &b);
    }
}

void program_require_bounds(DefProgram *p) {
    program_visit(p, require_bounds, NULL);
}
