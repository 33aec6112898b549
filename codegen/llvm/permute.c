/* Vectors whose lanes lie in a few others: whole loads and two-operand permutations instead of a
 * load for each lane.
 *
 *   rows      a local buffer is read at constant places: the vectors of it that hold them
 *   strides   memory is read in steps of 2 to 4 elements: as many vectors, of which the last one
 *             ends with the last lane's element, so that nothing outside is read */
#include <stdlib.h>

#include "codegen/llvm/llvm_gen.h"

enum { MAX_SOURCES = 4, MAX_PERMUTED = 64 };

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

LLVMValueRef llvm_load_strided(LlvmGen *g, LLVMTypeRef element, LLVMValueRef ptr, unsigned step,
                               unsigned align) {
    unsigned lanes = (unsigned)g->fn->lanes, end = (lanes - 1) * step + 1, width = 1;
    Pick p = {.n_sources = step};
    if (step > MAX_SOURCES || step < 2 || lanes > MAX_PERMUTED) return NULL;
    while (width < lanes) width *= 2; /* whole vectors, where the lanes are none */
    if (step > 2) width = lanes;
    LLVMTypeRef t = LLVMVectorType(element, width);
    for (unsigned s = 0; s < step; s++) {
        unsigned first = s + 1 < step ? s * width : end - width;
        p.source[s] = load_whole(g, t, element, ptr, first, align);
        for (unsigned i = 0; i < lanes; i++) {
            if (i * step < s * width || i * step >= end) continue;
            p.from[i] = s;
            p.place[i] = i * step - first;
        }
    }
    return permuted(g, &p, lanes);
}
