/* Writing at computed positions: ScatterND, ScatterElements, and NonZero, whose size is found while
 * running. These are programs: kernel IR written out, serial, in the order of the indices, so that
 * the last of several writes to one place wins.
 *
 *   out = data;  for every index tuple: if it is inside: out[tuple] = reduction(out[tuple], update)
 *
 * Indices outside of the data change nothing (constant ones are reported while compiling). Constant
 * tuples of ScatterND that are a box of the data, as exporters write y[:, 1:, ::2] += x, are a map:
 *
 *   out[i...] = i inside the box ? reduction(data[i...], updates[i - first...]) : data[i...] */
#include "ir/ops/common.h"

#include <string.h>

/* ---- what both scatters share ---------------------------------------------------------------- */

typedef enum {
    SCATTER_NONE,
    SCATTER_ADD,
    SCATTER_MUL,
    SCATTER_MAX,
    SCATTER_MIN,
    SCATTER_KINDS
} Reduction;

static const char *const reductions[SCATTER_KINDS] = {"none", "add", "mul", "max", "min"};

static Reduction reduction_of(const Node *n) {
    const char *text = attr_string(n, "reduction", "none");
    int r = 0;
    while (r < SCATTER_KINDS && strcmp(text, reductions[r])) r++;
    return (Reduction)r;
}

static bool scatter_inputs(Module *m, const Node *n) {
    Reduction r = reduction_of(n);
    unsigned classes = r == SCATTER_NONE ? CLASS_ANY : CLASS_NUMBER | CLASS_COMPLEX;
    if (r == SCATTER_KINDS) {
        diag_error(m->diag, n->loc,
                   "attribute reduction must be 'none', 'add', 'mul', 'max' or 'min'");
        return false;
    }
    return infer_dtype(m, n, 0, classes) && infer_index_dtype(m, n, 1) &&
           infer_dtypes_equal(m, n, 0, 2) && infer_rank(m, n, 0, 1, -1) &&
           infer_rank(m, n, 1, 1, -1);
}

/* What stores an element at index i of a loop. */
typedef struct Element {
    Def *d;
    KTensor *out, *from;
    const KExpr **to, **at; /* indices of out and from; ScatterND */
    int axis, from_axis;    /* which of them the loop is; the last ones */
    void (*store)(const struct Element *e, const KExpr *i);
} Element;

static void store_element(void *user, const KExpr *i) {
    const Element *e = user;
    e->store(e, i);
}

/* For all i below n. */
static void store_all(Element *e, const KExpr *n) {
    lower_for_all(&e->d->b, n, !dtype_is_wide(e->out->dtype), store_element, e);
}

static void store_copy(const Element *e, const KExpr *i) {
    kb_store(&e->d->b, e->out->buf, i, lower_at_flat(e->d, e->from, i));
}

/* Opens the program and copies the data into the output. */
static Stage *begin_scatter(Def *d, KTensor *data, KTensor *out) {
    Stage *s = def_program(d, &out, 1);
    Element e = {.d = d, .out = out, .from = data, .store = store_copy};
    store_all(&e, tensor_n_elems(d->k, out));
    return s;
}

static const KExpr *reduce_complex(Def *d, Reduction r, const KExpr *old, const KExpr *e) {
    if (r == SCATTER_ADD) return lower_complex_add(d, old, e);
    if (r == SCATTER_MUL) return lower_complex_mul(d, old, e);
    bool is_max = r == SCATTER_MAX;
    return k_select(d->k, lower_comes_before(d, old, e), is_max ? e : old, is_max ? old : e);
}

/* What an update leaves of an old element; both have the data's type. */
static const KExpr *reduced(Def *d, Reduction r, const KExpr *old, const KExpr *update) {
    KCtx *k = d->k;
    DType given = update->dtype, t = compute_dtype(given);
    if (dtype_is_complex(given)) return reduce_complex(d, r, old, update);
    const KExpr *e = k_cast(k, t, update);
    old = k_cast(k, t, old);
    if (r == SCATTER_ADD) e = k_add(k, old, e);
    if (r == SCATTER_MUL) e = k_mul(k, old, e);
    if (r == SCATTER_MAX) e = lower_max_nan(d, old, e);
    if (r == SCATTER_MIN) e = lower_min_nan(d, old, e);
    return k_cast(k, given, e);
}

