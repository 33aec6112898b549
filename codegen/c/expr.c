/* Expressions of kernel IR as C.
 *
 * Integer arithmetic goes through unsigned types, where C wraps; index arithmetic, which does not
 * overflow, is written plainly. Operands are put in parentheses unless they are single tokens or
 * calls, so that precedence never matters (and -Wall never asks). */
#include "codegen/c/c_gen.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LONGEST_EXPRESSION = 9 }; /* operators in one line of text; beyond, parts become locals */

const char *c_value_type(DType t) {
    if (t == DT_F16 || t == DT_BF16) return "float";
    return t == DT_BOOL ? "int" : dtype_info[t].c_type;
}

const char *c_memory_type(DType t) {
    return dtype_info[t].c_type;
}

/* ---- names ----------------------------------------------------------------------------------- */

void c_begin_names(CGen *g) {
    g->taken = strmap_create(g->a);
    g->names = strmap_create(g->a);
    for (uint32_t i = 0; g->kernel_names && i < strmap_count(g->kernel_names); i++)
        strmap_put(g->taken, strmap_value(g->kernel_names, i), g);
    g->n_locals = 0;
}

const char *c_fresh_name(CGen *g, const char *wish) {
    const char *id = c_identifier(g->a, wish && *wish ? wish : "v");
    if (c_is_helper(id)) id = arena_printf(g->a, "%s_", id);
    const char *base = id;
    for (int i = 2; strmap_get(g->taken, id); i++) id = arena_printf(g->a, "%s_%d", base, i);
    strmap_put(g->taken, id, (void *)(uintptr_t)1);
    return id;
}

static const char *name_of(CGen *g, const void *thing, const char *wish) {
    char *known = strmap_get_bytes(g->names, (const char *)&thing, sizeof thing);
    if (known) return known;
    const void **key = arena_copy(g->a, &thing, sizeof thing);
    const char *name = c_fresh_name(g, wish);
    strmap_put_bytes(g->names, (const char *)key, sizeof *key, (void *)(uintptr_t)name);
    return name;
}

const char *c_name_var(CGen *g, const KVar *v) {
    return name_of(g, v, v->name);
}

const char *c_name_buf(CGen *g, const KBuf *b) {
    if (b->mem == MEM_CONST && g->in_entry) return c_const_name(g, b);
    return name_of(g, b, b->name);
}

void c_rename_buf(CGen *g, const KBuf *b, const char *text) {
    const void **key = arena_copy(g->a, &b, sizeof b);
    strmap_put_bytes(g->names, (const char *)key, sizeof *key, (void *)(uintptr_t)text);
}

/* ---- constants ------------------------------------------------------------------------------- */

void c_print_float(StrBuf *b, DType t, double v, bool in_table) {
    bool is_double = t == DT_F64;
    char text[40];
    if (v != v || isinf(v)) {
        const char *name = v != v     ? "NAN"
                           : v > 0    ? "INFINITY"
                           : in_table ? "-INFINITY"
                                      : "(-INFINITY)";
        strbuf_printf(b, is_double && !in_table ? "(double)%s" : "%s", name);
        return;
    }
    snprintf(text, sizeof text, is_double ? "%.17g" : "%.9g", v);
    double shorter;
    char brief[40];
    for (int digits = 1; digits < (is_double ? 17 : 9); digits++) { /* the shortest exact decimal */
        snprintf(brief, sizeof brief, "%.*g", digits, v);
        shorter = is_double ? strtod(brief, NULL) : (double)strtof(brief, NULL);
        if (shorter == v) {
            snprintf(text, sizeof text, "%s", brief);
            break;
        }
    }
    bool whole = !strpbrk(text, ".e");
    bool negative = text[0] == '-' && !in_table;
    strbuf_printf(b, "%s%s%s%s%s", negative ? "(" : "", text, whole ? ".0" : "",
                  is_double ? "" : "f", negative ? ")" : "");
}

