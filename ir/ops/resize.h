/* Resize, between its two files: resize.c reads the node, resize_lower.c has the definition. */
#ifndef SMELT_IR_OPS_RESIZE_H
#define SMELT_IR_OPS_RESIZE_H

#include "ir/ops/common.h"

typedef enum { MODE_NEAREST, MODE_LINEAR, MODE_CUBIC, N_MODES } Mode;
typedef enum {
    XY_HALF_PIXEL,
    XY_HALF_PIXEL_SYMMETRIC,
    XY_PYTORCH,
    XY_ALIGN,
    XY_ASYMMETRIC,
    XY_TF_NN,
    XY_CROP,
    N_XY,
} Xy;
/* NEAR_SIMPLE is Resize-10's: the pixel above where the axis shrinks, else the one below */
typedef enum {
    NEAR_PREFER_FLOOR,
    NEAR_PREFER_CEIL,
    NEAR_FLOOR,
    NEAR_CEIL,
    NEAR_SIMPLE,
    N_NEAR
} Near;

typedef struct ResizeAxis {
    bool is_kept;              /* the axis is copied as it is */
    const KExpr *size, *scale; /* output extent; f32 factor, NULL: element `at` of scales */
    const KExpr *length;       /* f32: the extent before it was cut to a whole one, or NULL */
    const KExpr *roi_start, *roi_end; /* f32, XY_CROP; NULL: elements of roi */
    int at, n;                        /* the axis's place among the listed ones, and their number */
} ResizeAxis;

typedef struct Resize {
    int mode, xy, near;
    bool exclude_outside, antialias, separate; /* separate: axis after axis */
    float cubic_a, extrapolation;
    ResizeAxis axis[MAX_RANK];
} Resize;

/* Reads and checks the node; false after a message. The input's dims and the sizes may be
 * expressions, scales and roi may be known only while running. */
bool resize_plan(Module *m, const Node *n, Resize *r);

#endif
