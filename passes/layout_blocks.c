/* assign_layouts: which results have blocks of channels. */
#include "ir/schedule.h"
#include "ir/tile.h"
#include "passes/assign_layouts.h"
#include "passes/join_pixels.h"

/* Rows of at least this part of a vector are worth vectors along them. */
enum { LEAST_LANES = 4 };

bool layout_is_free(const KTensor *t) {
    return t->def && !t->dense_only && !t->data && !t->alias && t->rank >= 3;
}

static bool is_of_convolution(const Stage *s) {
    return s->node && op_has(s->node->op, OPF_CONTRACTS) && op_has(s->node->op, OPF_BLOCKABLE);
}

bool layout_is_windowed(const Stage *s) {
    return s->form == FORM_CONTRACT && is_of_convolution(s);
}

/* Are n elements of t enough of a vector that its other lanes may idle? */
bool layout_fills_lanes(const DefProgram *p, const KTensor *t, int64_t n) {
    return n * LEAST_LANES >= target_lanes(p->m->target, dtype_bytes(t->dtype));
}

/* A phase of a ConvTranspose that no tap meets (stride 2, dilation 2) lies like the others. */
static bool is_phase_without_taps(const Stage *s) {
    if (s->form != FORM_MAP || s->movement || !is_of_convolution(s) || s->out->users.n != 1)
        return false;
    const Stage *user = s->out->users.at[0];
    return user->form == FORM_MAP && user->node == s->node;
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

/* The axis of a convolution's result that has its channels: 1, or the last one where a Transpose
 * became part of its store; else 0. */
static int channel_axis(KCtx *k, const Stage *s) {
    const KExpr *channels = s->node->out[0]->shape.dims[1];
    int last = s->out->rank - 1;
    if (s->out->dims[1] == channels && k_uses_var(k, s->rhs, s->axis[1])) return 1;
    return s->out->dims[last] == channels && k_uses_var(k, s->rhs, s->axis[last]) ? last : 0;
}

bool layout_is_depthwise(KCtx *k, const Stage *s) {
    const KVar *channel = s->axis[channel_axis(k, s)];
    return k_uses_var(k, s->lhs, channel) && k_uses_var(k, s->rhs, channel);
}

/* Does a convolution of the program multiply channels one by one? Then lanes are channels of both
 * factors, and blocks have to be vectors. */
static bool has_depthwise(DefProgram *p) {
    for (const Stage *s = p->first; s; s = s->next)
        if (layout_is_windowed(s) && layout_is_depthwise(p->m->k, s)) return true;
    return false;
}

/* Bytes and 16-bit floats are blocked like the 32-bit sums that they come from and go into, or by
 * what a matrix unit takes at once. */
static int channel_block(DefProgram *p, DType dtype, int64_t channels) {
    const Target *t = p->m->target;
    int bytes = dtype_bytes(dtype);
    int depth = TILE_DEPTH / bytes;
    if (dtype == DT_F16) return target_lanes(t, dtype_bytes(DT_F32));
    if (bytes > 2 || dtype == DT_BOOL) return target_lanes(t, bytes);
    bool whole = channels % depth == 0 && (dtype == DT_BF16 || !has_depthwise(p));
    return t->amx && whole ? depth : target_lanes(t, dtype_bytes(DT_I32));
}

/* The blocks that the channels of a stage's result fill, if it may have any; else 1. */
static int fitting_block(DefProgram *p, const Stage *s) {
    int64_t channels;
    if (!layout_is_free(s->out) || !k_is_int(s->out->dims[1], &channels)) return 1;
    if (layout_is_windowed(s) && channel_axis(p->m->k, s) != 1) return 1;
    int lanes = channel_block(p, s->out->dtype, channels);
    return channels < lanes ? 1 : lanes;
}

/* Are the channels of a convolution's dense result neighbours, enough of them for vectors? */
static bool has_lanes_last(DefProgram *p, const Stage *s) {
    int64_t channels;
    return channel_axis(p->m->k, s) == s->out->rank - 1 &&
           k_is_int(s->out->dims[s->out->rank - 1], &channels) &&
           channels >= channel_block(p, s->out->dtype, channels);
}

typedef struct ChannelRead {
    KCtx *k;
    const Stage *user;
    const KTensor *t;
    bool is_place; /* axis 1 of t is a place of the image */
} ChannelRead;

static void note_channel_read(const KExpr *e, void *user) {
    ChannelRead *r = user;
    const Stage *s = r->user;
    if (e->op != KO_at || e->u.tensor != r->t) return;
    for (int i = 1; i < s->out->rank; i++)
        r->is_place |= i != channel_axis(r->k, s) && k_uses_var(r->k, e->arg[1], s->axis[i]);
}

/* Does the convolution move along axis 1 of t, which then has no channels? They lie last. */
static bool moves_along(KCtx *k, const Stage *user, const KTensor *t) {
    ChannelRead r = {k, user, t, false};
    k_visit(k, user->lhs, note_channel_read, &r);
    return r.is_place;
}

/* A map that makes what a convolution with lanes along channels reads of something dense (a
 * normalization over channels that lie last, a sum) writes blocks, and so does a product whose
 * vectors are channels. */
static bool feeds_blocks(DefProgram *p, const Stage *s) {
    bool makes_channels = s->form == FORM_CONTRACT && s->out->rank > 1 &&
                          k_uses_var(p->m->k, s->rhs, s->axis[1]) &&
                          !k_uses_var(p->m->k, s->lhs, s->axis[1]);
    if (s->form != FORM_MAP && s->form != FORM_REDUCE && !makes_channels) return false;
    for (uint32_t i = 0; i < s->out->users.n; i++) {
        const Stage *user = s->out->users.at[i];
        if (layout_is_windowed(user) && (fitting_block(p, user) > 1 || has_lanes_last(p, user)) &&
            !moves_along(p->m->k, user, s->out))
            return true;
    }
    return false;
}

/* Do only larger dense tensors come of the map? Then blocks are turned around before it: in a
 * Resize along one axis after the other, where there is least of them. */
static bool is_turned_first(const Stage *s) {
    double n = schedule_stage_work(s), all = 0;
    if (s->form != FORM_MAP || !s->out->users.n) return false;
    for (uint32_t i = 0; i < s->out->users.n; i++) {
        const Stage *user = s->out->users.at[i];
        if (user->form != FORM_MAP || !user->out->dense_only) return false;
        all += schedule_stage_work(user);
    }
    return all > n;
}

bool layout_block_channels(DefProgram *p, Stage *s) {
    int lanes = fitting_block(p, s);
    if (lanes <= 1 || (!layout_is_windowed(s) && !passes_channels(p->m->k, s) &&
                       !feeds_blocks(p, s) && !is_phase_without_taps(s)))
        return false;
    if (is_turned_first(s)) return false;
    if (!pass_may_rewrite()) return false;
    pass_count_rewrite();
    s->out->layout.block_axis = 1;
    s->out->layout.block = (int16_t)lanes;
    pass_trace("assign_layouts", s->node, "channels in blocks of %d", lanes);
    return true;
}

/* ---- blocks for maps that read blocks ----
 *
 * Of what has its channels last (tokens that are resized and put beside others) a map writes
 * blocks by whole vectors, and dense rows element by element: it has blocks where all of its
 * readers do. */
typedef struct LastRead {
    KCtx *k;
    const Stage *s;
    int depth;
    bool any, all;
} LastRead;

static bool reads_channels_last(KCtx *k, const Stage *s, int depth);

static void note_last_read(const KExpr *e, void *user) {
    LastRead *r = user;
    const KExpr *base, *coeff;
    if (e->op != KO_at || e->u.tensor->data || e->u.tensor->rank < 2) return;
    const KTensor *t = e->u.tensor;
    const KExpr *channel = k_var(r->k, r->s->axis[1]);
    const KExpr *last = e->arg[t->layout.block > 1 ? t->layout.block_axis : t->rank - 1];
    r->any = true;
    if (t->users.n == 1 && layout_is_free(t) && t->def->form == FORM_MAP && e->arg[1] == channel &&
        reads_channels_last(r->k, t->def, r->depth - 1))
        return; /* it will have blocks, too */
    r->all &= !t->layout.permuted && k_uses_var(r->k, last, r->s->axis[1]) &&
              k_linear_in(r->k, last, r->s->axis[1], &base, &coeff) && k_is_value(coeff, 1);
}

static bool reads_channels_last(KCtx *k, const Stage *s, int depth) {
    LastRead r = {k, s, depth, false, true};
    if (!depth) return false;
    k_visit(k, s->body, note_last_read, &r);
    return r.any && r.all;
}

typedef struct OwnRead {
    KCtx *k;
    const Stage *s;
    const KTensor *t;
    int block;
    bool fits;
} OwnRead;

static void note_own_read(const KExpr *e, void *user) {
    OwnRead *r = user;
    const KExpr *base, *coeff;
    int64_t from;
    if (e->op != KO_at || e->u.tensor != r->t) return;
    r->fits &= k_linear_in(r->k, e->arg[1], r->s->axis[1], &base, &coeff) && k_is_value(coeff, 1) &&
               k_is_int(base, &from) && from % r->block == 0;
}

static bool is_read_in_blocks(KCtx *k, const KTensor *t, int block) {
    for (uint32_t i = 0; i < t->users.n; i++) {
        const Stage *user = t->users.at[i];
        OwnRead r = {k, user, t, block, true};
        bool has_blocks = user->form == FORM_MAP && user->out->layout.block == block &&
                          user->out->layout.block_axis == 1;
        if (!has_blocks) return false;
        k_visit(k, user->body, note_own_read, &r);
        if (!r.fits) return false;
    }
    return t->users.n > 0;
}

bool layout_block_for_readers(DefProgram *p, Stage *s) {
    KCtx *k = p->m->k;
    enum { CHAIN = 4 };
    if (s->form != FORM_MAP || s->out->layout.block > 1) return false;
    int lanes = fitting_block(p, s);
    if (lanes <= 1 || !is_read_in_blocks(k, s->out, lanes)) return false;
    if (!reads_channels_last(k, s, CHAIN) || !pass_may_rewrite()) return false;
    pass_count_rewrite();
    s->out->layout.block_axis = 1;
    s->out->layout.block = (int16_t)lanes;
    pass_trace("assign_layouts", s->node, "channels in blocks of %d, as readers have them", lanes);
    return true;
}

/* ---- dense results ----
 *
 * What leaves the program is dense, with lanes along its rows. A convolution that makes it of
 * blocks would have to pack every window that it reads. Instead, it makes blocks, too, and a map
 * turns them around; or, where the channels fill no vector, what it reads is turned around, once.
 * Windows of one tap over a dense tensor need neither (join_pixels.c).
 */

bool layout_block_dense_result(DefProgram *p, Stage *s) {
    KTensor *dense = s->out;
    int64_t channels;
    if (!layout_is_windowed(s) || !dense->dense_only || dense->alias || dense->rank < 3)
        return false;
    if (join_pixels(p, s)) return true;
    if (!k_is_int(dense->dims[1], &channels) || channels < channel_block(p, dense->dtype, channels))
        return false;
    if (!pass_may_rewrite()) return false;
    pass_count_rewrite();
    s->out = program_add_tensor(p, dense->name, dense->dtype, dense->rank, dense->dims);
    s->out->def = s;
    program_add_copy(p, s->next, dense, s->out, s->node);
    return true;
}
