/* Sequences of a length that running finds: the three forms of list.h, and operators on them.
 *
 * Numbers of elements and places in the tensors are i64[1] values of the graph. What has to have
 * one shape is checked by a Reshape whose dims multiply to the number of elements only then. */
#include "frontend/onnx/list.h"

#include "frontend/onnx/build.h"

/* ---- making them ----------------------------------------------------------------------------- */

int list_n_tensors(ListForm form) {
    return form == LIST_STACK ? 1 : form == LIST_PARTS ? 2 : 3;
}

Compound *list_create(Import *im, DType t, List l) {
    Compound *k = compound_sequence(im, t, NULL, 0);
    k->list = arena_copy(im->arena, &l, sizeof l);
    return k;
}

Compound *list_from(Import *im, DType t, List form, Value *const *tensors) {
    Value **place[] = {&form.values, &form.sizes, &form.shapes};
    for (int i = 0; i < 3; i++) *place[i] = i < list_n_tensors(form.form) ? tensors[i] : NULL;
    form.values->dtype = t;
    return list_create(im, t, form);
}

static Value *to_scalar(Call *c, Value *v) {
    return build_reshape(c, call_cast(c, v, DT_I64), NULL, 0);
}

static Value *to_one(Call *c, Value *v) {
    return build_reshape(c, call_cast(c, v, DT_I64), (int64_t[]){1}, 1);
}

static Value *to_line(Call *c, Value *v) {
    return build_reshape(c, v, (int64_t[]){-1}, 1);
}

/* v along a new axis in front. */
static Value *as_row(Call *c, Value *v) {
    return build_unsqueeze(c, v, 0);
}

static Value *repeat(Call *c, Value *v, Value *count) {
    return call_op(c, OP_Tile, 2, v, count);
}

static Value *total(Call *c, OpId op, Value *v) {
    return build_reduce(c, op, v, (int64_t[]){0}, 1);
}

static Value *pair(Call *c, Value *a, Value *b, int64_t axis) {
    Value *y = build_concat(c, (Value *[]){a, b}, 2, axis);
    y->dtype = a->dtype;
    return y;
}

/* Axis `from` moved to `to`; the others keep their order. */
static Value *move_axis(Call *c, Value *v, int from, int to, int rank) {
    int64_t perm[MAX_RANK];
    if (from == to) return v;
    for (int i = 0, k = 0; i < rank; i++) {
        if (k == from) k++;
        perm[i] = i == to ? from : k++;
    }
    Value *y = build_transpose(c, v, perm, rank);
    y->dtype = v->dtype;
    return y;
}

Compound *list_split(Call *c, Value *x, Value *sizes, int axis) {
    List l = {.form = LIST_PARTS, .values = x, .sizes = call_cast(c, sizes, DT_I64), .axis = axis};
    return list_create(c->im, x->dtype, l);
}

Compound *list_unstack(Call *c, Value *x, int axis, bool keeps) {
    Value *values = move_axis(c, x, axis, 0, x->shape.rank);
    if (keeps) values = build_unsqueeze(c, values, axis + 1);
    values->dtype = x->dtype;
    return list_create(c->im, x->dtype, (List){.form = LIST_STACK, .values = values});
}

/* ---- what is known --------------------------------------------------------------------------- */

int list_rank(Call *c, const Compound *s) {
    const List *l = s->list;
    if (!l) return s->n_items && build_has_shape(c, s->items[0]) ? s->items[0]->shape.rank : -1;
    if (l->form != LIST_FLAT)
        return build_has_shape(c, l->values) ? l->values->shape.rank - (l->form == LIST_STACK) : -1;
    if (l->rank >= 0) return l->rank;
    return l->witness && build_has_shape(c, l->witness) ? l->witness->shape.rank : -1;
}

/* The same, or a message. */
static int known_rank(Call *c, const Compound *s) {
    int rank = list_rank(c, s);
    if (rank < 0)
        diag_unsupported(c->im->d, c->loc,
                         "the rank of the elements of a sequence whose length is found while "
                         "running does not follow from the model's inputs");
    return rank;
}

