/* Discrete Fourier transforms as definitions (dft.h), in one of four ways:
 *
 *   dense    a short length known while compiling: a contract with a matrix of constants, which has
 *            everything in it (sign, scale, the mirrored half of a real signal)
 *   staged   a longer one with small prime factors: a reduce for each factor (Stockham's order, so
 *            that nothing is permuted), real and imaginary parts in tensors of their own. A product
 *            costs about the same in both; a stage has its overhead, hence the factor of two in
 *            prefers_dense
 *   chirp    known lengths with large prime factors, by Bluestein's convolution: k t is (k^2 + t^2 -
 *            (k - t)^2) / 2, so that X[k] = w[k] * sum over t of (x[t] w[t]) conj(w[k - t]) with
 *            w[t] = root(t^2 / 2n): two staged transforms of a power of two and a table between them
 *   direct   the rest: the sum as it is written, with a table of the roots of unity, which is
 *            computed when the model runs where the length is known only then
 *
 * Roots come from exact integer angles and a polynomial in f64: a result is off by a few roundings.
 */
#include "ir/ops/dft.h"

enum {
    DENSE_ELEMS = 300000, /* of a matrix: 1.2 MB, a real signal of 512 */
    LARGEST_FACTOR = 61,
    MAX_FACTORS = 64,
    LONGEST_CHIRP = 1 << 18, /* its tables take some 100 bytes for each element */
};

/* ---- roots of unity -------------------------------------------------------------------------- */

/* cos and sin of x in [0, pi/4]: their series, summed from the small end. */
static void small_angle(double x, double *c, double *s) {
    double xx = x * x;
    *c = 1, *s = 1;
    for (int i = 20; i >= 2; i -= 2) {
        *c = 1 - *c * xx / (i * (i - 1));
        *s = 1 - *s * xx / (i * (i + 1));
    }
    *s *= x;
}

static void unit_root(int64_t i, int64_t n, double *c, double *s) {
    const double quarter = 1.57079632679489661923;
    int64_t turn = 4 * i / n, rest = 4 * i - turn * n; /* angle = quarter * (turn + rest / n) */
    bool swap = 2 * rest > n;
    double x, y;
    small_angle(quarter * (double)(swap ? n - rest : rest) / (double)n, &x, &y);
    if (swap) {
        double z = x;
        x = y;
        y = z;
    }
    *c = turn == 0 ? x : turn == 1 ? -y : turn == 2 ? -x : y;
    *s = turn == 0 ? y : turn == 1 ? x : turn == 2 ? -y : -x;
}

/* (k * t) mod n without overflow for k, t < n <= 2^31 */
static int64_t turn_of(int64_t k, int64_t t, int64_t n) {
    return k * t % n;
}

/* ---- what the ways share --------------------------------------------------------------------- */

static DType sum_dtype(const Dft *f) {
    return f->out->dtype == DT_F64 ? DT_F64 : DT_F32;
}

static bool is_mirrored(const Dft *f) {
    return f->inverse && f->onesided;
}

/* Elements of the axis that the sum runs over, whether x has them or not. */
static const KExpr *n_terms(KCtx *k, const Dft *f) {
    if (!is_mirrored(f)) return f->length;
    return k_add(k, k_fdiv(k, f->length, k_int(k, 2)), k_int(k, 1));
}

static bool is_real(const Dft *f) {
    return k_is_value(f->x->dims[f->x->rank - 1], 1);
}

/* ---- dense ----------------------------------------------------------------------------------- */

typedef struct Dense {
    int64_t axis, length, terms, parts, bins, outs; /* table[terms][parts][bins][outs] */
} Dense;

