/* assign_layouts: blocked channels and zero halos for convolution nets.
 *
 * A convolution's result is stored in blocks of one vector of channels (NCHWc), and so is whatever
 * passes channels through (pooling, activations, additions) and a map that such a convolution
 * reads. No conversion node exists: a stage that reads a blocked tensor just indexes it so. Tensors
 * that convolutions read beyond their border get a halo of zeros around them, so that the interior
 * and the border run the same code without tests.
 *
 * Requires definitions. Leaves KTensor.layout of the tensors inside each program; inputs, outputs
 * and what programs read stay dense. Not done: layouts across regions. */
#include "ir/schedule.h"
#include "ir/tile.h"
#include "ir/winograd.h"
#include "passes/halos.h"
#include "passes/integers.h"
#include "passes/join_pixels.h"
#include "passes/pass.h"

/* A halo may be wider than MAX_HALO where the tensor does not grow beyond HALO_GROWTH for it. */
enum { MAX_HALO = 16, MAX_WIDE_HALO = 1024, HALO_GROWTH = 2, SOME = 256 };

/* Rows of at least this part of a vector are worth vectors along them. */
enum { LEAST_LANES = 4 };

static bool has_free_layout(const KTensor *t) {
    return t->def && !t->dense_only && !t->data && !t->alias && t->rank >= 3;
}

static bool is_of_convolution(const Stage *s) {
    return s->node && op_has(s->node->op, OPF_CONTRACTS) && op_has(s->node->op, OPF_BLOCKABLE);
}

