/* The caller's view of a model: symbols, tensors, arena, weights, processor. */
#include "codegen/interface.h"

#include <string.h>

#include "ir/support/map.h"
#include "ir/tile.h"

uint32_t api_element_bytes(DType t, const Target *target) {
    return t == DT_STR ? 2 * (uint32_t)target->pointer_bytes : (uint32_t)dtype_bytes(t);
}

/* Models with less work than this test only what can be tested fast: CPUID takes microseconds in
 * virtual machines (17 measured for all leaves), too much beside half a millisecond of work. */
static const double cheap_flops = 1e8;

/* The operations of the calls in b, of two branches the one with more, and of a loop without a
 * bound one iteration; and into by_node (unless NULL) those after each NODE, loops once. */
static double count_flops(const KBlock *b, uint32_t *node, double *by_node) {
    double sum = 0;
    for (const KStmt *s = b->first; s; s = s->next) {
        bool repeats = s->kind == KS_FOR && s->extent->hi < INT64_MAX;
        if (s->kind == KS_NODE) *node = s->node;
        double then = count_flops(&s->body, node, by_node);
        double otherwise = count_flops(&s->other, node, by_node);
        sum += (then > otherwise ? then : otherwise) * (repeats ? (double)s->extent->hi : 1);
        if (s->kind != KS_CALL) continue;
        sum += s->callee->flops;
        if (by_node && *node != UINT32_MAX) by_node[*node] += s->callee->flops;
    }
    return sum;
}

double api_flops(const KModule *m) {
    uint32_t node = UINT32_MAX;
    return count_flops(&m->entry, &node, NULL);
}

bool api_work_is_known(const KModule *m) {
    return !m->n_symbols && api_flops(m) < 0x1p63;
}

const char **api_versions(Arena *a, const KModule *m, uint32_t *n) {
    const char **name = arena_array(a, const char *, m->n_nodes + 1);
    *n = 0;
    for (uint32_t i = 0; i < m->n_nodes; i++)
        if (!strcmp(m->nodes[i].op, NODE_VERSION)) name[(*n)++] = m->nodes[i].name;
    return name;
}

static uint64_t *count_macs(Arena *a, const KModule *m) {
    uint64_t *macs = arena_array(a, uint64_t, m->n_nodes + 1);
    double *flops = arena_array(a, double, m->n_nodes + 1);
    uint32_t node = UINT32_MAX;
    count_flops(&m->entry, &node, flops);
    for (uint32_t i = 0; i < m->n_nodes; i++)
        macs[i] = flops[i] < 0x1p64 ? (uint64_t)(flops[i] / 2) : UINT64_MAX;
    return macs;
}

/* ---- names of expressions -------------------------------------------------------------------- */

static void print_dim(StrBuf *b, const KExpr *e, bool inside) {
    static const struct {
        KOp op;
        const char *sign;
    } infix[] = {{KO_add, " + "}, {KO_sub, " - "},  {KO_mul, "*"},  {KO_fdiv, " / "},
                 {KO_div, " / "}, {KO_fmod, " % "}, {KO_rem, " % "}};
    if (e->op == KO_const_i) {
        strbuf_printf(b, "%lld", (long long)e->u.i);
        return;
    }
    if (e->op == KO_var) {
        strbuf_add(b, e->u.var->name);
        return;
    }
    for (size_t i = 0; i < sizeof infix / sizeof infix[0]; i++) {
        if (infix[i].op != e->op) continue;
        if (inside) strbuf_add(b, "(");
        print_dim(b, e->arg[0], true);
        strbuf_add(b, infix[i].sign);
        print_dim(b, e->arg[1], true);
        if (inside) strbuf_add(b, ")");
        return;
    }
    strbuf_printf(b, "%s(", kop_info[e->op].name);
    for (int i = 0; i < e->n_args; i++) {
        if (i) strbuf_add(b, ", ");
        print_dim(b, e->arg[i], false);
    }
    strbuf_add(b, ")");
}

