/* lower_kernels' control flow: If, Loop and Scan as statements of the entry.
 *
 *     if c[0] {                        while go[0] {
 *       call ...                         let trip = trips[0]
 *     } else {                           call ...
 *       call ...                         call copy(next, carried)
 *     }                                }
 *
 * The tensors of a region's body share memory with the region's results where they are the same
 * bytes, and are copied where a value is carried from one iteration to the next, but for a state
 * that a map writes over the old one. Dims that change
 * from iteration to iteration, or that differ by branch, are slots of the size table, stored where
 * the actual ones are known. Stacks of slices that have no bound grow on the heap. */
#include "passes/lower_kernels.h"

#include "ir/infer.h"
#include "passes/kernelize.h"

static const KExpr *load_scalar(Lower *l, KTensor *t) {
    const KExpr *offset;
    KTensor *root = tensor_root(l->k, t, &offset);
    lower_note_const(l, root->buf);
    return k_load(l->k, root->buf, offset);
}

static void store_scalar(Lower *l, KTensor *t, const KExpr *value) {
    const KExpr *offset;
    KTensor *root = tensor_root(l->k, t, &offset);
    kb_store(&l->entry, root->buf, offset, value);
}

/* to := from, element by element in dense order; the shapes may differ in their symbols. The loops
 * go over dims of `to`: all of them are bound here, but for those of tensors without elements. */
static void copy_bytes(Lower *l, DefProgram *p, KTensor *to, KTensor *from) {
    lower_reserve(l, to);
    if (k_is_value(tensor_n_elems(l->k, to), 0)) return;
    Stage *s = arena_new(l->arena, Stage);
    const KExpr *index[MAX_RANK];
    s->form = FORM_MAP;
    s->out = to;
    for (int i = 0; i < to->rank; i++) {
        s->axis[i] = kvar_new(l->k, KV_AXIS, DT_I64, "i", 0, k_last_index(to->dims[i]));
        index[i] = k_is_value(from->dims[i], 1) ? k_int(l->k, 0) : k_var(l->k, s->axis[i]);
    }
    s->body = k_at(l->k, from, index, to->rank);
    KBlock body = {0};
    stage_open(p, s, &body);
    lower_call(l, body, s, 0);
}

static bool is_computed_dim(const KExpr *d) {
    return d->op == KO_var && d->u.var->kind == KV_SYMBOL && d->u.var->computed;
}

/* Computed sizes that this value's shape introduces: stored where the actual dims are known. */
static void store_joined_dims(Lower *l, const KTensor *joined, const KTensor *actual) {
    for (int i = 0; i < joined->rank; i++) {
        const KExpr *d = joined->dims[i];
        if (!is_computed_dim(d) || d == actual->dims[i]) continue;
        kb_store(&l->entry, l->m->size_table, k_int(l->k, d->u.var->slot), actual->dims[i]);
    }
}

static void let_joined_dims(Lower *l, const Node *n) {
    for (int i = 0; i < n->n_out; i++) {
        if (!n->out[i]) continue;
        const KTensor *t = n->out[i]->tensor;
        for (int a = 0; a < t->rank; a++) {
            const KExpr *d = t->dims[a];
            bool own = is_computed_dim(d);
            for (int j = 0; own && j < n->n_in; j++)
                for (int b = 0; n->in[j] && b < n->in[j]->shape.rank; b++)
                    own &= n->in[j]->shape.dims[b] != d;
            if (own) lower_let_symbol(l, d->u.var);
        }
    }
}

static bool is_carried_dim(const KExpr *d) {
    return d->op == KO_var && d->u.var->carried;
}

/* The dims of this iteration. */
static void let_carried_dims(Lower *l, const DefProgram *sub, int first, int n) {
    for (int i = first; i < first + n; i++)
        for (int a = 0; a < sub->inputs.at[i]->rank; a++) {
            const KExpr *d = sub->inputs.at[i]->dims[a];
            if (is_carried_dim(d)) lower_let_symbol(l, d->u.var);
        }
}

/* What is bound and reserved inside of a region is not known behind it. */
typedef struct Scope {
    uint32_t n_bound, n_reserved;
} Scope;

