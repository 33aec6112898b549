/* NonMaxSuppression: for each batch and class, boxes by falling score that overlap no better one.
 *
 * A program. The candidates of one class (score above the threshold) are sorted by digits, which
 * takes no longer than to make a heap of them; each is compared with those of its class that were
 * selected before, CHUNK of them at a time in lanes: their ends and areas lie in a temporary, one
 * row for each number of a box, filled up with empty boxes, which overlap nothing.
 *
 * Where there are many candidates they are dealt into buckets by their low end on the first axis:
 *
 *     bucket(x) = floor((x - least)*scale)        within 0 .. n_buckets-1; rising, 0 of NaN
 *
 * A box from lo to hi can only overlap those of the buckets bucket(lo - widest) .. bucket(hi),
 * since rounding keeps order. Boxes of many classes, which exporters move apart by adding an offset
 * for each, so meet those of their own. Each bucket has room for all of its candidates, and knows
 * where the boxes end that were selected of it: what begins behind them looks at none.
 *
 * Order of the output: batch, class, selection. Equal scores: the lower box number first. The
 * number of rows is a computed symbol. */
#include <math.h>

#include "ir/ops/check.h"
#include "ir/ops/radix.h"

static bool check_single(Module *m, const Node *n, int i, DType t) {
    int64_t count;
    if (!has_in(n, i)) return true;
    if (!check_dtype(m, n, i, 1u << t)) return false;
    if (!shape_count_int(n->in[i]->shape, &count) || count == 1) return true;
    diag_error(m->diag, n->loc, "input %d has %lld elements, must have 1", i, (long long)count);
    return false;
}

/* Rows that are possible: batches * classes * min(boxes, the limit when it is known). */
static const KExpr *row_bound(Module *m, const Node *n) {
    KCtx *k = m->k;
    Shape scores = n->in[1]->shape;
    const KExpr *each = scores.dims[2],
                *limit = has_in(n, 2) ? value_content(m, n->in[2], 0) : k_int(k, 0);
    if (limit) each = k_min(k, each, k_max(k, limit, k_int(k, 0)));
    return k_mul(k, k_mul(k, scores.dims[0], scores.dims[1]), each);
}

bool nms_infer(Module *m, Node *n) {
    if (!check_dtype(m, n, 0, DTM(F32)) || !check_dtype(m, n, 1, DTM(F32)) ||
        !infer_rank(m, n, 0, 3, 3) || !infer_rank(m, n, 1, 3, 3) ||
        !check_dim(m, n, 0, 2, k_int(m->k, 4), "corners of a box") ||
        !check_dim(m, n, 0, 0, n->in[1]->shape.dims[0], "batches of the scores") ||
        !check_dim(m, n, 0, 1, n->in[1]->shape.dims[2], "boxes of the scores") ||
        !check_single(m, n, 2, DT_I64) || !check_single(m, n, 3, DT_F32) ||
        !check_single(m, n, 4, DT_F32) ||
        !check_attr_int(m, n, "center_point_box", attr_int(n, "center_point_box", 0), 0, 1))
        return false;
    if (n->out[0]->shape.rank == 2) return true; /* inferred before: the symbol stays */
    Shape out = shape_make(m->arena, 2);
    const KExpr *bound = row_bound(m, n);
    out.dims[0] =
        k_is_value(bound, 0) ? bound : k_var(m->k, module_computed_symbol(m, "selected", bound));
    out.dims[1] = k_int(m->k, 3);
    return infer_set(m, n, 0, DT_I64, out);
}

enum { LANES = 16, CHUNK = 4 * LANES, BOX_ROWS = 5, MOST_BUCKETS = 256, FEW = 4 * CHUNK };

/* A box as low and high ends on two axes. */
typedef struct Box {
    const KExpr *lo[2], *hi[2], *area;
} Box;

