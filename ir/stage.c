/* Stages as wholes: rewriting and substitution, and their plain loops. */
#include "ir/define.h"

#include <math.h>
#include <string.h>

/* ---- rewriting stages ------------------------------------------------------------------------ */

void stage_rewrite(DefProgram *p, Stage *s, KRewrite *fn, void *user) {
    KCtx *k = p->m->k;
    const KExpr **parts[] = {&s->body, &s->lhs, &s->rhs, &s->run_init, &s->term, &s->finish};
    s->reads.known = false;
    for (int i = 0; i < 6; i++)
        if (*parts[i]) *parts[i] = k_rewrite(k, *parts[i], fn, user);
    for (int i = 0; i < s->n_states; i++) {
        s->state_init[i] = k_rewrite(k, s->state_init[i], fn, user);
        s->step[i] = k_rewrite(k, s->step[i], fn, user);
    }
    if (s->form == FORM_PROGRAM) kblock_rewrite(k, &s->program, fn, user);
}

static const KExpr *add_pred(KCtx *k, const KExpr *e, void *user) {
    const KExpr *pred = user, *index[MAX_RANK + 1];
    if (e->op != KO_at) return e;
    int rank = e->u.tensor->rank;
    for (int i = 0; i < rank; i++) index[i] = e->arg[i];
    index[rank] = at_pred(e) ? k_and(k, at_pred(e), pred) : pred;
    return k_at(k, e->u.tensor, index, rank + 1);
}

const KExpr *stage_value_at(KCtx *k, const Stage *map, const KExpr *e) {
    const KExpr *pred = at_pred(e);
    const KExpr *body = k_subst(k, map->body, map->axis, e->arg, map->out->rank);
    if (!pred) return body;
    body = k_rewrite(k, body, add_pred, (void *)pred);
    if (body->op == KO_at) return body; /* false gives zero already */
    return k_select(k, pred, body, k_const(k, body->dtype, 0));
}

static const KExpr *inline_at(KCtx *k, const KExpr *e, void *user) {
    const Stage *map = user;
    return e->op != KO_at || e->u.tensor != map->out ? e : stage_value_at(k, map, e);
}

const KExpr *stage_dot(KCtx *k, const Stage *s, const KExpr *old, const KExpr *lhs,
                       const KExpr *rhs) {
    return k_ternary(k, s->dot, old, s->dot_swapped ? rhs : lhs, s->dot_swapped ? lhs : rhs);
}

void stage_inline(DefProgram *p, Stage *consumer, Stage *map) {
    BUG_IF(map->form != FORM_MAP, "only maps are substituted");
    stage_rewrite(p, consumer, inline_at, map);
}

void stage_own_index(KCtx *k, const Stage *s, const KExpr **index) {
    for (int i = 0; i < s->out->rank; i++)
        index[i] = k_is_value(s->out->dims[i], 1) ? k_int(k, 0) : k_var(k, s->axis[i]);
}

Stage *program_add_copy(DefProgram *p, Stage *at, KTensor *to, KTensor *from, const Node *node) {
    Stage *c = program_add_stage(p, at, FORM_MAP, to, node);
    const KExpr *index[MAX_RANK];
    stage_own_index(p->m->k, c, index);
    c->body = k_at(p->m->k, from, index, to->rank);
    c->movement = true;
    return c;
}

void stage_remove(DefProgram *p, Stage *s) {
    if (s->prev)
        s->prev->next = s->next;
    else
        p->first = s->next;
    if (s->next)
        s->next->prev = s->prev;
    else
        p->last = s->prev;
    s->prev = s->next = NULL;
}

void stage_move_before(DefProgram *p, Stage *s, Stage *at) {
    stage_remove(p, s);
    s->prev = at->prev;
    s->next = at;
    if (at->prev)
        at->prev->next = s;
    else
        p->first = s;
    at->prev = s;
}

/* ---- plain loops ----------------------------------------------------------------------------- */

static void store_element(DefProgram *p, const Stage *s, KBuild *b, const KExpr *const *index,
                          const KExpr *v) {
    const KExpr *offset;
    KTensor *root = tensor_root(p->m->k, s->out, &offset);
    kb_store(b, root->buf, k_add(p->m->k, tensor_flat_index(p->m->k, s->out, index), offset), v);
}

const KExpr *contract_step(const DefProgram *p, const Stage *s, const KExpr *old, const KExpr *lhs,
                           const KExpr *rhs) {
    KCtx *k = p->m->k;
    if (s->dot) return stage_dot(k, s, old, lhs, rhs);
    if (s->addend) lhs = rhs = k_sub(k, rhs, lhs);
    if (s->addend == ADD_MAGNITUDE) return k_add(k, old, k_abs(k, lhs));
    bool fused = p->m->target->fma && dtype_is_float(contract_sum(s)->dtype);
    return fused ? k_fma(k, lhs, rhs, old) : k_add(k, old, k_mul(k, lhs, rhs));
}

const KExpr *contract_term(const DefProgram *p, const KExpr *old, const KExpr *term) {
    bool fused = p->m->target->fma && term->op == KO_mul && dtype_is_float(term->dtype);
    return fused ? k_fma(p->m->k, term->arg[0], term->arg[1], old) : k_add(p->m->k, old, term);
}

/* The sum of a run, whose loop is open, begins. */
static KBuf *start_run(DefProgram *p, const Stage *s, KBuild *b, KVar *const *var,
                       const KExpr *const *by, const KExpr *which) {
    KCtx *k = p->m->k;
    KBuf *run = kb_alloc(b, MEM_REG, s->run->dtype, "run", 1);
    const KExpr *init =
        k_subst(k, k_subst(k, s->run_init, var, by, s->out->rank), s->red, &which, 1);
    kb_store(b, run, k_int(k, 0), expr_open(p, init));
    return run;
}

