/* Upper bounds of sizes: what an index expression can be at most, over the caller's symbols alone.
 *
 * Sizes found while a model runs (NonZero's count) have a bound from where they were made
 * (KVar.bound), so that memory for them can be set aside before the run:  found + 1  with  found <=
 * batch*8  is at most batch*8 + 1. Bounds go through the operators that dims are made of; elsewhere
 * the expression's constant range is what is known. */
#include "ir/kernel.h"

typedef enum { LOWER, UPPER } Side;

/* Which computed symbols count as given; known is NULL where none does. */
typedef struct Given {
    bool (*known)(const KVar *v, const void *user);
    const void *user;
    bool found;
} Given;

static const KExpr *bound_of(KCtx *k, const KExpr *e, Side side, Given *given);

static void note_computed(const KExpr *e, void *user) {
    Given *given = user;
    bool computed = e->op == KO_var && e->u.var->computed &&
                    !(given->known && given->known(e->u.var, given->user));
    if (e->op == KO_load || computed) given->found = true;
}

static const KExpr *range_end(KCtx *k, const KExpr *e, Side side) {
    return k_int(k, side == UPPER ? e->hi : e->lo);
}

static const KExpr *bound_of_var(KCtx *k, const KExpr *e, Side side, Given *given) {
    const KVar *v = e->u.var;
    return side == UPPER && v->bound ? bound_of(k, v->bound, UPPER, given) : range_end(k, e, side);
}

/* e of these bounds of its operands; where that is no number, what the range says. */
static const KExpr *combine(KCtx *k, const KExpr *e, const KExpr *x, const KExpr *y, Side side) {
    const KExpr *both[2] = {x, y};
    int64_t v, sum;
    if (e->op == KO_min || e->op == KO_max) return k_binary(k, e->op, x, y);
    for (int i = 0; i < 2; i++)
        if (k_is_int(both[i], &v) && (v == INT64_MAX || v == INT64_MIN)) {
            bool is_divisor = i == 1 && (e->op == KO_fdiv || e->op == KO_div);
            if (!is_divisor) return range_end(k, e, side);
        }
    if (x->op == KO_const_i && y->op == KO_const_i &&
        (e->op == KO_add   ? __builtin_add_overflow(x->u.i, y->u.i, &sum)
         : e->op == KO_sub ? __builtin_sub_overflow(x->u.i, y->u.i, &sum)
         : e->op == KO_mul ? __builtin_mul_overflow(x->u.i, y->u.i, &sum)
                           : false))
        return range_end(k, e, side);
    return k_binary(k, e->op, x, y);
}

/* Products and quotients of what is never negative. */
static const KExpr *bound_of_ratio(KCtx *k, const KExpr *e, Side side, Given *given) {
    const KExpr *a = e->arg[0], *b = e->arg[1];
    Side other = side == UPPER ? LOWER : UPPER;
    if (a->lo < 0 || b->lo < (e->op == KO_mul ? 0 : 1)) return range_end(k, e, side);
    const KExpr *x = bound_of(k, a, side, given);
    const KExpr *y = bound_of(k, b, e->op == KO_mul ? side : other, given);
    return combine(k, e, x, y, side);
}

static const KExpr *bound_of_remainder(KCtx *k, const KExpr *e, Side side, Given *given) {
    const KExpr *a = e->arg[0], *b = e->arg[1];
    if (side == LOWER || a->lo < 0 || b->lo < 1) return range_end(k, e, side);
    return k_min(k, bound_of(k, a, UPPER, given),
                 k_sub(k, bound_of(k, b, UPPER, given), k_int(k, 1)));
}

static const KExpr *bound_of(KCtx *k, const KExpr *e, Side side, Given *given) {
    Side other = side == UPPER ? LOWER : UPPER;
    given->found = false;
    k_visit(k, e, note_computed, given);
    if (!given->found) return e;
    switch ((int)e->op) {
    case KO_var: return bound_of_var(k, e, side, given);
    case KO_add:
    case KO_min:
    case KO_max:
        return combine(k, e, bound_of(k, e->arg[0], side, given),
                       bound_of(k, e->arg[1], side, given), side);
    case KO_sub:
        return combine(k, e, bound_of(k, e->arg[0], side, given),
                       bound_of(k, e->arg[1], other, given), side);
    case KO_mul:
    case KO_fdiv:
    case KO_div: return bound_of_ratio(k, e, side, given);
    case KO_fmod:
    case KO_rem: return bound_of_remainder(k, e, side, given);
    case KO_select: {
        const KExpr *a = bound_of(k, e->arg[1], side, given),
                    *b = bound_of(k, e->arg[2], side, given);
        return side == UPPER ? k_max(k, a, b) : k_min(k, a, b);
    }
    default: return range_end(k, e, side);
    }
}

const KExpr *k_upper_bound(KCtx *k, const KExpr *e) {
    return k_upper_bound_given(k, e, NULL, NULL);
}

const KExpr *k_upper_bound_given(KCtx *k, const KExpr *e,
                                 bool (*known)(const KVar *v, const void *user), const void *user) {
    Given given = {.known = known, .user = user};
    return bound_of(k, e, UPPER, &given);
}

static void note_infinity(const KExpr *e, void *found) {
    if (e->op == KO_const_i && e->u.i == INT64_MAX) *(bool *)found = true;
}

bool k_is_unbounded(KCtx *k, const KExpr *e) {
    const KExpr *most = k_upper_bound(k, e);
    bool found = false;
    if (most == e) return false; /* of the caller's symbols only */
    k_visit(k, most, note_infinity, &found);
    return found;
}
