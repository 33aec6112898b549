/* lower_kernels: opens stages into kernels and writes the entry that calls them in order.
 *
 * Before:  a DefProgram of stages with layouts, schedules and groups
 * After:   Module.kmod: kernels with parameters, equal ones shared, and an entry of calls, branches
 * and loops over the tensors' buffers
 *
 * Requires everything before it. Control flow becomes entry statements, in lower_regions.c, and the
 * choice between versions in lower_versions.c. Arena offsets are left to plan_memory. */
#include <stdlib.h>
#include <string.h>

#include "ir/schedule.h"
#include "ir/winograd.h"
#include "passes/kernelize.h"
#include "passes/lower_kernels.h"

/* Calls of kernels in one model: a code generator takes some 100 KB for each, and no real model has
 * a tenth of this. */
enum { MOST_CALLS = 65536, MOST_INTERFACE = 4096 };

/* ---- calls ----------------------------------------------------------------------------------- */

void lower_note_const(Lower *l, KBuf *b) {
    if (b->mem != MEM_CONST) return;
    if (b->index < l->consts.n && l->consts.at[b->index] == b) return;
    if (lower_join_const(l, b)) return;
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
    if (s && s->blocks) tile = arena_printf(l->arena, "b%d_%s", (int)s->blocks->rows, tile);
    return arena_printf(l->arena, "k%u_%s_%s__%s_%s", id, op, dtype, l->m->target->name, tile);
}

/* The kernel of this block, or an equal one made before; appends its call. */
void lower_call(Lower *l, KBlock body, const Stage *s, double flops) {
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
        lower_note_const(l, use.bufs[i]);
    }
    for (uint32_t i = 0; i < known->n_scalars; i++) call->scalars[i] = k_var(l->k, use.scalars[i]);
}

static void start_node(Lower *l, const Node *n) {
    if (!n || n == l->current) return;
    l->current = n;
    KStmt *s = kblock_append(l->arena, l->entry.stack[l->entry.depth - 1], KS_NODE);
    s->node = l->nodes.n;
    vec_push(l->arena, &l->nodes, ((KNode){n->loc.node ? n->loc.node : "", op_info[n->op].name}));
}

static double stage_flops(const Stage *s) {
    double n = s->form != FORM_CONTRACT ? 1 : s->dot ? 2 * kop_dot_parts(s->dot) : 2;
    if (s->form == FORM_PROGRAM) return 2 * s->macs;
    if (!s->out) return 0;
    for (int i = 0; i < s->out->rank; i++) n *= (double)s->out->dims[i]->hi;
    for (int i = 0; i < s->n_red; i++) n *= (double)s->red_extent[i]->hi;
    return n;
}

/* ---- memory ---------------------------------------------------------------------------------- */

bool lower_is_bound(const KVar *v, const void *user) {
    const Lower *l = user;
    for (uint32_t i = 0; i < l->bound.n; i++)
        if (l->bound.at[i] == v) return true;
    return false;
}

KStmt *lower_reserve_elems(Lower *l, KBuf *b, const KExpr *n_elems, const KExpr *keep) {
    KStmt *s = kblock_append(l->arena, l->entry.stack[l->entry.depth - 1], KS_RESERVE);
    s->buf = b;
    s->value = n_elems;
    s->index = keep;
    return s;
}

const KExpr *lower_most_elems(Lower *l, const KTensor *root) {
    const KExpr *n = k_upper_bound_given(l->k, tensor_n_elems(l->k, root), lower_is_bound, l);
    return n->op == KO_const_i && n->u.i == INT64_MAX ? NULL : n;
}

/* t is about to be written: if it lies on the heap and has no memory here yet, it gets some, for
 * its size as far as that is known here, otherwise for the bound. */
void lower_reserve(Lower *l, KTensor *t) {
    const KExpr *offset;
    KTensor *root = tensor_root(l->k, t, &offset);
    if (root->buf->mem != MEM_HEAP) return;
    for (uint32_t i = 0; i < l->reserved.n; i++)
        if (l->reserved.at[i] == root->buf) return;
    vec_push(l->arena, &l->reserved, root->buf);
    const KExpr *n = lower_most_elems(l, root);
    if (!n)
        diag_unsupported(l->m->diag, l->current ? l->current->loc : SRC_NOWHERE,
                         "tensor '%s': its size is not known before it is computed", root->name);
    lower_reserve_elems(l, root->buf, n ? n : k_int(l->k, 0), NULL);
}

