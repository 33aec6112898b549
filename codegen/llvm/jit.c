/* The compiled model in memory, through LLVM's ORC.
 *
 * The code is that of the library: the same objects, linked here. Only the weights differ: the
 * entry holds the address of each constant as a number, so a mapped model file is used where it
 * lies. Constants that are not aligned as kernels expect are copied. */
#include <llvm-c/LLJIT.h>
#include <stdlib.h>
#include <string.h>

#include "codegen/llvm/object.h"

struct CodegenJit {
    LLVMOrcLLJITRef lljit;
    const KModule *m;
    void **copy; /* per constant: aligned memory that was needed, or NULL */
    const void **address;
};

static void place_constants(CodegenJit *j) {
    const KModule *m = j->m;
    j->copy = xmalloc(sizeof *j->copy * (m->n_consts + 1));
    j->address = xmalloc(sizeof *j->address * (m->n_consts + 1));
    for (uint32_t i = 0; i < m->n_consts; i++) {
        const KBuf *b = m->consts[i];
        j->address[i] = b->data;
        if ((uintptr_t)b->data % 64 == 0) continue;
        int64_t n = 0;
        k_is_int(b->n_elems, &n);
        size_t bytes = (size_t)n * (size_t)dtype_bytes(b->dtype);
        j->copy[i] = xmalloc(bytes + 64);
        char *at = (char *)j->copy[i] + (64 - (uintptr_t)j->copy[i] % 64);
        memcpy(at, b->data, bytes);
        j->address[i] = at;
    }
}

static bool failed(LLVMErrorRef e, Diag *d) {
    if (!e) return false;
    char *text = LLVMGetErrorMessage(e);
    diag_error(d, SRC_NOWHERE, "LLVM's in-memory linker: %s", text);
    LLVMDisposeErrorMessage(text);
    return true;
}

static bool add_objects(CodegenJit *j, const Target *t, const CodegenOptions *o, Diag *d) {
    uint32_t n;
    Arena *a = arena_create();
    Api *api = api_create(a, j->m, t);
    if (!llvm_check(api, j->m, t, d)) {
        arena_destroy(a);
        return false;
    }
    LlvmGroup *groups = llvm_plan_groups(j->m, &n);
    LLVMMemoryBufferRef *built = llvm_build_objects(j->m, t, o, api, j->address, groups, n, NULL);
    LLVMOrcJITDylibRef dylib = LLVMOrcLLJITGetMainJITDylib(j->lljit);
    bool good = true;
    for (uint32_t i = 0; i < n; i++) {
        if (good)
            good = !failed(LLVMOrcLLJITAddObjectFile(j->lljit, dylib, built[i]), d);
        else
            LLVMDisposeMemoryBuffer(built[i]);
    }
    free(built);
    free(groups);
    arena_destroy(a);
    return good;
}

/* memcpy and its family, which LLVM may call, come from this process. */
static bool add_process_symbols(CodegenJit *j, Diag *d) {
    LLVMOrcDefinitionGeneratorRef process;
    char prefix = LLVMOrcLLJITGetGlobalPrefix(j->lljit);
    if (failed(LLVMOrcCreateDynamicLibrarySearchGeneratorForProcess(&process, prefix, NULL, NULL),
               d))
        return false;
    LLVMOrcJITDylibAddGenerator(LLVMOrcLLJITGetMainJITDylib(j->lljit), process);
    return true;
}

/* Empty, for code of this target. */
static CodegenJit *create(const KModule *m, const Target *t, int opt, Diag *d) {
    CodegenJit *j = xmalloc(sizeof *j);
    memset(j, 0, sizeof *j);
    j->m = m;
    llvm_init_target(NULL);
    LLVMOrcJITTargetMachineBuilderRef machine =
        LLVMOrcJITTargetMachineBuilderCreateFromTargetMachine(llvm_machine(t, opt));
    LLVMOrcLLJITBuilderRef builder = LLVMOrcCreateLLJITBuilder();
    LLVMOrcLLJITBuilderSetJITTargetMachineBuilder(builder, machine);
    if (failed(LLVMOrcCreateLLJIT(&j->lljit, builder), d)) {
        free(j);
        return NULL;
    }
    if (add_process_symbols(j, d)) return j;
    codegen_jit_destroy(j);
    return NULL;
}

CodegenJit *codegen_llvm_jit(const KModule *m, const Target *t, const CodegenOptions *o, Diag *d) {
    CodegenJit *j = create(m, t, o->opt, d);
    if (!j) return NULL;
    place_constants(j);
    if (add_objects(j, t, o, d) && codegen_jit_model(j)) return j;
    if (!diag_n_errors(d)) diag_error(d, SRC_NOWHERE, "the compiled model did not link in memory");
    codegen_jit_destroy(j);
    return NULL;
}

/* ---- callers of C functions ------------------------------------------------------------------ */

