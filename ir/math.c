/* Transcendental functions, part one: dispatch, exponentials, logarithms, error functions.
 *
 * exp splits x = n ln2 + r with |r| <= ln2 / 2 and multiplies a polynomial's 1 + p(r) by 2^n. n
 * comes out of adding 1.5 * 2^mantissa, whose low bits are then n (plus a bias chosen so that
 * shifting them into the exponent field gives the scale at once). Results that may be subnormal are
 * scaled in two steps, so that they are rounded once. log splits x = 2^e (1 + f) with 1 + f in
 * [sqrt 1/2, sqrt 2). The others are built from these two. Bounds let NaN through: min(bound, x)
 * gives x when x is NaN. Polynomials are in math_tables.h, written by tests/tools/remez.py. */
#include "ir/math.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ir/code.h"
#include "ir/math_build.h"
#include "ir/math_tables.h"
#include "ir/pairs.h"
#include "ir/root16.h"

#define LOG2_E 0x1.71547652b82fep0

/* ---- exponentials ---------------------------------------------------------------------------- */

/* e^x = 2^n (1 + p), where n is kept as the bits of n + offset + magic. */
typedef struct Split {
    E p, n_bits;
    E n, sum; /* n as a number without offset; 1 + p, rounded once more, in fewer operations */
} Split;

/* 2^n from the bits of n + bias + magic: everything above n is shifted out. */
static E scale_of(const MathGen *m, E n_bits) {
    return from_bits(m, k_shl(m->k, n_bits, ilit(m, m->mantissa)));
}

/* e^(x + tail); offset is added to n. |x| must be below about 2^8 (f64: 2^11). tail may be NULL.
 * exact: r goes into 1 + p in two parts, two operations more for 0.1 ULP less. */
static Split split_exp_how(const MathGen *m, E x, E tail, int64_t offset, bool exact) {
    double magic = m->magic + (double)offset;
    E t = mad(m, x, lit(m, LOG2_E), lit(m, magic));
    E n = sub(m, t, lit(m, magic));
    E high = mad(m, n, lit(m, -m->ln2_hi), x); /* exact */
    if (tail) high = add(m, high, tail);
    E low = mul(m, n, lit(m, -m->ln2_lo));
    E r = exact ? add(m, high, low) : mad(m, n, lit(m, -m->ln2_lo), high), z = mul(m, r, r);
    E q = is_f32(m) ? POLY(m, EXP_F32, r) : POLY(m, EXP_F64, r);
    E p = exact ? add(m, high, mad(m, z, q, low)) : mad(m, z, q, r), one = lit(m, 1);
    return (Split){p, bits(m, t), n, mad(m, mad(m, q, r, one), r, one)};
}

static Split split_exp(const MathGen *m, E x, E tail, int64_t offset) {
    return split_exp_how(m, x, tail, offset, !m->fma);
}

/* e^-x with FMA: the bits of split_exp(-x), without a sign to change. All is computed for -r, which
 * rough takes from x in one step instead of two: 1.9e-9 n away. */
static Split split_exp_minus(const MathGen *m, E x, int64_t offset, bool rough) {
    const double *table = is_f32(m) ? EXP_F32 : EXP_F64;
    int n_terms = is_f32(m) ? TABLE_LENGTH(EXP_F32) : TABLE_LENGTH(EXP_F64);
    double magic = m->magic + (double)offset, signs[MAX_TERMS];
    for (int i = 0; i < n_terms; i++) signs[i] = i % 2 ? -table[i] : table[i];
    E t = mad(m, x, lit(m, -LOG2_E), lit(m, magic));
    E n = sub(m, t, lit(m, magic));
    E r = rough ? mad(m, n, lit(m, m->ln2_hi + m->ln2_lo), x)
                : mad(m, n, lit(m, m->ln2_lo), mad(m, n, lit(m, m->ln2_hi), x));
    E q = poly(m, signs, n_terms, r), p = mad(m, mul(m, r, r), q, k_neg(m->k, r));
    return (Split){p, bits(m, t), n, mad(m, mad(m, q, r, lit(m, -1)), r, lit(m, 1))};
}

