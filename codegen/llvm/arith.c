/* Operations that need more than one LLVM instruction: total integer division, rounding without
 * rounding instructions, fmod, fused multiply-add without hardware.
 *
 * Nothing here may become a call into libm: the compiled model has no undefined symbols but
 * memcpy's family. (f64 fma on a machine without it is the exception; schedules do not choose it
 * there.) Nor into one of the compiler's runtime: see narrow.c. */
#include "codegen/llvm/llvm_gen.h"

/* ---- integer division ------------------------------------------------------------------------ */

static bool is_wanted_quotient(KOp op) {
    return op == KO_div || op == KO_fdiv;
}

/* Vectors have no integer division: the quotient of floats of more bits than the integers is less
 * than 1 / b away from the true one, which is a whole number or at least 1 / b below the next, so
 * that cutting it off is exact. b is neither 0 nor, if signed, -1. */
static LLVMValueRef divide_as_floats(LlvmGen *g, bool is_signed, LLVMValueRef a, LLVMValueRef b) {
    unsigned lanes = llvm_lanes(a), bits = LLVMGetIntTypeWidth(LLVMGetElementType(LLVMTypeOf(a)));
    LLVMTypeRef t = llvm_widen(bits > 16 ? llvm_type(g, DT_F64) : g->f32, lanes),
                to = LLVMTypeOf(a);
    if (is_signed) {
        LLVMValueRef q = LLVMBuildFDiv(g->b, LLVMBuildSIToFP(g->b, a, t, ""),
                                       LLVMBuildSIToFP(g->b, b, t, ""), "");
        return LLVMBuildFPToSI(g->b, q, to, "");
    }
    LLVMValueRef q =
        LLVMBuildFDiv(g->b, LLVMBuildUIToFP(g->b, a, t, ""), LLVMBuildUIToFP(g->b, b, t, ""), "");
    return LLVMBuildFPToUI(g->b, q, to, "");
}

static bool has_float_quotient(LlvmGen *g, LLVMValueRef a, LLVMValueRef b) {
    enum { LEAST_BYTES = 32 }; /* of vectors: two f64 at once gain nothing */
    return llvm_lanes(a) && !LLVMIsConstant(b) && g->target->vector_bytes >= LEAST_BYTES &&
           LLVMGetIntTypeWidth(LLVMGetElementType(LLVMTypeOf(a))) <= 32;
}

/* Unsigned 64 bits in lanes where these turn into f64: a near quotient, 2^15 away at most, and that
 * of what it leaves. The inverse is less than 1 / b by more than all roundings, so that no quotient
 * is too large and what it leaves is not negative. The second one is right or one too small: what
 * is left then is not less than b. */
static LLVMValueRef divide_in_two_steps(LlvmGen *g, bool remainder, LLVMValueRef a,
                                        LLVMValueRef b) {
    unsigned lanes = llvm_lanes(a);
    LLVMTypeRef t = LLVMTypeOf(a), real = llvm_widen(g->f64, lanes);
    LLVMValueRef below = llvm_real(g, g->f64, lanes, 1 - 0x1p-50);
    LLVMValueRef inverse = LLVMBuildFDiv(g->b, below, LLVMBuildUIToFP(g->b, b, real, ""), "");
    LLVMValueRef q = LLVMConstNull(t), r = a;
    for (int i = 0; i < 2; i++) {
        LLVMValueRef near = LLVMBuildFMul(g->b, LLVMBuildUIToFP(g->b, r, real, ""), inverse, "");
        LLVMValueRef more = LLVMBuildFPToUI(g->b, near, t, "");
        q = LLVMBuildAdd(g->b, q, more, "");
        r = LLVMBuildSub(g->b, r, LLVMBuildMul(g->b, more, b, ""), "");
    }
    LLVMValueRef is_less = LLVMBuildICmp(g->b, LLVMIntUGE, r, b, "");
    LLVMValueRef one = llvm_int(g, g->i64, lanes, 1);
    LLVMValueRef next = remainder ? LLVMBuildSub(g->b, r, b, "") : LLVMBuildAdd(g->b, q, one, "");
    return LLVMBuildSelect(g->b, is_less, next, remainder ? r : q, "");
}

/* a where sign is 0, -a where it is -1. */
static LLVMValueRef with_sign(LlvmGen *g, LLVMValueRef a, LLVMValueRef sign) {
    return LLVMBuildSub(g->b, LLVMBuildXor(g->b, a, sign, ""), sign, "");
}

/* Signed ones: what their magnitudes, up to 2^63, have. Of a below 2^48, as indices are, a quotient
 * of which the inverse is larger than 1 / b is a / b and less than 2^-49 of it, which is less than
 * 1 / b. */
