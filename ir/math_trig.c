/* Transcendental functions, part two: sine, cosine, tangent and their inverses.
 *
 * f32 reduction is right for every finite x: x * 2/pi is formed in f64 from three pieces of 2/pi
 * whose first two products with a 24-bit x are exact, and pieces whose products would be multiples
 * of 4 are left out (Payne and Hanek's idea), so that about 2^-61 of a quarter turn is known. Near 0
 * a few multiples of pi/2 are subtracted instead; the two ways are the operands of one selection, of
 * which a renderer leaves out the long one where no lane wants it. f64 subtracts n * pi/2 in three
 * parts: accurate for |x| < 2^20, less and less beyond. Inverse functions fold into [0, 1] or
 * [0, 1/2] and add pi/2 with its low part last. */
#include "ir/math_build.h"
#include "ir/math_tables.h"

static const double PI_HALF_HI[2] = {0x1.921fb6p0, 0x1.921fb54442d18p0};
static const double PI_HALF_LO[2] = {-0x1.777a5cp-25, 0x1.1a62633145c07p-54};

static double pi_half_hi(const MathGen *m) {
    return PI_HALF_HI[!is_f32(m)];
}
static double pi_half_lo(const MathGen *m) {
    return PI_HALF_LO[!is_f32(m)];
}

/* |x| = (4 turns + quadrant) * pi/2 + r + tail with |r| a little over pi/4 at most. */
typedef struct Angle {
    E r, tail, quadrant; /* quadrant: i32, only its low two bits count; tail: below r's precision */
} Angle;

/* i-th piece of 2/pi for this |x|, an f64 expression */
static E two_over_pi(const MathGen *d, E a, int i) {
    static const double below[4] = {0x1p48, 0x1p72, 0x1p96, 0x1p120};
    E r = lit(d, TWO_OVER_PI[4][i]);
    for (int w = 3; w >= 0; w--)
        r = pick(d, lt(d, a, lit(d, below[w])), lit(d, TWO_OVER_PI[w][i]), r);
    return r;
}

static Angle reduce_f32(const MathGen *m, E x) {
    MathGen wide = math_gen(m->k, DT_F64, m->units), *d = &wide;
    E a = k_cast(m->k, DT_F64, mag(m, x));
    E y0 = mul(d, a, two_over_pi(d, a, 0)), y1 = mul(d, a, two_over_pi(d, a, 1));
    E n0 = k_rint(m->k, y0), n1 = k_rint(m->k, y1);
    E s = add(d, sub(d, y0, n0), sub(d, y1, n1)), n2 = k_rint(m->k, s);
    E f = add(d, sub(d, s, n2), mul(d, a, two_over_pi(d, a, 2)));
    /* n0 may have 48 bits */
    E n0_turn = sub(d, n0, mul(d, k_floor(m->k, mul(d, n0, lit(d, 0.25))), lit(d, 4)));
    E n = add(d, add(d, n0_turn, n1), n2);
    E wide_r = mul(d, f, lit(d, M_PI_2)), r = k_cast(m->k, DT_F32, wide_r);
    E tail = k_cast(m->k, DT_F32, sub(d, wide_r, k_cast(m->k, DT_F64, r)));
    return (Angle){r, tail, k_cast(m->k, DT_I32, n)};
}

/* |x| below this is near: n has 13 bits then. */
static const double NEAR = 8192;

/* n, whose low bits are those of a sum with the large number */
static E quarters_of(const MathGen *m, E a, E *low_bits) {
    E large = mad(m, a, lit(m, M_2_PI), lit(m, m->magic));
    *low_bits = bits(m, large);
    return sub(m, large, lit(m, m->magic));
}

/* a - n * pi/2 of a near 0, by multiply-adds: the first is exact, and the second loses no more than
 * the tail can hold, since pi/2's second part has 10 bits. */
static Angle reduce_near_fused(const MathGen *m, E a) {
    static const double part[3] = {0x1.921fb6p0, -0x1.778p-25, 0x1.68c234p-39};
    E low, n = k_neg(m->k, quarters_of(m, a, &low));
    E s = mad(m, n, lit(m, part[0]), a), r = mad(m, n, lit(m, part[1]), s);
    E lost = mad(m, n, lit(m, part[1]), sub(m, s, r));
    return (Angle){r, mad(m, n, lit(m, part[2]), lost), low};
}

/* The same in f64, whose product of n with 33 bits is exact. */
static Angle reduce_near_wide(const MathGen *m, E x) {
    MathGen wide = math_gen(m->k, DT_F64, m->units), *d = &wide;
    E low, a = k_cast(m->k, DT_F64, x), n = quarters_of(d, a, &low);
    E s = sub(d, a, mul(d, n, lit(d, PI_HALF_PARTS[0])));
    E wide_r = sub(d, s, mul(d, n, lit(d, 0x1.0b4611a626331p-34)));
    E r = k_cast(m->k, DT_F32, wide_r);
    E tail = k_cast(m->k, DT_F32, sub(d, wide_r, k_cast(m->k, DT_F64, r)));
    return (Angle){r, tail, k_cast(m->k, DT_I32, low)};
}

static Angle reduce_near(const MathGen *m, E x) {
    return m->fma ? reduce_near_fused(m, mag(m, x)) : reduce_near_wide(m, mag(m, x));
}

