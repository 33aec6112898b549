/* NumPy's .npz: a zip archive of .npy files, stored or deflated. Only what is needed to find one
 * member is read: the end record, the central directory and the member's local header. Archives
 * beyond 4 GiB (zip64) are refused. */
#include <string.h>
#include <zlib.h>

#include "driver/tensor_file.h"

enum {
    END_BYTES = 22,
    CENTRAL_BYTES = 46,
    LOCAL_BYTES = 30,
    MAX_COMMENT = 65535,
    STORED = 0,
    DEFLATED = 8
};

static uint32_t u16(const uint8_t *p) {
    return (uint32_t)p[0] | (uint32_t)p[1] << 8;
}

static uint32_t u32(const uint8_t *p) {
    return u16(p) | u16(p + 2) << 16;
}

typedef struct Member {
    uint32_t method, crc, packed, n_bytes, local_at;
} Member;

/* The central directory: [*at, *at + *size). */
static bool find_directory(const uint8_t *zip, size_t n, size_t *at, size_t *size) {
    if (n < END_BYTES) return false;
    size_t last = n - END_BYTES, first = last > MAX_COMMENT ? last - MAX_COMMENT : 0;
    for (size_t end = last + 1; end-- > first;) {
        if (memcmp(zip + end, "PK\5\6", 4)) continue;
        *size = u32(zip + end + 12);
        *at = u32(zip + end + 16);
        return *at <= end && *size <= end - *at;
    }
    return false;
}

/* Finds `want` or `want`.npy; with_any: the only member there is. */
static bool find_member(const uint8_t *zip, size_t at, size_t size, const char *want,
                        Member *found) {
    size_t end = at + size, want_length = strlen(want);
    int n_members = 0;
    while (end - at >= CENTRAL_BYTES && !memcmp(zip + at, "PK\1\2", 4)) {
        const uint8_t *p = zip + at;
        size_t length = u16(p + 28), rest = length + u16(p + 30) + u16(p + 32);
        if (rest > end - at - CENTRAL_BYTES) return false;
        const char *name = (const char *)p + CENTRAL_BYTES;
        size_t stem = length >= 4 && !memcmp(name + length - 4, ".npy", 4) ? length - 4 : length;
        *found = (Member){u16(p + 10), u32(p + 16), u32(p + 20), u32(p + 24), u32(p + 42)};
        if ((stem == want_length && !memcmp(name, want, stem)) ||
            (length == want_length && !memcmp(name, want, length)))
            return true;
        n_members++;
        at += CENTRAL_BYTES + rest;
    }
    return n_members == 1;
}

static bool inflate_member(const uint8_t *packed, uint32_t n_packed, uint8_t *out, uint32_t n_out) {
    z_stream z = {
        .next_in = (Bytef *)packed, .avail_in = n_packed, .next_out = out, .avail_out = n_out};
    if (inflateInit2(&z, -MAX_WBITS) != Z_OK) return false;
    int result = inflate(&z, Z_FINISH);
    bool good = result == Z_STREAM_END && z.total_out == n_out;
    inflateEnd(&z);
    return good;
}

bool npz_member(Arena *a, const char *path, const uint8_t *zip, size_t n, const char *member,
                const uint8_t **bytes, size_t *n_bytes, Diag *d) {
    SrcLoc where = {.file = path, .index = -1, .offset = -1};
    size_t at, size;
    Member f;
    if (!find_directory(zip, n, &at, &size)) {
        diag_error(d, where, "is not a zip archive, or one beyond 4 GiB");
        return false;
    }
    if (!find_member(zip, at, size, member, &f)) {
        diag_error(d, where, "has no member '%s'", member);
        return false;
    }
    if (f.local_at > n || n - f.local_at < LOCAL_BYTES || memcmp(zip + f.local_at, "PK\3\4", 4)) {
        diag_error(d, where, "is damaged: member '%s' does not lie where the directory says",
                   member);
        return false;
    }
    const uint8_t *local = zip + f.local_at;
    size_t skip = LOCAL_BYTES + u16(local + 26) + u16(local + 28), left = n - f.local_at;
    bool known = (f.method == STORED && f.packed == f.n_bytes) || f.method == DEFLATED;
    if (!known || skip > left || f.packed > left - skip) {
        diag_error(d, where, "member '%s' is damaged or compressed by a method that is not read",
                   member);
        return false;
    }
    /* Deflate cannot shrink by more than 1032 to 1: a larger claim is a lie. */
    uint8_t *out = NULL;
    if (f.method == STORED)
        *bytes = local + skip;
    else if (f.n_bytes / 1040 <= f.packed)
        *bytes = out = arena_alloc(a, f.n_bytes ? f.n_bytes : 1);
    bool good =
        f.method == STORED || (out && inflate_member(local + skip, f.packed, out, f.n_bytes));
    if (!good || crc32(0, *bytes, f.n_bytes) != f.crc) {
        diag_error(d, where, "member '%s' is damaged", member);
        return false;
    }
    *n_bytes = f.n_bytes;
    return true;
}
