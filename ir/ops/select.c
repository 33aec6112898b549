/* Compress and Unique: which elements remain shows while running.
 *
 *   Compress   picked[c] = the c-th position whose condition is true; out[..., c, ...] = x at
 *              picked[c]
 *   Unique     a stable sort of the items' numbers (by digits where items are numbers, else by
 *              merging) brings equal ones together; each group is led by its first item;
 *              y[..., u, ...] = x at the leader of group u
 *
 * The number of positions or groups is a computed symbol, at most the number of items. An item of
 * Unique is an element, or with an axis a slice across it, compared element by element; NaNs are
 * equal and come last. */
#include "ir/ops/check.h"
#include "ir/ops/radix.h"
#include "ir/ops/text.h"

/* The computed symbol of an output's axis, one for each node however often it is inferred. */
static const KExpr *found_dim(Module *m, const Value *v, int rank, int axis, const char *name,
                              const KExpr *bound) {
    if (k_is_value(bound, 0)) return bound;
    return module_computed_dim(m, v && v->shape.rank == rank ? v->shape.dims[axis] : NULL, name,
                               bound);
}

/* With an axis the dims of x, that one replaced by dim; else dim alone. */
static Shape picked_shape(Module *m, Shape x, bool has_axis, int axis, const KExpr *dim) {
    Shape out = has_axis ? shape_copy(m->arena, x) : shape_make(m->arena, 1);
    out.dims[has_axis ? axis : 0] = dim;
    return out;
}

/* out = the items of x that `at` lists. */
static void gather_items(Def *d, KTensor *x, KTensor *at, KTensor *out, bool has_axis, int axis) {
    const KExpr *from[MAX_RANK];
    Stage *s = def_begin(d, FORM_MAP, out);
    lower_axes(d, s, from);
    const KExpr **place = &from[has_axis ? axis : 0];
    *place = k_at(d->k, at, place, 1);
    const KExpr *flat = from[0];
    if (has_axis)
        def_map(d, s, def_at_if(d, x, from, x->rank, lower_inside(d, *place, x->dims[axis])));
    else if (x->rank == 1)
        def_map(d, s, def_at_if(d, x, from, 1, lower_inside(d, flat, x->dims[0])));
    else {
        def_unflatten(d->k, flat, x->dims, x->rank, from);
        def_map(d, s,
                def_at_if(d, x, from, x->rank, lower_inside(d, flat, tensor_n_elems(d->k, x))));
    }
}

static bool item_axis(Module *m, const Node *n, bool *has_axis, int *axis) {
    *has_axis = node_attr(n, "axis") != NULL;
    *axis = 0;
    return !*has_axis || infer_axis(m, n, attr_int(n, "axis", 0), n->in[0]->shape.rank, axis);
}

static const KExpr *item_count(KCtx *k, Shape x, bool has_axis, int axis) {
    return has_axis ? x.dims[axis] : shape_count(k, x);
}

/* ---- Compress -------------------------------------------------------------------------------- */

bool compress_infer(Module *m, Node *n) {
    bool has_axis;
    int axis;
    if (!infer_dtype(m, n, 0, CLASS_ANY) || !infer_dtype(m, n, 1, CLASS_BOOL) ||
        !infer_rank(m, n, 1, 1, 1) || !item_axis(m, n, &has_axis, &axis))
        return false;
    Shape x = n->in[0]->shape;
    int rank = has_axis ? x.rank : 1;
    const KExpr *bound = k_min(m->k, item_count(m->k, x, has_axis, axis), n->in[1]->shape.dims[0]);
    const KExpr *dim = found_dim(m, n->out[0], rank, axis, "picked", bound);
    return infer_set(m, n, 0, n->in[0]->dtype, picked_shape(m, x, has_axis, axis, dim));
}

