/* assign_layouts: blocked channels and zero halos for convolution nets.
 *
 * A convolution's result is stored in blocks of one vector of channels (NCHWc), and so is whatever
 * passes channels through (pooling, activations, additions). No conversion node exists: a stage
 * that reads a blocked tensor just indexes it so. Tensors that convolutions read beyond their
 * border get a halo of zeros around them, so that the interior and the border run the same code
 * without tests.
 *
 * Requires definitions. Leaves KTensor.layout of the tensors inside each program; inputs, outputs
 * and what programs read stay dense. Not done: layouts across regions. */
#include "passes/pass.h"

enum { MAX_HALO = 16 };

static bool has_free_layout(const KTensor *t) {
    return t->def && !t->dense_only && !t->data && !t->alias && t->rank >= 3;
}

static bool is_windowed(const Stage *s) {
    return s->form == FORM_CONTRACT && s->node && op_has(s->node->op, OPF_CONTRACTS) &&
           op_has(s->node->op, OPF_BLOCKABLE);
}

typedef struct PassThrough {
    const Stage *s;
    bool found;
} PassThrough;

/* Reads a blocked tensor with its own channel index: channels pass through. */
static void note_pass_through(const KExpr *e, void *user) {
    PassThrough *pt = user;
    if (e->op != KO_at || e->u.tensor->layout.block <= 1) return;
    const KExpr *channel = e->arg[e->u.tensor->layout.block_axis];
    if (channel->op == KO_var && channel->u.var == pt->s->axis[1]) pt->found = true;
}

static bool passes_channels(KCtx *k, const Stage *s) {
    PassThrough pt = {s, false};
    if (s->form != FORM_MAP && s->form != FORM_REDUCE) return false;
    k_visit(k, s->body, note_pass_through, &pt);
    if (s->finish) k_visit(k, s->finish, note_pass_through, &pt);
    return pt.found;
}

static bool block_channels(DefProgram *p, Stage *s) {
    int64_t channels;
    int lanes = target_lanes(p->m->target, dtype_bytes(s->out->dtype));
    if (!has_free_layout(s->out) || lanes <= 1) return false;
    if (!k_is_int(s->out->dims[1], &channels) || channels < lanes) return false;
    if (!is_windowed(s) && !passes_channels(p->m->k, s)) return false;
    if (is_windowed(s) && s->out->dims[1] != s->node->out[0]->shape.dims[1]) return false;
    if (!pass_may_rewrite()) return false;
    pass_count_rewrite();
    s->out->layout.block_axis = 1;
    s->out->layout.block = (int16_t)lanes;
    pass_trace("assign_layouts", s->node, "channels in blocks of %d", lanes);
    return true;
}

typedef struct Halo {
    DefProgram *p;
    const Stage *s; /* that reads */
    bool changed;
} Halo;

/* How much further a read along t's last axis goes when the stage's last axis, read one by one, is
 * filled up to whole vectors: dense rows whose last vector sticks out. */
static int64_t lanes_beyond(const Halo *h, const KExpr *index) {
    KCtx *k = h->p->m->k;
    const KTensor *out = h->s->out;
    const KExpr *base, *coeff;
    int64_t n, lanes = target_lanes(h->p->m->target, dtype_bytes(out->dtype));
    if (out->layout.block > 1 || lanes <= 1 || !k_is_int(out->dims[out->rank - 1], &n)) return 0;
    if (n < lanes || !k_linear_in(k, index, h->s->axis[out->rank - 1], &base, &coeff) ||
        !k_is_value(coeff, 1))
        return 0;
    return (n + lanes - 1) / lanes * lanes - n;
}

