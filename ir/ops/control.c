/* If, Loop and Scan: nodes that own graphs.
 *
 * infer types the subgraphs' inputs, infers them, and makes the node's types from their outputs. A
 * dim that is known only while running (the branches of an If disagree, a Loop may stop early)
 * becomes a computed symbol with a bound. Dims of loop-carried values that change from one
 * iteration to the next become symbols that the loop keeps up to date. lower appends one region
 * stage; what runs when is decided where programs become kernels. */
#include "ir/infer.h"
#include "ir/ops/check.h"

static Graph *body_graph(Module *m, const Node *n, const char *name) {
    Graph *g = attr_graph(n, name);
    if (!g) diag_error(m->diag, n->loc, "attribute %s is missing", name);
    return g;
}

static bool check_flag(Module *m, const Node *n, int i, const Value *v, DType t, const char *what) {
    int64_t count;
    if (v->dtype == t && (!shape_count_int(v->shape, &count) || count == 1)) return true;
    diag_error(m->diag, n->loc, "%s (%d) is %s %s, must be one %s", what, i,
               dtype_info[v->dtype].name, shape_text(m->scratch, v->shape), dtype_info[t].name);
    return false;
}

/* The computed symbol that output i's axis got when the node was inferred before, or a new one. */
static const KExpr *computed_dim(Module *m, const Node *n, int i, int rank, int axis,
                                 const KExpr *bound) {
    const Value *v = n->out[i];
    const KExpr *old = v->shape.rank == rank ? v->shape.dims[axis] : NULL;
    return module_computed_dim(m, old, v->name && *v->name ? v->name : "size", bound);
}

static bool check_tensor(Module *m, const Node *n, const Value *v) {
    if (v->type == VT_TENSOR) return true;
    diag_unsupported(m->diag, n->loc, "only numeric tensors may pass through %s; '%s' is a %s",
                     op_info[n->op].name, v->name,
                     v->type == VT_SEQUENCE   ? "sequence"
                     : v->type == VT_OPTIONAL ? "optional"
                                              : "string");
    return false;
}

/* ---- If -------------------------------------------------------------------------------------- */

/* Are a's leading axes, beyond those of b, of length 1? */
static bool has_spare_axes(const Value *a, const Value *b) {
    for (int d = 0; d < a->shape.rank - b->shape.rank; d++)
        if (!k_is_value(a->shape.dims[d], 1)) return false;
    return true;
}

bool if_ranks_clash(const Value *a, const Value *b) {
    const Value *large = a->shape.rank > b->shape.rank ? a : b, *small = large == a ? b : a;
    return large->shape.rank > small->shape.rank && small->shape.rank >= 0 &&
           !has_spare_axes(large, small);
}

/* v with `count` leading axes, by a node before `at`. */
static Node *leading_axes(SrcLoc loc, Graph *g, Node *at, Value *v, int count) {
    int64_t axes[MAX_RANK];
    for (int d = 0; d < count; d++) axes[d] = d;
    Value *list = graph_const_ints(g, "", axes, count);
    return graph_add_node(g, at, OP_Unsqueeze, (Value *[]){v, list}, 2, 1, loc);
}

/* Output i of a branch gets `count` leading axes; its other readers stay with what it was. */
static bool add_leading_axes(Module *m, SrcLoc loc, Graph *g, int i, int count) {
    Value *v = g->outputs.at[i];
    Node *wider = leading_axes(loc, g, NULL, v, count);
    value_replace_uses(v, wider->out[0]); /* as the output, too */
    while (wider->out[0]->users.n) {
        Node *user = wider->out[0]->users.at[0];
        for (int k = 0; k < user->n_in; k++)
            if (user->in[k] == wider->out[0]) node_set_input(user, k, v);
    }
    return g->outputs.at[i] == wider->out[0] && op_info[OP_Unsqueeze].infer(m, wider);
}

