/* Guesses for sizes that calls bring along: see k_guess() and module_guess_sizes().
 *
 * A schedule for any size is still best for some. What a size probably is follows from where the
 * caller's symbols are: height and width of an image are a few hundred elements. All other sizes
 * are expressions over these, so a guess for them needs no rule of its own: the map of a net's last
 * stage, (((h + 1)//2 + 1)//2 ...), is 7 wide where the image is 224. */
#include "ir/graph.h"

enum {
    GUESSED_MAP = 224,   /* height and width of images, */
    GUESSED_VOLUME = 64, /* and of volumes, with their depth */
    LEAST_COUNT = 16, /* of what no symbol has a guess: 197*batch is many rows, batch may be any */
    MOST_NODES = 512, /* an expression that is longer is not looked at */
};

typedef struct Guess {
    int left;   /* nodes that may still be looked at */
    bool knows; /* some symbol has a guess */
    bool fails; /* there is more than arithmetic over symbols */
} Guess;

static int64_t value_of(Guess *g, const KExpr *e);

static int64_t value_of_var(Guess *g, const KVar *v) {
    if (v->value) return value_of(g, v->value);
    g->fails |= v->kind != KV_SYMBOL || v->computed;
    g->knows |= v->guess > 0;
    return v->guess ? v->guess : 1;
}

static int64_t divided(Guess *g, const KExpr *e, int64_t a, int64_t b) {
    if (a < 0 || b <= 0) { /* no size */
        g->fails = true;
        return 0;
    }
    return e->op == KO_fdiv || e->op == KO_div ? a / b : a % b;
}

static int64_t value_of(Guess *g, const KExpr *e) {
    int64_t n = 0;
    if (k_is_int(e, &n)) return n;
    if (g->fails || !g->left--) {
        g->fails = true;
        return 0;
    }
    if (e->op == KO_var) return value_of_var(g, e->u.var);
    bool is_binary = e->op == KO_add || e->op == KO_sub || e->op == KO_mul || e->op == KO_min ||
                     e->op == KO_max || e->op == KO_fdiv || e->op == KO_div || e->op == KO_fmod;
    if (!is_binary) {
        g->fails = true;
        return 0;
    }
    int64_t a = value_of(g, e->arg[0]), b = value_of(g, e->arg[1]);
    if (e->op == KO_min) return a < b ? a : b;
    if (e->op == KO_max) return a > b ? a : b;
    if (e->op == KO_add)
        g->fails |= __builtin_add_overflow(a, b, &n);
    else if (e->op == KO_sub)
        g->fails |= __builtin_sub_overflow(a, b, &n);
    else if (e->op == KO_mul)
        g->fails |= __builtin_mul_overflow(a, b, &n);
    else
        n = divided(g, e, a, b);
    return n;
}

/* The value of e under the guesses; false where they say nothing of it. */
static bool guessed_value(const KExpr *e, int64_t *n) {
    Guess g = {.left = MOST_NODES};
    *n = value_of(&g, e);
    if (g.fails || (!g.knows && *n < LEAST_COUNT)) return false;
    if (*n < e->lo) *n = e->lo;
    if (*n > e->hi) *n = e->hi;
    return true;
}

double k_most(const KExpr *e) {
    return e->hi == INT64_MAX ? 1e4 : (double)e->hi;
}

bool k_is_guessed(const KExpr *e) {
    int64_t n;
    return !k_is_int(e, &n) && guessed_value(e, &n);
}

int64_t k_guess(const KExpr *e, int64_t otherwise) {
    int64_t n;
    return k_is_int(e, &n) || guessed_value(e, &n) ? n : otherwise;
}

static void guess_dim(const KExpr *dim, int64_t guess) {
    KVar *v = dim->op == KO_var ? dim->u.var : NULL;
    if (!v || v->kind != KV_SYMBOL || v->computed || v->guess) return;
    v->guess = guess < v->lo ? v->lo : guess > v->hi ? v->hi : guess;
}

/* Images are [n, c, h, w] or [n, h, w, c], volumes have a depth as well. What a decoder carries
 * along, [n, heads, past, 64], is neither. */
static void guess_image(const Shape *shape) {
    enum { MOST_COLOURS = 4 };
    int last = shape->rank - 1;
    int64_t n;
    if (shape->rank < 4 || shape->rank > 5) return;
    bool is_known = k_is_int(shape->dims[last], &n);
    bool ends_in_colours = is_known && n <= MOST_COLOURS;
    if (is_known && !ends_in_colours) return;
    int64_t guess = shape->rank == 4 ? GUESSED_MAP : GUESSED_VOLUME;
    for (int i = 1 + !ends_in_colours; i <= last - ends_in_colours; i++)
        guess_dim(shape->dims[i], guess);
}

void module_guess_sizes(Module *m) {
    for (uint32_t i = 0; m->main && i < m->main->inputs.n; i++)
        guess_image(&m->main->inputs.at[i]->shape);
}
