/* Runs the register code of interpret_compile.c: one case for each instruction, which is the
 * meaning of each row of kops.def in plain C. Compiled, like all of smelt, with floating-point
 * contraction off. */
#include "ir/interpret.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ir/half.h"
#include "ir/interpret_code.h"
#include "ir/root16.h"

typedef struct Slot {
    uint8_t *base;
    int64_t n;
} Slot;

typedef struct Machine Machine;
struct Machine {
    const InterpretCode *code;
    Reg *reg;
    Slot *slot;
    void (*call)(Machine *m, const CodeCall *call);
    void *user;
};

/* ---- pieces of meaning ----------------------------------------------------------------------- */

static int64_t cut_S(uint64_t v, int shift) {
    return (int64_t)(v << shift) >> shift;
}
static int64_t cut_U(uint64_t v, int shift) {
    return (int64_t)(v << shift >> shift);
}

static int64_t div_S(int64_t a, int64_t b) {
    return b == 0 ? 0 : b == -1 ? (int64_t)(0 - (uint64_t)a) : a / b;
}
static int64_t rem_S(int64_t a, int64_t b) {
    return b == 0 || b == -1 ? 0 : a % b;
}
static int64_t fdiv_S(int64_t a, int64_t b) {
    if (b == 0 || b == -1) return div_S(a, b);
    return a / b - (a % b != 0 && (a < 0) != (b < 0));
}
static int64_t fmod_S(int64_t a, int64_t b) {
    int64_t r = rem_S(a, b);
    return r != 0 && (r < 0) != (b < 0) ? r + b : r;
}

static uint64_t saturate_U(double v, int shift) {
    uint64_t top = UINT64_MAX >> shift;
    if (!(v > 0)) return 0; /* NaN too */
    return v >= ldexp(1, 64 - shift) ? top : (uint64_t)v;
}
static int64_t saturate_S(double v, int shift) {
    double limit = ldexp(1, 63 - shift);
    if (v != v) return 0;
    if (v >= limit) return INT64_MAX >> shift;
    return v < -limit ? INT64_MIN >> shift : (int64_t)v;
}

static int32_t dot4_us(int32_t a, uint32_t b, uint32_t c) {
    uint32_t sum = (uint32_t)a;
    for (int i = 0; i < 32; i += 8)
        sum += (uint32_t)((int32_t)(uint8_t)(b >> i) * (int8_t)(uint8_t)(c >> i));
    return (int32_t)sum;
}

static int32_t dot4_ss(int32_t a, uint32_t b, uint32_t c) {
    uint32_t sum = (uint32_t)a;
    for (int i = 0; i < 32; i += 8)
        sum += (uint32_t)((int8_t)(uint8_t)(b >> i) * (int8_t)(uint8_t)(c >> i));
    return (int32_t)sum;
}

static int32_t dot2_ss(int32_t a, uint32_t b, uint32_t c) {
    uint32_t sum = (uint32_t)a;
    for (int i = 0; i < 32; i += 16)
        sum += (uint32_t)((int16_t)(uint16_t)(b >> i) * (int16_t)(uint16_t)(c >> i));
    return (int32_t)sum;
}

static uint32_t raw_of(float f) {
    uint32_t b;
    memcpy(&b, &f, sizeof b);
    return b;
}
static float float_of(uint32_t b) {
    float f;
    memcpy(&f, &b, sizeof f);
    return f;
}

static float dot2_bf(float a, uint32_t b, uint32_t c) {
    a = fmaf(float_of(b & 0xffff0000u), float_of(c & 0xffff0000u), a);
    return fmaf(float_of(b << 16), float_of(c << 16), a);
}

static double times_power(double a, double b) {
    return isnan(b) ? b : scalbn(a, (int)fmax(-5000, fmin(5000, floor(b))));
}

static const int32_t roots[16] = {ROOT16_BITS};

/* A string in memory, as the compiled models have it. */
typedef struct Text {
    const char *bytes;
    size_t n_bytes;
} Text;

static uint64_t byte_of(const Reg *s, int64_t i) {
    bool inside = i >= 0 && (uint64_t)i < s[1].u;
    return inside ? ((const uint8_t *)(uintptr_t)s[0].u)[i] : 0;
}