static Scope open_scope(Lower *l) {
    l->current = NULL;
    return (Scope){l->bound.n, l->reserved.n};
}

static void close_scope(Lower *l, Scope s) {
    l->bound.n = s.n_bound;
    l->reserved.n = s.n_reserved;
    l->current = NULL;
}

static bool is_on_heap(Lower *l, KTensor *t) {
    const KExpr *offset;
    return tensor_root(l->k, t, &offset)->buf->mem == MEM_HEAP;
}

/* to := from with the dims that `from` has here; `to` gets memory for them. */
static void replace(Lower *l, DefProgram *p, KTensor *to, KTensor *from) {
    const KExpr *offset;
    KTensor *root = tensor_root(l->k, to, &offset),
            *view = program_add_tensor(p, to->name, to->dtype, from->rank, from->dims);
    view->alias = root;
    lower_reserve_elems(l, root->buf, tensor_n_elems(l->k, from), NULL);
    vec_push(l->arena, &l->reserved, root->buf);
    copy_bytes(l, p, view, from);
}

/* The body's result is written straight into the region's, when that is used. */
static void share_result(KTensor *body_out, Value *region_out, const KExpr *offset) {
    if (!region_out) return;
    body_out->alias = region_out->tensor;
    body_out->alias_offset = offset;
}

static void lower_if(Lower *l, Stage *s) {
    const Node *n = s->region;
    kb_if(&l->entry, load_scalar(l, n->in[0]->tensor));
    for (int branch = 0; branch < 2; branch++) {
        if (branch) kb_else(&l->entry);
        DefProgram *sub = s->sub[branch];
        Scope scope = open_scope(l);
        for (int i = 0; i < n->n_out; i++)
            if (n->out[i] && !is_on_heap(l, n->out[i]->tensor))
                share_result(sub->outputs.at[i], n->out[i], NULL);
        lower_program(l, sub);
        for (int i = 0; i < n->n_out; i++) {
            if (!n->out[i]) continue;
            if (is_on_heap(l, n->out[i]->tensor))
                replace(l, sub, n->out[i]->tensor, sub->outputs.at[i]);
            store_joined_dims(l, n->out[i]->tensor, sub->outputs.at[i]);
        }
        close_scope(l, scope);
    }
    kb_end(&l->entry);
    let_joined_dims(l, n);
    l->current = NULL;
}

static const KExpr *slice_elems(Lower *l, const KTensor *t) {
    return tensor_n_elems(l->k, t);
}

/* The dim as it is now, whatever the size table holds later: a computed symbol is its slot. */
static const KExpr *carried_size(Lower *l, const KExpr *dim) {
    KCtx *k = l->k;
    if (is_computed_dim(dim)) dim = k_load(k, l->m->size_table, k_int(k, dim->u.var->slot));
    return kb_let_within(&l->entry, "size", dim, INT64_MAX);
}

/* Sizes of what a loop carries take those of what the body gave: all of them are read before the
 * first is stored, since one may be made of others. */
static void store_carried_dims(Lower *l, KTensor *const *states, KTensor *const *given, int n) {
    KCtx *k = l->k;
    const KExpr **value = arena_array(l->m->scratch, const KExpr *, (size_t)n * MAX_RANK + 1);
    for (int pass = 0; pass < 2; pass++)
        for (int i = 0; i < n; i++)
            for (int a = 0; a < states[i]->rank; a++) {
                const KExpr *d = states[i]->dims[a], **v = &value[i * MAX_RANK + a];
                if (!is_carried_dim(d) || d == given[i]->dims[a]) continue;
                if (pass)
                    kb_store(&l->entry, l->m->size_table, k_int(k, d->u.var->slot), *v);
                else
                    *v = carried_size(l, given[i]->dims[a]);
            }
}

static bool is_carried(const KTensor *t) {
    for (int i = 0; i < t->rank; i++)
        if (is_carried_dim(t->dims[i])) return true;
    return false;
}

/* Behind the loop the results have the dims of the last state. */
static void store_final_dims(Lower *l, const KTensor *result, const KTensor *state) {
    for (int i = 0; i < state->rank; i++) {
        const KExpr *d = state->dims[i];
        if (!is_carried_dim(d)) continue;
        kb_store(&l->entry, l->m->size_table, k_int(l->k, result->dims[i]->u.var->slot),
                 k_load(l->k, l->m->size_table, k_int(l->k, d->u.var->slot)));
    }
}

