/* lower_kernels: opens stages into kernels and writes the entry that calls them in order.
 *
 * Before:  a DefProgram of stages with layouts, schedules and groups
 * After:   Module.kmod: kernels with parameters, equal ones shared, and an entry of calls, branches
 * and loops over the tensors' buffers
 *
 * Requires everything before it. Control flow becomes entry statements: the tensors of a region's
 * body share memory with the region's results where they are the same bytes, and are copied where a
 * value is carried from one iteration to the next. Arena offsets are left to plan_memory. */
#include <stdlib.h>
#include <string.h>

#include "ir/schedule.h"
#include "ir/support/map.h"
#include "passes/kernelize.h"
#include "passes/pass.h"

typedef struct Lower {
    Module *m;
    KModule *km;
    KCtx *k;
    Arena *arena;
    KBuild entry;
    StrMap *by_signature;
    VEC(Kernel *) kernels;
    VEC(KBuf *) consts;
    struct {
        VEC(const Node *) at;
    } nodes;
    const Node *current;
    VEC(KVar *) bound; /* computed symbols that have their value at this place of the entry */
    VEC(KBuf *) reserved; /* heap buffers that have their memory at this place of the entry */
    uint32_t n_calls;
} Lower;

/* Calls of kernels in one model: a code generator takes some 100 KB for each, and no real model has
 * a tenth of this. */
enum { MOST_CALLS = 65536, MOST_INTERFACE = 4096 };

/* ---- calls
 * ------------------------------------------------------------------------------------------- */

static void note_const(Lower *l, KBuf *b) {
    if (b->mem != MEM_CONST) return;
    if (b->index < l->consts.n && l->consts.at[b->index] == b) return;
    b->index = l->consts.n;
    vec_push(l->arena, &l->consts, b);
}

static const char *kernel_name(Lower *l, const Stage *s, uint32_t id) {
    char op[32];
    const char *from = s && s->node ? op_info[s->node->op].name : "copy";
    int n = 0;
    for (; from[n] && n < 31; n++)
        op[n] = (char)(from[n] >= 'A' && from[n] <= 'Z' ? from[n] + 32 : from[n]);
    op[n] = 0;
    const char *dtype = s && s->out ? dtype_info[s->out->dtype].name : "any";
    const char *tile = s && s->schedule ? schedule_text(l->arena, s->schedule) : "rows";
    return arena_printf(l->arena, "k%u_%s_%s__%s_%s", id, op, dtype, l->m->target->name, tile);
}

/* The kernel of this block, or an equal one made before; appends its call. */
static void call_block(Lower *l, KBlock body, const Stage *s, double flops) {
    KernelUse use = kernel_extract(l->k, body);
    StrBuf sig = {0};
    kernel_signature(use.kernel, &sig);
    Kernel *known = strmap_get(l->by_signature, strbuf_text(&sig));
    if (!known) {
        known = use.kernel;
        known->id = l->kernels.n;
        known->name = kernel_name(l, s, known->id);
        known->note = s && s->node ? s->node->loc.node : NULL;
        known->flops = flops;
        vec_push(l->arena, &l->kernels, known);
        strmap_put(l->by_signature, arena_strdup(l->arena, strbuf_text(&sig)), known);
    }
    strbuf_free(&sig);
    l->n_calls++;
    KStmt *call = kblock_append(l->arena, l->entry.stack[l->entry.depth - 1], KS_CALL);
    call->callee = known;
    call->args = arena_array(l->arena, KArg, known->n_params);
    call->scalars = arena_array(l->arena, const KExpr *, known->n_scalars);
    for (uint32_t i = 0; i < known->n_params; i++) {
        call->args[i].buf = use.bufs[i];
        note_const(l, use.bufs[i]);
    }
    for (uint32_t i = 0; i < known->n_scalars; i++) call->scalars[i] = k_var(l->k, use.scalars[i]);
}

