/* define_stages: turns every node into the definitions of its outputs.
 *
 * Before:  %3 = Add(%1, %2)
 * After:   %3[i, j] = at(%1; i, j) + at(%2; i, j)
 *
 * Requires shapes. Leaves Module.defs, one DefProgram for the main graph and one for each region;
 * every graph output has a tensor of its own that a stage of the program writes, so that results
 * can be produced in the caller's memory: an output that is an input, a constant, another output or
 * an outer value is copied. It does not fuse anything. */
#include <string.h>

#include "passes/pass.h"

static bool writes_in(const DefProgram *p, const KTensor *t) {
    if (!t->def) return false;
    for (const Stage *s = p->first; s; s = s->next)
        if (s == t->def) return true;
    return false;
}

static KTensor *copy_tensor(DefProgram *p, KTensor *t) {
    KTensor *copy = program_add_tensor(p, t->name, t->dtype, t->rank, t->dims);
    Stage *s = program_add_copy(p, NULL, copy, t, NULL);
    s->view = true;
    s->node = t->def ? t->def->node : p->last->prev ? p->last->prev->node : NULL;
    return copy;
}

static void own_outputs(DefProgram *p, void *user) {
    (void)user;
    for (uint32_t i = 0; i < p->outputs.n; i++) {
        KTensor *t = p->outputs.at[i];
        bool repeated = !writes_in(p, t);
        for (uint32_t j = 0; j < i; j++) repeated |= p->outputs.at[j] == t;
        if (repeated) t = p->outputs.at[i] = copy_tensor(p, t);
        t->dense_only = true;
        if (p->parent) continue;
        t->is_output = true;
        t->io_index = i;
    }
}

bool pass_define_stages(Module *m) {
    m->defs = program_create(m, NULL, m->main);
    program_require_bounds(m->defs);
    m->macs = program_macs(m->defs);
    program_visit(m->defs, own_outputs, NULL);
    program_count_users(m->defs); /* what regions take from outside is there from now on */
    return true;
}
