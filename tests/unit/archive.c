/* Guards the archive writer against the tools that read archives: GNU ar and nm list what was put
 * in, the linker finds members through both index widths, two writes give the same bytes, and
 * llvm-nm reads the Darwin form where it is installed. */
#include "codegen/archive.h"
#include "check.h"
#include <stdlib.h>
#include <string.h>

static const char *const function_sources[][2] = {
    {"one.o", "int one(void) { return 1; }"},
    {"a-member-with-quite-a-long-name.o", "int one(void); int two(void) { return one() + one(); }"},
    {"sixteen_chars.ob", "int three(void) { return 3; }"},
};
static const char *const function_names[][1] = {{"one"}, {"two"}, {"three"}};
enum { N_MEMBERS = 3 };

static ArchiveMember members[N_MEMBERS];

static int run(const char *command) {
    fflush(stdout);
    return system(command);
}

/* Standard output of a command; valid until the next call. */
static const char *output_of(const char *command) {
    static char text[1 << 14];
    size_t n = 0;
    FILE *f = popen(command, "r");
    if (CHECK(f != NULL)) {
        n = fread(text, 1, sizeof text - 1, f);
        CHECK(pclose(f) == 0);
    }
    text[n] = 0;
    return text;
}

static void *load(const char *path, size_t *n) {
    FILE *f = fopen(path, "rb");
    char *bytes = calloc(1, 1 << 20);
    *n = f && bytes ? fread(bytes, 1, 1 << 20, f) : 0;
    if (f) fclose(f);
    return bytes;
}

static void compile_members(void) {
    for (int i = 0; i < N_MEMBERS; i++) {
        FILE *f = fopen("member.c", "w");
        if (!CHECK(f != NULL)) exit(1);
        fprintf(f, "%s\n", function_sources[i][1]);
        fclose(f);
        CHECK(run("cc -c member.c -o member.o") == 0);
        size_t n;
        void *bytes = load("member.o", &n);
        members[i] =
            (ArchiveMember){function_sources[i][0], n, bytes, NULL, NULL, function_names[i], 1};
    }
}

static void write_archive(const char *path, ArchiveFormat format, uint64_t limit, size_t n) {
    StrBuf error = {0};
    Output *o = output_open(path);
    archive_write_limit(o, format, members, n, limit);
    if (!CHECK(output_finish(o, &error))) printf("%s\n", strbuf_text(&error));
    strbuf_free(&error);
}

static void check_gnu(uint64_t limit) {
    write_archive("libt.a", ARCHIVE_GNU, limit, N_MEMBERS);
    const char *list = output_of("ar t libt.a");
    CHECK(strcmp(list, "one.o\na-member-with-quite-a-long-name.o\nsixteen_chars.ob\n") == 0);
    const char *index = output_of("nm -s libt.a");
    CHECK(strstr(index, "one in one.o\n") && strstr(index, "three in sixteen_chars.ob\n"));
    CHECK(strstr(index, "two in a-member-with-quite-a-long-name.o\n"));
    CHECK(run("mkdir -p x && cd x && ar x ../libt.a && ar p ../libt.a one.o | cmp - one.o") == 0);
    FILE *f = fopen("main.c", "w");
    if (!CHECK(f != NULL)) return;
    fputs("int two(void); int three(void); int main(void) { return two() + three() - 5; }\n", f);
    fclose(f);
    CHECK(run("cc main.c libt.a -o main && ./main") == 0);
    if (run("command -v ld.lld >/dev/null 2>&1") == 0)
        CHECK(run("cc -fuse-ld=lld main.c libt.a -o main && ./main") == 0);
    CHECK(strstr(output_of("ar tvO libt.a"), "rw-r--r-- 0/0") != NULL);
}

static void check_same_bytes(void) {
    write_archive("a.a", ARCHIVE_GNU, UINT32_MAX, N_MEMBERS);
    write_archive("b.a", ARCHIVE_GNU, UINT32_MAX, N_MEMBERS);
    CHECK(run("cmp a.a b.a") == 0);
    write_archive("wide.a", ARCHIVE_GNU, 0, N_MEMBERS);
    size_t n;
    char *bytes = load("wide.a", &n);
    CHECK(n > 16 && memcmp(bytes, "!<arch>\n/SYM64/", 15) == 0);
    free(bytes);
    write_archive("none.a", ARCHIVE_GNU, UINT32_MAX, 0);
    CHECK(strcmp(output_of("ar t none.a"), "") == 0);
}

static void check_darwin(void) {
    write_archive("mac.a", ARCHIVE_DARWIN, UINT32_MAX, N_MEMBERS);
    write_archive("wide_mac.a", ARCHIVE_DARWIN, 0, N_MEMBERS);
    size_t n;
    char *bytes = load("mac.a", &n);
    CHECK(n % 8 == 0 && memcmp(bytes + 8, "#1/12 ", 6) == 0);
    CHECK(memcmp(bytes + 68, "__.SYMDEF\0\0\0", 12) == 0);
    free(bytes);
    static const char *const archives[] = {"mac.a", "wide_mac.a"};
    if (run("command -v llvm-nm-19 >/dev/null 2>&1") != 0) return;
    for (int i = 0; i < 2; i++) {
        char command[100];
        snprintf(command, sizeof command, "llvm-nm-19 --print-armap %s", archives[i]);
        const char *index = output_of(command);
        CHECK(strstr(index, "one in one.o\n") && strstr(index, "three in sixteen_chars.ob\n"));
        CHECK(strstr(index, "two in a-member-with-quite-a-long-name.o\n"));
        snprintf(command, sizeof command, "llvm-ar-19 t %s | tail -n 1", archives[i]);
        CHECK(strcmp(output_of(command), "sixteen_chars.ob\n") == 0);
    }
}

int main(void) {
    if (run("command -v cc ar nm >/dev/null 2>&1") != 0) return 77;
    compile_members();
    check_gnu(UINT32_MAX);
    check_gnu(0);
    check_same_bytes();
    check_darwin();
    CHECK(archive_format("arm64-apple-macosx13") == ARCHIVE_DARWIN);
    CHECK(archive_format("x86_64-unknown-linux-gnu") == ARCHIVE_GNU);
    CHECK(archive_format("x86_64-pc-windows-msvc") == ARCHIVE_GNU);
    for (int i = 0; i < N_MEMBERS; i++) free((void *)members[i].bytes);
    return check_done();
}