/* 2^x, the same way */
static Split split_exp2(const MathGen *m, E x, int64_t offset) {
    double magic = m->magic + (double)offset;
    E t = add(m, x, lit(m, magic));
    E n = sub(m, t, lit(m, magic)), r = sub(m, x, n);
    E q = is_f32(m) ? POLY(m, EXP2_F32, r) : POLY(m, EXP2_F64, r);
    return (Split){mul(m, r, q), bits(m, t), n, mad(m, q, r, lit(m, 1))};
}

/* (1 + p) 2^n for a split with offset bias, whose result is a normal number. */
static E join(const MathGen *m, Split s) {
    if (m->units.ldexp) return k_ldexp(m->k, s.sum, s.n);
    E scale = scale_of(m, s.n_bits);
    return mad(m, s.p, scale, scale);
}

/* The offset that join_wide() wants. */
static int64_t wide_offset(const MathGen *m) {
    return m->units.ldexp ? 0 : 2 * m->bias;
}

/* y (1 + p) 2^n for a split with wide_offset(); y may be NULL for 1. Rounds subnormals once. What
 * is far below them is a 0 before it is scaled: an instruction that makes a 0 of a number takes a
 * hundred cycles, and masks of softmaxes are full of these. */
static E join_wide(const MathGen *m, Split s, E y) {
    if (m->units.ldexp) {
        E sum = y ? mad(m, y, s.p, y) : s.sum;
        E is_zero = lt(m, s.n, lit(m, is_f32(m) ? -151 : -1077));
        return k_ldexp(m->k, y ? sum : pick(m, is_zero, lit(m, 0), sum), s.n);
    }
    E half = k_shr(m->k, s.n_bits, ilit(m, 1));
    E s1 = scale_of(m, half), s2 = scale_of(m, k_sub(m->k, s.n_bits, half));
    E r = y        ? mul(m, mad(m, y, s.p, y), s1)
          : m->fma ? mad(m, s.p, s1, s1)
                   : mul(m, add(m, lit(m, 1), s.p), s1);
    return mul(m, r, s2);
}

static E bounded_exp(const MathGen *m, E x) {
    return join_wide(m, split_exp_how(m, x, NULL, wide_offset(m), !m->units.ldexp), NULL);
}

/* Above these e^x is a normal number. */
#define LEAST_EXP_F32 -0x1.5d589ep+6
#define LEAST_EXP_F64 -0x1.6232bdd7abcd2p+9

/* The lower bound is where n + 2 * bias is 0, and so the scale: far below the least subnormal the
 * result is a 0 that no multiplication had to round, which is slow. */
static E expand_exp(const MathGen *m, E x) {
    x = at_least(m, at_most(m, x, is_f32(m) ? 89 : 710), is_f32(m) ? -176 : -1418);
    return bounded_exp(m, x);
}

/* e^x for x <= 0. What is not 0 is normal, and so scaled at once; here an ULP's tenth does not
 * count. */
static E expand_exp_neg(const MathGen *m, E x) {
    Split s = split_exp(m, x, NULL, m->bias);
    E r = join(m, s);
    return pick(m, lt(m, x, lit(m, is_f32(m) ? LEAST_EXP_F32 : LEAST_EXP_F64)), lit(m, 0), r);
}

/* e^-|x| */
static E exp_of_minus(const MathGen *m, E x) {
    return bounded_exp(m, at_least(m, k_neg(m->k, mag(m, x)), is_f32(m) ? -176 : -1418));
}

static E expand_exp2(const MathGen *m, E x) {
    x = at_least(m, at_most(m, x, is_f32(m) ? 129 : 1025), is_f32(m) ? -254 : -2046);
    return join_wide(m, split_exp2(m, x, wide_offset(m)), NULL);
}

/* (e^x - 1) / 4 for x <= 89.5 (710); quartered so that it does not overflow where sinh does not. */
static E quarter_expm1(const MathGen *m, E x) {
    Split s = split_exp(m, x, NULL, m->bias - 2);
    E scale = scale_of(m, s.n_bits);
    return mad(m, s.p, scale, sub(m, scale, lit(m, 0.25)));
}

static double tiny_bound(const MathGen *m) { /* x^2 is nothing beside x */
    return is_f32(m) ? 0x1p-26 : 0x1p-55;
}

