/* Conversions between dtypes, and the 16-bit floats.
 *
 * F16 and BF16 travel as f32 values that the dtype can represent. Rounding f32 to them uses the
 * processor's instruction where there is one and integer arithmetic elsewhere: LLVM would call
 * __truncsfhf2. bf16's instruction on x86 drops subnormals, so that is always integer arithmetic.
 */
#include <math.h>

#include "codegen/llvm/llvm_gen.h"

static LLVMValueRef and_int(LlvmGen *g, LLVMValueRef v, uint32_t mask) {
    return LLVMBuildAnd(g->b, v, llvm_int(g, g->i32, llvm_lanes(v), mask), "");
}
static LLVMValueRef or_int(LlvmGen *g, LLVMValueRef v, uint32_t mask) {
    return LLVMBuildOr(g->b, v, llvm_int(g, g->i32, llvm_lanes(v), mask), "");
}
static LLVMValueRef add_int(LlvmGen *g, LLVMValueRef v, uint32_t x) {
    return LLVMBuildAdd(g->b, v, llvm_int(g, g->i32, llvm_lanes(v), x), "");
}
static LLVMValueRef shift_right(LlvmGen *g, LLVMValueRef v, int by) {
    return LLVMBuildLShr(g->b, v, llvm_int(g, g->i32, llvm_lanes(v), by), "");
}
static LLVMValueRef shift_left(LlvmGen *g, LLVMValueRef v, int by) {
    return LLVMBuildShl(g->b, v, llvm_int(g, g->i32, llvm_lanes(v), by), "");
}
static LLVMValueRef is_above(LlvmGen *g, LLVMValueRef v, uint32_t limit) {
    return LLVMBuildICmp(g->b, LLVMIntUGT, v, llvm_int(g, g->i32, llvm_lanes(v), limit), "");
}

static LLVMValueRef as_bits(LlvmGen *g, LLVMValueRef v) {
    return LLVMBuildBitCast(g->b, v, llvm_widen(g->i32, llvm_lanes(v)), "");
}
static LLVMValueRef as_float(LlvmGen *g, LLVMValueRef v) {
    return LLVMBuildBitCast(g->b, v, llvm_widen(g->f32, llvm_lanes(v)), "");
}

/* f32 bits -> bf16 bits in the high half, rest zero. */
static LLVMValueRef bf16_high_bits(LlvmGen *g, LLVMValueRef v) {
    LLVMValueRef x = as_bits(g, v), size = and_int(g, x, 0x7fffffffu);
    LLVMValueRef odd = and_int(g, shift_right(g, x, 16), 1);
    LLVMValueRef rounded = LLVMBuildAdd(g->b, add_int(g, x, 0x7fffu), odd, "");
    LLVMValueRef nan = or_int(g, x, 0x400000u);
    LLVMValueRef r = LLVMBuildSelect(g->b, is_above(g, size, 0x7f800000u), nan, rounded, "");
    return and_int(g, r, 0xffff0000u);
}

/* f32 -> f16 bits in an i32, by integers: normal results round the mantissa in place, subnormal
 * ones are rounded by an addition that aligns their last bit with f32's. */
static LLVMValueRef f16_bits_by_int(LlvmGen *g, LLVMValueRef v) {
    unsigned lanes = llvm_lanes(v);
    LLVMValueRef x = as_bits(g, v), size = and_int(g, x, 0x7fffffffu);
    LLVMValueRef sign = and_int(g, shift_right(g, x, 16), 0x8000u);
    LLVMValueRef odd = and_int(g, shift_right(g, size, 13), 1);
    LLVMValueRef normal = add_int(g, size, (uint32_t)(0xfffu - (112u << 23)));
    normal = shift_right(g, LLVMBuildAdd(g->b, normal, odd, ""), 13);
    /* 0.5f has the exponent whose last mantissa bit is 2^-24, f16's smallest step. */
    LLVMValueRef half = llvm_real(g, g->f32, lanes, 0.5);
    LLVMValueRef low = add_int(g, as_bits(g, LLVMBuildFAdd(g->b, as_float(g, size), half, "")),
                               (uint32_t)(0u - 0x3f000000u));
    LLVMValueRef is_low = LLVMBuildNot(g->b, is_above(g, size, 0x387fffffu), ""); /* < 2^-14 */
    LLVMValueRef r = LLVMBuildSelect(g->b, is_low, low, normal, "");
    LLVMValueRef inf = llvm_int(g, g->i32, lanes, 0x7c00), nan = llvm_int(g, g->i32, lanes, 0x7e00);
    r = LLVMBuildSelect(g->b, is_above(g, size, 0x477fefffu), inf, r, ""); /* >= 65520 */
    r = LLVMBuildSelect(g->b, is_above(g, size, 0x7f800000u), nan, r, "");
    return LLVMBuildOr(g->b, r, sign, "");
}

