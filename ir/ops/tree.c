/* TreeEnsembleRegressor and TreeEnsembleClassifier (ai.onnx.ml): walks through constant node
 * tables.
 *
 * A program walks every tree for every row and folds the leaves' weights into raw[row, target];
 * maps after it add base values, apply the post transform and choose labels.
 *
 *   node = root[t]
 *   while (yes[node] >= 0)
 *       node = x[row, feature[node]] <mode> threshold[node] ? yes[node] : no[node];
 *   for (w = first[node] .. first[node + 1] - 1) raw[row, target[w]] += weight[w];
 *
 * That is what becomes of few or odd trees; most go through tree_lanes.c and tree_rows.c.
 *
 * Thresholds and sums are f32, or f64 when x or a table is; other features are converted. A NaN
 * takes the true branch where missing_value_tracks_true says so, else what the comparison gives.
 * Two classes with all weights on one of them follow onnxruntime: the label is the second when that
 * score s is above 0.5 (no weight negative) or 0; on class 0, scores are (1 - s, s) or (-s, s).
 * Otherwise the label is that of the first largest score, among the classes that a leaf scored or
 * that have base values. */
#include <math.h>
#include <string.h>

#include "ir/ops/tree_lanes.h"
#include "ir/ops/tree_rows.h"

typedef enum { AGG_SUM, AGG_AVERAGE, AGG_MIN, AGG_MAX } Aggregate;

/* Tables as tensors, and the program's outputs. */
typedef struct Walk {
    Def *d;
    const Ensemble *e;
    DType t; /* of thresholds and sums */
    KTensor *feature, *mode, *yes, *no, *missing, *threshold, *root, *first, *target, *weight;
    KTensor *raw, *has; /* has[row, target]: a weight was seen; NULL when nobody asks */
    int64_t n_targets;
} Walk;

static const KExpr *entry(const Walk *w, KTensor *table, const KExpr *i) {
    return def_at(w->d, table, &i, 1);
}

static const KExpr *index_entry(const Walk *w, KTensor *table, const KExpr *i) {
    return k_cast(w->d->k, DT_I64, entry(w, table, i));
}

const KExpr *tree_compare(KCtx *k, TreeMode mode, const KExpr *x, const KExpr *to) {
    switch (mode) {
    case TREE_LEQ: return k_le(k, x, to);
    case TREE_LT: return k_lt(k, x, to);
    case TREE_GTE: return k_le(k, to, x);
    case TREE_GT: return k_lt(k, to, x);
    case TREE_EQ: return k_eq(k, x, to);
    case TREE_NEQ: return k_ne(k, x, to);
    case TREE_LEAF:
    case TREE_MODES: break;
    }
    BUG("not a branch");
}

/* Does x take the true branch at node? Only the modes that occur are tested. */
static const KExpr *takes_true(const Walk *w, const KExpr *node, const KExpr *x) {
    KCtx *k = w->d->k;
    const KExpr *to = kb_let(&w->d->b, "threshold", entry(w, w->threshold, node)), *result = NULL;
    uint32_t branches = w->e->modes & ~(1u << TREE_LEAF);
    const KExpr *mode =
        branches & (branches - 1) ? kb_let(&w->d->b, "mode", index_entry(w, w->mode, node)) : NULL;
    for (int i = TREE_LEQ; i < TREE_MODES; i++) {
        if (!(branches >> i & 1)) continue;
        const KExpr *here = tree_compare(k, (TreeMode)i, x, to);
        result = result ? k_select(k, k_eq(k, mode, k_int(k, i)), here, result) : here;
    }
    if (!w->e->any_missing) return result;
    const KExpr *tracks = k_ne(k, index_entry(w, w->missing, node), k_int(k, 0));
    return k_or(k, result, k_and(k, k_ne(k, x, x), tracks));
}

/* The leaf that the row reaches from `node`. */
static const KExpr *walk_tree(const Walk *w, const KExpr *row, const KExpr *root) {
    KBuild *b = &w->d->b;
    KCtx *k = b->k;
    const KExpr *zero = k_int(k, 0);
    KTensor *x = def_in(w->d, 0);
    KBuf *at = kb_alloc(b, MEM_REG, DT_I64, "node", 1);
    kb_store(b, at, zero, root);
    if (w->e->modes & ~(1u << TREE_LEAF)) {
        kb_while(b, k_le(k, zero, index_entry(w, w->yes, k_load(k, at, zero))));
        const KExpr *node = kb_let(b, "node", k_load(k, at, zero));
        const KExpr *place[2] = {row, index_entry(w, w->feature, node)};
        const KExpr *value = kb_let(b, "x", def_at_as(w->d, w->t, x, place, 2));
        const KExpr *yes = index_entry(w, w->yes, node), *no = index_entry(w, w->no, node);
        kb_store(b, at, zero, k_select(k, takes_true(w, node, value), yes, no));
        kb_end(b);
    }
    return kb_let(b, "leaf", k_load(k, at, zero));
}

