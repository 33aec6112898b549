/* Trees walked in lockstep, up to MOST_TREE_LANES of them for one row: see tree_lanes.h.
 *
 *   for level in 0 .. depth[group] - 1
 *     for each lane l                                        gathers, no branch to mispredict
 *       p = step[node[l]]
 *       next = root[l] + child(p) + (x[row, feature(p)] <mode> threshold[node[l]] ? 0 : 1)
 *       node[l] = p < 0 ? node[l] : next                     leaves stay where they are
 *
 * For this every tree's nodes are numbered anew: its own from 0 on, the false child behind the true
 * one. A node's step has, from the low bits: the feature (15 bits), whether NaN takes the true
 * branch (1), the true child (15), and the sign for a leaf. Thresholds of 32 bits lie beside it, in
 * the upper half of an i64, so that one gather brings both.
 *
 * A level waits for two gathers, one after the other, so a group has several vectors of trees: they
 * wait together. */
#include "ir/ops/tree_lanes.h"

#include <string.h>

enum { FIELD_BITS = 15, FIELD = (1 << FIELD_BITS) - 1, LEAST_TREES = 8 };

/* ---- tables ---------------------------------------------------------------------------------- */

typedef struct Renumber {
    const Ensemble *e;
    int64_t *step, *old, *level; /* of the new nodes; level: distance from the root */
    double *threshold;
    int n, room;
} Renumber;

static bool is_leaf(const Ensemble *e, int64_t node) {
    return e->yes[node] < 0;
}

/* Numbers the nodes of one tree, breadth first; false when it does not fit the fields. */
static bool add_tree(Renumber *r, int64_t root, int64_t *depth) {
    const Ensemble *e = r->e;
    int first = r->n;
    *depth = 0;
    if (r->n == r->room) return false;
    r->old[r->n] = root;
    r->level[r->n++] = 0;
    for (int i = first; i < r->n; i++) {
        int64_t node = r->old[i], child = r->n - first;
        r->threshold[i] = e->threshold[node];
        r->step[i] = -1;
        if (is_leaf(e, node)) continue;
        if (child + 1 > FIELD || e->feature[node] > FIELD || r->n + 2 > r->room) return false;
        int64_t missing = e->missing[node] != 0;
        r->step[i] = child << (FIELD_BITS + 1) | missing << FIELD_BITS | e->feature[node];
        r->old[r->n] = e->yes[node];
        r->old[r->n + 1] = e->no[node];
        r->level[r->n] = r->level[r->n + 1] = r->level[i] + 1;
        if (r->level[r->n] > *depth) *depth = r->level[r->n];
        r->n += 2;
    }
    return true;
}

/* The value of a leaf when each has just one, for the only target. */
static bool single_values(const Renumber *r, int64_t n_targets, double *value) {
    const Ensemble *e = r->e;
    if (n_targets != 1) return false;
    for (int i = 0; i < r->n; i++) {
        int64_t node = r->old[i];
        value[i] = 0;
        if (!is_leaf(e, node)) continue;
        if (e->first[node + 1] - e->first[node] != 1) return false;
        value[i] = e->weight[e->first[node]];
    }
    return true;
}

static bool has_one_mode(const Ensemble *e) {
    uint32_t branches = e->modes & ~(1u << TREE_LEAF);
    return branches && !(branches & (branches - 1));
}

/* How many trees to walk together: a level of two vectors of 16 takes little longer than one of
 * one. */
static int choose_lanes(int n_trees) {
    static const struct { int lanes, cost; } ways[] = {{16, 8}, {32, 10}, {MOST_TREE_LANES, 16}};
    int best = 0, least = INT32_MAX;
    for (int i = 0; i < 3; i++) {
        int64_t cost = (int64_t)((n_trees + ways[i].lanes - 1) / ways[i].lanes) * ways[i].cost;
        if (cost >= least) continue;
        least = (int)cost;
        best = ways[i].lanes;
    }
    return best;
}

/* Steps with the thresholds above them. */
static KTensor *pack_steps(Def *d, const Renumber *r) {
    int64_t *both = arena_array(d->m->scratch, int64_t, r->n + 1);
    for (int i = 0; i < r->n; i++) {
        float threshold = (float)r->threshold[i];
        uint32_t bits;
        memcpy(&bits, &threshold, sizeof bits);
        both[i] = (int64_t)((uint64_t)bits << 32 | (uint32_t)r->step[i]);
    }
    return def_table_ints(d, "steps", DT_I64, both, r->n);
}

