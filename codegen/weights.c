/* Weights as an ELF object or as a weights file: see weights.h. The object, in file order:
 *
 *   ELF header | .rodata, from 64 on | .symtab | .strtab | .shstrtab | section headers
 *
 * .note.GNU-stack is empty and tells linkers that no executable stack is needed. Word size, byte
 * order, machine number and flags are a row of a table; linkers refuse to mix float ABIs, which are
 * in the flags of Arm and RISC-V objects. Positions follow from the sizes alone, so the object's
 * size is known before any of it is made, and the weights are written exactly once, in order. */
#include "codegen/weights.h"
#include "ir/support/diag.h"
#include "runtime/include/smelt_weights.h"
#include <inttypes.h>
#include <string.h>

enum { ALIGN = 64 };

/* Numbers of the ELF specification and the processor supplements. */
enum {
    ARM_EABI5 = 0x05000000,
    ARM_FLOAT_HARD = 0x400,
    RISCV_RVC = 1,
    RISCV_FLOAT_SINGLE = 2,
    RISCV_FLOAT_DOUBLE = 4,
    MACHINE_386 = 3,
    MACHINE_PPC64 = 21,
    MACHINE_S390 = 22,
    MACHINE_ARM = 40,
    MACHINE_X86_64 = 62,
    MACHINE_AARCH64 = 183,
    MACHINE_RISCV = 243,
    MACHINE_LOONGARCH = 258,
};

enum { SEC_NULL, SEC_RODATA, SEC_STACK, SEC_SYMTAB, SEC_STRTAB, SEC_SHSTRTAB, SEC_COUNT };
static const char section_names[] = "\0.rodata\0.note.GNU-stack\0.symtab\0.strtab\0.shstrtab";

typedef struct ElfArch {
    const char *arch; /* prefix of the triple; the first row that fits wins */
    int bits;
    bool big;
    uint16_t machine;
    uint32_t flags;
} ElfArch;

static const ElfArch elf_archs[] = {
    {.arch = "x86_64", .bits = 64, .machine = MACHINE_X86_64},
    {.arch = "amd64", .bits = 64, .machine = MACHINE_X86_64},
    {.arch = "i386", .bits = 32, .machine = MACHINE_386},
    {.arch = "i486", .bits = 32, .machine = MACHINE_386},
    {.arch = "i586", .bits = 32, .machine = MACHINE_386},
    {.arch = "i686", .bits = 32, .machine = MACHINE_386},
    {.arch = "aarch64_be", .bits = 64, .big = true, .machine = MACHINE_AARCH64},
    {.arch = "aarch64", .bits = 64, .machine = MACHINE_AARCH64},
    {.arch = "arm64", .bits = 64, .machine = MACHINE_AARCH64},
    {.arch = "armeb", .bits = 32, .big = true, .machine = MACHINE_ARM, .flags = ARM_EABI5},
    {.arch = "thumbeb", .bits = 32, .big = true, .machine = MACHINE_ARM, .flags = ARM_EABI5},
    {.arch = "arm", .bits = 32, .machine = MACHINE_ARM, .flags = ARM_EABI5},
    {.arch = "thumb", .bits = 32, .machine = MACHINE_ARM, .flags = ARM_EABI5},
    {.arch = "riscv64", .bits = 64, .machine = MACHINE_RISCV},
    {.arch = "riscv32", .bits = 32, .machine = MACHINE_RISCV},
    {.arch = "powerpc64le", .bits = 64, .machine = MACHINE_PPC64, .flags = 2},
    {.arch = "ppc64le", .bits = 64, .machine = MACHINE_PPC64, .flags = 2},
    {.arch = "s390x", .bits = 64, .big = true, .machine = MACHINE_S390},
    {.arch = "loongarch64", .bits = 64, .machine = MACHINE_LOONGARCH, .flags = 0x43},
};

/* Triples of these architectures whose objects are not the ELF described here. */
static const char *const not_elf[] = {"-windows", "-win32", "-cygwin", "-mingw", "-apple",
                                      "-darwin",  "-macos", "-ios",    "-uefi",  "macho",
                                      "coff",     "x32",    "ilp32"};

