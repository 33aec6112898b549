/* Depthwise convolutions of bytes as dot products along their taps, for choose_schedules.
 *
 * Before:  contract over [ky < 3, kx < 3], acc i32
 *              lhs = i32(x[0, j, y + ky, x + kx]) - 3
 *              rhs = i32(w[j, ky, kx])
 * After:   contract over [ky < 3, kx < 1], dot4_us
 *              lhs = byte | byte << 8 | ... of x[0, j, y + ky, x + kx*4 + b]
 *              rhs = the same of w[j, ky, kx*4 + b]
 *          finish: acc + table[j] where it said acc
 *
 * Each lane is a channel, so its four taps are not neighbours in memory: they are a block of
 * channels apart. A renderer loads four blocks as one vector and permutes its bytes. Taps beyond
 * the window have the weight 0; where x has no memory for them they are left out of the word.
 *
 * Weights less their zero point may need nine bits. They are split into two bytes then, and summed
 * one after the other (`part`). */
#include "passes/dot_products.h"
#include "passes/pass.h"

/* x[.., j, ..] with j the vector axis, in blocks of vectors: lanes are neighbours. */
static bool reads_own_channel(const Dot *d) {
    const KTensor *t = d->x.at->u.tensor;
    KVar *j = d->s->axis[d->axes.vec_axis];
    if (t->layout.block != d->axes.lanes || d->x.inside || at_pred(d->x.at)) return false;
    for (int a = 0; a < t->rank; a++) {
        const KExpr *at = d->x.at->arg[a];
        bool is_channel = a == t->layout.block_axis;
        if (is_channel ? at->op != KO_var || at->u.var != j : k_uses_var(d->k, at, j)) return false;
    }
    return true;
}

static bool find_taps_factors(Dot *d) {
    bool fits = d->p->m->target->dot4 && d->s->fold == KO_add && k_is_value(d->s->init, 0) &&
                schedule_contract_axes(d->p, d->s, d->p->m->target, &d->axes) && d->axes.lanes > 1;
    if (!fits || !match_int_factor(d->k, d->s->lhs, &d->x) ||
        !match_int_factor(d->k, d->s->rhs, &d->w))
        return false;
    if (d->x.at->u.tensor->data) {
        IntFactor x = d->x;
        d->x = d->w;
        d->w = x;
    }
    if (d->x.at->u.tensor->data || !d->w.at->u.tensor->data || d->w.inside || at_pred(d->w.at))
        return false;
    return d->x.at->dtype == DT_U8 && reads_own_channel(d);
}

/* Does x have memory at this index? */
static bool is_memory(const KTensor *t, const KExpr *const *index) {
    int64_t dim;
    for (int a = 0; a < t->rank; a++) {
        int64_t before = t->layout.has_halo ? t->layout.halo[a][0] : 0;
        int64_t after = t->layout.has_halo ? t->layout.halo[a][1] : 0;
        if (t->layout.block > 1 && t->layout.block_axis == a) continue;
        if (!k_is_int(t->dims[a], &dim) || index[a]->lo < -before || index[a]->hi >= dim + after)
            return false;
    }
    return true;
}

/* The factor's byte with the tap at group*4 + byte; NULL where it has none. */
static const KExpr *tap_of(const Dot *d, const KExpr *at, int byte) {
    KCtx *k = d->k;
    const KExpr *four = k_mul(k, k_var(k, d->group), k_int(k, 4)), *arg[MAX_RANK];
    const KExpr *index = k_add(k, four, k_int(k, byte));
    for (int i = 0; i < at->u.tensor->rank; i++)
        arg[i] = k_subst(k, at->arg[i], &d->s->red[d->red], &index, 1);
    if (!is_memory(at->u.tensor, arg)) return NULL;
    return k_at(k, at->u.tensor, arg, at->u.tensor->rank);
}

static const KExpr *word_of_taps(const Dot *d, const KExpr *at) {
    const KExpr *byte[4];
    for (int b = 0; b < 4; b++) {
        const KExpr *tap = tap_of(d, at, b);
        byte[b] = tap ? k_cast(d->k, DT_I32, tap) : NULL;
    }
    return join_parts(d->k, byte, 4);
}

/* The longest axis of the sum that one axis of x's read runs along, of which all taps are
 * memory. */
static bool choose_taps(Dot *d) {
    d->extent = 1;
    for (int r = 0; r < d->s->n_red; r++) {
        const KExpr *at = d->x.at, *base, *coeff;
        int64_t extent;
        int axis = -1, n = 0;
        for (int a = 0; a < at->u.tensor->rank; a++)
            if (k_uses_var(d->k, at->arg[a], d->s->red[r])) {
                axis = a;
                n++;
            }
        if (n != 1 || !k_is_int(d->s->red_extent[r], &extent) || extent < d->extent || extent < 2 ||
            !k_linear_in(d->k, at->arg[axis], d->s->red[r], &base, &coeff) ||
            coeff->op != KO_const_i)
            continue;
        int64_t n_groups = (extent + 3) / 4;
        Dot tried = *d;
        tried.red = r;
        tried.group = kvar_new(d->k, KV_AXIS, DT_I64, d->s->red[r]->name, 0, n_groups - 1);
        for (n = 0; n < 4 && tap_of(&tried, at, n); n++) {
        }
        if (n < 4 && (n_groups > 1 || n < extent)) continue;
        tried.extent = extent;
        *d = tried;
    }
    return d->extent > 1;
}

