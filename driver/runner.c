/* A compiled model in memory with its data: see runner.h.
 *
 * Shapes come from the kernel module for both backends: dims of inputs and outputs are expressions
 * over the caller's symbols, whose values are read off the inputs, and over sizes found while
 * running, whose bounds give the room for outputs. */
#include "driver/runner.h"

#include <dlfcn.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "codegen/c/c.h"
#include "ir/foreign.h"
#include "ir/interpret.h"

struct Runner {
    Session *s;
    const KModule *km;
    CodegenJit *jit;          /* backend llvm */
    void *library;            /* backend c: of dlopen */
    smelt_weights *weights;   /* backend c: the constants, kept out of the C text */
    const smelt_model *model; /* NULL: interpret */
    HostTensor *in, *out;
    const void **in_data; /* their pointers, as a call takes them */
    void **out_data;
    KVar **vars;    /* symbols, then sizes */
    int64_t *value; /* of vars */
    uint32_t n_vars;
    int64_t *symbols; /* for model: all of its symbols */
    void *arena;
    uint64_t arena_bytes;
};

static Arena *arena_of(const Runner *r) {
    return r->s->arena;
}

static bool fail(const Runner *r, const char *what, const char *name) {
    diag_error(r->s->d, (SrcLoc){.file = r->s->o->model, .index = -1, .offset = -1}, "%s '%s'",
               what, name);
    return false;
}

/* ---- backends -------------------------------------------------------------------------------- */

static bool load_llvm(Runner *r) {
    r->jit = codegen_llvm_jit(r->km, r->s->target, &r->s->codegen, r->s->d);
    if (r->jit) r->model = codegen_jit_model(r->jit);
    return r->jit != NULL;
}

/* NAME.c to NAME.so in this folder, loaded. */
static bool build_c(Runner *r, const char *folder, const CodegenCPaths *paths) {
    Session *s = r->s;
    CodegenOptions o = s->codegen;
    o.weights_file = true;
    const char *library = arena_printf(s->arena, "%s/net.so", folder);
    const char *const argv[] = {c_compiler(),
                                "-std=c99",
                                "-O2",
                                "-ffp-contract=off",
                                "-fPIC",
                                "-shared",
                                "-w",
                                "-I",
                                folder,
                                "-I",
                                smelt_include_folder(s->arena),
                                paths->source,
                                "-lm",
                                "-o",
                                library,
                                uses_blas(s) ? foreign_info[FOREIGN_blas].link : NULL,
                                NULL};
    if (!codegen_c_library(r->km, s->target, &o, *paths, s->d) || !run_compiler(s, argv))
        return false;
    r->library = dlopen(library, RTLD_NOW | RTLD_LOCAL);
    if (r->library) r->model = dlsym(r->library, arena_printf(s->arena, "%s_model", s->m->name));
    if (!r->model) return fail(r, "the C compiler's library cannot be loaded:", dlerror());
    int status =
        r->km->n_consts ? smelt_weights_open(r->model, paths->weights, &r->weights) : SMELT_OK;
    return !status || fail(r, "the weights cannot be read back:", smelt_status_string(status));
}

/* Everything is removed again once it is mapped. */
static bool load_c(Runner *r) {
    Arena *a = arena_of(r);
    const char *tmp = getenv("TMPDIR");
    char *folder = arena_printf(a, "%s/smelt-XXXXXX", tmp && *tmp ? tmp : "/tmp");
    if (!mkdtemp(folder)) return fail(r, "no temporary folder can be made in", folder);
    CodegenCPaths paths = {arena_printf(a, "%s/%s.c", folder, r->km->name),
                           arena_printf(a, "%s/%s.h", folder, r->km->name),
                           arena_printf(a, "%s/net.weights", folder)};
    bool good = build_c(r, folder, &paths);
    unlink(paths.source);
    unlink(paths.header);
    unlink(paths.weights);
    unlink(arena_printf(a, "%s/net.so", folder));
    rmdir(folder);
    return good;
}