/* One number as f32[] and as f32[1], [1, 1]: both become the latter (Value.spare_axes). */
static void join_ranks(Module *m, Node *n, int i, Graph *const branch[2]) {
    const Value *a = branch[0]->outputs.at[i], *b = branch[1]->outputs.at[i];
    if (!n->out[i] || a->type != VT_TENSOR || b->type != VT_TENSOR) return;
    int less = a->shape.rank < b->shape.rank ? 0 : 1;
    const Value *large = less ? a : b, *small = less ? b : a;
    int more = large->shape.rank - small->shape.rank;
    int least_a = a->shape.rank - a->spare_axes, least_b = b->shape.rank - b->spare_axes;
    if (more &&
        !(has_spare_axes(large, small) && add_leading_axes(m, n->loc, branch[less], i, more)))
        return;
    int spare = large->shape.rank - (least_a < least_b ? least_a : least_b);
    if (spare > n->out[i]->spare_axes) n->out[i]->spare_axes = (uint8_t)spare;
}

/* Output i holds a or b. */
static bool join_output(Module *m, Node *n, int i, const Value *a, const Value *b) {
    if (!n->out[i]) return true;
    if (!check_tensor(m, n, a) || !check_tensor(m, n, b)) return false;
    if (a->dtype != b->dtype) {
        diag_error(m->diag, n->loc, "output %d is %s in then_branch and %s in else_branch", i,
                   dtype_info[a->dtype].name, dtype_info[b->dtype].name);
        return false;
    }
    if (a->shape.rank != b->shape.rank) {
        diag_unsupported(
            m->diag, n->loc,
            "output %d has rank %d in then_branch and %d in else_branch, and the condition is "
            "not known at compile time",
            i, a->shape.rank, b->shape.rank);
        return false;
    }
    Shape out = shape_copy(m->arena, a->shape);
    for (int d = 0; d < out.rank; d++) {
        if (a->shape.dims[d] == b->shape.dims[d]) continue;
        const KExpr *bound = k_max(m->k, a->shape.dims[d], b->shape.dims[d]);
        out.dims[d] = computed_dim(m, n, i, out.rank, d, bound);
    }
    return infer_set(m, n, i, a->dtype, out);
}

bool if_infer(Module *m, Node *n) {
    Graph *a = body_graph(m, n, "then_branch"), *b = body_graph(m, n, "else_branch");
    if (!a || !b || !check_flag(m, n, 0, n->in[0], DT_BOOL, "the condition, input")) return false;
    Graph *const branch[2] = {a, b};
    int64_t assumed = attr_int(n, "assumed", -1);
    bool good = true;
    for (int i = 0; i < 2; i++) {
        if (branch[i]->inputs.n || branch[i]->outputs.n != (uint32_t)n->n_out) {
            diag_error(m->diag, n->loc, "%s has %u inputs and %u outputs, must have 0 and %d",
                       i ? "else_branch" : "then_branch", branch[i]->inputs.n, branch[i]->outputs.n,
                       (int)n->n_out);
            return false;
        }
        if (assumed < 0) good &= infer_graph(m, branch[i]);
    }
    if (assumed >= 0) return infer_branch(m, n, branch[!assumed]);
    for (int i = 0; good && i < n->n_out; i++) {
        join_ranks(m, n, i, branch);
        good = join_output(m, n, i, a->outputs.at[i], b->outputs.at[i]);
    }
    return good;
}

void if_lower(Def *d, const Node *n) {
    (void)n;
    def_region(d);
}

/* ---- Loop and Scan: what they share ---------------------------------------------------------- */

static void type_input(Module *m, Value *v, DType t, Shape s) {
    v->dtype = t;
    v->type = VT_TENSOR;
    v->shape = shape_copy(m->arena, s);
    v->content = NULL;
}

/* Carried value i comes out of the body with the type it went in with. */
static bool check_carried(Module *m, const Node *n, int i, const Value *before,
                          const Value *after) {
    if (!check_tensor(m, n, after)) return false;
    if (before->dtype != after->dtype) {
        diag_error(m->diag, n->loc, "carried value %d is %s before and %s after an iteration", i,
                   dtype_info[before->dtype].name, dtype_info[after->dtype].name);
        return false;
    }
    if (before->shape.rank == after->shape.rank) return true;
    diag_unsupported(m->diag, n->loc,
                     "the rank of carried value %d changes from %d to %d in an iteration", i,
                     before->shape.rank, after->shape.rank);
    return false;
}

