/* Helper functions of generated C: operations of kops.def that are not one operator in C.
 *
 * A row is a text for one dtype, in which @ stands for the dtype's name (i32), $ for its C type and
 * # for the unsigned type that its arithmetic wraps in. `needs` names helpers of the same dtype. */
#include "codegen/c/c_gen.h"

#include <string.h>

#include "ir/root16.h"

enum { H_S = 1, H_U = 2, H_F = 4, H_ANY = 8 };

#define TEXT_OF(list) TEXT(list)
#define TEXT(...) #__VA_ARGS__

typedef struct Helper {
    const char *name;
    int kinds; /* H_S, H_U, H_F: a row for dtypes of this kind; H_ANY: one text for all */
    const char *needs;
    const char *text;
} Helper;

/* clang-format off */
static const Helper helpers[] = {
    {"min", H_S | H_U | H_F, "",
     "static inline $ @_min($ a, $ b)\n{\n    return a < b ? a : b;\n}\n"},
    {"max", H_S | H_U | H_F, "",
     "static inline $ @_max($ a, $ b)\n{\n    return a > b ? a : b;\n}\n"},
    {"div", H_S, "",
     "static inline $ @_div($ a, $ b)\n{\n    if (b == 0) return 0;\n"
     "    if (b == -1) return ($)(0u - (#)a);\n    return ($)(a / b);\n}\n"},
    {"div", H_U, "", "static inline $ @_div($ a, $ b)\n{\n    return b ? ($)(a / b) : ($)0;\n}\n"},
    {"rem", H_S, "",
     "static inline $ @_rem($ a, $ b)\n{\n    return b == 0 || b == -1 ? ($)0 : ($)(a % b);\n}\n"},
    {"rem", H_U, "", "static inline $ @_rem($ a, $ b)\n{\n    return b ? ($)(a % b) : ($)0;\n}\n"},
    {"fdiv", H_S, "",
     "static inline $ @_fdiv($ a, $ b)\n{\n    if (b == 0) return 0;\n"
     "    if (b == -1) return ($)(0u - (#)a);\n"
     "    return ($)(a / b - (a % b != 0 && (a < 0) != (b < 0)));\n}\n"},
    {"fdiv", H_U, "", "static inline $ @_fdiv($ a, $ b)\n{\n    return b ? ($)(a / b) : ($)0;\n}\n"},
    {"fmod", H_S, "",
     "static inline $ @_fmod($ a, $ b)\n{\n    $ r = b == 0 || b == -1 ? ($)0 : ($)(a % b);\n"
     "    return r != 0 && (r < 0) != (b < 0) ? ($)(r + b) : r;\n}\n"},
    {"fmod", H_U, "", "static inline $ @_fmod($ a, $ b)\n{\n    return b ? ($)(a % b) : ($)0;\n}\n"},
    {"abs", H_S, "", "static inline $ @_abs($ a)\n{\n    return a < 0 ? ($)(0u - (#)a) : a;\n}\n"},
    {"shl", H_S | H_U, "",
     "static inline $ @_shl($ a, $ b)\n{\n    return (#)b < % ? ($)((#)a << b) : ($)0;\n}\n"},
    {"shr", H_S, "", /* compilers shift arithmetically */
     "static inline $ @_shr($ a, $ b)\n{\n    return ($)(a >> ((#)b < % ? (int)b : % - 1));\n}\n"},
    {"shr", H_U, "", "static inline $ @_shr($ a, $ b)\n{\n    return b < % ? ($)(a >> b) : ($)0;\n}\n"},
    {"word", H_ANY, "",
     "/* four bytes as an integer, the first one lowest */\n"
     "static inline int32_t i32_word(const void *p)\n{\n    const uint8_t *b = p;\n"
     "    return (int32_t)(b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24);\n"
     "}\n"},
    {"pair", H_ANY, "",
     "/* two integers of 16 bits as one of 32, the first one lowest */\n"
     "static inline int32_t pair(const void *p)\n{\n    const uint16_t *half = p;\n"
     "    return (int32_t)(half[0] | (uint32_t)half[1] << 16);\n}\n"},
    {"root16", H_ANY, "",
     "/* the bits of 2^(j / 16) / unit less j << 19, for the last four bits j of a */\n"
     "static inline int32_t root16(int32_t a)\n{\n"
     "    static const int32_t roots[16] = {" TEXT_OF(ROOT16_BITS) "};\n"
     "    return roots[a & 15];\n}\n"},
    {"dot4_us", H_ANY, "",
     "/* a + four products of the bytes of b (unsigned) and c (signed) */\n"
     "static inline int32_t dot4_us(int32_t a, int32_t b, int32_t c)\n{\n"
     "    uint32_t sum = (uint32_t)a, x = (uint32_t)b, y = (uint32_t)c;\n    int i;\n"
     "    for (i = 0; i < 4; i++, x >>= 8, y >>= 8)\n"
     "        sum += (uint32_t)((int)(x & 255u) * (((int)(y & 255u) ^ 128) - 128));\n"
     "    return (int32_t)sum;\n}\n"},
    {"dot4_ss", H_ANY, "",
     "/* a + four products of the signed bytes of b and c */\n"
     "static inline int32_t dot4_ss(int32_t a, int32_t b, int32_t c)\n{\n"
     "    uint32_t sum = (uint32_t)a, x = (uint32_t)b, y = (uint32_t)c;\n    int i;\n"
     "    for (i = 0; i < 4; i++, x >>= 8, y >>= 8)\n"
     "        sum += (uint32_t)((((int)(x & 255u) ^ 128) - 128) * (((int)(y & 255u) ^ 128) - 128));\n"
     "    return (int32_t)sum;\n}\n"},
    {"dot2_ss", H_ANY, "",
     "/* a + two products of the signed halves of b and c */\n"
     "static inline int32_t dot2_ss(int32_t a, int32_t b, int32_t c)\n{\n"
     "    int32_t low = (int16_t)(uint16_t)b * (int16_t)(uint16_t)c;\n"
     "    int32_t high = (int16_t)(uint16_t)((uint32_t)b >> 16) * (int16_t)(uint16_t)((uint32_t)c >> 16);\n"
     "    return (int32_t)((uint32_t)a + (uint32_t)low + (uint32_t)high);\n}\n"},
    {"prefetch", H_ANY, "",
     "/* a hint that memory is wanted soon */\n#if defined(__GNUC__)\n"
     "static inline void prefetch(uintptr_t at)\n"
     "{\n"
     "    __builtin_prefetch((const void *)at, 0, 2);\n"
     "}\n"
     "#else\n#define prefetch(at) ((void)(at))\n#endif\n"},
    /* conversions to integers: toward zero, saturating, NaN to 0 */
    {"of_f32", H_S, "",
     "static inline $ @_of_f32(float a)\n"
     "{\n"
     "    if (a != a) return 0;\n"
     "    if (a <= -~f) return @_LOW;\n"
     "    return a >= ~f ? @_HIGH : ($)a;\n}\n"},
    {"of_f64", H_S, "",
     "static inline $ @_of_f64(double a)\n"
     "{\n"
     "    if (a != a) return 0;\n"
     "    if (a <= -~) return @_LOW;\n"
     "    return a >= ~ ? @_HIGH : ($)a;\n}\n"},
    {"of_f32", H_U, "",
     "static inline $ @_of_f32(float a)\n{\n    if (!(a > 0.0f)) return 0;\n"
     "    return a >= ~f ? @_HIGH : ($)a;\n}\n"},
    {"of_f64", H_U, "",
     "static inline $ @_of_f64(double a)\n{\n    if (!(a > 0.0)) return 0;\n"
     "    return a >= ~ ? @_HIGH : ($)a;\n}\n"},
    /* the same bits as another type */
    {"f32_bits", H_ANY, "",
     "static inline uint32_t f32_bits(float a)\n"
     "{\n"
     "    union {\n"
     "        float f;\n"
     "        uint32_t u;\n"
     "    } v;\n    v.f = a;\n    return v.u;\n}\n"},
    {"f32_from_bits", H_ANY, "",
     "static inline float f32_from_bits(uint32_t a)\n"
     "{\n"
     "    union {\n"
     "        uint32_t u;\n"
     "        float f;\n"
     "    } v;\n    v.u = a;\n    return v.f;\n}\n"},
    {"dot2_bf", H_ANY, "f32_from_bits",
     "/* a + two products of the bfloat16s of b and c, each added without rounding the product */\n"
     "static inline float dot2_bf(float a, int32_t b, int32_t c)\n{\n"
     "    uint32_t x = (uint32_t)b, y = (uint32_t)c;\n"
     "    a = fmaf(f32_from_bits(x & 0xffff0000u), f32_from_bits(y & 0xffff0000u), a);\n"
     "    return fmaf(f32_from_bits(x << 16), f32_from_bits(y << 16), a);\n}\n"},
    {"f64_bits", H_ANY, "",
     "static inline uint64_t f64_bits(double a)\n"
     "{\n"
     "    union {\n"
     "        double f;\n"
     "        uint64_t u;\n"
     "    } v;\n    v.f = a;\n    return v.u;\n}\n"},
    {"f64_from_bits", H_ANY, "",
     "static inline double f64_from_bits(uint64_t a)\n"
     "{\n"
     "    union {\n"
     "        uint64_t u;\n"
     "        double f;\n"
     "    } v;\n    v.u = a;\n    return v.f;\n}\n"},
    /* a * 2^floor(b): f32 in a wider format, where only the last rounding rounds; f64 in steps whose
     * last is the only one that may leave bits away */
    {"f32_ldexp", H_ANY, "f64_from_bits",
     "static inline float f32_ldexp(float a, float b)\n{\n"
     "    float n = b < -300.0f ? -300.0f : b < 300.0f ? floorf(b) : 300.0f;\n"
     "    double power = f64_from_bits((uint64_t)((int64_t)n + 1023) << 52);\n"
     "    return b != b ? b : (float)((double)a * power);\n}\n"},
    {"f64_ldexp", H_ANY, "f64_from_bits",
     "static inline double f64_ldexp(double a, double b)\n{\n"
     "    double n = b < -2500.0 ? -2500.0 : b < 2500.0 ? floor(b) : 2500.0;\n"
     "    for (int i = 0; i < 2; i++) {\n"
     "        double step = n < -1022.0 ? -969.0 : n > 1023.0 ? 1023.0 : 0.0;\n"
     "        a *= f64_from_bits((uint64_t)((int64_t)step + 1023) << 52);\n"
     "        n -= step;\n    }\n"
     "    return b != b ? b : a * f64_from_bits((uint64_t)((int64_t)n + 1023) << 52);\n}\n"},
    /* 16-bit floats */
    {"bf16_value", H_ANY, "f32_from_bits",
     "static inline float bf16_value(uint16_t h)\n"
     "{\n"
     "    return f32_from_bits((uint32_t)h << 16);\n"
     "}\n"},
    {"bf16_store", H_ANY, "f32_bits",
     "static inline uint16_t bf16_store(float a)\n{\n    uint32_t b = f32_bits(a);\n"
     "    if ((b & 0x7fffffffu) > 0x7f800000u) return (uint16_t)((b | 0x400000u) >> 16);\n"
     "    return (uint16_t)((b + 0x7fffu + (b >> 16 & 1u)) >> 16);\n}\n"},
    {"bf16_round", H_ANY, "bf16_value bf16_store",
     "static inline float bf16_round(float a)\n{\n    return bf16_value(bf16_store(a));\n}\n"},
    {"f16_value", H_ANY, "f32_bits f32_from_bits",
     "static inline float f16_value(uint16_t h)\n{\n"
     "    uint32_t size = h & 0x7fffu, sign = (uint32_t)(h & 0x8000u) << 16;\n"
     "    /* 2^112 moves the exponent; exact, also from subnormals */\n"
     "    uint32_t b = f32_bits(f32_from_bits(size << 13) * 5.192296858534828e33f);\n"
     "    if (size > 0x7bffu) b = size << 13 | 0x7f800000u;\n"
     "    return f32_from_bits(b | sign);\n"
     "}\n"},
    {"f16_store", H_ANY, "f32_bits f32_from_bits",
     "static inline uint16_t f16_store(float a)\n{\n"
     "    uint32_t b = f32_bits(a), sign = b >> 16 & 0x8000u;\n    b &= 0x7fffffffu;\n"
     "    if (b > 0x7f800000u) return (uint16_t)(sign | 0x7e00u);\n"
     "    if (b >= 0x477ff000u) return (uint16_t)(sign | 0x7c00u);\n"
     "    if (b < 0x38800000u) /* subnormal: 0.5 aligns the last bits */\n"
     "        return (uint16_t)(sign | (f32_bits(f32_from_bits(b) + 0.5f) - 0x3f000000u));\n"
     "    return (uint16_t)(sign | (b - (112u << 23) + 0xfffu + (b >> 13 & 1u)) >> 13);\n}\n"},
    {"f16_round", H_ANY, "f16_value f16_store",
     "static inline float f16_round(float a)\n{\n    return f16_value(f16_store(a));\n}\n"},
    /* strings */
    {"no_string", H_ANY, "", "static const smelt_string no_string = {0, 0};\n"},
    {"string_of", H_ANY, "",
     "static inline smelt_string string_of(const uint8_t *bytes, int64_t n)\n{\n"
     "    smelt_string s;\n"
     "    s.bytes = (const char *)bytes;\n"
     "    s.n_bytes = (size_t)n;\n"
     "    return s;\n"
     "}\n"},
    {"string_sub", H_ANY, "",
     "static inline smelt_string string_sub(smelt_string s, int64_t from, int64_t n)\n{\n"
     "    s.bytes += from;\n    s.n_bytes = (size_t)n;\n    return s;\n}\n"},
    {"string_byte", H_ANY, "",
     "static inline uint8_t string_byte(smelt_string s, int64_t i)\n{\n"
     "    return i >= 0 && (uint64_t)i < s.n_bytes ? (uint8_t)s.bytes[i] : 0;\n}\n"},
    /* roundings to odd, after which rounding to 16 bits is right */
    {"f32_odd", H_ANY, "f32_bits f32_from_bits",
     "static inline float f32_odd(double a)\n{\n    float f = (float)a;\n"
     "    double back = fabs((double)f), size = fabs(a);\n    uint32_t b = f32_bits(f);\n"
     "    if (back != size && a == a && !(b & 1u)) b += back < size ? 1u : 0xffffffffu;\n"
     "    return f32_from_bits(b);\n}\n"},
    {"f64_odd_u64", H_ANY, "",
     "static inline double f64_odd_u64(uint64_t a)\n{\n"
     "    if (a >> 53) a = (a & ~(uint64_t)0x7ff) | (a & 0x7ff ? 0x800 : 0);\n"
     "    return (double)a;\n"
     "}\n"},
    {"f64_odd_i64", H_ANY, "f64_odd_u64",
     "static inline double f64_odd_i64(int64_t a)\n{\n"
     "    return a < 0 ? -f64_odd_u64(0u - (uint64_t)a) : f64_odd_u64((uint64_t)a);\n}\n"},
};
/* clang-format on */
enum { N_HELPERS = sizeof helpers / sizeof *helpers };
_Static_assert(N_HELPERS <= 64, "CGen.helper_dtypes has a word for each helper");