typedef struct Nms {
    Def *d;
    KTensor *boxes, *scores, *out;
    KTensor *chosen; /* [BOX_ROWS, room]: the class's selected boxes, by buckets */
    /* of buckets: where they begin, how many boxes they have, and the highest end of these */
    KTensor *starts, *fills, *ends;
    KBuf *n_buckets, *least, *scale, *reach; /* reach: a little more than the widest box has */
    const KExpr *batch, *class, *iou, *limit;
    const KExpr *from; /* the first box whose key is made */
    bool centered;
    Radix sort; /* its items: the class's candidates, then in order from item `best` on */
    const KExpr *best;
} Nms;

static const KExpr *reg(const Nms *s, KBuf *buf) {
    return k_load(s->d->k, buf, k_int(s->d->k, 0));
}

static void set_reg(const Nms *s, KBuf *buf, const KExpr *value) {
    kb_store(&s->d->b, buf, k_int(s->d->k, 0), value);
}

static const KExpr *score_of(const Nms *s, const KExpr *box) {
    const KExpr *at[3] = {s->batch, s->class, box};
    return def_at(s->d, s->scores, at, 3);
}

static const KExpr *score_at(void *user, const KExpr *i) {
    const Nms *s = user;
    return score_of(s, k_add(s->d->k, s->from, i));
}

/* Candidate number i. */
static const KExpr *candidate(const Nms *s, const KExpr *i) {
    KCtx *k = s->d->k;
    const KExpr *at = s->best ? k_add(k, s->best, i) : i;
    return kb_let(&s->d->b, "box", k_cast(k, DT_I64, k_load(k, s->sort.items, at)));
}

static const KExpr *box_value(const Nms *s, const KExpr *box, int i) {
    const KExpr *at[3] = {s->batch, box, k_int(s->d->k, i)};
    return kb_let(&s->d->b, "corner", def_at(s->d, s->boxes, at, 3));
}

static const KExpr *area(KCtx *k, const Box *b) {
    return k_mul(k, k_sub(k, b->hi[0], b->lo[0]), k_sub(k, b->hi[1], b->lo[1]));
}

/* Corners in any order, or center and size: the latter's axes are (x, y), the former's (y, x). */
static void read_ends(const Nms *s, const KExpr *box, int a, Box *r) {
    KCtx *k = s->d->k;
    const KExpr *p = box_value(s, box, a), *q = box_value(s, box, a + 2);
    if (s->centered) {
        const KExpr *half = k_div(k, q, k_const(k, DT_F32, 2));
        r->lo[a] = k_sub(k, p, half);
        r->hi[a] = k_add(k, p, half);
    } else {
        r->lo[a] = k_min(k, p, q);
        r->hi[a] = k_max(k, p, q);
    }
    r->lo[a] = kb_let(&s->d->b, "lo", r->lo[a]);
    r->hi[a] = kb_let(&s->d->b, "hi", r->hi[a]);
}

static Box read_box(const Nms *s, const KExpr *box) {
    KCtx *k = s->d->k;
    Box r;
    for (int a = 0; a < 2; a++) read_ends(s, box, a, &r);
    r.area = kb_let(&s->d->b, "area", area(k, &r));
    return r;
}

static const KExpr *chosen_place(const Nms *s, int row, const KExpr *i) {
    KCtx *k = s->d->k;
    return k_add(k, k_mul(k, s->chosen->dims[1], k_int(k, row)), i);
}

static Box chosen_box(const Nms *s, const KExpr *i) {
    const KExpr *part[BOX_ROWS];
    for (int r = 0; r < BOX_ROWS; r++)
        part[r] = k_load(s->d->k, s->chosen->buf, chosen_place(s, r, i));
    return (Box){.lo = {part[0], part[1]}, .hi = {part[2], part[3]}, .area = part[4]};
}

/* ---- buckets --------------------------------------------------------------------------------- */

