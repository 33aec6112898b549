/* Kernel IR to register code.
 *
 * Each open block (loop body, branch, kernel) is a Level with code of its own, which is appended to
 * the code around it when the block closes. An expression goes to the outermost level where its
 * variables exist: since only memory makes a difference, everything but loads may be computed early
 * and even for nothing. Within a level, equal expressions share a register; those that read memory
 * are shared within one statement only. */
#include <string.h>

#include "ir/interpret_code.h"

typedef struct Known {
    const KExpr *e;
    uint32_t reg;
    int level;
    uint32_t statement; /* 0: valid as long as the level is open */
} Known;

typedef VEC(Ins) InsVec;

typedef struct Level {
    InsVec code;
    uint32_t n_log; /* entries of log when it was opened */
} Level;

enum { MAX_LEVELS = 200 };

typedef struct Compiler {
    Arena *a;
    InterpretCode *out;
    const KModule *module; /* entry only */
    Level level[MAX_LEVELS];
    int depth; /* levels open */
    VEC(Known) log;
    uint32_t *slot; /* expression id to index in log + 1, open addressing by id */
    uint32_t n_slots;
    uint32_t statement;
    VEC(CodeBuf) bufs;
    VEC(CodeCall) calls;
    InterpretCode consts;
    uint32_t cap_consts;
    struct {
        const KVar *var;
        uint32_t reg;
        int level;
    } * vars;
    uint32_t n_vars, cap_vars;
} Compiler;

static uint32_t new_reg(Compiler *c) {
    return c->out->n_regs++;
}

static Ins *emit(Compiler *c, int level, InsOp op, uint32_t d, uint32_t a, uint32_t b,
                 uint32_t third) {
    Ins ins = {.op = (uint16_t)op, .d = d, .a = a, .b = b, .c = third};
    InsVec *code = &c->level[level].code;
    vec_push(c->a, code, ins);
    return &code->at[code->n - 1];
}

static uint32_t constant(Compiler *c, Reg value) {
    InterpretCode *o = c->out;
    for (uint32_t i = 0; i < o->n_consts; i++)
        if (o->consts[i].value.u == value.u) return o->consts[i].reg;
    vec_grow(c->a, (void **)&o->consts, o->n_consts, &c->cap_consts, sizeof *o->consts);
    uint32_t reg = new_reg(c);
    o->consts[o->n_consts].reg = reg;
    o->consts[o->n_consts++].value = value;
    return reg;
}

static void bind_var(Compiler *c, const KVar *v, uint32_t reg, int level) {
    vec_grow(c->a, (void **)&c->vars, c->n_vars, &c->cap_vars, sizeof *c->vars);
    c->vars[c->n_vars].var = v;
    c->vars[c->n_vars].reg = reg;
    c->vars[c->n_vars++].level = level;
}

static uint32_t buffer_slot(Compiler *c, const KBuf *b) {
    for (uint32_t i = 0; i < c->bufs.n; i++)
        if (c->bufs.at[i].buf == b) return i;
    BUG_IF(!c->module, "kernel %s uses buffer %s, which is not a parameter", c->out->name, b->name);
    CodeBuf slot = {.buf = b, .param = -1, .local_elems = -1};
    vec_push(c->a, &c->bufs, slot);
    return c->bufs.n - 1;
}

/* ---- what is known --------------------------------------------------------------------------- */

static void index_log(Compiler *c, uint32_t at) {
    uint32_t i = (c->log.at[at].e->id * 2654435761u) & (c->n_slots - 1);
    while (c->slot[i] && c->log.at[c->slot[i] - 1].e != c->log.at[at].e)
        i = (i + 1) & (c->n_slots - 1);
    c->slot[i] = at + 1;
}

static Known *known(Compiler *c, const KExpr *e) {
    if (!c->n_slots) return NULL;
    uint32_t i = (e->id * 2654435761u) & (c->n_slots - 1);
    while (c->slot[i] && c->log.at[c->slot[i] - 1].e != e) i = (i + 1) & (c->n_slots - 1);
    if (!c->slot[i]) return NULL;
    Known *k = &c->log.at[c->slot[i] - 1];
    return k->statement && k->statement != c->statement ? NULL : k;
}

