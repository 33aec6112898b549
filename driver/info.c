/* smelt info: what a model is and what it costs, as text or JSON. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "codegen/interface.h"
#include "driver/driver.h"

/* What is counted in the graph as the model has it, before passes change it. */
typedef struct Census {
    uint32_t nodes, of_op[OP_COUNT];
    uint64_t parameters, weight_bytes;
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
        if (json) printf("%s{\"name\": ", i ? ", " : "");
        else printf("%s ", what);
        print_quoted(io[i].name, json);
        if (json) printf(", \"dtype\": \"%s\", \"shape\": \"%s\"}", dtype_info[io[i].dtype].name, io_shape(a, &io[i]));
        else printf(": %s%s\n", dtype_info[io[i].dtype].name, io_shape(a, &io[i]));
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

static void print_ops(const Census *c, bool json) {
    printf(json ? "  \"operators\": {" : "operators: %u\n", c->nodes);
    const char *gap = "";
    for (int op = 1; op < OP_COUNT; op++) {
        if (!c->of_op[op]) continue;
        if (json) printf("%s\"%s\": %u", gap, op_info[op].name, c->of_op[op]);
        else printf("  %-24s %u\n", op_info[op].name, c->of_op[op]);
        gap = ", ";
    }
    if (json) printf("}\n");
}

static void print_info(const Session *s, const Census *c) {
    const KModule *km = s->m->kmod;
    bool json = s->o->json;
    Api *api = api_create(s->arena, km, s->target);
    if (json) printf("{\n");
    print_ios(s->arena, "input", km->inputs, km->n_inputs, json);
    print_ios(s->arena, "output", km->outputs, km->n_outputs, json);
    print_number("parameters", (double)c->parameters, json);
    print_number("weight bytes", (double)c->weight_bytes, json);
    print_number("packed weight bytes", (double)api->weight_bytes, json);
    print_number("multiply-adds", api_flops(km) / 2, json);
    print_number("kernels", km->n_kernels, json);
    int64_t arena;
    if (k_is_int(km->arena_bytes, &arena)) print_number("arena bytes", (double)arena, json);
    print_number("arena lower bound", (double)km->arena_lower_bound, json);
    print_ops(c, json);
    if (json) printf("}\n");
}

int command_info(const Options *o) {
    Session s;
    bool good = session_open(&s, o);
    Census c = {0};
    if (good) {
        c.seen = arena_array(s.arena, uint8_t, s.m->n_values);
        if (s.m->main) graph_visit(s.m->main, count_graph, &c);
        good = session_compile(&s, NULL) && session_is_complete(&s);
    }
    progress_end();
    if (good) print_info(&s, &c);
    return session_close(&s, good ? STATUS_GOOD : STATUS_MODEL);
}
