/* Cast between numbers and strings, by exact decimal arithmetic in loops.
 *
 * A number is a row of limbs of nine decimal digits, N_WHOLE before and N_PARTS behind the point:
 * every f64 fits without loss, and so does its product with a power of two. Floats are printed like
 * C's %.8g, as onnxruntime does, into slots of the arena (no string is longer than its slot);
 * NaN, INF and -INF have names. Text is read like C's strtod and rounded once, halves to even;
 * integers take what digits there are. What is no number gives NaN, for integers 0. */
#include "ir/ops/cast_text.h"

#include <math.h>

enum { N_WHOLE = 35, N_PARTS = 120, N_LIMBS = N_WHOLE + N_PARTS, POINT = N_WHOLE - 1 };
enum { LIMB = 1000000000, DIGITS = 9, SHOWN = 8, SLOT = 24, MAX_SHIFT = 29 };

/* What the functions below build a program with. */
typedef struct Text {
    Def *d;
    KCtx *k;
    KBuild *b;
    KBuf *limb;
    KTensor *powers; /* 10^i, i up to 18 */
} Text;

static KBuf *local(const Text *t, const char *name, const KExpr *value) {
    KBuf *v = kb_alloc(t->b, MEM_REG, value->dtype, name, 1);
    kb_store(t->b, v, k_int(t->k, 0), value);
    return v;
}

static const KExpr *get(const Text *t, KBuf *v) {
    return k_load(t->k, v, k_int(t->k, 0));
}

static void set(const Text *t, KBuf *v, const KExpr *e) {
    kb_store(t->b, v, k_int(t->k, 0), e);
}

static void add_to(const Text *t, KBuf *v, int64_t by) {
    set(t, v, k_add(t->k, get(t, v), k_int(t->k, by)));
}

static const KExpr *num(const Text *t, int64_t v) {
    return k_int(t->k, v);
}

static const KExpr *limb(const Text *t, const KExpr *i) {
    return k_load(t->k, t->limb, i);
}

static const KExpr *power(const Text *t, const KExpr *i) {
    return def_at(t->d, t->powers, &i, 1);
}

static Text text_open(Def *d) {
    Text t = {.d = d, .k = d->k, .b = &d->b};
    int64_t power[19] = {1};
    for (int i = 1; i < 19; i++) power[i] = power[i - 1] * 10;
    t.powers = def_table_ints(d, "powers", DT_I64, power, 19);
    return t;
}

static void clear_limbs(const Text *t) {
    const KExpr *i = kb_for(t->b, LOOP_SERIAL, "i", num(t, N_LIMBS));
    kb_store(t->b, t->limb, i, num(t, 0));
    kb_end(t->b);
}

/* limbs *= 2^shift, shift at most MAX_SHIFT; limbs `from` .. 0. */
static void multiply(const Text *t, const KExpr *shift, int from) {
    KCtx *k = t->k;
    KBuf *carry = local(t, "carry", num(t, 0));
    const KExpr *i = k_sub(k, num(t, from), kb_for(t->b, LOOP_SERIAL, "i", num(t, from + 1)));
    const KExpr *v = kb_let(t->b, "v", k_add(k, k_shl(k, limb(t, i), shift), get(t, carry)));
    kb_store(t->b, t->limb, i, k_fmod(k, v, num(t, LIMB)));
    set(t, carry, k_fdiv(k, v, num(t, LIMB)));
    kb_end(t->b);
}

/* limbs /= 2^shift; what falls off the end is what remains in the result. */
static KBuf *divide(const Text *t, const KExpr *shift) {
    KCtx *k = t->k;
    KBuf *rest = local(t, "rest", num(t, 0));
    const KExpr *i = kb_for(t->b, LOOP_SERIAL, "i", num(t, N_LIMBS));
    const KExpr *v = k_add(k, k_mul(k, get(t, rest), num(t, LIMB)), limb(t, i));
    v = kb_let(t->b, "v", v);
    const KExpr *q = kb_let(t->b, "q", k_shr(k, v, shift));
    kb_store(t->b, t->limb, i, q);
    set(t, rest, k_sub(k, v, k_shl(k, q, shift)));
    kb_end(t->b);
    return rest;
}

