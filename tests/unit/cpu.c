/* Guards the processor check: spelling of lists, the first missing name, and on Linux agreement
 * with what the kernel says in /proc/cpuinfo about features that both name alike. */
#include "check.h"
#include "smelt.h"
#include <stdlib.h>
#include <string.h>

static void check_lists(void) {
    const char *missing = "unset";
    CHECK(smelt_cpu_supports(NULL, NULL) == 1);
    CHECK(smelt_cpu_supports("", &missing) == 1 && missing == NULL);
    CHECK(smelt_cpu_supports(",,+,", &missing) == 1);
    CHECK(smelt_cpu_supports("no-such-feature", NULL) == 0);
    const char *list = ",+no-such-feature,other";
    CHECK(smelt_cpu_supports(list, &missing) == 0 && missing == list + 2);
}

#if defined(__x86_64__) && defined(__linux__)
/* Whether " name " stands in the first "flags" line. */
static int kernel_has(const char *flags, const char *name) {
    size_t n = strlen(name);
    for (const char *at = flags; (at = strstr(at, name)); at += n)
        if (at[-1] == ' ' && (at[n] == ' ' || at[n] == '\n')) return 1;
    return 0;
}

static void check_kernel_agrees(void) {
    static const char *const pairs[][2] = {
        {"sse2", "sse2"},
        {"sse4.1", "sse4_1"},
        {"sse4.2", "sse4_2"},
        {"avx", "avx"},
        {"avx2", "avx2"},
        {"fma", "fma"},
        {"f16c", "f16c"},
        {"bmi2", "bmi2"},
        {"avx512f", "avx512f"},
        {"avx512bw", "avx512bw"},
        {"avx512vl", "avx512vl"},
        {"avx512vnni", "avx512_vnni"},
        {"avxvnni", "avx_vnni"},
        {"avx512bf16", "avx512_bf16"},
        {"popcnt", "popcnt"},
        {"lzcnt", "abm"},
        {"avx512fp16", "avx512_fp16"},
        {"gfni", "gfni"},
    };
    static char line[1 << 16];
    FILE *f = fopen("/proc/cpuinfo", "r");
    if (!f) return;
    while (fgets(line, sizeof line, f) && strncmp(line, "flags", 5) != 0) line[0] = 0;
    fclose(f);
    if (!line[0]) return;
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        if (!CHECK(smelt_cpu_supports(pairs[i][0], NULL) == kernel_has(line, pairs[i][1])))
            printf("%s\n", pairs[i][0]);
}
#else
static void check_kernel_agrees(void) {
}
#endif

int main(void) {
    check_lists();
    check_kernel_agrees();
    return check_done();
}
