/* Expressions of IR text, by operator strength. Literals bring their dtype, loads their buffer's;
 * operands must agree, so every expression's dtype is known from its text.
 *
 * At the kernel level expressions are taken exactly as written (k_exact), with the two spellings of
 * i64 sums undone: a - b*4 is a + b*(-4) there, and -a is a*(-1). At the graph level they go
 * through the simplifying constructors, for dims are compared by identity. */
#include <math.h>
#include <string.h>

#include "ir/parse_text.h"
#include "ir/print_text.h"
#include "ir/support/map.h"

static const KExpr *nothing(Parse *p) {
    return k_int(p->k, 0);
}

static const KExpr *wrong(Parse *p, const char *what, DType a, DType b) {
    parse_fail(p, "%s of %s and %s", what, dtype_info[a].name, dtype_info[b].name);
    return nothing(p);
}

/* ---- making nodes ---------------------------------------------------------------------------- */

static const KExpr *exact2(Parse *p, KOp op, const KExpr *a, const KExpr *b) {
    const KExpr *arg[2] = {a, b};
    return k_exact(p->k, op, kop_info[op].class == KC_CMP ? DT_BOOL : a->dtype, arg, 2);
}

/* e * -1, with the sign taken into a constant factor. */
static const KExpr *negated(Parse *p, const KExpr *e) {
    int64_t c;
    if (k_is_int(e, &c) && c != INT64_MIN) return k_int(p->k, -c);
    if (e->op == KO_mul && k_is_int(e->arg[1], &c) && c != INT64_MIN)
        return exact2(p, KO_mul, e->arg[0], k_int(p->k, -c));
    return exact2(p, KO_mul, e, k_int(p->k, -1));
}

static const KExpr *make_binary(Parse *p, KOp op, const KExpr *a, const KExpr *b) {
    if (p->failed) return nothing(p);
    if (a->dtype != b->dtype || a->dtype == DT_STR)
        return wrong(p, kop_info[op].name, a->dtype, b->dtype);
    if (!p->exact) return k_binary(p->k, op, a, b);
    if (op == KO_sub && a->dtype == DT_I64) return exact2(p, KO_add, a, negated(p, b));
    return exact2(p, op, a, b);
}

static const KExpr *make_unary(Parse *p, KOp op, const KExpr *a) {
    if (p->failed || !p->exact) return p->failed ? nothing(p) : k_unary(p->k, op, a);
    return k_exact(p->k, op, a->dtype, &a, 1);
}

static const KExpr *make_select(Parse *p, const KExpr *c, const KExpr *a, const KExpr *b) {
    const KExpr *arg[3] = {c, a, b};
    if (p->failed) return nothing(p);
    if (c->dtype != DT_BOOL || a->dtype != b->dtype) return wrong(p, "?:", a->dtype, b->dtype);
    return p->exact ? k_exact(p->k, KO_select, a->dtype, arg, 3) : k_select(p->k, c, a, b);
}

/* ---- literals and names ---------------------------------------------------------------------- */

static const KExpr *number(Parse *p, bool negative) {
    size_t n;
    const char *text = p->tok.text;
    DType t = parse_suffix(text, &n);
    int64_t v = 0;
    if (text[n] && t == DT_NONE) parse_fail(p, "'%s' is no number", text);
    if (parse_is_float(text)) {
        double f = parse_double(t, text, n);
        parse_next(p);
        return k_const_f(p->k, t ? t : DT_F32, negative ? -f : f);
    }
    if (!parse_uint(p, text, n, negative, &v)) return nothing(p);
    if (t == DT_NONE && v < 0 && !negative) parse_fail(p, "'%s' is too large", text);
    parse_next(p);
    if (t == DT_BOOL || (dtype_is_wide(t) && v))
        parse_fail(p, "no number is a %s", dtype_info[t].name);
    return k_const_i(p->k, t ? t : DT_I64, v);
}

