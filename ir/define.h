/* Definitions: what each element of an operator's outputs is. The level between graph and loops.
 *
 * An operator's `lower` verb appends Stages to a DefProgram. A stage defines one tensor, element by
 * element: `axis[0..rank-1]` index the element, `body` is an expression over them, over `red`
 * (extra axes that a reduce or contract folds over) and over at(tensor; index...) reads. Fusion is
 * substitution: replacing at(t; i...) by t's own body. Layout and views are index rewrites: `at`
 * becomes a flat load through tensor_flat_index() when the definition opens into loops. Schedules
 * (schedule.h) are rewrites of those loops.
 *
 *   FORM_MAP       out[axis] = body
 *   FORM_REDUCE    out[axis] = finish(acc) where acc = fold of body over red, starting at init
 *   FORM_CONTRACT  a REDUCE whose fold is add and whose body is lhs * rhs in dtype acc->dtype
 *   FORM_SCAN      along axis[scan_axis], in order: state[k] = step[k]; out = body, which reads
 *                  the new states
 *   FORM_PROGRAM   kernel IR written out, storing to the buffers of `outs`
 *   FORM_REGION    a control-flow node: its subgraphs' own DefPrograms
 */
#ifndef SMELT_IR_DEFINE_H
#define SMELT_IR_DEFINE_H

#include "ir/graph.h"
#include "ir/kernel.h"

/* How a tensor's elements lie in memory: axes in `order`, then, when block > 1, the lowest `block`
 * indices of block_axis moved innermost (NCHWc: block_axis 1). Zero means dense row-major. */
typedef struct Layout {
    bool permuted;
    int8_t order[MAX_RANK]; /* valid when permuted: order[0] is the outermost axis */
    int8_t block_axis;
    int16_t block; /* 0 or 1: not blocked */
    bool has_halo; /* halo[a][0] elements before and halo[a][1] after axis a exist and hold
                      halo_value */
    uint16_t halo[MAX_RANK][2];
    int32_t halo_value; /* what they hold; only integers have other ones than 0 */
} Layout;

typedef struct Stage Stage;
struct Schedule; /* schedule.h */
struct Blocks;   /* schedule.h */

/* Memory for some rows of a tensor only: those of the block that a group of stages works on (see
 * Blocks in schedule.h), once for each slot. Shared axes before the rows have one index at a time
 * and no room of their own. A window that rolls keeps rows for the next block: row i lies in place
 * i & (ring - 1), in front of all other axes, which have their layout's blocks and halos. */
typedef struct RowWindow {
    const struct Blocks *of; /* knows the slot and the first row while the group is opened */
    bool fixed[MAX_RANK];    /* axes that have one index at a time */
    int row_axis; /* -1: there is one row at a time, too */
    int64_t ring; /* places for rows, a power of two; 0: the window does not roll */
} RowWindow;

/* How a tensor lies in another one of its rank, every step-th element along an axis: element i of
 * axis a is element i*step[a] + first[a] there, further on by shift[a] where that is not NULL. */
typedef struct Phase {
    int64_t step[MAX_RANK], first[MAX_RANK];
    const KExpr *shift[MAX_RANK];
} Phase;

/* Most phases that a strided ConvTranspose is split into (passes/split_phases.c). */
enum { MOST_PHASES = 16 };

struct KTensor {
    uint32_t id; /* dense in the program */
    const char *name;
    DType dtype;
    int rank;
    const KExpr **dims;
    Layout layout;
    bool
        dense_only; /* a program, region or the caller reads it: layout must stay dense row-major */
    const void *data; /* constant bytes, dense row-major, or NULL */
    uint64_t data_bytes;
    bool is_input, is_output; /* of the model */
    bool is_kept; /* an output whose elements before the call count; a call writes some of them */
    uint32_t io_index;
    Stage *def;     /* stage that defines it; NULL for inputs, constants, region inputs */
    const RowWindow *window; /* NULL: all of the tensor is in memory */
    const Phase *phase; /* of alias's axes, NULL: t is one stretch of its bytes */
    KTensor *alias; /* shares all of this tensor's bytes from element alias_offset on */
    const KExpr *alias_offset; /* elements; NULL is 0 */
    VEC(Stage *) users;        /* stages that read it, each once; set by program_count_users */
    uint32_t n_users;          /* of those, plus one for each place in a program's outputs */
    KBuf *buf;                 /* what kernels and programs address; exists from creation on */
    Value *value; /* graph value it stands for, or NULL for a temporary between stages */
};

