/* Loads and stores: addresses as sums, and what lanes make of them.
 *
 * An index is taken apart into constant + lane coefficient * lane + terms. Terms are added to the
 * base from the outermost loop inwards and the constant last, so that what a loop does not change
 * can leave it and neighbours differ by a displacement only. With coefficient 1 (and nothing else
 * that differs by lane) the lanes are one vector in memory, with -1 a reversed one, with 0 a
 * broadcast, with 2 to 4 a part of as many vectors; constant places within a vector's length, or in
 * a few vectors of a local buffer, are loads and permutations, places in one aligned vector that
 * vector and an index for each lane, those that are a few stretches a load each, any places in a
 * small local buffer are one of its vectors; the rest are gathers and scatters. */
#include <stdlib.h>

#include "codegen/llvm/llvm_gen.h"

enum { MAX_TERMS = 24, MAX_PATTERN = 64, TABLE_LANES = 16 };

typedef struct Term {
    const KExpr *e;
    uint64_t coeff; /* arithmetic modulo 2^64 */
    LLVMValueRef v;
    int depth;
} Term;

typedef struct Linear {
    uint64_t constant, lane;
    Term term[MAX_TERMS];
    int n;
} Linear;

static void add_term(Linear *l, const KExpr *e, uint64_t coeff) {
    for (int i = 0; i < l->n; i++)
        if (l->term[i].e == e) {
            l->term[i].coeff += coeff;
            return;
        }
    l->term[l->n++] = (Term){.e = e, .coeff = coeff};
}

/* pending: operands of enclosing sums that still need a term each. */
static void add_linear(LlvmGen *g, Linear *l, const KExpr *e, uint64_t coeff, int pending) {
    int64_t known;
    if (llvm_known_int(g, e, &known)) {
        l->constant += coeff * (uint64_t)known;
        return;
    }
    bool has_room = l->n + pending + 2 <= MAX_TERMS;
    if (e->op == KO_var && e->u.var == g->fn->lane_var)
        l->lane += coeff;
    else if ((e->op == KO_add || e->op == KO_sub) && has_room) {
        add_linear(g, l, e->arg[0], coeff, pending + 1);
        add_linear(g, l, e->arg[1], e->op == KO_add ? coeff : 0 - coeff, pending);
    } else if (e->op == KO_mul && has_room && llvm_known_int(g, e->arg[1], &known))
        add_linear(g, l, e->arg[0], coeff * (uint64_t)known, pending);
    else if (e->op == KO_mul && has_room && llvm_known_int(g, e->arg[0], &known))
        add_linear(g, l, e->arg[1], coeff * (uint64_t)known, pending);
    else
        add_term(l, e, coeff);
}

/* Values of the terms; constants that only LLVM knew join the constant; sorted by depth. */
static void evaluate_terms(LlvmGen *g, Linear *l) {
    int n = 0;
    for (int i = 0; i < l->n; i++) {
        Term t = l->term[i];
        if (!t.coeff) continue;
        t.v = llvm_expr_depth(g, t.e, &t.depth);
        if (LLVMIsAConstantInt(t.v)) {
            l->constant += t.coeff * (uint64_t)LLVMConstIntGetSExtValue(t.v);
            continue;
        }
        int at = n++;
        for (; at > 0 && l->term[at - 1].depth > t.depth; at--) l->term[at] = l->term[at - 1];
        l->term[at] = t;
    }
    l->n = n;
}

/* An address per lane or for all of them. */
typedef struct Place {
    LLVMTypeRef type;     /* of one element in memory, or of a word */
    LLVMTypeRef unit;     /* of one element */
    LLVMValueRef ptr;     /* of lane 0's element, without the varying part */
    LLVMValueRef varying; /* <lanes x i64> element offsets, or NULL */
    LLVMValueRef base, index; /* the buffer and <lanes x i32> indices, where these fit; or NULL */
    int64_t lane;         /* step from lane to lane, in elements */
    unsigned align;       /* of lane 0's element when nothing varies */
    LLVMValueRef local;   /* the buffer of registers that is read at constant places, or NULL */
    int64_t constant, n_local; /* lane 0's place in it without the varying part; its elements */
    int depth;
} Place;

/* The largest power of two that divides an offset in bytes, at most 64. */
static unsigned low_bit(uint64_t bytes) {
    uint64_t bit = bytes & (0 - bytes);
    return bit > 64 || !bit ? 64 : (unsigned)bit;
}

static LLVMValueRef scaled(LlvmGen *g, LLVMValueRef v, uint64_t coeff) {
    if (coeff == 1) return v;
    return LLVMBuildMul(g->b, v, llvm_int(g, g->i64, llvm_lanes(v), (int64_t)coeff), "");
}

/* Indices of 64 bits fill several vectors, though all that a comparison asks is how many lanes are
 * on one side:
 *
 *   i + lane < n      lane < clamp(n - i, 0, lanes)
 *   n <= i + lane     not (lane < clamp(n - i, 0, lanes))
 *
 * with lane numbers of as few bits as lanes leave. NULL where other things vary. */
