/* From a KModule to object files and text.
 *
 * The kernels are divided into groups by their size, never by the number of threads, so that the
 * bytes do not depend on it. Each group is an LLVM module of its own with its own context, compiled
 * by whichever thread comes first. The passes are few: the code comes from the schedules as it
 * should be, and LLVM's vectoriser and unroller would only undo their choices. */
#include <llvm-c/Analysis.h>
#include <llvm-c/Transforms/PassBuilder.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "codegen/llvm/object.h"

/* ---- one module ------------------------------------------------------------------------------ */

static void run_passes(LlvmGen *g) {
    const char *passes = "function(sroa,early-cse,instcombine<no-verify-fixpoint>,simplifycfg,"
                         "loop-mssa(licm),early-cse<memssa>)";
    if (!g->options->opt) return;
    LLVMPassBuilderOptionsRef options = LLVMCreatePassBuilderOptions();
    LLVMErrorRef e = LLVMRunPasses(g->mod, passes, g->tm, options);
    BUG_IF(e, "LLVM's passes: %s", LLVMGetErrorMessage(e));
    LLVMDisposePassBuilderOptions(options);
}

static void verify(LlvmGen *g) {
    char *why = NULL;
    if (LLVMVerifyModule(g->mod, LLVMReturnStatusAction, &why)) {
        char *text = LLVMPrintModuleToString(g->mod);
        BUG("LLVM's verifier: %s\n%s", why,
            strlen(text) < 20000 ? text : "(module too long to show)");
    }
    LLVMDisposeMessage(why);
}

void llvm_emit_group(LlvmGen *g, const LlvmGroup *group) {
    for (uint32_t i = group->first; i < group->end; i++) llvm_emit_kernel(g, g->m->kernels[i]);
    if (group->has_entry) llvm_emit_entry(g);
    if (g->options->verify) verify(g);
    run_passes(g);
}

/* ---- groups ---------------------------------------------------------------------------------- */

static uint64_t block_weight(const KBlock *b) {
    uint64_t sum = 0;
    for (const KStmt *s = b->first; s; s = s->next) {
        int64_t n = 1;
        if (s->kind == KS_FOR && s->mark == LOOP_UNROLL && !k_is_int(s->extent, &n)) n = 1;
        sum += 1 + block_weight(&s->body) * (uint64_t)(n < 0 ? 0 : n) + block_weight(&s->other);
    }
    return sum;
}

/* Group 0 is the entry; the others hold kernels up to about this many statements. */
enum { GROUP_WEIGHT = 1500 };

LlvmGroup *llvm_plan_groups(const KModule *m, uint32_t *n_groups) {
    LlvmGroup *groups = xmalloc(sizeof *groups * (m->n_kernels + 1));
    uint64_t weight = 0;
    uint32_t n = 0;
    groups[n++] = (LlvmGroup){.has_entry = true};
    for (uint32_t i = 0; i < m->n_kernels; i++) {
        if (n == 1 || weight > GROUP_WEIGHT) {
            groups[n++] = (LlvmGroup){.first = i, .end = i};
            weight = 0;
        }
        groups[n - 1].end = i + 1;
        weight += block_weight(&m->kernels[i]->body);
    }
    *n_groups = n;
    return groups;
}

/* ---- threads --------------------------------------------------------------------------------- */

typedef struct Build {
    const KModule *m;
    const Target *target;
    const CodegenOptions *options;
    const void *const *const_address;
    Api *api;
    const LlvmGroup *groups;
    uint32_t n_groups, next;
    pthread_mutex_t lock;
    LLVMMemoryBufferRef *result;
    uint64_t *stack; /* of each group: see CodegenObject */
} Build;

static void build_group(Build *b, uint32_t i) {
    LlvmGen g;
    char *why = NULL;
    llvm_gen_open(&g, b->m, b->target, b->options, b->m->name);
    g.const_address = b->const_address;
    g.api = b->api;
    llvm_emit_group(&g, &b->groups[i]);
    llvm_watch_frames(&g);
    BUG_IF(LLVMTargetMachineEmitToMemoryBuffer(g.tm, g.mod, LLVMObjectFile, &why, &b->result[i]),
           "LLVM cannot emit an object: %s", why);
    if (b->stack) b->stack[i] = b->groups[i].has_entry ? g.frame_sum : g.frame_max;
    llvm_gen_close(&g);
}

static void *worker(void *arg) {
    Build *b = arg;
    for (;;) {
        pthread_mutex_lock(&b->lock);
        uint32_t i = b->next++;
        pthread_mutex_unlock(&b->lock);
        if (i >= b->n_groups) return NULL;
        build_group(b, i);
    }
}