static void store_reduced(Def *d, KTensor *out, const KExpr *flat, const KExpr *update) {
    Reduction r = reduction_of(d->node);
    if (r != SCATTER_NONE) update = reduced(d, r, k_load(d->k, out->buf, flat), update);
    kb_store(&d->b, out->buf, flat, update);
}

/* ---- ScatterND ------------------------------------------------------------------------------- */

static bool tuple_length(Module *m, const Node *n, int *depth) {
    Shape data = n->in[0]->shape, index = n->in[1]->shape;
    int64_t last;
    if (!k_is_int(index.dims[index.rank - 1], &last)) {
        diag_unsupported(m->diag, n->loc, "the last dim of indices is symbolic; fix it with --dim");
        return false;
    }
    *depth = (int)last;
    if (last >= 1 && last <= data.rank) return true;
    diag_error(m->diag, n->loc, "index tuples of %lld entries for data of rank %d", (long long)last,
               data.rank);
    return false;
}

/* updates' shape is indices' without the last dim, then data's dims after the tuple's. */
static bool updates_fit(Module *m, const Node *n, int depth) {
    Shape data = n->in[0]->shape, index = n->in[1]->shape, updates = n->in[2]->shape;
    bool fits = updates.rank == index.rank - 1 + data.rank - depth;
    for (int i = 0; fits && i < updates.rank; i++) {
        const KExpr *dim =
            i < index.rank - 1 ? index.dims[i] : data.dims[depth + i - (index.rank - 1)];
        fits = infer_same_dim(m, n, dim, updates.dims[i]);
    }
    if (!fits)
        diag_error(m->diag, n->loc, "updates of shape %s do not fit indices %s and data %s",
                   shape_text(m->scratch, updates), shape_text(m->scratch, index),
                   shape_text(m->scratch, data));
    return fits;
}

bool scatter_nd_infer(Module *m, Node *n) {
    int depth;
    if (!scatter_inputs(m, n) || !tuple_length(m, n, &depth) || !updates_fit(m, n, depth))
        return false;
    for (int i = 0; i < depth; i++)
        if (!infer_indices_fit(m, n, n->in[0]->shape.dims[i], i, depth)) return false;
    return infer_same_as(m, n, 0, n->in[0]);
}

static void store_update(const Element *e, const KExpr *i) {
    if (e->axis >= 0) e->to[e->axis] = e->at[e->from_axis] = i;
    const KExpr *flat =
        def_flatten(e->d->k, e->to, (const KExpr *const *)e->out->dims, e->out->rank);
    store_reduced(e->d, e->out, flat, def_at(e->d, e->from, e->at, e->from->rank));
}

/* Tuples that are a box: entry i is first[i] + step[i] times the index along axis[i] of the tuples,
 * or first[i] in all of them (axis -1), and every axis stands in one entry. So no two are equal. */
typedef struct Box {
    int64_t first[MAX_RANK], step[MAX_RANK], extent[MAX_RANK];
    int axis[MAX_RANK];
} Box;

/* Entry i of tuple t, constant, counted from the start. */
static int64_t tuple_entry(const Node *n, int depth, int64_t t, int i) {
    int64_t at = value_const_int(n->in[1], t * depth + i), dim;
    return at < 0 && k_is_int(n->in[0]->shape.dims[i], &dim) ? at + dim : at;
}

/* The axis and step of entry i by its neighbours along each axis of the tuples. */
static bool find_step(Box *b, const Node *n, int depth, int i, unsigned *used) {
    int64_t stride = 1;
    b->first[i] = tuple_entry(n, depth, 0, i);
    b->step[i] = 1;
    b->axis[i] = -1;
    for (int a = n->in[1]->shape.rank - 2; a >= 0; stride *= b->extent[a--]) {
        int64_t step = b->extent[a] > 1 ? tuple_entry(n, depth, stride, i) - b->first[i] : 0;
        if (!step) continue;
        if (b->axis[i] >= 0 || step < 0 || *used & 1u << a) return false;
        *used |= 1u << a;
        b->axis[i] = a;
        b->step[i] = step;
    }
    return true;
}