void compress_lower(Def *d, const Node *n) {
    KCtx *k = d->k;
    KBuild *b = &d->b;
    bool has_axis;
    int axis;
    item_axis(d->m, n, &has_axis, &axis);
    KTensor *x = def_in(d, 0), *condition = def_in(d, 1), *out = def_out(d, 0);
    const KExpr *dim = out->dims[axis], *zero = k_int(k, 0);
    if (k_is_value(dim, 0)) {
        lower_fill(d, out, k_const(k, out->dtype, 0));
        return;
    }
    const KExpr *most =
        k_min(k, item_count(k, (Shape){x->rank, x->dims}, has_axis, axis), condition->dims[0]);
    KTensor *picked = def_temp(d, "picked", DT_I64, 1, &dim);
    Stage *s = def_program(d, &picked, 1);
    KBuf *count = kb_alloc(b, MEM_REG, DT_I64, "count", 1);
    kb_store(b, count, zero, zero);
    const KExpr *i = kb_for(b, LOOP_SERIAL, "i", most);
    kb_if(b, k_at(k, condition, &i, 1));
    const KExpr *c = kb_let(b, "c", k_load(k, count, zero));
    kb_store(b, picked->buf, c, i);
    kb_store(b, count, zero, k_add(k, c, k_int(k, 1)));
    kb_end(b);
    kb_end(b);
    def_store_size(d, s, dim->u.var, k_load(k, count, zero));
    def_end_program(d, s);
    gather_items(d, x, picked, out, has_axis, axis);
}

/* ---- Unique ---------------------------------------------------------------------------------- */

bool unique_infer(Module *m, Node *n) {
    bool has_axis;
    int axis;
    if (!infer_dtype(m, n, 0, CLASS_ANY) || !item_axis(m, n, &has_axis, &axis)) return false;
    Shape x = n->in[0]->shape, list = shape_make(m->arena, 1), all = shape_make(m->arena, 1);
    int rank = has_axis ? x.rank : 1;
    const KExpr *bound = item_count(m->k, x, has_axis, axis), *dim = NULL;
    for (int i = 3; i >= 0; i--) { /* the output that is there has the symbol */
        if (i == 2 || !has_out(n, i)) continue;
        dim = found_dim(m, n->out[i], i ? 1 : rank, i ? 0 : axis, "unique", bound);
        break;
    }
    if (!dim) dim = found_dim(m, NULL, 1, 0, "unique", bound);
    list.dims[0] = dim;
    all.dims[0] = bound;
    return infer_set(m, n, 0, n->in[0]->dtype, picked_shape(m, x, has_axis, axis, dim)) &&
           infer_set(m, n, 1, DT_I64, list) && infer_set(m, n, 2, DT_I64, all) &&
           infer_set(m, n, 3, DT_I64, list);
}

typedef struct Items {
    Def *d;
    KTensor *x;
    const KExpr *n, *size, *inner; /* items, elements of one, elements behind the axis */
    KBuf *order, *other;           /* numbers of items: being sorted, and room for merging */
    KBuf *place, *verdict;         /* registers of compare() */
    KBuf *keys;                    /* of the items, or NULL: compare() decides */
} Items;

static const KExpr *item_element(const Items *it, const KExpr *item, const KExpr *t) {
    KCtx *k = it->d->k;
    const KExpr *block = k_mul(k, k_mul(k, k_fdiv(k, t, it->inner), it->n), it->inner);
    const KExpr *at = k_add(k, k_mul(k, item, it->inner), k_fmod(k, t, it->inner));
    return lower_at_flat(it->d, it->x, k_add(k, block, at));
}

