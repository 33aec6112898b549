/* The caller's memory: inputs, outputs, arena and weights are checked before anything is read, and
 * bound to the buffers of the entry. */
#include "codegen/llvm/entry.h"

static LLVMValueRef io_bytes(LlvmGen *g, const KIo *io) {
    LLVMValueRef n = LLVMConstInt(g->i64, api_element_bytes(io->dtype, g->target), 0);
    for (int d = 0; d < io->rank; d++) {
        /* Dims found while running count with their bound, as symbols_for reports it. */
        const KExpr *dim = k_max(g->m->k, k_upper_bound(g->m->k, io->dims[d]), k_int(g->m->k, 0));
        n = LLVMBuildMul(g->b, n, llvm_expr(g, dim), "");
    }
    return n;
}

/* Fills ranges[i] = {address, address + bytes}; refuses NULL where there are elements. */
static void note_range(LlvmGen *g, LLVMValueRef ranges, uint32_t i, LLVMValueRef p,
                       LLVMValueRef bytes) {
    LLVMValueRef zero = LLVMConstInt(g->i64, 0, 0);
    LLVMValueRef some = LLVMBuildICmp(g->b, LLVMIntNE, bytes, zero, "");
    llvm_refuse_if(g, LLVMBuildAnd(g->b, is_null(g, p), some, ""), STATUS_BAD_POINTER);
    LLVMValueRef from = LLVMBuildPtrToInt(g->b, p, g->i64, "");
    LLVMBuildStore(g->b, from, element(g, g->i64, ranges, 2 * i));
    LLVMBuildStore(g->b, LLVMBuildAdd(g->b, from, bytes, ""),
                   element(g, g->i64, ranges, 2 * i + 1));
}

/* Refuses when one of ranges 0 .. n_out-1 meets a later one. Two nested loops at run time. */
static void refuse_overlap(LlvmGen *g, LLVMValueRef ranges, uint32_t n_out, uint32_t n_all) {
    LLVMValueRef one = LLVMConstInt(g->i64, 1, 0), two = LLVMConstInt(g->i64, 2, 0);
    LLVMBasicBlockRef before = LLVMGetInsertBlock(g->b), outer = llvm_new_block(g, "outer");
    LLVMBasicBlockRef inner = llvm_new_block(g, "inner"), next = llvm_new_block(g, "next");
    LLVMBasicBlockRef more = llvm_new_block(g, "more"), last = llvm_new_block(g, "last");
    LLVMBasicBlockRef done = llvm_new_block(g, "disjoint"), bad = llvm_new_block(g, "overlap");
    LLVMBuildBr(g->b, outer);
    LLVMPositionBuilderAtEnd(g->b, outer);
    LLVMValueRef i = LLVMBuildPhi(g->b, g->i64, "i"), i2 = LLVMBuildMul(g->b, i, two, ""), at;
    LLVMValueRef first =
        LLVMBuildLoad2(g->b, g->i64, LLVMBuildGEP2(g->b, g->i64, ranges, &i2, 1, ""), "");
    at = LLVMBuildAdd(g->b, i2, one, "");
    LLVMValueRef end =
        LLVMBuildLoad2(g->b, g->i64, LLVMBuildGEP2(g->b, g->i64, ranges, &at, 1, ""), "");
    LLVMValueRef start = LLVMBuildAdd(g->b, i, one, "");
    LLVMBuildBr(g->b, inner);
    LLVMPositionBuilderAtEnd(g->b, inner);
    LLVMValueRef j = LLVMBuildPhi(g->b, g->i64, "j"), j2 = LLVMBuildMul(g->b, j, two, "");
    LLVMValueRef all = LLVMConstInt(g->i64, n_all, 0), outs = LLVMConstInt(g->i64, n_out, 0);
    LLVMBuildCondBr(g->b, LLVMBuildICmp(g->b, LLVMIntULT, j, all, ""), next, last);
    LLVMPositionBuilderAtEnd(g->b, next);
    LLVMValueRef b =
        LLVMBuildLoad2(g->b, g->i64, LLVMBuildGEP2(g->b, g->i64, ranges, &j2, 1, ""), "");
    at = LLVMBuildAdd(g->b, j2, one, "");
    LLVMValueRef e =
        LLVMBuildLoad2(g->b, g->i64, LLVMBuildGEP2(g->b, g->i64, ranges, &at, 1, ""), "");
    /* max(starts) < min(ends): empty ranges meet nothing */
    LLVMValueRef hi =
        LLVMBuildSelect(g->b, LLVMBuildICmp(g->b, LLVMIntUGT, first, b, ""), first, b, "");
    LLVMValueRef lo =
        LLVMBuildSelect(g->b, LLVMBuildICmp(g->b, LLVMIntULT, end, e, ""), end, e, "");
    LLVMBuildCondBr(g->b, LLVMBuildICmp(g->b, LLVMIntULT, hi, lo, ""), bad, more);
    LLVMPositionBuilderAtEnd(g->b, more);
    LLVMValueRef j_next = LLVMBuildAdd(g->b, j, one, "");
    LLVMBuildBr(g->b, inner);
    LLVMPositionBuilderAtEnd(g->b, last);
    LLVMBuildCondBr(g->b, LLVMBuildICmp(g->b, LLVMIntULT, start, outs, ""), outer, done);
    LLVMPositionBuilderAtEnd(g->b, bad);
    LLVMBuildRet(g->b, word(g, STATUS_BAD_POINTER));
    LLVMAddIncoming(i, (LLVMValueRef[]){LLVMConstInt(g->i64, 0, 0), start},
                    (LLVMBasicBlockRef[]){before, last}, 2);
    LLVMAddIncoming(j, (LLVMValueRef[]){start, j_next}, (LLVMBasicBlockRef[]){outer, more}, 2);
    LLVMPositionBuilderAtEnd(g->b, done);
}

