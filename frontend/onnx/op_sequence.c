/* Importers of sequences and optionals. What they do to the structure happens while importing; a
 * position that is known only while running becomes a choice between elements, whose number is
 * known all the same. */
#include "frontend/onnx/build.h"
#include "frontend/onnx/compound.h"

/* ---- inputs ---------------------------------------------------------------------------------- */

static Compound *sequence_in(Call *c, int i) {
    Compound *k = compound_of(call_in(c, i));
    if (k && k->value.type == VT_SEQUENCE) return k;
    diag_error(c->im->d, c->loc, "input %d has to be a sequence", i);
    return NULL;
}

static Value *tensor_in(Call *c, int i) {
    if (!compound_of(call_in(c, i))) return call_in(c, i);
    diag_error(c->im->d, c->loc, "input %d has to be a tensor", i);
    return NULL;
}

static bool result(Call *c, Compound *k) {
    return call_result(c, &k->value);
}

static Value *scalar(Call *c, Value *v) {
    return build_reshape(c, call_cast(c, v, DT_I64), NULL, 0);
}

/* A position among `count`, counted from the end where it is negative. */
typedef struct Position {
    bool is_known;
    int64_t at;
    Value *value; /* i64 scalar, not negative */
} Position;

/* Inserting counts from the end of the n elements that are there, and may come after the last. */
static bool read_position(Call *c, Value *v, int n, bool inserts, Position *p) {
    int64_t table[2 * COMPOUND_MAX_ITEMS + 1];
    *p = (Position){0};
    p->is_known = known_int(c, v, false, &p->at);
    if (p->is_known) {
        if (p->at < 0) p->at += n;
        if (p->at >= 0 && p->at < n + inserts) return true;
        diag_error(c->im->d, c->loc, "the position is outside of the sequence of %d elements", n);
        return false;
    }
    if (!n && !inserts) {
        diag_error(c->im->d, c->loc, "the sequence is empty");
        return false;
    }
    int count = inserts ? 2 * n + 1 : n;
    for (int i = 0; i < count; i++) table[i] = inserts && i >= n ? i - n : i;
    Value *index = scalar(c, v);
    if (inserts) index = build_add(c, index, call_i64(c, n));
    p->value = build_gather(c, call_list(c, table, count), index, 0); /* Gather checks the range */
    return true;
}

static bool is_too_long(Call *c, int64_t n) {
    if (n <= COMPOUND_MAX_ITEMS) return false;
    diag_unsupported(c->im->d, c->loc, "a sequence of %lld elements; %d are supported",
                     (long long)n, COMPOUND_MAX_ITEMS);
    return true;
}

/* ---- making sequences ------------------------------------------------------------------------ */

bool import_sequence_construct(Call *c) {
    return !is_too_long(c, c->n_in) &&
           result(c, compound_sequence(c->im, c->in[0]->dtype, c->in, c->n_in));
}

bool import_sequence_empty(Call *c) {
    DType t = import_dtype(c->im, call_int(c, "dtype", 1), c->loc, "dtype");
    return t != DT_NONE && result(c, compound_sequence(c->im, t, NULL, 0));
}

/* The sizes of the pieces as constants, where the axis has this many elements: n_sizes of them. */
static bool split_evenly(Call *c, int64_t dim, int64_t step, int64_t **sizes, int *n) {
    if (step < 1) {
        diag_error(c->im->d, c->loc, "split is %lld, but has to be positive", (long long)step);
        return false;
    }
    int64_t count = dim / step + (dim % step != 0);
    if (is_too_long(c, count)) return false;
    *sizes = arena_array(c->im->arena, int64_t, count + 1);
    *n = (int)count;
    for (int i = 0; i < *n; i++) (*sizes)[i] = i + 1 < *n ? step : dim - i * step;
    return true;
}

static bool axis_dim(Call *c, Value *x, int64_t *axis, int64_t *dim) {
    const Shape *s = build_shape(c, x, "the input");
    if (!s) return false;
    if (*axis < -s->rank || *axis >= s->rank) {
        diag_error(c->im->d, c->loc, "axis %lld is outside of rank %d", (long long)*axis, s->rank);
        return false;
    }
    if (*axis < 0) *axis += s->rank;
    if (shape_dim_int(*s, (int)*axis, dim)) return true;
    diag_unsupported(c->im->d, c->loc,
                     "the dim that is split is not a number, and the length of the sequence "
                     "depends on it (--dim gives it one)");
    return false;
}

/* Pieces whose sizes, i64[n], are found while running. */
static bool split_while_running(Call *c, Value *x, Value *split, int n, int64_t axis) {
    Value **items = arena_array(c->im->arena, Value *, n);
    Value *sizes = call_cast(c, split, DT_I64), *from = build_one(c, 0);
    for (int i = 0; i < n; i++) {
        Value *to = build_add(c, from, build_slice(c, sizes, i, i + 1, 0));
        items[i] = build_slice_at(c, x, from, to, axis);
        items[i]->dtype = x->dtype;
        from = to;
    }
    return result(c, compound_sequence(c->im, x->dtype, items, n));
}

