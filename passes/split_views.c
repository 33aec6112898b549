/* Maps that read a contraction's result through a view which makes one axis of two.
 *
 * Before:  c[i,j,k,l] = a contraction;   v[i,j,q] = c[i,j,q//W,q%W]   a view
 *          m[i,q,j] = f(v[i,j,q])
 * After:   n[i,k,l,j] = f(c[i,j,k,l])    which the contraction stores
 *          m[i,q,j] = n[i,q//W,q%W,j]    a view, which costs nothing
 *
 * So a convolution between rows of tokens (Reshape, Transpose, an activation) has these in its
 * store. And in front of it: what only windows read of rows of tokens,
 *
 *          x[i,c,k,l] = y[i,k*W+l,c]     y: a contraction with its vectors along c
 *
 * is stored so, in blocks of channels and with a halo like any other. Requires users. Not done:
 * views that split more than one axis, or into three, behind; and free sizes. Arithmetic between
 * bytes in front of the view (a quantized convolution's activation) counts as the contraction. */
#include "passes/pass.h"
#include "passes/split_views.h"

/* v[.., q, ..] = t[.., q // low, q % low, ..]: axis q of v is axes first and first + 1 of t. */
typedef struct Split {
    int axis, first;
    const KExpr *high, *low; /* extents */
} Split;

static int n_long_axes(const KTensor *t) {
    int n = 0;
    for (int i = 0; i < t->rank; i++) n += !k_is_value(t->dims[i], 1);
    return n;
}

/* Is the view such a split, its other axes those of t in order or of extent 1? */
static bool match_split(KCtx *k, const Stage *view, Split *split) {
    const KExpr *at = view->body;
    const KTensor *t = at->u.tensor;
    bool found = false;
    for (int i = 0; i < t->rank; i++) {
        if (stage_axis_of(view, at->arg[i]) >= 0 || k_is_value(t->dims[i], 1)) continue;
        if (found || i + 1 == t->rank || at->arg[i]->op != KO_fdiv) return false;
        const KExpr *q = at->arg[i]->arg[0], *low = t->dims[i + 1];
        int axis = stage_axis_of(view, q);
        if (axis < 0) return false;
        if (at->arg[i] != k_fdiv(k, q, low) || at->arg[i + 1] != k_fmod(k, q, low)) return false;
        *split = (Split){axis, i, t->dims[i], low};
        found = true;
        i++;
    }
    return found && n_long_axes(t) == n_long_axes(view->out) + 1 &&
           t->rank <= view->out->rank + 1;
}

/* The map's axis that is axis a of v, which it reads at one place only, its own axes in some order;
 * -1: it reads otherwise. */
static int axis_in_reader(KCtx *k, const Stage *map, const KTensor *v, int a) {
    int axis[MAX_RANK];
    const KExpr *at = map_only_read(k, map, v);
    return at && v->rank == map->out->rank && read_permutes(map, at, axis) ? axis[a] : -1;
}

bool is_split_view(KCtx *k, const Stage *s) {
    Split split;
    return s->form == FORM_MAP && s->view && s->body->op == KO_at && !s->out->dense_only &&
           s->out->n_users == 1 && s->body->n_args == s->body->u.tensor->rank &&
           match_split(k, s, &split);
}

/* Is t computed, for the map alone, by what can take the map into its store? A contraction; or
 * arithmetic between bytes, which in turn goes into the map. */
static bool may_store(const KTensor *t, const Stage *map) {
    if (!t->def || t->n_users != 1 || t->dense_only) return false;
    if (t->def->form == FORM_CONTRACT) return true;
    return t->def->form == FORM_MAP && t->def->body->op != KO_at &&
           dtype_bytes(map->out->dtype) == 1;
}

/* The view among what the map reads, of a contraction that nobody else reads. */
static Stage *find_view(DefProgram *p, const Stage *map, Split *split, int *axis) {
    KTensor *read[256];
    int n = stage_reads(p, map, read, 256);
    for (int i = 0; i < n; i++) {
        Stage *v = read[i]->def;
        if (!v || v->owner != p || !is_split_view(p->m->k, v)) continue;
        if (!may_store(v->body->u.tensor, map) || !match_split(p->m->k, v, split)) continue;
        *axis = axis_in_reader(p->m->k, map, v->out, split->axis);
        if (*axis >= 0) return v;
    }
    return NULL;
}

/* The map's axes for a tensor in front of the view: `split` as two, and so many of extent 1 left
 * out. dims and index[map's axes] of it; returns the rank, 0 where there are too few to leave out.
 * place[a]: where axis a is in it, -1: left out. */
