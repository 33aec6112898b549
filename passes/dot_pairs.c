/* Elements of 16 bits for dot products of pairs, for dot_products.c.
 *
 * Before:  contract over [c < 64, ky, kx]        lhs = i32(x[0, c, ..]) - 3
 * After:   halves[i, j, k, l] = i16(i32(x[i, j, k, l]) - 3)
 *          contract over [c < 32, ky, kx], dot2_ss   lhs = word(halves[0, c*2, ..])
 *
 * A broadcast of two neighbours then is one load, as that of four bytes is where the machine
 * multiplies bytes. The tensor lies like x, with zeros for a halo, and serves every contraction
 * that reads x with this zero point. Where what makes x can store halves itself, and those who
 * still read x (the other side of a sum) can read them, there are no bytes at all. */
#include <string.h>

#include "passes/dot_products.h"
#include "passes/pass.h"

/* What stage s, over x's elements, makes of one of them. */
static const KExpr *half_of(const Dot *d, const Stage *s) {
    const KExpr *index[MAX_RANK];
    KTensor *x = d->x.at->u.tensor;
    stage_own_index(d->k, s, index);
    const KExpr *v = k_cast(d->k, DT_I32, k_at(d->k, x, index, x->rank));
    return k_cast(d->k, DT_I16, d->x.zero ? k_sub(d->k, v, d->x.zero) : v);
}

/* The tensor that an earlier contraction asked for; NULL when none did. */
static KTensor *find_halves(const Dot *d) {
    const KTensor *x = d->x.at->u.tensor;
    for (Stage *s = d->p->first; s && s != d->s; s = s->next)
        if (s->form == FORM_MAP && s->out->dtype == DT_I16 && s->out->rank == x->rank &&
            s->body == half_of(d, s))
            return s->out;
    return NULL;
}

static KTensor *make_halves(const Dot *d) {
    KTensor *x = d->x.at->u.tensor;
    KTensor *halves = program_add_tensor(d->p, "halves", DT_I16, x->rank, x->dims);
    Stage *make = program_add_stage(d->p, d->s, FORM_MAP, halves, d->s->node);
    make->body = half_of(d, make);
    halves->layout = x->layout;
    halves->layout.halo_value = 0;
    return halves;
}

const KExpr *dot_pair_in_place(Dot *d) {
    KTensor *halves = find_halves(d);
    if (!halves) halves = make_halves(d);
    const KExpr *first = k_mul(d->k, k_var(d->k, d->group), k_int(d->k, 2)), *arg[MAX_RANK + 1];
    int rank = halves->rank;
    for (int i = 0; i < rank; i++)
        arg[i] = k_subst(d->k, d->x.at->arg[i], &d->s->red[d->red], &first, 1);
    if (d->x.inside) arg[rank++] = d->x.inside;
    return k_at_word(d->k, halves, arg, rank);
}

/* ---- instead of bytes ------------------------------------------------------------------------ */

typedef struct Halves {
    KTensor *bytes, *halves;
    const KExpr *zero;  /* NULL: 0 */
    const Stage *maker; /* of the bytes */
    bool fits;
} Halves;

/* halves = i16(i32(bytes[own index]) - zero) */
static bool match_halves(KCtx *k, const Stage *s, Halves *h) {
    if (s->form != FORM_MAP || s->out->dtype != DT_I16 || s->body->op != KO_cast) return false;
    IntFactor f;
    if (!match_int_factor(k, s->body->arg[0], &f) || f.inside) return false;
    if (at_pred(f.at) || !map_reads_own(k, s, f.at->u.tensor)) return false;
    *h = (Halves){f.at->u.tensor, s->out, f.zero, f.at->u.tensor->def, true};
    return true;
}

static void note_other_read(const KExpr *e, void *user) {
    Halves *h = user;
    if (e->op == KO_at && e->u.tensor == h->bytes && (at_pred(e) || k_is_word(e))) h->fits = false;
}

