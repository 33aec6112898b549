/* 64-bit integers on machines with 32-bit registers: division, conversion from and to floats.
 *
 * LLVM turns these into calls of the compiler's runtime library (__aeabi_uldivmod and the like),
 * and division of 32 bits too where the processor cannot divide. A compiled model calls nothing but
 * memcpy's family, so here they are written out:
 *
 *   n / c     n below 2^31, c constant: multiplication by a reciprocal and a shift; nearly every
 *             division of an index is of this kind
 *   a / b     both below 2^32: the machine's own division where it has one
 *   a / b     otherwise a function of the module that subtracts and shifts, bit by bit
 *   floats    two halves of 32 bits, which every floating-point unit converts */
#include "codegen/llvm/llvm_gen.h"

/* ---- division -------------------------------------------------------------------------------- */

/* u64 divide64(u64 a, u64 b), b not zero: a turns into the quotient from the left, a bit of it in
 * each round, while r is the part of a that is done, less what was subtracted. Leading zeros of a
 * are skipped. */
static LLVMValueRef make_divide64(LlvmGen *g) {
    LLVMBasicBlockRef back = LLVMGetInsertBlock(g->b);
    LLVMTypeRef params[] = {g->i64, g->i64};
    LLVMValueRef fn = LLVMAddFunction(g->mod, "divide64", LLVMFunctionType(g->i64, params, 2, 0));
    LLVMSetLinkage(fn, LLVMInternalLinkage);
    llvm_add_attributes(g, fn);
    LLVMBasicBlockRef start = LLVMAppendBasicBlockInContext(g->ctx, fn, "start");
    LLVMBasicBlockRef ready = LLVMAppendBasicBlockInContext(g->ctx, fn, "ready");
    LLVMBasicBlockRef loop = LLVMAppendBasicBlockInContext(g->ctx, fn, "loop");
    LLVMBasicBlockRef done = LLVMAppendBasicBlockInContext(g->ctx, fn, "done");
    LLVMValueRef a = LLVMGetParam(fn, 0), b = LLVMGetParam(fn, 1), zero = LLVMConstNull(g->i64);
    LLVMValueRef one = LLVMConstInt(g->i64, 1, 0), top = LLVMConstInt(g->i64, 63, 0);
    LLVMPositionBuilderAtEnd(g->b, start);
    LLVMValueRef below = LLVMBuildICmp(g->b, LLVMIntULT, a, b, ""); /* a == 0 is among these */
    LLVMBuildCondBr(g->b, below, done, ready);
    LLVMPositionBuilderAtEnd(g->b, ready);
    LLVMValueRef clz[] = {a, LLVMConstInt(g->i1, 1, 0)};
    LLVMValueRef zeros = llvm_call(g, "llvm.ctlz", &g->i64, 1, clz, 2);
    LLVMValueRef first = LLVMBuildShl(g->b, a, zeros, "");
    LLVMValueRef rounds = LLVMBuildSub(g->b, LLVMConstInt(g->i64, 64, 0), zeros, "");
    LLVMBuildBr(g->b, loop);
    LLVMPositionBuilderAtEnd(g->b, loop);
    LLVMValueRef left = LLVMBuildPhi(g->b, g->i64, "left"), q = LLVMBuildPhi(g->b, g->i64, "q");
    LLVMValueRef r = LLVMBuildPhi(g->b, g->i64, "r");
    LLVMValueRef in =
        LLVMBuildOr(g->b, LLVMBuildShl(g->b, r, one, ""), LLVMBuildLShr(g->b, q, top, ""), "");
    LLVMValueRef fits = LLVMBuildOr(g->b, LLVMBuildICmp(g->b, LLVMIntSLT, r, zero, ""),
                                    LLVMBuildICmp(g->b, LLVMIntUGE, in, b, ""), "");
    LLVMValueRef rest = LLVMBuildSub(g->b, in, LLVMBuildSelect(g->b, fits, b, zero, ""), "");
    LLVMValueRef next = LLVMBuildOr(g->b, LLVMBuildShl(g->b, q, one, ""),
                                    LLVMBuildZExt(g->b, fits, g->i64, ""), "");
    LLVMValueRef fewer = LLVMBuildSub(g->b, left, one, "");
    LLVMBuildCondBr(g->b, LLVMBuildICmp(g->b, LLVMIntEQ, fewer, zero, ""), done, loop);
    LLVMBasicBlockRef from[] = {ready, loop}, ends[] = {start, loop};
    LLVMAddIncoming(left, (LLVMValueRef[]){rounds, fewer}, from, 2);
    LLVMAddIncoming(q, (LLVMValueRef[]){first, next}, from, 2);
    LLVMAddIncoming(r, (LLVMValueRef[]){zero, rest}, from, 2);
    LLVMPositionBuilderAtEnd(g->b, done);
    LLVMValueRef result = LLVMBuildPhi(g->b, g->i64, "");
    LLVMAddIncoming(result, (LLVMValueRef[]){zero, next}, ends, 2);
    LLVMBuildRet(g->b, result);
    LLVMPositionBuilderAtEnd(g->b, back);
    return fn;
}

