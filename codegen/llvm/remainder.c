/* C's fmod of floats.
 *
 * One at a time x is reduced bit by bit. Lanes with a fused multiply-add do all at once what a
 * quotient of few bits allows, which is nearly always:
 *
 *     n = trunc(|x| / |y|)        the true quotient's integer, or that plus 1 where it was rounded up
 *     r = |x| - n*|y|             exact: both are multiples of y's last bit, and r is less than y
 *     r < 0 ? r + |y| : r         with the sign of x; |x| where that is less than |y| */
#include <stdio.h>

#include "codegen/llvm/llvm_gen.h"

/* ---- one at a time --------------------------------------------------------------------------- */

static LLVMValueRef bits_of(LlvmGen *g, LLVMValueRef v) {
    return LLVMBuildBitCast(g->b, v, g->i64, "");
}

/* x and y positive, y normal: subtracts y * 2^k, the largest that fits, until less than y is left.
 * Every difference is exact. Leaves the builder after the loop. */
static LLVMValueRef reduce_loop(LlvmGen *g, LLVMValueRef fn, LLVMValueRef x, LLVMValueRef y) {
    LLVMBasicBlockRef from = LLVMGetInsertBlock(g->b);
    LLVMBasicBlockRef head = LLVMAppendBasicBlockInContext(g->ctx, fn, "head");
    LLVMBasicBlockRef body = LLVMAppendBasicBlockInContext(g->ctx, fn, "body");
    LLVMBasicBlockRef done = LLVMAppendBasicBlockInContext(g->ctx, fn, "done");
    LLVMBuildBr(g->b, head);
    LLVMPositionBuilderAtEnd(g->b, head);
    LLVMValueRef r = LLVMBuildPhi(g->b, g->f64, "r");
    LLVMBuildCondBr(g->b, LLVMBuildFCmp(g->b, LLVMRealOGE, r, y, ""), body, done);
    LLVMPositionBuilderAtEnd(g->b, body);
    LLVMValueRef exponent = LLVMConstInt(g->i64, UINT64_C(0x7ff0000000000000), 0);
    LLVMValueRef k = LLVMBuildSub(g->b, LLVMBuildAnd(g->b, bits_of(g, r), exponent, ""),
                                  LLVMBuildAnd(g->b, bits_of(g, y), exponent, ""), "k");
    LLVMValueRef t = LLVMBuildBitCast(g->b, LLVMBuildAdd(g->b, bits_of(g, y), k, ""), g->f64, "t");
    LLVMValueRef half = LLVMBuildFMul(g->b, t, LLVMConstReal(g->f64, 0.5), "");
    t = LLVMBuildSelect(g->b, LLVMBuildFCmp(g->b, LLVMRealOGT, t, r, ""), half, t, "");
    LLVMValueRef next = LLVMBuildFSub(g->b, r, t, "");
    LLVMBuildBr(g->b, head);
    LLVMValueRef in[] = {x, next};
    LLVMBasicBlockRef at[] = {from, body};
    LLVMAddIncoming(r, in, at, 2);
    LLVMPositionBuilderAtEnd(g->b, done);
    return r;
}

/* double float_rem(double x, double y): C's fmod. A tiny y is scaled up: once to reduce x by the
 * scaled y, of which y is a divisor, and once with the rest scaled like it. */