/* Is every axis that the box cuts a long one? The parts of a short one, which may be the lanes of
 * what the map is fused with, would be less than a vector each. */
static bool cuts_long(const Box *b, Shape data, int depth) {
    enum { LEAST = 16 };
    for (int i = 0; i < depth; i++) {
        int64_t dim, n = b->axis[i] < 0 ? 1 : b->extent[b->axis[i]];
        if (k_is_int(data.dims[i], &dim) && dim < LEAST && n < dim) return false;
    }
    return true;
}

static bool find_box(const Node *n, int depth, Box *b) {
    Shape index = n->in[1]->shape;
    int lead = index.rank - 1;
    int64_t total, dim;
    unsigned used = 0;
    if (!value_is_const(n->in[1]) || !shape_count_int(index, &total) || !total) return false;
    for (int i = 0; i < depth; i++) /* else nobody has asked whether the entries are inside */
        if (!k_is_int(n->in[0]->shape.dims[i], &dim)) return false;
    for (int a = 0; a < lead; a++) k_is_int(index.dims[a], &b->extent[a]);
    for (int i = 0; i < depth; i++)
        if (!find_step(b, n, depth, i, &used)) return false;
    for (int a = 0; a < lead; a++)
        if (b->extent[a] > 1 && !(used & 1u << a)) return false;
    if (!cuts_long(b, n->in[0]->shape, depth)) return false;
    for (int64_t t = 0; t < total / depth; t++) {
        int64_t loop[MAX_RANK], rest = t;
        for (int a = lead - 1; a >= 0; rest /= b->extent[a--]) loop[a] = rest % b->extent[a];
        for (int i = 0; i < depth; i++) {
            int64_t steps = b->axis[i] < 0 ? 0 : loop[b->axis[i]];
            int64_t expected = b->first[i] + b->step[i] * steps;
            if (tuple_entry(n, depth, t, i) != expected) return false;
        }
    }
    return true;
}

static void map_box(Def *d, const Node *n, int depth, const Box *b) {
    KCtx *k = d->k;
    KTensor *data = def_in(d, 0), *updates = def_in(d, 2), *out = def_out(d, 0);
    const KExpr *at[MAX_RANK], *from[MAX_RANK], *inside = k_bool(k, true);
    int lead = n->in[1]->shape.rank - 1;
    Reduction r = reduction_of(n);
    Stage *s = def_begin(d, FORM_MAP, out);
    lower_axes(d, s, at);
    for (int a = 0; a < lead; a++) from[a] = k_int(k, 0);
    for (int i = 0; i < depth; i++) {
        int64_t extent = b->axis[i] < 0 ? 1 : b->extent[b->axis[i]];
        const KExpr *step = k_int(k, b->step[i]), *apart = k_sub(k, at[i], k_int(k, b->first[i]));
        inside = k_and(k, inside, lower_inside(d, apart, k_int(k, (extent - 1) * b->step[i] + 1)));
        inside = k_and(k, inside, k_eq(k, k_fmod(k, apart, step), k_int(k, 0)));
        if (b->axis[i] >= 0) from[b->axis[i]] = k_fdiv(k, apart, step);
    }
    for (int i = depth; i < out->rank; i++) from[lead + i - depth] = at[i];
    const KExpr *old = def_at(d, data, at, out->rank);
    const KExpr *update = def_at_if(d, updates, from, updates->rank, inside);
    if (r != SCATTER_NONE) update = reduced(d, r, old, update);
    def_map(d, s, k_select(k, inside, update, old));
}

