/* choose_schedules, matrix units: the right factor in words.
 *
 * Before:  rhs = f32(w[j, k])
 * After:   packed[j', k', w', l, q] = w[j'*16 + l, k'*32 + w'*2 + q], zero beyond the last column;
 *          rhs = f32(packed[j // 16, k // 32, k % 32 // 2, j % 16, k % 2])
 *
 * A product reads 16 words of 16 columns, 1 KiB that lies together. Constants are packed at compile
 * time, others by a stage of their own. */
#include "passes/choose_matrix.h"

#include "ir/matrix.h"
#include "ir/tile.h"
#include "passes/pass.h"

typedef struct Words {
    DefProgram *p;
    const Stage *s;
    KVar *column, *depth;
    const KExpr *extent; /* of the depth */
    int block, word;
    KVar *var[MAX_RANK];         /* of the axes between: shared ones, then reductions */
    const KExpr *dims[MAX_RANK]; /* of the packed tensor */
    int n;                       /* axes between */
} Words;

static void add_axis(Words *w, KVar *v, const KExpr *extent) {
    if (v == w->column || v == w->depth || !k_uses_var(w->p->m->k, w->s->rhs, v)) return;
    w->var[w->n] = v;
    w->dims[1 + w->n++] = extent;
}

/* The packed element that column j and k along the depth read. */
static const KExpr *read_packed(const Words *w, KTensor *packed) {
    KCtx *k = w->p->m->k;
    const KExpr *index[MAX_RANK], *j = k_var(k, w->column), *d = k_var(k, w->depth);
    const KExpr *columns = k_int(k, TILE_COLS), *block = k_int(k, w->block),
                *word = k_int(k, w->word);
    int n = 0;
    index[n++] = k_fdiv(k, j, columns);
    for (int i = 0; i < w->n; i++) index[n++] = k_var(k, w->var[i]);
    index[n++] = k_fdiv(k, d, block);
    index[n++] = k_fdiv(k, k_fmod(k, d, block), word);
    index[n++] = k_fmod(k, j, columns);
    index[n++] = k_fmod(k, d, word);
    return k_at(k, packed, index, n);
}

/* The stage that writes it. */
static Stage *pack_words(const Words *w, const KExpr *right, KTensor *packed,
                         const KExpr *n_columns) {
    KCtx *k = w->p->m->k;
    Stage *s = program_add_stage(w->p, (Stage *)w->s, FORM_MAP, packed, w->s->node);
    const KExpr *by[MAX_RANK + 2], *arg[MAX_RANK + 1];
    KVar *var[MAX_RANK + 2];
    int last = packed->rank - 1, n = 0;
    const KExpr *axis[MAX_RANK];
    stage_own_index(k, s, axis);
    const KExpr *column = k_add(k, k_mul(k, axis[0], k_int(k, TILE_COLS)), axis[last - 1]);
    const KExpr *word = k_add(k, k_mul(k, axis[last - 2], k_int(k, w->word)), axis[last]);
    var[n] = w->column;
    by[n++] = column;
    var[n] = w->depth;
    const KExpr *whole = k_mul(k, axis[last - 3], k_int(k, w->block)), *fresh = NULL;
    const KExpr *first = k_min(k, whole, k_sub(k, w->extent, k_int(k, w->block)));
    if (first != whole) fresh = k_ge(k, k_add(k, first, word), whole);
    by[n++] = k_add(k, first, word);
    for (int i = 0; i < w->n; i++) {
        var[n] = w->var[i];
        by[n++] = axis[1 + i];
    }
    right = k_subst(k, right, var, by, n);
    for (int i = 0; i < right->u.tensor->rank; i++) arg[i] = right->arg[i];
    arg[right->u.tensor->rank] = k_lt(k, column, n_columns);
    if (fresh) arg[right->u.tensor->rank] = k_and(k, arg[right->u.tensor->rank], fresh);
    s->body = k_at(k, right->u.tensor, arg, right->u.tensor->rank + 1);
    return s;
}

bool choose_matrix(DefProgram *p, Stage *s, const Schedule *given) {
    KCtx *k = p->m->k;
    Schedule sch = *given;
    Matrix x;
    if (!matrix_match(p, s, &sch, &x)) return false;
    const KExpr *right = s->rhs->arg[0], *n_columns = s->out->dims[sch.vec_axis];
    int word = TILE_DEPTH / TILE_WORDS / dtype_bytes(right->dtype);
    Words w = {.p = p, .s = s, .column = s->axis[sch.vec_axis], .depth = s->red[x.depth]};
    w.extent = s->red_extent[x.depth];
    w.block = x.block, w.word = word;
    for (int i = 0; i < s->out->rank; i++) add_axis(&w, s->axis[i], s->out->dims[i]);
    for (int r = 0; r < s->n_red; r++) add_axis(&w, s->red[r], s->red_extent[r]);
    if (w.n + 5 > MAX_RANK) return false;
    w.dims[0] = k_fdiv(k, k_add(k, n_columns, k_int(k, TILE_COLS - 1)), k_int(k, TILE_COLS));
    w.dims[w.n + 1] = k_fdiv(k, k_add(k, w.extent, k_int(k, x.block - 1)), k_int(k, x.block));
    w.dims[w.n + 2] = k_int(k, TILE_WORDS);
    w.dims[w.n + 3] = k_int(k, TILE_COLS);
    w.dims[w.n + 4] = k_int(k, word);
    KTensor *packed = program_add_tensor(p, "packed", right->dtype, w.n + 5, w.dims);
    Stage *pack = pack_words(&w, right, packed, n_columns);
    if (evaluate_stage(p, pack)) stage_remove(p, pack);
    matrix_tile(s, &sch, &x);
    s->rhs = k_cast(k, s->acc->dtype, read_packed(&w, packed));
    x.packed = packed;
    sch.matrix = arena_copy(p->arena, &x, sizeof x);
    s->schedule = arena_copy(p->arena, &sch, sizeof sch);
    pass_trace("choose_schedules", s->node, "%s", schedule_text(p->m->scratch, &sch));
    return true;
}