/* Is some limb from `from` (an expression) on not zero? bool */
static const KExpr *any_limb(const Text *t, const KExpr *from, const KExpr *count) {
    KBuf *any = local(t, "any", num(t, 0));
    const KExpr *i = kb_for(t->b, LOOP_SERIAL, "i", count);
    set(t, any, k_or(t->k, get(t, any), limb(t, k_add(t->k, from, i))));
    kb_end(t->b);
    return kb_let(t->b, "some", k_ne(t->k, get(t, any), num(t, 0)));
}

/* How many of 10^1 .. 10^18 (or 2^.. ) are not above e: digits of e, less one. */
static const KExpr *digits_below(const Text *t, const KExpr *e) {
    KCtx *k = t->k;
    const KExpr *n = num(t, 0);
    int64_t p = 10;
    for (int i = 1; i < 19; i++, p *= i < 19 ? 10 : 1)
        n = k_add(k, n, k_cast(k, DT_I64, k_le(k, num(t, p), e)));
    return kb_let(t->b, "digits", n);
}

/* ---- numbers to text ------------------------------------------------------------------------- */

/* One string on its way into its slot. */
typedef struct Print {
    Text t;
    KBuf *text; /* u8 */
    const KExpr *slot;
    KBuf *at; /* bytes written */
} Print;

static void put(const Print *p, const KExpr *byte) {
    KCtx *k = p->t.k;
    kb_store(p->t.b, p->text, k_add(k, p->slot, get(&p->t, p->at)), k_cast(k, DT_U8, byte));
    add_to(&p->t, p->at, 1);
}

static void put_text(const Print *p, const char *s) {
    for (; *s; s++) put(p, num(&p->t, *s));
}

static void put_if(const Print *p, const KExpr *cond, const char *s) {
    kb_if(p->t.b, cond);
    put_text(p, s);
    kb_end(p->t.b);
}

/* The `count` digits of q (which has SHOWN) from `from` on. */
static void put_digits(const Print *p, const KExpr *q, const KExpr *from, const KExpr *count) {
    const Text *t = &p->t;
    KCtx *k = t->k;
    const KExpr *i = k_add(k, from, kb_for(t->b, LOOP_SERIAL, "i", k_max(k, count, num(t, 0))));
    const KExpr *place = k_max(k, k_sub(k, num(t, SHOWN - 1), i), num(t, 0));
    const KExpr *digit = k_fmod(k, k_fdiv(k, q, power(t, place)), num(t, 10));
    digit = k_select(k, k_lt(k, i, num(t, SHOWN)), digit, num(t, 0));
    put(p, k_add(k, digit, num(t, '0')));
    kb_end(t->b);
}

/* 10^e as e-05 */
static void put_exponent(const Print *p, const KExpr *e) {
    const Text *t = &p->t;
    KCtx *k = t->k;
    const KExpr *size = kb_let(t->b, "size", k_max(k, e, k_sub(k, num(t, 0), e)));
    const KExpr *sign = k_select(k, k_lt(k, e, num(t, 0)), num(t, '-'), num(t, '+'));
    const KExpr *hundreds = k_fdiv(k, size, num(t, 100)), *zero = num(t, '0');
    put_text(p, "e");
    put(p, sign);
    kb_if(t->b, k_lt(k, num(t, 0), hundreds));
    put(p, k_add(k, hundreds, zero));
    kb_end(t->b);
    put(p, k_add(k, k_fmod(k, k_fdiv(k, size, num(t, 10)), num(t, 10)), zero));
    put(p, k_add(k, k_fmod(k, size, num(t, 10)), zero));
}

