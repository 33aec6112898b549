/* One kernel as a model of its own: what fold.c and tune.c compile and run in memory. */
#include "driver/kernel_module.h"

#include <stdlib.h>

/* A module whose entry calls the kernel on its inputs and outputs, in the order of the parameters.
 */
KModule *kernel_module(Session *s, Arena *a, Kernel *kn, const int64_t *n_elems) {
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
        *io = (KIo){arena_printf(a, "b%u", i), param->dtype, 1, dims, b, false};
        call->args[i].buf = b;
    }
    return m;
}

bool kernel_module_run(const smelt_model *model, const Kernel *kn, void *const *bufs) {
    const void **in = xmalloc(sizeof *in * (kn->n_params + 1));
    void **out = xmalloc(sizeof *out * (kn->n_params + 1));
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
    bool good = model->run(&call) == SMELT_OK;
    free(in);
    free(out);
    return good;
}
