/* Sequences and optionals in a model's interface: the tensors in them are its inputs and outputs,
 * and Module.in_groups and out_groups say which belong together. How many an input has comes from
 * the data of a run or from --shape NAME.0=..., NAME.1=..., since files do not say it; without these
 * any number, as all elements NAME.values and their shapes NAME.shapes. */
#include "frontend/onnx/list.h"

static const char *item_name(Import *im, const char *name, int i) {
    return intern(arena_printf(im->arena, "%s.%d", name, i));
}

static void add_group(Import *im, bool is_output, IoGroup g) {
    if (is_output)
        vec_push(im->m->arena, &im->m->out_groups, g);
    else
        vec_push(im->m->arena, &im->m->in_groups, g);
}

Value *import_add_input(Import *im, Graph *g, const char *name, DType t, Shape shape) {
    add_group(im, false, (IoGroup){.name = intern(name), .dtype = t, .first = g->inputs.n, .n = 1});
    return graph_add_input(g, name, t, shape);
}

/* ---- inputs ---------------------------------------------------------------------------------- */

typedef struct Declared {
    GroupKind kind;
    const Onnx__TypeProto__Tensor *tensor;
} Declared;

static bool read_type(const Onnx__TypeProto *t, Declared *d) {
    bool optional = t && t->value_case == ONNX__TYPE_PROTO__VALUE_OPTIONAL_TYPE;
    if (optional) t = t->optional_type->elem_type;
    bool sequence = t && t->value_case == ONNX__TYPE_PROTO__VALUE_SEQUENCE_TYPE;
    if (sequence) t = t->sequence_type->elem_type;
    d->kind = optional ? (sequence ? GROUP_OPTIONAL_SEQUENCE : GROUP_OPTIONAL)
                       : (sequence ? GROUP_SEQUENCE : GROUP_TENSOR);
    if (!t || t->value_case != ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE) return false;
    d->tensor = t->tensor_type;
    return true;
}

static bool is_sequence(GroupKind k) {
    return k == GROUP_SEQUENCE || k == GROUP_OPTIONAL_SEQUENCE;
}

/* What --shape says of NAME.0, NAME.1, ... */
static int given_items(Import *im, const char *name, ShapeOverride *shapes) {
    int n = 0;
    while (n < COMPOUND_MAX_ITEMS &&
           import_given_shape(im, item_name(im, name, n), &shapes[n].rank, shapes[n].dims))
        n++;
    return n;
}

/* The tensors of the input, from data or --shape; an optional tensor of neither is present, with
 * the shape of its type (*n is 1 and *shapes NULL). */
static bool find_items(Import *im, const char *name, Declared d, const ShapeOverride **shapes,
                       int *n, SrcLoc loc) {
    bool optional = d.kind != GROUP_SEQUENCE;
    if (im->o->data_list && im->o->data_list(im->o->data_user, (int)im->m->in_groups.n, name,
                                             is_sequence(d.kind), optional, shapes, n))
        return true;
    *shapes = NULL;
    *n = 1;
    if (!is_sequence(d.kind)) return true;
    ShapeOverride *given = arena_array(im->arena, ShapeOverride, COMPOUND_MAX_ITEMS);
    *n = given_items(im, name, given);
    if (*n) *shapes = given;
    if (*n) return true;
    if (d.tensor->shape) return true;
    diag_unsupported(im->d, loc,
                     "input '%s' is a sequence of tensors of unknown rank; give its elements shapes "
                     "with --shape %s.0=2,3 --shape %s.1=... (their dims)",
                     name, name, name);
    return false;
}

static Value *free_input(Import *im, Graph *g, const char *name, const char *what, DType t,
                         const char *dim, int rank) {
    Shape shape = shape_make(im->m->arena, rank < 0 ? 1 : 2);
    KVar *n = module_symbol(im->m, intern(arena_printf(im->arena, "%s.%s", name, dim)));
    n->lo = 0;
    shape.dims[0] = k_var(im->m->k, n);
    if (rank >= 0) shape.dims[1] = k_int(im->m->k, rank);
    return graph_add_input(g, intern(arena_printf(im->arena, "%s.%s", name, what)), t, shape);
}

/* A sequence of any number of tensors of any shape with the rank that the type says. */
static Value *add_list_input(Import *im, Graph *g, const char *name, IoGroup group, int rank,
                             SrcLoc loc) {
    Call c = {.im = im, .m = im->m, .g = g, .loc = loc};
    Value *values = free_input(im, g, name, "values", group.dtype, "elements", -1);
    Value *shapes = free_input(im, g, name, "shapes", DT_I64, "length", rank);
    group.is_list = true;
    group.n = 2;
    add_group(im, false, group);
    return &list_shown(&c, group.dtype, values, shapes, rank)->value;
}