static const KExpr *bucket_of(const Nms *s, const KExpr *x) {
    KCtx *k = s->d->k;
    const KExpr *last = k_sub(k, reg(s, s->n_buckets), k_int(k, 1));
    const KExpr *at = k_mul(k, k_sub(k, x, reg(s, s->least)), reg(s, s->scale));
    at = k_min(k, k_max(k, at, k_const(k, DT_F32, 0)), k_cast(k, DT_F32, last));
    return kb_let_index(&s->d->b, "bucket", k_cast(k, DT_I64, at), k_int(k, MOST_BUCKETS));
}

/* Sets least, reach and scale for n_items candidates in so many buckets. */
static void measure_candidates(const Nms *s, const KExpr *n_items, const KExpr *n_buckets) {
    KBuild *b = &s->d->b;
    KCtx *k = b->k;
    Box box;
    KBuf *most = kb_alloc(b, MEM_REG, DT_F32, "most", 1);
    set_reg(s, s->least, k_const(k, DT_F32, INFINITY));
    set_reg(s, most, k_const(k, DT_F32, -INFINITY));
    set_reg(s, s->reach, k_const(k, DT_F32, 0));
    const KExpr *i = kb_for(b, LOOP_SERIAL, "i", n_items);
    read_ends(s, candidate(s, i), 0, &box);
    /* a NaN leaves what was there */
    set_reg(s, s->least, k_min(k, box.lo[0], reg(s, s->least)));
    set_reg(s, most, k_max(k, box.lo[0], reg(s, most)));
    set_reg(s, s->reach, k_max(k, k_sub(k, box.hi[0], box.lo[0]), reg(s, s->reach)));
    kb_end(b);
    set_reg(s, s->reach, k_mul(k, reg(s, s->reach), k_const(k, DT_F32, 1 + 0x1p-20)));
    const KExpr *range = k_sub(k, reg(s, most), reg(s, s->least));
    set_reg(s, s->scale, k_div(k, k_cast(k, DT_F32, n_buckets), range));
}

/* Gives each bucket room for its candidates, in whole chunks. */
static void place_buckets(const Nms *s, const KExpr *n_items) {
    KBuild *b = &s->d->b;
    KCtx *k = b->k;
    KBuf *counts = s->fills->buf;
    Box box;
    const KExpr *i = kb_for(b, LOOP_SERIAL, "i", n_items), *one = k_int(k, 1);
    read_ends(s, candidate(s, i), 0, &box);
    const KExpr *q = bucket_of(s, box.lo[0]);
    kb_store(b, counts, q, k_add(k, k_load(k, counts, q), one));
    kb_end(b);
    KBuf *end = kb_alloc(b, MEM_REG, DT_I64, "end", 1);
    set_reg(s, end, k_int(k, 0));
    q = kb_for(b, LOOP_SERIAL, "q", k_min(k, reg(s, s->n_buckets), k_int(k, MOST_BUCKETS)));
    const KExpr *n = kb_let(b, "n", k_load(k, counts, q)), *chunk = k_int(k, CHUNK);
    const KExpr *chunks = k_fdiv(k, k_add(k, n, k_int(k, CHUNK - 1)), chunk);
    kb_store(b, s->starts->buf, q, reg(s, end));
    kb_store(b, counts, q, k_int(k, 0));
    set_reg(s, end, k_add(k, reg(s, end), k_mul(k, chunks, chunk)));
    kb_end(b);
}

/* One bucket for every CHUNK of the candidates, where more than a few boxes may be selected; a
 * single one needs to know nothing about them. */