typedef struct StateReads {
    KCtx *k;
    const Stage *s;
    const KTensor *state;
    bool any, others; /* others: of elements that are not the stage's own */
} StateReads;

static void note_state_read(const KExpr *e, void *user) {
    StateReads *r = user;
    const KExpr *own[MAX_RANK];
    if (e->op != KO_at || e->u.tensor != r->state) return;
    r->any = true;
    r->others |= r->s->out->rank != r->state->rank;
    if (r->others) return;
    stage_own_index(r->k, r->s, own);
    for (int i = 0; i < r->state->rank; i++) r->others |= e->arg[i] != own[i];
}

static bool has_same_memory(const KTensor *a, const KTensor *b) {
    bool is_same = a->rank == b->rank && a->dtype == b->dtype && !is_carried(a) && !a->window &&
                   !b->window && !b->alias && !b->phase && !b->layout.permuted &&
                   b->layout.block <= 1 && !b->layout.has_halo;
    for (int i = 0; is_same && i < a->rank; i++) is_same &= a->dims[i] == b->dims[i];
    return is_same;
}

/* May the body write the next state over the old one? So where a map makes it that reads the old
 * one element by element, if at all, and nobody reads that later. */
static bool is_made_in_place(Lower *l, const DefProgram *p, KTensor *state, const KTensor *given) {
    const Stage *def = given->def;
    bool is_made = false;
    if (!def || def->owner != p || def->form != FORM_MAP || def->is_alias || def->group ||
        def->blocks || is_on_heap(l, state) || !has_same_memory(state, given))
        return false;
    for (uint32_t i = 0; i < p->outputs.n; i++)
        if (p->outputs.at[i] == state) return false;
    for (const Stage *s = p->first; s; s = s->next) {
        StateReads r = {.k = l->k, .s = s, .state = state};
        if (s->form == FORM_PROGRAM || s->form == FORM_REGION) return false;
        stage_visit(l->k, s, note_state_read, &r);
        bool is_early = !is_made && !s->is_alias && !s->group && !s->blocks;
        if (s == def ? r.others : r.any && !is_early) return false;
        is_made |= s == def;
    }
    return is_made;
}

/* Before the body is lowered: what it writes over states. */
static void update_in_place(Lower *l, const DefProgram *p, KTensor *const *states,
                            KTensor *const *given, int n) {
    for (int i = 0; i < n; i++)
        if (is_made_in_place(l, p, states[i], given[i])) given[i]->alias = states[i];
}

/* The state takes what the body gave. Where its size changes it gets new memory, behind a copy when
 * the old one is what is read. */
static void carry_state(Lower *l, DefProgram *p, KTensor *state, KTensor *given) {
    const KExpr *offset;
    if (given->alias == state) return; /* update_in_place() */
    if (!is_carried(state) || !is_on_heap(l, state)) {
        copy_bytes(l, p, state, given);
        return;
    }
    if (tensor_root(l->k, state, &offset) == tensor_root(l->k, given, &offset)) {
        KTensor *copy = program_add_tensor(p, "carried", given->dtype, given->rank, given->dims);
        copy->buf->mem = MEM_HEAP;
        copy->buf->n_elems = tensor_n_elems(l->k, copy);
        copy->buf->index = l->km->n_heap++;
        replace(l, p, copy, given);
        given = copy;
    }
    replace(l, p, state, given);
}

static void carry(Lower *l, DefProgram *p, KTensor *const *states, KTensor *const *given, int n) {
    for (int i = 0; i < n; i++) carry_state(l, p, states[i], given[i]);
    store_carried_dims(l, states, given, n);
}

/* States 0 .. n - 1 of a loop, inputs of its body from `states` on, begin with the region's inputs
 * from `init` on. Each lives in the region's result where that is used, else in its own memory. */
