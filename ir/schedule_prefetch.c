/* What a contraction reads next, asked for while a tile is summed.
 *
 * The next panel of the right factor. A panel is what a vector tile reads of the packed right
 * factor: all of the reduction (or the part that is being summed), one block of the vector axis.
 * The row tiles that use it ask for the lines behind it, each for an equal share, spread over the
 * places where some loop of its reduction begins an iteration:
 *
 *     prefetch packed[panel + panel_elems + (row_tile*places + place)*share]
 *
 * How many row tiles there are may not be known. Then the first 1, 2, 4 or 8 of them share it, as
 * many as there are, at places that are so far apart that each share is a line, with a loop over
 * the lines of a share (0 for the other tiles) and nothing in between:
 *
 *     for i in 0..lines {
 *         prefetch packed[panel + panel_elems + (row_tile*places + place)*pace + i*16]
 *     }
 *
 * The next rows of the left factor. What is broadcast of blocks of channels is a few lines here and
 * a few far away, which the machine does not foresee, and with several threads half of it is in
 * another core's cache. At each place in a block of channels a tile asks for some of the lines that
 * the tile of rows behind it reads at the same place, if it may be the first of its thread to read
 * those (ahead: 14 rows; others ask for what they have, which costs nothing):
 *
 *     for ic in 0..32 {
 *         for ic_2 in 0..16 {
 *             prefetch x[ic*12544 + (first + ahead + ic_2)*16]
 *
 * Of rows that lie one behind the other (Winograd's patches) a tile asks for the stretch behind its
 * own, evenly over its steps. */
#include "ir/schedule_contract.h"

enum { LINE_BYTES = 64, MOST_SHARES = 8, MOST_TAPS = 16 };

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

int64_t contract_steps(const Contract *c, int r) {
    int64_t n, steps = 1;
    for (r++; r < c->s->n_red; r++)
        if (k_is_int(c->s->red_extent[r], &n)) steps *= n;
    return steps;
}

/* The innermost loop whose share is at least half a line, so that not much more is asked for than
 * the panel has; where the number of shares is free, a line of the smallest. */
