/* Assumptions about ranks, and the attempts to import a model under them: see assume.h.
 *
 * Attempts go through the combinations depth first: each question is answered with yes when it is
 * met first; after a failure the last answer that is still yes becomes no, and the questions behind
 * it are met anew. */
#include "frontend/onnx/assume.h"

#include <string.h>

#include "frontend/onnx/build.h"
#include "ir/infer.h"

enum { MOST_ATTEMPTS = 32 };

#define ENDS "and a run in which it is not so ends with an error"

typedef struct Assumption {
    SrcLoc loc; /* of the node; its graph's path and its place there say which one it is */
    int axis;   /* of its input, which has not length 1; -1: an If's condition is true */
    bool holds;
} Assumption;

struct Assumptions {
    Arena *arena;
    VEC(Assumption) made; /* in the order in which they were met */
    int n_attempts;
};

Assumptions *assumptions_create(Arena *a) {
    Assumptions *s = arena_new(a, Assumptions);
    s->arena = a;
    return s;
}

bool assumptions_any(const Assumptions *s) {
    return s->made.n > 0;
}

bool assumptions_next(Assumptions *s) {
    while (s->made.n && !s->made.at[s->made.n - 1].holds) s->made.n--;
    if (s->made.n && ++s->n_attempts < MOST_ATTEMPTS) {
        s->made.at[s->made.n - 1].holds = false;
        return true;
    }
    s->made.n = 0;
    return false;
}

void assumptions_warn(const Assumptions *s, Diag *d) {
    for (uint32_t i = 0; i < s->made.n; i++) {
        const Assumption *a = &s->made.at[i];
        if (a->axis < 0)
            diag_warn(d, a->loc, "the condition is taken to be %s: ranks depend on it, " ENDS,
                      a->holds ? "true" : "false");
        else
            diag_warn(d, a->loc, "axis %d is taken %s to have length 1: ranks depend on it, " ENDS,
                      a->axis, a->holds ? "not" : "always");
    }
}

static bool holds(Assumptions *s, SrcLoc loc, int axis) {
    for (uint32_t i = 0; i < s->made.n; i++) {
        const Assumption *a = &s->made.at[i];
        if (a->loc.index == loc.index && a->axis == axis && !strcmp(a->loc.graph, loc.graph))
            return a->holds;
    }
    Assumption first = {loc, axis, true};
    first.loc.graph = arena_printf(s->arena, "%s", loc.graph); /* may be the module's */
    vec_push(s->arena, &s->made, first);
    return true;
}

bool assume_has_to(Call *c, const Node *n) {
    const Graph *yes = attr_graph(n, "then_branch"), *no = attr_graph(n, "else_branch");
    DiagMark mark = diag_mark(c->im->d); /* a branch that is never taken may have errors */
    bool found = false;
    for (int i = 0; i < c->n_out && !found; i++) {
        Value *a = yes->outputs.at[i], *b = no->outputs.at[i];
        found = call_wants(c, i) && build_has_shape(c, a) && build_has_shape(c, b) &&
                if_ranks_clash(a, b);
    }
    diag_rewind(c->im->d, mark);
    return found;
}

void assume_branch(Call *c, Node *n) {
    bool condition = holds(c->im->assumptions, c->loc, -1);
    node_set_int(n, "assumed", condition);
    for (int i = 0; i < c->n_out; i++) {
        if (!call_wants(c, i)) continue;
        DType t = c->out[i]->dtype;
        c->out[i] = call_op(c, OP_Assume, 2, c->out[i], n->in[0]);
        c->out[i]->dtype = t;
        node_set_int(c->out[i]->def, "holds", condition);
    }
}

void assume_ones(Call *c, Node *n) {
    int64_t ones[MAX_RANK], length;
    int n_ones = 0;
    if (!build_has_shape(c, n->in[0])) return;
    const Shape *s = &n->in[0]->shape;
    for (int i = 0; i < s->rank; i++) {
        const KExpr *dim = s->dims[i];
        if (shape_dim_int(*s, i, &length) || dim->lo > 1 || is_one_of_many(c->m, dim)) continue;
        if (!holds(c->im->assumptions, c->loc, i)) ones[n_ones++] = i;
    }
    if (n_ones) node_set_ints(n, "ones", ones, n_ones);
}
