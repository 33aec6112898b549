/* Winograd's filtering (winograd.h): which contractions are such convolutions, the points of
 * interpolation and what follows from them for the weights, and the tensors that the loops need.
 *
 * The points beside infinity are 0, +-1 for patches of 4 and 0, +-5/8, +-3/2 for patches of 6: all
 * factors of A and B are exact in f32, and the rounding error is half of what 0, +-1, +-2 give. */
#include "ir/winograd.h"

#include <inttypes.h>

#include "ir/scratch.h"

enum { MOST_STEP = 1 << 16 }; /* from tap to tap; larger ones see nothing of a map that fits */

/* ---- which contractions ---------------------------------------------------------------------- */

typedef struct FindRead {
    const KExpr *at;
    int n;
} FindRead;

static void note_only_read(const KExpr *e, void *user) {
    FindRead *f = user;
    if (e->op != KO_at) return;
    f->at = e;
    f->n++;
}

/* Is e = axis*stride + red*spread + a constant? */
static bool is_window(KCtx *k, const KExpr *e, KVar *axis, KVar *red, int64_t *stride,
                      int64_t *spread) {
    const KExpr *rest, *coeff, *base;
    int64_t c;
    return k_linear_in(k, e, axis, &rest, &coeff) && k_is_int(coeff, stride) && *stride > 0 &&
           k_linear_in(k, rest, red, &base, &coeff) && k_is_int(coeff, spread) && *spread > 0 &&
           *stride <= MOST_STEP && *spread <= MOST_STEP && k_is_int(base, &c);
}

/* The reduction axis of f->taps elements that index x beside h (0) or w (1); -1 when there is none.
 */
static int tap_axis(KCtx *k, const Stage *s, const KExpr *at, WinogradForm *f, int along) {
    int a = f->y_axis + along;
    int64_t stride;
    for (int r = 0; r < s->n_red; r++)
        if (k_is_value(s->red_extent[r], f->taps) && 
            is_window(k, at->arg[a], s->axis[a], s->red[r], &stride, &f->step[along]) &&
            stride == 1)
            return r;
    return -1;
}

/* Both axes of taps, which have one length. */
static bool find_taps(KCtx *k, const Stage *s, const KExpr *at, WinogradForm *f) {
    for (f->taps = 3; f->taps <= MOST_TAPS; f->taps += 2) {
        f->ky = tap_axis(k, s, at, f, 0);
        f->kx = tap_axis(k, s, at, f, 1);
        f->n_taps = f->taps * f->taps;
        if (f->ky >= 0 && f->kx >= 0 && f->ky != f->kx) return true;
    }
    return false;
}

/* A signal's only axis of taps, and the steps that its stride and dilation make. */
static bool find_line(KCtx *k, const Stage *s, const KExpr *at, WinogradForm *f) {
    f->ky = f->y_axis = -1;
    f->x_axis = k_uses_var(k, at->arg[2], s->axis[1]) ? 1 : 2;
    f->o_axis = 3 - f->x_axis;
    for (f->kx = 0; f->kx < s->n_red; f->kx++) {
        int64_t stride, spread;
        KVar *axis = s->axis[f->x_axis];
        if (!is_window(k, at->arg[2], axis, s->red[f->kx], &stride, &spread)) continue;
        int64_t divisor = common_divisor(stride, spread);
        f->step[0] = 1;
        f->step[1] = spread / divisor;
        f->tap_step = stride / divisor;
        return k_is_int(s->red_extent[f->kx], &f->n_taps) && f->n_taps > 1;
    }
    return false;
}

/* Does the predicate say no more than that the index is inside of the tensor? */
static bool is_bounds(const KExpr *at, const KExpr *pred) {
    const KTensor *t = at->u.tensor;
    if (pred->op == KO_and) return is_bounds(at, pred->arg[0]) && is_bounds(at, pred->arg[1]);
    for (int a = 2; a < t->rank; a++) {
        if (pred->op == KO_le && k_is_value(pred->arg[0], 0) && pred->arg[1] == at->arg[a])
            return true;
        if (pred->op == KO_lt && pred->arg[0] == at->arg[a] && pred->arg[1] == t->dims[a])
            return true;
    }
    return false;
}

/* Does e use no axis but `axis`, and no reduction axis but `red` (-1: none)? */
static bool uses_only(KCtx *k, const Stage *s, const KExpr *e, int axis, int red) {
    for (int i = 0; i < s->out->rank; i++)
        if (i != axis && k_uses_var(k, e, s->axis[i])) return false;
    for (int r = 0; r < s->n_red; r++)
        if (r != red && k_uses_var(k, e, s->red[r])) return false;
    return true;
}

/* Is every element of x along `axis` in some window? Beyond the last one there is nothing but
 * zeros. */
