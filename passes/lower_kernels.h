/* What the two halves of lower_kernels share: stages to kernels and their calls (lower_kernels.c),
 * control flow to statements of the entry (lower_regions.c). */
#ifndef SMELT_PASSES_LOWER_KERNELS_H
#define SMELT_PASSES_LOWER_KERNELS_H

#include "ir/schedule.h"
#include "ir/support/map.h"
#include "passes/pass.h"

typedef struct Lower {
    Module *m;
    KModule *km;
    KCtx *k;
    Arena *arena;
    KBuild entry;
    StrMap *by_signature;
    VEC(Kernel *) kernels;
    VEC(KBuf *) consts;
    VEC(KNode) nodes;
    const Node *current;
    VEC(KVar *) bound;    /* computed symbols that have their value at this place of the entry */
    VEC(KBuf *) reserved; /* heap buffers that have their memory at this place of the entry */
    uint32_t n_calls;
    /* constants by a hash of their bytes, and what buffers stand for */
    StrMap *by_bytes, *joined;
} Lower;

/* Opens the stages of a program, in order, at this place of the entry. */
void lower_program(Lower *l, DefProgram *p);
/* A region's stage: If, Loop or Scan. */
void lower_region(Lower *l, DefProgram *p, Stage *s);

/* The programs of all versions, in an entry that chooses; the interface is described already. */
void lower_versions(Lower *l);
/* Is there a constant of these bytes already, which will be used instead? */
bool lower_join_const(Lower *l, KBuf *b);
/* In the entry, puts others in the place of buffers that stand for these. */
void lower_join_buffers(Lower *l);

/* The kernel of this block, or an equal one made before; appends its call. s names it, or NULL. */
void lower_call(Lower *l, KBlock body, const Stage *s, double flops);
/* Gives a constant that the entry itself reads its number. */
void lower_note_const(Lower *l, KBuf *b);
/* Has the computed symbol its value at this place of the entry? user is the Lower. */
bool lower_is_bound(const KVar *v, const void *user);
/* Binds the symbol to what the size table holds, unless it is bound here already, and checks it. */
void lower_let_symbol(Lower *l, KVar *symbol);
/* How many elements a tensor has at most, as far as that is known at this place; NULL: no bound. */
const KExpr *lower_most_elems(Lower *l, const KTensor *root);
/* t is about to be written: if it lies on the heap and has no memory here yet, it gets some, for
 * its size as far as that is known here, otherwise for the bound. */
void lower_reserve(Lower *l, KTensor *t);
/* Heap memory for n_elems of b, of which the first `keep` stay (NULL: none). */
KStmt *lower_reserve_elems(Lower *l, KBuf *b, const KExpr *n_elems, const KExpr *keep);
/* Ends the run with this status (RETURN_...) where the condition holds. */
void lower_return_if(Lower *l, const KExpr *condition, int status);

#endif
