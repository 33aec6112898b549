/* TfIdfVectorizer: how often each n-gram of a constant pool occurs in a row of tokens.
 *
 * Tokens are i64 here (the importer numbers strings). Every n-gram of a row, also those that skip
 * tokens, is hashed and looked up in an open-addressed table of the pool's:
 *
 *   for n in min .. max, for skip in 0 .. max_skip (n = 1: once), for every start:
 *       counts[row, index of x[start], x[start + step], ... x[start + (n - 1) * step]] += 1
 *   out = counts (TF), weight where it occurs (IDF), counts * weight (TFIDF) */
#include <string.h>

#include "ir/ops/check.h"

enum { MAX_GRAM = 64 };

typedef enum { MODE_TF, MODE_IDF, MODE_TFIDF } TfMode;

/* The pool in the order of the attributes; gram g has its tokens from first[g] on. */
typedef struct Pool {
    TfMode mode;
    int min, max, max_skip;
    int n_tokens, n_grams, n_weights;
    const int64_t *token, *output; /* output: column of gram g */
    const double *weight;          /* of column c, or NULL */
    int64_t *first;
    int *length; /* of gram g */
    int64_t n_columns;
} Pool;

static bool bad(Module *m, const Node *n, const char *what) {
    diag_error(m->diag, n->loc, "%s", what);
    return false;
}

/* Cuts the pool into grams: counts[k] is where those of k + 1 tokens begin. */
static bool cut_pool(Module *m, const Node *n, Pool *p) {
    const int64_t *counts;
    int n_counts = attr_ints(n, "ngram_counts", &counts);
    p->first = arena_array(m->arena, int64_t, p->n_grams + 1);
    p->length = arena_array(m->arena, int, p->n_grams + 1);
    int g = 0;
    for (int k = 0; k < n_counts; k++) {
        int64_t from = counts[k], to = k + 1 < n_counts ? counts[k + 1] : p->n_tokens;
        if (from < 0 || to < from || to > p->n_tokens || (to - from) % (k + 1) || k >= MAX_GRAM)
            return bad(m, n, "ngram_counts does not cut the pool into n-grams");
        for (int64_t at = from; at < to; at += k + 1, g++) {
            if (g == p->n_grams) return bad(m, n, "ngram_indexes is shorter than the pool");
            p->first[g] = at;
            p->length[g] = k + 1;
        }
    }
    return g == p->n_grams || bad(m, n, "ngram_indexes is longer than the pool");
}

static bool read_pool(Module *m, const Node *n, Pool *p) {
    static const char *const modes[] = {"TF", "IDF", "TFIDF"};
    const char *mode = attr_string(n, "mode", "");
    *p = (Pool){.min = (int)attr_int(n, "min_gram_length", 1),
                .max = (int)attr_int(n, "max_gram_length", 1),
                .max_skip = (int)attr_int(n, "max_skip_count", 0)};
    while (p->mode <= MODE_TFIDF && strcmp(modes[p->mode], mode)) p->mode++;
    if (p->mode > MODE_TFIDF) return bad(m, n, "mode is none of TF, IDF and TFIDF");
    if (!check_attr_int(m, n, "min_gram_length", p->min, 1, MAX_GRAM) ||
        !check_attr_int(m, n, "max_gram_length", p->max, p->min, MAX_GRAM) ||
        !check_attr_int(m, n, "max_skip_count", p->max_skip, 0, 1 << 20))
        return false;
    p->n_tokens = attr_ints(n, "pool_int64s", &p->token);
    p->n_grams = attr_ints(n, "ngram_indexes", &p->output);
    p->n_weights = attr_floats(n, "weights", &p->weight);
    for (int g = 0; g < p->n_grams; g++) {
        if (!check_attr_int(m, n, "an element of ngram_indexes", p->output[g], 0, 1 << 26))
            return false;
        if (p->output[g] >= p->n_columns) p->n_columns = p->output[g] + 1;
    }
    if (p->n_weights && p->n_weights != p->n_grams)
        return bad(m, n, "weights and ngram_indexes have different lengths");
    return cut_pool(m, n, p);
}