static bool is_size(const KExpr *e) {
    return e->op == KO_var && e->u.var->kind == KV_SYMBOL && e->u.var->computed;
}

/* Dim a of the body's input becomes a size of its own, which the loop keeps up to date: the one
 * that it was when the node was inferred before, or a new one. */
static void widen_dim(Module *m, Value *state, int a, const Shape *old) {
    const KExpr *had = old->rank == state->shape.rank ? old->dims[a] : NULL;
    if (!had || !is_size(had) || !had->u.var->carried) {
        KVar *v = module_computed_symbol(m, "carried", k_int(m->k, INT64_MAX));
        v->carried = true;
        had = k_var(m->k, v);
    }
    state->shape.dims[a] = had;
}

/* Dims of the body's input that come out of the body changed are widened; true when there were
 * some. */
static bool widen_carried(Module *m, Value *state, const Value *after, const Shape *old) {
    bool changed = false;
    for (int a = 0; a < state->shape.rank; a++) {
        const KExpr *dim = state->shape.dims[a];
        bool own = is_size(dim) && dim->u.var->carried;
        if (own || dim == after->shape.dims[a]) continue;
        widen_dim(m, state, a, old);
        changed = true;
    }
    return changed;
}

/* A Loop's or Scan's body, of which inputs from `first` on and outputs from `first_out` on are what
 * is carried. */
typedef struct Carried {
    const Node *node;
    Graph *body;
    int first, first_out, n;
    const Shape *old; /* of the inputs, when the node was inferred before */
} Carried;

/* Is there at least one iteration? */
static bool runs_once(Module *m, const Node *n) {
    int64_t trips = 1, goes = 1;
    if (n->op != OP_Loop) return false;
    const KExpr *count = has_in(n, 0) ? value_content(m, n->in[0], 0) : k_int(m->k, 1),
                *go = has_in(n, 1) ? value_content(m, n->in[1], 0) : k_int(m->k, 1);
    return count && go && k_is_int(count, &trips) && k_is_int(go, &goes) && trips > 0 && goes;
}

/* What the body makes anew in each iteration without reading it may begin with any rank, since
 * nobody sees that: zeros of the body's rank stand in for it. */
static bool replace_unread(Module *m, const Carried *c, int i, const Value *after) {
    Node *n = (Node *)(uintptr_t)c->node; /* verbs see nodes as const */
    Value *state = c->body->inputs.at[c->first + i];
    const Value *begin = n->in[c->first + i];
    if (state->users.n || after == state || begin->dtype != after->dtype || !runs_once(m, n))
        return false;
    Value *v = graph_const_zeros(n->graph, after->dtype, after->shape);
    node_set_input(n, c->first + i, v);
    type_input(m, state, v->dtype, v->shape);
    return true;
}

/* A state that comes in as f32[] and goes out as f32[1], or the other way round, is the latter
 * everywhere (Value.spare_axes). */
static bool join_state_ranks(Module *m, const Carried *c, int i) {
    Node *n = (Node *)(uintptr_t)c->node; /* verbs see nodes as const */
    Value *state = c->body->inputs.at[c->first + i];
    const Value *after = c->body->outputs.at[c->first_out + i];
    int more = after->shape.rank - state->shape.rank, count = more < 0 ? -more : more;
    if (more > 0 && has_spare_axes(after, state)) {
        Node *wider = leading_axes(n->loc, n->graph, n, n->in[c->first + i], count);
        node_set_input(n, c->first + i, wider->out[0]);
        if (!op_info[OP_Unsqueeze].infer(m, wider)) return false;
        type_input(m, state, wider->out[0]->dtype, wider->out[0]->shape);
    } else if (more < 0 && has_spare_axes(state, after)) {
        if (!add_leading_axes(m, n->loc, c->body, c->first_out + i, count)) return false;
        c->body->outputs.at[c->first_out + i]->spare_axes = (uint8_t)count;
    } else if (after->spare_axes <= state->spare_axes) {
        return false;
    }
    int spare = count > after->spare_axes ? count : after->spare_axes;
    if (spare > state->spare_axes) state->spare_axes = (uint8_t)spare;
    return true;
}

