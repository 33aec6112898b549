/* Unicode's simple case mappings: tables, and code points one by one. */
#ifndef SMELT_IR_OPS_CASE_H
#define SMELT_IR_OPS_CASE_H

#include <stdint.h>

/* first, first + step, ... last become delta more. */
typedef struct CaseRange {
    int32_t first, last, step, delta;
} CaseRange;

extern const CaseRange case_lower[], case_upper[];
extern const int n_case_lower, n_case_upper;

/* c itself when it has no such case. */
int32_t case_to_lower(int32_t c);
int32_t case_to_upper(int32_t c);

#endif