/* void call(void *const *addresses, const int64_t *scalars) {
 *     name(addresses[0], .., scalars[0], ..);
 * } */
static void emit_caller(LLVMModuleRef mod, LLVMBuilderRef b, const KStmt *s, const char *name) {
    LLVMContextRef x = LLVMGetModuleContext(mod);
    LLVMTypeRef none = LLVMVoidTypeInContext(x), word = LLVMInt64TypeInContext(x);
    LLVMTypeRef ptr = LLVMPointerTypeInContext(x, 0), own[] = {ptr, ptr};
    uint32_t n = s->n_args + s->n_scalars;
    LLVMTypeRef *type = xmalloc(sizeof *type * (n + 1));
    LLVMValueRef *arg = xmalloc(sizeof *arg * (n + 1));
    LLVMValueRef caller = LLVMAddFunction(mod, name, LLVMFunctionType(none, own, 2, 0));
    LLVMPositionBuilderAtEnd(b, LLVMAppendBasicBlockInContext(x, caller, ""));
    for (uint32_t i = 0; i < n; i++) {
        bool is_scalar = i >= s->n_args;
        LLVMValueRef at = LLVMConstInt(word, is_scalar ? i - s->n_args : i, 0);
        type[i] = is_scalar ? word : ptr;
        at = LLVMBuildGEP2(b, type[i], LLVMGetParam(caller, is_scalar), &at, 1, "");
        arg[i] = LLVMBuildLoad2(b, type[i], at, "");
    }
    LLVMTypeRef called = LLVMFunctionType(none, type, n, 0);
    LLVMBuildCall2(b, called, LLVMAddFunction(mod, s->text, called), arg, n, "");
    LLVMBuildRetVoid(b);
    free(type);
    free(arg);
}

CodegenJit *codegen_llvm_callers(const KModule *m, const Target *t, Diag *d) {
    CodegenJit *j = create(m, t, 0, d);
    if (!j) return NULL;
    Arena *a = arena_create();
    size_t n;
    const KStmt **call = api_foreign_calls(a, m, &n);
    LLVMOrcThreadSafeContextRef context = LLVMOrcCreateNewThreadSafeContext();
    LLVMContextRef x = LLVMOrcThreadSafeContextGetContext(context);
    LLVMModuleRef mod = LLVMModuleCreateWithNameInContext("callers", x);
    LLVMBuilderRef b = LLVMCreateBuilderInContext(x);
    for (size_t i = 0; i < n; i++)
        emit_caller(mod, b, call[i], arena_printf(a, "%s_call_%s", m->name, call[i]->text));
    LLVMDisposeBuilder(b);
    LLVMOrcThreadSafeModuleRef safe = LLVMOrcCreateNewThreadSafeModule(mod, context);
    LLVMOrcDisposeThreadSafeContext(context);
    arena_destroy(a);
    LLVMOrcJITDylibRef dylib = LLVMOrcLLJITGetMainJITDylib(j->lljit);
    if (!failed(LLVMOrcLLJITAddLLVMIRModule(j->lljit, dylib, safe), d)) return j;
    codegen_jit_destroy(j);
    return NULL;
}

/* ---- what is in it --------------------------------------------------------------------------- */

static void *look_up(const CodegenJit *j, const char *suffix) {
    StrBuf name = {0};
    strbuf_printf(&name, "%s_%s", j->m->name, suffix);
    LLVMOrcExecutorAddress at = 0;
    LLVMErrorRef e = LLVMOrcLLJITLookup(j->lljit, &at, strbuf_text(&name));
    strbuf_free(&name);
    if (e) {
        char *text = LLVMGetErrorMessage(e);
        fprintf(stderr, "smelt: in-memory linker: %s\n", text);
        LLVMDisposeErrorMessage(text);
        return NULL;
    }
    return (void *)(uintptr_t)at;
}

const struct smelt_model *codegen_jit_model(const CodegenJit *j) {
    return look_up(j, "model");
}

void *codegen_jit_kernel(const CodegenJit *j, const Kernel *kn) {
    return look_up(j, kn->name);
}

CodegenCaller *codegen_jit_caller(const CodegenJit *j, const char *function) {
    StrBuf suffix = {0};
    strbuf_printf(&suffix, "call_%s", function);
    void *at = look_up(j, strbuf_text(&suffix));
    strbuf_free(&suffix);
    return (CodegenCaller *)(uintptr_t)at;
}

void codegen_jit_destroy(CodegenJit *j) {
    if (!j) return;
    LLVMErrorRef e = LLVMOrcDisposeLLJIT(j->lljit);
    if (e) LLVMConsumeError(e);
    for (uint32_t i = 0; j->copy && i < j->m->n_consts; i++) free(j->copy[i]);
    free(j->copy);
    free((void *)j->address);
    free(j);
}
