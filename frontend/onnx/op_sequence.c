/* Importers of sequences and optionals. What they do to the structure happens while importing; a
 * position that is known only while running becomes a choice between elements. Where their number
 * is known only then, too, it is list.c's. */
#include "frontend/onnx/build.h"
#include "frontend/onnx/list.h"

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
    p->value = build_gather(c, call_list(c, table, count), index, 0); /* 0 for one outside */
    return true;
}

/* ---- making sequences ------------------------------------------------------------------------ */

bool import_sequence_construct(Call *c) {
    return result(c, compound_sequence(c->im, c->in[0]->dtype, c->in, c->n_in));
}

bool import_sequence_empty(Call *c) {
    DType t = import_dtype(c->im, call_int(c, "dtype", 1), c->loc, "dtype");
    return t != DT_NONE && result(c, compound_sequence(c->im, t, NULL, 0));
}

/* Pieces of `step` elements where the axis has dim, as constants. */
static int64_t *even_sizes(Call *c, int64_t dim, int64_t step, int *n) {
    *n = (int)(dim / step + (dim % step != 0));
    int64_t *sizes = arena_array(c->im->arena, int64_t, *n + 1);
    for (int i = 0; i < *n; i++) sizes[i] = i + 1 < *n ? step : dim - i * step;
    return sizes;
}

/* The same, i64[count], where running finds one of them. */
static Value *even_sizes_while_running(Call *c, Value *x, Value *split, int64_t axis) {
    Value *step = build_reshape(c, call_cast(c, split, DT_I64), (int64_t[]){1}, 1);
    Value *dim = build_dim(c, x, axis);
    Value *up = build_sub(c, build_add(c, dim, step), build_one(c, 1));
    Value *from = build_mul(c, build_iota(c, build_div(c, up, step)), step);
    return call_op(c, OP_Min, 2, build_sub(c, dim, from), step);
}