static void start_node(Lower *l, const Node *n) {
    if (!n || n == l->current) return;
    l->current = n;
    KStmt *s = kblock_append(l->arena, l->entry.stack[l->entry.depth - 1], KS_NODE);
    s->node = l->nodes.at.n;
    vec_push(l->arena, &l->nodes.at, n);
}

static double stage_flops(const Stage *s) {
    double n = s->form == FORM_CONTRACT ? 2 : 1;
    if (!s->out || s->form == FORM_PROGRAM) return 0;
    for (int i = 0; i < s->out->rank; i++) n *= (double)s->out->dims[i]->hi;
    for (int i = 0; i < s->n_red; i++) n *= (double)s->red_extent[i]->hi;
    return n;
}

/* ---- memory
 * --------------------------------------------------------------------------------------------- */

static bool is_bound(const KVar *v, const void *user) {
    const Lower *l = user;
    for (uint32_t i = 0; i < l->bound.n; i++)
        if (l->bound.at[i] == v) return true;
    return false;
}

static KStmt *append_reserve(Lower *l, KBuf *b, const KExpr *n_elems, const KExpr *keep) {
    KStmt *s = kblock_append(l->arena, l->entry.stack[l->entry.depth - 1], KS_RESERVE);
    s->buf = b;
    s->value = n_elems;
    s->index = keep;
    return s;
}

/* t is about to be written: if it lies on the heap and has no memory here yet, it gets some, for
 * its size as far as that is known here, otherwise for the bound. */
static void reserve(Lower *l, KTensor *t) {
    const KExpr *offset;
    KTensor *root = tensor_root(l->k, t, &offset);
    if (root->buf->mem != MEM_HEAP) return;
    for (uint32_t i = 0; i < l->reserved.n; i++)
        if (l->reserved.at[i] == root->buf) return;
    vec_push(l->arena, &l->reserved, root->buf);
    const KExpr *n = k_upper_bound_given(l->k, tensor_n_elems(l->k, root), is_bound, l);
    if (n->op == KO_const_i && n->u.i == INT64_MAX)
        diag_unsupported(l->m->diag, l->current ? l->current->loc : SRC_NOWHERE,
                         "tensor '%s': its size is not known before it is computed", root->name);
    append_reserve(l, root->buf, n, NULL);
}

/* ---- halos
 * ---------------------------------------------------------------------------------------------- */

/* Zeroes the halo slabs of t: for each axis with a halo, the rows before and after, over all of the
 * others. */
static void zero_halo(Lower *l, KTensor *t, const Stage *s) {
    KCtx *k = l->k;
    const KExpr *offset;
    KTensor *root = tensor_root(k, t, &offset);
    KBlock body = {0};
    KBuild b;
    kb_begin(&b, k, &body);
    const Layout *lay = &t->layout;
    for (int axis = 0; axis < t->rank; axis++)
        for (int side = 0; side < 2; side++) {
            if (!lay->halo[axis][side]) continue;
            const KExpr *flat = k_int(k, 0);
            for (int i = 0; i < t->rank; i++) {
                const KExpr *dim =
                    k_add(k, t->dims[i], k_int(k, lay->halo[i][0] + lay->halo[i][1]));
                if (lay->block > 1 && lay->block_axis == i)
                    dim = k_fdiv(k, k_add(k, dim, k_int(k, lay->block - 1)), k_int(k, lay->block));
                const KExpr *extent = i == axis ? k_int(k, lay->halo[axis][side]) : dim;
                bool innermost = i == t->rank - 1 && lay->block <= 1;
                int64_t n;
                bool vector = innermost && k_is_int(extent, &n) && n <= 64;
                const KExpr *at = kb_for(&b, vector ? LOOP_VECTOR : LOOP_SERIAL, "h", extent);
                if (i == axis && side) at = k_add(k, at, k_sub(k, dim, extent));
                flat = k_add(k, k_mul(k, flat, dim), at);
            }
            if (lay->block > 1) {
                const KExpr *lane = kb_for(&b, LOOP_VECTOR, "l", k_int(k, lay->block));
                flat = k_add(k, k_mul(k, flat, k_int(k, lay->block)), lane);
            }
            kb_store(&b, root->buf, k_add(k, flat, offset), k_const(k, t->dtype, 0));
            while (b.depth > 1) kb_end(&b);
        }
    call_block(l, body, s, 0);
}

