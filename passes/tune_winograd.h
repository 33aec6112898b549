/* Fast filtering by measurement: part of choose_winograd under --tune and --tune-cache. */
#ifndef SMELT_PASSES_TUNE_WINOGRAD_H
#define SMELT_PASSES_TUNE_WINOGRAD_H

#include "ir/winograd.h"
#include "passes/tune.h"

/* A filter that fits, and what the model says of it. at: in order of making. */
typedef struct WinogradCost {
    Winograd w;
    double cycles;
    int at;
} WinogradCost;

/* Decides between n_all filters, which it sorts, and the template's loops: *taken is one of them,
 * or NULL for the template. False when the cost model has to decide; model_filters: it would take
 * the best filter. */
bool tune_winograd(DefProgram *p, Stage *s, WinogradCost *all, int n_all, int lanes,
                   bool model_filters, const Winograd **taken);
/* The schedule of a stage in blocks of `lanes` channels that w computes. */
void winograd_fill_schedule(Schedule *sch, int lanes, Winograd *w);

/* choose_schedules.c: how the template would open a stage whose right factor is constant, all but
 * its tiles; false when it cannot. */
bool contract_axes(DefProgram *p, Stage *s, Schedule *sch);

#endif