static void start_states(Lower *l, DefProgram *p, const Node *node, KTensor *const *states,
                         int init, int n) {
    KTensor **given = arena_array(l->m->scratch, KTensor *, n + 1);
    for (int i = 0; i < n; i++) {
        if (node->out[i]) states[i]->alias = node->out[i]->tensor;
        given[i] = program_tensor(p, node->in[init + i]);
    }
    carry(l, p, states, given, n);
}

/* Between a tensor and a slice of it across `axis`, at index `at`: element by element. */
static void copy_slice(Lower *l, DefProgram *p, KTensor *whole, KTensor *slice, int axis,
                       const KExpr *at, bool into_whole) {
    KCtx *k = l->k;
    const KExpr *in_slice[MAX_RANK], *in_whole[MAX_RANK], *offset;
    KBlock body = {0};
    KBuild b;
    kb_begin(&b, k, &body);
    for (int i = 0; i < slice->rank; i++)
        in_slice[i] = kb_for(&b, LOOP_SERIAL, "i", slice->dims[i]);
    for (int i = 0; i < whole->rank; i++)
        in_whole[i] = i == axis ? at : in_slice[i < axis ? i : i - 1];
    KTensor *to = into_whole ? whole : slice, *from = into_whole ? slice : whole,
            *root = tensor_root(k, to, &offset);
    const KExpr *value = expr_open(p, k_at(k, from, into_whole ? in_slice : in_whole, from->rank));
    const KExpr *flat = tensor_flat_index(k, to, into_whole ? in_whole : in_slice);
    kb_store(&b, root->buf, k_add(k, flat, offset), value);
    while (b.depth > 1) kb_end(&b);
    lower_reserve(l, to);
    lower_call(l, body, NULL, 0);
}

/* Entry i of a list attribute whose default is 0 everywhere. */
static int64_t list_entry(const Node *n, const char *name, int i) {
    const int64_t *v;
    return i < attr_ints(n, name, &v) ? v[i] : 0;
}

static int scan_axis(const Node *n, const char *name, int i, const KTensor *t) {
    int64_t axis = list_entry(n, name, i);
    return (int)(axis < 0 ? axis + t->rank : axis);
}

enum { JOINED = MAX_RANK }; /* as the axis of a stack: slices lie behind one another in axis 0 */

/* Dims of the stack that only its slices know: those of slice number t must be those of the ones
 * before. */
static void note_slice_dims(Lower *l, const KTensor *whole, const KTensor *slice, int axis,
                            const KExpr *t) {
    KCtx *k = l->k;
    const KExpr *differs = k_bool(k, false);
    for (int pass = 0; pass < 2; pass++) {
        for (int a = axis == JOINED; a < slice->rank; a++) {
            const KExpr *d = whole->dims[a < axis ? a : a + 1];
            if (d == slice->dims[a] || !is_computed_dim(d)) continue;
            const KExpr *slot = k_int(k, d->u.var->slot);
            if (pass)
                kb_store(&l->entry, l->m->size_table, slot, slice->dims[a]);
            else
                differs =
                    k_or(k, differs, k_ne(k, k_load(k, l->m->size_table, slot), slice->dims[a]));
        }
        if (pass || k_is_value(differs, 0)) continue;
        lower_return_if(l, k_and(k, k_lt(k, k_int(k, 0), t), differs), RETURN_BAD_DATA);
    }
}

/* Before the first slice they are 0. */
static void clear_slice_dims(Lower *l, const KTensor *whole) {
    for (int a = 0; a < whole->rank; a++) {
        const KExpr *d = whole->dims[a];
        if (is_computed_dim(d) && !lower_is_bound(d->u.var, l))
            kb_store(&l->entry, l->m->size_table, k_int(l->k, d->u.var->slot), k_int(l->k, 0));
    }
}

/* Memory for a stack of slices. True when only the first slice tells how much: it gets none yet. */
static bool reserve_stack(Lower *l, KTensor *whole) {
    const KExpr *offset;
    clear_slice_dims(l, whole);
    KTensor *root = tensor_root(l->k, whole, &offset);
    if (root->buf->mem != MEM_HEAP || lower_most_elems(l, root)) {
        lower_reserve(l, whole);
        return false;
    }
    lower_reserve_elems(l, root->buf, k_int(l->k, 0), NULL);
    vec_push(l->arena, &l->reserved, root->buf);
    return true;
}

