/* RE2's syntax: from a pattern to a tree.
 *
 * Lazy and greedy repetition and the kinds of groups make no difference to whether a text matches,
 * so they are read and forgotten. Flags: i (case), s (. takes a newline), m (^ and $ at lines), U.
 * What RE2 refuses (back references, looking ahead) is an error here too; classes of Unicode's
 * properties (\pL) are not supported. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "ir/ops/case.h"
#include "ir/ops/regex_tree.h"
#include "ir/support/diag.h"

enum { MAX_DEPTH = 250, MAX_COUNT = 1000, LAST = 0x10ffff };
enum { FLAG_FOLD = 1, FLAG_DOT_NEWLINE = 2, FLAG_LINES = 4 };

typedef struct Set {
    CodeRange *range;
    int n, cap;
} Set;

typedef struct Parser {
    Arena *a;
    const char *start, *at;
    int flags, depth;
    RegexError *error;
} Parser;

static RegexNode *parse_alternatives(Parser *p);

static void *fail(Parser *p, const char *text, bool unsupported) {
    if (!p->error->text) *p->error = (RegexError){text, (int)(p->at - p->start), unsupported};
    p->at += strlen(p->at); /* nothing more is read */
    return NULL;
}

static bool failed(const Parser *p) {
    return p->error->text != NULL;
}

static bool accept(Parser *p, const char *text) {
    size_t n = strlen(text);
    if (failed(p) || strncmp(p->at, text, n)) return false;
    p->at += n;
    return true;
}

/* ---- sets ------------------------------------------------------------------------------------ */

static void set_add(Parser *p, Set *s, int32_t lo, int32_t hi) {
    if (lo > hi) return;
    if (s->n == s->cap) {
        int cap = s->cap ? s->cap * 2 : 16;
        CodeRange *wider = arena_array(p->a, CodeRange, cap);
        if (s->n) memcpy(wider, s->range, sizeof *wider * (size_t)s->n);
        s->range = wider;
        s->cap = cap;
    }
    s->range[s->n++] = (CodeRange){lo, hi};
}

static int by_low(const void *a, const void *b) {
    const CodeRange *x = a, *y = b;
    return x->lo < y->lo ? -1 : x->lo > y->lo;
}

static void set_tidy(Set *s) {
    int n = 0;
    if (s->n) qsort(s->range, (size_t)s->n, sizeof *s->range, by_low);
    for (int i = 0; i < s->n; i++) {
        CodeRange r = s->range[i];
        if (n && r.lo <= s->range[n - 1].hi + 1) {
            if (r.hi > s->range[n - 1].hi) s->range[n - 1].hi = r.hi;
        } else {
            s->range[n++] = r;
        }
    }
    s->n = n;
}

static void set_invert(Parser *p, Set *s) {
    Set out = {0};
    int32_t from = 0;
    set_tidy(s);
    for (int i = 0; i < s->n; i++) {
        set_add(p, &out, from, s->range[i].lo - 1);
        from = s->range[i].hi + 1;
    }
    set_add(p, &out, from, LAST);
    *s = out;
}

static bool set_has(const Set *s, int n, int32_t c) {
    for (int i = 0; i < n; i++)
        if (c >= s->range[i].lo && c <= s->range[i].hi) return true;
    return false;
}

/* Adds what members that have another case become in it. */
static void add_case(Parser *p, Set *s, int n, const CaseRange *r, int n_ranges) {
    for (int i = 0; i < n_ranges; i++)
        for (int32_t c = r[i].first; c <= r[i].last; c += r[i].step)
            if (set_has(s, n, c)) set_add(p, s, c + r[i].delta, c + r[i].delta);
}

/* Adds the other case of every member. */
static void set_fold(Parser *p, Set *s) {
    set_tidy(s);
    int n = s->n;
    add_case(p, s, n, case_lower, n_case_lower);
    add_case(p, s, n, case_upper, n_case_upper);
    set_tidy(s);
}

static RegexNode *node(Parser *p, RegexKind kind) {
    RegexNode *n = arena_new(p->a, RegexNode);
    n->kind = kind;
    return n;
}

static RegexNode *set_node(Parser *p, Set *s) {
    RegexNode *n = node(p, RE_SET);
    set_tidy(s);
    n->range = s->range;
    n->n_ranges = s->n;
    return n;
}