static bool dense_sizes(KCtx *k, const Dft *f, Dense *z) {
    int64_t had;
    if (!k_is_int(f->axis, &z->axis) || !k_is_int(f->length, &z->length) || z->length < 1 ||
        z->length > DENSE_ELEMS || !k_is_int(n_terms(k, f), &z->terms) ||
        !k_is_int(f->out->dims[z->axis], &z->bins))
        return false;
    if (k_is_int(f->x->dims[z->axis], &had) && had < z->terms) z->terms = had;
    z->parts = is_real(f) ? 1 : 2;
    z->outs = is_mirrored(f) ? 1 : 2;
    return z->terms > 0 && z->bins > 0 && z->terms * z->bins <= DENSE_ELEMS &&
           z->terms * z->parts * z->bins * z->outs <= DENSE_ELEMS;
}

static KTensor *dense_table(Def *d, const Dft *f, const Dense *z) {
    int64_t n = z->length, count = z->terms * z->parts * z->bins * z->outs, at = 0;
    double *v = arena_array(d->m->scratch, double, count);
    double *c = arena_array(d->m->scratch, double, n), *s = arena_array(d->m->scratch, double, n);
    for (int64_t i = 0; i < n; i++) unit_root(i, n, &c[i], &s[i]);
    for (int64_t t = 0; t < z->terms; t++)
        for (int64_t part = 0; part < z->parts; part++)
            for (int64_t bin = 0; bin < z->bins; bin++)
                for (int64_t out = 0; out < z->outs; out++) {
                    int64_t turn = turn_of(bin, t, n);
                    double sine = f->inverse ? s[turn] : -s[turn];
                    double e = part == out ? c[turn] : part ? -sine : sine;
                    if (is_mirrored(f) && t > 0 && 2 * t != n) e *= 2;
                    v[at++] = f->inverse ? e / (double)n : e;
                }
    KTensor *table = def_table_floats(d, "roots", sum_dtype(f), v, count);
    def_shape_table(d, table, (int64_t[]){z->terms, z->parts, z->bins, z->outs}, 4);
    return table;
}

static void lower_dense(Def *d, const Dft *f, const Dense *z) {
    KCtx *k = d->k;
    KTensor *table = dense_table(d, f, z), *x = f->x;
    DType t = sum_dtype(f);
    Stage *s = def_begin(d, FORM_CONTRACT, f->out);
    const KExpr *from[MAX_RANK], *at[4];
    lower_axes(d, s, from);
    at[2] = from[z->axis];
    at[3] = from[x->rank - 1];
    at[0] = from[z->axis] = def_reduce_axis(d, s, "t", k_int(k, z->terms));
    at[1] = from[x->rank - 1] =
        z->parts == 1 ? k_int(k, 0) : def_reduce_axis(d, s, "part", k_int(k, 2));
    const KExpr *inside = k_lt(k, at[0], x->dims[z->axis]);
    const KExpr *e = def_at_if(d, x, from, x->rank, k_is_value(inside, 1) ? NULL : inside);
    def_contract(d, s, t, k_cast(k, t, e), def_at(d, table, at, 4));
    def_finish(d, s, k_cast(k, f->out->dtype, def_acc(d, s)));
}

/* The factors of n, fours first; 0 when one is too large for a stage. */
static int factorize(int64_t n, int64_t *factor) {
    int count = 0;
    for (int64_t by = 4; n > 1; by = by == 4 ? 2 : by == 2 ? 3 : by + 2) {
        if (by > LARGEST_FACTOR) return 0;
        for (; n % by == 0; n /= by) factor[count++] = by;
    }
    return count;
}

/* Are the dense products fewer than about twice the staged ones, or stages impossible? */
static bool prefers_dense(const Dense *z) {
    int64_t factor[MAX_FACTORS], sum = 0;
    int n_factors = factorize(z->length, factor);
    for (int i = 0; i < n_factors; i++) sum += factor[i];
    return !n_factors || z->terms * z->parts * z->bins * z->outs <= 2 * 4 * sum * z->length;
}

/* ---- staged ---------------------------------------------------------------------------------- */

/* A signal on its way: element p + P * q of the sub-transforms lies at (.., p, q, ..), or (.., q,
 * p,
 * ..) while the p are more, so that the innermost loop is long. */
