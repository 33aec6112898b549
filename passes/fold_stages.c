/* fold_stages: computes at compile time the stages that read constants only.
 *
 * Before:  t[i, j] = at(const w; j, i)     and something reads t that did not take it
 * After:   t is a constant
 *
 * Requires definitions, after fusion: large weights that are only moved on their way into a
 * contraction went into its operand by then and are packed once (choose_schedules). It does not
 * compute what would only make the library larger: results beyond SPLAT_BYTES that are larger than
 * what they read. */
#include "passes/pass.h"

enum { SPLAT_BYTES = 64 << 10 };

static uint64_t read_bytes(DefProgram *p, const Stage *s) {
    KTensor *read[256];
    uint64_t total = 0;
    int n = stage_reads(p, s, read, 256);
    for (int i = 0; i < n; i++) total += read[i]->data_bytes;
    return total;
}

static bool is_worth(DefProgram *p, const Stage *s) {
    int64_t n;
    if (s->form != FORM_MAP && s->form != FORM_REDUCE && s->form != FORM_CONTRACT) return false;
    if (s->out->is_output || s->out->dense_only || s->out->dtype == DT_STR) return false;
    if (!k_is_int(tensor_n_elems(p->m->k, s->out), &n)) return false;
    uint64_t bytes = (uint64_t)n * (uint64_t)dtype_bytes(s->out->dtype);
    return bytes <= SPLAT_BYTES || bytes <= read_bytes(p, s);
}

static void fold_program(DefProgram *p, void *user) {
    bool *changed = user;
    for (Stage *s = p->first, *next; s; s = next) {
        next = s->next;
        if (!is_worth(p, s) || !evaluate_stage(p, s)) continue;
        pass_trace("fold_stages", s->node, "computed");
        stage_forget_reads(s);
        stage_remove(p, s);
        s->out->def = NULL;
        *changed = true;
    }
}

bool pass_fold_stages(Module *m) {
    bool changed = false;
    program_count_users(m->defs);
    program_visit(m->defs, fold_program, &changed);
    return changed;
}
