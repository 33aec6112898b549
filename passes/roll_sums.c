/* Sums over all rows of a tensor, cut in two so that the first half can roll (roll_stages.c).
 *
 * Before:  p[c] = (sum over h, w of y[c, h, w]) * (1 / n)
 * After:   rows[c, h] = sum over w of y[c, h, w];  p[c] = (sum over h of rows[c, h]) * (1 / n)
 *
 * A squeeze-and-excitation block reads all of a large tensor for its mean, before anybody else may
 * go on with it. Row by row the sums can be made where the rows are, while they are still near.
 * Only where somebody else needs the tensor in memory, and the second level of cache does not keep
 * it; what did not find a group to roll with is put back as it was. */
#include "passes/roll_stages.h"

typedef struct RowRead {
    const KExpr *at; /* the one read; NULL: none yet */
    int n;
} RowRead;

static void note_read(const KExpr *e, void *user) {
    RowRead *r = user;
    if (e->op != KO_at) return;
    r->at = e;
    r->n++;
}

static bool is_var(const KExpr *e, const KVar *v) {
    return e->op == KO_var && e->u.var == v;
}

/* The tensor of which s sums all rows and columns; NULL where it does not. */
static KTensor *summed_tensor(DefProgram *p, const Stage *s) {
    RowRead r = {0};
    if (s->form != FORM_REDUCE || s->fold != KO_add || s->n_red != 2 || s->out->rank != 4 ||
        s->group || s->blocks || s->is_alias || s->acc->dtype != DT_F32 ||
        s->out->layout.block <= 1)
        return NULL;
    k_visit(p->m->k, s->body, note_read, &r);
    if (r.n != 1 || at_pred(r.at) || r.at->u.tensor->rank != 4) return NULL;
    bool is_whole = is_var(r.at->arg[2], s->red[0]) && is_var(r.at->arg[3], s->red[1]) &&
                    is_var(r.at->arg[1], s->axis[1]);
    return is_whole && k_is_value(s->out->dims[2], 1) && k_is_value(s->out->dims[3], 1)
               ? r.at->u.tensor
               : NULL;
}

static bool is_worth_it(DefProgram *p, const KTensor *t) {
    double bytes = dtype_bytes(t->dtype);
    for (int i = 1; i < t->rank; i++) bytes *= (double)k_guess(t->dims[i], 1);
    return bytes > p->m->target->l2_bytes / 4.0 && t->n_users > 1 && t->def &&
           t->def->form == FORM_CONTRACT && t->layout.block > 1 && t->layout.block_axis == 1;
}

/* Puts the sums of single rows in front of s, which then adds these up. */
static void cut_sum(DefProgram *p, Stage *s, RowSums *sums) {
    KCtx *k = p->m->k;
    const KExpr *dims[] = {s->out->dims[0], s->out->dims[1], s->red_extent[0], k_int(k, 1)};
    KTensor *t = program_add_tensor(p, "rows", s->acc->dtype, 4, dims);
    t->layout.block = s->out->layout.block;
    t->layout.block_axis = s->out->layout.block_axis;
    Stage *rows = program_add_stage(p, s, FORM_REDUCE, t, s->node);
    *sums = (RowSums){.whole = s, .rows = rows, .before = *s};
    KVar *var[] = {s->axis[0], s->axis[1], s->axis[2], s->axis[3], s->red[0]};
    const KExpr *by[] = {k_var(k, rows->axis[0]), k_var(k, rows->axis[1]), k_int(k, 0), k_int(k, 0),
                         k_var(k, rows->axis[2])};
    rows->n_red = 1;
    rows->red[0] = s->red[1];
    rows->red_extent[0] = s->red_extent[1];
    rows->body = k_subst(k, s->body, var, by, 5);
    rows->fold = KO_add;
    rows->init = s->init;
    rows->acc = kvar_new(k, KV_AXIS, s->acc->dtype, "acc", INT64_MIN, INT64_MAX);
    rows->finish = k_var(k, rows->acc);
    const KExpr *at[] = {k_var(k, s->axis[0]), k_var(k, s->axis[1]), k_var(k, s->red[0]),
                         k_int(k, 0)};
    s->body = k_at(k, t, at, 4);
    s->n_red = 1;
}

int roll_cut_sums(DefProgram *p, RowSums *sums, int max) {
    int n = 0;
    for (Stage *s = p->first; s && n < max; s = s->next) {
        const KTensor *t = summed_tensor(p, s);
        if (t && is_worth_it(p, t)) cut_sum(p, s, &sums[n++]);
    }
    if (n) program_count_users(p);
    return n;
}

int roll_join_sums(DefProgram *p, RowSums *sums, int n) {
    int left = n;
    for (int i = 0; i < n; i++) {
        if (sums[i].rows->blocks) continue;
        sums[i].whole->body = sums[i].before.body;
        sums[i].whole->n_red = sums[i].before.n_red;
        stage_remove(p, sums[i].rows);
        left--;
    }
    if (n) program_count_users(p);
    return left;
}
