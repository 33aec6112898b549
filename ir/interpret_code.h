/* Internal to interpret*.c: the register code.
 *
 * A register is 64 bits. Integers lie in it sign- or zero-extended from their width, f16 and bf16
 * as floats. A string takes two registers in a row: the address of its bytes, then their number.
 * Where it matters, an instruction on integers has the number of bits to cut in `shift`.
 * The _at forms of load and store add the registers a and c to get the index. */
#ifndef SMELT_IR_INTERPRET_CODE_H
#define SMELT_IR_INTERPRET_CODE_H

#include "ir/interpret.h"

typedef union Reg {
    int64_t i;
    uint64_t u;
    double d;
    float f;
} Reg;

/* Suffixes: S signed, U unsigned or bool, F f32, D f64. */
#define FOR_INTEGER_OPS(X)                                                                         \
    X(add)                                                                                         \
    X(sub) X(mul) X(div) X(rem) X(fdiv) X(fmod) X(min) X(max) X(neg) X(abs) X(and) X(or) X(xor)    \
        X(not ) X(shl) X(shr) X(eq) X(ne) X(lt) X(le)
#define FOR_FLOAT_OPS(X)                                                                           \
    X(add)                                                                                         \
    X(sub) X(mul) X(div) X(rem) X(min) X(max) X(neg) X(abs) X(fma) X(sqrt) X(floor) X(ceil)        \
        X(trunc) X(rint) X(ldexp) X(eq) X(ne) X(lt) X(le)
/* dtype, C type in memory, register field and conversions to it and back */
#define FOR_STORED_TYPES(X)                                                                        \
    X(F32, float, f, , )                                                                           \
    X(F64, double, d, , ) X(F16, uint16_t, f, float_from_half, half_from_float)                    \
        X(BF16, uint16_t, f, float_from_bfloat, bfloat_from_float) X(I8, int8_t, i, , )            \
            X(I16, int16_t, i, , ) X(I32, int32_t, i, , ) X(I64, int64_t, i, , )                   \
                X(U8, uint8_t, u, , ) X(U16, uint16_t, u, , ) X(U32, uint32_t, u, , )              \
                    X(U64, uint64_t, u, , ) X(BOOL, uint8_t, u, !!, )

typedef enum InsOp {
    IN_end,
#define X(name) IN_##name##_S, IN_##name##_U,
    FOR_INTEGER_OPS(X)
#undef X
#define X(name) IN_##name##_F, IN_##name##_D,
        FOR_FLOAT_OPS(X)
#undef X
#define X(t, c, field, from, to)                                                                   \
    IN_load_##t, IN_load_if_##t, IN_load_at_##t, IN_store_##t, IN_store_at_##t,
            FOR_STORED_TYPES(X)
#undef X
                IN_add_I,
    IN_sub_I,
    IN_mul_I,    /* 64 bits wide: nothing to cut */
    IN_move,     /* d = a */
    IN_select,   /* d = a ? b : c */
    IN_root16,
    IN_dot4_us,  /* d = a + dot(b, c) */
    IN_dot4_ss,
    IN_dot2_ss,
    IN_dot2_bf,
    IN_word,     /* d = the four bytes of buffer b from a on; _if: 0 where c is false */
    IN_word_if,
    IN_pair, /* the same of two elements of 16 bits */
    IN_pair_if,
    IN_narrow_S, /* a cut to the low 64 - shift bits */
    IN_narrow_U,
    IN_int_bool, /* a != 0 */
    IN_F_bool,
    IN_D_bool,
    IN_S_F,
    IN_U_F,
    IN_S_D,
    IN_U_D,
    IN_F_D,
    IN_D_F, /* from_to */
    IN_F_S,
    IN_F_U,
    IN_D_S,
    IN_D_U, /* truncating, saturating */
    IN_round_F16,
    IN_round_BF16,
    IN_raw_F,
    IN_raw_F16,
    IN_raw_BF16, /* bits, zero-extended */
    IN_cook_F,
    IN_cook_F16,
    IN_cook_BF16,   /* and back */
    IN_str_load,    /* d, d+1 = element a of buffer b; _if: where c, else the empty string */
    IN_str_load_if,
    IN_str_store,   /* element a of buffer b = d, d+1 */
    IN_str_byte,    /* byte b of a, a+1 */
    IN_str_sub,     /* the c bytes from b on of a */
    IN_str_of,      /* the c bytes from element a of buffer b on */
    IN_loop,        /* d = 0; if a <= 0 skip b instructions */
    IN_next,        /* d++; if d < a go back b instructions */
    IN_skip_if_not, /* if !a skip b */
    IN_skip,        /* skip b */
    IN_back,        /* go back b */
    IN_alloc,       /* fills local buffer b with garbage */
    IN_call,        /* calls[a], a kernel or a C function */
    IN_reserve,     /* heap buffer b gets room for a elements and keeps c */
    IN_return,      /* leave with value a */
    IN_COUNT
} InsOp;

typedef struct Ins {
    uint16_t op;
    uint16_t shift;
    uint32_t d, a, b, c; /* registers, except: load and store have the buffer's slot in b */
} Ins;

/* A buffer that the code touches: a parameter, or a local of constant size, or one of the entry's.
 */
typedef struct CodeBuf {
    const KBuf *buf;
    int32_t param;       /* position, or -1 */
    int64_t local_elems; /* of REG, STACK and SHARED; else -1 */
} CodeBuf;

typedef struct CodeCall {
    const KStmt *stmt;
    const uint32_t *slot;    /* buffer slot of each argument */
    const uint32_t *offset;  /* register of each argument's offset */
    const uint32_t *scalars; /* registers */
} CodeCall;

struct InterpretCode {
    const char *name;
    Ins *ins;
    uint32_t n_ins, n_regs;
    struct {
        uint32_t reg;
        Reg value;
    } * consts;
    uint32_t n_consts;
    const uint32_t *scalar_reg; /* of each kernel scalar (entry: each given symbol) */
    uint32_t n_scalars;
    CodeBuf *bufs;
    uint32_t n_bufs;
    CodeCall *calls;
    uint32_t n_calls;
};

/* The entry as code; its scalars are the module's symbols. Computed sizes are loads of size_table.
 */
InterpretCode *interpret_compile_entry(Arena *a, const KModule *m);
/* Code of an expression that ends by returning its value. */
InterpretCode *interpret_compile_expr(Arena *a, const KExpr *e, KVar *const *var, uint32_t n_vars);

#endif
