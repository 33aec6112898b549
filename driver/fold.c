/* Large constants are computed by compiled code: a kernel of the passes becomes a model of its own,
 * with the buffers it reads as inputs and those it writes as outputs, is compiled for this machine,
 * whatever the model is compiled for, and runs here. The kernel says what is computed to the last
 * bit, so the interpreter, which takes over when this fails, gives the same. */
#include <stdlib.h>
#include <string.h>

#include "driver/kernel_module.h"

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
        jit = codegen_llvm_jit(kernel_module(s, s->arena, kn, n_elems), session_host(s), &o, d);
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

bool fold_kernel(void *user, const Kernel *kn, void *const *bufs, const int64_t *n_elems) {
    Session *s = user;
    int64_t total = 0;
    for (uint32_t i = 0; i < kn->n_params; i++) total += n_elems[i];
    if (total < MIN_FOLD_ELEMS || kn->n_scalars || !accept_alignment(kn, bufs)) return false;
    CodegenJit *jit = session_host(s) ? compiled(s, (Kernel *)kn, n_elems) : NULL;
    if (!jit) return false;
    return kernel_module_run(codegen_jit_model(jit), kn, bufs);
}
