/* --tune and --tune-cache: kernels measured on this machine, and a text file of what was found.
 *
 *     smelt tuning cache 1
 *     3f09c1d2e4b5a697 sapphirerapids vec_axis 1 lanes 16 ... prefetch 0 ; 812.4 us f32 [1, 64] over [256]
 *
 * A line has the key (passes/tune.c), the processor, the schedule, and for readers the time that
 * was measured and what was computed. Lines are sorted by key and one does not depend on another,
 * so the file may be kept in a repository and merged. A file from elsewhere is checked line by
 * line; a schedule that is not one of its kernel's own is refused where it would be used. With a
 * cache that has all keys nothing is measured, and the same bytes come out everywhere. */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codegen/output.h"
#include "driver/tune_measure.h"

enum { KEY_DIGITS = 16, MOST_BYTES = 16 << 20, MOST_LINE = 1000, MOST_WORDS = 64 };
static const char first_line[] = "smelt tuning cache 1";

typedef struct Line {
    const char *key, *cpu, *schedule, *remark;
    int number; /* in the file; 0: measured now */
} Line;

typedef struct Tuning {
    Session *s;
    Tuner hooks;
    VEC(Line) lines;
    StrMap *by_key; /* to index + 1 */
    bool changed;
    double end; /* when the time is used up */
    TuneRoom room;
} Tuning;

/* ---- the file -------------------------------------------------------------------------------- */

static bool bad_line(const Tuning *t, int number, const char *why) {
    diag_error(t->s->d, (SrcLoc){.file = t->s->o->tune_cache, .index = -1, .offset = -1},
               "line %d of the tuning cache: %s", number, why);
    return false;
}

static bool add_line(Tuning *t, Line line) {
    if (strmap_get(t->by_key, line.key)) return false;
    vec_push(t->s->arena, &t->lines, line);
    strmap_put(t->by_key, line.key, (void *)(uintptr_t)t->lines.n);
    return true;
}

static bool is_number(const char *w) {
    size_t n = strlen(w += *w == '-');
    return n > 0 && n < 10 && strspn(w, "0123456789") == n;
}

static bool is_name(const char *w) {
    return *w && strspn(w, "abcdefghijklmnopqrstuvwxyz_0123456789") == strlen(w);
}

/* "NAME N NAME N ...", with single spaces; NULL when it is not that. */
static const char *read_schedule(Arena *a, char *text) {
    StrBuf b = {0};
    int n = 0;
    bool good = true;
    for (char *rest = text, *word; good && (word = strsep(&rest, " "));) {
        if (!*word) continue;
        good = n < MOST_WORDS && (n % 2 ? is_number(word) : is_name(word));
        strbuf_printf(&b, "%s%s", n++ ? " " : "", word);
    }
    const char *schedule = good && n && n % 2 == 0 ? arena_strdup(a, strbuf_text(&b)) : NULL;
    strbuf_free(&b);
    return schedule;
}

static bool read_line(Tuning *t, char *text, int number) {
    if (strlen(text) > MOST_LINE) return bad_line(t, number, "too long");
    for (const char *c = text; *c; c++)
        if ((unsigned char)*c < ' ' || (unsigned char)*c > '~')
            return bad_line(t, number, "a byte that is no printable ASCII");
    if (!*text || *text == '#') return true;
    if (strspn(text, "0123456789abcdef") != KEY_DIGITS || text[KEY_DIGITS] != ' ')
        return bad_line(t, number, "does not begin with a key of 16 digits");
    char *rest = text + KEY_DIGITS, *remark = strchr(rest, ';');
    Line line = {.key = text, .number = number};
    *rest++ = 0;
    if (!remark) return bad_line(t, number, "the ';' after the schedule is missing");
    *remark++ = 0;
    line.cpu = strsep(&rest, " ");
    line.schedule = rest ? read_schedule(t->s->arena, rest) : NULL;
    line.remark = remark + (*remark == ' ');
    if (!line.schedule) return bad_line(t, number, "the schedule is not a list of names and numbers");
    return add_line(t, line) || bad_line(t, number, "its key stands in an earlier line, too");
}

static bool read_lines(Tuning *t, char *text, size_t n_bytes) {
    if (memchr(text, 0, n_bytes)) return bad_line(t, 1, "the file has a zero byte");
    int number = 0;
    for (char *rest = text, *line; (line = strsep(&rest, "\n"));) {
        size_t n = strlen(line);
        if (n && line[n - 1] == '\r') line[n - 1] = 0;
        if (++number == 1 && strcmp(line, first_line))
            return bad_line(t, 1, "is not 'smelt tuning cache 1'");
        if (number > 1 && !read_line(t, line, number)) return false;
    }
    return true;
}