typedef enum {
    FORM_NONE,
    FORM_MAP,
    FORM_REDUCE,
    FORM_CONTRACT,
    FORM_SCAN,
    FORM_PROGRAM,
    FORM_REGION
} Form;

enum { MAX_RED = 16, MAX_STATES = 4 };

/* What a step of a CONTRACT adds: lhs*rhs, (lhs - rhs)^2, |lhs - rhs|. */
typedef enum { ADD_PRODUCT, ADD_SQUARE, ADD_MAGNITUDE } Addend;

struct Stage {
    Form form;
    uint32_t id;
    Stage *prev, *next;
    DefProgram *owner; /* the program it is in */
    KTensor *out;
    KVar *axis[MAX_RANK]; /* KV_AXIS, one per dim of out */
    KVar *red[MAX_RED];
    const KExpr *red_extent[MAX_RED];
    int n_red;
    const KExpr *body; /* MAP, REDUCE, SCAN; CONTRACT: NULL, see lhs and rhs */
    /* REDUCE, CONTRACT */
    KOp fold; /* KO_add, KO_mul, KO_min, KO_max, KO_and, KO_or; associative and commutative */
    const KExpr *init; /* neutral element or start value; constant */
    KVar *acc; /* stands for the folded value in finish; its dtype is the accumulator's */
    const KExpr *finish;    /* over acc and axis; k_var(acc) when nothing follows */
    const KExpr *lhs, *rhs; /* CONTRACT: the factors, each of acc's dtype */
    /* CONTRACT whose steps are summed in runs: red[0] says which run, the other reduction axes go
     * over it. A run's sum, which lhs and rhs have the type of, starts from run_init; acc gets
     * `term`, an expression over it. NULL: acc gets the steps. */
    KVar *run;
    const KExpr *run_init, *term;
    KOp dot; /* CONTRACT in i32, or f32 for bf16: a step is acc = dot(acc, lhs, rhs), of words, with
              * this one of the dot products; 0: it is acc + lhs*rhs, or what `addend` says */
    bool dot_swapped; /* ... acc = dot(acc, rhs, lhs) */
    Addend addend; /* CONTRACT in floats, from choose_schedules on */
    /* SCAN */
    int scan_axis;
    bool scan_reverse;
    int n_states;
    KVar *state[MAX_STATES]; /* its value: before the step in step[], after it in body */
    const KExpr *state_init[MAX_STATES];
    const KExpr *step[MAX_STATES];
    /* PROGRAM */
    KBlock program; /* reads and stores tensors' bufs (flat, dense) */
    KTensor **outs; /* PROGRAM, REGION: all tensors it writes; outs[0] == out */
    int n_outs;
    KVar *sizes[8]; /* computed symbols it finds; it stores them to size_buf[slot] */
    int n_sizes;
    double macs; /* multiply-adds, where there are any to speak of */
    /* REGION */
    const Node *region;
    DefProgram *sub[2];
    /* everyone */
    bool movement; /* MAP: body is one at() (perhaps predicated), no arithmetic on elements */
    bool view;     /* MAP: out is the read tensor's dense bytes under another shape */
    uint32_t
        group; /* stages of one group (consecutive, non-zero) share a kernel; see group_stages */
    bool is_alias;             /* out shares the read tensor's bytes: nothing to run */
    struct Blocks *blocks; /* stages in a row with the same one run in blocks: block_stages.h */
    struct Schedule *schedule; /* CONTRACT: chosen by choose_schedules; NULL: opened by rows */
    const Node *node;          /* for messages, names and profiles */
    struct {
        bool known;
        const KExpr *of[6]; /* body, lhs, rhs, run_init, term, finish when they were looked at */
        KTensor **tensors;
        int n;
    } reads; /* stage_reads' memory */
};

