/* Products of quantized blocks, for choose_schedules: weights of a few bits whose scales hold for a
 * block of the sum, times values that are rounded to bytes with a scale for each block, too.
 *
 * Before:  d[i, k] = f32(i8(rint(x[i, k]*f[i, k // 32])))*sx[i, k // 32]
 *          contract over [k < 2048]    lhs = d[i, k]
 *                                      rhs = (f32(codes[j, k // 2] >> .. & 15) - 8.0)
 *                                            *sw[j, k // 32]
 * After:   q[i, k] = i8(rint(x[i, k]*f[i, k // 32]))
 *          sums[i, g] = the bytes q[i, g*32 ..] summed, times -8
 *          contract over [g < 64, w < 8]   lhs = word(q[i, g*32 + w*4])
 *                                          rhs = words[j, g*4 + w // 2] >> w % 2 * 4 & 0x0f0f0f0f
 *                                          fold dot4_us    run from sums[i, g]
 *                                          term = f32(run)*runs[j, g]*sx[i, g]
 *
 * A word has the codes of k..k+3 in the low bits of its bytes, those of k+4..k+7 in the next. A
 * block of 32 takes 24 operations for a vector of columns that way, where floats take 128: a
 * decoder's step then waits for memory only. Zero points that are no one whole number are taken off
 * in the term. */
#include "passes/dot_blocks.h"

#include <math.h>

#include "passes/code_words.h"
#include "passes/integers.h"
#include "passes/pass.h"

enum { LEAST_BLOCK = 16, MOST_BLOCK = 256 };
enum { ONES = 0x01010101 }; /* a byte in each byte of a word */

typedef struct DotBlocks {
    DefProgram *p;
    KCtx *k;
    Stage *s;
    KVar *red;
    int64_t extent, block;
    const KExpr *codes; /* u8 below 1 << bits, of constants */
    int bits;
    const KExpr *zero;            /* f32, of the codes */
    const KExpr *scale, *x_scale; /* f32 */
    const KExpr *x;               /* the left factor: a read of the tensor of x's values */
    const KExpr *bytes;           /* i8: what these are in steps of their scale, over its axes */
    KVar *group, *word;           /* which block, and which word of x in it */
} DotBlocks;

/* ---- what the factors are -------------------------------------------------------------------- */

/* What is an i32 of whole numbers below 16, or not far from 0, as a byte without a sign, which has
 * `low` less. */
static const KExpr *less_low(const DotBlocks *b, const KExpr *e, int low) {
    return k_cast(b->k, DT_U8, k_sub(b->k, e, k_const_i(b->k, DT_I32, low)));
}

/* f32(i32(q)) or f32(i32(q) - i32(z)), where q is constant, of bytes or of types of 4 bits: those
 * are stored in bytes, but packed here. */
static bool match_numbers(DotBlocks *b, const KExpr *e) {
    if (e->op != KO_cast || e->dtype != DT_F32 || e->arg[0]->dtype != DT_I32) return false;
    const KExpr *q = e->arg[0], *zero = NULL;
    if (q->op == KO_sub) {
        zero = q->arg[1];
        q = q->arg[0];
    }
    if (q->op != KO_cast || q->arg[0]->op != KO_at || !q->arg[0]->u.tensor->data ||
        at_pred(q->arg[0]))
        return false;
    DType t = q->arg[0]->dtype;
    b->bits = dtype_info[t].bits;
    if (b->bits == 8 && dtype_is_int(t)) {
        b->codes = q;
        b->zero = zero ? k_cast(b->k, DT_F32, zero) : NULL;
        return true;
    }
    if (t != DT_I4 && t != DT_U4) return false;
    int low = t == DT_I4 ? -8 : 0;
    b->codes = less_low(b, q, low);
    b->zero = zero  ? k_cast(b->k, DT_F32, less_low(b, zero, low))
              : low ? k_const(b->k, DT_F32, -low)
                    : NULL;
    return true;
}

/* f32(codes) */
static bool match_codes(DotBlocks *b, const KExpr *e) {
    if (e->op != KO_cast || e->dtype != DT_F32 || e->arg[0]->dtype != DT_U8) return false;
    b->codes = e->arg[0];
    b->bits = 8;
    if (b->codes->op == KO_and)
        b->bits = k_is_value(b->codes->arg[1], 15) ? 4 : k_is_value(b->codes->arg[1], 3) ? 2 : 0;
    return b->bits == 8 ? b->codes->op == KO_at : b->bits > 0;
}