/* f16 bits in an i32 -> f32: the exponent is moved by a multiplication, exact for subnormals too.
 */
static LLVMValueRef f16_value_by_int(LlvmGen *g, LLVMValueRef h) {
    unsigned lanes = llvm_lanes(h);
    LLVMValueRef size = and_int(g, h, 0x7fffu), sign = shift_left(g, and_int(g, h, 0x8000u), 16);
    LLVMValueRef v = LLVMBuildFMul(g->b, as_float(g, shift_left(g, size, 13)),
                                   llvm_real(g, g->f32, lanes, 0x1p112), "");
    LLVMValueRef special = or_int(g, shift_left(g, size, 13), 0x7f800000u);
    LLVMValueRef r = LLVMBuildSelect(g->b, is_above(g, size, 0x7bffu), special, as_bits(g, v), "");
    return as_float(g, LLVMBuildOr(g->b, r, sign, ""));
}

/* The values of f16 numbers. LLVM would compare and select the numbers themselves, lane after lane
 * where there are no instructions for f16: a fence, which is no instruction, keeps it from that. */
static LLVMValueRef extended(LlvmGen *g, LLVMValueRef h) {
    LLVMTypeRef type = llvm_widen(g->f32, llvm_lanes(h));
    LLVMValueRef v = LLVMBuildFPExt(g->b, h, type, "");
    bool fenced = llvm_lanes(h) > 1 && !g->cpu.half_math;
    return fenced ? llvm_call(g, "llvm.arithmetic.fence", &type, 1, &v, 1) : v;
}

/* The f16 numbers whose values these are, if extended() made them; else NULL. */
static LLVMValueRef extended_from(LLVMValueRef v) {
    static const char fence[] = "llvm.arithmetic.fence";
    if (LLVMIsACallInst(v)) {
        unsigned id = LLVMGetIntrinsicID(LLVMGetCalledValue(v));
        if (!id || id != LLVMLookupIntrinsicID(fence, sizeof fence - 1)) return NULL;
        v = LLVMGetOperand(v, 0);
    }
    return LLVMIsAFPExtInst(v) ? LLVMGetOperand(v, 0) : NULL;
}

LLVMValueRef llvm_round_to(LlvmGen *g, DType t, LLVMValueRef v) {
    if (t == DT_BF16) return as_float(g, bf16_high_bits(g, v));
    if (!g->cpu.half) return f16_value_by_int(g, f16_bits_by_int(g, v));
    return extended(g, LLVMBuildFPTrunc(g->b, v, llvm_widen(g->f16, llvm_lanes(v)), ""));
}

/* The bits (i16) of an f32 carrier of F16 or BF16, and back. */
static LLVMValueRef half_bits(LlvmGen *g, DType t, LLVMValueRef v) {
    unsigned lanes = llvm_lanes(v);
    LLVMTypeRef bits = llvm_widen(g->i16, lanes);
    if (t == DT_BF16) /* already rounded: the high half is all there is */
        return LLVMBuildTrunc(g->b, shift_right(g, as_bits(g, v), 16), bits, "");
    if (!g->cpu.half) return LLVMBuildTrunc(g->b, f16_bits_by_int(g, v), bits, "");
    LLVMValueRef h = extended_from(v);
    if (!h) h = LLVMBuildFPTrunc(g->b, v, llvm_widen(g->f16, lanes), "");
    return LLVMBuildBitCast(g->b, h, bits, "");
}

