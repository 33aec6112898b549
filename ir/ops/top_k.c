/* TopK: the k largest (or smallest) elements along an axis, best first, and where they were. Equal
 * elements: the lower index first. NaN is worse than every number.
 *
 * Rows along memory are selected from one by one (top_k_rows.c). Rows that do not lie so are turned
 * around first, and the results back, unless a few are wanted of many rows (top_k_lanes.c). */
#include "ir/ops/check.h"
#include "ir/ops/top_k_lanes.h"
#include "ir/ops/top_k_rows.h"

/* The dim that k elements make; k may be read while running. */
static bool count_dim(Module *m, Node *n, const KExpr *extent, const KExpr **dim) {
    const KExpr *count = value_read(m, n->in[1], 0);
    int64_t wanted, have;
    infer_rule(m, n, k_le(m->k, k_int(m->k, 0), count));
    infer_rule(m, n, k_le(m->k, count, extent));
    if (k_is_int(count, &wanted)) {
        if (wanted < 0) {
            diag_error(m->diag, n->loc, "k is %lld, must be at least 0", (long long)wanted);
            return false;
        }
        if (k_is_int(extent, &have) && wanted > have) {
            diag_error(m->diag, n->loc, "k is %lld, must be at most %lld, the size of the axis",
                       (long long)wanted, (long long)have);
            return false;
        }
    }
    *dim = k_is_int(count, &wanted) && k_is_int(extent, &have) ? count : k_min(m->k, count, extent);
    if ((*dim)->lo < 0) *dim = k_max(m->k, *dim, k_int(m->k, 0));
    return true;
}

bool top_k_infer(Module *m, Node *n) {
    int axis;
    int64_t length;
    if (!check_dtype(m, n, 0, DTM_FLOATS | DTM_INTS) || !check_dtype(m, n, 1, DTM(I64)) ||
        !infer_rank(m, n, 0, 1, MAX_RANK) ||
        !infer_axis(m, n, attr_int(n, "axis", -1), n->in[0]->shape.rank, &axis))
        return false;
    if (shape_count_int(n->in[1]->shape, &length) && length != 1) {
        diag_error(m->diag, n->loc, "input 1 (k) has %lld elements, must have 1",
                   (long long)length);
        return false;
    }
    Shape out = shape_copy(m->arena, n->in[0]->shape);
    return count_dim(m, n, n->in[0]->shape.dims[axis], &out.dims[axis]) &&
           infer_set(m, n, 0, n->in[0]->dtype, out) && infer_set(m, n, 1, DT_I64, out);
}

/* Do the elements of a row lie apart? */
static bool lies_across(const KTensor *x, int axis) {
    for (int i = axis + 1; i < x->rank; i++)
        if (!k_is_value(x->dims[i], 1)) return true;
    return false;
}

/* dims with the axis moved from place `from` to place `to` */
static void move_axis(const KExpr *const *dims, int rank, int from, int to, const KExpr **moved) {
    for (int i = 0; i < rank; i++) {
        int rest = i < to ? i : i - 1; /* its number among the others */
        moved[i] = i == to ? dims[from] : dims[rest < from ? rest : rest + 1];
    }
}

static KTensor *moved_temp(Def *d, const char *name, DType t, const KTensor *like, int axis,
                           int to) {
    const KExpr *dims[MAX_RANK];
    move_axis(like->dims, like->rank, axis, to, dims);
    return def_temp(d, name, t, like->rank, dims);
}

/* to := from, of which the axis lies in another place */
static void copy_moved(Def *d, KTensor *to, KTensor *from, int to_axis, int from_axis) {
    Stage *s = def_begin(d, FORM_MAP, to);
    const KExpr *axis[MAX_RANK], *at[MAX_RANK];
    for (int i = 0; i < to->rank; i++) axis[i] = def_axis(d, s, i);
    move_axis(axis, to->rank, to_axis, from_axis, at);
    s->movement = true;
    def_map(d, s, def_at(d, from, at, from->rank));
}

/* Elements along these axes together; 0: any number. */
static int64_t rows_in(const KTensor *x, int from, int to) {
    int64_t rows = 1, dim;
    for (int i = from; i < to; i++) {
        if (!k_is_int(x->dims[i], &dim)) return 0;
        rows *= dim;
    }
    return rows;
}

/* Where the axis of x should be for the rows to be selected from: where it is, for a row in each
 * lane, at the front for that, or at the end. */
static int place_for_selection(const KTensor *x, int axis, const KExpr *count) {
    enum { USUAL = 1024 }; /* of a free number */
    const double turn = 0.4, sure = 0.6; /* what an element costs; for estimates of such loops */
    int64_t wanted, n, groups = rows_in(x, 0, axis), rows = rows_in(x, axis + 1, x->rank);
    if (!k_is_int(count, &wanted) || wanted < 1 || x->dims[axis]->hi >= INT32_MAX || !rows)
        return x->rank - 1;
    if (!k_is_int(x->dims[axis], &n)) n = USUAL;
    bool across = lies_across(x, axis);
    double all = (double)(groups ? groups : 1) * (double)rows;
    double along = sure * all * top_k_row_cost(x->dtype, x->dims[axis], count, n);
    double turned = turn * (double)n * all;
    if (across)
        return top_k_lanes_cost(x->dtype, groups ? groups : 1, rows, n, wanted) < along + turned
                   ? axis
                   : x->rank - 1;
    if (!groups) return x->rank - 1;
    return turned + top_k_lanes_cost(x->dtype, 1, (int64_t)all, n, wanted) < along ? 0 : x->rank - 1;
}

static void select_from(Def *d, const Node *n, KTensor *x, int axis, KTensor *values,
                        KTensor *indices) {
    bool largest = attr_int(n, "largest", 1) != 0;
    if (lies_across(x, axis))
        top_k_in_lanes(d, x, axis, largest, values, indices);
    else
        top_k_in_rows(d, x, axis, largest, values, indices);
}

void top_k_lower(Def *d, const Node *n) {
    KTensor *x = def_in(d, 0);
    int axis = shape_axis(attr_int(n, "axis", -1), x->rank), last = x->rank - 1;
    const Value *like = n->out[0] ? n->out[0] : n->out[1];
    KTensor *values =
        n->out[0] ? def_out(d, 0) : def_temp(d, "values", x->dtype, x->rank, like->shape.dims);
    KTensor *indices =
        has_out(n, 1) ? def_out(d, 1) : def_temp(d, "indices", DT_I64, x->rank, like->shape.dims);
    int place = place_for_selection(x, axis, like->shape.dims[axis]);
    if (place == axis || (place == last && !lies_across(x, axis))) {
        select_from(d, n, x, axis, values, indices);
        return;
    }
    KTensor *rows = moved_temp(d, "rows", x->dtype, x, axis, place);
    copy_moved(d, rows, x, place, axis);
    KTensor *v = moved_temp(d, "row_values", x->dtype, values, axis, place);
    KTensor *i = moved_temp(d, "row_indices", DT_I64, values, axis, place);
    select_from(d, n, rows, place, v, i);
    if (n->out[0]) copy_moved(d, values, v, axis, place);
    if (has_out(n, 1)) copy_moved(d, indices, i, axis, place);
}
