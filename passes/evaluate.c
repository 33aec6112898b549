/* Evaluation at compile time: a stage or a node whose inputs are all constant becomes data.
 *
 * The stage is opened into a kernel like any other and run by the module's run_kernel hook
 * (compiled code, for large ones) or by the interpreter, so folding has the meaning of running. */
#include <string.h>

#include "ir/interpret.h"
#include "ir/math.h"
#include "passes/kernelize.h"
#include "passes/pass.h"

static const uint64_t LARGEST_CONSTANT = UINT64_C(2) << 30;

/* The tensors whose bytes a stage touches: the roots of what it reads and of what it writes; a
 * written out program may have others of its own, which it names by their buffers. */
typedef VEC(KTensor *) Roots;

static Roots roots_of(DefProgram *p, const Stage *s) {
    Roots roots = {0};
    KTensor *read[256];
    const KExpr *offset;
    int n = stage_reads(p, s, read, 256), n_outs = s->form == FORM_PROGRAM ? s->n_outs : 1;
    for (int i = 0; i < n; i++)
        vec_push(p->m->scratch, &roots, tensor_root(p->m->k, read[i], &offset));
    for (int i = 0; i < n_outs; i++) {
        KTensor *out = s->form == FORM_PROGRAM ? s->outs[i] : s->out;
        vec_push(p->m->scratch, &roots, tensor_root(p->m->k, out, &offset));
    }
    for (uint32_t i = 0; s->form == FORM_PROGRAM && i < p->tensors.n; i++)
        vec_push(p->m->scratch, &roots, p->tensors.at[i]);
    return roots;
}

/* Bytes and stored elements of the constant tensor, in its layout, that has this buffer. */
static bool buffer_of(KCtx *k, const KBuf *buf, const Roots *roots, void **data, int64_t *n_elems) {
    for (uint32_t i = 0; i < roots->n; i++) {
        const KTensor *t = roots->at[i];
        if (t->buf != buf) continue;
        *data = (void *)t->data;
        if (!t->data || !k_is_int(tensor_n_elems(k, t), n_elems)) return false;
        *n_elems *= dtype_stored_count(t->dtype);
        return true;
    }
    return false;
}

static bool run(Module *m, DefProgram *p, const Stage *s, KBlock body) {
    KernelUse use = kernel_extract(m->k, body);
    Kernel *kn = use.kernel;
    if (kn->n_scalars) return false;
    kn->name = "fold";
    kernel_expand_math(m->k, kn, m->target);
    Roots roots = roots_of(p, s);
    void **data = arena_array(m->scratch, void *, kn->n_params);
    int64_t *n_elems = arena_array(m->scratch, int64_t, kn->n_params), total = 0;
    InterpretBuf *bufs = arena_array(m->scratch, InterpretBuf, kn->n_params);
    for (uint32_t i = 0; i < kn->n_params; i++) {
        if (!buffer_of(m->k, use.bufs[i], &roots, &data[i], &n_elems[i])) return false;
        bufs[i] = (InterpretBuf){data[i], n_elems[i]};
        total += n_elems[i];
    }
    if (m->run_kernel && total >= 16384 && m->run_kernel(m->run_kernel_user, kn, data, n_elems))
        return true;
    interpret_kernel(kn, bufs, NULL);
    return true;
}

static bool give_data(DefProgram *p, KTensor *t) {
    int64_t n;
    uint64_t n_bytes;
    if (!k_is_int(tensor_n_elems(p->m->k, t), &n) || n < 0 || t->dtype == DT_STR) return false;
    if (__builtin_mul_overflow((uint64_t)n, (uint64_t)dtype_bytes(t->dtype), &n_bytes) ||
        n_bytes > LARGEST_CONSTANT)
        return false;
    t->data = arena_alloc(p->arena, n_bytes ? n_bytes : 1);
    t->data_bytes = n_bytes;
    return true;
}

static bool inputs_are_const(DefProgram *p, const Stage *s) {
    KTensor *read[256];
    const KExpr *offset;
    int n = stage_reads(p, s, read, 256);
    for (int i = 0; i < n; i++)
        if (!tensor_root(p->m->k, read[i], &offset)->data) return false;
    return true;
}

