/* From a parsed regular expression to a table, in two classical steps.
 *
 * An automaton of byte ranges, splits and assertions is built backwards: emit(node, next) returns
 * where node begins when what follows it begins at `next`. Then its sets of states become the
 * table's states. Assertions look at the bytes on both sides, so a state is a set before its splits
 * are followed, together with what kind of byte came last; the splits are followed when the kind of
 * the next byte (or the end) is known too. */
#include "ir/ops/regex_tree.h"

#include <stdlib.h>
#include <string.h>

#include "ir/support/map.h"

enum { MAX_NODES = 200000, MAX_STATES = 20000, MAX_TABLE = 4 << 20 };
static const int64_t MOST_WORK = 400000000; /* steps: seconds, whatever the pattern */

typedef enum { NFA_RANGE, NFA_SPLIT, NFA_ASSERT, NFA_ACCEPT } NfaKind;
/* Of a byte, or of what is there instead of one. */
typedef enum { SIDE_EDGE, SIDE_WORD, SIDE_NEWLINE, SIDE_OTHER, N_SIDES } Side;

typedef struct Nfa {
    uint8_t kind, lo, hi, what;
    int32_t next, other;
} Nfa;

typedef struct Builder {
    Arena *a;
    Nfa *nfa;
    int n, cap;
    bool full, looks_around;
} Builder;

static int add(Builder *b, Nfa n) {
    if (b->n >= MAX_NODES) {
        b->full = true;
        return 0;
    }
    if (b->n == b->cap) {
        int cap = b->cap ? b->cap * 2 : 64;
        Nfa *wider = arena_array(b->a, Nfa, cap);
        if (b->n) memcpy(wider, b->nfa, sizeof *wider * (size_t)b->n);
        b->nfa = wider;
        b->cap = cap;
    }
    b->nfa[b->n] = n;
    return b->n++;
}

static int split(Builder *b, int x, int y) {
    return add(b, (Nfa){.kind = NFA_SPLIT, .next = x, .other = y});
}

/* ---- UTF-8 ----------------------------------------------------------------------------------- */

static int utf8(int32_t c, uint8_t *to) {
    int n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (int i = n - 1; i > 0; i--, c >>= 6) to[i] = (uint8_t)(0x80 | (c & 0x3f));
    to[0] = (uint8_t)(n == 1 ? c : (0xf00 >> n & 0xff) | c);
    return n;
}

/* The code points lo .. hi, then `next`; before them the choice of `rest` (-1: none). Ranges are
 * halved until each byte of their ends varies on its own. */
static int emit_codes(Builder *b, int32_t lo, int32_t hi, int next, int rest) {
    static const int32_t longest[] = {0x7f, 0x7ff, 0xffff};
    for (int i = 0; i < 3; i++)
        if (lo <= longest[i] && hi > longest[i])
            return emit_codes(b, lo, longest[i], next,
                              emit_codes(b, longest[i] + 1, hi, next, rest));
    for (int i = 1; i < 4 && hi > 0x7f; i++) {
        int32_t mask = (1 << 6 * i) - 1;
        if ((lo & ~mask) == (hi & ~mask)) continue;
        if (lo & mask)
            return emit_codes(b, lo, lo | mask, next,
                              emit_codes(b, (lo | mask) + 1, hi, next, rest));
        if ((hi & mask) != mask)
            return emit_codes(b, lo, (hi & ~mask) - 1, next,
                              emit_codes(b, hi & ~mask, hi, next, rest));
    }
    uint8_t from[4], to[4];
    int n = utf8(lo, from);
    utf8(hi, to);
    for (int i = n - 1; i >= 0; i--)
        next = add(b, (Nfa){.kind = NFA_RANGE, .lo = from[i], .hi = to[i], .next = next});
    return rest < 0 ? next : split(b, next, rest);
}

/* ---- the automaton --------------------------------------------------------------------------- */

static int emit(Builder *b, const RegexNode *n, int next);

static int emit_repeat(Builder *b, const RegexNode *n, int next) {
    int at = next;
    if (n->max < 0) {
        int loop = split(b, 0, next), body = emit(b, n->a, loop);
        b->nfa[loop].next = body;
        at = loop;
    }
    for (int i = n->min; i < n->max && !b->full; i++) at = split(b, emit(b, n->a, at), next);
    for (int i = 0; i < n->min && !b->full; i++) at = emit(b, n->a, at);
    return at;
}

