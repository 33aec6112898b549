/* Causal masks in a group in blocks (block_stages.c):
 *
 *     s[i,j] = j <= i ? ... : -inf;  m[i] = max_j s[i,j];  e[i,j] = exp(s[i,j] - m[i])
 *     z[i] = sum_j e[i,j];  o[i,d] = sum_j e[i,j] * v[j,d]
 *
 * From some j on, which depends on the row, s is -inf and e is 0: the folds need not see them. What
 * each member holds there is followed from the first one on, and a fold may end early where that is
 * neutral to it. */
#include "passes/block_stages.h"

typedef struct CutRead {
    const Cut *cut;
    const Stage *s;
    int m, axis, red; /* how s indexes the axis that is cut: its own axis or a reduction's */
    int from;         /* the member read */
    bool ok;
} CutRead;

static void note_cut_read(const KExpr *e, void *user) {
    CutRead *r = user;
    int of = e->op == KO_at ? group_member_of(r->cut->g, e->u.tensor) : -1;
    if (of < 0 || r->cut->axis[of] < 0) return;
    const KExpr *at = e->arg[r->cut->axis[of]];
    int own = stage_axis_of(r->s, at), red = -1;
    for (int i = 0; i < r->s->n_red; i++)
        if (at->op == KO_var && at->u.var == r->s->red[i]) red = i;
    r->ok &= (own >= 0 || red >= 0) && !at_pred(e) && (r->from < 0 || r->from == of) &&
             (r->axis < 0 || r->axis == own) && (r->red < 0 || r->red == red);
    r->from = of;
    r->axis = own;
    r->red = red;
}

static bool is_number(const KExpr *e, double value) {
    return e->op == KO_const_f && e->u.f == value;
}

/* Is it a read of member m? */
static bool is_read_of(const Cut *c, const KExpr *e, int m) {
    return e->op == KO_at && e->u.tensor == c->g->stages[m]->out;
}

/* What a map gives for the fill of the member that it reads. */
static bool map_fill(const Cut *c, const Stage *s, int from, double *fill) {
    const KExpr *e = s->body;
    bool of_power = e->op == KO_exp && e->arg[0]->op == KO_sub;
    *fill = 0;
    if (of_power && is_read_of(c, e->arg[0]->arg[0], from))
        return c->fill[from] == -__builtin_inf(); /* exp(-inf - m); with m = -inf all is NaN */
    return e->op == KO_div && is_read_of(c, e->arg[0], from) && c->fill[from] == 0;
}

/* Does the fold need none of what lies beyond the limit? */
static bool fold_ignores(const Cut *c, const Stage *s, int from) {
    if (s->form == FORM_CONTRACT)
        return !s->addend && (is_read_of(c, s->lhs, from) || is_read_of(c, s->rhs, from)) &&
               c->fill[from] == 0;
    if (!is_read_of(c, s->body, from)) return false;
    return s->fold == KO_max ? c->fill[from] == -__builtin_inf()
                             : s->fold == KO_add && c->fill[from] == 0;
}

static bool cut_member(Cut *c, int m) {
    const Stage *s = c->g->stages[m];
    CutRead r = {.cut = c, .s = s, .m = m, .axis = -1, .red = -1, .from = -1, .ok = true};
    c->axis[m] = c->red[m] = -1;
    stage_visit(c->g->k, s, note_cut_read, &r);
    if (!r.ok || r.from < 0) return r.ok;
    c->axis[m] = (int8_t)r.axis;
    c->red[m] = (int8_t)r.red;
    if (r.red >= 0) return s->form != FORM_MAP && fold_ignores(c, s, r.from);
    return s->form == FORM_MAP && group_is_private(c->g, s->out) &&
           map_fill(c, s, r.from, &c->fill[m]);
}

/* The bound of j <= b or j < b + 1 among the conjuncts of e, exclusive; NULL when there is none. */
static const KExpr *upper_limit(KCtx *k, const KExpr *e, const KVar *j) {
    if (e->op == KO_and) {
        const KExpr *a = upper_limit(k, e->arg[0], j);
        return a ? a : upper_limit(k, e->arg[1], j);
    }
    bool is_bound = (e->op == KO_lt || e->op == KO_le) && e->arg[0]->dtype == DT_I64 &&
                    e->arg[0]->op == KO_var && e->arg[0]->u.var == j &&
                    !k_uses_var(k, e->arg[1], j);
    if (!is_bound) return NULL;
    return e->op == KO_le ? k_add(k, e->arg[1], k_int(k, 1)) : e->arg[1];
}

static void note_memory(const KExpr *e, void *user) {
    if (e->op == KO_at || e->op == KO_load) *(bool *)user = true;
}

/* The condition under which a score is not -inf: of c ? x : -inf, or of a sum with c ? 0 : -inf.
 * The lowest number in place of -inf does the same where each row has a score that counts, since
 * exp(lowest + x - peak) is 0; *needs_one tells. NULL: there is none. */
static const KExpr *seen_where(const KExpr *e, bool *needs_one) {
    enum { MOST_TERMS = 4 };
    const double lowest = -1e38; /* some way above it, as it is written for bf16 */
    *needs_one = false;
    if (e->op == KO_select) return is_number(e->arg[2], -__builtin_inf()) ? e->arg[0] : NULL;
    for (int i = 0; e->op == KO_add && i < MOST_TERMS; i++) {
        for (int side = 0; side < 2; side++) {
            const KExpr *m = e->arg[side];
            bool is_mask = m->op == KO_select && is_number(m->arg[1], 0) &&
                           m->arg[2]->op == KO_const_f && m->arg[2]->u.f <= lowest;
            if (!is_mask) continue;
            *needs_one = m->arg[2]->u.f != -__builtin_inf();
            return m->arg[0];
        }
        e = e->arg[e->arg[0]->op == KO_add ? 0 : 1];
    }
    return NULL;
}

const KExpr *group_find_limit(const Group *g, Cut *c) {
    const Stage *s = g->stages[0];
    const KExpr *base, *step;
    int64_t by;
    bool reads = false, needs_one;
    *c = (Cut){.g = g};
    const KExpr *seen = seen_where(s->finish, &needs_one);
    if (!seen || !group_is_private(g, s->out)) return NULL;
    const KExpr *limit = upper_limit(g->k, seen, s->axis[s->schedule->vec_axis]);
    if (!limit || (needs_one && limit->lo < 1)) return NULL;
    k_visit(g->k, limit, note_memory, &reads);
    KVar *row = s->axis[g->axis[0][g->n_axes - 1]];
    if (reads || !k_linear_in(g->k, limit, row, &base, &step) || !k_is_int(step, &by) || by < 0)
        return NULL;
    c->axis[0] = (int8_t)s->schedule->vec_axis;
    c->red[0] = -1;
    c->fill[0] = -__builtin_inf();
    for (int m = 1; m < g->n; m++)
        if (!cut_member(c, m)) return NULL;
    return limit;
}
