/* Walks over expressions: rewriting, visiting, substitution. An expression is a graph with shared
 * nodes: each walk remembers what it has seen, so that it takes time in the number of distinct
 * nodes. */
#include <stdlib.h>

#include "ir/kernel.h"

/* Memo of one walk: expression id to a result. */
typedef struct Memo {
    const KExpr **key, **value;
    uint32_t n, cap;
} Memo;

static uint32_t memo_slot(const Memo *m, const KExpr *e) {
    uint32_t i = (e->id * 2654435761u) & (m->cap - 1);
    while (m->key[i] && m->key[i] != e) i = (i + 1) & (m->cap - 1);
    return i;
}

static void memo_put(Memo *m, const KExpr *e, const KExpr *value) {
    if ((m->n + 1) * 2 > m->cap) {
        Memo wider = {.cap = m->cap ? m->cap * 2 : 64};
        wider.key = xmalloc(sizeof *wider.key * wider.cap);
        wider.value = xmalloc(sizeof *wider.value * wider.cap);
        for (uint32_t i = 0; i < m->cap; i++)
            if (m->key[i]) memo_put(&wider, m->key[i], m->value[i]);
        free(m->key);
        free(m->value);
        *m = wider;
    }
    uint32_t i = memo_slot(m, e);
    m->n += !m->key[i];
    m->key[i] = e;
    m->value[i] = value;
}

static const KExpr *memo_get(const Memo *m, const KExpr *e) {
    return m->cap ? m->value[memo_slot(m, e)] : NULL;
}

static void memo_free(Memo *m) {
    free(m->key);
    free(m->value);
}

static const KExpr *rewrite_below(KCtx *k, Memo *m, const KExpr *e, KRewrite *fn, void *user) {
    const KExpr *known = memo_get(m, e);
    if (known) return known;
    const KExpr *args[256], *r = e;
    bool changed = false;
    for (int i = 0; i < e->n_args; i++) {
        args[i] = rewrite_below(k, m, e->arg[i], fn, user);
        changed |= args[i] != e->arg[i];
    }
    if (changed) r = k_rebuild(k, e, args);
    r = fn(k, r, user);
    memo_put(m, e, r);
    return r;
}

const KExpr *k_rewrite(KCtx *k, const KExpr *e, KRewrite *fn, void *user) {
    Memo m = {0};
    const KExpr *r = rewrite_below(k, &m, e, fn, user);
    memo_free(&m);
    return r;
}

typedef struct Replacement {
    const KExpr *from, *to;
} Replacement;

static const KExpr *replace_node(KCtx *k, const KExpr *e, void *user) {
    const Replacement *r = user;
    (void)k;
    return e == r->from ? r->to : e;
}

const KExpr *k_replace(KCtx *k, const KExpr *e, const KExpr *from, const KExpr *to) {
    Replacement r = {from, to};
    return k_rewrite(k, e, replace_node, &r);
}

static void visit_below(Memo *m, const KExpr *e, void (*fn)(const KExpr *, void *), void *user) {
    if (memo_get(m, e)) return;
    memo_put(m, e, e);
    for (int i = 0; i < e->n_args; i++) visit_below(m, e->arg[i], fn, user);
    fn(e, user);
}

void k_visit(KCtx *k, const KExpr *e, void (*fn)(const KExpr *e, void *user), void *user) {
    (void)k;
    Memo m = {0};
    visit_below(&m, e, fn, user);
    memo_free(&m);
}

typedef struct Subst {
    KVar *const *var;
    const KExpr *const *by;
    int n;
    uint64_t mask;
} Subst;

static const KExpr *subst_below(KCtx *k, Memo *m, const KExpr *e, const Subst *s) {
    if (!(e->var_mask & s->mask)) return e;
    if (e->op == KO_var) {
        for (int i = 0; i < s->n; i++)
            if (e->u.var == s->var[i]) return s->by[i];
        return e;
    }
    const KExpr *known = memo_get(m, e);
    if (known) return known;
    const KExpr *args[256];
    bool changed = false;
    for (int i = 0; i < e->n_args; i++) {
        args[i] = subst_below(k, m, e->arg[i], s);
        changed |= args[i] != e->arg[i];
    }
    const KExpr *r = changed ? k_rebuild(k, e, args) : e;
    memo_put(m, e, r);
    return r;
}

const KExpr *k_subst(KCtx *k, const KExpr *e, KVar *const *var, const KExpr *const *by, int n) {
    Subst s = {var, by, n, 0};
    bool changes = false;
    for (int i = 0; i < n; i++) {
        s.mask |= UINT64_C(1) << (var[i]->id % 64);
        changes |= by[i]->op != KO_var || by[i]->u.var != var[i];
    }
    if (!changes) return e;
    Memo m = {0};
    const KExpr *r = subst_below(k, &m, e, &s);
    memo_free(&m);
    return r;
}

static bool finds_var(Memo *m, const KExpr *e, const KVar *v) {
    if (!(e->var_mask & UINT64_C(1) << (v->id % 64))) return false;
    if (e->op == KO_var) return e->u.var == v;
    if (memo_get(m, e)) return false;
    for (int i = 0; i < e->n_args; i++)
        if (finds_var(m, e->arg[i], v)) return true;
    memo_put(m, e, e);
    return false;
}

static bool is_counted(const KExpr *e, int *left) {
    if (--*left < 0) return false;
    for (int i = 0; i < e->n_args; i++)
        if (!is_counted(e->arg[i], left)) return false;
    return true;
}

bool k_is_long(const KExpr *e, int most) {
    return !is_counted(e, &most);
}

static void see_computed(const KExpr *e, void *found) {
    if (e->op == KO_load || (e->op == KO_var && e->u.var->computed)) *(bool *)found = true;
}

bool k_is_computed(KCtx *k, const KExpr *e) {
    bool found = false;
    k_visit(k, e, see_computed, &found);
    return found;
}

int64_t k_last_index(const KExpr *extent) {
    return extent->hi == INT64_MAX ? INT64_MAX : extent->hi < 1 ? 0 : extent->hi - 1;
}

bool k_uses_var(KCtx *k, const KExpr *e, const KVar *v) {
    (void)k;
    Memo m = {0};
    bool r = finds_var(&m, e, v);
    memo_free(&m);
    return r;
}

uint32_t k_new_operations(const KExpr *e, bool (*has_value)(const KExpr *e, void *user), void *user,
                          const KExpr **found, uint32_t n) {
    if (!e->n_args || n == K_COUNTED_OPERATIONS || has_value(e, user)) return n;
    for (uint32_t i = 0; i < n; i++)
        if (found[i] == e) return n;
    found[n++] = e;
    for (int i = 0; i < e->n_args; i++) n = k_new_operations(e->arg[i], has_value, user, found, n);
    return n;
}

int k_long_operand(const KExpr *e, bool (*has_value)(const KExpr *e, void *user), void *user) {
    const KExpr *found[K_COUNTED_OPERATIONS];
    if (e->op != KO_select || e->dtype == DT_STR) return 0;
    uint32_t first = k_new_operations(e->arg[1], has_value, user, found, 0);
    uint32_t second = k_new_operations(e->arg[2], has_value, user, found, 0);
    if ((first > second ? first : second) < K_MANY_OPERATIONS) return 0;
    return first > second ? 1 : 2;
}
