/* Constants that count, and triangles of two values, as expressions of the index.
 *
 * Before:  const t: i64[1, 512] = {0, 1, 2, ...}      m[i, j] = t[0, j] <= u[i, 0] ? 0.0 : -inf
 * or:      const t: bool[512, 512] = {1, 0, 0, ...}   m[i, j] = t[i, j] ? 0.0 : -inf
 * After:                                              m[i, j] = j <= i ? 0.0 : -inf
 *
 * Exporters and importers write masks by comparing positions, or as tables. Of indices it is known
 * that a causal mask ends a row, and nothing has to be read. */
#include "passes/spell_ranges.h"

#include <string.h>

#include "passes/pass.h"

enum { MOST_ELEMS = 1 << 20 };

static bool is_plain_dense(const KTensor *t) {
    return !t->layout.permuted && t->layout.block <= 1 && !t->layout.has_halo;
}

/* The axis along which t counts, first + step * index, all other dims being 1; -1: it does not. */
static int counting_axis(const KTensor *t, int64_t *first, int64_t *step) {
    int axis = -1;
    int64_t n = 1, dim;
    if (!t->data || t->dtype != DT_I64 || !is_plain_dense(t)) return -1;
    for (int i = 0; i < t->rank; i++) {
        if (!k_is_int(t->dims[i], &dim)) return -1;
        if (dim == 1) continue;
        if (axis >= 0) return -1;
        axis = i;
        n = dim;
    }
    if (axis < 0 || n > MOST_ELEMS || t->data_bytes < (uint64_t)n * sizeof(int64_t)) return -1;
    *first = 0;
    const char *at = t->data;
    uint64_t value, by = 0, last = 0;
    for (int64_t i = 0; i < n; i++) {
        memcpy(&value, at + i * (int64_t)sizeof value, sizeof value);
        if (i == 0) *first = (int64_t)value;
        if (i == 1) by = value - last;
        if (i > 1 && value - last != by) return -1;
        last = value;
    }
    *step = (int64_t)by;
    /* no index arithmetic near the ends of the range */
    bool is_small = *first > -MOST_ELEMS && *first < MOST_ELEMS && *step >= -MOST_ELEMS &&
                    *step <= MOST_ELEMS;
    return is_small ? axis : -1;
}

/* A table of two values: `below` where column <= row + offset, else `above`, that many bytes each.
 * */
typedef struct Triangle {
    int row, column; /* axes; all other dims are 1 */
    int64_t offset;
    const char *below, *above;
} Triangle;

static bool find_triangle(const KTensor *t, Triangle *tri) {
    enum { LEAST_SIDE = 16 };
    int64_t dim, side[2] = {0, 0};
    int n = 0, axis[2] = {0, 0};
    size_t bytes = (size_t)dtype_bytes(t->dtype);
    if (!t->data || !is_plain_dense(t) || (t->dtype != DT_BOOL && !dtype_is_float(t->dtype)))
        return false;
    for (int i = 0; i < t->rank; i++) {
        if (!k_is_int(t->dims[i], &dim)) return false;
        if (dim == 1) continue;
        if (n == 2 || dim < LEAST_SIDE || dim > MOST_ELEMS) return false;
        axis[n] = i;
        side[n++] = dim;
    }
    if (n < 2 || t->data_bytes < (uint64_t)(side[0] * side[1]) * bytes) return false;
    const char *at = t->data, *last = at + (side[1] - 1) * (int64_t)bytes;
    if (!memcmp(at, last, bytes)) return false;
    *tri = (Triangle){.row = axis[0], .column = axis[1], .below = at, .above = last};
    for (int64_t j = 1; j < side[1] && !memcmp(at + j * (int64_t)bytes, at, bytes); j++)
        tri->offset = j;
    for (int64_t i = 0; i < side[0]; i++)
        for (int64_t j = 0; j < side[1]; j++, at += bytes)
            if (memcmp(at, j <= i + tri->offset ? tri->below : tri->above, bytes)) return false;
    return true;
}

static const KExpr *table_value(KCtx *k, DType t, const char *at) {
    float single;
    double wide;
    if (t == DT_BOOL) return k_bool(k, *at != 0);
    if (t == DT_F32) {
        memcpy(&single, at, sizeof single);
        return k_const(k, t, (double)single);
    }
    memcpy(&wide, at, sizeof wide);
    return k_const(k, t, wide);
}

static const KExpr *spell_table(KCtx *k, const KExpr *e, void *user) {
    Triangle tri;
    KTensor *t = e->op == KO_at ? e->u.tensor : NULL;
    bool is_known = t && (t->dtype == DT_BOOL || t->dtype == DT_F32 || t->dtype == DT_F64);
    if (!is_known || at_pred(e) || !find_triangle(t, &tri)) return e;
    *(bool *)user = true;
    const KExpr *end = k_add(k, e->arg[tri.row], k_int(k, tri.offset));
    return k_select(k, k_le(k, e->arg[tri.column], end), table_value(k, t->dtype, tri.below),
                    table_value(k, t->dtype, tri.above));
}

static const KExpr *spell_read(KCtx *k, const KExpr *e, void *user) {
    int64_t first, step;
    if (e->op != KO_at || at_pred(e)) return e;
    int axis = counting_axis(e->u.tensor, &first, &step);
    if (axis < 0) return e;
    *(bool *)user = true;
    return k_add(k, k_mul(k, e->arg[axis], k_int(k, step)), k_int(k, first));
}

bool spell_ranges(DefProgram *p, Stage *s) {
    bool found = false;
    if (s->form != FORM_MAP && s->form != FORM_REDUCE && s->form != FORM_CONTRACT) return false;
    stage_forget_reads(s);
    stage_rewrite(p, s, spell_read, &found);
    /* factors of a contraction are packed, or stay weights */
    const KExpr **part = s->form == FORM_MAP ? &s->body : &s->finish;
    *part = k_rewrite(p->m->k, *part, spell_table, &found);
    stage_note_reads(s);
    return found;
}
