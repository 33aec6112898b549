/* Dot products of words: a sum of four products of bytes, or of two of halves, is what a machine's
 * instruction makes of it, or a few instructions with the same bits.
 *
 *     dot4_us    vpdpbusd; usdot; two pmaddwd of bytes as halves; sdot of u - 128
 *     dot4_ss    sdot
 *     dot2_ss    pmaddwd and an addition
 *     dot2_bf    vdpbf16ps; two multiply-adds
 *
 * Vectors that are wider than the machine's are done piece by piece. */
#include "codegen/llvm/llvm_gen.h"


/* ---- four bytes ------------------------------------------------------------------------------ */

/* Without an instruction: bytes of b are signed or not. */
static LLVMValueRef dot4_generic(LlvmGen *g, LLVMValueRef a, LLVMValueRef b, LLVMValueRef c,
                                 bool is_signed) {
    unsigned lanes = llvm_lanes(a);
    LLVMValueRef top = llvm_int(g, g->i32, lanes, 24);
    for (int i = 0; i < 4; i++) {
        LLVMValueRef up = llvm_int(g, g->i32, lanes, 24 - 8 * i);
        LLVMValueRef u = LLVMBuildShl(g->b, b, up, ""), s = LLVMBuildShl(g->b, c, up, "");
        u = is_signed ? LLVMBuildAShr(g->b, u, top, "") : LLVMBuildLShr(g->b, u, top, "");
        LLVMValueRef p = LLVMBuildMul(g->b, u, LLVMBuildAShr(g->b, s, top, ""), "");
        a = LLVMBuildAdd(g->b, a, p, "");
    }
    return a;
}

/* pmaddwd multiplies and adds pairs of i16 without loss: once for even bytes, once for odd ones. */
static LLVMValueRef dot4_pairs(LlvmGen *g, const char *madd, LLVMValueRef a, LLVMValueRef b,
                               LLVMValueRef c) {
    unsigned lanes = llvm_lanes(a);
    LLVMTypeRef half = LLVMVectorType(g->i16, 2 * lanes);
    LLVMValueRef bh = LLVMBuildBitCast(g->b, b, half, ""), ch = LLVMBuildBitCast(g->b, c, half, "");
    LLVMValueRef eight = llvm_int(g, g->i16, 2 * lanes, 8),
                 low = llvm_int(g, g->i16, 2 * lanes, 255);
    LLVMValueRef even[] = {LLVMBuildAnd(g->b, bh, low, ""),
                           LLVMBuildAShr(g->b, LLVMBuildShl(g->b, ch, eight, ""), eight, "")};
    LLVMValueRef odd[] = {LLVMBuildLShr(g->b, bh, eight, ""), LLVMBuildAShr(g->b, ch, eight, "")};
    a = LLVMBuildAdd(g->b, a, llvm_call(g, madd, NULL, 0, even, 2), "");
    return LLVMBuildAdd(g->b, a, llvm_call(g, madd, NULL, 0, odd, 2), "");
}

/* AArch64, four lanes. Without usdot: u*s = (u - 128)*s + 128*s, and sdot sums the s too. */
static LLVMValueRef dot4_arm(LlvmGen *g, LLVMValueRef a, LLVMValueRef b, LLVMValueRef c) {
    LLVMTypeRef bytes = LLVMVectorType(g->i8, 16), types[] = {LLVMTypeOf(a), bytes};
    LLVMValueRef bb = LLVMBuildBitCast(g->b, b, bytes, ""),
                 cb = LLVMBuildBitCast(g->b, c, bytes, "");
    if (g->cpu.i8mm) {
        LLVMValueRef args[] = {a, bb, cb};
        return llvm_call(g, "llvm.aarch64.neon.usdot", types, 2, args, 3);
    }
    LLVMValueRef moved = LLVMBuildXor(g->b, bb, llvm_int(g, g->i8, 16, 128), "");
    LLVMValueRef dot[] = {a, moved, cb};
    LLVMValueRef sum[] = {LLVMConstNull(LLVMTypeOf(a)), llvm_int(g, g->i8, 16, 1), cb};
    a = llvm_call(g, "llvm.aarch64.neon.sdot", types, 2, dot, 3);
    LLVMValueRef s = llvm_call(g, "llvm.aarch64.neon.sdot", types, 2, sum, 3);
    return LLVMBuildAdd(g->b, a, LLVMBuildShl(g->b, s, llvm_int(g, g->i32, 4, 7), ""), "");
}

