/* The invariants of the definition level: tensors are defined before they are read, every stage has
 * an axis for each dim and uses no axis of another stage, dtypes fit, aliases end. */
#include <stdlib.h>
#include <string.h>

#include "ir/print_text.h"
#include "ir/verify.h"

typedef struct DefCheck {
    const char *after;
    KCtx *k;
    TextMap defined; /* tensors that may be read */
    TextMap owner;   /* axis, accumulator or state to its stage */
    const Stage *s;
    const unsigned char *bound; /* variables of a program's statements, by id; NULL elsewhere */
} DefCheck;

static const char *stage_name(const Stage *s) {
    return s->out && *s->out->name        ? s->out->name
           : s->node && s->node->loc.node ? s->node->loc.node
                                          : "?";
}

/* ---- expressions ----------------------------------------------------------------------------- */

static void check_read(const DefCheck *c, const KExpr *e) {
    const KTensor *t = e->u.tensor;
    BUG_IF(!textmap_get(&c->defined, t), "after %s: stage '%s' reads '%s' before its definition",
           c->after, stage_name(c->s), t->name);
    BUG_IF(e->n_args != t->rank && e->n_args != t->rank + 1,
           "after %s: stage '%s' reads '%s' of rank %d with %d indices", c->after, stage_name(c->s),
           t->name, t->rank, e->n_args);
    for (int i = 0; i < t->rank; i++)
        BUG_IF(e->arg[i]->dtype != DT_I64, "after %s: stage '%s' indexes '%s' with %s", c->after,
               stage_name(c->s), t->name, dtype_info[e->arg[i]->dtype].name);
    BUG_IF(e->n_args > t->rank && e->arg[t->rank]->dtype != DT_BOOL,
           "after %s: a predicate in '%s' is no bool", c->after, stage_name(c->s));
}

static void check_part(const KExpr *e, void *user) {
    const DefCheck *c = user;
    if (e->op == KO_at) check_read(c, e);
    if (e->op != KO_var) return;
    const KVar *v = e->u.var;
    if (v->kind == KV_SYMBOL) return;
    bool is_own = textmap_get(&c->owner, v) == c->s || (c->bound && c->bound[v->id]);
    BUG_IF(!is_own, "after %s: variable '%s' is free in stage '%s'", c->after, v->name,
           stage_name(c->s));
}

/* e (when there is one) has this dtype and uses only what the stage may use. */
static void check_expr(const DefCheck *c, const KExpr *e, DType t, const char *what) {
    BUG_IF(!e, "after %s: stage '%s' has no %s", c->after, stage_name(c->s), what);
    BUG_IF(t != DT_NONE && e->dtype != t, "after %s: %s of stage '%s' is %s, not %s", c->after,
           what, stage_name(c->s), dtype_info[e->dtype].name, dtype_info[t].name);
    k_visit(c->k, e, check_part, (void *)(uintptr_t)c);
}

/* ---- stages ---------------------------------------------------------------------------------- */

static void own(DefCheck *c, const KVar *v, const char *what) {
    BUG_IF(!v, "after %s: stage '%s' lacks an %s", c->after, stage_name(c->s), what);
    BUG_IF(v->kind != KV_AXIS, "after %s: %s '%s' of stage '%s' is of another kind", c->after, what,
           v->name, stage_name(c->s));
    BUG_IF(textmap_get(&c->owner, v), "after %s: %s '%s' is used by two stages", c->after, what,
           v->name);
    textmap_put(&c->owner, v, (void *)(uintptr_t)c->s);
}

static void check_axes(DefCheck *c) {
    const Stage *s = c->s;
    BUG_IF(!s->out || s->out->rank > MAX_RANK, "after %s: stage %u has no tensor", c->after, s->id);
    for (int i = 0; i < s->out->rank; i++) own(c, s->axis[i], "axis");
    BUG_IF(s->n_red < 0 || s->n_red > MAX_RED, "after %s: stage '%s' has %d reduction axes",
           c->after, stage_name(s), s->n_red);
    for (int i = 0; i < s->n_red; i++) {
        own(c, s->red[i], "reduction axis");
        check_expr(c, s->red_extent[i], DT_I64, "extent");
    }
}

