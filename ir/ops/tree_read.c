/* Tree ensembles: from attributes to tables, with everything checked that a walk relies on.
 *
 * Nodes are named (tree, node) in the model; sorting the names once makes every reference a binary
 * search. A tree is sound when it has exactly one node without parents and no cycle (every node can
 * be removed after its parents), so a walk from the root ends. Features are checked against x's
 * columns. */
#include <stdlib.h>
#include <string.h>

#include "ir/ops/tree.h"

typedef struct NodeKey {
    int64_t tree, node;
    int32_t index;
} NodeKey;

static int compare_keys(const void *a, const void *b) {
    const NodeKey *x = a, *y = b;
    if (x->tree != y->tree) return x->tree < y->tree ? -1 : 1;
    return x->node < y->node ? -1 : x->node > y->node;
}

typedef struct Reader {
    Module *m;
    const Node *n;
    Ensemble *e;
    NodeKey *keys;
    int64_t *parents; /* how many of node i */
} Reader;

/* The number of node (tree, node), -1 when there is none. */
static int32_t find_node(const Reader *r, int64_t tree, int64_t node) {
    NodeKey key = {tree, node, 0};
    const NodeKey *found = bsearch(&key, r->keys, (size_t)r->e->n_nodes, sizeof key, compare_keys);
    return found ? found->index : -1;
}

/* A list of integers that has `count` elements; NULL after a message. */
static const int64_t *int_list(const Reader *r, const char *name, int count) {
    const int64_t *v = NULL;
    int found = attr_ints(r->n, name, &v);
    if (found == count) return v;
    diag_error(r->m->diag, r->n->loc, "%s has %d values, must have %d", name, found, count);
    return NULL;
}

/* floats `name`, or the tensor `name`_as_tensor; *count elements (-1: any number). */
static double *float_list(const Reader *r, const char *name, int *count) {
    const double *v = NULL;
    Arena *a = r->m->arena;
    const Attr *tensor = node_attr(r->n, arena_printf(r->m->scratch, "%s_as_tensor", name));
    int64_t found = attr_floats(r->n, name, &v);
    if (tensor && tensor->tensor) {
        DType t = tensor->tensor->dtype;
        if ((t != DT_F32 && t != DT_F64) || !shape_count_int(tensor->tensor->shape, &found)) {
            diag_error(r->m->diag, r->n->loc, "%s_as_tensor is %s, must be f32 or f64", name,
                       dtype_info[t].name);
            return NULL;
        }
        if (t == DT_F64) r->e->wide = true;
    } else {
        tensor = NULL;
    }
    if (*count >= 0 && found != *count) {
        diag_error(r->m->diag, r->n->loc, "%s has %lld values, must have %d", name,
                   (long long)found, *count);
        return NULL;
    }
    double *copy = arena_array(a, double, found + 1);
    for (int64_t i = 0; i < found; i++)
        copy[i] = tensor ? value_const_float(tensor->tensor, i) : v[i];
    *count = (int)found;
    return copy;
}

static bool read_modes(const Reader *r) {
    static const char *const names[TREE_MODES] = {
        "LEAF", "BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ"};
    const Attr *modes = node_attr(r->n, "nodes_modes");
    int count = modes && modes->kind == AT_STRINGS ? (int)modes->n : 0;
    if (count != r->e->n_nodes) {
        diag_error(r->m->diag, r->n->loc, "nodes_modes has %d values, must have %d", count,
                   r->e->n_nodes);
        return false;
    }
    for (int i = 0; i < count; i++) {
        int mode = 0;
        while (mode < TREE_MODES && strcmp(modes->strings[i], names[mode])) mode++;
        if (mode == TREE_MODES) {
            diag_error(r->m->diag, r->n->loc,
                       "nodes_modes[%d] is '%s', must be LEAF or BRANCH_ "
                       "with LEQ, LT, GTE, GT, EQ or NEQ",
                       i, modes->strings[i]);
            return false;
        }
        r->e->mode[i] = mode;
        r->e->modes |= 1u << mode;
    }
    return true;
}

static bool read_keys(Reader *r, const int64_t *trees, const int64_t *nodes) {
    int count = r->e->n_nodes;
    r->keys = arena_array(r->m->arena, NodeKey, count);
    for (int i = 0; i < count; i++) r->keys[i] = (NodeKey){trees[i], nodes[i], i};
    qsort(r->keys, (size_t)count, sizeof *r->keys, compare_keys);
    for (int i = 0; i < count; i++) {
        if (i == 0 || r->keys[i].tree != r->keys[i - 1].tree) r->e->n_trees++;
        if (i == 0 || compare_keys(&r->keys[i], &r->keys[i - 1])) continue;
        diag_error(r->m->diag, r->n->loc, "node %lld of tree %lld is defined twice",
                   (long long)r->keys[i].node, (long long)r->keys[i].tree);
        return false;
    }
    return true;
}