/* Slice number t is there: the stack takes its sizes, and memory if it is the first. */
static void reserve_late(Lower *l, KTensor *whole, const KTensor *slice, const KExpr *length,
                         const KExpr *t) {
    const KExpr *offset;
    kb_if(&l->entry, k_eq(l->k, t, k_int(l->k, 0)));
    lower_reserve_elems(l, tensor_root(l->k, whole, &offset)->buf,
                        k_mul(l->k, length, slice_elems(l, slice)), NULL);
    kb_end(&l->entry);
}

/* How a Scan goes: in order[direction] step number `t` of `length` is at which index. */
typedef struct Steps {
    const KExpr *length, *t, *order[2];
    bool *late;   /* by result: its memory is reserved behind the first step */
    bool *behind; /* slices are copied to their place when the body made them */
} Steps;

static bool is_known(Lower *l, const KExpr *size) {
    return k_upper_bound_given(l->k, size, lower_is_bound, l) == size;
}

/* Is the place of a slice known before it is there? Across the outermost axis, and from the end on
 * only where the slice's size is known. */
static bool has_place(Lower *l, const Node *n, int i, int n_state, const KTensor *slice) {
    if (scan_axis(n, "scan_output_axes", i - n_state, n->out[i]->tensor)) return false;
    return !list_entry(n, "scan_output_directions", i - n_state) ||
           is_known(l, slice_elems(l, slice));
}

/* Where slice number t of a stack will lie, before it is there. What is not known of its size is
 * that of the slices before, since any other ends the run. */
static const KExpr *slice_place(Lower *l, const KTensor *whole, const KTensor *slice,
                                const KExpr *t) {
    KCtx *k = l->k;
    const KExpr *each = k_int(k, 1);
    for (int a = 0; a < slice->rank; a++) {
        const KExpr *d = slice->dims[a];
        each = k_mul(k, each, is_known(l, d) ? d : carried_size(l, whole->dims[a + 1]));
    }
    return k_mul(k, t, each);
}

/* Slices of results that have a place get it before the body, to be written there. */
static void place_slices(Lower *l, const Node *n, DefProgram *sub, int n_state, const Steps *s) {
    for (int i = n_state; i < n->n_out; i++) {
        if (!n->out[i] || s->behind[i]) continue;
        KTensor *out = sub->outputs.at[i];
        const KExpr *at = s->order[list_entry(n, "scan_output_directions", i - n_state)];
        share_result(out, n->out[i], slice_place(l, n->out[i]->tensor, out, at));
    }
}

/* The others are copied behind it. */
static void copy_slices(Lower *l, const Node *n, DefProgram *sub, int n_state, const Steps *s) {
    for (int i = n_state; i < n->n_out; i++) {
        if (!n->out[i]) continue;
        KTensor *out = sub->outputs.at[i], *whole = n->out[i]->tensor;
        int axis = scan_axis(n, "scan_output_axes", i - n_state, whole);
        note_slice_dims(l, whole, out, axis, s->t);
        for (int a = 0; a < whole->rank; a++)
            if (is_computed_dim(whole->dims[a])) lower_let_symbol(l, whole->dims[a]->u.var);
        if (s->late[i]) reserve_late(l, whole, out, s->length, s->t);
        if (s->behind[i])
            copy_slice(l, sub, whole, out, axis,
                       s->order[list_entry(n, "scan_output_directions", i - n_state)], true);
    }
}

/* Slices of the inputs across the outermost axis are read where they lie; across others they are
 * copied. */