LLVMValueRef llvm_compare_lanes(LlvmGen *g, const KExpr *e, int *depth) {
    enum { LEAST = 8, MOST = 64 };
    unsigned lanes = (unsigned)g->fn->lanes;
    if ((e->op != KO_lt && e->op != KO_le) || e->arg[0]->dtype != DT_I64 || lanes < LEAST ||
        lanes > MOST)
        return NULL;
    Linear l = {0};
    add_linear(g, &l, e->arg[1], 1, 1);
    add_linear(g, &l, e->arg[0], UINT64_MAX, 0);
    bool rises = l.lane == 1; /* of b - a, which has to be positive, or not negative */
    if (!rises && l.lane != UINT64_MAX) return NULL;
    for (int i = 0; i < l.n; i++)
        if (llvm_varies(g, l.term[i].e)) return NULL;
    evaluate_terms(g, &l);
    *depth = l.n ? l.term[l.n - 1].depth : 0;
    LLVMValueRef first = LLVMConstInt(g->i64, l.constant, 0);
    for (int i = 0; i < l.n; i++)
        first = LLVMBuildAdd(g->b, first, scaled(g, l.term[i].v, l.term[i].coeff), "");
    LLVMValueRef equal = LLVMConstInt(g->i64, (e->op == KO_le) != rises, 0);
    LLVMValueRef n = rises ? LLVMBuildSub(g->b, equal, first, "")
                           : LLVMBuildAdd(g->b, first, equal, "");
    LLVMValueRef low[] = {n, LLVMConstInt(g->i64, 0, 0)};
    LLVMValueRef high[] = {llvm_call(g, "llvm.smax", &g->i64, 1, low, 2),
                           LLVMConstInt(g->i64, lanes, 0)};
    n = llvm_call(g, "llvm.smin", &g->i64, 1, high, 2);
    LLVMTypeRef t = lanes > 32 ? g->i8 : lanes > 16 ? g->i16 : g->i32;
    LLVMValueRef number = LLVMBuildTrunc(g->b, llvm_iota(g, lanes), llvm_widen(t, lanes), "");
    n = llvm_splat(g, LLVMBuildTrunc(g->b, n, t, ""), lanes);
    return LLVMBuildICmp(g->b, rises ? LLVMIntUGE : LLVMIntULT, number, n, "");
}

static LLVMValueRef step_ptr(LlvmGen *g, LLVMTypeRef t, LLVMValueRef ptr, LLVMValueRef by) {
    return LLVMBuildGEP2(g->b, t, ptr, &by, 1, "");
}

/* Bytes of an element and how it is aligned at least. */
static unsigned element_bytes(const LlvmGen *g, DType t) {
    return t == DT_STR ? 2 * (unsigned)g->target->pointer_bytes : (unsigned)dtype_bytes(t);
}

unsigned llvm_element_align(const LlvmGen *g, DType t) {
    return t == DT_STR ? (unsigned)g->target->pointer_bytes : low_bit(element_bytes(g, t));
}

static LLVMValueRef narrowed(LlvmGen *g, LLVMValueRef v) {
    return LLVMBuildTrunc(g->b, v, llvm_widen(g->i32, llvm_lanes(v)), "");
}

/* Indices of lanes in equal steps that are gathered or scattered, modulo 2^32, from the buffer's
 * begin: processors take as many indices of 32 bits as lanes, of 64 bits half as many at once. */
static void narrow_index(LlvmGen *g, const KBuf *b, const Linear *l, Place *p) {
    unsigned lanes = (unsigned)g->fn->lanes;
    bool is_near = p->lane >= -1 && p->lane <= 4;
    if (!lanes || is_near || p->varying || !g->cpu.gather) return;
    /* a constant of a folded kernel may not say how long it is */
    if (!b->n_elems || b->n_elems->hi > INT32_MAX) return;
    LLVMValueRef by = scaled(g, llvm_iota(g, lanes), (uint64_t)p->lane);
    LLVMValueRef same = LLVMConstInt(g->i64, l->constant, 0);
    for (int i = 0; i < l->n; i++)
        if (!llvm_lanes(l->term[i].v))
            same = LLVMBuildAdd(g->b, same, scaled(g, l->term[i].v, l->term[i].coeff), "");
    p->index = LLVMBuildAdd(g->b, llvm_splat(g, narrowed(g, same), lanes), narrowed(g, by), "");
}