static LLVMValueRef divide_signed_lanes(LlvmGen *g, const KExpr *e, bool remainder, LLVMValueRef a,
                                        LLVMValueRef b) {
    const int64_t exact = INT64_C(1) << 48;
    unsigned lanes = llvm_lanes(a);
    if (e->arg[0]->lo >= -exact && e->arg[0]->hi <= exact) {
        LLVMTypeRef real = llvm_widen(g->f64, lanes);
        LLVMValueRef above = llvm_real(g, g->f64, lanes, 1 + 0x1p-50);
        LLVMValueRef inverse = LLVMBuildFDiv(g->b, above, LLVMBuildSIToFP(g->b, b, real, ""), "");
        LLVMValueRef near = LLVMBuildFMul(g->b, LLVMBuildSIToFP(g->b, a, real, ""), inverse, "");
        LLVMValueRef q = LLVMBuildFPToSI(g->b, near, LLVMTypeOf(a), "");
        return remainder ? LLVMBuildSub(g->b, a, LLVMBuildMul(g->b, q, b, ""), "") : q;
    }
    LLVMValueRef top = llvm_int(g, g->i64, lanes, 63);
    LLVMValueRef of_a = LLVMBuildAShr(g->b, a, top, ""), of_b = LLVMBuildAShr(g->b, b, top, "");
    LLVMValueRef r =
        divide_in_two_steps(g, remainder, with_sign(g, a, of_a), with_sign(g, b, of_b));
    return with_sign(g, r, remainder ? of_a : LLVMBuildXor(g->b, of_a, of_b, ""));
}

static bool takes_two_steps(const LlvmGen *g, const KExpr *e, LLVMValueRef a) {
    return g->cpu.lanes_f64_i64 && llvm_lanes(a) && (e->dtype == DT_I64 || e->dtype == DT_U64);
}

/* One of LLVM's four instructions, or what stands for it; b is neither 0 nor, if signed, -1. */
static LLVMValueRef truncated(LlvmGen *g, const KExpr *e, bool is_signed, bool remainder,
                              LLVMValueRef a, LLVMValueRef b) {
    if (g->cpu.narrow) {
        const KExpr *ea = e->arg[0], *eb = e->arg[1];
        bool known = dtype_is_signed(e->dtype) && ea->lo > INT64_MIN; /* ranges fit their type */
        int64_t low = known && ea->lo < 0 ? -ea->lo : 0, high = ea->hi > low ? ea->hi : low;
        NarrowDivision how = {.is_signed = is_signed, .remainder = remainder};
        how.limit = known ? (uint64_t)high : UINT64_MAX;
        if (eb->op == KO_const_i && (is_signed || eb->u.i > 0))
            how.divisor = eb->u.i < 0 ? 0 - (uint64_t)eb->u.i : (uint64_t)eb->u.i;
        return llvm_narrow_divide(g, a, b, how);
    }
    if (has_float_quotient(g, a, b)) {
        LLVMValueRef q = divide_as_floats(g, dtype_is_signed(e->dtype), a, b);
        return remainder ? LLVMBuildSub(g->b, a, LLVMBuildMul(g->b, q, b, ""), "") : q;
    }
    if (takes_two_steps(g, e, a))
        return e->dtype == DT_U64 ? divide_in_two_steps(g, remainder, a, b)
                                  : divide_signed_lanes(g, e, remainder, a, b);
    if (remainder) return is_signed ? LLVMBuildSRem(g->b, a, b, "") : LLVMBuildURem(g->b, a, b, "");
    return is_signed ? LLVMBuildSDiv(g->b, a, b, "") : LLVMBuildUDiv(g->b, a, b, "");
}

/* Both operands known not to be negative, and b not zero unless the caller replaced it. */
static LLVMValueRef divide_unsigned(LlvmGen *g, const KExpr *e, LLVMValueRef a, LLVMValueRef b) {
    return truncated(g, e, false, !is_wanted_quotient(e->op), a, b);
}

