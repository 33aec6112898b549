/* A model as one C file: intro, includes, prelude, constants, kernels, entry. */
#include "codegen/c/c_gen.h"

#include <stdlib.h>
#include <string.h>

#include "codegen/weights.h"

const char *c_kernel_name(CGen *g, const Kernel *kn) {
    return strmap_get_bytes(g->kernel_names, (const char *)&kn, sizeof kn);
}

static void name_kernels(CGen *g) {
    g->kernel_names = NULL;
    StrMap *names = strmap_create(g->a);
    c_begin_names(g);
    for (uint32_t i = 0; i < g->m->n_kernels; i++) {
        const char *name = c_fresh_name(g, g->m->kernels[i]->name);
        const Kernel **key = arena_copy(g->a, &g->m->kernels[i], sizeof *key);
        strmap_put_bytes(names, (const char *)key, sizeof *key, (void *)(uintptr_t)name);
    }
    g->kernel_names = names;
}

static void open_gen(CGen *g, const KModule *m, const Target *t, const CodegenOptions *o) {
    *g = (CGen){.m = m, .t = t, .o = o, .a = arena_create()};
    g->used = arena_array(g->a, uint8_t, kctx_n_vars(m->k) + 1);
    name_kernels(g);
}

static void close_gen(CGen *g) {
    strbuf_free(&g->out);
    free(g->note);
    arena_destroy(g->a);
}

static const char pragma[] =
    "#include <float.h>\n#include <math.h>\n#include <stddef.h>\n#include <stdint.h>\n%s\n"
    "/* gcc needs -ffp-contract=off (which -std=c99 implies), others heed this: */\n"
    "#if defined(__clang__) || !defined(__GNUC__)\n#pragma STDC FP_CONTRACT OFF\n#endif\n"
    /* seen with gcc 12 -O3: two reduction loops around one float sum change places */
    "/* gcc's loop interchange, part of -O3, would add up floats in another order: */\n"
    "#if defined(__GNUC__) && !defined(__clang__)\n#pragma GCC optimize "
    "(\"no-loop-interchange\")\n#endif\n"
    "#if FLT_EVAL_METHOD > 0\n"
    "#error \"float must be computed as float (gcc for 32-bit x86: -msse2 "
    "-mfpmath=sse)\"\n#endif\n\n";

static void print_intro(const CGen *g, StrBuf *out) {
    const KModule *m = g->m;
    strbuf_printf(
        out,
        "/* %s.c: written by smelt " SMELT_VERSION
        ". C99, no extensions; math.h is all it needs of a\n"
        " * library. Compile it with -O2 -ffp-contract=off and never with -ffast-math; with gcc,\n"
        " * -fno-math-errno and -fno-trapping-math let it vectorise more and change no result.\n",
        m->name);
    if (m->n_kernels)
        strbuf_printf(
            out, " *\n * One function per kernel, then the entry: %s_run calls them in order.\n",
            m->name);
    strbuf_add(out, " */\n");
    const char *own = arena_printf(g->a, "%s\n#include \"smelt.h\"\n#include \"%s.h\"\n",
                                   m->n_heap ? "#include <string.h>\n" : "", m->name);
    strbuf_printf(out, pragma, own);
}

static bool is_called(const KBlock *b, const Kernel *kn) {
    for (const KStmt *s = b->first; s; s = s->next)
        if (s->callee == kn || is_called(&s->body, kn) || is_called(&s->other, kn)) return true;
    return false;
}

/* Kernels that nobody calls would be warned about. */
static KModule only_called(Arena *a, const KModule *m) {
    KModule r = *m;
    r.kernels = arena_array(a, Kernel *, m->n_kernels + 1);
    r.n_kernels = 0;
    for (uint32_t i = 0; i < m->n_kernels; i++)
        if (is_called(&m->entry, m->kernels[i])) r.kernels[r.n_kernels++] = m->kernels[i];
    return r;
}

static void write_file(CGen *g, CSink *s) {
    KModule called = only_called(g->a, g->m);
    g->m = &called;
    StrBuf head = {0};
    g->api = api_create(g->a, g->m, g->t);
    for (uint32_t i = 0; i < g->m->n_kernels; i++) c_kernel(g, g->m->kernels[i], true);
    c_write_entry(g);
    print_intro(g, &head);
    c_write_prelude(g, &head);
    c_sink(s, strbuf_text(&head));
    strbuf_free(&head);
    c_write_consts(g, s);
    c_sink(s, strbuf_text(&g->out));
}

void codegen_c_text(const KModule *m, const Target *t, const CodegenOptions *o, StrBuf *out) {
    CGen g;
    CSink s = {.text = out};
    open_gen(&g, m, t, o);
    write_file(&g, &s);
    close_gen(&g);
}

void codegen_c_kernels(const KModule *m, StrBuf *out) {
    CGen g;
    open_gen(&g, m, NULL, NULL);
    for (uint32_t i = 0; i < m->n_kernels; i++) c_kernel(&g, m->kernels[i], false);
    strbuf_printf(out, pragma, "");
    c_write_prelude(&g, out);
    strbuf_add(out, strbuf_text(&g.out));
    close_gen(&g);
}

static WeightsFile write_weights(const KModule *m, Output *o) {
    Arena *a = arena_create();
    WeightSymbol *symbols = arena_array(a, WeightSymbol, m->n_consts + 1);
    for (uint32_t i = 0; i < m->n_consts; i++) {
        const KBuf *c = m->consts[i];
        int64_t n = 0;
        k_is_int(c->n_elems, &n);
        WeightSpan *span = arena_new(a, WeightSpan);
        *span = (WeightSpan){.n_bytes = (uint64_t)n * (uint64_t)dtype_bytes(c->dtype),
                             .bytes = c->data};
        symbols[i] = (WeightSymbol){.name = c->name, .spans = span, .n_spans = 1};
    }
    uint64_t hash;
    memcpy(&hash, m->model_hash, sizeof hash);
    WeightsFile w = weights_write_file(o, hash, symbols, m->n_consts, NULL);
    arena_destroy(a);
    return w;
}

static bool can_render(const KModule *m, const Target *t, Diag *d) {
    Arena *a = arena_create();
    bool good = api_check(api_create(a, m, t), m, d);
    arena_destroy(a);
    return good;
}

bool codegen_c_library(const KModule *m, const Target *t, const CodegenOptions *o,
                       CodegenCPaths paths, Diag *d) {
    Output *files[3];
    int n = 0;
    if (!can_render(m, t, d)) return false;
    CodegenOptions own = *o;
    if (paths.weights && o->weights_file) {
        files[n] = output_open(paths.weights);
        own.weight_hash = write_weights(m, files[n++]).hash;
    }
    if (paths.header) {
        Arena *a = arena_create();
        StrBuf text = {0};
        header_write(&text, a, m, t, &own);
        files[n] = output_open(paths.header);
        output_text(files[n++], strbuf_text(&text));
        strbuf_free(&text);
        arena_destroy(a);
    }
    if (paths.source) {
        CGen g;
        CSink s = {.file = files[n++] = output_open(paths.source)};
        open_gen(&g, m, t, &own);
        write_file(&g, &s);
        close_gen(&g);
    }
    StrBuf error = {0};
    bool good = output_finish_all(files, n, &error);
    if (!good) diag_error(d, SRC_NOWHERE, "%s", strbuf_text(&error));
    strbuf_free(&error);
    return good;
}
