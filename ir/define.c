/* Definitions: building stages and programs, reading tensors. */
#include "ir/define.h"

#include <string.h>

DType ktensor_dtype(const KTensor *t) {
    return t->dtype;
}

/* ---- tensors --------------------------------------------------------------------------------- */

KTensor *program_add_tensor(DefProgram *p, const char *name, DType t, int rank,
                            const KExpr *const *dims) {
    KTensor *x = arena_new(p->arena, KTensor);
    x->id = p->tensors.n;
    x->name = intern(name);
    x->dtype = t;
    x->rank = rank;
    x->dims = arena_array(p->arena, const KExpr *, rank ? rank : 1);
    for (int i = 0; i < rank; i++) x->dims[i] = dims[i];
    x->buf = kbuf_new(p->m->k, MEM_NONE, t, name, NULL);
    vec_push(p->arena, &p->tensors, x);
    return x;
}

static DefProgram *program_root(DefProgram *p) {
    while (p->parent) p = p->parent;
    return p;
}

/* A constant tensor of rank 1 beside the graph's. */
static KTensor *add_table(DefProgram *root, const char *name, DType t, const void *data,
                          int64_t count) {
    const KExpr *dim = k_int(root->m->k, count);
    KTensor *x = program_add_tensor(root, name, t, 1, &dim);
    x->data = data;
    x->data_bytes = (uint64_t)count * (uint64_t)dtype_bytes(t);
    return x;
}

/* t = the strings of packed data (strings.c), made of two tables where they are read. */
static void define_strings(DefProgram *root, KTensor *t, const void *data, const Node *node) {
    KCtx *k = root->m->k;
    int64_t n = 0;
    bool is_fixed = k_is_int(tensor_n_elems(k, t), &n);
    BUG_IF(!is_fixed, "constant strings '%s' have no fixed number", t->name);
    int64_t n_text = (int64_t)strings_bytes(data, n) - 8 * (n + 1);
    const char *end_table = arena_copy(root->arena, data, 8 * (size_t)(n + 1));
    KTensor *ends = add_table(root, "ends", DT_I64, end_table, n + 1);
    KTensor *text = add_table(root, "text", DT_U8, (const char *)data + 8 * (n + 1), n_text);
    Stage *s = program_add_stage(root, root->first, FORM_MAP, t, node);
    const KExpr *index[MAX_RANK];
    stage_own_index(k, s, index);
    const KExpr *flat = def_flatten(k, index, t->dims, t->rank);
    const KExpr *next = k_add(k, flat, k_int(k, 1));
    const KExpr *from = k_at(k, ends, &flat, 1), *to = k_at(k, ends, &next, 1);
    s->body = k_str_of(k, k_at(k, text, &from, 1), k_sub(k, to, from));
}

KTensor *program_tensor(DefProgram *p, Value *v) {
    if (v->tensor) return v->tensor;
    BUG_IF(!v->data && v->def, "value '%s' is used before its definition", v->name);
    KTensor *t = program_add_tensor(v->data ? program_root(p) : p, v->name, v->dtype, v->shape.rank,
                                    v->shape.dims);
    t->value = v;
    if (v->data && v->dtype == DT_STR) {
        const Node *user = v->users.n ? v->users.at[0] : p->m->main->first;
        define_strings(program_root(p), t, v->data, user);
        v->tensor = t;
        return t;
    }
    t->data = v->data;
    t->data_bytes = v->data_bytes;
    v->tensor = t;
    return t;
}

KTensor *def_in(Def *d, int i) {
    const Node *n = d->node;
    if (!i && d->in_part) return d->in_part;
    return i < n->n_in && n->in[i] ? program_tensor(d->p, n->in[i]) : NULL;
}

KTensor *def_out(Def *d, int i) {
    Value *v = d->node->out[i];
    BUG_IF(!v, "output %d is not used", i);
    if (!i && d->out_part) return d->out_part;
    if (!v->tensor) {
        v->tensor = program_add_tensor(d->p, v->name, v->dtype, v->shape.rank, v->shape.dims);
        v->tensor->value = v;
    }
    return v->tensor;
}

KTensor *def_temp(Def *d, const char *name, DType t, int rank, const KExpr *const *dims) {
    return program_add_tensor(d->p, name, t, rank, dims);
}

static KTensor *table_new(Def *d, const char *name, DType t, void *data, int64_t count) {
    return add_table(program_root(d->p), name, t, data, count);
}