/* b is neither 0 nor -1. */
static LLVMValueRef divide_signed(LlvmGen *g, const KExpr *e, LLVMValueRef a, LLVMValueRef b) {
    LLVMTypeRef t = LLVMTypeOf(a);
    if (e->op == KO_div) return truncated(g, e, true, false, a, b);
    LLVMValueRef r = truncated(g, e, true, true, a, b);
    if (e->op == KO_rem) return r;
    LLVMValueRef zero = LLVMConstNull(t);
    LLVMValueRef inexact = LLVMBuildICmp(g->b, LLVMIntNE, r, zero, "");
    LLVMValueRef apart = LLVMBuildICmp(g->b, LLVMIntSLT, LLVMBuildXor(g->b, r, b, ""), zero, "");
    LLVMValueRef down = LLVMBuildAnd(g->b, inexact, apart, "");
    if (e->op == KO_fmod)
        return LLVMBuildAdd(g->b, r, LLVMBuildSelect(g->b, down, b, zero, ""), "");
    LLVMValueRef q = truncated(g, e, true, false, a, b);
    return LLVMBuildAdd(g->b, q, LLVMBuildSExt(g->b, down, t, ""), "");
}

static LLVMValueRef divide_int(LlvmGen *g, const KExpr *e, LLVMValueRef a, LLVMValueRef b) {
    const KExpr *ea = e->arg[0], *eb = e->arg[1];
    bool is_signed = dtype_is_signed(e->dtype);
    bool no_zero = eb->op == KO_const_i && eb->u.i != 0;
    bool no_minus1 = eb->op == KO_const_i && eb->u.i != -1;
    if (is_signed) { /* ranges of unsigned 64-bit values do not fit theirs */
        no_zero |= eb->lo > 0 || eb->hi < 0;
        no_minus1 |= eb->lo > -1 || eb->hi < -1;
    }
    no_minus1 |= takes_two_steps(g, e, a); /* which takes magnitudes */
    bool as_unsigned = !is_signed || (ea->lo >= 0 && eb->lo >= 0);
    LLVMTypeRef t = LLVMTypeOf(a);
    LLVMValueRef zero = LLVMConstNull(t), scalar_one = LLVMConstInt(llvm_type(g, e->dtype), 1, 0);
    LLVMValueRef one = llvm_splat(g, scalar_one, llvm_lanes(a));
    LLVMValueRef by_zero = LLVMBuildICmp(g->b, LLVMIntEQ, b, zero, "");
    LLVMValueRef by_minus1 = LLVMBuildICmp(g->b, LLVMIntEQ, b, LLVMConstAllOnes(t), "");
    LLVMValueRef safe = no_zero ? b : LLVMBuildSelect(g->b, by_zero, one, b, "");
    if (!as_unsigned && !no_minus1) safe = LLVMBuildSelect(g->b, by_minus1, one, safe, "");
    LLVMValueRef r = as_unsigned ? divide_unsigned(g, e, a, safe) : divide_signed(g, e, a, safe);
    if (!is_wanted_quotient(e->op)) return r; /* the remainder by the replacement, 1, is 0 */
    if (!as_unsigned && !no_minus1)
        r = LLVMBuildSelect(g->b, by_minus1, LLVMBuildNeg(g->b, a, ""), r, "");
    return no_zero ? r : LLVMBuildSelect(g->b, by_zero, zero, r, "");
}

/* ---- quotients ------------------------------------------------------------------------------- */

LLVMValueRef llvm_divide(LlvmGen *g, const KExpr *e, LLVMValueRef a, LLVMValueRef b) {
    if (!dtype_is_float(e->dtype)) return divide_int(g, e, a, b);
    if (e->op == KO_div) return LLVMBuildFDiv(g->b, a, b, "");
    BUG_IF(e->op != KO_rem, "'%s' of floats is not defined", kop_info[e->op].name);
    return llvm_float_rem(g, a, b);
}

/* ---- rounding -------------------------------------------------------------------------------- */

static LLVMValueRef copy_sign(LlvmGen *g, LLVMValueRef a, LLVMValueRef sign) {
    LLVMTypeRef t = LLVMTypeOf(a);
    LLVMValueRef args[] = {a, sign};
    return llvm_call(g, "llvm.copysign", &t, 1, args, 2);
}

/* Adding and subtracting 2^(p-1) leaves |a| rounded to an integer, ties to even; the other modes
 * correct that by one. The sign comes from a, so that -0.3 gives -0. */
