/* Vectors whose lanes lie in a few others: whole loads and two-operand permutations instead of a
 * load for each lane.
 *
 *   rows      a local buffer is read at constant places: the vectors of it that hold them
 *   strides   memory is read in steps of 2 to 4 elements: as many vectors, of which the last one
 *             ends with the last lane's element, so that nothing outside is read; where lanes are
 *             masked off, each vector is read under a mask of the lanes that take of it
 *   runs      the lanes are a few stretches of memory, as where they take parts of two blocks of
 *             channels: a load for each, under a mask where the machine has them */
#include <stdlib.h>

#include "codegen/llvm/llvm_gen.h"

enum { MAX_SOURCES = 4, MAX_PERMUTED = 64, MAX_RUNS = 4, LEAST_RUN = 4 };

/* What each lane takes: element `place` of vector `source`. */
typedef struct Pick {
    LLVMValueRef source[MAX_SOURCES];
    unsigned n_sources;
    unsigned from[MAX_PERMUTED], place[MAX_PERMUTED];
} Pick;

/* Lane by lane from the sources: each permutation adds one of them to what is there. More than two
 * sources have as many elements as there are lanes. */
static LLVMValueRef permuted(LlvmGen *g, const Pick *p, unsigned lanes) {
    LLVMValueRef at[MAX_PERMUTED], all = p->source[0];
    LLVMTypeRef t = LLVMTypeOf(all);
    unsigned width = LLVMGetVectorSize(t);
    for (unsigned s = p->n_sources == 1 ? 0 : 1; s < p->n_sources; s++) {
        for (unsigned i = 0; i < lanes; i++) {
            unsigned place = p->from[i] == s && s ? width + p->place[i] : s <= 1 ? p->place[i] : i;
            at[i] = p->from[i] > s ? LLVMGetPoison(g->i32) : LLVMConstInt(g->i32, place, 0);
        }
        LLVMValueRef other = s ? p->source[s] : LLVMGetPoison(t);
        all = LLVMBuildShuffleVector(g->b, all, other, LLVMConstVector(at, lanes), "");
    }
    return all;
}

static LLVMValueRef load_whole(LlvmGen *g, LLVMTypeRef t, LLVMTypeRef element, LLVMValueRef base,
                               uint64_t at, unsigned align) {
    LLVMValueRef by = LLVMConstInt(g->i64, at, 0);
    LLVMValueRef v = LLVMBuildLoad2(g->b, t, LLVMBuildGEP2(g->b, element, base, &by, 1, ""), "");
    LLVMSetAlignment(v, align);
    return v;
}

LLVMValueRef llvm_load_rows(LlvmGen *g, LLVMTypeRef element, LLVMValueRef base,
                            const int64_t *place, int64_t n_elems, unsigned align) {
    unsigned lanes = (unsigned)g->fn->lanes;
    int64_t row[MAX_SOURCES];
    Pick p = {.n_sources = 0};
    if (lanes > MAX_PERMUTED) return NULL;
    for (unsigned i = 0; i < lanes; i++) {
        int64_t r = place[i] / lanes;
        unsigned s = 0;
        if (place[i] < 0 || (r + 1) * lanes > n_elems) return NULL;
        while (s < p.n_sources && row[s] != r) s++;
        if (s == MAX_SOURCES) return NULL;
        if (s == p.n_sources) row[p.n_sources++] = r;
        p.from[i] = s;
        p.place[i] = (unsigned)(place[i] % lanes);
    }
    LLVMTypeRef t = LLVMVectorType(element, lanes);
    for (unsigned s = 0; s < p.n_sources; s++)
        p.source[s] = load_whole(g, t, element, base, (uint64_t)(row[s] * lanes), align);
    return permuted(g, &p, lanes);
}

static bool has_masks(const LlvmGen *g, unsigned align) {
    return g->cpu.avx512bw || (g->cpu.avx2 && align >= 4);
}

/* Source s of p, of `width` elements from ptr + first on, of which only those are read that lanes
 * with a set mask take. */
static LLVMValueRef load_taken(LlvmGen *g, const Pick *p, unsigned s, LLVMTypeRef t,
                               LLVMValueRef ptr, unsigned align, LLVMValueRef mask) {
    unsigned lanes = (unsigned)g->fn->lanes;
    LLVMValueRef lane[MAX_PERMUTED];
    for (unsigned i = 0; i < LLVMGetVectorSize(t); i++) lane[i] = LLVMConstInt(g->i32, lanes, 0);
    for (unsigned i = 0; i < lanes; i++)
        if (p->from[i] == s) lane[p->place[i]] = LLVMConstInt(g->i32, i, 0);
    LLVMValueRef none = LLVMConstNull(LLVMTypeOf(mask)),
                 order = LLVMConstVector(lane, LLVMGetVectorSize(t));
    LLVMTypeRef types[] = {t, g->ptr};
    LLVMValueRef args[] = {ptr, LLVMConstInt(g->i32, align, 0),
                           LLVMBuildShuffleVector(g->b, mask, none, order, ""), LLVMConstNull(t)};
    return llvm_call(g, "llvm.masked.load", types, 2, args, 4);
}

