/* Large constants are computed by compiled code: a kernel of the passes becomes a model of its own, with
 * the buffers it reads as inputs and those it writes as outputs, is compiled for this machine, whatever
 * the model is compiled for, and runs here. The kernel says what is computed to the last bit, so the
 * interpreter, which takes over when this fails, gives the same. */
#include <stdlib.h>
#include <string.h>

#include "driver/driver.h"
#include "smelt.h"

/* A buffer of the kernel as the generated code may address it. */
typedef struct FoldBuf {
    void *data;
    void *copy; /* aligned memory, when the data are not */
} FoldBuf;

/* Below this the interpreter is done before LLVM has begun (20 ms against 10 ns an element). */
enum { FOLD_ALIGN = 64, MIN_FOLD_ELEMS = 1 << 20 };

/* Weights lie anywhere in the model's file; kernels count on what their parameters promise. */
static bool place(FoldBuf *f, const KBuf *param, void *data, int64_t n_elems) {
    f->data = data;
    uintptr_t align = param->align ? param->align : (uintptr_t)dtype_bytes(param->dtype);
    if ((uintptr_t)data % align == 0) return true;
    if (param->written) return false;
    size_t n_bytes = (size_t)n_elems * (size_t)dtype_bytes(param->dtype);
    f->copy = xmalloc(n_bytes + FOLD_ALIGN);
    f->data = (char *)f->copy + (FOLD_ALIGN - (uintptr_t)f->copy % FOLD_ALIGN) % FOLD_ALIGN;
    memcpy(f->data, data, n_bytes);
    return true;
}

/* A module whose entry calls the kernel on its inputs and outputs, in the order of the parameters. */
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
        KBuf *b = kbuf_new(k, param->written ? MEM_OUTPUT : MEM_INPUT, param->dtype, param->name, dims[0]);
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
        Diag *d = diag_create(); /* what fails here is no message for the user: the interpreter does it */
        jit = codegen_llvm_jit(module_of(s, s->arena, kn, n_elems), s->fold_target, &o, d);
        diag_destroy(d);
        if (jit) strmap_put(s->folds, arena_strdup(s->arena, strbuf_text(&key)), jit);
    }
    strbuf_free(&key);
    return jit;
}

void fold_end(Session *s) {
    for (uint32_t i = 0; s->folds && i < strmap_count(s->folds); i++) codegen_jit_destroy(strmap_value(s->folds, i));
}

static bool run(const smelt_model *model, Arena *a, const Kernel *kn, const FoldBuf *bufs) {
    const void **in = arena_array(a, const void *, kn->n_params);
    void **out = arena_array(a, void *, kn->n_params);
    uint32_t n_in = 0, n_out = 0;
    for (uint32_t i = 0; i < kn->n_params; i++)
        if (kn->params[i]->written) out[n_out++] = bufs[i].data;
        else in[n_in++] = bufs[i].data;
    char arena[FOLD_ALIGN];
    smelt_call call = {.struct_size = sizeof call, .n_inputs = n_in, .n_outputs = n_out, .inputs = in,
                       .outputs = out, .arena = arena, .arena_bytes = sizeof arena};
    return model->run(&call) == SMELT_OK;
}

bool fold_kernel(void *user, const Kernel *kn, void *const *bufs, const int64_t *n_elems) {
    Session *s = user;
    int64_t total = 0;
    for (uint32_t i = 0; i < kn->n_params; i++) total += n_elems[i];
    if (total < MIN_FOLD_ELEMS || kn->n_scalars) return false;
    if (!s->fold_target) s->fold_target = codegen_target(s->arena, NULL, NULL, NULL, s->d);
    CodegenJit *jit = s->fold_target ? compiled(s, (Kernel *)kn, n_elems) : NULL;
    if (!jit) return false;
    Arena *a = arena_create();
    FoldBuf *placed = arena_array(a, FoldBuf, kn->n_params);
    bool good = true;
    for (uint32_t i = 0; i < kn->n_params && good; i++) good = place(&placed[i], kn->params[i], bufs[i], n_elems[i]);
    good = good && run(codegen_jit_model(jit), a, kn, placed);
    for (uint32_t i = 0; i < kn->n_params; i++) free(placed[i].copy);
    arena_destroy(a);
    return good;
}
