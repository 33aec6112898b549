/* Element types, from dtype.def. */
#ifndef SMELT_IR_DTYPE_H
#define SMELT_IR_DTYPE_H

#include <stdbool.h>
#include <stdint.h>

typedef enum DType {
    DT_NONE,
#define DTYPE(name, text, onnx, bits, kind, ctype) DT_##name,
#include "ir/dtype.def"
#undef DTYPE
    DT_COUNT
} DType;

typedef enum { DK_NONE, DK_FLOAT, DK_SINT, DK_UINT, DK_BOOL, DK_STRING } DTypeKind;

typedef struct DTypeInfo {
    const char *name, *c_type;
    int onnx; /* TensorProto.DataType */
    int bits;
    DTypeKind kind;
} DTypeInfo;

extern const DTypeInfo dtype_info[DT_COUNT];

/* DT_NONE when there is no such type. */
DType dtype_from_onnx(int64_t onnx);
DType dtype_from_name(const char *name);

static inline int dtype_bytes(DType t) {
    return dtype_info[t].bits / 8;
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