static bool sees_all(KCtx *k, const Stage *s, const KExpr *at, int axis, int red) {
    KVar *const var[] = {s->axis[axis], s->red[red]};
    const KExpr *one = k_int(k, 1);
    const KExpr *by[] = {k_sub(k, s->out->dims[axis], one), k_sub(k, s->red_extent[red], one)};
    const KExpr *last = k_subst(k, at->arg[axis], var, by, 2);
    return k_sub(k, last, at->u.tensor->dims[axis])->lo >= -1;
}

/* What a free size is taken for where nothing is known of it: one image, maps of 56 elements,
 * signals of 512. */
enum { FREE_IMAGES = 1, FREE_MAP = 56, FREE_SIGNAL = 512 };

/* The number that a dim is, or is taken for: within its bounds. */
static int64_t size_of(const KExpr *dim, int64_t guess, bool *is_free) {
    int64_t n;
    if (k_is_int(dim, &n)) return n;
    *is_free = true;
    n = k_guess(dim, guess);
    return n < dim->lo ? dim->lo : n > dim->hi ? dim->hi : n;
}

static bool find_sizes(KCtx *k, const Stage *s, const KExpr *at, WinogradForm *f) {
    const KExpr *const *dims = s->out->dims;
    int64_t deep = 1, depth = 1;
    int y = f->y_axis;
    if (!f->is_line && (!sees_all(k, s, at, y, f->ky) || !sees_all(k, s, at, y + 1, f->kx)))
        return false;
    if (!k_is_int(dims[f->o_axis], &f->oc) || !k_is_int(s->red_extent[f->channel], &f->channels))
        return false;
    if (f->kd >= 0 && !k_is_int(s->red_extent[f->kd], &deep)) return false;
    f->is_free = false;
    f->is_known = true;
    for (int i = 0; i < s->out->rank; i++) f->is_known &= !k_is_computed(k, dims[i]);
    if (f->kd >= 0) depth = size_of(dims[2], FREE_MAP, &f->is_free);
    f->n = size_of(dims[0], FREE_IMAGES, &f->is_free) * depth;
    f->h = f->is_line ? 1 : size_of(dims[y], FREE_MAP, &f->is_free);
    f->w = size_of(dims[f->x_axis], f->is_line ? FREE_SIGNAL : FREE_MAP, &f->is_free);
    f->ic = f->ic_last = f->channels * deep;
    return true;
}

bool winograd_match(DefProgram *p, const Stage *s, WinogradForm *f) {
    KCtx *k = p->m->k;
    FindRead only = {NULL, 0};
    int rank = s->out->rank;
    if (s->form != FORM_CONTRACT || rank < 3 || rank > 5 || s->n_red != rank - 1) return false;
    if (s->acc->dtype != DT_F32 || s->fold != KO_add || !k_is_value(s->init, 0)) return false;
    k_visit(k, s->lhs, note_only_read, &only);
    const KExpr *at = only.at;
    if (only.n != 1 || at->u.tensor->rank != rank || at->u.tensor->data) return false;
    if (at_pred(at) && !is_bounds(at, at_pred(at))) return false;
    f->read = at;
    f->o_axis = 1;
    f->y_axis = rank - 2;
    f->x_axis = rank - 1;
    f->is_line = rank == 3;
    if (!(f->is_line ? find_line : find_taps)(k, s, at, f)) return false;
    f->channel = f->kd = -1;
    for (int r = 0; r < s->n_red; r++) {
        if (r == f->ky || r == f->kx) continue;
        bool is_channel = at->arg[1]->op == KO_var && at->arg[1]->u.var == s->red[r];
        *(is_channel ? &f->channel : &f->kd) = r;
    }
    if (f->channel < 0 || (rank == 5) != (f->kd >= 0)) return false;
    if (!uses_only(k, s, at->arg[0], 0, -1)) return false;
    if (rank == 5 && !uses_only(k, s, at->arg[2], 2, f->kd)) return false;
    for (int i = 0; i < rank; i++)
        if (k_uses_var(k, s->rhs, s->axis[i]) != (i == f->o_axis)) return false;
    return find_sizes(k, s, at, f);
}

static bool in_blocks(const KTensor *t, int lanes) {
    return t->layout.block == lanes && t->layout.block_axis == 1 && t->dtype == DT_F32;
}

bool winograd_fits_layout(const Stage *s, const WinogradForm *f, int lanes) {
    bool is_whole = (f->ic == f->channels && !f->is_line) || f->channels % lanes == 0;
    const KTensor *out = s->out;
    bool is_last = f->o_axis == out->rank - 1 && out->layout.block <= 1 && !out->layout.permuted;
    bool has_lanes = is_last ? out->dtype == DT_F32 : f->o_axis == 1 && in_blocks(out, lanes);
    return lanes > 1 && is_whole && has_lanes && in_blocks(f->read->u.tensor, lanes);
}

