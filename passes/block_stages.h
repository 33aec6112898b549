/* Internal to block_stages.c, block_windows.c, block_cut.c and block_cost.c: a group of stages that
 * could run in blocks. */
#ifndef SMELT_PASSES_BLOCK_STAGES_H
#define SMELT_PASSES_BLOCK_STAGES_H

#include "ir/schedule.h"

enum {
    MAX_MEMBERS = 32,
    MAX_BETWEEN = 16 /* stages between members that may move */
};

typedef struct Group {
    DefProgram *p;
    KCtx *k;
    bool is_whole; /* see Blocks */
    int n, n_axes, n_between;
    const KExpr *extent[MAX_RANK];
    Stage *stages[MAX_MEMBERS];
    int8_t axis[MAX_MEMBERS][MAX_RANK];
    Stage *between[MAX_BETWEEN];
} Group;

/* How many an extent is; what is unknown counts as some. */
double group_extent(const KExpr *e);
/* The member that makes t; -1 for none. */
int group_member_of(const Group *g, const KTensor *t);

/* Do only members read t, and nothing else need its bytes? */
bool group_is_private(const Group *g, const KTensor *t);
/* Bytes of one row of member m's tensor, at one index of the shared axes. */
double group_row_bytes(const Group *g, int m);
/* Which member's memory each member's tensor takes over; -1: it has its own, or no window. */
void group_find_replaced(const Group *g, int8_t *replaced);
/* Gives windows to all tensors that can have one. */
void group_set_windows(const Group *g, const Blocks *blocks);

/* Members that need not see all of an axis, under a causal mask. */
typedef struct Cut {
    const Group *g;
    double fill[MAX_MEMBERS]; /* what a member's tensor holds beyond the limit, where axis >= 0 */
    int8_t axis[MAX_MEMBERS], red[MAX_MEMBERS];
} Cut;

/* How many elements of the first member's vector axis count at a row, if that grows with the row
 * and all members allow for it; NULL: all. Fills the axes to cut. */
const KExpr *group_find_limit(const Group *g, Cut *c);

/* As many rows as half of the L2 cache has room for, a little fewer where tiles then fit. */
int64_t group_choose_rows(const Group *g);
/* Bytes that need not go through memory, less those that are read again. Nothing where the blocks
 * would be too few for threads. */
double group_bytes_saved(const Group *g, int64_t rows);

#endif
