/* Places in memory of what the lanes of a vector loop read and write: place.c finds them, access.c
 * loads and stores there. */
#ifndef SMELT_CODEGEN_LLVM_PLACE_H
#define SMELT_CODEGEN_LLVM_PLACE_H

#include "codegen/llvm/llvm_gen.h"

enum { MAX_PATTERN = 64 }; /* lanes of which places are looked at one by one */

/* An address per lane or for all of them. */
typedef struct Place {
    LLVMTypeRef type;     /* of one element in memory, or of a word */
    LLVMTypeRef unit;     /* of one element */
    LLVMValueRef ptr;     /* of lane 0's element, without the varying part */
    LLVMValueRef varying; /* <lanes x i64> element offsets, or NULL */
    LLVMValueRef base, index; /* the buffer and <lanes x i32> indices, where these fit; or NULL */
    LLVMValueRef same;    /* where varying: the rest of the index in base, which has an element 0
                           * and takes indices of i32; or NULL */
    int64_t lane;         /* step from lane to lane, in elements */
    unsigned align;       /* of lane 0's element when nothing varies */
    LLVMValueRef local;   /* the buffer of registers that is read at constant places, or NULL */
    int64_t constant, n_local; /* lane 0's place in it without the varying part; its elements */
    bool strays;          /* lanes that are cut off may be pages away from the buffer */
    int depth;
} Place;

/* A place as a vector of memory and an element of it for each lane. */
typedef struct InBlock {
    LLVMValueRef ptr;   /* of the vector */
    LLVMValueRef from;  /* the element that all lanes add, or NULL */
    int64_t at[MAX_PATTERN]; /* to this */
} InBlock;

/* Emits the address of b[index]. */
Place llvm_find_place(LlvmGen *g, const KBuf *b, const KExpr *index);
/* ptr + by elements of type t, for one or for each lane. */
LLVMValueRef llvm_step_ptr(LlvmGen *g, LLVMTypeRef t, LLVMValueRef ptr, LLVMValueRef by);
/* The address of each lane, for gathers and scatters. */
LLVMValueRef llvm_lane_addresses(LlvmGen *g, const Place *p);
/* The places of MAX_PATTERN lanes at most behind p->ptr, in elements; false where they are no
 * constants. */
bool llvm_constant_places(LlvmGen *g, const Place *p, int64_t *off);
/* Takes apart what reads elements of one vector of memory that lies at a multiple of its size (e,
 * at p); false where that is not known. */
bool llvm_find_block(LlvmGen *g, const KExpr *e, const Place *p, InBlock *b);

#endif