void scatter_nd_lower(Def *d, const Node *n) {
    KTensor *data = def_in(d, 0), *index = def_in(d, 1), *updates = def_in(d, 2),
            *out = def_out(d, 0);
    const KExpr *from[MAX_RANK], *at[MAX_RANK], *to[MAX_RANK], *inside = k_bool(d->k, true);
    int depth, lead = index->rank - 1;
    Box box;
    BUG_IF(!tuple_length(d->m, n, &depth), "indices changed since infer");
    if (find_box(n, depth, &box)) {
        map_box(d, n, depth, &box);
        return;
    }
    Stage *s = begin_scatter(d, data, out);
    for (int i = 0; i < lead; i++)
        at[i] = from[i] = kb_for(&d->b, LOOP_SERIAL, "t", index->dims[i]);
    for (int i = 0; i < depth; i++) {
        at[lead] = k_int(d->k, i);
        to[i] =
            kb_let(&d->b, "at", lower_index(d, def_at(d, index, at, index->rank), data->dims[i]));
        inside = k_and(d->k, inside, lower_inside(d, to[i], data->dims[i]));
    }
    kb_if(&d->b, inside);
    int last = data->rank - 1, n_loops = lead + 1;
    for (int i = depth; i < last; i++, n_loops++)
        to[i] = from[lead + i - depth] = kb_for(&d->b, LOOP_SERIAL, "i", data->dims[i]);
    Element e = {d, out, updates, to, from, last, lead + last - depth, store_update};
    if (depth <= last) {
        store_all(&e, data->dims[last]);
    } else {
        e.axis = -1;
        store_update(&e, NULL);
    }
    while (n_loops--) kb_end(&d->b);
    def_end_program(d, s);
}

/* ---- ScatterElements ------------------------------------------------------------------------- */

bool scatter_elements_infer(Module *m, Node *n) {
    int axis;
    if (!scatter_inputs(m, n)) return false;
    Shape data = n->in[0]->shape, index = n->in[1]->shape, updates = n->in[2]->shape;
    if (!infer_axis(m, n, attr_int(n, "axis", 0), data.rank, &axis)) return false;
    bool fits = index.rank == data.rank && updates.rank == data.rank;
    for (int i = 0; fits && i < data.rank; i++) {
        int64_t wanted, had;
        fits = infer_same_dim(m, n, index.dims[i], updates.dims[i]);
        if (i != axis) infer_rule(m, n, k_le(m->k, index.dims[i], data.dims[i]));
        if (i != axis && k_is_int(index.dims[i], &wanted) && k_is_int(data.dims[i], &had))
            fits &= wanted <= had;
    }
    if (!fits) {
        diag_error(m->diag, n->loc, "indices %s and updates %s do not fit data %s",
                   shape_text(m->scratch, index), shape_text(m->scratch, updates),
                   shape_text(m->scratch, data));
        return false;
    }
    return infer_indices_fit(m, n, data.dims[axis], 0, 1) && infer_same_as(m, n, 0, n->in[0]);
}

void scatter_elements_lower(Def *d, const Node *n) {
    KTensor *data = def_in(d, 0), *index = def_in(d, 1), *updates = def_in(d, 2),
            *out = def_out(d, 0);
    const KExpr *from[MAX_RANK], *to[MAX_RANK], *inside = k_bool(d->k, true);
    int axis = shape_axis(attr_int(n, "axis", 0), data->rank);
    Stage *s = begin_scatter(d, data, out);
    for (int i = 0; i < data->rank; i++) {
        to[i] = from[i] = kb_for(&d->b, LOOP_SERIAL, "i", index->dims[i]);
        if (i != axis && index->dims[i] != data->dims[i])
            inside = k_and(d->k, inside, k_lt(d->k, to[i], data->dims[i]));
    }
    to[axis] =
        kb_let(&d->b, "at", lower_index(d, def_at(d, index, from, index->rank), data->dims[axis]));
    inside = k_and(d->k, inside, lower_inside(d, to[axis], data->dims[axis]));
    kb_if(&d->b, inside);
    const KExpr *flat = def_flatten(d->k, to, (const KExpr *const *)out->dims, out->rank);
    store_reduced(d, out, flat, def_at(d, updates, from, updates->rank));
    for (int i = 0; i <= data->rank; i++) kb_end(&d->b);
    def_end_program(d, s);
}

