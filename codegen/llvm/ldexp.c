/* Multiplication by a power of two, rounded once: ldexp of kernel IR.
 *
 * AVX-512 has an instruction for it, of 16, 32 or 64 bytes; lanes that fill none of these are part
 * of the next larger one. Elsewhere it is done in steps, of which only the last can leave bits
 * away:
 *
 *     twice: k = n < least ? least + digits : n > bias ? bias : 0;  a *= 2^k;  n -= k
 *     a * 2^n */
#include "codegen/llvm/llvm_gen.h"

typedef struct Format {
    LLVMTypeRef scalar, bits;
    int mantissa, bias;
    bool is_f32;
} Format;

static Format format_of(LlvmGen *g, LLVMValueRef v) {
    LLVMTypeRef t = LLVMTypeOf(v);
    if (llvm_lanes(v)) t = LLVMGetElementType(t);
    return t == g->f32 ? (Format){t, g->i32, 23, 127, true} : (Format){t, g->i64, 52, 1023, false};
}

/* ---- in steps -------------------------------------------------------------------------------- */

/* 2^n for a whole n among the exponents of normal numbers */
static LLVMValueRef power(LlvmGen *g, const Format *f, LLVMValueRef n) {
    unsigned lanes = llvm_lanes(n);
    LLVMTypeRef bits = llvm_widen(f->bits, lanes), t = llvm_widen(f->scalar, lanes);
    LLVMValueRef i = LLVMBuildFPToSI(g->b, n, bits, "");
    i = LLVMBuildAdd(g->b, i, llvm_int(g, f->bits, lanes, f->bias), "");
    i = LLVMBuildShl(g->b, i, llvm_int(g, f->bits, lanes, f->mantissa), "");
    return LLVMBuildBitCast(g->b, i, t, "");
}

static LLVMValueRef below(LlvmGen *g, LLVMValueRef a, LLVMValueRef b) {
    return LLVMBuildFCmp(g->b, LLVMRealOLT, a, b, "");
}

static LLVMValueRef in_steps(LlvmGen *g, LLVMValueRef a, LLVMValueRef b) {
    Format f = format_of(g, a);
    unsigned lanes = llvm_lanes(a);
#define REAL(v) llvm_real(g, f.scalar, lanes, v)
    double most = f.is_f32 ? 300 : 2500, least = 1 - f.bias;
    LLVMValueRef n = LLVMBuildSelect(g->b, below(g, b, REAL(most)), b, REAL(most), "");
    n = LLVMBuildSelect(g->b, below(g, n, REAL(-most)), REAL(-most), n, "");
    n = llvm_round(g, KO_floor, n);
    for (int i = 0; i < 2; i++) {
        LLVMValueRef up =
            LLVMBuildSelect(g->b, below(g, REAL(f.bias), n), REAL(f.bias), REAL(0), "");
        LLVMValueRef k = LLVMBuildSelect(g->b, below(g, n, REAL(least)),
                                         REAL(least + f.mantissa + 1), up, "");
        a = LLVMBuildFMul(g->b, a, power(g, &f, k), "");
        n = LLVMBuildFSub(g->b, n, k, "");
    }
    a = LLVMBuildFMul(g->b, a, power(g, &f, n), "");
    return LLVMBuildSelect(g->b, LLVMBuildFCmp(g->b, LLVMRealUNO, b, b, ""), b, a, "");
#undef REAL
}

/* ---- AVX-512 --------------------------------------------------------------------------------- */

/* Lanes from .. from + n - 1 of v as a vector of `width`. */
static LLVMValueRef part_of(LlvmGen *g, LLVMValueRef v, unsigned from, unsigned n, unsigned width) {
    LLVMValueRef at[64];
    if (!llvm_lanes(v)) {
        LLVMValueRef none = LLVMGetPoison(llvm_widen(LLVMTypeOf(v), width));
        return LLVMBuildInsertElement(g->b, none, v, LLVMConstInt(g->i32, 0, 0), "");
    }
    if (!from && n == width && llvm_lanes(v) == width) return v;
    for (unsigned i = 0; i < width; i++)
        at[i] = i < n ? LLVMConstInt(g->i32, from + i, 0) : LLVMGetPoison(g->i32);
    return LLVMBuildShuffleVector(g->b, v, LLVMGetPoison(LLVMTypeOf(v)), LLVMConstVector(at, width),
                                  "");
}

static LLVMValueRef instruction(LlvmGen *g, const Format *f, unsigned width, LLVMValueRef a,
                                LLVMValueRef b) {
    static const char *const names[2][3] = {
        {"llvm.x86.avx512.mask.scalef.ps.128", "llvm.x86.avx512.mask.scalef.ps.256",
         "llvm.x86.avx512.mask.scalef.ps.512"},
        {"llvm.x86.avx512.mask.scalef.pd.128", "llvm.x86.avx512.mask.scalef.pd.256",
         "llvm.x86.avx512.mask.scalef.pd.512"}};
    unsigned bytes = width * (f->is_f32 ? 4 : 8);
    LLVMTypeRef mask = width == 16 ? g->i16 : g->i8;
    LLVMValueRef args[] = {a, b, LLVMConstNull(LLVMTypeOf(a)), LLVMConstAllOnes(mask),
                           LLVMConstInt(g->i32, 4, 0)}; /* the rounding that is set */
    return llvm_call(g, names[!f->is_f32][bytes / 32], NULL, 0, args, bytes == 64 ? 5 : 4);
}

static LLVMValueRef by_instruction(LlvmGen *g, LLVMValueRef a, LLVMValueRef b) {
    Format f = format_of(g, a);
    unsigned lanes = llvm_lanes(a), most = f.is_f32 ? 16 : 8, width = most / 4;
    unsigned n = lanes ? lanes : 1;
    while (width < most && width < n) width *= 2;
    LLVMValueRef all = NULL, at[64];
    for (unsigned from = 0; from < n; from += width) {
        unsigned here = n - from < width ? n - from : width;
        LLVMValueRef r = instruction(g, &f, width, part_of(g, a, from, here, width),
                                     part_of(g, b, from, here, width));
        if (!lanes) return LLVMBuildExtractElement(g->b, r, LLVMConstInt(g->i32, 0, 0), "");
        if (lanes == width) return r;
        r = part_of(g, r, 0, here, lanes);
        for (unsigned l = 0; l < lanes; l++)
            at[l] = LLVMConstInt(g->i32, l >= from && l < from + here ? lanes + l - from : l, 0);
        all = all ? LLVMBuildShuffleVector(g->b, all, r, LLVMConstVector(at, lanes), "") : r;
    }
    return all;
}

LLVMValueRef llvm_ldexp(LlvmGen *g, LLVMValueRef a, LLVMValueRef b) {
    bool fits = g->cpu.avx512 && g->target->ldexp && llvm_lanes(a) <= 64;
    return fits ? by_instruction(g, a, b) : in_steps(g, a, b);
}
