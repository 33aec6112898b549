/* Einsum: a product of operands summed over the letters that the result does not have.
 *
 *   one operand     out[o...] = sum over the other letters of x[...]      (a map when there
 *                   are none)
 *   two operands    a contraction: lhs = a[...], rhs = b[...]
 *   more            pairs from the left; an intermediate keeps the letters that are still needed
 *
 * An ellipsis stands for axes that broadcast; they become letters of their own, aligned at the
 * right. A letter twice in one operand reads its diagonal. Floats sum in f32 (f64 for f64). */
#include "ir/ops/common.h"

#include <string.h>

/* Letters: 0..51 are A-Z and a-z, then one for each axis of the ellipsis. */
enum { N_LETTERS = 52 + MAX_RANK, MAX_OPERANDS = 64 };

typedef struct Term {
    int8_t letter[MAX_RANK];
    int rank;
} Term;

typedef struct Equation {
    Term in[MAX_OPERANDS], out;
    int n_in;
    const KExpr *extent[N_LETTERS]; /* NULL: the letter does not occur */
} Equation;

/* ---- parsing --------------------------------------------------------------------------------- */

static bool bad_equation(Module *m, const Node *n, const char *why) {
    diag_error(m->diag, n->loc, "the equation %s", why);
    return false;
}

static int letter_number(char c) {
    if (c >= 'A' && c <= 'Z') return c - 'A';
    return c >= 'a' && c <= 'z' ? c - 'a' + 26 : -1;
}

/* Reads letters up to a ',', "->" or the end. An ellipsis becomes `dots` axes. */
static bool parse_term(Module *m, const Node *n, const char **at, int dots, Term *t,
                       bool *has_dots) {
    const char *p = *at;
    t->rank = 0;
    *has_dots = false;
    for (; *p && *p != ',' && *p != '-'; p++) {
        int letter = letter_number(*p), count = 1;
        if (*p == ' ') continue;
        if (!strncmp(p, "...", 3)) {
            if (*has_dots) return bad_equation(m, n, "has two ellipses in one term");
            *has_dots = true;
            p += 2;
            letter = 52 + MAX_RANK - dots; /* aligned at the right */
            count = dots;
        } else if (letter < 0) {
            return bad_equation(m, n, "has a character that is no letter");
        }
        if (t->rank + count > MAX_RANK)
            return bad_equation(m, n, "has a term with too many letters");
        for (int i = 0; i < count; i++) t->letter[t->rank++] = (int8_t)(letter + i);
    }
    *at = p;
    return true;
}

/* Letters, leaving out spaces and the ellipsis, of the term at p: the rank without the ellipsis. */
static int plain_rank(const char *p) {
    int rank = 0;
    for (; *p && *p != ',' && *p != '-'; p++) rank += letter_number(*p) >= 0;
    return rank;
}

/* The extent of a letter from one more axis; 1 broadcasts. */
static bool merge_extent(Module *m, const Node *n, const KExpr **extent, const KExpr *dim,
                         int operand) {
    if (!*extent || k_is_value(*extent, 1)) {
        *extent = dim;
    } else if (!k_is_value(dim, 1) && !infer_same_dim(m, n, *extent, dim)) {
        diag_error(m->diag, n->loc, "a letter is %lld in one place and %lld in operand %d",
                   (long long)(*extent)->u.i, (long long)dim->u.i, operand);
        return false;
    } else if (!k_is_value(dim, 1) && dim->op == KO_const_i) {
        *extent = dim;
    }
    return true;
}

static bool parse_operand(Module *m, const Node *n, const char **p, int operand, Equation *q) {
    Shape s = n->in[operand]->shape;
    Term *t = &q->in[operand];
    bool has_dots;
    int dots = s.rank - plain_rank(*p);
    if (!parse_term(m, n, p, dots > 0 ? dots : 0, t, &has_dots)) return false;
    if (t->rank != s.rank) {
        diag_error(m->diag, n->loc,
                   "the equation's term %d has %d letters, the operand has rank %d", operand,
                   t->rank, s.rank);
        return false;
    }
    for (int i = 0; i < t->rank; i++)
        if (!merge_extent(m, n, &q->extent[t->letter[i]], s.dims[i], operand)) return false;
    return true;
}