bool tfidf_infer(Module *m, Node *n) {
    Pool p;
    if (!check_dtype(m, n, 0, DTM(I64)) || !infer_rank(m, n, 0, 1, 2) || !read_pool(m, n, &p))
        return false;
    Shape out = shape_copy(m->arena, n->in[0]->shape);
    out.dims[out.rank - 1] = k_int(m->k, p.n_columns);
    return infer_set(m, n, 0, DT_F32, out);
}

/* ---- the table ------------------------------------------------------------------------------- */

static uint32_t mix(uint32_t h, uint32_t token) {
    h = (h ^ token) * 16777619u;
    return h ^ h >> 15;
}

typedef struct Grams {
    Def *d;
    const Pool *p;
    KTensor *x, *slots, *first, *length, *token, *output, *counts;
    int64_t n_slots;
    const KExpr *row;
} Grams;

static bool same_gram(const Pool *p, int64_t a, int64_t b) {
    return p->length[a] == p->length[b] && !memcmp(p->token + p->first[a], p->token + p->first[b],
                                                   sizeof *p->token * (size_t)p->length[a]);
}

/* Of equal grams the last one counts. */
static void make_tables(Grams *t) {
    const Pool *p = t->p;
    Def *d = t->d;
    int64_t *length = arena_array(d->m->scratch, int64_t, p->n_grams + 1), *slot;
    t->n_slots = 4;
    while (t->n_slots < 2 * p->n_grams) t->n_slots *= 2;
    slot = arena_array(d->m->scratch, int64_t, t->n_slots);
    for (int64_t i = 0; i < t->n_slots; i++) slot[i] = -1;
    for (int64_t g = 0; g < p->n_grams; g++) {
        uint32_t h = (uint32_t)p->length[g];
        for (int i = 0; i < p->length[g]; i++) h = mix(h, (uint32_t)p->token[p->first[g] + i]);
        int64_t at = h & (uint32_t)(t->n_slots - 1);
        while (slot[at] >= 0 && !same_gram(p, slot[at], g)) at = (at + 1) & (t->n_slots - 1);
        slot[at] = g;
        length[g] = p->length[g];
    }
    int n = p->n_grams ? p->n_grams : 1;
    t->slots = def_table_ints(d, "slots", DT_I32, slot, t->n_slots);
    t->first = def_table_ints(d, "first", DT_I32, p->first, n);
    t->length = def_table_ints(d, "length", DT_I32, length, n);
    int64_t none = 0;
    t->token = def_table_ints(d, "tokens", DT_I64, p->n_tokens ? p->token : &none,
                              p->n_tokens ? p->n_tokens : 1);
    t->output = def_table_ints(d, "columns", DT_I32, p->n_grams ? p->output : &none, n);
}

static const KExpr *entry(const Grams *t, KTensor *table, const KExpr *i) {
    return k_cast(t->d->k, DT_I64, def_at(t->d, table, &i, 1));
}

/* Token i of the gram of `start` and `step`. */
static const KExpr *token_at(const Grams *t, const KExpr *start, const KExpr *step, int i) {
    KCtx *k = t->d->k;
    const KExpr *at[2] = {t->row, k_add(k, start, k_mul(k, step, k_int(k, i)))};
    return def_at(t->d, t->x, at, 2);
}