/* Infers the body once; *changed is set when dims turned out to change in an iteration. */
static bool infer_round(Module *m, const Carried *c, bool *changed) {
    if (!infer_graph(m, c->body)) return false;
    for (int i = 0; i < c->n; i++) {
        Value *state = c->body->inputs.at[c->first + i];
        *changed |= join_state_ranks(m, c, i);
        const Value *after = c->body->outputs.at[c->first_out + i];
        if (state->shape.rank != after->shape.rank) *changed |= replace_unread(m, c, i, after);
        if (!check_carried(m, c->node, i, state, after)) return false;
        *changed |= widen_carried(m, state, after, &c->old[i]);
    }
    return true;
}

/* Until the shapes are the same before and behind an iteration they are an assumption, from which
 * nothing may follow that stays. */
static bool infer_carried(Module *m, Carried c) {
    bool was_on_trial = m->on_trial, good = true;
    for (bool changed = true; good && changed;) {
        m->on_trial = true;
        for (changed = true; good && changed;) {
            changed = false;
            good = infer_round(m, &c, &changed);
        }
        m->on_trial = was_on_trial;
        if (good && !was_on_trial) good = infer_round(m, &c, &changed);
    }
    return good;
}

/* Output i is a carried value: dims that the loop changes are known behind it. */
static bool set_carried(Module *m, Node *n, int i, const Value *state, const Value *after) {
    if (!has_out(n, i)) return true;
    n->out[i]->spare_axes = runs_once(m, n) ? after->spare_axes : state->spare_axes;
    Shape out = shape_copy(m->arena, state->shape);
    for (int a = 0; a < out.rank; a++)
        if (is_size(out.dims[a]) && out.dims[a]->u.var->carried)
            out.dims[a] = computed_dim(m, n, i, out.rank, a, k_int(m->k, INT64_MAX));
    return infer_set(m, n, i, state->dtype, out);
}

typedef VEC(const KExpr *) Dims;

static void push_dims(Module *m, Dims *d, const Value *v) {
    for (int a = 0; v && a < v->shape.rank; a++)
        if (is_size(v->shape.dims[a])) vec_push(m->scratch, d, v->shape.dims[a]);
}

static bool is_around(const Graph *g, const Graph *inner) {
    while (inner && inner != g) inner = inner->parent;
    return inner != NULL;
}

/* Sizes of what the nodes of a body, and of those in it, read from outside of `node`. */
static void push_captured(Module *m, Dims *d, const Node *node, const Graph *body) {
    for (const Node *n = body->first; n; n = n->next) {
        for (int i = 0; i < n->n_in; i++)
            if (n->in[i] && n->in[i]->def && is_around(n->in[i]->def->graph, node->graph))
                push_dims(m, d, n->in[i]);
        for (uint32_t i = 0; i < n->attrs.n; i++)
            if (n->attrs.at[i].graph) push_captured(m, d, node, n->attrs.at[i].graph);
    }
}

/* Computed sizes that are known before the node runs: those of what it and its body read. */
static Dims known_before(Module *m, const Node *n, const Graph *body) {
    Dims d = {0};
    for (int i = 0; i < n->n_in; i++) push_dims(m, &d, n->in[i]);
    for (const Graph *g = n->graph; g; g = g->parent)
        for (uint32_t i = 0; i < g->inputs.n; i++) push_dims(m, &d, g->inputs.at[i]);
    push_captured(m, &d, n, body);
    return d;
}

static bool is_one_of(const KVar *v, const void *user) {
    const Dims *d = user;
    for (uint32_t i = 0; i < d->n; i++)
        if (d->at[i]->u.var == v) return true;
    return false;
}

