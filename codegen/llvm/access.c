/* Loads and stores: what lanes make of their places (place.h).
 *
 * Lanes in steps of 1 (and nothing else that differs by lane) are one vector in memory, of -1 a
 * reversed one, of 0 a broadcast, of 2 to 4 a part of as many vectors; constant places within a
 * vector's length, or in a few vectors of a local buffer, are loads and permutations, places in one
 * aligned vector that vector and an index for each lane, those that are a few stretches a load
 * each, any places in a small local buffer are one of its vectors; the rest are gathers and
 * scatters. */
#include <stdlib.h>

#include "codegen/llvm/place.h"

enum { TABLE_LANES = 16 };

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
    /* a vector's own, so that no load of it touches what else was just stored on the stack */
    unsigned bytes = g->target->vector_bytes > 16 ? (unsigned)g->target->vector_bytes : 16;
    if (!g->fn->dummy) g->fn->dummy = llvm_alloca(g, g->i8, bytes, bytes, "nowhere");
    return g->fn->dummy;
}

LLVMValueRef llvm_where_any(LlvmGen *g, LLVMValueRef ptr, LLVMValueRef mask) {
    LLVMValueRef any = llvm_overloaded(g, "llvm.vector.reduce.or", mask);
    return LLVMBuildSelect(g->b, any, ptr, llvm_nowhere(g), "");
}

/* May e, where its predicate is false, be at places that are pages away from its buffer? */
static bool may_stray(const KExpr *e) {
    enum { PAGE = 4096 };
    const KExpr *n = e->u.buf->n_elems;
    int64_t page = PAGE / dtype_bytes(e->u.buf->dtype);
    return e->n_args > 1 && n && (e->arg[0]->lo < -page || e->arg[0]->hi - page > n->hi);
}

LLVMValueRef llvm_address(LlvmGen *g, const KExpr *e, int *depth) {
    *depth = g->fn->depth;
    return llvm_find_place(g, e->u.buf, e->arg[0]).ptr;
}

void llvm_prefetch(LlvmGen *g, const KExpr *e) {
    enum { READ = 0, SECOND_LEVEL = 2, DATA = 1 };
    Place p = llvm_find_place(g, e->u.buf, e->arg[0]);
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
    return (int64_t)(LLVMABISizeOfType(g->layout, p->type) / LLVMABISizeOfType(g->layout, p->unit));
}

/* Lanes at constant places near each other, first .. first + n - 1 in elements of p->type; at:
 * which of these each lane takes. 0 when they are elsewhere. */
static unsigned find_pattern(LlvmGen *g, const Place *p, int64_t *first, unsigned *at) {
    unsigned lanes = (unsigned)g->fn->lanes;
    int64_t unit = elements_of_place(g, p), off[MAX_PATTERN], last = 0;
    if (!llvm_constant_places(g, p, off)) return 0;
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
    LLVMValueRef from = llvm_step_ptr(g, p->unit, p->ptr, LLVMConstInt(g->i64, (uint64_t)first, 0));
    if (n == 1) return llvm_splat(g, plain_load(g, p->type, from, size), lanes);
    LLVMValueRef lane[MAX_PATTERN], mask = NULL;
    for (unsigned i = 0; i < whole; i++) lane[i] = LLVMConstInt(g->i1, i < n, 0);
    if (n < whole) mask = LLVMConstVector(lane, whole);
    LLVMValueRef v = masked_load(g, LLVMVectorType(p->type, whole), from, size, mask);
    for (unsigned i = 0; i < lanes; i++) lane[i] = LLVMConstInt(g->i32, at[i], 0);
    return LLVMBuildShuffleVector(g->b, v, LLVMGetPoison(LLVMTypeOf(v)),
                                  LLVMConstVector(lane, lanes), "");
}

/* Such a place as the whole vector and a permutation of it, whose indices need not be constant;
 * NULL where that cannot be. */
