/* tabulate_bytes: what is a costly function of one byte becomes a table of 256 entries.
 *
 * Before:  $1 = min(max(rint(..) + 128.0, 0.0), 255.0) - 128.0
 *          u8(min(max(rint($1*min(max(rint(sigmoid($1*0.0048) / 0.0025), 0.0), 255.0)*0.005
 *                          + 90.0), 0.0), 255.0))
 * After:   u8(table[u8(min(max(rint(..) + 128.0, 0.0), 255.0))])
 *
 * A byte is what is stored or read as one, or a number that rounding and clamping made one of 0 ..
 * 255 or -128 .. 127. The largest expressions over one byte and constants that hold a
 * transcendental function are replaced; the table is computed at compile time by the same
 * expression, so results do not change. Its entries have 32 bits, which vector code can gather.
 * Requires definitions after requantize. */
#include <math.h>
#include <string.h>

#include "passes/pass.h"

enum { FIRST_SIGNED = -128, N_BYTES = 256 };

typedef enum { OF_UNSEEN, OF_CONSTANTS, OF_BYTE, OF_MORE } Kind;

typedef struct Source {
    Kind kind;
    bool is_costly;    /* a transcendental function lies between here and the byte */
    const KExpr *byte; /* OF_BYTE */
} Source;

/* What is known of expressions, by id: the same in all stages. */
typedef struct Tables {
    DefProgram *p;
    Stage *s;
    KCtx *k;
    Source *source;
    const KExpr **result; /* of tabulate; NULL: not looked at */
    uint32_t n;
} Tables;

/* Makes room for the expressions there are; what is made later has no row until the next stage. */
static void make_room(Tables *t) {
    uint32_t n = kctx_n_exprs(t->k), old = t->n;
    if (n <= old) return;
    Source *source = t->source;
    const KExpr **result = t->result;
    t->n = n < 2 * old ? 2 * old : n;
    t->source = arena_array(t->p->m->scratch, Source, t->n);
    t->result = arena_array(t->p->m->scratch, const KExpr *, t->n);
    if (!old) return;
    memcpy(t->source, source, old * sizeof *source);
    memcpy(t->result, result, old * sizeof *result);
}

/* Is e one of 256 whole numbers from *first on? */
static bool is_byte(const KExpr *e, int *first) {
    *first = e->dtype == DT_I8 ? FIRST_SIGNED : 0;
    if (e->dtype == DT_U8 || e->dtype == DT_I8)
        return e->op == KO_at || e->op == KO_cast || e->op == KO_var;
    if (e->dtype != DT_F32 || e->op != KO_min || e->arg[1]->op != KO_const_f) return false;
    const KExpr *low = e->arg[0], *sum;
    if (low->op != KO_max || low->arg[1]->op != KO_const_f) return false;
    sum = low->arg[0];
    if (sum->op == KO_add && sum->arg[1]->op == KO_const_f &&
        sum->arg[1]->u.f == rint(sum->arg[1]->u.f))
        sum = sum->arg[0];
    double from = low->arg[1]->u.f, to = e->arg[1]->u.f;
    if (sum->op != KO_rint || from != rint(from) || to != rint(to) || from > to) return false;
    *first = from < 0 ? FIRST_SIGNED : 0;
    return from >= *first && to <= *first + N_BYTES - 1;
}

static Source source_of(Tables *t, const KExpr *e) {
    if (e->id < t->n && t->source[e->id].kind != OF_UNSEEN) return t->source[e->id];
    Source s = {e->op == KO_var || e->op == KO_load || e->op == KO_at ? OF_MORE : OF_CONSTANTS,
                false, NULL};
    for (int i = 0; i < e->n_args && e->op != KO_at && e->op != KO_load; i++) {
        Source a = source_of(t, e->arg[i]);
        s.is_costly |= a.is_costly;
        if (a.kind == OF_MORE || (a.kind == OF_BYTE && s.byte && s.byte != a.byte))
            s.kind = OF_MORE;
        if (a.kind == OF_BYTE) s.byte = a.byte;
        if (a.kind == OF_BYTE && s.kind == OF_CONSTANTS) s.kind = OF_BYTE;
    }
    s.is_costly |= kop_info[e->op].class == KC_MATH;
    int first;
    if (s.kind == OF_MORE && is_byte(e, &first)) s = (Source){OF_BYTE, false, e};
    if (e->id < t->n) t->source[e->id] = s;
    return s;
}

