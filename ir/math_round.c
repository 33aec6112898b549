/* Rounding to whole numbers of a few digits, as quantization does it.
 *
 *     min(max(rint(x) + z, lo), hi)                 ->  (y + m) - (m - z),  y = min(max(x, lo - z), hi - z)
 *     u8(min(max(rint(x) + z, lo), hi)), or i8      ->  u8(bitcast(i32, y + m) + z)
 *
 * with m = 1.5 * 2^23: its last place is 1, so that the sum rounds to the nearest even whole number and
 * has it in its low bits, and the difference is exact. Clamping to whole numbers first gives the same, and NaN ends at
 * lo either way. Half the operations, and no conversion. */
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
    return is_small_whole(r->zero) && is_small_whole(r->low) && is_small_whole(r->high) && r->low <= r->high;
}

/* y + m */
static const KExpr *sum_with_magic(KCtx *k, const Rounded *r) {
    const KExpr *y = k_max(k, r->x, k_const_f(k, DT_F32, r->low - r->zero));
    y = k_min(k, y, k_const_f(k, DT_F32, r->high - r->zero));
    return k_add(k, y, k_const_f(k, DT_F32, MAGIC));
}

static const KExpr *as_byte(KCtx *k, DType t, const KExpr *sum, double zero) {
    const KExpr *bits = k_bitcast(k, DT_I32, sum);
    if (zero != 0) bits = k_add(k, bits, k_const_i(k, DT_I32, (int64_t)zero));
    return k_cast(k, t, bits);
}

static bool fits_byte(DType t, double low, double high) {
    return t == DT_U8 ? low >= 0 && high <= 255 : t == DT_I8 && low >= -128 && high <= 127;
}

/* (y + m) - (m - z) as this file makes it; finds z and the bounds. */
static bool match_made(const KExpr *e, Rounded *r) {
    if (e->op != KO_sub || e->arg[1]->op != KO_const_f || e->arg[0]->op != KO_add) return false;
    const KExpr *sum = e->arg[0], *y = sum->arg[0];
    if (!k_is_value(sum->arg[1], MAGIC) || y->op != KO_min || y->arg[0]->op != KO_max) return false;
    if (y->arg[1]->op != KO_const_f || y->arg[0]->arg[1]->op != KO_const_f) return false;
    r->zero = MAGIC - e->arg[1]->u.f;
    r->low = y->arg[0]->arg[1]->u.f + r->zero;
    r->high = y->arg[1]->u.f + r->zero;
    return true;
}

const KExpr *math_expand_rounding(KCtx *k, const KExpr *e) {
    Rounded r;
    if (e->op == KO_cast && e->arg[0]->dtype == DT_F32) {
        if (match_made(e->arg[0], &r) && fits_byte(e->dtype, r.low, r.high))
            return as_byte(k, e->dtype, e->arg[0]->arg[0], r.zero);
        if (match_rounded(e->arg[0], &r) && fits_byte(e->dtype, r.low, r.high))
            return as_byte(k, e->dtype, sum_with_magic(k, &r), r.zero);
    }
    if (!match_rounded(e, &r)) return e;
    if (r.zero == 0 && r.low < 0) return e; /* the difference would lose the sign of -0 */
    return k_sub(k, sum_with_magic(k, &r), k_const_f(k, DT_F32, MAGIC - r.zero));
}
