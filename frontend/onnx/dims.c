/* Dims of model inputs: numbers, names, expressions over names, and what --dim makes of them.
 *
 *     dim_value 8           8
 *     dim_value 0           0: no elements; exporters also wrote it for "unknown", so --dim
 *                           INPUT:AXIS=N may replace it
 *     dim_param "batch"     symbol batch, of 1 or more; 0 as well where --dim lists it, and where it
 *                           is the length of a decoder's past
 *     dim_param "past + 1"  an expression when every name in it is also a whole dim of some input
 *                           ("batch-size" stays a name otherwise)
 *     nothing, negative     symbol INPUT_dimAXIS */
#include <ctype.h>
#include <string.h>

#include "frontend/onnx/import.h"

enum { EXPR_DEPTH = 16 };

static const DimOverride *find_row(Import *im, const char *name) {
    for (int i = 0; i < im->o->n_dims; i++)
        if (!strcmp(im->o->dims[i].name, name)) {
            im->dim_used[i] = true;
            return &im->o->dims[i];
        }
    return NULL;
}

static bool find_override(Import *im, const char *name, int64_t *value) {
    const DimOverride *o = find_row(im, name);
    if (o) *value = o->value;
    return o && !o->found;
}

/* Tells who asks for versions of this dim what it is. */
static const KExpr *note_dim(Import *im, const char *name, const KExpr *dim) {
    const DimOverride *o = find_row(im, name);
    if (o && o->found && !*o->found) *o->found = dim;
    return dim;
}

static const KExpr *named_dim(Import *im, const char *name) {
    int64_t value;
    if (find_override(im, name, &value)) return k_int(im->m->k, value);
    const DimOverride *o = find_row(im, name);
    KVar *symbol = module_symbol(im->m, name);
    if ((o && o->has_zero) || strmap_get(im->zero_dims, name)) symbol->lo = 0;
    return note_dim(im, name, k_var(im->m->k, symbol));
}

/* ---- expressions ----------------------------------------------------------------------------- */

typedef struct DimParser {
    Import *im;
    const char *at;
    int depth;
    bool bad;
} DimParser;

static const KExpr *parse_sum(DimParser *p);

static bool is_name_char(char c) {
    return isalnum((unsigned char)c) || c == '_' || c == '.';
}

static char next_char(DimParser *p) {
    while (isspace((unsigned char)*p->at)) p->at++;
    return *p->at;
}

static const KExpr *give_up(DimParser *p) {
    p->bad = true;
    return k_int(p->im->m->k, 1);
}

static const KExpr *parse_name(DimParser *p) {
    const char *start = p->at;
    while (is_name_char(*p->at)) p->at++;
    size_t n = (size_t)(p->at - start);
    if (!n || !strmap_get_bytes(p->im->bare_dims, start, n)) return give_up(p);
    char *name = arena_alloc(p->im->arena, n + 1);
    memcpy(name, start, n);
    return named_dim(p->im, name);
}

static const KExpr *parse_number(DimParser *p) {
    int64_t v = 0;
    for (; isdigit((unsigned char)*p->at); p->at++) {
        v = v * 10 + (*p->at - '0');
        if (v > INT32_MAX) return give_up(p);
    }
    return k_int(p->im->m->k, v);
}

static const KExpr *parse_factor(DimParser *p) {
    char c = next_char(p);
    if (isdigit((unsigned char)c)) return parse_number(p);
    if (c != '(') return parse_name(p);
    if (++p->depth > EXPR_DEPTH) return give_up(p);
    p->at++;
    const KExpr *e = parse_sum(p);
    p->depth--;
    if (next_char(p) != ')') return give_up(p);
    p->at++;
    return e;
}

static const KExpr *parse_product(DimParser *p) {
    KCtx *k = p->im->m->k;
    const KExpr *e = parse_factor(p);
    for (char c = next_char(p); !p->bad && (c == '*' || c == '/'); c = next_char(p)) {
        p->at += c == '/' && p->at[1] == '/' ? 2 : 1;
        const KExpr *f = parse_factor(p);
        e = c == '*' ? k_mul(k, e, f) : k_fdiv(k, e, f);
    }
    return e;
}

static const KExpr *parse_sum(DimParser *p) {
    KCtx *k = p->im->m->k;
    const KExpr *e = parse_product(p);
    for (char c = next_char(p); !p->bad && (c == '+' || c == '-'); c = next_char(p)) {
        p->at++;
        const KExpr *f = parse_product(p);
        e = c == '+' ? k_add(k, e, f) : k_sub(k, e, f);
    }
    return e;
}

