/* Vectors of whole numbers that become bytes, four at a time, and two or three that are left over.
 *
 *     for v in 0..4 vector {
 *       for l in 0..16 vector {
 *         y[..] = u8(bitcast(i32, min(max(x, lo), hi) + 12582912.0) + z)
 *
 * A vector of i32 makes a quarter of a vector of bytes, and narrowing each by itself costs as much
 * as what computed it. Four of them are narrowed together: x86 packs two vectors into one of half
 * the width, and saturates on the way, which does most of the clamping. Its packs work within 16
 * bytes, so that words have to be put in order at the end. The bytes are those of the expression
 * above. */
#include <float.h>
#include <math.h>

#include "codegen/llvm/llvm_gen.h"

enum { PIECES = 4, MAX_LOOPS = 3 };

static const double MAGIC = 12582912; /* 1.5 * 2^23: see ir/math_round.c */
static const double FAR = 1e100;
static const double MOST_WORD = 2e9; /* what is less rounds to an i32, however it was computed */

typedef struct Pack {
    const KStmt *store;
    const KVar *var[MAX_LOOPS]; /* of the loops around the lanes, outermost first */
    int64_t extent[MAX_LOOPS];
    int n_loops;
    int n; /* vectors: all of the loops' iterations */
    unsigned lanes;
    const KExpr *bytes;     /* what is packed: the stored value, or the table's index */
    const KBuf *table;      /* i32 of 256, that the stored value is read from, or NULL */
    const KExpr *value;     /* what is computed in 32 bits: x, or the i32 whose low byte counts */
    bool rounds;            /* value is x */
    bool has_low, is_small; /* the bytes need a lower bound; x lies within a few thousand */
    bool is_word;           /* x is known to be no more than an i32 holds */
    double low, high, zero;
} Pack;

static const KStmt *only(const KBlock *b, KStmtKind kind) {
    return b->first && !b->first->next && b->first->kind == kind ? b->first : NULL;
}

static bool is_constant(const KExpr *e, double *v) {
    if (e->op != KO_const_f) return false;
    *v = e->u.f;
    return true;
}

typedef struct Range {
    double lo, hi;
} Range;

static Range product_of(Range a, Range b) {
    double v[] = {a.lo * b.lo, a.lo * b.hi, a.hi * b.lo, a.hi * b.hi};
    Range r = {v[0], v[0]};
    for (int i = 1; i < 4; i++) r = (Range){fmin(r.lo, v[i]), fmax(r.hi, v[i])};
    return (Range){fmax(r.lo, -FAR), fmin(r.hi, FAR)};
}

/* What a sum of clamped and of loaded bytes, times constants, may be, where it is no NaN; the whole
 * of f32 for what is not looked into. */
static Range range_of(const KExpr *e) {
    Range r = {-FLT_MAX, FLT_MAX}, a, b;
    if (e->dtype == DT_U8) return (Range){0, 255};
    if (e->dtype == DT_I8) return (Range){-128, 127};
    switch ((int)e->op) {
    case KO_const_f: return (Range){e->u.f, e->u.f};
    case KO_cast: return e->dtype == DT_F32 || e->dtype == DT_I32 ? range_of(e->arg[0]) : r;
    case KO_min:
    case KO_max:
        a = range_of(e->arg[0]), b = range_of(e->arg[1]);
        return e->op == KO_min ? (Range){fmin(a.lo, b.lo), fmin(a.hi, b.hi)}
                               : (Range){fmax(a.lo, b.lo), fmax(a.hi, b.hi)};
    case KO_add:
    case KO_sub:
        a = range_of(e->arg[0]), b = range_of(e->arg[1]);
        return e->op == KO_add ? (Range){a.lo + b.lo, a.hi + b.hi}
                               : (Range){a.lo - b.hi, a.hi - b.lo};
    case KO_mul: return product_of(range_of(e->arg[0]), range_of(e->arg[1]));
    case KO_fma:
        a = product_of(range_of(e->arg[0]), range_of(e->arg[1])), b = range_of(e->arg[2]);
        return (Range){a.lo + b.lo, a.hi + b.hi};
    }
    return r;
}

/* y + magic: y is min(max(x, lo), hi), or a quotient of such a one. */
static bool match_sum(Pack *p, const KExpr *y) {
    const KExpr *of = y->op == KO_fma && y->arg[0]->op == KO_fma ? y->arg[0]->arg[2] : y;
    if (of->op != KO_min || of->arg[0]->op != KO_max) return false;
    if (!is_constant(of->arg[1], &p->high) || !is_constant(of->arg[0]->arg[1], &p->low))
        return false;
    p->is_small = of != y;
    p->value = p->is_small ? y : of->arg[0]->arg[0];
    p->is_word = range_of(p->value).hi < MOST_WORD;
    return p->low >= -4096 && p->high <= 4096;
}

