/* reduce_precision: factors of f32 contractions as 16-bit floats, under --precision=bf16 or f16.
 *
 * Before:  v: f32 = map [i, j] { value = tanh(x[i, j]) }
 *          y: f32 = contract [i, j] over [k < 64] { lhs = v[i, k]  rhs = w[k, j] }
 * After:   v: bf16 = map [i, j] { value = bf16(tanh(x[i, j])) }
 *          y: f32 = contract [i, j] over [k < 64] { lhs = f32(v[i, k])  rhs = f32(h[k, j]) }
 *          h: bf16, the weights w rounded
 *
 * Products are exact in f32 and sums stay f32. Constants shrink to half everywhere; the other
 * factors are rounded only where an instruction multiplies bf16 (a matrix unit's, or a dot product
 * of pairs), since elsewhere that costs instructions and gains nothing. Then all that reads such a
 * tensor reads the rounded values. What the caller, programs and regions read is left alone, and
 * copied for the contraction.
 *
 * Requires definitions, after fusion; before layouts, which block 16-bit tensors by more elements.
 * Does nothing without the option. */
#include "ir/matrix.h"
#include "passes/pass.h"

enum { WORTH_ELEMS = 1024 };

typedef struct Narrow {
    DefProgram *p;
    DType to;
    Conversions copies; /* of constants, and of other tensors that need one */
    bool changed;
} Narrow;

static const KExpr *widen(KCtx *k, const KExpr *e) {
    return k_cast(k, DT_F32, e);
}

/* ---- copies ---------------------------------------------------------------------------------- */

static KTensor *copy_of(Narrow *n, Stage *before, KTensor *t) {
    n->changed = true;
    return convert_tensor(n->p, &n->copies, before, t, n->to);
}

typedef struct Redirect {
    Narrow *n;
    Stage *s;
} Redirect;

static const KExpr *read_small_constant(KCtx *k, const KExpr *e, void *user) {
    Redirect *r = user;
    if (e->op != KO_at || e->dtype != DT_F32 || !e->u.tensor->data) return e;
    if (e->u.tensor->data_bytes < WORTH_ELEMS * 4) return e;
    return widen(k, k_at(k, copy_of(r->n, r->s, e->u.tensor), e->arg, e->n_args));
}

/* ---- tensors that an instruction for bf16 reads ---------------------------------------------- */

/* The tensor whose rows it could read: the whole of a factor, with an index that runs along 64
 * bytes. */
static KTensor *rows_of(const Stage *s, const KExpr *factor) {
    if (factor->op != KO_at || factor->dtype != DT_F32 || factor->u.tensor->data) return NULL;
    return matrix_may_read(s, factor) ? factor->u.tensor : NULL;
}

static bool is_ours(const KTensor *t) {
    Form f = t->def ? t->def->form : FORM_NONE;
    return (f == FORM_MAP || f == FORM_REDUCE || f == FORM_CONTRACT) && !t->is_output &&
           !t->dense_only && !t->alias;
}

static const KExpr *read_wide(KCtx *k, const KExpr *e, void *user) {
    return e->op == KO_at && e->u.tensor == user && e->dtype == DT_F32
               ? widen(k, k_at(k, user, e->arg, e->n_args))
               : e;
}

/* Rounds t where it is made, and lets everyone read the rounded values. */
static void round_tensor(Narrow *n, KTensor *t) {
    KCtx *k = n->p->m->k;
    Stage *d = t->def;
    const KExpr **value = d->form == FORM_MAP ? &d->body : &d->finish;
    t->dtype = t->buf->dtype = n->to;
    *value = k_cast(k, n->to, *value);
    d->movement = d->view = false;
    d->reads.known = false;
    for (Stage *s = n->p->first; s; s = s->next) stage_rewrite(n->p, s, read_wide, t);
    n->changed = true;
}

static void round_rows(Narrow *n, Stage *s) {
    KTensor *t = rows_of(s, s->lhs);
    const KExpr *other = s->rhs;
    if (!t || other->op != KO_at || !other->u.tensor->data) return;
    if (is_ours(t))
        round_tensor(n, t);
    else
        s->lhs = widen(n->p->m->k, k_at(n->p->m->k, copy_of(n, s, t), s->lhs->arg, s->lhs->n_args));
}

static void reduce_program(DefProgram *p, void *user) {
    bool *changed = user;
    Narrow n = {.p = p, .to = p->m->precision};
    const Target *t = p->m->target;
    bool rounds_rows = n.to == DT_BF16 && (t->amx || t->dot2_bf16);
    for (Stage *s = p->first; s; s = s->next) {
        if (s->form != FORM_CONTRACT || s->acc->dtype != DT_F32 || !pass_may_rewrite()) continue;
        pass_count_rewrite();
        stage_forget_reads(s);
        if (rounds_rows) round_rows(&n, s);
        Redirect r = {&n, s};
        s->lhs = k_rewrite(p->m->k, s->lhs, read_small_constant, &r);
        s->rhs = k_rewrite(p->m->k, s->rhs, read_small_constant, &r);
        s->reads.known = false;
        stage_note_reads(s);
    }
    *changed |= n.changed;
}

bool pass_reduce_precision(Module *m) {
    bool changed = false;
    if (!m->precision) return false;
    program_count_users(m->defs);
    program_visit(m->defs, reduce_program, &changed);
    return changed;
}