/* Sequences nest to the left as deep as they are long: walked along that side. */
static int emit(Builder *b, const RegexNode *n, int next) {
    for (; n->kind == RE_CAT && !b->full; n = n->a) next = emit(b, n->b, next);
    int at = -1;
    switch (n->kind) {
    case RE_EMPTY:
    case RE_CAT: return next;
    case RE_SET:
        for (int i = n->n_ranges; i-- > 0;)
            at = emit_codes(b, n->range[i].lo, n->range[i].hi, next, at);
        return at >= 0 ? at : add(b, (Nfa){.kind = NFA_RANGE, .lo = 1, .hi = 0, .next = next});
    case RE_BYTE: return add(b, (Nfa){.kind = NFA_RANGE, .lo = 0, .hi = 255, .next = next});
    case RE_ALT:
        for (; n->kind == RE_ALT && !b->full; n = n->a) {
            int branch = emit(b, n->b, next);
            at = at < 0 ? branch : split(b, branch, at);
        }
        return split(b, emit(b, n, next), at);
    case RE_REPEAT: return emit_repeat(b, n, next);
    case RE_ASSERT:
        b->looks_around = true;
        return add(b, (Nfa){.kind = NFA_ASSERT, .what = (uint8_t)n->what, .next = next});
    }
    return next;
}

/* ---- the table ------------------------------------------------------------------------------- */

typedef struct Table {
    Arena *a;
    const Nfa *nfa;
    int n_nfa;
    StrMap *known; /* text of a set -> its number + 1 */
    struct {
        const int32_t *set;
        int n;
        Side before;
    } * state;
    int n_states;
    uint32_t *mark, now; /* of automaton states: seen in this walk */
    int32_t *stack, *found;
    uint8_t first[256]; /* of each class: its first byte */
    int n_classes;
    int64_t work;
} Table;

static Side side_of(int byte) {
    bool word = (byte >= '0' && byte <= '9') || (byte >= 'A' && byte <= 'Z') || byte == '_' ||
                (byte >= 'a' && byte <= 'z');
    return word ? SIDE_WORD : byte == '\n' ? SIDE_NEWLINE : SIDE_OTHER;
}

static bool holds(int what, Side before, Side after) {
    bool border = (before == SIDE_WORD) != (after == SIDE_WORD);
    switch ((RegexAssert)what) {
    case RE_BEGIN_TEXT: return before == SIDE_EDGE;
    case RE_END_TEXT: return after == SIDE_EDGE;
    case RE_BEGIN_LINE: return before == SIDE_EDGE || before == SIDE_NEWLINE;
    case RE_END_LINE: return after == SIDE_EDGE || after == SIDE_NEWLINE;
    case RE_WORD_BORDER: return border;
    case RE_NO_WORD_BORDER: return !border;
    }
    return false;
}

/* The ranges and the end that are reached from a set without a byte, in found[]; how many. */
static int follow(Table *t, int state, Side after) {
    int n_stack = 0, n_found = 0;
    t->now++;
    for (int i = t->state[state].n; i-- > 0;) t->stack[n_stack++] = t->state[state].set[i];
    while (n_stack) {
        int32_t at = t->stack[--n_stack];
        t->work++;
        if (t->mark[at] == t->now) continue;
        t->mark[at] = t->now;
        const Nfa *n = &t->nfa[at];
        if (n->kind == NFA_SPLIT) {
            t->stack[n_stack++] = n->other;
            t->stack[n_stack++] = n->next;
        } else if (n->kind == NFA_ASSERT) {
            if (holds(n->what, t->state[state].before, after)) t->stack[n_stack++] = n->next;
        } else {
            t->found[n_found++] = at;
        }
    }
    return n_found;
}

static int by_number(const void *a, const void *b) {
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return x < y ? -1 : x > y;
}