void c_print_int(StrBuf *b, DType t, int64_t v) {
    if (t == DT_U64 || t == DT_U32) {
        strbuf_printf(b, t == DT_U32 || (uint64_t)v <= UINT32_MAX ? "%lluu" : "UINT64_C(%llu)",
                      (unsigned long long)v);
    } else if (v == INT64_MIN) {
        strbuf_add(b, "INT64_MIN");
    } else if (v == INT32_MIN) {
        strbuf_add(b, "INT32_MIN");
    } else {
        bool wide = v > INT32_MAX || v < INT32_MIN;
        strbuf_printf(b,
                      v < 0  ? wide ? "(-INT64_C(%llu))" : "(-%llu)"
                      : wide ? "INT64_C(%llu)"
                             : "%llu",
                      v < 0 ? 0 - (unsigned long long)v : (unsigned long long)v);
    }
}

/* ---- which expressions become locals --------------------------------------------------------- */

static CNote *note_of(CGen *g, const KExpr *e) {
    if (e->id >= g->n_notes) {
        uint32_t n = e->id + 1 + e->id / 2;
        g->note = xrealloc(g->note, sizeof *g->note * n);
        memset(g->note + g->n_notes, 0, sizeof *g->note * (n - g->n_notes));
        g->n_notes = n;
    }
    CNote *n = &g->note[e->id];
    if (n->statement != g->statement) {
        const char *local = n->local;
        bool reads = local && n->reads;
        *n = (CNote){.statement = g->statement, .local = local, .reads = reads};
    }
    return n;
}

void c_begin_statement(CGen *g) {
    g->statement++;
}

static bool is_leaf(const KExpr *e) {
    return e->op == KO_const_i || e->op == KO_const_f || (e->op == KO_var && !e->u.var->computed);
}

/* Operand i as text needs it: of the load in str_of only the index, since its address is taken. */
static const KExpr *part_of(const KExpr *e, int i) {
    return e->op == KO_str_of && i == 0 ? e->arg[0]->arg[0] : e->arg[i];
}

void c_announce(CGen *g, const KExpr *e, bool as_value) {
    if (is_leaf(e)) return;
    CNote *n = note_of(g, e);
    bool first = !n->uses++, wider = as_value && !n->as_value;
    n->as_value |= as_value;
    if (n->local || !(first || wider)) return;
    for (int i = 0; i < e->n_args; i++) {
        const KExpr *arg = part_of(e, i);
        uint32_t uses = is_leaf(arg) ? 0 : note_of(g, arg)->uses;
        bool is_index = arg != e->arg[i] || (e->op == KO_load && i == 0);
        c_announce(g, arg, is_index ? false : as_value || e->dtype != DT_I64);
        if (!first && !is_leaf(arg)) note_of(g, arg)->uses = uses;
    }
}

static void declare_local(CGen *g, const KExpr *e) {
    StrBuf text = {0};
    c_print(g, &text, e);
    CNote *n = note_of(g, e);
    n->local = arena_printf(g->a, "t%u", g->n_locals++);
    while (strmap_get(g->taken, n->local)) n->local = arena_printf(g->a, "t%u", g->n_locals++);
    c_line(g, "const %s %s = %s;", c_value_type(e->dtype), n->local, strbuf_text(&text));
    strbuf_free(&text);
    vec_push(g->a, &g->locals, e);
}

static int settle(CGen *g, const KExpr *e, bool is_root);

static bool has_local(const KExpr *e, void *g) {
    return note_of(g, e)->local;
}

/* Settles those of the n operations of a long operand that are used outside of it, too. */
static void settle_shared(CGen *g, const KExpr *const *in, uint32_t n) {
    for (uint32_t i = 1; i < n; i++) {
        uint32_t uses = 0;
        for (uint32_t j = 0; j < n; j++)
            for (int a = 0; a < in[j]->n_args; a++) uses += part_of(in[j], a) == in[i];
        if (note_of(g, in[i])->uses > uses) settle(g, in[i], false);
    }
}

static void settle_reading(CGen *g, const KExpr *e, const KExpr *part, bool is_root) {
    settle(g, part, is_root);
    if (!is_leaf(part) && note_of(g, part)->reads) note_of(g, e)->reads = true;
}

