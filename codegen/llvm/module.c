/* LLVM modules, functions and kernels.
 *
 * A kernel becomes a hidden function with a pointer per parameter, an i64 per scalar and, if its
 * top loop is parallel, the range begin..end of that loop. Such a kernel has a thunk too, which a
 * thread pool can call: it unpacks the arguments from a struct on the caller's stack. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "codegen/llvm/llvm_gen.h"

/* ---- machine --------------------------------------------------------------------------------- */

static void init_all_targets(void) {
    LLVMInitializeAllTargetInfos();
    LLVMInitializeAllTargets();
    LLVMInitializeAllTargetMCs();
    LLVMInitializeAllAsmPrinters();
    LLVMInitializeAllAsmParsers();
}

bool llvm_init_target(const Target *t) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, init_all_targets);
    if (!t) return true;
    LLVMTargetRef target;
    char *why = NULL;
    bool found = !LLVMGetTargetFromTriple(t->triple, &target, &why);
    LLVMDisposeMessage(why);
    return found;
}

/* The feature list says what may be used, so the cpu only tunes; without a list it decides. */
static const char *code_cpu(const Target *t) {
    return !strcmp(t->arch, "x86_64") && t->features[0] ? "x86-64" : t->cpu;
}

LLVMTargetMachineRef llvm_machine(const Target *t, int opt) {
    static const LLVMCodeGenOptLevel levels[] = {LLVMCodeGenLevelNone, LLVMCodeGenLevelLess,
                                                 LLVMCodeGenLevelDefault,
                                                 LLVMCodeGenLevelAggressive};
    LLVMTargetRef target;
    char *why = NULL;
    llvm_init_target(NULL);
    BUG_IF(LLVMGetTargetFromTriple(t->triple, &target, &why), "%s", why);
    return LLVMCreateTargetMachine(target, t->triple, code_cpu(t), t->features,
                                   levels[opt < 0   ? 0
                                          : opt > 3 ? 3
                                                    : opt],
                                   LLVMRelocPIC, LLVMCodeModelDefault);
}

static CpuTraits find_traits(const Target *t) {
    CpuTraits c = {0};
    c.x86 = !strcmp(t->arch, "x86_64") || !strncmp(t->triple, "i686", 4);
    bool arm64 = !strcmp(t->arch, "aarch64");
    c.avx2 = c.x86 && target_has(t, "avx2");
    c.avx512 = c.x86 && target_has(t, "avx512f");
    c.avx512bw = c.avx512 && target_has(t, "avx512bw");
    c.vbmi = c.avx512bw && target_has(t, "avx512vbmi");
    c.vnni512 = c.avx512 && target_has(t, "avx512vnni");
    c.vnni256 = (c.vnni512 && target_has(t, "avx512vl")) || (c.x86 && target_has(t, "avxvnni"));
    c.bf16 = c.avx512 && target_has(t, "avx512bf16") && target_has(t, "avx512vl");
    c.amx = c.x86 && t->amx;
    c.i8mm = arm64 && target_has(t, "i8mm");
    c.dotprod = arm64 && target_has(t, "dotprod");
    c.round = arm64 || !strncmp(t->arch, "wasm", 4) || (c.x86 && target_has(t, "sse4.1"));
    c.half = arm64 || (c.x86 && target_has(t, "f16c"));
    c.half_math = arm64 && target_has(t, "fullfp16");
    c.fma = arm64 || t->fma || (c.x86 && target_has(t, "fma"));
    c.gather = c.avx2;
    c.lanes_f64_i64 = c.avx512 && target_has(t, "avx512dq");
    c.narrow = t->pointer_bytes == 4;
    c.divides32 = strcmp(t->arch, "arm") || target_has(t, "hwdiv-arm");
    return c;
}

/* ---- module ---------------------------------------------------------------------------------- */

void llvm_gen_open(LlvmGen *g, const KModule *m, const Target *t, const CodegenOptions *o,
                   const char *module_name) {
    *g = (LlvmGen){.m = m, .target = t, .options = o, .cpu = find_traits(t)};
    g->ctx = LLVMContextCreate();
    g->mod = LLVMModuleCreateWithNameInContext(module_name, g->ctx);
    g->b = LLVMCreateBuilderInContext(g->ctx);
    g->tm = llvm_machine(t, o->opt);
    g->layout = LLVMCreateTargetDataLayout(g->tm);
    LLVMSetModuleDataLayout(g->mod, g->layout);
    LLVMSetTarget(g->mod, t->triple);
    g->i1 = LLVMInt1TypeInContext(g->ctx);
    g->i8 = LLVMInt8TypeInContext(g->ctx);
    g->i16 = LLVMInt16TypeInContext(g->ctx);
    g->i32 = LLVMInt32TypeInContext(g->ctx);
    g->i64 = LLVMInt64TypeInContext(g->ctx);
    g->f16 = LLVMHalfTypeInContext(g->ctx);
    g->f32 = LLVMFloatTypeInContext(g->ctx);
    g->f64 = LLVMDoubleTypeInContext(g->ctx);
    g->ptr = LLVMPointerTypeInContext(g->ctx, 0);
    g->none = LLVMVoidTypeInContext(g->ctx);
    g->size = LLVMIntPtrTypeInContext(g->ctx, g->layout);
    g->text = LLVMStructTypeInContext(g->ctx, (LLVMTypeRef[]){g->ptr, g->size}, 2, 0);
}