static void check_fold(DefCheck *c) {
    const Stage *s = c->s;
    own(c, s->acc, "accumulator");
    DType acc = s->acc->dtype;
    bool folds = s->fold == KO_add || s->fold == KO_mul || s->fold == KO_min || s->fold == KO_max ||
                 s->fold == KO_and || s->fold == KO_or;
    BUG_IF(!folds, "after %s: stage '%s' folds with %s", c->after, stage_name(s),
           kop_info[s->fold].name);
    check_expr(c, s->init, acc, "start value");
    if (s->form == FORM_CONTRACT) {
        DType step = contract_sum(s)->dtype, factor = s->dot ? DT_I32 : step;
        if (s->run) own(c, s->run, "run");
        if (s->run) check_expr(c, s->run_init, step, "run's start");
        if (s->run) check_expr(c, s->term, acc, "term");
        check_expr(c, s->lhs, factor, "left factor");
        check_expr(c, s->rhs, factor, "right factor");
        BUG_IF(s->dot && step != kop_dot_sum(s->dot), "after %s: contraction '%s' adds %s to %s",
               c->after, stage_name(s), kop_info[s->dot].name, dtype_info[step].name);
        BUG_IF(s->fold != KO_add, "after %s: contraction '%s' does not add", c->after,
               stage_name(s));
    } else {
        check_expr(c, s->body, acc, "body");
    }
    check_expr(c, s->finish, s->out->dtype, "finish");
}

static void check_scan(DefCheck *c) {
    const Stage *s = c->s;
    BUG_IF(s->scan_axis < 0 || s->scan_axis >= s->out->rank,
           "after %s: scan '%s' runs along axis %d", c->after, stage_name(s), s->scan_axis);
    for (int i = 0; i < s->n_states; i++) own(c, s->state[i], "state");
    for (int i = 0; i < s->n_states; i++) {
        check_expr(c, s->state_init[i], s->state[i]->dtype, "start value");
        check_expr(c, s->step[i], s->state[i]->dtype, "step");
    }
    check_expr(c, s->body, s->out->dtype, "body");
}

static void check_statements(DefCheck *c, const KBlock *b, unsigned char *bound) {
    for (const KStmt *s = b->first; s; s = s->next) {
        if (s->extent) check_expr(c, s->extent, DT_I64, "extent");
        if (s->index) check_expr(c, s->index, DT_I64, "index");
        if (s->value)
            check_expr(c, s->value, s->kind == KS_STORE ? s->buf->dtype : DT_NONE, "value");
        for (uint32_t i = 0; i < s->n_args; i++)
            if (s->args[i].offset) check_expr(c, s->args[i].offset, DT_NONE, "argument");
        for (uint32_t i = 0; i < kstmt_n_scalars(s); i++)
            check_expr(c, s->scalars[i], DT_I64, "scalar");
        if (s->var) bound[s->var->id] = 1;
        if (s->first) bound[s->first->id] = 1;
        check_statements(c, &s->body, bound);
        check_statements(c, &s->other, bound);
    }
}

static void check_program_stage(DefCheck *c) {
    unsigned char *bound = xmalloc(kctx_n_vars(c->k) + 1);
    c->bound = bound;
    check_statements(c, &c->s->program, bound);
    c->bound = NULL;
    free(bound);
}

static void check_program(DefCheck *c, const DefProgram *p);

