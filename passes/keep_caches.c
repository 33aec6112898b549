/* keep_caches: a decoder's past and present as one buffer of the caller's, in which it grows.
 *
 * Before:  input p: f32[b, h, past, d]
 *          output q: f32[b, h, past + n, d] = map [i, j, k, l] {
 *            value = k < past ? p[i, j, k, l] : new[i, j, k - past, l]
 *          }
 * After:   p: f32[b, h, past, d] in q [0 by 1, 0 by 1, 0 by 1, 0 by 1]           no input any more
 *          added: f32[b, h, n, d] in q [0 by 1, 0 by 1, past by 1, 0 by 1] = map [i, j, k, l] {
 *            value = new[i, j, k, l]
 *          }
 *          output q: f32[b, h, 1024, d] kept = map ... shared
 *
 * An output that is an input, unchanged, and something behind it along one axis, has memory for
 * Module.cache_places places of that axis (smelt --cache). What was the input is in front of it
 * when the call comes, so a call writes the new places only, and whoever reads old and new ones
 * reads q. Where the new places are the result of a product, that is stored there at once.
 *
 * Requires definitions before fusion. Not done: caches that programs or regions read, which want
 * dense memory, and windows that move on within a cache of fixed size (TensorScatter). */
#include "passes/pass.h"

typedef struct Cache {
    Stage *s;         /* defines the output */
    KTensor *in;      /* the input that it goes on from */
    int axis;         /* along which */
    const KExpr *old; /* places of in along it */
    const KExpr *is_old;
} Cache;

/* Is pred no more than that there is an old place? */
static bool is_only(const KExpr *pred, const KExpr *is_old) {
    return !pred || pred == is_old;
}

/* Does `at` read the whole of an input, at the own index of the cache's stage? */
static bool reads_past(KCtx *k, const Cache *c, const KExpr *at) {
    const KTensor *in = at->u.tensor, *out = c->s->out;
    const KExpr *own[MAX_RANK];
    if (!in->is_input || in->rank != out->rank || in->dtype != out->dtype) return false;
    stage_own_index(k, c->s, own);
    for (int i = 0; i < out->rank; i++) {
        if (at->arg[i] != own[i] && at->arg[i] != k_var(k, c->s->axis[i])) return false;
        if (in->dims[i] != (i == c->axis ? c->old : out->dims[i])) return false;
    }
    return is_only(at_pred(at), c->is_old);
}

/* May the places of t lie apart from each other for all who read it? */
static bool reads_anywhere(const DefProgram *p, const KTensor *t, uint32_t n_others) {
    if (t->n_users != t->users.n + n_others) return false;
    for (uint32_t i = 0; i < t->users.n; i++) {
        const Stage *u = t->users.at[i];
        if (u->owner != p || u->form == FORM_PROGRAM || u->form == FORM_REGION) return false;
    }
    return true;
}

static bool find_cache(DefProgram *p, KTensor *t, Cache *c) {
    KCtx *k = p->m->k;
    *c = (Cache){.s = t->def, .axis = -1};
    if (!c->s || c->s->owner != p || c->s->form != FORM_MAP || c->s->body->op != KO_select)
        return false;
    c->is_old = c->s->body->arg[0];
    if (c->is_old->op != KO_lt || c->s->body->arg[1]->op != KO_at) return false;
    for (int i = 0; i < t->rank; i++)
        if (c->is_old->arg[0] == k_var(k, c->s->axis[i])) c->axis = i;
    if (c->axis < 0) return false;
    c->old = c->is_old->arg[1];
    if (!reads_past(k, c, c->s->body->arg[1])) return false;
    c->in = c->s->body->arg[1]->u.tensor;
    return reads_anywhere(p, c->in, 0) && reads_anywhere(p, t, 1);
}

/* pred without the term that says that the place is a new one; NULL when nothing is left. */
static const KExpr *without(KCtx *k, const KExpr *pred, const KExpr *is_new) {
    if (pred == is_new) return NULL;
    if (pred->op != KO_and) return pred;
    const KExpr *a = without(k, pred->arg[0], is_new), *b = without(k, pred->arg[1], is_new);
    return !a ? b : !b ? a : k_and(k, a, b);
}

static const KExpr *drop_test(KCtx *k, const KExpr *e, void *user) {
    const Cache *c = user;
    const KExpr *arg[MAX_RANK + 1];
    if (e->op != KO_at || !at_pred(e)) return e;
    int rank = e->n_args - 1;
    for (int i = 0; i < rank; i++) arg[i] = e->arg[i];
    arg[rank] = without(k, at_pred(e), k_le(k, c->old, k_var(k, c->s->axis[c->axis])));
    return k_at(k, e->u.tensor, arg, rank + (arg[rank] != NULL));
}

