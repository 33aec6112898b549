/* Signatures of operators that a user brings: see custom.h. A recursive descent parser that
 * computes while it reads; nesting is bounded. */
#include "ir/custom.h"

#include <ctype.h>
#include <string.h>

#include "ir/support/str.h"

enum { MAX_NEST = 32 };

typedef struct Reader {
    KCtx *k;
    Arena *a;
    const char *at;
    CustomMatch *m;
    const char *why; /* the first problem; reading stops */
    int depth;
} Reader;

static void fail(Reader *r, const char *why) {
    if (!r->why) r->why = why;
}

static void skip_blanks(Reader *r) {
    while (*r->at == ' ' || *r->at == '\t') r->at++;
}

static bool accept(Reader *r, const char *what) {
    skip_blanks(r);
    size_t n = strlen(what);
    if (r->why || strncmp(r->at, what, n)) return false;
    r->at += n;
    return true;
}

static void expect(Reader *r, const char *what) {
    if (!accept(r, what)) fail(r, arena_printf(r->a, "'%s' is missing at '%.20s'", what, r->at));
}

/* A name, "" when there is none. */
static const char *read_name(Reader *r) {
    skip_blanks(r);
    const char *from = r->at;
    if (!isalpha((unsigned char)*from) && *from != '_') return "";
    while (isalnum((unsigned char)*r->at) || *r->at == '_') r->at++;
    return intern_bytes(from, (size_t)(r->at - from));
}

/* ---- dims ------------------------------------------------------------------------------------ */

static const KExpr *known(const Reader *r, const char *name) {
    for (int i = 0; i < r->m->n_names; i++)
        if (r->m->name[i] == name) return r->m->value[i];
    return NULL;
}

static void define(Reader *r, const char *name, const KExpr *value) {
    if (r->m->n_names == CUSTOM_NAMES) {
        fail(r, arena_printf(r->a, "more than %d sizes have names", CUSTOM_NAMES));
        return;
    }
    r->m->name[r->m->n_names] = name;
    r->m->value[r->m->n_names++] = value;
}

static const KExpr *read_sum(Reader *r);

static const KExpr *read_number(Reader *r) {
    int64_t v = 0;
    for (; isdigit((unsigned char)*r->at); r->at++)
        if (v > INT32_MAX)
            fail(r, "a number is too large");
        else
            v = v * 10 + (*r->at - '0');
    return k_int(r->k, v);
}

static const KExpr *ceil_div(KCtx *k, const KExpr *a, const KExpr *b) {
    return k_neg(k, k_fdiv(k, k_neg(k, a), b));
}

/* The rest of min(a, b) and its like; NULL when the name is none of them. */
static const KExpr *read_call(Reader *r, const char *name) {
    bool is_min = !strcmp(name, "min"), is_max = !strcmp(name, "max");
    if (!is_min && !is_max && strcmp(name, "ceildiv")) return NULL;
    expect(r, "(");
    const KExpr *a = read_sum(r);
    expect(r, ",");
    const KExpr *b = read_sum(r);
    expect(r, ")");
    if (is_min) return k_min(r->k, a, b);
    if (is_max) return k_max(r->k, a, b);
    if (b->lo < 1) fail(r, "ceildiv's divisor may be 0 or negative");
    return r->why ? a : ceil_div(r->k, a, b);
}

static const KExpr *read_atom(Reader *r) {
    const KExpr *e = k_int(r->k, 0);
    skip_blanks(r);
    if (r->why) return e;
    if (isdigit((unsigned char)*r->at)) return read_number(r);
    if (accept(r, "(")) {
        if (++r->depth > MAX_NEST) fail(r, "parentheses nest too deeply");
        e = read_sum(r);
        r->depth--;
        expect(r, ")");
        return e;
    }
    const char *name = read_name(r);
    if (!*name) {
        fail(r, arena_printf(r->a, "a size is missing at '%.20s'", r->at));
        return e;
    }
    skip_blanks(r);
    if (*r->at == '(') {
        if (++r->depth > MAX_NEST) fail(r, "parentheses nest too deeply");
        const KExpr *call = read_call(r, name);
        r->depth--;
        if (call) return call;
        fail(r, arena_printf(r->a, "there is no function '%s'; min, max and ceildiv are", name));
        return e;
    }
    const KExpr *v = known(r, name);
    if (!v) fail(r, arena_printf(r->a, "size '%s' is not the dim of an input before it", name));
    return v ? v : e;
}