static bool match_rounded(Pack *p) {
    const KExpr *e = p->bytes->arg[0];
    p->zero = 0;
    if (e->op == KO_add && e->arg[1]->op == KO_const_i) {
        p->zero = (double)e->arg[1]->u.i;
        e = e->arg[0];
    }
    if (e->op != KO_bitcast || e->arg[0]->dtype != DT_F32 || e->arg[0]->op != KO_add) return false;
    const KExpr *sum = e->arg[0];
    if (!k_is_value(sum->arg[1], MAGIC) || p->zero < -255 || p->zero > 255) return false;
    if (!match_sum(p, sum->arg[0])) return false;
    p->has_low = !p->is_small && p->low + p->zero > (p->bytes->dtype == DT_U8 ? 0 : -128);
    return true;
}

static const KExpr *cast_of(const KExpr *e, DType t) {
    return e && e->op == KO_cast && e->dtype == t ? e->arg[0] : NULL;
}

/* u8(table[i64(i32(byte))]) with a table of 256, or i64(i32(signed byte)) + 128: a permutation too,
 * where bytes can be permuted by bytes. The byte, and the table; else e itself. */
static const KExpr *match_table(LlvmGen *g, Pack *p, const KExpr *e) {
    const KExpr *load = e->arg[0], *at;
    if (!g->cpu.vbmi || load->op != KO_load || load->dtype != DT_I32 || load->n_args != 1 ||
        load->u.buf->dtype != DT_I32 || !k_is_value(load->u.buf->n_elems, 256))
        return e;
    at = load->arg[0];
    bool is_signed = at->op == KO_add && k_is_value(at->arg[1], 128);
    const KExpr *byte = cast_of(cast_of(is_signed ? at->arg[0] : at, DT_I64), DT_I32);
    if (!byte || byte->op != KO_cast || byte->dtype != (is_signed ? DT_I8 : DT_U8) ||
        byte->arg[0]->dtype != DT_I32)
        return e;
    p->table = load->u.buf;
    return byte;
}

/* The loops of a nest around a store of bytes; false when it is something else. */
static bool match_nest(LlvmGen *g, const KStmt *outer, Pack *p) {
    const KStmt *loop = outer;
    int64_t n = 1, lanes;
    for (const KStmt *in; (in = only(&loop->body, KS_FOR)) != NULL; loop = in) {
        if (p->n_loops == MAX_LOOPS || in->mark != LOOP_VECTOR) return false;
        p->var[p->n_loops] = loop->var;
        if (!llvm_known_int(g, loop->extent, &p->extent[p->n_loops])) return false;
        n *= p->extent[p->n_loops++];
    }
    p->store = only(&loop->body, KS_STORE);
    bool fits = g->cpu.x86 ? n > 1 && n <= PIECES : n == PIECES;
    if (!fits || !p->store || !llvm_known_int(g, loop->extent, &lanes)) return false;
    p->n = (int)n;
    const KExpr *v = p->store->value;
    if (v->op != KO_cast || (v->dtype != DT_U8 && v->dtype != DT_I8) || v->arg[0]->dtype != DT_I32)
        return false;
    p->var[p->n_loops] = loop->var;
    p->lanes = (unsigned)lanes;
    p->bytes = match_table(g, p, v);
    p->rounds = g->cpu.x86 && match_rounded(p);
    if (!p->rounds) p->value = v->arg[0];
    if (!g->cpu.x86) return lanes >= 4 && lanes * PIECES <= 64;
    return p->rounds && lanes == (g->cpu.avx512bw ? 16 : g->cpu.avx2 ? 8 : 4);
}

/* ---- narrowing ------------------------------------------------------------------------------- */

static LLVMValueRef permuted(LlvmGen *g, LLVMValueRef a, LLVMValueRef b, const unsigned *from,
                             unsigned n) {
    LLVMValueRef at[64];
    for (unsigned i = 0; i < n; i++) at[i] = LLVMConstInt(g->i32, from[i], 0);
    return LLVMBuildShuffleVector(g->b, a, b ? b : LLVMGetPoison(LLVMTypeOf(a)),
                                  LLVMConstVector(at, n), "");
}

static LLVMValueRef join(LlvmGen *g, LLVMValueRef a, LLVMValueRef b) {
    unsigned from[64], n = 2 * llvm_lanes(a);
    for (unsigned i = 0; i < n; i++) from[i] = i;
    return permuted(g, a, b, from, n);
}