static RegexNode *literal(Parser *p, int32_t c) {
    Set s = {0};
    set_add(p, &s, c, c);
    if (p->flags & FLAG_FOLD) {
        set_add(p, &s, case_to_lower(c), case_to_lower(c));
        set_add(p, &s, case_to_upper(c), case_to_upper(c));
    }
    return set_node(p, &s);
}

static RegexNode *join(Parser *p, RegexKind kind, RegexNode *a, RegexNode *b) {
    if (!a || !b) return a ? a : b;
    RegexNode *n = node(p, kind);
    n->a = a;
    n->b = b;
    return n;
}

/* ---- characters ------------------------------------------------------------------------------ */

static int32_t next_code(Parser *p) {
    const unsigned char *s = (const unsigned char *)p->at;
    int n = *s < 0x80 ? 1 : *s < 0xc2 ? 0 : *s < 0xe0 ? 2 : *s < 0xf0 ? 3 : *s < 0xf5 ? 4 : 0;
    int32_t c = n == 1 ? *s : *s & (0xff >> (n + 1));
    for (int i = 1; i < n; i++) {
        if ((s[i] & 0xc0) != 0x80) n = 0;
        c = c << 6 | (s[i] & 0x3f);
    }
    if (!n || !*s) {
        fail(p, n ? "ends too early" : "is not UTF-8", false);
        return 0;
    }
    p->at += n;
    return c;
}

static const struct {
    const char *name;
    const char *ranges; /* pairs of ends */
} classes[] = {
    {"alnum", "09AZaz"},  {"alpha", "AZaz"},     {"ascii", NULL},     {"blank", "\t\t  "},
    {"cntrl", NULL},      {"digit", "09"},       {"graph", "!~"},     {"lower", "az"},
    {"print", " ~"},      {"punct", "!/:@[`{~"}, {"space", "\t\r  "}, {"upper", "AZ"},
    {"word", "09AZaz__"}, {"xdigit", "09AFaf"},
};

static void add_class(Parser *p, Set *s, const char *name, bool inverted) {
    Set own = {0};
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++) {
        if (strcmp(classes[i].name, name)) continue;
        for (const char *r = classes[i].ranges; r && *r; r += 2) set_add(p, &own, r[0], r[1]);
    }
    if (!strcmp(name, "ascii")) set_add(p, &own, 0, 0x7f);
    if (!strcmp(name, "cntrl")) set_add(p, &own, 0, 0x1f), set_add(p, &own, 0x7f, 0x7f);
    if (!own.n) {
        fail(p, "names a class that does not exist", false);
        return;
    }
    if (p->flags & FLAG_FOLD) set_fold(p, &own);
    if (inverted) set_invert(p, &own);
    for (int i = 0; i < own.n; i++) set_add(p, s, own.range[i].lo, own.range[i].hi);
}

/* \d and its kind: true when the escape was one, and is read. */
static bool perl_class(Parser *p, Set *s) {
    static const char letters[] = "dDsSwW";
    const char *which = *p->at == '\\' && p->at[1] ? strchr(letters, p->at[1]) : NULL;
    if (!which) return false;
    int kind = (int)(which - letters);
    p->at += 2;
    if (kind / 2 == 1) { /* \s has no \v, [:space:] has */
        Set own = {0};
        set_add(p, &own, '\t', '\n');
        set_add(p, &own, '\f', '\r');
        set_add(p, &own, ' ', ' ');
        if (kind % 2) set_invert(p, &own);
        for (int i = 0; i < own.n; i++) set_add(p, s, own.range[i].lo, own.range[i].hi);
    } else {
        add_class(p, s, kind / 2 ? "word" : "digit", kind % 2 != 0);
    }
    return true;
}

static int32_t hex_escape(Parser *p) {
    char text[9] = {0};
    size_t n = 0;
    bool braces = accept(p, "{");
    while (isxdigit((unsigned char)*p->at) && n < (braces ? 8 : 2)) text[n++] = *p->at++;
    bool good = n && (braces ? accept(p, "}") : n == 2);
    unsigned long c = strtoul(text, NULL, 16);
    if (good && c <= LAST) return (int32_t)c;
    fail(p, "has a bad \\x escape", false);
    return 0;
}

