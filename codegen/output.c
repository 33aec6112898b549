/* Output files that appear whole or not at all: see output.h.
 *
 * The bytes go to ".smelt-PID-N.tmp" in the folder of the final path, which is therefore on the
 * same file system, so that rename() is atomic. The name is short because the final one may already
 * have the longest length that the file system allows; O_EXCL keeps two compilers apart. Errors
 * that a system reports only when the data reach the disk (quota, network file systems) are caught
 * by fsync() and close() before the rename. */
#include "codegen/output.h"
#include "ir/support/arena.h"
#include "ir/support/diag.h"
#include "runtime/include/smelt_hash.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BUFFER_BYTES = 1 << 16 };

struct Output {
    char *shown;     /* the path as given, for messages */
    char *path;      /* the same with links resolved */
    char *temporary; /* NULL: written directly */
    int fd;          /* -1 when closed */
    int failed;      /* errno of the first failure, or 0 */
    const char *doing;
    uint64_t offset;
    mode_t mode;
    bool is_hashed;
    SmeltHash hash;
    size_t n_held;
    unsigned char held[BUFFER_BYTES];
};

static void fail(Output *o, const char *doing, int why) {
    if (o->failed) return;
    o->failed = why ? why : EIO;
    o->doing = doing;
}

static char *copy_text(const char *s) {
    size_t n = strlen(s) + 1;
    return memcpy(xmalloc(n), s, n);
}

/* The folder of a path, with its last slash; "" for a plain name. */
static char *folder_of(const char *path) {
    const char *slash = strrchr(path, '/');
    size_t n = slash ? (size_t)(slash - path) + 1 : 0;
    char *folder = xmalloc(n + 1);
    memcpy(folder, path, n);
    return folder;
}

static void open_temporary(Output *o) {
    static atomic_uint serial;
    char *folder = folder_of(o->path);
    for (int attempt = 0; attempt < 100; attempt++) {
        StrBuf name = {0};
        strbuf_printf(&name, "%s.smelt-%ld-%u.tmp", folder, (long)getpid(),
                      atomic_fetch_add(&serial, 1));
        o->fd = open(name.text, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0666);
        if (o->fd >= 0) {
            o->temporary = name.text;
            break;
        }
        strbuf_free(&name);
        if (errno != EEXIST) break;
    }
    if (o->fd < 0) fail(o, "cannot create a file in its folder", errno);
    free(folder);
}

Output *output_open(const char *path) {
    Output *o = xmalloc(sizeof *o);
    o->fd = -1;
    o->shown = copy_text(path);
    char *real = realpath(path, NULL);
    o->path = real ? real : copy_text(path);
    struct stat s;
    if (stat(o->path, &s) != 0) {
        open_temporary(o);
    } else if (S_ISDIR(s.st_mode)) {
        fail(o, "cannot write", EISDIR);
    } else if (S_ISREG(s.st_mode)) {
        o->mode = s.st_mode & 07777;
        if (access(o->path, W_OK) != 0) {
            fail(o, "cannot write", errno);
        } else {
            open_temporary(o);
        }
    } else {
        o->fd = open(o->path, O_WRONLY | O_CLOEXEC);
        if (o->fd < 0) fail(o, "cannot open", errno);
    }
    return o;
}

static void write_through(Output *o, const unsigned char *p, size_t n) {
    while (n && !o->failed) {
        ssize_t done = write(o->fd, p, n < (1u << 30) ? n : 1u << 30);
        if (done > 0) {
            p += done;
            n -= (size_t)done;
        } else if (done == 0 || errno != EINTR) {
            fail(o, "cannot write", done == 0 ? ENOSPC : errno);
        }
    }
}

static void flush_held(Output *o) {
    write_through(o, o->held, o->n_held);
    o->n_held = 0;
}

void output_write(Output *o, const void *bytes, size_t n_bytes) {
    o->offset += n_bytes;
    if (o->is_hashed) smelt_hash_add(&o->hash, bytes, n_bytes);
    if (o->failed || n_bytes == 0) return;
    if (n_bytes > BUFFER_BYTES - o->n_held) flush_held(o);
    if (n_bytes >= BUFFER_BYTES) {
        write_through(o, bytes, n_bytes);
    } else if (!o->failed) {
        memcpy(o->held + o->n_held, bytes, n_bytes);
        o->n_held += n_bytes;
    }
}

void output_zeros(Output *o, uint64_t n_bytes) {
    static const unsigned char zeros[4096];
    while (n_bytes) {
        size_t n = n_bytes < sizeof zeros ? (size_t)n_bytes : sizeof zeros;
        output_write(o, zeros, n);
        n_bytes -= n;
    }
}

void output_text(Output *o, const char *text) {
    output_write(o, text, strlen(text));
}

void output_patch(Output *o, uint64_t offset, const void *bytes, size_t n_bytes) {
    BUG_IF(offset > o->offset || n_bytes > o->offset - offset, "patch outside of the output");
    flush_held(o);
    const unsigned char *p = bytes;
    while (n_bytes && !o->failed) {
        ssize_t done = pwrite(o->fd, p, n_bytes, (off_t)offset);
        if (done > 0) {
            p += done;
            n_bytes -= (size_t)done;
            offset += (uint64_t)done;
        } else if (done == 0 || errno != EINTR) {
            fail(o, "cannot write", done == 0 ? ENOSPC : errno);
        }
    }
}

void output_start_hash(Output *o) {
    smelt_hash_begin(&o->hash, 0);
    o->is_hashed = true;
}

uint64_t output_hash(const Output *o) {
    BUG_IF(!o->is_hashed, "no hash was started");
    return smelt_hash_end(&o->hash);
}

uint64_t output_offset(const Output *o) {
    return o->offset;
}

bool output_is_good(const Output *o) {
    return o->failed == 0;
}

/* Everything up to the rename; false if anything failed so far. */
static bool settle(Output *o) {
    if (!o->failed) flush_held(o);
    if (!o->failed && o->mode && fchmod(o->fd, o->mode) != 0) fail(o, "cannot set its mode", errno);
    if (!o->failed && o->temporary && fsync(o->fd) != 0 && errno != EINVAL && errno != EROFS)
        fail(o, "cannot write", errno);
    if (o->fd >= 0 && close(o->fd) != 0) fail(o, "cannot write", errno);
    o->fd = -1;
    return !o->failed;
}

static void put_in_place(Output *o) {
    if (!o->temporary) return;
    if (rename(o->temporary, o->path) != 0) {
        fail(o, "cannot be put in its place", errno);
        return;
    }
    free(o->temporary);
    o->temporary = NULL;
}

static void report(const Output *o, StrBuf *error) {
    if (error->n) strbuf_add(error, "; ");
    strbuf_escaped(error, o->shown, ESC_TERMINAL);
    strbuf_printf(error, ": %s: %s", o->doing, strerror(o->failed));
}

bool output_finish_all(Output **o, int n, StrBuf *error) {
    bool good = true;
    for (int i = 0; i < n; i++) good = settle(o[i]) && good;
    for (int i = 0; i < n && good; i++) {
        put_in_place(o[i]);
        good = !o[i]->failed;
    }
    for (int i = 0; i < n; i++) {
        if (o[i]->failed) report(o[i], error);
        output_discard(o[i]);
    }
    return good;
}

bool output_finish(Output *o, StrBuf *error) {
    return output_finish_all(&o, 1, error);
}

void output_discard(Output *o) {
    if (!o) return;
    if (o->fd >= 0) close(o->fd);
    if (o->temporary) unlink(o->temporary);
    free(o->temporary);
    free(o->path);
    free(o->shown);
    free(o);
}
