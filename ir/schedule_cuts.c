/* Where along an axis a map's element changes its form: Concat's inputs, Pad's borders, the repeats
 * of a Tile.
 *
 *   y[i] = i < 17 ? a[i] : i < 34 ? b[i - 17] : c[i - 34]         cuts at 17, 34
 *   y[i] = x[(i + 98) % 101], i < 107                             cuts at 3, 104
 *
 * Loops that end at the cuts have none of the conditions or divisions, since ranges fold them away.
 */
#include "ir/schedule_rows.h"

typedef struct FindCuts {
    KCtx *k;
    KVar *axis;
    int64_t extent, *cut;
    int n, max;
    CutKind kind;
    bool too_many;
} FindCuts;

static void add_cut(FindCuts *f, int64_t at) {
    int i = f->n;
    if (at <= 0 || at >= f->extent) return;
    for (int j = 0; j < f->n; j++)
        if (f->cut[j] == at) return;
    if (f->n == f->max) {
        f->too_many = true;
        return;
    }
    for (; i > 0 && f->cut[i - 1] > at; i--) f->cut[i] = f->cut[i - 1];
    f->cut[i] = at;
    f->n++;
}

/* e is base + axis or base - axis, with a constant base. */
static bool is_place(const FindCuts *f, const KExpr *e, int64_t *base, bool *falls) {
    const KExpr *rest, *coeff;
    if (e->dtype != DT_I64 || !k_linear_in(f->k, e, f->axis, &rest, &coeff)) return false;
    *falls = k_is_value(coeff, -1);
    return (*falls || k_is_value(coeff, 1)) && k_is_int(rest, base);
}

/* Quotients and remainders by n change at its multiples. */
static void cut_division(FindCuts *f, const KExpr *e) {
    int64_t base, n;
    bool falls;
    if (!k_is_int(e->arg[1], &n) || n < 2 || !is_place(f, e->arg[0], &base, &falls) || falls)
        return;
    int64_t first = ((base % n) + n) % n; /* of the remainder at 0 */
    for (int64_t at = n - first; at < f->extent && !f->too_many; at += n) add_cut(f, at);
}

/* a < b or a <= b */
static void cut_condition(FindCuts *f, const KExpr *e) {
    int64_t base;
    bool falls, equal = e->op == KO_le;
    if (e->arg[0]->dtype != DT_I64 ||
        !is_place(f, k_sub(f->k, e->arg[0], e->arg[1]), &base, &falls))
        return;
    add_cut(f, falls ? base + !equal : equal - base);
}

static void note_cuts(const KExpr *e, void *user) {
    FindCuts *f = user;
    if ((e->op == KO_fmod || e->op == KO_fdiv) && e->dtype == DT_I64) cut_division(f, e);
    if ((e->op == KO_lt || e->op == KO_le) && f->kind == CUT_ALL) cut_condition(f, e);
}

int stage_cuts(KCtx *k, const Stage *s, int axis, CutKind kind, int64_t *cut) {
    FindCuts f = {.k = k, .axis = s->axis[axis], .cut = cut, .max = MAX_CUTS, .kind = kind};
    if (s->form != FORM_MAP || !k_is_int(s->out->dims[axis], &f.extent)) return 0;
    if (s->out->layout.block > 1 && s->out->layout.block_axis == axis) return 0;
    k_visit(k, s->body, note_cuts, &f);
    return f.too_many ? 0 : f.n;
}
