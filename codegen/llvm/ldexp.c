/* Multiplication by a power of two, rounded once: ldexp of kernel IR. And root16: a permutation of
 * a vector of constants.
 *
 * AVX-512 has an instruction for it, of 16, 32 or 64 bytes; lanes that fill none of these are part
 * of the next larger one. Elsewhere it is done in steps, of which only the last can leave bits
 * away:
 *
 *     twice: k = n < least ? least + digits : n > bias ? bias : 0;  a *= 2^k;  n -= k
 *     a * 2^n */
#include "codegen/llvm/llvm_gen.h"
#include "ir/root16.h"

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

static LLVMValueRef roots_of(LlvmGen *g) {
    static const int32_t bits[16] = {ROOT16_BITS};
    LLVMValueRef root[16];
    for (int i = 0; i < 16; i++) root[i] = LLVMConstInt(g->i32, (uint32_t)bits[i], 0);
    return LLVMConstVector(root, 16);
}

/* a * 2^b in `width` lanes; without b, the roots of a, in 16. */
static LLVMValueRef in_lanes(LlvmGen *g, unsigned width, LLVMValueRef a, LLVMValueRef b) {
    if (b) {
        Format f = format_of(g, a);
        return instruction(g, &f, width, a, b);
    }
    LLVMValueRef args[] = {roots_of(g), a};
    return llvm_call(g, "llvm.x86.avx512.permvar.si.512", NULL, 0, args, 2);
}

/* Up to 64 lanes in vectors of an instruction: of width .. most. */
static LLVMValueRef by_instruction(LlvmGen *g, unsigned width, unsigned most, LLVMValueRef a,
                                   LLVMValueRef b) {
    unsigned lanes = llvm_lanes(a), n = lanes ? lanes : 1;
    while (width < most && width < n) width *= 2;
    LLVMValueRef all = NULL, at[64];
    for (unsigned from = 0; from < n; from += width) {
        unsigned here = n - from < width ? n - from : width;
        LLVMValueRef r = in_lanes(g, width, part_of(g, a, from, here, width),
                                  b ? part_of(g, b, from, here, width) : NULL);
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
    unsigned most = format_of(g, a).is_f32 ? 16 : 8;
    bool fits = g->cpu.avx512 && g->target->ldexp && llvm_lanes(a) <= 64;
    return fits ? by_instruction(g, most / 4, most, a, b) : in_steps(g, a, b);
}

LLVMValueRef llvm_root16(LlvmGen *g, LLVMValueRef a) {
    unsigned lanes = llvm_lanes(a);
    if (g->cpu.avx512 && lanes <= 64) return by_instruction(g, 16, 16, a, NULL);
    LLVMValueRef all = lanes ? LLVMGetPoison(LLVMTypeOf(a)) : NULL, roots = roots_of(g);
    LLVMValueRef j = LLVMBuildAnd(g->b, a, llvm_int(g, g->i32, lanes, 15), "");
    if (!lanes) return LLVMBuildExtractElement(g->b, roots, j, "");
    for (unsigned l = 0; l < lanes; l++) {
        LLVMValueRef lane = LLVMConstInt(g->i32, l, 0);
        LLVMValueRef at = LLVMBuildExtractElement(g->b, j, lane, "");
        LLVMValueRef root = LLVMBuildExtractElement(g->b, roots, at, "");
        all = LLVMBuildInsertElement(g->b, all, root, lane, "");
    }
    return all;
}