static Place find_place(LlvmGen *g, const KBuf *b, const KExpr *index) {
    LlvmFn *fn = g->fn;
    Linear l = {0};
    add_linear(g, &l, index, 1, 0);
    evaluate_terms(g, &l);
    BufBind bind = *llvm_buf(g, b);
    if (!bind.base)
        bind = (BufBind){.base = llvm_entry_base(g, b), .align = llvm_element_align(g, b->dtype)};
    BUG_IF(!bind.base, "buffer %s_%u is used before it exists", b->name, b->id);
    if (bind.per_lane) {
        l.constant *= (uint64_t)fn->lanes;
        l.lane = l.lane * (uint64_t)fn->lanes + 1;
        for (int i = 0; i < l.n; i++) l.term[i].coeff *= (uint64_t)fn->lanes;
    }
    LLVMTypeRef t = llvm_mem_type(g, b->dtype);
    Place p = {.type = t, .unit = t, .ptr = bind.base, .base = bind.base, .lane = (int64_t)l.lane};
    unsigned size = element_bytes(g, b->dtype);
    p.align = bind.align > low_bit(l.constant * size) ? low_bit(l.constant * size) : bind.align;
    for (int i = 0; i < l.n;) {
        LLVMValueRef sum = NULL;
        int depth = l.term[i].depth;
        for (; i < l.n && l.term[i].depth == depth; i++) {
            LLVMValueRef v = scaled(g, l.term[i].v, l.term[i].coeff);
            unsigned known = low_bit(l.term[i].coeff * size);
            if (known < p.align) p.align = known;
            if (llvm_lanes(v))
                p.varying = p.varying ? LLVMBuildAdd(g->b, p.varying, v, "") : v;
            else
                sum = sum ? LLVMBuildAdd(g->b, sum, v, "") : v;
        }
        if (sum) p.ptr = step_ptr(g, p.type, p.ptr, sum);
        p.depth = depth;
    }
    bool is_local = b->mem == MEM_REG || b->mem == MEM_STACK;
    if (is_local && p.ptr == bind.base && !bind.per_lane && k_is_int(b->n_elems, &p.n_local)) {
        p.local = bind.base;
        p.constant = (int64_t)l.constant;
    }
    if (l.constant) p.ptr = step_ptr(g, p.type, p.ptr, LLVMConstInt(g->i64, l.constant, 0));
    if (b->dtype == DT_STR && p.align > llvm_element_align(g, DT_STR))
        p.align = llvm_element_align(g, DT_STR);
    if (p.align < 1) p.align = 1;
    if (p.varying && p.lane)
        p.varying =
            LLVMBuildAdd(g->b, p.varying, scaled(g, llvm_iota(g, (unsigned)fn->lanes), l.lane), "");
    if (!bind.per_lane) narrow_index(g, b, &l, &p);
    return p;
}

static LLVMValueRef lane_addresses(LlvmGen *g, Place *p) {
    unsigned lanes = (unsigned)g->fn->lanes;
    if (p->index) return step_ptr(g, p->unit, p->base, p->index);
    LLVMValueRef by = p->varying ? p->varying : scaled(g, llvm_iota(g, lanes), (uint64_t)p->lane);
    return step_ptr(g, p->unit, p->ptr, by);
}

static LLVMValueRef reversed(LlvmGen *g, LLVMValueRef v) {
    unsigned lanes = llvm_lanes(v);
    LLVMValueRef *at = xmalloc(sizeof *at * lanes);
    for (unsigned i = 0; i < lanes; i++) at[i] = LLVMConstInt(g->i32, lanes - 1 - i, 0);
    LLVMValueRef order = LLVMConstVector(at, lanes);
    free(at);
    return LLVMBuildShuffleVector(g->b, v, LLVMGetPoison(LLVMTypeOf(v)), order, "");
}

LLVMValueRef llvm_alloca(LlvmGen *g, LLVMTypeRef t, uint64_t n, unsigned align, const char *name) {
    LLVMBasicBlockRef back = LLVMGetInsertBlock(g->b);
    LLVMPositionBuilderAtEnd(g->b, g->fn->entry);
    LLVMValueRef at = LLVMBuildAlloca(g->b, LLVMArrayType2(t, n), name);
    LLVMSetAlignment(at, align);
    LLVMPositionBuilderAtEnd(g->b, back);
    return at;
}

/* ---- loads ----------------------------------------------------------------------------------- */

static LLVMValueRef plain_load(LlvmGen *g, LLVMTypeRef t, LLVMValueRef ptr, unsigned align) {
    LLVMValueRef v = LLVMBuildLoad2(g->b, t, ptr, "");
    LLVMSetAlignment(v, align);
    return v;
}

LLVMValueRef llvm_nowhere(LlvmGen *g) {
    if (!g->fn->dummy) g->fn->dummy = llvm_alloca(g, g->i8, 16, 16, "nowhere");
    return g->fn->dummy;
}

LLVMValueRef llvm_address(LlvmGen *g, const KExpr *e, int *depth) {
    *depth = g->fn->depth;
    return find_place(g, e->u.buf, e->arg[0]).ptr;
}

void llvm_prefetch(LlvmGen *g, const KExpr *e) {
    enum { READ = 0, SECOND_LEVEL = 2, DATA = 1 };
    Place p = find_place(g, e->u.buf, e->arg[0]);
    LLVMValueRef args[] = {p.ptr, LLVMConstInt(g->i32, READ, 0),
                           LLVMConstInt(g->i32, SECOND_LEVEL, 0), LLVMConstInt(g->i32, DATA, 0)};
    llvm_call(g, "llvm.prefetch", &g->ptr, 1, args, 4);
}

/* One element, or zero without touching its address when pred is false. */
static LLVMValueRef load_one(LlvmGen *g, Place *p, LLVMValueRef pred) {
    if (!pred) return plain_load(g, p->type, p->ptr, p->align);
    LLVMValueRef ptr = LLVMBuildSelect(g->b, pred, p->ptr, llvm_nowhere(g), "");
    unsigned align = p->align > 16 ? 16 : p->align;
    LLVMValueRef v = plain_load(g, p->type, ptr, align);
    return LLVMBuildSelect(g->b, pred, v, LLVMConstNull(p->type), "");
}

static LLVMValueRef masked_load(LlvmGen *g, LLVMTypeRef t, LLVMValueRef ptr, unsigned align,
                                LLVMValueRef mask) {
    if (!mask) return plain_load(g, t, ptr, align);
    LLVMTypeRef types[] = {t, g->ptr};
    LLVMValueRef args[] = {ptr, LLVMConstInt(g->i32, align, 0), mask, LLVMConstNull(t)};
    return llvm_call(g, "llvm.masked.load", types, 2, args, 4);
}