static LLVMValueRef half_value(LlvmGen *g, DType t, LLVMValueRef bits) {
    unsigned lanes = llvm_lanes(bits);
    if (t == DT_F16 && g->cpu.half)
        return extended(g, LLVMBuildBitCast(g->b, bits, llvm_widen(g->f16, lanes), ""));
    LLVMValueRef wide = LLVMBuildZExt(g->b, bits, llvm_widen(g->i32, lanes), "");
    return t == DT_BF16 ? as_float(g, shift_left(g, wide, 16)) : f16_value_by_int(g, wide);
}

LLVMValueRef llvm_from_memory(LlvmGen *g, DType t, LLVMValueRef v) {
    if (t == DT_BOOL) return LLVMBuildICmp(g->b, LLVMIntNE, v, LLVMConstNull(LLVMTypeOf(v)), "");
    return t == DT_F16 || t == DT_BF16 ? half_value(g, t, v) : v;
}

LLVMValueRef llvm_to_memory(LlvmGen *g, DType t, LLVMValueRef v) {
    if (t == DT_BOOL) return LLVMBuildZExt(g->b, v, llvm_widen(g->i8, llvm_lanes(v)), "");
    return t == DT_F16 || t == DT_BF16 ? half_bits(g, t, v) : v;
}

/* ---- casts ----------------------------------------------------------------------------------- */

/* f64 -> f32 rounded to odd: then rounding once more, to 16 bits, gives what one rounding would. */
static LLVMValueRef narrow_to_odd(LlvmGen *g, LLVMValueRef d) {
    unsigned lanes = llvm_lanes(d);
    LLVMTypeRef wide = LLVMTypeOf(d);
    LLVMValueRef f = LLVMBuildFPTrunc(g->b, d, llvm_widen(g->f32, lanes), "");
    LLVMValueRef size = llvm_overloaded(g, "llvm.fabs", d);
    LLVMValueRef back = llvm_overloaded(g, "llvm.fabs", LLVMBuildFPExt(g->b, f, wide, ""));
    LLVMValueRef bits = as_bits(g, f);
    LLVMValueRef even =
        LLVMBuildNot(g->b, LLVMBuildTrunc(g->b, bits, llvm_widen(g->i1, lanes), ""), "");
    LLVMValueRef inexact = LLVMBuildFCmp(g->b, LLVMRealONE, back, size, "");
    LLVMValueRef below = LLVMBuildFCmp(g->b, LLVMRealOLT, back, size, "");
    LLVMValueRef step = LLVMBuildSelect(g->b, below, llvm_int(g, g->i32, lanes, 1),
                                        llvm_int(g, g->i32, lanes, -1), "");
    LLVMValueRef odd = LLVMBuildAdd(g->b, bits, step, "");
    return as_float(g, LLVMBuildSelect(g->b, LLVMBuildAnd(g->b, inexact, even, ""), odd, bits, ""));
}

static LLVMValueRef int_to_float(LlvmGen *g, LLVMValueRef v, LLVMTypeRef want, bool is_signed) {
    return is_signed ? LLVMBuildSIToFP(g->b, v, want, "") : LLVMBuildUIToFP(g->b, v, want, "");
}

static LLVMValueRef int64_to_f64(LlvmGen *g, LLVMValueRef v, bool is_signed) {
    if (g->cpu.narrow) return llvm_narrow_to_f64(g, v, is_signed);
    return int_to_float(g, v, llvm_widen(g->f64, llvm_lanes(v)), is_signed);
}

