/* Schedules by measurement: part of choose_schedules under --tune and --tune-cache. */
#ifndef SMELT_PASSES_TUNE_H
#define SMELT_PASSES_TUNE_H

#include "ir/schedule.h"

/* A kernel to be timed. cold: the parameter that a run of the whole model would not find in a near
 * cache (its weights), or n_params. */
typedef struct TuneKernel {
    Kernel *kernel;
    int64_t *n_elems; /* of its parameters */
    uint32_t cold;
} TuneKernel;

/* Who remembers and measures; the driver installs one in Module.tuner. Texts are of any lifetime
 * that outlives the call. */
typedef struct Tuner {
    void *user;
    /* The schedule that is known for the key, or NULL; line: where it stands, for messages. */
    const char *(*recall)(void *user, const char *key, int *line);
    void (*keep)(void *user, const char *key, const char *schedule, double seconds,
                 const char *what);
    /* Seconds of a run of each, in order, infinite for those there was no time for; false when
     * there was no time at all. n_left: how many more stages may ask. NULL: nothing is measured. */
    bool (*measure)(void *user, const TuneKernel *kernels, int n, double *seconds, int n_left);
} Tuner;

/* Fills sch, which holds what schedule_contract_axes gave, with the schedule that is known or that
 * measures best; false when the cost model has to decide. in_place: the right factor is not
 * packed. */
bool tune_contract(DefProgram *p, Stage *s, bool in_place, int n_left, Schedule *sch);

/* choose_schedules.c: the tensor that holds the right factor in the template's reading order, its
 * indices as variables of the stage. NULL when it has too many. */
KTensor *packed_tensor(DefProgram *p, const Stage *s, const Schedule *sch, KVar **var, int *n,
                       const KExpr **extent);

#endif