/* ---- NonZero --------------------------------------------------------------------------------- */

/* How many elements of a constant are not zero; -1 where that is not looked at. */
static int64_t count_non_zero(const Value *v) {
    enum { MOST_ELEMS = 1 << 20 };
    int64_t n, count = 0;
    bool is_number = v->dtype != DT_STR && !dtype_is_complex(v->dtype);
    if (!value_is_const(v) || !is_number || !shape_count_int(v->shape, &n) || n > MOST_ELEMS)
        return -1;
    bool is_float = dtype_is_float(v->dtype);
    for (int64_t i = 0; i < n; i++)
        count += is_float ? value_const_float(v, i) != 0 : value_const_int(v, i) != 0;
    return count;
}

bool non_zero_infer(Module *m, Node *n) {
    if (!infer_dtype(m, n, 0, CLASS_ANY & ~CLASS_CODE)) return false;
    Shape in = n->in[0]->shape, had = n->out[0]->shape;
    const KExpr *bound = shape_count(m->k, in), *old = had.rank == 2 ? had.dims[1] : NULL;
    int64_t count = count_non_zero(n->in[0]);
    Shape out = shape_make(m->arena, 2);
    out.dims[0] = k_int(m->k, in.rank);
    out.dims[1] = k_is_value(bound, 0) ? bound
                  : count >= 0         ? k_int(m->k, count)
                                       : module_computed_dim(m, old, "nonzero", bound);
    return infer_set(m, n, 0, DT_I64, out);
}

enum { LANES = 16, CHUNK = 2 * LANES };

typedef struct NonZero {
    Def *d;
    KTensor *x, *out;
    KBuf *count; /* of those that were found so far */
    const KExpr *total;
} NonZero;

static bool has_lanes(DType t) {
    return t != DT_STR && !dtype_is_complex(t);
}

/* How many there are: sums in lanes. */
static const KExpr *count_all(const NonZero *z) {
    KBuild *b = &z->d->b;
    KCtx *k = b->k;
    int64_t lanes = has_lanes(z->x->dtype) ? LANES : 1;
    const KExpr *n = tensor_n_elems(k, z->x), *width = k_int(k, lanes), *zero = k_int(k, 0), *e;
    KBuf *sums = kb_alloc(b, MEM_REG, DT_I64, "sums", lanes);
    const KExpr *l = kb_for(b, LOOP_VECTOR, "l", width);
    kb_store(b, sums, l, zero);
    kb_end(b);
    const KExpr *c = kb_for(b, LOOP_SERIAL, "c", k_fdiv(k, n, width));
    l = kb_for(b, LOOP_VECTOR, "l", width);
    e = lower_at_flat(z->d, z->x, k_add(k, k_mul(k, c, width), l));
    e = k_cast(k, DT_I64, lower_differs_from_zero(z->d, e));
    kb_store(b, sums, l, k_add(k, k_load(k, sums, l), e));
    kb_end(b);
    kb_end(b);
    lower_fold_lanes(b, sums, lanes, KO_add);
    const KExpr *rest = k_fmod(k, n, width), *done = k_sub(k, n, rest);
    e = lower_at_flat(z->d, z->x, k_add(k, done, kb_for(b, LOOP_SERIAL, "i", rest)));
    e = k_cast(k, DT_I64, lower_differs_from_zero(z->d, e));
    kb_store(b, sums, zero, k_add(k, k_load(k, sums, zero), e));
    kb_end(b);
    return kb_let(b, "total", k_load(k, sums, zero));
}

static const KExpr *is_found(const NonZero *z, const KExpr **index, const KExpr *last) {
    index[z->x->rank - 1] = last;
    return lower_differs_from_zero(z->d, k_at(z->d->k, z->x, index, z->x->rank));
}

/* Writes the element's index as the next one, and counts it if it is one: no branch depends on the
 * element. Behind the last one there is no place. */