/* inf, nan.f64 */
static const KExpr *special(Parse *p, bool negative) {
    double v = parse_is(p, "inf") ? INFINITY : NAN;
    DType t = DT_F32;
    parse_next(p);
    if (!p->tok.starts_line && parse_accept(p, ".")) t = parse_dtype(p);
    if (!dtype_is_float(t)) parse_fail(p, "%s has no such value", dtype_info[t].name);
    return k_const_f(p->k, p->failed ? DT_F32 : t, negative ? -v : v);
}

static const KExpr *load(Parse *p, KBuf *b) {
    const KExpr *index = parse_typed(p, DT_I64), *pred = NULL;
    if (parse_accept(p, "if")) pred = parse_typed(p, DT_BOOL);
    parse_expect(p, "]");
    if (p->failed) return nothing(p);
    return pred ? k_load_if(p->k, b, index, pred) : k_load(p->k, b, index);
}

/* ---- calls ----------------------------------------------------------------------------------- */

static KOp op_named(const char *name) {
    for (int op = 1; op < KO_COUNT; op++)
        if (!strcmp(kop_info[op].name, name)) return (KOp)op;
    return KO_NONE;
}

/* bitcast(f32, x), behind the parenthesis. */
static const KExpr *bitcast(Parse *p) {
    DType t = parse_dtype(p);
    parse_expect(p, ",");
    const KExpr *a = parse_expr(p);
    parse_expect(p, ")");
    if (p->failed) return nothing(p);
    if (dtype_bytes(t) != dtype_bytes(a->dtype)) return wrong(p, "bitcast", t, a->dtype);
    return p->exact ? k_exact(p->k, KO_bitcast, t, &a, 1) : k_bitcast(p->k, t, a);
}

static const KExpr *cast(Parse *p, DType t) {
    const KExpr *a = parse_expr(p);
    parse_expect(p, ")");
    if (p->failed) return nothing(p);
    bool is_number = t != DT_STR && a->dtype != DT_STR;
    if (!is_number || dtype_is_complex(t) || dtype_is_complex(a->dtype))
        return wrong(p, "cast", t, a->dtype);
    return p->exact ? k_exact(p->k, KO_cast, t, &a, 1) : k_cast(p->k, t, a);
}

/* word(b[i]), behind the parenthesis: several neighbours in place of one element. */
static const KExpr *word(Parse *p) {
    const KExpr *e = parse_expr(p);
    parse_expect(p, ")");
    if (p->failed) return nothing(p);
    if (e->op != KO_load || !word_parts(e->dtype)) {
        parse_fail(p, "word needs an integer of 8 or 16 bits in memory");
        return nothing(p);
    }
    return k_load_word(p->k, e->u.buf, e->arg[0], e->n_args == 2 ? e->arg[1] : NULL);
}

/* str_sub(s, 1, n), behind the parenthesis. */
static const KExpr *text_call(Parse *p, KOp op) {
    const KExpr *arg[3];
    DType first = op == KO_str_of ? DT_U8 : DT_STR;
    for (int i = 0; i < kop_info[op].n_args; i++) {
        if (i) parse_expect(p, ",");
        arg[i] = parse_typed(p, i ? DT_I64 : first);
    }
    parse_expect(p, ")");
    if (!p->failed && op == KO_str_of && arg[0]->op != KO_load)
        parse_fail(p, "str_of needs the place of its first byte");
    if (p->failed) return nothing(p);
    DType t = op == KO_str_len ? DT_I64 : op == KO_str_byte ? DT_U8 : DT_STR;
    return k_exact(p->k, op, t, arg, kop_info[op].n_args);
}

