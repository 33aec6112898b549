/* What the reads of a factor are to the lanes of a vector: neighbours in memory, or elements near
 * each other in a pattern that is the same for every vector.
 *
 *     x[0, j, y, x]                   neighbours, where j is the vector axis and x is blocked by it
 *     x[0, j // 4 * 4 + c, y, x]      a pattern: of 4 channels, each lane reads number c
 *
 * The second is what grouped convolutions read. Within a vector's length, a renderer makes a load
 * and a permutation of it, so it costs little more than the first. */
#include "passes/vector_reads.h"

#include "passes/pass.h"

/* Does every read in e walk memory with unit stride along var, without leaving it in a whole number
 * of vectors? What is not blocked ends where its dim does. */
typedef struct UnitReads {
    KCtx *k;
    KVar *var;
    int lanes;
    bool fills;   /* var's extent is a whole number of vectors */
    int64_t more; /* what is missing for that; -1: not known */
    bool ok;
} UnitReads;

/* Do reads beyond the extent of var, up to whole vectors, stay in the tensor's halo? */
static bool halo_covers(const UnitReads *u, const KExpr *e) {
    const KTensor *t = e->u.tensor;
    const KExpr *base, *coeff;
    int64_t dim;
    int last = t->rank - 1;
    if (u->more < 0 || !t->layout.has_halo || t->layout.permuted) return false;
    for (int a = 0; a < t->rank; a++) {
        bool by_lane = k_uses_var(u->k, e->arg[a], u->var);
        if (by_lane != (a == last) || !k_is_int(t->dims[a], &dim)) return false;
        int64_t hi = e->arg[a]->hi;
        if (e->arg[a]->lo < -(int64_t)t->layout.halo[a][0] || hi == INT64_MAX ||
            hi + (by_lane ? u->more : 0) >= dim + t->layout.halo[a][1])
            return false;
    }
    return k_linear_in(u->k, e->arg[last], u->var, &base, &coeff) && k_is_value(coeff, 1);
}

static void note_unit_read(const KExpr *e, void *user) {
    UnitReads *u = user;
    const KExpr *base, *coeff;
    if (e->op != KO_at || !u->ok || !k_uses_var(u->k, e, u->var)) return;
    const KTensor *t = e->u.tensor;
    if (t->layout.block > 1) {
        const KExpr *at = e->arg[t->layout.block_axis];
        u->ok = t->layout.block == u->lanes && at->op == KO_var && at->u.var == u->var;
        return;
    }
    const KExpr *flat = tensor_flat_index(u->k, t, e->arg);
    u->ok = (u->fills || halo_covers(u, e)) && k_linear_in(u->k, flat, u->var, &base, &coeff) &&
            k_is_value(coeff, 1);
}

bool reads_vectors(KCtx *k, const Stage *s, const KExpr *e, const Schedule *sch) {
    int64_t n, more = -1;
    if (k_is_int(s->out->dims[sch->vec_axis], &n))
        more = (sch->lanes - n % sch->lanes) % sch->lanes;
    UnitReads u = {k, s->axis[sch->vec_axis], sch->lanes, more == 0, more, true};
    k_visit(k, e, note_unit_read, &u);
    return u.ok;
}

static void note_row_read(const KExpr *e, void *user) {
    UnitReads *u = user;
    if (e->op != KO_at) return;
    u->ok &= !at_pred(e) && !k_is_word(e) && e->u.tensor->layout.block <= 1;
    note_unit_read(e, user);
}

bool reads_rows(KCtx *k, const Stage *s, const KExpr *e, const Schedule *sch) {
    UnitReads u = {k, s->axis[sch->vec_axis], sch->lanes, true, 0, true};
    k_visit(k, e, note_row_read, &u);
    return u.ok;
}

/* ---- patterns -------------------------------------------------------------------------------- */

typedef struct Lanes {
    KCtx *k;
    KVar *axis, *lane;
    const KExpr *index; /* of the axis: vector * lanes + lane */
    int64_t span;       /* elements between the first and the last lane's, of one read */
    bool fills;         /* the axis is a whole number of vectors */
    bool ok;
} Lanes;

/* Does an index end within the last block of its axis, of which all is memory? */
static bool ends_in_block(const KTensor *t, int axis, const KExpr *index) {
    int64_t dim, block = t->layout.block;
    return block > 1 && t->layout.block_axis == axis && k_is_int(t->dims[axis], &dim) &&
           index->hi < (dim + block - 1) / block * block;
}

static void note_other_variable(const KExpr *e, void *user) {
    Lanes *l = user;
    if (e->op == KO_at || e->op == KO_load || (e->op == KO_var && e->u.var != l->lane))
        l->ok = false;
}

/* Is e a sum of terms of which each depends on the lane only, or not at all? */
static void note_terms(Lanes *l, const KExpr *e) {
    if (e->op == KO_add) {
        note_terms(l, e->arg[0]);
        note_terms(l, e->arg[1]);
    } else if (k_uses_var(l->k, e, l->lane)) {
        k_visit(l->k, e, note_other_variable, l);
        l->span += e->hi - e->lo;
    }
}

static void note_lane_read(const KExpr *e, void *user) {
    Lanes *l = user;
    const KExpr *arg[MAX_RANK];
    if (e->op != KO_at || !l->ok) return;
    KTensor *t = e->u.tensor;
    if (at_pred(e) && k_uses_var(l->k, at_pred(e), l->axis)) l->ok = false;
    for (int i = 0; i < t->rank; i++) {
        arg[i] = k_subst(l->k, e->arg[i], &l->axis, &l->index, 1);
        if (arg[i] != e->arg[i] && !l->fills && !ends_in_block(t, i, arg[i])) l->ok = false;
    }
    l->span = 0;
    note_terms(l, tensor_flat_index(l->k, t, arg));
    if (l->span >= (l->lane->hi + 1) * (k_is_word(e) ? word_parts(t->dtype) : 1)) l->ok = false;
}

bool reads_lanes(KCtx *k, const Stage *s, const KExpr *e, const Schedule *sch) {
    int64_t n;
    const KTensor *out = s->out;
    if (!k_is_int(out->dims[sch->vec_axis], &n) || n < 1 || sch->lanes < 2) return false;
    KVar *vector = kvar_new(k, KV_AXIS, DT_I64, "vector", 0, (n - 1) / sch->lanes);
    KVar *lane = kvar_new(k, KV_AXIS, DT_I64, "lane", 0, sch->lanes - 1);
    const KExpr *first = k_mul(k, k_var(k, vector), k_int(k, sch->lanes));
    Lanes l = {k, s->axis[sch->vec_axis], lane, k_add(k, first, k_var(k, lane)), 0,
               n % sch->lanes == 0, true};
    k_visit(k, e, note_lane_read, &l);
    return l.ok;
}
