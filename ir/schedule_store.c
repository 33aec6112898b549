/* The store of a contraction's tile: out := finish(acc), for rows, vectors and lanes.
 *
 * An epilogue with exponentials is a loop over rows; any other is written out for the tile. Vectors
 * that become bytes are stored in pieces, several vectors at once: neighbours along the vector axis
 * where these are neighbours in memory, else rows.
 *
 *     for r in 0..3 unroll { for r_2 in 0..4 vector { for l in 0..16 vector { y[..] = u8(...) } } } */
#include "ir/schedule_contract.h"

static void note_function(const KExpr *e, void *user) {
    if (kop_info[e->op].class == KC_MATH) *(bool *)user = true;
}

bool schedule_has_function(KCtx *k, const KExpr *e) {
    bool has_function = false;
    k_visit(k, e, note_function, &has_function);
    return has_function;
}

/* An epilogue with exponentials is some twenty operations a vector: written out for a whole tile it
 * has too many values at once for the registers, and its constants are read again and again. Sums
 * go to memory instead, and a loop over rows takes them from there. */
static bool wants_rolled_store(Contract *c) {
    return schedule_has_function(c->k, c->s->finish) && c->rows[0] * c->rows[1] > 2;
}

static void roll_store(Contract *c) {
    KBuf *sums = kb_alloc(c->b, MEM_STACK, c->acc->dtype, "sums",
                          (int64_t)c->rows[0] * c->rows[1] * c->n_vecs * c->sch->lanes);
    Binding bound;
    const KExpr *at = contract_tile_begin(c, &bound);
    kb_store(c->b, sums, at, k_load(c->k, c->acc, at));
    contract_tile_end(c);
    c->acc = sums;
    c->is_rolled = true;
}

/* The store in loops whose axes are bound: of the sum at `at`. */
static void emit_result(Contract *c, Binding bound, const KExpr *at) {
    KCtx *k = c->k;
    const Stage *s = c->s;
    const KExpr *index[MAX_RANK], *offset, *value = k_load(k, c->acc, at);
    binding_add(&bound, s->acc, value);
    for (int i = 0; i < s->out->rank; i++)
        index[i] = k_subst(k, k_var(k, s->axis[i]), bound.var, bound.by, bound.n);
    KTensor *root = tensor_root(k, s->out, &offset);
    const KExpr *flat = k_add(k, tensor_flat_index(k, s->out, index), offset);
    const KExpr *finish = expr_open(c->p, k_subst(k, c->finish, bound.var, bound.by, bound.n));
    const KExpr *lane = index[c->sch->vec_axis], *inside = c->inside;
    if (c->masked) inside = k_and(k, inside, k_lt(k, lane, s->out->dims[c->sch->vec_axis]));
    bool guarded = !k_is_value(inside, 1);
    if (guarded) kb_if(c->b, inside);
    kb_store(c->b, root->buf, flat, finish);
    if (guarded) kb_end(c->b);
}

/* ---- bytes ----------------------------------------------------------------------------------- */

int contract_open_pieces(KBuild *b, KLoopMark mark, const Pieces *p, int n_vecs, int lanes,
                         const KExpr **row, const KExpr **in_row) {
    KCtx *k = b->k;
    const KExpr *rows = k_int(k, p->rows), *vecs = k_int(k, p->vecs);
    const KExpr *r = kb_for(b, mark, "r", k_int(k, p->n / p->rows));
    const KExpr *v = kb_for(b, LOOP_UNROLL, "v", k_int(k, n_vecs / p->vecs));
    r = k_add(k, k_mul(k, r, rows), k_int(k, p->first));
    v = k_mul(k, v, vecs);
    if (p->rows > 1) r = k_add(k, r, kb_for(b, LOOP_VECTOR, "r", rows));
    if (p->vecs > 1) v = k_add(k, v, kb_for(b, LOOP_VECTOR, "v", vecs));
    const KExpr *lane = kb_for(b, LOOP_VECTOR, "l", k_int(k, lanes));
    *row = r;
    *in_row = k_add(k, k_mul(k, v, k_int(k, lanes)), lane);
    return 3 + (p->rows > 1) + (p->vecs > 1);
}

static void emit_pieces(Contract *c, const Pieces *p) {
    KCtx *k = c->k;
    Binding bound = c->outer;
    const KExpr *r1, *in_tile;
    if (!p->n) return;
    const KExpr *r0 = kb_for(c->b, LOOP_UNROLL, "r", k_int(k, c->rows[0]));
    int depth = contract_open_pieces(c->b, LOOP_UNROLL, p, c->n_vecs, c->sch->lanes, &r1, &in_tile);
    contract_bind_tile(c, &bound, r0, r1, in_tile);
    const KExpr *row = k_add(k, k_mul(k, r0, k_int(k, c->rows[1])), r1);
    const KExpr *at = k_add(k, k_mul(k, row, k_int(k, c->n_vecs * c->sch->lanes)), in_tile);
    emit_result(c, bound, at);
    for (depth++; depth; depth--) kb_end(c->b);
}

int schedule_neighbours(const Stage *s, int lanes, int n_vecs, int most) {
    int block = s->out->layout.block;
    while (most > 1 && (n_vecs % most || (block > 1 && block % (most * lanes)))) most /= 2;
    return most;
}

static bool emit_byte_store(Contract *c) {
    const Schedule *sch = c->sch;
    int vecs = schedule_neighbours(c->s, sch->lanes, c->n_vecs, PIECES), rows = PIECES / vecs;
    if (dtype_bytes(c->s->out->dtype) > 1 || c->masked || c->is_rolled || c->last_row[0] ||
        c->last_row[1])
        return false;
    int whole = c->rows[1] / rows * rows, left = c->rows[1] - whole;
    emit_pieces(c, &(Pieces){0, whole, rows, vecs});
    emit_pieces(c, &(Pieces){whole, left, left, vecs});
    return true;
}

void contract_store(Contract *c) {
    Binding bound;
    if (wants_rolled_store(c)) roll_store(c);
    if (emit_byte_store(c)) return;
    const KExpr *at = contract_tile_begin(c, &bound);
    emit_result(c, bound, at);
    contract_tile_end(c);
    c->is_rolled = false;
}
