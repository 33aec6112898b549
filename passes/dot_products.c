/* Integer contracts as dot products of four bytes, for choose_schedules.
 *
 * Before:  contract over [c < 64, ky, kx], acc i32     lhs = i32(x[0, c, ..]) - 3
 *                                                      rhs = i32(w[j, c, ky, kx])
 * After:   contract over [c < 16, ky, kx], dot4_us     lhs = word(x[0, c*4, ..])
 *                                                      rhs = byte 0 | byte 1 << 8 | ...
 *                                                            of w[j, c*4 + b, ky, kx]
 *          finish: acc + table[j] where it said acc;     table[j] = -3 * sum of w[j, ...]
 *
 * A word holds four neighbours along one axis of the sum. x is read in place where these are
 * neighbours in memory (channels in blocks; the last axis of a matrix), else through a tensor of
 * words that a stage of its own makes, with a halo of zero points. The other factor becomes one
 * word like any operand that is packed, at compile time if it is constant. The instruction
 * multiplies unsigned by signed bytes: signed ones on the left and unsigned ones on the right are
 * moved by 128, and so is their zero point. From
 *
 *     sum (x - zx)(w - zw)  =  sum x w  -  zx sum w  -  zw sum (x - zx)
 *
 * the second term is a table, the third is there for asymmetric weights only.
 *
 * Machines that multiply signed bytes by signed ones (dot4_ss) have x moved the other way. Those
 * with pairs of 16 bits only (dot2_ss) have both factors less their zero points in words of two,
 * x through a tensor of 16 bits (dot_pairs.c): nothing is left to correct. */
#include <string.h>

#include "ir/matrix.h"
#include "passes/dot_products.h"
#include "passes/pass.h"

/* ---- which axis ------------------------------------------------------------------------------ */

static bool fits_in_place(const Dot *d, int axis, const KExpr *base, int64_t extent) {
    const KTensor *t = d->x.at->u.tensor;
    const KExpr *parts = k_int(d->k, d->parts);
    bool whole = extent % d->parts == 0, from_start = k_is_value(k_fmod(d->k, base, parts), 0);
    if (tensor_contiguous_axis(t) != axis) return false;
    if (t->layout.block <= 1) return whole;
    return t->layout.block % d->parts == 0 && t->layout.block_axis == axis && from_start;
}

/* The axis of x's read that red[r] runs along by itself: index = base + red[r]; -1 when there is
 * none. */
static int axis_along(const Dot *d, int r, const KExpr **base) {
    const KExpr *at = d->x.at, *coeff;
    KVar *var = d->s->red[r];
    int axis = -1;
    for (int a = 0; a < at->u.tensor->rank; a++) {
        if (!k_uses_var(d->k, at->arg[a], var)) continue;
        if (axis >= 0 || !k_linear_in(d->k, at->arg[a], var, base, &coeff) || !k_is_value(coeff, 1))
            return -1;
        axis = a;
    }
    if (d->x.inside && k_uses_var(d->k, d->x.inside, var)) return -1;
    return axis;
}

bool dot_choose_axis(Dot *d) {
    d->red = -1;
    for (int r = 0; r < d->s->n_red; r++) {
        const KExpr *base = NULL;
        int64_t extent;
        int axis = axis_along(d, r, &base);
        if (axis < 0 || !k_is_int(d->s->red_extent[r], &extent) || extent < 2) continue;
        bool in_place = fits_in_place(d, axis, base, extent);
        if (!in_place && !k_is_value(base, 0)) continue;
        if (d->red >= 0 && (in_place != d->in_place ? d->in_place : extent <= d->extent)) continue;
        d->red = r;
        d->extent = extent;
        d->axis = axis;
        d->in_place = in_place;
    }
    return d->red >= 0;
}

/* ---- words ----------------------------------------------------------------------------------- */

static const KExpr *part_index(const Dot *d, int part) {
    const KExpr *first = k_mul(d->k, k_var(d->k, d->group), k_int(d->k, d->parts));
    return k_add(d->k, first, k_int(d->k, part));
}

/* The factor's element with the reduction axis at group*parts + part, as the low bits of an i32;
 * what is beyond the axis is 0. Bytes: flip moves them by 128. Halves: less the zero point. */
