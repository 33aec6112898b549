/* Where loads and stores lie: addresses as sums.
 *
 * An index is taken apart into constant + lane coefficient * lane + terms. Terms are added to the
 * base from the outermost loop inwards and the constant last, so that what a loop does not change
 * can leave it and neighbours differ by a displacement only. */
#include "codegen/llvm/place.h"

enum { MAX_TERMS = 24 };

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

/* The largest power of two that divides an offset in bytes, at most 64. */
static unsigned low_bit(uint64_t bytes) {
    uint64_t bit = bytes & (0 - bytes);
    return bit > 64 || !bit ? 64 : (unsigned)bit;
}

static LLVMValueRef scaled(LlvmGen *g, LLVMValueRef v, uint64_t coeff) {
    if (coeff == 1) return v;
    return LLVMBuildMul(g->b, v, llvm_int(g, g->i64, llvm_lanes(v), (int64_t)coeff), "");
}

LLVMValueRef llvm_step_ptr(LlvmGen *g, LLVMTypeRef t, LLVMValueRef ptr, LLVMValueRef by) {
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
    if (!lanes || (is_near && !p->varying) || !g->cpu.gather) return;
    /* a constant of a folded kernel may not say how long it is */
    if (!b->n_elems || b->n_elems->hi > INT32_MAX) return;
    LLVMValueRef by = scaled(g, llvm_iota(g, lanes), (uint64_t)p->lane);
    LLVMValueRef same = LLVMConstInt(g->i64, l->constant, 0);
    for (int i = 0; i < l->n; i++)
        if (!llvm_lanes(l->term[i].v))
            same = LLVMBuildAdd(g->b, same, scaled(g, l->term[i].v, l->term[i].coeff), "");
    if (p->varying) {
        p->same = b->n_elems->lo > 0 ? same : NULL;
        return;
    }
    p->index = LLVMBuildAdd(g->b, llvm_splat(g, narrowed(g, same), lanes), narrowed(g, by), "");
}

Place llvm_find_place(LlvmGen *g, const KBuf *b, const KExpr *index) {
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
        if (sum) p.ptr = llvm_step_ptr(g, p.type, p.ptr, sum);
        p.depth = depth;
    }
    bool is_local = b->mem == MEM_REG || b->mem == MEM_STACK;
    if (is_local && p.ptr == bind.base && !bind.per_lane && k_is_int(b->n_elems, &p.n_local)) {
        p.local = bind.base;
        p.constant = (int64_t)l.constant;
    }
    if (l.constant) p.ptr = llvm_step_ptr(g, p.type, p.ptr, LLVMConstInt(g->i64, l.constant, 0));
    if (b->dtype == DT_STR && p.align > llvm_element_align(g, DT_STR))
        p.align = llvm_element_align(g, DT_STR);
    if (p.align < 1) p.align = 1;
    if (p.varying && p.lane)
        p.varying =
            LLVMBuildAdd(g->b, p.varying, scaled(g, llvm_iota(g, (unsigned)fn->lanes), l.lane), "");
    if (!bind.per_lane) narrow_index(g, b, &l, &p);
    return p;
}

LLVMValueRef llvm_lane_addresses(LlvmGen *g, const Place *p) {
    unsigned lanes = (unsigned)g->fn->lanes;
    if (p->index) return llvm_step_ptr(g, p->unit, p->base, p->index);
    LLVMValueRef by = p->varying ? p->varying : scaled(g, llvm_iota(g, lanes), (uint64_t)p->lane);
    return llvm_step_ptr(g, p->unit, p->ptr, by);
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
    LLVMValueRef n =
        rises ? LLVMBuildSub(g->b, equal, first, "") : LLVMBuildAdd(g->b, first, equal, "");
    LLVMValueRef low[] = {n, LLVMConstInt(g->i64, 0, 0)};
    LLVMValueRef high[] = {llvm_call(g, "llvm.smax", &g->i64, 1, low, 2),
                           LLVMConstInt(g->i64, lanes, 0)};
    n = llvm_call(g, "llvm.smin", &g->i64, 1, high, 2);
    LLVMTypeRef t = lanes > 32 ? g->i8 : lanes > 16 ? g->i16 : g->i32;
    LLVMValueRef number = LLVMBuildTrunc(g->b, llvm_iota(g, lanes), llvm_widen(t, lanes), "");
    n = llvm_splat(g, LLVMBuildTrunc(g->b, n, t, ""), lanes);
    return LLVMBuildICmp(g->b, rises ? LLVMIntUGE : LLVMIntULT, number, n, "");
}

bool llvm_constant_places(LlvmGen *g, const Place *p, int64_t *off) {
    unsigned lanes = (unsigned)g->fn->lanes;
    if (!p->varying || !LLVMIsConstant(p->varying) || lanes > MAX_PATTERN) return false;
    for (unsigned i = 0; i < lanes; i++) {
        LLVMValueRef e = LLVMGetAggregateElement(p->varying, i);
        if (!e || !LLVMIsAConstantInt(e)) return false;
        off[i] = LLVMConstIntGetSExtValue(e);
    }
    return true;
}

bool llvm_find_block(LlvmGen *g, const KExpr *e, const Place *p, InBlock *b) {
    int64_t lanes = g->fn->lanes, n_elems, lo, hi;
    Linear l = {0};
    const BufBind *bind = llvm_buf(g, e->u.buf);
    if (p->type != g->f32 || lanes & (lanes - 1) || bind->per_lane || bind->align < 4 * lanes)
        return false;
    if (!llvm_constant_places(g, p, b->at) || !k_is_int(e->u.buf->n_elems, &n_elems) ||
        n_elems % lanes)
        return false;
    b->from = NULL;
    add_linear(g, &l, e->arg[0], 1, 0);
    evaluate_terms(g, &l);
    lo = hi = (int64_t)l.constant & (lanes - 1);
    l.constant -= (uint64_t)lo;
    for (int64_t i = 0; i < lanes; i++) b->at[i] += lo;
    for (int i = 0; i < l.n; i++) {
        Term *t = &l.term[i];
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
    b->ptr = p->base;
    for (int i = 0; i < l.n; i++) {
        const Term *t = &l.term[i];
        if (t->coeff && !llvm_lanes(t->v))
            b->ptr = llvm_step_ptr(g, p->type, b->ptr, scaled(g, t->v, t->coeff));
    }
    b->ptr = llvm_step_ptr(g, p->type, b->ptr, LLVMConstInt(g->i64, l.constant, 0));
    return true;
}