static bool read_file(Tuning *t) {
    const Options *o = t->s->o;
    FILE *f = fopen(o->tune_cache, "rb");
    if (!f && errno == ENOENT && o->tune.given) return true;
    if (!f) {
        diag_error(t->s->d, (SrcLoc){.file = o->tune_cache, .index = -1, .offset = -1}, "%s",
                   strerror(errno));
        return false;
    }
    char *text = arena_alloc(t->s->arena, MOST_BYTES + 1);
    size_t n = fread(text, 1, MOST_BYTES + 1, f);
    bool good = !ferror(f) && n <= MOST_BYTES;
    fclose(f);
    if (!good) return bad_line(t, 1, "the file cannot be read, or is larger than 16 MiB");
    text[n] = 0;
    return read_lines(t, text, n);
}

static int by_key(const void *a, const void *b) {
    return strcmp(((const Line *)a)->key, ((const Line *)b)->key);
}

bool tune_save(Session *s) {
    Tuning *t = s->tuning;
    if (!t || !t->changed || !s->o->tune_cache) return true;
    StrBuf text = {0}, error = {0};
    qsort(t->lines.at, t->lines.n, sizeof *t->lines.at, by_key);
    strbuf_printf(&text, "%s\n", first_line);
    for (uint32_t i = 0; i < t->lines.n; i++) {
        const Line *l = &t->lines.at[i];
        strbuf_printf(&text, "%s %s %s ; %s\n", l->key, l->cpu, l->schedule, l->remark);
    }
    Output *o = output_open(s->o->tune_cache);
    output_write(o, strbuf_text(&text), text.n);
    bool good = output_finish(o, &error);
    if (!good) diag_error(s->d, SRC_NOWHERE, "%s", strbuf_text(&error));
    strbuf_free(&text);
    strbuf_free(&error);
    return good;
}

/* ---- what the pass asks ---------------------------------------------------------------------- */

static const char *recall(void *user, const char *key, int *line) {
    Tuning *t = user;
    uintptr_t at = (uintptr_t)strmap_get(t->by_key, key);
    if (!at) return NULL;
    *line = t->lines.at[at - 1].number;
    return t->lines.at[at - 1].schedule;
}

static void keep(void *user, const char *key, const char *schedule, double seconds,
                 const char *what) {
    Tuning *t = user;
    Arena *a = t->s->arena;
    const char *cpu = t->s->target->cpu && *t->s->target->cpu ? t->s->target->cpu : "generic";
    t->changed |= add_line(t, (Line){.key = arena_strdup(a, key),
                                     .cpu = cpu,
                                     .schedule = arena_strdup(a, schedule),
                                     .remark = arena_printf(a, "%.4g us %s", 1e6 * seconds, what)});
}

/* ---- measuring ------------------------------------------------------------------------------- */

static bool measure(void *user, const TuneKernel *kernels, int n, double *seconds, double share) {
    Tuning *t = user;
    return tune_time(t->s, &t->room, kernels, n, seconds, (t->end - tune_now()) * share);
}

/* Has this machine every feature of the target's? */
static bool runs_here(Session *s) {
    const Target *here = codegen_target(s->arena, NULL, NULL, NULL, s->d);
    int n;
    const char **words = split_list(s->arena, s->target->features, &n);
    for (int i = 0; here && i < n; i++)
        if (words[i][0] == '+' && !target_has(here, words[i] + 1)) return false;
    return here != NULL;
}

bool tune_open(Session *s) {
    const Options *o = s->o;
    if (!o->tune.given && !o->tune_cache) return true;
    if (o->tune.given && o->target) {
        diag_error(s->d, SRC_NOWHERE,
                   "--tune measures on this machine; for another one give --tune-cache alone");
        return false;
    }
    if (o->tune.given && !runs_here(s)) {
        diag_error(s->d, SRC_NOWHERE, "--tune measures on this machine, which lacks instructions "
                                      "of the --cpu or --features");
        return false;
    }
    Tuning *t = arena_new(s->arena, Tuning);
    *t = (Tuning){.s = s, .by_key = strmap_create(s->arena)};
    t->hooks = (Tuner){t, recall, keep, o->tune.given ? measure : NULL};
    t->end = tune_now() + (double)o->tune.value;
    s->tuning = t;
    s->m->tuner = &t->hooks;
    for (uint32_t i = 0; i < s->m->versions.n; i++) s->m->versions.at[i].m->tuner = &t->hooks;
    return !o->tune_cache || read_file(t);
}

void tune_end(Session *s) {
    if (s->tuning) tune_room_free(&s->tuning->room);
}