static void fold_weights(const Walk *w, Aggregate how, const KExpr *row, const KExpr *leaf) {
    KBuild *b = &w->d->b;
    KCtx *k = b->k;
    const KExpr *first = kb_let(b, "first", index_entry(w, w->first, leaf));
    const KExpr *end = index_entry(w, w->first, k_add(k, leaf, k_int(k, 1)));
    const KExpr *i = k_add(k, first, kb_for(b, LOOP_SERIAL, "w", k_sub(k, end, first)));
    const KExpr *to = k_add(k, k_mul(k, row, k_int(k, w->n_targets)), index_entry(w, w->target, i));
    to = kb_let(b, "to", to);
    const KExpr *old = k_load(k, w->raw->buf, to),
                *weight = kb_let(b, "weight", entry(w, w->weight, i));
    const KExpr *value = k_add(k, old, weight);
    if (how == AGG_MIN || how == AGG_MAX) {
        value = how == AGG_MIN ? k_min(k, weight, old) : k_max(k, weight, old);
        value = k_select(k, k_load(k, w->has->buf, to), value, weight);
    }
    kb_store(b, w->raw->buf, to, value);
    if (w->has) kb_store(b, w->has->buf, to, k_bool(k, true));
    kb_end(b);
}

/* raw[row, ...] += what the leaves of a group's trees have, tree by tree. */
static void fold_leaves(const Walk *w, const LaneTrees *lanes, Aggregate how, const KExpr *row,
                        const KExpr *first, KBuf *node) {
    KBuild *b = &w->d->b;
    KCtx *k = b->k;
    const KExpr *n = k_int(k, lane_trees_lanes(lanes));
    n = k_min(k, n, k_sub(k, k_int(k, w->e->n_trees), first));
    KBuf *leaves = lane_trees_leaves(w->d, lanes, node);
    const KExpr *tree = kb_for(b, LOOP_SERIAL, "tree", n), *targets = k_int(k, w->n_targets);
    const KExpr *to = k_mul(k, row, targets), *leaf = k_load(k, leaves, tree), *value = leaf;
    if (!lanes->value || lanes->is_dense) leaf = kb_let(b, "leaf", k_cast(k, DT_I64, leaf));
    if (!lanes->value) {
        fold_weights(w, how, row, kb_let(b, "node", index_entry(w, lanes->old, leaf)));
        kb_end(b);
        return;
    }
    if (lanes->is_dense) {
        const KExpr *t = kb_for(b, LOOP_VECTOR, "t", targets);
        to = k_add(k, to, t);
        value = entry(w, lanes->value, k_add(k, k_mul(k, leaf, targets), t));
    } else if (lanes->target) {
        to = k_add(k, to, index_entry(w, lanes->target, k_add(k, first, tree)));
    }
    kb_store(b, w->raw->buf, to, k_add(k, k_load(k, w->raw->buf, to), value));
    if (lanes->is_dense) kb_end(b);
    kb_end(b);
}

/* All trees of a row, groups of them in lockstep. */
static void fold_lanes(const Walk *w, const LaneTrees *lanes, Aggregate how, bool by_lanes,
                       const KExpr *row) {
    KBuild *b = &w->d->b;
    KCtx *k = b->k;
    KBuf *features = lane_trees_row(w->d, lanes, row);
    KBuf *sums = by_lanes ? lane_trees_sums(w->d) : NULL;
    const KExpr *group = kb_for(b, LOOP_SERIAL, "group", k_int(k, lanes->n_groups));
    const KExpr *first = k_mul(k, group, k_int(k, lane_trees_lanes(lanes)));
    KBuf *node = lane_trees_walk(w->d, lanes, row, features, group);
    if (sums)
        lane_trees_add(w->d, lanes, node, sums);
    else
        fold_leaves(w, lanes, how, row, first, node);
    kb_end(b);
    if (sums) kb_store(b, w->raw->buf, row, lane_trees_total(w->d, sums));
}

