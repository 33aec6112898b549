/* Machines: matching a feature string against targets.def. */
#include "ir/target.h"

#include <string.h>

#include "ir/support/str.h"

typedef struct TargetRow {
    const char *arch, *needs;
    Target target;
} TargetRow;

static const TargetRow rows[] = {
#define TARGET(row_name, row_arch, row_needs, ...)                                                 \
    {.arch = row_arch, .needs = row_needs, .target = {.name = #row_name, __VA_ARGS__}},
#define CPU(name, arch, features)
#define TUNED(prefix, arch, field, value)
#include "ir/targets.def"
#undef TARGET
#undef CPU
#undef TUNED
};

static const struct {
    const char *name, *arch, *features;
} cpus[] = {
#define TARGET(...)
#define CPU(name, arch, features) {name, arch, features},
#define TUNED(prefix, arch, field, value)
#include "ir/targets.def"
#undef TARGET
#undef CPU
#undef TUNED
};

/* What the family of a processor is known to do otherwise than others of its row. */
static void tune(Target *t) {
#define TARGET(...)
#define CPU(name, arch, features)
#define TUNED(prefix, row_arch, field, value)                                                      \
    if (!strncmp(t->cpu, prefix, strlen(prefix)) && !strcmp(t->arch, row_arch)) t->field = value;
#include "ir/targets.def"
#undef TARGET
#undef CPU
#undef TUNED
}

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
    } known[] = {{"x86_64", "x86_64"},  {"amd64", "x86_64"}, {"aarch64", "aarch64"},
                 {"arm64", "aarch64"},  {"arm", "arm"},      {"thumb", "arm"},
                 {"riscv64", "riscv64"}};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (!strncmp(triple, known[i].prefix, strlen(known[i].prefix))) return known[i].arch;
    return intern_bytes(triple, strcspn(triple, "-"));
}

/* "avx,fma" of the cpu and "+x,-y" of the user as one list in LLVM's spelling. */
static const char *join_features(const char *cpu_features, const char *features) {
    StrBuf b = {0};
    for (const char *s = cpu_features; *s; s += word_length(s), s += *s == ',')
        strbuf_printf(&b, "%s+%.*s", b.n ? "," : "", (int)word_length(s), s);
    if (features[0]) strbuf_printf(&b, "%s%s", b.n ? "," : "", features);
    const char *all = intern(strbuf_text(&b));
    strbuf_free(&b);
    return all;
}

bool target_has(const Target *t, const char *feature) {
    static const char *const x86_implied[][2] = {{"avx512vnni", "avx512f"}, {"avx512bw", "avx512f"},
                                                 {"avx512vl", "avx512f"},   {"avx512dq", "avx512f"},
                                                 {"avx512f", "avx2"},       {"avx512f", "fma"},
                                                 {"avx512f", "f16c"},       {"avxvnni", "avx2"},
                                                 {"avx2", "avx"},           {"fma", "avx"},
                                                 {"f16c", "avx"},           {"avx", "sse4.2"},
                                                 {"sse4.2", "sse4.1"},      {"sse4.1", "ssse3"}};
    int state = feature_state(t->features, feature, strlen(feature));
    if (state) return state > 0;
    if (strcmp(t->arch, "x86_64")) return false;
    for (size_t i = 0; i < sizeof x86_implied / sizeof x86_implied[0]; i++)
        if (!strcmp(x86_implied[i][1], feature) && target_has(t, x86_implied[i][0])) return true;
    return false;
}

const Target *target_resolve(Arena *a, const char *triple, const char *cpu, const char *features) {
    const char *arch = arch_of(triple), *cpu_features = "";
    for (size_t i = 0; i < sizeof cpus / sizeof cpus[0]; i++)
        if (!strcmp(cpus[i].name, cpu) && !strcmp(cpus[i].arch, arch))
            cpu_features = cpus[i].features;
    const TargetRow *best = &rows[0];
    for (size_t i = 1; i < sizeof rows / sizeof rows[0]; i++)
        if (!strcmp(rows[i].arch, arch) && has_all(features, cpu_features, rows[i].needs) &&
            (!rows[i].target.amx || strstr(triple, "linux")))
            best = &rows[i];
    Target *t = arena_new(a, Target);
    *t = best->target;
    t->triple = intern(triple);
    t->cpu = intern(cpu);
    t->features = join_features(cpu_features, features);
    t->arch = arch;
    if (!t->pointer_bytes) t->pointer_bytes = 8;
    if (!t->l1_bytes) t->l1_bytes = rows[0].target.l1_bytes;
    if (!t->l2_bytes) t->l2_bytes = rows[0].target.l2_bytes;
    if (!t->fma_ports) t->fma_ports = rows[0].target.fma_ports;
    if (!t->add_ports) t->add_ports = rows[0].target.add_ports;
    if (!t->load_ports) t->load_ports = rows[0].target.load_ports;
    if (!t->issue) t->issue = rows[0].target.issue;
    if (!t->fma_latency) t->fma_latency = rows[0].target.fma_latency;
    if (!t->gather_bytes) t->gather_bytes = rows[0].target.gather_bytes;
    tune(t);
    return t;
}

const Target *target_relax(Arena *a, const Target *t) {
    if (!t->fast_vector_bytes) return t;
    Target *relaxed = arena_new(a, Target);
    *relaxed = *t;
    relaxed->vector_bytes = t->fast_vector_bytes;
    return relaxed;
}
