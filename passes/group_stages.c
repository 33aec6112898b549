/* group_stages: row-wise stages that share outer loops become one kernel.
 *
 * Before:  m[i] = max_j x[i,j];  e[i,j] = exp(x[i,j] - m[i]);  s[i] = sum_j e[i,j];
 *          y[i,j] = e[i,j] / s[i]
 * After:   one kernel: for i { m; e; s; y } with m and s in registers and e in y's memory
 *
 * Consecutive maps and reductions join when they have the same leading axes, every read of an
 * earlier member is at the same leading index, and there are at least two of them with a reduction
 * among them. Requires layouts. Leaves Stage.group. Blocked tensors stay out: their reductions
 * vectorise across rows instead. */
#include "ir/schedule.h"
#include "passes/group_rows.h"

enum { MAX_GROUP = 64 }; /* stages of one kernel: lower_kernels has room for as many */

typedef struct RowRead {
    const Stage *first, *reader;
    int n_outer;
    bool ok;
} RowRead;

static bool is_member(const Stage *first, const Stage *reader, const Stage *s) {
    for (const Stage *x = first; x && x != reader; x = x->next)
        if (x == s) return true;
    return false;
}

/* Reads of earlier members must be at the reader's own leading indices. */
static void note_row_read(const KExpr *e, void *user) {
    RowRead *r = user;
    if (e->op != KO_at || !e->u.tensor->def || !is_member(r->first, r->reader, e->u.tensor->def))
        return;
    for (int i = 0; i < r->n_outer; i++) {
        if (stage_axis_of(r->reader, e->arg[i]) != i &&
            !(k_is_value(e->arg[i], 0) && k_is_value(r->reader->out->dims[i], 1)))
            r->ok = false;
    }
}

static bool is_plain_layout(const KTensor *t) {
    return t->layout.block <= 1 && !t->layout.permuted && !t->layout.has_halo;
}

static bool can_join(DefProgram *p, const Stage *first, const Stage *s, int n_outer) {
    KCtx *k = p->m->k;
    if ((s->form != FORM_MAP && s->form != FORM_REDUCE) || s->is_alias || s->blocks ||
        !is_plain_layout(s->out))
        return false;
    if (s->out->rank < n_outer || s->out->alias) return false;
    for (int i = 0; i < n_outer; i++)
        if (s->out->dims[i] != first->out->dims[i]) return false;
    RowRead r = {first, s, n_outer, true};
    k_visit(k, s->body, note_row_read, &r);
    if (s->finish) k_visit(k, s->finish, note_row_read, &r);
    return r.ok;
}

/* Does the reduction run along memory (its last reduced axis is the last axis of what it reads)? */
typedef struct AlongRow {
    KCtx *k;
    KVar *var;
    bool ok;
} AlongRow;

static void note_along_row(const KExpr *e, void *user) {
    AlongRow *a = user;
    const KExpr *base, *coeff;
    if (e->op != KO_at || !k_uses_var(a->k, e, a->var)) return;
    const KExpr *flat = tensor_flat_index(a->k, e->u.tensor, e->arg);
    if (!k_linear_in(a->k, flat, a->var, &base, &coeff) || !k_is_value(coeff, 1)) a->ok = false;
}

static bool reduces_rows(DefProgram *p, const Stage *s) {
    AlongRow a = {p->m->k, s->n_red ? s->red[s->n_red - 1] : NULL, true};
    if (s->form != FORM_REDUCE || !s->n_red || !is_plain_layout(s->out)) return false;
    k_visit(p->m->k, s->body, note_along_row, &a);
    return a.ok;
}

/* Leading axes of a reduction's output that are real rows: trailing extents of 1 are the kept dims.
 */
static int outer_axes(const Stage *s) {
    int n = s->out->rank;
    while (n > 0 && k_is_value(s->out->dims[n - 1], 1)) n--;
    return n;
}

/* A group of a single row has one thread; what is worth several stays apart. */
static bool is_worth_threads(const Stage *s) {
    return schedule_stage_work(s) >= 2 * PARALLEL_GRAIN;
}

static void group_program(DefProgram *p, void *user) {
    bool *changed = user;
    uint32_t next_group = 1;
    for (Stage *s = p->first; s; s = s->next) {
        if (s->group || s->blocks || s->is_alias || s->out == NULL || s->out->alias ||
            !reduces_rows(p, s))
            continue;
        int n_outer = outer_axes(s), n = 1;
        Stage *end = s->next;
        if (!n_outer && is_worth_threads(s)) continue;
        for (; end && n < MAX_GROUP && can_join(p, s, end, n_outer); end = end->next) {
            if (!n_outer && is_worth_threads(end)) break;
            n++;
        }
        if (n < 2 || !pass_may_rewrite()) continue;
        pass_count_rewrite();
        for (Stage *x = s; x != end; x = x->next) x->group = next_group;
        group_rows_finish(p, &(RowGroup){s, end});
        next_group++;
        *changed = true;
        pass_trace("group_stages", s->node, "%d stages in one kernel over %d outer axes", n,
                   n_outer);
    }
}

bool pass_group_stages(Module *m) {
    bool changed = false;
    program_count_users(m->defs);
    program_visit(m->defs, group_program, &changed);
    return changed;
}
