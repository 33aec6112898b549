/* The next panel of a contraction's right factor, asked for while a tile of this one is summed.
 *
 * A panel is what a vector tile reads of the packed right factor: all of the reduction (or the part
 * that is being summed), one block of the vector axis. The row tiles that use it ask for the lines
 * behind it, each for an equal share, spread over the places where some loop of its reduction
 * begins an iteration:
 *
 *     prefetch packed[panel + panel_elems + (row_tile*places + place)*share]
 *
 * How many row tiles there are may not be known. Then the first 1, 2, 4 or 8 of them share it, as
 * many as there are, and each asks at every so manieth place only, for the same number of lines:
 *
 *     if place & mask == 0 {
 *         prefetch packed[panel + panel_elems + (row_tile*places + place)*pace]
 *     } */
#include "ir/schedule_contract.h"

enum { LINE_BYTES = 64, MOST_SHARES = 8, NEVER = (1 << 30) - 1 };

/* Among how many row tiles the next panel is divided; 1 where the number is free. */
static int64_t sharing_tiles(const Contract *c) {
    int64_t n;
    return k_is_int(c->n_row_tiles, &n) ? n : 1;
}

/* The read of the right factor, perhaps of 16-bit floats that are widened; NULL for what is
 * neither. */
static const KExpr *right_read(const Contract *c) {
    const KExpr *e = c->s->rhs;
    if (e->op == KO_cast && c->wide) e = e->arg[0];
    return e->op == KO_at ? e : NULL;
}

/* Elements of the right factor that a tile reads in a step: of one panel, or of several. */
static int tile_width(const Contract *c) {
    int panel = right_read(c)->u.tensor->layout.block, tile = c->n_vecs * c->sch->lanes;
    return (tile + panel - 1) / panel * panel;
}

/* Lines of the right factor in so many steps of the reduction, and what each tile asks of them. */
static int64_t lines_of(const Contract *c, int64_t steps) {
    int64_t bytes = (int64_t)tile_width(c) * dtype_bytes(right_read(c)->dtype);
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

/* The innermost loop whose share is at least half a line, so that not much more is asked for than
 * the panel has. */
static void choose_place(Contract *c) {
    int64_t n, n_tiles = sharing_tiles(c);
    const KExpr *rhs = right_read(c);
    c->ask_steps = 0;
    if (!c->sch->prefetch || !rhs || rhs->u.tensor->layout.block <= 1) return;
    for (int r = 0; r < c->s->n_red; r++)
        if (!k_is_int(c->s->red_extent[r], &n)) return;
    for (int r = c->s->n_red - 1 - c->sch->near_taps; r >= 0; r--) {
        int64_t each = contract_steps(c, r), places[] = {each, each * c->blocks[r]};
        if (r == c->copies_axis) places[0] *= c->sch->unroll;
        for (int i = 0; i < 2; i++) {
            if (places[i] > c->ask_steps) c->ask_steps = places[i];
            if (2 * lines_of(c, c->ask_steps) >= n_tiles) return;
        }
    }
}

/* What the number of row tiles decides: whether this one asks, at which places, and how far
 * apart. */
static void share_panel(Contract *c) {
    KCtx *k = c->k;
    int64_t n;
    if (!c->ask_steps || k_is_int(c->n_row_tiles, &n)) return;
    int64_t line = LINE_BYTES / dtype_bytes(right_read(c)->dtype),
            lines = lines_of(c, c->ask_steps);
    const KExpr *shares = k_int(k, 1), *pace = k_int(k, lines * line);
    for (n = 2; n <= MOST_SHARES; n *= 2) {
        const KExpr *so_many = k_le(k, k_int(k, n), c->n_row_tiles);
        shares = k_select(k, so_many, k_int(k, n), shares);
        pace = k_select(k, so_many, k_int(k, (lines + n - 1) / n * line), pace);
    }
    const KExpr *asks = k_lt(k, c->row_tile, shares), *mask = k_sub(k, shares, k_int(k, 1));
    c->ask_tile = kb_let_within(c->b, "asks", k_select(k, asks, c->row_tile, k_int(k, 0)),
                                MOST_SHARES - 1);
    c->ask_pace = kb_let_within(c->b, "pace", pace, lines * line);
    c->ask_mask = kb_let_within(c->b, "mask", k_select(k, asks, mask, k_int(k, NEVER)), NEVER);
}

void contract_choose_prefetch(Contract *c) {
    choose_place(c);
    share_panel(c);
}

/* The right factor at a step of the reduction, for the first element of the vector tile. */
static const KExpr *panel_element(Contract *c, const Binding *red) {
    Binding bound = c->outer;
    binding_add(&bound, c->s->axis[c->sch->vec_axis], c->vec_start);
    for (int i = 0; i < red->n; i++) binding_add(&bound, red->var[i], red->by[i]);
    return expr_open(c->p, k_subst(c->k, right_read(c), bound.var, bound.by, bound.n));
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
        binding_add(&start, s->red[q], from);
        step = k_add(k, k_mul(k, step, k_int(k, n)), k_sub(k, now, from));
        n_steps *= n;
    }
    const KExpr *panel = panel_element(c, &start);
    int64_t line = LINE_BYTES / dtype_bytes(panel->dtype), share = lines_share(c, steps);
    bool is_free = !k_is_int(c->n_row_tiles, &n);
    const KExpr *pace = is_free ? c->ask_pace : k_int(k, share * line);
    const KExpr *tile = is_free ? c->ask_tile : c->row_tile;
    const KExpr *place = k_fdiv(k, step, k_int(k, steps));
    const KExpr *places = k_int(k, (n_steps + steps - 1) / steps);
    const KExpr *next = k_int(k, n_steps * tile_width(c));
    const KExpr *at_place = k_mul(k, k_add(k, k_mul(k, tile, places), place), pace);
    const KExpr *first = k_add(k, k_add(k, panel->arg[0], next), at_place);
    if (is_free) kb_if(c->b, k_eq(k, k_and(k, place, c->ask_mask), k_int(k, 0)));
    for (int64_t i = 0; i < share; i++)
        kb_prefetch(c->b, panel->u.buf, k_add(k, first, k_int(k, i * line)));
    if (is_free) kb_end(c->b);
    return true;
}