static bool have_shape(Call *c, Value *x, const Shape *s) {
    if (!build_has_shape(c, x) || x->shape.rank != s->rank) return false;
    return shape_equal(x->shape, *s);
}

/* The shape of all elements, where it is known to be one. */
static bool common_shape(Call *c, const Compound *s, Shape *shape) {
    const List *l = s->list;
    if (l && (l->form != LIST_STACK || !build_has_shape(c, l->values))) return false;
    if (l) {
        *shape = shape_make(c->im->arena, l->values->shape.rank - 1);
        for (int i = 0; i < shape->rank; i++) shape->dims[i] = l->values->shape.dims[i + 1];
        return true;
    }
    if (!s->n_items || !build_has_shape(c, s->items[0])) return false;
    *shape = s->items[0]->shape;
    for (int i = 1; i < s->n_items; i++)
        if (!have_shape(c, s->items[i], shape)) return false;
    return true;
}

/* ---- from one form to another ---------------------------------------------------------------- */

static Value *count_of(Call *c, const List *l) {
    return build_dim(c, l->form == LIST_STACK ? l->values : l->sizes, 0);
}

static List flat_element(Call *c, Value *x) {
    Value *shape = call_op(c, OP_Shape, 1, x);
    return (List){.form = LIST_FLAT,
                  .values = to_line(c, x),
                  .sizes = total(c, OP_ReduceProd, shape),
                  .shapes = shape,
                  .rank = build_has_shape(c, x) ? x->shape.rank : -1,
                  .witness = x};
}

static Value *no_elements(Call *c, DType t) {
    Shape none = shape_ints(c->m->k, (int64_t[]){0}, 1);
    return t == DT_STR ? graph_const_strings(c->g, "", none, NULL)
                       : graph_add_const(c->g, "", t, none, "", 0);
}

static List empty_list(Call *c, DType t) {
    return (List){.form = LIST_FLAT,
                  .values = no_elements(c, t),
                  .sizes = no_elements(c, DT_I64),
                  .shapes = no_elements(c, DT_I64),
                  .rank = -1};
}

static List stack_items(Call *c, const Compound *s) {
    Value **rows = arena_array(c->im->arena, Value *, s->n_items);
    for (int i = 0; i < s->n_items; i++) rows[i] = as_row(c, s->items[i]);
    return (List){.form = LIST_STACK, .values = build_concat(c, rows, s->n_items, 0)};
}

static void remember_rank(List *to, const List *from) {
    if (to->rank < 0) to->rank = from->rank;
    if (!to->witness) to->witness = from->witness;
}

/* A list has one rank. */
static void check_rank(Call *c, const Compound *s, int rank) {
    int had = list_rank(c, s);
    if (had < 0 || rank < 0 || had == rank) return;
    diag_unsupported(c->im->d, c->loc,
                     "a sequence whose length is found while running holds tensors of rank %d and "
                     "of rank %d",
                     had, rank);
}

List list_either(const List *a, const List *b) {
    List l = *a;
    remember_rank(&l, b);
    return l;
}

static List join_flat(Call *c, List a, List b) {
    List l = {.form = LIST_FLAT,
              .values = pair(c, a.values, b.values, 0),
              .sizes = pair(c, a.sizes, b.sizes, 0),
              .shapes = pair(c, a.shapes, b.shapes, 0),
              .rank = a.rank,
              .witness = a.witness};
    remember_rank(&l, &b);
    return l;
}

Compound *list_of(Call *c, Compound *s) {
    Shape shape;
    if (s->list) return s;
    if (common_shape(c, s, &shape)) return list_create(c->im, s->dtype, stack_items(c, s));
    List l = empty_list(c, s->dtype);
    for (int i = 0; i < s->n_items; i++) {
        List x = flat_element(c, s->items[i]);
        l = i ? join_flat(c, l, x) : x;
    }
    return list_create(c->im, s->dtype, l);
}