_Noreturn static void out_of_bounds(const Machine *m, const Ins *ins, const char *what,
                                    uint64_t at) {
    const CodeBuf *b = &m->code->bufs[ins->b];
    BUG("kernel %s: %s of %s[%lld], which has %lld elements", m->code->name, what, b->buf->name,
        (long long)at, (long long)m->slot[ins->b].n);
}

/* ---- the loop -------------------------------------------------------------------------------- */

#define INT_CASE(name, s_value, u_value)                                                           \
    case IN_##name##_S: {                                                                          \
        int64_t a = r[p->a].i, b = r[p->b].i;                                                      \
        (void)a, (void)b;                                                                          \
        r[p->d].i = s_value;                                                                       \
        break;                                                                                     \
    }                                                                                              \
    case IN_##name##_U: {                                                                          \
        uint64_t a = r[p->a].u, b = r[p->b].u;                                                     \
        (void)a, (void)b;                                                                          \
        r[p->d].i = u_value;                                                                       \
        break;                                                                                     \
    }
#define WRAP_CASE(name, value)                                                                     \
    case IN_##name##_S:                                                                            \
    case IN_##name##_U: {                                                                          \
        uint64_t a = r[p->a].u, b = r[p->b].u, v = (value);                                        \
        (void)b;                                                                                   \
        r[p->d].i = p->op == IN_##name##_S ? cut_S(v, p->shift) : cut_U(v, p->shift);              \
        break;                                                                                     \
    }
#define FLOAT_CASE(name, f_value, d_value)                                                         \
    case IN_##name##_F: {                                                                          \
        float a = r[p->a].f, b = r[p->b].f;                                                        \
        (void)b;                                                                                   \
        r[p->d].f = f_value;                                                                       \
        break;                                                                                     \
    }                                                                                              \
    case IN_##name##_D: {                                                                          \
        double a = r[p->a].d, b = r[p->b].d;                                                       \
        (void)b;                                                                                   \
        r[p->d].d = d_value;                                                                       \
        break;                                                                                     \
    }
#define CMP_CASE(name, op)                                                                         \
    case IN_##name##_S: r[p->d].u = r[p->a].i op r[p->b].i; break;                                 \
    case IN_##name##_U: r[p->d].u = r[p->a].u op r[p->b].u; break;                                 \
    case IN_##name##_F: r[p->d].u = r[p->a].f op r[p->b].f; break;                                 \
    case IN_##name##_D:                                                                            \
        r[p->d].u = r[p->a].d op r[p->b].d;                                                        \
        break;

#define LOAD(T, ctype, field, from, index)                                                         \
    {                                                                                              \
        uint64_t at = index;                                                                       \
        if (at >= (uint64_t)slot[p->b].n) out_of_bounds(m, p, "load", at);                         \
        ctype v;                                                                                   \
        memcpy(&v, slot[p->b].base + at * sizeof v, sizeof v);                                     \
        r[p->d].field = from(v);                                                                   \
        break;                                                                                     \
    }
#define STORE(T, ctype, field, to, index)                                                          \
    {                                                                                              \
        uint64_t at = index;                                                                       \
        if (at >= (uint64_t)slot[p->b].n) out_of_bounds(m, p, "store", at);                        \
        ctype v = (ctype)to(r[p->d].field);                                                        \
        memcpy(slot[p->b].base + at * sizeof v, &v, sizeof v);                                     \
        break;                                                                                     \
    }

enum { NO_MEMORY = 8 }; /* SMELT_NO_MEMORY */

/* The heap buffer's slot gets new memory. */
static bool reserve(Machine *m, const Ins *p) {
    Slot *s = &m->slot[p->b];
    int64_t n = m->reg[p->a].i, keep = m->reg[p->c].i,
            width = dtype_bytes(m->code->bufs[p->b].buf->dtype);
    BUG_IF(keep < 0 || keep > s->n || keep > n, "kernel %s: %lld elements of %s cannot be kept",
           m->code->name, (long long)keep, m->code->bufs[p->b].buf->name);
    uint8_t *memory = n < 0 || n > INT64_MAX / 64 ? NULL : try_malloc((size_t)(n * width + 1));
    if (!memory) return false;
    memset(memory, 0xff, (size_t)(n * width));
    if (keep) memcpy(memory, s->base, (size_t)(keep * width));
    free(s->base);
    *s = (Slot){memory, n};
    return true;
}

