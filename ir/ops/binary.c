/* Elementwise operators with several inputs: arithmetic, comparison, logic, Max, Min, Sum, Mean,
 * Clip and Where. Inputs broadcast like numpy's.
 *
 *   out[i] = cast(dtype, f(a[i], b[i], ...))    computed in f32 for f16 and bf16
 *
 * Integers wrap; x / 0 and x mod 0 are 0 (kops.def). Max, Min and Clip give NaN when the element is
 * NaN. On integers of a known size the contents are tracked: this is where shape arithmetic
 * happens. */
#include "ir/ops/common.h"
#include "ir/ops/text.h"

#include <string.h>

/* ---- binary: infer --------------------------------------------------------------------------- */

static unsigned binary_classes(OpId op) {
    switch ((int)op) {
    case OP_And:
    case OP_Or:
    case OP_Xor: return CLASS_BOOL;
    case OP_BitShift:
    case OP_BitwiseAnd:
    case OP_BitwiseOr:
    case OP_BitwiseXor: return CLASS_INT;
    case OP_Equal: return CLASS_SCALAR | CLASS_STRING;
    default: return CLASS_NUMBER;
    }
}

static bool compares(OpId op) {
    return op == OP_Equal || op == OP_Greater || op == OP_GreaterOrEqual || op == OP_Less ||
           op == OP_LessOrEqual;
}

static bool binary_attributes(Module *m, const Node *n) {
    const char *direction = attr_string(n, "direction", "");
    if (n->op == OP_BitShift && strcmp(direction, "LEFT") && strcmp(direction, "RIGHT")) {
        diag_error(m->diag, n->loc, "attribute direction must be 'LEFT' or 'RIGHT'");
        return false;
    }
    return true;
}

/* Floats: rem(a, b) moved to b's side of zero; a zero has b's sign. rem of an infinity or by zero
 * is NaN, and rem(a, infinity) is a. */
static const KExpr *floored_mod(KCtx *k, const KExpr *a, const KExpr *b) {
    if (!dtype_is_float(a->dtype)) return k_fmod(k, a, b);
    const KExpr *rest = k_rem(k, a, b), *zero = k_const(k, a->dtype, 0);
    const KExpr *b_is_below = k_lt(k, b, zero);
    const KExpr *differ = k_xor(k, k_lt(k, rest, zero), b_is_below);
    const KExpr *moved = k_select(k, differ, k_add(k, rest, b), rest);
    const KExpr *nought = k_select(k, b_is_below, k_const(k, a->dtype, -0.0), zero);
    moved = k_select(k, k_eq(k, rest, zero), nought, moved);
    return k_select(k, k_eq(k, rest, rest), moved, rest);
}

/* A count that is negative or not below the width leaves what the sign extends to. */
static const KExpr *bit_shift(KCtx *k, bool is_left, const KExpr *a, const KExpr *b) {
    const KExpr *y = is_left ? k_shl(k, a, b) : k_shr(k, a, b);
    if (dtype_info[a->dtype].kind == DK_UINT) return y;
    const KExpr *zero = k_const_i(k, a->dtype, 0), *fill = zero;
    if (!is_left) fill = k_select(k, k_lt(k, a, zero), k_const_i(k, a->dtype, -1), zero);
    return k_select(k, k_lt(k, b, zero), fill, y);
}

/* The operator on two elements of one dtype; also on contents (i64). NULL when it has no such form.
 */
static const KExpr *binary_body(KCtx *k, const Node *n, const KExpr *a, const KExpr *b) {
    switch ((int)n->op) {
    case OP_Add: return k_add(k, a, b);
    case OP_Sub: return k_sub(k, a, b);
    case OP_Mul: return k_mul(k, a, b);
    case OP_Div: return k_div(k, a, b);
    case OP_Mod: return attr_int(n, "fmod", 0) ? k_rem(k, a, b) : floored_mod(k, a, b);
    case OP_Pow: return k_pow(k, a, b);
    case OP_PRelu: return k_select(k, k_lt(k, a, k_const(k, a->dtype, 0)), k_mul(k, b, a), a);
    case OP_BitShift: return bit_shift(k, !strcmp(attr_string(n, "direction", ""), "LEFT"), a, b);
    case OP_BitwiseAnd:
    case OP_And: return k_and(k, a, b);
    case OP_BitwiseOr:
    case OP_Or: return k_or(k, a, b);
    case OP_BitwiseXor:
    case OP_Xor: return k_xor(k, a, b);
    case OP_Equal: return k_eq(k, a, b);
    case OP_Greater: return k_gt(k, a, b);
    case OP_GreaterOrEqual: return k_ge(k, a, b);
    case OP_Less: return k_lt(k, a, b);
    case OP_LessOrEqual: return k_le(k, a, b);
    default: return NULL;
    }
}