static List flat_from_stack(Call *c, const List *l) {
    Value *count = count_of(c, l), *each = call_op(c, OP_Shape, 1, l->values);
    bool is_known = build_has_shape(c, l->values);
    node_set_int(each->def, "start", 1);
    return (List){.form = LIST_FLAT,
                  .values = to_line(c, l->values),
                  .sizes = repeat(c, total(c, OP_ReduceProd, each), count),
                  .shapes = repeat(c, each, count),
                  .rank = is_known ? l->values->shape.rank - 1 : -1};
}

/* All elements of the pieces in the order of the pieces. */
static Value *flat_parts(Call *c, const Compound *s) {
    const List *l = s->list;
    Value *i;
    if (!l->axis) return to_line(c, l->values);
    Call in = list_open_loop(c, &i);
    return list_join_loop(c, &in, count_of(c, l), to_line(&in, list_at(&in, s, i)));
}

static List flat_from_parts(Call *c, const Compound *s) {
    const List *l = s->list;
    int rank = list_rank(c, s);
    Value *count = count_of(c, l), *columns[MAX_RANK], *sizes = l->sizes;
    for (int a = 0; a < rank; a++) {
        Value *dim = build_dim(c, l->values, a);
        columns[a] = build_unsqueeze(c, a == l->axis ? l->sizes : repeat(c, dim, count), 1);
        if (a != l->axis) sizes = build_mul(c, sizes, dim);
    }
    return (List){.form = LIST_FLAT,
                  .values = flat_parts(c, s),
                  .sizes = sizes,
                  .shapes = to_line(c, build_concat(c, columns, rank, 1)),
                  .rank = rank};
}

Compound *list_flat(Call *c, Compound *s) {
    s = list_of(c, s);
    if (s->list->form == LIST_FLAT) return s;
    return list_create(c->im, s->dtype,
                       s->list->form == LIST_STACK ? flat_from_stack(c, s->list)
                                                   : flat_from_parts(c, s));
}

void list_match(Call *in_a, Compound **a, Call *in_b, Compound **b) {
    Shape x, y;
    bool alike = common_shape(in_a, *a, &x) && common_shape(in_b, *b, &y) && shape_equal(x, y);
    *a = alike ? list_of(in_a, *a) : list_flat(in_a, *a);
    *b = alike ? list_of(in_b, *b) : list_flat(in_b, *b);
}

/* i64[count, rank] */
static Value *shape_table(Call *c, const List *l, int rank) {
    Value *dims = pair(c, count_of(c, l), build_one(c, rank), 0);
    return build_reshape_as(c, l->shapes, dims);
}

/* The stack that a list is whose elements turn out to have one shape. */
static List stack_of(Call *c, const Compound *s, int rank) {
    const List *l = s->list;
    Value *dims[MAX_RANK + 1], *count = count_of(c, l);
    if (l->form == LIST_STACK) return *l;
    if (l->form == LIST_FLAT) {
        Value *most = total(c, OP_ReduceMax, shape_table(c, l, rank));
        Value *each = build_reshape_as(c, most, build_one(c, rank));
        Value *values = build_reshape_as(c, l->values, pair(c, count, each, 0));
        return (List){.form = LIST_STACK, .values = values};
    }
    for (int a = 0, k = 0; k <= rank; a++, k++) {
        if (a == l->axis) dims[k++] = count;
        dims[k] = a == l->axis ? total(c, OP_ReduceMax, l->sizes) : build_dim(c, l->values, a);
    }
    Value *v = build_reshape_as(c, l->values, build_concat(c, dims, rank + 1, 0));
    return (List){.form = LIST_STACK, .values = move_axis(c, v, l->axis, 0, rank + 1)};
}

/* ---- elements -------------------------------------------------------------------------------- */

Value *list_length(Call *c, const Compound *s) {
    return build_squeeze(c, count_of(c, s->list), 0);
}

/* Position v as i64[1], counted from the front. NULL: the last. */
static Value *position(Call *c, const List *l, Value *v) {
    return build_gather(c, build_iota(c, count_of(c, l)), v ? to_one(c, v) : build_one(c, -1), 0);
}

