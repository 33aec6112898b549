/* Tile loops (ir/tile.h) as AMX instructions.
 *
 * The eight registers are dealt out by hand: accumulators in 0 to 3, in the order of their
 * KS_ALLOC; rows of the left operand in 4 and 5, blocks of the right one in 6 and 7. An operand
 * that a neighbouring statement loaded is not loaded again, so that 2 x 2 accumulators cost 4
 * loads. The shapes are set when a kernel begins, or, where its tiles differ in height, whenever
 * accumulators come to life; they are given back at its end, so that threads do not carry 8 KiB of
 * state into every switch. */
#include <string.h>

#include "codegen/llvm/llvm_gen.h"
#include "ir/tile.h"

enum { N_ACC = 4, FIRST_LEFT = 4, FIRST_RIGHT = 6, CONFIG_BYTES = 64 };

static LLVMValueRef number(LlvmGen *g, unsigned v) {
    return LLVMConstInt(g->i8, v, 0);
}

static void instruction(LlvmGen *g, const char *name, LLVMValueRef *args, unsigned n) {
    llvm_call(g, name, NULL, 0, args, n);
}

/* LDTILECFG's operand: palette 1, then bytes of a row (u16) and rows (u8) of each register. */
static void set_shapes(LlvmGen *g, int rows) {
    char bytes[CONFIG_BYTES] = {1};
    for (int i = 0; i < 8; i++) {
        bytes[16 + 2 * i] = TILE_DEPTH;
        bytes[48 + i] = (char)(i < FIRST_RIGHT ? rows : TILE_ROWS);
    }
    LLVMValueRef init = LLVMConstStringInContext2(g->ctx, bytes, CONFIG_BYTES, 1);
    LLVMValueRef shapes = LLVMAddGlobal(g->mod, LLVMTypeOf(init), "tile_shapes");
    LLVMSetInitializer(shapes, init);
    LLVMSetGlobalConstant(shapes, 1);
    LLVMSetLinkage(shapes, LLVMPrivateLinkage);
    LLVMSetUnnamedAddress(shapes, LLVMGlobalUnnamedAddr);
    LLVMSetAlignment(shapes, CONFIG_BYTES);
    instruction(g, "llvm.x86.ldtilecfg", &shapes, 1);
    g->fn->tile_rows = rows;
}

/* The height of all tiles in the block; 0 when there are none, -1 when they differ. */
static int common_rows(const KBlock *b, int rows) {
    int64_t n;
    for (const KStmt *s = b->first; s && rows >= 0; s = s->next) {
        if (s->kind == KS_ALLOC && s->buf->mem == MEM_TILE && k_is_int(s->buf->n_elems, &n)) {
            int here = (int)n / TILE_COLS;
            rows = !rows || rows == here ? here : -1;
        }
        rows = common_rows(&s->other, common_rows(&s->body, rows));
    }
    return rows;
}

void llvm_tiles_begin(LlvmGen *g, const KBlock *body) {
    int rows = g->cpu.amx ? common_rows(body, 0) : 0;
    g->fn->has_tiles = rows != 0;
    if (rows > 0) set_shapes(g, rows);
    g->fn->shapes_differ = rows < 0;
}

void llvm_tiles_end(LlvmGen *g) {
    if (g->fn->has_tiles) instruction(g, "llvm.x86.tilerelease", NULL, 0);
}

bool llvm_tile_alloc(LlvmGen *g, const KBuf *b) {
    int64_t n = 0;
    LlvmFn *fn = g->fn;
    if (b->mem != MEM_TILE || !g->cpu.amx) return false;
    BUG_IF(fn->n_tiles == N_ACC, "no register is left for tile %s", b->name);
    k_is_int(b->n_elems, &n);
    if (fn->shapes_differ && !fn->n_tiles) set_shapes(g, (int)n / TILE_COLS);
    BUG_IF(fn->tile_rows != (int)n / TILE_COLS, "tile %s lives beside one of another height",
           b->name);
    llvm_buf(g, b)->tile = fn->n_tiles++;
    return true;
}

static LLVMValueRef row_bytes(LlvmGen *g, const KExpr *step, DType t) {
    LLVMValueRef size = LLVMConstInt(g->i64, (uint64_t)dtype_bytes(t), 0);
    return LLVMBuildMul(g->b, llvm_expr(g, step), size, "");
}

/* The register that holds this operand, loaded unless it was a moment ago. */
static unsigned operand(LlvmGen *g, const KExpr *first, const KExpr *step, unsigned base) {
    LlvmFn *fn = g->fn;
    int depth;
    LLVMBasicBlockRef here = LLVMGetInsertBlock(g->b);
    if (fn->operand_block != here) memset(fn->operand, 0, sizeof fn->operand);
    fn->operand_block = here;
    TileOperand *o = &fn->operand[base - FIRST_LEFT];
    for (unsigned i = 0; i < 2; i++)
        if (o[i].first == first && o[i].step == step) return base + i;
    unsigned i = fn->operand_turn[base == FIRST_RIGHT]++ & 1;
    LLVMValueRef bytes =
        step ? row_bytes(g, step, first->dtype) : LLVMConstInt(g->i64, TILE_DEPTH, 0);
    LLVMValueRef args[] = {number(g, base + i), llvm_address(g, first, &depth), bytes};
    instruction(g, "llvm.x86.tileloadd64", args, 3);
    o[i] = (TileOperand){first, step};
    return base + i;
}

static const char *dot_name(const TileOp *op) {
    if (op->a->dtype == DT_BF16) return "llvm.x86.tdpbf16ps";
    static const char *const names[2][2] = {{"llvm.x86.tdpbuud", "llvm.x86.tdpbusd"},
                                            {"llvm.x86.tdpbsud", "llvm.x86.tdpbssd"}};
    return names[op->a->dtype == DT_I8][op->b->dtype == DT_I8];
}

void llvm_tile_loop(LlvmGen *g, const KStmt *loop) {
    TileOp op;
    int depth;
    BUG_IF(!tile_op(g->m->k, loop, &op), "a tile loop of another form");
    LLVMValueRef acc = number(g, (unsigned)llvm_buf(g, op.acc)->tile);
    if (op.kind == TILE_ZERO) {
        instruction(g, "llvm.x86.tilezero", &acc, 1);
    } else if (op.kind == TILE_DOT) {
        unsigned a = operand(g, op.a, op.step, FIRST_LEFT), b = operand(g, op.b, NULL, FIRST_RIGHT);
        instruction(g, dot_name(&op), (LLVMValueRef[]){acc, number(g, a), number(g, b)}, 3);
    } else {
        LLVMValueRef bytes = row_bytes(g, op.step, op.to->dtype);
        LLVMValueRef at = llvm_address(g, k_load(g->m->k, op.to, op.at), &depth);
        instruction(g, "llvm.x86.tilestored64", (LLVMValueRef[]){acc, at, bytes}, 3);
    }
}
