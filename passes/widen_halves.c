/* widen_halves: 16-bit floats between stages as f32 that holds the same values.
 *
 * Before:  y: f16 = contract [i, j] over [k < 64] { lhs = f32(x[i, k])  rhs = f32(w[k, j])
 *            finish = max(0.0, f16(acc)) }
 *          z: f16 = contract [i, j] over [k < 96] { lhs = f32(y[i, k])  rhs = f32(v[k, j]) ... }
 * After:   y: f32 = contract [i, j] over [k < 64] { ... finish = max(0.0, f32(f16(acc))) }
 *          z: f16 = contract [i, j] over [k < 96] { lhs = y[i, k]  rhs = f32(v[k, j]) ... }
 *
 * A product reads each of its factors many times, and to widen it costs as much as to multiply;
 * rounded where it is made, it is widened once. The bits are those of the 16-bit tensor: each
 * operation rounds its result as before, and what is rounded already is not rounded again (a
 * maximum of two such values is one). Layouts, halos, Winograd's filtering and tiles are then those
 * of f32, at the price of twice the memory for these tensors.
 *
 * Widened are the tensors that contractions and overlapping windows read, and what lies in their
 * bytes (views, concatenations). What the caller, programs and regions read keeps its dtype;
 * a contraction that reads such a tensor gets a copy. Small constants are widened, too; large ones
 * (weights) stay as small as they are and are widened where they are packed or read.
 *
 * Requires definitions, after fusion. Not done: bf16 that an instruction multiplies. */
#include "ir/matrix.h"
#include "ir/schedule.h"
#include "passes/pass.h"

/* An element is worth widening once it is read so often; constants up to so many bytes. */
enum { WORTH_READS = 2, WORTH_COPY = 4, SMALL_BYTES = 1 << 16, MOST_DEPTH = 24 };

typedef struct Widen {
    DefProgram *p;
    uint32_t n;          /* tensors of the program when the pass began */
    uint8_t *was;        /* the dtype that each had, if it is widened; DT_NONE if not */
    uint8_t *kept;       /* an instruction for bf16 reads it */
    Conversions copies;  /* of what is read in f32 though it is stored as it was */
    Stage *s;            /* that is rewritten */
    const KVar *acc;     /* its running maximum of 16-bit floats, in f32; or NULL */
    bool changed;
} Widen;

static bool is_half(DType t) {
    return t == DT_F16 || t == DT_BF16;
}

/* The dtype that t had, if it is one of those that are widened; DT_NONE if not. */
static DType old_dtype(const Widen *w, const KTensor *t) {
    return t->id < w->n && w->p->tensors.at[t->id] == t ? (DType)w->was[t->id] : DT_NONE;
}

/* ---- which tensors --------------------------------------------------------------------------- */

static bool is_plain(const DefProgram *p, const Stage *s) {
    return (s->form == FORM_MAP || s->form == FORM_REDUCE || s->form == FORM_CONTRACT) &&
           s->owner == p;
}

static bool is_free(const DefProgram *p, const KTensor *t) {
    if (!is_half(t->dtype) || t->dense_only || t->alias || t->is_output || t->data) return false;
    if (!t->def || !is_plain(p, t->def)) return false;
    for (uint32_t i = 0; i < t->users.n; i++)
        if (!is_plain(p, t->users.at[i])) return false;
    return true;
}

/* Widens t if that is possible; false if it is not or was done before. */
static bool mark(Widen *w, KTensor *t) {
    if (old_dtype(w, t) || !is_free(w->p, t) || w->kept[t->id] || !pass_may_rewrite()) return false;
    pass_count_rewrite();
    w->was[t->id] = (uint8_t)t->dtype;
    pass_trace("widen_halves", t->def->node, "its result is kept in f32");
    return true;
}

/* How often the stage reads an element of t, if it reads all of them. */
static double n_reads(const Stage *s, const KTensor *t) {
    double n = schedule_stage_work(s);
    for (int i = 0; i < t->rank; i++) n /= k_most(t->dims[i]) > 1 ? k_most(t->dims[i]) : 1;
    return n;
}