/* For the interpreter: the C functions of the process, so that it can call them. */
static bool load_callers(Runner *r) {
    Session *s = r->s;
    if (!foreign_function(s)) return true;
    const Target *t = session_host(s);
    r->jit = t ? codegen_llvm_callers(r->km, t, s->d) : NULL;
    return r->jit != NULL;
}

Runner *runner_create(Session *s) {
    Arena *a = s->arena;
    const KModule *km = s->m->kmod;
    Runner *r = arena_new(a, Runner);
    *r = (Runner){.s = s, .km = km, .n_vars = km->n_symbols + km->n_sizes};
    r->in = arena_array(a, HostTensor, km->n_inputs);
    r->out = arena_array(a, HostTensor, km->n_outputs);
    r->in_data = arena_array(a, const void *, km->n_inputs);
    r->out_data = arena_array(a, void *, km->n_outputs);
    r->vars = arena_array(a, KVar *, r->n_vars);
    r->value = arena_array(a, int64_t, r->n_vars);
    for (uint32_t i = 0; i < km->n_symbols; i++) r->vars[i] = km->symbols[i];
    for (uint32_t i = 0; i < km->n_sizes; i++) r->vars[km->n_symbols + i] = km->sizes[i];
    for (uint32_t i = 0; i < km->n_inputs; i++) r->in[i].name = km->inputs[i].name;
    const char *backend = s->o->backend ? s->o->backend : "llvm";
    bool interprets = !strcmp(backend, "interpret");
    if (!foreign_load(s)) return NULL;
    if (!interprets) progress(s, "generating code");
    if (!(interprets ? load_callers(r) : !strcmp(backend, "c") ? load_c(r) : load_llvm(r))) {
        runner_destroy(r);
        return NULL;
    }
    if (r->model) r->symbols = arena_array(a, int64_t, r->model->n_symbols);
    return r;
}

void runner_destroy(Runner *r) {
    if (!r) return;
    codegen_jit_destroy(r->jit);
    smelt_weights_close(r->weights);
    if (r->library) dlclose(r->library);
    for (uint32_t i = 0; i < r->km->n_outputs; i++) free(r->out[i].data);
    free(r->arena);
}

/* ---- reading inputs -------------------------------------------------------------------------- */

static HostTensor *find_input(Runner *r, const char *name) {
    for (uint32_t i = 0; i < r->km->n_inputs; i++)
        if (!strcmp(r->km->inputs[i].name, name)) return &r->in[i];
    return NULL;
}

static void take(HostTensor *in, const HostTensor *read) {
    const char *name = in->name;
    *in = *read;
    in->name = name;
}

/* NAME=FILE, or FILE alone: an archive with members of the inputs' names, or the only input's data.
 */
static bool read_given(Runner *r, const char *text) {
    HostTensor t;
    for (const char *equals = strchr(text, '='); equals; equals = strchr(equals + 1, '=')) {
        char *name = arena_strdup(arena_of(r), text);
        name[equals - text] = 0;
        HostTensor *in = find_input(r, name);
        if (!in) continue;
        if (!tensor_read(arena_of(r), equals + 1, name, &t, r->s->d)) return false;
        take(in, &t);
        return true;
    }
    if (strchr(text, '=')) return fail(r, "there is no such input as in --input", text);
    for (uint32_t i = 0; i < r->km->n_inputs; i++) {
        if (!tensor_read(arena_of(r), text, r->in[i].name, &t, r->s->d)) return false;
        take(&r->in[i], &t);
    }
    return true;
}

/* The tensors of a sequence or an optional, which import saw in the same file. */
static bool read_group(Runner *r, const char *path, const IoGroup *g) {
    HostList list;
    bool of_sequence = g->kind == GROUP_SEQUENCE || g->kind == GROUP_OPTIONAL_SEQUENCE;
    if (!list_read(arena_of(r), path, of_sequence, g->kind != GROUP_SEQUENCE, &list, r->s->d))
        return false;
    if ((uint32_t)list.n != g->n || list.is_absent != (g->presence == GROUP_ABSENT))
        return fail(r, "the data do not have the structure that the model was compiled for:", path);
    for (uint32_t i = 0; i < g->n; i++) take(&r->in[g->first + i], &list.at[i]);
    return true;
}