KTensor *def_strings(Def *d, const char *name, const ConstString *s, int64_t count) {
    DefProgram *root = program_root(d->p);
    const KExpr *dim = k_int(d->k, count);
    KTensor *t = program_add_tensor(root, name, DT_STR, 1, &dim);
    uint64_t n_bytes;
    define_strings(root, t, strings_pack(d->arena, s, count, &n_bytes), d->node);
    return t;
}

KTensor *def_table_ints(Def *d, const char *name, DType t, const int64_t *v, int64_t count) {
    int bytes = dtype_bytes(t);
    unsigned char *data = arena_alloc_array(d->arena, (size_t)count, (size_t)bytes);
    for (int64_t i = 0; i < count; i++) { /* little-endian hosts: the low bytes come first */
        int64_t x = v[i];
        memcpy(data + i * bytes, &x, (size_t)bytes);
    }
    return table_new(d, name, t, data, count);
}

KTensor *def_table_floats(Def *d, const char *name, DType t, const double *v, int64_t count) {
    BUG_IF(t != DT_F32 && t != DT_F64, "table of %s", dtype_info[t].name);
    if (t == DT_F64)
        return table_new(d, name, t, arena_copy(d->arena, v, sizeof *v * (size_t)count), count);
    float *data = arena_array(d->arena, float, count);
    for (int64_t i = 0; i < count; i++) data[i] = (float)v[i];
    return table_new(d, name, t, data, count);
}

void def_shape_table(Def *d, KTensor *table, const int64_t *dims, int rank) {
    int64_t count = 1;
    table->rank = rank;
    table->dims = arena_array(d->arena, const KExpr *, rank);
    for (int i = 0; i < rank; i++) {
        table->dims[i] = k_int(d->k, dims[i]);
        count *= dims[i];
    }
    BUG_IF((uint64_t)count * (uint64_t)dtype_bytes(table->dtype) != table->data_bytes,
           "a table of %lld elements", (long long)count);
}

/* ---- stages ---------------------------------------------------------------------------------- */

static Stage *stage_insert(DefProgram *p, Stage *at, Form form, KTensor *out, const Node *node) {
    Stage *s = arena_new(p->arena, Stage), *before = at ? at->prev : p->last;
    s->form = form;
    s->id = p->n_stages++;
    s->owner = p;
    s->out = out;
    s->node = node;
    s->prev = before;
    s->next = at;
    if (before)
        before->next = s;
    else
        p->first = s;
    if (at)
        at->prev = s;
    else
        p->last = s;
    if (out) out->def = s;
    return s;
}

Stage *program_add_stage(DefProgram *p, Stage *at, Form form, KTensor *out, const Node *node) {
    static const char *const names[] = {"i", "j", "k", "l"};
    Stage *s = stage_insert(p, at, form, out, node);
    for (int i = 0; i < out->rank; i++)
        s->axis[i] =
            kvar_new(p->m->k, KV_AXIS, DT_I64, names[i % 4], 0, k_last_index(out->dims[i]));
    return s;
}

Stage *def_begin(Def *d, Form form, KTensor *out) {
    return program_add_stage(d->p, NULL, form, out, d->node);
}

const KExpr *def_axis(Def *d, const Stage *s, int i) {
    return k_var(d->k, s->axis[i]);
}

const KExpr *def_reduce_axis(Def *d, Stage *s, const char *name, const KExpr *extent) {
    BUG_IF(s->n_red == MAX_RED, "too many reduction axes");
    KVar *v = kvar_new(d->k, KV_AXIS, DT_I64, name, 0, k_last_index(extent));
    s->red_extent[s->n_red] = extent;
    s->red[s->n_red++] = v;
    return k_var(d->k, v);
}

void def_map(Def *d, Stage *s, const KExpr *body) {
    (void)d;
    BUG_IF(body->dtype != s->out->dtype, "map of %s into %s", dtype_info[body->dtype].name,
           dtype_info[s->out->dtype].name);
    s->body = body;
}

void def_reduce(Def *d, Stage *s, KOp fold, DType acc, const KExpr *init, const KExpr *body) {
    BUG_IF(body->dtype != acc || init->dtype != acc, "reduction of %s in %s",
           dtype_info[body->dtype].name, dtype_info[acc].name);
    s->fold = fold;
    s->init = init;
    s->body = body;
    s->acc = kvar_new(d->k, KV_AXIS, acc, "acc", INT64_MIN, INT64_MAX);
    s->finish = k_var(d->k, s->acc);
}

