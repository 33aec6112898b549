/* What this machine can do at most, measured: see machine.c. */
#ifndef SMELT_DRIVER_MACHINE_H
#define SMELT_DRIVER_MACHINE_H

#include "driver/driver.h"

/* PEAK(field, JSON name, title, unit): the rows of machine.c's table. */
#define MACHINE_PEAKS                                                                              \
    PEAK(f32, "f32_gflops", "f32 multiply-add", "GFLOP/s")                                         \
    PEAK(f64, "f64_gflops", "f64 multiply-add", "GFLOP/s")                                         \
    PEAK(i8, "i8_gops", "int8 dot product", "GOP/s")                                               \
    PEAK(l1, "l1_gbs", "read, L1 cache", "GB/s")                                                   \
    PEAK(l2, "l2_gbs", "read, L2 cache", "GB/s")                                                   \
    PEAK(cache, "cache_gbs", "read, last cache", "GB/s")                                           \
    PEAK(memory, "memory_gbs", "read, memory", "GB/s")

typedef enum PeakId {
#define PEAK(field, json, title, unit) PEAK_##field,
    MACHINE_PEAKS
#undef PEAK
        PEAK_COUNT
} PeakId;

/* The highest rate of this kind seen in some tens of milliseconds, in 1e9 a second, by n_threads
 * threads together; 0 where the machine does not have the instruction, or after an error in d. */
double machine_peak(Arena *a, const Target *t, PeakId id, uint32_t n_threads, Diag *d);

#endif
