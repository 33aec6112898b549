/* smelt: the command line. argv to exit code; the one place where the process is given its status.
 */
#include <stdio.h>
#include <string.h>

#include "driver/driver.h"

typedef int CommandFn(const Options *o);

static CommandFn *const command_fn[] = {
#define COMMAND(name, arguments, doc) [COMMAND_##name] = command_##name,
#include "driver/options.def"
};

static int run_command(const Options *o) {
    if (o->help) {
        options_help(o->command == COMMAND_compile && !o->model ? COMMAND_NONE : o->command);
        return STATUS_GOOD;
    }
    if (o->version) {
        printf("smelt %s\n", SMELT_VERSION);
        return STATUS_GOOD;
    }
    if (o->list) return command_list(o);
    if (o->machine) return machine_bench(o);
    if (!o->model) return usage_error("which model? (smelt --help)");
    return command_fn[o->command](o);
}

int main(int argc, char **argv) {
    bug_report_command(argc, argv);
    Options o = {.arena = arena_create()};
    int status = options_parse(&o, argc, argv) ? run_command(&o) : STATUS_USAGE;
    arena_destroy(o.arena);
    if (fflush(stdout) || ferror(stdout)) {
        perror("smelt: standard output");
        return status ? status : STATUS_MODEL;
    }
    return status;
}
