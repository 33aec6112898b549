/* Complex numbers: what expand_math makes of them.
 *
 * A c64 is a u64 whose low half is the real part, so that it moves, in vectors too, like any other
 * element of eight bytes; its parts are shifts. No renderer has elements of sixteen bytes that are
 * numbers: a c128 becomes two u64, one behind the other, and each access two:
 *
 *     y[i] = x[j if p]               let im = x[2*j + 1 if p]
 *                                    y[2*i] = x[2*j if p]
 *                                    y[2*i + 1] = im
 *
 * The let is for y[i] = y[i] * z, whose imaginary part needs the real one as it was. Only loads,
 * variables, selects, 0 and `complex` are c128; re and im take it apart. */
#include "ir/pairs.h"

enum { PART_RE, PART_IM };

/* The variable of the imaginary parts that belongs to the one of a let. */
typedef struct ImVar {
    const KVar *re;
    KVar *im;
} ImVar;

typedef struct Split {
    KCtx *k;
    VEC(ImVar) vars;
} Split;

/* ---- c64 ------------------------------------------------------------------------------------- */

static const KExpr *c64_part(KCtx *k, const KExpr *a, int part) {
    const KExpr *bits = k_bitcast(k, DT_U64, a);
    if (part == PART_IM) bits = k_shr(k, bits, k_const_i(k, DT_U64, 32));
    return k_bitcast(k, DT_F32, k_cast(k, DT_U32, bits));
}

static const KExpr *c64_bits(KCtx *k, const KExpr *part) {
    return k_cast(k, DT_U64, k_bitcast(k, DT_U32, part));
}

const KExpr *pairs_expand(KCtx *k, const KExpr *e) {
    bool is_part = e->op == KO_re || e->op == KO_im;
    if (is_part && e->arg[0]->dtype == DT_C64)
        return c64_part(k, e->arg[0], e->op == KO_im ? PART_IM : PART_RE);
    if (e->op != KO_complex || e->dtype != DT_C64) return e;
    const KExpr *im = k_shl(k, c64_bits(k, e->arg[1]), k_const_i(k, DT_U64, 32));
    return k_bitcast(k, DT_C64, k_or(k, c64_bits(k, e->arg[0]), im));
}

/* ---- c128 ------------------------------------------------------------------------------------ */

static const KExpr *half_index(KCtx *k, const KExpr *index, int part) {
    return k_add(k, k_mul(k, index, k_int(k, 2)), k_int(k, part));
}

static KVar *var_of_part(const Split *s, KVar *v, int part) {
    for (uint32_t i = 0; part == PART_IM && i < s->vars.n; i++)
        if (s->vars.at[i].re == v) return s->vars.at[i].im;
    BUG_IF(part == PART_IM, "'%s' has no imaginary part", v->name);
    return v;
}

/* One of the two u64 of e, a c128. */
static const KExpr *half(const Split *s, const KExpr *e, int part) {
    KCtx *k = s->k;
    switch ((int)e->op) {
    case KO_const_i: return k_const_i(k, DT_U64, 0);
    case KO_load:
        return k_load_half(k, e->u.buf, half_index(k, e->arg[0], part),
                           e->n_args > 1 ? e->arg[1] : NULL);
    case KO_var: return k_var(k, var_of_part(s, e->u.var, part));
    case KO_select:
        return k_select(k, e->arg[0], half(s, e->arg[1], part), half(s, e->arg[2], part));
    case KO_complex: return k_bitcast(k, DT_U64, e->arg[part]);
    default: BUG("'%s' of c128", kop_info[e->op].name);
    }
}

static const KExpr *take_part(KCtx *k, const KExpr *e, void *user) {
    bool is_part = e->op == KO_re || e->op == KO_im;
    if (!is_part || e->arg[0]->dtype != DT_C128) return e;
    return k_bitcast(k, DT_F64, half(user, e->arg[0], e->op == KO_im ? PART_IM : PART_RE));
}

/* e without parts of c128, which may itself be one. */
static void split_expr(Split *s, const KExpr **e) {
    if (*e) *e = k_rewrite(s->k, *e, take_part, s);
}

static KStmt *add_let(Split *s, KBlock *b, KStmt *at, const char *name, const KExpr *value) {
    KStmt *let = arena_new(kctx_arena(s->k), KStmt);
    let->kind = KS_LET;
    let->var = kvar_new(s->k, KV_LET, value->dtype, name, INT64_MIN, INT64_MAX);
    let->value = value;
    kblock_insert_before(b, at, let);
    return let;
}

static void split_store(Split *s, KBlock *b, KStmt *store) {
    KCtx *k = s->k;
    KStmt *let = add_let(s, b, store, "im", half(s, store->value, PART_IM));
    KStmt *first = arena_new(kctx_arena(k), KStmt);
    first->kind = KS_STORE;
    first->buf = store->buf;
    first->index = half_index(k, store->index, PART_RE);
    first->value = half(s, store->value, PART_RE);
    kblock_insert_before(b, store, first);
    store->index = half_index(k, store->index, PART_IM);
    store->value = k_var(k, let->var);
}

static void split_let(Split *s, KBlock *b, KStmt *let) {
    KStmt *im = add_let(s, b, let, let->var->name, half(s, let->value, PART_IM));
    let->value = half(s, let->value, PART_RE);
    vec_push(kctx_arena(s->k), &s->vars, ((ImVar){let->var, im->var}));
    let->var->dtype = DT_U64;
}

/* Elements counted in c128 as u64. */
static void count_halves(Split *s, const KBuf *buf, const KExpr **count) {
    if (*count && buf && buf->dtype == DT_C128) *count = half_index(s->k, *count, PART_RE);
}

static void split_block(Split *s, KBlock *b) {
    for (KStmt *at = b->first; at; at = at->next) {
        split_expr(s, &at->extent);
        split_expr(s, &at->index);
        split_expr(s, &at->value);
        for (uint32_t i = 0; i < kstmt_n_args(at); i++)
            count_halves(s, at->args[i].buf, &at->args[i].offset);
        bool is_pair = at->value && at->value->dtype == DT_C128;
        if (at->kind == KS_RESERVE) {
            count_halves(s, at->buf, &at->value);
            count_halves(s, at->buf, &at->index);
        } else if (at->kind == KS_PREFETCH && is_pair) {
            at->value = half(s, at->value, PART_RE);
        } else if (at->kind == KS_STORE && is_pair) {
            split_store(s, b, at);
        } else if (at->kind == KS_LET && is_pair) {
            split_let(s, b, at);
        }
        split_block(s, &at->body);
        split_block(s, &at->other);
    }
}

void kblock_split_pairs(KCtx *k, KBlock *b) {
    Split s = {.k = k};
    split_block(&s, b);
}