static void make_buckets(const Nms *s, const KExpr *n_items) {
    KBuild *b = &s->d->b;
    KCtx *k = b->k;
    const KExpr *one = k_int(k, 1), *zero = k_int(k, 0), *none = k_const(k, DT_F32, 0);
    const KExpr *n = k_min(k, k_fdiv(k, n_items, k_int(k, CHUNK)), k_int(k, MOST_BUCKETS));
    n = k_select(k, k_lt(k, s->limit, k_int(k, FEW)), one, k_max(k, n, one));
    n = kb_let(b, "n_buckets", n);
    KBuf *const numbers[] = {s->least, s->scale, s->reach};
    set_reg(s, s->n_buckets, n);
    for (int i = 0; i < 3; i++) set_reg(s, numbers[i], none);
    const KExpr *q = kb_for(b, LOOP_SERIAL, "q", n);
    kb_store(b, s->fills->buf, q, zero);
    kb_store(b, s->ends->buf, q, k_const(k, DT_F32, -INFINITY));
    kb_end(b);
    kb_store(b, s->starts->buf, zero, zero);
    kb_if(b, k_lt(k, one, n));
    measure_candidates(s, n_items, n);
    place_buckets(s, n_items);
    kb_end(b);
}

/* ---- selection ------------------------------------------------------------------------------- */

/* Stores the box among those selected; the first of a chunk empties the rest of it. */
static void append_chosen(const Nms *s, const Box *box) {
    KBuild *b = &s->d->b;
    KCtx *k = b->k;
    const KExpr *q = bucket_of(s, box->lo[0]), *one = k_int(k, 1);
    const KExpr *fill = kb_let(b, "fill", k_load(k, s->fills->buf, q));
    kb_store(b, s->fills->buf, q, k_add(k, fill, one));
    kb_store(b, s->ends->buf, q, k_max(k, box->hi[0], k_load(k, s->ends->buf, q)));
    const KExpr *i = kb_let(b, "place", k_add(k, k_load(k, s->starts->buf, q), fill));
    const KExpr *part[BOX_ROWS] = {box->lo[0], box->lo[1], box->hi[0], box->hi[1], box->area};
    kb_if(b, k_eq(k, k_fmod(k, i, k_int(k, CHUNK)), k_int(k, 0)));
    for (int r = 0; r < BOX_ROWS; r++) {
        const KExpr *l = kb_for(b, LOOP_VECTOR, "l", k_int(k, CHUNK));
        kb_store(b, s->chosen->buf, chosen_place(s, r, k_add(k, i, l)), k_const(k, DT_F32, 0));
        kb_end(b);
    }
    kb_end(b);
    for (int r = 0; r < BOX_ROWS; r++) kb_store(b, s->chosen->buf, chosen_place(s, r, i), part[r]);
}

/* Is intersection over union above the threshold? Empty boxes and intersections never are.
 * maybe: true as well where it is a little less, which takes no division. */
static const KExpr *overlaps(const Nms *s, const Box *a, const Box *b, bool maybe) {
    KCtx *k = s->d->k;
    const KExpr *zero = k_const(k, DT_F32, 0);
    Box both;
    for (int i = 0; i < 2; i++) {
        both.lo[i] = k_max(k, a->lo[i], b->lo[i]);
        both.hi[i] = k_min(k, a->hi[i], b->hi[i]);
    }
    const KExpr *meets = k_and(k, k_lt(k, both.lo[0], both.hi[0]), k_lt(k, both.lo[1], both.hi[1]));
    const KExpr *shared = area(k, &both);
    const KExpr *all = k_sub(k, k_add(k, a->area, b->area), shared);
    meets = k_and(k, meets, k_and(k, k_lt(k, zero, shared), k_lt(k, zero, all)));
    meets = k_and(k, meets, k_and(k, k_lt(k, zero, a->area), k_lt(k, zero, b->area)));
    if (!maybe) return k_and(k, meets, k_lt(k, s->iou, k_div(k, shared, all)));
    const KExpr *least = k_mul(k, s->iou, k_const(k, DT_F32, 1 - 0x1p-20));
    return k_and(k, meets, k_not(k, k_lt(k, shared, k_mul(k, least, all))));
}

static const KExpr *out_place(KCtx *k, const KExpr *row, int column) {
    return k_add(k, k_mul(k, row, k_int(k, 3)), k_int(k, column));
}

