/* assign_layouts: samples in blocks of channels, maps that read a tensor at computed places.
 *
 *   y[n, c, p..] = sum over taps of weight(n, p..) * x[n, c, place(n, p..)]
 *
 * Lanes along the places would gather each of their vectors. With channels in blocks, of both x and
 * y, a vector is a load, and places and weights are computed once for all lanes: the columns of a
 * DeformConv, or a GridSample of many channels. Copies turn x, and y where it has to be dense:
 *
 *   x_2: blocked 1 by 16 = x[i, j, k, l]
 *   y_2: blocked 1 by 16 = map ... x_2[i, j, i64(floor(..)), ..]
 *   y: dense = y_2[i, j, k, l] */
#include "ir/schedule.h"
#include "passes/assign_layouts.h"

typedef struct Sampled {
    KCtx *k;
    const Stage *s;
    KTensor *t;
    int n_reads; /* of t, for one element */
} Sampled;

static void note_float(const KExpr *e, void *user) {
    *(bool *)user |= dtype_is_float(e->dtype);
}

static void note_sample(const KExpr *e, void *user) {
    Sampled *r = user;
    bool is_computed = false;
    if (e->op != KO_at || e->u.tensor->rank < 3 || e->u.tensor->data) return;
    const KTensor *t = e->u.tensor;
    if (t->layout.block > 1 || t->dims[1] != r->s->out->dims[1] ||
        e->arg[1] != k_var(r->k, r->s->axis[1]))
        return;
    for (int i = 2; i < t->rank; i++) k_visit(r->k, e->arg[i], note_float, &is_computed);
    if (!is_computed) return;
    r->t = e->u.tensor;
    r->n_reads++;
}

static Sampled sampled(KCtx *k, const Stage *s) {
    Sampled r = {k, s, NULL, 0};
    if (s->form == FORM_MAP) k_visit(k, s->body, note_sample, &r);
    return r;
}

/* Does the map gather so many elements that copies of x and y take less? An element that is
 * gathered costs as much as GATHER that are copied. */
static bool is_worth_copies(const Sampled *r) {
    enum { SOME = 256, GATHER = 4 };
    double x = 1, y = schedule_stage_work(r->s);
    for (int i = 0; i < r->t->rank; i++) x *= (double)k_guess(r->t->dims[i], SOME);
    return r->n_reads * y * GATHER > x;
}

bool layout_block_dense_samples(DefProgram *p, Stage *s) {
    KTensor *dense = s->out;
    int64_t channels;
    if (s->form != FORM_MAP || !dense->dense_only || dense->alias || dense->rank < 3) return false;
    Sampled r = sampled(p->m->k, s);
    int bytes = dtype_bytes(dense->dtype), word = dtype_bytes(DT_F32);
    int lanes = target_lanes(p->m->target, bytes < word ? word : bytes);
    if (!r.t || dtype_is_wide(dense->dtype) || lanes <= 1 || !k_is_int(dense->dims[1], &channels) ||
        channels < lanes || r.t->dtype != dense->dtype || !is_worth_copies(&r) ||
        !pass_may_rewrite())
        return false;
    pass_count_rewrite();
    s->out = program_add_tensor(p, dense->name, dense->dtype, dense->rank, dense->dims);
    s->out->def = s;
    s->out->layout.block_axis = 1;
    s->out->layout.block = (int16_t)lanes;
    program_add_copy(p, s->next, dense, s->out, s->node);
    pass_trace("assign_layouts", s->node, "samples in blocks of %d channels", lanes);
    return true;
}

bool layout_copy_samples(DefProgram *p, Stage *s) {
    KCtx *k = p->m->k;
    if (s->out->layout.block <= 1 || s->out->layout.block_axis != 1) return false;
    Sampled r = sampled(k, s);
    if (!r.t || !pass_may_rewrite()) return false;
    pass_count_rewrite();
    KTensor *copy = program_add_tensor(p, r.t->name, r.t->dtype, r.t->rank, r.t->dims);
    copy->layout.block_axis = 1;
    copy->layout.block = s->out->layout.block;
    program_add_copy(p, s, copy, r.t, s->node);
    s->body = layout_redirect(k, s->body, r.t, copy);
    pass_trace("assign_layouts", s->node, "samples a copy in blocks");
    return true;
}