typedef struct Signal {
    Def *d;
    const Dft *f;
    KTensor *re, *im; /* im NULL: zeros */
    int axis;
    int64_t p, q;
    bool p_inner;
} Signal;

/* Index of a signal's tensor: the axes of s before the axis, `count` indices in its place, the rest
 * of s's axes after `skip` ones. */
static void place_axes(Def *d, const Stage *s, int axis, const KExpr *const *here, int count,
                       int skip, int rank, const KExpr **index) {
    for (int i = 0; i < axis; i++) index[i] = def_axis(d, s, i);
    for (int i = 0; i < count; i++) index[axis + i] = here[i];
    for (int i = axis + count; i < rank; i++) index[i] = def_axis(d, s, i - count + skip);
}

/* The dims of x without its axis and parts, with `count` others in the axis's place. */
static int signal_dims(const Dft *f, int axis, const KExpr *const *here, int count,
                       const KExpr **dims) {
    int rank = f->x->rank - 2 + count;
    for (int i = 0; i < rank; i++)
        dims[i] = i < axis           ? f->x->dims[i]
                  : i < axis + count ? here[i - axis]
                                     : f->x->dims[i - count + 1];
    return rank;
}

/* Part 0 or 1 of x as a tensor [.., length, 1, ..]; of a mirrored signal with its other half. */
static KTensor *load_part(const Signal *g, int part) {
    Def *d = g->d;
    KCtx *k = d->k;
    const Dft *f = g->f;
    DType t = sum_dtype(f);
    const KExpr *dims[MAX_RANK], *here[2] = {f->length, k_int(k, 1)}, *from[MAX_RANK];
    int rank = signal_dims(f, g->axis, here, 2, dims);
    KTensor *out = def_temp(d, part ? "imaginary" : "real", t, rank, dims);
    Stage *s = def_begin(d, FORM_MAP, out);
    const KExpr *i = def_axis(d, s, g->axis), *at = i;
    const KExpr *far = is_mirrored(f) ? k_le(k, n_terms(k, f), i) : k_bool(k, false);
    if (is_mirrored(f)) at = k_select(k, far, k_sub(k, f->length, i), i);
    place_axes(d, s, g->axis, &at, 1, 2, f->x->rank - 1, from);
    from[f->x->rank - 1] = k_int(k, part);
    const KExpr *inside = k_lt(k, at, f->x->dims[g->axis]);
    const KExpr *e = k_cast(k, t, def_at_if(d, f->x, from, f->x->rank, inside));
    if (part && is_mirrored(f)) {
        e = k_select(k, far, k_neg(k, e), e);
        /* of bins that are their own mirror image only the real part counts */
        const KExpr *own = k_eq(k, k_mul(k, i, k_int(k, 2)), f->length);
        own = k_or(k, own, k_eq(k, i, k_int(k, 0)));
        e = k_select(k, own, k_const(k, t, 0), e);
    }
    def_map(d, s, e);
    return out;
}

/* Roots for (p, k, j) of a stage in the order of its loops; [0] cosines, [1] sines. */
static void stage_roots(const Signal *g, int64_t by, bool p_inner, KTensor *root[2]) {
    Def *d = g->d;
    int64_t n = g->p, m = n / by, count = n * by;
    double *v[2] = {arena_array(d->m->scratch, double, count),
                    arena_array(d->m->scratch, double, count)};
    for (int64_t p = 0; p < m; p++)
        for (int64_t f = 0; f < by; f++)
            for (int64_t j = 0; j < by; j++) {
                int64_t at = p_inner ? (f * by + j) * m + p : (p * by + f) * by + j;
                unit_root(turn_of(f, p + m * j, n), n, &v[0][at], &v[1][at]);
                if (!g->f->inverse) v[1][at] = -v[1][at];
            }
    int64_t dims[3] = {p_inner ? by : m, by, p_inner ? m : by};
    for (int i = 0; i < 2; i++) {
        root[i] = def_table_floats(d, i ? "sines" : "cosines", sum_dtype(g->f), v[i], count);
        def_shape_table(d, root[i], dims, 3);
    }
}