/* A flag for each lane, none set. */
static KBuf *lane_flags(KBuild *b) {
    KCtx *k = b->k;
    KBuf *flags = kb_alloc(b, MEM_REG, DT_I32, "hit", LANES);
    const KExpr *l = kb_for(b, LOOP_VECTOR, "l", k_int(k, LANES));
    kb_store(b, flags, l, k_const_i(k, DT_I32, 0));
    kb_end(b);
    return flags;
}

/* Is the flag of any lane set? */
static const KExpr *any_flag(KBuild *b, KBuf *flags) {
    KCtx *k = b->k;
    for (int width = LANES / 2; width >= 1; width /= 2) {
        const KExpr *l = kb_for(b, LOOP_VECTOR, "l", k_int(k, width));
        const KExpr *other = k_load(k, flags, k_add(k, l, k_int(k, width)));
        kb_store(b, flags, l, k_or(k, k_load(k, flags, l), other));
        kb_end(b);
    }
    return k_ne(k, k_load(k, flags, k_int(k, 0)), k_const_i(k, DT_I32, 0));
}

/* Makes keys of `n` boxes from `from` on, and items of those with a score above the threshold. Each
 * is stored, and counts if it is one. */
static void take_candidates(const Nms *s, const KExpr *threshold, const KExpr *from, const KExpr *n,
                            KBuf *n_items) {
    KBuild *b = &s->d->b;
    KCtx *k = b->k;
    Nms part = *s;
    part.from = part.sort.keys_at = from;
    part.sort.n = n;
    radix_fill(&part.sort, score_at, &part, true);
    const KExpr *box = k_add(k, from, kb_for(b, LOOP_SERIAL, "box", n));
    const KExpr *at = kb_let(b, "at", reg(s, n_items)), *one = k_int(k, 1);
    kb_store(b, s->sort.items, at, k_cast(k, DT_I32, box));
    if (threshold) one = k_cast(k, DT_I64, k_lt(k, threshold, score_of(s, box)));
    set_reg(s, n_items, k_add(k, at, one));
    kb_end(b);
}

/* Sets the items to the class's candidates and n_items to how many there are. Of most classes an
 * image has few: chunks of boxes without any are passed over. */
static void gather_candidates(const Nms *s, const KExpr *threshold, KBuf *n_items) {
    KBuild *b = &s->d->b;
    KCtx *k = b->k;
    const KExpr *zero = k_int(k, 0), *one = k_const_i(k, DT_I32, 1), *n = s->sort.n;
    set_reg(s, n_items, zero);
    if (!threshold) {
        take_candidates(s, NULL, zero, n, n_items);
        return;
    }
    const KExpr *chunk = kb_for(b, LOOP_SERIAL, "chunk", k_fdiv(k, n, k_int(k, CHUNK)));
    const KExpr *from = kb_let(b, "from", k_mul(k, chunk, k_int(k, CHUNK)));
    KBuf *hit = lane_flags(b);
    const KExpr *v = kb_for(b, LOOP_UNROLL, "v", k_int(k, CHUNK / LANES));
    const KExpr *l = kb_for(b, LOOP_VECTOR, "l", k_int(k, LANES));
    const KExpr *box = k_add(k, from, k_add(k, k_mul(k, v, k_int(k, LANES)), l));
    const KExpr *above = k_lt(k, threshold, score_of(s, box));
    kb_store(b, hit, l, k_select(k, above, one, k_load(k, hit, l)));
    kb_end(b);
    kb_end(b);
    kb_if(b, any_flag(b, hit));
    take_candidates(s, threshold, from, k_int(k, CHUNK), n_items);
    kb_end(b);
    kb_end(b);
    const KExpr *rest = k_fmod(k, n, k_int(k, CHUNK));
    take_candidates(s, threshold, k_sub(k, n, rest), rest, n_items);
}