/* How any element is aligned: by its size, and a word like what it is made of. */
static unsigned lane_align(const LlvmGen *g, const Place *p) {
    return (unsigned)LLVMABISizeOfType(g->layout, p->unit);
}

/* How many elements of the buffer a lane has: 1, or those of a word. */
static int64_t elements_of_place(const LlvmGen *g, const Place *p) {
    return (int64_t)(LLVMABISizeOfType(g->layout, p->type) /
                     LLVMABISizeOfType(g->layout, p->unit));
}

/* The places of lanes behind p->ptr, where they are constants. */
static bool constant_places(LlvmGen *g, const Place *p, int64_t *off) {
    unsigned lanes = (unsigned)g->fn->lanes;
    if (!p->varying || !LLVMIsConstant(p->varying) || lanes > MAX_PATTERN) return false;
    for (unsigned i = 0; i < lanes; i++) {
        LLVMValueRef e = LLVMGetAggregateElement(p->varying, i);
        if (!e || !LLVMIsAConstantInt(e)) return false;
        off[i] = LLVMConstIntGetSExtValue(e);
    }
    return true;
}

/* Lanes at constant places near each other, first .. first + n - 1 in elements of p->type; at:
 * which of these each lane takes. 0 when they are elsewhere. */
static unsigned find_pattern(LlvmGen *g, const Place *p, int64_t *first, unsigned *at) {
    unsigned lanes = (unsigned)g->fn->lanes;
    int64_t unit = elements_of_place(g, p), off[MAX_PATTERN], last = 0;
    if (!constant_places(g, p, off)) return 0;
    for (unsigned i = 0; i < lanes; i++) {
        if (!i || off[i] < *first) *first = off[i];
        if (!i || off[i] > last) last = off[i];
    }
    for (unsigned i = 0; i < lanes; i++) {
        if ((off[i] - *first) % unit || off[i] - *first >= unit * lanes) return 0;
        at[i] = (unsigned)((off[i] - *first) / unit);
    }
    return (unsigned)((last - *first) / unit) + 1;
}

/* Lanes at constant places of a local buffer; NULL where they are in too many of its vectors. */
static LLVMValueRef load_rows(LlvmGen *g, const Place *p) {
    unsigned lanes = (unsigned)g->fn->lanes;
    int64_t at[MAX_PATTERN];
    if (!p->local || p->type != p->unit || lanes > MAX_PATTERN) return NULL;
    if (p->varying && !LLVMIsConstant(p->varying)) return NULL;
    for (unsigned i = 0; i < lanes; i++) {
        at[i] = p->constant + p->lane * (int64_t)i;
        if (!p->varying) continue;
        LLVMValueRef e = LLVMGetAggregateElement(p->varying, i);
        if (!e || !LLVMIsAConstantInt(e)) return NULL;
        at[i] = p->constant + LLVMConstIntGetSExtValue(e);
    }
    return llvm_load_rows(g, p->type, p->local, at, p->n_local, lane_align(g, p));
}

/* Such lanes as one load and a permutation; NULL where that cannot be. What lies between two
 * elements of a buffer may be read, what lies behind the last one may not. */
static LLVMValueRef load_pattern(LlvmGen *g, Place *p) {
    unsigned lanes = (unsigned)g->fn->lanes, size = lane_align(g, p), at[MAX_PATTERN], whole = 1;
    int64_t first = 0;
    unsigned n = find_pattern(g, p, &first, at);
    while (whole < n) whole *= 2;
    if (!n || (n < whole && !g->cpu.avx512bw)) return NULL;
    LLVMValueRef from = step_ptr(g, p->unit, p->ptr, LLVMConstInt(g->i64, (uint64_t)first, 0));
    if (n == 1) return llvm_splat(g, plain_load(g, p->type, from, size), lanes);
    LLVMValueRef lane[MAX_PATTERN], mask = NULL;
    for (unsigned i = 0; i < whole; i++) lane[i] = LLVMConstInt(g->i1, i < n, 0);
    if (n < whole) mask = LLVMConstVector(lane, whole);
    LLVMValueRef v = masked_load(g, LLVMVectorType(p->type, whole), from, size, mask);
    for (unsigned i = 0; i < lanes; i++) lane[i] = LLVMConstInt(g->i32, at[i], 0);
    return LLVMBuildShuffleVector(g->b, v, LLVMGetPoison(LLVMTypeOf(v)),
                                  LLVMConstVector(lane, lanes), "");
}

/* A place as a vector of memory and an element of it for each lane. */
typedef struct InBlock {
    Linear l;
    LLVMValueRef from;  /* the element that all lanes add, or NULL */
    int64_t at[MAX_PATTERN]; /* to this */
} InBlock;

/* Takes apart what reads elements of one vector of memory that lies at a multiple of its size;
 * false where that is not known. */