/* q's SHOWN digits times 10^(e - SHOWN + 1), `kept` of them without the zeros at the end. */
static void put_number(const Print *p, const KExpr *q, const KExpr *e, const KExpr *kept) {
    const Text *t = &p->t;
    KCtx *k = t->k;
    KBuild *b = t->b;
    const KExpr *zero = num(t, 0), *one = num(t, 1);
    kb_if(b, k_or(k, k_lt(k, e, num(t, -4)), k_le(k, num(t, SHOWN), e)));
    put_digits(p, q, zero, one);
    put_if(p, k_lt(k, one, kept), ".");
    put_digits(p, q, one, k_sub(k, kept, one));
    put_exponent(p, e);
    kb_else(b);
    kb_if(b, k_lt(k, e, zero));
    put_text(p, "0.");
    kb_for(b, LOOP_SERIAL, "i", k_max(k, k_sub(k, num(t, -1), e), zero));
    put_text(p, "0");
    kb_end(b);
    put_digits(p, q, zero, kept);
    kb_else(b);
    const KExpr *whole = k_add(k, e, one);
    put_digits(p, q, zero, whole);
    put_if(p, k_lt(k, whole, kept), ".");
    put_digits(p, q, whole, k_sub(k, kept, whole));
    kb_end(b);
    kb_end(b);
}

/* The limbs' first SHOWN digits, rounded, halves to even. */
static void put_limbs(const Print *p) {
    const Text *t = &p->t;
    KCtx *k = t->k;
    KBuild *b = t->b;
    KBuf *first = local(t, "first", num(t, 0));
    kb_while(b, k_eq(k, limb(t, k_min(k, get(t, first), num(t, N_LIMBS - 1))), num(t, 0)));
    add_to(t, first, 1);
    kb_end(b);
    const KExpr *f = kb_let(b, "f", get(t, first)), *next = k_add(k, f, num(t, 1));
    const KExpr *top = kb_let(b, "top", limb(t, f)), *below = digits_below(t, top);
    const KExpr *inside = k_lt(k, next, num(t, N_LIMBS));
    const KExpr *second = k_load_if(k, t->limb, next, inside);
    const KExpr *window = kb_let(b, "window", k_add(k, k_mul(k, top, num(t, LIMB)), second));
    const KExpr *left = k_sub(k, num(t, N_LIMBS - 2), f);
    const KExpr *sticky = any_limb(t, k_add(k, f, num(t, 2)), k_max(k, left, num(t, 0)));
    const KExpr *drop = k_add(k, below, num(t, DIGITS + 1 - SHOWN)); /* digits behind those shown */
    const KExpr *unit = kb_let(b, "unit", power(t, drop));
    const KExpr *q = kb_let(b, "q", k_fdiv(k, window, unit));
    const KExpr *rest = kb_let(b, "rest", k_fmod(k, window, unit)), *twice = k_add(k, rest, rest);
    const KExpr *odd = k_ne(k, k_and(k, q, num(t, 1)), num(t, 0));
    const KExpr *tie = k_and(k, k_eq(k, twice, unit), k_or(k, sticky, odd));
    const KExpr *up = k_cast(k, DT_I64, k_or(k, k_lt(k, unit, twice), tie));
    q = kb_let(b, "rounded", k_add(k, q, up));
    const KExpr *ten = kb_let(b, "ten", k_eq(k, q, num(t, 100000000)));
    q = kb_let(b, "shown", k_select(k, ten, num(t, 10000000), q));
    const KExpr *e = k_add(k, k_mul(k, k_sub(k, num(t, POINT), f), num(t, DIGITS)), below);
    e = kb_let(b, "e", k_add(k, e, k_cast(k, DT_I64, ten)));
    const KExpr *kept = num(t, SHOWN); /* less the zeros at the end */
    for (int i = 1, unit_10 = 10; i < SHOWN; i++, unit_10 *= 10)
        kept = k_sub(k, kept, k_cast(k, DT_I64, k_eq(k, k_fmod(k, q, num(t, unit_10)), num(t, 0))));
    put_number(p, q, e, kb_let(b, "kept", kept));
}

