/* Opening and mapping the files a model consists of: see mapped.h.
 *
 * The SIGBUS handler is what makes a mapping as safe as a copy. It knows every mapping from a list
 * of guards that only grows (a closed file's guard is used again), so it can walk the list at any
 * moment. A fault inside a mapping puts zero pages over the rest of it, marks it as cut and
 * returns; a fault anywhere else gets the default action. */
#include "frontend/mapped.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ir/support/arena.h"

typedef struct MapGuard {
    struct MapGuard *next;
    _Atomic uintptr_t start, end; /* start == 0: free for the next mapping */
    _Atomic int is_cut;
} MapGuard;

static _Atomic(MapGuard *) all_guards;
static pthread_mutex_t guard_lock = PTHREAD_MUTEX_INITIALIZER;
static size_t page_bytes;

static void on_bus_error(int sig, siginfo_t *info, void *context) {
    (void)context;
    int kept_errno = errno;
    uintptr_t at = (uintptr_t)info->si_addr;
    for (MapGuard *g = atomic_load(&all_guards); g; g = g->next) {
        uintptr_t start = atomic_load(&g->start), end = atomic_load(&g->end);
        if (!start || at < start || at >= end) continue;
        uintptr_t page = at & ~(uintptr_t)(page_bytes - 1);
        void *p = mmap((void *)page, end - page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
                       -1, 0);
        if (p == MAP_FAILED) break;
        atomic_store(&g->is_cut, 1);
        errno = kept_errno;
        return;
    }
    struct sigaction plain = {.sa_handler = SIG_DFL};
    sigaction(sig, &plain, NULL);
}

static MapGuard *guard_mapping(const void *start, size_t n) {
    pthread_mutex_lock(&guard_lock);
    if (!page_bytes) {
        page_bytes = (size_t)sysconf(_SC_PAGESIZE);
        struct sigaction act = {.sa_sigaction = on_bus_error, .sa_flags = SA_SIGINFO};
        sigemptyset(&act.sa_mask);
        sigaction(SIGBUS, &act, NULL);
    }
    MapGuard *g = atomic_load(&all_guards);
    while (g && atomic_load(&g->start)) g = g->next;
    if (!g) {
        g = xmalloc(sizeof *g);
        g->next = atomic_load(&all_guards);
        atomic_store(&all_guards, g);
    }
    atomic_store(&g->is_cut, 0);
    atomic_store(&g->end, (uintptr_t)start + n);
    atomic_store(&g->start, (uintptr_t)start);
    pthread_mutex_unlock(&guard_lock);
    return g;
}

static const char *why_not_regular(mode_t mode) {
    if (S_ISREG(mode)) return NULL;
    if (S_ISDIR(mode)) return "is a directory, not a file";
    if (S_ISFIFO(mode)) return "is a FIFO, not a regular file";
    if (S_ISSOCK(mode)) return "is a socket, not a regular file";
    if (S_ISCHR(mode) || S_ISBLK(mode)) return "is a device, not a regular file";
    return "is not a regular file";
}

/* Reads until the end or `want` bytes; *n says how many came. */
static const char *read_bytes(int fd, unsigned char *to, size_t want, size_t *n) {
    *n = 0;
    while (*n < want) {
        ssize_t got = read(fd, to + *n, want - *n);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return strerror(errno);
        if (got == 0) break;
        *n += (size_t)got;
    }
    return NULL;
}

const char *mapped_open_fd(MappedFile *f, int fd, size_t read_up_to) {
    struct stat st;
    *f = (MappedFile){0};
    if (fstat(fd, &st)) return strerror(errno);
    const char *why = why_not_regular(st.st_mode);
    if (why) return why;
    if ((uintmax_t)st.st_size > SIZE_MAX / 2) return "is too long";
    size_t n = (size_t)st.st_size;
    if (n <= read_up_to) {
        unsigned char *copy = xmalloc(n);
        why = read_bytes(fd, copy, n, &n);
        if (why) {
            free(copy);
            return why;
        }
        *f = (MappedFile){.bytes = copy, .n_bytes = n};
        return NULL;
    }
    void *p = mmap(NULL, n, PROT_READ, MAP_PRIVATE, fd, 0);
    if (p == MAP_FAILED) return strerror(errno);
    *f = (MappedFile){.bytes = p, .n_bytes = n, .guard = guard_mapping(p, n)};
    return NULL;
}