static bool find_block(LlvmGen *g, const KExpr *e, const Place *p, InBlock *b) {
    int64_t lanes = g->fn->lanes, n_elems, lo, hi;
    const BufBind *bind = llvm_buf(g, e->u.buf);
    if (p->type != g->f32 || lanes & (lanes - 1) || bind->per_lane || bind->align < 4 * lanes)
        return false;
    if (!constant_places(g, p, b->at) || !k_is_int(e->u.buf->n_elems, &n_elems) || n_elems % lanes)
        return false;
    b->l = (Linear){0};
    b->from = NULL;
    add_linear(g, &b->l, e->arg[0], 1, 0);
    evaluate_terms(g, &b->l);
    lo = hi = (int64_t)b->l.constant & (lanes - 1);
    b->l.constant -= (uint64_t)lo;
    for (int64_t i = 0; i < lanes; i++) b->at[i] += lo;
    for (int i = 0; i < b->l.n; i++) {
        Term *t = &b->l.term[i];
        int64_t coeff = (int64_t)t->coeff;
        if (llvm_lanes(t->v) || coeff % lanes == 0) continue;
        if (coeff < 0 || coeff > lanes || t->e->lo < 0 || t->e->hi >= lanes) return false;
        LLVMValueRef v = scaled(g, t->v, t->coeff);
        b->from = b->from ? LLVMBuildAdd(g->b, b->from, v, "") : v;
        hi += coeff * t->e->hi;
        t->coeff = 0;
    }
    for (int64_t i = 0; i < lanes; i++)
        if (b->at[i] < 0 || b->at[i] + hi - lo >= lanes) return false;
    return true;
}

/* Such a place as the whole vector and a permutation of it, whose indices need not be constant;
 * NULL where that cannot be. */
static LLVMValueRef load_in_block(LlvmGen *g, const KExpr *e, const Place *p) {
    unsigned lanes = (unsigned)g->fn->lanes;
    bool wide = lanes == 16 && g->cpu.avx512, half = lanes == 8 && g->cpu.avx2;
    LLVMValueRef at[MAX_PATTERN], ptr = p->base;
    InBlock b;
    if (!find_block(g, e, p, &b) || (b.from && !wide && !half)) return NULL;
    for (int i = 0; i < b.l.n; i++) {
        const Term *t = &b.l.term[i];
        if (t->coeff && !llvm_lanes(t->v))
            ptr = step_ptr(g, p->type, ptr, scaled(g, t->v, t->coeff));
    }
    ptr = step_ptr(g, p->type, ptr, LLVMConstInt(g->i64, b.l.constant, 0));
    LLVMValueRef v = plain_load(g, LLVMVectorType(p->type, lanes), ptr, 4 * lanes);
    for (unsigned i = 0; i < lanes; i++) at[i] = LLVMConstInt(g->i32, (uint64_t)b.at[i], 0);
    LLVMValueRef index = LLVMConstVector(at, lanes);
    if (!b.from) return LLVMBuildShuffleVector(g->b, v, LLVMGetPoison(LLVMTypeOf(v)), index, "");
    LLVMValueRef from = LLVMBuildTrunc(g->b, b.from, g->i32, "");
    LLVMValueRef args[] = {v, LLVMBuildAdd(g->b, llvm_splat(g, from, lanes), index, "")};
    return llvm_call(g, wide ? "llvm.x86.avx512.permvar.sf.512" : "llvm.x86.avx2.permps", NULL, 0,
                     args, 2);
}

/* Whether every lane, those that are masked off too, reads or writes inside a local buffer. Then
 * the access needs no mask, and must not have one: an accumulator that is touched through a mask
 * stays in memory instead of becoming a register. */
static bool is_whole_local(const KBuf *b, const KExpr *index) {
    int64_t n;
    return (b->mem == MEM_REG || b->mem == MEM_STACK) && k_is_int(b->n_elems, &n) &&
           index->lo >= 0 && index->hi < n;
}

/* Whether 16 lanes find what they read of a small local buffer by permutations of its vectors,
 * which take half of the time of a gather. Every index has to lie in it. */
static bool is_table(LlvmGen *g, const KExpr *e) {
    const KBuf *b = e->u.buf;
    int64_t n;
    return g->cpu.avx512 && g->fn->lanes == TABLE_LANES && e->n_args == 1 &&
           is_whole_local(b, e->arg[0]) && dtype_bytes(b->dtype) == 4 && !k_is_word(e) &&
           k_is_int(b->n_elems, &n) && n >= TABLE_LANES && n <= 4 * TABLE_LANES && !(n & (n - 1)) &&
           llvm_varies(g, e->arg[0]) && !llvm_buf(g, b)->per_lane;
}

/* The table's elements at `index` (i64 in each lane): a permutation of one or two vectors, or of
 * each half, of which the index then takes one. */
static LLVMValueRef load_table(LlvmGen *g, const KBuf *b, LLVMValueRef index) {
    LLVMTypeRef t = llvm_mem_type(g, b->dtype);
    LLVMTypeRef i32s = LLVMVectorType(g->i32, TABLE_LANES),
                f32s = LLVMVectorType(g->f32, TABLE_LANES);
    LLVMValueRef at = LLVMBuildTrunc(g->b, index, i32s, ""), part[4], half[2] = {NULL, NULL};
    int64_t n = 0;
    k_is_int(b->n_elems, &n);
    unsigned n_parts = (unsigned)n / TABLE_LANES, align = llvm_element_align(g, b->dtype);
    for (unsigned i = 0; i < n_parts; i++) {
        LLVMValueRef by = LLVMConstInt(g->i64, (uint64_t)i * TABLE_LANES, 0);
        part[i] = plain_load(g, f32s, step_ptr(g, t, llvm_buf(g, b)->base, by), align);
    }
    if (n_parts == 1) {
        LLVMValueRef args[] = {part[0], at};
        half[0] = llvm_call(g, "llvm.x86.avx512.permvar.sf.512", NULL, 0, args, 2);
    }
    for (unsigned i = 0; i + 1 < n_parts; i += 2) {
        LLVMValueRef args[] = {part[i], at, part[i + 1]};
        half[i / 2] = llvm_call(g, "llvm.x86.avx512.vpermi2var.ps.512", NULL, 0, args, 3);
    }
    if (n_parts == 4) {
        LLVMValueRef low = llvm_int(g, g->i32, TABLE_LANES, 2 * TABLE_LANES);
        LLVMValueRef is_low = LLVMBuildICmp(g->b, LLVMIntSLT, at, low, "");
        half[0] = LLVMBuildSelect(g->b, is_low, half[0], half[1], "");
    }
    return LLVMBuildBitCast(g->b, half[0], LLVMVectorType(t, TABLE_LANES), "");
}

