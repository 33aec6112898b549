/* bool cpu_good(void): does this x86-64 processor have what the model was compiled for?
 *
 * Two tests, both made in every call, since a library without writable data cannot remember.
 *
 *   all     CPUID, then the register state that the system saves (XGETBV). Always right. But CPUID
 *           traps in virtual machines: 1 to 10 microseconds for each of two or three leaves.
 *   state   for models that run shorter than that. First TZCNT of 0, whose encoding is BSF's with a
 *           prefix that older processors ignore: 32 on a processor with BMI, otherwise the
 *           destination stays 0. Processors with BMI have AVX and XSAVE, so that XGETBV may follow;
 *           it never traps and takes some 20 cycles. Its bits are set only where the processor has
 *           AVX, or AVX-512, and the system saves its registers.
 *
 * So `state` refuses a processor without AVX2 or AVX-512, but does not tell apart processors that
 * differ in less (Skylake-X has no VNNI), and takes for granted that the system of a processor with
 * BMI has enabled XSAVE: every system that runs AVX code has. A host that may meet others asks
 * smelt_cpu_supports(model->cpu_features) once, at its start; smelt.h says so. */
#include <string.h>

#include "codegen/llvm/abi.h"

static LLVMValueRef word(LlvmGen *g, uint32_t v) {
    return LLVMConstInt(g->i32, v, 0);
}

typedef struct X86Row {
    const char *name;
    uint32_t leaf, subleaf;
    int reg, bit;
    uint32_t state;
} X86Row;

static const X86Row x86_rows[] = {
#define SMELT_CPU_X86(name, leaf, subleaf, reg, bit, state) {name, leaf, subleaf, reg, bit, state},
#include "runtime/include/smelt_cpu.def"
};
enum { N_X86 = sizeof x86_rows / sizeof x86_rows[0] };

static LLVMValueRef assembler(LlvmGen *g, const char *text, const char *constraints,
                              LLVMTypeRef result, LLVMValueRef *args, unsigned n) {
    LLVMTypeRef types[] = {g->i32, g->i32};
    LLVMTypeRef t = LLVMFunctionType(result, types, n, 0);
    LLVMValueRef code = LLVMGetInlineAsm(t, text, strlen(text), constraints, strlen(constraints), 1,
                                         0, LLVMInlineAsmDialectATT, 0);
    return LLVMBuildCall2(g->b, t, code, args, n, "");
}

static LLVMValueRef all_bits(LlvmGen *g, LLVMValueRef have, uint32_t want) {
    LLVMValueRef mask = word(g, want);
    return LLVMBuildICmp(g->b, LLVMIntEQ, LLVMBuildAnd(g->b, have, mask, ""), mask, "");
}

/* Returns false from the function being built unless `good`. */
static void require(LlvmGen *g, LLVMValueRef fn, LLVMValueRef good) {
    LLVMBasicBlockRef bad = LLVMAppendBasicBlockInContext(g->ctx, fn, "bad");
    LLVMBasicBlockRef next = LLVMAppendBasicBlockInContext(g->ctx, fn, "next");
    LLVMBuildCondBr(g->b, good, next, bad);
    LLVMPositionBuilderAtEnd(g->b, bad);
    LLVMBuildRet(g->b, LLVMConstInt(g->i1, 0, 0));
    LLVMPositionBuilderAtEnd(g->b, next);
}

/* Wanted bits of one CPUID leaf's four registers; false when there are none. */
static bool wanted_bits(const LlvmGen *g, uint32_t leaf, uint32_t subleaf, uint32_t want[4]) {
    bool any = false;
    memset(want, 0, 4 * sizeof *want);
    for (size_t i = 0; i < N_X86; i++) {
        const X86Row *r = &x86_rows[i];
        if (!api_needs_feature(g->api, g->target, r->name)) continue;
        if (r->leaf != leaf || r->subleaf != subleaf) continue;
        want[r->reg] |= 1u << r->bit;
        any = true;
    }
    return any;
}

/* XGETBV: are these bits of XCR0 set? */
static void test_state(LlvmGen *g, LLVMValueRef fn, uint32_t state) {
    LLVMTypeRef types[] = {g->i32, g->i32}, two = LLVMStructTypeInContext(g->ctx, types, 2, 0);
    LLVMValueRef xcr0 = word(g, 0);
    const char *how = "={ax},={dx},{cx},~{dirflag},~{fpsr},~{flags}";
    LLVMValueRef x = assembler(g, "xgetbv", how, two, &xcr0, 1);
    require(g, fn, all_bits(g, LLVMBuildExtractValue(g->b, x, 0, ""), state));
}