static const KExpr *part_of(Dot *d, const KExpr *at, const KExpr *zero, int part, bool flip) {
    KCtx *k = d->k;
    const KExpr *index = part_index(d, part), *inside = at_pred(at), *arg[MAX_RANK + 1];
    int rank = at->u.tensor->rank;
    if (inside) inside = k_subst(k, inside, &d->s->red[d->red], &index, 1);
    if (d->extent % d->parts) {
        const KExpr *in = k_lt(k, index, k_int(k, d->extent));
        inside = inside ? k_and(k, inside, in) : in;
    }
    for (int i = 0; i < rank; i++) arg[i] = k_subst(k, at->arg[i], &d->s->red[d->red], &index, 1);
    if (inside) arg[rank] = inside;
    const KExpr *v = k_at(k, at->u.tensor, arg, rank + (inside != NULL));
    v = k_cast(k, DT_I32, v->dtype == DT_BF16 ? k_bitcast(k, DT_U16, v) : v);
    if (d->parts == 2) {
        v = zero ? k_sub(k, v, zero) : v;
        return k_and(k, inside && zero ? k_select(k, inside, v, dot_i32(d, 0)) : v,
                     dot_i32(d, 65535));
    }
    v = k_and(k, v, dot_i32(d, 255));
    if (flip) v = k_xor(k, v, dot_i32(d, 128));
    return inside && flip ? k_select(k, inside, v, dot_i32(d, 0)) : v;
}

static const KExpr *word_of(Dot *d, const KExpr *at, const KExpr *zero, bool flip) {
    const KExpr *part[4];
    for (int i = 0; i < d->parts; i++) part[i] = part_of(d, at, zero, i, flip);
    return join_parts(d->k, part, d->parts);
}

/* zero in all four bytes; NULL when it is 0, or taken off already */
static const KExpr *zero_word(Dot *d) {
    if (!d->x.zero || d->parts != 4) return NULL;
    const KExpr *byte = d->x.zero;
    if (d->op == KO_dot4_ss) byte = k_and(d->k, byte, dot_i32(d, 255));
    return k_mul(d->k, byte, dot_i32(d, 0x01010101));
}

static int64_t n_words(const Dot *d) {
    return (d->extent + d->parts - 1) / d->parts;
}

/* A tensor of x's words along d->axis, and a read of it where x was read. */
static const KExpr *words_apart(Dot *d, bool flip) {
    KCtx *k = d->k;
    const KExpr *at = d->x.at, *dims[MAX_RANK], *index[MAX_RANK + 1];
    KTensor *x = at->u.tensor;
    for (int i = 0; i < x->rank; i++)
        dims[i] = i == d->axis ? k_int(k, n_words(d)) : x->dims[i];
    KTensor *words = program_add_tensor(d->p, "words", DT_I32, x->rank, dims);
    Stage *make = program_add_stage(d->p, d->s, FORM_MAP, words, d->s->node);
    for (int i = 0; i < x->rank; i++)
        index[i] = i == d->axis                ? k_var(k, d->s->red[d->red])
                   : k_is_value(x->dims[i], 1) ? k_int(k, 0)
                                               : k_var(k, make->axis[i]);
    const KExpr *group = k_var(k, make->axis[d->axis]);
    const KExpr *word = word_of(d, k_at(k, x, index, x->rank), d->x.zero, flip);
    make->body = k_subst(k, word, &d->group, &group, 1);
    for (int i = 0; i < x->rank; i++) index[i] = i == d->axis ? k_var(k, d->group) : at->arg[i];
    if (d->x.inside) index[x->rank] = d->x.inside;
    return k_at(k, words, index, x->rank + (d->x.inside != NULL));
}

/* The halo of x, on which its read may rely, for its words. */
static void copy_halo(const Dot *d, KTensor *words, int32_t value) {
    const Layout *from = &d->x.at->u.tensor->layout;
    if (!from->has_halo) return;
    words->layout.has_halo = true;
    words->layout.halo_value = value;
    for (int i = 0; i < words->rank; i++)
        for (int end = 0; end < 2 && i != d->axis; end++)
            words->layout.halo[i][end] = from->halo[i][end];
}

