/* Opening an ONNX model: scan, unpack into the arena, restore the weights' views, check.
 *
 * protobuf-c allocates from the model's arena through an allocator with a budget, so that a file
 * made of empty messages, each of which unpacks to a hundred times its bytes, is refused instead
 * of filling the machine's memory. */
#include "frontend/onnx/model.h"

#include <string.h>
#include <unistd.h>

#include "frontend/onnx/model_internal.h"
#include "frontend/onnx/wire.h"

/* Unpacked structs take at most this much and four times the length of the scanned copy. */
#define UNPACK_BUDGET ((size_t)384 << 20)

typedef struct Unpack {
    Arena *arena;
    size_t left;
    bool is_exceeded;
} Unpack;

static void *unpack_alloc(void *context, size_t n) {
    Unpack *u = context;
    size_t taken = (n + 15) & ~(size_t)15;
    if (taken < n || taken > u->left) {
        u->is_exceeded = true;
        return NULL;
    }
    u->left -= taken;
    return arena_alloc(u->arena, n);
}

static void unpack_free(void *context, void *p) {
    (void)context, (void)p; /* the arena goes as a whole */
}

SrcLoc onnx_model_loc(const OnnxModel *m) {
    return (SrcLoc){.file = m->path, .index = -1, .offset = -1};
}

static bool unpack(OnnxModel *m, const WireRules *rules, const WireCopy *copy, Diag *d) {
    Unpack u = {.arena = m->arena, .left = UNPACK_BUDGET};
    if (__builtin_add_overflow(u.left, copy->n_bytes * 4, &u.left)) u.left = SIZE_MAX;
    ProtobufCAllocator allocator = {unpack_alloc, unpack_free, &u};
    ProtobufCMessage *root =
        protobuf_c_message_unpack(rules->root, &allocator, copy->n_bytes, copy->bytes);
    if (!root) {
        if (u.is_exceeded)
            diag_error(d, onnx_model_loc(m),
                       "%llu messages in %zu bytes need too much memory for a model of this length",
                       (unsigned long long)copy->n_messages, copy->n_bytes);
        else
            diag_error(d, onnx_model_loc(m), "malformed protobuf message");
        return false;
    }
    m->proto = (const Onnx__ModelProto *)root;
    return true;
}

static bool parse(OnnxModel *m, const unsigned char *bytes, size_t n_bytes, Diag *d) {
    const WireLimit limits[] = {
        {&onnx__graph_proto__descriptor, ONNX_MAX_NESTING, 0},
        {&onnx__type_proto__descriptor, ONNX_MAX_NESTING, 0},
        {&onnx__node_proto__descriptor, 0, ONNX_MAX_INLINED_NODES},
    };
    const WireRules rules = {
        .root = &onnx__model_proto__descriptor,
        .lift_in = &onnx__tensor_proto__descriptor,
        .lift_field = 9, /* raw_data */
        .max_name = ONNX_MAX_NAME,
        .limit = limits,
        .n_limits = sizeof limits / sizeof *limits,
    };
    const char *hint = mapped_format_hint(bytes, n_bytes);
    Diag *scan_diag = hint ? diag_create() : d;
    WireCopy copy;
    bool good = wire_compact(&rules, bytes, n_bytes, onnx_model_loc(m), scan_diag, &copy);
    if (hint) diag_destroy(scan_diag);
    if (good) {
        good = unpack(m, &rules, &copy, d);
        wire_free(&copy);
        if (!good) return false;
    }
    if (!good || (hint && !m->proto->graph)) {
        if (hint) diag_error(d, onnx_model_loc(m), "not an ONNX model: %s", hint);
        return false;
    }
    wire_restore(&rules, (ProtobufCMessage *)(uintptr_t)m->proto, bytes);
    return true;
}

static OnnxModel *model_create(const char *path) {
    Arena *a = arena_create();
    OnnxModel *m = arena_new(a, OnnxModel);
    m->arena = a;
    m->path = arena_strdup(a, path);
    m->folder_fd = -1;
    m->side_files = strmap_create(a);
    m->decoded = strmap_create(a);
    m->orders = strmap_create(a);
    m->functions = strmap_create(a);
    m->opsets = strmap_create(a);
    return m;
}