static E expand_expm1(const MathGen *m, E x) {
    E b = at_least(m, at_most(m, x, is_f32(m) ? 89 : 710), is_f32(m) ? -20 : -40);
    E r = mul(m, quarter_expm1(m, b), lit(m, 4));
    return pick(m, lt(m, mag(m, x), lit(m, tiny_bound(m))), x, r);
}

/* sinh a = (t + t / (t + 1)) / 2 with t = e^a - 1 */
static E expand_sinh(const MathGen *m, E x) {
    E a = mag(m, x);
    E g = quarter_expm1(m, at_most(m, a, is_f32(m) ? 89.75 : 710.6));
    E h = add(m, g, g), t = mul(m, g, lit(m, 4));
    E part = quot(m, at_most(m, h, 0x1p100), add(m, t, lit(m, 1))); /* not inf / inf */
    E r = add(m, h, part);
    r = pick(m, lt(m, a, lit(m, is_f32(m) ? 0x1p-13 : 0x1p-28)), a, r);
    return with_sign_of(m, r, x);
}

static E expand_cosh(const MathGen *m, E x) {
    Split s = split_exp(m, at_most(m, mag(m, x), is_f32(m) ? 89.75 : 710.6), NULL, m->bias - 2);
    E scale = scale_of(m, s.n_bits), w = mad(m, s.p, scale, scale); /* e^|x| / 4 */
    return add(m, add(m, w, w), quot(m, lit(m, 0.125), w));
}

/* e^2x for x >= 0.6, f32: rough where n is large, since 2 / (e^2x + 1) is small there. */
static Split split_exp_twice(const MathGen *m, E x) {
    double table[TABLE_LENGTH(EXP_F32)], magic = m->magic + (double)m->bias;
    for (int i = 0; i < TABLE_LENGTH(EXP_F32); i++) table[i] = ldexp(EXP_F32[i], i + 2);
    if (m->units.ldexp) magic = m->magic;
    E t = mad(m, x, lit(m, 2 * LOG2_E), lit(m, magic)), n = sub(m, t, lit(m, magic));
    E r = mad(m, n, lit(m, -0x1.62e42fefa39efp-2), x);
    E slope = mad(m, poly(m, table, TABLE_LENGTH(table), r), r, lit(m, 2));
    return (Split){mul(m, slope, r), bits(m, t), n, mad(m, slope, r, lit(m, 1))};
}

/* (1 + p) 2^n + 1 */
static E plus_one(const MathGen *m, Split s) {
    if (m->units.ldexp) return add(m, k_ldexp(m->k, s.sum, s.n), lit(m, 1));
    E scale = scale_of(m, s.n_bits);
    return mad(m, s.p, scale, add(m, scale, lit(m, 1)));
}

/* Small |x|: an odd polynomial (f64: t / (t + 2) with t = e^2x - 1); else 1 - 2 / (e^2|x| + 1). */
static E expand_tanh(const MathGen *m, E x) {
    E a = mag(m, x), b = at_most(m, a, is_f32(m) ? 9.25 : 19.5), small, big, b2 = add(m, b, b);
    if (is_f32(m)) {
        E z = mul(m, x, x), d = plus_one(m, split_exp_twice(m, b));
        small = mad(m, mul(m, a, z), POLY(m, TANH_F32, z), a);
        big = sub(m, lit(m, 1), quot(m, lit(m, 2), d));
        return with_sign_of(m, pick(m, lt(m, a, lit(m, 0.625)), small, big), x);
    }
    E t = mul(m, quarter_expm1(m, b2), lit(m, 4)), d = add(m, t, lit(m, 2));
    small = quot(m, t, d);
    big = sub(m, lit(m, 1), quot(m, lit(m, 2), d));
    E r = pick(m, lt(m, a, lit(m, 0.5)), small, big);
    return with_sign_of(m, pick(m, lt(m, a, lit(m, 0x1p-28)), a, r), x);
}

/* h / (h + h e^-x), with h a power of two so small that h e^-x neither overflows nor vanishes. */
static E expand_sigmoid(const MathGen *m, E x) {
    int shift = is_f32(m) ? 24 : 53;
    E h = lit(m, ldexp(1, -shift));
    x = at_least(m, at_most(m, x, is_f32(m) ? 20 : 40), is_f32(m) ? -104 : -745.5);
    Split s = m->fma ? split_exp_minus(m, x, m->bias - shift, false)
                     : split_exp(m, k_neg(m->k, x), NULL, m->bias - shift);
    E scale = scale_of(m, s.n_bits);
    return quot(m, h, add(m, mad(m, s.p, scale, h), scale));
}