/* Sets good[0] to: none of the chunk of selected boxes from `from` on overlaps the box (maybe). */
static void compare_chunk(const Nms *s, const Box *box, const KExpr *from, bool maybe, KBuf *good) {
    KBuild *b = &s->d->b;
    KCtx *k = b->k;
    const KExpr *one = k_const_i(k, DT_I32, 1);
    KBuf *hit = lane_flags(b);
    const KExpr *v = kb_for(b, LOOP_UNROLL, "v", k_int(k, CHUNK / LANES));
    const KExpr *l = kb_for(b, LOOP_VECTOR, "l", k_int(k, LANES));
    const KExpr *at = k_add(k, k_mul(k, v, k_int(k, LANES)), l);
    Box other = chosen_box(s, k_add(k, from, at));
    kb_store(b, hit, l, k_select(k, overlaps(s, box, &other, maybe), one, k_load(k, hit, l)));
    kb_end(b);
    kb_end(b);
    set_reg(s, good, k_not(k, any_flag(b, hit)));
}

/* Sets good[0] to: the box overlaps none of those selected before. */
static void compare_chosen(const Nms *s, const Box *box, KBuf *good) {
    KBuild *b = &s->d->b;
    KCtx *k = b->k;
    KBuf *next = kb_alloc(b, MEM_REG, DT_I64, "next", 1);
    KBuf *from = kb_alloc(b, MEM_REG, DT_I64, "from", 1);
    const KExpr *last = bucket_of(s, box->hi[0]);
    set_reg(s, good, k_bool(k, true));
    set_reg(s, next, bucket_of(s, k_sub(k, box->lo[0], reg(s, s->reach))));
    kb_while(b, k_and(k, reg(s, good), k_le(k, reg(s, next), last)));
    const KExpr *q = kb_let_within(b, "bucket", reg(s, next), MOST_BUCKETS - 1);
    const KExpr *start = kb_let(b, "start", k_load(k, s->starts->buf, q));
    const KExpr *end = kb_let(b, "end", k_add(k, start, k_load(k, s->fills->buf, q)));
    const KExpr *reaches = k_lt(k, box->lo[0], k_load(k, s->ends->buf, q));
    set_reg(s, from, k_select(k, reaches, start, end));
    kb_while(b, k_and(k, reg(s, good), k_lt(k, reg(s, from), end)));
    const KExpr *chunk = kb_let(b, "chunk", reg(s, from));
    compare_chunk(s, box, chunk, true, good);
    kb_if(b, k_not(k, reg(s, good)));
    compare_chunk(s, box, chunk, false, good);
    kb_end(b);
    set_reg(s, from, k_add(k, chunk, k_int(k, CHUNK)));
    kb_end(b);
    set_reg(s, next, k_add(k, q, k_int(k, 1)));
    kb_end(b);
}

/* Takes candidates in their order until none is left or the class has `limit` rows. */
static void select_boxes(const Nms *s, const KExpr *n_items, KBuf *n_rows) {
    KBuild *b = &s->d->b;
    KCtx *k = b->k;
    const KExpr *zero = k_int(k, 0), *one = k_int(k, 1);
    const KExpr *rows = k_load(k, n_rows, zero);
    const KExpr *first = kb_let(b, "first", rows);
    KBuf *good = kb_alloc(b, MEM_REG, DT_BOOL, "good", 1), *next = kb_variable(b, "item", zero);
    kb_while(b,
             k_and(k, k_lt(k, kb_get(b, next), n_items), k_lt(k, k_sub(k, rows, first), s->limit)));
    const KExpr *best = candidate(s, kb_get(b, next));
    kb_set(b, next, k_add(k, kb_get(b, next), one));
    Box box = read_box(s, best);
    const KExpr *row = kb_let(b, "row", rows);
    compare_chosen(s, &box, good);
    kb_if(b, k_load(k, good, zero));
    append_chosen(s, &box);
    kb_store(b, s->out->buf, out_place(k, row, 0), s->batch);
    kb_store(b, s->out->buf, out_place(k, row, 1), s->class);
    kb_store(b, s->out->buf, out_place(k, row, 2), best);
    kb_store(b, n_rows, zero, k_add(k, row, one));
    kb_end(b);
    kb_end(b);
}