/* i64 and u64 -> f64 with the bits that do not fit folded into the last one that does. */
static LLVMValueRef sticky_f64(LlvmGen *g, LLVMValueRef v, bool is_signed) {
    unsigned lanes = llvm_lanes(v);
    LLVMValueRef low = LLVMBuildAnd(g->b, v, llvm_int(g, g->i64, lanes, 0x7ff), "");
    LLVMValueRef lost = LLVMBuildICmp(g->b, LLVMIntNE, low, LLVMConstNull(LLVMTypeOf(v)), "");
    LLVMValueRef sticky = LLVMBuildSelect(g->b, lost, llvm_int(g, g->i64, lanes, 0x800),
                                          LLVMConstNull(LLVMTypeOf(v)), "");
    LLVMValueRef cut = LLVMBuildAnd(g->b, v, llvm_int(g, g->i64, lanes, ~INT64_C(0x7ff)), "");
    cut = LLVMBuildOr(g->b, cut, sticky, "");
    LLVMValueRef limit = llvm_int(g, g->i64, lanes, INT64_C(1) << 53);
    LLVMValueRef far = is_signed ? LLVMBuildAdd(g->b, v, limit, "") : v;
    LLVMValueRef fits = LLVMBuildICmp(
        g->b, LLVMIntULT, far, llvm_int(g, g->i64, lanes, INT64_C(1) << (53 + is_signed)), "");
    return int64_to_f64(g, LLVMBuildSelect(g->b, fits, v, cut, ""), is_signed);
}

static LLVMValueRef cast_float(LlvmGen *g, DType to, DType from, LLVMValueRef v) {
    LLVMTypeRef want = llvm_widen(llvm_type(g, to), llvm_lanes(v));
    bool short_to = to == DT_F16 || to == DT_BF16;
    if (from == DT_F64) {
        if (!short_to) return LLVMBuildFPTrunc(g->b, v, want, "");
        return llvm_round_to(g, to, narrow_to_odd(g, v));
    }
    if (to == DT_F64) return LLVMBuildFPExt(g->b, v, want, "");
    return short_to ? llvm_round_to(g, to, v) : v;
}

static LLVMValueRef cast_int_to_float(LlvmGen *g, DType to, DType from, LLVMValueRef v) {
    LLVMTypeRef want = llvm_widen(llvm_type(g, to), llvm_lanes(v));
    LLVMTypeRef wide = llvm_widen(g->f64, llvm_lanes(v));
    bool is_signed = dtype_is_signed(from), is_short = to == DT_F16 || to == DT_BF16;
    int bits = dtype_info[from].bits;
    if (is_short && bits >= 32) { /* f32 would round first */
        LLVMValueRef d =
            bits == 64 ? sticky_f64(g, v, is_signed) : int_to_float(g, v, wide, is_signed);
        return llvm_round_to(g, to, narrow_to_odd(g, d));
    }
    if (g->cpu.narrow && bits == 64) {
        if (to == DT_F64) return llvm_narrow_to_f64(g, v, is_signed);
        return LLVMBuildFPTrunc(g->b, sticky_f64(g, v, is_signed), want, "");
    }
    v = int_to_float(g, v, want, is_signed);
    return is_short ? llvm_round_to(g, to, v) : v;
}

/* The largest value of `scalar` that is not above `top`: 2^31 - 1 is no f32, 2^31 - 128 is. */
static double float_below(LlvmGen *g, LLVMTypeRef scalar, double top, int bits) {
    int digits = scalar == g->f64 ? 53 : 24;
    return bits <= digits ? top : scalbn(1, bits) - scalbn(1, bits - digits);
}

/* Saturating. LLVM's own vector expansion for x86 goes element by element; clamping in the float
 * type first is exact: what lies above the last float below the limit is the limit. */