/* Lane by lane: what a gather would be without the instruction. */
static LLVMValueRef load_each(LlvmGen *g, Place *p) {
    unsigned lanes = (unsigned)g->fn->lanes, size = lane_align(g, p);
    LLVMValueRef all = LLVMGetPoison(LLVMVectorType(p->type, lanes));
    for (unsigned i = 0; i < lanes; i++) {
        LLVMValueRef at = LLVMConstInt(g->i32, i, 0);
        LLVMValueRef by = p->varying ? LLVMBuildExtractElement(g->b, p->varying, at, "")
                                     : LLVMConstInt(g->i64, (uint64_t)p->lane * i, 0);
        LLVMValueRef v = plain_load(g, p->type, step_ptr(g, p->unit, p->ptr, by), size);
        all = LLVMBuildInsertElement(g->b, all, v, at, "");
    }
    return all;
}

static LLVMValueRef load_lanes(LlvmGen *g, Place *p, LLVMValueRef mask) {
    LLVMTypeRef t = LLVMVectorType(p->type, (unsigned)g->fn->lanes);
    unsigned size = lane_align(g, p);
    bool is_word = p->type != p->unit;
    if (!p->varying && p->lane == elements_of_place(g, p))
        return masked_load(g, t, p->ptr, p->align, mask);
    if (!p->varying && p->lane == -1 && !is_word) {
        int64_t back = 1 - (int64_t)g->fn->lanes;
        LLVMValueRef from = step_ptr(g, p->type, p->ptr, LLVMConstInt(g->i64, (uint64_t)back, 0));
        return reversed(g, masked_load(g, t, from, size, mask ? reversed(g, mask) : NULL));
    }
    LLVMValueRef near = mask ? NULL : load_rows(g, p);
    if (!near && !p->varying && p->lane > 1 && p->lane <= 4 && !is_word)
        near = llvm_load_strided(g, p->type, p->ptr, (unsigned)p->lane, size, mask);
    if (!mask && !near) near = load_pattern(g, p);
    int64_t off[MAX_PATTERN];
    if (!near && !is_word && constant_places(g, p, off))
        near = llvm_load_runs(g, p->type, p->ptr, off, size, mask);
    if (near) return near;
    if (!mask && (!g->cpu.gather || (size < 4 && !is_word))) return load_each(g, p);
    LLVMTypeRef types[] = {t, LLVMVectorType(g->ptr, (unsigned)g->fn->lanes)};
    LLVMValueRef all = llvm_int(g, g->i1, (unsigned)g->fn->lanes, 1);
    LLVMValueRef args[] = {lane_addresses(g, p), LLVMConstInt(g->i32, size, 0), mask ? mask : all,
                           LLVMConstNull(t)};
    return llvm_call(g, "llvm.masked.gather", types, 2, args, 4);
}

static LLVMValueRef and_masks(LlvmGen *g, LLVMValueRef a, LLVMValueRef b) {
    return a && b ? LLVMBuildAnd(g->b, a, b, "") : a ? a : b;
}

/* Memory's word as a number: its first element is the lowest. */
static LLVMValueRef little_endian(LlvmGen *g, LLVMValueRef v, int parts) {
    if (LLVMByteOrder(g->layout) == LLVMLittleEndian) return v;
    if (parts == 4) return llvm_overloaded(g, "llvm.bswap", v);
    LLVMTypeRef t = LLVMTypeOf(v);
    LLVMValueRef args[] = {v, v, llvm_int(g, g->i32, llvm_lanes(v), 16)};
    return llvm_call(g, "llvm.fshl", &t, 1, args, 3);
}