/* Standard input, into memory that doubles as it fills. */
static const char *read_stdin(MappedFile *f) {
    size_t cap = 64 << 10, n = 0;
    unsigned char *bytes = xmalloc(cap);
    const char *why = NULL;
    for (;;) {
        size_t got = 0;
        why = read_bytes(STDIN_FILENO, bytes + n, cap - n, &got);
        n += got;
        if (why || n < cap) break;
        if (cap >= MAPPED_STDIN_LIMIT) {
            why = "standard input gave more than 1 GiB; name a file instead";
            break;
        }
        bytes = xrealloc(bytes, cap *= 2);
    }
    if (why) {
        free(bytes);
        return why;
    }
    *f = (MappedFile){.bytes = bytes, .n_bytes = n};
    return NULL;
}

static const char *open_named(MappedFile *f, const char *path) {
    struct stat st;
    if (stat(path, &st)) return strerror(errno);
    const char *why = why_not_regular(st.st_mode);
    if (why) return why;
    /* O_NONBLOCK: should it have become a FIFO since stat(), opening must not wait */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) return strerror(errno);
    why = mapped_open_fd(f, fd, MAPPED_READ_MODEL);
    close(fd);
    return why;
}

bool mapped_open(MappedFile *f, const char *path, Diag *d) {
    SrcLoc where = {.file = path, .index = -1, .offset = -1};
    bool is_stdin = !strcmp(path, "-");
    if (is_stdin) where.file = "<stdin>";
    *f = (MappedFile){0};
    const char *why = is_stdin ? read_stdin(f) : open_named(f, path);
    if (!why && f->n_bytes == 0) why = "empty file";
    if (why) {
        diag_error(d, where, "%s", why);
        mapped_close(f);
    }
    return !why;
}

bool mapped_is_intact(const MappedFile *f) {
    return !f->guard || !atomic_load(&f->guard->is_cut);
}

void mapped_release(const MappedFile *f, const void *bytes, size_t n_bytes) {
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), start = (uintptr_t)bytes,
              end = start + n_bytes;
    uintptr_t first = (uintptr_t)f->bytes, last = first + f->n_bytes;
    if (!f->guard || start < first || end > last || mapped_is_intact(f) == false) return;
    start = (start + page - 1) / page * page;
    end = end / page * page;
    if (start < end) madvise((void *)start, end - start, MADV_DONTNEED);
}

void mapped_close(MappedFile *f) {
    if (f->guard) {
        munmap((void *)(uintptr_t)f->bytes, f->n_bytes);
        atomic_store(&f->guard->start, 0);
    } else {
        free((void *)(uintptr_t)f->bytes);
    }
    *f = (MappedFile){0};
}

/* At least 16 bytes of printable text, with line ends and tabs, and nothing else at the start. */
static bool is_text(const unsigned char *bytes, size_t n) {
    if (n > 256) n = 256;
    for (size_t i = 0; i < n; i++) {
        unsigned char c = bytes[i];
        if (c < 0x20 && c != '\n' && c != '\r' && c != '\t') return false;
        if (c == 0x7f) return false;
    }
    return n >= 4;
}

const char *mapped_format_hint(const unsigned char *bytes, size_t n_bytes) {
    static const struct {
        size_t at, n;
        const char *magic, *hint;
    } known[] = {
        {0, 2, "\x1f\x8b", "looks like a gzip archive: unpack it first"},
        {0, 4, "PK\3\4", "looks like a zip archive (a PyTorch, Keras or NumPy file?)"},
        {0, 4,
         "\x7f"
         "ELF",
         "looks like an ELF object or program"},
        {0, 8, "\x89HDF\r\n\x1a\n", "looks like an HDF5 file (Keras?)"},
        {0, 6, "\x93NUMPY", "looks like a NumPy array"},
        {0, 4, "BZh9", "looks like a bzip2 archive: unpack it first"},
        {0, 6,
         "\xfd"
         "7zXZ\0",
         "looks like an xz archive: unpack it first"},
        {0, 4, "\x28\xb5\x2f\xfd", "looks like a zstd archive: unpack it first"},
        {0, 4, "GGUF", "looks like a GGUF file"},
        {4, 4, "TFL3", "looks like a TensorFlow Lite model"},
        {0, 23, "version https://git-lfs", "looks like a Git LFS pointer: fetch the file itself"},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (n_bytes >= known[i].at + known[i].n &&
            !memcmp(bytes + known[i].at, known[i].magic, known[i].n))
            return known[i].hint;
    if (n_bytes >= 3 && bytes[0] == 0x80 && bytes[1] >= 2 && bytes[1] <= 5)
        return "looks like a Python pickle (PyTorch or scikit-learn?)";
    if (n_bytes > 9 && bytes[8] == '{' && bytes[5] == 0 && bytes[6] == 0 && bytes[7] == 0)
        return "looks like a safetensors file";
    if (is_text(bytes, n_bytes)) return "looks like text";
    return NULL;
}
