/* Unicode's simple case mappings, from case.def. */
#include "ir/ops/case.h"

const CaseRange case_lower[] = {
#define LOWER(first, last, step, delta) {first, last, step, delta},
#define UPPER(first, last, step, delta)
#include "ir/ops/case.def"
#undef LOWER
#undef UPPER
};
const int n_case_lower = sizeof case_lower / sizeof *case_lower;

const CaseRange case_upper[] = {
#define LOWER(first, last, step, delta)
#define UPPER(first, last, step, delta) {first, last, step, delta},
#include "ir/ops/case.def"
#undef LOWER
#undef UPPER
};
const int n_case_upper = sizeof case_upper / sizeof *case_upper;

static int32_t change(const CaseRange *r, int n, int32_t c) {
    for (int i = 0; i < n; i++)
        if (c >= r[i].first && c <= r[i].last && (c - r[i].first) % r[i].step == 0)
            return c + r[i].delta;
    return c;
}

int32_t case_to_lower(int32_t c) {
    return change(case_lower, n_case_lower, c);
}

int32_t case_to_upper(int32_t c) {
    return change(case_upper, n_case_upper, c);
}