/* (f32(codes) - zero)*scale, or what is read as that */
static bool match_right(DotBlocks *b, const KExpr *e) {
    if (e->op != KO_mul) return false;
    for (int i = 0; i < 2; i++) {
        const KExpr *whole = e->arg[i];
        b->scale = e->arg[1 - i];
        if (match_numbers(b, whole)) return true;
        b->zero = whole->op == KO_sub ? whole->arg[1] : NULL;
        if (match_codes(b, whole->op == KO_sub ? whole->arg[0] : whole)) return true;
    }
    return false;
}

/* A read of f32(i8 ..)*scale along its last axis, rows of known length that lie in memory. */
static bool match_left(DotBlocks *b, const KExpr *e) {
    if (e->op != KO_at || at_pred(e) || e->u.tensor->layout.block > 1) return false;
    const KTensor *t = e->u.tensor;
    const Stage *map = t->def;
    const KExpr *last = e->arg[t->rank - 1];
    if (!map || map->form != FORM_MAP || map->owner != b->p || map->body->op != KO_mul ||
        last->op != KO_var || last->u.var != b->red ||
        !k_is_value(t->dims[t->rank - 1], (double)b->extent))
        return false;
    for (int i = 0; i < 2; i++) {
        const KExpr *f = map->body->arg[i];
        if (f->op != KO_cast || f->dtype != DT_F32 || f->arg[0]->dtype != DT_I8) continue;
        b->x = e;
        b->bytes = f->arg[0];
        b->x_scale = k_subst(b->k, map->body->arg[1 - i], map->axis, e->arg, t->rank);
        return true;
    }
    return false;
}

static bool holds_for(const DotBlocks *b, int64_t n) {
    return b->extent % n == 0 && is_same_in_runs(b->k, b->scale, b->red, (int)n) &&
           (!b->x_scale || is_same_in_runs(b->k, b->x_scale, b->red, (int)n)) &&
           (!b->zero || is_same_in_runs(b->k, b->zero, b->red, (int)n));
}

static bool find_block(DotBlocks *b) {
    if (!holds_for(b, LEAST_BLOCK)) return false;
    b->block = LEAST_BLOCK;
    while (b->block < MOST_BLOCK && holds_for(b, 2 * b->block)) b->block *= 2;
    return true;
}

/* ---- what they become ------------------------------------------------------------------------ */

static const KExpr *at_element(const DotBlocks *b, const KExpr *e, const KExpr *element) {
    return k_subst(b->k, e, &b->red, &element, 1);
}

/* The element at this place of the group. */
static const KExpr *in_group(const DotBlocks *b, int64_t at) {
    const KExpr *first = k_mul(b->k, k_var(b->k, b->group), k_int(b->k, b->block));
    return k_add(b->k, first, k_int(b->k, at));
}

/* A table over the axes of the result that e uses and one more, and a read of it there. */
static const KExpr *table_over(const DotBlocks *b, const char *name, const KExpr *e, KVar *more,
                               const KExpr *at) {
    KVar *axis[MAX_RANK];
    const KExpr *extent[MAX_RANK] = {0}, *index[MAX_RANK];
    int n = stage_axes_of(b->k, b->s, e, axis, extent);
    if (n + 1 > MAX_RANK) return NULL;
    for (int i = 0; i < n; i++) index[i] = k_var(b->k, axis[i]);
    index[n] = at;
    extent[n] = k_int(b->k, more->hi + 1);
    axis[n] = more;
    KTensor *t = constant_table(b->p, b->s, name, e, axis, extent, n + 1);
    return t ? k_at(b->k, t, index, n + 1) : NULL;
}

/* A number, or a table of one for each block; bytes stay bytes. */
static const KExpr *of_block(const DotBlocks *b, const KExpr *e) {
    if (e->op == KO_const_f) return e;
    const KExpr *stored = e->op == KO_cast && dtype_bytes(e->arg[0]->dtype) == 1 ? e->arg[0] : e;
    const KExpr *read = at_element(b, stored, in_group(b, 0));
    read = table_over(b, "runs", read, b->group, k_var(b->k, b->group));
    return read ? k_cast(b->k, e->dtype, read) : NULL;
}

