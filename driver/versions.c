/* --dim: sizes that are fixed, and sizes for which the model gets versions of its code.
 *
 *     --dim seq=128                       the dim is 128, and no argument of a call any more
 *     --dim batch=1,8                     it stays an argument; calls with 1 or 8 run code made for
 *                                         just that, all others general code
 *     --dim batch=1,8 --dim seq=64,128    a version for each of the four combinations
 *
 * A decoder that carries its past along gets a version by itself, for steps of one token (see
 * steps_of_one). A version is the model read once more with its dims fixed (Module.versions). With
 * --only-versions there is no general code: other sizes are refused by the call. */
#include <stdlib.h>
#include <string.h>

#include "driver/driver.h"

enum { MOST_VERSIONS = 16 };

/* The numbers behind '='; false when the text is not of that form. */
static bool parse_values(Session *s, const char *at, DimList *list) {
    do {
        char *end;
        long long v = strtoll(at, &end, 10);
        if (end == at || (*end && *end != ',') || v < 0 || v > INT32_MAX) return false;
        vec_push(s->arena, &list->values, v);
        at = *end ? end + 1 : NULL;
    } while (at);
    return true;
}

static bool has_twice(const DimList *list) {
    for (uint32_t i = 0; i < list->values.n; i++)
        for (uint32_t j = 0; j < i; j++)
            if (list->values.at[i] == list->values.at[j]) return true;
    return false;
}

bool dims_parse(Session *s, DimLists *lists) {
    const OptionList *given = &s->o->dims;
    uint64_t n_versions = 1;
    *lists = (DimLists){.general = arena_array(s->arena, DimOverride, given->n + 1)};
    for (uint32_t i = 0; i < given->n; i++) {
        char *text = arena_strdup(s->arena, given->at[i]), *equals = strrchr(text, '=');
        DimList list = {.name = text};
        if (!equals || !parse_values(s, equals + 1, &list)) {
            diag_error(s->d, SRC_NOWHERE, "--dim takes NAME=N or NAME=N,N,..., not '%s'",
                       given->at[i]);
            return false;
        }
        if (has_twice(&list)) {
            diag_error(s->d, SRC_NOWHERE, "--dim %s: a number is there twice", given->at[i]);
            return false;
        }
        *equals = 0;
        vec_push(s->arena, &lists->at, list);
        if (n_versions <= MOST_VERSIONS) n_versions *= list.values.n;
    }
    for (uint32_t i = 0; i < given->n; i++) {
        DimList *list = &lists->at.at[i];
        lists->general[i] = (DimOverride){.name = list->name, .value = list->values.at[0]};
        if (list->values.n > 1) lists->general[i].found = &list->dim;
        for (uint32_t v = 0; v < list->values.n && list->values.n > 1; v++)
            lists->general[i].has_zero |= list->values.at[v] == 0;
    }
    if (n_versions > MOST_VERSIONS)
        diag_error(s->d, SRC_NOWHERE, "the lists of --dim make %s%d versions; at most %d are made",
                   n_versions > INT32_MAX ? "over " : "", (int)(n_versions & INT32_MAX),
                   MOST_VERSIONS);
    else if (s->o->only_versions && n_versions == 1)
        diag_error(s->d, SRC_NOWHERE, "--only-versions needs a --dim with several numbers");
    return !diag_n_errors(s->d);
}

/* Is the dim of this list one that calls decide, and can it be what the list says? */
static bool check_list(const Session *s, const DimList *list) {
    int64_t fixed;
    if (!list->dim) {
        diag_error(s->d, SRC_NOWHERE, "--dim %s: this model has no sizes to make versions for",
                   list->name);
        return false;
    }
    if (k_is_int(list->dim, &fixed)) {
        diag_error(s->d, SRC_NOWHERE, "--dim %s: the model fixes this dim to %lld", list->name,
                   (long long)fixed);
        return false;
    }
    for (uint32_t i = 0; i < list->values.n; i++)
        if (list->values.at[i] < list->dim->lo || list->values.at[i] > list->dim->hi) {
            diag_error(s->d, SRC_NOWHERE, "--dim %s=%lld: a dim lies between %lld and %lld",
                       list->name, (long long)list->values.at[i], (long long)list->dim->lo,
                       (long long)list->dim->hi);
            return false;
        }
    return true;
}

/* With --only-versions an argument reaches from its smallest number to its largest. */
static void narrow(const DimList *list) {
    if (list->dim->op != KO_var) return;
    KVar *symbol = list->dim->u.var;
    int64_t lo = INT64_MAX, hi = 0;
    for (uint32_t i = 0; i < list->values.n; i++) {
        if (list->values.at[i] < lo) lo = list->values.at[i];
        if (list->values.at[i] > hi) hi = list->values.at[i];
    }
    symbol->lo = lo;
    symbol->hi = hi;
}

