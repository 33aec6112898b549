/* What is known of a value's elements: constants made from host values, constants read element by
 * element in any numeric dtype, and contents tracked as index expressions (shape arithmetic).
 *
 * Constant bytes may lie anywhere in a mapped file, so every element is read with memcpy. */
#include <assert.h>
#include <math.h>
#include <string.h>

#include "ir/code.h"
#include "ir/graph.h"

/* ---- constants from host values -------------------------------------------------------------- */

Value *graph_const_ints(Graph *g, const char *name, const int64_t *v, int n) {
    Module *m = g->module;
    size_t n_bytes = (size_t)n * sizeof *v;
    int64_t dim = n;
    return graph_add_const(g, name, DT_I64, shape_ints(m->k, &dim, 1),
                           arena_copy(m->arena, v, n_bytes), n_bytes);
}

Value *graph_const_int(Graph *g, int64_t v) {
    Module *m = g->module;
    return graph_add_const(g, "", DT_I64, shape_ints(m->k, NULL, 0),
                           arena_copy(m->arena, &v, sizeof v), sizeof v);
}

/* The nearest float of `mant` explicit mantissa bits and `exp` exponent bits, as its encoding. */
static uint16_t encode_small_float(double v, int exp_bits, int mant_bits) {
    uint16_t sign = signbit(v) ? 0x8000 : 0, inf = (uint16_t)(((1 << exp_bits) - 1) << mant_bits);
    if (isnan(v)) return (uint16_t)(sign | inf | 1 << (mant_bits - 1));
    v = fabs(v);
    int bias = (1 << (exp_bits - 1)) - 1, e;
    if (isinf(v)) return sign | inf;
    if (v == 0) return sign;
    frexp(v, &e);
    e = e - 1 < 1 - bias ? 1 - bias : e - 1; /* subnormals share the smallest exponent */
    double scaled = nearbyint(ldexp(v, mant_bits - e));
    /* An exponent step up by rounding carries into the exponent field by itself. */
    int64_t bits = (int64_t)scaled + ((int64_t)(e + bias - 1) << mant_bits);
    return bits >= inf ? sign | inf : (uint16_t)(sign | bits);
}

static double decode_small_float(uint16_t bits, int exp_bits, int mant_bits) {
    int mant = bits & ((1 << mant_bits) - 1), e = bits >> mant_bits & ((1 << exp_bits) - 1);
    int bias = (1 << (exp_bits - 1)) - 1;
    double v;
    if (e == (1 << exp_bits) - 1)
        v = mant ? NAN : INFINITY;
    else if (e == 0)
        v = ldexp(mant, 1 - bias - mant_bits);
    else
        v = ldexp(mant + (1 << mant_bits), e - bias - mant_bits);
    return bits & 0x8000 ? -v : v;
}

#define STORE(ctype, value)                                                                        \
    do {                                                                                           \
        ctype x_ = (ctype)(value);                                                                 \
        memcpy(out, &x_, sizeof x_);                                                               \
    } while (0)

/* v, which the type holds, in t's encoding; at most 16 bytes, which are zero. */
static void encode(DType t, double v, void *out) {
    if (dtype_is_complex(t)) t = dtype_part(t); /* the imaginary part is 0 */
    if (dtype_is_code(t)) {
        STORE(uint64_t, code_of(t, v));
        return;
    }
    switch (dtype_stored(t)) {
    case DT_F32: STORE(float, v); break;
    case DT_F64: STORE(double, v); break;
    case DT_F16: STORE(uint16_t, encode_small_float(v, 5, 10)); break;
    case DT_BF16: STORE(uint16_t, encode_small_float(v, 8, 7)); break;
    case DT_I8: STORE(int8_t, v); break;
    case DT_I16: STORE(int16_t, v); break;
    case DT_I32: STORE(int32_t, v); break;
    case DT_I64: STORE(int64_t, v); break;
    case DT_U8: STORE(uint8_t, v); break;
    case DT_U16: STORE(uint16_t, v); break;
    case DT_U32: STORE(uint32_t, v); break;
    case DT_U64: STORE(uint64_t, v); break;
    case DT_BOOL: STORE(uint8_t, v != 0); break;
    default: BUG("no number has dtype %s", dtype_info[t].name);
    }
}