static const KExpr *read_product(Reader *r) {
    const KExpr *e = read_atom(r);
    while (!r->why) {
        bool times = accept(r, "*"), by = !times && accept(r, "/");
        bool rest = !times && !by && accept(r, "%");
        if (!times && !by && !rest) break;
        const KExpr *b = read_atom(r);
        if (!times && b->lo < 1) fail(r, "a divisor may be 0 or negative");
        if (r->why) break;
        e = times ? k_mul(r->k, e, b) : by ? k_fdiv(r->k, e, b) : k_fmod(r->k, e, b);
    }
    return e;
}

static const KExpr *read_sum(Reader *r) {
    const KExpr *e = read_product(r);
    while (!r->why) {
        skip_blanks(r);
        if (r->at[0] == '-' && r->at[1] == '>') break;
        bool plus = accept(r, "+");
        if (!plus && !accept(r, "-")) break;
        const KExpr *b = read_product(r);
        e = plus ? k_add(r->k, e, b) : k_sub(r->k, e, b);
    }
    return e;
}

/* ---- types ----------------------------------------------------------------------------------- */

/* A dim of an input: `given` is its size, NULL when any will do. */
static const KExpr *read_input_dim(Reader *r, const KExpr *given) {
    const char *start = r->at, *name = read_name(r);
    skip_blanks(r);
    bool is_name = *name && (*r->at == ',' || *r->at == ']');
    if (is_name && !known(r, name)) {
        if (!given) given = k_var(r->k, kvar_new(r->k, KV_SYMBOL, DT_I64, name, 1, INT32_MAX));
        define(r, name, given);
        return given;
    }
    r->at = start;
    const KExpr *want = read_sum(r);
    int64_t is, has;
    if (given && !r->why && k_is_int(want, &is) && k_is_int(given, &has) && is != has)
        fail(r, arena_printf(r->a, "a dim is %lld, but has to be %lld", (long long)has,
                             (long long)is));
    return given ? given : want;
}

/* One type; given is that of the input, NULL for outputs and for any. */
static CustomType read_type(Reader *r, const CustomType *given, bool is_input) {
    const KExpr *dims[MAX_RANK];
    CustomType t = {0};
    int rank = 0;
    const char *word = read_name(r);
    t.dtype = dtype_from_name(word);
    if (t.dtype == DT_NONE || t.dtype == DT_STR)
        fail(r, arena_printf(r->a, "'%s' is no element type for a C function", word));
    if (given && given->dtype != t.dtype)
        fail(r, arena_printf(r->a, "an input is %s, but has to be %s",
                             dtype_info[given->dtype].name, word));
    expect(r, "[");
    while (!r->why && !accept(r, "]")) {
        if (rank) expect(r, ",");
        if (rank == MAX_RANK) fail(r, arena_printf(r->a, "a rank is above %d", MAX_RANK));
        if (given && rank >= given->shape.rank) break;
        if (r->why) return t;
        dims[rank] =
            is_input ? read_input_dim(r, given ? given->shape.dims[rank] : NULL) : read_sum(r);
        rank++;
    }
    if (given && !r->why && (rank != given->shape.rank || r->at[-1] != ']'))
        fail(r,
             arena_printf(r->a, "an input has rank %d, which its type has not", given->shape.rank));
    t.shape = shape_make(r->a, rank);
    for (int i = 0; i < rank; i++) t.shape.dims[i] = dims[i];
    return t;
}

bool custom_match(KCtx *k, Arena *a, const char *signature, const CustomType *in, int n_in,
                  CustomMatch *out, const char **why) {
    Reader r = {.k = k, .a = a, .at = signature, .m = out};
    memset(out, 0, sizeof *out);
    while (!r.why && !accept(&r, "->")) {
        if (out->n_in) expect(&r, ",");
        if (out->n_in == CUSTOM_INPUTS)
            fail(&r, arena_printf(a, "more than %d inputs", CUSTOM_INPUTS));
        if (in && out->n_in == n_in) fail(&r, "has too few inputs");
        if (!r.why) out->in[out->n_in] = read_type(&r, in ? &in[out->n_in] : NULL, true);
        out->n_in++;
    }
    if (in && out->n_in < n_in) fail(&r, "has too many inputs");
    do {
        if (out->n_out == CUSTOM_OUTPUTS)
            fail(&r, arena_printf(a, "more than %d outputs", CUSTOM_OUTPUTS));
        if (!r.why) out->out[out->n_out++] = read_type(&r, NULL, false);
    } while (accept(&r, ","));
    skip_blanks(&r);
    if (*r.at) fail(&r, arena_printf(a, "there is more after the last type: '%.20s'", r.at));
    *why = r.why;
    return !r.why;
}
