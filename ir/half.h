/* 16-bit floats in plain C: conversions that round to nearest even, once. */
#ifndef SMELT_IR_HALF_H
#define SMELT_IR_HALF_H

#include <math.h>
#include <stdint.h>
#include <string.h>

static inline float float_from_bfloat(uint16_t h) {
    uint32_t b = (uint32_t)h << 16;
    float f;
    memcpy(&f, &b, sizeof f);
    return f;
}

static inline uint16_t bfloat_from_float(float f) {
    uint32_t b;
    memcpy(&b, &f, sizeof b);
    if ((b & 0x7fffffffu) > 0x7f800000u) return (uint16_t)((b | 0x400000u) >> 16);
    return (uint16_t)((b + 0x7fffu + (b >> 16 & 1u)) >> 16);
}

static inline float float_from_half(uint16_t h) {
    uint32_t size = h & 0x7fffu, sign = (uint32_t)(h & 0x8000u) << 16, b;
    float f;
    b = size << 13;
    memcpy(&f, &b, sizeof f);
    f *= 0x1p112f; /* moves the exponent; exact, also from subnormals */
    memcpy(&b, &f, sizeof b);
    if (size > 0x7bffu) b = size << 13 | 0x7f800000u;
    b |= sign;
    memcpy(&f, &b, sizeof f);
    return f;
}

static inline uint16_t half_from_float(float f) {
    uint32_t b, sign;
    memcpy(&b, &f, sizeof b);
    sign = b >> 16 & 0x8000u;
    b &= 0x7fffffffu;
    if (b > 0x7f800000u) return (uint16_t)(sign | 0x7e00u);
    if (b >= 0x477ff000u) return (uint16_t)(sign | 0x7c00u); /* 65520 and more */
    if (b < 0x38800000u) { /* below 2^-14: 0.5 aligns the last bits */
        memcpy(&f, &b, sizeof f);
        f += 0.5f;
        memcpy(&b, &f, sizeof b);
        return (uint16_t)(sign | (b - 0x3f000000u));
    }
    return (uint16_t)(sign | (b - (112u << 23) + 0xfffu + (b >> 13 & 1u)) >> 13);
}

/* Rounded to odd: a further rounding to 16 bits then gives what one rounding would have. */
static inline float float_from_double_odd(double d) {
    float f = (float)d;
    double back = fabs((double)f), size = fabs(d);
    uint32_t b;
    memcpy(&b, &f, sizeof b);
    if (back != size && d == d && !(b & 1u)) b += back < size ? 1u : UINT32_MAX;
    memcpy(&f, &b, sizeof f);
    return f;
}
/* 64-bit integers likewise: what does not fit is folded into the last bit that does. */
static inline double double_from_unsigned_odd(uint64_t v) {
    if (v >> 53) v = (v & ~UINT64_C(0x7ff)) | (v & 0x7ffu ? 0x800u : 0u);
    return (double)v;
}
static inline double double_from_signed_odd(int64_t v) {
    if (v >= 0) return double_from_unsigned_odd((uint64_t)v);
    return -double_from_unsigned_odd(0 - (uint64_t)v);
}

#endif
