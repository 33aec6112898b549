/* Targets by name: this machine's, or what the command line asks for, checked against LLVM. */
#if defined(__linux__)
#include <unistd.h>
#endif
#include <llvm-c/Core.h>
#include <llvm-c/Target.h>
#include <llvm-c/TargetMachine.h>
#include <string.h>

#include "codegen/codegen.h"
#include "codegen/llvm/llvm_gen.h"
#include "runtime/include/smelt_cpu.def" /* its constants; no rows */

/* Takes over a message of LLVM's as interned text. */
static const char *take(char *message) {
    const char *s = intern(message ? message : "");
    LLVMDisposeMessage(message);
    return s;
}

static const char *normal_triple(const char *triple) {
    return triple ? take(LLVMNormalizeTargetTriple(triple)) : take(LLVMGetDefaultTargetTriple());
}

static bool same_architecture(const char *a, const char *b) {
    size_t n = strcspn(a, "-");
    return n == strcspn(b, "-") && !strncmp(a, b, n);
}

/* What code for an architecture may assume when nothing is said; "generic" where LLVM knows best.
 */
static const char *baseline_cpu(const char *triple) {
    return !strncmp(triple, "x86_64", 6)    ? "x86-64"
           : !strncmp(triple, "riscv64", 7) ? "generic-rv64"
                                            : "generic";
}

/* What LLVM's baseline lacks although every system has it: riscv64 Linux its floating-point unit,
 * and hard-float Arm (the ABI of every armhf distribution) ARMv7-A with VFPv3, but no NEON. Without
 * these, floats would be computed in software. */
static const char *baseline_features(const char *triple) {
    if (!strncmp(triple, "riscv64", 7)) return "+m,+a,+f,+d,+c";
    bool arm = !strncmp(triple, "arm", 3) && strncmp(triple, "arm64", 5);
    bool thumb = !strncmp(triple, "thumb", 5);
    if ((arm || thumb) && strstr(triple, "eabihf")) return "+armv7-a,+vfp3d16,-neon";
    return "";
}

/* May this process, and so code that it runs, use AMX's tiles? */
static bool tiles_granted(void) {
#if defined(__linux__) && defined(__x86_64__)
    return syscall(SMELT_AMX_CALL, SMELT_AMX_REQUEST, SMELT_AMX_TILE_DATA) == 0;
#else
    return false;
#endif
}

/* Is this an x86 feature that LLVM chooses instructions of for ordinary code, or that we use? The
 * others (rtm, clwb) would only narrow down the processors that a library runs on. AMX counts if
 * the system lets this process have it. */
static bool is_for_code(const char *name, size_t n) {
    static const char *const prefixes[] = {"sse", "ssse3", "avx",    "fma",   "f16c",
                                           "bmi", "lzcnt", "popcnt", "movbe", "gfni"};
    for (size_t i = 0; i < sizeof prefixes / sizeof prefixes[0]; i++) {
        size_t len = strlen(prefixes[i]);
        if (n >= len && !strncmp(name, prefixes[i], len) && strncmp(name, "fma4", 4)) return true;
    }
    return n > 4 && !strncmp(name, "amx-", 4) && tiles_granted();
}

/* Features of this machine that code may use. */
static const char *host_features(Arena *a, const char *triple) {
    const char *all = take(LLVMGetHostCPUFeatures());
    if (strncmp(triple, "x86_64", 6)) return all;
    StrBuf some = {0};
    for (const char *s = all; *s; s += strcspn(s, ","), s += *s == ',') {
        size_t n = strcspn(s, ",");
        if (n > 1 && is_for_code(s + 1, n - 1))
            strbuf_printf(&some, "%s%.*s", some.n ? "," : "", (int)n, s);
    }
    const char *kept = arena_strdup(a, strbuf_text(&some));
    strbuf_free(&some);
    return kept;
}

const Target *codegen_target(Arena *a, const char *triple, const char *cpu, const char *features,
                             Diag *d) {
    llvm_init_target(NULL);
    const char *host = normal_triple(NULL), *wanted = normal_triple(triple);
    LLVMTargetRef target;
    char *why = NULL;
    if (LLVMGetTargetFromTriple(wanted, &target, &why)) {
        diag_error(d, SRC_NOWHERE, "--target=%s: %s", triple ? triple : wanted, why);
        LLVMDisposeMessage(why);
        return NULL;
    }
    bool native = same_architecture(host, wanted) && (!cpu || !strcmp(cpu, "native"));
    const char *base = native                         ? host_features(a, wanted)
                       : cpu && strcmp(cpu, "native") ? ""
                                                      : baseline_features(wanted);
    if (native)
        cpu = take(LLVMGetHostCPUName());
    else if (!cpu || !strcmp(cpu, "native"))
        cpu = baseline_cpu(wanted);
    const char *all = arena_printf(a, "%s%s%s", base, *base && features && *features ? "," : "",
                                   features ? features : "");
    return target_resolve(a, wanted, cpu, all);
}

void codegen_list_targets(StrBuf *out) {
    llvm_init_target(NULL);
    for (LLVMTargetRef t = LLVMGetFirstTarget(); t; t = LLVMGetNextTarget(t))
        if (LLVMTargetHasTargetMachine(t))
            strbuf_printf(out, "%-14s %s\n", LLVMGetTargetName(t), LLVMGetTargetDescription(t));
}