/* The left factor: words of x, zero points outside. */
static const KExpr *left_words(Dot *d, bool flip) {
    KCtx *k = d->k;
    const KExpr *zero = zero_word(d), *word;
    if (d->in_place && d->op == KO_dot2_ss) return dot_pair_in_place(d);
    if (d->in_place) {
        const KExpr *first = part_index(d, 0), *arg[MAX_RANK + 1];
        for (int i = 0; i < d->x.at->n_args; i++)
            arg[i] = k_subst(k, d->x.at->arg[i], &d->s->red[d->red], &first, 1);
        word = k_at_word(k, d->x.at->u.tensor, arg, d->x.at->n_args);
        if (flip) word = k_xor(k, word, dot_i32(d, -0x7f7f7f80));
    } else {
        bool changed = false;
        word = words_apart(d, flip);
        bool known = !zero || zero->op == KO_const_i;
        int32_t value = zero && known ? (int32_t)zero->u.i : 0;
        if (known) copy_halo(d, word->u.tensor, value);
        if (known) widen_halo(k, d->s, word, value, &changed);
        if (d->x.inside && !at_pred_beyond_halo(k, word, value))
            return drop_predicate(k, word, d->x.inside);
    }
    if (!d->x.inside || (!zero && !(flip && d->in_place))) return word;
    return k_select(k, d->x.inside, word, zero ? zero : dot_i32(d, 0));
}

/* ---- corrections ----------------------------------------------------------------------------- */

/* The reduction axis along which x walks memory; -1 when there is none. */
static int axis_in_memory(const Dot *d) {
    const KExpr *base;
    int contiguous = tensor_contiguous_axis(d->x.at->u.tensor);
    for (int r = 0; r < d->s->n_red; r++)
        if (contiguous >= 0 && axis_along(d, r, &base) == contiguous) return r;
    return -1;
}

static void add_sum_axis(Dot *d, Stage *sum, const KVar *of, const KExpr *extent) {
    sum->red[sum->n_red] = kvar_new(d->k, KV_AXIS, DT_I64, of->name, 0, k_last_index(extent));
    sum->red_extent[sum->n_red++] = extent;
}

/* Gives `sum` the axes of the reduction, and e over them. Whole numbers are summed in any order:
 * the last axis is the one along memory, one block of it at a time, so that lanes lie there. */
static const KExpr *over_sum_axes(Dot *d, Stage *sum, const KExpr *e) {
    KCtx *k = d->k;
    Stage *s = d->s;
    const KExpr *by;
    int last = axis_in_memory(d);
    int64_t extent, block = d->x.at->u.tensor->layout.block;
    for (int r = 0; r < s->n_red; r++) {
        by = k_int(k, 0);
        if (r == last) continue;
        if (!k_is_value(s->red_extent[r], 1)) {
            add_sum_axis(d, sum, s->red[r], s->red_extent[r]);
            by = k_var(k, sum->red[sum->n_red - 1]);
        }
        e = k_subst(k, e, &s->red[r], &by, 1);
    }
    if (last < 0) return e;
    const KExpr *length = s->red_extent[last];
    by = k_int(k, 0);
    if (sum->n_red + 1 < MAX_RED && block > 1 && k_is_int(length, &extent) && extent > block &&
        extent % block == 0) {
        add_sum_axis(d, sum, s->red[last], k_int(k, extent / block));
        by = k_mul(k, k_var(k, sum->red[sum->n_red - 1]), k_int(k, block));
        length = k_int(k, block);
    }
    add_sum_axis(d, sum, s->red[last], length);
    by = k_add(k, by, k_var(k, sum->red[sum->n_red - 1]));
    return k_subst(k, e, &s->red[last], &by, 1);
}

/* Sums of e over the reduction axes, as a tensor over the axes of the result that e uses, and a
 * read of it. Constant where e is. */
static const KExpr *sums_of(Dot *d, const char *name, const KExpr *e) {
    KCtx *k = d->k;
    Stage *s = d->s;
    KVar *var[MAX_RANK];
    const KExpr *extent[MAX_RANK] = {0}, *index[MAX_RANK];
    int n = stage_axes_of(k, s, e, var, extent);
    KTensor *t = program_add_tensor(d->p, name, DT_I32, n, extent);
    Stage *sum = program_add_stage(d->p, s, FORM_REDUCE, t, s->node);
    for (int i = 0; i < n; i++) index[i] = k_var(k, sum->axis[i]);
    sum->body = over_sum_axes(d, sum, k_subst(k, e, var, index, n));
    sum->fold = KO_add;
    sum->init = dot_i32(d, 0);
    sum->acc = kvar_new(k, KV_AXIS, DT_I32, "acc", INT64_MIN, INT64_MAX);
    sum->finish = k_var(k, sum->acc);
    if (evaluate_stage(d->p, sum)) {
        stage_remove(d->p, sum);
        t->def = NULL;
    }
    for (int i = 0; i < n; i++) index[i] = k_var(k, var[i]);
    return k_at(k, t, index, n);
}

