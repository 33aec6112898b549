/* What stages read: which tensors, who reads them, and where. */
#include "ir/define.h"

#include <string.h>

/* ---- tensors and their readers --------------------------------------------------------------- */

typedef struct Reads {
    KTensor **out;
    int n, cap;
} Reads;

static void note_read(const KExpr *e, void *user) {
    Reads *r = user;
    if (e->op != KO_at) return;
    for (int i = 0; i < r->n; i++)
        if (r->out[i] == e->u.tensor) return;
    BUG_IF(r->n == r->cap, "a stage reads more than %d tensors", r->cap);
    r->out[r->n++] = e->u.tensor;
}

void stage_visit(KCtx *k, const Stage *s, void (*fn)(const KExpr *e, void *user), void *user) {
    const KExpr *parts[] = {s->body, s->lhs, s->rhs, s->run_init, s->term, s->finish};
    for (int i = 0; i < 6; i++)
        if (parts[i]) k_visit(k, parts[i], fn, user);
    for (int i = 0; i < s->n_states; i++) {
        k_visit(k, s->state_init[i], fn, user);
        k_visit(k, s->step[i], fn, user);
    }
}

/* Expressions never change, so the answer holds for the same ones; stage_rewrite forgets it for the
 * parts that are not compared. */
static void find_reads(KCtx *k, Arena *a, Stage *s, const KExpr *const *parts) {
    KTensor *found[256];
    Reads r = {found, 0, 256};
    stage_visit(k, s, note_read, &r);
    if (s->form == FORM_PROGRAM) kblock_visit(k, &s->program, note_read, &r);
    s->reads.known = true;
    s->reads.n = r.n;
    s->reads.tensors = arena_copy(a, found, sizeof *found * (size_t)r.n);
    memcpy(s->reads.of, parts, sizeof s->reads.of);
}

int stage_reads(DefProgram *p, const Stage *s, KTensor **out, int cap) {
    const KExpr *parts[] = {s->body, s->lhs, s->rhs, s->run_init, s->term, s->finish};
    if (!s->reads.known || memcmp(s->reads.of, parts, sizeof parts))
        find_reads(p->m->k, p->arena, (Stage *)s, parts);
    BUG_IF(s->reads.n > cap, "a stage reads more than %d tensors", cap);
    if (s->reads.n) memcpy(out, s->reads.tensors, sizeof *out * (size_t)s->reads.n);
    return s->reads.n;
}

void stage_note_reads(Stage *s) {
    KTensor *read[256];
    int n = stage_reads(s->owner, s, read, 256);
    for (int i = 0; i < n; i++) {
        vec_push(s->owner->arena, &read[i]->users, s);
        read[i]->n_users++;
    }
}

void stage_forget_reads(Stage *s) {
    KTensor *read[256];
    int n = stage_reads(s->owner, s, read, 256);
    for (int i = 0; i < n; i++) {
        KTensor *t = read[i];
        for (uint32_t u = 0; u < t->users.n; u++) {
            if (t->users.at[u] != s) continue;
            memmove(&t->users.at[u], &t->users.at[u + 1], sizeof(Stage *) * (t->users.n - u - 1));
            t->users.n--;
            t->n_users--;
            break;
        }
    }
}

/* What a control-flow node takes from outside is read as dense memory. */
static void note_region_inputs(DefProgram *p, Stage *s) {
    for (int i = 0; i < s->region->n_in; i++) {
        KTensor *t = s->region->in[i] ? program_tensor(p, s->region->in[i]) : NULL;
        if (!t) continue;
        vec_push(p->arena, &t->users, s);
        t->n_users++;
        t->dense_only = true;
    }
}

static void count_in(DefProgram *p, void *user) {
    (void)user;
    for (Stage *s = p->first; s; s = s->next) {
        stage_note_reads(s);
        if (s->region) note_region_inputs(p, s);
    }
    for (uint32_t i = 0; i < p->outputs.n; i++) {
        p->outputs.at[i]->n_users++;
        p->outputs.at[i]->dense_only = true;
    }
}