/* ---- stages
 * --------------------------------------------------------------------------------------------- */

static void lower_program(Lower *l, DefProgram *p);

static void lower_group(Lower *l, DefProgram *p, Stage *first, Stage *end) {
    Stage *stages[64];
    KTensor *local[64];
    int n = 0, n_local = 0, n_outer = first->out->rank;
    double flops = 0;
    for (Stage *s = first; s != end; s = s->next) {
        BUG_IF(n == 64, "a group of more than 64 stages");
        stages[n++] = s;
        flops += stage_flops(s);
    }
    while (n_outer > 0 && k_is_value(first->out->dims[n_outer - 1], 1)) n_outer--;
    for (int i = 0; i < n; i++) {
        const KTensor *t = stages[i]->out;
        bool row_scalar = stages[i]->form == FORM_REDUCE && !t->dense_only;
        for (int a = n_outer; a < t->rank; a++) row_scalar &= k_is_value(t->dims[a], 1);
        for (uint32_t u = 0; u < t->users.n && row_scalar; u++)
            row_scalar = t->users.at[u]->owner == p && t->users.at[u]->group == first->group;
        if (row_scalar) local[n_local++] = stages[i]->out;
    }
    KBlock body = {0};
    KBuild b;
    for (int i = 0; i < n; i++) {
        bool is_local = false;
        for (int j = 0; j < n_local; j++) is_local |= local[j] == stages[i]->out;
        if (!is_local) reserve(l, stages[i]->out);
    }
    kb_begin(&b, l->k, &body);
    schedule_open_rows(p, stages, n, n_outer, local, n_local, &b);
    call_block(l, body, stages[n - 1], flops);
}

static const KExpr *load_scalar(Lower *l, KTensor *t) {
    const KExpr *offset;
    KTensor *root = tensor_root(l->k, t, &offset);
    note_const(l, root->buf);
    return k_load(l->k, root->buf, offset);
}

static void store_scalar(Lower *l, KTensor *t, const KExpr *value) {
    const KExpr *offset;
    KTensor *root = tensor_root(l->k, t, &offset);
    kb_store(&l->entry, root->buf, offset, value);
}

/* to := from, element by element in dense order; the shapes may differ in their symbols. */
static void copy_bytes(Lower *l, DefProgram *p, KTensor *to, KTensor *from) {
    Stage *s = arena_new(l->arena, Stage);
    const KExpr *index[MAX_RANK];
    s->form = FORM_MAP;
    s->out = to;
    for (int i = 0; i < to->rank; i++) {
        s->axis[i] = kvar_new(l->k, KV_AXIS, DT_I64, "i", 0,
                              to->dims[i]->hi == INT64_MAX ? INT64_MAX
                              : to->dims[i]->hi < 1        ? 0
                                                           : to->dims[i]->hi - 1);
        index[i] = k_is_value(from->dims[i], 1) ? k_int(l->k, 0) : k_var(l->k, s->axis[i]);
    }
    s->body = k_at(l->k, from, index, to->rank);
    KBlock body = {0};
    stage_open(p, s, &body);
    reserve(l, to);
    call_block(l, body, s, 0);
}

/* Computed sizes that this value's shape introduces: stored where the actual dims are known. */
static void store_joined_dims(Lower *l, const KTensor *joined, const KTensor *actual) {
    for (int i = 0; i < joined->rank; i++) {
        const KExpr *d = joined->dims[i];
        if (d->op != KO_var || d->u.var->kind != KV_SYMBOL || !d->u.var->computed ||
            d == actual->dims[i])
            continue;
        kb_store(&l->entry, l->m->size_table, k_int(l->k, d->u.var->slot), actual->dims[i]);
    }
}