LLVMValueRef llvm_load_strided(LlvmGen *g, LLVMTypeRef element, LLVMValueRef ptr, unsigned step,
                               unsigned align, LLVMValueRef mask) {
    unsigned lanes = (unsigned)g->fn->lanes, end = (lanes - 1) * step + 1, width = 1;
    Pick p = {.n_sources = step};
    if (step > MAX_SOURCES || step < 2 || lanes > MAX_PERMUTED) return NULL;
    while (width < lanes) width *= 2; /* whole vectors, where the lanes are none */
    if (step > 2) width = lanes;
    if (width > MAX_PERMUTED || (mask && !has_masks(g, align))) return NULL;
    LLVMTypeRef t = LLVMVectorType(element, width);
    for (unsigned s = 0; s < step; s++) {
        unsigned first = s + 1 < step ? s * width : end - width;
        for (unsigned i = 0; i < lanes; i++) {
            if (i * step < s * width || i * step >= end) continue;
            p.from[i] = s;
            p.place[i] = i * step - first;
        }
    }
    for (unsigned s = 0; s < step; s++) {
        unsigned first = s + 1 < step ? s * width : end - width;
        LLVMValueRef by = LLVMConstInt(g->i64, first, 0);
        LLVMValueRef from = LLVMBuildGEP2(g->b, element, ptr, &by, 1, "");
        p.source[s] = mask ? load_taken(g, &p, s, t, from, align, mask)
                           : load_whole(g, t, element, ptr, first, align);
    }
    return permuted(g, &p, lanes);
}

/* The stretches that the places are, one lane after the other: first[r] is the lane in which
 * stretch r begins, first[n] the number of lanes. 0 where there are many. */
static unsigned find_runs(const int64_t *place, unsigned lanes, unsigned *first) {
    unsigned n = 0;
    for (unsigned i = 0; i < lanes; i++) {
        if (i && place[i] == place[i - 1] + 1) continue;
        if (n == MAX_RUNS || (n + 1) * LEAST_RUN > lanes) return 0;
        first[n++] = i;
    }
    first[n] = lanes;
    return n;
}

/* Lanes from .. to - 1 of `all` replaced by what lies at ptr. */
static LLVMValueRef insert_run(LlvmGen *g, LLVMValueRef all, LLVMValueRef ptr, unsigned align,
                               unsigned from, unsigned to) {
    unsigned lanes = (unsigned)g->fn->lanes;
    LLVMValueRef wide[MAX_PERMUTED], put[MAX_PERMUTED];
    LLVMTypeRef t = LLVMVectorType(LLVMGetElementType(LLVMTypeOf(all)), to - from);
    LLVMValueRef v = LLVMBuildLoad2(g->b, t, ptr, "");
    LLVMSetAlignment(v, align);
    for (unsigned i = 0; i < lanes; i++) {
        bool is_in = i >= from && i < to;
        wide[i] = is_in ? LLVMConstInt(g->i32, i - from, 0) : LLVMGetPoison(g->i32);
        put[i] = LLVMConstInt(g->i32, is_in ? lanes + i : i, 0);
    }
    v = LLVMBuildShuffleVector(g->b, v, LLVMGetPoison(t), LLVMConstVector(wide, lanes), "");
    return LLVMBuildShuffleVector(g->b, all, v, LLVMConstVector(put, lanes), "");
}

/* The same under a mask; ptr is where lane 0 would be. */
static LLVMValueRef load_into_lanes(LlvmGen *g, LLVMValueRef all, LLVMValueRef ptr, unsigned align,
                                    unsigned from, unsigned to, LLVMValueRef mask, bool strays) {
    unsigned lanes = (unsigned)g->fn->lanes;
    LLVMValueRef lane[MAX_PERMUTED];
    for (unsigned i = 0; i < lanes; i++) lane[i] = LLVMConstInt(g->i1, i >= from && i < to, 0);
    LLVMValueRef run = LLVMConstVector(lane, lanes);
    if (mask) run = LLVMBuildAnd(g->b, mask, run, "");
    if (mask && strays) ptr = llvm_where_any(g, ptr, run);
    LLVMTypeRef types[] = {LLVMTypeOf(all), g->ptr};
    LLVMValueRef args[] = {ptr, LLVMConstInt(g->i32, align, 0), run, all};
    return llvm_call(g, "llvm.masked.load", types, 2, args, 4);
}

LLVMValueRef llvm_load_runs(LlvmGen *g, LLVMTypeRef element, LLVMValueRef ptr, const int64_t *place,
                            unsigned align, LLVMValueRef mask, bool strays) {
    unsigned first[MAX_RUNS + 1], lanes = (unsigned)g->fn->lanes;
    if (lanes > MAX_PERMUTED) return NULL;
    unsigned n = find_runs(place, lanes, first);
    bool masks = has_masks(g, align);
    if (!n || (mask && !masks)) return NULL;
    LLVMValueRef all = LLVMConstNull(LLVMVectorType(element, lanes));
    for (unsigned r = 0; r < n; r++) {
        unsigned from = first[r], to = first[r + 1];
        int64_t at = place[from] - (masks ? (int64_t)from : 0);
        LLVMValueRef by = LLVMConstInt(g->i64, (uint64_t)at, 0);
        LLVMValueRef run = LLVMBuildGEP2(g->b, element, ptr, &by, 1, "");
        all = masks ? load_into_lanes(g, all, run, align, from, to, mask, strays)
                    : insert_run(g, all, run, align, from, to);
    }
    return all;
}