/* Tiles of the phases 0, 1, .. step - 1, then those of the next m results of each: each tile begins
 * behind the one before, and those that would begin beyond the end are none. */
const KExpr *winograd_tile_start(KCtx *k, const KExpr *i, int m, int64_t step) {
    const KExpr *phases = k_int(k, step);
    return k_add(k, k_mul(k, k_fdiv(k, i, phases), k_int(k, m * step)), k_fmod(k, i, phases));
}

/* How many tiles it takes to make `dim`. */
static const KExpr *tiles_of(KCtx *k, const KExpr *dim, int m, int64_t step) {
    if (step == 1) return k_fdiv(k, k_add(k, dim, k_int(k, m - 1)), k_int(k, m));
    const KExpr *phases = k_int(k, step), *each = k_int(k, m * step);
    return k_add(k, k_mul(k, k_fdiv(k, dim, each), phases),
                 k_min(k, k_fmod(k, dim, each), phases));
}

static int64_t count_tiles(int64_t dim, int m, int64_t step) {
    int64_t rest = dim % (m * step);
    return dim / (m * step) * step + (rest < step ? rest : step);
}

void winograd_count_tiles(Winograd *w) {
    w->patch = w->m + w->form.taps - 1;
    w->n_xi = w->form.is_line ? w->patch : w->patch * w->patch;
    w->down = count_tiles(w->form.h, w->m, w->form.step[0]);
    w->right = count_tiles(w->form.w, w->m, w->form.step[1]);
    w->n_tiles = w->form.n * w->down * w->right;
}

/* Neighbouring taps are parts one after the other; taps with others between them (a stride) are as
 * many parts as fit between them, each of all its taps. Either way full parts come first. */
bool winograd_cut_line(Winograd *w, int taps) {
    WinogradForm *f = &w->form;
    int64_t n = f->n_taps, step = f->tap_step;
    int64_t n_parts = step == 1 ? (n + taps - 1) / taps : n < step ? n : step;
    int64_t n_full = step == 1 ? n / taps : n - (taps - 1) * step;
    if (n_full <= 0 || (step > 1 && n > taps * step)) return false;
    f->taps = taps;
    f->part_step = step == 1 ? taps : 1;
    f->ic = f->channels * n_parts;
    f->ic_last = f->channels * (n_full < n_parts ? n_full : n_parts);
    w->m = LINE_PATCH + 1 - taps;
    return true;
}

/* ---- weights --------------------------------------------------------------------------------- */

int winograd_points(int n, double at[2]) {
    at[0] = n == 4 ? 1 : 0.625;
    at[1] = 1.5;
    return n / 2 - 1;
}

/* G: element [i][j] of n x taps. Row i has the powers of its point, over the product of its
 * distances to the other points. */
static double weight_factor(int n, int taps, int i, int j) {
    double at[2], by = 1, power = 1;
    int n_pairs = winograd_points(n, at);
    if (i == n - 1) return j == taps - 1;
    if (i == 0) {
        for (int q = 0; q < n_pairs; q++) by *= -at[q] * at[q];
        return j == 0 ? 1 / by : 0;
    }
    int own = (i - 1) / 2;
    double p = i % 2 ? at[own] : -at[own];
    by = 2 * p * p;
    for (int q = 0; q < n_pairs; q++)
        if (q != own) by *= p * p - at[q] * at[q];
    for (int q = 0; q < j; q++) power *= p;
    return power / by;
}

/* The weight of tap q for the output channel and the channel of stage g; zero behind the end of a
 * line's kernel. */
static const KExpr *tap_weight(KCtx *k, const Stage *s, const WinogradForm *f, const Stage *g,
                               int q) {
    const KExpr *c = k_var(k, g->axis[2]), *channels = k_int(k, f->channels);
    const KExpr *group = k_fdiv(k, c, channels); /* a volume's tap along kd, or a line's part */
    KVar *var[5] = {s->axis[f->o_axis], s->red[f->channel], s->red[f->kx]};
    const KExpr *by[5] = {k_var(k, g->axis[1]), k_fmod(k, c, channels), k_int(k, q % f->taps)};
    if (!f->is_line) {
        var[3] = s->red[f->ky];
        by[3] = k_int(k, q / f->taps);
        if (f->kd >= 0) var[4] = s->red[f->kd];
        by[4] = group;
        return k_subst(k, s->rhs, var, by, f->kd < 0 ? 4 : 5);
    }
    const KExpr *tap =
        k_add(k, k_mul(k, group, k_int(k, f->part_step)), k_int(k, q * f->tap_step));
    by[2] = k_min(k, tap, k_int(k, f->n_taps - 1));
    const KExpr *weight = k_subst(k, s->rhs, var, by, 3);
    return k_select(k, k_lt(k, tap, k_int(k, f->n_taps)), weight, k_const_f(k, DT_F32, 0));
}