static void make_tables(Walk *w) {
    Def *d = w->d;
    const Ensemble *e = w->e;
    int64_t n = e->n_nodes, n_weights = e->n_weights ? e->n_weights : 1;
    w->feature = def_table_ints(d, "features", DT_I32, e->feature, n);
    w->mode = def_table_ints(d, "modes", DT_U8, e->mode, n);
    w->yes = def_table_ints(d, "yes", DT_I32, e->yes, n);
    w->no = def_table_ints(d, "no", DT_I32, e->no, n);
    w->missing = def_table_ints(d, "missing", DT_U8, e->missing, n);
    w->threshold = def_table_floats(d, "thresholds", w->t, e->threshold, n);
    w->root = def_table_ints(d, "roots", DT_I32, e->root, e->n_trees);
    w->first = def_table_ints(d, "first", DT_I32, e->first, n + 1);
    w->target = def_table_ints(d, "targets", DT_I32, e->target, n_weights);
    w->weight = def_table_floats(d, "weights", w->t, e->weight, n_weights);
}

/* How rows go through the trees. */
typedef struct Ways {
    LaneTrees lanes;
    RowTrees rows;
    bool has_lanes, has_rows;
    /* One sum of a single value from each tree, on whose last bit no label hangs. */
    bool by_lanes;
} Ways;

/* What the rows' last bits depend on is the same on both ways. */
static void choose_ways(const Walk *w, bool is_class, const KExpr *n_rows, bool plain_sum,
                        Ways *ways) {
    enum { LEVEL = 6 }; /* cycles of a single walk, of which several rows' run at once */
    const Ensemble *e = w->e;
    int64_t n_targets = plain_sum ? w->n_targets : 0, rows = -1, cycles = LEVEL;
    ways->has_lanes = lane_trees_make(w->d, e, w->t, n_targets, &ways->lanes);
    ways->by_lanes =
        ways->has_lanes && ways->lanes.value && w->n_targets == 1 && !is_class && w->t == DT_F32;
    for (int n = e->n_nodes / e->n_trees; n > 2; n /= 2) cycles += LEVEL;
    cycles = ways->has_lanes ? lane_trees_cycles(&ways->lanes) : cycles * e->n_trees;
    k_is_int(n_rows, &rows);
    ways->has_rows = plain_sum && row_trees_make(w->d, e, w->n_targets, ways->by_lanes, rows,
                                                 cycles, &ways->rows);
}

/* raw[row, ...] (and has) of one row. */
static void fold_row(const Walk *w, const Ways *ways, Aggregate how, const KExpr *row) {
    KBuild *b = &w->d->b;
    KCtx *k = b->k;
    const KExpr *targets = k_int(k, w->n_targets);
    const KExpr *to = k_add(k, k_mul(k, row, targets), kb_for(b, LOOP_SERIAL, "t", targets));
    kb_store(b, w->raw->buf, to, k_const(k, w->t, 0));
    if (w->has) kb_store(b, w->has->buf, to, k_bool(k, false));
    kb_end(b);
    if (ways->has_lanes) {
        fold_lanes(w, &ways->lanes, how, ways->by_lanes, row);
        return;
    }
    const KExpr *tree = kb_for(b, LOOP_SERIAL, "tree", k_int(k, w->e->n_trees));
    fold_weights(w, how, row, walk_tree(w, row, index_entry(w, w->root, tree)));
    kb_end(b);
}

/* Blocks of rows; the few of the last one are walked one by one. */
static void fold_blocks(const Walk *w, const Ways *ways, Aggregate how, const KExpr *n_rows) {
    KBuild *b = &w->d->b;
    KCtx *k = b->k;
    int64_t block_rows = row_trees_rows(&ways->rows);
    const KExpr *rows = k_int(k, block_rows);
    const KExpr *block = kb_for(b, LOOP_PARALLEL, "block", k_ceil_div(k, n_rows, block_rows));
    const KExpr *first = k_mul(k, block, rows);
    const KExpr *here = kb_let(b, "here", k_min(k, rows, k_sub(k, n_rows, first)));
    const KExpr *is_few = k_lt(k, here, k_int(k, ways->rows.least));
    bool all_full = k_is_value(is_few, 0);
    if (!all_full) {
        kb_if(b, is_few);
        const KExpr *row = kb_for(b, LOOP_SERIAL, "row", here);
        fold_row(w, ways, how, k_add(k, first, row));
        kb_end(b);
        kb_else(b);
    }
    row_trees_fold(w->d, &ways->rows, first, here, w->raw->buf);
    if (!all_full) kb_end(b);
}

