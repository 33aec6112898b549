/* Element types: the records that dtype.def yields. */
#include "ir/dtype.h"

#include <string.h>

const DTypeInfo dtype_info[DT_COUNT] = {
    [DT_NONE] = {.name = "none", .c_type = "void"},
#define DTYPE(name, text, onnx, bits, kind, ctype, stored)                                         \
    [DT_##name] = {text, ctype, onnx, bits, DK_##kind, DT_##stored},
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

void dtype_unpack(DType t, const uint8_t *packed, uint64_t n, uint8_t *out) {
    unsigned bits = (unsigned)dtype_info[t].bits, sign = dtype_is_signed(t) ? 1u << (bits - 1) : 0;
    for (uint64_t i = 0; i < n; i++) {
        uint64_t at = i * bits;
        unsigned word = packed[at / 8];
        if (at % 8 + bits > 8) word |= (unsigned)packed[at / 8 + 1] << 8;
        unsigned v = word >> at % 8 & ((1u << bits) - 1);
        out[i] = (uint8_t)((v ^ sign) - sign);
    }
}

void dtype_pack(DType t, const uint8_t *elements, uint64_t n, uint8_t *packed) {
    unsigned bits = (unsigned)dtype_info[t].bits;
    memset(packed, 0, (size_t)dtype_packed_bytes(t, n));
    for (uint64_t i = 0; i < n; i++) {
        uint64_t at = i * bits;
        unsigned v = (elements[i] & ((1u << bits) - 1)) << at % 8;
        packed[at / 8] |= (uint8_t)v;
        if (v >> 8) packed[at / 8 + 1] |= (uint8_t)(v >> 8);
    }
}
