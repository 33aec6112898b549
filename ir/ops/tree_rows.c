/* Trees evaluated for blocks of rows: see tree_rows.h. Small trees have fewer branches than a walk
 * through one of them costs operations: node, feature and threshold of each lane are read from
 * places of their own. Here all comparisons are made, and what they need is one number for all
 * lanes and a vector of neighbours (after QuickScorer, Lucchese et al. 2015, with rows as lanes).
 *
 *   for each piece of a tree                            at most 16 or 32 leaves, each has a bit
 *     live = all leaves                                 of a vector of rows
 *     for each branch of the piece                      in any order
 *       live = column[feature] <mode> threshold ? live : live & keep
 *     sum += value[highest bit of live]
 *
 * keep is without the leaves of the true child. So what is left are leaves that no false branch
 * excludes; the row's own is the first of them from the left, where true children are, and the
 * highest bit. Its number is the exponent of live as a float (of 32 bits the second of two
 * neighbours is cleared before, so that rounding does not carry), its value lies in a vector or two.
 *
 * Trees with more leaves are pieces: subtrees, and the branches that lead there. The other child of
 * such a branch is a leaf with 0. Adding 0 changes no bit of a sum that began with 0.
 *
 * Rows are turned into columns of a block first. A NaN that takes the true branch is an infinity
 * there: a feature of which some nodes track it and others do not has two columns. */
#include "ir/ops/tree_rows.h"

#include <math.h>

#include "ir/turn.h"

enum {
    LANES = 16,
    MOST_PIECE_DEPTH = 64,
    MOST_FEATURES = 1 << 16,
    MOST_VECTORS = 4,
    MOST_BLOCK_BYTES = 32768, /* of columns, and of sums */
    /* Quarters of a cycle, of a vector of rows: a branch, the end of a piece and what a further sum
     * takes there; of one number of a row: to become a column's, alone or among all. */
    BRANCH = 4,
    PIECE = 16,
    VALUE = 8,
    TURN = 5,
    TURN_ALL = 1,
};

/* ---- tables ---------------------------------------------------------------------------------- */

typedef struct Leaf {
    int64_t at, node; /* where its value lies; the ensemble's node */
} Leaf;

typedef struct Pieces {
    const Ensemble *e;
    int width, bit;  /* bit: of the next leaf to the right */
    int64_t *leaves; /* below a node; 0: not counted yet */
    int64_t *first, *to, *column, *keep;
    double *threshold;
    Leaf *leaf;
    int64_t n_pieces, n_nodes, n_leaves, room;
    /* The branches that lead to the piece, and whether they were true. */
    int64_t path[MOST_PIECE_DEPTH];
    bool went_true[MOST_PIECE_DEPTH];
} Pieces;

/* False where a tree is too deep, or has more leaves than there is room for: nodes may be shared. */
static bool count_leaves(Pieces *p, int64_t node, int depth) {
    const Ensemble *e = p->e;
    if (p->leaves[node]) return true;
    if (e->yes[node] < 0) {
        p->leaves[node] = 1;
        return true;
    }
    if (depth == MOST_PIECE_DEPTH || !count_leaves(p, e->yes[node], depth + 1) ||
        !count_leaves(p, e->no[node], depth + 1))
        return false;
    p->leaves[node] = p->leaves[e->yes[node]] + p->leaves[e->no[node]];
    return p->leaves[node] <= p->room;
}

/* A branch of the piece, whose true child has the leaves from bit `above` down to the next one. */
static void add_branch(Pieces *p, int64_t node, int above) {
    const Ensemble *e = p->e;
    uint64_t gone = ((UINT64_C(2) << above) - 1) ^ ((UINT64_C(2) << p->bit) - 1);
    uint32_t keep = ~(uint32_t)gone;
    p->column[p->n_nodes] = e->feature[node] * 2 + (e->any_missing && e->missing[node]);
    p->threshold[p->n_nodes] = e->threshold[node];
    p->keep[p->n_nodes++] = p->width == 32 ? (int64_t)keep : (int64_t)(keep & 0xffff);
}

static void add_subtree(Pieces *p, int64_t node) {
    const Ensemble *e = p->e;
    if (e->yes[node] < 0) {
        int64_t at = p->n_pieces * p->width + (p->bit-- + p->width - 1) % p->width;
        p->leaf[p->n_leaves++] = (Leaf){at, node};
        return;
    }
    int above = p->bit;
    add_subtree(p, e->yes[node]);
    add_branch(p, node, above);
    add_subtree(p, e->no[node]);
}

