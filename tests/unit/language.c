/* IR.md keeps up with the tables: every row of kops.def stands in its table word for word, every
 * dtype is listed, and operator names are unique, which the text form relies on. */
#include <stdlib.h>
#include <string.h>

#include "ir/dtype.h"
#include "ir/kernel.h"
#include "ir/ops.h"
#include "tests/unit/check.h"

static char *read_text(const char *path) {
    FILE *f = fopen(path, "rb");
    char *text = xmalloc(1 << 20);
    size_t n = f ? fread(text, 1, (1 << 20) - 1, f) : 0;
    text[n] = 0;
    if (f) fclose(f);
    return text;
}

static const char *class_name(KClass c) {
    switch (c) {
    case KC_LEAF: return "LEAF";
    case KC_MEM: return "MEM";
    case KC_ARITH: return "ARITH";
    case KC_CMP: return "CMP";
    case KC_CONV: return "CONV";
    case KC_TEXT: return "TEXT";
    case KC_PAIR: return "PAIR";
    case KC_MATH: return "MATH";
    case KC_NONE: break;
    }
    return "?";
}

/* A table cell shows | as \|. */
static void add_cell(StrBuf *b, const char *s) {
    for (; *s; s++) strbuf_printf(b, "%s%c", *s == '|' ? "\\" : "", *s);
}

static void primitives_are_described(const char *text) {
    for (int op = 1; op < KO_COUNT; op++) {
        StrBuf row = {0};
        strbuf_printf(&row, "\n| `%s` | %s | ", kop_info[op].name, class_name(kop_info[op].class));
        add_cell(&row, kop_info[op].doc);
        strbuf_add(&row, " |\n");
        if (!CHECK(strstr(text, strbuf_text(&row)) != NULL))
            fprintf(stderr, "missing: %s", strbuf_text(&row));
        strbuf_free(&row);
    }
}

static void dtypes_are_listed(const char *text) {
    const char *list = strstr(text, "rows of `dtype.def`:");
    if (!CHECK(list != NULL)) return;
    for (int t = 1; t < DT_COUNT; t++) CHECK(strstr(list, dtype_info[t].name) != NULL);
}

static void operator_names_are_unique(void) {
    for (int a = 1; a < OP_COUNT; a++)
        for (int b = a + 1; b < OP_COUNT; b++) CHECK(strcmp(op_info[a].name, op_info[b].name));
}

int main(void) {
    char *text = read_text(SMELT_SOURCE_DIR "/ir/IR.md");
    primitives_are_described(text);
    dtypes_are_listed(text);
    operator_names_are_unique();
    free(text);
    return check_done();
}
