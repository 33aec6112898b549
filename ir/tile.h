/* Matrix tiles: the loop nests that a matrix unit (AMX) runs as one instruction.
 *
 * A buffer in MEM_TILE is an accumulator of up to 16 rows of 16 words. Only loops marked `tile`
 * touch it, and they have one of three forms, in which r counts rows and l the 16 columns:
 *
 *   zero    for r tile { for l vector { acc[r*16 + l] = 0 } }
 *   dot     for r tile { for w in 0..16 { for q in 0..4 { for l vector {
 *             acc[r*16 + l] = acc[r*16 + l]
 *                             + i32(a[A + r*step + w*4 + q])*i32(b[B + w*64 + l*4 + q]) }}}}
 *   store   for r tile { for l vector { to[C + r*step + l] = acc[r*16 + l] } }
 *
 * Here a and b hold bytes, each signed or not: row r of a is 64 neighbouring bytes, b is 16 groups
 * of 4 bytes for each of 16 columns. They may also hold bf16, in groups of 2, for an accumulator of
 * f32. Then elements of even and odd places are summed apart, which is what AMX does (bit by bit,
 * but that it takes subnormals for zeros):
 *
 *   dot     for r tile { for l vector {
 *             alloc sum: f32[2] reg
 *             for q in 0..2 {
 *               sum[q] = 0
 *               for w in 0..16 {
 *                 sum[q] = fma(f32(a[A + r*step + w*2 + q]), f32(b[B + w*32 + l*2 + q]), sum[q]) }}
 *             acc[r*16 + l] = acc[r*16 + l] + (sum[0] + sum[1]) }}
 *
 * Where there is no matrix unit these are loops like any others, and mean the same.
 */
#ifndef SMELT_IR_TILE_H
#define SMELT_IR_TILE_H

#include "ir/kernel.h"

enum {
    TILE_ROWS = 16,
    TILE_COLS = 16,
    TILE_WORDS = 16,
    TILE_DEPTH = 64 /* bytes of a row of a, and of the 16 words of a column of b */
};

typedef enum { TILE_NONE, TILE_ZERO, TILE_DOT, TILE_STORE } TileKind;

typedef struct TileOp {
    TileKind kind;
    KBuf *acc;
    int rows;
    const KExpr *a, *b; /* DOT: loads of their first elements */
    KBuf *to;           /* STORE */
    const KExpr *at;    /* STORE: index of the first element */
    const KExpr *step;  /* DOT, STORE: elements from row to row of a, of to */
} TileOp;

/* What a loop marked LOOP_TILE does; false when it has none of the three forms. */
bool tile_op(KCtx *k, const KStmt *loop, TileOp *op);

/* The accumulator for factors of this dtype: i32 for bytes, f32 for bf16. */
DType tile_dtype(DType factor);
/* Appends such a loop. acc comes from kb_tile. */
KBuf *kb_tile(KBuild *b, const char *name, DType t, int rows);
void kb_tile_zero(KBuild *b, KBuf *acc, int rows);
void kb_tile_dot(KBuild *b, KBuf *acc, int rows, KBuf *a, const KExpr *a_at, const KExpr *a_step,
                 KBuf *by, const KExpr *by_at);
void kb_tile_store(KBuild *b, KBuf *acc, int rows, KBuf *to, const KExpr *at, const KExpr *step);

/* Does anything in the block use a matrix unit? */
bool kblock_has_tiles(const KBlock *b);

#endif