/* The branches of the path from `i` on, and what they lead to. */
static void add_path(Pieces *p, int64_t node, int i, int n) {
    int above = p->bit;
    if (i == n) {
        add_subtree(p, node);
    } else if (p->went_true[i]) {
        add_path(p, node, i + 1, n);
        add_branch(p, p->path[i], above);
    } else {
        p->bit--;
        add_branch(p, p->path[i], above);
        add_path(p, node, i + 1, n);
    }
}

/* The pieces of the subtree to which the first n branches of the path lead. */
static bool add_pieces(Pieces *p, int64_t node, int n, int64_t to) {
    const Ensemble *e = p->e;
    int64_t n_leaves = p->leaves[node], others = 0;
    bool any_true = false;
    for (int i = 0; i < n; i++) {
        others += !p->went_true[i];
        any_true |= p->went_true[i];
    }
    others += any_true; /* one for all to the right */
    if (n_leaves + others <= p->width) {
        if (p->n_nodes + n_leaves + n > p->room || p->n_leaves + n_leaves > p->room) return false;
        p->first[p->n_pieces] = p->n_nodes;
        p->to[p->n_pieces] = to;
        p->bit = p->width - 1;
        add_path(p, node, 0, n);
        p->n_pieces++;
        return true;
    }
    if (n_leaves == 1 || n == MOST_PIECE_DEPTH) return false;
    p->path[n] = node;
    p->went_true[n] = true;
    if (!add_pieces(p, e->yes[node], n + 1, to)) return false;
    p->went_true[n] = false;
    return add_pieces(p, e->no[node], n + 1, to);
}

/* All trees' pieces in order. target NULL: a tree's sum is that of its lane. */
static bool make_pieces(Arena *a, const Ensemble *e, const int64_t *target, Pieces *p) {
    int64_t most = 0;
    *p = (Pieces){.e = e, .room = 2 * (int64_t)e->n_nodes + 64};
    p->leaves = arena_array(a, int64_t, e->n_nodes);
    for (int t = 0; t < e->n_trees; t++) {
        if (!count_leaves(p, e->root[t], 0)) return false;
        if (p->leaves[e->root[t]] > most) most = p->leaves[e->root[t]];
    }
    p->width = most > 16 ? 32 : 16;
    p->first = arena_array(a, int64_t, p->room + 1);
    p->to = arena_array(a, int64_t, p->room);
    p->column = arena_array(a, int64_t, p->room);
    p->keep = arena_array(a, int64_t, p->room);
    p->threshold = arena_array(a, double, p->room);
    p->leaf = arena_array(a, Leaf, p->room);
    for (int t = 0; t < e->n_trees; t++)
        if (!add_pieces(p, e->root[t], 0, target ? target[t] : t % LANES)) return false;
    p->first[p->n_pieces] = p->n_nodes;
    return true;
}

/* What a NaN becomes so that it takes the true branch. */
static double tracked_value(const Ensemble *e) {
    TreeMode mode = tree_branch_mode(e);
    return mode == TREE_LEQ || mode == TREE_LT ? -INFINITY : INFINITY;
}

static bool has_few_features(const Ensemble *e) {
    for (int i = 0; i < e->n_nodes; i++)
        if (e->feature[i] >= MOST_FEATURES) return false;
    return true;
}

/* Does the infinity take every true branch that a NaN has to? */
static bool can_track(const Ensemble *e) {
    TreeMode mode = tree_branch_mode(e);
    if (!e->any_missing) return true;
    if (mode == TREE_EQ || mode == TREE_NEQ) return false;
    for (int i = 0; i < e->n_nodes; i++)
        if (e->yes[i] >= 0 && e->missing[i] &&
            (isnan(e->threshold[i]) || (float)e->threshold[i] == (float)tracked_value(e)))
            return false;
    return true;
}

/* Numbers the columns that nodes have: features as they are, all of them where most are used, then
 * those with tracked NaNs, which are made of the others. Returns the columns' features, or of a
 * tracked one the column that it is made of. */