/* The codes that the group's word of x is multiplied by, in the bytes of a word. */
static const KExpr *word_of_codes(const DotBlocks *b) {
    KCtx *k = b->k;
    int per_word = 32 / b->bits;
    int64_t n_words = b->extent / per_word;
    KVar *word = kvar_new(k, KV_AXIS, DT_I64, "word", 0, n_words - 1);
    const KExpr *byte[4], *first = k_mul(k, k_var(k, word), k_int(k, per_word));
    for (int i = 0; i < 4; i++) {
        byte[i] = k_const_i(k, DT_I32, 0);
        for (int h = 0; h < 8 / b->bits; h++) {
            const KExpr *code = at_element(b, b->codes, k_add(k, first, k_int(k, 4 * h + i)));
            code = k_shl(k, k_cast(k, DT_I32, code), k_const_i(k, DT_I32, h * b->bits));
            byte[i] = k_or(k, byte[i], code);
        }
    }
    int parts = 8 / b->bits;
    const KExpr *at = k_mul(k, k_var(k, b->group), k_int(k, b->block / per_word));
    at = k_add(k, at, k_fdiv(k, k_var(k, b->word), k_int(k, parts)));
    const KExpr *read = table_over(b, "words", join_parts(k, byte, 4), word, at);
    if (!read || parts == 1) return read;
    const KExpr *by = k_fmod(k, k_var(k, b->word), k_int(k, parts));
    by = k_cast(k, DT_I32, k_mul(k, by, k_int(k, b->bits)));
    return k_and(k, k_shr(k, read, by), k_const_i(k, DT_I32, ((1 << b->bits) - 1) * (int64_t)ONES));
}

/* The tensor of x's bytes, which several products may read. */
static KTensor *store_bytes(const DotBlocks *b) {
    const Stage *map = b->x->u.tensor->def;
    const KTensor *t = map->out;
    const KExpr *axis[MAX_RANK];
    for (const Stage *s = b->p->first; s != b->s; s = s->next) {
        if (s->form != FORM_MAP || s->out->dtype != DT_I8 || s->out->rank != t->rank) continue;
        stage_own_index(b->k, s, axis);
        if (s->body == k_subst(b->k, b->bytes, map->axis, axis, t->rank)) return s->out;
    }
    KTensor *q = program_add_tensor(b->p, t->name, DT_I8, t->rank, t->dims);
    Stage *make = program_add_stage(b->p, b->s, FORM_MAP, q, map->node);
    stage_own_index(b->k, make, axis);
    make->body = k_subst(b->k, b->bytes, map->axis, axis, t->rank);
    return q;
}

static const KExpr *word_of_x(const DotBlocks *b, KTensor *q) {
    const KExpr *index[MAX_RANK], *at = k_mul(b->k, k_var(b->k, b->word), k_int(b->k, 4));
    at = k_add(b->k, in_group(b, 0), at);
    for (int i = 0; i < q->rank; i++) index[i] = at_element(b, b->x->arg[i], at);
    return k_at_word(b->k, q, index, q->rank);
}

/* What a stage over blocks of q sums: the bytes of a block. */
static const KExpr *byte_of_block(const DotBlocks *b, const Stage *s, KTensor *q) {
    KCtx *k = b->k;
    const KExpr *index[MAX_RANK], **last = &index[q->rank - 1];
    stage_own_index(k, s, index);
    *last = k_add(k, k_mul(k, *last, k_int(k, b->block)), k_var(k, s->red[0]));
    return k_cast(k, DT_I32, k_at(k, q, index, q->rank));
}

