/* Shape inference over whole graphs: see infer.h.
 *
 * Nodes are visited in program order, so that each sees typed inputs. A node that fails leaves its
 * outputs without a rank; nodes that read those are skipped silently, since their problem is not
 * theirs. Control flow recurses through the verbs of If, Loop and Scan (ir/ops/control.c); the
 * importer bounds the nesting. */
#include "ir/infer.h"

#include "ir/ops/check.h"

/* All inputs were inferred. */
static bool has_typed_inputs(const Node *n) {
    for (int i = 0; i < n->n_in; i++)
        if (n->in[i] && n->in[i]->type == VT_TENSOR &&
            (n->in[i]->shape.rank < 0 || n->in[i]->dtype == DT_NONE))
            return false;
    return true;
}

static bool check_arity(Module *m, const Node *n) {
    const OpInfo *op = &op_info[n->op];
    if (n->n_in < op->in_lo || (op->in_hi >= 0 && n->n_in > op->in_hi)) {
        diag_error(m->diag, n->loc, "has %d inputs, must have %s%d", (int)n->n_in,
                   n->n_in < op->in_lo ? "at least " : "at most ",
                   n->n_in < op->in_lo ? op->in_lo : op->in_hi);
        return false;
    }
    if (op->n_out >= 0 && n->n_out > op->n_out) {
        diag_error(m->diag, n->loc, "has %d outputs, must have at most %d", (int)n->n_out,
                   op->n_out);
        return false;
    }
    for (int i = 0; i < op->in_lo && !op_has(n->op, OPF_CONTROL); i++) {
        if (n->in[i]) continue;
        diag_error(m->diag, n->loc, "input %d is required", i);
        return false;
    }
    return true;
}

/* What a trial left there. */
static void forget_data(Node *n) {
    for (int i = 0; i < n->n_out; i++) {
        if (!n->out[i] || !n->out[i]->data) continue;
        n->out[i]->data = NULL;
        n->out[i]->data_bytes = 0;
    }
}

static void forget_outputs(Node *n) {
    for (int i = 0; i < n->n_out; i++)
        if (n->out[i]) n->out[i]->shape = (Shape){.rank = -1};
}

/* The graph of two that is always the chosen one, NULL when that is not known. */
static Graph *known_branch(Module *m, const Node *n) {
    int64_t taken = attr_int(n, "assumed", -1);
    if (!op_has(n->op, OPF_BRANCHES) || n->n_in != 1 || !n->in[0]) return NULL;
    const KExpr *condition = value_content(m, n->in[0], 0);
    if (taken < 0 && (!condition || !k_is_int(condition, &taken))) return NULL;
    Graph *branch = attr_graph(n, taken ? "then_branch" : "else_branch");
    if (!branch || branch->inputs.n || branch->outputs.n != (uint32_t)n->n_out) return NULL;
    return branch;
}

bool infer_branch(Module *m, Node *n, Graph *branch) {
    if (!infer_graph(m, branch)) return false;
    for (int i = 0; i < n->n_out; i++) {
        const Value *v = branch->outputs.at[i];
        if (!n->out[i]) continue;
        n->out[i]->type = v->type;
        if (!infer_set(m, n, i, v->dtype, v->shape)) return false;
        n->out[i]->content = v->content;
        n->out[i]->data = v->data;
        n->out[i]->data_bytes = v->data_bytes;
    }
    return true;
}

/* Puts the branch's nodes in the place of the node; returns the first node to go on with. */
static Node *inline_branch(Node *n, Graph *branch) {
    Graph *g = n->graph;
    Node *before = n->prev;
    graph_move_into(branch, n);
    for (int i = 0; i < n->n_out; i++) {
        if (!n->out[i]) continue;
        Value *copy = graph_op(g, n, OP_Identity, n->loc, 1, branch->outputs.at[i]);
        copy->name = n->out[i]->name;
        value_replace_uses(n->out[i], copy);
    }
    Node *first = before ? before->next : g->first;
    Node *next = first == n ? n->next : first;
    graph_drop_node(n);
    return next;
}

/* ---- ranks that only running knows ----------------------------------------------------------- */

/* Branches of an If may give one number as f32[] and as f32[1]. It is taken as the latter, which is
 * right as long as nobody notices: arithmetic that broadcasts gives the same with an operand of
 * that rank, and hands the doubt on otherwise. */
bool refuse_spare_axes(Module *m, SrcLoc loc, const Value *v) {
    diag_unsupported(m->diag, loc,
                     "'%s' has rank %d or %d, as the condition of an If says while running; only "
                     "arithmetic that broadcasts may read such a value",
                     v->name, v->shape.rank - v->spare_axes, v->shape.rank);
    return false;
}

static bool hand_on_spare_axes(Module *m, Node *n) {
    const Value *doubtful = NULL;
    int most = 0, least = 0;
    if (op_has(n->op, OPF_BRANCHES)) return true; /* a condition is one element, of whatever rank */
    for (int i = 0; i < n->n_in; i++) {
        const Value *v = n->in[i];
        if (!v || v->type != VT_TENSOR) continue;
        if (v->spare_axes) doubtful = v;
        if (v->shape.rank > most) most = v->shape.rank;
        if (v->shape.rank - v->spare_axes > least) least = v->shape.rank - v->spare_axes;
    }
    if (doubtful && !op_has(n->op, OPF_ELTWISE) && n->op != OP_Identity)
        return refuse_spare_axes(m, n->loc, doubtful);
    if (doubtful)
        for (int i = 0; i < n->n_out; i++)
            if (n->out[i]) n->out[i]->spare_axes = (uint8_t)(most - least);
    return true;
}

/* A subgraph hands the doubt to its node. The model's outputs are what somebody may notice. */
static bool check_outputs(Module *m, const Graph *g) {
    for (uint32_t i = 0; !g->owner && i < g->outputs.n; i++) {
        const Value *v = g->outputs.at[i];
        if (v->spare_axes && v->shape.rank >= 0)
            return refuse_spare_axes(m, v->def ? v->def->loc : SRC_NOWHERE, v);
    }
    return true;
}

bool infer_graph(Module *m, Graph *g) {
    bool good = true;
    for (Node *n = g->first, *next; n; n = next) {
        if (diag_is_full(m->diag)) return false;
        next = n->next;
        if (!has_typed_inputs(n)) {
            forget_outputs(n);
            good = false;
            continue;
        }
        bug_context("infer_shapes", n->loc);
        n->rules.n = 0;
        forget_data(n);
        Graph *branch = known_branch(m, n);
        if (branch && m->on_trial) {
            if (infer_branch(m, n, branch)) continue; /* which stays where it is */
            forget_outputs(n);
            good = false;
        } else if (branch) {
            next = inline_branch(n, branch);
        } else if (!check_arity(m, n) || !op_info[n->op].infer(m, n) || !hand_on_spare_axes(m, n)) {
            forget_outputs(n);
            good = false;
        } else if (m->fold) {
            m->fold(m, n);
        }
    }
    return check_outputs(m, g) && good;
}