static void remember(Compiler *c, Known k) {
    vec_push(c->a, &c->log, k);
    if (c->log.n * 2 > c->n_slots) {
        c->n_slots = c->n_slots ? c->n_slots * 2 : 256;
        c->slot = arena_array(c->a, uint32_t, c->n_slots);
        for (uint32_t i = 0; i < c->log.n; i++) index_log(c, i);
    } else {
        index_log(c, c->log.n - 1);
    }
}

static void open_level(Compiler *c) {
    BUG_IF(c->depth == MAX_LEVELS, "kernel %s nests too deeply", c->out->name);
    c->level[c->depth++] = (Level){.n_log = c->log.n};
}

/* Ends the innermost level; its code is still to be placed. What was computed in it is forgotten.
 */
static InsVec close_level(Compiler *c) {
    int closing = --c->depth;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < c->log.n; i++)
        if (c->log.at[i].level < closing && !c->log.at[i].statement)
            c->log.at[kept++] = c->log.at[i];
    c->log.n = kept;
    if (c->n_slots) memset(c->slot, 0, c->n_slots * sizeof *c->slot);
    for (uint32_t i = 0; i < kept; i++) index_log(c, i);
    return c->level[closing].code;
}

static void append_code(Compiler *c, const InsVec *code) {
    InsVec *to = &c->level[c->depth - 1].code;
    for (uint32_t i = 0; i < code->n; i++) vec_push(c->a, to, code->at[i]);
}

/* ---- expressions ----------------------------------------------------------------------------- */

static uint32_t cut_of(DType t) {
    return t == DT_BOOL ? 63 : 64u - (uint32_t)dtype_info[t].bits;
}
static bool is_half(DType t) {
    return t == DT_F16 || t == DT_BF16;
}
static bool is_sint(DType t) {
    return dtype_info[t].kind == DK_SINT;
}

static bool is_text(const KExpr *e) {
    return e->dtype == DT_STR;
}

typedef enum { ACCESS_PLAIN, ACCESS_IF, ACCESS_AT } Access;

static InsOp load_op(DType t, Access how) {
    switch (t) {
#define X(T, ctype, field, from, to)                                                               \
    case DT_##T:                                                                                   \
        return how == ACCESS_IF ? IN_load_if_##T : how == ACCESS_AT ? IN_load_at_##T : IN_load_##T;
        FOR_STORED_TYPES(X)
#undef X
    default: BUG("the interpreter has no loads of %s", dtype_info[t].name);
    }
}

static InsOp store_op(DType t, Access how) {
    switch (t) {
#define X(T, ctype, field, from, to)                                                               \
    case DT_##T: return how == ACCESS_AT ? IN_store_at_##T : IN_store_##T;
        FOR_STORED_TYPES(X)
#undef X
    default: BUG("the interpreter has no stores of %s", dtype_info[t].name);
    }
}

static InsOp integer_op(KOp op, bool is_signed) {
    switch ((int)op) {
#define X(name)                                                                                    \
    case KO_##name: return is_signed ? IN_##name##_S : IN_##name##_U;
        FOR_INTEGER_OPS(X)
#undef X
    default: BUG("'%s' of integers is not defined", kop_info[op].name);
    }
}

static InsOp float_op(KOp op, bool single) {
    switch ((int)op) {
#define X(name)                                                                                    \
    case KO_##name: return single ? IN_##name##_F : IN_##name##_D;
        FOR_FLOAT_OPS(X)
#undef X
    default: BUG("'%s' of floats is not defined", kop_info[op].name);
    }
}

/* Rounds a register to a 16-bit float; others are left alone. */
static void round_half(Compiler *c, int level, DType t, uint32_t reg) {
    if (t == DT_F16) emit(c, level, IN_round_F16, reg, reg, 0, 0);
    if (t == DT_BF16) emit(c, level, IN_round_BF16, reg, reg, 0, 0);
}

