/* TreeEnsemble (ai.onnx.ml 5): from attributes to the tables of tree.h, everything checked that a
 * walk relies on.
 *
 * Interior nodes and leaves are lists of their own; here leaves follow the nodes in one numbering,
 * each with one weight. A node that tests membership in a set becomes a chain of equalities: the
 * first stands in its place, the others behind all leaves. */
#include <math.h>
#include <string.h>

#include "ir/ops/tree.h"

enum { MODE_MEMBER = 6, MAX_NODES = 1 << 28 };

typedef struct Reader5 {
    Module *m;
    const Node *n;
    Ensemble *e;
    int n_inner, n_leaves, n_extra, next; /* next: the next free extra node */
    const Value *modes, *splits, *weights, *members;
    int64_t n_members, at; /* at: the next member */
} Reader5;

static const Value *tensor_of(const Reader5 *r, const char *name, int64_t want) {
    const Attr *a = node_attr(r->n, name);
    int64_t count = -1;
    if (a && a->tensor) shape_count_int(a->tensor->shape, &count);
    if (count >= 0 && (want < 0 || count == want)) return a->tensor;
    diag_error(r->m->diag, r->n->loc, "%s has %lld values, must have %lld", name, (long long)count,
               (long long)want);
    return NULL;
}

static const int64_t *ints_of(const Reader5 *r, const char *name, int want) {
    const int64_t *v = NULL;
    int count = attr_ints(r->n, name, &v);
    if (count == want) return v;
    diag_error(r->m->diag, r->n->loc, "%s has %d values, must have %d", name, count, want);
    return NULL;
}

static bool read_sizes(Reader5 *r) {
    const int64_t *v;
    const Attr *members = node_attr(r->n, "membership_values");
    r->n_inner = attr_ints(r->n, "nodes_featureids", &v);
    r->n_leaves = attr_ints(r->n, "leaf_targetids", &v);
    r->modes = tensor_of(r, "nodes_modes", r->n_inner);
    r->splits = tensor_of(r, "nodes_splits", r->n_inner);
    r->weights = tensor_of(r, "leaf_weights", r->n_leaves);
    r->members = members ? members->tensor : NULL;
    if (!r->modes || !r->splits || !r->weights) return false;
    if (r->members && !shape_count_int(r->members->shape, &r->n_members)) return false;
    if (r->n_inner < 1 || r->n_leaves < 1) {
        diag_error(r->m->diag, r->n->loc, "has no nodes or no leaves");
        return false;
    }
    r->n_extra = (int)r->n_members; /* more than are needed */
    return r->n_inner + (int64_t)r->n_leaves + r->n_members < MAX_NODES;
}

/* The number of a child; -1 after a message. */
static int64_t child(const Reader5 *r, int i, const char *what, int64_t id, int64_t is_leaf) {
    int64_t count = is_leaf ? r->n_leaves : r->n_inner;
    if (id >= 0 && id < count) return is_leaf ? r->n_inner + id : id;
    diag_error(r->m->diag, r->n->loc, "%s[%d] is %lld, must be below %lld", what, i, (long long)id,
               (long long)count);
    return -1;
}

static void set_node(Ensemble *e, int64_t to, int64_t like, double threshold) {
    e->feature[to] = e->feature[like];
    e->missing[to] = e->missing[like];
    e->mode[to] = TREE_EQ;
    e->threshold[to] = threshold;
    e->yes[to] = e->yes[like];
}

/* Node i asks for the members up to the next NaN, one after the other. */
static void expand_members(Reader5 *r, int64_t i) {
    Ensemble *e = r->e;
    int64_t last = i, no = e->no[i];
    e->mode[i] = TREE_EQ;
    e->threshold[i] = NAN;
    for (bool first = true; r->at < r->n_members; first = false) {
        double v = value_const_float(r->members, r->at++);
        if (v != v) break;
        if (first) {
            e->threshold[i] = v;
            continue;
        }
        int64_t here = r->next++;
        set_node(e, here, i, v);
        e->no[last] = here;
        last = here;
    }
    e->no[last] = no;
}

