/* The files of a compiled model: the archive of code and weights, its header, a weights file.
 *
 * The weights are streamed into an object of their own, or into their file, from where they lie.
 * Object formats that codegen/weights.h does not write (Mach-O, COFF) get them through LLVM as one
 * byte string. */
#include <stdlib.h>
#include <string.h>

#include "codegen/archive.h"
#include "codegen/llvm/object.h"
#include "codegen/weights.h"

/* ---- weights --------------------------------------------------------------------------------- */

/* The constants one after another, each at its offset, with zeros between. */
static WeightSymbol weight_symbol(Arena *a, const KModule *m, const Api *api) {
    VEC(WeightSpan) spans = {0};
    uint64_t at = 0;
    for (uint32_t i = 0; i < m->n_consts; i++) {
        uint64_t gap = api->const_offset[i] - at;
        int64_t n = 0;
        k_is_int(m->consts[i]->n_elems, &n);
        uint64_t bytes = (uint64_t)n * (uint64_t)dtype_bytes(m->consts[i]->dtype);
        if (gap) vec_push(a, &spans, (WeightSpan){.n_bytes = gap});
        if (bytes)
            vec_push(a, &spans, ((WeightSpan){.n_bytes = bytes, .bytes = m->consts[i]->data}));
        at = api->const_offset[i] + bytes;
    }
    return (WeightSymbol){
        .name = arena_printf(a, "%s_weights", m->name), .spans = spans.at, .n_spans = spans.n};
}

/* Defines NAME_weights in the open module. */
static void emit_weights(LlvmGen *g) {
    const KModule *m = g->m;
    char *all = xmalloc(g->api->weight_bytes + 1);
    memset(all, 0, g->api->weight_bytes + 1);
    for (uint32_t i = 0; i < m->n_consts; i++) {
        int64_t n = 0;
        k_is_int(m->consts[i]->n_elems, &n);
        size_t bytes = (size_t)n * (size_t)dtype_bytes(m->consts[i]->dtype);
        if (bytes) memcpy(all + g->api->const_offset[i], m->consts[i]->data, bytes);
    }
    LLVMValueRef init = LLVMConstStringInContext2(g->ctx, all, g->api->weight_bytes, 1);
    free(all);
    g->scratch.n = 0;
    strbuf_printf(&g->scratch, "%s_weights", m->name);
    LLVMValueRef w = LLVMAddGlobal(g->mod, LLVMTypeOf(init), strbuf_text(&g->scratch));
    LLVMSetInitializer(w, init);
    LLVMSetGlobalConstant(w, 1);
    LLVMSetVisibility(w, LLVMHiddenVisibility);
    LLVMSetAlignment(w, 64);
}

static LLVMMemoryBufferRef emit_object(LlvmGen *g) {
    LLVMMemoryBufferRef out;
    char *why = NULL;
    BUG_IF(LLVMTargetMachineEmitToMemoryBuffer(g->tm, g->mod, LLVMObjectFile, &why, &out),
           "LLVM cannot emit an object: %s", why);
    return out;
}

static bool embeds_weights(const KModule *m, const CodegenOptions *o) {
    return m->n_consts && !o->weights_file;
}

/* ---- archive --------------------------------------------------------------------------------- */

typedef struct WeightsMember {
    const Target *target;
    WeightSymbol symbol;
} WeightsMember;

static void write_weights_member(Output *o, void *ctx) {
    const WeightsMember *w = ctx;
    weights_write_object(o, w->target->triple, w->target->features, &w->symbol, 1);
}

static const char *const *spelled(Arena *a, ArchiveFormat format, const char *const *names,
                                  uint32_t n) {
    if (format != ARCHIVE_DARWIN) return names;
    const char **out = arena_array(a, const char *, n + 1);
    for (uint32_t i = 0; i < n; i++) out[i] = arena_printf(a, "_%s", names[i]);
    return out;
}

