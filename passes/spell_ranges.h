/* Constants that count, as expressions of the index: see spell_ranges.c. */
#ifndef SMELT_PASSES_SPELL_RANGES_H
#define SMELT_PASSES_SPELL_RANGES_H

#include "ir/define.h"

/* Replaces s's reads of such constants; tells whether there were any. To be called where users are
 * counted. */
bool spell_ranges(DefProgram *p, Stage *s);

#endif