/* The tensor of the blocks' sums, times this factor. */
static KTensor *store_sums(const DotBlocks *b, KTensor *q, int64_t factor) {
    KCtx *k = b->k;
    const KExpr *dims[MAX_RANK], *by = k_const_i(k, DT_I32, factor);
    int last = q->rank - 1;
    for (const Stage *s = b->p->first; s != b->s; s = s->next)
        if (s->form == FORM_REDUCE && s->n_red == 1 && s->out->rank == q->rank &&
            k_is_value(s->red_extent[0], (double)b->block) && s->body == byte_of_block(b, s, q) &&
            s->finish == k_mul(k, k_var(k, s->acc), by))
            return s->out;
    for (int i = 0; i < last; i++) dims[i] = q->dims[i];
    dims[last] = k_int(k, b->extent / b->block);
    KTensor *sums = program_add_tensor(b->p, "sums", DT_I32, q->rank, dims);
    Stage *s = program_add_stage(b->p, b->s, FORM_REDUCE, sums, b->s->node);
    s->red[0] = kvar_new(k, KV_AXIS, DT_I64, "r", 0, b->block - 1);
    s->red_extent[0] = k_int(k, b->block);
    s->n_red = 1;
    s->body = byte_of_block(b, s, q);
    s->fold = KO_add;
    s->init = k_const_i(k, DT_I32, 0);
    s->acc = kvar_new(k, KV_AXIS, DT_I32, "acc", INT64_MIN, INT64_MAX);
    s->finish = k_mul(k, k_var(k, s->acc), by);
    return sums;
}

/* A read of the sum of x's bytes over the group, times this factor. */
static const KExpr *sum_of_x(const DotBlocks *b, KTensor *q, int64_t factor) {
    const KExpr *index[MAX_RANK];
    int last = q->rank - 1;
    for (int i = 0; i < last; i++) index[i] = b->x->arg[i];
    index[last] = k_var(b->k, b->group);
    return k_at(b->k, store_sums(b, q, factor), index, q->rank);
}

/* Is the zero point one whole number? It is then taken off where a run starts. */
static bool is_whole_zero(const KExpr *zero) {
    enum { MOST = 255 };
    return zero && zero->op == KO_const_f && fabs(zero->u.f) <= MOST &&
           zero->u.f == rint(zero->u.f);
}

/* A sum of f32 over one axis of a known length, times packed codes. */
static bool match_sum(DotBlocks *b) {
    const Stage *s = b->s;
    b->red = s->red[0];
    return s->acc->dtype == DT_F32 && s->fold == KO_add && k_is_value(s->init, 0) &&
           s->n_red == 1 && k_is_int(s->red_extent[0], &b->extent) && match_right(b, s->rhs) &&
           b->extent % (32 / b->bits) == 0;
}

static bool match(DotBlocks *b, const Schedule *sch) {
    return sch->lanes > 1 && b->p->m->target->dot4 && match_sum(b) && match_left(b, b->s->lhs) &&
           find_block(b);
}

/* The sum is of one run of so many steps for each group. */
static void sum_in_runs(DotBlocks *b, int64_t n_steps) {
    Stage *s = b->s;
    s->red[0] = b->group;
    s->red[1] = b->word;
    s->red_extent[0] = k_int(b->k, b->extent / b->block);
    s->red_extent[1] = k_int(b->k, n_steps);
    s->n_red = 2;
}

bool use_block_products(DefProgram *p, Stage *s, Schedule *sch) {
    KCtx *k = p->m->k;
    DotBlocks b = {.p = p, .k = k, .s = s};
    if (!schedule_contract_axes(p, s, p->m->target, sch) || !match(&b, sch)) return false;
    b.group = kvar_new(k, KV_AXIS, DT_I64, "group", 0, b.extent / b.block - 1);
    b.word = kvar_new(k, KV_AXIS, DT_I64, "w", 0, b.block / 4 - 1);
    const KExpr *words = word_of_codes(&b), *scale = of_block(&b, b.scale);
    const KExpr *zero = b.zero ? of_block(&b, b.zero) : NULL;
    if (!words || !scale || (b.zero && !zero)) return false;
    KTensor *q = store_bytes(&b);
    s->run = kvar_new(k, KV_AXIS, DT_I32, "run", INT64_MIN, INT64_MAX);
    s->run_init = k_const_i(k, DT_I32, 0);
    const KExpr *sum = k_cast(k, DT_F32, k_var(k, s->run));
    if (is_whole_zero(zero))
        s->run_init = sum_of_x(&b, q, -(int64_t)zero->u.f);
    else if (zero)
        sum = k_sub(k, sum, k_mul(k, zero, k_cast(k, DT_F32, sum_of_x(&b, q, 1))));
    s->term = k_mul(k, k_mul(k, sum, scale), at_element(&b, b.x_scale, in_group(&b, 0)));
    s->lhs = word_of_x(&b, q);
    s->rhs = words;
    /* codes of few bits are bytes of either kind */
    s->dot = p->m->target->dot4_signed && b.bits < 8 ? KO_dot4_ss : KO_dot4_us;
    s->dot_swapped = true;
    sum_in_runs(&b, b.block / 4);
    pass_trace("choose_schedules", s->node, "dot products of blocks of %lld", (long long)b.block);
    schedule_contract_axes(p, s, p->m->target, sch);
    schedule_contract_join(p, s, sch);
    schedule_contract_tile(p, s, p->m->target, sch);
    return true;
}