/* 0 when items a and b are equal, 1 when a comes first, 2 when b does. */
static const KExpr *compare(const Items *it, const KExpr *a, const KExpr *b_item) {
    KBuild *b = &it->d->b;
    KCtx *k = b->k;
    const KExpr *zero = k_int(k, 0), *t = k_load(k, it->place, zero),
                *verdict = k_load(k, it->verdict, zero);
    kb_store(b, it->place, zero, zero);
    kb_store(b, it->verdict, zero, zero);
    kb_while(b, k_and(k, k_eq(k, verdict, zero), k_lt(k, t, it->size)));
    const KExpr *here = kb_let(b, "here", t);
    const KExpr *x = kb_let(b, "x", item_element(it, a, here));
    const KExpr *y = kb_let(b, "y", item_element(it, b_item, here));
    if (x->dtype == DT_BOOL) {
        x = k_cast(k, DT_I32, x);
        y = k_cast(k, DT_I32, y);
    }
    bool is_text = x->dtype == DT_STR;
    const KExpr *order = is_text ? text_compare(b, x, y) : NULL;
    const KExpr *less = is_text ? k_lt(k, order, zero) : k_lt(k, x, y);
    const KExpr *greater = is_text ? k_lt(k, zero, order) : k_lt(k, y, x);
    if (dtype_is_float(x->dtype)) {
        const KExpr *x_nan = k_ne(k, x, x), *y_nan = k_ne(k, y, y);
        less = k_or(k, less, k_and(k, y_nan, k_not(k, x_nan)));
        greater = k_or(k, greater, k_and(k, x_nan, k_not(k, y_nan)));
    }
    kb_store(b, it->verdict, zero,
             k_select(k, less, k_int(k, 1), k_select(k, greater, k_int(k, 2), zero)));
    kb_store(b, it->place, zero, k_add(k, here, k_int(k, 1)));
    kb_end(b);
    return kb_let(b, "verdict", verdict);
}

/* Merges order[start .. middle-1] and order[middle .. end-1] into other. */
static void merge_runs(const Items *it, KBuf *at, const KExpr *start, const KExpr *middle,
                       const KExpr *end) {
    KBuild *b = &it->d->b;
    KCtx *k = b->k;
    const KExpr *one = k_int(k, 1), *zero = k_int(k, 0);
    kb_store(b, at, zero, start);
    kb_store(b, at, one, middle);
    const KExpr *o = k_add(k, start, kb_for(b, LOOP_SERIAL, "o", k_sub(k, end, start)));
    const KExpr *i = kb_let(b, "left", k_load(k, at, zero));
    const KExpr *j = kb_let(b, "right", k_load(k, at, one));
    const KExpr *last = k_sub(k, it->n, one);
    const KExpr *a = kb_let(b, "a", k_load(k, it->order, k_min(k, i, last)));
    const KExpr *c = kb_let(b, "c", k_load(k, it->order, k_min(k, j, last)));
    const KExpr *first = k_ne(k, compare(it, a, c), k_int(k, 2));
    first = k_and(k, k_lt(k, i, middle), k_or(k, k_le(k, end, j), first));
    first = kb_let(b, "first", first);
    kb_store(b, it->other, o, k_select(k, first, a, c));
    kb_store(b, at, zero, k_select(k, first, k_add(k, i, one), i));
    kb_store(b, at, one, k_select(k, first, j, k_add(k, j, one)));
    kb_end(b);
}

static void sort_items(const Items *it) {
    KBuild *b = &it->d->b;
    KCtx *k = b->k;
    const KExpr *one = k_int(k, 1), *zero = k_int(k, 0), *two = k_int(k, 2);
    const KExpr *i = kb_for(b, LOOP_SERIAL, "i", it->n);
    kb_store(b, it->order, i, i);
    kb_end(b);
    KBuf *width = kb_alloc(b, MEM_REG, DT_I64, "width", 1),
         *at = kb_alloc(b, MEM_REG, DT_I64, "at", 2);
    kb_store(b, width, zero, one);
    kb_while(b, k_lt(k, k_load(k, width, zero), it->n));
    const KExpr *w = kb_let(b, "w", k_load(k, width, zero)), *step = k_mul(k, w, two);
    const KExpr *runs = k_fdiv(k, k_add(k, it->n, k_sub(k, step, one)), step);
    const KExpr *start = k_mul(k, kb_for(b, LOOP_SERIAL, "run", runs), step);
    const KExpr *middle = k_min(k, k_add(k, start, w), it->n);
    merge_runs(it, at, start, middle, k_min(k, k_add(k, start, step), it->n));
    kb_end(b);
    i = kb_for(b, LOOP_SERIAL, "i", it->n);
    kb_store(b, it->order, i, k_load(k, it->other, i));
    kb_end(b);
    kb_store(b, width, zero, step);
    kb_end(b);
}