/* The status of a return, or 0. */
static int64_t run(Machine *m) {
    Reg *r = m->reg;
    Slot *slot = m->slot;
    for (const Ins *p = m->code->ins;; p++) {
        switch ((InsOp)p->op) {
        case IN_end:
            return 0;
            WRAP_CASE(add, a + b)
            WRAP_CASE(sub, a - b)
            WRAP_CASE(mul, a * b)
            WRAP_CASE(neg, 0 - a)
            WRAP_CASE(not, ~a)
            WRAP_CASE(shl, b >= 64u - p->shift ? 0 : a << b)
            INT_CASE(div, cut_S((uint64_t)div_S(a, b), p->shift), b ? (int64_t)(a / b) : 0)
            INT_CASE(rem, rem_S(a, b), b ? (int64_t)(a % b) : 0)
            INT_CASE(fdiv, cut_S((uint64_t)fdiv_S(a, b), p->shift), b ? (int64_t)(a / b) : 0)
            INT_CASE(fmod, fmod_S(a, b), b ? (int64_t)(a % b) : 0)
            INT_CASE(min, a < b ? a : b, (int64_t)(a < b ? a : b))
            INT_CASE(max, a > b ? a : b, (int64_t)(a > b ? a : b))
            INT_CASE(abs, a < 0 ? cut_S(0 - (uint64_t)a, p->shift) : a, (int64_t)a)
            INT_CASE(and, a & b, (int64_t)(a & b))
            INT_CASE(or, a | b, (int64_t)(a | b))
            INT_CASE(xor, a ^ b, (int64_t)(a ^ b))
            INT_CASE(shr, a >> ((uint64_t)b >= 64u - p->shift ? 63 : b),
                     b >= 64u - p->shift ? 0 : (int64_t)(a >> b))
            CMP_CASE(eq, ==)
            CMP_CASE(ne, !=)
            CMP_CASE(lt, <)
            CMP_CASE(le, <=)
            FLOAT_CASE(add, a + b, a + b)
            FLOAT_CASE(sub, a - b, a - b)
            FLOAT_CASE(mul, a * b, a * b)
            FLOAT_CASE(div, a / b, a / b)
            FLOAT_CASE(rem, fmodf(a, b), fmod(a, b))
            FLOAT_CASE(min, a < b ? a : b, a < b ? a : b)
            FLOAT_CASE(max, a > b ? a : b, a > b ? a : b)
            FLOAT_CASE(neg, float_of(raw_of(a) ^ 0x80000000u), -a)
            FLOAT_CASE(abs, fabsf(a), fabs(a))
            FLOAT_CASE(fma, fmaf(a, b, r[p->c].f), fma(a, b, r[p->c].d))
            FLOAT_CASE(sqrt, sqrtf(a), sqrt(a))
            FLOAT_CASE(ldexp, (float)times_power(a, b), times_power(a, b))
            FLOAT_CASE(floor, floorf(a), floor(a))
            FLOAT_CASE(ceil, ceilf(a), ceil(a))
            FLOAT_CASE(trunc, truncf(a), trunc(a))
            FLOAT_CASE(rint, rintf(a), rint(a))
        case IN_add_I: r[p->d].u = r[p->a].u + r[p->b].u; break;
        case IN_sub_I: r[p->d].u = r[p->a].u - r[p->b].u; break;
        case IN_mul_I: r[p->d].u = r[p->a].u * r[p->b].u; break;
#define X(T, ctype, field, from, to)                                                               \
    case IN_load_if_##T:                                                                           \
        if (!r[p->c].u) {                                                                          \
            r[p->d].u = 0;                                                                         \
            break;                                                                                 \
        }                                                                                          \
        /* fall through */                                                                         \
    case IN_load_##T: LOAD(T, ctype, field, from, r[p->a].u)                                       \
    case IN_load_at_##T: LOAD(T, ctype, field, from, r[p->a].u + r[p->c].u)                        \
    case IN_store_##T: STORE(T, ctype, field, to, r[p->a].u)                                       \
    case IN_store_at_##T: STORE(T, ctype, field, to, r[p->a].u + r[p->c].u)
            FOR_STORED_TYPES(X)
#undef X
        case IN_word_if:
            if (!r[p->c].u) {
                r[p->d].u = 0;
                break;
            }
            /* fall through */
        case IN_word: {
            uint64_t at = r[p->a].u, n = (uint64_t)slot[p->b].n;
            if (at >= n || n - at < 4) out_of_bounds(m, p, "load", at);
            const unsigned char *c = slot[p->b].base + at;
            r[p->d].i =
                (int32_t)(c[0] | (uint32_t)c[1] << 8 | (uint32_t)c[2] << 16 | (uint32_t)c[3] << 24);
            break;
        }
        case IN_pair_if:
            if (!r[p->c].u) {
                r[p->d].u = 0;
                break;
            }
            /* fall through */
        case IN_pair: {
            uint64_t at = r[p->a].u, n = (uint64_t)slot[p->b].n;
            uint16_t half[2];
            if (at >= n || n - at < 2) out_of_bounds(m, p, "load", at);
            memcpy(half, slot[p->b].base + 2 * at, sizeof half);
            r[p->d].i = (int32_t)(half[0] | (uint32_t)half[1] << 16);
            break;
        }
        case IN_str_load_if:
            if (!r[p->c].u) {
                r[p->d].u = r[p->d + 1].u = 0;
                break;
            }
            /* fall through */
        case IN_str_load: {
            if (r[p->a].u >= (uint64_t)slot[p->b].n) out_of_bounds(m, p, "load", r[p->a].u);
            Text t;
            memcpy(&t, slot[p->b].base + r[p->a].u * sizeof t, sizeof t);
            r[p->d].u = (uintptr_t)t.bytes;
            r[p->d + 1].u = t.n_bytes;
            break;
        }
        case IN_str_store: {
            if (r[p->a].u >= (uint64_t)slot[p->b].n) out_of_bounds(m, p, "store", r[p->a].u);
            Text t = {(const char *)(uintptr_t)r[p->d].u, r[p->d + 1].u};
            memcpy(slot[p->b].base + r[p->a].u * sizeof t, &t, sizeof t);
            break;
        }
        case IN_str_byte: r[p->d].u = byte_of(&r[p->a], r[p->b].i); break;
        case IN_str_sub: {
            uint64_t from = r[p->b].u, n = r[p->c].u, whole = r[p->a + 1].u;
            BUG_IF(from > whole || n > whole - from, "kernel %s: a substring is outside",
                   m->code->name);
            r[p->d].u = r[p->a].u + from;
            r[p->d + 1].u = n;
            break;
        }
        case IN_str_of: {
            uint64_t from = r[p->a].u, n = r[p->c].u, whole = (uint64_t)slot[p->b].n;
            if (n && (from > whole || n > whole - from)) out_of_bounds(m, p, "string", from);
            r[p->d].u = (uintptr_t)slot[p->b].base + from;
            r[p->d + 1].u = n;
            break;
        }
        case IN_move: r[p->d] = r[p->a]; break;
        case IN_select: r[p->d] = r[p->a].u ? r[p->b] : r[p->c]; break;
        case IN_root16: r[p->d].i = roots[r[p->a].u & 15]; break;
        case IN_dot4_us:
            r[p->d].i = dot4_us((int32_t)r[p->a].i, (uint32_t)r[p->b].u, (uint32_t)r[p->c].u);
            break;
        case IN_dot4_ss:
            r[p->d].i = dot4_ss((int32_t)r[p->a].i, (uint32_t)r[p->b].u, (uint32_t)r[p->c].u);
            break;
        case IN_dot2_ss:
            r[p->d].i = dot2_ss((int32_t)r[p->a].i, (uint32_t)r[p->b].u, (uint32_t)r[p->c].u);
            break;
        case IN_dot2_bf:
            r[p->d].f = dot2_bf(r[p->a].f, (uint32_t)r[p->b].u, (uint32_t)r[p->c].u);
            break;
        case IN_narrow_S: r[p->d].i = cut_S(r[p->a].u, p->shift); break;
        case IN_narrow_U: r[p->d].i = cut_U(r[p->a].u, p->shift); break;
        case IN_int_bool: r[p->d].u = r[p->a].u != 0; break;
        case IN_F_bool: r[p->d].u = r[p->a].f != 0; break;
        case IN_D_bool: r[p->d].u = r[p->a].d != 0; break;
        case IN_S_F:
            r[p->d].f =
                p->c ? float_from_double_odd(double_from_signed_odd(r[p->a].i)) : (float)r[p->a].i;
            break;
        case IN_U_F:
            r[p->d].f = p->c ? float_from_double_odd(double_from_unsigned_odd(r[p->a].u))
                             : (float)r[p->a].u;
            break;
        case IN_S_D: r[p->d].d = (double)r[p->a].i; break;
        case IN_U_D: r[p->d].d = (double)r[p->a].u; break;
        case IN_F_D: r[p->d].d = r[p->a].f; break;
        case IN_D_F: r[p->d].f = p->c ? float_from_double_odd(r[p->a].d) : (float)r[p->a].d; break;
        case IN_F_S: r[p->d].i = saturate_S(r[p->a].f, p->shift); break;
        case IN_F_U: r[p->d].u = saturate_U(r[p->a].f, p->shift); break;
        case IN_D_S: r[p->d].i = saturate_S(r[p->a].d, p->shift); break;
        case IN_D_U: r[p->d].u = saturate_U(r[p->a].d, p->shift); break;
        case IN_round_F16: r[p->d].f = float_from_half(half_from_float(r[p->a].f)); break;
        case IN_round_BF16: r[p->d].f = float_from_bfloat(bfloat_from_float(r[p->a].f)); break;
        case IN_raw_F: r[p->d].u = raw_of(r[p->a].f); break;
        case IN_raw_F16: r[p->d].u = half_from_float(r[p->a].f); break;
        case IN_raw_BF16: r[p->d].u = bfloat_from_float(r[p->a].f); break;
        case IN_cook_F: r[p->d].f = float_of((uint32_t)r[p->a].u); break;
        case IN_cook_F16: r[p->d].f = float_from_half((uint16_t)r[p->a].u); break;
        case IN_cook_BF16: r[p->d].f = float_from_bfloat((uint16_t)r[p->a].u); break;
        case IN_loop:
            r[p->d].i = 0;
            if (r[p->a].i <= 0) p += p->b;
            break;
        case IN_next:
            if (++r[p->d].i < r[p->a].i) p -= p->b + 1;
            break;
        case IN_skip_if_not:
            if (!r[p->a].u) p += p->b;
            break;
        case IN_skip: p += p->b; break;
        case IN_back: p -= p->b + 1; break;
        case IN_alloc: {
            const CodeBuf *b = &m->code->bufs[p->b];
            memset(slot[p->b].base, 0xff,
                   (size_t)b->local_elems * (size_t)dtype_bytes(b->buf->dtype));
            break;
        }
        case IN_reserve:
            if (!reserve(m, p)) return NO_MEMORY;
            break;
        case IN_call: m->call(m, &m->code->calls[p->a]); break;
        case IN_return: return r[p->a].i;
        case IN_COUNT: BUG("damaged code");
        }
    }
}