static const KExpr *bf16_read(const KExpr *e) {
    bool fits = e->op == KO_cast && e->dtype == DT_F32 && e->arg[0]->op == KO_at;
    return fits && e->arg[0]->dtype == DT_BF16 ? e->arg[0] : NULL;
}

/* Does an instruction multiply what the stage reads: a matrix unit's, or a dot product of pairs? */
static bool multiplies_bfloats(const DefProgram *p, const Stage *s) {
    const Target *t = p->m->target;
    if ((!t->amx && !t->dot2_bf16) || s->form != FORM_CONTRACT) return false;
    const KExpr *left = bf16_read(s->lhs), *right = bf16_read(s->rhs);
    return left && right && (matrix_may_read(s, left) || matrix_may_read(s, right));
}

static void keep_factor(const KExpr *e, void *user) {
    Widen *w = user;
    if (e->op == KO_at && e->u.tensor->id < w->n) w->kept[e->u.tensor->id] = true;
}

static void mark_factor(const KExpr *e, void *user) {
    Widen *w = user;
    if (e->op == KO_at && n_reads(w->s, e->u.tensor) >= WORTH_READS) mark(w, e->u.tensor);
}

/* Is e reads and choices between them: movement, a concatenation? */
static bool only_moves(const KExpr *e) {
    while (e->op == KO_select && e->arg[1]->op == KO_at) e = e->arg[2];
    return e->op == KO_at;
}

/* What moves from or to a wide tensor is wide: it may be the same bytes. */
static bool spread_through(Widen *w, const Stage *s) {
    KTensor *all[257];
    bool any = false, changed = false;
    if (s->form != FORM_MAP || !is_half(s->body->dtype) || !only_moves(s->body)) return false;
    int n = stage_reads(w->p, s, all, 256);
    all[n++] = s->out;
    for (int i = 0; i < n; i++) any |= old_dtype(w, all[i]) != DT_NONE;
    for (int i = 0; any && i < n; i++) changed |= mark(w, all[i]);
    return changed;
}

static void choose_tensors(Widen *w) {
    KCtx *k = w->p->m->k;
    for (Stage *s = w->p->first; s; s = s->next) {
        if (!multiplies_bfloats(w->p, s)) continue;
        k_visit(k, s->lhs, keep_factor, w);
        k_visit(k, s->rhs, keep_factor, w);
    }
    for (Stage *s = w->p->first; s; s = s->next) {
        w->s = s;
        if (s->form == FORM_REDUCE) k_visit(k, s->body, mark_factor, w);
        if (s->form != FORM_CONTRACT) continue;
        k_visit(k, s->lhs, mark_factor, w);
        k_visit(k, s->rhs, mark_factor, w);
        mark(w, s->out);
    }
    for (bool again = true; again;) {
        again = false;
        for (Stage *s = w->p->first; s; s = s->next) again |= spread_through(w, s);
        for (Stage *s = w->p->last; s; s = s->prev) again |= spread_through(w, s);
    }
    for (uint32_t i = 0; i < w->n; i++) {
        KTensor *t = w->p->tensors.at[i];
        if (w->was[i]) t->dtype = t->buf->dtype = DT_F32;
        w->changed |= w->was[i] != DT_NONE;
    }
}

/* ---- arithmetic ------------------------------------------------------------------------------ */

static bool is_exact(KOp op) {
    return op == KO_min || op == KO_max || op == KO_neg || op == KO_abs || op == KO_select;
}

