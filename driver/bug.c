/* What is left behind when the compiler stops at a bug of its own.
 *
 * Until then nothing is printed or kept for it. The same command is run once more in a child, up to
 * the pass before the one that failed, and what it dumps is the last good IR:
 *
 *     smelt: the IR before fuse_stages is in smelt-bug-fuse_stages.ir
 *     smelt: to get there again: smelt net.onnx -O3 --stop-after=fuse_stages */
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "driver/driver.h"
#include "ir/support/str.h"

extern char **environ;

static const char *program;
static char **arguments; /* of main */
static int n_arguments;

/* Runs the command up to the pass `last`, its dump to the file; false when that fails. */
static bool dump_before(const char *last, const char *file) {
    Arena *a = arena_create();
    char **argv = arena_array(a, char *, (size_t)n_arguments + 3);
    memcpy(argv, arguments, (size_t)n_arguments * sizeof *argv);
    argv[n_arguments] = arena_printf(a, "--stop-after=%s", last);
    argv[n_arguments + 1] = arena_printf(a, "--dump=%s", last);
    posix_spawn_file_actions_t to_file;
    posix_spawn_file_actions_init(&to_file);
    posix_spawn_file_actions_addopen(&to_file, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_addopen(&to_file, STDERR_FILENO, file, O_WRONLY | O_CREAT | O_TRUNC,
                                     0666);
    pid_t child;
    int status = -1;
    bool started = !posix_spawn(&child, program, &to_file, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&to_file);
    arena_destroy(a);
    return started && waitpid(child, &status, 0) == child && WIFEXITED(status) &&
           WEXITSTATUS(status) != STATUS_BUG;
}

static void report(const char *pass) {
    int number = pass ? pass_from_name(pass) : -1;
    if (number < 0) return;
    StrBuf file = {0}, again = {0};
    strbuf_printf(&file, "smelt-bug-%s.ir", pass);
    if (number > 0 && dump_before(pass_info[number - 1].name, strbuf_text(&file)))
        fprintf(stderr, "smelt: the IR before %s is in %s\n", pass, strbuf_text(&file));
    for (int i = 0; i < n_arguments; i++) {
        strbuf_escaped(&again, arguments[i], ESC_TERMINAL);
        strbuf_add(&again, " ");
    }
    fprintf(stderr, "smelt: to get there again: %s--stop-after=%s\n", strbuf_text(&again), pass);
    strbuf_free(&file);
    strbuf_free(&again);
}

void bug_report_command(int argc, char **argv) {
    program = "/proc/self/exe";
    arguments = argv;
    n_arguments = argc;
    bug_set_reporter(report);
}