/* The shape of slices of a result: dims that are found inside of the body are known behind it. */
static Shape slice_shape(Module *m, const Node *n, int i, const Value *each, int axis, int rank,
                         const Dims *before) {
    Shape out = shape_copy(m->arena, each->shape);
    for (int a = 0; a < out.rank; a++)
        if (k_upper_bound_given(m->k, out.dims[a], is_one_of, before) != out.dims[a])
            out.dims[a] = computed_dim(m, n, i, rank, a < axis ? a : a + 1,
                                       k_upper_bound(m->k, out.dims[a]));
    return out;
}

/* The shape with a dim put in at axis. */
static Shape with_dim(Module *m, Shape s, int axis, const KExpr *dim) {
    Shape r = shape_make(m->arena, s.rank + 1);
    for (int i = 0; i < r.rank; i++)
        r.dims[i] = i < axis ? s.dims[i] : i == axis ? dim : s.dims[i - 1];
    return r;
}

static Shape without_dim(Module *m, Shape s, int axis) {
    Shape r = shape_make(m->arena, s.rank - 1);
    for (int i = 0; i < r.rank; i++) r.dims[i] = s.dims[i < axis ? i : i + 1];
    return r;
}

/* What becomes a part of an output has one rank. */
static bool check_slice(Module *m, const Node *n, const Value *v) {
    if (!check_tensor(m, n, v)) return false;
    return !v->spare_axes || refuse_spare_axes(m, v->def ? v->def->loc : n->loc, v);
}

static bool check_stackable(Module *m, const Node *n, int i, const Value *v) {
    if (!check_slice(m, n, v)) return false;
    if (v->shape.rank < MAX_RANK) return true;
    diag_error(m->diag, n->loc, "output %d would have a rank above %d", i, MAX_RANK);
    return false;
}

/* ---- Loop ------------------------------------------------------------------------------------ */

/* The body never asks to stop: its condition output is true, or its condition input handed through
 * while the first condition is true or absent. */
static bool runs_to_the_end(Module *m, const Node *n, const Graph *body) {
    int64_t truth;
    const Value *out = body->outputs.at[0];
    const KExpr *first = has_in(n, 1) ? value_content(m, n->in[1], 0) : k_bool(m->k, true);
    if (!first || !k_is_int(first, &truth) || !truth) return false;
    while (out->def && out->def->op == OP_Identity) out = out->def->in[0];
    if (out == body->inputs.at[1]) return true;
    const KExpr *again = value_content(m, out, 0);
    return again && k_is_int(again, &truth) && truth;
}

static bool check_loop_arity(Module *m, const Node *n, const Graph *body, int n_carried) {
    int n_stacked = (int)body->outputs.n - 1 - n_carried;
    if (body->inputs.n == (uint32_t)n_carried + 2 && n_stacked >= 0 &&
        n->n_out <= n_carried + n_stacked)
        return true;
    diag_error(
        m->diag, n->loc,
        "body has %u inputs and %u outputs; for %d carried values it must have %d inputs and at "
        "least %d outputs, and no fewer than the node's %d plus 1",
        body->inputs.n, body->outputs.n, n_carried, n_carried + 2, n_carried + 1, (int)n->n_out);
    return false;
}

/* The outer dim of the stacked outputs: the trip count, or a symbol bounded by it. */
static const KExpr *trip_dim(Module *m, const Node *n, const Graph *body, int i, int rank) {
    const KExpr *limit = k_int(m->k, INT64_MAX);
    int64_t most;
    if (has_in(n, 0)) limit = k_max(m->k, value_read(m, n->in[0], 0), k_int(m->k, 0));
    bool is_far = k_is_int(limit, &most) && most > INT32_MAX; /* a loop that its body ends */
    if (!is_far && runs_to_the_end(m, n, body)) return limit;
    return computed_dim(m, n, i, rank, 0, is_far ? k_int(m->k, INT64_MAX) : limit);
}

/* Has the attribute, a list of integers, this one? */
static bool lists(const Node *n, const char *attr, int i) {
    const int64_t *v;
    int count = attr_ints(n, attr, &v);
    for (int k = 0; k < count; k++)
        if (v[k] == i) return true;
    return false;
}