/* re(x), complex(x, y), behind the parenthesis. */
static const KExpr *pair_call(Parse *p, KOp op) {
    const KExpr *arg[2] = {parse_expr(p), NULL};
    DType t = p->failed ? DT_NONE : arg[0]->dtype;
    if (op == KO_complex) {
        parse_expect(p, ",");
        arg[1] = parse_typed(p, t);
    }
    parse_expect(p, ")");
    if (p->failed) return nothing(p);
    bool fits = op == KO_complex ? t == DT_F32 || t == DT_F64 : dtype_is_complex(t);
    if (!fits) return wrong(p, kop_info[op].name, t, t);
    if (op == KO_complex) t = t == DT_F64 ? DT_C128 : DT_C64;
    else t = dtype_part(t);
    return k_exact(p->k, op, t, arg, kop_info[op].n_args);
}

/* name(a, b), behind the parenthesis; the operator's row says how many. */
static const KExpr *call(Parse *p, const char *name) {
    KOp op = op_named(name);
    DType t = dtype_from_name(name);
    const KExpr *arg[3];
    if (op == KO_bitcast) return bitcast(p);
    if (!strcmp(name, "word")) return word(p);
    if (t != DT_NONE) return cast(p, t);
    const KOpInfo *o = &kop_info[op];
    if (o->class == KC_TEXT) return text_call(p, op);
    if (o->class == KC_PAIR) return pair_call(p, op);
    bool is_plain = o->class == KC_ARITH || o->class == KC_CMP || o->class == KC_MATH;
    if (!is_plain || op == KO_select || o->n_args < 1 || o->n_args > 3) {
        parse_fail(p, "no operation is called '%s'", name);
        return nothing(p);
    }
    for (int i = 0; i < o->n_args; i++) {
        if (i) parse_expect(p, ",");
        arg[i] = parse_expr(p);
        DType want = !kop_is_dot(op) ? arg[0]->dtype : i ? DT_I32 : kop_dot_sum(op);
        if (!p->failed && arg[i]->dtype != want) return wrong(p, name, want, arg[i]->dtype);
    }
    parse_expect(p, ")");
    if (p->failed) return nothing(p);
    if (p->exact)
        return k_exact(p->k, op, o->class == KC_CMP ? DT_BOOL : arg[0]->dtype, arg, o->n_args);
    if (o->n_args == 1) return k_unary(p->k, op, arg[0]);
    return o->n_args == 2 ? k_binary(p->k, op, arg[0], arg[1])
                          : k_ternary(p->k, op, arg[0], arg[1], arg[2]);
}

static const KExpr *named(Parse *p) {
    if (parse_is(p, "inf") || parse_is(p, "nan")) return special(p, false);
    if (parse_is(p, "true") || parse_is(p, "false")) {
        bool v = parse_is(p, "true");
        parse_next(p);
        return k_bool(p->k, v);
    }
    const char *name = p->tok.text;
    KVar *v = strmap_get(p->vars, name);
    KBuf *b = strmap_get(p->bufs, name);
    Token at = p->tok;
    parse_next(p);
    if (!p->tok.starts_line && parse_accept(p, "(")) return call(p, name);
    if (b && !p->tok.starts_line && parse_accept(p, "[")) return load(p, b);
    if (v) return k_var(p->k, v);
    p->tok.line = at.line;
    p->tok.column = at.column;
    parse_fail(p, b ? "buffer '%s' needs an index" : "unknown name '%s'", name);
    return nothing(p);
}

/* ---- precedence ------------------------------------------------------------------------------ */

static const KExpr *unary(Parse *p);

static const KExpr *primary(Parse *p) {
    if (p->tok.kind == T_NUMBER) return number(p, false);
    if (p->tok.kind == T_WORD) return named(p);
    if (p->tok.kind == T_LINE) {
        uint64_t n = p->tok.number;
        if (n < 1 || n > p->lines.n) {
            parse_fail(p, "there is no line $%u here", (unsigned)n);
            return nothing(p);
        }
        parse_next(p);
        return p->lines.at[n - 1];
    }
    if (parse_accept(p, "(")) {
        const KExpr *e = parse_expr(p);
        parse_expect(p, ")");
        return e;
    }
    parse_fail(p, "expected an expression, found %s",
               p->tok.kind == T_END ? "the end" : p->tok.text);
    return nothing(p);
}

