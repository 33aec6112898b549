/* Expressions as text: infix, with as few parentheses as the strengths of the operators allow.
 *
 *     $1 = i*64 + j                    what a statement uses twice gets a line in front of it
 *     y[$1] = max(x[$1], 0.0)
 *
 * Literals show their dtype unless it is i64 (3) or f32 (3.0): 3i32, 3.0f64, inf.f64, true. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "ir/define.h"
#include "ir/print.h"
#include "ir/print_text.h"

/* How often one statement uses an expression, and its text's size and depth with the `$` lines. */
typedef struct Use {
    uint32_t n_uses, size, depth, number;
} Use;

const char *kop_infix(KOp op, int *strength) {
    switch ((int)op) {
    case KO_or: *strength = STRENGTH_OR; return " | ";
    case KO_xor: *strength = STRENGTH_XOR; return " ^ ";
    case KO_and: *strength = STRENGTH_AND; return " & ";
    case KO_eq: *strength = STRENGTH_CMP; return " == ";
    case KO_ne: *strength = STRENGTH_CMP; return " != ";
    case KO_lt: *strength = STRENGTH_CMP; return " < ";
    case KO_le: *strength = STRENGTH_CMP; return " <= ";
    case KO_shl: *strength = STRENGTH_SHIFT; return " << ";
    case KO_shr: *strength = STRENGTH_SHIFT; return " >> ";
    case KO_add: *strength = STRENGTH_ADD; return " + ";
    case KO_sub: *strength = STRENGTH_ADD; return " - ";
    case KO_mul: *strength = STRENGTH_MUL; return "*";
    case KO_div: *strength = STRENGTH_DIV; return " / ";
    case KO_fdiv: *strength = STRENGTH_DIV; return " // ";
    case KO_fmod: *strength = STRENGTH_DIV; return " % ";
    default: return NULL;
    }
}

/* ---- sharing --------------------------------------------------------------------------------- */

static void count_uses(Text *t, const KExpr *e) {
    Use *u = textmap_get(&t->uses, e);
    if (u) {
        u->n_uses++;
        return;
    }
    u = arena_new(t->a, Use);
    u->n_uses = 1;
    textmap_put(&t->uses, e, u);
    for (int i = 0; i < e->n_args; i++) count_uses(t, e->arg[i]);
}

static void expr_at(Text *t, const KExpr *e, int strength);

/* Operands first, so that each line uses only the lines above it. */
static void share_below(Text *t, const KExpr *e) {
    Use *u = textmap_get(&t->uses, e);
    if (u->size) return;
    uint32_t size = 1, depth = 1;
    for (int i = 0; i < e->n_args; i++) {
        share_below(t, e->arg[i]);
        const Use *arg = textmap_get(&t->uses, e->arg[i]);
        size += arg->size;
        /* a sorted sum or product is one level, however many terms it has */
        uint32_t step =
            !(t->dims && i == 0 && e->arg[0]->op == e->op && (e->op == KO_add || e->op == KO_mul));
        if (arg->depth + step > depth) depth = arg->depth + step;
    }
    u->size = size;
    u->depth = depth;
    if ((u->n_uses < 2 || size <= TEXT_SHARED_SIZE) && depth <= TEXT_NEST) return;
    text_line(t);
    strbuf_printf(t->out, "$%u = ", t->n_shared + 1);
    expr_at(t, e, STRENGTH_SELECT);
    text_newline(t);
    u->number = ++t->n_shared;
    u->size = u->depth = 1;
}

void text_share(Text *t, const KExpr *const *roots, int n) {
    textmap_clear(&t->uses);
    t->n_shared = 0;
    for (int i = 0; i < n; i++)
        if (roots[i]) count_uses(t, roots[i]);
    for (int i = 0; i < n; i++)
        if (roots[i]) share_below(t, roots[i]);
}

/* ---- literals -------------------------------------------------------------------------------- */