/* What a contraction's steps are added to. */
static inline const KVar *contract_sum(const Stage *s) {
    return s->run ? s->run : s->acc;
}

/* Variables of a stage, its acc among them, and what stands for them. */
typedef struct Binding {
    KVar *var[MAX_RANK + MAX_RED + 1];
    const KExpr *by[MAX_RANK + MAX_RED + 1];
    int n;
} Binding;

static inline void binding_add(Binding *b, KVar *var, const KExpr *by) {
    b->var[b->n] = var;
    b->by[b->n++] = by;
}

/* A list of stages; the main one and one for each region body. */
struct DefProgram {
    Module *m;
    Arena *arena;
    DefProgram *parent;
    Stage *first, *last;
    VEC(KTensor *) tensors;         /* of this program only */
    VEC(KTensor *) inputs, outputs; /* in the graph's order */
    VEC(const KExpr *) required;    /* what has to hold of the symbols: bools */
    VEC(const KVar *) sizes;        /* symbols for long expressions that have their values */
    uint32_t n_stages;
};

/* What an operator's lower verb gets. */
typedef struct Def {
    DefProgram *p;
    Module *m;
    KCtx *k;
    Arena *arena;
    const Node *node;
    KBuild b; /* for programs, see def_program */
    /* While OPF_PARTS has one part of complex numbers computed: what input 0 and output 0 are. */
    KTensor *in_part, *out_part;
    bool is_imaginary;
} Def;

/* The definitions of d->node, by its lower verb. */
void def_lower(Def *d);

/* Input i's tensor (NULL when absent) and output i's (created with the value's dtype and shape). */
KTensor *def_in(Def *d, int i);
KTensor *def_out(Def *d, int i);
/* A temporary tensor between stages of one operator. */
KTensor *def_temp(Def *d, const char *name, DType t, int rank, const KExpr *const *dims);

/* Appends a stage defining out, with fresh axes. The caller fills in the rest and ends with
 * def_end. */
Stage *def_begin(Def *d, Form form, KTensor *out);
const KExpr *def_axis(Def *d, const Stage *s, int i);
/* Adds a reduction axis and returns it. */
const KExpr *def_reduce_axis(Def *d, Stage *s, const char *name, const KExpr *extent);
void def_map(Def *d, Stage *s, const KExpr *body);
void def_reduce(Def *d, Stage *s, KOp fold, DType acc, const KExpr *init, const KExpr *body);
void def_contract(Def *d, Stage *s, DType acc, const KExpr *lhs, const KExpr *rhs);
/* acc as an expression, for def_finish: s->finish = e. */
const KExpr *def_acc(Def *d, const Stage *s);
void def_finish(Def *d, Stage *s, const KExpr *e);
/* Opens a program that writes these tensors; statements go through d->b until def_end_program.
 * Programs read tensors with k_at only (that is how readers are found), and store with
 * kb_store(&d->b, t->buf, flat, v). */
Stage *def_program(Def *d, KTensor *const *outs, int n_outs);
void def_end_program(Def *d, Stage *s);
/* Inside a program: store a size found while running for this computed symbol. */
void def_store_size(Def *d, Stage *s, KVar *symbol, const KExpr *value);

/* A control-flow node: one stage that defines all of its outputs; its subgraphs become sub[]. */
void def_region(Def *d);

/* at(t; index...) with numpy broadcasting: index has `rank` entries, right-aligned, extent-1 dims
 * read 0. */
const KExpr *def_at(Def *d, KTensor *t, const KExpr *const *index, int rank);
/* at(t) predicated: zero (of t's dtype) where pred is false. The index may be out of bounds there.
 */