const KExpr *dot_tabulate(Dot *d, const char *name, const KExpr *e) {
    const KExpr *t = tabulate_constant(d->p, d->s, name, e);
    return !t ? e : constant_is_zero(d->k, t) ? NULL : t;
}

/* What is to be subtracted from the dot products; NULL when nothing is. w: the right factor's bytes
 * as the instruction takes them. */
static const KExpr *correction(Dot *d, const KExpr *w) {
    KCtx *k = d->k;
    const KExpr *total = NULL;
    if (d->x.zero) {
        total = k_mul(k, d->x.zero, sums_of(d, "sums", w));
        total = dot_tabulate(d, "offsets", total);
    }
    if (d->w.zero) {
        const KExpr *part = k_mul(k, d->w.zero, sums_of(d, "row_sums", d->s->lhs));
        total = total ? k_add(k, total, part) : part;
    }
    return total;
}

typedef struct Less {
    DefProgram *p;
    Stage *s;
    const KExpr *sum, *minus; /* the accumulator, and what it has too much */
} Less;

/* acc - minus; acc + bias[j] of constants as acc + table[j] */
static const KExpr *read_less(KCtx *k, const KExpr *e, void *user) {
    Less *l = user;
    const KExpr *less = k_sub(k, l->sum, l->minus);
    if (e == l->sum) return less;
    if (e->op != KO_add || e->dtype != DT_I32 || (e->arg[0] != less && e->arg[1] != less)) return e;
    const KExpr *other = e->arg[e->arg[0] == less];
    const KExpr *t = tabulate_constant(l->p, l->s, "offsets", k_sub(k, other, l->minus));
    return t ? k_add(k, l->sum, t) : e;
}

static void subtract_from_sum(DefProgram *p, Stage *s, const KExpr *minus) {
    Less l = {p, s, k_var(p->m->k, s->acc), minus};
    s->finish = k_rewrite(p->m->k, s->finish, read_less, &l);
}

void dot_correct(Dot *d, const KExpr *w) {
    const KExpr *minus = correction(d, w);
    if (minus) subtract_from_sum(d->p, d->s, minus);
}

/* ---- the rewrite ----------------------------------------------------------------------------- */

static void swap_factors(Stage *s) {
    const KExpr *t = s->lhs;
    s->lhs = s->rhs;
    s->rhs = t;
}

/* Moves a zero point by 128. */
static const KExpr *moved(Dot *d, const KExpr *zero, int by) {
    return k_add(d->k, zero ? zero : dot_i32(d, 0), dot_i32(d, by));
}

/* Are the factors bytes, of which the left one is the same for all lanes, or for those of a group
 * of channels? Both parts of the template's condition; swaps them if need be. */
static bool find_factors(Dot *d) {
    for (int i = 0; i < 2; i++) {
        bool fits = schedule_contract_axes(d->p, d->s, d->p->m->target, &d->axes) &&
                    d->axes.lanes > 1 && match_int_factor(d->k, d->s->lhs, &d->x) &&
                    match_int_factor(d->k, d->s->rhs, &d->w) && !d->w.inside;
        d->in_groups = fits && k_uses_var(d->k, d->s->lhs, d->s->axis[d->axes.vec_axis]);
        if (fits && (!d->in_groups || dot_find_groups(d))) return true;
        swap_factors(d->s);
    }
    return false;
}

/* Words are made of the right factor at compile time, or used more than once. */
static bool is_worth_packing(const Dot *d) {
    if (d->w.at->u.tensor->data) return true;
    for (int i = 0; i < d->s->out->rank; i++)
        if (!k_uses_var(d->k, d->s->rhs, d->s->axis[i]) && !k_is_value(d->s->out->dims[i], 1))
            return true;
    return false;
}

