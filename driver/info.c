/* smelt info: what a model is and what it costs, as text or JSON. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "codegen/interface.h"
#include "driver/driver.h"

/* Nodes and inputs of nodes beyond which a model is described but not compiled: info answers at
 * once. */
enum { MOST_COMPILED = 50000 };

/* What is counted in the graph as the model has it, before passes change it. */
typedef struct Census {
    uint32_t nodes, of_op[OP_COUNT];
    uint64_t parameters, weight_bytes, reads;
    uint8_t *seen; /* by value id */
} Census;

static void count_const(Census *c, const Value *v) {
    if (!v || !value_is_const(v) || c->seen[v->id]) return;
    c->seen[v->id] = 1;
    int64_t n;
    c->weight_bytes += v->data_bytes;
    if (dtype_is_float(v->dtype) && shape_count_int(v->shape, &n)) c->parameters += (uint64_t)n;
}

static void count_graph(Graph *g, void *user) {
    Census *c = user;
    for (Node *n = g->first; n; n = n->next) {
        c->nodes++;
        c->of_op[n->op]++;
        c->reads += (uint64_t)n->n_in;
        for (int i = 0; i < n->n_in; i++) count_const(c, n->in[i]);
    }
}

static void print_quoted(const char *s, bool json) {
    StrBuf b = {0};
    strbuf_escaped(&b, s, json ? ESC_JSON : ESC_TERMINAL);
    printf(json ? "\"%s\"" : "%s", strbuf_text(&b));
    strbuf_free(&b);
}

static const char *io_shape(Arena *a, const KIo *io) {
    return shape_text(a, (Shape){io->rank, io->dims});
}

static void print_ios(Arena *a, const char *what, const KIo *io, uint32_t n, bool json) {
    if (json) printf("  \"%ss\": [", what);
    for (uint32_t i = 0; i < n; i++) {
        if (json)
            printf("%s{\"name\": ", i ? ", " : "");
        else
            printf("%s ", what);
        print_quoted(io[i].name, json);
        printf(json ? ", \"dtype\": \"%s\", \"shape\": " : ": %s", dtype_info[io[i].dtype].name);
        print_quoted(io_shape(a, &io[i]), json);
        printf(json ? "}" : "\n");
    }
    if (json) printf("],\n");
}

static void print_number(const char *name, double v, bool json) {
    char key[40];
    snprintf(key, sizeof key, "%s", name);
    for (char *c = key; json && *c; c++)
        if (*c == ' ') *c = '_';
    printf(json ? "  \"%s\": %.0f,\n" : "%s: %.0f\n", key, v);
}

static void print_work(const char *name, double macs, const KModule *km, bool json) {
    if (api_work_is_known(km)) print_number(name, macs, json);
}

static void print_ops(const Census *c, bool json) {
    printf(json ? "  \"operators\": {" : "operators: %u\n", c->nodes);
    const char *gap = "";
    for (int op = 1; op < OP_COUNT; op++) {
        if (!c->of_op[op]) continue;
        if (json)
            printf("%s\"%s\": %u", gap, op_info[op].name, c->of_op[op]);
        else
            printf("  %-24s %u\n", op_info[op].name, c->of_op[op]);
        gap = ", ";
    }
    if (json) printf("}\n");
}

static void print_versions(const Session *s) {
    uint32_t n;
    const char **name = api_versions(s->arena, s->m->kmod, &n);
    bool json = s->o->json;
    if (!n) return;
    if (json) printf("  \"versions\": [");
    for (uint32_t i = 0; i < n; i++) {
        printf(json ? (i ? ", " : "") : "version: ");
        print_quoted(name[i], json);
        if (!json) printf("\n");
    }
    if (json) printf("],\n");
}

static void print_compiled(const Session *s) {
    const KModule *km = s->m->kmod;
    bool json = s->o->json;
    const Api *api = api_create(s->arena, km, s->target);
    print_versions(s);
    print_number("packed weight bytes", (double)api->weight_bytes, json);
    print_work("multiply-adds", api_flops(km) / 2, km, json);
    print_work("direct multiply-adds", s->m->macs, km, json);
    print_number("kernels", km->n_kernels, json);
    int64_t arena;
    if (k_is_int(km->arena_bytes, &arena)) print_number("arena bytes", (double)arena, json);
    print_number("arena lower bound", (double)km->arena_lower_bound, json);
}

/* The model's inputs or outputs as the graph has them. */
static KIo *ios_of(Arena *a, Value *const *v, uint32_t n) {
    KIo *io = arena_array(a, KIo, n ? n : 1);
    for (uint32_t i = 0; i < n; i++)
        io[i] = (KIo){.name = v[i]->name,
                      .dtype = v[i]->dtype,
                      .rank = v[i]->shape.rank,
                      .dims = v[i]->shape.dims};
    return io;
}

static void print_all_ios(const Session *s, bool is_compiled) {
    const KModule *km = s->m->kmod;
    const Graph *g = s->m->main;
    uint32_t n_in = is_compiled ? km->n_inputs : g->inputs.n,
             n_out = is_compiled ? km->n_outputs : g->outputs.n;
    print_ios(s->arena, "input", is_compiled ? km->inputs : ios_of(s->arena, g->inputs.at, n_in),
              n_in, s->o->json);
    print_ios(s->arena, "output",
              is_compiled ? km->outputs : ios_of(s->arena, g->outputs.at, n_out), n_out,
              s->o->json);
}

static void print_info(const Session *s, const Census *c, bool is_compiled) {
    bool json = s->o->json;
    if (json) printf("{\n");
    print_all_ios(s, is_compiled);
    print_number("parameters", (double)c->parameters, json);
    print_number("weight bytes", (double)c->weight_bytes, json);
    if (is_compiled)
        print_compiled(s);
    else if (!json)
        printf("kernels and memory: found by smelt compile; left out for models of this size\n");
    print_ops(c, json);
    if (json) printf("}\n");
}

int command_info(const Options *o) {
    Session s;
    bool good = session_open(&s, o), is_compiled = true;
    Census c = {0};
    if (good) {
        c.seen = arena_array(s.arena, uint8_t, s.m->n_values);
        if (s.m->main) graph_visit(s.m->main, count_graph, &c);
        is_compiled = !s.m->main || c.nodes + c.reads <= MOST_COMPILED;
        good = session_compile(&s, is_compiled ? NULL : "infer_shapes") &&
               (!is_compiled || session_is_complete(&s));
    }
    progress_end();
    if (good) print_info(&s, &c, is_compiled);
    return session_close(&s, good ? STATUS_GOOD : STATUS_MODEL);
}