void nms_lower(Def *d, const Node *n) {
    KCtx *k = d->k;
    KBuild *b = &d->b;
    const KExpr *zero = k_int(k, 0), *symbol = n->out[0]->shape.dims[0];
    Nms nms = {.d = d,
               .boxes = def_in(d, 0),
               .scores = def_in(d, 1),
               .out = def_out(d, 0),
               .centered = attr_int(n, "center_point_box", 0) != 0};
    KTensor *limit = def_in(d, 2), *iou = def_in(d, 3), *least = def_in(d, 4);
    const KExpr *n_boxes = nms.scores->dims[2], *twice = k_mul(k, n_boxes, k_int(k, 2));
    KTensor *items = def_temp(d, "candidates", DT_I32, 1, &twice);
    const KExpr *chunks = k_fdiv(k, n_boxes, k_int(k, CHUNK)), *one = k_int(k, 1);
    const KExpr *most = k_max(k, k_min(k, chunks, k_int(k, MOST_BUCKETS)), one);
    const KExpr *room[2] = {k_int(k, BOX_ROWS), k_add(k, n_boxes, k_mul(k, most, k_int(k, CHUNK)))};
    nms.chosen = def_temp(d, "chosen", DT_F32, 2, room);
    nms.starts = def_temp(d, "starts", DT_I64, 1, &most);
    nms.fills = def_temp(d, "fills", DT_I64, 1, &most);
    nms.ends = def_temp(d, "ends", DT_F32, 1, &most);
    KTensor *keys = def_temp(d, "keys", radix_dtype(DT_F32), 1, &n_boxes);
    KTensor *outs[] = {nms.out, items, keys, nms.chosen, nms.starts, nms.fills, nms.ends};
    Stage *s = def_program(d, outs, 7);
    nms.limit = limit ? kb_let(b, "limit", k_max(k, lower_scalar(d, limit), zero)) : zero;
    nms.iou = iou ? kb_let(b, "iou", lower_scalar(d, iou)) : k_const(k, DT_F32, 0);
    const KExpr *threshold = least ? kb_let(b, "least", lower_scalar(d, least)) : NULL;
    KBuf *n_rows = kb_alloc(b, MEM_REG, DT_I64, "n_rows", 1);
    KBuf *n_items = kb_alloc(b, MEM_REG, DT_I64, "n_items", 1);
    nms.n_buckets = kb_alloc(b, MEM_REG, DT_I64, "n_buckets", 1);
    nms.least = kb_alloc(b, MEM_REG, DT_F32, "least_end", 1);
    nms.scale = kb_alloc(b, MEM_REG, DT_F32, "scale", 1);
    nms.reach = kb_alloc(b, MEM_REG, DT_F32, "reach", 1);
    nms.sort = (Radix){.b = b,
                       .keys = keys->buf,
                       .items = items->buf,
                       .keys_at = zero,
                       .items_at = zero,
                       .n = n_boxes,
                       .digit_bits = 8,
                       .counts = radix_counts(b)};
    kb_store(b, n_rows, zero, zero);
    nms.batch = kb_for(b, LOOP_SERIAL, "batch", nms.scores->dims[0]);
    nms.class = kb_for(b, LOOP_SERIAL, "class", nms.scores->dims[1]);
    gather_candidates(&nms, threshold, n_items);
    const KExpr *n_candidates = kb_let(b, "n", k_load(k, n_items, zero));
    make_buckets(&nms, n_candidates);
    nms.best = radix_sort(&nms.sort, n_candidates);
    select_boxes(&nms, n_candidates, n_rows);
    nms.best = NULL;
    kb_end(b);
    kb_end(b);
    if (symbol->op == KO_var) def_store_size(d, s, symbol->u.var, k_load(k, n_rows, zero));
    def_end_program(d, s);
}
