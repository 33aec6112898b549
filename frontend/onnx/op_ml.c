/* Importers of classic machine learning (ai.onnx.ml), as scikit-learn's converters write it. */
#include <string.h>

#include "frontend/onnx/import.h"

/* The tensor form of a list of floats (double precision trees) is not read. */
static bool has_tensor_form(Call *c) {
    for (int i = 0; i < c->n_attrs; i++)
        if (strstr(c->attrs[i].name, "_as_tensor")) {
            diag_unsupported(c->im->d, c->loc,
                             "attribute '%s' is not supported; the list of float32 is",
                             c->attrs[i].name);
            return true;
        }
    return false;
}

bool import_trees(Call *c) {
    return !has_tensor_form(c) && import_same(c);
}

/* Labels are output 0. String labels would need strings at run time. */
bool import_classifier(Call *c) {
    if (has_tensor_form(c)) return false;
    const Onnx__AttributeProto *names = call_attr(c, "classlabels_strings");
    if (names && names->n_strings && call_wants(c, 0)) {
        diag_unsupported(c->im->d, c->loc,
                         "string labels are not supported; train with integer labels, or compile "
                         "with --outputs for the probabilities only");
        return false;
    }
    return call_same(c, c->in, c->n_in, "");
}

bool import_zip_map(Call *c) {
    diag_unsupported(c->im->d, c->loc,
                     "ZipMap makes a list of dictionaries; convert the model with "
                     "options={'zipmap': False}, or cut it off with --outputs");
    return false;
}
