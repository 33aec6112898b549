/* The definition level as text: what each element of each tensor is.
 *
 *     program {
 *       input x: f32[n, 8]
 *       const w: f32[8, 4] = @0123456789abcdef
 *       y: f32[n, 4] = contract [i, j] over [k < 8] tile t6x1x2_v8 "dense" {
 *         lhs = x[i, k]
 *         rhs = w[k, j]
 *         fold add f32 from 0.0
 *         finish = max(acc, 0.0)
 *       }
 *       return y
 *     }
 *
 * The tensor's line also tells its layout, what it shares bytes with, and its group. */
#include <inttypes.h>
#include <string.h>

#include "ir/print.h"
#include "ir/print_text.h"
#include "ir/winograd.h"

/* ---- tensors --------------------------------------------------------------------------------- */

/* A tensor and the buffer of its elements go by one name. */
static const char *bind_tensor(Text *t, const KTensor *x) {
    const char *name = text_bind(t, x, x->name);
    if (x->buf) textmap_put(&t->name, x->buf, (void *)(uintptr_t)name);
    return name;
}

static void layout_text(Text *t, const KTensor *x) {
    const Layout *l = &x->layout;
    if (l->permuted) {
        strbuf_add(t->out, " order [");
        for (int i = 0; i < x->rank; i++) strbuf_printf(t->out, "%s%d", i ? ", " : "", l->order[i]);
        strbuf_add(t->out, "]");
    }
    if (l->block > 1) strbuf_printf(t->out, " blocked %d by %d", l->block_axis, l->block);
    if (l->has_halo) {
        strbuf_add(t->out, " halo [");
        for (int i = 0; i < x->rank; i++)
            strbuf_printf(t->out, "%s%d+%d", i ? ", " : "", l->halo[i][0], l->halo[i][1]);
        strbuf_add(t->out, "]");
        if (l->halo_value) strbuf_printf(t->out, " of %d", (int)l->halo_value);
    }
    if (x->window) strbuf_add(t->out, " window");
    if (x->window && x->window->ring)
        strbuf_printf(t->out, " of %" PRId64 " rows", x->window->ring);
    if (x->dense_only) strbuf_add(t->out, " dense");
    if (x->is_kept) strbuf_add(t->out, " kept");
    if (!x->alias) return;
    strbuf_printf(t->out, " in %s", text_name(t, x->alias, x->alias->name));
    if (x->phase) {
        strbuf_add(t->out, " [");
        for (int i = 0; i < x->rank; i++) {
            strbuf_add(t->out, i ? ", " : "");
            if (x->phase->shift[i])
                text_expr(t, x->phase->shift[i]);
            else
                strbuf_printf(t->out, "%d", (int)x->phase->first[i]);
            strbuf_printf(t->out, " by %d", (int)x->phase->step[i]);
        }
        strbuf_add(t->out, "]");
    }
    if (!x->alias_offset) return;
    strbuf_add(t->out, " at ");
    text_expr(t, x->alias_offset);
}

static void tensor_text(Text *t, const KTensor *x) {
    strbuf_printf(t->out, "%s: %s[", bind_tensor(t, x), dtype_info[x->dtype].name);
    text_exprs(t, x->dims, x->rank);
    strbuf_add(t->out, "]");
    layout_text(t, x);
}

static void share_tensor(Text *t, const KTensor *x, const Stage *s) {
    const KExpr *roots[MAX_RANK + MAX_RED + 1];
    int n = 0;
    for (int i = 0; x && i < x->rank; i++) roots[n++] = x->dims[i];
    for (int i = 0; s && i < s->n_red; i++) roots[n++] = s->red_extent[i];
    roots[n++] = x ? x->alias_offset : NULL;
    text_share(t, roots, n);
}