/* One part of a stage's result: sum over j < by of signal[p + m * j, q] * root(p, k, j), at (p, k,
 * q) or (k, q, p); given back as (p, k * q) or (k * q, p). */
static KTensor *stage_part(const Signal *g, int64_t by, bool p_inner, KTensor *const root[2],
                           int part) {
    Def *d = g->d;
    KCtx *k = d->k;
    DType t = sum_dtype(g->f);
    int64_t m = g->p / by;
    const KExpr *dims[MAX_RANK], *from[MAX_RANK];
    const KExpr *split[3] = {k_int(k, p_inner ? by : m), k_int(k, p_inner ? g->q : by),
                             k_int(k, p_inner ? m : g->q)};
    const KExpr *merged[2] = {k_int(k, p_inner ? by * g->q : m), k_int(k, p_inner ? m : by * g->q)};
    int rank = signal_dims(g->f, g->axis, split, 3, dims);
    KTensor *out = def_temp(d, part ? "imaginary" : "real", t, rank, dims);
    Stage *s = def_begin(d, FORM_REDUCE, out);
    const KExpr *j = def_reduce_axis(d, s, "j", k_int(k, by));
    const KExpr *axis[3];
    for (int i = 0; i < 3; i++) axis[i] = def_axis(d, s, g->axis + i);
    const KExpr *p = p_inner ? axis[2] : axis[0], *bin = p_inner ? axis[0] : axis[1],
                *q = p_inner ? axis[1] : axis[2];
    const KExpr *turn[3] = {p_inner ? bin : p, p_inner ? j : bin, p_inner ? p : j};
    const KExpr *whole = k_add(k, p, k_mul(k, j, k_int(k, m)));
    const KExpr *here[2] = {g->p_inner ? q : whole, g->p_inner ? whole : q};
    place_axes(d, s, g->axis, here, 2, 3, g->re->rank, from);
    const KExpr *e = k_mul(k, def_at(d, g->re, from, g->re->rank), def_at(d, root[part], turn, 3));
    if (g->im) {
        const KExpr *im = def_at(d, g->im, from, g->im->rank);
        im = k_mul(k, im, def_at(d, root[1 - part], turn, 3));
        e = part ? k_add(k, e, im) : k_sub(k, e, im);
    }
    def_reduce(d, s, KO_add, t, k_const(k, t, 0), e);
    rank = signal_dims(g->f, g->axis, merged, 2, dims);
    KTensor *view = def_temp(d, out->name, t, rank, dims);
    lower_view(d, out, view);
    return view;
}

static void lower_stage(Signal *g, int64_t by) {
    KTensor *root[2];
    bool p_inner = g->p / by >= g->q;
    stage_roots(g, by, p_inner, root);
    KTensor *re = stage_part(g, by, p_inner, root, 0), *im = stage_part(g, by, p_inner, root, 1);
    g->re = re;
    g->im = im;
    g->p /= by;
    g->q *= by;
    g->p_inner = p_inner;
}

/* Axis and length of a transform whose stages have known sizes. */
static bool are_known(const Dft *f, int64_t *axis, int64_t *length) {
    return k_is_int(f->axis, axis) && k_is_int(f->length, length) && *length >= 2 &&
           *length <= INT32_MAX && f->x->rank + 1 <= MAX_RANK;
}

/* The parts of element `at` of a signal whose axis a stage has with `skip` axes for it. */
typedef struct Parts {
    const KExpr *re, *im; /* im NULL: zero */
} Parts;