/* Does e, f32, hold a value of the 16-bit dtype t for sure? */
static bool is_rounded(const Widen *w, const KExpr *e, DType t, int depth) {
    if (e->op == KO_const_f) return k_const_f(w->p->m->k, t, e->u.f)->u.f == e->u.f;
    if (e->op == KO_cast) return e->arg[0]->dtype == t;
    if (e->op == KO_var) return e->u.var == w->acc;
    if (e->op == KO_at) {
        for (uint32_t i = 0; i < w->copies.to.n; i++)
            if (w->copies.to.at[i] == e->u.tensor) return w->copies.from.at[i]->dtype == t;
        return old_dtype(w, e->u.tensor) == t;
    }
    if (!is_exact(e->op) || depth == MOST_DEPTH) return false;
    for (int i = e->op == KO_select; i < e->n_args; i++)
        if (!is_rounded(w, e->arg[i], t, depth + 1)) return false;
    return true;
}

/* The value of e, a 16-bit float, in f32. */
static const KExpr *wide(const Widen *w, const KExpr *e) {
    const KExpr *from = e->op == KO_cast ? e->arg[0] : NULL;
    bool is_known = from && from->dtype == DT_F32 && is_rounded(w, from, e->dtype, 0);
    return is_known ? from : k_cast(w->p->m->k, DT_F32, e);
}

/* What e computes of 16-bit floats, computed in f32 and rounded: the same by definition. */
static const KExpr *compute_wide(const Widen *w, const KExpr *e) {
    KCtx *k = w->p->m->k;
    const KExpr *args[3];
    DType t = DT_NONE;
    KClass class = kop_info[e->op].class;
    bool any_wide = e->op != KO_select;
    if ((class != KC_ARITH && class != KC_MATH && class != KC_CMP) || e->n_args > 3) return e;
    for (int i = 0; i < e->n_args; i++) {
        args[i] = e->arg[i];
        if (!is_half(args[i]->dtype)) continue;
        t = args[i]->dtype;
        any_wide |= args[i]->op == KO_cast;
        args[i] = wide(w, args[i]);
    }
    if (!t || !any_wide) return e;
    return k_cast(k, e->dtype, k_rebuild(k, e, args));
}

/* ---- copies ---------------------------------------------------------------------------------- */

/* Are there channels that only some others are multiplied with (a depthwise convolution)? Then
 * weights are few for what is computed. */
static bool has_groups(KCtx *k, const Stage *s) {
    for (int i = 1; s->form == FORM_CONTRACT && i < s->out->rank; i++)
        if (op_has(s->node->op, OPF_BLOCKABLE) && k_uses_var(k, s->lhs, s->axis[i]) &&
            k_uses_var(k, s->rhs, s->axis[i]))
            return true;
    return false;
}

/* Is a read of a tensor that keeps its dtype better one of a copy? */
static bool wants_copy(const Widen *w, const KTensor *t, bool is_factor) {
    if (!pass_may_rewrite() || (t->id < w->n && w->p->tensors.at[t->id] == t && w->kept[t->id]))
        return false;
    if (t->data && t->data_bytes > SMALL_BYTES) return is_factor && has_groups(w->p->m->k, w->s);
    if (t->data) return true;
    return is_factor && w->s->form == FORM_CONTRACT && !t->alias && !t->is_kept &&
           n_reads(w->s, t) >= WORTH_COPY;
}

/* ---- stages ---------------------------------------------------------------------------------- */

static const KExpr *widen_node(const Widen *w, const KExpr *e) {
    KCtx *k = w->p->m->k;
    if (e->op == KO_at && is_half(e->dtype) && e->u.tensor->dtype == DT_F32)
        return k_cast(k, e->dtype, k_at(k, e->u.tensor, e->arg, e->n_args));
    if (e->op != KO_cast) return compute_wide(w, e);
    const KExpr *from = e->arg[0];
    if (is_half(from->dtype)) return k_cast(k, e->dtype, wide(w, from));
    bool is_back = from->op == KO_cast && from->arg[0]->dtype == e->dtype;
    return is_back && is_half(e->dtype) && from->dtype == DT_F32 ? from->arg[0] : e;
}

static const KExpr *widen_value(KCtx *k, const KExpr *e, void *user) {
    (void)k;
    return widen_node(user, e);
}

