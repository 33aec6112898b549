/* Trees walked in lockstep: see tree_lanes.h. A row goes through vectors of LANES trees, several of
 * them together, since a level waits for two reads, one after the other.
 *
 *   for each vector, for each lane l                         no branch to mispredict
 *     p = step[node[l]]
 *     node[l] = base[l] + (p >> bits) + (x[row, p & mask] <mode> threshold[node[l]] ? 0 : 1)
 *
 * For this all nodes are numbered anew: the top levels of all trees, then the rest tree by tree,
 * breadth first, the false child behind the true one. A node's step has, from the low bits: the
 * feature, where NaNs have a way of their own whether it is the true branch, and the true child,
 * whose number begins at the tree's base only where the ensemble's would not fit (else there are no
 * bases). Leaves stay where they are: their threshold is NaN, and their children are such that what
 * a comparison with NaN gives leads back to the leaf. Thresholds of 32 bits lie beside the step, in
 * the upper half of an i64, so that one read brings both.
 *
 * In the top levels all lanes' nodes at one place of their trees are neighbours, so a level is read
 * as 1, 2, 4, ... vectors, between which the comparisons so far choose. That is quicker than reads
 * from everywhere up to three levels, or four where these end all trees, whose values are then
 * found in the same way. More of them would wait for registers.
 *
 * Up to MOST_LOCAL features are copied for each row: a vector's lanes find them by a permutation.
 *
 * Trees of random forests, or grown leaf by leaf, are much deeper than most walks through them.
 * These are walked until no lane of the group moves, which is asked after every second level. */
#include "ir/ops/tree_lanes.h"

#include <math.h>
#include <string.h>

enum {
    LEAST_TREES = 8,
    LANES = 16,
    MOST_LOCAL = 64,
    STEP_BITS = 31,
    SURE_LEVELS = 2,
    MOST_TOP = 4,
    FEW_NODES = 4096
};

/* ---- tables ---------------------------------------------------------------------------------- */

typedef struct Renumber {
    const Ensemble *e;
    int64_t *step, *old, *child, *level; /* of the new nodes; level: distance from the root */
    double *threshold;
    int n, room;
} Renumber;

static bool is_leaf(const Ensemble *e, int64_t node) {
    return e->yes[node] < 0;
}

/* Appends the children of node i, whose number is known. */
static bool add_children(Renumber *r, int i) {
    const Ensemble *e = r->e;
    r->child[i] = r->n;
    if (r->old[i] < 0 || is_leaf(e, r->old[i])) return true;
    if (r->n + 2 > r->room) return false;
    r->old[r->n] = e->yes[r->old[i]];
    r->old[r->n + 1] = e->no[r->old[i]];
    r->level[r->n] = r->level[r->n + 1] = r->level[i] + 1;
    r->n += 2;
    return true;
}

/* The number of lane 0's first node of a level, of those that are in rows of all lanes. */
static int64_t top_begin(const LaneTrees *t, int level) {
    return (((int64_t)1 << level) - 1) * t->n_groups * lane_trees_lanes(t);
}

/* Numbers the top levels, `most` at most: see LaneTrees. Lanes without a tree have leaves without
 * weights. Returns whether there are branches below. */
static bool number_top(Renumber *r, LaneTrees *t, int most) {
    const Ensemble *e = r->e;
    int n_lanes = t->n_groups * (int)lane_trees_lanes(t);
    for (int i = 0; i < n_lanes; i++) r->old[i] = i < e->n_trees ? e->root[i] : -1;
    r->n = n_lanes;
    for (t->top = 0;; t->top++) {
        int64_t begin = top_begin(t, t->top);
        bool any = false;
        for (int64_t i = begin; i < r->n; i++) any |= r->old[i] >= 0 && !is_leaf(e, r->old[i]);
        if (!any || t->top == most) return any;
        for (int64_t i = begin, n = r->n; i < n; i++) {
            int64_t place = (i - begin) / n_lanes, lane = (i - begin) % n_lanes, node = r->old[i];
            int64_t yes = n + 2 * place * n_lanes + lane, no = yes + n_lanes;
            bool leaf = node < 0 || is_leaf(e, node);
            r->old[yes] = leaf ? node : e->yes[node];
            r->old[no] = leaf ? node : e->no[node];
            r->level[yes] = r->level[no] = t->top + 1;
        }
        r->n += 2 * (int)(r->n - begin);
    }
}