/* ---- kernels --------------------------------------------------------------------------------- */

static void give_locals(const InterpretCode *code, Slot *slot, Arena *scratch) {
    for (uint32_t i = 0; i < code->n_bufs; i++) {
        const CodeBuf *b = &code->bufs[i];
        if (b->local_elems < 0) continue;
        slot[i] = (Slot){arena_alloc_array(scratch, (size_t)b->local_elems + 1,
                                           (size_t)dtype_bytes(b->buf->dtype)),
                         b->local_elems};
    }
}

/* Registers with constants and scalars in place. */
static Reg *give_registers(const InterpretCode *code, const int64_t *scalars, Arena *scratch) {
    Reg *reg = arena_array(scratch, Reg, code->n_regs + 1);
    for (uint32_t i = 0; i < code->n_consts; i++) reg[code->consts[i].reg] = code->consts[i].value;
    for (uint32_t i = 0; i < code->n_scalars; i++) reg[code->scalar_reg[i]].i = scalars[i];
    return reg;
}

typedef struct Program {
    const KModule *m;
    const InterpretCall *call;
    InterpretCode **kernel_code; /* by position in m->kernels; compiled when first called */
    Arena *arena;
    uint8_t *planned; /* the model's arena */
    int64_t planned_bytes;
} Program;