static LLVMValueRef cast_float_to_int(LlvmGen *g, DType to, LLVMValueRef v) {
    unsigned lanes = llvm_lanes(v);
    LLVMTypeRef scalar = lanes ? LLVMGetElementType(LLVMTypeOf(v)) : LLVMTypeOf(v);
    LLVMTypeRef want = llvm_widen(llvm_type(g, to), lanes);
    int bits = dtype_info[to].bits;
    bool is_signed = dtype_is_signed(to), in_halves = g->cpu.narrow && bits == 64;
    bool by_llvm = (!g->cpu.x86 || !lanes) && !in_halves;
    if (bits >= 32 && by_llvm) {
        LLVMTypeRef types[] = {want, LLVMTypeOf(v)};
        return llvm_call(g, is_signed ? "llvm.fptosi.sat" : "llvm.fptoui.sat", types, 2, &v, 1);
    }
    double limit = scalbn(1, bits - is_signed) - 1,
           top = float_below(g, scalar, limit, bits - is_signed);
    double bottom = is_signed ? -scalbn(1, bits - 1) : 0;
    LLVMValueRef lo = llvm_real(g, scalar, lanes, bottom), hi = llvm_real(g, scalar, lanes, top);
    LLVMValueRef number = LLVMBuildFCmp(g->b, LLVMRealORD, v, v, "");
    LLVMValueRef above = LLVMBuildFCmp(g->b, LLVMRealOGT, v, hi, "");
    LLVMValueRef x = LLVMBuildSelect(g->b, number, v, llvm_real(g, scalar, lanes, 0), "");
    x = LLVMBuildSelect(g->b, LLVMBuildFCmp(g->b, LLVMRealOGT, x, lo, ""), x, lo, "");
    x = LLVMBuildSelect(g->b, LLVMBuildFCmp(g->b, LLVMRealOLT, x, hi, ""), x, hi, "");
    if (bits < 32)
        return LLVMBuildTrunc(g->b, LLVMBuildFPToSI(g->b, x, llvm_widen(g->i32, lanes), ""), want,
                              "");
    LLVMValueRef r = in_halves   ? llvm_narrow_from_float(g, x, is_signed)
                     : is_signed ? LLVMBuildFPToSI(g->b, x, want, "")
                                 : LLVMBuildFPToUI(g->b, x, want, "");
    LLVMValueRef most =
        llvm_int(g, llvm_type(g, to), lanes, (int64_t)(UINT64_MAX >> (64 - bits + is_signed)));
    return LLVMBuildSelect(g->b, above, most, r, "");
}

LLVMValueRef llvm_cast(LlvmGen *g, DType to, DType from, LLVMValueRef v) {
    if (to == from) return v;
    LLVMTypeRef want = llvm_widen(llvm_type(g, to), llvm_lanes(v));
    bool f_to = dtype_is_float(to), f_from = dtype_is_float(from);
    if (to == DT_BOOL) {
        LLVMValueRef zero = LLVMConstNull(LLVMTypeOf(v));
        return f_from ? LLVMBuildFCmp(g->b, LLVMRealUNE, v, zero, "")
                      : LLVMBuildICmp(g->b, LLVMIntNE, v, zero, "");
    }
    if (from == DT_BOOL)
        return f_to ? LLVMBuildUIToFP(g->b, v, want, "") : LLVMBuildZExt(g->b, v, want, "");
    if (f_to && f_from) return cast_float(g, to, from, v);
    if (f_to) return cast_int_to_float(g, to, from, v);
    if (f_from) return cast_float_to_int(g, to, v);
    if (dtype_info[to].bits == dtype_info[from].bits) return v;
    if (dtype_info[to].bits < dtype_info[from].bits) return LLVMBuildTrunc(g->b, v, want, "");
    return dtype_is_signed(from) ? LLVMBuildSExt(g->b, v, want, "")
                                 : LLVMBuildZExt(g->b, v, want, "");
}

LLVMValueRef llvm_bitcast(LlvmGen *g, DType to, DType from, LLVMValueRef v) {
    LLVMValueRef bits =
        from == DT_F16 || from == DT_BF16 || from == DT_BOOL ? llvm_to_memory(g, from, v) : v;
    if (to == DT_F16 || to == DT_BF16 || to == DT_BOOL) {
        LLVMValueRef mem =
            LLVMBuildBitCast(g->b, bits, llvm_widen(llvm_mem_type(g, to), llvm_lanes(v)), "");
        return llvm_from_memory(g, to, mem);
    }
    return LLVMBuildBitCast(g->b, bits, llvm_widen(llvm_type(g, to), llvm_lanes(v)), "");
}
