/* The command line: what its files share. main.c turns the exit code of one command into the process's. */
#ifndef SMELT_DRIVER_DRIVER_H
#define SMELT_DRIVER_DRIVER_H

#include "codegen/codegen.h"
#include "frontend/frontend.h"
#include "passes/pass.h"

enum { STATUS_GOOD = 0, STATUS_MODEL = 1, STATUS_USAGE = 2, STATUS_UNSUPPORTED = 3, STATUS_BUG = 70 };

/* ---- options.c ----------------------------------------------------------------------------------- */

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

/* ---- session.c ----------------------------------------------------------------------------------- */

/* One model on its way through the compiler. */
typedef struct Session {
    const Options *o;
    Diag *d;
    Arena *arena;
    const Target *target;
    Module *m;
    CodegenOptions codegen;
} Session;

/* Finds the target and imports the model. False after messages; session_close either way. */
bool session_open(Session *s, const Options *o);
/* Runs the passes. */
bool session_compile(Session *s);
/* Prints the messages, frees everything and gives the exit code: that of the messages or, without any,
 * `otherwise`. */
int session_close(Session *s, int otherwise);
/* Says on stderr what is done now: with -v a line, on a terminal a line that goes away. */
void progress(const Session *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void progress_end(void);

/* ---- one file for each command ------------------------------------------------------------------- */

int command_compile(const Options *o);
int command_run(const Options *o);
int command_bench(const Options *o);
int command_info(const Options *o);
int command_check(const Options *o);
int command_list(const Options *o);

#endif