/* raw[row, target] (and has) for all rows. */
static Walk lower_walk(Def *d, const Ensemble *e, Aggregate how, int64_t n_targets, bool is_class,
                       bool want_has) {
    KCtx *k = d->k;
    KTensor *x = def_in(d, 0);
    const KExpr *dims[2] = {x->rank > 1 ? x->dims[0] : k_int(k, 1), k_int(k, n_targets)};
    Walk w = {.d = d, .e = e, .t = e->wide ? DT_F64 : DT_F32, .n_targets = n_targets};
    make_tables(&w);
    w.raw = def_temp(d, "raw", w.t, 2, dims);
    if (want_has || how == AGG_MIN || how == AGG_MAX) w.has = def_temp(d, "has", DT_BOOL, 2, dims);
    KTensor *outs[2] = {w.raw, w.has};
    Stage *s = def_program(d, outs, w.has ? 2 : 1);
    Ways ways;
    choose_ways(&w, is_class, dims[0], !w.has, &ways);
    if (ways.has_rows)
        fold_blocks(&w, &ways, how, dims[0]);
    else
        fold_row(&w, &ways, how, kb_for(&d->b, LOOP_PARALLEL, "row", dims[0]));
    kb_end(&d->b);
    def_end_program(d, s);
    return w;
}

/* The base value of the element's column. */
static const KExpr *base_value(Def *d, const Ensemble *e, DType t, const KExpr *column) {
    if (e->n_base == 1) return k_const(d->k, t, e->base[0]);
    return def_at(d, def_table_floats(d, "base", t, e->base, e->n_base), &column, 1);
}

/* scores = raw (/ trees) + base */
static KTensor *lower_with_base(Def *d, const Walk *w, Aggregate how) {
    KCtx *k = d->k;
    const Ensemble *e = w->e;
    if (!e->n_base && how != AGG_AVERAGE) return w->raw;
    KTensor *scores = def_temp(d, "scores", w->t, 2, w->raw->dims);
    Stage *s = def_begin(d, FORM_MAP, scores);
    const KExpr *value = lower_elem(d, s, w->raw, w->t);
    if (how == AGG_AVERAGE) value = k_div(k, value, k_const(k, w->t, e->n_trees));
    if (e->n_base) value = k_add(k, value, base_value(d, e, w->t, def_axis(d, s, 1)));
    def_map(d, s, value);
    return scores;
}

/* ---- regressor ------------------------------------------------------------------------------- */

static bool read_aggregate(Module *m, const Node *n, Aggregate *how) {
    static const char *const names[] = {"SUM", "AVERAGE", "MIN", "MAX"};
    const char *found = attr_string(n, "aggregate_function", "SUM");
    for (int i = 0; i < 4; i++) {
        *how = (Aggregate)i;
        if (!strcmp(found, names[i])) return true;
    }
    diag_error(m->diag, n->loc,
               "aggregate_function is '%s'; SUM, AVERAGE, MIN and MAX are accepted", found);
    return false;
}

static bool check_base(Module *m, const Node *n, const Ensemble *e, int64_t want) {
    if (!e->n_base || e->n_base == want) return true;
    diag_error(m->diag, n->loc, "base_values has %d values, must have %lld", e->n_base,
               (long long)want);
    return false;
}

bool tree_ensemble_regressor_infer(Module *m, Node *n) {
    const KExpr *rows, *columns;
    PostTransform post;
    Aggregate how;
    Ensemble e;
    int64_t n_targets = attr_int(n, "n_targets", 1);
    return ml_features(m, n, &rows, &columns) &&
           check_attr_int(m, n, "n_targets", n_targets, 1, 1 << 24) &&
           ml_post_transform(m, n, &post) && read_aggregate(m, n, &how) &&
           ensemble_read(m, n, "target", n_targets, &e) && check_base(m, n, &e, n_targets) &&
           infer_set(m, n, 0, DT_F32, ml_shape(m, rows, n_targets));
}

void tree_ensemble_regressor_lower(Def *d, const Node *n) {
    PostTransform post;
    Aggregate how;
    Ensemble e;
    int64_t n_targets = attr_int(n, "n_targets", 1);
    BUG_IF(!ml_post_transform(d->m, n, &post) || !read_aggregate(d->m, n, &how) ||
               !ensemble_read(d->m, n, "target", n_targets, &e),
           "the ensemble passed infer");
    Walk w = lower_walk(d, &e, how, n_targets, false, false);
    ml_lower_post(d, post, lower_with_base(d, &w, how), def_out(d, 0));
}

