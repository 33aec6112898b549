/* Winograd's minimal filtering as a schedule of a contraction: a 3x3 convolution of stride 1 over
 * channels in blocks, computed from patches of (m+2) x (m+2) elements, m x m results at a time.
 *
 *     y = A^T [ sum over c of (G g G^T) * (B^T d B) ] A          for each tile and output channel
 *
 * takes (m+2)^2 products in place of 9 m^2: 2.25 times fewer for m = 2, 4 times for m = 4. The
 * definition stays as it is; winograd_match() finds out whether it is such a convolution, a pass
 * decides (passes/choose_winograd.c) and stores a Winograd in the stage's Schedule, and
 * schedule_open_winograd() makes the loops. schedule_winograd.c has them. */
#ifndef SMELT_IR_WINOGRAD_H
#define SMELT_IR_WINOGRAD_H

#include "ir/schedule.h"

/* A contraction that is a 3x3 convolution of stride 1: lhs is x[n, c, h + ky + .., w + kx + ..] and
 * zero outside, rhs depends on the output channel, c, ky and kx. Axes are n, o, h, w. */
typedef struct WinogradForm {
    const KExpr *read;     /* the at() in lhs */
    int channel, ky, kx;   /* which reduction axes */
    int64_t n, ic, oc, h, w;
} WinogradForm;

struct Winograd {
    WinogradForm form;
    int m;               /* results of a tile along each axis: 2 or 4 */
    int64_t down, right; /* tiles of an image */
    int64_t n_tiles;     /* of all images */
    int rows, n_vecs;    /* register tile of the products: tiles x vectors of output channels */
    bool whole;          /* all patches first, by a kernel of its own; slots share the output
                          * channels. Else slots share the strips of tiles */
    int64_t strip;       /* tiles whose patches are in memory at a time; whole: n_tiles */
    int64_t n_slots;
    KTensor *weights;    /* G g G^T: [xi, o, c], in the order in which it is read */
    KTensor *patches;    /* scratch: B^T d B of a strip, [slot or 0, xi, tile, c] */
    KTensor *products;   /* scratch: of a strip and n_vecs vectors, [slot, xi, tile, o] */
};

/* Is it one? Shapes must be known; says nothing about layouts. */
bool winograd_match(DefProgram *p, const Stage *s, WinogradForm *f);
/* Does the form lie in memory as the schedule wants it, channels in blocks of `lanes`? */
bool winograd_fits_layout(const Stage *s, const WinogradForm *f, int lanes);
/* Fills down, right and n_tiles for w->form and w->m. */
void winograd_count_tiles(Winograd *w);
/* G of the transform for m: coefficient [i][j], i < m + 2, j < 3. */
double winograd_weight_factor(int m, int i, int j);
/* A stage that defines the transformed weights from s->rhs; its tensor becomes w->weights. */
Stage *winograd_define_weights(DefProgram *p, Stage *s, Winograd *w);
/* The scratch tensors, once all else is chosen. */
void winograd_add_scratch(DefProgram *p, const Stage *s, Winograd *w);

/* "w4_t12x2_v16": m, the register tile of the products, lanes. */
const char *winograd_text(Arena *a, const Schedule *s);

/* Loops that transform all patches (w->whole only), and those of the convolution. */
void schedule_open_patches(DefProgram *p, const Stage *s, KBuild *b);
void schedule_open_winograd(DefProgram *p, const Stage *s, KBuild *b);

#endif