/* The code point of an escape, behind the backslash. */
static int32_t escape(Parser *p) {
    static const char from[] = "afnrtv", to[] = "\a\f\n\r\t\v";
    char c = *p->at;
    const char *simple = c ? strchr(from, c) : NULL;
    if (simple) return p->at++, to[simple - from];
    if (c == 'x') return p->at++, hex_escape(p);
    if (c == '0' || (c >= '1' && c <= '7' && p->at[1] >= '0' && p->at[1] <= '7')) {
        int32_t v = 0;
        for (int i = 0; i < 3 && *p->at >= '0' && *p->at <= '7'; i++) v = v * 8 + *p->at++ - '0';
        return v;
    }
    if (isdigit((unsigned char)c)) return fail(p, "refers back to a group", false), 0;
    if (isalpha((unsigned char)c))
        return fail(p, "has an escape that is not known", c == 'p' || c == 'P'), 0;
    return next_code(p);
}

static int32_t class_member(Parser *p) {
    if (accept(p, "\\")) return escape(p);
    return next_code(p);
}

/* Behind '['. */
static RegexNode *parse_set(Parser *p) {
    Set s = {0};
    bool inverted = accept(p, "^"), first = true;
    for (; !failed(p) && (first || *p->at != ']'); first = false) {
        if (!*p->at) return fail(p, "lacks a ']'", false);
        if (!strncmp(p->at, "[:", 2) && strstr(p->at, ":]")) {
            p->at += 2;
            bool opposite = accept(p, "^");
            size_t n = (size_t)(strstr(p->at, ":]") - p->at);
            char name[16] = {0};
            if (n < sizeof name) memcpy(name, p->at, n);
            p->at += n + 2;
            add_class(p, &s, name, opposite);
            continue;
        }
        if (perl_class(p, &s)) continue;
        int32_t lo = class_member(p), hi = lo;
        if (*p->at == '-' && p->at[1] && p->at[1] != ']') {
            p->at++;
            hi = class_member(p);
        }
        if (lo > hi) return fail(p, "has a range that ends before it begins", false);
        set_add(p, &s, lo, hi);
    }
    if (failed(p)) return NULL;
    p->at++;
    if (p->flags & FLAG_FOLD) set_fold(p, &s);
    if (inverted) set_invert(p, &s);
    return set_node(p, &s);
}

/* ---- the tree -------------------------------------------------------------------------------- */

static RegexNode *assertion(Parser *p, RegexAssert what) {
    RegexNode *n = node(p, RE_ASSERT);
    n->what = what;
    return n;
}

/* \Q...\E */
static RegexNode *quoted(Parser *p) {
    RegexNode *all = node(p, RE_EMPTY);
    while (!failed(p) && *p->at && !accept(p, "\\E"))
        all = join(p, RE_CAT, all, literal(p, next_code(p)));
    return all;
}

/* Flags in "(?", up to ':' or ')'; false when they are none. */
static bool read_flags(Parser *p) {
    bool clear = false;
    for (;; p->at++) {
        int flag = *p->at == 'i'   ? FLAG_FOLD
                   : *p->at == 's' ? FLAG_DOT_NEWLINE
                   : *p->at == 'm' ? FLAG_LINES
                                   : 0;
        if (*p->at == '-' && !clear)
            clear = true;
        else if (flag)
            p->flags = clear ? p->flags & ~flag : p->flags | flag;
        else if (*p->at != 'U')
            return *p->at == ':' || *p->at == ')';
    }
}

/* Behind '('. */
static RegexNode *parse_group(Parser *p) {
    int flags = p->flags;
    if (accept(p, "?P<") || (p->at[0] == '?' && p->at[1] == '<' && accept(p, "?<"))) {
        if (*p->at == '=' || *p->at == '!') return fail(p, "looks behind", false);
        while (isalnum((unsigned char)*p->at) || *p->at == '_') p->at++;
        if (!accept(p, ">")) return fail(p, "has a group with a bad name", false);
    } else if (accept(p, "?")) {
        if (!read_flags(p)) return fail(p, "has a group that is not known", false);
        if (*p->at++ == ')') return node(p, RE_EMPTY); /* up to the end of the group around it */
    }
    if (++p->depth > MAX_DEPTH) return fail(p, "nests too deeply", true);
    RegexNode *n = parse_alternatives(p);
    p->depth--;
    p->flags = flags;
    if (!accept(p, ")")) return fail(p, "lacks a ')'", false);
    return n;
}