static void write_archive(Arena *a, Output *out, const KModule *m, const Target *t,
                          const CodegenOptions *o, const Api *api, const CodegenObject *objects,
                          uint32_t n) {
    ArchiveFormat format = archive_format(t->triple);
    ArchiveMember *member = arena_array(a, ArchiveMember, n + 2);
    for (uint32_t i = 0; i < n; i++)
        member[i] =
            (ArchiveMember){.name = objects[i].name,
                            .n_bytes = objects[i].n_bytes,
                            .bytes = objects[i].bytes,
                            .symbols = spelled(a, format, objects[i].symbols, objects[i].n_symbols),
                            .n_symbols = objects[i].n_symbols};
    LLVMMemoryBufferRef by_llvm = NULL;
    if (o->foreign) {
        ArchiveMember *own = &member[n++];
        *own = (ArchiveMember){.name = arena_printf(a, "%s.own.o", m->name),
                               .n_bytes = o->n_foreign_bytes,
                               .bytes = o->foreign};
        const KStmt **calls = api_foreign_calls(a, m, &own->n_symbols);
        const char **names = arena_array(a, const char *, own->n_symbols + 1);
        for (size_t i = 0; i < own->n_symbols; i++) names[i] = calls[i]->text;
        own->symbols = spelled(a, format, names, (uint32_t)own->n_symbols);
    }
    if (embeds_weights(m, o)) {
        WeightsMember *w = arena_new(a, WeightsMember);
        *w = (WeightsMember){t, weight_symbol(a, m, api)};
        ArchiveMember *last = &member[n++];
        *last = (ArchiveMember){.name = arena_printf(a, "%s.weights.o", m->name),
                                .n_symbols = 1,
                                .symbols = spelled(a, format, &w->symbol.name, 1)};
        if (weights_has_object(t->triple, t->features)) {
            last->write = write_weights_member;
            last->ctx = w;
            last->n_bytes = weights_object_bytes(t->triple, t->features, &w->symbol, 1);
        } else {
            LlvmGen g;
            llvm_gen_open(&g, m, t, o, m->name);
            g.api = (Api *)api;
            emit_weights(&g);
            by_llvm = emit_object(&g);
            llvm_gen_close(&g);
            last->bytes = LLVMGetBufferStart(by_llvm);
            last->n_bytes = LLVMGetBufferSize(by_llvm);
        }
    }
    archive_write(out, format, member, n);
    if (by_llvm) LLVMDisposeMemoryBuffer(by_llvm);
}

/* What a call may need: the entry's frames, the deepest kernel's, and room for return addresses,
 * saved registers and alignment of both, the small frames below a kernel, and memcpy. */
static uint64_t stack_bound(const CodegenObject *objects, uint32_t n) {
    enum { ROOM = 1024 };
    uint64_t kernel = 0;
    for (uint32_t i = 1; i < n; i++)
        if (objects[i].stack_bytes > kernel) kernel = objects[i].stack_bytes;
    return n ? (objects[0].stack_bytes + kernel + ROOM + 63) / 64 * 64 : 0;
}

bool codegen_llvm_library(const KModule *m, const Target *t, const CodegenOptions *options,
                          CodegenPaths paths, Diag *d) {
    Arena *a = arena_create();
    CodegenOptions o = *options;
    Api *api = api_create(a, m, t);
    Output *file[3];
    int n_files = 0;
    if (paths.weights && o.weights_file) { /* first: the model holds their hash */
        WeightSymbol s = weight_symbol(a, m, api);
        file[n_files] = output_open(paths.weights);
        o.weight_hash =
            weights_write_file(file[n_files++], api->model_hash, &s, m->n_consts ? 1 : 0, NULL)
                .hash;
    }
    CodegenObject *objects = NULL;
    uint32_t n = 0;
    bool good = !paths.archive || codegen_llvm_objects(a, m, t, &o, &objects, &n, d);
    if (good && paths.archive)
        write_archive(a, file[n_files++] = output_open(paths.archive), m, t, &o, api, objects, n);
    if (good && paths.archive) o.stack_bytes = stack_bound(objects, n);
    if (good && paths.header) {
        StrBuf text = {0};
        header_write(&text, a, m, t, &o);
        output_text(file[n_files++] = output_open(paths.header), strbuf_text(&text));
        strbuf_free(&text);
    }
    codegen_objects_free(objects, n);
    StrBuf error = {0};
    if (!good)
        while (n_files) output_discard(file[--n_files]);
    else if (!(good = output_finish_all(file, n_files, &error)))
        diag_error(d, SRC_NOWHERE, "%s", strbuf_text(&error));
    strbuf_free(&error);
    arena_destroy(a);
    return good;
}

bool codegen_llvm_object(const KModule *m, const Target *t, const CodegenOptions *o,
                         const char *path, Diag *d) {
    Arena *a = arena_create();
    Api *api = api_create(a, m, t);
    if (!llvm_check(api, m, t, d)) {
        arena_destroy(a);
        return false;
    }
    LlvmGen g;
    llvm_gen_open(&g, m, t, o, m->name);
    g.api = api;
    if (embeds_weights(m, o)) emit_weights(&g);
    llvm_emit_group(&g, &(LlvmGroup){.end = m->n_kernels, .has_entry = true});
    LLVMMemoryBufferRef object = emit_object(&g);
    Output *out = output_open(path);
    output_write(out, LLVMGetBufferStart(object), LLVMGetBufferSize(object));
    LLVMDisposeMemoryBuffer(object);
    llvm_gen_close(&g);
    arena_destroy(a);
    StrBuf error = {0};
    bool good = output_finish(out, &error);
    if (!good) diag_error(d, SRC_NOWHERE, "%s", strbuf_text(&error));
    strbuf_free(&error);
    return good;
}