/* Argument i: the memory from its offset on. */
static InterpretBuf argument(const Machine *m, const CodeCall *call, uint32_t i) {
    const Slot *s = &m->slot[call->slot[i]];
    const KBuf *b = m->code->bufs[call->slot[i]].buf;
    int64_t at = m->reg[call->offset[i]].i;
    BUG_IF(at < 0 || at > s->n, "call of %s: offset %lld of %s is outside of its %lld elements",
           call->stmt->callee ? call->stmt->callee->name : call->stmt->text, (long long)at, b->name,
           (long long)s->n);
    return (InterpretBuf){s->base + at * dtype_bytes(b->dtype), s->n - at};
}

/* Of the heap. */
static int64_t *scalar_arguments(const Machine *m, const CodeCall *call) {
    uint32_t n = kstmt_n_scalars(call->stmt);
    int64_t *value = xmalloc(sizeof *value * (n + 1));
    for (uint32_t i = 0; i < n; i++) value[i] = m->reg[call->scalars[i]].i;
    return value;
}

/* In a kernel: a C function, which gets addresses and checks nothing. */
static void call_foreign(Machine *m, const CodeCall *call) {
    const Program *p = m->user;
    const char *name = call->stmt->text;
    InterpretForeign *function =
        p && p->call->foreign ? p->call->foreign(p->call->foreign_user, name) : NULL;
    BUG_IF(!function, "kernel %s: the interpreter was not given the C function %s", m->code->name,
           name);
    void **address = xmalloc(sizeof *address * (call->stmt->n_args + 1));
    for (uint32_t i = 0; i < call->stmt->n_args; i++) address[i] = argument(m, call, i).data;
    int64_t *scalars = scalar_arguments(m, call);
    function(address, scalars);
    free(address);
    free(scalars);
}