/* The same with the bytes themselves as factors, of any signs, where a matrix unit takes them. */
static bool use_byte_products(Dot *d) {
    KCtx *k = d->k;
    Stage *s = d->s, tried = *s;
    Schedule sch;
    Matrix x;
    tried.lhs = k_cast(k, DT_I32, d->x.at);
    tried.rhs = k_cast(k, DT_I32, d->w.at);
    if (d->x.inside || !schedule_contract_axes(d->p, &tried, d->p->m->target, &sch) ||
        !matrix_match(d->p, &tried, &sch, &x))
        return false;
    if (d->x.zero && k_is_value(d->x.zero, 0)) d->x.zero = NULL;
    dot_correct(d, tried.rhs);
    s->lhs = tried.lhs;
    s->rhs = tried.rhs;
    return true;
}

/* Is w computed and are its four neighbours of the sum neighbours in memory? On which axis of it.
 * */
static bool has_words(const Dot *d, int *axis) {
    Dot left = *d;
    const KExpr *base;
    left.x = d->w;
    if (d->parts != 4 || d->w.at->u.tensor->data || at_pred(d->w.at)) return false;
    *axis = axis_along(&left, d->red, &base);
    return *axis >= 0 && fits_in_place(&left, *axis, base, d->extent);
}

/* Do windows read w, one place of it for each lane? Then along which axis of w lanes are
 * neighbours; -1: they do not. */
static int lanes_of_windows(const Dot *d) {
    const KExpr *at = d->w.at, *base, *coeff;
    KVar *lane = d->s->axis[d->axes.vec_axis];
    bool has_taps = false;
    int axis = -1;
    for (int i = 0; i < at->n_args; i++) {
        for (int r = 0; r < d->s->n_red; r++)
            has_taps |= r != d->red && !k_is_value(d->s->red_extent[r], 1) &&
                        k_uses_var(d->k, at->arg[i], d->s->red[r]);
        if (!k_uses_var(d->k, at->arg[i], lane)) continue;
        if (axis >= 0 || !k_linear_in(d->k, at->arg[i], lane, &base, &coeff) ||
            !k_is_value(coeff, 1))
            return -1;
        axis = i;
    }
    return has_taps && axis == at->u.tensor->rank - 1 ? axis : -1;
}

/* Words that lie in planes, so that lanes along a row of windows read them in place: a tensor like
 * w but for its channels, with w's halo, and beyond it what the last vector of a row reads. */
static const KExpr *planes_of_words(Dot *d, int axis, int lanes_axis, bool flip) {
    KCtx *k = d->k;
    const KExpr *at = d->w.at, *dims[MAX_RANK], *index[MAX_RANK];
    KTensor *w = at->u.tensor;
    const Layout *from = &w->layout;
    int64_t n, rest = 0;
    for (int i = 0; i < w->rank; i++) dims[i] = i == axis ? k_int(k, n_words(d)) : w->dims[i];
    KTensor *words = program_add_tensor(d->p, "words", DT_I32, w->rank, dims);
    Stage *make = program_add_stage(d->p, d->s, FORM_MAP, words, d->s->node);
    for (int i = 0; i < w->rank; i++) {
        index[i] = k_var(k, make->axis[i]);
        if (i == axis) index[i] = k_mul(k, index[i], k_int(k, 4));
    }
    make->body = k_at_word(k, w, index, w->rank);
    if (flip) make->body = k_xor(k, make->body, dot_i32(d, -0x7f7f7f80));
    Layout *to = &words->layout;
    to->has_halo = true;
    to->halo_value = (from->has_halo ? from->halo_value & 255 : 0) * 0x01010101;
    if (flip) to->halo_value ^= -0x7f7f7f80;
    for (int i = 0; i < w->rank; i++)
        for (int end = 0; end < 2 && from->has_halo && i != axis; end++)
            to->halo[i][end] = from->halo[i][end];
    if (k_is_int(d->s->out->dims[d->axes.vec_axis], &n)) rest = n % d->axes.lanes;
    if (rest) to->halo[lanes_axis][1] += d->axes.lanes - rest;
    for (int i = 0; i < w->rank; i++) index[i] = i == axis ? k_var(k, d->group) : at->arg[i];
    return k_at(k, words, index, w->rank);
}

/* The right factor: words of w. What is computed and has four neighbours in memory is read by words
 * while it is packed; what windows read lies in planes of words, and is read there. */
