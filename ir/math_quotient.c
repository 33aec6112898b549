/* Rounding of quotients whose divisor only running knows, as quantization with a scale that was
 * computed, or one for each channel, has them:
 *
 *     u8(min(max(rint(x / s) + z, lo), hi))
 *
 * cast to an integer of up to 16 bits, becomes what math_round.c makes of constants: a reciprocal
 * and three multiply-adds. A division takes as long as twenty of these, and the reciprocal is
 * computed once for a row: s and z are elements in memory that are the same for all lanes.
 *
 * First both are brought to where nothing overflows: f is the power of two, with the sign of s, for
 * which S = s*f is in [1, 4); subnormal s end below. x*f may overflow, which clamps it, or vanish,
 * where the quotient would be 0.
 *
 *     y = min(max(x*f, (lo - z)*S), (hi - z)*S)        q = y*(1/S)
 *     u8(bitcast(i32, (q + (y - q*S)*(1/S)) + m) + z)            m as there, 1.5 * 2^23 */
#include <math.h>

#include "ir/math.h"

static const double MAGIC = 12582912; /* 1.5 * 2^23 */

typedef struct Quotient {
    const KExpr *x, *s;
    const KExpr *z; /* an i32, perhaps a constant */
    double low, high;
} Quotient;

typedef struct Uniform {
    const uint8_t *varies;
    bool ok;
} Uniform;

static void note_varying(const KExpr *e, void *user) {
    Uniform *u = user;
    if (e->op == KO_var && u->varies[e->u.var->id]) u->ok = false;
}

/* Is e an element of memory at a place that is the same for all lanes? */
static bool is_uniform(KCtx *k, const KExpr *e, const uint8_t *varies) {
    Uniform u = {varies, e->op == KO_load && e->n_args == 1};
    if (u.ok) k_visit(k, e->arg[0], note_varying, &u);
    return u.ok;
}

/* The integer that the f32 e is, if it is one of few digits. */
static const KExpr *whole_number(KCtx *k, const KExpr *e, const uint8_t *varies) {
    enum { MOST_BITS = 16, MOST = 1 << 20 };
    if (e->op == KO_const_f)
        return e->u.f == trunc(e->u.f) && fabs(e->u.f) <= MOST
                   ? k_const_i(k, DT_I32, (int64_t)e->u.f)
                   : NULL;
    if (e->op != KO_cast || !dtype_is_int(e->arg[0]->dtype)) return NULL;
    if (dtype_info[e->arg[0]->dtype].bits > MOST_BITS || !is_uniform(k, e->arg[0], varies))
        return NULL;
    return k_cast(k, DT_I32, e->arg[0]);
}

static bool match_quotient(KCtx *k, const KExpr *e, const uint8_t *varies, Quotient *q) {
    if (e->dtype != DT_F32 || e->op != KO_min || e->arg[1]->op != KO_const_f) return false;
    const KExpr *low = e->arg[0];
    if (low->op != KO_max || low->arg[1]->op != KO_const_f) return false;
    const KExpr *sum = low->arg[0];
    q->high = e->arg[1]->u.f;
    q->low = low->arg[1]->u.f;
    q->z = k_const_i(k, DT_I32, 0);
    if (sum->op == KO_add) {
        int round = sum->arg[0]->op == KO_rint ? 0 : 1;
        q->z = whole_number(k, sum->arg[1 - round], varies);
        sum = sum->arg[round];
    }
    if (!q->z || sum->op != KO_rint || sum->arg[0]->op != KO_div) return false;
    q->x = sum->arg[0]->arg[0];
    q->s = sum->arg[0]->arg[1];
    return q->low <= q->high && fabs(q->low) <= 1 << 20 && fabs(q->high) <= 1 << 20 &&
           is_uniform(k, q->s, varies);
}

/* 2^-e with the sign of s, which is +-1.. * 2^e. */
static const KExpr *scale_of(KCtx *k, const KExpr *s) {
    const KExpr *bits = k_bitcast(k, DT_I32, s);
    const KExpr *exponent = k_and(k, bits, k_const_i(k, DT_I32, 0x7f800000));
    const KExpr *most = k_const_i(k, DT_I32, 0x7e800000); /* what is not subnormal in the end */
    const KExpr *inverse =
        k_sub(k, k_const_i(k, DT_I32, 0x7f000000), k_min(k, exponent, most));
    const KExpr *sign = k_and(k, bits, k_const_i(k, DT_I32, INT32_MIN));
    return k_bitcast(k, DT_F32, k_or(k, inverse, sign));
}

/* The quotient, rounded, plus MAGIC: its low bits are rint(x / s) within the bounds less z. */
static const KExpr *rounded_sum(KCtx *k, const Quotient *q) {
    const KExpr *f = scale_of(k, q->s), *s = k_mul(k, q->s, f), *z = k_cast(k, DT_F32, q->z);
    const KExpr *low = k_mul(k, k_sub(k, k_const_f(k, DT_F32, q->low), z), s);
    const KExpr *high = k_mul(k, k_sub(k, k_const_f(k, DT_F32, q->high), z), s);
    const KExpr *y = k_min(k, k_max(k, k_mul(k, q->x, f), low), high);
    const KExpr *inverse = k_div(k, k_const_f(k, DT_F32, 1), s), *first = k_mul(k, y, inverse);
    const KExpr *rest = k_fma(k, k_neg(k, first), s, y);
    return k_add(k, k_fma(k, rest, inverse, first), k_const_f(k, DT_F32, MAGIC));
}

bool math_is_quotient(KCtx *k, const KExpr *e, const uint8_t *varies) {
    Quotient q;
    return match_quotient(k, e, varies, &q);
}

const KExpr *math_expand_quotient(KCtx *k, const KExpr *e, const uint8_t *varies) {
    Quotient q;
    if (e->op != KO_cast || !match_quotient(k, e->arg[0], varies, &q)) return e;
    DType t = e->dtype;
    if (!dtype_is_int(t) || dtype_info[t].bits > 16) return e;
    bool sign = dtype_is_signed(t);
    double most = ldexp(1, dtype_info[t].bits - sign);
    if (q.low < (sign ? -most : 0) || q.high > most - 1) return e;
    return k_cast(k, t, k_add(k, k_bitcast(k, DT_I32, rounded_sum(k, &q)), q.z));
}