static int kind_bit(DType t) {
    switch (dtype_info[t].kind) {
    case DK_SINT: return H_S;
    case DK_FLOAT: return H_F;
    default: return H_U;
    }
}

static int find_helper(const char *name, size_t n, DType t) {
    for (int i = 0; i < N_HELPERS; i++)
        if (!strncmp(helpers[i].name, name, n) && !helpers[i].name[n] &&
            helpers[i].kinds & (H_ANY | kind_bit(t)))
            return i;
    BUG("no helper %.*s of %s", (int)n, name, dtype_info[t].name);
}

static void use_helper(CGen *g, int i, DType t) {
    if (helpers[i].kinds & H_ANY) t = DT_NONE;
    if (g->helper_dtypes[i] >> t & 1) return;
    g->helper_dtypes[i] |= UINT64_C(1) << t;
    for (const char *s = helpers[i].needs; *s; s += strcspn(s, " "), s += *s == ' ')
        use_helper(g, find_helper(s, strcspn(s, " "), t), t);
}

const char *c_helper(CGen *g, const char *name, DType t) {
    int i = find_helper(name, strlen(name), t);
    use_helper(g, i, t);
    if (!strcmp(name, "word")) return "i32_word";
    if (helpers[i].kinds & H_ANY) return helpers[i].name;
    return arena_printf(g->a, "%s_%s", dtype_info[t].name, name);
}