static RegexNode *parse_atom(Parser *p) {
    Set s = {0};
    if (accept(p, "(")) return parse_group(p);
    if (accept(p, "[")) return parse_set(p);
    if (accept(p, "^")) return assertion(p, p->flags & FLAG_LINES ? RE_BEGIN_LINE : RE_BEGIN_TEXT);
    if (accept(p, "$")) return assertion(p, p->flags & FLAG_LINES ? RE_END_LINE : RE_END_TEXT);
    if (accept(p, ".")) {
        if (!(p->flags & FLAG_DOT_NEWLINE)) set_add(p, &s, '\n', '\n');
        set_invert(p, &s);
        return set_node(p, &s);
    }
    if (accept(p, "\\A")) return assertion(p, RE_BEGIN_TEXT);
    if (accept(p, "\\z")) return assertion(p, RE_END_TEXT);
    if (accept(p, "\\b")) return assertion(p, RE_WORD_BORDER);
    if (accept(p, "\\B")) return assertion(p, RE_NO_WORD_BORDER);
    if (accept(p, "\\C")) return node(p, RE_BYTE);
    if (accept(p, "\\Q")) return quoted(p);
    if (perl_class(p, &s)) return set_node(p, &s);
    if (strchr("*+?", *p->at)) return fail(p, "repeats nothing", false);
    return literal(p, accept(p, "\\") ? escape(p) : next_code(p));
}

/* {n}, {n,} or {n,m}; anything else in braces is text. */
static bool read_counts(Parser *p, int *min, int *max) {
    char *end;
    if (*p->at != '{' || !isdigit((unsigned char)p->at[1])) return false;
    long lo = strtol(p->at + 1, &end, 10), hi = lo;
    if (*end == ',') {
        hi = -1;
        if (isdigit((unsigned char)*++end)) hi = strtol(end, &end, 10);
    }
    if (*end != '}') return false;
    p->at = end + 1;
    *min = (int)(lo > MAX_COUNT ? MAX_COUNT : lo);
    *max = (int)(hi > MAX_COUNT ? MAX_COUNT : hi);
    if (lo > MAX_COUNT || hi > MAX_COUNT || (hi >= 0 && hi < lo))
        fail(p, "has a bad count of repetitions", false);
    return true;
}

static RegexNode *parse_repeated(Parser *p) {
    RegexNode *n = parse_atom(p);
    for (bool again = false; n && !failed(p); again = true) {
        int min = 0, max = -1;
        if (accept(p, "*"))
            min = 0;
        else if (accept(p, "+"))
            min = 1;
        else if (accept(p, "?"))
            max = 1;
        else if (!read_counts(p, &min, &max))
            break;
        accept(p, "?"); /* lazily */
        if (again) return fail(p, "repeats a repetition", false);
        RegexNode *repeat = node(p, RE_REPEAT);
        repeat->a = n;
        repeat->min = min;
        repeat->max = max;
        n = repeat;
    }
    return n;
}

static RegexNode *parse_sequence(Parser *p) {
    RegexNode *all = node(p, RE_EMPTY);
    while (!failed(p) && *p->at && *p->at != '|' && *p->at != ')')
        all = join(p, RE_CAT, all, parse_repeated(p));
    return all;
}

static RegexNode *parse_alternatives(Parser *p) {
    RegexNode *all = parse_sequence(p);
    while (accept(p, "|")) all = join(p, RE_ALT, all, parse_sequence(p));
    return all;
}

RegexNode *regex_parse(Arena *a, const char *pattern, RegexError *error) {
    Parser p = {.a = a, .start = pattern, .at = pattern, .error = error};
    *error = (RegexError){0};
    RegexNode *n = parse_alternatives(&p);
    if (!failed(&p) && *p.at == ')') fail(&p, "has a ')' without a '('", false);
    return failed(&p) ? NULL : n;
}
