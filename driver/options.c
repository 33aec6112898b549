/* The parser of the command line and its help, both driven by the rows of options.def. */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "driver/driver.h"

enum {
    C = 1 << COMMAND_compile,
    R = 1 << COMMAND_run,
    B = 1 << COMMAND_bench,
    I = 1 << COMMAND_info,
    K = 1 << COMMAND_check,
    NONE = 1 << COMMAND_NONE,
    MODEL = C | R | B | I,
    ALL = MODEL | K
};

typedef enum { FLAG, TEXT, NUMBER, CHOICE, LIST } OptionKind;

typedef struct OptionRow {
    const char *spelling;
    OptionKind kind;
    const char *argument;
    int commands;
    const char *help;
    size_t at; /* of the field in Options */
} OptionRow;

static const OptionRow rows[] = {
#define OPTION(field, spelling, kind, argument, commands, help)                                    \
    {spelling, kind, argument, commands, help, offsetof(Options, field)},
#include "driver/options.def"
};
enum { N_ROWS = sizeof rows / sizeof *rows };

static const struct {
    const char *name, *arguments, *doc;
} commands[] = {
#define COMMAND(name, arguments, doc) {#name, arguments, doc},
#include "driver/options.def"
    {"", "", ""}, /* COMMAND_NONE */
};

int usage_error(const char *fmt, ...) {
    StrBuf text = {0}, line = {0};
    va_list ap;
    va_start(ap, fmt);
    strbuf_vprintf(&text, fmt, ap);
    va_end(ap);
    strbuf_escaped(&line, strbuf_text(&text), ESC_TERMINAL);
    fprintf(stderr, "smelt: %s\n", strbuf_text(&line));
    strbuf_free(&text);
    strbuf_free(&line);
    return STATUS_USAGE;
}

const char **split_list(Arena *a, const char *list, int *n) {
    int cap = 1;
    for (const char *s = list; s && *s; s++) cap += *s == ',';
    const char **words = arena_array(a, const char *, cap);
    *n = 0;
    if (!list) return words;
    for (char *copy = arena_strdup(a, list), *rest = copy, *word; (word = strsep(&rest, ","));)
        if (*word) words[(*n)++] = word;
    return words;
}

/* ---- parsing --------------------------------------------------------------------------------- */

/* Is word one of "a|b|c"? */
static bool is_choice(const char *choices, const char *word) {
    size_t n = strlen(word);
    for (const char *c = choices; c; c = strchr(c, '|')) {
        c += *c == '|';
        if (strcspn(c, "|") == n && !memcmp(c, word, n)) return true;
    }
    return false;
}

/* "0..3": the number is in this range; other texts ("N") bound nothing. */
static bool is_in_range(const char *range, int64_t v) {
    int64_t lo, hi;
    return sscanf(range, "%" SCNd64 "..%" SCNd64, &lo, &hi) != 2 || (v >= lo && v <= hi);
}

static bool set_value(Options *o, const OptionRow *r, const char *value) {
    void *field = (char *)o + r->at;
    switch (r->kind) {
    case FLAG: *(OptionFlag *)field = true; return true;
    case TEXT: *(OptionText *)field = value; return true;
    case CHOICE:
        if (!is_choice(r->argument, value)) {
            usage_error("%s takes %s, not '%s'", r->spelling, r->argument, value);
            return false;
        }
        *(OptionText *)field = value;
        return true;
    case LIST: vec_push(o->arena, (OptionList *)field, value); return true;
    case NUMBER: break;
    }
    char *end;
    errno = 0;
    long long v = strtoll(value, &end, 10);
    if (errno || end == value || *end || v < 0 || !is_in_range(r->argument, v)) {
        usage_error("%s takes a number (%s), not '%s'", r->spelling, r->argument, value);
        return false;
    }
    *(OptionNumber *)field = (OptionNumber){v, true};
    return true;
}

/* The row of a word like --emit=c or -O3 for this command; *value gets what is attached, or NULL.
 */
static const OptionRow *find_row(const char *word, int command, const char **value,
                                 const OptionRow **elsewhere) {
    bool is_long = word[1] == '-';
    size_t n = is_long ? strcspn(word, "=") : 2;
    *elsewhere = NULL;
    for (int i = 0; i < N_ROWS; i++) {
        if (strlen(rows[i].spelling) != n || memcmp(rows[i].spelling, word, n)) continue;
        if (rows[i].commands & command) {
            *value = word[n] ? word + n + is_long : NULL;
            return &rows[i];
        }
        *elsewhere = &rows[i];
    }
    return NULL;
}

