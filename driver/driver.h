/* The command line: what its files share. main.c turns the exit code of one command into the
 * process's. */
#ifndef SMELT_DRIVER_DRIVER_H
#define SMELT_DRIVER_DRIVER_H

#include "codegen/codegen.h"
#include "frontend/frontend.h"
#include "frontend/mapped.h"
#include "ir/support/map.h"
#include "passes/pass.h"

enum {
    STATUS_GOOD = 0,
    STATUS_MODEL = 1,
    STATUS_USAGE = 2,
    STATUS_UNSUPPORTED = 3,
    STATUS_BUG = 70
};

/* ---- options.c ------------------------------------------------------------------------------- */

typedef enum Command {
#define COMMAND(name, arguments, doc) COMMAND_##name,
#include "driver/options.def"
    COMMAND_NONE /* smelt --version */
} Command;

typedef const char *OptionText;
typedef bool OptionFlag;
typedef struct OptionNumber {
    int64_t value;
    bool given;
} OptionNumber;
typedef VEC(const char *) OptionList;

#define OPTION_TYPE_FLAG   OptionFlag
#define OPTION_TYPE_TEXT   OptionText
#define OPTION_TYPE_CHOICE OptionText
#define OPTION_TYPE_NUMBER OptionNumber
#define OPTION_TYPE_LIST   OptionList

typedef struct Options {
    Command command;
    const char *model; /* NULL when none was given */
    Arena *arena;      /* of the lists */
#define OPTION(field, spelling, kind, argument, commands, help) OPTION_TYPE_##kind field;
#include "driver/options.def"
} Options;

/* Fills o from the command line; false after a message on stderr. */
bool options_parse(Options *o, int argc, char **argv);
/* The help of one command, or of all (COMMAND_NONE), on stdout. */
void options_help(Command c);
/* --list=options: one line for each option. */
void options_list(void);
/* Writes "smelt: " and the text, escaped, to stderr; returns STATUS_USAGE. */
int usage_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* The elements of a comma separated list, in a. */
const char **split_list(Arena *a, const char *list, int *n);

/* ---- session.c ------------------------------------------------------------------------------- */

/* One model on its way through the compiler. */
typedef struct Session {
    const Options *o;
    Diag *d;
    Arena *arena;
    const Target *target;
    Module *m;
    CodegenOptions codegen;
    const Target *host; /* this machine: see session_host() */
    StrMap *folds;             /* signature to CodegenJit */
    struct Tuning *tuning;     /* with --tune or --tune-cache */
    OpFile ops;                /* operators of the user's own */
    MappedFile file;           /* the model, when it is IR text or comes from standard input */
} Session;

/* Finds the target and imports the model. False after messages; session_close either way. */
bool session_open(Session *s, const Options *o);
/* Runs the passes; stop_after, when not NULL, ends them unless the options name other passes. */
bool session_compile(Session *s, const char *stop_after);
/* The passes have come to a finished kernel module; a message when they have not. */
bool session_is_complete(Session *s);
/* The machine that smelt runs on, whatever is compiled for; NULL with a message. */
const Target *session_host(Session *s);
/* Prints the messages, frees everything and gives the exit code: that of the messages or, without
 * any, `otherwise`. */
int session_close(Session *s, int otherwise);
/* Says on stderr what is done now: with -v a line, on a terminal a line that goes away. */
void progress(const Session *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void progress_end(void);

/* ---- versions.c ------------------------------------------------------------------------------ */

typedef struct DimList {
    const char *name;
    VEC(int64_t) values;
    const KExpr *dim; /* what the model has there, once it is read */
    bool is_choice;   /* a version for one value, beside general code */
} DimList;

/* What all --dim say. */
typedef struct DimLists {
    VEC(DimList) at;
    DimOverride *general; /* one for each: fixed where there is one value */
} DimLists;

/* Reads --dim; false after messages. */
bool dims_parse(Session *s, DimLists *lists);
/* Adds a version to the module for each combination of values, if some --dim has several; import is
 * how the module itself was read. */
bool dims_add_versions(Session *s, DimLists *lists, const ImportOptions *import);

/* ---- c_compiler.c ---------------------------------------------------------------------------- */

/* $CC or cc. */
const char *c_compiler(void);
/* Runs it (argv ends with NULL) to its end; false after a message when it failed. */
bool run_compiler(Session *s, const char *const *argv);
/* The folder that holds smelt.h: beside the installed program, or in the source tree it was built
 * from. */
const char *smelt_include_folder(Arena *a);

/* ---- foreign.c ------------------------------------------------------------------------------- */

/* Reads the files of --op-file. */
bool foreign_read(Session *s, OpFile *ops);
/* A C function of the user's that the kernels call, NULL when there is none. */
const char *foreign_function(const Session *s);
/* Makes one object of the files to link (codegen.foreign) when functions in them are called. */
bool foreign_object(Session *s);
/* Loads them into this process and looks every called function up. */
bool foreign_load(Session *s);

/* --blas=openblas. */
bool uses_blas(const Session *s);

/* ---- bug.c ----------------------------------------------------------------------------------- */

/* From now on a bug leaves the last good IR in a file and says how to get there again. */
void bug_report_command(int argc, char **argv);

/* ---- fold.c ---------------------------------------------------------------------------------- */

/* Module.run_kernel: compiles a kernel for this machine and runs it. user is the Session. */
bool fold_kernel(void *user, const Kernel *kn, void *const *bufs, const int64_t *n_elems);
/* Frees what it compiled. */
void fold_end(Session *s);

/* ---- tune.c ---------------------------------------------------------------------------------- */

/* Reads --tune-cache and makes the passes ask it, and measure under --tune. False after
 * messages. */
bool tune_open(Session *s);
/* Writes what was measured into the cache. False after messages. */
bool tune_save(Session *s);
void tune_end(Session *s);

/* ---- machine.c ------------------------------------------------------------------------------- */

/* smelt bench --machine. */
int machine_bench(const Options *o);

/* ---- one file for each command --------------------------------------------------------------- */

int command_compile(const Options *o);
int command_run(const Options *o);
/* smelt run --check-passes */
int command_check_passes(const Options *o);
int command_bench(const Options *o);
int command_info(const Options *o);
int command_check(const Options *o);
int command_list(const Options *o);

#endif
