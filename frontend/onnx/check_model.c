/* Checks of a whole model: versions, imported operator sets, functions, then every graph.
 *
 * Functions are counted before anything is inlined: the number of nodes that a call stands for is
 * computed once per function, bottom-up, so thirty functions that each call the next one twice cost
 * thirty steps here and are refused, where inlining them would make a billion nodes. */
#include <inttypes.h>
#include <string.h>

#include "frontend/onnx/model_internal.h"
#include "ir/support/str.h"

enum { OLDEST_IR = 1, NEWEST_IR = 14, FIRST_IR_WITH_OPSETS = 3, MAX_CALL_DEPTH = 64 };

/* The newest operator set version known of each domain. */
static const struct {
    const char *domain;
    int64_t newest;
} known_opset[] = {
    {"", 28},
    {"ai.onnx.ml", 5},
    {"ai.onnx.training", 1},
    {"ai.onnx.preview", 1},
    {"ai.onnx.preview.training", 1},
    {"com.microsoft", 1},
};

static bool check_ir_version(const OnnxModel *m, Diag *d) {
    int64_t v = m->proto->ir_version;
    SrcLoc at = onnx_model_loc(m);
    if (!m->proto->has_ir_version || v <= 0) {
        diag_error(d, at, "ir_version is %s",
                   m->proto->has_ir_version ? "not positive" : "missing");
        return false;
    }
    if (v >= OLDEST_IR && v <= NEWEST_IR) return true;
    diag_unsupported(d, at, "IR version %" PRId64 " is not supported; %d to %d are", v, OLDEST_IR,
                     NEWEST_IR);
    return false;
}

/* Before version 3 of the format there were no imports: version 1 of ONNX's own domains is meant.
 */
static void import_first_opsets(OnnxModel *m) {
    Onnx__OperatorSetIdProto *first = arena_new(m->arena, Onnx__OperatorSetIdProto);
    onnx__operator_set_id_proto__init(first);
    first->version = 1;
    strmap_put(m->opsets, "", first);
    strmap_put(m->opsets, "ai.onnx.ml", first);
}

/* Fills `to` with the imports of a model or function; `owner` is for messages. */
static bool check_imports(OnnxModel *m, Onnx__OperatorSetIdProto **import, size_t n,
                          const char *owner, StrMap *to, Diag *d) {
    bool good = true;
    SrcLoc at = onnx_model_loc(m);
    at.graph = owner;
    for (size_t i = 0; i < n; i++) {
        const char *domain = onnx_domain(import[i]->domain);
        int64_t v = import[i]->version;
        const Onnx__OperatorSetIdProto *other = strmap_get(to, domain);
        if (v < 1) {
            diag_error(d, at,
                       "opset_import of domain '%s' has version %" PRId64 ", must be at least 1",
                       domain, v);
            good = false;
        }
        if (other && other->version != v) {
            diag_error(d, at, "domain '%s' is imported twice, as version %" PRId64 " and %" PRId64,
                       domain, other->version, v);
            good = false;
        }
        for (size_t k = 0; k < sizeof known_opset / sizeof *known_opset; k++)
            if (!strcmp(domain, known_opset[k].domain) && v > known_opset[k].newest) {
                diag_unsupported(d, at,
                                 "opset version %" PRId64 " of domain '%s' is newer than %" PRId64
                                 ", the newest known",
                                 v, *domain ? domain : "ai.onnx", known_opset[k].newest);
                good = false;
            }
        strmap_put(to, domain, import[i]);
    }
    return good;
}

/* ---- functions ------------------------------------------------------------------------------- */

static void function_key(StrBuf *b, const char *domain, const char *name, const char *overload) {
    b->n = 0;
    strbuf_add(b, onnx_domain(domain));
    strbuf_add_bytes(b, "\x1f", 1);
    strbuf_add(b, name ? name : "");
    strbuf_add_bytes(b, "\x1f", 1);
    strbuf_add(b, overload ? overload : "");
}

const Onnx__FunctionProto *onnx_model_function(const OnnxModel *m, const Onnx__NodeProto *call) {
    if (!strmap_count(m->functions))
        return m->library ? onnx_model_function(m->library, call) : NULL;
    StrBuf key = {0};
    function_key(&key, call->domain, call->op_type, call->overload);
    const Onnx__FunctionProto *f = strmap_get_bytes(m->functions, key.text, key.n);
    strbuf_free(&key);
    return f || !m->library ? f : onnx_model_function(m->library, call);
}

static bool name_functions(OnnxModel *m, Diag *d) {
    bool good = true;
    StrBuf key = {0};
    for (size_t i = 0; i < m->proto->n_functions; i++) {
        const Onnx__FunctionProto *f = m->proto->functions[i];
        if (!f->name || !*f->name) {
            diag_error(d, onnx_model_loc(m), "function %zu has no name", i);
            good = false;
            continue;
        }
        function_key(&key, f->domain, f->name, f->overload);
        if (strmap_get_bytes(m->functions, key.text, key.n)) {
            diag_error(d, onnx_model_loc(m), "function '%s' of domain '%s' is defined twice",
                       f->name, onnx_domain(f->domain));
            good = false;
        }
        strmap_put_bytes(m->functions, arena_copy(m->arena, key.text, key.n), key.n,
                         (void *)(uintptr_t)f);
    }
    strbuf_free(&key);
    return good;
}