/* The number of the state with this set (sorted here); -1 when there are too many. */
static int state_of(Table *t, int32_t *set, int n, Side before) {
    int kept = 0;
    if (n) qsort(set, (size_t)n, sizeof *set, by_number);
    for (int i = 0; i < n; i++)
        if (!kept || set[kept - 1] != set[i]) set[kept++] = set[i];
    int32_t *key = arena_array(t->a, int32_t, kept + 1);
    if (kept) memcpy(key, set, sizeof *key * (size_t)kept);
    key[kept] = kept ? (int32_t)before : 0; /* nothing can follow: one dead state */
    size_t n_bytes = sizeof *key * (size_t)(kept + 1);
    uintptr_t known = (uintptr_t)strmap_get_bytes(t->known, (const char *)key, n_bytes);
    if (known) return (int)known - 1;
    if (t->n_states == MAX_STATES || (t->n_states + 1) * t->n_classes > MAX_TABLE) return -1;
    t->state[t->n_states].set = key;
    t->state[t->n_states].n = kept;
    t->state[t->n_states].before = before;
    strmap_put_bytes(t->known, (const char *)key, n_bytes, (void *)(uintptr_t)(t->n_states + 1));
    return t->n_states++;
}

static void find_classes(Table *t, Regex *out) {
    bool starts[257] = {true};
    for (int b = 1; b < 256; b++) starts[b] = side_of(b) != side_of(b - 1);
    for (int i = 0; i < t->n_nfa; i++) {
        if (t->nfa[i].kind != NFA_RANGE || t->nfa[i].lo > t->nfa[i].hi) continue;
        starts[t->nfa[i].lo] = true;
        starts[t->nfa[i].hi + 1] = true;
    }
    for (int b = 0; b < 256; b++) {
        if (starts[b]) t->first[t->n_classes++] = (uint8_t)b;
        out->class_of[b] = t->n_classes - 1;
    }
    out->n_classes = t->n_classes;
}

/* Follows every class from every state, those that are met on the way included. */
static bool fill_table(Table *t, Regex *out, int32_t *set) {
    int64_t *next = NULL;
    int cap = 0;
    for (int s = 0; s < t->n_states; s++) {
        if (s >= cap) {
            cap = cap ? cap * 2 : 64;
            int64_t *wider = arena_array(t->a, int64_t, cap * t->n_classes);
            if (s) memcpy(wider, next, sizeof *wider * (size_t)(s * t->n_classes));
            next = wider;
        }
        for (int c = 0; c < t->n_classes; c++) {
            Side side = side_of(t->first[c]);
            int n_found = follow(t, s, side), n = 0;
            for (int i = 0; i < n_found; i++) {
                const Nfa *f = &t->nfa[t->found[i]];
                if (f->kind == NFA_RANGE && f->lo <= t->first[c] && t->first[c] <= f->hi)
                    set[n++] = f->next;
            }
            int to = state_of(t, set, n, side);
            if (to < 0 || t->work > MOST_WORK) return false;
            next[s * t->n_classes + c] = to;
        }
    }
    out->next = next;
    out->n_states = t->n_states;
    out->accepts = arena_array(t->a, int64_t, t->n_states);
    for (int s = 0; s < t->n_states; s++)
        for (int i = follow(t, s, SIDE_EDGE); i-- > 0;)
            if (t->nfa[t->found[i]].kind == NFA_ACCEPT) out->accepts[s] = 1;
    return true;
}

bool regex_compile(Arena *a, const char *pattern, Regex *out, RegexError *error) {
    *out = (Regex){0};
    const RegexNode *tree = regex_parse(a, pattern, error);
    if (!tree) return false;
    Builder b = {.a = a};
    int32_t start = emit(&b, tree, add(&b, (Nfa){.kind = NFA_ACCEPT}));
    Table t = {.a = a, .nfa = b.nfa, .n_nfa = b.n, .known = strmap_create(a)};
    out->looks_around = b.looks_around;
    bool fits = !b.full;
    if (fits) {
        int32_t *set = arena_array(a, int32_t, b.n + 1);
        t.state = arena_alloc_array(a, MAX_STATES, sizeof *t.state);
        t.mark = arena_array(a, uint32_t, b.n + 1);
        t.stack = arena_array(a, int32_t, 3 * b.n + 2);
        t.found = arena_array(a, int32_t, b.n + 1);
        find_classes(&t, out);
        state_of(&t, set, 0, SIDE_EDGE);
        set[0] = start;
        state_of(&t, set, 1, SIDE_EDGE);
        fits = fill_table(&t, out, set);
    }
    if (!fits) *error = (RegexError){"needs a table that is too large", 0, true};
    return fits;
}