/* limbs = |v| of an f64 that is finite. */
static void load_limbs(const Text *t, const KExpr *bits) {
    KCtx *k = t->k;
    KBuild *b = t->b;
    const KExpr *biased = k_and(k, k_shr(k, bits, num(t, 52)), num(t, 2047));
    const KExpr *part = k_and(k, bits, num(t, (INT64_C(1) << 52) - 1));
    const KExpr *normal = k_ne(k, biased, num(t, 0));
    const KExpr *m = k_select(k, normal, k_add(k, part, num(t, INT64_C(1) << 52)), part);
    m = kb_let(b, "m", m);
    const KExpr *e = k_sub(k, k_max(k, biased, num(t, 1)), num(t, 1075));
    clear_limbs(t);
    kb_store(b, t->limb, num(t, POINT - 1), k_fdiv(k, m, num(t, LIMB)));
    kb_store(b, t->limb, num(t, POINT), k_fmod(k, m, num(t, LIMB)));
    KBuf *left = local(t, "left", e);
    kb_while(b, k_lt(k, num(t, 0), get(t, left)));
    const KExpr *shift = kb_let(b, "shift", k_min(k, get(t, left), num(t, MAX_SHIFT)));
    multiply(t, shift, POINT);
    set(t, left, k_sub(k, get(t, left), shift));
    kb_end(b);
    kb_while(b, k_lt(k, get(t, left), num(t, 0)));
    shift = kb_let(b, "shift", k_min(k, k_sub(k, num(t, 0), get(t, left)), num(t, MAX_SHIFT)));
    divide(t, shift);
    set(t, left, k_add(k, get(t, left), shift));
    kb_end(b);
}

static void print_float(const Print *p, const KExpr *v) {
    const Text *t = &p->t;
    KCtx *k = t->k;
    KBuild *b = t->b;
    const KExpr *bits = kb_let(b, "bits", k_bitcast(k, DT_I64, k_cast(k, DT_F64, v)));
    const KExpr *size = k_and(k, bits, num(t, INT64_MAX)), *inf = num(t, INT64_C(2047) << 52);
    kb_if(b, k_lt(k, inf, size));
    put_text(p, "NaN");
    kb_else(b);
    put_if(p, k_lt(k, bits, num(t, 0)), "-");
    kb_if(b, k_eq(k, size, inf));
    put_text(p, "INF");
    kb_else(b);
    kb_if(b, k_eq(k, size, num(t, 0)));
    put_text(p, "0");
    kb_else(b);
    load_limbs(t, bits);
    put_limbs(p);
    kb_end(b);
    kb_end(b);
    kb_end(b);
}

/* From the slot's end to its front; the string begins where the digits do. */
static const KExpr *print_int(const Print *p, const KExpr *v) {
    const Text *t = &p->t;
    KCtx *k = t->k;
    KBuild *b = t->b;
    bool is_signed = v->dtype != DT_U64;
    const KExpr *ten = k_const_i(k, DT_U64, 10), *zero = k_const_i(k, DT_U64, 0);
    const KExpr *wide = kb_let(b, "wide", k_cast(k, DT_I64, v)), *size = k_cast(k, DT_U64, wide);
    const KExpr *minus = k_lt(k, wide, num(t, 0));
    if (is_signed) size = k_select(k, minus, k_sub(k, zero, size), size);
    KBuf *left = local(t, "left", size);
    KBuf *at = local(t, "front", num(t, SLOT - 1)); /* the digit that is written next */
    const KExpr *rest = get(t, left), *place = k_add(k, p->slot, get(t, at));
    const KExpr *digit = k_add(k, k_rem(k, rest, ten), k_const_i(k, DT_U64, '0'));
    kb_store(b, p->text, place, k_cast(k, DT_U8, digit));
    set(t, left, k_div(k, rest, ten));
    kb_while(b, k_ne(k, rest, zero));
    add_to(t, at, -1);
    kb_store(b, p->text, place, k_cast(k, DT_U8, digit));
    set(t, left, k_div(k, rest, ten));
    kb_end(b);
    if (is_signed) {
        kb_if(b, minus);
        add_to(t, at, -1);
        kb_store(b, p->text, place, k_const_i(k, DT_U8, '-'));
        kb_end(b);
    }
    return kb_let(b, "front", get(t, at));
}