static bool split_at(Call *c, Value *x, const int64_t *sizes, int n, int64_t axis, bool squeeze) {
    Value **items = arena_array(c->im->arena, Value *, n);
    int64_t from = 0;
    for (int i = 0; i < n; from += sizes[i++]) {
        items[i] = build_slice(c, x, from, from + sizes[i], axis);
        if (squeeze) items[i] = build_squeeze(c, items[i], axis);
        items[i]->dtype = x->dtype;
    }
    return result(c, compound_sequence(c->im, x->dtype, items, n));
}

static bool check_sizes(Call *c, const int64_t *sizes, int n, int64_t dim) {
    int64_t sum = 0;
    for (int i = 0; i < n; i++) {
        if (sizes[i] < 0 || sizes[i] > dim - sum) sum = -1;
        if (sum < 0) break;
        sum += sizes[i];
    }
    if (sum == dim) return true;
    diag_error(c->im->d, c->loc, "the sizes of the pieces do not add up to the dim, %lld",
               (long long)dim);
    return false;
}

bool import_split_to_sequence(Call *c) {
    Value *x = c->in[0], *split = call_in(c, 1);
    int64_t axis = call_int(c, "axis", 0), dim, step = 1, n, *sizes;
    int count;
    bool has_list = false;
    if (split) {
        const Shape *s = build_shape(c, split, "split");
        if (!s) return false;
        has_list = s->rank == 1;
        if (has_list && !shape_dim_int(*s, 0, &n)) {
            diag_unsupported(c->im->d, c->loc, "the number of pieces is found while running");
            return false;
        }
        if (!has_list && !known_int(c, split, true, &step)) {
            diag_unsupported(c->im->d, c->loc,
                             "split has to be known while compiling, because the length of the "
                             "sequence depends on it");
            return false;
        }
    }
    if (!has_list)
        return axis_dim(c, x, &axis, &dim) && split_evenly(c, dim, step, &sizes, &count) &&
               split_at(c, x, sizes, count, axis, !split && !call_int(c, "keepdims", 1));
    if (is_too_long(c, n)) return false;
    sizes = arena_array(c->im->arena, int64_t, n + 1);
    if (!known_ints(c, split, sizes, (int)n, &count))
        return split_while_running(c, x, split, (int)n, axis);
    return axis_dim(c, x, &axis, &dim) && check_sizes(c, sizes, count, dim) &&
           split_at(c, x, sizes, count, axis, false);
}

/* ---- elements -------------------------------------------------------------------------------- */

bool import_sequence_length(Call *c) {
    Compound *s = sequence_in(c, 0);
    return s && call_result(c, call_i64(c, s->n_items));
}

static Value *is_at(Call *c, const Position *p, int i) {
    Value *y = call_op(c, OP_Equal, 2, p->value, call_i64(c, i));
    y->dtype = DT_BOOL;
    return y;
}

static bool have_one_shape(Call *c, const Compound *s) {
    for (int i = 0; i < s->n_items; i++)
        if (!build_has_shape(c, s->items[i]) ||
            !shape_equal(s->items[i]->shape, s->items[0]->shape))
            return false;
    return true;
}

/* Elements of one shape are gathered from a stack of them; others are chosen one by one. */
static Value *element_at(Call *c, Compound *s, const Position *p) {
    if (p->is_known) return s->items[p->at];
    int n = s->n_items;
    if (n == 1) return s->items[0];
    if (n > 2 && have_one_shape(c, s)) {
        Value **rows = arena_array(c->im->arena, Value *, n);
        for (int i = 0; i < n; i++) rows[i] = build_unsqueeze(c, s->items[i], 0);
        return build_gather(c, build_concat(c, rows, n, 0), p->value, 0);
    }
    Value *y = s->items[n - 1];
    for (int i = n - 2; i >= 0; i--) y = build_choice(c, is_at(c, p, i), s->items[i], y);
    return y;
}

bool import_sequence_at(Call *c) {
    Compound *s = sequence_in(c, 0);
    Value *at = tensor_in(c, 1);
    Position p;
    if (!s || !at || !read_position(c, at, s->n_items, false, &p)) return false;
    return call_result(c, element_at(c, s, &p));
}

/* Is the position after i? */
static Value *is_after(Call *c, const Position *p, int i) {
    Value *y = call_op(c, OP_Greater, 2, p->value, call_i64(c, i));
    y->dtype = DT_BOOL;
    return y;
}

static Value *inserted(Call *c, const Compound *s, Value *x, const Position *p, int i) {
    if (p->is_known) return i < p->at ? s->items[i] : i == p->at ? x : s->items[i - 1];
    Value *before = i < s->n_items ? s->items[i] : NULL, *y = i ? s->items[i - 1] : NULL;
    if (before && y) y = build_choice(c, is_after(c, p, i), before, y);
    if (!y) y = before;
    return y ? build_choice(c, is_at(c, p, i), x, y) : x;
}

