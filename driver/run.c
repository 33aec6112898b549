/* smelt run: compiles in memory, runs once, writes the outputs or shows what they look like. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "driver/runner.h"

enum { SHOWN = 8 };

/* ONE, "two", ... */
static void show_strings(StrBuf *line, const HostTensor *t) {
    const HostString *s = t->data;
    uint64_t n = t->n_bytes / sizeof *s;
    for (uint64_t i = 0; i < n && i < SHOWN; i++) {
        char *text = xmalloc(s[i].n_bytes + 1);
        if (s[i].n_bytes) memcpy(text, s[i].bytes, s[i].n_bytes);
        text[s[i].n_bytes] = 0;
        strbuf_printf(line, "%s\"", i ? ", " : "");
        strbuf_escaped(line, text, ESC_TERMINAL);
        strbuf_add(line, "\"");
        free(text);
    }
    strbuf_add(line, n > SHOWN ? ", ...}" : "}");
    puts(strbuf_text(line));
}

static void show_number(StrBuf *line, const HostTensor *t, uint64_t i) {
    HostTensor x = host_numbers(t);
    if (x.dtype == t->dtype)
        strbuf_printf(line, "%.6g", host_element(t, i));
    else
        strbuf_printf(line, "%.6g%+.6gi", host_element(&x, 2 * i), host_element(&x, 2 * i + 1));
}

/* "prob: f32[1, 1000] {0.1, 0.2, ...} least 0 most 0.9" */
static void show(const HostTensor *t) {
    StrBuf line = {0};
    strbuf_escaped(&line, t->name, ESC_TERMINAL);
    strbuf_printf(&line, ": %s[", dtype_info[t->dtype].name);
    for (int i = 0; i < t->rank; i++) strbuf_printf(&line, "%s%" PRId64, i ? ", " : "", t->dims[i]);
    strbuf_add(&line, "] {");
    if (t->dtype == DT_STR) {
        show_strings(&line, t);
        strbuf_free(&line);
        return;
    }
    uint64_t n = t->n_bytes / (uint64_t)dtype_bytes(t->dtype);
    for (uint64_t i = 0; i < n && i < SHOWN; i++) {
        strbuf_add(&line, i ? ", " : "");
        show_number(&line, t, i);
    }
    strbuf_add(&line, n > SHOWN ? ", ...}" : "}");
    if (n > SHOWN && !dtype_is_complex(t->dtype)) {
        double least = INFINITY, most = -INFINITY;
        for (uint64_t i = 0; i < n; i++) {
            double v = host_element(t, i);
            if (v < least) least = v;
            if (v > most) most = v;
        }
        strbuf_printf(&line, " least %.6g most %.6g", least, most);
    }
    puts(strbuf_text(&line));
    strbuf_free(&line);
}

/* The elements of a list, of which t[0] has all values and t[1] the shapes. False when the values
 * are not as many as the shapes say. */
static bool cut_list(Arena *a, const HostTensor *t, HostList *list) {
    const int64_t *shapes = t[1].data;
    uint64_t from = 0;
    list->n = (int)t[1].dims[0];
    list->at = arena_array(a, HostTensor, list->n + 1);
    for (int i = 0; i < list->n; i++) {
        HostTensor *x = &list->at[i];
        *x = (HostTensor){.name = "", .dtype = t[0].dtype, .rank = (int)t[1].dims[1]};
        memcpy(x->dims, shapes + (int64_t)i * x->rank, sizeof *shapes * (size_t)x->rank);
        x->data = (char *)t[0].data + from;
        if (!tensor_size(x->dtype, x->dims, x->rank, &x->n_bytes)) return false;
        if (x->n_bytes > t[0].n_bytes - from) return false;
        from += x->n_bytes;
    }
    return from == t[0].n_bytes;
}

/* What the tensors from `first` on are together. */
static bool write_group(Arena *a, Output *o, const IoGroup *g, const HostTensor *t) {
    HostList list = {(HostTensor *)(uintptr_t)(t + g->first), (int)g->n, false};
    bool of_sequence = g->kind == GROUP_SEQUENCE || g->kind == GROUP_OPTIONAL_SEQUENCE;
    list.is_absent = g->presence == GROUP_ABSENT;
    if (g->presence == GROUP_ASKED) {
        list.is_absent = !*(const uint8_t *)list.at[0].data;
        list.at++;
        list.n--;
    }
    if (g->is_list && !list.is_absent && !cut_list(a, list.at, &list)) return false;
    if (list.is_absent) list.n = 0;
    list_write(o, &list, of_sequence, g->kind != GROUP_SEQUENCE);
    return true;
}

/* output_N.pb for output N of the source model; with npy, and for IR text, of the compiled one. */
static bool write_outputs(Session *s, const HostTensor *t, uint32_t n) {
    const char *folder = s->o->out_folder;
    bool npy = s->o->out_format && !strcmp(s->o->out_format, "npy");
    mkdir(folder, 0777); /* a folder that is there is fine; any other problem shows at the files */
    Output **files = arena_array(s->arena, Output *, n ? n : 1);
    const Module *m = s->m;
    if (!npy && m->out_groups.n) {
        n = m->out_groups.n;
        files = arena_array(s->arena, Output *, n);
    }
    for (uint32_t i = 0; i < n; i++) {
        const IoGroup *g = !npy && m->out_groups.n ? &m->out_groups.at[i] : NULL;
        files[i] =
            output_open(arena_printf(s->arena, "%s/output_%u.%s", folder, i, npy ? "npy" : "pb"));
        if (npy)
            npy_write(files[i], &t[i]);
        else if (g && g->kind != GROUP_TENSOR)
            BUG_IF(!write_group(s->arena, files[i], g, t), "output '%s' is no list", g->name);
        else
            pb_write(files[i], &t[g ? g->first : i]);
    }
    StrBuf error = {0};
    bool good = output_finish_all(files, (int)n, &error);
    if (!good) diag_error(s->d, SRC_NOWHERE, "%s", strbuf_text(&error));
    strbuf_free(&error);
    return good;
}

static bool run(Session *s, Runner *r) {
    if (!runner_read_inputs(r) || !runner_bind(r)) return false;
    smelt_hooks hooks = {.struct_size = sizeof hooks};
    smelt_pool *pool = NULL;
    int status = s->o->threads.value > 1 ? smelt_pool_create((uint32_t)s->o->threads.value, &pool)
                                         : SMELT_OK;
    if (pool) {
        hooks.pool = pool;
        hooks.parallel_for = smelt_pool_parallel_for;
    }
    progress(s, "running");
    if (!status) status = runner_run(r, pool ? &hooks : NULL);
    smelt_pool_destroy(pool);
    progress_end();
    if (status) {
        diag_error(s->d, (SrcLoc){.file = s->o->model, .index = -1, .offset = -1},
                   "the run failed: %s", smelt_status_string(status));
        return false;
    }
    uint32_t n;
    const HostTensor *out = runner_outputs(r, &n);
    if (s->o->out_folder) return write_outputs(s, out, n);
    for (uint32_t i = 0; i < n; i++) show(&out[i]);
    return true;
}

int command_run(const Options *o) {
    if (o->check_passes) return command_check_passes(o);
    Session s;
    if (!session_open(&s, o) || !session_compile(&s, NULL) || !session_is_complete(&s))
        return session_close(&s, STATUS_MODEL);
    Runner *r = runner_create(&s);
    bool good = r && run(&s, r) && (!o->report_error || report_error(o, r));
    runner_destroy(r);
    return session_close(&s, good ? STATUS_GOOD : STATUS_MODEL);
}
