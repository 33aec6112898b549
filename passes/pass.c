/* The pass driver: the rows of passes.def in order, with the debug options of the command line.
 *
 * The table is the design; this file only walks it. A row runs when its -O level is reached and no
 * option leaves it out; its facts must be there, which only --passes can prevent. The walk ends at
 * the first pass that recorded messages: what comes later may rely on everything before. */
#include "passes/pass.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "ir/parse.h"
#include "ir/print.h"
#include "ir/verify.h"

const PassInfo pass_info[PASS_COUNT] = {
#define PASS(name, level, opt, needs, keeps, doc)                                                  \
    [PASS_##name] = {#name, LEVEL_##level, opt, needs, keeps, doc, pass_##name},
#include "passes/passes.def"
#undef PASS
};

/* Part of the option record: set once per compilation, read by pass_trace and pass_may_rewrite. */
static const char *traced;
static int64_t rewrites_left = -1; /* -1: as many as there are */

/* Is name one of the words of a comma separated list (or the list "all")? */
static bool list_has(const char *list, const char *name) {
    if (!list) return false;
    if (!strcmp(list, "all")) return true;
    size_t n = strlen(name);
    for (const char *word = list; word; word = strchr(word, ',')) {
        word += *word == ',';
        size_t length = strcspn(word, ",");
        if (length == n && !memcmp(word, name, n)) return true;
    }
    return false;
}

int pass_from_name(const char *name) {
    for (int i = 0; i < PASS_COUNT; i++)
        if (!strcmp(pass_info[i].name, name)) return i;
    return -1;
}

bool pass_is_optional(int pass) {
    uint32_t found = FACT_NONE;
    for (int i = 0; i < pass; i++) found |= pass_info[i].keeps;
    return !(pass_info[pass].keeps & ~found);
}

bool pass_may_rewrite(void) {
    return rewrites_left != 0;
}

void pass_count_rewrite(void) {
    if (rewrites_left > 0) rewrites_left--;
}

static bool pass_traces(const char *pass) {
    return list_has(traced, pass);
}

void pass_trace(const char *pass, const Node *node, const char *fmt, ...) {
    if (!pass_traces(pass)) return;
    StrBuf text = {0}, line = {0};
    va_list ap;
    va_start(ap, fmt);
    strbuf_vprintf(&text, fmt, ap);
    va_end(ap);
    strbuf_printf(&line, "%s: ", pass);
    if (node) {
        if (node->loc.node && *node->loc.node)
            strbuf_escaped(&line, node->loc.node, ESC_TERMINAL);
        else
            strbuf_printf(&line, "%%%" PRIu32, node->id);
        strbuf_printf(&line, " (%s): ", op_info[node->op].name);
    }
    strbuf_escaped(&line, strbuf_text(&text), ESC_TERMINAL);
    fprintf(stderr, "%s\n", strbuf_text(&line));
    strbuf_free(&text);
    strbuf_free(&line);
}

static double seconds_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void print_module(StrBuf *out, const Module *m) {
    if (m->kmod)
        print_kmodule(out, m->kmod);
    else if (m->defs)
        print_program(out, m->defs);
    else
        print_graph(out, m->main);
}

/* ---- what is done after a pass --------------------------------------------------------------- */

/* The text of the graph and kernel levels, read back and printed again, must be the same. */
static void check_round_trip(const Module *m, const char *pass) {
    if (m->defs && !m->kmod) return; /* definitions are printed only */
    StrBuf text = {0}, again = {0};
    print_module(&text, m);
    Diag *d = diag_create();
    Module *copy = parse_module_like(strbuf_text(&text), m, d);
    BUG_IF(!copy, "the text after %s cannot be read: %s", pass, diag_message(d, 0));
    print_module(&again, copy);
    BUG_IF(strcmp(strbuf_text(&text), strbuf_text(&again)),
           "the text after %s changes when it is read back", pass);
    module_destroy(copy);
    diag_destroy(d);
    strbuf_free(&text);
    strbuf_free(&again);
}

/* A pass that says it changed nothing must leave the same text. */
static void check_unchanged(const Module *m, const char *pass, const StrBuf *before) {
    StrBuf after = {0};
    print_module(&after, m);
    BUG_IF(strcmp(strbuf_text(before), strbuf_text(&after)),
           "%s changed the module and says that it did not", pass);
    strbuf_free(&after);
}

/* To a numbered file of the dump folder, or to stderr. */
static void dump_module(Module *m, const PassOptions *o, int number, const char *pass,
                        bool changed) {
    StrBuf text = {0};
    if (changed) print_module(&text, m);
    FILE *out = stderr;
    if (o->dump_dir) {
        const char *path = arena_printf(m->scratch, "%s/%02d_%s.ir", o->dump_dir, number, pass);
        out = fopen(path, "w");
        if (!out) diag_error(m->diag, SRC_NOWHERE, "cannot write '%s': %s", path, strerror(errno));
    }
    if (out)
        fprintf(out, "# after %s%s\n%s", pass, changed ? "" : " (unchanged)", strbuf_text(&text));
    if (out && out != stderr && fclose(out))
        diag_error(m->diag, SRC_NOWHERE, "cannot write to '%s'", o->dump_dir);
    strbuf_free(&text);
}

/* ---- the walk -------------------------------------------------------------------------------- */

/* A module that was read as kernels has nothing for the levels before. */
static bool is_wanted(const Module *m, const PassOptions *o, const PassInfo *p) {
    if (p->opt > m->opt || list_has(o->skip, p->name)) return false;
    if (m->kmod && p->level != LEVEL_KERNEL) return false;
    return !o->only || list_has(o->only, p->name);
}

static void run_one(Module *m, const PassOptions *o, int number) {
    const PassInfo *p = &pass_info[number];
    double start = seconds_now();
    size_t before = arena_used_bytes(m->arena);
    bug_context(p->name, SRC_NOWHERE);
    StrBuf text = {0};
    if (o->verify > 1) print_module(&text, m);
    const char *broken = getenv("SMELT_BUG"); /* makes this pass fail, to try what a report says */
    BUG_IF(broken && !strcmp(broken, p->name), "asked for by SMELT_BUG");
    module_guess_sizes(m);
    bool changed = p->run(m);
    m->facts = changed ? p->keeps : m->facts | p->keeps; /* what it keeps it also has found */
    double seconds = seconds_now() - start;
    bool good = !diag_n_errors(m->diag);
    if (good && o->verify > 0) verify_module(m, p->name);
    if (good && o->verify > 1) check_round_trip(m, p->name);
    if (good && o->verify > 1 && !changed) check_unchanged(m, p->name, &text);
    strbuf_free(&text);
    if (good && list_has(o->dump, p->name)) dump_module(m, o, number, p->name, changed);
    bug_context(NULL, SRC_NOWHERE);
    arena_reset(m->scratch);
    if (o->time)
        fprintf(stderr, "%-18s %8.3f s %10.1f MiB%s\n", p->name, seconds,
                (double)(arena_used_bytes(m->arena) - before) / (1 << 20),
                changed ? "" : "  (unchanged)");
}

/* The rows from `first` to before `end`; false after messages. *ends: --stop-after was reached. */
static bool run_rows(Module *m, const PassOptions *o, int first, int end, bool *ends) {
    *ends = false;
    for (int i = first; i < end && !*ends; i++) {
        const PassInfo *p = &pass_info[i];
        if (is_wanted(m, o, p)) {
            if (p->needs & ~m->facts) {
                diag_error(m->diag, SRC_NOWHERE,
                           "pass %s needs what an earlier pass finds: name that one too", p->name);
                return false;
            }
            run_one(m, o, i);
            if (diag_n_errors(m->diag)) return false;
        }
        *ends = o->stop_after && !strcmp(o->stop_after, p->name);
    }
    return true;
}

/* Where the modules of all versions become one. */
static int first_joint_pass(void) {
    int i = 0;
    while (i < PASS_COUNT && pass_info[i].level != LEVEL_LOWER) i++;
    return i;
}

/* The same rows for every version, each after the other: its places in the size table come after
 * those of the modules before it. */
static bool run_versions(Module *m, const PassOptions *o, int end) {
    bool ends, speaks = o->trace || o->dump || o->time;
    uint32_t n_sizes = module_end_of_sizes(m);
    for (uint32_t i = 0; i < m->versions.n; i++) {
        Module *version = m->versions.at[i].m;
        module_place_sizes(version, n_sizes);
        if (!m->size_table) m->size_table = kbuf_new(m->k, MEM_ARENA, DT_I64, "sizes", NULL);
        version->size_table = m->size_table;
        if (speaks) fprintf(stderr, "# version %s\n", m->versions.at[i].name);
        if (!run_rows(version, o, 0, end, &ends)) {
            diag_error(m->diag, SRC_NOWHERE, "this was found for %s", m->versions.at[i].name);
            return false;
        }
        n_sizes = module_end_of_sizes(version);
    }
    return true;
}

bool run_passes(Module *m, const PassOptions *o) {
    bool ends;
    int joint = first_joint_pass();
    traced = o->trace;
    rewrites_left = o->limit_rewrites ? o->max_rewrites : -1;
    if (!run_rows(m, o, 0, joint, &ends) || !run_versions(m, o, joint)) return false;
    return ends || run_rows(m, o, joint, PASS_COUNT, &ends);
}