static LLVMValueRef make_float_rem(LlvmGen *g) {
    LLVMBasicBlockRef back = LLVMGetInsertBlock(g->b);
    LLVMTypeRef params[] = {g->f64, g->f64};
    LLVMValueRef fn = LLVMAddFunction(g->mod, "float_rem", LLVMFunctionType(g->f64, params, 2, 0));
    LLVMSetLinkage(fn, LLVMInternalLinkage);
    llvm_add_attributes(g, fn);
    LLVMBasicBlockRef start = LLVMAppendBasicBlockInContext(g->ctx, fn, "start");
    LLVMBasicBlockRef bad = LLVMAppendBasicBlockInContext(g->ctx, fn, "bad");
    LLVMBasicBlockRef good = LLVMAppendBasicBlockInContext(g->ctx, fn, "good");
    LLVMPositionBuilderAtEnd(g->b, start);
    LLVMValueRef x = LLVMGetParam(fn, 0), y = LLVMGetParam(fn, 1);
    LLVMValueRef ax = llvm_overloaded(g, "llvm.fabs", x), ay = llvm_overloaded(g, "llvm.fabs", y);
    LLVMValueRef inf = LLVMConstReal(g->f64, __builtin_inf()), zero = LLVMConstReal(g->f64, 0);
    LLVMValueRef usable = LLVMBuildAnd(g->b, LLVMBuildFCmp(g->b, LLVMRealOLT, ax, inf, ""),
                                       LLVMBuildFCmp(g->b, LLVMRealOGT, ay, zero, ""), "");
    LLVMBuildCondBr(g->b, usable, good, bad);
    LLVMPositionBuilderAtEnd(g->b, bad);
    LLVMBuildRet(g->b, LLVMConstReal(g->f64, __builtin_nan("")));
    LLVMPositionBuilderAtEnd(g->b, good);
    LLVMValueRef is_tiny =
        LLVMBuildFCmp(g->b, LLVMRealOLT, ay, LLVMConstReal(g->f64, 0x1p-900), "");
    LLVMValueRef one = LLVMConstReal(g->f64, 1);
    LLVMValueRef up = LLVMBuildSelect(g->b, is_tiny, LLVMConstReal(g->f64, 0x1p100), one, "");
    LLVMValueRef down = LLVMBuildSelect(g->b, is_tiny, LLVMConstReal(g->f64, 0x1p-100), one, "");
    LLVMValueRef big = LLVMBuildFMul(g->b, ay, up, "");
    LLVMValueRef r = reduce_loop(g, fn, ax, big);
    r = reduce_loop(g, fn, LLVMBuildFMul(g->b, r, up, ""), big);
    LLVMValueRef args[] = {LLVMBuildFMul(g->b, r, down, ""), x};
    LLVMBuildRet(g->b, llvm_call(g, "llvm.copysign", &g->f64, 1, args, 2));
    LLVMPositionBuilderAtEnd(g->b, back);
    return fn;
}

static LLVMValueRef one_rem(LlvmGen *g, LLVMTypeRef scalar, LLVMValueRef x, LLVMValueRef y) {
    if (!g->float_rem) g->float_rem = make_float_rem(g);
    LLVMTypeRef params[] = {g->f64, g->f64};
    LLVMTypeRef type = LLVMFunctionType(g->f64, params, 2, 0);
    LLVMValueRef args[] = {x, y};
    for (int i = 0; i < 2; i++)
        if (scalar == g->f32) args[i] = LLVMBuildFPExt(g->b, args[i], g->f64, "");
    LLVMValueRef r = LLVMBuildCall2(g->b, type, g->float_rem, args, 2, "");
    return scalar == g->f32 ? LLVMBuildFPTrunc(g->b, r, g->f32, "") : r;
}

static LLVMValueRef each_rem(LlvmGen *g, LLVMValueRef x, LLVMValueRef y) {
    LLVMTypeRef t = LLVMTypeOf(x), scalar = LLVMGetElementType(t);
    LLVMValueRef all = LLVMGetPoison(t);
    for (unsigned i = 0; i < llvm_lanes(x); i++) {
        LLVMValueRef at = LLVMConstInt(g->i32, i, 0);
        LLVMValueRef r = one_rem(g, scalar, LLVMBuildExtractElement(g->b, x, at, ""),
                                 LLVMBuildExtractElement(g->b, y, at, ""));
        all = LLVMBuildInsertElement(g->b, all, r, at, "");
    }
    return all;
}

/* ---- lanes ----------------------------------------------------------------------------------- */