/* A selection as a variable that a branch around the long operand changes. */
static bool settle_branch(CGen *g, const KExpr *e) {
    const KExpr *in[K_COUNTED_OPERATIONS];
    if (g->in_branch || !dtype_is_float(e->dtype)) return false;
    int at = k_long_operand(e, has_local, g);
    uint32_t n = at ? k_new_operations(e->arg[at], has_local, g, in, 0) : 0;
    if (!n || n == K_COUNTED_OPERATIONS || note_of(g, in[0])->uses > 1) return false;
    settle_reading(g, e, e->arg[0], false);
    settle_reading(g, e, e->arg[3 - at], false);
    settle_shared(g, in, n);
    StrBuf start = {0}, wanted = {0}, text = {0};
    c_print(g, &start, e->arg[3 - at]);
    c_print(g, &wanted, e->arg[0]);
    const char *name = arena_printf(g->a, "t%u", g->n_locals++);
    while (strmap_get(g->taken, name)) name = arena_printf(g->a, "t%u", g->n_locals++);
    c_line(g, "%s %s = %s;", c_value_type(e->dtype), name, strbuf_text(&start));
    c_line(g, at == 1 ? "if (%s) {" : "if (!(%s)) {", strbuf_text(&wanted));
    g->indent++;
    g->in_branch = true;
    uint32_t mark = g->locals.n;
    settle_reading(g, e, e->arg[at], true);
    c_print(g, &text, e->arg[at]);
    c_line(g, "%s = %s;", name, strbuf_text(&text));
    c_scope_end(g, mark);
    g->in_branch = false;
    g->indent--;
    c_line(g, "}");
    strbuf_free(&start);
    strbuf_free(&wanted);
    strbuf_free(&text);
    note_of(g, e)->local = name;
    vec_push(g->a, &g->locals, e);
    return true;
}

/* Operators in e's text after its parts have become locals where they should. */
static int settle(CGen *g, const KExpr *e, bool is_root) {
    if (is_leaf(e)) return 0;
    CNote *n = note_of(g, e);
    if (n->local) return 0;
    if (n->settled) return n->size;
    n->settled = true;
    if (settle_branch(g, e)) return 0;
    int size = 1;
    bool reads = e->op == KO_load || e->op == KO_var || e->op == KO_str_byte;
    for (int i = 0; i < e->n_args; i++) {
        const KExpr *arg = part_of(e, i);
        size += settle(g, arg, false);
        if (!is_leaf(arg)) reads |= note_of(g, arg)->reads;
    }
    n = note_of(g, e);
    n->reads = reads;
    n->size = size;
    if (is_root || (n->uses < 2 && size <= LONGEST_EXPRESSION)) return size;
    declare_local(g, e);
    return 0;
}

void c_settle(CGen *g, const KExpr *e) {
    settle(g, e, note_of(g, e)->uses < 2);
}

uint32_t c_scope_mark(const CGen *g) {
    return g->locals.n;
}

void c_scope_end(CGen *g, uint32_t mark) {
    for (; g->locals.n > mark; g->locals.n--)
        g->note[g->locals.at[g->locals.n - 1]->id].local = NULL;
}

void c_end_statement(CGen *g) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < g->locals.n; i++) {
        const KExpr *e = g->locals.at[i];
        if (g->note[e->id].reads && g->note[e->id].statement == g->statement)
            g->note[e->id].local = NULL;
        else
            g->locals.at[kept++] = e;
    }
    g->locals.n = kept;
}

const char *c_expr(CGen *g, const KExpr *e, bool as_value) {
    StrBuf b = {0};
    c_announce(g, e, as_value);
    c_settle(g, e);
    c_print(g, &b, e);
    const char *text = arena_strdup(g->a, strbuf_text(&b));
    strbuf_free(&b);
    return text;
}

/* ---- text ------------------------------------------------------------------------------------ */