static bool has_feature(const char *features, const char *name) {
    size_t n = strlen(name);
    for (const char *f = features; f && *f; f += strcspn(f, ","), f += *f == ',') {
        const char *word = *f == '+' ? f + 1 : f;
        if (strncmp(word, name, n) == 0 && (word[n] == ',' || word[n] == 0)) return true;
    }
    return false;
}

static bool find_arch(const char *triple, const char *features, ElfArch *found) {
    for (size_t i = 0; i < sizeof not_elf / sizeof *not_elf; i++)
        if (strstr(triple, not_elf[i])) return false;
    for (size_t i = 0; i < sizeof elf_archs / sizeof *elf_archs; i++) {
        if (strncmp(triple, elf_archs[i].arch, strlen(elf_archs[i].arch)) != 0) continue;
        *found = elf_archs[i];
        if (found->machine == MACHINE_ARM && strstr(triple, "eabihf"))
            found->flags |= ARM_FLOAT_HARD;
        if (found->machine == MACHINE_RISCV) {
            if (has_feature(features, "c")) found->flags |= RISCV_RVC;
            if (has_feature(features, "d")) {
                found->flags |= RISCV_FLOAT_DOUBLE;
            } else if (has_feature(features, "f")) {
                found->flags |= RISCV_FLOAT_SINGLE;
            }
        }
        return true;
    }
    return false;
}

bool weights_has_object(const char *triple, const char *features) {
    ElfArch arch;
    return find_arch(triple, features, &arch);
}

static uint64_t round_up(uint64_t v, uint64_t to) {
    return (v + to - 1) / to * to;
}

static uint64_t symbol_bytes(const WeightSymbol *s) {
    uint64_t n = 0;
    for (size_t i = 0; i < s->n_spans; i++) n += s->spans[i].n_bytes;
    return n;
}

static void write_spans(Output *o, const WeightSymbol *s) {
    for (size_t i = 0; i < s->n_spans; i++) {
        const WeightSpan *span = &s->spans[i];
        uint64_t start = output_offset(o);
        if (span->bytes) {
            output_write(o, span->bytes, (size_t)span->n_bytes);
        } else if (span->write) {
            span->write(o, span->ctx);
        } else {
            output_zeros(o, span->n_bytes);
        }
        BUG_IF(output_offset(o) - start != span->n_bytes,
               "weights '%s': %" PRIu64 " bytes written instead of %" PRIu64, s->name,
               output_offset(o) - start, span->n_bytes);
    }
}

/* Writes all symbols, each from a multiple of ALIGN bytes on; returns the length. */
static uint64_t write_symbols(Output *o, const WeightSymbol *symbols, size_t n, uint64_t *offsets) {
    uint64_t start = output_offset(o);
    for (size_t i = 0; i < n; i++) {
        uint64_t at = output_offset(o) - start;
        output_zeros(o, round_up(at, ALIGN) - at);
        if (offsets) offsets[i] = round_up(at, ALIGN);
        write_spans(o, &symbols[i]);
    }
    return output_offset(o) - start;
}

/* ---- the object ------------------------------------------------------------------------------ */

typedef struct Object {
    ElfArch arch;
    const WeightSymbol *symbols;
    size_t n_symbols;
    uint64_t rodata_bytes, symtab_at, strtab_at, strtab_bytes, shstrtab_at, headers_at, n_bytes;
} Object;

static uint64_t by_class(const Object *b, uint64_t in_32, uint64_t in_64) {
    return b->arch.bits == 64 ? in_64 : in_32;
}

