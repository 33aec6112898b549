/* Internal to assign_layouts.c, layout_blocks.c, layout_copies.c and layout_samples.c. */
#ifndef SMELT_PASSES_ASSIGN_LAYOUTS_H
#define SMELT_PASSES_ASSIGN_LAYOUTS_H

#include "passes/pass.h"

/* May the pass choose how t lies? */
bool layout_is_free(const KTensor *t);
/* Is s a contraction that a window moves along, a convolution of any kind? */
bool layout_is_windowed(const Stage *s);
/* Does such a stage multiply channels one by one? */
bool layout_is_depthwise(KCtx *k, const Stage *s);
/* Are n elements of t enough of a vector that its other lanes may idle? */
bool layout_fills_lanes(const DefProgram *p, const KTensor *t, int64_t n);

/* layout_blocks.c: these give the result of s blocks of channels if it should have them, because of
 * what it is, of all that read it, or behind a map that turns it around. They return whether. */
bool layout_block_channels(DefProgram *p, Stage *s);
bool layout_block_for_readers(DefProgram *p, Stage *s);
bool layout_block_dense_result(DefProgram *p, Stage *s);

/* layout_copies.c: these let s read a copy of a tensor that lies unfavourably for it: for a window,
 * from the middle of a block. They return whether. */
bool layout_copy_for_window(DefProgram *p, Stage *s);
bool layout_copy_part(DefProgram *p, Stage *s);
/* e, reading `to` where it reads `from`, a tensor of the same shape. */
const KExpr *layout_redirect(KCtx *k, const KExpr *e, KTensor *from, KTensor *to);

/* layout_samples.c: a map with a dense result that samples a tensor at computed places makes blocks
 * of channels, which a copy turns around; and one in blocks samples a copy in blocks. They return
 * whether. */
bool layout_block_dense_samples(DefProgram *p, Stage *s);
bool layout_copy_samples(DefProgram *p, Stage *s);

#endif