/* The rank of x and its axis, counted from the front; *dim is -1 when it is no number. */
static bool read_axis(Call *c, Value *x, int64_t *axis, int64_t *dim) {
    const Shape *s = build_shape(c, x, "the input");
    if (!s) return false;
    if (*axis < -s->rank || *axis >= s->rank) {
        diag_error(c->im->d, c->loc, "axis %lld is outside of rank %d", (long long)*axis, s->rank);
        return false;
    }
    if (*axis < 0) *axis += s->rank;
    if (!shape_dim_int(*s, (int)*axis, dim)) *dim = -1;
    return true;
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

/* One size for all pieces, NULL for 1. */
static bool split_into_equal(Call *c, Value *x, Value *split, int64_t axis, int64_t dim) {
    int64_t step = 1;
    int count;
    bool is_known = !split || known_int(c, split, false, &step);
    bool keeps = split || call_int(c, "keepdims", 1);
    if (is_known && step < 1) {
        diag_error(c->im->d, c->loc, "split is %lld, but has to be positive", (long long)step);
        return false;
    }
    if (is_known && dim >= 0 && dim <= step * COMPOUND_MAX_ITEMS) {
        int64_t *sizes = even_sizes(c, dim, step, &count);
        return split_at(c, x, sizes, count, axis, !keeps);
    }
    if (is_known && step == 1) return result(c, list_unstack(c, x, (int)axis, keeps));
    return result(c, list_split(c, x, even_sizes_while_running(c, x, split, axis), (int)axis));
}

bool import_split_to_sequence(Call *c) {
    Value *x = c->in[0], *split = call_in(c, 1);
    int64_t axis = call_int(c, "axis", 0), dim, n;
    int count;
    if (!read_axis(c, x, &axis, &dim)) return false;
    const Shape *s = split ? build_shape(c, split, "split") : NULL;
    if (split && !s) return false;
    if (!s || !s->rank) return split_into_equal(c, x, split, axis, dim);
    if (!shape_dim_int(*s, 0, &n) || n > COMPOUND_MAX_ITEMS)
        return result(c, list_split(c, x, split, (int)axis));
    int64_t *sizes = arena_array(c->im->arena, int64_t, n + 1);
    if (!known_ints(c, split, sizes, (int)n, &count) || dim < 0)
        return split_while_running(c, x, split, (int)n, axis);
    return check_sizes(c, sizes, count, dim) && split_at(c, x, sizes, count, axis, false);
}

/* ---- elements -------------------------------------------------------------------------------- */

bool import_sequence_length(Call *c) {
    Compound *s = sequence_in(c, 0);
    return s && call_result(c, s->list ? list_length(c, s) : call_i64(c, s->n_items));
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
    if (s && at && s->list) {
        Value *y = list_at(c, s, at);
        return y && call_result(c, y);
    }
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
    if (!s || !x || (at && !tensor_in(c, 2))) return false;
    if (s->list || s->n_items >= COMPOUND_MAX_ITEMS) return result(c, list_insert(c, s, x, at));
    Position p = {true, s->n_items, NULL};
    if (at && !read_position(c, at, s->n_items, true, &p)) return false;
    Value **items = arena_array(c->im->arena, Value *, s->n_items + 1);
    for (int i = 0; i <= s->n_items; i++) items[i] = inserted(c, s, x, &p, i);
    return result(c, compound_sequence(c->im, s->dtype, items, s->n_items + 1));
}

bool import_sequence_erase(Call *c) {
    Compound *s = sequence_in(c, 0);
    Value *at = call_in(c, 1);
    if (!s || (at && !tensor_in(c, 1))) return false;
    if (s->list) return result(c, list_erase(c, s, at));
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
    if (s->list) {
        Value *y = list_concat(c, s, call_int(c, "axis", 0), call_int(c, "new_axis", 0));
        return y && call_result(c, y);
    }
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

static bool is_tensor(Call *c, Value *v, int output) {
    if (compound_of(v))
        diag_error(c->im->d, c->loc, "output %d of body has to be a tensor", output);
    return !compound_of(v);
}

/* The body in a Loop over the elements. */
static bool map_lists(Call *c, const Onnx__GraphProto *body) {
    Value **in = arena_array(c->im->arena, Value *, c->n_in), *i;
    Value **out = arena_array(c->im->arena, Value *, body->n_output);
    Compound **lists = arena_array(c->im->arena, Compound *, body->n_output);
    Compound *first = list_of(c, compound_of(c->in[0]));
    Value *count = build_unsqueeze(c, list_length(c, first), 0);
    for (int k = 0; k < c->n_in; k++) {
        Compound *s = compound_of(c->in[k]);
        in[k] = s ? &list_of(c, s)->value : c->in[k];
    }
    Call inside = list_open_loop(c, &i);
    for (int k = 0; k < c->n_in; k++) {
        if (compound_of(in[k])) in[k] = list_at(&inside, compound_of(in[k]), i);
        if (!in[k]) return false;
    }
    if (!import_body(c, inside.g, "body", body, in, c->n_in, out)) return false;
    for (int k = 0; k < (int)body->n_output; k++)
        if (!is_tensor(c, out[k], k)) return false;
    list_close_loop(c, &inside, count, out, (int)body->n_output, lists);
    for (int k = 0; k < c->n_out; k++) c->out[k] = &lists[k]->value;
    return true;
}

static bool has_list(const Call *c) {
    for (int i = 0; i < c->n_in; i++)
        if (compound_of(c->in[i]) && compound_of(c->in[i])->list) return true;
    return false;
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
    if (has_list(c)) return map_lists(c, body);
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
        if (!import_body(c, c->g, "body", body, in, c->n_in, out)) return false;
        for (int i = 0; i < n_out; i++) {
            if (!is_tensor(c, out[i], i)) return false;
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

/* What an optional that holds nothing would hold. */
static void read_content(const Onnx__TypeProto *t, Compound *k) {
    k->of_sequence = t && t->value_case == ONNX__TYPE_PROTO__VALUE_SEQUENCE_TYPE;
    if (k->of_sequence) t = t->sequence_type->elem_type;
    if (t && t->value_case == ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE)
        k->dtype = dtype_from_onnx(t->tensor_type->elem_type);
}

bool import_optional(Call *c) {
    const Onnx__AttributeProto *type = call_attr(c, "type");
    if (!call_in(c, 0) && !type) {
        diag_error(c->im->d, c->loc, "has neither an input nor a type");
        return false;
    }
    Compound *k = compound_optional(c->im, DT_NONE, call_in(c, 0));
    if (!call_in(c, 0)) read_content(type->tp, k);
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