static void lower_print(Def *d, KTensor *x, KTensor *out) {
    KCtx *k = d->k;
    const KExpr *n = tensor_n_elems(k, x), *n_bytes = k_mul(k, n, k_int(k, SLOT));
    KTensor *text = def_temp(d, "text", DT_U8, 1, &n_bytes), *outs[2] = {out, text};
    Print p = {.t = text_open(d), .text = text->buf};
    Stage *s = def_program(d, outs, 2);
    const KExpr *i = kb_for(&d->b, LOOP_PARALLEL, "i", n), *from = k_int(k, 0), *end;
    p.slot = kb_let(&d->b, "slot", k_mul(k, i, k_int(k, SLOT)));
    const KExpr *v = kb_let(&d->b, "x", lower_at_flat(d, x, i));
    if (dtype_is_float(x->dtype)) {
        p.t.limb = kb_alloc(&d->b, MEM_STACK, DT_I64, "limbs", N_LIMBS);
        p.at = local(&p.t, "at", k_int(k, 0));
        print_float(&p, v);
        end = get(&p.t, p.at);
    } else {
        from = print_int(&p, v);
        end = k_int(k, SLOT);
    }
    const KExpr *first = k_load(k, text->buf, k_add(k, p.slot, from));
    kb_store(&d->b, out->buf, i, k_str_of(k, first, k_sub(k, end, from)));
    kb_end(&d->b);
    def_end_program(d, s);
}

/* ---- text to numbers ------------------------------------------------------------------------- */

/* One string that is read. */
typedef struct Scan {
    Text t;
    const KExpr *s;
    KBuf *at, *minus;
} Scan;

/* Byte `ahead` behind the position, as i64. */
static const KExpr *peek(const Scan *p, int ahead) {
    KCtx *k = p->t.k;
    const KExpr *at = k_add(k, get(&p->t, p->at), num(&p->t, ahead));
    return k_cast(k, DT_I64, k_str_byte(k, p->s, at));
}

static const KExpr *is_byte(const Scan *p, int ahead, char c) {
    return k_eq(p->t.k, peek(p, ahead), num(&p->t, c));
}

static const KExpr *is_digit(const Scan *p) {
    KCtx *k = p->t.k;
    const KExpr *c = peek(p, 0);
    return k_and(k, k_le(k, num(&p->t, '0'), c), k_le(k, c, num(&p->t, '9')));
}

/* White space and a sign. */
static Scan scan_begin(Text t, const KExpr *s) {
    KCtx *k = t.k;
    Scan p = {.t = t, .s = s};
    p.at = local(&t, "at", num(&t, 0));
    p.minus = local(&t, "minus", num(&t, 0));
    const KExpr *c = peek(&p, 0);
    const KExpr *control = k_and(k, k_le(k, num(&t, 9), c), k_le(k, c, num(&t, 13)));
    kb_while(t.b, k_or(k, is_byte(&p, 0, ' '), control));
    add_to(&t, p.at, 1);
    kb_end(t.b);
    kb_if(t.b, k_or(k, is_byte(&p, 0, '-'), is_byte(&p, 0, '+')));
    set(&t, p.minus, k_cast(k, DT_I64, is_byte(&p, 0, '-')));
    add_to(&t, p.at, 1);
    kb_end(t.b);
    return p;
}