static int64_t *number_columns(Arena *a, Pieces *p, RowTrees *t) {
    int64_t most = 1, n_used = 0;
    for (int64_t i = 0; i < p->n_nodes; i++)
        if (p->column[i] > most) most = p->column[i] | 1;
    int64_t *number = arena_array(a, int64_t, most + 1);
    int64_t *feature = arena_array(a, int64_t, most + 1);
    for (int64_t i = 0; i < p->n_nodes; i++)
        number[p->column[i]] = number[p->column[i] & ~INT64_C(1)] = 1;
    for (int64_t c = 0; c < most; c += 2) n_used += number[c];
    t->has_all = n_used * 2 >= most / 2 + 1;
    for (int tracked = 0; tracked < 2; tracked++) {
        for (int64_t c = tracked; c <= most; c += 2) {
            if (!number[c] && (tracked || !t->has_all)) continue;
            number[c] = t->n_columns;
            feature[t->n_columns++] = c / 2;
            t->n_tracked += tracked;
        }
    }
    for (int64_t i = t->n_columns - t->n_tracked; i < t->n_columns; i++)
        feature[i] = number[feature[i] * 2];
    for (int64_t i = 0; i < p->n_nodes; i++) p->column[i] = number[p->column[i]];
    return feature;
}

static void pack_tables(Def *d, const Pieces *p, const int64_t *feature, RowTrees *t) {
    const Ensemble *e = p->e;
    int64_t each = t->is_dense ? t->n_targets : 1, rows = row_trees_rows(t);
    DType live = p->width == 32 ? DT_U32 : DT_I32;
    for (int64_t i = 0; i < p->n_nodes; i++) p->column[i] *= rows;
    t->first = def_table_ints(d, "first", DT_I32, p->first, p->n_pieces + 1);
    if (t->n_sums > 1 && !t->is_dense) t->to = def_table_ints(d, "to", DT_I32, p->to, p->n_pieces);
    t->column = def_table_ints(d, "columns", DT_I32, p->column, p->n_nodes);
    t->threshold = def_table_floats(d, "thresholds", DT_F32, p->threshold, p->n_nodes);
    t->keep = def_table_ints(d, "keep", live, p->keep, p->n_nodes);
    double *value = arena_array(d->m->scratch, double, p->n_pieces *each * p->width);
    for (int64_t i = 0; i < p->n_leaves; i++) {
        int64_t piece = p->leaf[i].at / p->width, place = p->leaf[i].at % p->width;
        const double *weight = e->weight + e->first[p->leaf[i].node];
        for (int64_t w = 0; w < each; w++) value[(piece * each + w) * p->width + place] = weight[w];
    }
    t->value = def_table_floats(d, "values", DT_F32, value, p->n_pieces * each * p->width);
    int64_t n_plain = t->n_columns - t->n_tracked;
    if (!t->has_all) t->feature = def_table_ints(d, "features", DT_I32, feature, n_plain);
    if (t->n_tracked)
        t->source = def_table_ints(d, "sources", DT_I32, feature + n_plain, t->n_tracked);
}

/* Quarters of a cycle for a vector of rows. */
static int64_t vector_cost(const Pieces *p, const RowTrees *t) {
    int64_t values = p->n_pieces * (t->is_dense ? t->n_targets - 1 : 0);
    return p->n_nodes * BRANCH + p->n_pieces * PIECE + values * VALUE +
           LANES * (t->has_all ? TURN_ALL : TURN) * t->n_columns;
}

/* As many vectors as the rows fill, as long as a block's columns stay in the first level of cache. */
static bool choose_vectors(RowTrees *t, int64_t n_rows) {
    int64_t most = n_rows < 0 ? MOST_VECTORS / 2 : n_rows / LANES;
    int64_t bytes = (t->n_columns + t->n_sums) * LANES * (int64_t)sizeof(float);
    t->vectors = most > MOST_VECTORS ? MOST_VECTORS : most > 0 ? (int)most : 1;
    while (t->vectors > 1 && bytes * t->vectors > MOST_BLOCK_BYTES) t->vectors /= 2;
    return bytes * t->vectors <= MOST_BLOCK_BYTES;
}

bool row_trees_make(Def *d, const Ensemble *e, int64_t n_targets, bool by_lanes, int64_t n_rows,
                    int64_t walk_cycles, RowTrees *t) {
    Arena *a = d->m->scratch;
    int64_t *target = arena_array(a, int64_t, e->n_trees);
    Pieces p;
    *t = (RowTrees){.e = e, .n_targets = n_targets, .by_lanes = by_lanes};
    if (e->wide || !tree_has_one_mode(e) || !can_track(e) || !has_few_features(e)) return false;
    if (!tree_find_targets(a, e, target)) {
        if (by_lanes || !tree_has_all_targets(e, n_targets)) return false;
        t->is_dense = true;
    }
    if (!make_pieces(a, e, by_lanes ? NULL : target, &p)) return false;
    t->width = p.width;
    t->n_pieces = p.n_pieces;
    t->n_sums = by_lanes ? LANES : n_targets;
    const int64_t *feature = number_columns(a, &p, t);
    if (!choose_vectors(t, n_rows)) return false;
    int64_t cycles = vector_cost(&p, t) * t->vectors / 4;
    t->least = cycles / walk_cycles + 1;
    int64_t all = n_rows >= 0 && n_rows < row_trees_rows(t) ? n_rows : row_trees_rows(t);
    if (t->least * 4 > all * 3) return false;
    pack_tables(d, &p, feature, t);
    return true;
}

