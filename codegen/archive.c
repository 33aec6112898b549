/* `ar` archives: see archive.h. Layout, after the magic "!<arch>\n", each part behind a 60-byte
 * header of text fields and at an even offset:
 *
 *   GNU      "/" or "/SYM64/"   symbol index: count, member offsets (big-endian 32 or 64 bits),
 *                               then the names, each ended by a zero
 *            "//"               names longer than 15 bytes, each ended by "/\n"; header: "/OFFSET"
 *            members            header: "NAME/"
 *   Darwin   "__.SYMDEF" (_64)  index: size of the pairs, pairs (name offset, member offset), size
 *                               of the names, names; little-endian 32 or 64 bits
 *            members            header "#1/LENGTH": the name stands before the data, padded with
 *                               zeros so that the data, like ld64 wants them, start at 8
 *
 * The index comes first and holds offsets of what follows, so everything is laid out before the
 * first byte is written. Sizes past ten decimal digits do not fit a header and cannot occur:
 * writers of members are limited by the disk long before 10 TB, and BUG_IF guards it. */
#include "codegen/archive.h"
#include "ir/support/arena.h"
#include "ir/support/diag.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAGIC_BYTES = 8, HEADER_BYTES = 60, GNU_SHORT_NAME = 15 };

typedef struct Layout {
    ArchiveFormat format;
    const ArchiveMember *members;
    size_t n_members;
    int word; /* bytes of an offset in the index: 4 or 8 */
    uint64_t n_symbols;
    uint64_t names_bytes; /* of the symbols' names in the index, with padding */
    uint64_t index_bytes; /* 0: no index */
    uint64_t table_bytes; /* of GNU's long names, without the padding byte */
    uint64_t *offset;     /* of each member's header */
} Layout;

static uint64_t round_up(uint64_t v, uint64_t to) {
    return (v + to - 1) / to * to;
}

ArchiveFormat archive_format(const char *triple) {
    static const char *const darwin[] = {"-apple-", "-darwin", "-macos", "-ios"};
    for (size_t i = 0; i < sizeof darwin / sizeof *darwin; i++)
        if (strstr(triple, darwin[i])) return ARCHIVE_DARWIN;
    return ARCHIVE_GNU;
}

static void write_word(Output *o, uint64_t v, int n_bytes, bool big) {
    unsigned char b[8];
    for (int i = 0; i < n_bytes; i++) b[big ? n_bytes - 1 - i : i] = (unsigned char)(v >> (8 * i));
    output_write(o, b, (size_t)n_bytes);
}

static void write_header(Output *o, const char *name, uint64_t n_bytes) {
    char text[HEADER_BYTES + 1];
    int n = snprintf(text, sizeof text, "%-16s%-12d%-6d%-6d%-8s%-10" PRIu64 "`\n", name, 0, 0, 0,
                     "100644", n_bytes);
    BUG_IF(n != HEADER_BYTES, "archive member '%s' does not fit its header", name);
    output_write(o, text, HEADER_BYTES);
}

/* ---- GNU ------------------------------------------------------------------------------------- */

/* Bytes of a member with its header and padding. */
static uint64_t gnu_member_bytes(const ArchiveMember *m) {
    return HEADER_BYTES + round_up(m->n_bytes, 2);
}

static void gnu_layout(Layout *l) {
    for (size_t i = 0; i < l->n_members; i++) {
        size_t n = strlen(l->members[i].name);
        if (n > GNU_SHORT_NAME) l->table_bytes += n + 2;
    }
    l->index_bytes = (l->n_symbols + 1) * (uint64_t)l->word + l->names_bytes;
    if (l->n_symbols == 0) l->index_bytes = 0;
    uint64_t at = MAGIC_BYTES;
    if (l->index_bytes) at += HEADER_BYTES + round_up(l->index_bytes, 2);
    if (l->table_bytes) at += HEADER_BYTES + round_up(l->table_bytes, 2);
    for (size_t i = 0; i < l->n_members; i++) {
        l->offset[i] = at;
        at += gnu_member_bytes(&l->members[i]);
    }
}

static void write_names(Output *o, const Layout *l) {
    for (size_t i = 0; i < l->n_members; i++)
        for (size_t s = 0; s < l->members[i].n_symbols; s++)
            output_write(o, l->members[i].symbols[s], strlen(l->members[i].symbols[s]) + 1);
}

static void gnu_write_index(Output *o, const Layout *l) {
    write_header(o, l->word == 8 ? "/SYM64/" : "/", l->index_bytes);
    write_word(o, l->n_symbols, l->word, true);
    for (size_t i = 0; i < l->n_members; i++)
        for (size_t s = 0; s < l->members[i].n_symbols; s++)
            write_word(o, l->offset[i], l->word, true);
    write_names(o, l);
    if (l->index_bytes % 2) output_text(o, "\n");
}

static void gnu_write_table(Output *o, const Layout *l) {
    write_header(o, "//", l->table_bytes);
    for (size_t i = 0; i < l->n_members; i++) {
        if (strlen(l->members[i].name) <= GNU_SHORT_NAME) continue;
        output_text(o, l->members[i].name);
        output_text(o, "/\n");
    }
    if (l->table_bytes % 2) output_text(o, "\n");
}

