/* Reading files of a user's own operators: see op_file.h. A line is one declaration; a bad one is
 * reported with its number, and reading goes on. */
#include "frontend/op_file.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "frontend/mapped.h"
#include "ir/custom.h"
#include "ir/support/str.h"

typedef struct Line {
    Arena *a;
    Diag *d;
    const char *path;
    int number;
    const char *at;
    bool bad;
} Line;

static void complain(Line *l, const char *what, const char *found) {
    if (!l->bad)
        diag_error(l->d, (SrcLoc){.file = l->path, .index = -1, .offset = -1}, "line %d: %s%s%s%s",
                   l->number, what, found ? " '" : "", found ? found : "", found ? "'" : "");
    l->bad = true;
}

/* ---- words ----------------------------------------------------------------------------------- */

static void skip_blanks(Line *l) {
    while (*l->at == ' ' || *l->at == '\t' || *l->at == '\r') l->at++;
}

static bool accept(Line *l, const char *what) {
    skip_blanks(l);
    size_t n = strlen(what);
    if (l->bad || strncmp(l->at, what, n)) return false;
    l->at += n;
    return true;
}

static void expect(Line *l, const char *what) {
    if (!accept(l, what)) complain(l, arena_printf(l->a, "'%s' is missing at", what), l->at);
}

/* Letters, digits, '_' and those in `more`. */
static const char *word(Line *l, const char *more, const char *what) {
    skip_blanks(l);
    const char *from = l->at;
    while (isalnum((unsigned char)*l->at) || *l->at == '_' || (*l->at && strchr(more, *l->at)))
        l->at++;
    if (l->at == from) complain(l, arena_printf(l->a, "%s is missing at", what), l->at);
    return intern_bytes(from, (size_t)(l->at - from));
}

static const char *c_name(Line *l, const char *what) {
    const char *name = word(l, "", what);
    if (isdigit((unsigned char)*name)) complain(l, "this is no name in C:", name);
    return name;
}

/* The text of a type's dims with its brackets; "" when there are none. */
static const char *dims_text(Line *l) {
    skip_blanks(l);
    const char *from = l->at;
    if (*from != '[') return "";
    size_t n = strcspn(from, "]");
    if (!from[n]) {
        complain(l, "']' is missing at", from);
        return "";
    }
    l->at += n + 1;
    return intern_bytes(from, n + 1);
}

/* ---- declarations ---------------------------------------------------------------------------- */

/* What attributes may be, and how the function gets them. */
static const struct {
    const char *word, *type;
    AttrKind kind;
    bool is_list;
} attr_types[] = {
    {"float", "f32", AT_FLOAT, false}, {"floats", "f32", AT_FLOATS, true},
    {"int", "i64", AT_INT, false},     {"ints", "i64", AT_INTS, true},
    {"string", "u8", AT_STRING, true},
};

static void read_default(Line *l, OpFileAttr *attr) {
    char *end = NULL;
    attr->is_required = !accept(l, "=");
    if (attr->is_required) return;
    skip_blanks(l);
    if (attr->kind == AT_FLOAT) attr->f = strtod(l->at, &end);
    if (attr->kind == AT_INT) attr->i = strtoll(l->at, &end, 10);
    if (!end) complain(l, "only attributes of type float and int have defaults, not", attr->name);
    if (end == l->at) complain(l, "a number is missing at", l->at);
    if (end) l->at = end;
}

/* NAME: TYPE of an input or attribute, appended to the signature. */
static void read_parameter(Line *l, OpFileOp *op, StrBuf *signature) {
    const char *name = c_name(l, "a parameter's name"), *type;
    expect(l, ":");
    type = word(l, "", "a type");
    const char *dims = dims_text(l);
    for (size_t i = 0; !l->bad && i < sizeof attr_types / sizeof *attr_types; i++) {
        if (strcmp(attr_types[i].word, type)) continue;
        if (op->n_attrs == OP_FILE_ATTRS) {
            complain(l, "there are too many attributes", NULL);
            return;
        }
        if (attr_types[i].is_list != (*dims != 0))
            complain(l,
                     attr_types[i].is_list ? "a list needs its length, TYPE[NAME], at"
                                           : "a number has no length:",
                     name);
        OpFileAttr *attr = &op->attr[op->n_attrs++];
        *attr = (OpFileAttr){.name = name, .kind = attr_types[i].kind};
        strbuf_printf(signature, "%s%s", attr_types[i].type, *dims ? dims : "[]");
        read_default(l, attr);
        return;
    }
    if (op->n_attrs) complain(l, "an input stands behind an attribute:", name);
    if (!*dims) complain(l, "a type is written DTYPE[DIMS], also of a scalar; wrong at", name);
    strbuf_printf(signature, "%s%s", type, dims);
    op->n_in++;
}

static void read_result(Line *l, OpFileOp *op, StrBuf *signature) {
    const char *name = c_name(l, "an output's name");
    expect(l, ":");
    const char *type = word(l, "", "a type"), *dims = dims_text(l);
    if (!*dims) complain(l, "a type is written DTYPE[DIMS], also of a scalar; wrong at", name);
    strbuf_printf(signature, "%s%s", type, dims);
    op->n_out++;
}