/* Is its text a token, a call or an element? */
static bool is_atom(CGen *g, const KExpr *e) {
    if (is_leaf(e) || note_of(g, e)->local || e->op == KO_load || e->op == KO_var) return true;
    DType from = e->n_args ? e->arg[0]->dtype : DT_NONE;
    switch ((int)e->op) {
    case KO_min:
    case KO_max:
    case KO_fma:
    case KO_sqrt:
    case KO_ldexp:
    case KO_floor:
    case KO_ceil:
    case KO_trunc:
    case KO_rint:
    case KO_str_byte:
    case KO_str_sub:
    case KO_str_of:
    case KO_dot4_us:
    case KO_dot4_ss:
    case KO_dot2_ss:
    case KO_dot2_bf:
    case KO_root16: return true;
    case KO_bitcast: return dtype_is_float(e->dtype);
    case KO_cast: return dtype_is_float(from) && !dtype_is_float(e->dtype) && e->dtype != DT_BOOL;
    default: return false;
    }
}

static void print_operand(CGen *g, StrBuf *b, const KExpr *e) {
    bool bare = is_atom(g, e);
    if (!bare) strbuf_add(b, "(");
    c_print(g, b, e);
    if (!bare) strbuf_add(b, ")");
}

/* A constant whose C type must be the dtype's own because nothing beside it decides. */
static void print_typed(CGen *g, StrBuf *b, const KExpr *e) {
    if (e->op == KO_const_i && e->dtype == DT_I64 && e->u.i <= INT32_MAX && e->u.i > INT32_MIN)
        strbuf_printf(b, "INT64_C(%lld)", (long long)e->u.i);
    else if (e->op == KO_const_i && (e->dtype == DT_I64 || e->dtype == DT_U64))
        strbuf_printf(b, e->dtype == DT_I64 ? "(int64_t)" : "(uint64_t)"),
            c_print_int(b, e->dtype, e->u.i);
    else
        print_operand(g, b, e);
}

/* name(a, b, ...) */
static void print_call(CGen *g, StrBuf *b, const char *name, const KExpr *e) {
    strbuf_printf(b, "%s(", name);
    for (int i = 0; i < e->n_args; i++) {
        if (i) strbuf_add(b, ", ");
        c_print(g, b, e->arg[i]);
    }
    strbuf_add(b, ")");
}

static void print_infix(CGen *g, StrBuf *b, const char *sign, const KExpr *e) {
    print_operand(g, b, e->arg[0]);
    strbuf_printf(b, " %s ", sign);
    print_operand(g, b, e->arg[1]);
}

static bool is_half(DType t) {
    return t == DT_F16 || t == DT_BF16;
}

/* The rounding that follows every operation on 16-bit floats; returns what closes it. */
static const char *open_rounding(CGen *g, StrBuf *b, DType t) {
    if (!is_half(t)) return "";
    strbuf_printf(b, "%s(", c_helper(g, t == DT_F16 ? "f16_round" : "bf16_round", t));
    return ")";
}

static void print_float_op(CGen *g, StrBuf *b, const KExpr *e) {
    DType t = e->dtype;
    const char *f = t == DT_F64 ? "" : "f", *sign = NULL;
    char name[16];
    if (e->op == KO_ldexp) {
        print_call(g, b, c_helper(g, t == DT_F32 ? "f32_ldexp" : "f64_ldexp", t), e);
        return;
    }
    if (e->op == KO_min || e->op == KO_max || e->op == KO_dot2_bf) {
        print_call(g, b, c_helper(g, kop_info[e->op].name, t), e);
        return;
    }
    if (e->op == KO_neg) {
        strbuf_add(b, "-");
        print_operand(g, b, e->arg[0]);
        return;
    }
    const char *close = open_rounding(g, b, t);
    switch ((int)e->op) {
    case KO_add: sign = "+"; break;
    case KO_sub: sign = "-"; break;
    case KO_mul: sign = "*"; break;
    case KO_div: sign = "/"; break;
    case KO_abs: snprintf(name, sizeof name, "fabs%s", f); break;
    case KO_rem: snprintf(name, sizeof name, "fmod%s", f); break;
    case KO_fma:
    case KO_sqrt:
    case KO_floor:
    case KO_ceil:
    case KO_trunc:
    case KO_rint: snprintf(name, sizeof name, "%s%s", kop_info[e->op].name, f); break;
    default: BUG("'%s' of floats is not defined", kop_info[e->op].name);
    }
    if (sign)
        print_infix(g, b, sign, e);
    else
        print_call(g, b, name, e);
    strbuf_add(b, close);
}

