/* Guards output files: whole or not at all. Old contents survive every failure, nothing is left
 * beside the path, links are followed, modes kept, and a full disk is an error with the file's
 * name. */
#include "codegen/output.h"
#include "check.h"
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int run(const char *command) {
    fflush(stdout);
    return system(command);
}

static int holds(const char *path, const char *text) {
    char read[100] = {0};
    FILE *f = fopen(path, "rb");
    if (!f) return 0;
    size_t n = fread(read, 1, sizeof read - 1, f);
    fclose(f);
    return n == strlen(text) && strcmp(read, text) == 0;
}

/* Writes text to path; what was reported must contain `expected`, or NULL: must succeed. */
static void check_write(const char *path, const char *text, const char *expected) {
    StrBuf error = {0};
    Output *o = output_open(path);
    output_text(o, text);
    bool good = output_finish(o, &error);
    if (!CHECK(good == !expected) || !CHECK(good || strstr(strbuf_text(&error), expected)))
        printf("%s: %s\n", path, strbuf_text(&error));
    CHECK(good || strstr(strbuf_text(&error), path));
    strbuf_free(&error);
}

static void check_replace(void) {
    check_write("t/new", "first", NULL);
    CHECK(holds("t/new", "first"));
    chmod("t/new", 0640);
    Output *o = output_open("t/new");
    output_text(o, "second");
    CHECK(holds("t/new", "first"));
    output_discard(o);
    CHECK(holds("t/new", "first"));
    check_write("t/new", "third", NULL);
    struct stat s;
    CHECK(holds("t/new", "third") && stat("t/new", &s) == 0 && (s.st_mode & 0777) == 0640);
    CHECK(symlink("new", "t/link") == 0);
    check_write("t/link", "fourth", NULL);
    CHECK(holds("t/new", "fourth") && lstat("t/link", &s) == 0 && S_ISLNK(s.st_mode));
    output_discard(NULL);
}

static void check_failures_keep(void) {
    check_write("t", "x", "Is a directory");
    check_write("t/none/x", "x", "No such file");
    check_write("t/new/x", "x", "Not a directory");
    if (access("/dev/full", W_OK) == 0) check_write("/dev/full", "x", "No space left");
    if (geteuid() != 0) {
        chmod("t/new", 0440);
        check_write("t/new", "x", "Permission denied");
        chmod("t/new", 0640);
        chmod("t", 0555);
        check_write("t/new", "x", "Permission denied");
        chmod("t", 0755);
    }
    CHECK(holds("t/new", "fourth"));
    StrBuf error = {0};
    Output *pair[] = {output_open("t/new"), output_open("t")};
    output_text(pair[0], "fifth");
    CHECK(!output_finish_all(pair, 2, &error));
    CHECK(holds("t/new", "fourth"));
    strbuf_free(&error);
}

static void check_patch(void) {
    StrBuf error = {0};
    Output *o = output_open("t/patched");
    output_zeros(o, 100000);
    output_text(o, "end");
    output_patch(o, 99998, "12345", 5);
    output_patch(o, 0, "start", 5);
    CHECK(output_offset(o) == 100003 && output_is_good(o));
    CHECK(output_finish(o, &error));
    strbuf_free(&error);
    CHECK(run("test \"$(head -c 5 t/patched)$(tail -c 5 t/patched)\" = start12345") == 0);
    CHECK(run("test $(wc -c <t/patched) = 100003") == 0);
}

int main(void) {
    if (run("rm -rf t && mkdir t") != 0) return 1;
    check_replace();
    check_failures_keep();
    check_patch();
    CHECK(run("test -z \"$(find . -name '.smelt-*')\"") == 0);
    return check_done();
}