static void emit_cast(Compiler *c, int level, DType to, DType from, uint32_t d, uint32_t a) {
    bool f_to = dtype_is_float(to), f_from = dtype_is_float(from);
    bool single_from = f_from && from != DT_F64, single_to = f_to && to != DT_F64;
    if (f_to && f_from) {
        if (single_from == single_to)
            emit(c, level, IN_move, d, a, 0, 0);
        else /* c: round to odd, so that the rounding to 16 bits is the only one */
            emit(c, level, single_to ? IN_D_F : IN_F_D, d, a, 0, is_half(to));
        round_half(c, level, to, d);
    } else if (f_to) {
        InsOp op = is_sint(from) ? single_to ? IN_S_F : IN_S_D : single_to ? IN_U_F : IN_U_D;
        emit(c, level, op, d, a, 0, is_half(to));
        round_half(c, level, to, d);
    } else if (to == DT_BOOL) {
        emit(c, level, !f_from ? IN_int_bool : single_from ? IN_F_bool : IN_D_bool, d, a, 0, 0);
    } else if (f_from) {
        InsOp op = is_sint(to) ? single_from ? IN_F_S : IN_D_S : single_from ? IN_F_U : IN_D_U;
        emit(c, level, op, d, a, 0, 0)->shift = (uint16_t)cut_of(to);
    } else {
        emit(c, level, is_sint(to) ? IN_narrow_S : IN_narrow_U, d, a, 0, 0)->shift =
            (uint16_t)cut_of(to);
    }
}

static void emit_bitcast(Compiler *c, int level, DType to, DType from, uint32_t d, uint32_t a) {
    InsOp raw = from == DT_F32    ? IN_raw_F
                : from == DT_F16  ? IN_raw_F16
                : from == DT_BF16 ? IN_raw_BF16
                                  : IN_move;
    emit(c, level, raw, d, a, 0, 0);
    if (to == DT_F32) emit(c, level, IN_cook_F, d, d, 0, 0);
    if (to == DT_F16) emit(c, level, IN_cook_F16, d, d, 0, 0);
    if (to == DT_BF16) emit(c, level, IN_cook_BF16, d, d, 0, 0);
    if (!dtype_is_float(to))
        emit(c, level, is_sint(to) ? IN_narrow_S : IN_narrow_U, d, d, 0, 0)->shift =
            (uint16_t)(64 - dtype_info[to].bits);
}

/* What makes a string, or reads one; the operands of str_of are those of its load. */
static void emit_text(Compiler *c, int level, const KExpr *e, uint32_t d, const uint32_t *arg) {
    switch ((int)e->op) {
    case KO_load:
        emit(c, level, e->n_args == 2 ? IN_str_load_if : IN_str_load, d, arg[0],
             buffer_slot(c, e->u.buf), e->n_args == 2 ? arg[1] : 0);
        return;
    case KO_select:
        emit(c, level, IN_select, d, arg[0], arg[1], arg[2]);
        emit(c, level, IN_select, d + 1, arg[0], arg[1] + 1, arg[2] + 1);
        return;
    case KO_str_len: emit(c, level, IN_move, d, arg[0] + 1, 0, 0); return;
    case KO_str_byte: emit(c, level, IN_str_byte, d, arg[0], arg[1], 0); return;
    case KO_str_sub: emit(c, level, IN_str_sub, d, arg[0], arg[1], arg[2]); return;
    case KO_str_of:
        emit(c, level, IN_str_of, d, arg[0], buffer_slot(c, e->arg[0]->u.buf), arg[1]);
        return;
    default: BUG("'%s' of strings is not defined", kop_info[e->op].name);
    }
}

static void emit_op(Compiler *c, int level, const KExpr *e, uint32_t d, const uint32_t *arg) {
    DType t = e->arg[0]->dtype;
    uint32_t b = e->n_args > 1 ? arg[1] : 0, third = e->n_args > 2 ? arg[2] : 0;
    if (is_text(e) || kop_info[e->op].class == KC_TEXT) {
        emit_text(c, level, e, d, arg);
    } else if (k_is_word(e)) {
        bool is_pair = word_parts(e->u.buf->dtype) == 2;
        emit(c, level,
             e->n_args == 2 ? (is_pair ? IN_pair_if : IN_word_if)
             : is_pair      ? IN_pair
                            : IN_word,
             d, arg[0], buffer_slot(c, e->u.buf), b);
    } else if (e->op == KO_load) {
        emit(c, level, load_op(e->dtype, e->n_args == 2 ? ACCESS_IF : ACCESS_PLAIN), d, arg[0],
             buffer_slot(c, e->u.buf), b);
    } else if (e->op == KO_select) {
        emit(c, level, IN_select, d, arg[0], b, third);
    } else if (e->op == KO_cast) {
        emit_cast(c, level, e->dtype, t, d, arg[0]);
    } else if (e->op == KO_bitcast) {
        emit_bitcast(c, level, e->dtype, t, d, arg[0]);
    } else if (e->op == KO_root16) {
        emit(c, level, IN_root16, d, arg[0], 0, 0);
    } else if (kop_is_dot(e->op)) {
        emit(c, level,
             e->op == KO_dot4_us   ? IN_dot4_us
             : e->op == KO_dot4_ss ? IN_dot4_ss
             : e->op == KO_dot2_ss ? IN_dot2_ss
                                   : IN_dot2_bf,
             d, arg[0], b, third);
    } else if (dtype_is_float(t)) {
        emit(c, level, float_op(e->op, t != DT_F64), d, arg[0], b, third);
        if (kop_info[e->op].class != KC_CMP) round_half(c, level, t, d);
    } else if (cut_of(t) == 0 && (e->op == KO_add || e->op == KO_sub || e->op == KO_mul)) {
        emit(c, level,
             e->op == KO_add   ? IN_add_I
             : e->op == KO_sub ? IN_sub_I
                               : IN_mul_I,
             d, arg[0], b, 0);
    } else {
        emit(c, level, integer_op(e->op, is_sint(t)), d, arg[0], b, third)->shift =
            (uint16_t)cut_of(t);
    }
}

