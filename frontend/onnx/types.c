/* Element types during import: ONNX's numbers to DType, and what can be said of a result's type
 * before shapes are inferred. */
#include "frontend/onnx/import.h"

DType import_dtype(Import *im, int64_t onnx_type, SrcLoc loc, const char *what) {
    DType t = dtype_from_onnx(onnx_type);
    const char *name =
        onnx_type >= 0 && onnx_type < 1024 ? onnx_type_name((int32_t)onnx_type) : NULL;
    if (t == DT_NONE && !name)
        diag_error(im->d, loc, "%s: there is no element type %lld", what, (long long)onnx_type);
    else if (t == DT_NONE)
        diag_unsupported(im->d, loc, "%s: element type %s is not supported", what, name);
    return t;
}

static DType input_dtype(const Node *n, int i) {
    return i < n->n_in && n->in[i] ? n->in[i]->dtype : DT_NONE;
}

static DType subgraph_dtype(const Node *n, const char *attr, int output) {
    const Graph *g = attr_graph(n, attr);
    return g && output < (int)g->outputs.n ? g->outputs.at[output]->dtype : DT_NONE;
}

DType provisional_dtype(const Node *n, int output) {
    const Attr *value;
    switch ((int)n->op) {
    case OP_BitCast:
    case OP_Cast: return dtype_from_onnx(attr_int(n, "to", 0));
    case OP_Equal:
    case OP_Greater:
    case OP_GreaterOrEqual:
    case OP_Less:
    case OP_LessOrEqual:
    case OP_And:
    case OP_Or:
    case OP_Xor:
    case OP_Not:
    case OP_IsNaN:
    case OP_IsInf:
    case OP_RegexFullMatch: return DT_BOOL;
    case OP_Shape:
    case OP_Size:
    case OP_ArgMax:
    case OP_ArgMin:
    case OP_NonZero:
    case OP_NonMaxSuppression: return DT_I64;
    case OP_StringSplit: return output ? DT_I64 : DT_STR;
    case OP_Tokenizer: return DT_STR;
    case OP_TopK:
    case OP_MaxPool: return output == 1 ? DT_I64 : input_dtype(n, 0);
    case OP_Where: return input_dtype(n, 1);
    case OP_OneHot: return input_dtype(n, 2);
    case OP_ConstantOfShape:
        value = node_attr(n, "value");
        return value ? value->tensor->dtype : DT_F32;
    case OP_EyeLike:
    case OP_RandomNormalLike:
    case OP_RandomUniformLike:
        return node_attr(n, "dtype") ? dtype_from_onnx(attr_int(n, "dtype", 0)) : input_dtype(n, 0);
    case OP_QuantizeLinear:
        if (input_dtype(n, 2)) return input_dtype(n, 2);
        return attr_int(n, "output_dtype", 0) ? dtype_from_onnx(attr_int(n, "output_dtype", 0))
                                              : DT_U8;
    case OP_DequantizeLinear: return input_dtype(n, 1);
    case OP_LabelEncoder:
        value = node_attr(n, "values_tensor");
        return value ? value->tensor->dtype : DT_NONE;
    case OP_TfIdfVectorizer:
    case OP_Scaler:
    case OP_Normalizer:
    case OP_LinearRegressor:
    case OP_TreeEnsembleRegressor: return DT_F32;
    case OP_SVMRegressor: return DT_F32;
    case OP_SVMClassifier:
    case OP_LinearClassifier:
    case OP_TreeEnsembleClassifier: return output ? DT_F32 : DT_I64;
    case OP_TreeEnsemble:
    case OP_ArrayFeatureExtractor: return input_dtype(n, 0);
    case OP_If: return subgraph_dtype(n, "then_branch", output);
    case OP_Loop: return subgraph_dtype(n, "body", output + 1);
    case OP_Scan: return subgraph_dtype(n, "body", output);
    default: return op_info[n->op].domain[0] ? DT_NONE : input_dtype(n, 0);
    }
}