bool loop_joins(const Node *n, int i) {
    return lists(n, "joined", i);
}

/* Of a first value that stands for nothing dims of 0 say nothing of later ones. */
static void open_dims(Module *m, const Node *n, int i, Value *state, const Shape *old) {
    for (int a = 0; lists(n, "open", i) && a < state->shape.rank; a++)
        if (k_is_value(state->shape.dims[a], 0)) widen_dim(m, state, a, old);
}

/* Output i is its slices one behind another: the sum of their outermost dims shows in the end. */
static bool join_slices(Module *m, Node *n, int i, const Value *each, const Dims *before) {
    int rank = each->shape.rank;
    if (!check_slice(m, n, each)) return false;
    if (rank < 1) {
        diag_error(m->diag, n->loc, "output %d is joined, but its slices have rank 0", i);
        return false;
    }
    Value rest = *each;
    rest.shape = shape_copy(m->scratch, each->shape);
    rest.shape.dims[0] = k_int(m->k, 0);
    Shape out = slice_shape(m, n, i, &rest, rank, rank, before);
    out.dims[0] = computed_dim(m, n, i, rank, 0, k_int(m->k, INT64_MAX));
    return infer_set(m, n, i, each->dtype, out);
}

static bool loop_outputs(Module *m, Node *n, const Graph *body, int n_carried) {
    Dims before = known_before(m, n, body);
    for (int i = 0; i < n_carried; i++) {
        if (i < n->n_out &&
            !set_carried(m, n, i, body->inputs.at[i + 2], body->outputs.at[i + 1]))
            return false;
    }
    for (int i = n_carried; i < n->n_out; i++) {
        const Value *each = body->outputs.at[i + 1];
        if (!n->out[i]) continue;
        if (loop_joins(n, i)) {
            if (!join_slices(m, n, i, each, &before)) return false;
            continue;
        }
        if (!check_stackable(m, n, i, each)) return false;
        int rank = each->shape.rank + 1;
        const KExpr *trips = trip_dim(m, n, body, i, rank);
        Shape slice = slice_shape(m, n, i, each, 0, rank, &before);
        if (!infer_set(m, n, i, each->dtype, with_dim(m, slice, 0, trips))) return false;
    }
    return true;
}

bool loop_infer(Module *m, Node *n) {
    Graph *body = body_graph(m, n, "body");
    int n_carried = n->n_in - 2;
    if (!body || !check_loop_arity(m, n, body, n_carried)) return false;
    if ((has_in(n, 0) && !check_flag(m, n, 0, n->in[0], DT_I64, "the trip count, input")) ||
        (has_in(n, 1) && !check_flag(m, n, 1, n->in[1], DT_BOOL, "the condition, input")))
        return false;
    Shape scalar = shape_make(m->arena, 0), *old = arena_array(m->scratch, Shape, n_carried + 1);
    type_input(m, body->inputs.at[0], DT_I64, scalar);
    type_input(m, body->inputs.at[1], DT_BOOL, scalar);
    for (int i = 0; i < n_carried; i++) {
        const Value *v = n->in[i + 2];
        if (!v) {
            diag_error(m->diag, n->loc, "carried value %d has no initial value", i);
            return false;
        }
        if (!check_tensor(m, n, v)) return false;
        old[i] = body->inputs.at[i + 2]->shape;
        type_input(m, body->inputs.at[i + 2], v->dtype, v->shape);
        open_dims(m, n, i, body->inputs.at[i + 2], &old[i]);
    }
    return infer_carried(m, (Carried){n, body, 2, 1, n_carried, old}) &&
           check_flag(m, n, 0, body->outputs.at[0], DT_BOOL, "the condition, output of the body") &&
           loop_outputs(m, n, body, n_carried);
}

void loop_lower(Def *d, const Node *n) {
    (void)n;
    def_region(d);
}

/* ---- Scan ------------------------------------------------------------------------------------ */

