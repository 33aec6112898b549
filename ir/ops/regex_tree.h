/* A parsed regular expression: what regex_parse.c makes and regex.c turns into tables. */
#ifndef SMELT_IR_OPS_REGEX_TREE_H
#define SMELT_IR_OPS_REGEX_TREE_H

#include "ir/ops/regex.h"

typedef enum {
    RE_EMPTY,
    RE_SET,    /* one code point of a set */
    RE_BYTE,   /* any byte */
    RE_CAT,    /* a, then b */
    RE_ALT,    /* a or b */
    RE_REPEAT, /* a, min to max times; max -1: any number */
    RE_ASSERT,
} RegexKind;

typedef enum {
    RE_BEGIN_TEXT,
    RE_END_TEXT,
    RE_BEGIN_LINE,
    RE_END_LINE,
    RE_WORD_BORDER,
    RE_NO_WORD_BORDER,
} RegexAssert;

typedef struct CodeRange {
    int32_t lo, hi;
} CodeRange;

typedef struct RegexNode RegexNode;
struct RegexNode {
    RegexKind kind;
    RegexNode *a, *b;
    int min, max;
    RegexAssert what;
    CodeRange *range; /* sorted, apart from each other */
    int n_ranges;
};

/* NULL with an error. */
RegexNode *regex_parse(Arena *a, const char *pattern, RegexError *error);

#endif