static void int_literal(Text *t, const KExpr *e) {
    if (e->dtype == DT_BOOL) {
        strbuf_add(t->out, e->u.i ? "true" : "false");
        return;
    }
    if (e->dtype == DT_U64)
        strbuf_printf(t->out, "%" PRIu64, (uint64_t)e->u.i);
    else
        strbuf_printf(t->out, "%" PRId64, e->u.i);
    if (e->dtype != DT_I64) strbuf_add(t->out, dtype_info[e->dtype].name);
}

static void float_literal(Text *t, const KExpr *e) {
    text_float(t->out, e->dtype, e->u.f);
    if (e->dtype == DT_F32) return;
    bool is_finite = e->u.f - e->u.f == 0;
    strbuf_printf(t->out, "%s%s", is_finite ? "" : ".", dtype_info[e->dtype].name);
}

/* ---- sums of the graph level ----------------------------------------------------------------- */

enum { MAX_CHAIN = 72 };

static int compare_exprs(const KExpr *a, const KExpr *b);

static void sort_operands(const KExpr **operand, int n) {
    for (int i = 1; i < n; i++)
        for (int j = i; j > 0 && compare_exprs(operand[j], operand[j - 1]) < 0; j--) {
            const KExpr *swap = operand[j];
            operand[j] = operand[j - 1];
            operand[j - 1] = swap;
        }
}

/* The operands by which e is compared: of what may be exchanged in structural order, sums and
 * products with all of their terms. */
static const KExpr *const *compared_operands(const KExpr *e, const KExpr **list, int *n) {
    const KExpr *first = e;
    *n = 0;
    if (e->op == KO_add || e->op == KO_mul) {
        for (; first->op == e->op && *n < MAX_CHAIN - 1; first = first->arg[0])
            list[(*n)++] = first->arg[1];
        list[(*n)++] = first;
    } else if (e->op == KO_min || e->op == KO_max || e->op == KO_and || e->op == KO_or ||
               e->op == KO_eq || e->op == KO_ne) {
        list[(*n)++] = e->arg[0];
        list[(*n)++] = e->arg[1];
    } else {
        *n = e->n_args;
        return e->arg;
    }
    sort_operands(list, *n);
    return list;
}

/* Structural order, the same in every module: expressions of dims have no other lasting order. */
static int compare_exprs(const KExpr *a, const KExpr *b) {
    if (a == b) return 0;
    bool a_const = a->op == KO_const_i, b_const = b->op == KO_const_i;
    if (a_const != b_const) return a_const ? 1 : -1;
    if (a->op != b->op) return a->op < b->op ? -1 : 1;
    if (a_const) return a->u.i < b->u.i ? -1 : 1;
    if (a->op == KO_var) {
        const KVar *x = a->u.var, *y = b->u.var;
        if (x->computed != y->computed) return x->computed ? 1 : -1;
        return x->slot < y->slot ? -1 : x->slot > y->slot;
    }
    const KExpr *of_a[MAX_CHAIN], *of_b[MAX_CHAIN];
    int n_a, n_b;
    const KExpr *const *x = compared_operands(a, of_a, &n_a);
    const KExpr *const *y = compared_operands(b, of_b, &n_b);
    if (n_a != n_b) return n_a < n_b ? -1 : 1;
    for (int i = 0; i < n_a; i++) {
        int c = compare_exprs(x[i], y[i]);
        if (c) return c;
    }
    return 0;
}

static bool is_lined(const Text *t, const KExpr *e) {
    const Use *u = textmap_get(&t->uses, e);
    return u && u->number;
}

/* Operands of a left-leaning chain of one operator, in structural order; 0 when it is too long. */
static int sorted_chain(const Text *t, const KExpr *e, const KExpr **operand) {
    KOp op = e->op;
    int n = 0;
    for (; e->op == op && (n == 0 || !is_lined(t, e)); e = e->arg[0]) {
        if (n >= MAX_CHAIN - 1) return 0;
        operand[n++] = e->arg[1];
    }
    operand[n++] = e;
    sort_operands(operand, n);
    return n;
}

/* ---- operators ------------------------------------------------------------------------------- */