static void offer_element(const NonZero *z, const KExpr **index, const KExpr *last) {
    KBuild *b = &z->d->b;
    KCtx *k = b->k;
    const KExpr *zero = k_int(k, 0), *found = is_found(z, index, last);
    const KExpr *c = kb_let(b, "c", k_load(k, z->count, zero));
    kb_if(b, k_lt(k, c, z->total));
    for (int a = 0; a < z->x->rank; a++)
        kb_store(b, z->out->buf, k_add(k, k_mul(k, k_int(k, a), z->total), c), index[a]);
    kb_end(b);
    kb_store(b, z->count, zero, k_add(k, c, k_cast(k, DT_I64, found)));
}

/* Is one of the chunk's elements not zero? */
static const KExpr *has_any(const NonZero *z, const KExpr **index, const KExpr *from, KBuf *any) {
    KBuild *b = &z->d->b;
    KCtx *k = b->k;
    const KExpr *l = kb_for(b, LOOP_VECTOR, "l", k_int(k, LANES)), *first = k_add(k, from, l);
    const KExpr *e = is_found(z, index, first);
    e = k_or(k, e, is_found(z, index, k_add(k, first, k_int(k, LANES))));
    kb_store(b, any, l, k_cast(k, DT_I32, e));
    kb_end(b);
    return k_ne(k, lower_fold_lanes(b, any, LANES, KO_or), k_const_i(k, DT_I32, 0));
}

/* A row along the last axis: chunks in which there is something, then single elements. */
static void find_in_row(const NonZero *z, const KExpr **index) {
    KBuild *b = &z->d->b;
    KCtx *k = b->k;
    const KExpr *n = z->x->dims[z->x->rank - 1], *done = k_int(k, 0), *chunk = k_int(k, CHUNK);
    if (has_lanes(z->x->dtype) && n->hi >= CHUNK) {
        KBuf *any = kb_alloc(b, MEM_REG, DT_I32, "any", LANES);
        const KExpr *n_chunks = k_fdiv(k, n, chunk);
        const KExpr *c = kb_for(b, LOOP_SERIAL, "chunk", n_chunks);
        const KExpr *from = kb_let(b, "from", k_mul(k, c, chunk));
        kb_if(b, has_any(z, index, from, any));
        offer_element(z, index, k_add(k, from, kb_for(b, LOOP_SERIAL, "i", chunk)));
        for (int i = 0; i < 3; i++) kb_end(b);
        done = k_mul(k, n_chunks, chunk);
    }
    const KExpr *i = kb_for(b, LOOP_SERIAL, "i", k_sub(k, n, done));
    offer_element(z, index, k_add(k, done, i));
    kb_end(b);
}

/* out[axis, c] = index of the c-th element that is not zero. How many there are is counted first,
 * where that is not known. */
void non_zero_lower(Def *d, const Node *n) {
    (void)n;
    KCtx *k = d->k;
    KBuild *b = &d->b;
    KTensor *x = def_in(d, 0), *out = def_out(d, 0);
    const KExpr *index[MAX_RANK] = {NULL};
    int64_t known;
    if (k_is_value(out->dims[1], 0)) {
        lower_fill(d, out, k_int(k, 0));
        return;
    }
    Stage *s = def_program(d, &out, 1);
    NonZero z = {.d = d, .x = x, .out = out, .total = out->dims[1]};
    bool is_known = k_is_int(z.total, &known);
    if (!is_known) z.total = count_all(&z);
    z.count = kb_alloc(b, MEM_REG, DT_I64, "count", 1);
    kb_store(b, z.count, k_int(k, 0), k_int(k, 0));
    for (int a = 0; a + 1 < x->rank; a++) index[a] = kb_for(b, LOOP_SERIAL, "at", x->dims[a]);
    if (x->rank) find_in_row(&z, index); /* the index of a single element has no numbers */
    for (int a = 0; a + 1 < x->rank; a++) kb_end(b);
    if (!is_known) def_store_size(d, s, out->dims[1]->u.var, z.total);
    def_end_program(d, s);
}