/* A read of the table of e, a function of the byte. */
static const KExpr *look_up(Tables *t, const KExpr *e, const KExpr *byte) {
    KCtx *k = t->k;
    int first;
    if (!is_byte(byte, &first)) return NULL;
    DType entry = e->dtype == DT_F32 ? DT_F32 : DT_I32;
    const KExpr *n = k_int(k, N_BYTES);
    KVar *entries = kvar_new(k, KV_AXIS, DT_I64, "entry", 0, N_BYTES - 1);
    const KExpr *at = k_add(k, k_var(k, entries), k_int(k, first));
    KVar *stand_in = kvar_new(k, KV_AXIS, byte->dtype, "byte", INT64_MIN, INT64_MAX);
    const KExpr *value = k_replace(k, e, byte, k_var(k, stand_in)), *index;
    at = k_cast(k, byte->dtype, at);
    value = k_cast(k, entry, k_subst(k, value, &stand_in, &at, 1));
    KTensor *table = constant_table(t->p, t->s, "table", value, &entries, &n, 1);
    if (!table) return NULL;
    index = byte->dtype == DT_F32 ? k_cast(k, first ? DT_I8 : DT_U8, byte) : byte;
    index = k_sub(k, k_cast(k, DT_I64, k_cast(k, DT_I32, index)), k_int(k, first));
    return k_cast(k, e->dtype, k_at(k, table, &index, 1));
}

static const KExpr *tabulate(Tables *t, const KExpr *e, int depth);

/* e with the topmost expressions of one byte in tables. */
static const KExpr *tabulate_new(Tables *t, const KExpr *e, int depth) {
    Source s = source_of(t, e);
    bool fits = e->dtype == DT_F32 || e->dtype == DT_U8 || e->dtype == DT_I8;
    if (s.kind == OF_BYTE && !s.is_costly) return e;
    if (s.kind == OF_BYTE && fits && e != s.byte) {
        const KExpr *by = look_up(t, e, s.byte);
        if (by) return by;
    }
    const KExpr *arg[MAX_RANK + 1];
    if (!s.is_costly || !e->n_args || depth > 64 || e->op == KO_at || e->op == KO_load) return e;
    for (int i = 0; i < e->n_args; i++) arg[i] = tabulate(t, e->arg[i], depth + 1);
    return k_rebuild(t->k, e, arg);
}

static const KExpr *tabulate(Tables *t, const KExpr *e, int depth) {
    if (e->id < t->n && t->result[e->id]) return t->result[e->id];
    const KExpr *r = tabulate_new(t, e, depth);
    if (e->id < t->n) t->result[e->id] = r;
    return r;
}

static void tabulate_program(DefProgram *p, void *user) {
    bool *changed = user;
    Tables t = {.p = p, .k = p->m->k};
    for (Stage *s = p->first; s; s = s->next) {
        const KExpr **value = s->form == FORM_MAP                                  ? &s->body
                              : s->form == FORM_REDUCE || s->form == FORM_CONTRACT ? &s->finish
                                                                                   : NULL;
        if (!value || !*value) continue;
        t.s = s;
        make_room(&t);
        if (!source_of(&t, *value).is_costly || !pass_may_rewrite()) continue;
        const KExpr *old = *value;
        *value = tabulate(&t, old, 0);
        if (*value == old) continue;
        pass_count_rewrite();
        pass_trace("tabulate_bytes", s->node, "a function of a byte in a table");
        *changed = true;
    }
}

bool pass_tabulate_bytes(Module *m) {
    bool changed = false;
    program_visit(m->defs, tabulate_program, &changed);
    program_count_users(m->defs);
    return changed;
}