/* May e be computed in its own signed type: it is an index, or its range shows that it fits. */
static bool is_plain(CGen *g, const KExpr *e) {
    if (e->dtype != DT_I64) return false;
    return !note_of(g, e)->as_value || (e->lo != INT64_MIN && e->hi != INT64_MAX);
}

/* (T)((unsigned)a + (unsigned)b) */
static void print_wrapped(CGen *g, StrBuf *b, const char *sign, const KExpr *e) {
    const char *wrap = dtype_info[e->dtype].bits > 32 ? "uint64_t" : "uint32_t";
    bool is_own = e->dtype == DT_U32 || e->dtype == DT_U64;
    if (!is_own) strbuf_printf(b, "(%s)(", c_value_type(e->dtype));
    for (int i = 0; i < e->n_args; i++) {
        strbuf_add(b, i ? " " : "");
        if (i || e->n_args == 1) strbuf_printf(b, i ? "%s " : "%s", sign);
        if (!is_own) strbuf_printf(b, "(%s)", wrap);
        print_operand(g, b, e->arg[i]);
    }
    if (!is_own) strbuf_add(b, ")");
}

static void print_shift(CGen *g, StrBuf *b, const KExpr *e) {
    int64_t by;
    bool left = e->op == KO_shl;
    if (!k_is_int(e->arg[1], &by) || by < 0 || by >= dtype_info[e->dtype].bits) {
        print_call(g, b, c_helper(g, left ? "shl" : "shr", e->dtype), e);
        return;
    }
    const char *wrap = dtype_info[e->dtype].bits > 32 ? "uint64_t" : "uint32_t";
    if (left) strbuf_printf(b, "(%s)((%s)", c_value_type(e->dtype), wrap);
    print_operand(g, b, e->arg[0]);
    strbuf_printf(b, " %s %lld%s", left ? "<<" : ">>", (long long)by, left ? ")" : "");
}

static bool is_known_division(const KExpr *e) {
    return e->arg[0]->lo >= 0 && e->arg[1]->op == KO_const_i && e->arg[1]->u.i > 0 &&
           e->dtype == DT_I64;
}

static void print_int_op(CGen *g, StrBuf *b, const KExpr *e) {
    DType t = e->dtype;
    bool is_bool = t == DT_BOOL;
    switch ((int)e->op) {
    case KO_add: is_plain(g, e) ? print_infix(g, b, "+", e) : print_wrapped(g, b, "+", e); break;
    case KO_sub: is_plain(g, e) ? print_infix(g, b, "-", e) : print_wrapped(g, b, "-", e); break;
    case KO_mul: is_plain(g, e) ? print_infix(g, b, "*", e) : print_wrapped(g, b, "*", e); break;
    case KO_neg:
        strbuf_printf(b, "(%s)(0u - (%s)", c_value_type(t),
                      dtype_info[t].bits > 32 ? "uint64_t" : "uint32_t");
        print_operand(g, b, e->arg[0]);
        strbuf_add(b, ")");
        break;
    case KO_div:
    case KO_fdiv:
        if (is_known_division(e))
            print_infix(g, b, "/", e);
        else
            print_call(g, b, c_helper(g, kop_info[e->op].name, t), e);
        break;
    case KO_rem:
    case KO_fmod:
        if (is_known_division(e))
            print_infix(g, b, "%", e);
        else
            print_call(g, b, c_helper(g, kop_info[e->op].name, t), e);
        break;
    case KO_abs:
        if (dtype_info[t].kind == DK_SINT)
            print_call(g, b, c_helper(g, "abs", t), e);
        else
            print_operand(g, b, e->arg[0]);
        break;
    case KO_min:
    case KO_max: print_call(g, b, c_helper(g, kop_info[e->op].name, t), e); break;
    case KO_and: print_infix(g, b, "&", e); break;
    case KO_or: print_infix(g, b, "|", e); break;
    case KO_xor: print_infix(g, b, "^", e); break;
    case KO_not:
        if (!is_bool) strbuf_printf(b, "(%s)", c_value_type(t));
        strbuf_add(b, is_bool ? "!" : "~");
        print_operand(g, b, e->arg[0]);
        break;
    case KO_shl:
    case KO_shr: print_shift(g, b, e); break;
    case KO_dot4_us:
    case KO_dot4_ss:
    case KO_dot2_ss:
    case KO_root16: print_call(g, b, c_helper(g, kop_info[e->op].name, t), e); break;
    default: BUG("'%s' of integers is not defined", kop_info[e->op].name);
    }
}