static Object lay_out(const char *triple, const char *features, const WeightSymbol *symbols,
                      size_t n_symbols) {
    Object b = {.symbols = symbols, .n_symbols = n_symbols, .strtab_bytes = 1};
    BUG_IF(!find_arch(triple, features, &b.arch), "no weights object for target '%s'", triple);
    for (size_t i = 0; i < n_symbols; i++) {
        b.rodata_bytes = round_up(b.rodata_bytes, ALIGN) + symbol_bytes(&symbols[i]);
        b.strtab_bytes += strlen(symbols[i].name) + 1;
    }
    b.symtab_at = round_up(ALIGN + b.rodata_bytes, 8);
    b.strtab_at = b.symtab_at + (n_symbols + 1) * by_class(&b, 16, 24);
    b.shstrtab_at = b.strtab_at + b.strtab_bytes;
    b.headers_at = round_up(b.shstrtab_at + sizeof section_names, 8);
    b.n_bytes = b.headers_at + SEC_COUNT * by_class(&b, 40, 64);
    BUG_IF(b.arch.bits == 32 && b.n_bytes > INT32_MAX, "weights too large for target '%s'", triple);
    return b;
}

static void put(Output *o, const Object *b, uint64_t v, int n_bytes) {
    unsigned char bytes[8];
    for (int i = 0; i < n_bytes; i++)
        bytes[b->arch.big ? n_bytes - 1 - i : i] = (unsigned char)(v >> (8 * i));
    output_write(o, bytes, (size_t)n_bytes);
}

/* A field as wide as an address. */
static void put_word(Output *o, const Object *b, uint64_t v) {
    put(o, b, v, b->arch.bits / 8);
}

static void write_elf_header(Output *o, const Object *b) {
    const unsigned char ident[16] = {
        0x7f, 'E', 'L', 'F', b->arch.bits == 64 ? 2 : 1, b->arch.big ? 2 : 1, 1};
    output_write(o, ident, sizeof ident);
    put(o, b, 1, 2); /* relocatable */
    put(o, b, b->arch.machine, 2);
    put(o, b, 1, 4);
    put_word(o, b, 0); /* no entry, no program headers */
    put_word(o, b, 0);
    put_word(o, b, b->headers_at);
    put(o, b, b->arch.flags, 4);
    put(o, b, by_class(b, 52, 64), 2);
    put(o, b, 0, 4);
    put(o, b, by_class(b, 40, 64), 2);
    put(o, b, SEC_COUNT, 2);
    put(o, b, SEC_SHSTRTAB, 2);
}

static void write_symbol(Output *o, const Object *b, uint64_t name, uint64_t value,
                         uint64_t n_bytes, int section) {
    int info = section ? 1 << 4 | 1 : 0; /* global object */
    int other = section ? 2 : 0;         /* hidden */
    put(o, b, name, 4);
    if (b->arch.bits == 32) {
        put(o, b, value, 4);
        put(o, b, n_bytes, 4);
    }
    put(o, b, (uint64_t)info, 1);
    put(o, b, (uint64_t)other, 1);
    put(o, b, (uint64_t)section, 2);
    if (b->arch.bits == 64) {
        put(o, b, value, 8);
        put(o, b, n_bytes, 8);
    }
}

static void write_symtab(Output *o, const Object *b) {
    uint64_t name = 1, value = 0;
    write_symbol(o, b, 0, 0, 0, 0);
    for (size_t i = 0; i < b->n_symbols; i++) {
        uint64_t n_bytes = symbol_bytes(&b->symbols[i]);
        value = round_up(value, ALIGN);
        write_symbol(o, b, name, value, n_bytes, SEC_RODATA);
        value += n_bytes;
        name += strlen(b->symbols[i].name) + 1;
    }
    output_zeros(o, 1);
    for (size_t i = 0; i < b->n_symbols; i++)
        output_write(o, b->symbols[i].name, strlen(b->symbols[i].name) + 1);
}

typedef struct Section {
    const char *name;
    uint32_t type, flags;
    uint64_t at, n_bytes, align, entry_bytes;
    uint32_t link, info;
} Section;

