/* Part of choose_schedules: whether a convolution sums by channels or by taps first. */
#ifndef SMELT_PASSES_ORDER_TAPS_H
#define SMELT_PASSES_ORDER_TAPS_H

#include "ir/schedule.h"

/* How many lines that lie so many bytes apart a cache keeps: those a multiple of its ways' size
 * apart share a set. */
int64_t lines_kept(int64_t cache_bytes, int64_t ways, int64_t apart);
/* Puts the reduction axes of s, which has rows and lanes by sch, into the order that reads least. */
void order_taps(DefProgram *p, Stage *s, const Schedule *sch);

#endif