static void lower_scan(Lower *l, DefProgram *p, Stage *s) {
    const Node *n = s->region;
    DefProgram *sub = s->sub[0];
    KCtx *k = l->k;
    int n_scan = (int)attr_int(n, "num_scan_inputs", 1), n_state = n->n_in - n_scan;
    KTensor *scanned = program_tensor(p, n->in[n_state]);
    const KExpr *length = scanned->dims[scan_axis(n, "scan_input_axes", 0, scanned)];
    Steps steps = {.length = length,
                   .late = arena_array(l->m->scratch, bool, n->n_out + 1),
                   .behind = arena_array(l->m->scratch, bool, n->n_out + 1)};
    start_states(l, p, n, sub->inputs.at, 0, n_state);
    for (int i = n_state; i < n->n_out; i++)
        if (n->out[i]) {
            steps.late[i] = reserve_stack(l, n->out[i]->tensor);
            steps.behind[i] = steps.late[i] || !has_place(l, n, i, n_state, sub->outputs.at[i]);
        }
    const KExpr *t = steps.t = kb_for(&l->entry, LOOP_SERIAL, "step", length);
    steps.order[0] = t;
    steps.order[1] = k_sub(k, k_sub(k, length, k_int(k, 1)), t);
    for (int i = 0; i < n_scan; i++) {
        KTensor *slice = sub->inputs.at[n_state + i],
                *whole = program_tensor(p, n->in[n_state + i]);
        const KExpr *at = steps.order[list_entry(n, "scan_input_directions", i)];
        int axis = scan_axis(n, "scan_input_axes", i, whole);
        if (axis) {
            copy_slice(l, p, whole, slice, axis, at, false);
            continue;
        }
        slice->alias = whole;
        slice->alias_offset = k_mul(k, at, slice_elems(l, slice));
    }
    Scope scope = open_scope(l);
    let_carried_dims(l, sub, 0, n_state);
    place_slices(l, n, sub, n_state, &steps);
    update_in_place(l, sub, sub->inputs.at, sub->outputs.at, n_state);
    lower_program(l, sub);
    copy_slices(l, n, sub, n_state, &steps);
    carry(l, p, sub->inputs.at, sub->outputs.at, n_state);
    close_scope(l, scope);
    kb_end(&l->entry);
    for (int i = 0; i < n_state; i++)
        if (n->out[i]) store_final_dims(l, n->out[i]->tensor, sub->inputs.at[i]);
    let_joined_dims(l, n);
}

/* One i64 that the entry keeps. */
static KBuf *entry_counter(Lower *l, DefProgram *p, const char *name, const KExpr *value) {
    KTensor *t = program_add_tensor(p, name, DT_I64, 0, NULL);
    t->buf->mem = MEM_ARENA;
    t->buf->n_elems = k_int(l->k, 1);
    store_scalar(l, t, value);
    return t->buf;
}

/* A result of a Loop that is made of slices. On the heap it grows: `room` is for how many elements
 * it has memory (NULL: it lies elsewhere), `filled`, of a joined one, how many rows are there. */
typedef struct Stack {
    KBuf *room, *filled;
} Stack;

/* Before the loop: dims that only slices know are 0 so far. */
static Stack start_stack(Lower *l, DefProgram *p, KTensor *whole, bool joins) {
    KCtx *k = l->k;
    Stack s = {0};
    clear_slice_dims(l, whole);
    if (joins) s.filled = entry_counter(l, p, "filled", k_int(k, 0));
    if (!joins && !is_on_heap(l, whole)) return s;
    const KExpr *offset;
    KTensor *root = tensor_root(k, whole, &offset);
    if (root->buf->mem == MEM_HEAP) lower_reserve_elems(l, root->buf, k_int(k, 0), NULL);
    vec_push(l->arena, &l->reserved, root->buf);
    s.room = entry_counter(l, p, "room", k_int(k, 0));
    return s;
}

/* Slice number t is there and goes to its place. */
static void stack_slice(Lower *l, DefProgram *sub, KTensor *whole, KTensor *slice, Stack s,
                        const KExpr *t) {
    KCtx *k = l->k;
    const KExpr *zero = k_int(k, 0), *each = slice_elems(l, slice), *offset;
    note_slice_dims(l, whole, slice, s.filled ? JOINED : 0, t);
    if (!s.room) return;
    KTensor *root = tensor_root(k, whole, &offset), *place;
    const KExpr *had = k_load(k, s.room, zero), *from = k_mul(k, t, each);
    if (s.filled) {
        const KExpr *row = k_int(k, 1), *rows = k_load(k, s.filled, zero);
        for (int a = 1; a < slice->rank; a++) row = k_mul(k, row, slice->dims[a]);
        rows = kb_let_within(&l->entry, "rows", rows, INT64_MAX);
        from = k_mul(k, rows, row);
        kb_store(&l->entry, s.filled, zero, k_add(k, rows, slice->dims[0]));
    }
    if (root->buf->mem == MEM_HEAP) {
        const KExpr *need = k_add(k, from, each);
        kb_if(&l->entry, k_lt(k, had, need));
        const KExpr *more = kb_let(&l->entry, "room", k_max(k, need, k_mul(k, had, k_int(k, 2))));
        lower_reserve_elems(l, root->buf, more, from);
        kb_store(&l->entry, s.room, zero, more);
        kb_end(&l->entry);
    }
    place = program_add_tensor(sub, whole->name, slice->dtype, slice->rank, slice->dims);
    place->alias = root;
    place->alias_offset = from;
    copy_bytes(l, sub, place, slice);
}