/* 1 + e^-x with n in sixteenths: |r| is so small that half the polynomial does, here of
 * ROOT16_UNIT e^-r. 2^n is what lies in n's bits, added to a root of two, or infinity. */
static E rsigmoid_by_roots(const MathGen *m, E x) {
    double magic = m->magic / 16, unit = ROOT16_UNIT;
    x = at_least(m, at_most(m, x, 87), -88.725);
    E t = mad(m, x, lit(m, -LOG2_E), lit(m, magic)), n = bits(m, t);
    E r = mad(m, sub(m, t, lit(m, magic)), lit(m, m->ln2_hi + m->ln2_lo), x);
    E q = mad(m, r, lit(m, -EXP_ROOT_F32[1] * unit), lit(m, EXP_ROOT_F32[0] * unit));
    E p = mad(m, mad(m, q, r, lit(m, -unit)), r, lit(m, unit));
    E scale = k_add(m->k, k_shl(m->k, n, ilit(m, m->mantissa - 4)), k_root16(m->k, n));
    scale = k_min(m->k, scale, ilit(m, 0x7f800000));
    return mad(m, p, from_bits(m, scale), lit(m, 1));
}

/* 1 + e^-x, infinite where 2^n is. */
static E expand_rsigmoid(const MathGen *m, E x) {
    if (m->units.roots && is_f32(m)) return rsigmoid_by_roots(m, x);
    x = at_least(m, at_most(m, x, is_f32(m) ? 87 : 708), is_f32(m) ? -89 : -710);
    Split s = m->fma ? split_exp_minus(m, x, m->bias, is_f32(m))
                     : split_exp(m, k_neg(m->k, x), NULL, m->bias);
    return mad(m, s.sum, scale_of(m, s.n_bits), lit(m, 1));
}

/* ---- logarithms ------------------------------------------------------------------------------ */

/* log(u) + c for normal (or, if subnormals, any positive) u and a c that is small beside u. */
static E log_core(const MathGen *m, E u, E c, bool subnormals) {
    E lift = NULL;
    if (subnormals) {
        E is_small = lt(m, u, lit(m, is_f32(m) ? 0x1p-126 : 0x1p-1022));
        u = pick(m, is_small, mul(m, u, lit(m, ldexp(1, m->mantissa))), u);
        lift = pick(m, is_small, ilit(m, -m->mantissa), ilit(m, 0));
    }
    E i = bits(m, u), width = ilit(m, m->mantissa);
    int64_t root_half = is_f32(m) ? 0x3f3504f3 : INT64_C(0x3fe6a09e667f3bcd);
    E n = k_shr(m->k, k_sub(m->k, i, ilit(m, root_half)), width);
    E f = sub(m, from_bits(m, k_sub(m->k, i, k_shl(m->k, n, width))), lit(m, 1));
    if (lift) n = k_add(m->k, n, lift);
    E e = k_cast(m->k, m->t, n), z = mul(m, f, f), low;
    if (is_f32(m)) {
        low = mul(m, z, mad(m, f, POLY(m, LOG_F32, f), lit(m, -0.5)));
    } else {
        E s = quot(m, f, add(m, f, lit(m, 2))), s2 = mul(m, s, s), half = mul(m, z, lit(m, 0.5));
        low = sub(m, mul(m, s, add(m, half, mul(m, s2, POLY(m, LOG_F64, s2)))), half);
    }
    low = mad(m, e, lit(m, m->ln2_lo), low);
    if (c) low = add(m, low, c);
    /* high + f exactly as sum + rest: |f| < |high| unless high is 0 */
    E high = mul(m, e, lit(m, m->ln2_hi)), sum = add(m, high, f);
    E rest = sub(m, f, sub(m, sum, high));
    return add(m, sum, add(m, rest, low));
}