static void declaration(Text *t, const KTensor *x, const char *word) {
    int64_t count = 1, dim;
    bool is_known = x->data != NULL;
    share_tensor(t, x, NULL);
    text_line(t);
    strbuf_printf(t->out, "%s ", word);
    tensor_text(t, x);
    for (int i = 0; i < x->rank; i++) {
        is_known &= k_is_int(x->dims[i], &dim) && dim >= 0;
        if (is_known && __builtin_mul_overflow(count, dim, &count)) is_known = false;
    }
    if (x->layout.block > 1 && x->dtype)
        count = (int64_t)x->data_bytes / dtype_bytes(x->dtype); /* with padding */
    if (is_known &&
        (x->dtype == DT_STR || (uint64_t)count * (uint64_t)dtype_bytes(x->dtype) <= x->data_bytes))
        text_data(t, x->dtype, x->data, (uint64_t)count);
    text_newline(t);
}

/* ---- stages ---------------------------------------------------------------------------------- */

static const char *form_word(Form f) {
    switch (f) {
    case FORM_NONE: return "none";
    case FORM_MAP: return "map";
    case FORM_REDUCE: return "reduce";
    case FORM_CONTRACT: return "contract";
    case FORM_SCAN: return "scan";
    case FORM_PROGRAM: return "loops";
    case FORM_REGION: return "region";
    }
    BUG("form %d has no name", (int)f);
}

static void axes_text(Text *t, const Stage *s) {
    strbuf_add(t->out, " [");
    for (int i = 0; i < s->out->rank; i++) {
        strbuf_printf(t->out, "%s%s", i ? ", " : "", text_bind(t, s->axis[i], s->axis[i]->name));
        text_range(t, s->axis[i], 0, k_last_index(s->out->dims[i]));
    }
    strbuf_add(t->out, "]");
    if (!s->n_red) return;
    strbuf_add(t->out, " over [");
    for (int i = 0; i < s->n_red; i++) {
        strbuf_printf(t->out, "%s%s", i ? ", " : "", text_bind(t, s->red[i], s->red[i]->name));
        text_range(t, s->red[i], 0, k_last_index(s->red_extent[i]));
        strbuf_add(t->out, " < ");
        text_expr(t, s->red_extent[i]);
    }
    strbuf_add(t->out, "]");
}

static void winograd_words(Text *t, const Schedule *s) {
    const Winograd *w = s->winograd;
    strbuf_printf(t->out, " winograd %s (%s, strips of %" PRId64 " tiles, %" PRId64 " slots)",
                  schedule_text(t->a, s), w->whole ? "all patches first" : "patches by strips",
                  w->strip, w->n_slots);
}

static void schedule_words(Text *t, const Schedule *s) {
    if (s->winograd) {
        winograd_words(t, s);
        return;
    }
    strbuf_printf(t->out, " tile %s (lanes along %d", schedule_text(t->a, s), s->vec_axis);
    for (int i = 0; i < 2; i++)
        if (s->row_axis[i] >= 0)
            strbuf_printf(t->out, ", rows %d along %d", s->rows[i], s->row_axis[i]);
    if (s->n_joined) strbuf_printf(t->out, " and %d before", s->n_joined);
    if (s->all_taps)
        strbuf_add(t->out, ", all taps");
    else if (s->near_taps)
        strbuf_add(t->out, ", near taps");
    else
        strbuf_printf(t->out, ", unroll %d", s->unroll);
    if (s->blends) strbuf_add(t->out, ", groups blended");
    if (s->permutes) strbuf_add(t->out, ", lanes permuted");
    if (s->widens) strbuf_add(t->out, ", widens");
    bool streams = s->vec_tiles > 1;
    if (s->parts > 1)
        strbuf_printf(t->out, ", parts %d for %d %stiles", s->parts,
                      streams ? s->vec_tiles : s->row_tiles, streams ? "vector " : "");
    if (s->rows_outer) strbuf_add(t->out, ", rows outer");
    if (s->strips > 1) strbuf_printf(t->out, ", %d strips", s->strips);
    if (s->prefetch) strbuf_add(t->out, ", prefetch");
    if (s->skips) strbuf_add(t->out, ", outside skipped");
    if (s->panel && s->panel < s->n_vecs) strbuf_printf(t->out, ", panels of %d", s->panel);
    strbuf_add(t->out, ")");
    for (; s->few; s = s->few)
        strbuf_printf(t->out, " or %s up to %d rows", schedule_text(t->a, s->few), s->few_rows);
}