/* Where t lies in the cache: all of it from this place of the axis on. */
static void lay_into(DefProgram *p, KTensor *t, KTensor *cache, int axis, const KExpr *from) {
    Phase *phase = arena_new(p->arena, Phase);
    for (int i = 0; i < t->rank; i++) phase->step[i] = 1;
    phase->shift[axis] = from;
    t->alias = cache;
    t->phase = phase;
    t->dense_only = true; /* nobody chooses another layout, or does without it */
}

/* The stage of the new places, in front of the one that defined all of them. */
static KTensor *add_places(DefProgram *p, const Cache *c) {
    KCtx *k = p->m->k;
    const KTensor *all = c->s->out;
    const KExpr *dims[MAX_RANK], *at[MAX_RANK];
    for (int i = 0; i < all->rank; i++) dims[i] = all->dims[i];
    dims[c->axis] = k_sub(k, all->dims[c->axis], c->old);
    KTensor *added = program_add_tensor(p, all->name, all->dtype, all->rank, dims);
    Stage *s = program_add_stage(p, c->s, FORM_MAP, added, c->s->node);
    stage_own_index(k, s, at);
    at[c->axis] = k_add(k, at[c->axis], c->old);
    const KExpr *value = k_rewrite(k, c->s->body->arg[2], drop_test, (void *)(uintptr_t)c);
    s->body = k_subst(k, value, c->s->axis, at, all->rank);
    lay_into(p, added, c->s->out, c->axis, c->old);
    return added;
}

/* A view of it is not its bytes under another shape any more. */
static void forget_views(const KTensor *t) {
    for (uint32_t i = 0; i < t->users.n; i++) t->users.at[i]->view = false;
}

static void keep(DefProgram *p, Cache *c) {
    KCtx *k = p->m->k;
    KTensor *t = c->s->out, *added = add_places(p, c);
    const KExpr *index[MAX_RANK + 1], *place = k_var(k, c->s->axis[c->axis]);
    int64_t n_old, n_all;
    if (k_is_int(t->dims[c->axis], &n_all) && n_all > p->m->cache_places)
        diag_error(p->m->diag, (SrcLoc){.file = p->m->file, .index = -1, .offset = -1},
                   "--cache=%lld: '%s' has %lld places", (long long)p->m->cache_places, t->name,
                   (long long)n_all);
    forget_views(t);
    forget_views(c->in);
    lay_into(p, c->in, t, c->axis, NULL);
    c->in->is_input = false;
    stage_own_index(k, c->s, index);
    index[c->axis] = k_sub(k, place, c->old);
    index[t->rank] =
        k_and(k, k_le(k, c->old, place), k_lt(k, place, k_add(k, c->old, added->dims[c->axis])));
    c->s->body = k_at(k, added, index, t->rank + 1);
    c->s->is_alias = true;
    c->s->view = c->s->movement = false;
    vec_push(p->arena, &p->required,
             k_le(k, t->dims[c->axis], k_int(k, p->m->cache_places)));
    if (c->old->op == KO_var && !k_is_int(c->old, &n_old)) {
        KVar *symbol = c->old->u.var;
        if (symbol->hi > p->m->cache_places) symbol->hi = p->m->cache_places;
    }
    t->dims = arena_copy(p->arena, t->dims, sizeof *t->dims * (size_t)t->rank);
    t->dims[c->axis] = k_int(k, p->m->cache_places);
    t->is_kept = true;
    pass_trace("keep_caches", c->s->node, "'%s' goes on from '%s' in place", t->name, c->in->name);
}

static void drop_inputs(DefProgram *p) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < p->inputs.n; i++) {
        KTensor *t = p->inputs.at[i];
        if (!t->is_input) continue;
        t->io_index = n;
        p->inputs.at[n++] = t;
    }
    p->inputs.n = n;
}

bool pass_keep_caches(Module *m) {
    DefProgram *p = m->defs;
    bool changed = false;
    Cache c;
    if (!m->cache_places) return false;
    for (uint32_t i = 0; i < p->outputs.n; i++) {
        if (!find_cache(p, p->outputs.at[i], &c)) continue;
        keep(p, &c);
        changed = true;
    }
    if (!changed)
        diag_error(m->diag, (SrcLoc){.file = m->file, .index = -1, .offset = -1},
                   "--cache: no output is an input with more places behind it along one axis");
    drop_inputs(p);
    program_count_users(p);
    return changed;
}