static E log_specials(const MathGen *m, E x, double zero_at, E r) {
    E odd = pick(m, k_eq(m->k, x, lit(m, zero_at)), lit(m, -INFINITY), lit(m, NAN));
    r = pick(m, lt(m, x, lit(m, INFINITY)), r, x);
    return pick(m, lt(m, lit(m, zero_at), x), r, odd);
}

static E expand_log(const MathGen *m, E x) {
    return log_specials(m, x, 0, log_core(m, x, NULL, true));
}

/* With u = 1 + x rounded and c what was lost: log(u) + c / u. */
static E expand_log1p(const MathGen *m, E x) {
    E u = add(m, x, lit(m, 1));
    E c = sub(m, x, sub(m, u, lit(m, 1)));
    E r = log_specials(m, x, -1, log_core(m, u, quot(m, c, u), false));
    return pick(m, lt(m, mag(m, x), lit(m, tiny_bound(m))), x, r);
}

/* max(x, 0) + log(1 + q), q = e^-|x|; f32: log(1 + q) = q + q (-q/2 + q^2 R(q)), with q added last
 */
static E expand_softplus(const MathGen *m, E x) {
    E q = exp_of_minus(m, x), over = at_least(m, x, 0);
    if (!is_f32(m)) return add(m, over, expand_log1p(m, q));
    E t = mad(m, mul(m, q, q), POLY(m, LOG1P_UNIT_F32, q), mul(m, q, lit(m, -0.5)));
    return add(m, mad(m, q, t, over), q);
}

/* asinh a = log1p(a + a^2 / (1 + sqrt(a^2 + 1))); log 2a where a^2 might overflow */
static E expand_asinh(const MathGen *m, E x) {
    E a = mag(m, x), big = lt(m, lit(m, is_f32(m) ? 0x1p40 : 0x1p300), a);
    E z = mul(m, a, a);
    E u = add(m, a, quot(m, z, add(m, lit(m, 1), k_sqrt(m->k, add(m, z, lit(m, 1))))));
    E r = add(m, expand_log1p(m, pick(m, big, a, u)), pick(m, big, lit(m, M_LN2), lit(m, 0)));
    return with_sign_of(m, r, x);
}

/* acosh x = log1p(t + sqrt(2t + t^2)) with t = x - 1; NaN below 1 comes from sqrt and log1p */
static E expand_acosh(const MathGen *m, E x) {
    E big = lt(m, lit(m, is_f32(m) ? 0x1p40 : 0x1p300), x);
    E t = sub(m, x, lit(m, 1));
    E u = add(m, t, k_sqrt(m->k, mul(m, t, add(m, t, lit(m, 2)))));
    E r = add(m, expand_log1p(m, pick(m, big, x, u)), pick(m, big, lit(m, M_LN2), lit(m, 0)));
    return pick(m, lt(m, x, lit(m, 1)), lit(m, NAN), r);
}

/* atanh a = log1p(2a / (1 - a)) / 2 */
static E expand_atanh(const MathGen *m, E x) {
    E a = mag(m, x);
    E r = expand_log1p(m, quot(m, add(m, a, a), sub(m, lit(m, 1), a)));
    r = mul(m, r, lit(m, 0.5));
    return with_sign_of(m, pick(m, lt(m, a, lit(m, is_f32(m) ? 0x1p-14 : 0x1p-28)), a, r), x);
}

/* ---- error functions ------------------------------------------------------------------------- */

/* -a^2 / 2 = h + l */
static void half_square(const MathGen *m, E a, E *h, E *l) {
    E half = lit(m, -0.5);
    if (m->fma) {
        E b = mul(m, a, half);
        *h = mul(m, a, b);
        *l = k_fma(m->k, a, b, k_neg(m->k, *h));
        return;
    }
    E mask = ilit(m, is_f32(m) ? -4096 : -(INT64_C(1) << 27));
    E top = from_bits(m, k_and(m->k, bits(m, a), mask)); /* its square is exact */
    *h = mul(m, mul(m, top, top), half);
    *l = mul(m, mul(m, sub(m, a, top), add(m, a, top)), half);
}

/* Phi(-a), Phi being the normal distribution, times a if asked: G(w) e^(-a^2/2) / (a + c), where
 * w = a / (a + c) and G is a polynomial. */