/* i32(w) - zero as one byte of the right word, or as the first or second of two that sum to it. */
static const KExpr *weight_part(Dot *d, const KExpr *whole, const KExpr *part) {
    KCtx *k = d->k;
    const KExpr *low = dot_i32(d, -128), *high = dot_i32(d, 127);
    const KExpr *first = k_min(k, k_max(k, whole, low), high);
    if (!part) return whole;
    return k_select(k, k_eq(k, part, k_int(k, 0)), first, k_sub(k, whole, first));
}

/* The words of weights: a map over constants, computed when the factor is packed. */
static const KExpr *weight_words(Dot *d, const KExpr *part) {
    KCtx *k = d->k;
    const KExpr *byte[4];
    for (int b = 0; b < 4; b++) {
        const KExpr *four = k_mul(k, k_var(k, d->group), k_int(k, 4)), *zero = d->w.zero;
        const KExpr *index = k_add(k, four, k_int(k, b)), *arg[MAX_RANK + 1], *at = d->w.at;
        const KExpr *inside = k_lt(k, index, k_int(k, d->extent));
        int rank = at->u.tensor->rank;
        for (int i = 0; i < rank; i++)
            arg[i] = k_subst(k, at->arg[i], &d->s->red[d->red], &index, 1);
        arg[rank] = inside;
        const KExpr *whole = k_cast(k, DT_I32, k_at(k, at->u.tensor, arg, rank + 1));
        if (zero) whole = k_sub(k, whole, zero);
        whole = k_select(k, inside, weight_part(d, whole, part), dot_i32(d, 0));
        byte[b] = k_and(k, whole, dot_i32(d, 255));
    }
    return join_parts(k, byte, 4);
}

/* Are weights less their zero points at most 254, so that two bytes sum to them? */
static bool fits_two_bytes(const Dot *d) {
    int64_t least = d->w.at->dtype == DT_U8 ? 1 : -127, n = 1;
    const KExpr *zero = d->w.zero;
    if (!zero || zero->op == KO_const_i) return (zero ? zero->u.i : 0) >= least;
    if (zero->op != KO_at || !zero->u.tensor->data || zero->dtype != DT_I32 ||
        !k_is_int(tensor_n_elems(d->k, zero->u.tensor), &n))
        return false;
    for (int64_t i = 0; i < n; i++)
        if (((const int32_t *)zero->u.tensor->data)[i] < least) return false;
    return true;
}

bool use_tap_products(DefProgram *p, Stage *s) {
    KCtx *k = p->m->k;
    Dot d = {.p = p, .k = k, .s = s, .parts = 4};
    bool is_signed = p->m->target->dot4_signed;
    d.op = is_signed ? KO_dot4_ss : KO_dot4_us;
    if (s->acc->dtype != DT_I32 || !find_taps_factors(&d) || !choose_taps(&d)) return false;
    if (d.w.zero) d.w.zero = dot_tabulate(&d, "zero", d.w.zero);
    if (is_signed) d.x.zero = k_add(k, d.x.zero ? d.x.zero : dot_i32(&d, 0), dot_i32(&d, -128));
    if (d.x.zero && k_is_value(d.x.zero, 0)) d.x.zero = NULL;
    bool in_parts = d.w.zero || d.w.at->dtype == DT_U8;
    if (in_parts && (s->n_red == MAX_RED || !fits_two_bytes(&d))) return false;
    const KExpr *whole = k_cast(k, DT_I32, d.w.at), *part = NULL;
    if (d.w.zero) whole = k_sub(k, whole, d.w.zero);
    IntFactor w = d.w;
    d.w.zero = NULL; /* not a matter of the left factor's sums */
    dot_correct(&d, whole);
    d.w = w;
    if (in_parts) {
        s->red[s->n_red] = kvar_new(k, KV_AXIS, DT_I64, "part", 0, 1);
        s->red_extent[s->n_red] = k_int(k, 2);
        part = k_var(k, s->red[s->n_red++]);
    }
    s->lhs = word_of_taps(&d, d.x.at);
    if (is_signed) s->lhs = k_xor(k, s->lhs, dot_i32(&d, -0x7f7f7f80));
    s->rhs = weight_words(&d, part);
    s->red[d.red] = d.group;
    s->red_extent[d.red] = k_int(k, (d.extent + 3) / 4);
    s->dot = d.op;
    pass_trace("choose_schedules", s->node, "dot products of 4 taps along '%s'", d.group->name);
    return true;
}