static void flags_text(Text *t, const Stage *s) {
    if (s->movement) strbuf_add(t->out, " movement");
    if (s->view) strbuf_add(t->out, " view");
    if (s->is_alias) strbuf_add(t->out, " shared");
    if (s->group) strbuf_printf(t->out, " group %" PRIu32, s->group);
    if (s->blocks)
        strbuf_printf(t->out, " blocks of %" PRId64 " rows in %d slots", s->blocks->rows,
                      s->blocks->n_slots);
    if (s->blocks && s->blocks->limit && s->blocks->stages[0] == s) {
        strbuf_add(t->out, " up to ");
        text_expr(t, s->blocks->limit);
    }
    if (s->schedule) schedule_words(t, s->schedule);
    if (!s->node || !s->node->loc.node || !*s->node->loc.node) return;
    strbuf_add(t->out, " ");
    text_quoted(t, s->node->loc.node);
}

/* "name = expression" with its `$` lines. */
static void equation(Text *t, const char *name, const KExpr *e) {
    if (!e) return;
    text_share(t, &e, 1);
    text_line(t);
    strbuf_printf(t->out, "%s = ", name);
    text_expr(t, e);
    text_newline(t);
}

static void fold_text(Text *t, const Stage *s) {
    text_share(t, &s->init, s->init ? 1 : 0);
    text_line(t);
    const char *how = s->addend == ADD_SQUARE      ? "squares"
                      : s->addend == ADD_MAGNITUDE ? "magnitudes"
                                                   : kop_info[s->dot ? s->dot : s->fold].name;
    strbuf_printf(t->out, "fold %s%s %s from ", how, s->dot_swapped ? " swapped" : "",
                  s->acc ? dtype_info[s->acc->dtype].name : "?");
    text_expr(t, s->init);
    text_newline(t);
}

static void run_text(Text *t, const Stage *s) {
    text_share(t, &s->run_init, 1);
    text_line(t);
    strbuf_printf(t->out, "run %s from ", dtype_info[s->run->dtype].name);
    text_expr(t, s->run_init);
    text_newline(t);
    text_bind(t, s->run, "run");
    equation(t, "term", s->term);
}

static void scan_text(Text *t, const Stage *s) {
    text_line(t);
    strbuf_printf(t->out, "along %d%s\n", s->scan_axis, s->scan_reverse ? " reverse" : "");
    for (int i = 0; i < s->n_states; i++) text_bind(t, s->state[i], s->state[i]->name);
    for (int i = 0; i < s->n_states; i++) {
        const KExpr *roots[2] = {s->state_init[i], s->step[i]};
        text_share(t, roots, 2);
        text_line(t);
        strbuf_printf(t->out, "state %s: %s from ", text_name(t, s->state[i], "state"),
                      dtype_info[s->state[i]->dtype].name);
        text_expr(t, s->state_init[i]);
        strbuf_add(t->out, " then ");
        text_expr(t, s->step[i]);
        text_newline(t);
    }
}

static void program_text(Text *t, const DefProgram *p);

static void stage_body(Text *t, const Stage *s) {
    switch (s->form) {
    case FORM_NONE: break;
    case FORM_MAP: equation(t, "value", s->body); break;
    case FORM_REDUCE:
    case FORM_CONTRACT:
        equation(t, "value", s->body);
        equation(t, "lhs", s->lhs);
        equation(t, "rhs", s->rhs);
        fold_text(t, s);
        if (s->run) run_text(t, s);
        if (s->acc) text_bind(t, s->acc, "acc");
        equation(t, "finish", s->finish);
        break;
    case FORM_SCAN:
        scan_text(t, s);
        equation(t, "value", s->body);
        break;
    case FORM_PROGRAM: text_block(t, &s->program); break;
    case FORM_REGION:
        for (int i = 0; i < 2 && s->sub[i]; i++) {
            text_line(t);
            program_text(t, s->sub[i]);
            text_newline(t);
        }
        break;
    }
}