/* The second operand of a sum; of i64 sums a negative constant factor becomes a minus sign. */
static void add_term(Text *t, const KExpr *e) {
    int64_t c;
    bool factor = e->op == KO_mul && k_is_int(e->arg[1], &c) && !is_lined(t, e);
    if (e->dtype == DT_I64 && (factor || k_is_int(e, &c)) && c < 0 && c != INT64_MIN) {
        strbuf_add(t->out, " - ");
        if (factor && c == -1) {
            expr_at(t, e->arg[0], STRENGTH_DIV);
        } else {
            if (factor) expr_at(t, e->arg[0], STRENGTH_MUL);
            strbuf_printf(t->out, "%s%" PRId64, factor ? "*" : "", -c);
        }
        return;
    }
    strbuf_add(t->out, " + ");
    expr_at(t, e, STRENGTH_DIV);
}

static void infix(Text *t, const KExpr *e, const char *sign, int strength) {
    const KExpr *operand[MAX_CHAIN] = {e->arg[0], e->arg[1]};
    int n = 2;
    if (t->dims && (e->op == KO_add || e->op == KO_mul)) {
        n = sorted_chain(t, e, operand);
        if (!n) {
            n = 2;
            operand[0] = e->arg[0];
            operand[1] = e->arg[1];
        }
    }
    expr_at(t, operand[0], strength);
    for (int i = 1; i < n; i++) {
        if (e->op == KO_add) {
            add_term(t, operand[i]);
            continue;
        }
        strbuf_add(t->out, sign);
        expr_at(t, operand[i], strength + 1);
    }
}

static void call(Text *t, const KExpr *e, const char *name) {
    strbuf_printf(t->out, "%s(", name);
    bool swap =
        t->dims && (e->op == KO_min || e->op == KO_max) && compare_exprs(e->arg[1], e->arg[0]) < 0;
    const KExpr *turned[2] = {e->arg[e->n_args > 1], e->arg[0]};
    text_exprs(t, swap ? turned : e->arg, e->n_args);
    strbuf_add(t->out, ")");
}

static void element_read(Text *t, const KExpr *e) {
    const KTensor *tensor = e->u.tensor;
    int n_index = e->op == KO_at ? tensor->rank : 1;
    if (k_is_word(e)) strbuf_add(t->out, "word(");
    if (e->op == KO_at) {
        strbuf_add(t->out, text_name(t, tensor, tensor->name));
    } else {
        const KBuf *b = e->u.buf;
        strbuf_add(t->out, text_name(t, b, b->name));
        if (t->definitions && b->mem != MEM_REG && b->mem != MEM_STACK) strbuf_add(t->out, ".flat");
    }
    strbuf_add(t->out, "[");
    text_exprs(t, e->arg, n_index);
    if (e->n_args > n_index) {
        strbuf_add(t->out, " if ");
        text_expr(t, e->arg[n_index]);
    }
    strbuf_add(t->out, k_is_word(e) ? "])" : "]");
}

static int strength_of(const Text *t, const KExpr *e) {
    int strength;
    if (is_lined(t, e)) return STRENGTH_POST;
    if (e->op == KO_select) return STRENGTH_SELECT;
    if (e->op == KO_not || (e->op == KO_neg && e->dtype != DT_I64)) return STRENGTH_UNARY;
    if (e->op == KO_sub && e->dtype == DT_I64) return STRENGTH_POST;
    return kop_infix(e->op, &strength) ? strength : STRENGTH_POST;
}

static void select_text(Text *t, const KExpr *e) {
    expr_at(t, e->arg[0], STRENGTH_OR);
    strbuf_add(t->out, " ? ");
    expr_at(t, e->arg[1], STRENGTH_OR);
    strbuf_add(t->out, " : ");
    expr_at(t, e->arg[2], STRENGTH_SELECT);
}

static void prefix(Text *t, const KExpr *e, const char *sign) {
    if (e->arg[0]->n_args == 0 && e->arg[0]->op != KO_var) { /* -(3.0) is no literal */
        call(t, e, kop_info[e->op].name);
        return;
    }
    strbuf_add(t->out, sign);
    expr_at(t, e->arg[0], STRENGTH_UNARY);
}