const KExpr *def_at_if(Def *d, KTensor *t, const KExpr *const *index, int rank, const KExpr *pred);
/* Row-major flat index, and its inverse. */
const KExpr *def_flatten(KCtx *k, const KExpr *const *index, const KExpr *const *dims, int rank);
void def_unflatten(KCtx *k, const KExpr *flat, const KExpr *const *dims, int rank,
                   const KExpr **index);
/* The inverse, each index in a let of this name. */
void kb_unflatten(KBuild *b, const char *name, const KExpr *flat, const KExpr *const *dims,
                  int rank, const KExpr **index);

/* A constant table for a definition: count elements of dtype t, rank 1 (values rounded to t). */
KTensor *def_table_ints(Def *d, const char *name, DType t, const int64_t *v, int64_t count);
KTensor *def_table_floats(Def *d, const char *name, DType t, const double *v, int64_t count);
/* Gives a table these constant dims instead of its one; their product is its length. */
void def_shape_table(Def *d, KTensor *table, const int64_t *dims, int rank);

/* A constant list of strings; the bytes are copied. */
KTensor *def_strings(Def *d, const char *name, const ConstString *s, int64_t count);

/* The tensor that stands for a graph value in program p (or in an enclosing one). */
KTensor *program_tensor(DefProgram *p, Value *v);
/* A fresh tensor, and a fresh stage placed before `at` (NULL: at the end) with axes for its dims.
 */
KTensor *program_add_tensor(DefProgram *p, const char *name, DType t, int rank,
                            const KExpr *const *dims);
Stage *program_add_stage(DefProgram *p, Stage *at, Form form, KTensor *out, const Node *node);
/* A map `to` = `from`, of the same shape, placed so. */
Stage *program_add_copy(DefProgram *p, Stage *at, KTensor *to, KTensor *from, const Node *node);

DefProgram *program_create(Module *m, DefProgram *parent, Graph *g);
/* Fills `required` of p and of the programs below it: what must hold so that all reads stay inside
 * their tensors. Before anything is fused. */
void program_require_bounds(DefProgram *p);
/* Multiply-adds of p's contractions as they stand, and of the programs below it. */
double program_macs(const DefProgram *p);

/* Elements in memory, padding of the blocked axis included, and where an element lies (of a tensor
 * with a window: while its rows exist). */
const KExpr *tensor_n_elems(KCtx *k, const KTensor *t);
const KExpr *tensor_flat_index(KCtx *k, const KTensor *t, const KExpr *const *index);
/* How far t's memory goes along an axis, halo included, a blocked axis in blocks; the axis that is
 * the i-th from outside there; and the elements of a row's place in a window that rolls: [axes that
 * are not shared, in order][lanes]. */
const KExpr *tensor_stored_dim(KCtx *k, const KTensor *t, int axis);
int tensor_axis_at(const KTensor *t, int i);
const KExpr *tensor_ring_row(KCtx *k, const KTensor *t);

/* The index of the element that s defines: its axes, 0 along those of one element. */
void stage_own_index(KCtx *k, const Stage *s, const KExpr **index);
/* What the map computes where `at` reads it; 0 where the read's predicate is false. */
const KExpr *stage_value_at(KCtx *k, const Stage *map, const KExpr *at);
/* at(t; axes...) in consumer replaced by t's MAP body. */
void stage_inline(DefProgram *p, Stage *consumer, Stage *map);
/* A step of a contraction with a dot product: old and the product of these words. */
const KExpr *stage_dot(KCtx *k, const Stage *s, const KExpr *old, const KExpr *lhs,
                       const KExpr *rhs);
void stage_remove(DefProgram *p, Stage *s);
/* s runs right before `at` from now on. */
void stage_move_before(DefProgram *p, Stage *s, Stage *at);
/* Every at() of e becomes a load from the tensor's bytes (through aliases); the last step before
 * loops. */
const KExpr *expr_open(DefProgram *p, const KExpr *e);
/* The predicate of at() without the conjuncts that its tensor's halo makes unnecessary, if `value`
 * is what is to be read there; NULL when nothing is left. Ranges decide: the index must stay inside
 * the halo for all values of its variables. */