Value *graph_const_scalar(Graph *g, DType t, double v) {
    Module *m = g->module;
    void *bytes = arena_alloc(m->arena, 16);
    encode(t, v, bytes);
    return graph_add_const(g, "", t, shape_ints(m->k, NULL, 0), bytes, (uint64_t)dtype_bytes(t));
}

Value *graph_const_zeros(Graph *g, DType t, Shape like) {
    enum { MOST_ZEROS = 1 << 20 };
    Module *m = g->module;
    int64_t n = 1, dim;
    Shape s = shape_make(m->arena, like.rank);
    for (int a = 0; a < s.rank; a++) {
        bool is_known = shape_dim_int(like, a, &dim) && dim <= MOST_ZEROS / (n ? n : 1);
        s.dims[a] = k_int(m->k, is_known ? dim : 0);
        n *= is_known ? dim : 0;
    }
    if (t == DT_STR) {
        ConstString *text = arena_array(m->scratch, ConstString, n + 1);
        for (int64_t i = 0; i < n; i++) text[i].bytes = "";
        return graph_const_strings(g, "", s, text);
    }
    uint64_t n_bytes = dtype_packed_bytes(t, (uint64_t)n);
    return graph_add_const(g, "", t, s, arena_alloc(m->arena, n_bytes + 1), n_bytes);
}

/* ---- elements of constants ------------------------------------------------------------------- */

bool value_is_const(const Value *v) {
    return v->data != NULL;
}

/* An element's bytes under each of their readings. */
typedef union Raw {
    float f32;
    double f64;
    int8_t i8;
    int16_t i16;
    int32_t i32;
    int64_t i64;
    uint8_t u8;
    uint16_t u16;
    uint32_t u32;
    uint64_t u64;
} Raw;

/* Element i; a value without data and indices outside are bugs. */
static Raw fetch(const Value *v, int64_t i) {
    Raw raw = {.u64 = 0};
    uint64_t size = (uint64_t)dtype_bytes(v->dtype);
    assert(v->data && size <= sizeof raw && i >= 0 && (uint64_t)i < v->data_bytes / size);
    memcpy(&raw, (const char *)v->data + (uint64_t)i * size, size);
    return raw;
}

double value_const_float(const Value *v, int64_t i) {
    Raw raw = fetch(v, i);
    if (dtype_is_code(v->dtype)) return code_value(v->dtype, raw.u8);
    switch (dtype_stored(v->dtype)) {
    case DT_F32: return (double)raw.f32;
    case DT_F64: return raw.f64;
    case DT_F16: return decode_small_float(raw.u16, 5, 10);
    case DT_BF16: return decode_small_float(raw.u16, 8, 7);
    case DT_U64: return (double)raw.u64;
    case DT_I8:
    case DT_I16:
    case DT_I32:
    case DT_I64:
    case DT_U8:
    case DT_U16:
    case DT_U32:
    case DT_BOOL: return (double)value_const_int(v, i);
    default: break;
    }
    BUG("element of a constant of dtype %s", dtype_info[v->dtype].name);
}

/* Truncated like a cast in kernel IR: NaN is 0, what is too large saturates. */
static int64_t float_to_int(double f) {
    if (isnan(f)) return 0;
    if (f >= 0x1p63) return INT64_MAX;
    return f <= -0x1p63 ? INT64_MIN : (int64_t)f;
}