/* Binds the symbol to what the size table holds, unless it is bound here already. */
static void let_symbol(Lower *l, KVar *symbol) {
    for (uint32_t i = 0; i < l->bound.n; i++)
        if (l->bound.at[i] == symbol) return;
    vec_push(l->arena, &l->bound, symbol);
    KStmt *s = kblock_append(l->arena, l->entry.stack[l->entry.depth - 1], KS_LET);
    s->var = symbol;
    s->value = k_load(l->k, l->m->size_table, k_int(l->k, symbol->slot));
    if (!symbol->checked) return;
    const KExpr *low = k_lt(l->k, s->value, k_int(l->k, symbol->lo));
    kb_if(&l->entry, k_or(l->k, low, k_lt(l->k, k_int(l->k, symbol->hi), s->value)));
    kblock_append(l->arena, l->entry.stack[l->entry.depth - 1], KS_RETURN)->value =
        k_int(l->k, RETURN_BAD_DATA);
    kb_end(&l->entry);
}

static void let_joined_dims(Lower *l, const Node *n) {
    for (int i = 0; i < n->n_out; i++) {
        if (!n->out[i]) continue;
        const KTensor *t = n->out[i]->tensor;
        for (int a = 0; a < t->rank; a++) {
            const KExpr *d = t->dims[a];
            bool own = d->op == KO_var && d->u.var->kind == KV_SYMBOL && d->u.var->computed;
            for (int j = 0; own && j < n->n_in; j++)
                for (int b = 0; n->in[j] && b < n->in[j]->shape.rank; b++)
                    own &= n->in[j]->shape.dims[b] != d;
            if (own) let_symbol(l, d->u.var);
        }
    }
}

/* The dims of this iteration. */
static void let_carried_dims(Lower *l, const DefProgram *sub, int first, int n) {
    for (int i = first; i < first + n; i++)
        for (int a = 0; a < sub->inputs.at[i]->rank; a++) {
            const KExpr *d = sub->inputs.at[i]->dims[a];
            if (d->op == KO_var && d->u.var->carried) let_symbol(l, d->u.var);
        }
}