/* ---- symbols --------------------------------------------------------------------------------- */

static int kind_of(const KModule *m, const KExpr *dim) {
    for (uint32_t i = 0; i < m->n_symbols; i++)
        if (dim->op == KO_var && dim->u.var == m->symbols[i]) return API_ARGUMENT;
    return k_is_computed(m->k, dim) ? API_DATA : API_DERIVED;
}

typedef VEC(ApiSymbol) SymbolList;

static void add_symbol(Arena *a, const KModule *m, SymbolList *list, int kind, const KExpr *dim) {
    for (uint32_t i = 0; i < list->n; i++)
        if (list->at[i].value == dim) return;
    StrBuf name = {0};
    ApiSymbol s = {.kind = kind, .value = dim, .most = k_upper_bound(m->k, dim)};
    print_dim(&name, dim, false);
    s.name = arena_strdup(a, strbuf_text(&name));
    strbuf_free(&name);
    int64_t ignored;
    k_range(dim, &s.min, &ignored);
    k_range(s.most, &ignored, &s.max);
    if (s.min < 0 && kind != API_ARGUMENT) s.min = 0;
    vec_push(a, list, s);
}

static void add_dims(Arena *a, const KModule *m, const KIo *io, uint32_t n, int kind,
                     SymbolList *list) {
    int64_t fixed;
    for (uint32_t i = 0; i < n; i++)
        for (int d = 0; d < io[i].rank; d++)
            if (!k_is_int(io[i].dims[d], &fixed) && kind_of(m, io[i].dims[d]) == kind)
                add_symbol(a, m, list, kind, io[i].dims[d]);
}

static void find_symbols(Arena *a, const KModule *m, Api *api) {
    SymbolList list = {0};
    for (uint32_t i = 0; i < m->n_symbols; i++) {
        KVar *v = m->symbols[i];
        ApiSymbol s = {
            .name = v->name, .kind = API_ARGUMENT, .min = v->lo < 0 ? 0 : v->lo, .max = v->hi};
        s.value = s.most = k_var(m->k, v);
        vec_push(a, &list, s);
    }
    for (int kind = API_DERIVED; kind <= API_DATA; kind++) {
        add_dims(a, m, m->inputs, m->n_inputs, kind, &list);
        add_dims(a, m, m->outputs, m->n_outputs, kind, &list);
    }
    api->symbols = list.at;
    api->n_symbols = list.n;
    api->n_arguments = m->n_symbols;
}

/* ---- tensors --------------------------------------------------------------------------------- */

static uint64_t times(uint64_t a, uint64_t b) {
    uint64_t r;
    return __builtin_mul_overflow(a, b, &r) ? UINT64_MAX : r;
}

static void describe(Arena *a, const Api *api, const Target *target, const KIo *io, ApiTensor *t) {
    *t = (ApiTensor){.io = io,
                     .dims = arena_array(a, int64_t, io->rank + 1),
                     .is_allocated = io->buf && io->buf->mem == MEM_HEAP};
    t->max_bytes = api_element_bytes(io->dtype, target);
    for (int d = 0; d < io->rank; d++) {
        int64_t n = 0;
        if (k_is_int(io->dims[d], &n)) {
            t->dims[d] = n;
        } else {
            uint32_t s = 0;
            while (s < api->n_symbols && api->symbols[s].value != io->dims[d]) s++;
            BUG_IF(s == api->n_symbols, "dim %d of '%s' is not in the symbol table", d, io->name);
            t->dims[d] = -1 - (int64_t)s;
            n = api->symbols[s].max;
            t->has_symbols = true;
            t->has_data_dims |= api->symbols[s].kind == API_DATA;
        }
        bool overflows = t->max_bytes == UINT64_MAX && n != 0;
        t->max_bytes = overflows ? UINT64_MAX : times(t->max_bytes, (uint64_t)n);
    }
}

