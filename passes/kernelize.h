/* From a block of statements over tensors' buffers to a kernel with parameters. */
#ifndef SMELT_PASSES_KERNELIZE_H
#define SMELT_PASSES_KERNELIZE_H

#include "ir/define.h"

/* What a call of an extracted kernel passes. */
typedef struct KernelUse {
    Kernel *kernel;
    KBuf **bufs;    /* kernel->n_params outer buffers, in parameter order */
    KVar **scalars; /* kernel->n_scalars outer variables */
} KernelUse;

/* Turns every buffer that is not local to the block into a parameter and every variable that is not
 * bound in it into a scalar, both in order of first appearance. The block's statements move into
 * the kernel. */
KernelUse kernel_extract(KCtx *k, KBlock body);

/* Loops of one stage (not PROGRAM or REGION) or of a program's statements with at() opened. */
void stage_open(DefProgram *p, Stage *s, KBlock *into);

#endif