void lower_return_if(Lower *l, const KExpr *condition, int status) {
    kb_if(&l->entry, condition);
    kblock_append(l->arena, l->entry.stack[l->entry.depth - 1], KS_RETURN)->value =
        k_int(l->k, status);
    kb_end(&l->entry);
}

/* Binds the symbol to what the size table holds, unless it is bound here already. */
void lower_let_symbol(Lower *l, KVar *symbol) {
    for (uint32_t i = 0; i < l->bound.n; i++)
        if (l->bound.at[i] == symbol) return;
    vec_push(l->arena, &l->bound, symbol);
    KStmt *s = kblock_append(l->arena, l->entry.stack[l->entry.depth - 1], KS_LET);
    s->var = symbol;
    s->value = k_load(l->k, l->m->size_table, k_int(l->k, symbol->slot));
    if (!symbol->checked) return;
    const KExpr *low = k_lt(l->k, s->value, k_int(l->k, symbol->lo));
    lower_return_if(l, k_or(l->k, low, k_lt(l->k, k_int(l->k, symbol->hi), s->value)),
                    RETURN_BAD_DATA);
}

/* ---- halos ----------------------------------------------------------------------------------- */

/* Fills the halo slabs of t: for each axis with a halo, the rows before and after, over all of the
 * others. */
static void fill_halo(Lower *l, KTensor *t, const Stage *s) {
    KCtx *k = l->k;
    const KExpr *offset, *index[MAX_RANK];
    KTensor *root = tensor_root(k, t, &offset);
    KBlock body = {0};
    KBuild b;
    kb_begin(&b, k, &body);
    const Layout *lay = &t->layout;
    for (int axis = 0; axis < t->rank; axis++)
        for (int side = 0; side < 2; side++) {
            if (!lay->halo[axis][side]) continue;
            for (int i = 0; i < t->rank; i++) {
                const KExpr *dim = tensor_stored_dim(k, t, i);
                const KExpr *extent = i == axis ? k_int(k, lay->halo[axis][side]) : dim;
                bool innermost = i == t->rank - 1 && lay->block <= 1;
                int64_t n;
                bool vector = innermost && k_is_int(extent, &n) && n <= 64;
                const KExpr *at = kb_for(&b, vector ? LOOP_VECTOR : LOOP_SERIAL, "h", extent);
                if (i == axis && side) at = k_add(k, at, k_sub(k, dim, extent));
                index[i] = k_sub(k, at, k_int(k, lay->halo[i][0]));
            }
            if (lay->block > 1) {
                const KExpr *lane = kb_for(&b, LOOP_VECTOR, "l", k_int(k, lay->block));
                int a = lay->block_axis;
                index[a] = k_add(k, k_mul(k, index[a], k_int(k, lay->block)), lane);
            }
            const KExpr *flat = k_add(k, tensor_flat_index(k, t, index), offset);
            kb_store(&b, root->buf, flat, k_const(k, t->dtype, lay->halo_value));
            while (b.depth > 1) kb_end(&b);
        }
    lower_call(l, body, s, 0);
}

/* ---- stages ---------------------------------------------------------------------------------- */

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
        if (!is_local) lower_reserve(l, stages[i]->out);
    }
    kb_begin(&b, l->k, &body);
    schedule_open_rows(p, stages, n, n_outer, local, n_local, &b);
    lower_call(l, body, stages[n - 1], flops);
}

/* The kernel in front of a convolution whose slots share all patches. */
static void transform_patches(Lower *l, DefProgram *p, Stage *s) {
    KBlock body = {0};
    KBuild b;
    kb_begin(&b, l->k, &body);
    schedule_open_patches(p, s, &b);
    lower_call(l, body, s, 0);
}