static Parts parts_at(const Signal *g, const Stage *s, const KExpr *at, int skip) {
    const KExpr *from[MAX_RANK], *zero = k_int(g->d->k, 0);
    const KExpr *here[2] = {g->p_inner ? at : zero, g->p_inner ? zero : at};
    if (g->p > 1) { /* not transformed yet */
        here[0] = at;
        here[1] = zero;
    }
    place_axes(g->d, s, g->axis, here, 2, skip, g->re->rank, from);
    Parts p = {.re = def_at(g->d, g->re, from, g->re->rank)};
    if (g->im) p.im = def_at(g->d, g->im, from, g->im->rank);
    return p;
}

/* f->out from its parts at the stage's element. */
static void finish_parts(Def *d, const Dft *f, Stage *s, Parts p, int64_t length) {
    KCtx *k = d->k;
    const KExpr *e = p.re, *zero = k_int(k, 0);
    if (!is_mirrored(f)) e = k_select(k, k_eq(k, def_axis(d, s, f->x->rank - 1), zero), e, p.im);
    if (f->inverse) e = k_mul(k, e, k_const(k, sum_dtype(f), 1 / (double)length));
    def_map(d, s, k_cast(k, f->out->dtype, e));
}

static bool lower_staged(Def *d, const Dft *f) {
    int64_t factor[MAX_FACTORS], axis, length;
    if (!are_known(f, &axis, &length)) return false;
    int n_factors = factorize(length, factor);
    if (!n_factors) return false;
    Signal g = {.d = d, .f = f, .axis = (int)axis, .p = length, .q = 1};
    g.re = load_part(&g, 0);
    if (!is_real(f)) g.im = load_part(&g, 1);
    for (int i = 0; i < n_factors; i++) lower_stage(&g, factor[i]);
    Stage *s = def_begin(d, FORM_MAP, f->out);
    finish_parts(d, f, s, parts_at(&g, s, def_axis(d, s, (int)axis), 1), length);
    return true;
}

/* ---- chirp ----------------------------------------------------------------------------------- */

/* In place: v[i] := sum over t of v[t] * root(-i t / n), n a power of two; v has n pairs. */
static void transform_table(Arena *a, double *v, int64_t n) {
    if (n == 1) return;
    int64_t half = n / 2;
    double *even = arena_array(a, double, 2 * half), *odd = arena_array(a, double, 2 * half);
    for (int64_t i = 0; i < half; i++)
        for (int part = 0; part < 2; part++) {
            even[2 * i + part] = v[4 * i + part];
            odd[2 * i + part] = v[4 * i + 2 + part];
        }
    transform_table(a, even, half);
    transform_table(a, odd, half);
    for (int64_t i = 0; i < half; i++) {
        double c, s;
        unit_root(i, n, &c, &s);
        double re = odd[2 * i] * c + odd[2 * i + 1] * s, im = odd[2 * i + 1] * c - odd[2 * i] * s;
        v[2 * i] = even[2 * i] + re;
        v[2 * i + 1] = even[2 * i + 1] + im;
        v[2 * (i + half)] = even[2 * i] - re;
        v[2 * (i + half) + 1] = even[2 * i + 1] - im;
    }
}

/* Two tables [count]: the parts of pairs v. */
static void pair_tables(const Signal *g, const double *v, int64_t count, KTensor *table[2]) {
    double *part = arena_array(g->d->m->scratch, double, count);
    for (int i = 0; i < 2; i++) {
        for (int64_t j = 0; j < count; j++) part[j] = v[2 * j + i];
        table[i] =
            def_table_floats(g->d, i ? "chirp_im" : "chirp_re", sum_dtype(g->f), part, count);
    }
}

/* w[t] = root(-+ t^2 / 2n) for t < n, and the transform of the n - 1 + n conj(w) around 0 over
 * `wide`, divided by it. */