/* ---- version 5 ------------------------------------------------------------------------------- */

static bool read_numbers(Module *m, const Node *n, PostTransform *post, Aggregate *how) {
    static const Aggregate order[] = {AGG_AVERAGE, AGG_SUM, AGG_MIN, AGG_MAX};
    int64_t aggregate = attr_int(n, "aggregate_function", 1);
    int64_t transform = attr_int(n, "post_transform", 0);
    if (!check_attr_int(m, n, "aggregate_function", aggregate, 0, 3) ||
        !check_attr_int(m, n, "post_transform", transform, 0, POST_PROBIT))
        return false;
    *how = order[aggregate];
    *post = (PostTransform)transform;
    return true;
}

bool tree_ensemble_infer(Module *m, Node *n) {
    const KExpr *rows, *columns;
    PostTransform post;
    Aggregate how;
    Ensemble e;
    int64_t n_targets = attr_int(n, "n_targets", 1);
    if (!check_dtype(m, n, 0, DTM_FLOATS) || !ml_features(m, n, &rows, &columns)) return false;
    return check_attr_int(m, n, "n_targets", n_targets, 1, 1 << 24) &&
           read_numbers(m, n, &post, &how) && ensemble_read_5(m, n, n_targets, &e) &&
           infer_set(m, n, 0, n->in[0]->dtype, ml_shape(m, rows, n_targets));
}

void tree_ensemble_lower(Def *d, const Node *n) {
    PostTransform post;
    Aggregate how;
    Ensemble e;
    int64_t n_targets = attr_int(n, "n_targets", 1);
    bool good = read_numbers(d->m, n, &post, &how) && ensemble_read_5(d->m, n, n_targets, &e);
    BUG_IF(!good, "the ensemble passed infer");
    Walk w = lower_walk(d, &e, how, n_targets, false, false);
    ml_lower_post(d, post, lower_with_base(d, &w, how), def_out(d, 0));
}

/* ---- classifier ------------------------------------------------------------------------------ */

/* Two classes whose weights are all on one of them: that class, whose score decides; else -1. */
static int scored_class(const Ensemble *e, int n_labels) {
    if (n_labels != 2 || !e->n_weights) return -1;
    for (int i = 1; i < e->n_weights; i++)
        if (e->target[i] != e->target[0]) return -1;
    return (int)e->target[0];
}

bool tree_ensemble_classifier_infer(Module *m, Node *n) {
    const KExpr *rows, *columns;
    const int64_t *labels;
    PostTransform post;
    Ensemble e;
    if (!ml_features(m, n, &rows, &columns) || !ml_post_transform(m, n, &post)) return false;
    int n_labels = ml_labels(m, n, "classlabels_int64s", &labels);
    if (n_labels < 0 || !ensemble_read(m, n, "class", n_labels, &e)) return false;
    int only = scored_class(&e, n_labels);
    if (n_labels == 1 || (only == 0 && post == POST_PROBIT) || (only == 1 && e.n_base)) {
        diag_unsupported(m->diag, n->loc, "%s is not supported",
                         n_labels == 1 ? "a single class"
                         : only == 0   ? "PROBIT of a single score"
                                       : "a base value with all weights on class 1");
        return false;
    }
    if (!check_base(m, n, &e, only == 0 ? 1 : n_labels)) return false;
    Shape label_shape = shape_make(m->arena, 1);
    label_shape.dims[0] = rows;
    return infer_set(m, n, 0, DT_I64, label_shape) &&
           infer_set(m, n, 1, DT_F32, ml_shape(m, rows, n_labels));
}

/* Marks the classes that each leaf of a tree has a weight for; false where it has too many nodes,
 * since some have several parents. */
static bool mark_scored(const Ensemble *e, int64_t root, int64_t *queue, int *count, bool *scored,
                        int n_labels) {
    int n_queued = 1, n_leaves = 0;
    queue[0] = root;
    memset(count, 0, sizeof *count * (size_t)n_labels);
    for (int i = 0; i < n_queued; i++) {
        int64_t node = queue[i], last = -1;
        if (e->yes[node] >= 0) {
            if (n_queued + 2 > e->n_nodes) return false;
            queue[n_queued++] = e->yes[node];
            queue[n_queued++] = e->no[node];
            continue;
        }
        n_leaves++;
        for (int64_t w = e->first[node]; w < e->first[node + 1]; w++) {
            if (e->target[w] > last) count[last = e->target[w]]++; /* each once, if in order */
        }
    }
    for (int c = 0; c < n_labels; c++) scored[c] |= count[c] == n_leaves;
    return true;
}

