/* Element types: the records that dtype.def yields. */
#include "ir/dtype.h"

#include <string.h>

const DTypeInfo dtype_info[DT_COUNT] = {
    [DT_NONE] = {.name = "none", .c_type = "void"},
#define DTYPE(name, text, onnx, bits, kind, ctype)                                                 \
    [DT_##name] = {text, ctype, onnx, bits, DK_##kind},
#include "ir/dtype.def"
#undef DTYPE
};

DType dtype_from_onnx(int64_t onnx) {
    for (int t = 1; t < DT_COUNT; t++)
        if (dtype_info[t].onnx == onnx) return (DType)t;
    return DT_NONE;
}

DType dtype_from_name(const char *name) {
    for (int t = 1; t < DT_COUNT; t++)
        if (!strcmp(dtype_info[t].name, name)) return (DType)t;
    return DT_NONE;
}