/* Distinct parameter names; the fixed ones of the call are taken. */
static const char *parameter_name(Arena *a, StrMap *taken, const char *name, const char *fallback,
                                  uint32_t i) {
    const char *id = c_identifier(a, name && *name ? name : fallback);
    if (strmap_get(taken, id)) id = arena_printf(a, "%s_%u", id, i);
    while (strmap_get(taken, id)) id = arena_printf(a, "%s_", id);
    strmap_put(taken, id, (void *)(uintptr_t)1);
    return id;
}

static void name_parameters(Arena *a, const KModule *m, Api *api) {
    static const char *const fixed[] = {"arena", "arena_bytes", "weights"};
    StrMap *taken = strmap_create(a);
    for (size_t i = 0; i < sizeof fixed / sizeof fixed[0]; i++)
        strmap_put(taken, fixed[i], (void *)(uintptr_t)1);
    strmap_put(taken, arena_printf(a, "%s_run", m->name), (void *)(uintptr_t)1);
    strmap_put(taken, arena_printf(a, "%s_model", m->name), (void *)(uintptr_t)1);
    api->argument_names = arena_array(a, const char *, api->n_arguments + 1);
    for (uint32_t i = 0; i < api->n_arguments; i++)
        api->argument_names[i] = parameter_name(a, taken, api->symbols[i].name, "dim", i);
    for (uint32_t i = 0; i < m->n_inputs; i++)
        api->inputs[i].c_name = parameter_name(a, taken, m->inputs[i].name, "input", i);
    for (uint32_t i = 0; i < m->n_outputs; i++) {
        ApiTensor *t = &api->outputs[i];
        t->c_name = parameter_name(a, taken, m->outputs[i].name, "output", i);
        if (t->has_data_dims)
            strmap_put(taken, arena_printf(a, "%s_dims", t->c_name), (void *)(uintptr_t)1);
    }
}

/* ---- processor ------------------------------------------------------------------------------- */

static const struct {
    const char *arch, *name;
} known_features[] = {
#define SMELT_CPU_X86(name, leaf, subleaf, reg, bit, state) {"x86_64", name},
#define SMELT_CPU_AARCH64(name, word, bit, darwin)          {"aarch64", name},
#define SMELT_CPU_ARM(name, word, bit)                      {"arm", name},
#define SMELT_CPU_RISCV(name, word, bit)                    {"riscv64", name},
#include "runtime/include/smelt_cpu.def"
};

bool api_needs_feature(const Api *api, const Target *t, const char *feature) {
    return target_has(t, feature) && (api->has_tiles || strncmp(feature, "amx-", 4));
}

static const char *list_features(Arena *a, const Api *api, const Target *t) {
    static const char baseline[] = ",x87,cx8,cmov,mmx,fxsr,sse,sse2,";
    StrBuf b = {0};
    for (size_t i = 0; i < sizeof known_features / sizeof known_features[0]; i++) {
        const char *name = known_features[i].name;
        if (strcmp(known_features[i].arch, t->arch) || !api_needs_feature(api, t, name)) continue;
        if (strstr(baseline, arena_printf(a, ",%s,", name))) continue;
        strbuf_printf(&b, "%s%s", b.n ? "," : "", name);
    }
    const char *list = arena_strdup(a, strbuf_text(&b));
    strbuf_free(&b);
    return list;
}

/* The quick test tells processors by BMI, which all those with AVX2 have. With free dims the flops
 * are those of the largest call; of a small one, each weight is still used once. */
static CpuCheck choose_check(const Target *t, const Api *api, const KModule *m) {
    if (strcmp(t->arch, "x86_64") || !api->cpu_features[0]) return CPU_NO_CHECK;
    bool quick = target_has(t, "avx2") && target_has(t, "bmi");
    double flops = m->n_symbols ? (double)api->weight_bytes / 4 * 2 : api_flops(m);
    return quick && flops < cheap_flops ? CPU_CHECK_STATE : CPU_CHECK_ALL;
}

