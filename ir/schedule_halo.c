/* Halos that the contraction template writes itself.
 *
 * Who reads a convolution's result through a window finds zeros beyond its border, and these lie
 * beside the rows: a kernel in front of the convolution that writes them walks through all of the
 * tensor, a line here and there, and with several threads takes these lines out of the caches of
 * those that write the rows. So a tile of rows writes the zeros at the ends of its rows, and the
 * first and the last tile those before and behind them:
 *
 *     y[rows of the tile] = finish(acc)
 *     for r in 0..1 { y[.., row + r, -1] = 0.0; y[.., row + r, 14] = 0.0 }
 *     if row == 0 { for w in 0..16 { y[.., -1, w - 1] = 0.0 } }
 *
 * Where tiles are cut in another way (Winograd's, matrix tiles, groups of stages, joined rows) the
 * halo is filled by a kernel of its own (passes/lower_kernels.c). */
#include "ir/schedule_contract.h"

bool schedule_fills_halo(const Stage *s) {
    const Schedule *sch = s->schedule;
    const Layout *lay = &s->out->layout;
    int64_t n;
    if (s->form != FORM_CONTRACT || !sch || !lay->has_halo || s->blocks) return false;
    if (sch->winograd || sch->matrix || sch->n_joined || sch->row_axis[0] < 0) return false;
    if (lay->block != sch->lanes || lay->block_axis != sch->vec_axis) return false;
    for (int i = 0; i < s->out->rank; i++) {
        bool is_row = i == sch->row_axis[0] || i == sch->row_axis[1];
        if (is_row ? !k_is_int(s->out->dims[i], &n) : lay->halo[i][0] + lay->halo[i][1] > 0)
            return false;
    }
    return true;
}

/* The halo's values into rows x columns from (row, column) on, of all vectors of the tile. */
static void fill(Contract *c, const KExpr *row, int64_t n_rows, const KExpr *column,
                 int64_t n_columns) {
    KCtx *k = c->k;
    const Stage *s = c->s;
    const Schedule *sch = c->sch;
    const KExpr *index[MAX_RANK], *offset, *lanes = k_int(k, sch->lanes);
    if (n_rows < 1 || n_columns < 1) return;
    int depth = c->b->depth;
    KTensor *root = tensor_root(k, s->out, &offset);
    for (int i = 0; i < s->out->rank; i++)
        index[i] = k_subst(k, k_var(k, s->axis[i]), c->outer.var, c->outer.by, c->outer.n);
    const KExpr *v = kb_for(c->b, LOOP_SERIAL, "v", k_int(k, c->n_vecs));
    index[sch->row_axis[0]] = k_add(k, row, kb_for(c->b, LOOP_SERIAL, "h", k_int(k, n_rows)));
    index[sch->row_axis[1]] = k_add(k, column, kb_for(c->b, LOOP_SERIAL, "h", k_int(k, n_columns)));
    const KExpr *lane = kb_for(c->b, LOOP_VECTOR, "l", lanes);
    index[sch->vec_axis] = k_add(k, c->vec_start, k_add(k, k_mul(k, v, lanes), lane));
    const KExpr *flat = k_add(k, tensor_flat_index(k, s->out, index), offset);
    kb_store(c->b, root->buf, flat, k_const(k, s->out->dtype, s->out->layout.halo_value));
    while (c->b->depth > depth) kb_end(c->b);
}

void contract_fill_halo(Contract *c) {
    KCtx *k = c->k;
    const int8_t axis[] = {(int8_t)c->sch->row_axis[0], (int8_t)c->sch->row_axis[1]};
    const uint16_t(*halo)[2] = (const uint16_t(*)[2])c->s->out->layout.halo;
    const KExpr *height = c->s->out->dims[axis[0]], *width = c->s->out->dims[axis[1]];
    const KExpr *row = c->row_start[0], *column = c->row_start[1];
    const KExpr *end = k_add(k, column, k_int(k, c->rows[1]));
    const KExpr *below = k_add(k, row, k_int(k, c->rows[0]));
    int64_t left = halo[axis[1]][0], right = halo[axis[1]][1], all = width->hi + left + right;
    const KExpr *before = k_int(k, -left), *above = k_int(k, -(int64_t)halo[axis[0]][0]);
    kb_if(c->b, k_eq(k, end, width));
    fill(c, row, c->rows[0], width, right);
    kb_end(c->b);
    kb_if(c->b, k_eq(k, column, k_int(k, 0)));
    fill(c, row, c->rows[0], before, left);
    kb_if(c->b, k_eq(k, row, k_int(k, 0)));
    fill(c, above, halo[axis[0]][0], before, all);
    kb_end(c->b);
    kb_if(c->b, k_eq(k, below, height));
    fill(c, height, halo[axis[0]][1], before, all);
    kb_end(c->b);
    kb_end(c->b);
}
