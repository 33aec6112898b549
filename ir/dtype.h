/* Element types, from dtype.def. */
#ifndef SMELT_IR_DTYPE_H
#define SMELT_IR_DTYPE_H

#include <stdbool.h>
#include <stdint.h>

typedef enum DType {
    DT_NONE,
#define DTYPE(name, text, onnx, bits, kind, ctype, stored) DT_##name,
#include "ir/dtype.def"
#undef DTYPE
    DT_COUNT
} DType;

typedef enum {
    DK_NONE,
    DK_FLOAT,
    DK_SINT,
    DK_UINT,
    DK_BOOL,
    DK_STRING,
    DK_CODE,
    DK_COMPLEX
} DTypeKind;

typedef struct DTypeInfo {
    const char *name, *c_type;
    int onnx; /* TensorProto.DataType */
    int bits; /* of the value; dtype_bytes() is what it takes in memory */
    DTypeKind kind;
    DType stored; /* what kernels load and store */
} DTypeInfo;

extern const DTypeInfo dtype_info[DT_COUNT];

_Static_assert(DT_COUNT <= 32, "sets of dtypes are 32-bit masks");

/* DT_NONE when there is no such type. */
DType dtype_from_onnx(int64_t onnx);
DType dtype_from_name(const char *name);

/* Files pack elements of fewer than 8 bits, the first in the low bits: n of them from packed bytes
 * to one byte each, and the other way (the last byte is filled with zero bits). */
void dtype_unpack(DType t, const uint8_t *packed, uint64_t n, uint8_t *out);
void dtype_pack(DType t, const uint8_t *elements, uint64_t n, uint8_t *packed);
/* Bytes that n elements take packed; those of 8 bits and more are not. */
static inline uint64_t dtype_packed_bytes(DType t, uint64_t n) {
    unsigned bits = (unsigned)dtype_info[t].bits;
    return n / 8 * bits + (n % 8 * bits + 7) / 8;
}

static inline int dtype_bytes(DType t) {
    return (dtype_info[t].bits + 7) / 8;
}
/* The type that an element is in memory: t itself for all that renderers know. */
static inline DType dtype_stored(DType t) {
    return dtype_info[t].stored;
}
/* How many of those an element is: more than one where no renderer has elements so wide. */
static inline int dtype_stored_count(DType t) {
    return dtype_info[t].bits > 64 ? dtype_info[t].bits / 64 : 1;
}
static inline bool dtype_is_complex(DType t) {
    return dtype_info[t].kind == DK_COMPLEX;
}
/* The float type of a complex one's parts. */
static inline DType dtype_part(DType t) {
    return dtype_info[t].bits > 64 ? DT_F64 : DT_F32;
}
/* Elements that no vector has lanes for. */
static inline bool dtype_is_wide(DType t) {
    return dtype_info[t].bits > 64;
}
/* Types without arithmetic: they are moved, and cast to others. */
static inline bool dtype_is_code(DType t) {
    return dtype_info[t].kind == DK_CODE;
}
/* Whole numbers of less than a byte: moved, cast and quantized, nothing else. */
static inline bool dtype_is_small_int(DType t) {
    return dtype_info[t].bits < 8 && dtype_info[t].stored != t && !dtype_is_code(t);
}
static inline bool dtype_is_float(DType t) {
    return dtype_info[t].kind == DK_FLOAT;
}
static inline bool dtype_is_int(DType t) {
    return dtype_info[t].kind == DK_SINT || dtype_info[t].kind == DK_UINT;
}
static inline bool dtype_is_signed(DType t) {
    return dtype_info[t].kind == DK_SINT || dtype_info[t].kind == DK_FLOAT;
}

#endif
