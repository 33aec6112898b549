/* smelt compile: the whole compiler on one page: import, passes, code, files. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "codegen/c/c.h"
#include "codegen/output.h"
#include "driver/driver.h"
#include "ir/foreign.h"
#include "smelt.h"

/* ---- names of files -------------------------------------------------------------------------- */

static bool emits(const Session *s, const char *kind) {
    return !strcmp(s->o->emit ? s->o->emit : "lib", kind);
}

/* -o, or prefix NAME suffix in the current folder. */
static const char *output_path(const Session *s, const char *prefix, const char *suffix) {
    return s->o->output ? s->o->output
                        : arena_printf(s->arena, "%s%s%s", prefix, s->m->name, suffix);
}

/* NAME.h and NAME.weights lie where the output is. */
static const char *beside(const Session *s, const char *path, const char *suffix) {
    const char *slash = strrchr(path, '/');
    return arena_printf(s->arena, "%.*s%s%s", slash ? (int)(slash + 1 - path) : 0, path, s->m->name,
                        suffix);
}

static CodegenPaths paths_beside(const Session *s, const char *archive, const char *path) {
    CodegenPaths p = {.archive = archive, .header = beside(s, path, ".h")};
    if (s->codegen.weights_file) p.weights = beside(s, path, ".weights");
    return p;
}

/* Standard output may be a file that others write to as well: no output.c, which would replace
 * it. */
static bool print_text(Session *s, const StrBuf *text) {
    fwrite(strbuf_text(text), 1, text->n, stdout);
    if (!fflush(stdout) && !ferror(stdout)) return true;
    diag_error(s->d, SRC_NOWHERE, "cannot write to standard output: %s", strerror(errno));
    return false;
}

static bool write_text(Session *s, const char *path, const StrBuf *text) {
    if (!strcmp(path, "-")) return print_text(s, text);
    Output *o = output_open(path);
    output_write(o, strbuf_text(text), text->n);
    StrBuf error = {0};
    bool good = output_finish(o, &error);
    if (!good) diag_error(s->d, SRC_NOWHERE, "%s", strbuf_text(&error));
    strbuf_free(&error);
    return good;
}

/* ---- kinds of output ------------------------------------------------------------------------- */

static bool emit_library(Session *s) {
    const char *path = output_path(s, "lib", ".a");
    if (!foreign_object(s)) return false;
    return codegen_llvm_library(s->m->kmod, s->target, &s->codegen, paths_beside(s, path, path),
                                s->d);
}

static bool emit_object(Session *s) {
    const char *path = output_path(s, "", ".o");
    return codegen_llvm_object(s->m->kmod, s->target, &s->codegen, path, s->d) &&
           codegen_llvm_library(s->m->kmod, s->target, &s->codegen, paths_beside(s, NULL, path),
                                s->d);
}

static bool emit_text(Session *s, CodegenText what, const char *suffix) {
    StrBuf text = {0};
    bool good = codegen_llvm_text(s->m->kmod, s->target, &s->codegen, what, &text, s->d) &&
                write_text(s, output_path(s, "", suffix), &text);
    strbuf_free(&text);
    return good;
}

/* The archive becomes a shared object through the system's compiler; it is renamed when it is
 * whole. */
static bool emit_shared(Session *s) {
    const char *path = output_path(s, "lib", ".so");
    char *archive = arena_printf(s->arena, "%s.tmp.%ld.a", path, (long)getpid());
    char *made = arena_printf(s->arena, "%s.tmp.%ld.so", path, (long)getpid());
    const char *const argv[] = {
        c_compiler(),
        "-shared",
        "-o",
        made,
        "-Wl,--whole-archive",
        archive,
        "-Wl,--no-whole-archive",
        "-Wl,--build-id=none",
        "-Wl,-Bsymbolic",
        arena_printf(s->arena, "-Wl,-soname,%s",
                     strrchr(path, '/') ? strrchr(path, '/') + 1 : path),
        arena_printf(s->arena, "-Wl,--defsym=%s=%s_model", SMELT_SHARED_SYMBOL, s->m->name),
        uses_blas(s) ? foreign_info[FOREIGN_blas].link : NULL,
        NULL};
    bool good = foreign_object(s) &&
                codegen_llvm_library(s->m->kmod, s->target, &s->codegen,
                                     paths_beside(s, archive, path), s->d) &&
                run_compiler(s, argv);
    if (good && rename(made, path)) {
        diag_error(s->d, SRC_NOWHERE, "cannot write '%s': %s", path, strerror(errno));
        good = false;
    }
    unlink(archive);
    unlink(made);
    return good;
}

/* IR text: of the level that was reached. */
static bool emit_ir(Session *s) {
    StrBuf text = {0};
    print_module(&text, s->m);
    bool good = write_text(s, output_path(s, "", ".ir"), &text);
    strbuf_free(&text);
    return good;
}

static bool emit_c(Session *s) {
    const char *path = output_path(s, "", ".c");
    CodegenPaths p = paths_beside(s, NULL, path);
    return codegen_c_library(s->m->kmod, s->target, &s->codegen,
                             (CodegenCPaths){path, p.header, p.weights}, s->d);
}

static bool emit_output(Session *s) {
    if (emits(s, "graph") || emits(s, "program") || emits(s, "kernel")) return emit_ir(s);
    if (!session_is_complete(s)) return false;
    progress(s, "generating code");
    if (emits(s, "shared")) return emit_shared(s);
    if (emits(s, "obj")) return emit_object(s);
    if (emits(s, "asm")) return emit_text(s, TEXT_ASSEMBLY, ".s");
    if (emits(s, "llvm")) return emit_text(s, TEXT_LLVM, ".ll");
    if (emits(s, "c")) return emit_c(s);
    return emit_library(s);
}

/* --emit=graph and --emit=program end where their level does. */
static const char *last_pass(PassLevel level) {
    const char *last = NULL;
    for (int i = 0; i < PASS_COUNT; i++)
        if (pass_info[i].level == level) last = pass_info[i].name;
    return last;
}

int command_compile(const Options *o) {
    Session s;
    const char *last = NULL;
    if (o->emit && !strcmp(o->emit, "graph")) last = last_pass(LEVEL_GRAPH);
    if (o->emit && !strcmp(o->emit, "program")) last = last_pass(LEVEL_DEF);
    bool good = session_open(&s, o) && session_compile(&s, last) && frontend_is_intact(s.m, s.d) &&
                emit_output(&s);
    return session_close(&s, good ? STATUS_GOOD : STATUS_MODEL);
}
