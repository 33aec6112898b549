/* Machines: matching a feature string against targets.def. */
#include "ir/target.h"

#include <string.h>

#include "ir/support/str.h"

typedef struct TargetRow {
    const char *arch, *needs;
    Target target;
} TargetRow;

static const TargetRow rows[] = {
#define TARGET(row_name, row_arch, row_needs, ...) \
    {.arch = row_arch, .needs = row_needs, .target = {.name = #row_name, __VA_ARGS__}},
#define CPU(name, arch, features)
#include "ir/targets.def"
#undef TARGET
#undef CPU
};

static const struct {
    const char *name, *arch, *features;
} cpus[] = {
#define TARGET(...)
#define CPU(name, arch, features) {name, arch, features},
#include "ir/targets.def"
#undef TARGET
#undef CPU
};

/* The word of a comma-separated list starting at s: its length. */
static size_t word_length(const char *s) {
    return strcspn(s, ",");
}

/* +1: enabled, -1: disabled, 0: not mentioned; the last mention counts. */
static int feature_state(const char *features, const char *word, size_t n) {
    int state = 0;
    for (const char *s = features; *s; s += word_length(s), s += *s == ',') {
        size_t len = word_length(s);
        bool has_sign = *s == '+' || *s == '-';
        if (len == n + has_sign && !strncmp(s + has_sign, word, n)) state = *s == '-' ? -1 : 1;
    }
    return state;
}

static bool has_all(const char *features, const char *cpu_features, const char *needs) {
    for (const char *s = needs; *s; s += word_length(s), s += *s == ',') {
        int state = feature_state(features, s, word_length(s));
        if (state < 0 || (!state && !feature_state(cpu_features, s, word_length(s)))) return false;
    }
    return true;
}

static const char *arch_of(const char *triple) {
    static const struct {
        const char *prefix, *arch;
    } known[] = {{"x86_64", "x86_64"}, {"amd64", "x86_64"}, {"aarch64", "aarch64"}, {"arm64", "aarch64"},
                 {"arm", "arm"}, {"thumb", "arm"}, {"riscv64", "riscv64"}};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (!strncmp(triple, known[i].prefix, strlen(known[i].prefix))) return known[i].arch;
    return intern_bytes(triple, strcspn(triple, "-"));
}

const Target *target_resolve(Arena *a, const char *triple, const char *cpu, const char *features) {
    const char *arch = arch_of(triple), *cpu_features = "";
    for (size_t i = 0; i < sizeof cpus / sizeof cpus[0]; i++)
        if (!strcmp(cpus[i].name, cpu) && !strcmp(cpus[i].arch, arch)) cpu_features = cpus[i].features;
    const TargetRow *best = &rows[0];
    for (size_t i = 1; i < sizeof rows / sizeof rows[0]; i++)
        if (!strcmp(rows[i].arch, arch) && has_all(features, cpu_features, rows[i].needs)) best = &rows[i];
    Target *t = arena_new(a, Target);
    *t = best->target;
    t->triple = intern(triple);
    t->cpu = intern(cpu);
    t->features = intern(features);
    t->arch = arch;
    if (!t->pointer_bytes) t->pointer_bytes = 8;
    if (!t->l1_bytes) t->l1_bytes = rows[0].target.l1_bytes;
    if (!t->l2_bytes) t->l2_bytes = rows[0].target.l2_bytes;
    return t;
}