static LLVMValueRef load_in_block(LlvmGen *g, const KExpr *e, const Place *p) {
    unsigned lanes = (unsigned)g->fn->lanes;
    bool wide = lanes == 16 && g->cpu.avx512, half = lanes == 8 && g->cpu.avx2;
    LLVMValueRef at[MAX_PATTERN];
    InBlock b;
    if (!llvm_find_block(g, e, p, &b) || (b.from && !wide && !half)) return NULL;
    LLVMValueRef v = plain_load(g, LLVMVectorType(p->type, lanes), b.ptr, 4 * lanes);
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
        part[i] = plain_load(g, f32s, llvm_step_ptr(g, t, llvm_buf(g, b)->base, by), align);
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

/* Indices of lanes that are extended from i32, two and two in an i64, which leaves the vector's
 * registers as fast as one of them; NULL where they are none. */
static LLVMValueRef index_pairs(LlvmGen *g, LLVMValueRef index) {
    if (!index || (!LLVMIsASExtInst(index) && !LLVMIsAZExtInst(index))) return NULL;
    LLVMValueRef narrow = LLVMGetOperand(index, 0);
    unsigned lanes = llvm_lanes(narrow);
    bool is_little = LLVMByteOrder(g->layout) == LLVMLittleEndian;
    if (LLVMGetElementType(LLVMTypeOf(narrow)) != g->i32 || lanes % 2 || !is_little) return NULL;
    return LLVMBuildBitCast(g->b, narrow, LLVMVectorType(g->i64, lanes / 2), "");
}

static LLVMValueRef index_of_lane(LlvmGen *g, const Place *p, LLVMValueRef pairs, unsigned lane) {
    LLVMValueRef half = LLVMConstInt(g->i64, 32, 0);
    if (!p->varying) return LLVMConstInt(g->i64, (uint64_t)p->lane * lane, 0);
    if (!pairs) return LLVMBuildExtractElement(g->b, p->varying, LLVMConstInt(g->i32, lane, 0), "");
    LLVMValueRef v = LLVMBuildExtractElement(g->b, pairs, LLVMConstInt(g->i32, lane / 2, 0), "");
    if (LLVMIsASExtInst(p->varying)) {
        if (lane % 2 == 0) v = LLVMBuildShl(g->b, v, half, "");
        return LLVMBuildAShr(g->b, v, half, "");
    }
    if (lane % 2) return LLVMBuildLShr(g->b, v, half, "");
    return LLVMBuildAnd(g->b, v, LLVMConstInt(g->i64, UINT32_MAX, 0), "");
}

/* Lane by lane: what a gather would be without the instruction. */
static LLVMValueRef load_each(LlvmGen *g, Place *p) {
    unsigned lanes = (unsigned)g->fn->lanes, size = lane_align(g, p);
    LLVMValueRef all = LLVMGetPoison(LLVMVectorType(p->type, lanes));
    LLVMValueRef pairs = index_pairs(g, p->varying);
    for (unsigned i = 0; i < lanes; i++) {
        LLVMValueRef by = index_of_lane(g, p, pairs, i);
        LLVMValueRef v = plain_load(g, p->type, llvm_step_ptr(g, p->unit, p->ptr, by), size);
        all = LLVMBuildInsertElement(g->b, all, v, LLVMConstInt(g->i32, i, 0), "");
    }
    return all;
}

/* Whether lanes anywhere are loaded by one instruction, in less time than one by one. */
static bool is_gathered(const LlvmGen *g, const Place *p) {
    unsigned bytes = (unsigned)LLVMABISizeOfType(g->layout, p->type);
    return g->cpu.gather && bytes >= 4 && bytes <= (unsigned)g->target->gather_bytes;
}

/* The same under a mask: lanes that are cut off load the buffer's first element, and are zero. */
static LLVMValueRef load_each_masked(LlvmGen *g, const Place *p, LLVMValueRef mask) {
    LLVMTypeRef i32s = LLVMVectorType(g->i32, llvm_lanes(p->varying));
    LLVMValueRef same = llvm_splat(g, LLVMBuildTrunc(g->b, p->same, g->i32, ""), llvm_lanes(mask));
    LLVMValueRef at = LLVMBuildAdd(g->b, LLVMBuildTrunc(g->b, p->varying, i32s, ""), same, "");
    at = LLVMBuildSelect(g->b, mask, at, LLVMConstNull(i32s), "");
    Place from = *p;
    from.ptr = p->base;
    from.varying = LLVMBuildZExt(g->b, at, LLVMTypeOf(p->varying), "");
    LLVMValueRef v = load_each(g, &from);
    return LLVMBuildSelect(g->b, mask, v, LLVMConstNull(LLVMTypeOf(v)), "");
}

/* Does the vector lie across two of those that a local buffer consists of? A load of it would keep
 * the buffer in memory. */
static bool is_aside(const LlvmGen *g, const Place *p) {
    int64_t lanes = g->fn->lanes;
    return p->local && !p->varying && p->lane == 1 && !(lanes & (lanes - 1)) && p->constant % lanes;
}

static LLVMValueRef load_lanes(LlvmGen *g, Place *p, LLVMValueRef mask) {
    LLVMTypeRef t = LLVMVectorType(p->type, (unsigned)g->fn->lanes);
    unsigned size = lane_align(g, p);
    bool is_word = p->type != p->unit;
    LLVMValueRef near = mask || !is_aside(g, p) ? NULL : load_rows(g, p);
    if (near) return near;
    if (!p->varying && p->lane == elements_of_place(g, p)) {
        LLVMValueRef ptr = mask && p->strays ? llvm_where_any(g, p->ptr, mask) : p->ptr;
        return masked_load(g, t, ptr, p->align, mask);
    }
    if (!p->varying && p->lane == -1 && !is_word) {
        int64_t back = 1 - (int64_t)g->fn->lanes;
        LLVMValueRef by = LLVMConstInt(g->i64, (uint64_t)back, 0);
        LLVMValueRef from = llvm_step_ptr(g, p->type, p->ptr, by);
        return reversed(g, masked_load(g, t, from, size, mask ? reversed(g, mask) : NULL));
    }
    near = mask ? NULL : load_rows(g, p);
    if (!near && !p->varying && p->lane > 1 && p->lane <= 4 && !is_word)
        near = llvm_load_strided(g, p->type, p->ptr, (unsigned)p->lane, size, mask);
    if (!mask && !near) near = load_pattern(g, p);
    int64_t off[MAX_PATTERN];
    if (!near && !is_word && llvm_constant_places(g, p, off))
        near = llvm_load_runs(g, p->type, p->ptr, off, size, mask, p->strays);
    if (near) return near;
    if (!mask && !is_gathered(g, p)) return load_each(g, p);
    if (mask && p->same && !is_gathered(g, p)) return load_each_masked(g, p, mask);
    LLVMTypeRef types[] = {t, LLVMVectorType(g->ptr, (unsigned)g->fn->lanes)};
    LLVMValueRef all = llvm_int(g, g->i1, (unsigned)g->fn->lanes, 1);
    LLVMValueRef args[] = {llvm_lane_addresses(g, p), LLVMConstInt(g->i32, size, 0),
                           mask ? mask : all, LLVMConstNull(t)};
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
    Place p = llvm_find_place(g, e->u.buf, e->arg[0]);
    if (k_is_word(e)) p.type = g->i32;
    p.strays = may_stray(e);
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
    Place p = llvm_find_place(g, w.buf, w.index[0]);
    if (p.varying || p.lane != 1) return NULL;
    LLVMTypeRef some = LLVMVectorType(g->i8, lanes);
    if (step == lanes && w.index[2] && w.index[3])
        return turn_bytes(g, plain_load(g, LLVMVectorType(g->i8, 4 * lanes), p.ptr, 1), lanes);
    LLVMValueRef part[4];
    for (int i = 0; i < 4; i++) {
        LLVMValueRef by = LLVMConstInt(g->i64, (uint64_t)(i * step), 0);
        part[i] = w.index[i] ? plain_load(g, some, llvm_step_ptr(g, g->i8, p.ptr, by), 1)
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
        plain_store(g, LLVMBuildExtractElement(g->b, v, at, ""),
                    llvm_step_ptr(g, p->type, p->ptr, by), size);
    }
}

static void store_lanes(LlvmGen *g, Place *p, LLVMValueRef v) {
    LLVMValueRef mask = g->fn->mask;
    unsigned size = (unsigned)LLVMABISizeOfType(g->layout, p->type);
    if (!p->varying && p->lane == 1) {
        masked_store(g, v, p->ptr, p->align, mask);
    } else if (!p->varying && p->lane == -1) {
        int64_t back = 1 - (int64_t)g->fn->lanes;
        LLVMValueRef by = LLVMConstInt(g->i64, (uint64_t)back, 0);
        LLVMValueRef from = llvm_step_ptr(g, p->type, p->ptr, by);
        masked_store(g, reversed(g, v), from, size, mask ? reversed(g, mask) : NULL);
    } else if (!mask) {
        store_each(g, p, v);
    } else {
        LLVMTypeRef types[] = {LLVMTypeOf(v), LLVMVectorType(g->ptr, (unsigned)g->fn->lanes)};
        LLVMValueRef args[] = {v, llvm_lane_addresses(g, p), LLVMConstInt(g->i32, size, 0), mask};
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
    Place p = llvm_find_place(g, b, index);
    return !p.varying && p.lane == 1 ? p.ptr : NULL;
}

void llvm_store(LlvmGen *g, const KBuf *b, const KExpr *index, const KExpr *value) {
    LLVMValueRef v = llvm_to_memory(g, b->dtype, llvm_expr(g, value));
    Place p = llvm_find_place(g, b, index);
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