/* A group in blocks; the stage after it. */
static Stage *lower_blocks(Lower *l, DefProgram *p, Blocks *blocks) {
    double flops = 0;
    KBlock body = {0};
    KBuild b;
    for (int i = 0; i < blocks->n; i++) {
        flops += stage_flops(blocks->stages[i]);
        lower_reserve(l, blocks->stages[i]->out);
        const KTensor *t = blocks->stages[i]->out;
        if (t->layout.has_halo && !t->window)
            fill_halo(l, blocks->stages[i]->out, blocks->stages[i]);
    }
    kb_begin(&b, l->k, &body);
    if (blocks->span)
        schedule_open_rolling(p, blocks, &b);
    else
        schedule_open_blocks(p, blocks, &b);
    lower_call(l, body, blocks->stages[blocks->n - 1], flops);
    return blocks->stages[blocks->n - 1]->next;
}

/* The stage's loops; where there are others for few rows, a choice by how many this call has. */
static void lower_loops(Lower *l, DefProgram *p, Stage *s) {
    Schedule *all = s->schedule;
    bool has_few = all && all->few;
    if (has_few) {
        const KExpr *rows = schedule_row_extent(l->k, s, all);
        kb_if(&l->entry, k_le(l->k, rows, k_int(l->k, all->few_rows)));
        s->schedule = all->few;
        lower_loops(l, p, s);
        s->schedule = all;
        kb_else(&l->entry);
    }
    KBlock body = {0};
    stage_open(p, s, &body);
    lower_call(l, body, s, stage_flops(s));
    if (has_few) kb_end(&l->entry);
}

static void lower_stage(Lower *l, DefProgram *p, Stage *s) {
    if (s->form == FORM_REGION) {
        lower_region(l, p, s);
        return;
    }
    for (int i = 0; i < s->n_outs; i++) lower_reserve(l, s->outs[i]);
    lower_reserve(l, s->out);
    if (s->out->layout.has_halo && !schedule_fills_halo(s)) fill_halo(l, s->out, s);
    if (s->schedule && s->schedule->winograd && s->schedule->winograd->whole)
        transform_patches(l, p, s);
    lower_loops(l, p, s);
    for (int i = 0; i < s->n_sizes; i++) lower_let_symbol(l, s->sizes[i]);
}

/* ---- what has to hold ------------------------------------------------------------------------ */

typedef struct Known {
    const Lower *l;
    bool all;
} Known;

static void note_unbound(const KExpr *e, void *user) {
    Known *known = user;
    if (e->op != KO_var || !e->u.var->computed) return;
    known->all &= lower_is_bound(e->u.var, known->l);
}

/* Tests of what the program requires, as soon as all of its symbols have their values. */
static void test_required(Lower *l, const DefProgram *p, bool *tested) {
    for (uint32_t i = 0; i < p->required.n; i++) {
        Known known = {l, true};
        if (tested[i]) continue;
        k_visit(l->k, p->required.at[i], note_unbound, &known);
        if (!known.all) continue;
        tested[i] = true;
        lower_return_if(l, k_not(l->k, p->required.at[i]), RETURN_BAD_DIM);
    }
}

/* Is s->out made of phases that other stages have written, without the halo? */
static bool has_phases(const DefProgram *p, const Stage *s) {
    for (uint32_t i = 0; s->out->layout.has_halo && i < p->tensors.n; i++) {
        const KTensor *t = p->tensors.at[i];
        if (t->alias == s->out && t->phase && !t->layout.has_halo) return true;
    }
    return false;
}

void lower_program(Lower *l, DefProgram *p) {
    bool *tested = arena_array(l->arena, bool, p->required.n + 1);
    test_required(l, p, tested);
    for (Stage *s = p->first, *end; s; s = end) {
        end = s->next;
        if (s->is_alias && !has_phases(p, s)) continue;
        bug_context("lower_kernels", s->node ? s->node->loc : SRC_NOWHERE);
        start_node(l, s->node);
        if (s->is_alias) {
            fill_halo(l, s->out, s);
        } else if (s->blocks) {
            end = lower_blocks(l, p, s->blocks);
        } else if (s->group) {
            while (end && end->group == s->group) end = end->next;
            lower_group(l, p, s, end);
        } else {
            lower_stage(l, p, s);
        }
        test_required(l, p, tested);
    }
}

