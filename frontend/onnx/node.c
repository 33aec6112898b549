/* One ONNX node after the other: its row in ops.def, its inputs, its attributes, its importer; and
 * calls of model-local functions, whose bodies are imported in the call's place.
 *
 * Checked here for every operator, from its row: number of inputs and outputs, required inputs,
 * attribute names and types. An attribute in ops.def is `name:type` with `!` when it is required.
 */
#include <string.h>

#include "frontend/frontend.h"
#include "frontend/onnx/compound.h"
#include "ir/support/str.h"

const OnnxOp onnx_ops[] = {
#define ONNX(type, domain, since, lo, hi, outs, attrs, importer)                                   \
    {#type, domain, since, lo, hi, outs, attrs, importer},
#include "frontend/onnx/ops.def"
#include "frontend/onnx/ops_microsoft.def"
#undef ONNX
};
const int n_onnx_ops = sizeof onnx_ops / sizeof *onnx_ops;

/* An operator that smelt lacks, where it was met first and how often. */
typedef struct Missing {
    SrcLoc loc;
    const char *what, *why; /* why: NULL when there is nothing to add */
    int64_t count;
} Missing;

static const char *or_empty(const char *s) {
    return s ? s : "";
}

static const char *domain_name(const Onnx__NodeProto *p) {
    const char *d = or_empty(p->domain);
    return strcmp(d, "ai.onnx") ? d : "";
}

void frontend_list_ops(FILE *out) {
    for (int i = 0; i < n_onnx_ops; i++) {
        const OnnxOp *r = &onnx_ops[i];
        bool same = i > 0 && !strcmp(r->type, r[-1].type) && !strcmp(r->domain, r[-1].domain);
        if (!same)
            fprintf(out, "%s%s %s", i ? "\n" : "", *r->domain ? r->domain : "ai.onnx", r->type);
        fprintf(out, " %d", (int)r->since);
    }
    fputc('\n', out);
}

/* ---- rows ------------------------------------------------------------------------------------ */

static int64_t domain_version(Import *im, const Scope *s, const char *domain) {
    if (!s->function) return onnx_model_opset(im->model, domain);
    for (size_t i = 0; i < s->function->n_opset_import; i++) {
        const Onnx__OperatorSetIdProto *o = s->function->opset_import[i];
        const char *d = or_empty(o->domain);
        if (!strcmp(strcmp(d, "ai.onnx") ? d : "", domain)) return o->version;
    }
    return onnx_model_opset(im->model, domain);
}

const char *onnx_row_key(Arena *a, const char *domain, const char *type) {
    return arena_printf(a, "%s/%s", domain, type);
}

/* The newest row that the version includes; rows of a type and domain lie together. */
static const OnnxOp *find_row(Import *im, const char *type, const char *domain, int64_t version) {
    const OnnxOp *best = NULL, *end = onnx_ops + n_onnx_ops;
    const OnnxOp *r = strmap_get(im->rows, onnx_row_key(im->arena, domain, type));
    for (; r && r < end && !strcmp(r->type, type) && !strcmp(r->domain, domain); r++)
        if (r->since <= version && (!best || r->since > best->since)) best = r;
    return best;
}

static void note_unsupported(Import *im, SrcLoc loc, const char *what, const char *why) {
    Missing *missing = strmap_get(im->unsupported, what);
    if (!missing) {
        missing = arena_new(im->arena, Missing);
        *missing = (Missing){loc, arena_strdup(im->arena, what), why, 0};
        strmap_put(im->unsupported, missing->what, missing);
    }
    missing->count++;
}

void report_unsupported(Import *im) {
    for (uint32_t i = 0; i < strmap_count(im->unsupported); i++) {
        const Missing *missing = strmap_value(im->unsupported, i);
        const char *count = "", *colon = missing->why ? ": " : "";
        if (missing->count > 1)
            count = arena_printf(im->arena, " (%lld nodes, this is the first)",
                                 (long long)missing->count);
        diag_unsupported(im->d, missing->loc, "%s is not supported%s%s%s", missing->what, count,
                         colon, missing->why ? missing->why : "");
    }
}

/* Why an operator is not read, NULL for one that smelt has never heard of. */
static const char *refusal(const char *type, const char *domain) {
    static const char *const rows[][3] = {
#define REFUSED(name, of, reason) {#name, of, reason},
#include "frontend/onnx/refused.def"
#undef REFUSED
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (!strcmp(rows[i][0], type) && !strcmp(rows[i][1], domain)) return rows[i][2];
    return NULL;
}

static const char *operator_words(Import *im, const Call *c, const char *domain) {
    const char *type = or_empty(c->proto->op_type);
    return arena_printf(im->arena, "operator %s of %s version %lld", type,
                        *domain ? domain : "ai.onnx", (long long)c->version);
}

/* ---- checks ---------------------------------------------------------------------------------- */

static bool check_counts(Call *c) {
    const OnnxOp *r = c->row;
    Diag *d = c->im->d;
    bool too_many = r->in_hi >= 0 && c->n_in > r->in_hi;
    if ((int)c->proto->n_input < r->in_lo || too_many) {
        diag_error(d, c->loc, "has %zu inputs, but %s-%d takes %s %d", c->proto->n_input, r->type,
                   r->since, too_many ? "at most" : "at least", too_many ? r->in_hi : r->in_lo);
        return false;
    }
    /* of any number of inputs none may be left out */
    int n_needed = r->in_lo && r->in_hi < 0 ? c->n_in : r->in_lo;
    for (int i = 0; i < n_needed; i++)
        if (!call_in(c, i)) {
            diag_error(d, c->loc, "input %d is required and may not be left out", i);
            return false;
        }
    if (c->n_out < 1 || (r->n_out >= 0 && c->n_out > r->n_out)) {
        diag_error(d, c->loc, "has %d outputs, but %s-%d gives %s %d", c->n_out, r->type, r->since,
                   c->n_out < 1 ? "at least" : "at most", c->n_out < 1 ? 1 : r->n_out);
        return false;
    }
    return true;
}

/* The letter of ops.def for an attribute type. */
static char type_letter(Onnx__AttributeProto__AttributeType t) {
    static const char letters[] = "?fistgFIS?";
    /* order of AttributeType: FLOAT, INT, STRING, TENSOR, GRAPH, FLOATS, INTS, STRINGS */
    if (t == ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__SPARSE_TENSOR) return 'p';
    if (t == ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__TYPE_PROTO) return 'y';
    return t > 0 && t <= 8 ? letters[t] : '?';
}

static const char *letter_words(char letter) {
    static const char *const words[][2] = {
        {"f", "a float"},
        {"i", "an integer"},
        {"s", "a string"},
        {"t", "a tensor"},
        {"g", "a graph"},
        {"F", "a list of floats"},
        {"I", "a list of integers"},
        {"S", "a list of strings"},
        {"p", "a sparse tensor"},
        {"y", "a type"},
    };
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (words[i][0][0] == letter) return words[i][1];
    return "something else";
}

/* The type letter that the row gives an attribute, 0 when the operator has none of this name. */
static char allowed_type(const OnnxOp *r, const char *name) {
    size_t n = strlen(name);
    for (const char *at = r->attrs; (at = strstr(at, name)); at += n)
        if ((at == r->attrs || at[-1] == ' ') && at[n] == ':') return at[n + 1];
    return 0;
}

static bool check_required(Call *c) {
    for (const char *at = c->row->attrs; *at;) {
        size_t n = strcspn(at, " "), name = strcspn(at, ":");
        if (at[n - 1] == '!') {
            const char *text = intern_bytes(at, name);
            if (!call_attr(c, text)) {
                diag_error(c->im->d, c->loc, "attribute '%s' is missing", text);
                return false;
            }
        }
        at += n + (at[n] == ' ');
    }
    return true;
}

static bool check_attrs(Call *c) {
    bool good = true;
    for (int i = 0; i < c->n_attrs; i++) {
        const char *name = c->attrs[i].name;
        char want = allowed_type(c->row, name), got = type_letter(c->attrs[i].proto->type);
        if (!want) {
            diag_error(c->im->d, c->loc, "unknown attribute '%s': %s-%d has no such attribute",
                       name, c->row->type, c->row->since);
        } else if (want != got) {
            diag_error(c->im->d, c->loc, "attribute '%s' is %s, but has to be %s", name,
                       letter_words(got), letter_words(want));
        }
        good &= want && want == got;
    }
    return good && check_required(c);
}

/* ---- attributes and inputs ------------------------------------------------------------------- */

/* What a reference in a function body stands for: the caller's attribute or the function's default.
 */
static const Onnx__AttributeProto *follow_reference(const Scope *s, const char *name) {
    for (int i = 0; i < s->n_args; i++)
        if (!strcmp(s->args[i].name, name)) return s->args[i].proto;
    for (size_t i = 0; s->function && i < s->function->n_attribute_proto; i++)
        if (!strcmp(or_empty(s->function->attribute_proto[i]->name), name))
            return s->function->attribute_proto[i];
    return NULL;
}

/* Writers of the format's first version leave an attribute's type out; the field that is set tells.
 * (check_nodes.c saw to it that one is.) */
static const Onnx__AttributeProto *with_type(Import *im, const Onnx__AttributeProto *a) {
    if (a->type) return a;
    Onnx__AttributeProto *typed = arena_copy(im->arena, a, sizeof *a);
    typed->type = a->has_f       ? ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOAT
                  : a->has_i     ? ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INT
                  : a->has_s     ? ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__STRING
                  : a->t         ? ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__TENSOR
                  : a->g         ? ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__GRAPH
                  : a->n_floats  ? ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOATS
                  : a->n_ints    ? ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INTS
                  : a->n_strings ? ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__STRINGS
                                 : ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__UNDEFINED;
    return typed;
}

static void resolve_attrs(Call *c) {
    const Onnx__NodeProto *p = c->proto;
    c->attrs = arena_array(c->im->arena, NamedAttr, p->n_attribute);
    for (size_t i = 0; i < p->n_attribute; i++) {
        const Onnx__AttributeProto *a = p->attribute[i];
        const char *reference = or_empty(a->ref_attr_name);
        const Onnx__AttributeProto *meant = *reference ? follow_reference(c->scope, reference) : a;
        if (meant) c->attrs[c->n_attrs++] = (NamedAttr){or_empty(a->name), with_type(c->im, meant)};
    }
}

/* False when an input could not be made; the names themselves exist (check_graph.c saw to it). */
static bool resolve_inputs(Call *c) {
    const Onnx__NodeProto *p = c->proto;
    bool good = true;
    c->n_in = (int)p->n_input;
    while (c->n_in > 0 && !p->input[c->n_in - 1][0]) c->n_in--;
    c->in = arena_array(c->im->arena, Value *, c->n_in);
    for (int i = 0; i < c->n_in; i++) {
        if (!p->input[i][0]) continue;
        bool known;
        c->in[i] = scope_find(c->im, c->scope, p->input[i], c->loc, &known);
        if (!known) {
            diag_error(c->im->d, c->loc, "input '%s' is not defined before it is used",
                       p->input[i]);
            c->in[i] = c->im->poison;
        }
        good &= c->in[i] != c->im->poison;
    }
    return good;
}

/* ---- functions ------------------------------------------------------------------------------- */

static const char *call_path(Import *im, const Scope *s, const Onnx__NodeProto *p) {
    return arena_printf(im->m->arena, "%s/%s", s->path,
                        *or_empty(p->name) ? p->name : or_empty(p->op_type));
}

static bool import_function(Call *c, const Onnx__FunctionProto *f) {
    Import *im = c->im;
    if (c->scope->depth >= ONNX_MAX_NESTING) {
        diag_error(im->d, c->loc, "functions and graphs are nested more than %d deep",
                   ONNX_MAX_NESTING);
        return false;
    }
    if (c->n_in > (int)f->n_input || c->n_out > (int)f->n_output) {
        diag_error(im->d, c->loc, "has %d inputs and %d outputs, but the function has %zu and %zu",
                   c->n_in, c->n_out, f->n_input, f->n_output);
        return false;
    }
    Scope *body = scope_create(im, NULL, c->g, call_path(im, c->scope, c->proto));
    body->depth = c->scope->depth + 1;
    body->around = c->scope;
    body->function = f;
    body->args = c->attrs;
    body->n_args = c->n_attrs;
    for (int i = 0; i < (int)f->n_input; i++) scope_bind(im, body, f->input[i], call_in(c, i));
    import_nodes(im, body, f->node, f->n_node, onnx_function_order(im->model, f), NULL);
    bool good = true;
    for (int i = 0; i < c->n_out; i++) {
        bool known;
        c->out[i] = scope_find(im, body, f->output[i], c->loc, &known);
        if (!known)
            diag_error(im->d, c->loc, "the function never makes its output '%s'", f->output[i]);
        good &= c->out[i] != NULL;
    }
    return good;
}

/* ---- nodes ----------------------------------------------------------------------------------- */

/* A node that will not be built still has its subgraphs looked at, for what else is unsupported. */
static void look_into_subgraphs(Call *c) {
    for (int i = 0; i < c->n_attrs; i++)
        if (c->attrs[i].proto->g) import_subgraph(c, c->attrs[i].name, c->attrs[i].proto->g);
}

static bool is_supported_version(Call *c, const char *domain) {
    if (*domain || (c->version >= OPSET_MIN && c->version <= OPSET_MAX)) return true;
    note_unsupported(c->im, c->loc,
                     arena_printf(c->im->arena, "opset %lld of ai.onnx (smelt reads %d to %d)",
                                  (long long)c->version, OPSET_MIN, OPSET_MAX),
                     NULL);
    return false;
}

/* Sequences and optionals go only where they are understood. */
static bool inputs_are_tensors(Call *c) {
    for (int i = 0; i < c->n_in; i++) {
        if (!compound_of(c->in[i])) continue;
        diag_error(c->im->d, c->loc, "input %d is %s, but has to be a tensor", i,
                   c->in[i]->type == VT_SEQUENCE ? "a sequence" : "an optional");
        return false;
    }
    return true;
}

static bool import_call(Call *c) {
    Import *im = c->im;
    const char *domain = domain_name(c->proto);
    const Onnx__FunctionProto *f = onnx_model_function(im->model, c->proto);
    c->version = domain_version(im, c->scope, domain);
    resolve_attrs(c);
    bool inputs_good = resolve_inputs(c);
    const OpFileOp *own = op_file_find(im->o->ops, domain, or_empty(c->proto->op_type));
    if (own) return inputs_good && inputs_are_tensors(c) && import_custom(c, own);
    if (f) return import_function(c, f);
    if (!is_supported_version(c, domain)) return false;
    c->row = find_row(im, or_empty(c->proto->op_type), domain, c->version);
    if (!c->row)
        note_unsupported(im, c->loc, operator_words(im, c, domain),
                         refusal(or_empty(c->proto->op_type), domain));
    bool checked = c->row && check_counts(c) && check_attrs(c);
    if (checked && inputs_good)
        return (compound_is_taken(c->row) || inputs_are_tensors(c)) && c->row->import(c);
    look_into_subgraphs(c);
    return false;
}

static void import_node(Import *im, Scope *s, const Onnx__NodeProto *p, uint32_t index) {
    Call c = {
        .im = im, .scope = s, .m = im->m, .g = s->graph, .proto = p, .n_out = (int)p->n_output};
    c.loc = (SrcLoc){
        im->m->file, intern(or_empty(p->name)), intern(or_empty(p->op_type)), s->path, index, -1};
    while (c.n_out > 0 && !p->output[c.n_out - 1][0]) c.n_out--;
    c.out = arena_array(im->arena, Value *, c.n_out);
    bool good = import_call(&c);
    for (int i = 0; i < c.n_out; i++) {
        if (!p->output[i][0] || strmap_get(s->names, p->output[i]))
            continue; /* bound: cut off here */
        Value *v = good && c.out[i] ? c.out[i] : im->poison;
        if (v != im->poison && !v->name[0]) v->name = intern(p->output[i]);
        scope_bind(im, s, p->output[i], v);
    }
}

void import_nodes(Import *im, Scope *s, Onnx__NodeProto **nodes, size_t n, const uint32_t *order,
                  const bool *skip) {
    for (size_t i = 0; i < n && !im->stopped && !diag_is_full(im->d); i++) {
        uint32_t at = order ? order[i] : (uint32_t)i;
        if (skip && skip[at]) continue;
        if (++im->n_nodes > ONNX_MAX_INLINED_NODES) {
            SrcLoc loc = SRC_NOWHERE;
            loc.file = im->m->file;
            loc.graph = s->path;
            diag_error(im->d, loc, "more than %d nodes after inlining functions",
                       ONNX_MAX_INLINED_NODES);
            im->stopped = true;
        }
        import_node(im, s, nodes[at], at);
    }
}
