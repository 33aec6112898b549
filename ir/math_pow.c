/* Transcendental functions, part three: x^y = 2^(y log2 x), with C's special cases.
 *
 * y log x may be 700 and more, so the logarithm needs ten bits beyond the result's. f32 takes them
 * from f64; f64 carries a logarithm as an unevaluated sum of two numbers ("double-double"). */
#include <stdlib.h>

#include "ir/math_build.h"
#include "ir/math_tables.h"

/* x = 2^e (1 + f) for positive normal f64 x */
static void split_f64(const MathGen *d, E x, E *e, E *f) {
    KCtx *k = d->k;
    E i = bits(d, x), width = ilit(d, 52);
    E n = k_shr(k, k_sub(k, i, ilit(d, INT64_C(0x3fe6a09e667f3bcd))), width);
    *f = sub(d, from_bits(d, k_sub(k, i, k_shl(k, n, width))), lit(d, 1));
    *e = k_cast(k, DT_F64, k_cast(k, DT_I32, n));
}

/* y log2(a) in f64 with some 40 bits, and 2^ of it */
static E power_in_f64(const MathGen *d, E a, E y) {
    E e, f;
    split_f64(d, a, &e, &f);
    E s = quot(d, f, add(d, f, lit(d, 2))), z = mul(d, s, s);
    E ln = mad(d, mul(d, s, z), POLY(d, LOG_POW, z), add(d, s, s));
    E l = mad(d, ln, lit(d, M_LOG2E), e);
    l = pick(d, lt(d, lit(d, 0), a), l, lit(d, -INFINITY));
    l = pick(d, lt(d, a, lit(d, INFINITY)), l, lit(d, INFINITY));
    E p = pick(d, k_eq(d->k, l, lit(d, 0)), l, mul(d, y, l)); /* 1^inf is 1 */
    p = at_least(d, at_most(d, p, 200), -200);
    E t = add(d, p, lit(d, d->magic)), r = sub(d, p, sub(d, t, lit(d, d->magic)));
    E q = mad(d, r, POLY(d, EXP2_POW, r), lit(d, 1));
    E n = k_shl(d->k, bits(d, t), ilit(d, 52));
    return from_bits(d, k_add(d->k, bits(d, q), n));
}

/* ---- double-double --------------------------------------------------------------------------- */

typedef struct Pair {
    E hi, lo;
} Pair;

static E upper_half(const MathGen *d, E a) {
    return from_bits(d, k_and(d->k, bits(d, a), ilit(d, -(INT64_C(1) << 27))));
}

/* a * b exactly */
static Pair two_product(const MathGen *d, E a, E b) {
    E p = mul(d, a, b);
    if (d->fma) return (Pair){p, k_fma(d->k, a, b, k_neg(d->k, p))};
    E ah = upper_half(d, a), al = sub(d, a, ah), bh = upper_half(d, b), bl = sub(d, b, bh);
    E r = sub(d, mul(d, ah, bh), p);
    r = add(d, add(d, r, mul(d, ah, bl)), mul(d, al, bh));
    return (Pair){p, add(d, r, mul(d, al, bl))};
}

/* a + b exactly, where |a| >= |b| or a is 0 */
static Pair fast_sum(const MathGen *d, E a, E b) {
    E s = add(d, a, b);
    return (Pair){s, sub(d, b, sub(d, s, a))};
}

/* The product of two pairs, and the sum of two when |a| >= |b|, to about 100 bits. */
static Pair pair_product(const MathGen *d, Pair a, Pair b) {
    Pair p = two_product(d, a.hi, b.hi);
    E cross = add(d, mul(d, a.hi, b.lo), mul(d, a.lo, b.hi));
    return fast_sum(d, p.hi, add(d, p.lo, cross));
}
static Pair pair_sum(const MathGen *d, Pair a, Pair b) {
    Pair s = fast_sum(d, a.hi, b.hi);
    return fast_sum(d, s.hi, add(d, s.lo, add(d, a.lo, b.lo)));
}

/* log(a) = e ln2 + 2s + s^3 (2/3 + s^2 C(s^2)), s = f / (2 + f) */
static Pair log_pair(const MathGen *d, E a) {
    E is_small = lt(d, a, lit(d, 0x1p-1022)), e, f, two = lit(d, 2);
    a = pick(d, is_small, mul(d, a, lit(d, 0x1p54)), a);
    split_f64(d, a, &e, &f);
    e = add(d, e, pick(d, is_small, lit(d, -54), lit(d, 0)));
    Pair u = fast_sum(d, two, f), s = {.hi = quot(d, f, u.hi)};
    Pair back = two_product(d, s.hi, u.hi);
    s.lo = quot(d, sub(d, sub(d, sub(d, f, back.hi), back.lo), mul(d, s.hi, u.lo)), u.hi);
    Pair z = pair_product(d, s, s);
    E tail = mul(d, z.hi, POLY(d, LOG_DD, z.hi));
    Pair c = fast_sum(d, lit(d, 0x1.5555555555555p-1), add(d, tail, lit(d, 0x1.5555555555555p-55)));
    Pair cube = pair_product(d, pair_product(d, s, z), c);
    Pair ln = pair_sum(d, (Pair){add(d, s.hi, s.hi), add(d, s.lo, s.lo)}, cube);
    Pair whole = {mul(d, e, lit(d, d->ln2_hi)), mul(d, e, lit(d, d->ln2_lo))};
    E ln2_third = lit(d, 0x1.cc01f97b57a08p-87);
    Pair top = fast_sum(d, whole.hi, ln.hi);
    E rest = add(d, mad(d, e, ln2_third, top.lo), ln.lo);
    return fast_sum(d, top.hi, add(d, whole.lo, rest));
}