void llvm_gen_close(LlvmGen *g) {
    LLVMDisposeTargetData(g->layout);
    LLVMDisposeTargetMachine(g->tm);
    LLVMDisposeBuilder(g->b);
    LLVMDisposeModule(g->mod);
    LLVMContextDispose(g->ctx);
    strbuf_free(&g->scratch);
}

static void add_text(LlvmGen *g, LLVMValueRef fn, const char *name, const char *value) {
    LLVMAttributeRef a = LLVMCreateStringAttribute(g->ctx, name, (unsigned)strlen(name), value,
                                                   (unsigned)strlen(value));
    LLVMAddAttributeAtIndex(fn, LLVMAttributeFunctionIndex, a);
}

void llvm_add_flag(LlvmGen *g, LLVMValueRef fn, LLVMAttributeIndex at, const char *name,
                   uint64_t v) {
    unsigned kind = LLVMGetEnumAttributeKindForName(name, strlen(name));
    BUG_IF(!kind, "LLVM has no attribute %s", name);
    LLVMAddAttributeAtIndex(fn, at, LLVMCreateEnumAttribute(g->ctx, kind, v));
}

/* LLVM warns of frames above a limit; with the limit 0 it tells all of them. Other warnings have no
 * reader, and errors are bugs: the modules are verified. */
static void see_diagnostic(LLVMDiagnosticInfoRef info, void *user) {
    static const char size[] = "stack frame size (";
    LlvmGen *g = user;
    LLVMDiagnosticSeverity severity = LLVMGetDiagInfoSeverity(info);
    if (severity != LLVMDSError && severity != LLVMDSWarning) return;
    char *text = LLVMGetDiagInfoDescription(info);
    BUG_IF(severity == LLVMDSError, "LLVM: %s", text);
    const char *at = strstr(text, size);
    uint64_t n = at ? strtoull(at + strlen(size), NULL, 10) : 0;
    g->frame_sum += n;
    if (n > g->frame_max) g->frame_max = n;
    LLVMDisposeMessage(text);
}

void llvm_watch_frames(LlvmGen *g) {
    LLVMContextSetDiagnosticHandler(g->ctx, see_diagnostic, g);
    for (LLVMValueRef f = LLVMGetFirstFunction(g->mod); f; f = LLVMGetNextFunction(f))
        if (!LLVMIsDeclaration(f)) add_text(g, f, "warn-stack-size", "0");
}

void llvm_add_attributes(LlvmGen *g, LLVMValueRef fn) {
    const Target *t = g->target;
    llvm_add_flag(g, fn, LLVMAttributeFunctionIndex, "nounwind", 0);
    add_text(g, fn, "target-cpu", code_cpu(t));
    add_text(g, fn, "tune-cpu", t->cpu);
    if (t->features[0]) add_text(g, fn, "target-features", t->features);
    if (t->vector_bytes == 64) add_text(g, fn, "prefer-vector-width", "512");
}

void llvm_fn_begin(LlvmGen *g, LlvmFn *fn, LLVMValueRef value) {
    *fn = (LlvmFn){.fn = value};
    g->fn = fn;
    fn->entry = llvm_new_block(g, "entry");
    LLVMPositionBuilderAtEnd(g->b, llvm_new_block(g, "start"));
}

void llvm_fn_end(LlvmGen *g) {
    LlvmFn *fn = g->fn;
    LLVMPositionBuilderAtEnd(g->b, fn->entry);
    LLVMBuildBr(g->b, LLVMGetNextBasicBlock(fn->entry));
    free(fn->var);
    free(fn->buf);
    free(fn->memo);
    free(fn->log);
    g->fn = NULL;
}

/* ---- kernels --------------------------------------------------------------------------------- */

LLVMTypeRef llvm_kernel_type(LlvmGen *g, const Kernel *kn) {
    unsigned n = kn->n_params + kn->n_scalars, n_range = kernel_parallel_loop(kn) ? 2 : 0;
    LLVMTypeRef *types = xmalloc(sizeof *types * (n + 2));
    for (unsigned i = 0; i < n + 2; i++) types[i] = i < kn->n_params ? g->ptr : g->i64;
    LLVMTypeRef t = LLVMFunctionType(g->none, types, n + n_range, 0);
    free(types);
    return t;
}

LLVMTypeRef llvm_context_type(LlvmGen *g, const Kernel *kn) {
    unsigned n = kn->n_params + kn->n_scalars;
    LLVMTypeRef *types = xmalloc(sizeof *types * (n + 1));
    for (unsigned i = 0; i < n; i++) types[i] = i < kn->n_params ? g->ptr : g->i64;
    LLVMTypeRef t = LLVMStructTypeInContext(g->ctx, types, n, 0);
    free(types);
    return t;
}