static void release_inputs(DefProgram *p, const Stage *s) {
    enum { WORTH_IT = 1 << 20 };
    KTensor *read[256];
    const KExpr *offset;
    int n = p->m->release ? stage_reads(p, s, read, 256) : 0;
    for (int i = 0; i < n; i++) {
        const KTensor *t = tensor_root(p->m->k, read[i], &offset);
        if (t->data_bytes >= WORTH_IT) p->m->release(p->m, t->data, t->data_bytes);
    }
}

/* Does the stage depend on a size that is not known, or on an enclosing loop? */
static const KExpr *note_outer_var(KCtx *k, const KExpr *e, void *user) {
    bool *found = user;
    (void)k;
    if (e->op == KO_var && e->u.var->kind == KV_SYMBOL) *found = true;
    return e;
}

static bool needs_sizes(DefProgram *p, Stage *s) {
    bool found = false;
    stage_rewrite(p, s, note_outer_var, &found);
    for (int i = 0; s->out && i < s->out->rank; i++) found |= s->out->dims[i]->op != KO_const_i;
    for (int i = 0; i < s->n_red; i++) found |= s->red_extent[i]->op != KO_const_i;
    return found;
}

bool evaluate_stage(DefProgram *p, Stage *s) {
    KBlock body = {0};
    if (s->form == FORM_REGION || s->n_sizes || !inputs_are_const(p, s) || needs_sizes(p, s))
        return false;
    int n_outs = s->form == FORM_PROGRAM ? s->n_outs : 1;
    for (int i = 0; i < n_outs; i++)
        if (!give_data(p, s->form == FORM_PROGRAM ? s->outs[i] : s->out)) return false;
    stage_open(p, s, &body);
    if (!run(p->m, p, s, body)) BUG("stage '%s' could not be evaluated", s->out->name);
    release_inputs(p, s);
    return true;
}

KTensor *constant_table(DefProgram *p, Stage *s, const char *name, const KExpr *e,
                        KVar *const *axis, const KExpr *const *extent, int n) {
    KTensor *t = program_add_tensor(p, name, e->dtype, n, extent);
    Stage *make = program_add_stage(p, s, FORM_MAP, t, s->node);
    const KExpr *index[MAX_RANK];
    stage_own_index(p->m->k, make, index);
    make->body = k_subst(p->m->k, e, axis, index, n);
    bool good = evaluate_stage(p, make);
    stage_remove(p, make);
    t->def = NULL;
    return good ? t : NULL;
}

static void forget_tensors(Node *n) {
    for (int i = 0; i < n->n_in; i++)
        if (n->in[i]) n->in[i]->tensor = NULL;
    for (int i = 0; i < n->n_out; i++)
        if (n->out[i]) n->out[i]->tensor = NULL;
}

bool evaluate_node(Module *m, Node *n) {
    DefProgram *p = arena_new(m->arena, DefProgram);
    p->m = m;
    p->arena = m->arena;
    Def d = {.p = p, .m = m, .k = m->k, .arena = m->arena, .node = n};
    def_lower(&d);
    bool good = true;
    for (Stage *s = p->first; s && good; s = s->next) good = evaluate_stage(p, s);
    for (int i = 0; good && i < n->n_out; i++) {
        if (!n->out[i]) continue;
        const KTensor *t = n->out[i]->tensor;
        BUG_IF(!t->data, "output %d was not computed", i);
        n->out[i]->data = t->data;
        n->out[i]->data_bytes = t->data_bytes;
    }
    forget_tensors(n);
    return good;
}

KTensor *convert_tensor(DefProgram *p, Conversions *c, Stage *before, KTensor *t, DType to) {
    KCtx *k = p->m->k;
    const KExpr *index[MAX_RANK];
    for (uint32_t i = 0; i < c->from.n; i++)
        if (c->from.at[i] == t) return c->to.at[i];
    KTensor *made = program_add_tensor(p, t->name, to, t->rank, t->dims);
    Stage *s = program_add_stage(p, before, FORM_MAP, made, before->node);
    stage_own_index(k, s, index);
    s->body = k_cast(k, to, k_at(k, t, index, t->rank));
    if (t->data) {
        if (!evaluate_stage(p, s)) BUG("a constant could not be converted");
        stage_remove(p, s);
        made->def = NULL;
    }
    vec_push(p->arena, &c->from, t);
    vec_push(p->arena, &c->to, made);
    return made;
}