static void reset_users(DefProgram *p, void *user) {
    (void)user;
    for (uint32_t i = 0; i < p->tensors.n; i++) {
        p->tensors.at[i]->n_users = 0;
        p->tensors.at[i]->users.n = 0;
    }
}

void program_visit(DefProgram *p, void (*fn)(DefProgram *p, void *user), void *user) {
    fn(p, user);
    for (Stage *s = p->first; s; s = s->next)
        for (int i = 0; i < 2; i++)
            if (s->sub[i]) program_visit(s->sub[i], fn, user);
}

void program_count_users(DefProgram *p) {
    program_visit(p, reset_users, NULL);
    program_visit(p, count_in, NULL);
}

int stages_find(Stage *const *stages, int n, const KTensor *t) {
    for (int i = 0; i < n; i++)
        if (stages[i]->out == t) return i;
    return -1;
}

bool stages_feed(DefProgram *p, Stage *const *stages, int n, const Stage *s) {
    KTensor *read[256];
    int n_read = stage_reads(p, s, read, 256);
    for (int i = 0; i < n_read; i++)
        for (const KTensor *t = read[i]; t; t = t->alias)
            if (stages_find(stages, n, t) >= 0) return true;
    return false;
}

bool stages_own(const DefProgram *p, Stage *const *stages, int n, const KTensor *t) {
    if (t->dense_only || t->alias || t->n_users != t->users.n || tensor_has_aliases(p, t))
        return false;
    for (uint32_t u = 0; u < t->users.n; u++)
        if (stages_find(stages, n, t->users.at[u]->out) < 0) return false;
    return t->users.n > 0;
}

/* ---- where in a tensor ----------------------------------------------------------------------- */

int stage_axis_of(const Stage *s, const KExpr *e) {
    for (int i = 0; e->op == KO_var && i < s->out->rank; i++)
        if (e->u.var == s->axis[i]) return i;
    return -1;
}

/* The reads of one tensor in an expression: the first, whether all are that one (equal expressions
 * are one node), and whether all are at the element that s defines. */
typedef struct Places {
    const KTensor *t;
    const Stage *s; /* when own is asked for */
    bool own, same;
    const KExpr *first;
} Places;

static void note_place(const KExpr *e, void *user) {
    Places *r = user;
    if (e->op != KO_at || e->u.tensor != r->t) return;
    if (!r->first) r->first = e;
    r->same &= e == r->first;
    for (int i = 0; r->own && i < r->t->rank; i++)
        r->own = stage_axis_of(r->s, e->arg[i]) == i ||
                 (k_is_value(e->arg[i], 0) && k_is_value(r->t->dims[i], 1));
}

bool expr_reads(KCtx *k, const KExpr *e, const KTensor *t) {
    Places r = {.t = t};
    if (e) k_visit(k, e, note_place, &r);
    return r.first != NULL;
}

bool map_reads_own(KCtx *k, const Stage *map, const KTensor *t) {
    Places r = {t, map, .own = t->rank == map->out->rank};
    k_visit(k, map->body, note_place, &r);
    return r.own;
}

const KExpr *map_only_read(KCtx *k, const Stage *map, const KTensor *t) {
    Places r = {.t = t, .same = true};
    k_visit(k, map->body, note_place, &r);
    return r.first && r.same && !at_pred(r.first) ? r.first : NULL;
}

bool read_permutes(const Stage *map, const KExpr *at, int *axis) {
    const KTensor *t = at->u.tensor;
    bool used[MAX_RANK] = {false};
    for (int i = 0; i < t->rank; i++) {
        axis[i] = stage_axis_of(map, at->arg[i]);
        if (axis[i] < 0 && k_is_value(at->arg[i], 0) && k_is_value(t->dims[i], 1)) continue;
        if (axis[i] < 0 || used[axis[i]] || map->out->dims[axis[i]] != t->dims[i]) return false;
        used[axis[i]] = true;
    }
    for (int a = 0; a < map->out->rank; a++)
        if (!used[a] && !k_is_value(map->out->dims[a], 1)) return false;
    return true;
}
