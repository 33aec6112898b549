/* Folds along an axis that a view made of several, over the axes themselves.
 *
 * Before:  m[g] = fold over [r < 6400] of x[g*4 + r // 1600, r % 1600]
 * After:   m[g] = fold over [r < 4, r_2 < 1600] of x[g*4 + r, r_2]
 *
 * Exporters write a GroupNormalization as a Reshape to rows of whole groups and an
 * InstanceNormalization of these. x is read where it lies so, in blocks of channels perhaps, and
 * nobody divides. The order of a fold is its schedule's to choose. Not done: free lengths, and
 * divisors that do not divide the length. */
#include "passes/split_folds.h"

typedef struct Division {
    KCtx *k;
    KVar *axis;
    int64_t extent, by; /* by: the largest divisor, 0: none */
    int n;              /* divisions of the axis */
} Division;

static void note_division(const KExpr *e, void *user) {
    Division *d = user;
    const KExpr *base, *step;
    int64_t by;
    if ((e->op != KO_fdiv && e->op != KO_fmod) || e->dtype != DT_I64) return;
    if (!k_uses_var(d->k, e->arg[0], d->axis)) return;
    d->n++;
    if (!k_is_int(e->arg[1], &by) || !k_linear_in(d->k, e->arg[0], d->axis, &base, &step)) return;
    if (k_is_value(step, 1) && by > d->by && by < d->extent && d->extent % by == 0) d->by = by;
}

static Division divisions(KCtx *k, const Stage *s, int red) {
    Division d = {.k = k, .axis = s->red[red]};
    if (k_is_int(s->red_extent[red], &d.extent)) k_visit(k, s->body, note_division, &d);
    return d;
}

/* Axis `red` as two; false and as it was where that leaves as many divisions. */
static bool split_axis(KCtx *k, Stage *s, int red) {
    Division old = divisions(k, s, red);
    if (!old.by || s->n_red == MAX_RED) return false;
    Stage before = *s;
    int64_t n_high = old.extent / old.by;
    KVar *high = kvar_new(k, KV_AXIS, DT_I64, old.axis->name, 0, n_high - 1);
    KVar *low = kvar_new(k, KV_AXIS, DT_I64, old.axis->name, 0, old.by - 1);
    const KExpr *at = k_add(k, k_mul(k, k_var(k, high), k_int(k, old.by)), k_var(k, low));
    s->body = k_subst(k, s->body, &s->red[red], &at, 1);
    for (int i = s->n_red++; i > red + 1; i--) {
        s->red[i] = s->red[i - 1];
        s->red_extent[i] = s->red_extent[i - 1];
    }
    s->red[red] = high;
    s->red[red + 1] = low;
    s->red_extent[red] = k_int(k, n_high);
    s->red_extent[red + 1] = k_int(k, old.by);
    if (divisions(k, s, red).n + divisions(k, s, red + 1).n < old.n) return true;
    *s = before;
    return false;
}

bool split_folded_axes(KCtx *k, Stage *s) {
    bool any = false;
    if (s->form != FORM_REDUCE) return false;
    for (int red = 0; red < s->n_red;)
        if (split_axis(k, s, red))
            any = true;
        else
            red++;
    return any;
}
