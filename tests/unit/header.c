/* Guards what users include: smelt.h alone is clean C99, C11 and C++17, before and after the header
 * of a model, whose declarations docs/abi.md prescribes. */
#include "check.h"
#include <stdlib.h>

static const char model_header[] = "#ifndef SMELT_MODEL_DECLARED\n"
                                   "#define SMELT_MODEL_DECLARED\n"
                                   "typedef struct smelt_model smelt_model;\n"
                                   "#endif\n"
                                   "extern const smelt_model net_model;\n";

static void write_source(const char *path, const char *first, const char *second) {
    FILE *f = fopen(path, "w");
    if (!CHECK(f != NULL)) exit(1);
    fprintf(f, "%s%sint use(void);\nint use(void) { return (int)net_model.n_inputs + SMELT_OK; }\n",
            first, second);
    fclose(f);
}

static void compile(const char *compiler, const char *source) {
    char command[1000];
    snprintf(command, sizeof command,
             "%s -pedantic -Wall -Wextra -Wshadow -Werror -I'%s/runtime/include' -c %s -o header.o",
             compiler, SMELT_SOURCE_DIR, source);
    fflush(stdout);
    if (!CHECK(system(command) == 0)) printf("%s\n", command);
}

int main(void) {
    if (system("command -v cc >/dev/null 2>&1") != 0) return 77;
    write_source("a.c", "#include <smelt.h>\n", model_header);
    write_source("b.c", model_header, "#include <smelt.h>\n");
    compile("cc -std=c99", "a.c");
    compile("cc -std=c99", "b.c");
    compile("cc -std=c11", "a.c");
    if (system("command -v c++ >/dev/null 2>&1") == 0) {
        compile("c++ -x c++ -std=c++17", "a.c");
        compile("c++ -x c++ -std=c++17", "b.c");
    }
    return check_done();
}