/* Numbers all nodes: the top levels, then the rest tree by tree, breadth first: those of tree t are
 * first[t] .. first[t + 1] - 1. False where nodes have several parents and become too many. */
static bool number_nodes(Renumber *r, LaneTrees *t, int top, int64_t *first) {
    int n_lanes = t->n_groups * (int)lane_trees_lanes(t), n_trees = r->e->n_trees;
    if (number_top(r, t, top) && top) number_top(r, t, top - 1); /* the last one pays with values */
    for (int i = 0; i < n_trees; i++) {
        first[i] = r->n;
        for (int64_t place = 0; place < (int64_t)1 << t->top; place++)
            if (!add_children(r, (int)(top_begin(t, t->top) + place * n_lanes + i))) return false;
        for (int node = (int)first[i]; node < r->n; node++)
            if (!add_children(r, node)) return false;
    }
    first[n_trees] = r->n;
    return true;
}

/* Step and threshold of node i; base: where its tree's numbers begin. */
static void set_step(const Renumber *r, const LaneTrees *t, int64_t i, int64_t base) {
    const Ensemble *e = r->e;
    int64_t node = r->old[i];
    bool leaf = node < 0 || is_leaf(e, node);
    bool is_true = e->modes >> TREE_NEQ & 1; /* what a comparison with NaN gives */
    int64_t step = leaf ? i - base - !is_true : r->child[i] - base;
    r->threshold[i] = leaf ? NAN : e->threshold[node];
    if (e->any_missing) step = step * 2 + (!leaf && e->missing[node]);
    r->step[i] = step * ((int64_t)1 << t->feature_bits) + (leaf ? 0 : e->feature[node]);
}

/* base[lane]: what a tree's relative numbers begin with; a lone leaf's is its own number. */
static void set_steps(const Renumber *r, const LaneTrees *t, int n_lanes, const int64_t *first,
                      int64_t *base) {
    for (int64_t i = n_lanes; i < first[0]; i++) set_step(r, t, i, 0); /* none is relative */
    for (int i = 0; i < n_lanes; i++) {
        bool alone = i >= r->e->n_trees || first[i] == first[i + 1];
        base[i] = !t->relative ? 0 : alone ? i : first[i];
        set_step(r, t, i, base[i]);
        if (alone) continue;
        for (int64_t node = first[i]; node < first[i + 1]; node++) set_step(r, t, node, base[i]);
    }
}

/* The weights of each leaf, `each` of them. */
static KTensor *pack_values(Def *d, const Renumber *r, DType type, int64_t each) {
    const Ensemble *e = r->e;
    double *value = arena_array(d->m->scratch, double, r->n *each);
    for (int i = 0; i < r->n; i++) {
        int64_t node = r->old[i];
        if (node < 0 || !is_leaf(e, node)) continue;
        for (int64_t w = 0; w < each; w++) value[i * each + w] = e->weight[e->first[node] + w];
    }
    return def_table_floats(d, "values", type, value, r->n * each);
}

/* Cycles of a level of v vectors, which wait together for what they read. */
static int level_cycles(int v) {
    enum { WAIT = 40, VECTOR = 22 }; /* at least, and each vector's own part */
    return v * VECTOR > WAIT ? v * VECTOR : WAIT;
}