static void lower_loop(Lower *l, DefProgram *p, Stage *s) {
    const Node *n = s->region;
    DefProgram *sub = s->sub[0];
    KCtx *k = l->k;
    int n_carried = n->n_in - 2;
    KTensor *count = program_add_tensor(p, "trips", DT_I64, 0, NULL), *cond = sub->inputs.at[1];
    count->buf->mem = MEM_ARENA;
    count->buf->n_elems = k_int(k, 1);
    const KExpr *zero = k_int(k, 0), *trips = k_load(k, count->buf, zero);
    store_scalar(l, count, zero);
    store_scalar(l, cond, n->in[1] ? load_scalar(l, program_tensor(p, n->in[1])) : k_bool(k, true));
    start_states(l, p, n, sub->inputs.at + 2, 2, n_carried);
    const KExpr *go = load_scalar(l, cond);
    if (n->in[0])
        go = k_and(k, go,
                   k_lt(k, trips, k_cast(k, DT_I64, load_scalar(l, program_tensor(p, n->in[0])))));
    Stack *stack = arena_array(l->arena, Stack, n->n_out + 1);
    for (int i = n_carried; i < n->n_out; i++)
        if (n->out[i]) stack[i] = start_stack(l, p, n->out[i]->tensor, loop_joins(n, i));
    kb_while(&l->entry, go);
    Scope scope = open_scope(l);
    let_carried_dims(l, sub, 2, n_carried);
    const KExpr *t = kb_let_within(&l->entry, "trip", trips, INT64_MAX);
    store_scalar(l, sub->inputs.at[0], t);
    for (int i = n_carried; i < n->n_out; i++) {
        KTensor *out = sub->outputs.at[1 + i];
        if (stack[i].room || !n->out[i]) continue;
        share_result(out, n->out[i], slice_place(l, n->out[i]->tensor, out, t));
    }
    update_in_place(l, sub, sub->inputs.at + 2, sub->outputs.at + 1, n_carried);
    lower_program(l, sub);
    for (int i = n_carried; i < n->n_out; i++)
        if (n->out[i]) stack_slice(l, sub, n->out[i]->tensor, sub->outputs.at[1 + i], stack[i], t);
    carry(l, p, sub->inputs.at + 2, sub->outputs.at + 1, n_carried);
    close_scope(l, scope);
    store_scalar(l, cond, load_scalar(l, sub->outputs.at[0]));
    store_scalar(l, count, k_add(k, t, k_int(k, 1)));
    kb_end(&l->entry);
    for (int i = 0; i < n_carried; i++)
        if (n->out[i]) store_final_dims(l, n->out[i]->tensor, sub->inputs.at[2 + i]);
    for (int i = n_carried; i < n->n_out; i++) {
        const KExpr *d = n->out[i] ? n->out[i]->tensor->dims[0] : NULL;
        if (d && d->op == KO_var && d->u.var->computed)
            kb_store(&l->entry, l->m->size_table, k_int(k, d->u.var->slot),
                     stack[i].filled ? k_load(k, stack[i].filled, zero) : trips);
    }
    let_joined_dims(l, n);
    l->current = NULL;
}

void lower_region(Lower *l, DefProgram *p, Stage *s) {
    /* which of the three it is shows in its subgraphs and inputs */
    if (s->sub[1])
        lower_if(l, s);
    else if (node_attr(s->region, "num_scan_inputs"))
        lower_scan(l, p, s);
    else
        lower_loop(l, p, s);
}
