/* choose_schedules: codes of a few bits, packed in bytes, read in words of 32 bits.
 *
 * Before:  f32(w[j, k // 32, k // 2 % 16] >> t[k % 2] & 15u8)             t = {0, 4}, constant w
 * After:   f32(words[j, k // 8] >> i32(k % 8 * 4) & 15i32)
 *
 * and codes that are the same for a block of others, zero points, from bytes of their own:
 *
 *          f32(z[j, k // 64] >> t[k // 32 % 2] & 15u8)     f32(runs[j, k // 32])
 *
 * Where the loop over k has a multiple of 8 copies, a lane's word is loaded once for 8 codes, and
 * the shifts are constants. Words are made at compile time, and lie like any operand of the
 * template. */
#include "passes/code_words.h"

#include "passes/integers.h"
#include "passes/pass.h"

enum { WORD_BITS = 32 };

typedef struct Codes {
    DefProgram *p;
    Stage *s;
    KVar *red;      /* along which codes are neighbours */
    int64_t extent; /* of it */
    int per_word;   /* codes; 0: none found */
    KVar *lane;     /* the vector axis */
} Codes;

/* t[var % n] of the numbers 0, bits, 2*bits, ..: the bits of a code, or 0. */
static int code_bits(const KExpr *shift, const KVar *var) {
    int64_t n;
    if (shift->op != KO_at || shift->dtype != DT_U8 || shift->u.tensor->rank != 1 ||
        !shift->u.tensor->data || !k_is_int(shift->u.tensor->dims[0], &n) || n < 2)
        return 0;
    const KExpr *at = shift->arg[0];
    const uint8_t *t = shift->u.tensor->data;
    if (at->op != KO_fmod || at->arg[0]->op != KO_var || at->arg[0]->u.var != var ||
        !k_is_value(at->arg[1], (double)n))
        return 0;
    for (int64_t i = 0; i < n; i++)
        if (t[i] != i * (8 / n)) return 0;
    return 8 % n ? 0 : (int)(8 / n);
}

bool is_same_in_runs(KCtx *k, const KExpr *e, KVar *var, int per) {
    KVar *whole = kvar_new(k, KV_AXIS, DT_I64, "whole", 0, var->hi / per);
    KVar *part = kvar_new(k, KV_AXIS, DT_I64, "part", 0, per - 1);
    const KExpr *by = k_mul(k, k_var(k, whole), k_int(k, per));
    by = k_add(k, by, k_var(k, part));
    return !k_uses_var(k, k_subst(k, e, &var, &by, 1), part);
}

/* The tensor of words of the bytes that `at` reads, over the axes of s that it uses and word by
 * word. */
static const KExpr *words_of(Codes *c, const KExpr *at, int per_byte) {
    KCtx *k = c->p->m->k;
    KVar *axis[MAX_RANK];
    const KExpr *extent[MAX_RANK], *index[MAX_RANK], *byte[4];
    int n = stage_axes_of(k, c->s, at, axis, extent), per_word = 4 * per_byte;
    if (n + 1 > MAX_RANK) return NULL;
    for (int r = 0; r < c->s->n_red; r++) /* which run the codes are of */
        if (c->s->red[r] != c->red && k_uses_var(k, at, c->s->red[r])) {
            if (n + 1 == MAX_RANK) return NULL;
            axis[n] = c->s->red[r];
            extent[n++] = c->s->red_extent[r];
        }
    for (int i = 0; i < n; i++) index[i] = k_var(k, axis[i]);
    index[n] = k_fdiv(k, k_var(k, c->red), k_int(k, per_word));
    extent[n] = k_int(k, c->extent / per_word);
    axis[n] = kvar_new(k, KV_AXIS, DT_I64, "word", 0, k_last_index(extent[n]));
    const KExpr *first = k_mul(k, k_var(k, axis[n]), k_int(k, per_word));
    for (int b = 0; b < 4; b++) {
        const KExpr *by = k_add(k, first, k_int(k, b * per_byte));
        byte[b] = k_cast(k, DT_I32, k_subst(k, at, &c->red, &by, 1));
    }
    KTensor *t = constant_table(c->p, c->s, "words", join_parts(k, byte, 4), axis, extent, n + 1);
    return t ? k_at(k, t, index, n + 1) : NULL;
}