int64_t row_trees_rows(const RowTrees *t) {
    return (int64_t)t->vectors * LANES;
}

/* ---- the block ------------------------------------------------------------------------------- */

static const KExpr *entry(Def *d, KTensor *table, const KExpr *i) {
    return def_at(d, table, &i, 1);
}

/* An entry that is below `end`. */
static const KExpr *entry_below(Def *d, KTensor *table, const KExpr *i, int64_t end) {
    return kb_let_within(&d->b, table->name, k_cast(d->k, DT_I64, entry(d, table, i)), end - 1);
}

/* Row `at` of the block, in loops over its vectors that the caller closes by end_rows. */
static const KExpr *each_row(Def *d, const RowTrees *t) {
    KBuild *b = &d->b;
    const KExpr *v = kb_for(b, LOOP_UNROLL, "v", k_int(b->k, t->vectors));
    const KExpr *l = kb_for(b, LOOP_VECTOR, "l", k_int(b->k, LANES));
    return k_add(b->k, k_mul(b->k, v, k_int(b->k, LANES)), l);
}

static void end_rows(Def *d) {
    kb_end(&d->b);
    kb_end(&d->b);
}

static void clear(Def *d, const RowTrees *t, KBuf *buf, int64_t n) {
    KBuild *b = &d->b;
    KCtx *k = b->k;
    const KExpr *i = kb_for(b, LOOP_SERIAL, "i", k_int(k, n));
    const KExpr *at = each_row(d, t);
    kb_store(b, buf, k_add(k, k_mul(k, i, k_int(k, row_trees_rows(t))), at), k_const(k, DT_F32, 0));
    end_rows(d);
    kb_end(b);
}

static const KExpr *x_at(Def *d, const KExpr *row, const KExpr *feature) {
    const KExpr *place[2] = {row, feature};
    return k_cast(d->k, DT_F32, def_at(d, def_in(d, 0), place, 2));
}

/* columns[c, row] = x[first + row, feature[c]] of plain columns */
static void turn_numbers(Def *d, const RowTrees *t, const KExpr *first, const KExpr *here,
                         KBuf *columns) {
    KBuild *b = &d->b;
    KCtx *k = b->k;
    const KExpr *row = kb_for(b, LOOP_SERIAL, "row", here);
    const KExpr *c = kb_for(b, LOOP_SERIAL, "c", k_int(k, t->n_columns - t->n_tracked));
    const KExpr *feature = t->feature ? k_cast(k, DT_I64, entry(d, t->feature, c)) : c;
    const KExpr *to = k_add(k, k_mul(k, c, k_int(k, row_trees_rows(t))), row);
    kb_store(b, columns, to, x_at(d, k_add(k, first, row), feature));
    kb_end(b);
    kb_end(b);
}

/* The same of n neighbours from `from` on, for a vector of rows. */
static void turn_square(Def *d, const RowTrees *t, const KExpr *first, const KExpr *v,
                        const KExpr *from, int64_t n, KBuf *columns) {
    KBuild *b = &d->b;
    KCtx *k = b->k;
    const KExpr *width = k_int(k, LANES), *vector = k_mul(k, v, width);
    KBuf *rows = kb_alloc(b, MEM_REG, DT_F32, "rows", LANES * LANES);
    const KExpr *r = kb_for(b, LOOP_UNROLL, "r", width);
    const KExpr *row = k_add(k, k_add(k, first, vector), r);
    const KExpr *l = kb_for(b, LOOP_VECTOR, "l", k_int(k, n));
    kb_store(b, rows, k_add(k, k_mul(k, r, width), l), x_at(d, row, k_add(k, from, l)));
    end_rows(d);
    rows = turn_rows(b, rows, LANES, LANES);
    const KExpr *c = kb_for(b, LOOP_UNROLL, "c", k_int(k, n));
    l = kb_for(b, LOOP_VECTOR, "l", width);
    const KExpr *to = k_mul(k, k_add(k, from, c), k_int(k, row_trees_rows(t)));
    kb_store(b, columns, k_add(k, k_add(k, to, vector), l),
             k_load(k, rows, k_add(k, k_mul(k, c, width), l)));
    end_rows(d);
}