static bool read_groups(Runner *r, const char *folder) {
    const Module *m = r->s->m;
    for (uint32_t i = 0; i < m->in_groups.n; i++) {
        const IoGroup *g = &m->in_groups.at[i];
        HostTensor t;
        const char *path = arena_printf(arena_of(r), "%s/input_%u.pb", folder, i);
        if (g->kind != GROUP_TENSOR) {
            if (!read_group(r, path, g)) return false;
            continue;
        }
        if (!tensor_read(arena_of(r), path, "", &t, r->s->d)) return false;
        take(&r->in[g->first], &t);
    }
    return true;
}

static bool read_folder(Runner *r, const char *folder) {
    if (r->s->m->in_groups.n) return read_groups(r, folder);
    for (uint32_t i = 0; i < r->km->n_inputs; i++) {
        HostTensor t;
        const char *path = arena_printf(arena_of(r), "%s/input_%u.pb", folder, i);
        if (!tensor_read(arena_of(r), path, "", &t, r->s->d)) return false;
        take(&r->in[i], &t);
    }
    return true;
}

bool runner_read_inputs(Runner *r) {
    const Options *o = r->s->o;
    if (o->data_folder && !read_folder(r, o->data_folder)) return false;
    for (uint32_t i = 0; i < o->data.n; i++)
        if (!read_given(r, o->data.at[i])) return false;
    return true;
}

/* ---- binding --------------------------------------------------------------------------------- */

static int64_t *value_of(Runner *r, const KVar *v) {
    for (uint32_t i = 0; i < r->n_vars; i++)
        if (r->vars[i] == v) return &r->value[i];
    return NULL;
}

static int64_t dim_value(const Runner *r, const KExpr *dim) {
    return interpret_index(dim, r->vars, r->value, r->n_vars);
}

/* Symbols that are a dim of an input by themselves take that dim's value; -1 is not known yet. */
static bool bind_symbols(Runner *r) {
    for (uint32_t i = 0; i < r->n_vars; i++) r->value[i] = i < r->km->n_symbols ? -1 : 0;
    for (uint32_t i = 0; i < r->km->n_inputs; i++) {
        const KIo *io = &r->km->inputs[i];
        const HostTensor *t = &r->in[i];
        if (!t->data) continue;
        if (t->dtype != io->dtype || t->rank != io->rank) {
            diag_error(r->s->d, SRC_NOWHERE,
                       "input '%s' is %s of rank %d, the model takes %s of rank %d", io->name,
                       dtype_info[t->dtype].name, t->rank, dtype_info[io->dtype].name, io->rank);
            return false;
        }
        for (int a = 0; a < io->rank; a++) {
            int64_t *v = io->dims[a]->op == KO_var ? value_of(r, io->dims[a]->u.var) : NULL;
            if (v && *v < 0) *v = t->dims[a];
        }
    }
    for (uint32_t i = 0; i < r->km->n_symbols; i++) {
        const KVar *v = r->vars[i];
        if (r->value[i] < 0) r->value[i] = v->lo > 1 ? v->lo : 1;
        if (r->value[i] >= v->lo && r->value[i] <= v->hi) continue;
        diag_error(r->s->d, SRC_NOWHERE,
                   "dim '%s' is %" PRId64 ", the model takes %" PRId64 " to %" PRId64, v->name,
                   r->value[i], v->lo, v->hi);
        return false;
    }
    return true;
}