/* How many vectors of trees to walk together: what fits the trees best, then more of them. */
static int choose_vectors(int n_trees) {
    int n = (n_trees + LANES - 1) / LANES, best = 1, least = INT32_MAX;
    for (int v = 1; v <= MOST_TREE_VECTORS; v++) {
        int cost = (n + v - 1) / v * level_cycles(v);
        if (cost > least) continue;
        least = cost;
        best = v;
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

/* Levels that are walked without asking: all of them, or those that a leaf has on average. */
static void choose_levels(const Renumber *r, LaneTrees *t) {
    double sum = 0, leaves = 0;
    for (int i = (int)top_begin(t, t->top); i < r->n; i++) {
        if (r->level[i] > t->levels) t->levels = (int)r->level[i];
        if (r->old[i] < 0 || !is_leaf(r->e, r->old[i])) continue;
        sum += (double)r->level[i];
        leaves++;
    }
    int sure = (int)(sum / leaves) + SURE_LEVELS;
    t->asks = t->levels > sure + SURE_LEVELS;
    if (t->asks) t->levels = sure;
}

/* What a step has room for: false when not even a tree's own numbers fit. */
static bool choose_fields(const Renumber *r, const int64_t *first, LaneTrees *t) {
    const Ensemble *e = r->e;
    int64_t feature = 0, most = 0;
    for (int i = 0; i < e->n_nodes; i++)
        if (e->feature[i] > feature) feature = e->feature[i];
    for (int i = 0; i < e->n_trees; i++)
        if (first[i + 1] - first[i] > most) most = first[i + 1] - first[i];
    while (feature >> t->feature_bits) t->feature_bits++;
    int64_t room = (int64_t)1 << (STEP_BITS - t->feature_bits - e->any_missing);
    t->relative = r->n >= room;
    t->n_features = feature + 1;
    return most < room;
}

/* What the walk ends with: see LaneTrees. */
static void make_values(Def *d, const Renumber *r, int64_t n_targets, LaneTrees *t) {
    int64_t *target = arena_array(d->m->scratch, int64_t, r->e->n_trees);
    if (n_targets && tree_find_targets(d->m->scratch, r->e, target)) {
        t->value = pack_values(d, r, t->type, 1);
        if (n_targets > 1) t->target = def_table_ints(d, "targets", DT_I32, target, r->e->n_trees);
    } else if (n_targets && n_targets <= MOST_LEAF_WEIGHTS &&
               tree_has_all_targets(r->e, n_targets)) {
        t->value = pack_values(d, r, t->type, n_targets);
        t->is_dense = true;
    } else {
        t->old = def_table_ints(d, "nodes", DT_I32, r->old, r->n);
    }
}

/* The top levels that are worth trying, of which the last one has to end all trees: as long as
 * repeated leaves do not become more than the trees. */
static int most_top(const Ensemble *e, int64_t n_lanes) {
    int top = MOST_TOP;
    while (top && ((2 << top) - 1) * n_lanes > 4 * (int64_t)e->n_nodes + FEW_NODES) top--;
    return top;
}

bool lane_trees_make(Def *d, const Ensemble *e, DType type, int64_t n_targets, LaneTrees *t) {
    Arena *a = d->m->scratch;
    if (e->n_trees < LEAST_TREES || !tree_has_one_mode(e) || e->n_nodes > 1 << 28) return false;
    int vectors = choose_vectors(e->n_trees), lanes = vectors * LANES;
    int n_groups = (e->n_trees + lanes - 1) / lanes, top = most_top(e, n_groups * lanes);
    int room = 2 * e->n_nodes + ((2 << top) - 1) * n_groups * lanes;
    Renumber r = {.e = e, .room = room};
    r.step = arena_array(a, int64_t, room);
    r.child = arena_array(a, int64_t, room);
    r.old = arena_array(a, int64_t, room);
    r.level = arena_array(a, int64_t, room);
    r.threshold = arena_array(a, double, room);
    int64_t *first = arena_array(a, int64_t, e->n_trees + 1);
    int64_t *base = arena_array(a, int64_t, n_groups * lanes);
    *t = (LaneTrees){.e = e, .type = type, .vectors = vectors, .n_groups = n_groups};
    if (!number_nodes(&r, t, top, first) || !choose_fields(&r, first, t)) return false;
    if (t->relative) /* a leaf there could not lead to itself by a short step */
        if (!number_nodes(&r, t, 0, first) || !choose_fields(&r, first, t)) return false;
    set_steps(&r, t, n_groups * lanes, first, base);
    choose_levels(&r, t);
    if (type == DT_F32) {
        t->step = pack_steps(d, &r);
    } else {
        t->step = def_table_ints(d, "steps", DT_I32, r.step, r.n);
        t->threshold = def_table_floats(d, "thresholds", type, r.threshold, r.n);
    }
    if (t->top) {
        int64_t n = top_begin(t, t->top);
        t->top_step = def_table_ints(d, "top_steps", DT_I32, r.step, n);
        t->top_threshold = def_table_floats(d, "top_thresholds", type, r.threshold, n);
    }
    if (t->relative) t->base = def_table_ints(d, "bases", DT_I32, base, n_groups * lanes);
    make_values(d, &r, n_targets, t);
    return true;
}

/* ---- the walk -------------------------------------------------------------------------------- */

static const KExpr *entry(Def *d, KTensor *table, const KExpr *i) {
    return def_at(d, table, &i, 1);
}

/* Feature i of the row, as it is compared. */
static const KExpr *feature_at(Def *d, const LaneTrees *t, const KExpr *row, const KExpr *i) {
    const KExpr *place[2] = {row, i};
    KTensor *x = def_in(d, 0);
    return k_cast(d->k, t->type, def_at(d, x, x->rank > 1 ? place : place + 1, x->rank));
}

KBuf *lane_trees_row(Def *d, const LaneTrees *t, const KExpr *row) {
    KBuild *b = &d->b;
    KCtx *k = b->k;
    int64_t n = (int64_t)1 << t->feature_bits;
    if (t->n_features > MOST_LOCAL || t->type != DT_F32) return NULL;
    if (n < LANES) n = LANES;
    KBuf *local = kb_alloc(b, MEM_REG, t->type, "features", n);
    for (int64_t v = 0; v * LANES < t->n_features; v++) {
        int64_t rest = t->n_features - v * LANES;
        const KExpr *l = kb_for(b, LOOP_VECTOR, "l", k_int(k, rest < LANES ? rest : LANES));
        const KExpr *at = k_add(k, k_int(k, v * LANES), l);
        kb_store(b, local, at, feature_at(d, t, row, at));
        kb_end(b);
    }
    return local;
}

/* What a walk is made of. */
typedef struct LaneWalk {
    Def *d;
    const LaneTrees *t;
    const KExpr *row, *start; /* start: the group's first lane of all */
    KBuf *features, *node;
} LaneWalk;

/* Is a branch true? Given are its step (i32) and threshold. */
static const KExpr *is_true(const LaneWalk *w, const KExpr *step, const KExpr *to) {
    const LaneTrees *t = w->t;
    Def *d = w->d;
    KCtx *k = d->k;
    const KExpr *mask = k_const_i(k, DT_I32, ((int64_t)1 << t->feature_bits) - 1);
    const KExpr *feature = k_cast(k, DT_I64, k_and(k, step, mask));
    const KExpr *value =
        w->features ? k_load(k, w->features, feature) : feature_at(d, t, w->row, feature);
    const KExpr *yes = tree_compare(k, tree_branch_mode(t->e), value, to);
    if (t->e->any_missing) {
        const KExpr *bit = k_and(k, step, k_const_i(k, DT_I32, (int64_t)1 << t->feature_bits));
        const KExpr *tracks = k_ne(k, bit, k_const_i(k, DT_I32, 0));
        yes = k_or(k, yes, k_and(k, k_ne(k, value, value), tracks));
    }
    return yes;
}

/* The node (i32) after node `at` of the lane's tree. */
static const KExpr *next_node(const LaneWalk *w, const KExpr *at, const KExpr *lane) {
    const LaneTrees *t = w->t;
    Def *d = w->d;
    KCtx *k = d->k;
    int bits = t->feature_bits + t->e->any_missing;
    const KExpr *zero = k_const_i(k, DT_I32, 0), *one = k_const_i(k, DT_I32, 1);
    const KExpr *step = entry(d, t->step, at), *to;
    if (t->threshold) {
        to = entry(d, t->threshold, at);
    } else {
        const KExpr *upper = k_shr(k, step, k_const_i(k, DT_I64, 32));
        to = k_bitcast(k, DT_F32, k_cast(k, DT_I32, upper));
        step = k_cast(k, DT_I32, step);
    }
    const KExpr *yes = is_true(w, step, to), *child = k_shr(k, step, k_const_i(k, DT_I32, bits));
    if (t->base) child = k_add(k, entry(d, t->base, k_add(k, w->start, lane)), child);
    return k_add(k, child, k_select(k, yes, zero, one));
}

/* Lane `at` of the group's, in loops over its vectors that the caller closes by two kb_end. */
static const KExpr *each_lane(const LaneWalk *w) {
    KBuild *b = &w->d->b;
    const KExpr *v = kb_for(b, LOOP_UNROLL, "v", k_int(b->k, w->t->vectors));
    const KExpr *l = kb_for(b, LOOP_VECTOR, "l", k_int(b->k, LANES));
    return k_add(b->k, k_mul(b->k, v, k_int(b->k, LANES)), l);
}

static void end_lanes(const LaneWalk *w) {
    kb_end(&w->d->b);
    kb_end(&w->d->b);
}

/* Without top levels the first one begins with the roots, which are neighbours. */
static void walk_level(const LaneWalk *w, bool is_first) {
    KBuild *b = &w->d->b;
    KCtx *k = b->k;
    const KExpr *lane = each_lane(w), *node = k_add(k, w->start, lane);
    if (!is_first) node = k_cast(k, DT_I64, k_load(k, w->node, lane));
    kb_store(b, w->node, lane, next_node(w, node, lane));
    end_lanes(w);
}

/* The entry of the node of a level to which yes[0 .. level - 1] lead: of those at `place` and every
 * 2^(level - known)th after it. What was known first chooses first. */
static const KExpr *top_entry(const LaneWalk *w, KTensor *table, const KExpr *lane, int level,
                              const KExpr *const *yes, int known, int64_t place) {
    KCtx *k = w->d->k;
    int64_t n_lanes = w->t->n_groups * lane_trees_lanes(w->t);
    if (!known)
        return entry(w->d, table,
                     k_add(k, lane, k_int(k, top_begin(w->t, level) + place * n_lanes)));
    int64_t step = (int64_t)1 << (level - known);
    return k_select(k, yes[known - 1], top_entry(w, table, lane, level, yes, known - 1, place),
                    top_entry(w, table, lane, level, yes, known - 1, place + step));
}

/* Through the top levels; where these are all, to the leaves' only values. */
static void walk_top(const LaneWalk *w) {
    const LaneTrees *t = w->t;
    KBuild *b = &w->d->b;
    KCtx *k = b->k;
    const KExpr *lane = each_lane(w), *at = k_add(k, w->start, lane), *yes[MOST_TOP];
    for (int l = 0; l < t->top; l++) {
        const KExpr *step = top_entry(w, t->top_step, at, l, yes, l, 0);
        const KExpr *to = top_entry(w, t->top_threshold, at, l, yes, l, 0);
        yes[l] = kb_let(b, "yes", is_true(w, step, to));
    }
    if (w->node->dtype == t->type) {
        kb_store(b, w->node, lane, top_entry(w, t->value, at, t->top, yes, t->top, 0));
    } else {
        const KExpr *node = k_add(k, at, k_int(k, top_begin(t, t->top)));
        node = k_cast(k, DT_I32, node);
        for (int l = 0; l < t->top; l++) {
            int64_t step = (t->n_groups * lane_trees_lanes(t)) << (t->top - 1 - l);
            const KExpr *zero = k_const_i(k, DT_I32, 0);
            node = k_add(k, node, k_select(k, yes[l], zero, k_const_i(k, DT_I32, step)));
        }
        kb_store(b, w->node, lane, node);
    }
    end_lanes(w);
}

/* Pairs of levels until no lane has moved in the second one. */
static void walk_rest(const LaneWalk *w) {
    KBuild *b = &w->d->b;
    KCtx *k = b->k;
    const KExpr *zero = k_int(k, 0), *at;
    KBuf *moved = kb_alloc(b, MEM_REG, DT_I32, "moved", LANES);
    kb_store(b, moved, zero, k_const_i(k, DT_I32, 1));
    kb_while(b, k_ne(k, k_load(k, moved, zero), k_const_i(k, DT_I32, 0)));
    walk_level(w, false);
    at = kb_for(b, LOOP_VECTOR, "l", k_int(k, LANES));
    kb_store(b, moved, at, k_const_i(k, DT_I32, 0));
    kb_end(b);
    const KExpr *v = kb_for(b, LOOP_UNROLL, "v", k_int(k, w->t->vectors));
    const KExpr *l = kb_for(b, LOOP_VECTOR, "l", k_int(k, LANES));
    at = k_add(k, k_mul(k, v, k_int(k, LANES)), l);
    const KExpr *node = k_load(k, w->node, at);
    const KExpr *next = kb_let(b, "next", next_node(w, k_cast(k, DT_I64, node), at));
    kb_store(b, moved, l, k_or(k, k_load(k, moved, l), k_xor(k, node, next)));
    kb_store(b, w->node, at, next);
    end_lanes(w);
    lower_fold_lanes(b, moved, LANES, KO_or);
    kb_end(b);
}

KBuf *lane_trees_walk(Def *d, const LaneTrees *t, const KExpr *row, KBuf *features,
                      const KExpr *group) {
    KBuild *b = &d->b;
    KCtx *k = b->k;
    LaneWalk w = {d, t, row, k_mul(k, group, k_int(k, lane_trees_lanes(t))), features, NULL};
    bool is_value = t->top == t->levels && t->value && !t->is_dense;
    w.node = kb_alloc(b, MEM_REG, is_value ? t->type : DT_I32, "node", lane_trees_lanes(t));
    if (t->top)
        walk_top(&w);
    else
        walk_level(&w, true);
    int begun = t->top ? t->top : 1;
    if (t->levels > begun) {
        kb_for(b, LOOP_SERIAL, "level", k_int(k, t->levels - begun));
        walk_level(&w, false);
        kb_end(b);
    }
    if (t->asks) walk_rest(&w);
    return w.node;
}

int64_t lane_trees_lanes(const LaneTrees *t) {
    return (int64_t)t->vectors * LANES;
}

int64_t lane_trees_cycles(const LaneTrees *t) {
    return (int64_t)t->n_groups * t->levels * level_cycles(t->vectors);
}

/* ---- the leaves ------------------------------------------------------------------------------ */

KBuf *lane_trees_sums(Def *d) {
    KBuild *b = &d->b;
    KBuf *sums = kb_alloc(b, MEM_REG, DT_F32, "sums", LANES);
    const KExpr *l = kb_for(b, LOOP_VECTOR, "l", k_int(b->k, LANES));
    kb_store(b, sums, l, k_const(b->k, DT_F32, 0));
    kb_end(b);
    return sums;
}

/* The only value of the leaf of a lane. */
static const KExpr *leaf_value(Def *d, const LaneTrees *t, KBuf *node, const KExpr *lane) {
    const KExpr *leaf = k_load(d->k, node, lane);
    return leaf->dtype == t->type ? leaf : entry(d, t->value, k_cast(d->k, DT_I64, leaf));
}

void lane_trees_add(Def *d, const LaneTrees *t, KBuf *node, KBuf *sums) {
    KBuild *b = &d->b;
    KCtx *k = b->k;
    const KExpr *v = kb_for(b, LOOP_UNROLL, "v", k_int(k, t->vectors));
    const KExpr *l = kb_for(b, LOOP_VECTOR, "l", k_int(k, LANES));
    const KExpr *value = leaf_value(d, t, node, k_add(k, k_mul(k, v, k_int(k, LANES)), l));
    kb_store(b, sums, l, k_add(k, k_load(k, sums, l), value));
    kb_end(b);
    kb_end(b);
}

KBuf *lane_trees_leaves(Def *d, const LaneTrees *t, KBuf *node) {
    KBuild *b = &d->b;
    KCtx *k = b->k;
    bool is_value = t->value && !t->is_dense;
    KBuf *leaves =
        kb_alloc(b, MEM_STACK, is_value ? t->type : DT_I32, "leaves", lane_trees_lanes(t));
    const KExpr *v = kb_for(b, LOOP_UNROLL, "v", k_int(k, t->vectors));
    const KExpr *l = kb_for(b, LOOP_VECTOR, "l", k_int(k, LANES));
    const KExpr *at = k_add(k, k_mul(k, v, k_int(k, LANES)), l);
    kb_store(b, leaves, at, is_value ? leaf_value(d, t, node, at) : k_load(k, node, at));
    kb_end(b);
    kb_end(b);
    return leaves;
}

const KExpr *lane_trees_total(Def *d, KBuf *sums) {
    return lower_fold_lanes(&d->b, sums, LANES, KO_add);
}
