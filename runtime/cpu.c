/* Which instruction sets may be used here: what the processor has and the system saves.
 *
 * Each architecture defines features_has(name, length) from its rows of smelt_cpu.def. On x86 a
 * vector feature counts only if the system keeps its registers across a switch (XCR0), since the
 * processor reports it either way. Elsewhere the kernel's answer (getauxval, riscv_hwprobe, sysctl)
 * covers both. Where there is nobody to ask, every named feature counts as missing. */
#if defined(__APPLE__)
#define _DARWIN_C_SOURCE
#endif
#include "smelt.h"
#include <string.h>

static int is_name(const char *name, const char *text, size_t n) {
    return strlen(name) == n && memcmp(name, text, n) == 0;
}

#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>

#include "smelt_cpu.def" /* its constants; no rows */

static uint32_t x86_state(void) {
    uint32_t a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & 1u << 27)) return 0;
    __asm__ volatile("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
    return a;
}

/* May this process use AMX's tiles? Linux gives them on request only; other systems do not. */
static int tiles_granted(void) {
#if defined(__linux__) && defined(__x86_64__)
    long rc = SMELT_AMX_CALL;
    __asm__ volatile("syscall"
                     : "+a"(rc)
                     : "D"(SMELT_AMX_REQUEST), "S"(SMELT_AMX_TILE_DATA)
                     : "rcx", "r11", "memory");
    return rc == 0;
#else
    return 0;
#endif
}

static int x86_has(uint32_t leaf, uint32_t subleaf, int reg, int bit, uint32_t state) {
    uint32_t r[4];
    if (!__get_cpuid_count(leaf, subleaf, &r[0], &r[1], &r[2], &r[3])) return 0;
    if (leaf == 7 && subleaf > 0) { /* beyond the last subleaf the answer is another one's */
        uint32_t top, b, c, d;
        if (!__get_cpuid_count(7, 0, &top, &b, &c, &d) || subleaf > top) return 0;
    }
    if (!(r[reg] >> bit & 1) || (state && (x86_state() & state) != state)) return 0;
    return !(state & SMELT_AMX_STATE) || tiles_granted();
}

static int feature_has(const char *name, size_t n) {
#define SMELT_CPU_X86(row, leaf, subleaf, reg, bit, state)                                         \
    if (is_name(row, name, n)) return x86_has(leaf, subleaf, reg, bit, state);
#include "smelt_cpu.def"
    return 0;
}

#elif defined(__aarch64__) && defined(__APPLE__)
#include <stdio.h>
#include <sys/sysctl.h>

static int darwin_has(const char *key) {
    char name[64];
    int value = 0;
    size_t n_bytes = sizeof value;
    if (!key) return 1;
    snprintf(name, sizeof name, "hw.optional.arm.%s", key);
    return sysctlbyname(name, &value, &n_bytes, NULL, 0) == 0 && value != 0;
}

static int feature_has(const char *name, size_t n) {
#define SMELT_CPU_AARCH64(row, word, bit, darwin)                                                  \
    if (is_name(row, name, n)) return darwin_has(darwin);
#include "smelt_cpu.def"
    return 0;
}

#elif defined(__linux__) && (defined(__aarch64__) || defined(__arm__) || defined(__riscv))
#include <sys/auxv.h>
#include <unistd.h>

#if defined(__riscv)
enum { HWPROBE_CALL = 258, HWPROBE_EXTENSIONS = 4 };

static uint64_t hwprobe_extensions(void) {
    struct {
        int64_t key;
        uint64_t value;
    } pair = {HWPROBE_EXTENSIONS, 0};
    long rc = syscall(HWPROBE_CALL, &pair, (size_t)1, (size_t)0, NULL, 0u);
    return rc == 0 && pair.key == HWPROBE_EXTENSIONS ? pair.value : 0;
}

/* Register vlenb, which processors with vectors have. */
static uint64_t vector_register_bytes(void) {
    uint64_t n = 0;
    if (getauxval(AT_HWCAP) >> ('v' - 'a') & 1) __asm__ volatile("csrr %0, 0xc22" : "=r"(n));
    return n;
}
#endif

static int linux_has(int word, int bit) {
    uint64_t bits = getauxval(word == 0 ? AT_HWCAP : AT_HWCAP2);
#if defined(__riscv)
    if (word == 1) bits = hwprobe_extensions();
    if (word == 2) return vector_register_bytes() >= (uint64_t)bit;
#endif
    return (int)(bits >> bit & 1);
}

static int feature_has(const char *name, size_t n) {
#if defined(__aarch64__)
#define SMELT_CPU_AARCH64(row, word, bit, darwin)                                                  \
    if (is_name(row, name, n)) return linux_has(word, bit);
#elif defined(__arm__)
#define SMELT_CPU_ARM(row, word, bit)                                                              \
    if (is_name(row, name, n)) return linux_has(word, bit);
#else
#define SMELT_CPU_RISCV(row, word, bit)                                                            \
    if (is_name(row, name, n)) return linux_has(word, bit);
#endif
#include "smelt_cpu.def"
    return 0;
}

#else
static int feature_has(const char *name, size_t n) {
    (void)is_name;
    (void)name;
    (void)n;
    return 0;
}
#endif

int smelt_cpu_supports(const char *features, const char **missing) {
    if (missing) *missing = NULL;
    for (const char *f = features; f && *f;) {
        size_t n = strcspn(f, ",");
        size_t sign = *f == '+';
        if (n > sign && !feature_has(f + sign, n - sign)) {
            if (missing) *missing = f + sign;
            return 0;
        }
        f += n;
        f += *f == ',';
    }
    return 1;
}
