/* Winograd's minimal filtering as a schedule of a contraction: a convolution of stride 1 by 3x3 or
 * 5x5 taps, dilated or not, over channels in blocks, computed from patches of n x n elements, m x m
 * results at a time, n = m + taps - 1.
 *
 *     y = A^T [ sum over c of (G g G^T) * (B^T d B) ] A          for each tile and output channel
 *
 * takes n^2 products in place of taps^2 m^2: for 3 taps 2.25 times fewer with m = 2 and 4 times
 * with m = 4, for 5 taps 2.8 times with m = 2. Taps that lie d elements apart (dilation) are those
 * of d x d convolutions, each of every d-th row and column: a tile's elements and results lie d
 * apart, and tiles of all these phases make up the map. A volume's third axis counts as images, and
 * the taps along it as more channels: y is a sum over them, too.
 *
 * Of a signal (one spatial axis) tiles are *lines*: y = A^T [ sum (G g) * (B^T d) ] with patches of
 * 6 elements, and any number of taps, any stride and dilation. The window is cut into parts of 2, 3
 * or 4 taps, which count as more channels. What a part needs is that the element its tap q reads
 * for result i hangs on i + q alone: with stride s and dilation d a tile's results lie d/g apart,
 * g = gcd(s, d), and a part's taps s/g. A part that is not full counts as one that ends in zeros, of
 * which the product at infinity is zero and left out. Seven taps are 3 + 3 + 1: 17 products for 4
 * results in place of 28; three taps of stride 2 are 2 + 1: 11 for 5 results in place of 15.
 *
 * The definition stays as it is; winograd_match() finds out whether it is such a convolution, a
 * pass decides (passes/choose_winograd.c) and stores a Winograd in the stage's Schedule, and
 * schedule_open_winograd() (schedule_winograd.c) makes the loops. */
#ifndef SMELT_IR_WINOGRAD_H
#define SMELT_IR_WINOGRAD_H

#include "ir/schedule.h"

enum { MOST_PATCH = 6, MOST_TAPS = 5, LINE_PATCH = 6 };

/* A contraction that is such a convolution: lhs is x[n, c, h + d*ky + .., w + e*kx + ..] and zero
 * outside, rhs depends on the output channel, c, ky and kx. Axes are n, o, h, w. Of a volume they
 * are n, o, d, h, w, x is read at [n, c, d*.. + kd*.. + .., h.., w..], and rhs depends on kd,
 * too. Of a signal they are n, o, w or n, w, o, and x is read at
 * [n, c, w*stride + kx*dilation + ..]. */
typedef struct WinogradForm {
    const KExpr *read;   /* the at() in lhs */
    bool is_line;        /* one spatial axis */
    int taps;            /* of the kernel along each axis: 3 or 5; of a line's parts: 2, 3 or 4 */
    int64_t step[2];     /* between results of a tile along h and w; of maps between taps, too */
    int channel, ky, kx; /* which reduction axes; ky: -1 of a line */
    int kd;              /* of a volume; else -1 */
    int y_axis, x_axis;  /* of h and w, which follows; y_axis: -1 of a line */
    int o_axis;          /* of output channels */
    int64_t n, oc, h, w; /* n: images, of all depths; guesses where they are free */
    bool is_free;        /* some of n, h, w is no number */
    bool is_known;       /* none of them is computed on the way: scratch memory may hang on them */
    int64_t channels, ic; /* of x, and times the taps along kd or the parts, which vary slower */
    int64_t ic_last;      /* of ic, those with a product in the last plane: all but of lines */
    int64_t n_taps;       /* of the whole kernel, without those along kd */
    int64_t tap_step, part_step; /* of a line: between a part's taps, and the parts' first taps */
} WinogradForm;

struct Winograd {
    WinogradForm form;
    int m, patch;        /* results of a tile along each axis, 2 to 5, and elements read for them */
    int n_xi;            /* products for each tile and pair of channels: planes of all below */
    int64_t down, right; /* tiles of an image */
    int64_t n_tiles;     /* of all images */
    int rows, n_vecs;    /* register tile of the products: tiles x vectors of output channels */
    bool whole;          /* all patches first, by a kernel of its own; slots share the output
                          * channels. Else slots share the strips of tiles */
    int64_t strip;       /* tiles whose patches are in memory at a time; whole: n_tiles, or what
                          * these are taken for */
    int64_t groups;      /* of output channels that slots share beside the strips, where few strips
                          * may be all there is; each slot then transforms the patches it needs */
    int64_t n_slots;
    bool prefetch; /* the weights are too large for the L2 cache: ask for them in time */
    KTensor *weights;  /* G g G^T: [xi, o, c], in the order in which it is read */
    KTensor *patches;  /* scratch: B^T d B of a strip, [slot or 0, xi, tile, c] */
    KTensor *products; /* scratch: of a strip and n_vecs vectors, [slot, xi, tile, o] */
};

/* Is it one? Channels and taps must be known; says nothing about layouts. */
bool winograd_match(DefProgram *p, const Stage *s, WinogradForm *f);
/* Does the form lie in memory as the schedule wants it, channels in blocks of `lanes`? */
bool winograd_fits_layout(const Stage *s, const WinogradForm *f, int lanes);
/* Fills patch, n_xi, down, right and n_tiles for w->form and w->m. */
void winograd_count_tiles(Winograd *w);
/* Where in a row of results tile `i` begins: tiles of all phases, then the next m of each. */
const KExpr *winograd_tile_start(KCtx *k, const KExpr *i, int m, int64_t step);
/* Cuts a line's window into parts of `taps` taps, and fills w->m; false where that does not fit. */
bool winograd_cut_line(Winograd *w, int taps);
/* The points of interpolation for patches of n elements: 0, infinity and +-at[0], +-at[1]; returns
 * how many of the latter. */
int winograd_points(int n, double at[2]);
/* A stage that defines the transformed weights from s->rhs; its tensor becomes w->weights. */
Stage *winograd_define_weights(DefProgram *p, Stage *s, Winograd *w);
/* Images, and the tiles of each along both axes, as the sizes have it. */
void winograd_images(KCtx *k, const Stage *s, const Winograd *w, const KExpr **n,
                     const KExpr **down, const KExpr **right);
/* The scratch tensors, once all else is chosen. */
void winograd_add_scratch(DefProgram *p, const Stage *s, Winograd *w);

/* "w4_t12x2_v16": m, the register tile of the products, lanes; "w2k5_..." for 5x5 taps, "w4d2_..."
 * for taps two elements apart, "w4l3_..." for lines in parts of 3 taps. */
const char *winograd_text(Arena *a, const Schedule *s);

/* Loops that transform all patches (w->whole only), and those of the convolution. */
void schedule_open_patches(DefProgram *p, const Stage *s, KBuild *b);
void schedule_open_winograd(DefProgram *p, const Stage *s, KBuild *b);

#endif