LLVMValueRef llvm_round(LlvmGen *g, KOp op, LLVMValueRef a) {
    if (g->cpu.round)
        return llvm_overloaded(g,
                               op == KO_floor   ? "llvm.floor"
                               : op == KO_ceil  ? "llvm.ceil"
                               : op == KO_trunc ? "llvm.trunc"
                                                : "llvm.roundeven",
                               a);
    unsigned lanes = llvm_lanes(a);
    LLVMTypeRef scalar = lanes ? LLVMGetElementType(LLVMTypeOf(a)) : LLVMTypeOf(a);
    LLVMValueRef magic = llvm_real(g, scalar, lanes, scalar == g->f64 ? 0x1p52 : 0x1p23);
    LLVMValueRef one = llvm_real(g, scalar, lanes, 1), zero = llvm_real(g, scalar, lanes, 0);
    LLVMValueRef size = llvm_overloaded(g, "llvm.fabs", a);
    LLVMValueRef r = LLVMBuildFSub(g->b, LLVMBuildFAdd(g->b, size, magic, ""), magic, "");
    LLVMValueRef low = op == KO_trunc ? r : copy_sign(g, r, a), of = op == KO_trunc ? size : a;
    if (op == KO_floor || op == KO_trunc) {
        LLVMValueRef over = LLVMBuildFCmp(g->b, LLVMRealOGT, low, of, "");
        low = LLVMBuildFSub(g->b, low, LLVMBuildSelect(g->b, over, one, zero, ""), "");
    } else if (op == KO_ceil) {
        LLVMValueRef under = LLVMBuildFCmp(g->b, LLVMRealOLT, low, of, "");
        low = LLVMBuildFAdd(g->b, low, LLVMBuildSelect(g->b, under, one, zero, ""), "");
    }
    LLVMValueRef small = LLVMBuildFCmp(g->b, LLVMRealOLT, size, magic, "");
    return LLVMBuildSelect(g->b, small, copy_sign(g, low, a), a, "");
}

/* ---- fused multiply-add ---------------------------------------------------------------------- */

/* With f32 operands and no instruction: the product is exact in f64; the sum is rounded to odd
 * there (Boldo and Melquiond, 2008), which makes the second rounding harmless. */
static LLVMValueRef fused_in_f64(LlvmGen *g, LLVMValueRef a, LLVMValueRef b, LLVMValueRef c) {
    unsigned lanes = llvm_lanes(a);
    LLVMTypeRef wide = llvm_widen(g->f64, lanes), bits = llvm_widen(g->i64, lanes);
    LLVMValueRef p = LLVMBuildFMul(g->b, LLVMBuildFPExt(g->b, a, wide, ""),
                                   LLVMBuildFPExt(g->b, b, wide, ""), "");
    LLVMValueRef q = LLVMBuildFPExt(g->b, c, wide, "");
    LLVMValueRef s = LLVMBuildFAdd(g->b, p, q, "");
    LLVMValueRef pp = LLVMBuildFSub(g->b, s, q, ""), qq = LLVMBuildFSub(g->b, s, pp, "");
    LLVMValueRef lost =
        LLVMBuildFAdd(g->b, LLVMBuildFSub(g->b, p, pp, ""), LLVMBuildFSub(g->b, q, qq, ""), "");
    LLVMValueRef zero = llvm_real(g, g->f64, lanes, 0);
    LLVMValueRef sb = LLVMBuildBitCast(g->b, s, bits, ""), one = llvm_int(g, g->i64, lanes, 1);
    LLVMValueRef even =
        LLVMBuildICmp(g->b, LLVMIntEQ, LLVMBuildAnd(g->b, sb, one, ""), LLVMConstNull(bits), "");
    /* NaN and infinite sums have lost == NaN, which compares false here. */
    LLVMValueRef inexact = LLVMBuildFCmp(g->b, LLVMRealONE, lost, zero, "");
    LLVMValueRef s_negative = LLVMBuildFCmp(g->b, LLVMRealOLT, s, zero, "");
    LLVMValueRef lost_negative = LLVMBuildFCmp(g->b, LLVMRealOLT, lost, zero, "");
    LLVMValueRef away = LLVMBuildICmp(g->b, LLVMIntEQ, s_negative, lost_negative, "");
    LLVMValueRef step = LLVMBuildSelect(g->b, away, one, llvm_int(g, g->i64, lanes, -1), "");
    LLVMValueRef odd = LLVMBuildBitCast(g->b, LLVMBuildAdd(g->b, sb, step, ""), wide, "");
    s = LLVMBuildSelect(g->b, LLVMBuildAnd(g->b, inexact, even, ""), odd, s, "");
    return LLVMBuildFPTrunc(g->b, s, LLVMTypeOf(a), "");
}

LLVMValueRef llvm_fused(LlvmGen *g, LLVMValueRef a, LLVMValueRef b, LLVMValueRef c) {
    LLVMTypeRef t = LLVMTypeOf(a);
    LLVMTypeRef scalar = llvm_lanes(a) ? LLVMGetElementType(t) : t;
    if (!g->cpu.fma && scalar == g->f32) return fused_in_f64(g, a, b, c);
    LLVMValueRef args[] = {a, b, c};
    return llvm_call(g, "llvm.fma", &t, 1, args, 3);
}