const KExpr *at_pred_beyond_halo(KCtx *k, const KExpr *at, int32_t value);
/* The tensor whose bytes t shares (t itself mostly), and the element offset of t in it. */
KTensor *tensor_root(KCtx *k, KTensor *t, const KExpr **offset);
/* at() of a node, its predicate (or NULL): at nodes carry rank indices, then perhaps a predicate.
 */
const KExpr *at_pred(const KExpr *at);
/* Does e read f32 constants only, without infinities and NaN? Their products with 0 are 0. */
bool constants_are_finite(KCtx *k, const KExpr *e);
/* Calls fn on every node of s's expressions (a program's statements apart, and what its fold starts
 * from), as k_visit does, expression by expression. */
void stage_visit(KCtx *k, const Stage *s, void (*fn)(const KExpr *e, void *user), void *user);
/* All tensors that s reads (finish included), each once; returns how many (cap is the array's
 * length). */
int stage_reads(DefProgram *p, const Stage *s, KTensor **out, int cap);
/* The axis of s that e is, -1: none. */
int stage_axis_of(const Stage *s, const KExpr *e);
/* Does e (NULL: no) read t? */
bool expr_reads(KCtx *k, const KExpr *e, const KTensor *t);
/* Does the map read t at no other than its own element (0 along t's extents of 1)? */
bool map_reads_own(KCtx *k, const Stage *map, const KTensor *t);
/* The map's only read of t, which has no condition; NULL: there are others, or none. */
const KExpr *map_only_read(KCtx *k, const Stage *map, const KTensor *t);
/* Are the indices of `at` the map's axes, each once, or 0 along extents of 1, so that the elements
 * of the two are the same ones, in another order perhaps? axis[i]: which is t's axis i, or -1. */
bool read_permutes(const Stage *map, const KExpr *at, int *axis);
/* Fills KTensor.users and n_users for all tensors of p and of the programs below it. */
void program_count_users(DefProgram *p);
/* Among n stages of p: the place of the one that makes t, or -1; does s read one's result, or what
 * lies in the bytes of one; and do none but them read t, and nothing else need its bytes? */
int stages_find(Stage *const *stages, int n, const KTensor *t);
bool stages_feed(DefProgram *p, Stage *const *stages, int n, const Stage *s);
bool stages_own(const DefProgram *p, Stage *const *stages, int n, const KTensor *t);
/* Keep them right: s now reads what it reads / s is about to change or go. */
void stage_note_reads(Stage *s);
void stage_forget_reads(Stage *s);
/* Calls fn for p and all programs below it, outermost first. */
void program_visit(DefProgram *p, void (*fn)(DefProgram *p, void *user), void *user);
/* Does another tensor of p lie in t's bytes? */
bool tensor_has_aliases(const DefProgram *p, const KTensor *t);
/* Is t the part of an output that is kept, which was there before the call? */
static inline bool tensor_is_old(const KTensor *t) {
    return t->alias && t->alias->is_kept && !t->def;
}
/* Do t's elements lie in dense row-major order (whatever its layout says)? */
bool tensor_is_dense(KCtx *k, const KTensor *t);
/* Every expression of s rewritten in place. */
void stage_rewrite(DefProgram *p, Stage *s, KRewrite *fn, void *user);

/* The plain loops of a stage, one element after the other: the reference meaning of the definition.
 * Writes to the tensors' bufs through flat indices. */
void stage_open_plain(DefProgram *p, const Stage *s, KBuild *b);
/* old + the term of a run's sum. */
const KExpr *contract_term(const DefProgram *p, const KExpr *old, const KExpr *term);
/* What is accumulated after a step of a CONTRACT: old and what it adds of the opened factors. */
const KExpr *contract_step(const DefProgram *p, const Stage *s, const KExpr *old, const KExpr *lhs,
                           const KExpr *rhs);

#endif