/* The tensors on the left of the equals sign. */
static void stage_outs(Text *t, const Stage *s) {
    if (!s->n_outs && s->out) tensor_text(t, s->out);
    for (int i = 0; i < s->n_outs; i++) {
        if (i) strbuf_add(t->out, ", ");
        tensor_text(t, s->outs[i]);
    }
}

static void stage_text(Text *t, const Stage *s) {
    uint32_t scope = text_scope(t);
    share_tensor(t, s->n_outs ? NULL : s->out, s);
    text_line(t);
    stage_outs(t, s);
    strbuf_printf(t->out, " = %s", form_word(s->form));
    if (s->form != FORM_PROGRAM && s->form != FORM_REGION && s->out) axes_text(t, s);
    for (int i = 0; i < s->n_sizes; i++)
        strbuf_printf(t->out, " finds %s", text_name(t, s->sizes[i], s->sizes[i]->name));
    flags_text(t, s);
    strbuf_add(t->out, " {\n");
    t->indent++;
    stage_body(t, s);
    t->indent--;
    text_line(t);
    strbuf_add(t->out, "}\n");
    text_leave(t, scope);
}

/* ---- programs -------------------------------------------------------------------------------- */

/* Names for everything that expressions can mention, in the order of the tensors' creation. */
static void bind_program(Text *t, const DefProgram *p) {
    for (uint32_t i = 0; i < p->tensors.n; i++) bind_tensor(t, p->tensors.at[i]);
    for (const Stage *s = p->first; s; s = s->next)
        for (int i = 0; i < 2 && s->sub[i]; i++) bind_program(t, s->sub[i]);
}

static void bind_module(Text *t, const DefProgram *p) {
    while (p->parent) p = p->parent;
    for (uint32_t i = 0; i < p->m->symbols.n; i++)
        text_bind(t, p->m->symbols.at[i], p->m->symbols.at[i]->name);
    if (p->m->size_table) text_bind(t, p->m->size_table, p->m->size_table->name);
    bind_program(t, p);
    t->definitions = true;
}

static void program_text(Text *t, const DefProgram *p) {
    strbuf_add(t->out, "program {\n");
    t->indent++;
    for (uint32_t i = 0; i < p->inputs.n; i++) declaration(t, p->inputs.at[i], "input");
    for (uint32_t i = 0; i < p->tensors.n; i++)
        if (tensor_is_old(p->tensors.at[i])) declaration(t, p->tensors.at[i], "old");
    for (uint32_t i = 0; i < p->tensors.n; i++)
        if (p->tensors.at[i]->data) declaration(t, p->tensors.at[i], "const");
    for (uint32_t i = 0; i < p->required.n; i++) {
        text_line(t);
        strbuf_add(t->out, "require ");
        text_expr(t, p->required.at[i]);
        text_newline(t);
    }
    for (const Stage *s = p->first; s; s = s->next) stage_text(t, s);
    text_line(t);
    strbuf_add(t->out, p->outputs.n ? "return " : "return");
    for (uint32_t i = 0; i < p->outputs.n; i++) {
        const KTensor *x = p->outputs.at[i];
        strbuf_printf(t->out, "%s%s", i ? ", " : "", text_name(t, x, x->name));
    }
    text_newline(t);
    t->indent--;
    text_line(t);
    strbuf_add(t->out, "}");
}

void print_program(StrBuf *out, const DefProgram *p) {
    Text t;
    text_begin(&t, out);
    bind_module(&t, p);
    program_text(&t, p);
    text_newline(&t);
    text_end(&t);
}

void print_stage(StrBuf *out, const DefProgram *p, const Stage *s) {
    Text t;
    text_begin(&t, out);
    bind_module(&t, p);
    stage_text(&t, s);
    text_end(&t);
}

void dump_program(const DefProgram *p) {
    StrBuf b = {0};
    print_program(&b, p);
    fputs(strbuf_text(&b), stderr);
    strbuf_free(&b);
}

void dump_stage(const DefProgram *p, const Stage *s) {
    StrBuf b = {0};
    print_stage(&b, p, s);
    fputs(strbuf_text(&b), stderr);
    strbuf_free(&b);
}