static Reg constant_value(const KExpr *e) {
    Reg r = {.u = 0};
    if (e->op == KO_const_i)
        r.i = e->u.i;
    else if (e->dtype == DT_F64)
        r.d = e->u.f;
    else
        r.f = (float)e->u.f;
    return r;
}

static uint32_t empty_string(Compiler *c) {
    uint32_t zero = constant(c, (Reg){.u = 0}), d = new_reg(c);
    new_reg(c);
    emit(c, 0, IN_move, d, zero, 0, 0);
    emit(c, 0, IN_move, d + 1, zero, 0, 0);
    return d;
}

static uint32_t compile_expr(Compiler *c, const KExpr *e, int *level, bool *reads);

/* An index that is a sum, not known yet and changing in this very level, is left to the access: its
 * two registers. */
static bool split_index(Compiler *c, const KExpr *index, uint32_t *x, uint32_t *y) {
    int level_x, level_y;
    bool reads = false;
    if (index->op != KO_add || known(c, index)) return false;
    *x = compile_expr(c, index->arg[0], &level_x, &reads);
    *y = compile_expr(c, index->arg[1], &level_y, &reads);
    return reads || level_x == c->depth - 1 || level_y == c->depth - 1;
}

/* Register with e's value; *level receives where it is computed, *reads whether from memory. */
static uint32_t compile_expr(Compiler *c, const KExpr *e, int *level, bool *reads) {
    if (e->op == KO_const_i || e->op == KO_const_f) {
        *level = 0;
        return is_text(e) ? empty_string(c) : constant(c, constant_value(e));
    }
    if (e->op == KO_var && !(c->module && e->u.var->kind == KV_SYMBOL && e->u.var->computed)) {
        for (uint32_t i = c->n_vars; i-- > 0;)
            if (c->vars[i].var == e->u.var) {
                *level = c->vars[i].level;
                return c->vars[i].reg;
            }
        BUG("kernel %s uses variable %s outside of its scope", c->out->name, e->u.var->name);
    }
    const Known *k = known(c, e);
    if (k) {
        *level = k->level;
        *reads |= k->statement != 0;
        return k->reg;
    }
    uint32_t arg[3];
    int deepest = 0;
    if (e->op == KO_load && e->n_args == 1 && !is_text(e) && !k_is_word(e) &&
        split_index(c, e->arg[0], &arg[0], &arg[1])) {
        uint32_t at = new_reg(c);
        emit(c, c->depth - 1, load_op(e->dtype, ACCESS_AT), at, arg[0], buffer_slot(c, e->u.buf),
             arg[1]);
        *level = c->depth - 1;
        *reads = true;
        remember(c, (Known){e, at, *level, c->statement});
        return at;
    }
    bool here = e->op == KO_load || e->op == KO_var || e->op == KO_str_byte;
    KClass class = kop_info[e->op].class;
    BUG_IF(e->n_args > 3 || class == KC_MATH || class == KC_PAIR,
           "the interpreter does not know '%s'", kop_info[e->op].name);
    for (int i = 0; i < e->n_args; i++) {
        int at;
        bool is_place = e->op == KO_str_of && i == 0; /* where the load would be, not its value */
        arg[i] = compile_expr(c, is_place ? e->arg[0]->arg[0] : e->arg[i], &at, &here);
        if (at > deepest) deepest = at;
    }
    if (here) deepest = c->depth - 1;
    uint32_t d = new_reg(c);
    if (is_text(e)) new_reg(c);
    if (e->op == KO_var) { /* a computed size */
        Reg slot = {.u = e->u.var->slot};
        emit(c, deepest, IN_load_I64, d, constant(c, slot), buffer_slot(c, c->module->size_table),
             0);
    } else {
        emit_op(c, deepest, e, d, arg);
    }
    remember(c, (Known){e, d, deepest, here ? c->statement : 0});
    *level = deepest;
    *reads |= here;
    return d;
}