int64_t value_const_int(const Value *v, int64_t i) {
    Raw raw = fetch(v, i);
    if (dtype_is_code(v->dtype)) return float_to_int(value_const_float(v, i));
    switch (dtype_stored(v->dtype)) {
    case DT_I8: return raw.i8;
    case DT_I16: return raw.i16;
    case DT_I32: return raw.i32;
    case DT_I64: return raw.i64;
    case DT_U8: return raw.u8;
    case DT_U16: return raw.u16;
    case DT_U32: return raw.u32;
    case DT_U64: return (int64_t)raw.u64;
    case DT_BOOL: return raw.u8 != 0;
    case DT_F32:
    case DT_F64:
    case DT_F16:
    case DT_BF16: return float_to_int(value_const_float(v, i));
    default: break;
    }
    BUG("element of a constant of dtype %s", dtype_info[v->dtype].name);
}

/* ---- contents as expressions ----------------------------------------------------------------- */

/* Element i of a constant when it is a whole number that index arithmetic can hold. */
static bool const_whole(const Value *v, int64_t i, int64_t *out) {
    if (v->dtype == DT_STR || dtype_is_complex(v->dtype) || !v->data) return false;
    if (dtype_is_float(v->dtype) || dtype_is_code(v->dtype)) {
        double f = value_const_float(v, i);
        if (!(fabs(f) < 0x1p53) || f != floor(f)) return false;
    }
    *out = value_const_int(v, i);
    return true;
}

const KExpr *value_content(Module *m, const Value *v, int64_t i) {
    int64_t n;
    if (v->content) return v->content[i];
    return const_whole(v, i, &n) ? k_int(m->k, n) : NULL;
}

/* The symbol of element i, which is read while running; floats as their bits. */
static const KExpr *read_symbol(Module *m, Value *v, int64_t i) {
    for (uint32_t r = 0; r < v->reads.n; r++)
        if (v->reads.at[r].index == i) return k_var(m->k, v->reads.at[r].symbol);
    const char *name = v->name && *v->name ? v->name : "read";
    KVar *symbol = module_computed_symbol(m, name, k_int(m->k, INT64_MAX));
    bool is_narrow = v->dtype == DT_I32;
    symbol->lo = v->dtype == DT_BOOL ? 0 : is_narrow ? INT32_MIN : INT64_MIN;
    symbol->hi = v->dtype == DT_BOOL ? 1 : is_narrow ? INT32_MAX : INT64_MAX;
    if (!v->reads.n) vec_push(m->arena, &m->read_values, v);
    vec_push(m->arena, &v->reads, ((ValueRead){symbol, i}));
    return k_var(m->k, symbol);
}

const KExpr *value_read(Module *m, Value *v, int64_t i) {
    const KExpr *e = value_content(m, v, i);
    return e ? e : read_symbol(m, v, i);
}

const KExpr *value_read_number(Module *m, Value *v, int64_t i) {
    KCtx *k = m->k;
    if (!dtype_is_float(v->dtype)) return k_cast(k, v->dtype, value_read(m, v, i));
    if (v->data) return k_const_f(k, v->dtype, value_const_float(v, i));
    DType bits = dtype_bytes(v->dtype) == 8 ? DT_I64 : dtype_bytes(v->dtype) == 4 ? DT_I32 : DT_I16;
    return k_bitcast(k, v->dtype, k_cast(k, bits, read_symbol(m, v, i)));
}

bool value_has_content(const Value *v) {
    int64_t n, whole;
    if ((!v->content && !v->data) || !shape_count_int(v->shape, &n) || n > MAX_CONTENT)
        return false;
    for (int64_t i = 0; i < n; i++)
        if (v->content ? !v->content[i] : !const_whole(v, i, &whole)) return false;
    return true;
}

bool value_ints(Module *m, const Value *v, int64_t *out, int cap, int *n) {
    int64_t count;
    if ((!v->content && !v->data) || !shape_count_int(v->shape, &count) || count > cap)
        return false;
    for (int64_t i = 0; i < count; i++) {
        const KExpr *e = value_content(m, v, i);
        if (!e || !k_is_int(e, &out[i])) return false;
    }
    *n = (int)count;
    return true;
}