static void chirp_tables(const Signal *g, int64_t n, int64_t wide, KTensor *w[2], KTensor *by[2]) {
    Arena *a = g->d->m->scratch;
    double *chirp = arena_array(a, double, 2 * n), *v = arena_array(a, double, 2 * wide);
    for (int64_t t = 0; t < n; t++) {
        double *c = chirp + 2 * t;
        unit_root(turn_of(t, t, 2 * n), 2 * n, &c[0], &c[1]);
        if (!g->f->inverse) c[1] = -c[1];
        for (int side = 0; side < 2; side++) {
            double *at = v + 2 * (side && t ? wide - t : t);
            at[0] = c[0] / (double)wide;
            at[1] = -c[1] / (double)wide;
        }
    }
    transform_table(a, v, wide);
    pair_tables(g, chirp, n, w);
    pair_tables(g, v, wide, by);
}

static Parts multiplied(KCtx *k, Parts a, Parts b) {
    if (!a.im) return (Parts){k_mul(k, a.re, b.re), k_mul(k, a.re, b.im)};
    return (Parts){k_sub(k, k_mul(k, a.re, b.re), k_mul(k, a.im, b.im)),
                   k_add(k, k_mul(k, a.re, b.im), k_mul(k, a.im, b.re))};
}

static Parts table_parts(Def *d, KTensor *const table[2], const KExpr *at) {
    return (Parts){def_at(d, table[0], &at, 1), def_at(d, table[1], &at, 1)};
}

/* The signal times a table of `count` pairs, zeros behind it, as one of the length of `as` that is
 * not transformed yet. */
static Signal times_table(const Signal *g, KTensor *const table[2], int64_t count, const Dft *as) {
    Def *d = g->d;
    KCtx *k = d->k;
    DType t = sum_dtype(as);
    const KExpr *dims[MAX_RANK], *here[2] = {as->length, k_int(k, 1)};
    int rank = signal_dims(as, g->axis, here, 2, dims);
    Signal out = {.d = d, .f = as, .axis = g->axis, .q = 1};
    bool is_known = k_is_int(as->length, &out.p);
    BUG_IF(!is_known, "the length of a chirp is not known");
    for (int part = 0; part < 2; part++) {
        KTensor *v = def_temp(d, part ? "imaginary" : "real", t, rank, dims);
        Stage *s = def_begin(d, FORM_MAP, v);
        const KExpr *i = def_axis(d, s, g->axis), *last = k_int(k, count - 1);
        const KExpr *at = count < out.p ? k_min(k, i, last) : i;
        Parts p = multiplied(k, parts_at(g, s, at, 2), table_parts(d, table, at));
        const KExpr *e = part ? p.im : p.re;
        if (count < out.p) e = k_select(k, k_le(k, i, last), e, k_const(k, t, 0));
        def_map(d, s, e);
        *(part ? &out.im : &out.re) = v;
    }
    return out;
}

static void lower_stages(Signal *g) {
    int64_t factor[MAX_FACTORS];
    int n = factorize(g->p, factor);
    for (int i = 0; i < n; i++) lower_stage(g, factor[i]);
}

static bool lower_chirp(Def *d, const Dft *f) {
    KCtx *k = d->k;
    int64_t axis, length, wide = 1;
    if (!are_known(f, &axis, &length) || length > LONGEST_CHIRP) return false;
    while (wide < 2 * length - 1) wide *= 2;
    KTensor *w[2], *by[2];
    Signal g = {.d = d, .f = f, .axis = (int)axis, .p = length, .q = 1};
    chirp_tables(&g, length, wide, w, by);
    Dft there = {.x = f->x, .out = f->out, .axis = f->axis, .length = k_int(k, wide)}, back = there;
    back.inverse = true;
    g.re = load_part(&g, 0);
    if (!is_real(f)) g.im = load_part(&g, 1);
    g = times_table(&g, w, length, &there);
    lower_stages(&g);
    g = times_table(&g, by, wide, &back);
    lower_stages(&g);
    Stage *s = def_begin(d, FORM_MAP, f->out);
    const KExpr *bin = def_axis(d, s, (int)axis);
    Parts p = multiplied(k, parts_at(&g, s, bin, 1), table_parts(d, w, bin));
    finish_parts(d, f, s, p, length);
    return true;
}

