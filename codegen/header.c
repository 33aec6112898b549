/* NAME.h: what a C or C++ program includes to call a compiled model.
 *
 * Complete without smelt.h, for C99 and C++. Everything from the model's author (names of tensors
 * and dims) appears as a sanitised identifier or, escaped, in comments. */
#include <ctype.h>
#include <string.h>

#include "codegen/interface.h"
#include "ir/foreign.h"

/* ---- identifiers ----------------------------------------------------------------------------- */

/* Keywords and reserved names of C11, C++20 and the headers that NAME.h includes. */
static const char reserved[] =
    " alignas alignof and and_eq asm auto bitand bitor bool break case catch char char16_t "
    "char32_t "
    "char8_t class co_await co_return co_yield compl concept const const_cast consteval constexpr "
    "constinit continue decltype default delete do double dynamic_cast else enum explicit export "
    "extern "
    "false float for friend goto if inline int int16_t int32_t int64_t int8_t linux long mutable "
    "namespace new noexcept not not_eq nullptr operator or or_eq private protected ptrdiff_t "
    "public "
    "register reinterpret_cast requires restrict return short signed size_t sizeof smelt_model "
    "smelt_string static static_assert static_cast struct switch template this thread_local throw "
    "true "
    "try typedef typeid typename typeof uint16_t uint32_t uint64_t uint8_t union unix unsigned "
    "using "
    "virtual void volatile wchar_t while xor xor_eq NULL main errno ";

static bool is_reserved(const char *id) {
    size_t n = strlen(id);
    for (const char *s = strstr(reserved, id); s; s = strstr(s + 1, id))
        if (s[-1] == ' ' && s[n] == ' ') return true;
    return false;
}

const char *c_identifier(Arena *a, const char *name) {
    enum { LONGEST = 120 };
    char *id = arena_alloc(a, strlen(name) + 4);
    size_t n = 0;
    for (const char *s = name; *s && n < LONGEST; s++) {
        unsigned char c = (unsigned char)*s;
        bool good = (c < 128 && isalnum(c)) || c == '_';
        if (!good && n && id[n - 1] == '_') continue; /* "a::b" is a_b */
        id[n++] = good ? (char)c : '_';
    }
    while (n > 1 && id[n - 1] == '_') n--;
    id[n] = 0;
    /* Leading digits and underscores belong to nobody or to the implementation. */
    if (!n || isdigit((unsigned char)id[0]) || id[0] == '_')
        return arena_printf(a, "n%s%s", n && id[0] == '_' ? "" : "_", id);
    return is_reserved(id) ? arena_printf(a, "%s_", id) : id;
}

/* ---- pieces ---------------------------------------------------------------------------------- */

static const char *ctype_of(DType t) {
    switch (dtype_info[t].onnx) {
/* clang-format off */
#define SMELT_DTYPE(name, value, bits, ctype) case value: return #ctype;
#include "runtime/include/smelt_abi.def"
    /* clang-format on */
    default: BUG("dtype %s has no C type", dtype_info[t].name);
    }
}

/* "1*3*224*224", or nothing where a dim is free. */
static void print_count(StrBuf *out, const ApiTensor *t) {
    if (t->has_symbols || t->max_bytes == 0) return;
    if (dtype_is_complex(t->io->dtype)) strbuf_add(out, t->io->rank ? "2*" : "2");
    else if (!t->io->rank) strbuf_add(out, "1");
    for (int d = 0; d < t->io->rank; d++)
        strbuf_printf(out, "%s%lld", d ? "*" : "", (long long)t->dims[d]);
}

static void print_shape(StrBuf *out, const Api *api, const ApiTensor *t) {
    strbuf_add(out, "[");
    for (int d = 0; d < t->io->rank; d++) {
        if (d) strbuf_add(out, ", ");
        if (t->dims[d] >= 0)
            strbuf_printf(out, "%lld", (long long)t->dims[d]);
        else
            strbuf_escaped(out, api->symbols[-1 - t->dims[d]].name, ESC_C_COMMENT);
    }
    strbuf_add(out, "]");
}

