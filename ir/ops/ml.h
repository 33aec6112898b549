/* What the ai.onnx.ml operators share: feature matrices, post transforms, class labels. */
#ifndef SMELT_IR_OPS_ML_H
#define SMELT_IR_OPS_ML_H

#include "ir/ops/check.h"

typedef enum {
    POST_NONE,
    POST_SOFTMAX,
    POST_LOGISTIC,
    POST_SOFTMAX_ZERO,
    POST_PROBIT
} PostTransform;

/* Input 0 as rows of features: rank 1 is one row. */
bool ml_features(Module *m, const Node *n, const KExpr **rows, const KExpr **columns);
/* columns must be `want` features. */
bool ml_check_columns(Module *m, const Node *n, const KExpr *columns, int64_t want);
bool ml_post_transform(Module *m, const Node *n, PostTransform *post);
/* Integer labels; string labels are reported as unsupported. Returns how many, -1 after a message.
 */
int ml_labels(Module *m, const Node *n, const char *ints_name, const int64_t **labels);
Shape ml_shape(Module *m, const KExpr *rows, int64_t columns);

/* out[n, e] = post(scores[n, e]); scores may be wider than out. One column: only PROBIT has an
 * effect, as in onnxruntime. */
void ml_lower_post(Def *d, PostTransform post, KTensor *scores, KTensor *out);
/* out[n] = labels[index of the first largest of scores[n, :]] */
void ml_lower_best(Def *d, KTensor *scores, const int64_t *labels, KTensor *out);

#endif