static void run_workers(Build *b, int jobs) {
    enum { MAX_JOBS = 64 };
    pthread_t thread[MAX_JOBS];
    int n = 0, want = jobs > MAX_JOBS ? MAX_JOBS : jobs;
    pthread_attr_t big;
    pthread_attr_init(&big);
    pthread_attr_setstacksize(&big, (size_t)16 << 20); /* LLVM recurses */
    if (want > 1) kctx_share(b->m->k); /* whoever looks into an index makes expressions */
    while (n + 1 < want && (uint32_t)n + 1 < b->n_groups &&
           !pthread_create(&thread[n], &big, worker, b))
        n++;
    worker(b);
    while (n > 0) pthread_join(thread[--n], NULL);
    pthread_attr_destroy(&big);
}

LLVMMemoryBufferRef *llvm_build_objects(const KModule *m, const Target *t, const CodegenOptions *o,
                                        Api *api, const void *const *const_address,
                                        const LlvmGroup *groups, uint32_t n_groups,
                                        uint64_t *stack) {
    Build b = {.m = m,
               .target = t,
               .options = o,
               .api = api,
               .const_address = const_address,
               .groups = groups,
               .n_groups = n_groups,
               .stack = stack,
               .result = xmalloc(sizeof *b.result * n_groups)};
    llvm_init_target(NULL);
    pthread_mutex_init(&b.lock, NULL);
    run_workers(&b, o->jobs);
    pthread_mutex_destroy(&b.lock);
    return b.result;
}

/* ---- public functions ------------------------------------------------------------------------ */

bool llvm_check(const Api *api, const KModule *m, const Target *t, Diag *d) {
    if (llvm_init_target(t)) return api_check(api, m, d);
    diag_error(d, SRC_NOWHERE, "LLVM has no code generator for '%s'", t->triple);
    return false;
}

static void name_symbols(Arena *a, const KModule *m, const LlvmGroup *group, CodegenObject *o) {
    VEC(const char *) names = {0};
    if (group->has_entry) {
        vec_push(a, &names, arena_printf(a, "%s_model", m->name));
        vec_push(a, &names, arena_printf(a, "%s_run", m->name));
    }
    for (uint32_t i = group->first; i < group->end; i++) {
        vec_push(a, &names, arena_printf(a, "%s_%s", m->name, m->kernels[i]->name));
        if (kernel_parallel_loop(m->kernels[i]))
            vec_push(a, &names, arena_printf(a, "%s_%s__range", m->name, m->kernels[i]->name));
    }
    o->symbols = names.at;
    o->n_symbols = names.n;
}

bool codegen_llvm_objects(Arena *a, const KModule *m, const Target *t, const CodegenOptions *o,
                          CodegenObject **objects, uint32_t *n_objects, Diag *d) {
    Api *api = api_create(a, m, t);
    if (!llvm_check(api, m, t, d)) return false;
    uint32_t n;
    LlvmGroup *groups = llvm_plan_groups(m, &n);
    uint64_t *stack = arena_array(a, uint64_t, n);
    LLVMMemoryBufferRef *built = llvm_build_objects(m, t, o, api, NULL, groups, n, stack);
    *objects = arena_array(a, CodegenObject, n);
    *n_objects = n;
    for (uint32_t i = 0; i < n; i++) {
        CodegenObject *out = &(*objects)[i];
        out->name = i ? arena_printf(a, "%s.kernels%u.o", m->name, i)
                      : arena_printf(a, "%s.entry.o", m->name);
        out->n_bytes = LLVMGetBufferSize(built[i]);
        out->bytes = xmalloc(out->n_bytes);
        memcpy(out->bytes, LLVMGetBufferStart(built[i]), out->n_bytes);
        out->stack_bytes = stack[i];
        name_symbols(a, m, &groups[i], out);
        LLVMDisposeMemoryBuffer(built[i]);
    }
    free(built);
    free(groups);
    return true;
}

void codegen_objects_free(CodegenObject *objects, uint32_t n_objects) {
    for (uint32_t i = 0; i < n_objects; i++) free(objects[i].bytes);
}

bool codegen_llvm_text(const KModule *m, const Target *t, const CodegenOptions *o, CodegenText what,
                       StrBuf *out, Diag *d) {
    LlvmGen g;
    Arena *a = arena_create();
    Api *api = api_create(a, m, t);
    if (!llvm_check(api, m, t, d)) {
        arena_destroy(a);
        return false;
    }
    llvm_gen_open(&g, m, t, o, m->name);
    g.api = api;
    llvm_emit_group(&g, &(LlvmGroup){.end = m->n_kernels, .has_entry = true});
    if (what == TEXT_LLVM) {
        char *text = LLVMPrintModuleToString(g.mod);
        strbuf_add(out, text);
        LLVMDisposeMessage(text);
    } else {
        LLVMMemoryBufferRef text;
        char *why = NULL;
        BUG_IF(LLVMTargetMachineEmitToMemoryBuffer(g.tm, g.mod, LLVMAssemblyFile, &why, &text),
               "LLVM cannot emit assembly: %s", why);
        strbuf_add_bytes(out, LLVMGetBufferStart(text), LLVMGetBufferSize(text));
        LLVMDisposeMemoryBuffer(text);
    }
    llvm_gen_close(&g);
    arena_destroy(a);
    return true;
}