/* One function, or the model's graph (at index n_functions). */
typedef struct Callable {
    VEC(uint32_t) calls; /* callee of every call, subgraphs included */
    uint64_t n_own;      /* nodes of its own, subgraphs included */
    uint64_t n_all;      /* with all calls inlined, at most INLINED_CAP */
    uint32_t n_deep;     /* calls within calls */
    uint32_t next;       /* position of the walk in calls */
    enum { UNSEEN, OPEN, DONE } state;
} Callable;

#define INLINED_CAP (UINT64_C(1) << 62)

typedef struct Calls {
    OnnxModel *m;
    Arena *scratch;
    StrMap *index; /* FunctionProto pointer -> index + 1 */
    Callable *item;
} Calls;

/* Adds the nodes and calls of a node list to c; recursion is bounded by the nesting limit. */
static void count_nodes(Calls *cs, Callable *c, Onnx__NodeProto **node, size_t n) {
    c->n_own += n;
    for (size_t i = 0; i < n; i++) {
        const Onnx__FunctionProto *f = onnx_model_function(cs->m, node[i]);
        if (f) {
            uint32_t callee = (uint32_t)((uintptr_t)ptrmap_get(cs->index, f) - 1);
            vec_push(cs->scratch, &c->calls, callee);
        }
        for (size_t k = 0; k < node[i]->n_attribute; k++) {
            const Onnx__AttributeProto *a = node[i]->attribute[k];
            if (a->g) count_nodes(cs, c, a->g->node, a->g->n_node);
            for (size_t j = 0; j < a->n_graphs; j++)
                count_nodes(cs, c, a->graphs[j]->node, a->graphs[j]->n_node);
        }
    }
}

static const char *callable_name(const Calls *cs, uint32_t i) {
    return i < cs->m->proto->n_functions ? cs->m->proto->functions[i]->name : "main";
}

/* The open calls from the callee to itself: "f -> g -> f". */
static void report_recursion(const Calls *cs, const uint32_t *stack, uint32_t n, uint32_t callee,
                             Diag *d) {
    enum { SHOWN = 8 };
    StrBuf path = {0};
    uint32_t first = n;
    while (stack[first - 1] != callee) first--;
    uint32_t length = n - first + 1;
    for (uint32_t i = first - 1; i < n && i < first - 1 + SHOWN; i++)
        strbuf_printf(&path, "'%.60s' -> ", callable_name(cs, stack[i]));
    if (length > SHOWN) strbuf_printf(&path, "(%u more) -> ", (unsigned)(length - SHOWN));
    strbuf_printf(&path, "'%.60s'", callable_name(cs, callee));
    diag_error(d, onnx_model_loc(cs->m), "functions call themselves: %s", strbuf_text(&path));
    strbuf_free(&path);
}

static void finish_callable(Calls *cs, Callable *c) {
    c->n_all = c->n_own;
    for (uint32_t i = 0; i < c->calls.n; i++) {
        const Callable *callee = &cs->item[c->calls.at[i]];
        if (__builtin_add_overflow(c->n_all, callee->n_all, &c->n_all) || c->n_all > INLINED_CAP)
            c->n_all = INLINED_CAP;
        if (callee->n_deep + 1 > c->n_deep) c->n_deep = callee->n_deep + 1;
    }
    c->state = DONE;
}

/* Depth-first from `root`, with an explicit stack; false at the first cycle. */
static bool walk_calls(Calls *cs, uint32_t root, uint32_t *stack, Diag *d) {
    uint32_t n = 0;
    if (cs->item[root].state == DONE) return true;
    cs->item[root].state = OPEN;
    stack[n++] = root;
    while (n) {
        Callable *c = &cs->item[stack[n - 1]];
        if (c->next == c->calls.n) {
            finish_callable(cs, c);
            n--;
            continue;
        }
        uint32_t callee = c->calls.at[c->next++];
        if (cs->item[callee].state == OPEN) {
            report_recursion(cs, stack, n, callee, d);
            return false;
        }
        if (cs->item[callee].state == DONE) continue;
        cs->item[callee].state = OPEN;
        stack[n++] = callee;
    }
    return true;
}