/* The same of a place to insert at, which may be behind the last element: of -n .. n those below 0
 * count from the end. */
static Value *place(Call *c, const List *l, Value *v) {
    Value *n = count_of(c, l);
    Value *table = pair(c, build_iota(c, n), build_iota(c, build_add(c, n, build_one(c, 1))), 0);
    return build_gather(c, table, build_add(c, to_one(c, v), n), 0);
}

static Value *before(Call *c, Value *v, Value *at) {
    Value *y = build_slice_at(c, v, build_one(c, 0), at, 0);
    y->dtype = v->dtype;
    return y;
}

static Value *from_on(Call *c, Value *v, Value *at) {
    Value *y = build_slice_at(c, v, at, build_one(c, INT64_MAX), 0);
    y->dtype = v->dtype;
    return y;
}

/* Where the element at position `at` begins. */
static Value *start_of(Call *c, const List *l, Value *at) {
    return total(c, OP_ReduceSum, before(c, l->sizes, at));
}

Value *list_at(Call *c, const Compound *s, Value *v) {
    const List *l = s->list;
    if (l->form == LIST_STACK) {
        Value *y = build_gather(c, l->values, to_scalar(c, v), 0);
        y->dtype = s->dtype;
        return y;
    }
    int rank = l->form == LIST_FLAT ? known_rank(c, s) : 0;
    if (rank < 0) return NULL;
    Value *at = position(c, l, v), *from = start_of(c, l, at);
    Value *to = build_add(c, from, build_gather(c, l->sizes, at, 0));
    Value *y = build_slice_at(c, l->values, from, to, l->axis);
    y->dtype = s->dtype;
    if (l->form == LIST_PARTS || rank == 1) return y;
    Value *shape = build_gather(c, shape_table(c, l, rank), to_scalar(c, at), 0);
    return rank ? build_reshape_as(c, y, shape) : build_reshape(c, y, NULL, 0);
}

/* v with what is in `more` before position `at`, or at the end. */
static Value *insert(Call *c, Value *v, Value *more, Value *at) {
    return at ? pair(c, pair(c, before(c, v, at), more, 0), from_on(c, v, at), 0)
              : pair(c, v, more, 0);
}

Compound *list_insert(Call *c, Compound *s, Value *x, Value *v) {
    Shape shape;
    s = list_of(c, s);
    Value *at = v ? place(c, s->list, v) : NULL;
    if (common_shape(c, s, &shape) && have_shape(c, x, &shape)) {
        Value *values = insert(c, s->list->values, as_row(c, x), at);
        return list_create(c->im, s->dtype, (List){.form = LIST_STACK, .values = values});
    }
    check_rank(c, s, build_has_shape(c, x) ? x->shape.rank : -1);
    s = list_flat(c, s);
    const List *l = s->list;
    List one = flat_element(c, x);
    Value *rank = call_op(c, OP_Shape, 1, one.shapes);
    List y = {.form = LIST_FLAT,
              .values = insert(c, l->values, one.values, at ? start_of(c, l, at) : NULL),
              .sizes = insert(c, l->sizes, one.sizes, at),
              .shapes = insert(c, l->shapes, one.shapes, at ? build_mul(c, at, rank) : NULL),
              .rank = l->rank,
              .witness = l->witness};
    remember_rank(&y, &one);
    return list_create(c->im, s->dtype, y);
}

static Value *cut(Call *c, Value *v, Value *from, Value *to) {
    return pair(c, before(c, v, from), from_on(c, v, to), 0);
}

Compound *list_erase(Call *c, Compound *s, Value *v) {
    s = s->list->form == LIST_PARTS ? list_flat(c, s) : s;
    const List *l = s->list;
    Value *at = position(c, l, v), *next = build_add(c, at, build_one(c, 1));
    List y = *l;
    if (l->form == LIST_STACK) {
        y.values = cut(c, l->values, at, next);
        return list_create(c->im, s->dtype, y);
    }
    Value *rank = build_div(c, call_op(c, OP_Shape, 1, l->shapes), count_of(c, l));
    y.values = cut(c, l->values, start_of(c, l, at), start_of(c, l, next));
    y.sizes = cut(c, l->sizes, at, next);
    y.shapes = cut(c, l->shapes, build_mul(c, at, rank), build_mul(c, next, rank));
    return list_create(c->im, s->dtype, y);
}

