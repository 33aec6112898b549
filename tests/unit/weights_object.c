/* Guards weights objects: for each target whose cross compiler and emulator are installed, the
 * object links with a program, through an archive, and the program finds the bytes, aligned. */
#include "check.h"
#include "codegen/archive.h"
#include "codegen/weights.h"
#include <stdlib.h>
#include <string.h>

typedef struct {
    const char *triple, *features, *cc, *run; /* run: prefix of the command that runs the program */
} Machine;

static const Machine machines[] = {
    {"x86_64-unknown-linux-gnu", "+avx2", "x86_64-linux-gnu-gcc", ""},
    {"aarch64-unknown-linux-gnu", "+neon", "aarch64-linux-gnu-gcc", "qemu-aarch64-static"},
    {"armv7-unknown-linux-gnueabihf", "+neon", "arm-linux-gnueabihf-gcc", "qemu-arm-static"},
    {"riscv64-unknown-linux-gnu", "+m,+a,+f,+d,+c", "riscv64-linux-gnu-gcc", "qemu-riscv64-static"},
};

static const char program[] =
    "#include <stdint.h>\n"
    "extern const unsigned char net_w0[], net_w1[], net_w2[];\n"
    "int main(void) {\n"
    "    if ((uintptr_t)net_w0 % 64 || (uintptr_t)net_w1 % 64 || (uintptr_t)net_w2 % 64) return "
    "1;\n"
    "    for (int i = 0; i < 1000; i++) if (net_w0[i] != (unsigned char)(i * 3)) return 2;\n"
    "    for (int i = 0; i < 10; i++) if (net_w0[1000 + i] != 0) return 3;\n"
    "    for (int i = 0; i < 77; i++) if (net_w1[i] != 'w') return 4;\n"
    "    return net_w2[0] == 'e' && net_w2[1] == 'n' ? 0 : 5;\n"
    "}\n";

static unsigned char ramp[1000];

static void write_ws(Output *o, void *ctx) {
    for (int i = 0; i < *(const int *)ctx; i++) output_write(o, "w", 1);
}

static int n_ws = 77;
static const WeightSpan w0[] = {
    {.bytes = ramp, .n_bytes = 600}, {.bytes = ramp + 600, .n_bytes = 400}, {.n_bytes = 10}};
static const WeightSpan w1[] = {{.write = write_ws, .ctx = &n_ws, .n_bytes = 77}};
static const WeightSpan w2[] = {{.bytes = "en", .n_bytes = 2}};
static const WeightSymbol symbols[] = {{"net_w0", w0, 3}, {"net_w1", w1, 1}, {"net_w2", w2, 1}};
static const char *const names[] = {"net_w0", "net_w1", "net_w2"};

static void write_member(Output *o, void *ctx) {
    const Machine *m = ctx;
    weights_write_object(o, m->triple, m->features, symbols, 3);
}

static int run(const char *command) {
    fflush(stdout);
    return system(command);
}

static int has_program(const char *name) {
    char command[200];
    snprintf(command, sizeof command, "command -v '%s' >/dev/null 2>&1", name);
    return !*name || run(command) == 0;
}

static int check_machine(const Machine *m) {
    if (!has_program(m->cc) || !has_program(m->run)) return 0;
    StrBuf error = {0};
    Output *object = output_open("w.o");
    write_member(object, (void *)m);
    Output *archive = output_open("libw.a");
    const ArchiveMember member = {
        .name = "weights.o",
        .n_bytes = weights_object_bytes(m->triple, m->features, symbols, 3),
        .write = write_member,
        .ctx = (void *)m,
        .symbols = names,
        .n_symbols = 3,
    };
    archive_write(archive, archive_format(m->triple), &member, 1);
    if (!CHECK(output_finish_all((Output *[]){object, archive}, 2, &error))) return 1;
    strbuf_free(&error);

    char command[1000];
    static const char *const inputs[] = {"w.o", "libw.a"};
    for (int i = 0; i < 2; i++) {
        snprintf(command, sizeof command,
                 "%s -static -Wl,--fatal-warnings program.c %s -o program && %s ./program", m->cc,
                 inputs[i], m->run);
        if (!CHECK(run(command) == 0)) printf("%s\n", command);
    }
    snprintf(command, sizeof command, "%s -shared -fPIC program.c w.o -o program.so", m->cc);
    CHECK(run(command) == 0);
    return 1;
}

/* Objects of machines that cannot run here are at least read by readelf. */
static void check_readable(const char *triple, const char *features) {
    StrBuf error = {0};
    Output *o = output_open("r.o");
    weights_write_object(o, triple, features, symbols, 3);
    CHECK(output_offset(o) == weights_object_bytes(triple, features, symbols, 3));
    CHECK(output_finish(o, &error));
    strbuf_free(&error);
    if (has_program("readelf"))
        CHECK(run("readelf -aW r.o 2>&1 >r.txt | (! grep .) && grep -q 'HIDDEN.*net_w2' r.txt") ==
              0);
}

int main(void) {
    for (int i = 0; i < 1000; i++) ramp[i] = (unsigned char)(i * 3);
    FILE *f = fopen("program.c", "w");
    if (!CHECK(f && fputs(program, f) >= 0 && fclose(f) == 0)) return 1;
    int n_run = 0;
    for (size_t i = 0; i < sizeof machines / sizeof *machines; i++) {
        int was_run = check_machine(&machines[i]);
        if (!was_run) printf("skipped: %s\n", machines[i].triple);
        n_run += was_run;
    }
    static const char *const triples[] = {
        "s390x-linux-gnu",       "aarch64_be-none-elf", "i686-linux-gnu",       "armv7eb-none-eabi",
        "powerpc64le-linux-gnu", "riscv32-unknown-elf", "thumbv7em-none-eabihf"};
    for (size_t i = 0; i < sizeof triples / sizeof *triples; i++)
        check_readable(triples[i], "+m,+f");
    CHECK(!weights_has_object("arm64-apple-macosx13", ""));
    CHECK(!weights_has_object("x86_64-pc-windows-msvc", ""));
    CHECK(!weights_has_object("wasm32-unknown-unknown", ""));
    CHECK(weights_has_object("x86_64-unknown-linux-musl", NULL));
    return check_failures ? check_done() : n_run ? 0 : 77;
}
