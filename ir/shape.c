/* Shapes: ranks and dims, where a dim is an i64 expression over the module's symbols.
 *
 * Dims are compared by pointer, since expressions are hash-consed: two dims are the same exactly
 * when their simplified expressions are. Products of constant dims are checked for overflow; a zero
 * anywhere makes the product zero whatever the rest is. */
#include <assert.h>

#include "ir/graph.h"
#include "ir/support/str.h"

Shape shape_make(Arena *a, int rank) {
    assert(rank >= 0 && rank <= MAX_RANK);
    return (Shape){rank, arena_array(a, const KExpr *, rank)};
}

Shape shape_ints(KCtx *k, const int64_t *dims, int rank) {
    Shape s = shape_make(kctx_arena(k), rank);
    for (int i = 0; i < rank; i++) s.dims[i] = k_int(k, dims[i]);
    return s;
}

Shape shape_copy(Arena *a, Shape s) {
    if (s.rank < 0) return s;
    Shape copy = shape_make(a, s.rank);
    for (int i = 0; i < s.rank; i++) copy.dims[i] = s.dims[i];
    return copy;
}

bool shape_dim_int(Shape s, int i, int64_t *value) {
    assert(i >= 0 && i < s.rank);
    return k_is_int(s.dims[i], value);
}

bool shape_is_const(Shape s) {
    int64_t dim;
    for (int i = 0; i < s.rank; i++)
        if (!k_is_int(s.dims[i], &dim)) return false;
    return s.rank >= 0;
}

const KExpr *shape_count(KCtx *k, Shape s) {
    const KExpr *n = k_int(k, 1);
    for (int i = 0; i < s.rank; i++) n = k_mul(k, n, s.dims[i]);
    return n;
}

bool shape_count_int(Shape s, int64_t *n) {
    int64_t count = 1, dim;
    bool overflow = false, zero = false;
    if (!shape_is_const(s)) return false;
    for (int i = 0; i < s.rank; i++) {
        k_is_int(s.dims[i], &dim);
        zero |= dim == 0;
        overflow |= dim < 0 || __builtin_mul_overflow(count, dim, &count);
    }
    *n = zero ? 0 : count;
    return zero || !overflow;
}

bool shape_equal(Shape a, Shape b) {
    if (a.rank != b.rank) return false;
    for (int i = 0; i < a.rank; i++)
        if (a.dims[i] != b.dims[i]) return false;
    return true;
}

const KExpr *dim_shared(const KExpr *a, const KExpr *b) {
    int64_t known;
    return k_is_int(a, &known) || !k_is_int(b, &known) ? a : b;
}

/* The dim that two broadcast to, NULL when they clash. Of a constant and a symbol the constant
 * wins: the symbol has to be equal to it or 1. */
static const KExpr *dim_broadcast(const KExpr *a, const KExpr *b) {
    int64_t x = 0, y = 0;
    bool a_known = k_is_int(a, &x), b_known = k_is_int(b, &y);
    if (a == b || (b_known && y == 1)) return a;
    if (a_known && x == 1) return b;
    if (a_known && b_known) return x == y ? a : NULL;
    return b_known ? b : a;
}

bool shape_broadcast(KCtx *k, Shape a, Shape b, Shape *out) {
    assert(a.rank >= 0 && b.rank >= 0);
    Shape longer = a.rank >= b.rank ? a : b, s = shape_copy(kctx_arena(k), longer);
    int shared = a.rank + b.rank - longer.rank;
    for (int i = 1; i <= shared; i++) {
        const KExpr *dim = dim_broadcast(a.dims[a.rank - i], b.dims[b.rank - i]);
        if (!dim) return false;
        s.dims[s.rank - i] = dim;
    }
    *out = s;
    return true;
}

/* ---- text ------------------------------------------------------------------------------------ */

static const char *operator_text(KOp op) {
    switch ((int)op) {
    case KO_add: return " + ";
    case KO_sub: return " - ";
    case KO_mul: return "*";
    case KO_div:
    case KO_fdiv: return "/";
    case KO_rem:
    case KO_fmod: return " % ";
    default: return NULL;
    }
}

enum { TEXT_DEPTH = 12 }; /* deeper expressions end in "...": messages are for people */

static void dim_text(StrBuf *b, const KExpr *e, int depth) {
    int64_t value;
    if (!e) {
        strbuf_add(b, "?");
    } else if (k_is_int(e, &value)) {
        strbuf_printf(b, "%lld", (long long)value);
    } else if (e->op == KO_var) {
        strbuf_add(b, e->u.var->name);
    } else if (depth >= TEXT_DEPTH) {
        strbuf_add(b, "...");
    } else if (e->n_args == 2 && operator_text(e->op)) {
        if (depth) strbuf_add(b, "(");
        dim_text(b, e->arg[0], depth + 1);
        strbuf_add(b, operator_text(e->op));
        dim_text(b, e->arg[1], depth + 1);
        if (depth) strbuf_add(b, ")");
    } else {
        strbuf_printf(b, "%s(", kop_info[e->op].name);
        for (int i = 0; i < e->n_args; i++) {
            if (i) strbuf_add(b, ", ");
            dim_text(b, e->arg[i], depth + 1);
        }
        strbuf_add(b, ")");
    }
}

const char *shape_text(Arena *a, Shape s) {
    if (s.rank < 0) return "[unknown rank]";
    StrBuf b = {0};
    strbuf_add(&b, "[");
    for (int i = 0; i < s.rank; i++) {
        if (i) strbuf_add(&b, ", ");
        dim_text(&b, s.dims[i], 0);
    }
    strbuf_add(&b, "]");
    const char *text = arena_strdup(a, strbuf_text(&b));
    strbuf_free(&b);
    return text;
}

int shape_axis(int64_t axis, int rank) {
    if (axis < -rank || axis >= rank) return -1;
    return (int)(axis < 0 ? axis + rank : axis);
}