void def_contract(Def *d, Stage *s, DType acc, const KExpr *lhs, const KExpr *rhs) {
    BUG_IF(lhs->dtype != acc || rhs->dtype != acc, "contraction of %s and %s in %s",
           dtype_info[lhs->dtype].name, dtype_info[rhs->dtype].name, dtype_info[acc].name);
    s->fold = KO_add;
    s->init = k_const(d->k, acc, 0);
    s->lhs = lhs;
    s->rhs = rhs;
    s->acc = kvar_new(d->k, KV_AXIS, acc, "acc", INT64_MIN, INT64_MAX);
    s->finish = k_var(d->k, s->acc);
}

const KExpr *def_acc(Def *d, const Stage *s) {
    return k_var(d->k, s->acc);
}

void def_finish(Def *d, Stage *s, const KExpr *e) {
    (void)d;
    BUG_IF(e->dtype != s->out->dtype, "finish of %s into %s", dtype_info[e->dtype].name,
           dtype_info[s->out->dtype].name);
    s->finish = e;
}

Stage *def_program(Def *d, KTensor *const *outs, int n_outs) {
    Stage *s = stage_insert(d->p, NULL, FORM_PROGRAM, outs[0], d->node);
    s->outs = arena_array(d->arena, KTensor *, n_outs);
    s->n_outs = n_outs;
    for (int i = 0; i < n_outs; i++) {
        s->outs[i] = outs[i];
        outs[i]->def = s;
        outs[i]->dense_only = true;
    }
    kb_begin(&d->b, d->k, &s->program);
    return s;
}

void def_end_program(Def *d, Stage *s) {
    BUG_IF(d->b.depth != 1, "program ends inside a block");
    (void)s;
}

void def_store_size(Def *d, Stage *s, KVar *symbol, const KExpr *value) {
    BUG_IF(s->n_sizes == (int)(sizeof s->sizes / sizeof s->sizes[0]), "too many sizes");
    if (!d->m->size_table) d->m->size_table = kbuf_new(d->k, MEM_ARENA, DT_I64, "sizes", NULL);
    s->sizes[s->n_sizes++] = symbol;
    kb_store(&d->b, d->m->size_table, k_int(d->k, symbol->slot), value);
}

void def_region(Def *d) {
    static const char *const body_names[] = {"then_branch", "else_branch", "body"};
    const Node *n = d->node;
    KTensor **outs = arena_array(d->arena, KTensor *, n->n_out ? n->n_out : 1);
    Stage *s = stage_insert(d->p, NULL, FORM_REGION, NULL, n);
    s->region = n;
    s->outs = outs;
    for (int i = 0; i < n->n_out; i++) {
        if (!n->out[i]) continue;
        KTensor *t = def_out(d, i);
        t->def = s;
        t->dense_only = true;
        outs[s->n_outs++] = t;
    }
    s->out = s->n_outs ? outs[0] : NULL;
    int n_sub = 0;
    for (int i = 0; i < 3; i++) {
        Graph *g = attr_graph(n, body_names[i]);
        if (g) s->sub[n_sub++] = program_create(d->m, d->p, g);
    }
}

/* A program that stores some sizes: value[i] for symbol[i]. */
static void define_sizes(DefProgram *p, const Node *n, KVar *const *symbol,
                         const KExpr *const *value, int count) {
    Def d = {.p = p, .m = p->m, .k = p->m->k, .arena = p->arena, .node = n};
    const KExpr *one = k_int(d.k, 1);
    KTensor *done = def_temp(&d, "found", DT_I64, 1, &one);
    Stage *s = def_program(&d, &done, 1);
    for (int i = 0; i < count; i++) def_store_size(&d, s, symbol[i], value[i]);
    kb_store(&d.b, done->buf, k_int(d.k, 0), k_int(d.k, 0));
    def_end_program(&d, s);
}

enum { SIZES_AT_ONCE = 8 };

static DType bits_of(DType t) {
    return dtype_bytes(t) == 8 ? DT_I64 : dtype_bytes(t) == 4 ? DT_I32 : DT_I16;
}

