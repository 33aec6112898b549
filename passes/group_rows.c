/* What a group of row-wise stages saves beyond its calls: see group_rows.h. */
#include "passes/group_rows.h"

static bool in_group(const RowGroup *g, const Stage *s) {
    for (const Stage *x = g->first; x != g->end; x = x->next)
        if (x == s) return true;
    return false;
}

/* ---- quotients ------------------------------------------------------------------------------- */

/* Is it exp(x - m) with m the largest x of its row? Then a row's sum of it is at least 1. */
static bool is_power_below_peak(const KExpr *e) {
    if (e->op != KO_exp || e->arg[0]->op != KO_sub) return false;
    const KExpr *x = e->arg[0]->arg[0], *m = e->arg[0]->arg[1];
    const Stage *peak = m->op == KO_at ? m->u.tensor->def : NULL;
    return x->op == KO_at && peak && peak->form == FORM_REDUCE && peak->fold == KO_max &&
           peak->body->op == KO_at && peak->body->u.tensor == x->u.tensor;
}

/* The sum of such powers that this stage, and nobody else, divides them by; NULL when it does
 * not. */
static Stage *sum_of_powers(const RowGroup *g, const Stage *map) {
    const KExpr *e = map->form == FORM_MAP ? map->body : NULL;
    if (!e || e->op != KO_div || e->arg[0]->op != KO_at || e->arg[1]->op != KO_at) return NULL;
    const KTensor *powers = e->arg[0]->u.tensor, *total = e->arg[1]->u.tensor;
    Stage *sum = total->def;
    bool ok = sum && in_group(g, sum) && sum->form == FORM_REDUCE && sum->fold == KO_add &&
              total->n_users == 1 && total->users.n == 1 && !total->dense_only &&
              sum->body->op == KO_at && sum->body->u.tensor == powers && powers->def &&
              powers->def->form == FORM_MAP && is_power_below_peak(powers->def->body);
    return ok ? sum : NULL;
}

static void multiply_by_reciprocal(DefProgram *p, const RowGroup *g, Stage *map) {
    KCtx *k = p->m->k;
    Stage *sum = sum_of_powers(g, map);
    if (!sum) return;
    sum->finish = k_div(k, k_const(k, sum->out->dtype, 1), sum->finish);
    map->body = k_mul(k, map->body->arg[0], map->body->arg[1]);
}

/* ---- memory ---------------------------------------------------------------------------------- */

/* Nobody outside of the group, and none of its stages behind `last`, needs t. */
static bool ends_at(const RowGroup *g, const KTensor *t, const Stage *last) {
    if (!t->def || !in_group(g, t->def) || t->dense_only || t->alias || t->is_output ||
        t->n_users != t->users.n)
        return false;
    for (const Stage *x = last->next; x != g->end; x = x->next)
        for (uint32_t u = 0; u < t->users.n; u++)
            if (t->users.at[u] == x) return false;
    for (uint32_t u = 0; u < t->users.n; u++)
        if (!in_group(g, t->users.at[u])) return false;
    return true;
}

/* The tensor that this map replaces element by element lies in the map's memory. */
static void write_over(DefProgram *p, const RowGroup *g, Stage *map) {
    KTensor *read[256], *out = map->out;
    int n = map->form == FORM_MAP && !out->alias ? stage_reads(p, map, read, 256) : 0;
    for (int i = 0; i < n; i++) {
        KTensor *t = read[i];
        bool same = t->dtype == out->dtype && t->rank == out->rank && t->def &&
                    t->def->form == FORM_MAP && ends_at(g, t, map) && !tensor_has_aliases(p, t);
        for (int a = 0; same && a < t->rank; a++) same = t->dims[a] == out->dims[a];
        if (!same || !map_reads_own(p->m->k, map, t)) continue;
        t->alias = out;
        pass_trace("group_stages", map->node, "written over '%s'", t->name);
        return;
    }
}

void group_rows_finish(DefProgram *p, const RowGroup *g) {
    for (Stage *s = g->first; s != g->end; s = s->next) {
        multiply_by_reciprocal(p, g, s);
        write_over(p, g, s);
    }
}