bool c_is_helper(const char *name) {
    static const char *const more[] = {"status",
                                       "hooks",
                                       "given",
                                       "arena",
                                       "memory",
                                       "weights",
                                       "inputs",
                                       "outputs",
                                       "symbols",
                                       "node",
                                       "sizes",
                                       "begin",
                                       "end",
                                       "ranges",
                                       "no_hooks",
                                       "arena_bytes",
                                       "body",
                                       "note_range",
                                       "overlaps",
                                       "run_parallel",
                                       "start_node",
                                       "end_node",
                                       "check_arguments",
                                       "symbols_for",
                                       "arena_bytes_for",
                                       "run_call",
                                       "tensors_in",
                                       "tensors_out",
                                       "call",
                                       "call_args",
                                       "nodes",
                                       "leave",
                                       "prefetch"};
    for (size_t i = 0; i < sizeof more / sizeof *more; i++)
        if (!strcmp(name, more[i])) return true;
    if (!strcmp(name, "no_string")) return true;
    for (int t = 1; t < DT_COUNT; t++) {
        size_t n = strlen(dtype_info[t].name);
        if (!strncmp(name, dtype_info[t].name, n) && name[n] == '_') return true;
    }
    return false;
}

static void print_limit(StrBuf *out, DType t, bool high) {
    bool is_signed = dtype_info[t].kind == DK_SINT;
    int bits = dtype_info[t].bits;
    strbuf_printf(out, "%s%d_%s", is_signed ? "INT" : "UINT", bits, high ? "MAX" : "MIN");
}

