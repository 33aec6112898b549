/* Kernels that do the same, timed against each other: what tune.c measures with. */
#ifndef SMELT_DRIVER_TUNE_MEASURE_H
#define SMELT_DRIVER_TUNE_MEASURE_H

#include "driver/kernel_module.h"
#include "passes/tune.h"

/* Memory of the kernels; zero at first, reused from one call to the next. */
typedef struct TuneRoom {
    float *in; /* random numbers that kernels read */
    char *out, *zeros;
    uint64_t in_bytes, out_bytes, zero_bytes;
} TuneRoom;

/* Seconds of a run of each kernel, infinite for those that `time` seconds were not enough for;
 * false where they were not enough for the first and another one. */
bool tune_time(Session *s, TuneRoom *room, const TuneKernel *kernels, int n, double *seconds,
               double time);
void tune_room_free(TuneRoom *room);
/* Of a clock that only goes forward. */
double tune_now(void);

#endif