/* The same of all columns and a whole block. */
static void turn_squares(Def *d, const RowTrees *t, const KExpr *first, KBuf *columns) {
    KBuild *b = &d->b;
    KCtx *k = b->k;
    int64_t n = t->n_columns - t->n_tracked, n_whole = n / LANES;
    const KExpr *v = kb_for(b, LOOP_SERIAL, "v", k_int(k, t->vectors));
    if (n_whole) {
        const KExpr *strip = kb_for(b, LOOP_SERIAL, "strip", k_int(k, n_whole));
        turn_square(d, t, first, v, k_mul(k, strip, k_int(k, LANES)), LANES, columns);
        kb_end(b);
    }
    if (n % LANES) turn_square(d, t, first, v, k_int(k, n_whole * LANES), n % LANES, columns);
    kb_end(b);
}

/* The block's columns. */
static KBuf *make_columns(Def *d, const RowTrees *t, const KExpr *first, const KExpr *here) {
    KBuild *b = &d->b;
    KCtx *k = b->k;
    int64_t rows = row_trees_rows(t), n_plain = t->n_columns - t->n_tracked;
    KBuf *columns = kb_alloc(b, MEM_STACK, DT_F32, "columns", t->n_columns * rows);
    kb_if(b, k_lt(k, here, k_int(k, rows)));
    clear(d, t, columns, t->n_columns);
    if (!t->has_all) kb_end(b);
    turn_numbers(d, t, first, here, columns);
    if (t->has_all) {
        kb_else(b);
        turn_squares(d, t, first, columns);
        kb_end(b);
    }
    if (!t->n_tracked) return columns;
    const KExpr *c = kb_for(b, LOOP_SERIAL, "c", k_int(k, t->n_tracked));
    const KExpr *from = k_mul(k, entry_below(d, t->source, c, n_plain), k_int(k, rows));
    const KExpr *to = k_mul(k, k_add(k, c, k_int(k, n_plain)), k_int(k, rows));
    const KExpr *at = each_row(d, t), *x = k_load(k, columns, k_add(k, from, at));
    x = k_select(k, k_ne(k, x, x), k_const(k, DT_F32, tracked_value(t->e)), x);
    kb_store(b, columns, k_add(k, to, at), x);
    end_rows(d);
    kb_end(b);
    return columns;
}

/* live[row] = the leaves of a piece that no false branch excludes. */
static void take_branches(Def *d, const RowTrees *t, const KExpr *piece, KBuf *columns,
                          KBuf *live) {
    KBuild *b = &d->b;
    KCtx *k = b->k;
    int64_t all = t->width == 32 ? UINT32_MAX : 0xffff;
    const KExpr *at = each_row(d, t);
    kb_store(b, live, at, k_const_i(k, live->dtype, all));
    end_rows(d);
    const KExpr *next = k_add(k, piece, k_int(k, 1));
    const KExpr *first = kb_let(b, "first", k_cast(k, DT_I64, entry(d, t->first, piece)));
    const KExpr *n = k_sub(k, k_cast(k, DT_I64, entry(d, t->first, next)), first);
    const KExpr *node = kb_for(b, LOOP_SERIAL, "node", n);
    node = kb_let(b, "node", k_add(k, first, node));
    int64_t rows = row_trees_rows(t);
    const KExpr *column = entry_below(d, t->column, node, (t->n_columns - 1) * rows + 1);
    const KExpr *threshold = kb_let(b, "threshold", entry(d, t->threshold, node));
    const KExpr *keep = kb_let(b, "keep", entry(d, t->keep, node));
    at = each_row(d, t);
    const KExpr *x = k_load(k, columns, k_add(k, column, at)), *old = k_load(k, live, at);
    const KExpr *yes = tree_compare(k, tree_branch_mode(t->e), x, threshold);
    kb_store(b, live, at, k_select(k, yes, old, k_and(k, old, keep)));
    end_rows(d);
    kb_end(b);
}

