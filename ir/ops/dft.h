/* Discrete Fourier transforms as definitions: what DFT and STFT share. */
#ifndef SMELT_IR_OPS_DFT_H
#define SMELT_IR_OPS_DFT_H

#include "ir/ops/common.h"

/* Along `axis` of x[.., t, .., 1 or 2] (real, or real and imaginary parts):
 *   forward           out[.., f, .., 2] = sum over t < length of x[t] e^(-2 pi j f t / length)
 *   inverse           the same with e^(+..), divided by the length
 *   inverse onesided  out[.., i, .., 1], x being the bins 0 .. length / 2 of a real signal
 * Elements beyond the axis are zeros. How many bins there are out's dim says. */
typedef struct Dft {
    KTensor *x, *out;
    const KExpr *axis;   /* perhaps known only while running; at least 0 */
    const KExpr *length; /* at least 1 where there are elements */
    bool inverse, onesided;
} Dft;

/* Appends the stages that define out. */
void lower_dft(Def *d, const Dft *f);


#endif