LLVMValueRef llvm_load(LlvmGen *g, const KExpr *e, int *depth) {
    if (is_table(g, e)) {
        LLVMValueRef index = llvm_expr_depth(g, e->arg[0], depth);
        *depth = g->fn->depth;
        if (!LLVMIsConstant(index)) return load_table(g, e->u.buf, index);
    }
    Place p = find_place(g, e->u.buf, e->arg[0]);
    if (k_is_word(e)) p.type = g->i32;
    LLVMValueRef pred = e->n_args > 1 ? llvm_expr(g, e->arg[1]) : NULL, mask = g->fn->mask, v;
    *depth = g->fn->depth;
    if (!k_is_word(e) && is_whole_local(e->u.buf, e->arg[0])) mask = NULL;
    if (pred && llvm_known_int(g, e->arg[1], &(int64_t){0}) && LLVMIsAConstantInt(pred))
        if (LLVMConstIntGetZExtValue(pred)) pred = NULL;
    bool by_lane = p.varying || p.lane;
    if (by_lane || (pred && llvm_lanes(pred))) {
        unsigned lanes = (unsigned)g->fn->lanes;
        if (pred) pred = llvm_splat(g, pred, lanes);
        mask = and_masks(g, mask, pred);
        if (!by_lane) { /* one element, seen by some lanes */
            LLVMValueRef any = llvm_overloaded(g, "llvm.vector.reduce.or", mask);
            LLVMValueRef one = llvm_splat(g, load_one(g, &p, any), lanes);
            v = LLVMBuildSelect(g->b, pred, one, LLVMConstNull(LLVMTypeOf(one)), "");
        } else {
            v = p.varying && !mask && !k_is_word(e) ? load_in_block(g, e, &p) : NULL;
            if (!v) v = load_lanes(g, &p, mask);
        }
    } else {
        if (mask) pred = and_masks(g, llvm_overloaded(g, "llvm.vector.reduce.or", mask), pred);
        v = load_one(g, &p, pred);
    }
    return k_is_word(e) ? little_endian(g, v, word_parts(e->u.buf->dtype))
                        : llvm_from_memory(g, e->u.buf->dtype, v);
}

/* ---- words of bytes that are apart ------------------------------------------------------------
 *
 *     i32(b[i]) | i32(b[i + 16]) << 8 | i32(b[i + 32]) << 16 | i32(b[i + 48]) << 24
 *
 * in 16 lanes is a load of 64 bytes, of which a permutation makes the words. */

typedef struct ByteWord {
    const KExpr *index[4]; /* of the bytes, lowest first; NULL: 0 */
    const KBuf *buf;
} ByteWord;

static bool take_byte(ByteWord *w, const KExpr *e) {
    int64_t by = 0;
    if (e->op == KO_or) return take_byte(w, e->arg[0]) && take_byte(w, e->arg[1]);
    if (e->op == KO_shl && e->arg[1]->op == KO_const_i) {
        by = e->arg[1]->u.i;
        e = e->arg[0];
    }
    if (e->op != KO_cast || e->arg[0]->op != KO_load || by % 8 || by < 0 || by > 24) return false;
    e = e->arg[0];
    if (e->dtype != DT_U8 || e->n_args != 1 || w->index[by / 8] || (w->buf && w->buf != e->u.buf))
        return false;
    w->buf = e->u.buf;
    w->index[by / 8] = e->arg[0];
    return true;
}

/* The bytes of each word of n, group by group: those of four lanes next to each other, then each
 * group's turned around. Two steps, since processors permute words across a vector and bytes within
 * 16 of them. */
static LLVMValueRef turn_bytes(LlvmGen *g, LLVMValueRef v, unsigned lanes) {
    LLVMValueRef at[4 * MAX_PATTERN];
    LLVMTypeRef words = LLVMVectorType(g->i32, lanes), bytes = LLVMVectorType(g->i8, 4 * lanes);
    for (unsigned i = 0; i < lanes; i++)
        at[i] = LLVMConstInt(g->i32, i % 4 * (lanes / 4) + i / 4, 0);
    v = LLVMBuildBitCast(g->b, v, words, "");
    v = LLVMBuildShuffleVector(g->b, v, LLVMGetPoison(words), LLVMConstVector(at, lanes), "");
    for (unsigned i = 0; i < 4 * lanes; i++)
        at[i] = LLVMConstInt(g->i32, i / 16 * 16 + i % 4 * 4 + i % 16 / 4, 0);
    v = LLVMBuildBitCast(g->b, v, bytes, "");
    v = LLVMBuildShuffleVector(g->b, v, LLVMGetPoison(bytes), LLVMConstVector(at, 4 * lanes), "");
    return LLVMBuildBitCast(g->b, v, words, "");
}

static LLVMValueRef join(LlvmGen *g, LLVMValueRef a, LLVMValueRef b) {
    LLVMValueRef at[4 * MAX_PATTERN];
    unsigned n = 2 * llvm_lanes(a);
    for (unsigned i = 0; i < n; i++) at[i] = LLVMConstInt(g->i32, i, 0);
    return LLVMBuildShuffleVector(g->b, a, b, LLVMConstVector(at, n), "");
}

LLVMValueRef llvm_byte_word(LlvmGen *g, const KExpr *e) {
    unsigned lanes = (unsigned)g->fn->lanes;
    int64_t step = 0, distance;
    ByteWord w = {{NULL}, NULL};
    if (lanes < 4 || lanes % 4 || lanes > MAX_PATTERN || (lanes & (lanes - 1)) || g->fn->mask ||
        LLVMByteOrder(g->layout) != LLVMLittleEndian || !take_byte(&w, e) || !w.index[0] ||
        !w.index[1])
        return NULL;
    for (int i = 1; i < 4; i++) {
        if (!w.index[i]) continue;
        if (!k_is_int(k_sub(g->m->k, w.index[i], w.index[0]), &distance)) return NULL;
        if (i == 1) step = distance;
        if (distance != i * step) return NULL;
    }
    Place p = find_place(g, w.buf, w.index[0]);
    if (p.varying || p.lane != 1) return NULL;
    LLVMTypeRef some = LLVMVectorType(g->i8, lanes);
    if (step == lanes && w.index[2] && w.index[3])
        return turn_bytes(g, plain_load(g, LLVMVectorType(g->i8, 4 * lanes), p.ptr, 1), lanes);
    LLVMValueRef part[4];
    for (int i = 0; i < 4; i++) {
        LLVMValueRef by = LLVMConstInt(g->i64, (uint64_t)(i * step), 0);
        part[i] = w.index[i] ? plain_load(g, some, step_ptr(g, g->i8, p.ptr, by), 1)
                             : LLVMConstNull(some);
    }
    return turn_bytes(g, join(g, join(g, part[0], part[1]), join(g, part[2], part[3])), lanes);
}

