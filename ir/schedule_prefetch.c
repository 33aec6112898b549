/* The next panel of a contraction's right factor, asked for while a tile of this one is summed.
 *
 * A panel is what a vector tile reads of the packed right factor: all of the reduction (or the part
 * that is being summed), one block of the vector axis. The row tiles that use it ask for the lines
 * behind it, each for an equal share, spread over the places where some loop of its reduction
 * begins an iteration:
 *
 *     prefetch packed[panel + panel_elems + (row_tile*places + place)*share]
 *
 * How many row tiles there are may not be known: then the first few share it, and the others ask for
 * what the last of these asked for. */
#include "ir/schedule_contract.h"

enum { LINE_BYTES = 64, SOME_TILES = 4 };

/* Among how many row tiles the next panel is divided. */
static int64_t sharing_tiles(const Contract *c) {
    int64_t n;
    return k_is_int(c->n_row_tiles, &n) ? n : SOME_TILES;
}

/* Lines of the right factor in so many steps of the reduction, and what each tile asks of them. */
static int64_t lines_of(const Contract *c, int64_t steps) {
    int64_t bytes = c->s->rhs->u.tensor->layout.block * dtype_bytes(c->s->rhs->dtype);
    return (steps * bytes + LINE_BYTES - 1) / LINE_BYTES;
}

static int64_t lines_share(const Contract *c, int64_t steps) {
    int64_t n_tiles = sharing_tiles(c);
    return (lines_of(c, steps) + n_tiles - 1) / n_tiles;
}

int64_t contract_steps(const Contract *c, int r) {
    int64_t n, steps = 1;
    for (r++; r < c->s->n_red; r++)
        if (k_is_int(c->s->red_extent[r], &n)) steps *= n;
    return steps;
}

void contract_choose_prefetch(Contract *c) {
    int64_t n, n_tiles = sharing_tiles(c);
    const KExpr *rhs = c->s->rhs;
    c->ask_steps = 0;
    if (!c->sch->prefetch || rhs->op != KO_at || rhs->u.tensor->layout.block <= 1) return;
    for (int r = 0; r < c->s->n_red; r++)
        if (!k_is_int(c->s->red_extent[r], &n)) return;
    for (int r = c->s->n_red - 1; r >= 0; r--) {
        int64_t each = contract_steps(c, r), places[] = {each, each * c->blocks[r]};
        if (r == c->copies_axis) places[0] *= c->sch->unroll;
        for (int i = 0; i < 2; i++) {
            if (places[i] > c->ask_steps) c->ask_steps = places[i];
            if (2 * lines_of(c, c->ask_steps) >= n_tiles) return;
        }
    }
}

/* The right factor at a step of the reduction, for the first element of the vector tile. */
static const KExpr *panel_element(Contract *c, const Binding *red) {
    Binding bound = c->outer;
    contract_bind(&bound, c->s->axis[c->sch->vec_axis], c->vec_start);
    for (int i = 0; i < red->n; i++) contract_bind(&bound, red->var[i], red->by[i]);
    return expr_open(c->p, k_subst(c->k, c->s->rhs, bound.var, bound.by, bound.n));
}

bool contract_prefetch(Contract *c, int r, const Binding *red, const KExpr *at, int64_t steps) {
    KCtx *k = c->k;
    const Stage *s = c->s;
    const KExpr *step = k_int(k, 0), *zero = step;
    int64_t n_steps = 1, n;
    if (c->has_asked || steps != c->ask_steps) return false;
    Binding start = {.n = 0};
    for (int q = 0; q < s->n_red; q++) {
        k_is_int(s->red_extent[q], &n);
        if (!q) n /= c->n_parts;
        const KExpr *from = q ? zero : k_mul(k, c->part, k_int(k, n));
        const KExpr *now = q < r ? red->by[q] : q == r ? at : from;
        contract_bind(&start, s->red[q], from);
        step = k_add(k, k_mul(k, step, k_int(k, n)), k_sub(k, now, from));
        n_steps *= n;
    }
    const KExpr *panel = panel_element(c, &start);
    int64_t line = LINE_BYTES / dtype_bytes(panel->dtype), share = lines_share(c, steps);
    const KExpr *tile =
        k_is_int(c->n_row_tiles, &n) ? c->row_tile : k_min(k, c->row_tile, k_int(k, SOME_TILES - 1));
    const KExpr *place = k_add(k, k_mul(k, tile, k_int(k, (n_steps + steps - 1) / steps)),
                               k_fdiv(k, step, k_int(k, steps)));
    const KExpr *next = k_int(k, n_steps * s->rhs->u.tensor->layout.block);
    const KExpr *first =
        k_add(k, k_add(k, panel->arg[0], next), k_mul(k, place, k_int(k, share * line)));
    for (int64_t i = 0; i < share; i++)
        kb_prefetch(c->b, panel->u.buf, k_add(k, first, k_int(k, i * line)));
    return true;
}
