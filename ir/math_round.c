/* Rounding to whole numbers of a few digits, as quantization does it.
 *
 *     min(max(rint(x) + z, lo), hi)             ->  (y + m) - (m - z)
 *     u8(min(max(rint(x) + z, lo), hi)), or i8  ->  u8(bitcast(i32, y + m) + z)
 *     with y = min(max(x, lo - z), hi - z)
 *
 * and m = 1.5 * 2^23: its last place is 1, so that the sum rounds to the nearest even whole number
 * and has it in its low bits, and the difference is exact. Clamping to whole numbers first gives
 * the same, and NaN ends at lo either way. Half the operations, and no conversion. */
#include <math.h>

#include "ir/math.h"

static const double MAGIC = 12582912; /* 1.5 * 2^23 */

typedef struct Rounded {
    const KExpr *x;
    double zero, low, high;
} Rounded;

static bool is_small_whole(double v) {
    return v == trunc(v) && fabs(v) <= 1 << 20;
}

static bool match_rounded(const KExpr *e, Rounded *r) {
    if (e->dtype != DT_F32 || e->op != KO_min || e->arg[1]->op != KO_const_f) return false;
    const KExpr *low = e->arg[0];
    if (low->op != KO_max || low->arg[1]->op != KO_const_f) return false;
    r->high = e->arg[1]->u.f;
    r->low = low->arg[1]->u.f;
    r->zero = 0;
    const KExpr *sum = low->arg[0];
    if (sum->op == KO_add && sum->arg[1]->op == KO_const_f) {
        r->zero = sum->arg[1]->u.f;
        sum = sum->arg[0];
    }
    if (sum->op != KO_rint) return false;
    r->x = sum->arg[0];
    return is_small_whole(r->zero) && is_small_whole(r->low) && is_small_whole(r->high) &&
           r->low <= r->high;
}

/* Can x / step be done with a reciprocal? A significand of ones is the exception in Markstein's
 * theorem. */
static bool has_reciprocal(double step) {
    int exponent;
    return step > 0x1p-60 && step < 0x1p60 && frexp(step, &exponent) < 1 - 0x1p-24;
}

/* y / step rounded as a division is, in three multiply-adds: a quotient, what it leaves, and the
 * correction (Markstein, "Computation of elementary functions on the IBM RISC System/6000", 1990).
 * y is finite. */
static const KExpr *quotient(KCtx *k, const KExpr *y, double step) {
    const KExpr *inverse = k_const_f(k, DT_F32, (double)(1 / (float)step));
    const KExpr *q = k_mul(k, y, inverse);
    return k_fma(k, k_fma(k, k_neg(k, q), k_const_f(k, DT_F32, step), y), inverse, q);
}

/* y + m. Of a quotient the dividend is clamped: at whole quotients, so that what lies beyond them
 * still rounds to them. */
static const KExpr *sum_with_magic(KCtx *k, const Rounded *r, bool fma) {
    double low = r->low - r->zero, high = r->high - r->zero;
    const KExpr *x = r->x, *step = x->op == KO_div ? x->arg[1] : NULL;
    bool divides = fma && step && step->op == KO_const_f && has_reciprocal(step->u.f);
    if (divides) {
        x = x->arg[0];
        low *= step->u.f;
        high *= step->u.f;
    }
    x = k_max(k, x, k_const_f(k, DT_F32, low));
    x = k_min(k, x, k_const_f(k, DT_F32, high));
    return k_add(k, divides ? quotient(k, x, step->u.f) : x, k_const_f(k, DT_F32, MAGIC));
}

static const KExpr *as_byte(KCtx *k, DType t, const KExpr *sum, double zero) {
    const KExpr *bits = k_bitcast(k, DT_I32, sum);
    if (zero != 0) bits = k_add(k, bits, k_const_i(k, DT_I32, (int64_t)zero));
    return k_cast(k, t, bits);
}

static bool fits_byte(DType t, double low, double high) {
    return t == DT_U8 ? low >= 0 && high <= 255 : t == DT_I8 && low >= -128 && high <= 127;
}

static bool match_bounds(const KExpr *y, double *low, double *high) {
    if (y->op != KO_min || y->arg[0]->op != KO_max) return false;
    if (y->arg[1]->op != KO_const_f || y->arg[0]->arg[1]->op != KO_const_f) return false;
    *low = y->arg[0]->arg[1]->u.f;
    *high = y->arg[1]->u.f;
    return true;
}

/* (y + m) - (m - z) as this file makes it; finds z and the bounds. */
static bool match_made(const KExpr *e, Rounded *r) {
    if (e->op != KO_sub || e->arg[1]->op != KO_const_f || e->arg[0]->op != KO_add) return false;
    const KExpr *sum = e->arg[0], *y = sum->arg[0], *rest = y->op == KO_fma ? y->arg[0] : NULL;
    double step = 1;
    if (!k_is_value(sum->arg[1], MAGIC)) return false;
    if (rest && rest->op == KO_fma && rest->arg[1]->op == KO_const_f) { /* quotient() */
        step = rest->arg[1]->u.f;
        y = rest->arg[2];
    }
    if (!match_bounds(y, &r->low, &r->high)) return false;
    r->zero = MAGIC - e->arg[1]->u.f;
    r->low = rint(r->low / step) + r->zero;
    r->high = rint(r->high / step) + r->zero;
    return true;
}

const KExpr *math_expand_rounding(KCtx *k, const KExpr *e, bool fma) {
    Rounded r;
    if (e->op == KO_cast && e->arg[0]->dtype == DT_F32) {
        if (match_made(e->arg[0], &r) && fits_byte(e->dtype, r.low, r.high))
            return as_byte(k, e->dtype, e->arg[0]->arg[0], r.zero);
        if (match_rounded(e->arg[0], &r) && fits_byte(e->dtype, r.low, r.high))
            return as_byte(k, e->dtype, sum_with_magic(k, &r, fma), r.zero);
    }
    if (!match_rounded(e, &r)) return e;
    if (r.zero == 0 && r.low < 0) return e; /* the difference would lose the sign of -0 */
    return k_sub(k, sum_with_magic(k, &r, fma), k_const_f(k, DT_F32, MAGIC - r.zero));
}