static E normal_tail(const MathGen *m, E a, bool times_a) {
    E h, l;
    half_square(m, a, &h, &l);
    E d = add(m, a, lit(m, is_f32(m) ? 2.5 : 4)), w = quot(m, a, d);
    E g = is_f32(m) ? POLY(m, NORMAL_F32, w) : POLY(m, NORMAL_F64, w);
    E y = times_a ? mul(m, g, w) : quot(m, g, d);
    return join_wide(m, split_exp(m, h, l, wide_offset(m)), y);
}

/* Phi(x), right to an ULP of 1: for f32 Phi(-|x|) is 2^q, q a polynomial in |x|. */
static E expand_normal(const MathGen *m, E x) {
    E a = mag(m, x), tail;
    if (is_f32(m)) {
        a = at_most(m, a, 6);
        tail = join(m, split_exp2(m, mad(m, a, POLY(m, LOG2NORMAL_F32, a), lit(m, -1)), m->bias));
    } else {
        tail = normal_tail(m, at_most(m, a, 8.5), false);
    }
    return pick(m, lt(m, x, lit(m, 0)), tail, sub(m, lit(m, 1), tail));
}

/* x Phi(x) = max(x, 0) - |x| Phi(-|x|); as the formula has it, NaN at -infinity */
static E expand_gelu(const MathGen *m, E x) {
    E a = at_most(m, mag(m, x), is_f32(m) ? 14.5 : 38.75);
    E y = sub(m, k_max(m->k, lit(m, -0.0), x), normal_tail(m, a, true));
    return pick(m, lt(m, x, lit(m, is_f32(m) ? -FLT_MAX : -DBL_MAX)), lit(m, NAN), y);
}

/* Small |x|: an odd polynomial. Else f32: 1 - erfc(1) 2^q, q a polynomial in |x| - 1; f64: by Phi.
 */
static E expand_erf(const MathGen *m, E x) {
    E a = mag(m, x), z = mul(m, x, x), big, small;
    if (is_f32(m)) {
        small = mad(m, x, POLY(m, ERF_F32, z), x);
        E b = sub(m, at_most(m, a, 4), lit(m, 1));
        Split s = split_exp2(m, mul(m, b, POLY(m, LOG2ERFC_F32, b)), m->bias);
        big = mad(m, join(m, s), lit(m, -0x1.4226162fbddd5p-3), lit(m, 1));
    } else {
        small = mad(m, x, POLY(m, ERF_F64, z), x);
        E tail = normal_tail(m, mul(m, at_most(m, a, 6), lit(m, M_SQRT2)), false);
        big = sub(m, lit(m, 1), add(m, tail, tail));
    }
    return pick(m, lt(m, a, lit(m, is_f32(m) ? 0.88 : 1)), small, with_sign_of(m, big, x));
}

/* ---- dispatch -------------------------------------------------------------------------------- */

static E expand(const MathGen *m, KOp op, E x, E y) {
    switch ((int)op) {
    case KO_exp: return expand_exp(m, x);
    case KO_exp_neg: return expand_exp_neg(m, x);
    case KO_exp2: return expand_exp2(m, x);
    case KO_log: return expand_log(m, x);
    case KO_pow: return math_pow(m, x, y);
    case KO_tanh: return expand_tanh(m, x);
    case KO_sinh: return expand_sinh(m, x);
    case KO_cosh: return expand_cosh(m, x);
    case KO_erf: return expand_erf(m, x);
    case KO_sigmoid: return expand_sigmoid(m, x);
    case KO_rsigmoid: return expand_rsigmoid(m, x);
    case KO_softplus: return expand_softplus(m, x);
    case KO_normal: return expand_normal(m, x);
    case KO_gelu: return expand_gelu(m, x);
    case KO_log1p: return expand_log1p(m, x);
    case KO_expm1: return expand_expm1(m, x);
    case KO_sin: return math_sin(m, x);
    case KO_cos: return math_cos(m, x);
    case KO_tan: return math_tan(m, x);
    case KO_asin: return math_asin(m, x);
    case KO_acos: return math_acos(m, x);
    case KO_atan: return math_atan(m, x);
    case KO_asinh: return expand_asinh(m, x);
    case KO_acosh: return expand_acosh(m, x);
    case KO_atanh: return expand_atanh(m, x);
    default: BUG("no expansion of %s", kop_info[op].name);
    }
}