bool import_sequence_insert(Call *c) {
    Compound *s = sequence_in(c, 0);
    Value *x = tensor_in(c, 1), *at = call_in(c, 2);
    if (!s || !x || is_too_long(c, s->n_items + 1)) return false;
    Position p = {true, s->n_items, NULL};
    if (at && (!tensor_in(c, 2) || !read_position(c, at, s->n_items, true, &p))) return false;
    Value **items = arena_array(c->im->arena, Value *, s->n_items + 1);
    for (int i = 0; i <= s->n_items; i++) items[i] = inserted(c, s, x, &p, i);
    return result(c, compound_sequence(c->im, s->dtype, items, s->n_items + 1));
}

bool import_sequence_erase(Call *c) {
    Compound *s = sequence_in(c, 0);
    Value *at = call_in(c, 1);
    if (!s || (at && !tensor_in(c, 1))) return false;
    Position p = {true, s->n_items - 1, NULL};
    if (!at && !s->n_items) {
        diag_error(c->im->d, c->loc, "the sequence is empty");
        return false;
    }
    if (at && !read_position(c, at, s->n_items, false, &p)) return false;
    Value **items = arena_array(c->im->arena, Value *, s->n_items);
    for (int i = 0; i + 1 < s->n_items; i++)
        items[i] = p.is_known ? s->items[i + (i >= p.at)]
                              : build_choice(c, is_after(c, &p, i), s->items[i], s->items[i + 1]);
    return result(c, compound_sequence(c->im, s->dtype, items, s->n_items - 1));
}

/* ---- whole sequences ------------------------------------------------------------------------- */

bool import_concat_from_sequence(Call *c) {
    Compound *s = sequence_in(c, 0);
    if (!s) return false;
    if (!s->n_items) {
        diag_error(c->im->d, c->loc, "the sequence is empty, so the result has no shape");
        return false;
    }
    int64_t axis = call_int(c, "axis", 0);
    Value **items = arena_array(c->im->arena, Value *, s->n_items);
    for (int i = 0; i < s->n_items; i++)
        items[i] = call_int(c, "new_axis", 0) ? build_unsqueeze(c, s->items[i], axis) : s->items[i];
    return call_result(c, build_concat(c, items, s->n_items, axis));
}

bool import_sequence_map(Call *c) {
    const Onnx__GraphProto *body = call_attr(c, "body")->g;
    Compound *first = sequence_in(c, 0);
    Arena *a = c->im->arena;
    int n_out = (int)body->n_output;
    if (!first) return false;
    if (n_out < c->n_out) {
        diag_error(c->im->d, c->loc, "has %d outputs, but body gives %d", c->n_out, n_out);
        return false;
    }
    Value **in = arena_array(a, Value *, c->n_in), **out = arena_array(a, Value *, n_out);
    Value **rows = arena_array(a, Value *, n_out * first->n_items);
    for (int k = 0; k < first->n_items; k++) {
        for (int i = 0; i < c->n_in; i++) {
            Compound *s = compound_of(c->in[i]);
            if (s && (s->value.type != VT_SEQUENCE || s->n_items != first->n_items)) {
                diag_error(c->im->d, c->loc, "input %d has to be a sequence of %d elements", i,
                           first->n_items);
                return false;
            }
            in[i] = s ? s->items[k] : c->in[i];
        }
        if (!import_body(c, "body", body, in, c->n_in, out)) return false;
        for (int i = 0; i < n_out; i++) {
            if (compound_of(out[i])) {
                diag_error(c->im->d, c->loc, "output %d of body has to be a tensor", i);
                return false;
            }
            rows[i * first->n_items + k] = out[i];
        }
    }
    for (int i = 0; i < c->n_out; i++)
        c->out[i] =
            &compound_sequence(c->im, DT_F32, rows + i * first->n_items, first->n_items)->value;
    return true;
}

/* ---- optionals ------------------------------------------------------------------------------- */

bool import_identity(Call *c) {
    return compound_of(c->in[0]) ? call_result(c, c->in[0]) : call_same(c, c->in, 1, "");
}

bool import_optional(Call *c) {
    const Onnx__AttributeProto *type = call_attr(c, "type");
    if (!call_in(c, 0) && !type) {
        diag_error(c->im->d, c->loc, "has neither an input nor a type");
        return false;
    }
    Compound *k = compound_optional(c->im, DT_NONE, call_in(c, 0));
    if (!call_in(c, 0))
        k->of_sequence = type->tp && type->tp->value_case == ONNX__TYPE_PROTO__VALUE_SEQUENCE_TYPE;
    return result(c, k);
}

bool import_optional_get(Call *c) {
    Compound *k = compound_of(c->in[0]);
    if (!k || k->value.type != VT_OPTIONAL) return call_result(c, c->in[0]);
    if (k->payload) return call_result(c, k->payload);
    diag_error(c->im->d, c->loc, "the optional holds nothing");
    return false;
}

bool import_optional_has(Call *c) {
    Compound *k = compound_of(call_in(c, 0));
    if (k && k->presence) return call_result(c, k->presence);
    bool has = call_in(c, 0) && (!k || k->value.type != VT_OPTIONAL || k->payload);
    return call_result(c, graph_const_scalar(c->g, DT_BOOL, has));
}