/* Asked before parsing, so that a text that is no expression leaves no symbols behind. */
static bool names_are_bare(Import *im, const char *text) {
    while (*text) {
        size_t n = 0;
        while (is_name_char(text[n])) n++;
        if (n && !isdigit((unsigned char)*text) && !strmap_get_bytes(im->bare_dims, text, n))
            return false;
        text += n ? n : 1;
    }
    return true;
}

static const KExpr *text_dim(Import *im, const char *text) {
    int64_t value;
    if (find_override(im, text, &value)) return k_int(im->m->k, value);
    if (strpbrk(text, "+-*/") && names_are_bare(im, text)) {
        DimParser p = {.im = im, .at = text};
        const KExpr *e = parse_sum(&p);
        if (!p.bad && !next_char(&p)) return note_dim(im, text, e);
    }
    return named_dim(im, text);
}

/* ---- shapes of inputs ------------------------------------------------------------------------ */

/* Some exporters write this for every dim that they do not know: no name that dims share. */
static bool is_placeholder(const char *name) {
    static const char *const words[] = {"?", "*", "-", "-1", "None", "none", "unknown", "Unknown"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (!strcmp(name, words[i])) return true;
    return !*name;
}

static const char *dim_param(const Onnx__TensorShapeProto__Dimension *d) {
    bool has = d->value_case == ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_PARAM;
    return has && d->dim_param && !is_placeholder(d->dim_param) ? d->dim_param : NULL;
}

static const Onnx__TensorShapeProto *tensor_shape(const Onnx__ValueInfoProto *v) {
    if (!v->type || v->type->value_case != ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE) return NULL;
    return v->type->tensor_type->shape;
}

/* A text with an operator in it stands for itself only if nothing else explains it, so it is no
 * name that expressions may use. */
void import_bare_dims(Import *im, const Onnx__GraphProto *g) {
    for (size_t i = 0; i < g->n_input; i++) {
        const Onnx__TensorShapeProto *s = tensor_shape(g->input[i]);
        for (size_t k = 0; s && k < s->n_dim; k++) {
            const char *name = dim_param(s->dim[k]);
            if (name && !strpbrk(name, "+-*/() ")) strmap_put(im->bare_dims, name, im);
        }
    }
}

static bool is_tensor(const Onnx__ValueInfoProto *v, bool is_float, size_t least_rank) {
    const Onnx__TensorShapeProto *s = tensor_shape(v);
    DType t = s ? dtype_from_onnx(v->type->tensor_type->elem_type) : DT_NONE;
    return s && s->n_dim >= least_rank && (is_float ? dtype_is_float(t) : dtype_is_int(t));
}

void import_past_dims(Import *im, const Onnx__GraphProto *g) {
    StrMap *once = strmap_create(im->arena);
    bool has_tokens = false;
    for (size_t i = 0; i < g->n_input; i++) {
        const Onnx__TensorShapeProto *s = tensor_shape(g->input[i]);
        has_tokens |= is_tensor(g->input[i], false, 2) && s->n_dim == 2;
    }
    for (size_t i = 0; has_tokens && i < g->n_input; i++) {
        if (!is_tensor(g->input[i], true, 3)) continue;
        const Onnx__TensorShapeProto *s = tensor_shape(g->input[i]);
        for (size_t k = 1; k < s->n_dim; k++) {
            const char *name = dim_param(s->dim[k]);
            const void *first = name ? strmap_get(once, name) : NULL;
            if (first && first != s) strmap_put(im->zero_dims, name, im);
            if (name && !first) strmap_put(once, name, (void *)s);
        }
    }
}

/* The name of a dim that has none. */
static const char *place_name(Import *im, const char *input, int axis) {
    return arena_printf(im->m->arena, "%s_dim%d", input, axis);
}

/* A symbol stands for 1 or more, but for 0 as well where the data of a run have no elements. */
void import_empty_dims(Import *im, int index, const Onnx__ValueInfoProto *v) {
    const Onnx__TensorShapeProto *s = tensor_shape(v);
    int64_t dims[MAX_RANK];
    int rank;
    if (!s || !im->o->data_shape || !v->name ||
        !im->o->data_shape(im->o->data_user, index, v->name, &rank, dims) ||
        (size_t)rank != s->n_dim)
        return;
    for (int i = 0; i < rank; i++) {
        if (dims[i]) continue;
        const char *name = dim_param(s->dim[i]);
        strmap_put(im->zero_dims, name ? name : place_name(im, v->name, i), im);
    }
}

static SrcLoc file_loc(const Import *im) {
    SrcLoc loc = SRC_NOWHERE;
    loc.file = onnx_model_path(im->model);
    return loc;
}

static const KExpr *input_dim(Import *im, const char *input, int axis, const char *by_place,
                              const Onnx__TensorShapeProto__Dimension *d) {
    int64_t value;
    bool is_number =
        d->value_case == ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE && d->dim_value >= 0;
    if (find_override(im, by_place, &value)) {
        if (is_number && d->dim_value && d->dim_value != value)
            diag_error(im->d, file_loc(im), "--dim %s:%d=%lld: the model fixes this dim to %lld",
                       input, axis, (long long)value, (long long)d->dim_value);
        return k_int(im->m->k, value);
    }
    if (is_number) return k_int(im->m->k, d->dim_value);
    if (dim_param(d)) return text_dim(im, dim_param(d));
    const char *name = place_name(im, input, axis);
    if (find_override(im, name, &value)) return k_int(im->m->k, value);
    KVar *symbol = module_symbol(im->m, name);
    bool is_zero = d->value_case == ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE;
    if (is_zero || strmap_get(im->zero_dims, name)) symbol->lo = 0; /* it may be meant so */
    return note_dim(im, name, k_var(im->m->k, symbol));
}

bool import_given_shape(const Import *im, const char *input, int *rank, int64_t *dims) {
    const ImportOptions *o = im->o;
    for (int i = 0; i < o->n_shapes; i++) {
        if (strcmp(o->shapes[i].name, input)) continue;
        *rank = o->shapes[i].rank;
        memcpy(dims, o->shapes[i].dims, sizeof *dims * (size_t)*rank);
        return true;
    }
    return false;
}

/* Is a dim left open: by 0 or a negative number? (By nothing or a name it may vary.) */
static bool is_undecided(const Onnx__TensorShapeProto *p) {
    for (size_t i = 0; p && i < p->n_dim; i++)
        if (p->dim[i]->value_case == ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE &&
            p->dim[i]->dim_value <= 0)
            return true;
    return !p;
}

static bool check_given(Import *im, const char *input, const Onnx__TensorShapeProto *p,
                        const int64_t *dims, int rank) {
    for (int i = 0; p && i < rank; i++) {
        bool is_number =
            p->dim[i]->value_case == ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE;
        if (!is_number || p->dim[i]->dim_value <= 0 || p->dim[i]->dim_value == dims[i]) continue;
        diag_error(im->d, file_loc(im), "input '%s': dim %d is given as %lld, the model's is %lld",
                   input, i, (long long)dims[i], (long long)p->dim[i]->dim_value);
        return false;
    }
    return true;
}

bool import_shape(Import *im, int index, const char *input, const Onnx__TensorShapeProto *p,
                  Shape *out) {
    int64_t dims[MAX_RANK];
    int rank;
    bool is_given = import_given_shape(im, input, &rank, dims);
    if (!is_given && is_undecided(p) && im->o->data_shape)
        is_given = im->o->data_shape(im->o->data_user, index, input, &rank, dims);
    if (is_given && (!p || (size_t)rank == p->n_dim)) {
        *out = shape_ints(im->m->k, dims, rank);
        return check_given(im, input, p, dims, rank);
    }
    if (is_given) {
        diag_error(im->d, file_loc(im), "input '%s': rank %d is given, the model's is %zu", input,
                   rank, p->n_dim);
        return false;
    }
    if (!p) {
        diag_unsupported(im->d, file_loc(im),
                         "input '%s' has no shape; give it one with --shape %s=2,3 (its dims)",
                         input, input);
        return false;
    }
    if (p->n_dim > MAX_RANK) {
        diag_error(im->d, file_loc(im), "input '%s' has rank %zu, over the limit of %d", input,
                   p->n_dim, MAX_RANK);
        return false;
    }
    *out = shape_make(im->m->arena, (int)p->n_dim);
    for (int i = 0; i < out->rank; i++) {
        const char *by_place = arena_printf(im->arena, "%s:%d", input, i);
        out->dims[i] = note_dim(im, by_place, input_dim(im, input, i, by_place, p->dim[i]));
    }
    return true;
}

void check_dim_overrides(Import *im) {
    for (int i = 0; i < im->o->n_dims; i++) {
        const DimOverride *o = &im->o->dims[i];
        if (o->value < 0 || o->value > INT32_MAX)
            diag_error(im->d, file_loc(im), "--dim %s=%lld: a dim lies between 0 and %d", o->name,
                       (long long)o->value, INT32_MAX);
        else if (!im->dim_used[i])
            diag_error(im->d, file_loc(im), "--dim %s: no input has a symbolic dim of this name",
                       o->name);
    }
}