/* Are items numbers, and few enough for the sort by digits? */
static bool sorts_digits(const Items *it) {
    return k_is_value(it->size, 1) && it->x->dtype != DT_STR && it->n->hi < INT32_MAX / 2;
}

/* order := the items' numbers by their keys, in `items` of 2 n places */
static void sort_by_digits(const Items *it, KBuf *items) {
    KBuild *b = &it->d->b;
    KCtx *k = b->k;
    const KExpr *zero = k_int(k, 0);
    Radix r = {b, it->keys, items, zero, zero, it->n, 8, radix_counts(b)};
    const KExpr *i = kb_for(b, LOOP_SERIAL, "i", it->n);
    kb_store(b, it->keys, i, radix_key(k, item_element(it, i, zero), false));
    kb_store(b, items, i, k_cast(k, DT_I32, i));
    kb_end(b);
    const KExpr *from = radix_sort(&r, it->n);
    i = kb_for(b, LOOP_SERIAL, "i", it->n);
    kb_store(b, it->order, i, k_cast(k, DT_I64, k_load(k, items, k_add(k, from, i))));
    kb_end(b);
}

/* Is item a another one than b? */
static const KExpr *differ(const Items *it, const KExpr *a, const KExpr *b) {
    KCtx *k = it->d->k;
    if (!it->keys) return k_ne(k, compare(it, a, b), k_int(k, 0));
    return kb_let(&it->d->b, "differs", k_ne(k, k_load(k, it->keys, a), k_load(k, it->keys, b)));
}

/* The first item of each group, how many it has, and the group of each item. */
typedef struct Groups {
    KBuf *leader, *count, *group;
    KBuf *total; /* register */
} Groups;

/* Opens a group led by item. */
static void open_group(const Groups *g, KBuild *b, const KExpr *item) {
    KCtx *k = b->k;
    const KExpr *zero = k_int(k, 0), *at = kb_let(b, "new", k_load(k, g->total, zero));
    kb_store(b, g->leader, at, item);
    kb_store(b, g->count, at, zero);
    kb_store(b, g->total, zero, k_add(k, at, k_int(k, 1)));
}

static void join_group(const Groups *g, KBuild *b, const KExpr *item, const KExpr *group) {
    KCtx *k = b->k;
    group = kb_let(b, "group", group);
    kb_store(b, g->group, item, group);
    kb_store(b, g->count, group, k_add(k, k_load(k, g->count, group), k_int(k, 1)));
}

/* Groups in the order of their values: the runs of equal items. Else other[item] = its leader. */
static void walk_sorted(const Items *it, const Groups *g, bool sorted) {
    KBuild *b = &it->d->b;
    KCtx *k = b->k;
    const KExpr *one = k_int(k, 1), *zero = k_int(k, 0);
    KBuf *leader = kb_alloc(b, MEM_REG, DT_I64, "leader", 1);
    const KExpr *p = kb_for(b, LOOP_SERIAL, "p", it->n);
    const KExpr *item = kb_let(b, "item", k_load(k, it->order, p));
    const KExpr *before = k_load(k, it->order, k_max(k, k_sub(k, p, one), zero));
    before = kb_let(b, "before", before);
    const KExpr *differs = differ(it, before, item);
    kb_if(b, k_or(k, k_eq(k, p, zero), differs));
    kb_store(b, leader, zero, item);
    if (sorted) open_group(g, b, item);
    kb_end(b);
    if (sorted)
        join_group(g, b, item, k_sub(k, k_load(k, g->total, zero), one));
    else
        kb_store(b, it->other, item, k_load(k, leader, zero));
    kb_end(b);
}