static bool link_children(Reader *r, const int64_t *trees, const int64_t *yes, const int64_t *no) {
    Ensemble *e = r->e;
    r->parents = arena_array(r->m->arena, int64_t, e->n_nodes);
    for (int i = 0; i < e->n_nodes; i++) {
        e->yes[i] = e->no[i] = -1;
        if (e->mode[i] == TREE_LEAF) continue;
        e->yes[i] = find_node(r, trees[i], yes[i]);
        e->no[i] = find_node(r, trees[i], no[i]);
        if (e->yes[i] < 0 || e->no[i] < 0) {
            diag_error(r->m->diag, r->n->loc, "tree %lld has no node %lld, a child of its node %d",
                       (long long)trees[i], (long long)(e->yes[i] < 0 ? yes[i] : no[i]), i);
            return false;
        }
        r->parents[e->yes[i]]++;
        r->parents[e->no[i]]++;
    }
    return true;
}

/* One root for each tree, and no cycles: all nodes can be taken away parents first. */
static bool find_roots(Reader *r) {
    Ensemble *e = r->e;
    int64_t *queue = arena_array(r->m->arena, int64_t, e->n_nodes);
    int n_queued = 0;
    e->root = arena_array(r->m->arena, int64_t, e->n_trees);
    for (int i = 0; i < e->n_nodes; i++) /* a tree's nodes are neighbours in keys */
        if (!r->parents[r->keys[i].index]) queue[n_queued++] = r->keys[i].index;
    const int64_t *trees;
    attr_ints(r->n, "nodes_treeids", &trees);
    bool good = n_queued == e->n_trees;
    for (int i = 1; good && i < n_queued; i++) good = trees[queue[i]] != trees[queue[i - 1]];
    if (!good) {
        diag_error(r->m->diag, r->n->loc,
                   "has %d root nodes in %d trees, must have one for each tree", n_queued,
                   e->n_trees);
        return false;
    }
    memcpy(e->root, queue, sizeof *queue * (size_t)n_queued);
    for (int done = 0; done < n_queued; done++) {
        int64_t i = queue[done];
        if (e->mode[i] == TREE_LEAF) continue;
        if (--r->parents[e->yes[i]] == 0) queue[n_queued++] = e->yes[i];
        if (--r->parents[e->no[i]] == 0) queue[n_queued++] = e->no[i];
    }
    if (n_queued == e->n_nodes) return true;
    diag_error(r->m->diag, r->n->loc, "the nodes of a tree form a cycle");
    return false;
}

static bool read_features(Reader *r) {
    const KExpr *rows, *columns;
    int64_t n_columns;
    Ensemble *e = r->e;
    if (!ml_features(r->m, r->n, &rows, &columns)) return false;
    if (!k_is_int(columns, &n_columns)) {
        diag_unsupported(r->m->diag, r->n->loc,
                         "the number of features is symbolic; it must be known at compile time");
        return false;
    }
    for (int i = 0; i < e->n_nodes; i++) {
        if (e->mode[i] == TREE_LEAF) e->feature[i] = 0;
        if (e->mode[i] == TREE_LEAF || (e->feature[i] >= 0 && e->feature[i] < n_columns)) continue;
        diag_error(r->m->diag, r->n->loc, "nodes_featureids[%d] is %lld, must be 0 to %lld", i,
                   (long long)e->feature[i], (long long)n_columns - 1);
        return false;
    }
    return true;
}

static bool read_nodes(Reader *r) {
    Ensemble *e = r->e;
    Arena *a = r->m->arena;
    const int64_t *trees, *missing;
    e->n_nodes = attr_ints(r->n, "nodes_treeids", &trees);
    if (e->n_nodes < 1) {
        diag_error(r->m->diag, r->n->loc, "nodes_treeids is missing");
        return false;
    }
    int count = e->n_nodes;
    const int64_t *nodes = int_list(r, "nodes_nodeids", count),
                  *features = int_list(r, "nodes_featureids", count);
    const int64_t *yes = int_list(r, "nodes_truenodeids", count),
                  *no = int_list(r, "nodes_falsenodeids", count);
    e->threshold = float_list(r, "nodes_values", &count);
    if (!nodes || !features || !yes || !no || !e->threshold) return false;
    int n_missing = attr_ints(r->n, "nodes_missing_value_tracks_true", &missing);
    if (n_missing && n_missing != count) {
        diag_error(r->m->diag, r->n->loc,
                   "nodes_missing_value_tracks_true has %d values, must have %d", n_missing, count);
        return false;
    }
    e->feature = arena_copy(a, features, sizeof *features * (size_t)count);
    e->mode = arena_array(a, int64_t, count);
    e->yes = arena_array(a, int64_t, count);
    e->no = arena_array(a, int64_t, count);
    e->missing = arena_array(a, int64_t, count);
    if (!read_modes(r)) return false;
    for (int i = 0; i < n_missing; i++) {
        e->missing[i] = e->mode[i] != TREE_LEAF && missing[i] != 0;
        e->any_missing |= e->missing[i] != 0;
    }
    return read_keys(r, trees, nodes) && link_children(r, trees, yes, no) && find_roots(r) &&
           read_features(r);
}