static E power_in_pairs(const MathGen *d, E a, E y) {
    Pair l = log_pair(d, a);
    E one = lit(d, 1), is_one = k_eq(d->k, a, one);
    E bound = lit(d, INFINITY), zero = lit(d, 0);
    l.hi = pick(d, lt(d, zero, a), l.hi, lit(d, -INFINITY));
    l.hi = pick(d, lt(d, a, bound), l.hi, bound);
    /* outside of this range the result is 0 or infinite, or 1 within half an ulp */
    E rough = pick(d, is_one, zero, mul(d, y, l.hi));
    E usual = k_and(d->k, lt(d, mag(d, rough), lit(d, 800)), lt(d, lit(d, 0x1p-60), mag(d, rough)));
    Pair p = two_product(d, y, l.hi);
    E lo = pick(d, usual, mad(d, y, l.lo, p.lo), zero);
    E x = at_least(d, at_most(d, rough, 710), -746);
    lo = pick(d, lt(d, mag(d, rough), lit(d, 709.9)), lo,
              pick(d, lt(d, mag(d, rough), lit(d, 745.9)), lo, zero));
    /* e^(x + lo), scaled in two steps */
    double magic = d->magic + 2.0 * (double)d->bias;
    E t = mad(d, x, lit(d, M_LOG2E), lit(d, magic)), n = sub(d, t, lit(d, magic));
    E r = add(d, mad(d, n, lit(d, -d->ln2_hi), x), lo);
    r = mad(d, n, lit(d, -d->ln2_lo), r);
    E q = mad(d, mul(d, r, r), POLY(d, EXP_F64, r), r);
    E half = k_shr(d->k, bits(d, t), ilit(d, 1)), width = ilit(d, 52);
    E s1 = from_bits(d, k_shl(d->k, half, width));
    E s2 = from_bits(d, k_shl(d->k, k_sub(d->k, bits(d, t), half), width));
    return mul(d, mad(d, q, s1, s1), s2);
}

/* ---- constant exponents ---------------------------------------------------------------------- */

/* The root, but of -inf and -0 what pow gives: inf and 0. */
static E root(const MathGen *d, E x) {
    E bound = lit(d, INFINITY), is_least = k_eq(d->k, x, lit(d, -INFINITY));
    return pick(d, is_least, bound, k_sqrt(d->k, add(d, x, lit(d, 0))));
}

/* x^(twice/2) by squaring. */
static E product_power(const MathGen *d, E x, int twice) {
    int n = abs(twice);
    E r = n % 2 ? root(d, x) : NULL, square = n % 2 ? root(d, x) : x;
    if (n % 2) square = mul(d, square, square);
    for (n /= 2; n; n /= 2) {
        if (n % 2) r = r ? mul(d, r, square) : square;
        if (n > 1) square = mul(d, square, square);
    }
    return twice < 0 ? quot(d, lit(d, 1), r) : r;
}

/* Powers that need neither logarithm: 1/x and the root, and for f32, with products in f64, all
 * halves up to MOST; NULL for others. */
static E constant_power(const MathGen *m, E x, E y) {
    enum { MOST = 64 };
    if (y->op != KO_const_f) return NULL;
    double twice = 2 * y->u.f;
    if (twice == -2) return quot(m, lit(m, 1), x);
    if (twice == 1) return root(m, x);
    if (!is_f32(m) || twice != trunc(twice) || twice == 0 || fabs(twice) > 2 * MOST) return NULL;
    MathGen wide = math_gen(m->k, DT_F64, m->units);
    return k_cast(m->k, DT_F32, product_power(&wide, k_cast(m->k, DT_F64, x), (int)twice));
}

E math_pow(const MathGen *m, E x, E y) {
    KCtx *k = m->k;
    E known = constant_power(m, x, y);
    if (known) return known;
    E a = mag(m, x), zero = lit(m, 0), one = lit(m, 1), r;
    if (is_f32(m)) {
        MathGen wide = math_gen(k, DT_F64, m->units);
        r = k_cast(k, DT_F32, power_in_f64(&wide, k_cast(k, DT_F64, a), k_cast(k, DT_F64, y)));
    } else {
        r = power_in_pairs(m, a, y);
    }
    E half = mul(m, y, lit(m, 0.5));
    E whole = k_eq(k, k_trunc(k, y), y);
    E odd = k_and(k, whole, k_ne(k, k_trunc(k, half), half));
    E negative = lt(m, bits(m, x), ilit(m, 0));
    r = pick(m, k_and(k, odd, negative), k_neg(k, r), r);
    E no_root = k_and(k, k_and(k, lt(m, x, zero), k_not(k, whole)), lt(m, a, lit(m, INFINITY)));
    r = pick(m, no_root, lit(m, NAN), r);
    r = pick(m, k_or(k, k_ne(k, x, x), k_ne(k, y, y)), add(m, x, y), r);
    return pick(m, k_or(k, k_eq(k, x, one), k_eq(k, y, zero)), one, r);
}