static void write_content(Output *o, const ArchiveMember *m) {
    uint64_t start = output_offset(o);
    if (m->bytes) {
        output_write(o, m->bytes, (size_t)m->n_bytes);
    } else if (m->write) {
        m->write(o, m->ctx);
    }
    BUG_IF(output_offset(o) - start != m->n_bytes,
           "archive member '%s' has %" PRIu64 " bytes, not %" PRIu64, m->name,
           output_offset(o) - start, m->n_bytes);
}

static void gnu_write(Output *o, const Layout *l) {
    if (l->index_bytes) gnu_write_index(o, l);
    if (l->table_bytes) gnu_write_table(o, l);
    uint64_t in_table = 0;
    for (size_t i = 0; i < l->n_members; i++) {
        const ArchiveMember *m = &l->members[i];
        char name[32];
        if (strlen(m->name) <= GNU_SHORT_NAME) {
            snprintf(name, sizeof name, "%s/", m->name);
        } else {
            snprintf(name, sizeof name, "/%" PRIu64, in_table);
            in_table += strlen(m->name) + 2;
        }
        write_header(o, name, m->n_bytes);
        write_content(o, m);
        if (m->n_bytes % 2) output_text(o, "\n");
    }
}

/* ---- Darwin ---------------------------------------------------------------------------------- */

/* Bytes of a name and its padding, for a header at offset `at`. */
static uint64_t darwin_name_bytes(uint64_t at, const char *name) {
    uint64_t start = at + HEADER_BYTES;
    return round_up(start + strlen(name), 8) - start;
}

static const char *darwin_index_name(const Layout *l) {
    return l->word == 8 ? "__.SYMDEF_64" : "__.SYMDEF";
}

static void darwin_layout(Layout *l) {
    uint64_t word = (uint64_t)l->word;
    l->names_bytes = round_up(l->names_bytes, 8);
    l->index_bytes = l->n_symbols ? 2 * word + l->n_symbols * 2 * word + l->names_bytes : 0;
    uint64_t at = MAGIC_BYTES;
    if (l->index_bytes)
        at += HEADER_BYTES + darwin_name_bytes(at, darwin_index_name(l)) + l->index_bytes;
    for (size_t i = 0; i < l->n_members; i++) {
        const ArchiveMember *m = &l->members[i];
        l->offset[i] = at;
        at += HEADER_BYTES + darwin_name_bytes(at, m->name) + round_up(m->n_bytes, 8);
    }
}

/* Header and name; n_bytes: of the data with their padding. */
static void darwin_write_head(Output *o, const char *name, uint64_t n_bytes) {
    uint64_t name_bytes = darwin_name_bytes(output_offset(o), name);
    char field[32];
    snprintf(field, sizeof field, "#1/%" PRIu64, name_bytes);
    write_header(o, field, name_bytes + n_bytes);
    output_text(o, name);
    output_zeros(o, name_bytes - strlen(name));
}

static void darwin_write_index(Output *o, const Layout *l) {
    uint64_t word = (uint64_t)l->word, name_at = 0, names = 0;
    darwin_write_head(o, darwin_index_name(l), l->index_bytes);
    write_word(o, l->n_symbols * 2 * word, l->word, false);
    for (size_t i = 0; i < l->n_members; i++) {
        for (size_t s = 0; s < l->members[i].n_symbols; s++) {
            write_word(o, name_at, l->word, false);
            write_word(o, l->offset[i], l->word, false);
            name_at += strlen(l->members[i].symbols[s]) + 1;
        }
    }
    write_word(o, l->names_bytes, l->word, false);
    names = output_offset(o);
    write_names(o, l);
    output_zeros(o, names + l->names_bytes - output_offset(o));
}

static void darwin_write(Output *o, const Layout *l) {
    if (l->index_bytes) darwin_write_index(o, l);
    for (size_t i = 0; i < l->n_members; i++) {
        const ArchiveMember *m = &l->members[i];
        uint64_t padding = round_up(m->n_bytes, 8) - m->n_bytes;
        darwin_write_head(o, m->name, m->n_bytes + padding);
        write_content(o, m);
        while (padding--) output_text(o, "\n");
    }
}

/* ---- both ------------------------------------------------------------------------------------ */

static void lay_out(Layout *l, int word) {
    l->word = word;
    l->n_symbols = l->names_bytes = l->table_bytes = 0;
    for (size_t i = 0; i < l->n_members; i++) {
        l->n_symbols += l->members[i].n_symbols;
        for (size_t s = 0; s < l->members[i].n_symbols; s++)
            l->names_bytes += strlen(l->members[i].symbols[s]) + 1;
    }
    if (l->format == ARCHIVE_GNU) {
        gnu_layout(l);
    } else {
        darwin_layout(l);
    }
}

void archive_write_limit(Output *o, ArchiveFormat format, const ArchiveMember *members,
                         size_t n_members, uint64_t index_limit) {
    Layout l = {.format = format, .members = members, .n_members = n_members};
    l.offset = xmalloc((n_members + 1) * sizeof *l.offset);
    lay_out(&l, 4);
    if (n_members && l.offset[n_members - 1] > index_limit) lay_out(&l, 8);
    BUG_IF(output_offset(o) != 0, "an archive starts its file");
    output_text(o, "!<arch>\n");
    if (format == ARCHIVE_GNU) {
        gnu_write(o, &l);
    } else {
        darwin_write(o, &l);
    }
    free(l.offset);
}

void archive_write(Output *o, ArchiveFormat format, const ArchiveMember *members,
                   size_t n_members) {
    archive_write_limit(o, format, members, n_members, UINT32_MAX);
}