static void write_section(Output *o, const Object *b, const Section *s) {
    uint32_t name = 0; /* in section_names; the empty name of SEC_NULL stands at 0 */
    if (s->name)
        while (strcmp(section_names + name, s->name) != 0)
            name += (uint32_t)strlen(section_names + name) + 1;
    put(o, b, name, 4);
    put(o, b, s->type, 4);
    put_word(o, b, s->flags);
    put_word(o, b, 0);
    put_word(o, b, s->at);
    put_word(o, b, s->n_bytes);
    put(o, b, s->link, 4);
    put(o, b, s->info, 4);
    put_word(o, b, s->align);
    put_word(o, b, s->entry_bytes);
}

static void write_sections(Output *o, const Object *b) {
    enum { PROGBITS = 1, SYMTAB = 2, STRTAB = 3, ALLOC = 2 };
    const Section sections[SEC_COUNT] = {
        [SEC_RODATA] = {".rodata", PROGBITS, ALLOC, ALIGN, b->rodata_bytes, ALIGN, 0, 0, 0},
        [SEC_STACK] = {".note.GNU-stack", PROGBITS, 0, b->symtab_at, 0, 1, 0, 0, 0},
        [SEC_SYMTAB] = {".symtab", SYMTAB, 0, b->symtab_at, b->strtab_at - b->symtab_at, 8,
                        by_class(b, 16, 24), SEC_STRTAB, 1},
        [SEC_STRTAB] = {".strtab", STRTAB, 0, b->strtab_at, b->strtab_bytes, 1, 0, 0, 0},
        [SEC_SHSTRTAB] = {".shstrtab", STRTAB, 0, b->shstrtab_at, sizeof section_names, 1, 0, 0, 0},
    };
    for (int i = 0; i < SEC_COUNT; i++) write_section(o, b, &sections[i]);
}

uint64_t weights_object_bytes(const char *triple, const char *features, const WeightSymbol *symbols,
                              size_t n_symbols) {
    return lay_out(triple, features, symbols, n_symbols).n_bytes;
}

void weights_write_object(Output *o, const char *triple, const char *features,
                          const WeightSymbol *symbols, size_t n_symbols) {
    Object b = lay_out(triple, features, symbols, n_symbols);
    uint64_t start = output_offset(o);
    write_elf_header(o, &b);
    output_zeros(o, start + ALIGN - output_offset(o));
    write_symbols(o, symbols, n_symbols, NULL);
    output_zeros(o, start + b.symtab_at - output_offset(o));
    write_symtab(o, &b);
    output_write(o, section_names, sizeof section_names);
    output_zeros(o, start + b.headers_at - output_offset(o));
    write_sections(o, &b);
    BUG_IF(output_offset(o) - start != b.n_bytes, "weights object of the wrong size");
}

/* ---- the file -------------------------------------------------------------------------------- */

static void put_le(unsigned char *at, uint64_t v, int n_bytes) {
    for (int i = 0; i < n_bytes; i++) at[i] = (unsigned char)(v >> (8 * i));
}

WeightsFile weights_write_file(Output *o, uint64_t model_hash, const WeightSymbol *symbols,
                               size_t n_symbols, uint64_t *offsets) {
    BUG_IF(output_offset(o) != 0, "weights start their file");
    _Static_assert(SMELT_WEIGHTS_HEADER % ALIGN == 0, "the weights are aligned in their file");
    output_zeros(o, SMELT_WEIGHTS_HEADER);
    output_start_hash(o);
    WeightsFile file = {.n_bytes = write_symbols(o, symbols, n_symbols, offsets)};
    file.hash = output_hash(o);

    unsigned char header[SMELT_WEIGHTS_HEADER] = {0};
    memcpy(header, SMELT_WEIGHTS_MAGIC, 8);
    put_le(header + SMELT_WEIGHTS_AT_VERSION, SMELT_WEIGHTS_VERSION, 4);
    put_le(header + SMELT_WEIGHTS_AT_MODEL, model_hash, 8);
    put_le(header + SMELT_WEIGHTS_AT_BYTES, file.n_bytes, 8);
    put_le(header + SMELT_WEIGHTS_AT_HASH, file.hash, 8);
    output_patch(o, 0, header, sizeof header);
    return file;
}
