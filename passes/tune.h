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
     * there was no time for two. share: of the time that is left, for these. NULL: nothing is
     * measured. */
    bool (*measure)(void *user, const TuneKernel *kernels, int n, double *seconds, double share);
} Tuner;

/* One of the ways to compute a stage. */
typedef struct TuneChoice {
    const char *text; /* in the cache: names and numbers */
    const char *name; /* in traces */
    TuneKernel kernel;
} TuneChoice;

/* Fills sch, which holds what schedule_contract_axes gave, with the schedule that is known or that
 * measures best; false when the cost model has to decide. in_place: the right factor is not
 * packed. */
bool tune_contract(DefProgram *p, Stage *s, bool in_place, Schedule *sch);

/* For kinds of choices. The stage's key, of this kind: any text, the same for equal loops. */
const char *tune_key(DefProgram *p, const Stage *s, const char *kind);
/* The best of n choices, which are measured and the winner kept under the key; -1 when there was no
 * time, or is no choice. The first one is what the cost model would take. */
int tune_measure(DefProgram *p, const Stage *s, const char *key, const TuneChoice *c, int n);
/* Tells that the cache's line names no choice of the stage. */
void tune_unfit(DefProgram *p, const Stage *s, int line);
/* The kernel of these loops; false when a size is no constant. cold: see TuneKernel. */
bool tune_extract(DefProgram *p, KBlock body, const KTensor *cold, TuneKernel *out);
/* The kernel of the stage under a schedule of the template. */
bool tune_contract_kernel(DefProgram *p, const Stage *s, bool in_place, Schedule *sch,
                          TuneKernel *out);

/* choose_schedules.c: the tensor that holds the right factor in the template's reading order, its
 * indices as variables of the stage. NULL when it has too many. */
KTensor *packed_tensor(DefProgram *p, const Stage *s, const Schedule *sch, KVar **var, int *n,
                       const KExpr **extent);

#endif