/* To the nearest whole number as x86 converts: what no i32 holds gives the least one, NaN too. So
 * only what is too large has to be bounded first. */
static LLVMValueRef rounded(LlvmGen *g, const Pack *p, LLVMValueRef x) {
    if (!p->is_small && !p->is_word) {
        LLVMValueRef high = llvm_real(g, g->f32, p->lanes, p->high);
        LLVMValueRef above = LLVMBuildFCmp(g->b, LLVMRealOLT, high, x, "");
        x = LLVMBuildSelect(g->b, above, high, x, "");
    }
    if (p->lanes == 16) {
        LLVMTypeRef i16 = g->i16;
        LLVMValueRef none = LLVMConstNull(llvm_widen(g->i32, 16)), all = LLVMConstAllOnes(i16);
        LLVMValueRef args[] = {x, none, all, LLVMConstInt(g->i32, 4, 0)};
        return llvm_call(g, "llvm.x86.avx512.mask.cvtps2dq.512", NULL, 0, args, 4);
    }
    return llvm_call(g, p->lanes == 8 ? "llvm.x86.avx.cvt.ps2dq.256" : "llvm.x86.sse2.cvtps2dq",
                     NULL, 0, &x, 1);
}

static LLVMValueRef pack_two(LlvmGen *g, const Pack *p, const char *const *names, LLVMValueRef a,
                             LLVMValueRef b) {
    LLVMValueRef args[] = {a, b};
    return llvm_call(g, names[p->lanes == 16 ? 0 : p->lanes == 8 ? 1 : 2], NULL, 0, args, 2);
}

static LLVMValueRef saturated_sum(LlvmGen *g, const Pack *p, LLVMValueRef v) {
    LLVMTypeRef t = LLVMTypeOf(v);
    if (p->zero == 0) return v;
    LLVMValueRef args[] = {v, llvm_int(g, g->i16, llvm_lanes(v), (int64_t)p->zero)};
    return llvm_call(g, "llvm.sadd.sat", &t, 1, args, 2);
}

/* The bytes of all vectors, one behind another; those behind fewer than four mean nothing. */
static LLVMValueRef pack_x86(LlvmGen *g, const Pack *p, LLVMValueRef *x) {
    static const char *const words[] = {"llvm.x86.avx512.packssdw.512", "llvm.x86.avx2.packssdw",
                                        "llvm.x86.sse2.packssdw.128"};
    static const char *const u8[] = {"llvm.x86.avx512.packuswb.512", "llvm.x86.avx2.packuswb",
                                     "llvm.x86.sse2.packuswb.128"};
    static const char *const i8[] = {"llvm.x86.avx512.packsswb.512", "llvm.x86.avx2.packsswb",
                                     "llvm.x86.sse2.packsswb.128"};
    bool is_unsigned = p->bytes->dtype == DT_U8;
    LLVMValueRef half[2], v;
    for (int i = 0; i < p->n; i++) x[i] = rounded(g, p, x[i]);
    for (int i = 0; 2 * i < p->n; i++) {
        LLVMValueRef next = x[2 * i + 1 < p->n ? 2 * i + 1 : 2 * i];
        half[i] = saturated_sum(g, p, pack_two(g, p, words, x[2 * i], next));
    }
    if (p->n <= 2) half[1] = half[0];
    v = pack_two(g, p, is_unsigned ? u8 : i8, half[0], half[1]);
    unsigned from[16], n = p->lanes, groups = n / 4;
    for (unsigned i = 0; i < n; i++) from[i] = i % groups * 4 + i / groups;
    LLVMTypeRef bytes = LLVMTypeOf(v);
    if (groups > 1) {
        v = LLVMBuildBitCast(g->b, v, llvm_widen(g->i32, n), "");
        v = LLVMBuildBitCast(g->b, permuted(g, v, NULL, from, n), bytes, "");
    }
    if (!p->has_low) return v;
    LLVMValueRef args[] = {v, llvm_int(g, g->i8, 4 * n, (int64_t)(p->low + p->zero))};
    return llvm_call(g, is_unsigned ? "llvm.umax" : "llvm.smax", &bytes, 1, args, 2);
}