static const KExpr *right_words(Dot *d, bool flip) {
    const KExpr *first = part_index(d, 0), *arg[MAX_RANK], *at = d->w.at;
    int axis, lanes_axis;
    if (!has_words(d, &axis)) return word_of(d, at, d->w.zero, flip);
    lanes_axis = lanes_of_windows(d);
    if (lanes_axis >= 0) return planes_of_words(d, axis, lanes_axis, flip);
    for (int i = 0; i < at->n_args; i++)
        arg[i] = k_subst(d->k, at->arg[i], &d->s->red[d->red], &first, 1);
    const KExpr *word = k_at_word(d->k, at->u.tensor, arg, at->n_args);
    return flip ? k_xor(d->k, word, dot_i32(d, -0x7f7f7f80)) : word;
}

void dot_use_words(Dot *d, bool flip_x, bool flip_w) {
    Stage *s = d->s;
    d->group = kvar_new(d->k, KV_AXIS, DT_I64, s->red[d->red]->name, 0, n_words(d) - 1);
    s->rhs = right_words(d, flip_w);
    s->lhs = left_words(d, flip_x);
    s->red[d->red] = d->group;
    s->red_extent[d->red] = k_int(d->k, n_words(d));
    s->dot = d->op;
    s->dot_swapped = d->swaps;
    pass_trace("choose_schedules", s->node, "dot products of %d %s along '%s'%s", d->parts,
               d->parts == 4 ? "bytes" : "halves", s->red[d->red]->name,
               d->in_place ? "" : ", in words of their own");
}

/* Are the weights read from far away for a few rows? Then what counts is that they stay bytes. */
static bool is_byte_stream(const Dot *d) {
    enum { FEW_ROWS = 4, SHARE = 4 };
    KCtx *k = d->k;
    int64_t n, rows = 1, bytes;
    const KTensor *w = d->w.at->u.tensor;
    for (int i = 0; i < d->s->out->rank; i++) {
        if (k_uses_var(k, d->w.at, d->s->axis[i])) continue;
        if (!k_is_int(d->s->out->dims[i], &n) || n > FEW_ROWS) return false;
        rows *= n;
    }
    return w->data && rows <= FEW_ROWS && k_is_int(tensor_n_elems(k, w), &bytes) &&
           2 * bytes > d->p->m->target->l2_bytes / SHARE;
}

/* Products of pairs of 16 bits, which hold an element less its zero point whatever it is. */
static bool use_pair_products(Dot *d) {
    bool is_same = true;
    d->parts = 2;
    d->op = KO_dot2_ss;
    for (int i = 0; d->x.zero && i < d->s->out->rank; i++)
        is_same &= !k_uses_var(d->k, d->x.zero, d->s->axis[i]);
    if (!is_same || int_factor_bound(&d->x) > INT16_MAX || d->in_groups || is_byte_stream(d) ||
        !dot_choose_axis(d))
        return false;
    if (d->x.zero && k_is_value(d->x.zero, 0)) d->x.zero = NULL;
    dot_use_words(d, false, false);
    return true;
}

bool use_dot_products(DefProgram *p, Stage *s) {
    KCtx *k = p->m->k;
    const Target *t = p->m->target;
    Dot d = {.p = p, .k = k, .s = s};
    int axis;
    if (s->fold != KO_add || !k_is_value(s->init, 0) || !find_factors(&d)) return false;
    bool is_worth = is_worth_packing(&d);
    if (!is_worth && (t->dot2 || d.in_groups)) return false;
    if (d.w.zero) d.w.zero = dot_tabulate(&d, "zero", d.w.zero);
    if (t->dot2 && use_pair_products(&d)) return true;
    d.parts = 4;
    d.op = t->dot4_signed ? KO_dot4_ss : KO_dot4_us;
    if (is_worth && !d.in_groups && use_byte_products(&d)) return true;
    if (!(d.in_groups ? dot_choose_group_axis(&d) : dot_choose_axis(&d))) return false;
    /* or by neighbouring windows */
    if (!is_worth && (!has_words(&d, &axis) || lanes_of_windows(&d) < 0)) return false;
    /* signed weights on the left of unsigned bytes are as the instruction wants them, swapped */
    bool is_signed = d.op == KO_dot4_ss;
    d.swaps = !is_signed && !d.in_groups && d.x.at->dtype == DT_I8 && d.w.at->dtype == DT_U8;
    bool flip_w = !d.swaps && d.w.at->dtype == DT_U8;
    bool flip_x = !d.swaps && d.x.at->dtype == (is_signed ? DT_U8 : DT_I8);
    if (flip_x) d.x.zero = moved(&d, d.x.zero, is_signed ? -128 : 128);
    if (flip_w) d.w.zero = moved(&d, d.w.zero, -128);
    if (d.w.zero) d.w.zero = dot_tabulate(&d, "zero", d.w.zero);
    if (d.x.zero && k_is_value(d.x.zero, 0)) d.x.zero = NULL;
    const KExpr *byte = k_cast(k, DT_I32, d.w.at);
    if (flip_w) byte = k_sub(k, byte, dot_i32(&d, 128));
    dot_correct(&d, byte);
    dot_use_words(&d, flip_x, flip_w);
    return true;
}