static const KExpr *math_expand(KCtx *k, const KExpr *e, MathUnits units) {
    if (kop_info[e->op].class != KC_MATH) return e;
    bool narrow = e->dtype == DT_F16 || e->dtype == DT_BF16;
    DType t = narrow ? DT_F32 : e->dtype;
    BUG_IF(t != DT_F32 && t != DT_F64, "%s of %s", kop_info[e->op].name, dtype_info[t].name);
    MathGen m = math_gen(k, t, units);
    E x = k_cast(k, t, e->arg[0]), y = e->n_args > 1 ? k_cast(k, t, e->arg[1]) : NULL;
    return k_cast(k, e->dtype, expand(&m, e->op, x, y));
}

typedef struct Expansion {
    MathUnits units;
    uint8_t *varies; /* by variable: it differs by lane, or might */
    bool has_codes;  /* out: there are types that are stored as another one */
} Expansion;

static const KExpr *expand_node(KCtx *k, const KExpr *e, void *user) {
    Expansion *x = user;
    if (dtype_stored(e->dtype) != e->dtype) x->has_codes = true;
    if (e->op == KO_cast && (dtype_stored(e->dtype) != e->dtype ||
                             dtype_stored(e->arg[0]->dtype) != e->arg[0]->dtype))
        return code_cast(k, e->dtype, e->arg[0]);
    if (kop_info[e->op].class == KC_PAIR) return pairs_expand(k, e);
    if (x->units.fma && math_is_quotient(k, e, x->varies)) return e; /* for a cast to find */
    if (x->units.fma) e = math_expand_quotient(k, e, x->varies);
    return math_expand_rounding(k, math_expand(k, e, x->units), x->units.fma);
}

/* Expansion.varies before anything is known; the caller frees it. */
static uint8_t *no_lanes(const KCtx *k) {
    uint8_t *varies = xmalloc(kctx_n_vars(k) + 1);
    memset(varies, 0, kctx_n_vars(k) + 1);
    return varies;
}

static void note_lanes(const KBlock *b, uint8_t *varies) {
    for (const KStmt *s = b->first; s; s = s->next) {
        if (s->kind == KS_LET || (s->kind == KS_FOR && s->mark == LOOP_VECTOR))
            varies[s->var->id] = true;
        note_lanes(&s->body, varies);
        note_lanes(&s->other, varies);
    }
}

/* Has the block types that are stored as another one? */
static bool expand_block(KCtx *k, KBlock *b, MathUnits units, uint8_t *varies) {
    Expansion x = {.units = units, .varies = varies};
    note_lanes(b, varies);
    kblock_rewrite(k, b, expand_node, &x);
    return x.has_codes;
}

static MathUnits units_of(const Target *t) {
    /* 16 roots are a vector that is permuted */
    bool roots = t->fma && t->lookup && t->vector_bytes >= 64;
    return (MathUnits){t->fma, t->fma && t->ldexp, roots};
}

void kblock_expand_math(KCtx *k, KBlock *b, MathUnits units) {
    uint8_t *varies = no_lanes(k);
    if (expand_block(k, b, units, varies)) kblock_store_codes(k, b);
    free(varies);
}

void kernel_expand_math(KCtx *k, Kernel *kn, const Target *t) {
    uint8_t *varies = no_lanes(k);
    if (expand_block(k, &kn->body, units_of(t), varies)) kernel_store_codes(k, kn);
    free(varies);
}

void kmodule_expand_math(KModule *m, const Target *t) {
    bool has_codes = false;
    uint8_t *varies = no_lanes(m->k); /* one for all: no variable is in two kernels */
    for (uint32_t i = 0; i < m->n_kernels; i++)
        has_codes |= expand_block(m->k, &m->kernels[i]->body, units_of(t), varies);
    has_codes |= expand_block(m->k, &m->entry, units_of(t), varies);
    free(varies);
    for (uint32_t i = 0; i < m->n_inputs; i++)
        has_codes |= dtype_stored(m->inputs[i].dtype) != m->inputs[i].dtype;
    for (uint32_t i = 0; i < m->n_outputs; i++)
        has_codes |= dtype_stored(m->outputs[i].dtype) != m->outputs[i].dtype;
    if (has_codes) kmodule_store_codes(m);
}