Stage *winograd_define_weights(DefProgram *p, Stage *s, Winograd *w) {
    KCtx *k = p->m->k;
    Def d = {.p = p, .m = p->m, .k = k, .arena = p->arena, .node = s->node};
    int n = w->patch, taps = w->form.taps, n_taps = w->form.is_line ? taps : taps * taps;
    double factor[MOST_PATCH * MOST_PATCH * MOST_TAPS * MOST_TAPS];
    for (int i = 0; i < w->n_xi * n_taps; i++) {
        int xi = i / n_taps, q = i % n_taps;
        factor[i] = weight_factor(n, taps, xi % n, q % taps);
        if (!w->form.is_line) factor[i] *= weight_factor(n, taps, xi / n, q / taps);
    }
    KTensor *table = def_table_floats(&d, "factors", DT_F64, factor, w->n_xi * n_taps);
    const KExpr *dims[] = {k_int(k, w->n_xi), k_int(k, w->form.oc), k_int(k, w->form.ic)};
    KTensor *out = program_add_tensor(p, "weights", DT_F32, 3, dims);
    out->layout = (Layout){.permuted = true, .order = {1, 0, 2}, .block_axis = 1};
    out->layout.block = (int16_t)(w->n_vecs * s->schedule->lanes);
    Stage *g = program_add_stage(p, s, FORM_MAP, out, s->node);
    const KExpr *sum = k_const_f(k, DT_F64, 0);
    for (int q = 0; q < n_taps; q++) {
        const KExpr *at = k_add(k, k_mul(k, k_var(k, g->axis[0]), k_int(k, n_taps)), k_int(k, q));
        const KExpr *tap = k_cast(k, DT_F64, tap_weight(k, s, &w->form, g, q));
        sum = k_add(k, sum, k_mul(k, k_at(k, table, &at, 1), tap));
    }
    g->body = k_cast(k, DT_F32, sum);
    w->weights = out;
    return g;
}

void winograd_images(KCtx *k, const Stage *s, const Winograd *w, const KExpr **n,
                     const KExpr **down, const KExpr **right) {
    const WinogradForm *f = &w->form;
    const KExpr *const *dims = s->out->dims;
    *n = f->kd < 0 ? dims[0] : k_mul(k, dims[0], dims[2]);
    *down = f->is_line ? k_int(k, 1) : tiles_of(k, dims[f->y_axis], w->m, f->step[0]);
    *right = tiles_of(k, dims[f->x_axis], w->m, f->step[1]);
}

/* Rows of scratch: an odd number, with those behind the tiles that the last register tile has. */
static const KExpr *scratch_rows(KCtx *k, const Stage *s, const Winograd *w) {
    const KExpr *n, *down, *right, *two = k_int(k, 2);
    if (!w->form.is_free || !w->whole) return k_int(k, w->strip | 1);
    winograd_images(k, s, w, &n, &down, &right);
    const KExpr *rows = k_add(k, k_mul(k, n, k_mul(k, down, right)), k_int(k, w->rows));
    return k_add(k, k_mul(k, k_fdiv(k, rows, two), two), k_int(k, 1));
}

void winograd_add_scratch(DefProgram *p, const Stage *s, Winograd *w) {
    KCtx *k = p->m->k;
    int64_t lanes = s->schedule->lanes, ic = (w->form.ic + lanes - 1) / lanes * lanes;
    const KExpr *xi = k_int(k, w->n_xi), *rows = scratch_rows(k, s, w);
    const KExpr *in[] = {k_int(k, w->whole ? 1 : w->n_slots), xi, rows, k_int(k, ic)};
    const KExpr *out[] = {k_int(k, w->n_slots), xi, rows, k_int(k, w->n_vecs * lanes)};
    w->patches = scratch_tensor(p, "patches", DT_F32, 4, in);
    w->products = scratch_tensor(p, "products", DT_F32, 4, out);
}

const char *winograd_text(Arena *a, const Schedule *s) {
    const Winograd *w = s->winograd;
    const WinogradForm *f = &w->form;
    const char *taps = "", *apart = "";
    if (f->is_line)
        taps = arena_printf(a, "l%d", f->taps);
    else if (f->taps != 3)
        taps = arena_printf(a, "k%d", f->taps);
    if (!f->is_line && f->step[0] != f->step[1])
        apart = arena_printf(a, "d%" PRId64 "x%" PRId64, f->step[0], f->step[1]);
    else if (!f->is_line && f->step[0] > 1)
        apart = arena_printf(a, "d%" PRId64, f->step[0]);
    return arena_printf(a, "w%d%s%s_t%dx%d_v%d", w->m, taps, apart, w->rows, w->n_vecs, s->lanes);
}