/* Groups in the order of their leaders. */
static void walk_in_order(const Items *it, const Groups *g) {
    KBuild *b = &it->d->b;
    KCtx *k = b->k;
    const KExpr *i = kb_for(b, LOOP_SERIAL, "i", it->n);
    const KExpr *leader = kb_let(b, "leader", k_load(k, it->other, i));
    kb_if(b, k_eq(k, leader, i));
    kb_store(b, it->order, i, k_load(k, g->total, k_int(k, 0)));
    open_group(g, b, i);
    kb_end(b);
    join_group(g, b, i, k_load(k, it->order, leader));
    kb_end(b);
}

static KTensor *list_of(Def *d, int i, const char *name, const KExpr *dim) {
    return has_out(d->node, i) ? def_out(d, i) : def_temp(d, name, DT_I64, 1, &dim);
}

void unique_lower(Def *d, const Node *n) {
    KCtx *k = d->k;
    KBuild *b = &d->b;
    bool has_axis, sorted = attr_int(n, "sorted", 1) != 0;
    int axis;
    item_axis(d->m, n, &has_axis, &axis);
    KTensor *x = def_in(d, 0), *y = has_out(n, 0) ? def_out(d, 0) : NULL;
    const KExpr *zero = k_int(k, 0), *one = k_int(k, 1);
    Items it = {.d = d, .x = x, .inner = one, .size = one};
    it.n = item_count(k, (Shape){x->rank, x->dims}, has_axis, axis);
    for (int i = 0; has_axis && i < x->rank; i++) {
        if (i != axis) it.size = k_mul(k, it.size, x->dims[i]);
        if (i > axis) it.inner = k_mul(k, it.inner, x->dims[i]);
    }
    const KExpr *dim = y               ? y->dims[axis]
                       : has_out(n, 1) ? def_out(d, 1)->dims[0]
                       : has_out(n, 3) ? def_out(d, 3)->dims[0]
                                       : it.n;
    KTensor *outs[7] = {list_of(d, 1, "leaders", dim), list_of(d, 2, "groups", it.n),
                        list_of(d, 3, "counts", dim), def_temp(d, "order", DT_I64, 1, &it.n),
                        def_temp(d, "other", DT_I64, 1, &it.n)};
    bool by_digits = sorts_digits(&it);
    if (by_digits) {
        const KExpr *dims[] = {it.n, k_int(k, 2)};
        outs[5] = def_temp(d, "keys", radix_dtype(x->dtype), 1, dims);
        outs[6] = def_temp(d, "items", DT_I32, 2, dims);
        it.keys = outs[5]->buf;
    }
    Stage *s = def_program(d, outs, by_digits ? 7 : 5);
    it.order = outs[3]->buf;
    it.other = outs[4]->buf;
    it.place = kb_alloc(b, MEM_REG, DT_I64, "place", 1);
    it.verdict = kb_alloc(b, MEM_REG, DT_I64, "verdict", 1);
    Groups g = {outs[0]->buf, outs[2]->buf, outs[1]->buf, kb_alloc(b, MEM_REG, DT_I64, "total", 1)};
    kb_store(b, g.total, zero, zero);
    if (by_digits)
        sort_by_digits(&it, outs[6]->buf);
    else
        sort_items(&it);
    walk_sorted(&it, &g, sorted);
    if (!sorted) walk_in_order(&it, &g);
    if (dim->op == KO_var && dim->u.var->computed)
        def_store_size(d, s, dim->u.var, k_load(k, g.total, zero));
    def_end_program(d, s);
    if (y) gather_items(d, x, outs[0], y, has_axis, axis);
}