static void describe_tensor(StrBuf *out, const Api *api, const ApiTensor *t, const char *how) {
    strbuf_printf(out, " *   %-6s %s: %s ", how, t->c_name, dtype_info[t->io->dtype].name);
    print_shape(out, api, t);
    if (strcmp(t->c_name, t->io->name)) {
        strbuf_add(out, ", named '");
        strbuf_escaped(out, t->io->name, ESC_C_COMMENT);
        strbuf_add(out, "'");
    }
    strbuf_add(out, "\n");
}

static void describe_symbols(StrBuf *out, const Api *api) {
    for (uint32_t i = 0; i < api->n_symbols; i++) {
        const ApiSymbol *s = &api->symbols[i];
        if (s->kind == API_DERIVED) continue;
        strbuf_add(out, s->kind == API_ARGUMENT ? " *   dim    " : " *   found  ");
        if (s->kind == API_ARGUMENT)
            strbuf_add(out, api->argument_names[i]);
        else
            strbuf_escaped(out, s->name, ESC_C_COMMENT);
        strbuf_printf(out, ": %lld to %lld\n", (long long)s->min, (long long)s->max);
    }
}

static void describe_versions(StrBuf *out, Arena *a, const KModule *m) {
    uint32_t n;
    const char **name = api_versions(a, m, &n);
    for (uint32_t i = 0; i < n; i++) {
        strbuf_add(out, " *   code   for ");
        strbuf_escaped(out, name[i], ESC_C_COMMENT);
        strbuf_add(out, "\n");
    }
}

void header_parameters(StrBuf *out, const KModule *m, const Api *api, const CodegenOptions *o) {
    const char *next = "";
    for (uint32_t i = 0; i < api->n_arguments; i++, next = ", ")
        strbuf_printf(out, "%sint64_t %s", next, api->argument_names[i]);
    for (uint32_t i = 0; i < m->n_inputs + m->n_outputs; i++, next = ", ") {
        bool is_input = i < m->n_inputs;
        const ApiTensor *t = is_input ? &api->inputs[i] : &api->outputs[i - m->n_inputs];
        strbuf_printf(out, "%s%s%s %s[", next, is_input ? "const " : "", ctype_of(t->io->dtype),
                      t->c_name);
        print_count(out, t);
        strbuf_add(out, "]");
        if (t->has_data_dims) strbuf_printf(out, ", int64_t %s_dims[%d]", t->c_name, t->io->rank);
    }
    strbuf_printf(out, "%svoid *arena", next);
    if (api->n_arguments) strbuf_add(out, ", size_t arena_bytes");
    if (o->weights_file) strbuf_add(out, ", const void *weights");
}

static void print_macros(StrBuf *out, const char *upper, const Api *api, uint64_t stack_bytes) {
    if (api->arena_bytes != UINT64_MAX) {
        const char *suffix = api->arena_bytes > UINT32_MAX ? "ull" : "u";
        strbuf_printf(out,
                      "/* Scratch memory for a call%s; any alignment will do. */\n"
                      "#define %s_ARENA_BYTES %llu%s\n",
                      api->n_arguments ? ", with every dim at its largest" : "", upper,
                      (unsigned long long)api->arena_bytes, suffix);
    }
    if (stack_bytes)
        strbuf_printf(out,
                      "/* Most that a call takes of a thread's stack, a pool's threads too. */\n"
                      "#define %s_STACK_BYTES %lluu\n",
                      upper, (unsigned long long)stack_bytes);
}

static bool has_strings(const KModule *m) {
    for (uint32_t i = 0; i < m->n_inputs + m->n_outputs; i++)
        if ((i < m->n_inputs ? &m->inputs[i] : &m->outputs[i - m->n_inputs])->dtype == DT_STR)
            return true;
    return false;
}