static void return_quick(LlvmGen *g, LLVMValueRef x, LLVMValueRef ax, LLVMValueRef ay,
                         LLVMValueRef quotient) {
    LLVMTypeRef t = LLVMTypeOf(x);
    LLVMValueRef n = llvm_round(g, KO_trunc, quotient);
    LLVMValueRef r = llvm_fused(g, LLVMBuildFNeg(g->b, n, ""), ay, ax);
    LLVMValueRef below = LLVMBuildFCmp(g->b, LLVMRealOLT, r, LLVMConstNull(t), "");
    r = LLVMBuildSelect(g->b, below, LLVMBuildFAdd(g->b, r, ay, ""), r, "");
    r = LLVMBuildSelect(g->b, LLVMBuildFCmp(g->b, LLVMRealOLT, ax, ay, ""), ax, r, "");
    LLVMValueRef args[] = {r, x};
    LLVMBuildRet(g->b, llvm_call(g, "llvm.copysign", &t, 1, args, 2));
}

/* <lanes x t> float_rem_LANES_t(x, y): NaN, infinite x and y of 0 have quotients that are not below
 * the limit. */
static LLVMValueRef make_lanes_rem(LlvmGen *g, const char *name, LLVMTypeRef type) {
    LLVMBasicBlockRef back = LLVMGetInsertBlock(g->b);
    LLVMValueRef fn = LLVMAddFunction(g->mod, name, type);
    LLVMSetLinkage(fn, LLVMInternalLinkage);
    llvm_add_attributes(g, fn);
    LLVMBasicBlockRef start = LLVMAppendBasicBlockInContext(g->ctx, fn, "start");
    LLVMBasicBlockRef quick = LLVMAppendBasicBlockInContext(g->ctx, fn, "quick");
    LLVMBasicBlockRef slow = LLVMAppendBasicBlockInContext(g->ctx, fn, "slow");
    LLVMPositionBuilderAtEnd(g->b, start);
    LLVMValueRef x = LLVMGetParam(fn, 0), y = LLVMGetParam(fn, 1);
    LLVMTypeRef scalar = LLVMGetElementType(LLVMTypeOf(x));
    LLVMValueRef ax = llvm_overloaded(g, "llvm.fabs", x), ay = llvm_overloaded(g, "llvm.fabs", y);
    LLVMValueRef q = LLVMBuildFDiv(g->b, ax, ay, "");
    LLVMValueRef limit = llvm_real(g, scalar, llvm_lanes(x), scalar == g->f64 ? 0x1p51 : 0x1p22);
    LLVMValueRef is_near = LLVMBuildFCmp(g->b, LLVMRealOLT, q, limit, "");
    LLVMBuildCondBr(g->b, llvm_overloaded(g, "llvm.vector.reduce.and", is_near), quick, slow);
    LLVMPositionBuilderAtEnd(g->b, quick);
    return_quick(g, x, ax, ay, q);
    LLVMPositionBuilderAtEnd(g->b, slow);
    LLVMBuildRet(g->b, each_rem(g, x, y));
    LLVMPositionBuilderAtEnd(g->b, back);
    return fn;
}

LLVMValueRef llvm_float_rem(LlvmGen *g, LLVMValueRef x, LLVMValueRef y) {
    unsigned lanes = llvm_lanes(x);
    if (!lanes) return one_rem(g, LLVMTypeOf(x), x, y);
    if (!g->cpu.fma) return each_rem(g, x, y);
    LLVMTypeRef t = LLVMTypeOf(x), params[] = {t, t}, type = LLVMFunctionType(t, params, 2, 0);
    char name[48];
    snprintf(name, sizeof name, "float_rem_%u_f%d", lanes,
             LLVMGetElementType(t) == g->f64 ? 64 : 32);
    LLVMValueRef fn = LLVMGetNamedFunction(g->mod, name);
    if (!fn) fn = make_lanes_rem(g, name, type);
    LLVMValueRef args[] = {x, y};
    return LLVMBuildCall2(g->b, type, fn, args, 2, "");
}
