/* simplify: local rewrites that make the graph smaller or move work into constants.
 *
 * Canonical form, toward which every rule goes, so that the fixed point ends:
 *   - fewer nodes; a constant instead of a node; a weight instead of arithmetic on a result
 *   - Mul instead of Div and Pow, Add after Mul instead of BatchNormalization
 *   - padding inside a convolution instead of before it
 * Rules are keyed by operator and tried in table order; each gives the value that replaces the
 * node's first output (the output itself when the node was changed in place) or NULL. The table is
 * at the end of simplify_rules.c; this file walks the graph, merges equal nodes and drops dead
 * ones.
 *
 * Before:  %1 = Identity(%0)   %2 = Relu(%1)   %3 = Relu(%0)   %4 = Add(%2, %3)
 * After:   %2 = Relu(%0)   %4 = Add(%2, %2)
 *
 * Requires and leaves shapes. It does not fuse: what stays is still one operator a node. */
#include "passes/simplify.h"

#include <string.h>

#include "ir/support/map.h"
#include "passes/pass.h"

/* ---- merging --------------------------------------------------------------------------------- */

enum { MERGE_CONST_BYTES = 4096 };

/* Everything that makes two nodes compute the same; false when n must stay alone. */
static bool node_key(const Node *n, StrBuf *key) {
    if (op_has(n->op, OPF_NONDET | OPF_CONTROL)) return false;
    strbuf_printf(key, "%d/%d", (int)n->op, n->n_out);
    for (int i = 0; i < n->n_in; i++)
        strbuf_printf(key, ",%lld", n->in[i] ? (long long)n->in[i]->id : -1ll);
    for (uint32_t i = 0; i < n->attrs.n; i++) {
        const Attr *a = &n->attrs.at[i];
        strbuf_printf(key, ";%s:%d:%lld:%a:%u:", a->name, (int)a->kind, (long long)a->i, a->f,
                      a->n);
        if (a->s) strbuf_printf(key, "%zu:%s", strlen(a->s), a->s);
        if (a->ints) strbuf_add_bytes(key, (const char *)a->ints, a->n * sizeof *a->ints);
        if (a->floats) strbuf_add_bytes(key, (const char *)a->floats, a->n * sizeof *a->floats);
        for (uint32_t j = 0; a->strings && j < a->n; j++)
            strbuf_printf(key, "%zu:%s", strlen(a->strings[j]), a->strings[j]);
        if (a->tensor) strbuf_printf(key, "t%u", a->tensor->id);
        if (a->graph) return false;
    }
    return true;
}

static void *find_or_put(Module *m, StrMap *seen, const StrBuf *key, void *item) {
    void *first = strmap_get_bytes(seen, key->text, key->n);
    if (!first) strmap_put_bytes(seen, arena_copy(m->scratch, key->text, key->n), key->n, item);
    return first;
}

/* Small constants of the same bytes become one value. */
static bool merge_const(Module *m, StrMap *seen, Node *n, int input) {
    Value *v = n->in[input];
    if (!v || !value_is_const(v) || v->data_bytes > MERGE_CONST_BYTES || v->graph != n->graph)
        return false;
    StrBuf key = {0};
    strbuf_printf(&key, "const %d:%s:", (int)v->dtype, shape_text(m->scratch, v->shape));
    strbuf_add_bytes(&key, v->data, v->data_bytes);
    Value *first = find_or_put(m, seen, &key, v);
    strbuf_free(&key);
    if (!first || first == v) return false;
    node_set_input(n, input, first);
    return true;
}

/* Two NonZero of one tensor find the same size, but each under a symbol of its own, which shapes
 * further down mention: such nodes stay apart. */
static bool have_equal_shapes(const Node *a, const Node *b) {
    for (int i = 0; i < a->n_out; i++)
        if (a->out[i] && b->out[i] && !shape_equal(a->out[i]->shape, b->out[i]->shape))
            return false;
    return true;
}

static bool merge_node(Module *m, StrMap *seen, Node *n) {
    bool changed = false;
    for (int i = 0; i < n->n_in; i++) changed |= merge_const(m, seen, n, i);
    StrBuf key = {0};
    Node *first = node_key(n, &key) ? find_or_put(m, seen, &key, n) : NULL;
    strbuf_free(&key);
    if (!first || first == n || !have_equal_shapes(n, first)) return changed;
    for (int i = 0; i < n->n_out; i++)
        if (n->out[i] && first->out[i] && value_has_uses(n->out[i])) {
            bool had_users = n->out[i]->users.n > 0;
            changed |= value_replace_uses(n->out[i], first->out[i]) || had_users;
        }
    return changed;
}

static bool merge_equal(Module *m, Graph *g) {
    bool changed = false;
    StrMap *seen = strmap_create(m->scratch);
    for (Node *n = g->first; n; n = n->next) changed |= merge_node(m, seen, n);
    return changed;
}

/* ---- rules ----------------------------------------------------------------------------------- */

/* Tries the rules of n's operator until none applies; n may be dead afterwards. */
static bool apply_rules(Module *m, Node *n) {
    bool changed = false;
    for (int i = 0; i < n_simplify_rules; i++) {
        const SimplifyRule *r = &simplify_rules[i];
        if (r->op != OP_NONE && r->op != n->op) continue;
        if (!n->n_out || !n->out[0] || !value_has_uses(n->out[0])) return changed;
        if (!pass_may_rewrite()) return changed;
        Value *by = r->apply(m, n);
        if (!by) continue;
        if (by != n->out[0]) {
            bool had_users = n->out[0]->users.n > 0;
            if (!value_replace_uses(n->out[0], by) && !had_users)
                continue; /* stays as a graph's output */
        }
        pass_trace("simplify", n, "%s", r->name);
        pass_count_rewrite();
        changed = true;
        i = -1;
    }
    return changed;
}

static bool simplify_graph(Module *m, Graph *g) {
    bool changed = false;
    for (Node *n = g->first; n; n = n->next) {
        bug_context("simplify", n->loc);
        changed |= apply_rules(m, n);
        for (uint32_t i = 0; i < n->attrs.n; i++)
            if (n->attrs.at[i].graph) changed |= simplify_graph(m, n->attrs.at[i].graph);
    }
    return merge_equal(m, g) || changed;
}

bool pass_simplify(Module *m) {
    bool changed = false;
    while (simplify_graph(m, m->main)) {
        graph_drop_dead(m->main);
        changed = true;
    }
    return graph_drop_dead(m->main) || changed;
}