static void expr_open_text(Text *t, const KExpr *e) {
    int strength;
    const char *sign = kop_infix(e->op, &strength);
    switch ((int)e->op) {
    case KO_const_i: int_literal(t, e); return;
    case KO_const_f: float_literal(t, e); return;
    case KO_var: strbuf_add(t->out, text_name(t, e->u.var, e->u.var->name)); return;
    case KO_at:
    case KO_load: element_read(t, e); return;
    case KO_select: select_text(t, e); return;
    case KO_cast: call(t, e, dtype_info[e->dtype].name); return;
    case KO_bitcast:
        strbuf_printf(t->out, "bitcast(%s, ", dtype_info[e->dtype].name);
        text_expr(t, e->arg[0]);
        strbuf_add(t->out, ")");
        return;
    case KO_not: prefix(t, e, "!"); return;
    case KO_neg:
        if (e->dtype == DT_I64)
            call(t, e, "neg");
        else
            prefix(t, e, "-");
        return;
    default: break;
    }
    if (sign && strength_of(t, e) != STRENGTH_POST)
        infix(t, e, sign, strength);
    else
        call(t, e, kop_info[e->op].name);
}

static void expr_at(Text *t, const KExpr *e, int strength) {
    const Use *u = textmap_get(&t->uses, e);
    if (u && u->number) {
        strbuf_printf(t->out, "$%u", u->number);
        return;
    }
    bool needs_parens = strength_of(t, e) < strength;
    if (needs_parens) strbuf_add(t->out, "(");
    expr_open_text(t, e);
    if (needs_parens) strbuf_add(t->out, ")");
}

void text_expr(Text *t, const KExpr *e) {
    if (e)
        expr_at(t, e, STRENGTH_SELECT);
    else
        strbuf_add(t->out, "?");
}

void text_exprs(Text *t, const KExpr *const *e, int n) {
    for (int i = 0; i < n; i++) {
        if (i) strbuf_add(t->out, ", ");
        text_expr(t, e[i]);
    }
}

static void bound_text(Text *t, int64_t v) {
    if (v == INT64_MIN || v == INT64_MAX)
        strbuf_add(t->out, v < 0 ? "-inf" : "inf");
    else
        strbuf_printf(t->out, "%" PRId64, v);
}

void text_range(Text *t, const KVar *v, int64_t default_lo, int64_t default_hi) {
    if (v->lo == default_lo && v->hi == default_hi) return;
    strbuf_add(t->out, " [");
    bound_text(t, v->lo);
    strbuf_add(t->out, ", ");
    bound_text(t, v->hi);
    strbuf_add(t->out, "]");
}

void text_symbol(Text *t, const KVar *v, const char *word) {
    text_line(t);
    const char *name = text_bind(t, v, v->name);
    strbuf_printf(t->out, "%s %s", word, name);
    text_range(t, v, 1, 0); /* always: a symbol without a range has another one */
    if (strcmp(name, v->name)) {
        strbuf_add(t->out, " ");
        text_quoted(t, v->name);
    }
    if (v->bound && v->bound->op != KO_const_i) {
        strbuf_add(t->out, " <= ");
        text_expr(t, v->bound);
    }
    if (v->value) {
        strbuf_add(t->out, " is ");
        text_expr(t, v->value);
    }
    text_newline(t);
}

/* ---- entry points ---------------------------------------------------------------------------- */

static void bind_free(const KExpr *e, void *user) {
    Text *t = user;
    if (e->op == KO_var) text_bind(t, e->u.var, e->u.var->name);
    if (e->op == KO_load) text_bind(t, e->u.buf, e->u.buf->name);
    if (e->op == KO_at) text_bind(t, e->u.tensor, e->u.tensor->name);
}

void print_expr(StrBuf *out, const KExpr *e) {
    Text t;
    text_begin(&t, out);
    k_visit(NULL, e, bind_free, &t);
    text_share(&t, &e, 1);
    text_expr(&t, e);
    text_end(&t);
}

void dump_expr(const KExpr *e) {
    StrBuf b = {0};
    print_expr(&b, e);
    fprintf(stderr, "%s\n", strbuf_text(&b));
    strbuf_free(&b);
}