/* The version of these choices, one number of each list. */
static bool add_version(Session *s, const DimLists *lists, const uint32_t *choice,
                        ImportOptions import) {
    KCtx *k = s->m->k;
    const KExpr *when = k_bool(k, true);
    StrBuf name = {0};
    DimOverride *dims = arena_array(s->arena, DimOverride, lists->at.n + 1);
    for (uint32_t i = 0; i < lists->at.n; i++) {
        const DimList *list = &lists->at.at[i];
        int64_t value = list->values.at[choice[i]];
        dims[i] = (DimOverride){.name = list->name, .value = value};
        if (list->values.n == 1 && !list->is_choice) continue;
        strbuf_printf(&name, "%s%s=%lld", name.n ? ", " : "", list->name, (long long)value);
        when = k_and(k, when, k_eq(k, list->dim, k_int(k, value)));
    }
    import.dims = dims;
    import.n_dims = (int)lists->at.n;
    Module *m = frontend_import_version(s->m, arena_strdup(s->m->arena, strbuf_text(&name)), when,
                                        &import);
    if (!m) diag_error(s->d, SRC_NOWHERE, "this was found for %s", strbuf_text(&name));
    strbuf_free(&name);
    return m != NULL;
}

/* The next combination; the last list counts fastest. False after the last one. */
static bool next_choice(const DimLists *lists, uint32_t *choice) {
    for (uint32_t i = lists->at.n; i-- > 0;) {
        if (++choice[i] < lists->at.at[i].values.n) return true;
        choice[i] = 0;
    }
    return false;
}

/* ---- steps of one token ---------------------------------------------------------------------- */

static bool has_dim(const Value *v, const KExpr *dim) {
    for (int i = 0; i < v->shape.rank; i++)
        if (v->shape.dims[i] == dim) return true;
    return false;
}

/* Keys or values of the tokens before: floats by batch, heads, places and elements, or without one
 * of them, of which the number of places is free. */
static bool is_past(const Value *v, const KExpr *step) {
    int64_t n;
    bool is_free = false;
    for (int i = 1; i < v->shape.rank; i++) is_free |= !k_is_int(v->shape.dims[i], &n);
    return dtype_is_float(v->dtype) && v->shape.rank >= 3 && is_free && !has_dim(v, step);
}

/* The number of new tokens in a call of a decoder: tokens[batch, n] goes in, with the keys and
 * values of those before, and as many tensors come out again. NULL for any other model. */
static const KExpr *new_tokens(const Graph *g) {
    const Value *tokens = NULL;
    uint32_t n_past = 0;
    for (uint32_t i = 0; i < g->inputs.n && !tokens; i++)
        if (dtype_is_int(g->inputs.at[i]->dtype) && g->inputs.at[i]->shape.rank == 2)
            tokens = g->inputs.at[i];
    if (!tokens || tokens->shape.dims[1]->op != KO_var) return NULL;
    const KExpr *batch = tokens->shape.dims[0], *n = tokens->shape.dims[1];
    int64_t known;
    if (batch == n || (k_is_int(batch, &known) && known != 1)) return NULL;
    for (uint32_t i = 0; i < g->inputs.n; i++) n_past += is_past(g->inputs.at[i], n);
    return n_past >= 2 && g->outputs.n > n_past && n->u.var->lo <= 1 ? n : NULL;
}

/* Most calls of a decoder have one new token, and what is best for that is little like what is best
 * for a prompt: one query per head, keys read where they lie, the old ones copied in passing. So it
 * has a version. Weights are packed alike, and there once. */
static void steps_of_one(Session *s, DimLists *lists) {
    DimList one = {.is_choice = true, .dim = new_tokens(s->m->main)};
    for (uint32_t i = 0; i < lists->at.n; i++)
        if (lists->at.at[i].values.n > 1) return;
    if (!one.dim) return;
    one.name = one.dim->u.var->name;
    vec_push(s->arena, &one.values, 1);
    vec_push(s->arena, &lists->at, one);
}

bool dims_add_versions(Session *s, DimLists *lists, const ImportOptions *import) {
    bool has_lists = false;
    if (s->m->on_destroy_user) steps_of_one(s, lists); /* IR text cannot be read once more */
    for (uint32_t i = 0; i < lists->at.n; i++) {
        const DimList *list = &lists->at.at[i];
        if (list->values.n == 1 && !list->is_choice) continue;
        has_lists = true;
        if (!check_list(s, list)) return false;
        if (s->o->only_versions) narrow(list);
    }
    if (!has_lists) return true;
    s->m->only_versions = s->o->only_versions;
    uint32_t *choice = arena_array(s->arena, uint32_t, lists->at.n + 1);
    do {
        if (!add_version(s, lists, choice, *import)) return false;
    } while (next_choice(lists, choice));
    return true;
}
