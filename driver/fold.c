/* Large constants are computed by compiled code: a kernel of the passes becomes a model of its own,
 * with the buffers it reads as inputs and those it writes as outputs, is compiled for this machine,
 * whatever the model is compiled for, and runs here. The kernel says what is computed to the last
 * bit, so the interpreter, which takes over when this fails, gives the same. */
#include <stdlib.h>
#include <string.h>

#include "driver/driver.h"
#include "smelt.h"

/* Below this the interpreter is done before LLVM has begun (20 ms against 10 ns an element). */
enum { MIN_FOLD_ELEMS = 1 << 20 };

/* Weights lie anywhere in the model's file: what is read may be less aligned than its type. */
static bool accept_alignment(const Kernel *kn, void *const *bufs) {
    for (uint32_t i = 0; i < kn->n_params; i++) {
        KBuf *param = kn->params[i];
        uintptr_t align = param->align ? param->align : (uintptr_t)dtype_bytes(param->dtype);
        if ((uintptr_t)bufs[i] % align == 0) continue;
        if (param->written) return false;
        param->align = 1;
    }
    return true;
}

/* A module whose entry calls the kernel on its inputs and outputs, in the order of the parameters.
 */
static KModule *module_of(Session *s, Arena *a, Kernel *kn, const int64_t *n_elems) {
    KCtx *k = s->m->k;
    KModule *m = arena_new(a, KModule);
    *m = (KModule){.k = k, .arena = a, .name = "fold", .arena_bytes = k_int(k, 0), .n_kernels = 1};
    m->kernels = arena_copy(a, &kn, sizeof kn);
    m->inputs = arena_array(a, KIo, kn->n_params);
    m->outputs = arena_array(a, KIo, kn->n_params);
    KStmt *call = kblock_append(a, &m->entry, KS_CALL);
    call->callee = kn;
    call->args = arena_array(a, KArg, kn->n_params);
    for (uint32_t i = 0; i < kn->n_params; i++) {
        const KBuf *param = kn->params[i];
        const KExpr **dims = arena_array(a, const KExpr *, 1);
        dims[0] = k_int(k, n_elems[i]);
        KBuf *b = kbuf_new(k, param->written ? MEM_OUTPUT : MEM_INPUT, param->dtype, param->name,
                           dims[0]);
        b->index = param->written ? m->n_outputs : m->n_inputs;
        KIo *io = param->written ? &m->outputs[m->n_outputs++] : &m->inputs[m->n_inputs++];
        *io = (KIo){arena_printf(a, "b%u", i), param->dtype, 1, dims, b};
        call->args[i].buf = b;
    }
    return m;
}

/* Kernels that compute the same are compiled once: networks repeat their layers. */
static CodegenJit *compiled(Session *s, Kernel *kn, const int64_t *n_elems) {
    StrBuf key = {0};
    kernel_signature(kn, &key);
    for (uint32_t i = 0; i < kn->n_params; i++) strbuf_printf(&key, " %lld", (long long)n_elems[i]);
    if (!s->folds) s->folds = strmap_create(s->arena);
    CodegenJit *jit = strmap_get(s->folds, strbuf_text(&key));
    if (!jit) {
        CodegenOptions o = {.opt = 2, .jobs = 1};
        Diag *d =
            diag_create(); /* what fails here is no message for the user: the interpreter does it */
        jit = codegen_llvm_jit(module_of(s, s->arena, kn, n_elems), s->fold_target, &o, d);
        diag_destroy(d);
        if (jit) strmap_put(s->folds, arena_strdup(s->arena, strbuf_text(&key)), jit);
    }
    strbuf_free(&key);
    return jit;
}

void fold_end(Session *s) {
    for (uint32_t i = 0; s->folds && i < strmap_count(s->folds); i++)
        codegen_jit_destroy(strmap_value(s->folds, i));
}

static bool run(const smelt_model *model, Arena *a, const Kernel *kn, void *const *bufs) {
    const void **in = arena_array(a, const void *, kn->n_params);
    void **out = arena_array(a, void *, kn->n_params);
    uint32_t n_in = 0, n_out = 0;
    for (uint32_t i = 0; i < kn->n_params; i++)
        if (kn->params[i]->written)
            out[n_out++] = bufs[i];
        else
            in[n_in++] = bufs[i];
    char arena[64];
    smelt_call call = {.struct_size = sizeof call,
                       .n_inputs = n_in,
                       .n_outputs = n_out,
                       .inputs = in,
                       .outputs = out,
                       .arena = arena,
                       .arena_bytes = sizeof arena};
    return model->run(&call) == SMELT_OK;
}

bool fold_kernel(void *user, const Kernel *kn, void *const *bufs, const int64_t *n_elems) {
    Session *s = user;
    int64_t total = 0;
    for (uint32_t i = 0; i < kn->n_params; i++) total += n_elems[i];
    if (total < MIN_FOLD_ELEMS || kn->n_scalars || !accept_alignment(kn, bufs)) return false;
    if (!s->fold_target) s->fold_target = codegen_target(s->arena, NULL, NULL, NULL, s->d);
    CodegenJit *jit = s->fold_target ? compiled(s, (Kernel *)kn, n_elems) : NULL;
    if (!jit) return false;
    Arena *a = arena_create();
    bool good = run(codegen_jit_model(jit), a, kn, bufs);
    arena_destroy(a);
    return good;
}