static OnnxModel *finish_open(OnnxModel *m, const unsigned char *bytes, size_t n, Diag *d) {
    if (parse(m, bytes, n, d) && onnx_check_model(m, d)) return m;
    /* a file that shrank meanwhile reads as zeros: say so rather than only what followed from it */
    onnx_model_is_intact(m, d);
    onnx_model_close(m);
    return NULL;
}

static const char *folder_of(Arena *a, const char *path) {
    const char *slash = strrchr(path, '/');
    if (!slash) return ".";
    size_t n = slash == path ? 1 : (size_t)(slash - path);
    char *folder = arena_alloc(a, n + 1);
    memcpy(folder, path, n);
    return folder;
}

OnnxModel *onnx_model_open(const char *path, Diag *d) {
    bool is_stdin = !strcmp(path, "-");
    MappedFile file;
    if (!mapped_open(&file, path, d)) return NULL;
    OnnxModel *m = model_create(is_stdin ? "<stdin>" : path);
    m->file = file;
    if (!is_stdin) m->folder = folder_of(m->arena, path);
    return finish_open(m, file.bytes, file.n_bytes, d);
}

OnnxModel *onnx_model_open_bytes(const char *name, const void *bytes, size_t n_bytes, Diag *d) {
    OnnxModel *m = model_create(name);
    if (n_bytes) return finish_open(m, bytes, n_bytes, d);
    diag_error(d, onnx_model_loc(m), "empty file");
    onnx_model_close(m);
    return NULL;
}

void onnx_model_add_library(OnnxModel *m, OnnxModel *library) {
    while (m->library) m = m->library;
    m->library = library;
}

/* Libraries are few, and their own are none. */
void onnx_model_close(OnnxModel *m) {
    if (!m) return;
    onnx_model_close(m->library);
    external_close(m);
    mapped_close(&m->file);
    arena_destroy(m->arena);
}

bool onnx_model_is_intact(const OnnxModel *m, Diag *d) {
    bool good = external_is_intact(m, d);
    if (mapped_is_intact(&m->file)) return good;
    diag_error(d, onnx_model_loc(m), "the file was shortened while it was read");
    return false;
}

const Onnx__ModelProto *onnx_model_proto(const OnnxModel *m) {
    return m->proto;
}

const char *onnx_model_path(const OnnxModel *m) {
    return m->path;
}

void onnx_model_keep(OnnxModel *m, Assumptions *s) {
    m->kept = s;
}

Assumptions *onnx_model_kept(const OnnxModel *m) {
    return m->kept;
}

Arena *onnx_model_arena(OnnxModel *m) {
    return m->arena;
}

const char *onnx_domain(const char *domain) {
    return !domain || !strcmp(domain, "ai.onnx") ? "" : domain;
}

int64_t onnx_model_opset(const OnnxModel *m, const char *domain) {
    const Onnx__OperatorSetIdProto *o = strmap_get(m->opsets, onnx_domain(domain));
    return o ? o->version : 0;
}

void *ptrmap_get(const StrMap *map, const void *key) {
    return strmap_get_bytes(map, (const char *)&key, sizeof key);
}

void ptrmap_put(Arena *a, StrMap *map, const void *key, void *value) {
    strmap_put_bytes(map, arena_copy(a, &key, sizeof key), sizeof key, value);
}

const uint32_t *onnx_graph_order(const OnnxModel *m, const Onnx__GraphProto *g) {
    const uint32_t *order = ptrmap_get(m->orders, g);
    return order || !m->library ? order : onnx_graph_order(m->library, g);
}

const uint32_t *onnx_function_order(const OnnxModel *m, const Onnx__FunctionProto *f) {
    const uint32_t *order = ptrmap_get(m->orders, f);
    return order || !m->library ? order : onnx_function_order(m->library, f);
}

void onnx_model_release(const OnnxModel *m, const void *bytes, size_t n_bytes) {
    mapped_release(&m->file, bytes, n_bytes);
}