/* Each byte's entry: two permutations of 128 bytes, and the byte's top bit chooses. */
static LLVMValueRef look_up(LlvmGen *g, const Pack *p, LLVMValueRef at) {
    enum { N = 64 };
    LLVMValueRef part[4], half[2];
    if (p->bytes->dtype == DT_I8)
        at = LLVMBuildXor(g->b, at, llvm_int(g, g->i8, N, 128), "");
    for (int i = 0; i < 4; i++) {
        LLVMValueRef first = LLVMConstInt(g->i64, (uint64_t)i * N, 0);
        LLVMValueRef from = LLVMBuildGEP2(g->b, g->i32, llvm_buf(g, p->table)->base, &first, 1, "");
        LLVMValueRef wide = LLVMBuildLoad2(g->b, llvm_widen(g->i32, N), from, "");
        LLVMSetAlignment(wide, 4);
        part[i] = LLVMBuildTrunc(g->b, wide, llvm_widen(g->i8, N), "");
    }
    for (int i = 0; i < 2; i++) {
        LLVMValueRef args[] = {part[2 * i], at, part[2 * i + 1]};
        half[i] = llvm_call(g, "llvm.x86.avx512.vpermi2var.qi.512", NULL, 0, args, 3);
    }
    LLVMValueRef is_high = LLVMBuildICmp(g->b, LLVMIntSLT, at, LLVMConstNull(LLVMTypeOf(at)), "");
    return LLVMBuildSelect(g->b, is_high, half[1], half[0], "");
}

/* ---- the nest -------------------------------------------------------------------------------- */

/* The store's index in piece i. */
static const KExpr *index_of(LlvmGen *g, const Pack *p, int64_t i) {
    KCtx *k = g->m->k;
    const KExpr *by[MAX_LOOPS];
    KVar *var[MAX_LOOPS];
    for (int l = p->n_loops; l-- > 0;) {
        var[l] = (KVar *)p->var[l];
        by[l] = k_int(k, i % p->extent[l]);
        i /= p->extent[l];
    }
    return k_subst(k, p->store->index, var, by, p->n_loops);
}

static void bind_piece(LlvmGen *g, const Pack *p, int64_t i) {
    for (int l = p->n_loops; l-- > 0;) {
        uint64_t at = (uint64_t)(i % p->extent[l]);
        *llvm_var(g, p->var[l]) = (VarBind){.v = LLVMConstInt(g->i64, at, 0)};
        i /= p->extent[l];
    }
}

/* Is piece i behind piece i - 1 in memory? */
static bool follows(LlvmGen *g, const Pack *p, int64_t i) {
    int64_t distance;
    const KExpr *from = index_of(g, p, i - 1), *to = index_of(g, p, i);
    return k_is_int(k_sub(g->m->k, to, from), &distance) && distance == p->lanes;
}

static void store_pieces(LlvmGen *g, const Pack *p, LLVMValueRef v, LLVMValueRef *ptr) {
    unsigned from[64];
    for (int64_t i = 0, n; i < p->n; i += n) {
        for (n = 1; i + n < p->n && follows(g, p, i + n); n++) {
        }
        if (n == 3) n = 2;
        for (unsigned b = 0; b < n * p->lanes; b++) from[b] = (unsigned)i * p->lanes + b;
        LLVMValueRef part = n == PIECES ? v : permuted(g, v, NULL, from, (unsigned)n * p->lanes);
        LLVMSetAlignment(LLVMBuildStore(g->b, part, ptr[i]), 1);
    }
}

bool llvm_pack_stores(LlvmGen *g, const KStmt *outer) {
    Pack p = {0};
    LlvmFn *fn = g->fn;
    if (fn->lanes || fn->mask || !match_nest(g, outer, &p)) return false;
    const KVar *lane = p.var[p.n_loops];
    LLVMValueRef v[PIECES], ptr[PIECES];
    fn->lanes = (int)p.lanes;
    fn->lane_var = (KVar *)lane;
    fn->varying_vars = UINT64_C(1) << (lane->id & 63);
    fn->any_per_lane = false;
    *llvm_var(g, lane) = (VarBind){.v = llvm_iota(g, p.lanes), .varying = true};
    bool fits = true;
    for (int i = 0; i < p.n && fits; i++) {
        uint32_t mark = llvm_memo_mark(g);
        bind_piece(g, &p, i);
        v[i] = llvm_splat(g, llvm_expr(g, p.value), p.lanes);
        ptr[i] = llvm_vector_place(g, p.store->buf, p.store->index);
        fits = ptr[i] != NULL;
        llvm_memo_undo(g, mark);
    }
    fn->lanes = 0;
    fn->lane_var = NULL;
    llvm_var(g, lane)->varying = false;
    if (!fits) return false;
    LLVMValueRef bytes;
    if (p.rounds) {
        bytes = pack_x86(g, &p, v);
        if (p.table) bytes = look_up(g, &p, bytes);
    } else {
        bytes = join(g, join(g, v[0], v[1]), join(g, v[2], v[3]));
        bytes = LLVMBuildTrunc(g->b, bytes, llvm_widen(g->i8, PIECES * p.lanes), "");
    }
    store_pieces(g, &p, bytes, ptr);
    return true;
}