static bool check_dims(Runner *r) {
    for (uint32_t i = 0; i < r->km->n_inputs; i++)
        for (int a = 0; r->in[i].data && a < r->in[i].rank; a++) {
            int64_t want = dim_value(r, r->km->inputs[i].dims[a]);
            if (want == r->in[i].dims[a]) continue;
            diag_error(r->s->d, SRC_NOWHERE,
                       "input '%s': dim %d is %" PRId64 ", the model takes %" PRId64, r->in[i].name,
                       a, r->in[i].dims[a], want);
            return false;
        }
    return true;
}

/* splitmix64: any seed gives a good sequence. */
static uint64_t next_random(uint64_t *state) {
    uint64_t z = *state += UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return z ^ z >> 31;
}

/* Floats in [-1, 1), bytes of any value, wider integers 0 or 1: those are mostly indices and masks.
 */
static void fill_random(HostTensor *of, uint64_t *state) {
    HostTensor numbers = host_numbers(of), *t = &numbers;
    int width = dtype_bytes(t->dtype);
    static const char *const words[] = {"", "a", "Bc", "def", "GHI jk", "0", "1.5", "x,y"};
    for (uint64_t i = 0; i < t->n_bytes / (uint64_t)width; i++) {
        uint64_t bits = next_random(state);
        if (t->dtype == DT_STR) {
            const char *word = words[bits & 7];
            ((HostString *)t->data)[i] = (HostString){word, strlen(word)};
            continue;
        }
        double v = (double)(int64_t)(bits >> 11) / (double)(INT64_C(1) << 52) - 1;
        char *at = (char *)t->data + i * (uint64_t)width;
        if (t->dtype == DT_F32)
            memcpy(at, &(float){(float)v}, 4);
        else if (t->dtype == DT_F64)
            memcpy(at, &v, 8);
        else if (t->dtype == DT_F16)
            memcpy(at, &(uint16_t){(uint16_t)(0x3000 | (bits & 0x8fff))}, 2); /* 1/8 .. 4 */
        else if (t->dtype == DT_BF16)
            memcpy(at, &(uint16_t){(uint16_t)(0x3e00 | (bits & 0x81ff))}, 2); /* 1/8 .. 2 */
        else if (dtype_info[t->dtype].bits < 8)
            dtype_unpack(t->dtype, &(uint8_t){(uint8_t)bits}, 1, (uint8_t *)at);
        else if (width == 1 && t->dtype != DT_BOOL)
            *at = (char)bits;
        else
            memcpy(at, &(uint64_t){bits >> 63}, (size_t)width);
    }
}

/* Of a tensor: more is a size that was read wrong. */
#define MOST_BYTES (UINT64_C(1) << 42)

/* The shape of an input or output under the values found, or the largest one that is possible with
 * the caller's symbols; false when it is too large. */
static bool shape_tensor(const Runner *r, const KIo *io, bool largest, HostTensor *t) {
    t->name = io->name;
    t->dtype = io->dtype;
    t->rank = io->rank;
    bool is_empty = false;
    for (int a = 0; a < io->rank; a++) {
        t->dims[a] = dim_value(r, largest ? k_upper_bound(r->km->k, io->dims[a]) : io->dims[a]);
        if (t->dims[a] < 0) t->dims[a] = 0;
        is_empty |= t->dims[a] == 0;
    }
    t->n_bytes = 0;
    return is_empty || /* whatever the other dims may be */
           (tensor_size(t->dtype, t->dims, t->rank, &t->n_bytes) && t->n_bytes < MOST_BYTES) ||
           fail(r, "too large for this machine: tensor", io->name);
}

static bool allocate(Runner *r) {
    uint64_t state = (uint64_t)r->s->o->seed.value;
    for (uint32_t i = 0; i < r->km->n_inputs; i++) {
        HostTensor *t = &r->in[i];
        if (t->data) continue;
        if (!shape_tensor(r, &r->km->inputs[i], false, t)) return false;
        t->data = arena_alloc(arena_of(r), t->n_bytes ? t->n_bytes : 1);
        fill_random(t, &state);
    }
    for (uint32_t i = 0; i < r->km->n_outputs; i++) {
        const KIo *io = &r->km->outputs[i];
        r->out[i] = (HostTensor){.name = io->name, .dtype = io->dtype, .rank = io->rank};
        if (io->buf->mem == MEM_HEAP) continue; /* the run gives it */
        if (!shape_tensor(r, &r->km->outputs[i], true, &r->out[i])) return false;
        r->out[i].data = xmalloc(r->out[i].n_bytes + 1);
    }
    return true;
}