/* ---- whole lists ----------------------------------------------------------------------------- */

Compound *list_join(Call *c, Compound *a, Compound *b) {
    if (!a->list && !a->n_items) return b;
    list_match(c, &a, c, &b);
    if (a->list->form == LIST_FLAT)
        return list_create(c->im, a->dtype, join_flat(c, *a->list, *b->list));
    Value *values = pair(c, a->list->values, b->list->values, 0);
    return list_create(c->im, a->dtype, (List){.form = LIST_STACK, .values = values});
}

/* Axes `axis` and axis + 1 of v as one. */
static Value *merge_axes(Call *c, Value *v, int axis, int rank) {
    Value *dims[MAX_RANK];
    for (int i = 0; i + 1 < rank; i++) {
        dims[i] = build_dim(c, v, i < axis ? i : i + (i > axis));
        if (i == axis) dims[i] = build_mul(c, dims[i], build_dim(c, v, i + 1));
    }
    return build_reshape_as(c, v, build_concat(c, dims, rank - 1, 0));
}

/* Elements of a flat list that differ along an axis only, one behind another. */
static Value *concat_flat(Call *c, const Compound *s, int axis, int rank) {
    const List *l = s->list;
    Value *i;
    if (axis) {
        Call in = list_open_loop(c, &i);
        Value *x = move_axis(&in, list_at(&in, s, i), axis, 0, rank);
        return move_axis(c, list_join_loop(c, &in, count_of(c, l), x), 0, axis, rank);
    }
    Value *table = shape_table(c, l, rank), *most = total(c, OP_ReduceMax, table);
    Value *rows = build_slice(c, total(c, OP_ReduceSum, table), 0, 1, 1);
    Value *dims = pair(c, rows, build_slice(c, most, 1, INT64_MAX, 1), 1);
    return build_reshape_as(c, l->values, build_reshape_as(c, dims, build_one(c, rank)));
}

Value *list_concat(Call *c, const Compound *s, int64_t axis, bool new_axis) {
    const List *l = s->list;
    if (l->form == LIST_STACK && new_axis && !axis) return l->values;
    int rank = known_rank(c, s), n_axes = rank + new_axis;
    if (rank < 0) return NULL;
    if (axis < -n_axes || axis >= n_axes || n_axes + !new_axis > MAX_RANK) {
        diag_error(c->im->d, c->loc, "axis %lld is outside of rank %d", (long long)axis, n_axes);
        return NULL;
    }
    int at = (int)(axis < 0 ? axis + n_axes : axis);
    if (!new_axis && l->form == LIST_PARTS && l->axis == at) return l->values;
    if (!new_axis && l->form == LIST_FLAT) return concat_flat(c, s, at, rank);
    Value *v = move_axis(c, stack_of(c, s, rank).values, 0, at, rank + 1);
    return new_axis ? v : merge_axes(c, v, at, rank + 1);
}

/* ---- in the interface ------------------------------------------------------------------------ */

bool list_show(Call *c, Compound *s, Value *shown[2]) {
    int rank = known_rank(c, s);
    if (rank < 0) return false;
    s = list_flat(c, s);
    shown[0] = s->list->values;
    shown[1] = shape_table(c, s->list, rank);
    return true;
}

Compound *list_shown(Call *c, DType t, Value *values, Value *shapes, int rank) {
    Value *sizes = build_reduce(c, OP_ReduceProd, shapes, (int64_t[]){1}, 1);
    List l = {.form = LIST_FLAT,
              .values = values,
              .sizes = build_squeeze(c, sizes, 1),
              .shapes = to_line(c, shapes),
              .rank = rank};
    return list_create(c->im, t, l);
}