/* And is added to acc. */
static void end_run(DefProgram *p, const Stage *s, KBuild *b, KVar *const *var,
                    const KExpr *const *by, const KExpr *which, KBuf *run, KBuf *acc) {
    KCtx *k = p->m->k;
    const KExpr *zero = k_int(k, 0), *sum = k_load(k, run, zero);
    const KExpr *term = k_subst(k, k_subst(k, s->term, var, by, s->out->rank), s->red, &which, 1);
    term = expr_open(p, k_subst(k, term, &s->run, &sum, 1));
    kb_store(b, acc, zero, contract_term(p, k_load(k, acc, zero), term));
}

static void open_fold(DefProgram *p, const Stage *s, KBuild *b, KVar *const *var,
                      const KExpr *const *by) {
    KCtx *k = p->m->k;
    KBuf *acc = kb_alloc(b, MEM_REG, s->acc->dtype, "acc", 1), *sum = acc;
    const KExpr *zero = k_int(k, 0), *red[MAX_RED];
    kb_store(b, acc, zero, s->init);
    for (int i = 0; i < s->n_red; i++) {
        red[i] = kb_for(b, LOOP_SERIAL, s->red[i]->name, s->red_extent[i]);
        if (!i && s->run) sum = start_run(p, s, b, var, by, red[0]);
    }
    const KExpr *part[2] = {s->form == FORM_CONTRACT ? s->lhs : s->body, s->rhs};
    for (int i = 0; i < 2; i++) {
        if (!part[i]) continue;
        part[i] = k_subst(k, part[i], var, by, s->out->rank);
        part[i] = expr_open(p, k_subst(k, part[i], s->red, red, s->n_red));
    }
    const KExpr *old = k_load(k, sum, zero);
    bool contracts = s->form == FORM_CONTRACT;
    kb_store(b, sum, zero,
             contracts ? contract_step(p, s, old, part[0], part[1])
                       : k_binary(k, s->fold, old, part[0]));
    for (int i = s->n_red - 1; i >= 0; i--) {
        if (!i && s->run) end_run(p, s, b, var, by, red[0], sum, acc);
        kb_end(b);
    }
    const KExpr *finish = k_subst(k, s->finish, var, by, s->out->rank);
    const KExpr *value = k_load(k, acc, zero);
    finish = k_subst(k, finish, &s->acc, &value, 1);
    store_element(p, s, b, by, expr_open(p, finish));
}

static void open_scan(DefProgram *p, const Stage *s, KBuild *b, KVar *const *var,
                      const KExpr **by) {
    KCtx *k = p->m->k;
    const KExpr *zero = k_int(k, 0), *now[MAX_STATES], *next[MAX_STATES];
    KBuf *state[MAX_STATES];
    int rank = s->out->rank;
    for (int i = 0; i < s->n_states; i++) {
        state[i] = kb_alloc(b, MEM_REG, s->state[i]->dtype, s->state[i]->name, 1);
        kb_store(b, state[i], zero, expr_open(p, k_subst(k, s->state_init[i], var, by, rank)));
    }
    const KExpr *extent = s->out->dims[s->scan_axis];
    const KExpr *t = kb_for(b, LOOP_SERIAL, "t", extent);
    by[s->scan_axis] = s->scan_reverse ? k_sub(k, k_sub(k, extent, k_int(k, 1)), t) : t;
    for (int i = 0; i < s->n_states; i++) now[i] = k_load(k, state[i], zero);
    for (int i = 0; i < s->n_states; i++) {
        const KExpr *e = k_subst(k, s->step[i], var, by, rank);
        next[i] = kb_let(b, "next", expr_open(p, k_subst(k, e, s->state, now, s->n_states)));
    }
    for (int i = 0; i < s->n_states; i++) kb_store(b, state[i], zero, next[i]);
    const KExpr *body = k_subst(k, s->body, var, by, rank);
    store_element(p, s, b, by, expr_open(p, k_subst(k, body, s->state, next, s->n_states)));
    kb_end(b);
}

void stage_open_plain(DefProgram *p, const Stage *s, KBuild *b) {
    const KExpr *by[MAX_RANK];
    int n_loops = 0;
    BUG_IF(s->form == FORM_PROGRAM || s->form == FORM_REGION, "programs have no plain loops");
    for (int i = 0; i < s->out->rank; i++) {
        if (s->form == FORM_SCAN && i == s->scan_axis) continue;
        by[i] = kb_for(b, LOOP_SERIAL, s->axis[i]->name, s->out->dims[i]);
        n_loops++;
    }
    if (s->form == FORM_MAP)
        store_element(p, s, b, by,
                      expr_open(p, k_subst(p->m->k, s->body, s->axis, by, s->out->rank)));
    else if (s->form == FORM_SCAN)
        open_scan(p, s, b, s->axis, by);
    else
        open_fold(p, s, b, s->axis, by);
    for (int i = 0; i < n_loops; i++) kb_end(b);
}

static void note_not_finite(const KExpr *e, void *user) {
    bool *is_finite = user;
    if (e->op != KO_at) return;
    const KTensor *t = e->u.tensor;
    *is_finite &= t->data && t->dtype == DT_F32;
    float v;
    for (uint64_t i = 0; *is_finite && i + sizeof v <= t->data_bytes; i += sizeof v) {
        memcpy(&v, (const char *)t->data + i, sizeof v);
        *is_finite &= isfinite(v) != 0;
    }
}

bool constants_are_finite(KCtx *k, const KExpr *e) {
    bool is_finite = true;
    k_visit(k, e, note_not_finite, &is_finite);
    return is_finite;
}