static bool unknown_option(const char *word, Command c, const OptionRow *elsewhere) {
    const char *name = c == COMMAND_NONE ? "" : commands[c].name;
    for (int i = 0; elsewhere && i < COMMAND_NONE; i++)
        if (elsewhere->commands & 1 << i) {
            usage_error("'smelt %s' does not take %s, 'smelt %s' does", name, elsewhere->spelling,
                        commands[i].name);
            return false;
        }
    usage_error("unknown option '%s' (smelt%s%s --help lists the options)", word, *name ? " " : "",
                name);
    return false;
}

static bool parse_option(Options *o, int argc, char **argv, int *i) {
    const char *word = argv[*i], *value = NULL;
    const OptionRow *elsewhere, *r = find_row(word, 1 << o->command, &value, &elsewhere);
    if (!r && o->command == COMMAND_compile) r = find_row(word, NONE, &value, &elsewhere);
    if (!r) return unknown_option(word, o->command, elsewhere);
    if (r->kind == FLAG && value) {
        usage_error("%s takes no value", r->spelling);
        return false;
    }
    if (r->kind != FLAG && !value) {
        if (*i + 1 >= argc) {
            usage_error("%s needs a value: %s", r->spelling, r->argument);
            return false;
        }
        value = argv[++*i];
    }
    return set_value(o, r, value);
}

static bool check_passes(const Options *o) {
    const char *lists[] = {o->only, o->skip, o->stop_after, o->dump, o->trace};
    for (size_t l = 0; l < sizeof lists / sizeof *lists; l++) {
        int n;
        const char **names = split_list(o->arena, lists[l], &n);
        for (int i = 0; i < n; i++)
            if (pass_from_name(names[i]) < 0 && !(l >= 3 && !strcmp(names[i], "all"))) {
                usage_error("there is no pass '%s' (smelt --list=passes)", names[i]);
                return false;
            }
    }
    return true;
}

bool options_parse(Options *o, int argc, char **argv) {
    int i = 1;
    o->command = COMMAND_compile;
    for (int c = 0; argc > 1 && c < COMMAND_NONE; c++)
        if (!strcmp(argv[1], commands[c].name)) {
            o->command = (Command)c;
            i = 2;
        }
    bool only_words = false;
    for (; i < argc; i++) {
        if (!only_words && !strcmp(argv[i], "--")) {
            only_words = true;
        } else if (!only_words && argv[i][0] == '-' && argv[i][1]) {
            if (!parse_option(o, argc, argv, &i)) return false;
        } else if (o->model) {
            usage_error("one model at a time: '%s' and '%s' were given", o->model, argv[i]);
            return false;
        } else {
            o->model = argv[i];
        }
    }
    return check_passes(o);
}

/* ---- help ------------------------------------------------------------------------------------ */

static void print_row(const OptionRow *r) {
    char left[80];
    const char *gap = !*r->argument || r->kind == FLAG ? "" : r->spelling[1] == '-' ? "=" : " ";
    if (!strcmp(r->spelling, "-O")) gap = "";
    snprintf(left, sizeof left, "%s%s%s", r->spelling, gap, r->argument);
    if (strlen(left) <= 22)
        printf("  %-22s  %s\n", left, r->help);
    else
        printf("  %s\n  %-22s  %s\n", left, "", r->help);
}

static void print_options(int mask, const char *title) {
    printf("\n%s\n", title);
    for (int i = 0; i < N_ROWS; i++)
        if (rows[i].commands & mask) print_row(&rows[i]);
}

void options_help(Command c) {
    if (c != COMMAND_NONE) {
        printf("usage: smelt %s %s [OPTION]...\n%s\n", commands[c].name, commands[c].arguments,
               commands[c].doc);
        print_options(1 << c, "Options:");
        return;
    }
    printf("smelt compiles trained networks (ONNX) to native code.\n\nusage: smelt [COMMAND] MODEL "
           "[OPTION]...\n\nCommands:\n");
    for (int i = 0; i < COMMAND_NONE; i++)
        printf("  %-8s  %s\n", commands[i].name, commands[i].doc);
    print_options(C, "Options of smelt compile:");
    print_options(NONE, "Without a model:");
    printf("\nEach command has a --help of its own.\n"
           "Exit status: 0 good, 1 bad model or data, 2 bad command line, 3 not supported, 70 a "
           "bug of smelt's.\n");
}

void options_list(void) {
    for (int i = 0; i < N_ROWS; i++) print_row(&rows[i]);
}
