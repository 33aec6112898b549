/* The system's C compiler, as a program: links shared libraries, and compiles rendered C for smelt
 * run. */
#include <errno.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "driver/driver.h"

extern char **environ; /* POSIX leaves the declaration to the program */

const char *c_compiler(void) {
    const char *cc = getenv("CC");
    return cc && *cc ? cc : "cc";
}

bool run_compiler(Session *s, const char *const *argv) {
    pid_t child;
    int status = -1, why = posix_spawnp(&child, argv[0], NULL, NULL, (char *const *)argv, environ);
    while (!why && waitpid(child, &status, 0) < 0 && errno == EINTR) continue;
    if (!why && WIFEXITED(status) && !WEXITSTATUS(status)) return true;
    diag_error(s->d, SRC_NOWHERE, "the C compiler '%s' (named by $CC) failed%s%s", argv[0],
               why ? ": " : "", why ? strerror(why) : "");
    return false;
}

const char *smelt_include_folder(Arena *a) {
    char self[4096];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n > 0) {
        self[n] = 0;
        char *slash = strrchr(self, '/');
        if (slash) *slash = 0;
        const char *folder = arena_printf(a, "%s/../include", self);
        if (!access(arena_printf(a, "%s/smelt.h", folder), R_OK)) return folder;
    }
    return SMELT_INCLUDE_FOLDER;
}