static void print_load(CGen *g, StrBuf *b, const KExpr *e) {
    bool halves = is_half(e->dtype), predicated = e->n_args == 2;
    if (predicated) {
        strbuf_add(b, "(");
        print_operand(g, b, e->arg[1]);
        strbuf_add(b, " ? ");
    }
    if (halves)
        strbuf_printf(b, "%s(",
                      c_helper(g, e->dtype == DT_F16 ? "f16_value" : "bf16_value", e->dtype));
    if (e->dtype == DT_BOOL) strbuf_add(b, "(");
    if (k_is_word(e))
        strbuf_printf(b, "%s(&",
                      c_helper(g, word_parts(e->u.buf->dtype) == 2 ? "pair" : "word", DT_I32));
    strbuf_printf(b, "%s[", c_name_buf(g, e->u.buf));
    c_print(g, b, e->arg[0]);
    strbuf_add(b, e->dtype == DT_BOOL ? "] != 0)" : k_is_word(e) ? "])" : "]");
    if (halves) strbuf_add(b, ")");
    if (predicated && e->dtype == DT_STR)
        strbuf_printf(b, " : %s)", c_helper(g, "no_string", DT_STR));
    else if (predicated)
        strbuf_add(b, e->dtype == DT_F64         ? " : 0.0)"
                      : dtype_is_float(e->dtype) ? " : 0.0f)"
                                                 : " : 0)");
}

/* ---- conversions ----------------------------------------------------------------------------- */

/* To f16 or bf16: the argument is rounded to odd where float would round it first. */
static void print_to_half(CGen *g, StrBuf *b, DType to, const KExpr *a) {
    DType from = a->dtype;
    bool wide = dtype_is_int(from) && dtype_info[from].bits == 64;
    bool odd = from == DT_F64 || (dtype_is_int(from) && dtype_info[from].bits >= 32);
    const char *close = is_half(from) && from == to ? "" : open_rounding(g, b, to);
    if (odd) strbuf_printf(b, "%s(", c_helper(g, "f32_odd", DT_F32));
    if (wide)
        strbuf_printf(b, "%s(",
                      c_helper(g, dtype_is_signed(from) ? "f64_odd_i64" : "f64_odd_u64", DT_F64));
    else if (!dtype_is_float(from))
        strbuf_add(b, odd ? "(double)" : "(float)");
    if (wide)
        c_print(g, b, a);
    else
        print_operand(g, b, a);
    strbuf_printf(b, "%s%s%s", wide ? ")" : "", odd ? ")" : "", close);
}

static void print_cast(CGen *g, StrBuf *b, const KExpr *e) {
    DType to = e->dtype, from = e->arg[0]->dtype;
    if (is_half(to)) {
        print_to_half(g, b, to, e->arg[0]);
    } else if (to == DT_BOOL) {
        print_operand(g, b, e->arg[0]);
        strbuf_add(b, from == DT_F64 ? " != 0.0" : dtype_is_float(from) ? " != 0.0f" : " != 0");
    } else if (dtype_is_float(from) && !dtype_is_float(to)) {
        print_call(g, b, c_helper(g, from == DT_F64 ? "of_f64" : "of_f32", to), e);
    } else {
        if (!(is_half(from) && to == DT_F32)) strbuf_printf(b, "(%s)", c_value_type(to));
        print_operand(g, b, e->arg[0]);
    }
}