/* Weights in the order of their nodes; those of one node stay in the model's order. */
static bool read_weights(Reader *r, const char *prefix, int64_t n_targets) {
    Ensemble *e = r->e;
    Arena *a = r->m->arena, *tmp = r->m->scratch;
    const int64_t *trees;
    int count = e->n_weights = attr_ints(r->n, arena_printf(tmp, "%s_treeids", prefix), &trees);
    const int64_t *nodes = int_list(r, arena_printf(tmp, "%s_nodeids", prefix), count);
    const int64_t *ids = int_list(r, arena_printf(tmp, "%s_ids", prefix), count);
    double *weights = float_list(r, arena_printf(tmp, "%s_weights", prefix), &count);
    if ((count && (!nodes || !ids)) || !weights) return false;
    int32_t *at = arena_array(tmp, int32_t, count + 1);
    e->first = arena_array(a, int64_t, e->n_nodes + 1);
    e->target = arena_array(a, int64_t, count + 1);
    e->weight = arena_array(a, double, count + 1);
    for (int i = 0; i < count; i++) {
        at[i] = find_node(r, trees[i], nodes[i]);
        if (at[i] < 0) {
            diag_error(r->m->diag, r->n->loc, "%s_nodeids[%d] is %lld: tree %lld has no such node",
                       prefix, i, (long long)nodes[i], (long long)trees[i]);
            return false;
        }
        if (!check_attr_int(r->m, r->n, arena_printf(tmp, "%s_ids[%d]", prefix, i), ids[i], 0,
                            n_targets - 1))
            return false;
        e->first[at[i] + 1]++;
    }
    for (int i = 0; i < e->n_nodes; i++) e->first[i + 1] += e->first[i];
    int64_t *next = arena_copy(tmp, e->first, sizeof *next * (size_t)e->n_nodes);
    for (int i = 0; i < count; i++) {
        int64_t w = next[at[i]]++;
        e->target[w] = ids[i];
        e->weight[w] = weights[i];
    }
    return true;
}

bool ensemble_read(Module *m, const Node *n, const char *prefix, int64_t n_targets, Ensemble *e) {
    *e = (Ensemble){.wide = n->in[0]->dtype == DT_F64, .n_base = -1};
    Reader r = {.m = m, .n = n, .e = e};
    return read_nodes(&r) && read_weights(&r, prefix, n_targets) &&
           (e->base = float_list(&r, "base_values", &e->n_base));
}

/* ---- what schedules ask ---------------------------------------------------------------------- */

bool tree_has_one_mode(const Ensemble *e) {
    uint32_t branches = e->modes & ~(1u << TREE_LEAF);
    return branches && !(branches & (branches - 1));
}

TreeMode tree_branch_mode(const Ensemble *e) {
    return (TreeMode)__builtin_ctz(e->modes & ~(1u << TREE_LEAF));
}

/* Has the leaf one weight, for *target or for any if that is negative? */
static bool has_one_target(const Ensemble *e, int64_t leaf, int64_t *target) {
    if (e->first[leaf + 1] - e->first[leaf] != 1) return false;
    int64_t to = e->target[e->first[leaf]];
    if (*target >= 0 && *target != to) return false;
    *target = to;
    return true;
}

bool tree_find_targets(Arena *a, const Ensemble *e, int64_t *target) {
    int64_t *queue = arena_array(a, int64_t, e->n_nodes);
    int *seen = arena_array(a, int, e->n_nodes); /* the last tree, from 1 on, that has the node */
    for (int t = 0; t < e->n_trees; t++) {
        int n = 1;
        queue[0] = e->root[t];
        target[t] = -1;
        for (int i = 0; i < n; i++) {
            int64_t node = queue[i];
            if (e->yes[node] < 0 && !has_one_target(e, node, &target[t])) return false;
            for (int side = 0; side < 2 && e->yes[node] >= 0; side++) {
                int64_t child = side ? e->no[node] : e->yes[node];
                if (seen[child] == t + 1) continue;
                seen[child] = t + 1;
                queue[n++] = child;
            }
        }
    }
    return true;
}

bool tree_has_all_targets(const Ensemble *e, int64_t n_targets) {
    for (int i = 0; i < e->n_nodes; i++) {
        if (e->yes[i] >= 0) continue;
        if (e->first[i + 1] - e->first[i] != n_targets) return false;
        for (int64_t w = 0; w < n_targets; w++)
            if (e->target[e->first[i] + w] != w) return false;
    }
    return true;
}
