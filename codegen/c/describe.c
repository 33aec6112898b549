/* The description of a model in generated C: its smelt_model, and the tables that it points to. */
#include <inttypes.h>
#include <string.h>

#include "codegen/c/c_gen.h"

/* A string literal of exactly these bytes; octal escapes end after three digits, and \? stops
 * trigraphs. */
static void quoted(StrBuf *b, const char *s) {
    strbuf_add(b, "\"");
    for (; s && *s; s++) {
        unsigned char c = (unsigned char)*s;
        if (c == '"' || c == '\\' || c == '?') strbuf_printf(b, "\\%c", c);
        else if (c < 32 || c > 126) strbuf_printf(b, "\\%03o", c);
        else strbuf_add_bytes(b, s, 1);
    }
    strbuf_add(b, "\"");
}

static void print_u64(StrBuf *b, uint64_t v) {
    if (v == UINT64_MAX) strbuf_add(b, "UINT64_MAX");
    else strbuf_printf(b, "UINT64_C(%" PRIu64 ")", v);
}

static const char *abi_dtype(DType t) {
    switch (dtype_info[t].onnx) {
#define SMELT_DTYPE(name, value, bits, ctype) \
    case value: return #name;
#include "runtime/include/smelt_abi.def"
    default: BUG("%s is not in the ABI", dtype_info[t].name);
    }
}

static void emit_tensors(CGen *g, const char *name, const ApiTensor *t, uint32_t n) {
    StrBuf *b = &g->out;
    if (!n) return;
    for (uint32_t i = 0; i < n; i++) {
        if (!t[i].io->rank) continue;
        strbuf_printf(b, "static const int64_t %s_dims%u[] = {", name, i);
        for (int d = 0; d < t[i].io->rank; d++)
            strbuf_printf(b, "%s%" PRId64, d ? ", " : "", t[i].dims[d]);
        strbuf_add(b, "};\n");
    }
    strbuf_printf(b, "static const smelt_tensor_info %s[] = {\n", name);
    for (uint32_t i = 0; i < n; i++) {
        strbuf_add(b, "    {");
        quoted(b, t[i].io->name);
        if (t[i].io->rank) strbuf_printf(b, ", %s_dims%u, ", name, i);
        else strbuf_add(b, ", NULL, ");
        print_u64(b, t[i].max_bytes);
        strbuf_printf(b, ", SMELT_%s, %d, SMELT_KIND_TENSOR, %s},\n", abi_dtype(t[i].io->dtype),
                      t[i].io->rank,
                      t[i].is_allocated    ? "SMELT_TENSOR_ALLOCATED"
                      : t[i].io->is_kept ? "SMELT_TENSOR_KEPT"
                                         : "0");
    }
    strbuf_add(b, "};\n\n");
}

static void emit_tables(CGen *g) {
    StrBuf *b = &g->out;
    emit_tensors(g, "tensors_in", g->api->inputs, g->m->n_inputs);
    emit_tensors(g, "tensors_out", g->api->outputs, g->m->n_outputs);
    if (g->api->n_symbols) strbuf_add(b, "static const smelt_symbol symbols[] = {\n");
    for (uint32_t i = 0; i < g->api->n_symbols; i++) {
        const ApiSymbol *s = &g->api->symbols[i];
        strbuf_add(b, "    {");
        quoted(b, s->name);
        strbuf_add(b, ", ");
        c_print_int(b, DT_I64, s->min);
        strbuf_add(b, ", ");
        c_print_int(b, DT_I64, s->max);
        strbuf_printf(b, ", %d, 0},\n", s->kind);
    }
    if (g->api->n_symbols) strbuf_add(b, "};\n\n");
    if (g->m->n_nodes) strbuf_add(b, "static const smelt_node nodes[] = {\n");
    for (uint32_t i = 0; i < g->m->n_nodes; i++) {
        strbuf_add(b, "    {");
        quoted(b, g->m->nodes[i].name);
        strbuf_add(b, ", ");
        quoted(b, g->m->nodes[i].op);
        strbuf_add(b, ", ");
        print_u64(b, g->api->node_macs[i]);
        strbuf_add(b, "},\n");
    }
    if (g->m->n_nodes) strbuf_add(b, "};\n\n");
}

void c_write_model(CGen *g) {
    const KModule *m = g->m;
    StrBuf *b = &g->out;
    uint64_t hash;
    memcpy(&hash, m->model_hash, sizeof hash);
    emit_tables(g);
    strbuf_printf(b, "const smelt_model %s_model = {\n    sizeof(smelt_model), SMELT_ABI_VERSION, ",
                  m->name);
    quoted(b, m->name);
    strbuf_add(b, ", \"smelt " SMELT_VERSION "\", \"c99\", \"\", \"\", ");
    print_u64(b, hash);
    strbuf_printf(b, ",\n    %u, %u, %u, %u, %s, %s, %s, %s,\n    ", m->n_inputs, m->n_outputs,
                  g->api->n_symbols, m->n_nodes, m->n_inputs ? "tensors_in" : "NULL",
                  m->n_outputs ? "tensors_out" : "NULL", g->api->n_symbols ? "symbols" : "NULL",
                  m->n_nodes ? "nodes" : "NULL");
    print_u64(b, g->api->weight_bytes);
    strbuf_add(b, ", ");
    print_u64(b, g->o->weight_hash);
    strbuf_printf(b, ", %s, ",
                  m->n_consts && !g->o->weights_file ? c_const_name(g, m->consts[0]) : "NULL");
    print_u64(b, g->api->arena_bytes);
    strbuf_printf(b, ",\n    %s, arena_bytes_for, run_call};\n",
                  g->api->n_symbols ? "symbols_for" : "NULL");
}
