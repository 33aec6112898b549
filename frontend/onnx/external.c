/* External tensor data: files beside the model, opened so that nothing else can be reached.
 *
 * A location is a relative path of plain names. It is resolved below the model's folder without
 * following any symbolic link: by openat2() where the kernel has it, else component by component
 * with O_NOFOLLOW. The file must be regular and have one name (a hard link could be another
 * user's secret). Each file is opened once, its descriptor closed at once, its bytes kept mapped.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "frontend/onnx/model_internal.h"

enum { MAX_LOCATION = 4095, MAX_COMPONENT = 255 };

typedef struct SideFile {
    const char *location;
    MappedFile file;
    const char *why; /* not NULL: it could not be opened, and this is why */
} SideFile;

/* What external_data says, NUL-terminated and owned by the arena. */
typedef struct Place {
    const char *location;
    uint64_t offset, length;
    bool has_length;
} Place;

#define bad(m, t, where, d, fmt, ...)                                                              \
    ((void)(m),                                                                                    \
     diag_error(d, where, "external data of tensor '%s': " fmt, tensor_name(t), __VA_ARGS__),      \
     false)

/* NULL when the location may be opened. */
static const char *why_bad_location(const ProtobufCBinaryData *v) {
    const char *s = (const char *)v->data;
    if (!v->len) return "it is empty";
    if (v->len > MAX_LOCATION) return "it is longer than 4095 bytes";
    if (memchr(s, 0, v->len)) return "it contains a NUL byte";
    if (s[0] == '/') return "an absolute path is not allowed";
    if (memchr(s, '\\', v->len)) return "a backslash is not allowed";
    if (v->len >= 2 && s[1] == ':') return "a drive letter is not allowed";
    for (size_t i = 0, n; i <= v->len; i += n + 1) {
        const char *slash = memchr(s + i, '/', v->len - i);
        n = slash ? (size_t)(slash - s) - i : v->len - i;
        bool is_last = i + n == v->len;
        if (n == 0) return is_last ? "it ends with '/'" : "it has an empty component";
        if (n > MAX_COMPONENT) return "a component is longer than 255 bytes";
        if (n == 2 && !memcmp(s + i, "..", 2)) return "'..' is not allowed";
        if (n == 1 && s[i] == '.' && is_last) return "it names a directory";
        if (is_last) break;
    }
    return NULL;
}

/* Digits only, no sign, no blanks, below 2^63. */
static bool parse_decimal(const ProtobufCBinaryData *v, uint64_t *out) {
    uint64_t n = 0;
    if (!v->len || v->len > 19) return false;
    for (size_t i = 0; i < v->len; i++) {
        if (v->data[i] < '0' || v->data[i] > '9') return false;
        n = n * 10 + (uint64_t)(v->data[i] - '0');
    }
    *out = n;
    return n <= INT64_MAX;
}

/* Printable form of a key or value, cut to a length that suits a message. */
static const char *shown(OnnxModel *m, const ProtobufCBinaryData *v) {
    enum { LONGEST = 80 };
    size_t n = v->len > LONGEST ? LONGEST : v->len;
    char *s = arena_alloc(m->arena, n + 4);
    for (size_t i = 0; i < n; i++) s[i] = v->data[i] ? (char)v->data[i] : '?';
    if (v->len > LONGEST) memcpy(s + n, "...", 3);
    return s;
}

static bool key_is(const ProtobufCBinaryData *key, const char *name) {
    return key->len == strlen(name) && !memcmp(key->data, name, key->len);
}

static bool read_place(OnnxModel *m, const Onnx__TensorProto *t, SrcLoc where, Diag *d, Place *p) {
    static const char *const known[] = {"location", "offset", "length", "checksum"};
    unsigned seen = 0;
    *p = (Place){0};
    for (size_t i = 0; i < t->n_external_data; i++) {
        const ProtobufCBinaryData *key = &t->external_data[i]->key;
        const ProtobufCBinaryData *value = &t->external_data[i]->value;
        unsigned k = 0;
        while (k < 4 && !key_is(key, known[k])) k++;
        if (k == 4)
            return bad(m, t, where, d,
                       "the key '%s' is unknown; location, offset, length and "
                       "checksum are known",
                       shown(m, key));
        if (seen >> k & 1) return bad(m, t, where, d, "the key '%s' occurs twice", known[k]);
        seen |= 1u << k;
        if (k == 0) {
            const char *why = why_bad_location(value);
            if (why) return bad(m, t, where, d, "location '%s': %s", shown(m, value), why);
            char *location = arena_alloc(m->arena, value->len + 1);
            memcpy(location, value->data, value->len);
            p->location = location;
        }
        if ((k == 1 || k == 2) && !parse_decimal(value, k == 1 ? &p->offset : &p->length))
            return bad(m, t, where, d, "%s '%s' is not a decimal number below 2^63", known[k],
                       shown(m, value));
        if (k == 2) p->has_length = true;
    }
    if (!p->location) return bad(m, t, where, d, "%s", "it has no location");
    return true;
}