/* Can this one read halves as well, once for each element that it makes? */
static bool can_read_halves(KCtx *k, const Stage *s, Halves *h) {
    if (s->form != FORM_MAP && s->form != FORM_CONTRACT) return false;
    stage_visit(k, s, note_other_read, h);
    bool is_factor = s->form == FORM_CONTRACT &&
                     (expr_reads(k, s->lhs, h->bytes) || expr_reads(k, s->rhs, h->bytes));
    return h->fits && !is_factor;
}

static void note_computed(const KExpr *e, void *user) {
    Halves *h = user;
    if (e->op == KO_at && !e->u.tensor->data) h->fits = false;
}

static bool can_store_halves(const DefProgram *p, Halves *h, const Stage *widen) {
    KCtx *k = p->m->k;
    const KTensor *x = h->bytes;
    const Stage *s = h->maker;
    if (!s || s->owner != p || x->dense_only || x->data || x->alias || x->phase ||
        x->n_users != x->users.n || tensor_has_aliases(p, x))
        return false;
    if (s->form != FORM_MAP && s->form != FORM_REDUCE && s->form != FORM_CONTRACT) return false;
    if (h->zero) k_visit(k, h->zero, note_computed, h); /* it may be made after x */
    for (uint32_t i = 0; i < x->users.n && h->fits; i++) {
        const Stage *reader = x->users.at[i];
        if (reader != widen && (reader->owner != p || !can_read_halves(k, reader, h))) return false;
    }
    return h->fits;
}

/* i32 and f32 of a byte, and the byte itself, of halves. */
static const KExpr *read_halves(KCtx *k, const KExpr *e, void *user) {
    const Halves *h = user;
    const KExpr *byte = e->op == KO_cast ? e->arg[0] : e;
    if (byte->op == KO_cast && byte->dtype == h->bytes->dtype && byte->arg[0]->dtype == DT_I32 &&
        e->op == KO_cast && (e->dtype == DT_I32 || e->dtype == DT_F32)) {
        const KExpr *whole = byte->arg[0], *half = whole->op == KO_add ? whole->arg[0] : whole;
        if (half->op == KO_cast && half->arg[0]->op == KO_at &&
            half->arg[0]->u.tensor == h->halves)
            return k_cast(k, e->dtype, whole);
    }
    if (e->op != KO_at || e->u.tensor != h->bytes) return e;
    const KExpr *whole = k_cast(k, DT_I32, k_at(k, h->halves, e->arg, e->n_args));
    return k_cast(k, h->bytes->dtype, h->zero ? k_add(k, whole, h->zero) : whole);
}

static void store_halves(DefProgram *p, Halves *h, Stage *widen) {
    KCtx *k = p->m->k;
    Stage *s = h->bytes->def;
    const KExpr **value = s->form == FORM_MAP ? &s->body : &s->finish;
    const KExpr *whole = k_cast(k, DT_I32, *value);
    *value = k_cast(k, DT_I16, h->zero ? k_sub(k, whole, h->zero) : whole);
    s->reads.known = false;
    s->movement = s->view = false;
    s->out = h->halves;
    h->halves->def = s;
    for (uint32_t i = 0; i < h->bytes->users.n; i++)
        if (h->bytes->users.at[i] != widen)
            stage_rewrite(p, h->bytes->users.at[i], read_halves, h);
    stage_remove(p, widen);
    h->bytes->def = NULL;
    h->bytes->users.n = h->bytes->n_users = 0;
    pass_trace("choose_schedules", s->node, "stores halves");
}

bool dot_store_halves(DefProgram *p) {
    bool changed = false;
    Halves h;
    for (Stage *s = p->first, *next; s; s = next) {
        next = s->next;
        if (!match_halves(p->m->k, s, &h) || !can_store_halves(p, &h, s)) continue;
        store_halves(p, &h, s);
        changed = true;
    }
    return changed;
}
