/* The description of a model: constants in .rodata (or .data.rel.ro, where they hold addresses). */
#include "codegen/llvm/abi.h"

#include <stdlib.h>
#include <string.h>

_Static_assert((int)RETURN_BAD_DIM == (int)STATUS_BAD_DIM &&
                   (int)RETURN_BAD_DATA == (int)STATUS_BAD_DATA,
               "lower_kernels returns a status of the interface");

typedef enum { FIELD_U32, FIELD_U64, FIELD_I64, FIELD_SIZE, FIELD_PTR, FIELD_FN } FieldKind;

static const struct {
    const char *owner, *name;
    FieldKind kind;
} fields[] = {
#define SMELT_FIELD(owner, kind, type, name) {#owner, #name, FIELD_##kind},
#include "runtime/include/smelt_abi.def"
};
enum { N_FIELDS = sizeof fields / sizeof fields[0], MAX_FIELDS = 32 };

static LLVMTypeRef field_type(LlvmGen *g, FieldKind kind) {
    switch (kind) {
    case FIELD_U32: return g->i32;
    case FIELD_U64:
    case FIELD_I64: return g->i64;
    case FIELD_SIZE: return g->size;
    case FIELD_PTR:
    case FIELD_FN: return g->ptr;
    }
    BUG("field kind %d", (int)kind);
}

LLVMTypeRef abi_struct(LlvmGen *g, const char *owner) {
    LLVMTypeRef types[MAX_FIELDS];
    unsigned n = 0;
    for (size_t i = 0; i < N_FIELDS; i++)
        if (!strcmp(fields[i].owner, owner)) types[n++] = field_type(g, fields[i].kind);
    return LLVMStructTypeInContext(g->ctx, types, n, 0);
}

static unsigned field_of(const char *owner, const char *name) {
    unsigned n = 0;
    for (size_t i = 0; i < N_FIELDS; i++) {
        if (strcmp(fields[i].owner, owner)) continue;
        if (!strcmp(fields[i].name, name)) return n;
        n++;
    }
    BUG("smelt_%s has no field %s", owner, name);
}

LLVMValueRef abi_load(LlvmGen *g, const char *owner, LLVMValueRef p, const char *name) {
    LLVMTypeRef t = abi_struct(g, owner);
    unsigned i = field_of(owner, name);
    LLVMValueRef at = LLVMBuildStructGEP2(g->b, t, p, i, "");
    return LLVMBuildLoad2(g->b, LLVMStructGetTypeAtIndex(t, i), at, name);
}

uint64_t abi_bytes(LlvmGen *g, const char *owner) {
    return LLVMABISizeOfType(g->layout, abi_struct(g, owner));
}

/* ---- constants ------------------------------------------------------------------------------- */

static LLVMValueRef constant(LlvmGen *g, LLVMValueRef init, const char *name) {
    LLVMValueRef v = LLVMAddGlobal(g->mod, LLVMTypeOf(init), name);
    LLVMSetInitializer(v, init);
    LLVMSetGlobalConstant(v, 1);
    LLVMSetLinkage(v, LLVMPrivateLinkage);
    LLVMSetUnnamedAddress(v, LLVMGlobalUnnamedAddr);
    return v;
}

static LLVMValueRef text_constant(LlvmGen *g, const char *s) {
    return constant(g, LLVMConstStringInContext2(g->ctx, s, strlen(s), 0), "text");
}

static LLVMValueRef array(LlvmGen *g, LLVMTypeRef t, LLVMValueRef *items, uint32_t n,
                          const char *name) {
    return n ? constant(g, LLVMConstArray2(t, items, n), name) : LLVMConstNull(g->ptr);
}

static LLVMValueRef word(LlvmGen *g, uint32_t v) {
    return LLVMConstInt(g->i32, v, 0);
}

static LLVMValueRef wide(LlvmGen *g, uint64_t v) {
    return LLVMConstInt(g->i64, v, 0);
}