/* ---- the module ------------------------------------------------------------------------------ */

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
        t->buf->mem = t->data              ? MEM_CONST
                      : t->is_input        ? MEM_INPUT
                      : is_heap(l, t->buf) ? MEM_HEAP
                      : t->is_output       ? MEM_OUTPUT
                                           : MEM_ARENA;
        t->buf->data = t->data;
        t->buf->index = t->buf->mem == MEM_HEAP ? l->km->n_heap++ : t->io_index;
        t->buf->align = t->buf->mem == MEM_ARENA || t->buf->mem == MEM_CONST ? 64 : 0;
    }
}

/* values: whose names they have; NULL: those of the tensors. */
static KIo *describe_io(Lower *l, KTensor *const *tensors, uint32_t n, Value *const *values) {
    KIo *io = arena_array(l->arena, KIo, n ? n : 1);
    for (uint32_t i = 0; i < n; i++)
        io[i] = (KIo){.name = (values ? values[i] : tensors[i]->value)->name,
                      .dtype = tensors[i]->dtype,
                      .rank = tensors[i]->rank,
                      .dims = tensors[i]->dims,
                      .buf = tensors[i]->buf,
                      .is_kept = tensors[i]->is_kept};
    return io;
}

static void describe_symbols(Lower *l) {
    Module *m = l->m;
    KModule *km = l->km;
    km->symbols = arena_array(l->arena, KVar *, m->symbols.n + 1);
    for (uint32_t i = 0; i < m->symbols.n; i++)
        if (!m->symbols.at[i]->computed) km->symbols[km->n_symbols++] = m->symbols.at[i];
}

static void describe_sizes(Lower *l) {
    Module *m = l->m;
    KModule *km = l->km;
    uint32_t n = module_end_of_sizes(m->versions.n ? m->versions.at[m->versions.n - 1].m : m);
    if (!n) return;
    km->sizes = arena_array(l->arena, KVar *, n);
    km->size_table = m->size_table;
    km->size_table->n_elems = k_int(l->k, n);
    for (uint32_t v = 0; v <= m->versions.n; v++) {
        const Module *of = v ? m->versions.at[v - 1].m : m;
        for (uint32_t i = 0; i < of->symbols.n; i++) {
            if (!of->symbols.at[i]->computed) continue;
            BUG_IF(of->symbols.at[i]->slot != km->n_sizes, "size slots are out of order");
            km->sizes[km->n_sizes++] = of->symbols.at[i];
        }
    }
}

/* Every module's tensors get their memory, and all modules the one size table. */
static void place_module(Lower *l, Module *m) {
    bool finds_sizes = module_end_of_sizes(m) > m->first_slot;
    if (!m->size_table && finds_sizes)
        m->size_table = kbuf_new(l->k, MEM_ARENA, DT_I64, "sizes", NULL);
    program_count_users(m->defs);
    program_visit(m->defs, place_buffers, l);
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
    place_module(&l, m);
    for (uint32_t i = 0; i < m->versions.n; i++) place_module(&l, m->versions.at[i].m);
    describe_symbols(&l);
    km->n_inputs = m->defs->inputs.n;
    km->n_outputs = m->defs->outputs.n;
    km->inputs = describe_io(&l, m->defs->inputs.at, km->n_inputs, NULL);
    km->outputs = describe_io(&l, m->defs->outputs.at, km->n_outputs, m->main->outputs.at);
    kb_begin(&l.entry, m->k, &km->entry);
    l.by_bytes = strmap_create(m->arena);
    l.joined = strmap_create(m->arena);
    if (m->versions.n)
        lower_versions(&l);
    else
        lower_program(&l, m->defs);
    lower_join_buffers(&l);
    describe_sizes(&l);
    check_limits(&l);
    km->kernels = l.kernels.at;
    km->n_kernels = l.kernels.n;
    km->consts = l.consts.at;
    km->n_consts = l.consts.n;
    km->n_nodes = l.nodes.n;
    km->nodes = l.nodes.at;
    m->kmod = km;
    return true;
}