static const KExpr *unary(Parse *p) {
    if (p->nesting >= PARSE_NEST) {
        parse_fail(p, "expression nests too deeply");
        return nothing(p);
    }
    const KExpr *e;
    p->nesting++;
    if (parse_accept(p, "-")) {
        if (p->tok.kind == T_NUMBER)
            e = number(p, true);
        else if (parse_is(p, "inf"))
            e = special(p, true);
        else {
            e = unary(p);
            if (!p->failed && e->dtype == DT_I64 && p->exact)
                e = negated(p, e);
            else
                e = make_unary(p, KO_neg, e);
        }
    } else if (parse_accept(p, "!")) {
        e = make_unary(p, KO_not, unary(p));
    } else {
        e = primary(p);
    }
    p->nesting--;
    return e;
}

/* The infix operator at this token; KO_NONE when there is none on this line. */
static KOp infix_here(const Parse *p, int *strength) {
    if (p->tok.kind != T_SIGN || p->tok.starts_line) return KO_NONE;
    for (int op = 1; op < KO_COUNT; op++) {
        const char *sign = kop_infix((KOp)op, strength);
        if (!sign) continue;
        while (*sign == ' ') sign++;
        size_t n = strcspn(sign, " ");
        if (strlen(p->tok.text) == n && !memcmp(p->tok.text, sign, n)) return (KOp)op;
    }
    return KO_NONE;
}

static const KExpr *binary(Parse *p, int least) {
    const KExpr *left = unary(p);
    int strength;
    KOp op;
    while (!p->failed && (op = infix_here(p, &strength)) != KO_NONE && strength >= least) {
        parse_next(p);
        left = make_binary(p, op, left, binary(p, strength + 1));
    }
    return left;
}

const KExpr *parse_expr(Parse *p) {
    if (p->nesting >= PARSE_NEST) {
        parse_fail(p, "expression nests too deeply");
        return nothing(p);
    }
    p->nesting++;
    const KExpr *e = binary(p, STRENGTH_OR);
    if (!p->failed && !p->tok.starts_line && parse_accept(p, "?")) {
        const KExpr *a = binary(p, STRENGTH_OR);
        parse_expect(p, ":");
        e = make_select(p, e, a, parse_expr(p));
    }
    p->nesting--;
    return e;
}

const KExpr *parse_typed(Parse *p, DType t) {
    const KExpr *e = parse_expr(p);
    if (!p->failed && e->dtype != t)
        parse_fail(p, "expected %s, found %s", dtype_info[t].name, dtype_info[e->dtype].name);
    return p->failed ? (dtype_is_float(t) ? k_const_f(p->k, t, 0) : k_const_i(p->k, t, 0)) : e;
}

void parse_lines(Parse *p) {
    p->lines.n = 0;
    while (p->tok.kind == T_LINE) {
        if (p->tok.number != p->lines.n + 1) {
            parse_fail(p, "expected line $%u", p->lines.n + 1);
            return;
        }
        parse_next(p);
        parse_expect(p, "=");
        const KExpr *e = parse_expr(p);
        vec_push(p->a, &p->lines, e);
    }
}

int parse_dims(Parse *p, const KExpr **dims, int cap) {
    int n = 0;
    parse_expect(p, "[");
    while (!p->failed && !parse_is(p, "]")) {
        if (n && !parse_expect(p, ",")) break;
        if (n == cap) {
            parse_fail(p, "more than %d dims", cap);
            break;
        }
        dims[n] = parse_typed(p, DT_I64);
        if (!p->failed && dims[n]->hi < 0) parse_fail(p, "a dim is negative");
        n++;
    }
    parse_expect(p, "]");
    return p->failed ? 0 : n;
}