static void write_helper(StrBuf *out, const char *text, DType t) {
    int bits = dtype_info[t].bits;
    bool is_signed = dtype_info[t].kind == DK_SINT;
    for (const char *s = text; *s; s++) {
        if (*s == '@' && (!strncmp(s, "@_LOW", 5) || !strncmp(s, "@_HIGH", 6))) {
            bool high = s[2] == 'H';
            print_limit(out, t, high);
            s += high ? 5 : 4;
        } else if (*s == '@') {
            strbuf_add(out, dtype_info[t].name);
        } else if (*s == '$') {
            strbuf_add(out, c_value_type(t));
        } else if (*s == '#') {
            strbuf_add(out, bits > 32 ? "uint64_t" : "uint32_t");
        } else if (*s == '%' && s[1] == ' ' && s[2] != 'b') {
            strbuf_printf(out, "%d", bits);
        } else if (*s == '~' && s[1] != '(') {
            static const char *const powers[] = {"128.0",
                                                 "256.0",
                                                 "32768.0",
                                                 "65536.0",
                                                 "2147483648.0",
                                                 "4294967296.0",
                                                 "9223372036854775808.0",
                                                 "18446744073709551616.0"};
            strbuf_add(out, powers[(bits == 8    ? 0
                                    : bits == 16 ? 2
                                    : bits == 32 ? 4
                                                 : 6) +
                                   !is_signed]);
        } else {
            strbuf_add_bytes(out, s, 1);
        }
    }
    strbuf_add(out, "\n");
}

void c_write_prelude(const CGen *g, StrBuf *out) {
    for (int i = 0; i < N_HELPERS; i++) {
        if (g->helper_dtypes[i] & 1) {
            strbuf_add(out, helpers[i].text);
            strbuf_add(out, "\n");
        }
        for (int t = 1; t < DT_COUNT; t++)
            if (g->helper_dtypes[i] >> t & 1) write_helper(out, helpers[i].text, (DType)t);
    }
}