static int axes_before_view(KCtx *k, const Stage *map, const Split *split, int axis, int n_drop,
                            const KExpr **dims, const KExpr **index, int *place) {
    int rank = 0;
    for (int i = 0; i < map->out->rank; i++) {
        const KExpr *at = k_var(k, map->axis[i]);
        place[i] = -1;
        if (i != axis && n_drop > 0 && k_is_value(map->out->dims[i], 1)) {
            n_drop--;
            continue;
        }
        place[i] = rank;
        dims[rank] = i == axis ? split->high : map->out->dims[i];
        index[rank++] = i == axis ? k_fdiv(k, at, split->low) : at;
        if (i != axis) continue;
        dims[rank] = split->low;
        index[rank++] = k_fmod(k, at, split->low);
    }
    return n_drop ? 0 : rank;
}

bool compute_before_view(DefProgram *p, Stage *map) {
    KCtx *k = p->m->k;
    Split split = {0};
    int axis = 0, place[MAX_RANK];
    const KExpr *dims[MAX_RANK + 1], *by[MAX_RANK], *index[MAX_RANK + 1];
    if (map->out->dense_only || map->view) return false;
    Stage *view = find_view(p, map, &split, &axis);
    if (!view) return false;
    int n_drop = map->out->rank + 1 - view->body->u.tensor->rank;
    int rank = axes_before_view(k, map, &split, axis, n_drop, dims, index, place);
    if (!rank || rank > MAX_RANK || !pass_may_rewrite()) return false;
    KTensor *apart = program_add_tensor(p, map->out->name, map->out->dtype, rank, dims);
    Stage *s = program_add_stage(p, map, FORM_MAP, apart, map->node);
    for (int i = 0; i < map->out->rank; i++) {
        by[i] = place[i] < 0 ? k_int(k, 0) : k_var(k, s->axis[place[i]]);
        if (i == axis)
            by[i] = k_add(k, k_mul(k, by[i], split.low), k_var(k, s->axis[place[i] + 1]));
    }
    stage_forget_reads(map);
    s->body = k_subst(k, map->body, map->axis, by, map->out->rank);
    stage_inline(p, s, view);
    map->body = k_at(k, apart, index, rank);
    map->view = map->movement = true;
    stage_note_reads(s);
    stage_note_reads(map);
    pass_count_rewrite();
    pass_trace("fuse_stages", map->node, "computed before a view");
    return true;
}

/* Are t's elements along this axis those of axes of s one after the other, as i*H*W + j*W + k? */
static bool joins_axes(KCtx *k, const Stage *s, const KExpr *e, const KExpr *dim, bool *used) {
    const KExpr *base, *coeff;
    int64_t step[MAX_RANK], extent[MAX_RANK], n = 1, whole;
    bool is_in[MAX_RANK] = {false};
    if (!k_is_int(dim, &whole)) return false;
    for (int a = 0; a < s->out->rank; a++) {
        if (!k_uses_var(k, e, s->axis[a])) continue;
        if (used[a] || !k_linear_in(k, e, s->axis[a], &base, &coeff)) return false;
        if (!k_is_int(coeff, &step[a]) || !k_is_int(s->out->dims[a], &extent[a])) return false;
        is_in[a] = true;
        e = base;
    }
    if (!k_is_value(e, 0)) return false;
    for (int turn = 0; turn < s->out->rank; turn++)
        for (int a = 0; a < s->out->rank; a++)
            if (is_in[a] && step[a] == n) {
                n *= extent[a];
                is_in[a] = false;
                used[a] = true;
            }
    for (int a = 0; a < s->out->rank; a++)
        if (is_in[a]) return false;
    return n == whole;
}

static bool is_window_over(KCtx *k, const Stage *s, const KTensor *t) {
    return s->form == FORM_CONTRACT && s->node && op_has(s->node->op, OPF_CONTRACTS) &&
           op_has(s->node->op, OPF_BLOCKABLE) && expr_reads(k, s->lhs, t);
}

bool makes_windows(DefProgram *p, const Stage *contraction, const Stage *map,
                   const KExpr *const *index) {
    KCtx *k = p->m->k;
    const KTensor *t = contraction->out;
    bool used[MAX_RANK] = {false};
    int channels = -1;
    if (map->body->op != KO_at || map->body->n_args != t->rank || map->out->rank < 3) return false;
    if (map->out->users.n != map->out->n_users || !map->out->n_users) return false;
    for (uint32_t i = 0; i < map->out->users.n; i++)
        if (!is_window_over(k, map->out->users.at[i], map->out)) return false;
    for (int i = 0; i < t->rank; i++) {
        if (stage_axis_of(map, index[i]) == 1) channels = i;
        if (!joins_axes(k, map, index[i], t->dims[i], used)) return false;
    }
    for (int a = 0; a < map->out->rank; a++)
        if (!used[a] && !k_is_value(map->out->dims[a], 1)) return false;
    return channels >= 0 && k_uses_var(k, contraction->rhs, contraction->axis[channels]) &&
           !k_uses_var(k, contraction->lhs, contraction->axis[channels]);
}