/* live[row] = the place of the value of the first leaf that is left. */
static void find_leaves(Def *d, const RowTrees *t, KBuf *live) {
    KBuild *b = &d->b;
    KCtx *k = b->k;
    const KExpr *at = each_row(d, t), *top = k_load(k, live, at);
    if (t->width == 32) {
        const KExpr *below = k_shr(k, top, k_const_i(k, live->dtype, 1));
        top = k_and(k, top, k_unary(k, KO_not, below));
    }
    const KExpr *bits = k_bitcast(k, live->dtype, k_cast(k, DT_F32, top));
    const KExpr *exponent = k_shr(k, bits, k_const_i(k, live->dtype, 23));
    kb_store(b, live, at, k_and(k, exponent, k_const_i(k, live->dtype, t->width - 1)));
    end_rows(d);
}

/* sums[to, row] += values[live[row]] */
static void add_values(Def *d, const RowTrees *t, const KExpr *values, const KExpr *to, KBuf *live,
                       KBuf *sums) {
    KBuild *b = &d->b;
    KCtx *k = b->k;
    KBuf *table = kb_alloc(b, MEM_REG, DT_F32, "table", t->width);
    const KExpr *v = kb_for(b, LOOP_UNROLL, "v", k_int(k, t->width / LANES));
    const KExpr *at = kb_for(b, LOOP_VECTOR, "l", k_int(k, LANES));
    at = k_add(k, k_mul(k, v, k_int(k, LANES)), at);
    kb_store(b, table, at, entry(d, t->value, k_add(k, k_mul(k, values, k_int(k, t->width)), at)));
    end_rows(d);
    at = each_row(d, t);
    const KExpr *place = k_and(k, k_load(k, live, at), k_const_i(k, live->dtype, t->width - 1));
    const KExpr *value = k_load(k, table, k_cast(k, DT_I64, place));
    const KExpr *sum = k_add(k, k_mul(k, to, k_int(k, row_trees_rows(t))), at);
    kb_store(b, sums, sum, k_add(k, k_load(k, sums, sum), value));
    end_rows(d);
}

/* The lanes' sums as one, in the order of lower_fold_lanes. */
static void fold_sums(Def *d, const RowTrees *t, KBuf *sums) {
    KBuild *b = &d->b;
    KCtx *k = b->k;
    const KExpr *rows = k_int(k, row_trees_rows(t));
    for (int64_t half = LANES / 2; half; half /= 2) {
        const KExpr *lane = kb_for(b, LOOP_SERIAL, "lane", k_int(k, half));
        const KExpr *other = k_mul(k, k_add(k, lane, k_int(k, half)), rows);
        const KExpr *at = each_row(d, t), *to = k_add(k, k_mul(k, lane, rows), at);
        other = k_load(k, sums, k_add(k, other, at));
        kb_store(b, sums, to, k_add(k, k_load(k, sums, to), other));
        end_rows(d);
        kb_end(b);
    }
}

void row_trees_fold(Def *d, const RowTrees *t, const KExpr *first, const KExpr *here, KBuf *raw) {
    KBuild *b = &d->b;
    KCtx *k = b->k;
    int64_t rows = row_trees_rows(t);
    KBuf *columns = make_columns(d, t, first, here);
    KBuf *sums = kb_alloc(b, MEM_STACK, DT_F32, "sums", t->n_sums * rows);
    clear(d, t, sums, t->n_sums);
    const KExpr *piece = kb_for(b, LOOP_SERIAL, "piece", k_int(k, t->n_pieces));
    KBuf *live = kb_alloc(b, MEM_REG, t->width == 32 ? DT_U32 : DT_I32, "live", rows);
    take_branches(d, t, piece, columns, live);
    find_leaves(d, t, live);
    if (t->is_dense) {
        const KExpr *n = k_int(k, t->n_targets), *to = kb_for(b, LOOP_SERIAL, "t", n);
        add_values(d, t, k_add(k, k_mul(k, piece, n), to), to, live, sums);
        kb_end(b);
    } else {
        const KExpr *to = t->to ? entry_below(d, t->to, piece, t->n_sums) : k_int(k, 0);
        add_values(d, t, piece, to, live, sums);
    }
    kb_end(b);
    if (t->by_lanes) fold_sums(d, t, sums);
    const KExpr *row = kb_for(b, LOOP_SERIAL, "row", here), *n = k_int(k, t->n_targets);
    const KExpr *to = kb_for(b, LOOP_SERIAL, "t", n);
    const KExpr *sum = k_load(k, sums, k_add(k, k_mul(k, to, k_int(k, rows)), row));
    kb_store(b, raw, k_add(k, k_mul(k, k_add(k, first, row), n), to), sum);
    kb_end(b);
    kb_end(b);
}