/* Without "->": the ellipsis' axes, then the letters that occur once, in alphabetical order. */
static bool implicit_output(Module *m, const Node *n, Equation *q) {
    int uses[N_LETTERS] = {0};
    for (int i = 0; i < q->n_in; i++)
        for (int j = 0; j < q->in[i].rank; j++) uses[q->in[i].letter[j]]++;
    for (int i = 0; i < N_LETTERS; i++) {
        int letter = (i + 52) % N_LETTERS; /* the ellipsis comes first */
        bool is_kept = letter >= 52 ? uses[letter] > 0 : uses[letter] == 1;
        if (!is_kept) continue;
        if (q->out.rank == MAX_RANK) return bad_equation(m, n, "has a result of too high a rank");
        q->out.letter[q->out.rank++] = (int8_t)letter;
    }
    return true;
}

static bool explicit_output(Module *m, const Node *n, const char *p, Equation *q) {
    bool has_dots, is_used[N_LETTERS] = {false};
    int dots = 0;
    for (int i = 52; i < N_LETTERS; i++) dots += q->extent[i] != NULL;
    if (!parse_term(m, n, &p, dots, &q->out, &has_dots)) return false;
    if (*p) return bad_equation(m, n, "goes on after its result");
    for (int i = 0; i < q->out.rank; i++) {
        int letter = q->out.letter[i];
        if (!q->extent[letter])
            return bad_equation(m, n, "has a letter in the result that no operand has");
        if (is_used[letter]) return bad_equation(m, n, "has a letter twice in its result");
        is_used[letter] = true;
    }
    return true;
}

static bool parse_equation(Module *m, const Node *n, Equation *q) {
    const char *p = attr_string(n, "equation", "");
    *q = (Equation){.n_in = n->n_in};
    if (n->n_in > MAX_OPERANDS) {
        diag_unsupported(m->diag, n->loc, "%d operands; at most %d are supported", n->n_in,
                         MAX_OPERANDS);
        return false;
    }
    for (int i = 0; i < n->n_in; i++) {
        if (i > 0 && *p++ != ',')
            return bad_equation(m, n, "has fewer terms than the node has inputs");
        if (!parse_operand(m, n, &p, i, q)) return false;
    }
    if (*p == ',') return bad_equation(m, n, "has more terms than the node has inputs");
    int n_letters = 0;
    for (int i = 0; i < N_LETTERS; i++) n_letters += q->extent[i] != NULL;
    if (n_letters > MAX_RANK) { /* keeps intermediates and reductions within their limits */
        diag_unsupported(m->diag, n->loc, "%d different letters; at most %d are supported",
                         n_letters, MAX_RANK);
        return false;
    }
    if (!*p) return implicit_output(m, n, q);
    if (strncmp(p, "->", 2)) return bad_equation(m, n, "has a '-' without '>'");
    return explicit_output(m, n, p + 2, q);
}

bool einsum_infer(Module *m, Node *n) {
    Equation q;
    for (int i = 0; i < n->n_in; i++)
        if (!infer_dtype(m, n, i, CLASS_NUMBER) || !infer_dtypes_equal(m, n, 0, i)) return false;
    if (!parse_equation(m, n, &q)) return false;
    Shape out = shape_make(m->arena, q.out.rank);
    for (int i = 0; i < out.rank; i++) out.dims[i] = q.extent[q.out.letter[i]];
    return infer_set(m, n, 0, n->in[0]->dtype, out);
}

/* ---- lower ----------------------------------------------------------------------------------- */

/* The element of an operand at the letters' values; letters without one get a reduction axis. */
static const KExpr *operand_at(Def *d, Stage *s, const Equation *q, KTensor *x, const Term *t,
                               const KExpr **value, DType as) {
    const KExpr *index[MAX_RANK];
    for (int i = 0; i < t->rank; i++) {
        int letter = t->letter[i];
        if (!value[letter]) value[letter] = def_reduce_axis(d, s, "r", q->extent[letter]);
        index[i] = value[letter];
    }
    return k_cast(d->k, as, def_at(d, x, index, x->rank));
}