static void ensure_size_table(Lower *l) {
    if (!l->m->size_table) l->m->size_table = kbuf_new(l->k, MEM_ARENA, DT_I64, "sizes", NULL);
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
    append_reserve(l, root->buf, tensor_n_elems(l->k, from), NULL);
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

/* Sizes of what a loop carries: stored where `actual` has its dims. */
static void store_carried_dims(Lower *l, const KTensor *state, const KTensor *actual) {
    for (int i = 0; i < state->rank; i++) {
        const KExpr *d = state->dims[i];
        if (d->op != KO_var || !d->u.var->carried) continue;
        kb_store(&l->entry, l->m->size_table, k_int(l->k, d->u.var->slot), actual->dims[i]);
    }
}

static bool is_carried(const KTensor *t) {
    for (int i = 0; i < t->rank; i++)
        if (t->dims[i]->op == KO_var && t->dims[i]->u.var->carried) return true;
    return false;
}

/* Behind the loop the results have the dims of the last state. */
static void store_final_dims(Lower *l, const KTensor *result, const KTensor *state) {
    for (int i = 0; i < state->rank; i++) {
        const KExpr *d = state->dims[i];
        if (d->op != KO_var || !d->u.var->carried) continue;
        kb_store(&l->entry, l->m->size_table, k_int(l->k, result->dims[i]->u.var->slot),
                 k_load(l->k, l->m->size_table, k_int(l->k, d->u.var->slot)));
    }
}

/* The state takes what the body gave. Where its size changes it gets new memory, behind a copy when
 * the old one is what is read. */
static void carry(Lower *l, DefProgram *p, KTensor *state, KTensor *given) {
    const KExpr *offset;
    if (!is_carried(state) || !is_on_heap(l, state)) {
        copy_bytes(l, p, state, given);
        store_carried_dims(l, state, given);
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
    store_carried_dims(l, state, given);
}

/* State j of a loop lives in the region's result when that is used, else in the body input's own
 * memory. */
static void start_state(Lower *l, DefProgram *p, DefProgram *sub, int input, Value *init,
                        Value *result) {
    KTensor *state = sub->inputs.at[input];
    if (result) state->alias = result->tensor;
    carry(l, p, state, program_tensor(p, init));
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
    reserve(l, to);
    call_block(l, body, NULL, 0);
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

/* The body's slices of results: before the body those across the outermost axis get their place, to
 * be written there; behind it the others are copied. */
static void place_slices(Lower *l, const Node *n, DefProgram *sub, int n_state,
                         const KExpr *const *order, bool behind) {
    for (int i = n_state; i < n->n_out; i++) {
        if (!n->out[i]) continue;
        KTensor *out = sub->outputs.at[i], *whole = n->out[i]->tensor;
        const KExpr *at = order[list_entry(n, "scan_output_directions", i - n_state)];
        int axis = scan_axis(n, "scan_output_axes", i - n_state, whole);
        if (axis && behind) copy_slice(l, sub, whole, out, axis, at, true);
        if (!axis && !behind) share_result(out, n->out[i], k_mul(l->k, at, slice_elems(l, out)));
    }
}

/* Dims of the stack that only its slices know: those of slice number t must be those of the ones
 * before. */
static void note_slice_dims(Lower *l, const KTensor *whole, const KTensor *slice, int axis,
                            const KExpr *t) {
    KCtx *k = l->k;
    const KExpr *differs = k_bool(k, false);
    for (int pass = 0; pass < 2; pass++) {
        for (int a = 0; a < slice->rank; a++) {
            const KExpr *d = whole->dims[a < axis ? a : a + 1];
            if (d == slice->dims[a] || d->op != KO_var || !d->u.var->computed) continue;
            const KExpr *slot = k_int(k, d->u.var->slot);
            if (pass) kb_store(&l->entry, l->m->size_table, slot, slice->dims[a]);
            else
                differs = k_or(k, differs, k_ne(k, k_load(k, l->m->size_table, slot), slice->dims[a]));
        }
        if (pass || k_is_value(differs, 0)) continue;
        kb_if(&l->entry, k_and(k, k_lt(k, k_int(k, 0), t), differs));
        kblock_append(l->arena, l->entry.stack[l->entry.depth - 1], KS_RETURN)->value =
            k_int(k, RETURN_BAD_DATA);
        kb_end(&l->entry);
    }
}

/* Before the first slice they are 0. */
static void clear_slice_dims(Lower *l, const KTensor *whole) {
    for (int a = 0; a < whole->rank; a++) {
        const KExpr *d = whole->dims[a];
        if (d->op == KO_var && d->u.var->computed && !is_bound(d->u.var, l))
            kb_store(&l->entry, l->m->size_table, k_int(l->k, d->u.var->slot), k_int(l->k, 0));
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
    for (int i = 0; i < n_state; i++) start_state(l, p, sub, i, n->in[i], n->out[i]);
    for (int i = n_state; i < n->n_out; i++)
        if (n->out[i]) {
            clear_slice_dims(l, n->out[i]->tensor);
            reserve(l, n->out[i]->tensor);
        }
    const KExpr *t = kb_for(&l->entry, LOOP_SERIAL, "step", length);
    const KExpr *order[2] = {t, k_sub(k, k_sub(k, length, k_int(k, 1)), t)};
    for (int i = 0; i < n_scan; i++) {
        KTensor *slice = sub->inputs.at[n_state + i],
                *whole = program_tensor(p, n->in[n_state + i]);
        const KExpr *at = order[list_entry(n, "scan_input_directions", i)];
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
    place_slices(l, n, sub, n_state, order, false);
    lower_program(l, sub);
    place_slices(l, n, sub, n_state, order, true);
    for (int i = n_state; i < n->n_out; i++)
        if (n->out[i])
            note_slice_dims(l, n->out[i]->tensor, sub->outputs.at[i],
                            scan_axis(n, "scan_output_axes", i - n_state, n->out[i]->tensor), t);
    for (int i = 0; i < n_state; i++) carry(l, p, sub->inputs.at[i], sub->outputs.at[i]);
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

/* Before a loop that stacks slices: dims that only they know are 0 so far. A stack on the heap
 * grows; the counter that is returned holds for how many elements it has room. */
static KBuf *start_stack(Lower *l, DefProgram *p, KTensor *whole) {
    KCtx *k = l->k;
    clear_slice_dims(l, whole);
    if (!is_on_heap(l, whole)) return NULL;
    const KExpr *offset;
    KTensor *root = tensor_root(k, whole, &offset);
    append_reserve(l, root->buf, k_int(k, 0), NULL);
    vec_push(l->arena, &l->reserved, root->buf);
    return entry_counter(l, p, "room", k_int(k, 0));
}

/* Slice number t is there and goes to its place. */
static void stack_slice(Lower *l, DefProgram *sub, KTensor *whole, KTensor *slice, KBuf *room,
                        const KExpr *t) {
    KCtx *k = l->k;
    const KExpr *zero = k_int(k, 0), *offset;
    note_slice_dims(l, whole, slice, 0, t);
    if (!room) return;
    KTensor *root = tensor_root(k, whole, &offset), *place;
    const KExpr *each = slice_elems(l, slice), *had = k_load(k, room, zero);
    const KExpr *need = k_mul(k, k_add(k, t, k_int(k, 1)), each);
    kb_if(&l->entry, k_lt(k, had, need));
    const KExpr *more = kb_let(&l->entry, "room", k_max(k, need, k_mul(k, had, k_int(k, 2))));
    append_reserve(l, root->buf, more, k_mul(k, t, each));
    kb_store(&l->entry, room, zero, more);
    kb_end(&l->entry);
    place = program_add_tensor(sub, whole->name, slice->dtype, slice->rank, slice->dims);
    place->alias = root;
    place->alias_offset = k_mul(k, t, each);
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
    for (int i = 0; i < n_carried; i++) start_state(l, p, sub, 2 + i, n->in[2 + i], n->out[i]);
    const KExpr *go = load_scalar(l, cond);
    if (n->in[0])
        go = k_and(k, go,
                   k_lt(k, trips, k_cast(k, DT_I64, load_scalar(l, program_tensor(p, n->in[0])))));
    KBuf **room = arena_array(l->arena, KBuf *, n->n_out + 1);
    for (int i = n_carried; i < n->n_out; i++)
        if (n->out[i]) room[i] = start_stack(l, p, n->out[i]->tensor);
    kb_while(&l->entry, go);
    Scope scope = open_scope(l);
    let_carried_dims(l, sub, 2, n_carried);
    const KExpr *t = kb_let_within(&l->entry, "trip", trips, INT64_MAX);
    store_scalar(l, sub->inputs.at[0], t);
    for (int i = n_carried; i < n->n_out; i++) {
        KTensor *out = sub->outputs.at[1 + i];
        if (!room[i]) share_result(out, n->out[i], k_mul(k, t, slice_elems(l, out)));
    }
    lower_program(l, sub);
    for (int i = n_carried; i < n->n_out; i++)
        if (n->out[i]) stack_slice(l, sub, n->out[i]->tensor, sub->outputs.at[1 + i], room[i], t);
    for (int i = 0; i < n_carried; i++)
        carry(l, p, sub->inputs.at[2 + i], sub->outputs.at[1 + i]);
    close_scope(l, scope);
    store_scalar(l, cond, load_scalar(l, sub->outputs.at[0]));
    store_scalar(l, count, k_add(k, t, k_int(k, 1)));
    kb_end(&l->entry);
    for (int i = 0; i < n_carried; i++)
        if (n->out[i]) store_final_dims(l, n->out[i]->tensor, sub->inputs.at[2 + i]);
    for (int i = n_carried; i < n->n_out; i++) {
        const KExpr *d = n->out[i] ? n->out[i]->tensor->dims[0] : NULL;
        if (d && d->op == KO_var && d->u.var->computed)
            kb_store(&l->entry, l->m->size_table, k_int(k, d->u.var->slot), trips);
    }
    let_joined_dims(l, n);
    l->current = NULL;
}

static void lower_stage(Lower *l, DefProgram *p, Stage *s) {
    if (s->form == FORM_REGION) {
        /* which of the three it is shows in its subgraphs and inputs */
        if (s->sub[1])
            lower_if(l, s);
        else if (node_attr(s->region, "num_scan_inputs"))
            lower_scan(l, p, s);
        else
            lower_loop(l, p, s);
        return;
    }
    for (int i = 0; i < s->n_outs; i++) reserve(l, s->outs[i]);
    reserve(l, s->out);
    if (s->out->layout.has_halo) zero_halo(l, s->out, s);
    KBlock body = {0};
    stage_open(p, s, &body);
    call_block(l, body, s, stage_flops(s));
    for (int i = 0; i < s->n_sizes; i++) let_symbol(l, s->sizes[i]);
}

/* ---- what has to hold
 * --------------------------------------------------------------------------------------- */

typedef struct Known {
    const Lower *l;
    bool all;
} Known;

static void note_unbound(const KExpr *e, void *user) {
    Known *known = user;
    if (e->op != KO_var || !e->u.var->computed) return;
    bool bound = false;
    for (uint32_t i = 0; i < known->l->bound.n; i++)
        bound |= known->l->bound.at[i] == e->u.var;
    known->all &= bound;
}

/* Tests of what the program requires, as soon as all of its symbols have their values. */
static void test_required(Lower *l, const DefProgram *p, bool *tested) {
    for (uint32_t i = 0; i < p->required.n; i++) {
        Known known = {l, true};
        if (tested[i]) continue;
        k_visit(l->k, p->required.at[i], note_unbound, &known);
        if (!known.all) continue;
        tested[i] = true;
        kb_if(&l->entry, k_not(l->k, p->required.at[i]));
        kblock_append(l->arena, l->entry.stack[l->entry.depth - 1], KS_RETURN)->value =
            k_int(l->k, RETURN_BAD_DIM);
        kb_end(&l->entry);
    }
}

static void lower_program(Lower *l, DefProgram *p) {
    bool *tested = arena_array(l->arena, bool, p->required.n + 1);
    test_required(l, p, tested);
    for (Stage *s = p->first, *end; s; s = end) {
        end = s->next;
        if (s->is_alias) continue;
        bug_context("lower_kernels", s->node ? s->node->loc : SRC_NOWHERE);
        start_node(l, s->node);
        if (s->group) {
            while (end && end->group == s->group) end = end->next;
            lower_group(l, p, s, end);
        } else {
            lower_stage(l, p, s);
        }
        test_required(l, p, tested);
    }
}

/* ---- the module
 * -------------------------------------------------------------------------------------------- */

/* Sizes without a bound, or with one that no arena has, go to the heap. */
static bool is_heap(const Lower *l, const KBuf *b) {
    static const int64_t most = INT64_C(1) << 32;
    const KExpr *bound = k_upper_bound(l->k, b->n_elems);
    int64_t n;
    if (k_is_unbounded(l->k, b->n_elems)) return true;
    return bound != b->n_elems && k_is_int(bound, &n) && n > most / dtype_bytes(b->dtype);
}

static void place_buffers(DefProgram *p, void *user) {
    Lower *l = user;
    for (uint32_t i = 0; i < p->tensors.n; i++) {
        KTensor *t = p->tensors.at[i];
        if (t->alias && !t->data) continue;
        t->buf->n_elems = tensor_n_elems(l->k, t);
        t->buf->mem = t->data        ? MEM_CONST
                      : t->is_input  ? MEM_INPUT
                      : is_heap(l, t->buf) ? MEM_HEAP
                      : t->is_output ? MEM_OUTPUT
                                     : MEM_ARENA;
        t->buf->data = t->data;
        t->buf->index = t->buf->mem == MEM_HEAP ? l->km->n_heap++ : t->io_index;
        t->buf->align = t->buf->mem == MEM_ARENA || t->buf->mem == MEM_CONST ? 64 : 0;
    }
}

static KIo *describe_io(Lower *l, KTensor *const *tensors, uint32_t n, Value *const *values) {
    KIo *io = arena_array(l->arena, KIo, n ? n : 1);
    for (uint32_t i = 0; i < n; i++)
        io[i] = (KIo){values[i]->name, tensors[i]->dtype, tensors[i]->rank, tensors[i]->dims,
                      tensors[i]->buf};
    return io;
}

static void describe_symbols(Lower *l) {
    Module *m = l->m;
    KModule *km = l->km;
    km->symbols = arena_array(l->arena, KVar *, m->symbols.n + 1);
    km->sizes = arena_array(l->arena, KVar *, m->symbols.n + 1);
    for (uint32_t i = 0; i < m->symbols.n; i++) {
        KVar *v = m->symbols.at[i];
        if (v->computed) {
            BUG_IF(v->slot != km->n_sizes, "size slots are out of order");
            km->sizes[km->n_sizes++] = v;
        } else {
            km->symbols[km->n_symbols++] = v;
        }
    }
    km->size_table = m->size_table;
    if (km->size_table) km->size_table->n_elems = k_int(l->k, km->n_sizes);
}

/* Code generators take time and memory for each call, and for each parameter more than that. */
static void check_limits(const Lower *l) {
    const Module *m = l->m;
    SrcLoc at = {.file = m->file, .index = -1, .offset = -1};
    uint32_t n_io = m->defs->inputs.n + m->defs->outputs.n;
    if (l->n_calls > MOST_CALLS)
        diag_error(m->diag, at, "the model takes %u calls of kernels; at most %d are accepted",
                   l->n_calls, MOST_CALLS);
    if (n_io > MOST_INTERFACE)
        diag_error(m->diag, at, "the model has %u inputs and outputs; at most %d are accepted",
                   n_io, MOST_INTERFACE);
}

bool pass_lower_kernels(Module *m) {
    KModule *km = arena_new(m->arena, KModule);
    Lower l = {
        .m = m, .km = km, .k = m->k, .arena = m->arena, .by_signature = strmap_create(m->arena)};
    *km = (KModule){.k = m->k, .arena = m->arena, .name = m->name};
    memcpy(km->model_hash, m->model_hash, sizeof km->model_hash);
    for (uint32_t i = 0; i < m->symbols.n; i++)
        if (m->symbols.at[i]->computed) ensure_size_table(&l);
    program_count_users(m->defs);
    program_visit(m->defs, place_buffers, &l);
    describe_symbols(&l);
    kb_begin(&l.entry, m->k, &km->entry);
    lower_program(&l, m->defs);
    check_limits(&l);
    km->n_inputs = m->defs->inputs.n;
    km->n_outputs = m->defs->outputs.n;
    km->inputs = describe_io(&l, m->defs->inputs.at, km->n_inputs, m->main->inputs.at);
    km->outputs = describe_io(&l, m->defs->outputs.at, km->n_outputs, m->main->outputs.at);
    km->kernels = l.kernels.at;
    km->n_kernels = l.kernels.n;
    km->consts = l.consts.at;
    km->n_consts = l.consts.n;
    km->n_nodes = l.nodes.at.n;
    km->nodes = arena_alloc_array(m->arena, km->n_nodes ? km->n_nodes : 1, sizeof *km->nodes);
    for (uint32_t i = 0; i < km->n_nodes; i++) {
        km->nodes[i].name = l.nodes.at.at[i]->loc.node ? l.nodes.at.at[i]->loc.node : "";
        km->nodes[i].op = op_info[l.nodes.at.at[i]->op].name;
    }
    m->kmod = km;
    return true;
}
