/* Scratch memory: what a kernel needs for itself, per thread, and is too large for the stack.
 *
 * Threads have no numbers here, so the work is dealt out beforehand: the kernel's outermost loop is
 * parallel over slots (MOST_SLOTS, or fewer where there are fewer items), and each slot works off
 * its share of the items, which are consecutive, one after the other, in its own part of a tensor
 * [n_slots, ...] that lies in the arena:
 *
 *     for slot in 0..8 parallel {
 *       for item in 0..(slot*100 + 100) // 8 - slot*100 // 8 {
 *         ... t[slot, ...] ...
 *
 * Which thread runs a slot changes nothing, so results do not depend on their number. How to:
 *
 *     int64_t n_slots = slots_for(n_items);
 *     const KExpr *dims[] = {k_int(k, n_slots), ...}, *slot, *item;
 *     KTensor *t = scratch_tensor(p, "scores", DT_F32, rank, dims);
 *     kb_slots(b, n_slots, k_int(k, n_items), &slot, &item);      opens two loops
 *     ...                    store to t->buf at tensor_flat_index(); read by k_at() and expr_open()
 *     kb_end(b);
 *     kb_end(b);
 *
 * The tensor needs no entry in a stage: that the kernel names its buffer makes it a parameter, and
 * plan_memory gives it room for the time of the calls that pass it (two kernels may share one). */
#ifndef SMELT_IR_SCRATCH_H
#define SMELT_IR_SCRATCH_H

#include "ir/define.h"

enum { MOST_SLOTS = 8 };

/* Slots worth having for this many items. */
int64_t slots_for(int64_t n_items);
/* A tensor in the arena, dense, of no program; its contents are undefined at first. dims[0] counts
 * slots by custom. */
KTensor *scratch_tensor(DefProgram *p, const char *name, DType t, int rank,
                        const KExpr *const *dims);
/* Opens the parallel loop over slots (serial when there is one) and the serial one over the slot's
 * items. */
void kb_slots(KBuild *b, int64_t n_slots, const KExpr *n_items, const KExpr **slot,
              const KExpr **item);

#endif