static bool is_windowed(const Stage *s) {
    return s->form == FORM_CONTRACT && is_of_convolution(s);
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

static bool is_depthwise(KCtx *k, const Stage *s) {
    const KVar *channel = s->axis[channel_axis(k, s)];
    return k_uses_var(k, s->lhs, channel) && k_uses_var(k, s->rhs, channel);
}

/* Does a convolution of the program multiply channels one by one? Then lanes are channels of both
 * factors, and blocks have to be vectors. */
static bool has_depthwise(DefProgram *p) {
    for (const Stage *s = p->first; s; s = s->next)
        if (is_windowed(s) && is_depthwise(p->m->k, s)) return true;
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
    if (!has_free_layout(s->out) || !k_is_int(s->out->dims[1], &channels)) return 1;
    if (is_windowed(s) && channel_axis(p->m->k, s) != 1) return 1;
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
        if (is_windowed(user) && (fitting_block(p, user) > 1 || has_lanes_last(p, user)) &&
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

static bool block_channels(DefProgram *p, Stage *s) {
    int lanes = fitting_block(p, s);
    if (lanes <= 1 || (!is_windowed(s) && !passes_channels(p->m->k, s) && !feeds_blocks(p, s) &&
                       !is_phase_without_taps(s)))
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
    if (t->users.n == 1 && has_free_layout(t) && t->def->form == FORM_MAP && e->arg[1] == channel &&
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

static bool block_for_readers(DefProgram *p, Stage *s) {
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

typedef struct Halo {
    DefProgram *p;
    const Stage *s; /* that reads */
    int32_t value;  /* of what is read there */
    bool changed;
} Halo;

/* Where bytes of a depthwise window are taken in fours: how far the last four go beyond it. */
static int64_t taps_beyond(const Halo *h, const KExpr *index) {
    KCtx *k = h->p->m->k;
    const Stage *s = h->s;
    const KExpr *base, *coeff;
    int64_t n, step;
    bool in_fours = h->p->m->target->dot4 && s->acc->dtype == DT_I32 && is_depthwise(k, s);
    for (int r = 0; in_fours && r < s->n_red; r++)
        if (k_uses_var(k, index, s->red[r]) && k_linear_in(k, index, s->red[r], &base, &coeff) &&
            k_is_int(coeff, &step) && k_is_int(s->red_extent[r], &n) && step > 0 && n > 1)
            return (4 - n % 4) % 4 * step;
    return 0;
}

/* Are n elements of t enough of a vector that its other lanes may idle? */
static bool fills_lanes(const DefProgram *p, const KTensor *t, int64_t n) {
    return n * LEAST_LANES >= target_lanes(p->m->target, dtype_bytes(t->dtype));
}

/* How much further a read along t's last axis goes when the stage's last axis, read one by one, is
 * filled up to whole vectors: dense rows whose last vector sticks out. */
static int64_t lanes_beyond(const Halo *h, const KExpr *index) {
    KCtx *k = h->p->m->k;
    int64_t taps = taps_beyond(h, index);
    if (taps) return taps;
    const KTensor *out = h->s->out;
    const KExpr *base, *coeff;
    int64_t n, lanes = target_lanes(h->p->m->target, dtype_bytes(out->dtype));
    if (out->layout.block > 1 || lanes <= 1 || !k_is_int(out->dims[out->rank - 1], &n)) return 0;
    if (!fills_lanes(h->p, out, n) ||
        !k_linear_in(k, index, h->s->axis[out->rank - 1], &base, &coeff) || !k_is_value(coeff, 1))
        return 0;
    return (n + lanes - 1) / lanes * lanes - n;
}

/* Is a halo this wide worth its memory? */
static bool is_small_halo(const KTensor *t, const int64_t *before, const int64_t *after) {
    double growth = 1;
    int64_t dim;
    bool is_wide = false;
    for (int a = 0; a < t->rank; a++) {
        int64_t both = before[a] + after[a];
        is_wide |= before[a] > MAX_HALO || after[a] > MAX_HALO;
        if (both > MAX_WIDE_HALO) return false;
        if (k_is_int(t->dims[a], &dim) && both > dim) return false;
        dim = k_guess(t->dims[a], SOME);
        growth *= (double)(dim + both) / (double)(dim ? dim : 1);
    }
    return !is_wide || growth <= HALO_GROWTH;
}

/* Where the window is too wide for a halo, one along the rows only: whether rows above and below
 * are inside is asked around all steps of a tap, but within a row it would be at each element.
 * Taps that see nothing are gone, so it is less than two rows more for each. */
static bool keep_row_halo(const KTensor *t, int64_t *before, int64_t *after) {
    int last = t->rank - 1;
    int64_t dim, beside = before[last] + after[last];
    for (int a = 0; a < last; a++) before[a] = after[a] = 0;
    return t->layout.block > 1 && beside > 0 && beside <= MAX_WIDE_HALO &&
           k_is_int(t->dims[last], &dim) && before[last] < dim && after[last] < dim &&
           shape_is_const((Shape){t->rank, t->dims});
}

/* A halo of this value as wide as e, a read of stage s, needs it, and `more` elements wider at the
 * end of the last axis if that fits. s may be NULL where all sizes are known. */
static void grow_halo(KCtx *k, const Stage *s, const KExpr *e, int32_t value, int64_t more,
                      bool *changed) {
    KTensor *t = e->u.tensor;
    int64_t reach[2], before[MAX_RANK] = {0}, after[MAX_RANK] = {0}, dim;
    int last = t->rank - 1;
    if (t->layout.has_halo && t->layout.halo_value != value) return;
    for (int a = 0; a < t->rank; a++) {
        if (!halo_reach(k, s, e, a, reach)) return;
        before[a] = reach[0];
        after[a] = reach[1];
        if ((before[a] || after[a]) && (t->layout.block > 1 && t->layout.block_axis == a)) return;
    }
    if (after[last] && k_is_int(t->dims[last], &dim) && after[last] + more <= MAX_WIDE_HALO &&
        before[last] + after[last] + more <= dim)
        after[last] += more;
    if (!is_small_halo(t, before, after) && !keep_row_halo(t, before, after)) return;
    for (int a = 0; a < t->rank; a++) {
        uint16_t *halo = t->layout.halo[a];
        if (before[a] > halo[0]) halo[0] = (uint16_t)before[a];
        if (after[a] > halo[1]) halo[1] = (uint16_t)after[a];
        t->layout.has_halo |= halo[0] || halo[1];
        t->layout.halo_value = value;
    }
    *changed = true;
}

void widen_halo(KCtx *k, const Stage *s, const KExpr *e, int32_t value, bool *changed) {
    grow_halo(k, s, e, value, 0, changed);
}

/* Widens the halo of a tensor that is read with a predicate beyond its border. */
static void note_halo(const KExpr *e, void *user) {
    Halo *h = user;
    if (e->op == KO_at && at_pred(e) && has_free_layout(e->u.tensor))
        grow_halo(h->p->m->k, h->s, e, h->value, lanes_beyond(h, e->arg[e->u.tensor->rank - 1]),
                  &h->changed);
}

/* Integers that count as 0 outside are their zero point there: inside ? i32(x[..]) - 3 : 0 is
 * i32(x[..]) - 3 where x has a halo of threes. */
static bool quantized_border(KCtx *k, const Stage *s, IntFactor *f) {
    if (s->acc->dtype != DT_I32 || !match_int_factor(k, s->lhs, f) || !f->inside) return false;
    return !f->zero || (f->zero->op == KO_const_i && f->at->dtype == DT_U8 && f->zero->u.i >= 0 &&
                        f->zero->u.i <= 255);
}

static bool drop_border(DefProgram *p, Stage *s) {
    KCtx *k = p->m->k;
    IntFactor f;
    if (!quantized_border(k, s, &f)) return false;
    int32_t value = f.zero ? (int32_t)f.zero->u.i : 0;
    if (f.inside != at_pred(f.at) || at_pred_beyond_halo(k, f.at, value)) return false;
    s->lhs = k_cast(k, DT_I32, drop_predicate(k, f.at, f.inside));
    if (f.zero) s->lhs = k_sub(k, s->lhs, f.zero);
    return true;
}

/* ---- dense results ----
 *
 * What leaves the program is dense, with lanes along its rows. A convolution that makes it of
 * blocks would have to pack every window that it reads. Instead, it makes blocks, too, and a map
 * turns them around; or, where the channels fill no vector, what it reads is turned around, once.
 * Windows of one tap over a dense tensor need neither (join_pixels.c).
 */

static bool block_dense_result(DefProgram *p, Stage *s) {
    KTensor *dense = s->out;
    int64_t channels;
    if (!is_windowed(s) || !dense->dense_only || dense->alias || dense->rank < 3) return false;
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

/* A contraction that reads an input of the model beyond its border: the input gets a copy that can
 * have a halo. One whose result is too narrow for blocks of channels, with a window over blocked
 * ones: its vectors lie along the last axis, where it reads a dense copy in place. One that
 * multiplies channels one by one, with a result in blocks, would gather each vector from a dense
 * tensor: its copy is in blocks, too, and so is that of one which Winograd's filtering may take. */
typedef struct CopyRead {
    DefProgram *p;
    const Stage *s;
    KTensor *t;
    bool in_blocks; /* should the copy be? */
} CopyRead;

static bool is_reach_known(KCtx *k, const Stage *s, const KExpr *at) {
    int64_t reach[2];
    for (int a = 0; a < at->u.tensor->rank; a++)
        if (!halo_reach(k, s, at, a, reach)) return false;
    return true;
}

/* Could lanes lie along the last axis, neighbours of the result reading neighbours? */
static bool walks_rows(DefProgram *p, const Stage *s, const KExpr *at) {
    const KExpr *base, *coeff;
    const Target *target = p->m->target;
    int last = s->out->rank - 1, least = dtype_bytes(s->out->dtype);
    int64_t n;
    if (!k_is_int(s->out->dims[last], &n)) { /* masks end its rows */
        if (!target->mask_bytes || least < target->mask_bytes) return false;
        n = k_guess(s->out->dims[last], target_lanes(target, least));
    }
    return fills_lanes(p, s->out, n) &&
           k_linear_in(p->m->k, at->arg[at->u.tensor->rank - 1], s->axis[last], &base, &coeff) &&
           k_is_value(coeff, 1);
}

/* Does the window have several taps, so that an element is read for several of the result? */
static bool has_taps(KCtx *k, const Stage *s, const KExpr *at) {
    for (int a = 2; a < at->u.tensor->rank; a++)
        for (int r = 0; r < s->n_red; r++)
            if (k_uses_var(k, at->arg[a], s->red[r]) && !k_is_value(s->red_extent[r], 1))
                return true;
    return false;
}

/* Does another phase of the same convolution read it, too? Then they share a copy. */
static bool has_siblings(const Stage *s) {
    return (s->next && s->next->node == s->node && is_windowed(s->next)) ||
           (s->prev && s->prev->node == s->node && is_windowed(s->prev));
}

/* Does a depthwise convolution with lanes along channels read its own channel where these are no
 * neighbours? */
static bool gathers_channels(KCtx *k, const Stage *s, const KExpr *at) {
    return s->out->layout.block > 1 && s->out->layout.block_axis == 1 &&
           at->u.tensor->layout.block <= 1 && at->u.tensor->rank == s->out->rank &&
           at->arg[1] == k_var(k, s->axis[1]) && is_depthwise(k, s);
}

/* Could a convolution with a result in blocks be filtered by Winograd if it read whole blocks? */
static bool filters_blocks(DefProgram *p, const Stage *s, const KExpr *at) {
    WinogradForm f;
    int lanes = s->out->layout.block;
    return p->m->winograd && lanes > 1 && at->u.tensor->layout.block <= 1 &&
           s->out->dtype == DT_F32 && at->u.tensor->dtype == DT_F32 && winograd_match(p, s, &f) &&
           f.channels % lanes == 0;
}

static void note_copy_read(const KExpr *e, void *user) {
    CopyRead *c = user;
    if (e->op != KO_at || e->u.tensor->rank < 3 || e->u.tensor->data) return;
    KCtx *k = c->p->m->k;
    c->in_blocks = gathers_channels(k, c->s, e);
    bool narrow = e->u.tensor->layout.block > 1 && c->s->out->layout.block <= 1;
    bool border = at_pred(e) && !has_free_layout(e->u.tensor);
    bool wanted = border || (narrow && (has_taps(k, c->s, e) || has_siblings(c->s)) &&
                             walks_rows(c->p, c->s, e));
    c->in_blocks |= border && filters_blocks(c->p, c->s, e);
    if (c->in_blocks || (wanted && is_reach_known(k, c->s, e))) c->t = e->u.tensor;
}

typedef struct Redirect {
    KTensor *from, *to;
} Redirect;

static const KExpr *redirect_read(KCtx *k, const KExpr *e, void *user) {
    const Redirect *r = user;
    return e->op == KO_at && e->u.tensor == r->from ? k_at(k, r->to, e->arg, e->n_args) : e;
}

/* The copy of t that another stage of the same node reads: phases share one. */
static KTensor *earlier_copy(const Stage *s, const KTensor *t) {
    for (const Stage *c = s->prev; c && c->node == s->node; c = c->prev)
        if (c->form == FORM_MAP && c->movement && c->body->op == KO_at && c->body->u.tensor == t &&
            c->out->rank == t->rank && !c->out->value)
            return c->out;
    return NULL;
}

static bool copy_for_halo(DefProgram *p, Stage *s) {
    KCtx *k = p->m->k;
    CopyRead b = {p, s, NULL, false};
    k_visit(k, s->lhs, note_copy_read, &b);
    if (!b.t) return false;
    /* bytes become words, but for channels one by one */
    if (!b.in_blocks && match_int_factor(k, s->lhs, &(IntFactor){0})) return false;
    if (has_free_layout(b.t) && b.t->def->form == FORM_MAP && b.t->users.n == 1 && !b.in_blocks) {
        b.t->layout.block = 0; /* nobody else wants blocks */
        return true;
    }
    Redirect r = {b.t, b.in_blocks ? NULL : earlier_copy(s, b.t)};
    if (!r.to) {
        r.to = program_add_tensor(p, b.t->name, b.t->dtype, b.t->rank, b.t->dims);
        if (b.in_blocks) r.to->layout = s->out->layout;
        program_add_copy(p, s, r.to, r.from, s->node);
    }
    s->lhs = k_rewrite(k, s->lhs, redirect_read, &r);
    return true;
}

/* ---- samples ----
 *
 * A map in blocks of channels that reads a dense tensor at computed places (the columns of a
 * DeformConv) would gather each vector: it gets a copy in blocks, of which vectors are loads. */
typedef struct Sampled {
    KCtx *k;
    const Stage *s;
    KTensor *t;
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
    if (is_computed) r->t = e->u.tensor;
}

static bool copy_samples(DefProgram *p, Stage *s) {
    KCtx *k = p->m->k;
    Sampled r = {k, s, NULL};
    if (s->form != FORM_MAP || s->out->layout.block <= 1 || s->out->layout.block_axis != 1)
        return false;
    k_visit(k, s->body, note_sample, &r);
    if (!r.t || !pass_may_rewrite()) return false;
    pass_count_rewrite();
    Redirect to = {r.t, program_add_tensor(p, r.t->name, r.t->dtype, r.t->rank, r.t->dims)};
    to.to->layout.block_axis = 1;
    to.to->layout.block = s->out->layout.block;
    program_add_copy(p, s, to.to, to.from, s->node);
    s->body = k_rewrite(k, s->body, redirect_read, &to);
    pass_trace("assign_layouts", s->node, "samples a copy in blocks");
    return true;
}

/* ---- parts of blocks ----
 *
 * A convolution that multiplies channels one by one and reads those of a part that begins within a
 * block would put each vector together of two at every tap: it gets a copy of the part. */
typedef struct PartRead {
    KCtx *k;
    const Stage *s;
    const KExpr *at;
} PartRead;

static void note_part_read(const KExpr *e, void *user) {
    PartRead *r = user;
    const KExpr *base, *coeff;
    int64_t from;
    if (e->op != KO_at || e->u.tensor->layout.block <= 1 || e->u.tensor->rank != r->s->out->rank)
        return;
    if (e->u.tensor->layout.block_axis == 1 &&
        k_linear_in(r->k, e->arg[1], r->s->axis[1], &base, &coeff) && k_is_value(coeff, 1) &&
        k_is_int(base, &from) && from % e->u.tensor->layout.block)
        r->at = e;
}

static const KExpr *read_part(KCtx *k, const KExpr *e, void *user) {
    const PartRead *r = user;
    const KExpr *index[MAX_RANK + 1];
    if (e != r->at) return e;
    for (int i = 0; i < e->n_args; i++) index[i] = e->arg[i];
    index[1] = k_var(k, r->s->axis[1]);
    return k_at(k, r->s->prev->out, index, e->n_args);
}

static bool copy_part(DefProgram *p, Stage *s) {
    KCtx *k = p->m->k;
    PartRead r = {k, s, NULL};
    const KExpr *index[MAX_RANK], *dims[MAX_RANK], *base, *coeff;
    if (s->out->layout.block <= 1 || !k_uses_var(k, s->rhs, s->axis[1])) return false;
    k_visit(k, s->lhs, note_part_read, &r);
    if (!r.at) return false;
    KTensor *t = r.at->u.tensor;
    for (int i = 0; i < t->rank; i++) dims[i] = t->dims[i];
    dims[1] = s->out->dims[1];
    KTensor *part = program_add_tensor(p, t->name, t->dtype, t->rank, dims);
    part->layout.block_axis = 1;
    part->layout.block = t->layout.block;
    k_linear_in(k, r.at->arg[1], s->axis[1], &base, &coeff);
    Stage *copy = program_add_copy(p, s, part, t, s->node);
    for (int i = 0; i < t->rank; i++) index[i] = k_var(k, copy->axis[i]);
    index[1] = k_add(k, index[1], base);
    copy->body = k_at(k, t, index, t->rank);
    s->lhs = k_rewrite(k, s->lhs, read_part, &r);
    pass_trace("assign_layouts", s->node, "reads a copy of its part of the channels");
    return true;
}

static void layout_program(DefProgram *p, void *user) {
    bool *changed = user;
    Halo halo = {.p = p};
    IntFactor f;
    for (Stage *s = p->first, *next; s; s = next) {
        next = s->next;
        *changed |= block_dense_result(p, s);
    }
    program_count_users(p);
    for (Stage *s = p->first; s; s = s->next)
        if (s->form != FORM_PROGRAM && s->form != FORM_REGION) *changed |= block_channels(p, s);
    for (Stage *s = p->last; s; s = s->prev) *changed |= block_for_readers(p, s);
    for (Stage *s = p->first; s; s = s->next) {
        *changed |= copy_samples(p, s);
        if (!is_windowed(s)) continue;
        *changed |= copy_part(p, s);
        /* tests whose needlessness free sizes hide */
        s->lhs = drop_covered(p->m->k, s, s->lhs);
        *changed |= copy_for_halo(p, s);
        halo.s = s;
        halo.value = quantized_border(p->m->k, s, &f) && f.zero ? (int32_t)f.zero->u.i : 0;
        k_visit(p->m->k, s->lhs, note_halo, &halo);
    }
    for (Stage *s = p->first; s; s = s->next)
        if (is_windowed(s)) {
            *changed |= drop_border(p, s);
            s->lhs = drop_covered(p->m->k, s, s->lhs);
        }
    *changed |= halo.changed;
}

bool pass_assign_layouts(Module *m) {
    bool changed = false;
    program_count_users(m->defs);
    program_visit(m->defs, layout_program, &changed);
    return changed;
}