static void test_bmi(LlvmGen *g, LLVMValueRef fn) {
    LLVMValueRef zeros[] = {word(g, 0), word(g, 0)};
    const char *how = "=r,r,0,~{dirflag},~{fpsr},~{flags}";
    LLVMValueRef n = assembler(g, "rep; bsfl $1, $0", how, g->i32, zeros, 2);
    require(g, fn, LLVMBuildICmp(g->b, LLVMIntEQ, n, word(g, 32), ""));
}

/* The union of what all wanted features need the system to save. */
static uint32_t wanted_state(const LlvmGen *g) {
    uint32_t state = 0;
    for (size_t i = 0; i < N_X86; i++)
        if (api_needs_feature(g->api, g->target, x86_rows[i].name)) state |= x86_rows[i].state;
    return state;
}

/* CPUID is slow where a hypervisor answers it, so it is asked for two or three leaves: the extended
 * ones (lzcnt and the like) are had by every processor with AVX2. Leaf 1 comes first: a processor
 * with AVX has leaf 7, and its eax says whether subleaf 1 exists. */
static void test_leaves(LlvmGen *g, LLVMValueRef fn) {
    static const uint32_t leaf[] = {1, 7, 7}, subleaf[] = {0, 0, 1};
    LLVMTypeRef four[] = {g->i32, g->i32, g->i32, g->i32};
    LLVMTypeRef result = LLVMStructTypeInContext(g->ctx, four, 4, 0);
    uint32_t want[4], state = wanted_state(g);
    for (int i = 0; i < 3; i++) {
        bool any = wanted_bits(g, leaf[i], subleaf[i], want);
        if (i == 0 && state) want[2] |= 1u << 27 | 1u << 28; /* the system saves registers; AVX */
        if (!any && !(i == 0 && state)) continue;
        LLVMValueRef args[] = {word(g, leaf[i]), word(g, subleaf[i])};
        const char *how = "={ax},={bx},={cx},={dx},{ax},{cx},~{dirflag},~{fpsr},~{flags}";
        LLVMValueRef r = assembler(g, "cpuid", how, result, args, 2), good = NULL;
        for (unsigned j = 0; j < 4; j++) {
            if (!want[j]) continue;
            LLVMValueRef bits = all_bits(g, LLVMBuildExtractValue(g->b, r, j, ""), want[j]);
            good = good ? LLVMBuildAnd(g->b, good, bits, "") : bits;
        }
        require(g, fn, good);
        if (i == 0 && state) test_state(g, fn, state);
    }
}

/* AMX: asks Linux for the tiles, which takes 100 nanoseconds once they were granted. */
static void request_tiles(LlvmGen *g, LLVMValueRef fn) {
    LLVMValueRef args[] = {LLVMConstInt(g->i64, SMELT_AMX_CALL, 0),
                           LLVMConstInt(g->i64, SMELT_AMX_REQUEST, 0),
                           LLVMConstInt(g->i64, SMELT_AMX_TILE_DATA, 0)};
    LLVMTypeRef t = LLVMFunctionType(g->i64, (LLVMTypeRef[]){g->i64, g->i64, g->i64}, 3, 0);
    const char *how = "={ax},{ax},{di},{si},~{rcx},~{r11},~{memory},~{dirflag},~{fpsr},~{flags}";
    LLVMValueRef code =
        LLVMGetInlineAsm(t, "syscall", 7, how, strlen(how), 1, 0, LLVMInlineAsmDialectATT, 0);
    LLVMValueRef rc = LLVMBuildCall2(g->b, t, code, args, 3, "");
    require(g, fn, LLVMBuildICmp(g->b, LLVMIntEQ, rc, LLVMConstInt(g->i64, 0, 0), ""));
}

LLVMValueRef llvm_emit_cpu_test(LlvmGen *g, const Api *api) {
    if (api->cpu_check == CPU_NO_CHECK) return NULL;
    LLVMValueRef fn = LLVMAddFunction(g->mod, "cpu_good", LLVMFunctionType(g->i1, NULL, 0, 0));
    LLVMSetLinkage(fn, LLVMInternalLinkage);
    llvm_add_baseline_attributes(g, fn);
    llvm_add_flag(g, fn, LLVMAttributeFunctionIndex, "noinline", 0);
    LLVMPositionBuilderAtEnd(g->b, LLVMAppendBasicBlockInContext(g->ctx, fn, "start"));
    if (api->cpu_check == CPU_CHECK_ALL) {
        test_leaves(g, fn);
    } else {
        test_bmi(g, fn);
        test_state(g, fn, wanted_state(g));
    }
    if (api->has_tiles) request_tiles(g, fn);
    LLVMBuildRet(g->b, LLVMConstInt(g->i1, 1, 0));
    return fn;
}