static LLVMValueRef tensor_table(LlvmGen *g, const ApiTensor *t, uint32_t n) {
    LLVMValueRef *rows = xmalloc(sizeof *rows * (n + 1));
    LLVMTypeRef type = abi_struct(g, "tensor_info");
    for (uint32_t i = 0; i < n; i++) {
        uint32_t rank = (uint32_t)t[i].io->rank;
        LLVMValueRef *dims = xmalloc(sizeof *dims * (rank + 1));
        for (uint32_t d = 0; d < rank; d++) dims[d] = wide(g, (uint64_t)t[i].dims[d]);
        LLVMValueRef at = array(g, g->i64, dims, rank, "dims");
        free(dims);
        LLVMValueRef row[] = {text_constant(g, t[i].io->name),
                              at,
                              wide(g, t[i].max_bytes),
                              word(g, (uint32_t)dtype_info[t[i].io->dtype].onnx),
                              word(g, rank),
                              word(g, 0),
                              word(g, t[i].is_allocated   ? TENSOR_ALLOCATED
                                      : t[i].io->is_kept ? TENSOR_KEPT
                                                         : 0)};
        rows[i] = LLVMConstStructInContext(g->ctx, row, sizeof row / sizeof row[0], 0);
    }
    LLVMValueRef table = array(g, type, rows, n, "tensors");
    free(rows);
    return table;
}

static LLVMValueRef symbol_table(LlvmGen *g, const Api *api) {
    LLVMValueRef *rows = xmalloc(sizeof *rows * (api->n_symbols + 1));
    for (uint32_t i = 0; i < api->n_symbols; i++) {
        const ApiSymbol *s = &api->symbols[i];
        LLVMValueRef row[] = {text_constant(g, s->name), wide(g, (uint64_t)s->min),
                              wide(g, (uint64_t)s->max), word(g, (uint32_t)s->kind), word(g, 0)};
        rows[i] = LLVMConstStructInContext(g->ctx, row, sizeof row / sizeof row[0], 0);
    }
    LLVMValueRef table = array(g, abi_struct(g, "symbol"), rows, api->n_symbols, "symbols");
    free(rows);
    return table;
}

static LLVMValueRef node_table(LlvmGen *g, const Api *api) {
    const KModule *m = g->m;
    LLVMValueRef *rows = xmalloc(sizeof *rows * (m->n_nodes + 1));
    for (uint32_t i = 0; i < m->n_nodes; i++) {
        const char *name = m->nodes[i].name, *op = m->nodes[i].op;
        LLVMValueRef row[] = {text_constant(g, name ? name : ""), text_constant(g, op ? op : ""),
                              wide(g, api->node_macs[i])};
        rows[i] = LLVMConstStructInContext(g->ctx, row, sizeof row / sizeof row[0], 0);
    }
    LLVMValueRef table = array(g, abi_struct(g, "node"), rows, m->n_nodes, "nodes");
    free(rows);
    return table;
}

void abi_emit_model(LlvmGen *g, const Api *api, AbiFunctions fn, LLVMValueRef weights) {
    const KModule *m = g->m;
    LLVMValueRef null = LLVMConstNull(g->ptr);
    LLVMTypeRef type = abi_struct(g, "model");
    LLVMValueRef row[] = {word(g, (uint32_t)abi_bytes(g, "model")),
                          word(g, 1),
                          text_constant(g, m->name),
                          text_constant(g, "smelt " SMELT_VERSION),
                          text_constant(g, g->target->triple),
                          text_constant(g, g->target->cpu),
                          text_constant(g, api->cpu_features),
                          wide(g, api->model_hash),
                          word(g, m->n_inputs),
                          word(g, m->n_outputs),
                          word(g, api->n_symbols),
                          word(g, m->n_nodes),
                          tensor_table(g, api->inputs, m->n_inputs),
                          tensor_table(g, api->outputs, m->n_outputs),
                          symbol_table(g, api),
                          node_table(g, api),
                          wide(g, api->weight_bytes),
                          wide(g, g->options->weight_hash),
                          weights ? weights : null,
                          wide(g, api->arena_bytes),
                          fn.symbols_for ? fn.symbols_for : null,
                          fn.arena_for,
                          fn.run};
    _Static_assert(sizeof row / sizeof row[0] <= MAX_FIELDS, "smelt_model fits MAX_FIELDS");
    g->scratch.n = 0;
    strbuf_printf(&g->scratch, "%s_model", m->name);
    LLVMValueRef v = LLVMAddGlobal(g->mod, type, strbuf_text(&g->scratch));
    LLVMSetInitializer(v, LLVMConstStructInContext(g->ctx, row, sizeof row / sizeof row[0], 0));
    LLVMSetGlobalConstant(v, 1);
}