static LLVMValueRef dot4_ss_piece(LlvmGen *g, LLVMValueRef a, LLVMValueRef b, LLVMValueRef c) {
    if (llvm_lanes(a) != 4 || !g->cpu.dotprod) return dot4_generic(g, a, b, c, true);
    LLVMTypeRef bytes = LLVMVectorType(g->i8, 16), types[] = {LLVMTypeOf(a), bytes};
    LLVMValueRef args[] = {a, LLVMBuildBitCast(g->b, b, bytes, ""),
                           LLVMBuildBitCast(g->b, c, bytes, "")};
    return llvm_call(g, "llvm.aarch64.neon.sdot", types, 2, args, 3);
}

static LLVMValueRef dot4_us_piece(LlvmGen *g, LLVMValueRef a, LLVMValueRef b, LLVMValueRef c) {
    unsigned lanes = llvm_lanes(a);
    LLVMValueRef args[] = {a, b, c};
    const CpuTraits *cpu = &g->cpu;
    if (lanes == 16 && cpu->vnni512)
        return llvm_call(g, "llvm.x86.avx512.vpdpbusd.512", NULL, 0, args, 3);
    if (lanes == 8 && cpu->vnni256)
        return llvm_call(g, "llvm.x86.avx512.vpdpbusd.256", NULL, 0, args, 3);
    if (lanes == 4 && cpu->vnni256)
        return llvm_call(g, "llvm.x86.avx512.vpdpbusd.128", NULL, 0, args, 3);
    if (lanes == 16 && cpu->avx512bw) return dot4_pairs(g, "llvm.x86.avx512.pmaddw.d.512", a, b, c);
    if (lanes == 8 && cpu->avx2) return dot4_pairs(g, "llvm.x86.avx2.pmadd.wd", a, b, c);
    if (lanes == 4 && cpu->x86) return dot4_pairs(g, "llvm.x86.sse2.pmadd.wd", a, b, c);
    if (lanes == 4 && (cpu->i8mm || cpu->dotprod)) return dot4_arm(g, a, b, c);
    return dot4_generic(g, a, b, c, false);
}

/* ---- two halves ------------------------------------------------------------------------------ */

/* The sign-extended low or high half of each word. */
static LLVMValueRef half_of(LlvmGen *g, LLVMValueRef v, bool is_high) {
    LLVMValueRef by = llvm_int(g, g->i32, llvm_lanes(v), 16);
    return LLVMBuildAShr(g->b, is_high ? v : LLVMBuildShl(g->b, v, by, ""), by, "");
}

static LLVMValueRef dot2_ss_piece(LlvmGen *g, LLVMValueRef a, LLVMValueRef b, LLVMValueRef c) {
    unsigned lanes = llvm_lanes(a);
    const CpuTraits *cpu = &g->cpu;
    const char *madd = lanes == 16 && cpu->avx512bw ? "llvm.x86.avx512.pmaddw.d.512"
                       : lanes == 8 && cpu->avx2    ? "llvm.x86.avx2.pmadd.wd"
                       : lanes == 4 && cpu->x86     ? "llvm.x86.sse2.pmadd.wd"
                                                    : NULL;
    for (int i = 0; !madd && i < 2; i++) {
        LLVMValueRef p = LLVMBuildMul(g->b, half_of(g, b, i), half_of(g, c, i), "");
        a = LLVMBuildAdd(g->b, a, p, "");
    }
    if (!madd) return a;
    LLVMTypeRef halves = LLVMVectorType(g->i16, 2 * lanes);
    LLVMValueRef args[] = {LLVMBuildBitCast(g->b, b, halves, ""),
                           LLVMBuildBitCast(g->b, c, halves, "")};
    return LLVMBuildAdd(g->b, a, llvm_call(g, madd, NULL, 0, args, 2), "");
}

/* ---- two bfloat16s --------------------------------------------------------------------------- */