bool lane_trees_make(Def *d, const Ensemble *e, DType type, int64_t n_targets, LaneTrees *t) {
    Arena *a = d->m->scratch;
    int lanes = choose_lanes(e->n_trees), n_groups = (e->n_trees + lanes - 1) / lanes,
        room = 2 * e->n_nodes + 2;
    if (e->n_trees < LEAST_TREES || !has_one_mode(e) || e->n_nodes > 1 << 28) return false;
    Renumber r = {.e = e, .room = room};
    r.step = arena_array(a, int64_t, room);
    r.old = arena_array(a, int64_t, room);
    r.level = arena_array(a, int64_t, room);
    r.threshold = arena_array(a, double, room);
    int64_t *root = arena_array(a, int64_t, n_groups * lanes);
    int64_t *depth = arena_array(a, int64_t, n_groups);
    for (int i = 0; i < e->n_trees; i++) {
        int64_t levels;
        root[i] = r.n;
        if (!add_tree(&r, e->root[i], &levels)) return false;
        if (levels > depth[i / lanes]) depth[i / lanes] = levels;
    }
    double *value = arena_array(a, double, room);
    *t = (LaneTrees){.e = e, .type = type, .lanes = lanes, .n_groups = n_groups};
    if (type == DT_F32) {
        t->step = pack_steps(d, &r);
    } else {
        t->step = def_table_ints(d, "steps", DT_I32, r.step, r.n);
        t->threshold = def_table_floats(d, "thresholds", type, r.threshold, r.n);
    }
    t->root = def_table_ints(d, "roots", DT_I32, root, n_groups * lanes);
    t->depth = def_table_ints(d, "depths", DT_I32, depth, n_groups);
    if (single_values(&r, n_targets, value))
        t->value = def_table_floats(d, "values", type, value, r.n);
    else
        t->old = def_table_ints(d, "nodes", DT_I32, r.old, r.n);
    return true;
}

/* ---- the walk -------------------------------------------------------------------------------- */

static const KExpr *entry(Def *d, KTensor *table, const KExpr *i) {
    return def_at(d, table, &i, 1);
}

/* The node after `node` (i32) of the tree that begins at root. */
static const KExpr *next_node(Def *d, const LaneTrees *t, const KExpr *row, const KExpr *node,
                              const KExpr *root) {
    KCtx *k = d->k;
    const KExpr *zero = k_const_i(k, DT_I32, 0), *one = k_const_i(k, DT_I32, 1);
    const KExpr *field = k_const_i(k, DT_I32, FIELD), *at = k_cast(k, DT_I64, node);
    const KExpr *step = entry(d, t->step, at), *to;
    if (t->threshold) {
        to = entry(d, t->threshold, at);
    } else {
        const KExpr *upper = k_shr(k, step, k_const_i(k, DT_I64, 32));
        to = k_bitcast(k, DT_F32, k_cast(k, DT_I32, upper));
        step = k_cast(k, DT_I32, step);
    }
    const KExpr *feature = k_cast(k, DT_I64, k_and(k, step, field));
    /* a leaf's step has all bits set: it reads no feature */
    const KExpr *place[2] = {row, feature}, *inside = k_le(k, zero, step);
    KTensor *x = def_in(d, 0);
    const KExpr *value = def_at_if(d, x, x->rank > 1 ? place : place + 1, x->rank, inside);
    value = k_cast(k, t->type, value);
    uint32_t branches = t->e->modes & ~(1u << TREE_LEAF);
    const KExpr *yes = tree_compare(k, (TreeMode)__builtin_ctz(branches), value, to);
    if (t->e->any_missing) {
        const KExpr *bit = k_and(k, step, k_const_i(k, DT_I32, 1 << FIELD_BITS));
        yes = k_or(k, yes, k_and(k, k_ne(k, value, value), k_ne(k, bit, zero)));
    }
    const KExpr *child = k_shr(k, step, k_const_i(k, DT_I32, FIELD_BITS + 1));
    const KExpr *next = k_add(k, k_add(k, root, child), k_select(k, yes, zero, one));
    return k_select(k, inside, next, node);
}

const KExpr *lane_trees_walk(Def *d, const LaneTrees *t, const KExpr *row, const KExpr *group,
                             KBuf *result) {
    KBuild *b = &d->b;
    KCtx *k = b->k;
    KBuf *node = kb_alloc(b, MEM_REG, DT_I32, "node", t->lanes);
    const KExpr *lanes = k_int(k, t->lanes), *start = k_mul(k, group, lanes);
    const KExpr *l = kb_for(b, LOOP_VECTOR, "l", lanes);
    kb_store(b, node, l, entry(d, t->root, k_add(k, start, l)));
    kb_end(b);
    kb_for(b, LOOP_SERIAL, "level", k_cast(k, DT_I64, entry(d, t->depth, group)));
    l = kb_for(b, LOOP_VECTOR, "l", lanes);
    const KExpr *root = entry(d, t->root, k_add(k, start, l));
    kb_store(b, node, l, next_node(d, t, row, k_load(k, node, l), root));
    kb_end(b);
    kb_end(b);
    l = kb_for(b, LOOP_VECTOR, "l", lanes);
    const KExpr *at = k_cast(k, DT_I64, k_load(k, node, l));
    kb_store(b, result, l, entry(d, t->value ? t->value : t->old, at));
    kb_end(b);
    return k_min(k, lanes, k_sub(k, k_int(k, t->e->n_trees), start));
}