/* Widens the halo of a tensor that is read with a predicate beyond its border. */
static void note_halo(const KExpr *e, void *user) {
    Halo *h = user;
    if (e->op != KO_at || !at_pred(e) || !has_free_layout(e->u.tensor)) return;
    KTensor *t = e->u.tensor;
    int64_t dim, before[MAX_RANK] = {0}, after[MAX_RANK] = {0};
    for (int a = 0; a < t->rank; a++) {
        if (!k_is_int(t->dims[a], &dim)) return;
        if (e->arg[a]->lo == INT64_MIN || e->arg[a]->hi == INT64_MAX) return;
        if (e->arg[a]->lo < 0) before[a] = -e->arg[a]->lo;
        if (e->arg[a]->hi >= dim) after[a] = e->arg[a]->hi - dim + 1;
        int64_t more = after[a] && a == t->rank - 1 ? lanes_beyond(h, e->arg[a]) : 0;
        if (after[a] + more <= MAX_HALO && before[a] + after[a] + more <= dim) after[a] += more;
        if (before[a] > MAX_HALO || after[a] > MAX_HALO) return;
        if ((before[a] || after[a]) && (t->layout.block > 1 && t->layout.block_axis == a)) return;
        if (before[a] + after[a] > dim) return;
    }
    for (int a = 0; a < t->rank; a++) {
        uint8_t *halo = t->layout.halo[a];
        if (before[a] > halo[0]) halo[0] = (uint8_t)before[a];
        if (after[a] > halo[1]) halo[1] = (uint8_t)after[a];
        t->layout.has_halo |= halo[0] || halo[1];
    }
    h->changed = true;
}

/* A contraction that reads an input of the model beyond its border: the input gets a copy that can
 * have a halo. */
typedef struct BorderRead {
    KTensor *t;
} BorderRead;

static void note_border_read(const KExpr *e, void *user) {
    BorderRead *b = user;
    if (e->op == KO_at && at_pred(e) && !has_free_layout(e->u.tensor) && !e->u.tensor->data &&
        e->u.tensor->rank >= 3 && shape_is_const((Shape){e->u.tensor->rank, e->u.tensor->dims}))
        b->t = e->u.tensor;
}

typedef struct Redirect {
    KTensor *from, *to;
} Redirect;

static const KExpr *redirect_read(KCtx *k, const KExpr *e, void *user) {
    const Redirect *r = user;
    return e->op == KO_at && e->u.tensor == r->from ? k_at(k, r->to, e->arg, e->n_args) : e;
}

static bool copy_for_halo(DefProgram *p, Stage *s) {
    KCtx *k = p->m->k;
    BorderRead b = {NULL};
    k_visit(k, s->lhs, note_border_read, &b);
    if (!b.t) return false;
    KTensor *copy = program_add_tensor(p, b.t->name, b.t->dtype, b.t->rank, b.t->dims);
    Stage *c = program_add_stage(p, s, FORM_MAP, copy, s->node);
    const KExpr *index[MAX_RANK];
    for (int i = 0; i < copy->rank; i++)
        index[i] = k_is_value(copy->dims[i], 1) ? k_int(k, 0) : k_var(k, c->axis[i]);
    c->body = k_at(k, b.t, index, copy->rank);
    c->movement = true;
    Redirect r = {b.t, copy};
    s->lhs = k_rewrite(k, s->lhs, redirect_read, &r);
    return true;
}

static void layout_program(DefProgram *p, void *user) {
    bool *changed = user;
    Halo halo = {p, NULL, false};
    for (Stage *s = p->first; s; s = s->next)
        if (s->form != FORM_PROGRAM && s->form != FORM_REGION) *changed |= block_channels(p, s);
    for (Stage *s = p->first; s; s = s->next) {
        if (!is_windowed(s)) continue;
        *changed |= copy_for_halo(p, s);
        halo.s = s;
        k_visit(p->m->k, s->lhs, note_halo, &halo);
    }
    *changed |= halo.changed;
}

bool pass_assign_layouts(Module *m) {
    bool changed = false;
    program_count_users(m->defs);
    program_visit(m->defs, layout_program, &changed);
    return changed;
}