static void choose_place(Contract *c) {
    int64_t n, n_tiles;
    if (!k_is_int(c->n_row_tiles, &n_tiles)) n_tiles = 2 * MOST_SHARES;
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

/* What the number of row tiles decides: for how many lines this one asks at each place, and how far
 * apart. */
static void share_panel(Contract *c) {
    KCtx *k = c->k;
    int64_t n;
    if (!c->ask_steps || k_is_int(c->n_row_tiles, &n)) return;
    int64_t line = LINE_BYTES / dtype_bytes(right_read(c)->dtype),
            lines = lines_of(c, c->ask_steps);
    const KExpr *shares = k_int(k, 1), *share = k_int(k, lines);
    for (n = 2; n <= MOST_SHARES && n <= lines; n *= 2) {
        const KExpr *so_many = k_le(k, k_int(k, n), c->n_row_tiles);
        shares = k_select(k, so_many, k_int(k, n), shares);
        share = k_select(k, so_many, k_int(k, (lines + n - 1) / n), share);
    }
    const KExpr *asks = k_lt(k, c->row_tile, shares);
    c->ask_tile =
        kb_let_within(c->b, "asks", k_select(k, asks, c->row_tile, k_int(k, 0)), MOST_SHARES - 1);
    share = kb_let_within(c->b, "share", share, lines);
    c->ask_pace = k_mul(k, share, k_int(k, line));
    c->ask_lines = kb_let_within(c->b, "lines", k_select(k, asks, share, k_int(k, 0)), lines);
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
    int64_t line = LINE_BYTES / dtype_bytes(panel->dtype), n_tiles;
    bool is_free = !k_is_int(c->n_row_tiles, &n_tiles);
    int64_t share = is_free ? 1 : (lines_of(c, steps) + n_tiles - 1) / n_tiles;
    const KExpr *pace = is_free ? c->ask_pace : k_int(k, share * line);
    const KExpr *tile = is_free ? c->ask_tile : c->row_tile;
    const KExpr *place = k_fdiv(k, step, k_int(k, steps));
    const KExpr *places = k_int(k, (n_steps + steps - 1) / steps);
    const KExpr *next = k_int(k, n_steps * tile_width(c));
    const KExpr *at_place = k_mul(k, k_add(k, k_mul(k, tile, places), place), pace);
    const KExpr *first = k_add(k, k_add(k, panel->arg[0], next), at_place);
    if (is_free) {
        const KExpr *i = kb_for(c->b, LOOP_SERIAL, "i", c->ask_lines);
        first = k_add(k, first, k_mul(k, i, k_int(k, line)));
    }
    for (int64_t i = 0; i < share; i++)
        kb_prefetch(c->b, panel->u.buf, k_add(k, first, k_int(k, i * line)));
    if (is_free) kb_end(c->b);
    return true;
}

/* ---- the left factor ------------------------------------------------------------------------- */

typedef struct FindRead {
    const KExpr *read;
    int n;
} FindRead;

static void note_read(const KExpr *e, void *user) {
    FindRead *f = user;
    if (e->op != KO_at || e->u.tensor->data) return;
    f->read = e;
    f->n++;
}

/* The elements that a line of a tensor has. */
static int64_t line_of(const KTensor *t) {
    return LINE_BYTES / dtype_bytes(t->dtype);
}

/* Is each row of the tile, all of its reduction, behind the one before it? */
static bool rows_are_stretch(const Contract *c, const KTensor *t) {
    int64_t n, last;
    return c->s->n_red == 1 && t->layout.block <= 1 && !t->layout.permuted && t->rank &&
           k_is_int(t->dims[t->rank - 1], &last) && k_is_int(c->s->red_extent[0], &n) &&
           n == last && n % line_of(t) == 0;
}

/* May this vector tile be the first one that a thread does, of two or four that divide them? The
 * others find the rows in their own cache. */
static const KExpr *is_first(const Contract *c) {
    KCtx *k = c->k;
    int64_t tile = (int64_t)c->sch->n_vecs * c->sch->lanes;
    int64_t most = c->s->out->dims[c->sch->vec_axis]->hi;
    int64_t n = most / tile + (most % tile > 0), period = n < 8 ? (n + 1) / 2 : (n + 3) / 4;
    if (c->left_axis < 0) return k_bool(k, true);
    if (c->strips > 1 || c->sch->rows_outer || most > 1 << 20) period = n;
    return k_eq(k, k_fmod(k, c->vec_start, k_int(k, period * tile)), k_int(k, 0));
}

/* Is the inner row axis done with one tile? */
static bool is_one_row_tile(const Contract *c) {
    const KExpr *n = schedule_row_extent(c->k, c->s, c->sch);
    return n->hi <= c->sch->rows[1];
}

void contract_choose_left(Contract *c) {
    const Schedule *sch = c->sch;
    FindRead f = {NULL, 0};
    int64_t n;
    c->left = c->left_place = NULL;
    if (c->cut || c->is_rolled || sch->group || sch->near_taps || sch->all_taps) return;
    k_visit(c->k, c->s->lhs, note_read, &f);
    if (f.n != 1) return;
    const KTensor *t = f.read->u.tensor;
    int64_t elems = 1;
    for (int i = 0; i < t->rank; i++) {
        elems *= t->dims[i]->hi < 1 << 20 ? t->dims[i]->hi : 1 << 20;
        if (elems > INT64_C(1) << 40) elems = INT64_C(1) << 40;
    }
    if (elems * dtype_bytes(t->dtype) <= c->p->m->target->l1_bytes) return;
    c->left_axis = -1;
    if (sch->left_far && rows_are_stretch(c, t)) c->left = f.read;
    for (int r = 0; r <= c->copies_axis && t->layout.block > 1; r++) {
        const KExpr *at = f.read->arg[t->layout.block_axis];
        bool is_block =
            c->blocks[r] > 1 && k_uses_var(c->k, at, c->s->red[r]) && t->layout.block <= line_of(t);
        if (!is_block || !k_is_int(c->s->red_extent[r], &n) || n < 2 * c->blocks[r]) continue;
        c->left = f.read;
        c->left_axis = r;
    }
    if (!c->left) return;
    const KExpr *rows = k_int(c->k, c->rows[!is_one_row_tile(c)]), *first = is_first(c);
    c->left_ahead = k_select(c->k, first, rows, k_int(c->k, 0));
    if (k_is_value(first, 0))
        c->left = NULL;
    else if (c->left_ahead->op == KO_select)
        c->left_ahead = kb_let_within(c->b, "ahead", c->left_ahead, rows->hi);
}

/* Does the reduction axis lead away from the rows of a tile, as the frames of a film do? Taps along
 * an axis of the tile's rows read what tiles next to it have read. */
static bool leads_away(const Contract *c, int r) {
    const KTensor *t = c->left->u.tensor;
    bool is_read = false, is_near = r == c->left_axis;
    for (int i = 0; i < t->rank; i++) {
        const KExpr *at = c->left->arg[i];
        if (!k_uses_var(c->k, at, c->s->red[r])) continue;
        is_read = true;
        for (int j = 0; j < 2; j++) {
            int axis = c->sch->row_axis[j];
            is_near |= axis >= 0 && k_uses_var(c->k, at, c->s->axis[axis]);
        }
    }
    return is_read && !is_near;
}

/* The line at row r0, r1 behind the tile. */
static void ask_left(Contract *c, const Binding *red, const KExpr *r0, const KExpr *r1) {
    KCtx *k = c->k;
    const Stage *s = c->s;
    const Schedule *sch = c->sch;
    Binding bound = c->outer;
    const KExpr *arg[MAX_RANK], *row[] = {r0, r1};
    bool down = is_one_row_tile(c);
    for (int i = 0; i < 2; i++) {
        const KExpr *next = down == (i == 0) ? c->left_ahead : k_int(k, 0);
        if (sch->row_axis[i] >= 0)
            binding_add(&bound, s->axis[sch->row_axis[i]],
                        k_add(k, c->row_start[i], k_add(k, row[i], next)));
    }
    for (int i = 0; i < sch->row_axis[1]; i++)
        if (schedule_is_joined(sch, i)) binding_add(&bound, s->axis[i], k_int(k, 0));
    binding_add(&bound, s->axis[sch->vec_axis], c->vec_start);
    for (int r = 0; r < s->n_red; r++) {
        const KExpr *at = r < red->n ? red->by[r] : k_int(k, 0);
        binding_add(&bound, s->red[r], r == c->left_axis ? c->left_start : at);
    }
    for (int i = 0; i < c->left->u.tensor->rank; i++)
        arg[i] = k_subst(k, c->left->arg[i], bound.var, bound.by, bound.n);
    const KExpr *e = expr_open(c->p, k_at(k, c->left->u.tensor, arg, c->left->u.tensor->rank));
    if (e->op == KO_load) kb_prefetch(c->b, e->u.buf, e->arg[0]);
}

/* Lines of the stretch of rows behind the tile. */
static void ask_stretch(Contract *c) {
    KCtx *k = c->k;
    int64_t n, line = line_of(c->left->u.tensor);
    k_is_int(c->s->red_extent[0], &n);
    int64_t lines = c->rows[1] * (n / line), share = (lines + c->left_places - 1) / c->left_places;
    for (int64_t i = 0; i < share; i++) {
        const KExpr *at = k_add(k, k_mul(k, c->left_place, k_int(k, share)), k_int(k, i));
        Binding red = {.n = 0};
        binding_add(&red, c->s->red[0], k_mul(k, at, k_int(k, line)));
        ask_left(c, &red, k_int(k, 0), k_int(k, 0));
    }
}

/* The share of this place of all rows, for each tap of the axes from red->n on that lead away. */
static void ask_taps(Contract *c, const Binding *red) {
    KCtx *k = c->k;
    int r = red->n;
    if (r < c->s->n_red) {
        int64_t n = 1, all = contract_steps(c, r);
        bool each = leads_away(c, r) && k_is_int(c->s->red_extent[r], &n) && n * all <= MOST_TAPS;
        for (int64_t tap = 0; tap < (each ? n : 1); tap++) {
            Binding at = *red;
            binding_add(&at, c->s->red[r], k_int(k, tap));
            ask_taps(c, &at);
        }
        return;
    }
    int64_t share = (c->rows[1] + c->left_places - 1) / c->left_places;
    for (int r0 = 0; r0 < c->rows[0]; r0++)
        for (int64_t i = 0; i < share; i++)
            ask_left(c, red, k_int(k, r0),
                     k_add(k, k_mul(k, c->left_place, k_int(k, share)), k_int(k, i)));
}

void contract_prefetch_left(Contract *c, const Binding *red) {
    if (c->left_axis < 0)
        ask_stretch(c);
    else
        ask_taps(c, red);
}