static bool prepare_model(Runner *r) {
    for (uint32_t i = 0; i < r->km->n_symbols; i++) r->symbols[i] = r->value[i];
    int status = r->model->n_symbols ? r->model->symbols_for(r->symbols) : SMELT_OK;
    if (!status)
        status =
            r->model->arena_bytes_for(r->model->n_symbols ? r->symbols : NULL, &r->arena_bytes);
    if (status) return fail(r, "these dims are not accepted", smelt_status_string(status));
    r->arena = xmalloc(r->arena_bytes + 1); /* any alignment is accepted */
    return true;
}

bool runner_bind(Runner *r) {
    return bind_symbols(r) && check_dims(r) && allocate(r) && (!r->model || prepare_model(r));
}

/* ---- running --------------------------------------------------------------------------------- */

static void *take_memory(void *heap, size_t n_bytes) {
    (void)heap;
    return try_malloc(n_bytes);
}

static void free_memory(void *heap, void *memory) {
    (void)heap;
    free(memory);
}

static int run_model(Runner *r, const void *const *in, void **out, const smelt_hooks *given) {
    smelt_hooks hooks = {.struct_size = sizeof hooks};
    if (given) hooks = *given;
    hooks.alloc = take_memory;
    hooks.free = free_memory;
    smelt_call call = {.struct_size = sizeof call,
                       .n_inputs = r->model->n_inputs,
                       .n_outputs = r->model->n_outputs,
                       .n_symbols = r->model->n_symbols,
                       .inputs = in,
                       .outputs = out,
                       .symbols = r->symbols,
                       .arena = r->arena,
                       .arena_bytes = r->arena_bytes,
                       .hooks = given || r->km->n_heap ? &hooks : NULL,
                       .weights = r->weights ? smelt_weights_data(r->weights) : NULL};
    return r->model->run(&call);
}

/* The outputs' memory is what the run left there. */
static int leave(Runner *r, void *const *out, int status) {
    for (uint32_t i = 0; i < r->km->n_outputs; i++) r->out[i].data = out[i];
    return status;
}

static InterpretForeign *caller(void *user, const char *function) {
    return codegen_jit_caller(((const Runner *)user)->jit, function);
}

int runner_run(Runner *r, const smelt_hooks *hooks) {
    const void **in = r->in_data;
    void **out = r->out_data;
    for (uint32_t i = 0; i < r->km->n_inputs; i++) in[i] = r->in[i].data;
    for (uint32_t i = 0; i < r->km->n_outputs; i++) {
        if (r->km->outputs[i].buf->mem == MEM_HEAP) {
            free(r->out[i].data);
            r->out[i].data = NULL;
        }
        out[i] = r->out[i].data;
    }
    if (r->model) return leave(r, out, run_model(r, in, out, hooks));
    InterpretCall call = {in, out, r->value, r->value + r->km->n_symbols, arena_of(r), caller, r};
    return leave(r, out, (int)interpret_module(r->km, &call));
}

const HostTensor *runner_outputs(Runner *r, uint32_t *n) {
    *n = r->km->n_outputs;
    for (uint32_t i = 0; i < *n; i++) {
        HostTensor *t = &r->out[i];
        if (r->model)
            t->n_bytes = smelt_tensor_dims(&r->model->outputs[i], r->symbols, t->dims);
        else
            shape_tensor(r, &r->km->outputs[i], false, t);
    }
    return r->out;
}

uint64_t runner_arena_bytes(const Runner *r) {
    return r->arena_bytes;
}

const smelt_model *runner_model(const Runner *r) {
    return r->model;
}