static uint32_t value_of(Compiler *c, const KExpr *e) {
    int level;
    bool reads = false;
    return compile_expr(c, e, &level, &reads);
}

/* ---- statements ------------------------------------------------------------------------------ */

static void compile_block(Compiler *c, const KBlock *b);

static void compile_for(Compiler *c, const KStmt *s) {
    uint32_t extent = value_of(c, s->extent), var = new_reg(c);
    if (s->first) bind_var(c, s->first, constant(c, (Reg){.u = 0}), 0);
    open_level(c);
    bind_var(c, s->var, var, c->depth - 1);
    compile_block(c, &s->body);
    InsVec body = close_level(c);
    emit(c, c->depth - 1, IN_loop, var, extent, body.n + 1, 0);
    append_code(c, &body);
    emit(c, c->depth - 1, IN_next, var, extent, body.n, 0);
}

static void compile_while(Compiler *c, const KStmt *s) {
    open_level(c);
    uint32_t cond = value_of(c, s->value);
    uint32_t test = c->level[c->depth - 1].code.n;
    emit(c, c->depth - 1, IN_skip_if_not, 0, cond, 0, 0);
    compile_block(c, &s->body);
    InsVec body = close_level(c);
    body.at[test].b = body.n - test; /* past the jump back */
    append_code(c, &body);
    emit(c, c->depth - 1, IN_back, 0, 0, body.n, 0);
}

static void compile_if(Compiler *c, const KStmt *s) {
    uint32_t cond = value_of(c, s->value);
    open_level(c);
    compile_block(c, &s->body);
    InsVec yes = close_level(c);
    open_level(c);
    compile_block(c, &s->other);
    InsVec no = close_level(c);
    emit(c, c->depth - 1, IN_skip_if_not, 0, cond, yes.n + 1, 0);
    append_code(c, &yes);
    emit(c, c->depth - 1, IN_skip, 0, 0, no.n, 0);
    append_code(c, &no);
}

static void compile_let(Compiler *c, const KStmt *s) {
    int level;
    bool reads = false;
    uint32_t value = compile_expr(c, s->value, &level, &reads);
    bind_var(c, s->var, value, reads ? c->depth - 1 : level);
}

static void compile_alloc(Compiler *c, const KStmt *s) {
    int64_t n;
    BUG_IF(!k_is_int(s->buf->n_elems, &n) || n < 0, "local buffer %s has no constant size",
           s->buf->name);
    CodeBuf local = {.buf = s->buf, .param = -1, .local_elems = n};
    vec_push(c->a, &c->bufs, local);
    emit(c, c->depth - 1, IN_alloc, 0, 0, c->bufs.n - 1, 0);
}

/* Of a kernel, or of a C function: both are done by Machine.call. */
static void compile_call(Compiler *c, const KStmt *s) {
    uint32_t n_args = kstmt_n_args(s), n_scalars = kstmt_n_scalars(s);
    uint32_t *slot = arena_array(c->a, uint32_t, n_args + 1),
             *offset = arena_array(c->a, uint32_t, n_args + 1);
    uint32_t *scalars = arena_array(c->a, uint32_t, n_scalars + 1);
    for (uint32_t i = 0; i < n_args; i++) {
        slot[i] = buffer_slot(c, s->args[i].buf);
        offset[i] = s->args[i].offset ? value_of(c, s->args[i].offset) : constant(c, (Reg){.u = 0});
    }
    for (uint32_t i = 0; i < n_scalars; i++) scalars[i] = value_of(c, s->scalars[i]);
    CodeCall call = {s, slot, offset, scalars};
    vec_push(c->a, &c->calls, call);
    emit(c, c->depth - 1, IN_call, 0, c->calls.n - 1, 0, 0);
}

