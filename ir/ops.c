/* The operator table: ops.def yields the prototypes and the records; a missing verb is a link
 * error. */
#include "ir/ops.h"

#include <string.h>

#include "ir/support/arena.h"
#include "ir/support/map.h"

struct Module;
struct Node;
struct Def;

#define OP(name, domain, family, lo, hi, outs, flags)                                              \
    bool family##_infer(struct Module *m, struct Node *n);                                         \
    void family##_lower(struct Def *d, const struct Node *n);
#include "ir/ops.def"
#undef OP

const OpInfo op_info[OP_COUNT] = {
    [OP_NONE] = {.name = "none", .domain = ""},
#define OP(name, domain, family, lo, hi, outs, flags)                                              \
    [OP_##name] = {#name, domain, lo, hi, outs, flags, family##_infer, family##_lower},
#include "ir/ops.def"
#undef OP
};

OpId op_from_name(const char *domain, const char *name) {
    if (!strcmp(domain, "ai.onnx")) domain = "";
    for (int i = 1; i < OP_COUNT; i++)
        if (!strcmp(op_info[i].name, name) && !strcmp(op_info[i].domain, domain)) return (OpId)i;
    return OP_NONE;
}