/* Digits as an integer that wraps, or (most > 0) stops at about that. */
static KBuf *scan_digits(const Scan *p, int64_t most, KBuf *count) {
    const Text *t = &p->t;
    KCtx *k = t->k;
    KBuf *v = local(t, "value", k_const_i(k, DT_U64, 0));
    const KExpr *old = get(t, v), *digit = k_cast(k, DT_U64, k_sub(k, peek(p, 0), num(t, '0')));
    kb_while(t->b, is_digit(p));
    const KExpr *e = k_add(k, k_mul(k, old, k_const_i(k, DT_U64, 10)), digit);
    set(t, v, most ? k_min(k, e, k_const_i(k, DT_U64, most)) : e);
    if (count) add_to(t, count, 1);
    add_to(t, p->at, 1);
    kb_end(t->b);
    return v;
}

/* Where the mantissa's digits are, and the exponent behind them. */
typedef struct Decimal {
    const KExpr *first; /* position of the first digit or point */
    KBuf *n_whole, *n_digits, *exponent;
} Decimal;

/* digits [. digits] [e [sign] digits] */
static Decimal scan_decimal(const Scan *p) {
    const Text *t = &p->t;
    KCtx *k = t->k;
    KBuild *b = t->b;
    Decimal d = {.first = kb_let(b, "first", get(t, p->at))};
    d.n_whole = local(t, "n_whole", num(t, 0));
    d.exponent = local(t, "exponent", num(t, 0));
    scan_digits(p, 1, d.n_whole);
    d.n_digits = local(t, "n_digits", get(t, d.n_whole));
    kb_if(b, is_byte(p, 0, '.'));
    add_to(t, p->at, 1);
    scan_digits(p, 1, d.n_digits);
    kb_end(b);
    kb_if(b, k_eq(k, k_or(k, peek(p, 0), num(t, 32)), num(t, 'e')));
    add_to(t, p->at, 1);
    KBuf *negative = local(t, "negative", k_cast(k, DT_I64, is_byte(p, 0, '-')));
    kb_if(b, k_or(k, is_byte(p, 0, '-'), is_byte(p, 0, '+')));
    add_to(t, p->at, 1);
    kb_end(b);
    const KExpr *e = k_cast(k, DT_I64, get(t, scan_digits(p, 100000, NULL)));
    const KExpr *is_minus = k_ne(k, get(t, negative), num(t, 0));
    set(t, d.exponent, k_select(k, is_minus, k_sub(k, num(t, 0), e), e));
    kb_end(b);
    return d;
}

/* Digits into limbs by their weights; *sticky: some were too small, *large: too large. */
static void fill_limbs(const Scan *p, const Decimal *d, KBuf *sticky, KBuf *large) {
    const Text *t = &p->t;
    KCtx *k = t->k;
    KBuild *b = t->b;
    clear_limbs(t);
    const KExpr *whole = kb_let(b, "whole", get(t, d->n_whole));
    const KExpr *i = kb_for(b, LOOP_SERIAL, "i", get(t, d->n_digits));
    const KExpr *skip = k_cast(k, DT_I64, k_le(k, whole, i)); /* the point */
    const KExpr *byte = k_str_byte(k, p->s, k_add(k, k_add(k, d->first, i), skip));
    const KExpr *digit = kb_let(b, "digit", k_sub(k, k_cast(k, DT_I64, byte), num(t, '0')));
    const KExpr *weight = k_add(k, k_sub(k, k_sub(k, whole, i), num(t, 1)), get(t, d->exponent));
    weight = kb_let(b, "weight", weight);
    kb_if(b, k_ne(k, digit, num(t, 0)));
    kb_if(b, k_le(k, num(t, N_WHOLE * DIGITS), weight));
    set(t, large, num(t, 1));
    kb_else(b);
    kb_if(b, k_lt(k, weight, num(t, -N_PARTS * DIGITS)));
    set(t, sticky, num(t, 1));
    kb_else(b);
    const KExpr *at = k_sub(k, num(t, POINT), k_fdiv(k, weight, num(t, DIGITS)));
    at = kb_let(b, "limb", k_min(k, k_max(k, at, num(t, 0)), num(t, N_LIMBS - 1)));
    const KExpr *unit = power(t, k_fmod(k, weight, num(t, DIGITS)));
    kb_store(b, t->limb, at, k_add(k, limb(t, at), k_mul(k, digit, unit)));
    kb_end(b);
    kb_end(b);
    kb_end(b);
    kb_end(b);
}

