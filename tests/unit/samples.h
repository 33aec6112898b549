/* Elements of every dtype for tests of arithmetic: values at the edges, how they lie in memory, and
 * what rounding and wrapping around make of them, by other means than the product's. */
#ifndef SMELT_TESTS_UNIT_SAMPLES_H
#define SMELT_TESTS_UNIT_SAMPLES_H

#include <math.h>
#include <string.h>

#include "ir/dtype.h"

enum { N = 96 }; /* elements of every test vector: divisible by all numbers of lanes */

/* d rounded to a binary float with `digits` significant bits and smallest step 2^low, largest
 * `top`. */
static inline double round_binary(double d, int digits, int low, double top) {
    if (isnan(d) || isinf(d) || d == 0) return d;
    int e = ilogb(d) - (digits - 1);
    if (e < low) e = low;
    double r = scalbn(nearbyint(scalbn(d, -e)), e);
    return fabs(r) > top ? copysign(INFINITY, d) : copysign(r, d);
}

static inline double round_float(DType t, double d) {
    if (t == DT_F16) return round_binary(d, 11, -24, 65504);
    if (t == DT_BF16) return round_binary(d, 8, -133, 0x1.fep127);
    return t == DT_F32 ? (double)(float)d : d;
}

static inline double f16_value(uint16_t h) {
    int e = h >> 10 & 31, m = h & 1023;
    double v = e == 31 ? (m ? NAN : INFINITY) : e ? ldexp(1024 + m, e - 25) : ldexp(m, -24);
    return h >> 15 ? -v : v;
}

static inline uint16_t f16_bits(double v) {
    uint16_t sign = signbit(v) ? 0x8000 : 0;
    v = fabs(v);
    if (isnan(v)) return 0x7e00 | sign;
    if (isinf(v)) return 0x7c00 | sign;
    if (v < 0x1p-14) return (uint16_t)(sign | (int)(v * 0x1p24));
    int e = ilogb(v);
    return (uint16_t)(sign | (e + 15) << 10 | ((int)scalbn(v, 10 - e) & 1023));
}

/* An element: int64 (integers, sign- or zero-extended bits) or double. */
typedef struct Val {
    int64_t i;
    double f;
} Val;

static inline Val read_element(DType t, const void *at, int i) {
    Val v = {0, 0};
    float f;
    uint16_t h;
    switch (t) {
    case DT_F32:
        memcpy(&f, (const char *)at + 4 * i, 4);
        v.f = (double)f;
        break;
    case DT_F64: memcpy(&v.f, (const char *)at + 8 * i, 8); break;
    case DT_F16:
        memcpy(&h, (const char *)at + 2 * i, 2);
        v.f = f16_value(h);
        break;
    case DT_BF16: {
        memcpy(&h, (const char *)at + 2 * i, 2);
        uint32_t w = (uint32_t)h << 16;
        memcpy(&f, &w, 4);
        v.f = (double)f;
        break;
    }
    case DT_I8: v.i = ((const int8_t *)at)[i]; break;
    case DT_I16: v.i = ((const int16_t *)at)[i]; break;
    case DT_U16: v.i = ((const uint16_t *)at)[i]; break;
    case DT_I32: v.i = ((const int32_t *)at)[i]; break;
    case DT_U32: v.i = ((const uint32_t *)at)[i]; break;
    case DT_I64:
    case DT_U64: v.i = ((const int64_t *)at)[i]; break;
    default: v.i = ((const uint8_t *)at)[i]; break;
    }
    return v;
}

static inline void write_element(DType t, void *at, int i, Val v) {
    float f = (float)v.f;
    uint16_t h;
    uint32_t w;
    if (t == DT_F32)
        memcpy((char *)at + 4 * i, &f, 4);
    else if (t == DT_F64)
        memcpy((char *)at + 8 * i, &v.f, 8);
    else if (t == DT_F16)
        h = f16_bits(v.f), memcpy((char *)at + 2 * i, &h, 2);
    else if (t == DT_BF16)
        memcpy(&w, &f, 4), h = (uint16_t)(w >> 16), memcpy((char *)at + 2 * i, &h, 2);
    else
        memcpy((char *)at + dtype_bytes(t) * i, &v.i,
               (size_t)dtype_bytes(t)); /* little endian host */
}

static inline int64_t wrap(DType t, uint64_t v) {
    int bits = dtype_info[t].bits;
    if (t == DT_BOOL) return (int64_t)(v & 1);
    if (bits == 64) return (int64_t)v;
    uint64_t low = v & ((UINT64_C(1) << bits) - 1);
    return dtype_is_signed(t) && low >> (bits - 1) ? (int64_t)(low - (UINT64_C(1) << bits))
                                                   : (int64_t)low;
}

static inline bool same(DType t, Val a, Val b) {
    if (!dtype_is_float(t)) return a.i == b.i;
    if (isnan(a.f) || isnan(b.f)) return isnan(a.f) && isnan(b.f);
    return a.f == b.f && signbit(a.f) == signbit(b.f);
}

static uint64_t seed = 1;

static inline uint64_t next_random(void) {
    seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
    return seed >> 11 ^ seed << 40;
}

/* Edge values first, then random ones of all sizes. */
static inline Val sample(DType t, int i, int salt) {
    static const double floats[] = {0,
                                    -0.0,
                                    1,
                                    -1,
                                    0.5,
                                    -0.5,
                                    1.5,
                                    2.5,
                                    -2.5,
                                    3.7,
                                    -3.7,
                                    1e-40,
                                    -1e-40,
                                    5e-324,
                                    1e30,
                                    -1e30,
                                    8388607.5,
                                    4503599627370495.5,
                                    65504,
                                    65519,
                                    65520,
                                    6e-8,
                                    2147483648.0,
                                    -2147483648.0,
                                    4294967296.0,
                                    9223372036854775808.0,
                                    255.5,
                                    -129,
                                    (double)INFINITY,
                                    -(double)INFINITY,
                                    (double)NAN,
                                    0x1.002p0,
                                    0x1.003p0};
    enum { N_FLOATS = sizeof floats / sizeof floats[0] };
    Val v = {0, 0};
    int at = (i * (salt + 1) + salt * 7) % N;
    if (dtype_is_float(t)) {
        v.f = at < N_FLOATS
                  ? floats[at]
                  : (double)(int64_t)next_random() * exp2((double)(next_random() % 80) - 90);
        v.f = round_float(t, v.f);
        return v;
    }
    static const int64_t ints[] = {
        0,         1,   -1,    2,      -2,    7,         -7,        127,        128,
        -128,      255, 32767, -32768, 65535, INT32_MAX, INT32_MIN, UINT32_MAX, INT64_MAX,
        INT64_MIN, 31,  32,    63,     64,    8,         16,        3};
    enum { N_INTS = sizeof ints / sizeof ints[0] };
    v.i = wrap(t, at < N_INTS ? (uint64_t)ints[at] : next_random() >> next_random() % 64);
    return v;
}

static inline void fill(DType t, void *at, int salt) {
    for (int i = 0; i < N; i++) write_element(t, at, i, sample(t, i, salt));
}

#endif