/* Whether each class has a tree whose leaves all score it, so that any row scores all classes. */
static bool scores_all(Module *m, const Ensemble *e, int n_labels) {
    int64_t *queue = arena_array(m->scratch, int64_t, e->n_nodes + 1);
    int *count = arena_array(m->scratch, int, n_labels);
    bool *scored = arena_array(m->scratch, bool, n_labels), all = true;
    for (int t = 0; t < e->n_trees; t++)
        if (!mark_scored(e, e->root[t], queue, count, scored, n_labels)) return false;
    for (int c = 0; c < n_labels; c++) all &= scored[c];
    return all;
}

static bool all_positive(const Ensemble *e) {
    for (int i = 0; i < e->n_weights; i++)
        if (e->weight[i] < 0) return false;
    return true;
}

/* The second label where the score in this column is above the border. */
static void lower_border(Def *d, const Walk *w, KTensor *scores, int column,
                         const int64_t *labels) {
    KCtx *k = d->k;
    Stage *s = def_begin(d, FORM_MAP, def_out(d, 0));
    const KExpr *at[2] = {def_axis(d, s, 0), k_int(k, column)};
    const KExpr *border = k_const(k, w->t, all_positive(w->e) ? 0.5 : 0);
    const KExpr *is_second = k_lt(k, border, def_at(d, scores, at, 2));
    def_map(d, s, k_select(k, is_second, k_int(k, labels[1]), k_int(k, labels[0])));
}

/* Both classes' scores from the one of class 0. */
static void lower_two_scores(Def *d, const Walk *w, PostTransform post, KTensor *scores) {
    KCtx *k = d->k;
    Stage *s = def_begin(d, FORM_MAP, def_out(d, 1));
    const KExpr *at[2] = {def_axis(d, s, 0), k_int(k, 0)}, *score = def_at(d, scores, at, 2);
    bool opposite = !all_positive(w->e) || post == POST_LOGISTIC;
    const KExpr *other = opposite ? k_neg(k, score) : k_sub(k, k_const(k, w->t, 1), score);
    score = k_select(k, k_eq(k, def_axis(d, s, 1), k_int(k, 0)), other, score);
    if (post == POST_LOGISTIC) score = k_sigmoid(k, score);
    def_map(d, s, k_cast(k, DT_F32, score));
}

/* What labels compete with: classes that no leaf scored, and no base value, stay out. */
static KTensor *lower_candidates(Def *d, const Walk *w, KTensor *scores) {
    KCtx *k = d->k;
    if (!w->has) return scores;
    KTensor *out = def_temp(d, "candidates", w->t, 2, scores->dims);
    Stage *s = def_begin(d, FORM_MAP, out);
    const KExpr *has = lower_elem(d, s, w->has, DT_BOOL);
    def_map(d, s, k_select(k, has, lower_elem(d, s, scores, w->t), k_const(k, w->t, -INFINITY)));
    return out;
}

void tree_ensemble_classifier_lower(Def *d, const Node *n) {
    PostTransform post;
    const int64_t *labels;
    Ensemble e;
    int n_labels = ml_labels(d->m, n, "classlabels_int64s", &labels);
    BUG_IF(!ml_post_transform(d->m, n, &post) || !ensemble_read(d->m, n, "class", n_labels, &e),
           "the ensemble passed infer");
    int only = scored_class(&e, n_labels);
    bool want_has = only < 0 && !e.n_base && has_out(n, 0) && !scores_all(d->m, &e, n_labels);
    Walk w = lower_walk(d, &e, AGG_SUM, only == 0 ? 1 : n_labels, true, want_has);
    KTensor *scores = lower_with_base(d, &w, AGG_SUM);
    if (has_out(n, 0) && only >= 0) lower_border(d, &w, scores, only, labels);
    if (has_out(n, 0) && only < 0)
        ml_lower_best(d, lower_candidates(d, &w, scores), labels, def_out(d, 0));
    if (!has_out(n, 1)) return;
    if (only == 0)
        lower_two_scores(d, &w, post, scores);
    else
        ml_lower_post(d, post, scores, def_out(d, 1));
}