static void check_stage(DefCheck *c, const Stage *s) {
    c->s = s;
    bug_context(c->after, s->node ? s->node->loc : SRC_NOWHERE);
    switch (s->form) {
    case FORM_NONE: BUG("after %s: stage %u has no form", c->after, s->id);
    case FORM_MAP:
        check_axes(c);
        check_expr(c, s->body, s->out->dtype, "body");
        break;
    case FORM_REDUCE:
    case FORM_CONTRACT:
        check_axes(c);
        check_fold(c);
        break;
    case FORM_SCAN:
        check_axes(c);
        check_scan(c);
        break;
    case FORM_PROGRAM:
        for (int i = 0; i < s->n_outs; i++) textmap_put(&c->defined, s->outs[i], c);
        check_program_stage(c);
        break;
    case FORM_REGION:
        for (int i = 0; i < 2; i++)
            if (s->sub[i]) check_program(c, s->sub[i]);
        break;
    }
}

/* ---- programs -------------------------------------------------------------------------------- */

static void check_tensor(const DefCheck *c, const DefProgram *p, const KTensor *t) {
    int n_aliases = 0;
    for (int i = 0; i < t->rank; i++)
        BUG_IF(!t->dims[i] || t->dims[i]->dtype != DT_I64 || t->dims[i]->hi < 0,
               "after %s: tensor '%s' has a bad dim %d", c->after, t->name, i);
    BUG_IF(t->dtype == DT_NONE || !t->buf || t->buf->dtype != t->dtype,
           "after %s: tensor '%s' and its buffer differ", c->after, t->name);
    BUG_IF(t->layout.block > 1 && t->layout.block_axis >= t->rank,
           "after %s: tensor '%s' is blocked along axis %d", c->after, t->name,
           t->layout.block_axis);
    for (const KTensor *a = t; a->alias; a = a->alias)
        BUG_IF(++n_aliases > (int)p->tensors.n + 1000,
               "after %s: tensor '%s' is an alias of itself", c->after, t->name);
}

static void check_groups(const DefCheck *c, const DefProgram *p) {
    for (const Stage *s = p->first; s; s = s->next) {
        if (!s->group || (s->next && s->next->group == s->group)) continue;
        for (const Stage *later = s->next; later; later = later->next)
            BUG_IF(later->group == s->group, "after %s: group %u is not consecutive", c->after,
                   s->group);
    }
}

static void define_outs(DefCheck *c, const Stage *s) {
    if (s->out && !s->n_outs) {
        BUG_IF(s->out->def != s, "after %s: tensor '%s' says another stage defines it", c->after,
               s->out->name);
        textmap_put(&c->defined, s->out, c);
    }
    for (int i = 0; i < s->n_outs; i++) {
        BUG_IF(s->outs[i]->def != s, "after %s: tensor '%s' says another stage defines it",
               c->after, s->outs[i]->name);
        textmap_put(&c->defined, s->outs[i], c);
    }
}

static void check_program(DefCheck *c, const DefProgram *p) {
    for (uint32_t i = 0; i < p->tensors.n; i++) {
        const KTensor *t = p->tensors.at[i];
        BUG_IF(t->id != i, "after %s: tensor '%s' has id %u", c->after, t->name, t->id);
        check_tensor(c, p, t);
        if (t->data || tensor_is_old(t)) textmap_put(&c->defined, t, c);
    }
    for (uint32_t i = 0; i < p->inputs.n; i++) textmap_put(&c->defined, p->inputs.at[i], c);
    for (const Stage *s = p->first; s; s = s->next) {
        BUG_IF((s->prev ? s->prev->next : p->first) != s ||
                   (s->next ? s->next->prev : p->last) != s,
               "after %s: the links around stage '%s' are broken", c->after, stage_name(s));
        check_stage(c, s);
        define_outs(c, s);
    }
    check_groups(c, p);
    for (uint32_t i = 0; i < p->outputs.n; i++)
        BUG_IF(!textmap_get(&c->defined, p->outputs.at[i]), "after %s: output '%s' is not defined",
               c->after, p->outputs.at[i]->name);
}

void verify_program(const DefProgram *p, const char *after) {
    DefCheck c = {.after = after, .k = p->m->k};
    check_program(&c, p);
    textmap_free(&c.defined);
    textmap_free(&c.owner);
    bug_context(NULL, SRC_NOWHERE);
}