/* n / d for 0 <= n < 2^31: with 2^s >= d and m = ceil(2^(31 + s) / d) < 2^32, floor(n * m / 2^(31 +
 * s)) is the quotient (Granlund and Montgomery, 1994). */
static LLVMValueRef by_reciprocal(LlvmGen *g, LLVMValueRef n, uint64_t d) {
    LLVMTypeRef wide = llvm_widen(g->i64, llvm_lanes(n));
    int s = 0;
    while ((UINT64_C(1) << s) < d) s++;
    uint64_t m = ((UINT64_C(1) << (31 + s)) + d - 1) / d;
    LLVMValueRef p = LLVMBuildZExt(g->b, n, wide, "");
    p = LLVMBuildMul(g->b, p, llvm_int(g, g->i64, llvm_lanes(n), (int64_t)m), "");
    return LLVMBuildLShr(g->b, p, llvm_int(g, g->i64, llvm_lanes(n), 31 + s), "");
}

/* One lane, a and b of i64. */
static LLVMValueRef divide_lane(LlvmGen *g, LLVMValueRef a, LLVMValueRef b, bool fits32) {
    if (fits32 && g->cpu.divides32) {
        LLVMValueRef q = LLVMBuildUDiv(g->b, LLVMBuildTrunc(g->b, a, g->i32, ""),
                                       LLVMBuildTrunc(g->b, b, g->i32, ""), "");
        return LLVMBuildZExt(g->b, q, g->i64, "");
    }
    if (!g->divide64) g->divide64 = make_divide64(g);
    LLVMValueRef args[] = {a, b};
    return LLVMBuildCall2(g->b, LLVMGlobalGetValueType(g->divide64), g->divide64, args, 2, "");
}

static LLVMValueRef divide_lanes(LlvmGen *g, LLVMValueRef a, LLVMValueRef b, bool fits32) {
    unsigned lanes = llvm_lanes(a);
    if (!lanes) return divide_lane(g, a, b, fits32);
    LLVMValueRef all = LLVMGetPoison(LLVMTypeOf(a));
    for (unsigned i = 0; i < lanes; i++) {
        LLVMValueRef at = LLVMConstInt(g->i32, i, 0);
        LLVMValueRef q = divide_lane(g, LLVMBuildExtractElement(g->b, a, at, ""),
                                     LLVMBuildExtractElement(g->b, b, at, ""), fits32);
        all = LLVMBuildInsertElement(g->b, all, q, at, "");
    }
    return all;
}

/* Both unsigned, of any width; `limit` is the largest value a can have. */
static LLVMValueRef quotient(LlvmGen *g, LLVMValueRef a, LLVMValueRef b, uint64_t limit,
                             uint64_t divisor) {
    LLVMTypeRef type = LLVMTypeOf(a), wide = llvm_widen(g->i64, llvm_lanes(a));
    unsigned bits = LLVMGetIntTypeWidth(llvm_lanes(a) ? LLVMGetElementType(type) : type);
    if (divisor && divisor <= INT32_MAX && limit <= INT32_MAX) {
        LLVMTypeRef half = llvm_widen(g->i32, llvm_lanes(a)); /* so that one umull multiplies */
        if (bits > 32) a = LLVMBuildTrunc(g->b, a, half, "");
        LLVMValueRef q = by_reciprocal(g, a, divisor);
        return bits < 64 ? LLVMBuildTrunc(g->b, q, type, "") : q;
    }
    bool fits32 = bits <= 32 || (limit <= UINT32_MAX && divisor && divisor <= UINT32_MAX);
    if (bits < 64) a = LLVMBuildZExt(g->b, a, wide, ""), b = LLVMBuildZExt(g->b, b, wide, "");
    LLVMValueRef q = divide_lanes(g, a, b, fits32);
    return bits < 64 ? LLVMBuildTrunc(g->b, q, type, "") : q;
}