static Angle reduce_f64(const MathGen *m, E x) {
    E a = mag(m, x), n = k_rint(m->k, mul(m, a, lit(m, M_2_PI)));
    E s = sub(m, a, mul(m, n, lit(m, PI_HALF_PARTS[0])));
    E w = mul(m, n, lit(m, PI_HALF_PARTS[1])), v = sub(m, s, w);
    E lost = sub(m, sub(m, sub(m, s, v), w), mul(m, n, lit(m, PI_HALF_PARTS[2])));
    E r = add(m, v, lost), tail = add(m, sub(m, v, r), lost);
    E turn = sub(m, n, mul(m, k_floor(m->k, mul(m, n, lit(m, 0.25))), lit(m, 4)));
    return (Angle){r, tail, k_cast(m->k, DT_I32, turn)};
}

static E sin_poly(const MathGen *m, Angle g) {
    E z = mul(m, g.r, g.r), p = is_f32(m) ? POLY(m, SIN_F32, z) : POLY(m, SIN_F64, z);
    return add(m, g.r, mad(m, mul(m, g.r, z), p, g.tail));
}

static E cos_poly(const MathGen *m, Angle g) {
    E z = mul(m, g.r, g.r), p = is_f32(m) ? POLY(m, COS_F32, z) : POLY(m, COS_F64, z);
    E half = mul(m, z, lit(m, 0.5)), one = lit(m, 1), w = sub(m, one, half);
    E lost = sub(m, sub(m, sub(m, one, w), half), mul(m, g.r, g.tail));
    return add(m, w, mad(m, mul(m, z, z), p, lost));
}

static E bit_set(const MathGen *m, E i, int64_t bit) {
    KCtx *k = m->k;
    return k_ne(k, k_and(k, i, k_const_i(k, DT_I32, bit)), k_const_i(k, DT_I32, 0));
}

/* sin of the angle advanced by `quarters` */
static E sin_of_angle(const MathGen *m, Angle g, int quarters) {
    E q = k_add(m->k, g.quadrant, k_const_i(m->k, DT_I32, quarters));
    E v = pick(m, bit_set(m, q, 1), cos_poly(m, g), sin_poly(m, g));
    return pick(m, bit_set(m, q, 2), k_neg(m->k, v), v);
}

static E flip_sign_by(const MathGen *m, E r, E x) {
    return from_bits(m, k_xor(m->k, bits(m, r), sign_bit(m, x)));
}

/* What `of` makes of x's angle. */
static E by_angle(const MathGen *m, E x, E (*of)(const MathGen *m, Angle g)) {
    if (!is_f32(m)) return of(m, reduce_f64(m, x));
    E is_near = lt(m, mag(m, x), lit(m, NEAR));
    return pick(m, is_near, of(m, reduce_near(m, x)), of(m, reduce_f32(m, x)));
}

static E sin_of(const MathGen *m, Angle g) {
    return sin_of_angle(m, g, 0);
}

static E cos_of(const MathGen *m, Angle g) {
    return sin_of_angle(m, g, 1);
}

static E tan_of(const MathGen *m, Angle g) {
    E s = sin_poly(m, g), c = cos_poly(m, g), odd = bit_set(m, g.quadrant, 1);
    return quot(m, pick(m, odd, k_neg(m->k, c), s), pick(m, odd, s, c));
}

E math_sin(const MathGen *m, E x) {
    return flip_sign_by(m, by_angle(m, x, sin_of), x);
}

E math_cos(const MathGen *m, E x) {
    return by_angle(m, x, cos_of);
}

E math_tan(const MathGen *m, E x) {
    return flip_sign_by(m, by_angle(m, x, tan_of), x);
}

/* atan of t in [0, 1], or of -1/x + pi/2 for x above 1 */
E math_atan(const MathGen *m, E x) {
    E a = mag(m, x), big = lt(m, lit(m, 1), a);
    E t = pick(m, big, quot(m, lit(m, -1), a), a), z = mul(m, t, t);
    E u = mul(m, mul(m, t, z), is_f32(m) ? POLY(m, ATAN_F32, z) : POLY(m, ATAN_F64, z));
    E base = add(m, pick(m, big, lit(m, pi_half_hi(m)), lit(m, 0)), t);
    E r = add(m, base, add(m, u, pick(m, big, lit(m, pi_half_lo(m)), lit(m, 0))));
    return with_sign_of(m, r, x);
}

/* asin a for a <= 1/2 as p; above, p = asin(sqrt((1 - a) / 2)) and asin a = pi/2 - 2p. */
static E asin_part(const MathGen *m, E a, E *big) {
    *big = lt(m, lit(m, 0.5), a);
    E z = pick(m, *big, mul(m, sub(m, lit(m, 1), a), lit(m, 0.5)), mul(m, a, a));
    E s = pick(m, *big, k_sqrt(m->k, z), a);
    return mad(m, mul(m, s, z), is_f32(m) ? POLY(m, ASIN_F32, z) : POLY(m, ASIN_F64, z), s);
}

E math_asin(const MathGen *m, E x) {
    E big, a = mag(m, x), p = asin_part(m, a, &big);
    E far = sub(m, lit(m, pi_half_hi(m)), sub(m, add(m, p, p), lit(m, pi_half_lo(m))));
    return with_sign_of(m, pick(m, big, far, p), x);
}

/* pi/2 - asin x; 2p and pi - 2p in the outer half */
E math_acos(const MathGen *m, E x) {
    E big, a = mag(m, x), p = asin_part(m, a, &big), p2 = add(m, p, p);
    E hi = lit(m, pi_half_hi(m)), lo = lit(m, pi_half_lo(m));
    E negative = lt(m, x, lit(m, 0));
    E signed_p = pick(m, negative, k_neg(m->k, p), p);
    E inner = sub(m, hi, sub(m, signed_p, lo));
    E far = sub(m, lit(m, 2 * pi_half_hi(m)), sub(m, p2, lit(m, 2 * pi_half_lo(m))));
    return pick(m, big, pick(m, negative, far, p2), inner);
}