static const KExpr *whole_part(const Text *t) {
    const KExpr *high = limb(t, num(t, POINT - 1)), *low = limb(t, num(t, POINT));
    return k_add(t->k, k_mul(t->k, high, num(t, LIMB)), low);
}

/* Scales the limbs by 2^-scale until what is before the point has 54 to 60 bits; the exponent. */
static KBuf *normalise(const Text *t, KBuf *sticky) {
    KCtx *k = t->k;
    KBuild *b = t->b;
    KBuf *scale = local(t, "scale", num(t, 0)), *busy = local(t, "busy", num(t, 1));
    kb_while(b, k_ne(k, get(t, busy), num(t, 0)));
    const KExpr *some = any_limb(t, num(t, 0), num(t, POINT - 1));
    kb_if(b, some);
    KBuf *rest = divide(t, num(t, MAX_SHIFT));
    set(t, sticky, k_or(k, get(t, sticky), get(t, rest)));
    add_to(t, scale, MAX_SHIFT);
    kb_else(b);
    set(t, busy, num(t, 0));
    kb_end(b);
    kb_end(b);
    const KExpr *small = k_lt(k, whole_part(t), num(t, INT64_C(1) << 53));
    kb_while(b, k_and(k, small, k_lt(k, num(t, -1300), get(t, scale))));
    const KExpr *tiny = k_lt(k, whole_part(t), num(t, INT64_C(1) << 30));
    const KExpr *shift = kb_let(b, "shift", k_select(k, tiny, num(t, MAX_SHIFT), num(t, 6)));
    multiply(t, shift, N_LIMBS - 1);
    set(t, scale, k_sub(k, get(t, scale), shift));
    kb_end(b);
    return scale;
}

/* The limbs' value as the bits of a float of `precision` bits whose least exponent is `least`. */
static const KExpr *round_limbs(const Text *t, KBuf *sticky, int precision, int least) {
    KCtx *k = t->k;
    KBuild *b = t->b;
    const KExpr *scale = kb_let(b, "scale", get(t, normalise(t, sticky)));
    const KExpr *whole = kb_let(b, "whole", whole_part(t)), *bits = num(t, 0);
    const KExpr *some = any_limb(t, num(t, POINT + 1), num(t, N_PARTS));
    some = k_or(k, some, k_ne(k, get(t, sticky), num(t, 0)));
    for (int i = 0; i < 61; i++)
        bits = k_add(k, bits, k_cast(k, DT_I64, k_le(k, num(t, INT64_C(1) << i), whole)));
    bits = kb_let(b, "bits", bits);
    const KExpr *exponent = k_add(k, k_sub(k, bits, num(t, 1)), scale);
    const KExpr *missing = k_max(k, k_sub(k, num(t, least), exponent), num(t, 0));
    const KExpr *drop = k_add(k, k_sub(k, bits, num(t, precision)), missing);
    drop = kb_let(b, "drop", k_max(k, k_min(k, drop, num(t, 62)), num(t, 1)));
    const KExpr *q = kb_let(b, "q", k_shr(k, whole, drop));
    const KExpr *rest = kb_let(b, "rest", k_sub(k, whole, k_shl(k, q, drop)));
    const KExpr *half = k_shl(k, num(t, 1), k_sub(k, drop, num(t, 1)));
    const KExpr *odd = k_ne(k, k_and(k, q, num(t, 1)), num(t, 0));
    const KExpr *tie = k_and(k, k_eq(k, rest, half), k_or(k, some, odd));
    const KExpr *up = k_cast(k, DT_I64, k_or(k, k_lt(k, half, rest), tie));
    /* the hidden bit of q adds the last 1 to the exponent */
    const KExpr *top = k_sub(k, k_max(k, exponent, num(t, least)), num(t, least));
    const KExpr *largest = num(t, 1 - 2 * least),
                *inf = num(t, (3 - 2 * (int64_t)least) << (precision - 1));
    const KExpr *base = k_shl(k, k_min(k, top, largest), num(t, precision - 1));
    const KExpr *result = k_add(k, k_add(k, q, up), base);
    result = k_select(k, k_lt(k, largest, top), inf, result);
    return k_select(k, k_eq(k, whole, num(t, 0)), num(t, 0), result);
}

