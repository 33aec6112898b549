/* One model on its way through the compiler: the steps that all commands share. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "codegen/interface.h"
#include "driver/driver.h"
#include "driver/tensor_file.h"
#include "ir/parse.h"

#ifndef SMELT_VERIFY_DEFAULT
#define SMELT_VERIFY_DEFAULT 0
#endif

static bool line_is_open; /* a progress line is on the terminal */

void progress_end(void) {
    if (line_is_open) fputs("\r\033[K", stderr);
    line_is_open = false;
}

void progress(const Session *s, const char *fmt, ...) {
    bool on_terminal = isatty(STDERR_FILENO) && !s->o->time && !s->o->trace && !s->o->dump;
    if (!s->o->verbose && !on_terminal) return;
    progress_end();
    va_list ap;
    va_start(ap, fmt);
    fputs("smelt: ", stderr);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    if (s->o->verbose)
        fputc('\n', stderr);
    else
        line_is_open = true;
    fflush(stderr);
}

/* "dir/resnet-50.onnx" gives resnet_50. */
static const char *default_name(Arena *a, const char *path) {
    const char *slash = strrchr(path, '/');
    char *name = arena_strdup(a, slash ? slash + 1 : path);
    char *dot = strrchr(name, '.');
    if (dot && dot > name) *dot = 0;
    return c_identifier(a, strcmp(path, "-") ? name : "model");
}

/* NAME=2,3 of --shape; "NAME=" is a scalar. */
static bool parse_shapes(Session *s, ShapeOverride **shapes) {
    const OptionList *list = &s->o->shapes;
    *shapes = arena_array(s->arena, ShapeOverride, list->n ? list->n : 1);
    for (uint32_t i = 0; i < list->n; i++) {
        ShapeOverride *o = &(*shapes)[i];
        char *text = arena_strdup(s->arena, list->at[i]), *equals = strrchr(text, '=');
        char *at = equals ? equals + 1 : text;
        bool good = equals != NULL;
        while (good && *at) {
            char *end;
            long long v = strtoll(at, &end, 10);
            good = end != at && v >= 0 && v <= INT32_MAX && o->rank < MAX_RANK &&
                   (!*end || (*end == ',' && end[1]));
            if (good) o->dims[o->rank++] = v;
            at = *end ? end + 1 : end;
        }
        if (!good) {
            diag_error(s->d, SRC_NOWHERE, "--shape takes NAME=N,N,..., not '%s'", list->at[i]);
            return false;
        }
        *equals = 0;
        o->name = text;
    }
    return true;
}

/* The data given for a tensor input. */
static bool find_data(Session *s, int index, const char *name, HostTensor *t) {
    const char *path = NULL;
    if (s->o->data_folder && index >= 0)
        path = arena_printf(s->arena, "%s/input_%d.pb", s->o->data_folder, index);
    size_t n = strlen(name);
    for (uint32_t i = 0; i < s->o->data.n; i++) {
        const char *given = s->o->data.at[i];
        if (!strncmp(given, name, n) && given[n] == '=') path = given + n + 1;
    }
    Diag *quiet =
        diag_create(); /* what is wrong with the file is told when it is read for the run */
    bool good = path && tensor_read(s->arena, path, name, t, quiet);
    diag_destroy(quiet);
    return good;
}

/* ImportOptions.data_shape of `smelt run`: user is the Session. */
static bool shape_of_data(void *user, int index, const char *name, int *rank, int64_t *dims) {
    HostTensor t;
    if (!find_data(user, index, name, &t)) return false;
    *rank = t.rank;
    memcpy(dims, t.dims, sizeof *dims * (size_t)t.rank);
    return true;
}

/* ImportOptions.data_list of `smelt run`: a file of --inputs, or what --input says of NAME.0, ...
 */
static bool list_of_data(void *user, int index, const char *name, bool of_sequence,
                         bool is_optional, const ShapeOverride **shapes, int *n) {
    Session *s = user;
    HostList list = {0};
    bool good = false;
    ShapeOverride *at;
    if (s->o->data_folder) {
        const char *path = arena_printf(s->arena, "%s/input_%d.pb", s->o->data_folder, index);
        Diag *quiet = diag_create();
        good = list_read(s->arena, path, of_sequence, is_optional, &list, quiet);
        diag_destroy(quiet);
        at = arena_array(s->arena, ShapeOverride, list.n + 1);
        for (int i = 0; i < list.n; i++) {
            at[i].rank = list.at[i].rank;
            memcpy(at[i].dims, list.at[i].dims, sizeof at[i].dims);
        }
    } else if (of_sequence) {
        int count = 0, k = 0;
        at = arena_array(s->arena, ShapeOverride, s->o->data.n + 1);
        for (; count < (int)s->o->data.n; count++) {
            const char *item = arena_printf(s->arena, "%s.%d", name, count);
            if (!shape_of_data(s, -1, item, &k, at[count].dims)) break;
            at[count].rank = k;
        }
        list.n = count;
        good = count > 0;
    }
    if (!good) return false;
    *shapes = at;
    *n = list.is_absent ? -1 : list.n;
    return true;
}

/* ImportOptions.data_value of `smelt run`. */
static bool value_of_data(void *user, int index, const char *name, int64_t *value) {
    HostTensor t;
    if (!find_data(user, index, name, &t)) return false;
    Value v = {.dtype = t.dtype, .data = t.data, .data_bytes = t.n_bytes};
    bool whole = t.dtype == DT_BOOL || (dtype_is_int(t.dtype) && dtype_info[t.dtype].bits >= 8);
    if (!whole || t.n_bytes != (uint64_t)dtype_bytes(t.dtype)) return false;
    *value = value_const_int(&v, 0);
    return true;
}