/* The low or high half of each word, as f32. */
static LLVMValueRef bf16_of(LlvmGen *g, LLVMValueRef v, bool is_high) {
    unsigned lanes = llvm_lanes(v);
    LLVMTypeRef to = lanes ? LLVMVectorType(g->f32, lanes) : g->f32;
    v = is_high ? LLVMBuildAnd(g->b, v, llvm_int(g, g->i32, lanes, 0xffff0000), "")
                : LLVMBuildShl(g->b, v, llvm_int(g, g->i32, lanes, 16), "");
    return LLVMBuildBitCast(g->b, v, to, "");
}

static LLVMValueRef dot2_bf_piece(LlvmGen *g, LLVMValueRef a, LLVMValueRef b, LLVMValueRef c) {
    unsigned lanes = llvm_lanes(a);
    const char *dot = !g->cpu.bf16   ? NULL
                      : lanes == 16 ? "llvm.x86.avx512bf16.dpbf16ps.512"
                      : lanes == 8  ? "llvm.x86.avx512bf16.dpbf16ps.256"
                      : lanes == 4  ? "llvm.x86.avx512bf16.dpbf16ps.128"
                                    : NULL;
    if (!dot) {
        a = llvm_fused(g, bf16_of(g, b, true), bf16_of(g, c, true), a);
        return llvm_fused(g, bf16_of(g, b, false), bf16_of(g, c, false), a);
    }
    LLVMTypeRef halves = LLVMVectorType(LLVMBFloatTypeInContext(g->ctx), 2 * lanes);
    LLVMValueRef args[] = {a, LLVMBuildBitCast(g->b, b, halves, ""),
                           LLVMBuildBitCast(g->b, c, halves, "")};
    return llvm_call(g, dot, NULL, 0, args, 3);
}

/* ---- pieces ---------------------------------------------------------------------------------- */

/* One that the hardware has; the result has the same bits whichever way is taken. */
static LLVMValueRef dot_piece(LlvmGen *g, KOp op, LLVMValueRef a, LLVMValueRef b, LLVMValueRef c) {
    switch ((int)op) {
    case KO_dot4_us: return dot4_us_piece(g, a, b, c);
    case KO_dot4_ss: return dot4_ss_piece(g, a, b, c);
    case KO_dot2_ss: return dot2_ss_piece(g, a, b, c);
    case KO_dot2_bf: return dot2_bf_piece(g, a, b, c);
    default: BUG("'%s' is no dot product", kop_info[op].name);
    }
}

static unsigned dot_width(const CpuTraits *cpu) {
    if (cpu->vnni512 || cpu->avx512bw) return 16;
    if (cpu->vnni256 || cpu->avx2) return 8;
    return cpu->x86 || cpu->i8mm || cpu->dotprod ? 4 : 0;
}

static LLVMValueRef slice(LlvmGen *g, LLVMValueRef v, unsigned from, unsigned n) {
    LLVMValueRef at[64];
    for (unsigned i = 0; i < n; i++) at[i] = LLVMConstInt(g->i32, from + i, 0);
    return LLVMBuildShuffleVector(g->b, v, LLVMGetPoison(LLVMTypeOf(v)), LLVMConstVector(at, n),
                                  "");
}

LLVMValueRef llvm_dot(LlvmGen *g, KOp op, LLVMValueRef a, LLVMValueRef b, LLVMValueRef c) {
    unsigned lanes = llvm_lanes(a), width = dot_width(&g->cpu);
    if (!width || lanes <= width || lanes % width || lanes > 64) return dot_piece(g, op, a, b, c);
    LLVMValueRef all = LLVMGetPoison(LLVMTypeOf(a)), at[64];
    for (unsigned i = 0; i < lanes; i += width) {
        LLVMValueRef r =
            dot_piece(g, op, slice(g, a, i, width), slice(g, b, i, width), slice(g, c, i, width));
        /* Widen the piece, then take its lanes into place. */
        for (unsigned l = 0; l < lanes; l++) at[l] = LLVMConstInt(g->i32, l % width, 0);
        r = LLVMBuildShuffleVector(g->b, r, LLVMGetPoison(LLVMTypeOf(r)),
                                   LLVMConstVector(at, lanes), "");
        for (unsigned l = 0; l < lanes; l++)
            at[l] = LLVMConstInt(g->i32, l >= i && l < i + width ? lanes + l : l, 0);
        all = LLVMBuildShuffleVector(g->b, all, r, LLVMConstVector(at, lanes), "");
    }
    return all;
}
