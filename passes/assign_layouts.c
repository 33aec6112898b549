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
#include "passes/assign_layouts.h"
#include "passes/halos.h"
#include "passes/integers.h"

/* A halo may be wider than MAX_HALO where the tensor does not grow beyond HALO_GROWTH for it. */
enum { MAX_HALO = 16, MAX_WIDE_HALO = 1024, HALO_GROWTH = 2, SOME = 256 };

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
    bool in_fours = h->p->m->target->dot4 && s->acc->dtype == DT_I32 && layout_is_depthwise(k, s);
    for (int r = 0; in_fours && r < s->n_red; r++)
        if (k_uses_var(k, index, s->red[r]) && k_linear_in(k, index, s->red[r], &base, &coeff) &&
            k_is_int(coeff, &step) && k_is_int(s->red_extent[r], &n) && step > 0 && n > 1)
            return (4 - n % 4) % 4 * step;
    return 0;
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
    if (!layout_fills_lanes(h->p, out, n) ||
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
    if (t->layout.block <= 1 || beside <= 0 || beside > MAX_WIDE_HALO) return false;
    if (!k_is_int(t->dims[last], &dim) || before[last] >= dim || after[last] >= dim) return false;
    if (!shape_is_const((Shape){t->rank, t->dims})) return false;
    for (int a = 0; a < last; a++) before[a] = after[a] = 0;
    return true;
}

/* Does stage s sum over so many rows beyond t that it had better ask for each tap? Of three taps,
 * those beyond it are a third of the halo's share of the map. Rows that fill no tile are not worth
 * that: tiles of several would have to agree. */
static bool sums_many_zeros(KCtx *k, const Stage *s, const KTensor *t, const int64_t *before,
                            const int64_t *after) {
    enum { LEAST_PERCENT = 60 /* of the map */, LEAST_ROW = 12 };
    int64_t dim;
    if (!s || s->acc->dtype != DT_F32 || layout_is_depthwise(k, s)) return false;
    if (!k_is_int(t->dims[t->rank - 1], &dim) || dim < LEAST_ROW) return false;
    for (int a = 2; a < t->rank - 1; a++)
        if (k_is_int(t->dims[a], &dim) && 100 * (before[a] + after[a]) >= LEAST_PERCENT * dim)
            return s->rhs->op == KO_at && s->rhs->u.tensor->data;
    return false;
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
    bool is_small = is_small_halo(t, before, after);
    if ((!is_small || sums_many_zeros(k, s, t, before, after)) &&
        !keep_row_halo(t, before, after) && !is_small)
        return;
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
    if (e->op == KO_at && at_pred(e) && layout_is_free(e->u.tensor))
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

static void layout_program(DefProgram *p, void *user) {
    bool *changed = user;
    Halo halo = {.p = p};
    IntFactor f;
    for (Stage *s = p->first, *next; s; s = next) {
        next = s->next;
        *changed |= layout_block_dense_result(p, s);
        *changed |= layout_block_dense_samples(p, s);
    }
    program_count_users(p);
    for (Stage *s = p->first; s; s = s->next)
        if (s->form != FORM_PROGRAM && s->form != FORM_REGION)
            *changed |= layout_block_channels(p, s);
    for (Stage *s = p->last; s; s = s->prev) *changed |= layout_block_for_readers(p, s);
    for (Stage *s = p->first; s; s = s->next) {
        *changed |= layout_copy_samples(p, s);
        if (!layout_is_windowed(s)) continue;
        *changed |= layout_copy_part(p, s);
        /* tests whose needlessness free sizes hide */
        s->lhs = drop_covered(p->m->k, s, s->lhs);
        *changed |= layout_copy_for_window(p, s);
        halo.s = s;
        halo.value = quantized_border(p->m->k, s, &f) && f.zero ? (int32_t)f.zero->u.i : 0;
        k_visit(p->m->k, s->lhs, note_halo, &halo);
    }
    for (Stage *s = p->first; s; s = s->next)
        if (layout_is_windowed(s)) {
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