/* ---- sums of whole floats -------------------------------------------------------------------- */

enum { EXACT_IN_F32 = 1 << 24 };

typedef struct Sum {
    DefProgram *p;
    Stage *s;
    const KVar *old;
    const KExpr *value; /* f32, a whole number */
} Sum;

/* Is every element a whole number that f32 has? */
static bool is_small_constant(KCtx *k, const KExpr *e) {
    int64_t n = 1;
    if (e->op == KO_const_i) return e->u.i <= EXACT_IN_F32 && e->u.i >= -EXACT_IN_F32;
    if (e->op != KO_at || !k_is_int(tensor_n_elems(k, e->u.tensor), &n)) return false;
    const int32_t *v = e->u.tensor->data;
    for (int64_t i = 0; i < n; i++)
        if (v[i] > EXACT_IN_F32 || v[i] < -EXACT_IN_F32) return false;
    return true;
}

/* f32(acc), and f32(acc + constant) as acc + f32(constant): rounded once, both of them */
static const KExpr *read_sum(KCtx *k, const KExpr *e, void *user) {
    const Sum *sum = user;
    if (e->op == KO_var && e->u.var == sum->old) return k_cast(k, DT_I32, sum->value);
    if (e->op != KO_cast || e->dtype != DT_F32 || e->arg[0]->dtype != DT_I32) return e;
    const KExpr *of = e->arg[0], *back = k_cast(k, DT_I32, sum->value);
    if (of == back) return sum->value;
    if (of->op != KO_add || (of->arg[0] != back && of->arg[1] != back)) return e;
    const KExpr *other = tabulate_constant(sum->p, sum->s, "offsets", of->arg[of->arg[0] == back]);
    if (!other || !is_small_constant(k, other)) return e;
    other = tabulate_constant(sum->p, sum->s, "offsets", k_cast(k, DT_F32, other));
    return other ? k_add(k, sum->value, other) : e;
}

/* A zero point that the whole halo has too: inside everywhere, it counts once for the whole sum. */
static bool has_common_zero(const Dot *d) {
    return d->x.zero && d->x.zero->op == KO_const_i && !d->x.inside && d->w.at->u.tensor->data;
}

bool sum_as_float(DefProgram *p, Stage *s) {
    KCtx *k = p->m->k;
    Dot d = {.p = p, .k = k, .s = s};
    if (s->dot || !match_int_factor(k, s->lhs, &d.x) || !match_int_factor(k, s->rhs, &d.w))
        return false;
    double largest = int_sum_bound(s, &d.x, &d.w);
    if (has_common_zero(&d)) largest *= 2; /* of products without the zero point */
    if (largest <= 0 || largest > EXACT_IN_F32 || !k_is_value(s->init, 0)) return false;
    if (has_common_zero(&d)) {
        const KExpr *minus = k_mul(k, d.x.zero, sums_of(&d, "sums", s->rhs));
        minus = dot_tabulate(&d, "offsets", minus);
        s->lhs = k_cast(k, DT_I32, d.x.at);
        if (minus) subtract_from_sum(p, s, minus);
    }
    KVar *acc = kvar_new(k, KV_AXIS, DT_F32, s->acc->name, INT64_MIN, INT64_MAX);
    Sum sum = {p, s, s->acc, k_var(k, acc)};
    s->finish = k_rewrite(k, s->finish, read_sum, &sum);
    s->acc = acc;
    s->init = k_const(k, DT_F32, 0);
    s->lhs = k_cast(k, DT_F32, s->lhs);
    s->rhs = k_cast(k, DT_F32, s->rhs);
    return true;
}