static void compile_reserve(Compiler *c, const KStmt *s) {
    uint32_t n = value_of(c, s->value),
             keep = s->index ? value_of(c, s->index) : constant(c, (Reg){.u = 0});
    emit(c, c->depth - 1, IN_reserve, 0, n, buffer_slot(c, s->buf), keep);
}

static void compile_store(Compiler *c, const KStmt *s) {
    uint32_t x, y, value = value_of(c, s->value), slot = buffer_slot(c, s->buf);
    if (s->buf->dtype == DT_STR)
        emit(c, c->depth - 1, IN_str_store, value, value_of(c, s->index), slot, 0);
    else if (split_index(c, s->index, &x, &y))
        emit(c, c->depth - 1, store_op(s->buf->dtype, ACCESS_AT), value, x, slot, y);
    else
        emit(c, c->depth - 1, store_op(s->buf->dtype, ACCESS_PLAIN), value, value_of(c, s->index),
             slot, 0);
}

static void compile_block(Compiler *c, const KBlock *b) {
    uint32_t n_vars = c->n_vars;
    for (const KStmt *s = b->first; s; s = s->next) {
        c->statement++;
        switch (s->kind) {
        case KS_FOR: compile_for(c, s); break;
        case KS_WHILE: compile_while(c, s); break;
        case KS_IF: compile_if(c, s); break;
        case KS_LET: compile_let(c, s); break;
        case KS_STORE: compile_store(c, s); break;
        case KS_ALLOC: compile_alloc(c, s); break;
        case KS_CALL:
        case KS_EXTERN: compile_call(c, s); break;
        case KS_RESERVE: compile_reserve(c, s); break;
        case KS_RETURN: emit(c, c->depth - 1, IN_return, 0, value_of(c, s->value), 0, 0); break;
        case KS_BARRIER: BUG("kernel %s: the interpreter runs no barriers", c->out->name);
        case KS_PREFETCH: /* memory is fast enough here */
        case KS_NODE:
        case KS_COMMENT:
        case KS_NONE: break;
        }
    }
    c->n_vars = n_vars;
}

/* ---- entries --------------------------------------------------------------------------------- */

static Compiler *start(Arena *a, const char *name, KVar *const *scalars, uint32_t n_scalars) {
    Compiler *c = arena_new(a, Compiler);
    c->a = a;
    c->out = arena_new(a, InterpretCode);
    c->out->name = name;
    open_level(c);
    uint32_t *reg = arena_array(a, uint32_t, n_scalars + 1);
    for (uint32_t i = 0; i < n_scalars; i++) {
        reg[i] = new_reg(c);
        bind_var(c, scalars[i], reg[i], 0);
    }
    c->out->scalar_reg = reg;
    c->out->n_scalars = n_scalars;
    return c;
}

static InterpretCode *finish(Compiler *c) {
    emit(c, 0, IN_end, 0, 0, 0, 0);
    InsVec code = close_level(c);
    c->out->ins = code.at;
    c->out->n_ins = code.n;
    c->out->bufs = c->bufs.at;
    c->out->n_bufs = c->bufs.n;
    c->out->calls = c->calls.at;
    c->out->n_calls = c->calls.n;
    return c->out;
}

InterpretCode *interpret_compile(Arena *a, const Kernel *kn) {
    Compiler *c = start(a, kn->name, kn->scalars, kn->n_scalars);
    for (uint32_t i = 0; i < kn->n_params; i++) {
        CodeBuf slot = {.buf = kn->params[i], .param = (int32_t)i, .local_elems = -1};
        vec_push(a, &c->bufs, slot);
    }
    compile_block(c, &kn->body);
    return finish(c);
}

InterpretCode *interpret_compile_entry(Arena *a, const KModule *m) {
    Compiler *c = start(a, "entry", m->symbols, m->n_symbols);
    c->module = m;
    compile_block(c, &m->entry);
    return finish(c);
}

InterpretCode *interpret_compile_expr(Arena *a, const KExpr *e, KVar *const *var, uint32_t n_vars) {
    Compiler *c = start(a, "expression", var, n_vars);
    c->statement = 1;
    emit(c, 0, IN_return, 0, value_of(c, e), 0, 0);
    return finish(c);
}