static void print_bitcast(CGen *g, StrBuf *b, const KExpr *e) {
    DType to = e->dtype, from = e->arg[0]->dtype;
    int n = 0;
    /* outermost first: what makes the value of dtype `to` out of unsigned bits */
    if (to == DT_F32 || to == DT_F64)
        strbuf_printf(b, "%s(", c_helper(g, to == DT_F32 ? "f32_from_bits" : "f64_from_bits", to)),
            n++;
    else if (is_half(to))
        strbuf_printf(b, "%s(", c_helper(g, to == DT_F16 ? "f16_value" : "bf16_value", to)), n++;
    else
        strbuf_printf(b, "(%s)", c_value_type(to));
    if (from == DT_F32 || from == DT_F64)
        strbuf_printf(b, "%s(", c_helper(g, from == DT_F32 ? "f32_bits" : "f64_bits", from)), n++;
    else if (is_half(from))
        strbuf_printf(b, "%s(", c_helper(g, from == DT_F16 ? "f16_store" : "bf16_store", from)),
            n++;
    else if (n)
        strbuf_printf(b, "(uint%d_t)", dtype_info[from].bits);
    print_operand(g, b, e->arg[0]);
    while (n--) strbuf_add(b, ")");
}

/* ---- all of it ------------------------------------------------------------------------------- */

static void print_compare(CGen *g, StrBuf *b, const char *sign, const KExpr *e) {
    print_infix(g, b, sign, e);
}

void c_print(CGen *g, StrBuf *b, const KExpr *e) {
    if (!is_leaf(e) && note_of(g, e)->local) {
        strbuf_add(b, note_of(g, e)->local);
        return;
    }
    switch (e->op) {
    case KO_const_i:
        if (e->dtype == DT_STR)
            strbuf_printf(b, "%s", c_helper(g, "no_string", DT_STR));
        else
            c_print_int(b, e->dtype, e->u.i);
        return;
    case KO_const_f: c_print_float(b, e->dtype, e->u.f, false); return;
    case KO_var:
        if (e->u.var->computed && g->in_entry)
            strbuf_printf(b, "sizes[%u]", e->u.var->slot);
        else
            strbuf_add(b, c_name_var(g, e->u.var));
        return;
    case KO_load: print_load(g, b, e); return;
    case KO_eq: print_compare(g, b, "==", e); return;
    case KO_ne: print_compare(g, b, "!=", e); return;
    case KO_lt: print_compare(g, b, "<", e); return;
    case KO_le: print_compare(g, b, "<=", e); return;
    case KO_select:
        print_operand(g, b, e->arg[0]);
        strbuf_add(b, " ? ");
        print_typed(g, b, e->arg[1]);
        strbuf_add(b, " : ");
        print_typed(g, b, e->arg[2]);
        return;
    case KO_cast: print_cast(g, b, e); return;
    case KO_bitcast: print_bitcast(g, b, e); return;
    case KO_str_len:
        strbuf_add(b, "(int64_t)");
        print_operand(g, b, e->arg[0]);
        strbuf_add(b, ".n_bytes");
        return;
    case KO_str_byte: print_call(g, b, c_helper(g, "string_byte", DT_STR), e); return;
    case KO_str_sub: print_call(g, b, c_helper(g, "string_sub", DT_STR), e); return;
    case KO_str_of:
        strbuf_printf(b, "%s(&%s[", c_helper(g, "string_of", DT_STR),
                      c_name_buf(g, e->arg[0]->u.buf));
        c_print(g, b, e->arg[0]->arg[0]);
        strbuf_add(b, "], ");
        c_print(g, b, e->arg[1]);
        strbuf_add(b, ")");
        return;
    case KO_at:
    case KO_NONE:
    case KO_COUNT: BUG("'%s' reached the C renderer", kop_info[e->op].name);
    default: break;
    }
    KClass class = kop_info[e->op].class;
    BUG_IF(class == KC_MATH || class == KC_PAIR, "'%s' was not expanded", kop_info[e->op].name);
    if (dtype_is_float(e->dtype))
        print_float_op(g, b, e);
    else
        print_int_op(g, b, e);
}

void c_print_stored(CGen *g, StrBuf *b, const KExpr *value) {
    DType t = value->dtype;
    const char *close = "";
    if (is_half(t)) {
        strbuf_printf(b, "%s(", c_helper(g, t == DT_F16 ? "f16_store" : "bf16_store", t));
        close = ")";
    } else if (t == DT_BOOL) {
        strbuf_add(b, "(uint8_t)(");
        close = ")";
    }
    c_print(g, b, value);
    strbuf_add(b, close);
}
