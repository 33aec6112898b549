/* The order in which a convolution sums its products: by channels, and of each by the taps of the
 * window, as ONNX lists its weights; or by taps first, and of each by the channels.
 *
 *     x[0, ic, $1, $2 if 0 <= $1 & ...]   a branch leaves a tap out: it stands around all channels
 *     x[0, k*8 + kx, l*8 + ky, ic]        channels of tokens: a line of memory has several of them
 *
 * Channels whose weights of all taps have no room in a near cache come in groups. */
#include "passes/order_taps.h"

#include <string.h>

#include "passes/pass.h"

int64_t lines_kept(int64_t cache_bytes, int64_t ways, int64_t apart) {
    int64_t way = cache_bytes / ways;
    return ways * (way / common_divisor(apart, way));
}

/* The distance in elements that the left factor walks along the reduction axis; 0: none, or free. */
static int64_t left_step(KCtx *k, const Stage *s, int r) {
    const KExpr *base, *by, *at = tensor_flat_index(k, s->lhs->u.tensor, s->lhs->arg);
    int64_t step;
    return k_linear_in(k, at, s->red[r], &base, &by) && k_is_int(by, &step) ? step : 0;
}

static bool is_tap_axis(KCtx *k, const Stage *s, int r) {
    if (k_is_value(s->red_extent[r], 1)) return true;
    return at_pred(s->lhs) ? k_uses_var(k, at_pred(s->lhs), s->red[r]) : left_step(k, s, r) != 1;
}

/* Do channels lie one behind the other, as those of tokens do, in windows of more places than a
 * near cache keeps of lines so far apart? Summed by channels, each line would be asked for again
 * with each of them. */
static bool scatters_taps(DefProgram *p, const Stage *s) {
    enum { LEAST_TAPS = 16, ROWS = 14, LINE = 64, WAY = 4096 };
    KCtx *k = p->m->k;
    int64_t n, taps = 1, apart = 0, width = dtype_bytes(s->lhs->dtype);
    int64_t near = p->m->target->l1_bytes;
    if (s->lhs->op != KO_at || at_pred(s->lhs) || s->n_red < 2) return false;
    if (s->lhs->u.tensor->layout.block > 1 || left_step(k, s, 0) != 1) return false;
    if (!k_is_int(s->red_extent[0], &n) || n * width < LINE) return false;
    for (int r = 1; r < s->n_red; r++) {
        int64_t step = left_step(k, s, r);
        if (!k_is_int(s->red_extent[r], &n) || step < 1) return false;
        if (n > 1 && (!apart || step < apart)) apart = step;
        taps *= n;
    }
    return taps >= LEAST_TAPS && apart * width >= LINE &&
           taps * ROWS > lines_kept(near, near / WAY, apart * width);
}

/* Cuts the one axis of channels, whose weights of all taps have no room in a near cache, into an
 * outer one and an inner one, for which they have. Then the outer one can be cut into parts. */
static void group_channels(DefProgram *p, Stage *s, const Schedule *sch) {
    enum { VECTORS = 2 };
    KCtx *k = p->m->k;
    int64_t taps = 1, n, extent = 0, least = p->m->target->vector_bytes / dtype_bytes(DT_F32);
    int which = -1;
    for (int r = 0; r < s->n_red; r++) {
        if (!k_is_int(s->red_extent[r], &n)) return;
        if (is_tap_axis(k, s, r)) {
            taps *= n;
        } else if (which >= 0) {
            return;
        } else {
            which = r;
            extent = n;
        }
    }
    if (which < 0 || s->n_red == MAX_RED) return;
    int64_t each = taps * VECTORS * sch->lanes * dtype_bytes(s->acc->dtype), size = extent;
    int64_t fit = p->m->target->l2_bytes / 8;
    while (size * each > fit && size % (2 * least) == 0) size /= 2;
    if (size == extent) return;
    KVar *outer = kvar_new(k, KV_AXIS, DT_I64, s->red[which]->name, 0, extent / size - 1);
    KVar *inner = kvar_new(k, KV_AXIS, DT_I64, s->red[which]->name, 0, size - 1);
    const KExpr *by = k_add(k, k_mul(k, k_var(k, outer), k_int(k, size)), k_var(k, inner));
    s->lhs = k_subst(k, s->lhs, &s->red[which], &by, 1);
    s->rhs = k_subst(k, s->rhs, &s->red[which], &by, 1);
    for (int r = s->n_red++; r > 0; r--) {
        s->red[r] = s->red[r - 1];
        s->red_extent[r] = s->red_extent[r - 1];
    }
    s->red[0] = outer;
    s->red_extent[0] = k_int(k, extent / size);
    s->red[which + 1] = inner;
    s->red_extent[which + 1] = k_int(k, size);
}

/* Taps outside are left out by branches: around all channels, or many, not around the products of
 * one. And where taps are scattered over memory, the channels of each are read at once. */
static void sum_taps_first(DefProgram *p, Stage *s, const Schedule *sch) {
    KCtx *k = p->m->k;
    KVar *red[MAX_RED];
    const KExpr *extent[MAX_RED];
    int n_red = s->n_red, n = 0;
    group_channels(p, s, sch);
    int grouped = s->n_red - n_red; /* these stay the outermost */
    for (int is_channel = 0; is_channel < 2; is_channel++)
        for (int r = grouped; r < s->n_red; r++) {
            if (is_tap_axis(k, s, r) == (bool)is_channel) continue;
            red[n] = s->red[r];
            extent[n++] = s->red_extent[r];
        }
    memcpy(s->red + grouped, red, sizeof red[0] * (size_t)n);
    memcpy(s->red_extent + grouped, extent, sizeof extent[0] * (size_t)n);
}

void order_taps(DefProgram *p, Stage *s, const Schedule *sch) {
    bool leaves_out = sch->skips && !k_uses_var(p->m->k, at_pred(s->lhs), s->axis[sch->vec_axis]);
    if (leaves_out || scatters_taps(p, s)) sum_taps_first(p, s, sch);
}