/* The code of element `at`, of 4 bits, which pairs of codes in bytes have. */
static const KExpr *read_pair(const DotBlocks *b, const KExpr *at) {
    KCtx *k = b->k;
    const KExpr *two = k_int(k, 2), *part[2];
    KVar *pair = kvar_new(k, KV_AXIS, DT_I64, "pair", 0, b->extent / 2 - 1);
    KVar *which = kvar_new(k, KV_AXIS, DT_I64, "which", 0, 1);
    for (int i = 0; i < 2; i++) {
        const KExpr *element = k_add(k, k_mul(k, k_var(k, pair), two), k_int(k, i));
        part[i] = k_cast(k, DT_I32, at_element(b, b->codes, element));
    }
    part[1] = k_shl(k, part[1], k_const_i(k, DT_I32, 4));
    const KExpr *both = k_cast(k, DT_U8, k_or(k, part[0], part[1]));
    const KExpr *read = table_over(b, "codes", both, pair, k_fdiv(k, at, two));
    const KExpr *by = k_cast(k, DT_U8, k_mul(k, k_var(k, which), k_int(k, 4)));
    KTensor *shifts = constant_table(b->p, b->s, "shifts", by, &which, &two, 1);
    if (!read || !shifts) return NULL;
    by = k_fmod(k, at, two);
    return k_and(k, k_shr(k, read, k_at(k, shifts, &by, 1)), k_const_i(k, DT_U8, 15));
}

/* Are these weights large enough to stay codes? Small ones become floats. */
static bool is_large(const DotBlocks *b) {
    enum { SMALL = 1 << 14 };
    KVar *axis[MAX_RANK];
    const KExpr *extent[MAX_RANK];
    int64_t n = b->extent, dim;
    int rank = stage_axes_of(b->k, b->s, b->codes, axis, extent);
    for (int i = 0; i < rank; i++)
        if (!k_is_int(extent[i], &dim) || __builtin_mul_overflow(n, dim, &n)) return false;
    return n > SMALL;
}

void use_block_sums(DefProgram *p, Stage *s, bool in_runs) {
    KCtx *k = p->m->k;
    DotBlocks b = {.p = p, .k = k, .s = s};
    if (!match_sum(&b) || !find_block(&b) || !is_large(&b)) return;
    bool is_pair = b.bits == 4 && b.codes->op == KO_cast;
    if (!in_runs && !is_pair) return;
    b.group = kvar_new(k, KV_AXIS, DT_I64, "group", 0, b.extent / b.block - 1);
    b.word = kvar_new(k, KV_AXIS, DT_I64, "w", 0, b.block - 1);
    const KExpr *scale = of_block(&b, b.scale), *zero = b.zero ? of_block(&b, b.zero) : NULL;
    const KExpr *at = k_add(k, in_group(&b, 0), k_var(k, b.word));
    const KExpr *codes = is_pair ? read_pair(&b, at) : at_element(&b, b.codes, at);
    if (!codes || !scale || (b.zero && !zero)) return;
    s->rhs = k_cast(k, DT_F32, codes);
    if (zero) s->rhs = k_sub(k, s->rhs, zero);
    if (!in_runs) {
        const KExpr *element = k_var(k, b.red), *length = k_int(k, b.block);
        const KExpr *by[] = {k_fdiv(k, element, length), k_fmod(k, element, length)};
        s->rhs = k_subst(k, k_mul(k, s->rhs, scale), (KVar *[]){b.group, b.word}, by, 2);
        return;
    }
    s->run = kvar_new(k, KV_AXIS, DT_F32, "run", INT64_MIN, INT64_MAX);
    s->run_init = k_const(k, DT_F32, 0);
    s->term = k_mul(k, k_var(k, s->run), scale);
    s->lhs = at_element(&b, s->lhs, at);
    sum_in_runs(&b, b.block);
    pass_trace("choose_schedules", s->node, "sums of blocks of %lld", (long long)b.block);
}