/* e, the same for long runs of codes (a block's scale or zero point), from a table with an element
 * for each run; NULL when it is something else. */
static const KExpr *of_run(Codes *c, const KExpr *e, int r) {
    enum { LEAST = 16 };
    KCtx *k = c->p->m->k;
    KVar *red = c->s->red[r], *axis[MAX_RANK];
    const KExpr *extent[MAX_RANK], *index[MAX_RANK];
    int64_t length, run = LEAST;
    if (!k_is_int(c->s->red_extent[r], &length) || !k_uses_var(k, e, red)) return NULL;
    if (length % run || !is_same_in_runs(k, e, red, (int)run)) return NULL;
    while (length % (2 * run) == 0 && is_same_in_runs(k, e, red, (int)(2 * run))) run *= 2;
    int n = stage_axes_of(k, c->s, e, axis, extent);
    if (n + 1 > MAX_RANK) return NULL;
    for (int i = 0; i < n; i++) index[i] = k_var(k, axis[i]);
    index[n] = k_fdiv(k, k_var(k, red), k_int(k, run));
    extent[n] = k_int(k, length / run);
    axis[n] = kvar_new(k, KV_AXIS, DT_I64, "run", 0, k_last_index(extent[n]));
    const KExpr *first = k_mul(k, k_var(k, axis[n]), k_int(k, run));
    e = k_subst(k, e, &red, &first, 1);
    KTensor *t = constant_table(c->p, c->s, "runs", e, axis, extent, n + 1);
    return t ? k_at(k, t, index, n + 1) : NULL;
}

/* One code: cast(at >> t[k % n] & mask). */
static const KExpr *read_words(KCtx *k, const KExpr *e, void *user) {
    Codes *c = user;
    if (e->op != KO_cast || e->dtype != DT_F32 || e->arg[0]->op != KO_and) return e;
    const KExpr *and = e->arg[0], *shr = and->arg[0];
    if (shr->op != KO_shr || shr->arg[0]->op != KO_at || shr->arg[0]->dtype != DT_U8 ||
        !shr->arg[0]->u.tensor->data || at_pred(shr->arg[0]))
        return e;
    for (int r = 0; r < c->s->n_red; r++) {
        const KExpr *run = of_run(c, and, r);
        if (run) return k_cast(k, DT_F32, run);
        int bits = code_bits(shr->arg[1], c->s->red[r]), per_word = bits ? WORD_BITS / bits : 0;
        if (!bits || !k_is_value(and->arg[1], (double)((1 << bits) - 1))) continue;
        if (!k_is_int(c->s->red_extent[r], &c->extent) || c->extent % per_word) continue;
        c->red = c->s->red[r];
        if (!is_same_in_runs(k, shr->arg[0], c->red, 8 / bits)) continue;
        const KExpr *word = words_of(c, shr->arg[0], 8 / bits);
        if (!word) continue;
        const KExpr *by = k_fmod(k, k_var(k, c->red), k_int(k, per_word));
        by = k_cast(k, DT_I32, k_mul(k, by, k_int(k, bits)));
        c->per_word = per_word;
        word = k_and(k, k_shr(k, word, by), k_const_i(k, DT_I32, (1 << bits) - 1));
        return k_cast(k, DT_F32, word);
    }
    return e;
}

int read_code_words(DefProgram *p, Stage *s) {
    Codes c = {.p = p, .s = s};
    s->rhs = k_rewrite(p->m->k, s->rhs, read_words, &c);
    return c.per_word;
}

static const KExpr *read_run(KCtx *k, const KExpr *e, void *user) {
    Codes *c = user;
    bool is_joined = false;
    if (e->op != KO_at || !e->u.tensor->data || e->n_args > e->u.tensor->rank) return e;
    for (int i = 0; i < e->n_args; i++)
        is_joined |= e->arg[i]->op != KO_var && k_uses_var(k, e->arg[i], c->lane);
    for (int r = 0; is_joined && r < c->s->n_red; r++) {
        const KExpr *run = of_run(c, e, r);
        if (run) return run;
    }
    return e;
}

void separate_runs(DefProgram *p, Stage *s, KVar *lane) {
    Codes c = {.p = p, .s = s, .lane = lane};
    s->rhs = k_rewrite(p->m->k, s->rhs, read_run, &c);
}