/* A function of the module or another one of this model: invisible outside of the library, except
 * in memory, where objects may lie too far apart for direct references. */
static LLVMValueRef declare(LlvmGen *g, const Kernel *kn, const char *suffix, LLVMTypeRef type) {
    g->scratch.n = 0;
    strbuf_printf(&g->scratch, "%s_%s%s", g->m->name, kn->name, suffix);
    const char *name = strbuf_text(&g->scratch);
    LLVMValueRef fn = LLVMGetNamedFunction(g->mod, name);
    if (fn) return fn;
    fn = LLVMAddFunction(g->mod, name, type);
    if (!g->const_address) LLVMSetVisibility(fn, LLVMHiddenVisibility);
    llvm_add_attributes(g, fn);
    return fn;
}

LLVMValueRef llvm_kernel_function(LlvmGen *g, const Kernel *kn) {
    return declare(g, kn, "", llvm_kernel_type(g, kn));
}

LLVMValueRef llvm_kernel_thunk(LlvmGen *g, const Kernel *kn) {
    LLVMTypeRef params[] = {g->ptr, g->i64, g->i64};
    return declare(g, kn, "__range", LLVMFunctionType(g->none, params, 3, 0));
}

static void emit_thunk(LlvmGen *g, const Kernel *kn, LLVMValueRef kernel) {
    LlvmFn fn;
    LLVMValueRef thunk = llvm_kernel_thunk(g, kn);
    llvm_fn_begin(g, &fn, thunk);
    unsigned n = kn->n_params + kn->n_scalars;
    LLVMTypeRef context = llvm_context_type(g, kn);
    LLVMValueRef *args = xmalloc(sizeof *args * (n + 2));
    for (unsigned i = 0; i < n; i++) {
        LLVMValueRef at = LLVMBuildStructGEP2(g->b, context, LLVMGetParam(thunk, 0), i, "");
        args[i] = LLVMBuildLoad2(g->b, i < kn->n_params ? g->ptr : g->i64, at, "");
    }
    args[n] = LLVMGetParam(thunk, 1);
    args[n + 1] = LLVMGetParam(thunk, 2);
    LLVMBuildCall2(g->b, llvm_kernel_type(g, kn), kernel, args, n + 2, "");
    LLVMBuildRetVoid(g->b);
    free(args);
    llvm_fn_end(g);
}

static void bind_parameters(LlvmGen *g, const Kernel *kn, LLVMValueRef fn) {
    for (uint32_t i = 0; i < kn->n_params; i++) {
        const KBuf *b = kn->params[i];
        LLVMValueRef p = LLVMGetParam(fn, i);
        LLVMSetValueName2(p, b->name, strlen(b->name));
        uint32_t align =
            b->align ? b->align
                     : (uint32_t)LLVMABIAlignmentOfType(g->layout, llvm_mem_type(g, b->dtype));
        *llvm_buf(g, b) = (BufBind){.base = p, .align = align};
        llvm_add_flag(g, fn, i + 1, "nocapture", 0);
        llvm_add_flag(g, fn, i + 1, "align", align);
        if (b->noalias) llvm_add_flag(g, fn, i + 1, "noalias", 0);
        if (!b->written) llvm_add_flag(g, fn, i + 1, "readonly", 0);
    }
    for (uint32_t i = 0; i < kn->n_scalars; i++) {
        LLVMValueRef p = LLVMGetParam(fn, kn->n_params + i);
        LLVMSetValueName2(p, kn->scalars[i]->name, strlen(kn->scalars[i]->name));
        *llvm_var(g, kn->scalars[i]) = (VarBind){.v = p};
    }
}

void llvm_emit_kernel(LlvmGen *g, const Kernel *kn) {
    LlvmFn fn;
    LLVMValueRef value = llvm_kernel_function(g, kn);
    const KStmt *loop = kernel_parallel_loop(kn);
    llvm_fn_begin(g, &fn, value);
    bind_parameters(g, kn, value);
    llvm_tiles_begin(g, &kn->body);
    if (loop) {
        KBlock before = {.first = kn->body.first == loop ? NULL : kn->body.first,
                         .last = loop->prev};
        for (const KStmt *s = before.first; s && s != loop; s = s->next) {
            KStmt one = *s; /* the statements before the loop, one at a time */
            one.next = NULL;
            llvm_block(g, &(KBlock){.first = &one, .last = &one});
        }
        unsigned n = kn->n_params + kn->n_scalars;
        llvm_parallel_loop(g, loop, LLVMGetParam(value, n), LLVMGetParam(value, n + 1));
    } else {
        llvm_block(g, &kn->body);
    }
    llvm_tiles_end(g);
    LLVMBuildRetVoid(g->b);
    llvm_fn_end(g);
    if (loop) emit_thunk(g, kn, value);
}