/* ---- stores ---------------------------------------------------------------------------------- */

static void plain_store(LlvmGen *g, LLVMValueRef v, LLVMValueRef ptr, unsigned align) {
    LLVMSetAlignment(LLVMBuildStore(g->b, v, ptr), align);
}

static void masked_store(LlvmGen *g, LLVMValueRef v, LLVMValueRef ptr, unsigned align,
                         LLVMValueRef mask) {
    if (!mask) {
        plain_store(g, v, ptr, align);
        return;
    }
    LLVMTypeRef types[] = {LLVMTypeOf(v), g->ptr};
    LLVMValueRef args[] = {v, ptr, LLVMConstInt(g->i32, align, 0), mask};
    llvm_call(g, "llvm.masked.store", types, 2, args, 4);
}

static void store_each(LlvmGen *g, Place *p, LLVMValueRef v) {
    unsigned lanes = (unsigned)g->fn->lanes, size = (unsigned)LLVMABISizeOfType(g->layout, p->type);
    for (unsigned i = 0; i < lanes; i++) {
        LLVMValueRef at = LLVMConstInt(g->i32, i, 0);
        LLVMValueRef by = p->varying ? LLVMBuildExtractElement(g->b, p->varying, at, "")
                                     : LLVMConstInt(g->i64, (uint64_t)p->lane * i, 0);
        plain_store(g, LLVMBuildExtractElement(g->b, v, at, ""), step_ptr(g, p->type, p->ptr, by),
                    size);
    }
}

static void store_lanes(LlvmGen *g, Place *p, LLVMValueRef v) {
    LLVMValueRef mask = g->fn->mask;
    unsigned size = (unsigned)LLVMABISizeOfType(g->layout, p->type);
    if (!p->varying && p->lane == 1) {
        masked_store(g, v, p->ptr, p->align, mask);
    } else if (!p->varying && p->lane == -1) {
        int64_t back = 1 - (int64_t)g->fn->lanes;
        LLVMValueRef from = step_ptr(g, p->type, p->ptr, LLVMConstInt(g->i64, (uint64_t)back, 0));
        masked_store(g, reversed(g, v), from, size, mask ? reversed(g, mask) : NULL);
    } else if (!mask) {
        store_each(g, p, v);
    } else {
        LLVMTypeRef types[] = {LLVMTypeOf(v), LLVMVectorType(g->ptr, (unsigned)g->fn->lanes)};
        LLVMValueRef args[] = {v, lane_addresses(g, p), LLVMConstInt(g->i32, size, 0), mask};
        llvm_call(g, "llvm.masked.scatter", types, 2, args, 4);
    }
}

/* Whether the mask only keeps the store inside the buffer, behind whose end memory belongs to it,
 * too: then all lanes store. What is stored through a mask cannot be loaded before it is in the
 * cache. */
static bool ends_in_padding(LlvmGen *g, const KBuf *b, const KExpr *index) {
    enum { PADDED_BYTES = 64 };
    const KExpr *cond = g->fn->mask_cond;
    int64_t n, bytes = dtype_bytes(b->dtype);
    if (!b->padded || !cond || cond->op != KO_lt || cond->arg[0] != index ||
        cond->arg[1] != b->n_elems)
        return false;
    if (!k_is_int(b->n_elems, &n) || index->lo < 0) return false;
    return (index->hi + 1) * bytes <= (n * bytes + PADDED_BYTES - 1) / PADDED_BYTES * PADDED_BYTES;
}

LLVMValueRef llvm_vector_place(LlvmGen *g, const KBuf *b, const KExpr *index) {
    Place p = find_place(g, b, index);
    return !p.varying && p.lane == 1 ? p.ptr : NULL;
}

void llvm_store(LlvmGen *g, const KBuf *b, const KExpr *index, const KExpr *value) {
    LLVMValueRef v = llvm_to_memory(g, b->dtype, llvm_expr(g, value));
    Place p = find_place(g, b, index);
    LLVMValueRef mask = g->fn->mask;
    if (mask && !p.varying && p.lane == 1 && is_whole_local(b, index)) {
        LLVMTypeRef t = LLVMVectorType(p.type, (unsigned)g->fn->lanes);
        LLVMValueRef old = plain_load(g, t, p.ptr, p.align);
        v = LLVMBuildSelect(g->b, mask, llvm_splat(g, v, (unsigned)g->fn->lanes), old, "");
        plain_store(g, v, p.ptr, p.align);
        return;
    }
    LLVMValueRef outer = mask;
    if (mask && !p.varying && p.lane == 1 && ends_in_padding(g, b, index)) g->fn->mask = NULL;
    /* Lanes that happen to meet in one element (a stride that unrolling made 0) store in order. */
    if (p.varying || p.lane || g->fn->mask || llvm_lanes(v))
        store_lanes(g, &p, llvm_splat(g, v, (unsigned)g->fn->lanes));
    else
        plain_store(g, v, p.ptr, p.align);
    g->fn->mask = outer;
}