/* Element i of an axes or directions attribute, 0 when absent. */
static bool list_value(Module *m, const Node *n, const char *name, int count, int i,
                       int64_t *value) {
    const int64_t *v;
    int found = attr_ints(n, name, &v);
    *value = found ? v[i < found ? i : 0] : 0;
    if (!found || found == count) return true;
    diag_error(m->diag, n->loc, "%s has %d values, must have %d", name, found, count);
    return false;
}

static bool check_direction(Module *m, const Node *n, const char *name, int count, int i) {
    int64_t direction;
    return list_value(m, n, name, count, i, &direction) &&
           check_attr_int(m, n, name, direction, 0, 1);
}

/* Types the body's inputs; *length is the number of iterations. */
static bool scan_inputs(Module *m, const Node *n, const Graph *body, int n_states,
                        const KExpr **length, Shape *old) {
    int n_scanned = n->n_in - n_states;
    for (int i = 0; i < n->n_in; i++) {
        const Value *v = n->in[i];
        int64_t wanted;
        int axis;
        if (!v || !check_tensor(m, n, v)) {
            if (!v) diag_error(m->diag, n->loc, "input %d is required", i);
            return false;
        }
        if (i < n_states) {
            old[i] = body->inputs.at[i]->shape;
            type_input(m, body->inputs.at[i], v->dtype, v->shape);
            continue;
        }
        if (!list_value(m, n, "scan_input_axes", n_scanned, i - n_states, &wanted) ||
            !check_direction(m, n, "scan_input_directions", n_scanned, i - n_states) ||
            !infer_rank(m, n, i, 1, MAX_RANK) || !infer_axis(m, n, wanted, v->shape.rank, &axis))
            return false;
        if (i == n_states) *length = v->shape.dims[axis];
        if (!check_dim(m, n, i, axis, *length, "length of the first scanned input")) return false;
        type_input(m, body->inputs.at[i], v->dtype, without_dim(m, v->shape, axis));
    }
    return true;
}

static bool scan_outputs(Module *m, Node *n, const Graph *body, int n_states, const KExpr *length) {
    int n_stacked = (int)body->outputs.n - n_states;
    Dims before = known_before(m, n, body);
    for (int i = 0; i < (int)body->outputs.n; i++) {
        const Value *v = body->outputs.at[i];
        int64_t wanted;
        int axis;
        if (i < n_states) {
            if (!set_carried(m, n, i, body->inputs.at[i], body->outputs.at[i])) return false;
            continue;
        }
        if (!check_stackable(m, n, i, v) ||
            !list_value(m, n, "scan_output_axes", n_stacked, i - n_states, &wanted) ||
            !check_direction(m, n, "scan_output_directions", n_stacked, i - n_states) ||
            !infer_axis(m, n, wanted, v->shape.rank + 1, &axis))
            return false;
        Shape slice = slice_shape(m, n, i, v, axis, v->shape.rank + 1, &before);
        if (!infer_set(m, n, i, v->dtype, with_dim(m, slice, axis, length))) return false;
    }
    return true;
}

bool scan_infer(Module *m, Node *n) {
    Graph *body = body_graph(m, n, "body");
    int64_t n_scanned = attr_int(n, "num_scan_inputs", 0);
    if (!body || !check_attr_int(m, n, "num_scan_inputs", n_scanned, 1, n->n_in)) return false;
    int n_states = n->n_in - (int)n_scanned;
    if (body->inputs.n != (uint32_t)n->n_in || body->outputs.n < (uint32_t)n_states ||
        (uint32_t)n->n_out > body->outputs.n) {
        diag_error(m->diag, n->loc,
                   "body has %u inputs and %u outputs, must have %d and at least %d, one for each "
                   "of the node",
                   body->inputs.n, body->outputs.n, (int)n->n_in, n_states);
        return false;
    }
    const KExpr *length = NULL;
    Shape *old = arena_array(m->scratch, Shape, n->n_in + 1);
    return scan_inputs(m, n, body, n_states, &length, old) &&
           infer_carried(m, (Carried){n, body, 0, 0, n_states, old}) &&
           scan_outputs(m, n, body, n_states, length);
}

void scan_lower(Def *d, const Node *n) {
    (void)n;
    def_region(d);
}