Api *api_create(Arena *a, const KModule *m, const Target *t) {
    Api *api = arena_new(a, Api);
    find_symbols(a, m, api);
    api->inputs = arena_array(a, ApiTensor, m->n_inputs + 1);
    api->outputs = arena_array(a, ApiTensor, m->n_outputs + 1);
    for (uint32_t i = 0; i < m->n_inputs; i++) describe(a, api, t, &m->inputs[i], &api->inputs[i]);
    for (uint32_t i = 0; i < m->n_outputs; i++)
        describe(a, api, t, &m->outputs[i], &api->outputs[i]);
    name_parameters(a, m, api);
    int64_t lo = 0, hi = 0;
    if (m->arena_bytes) k_range(m->arena_bytes, &lo, &hi);
    api->arena_bytes = hi == INT64_MAX ? UINT64_MAX : hi > 0 ? (uint64_t)hi + ARENA_ALIGN - 1 : 0;
    api->const_offset = arena_array(a, uint64_t, m->n_consts + 1);
    for (uint32_t i = 0; i < m->n_consts; i++) {
        int64_t n = 0;
        k_is_int(m->consts[i]->n_elems, &n);
        api->weight_bytes = (api->weight_bytes + 63) / 64 * 64;
        api->const_offset[i] = api->weight_bytes;
        api->weight_bytes += (uint64_t)n * (uint64_t)dtype_bytes(m->consts[i]->dtype);
    }
    for (int i = 7; i >= 0; i--) api->model_hash = api->model_hash << 8 | m->model_hash[i];
    for (uint32_t i = 0; i < m->n_kernels; i++)
        api->has_tiles |= t->amx && kblock_has_tiles(&m->kernels[i]->body);
    api->cpu_features = list_features(a, api, t);
    api->cpu_check = choose_check(t, api, m);
    api->node_macs = count_macs(a, m);
    api->has_typed_call = !m->n_heap;
    return api;
}

/* Every dim found while running has a bound in the caller's symbols, whatever their values. */
static bool has_bound(const Api *api, const ApiTensor *t) {
    int64_t most;
    for (int d = 0; d < t->io->rank; d++) {
        if (t->dims[d] >= 0) continue;
        const ApiSymbol *s = &api->symbols[-1 - t->dims[d]];
        if (s->kind == API_DATA && k_is_int(s->most, &most) && most == INT64_MAX) return false;
    }
    return true;
}

bool api_check(const Api *api, const KModule *m, Diag *d) {
    int before = diag_n_errors(d);
    for (uint32_t i = 0; i < m->n_inputs + m->n_outputs; i++) {
        const ApiTensor *t = i < m->n_inputs ? &api->inputs[i] : &api->outputs[i - m->n_inputs];
        if (t->is_allocated || !t->max_bytes) continue;
        if (!has_bound(api, t) ||
            (t->has_data_dims && !api->n_arguments && t->max_bytes == UINT64_MAX))
            diag_unsupported(d, SRC_NOWHERE, "output '%s': its size has no bound", t->io->name);
    }
    return diag_n_errors(d) == before;
}

/* ---- the user's own functions ---------------------------------------------------------------- */

typedef struct Foreign {
    Arena *a;
    VEC(const KStmt *) calls;
} Foreign;

static void find_foreign(Foreign *f, const KBlock *b) {
    for (const KStmt *s = b->first; s; s = s->next) {
        find_foreign(f, &s->body);
        find_foreign(f, &s->other);
        bool is_new = s->kind == KS_EXTERN;
        for (uint32_t i = 0; is_new && i < f->calls.n; i++)
            is_new = strcmp(f->calls.at[i]->text, s->text) != 0;
        if (is_new) vec_push(f->a, &f->calls, s);
    }
}

const KStmt **api_foreign_calls(Arena *a, const KModule *m, size_t *n) {
    Foreign f = {.a = a};
    for (uint32_t i = 0; i < m->n_kernels; i++) find_foreign(&f, &m->kernels[i]->body);
    *n = f.calls.n;
    return f.calls.at;
}
