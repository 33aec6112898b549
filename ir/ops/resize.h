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

typedef enum { POLICY_STRETCH, POLICY_NOT_LARGER, POLICY_NOT_SMALLER, N_POLICIES } Policy;

/* All but is_kept and size in f32; what is read while running are expressions over symbols. */
typedef struct ResizeAxis {
    bool is_kept;                     /* the axis is copied as it is */
    const KExpr *size, *scale;        /* output extent, factor */
    const KExpr *length;              /* the extent before it was cut to a whole one; NULL: size */
    const KExpr *roi_start, *roi_end; /* XY_CROP */
} ResizeAxis;

typedef struct Resize {
    int mode, xy, near, policy;
    bool exclude_outside, antialias, separate; /* separate: axis after axis */
    float cubic_a, extrapolation;
    ResizeAxis axis[MAX_RANK];
} Resize;

/* Reads and checks the node; false after a message. */
bool resize_plan(Module *m, const Node *n, Resize *r);

#endif