/* The elements of v that shapes depend on; 0 where v turns out to be too short to have one. */
static void define_reads(DefProgram *p, Value *v) {
    KCtx *k = p->m->k;
    KVar *symbol[SIZES_AT_ONCE];
    const KExpr *value[SIZES_AT_ONCE], *index[MAX_RANK + 1];
    if (!v->reads.n) return;
    KTensor *t = program_tensor(p, v);
    int n = 0;
    for (uint32_t i = 0; i < v->reads.n; i++) {
        def_unflatten(k, k_int(k, v->reads.at[i].index), t->dims, t->rank, index);
        symbol[n] = v->reads.at[i].symbol;
        index[t->rank] = k_bool(k, true);
        for (int a = 0; a < t->rank; a++)
            index[t->rank] = k_and(k, index[t->rank], k_lt(k, index[a], t->dims[a]));
        const KExpr *e = k_at(k, t, index, t->rank + 1);
        if (dtype_is_float(t->dtype)) e = k_bitcast(k, bits_of(t->dtype), e);
        value[n++] = k_cast(k, DT_I64, e);
        if (n < SIZES_AT_ONCE && i + 1 < v->reads.n) continue;
        define_sizes(p, v->def, symbol, value, n);
        n = 0;
    }
}

static bool has_size(const DefProgram *p, const KVar *symbol) {
    for (; p; p = p->parent)
        for (uint32_t i = 0; i < p->sizes.n; i++)
            if (p->sizes.at[i] == symbol) return true;
    return false;
}

typedef struct SizeWalk {
    DefProgram *p;
    const Node *node;
} SizeWalk;

static void define_size(const KExpr *e, void *user) {
    SizeWalk *w = user;
    KVar *symbol = e->op == KO_var ? e->u.var : NULL;
    if (!symbol || !symbol->value || has_size(w->p, symbol)) return;
    k_visit(w->p->m->k, symbol->value, define_size, w);
    vec_push(w->p->arena, &w->p->sizes, symbol);
    define_sizes(w->p, w->node, &symbol, &symbol->value, 1);
}

/* Values for the symbols that stand for long expressions (module_short_size) where n is the first
 * that has them: in its rules, and in the dims and contents of what it makes. */
static void define_long_sizes(DefProgram *p, const Node *n) {
    KCtx *k = p->m->k;
    SizeWalk w = {p, n};
    for (uint32_t i = 0; i < n->rules.n; i++) k_visit(k, n->rules.at[i], define_size, &w);
    for (int i = 0; i < n->n_out; i++) {
        const Value *v = n->out[i];
        int64_t count = 0;
        if (!v) continue;
        for (int a = 0; a < v->shape.rank; a++) k_visit(k, v->shape.dims[a], define_size, &w);
        if (v->content) shape_count_int(v->shape, &count);
        for (int64_t c = 0; c < count; c++) k_visit(k, v->content[c], define_size, &w);
    }
}

static void require_rule(DefProgram *p, const KExpr *rule) {
    for (uint32_t i = 0; i < p->required.n; i++)
        if (p->required.at[i] == rule) return;
    vec_push(p->arena, &p->required, rule);
}

/* The rules of n: over the caller's symbols alone they are required of the call, the others become
 * one symbol that is 1 or ends the run. */
static void define_rules(DefProgram *p, const Node *n) {
    KCtx *k = p->m->k;
    const KExpr *all = k_bool(k, true);
    if (!n->rules.n) return;
    for (uint32_t i = 0; i < n->rules.n; i++) {
        if (k_is_computed(k, n->rules.at[i]))
            all = k_and(k, all, n->rules.at[i]);
        else
            require_rule(p, n->rules.at[i]);
    }
    if (k_is_value(all, 1)) return;
    KVar *symbol = module_computed_symbol(p->m, "rule", k_int(k, 1));
    symbol->lo = 1;
    symbol->checked = true;
    all = k_cast(k, DT_I64, all);
    define_sizes(p, n, &symbol, &all, 1);
}

DefProgram *program_create(Module *m, DefProgram *parent, Graph *g) {
    DefProgram *p = arena_new(m->arena, DefProgram);
    p->m = m;
    p->arena = m->arena;
    p->parent = parent;
    for (uint32_t i = 0; i < g->inputs.n; i++) {
        KTensor *t = program_tensor(p, g->inputs.at[i]);
        t->dense_only = true;
        t->is_input = !parent;
        t->io_index = i;
        vec_push(p->arena, &p->inputs, t);
    }
    for (uint32_t i = 0; i < g->inputs.n; i++) define_reads(p, g->inputs.at[i]);
    for (uint32_t i = 0; i < m->read_values.n && !parent; i++)
        if (value_is_const(m->read_values.at[i])) define_reads(p, m->read_values.at[i]);
    for (const Node *n = g->first; n; n = n->next) {
        Def d = {.p = p, .m = m, .k = m->k, .arena = m->arena, .node = n};
        bug_context("define", n->loc);
        define_long_sizes(p, n);
        define_rules(p, n);
        def_lower(&d);
        for (int i = 0; i < n->n_out; i++)
            if (n->out[i]) define_reads(p, n->out[i]);
    }
    for (uint32_t i = 0; i < g->outputs.n; i++) {
        KTensor *t = program_tensor(p, g->outputs.at[i]);
        vec_push(p->arena, &p->outputs, t);
    }
    return p;
}

