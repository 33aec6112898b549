/* Rows of several axes as one: see schedule_contract_join.
 *
 *   y[b,i,j] = sum_k x[b,i,k] * w[k,j]      x and y lie one row behind the other
 *
 * has b*i rows, whatever b and i are: the template's row index r stands for (0, r), an index that
 * is not in the tensors' bounds but leads to the same place in memory. That needs every read, and
 * the result, to have both axes as neighbours, by themselves, and the inner one in its whole
 * length. */
#include "ir/schedule.h"

typedef struct Join {
    KCtx *k;
    const Stage *s;
    const KVar *outer, *inner;
    const KExpr *extent; /* of inner */
    bool ok;
} Join;

static bool is_var(const KExpr *e, const KVar *var) {
    return e->op == KO_var && e->u.var == var;
}

bool tensor_is_plain(const KTensor *t) {
    return t->layout.block <= 1 && !t->layout.permuted && !t->layout.has_halo && !t->window &&
           !t->phase;
}

/* A tensor's read may have the variables as neighbours among its indices, and nothing else may. */
static void note_use(const KExpr *e, void *user) {
    Join *j = user;
    int n_outer = 0, n_inner = 0, n_pairs = 0;
    for (int i = 0; i < e->n_args; i++) {
        n_outer += is_var(e->arg[i], j->outer);
        n_inner += is_var(e->arg[i], j->inner);
        if (e->op == KO_at && i + 1 < e->u.tensor->rank && is_var(e->arg[i], j->outer))
            n_pairs += is_var(e->arg[i + 1], j->inner) && e->u.tensor->dims[i + 1] == j->extent;
    }
    if (!n_outer && !n_inner) return;
    j->ok &=
        e->op == KO_at && n_outer + n_inner == 2 && n_pairs == 1 && tensor_is_plain(e->u.tensor);
}

/* Are the axes `outer` and the one behind it one for all that is read and written, and, where
 * with_left says so, for the left factor? */
static bool can_join(DefProgram *p, const Stage *s, int outer, bool with_left) {
    KCtx *k = p->m->k;
    Join j = {k, s, s->axis[outer], s->axis[outer + 1], s->out->dims[outer + 1], true};
    j.ok = tensor_is_plain(s->out);
    const KExpr *parts[] = {s->lhs, s->rhs, s->finish, s->run_init, s->term};
    for (int i = !with_left; i < (s->run ? 5 : 3); i++) {
        j.ok &= !is_var(parts[i], j.outer) && !is_var(parts[i], j.inner);
        k_visit(k, parts[i], note_use, &j);
    }
    bool in_rhs = k_uses_var(k, s->rhs, s->axis[outer]);
    return j.ok && k_uses_var(k, s->lhs, s->axis[outer]) && !in_rhs;
}

void schedule_contract_join(DefProgram *p, const Stage *s, Schedule *sch) {
    int inner = sch->row_axis[1];
    sch->n_joined = 0;
    for (int i = inner - 1; i >= 0 && i != sch->vec_axis && can_join(p, s, i, true); i--)
        sch->n_joined++;
    if (sch->row_axis[0] >= 0 && schedule_is_joined(sch, sch->row_axis[0])) sch->row_axis[0] = -1;
}

bool schedule_left_parts_rows(DefProgram *p, const Stage *s, const Schedule *sch) {
    int outer = sch->row_axis[1] - 1;
    return outer >= 0 && outer != sch->vec_axis && !can_join(p, s, outer, true) &&
           can_join(p, s, outer, false);
}

void schedule_contract_part(Schedule *sch) {
    if (sch->n_joined && sch->row_axis[0] < 0) sch->row_axis[0] = sch->row_axis[1] - 1;
    sch->n_joined = 0;
}

const KExpr *schedule_row_extent(KCtx *k, const Stage *s, const Schedule *sch) {
    int inner = sch->row_axis[1];
    if (inner < 0) return k_int(k, 1);
    const KExpr *n = s->out->dims[inner];
    for (int i = 0; i < inner; i++)
        if (schedule_is_joined(sch, i)) n = k_mul(k, n, s->out->dims[i]);
    return n;
}