/* Contents of all inputs broadcast to the output; NULL when one is not known. */
static const KExpr **broadcast_content(Module *m, const Value *v, const Value *out) {
    int64_t count, n_out;
    if (!can_track_content(v, &count) || !shape_count_int(out->shape, &n_out) ||
        n_out > MAX_CONTENT)
        return NULL;
    const KExpr **own = infer_content(m, v, &count);
    if (!own) return NULL;
    const KExpr **all = arena_array(m->arena, const KExpr *, n_out + 1);
    for (int64_t i = 0; i < n_out; i++) {
        int64_t at = 0, stride = 1, rest = i, dim, own_dim;
        for (int axis = out->shape.rank - 1, a = v->shape.rank - 1; a >= 0; axis--, a--) {
            shape_dim_int(out->shape, axis, &dim);
            shape_dim_int(v->shape, a, &own_dim);
            if (own_dim != 1) at += rest % dim * stride;
            stride *= own_dim;
            rest /= dim;
        }
        all[i] = own[at];
    }
    return all;
}

static void binary_content(Module *m, const Node *n, Value *out) {
    int64_t count;
    out->content = NULL;
    if (!op_has(n->op, OPF_CONTENT) || !can_track_content(out, &count)) return;
    const KExpr **a = broadcast_content(m, n->in[0], out),
                **b = broadcast_content(m, n->in[1], out);
    if (!a || !b) return;
    for (int64_t i = 0; i < count; i++) {
        const KExpr *e = binary_body(m->k, n, a[i], b[i]);
        a[i] = e ? infer_wrapped(m, out->dtype, k_cast(m->k, DT_I64, e)) : NULL;
    }
    infer_set_content(out, a);
}

bool binary_infer(Module *m, Node *n) {
    unsigned classes = binary_classes(n->op);
    Shape s;
    if (!infer_dtype(m, n, 0, classes) || !infer_dtype(m, n, 1, classes)) return false;
    if (n->op != OP_Pow && !infer_dtypes_equal(m, n, 0, 1)) return false;
    if (!binary_attributes(m, n) || !infer_broadcast(m, n, &s)) return false;
    bool widens = s.rank != n->in[0]->shape.rank;
    for (int i = 0; i < s.rank && !widens; i++)
        widens = dims_known_differ(s.dims[i], n->in[0]->shape.dims[i]);
    if (n->op == OP_PRelu && widens) {
        diag_error(m->diag, n->loc, "slope of shape %s does not broadcast to %s",
                   shape_text(m->scratch, n->in[1]->shape),
                   shape_text(m->scratch, n->in[0]->shape));
        return false;
    }
    if (!infer_set(m, n, 0, compares(n->op) ? DT_BOOL : n->in[0]->dtype, s)) return false;
    binary_content(m, n, n->out[0]);
    return true;
}

/* ---- binary: lower --------------------------------------------------------------------------- */

/* Pow: base and exponent may differ; other integers go through f64, as pow() in C does. */
static DType pow_dtype(DType base, DType exponent) {
    if (!dtype_is_float(base) || exponent == DT_F64) return DT_F64;
    return compute_dtype(base);
}

/* Integers to a constant power that is a whole number are products, and wrap; -1: no such power. */
static int integer_power(const Node *n) {
    enum { MOST = 64 };
    const Value *y = n->in[1];
    int64_t count;
    if (n->op != OP_Pow || dtype_is_float(n->in[0]->dtype) || !value_is_const(y)) return -1;
    if (!shape_count_int(y->shape, &count) || count != 1) return -1;
    double power = value_const_float(y, 0);
    return power >= 0 && power <= MOST && power == (int)power ? (int)power : -1;
}

static const KExpr *product_power(KCtx *k, const KExpr *x, int n) {
    const KExpr *r = k_const_i(k, x->dtype, 1);
    for (; n; n /= 2) {
        if (n % 2) r = k_mul(k, r, x);
        if (n > 1) x = k_mul(k, x, x);
    }
    return r;
}

void binary_lower(Def *d, const Node *n) {
    if (n->in[0]->dtype == DT_STR) {
        text_lower_equal(d, def_in(d, 0), def_in(d, 1), def_out(d, 0));
        return;
    }
    KTensor *a = def_in(d, 0), *b = def_in(d, 1), *out = def_out(d, 0);
    Stage *s = def_begin(d, FORM_MAP, out);
    int power = integer_power(n);
    if (power >= 0) {
        def_map(d, s, product_power(d->k, lower_elem(d, s, a, a->dtype), power));
        return;
    }
    DType t = n->op == OP_Pow ? pow_dtype(a->dtype, b->dtype) : compute_dtype(a->dtype);
    const KExpr *e = binary_body(d->k, n, lower_elem(d, s, a, t), lower_elem(d, s, b, t));
    def_map(d, s, k_cast(d->k, out->dtype, e));
}

/* ---- variadic -------------------------------------------------------------------------------- */