/* ---- reading tensors ------------------------------------------------------------------------- */

/* Element `flat` of constant bytes as an expression; NULL for dtypes without a folded form. */
static const KExpr *constant_element(KCtx *k, const KTensor *t, int64_t flat) {
    const unsigned char *p = (const unsigned char *)t->data + flat * dtype_bytes(t->dtype);
    float f;
    double g;
    int64_t v = 0;
    switch (dtype_info[t->dtype].kind) {
    case DK_FLOAT:
        if (t->dtype == DT_F32) {
            memcpy(&f, p, sizeof f);
            return k_const_f(k, DT_F32, f);
        }
        if (t->dtype != DT_F64) return NULL;
        memcpy(&g, p, sizeof g);
        return k_const_f(k, DT_F64, g);
    case DK_SINT:
    case DK_UINT:
    case DK_BOOL:
    case DK_CODE:
    case DK_COMPLEX:
        if (dtype_is_wide(t->dtype)) return NULL;
        memcpy(&v, p, (size_t)dtype_bytes(t->dtype)); /* k_const_i extends the sign */
        return k_const_i(k, t->dtype, v);
    default: return NULL;
    }
}

static const KExpr *read_constant(KCtx *k, const KTensor *t, const KExpr *const *index) {
    int64_t flat = 0, i, dim;
    if (!t->data) return NULL;
    for (int a = 0; a < t->rank; a++) {
        if (!k_is_int(t->dims[a], &dim)) return NULL;
        if (!k_is_int(index[a], &i) || i < 0 || i >= dim) return NULL;
        flat = flat * dim + i;
    }
    return constant_element(k, t, flat);
}

static const KExpr *read_tensor(Def *d, KTensor *t, const KExpr *const *index, int rank,
                                const KExpr *pred) {
    const KExpr *own[MAX_RANK + 1];
    BUG_IF(rank < t->rank, "at() of rank %d with %d indices", t->rank, rank);
    for (int i = 0; i < t->rank; i++)
        own[i] = k_is_value(t->dims[i], 1) ? k_int(d->k, 0) : index[rank - t->rank + i];
    int64_t truth;
    if (pred && k_is_int(pred, &truth)) {
        if (!truth) return k_const(d->k, t->dtype, 0);
        pred = NULL;
    }
    const KExpr *folded = pred ? NULL : read_constant(d->k, t, own);
    if (folded) return folded;
    if (pred) own[t->rank] = pred;
    return k_at(d->k, t, own, t->rank + (pred != NULL));
}

const KExpr *def_at(Def *d, KTensor *t, const KExpr *const *index, int rank) {
    return read_tensor(d, t, index, rank, NULL);
}

const KExpr *def_at_if(Def *d, KTensor *t, const KExpr *const *index, int rank, const KExpr *pred) {
    return read_tensor(d, t, index, rank, pred);
}

const KExpr *at_pred(const KExpr *at) {
    return at->n_args > at->u.tensor->rank ? at->arg[at->u.tensor->rank] : NULL;
}

const KExpr *def_flatten(KCtx *k, const KExpr *const *index, const KExpr *const *dims, int rank) {
    const KExpr *flat = k_int(k, 0);
    for (int i = 0; i < rank; i++) flat = k_add(k, k_mul(k, flat, dims[i]), index[i]);
    return flat;
}

void def_unflatten(KCtx *k, const KExpr *flat, const KExpr *const *dims, int rank,
                   const KExpr **index) {
    for (int i = rank - 1; i >= 0; i--) {
        if (k_is_value(dims[i], 1)) {
            index[i] = k_int(k, 0);
            continue;
        }
        bool outermost = true;
        for (int j = 0; j < i; j++) outermost &= k_is_value(dims[j], 1);
        index[i] = outermost ? flat : k_fmod(k, flat, dims[i]);
        if (!outermost) flat = k_fdiv(k, flat, dims[i]);
    }
}

void kb_unflatten(KBuild *b, const char *name, const KExpr *flat, const KExpr *const *dims,
                  int rank, const KExpr **index) {
    def_unflatten(b->k, flat, dims, rank, index);
    for (int i = 0; i < rank; i++) index[i] = kb_let_index(b, name, index[i], dims[i]);
}