/* With `program`, statements `extern` find their functions through it. */
static void run_kernel(const InterpretCode *code, const InterpretBuf *params,
                       const int64_t *scalars, void *program) {
    Arena *scratch = arena_create();
    Slot *slot = arena_array(scratch, Slot, code->n_bufs + 1);
    for (uint32_t i = 0; i < code->n_bufs; i++)
        if (code->bufs[i].param >= 0)
            slot[i] = (Slot){params[code->bufs[i].param].data, params[code->bufs[i].param].n_elems};
    give_locals(code, slot, scratch);
    Machine m = {.code = code,
                 .reg = give_registers(code, scalars, scratch),
                 .slot = slot,
                 .call = call_foreign,
                 .user = program};
    run(&m);
    arena_destroy(scratch);
}

void interpret_run(const InterpretCode *code, const InterpretBuf *params, const int64_t *scalars) {
    run_kernel(code, params, scalars, NULL);
}

void interpret_kernel(const Kernel *kn, const InterpretBuf *params, const int64_t *scalars) {
    Arena *a = arena_create();
    interpret_run(interpret_compile(a, kn), params, scalars);
    arena_destroy(a);
}

int64_t interpret_index(const KExpr *e, KVar *const *var, const int64_t *value, uint32_t n) {
    Arena *a = arena_create();
    InterpretCode *code = interpret_compile_expr(a, e, var, n);
    Machine m = {.code = code, .reg = give_registers(code, value, a)};
    int64_t r = run(&m);
    arena_destroy(a);
    return r;
}

/* ---- programs -------------------------------------------------------------------------------- */

static InterpretCode *code_of(Program *p, const Kernel *kn) {
    for (uint32_t i = 0; i < p->m->n_kernels; i++) {
        if (p->m->kernels[i] != kn) continue;
        if (!p->kernel_code[i]) p->kernel_code[i] = interpret_compile(p->arena, kn);
        return p->kernel_code[i];
    }
    BUG("the entry calls %s, which is not a kernel of the module", kn->name);
}

static void call_kernel(Machine *m, const CodeCall *call) {
    Program *p = m->user;
    const Kernel *kn = call->stmt->callee;
    InterpretBuf *params = xmalloc(sizeof *params * (kn->n_params + 1));
    for (uint32_t i = 0; i < kn->n_params; i++) params[i] = argument(m, call, i);
    int64_t *scalars = scalar_arguments(m, call);
    run_kernel(code_of(p, kn), params, scalars, p);
    free(params);
    free(scalars);
}

/* Sizes that the run finds count with their bounds. */
static int64_t known_value(const Program *p, const KExpr *e) {
    return interpret_index(k_upper_bound(p->m->k, e), p->m->symbols, p->call->symbols,
                           p->m->n_symbols);
}

static Slot bind_buffer(const Program *p, const KBuf *b);