static bool read_inner(Reader5 *r) {
    Ensemble *e = r->e;
    int n = r->n_inner;
    const int64_t *feature = ints_of(r, "nodes_featureids", n), *missing;
    const int64_t *yes = ints_of(r, "nodes_truenodeids", n);
    const int64_t *no = ints_of(r, "nodes_falsenodeids", n);
    const int64_t *yes_leaf = ints_of(r, "nodes_trueleafs", n);
    const int64_t *no_leaf = ints_of(r, "nodes_falseleafs", n);
    int n_missing = attr_ints(r->n, "nodes_missing_value_tracks_true", &missing);
    const KExpr *rows, *columns;
    int64_t n_columns;
    if (!feature || !yes || !no || !yes_leaf || !no_leaf) return false;
    if (n_missing && !ints_of(r, "nodes_missing_value_tracks_true", n)) return false;
    if (!ml_features(r->m, r->n, &rows, &columns)) return false;
    if (!k_is_int(columns, &n_columns)) {
        diag_unsupported(r->m->diag, r->n->loc,
                         "the number of features is symbolic; it must be known at compile time");
        return false;
    }
    for (int i = 0; i < n; i++) {
        int64_t mode = value_const_int(r->modes, i);
        if (!check_attr_int(r->m, r->n, "an element of nodes_modes", mode, 0, MODE_MEMBER) ||
            !check_attr_int(r->m, r->n, "an element of nodes_featureids", feature[i], 0,
                            n_columns - 1))
            return false;
        e->feature[i] = feature[i];
        e->mode[i] = TREE_LEQ + mode;
        e->threshold[i] = value_const_float(r->splits, i);
        e->missing[i] = n_missing && missing[i];
        e->any_missing |= e->missing[i] != 0;
        e->yes[i] = child(r, i, "nodes_truenodeids", yes[i], yes_leaf[i]);
        e->no[i] = child(r, i, "nodes_falsenodeids", no[i], no_leaf[i]);
        if (e->yes[i] < 0 || e->no[i] < 0) return false;
        if (mode == MODE_MEMBER) expand_members(r, i);
        e->modes |= 1u << e->mode[i];
    }
    return true;
}

/* Every walk ends: the nodes that the roots reach can be taken away parents first. */
static bool read_roots(Reader5 *r) {
    Ensemble *e = r->e;
    const int64_t *root;
    e->n_trees = attr_ints(r->n, "tree_roots", &root);
    e->root = arena_array(r->m->arena, int64_t, e->n_trees + 1);
    int64_t *parents = arena_array(r->m->scratch, int64_t, e->n_nodes);
    int64_t *queue = arena_array(r->m->scratch, int64_t, e->n_nodes);
    int n_queued = 0;
    for (int t = 0; t < e->n_trees; t++) {
        if (!check_attr_int(r->m, r->n, "an element of tree_roots", root[t], 0, r->n_inner - 1))
            return false;
        e->root[t] = root[t];
    }
    for (int i = 0; i < e->n_nodes; i++) {
        if (e->yes[i] < 0) continue;
        parents[e->yes[i]]++;
        parents[e->no[i]]++;
    }
    for (int i = 0; i < e->n_nodes; i++)
        if (!parents[i]) queue[n_queued++] = i;
    for (int done = 0; done < n_queued; done++) {
        int64_t i = queue[done];
        if (e->yes[i] < 0) continue;
        if (--parents[e->yes[i]] == 0) queue[n_queued++] = e->yes[i];
        if (--parents[e->no[i]] == 0) queue[n_queued++] = e->no[i];
    }
    if (n_queued == e->n_nodes && e->n_trees > 0) return true;
    diag_error(r->m->diag, r->n->loc,
               e->n_trees ? "the nodes of a tree form a cycle" : "tree_roots is missing");
    return false;
}

static bool read_leaves(Reader5 *r, int64_t n_targets) {
    Ensemble *e = r->e;
    const int64_t *target = ints_of(r, "leaf_targetids", r->n_leaves);
    if (!target) return false;
    for (int i = 0; i < r->n_leaves; i++) {
        if (!check_attr_int(r->m, r->n, "an element of leaf_targetids", target[i], 0,
                            n_targets - 1))
            return false;
        e->target[i] = target[i];
        e->weight[i] = value_const_float(r->weights, i);
    }
    for (int i = 0; i <= e->n_nodes; i++) {
        int weights = i - r->n_inner;
        e->first[i] = weights < 0 ? 0 : weights > r->n_leaves ? r->n_leaves : weights;
    }
    return true;
}

bool ensemble_read_5(Module *m, const Node *n, int64_t n_targets, Ensemble *e) {
    *e = (Ensemble){.modes = 1u << TREE_LEAF};
    Reader5 r = {.m = m, .n = n, .e = e};
    if (!read_sizes(&r)) return false;
    Arena *a = m->arena;
    int n_nodes = e->n_nodes = r.n_inner + r.n_leaves + r.n_extra;
    e->wide = n->in[0]->dtype == DT_F64 || r.splits->dtype == DT_F64;
    e->n_weights = r.n_leaves;
    r.next = r.n_inner + r.n_leaves;
    e->feature = arena_array(a, int64_t, n_nodes);
    e->mode = arena_array(a, int64_t, n_nodes);
    e->missing = arena_array(a, int64_t, n_nodes);
    e->yes = arena_array(a, int64_t, n_nodes);
    e->no = arena_array(a, int64_t, n_nodes);
    e->threshold = arena_array(a, double, n_nodes);
    e->first = arena_array(a, int64_t, n_nodes + 1);
    e->target = arena_array(a, int64_t, r.n_leaves + 1);
    e->weight = arena_array(a, double, r.n_leaves + 1);
    for (int i = r.n_inner; i < n_nodes; i++) e->yes[i] = e->no[i] = -1;
    return read_inner(&r) && read_roots(&r) && read_leaves(&r, n_targets);
}