static bool check_calls(OnnxModel *m, Arena *scratch, Diag *d) {
    uint32_t n = (uint32_t)m->proto->n_functions;
    Calls cs = {m, scratch, strmap_create(scratch), arena_array(scratch, Callable, n + 1)};
    uint32_t *stack = arena_array(scratch, uint32_t, n + 1);
    for (uint32_t i = 0; i < n; i++)
        ptrmap_put(scratch, cs.index, m->proto->functions[i], (void *)(uintptr_t)(i + 1));
    for (uint32_t i = 0; i < n; i++)
        count_nodes(&cs, &cs.item[i], m->proto->functions[i]->node, m->proto->functions[i]->n_node);
    count_nodes(&cs, &cs.item[n], m->proto->graph->node, m->proto->graph->n_node);
    for (uint32_t i = 0; i <= n; i++)
        if (!walk_calls(&cs, i, stack, d)) return false;
    const Callable *all = &cs.item[n];
    if (all->n_all > ONNX_MAX_INLINED_NODES) {
        diag_error(d, onnx_model_loc(m),
                   "%s%" PRIu64 " nodes after inlining functions; at most %d "
                   "are allowed",
                   all->n_all == INLINED_CAP ? "more than " : "", all->n_all,
                   ONNX_MAX_INLINED_NODES);
        return false;
    }
    if (all->n_deep > MAX_CALL_DEPTH) {
        diag_error(d, onnx_model_loc(m), "functions call each other %u deep; at most %d is allowed",
                   (unsigned)all->n_deep, MAX_CALL_DEPTH);
        return false;
    }
    return true;
}

/* ---- domains --------------------------------------------------------------------------------- */

typedef struct DomainUse {
    uint64_t n;
    const char *first_op;
} DomainUse;

static void use_domains(const OnnxModel *m, Arena *scratch, StrMap *imports, StrMap *missing,
                        Onnx__NodeProto **node, size_t n) {
    for (size_t i = 0; i < n; i++) {
        const char *domain = onnx_domain(node[i]->domain);
        if (!strmap_get(imports, domain) && !onnx_model_function(m, node[i])) {
            DomainUse *u = strmap_get(missing, domain);
            if (!u) {
                u = arena_new(scratch, DomainUse);
                u->first_op = node[i]->op_type ? node[i]->op_type : "";
                strmap_put(missing, domain, u);
            }
            u->n++;
        }
        for (size_t k = 0; k < node[i]->n_attribute; k++) {
            const Onnx__AttributeProto *a = node[i]->attribute[k];
            if (a->g) use_domains(m, scratch, imports, missing, a->g->node, a->g->n_node);
            for (size_t j = 0; j < a->n_graphs; j++)
                use_domains(m, scratch, imports, missing, a->graphs[j]->node, a->graphs[j]->n_node);
        }
    }
}

/* Every domain that nodes use must be imported. */
static bool check_domains(OnnxModel *m, Arena *scratch, StrMap *imports, const char *owner,
                          Onnx__NodeProto **node, size_t n, Diag *d) {
    StrMap *missing = strmap_create(scratch);
    use_domains(m, scratch, imports, missing, node, n);
    SrcLoc at = onnx_model_loc(m);
    at.graph = owner;
    for (uint32_t i = 0; i < strmap_count(missing); i++) {
        const DomainUse *u = strmap_value(missing, i);
        const char *domain = strmap_key(missing, i);
        diag_error(d, at,
                   "opset_import lacks domain '%s', which %" PRIu64 " nodes use (%s is the first)",
                   *domain ? domain : "ai.onnx", u->n, u->first_op);
    }
    return strmap_count(missing) == 0;
}

static bool check_function(OnnxModel *m, Arena *scratch, const Onnx__FunctionProto *f, Diag *d) {
    const char *path = arena_printf(m->arena, "function %.200s", f->name);
    StrMap *imports = strmap_create(scratch);
    bool good = check_imports(m, f->opset_import, f->n_opset_import, path, imports, d);
    /* a function without imports of its own takes the model's */
    good = check_domains(m, scratch, f->n_opset_import ? imports : m->opsets, path, f->node,
                         f->n_node, d) &&
           good;
    return onnx_check_function(m, scratch, f, path, d) && good;
}

bool onnx_check_model(OnnxModel *m, Diag *d) {
    const Onnx__ModelProto *p = m->proto;
    if (!p->graph) {
        diag_error(d, onnx_model_loc(m), "the model has no graph");
        return false;
    }
    if (!check_ir_version(m, d)) return false;
    if (!p->n_opset_import && p->ir_version >= FIRST_IR_WITH_OPSETS) {
        diag_error(d, onnx_model_loc(m), "opset_import is missing");
        return false;
    }
    if (!p->n_opset_import) import_first_opsets(m);
    Arena *scratch = arena_create();
    bool good = check_imports(m, p->opset_import, p->n_opset_import, NULL, m->opsets, d);
    good = good && name_functions(m, d) && check_calls(m, scratch, d);
    if (good) {
        good = check_domains(m, scratch, m->opsets, NULL, p->graph->node, p->graph->n_node, d);
        arena_reset(scratch);
        good = onnx_check_graph(m, scratch, p->graph, "main", d) && good;
        for (size_t i = 0; i < p->n_functions && !diag_is_full(d); i++) {
            arena_reset(scratch);
            good = check_function(m, scratch, p->functions[i], d) && good;
        }
    }
    arena_destroy(scratch);
    return good;
}