/* The slow way below: one directory at a time, no links. */
static int open_by_component(int folder, const char *location) {
    char name[MAX_COMPONENT + 1];
    int at = folder;
    for (const char *s = location;;) {
        const char *slash = strchr(s, '/');
        size_t n = slash ? (size_t)(slash - s) : strlen(s);
        memcpy(name, s, n);
        name[n] = 0;
        int flags = O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY;
        int next = openat(at, name, slash ? flags | O_DIRECTORY : flags);
        int kept = errno;
        if (at != folder) close(at);
        errno = kept;
        if (next < 0 || !slash) return next;
        at = next;
        s = slash + 1;
    }
}

static int open_below(int folder, const char *location) {
    struct open_how how = {
        .flags = O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
    };
    if (!getenv("SMELT_NO_OPENAT2")) {
        long fd = syscall(SYS_openat2, folder, location, &how, sizeof how);
        if (fd >= 0) return (int)fd;
        /* not there, or hidden by a sandbox that answers EPERM */
        if (errno != ENOSYS && errno != EPERM && errno != EINVAL) return -1;
    }
    return open_by_component(folder, location);
}

static const char *open_side_file(OnnxModel *m, SideFile *side) {
    if (!m->folder) return "a model from memory or standard input has no folder to find it in";
    if (m->folder_fd < 0) m->folder_fd = open(m->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (m->folder_fd < 0) return strerror(errno);
    int fd = open_below(m->folder_fd, side->location);
    if (fd < 0 && errno == ELOOP) return "a symbolic link is not allowed";
    if (fd < 0 && errno == ENXIO) return "is not a regular file";
    if (fd < 0) return strerror(errno);
    struct stat st;
    const char *why = NULL;
    if (fstat(fd, &st))
        why = strerror(errno);
    else if (S_ISREG(st.st_mode) && st.st_nlink != 1)
        why = "a file with several hard links is not allowed";
    else
        why = mapped_open_fd(&side->file, fd, MAPPED_READ_SIDE);
    close(fd);
    return why;
}

static SideFile *find_side_file(OnnxModel *m, const char *location) {
    SideFile *side = strmap_get(m->side_files, location);
    if (side) return side;
    side = arena_new(m->arena, SideFile);
    side->location = location;
    side->why = open_side_file(m, side);
    if (side->why) side->why = arena_strdup(m->arena, side->why);
    strmap_put(m->side_files, location, side);
    return side;
}

bool external_tensor_bytes(OnnxModel *m, const Onnx__TensorProto *t, size_t n_bytes, SrcLoc where,
                           Diag *d, const unsigned char **bytes) {
    Place p;
    if (!read_place(m, t, where, d, &p)) return false;
    if (p.has_length && p.length != n_bytes)
        return bad(m, t, where, d, "length is %" PRIu64 ", but its dims ask for %zu bytes",
                   p.length, n_bytes);
    const SideFile *side = find_side_file(m, p.location);
    if (side->why) return bad(m, t, where, d, "'%s': %s", p.location, side->why);
    size_t size = side->file.n_bytes;
    if (p.offset > size || n_bytes > size - p.offset)
        return bad(m, t, where, d,
                   "offset %" PRIu64 " and length %zu go past the end of '%s', which has %zu bytes",
                   p.offset, n_bytes, p.location, size);
    *bytes = side->file.bytes + p.offset;
    return true;
}

void external_close(OnnxModel *m) {
    for (uint32_t i = 0; i < strmap_count(m->side_files); i++)
        mapped_close(&((SideFile *)strmap_value(m->side_files, i))->file);
    if (m->folder_fd >= 0) close(m->folder_fd);
}

bool external_is_intact(const OnnxModel *m, Diag *d) {
    bool good = true;
    for (uint32_t i = 0; i < strmap_count(m->side_files); i++) {
        const SideFile *side = strmap_value(m->side_files, i);
        if (mapped_is_intact(&side->file)) continue;
        diag_error(d, onnx_model_loc(m), "'%s' was shortened while it was read", side->location);
        good = false;
    }
    return good;
}