/* Outputs first, then inputs, then the arena. Binds the buffers. */
void llvm_check_memory(LlvmGen *g, Entry *e, LLVMValueRef inputs, LLVMValueRef outputs,
                         LLVMValueRef arena_bytes) {
    const KModule *m = g->m;
    uint32_t n = m->n_outputs + m->n_inputs + 1;
    LLVMValueRef ranges = llvm_alloca(g, g->i64, 2 * (uint64_t)n, 8, "ranges");
    for (uint32_t i = 0; i + 1 < n; i++) {
        bool is_out = i < m->n_outputs;
        const KIo *io = is_out ? &m->outputs[i] : &m->inputs[i - m->n_outputs];
        LLVMValueRef at =
            element(g, g->ptr, is_out ? outputs : inputs, is_out ? i : i - m->n_outputs);
        LLVMValueRef p = LLVMBuildLoad2(g->b, g->ptr, at, "");
        if (is_out && io->buf && io->buf->mem == MEM_HEAP) {
            llvm_refuse_if(g, LLVMBuildNot(g->b, is_null(g, p), ""), STATUS_BAD_POINTER);
            note_range(g, ranges, i, p, LLVMConstInt(g->i64, 0, 0));
            continue;
        }
        note_range(g, ranges, i, p, io_bytes(g, io));
        if (io->buf)
            *llvm_buf(g, io->buf) = (BufBind){.base = p, .align = llvm_element_align(g, io->dtype)};
    }
    LLVMValueRef need = llvm_arena_needed(g);
    note_range(g, ranges, n - 1, e->arena, need);
    llvm_refuse_if(g, LLVMBuildICmp(g->b, LLVMIntULT, arena_bytes, need, ""), STATUS_SHORT_ARENA);
    if (m->n_outputs) refuse_overlap(g, ranges, m->n_outputs, n);
    if (!g->options->weights_file || g->const_address || !m->n_consts) return;
    LLVMValueRef low = LLVMBuildPtrToInt(g->b, e->given_weights, g->i64, "");
    low = LLVMBuildAnd(g->b, low, LLVMConstInt(g->i64, 63, 0), "");
    LLVMValueRef odd = LLVMBuildICmp(g->b, LLVMIntNE, low, LLVMConstInt(g->i64, 0, 0), "");
    llvm_refuse_if(g, LLVMBuildOr(g->b, is_null(g, e->given_weights), odd, ""), STATUS_BAD_WEIGHTS);
}

void llvm_align_arena(LlvmGen *g, Entry *e) {
    LLVMValueRef p = LLVMBuildPtrToInt(g->b, e->arena, g->i64, "");
    LLVMValueRef up = LLVMBuildSub(g->b, LLVMConstInt(g->i64, 0, 0), p, "");
    up = LLVMBuildAnd(g->b, up, LLVMConstInt(g->i64, ARENA_ALIGN - 1, 0), "");
    e->arena = LLVMBuildGEP2(g->b, g->i8, e->arena, &up, 1, "arena");
}

LLVMValueRef llvm_entry_base(LlvmGen *g, const KBuf *b) {
    Entry *e = g->entry;
    LLVMValueRef at;
    if (!e) return NULL;
    if (b->mem == MEM_ARENA) {
        at = b->offset ? llvm_expr(g, b->offset) : LLVMConstInt(g->i64, 0, 0);
        return LLVMBuildGEP2(g->b, g->i8, e->arena, &at, 1, b->name);
    }
    if (b->mem == MEM_HEAP)
        return LLVMBuildLoad2(g->b, g->ptr, element(g, g->ptr, e->heap, b->index), b->name);
    if (b->mem != MEM_CONST) return NULL;
    if (g->const_address) {
        at = LLVMConstInt(g->i64, (uint64_t)(uintptr_t)g->const_address[b->index], 0);
        return LLVMConstIntToPtr(at, g->ptr);
    }
    at = LLVMConstInt(g->i64, e->api->const_offset[b->index], 0);
    return LLVMBuildGEP2(g->b, g->i8, e->given_weights, &at, 1, b->name);
}