static LLVMValueRef magnitude(LlvmGen *g, LLVMValueRef v, LLVMValueRef negative) {
    return LLVMBuildSelect(g->b, negative, LLVMBuildNeg(g->b, v, ""), v, "");
}

LLVMValueRef llvm_narrow_divide(LlvmGen *g, LLVMValueRef a, LLVMValueRef b, NarrowDivision how) {
    LLVMValueRef q;
    if (how.is_signed) {
        LLVMValueRef zero = LLVMConstNull(LLVMTypeOf(a));
        LLVMValueRef a_neg = LLVMBuildICmp(g->b, LLVMIntSLT, a, zero, "");
        LLVMValueRef b_neg = LLVMBuildICmp(g->b, LLVMIntSLT, b, zero, "");
        q = quotient(g, magnitude(g, a, a_neg), magnitude(g, b, b_neg), how.limit, how.divisor);
        q = magnitude(g, q, LLVMBuildXor(g->b, a_neg, b_neg, ""));
    } else {
        q = quotient(g, a, b, how.limit, how.divisor);
    }
    return how.remainder ? LLVMBuildSub(g->b, a, LLVMBuildMul(g->b, q, b, ""), "") : q;
}

/* ---- floats ---------------------------------------------------------------------------------- */

/* Both halves are exact in f64, so that their sum is rounded once. */
LLVMValueRef llvm_narrow_to_f64(LlvmGen *g, LLVMValueRef v, bool is_signed) {
    unsigned lanes = llvm_lanes(v);
    LLVMTypeRef half = llvm_widen(g->i32, lanes), wide = llvm_widen(g->f64, lanes);
    LLVMValueRef up = LLVMBuildLShr(g->b, v, llvm_int(g, g->i64, lanes, 32), "");
    LLVMValueRef hi = LLVMBuildTrunc(g->b, up, half, ""), lo = LLVMBuildTrunc(g->b, v, half, "");
    hi = is_signed ? LLVMBuildSIToFP(g->b, hi, wide, "") : LLVMBuildUIToFP(g->b, hi, wide, "");
    hi = LLVMBuildFMul(g->b, hi, llvm_real(g, g->f64, lanes, 0x1p32), "");
    return LLVMBuildFAdd(g->b, hi, LLVMBuildUIToFP(g->b, lo, wide, ""), "");
}

LLVMValueRef llvm_narrow_from_float(LlvmGen *g, LLVMValueRef v, bool is_signed) {
    unsigned lanes = llvm_lanes(v);
    LLVMTypeRef half = llvm_widen(g->i32, lanes), wide = llvm_widen(g->i64, lanes);
    LLVMTypeRef scalar = lanes ? LLVMGetElementType(LLVMTypeOf(v)) : LLVMTypeOf(v);
    if (scalar == g->f32) v = LLVMBuildFPExt(g->b, v, llvm_widen(g->f64, lanes), "");
    v = llvm_round(g, KO_trunc, v);
    LLVMValueRef scaled = LLVMBuildFMul(g->b, v, llvm_real(g, g->f64, lanes, 0x1p-32), "");
    LLVMValueRef top = llvm_round(g, KO_floor, scaled);
    LLVMValueRef low = LLVMBuildFMul(g->b, top, llvm_real(g, g->f64, lanes, 0x1p32), "");
    low = LLVMBuildFSub(g->b, v, low, "");
    LLVMValueRef hi =
        is_signed ? LLVMBuildFPToSI(g->b, top, half, "") : LLVMBuildFPToUI(g->b, top, half, "");
    LLVMValueRef lo = LLVMBuildZExt(g->b, LLVMBuildFPToUI(g->b, low, half, ""), wide, "");
    hi = LLVMBuildShl(g->b, LLVMBuildZExt(g->b, hi, wide, ""), llvm_int(g, g->i64, lanes, 32), "");
    return LLVMBuildOr(g->b, hi, lo, "");
}