bool variadic_infer(Module *m, Node *n) {
    Shape s;
    unsigned classes = n->op == OP_Max || n->op == OP_Min ? CLASS_NUMBER : CLASS_FLOAT;
    for (int i = 0; i < n->n_in; i++)
        if (!infer_dtype(m, n, i, classes) || !infer_dtypes_equal(m, n, 0, i)) return false;
    if (!infer_broadcast(m, n, &s) || !infer_set(m, n, 0, n->in[0]->dtype, s)) return false;
    int64_t count;
    const KExpr **content = NULL;
    n->out[0]->content = NULL;
    if (!op_has(n->op, OPF_CONTENT) || !can_track_content(n->out[0], &count)) return true;
    for (int i = 0; i < n->n_in; i++) {
        const KExpr **next = broadcast_content(m, n->in[i], n->out[0]);
        if (!next) return true;
        for (int64_t j = 0; content && j < count; j++)
            next[j] = n->op == OP_Max ? k_max(m->k, content[j], next[j])
                                      : k_min(m->k, content[j], next[j]);
        content = next;
    }
    infer_set_content(n->out[0], content);
    return true;
}

static const KExpr *variadic_step(Def *d, const KExpr *so_far, const KExpr *x) {
    if (!so_far) return x;
    if (d->node->op == OP_Max) return lower_max_nan(d, so_far, x);
    if (d->node->op == OP_Min) return lower_min_nan(d, so_far, x);
    return k_add(d->k, so_far, x);
}

/* Inputs folded by one stage: expressions stay shallow however many inputs there are. */
enum { VARIADIC_GROUP = 32 };

void variadic_lower(Def *d, const Node *n) {
    KTensor *out = def_out(d, 0), *sum = NULL;
    DType t = compute_dtype(out->dtype);
    for (int i = 0; i < n->n_in; i += VARIADIC_GROUP) {
        bool is_last = i + VARIADIC_GROUP >= n->n_in;
        KTensor *to = is_last ? out : def_temp(d, "partial", t, out->rank, out->dims);
        Stage *s = def_begin(d, FORM_MAP, to);
        const KExpr *e = sum ? lower_elem(d, s, sum, t) : NULL;
        for (int j = i; j < n->n_in && j < i + VARIADIC_GROUP; j++)
            e = variadic_step(d, e, lower_elem(d, s, def_in(d, j), t));
        if (is_last && n->op == OP_Mean) e = k_div(d->k, e, k_const(d->k, t, n->n_in));
        def_map(d, s, k_cast(d->k, to->dtype, e));
        sum = to;
    }
}

/* ---- Clip ------------------------------------------------------------------------------------ */

bool clip_infer(Module *m, Node *n) {
    if (!infer_dtype(m, n, 0, CLASS_NUMBER)) return false;
    for (int i = 1; i < n->n_in; i++) {
        int64_t count;
        if (!n->in[i]) continue;
        if (!infer_dtypes_equal(m, n, 0, i)) return false;
        if (shape_count_int(n->in[i]->shape, &count) && count == 1) continue;
        diag_error(m->diag, n->loc, "input %d (%s) must be a scalar, its shape is %s", i,
                   i == 1 ? "min" : "max", shape_text(m->scratch, n->in[i]->shape));
        return false;
    }
    return infer_same_as(m, n, 0, n->in[0]);
}

/* min(high, max(low, x)): x is the second operand, so a NaN stays; low > high gives high */
void clip_lower(Def *d, const Node *n) {
    KTensor *x = def_in(d, 0), *out = def_out(d, 0);
    Stage *s = def_begin(d, FORM_MAP, out);
    DType t = compute_dtype(x->dtype);
    const KExpr *e = lower_elem(d, s, x, t);
    if (has_in(n, 1)) e = k_max(d->k, k_cast(d->k, t, lower_scalar(d, def_in(d, 1))), e);
    if (has_in(n, 2)) e = k_min(d->k, k_cast(d->k, t, lower_scalar(d, def_in(d, 2))), e);
    def_map(d, s, k_cast(d->k, out->dtype, e));
}

/* ---- Where ----------------------------------------------------------------------------------- */

bool where_infer(Module *m, Node *n) {
    Shape s;
    if (!infer_dtype(m, n, 0, CLASS_BOOL) || !infer_dtypes_equal(m, n, 1, 2)) return false;
    if (!infer_broadcast(m, n, &s) || !infer_set(m, n, 0, n->in[1]->dtype, s)) return false;
    int64_t count;
    const KExpr **part[3] = {NULL}, *zero = k_int(m->k, 0);
    n->out[0]->content = NULL;
    for (int i = 0; i < 3; i++)
        if (!can_track_content(n->out[0], &count) ||
            !(part[i] = broadcast_content(m, n->in[i], n->out[0])))
            return true;
    for (int64_t i = 0; i < count; i++)
        part[0][i] = k_select(m->k, k_ne(m->k, part[0][i], zero), part[1][i], part[2][i]);
    infer_set_content(n->out[0], part[0]);
    return true;
}

void where_lower(Def *d, const Node *n) {
    (void)n;
    KTensor *out = def_out(d, 0);
    Stage *s = def_begin(d, FORM_MAP, out);
    const KExpr *c = lower_elem(d, s, def_in(d, 0), DT_BOOL);
    const KExpr *a = lower_elem(d, s, def_in(d, 1), out->dtype),
                *b = lower_elem(d, s, def_in(d, 2), out->dtype);
    def_map(d, s, k_select(d->k, c, a, b));
}