static int default_jobs(void) {
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n < 1 ? 1 : n > 64 ? 64 : (int)n;
}

/* An ONNX model, IR text (whose first word says so), or either from standard input. */
static Module *read_model(Session *s, const ImportOptions *import) {
    const char *path = s->o->model;
    if (!mapped_open(&s->file, path, s->d)) return NULL;
    const char *bytes = (const char *)s->file.bytes;
    if (parse_is_ir(bytes, s->file.n_bytes)) {
        char *text = arena_alloc(s->arena, s->file.n_bytes + 1);
        memcpy(text, bytes, s->file.n_bytes);
        return parse_module(text, s->target, s->d);
    }
    if (!strcmp(path, "-"))
        return frontend_import_onnx_bytes("-", bytes, s->file.n_bytes, import, s->target, s->d);
    mapped_close(&s->file);
    return frontend_import_onnx(path, import, s->target, s->d);
}

static DType asked_precision(const char *word) {
    return !word                   ? DT_NONE
           : !strcmp(word, "bf16") ? DT_BF16
           : !strcmp(word, "f16")  ? DT_F16
                                   : DT_NONE;
}

static void set_options(Session *s, Module *m) {
    m->opt = s->codegen.opt;
    m->fast_math = s->o->fast_math;
    m->winograd = !s->o->no_winograd;
    m->precision = asked_precision(s->o->precision);
    m->cache_places = s->o->cache.value;
    m->blas = uses_blas(s);
    m->run_kernel = fold_kernel;
    m->run_kernel_user = s;
}

bool session_open(Session *s, const Options *o) {
    *s = (Session){.o = o, .d = diag_create(), .arena = arena_create()};
    s->codegen.opt = o->opt.given ? (int)o->opt.value : 3;
    s->codegen.jobs = o->jobs.given && o->jobs.value
                          ? (int)(o->jobs.value > 64 ? 64 : o->jobs.value)
                          : default_jobs();
    s->codegen.weights_file = o->weights && !strcmp(o->weights, "file");
    s->codegen.verify = SMELT_VERIFY_DEFAULT;
    s->target = codegen_target(s->arena, o->target, o->cpu, o->features, s->d);
    if (!s->target) return false;
    if (o->fast_math) s->target = target_relax(s->arena, s->target);
    ImportOptions import = {.n_dims = (int)o->dims.n};
    DimLists lists;
    ShapeOverride *shapes;
    if (!dims_parse(s, &lists) || !parse_shapes(s, &shapes)) return false;
    import.dims = lists.general;
    import.shapes = shapes;
    import.n_shapes = (int)o->shapes.n;
    if (o->command == COMMAND_run) {
        import.data_shape = shape_of_data;
        import.data_list = list_of_data;
        import.data_value = value_of_data;
        import.data_user = s;
    }
    if (!foreign_read(s, &s->ops)) return false;
    import.ops = &s->ops;
    import.inputs = split_list(s->arena, o->cut_inputs, &import.n_inputs);
    import.outputs = split_list(s->arena, o->cut_outputs, &import.n_outputs);
    progress(s, "reading %s", o->model);
    s->m = read_model(s, &import);
    if (!s->m) return false;
    const char *name = o->name ? o->name : s->m->name; /* IR text has one of its own */
    s->m->name = *name ? c_identifier(s->arena, name) : default_name(s->arena, o->model);
    if (s->m->kmod) s->m->kmod->name = s->m->name;
    set_options(s, s->m);
    if (!dims_add_versions(s, &lists, &import)) return false;
    for (uint32_t i = 0; i < s->m->versions.n; i++) set_options(s, s->m->versions.at[i].m);
    return tune_open(s);
}

bool session_compile(Session *s, const char *stop_after) {
    const Options *o = s->o;
    PassOptions p = {.only = o->only,
                     .skip = o->skip,
                     .dump = o->dump,
                     .dump_dir = o->dump_dir,
                     .stop_after = o->stop_after,
                     .trace = o->trace,
                     .time = o->time,
                     .limit_rewrites = o->max_rewrites.given,
                     .max_rewrites = o->max_rewrites.value,
                     .verify = o->verify.given ? (int)o->verify.value : SMELT_VERIFY_DEFAULT};
    if (stop_after && !p.only && !p.stop_after) p.stop_after = stop_after;
    progress(s, "compiling %s", s->m->name);
    return run_passes(s->m, &p) && tune_save(s);
}

const Target *session_host(Session *s) {
    if (!s->host) s->host = codegen_target(s->arena, NULL, NULL, NULL, s->d);
    return s->host;
}

bool session_is_complete(Session *s) {
    if (s->m->kmod && s->m->facts & FACT_MEMORY) return true;
    diag_error(s->d, SRC_NOWHERE, "the passes that were left out are needed for this");
    return false;
}

int session_close(Session *s, int otherwise) {
    progress_end();
    if (s->m && !diag_n_errors(s->d)) frontend_is_intact(s->m, s->d);
    int status = diag_exit_code(s->d);
    diag_print(s->d);
    fold_end(s);
    tune_end(s);
    if (s->m) module_destroy(s->m);
    mapped_close(&s->file);
    arena_destroy(s->arena);
    diag_destroy(s->d);
    return status ? status : otherwise;
}