/* Is this word next, in any case? */
static const KExpr *is_word(const Scan *p, const char *word) {
    KCtx *k = p->t.k;
    const KExpr *all = k_bool(k, true);
    for (int i = 0; word[i]; i++) {
        const KExpr *lower = k_or(k, peek(p, i), num(&p->t, 32));
        all = k_and(k, all, k_eq(k, lower, num(&p->t, word[i])));
    }
    return all;
}

/* The magnitude's bits, in f64 or f32. */
static const KExpr *scan_float(const Scan *p, DType type) {
    const Text *t = &p->t;
    KCtx *k = t->k;
    KBuild *b = t->b;
    bool wide = type == DT_F64;
    int64_t inf = wide ? INT64_C(2047) << 52 : INT64_C(255) << 23;
    int64_t nan = wide ? INT64_C(4095) << 51 : INT64_C(511) << 22;
    KBuf *bits = local(t, "bits", num(t, nan));
    kb_if(b, is_word(p, "inf"));
    set(t, bits, num(t, inf));
    kb_end(b);
    const KExpr *starts = k_or(k, is_digit(p), is_byte(p, 0, '.'));
    kb_if(b, starts);
    Decimal d = scan_decimal(p);
    KBuf *sticky = local(t, "sticky", num(t, 0)), *large = local(t, "large", num(t, 0));
    kb_if(b, k_lt(k, num(t, 0), get(t, d.n_digits)));
    fill_limbs(p, &d, sticky, large);
    const KExpr *value = round_limbs(t, sticky, wide ? 53 : 24, wide ? -1022 : -126);
    value = k_min(k, value, num(t, inf));
    set(t, bits, k_select(k, k_ne(k, get(t, large), num(t, 0)), num(t, inf), value));
    kb_end(b);
    kb_end(b);
    return get(t, bits);
}

static void lower_scan(Def *d, KTensor *x, KTensor *out) {
    KCtx *k = d->k;
    KBuild *b = &d->b;
    DType type = out->dtype, work = type == DT_F64 ? DT_F64 : DT_F32;
    Text t = text_open(d);
    Stage *s = def_program(d, &out, 1);
    const KExpr *i = kb_for(b, LOOP_PARALLEL, "i", tensor_n_elems(k, x)), *v;
    if (dtype_is_float(type)) t.limb = kb_alloc(b, MEM_STACK, DT_I64, "limbs", N_LIMBS);
    Scan p = scan_begin(t, kb_let(b, "s", lower_at_flat(d, x, i)));
    const KExpr *minus = k_ne(k, get(&t, p.minus), k_int(k, 0));
    if (dtype_is_float(type)) {
        const KExpr *bits = scan_float(&p, type);
        bits = work == DT_F64 ? bits : k_cast(k, DT_I32, bits);
        v = k_bitcast(k, work, bits);
        v = k_select(k, minus, k_neg(k, v), v);
    } else {
        const KExpr *size = k_cast(k, DT_I64, get(&t, scan_digits(&p, 0, NULL)));
        v = k_select(k, minus, k_sub(k, k_int(k, 0), size), size);
    }
    kb_store(b, out->buf, i, k_cast(k, type, v));
    kb_end(b);
    def_end_program(d, s);
}

void text_lower_cast(Def *d, KTensor *x, KTensor *out) {
    if (out->dtype == DT_STR)
        lower_print(d, x, out);
    else
        lower_scan(d, x, out);
}