/* Counts the gram of n tokens, if it is in the pool. */
static void count_gram(const Grams *t, const KExpr *start, const KExpr *step, int n) {
    KBuild *b = &t->d->b;
    KCtx *k = b->k;
    const KExpr *zero = k_int(k, 0), *h = k_const_i(k, DT_U32, n), *token[MAX_GRAM];
    for (int i = 0; i < n; i++) {
        token[i] = kb_let(b, "token", token_at(t, start, step, i));
        h = k_mul(k, k_xor(k, h, k_cast(k, DT_U32, token[i])), k_const_i(k, DT_U32, 16777619));
        h = kb_let(b, "h", k_xor(k, h, k_shr(k, h, k_const_i(k, DT_U32, 15))));
    }
    KBuf *slot = kb_alloc(b, MEM_REG, DT_I64, "slot", 1);
    KBuf *gram = kb_alloc(b, MEM_REG, DT_I64, "gram", 1);
    const KExpr *at = k_load(k, slot, zero), *g = k_load(k, gram, zero);
    const KExpr *home = k_and(k, h, k_const_i(k, DT_U32, t->n_slots - 1));
    kb_store(b, slot, zero, k_cast(k, DT_I64, home));
    kb_store(b, gram, zero, entry(t, t->slots, at));
    const KExpr *safe = k_max(k, g, zero), *first = entry(t, t->first, safe);
    const KExpr *same = k_eq(k, entry(t, t->length, safe), k_int(k, n));
    for (int i = 0; i < n; i++) { /* a shorter gram's place may be near the end: stay inside */
        const KExpr *last = k_int(k, t->p->n_tokens ? t->p->n_tokens - 1 : 0);
        const KExpr *place = k_min(k, k_add(k, first, k_int(k, i)), last);
        same = k_and(k, same, k_eq(k, entry(t, t->token, place), token[i]));
    }
    const KExpr *some = k_le(k, zero, g);
    kb_while(b, k_and(k, some, k_not(k, same)));
    kb_store(b, slot, zero, k_fmod(k, k_add(k, at, k_int(k, 1)), k_int(k, t->n_slots)));
    kb_store(b, gram, zero, entry(t, t->slots, at));
    kb_end(b);
    kb_if(b, some);
    const KExpr *column = entry(t, t->output, k_max(k, g, zero));
    const KExpr *to = k_add(k, k_mul(k, t->row, k_int(k, t->p->n_columns)), column);
    to = kb_let(b, "to", to);
    const KExpr *count = k_load(k, t->counts->buf, to);
    kb_store(b, t->counts->buf, to, k_add(k, count, k_const_f(k, DT_F32, 1)));
    kb_end(b);
}

static void count_row(const Grams *t) {
    KBuild *b = &t->d->b;
    KCtx *k = b->k;
    const KExpr *width = t->x->dims[t->x->rank - 1], *one = k_int(k, 1);
    for (int n = t->p->min; n <= t->p->max; n++) {
        const KExpr *skips = k_int(k, n == 1 ? 1 : t->p->max_skip + 1);
        const KExpr *step = k_add(k, kb_for(b, LOOP_SERIAL, "skip", skips), one);
        const KExpr *starts = k_sub(k, width, k_mul(k, step, k_int(k, n - 1)));
        const KExpr *start = kb_for(b, LOOP_SERIAL, "start", k_max(k, starts, k_int(k, 0)));
        count_gram(t, start, step, n);
        kb_end(b);
        kb_end(b);
    }
}

void tfidf_lower(Def *d, const Node *n) {
    KCtx *k = d->k;
    KBuild *b = &d->b;
    Pool p;
    bool good = read_pool(d->m, n, &p);
    BUG_IF(!good, "the pool passed infer");
    KTensor *x = def_in(d, 0), *out = def_out(d, 0);
    bool plain = p.mode == MODE_TF || (p.mode == MODE_TFIDF && !p.n_weights);
    Grams t = {.d = d, .p = &p, .x = x};
    t.counts = plain ? out : def_temp(d, "counts", DT_F32, out->rank, out->dims);
    make_tables(&t);
    Stage *s = def_program(d, &t.counts, 1);
    t.row = kb_for(b, LOOP_PARALLEL, "row", x->rank > 1 ? x->dims[0] : k_int(k, 1));
    const KExpr *columns = k_int(k, p.n_columns), *c = kb_for(b, LOOP_SERIAL, "c", columns);
    kb_store(b, t.counts->buf, k_add(k, k_mul(k, t.row, columns), c), k_const_f(k, DT_F32, 0));
    kb_end(b);
    count_row(&t);
    kb_end(b);
    def_end_program(d, s);
    if (plain) return;
    Stage *map = def_begin(d, FORM_MAP, out);
    const KExpr *zero = k_const_f(k, DT_F32, 0), *weight = k_const_f(k, DT_F32, 1);
    const KExpr *count = lower_elem(d, map, t.counts, DT_F32);
    const KExpr *column = def_axis(d, map, out->rank - 1);
    if (p.n_weights) {
        double *w = arena_array(d->m->scratch, double, p.n_columns);
        for (int g = 0; g < p.n_grams; g++) w[p.output[g]] = p.weight[g];
        weight = def_at(d, def_table_floats(d, "weights", DT_F32, w, p.n_columns), &column, 1);
    }
    bool idf = p.mode == MODE_IDF;
    def_map(d, map,
            idf ? k_select(k, k_lt(k, zero, count), weight, zero) : k_mul(k, count, weight));
}