static void print_intro(StrBuf *out, Arena *a, const KModule *m, const Target *t, const Api *api,
                        const CodegenOptions *o) {
    strbuf_printf(out, "/* %s.h: written by smelt " SMELT_VERSION " for ", m->name);
    strbuf_escaped(out, t->triple, ESC_C_COMMENT);
    strbuf_add(out, " (");
    strbuf_escaped(out, t->cpu, ESC_C_COMMENT);
    strbuf_add(out, ").\n *\n");
    describe_symbols(out, api);
    describe_versions(out, a, m);
    for (uint32_t i = 0; i < m->n_inputs; i++) describe_tensor(out, api, &api->inputs[i], "input");
    for (uint32_t i = 0; i < m->n_outputs; i++)
        describe_tensor(out, api, &api->outputs[i], m->outputs[i].is_kept ? "kept" : "output");
    strbuf_printf(
        out,
        " *\n * Tensors are dense, last dim first in memory. %s_run returns 0, or the number of a\n"
        " * smelt_status: 2 a pointer is NULL or outputs overlap something, 3 a dim is out of "
        "range,\n"
        " * 4 the arena is too small, 5 the processor does not fit%s. It is reentrant and\n"
        " * allocates nothing; an arena serves one call at a time.\n",
        m->name, o->weights_file ? ", 6 the weights do not fit" : "");
    static const char *const tested[] = {
        [CPU_NO_CHECK] = "; no call tests that",
        [CPU_CHECK_STATE] = ";\n * each call tests for the vector registers only, since"
                            " more would take longer than the model",
        [CPU_CHECK_ALL] = "; each call tests that"};
    if (api->cpu_features[0])
        strbuf_printf(out, " * Needs: %s%s (see smelt_cpu_supports).\n", api->cpu_features,
                      tested[api->cpu_check]);
    strbuf_add(out, " */\n");
}

/* What the library needs besides itself: each function as its C declaration. */
static void print_foreign(StrBuf *out, Arena *a, const KModule *m, const CodegenOptions *o) {
    size_t n;
    const KStmt **call = api_foreign_calls(a, m, &n);
    if (!n) return;
    bool used[FOREIGN_COUNT] = {false};
    for (size_t i = 0; i < n; i++) used[foreign_library(call[i]->text)] = true;
    strbuf_printf(out, "/* Functions that the model calls, %s",
                  o->foreign ? "which are in its library" : "to be linked with it");
    for (int i = FOREIGN_NONE + 1; i < FOREIGN_COUNT; i++)
        if (used[i])
            strbuf_printf(out, ";\n * %s: %s", foreign_info[i].functions, foreign_info[i].link);
    strbuf_add(out, ". */\n");
    for (size_t i = 0; i < n; i++) {
        strbuf_printf(out, "void %s(", call[i]->text);
        for (uint32_t k = 0; k < call[i]->n_args; k++)
            strbuf_printf(out, "%s%s%s *", k ? ", " : "", call[i]->args[k].written ? "" : "const ",
                          ctype_of(call[i]->args[k].buf->dtype));
        for (uint32_t k = 0; k < call[i]->n_scalars; k++)
            strbuf_add(out, k || call[i]->n_args ? ", int64_t" : "int64_t");
        strbuf_add(out, call[i]->n_args + call[i]->n_scalars ? ");\n" : "void);\n");
    }
    strbuf_add(out, "\n");
}

void header_write(StrBuf *out, Arena *a, const KModule *m, const Target *t,
                  const CodegenOptions *o) {
    Api *api = api_create(a, m, t);
    char *upper = arena_strdup(a, m->name);
    for (char *s = upper; *s; s++) *s = (char)toupper((unsigned char)*s);
    print_intro(out, a, m, t, api, o);
    strbuf_printf(out,
                  "#ifndef %s_H\n#define %s_H\n\n#include <stddef.h>\n#include <stdint.h>\n%s\n",
                  upper, upper, has_strings(m) ? "#include \"smelt.h\" /* smelt_string */\n" : "");
    print_macros(out, upper, api, o->stack_bytes);
    strbuf_add(out, "\n#ifdef __cplusplus\nextern \"C\" {\n#endif\n\n"
                    "#ifndef SMELT_MODEL_DECLARED\n#define SMELT_MODEL_DECLARED\n"
                    "typedef struct smelt_model smelt_model;\n#endif\n\n");
    print_foreign(out, a, m, o);
    if (api->has_typed_call) {
        strbuf_printf(out, "int %s_run(", m->name);
        header_parameters(out, m, api, o);
        strbuf_add(out, ");\n\n");
    }
    strbuf_printf(out,
                  "/* Names, types, symbols and the generic call: see smelt.h. */\n"
                  "extern const smelt_model %s_model;\n\n#ifdef __cplusplus\n}\n#endif\n\n#endif\n",
                  m->name);
}
