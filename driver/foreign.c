/* The files with a user's C functions (the `link` lines of --op-file): one object for a library
 * that is written, loaded into this process for one that runs here. */
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "driver/driver.h"
#include "ir/foreign.h"

static bool ends_with(const char *text, const char *end) {
    size_t n = strlen(text), m = strlen(end);
    return n >= m && !strcmp(text + n - m, end);
}

bool foreign_read(Session *s, OpFile *ops) {
    for (uint32_t i = 0; i < s->o->op_files.n; i++)
        if (!op_file_read(s->arena, ops, s->o->op_files.at[i], s->d)) return false;
    for (uint32_t i = 0; i < ops->links.n; i++) {
        if (!access(ops->links.at[i], R_OK)) continue;
        diag_error(s->d, (SrcLoc){.file = ops->links.at[i], .index = -1, .offset = -1}, "%s",
                   strerror(errno));
        return false;
    }
    return true;
}

const char *foreign_function(const Session *s) {
    const KModule *m = s->m->kmod;
    const char *name = NULL;
    for (uint32_t i = 0; m && !name && i < m->n_kernels; i++)
        name = kblock_extern(&m->kernels[i]->body);
    return name;
}

/* $CC with these options, all files to link that are no shared objects, and -o out. */
static bool run_link(Session *s, const char *const *options, int n, const char *out) {
    const char **argv = arena_array(s->arena, const char *, 3 * s->ops.links.n + (uint32_t)n + 6);
    int k = 0;
    argv[k++] = c_compiler();
    for (int i = 0; i < n; i++) argv[k++] = options[i];
    for (uint32_t i = 0; i < s->ops.links.n; i++) {
        const char *file = s->ops.links.at[i];
        bool is_archive = ends_with(file, ".a"); /* all of it, since nothing asks for its parts */
        if (ends_with(file, ".so")) continue;
        if (is_archive) argv[k++] = "-Wl,--whole-archive";
        argv[k++] = file;
        if (is_archive) argv[k++] = "-Wl,--no-whole-archive";
    }
    argv[k++] = "-o";
    argv[k++] = out;
    return run_compiler(s, argv);
}

static bool has_static_files(const Session *s) {
    for (uint32_t i = 0; i < s->ops.links.n; i++)
        if (!ends_with(s->ops.links.at[i], ".so")) return true;
    return false;
}

static const char *temporary(Session *s, const char *suffix) {
    const char *tmp = getenv("TMPDIR");
    char *path = arena_printf(s->arena, "%s/smelt-XXXXXX%s", tmp && *tmp ? tmp : "/tmp", suffix);
    int fd = mkstemps(path, (int)strlen(suffix));
    if (fd >= 0) {
        close(fd);
        return path;
    }
    diag_error(s->d, SRC_NOWHERE, "no temporary file can be made: %s", strerror(errno));
    return NULL;
}

/* ---- for a library that is written ----------------------------------------------------------- */

bool foreign_object(Session *s) {
    static const char *const options[] = {"-r", "-nostdlib", "-O2", "-fPIC"};
    if (!has_static_files(s) || !foreign_function(s)) return true;
    const char *path = temporary(s, ".o");
    if (!path) return false;
    MappedFile file;
    bool good = run_link(s, options, 4, path) && mapped_open(&file, path, s->d);
    unlink(path);
    if (!good) return false;
    s->codegen.foreign = arena_copy(s->arena, file.bytes, file.n_bytes);
    s->codegen.n_foreign_bytes = file.n_bytes;
    mapped_close(&file);
    return true;
}

/* ---- for a model that runs here -------------------------------------------------------------- */

static bool load(Session *s, const char *path) {
    const char *real = strchr(path, '/') ? path : arena_printf(s->arena, "./%s", path);
    if (dlopen(real, RTLD_NOW | RTLD_GLOBAL)) return true; /* stays until the process ends */
    diag_error(s->d, SRC_NOWHERE, "cannot load '%s': %s", path, dlerror());
    return false;
}

bool uses_blas(const Session *s) {
    return s->o->blas && !strcmp(s->o->blas, "openblas");
}

/* The library by its names as a package of the run time and of development. */
static bool load_blas(Session *s) {
    if (dlopen("libopenblas.so.0", RTLD_NOW | RTLD_GLOBAL)) return true;
    if (dlopen("libopenblas.so", RTLD_NOW | RTLD_GLOBAL)) return true;
    diag_error(s->d, SRC_NOWHERE, "--blas=openblas: %s", dlerror());
    return false;
}

/* The decoders are in this process, where generated code finds them by name; SMELT_IMAGE_MISSING is
 * what smelt was built without. */
static bool check_image_functions(Session *s) {
#ifdef SMELT_IMAGE_MISSING
    diag_unsupported(s->d, (SrcLoc){.file = s->o->model, .index = -1, .offset = -1},
                     "ImageDecoder runs here only where smelt was built with libsmelt_image, and "
                     "these were missing: " SMELT_IMAGE_MISSING
                     "; a compiled model can be linked with it, or with functions of your own");
    return false;
#else
    (void)s;
    return true;
#endif
}

static bool load_static_files(Session *s) {
    static const char *const options[] = {"-shared", "-O2", "-fPIC"};
    if (!has_static_files(s)) return true;
    const char *path = temporary(s, ".so");
    bool good = path && run_link(s, options, 3, path) && load(s, path);
    if (path) unlink(path);
    return good;
}

/* Every C function that the block calls was declared (IR text may name any) and is in the process.
 */
static bool check_loaded(Session *s, const KBlock *b) {
    for (const KStmt *st = b->first; st; st = st->next) {
        if (!check_loaded(s, &st->body) || !check_loaded(s, &st->other)) return false;
        if (st->kind != KS_EXTERN) continue;
        ForeignLibrary library = foreign_library(st->text);
        bool declared =
            op_file_declares(&s->ops, st->text) || (uses_blas(s) && library == FOREIGN_blas);
        if (!declared && library == FOREIGN_image) {
            if (!check_image_functions(s)) return false;
            declared = true;
        }
        if (declared && dlsym(RTLD_DEFAULT, st->text)) continue;
        diag_error(s->d, SRC_NOWHERE,
                   declared
                       ? "the C function '%s' is in no file that a 'link' line of --op-file names"
                       : "the C function '%s' is not declared by any --op-file",
                   st->text);
        return false;
    }
    return true;
}

bool foreign_load(Session *s) {
    if (!foreign_function(s)) return true;
    if (!load_static_files(s) || (uses_blas(s) && !load_blas(s))) return false;
    for (uint32_t i = 0; i < s->ops.links.n; i++)
        if (ends_with(s->ops.links.at[i], ".so") && !load(s, s->ops.links.at[i])) return false;
    for (uint32_t i = 0; i < s->m->kmod->n_kernels; i++)
        if (!check_loaded(s, &s->m->kmod->kernels[i]->body)) return false;
    return true;
}