static void read_signature(Line *l, OpFileOp *op) {
    StrBuf s = {0};
    expect(l, "(");
    for (int i = 0; !l->bad && !accept(l, ")"); i++) {
        if (i) {
            expect(l, ",");
            strbuf_add(&s, ", ");
        }
        if (!l->bad) read_parameter(l, op, &s);
    }
    expect(l, "->");
    strbuf_add(&s, " -> ");
    expect(l, "(");
    for (int i = 0; !l->bad && !accept(l, ")"); i++) {
        if (i) {
            expect(l, ",");
            strbuf_add(&s, ", ");
        }
        if (!l->bad) read_result(l, op, &s);
    }
    op->signature = arena_strdup(l->a, strbuf_text(&s));
    strbuf_free(&s);
}

/* The types by themselves make sense. */
static void check_signature(Line *l, const OpFileOp *op) {
    Arena *scratch = arena_create();
    CustomMatch *match = arena_new(scratch, CustomMatch);
    const char *why;
    if (!custom_match(kctx_create(scratch), scratch, op->signature, NULL, 0, match, &why))
        complain(l, arena_strdup(l->a, why), NULL);
    arena_destroy(scratch);
}

static bool same_attrs(const OpFileOp *a, const OpFileOp *b) {
    bool same = a->n_attrs == b->n_attrs && a->n_in == b->n_in && a->n_out == b->n_out;
    for (int i = 0; same && i < a->n_attrs; i++)
        same = !strcmp(a->attr[i].name, b->attr[i].name) && a->attr[i].kind == b->attr[i].kind;
    return same;
}

static void add_op(Line *l, OpFile *f, OpFileOp *op) {
    OpFileOp *first = (OpFileOp *)op_file_find(f, op->domain, op->name);
    for (uint32_t i = 0; i < f->ops.n; i++)
        for (const OpFileOp *o = f->ops.at[i]; o; o = o->next)
            if (!strcmp(o->symbol, op->symbol) && strcmp(o->signature, op->signature))
                complain(l, "the function has other types in another line:", op->symbol);
    if (l->bad) return;
    if (!first) {
        vec_push(l->a, &f->ops, op);
        return;
    }
    if (!same_attrs(first, op))
        complain(l, "the operator has other parameters in another line:", op->name);
    while (first->next) first = first->next;
    first->next = op;
}

static void read_op(Line *l, OpFile *f) {
    OpFileOp *op = arena_new(l->a, OpFileOp);
    op->file = l->path;
    op->line = l->number;
    op->domain = word(l, ".-", "a domain");
    op->name = word(l, ".-", "an operator's name");
    op->symbol = c_name(l, "a function's name");
    if (!l->bad) read_signature(l, op);
    if (!l->bad && *l->at) skip_blanks(l);
    if (!l->bad && *l->at) complain(l, "there is more after the declaration:", l->at);
    if (!l->bad && !op->n_out) complain(l, "there are no outputs", NULL);
    if (!l->bad) check_signature(l, op);
    if (!l->bad) add_op(l, f, op);
}

/* ---- files ----------------------------------------------------------------------------------- */

/* The rest of the line as a path, from the file's own folder. */
static const char *path_of(Line *l) {
    skip_blanks(l);
    size_t n = strlen(l->at);
    while (n && strchr(" \t\r", l->at[n - 1])) n--;
    if (!n) complain(l, "a file's name is missing", NULL);
    const char *slash = strrchr(l->path, '/');
    if (*l->at == '/' || !slash) return arena_printf(l->a, "%.*s", (int)n, l->at);
    return arena_printf(l->a, "%.*s/%.*s", (int)(slash - l->path), l->path, (int)n, l->at);
}

static void read_line(Line *l, OpFile *f) {
    skip_blanks(l);
    if (!*l->at || *l->at == '#') return;
    const char *what = word(l, "", "'op', 'link' or 'functions'");
    if (l->bad) return;
    if (!strcmp(what, "op")) {
        read_op(l, f);
    } else if (!strcmp(what, "link") || !strcmp(what, "functions")) {
        const char *path = path_of(l);
        if (*what == 'l')
            vec_push(l->a, &f->links, path);
        else
            vec_push(l->a, &f->functions, path);
    } else {
        complain(l, "a line starts with 'op', 'link' or 'functions', not with", what);
    }
}

bool op_file_read(Arena *a, OpFile *f, const char *path, Diag *d) {
    MappedFile file;
    int before = diag_n_errors(d);
    if (!mapped_open(&file, path, d)) return false;
    const char *at = (const char *)file.bytes, *end = at + file.n_bytes;
    for (int number = 1; at < end && !diag_is_full(d); number++) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        if (!stop) stop = end;
        char *text = arena_printf(a, "%.*s", (int)(stop - at), at);
        Line l = {a, d, path, number, text, false};
        if (memchr(at, 0, (size_t)(stop - at)))
            complain(&l, "there is a zero byte in the line", NULL);
        else
            read_line(&l, f);
        at = stop + 1;
    }
    mapped_close(&file);
    return diag_n_errors(d) == before;
}

const OpFileOp *op_file_find(const OpFile *f, const char *domain, const char *name) {
    for (uint32_t i = 0; f && i < f->ops.n; i++)
        if (!strcmp(f->ops.at[i]->domain, domain) && !strcmp(f->ops.at[i]->name, name))
            return f->ops.at[i];
    return NULL;
}

bool op_file_declares(const OpFile *f, const char *symbol) {
    for (uint32_t i = 0; i < f->ops.n; i++)
        for (const OpFileOp *o = f->ops.at[i]; o; o = o->next)
            if (!strcmp(o->symbol, symbol)) return true;
    return false;
}
