/* Part of choose_schedules: packed codes of a few bits read in words. */
#ifndef SMELT_PASSES_CODE_WORDS_H
#define SMELT_PASSES_CODE_WORDS_H

#include "ir/define.h"

/* Rewrites the codes that s's right factor reads from constant bytes so that it reads them from
 * words of 32 bits; the number of codes in a word, 0 where there are none. */
int read_code_words(DefProgram *p, Stage *s);
/* Does e stay the same for `per` values of var from each multiple of it on? */
bool is_same_in_runs(KCtx *k, const KExpr *e, KVar *var, int per);
/* Constants that the right factor reads by an index with `lane` and others in it (scales in one
 * row, s[j*32 + k // 32]), and that are the same for runs of the sum's axis, become tables over
 * lane and runs. */
void separate_runs(DefProgram *p, Stage *s, KVar *lane);

#endif