/* out[t...] = sum of a[...] * b[...]; b may be absent */
static void sum_of_products(Def *d, const Equation *q, KTensor *a, const Term *ta, KTensor *b,
                            const Term *tb, KTensor *out, const Term *t, DType as) {
    KCtx *k = d->k;
    const KExpr *value[N_LETTERS] = {NULL};
    Stage *s = def_begin(d, b ? FORM_CONTRACT : FORM_REDUCE, out);
    for (int i = 0; i < t->rank; i++) value[t->letter[i]] = def_axis(d, s, i);
    const KExpr *lhs = operand_at(d, s, q, a, ta, value, as);
    const KExpr *rhs = b ? operand_at(d, s, q, b, tb, value, as) : NULL;
    if (s->n_red == 0) {
        s->form = FORM_MAP;
        s->movement = !b && a->dtype == out->dtype;
        def_map(d, s, k_cast(k, out->dtype, b ? k_mul(k, lhs, rhs) : lhs));
        return;
    }
    if (b)
        def_contract(d, s, as, lhs, rhs);
    else
        def_reduce(d, s, KO_add, as, k_const(k, as, 0), lhs);
    def_finish(d, s, k_cast(k, out->dtype, def_acc(d, s)));
}

static bool term_has(const Term *t, int letter) {
    return t->rank > 0 && memchr(t->letter, letter, (size_t)t->rank) != NULL;
}

/* Letters of a and b that the result or an operand from `next` on still needs. */
static Term kept_letters(const Equation *q, const Term *a, const Term *b, int next) {
    const Term *pair[2] = {a, b};
    Term kept = {.rank = 0};
    for (int side = 0; side < 2; side++)
        for (int i = 0; i < pair[side]->rank; i++) {
            int letter = pair[side]->letter[i];
            bool is_needed = term_has(&q->out, letter);
            for (int j = next; j < q->n_in; j++) is_needed |= term_has(&q->in[j], letter);
            if (is_needed && !term_has(&kept, letter) && kept.rank < MAX_RANK)
                kept.letter[kept.rank++] = (int8_t)letter;
        }
    return kept;
}

/* Letters that only operand i has, and the result has not, are summed before its products: so many
 * products less. Changes the equation's term; gives the operand, or the tensor of the sums. */
static KTensor *sum_own_letters(Def *d, Equation *q, int i, DType as) {
    const KExpr *dims[MAX_RANK];
    Term term = q->in[i], rest = {.rank = 0};
    bool sums = false;
    for (int j = 0; j < term.rank; j++) {
        int letter = term.letter[j];
        bool is_needed = term_has(&q->out, letter);
        for (int other = 0; other < q->n_in; other++)
            is_needed |= other != i && term_has(&q->in[other], letter);
        sums |= !is_needed;
        if (!is_needed || term_has(&rest, letter)) continue;
        dims[rest.rank] = q->extent[letter];
        rest.letter[rest.rank++] = (int8_t)letter;
    }
    if (!sums || q->n_in == 1) return def_in(d, i);
    KTensor *to = def_temp(d, "sums", as, rest.rank, dims);
    sum_of_products(d, q, def_in(d, i), &term, NULL, NULL, to, &rest, as);
    q->in[i] = rest;
    return to;
}

void einsum_lower(Def *d, const Node *n) {
    Equation q;
    BUG_IF(!parse_equation(d->m, n, &q), "the equation changed since infer");
    KTensor *out = def_out(d, 0);
    DType t = compute_dtype(out->dtype);
    KTensor *left = sum_own_letters(d, &q, 0, t);
    Term have = q.in[0];
    if (q.n_in == 1) sum_of_products(d, &q, left, &have, NULL, NULL, out, &q.out, t);
    for (int i = 1; i < q.n_in; i++) {
        bool is_last = i == q.n_in - 1;
        KTensor *right = sum_own_letters(d, &q, i, t);
        Term next = is_last ? q.out : kept_letters(&q, &have, &q.in[i], i + 1);
        KTensor *to = out;
        if (!is_last) {
            const KExpr *dims[MAX_RANK];
            for (int j = 0; j < next.rank; j++) dims[j] = q.extent[next.letter[j]];
            to = def_temp(d, "product", t, next.rank, dims);
        }
        sum_of_products(d, &q, left, &have, right, &q.in[i], to, &next, t);
        left = to;
        have = next;
    }
}