static bool fits_type(Import *im, const char *name, const Onnx__TensorShapeProto *p,
                      const ShapeOverride *s, SrcLoc loc) {
    bool good = !p || p->n_dim == (size_t)s->rank || !p->n_dim;
    for (int i = 0; good && p && i < s->rank && p->n_dim; i++)
        if (p->dim[i]->value_case == ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE &&
            p->dim[i]->dim_value > 0 && p->dim[i]->dim_value != s->dims[i])
            good = false;
    if (!good) diag_error(im->d, loc, "input '%s' holds a tensor that does not fit its type", name);
    return good;
}

Value *import_compound_input(Import *im, Graph *g, const char *name, const Onnx__TypeProto *type,
                             SrcLoc loc) {
    Declared d;
    const ShapeOverride *shapes;
    int n;
    if (!read_type(type, &d)) {
        diag_unsupported(im->d, loc, "input '%s' holds neither tensors nor numbers", name);
        return NULL;
    }
    DType t = import_dtype(im, d.tensor->elem_type, loc, name);
    if (t == DT_NONE || !find_items(im, name, d, &shapes, &n, loc)) return NULL;
    IoGroup group = {.name = intern(name),
                     .kind = d.kind,
                     .presence = n < 0 ? GROUP_ABSENT : GROUP_PRESENT,
                     .dtype = t,
                     .first = g->inputs.n,
                     .n = n < 0 ? 0 : (uint32_t)n};
    if (is_sequence(d.kind) && !n && !shapes)
        return add_list_input(im, g, name, group, (int)d.tensor->shape->n_dim, loc);
    Value **items = arena_array(im->arena, Value *, n < 0 ? 0 : n);
    for (int i = 0; i < n; i++) {
        Shape shape;
        if (shapes && !fits_type(im, name, d.tensor->shape, &shapes[i], loc)) return NULL;
        if (shapes)
            shape = shape_ints(im->m->k, shapes[i].dims, shapes[i].rank);
        else if (!import_shape(im, (int)im->m->in_groups.n, name, d.tensor->shape, &shape))
            return NULL;
        const char *own = is_sequence(d.kind) ? item_name(im, name, i) : name;
        items[i] = graph_add_input(g, own, t, shape);
    }
    add_group(im, false, group);
    Value *payload = NULL;
    if (n >= 0)
        payload = is_sequence(d.kind) ? &compound_sequence(im, t, items, n)->value : items[0];
    if (d.kind == GROUP_SEQUENCE) return payload;
    Compound *k = compound_optional(im, t, payload);
    k->of_sequence = is_sequence(d.kind);
    return &k->value;
}

/* ---- outputs --------------------------------------------------------------------------------- */

static IoGroup describe(const char *name, Value *v) {
    Compound *k = compound_of(v);
    IoGroup g = {.name = intern(name), .dtype = k ? k->dtype : v->dtype};
    if (k && k->value.type == VT_SEQUENCE) g.kind = GROUP_SEQUENCE;
    if (!k || k->value.type != VT_OPTIONAL) return g;
    g.kind = k->of_sequence ? GROUP_OPTIONAL_SEQUENCE : GROUP_OPTIONAL;
    g.presence = k->presence ? GROUP_ASKED : k->payload ? GROUP_PRESENT : GROUP_ABSENT;
    return g;
}

/* The tensors of a list, the last ones of all, as the interface has them. */
static bool show_list(Import *im, Graph *g, Compound *s, ValueList *all, SrcLoc loc) {
    Call c = {.im = im, .m = im->m, .g = g, .loc = loc};
    Value *shown[2];
    if (!list_show(&c, s, shown)) return false;
    all->n -= (uint32_t)list_n_tensors(s->list->form);
    for (int i = 0; i < 2; i++) vec_push(im->arena, all, shown[i]);
    return true;
}

static const char *list_name(Import *im, const char *name, int i) {
    return arena_printf(im->arena, "%s.%s", name, i ? "shapes" : "values");
}

void import_model_output(Import *im, Graph *g, Value *v, const char *name, SrcLoc loc) {
    IoGroup group = describe(name, v);
    Compound *k = compound_of(v), *seq = k && k->payload ? compound_of(k->payload) : k;
    ValueList list = {0};
    compound_flatten(im, v, &list);
    if (seq && seq->list && !show_list(im, g, seq, &list, loc)) return;
    group.is_list = seq && seq->list;
    group.first = g->outputs.n;
    group.n = list.n;
    for (uint32_t i = 0; i < list.n; i++) {
        int number = (int)i - (group.presence == GROUP_ASKED);
        const char *own = number < 0                ? arena_printf(im->arena, "%s.present", name)
                          : group.is_list           ? list_name(im, name, number)
                          : is_sequence(group.kind) ? item_name(im, name, number)
                                                    : name;
        import_list_output(g, loc, list.at[i], own);
    }
    add_group(im, true, group);
}