/* After the run: the sizes that it found are known. */
static int64_t run_value(const Program *p, const KExpr *e) {
    const KModule *m = p->m;
    uint32_t n = m->n_symbols + m->n_sizes;
    KVar **var = arena_array(p->arena, KVar *, n + 1);
    int64_t *value = arena_array(p->arena, int64_t, n + 1);
    Slot table = m->size_table ? bind_buffer(p, m->size_table) : (Slot){0};
    for (uint32_t i = 0; i < n; i++) {
        bool found = i >= m->n_symbols;
        var[i] = found ? m->sizes[i - m->n_symbols] : m->symbols[i];
        if (found)
            memcpy(&value[i], table.base + 8 * (i - m->n_symbols), 8);
        else
            value[i] = p->call->symbols[i];
    }
    return interpret_index(e, var, value, n);
}

static Slot bind_buffer(const Program *p, const KBuf *b) {
    int64_t n = b->mem == MEM_HEAP ? 0 : known_value(p, b->n_elems), bytes = dtype_bytes(b->dtype);
    switch (b->mem) {
    case MEM_INPUT: return (Slot){(uint8_t *)(uintptr_t)p->call->inputs[b->index], n};
    case MEM_HEAP: return (Slot){NULL, 0};
    case MEM_OUTPUT: return (Slot){p->call->outputs[b->index], n};
    case MEM_CONST: return (Slot){(uint8_t *)(uintptr_t)b->data, n};
    case MEM_ARENA: {
        /* one of a version that does not run may lie outside: then it has no elements here, and an
         * access would be a bug */
        int64_t at = known_value(p, b->offset);
        bool inside = at >= 0 && at <= p->planned_bytes && n <= (p->planned_bytes - at) / bytes;
        return inside ? (Slot){p->planned + at, n} : (Slot){p->planned, 0};
    }
    default: BUG("the entry uses %s, which is no buffer of a program", b->name);
    }
}

/* The bytes of string outputs move out of what is about to go. */
static void keep_text(const Program *p, Arena *to) {
    const KModule *m = p->m;
    for (uint32_t i = 0; to && i < m->n_outputs; i++) {
        if (m->outputs[i].dtype != DT_STR) continue;
        int64_t n = 1;
        for (int a = 0; a < m->outputs[i].rank; a++) n *= run_value(p, m->outputs[i].dims[a]);
        Text *t = p->call->outputs[i];
        for (int64_t k = 0; k < n; k++) t[k].bytes = arena_copy(to, t[k].bytes, t[k].n_bytes);
    }
}

/* Gives the caller the memory of an output. */
static bool hand_out(const Program *p, const KBuf *b, const Slot *s, int64_t status) {
    for (uint32_t i = 0; i < p->m->n_outputs && !status; i++) {
        if (p->m->outputs[i].buf != b) continue;
        p->call->outputs[i] = s->base;
        return true;
    }
    return false;
}

int64_t interpret_module(const KModule *m, const InterpretCall *call) {
    Arena *a = arena_create();
    Program p = {.m = m, .call = call, .arena = a};
    p.kernel_code = arena_array(a, InterpretCode *, m->n_kernels + 1);
    p.planned_bytes = m->arena_bytes ? known_value(&p, m->arena_bytes) : 0;
    if (p.planned_bytes < 0) p.planned_bytes = 0; /* of dims that the entry refuses */
    p.planned = arena_alloc(a, (size_t)p.planned_bytes + 64);
    memset(p.planned, 0xff, (size_t)p.planned_bytes);
    InterpretCode *code = interpret_compile_entry(a, m);
    Slot *slot = arena_array(a, Slot, code->n_bufs + 1);
    for (uint32_t i = 0; i < code->n_bufs; i++)
        if (code->bufs[i].local_elems < 0) slot[i] = bind_buffer(&p, code->bufs[i].buf);
    give_locals(code, slot, a);
    Machine machine = {.code = code,
                       .reg = give_registers(code, call->symbols, a),
                       .slot = slot,
                       .call = call_kernel,
                       .user = &p};
    int64_t status = run(&machine);
    if (call->sizes && m->size_table) {
        Slot table = bind_buffer(&p, m->size_table);
        memcpy(call->sizes, table.base, m->n_sizes * sizeof *call->sizes);
    }
    for (uint32_t i = 0; i < code->n_bufs; i++)
        if (code->bufs[i].buf->mem == MEM_HEAP && hand_out(&p, code->bufs[i].buf, &slot[i], status))
            slot[i].base = NULL;
    if (!status) keep_text(&p, call->text);
    for (uint32_t i = 0; i < code->n_bufs; i++)
        if (code->bufs[i].buf->mem == MEM_HEAP) free(slot[i].base);
    arena_destroy(a);
    return status;
}
