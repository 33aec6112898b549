/* Internal to math*.c: one struct that knows the format being computed in, and short names for the
 * constructors, so that an expansion reads like the formula it implements. */
#ifndef SMELT_IR_MATH_BUILD_H
#define SMELT_IR_MATH_BUILD_H

#include <math.h>

#include "ir/math.h"

typedef const KExpr *E;

typedef struct MathGen {
    KCtx *k;
    MathUnits units;
    bool fma; /* units.fma */
    DType t, it;  /* F32 and I32, or F64 and I64 */
    int mantissa; /* stored bits of the significand */
    int64_t bias; /* of the exponent */
    double
        magic; /* 1.5 * 2^mantissa: adding it rounds to an integer, which lands in the low bits */
    double ln2_hi, ln2_lo; /* ln2_hi has so few bits that its product with an exponent is exact */
} MathGen;

static inline MathGen math_gen(KCtx *k, DType t, MathUnits units) {
    if (t == DT_F32)
        return (MathGen){
            k,   units,    units.fma,  DT_F32,     DT_I32, 23,
            127, 0x1.8p23, 0x1.62e4p-1, 0x1.7f7d1cf79abcap-20};
    return (MathGen){
        k,    units,    units.fma,      DT_F64,     DT_I64, 52,
        1023, 0x1.8p52, 0x1.62e42feep-1, 0x1.a39ef35793c76p-33};
}

static inline bool is_f32(const MathGen *m) {
    return m->t == DT_F32;
}
static inline E lit(const MathGen *m, double v) {
    return k_const_f(m->k, m->t, v);
}
static inline E ilit(const MathGen *m, int64_t v) {
    return k_const_i(m->k, m->it, v);
}
static inline E add(const MathGen *m, E a, E b) {
    return k_add(m->k, a, b);
}
static inline E sub(const MathGen *m, E a, E b) {
    return k_sub(m->k, a, b);
}
static inline E mul(const MathGen *m, E a, E b) {
    return k_mul(m->k, a, b);
}
static inline E quot(const MathGen *m, E a, E b) {
    return k_div(m->k, a, b);
}
/* a * b + c, fused when the target is. */
static inline E mad(const MathGen *m, E a, E b, E c) {
    return m->fma ? k_fma(m->k, a, b, c) : k_add(m->k, k_mul(m->k, a, b), c);
}
static inline E pick(const MathGen *m, E cond, E a, E b) {
    return k_select(m->k, cond, a, b);
}
static inline E lt(const MathGen *m, E a, E b) {
    return k_lt(m->k, a, b);
}
static inline E mag(const MathGen *m, E a) {
    return k_abs(m->k, a);
}
/* min and max with a bound that let a NaN in x through */
static inline E at_most(const MathGen *m, E x, double bound) {
    return k_min(m->k, lit(m, bound), x);
}
static inline E at_least(const MathGen *m, E x, double bound) {
    return k_max(m->k, lit(m, bound), x);
}
static inline E bits(const MathGen *m, E x) {
    return k_bitcast(m->k, m->it, x);
}
static inline E from_bits(const MathGen *m, E i) {
    return k_bitcast(m->k, m->t, i);
}
static inline E sign_bit(const MathGen *m, E x) {
    return k_and(m->k, bits(m, x), ilit(m, is_f32(m) ? INT32_MIN : INT64_MIN));
}
/* r >= 0 with the sign of x */
static inline E with_sign_of(const MathGen *m, E r, E x) {
    return from_bits(m, k_or(m->k, bits(m, r), sign_bit(m, x)));
}
/* p[0] + p[1] x + ... + p[n-1] x^(n-1) by Horner's rule */
static inline E poly(const MathGen *m, const double *p, int n, E x) {
    E r = lit(m, p[n - 1]);
    for (int i = n - 2; i >= 0; i--) r = mad(m, r, x, lit(m, p[i]));
    return r;
}
#define TABLE_LENGTH(table) ((int)(sizeof(table) / sizeof *(table)))
#define POLY(m, table, x) poly((m), (table), TABLE_LENGTH(table), (x))
enum { MAX_TERMS = 16 };

/* math_trig.c; x and the result are f32 or f64 */
E math_sin(const MathGen *m, E x);
E math_cos(const MathGen *m, E x);
E math_tan(const MathGen *m, E x);
E math_asin(const MathGen *m, E x);
E math_acos(const MathGen *m, E x);
E math_atan(const MathGen *m, E x);
/* math_pow.c */
E math_pow(const MathGen *m, E x, E y);

#endif