static const KExpr *widen_read(KCtx *k, const KExpr *e, Widen *w, bool is_factor) {
    if (e->op != KO_at || !is_half(e->dtype) || e->u.tensor->dtype != e->dtype ||
        !wants_copy(w, e->u.tensor, is_factor))
        return e;
    KTensor *copy = convert_tensor(w->p, &w->copies, w->s, e->u.tensor, DT_F32);
    pass_count_rewrite();
    return k_cast(k, e->dtype, k_at(k, copy, e->arg, e->n_args));
}

static const KExpr *copy_constant(KCtx *k, const KExpr *e, void *user) {
    return widen_read(k, e, user, false);
}

static const KExpr *copy_factor(KCtx *k, const KExpr *e, void *user) {
    return widen_read(k, e, user, true);
}

/* A running maximum or minimum of 16-bit floats is kept in f32. */
static void widen_extreme(Widen *w, Stage *s) {
    KCtx *k = w->p->m->k;
    if (s->form != FORM_REDUCE || !is_half(s->acc->dtype)) return;
    if (s->fold != KO_max && s->fold != KO_min) return;
    DType t = s->acc->dtype;
    KVar *acc = kvar_new(k, KV_AXIS, DT_F32, s->acc->name, INT64_MIN, INT64_MAX);
    const KExpr *by = k_cast(k, t, k_var(k, acc));
    s->body = wide(w, s->body);
    s->init = wide(w, s->init);
    w->acc = acc; /* of rounded values, since both were of dtype t */
    s->finish = k_rewrite(k, k_subst(k, s->finish, &s->acc, &by, 1), widen_value, w);
    s->acc = acc;
}

static void widen_stage(Widen *w, Stage *s) {
    KCtx *k = w->p->m->k;
    const KExpr *before[] = {s->body, s->lhs, s->rhs, s->finish};
    w->s = s;
    w->acc = NULL;
    bool for_matrix = multiplies_bfloats(w->p, s);
    if (is_plain(w->p, s) && !for_matrix) {
        if (s->body) s->body = k_rewrite(k, s->body, copy_constant, w);
        if (s->finish) s->finish = k_rewrite(k, s->finish, copy_constant, w);
        if (s->lhs) s->lhs = k_rewrite(k, s->lhs, copy_factor, w);
        if (s->rhs) s->rhs = k_rewrite(k, s->rhs, copy_factor, w);
    }
    stage_rewrite(w->p, s, widen_value, w);
    widen_extreme(w, s);
    const KExpr **value = s->form == FORM_MAP ? &s->body : &s->finish;
    if (s->out && old_dtype(w, s->out)) *value = wide(w, *value);
    if (s->form == FORM_MAP && s->body->op != KO_at) s->movement = s->view = false;
    const KExpr *after[] = {s->body, s->lhs, s->rhs, s->finish};
    for (int i = 0; i < 4; i++) w->changed |= before[i] != after[i];
}

static bool has_halves(const DefProgram *p) {
    for (uint32_t i = 0; i < p->tensors.n; i++)
        if (is_half(p->tensors.at[i]->dtype)) return true;
    return p->parent && has_halves(p->parent);
}

static void widen_program(DefProgram *p, void *user) {
    bool *changed = user;
    Widen w = {.p = p, .n = p->tensors.n};
    if (!has_halves(p) || !pass_may_rewrite()) return;
    w.was = arena_array(p->m->scratch, uint8_t, w.n + 1);
    w.kept = arena_array(p->m->scratch, uint8_t, w.n + 1);
    choose_tensors(&w);
    for (Stage *s = p->first; s; s = s->next)
        if (s->form != FORM_PROGRAM && s->form != FORM_REGION) widen_stage(&w, s);
    *changed |= w.changed;
}

bool pass_widen_halves(Module *m) {
    bool changed = false;
    program_count_users(m->defs);
    program_visit(m->defs, widen_program, &changed);
    if (changed) program_count_users(m->defs);
    return changed;
}