/* ---- direct ---------------------------------------------------------------------------------- */

/* cosines (or sines, with the transform's sign) of 2 pi i / length, i < length */
static KTensor *root_table(Def *d, const Dft *f, bool sines) {
    KCtx *k = d->k;
    const double turn = 6.28318530717958647693;
    KTensor *table = def_temp(d, sines ? "sines" : "cosines", sum_dtype(f), 1, &f->length);
    Stage *s = def_begin(d, FORM_MAP, table);
    const KExpr *i = k_mul(k, k_cast(k, DT_F64, def_axis(d, s, 0)), k_const(k, DT_F64, turn));
    i = k_div(k, i, k_cast(k, DT_F64, f->length));
    const KExpr *e = k_unary(k, sines ? KO_sin : KO_cos, i);
    if (sines && !f->inverse) e = k_neg(k, e);
    def_map(d, s, k_cast(k, table->dtype, e));
    return table;
}

/* a where the axis is `axis`, else b */
static const KExpr *on_axis(KCtx *k, const Dft *f, int axis, const KExpr *a, const KExpr *b) {
    return k_select(k, k_eq(k, f->axis, k_int(k, axis)), a, b);
}

static void lower_direct(Def *d, const Dft *f) {
    KCtx *k = d->k;
    KTensor *x = f->x, *cosines = root_table(d, f, false), *sines = root_table(d, f, true);
    DType t = sum_dtype(f);
    Stage *s = def_begin(d, FORM_REDUCE, f->out);
    const KExpr *from[MAX_RANK], *i = def_reduce_axis(d, s, "t", n_terms(k, f));
    const KExpr *bin = k_int(k, 0), *dim = bin, *zero = k_const(k, t, 0), *e;
    for (int a = 0; a < x->rank - 1; a++) {
        bin = on_axis(k, f, a, def_axis(d, s, a), bin);
        dim = on_axis(k, f, a, x->dims[a], dim);
        from[a] = on_axis(k, f, a, i, def_axis(d, s, a));
    }
    const KExpr *turn = k_fmod(k, k_mul(k, bin, i), f->length), *inside = k_lt(k, i, dim);
    const KExpr *cosine = def_at(d, cosines, &turn, 1), *sine = def_at(d, sines, &turn, 1);
    from[x->rank - 1] = k_int(k, 0);
    const KExpr *re = k_cast(k, t, def_at_if(d, x, from, x->rank, inside)), *im = zero;
    if (!is_real(f)) {
        from[x->rank - 1] = k_int(k, 1);
        im = k_cast(k, t, def_at_if(d, x, from, x->rank, inside));
    }
    e = is_real(f) ? k_mul(k, re, cosine) : k_sub(k, k_mul(k, re, cosine), k_mul(k, im, sine));
    if (is_mirrored(f)) {
        const KExpr *own = k_eq(k, k_mul(k, i, k_int(k, 2)), f->length);
        own = k_or(k, own, k_eq(k, i, k_int(k, 0)));
        e = k_mul(k, e, k_select(k, own, k_const(k, t, 1), k_const(k, t, 2)));
    } else {
        const KExpr *other = k_mul(k, re, sine);
        if (!is_real(f)) other = k_add(k, other, k_mul(k, im, cosine));
        e = k_select(k, k_eq(k, def_axis(d, s, x->rank - 1), k_int(k, 0)), e, other);
    }
    def_reduce(d, s, KO_add, t, zero, e);
    e = def_acc(d, s);
    if (f->inverse) e = k_div(k, e, k_cast(k, t, f->length));
    def_finish(d, s, k_cast(k, f->out->dtype, e));
}

void lower_dft(Def *d, const Dft *f) {
    Dense z;
    if (dense_sizes(d->k, f, &z) && prefers_dense(&z))
        lower_dense(d, f, &z);
    else if (!lower_staged(d, f) && !lower_chirp(d, f))
        lower_direct(d, f);
}
