"""One-node models of every operator and version for every element type that ONNX's schemas allow.

TABLE has a line for each operator (or for each form of it: the line whose number is the largest that does not follow the
version): inputs and attributes as in tests/ops/*.case, but without types, which come from the schema. An operator
without a line gets inputs of shape [2,3,4]. `{T}` is the name of the type that variable T has, `{T#}` ONNX's number of
it. A type variable takes each type that it may have, while the others keep their usual one.

Sequences and optionals are made of tensors by a node before, and undone by one behind: see WRAP. Operators that carry
subgraphs or have no form as a line are functions in CONTROL.
"""
import re
import zlib
from dataclasses import dataclass, field

import numpy as np
import onnx
import onnx.defs
from onnx import TensorProto, helper

# The type that a variable has while another one varies: the first that it may have.
USUAL = ["tensor(float)", "tensor(int64)", "tensor(int32)", "tensor(uint8)", "tensor(int8)", "tensor(bool)", "tensor(string)"]
NAMES = {"float": "f32", "double": "f64", "float16": "f16", "bfloat16": "bf16", "int8": "i8", "int16": "i16", "int32": "i32",
         "int64": "i64", "uint8": "u8", "uint16": "u16", "uint32": "u32", "uint64": "u64", "bool": "bool", "string": "str",
         "float8e4m3fn": "f8e4m3fn", "float8e4m3fnuz": "f8e4m3fnuz", "float8e5m2": "f8e5m2",
         "float8e5m2fnuz": "f8e5m2fnuz", "float8e8m0": "f8e8m0", "float6e2m3": "f6e2m3", "float6e3m2": "f6e3m2",
         "float4e2m1": "f4e2m1", "int2": "i2", "int4": "i4", "uint2": "u2", "uint4": "u4", "complex64": "c64",
         "complex128": "c128"}
TABLE = """
AffineGrid 20      [2,2,3] ![4]=2,3,4,5
Attention 23       [1,2,3,4] [1,2,5,4] [1,2,5,4] [3,5]
AveragePool 1      [1,2,5,5] kernel_shape=[2,2]
BatchNormalization 1 [2,3,4] [3] [3] [3] [3]~1:3 is_test=1 consumed_inputs=[0,0,0,1,1]
BatchNormalization 6 [2,3,4] [3] [3] [3] [3]~1:3 is_test=1
BatchNormalization 7 [2,3,4] [3] [3] [3] [3]~1:3
BitCast 26         [2,3] to={T2#}
BitShift 11        [2,3]~0:1 [2,3]~0:1 direction=LEFT
Bernoulli 15       [2,3]~0:1 dtype={T2#}
BlackmanWindow 17  ![]=6 output_datatype={T2#}
HammingWindow 17   ![]=6 output_datatype={T2#}
HannWindow 17      ![]=6 output_datatype={T2#}
Cast 1             [2,3]~0:1 to={T2@}
Cast 6             [2,3]~0:1 to={T2#}
CastLike 15        [2,3]~0:1 [1]
CausalConvWithState 27 [1,4,6] [4,1,3]
CenterCropPad 18   [4,5] ![2]=2,7
Clip 1             [2,3] min=1.0 max=2.0
Clip 11            [2,3] []=1 []=2
Col2Im 18          [1,8,9] ![2]=4,4 ![2]=2,2
Compress 9         [4,3] [4]=true,false,true,true axis=0
Concat 1           [2,3] [2,3] axis=1
ConstantOfShape 9  ![2]=2,3 value={T2}[1]=1
Constant 1         value={one}
Conv 1             [1,3,6,6] [4,3,3,3] kernel_shape=[3,3]
ConvInteger 10     [1,3,6,6] [4,3,3,3]
ConvTranspose 1    [1,3,6,6] [3,4,3,3] kernel_shape=[3,3]
CumProd 26         [2,3]~1:2 ![]=1
CumSum 11          [2,3] ![]=1
DFT 17             [1,8,1]
DFT 20             [1,8,1]
DeformConv 19      [1,2,5,5] [2,2,3,3] [1,18,3,3]
DepthToSpace 1     [1,8,2,3] blocksize=2
SpaceToDepth 1     [1,2,4,6] blocksize=2
DequantizeLinear 10 [2,4]~0:3 []=0.5 []=0
DequantizeLinear 19 [2,4]~0:3 []=0.5
DequantizeLinear 24 [2,4]~0:3 []=0.5 {dtype}
QuantizeLinear 10  [2,4]~0:3 []=2 []=0
Det 11             [2,3,3]
DynamicQuantizeLinear 11 [2,3] @out=3
Einsum 12          [2,3] [3,4] equation=ij,jk->ik
Expand 8           [2,1] ![2]=2,3
EyeLike 9          [3,4] dtype={T2#}
Flatten 1          [2,3,4]
GRU 1              [2,3,4] [1,15,4] [1,15,5] hidden_size=5
GRU 3              [2,3,4] [1,15,4] [1,15,5] hidden_size=5
RNN 1              [2,3,4] [1,5,4] [1,5,5] hidden_size=5
LSTM 1             [2,3,4] [1,20,4] [1,20,5] hidden_size=5
Gather 1           [4,3] [2]=2,0
GatherElements 11  [4,3] [2,3]=0,1,2,3,0,1
GatherND 11        [4,3] [2,1]=2,0
Gemm 1             [2,3] [3,4] [4] broadcast=1
Gemm 7             [2,3] [3,4] [4]
GlobalAveragePool 1 [1,2,4,4]
GlobalLpPool 1     [1,2,4,4]
GlobalMaxPool 1    [1,2,4,4]
GridSample 16      [1,2,4,4] [1,3,3,2]~-1:1
GroupNormalization 21 [1,4,3] [4] [4] num_groups=2
ImageDecoder 20    -
InstanceNormalization 1 [1,3,4] [3] [3]
LRN 1              [1,4,3,3] size=3
LayerNormalization 17 [2,3] [3]
RMSNormalization 23 [2,3] [3]
LinearAttention 27 [1,3,8] [1,3,8] [1,3,8] q_num_heads=2 kv_num_heads=2 update_rule=linear
Log 1              [2,3]~1:3
Acosh 1            [2,3]~1:3
Asin 1             [2,3]~0:1
Acos 1             [2,3]~0:1
Atanh 1            [2,3]~0:0.5
Sqrt 1             [2,3]~1:3
Reciprocal 1       [2,3]~1:3
LpNormalization 1  [2,3]~1:3
LpPool 1           [1,2,5,5] kernel_shape=[2,2]
MatMul 1           [2,3] [3,4]
MatMulInteger 10   [2,3] [3,4]
MaxPool 1          [1,2,5,5] kernel_shape=[2,2]
MaxRoiPool 1       [1,2,6,6] [2,5]=0,0,0,3,3,0,1,1,4,4 pooled_shape=[2,2]
MaxUnpool 9        [1,1,2,2] [1,1,2,2]=0,3,9,14 kernel_shape=[2,2] strides=[2,2]
MeanVarianceNormalization 9 [2,3,4,2]
Normalizer 1 [2,3]
FeatureVectorizer 1 [2,3] [2,2] inputdimensions=[3,2]
MelWeightMatrix 17 ![]=4 ![]=16 ![]=8000 ![]=10 ![]=3000 output_datatype={T3#}
Mod 10             [2,3]~1:5 [2,3]~1:3 {fmod}
Div 1              [2,3]~1:5 [2,3]~1:3
Pow 1              [2,3]~1:2 [2,3]~1:2
Multinomial 7      [2,3]~0:1 sample_size=2 dtype={T2#}
NegativeLogLikelihoodLoss 12 [2,3] [2]=0,2
SoftmaxCrossEntropyLoss 12 [2,3] [2]=0,2
NonMaxSuppression 10 [1,2,4]=0,0,1,1,0,0,2,2 [1,1,2]=0.5,0.6 []=2
OneHot 9           [3]=0,2,1 ![]=4 [2]=0,1
PRelu 1            [2,3] [1]
Pad 1              [2,3] paddings=[0,1,0,1]
Pad 2              [2,3] pads=[0,1,0,1]
Pad 11             [2,3] ![4]=0,1,0,1
QLinearConv 10     [1,3,5,5]~0:3 []=0.5 []=0 [2,3,3,3]~0:3 []=0.5 []=0 []=8.0 []=0
QLinearMatMul 10   [2,3]~0:3 []=0.5 []=0 [3,4]~0:3 []=0.5 []=0 []=2.0 []=0
RandomNormal 1     shape=[2,3] dtype={T#}
RandomUniform 1    shape=[2,3] dtype={T#}
RandomNormalLike 1 [2,3] dtype={T2#}
RandomUniformLike 1 [2,3] dtype={T2#}
Range 11           []=0 []=5 []=2
RegexFullMatch 20  [2]=['ab','c'] pattern=a.*
ReduceSum 13       [2,3,4]
Reshape 1          [2,3] shape=[3,2]
Reshape 5          [2,3] ![2]=3,2
Resize 10          [1,1,2,3] ![4]=1,1,2,2
Resize 11          [1,1,2,3] [8]=0,0,0,0,1,1,1,1 ![4]=1,1,2,2
Resize 13          [1,1,2,3] - ![4]=1,1,2,2
ReverseSequence 10 [4,3] [3]=1,2,4
RoiAlign 10        [1,2,6,6] [2,4]=0,0,3,3,1,1,4,4 [2]=0 output_height=2 output_width=2 sampling_ratio=2
RotaryEmbedding 23 [1,2,3,8] [5,4] [5,4] [1,3]=0,1,2
STFT 17            [1,16,1] ![]=4 - ![]=8
Scatter 9          [4,3] [1,3]=0,2,1 [1,3]
ScatterElements 11 [4,3] [1,3]=0,2,1 [1,3]
ScatterND 11       [4,3] [2,1]=0,2 [2,3]
Slice 1            [4,5] starts=[1,0] ends=[3,4]
Slice 10           [4,5] ![2]=1,0 ![2]=3,4
Split 1            [4,3] axis=0 split=[1,3] @out=2
Split 2            [4,3] axis=0 split=[1,3] @out=2
Split 13           [4,3] ![2]=1,3 @out=2
Squeeze 1          [1,3] axes=[0]
Squeeze 13         [1,3] ![1]=0
Unsqueeze 1        [2,3] axes=[0]
Unsqueeze 13       [2,3] ![1]=0
StringNormalizer 10 [2]=['Ab','c']
StringConcat 20    [2]=['Ab','c'] [2]=['x','']
StringSplit 20     [2]=['a,b','c'] delimiter=, @out=2
TensorScatter 24   [1,2,4,3] [1,2,2,3] [1]=1
TfIdfVectorizer 9  [6]=2,3,5,4,1,2 mode=TF max_skip_count=0 min_gram_length=1 max_gram_length=1 ngram_counts=[0] ngram_indexes=[0,1,2] {pool}
Tile 1             [2,3] []=2 []=1
Tile 6             [2,3] ![2]=2,1
TopK 1             [2,5] k=2 @out=2
TopK 10            [2,5] ![1]=2 @out=2
Trilu 14           [3,4]
Unique 11          [6]~0:2 @out=4
Upsample 1         [1,1,2,3] height_scale=2.0 width_scale=2.0
Upsample 7         [1,1,2,3] scales=[1.0,1.0,2.0,2.0]
Upsample 9         [1,1,2,3] ![4]=1,1,2,2
Where 9            [2,3] [2,3] [2,3]
Not 1              [2,3]
SequenceAt 11      [2,3] []=1
SequenceErase 11   [2,3] []=1
SequenceInsert 11  [2,3] [2,3] []=1
ConcatFromSequence 11 [2,3] axis=0
SplitToSequence 11 [4,3] ![]=2
SequenceEmpty 11   dtype={S#}
ArrayFeatureExtractor 1 [2,3] ![2]=2,0
Binarizer 1        [2,3] threshold=1.0
CategoryMapper 1   {category} cats_int64s=[0,1,2] cats_strings=['a','b','c']
Imputer 1          [2,3] {imputer}
LabelEncoder 1     {category} classes_strings=['a','b','c']
LabelEncoder 2     {labels2}
LabelEncoder 4     {labels4}
LinearClassifier 1 [2,3] coefficients=[1.0,2.0,3.0,0.5,1.5,2.5] intercepts=[0.0,1.0] {labels} @out=2
LinearRegressor 1  [2,3] coefficients=[1.0,2.0,3.0] intercepts=[1.0]
OneHotEncoder 1    {onehot}
Scaler 1           [2,3] offset=[1.0] scale=[2.0]
SVMRegressor 1     [2,3] coefficients=[1.0,0.5] kernel_params=[0.5,0.0,3.0] kernel_type=RBF n_supports=2 rho=[0.5] support_vectors=[1.0,2.0,3.0,0.0,1.0,0.0]
SVMClassifier 1    [2,3] coefficients=[1.0,-0.5] kernel_params=[0.5,0.0,3.0] kernel_type=RBF rho=[0.5] support_vectors=[1.0,2.0,3.0,0.0,1.0,0.0] vectors_per_class=[1,1] {labels} @out=2
TreeEnsembleRegressor 1 [2,3] {tree} target_ids=[0,0] target_nodeids=[1,2] target_treeids=[0,0] target_weights=[1.0,2.0] n_targets=1
TreeEnsembleClassifier 1 [2,3] {tree} class_ids=[0,1,0,1] class_nodeids=[1,1,2,2] class_treeids=[0,0,0,0] class_weights=[0.75,0.25,0.375,0.625] {labels64} @out=2
TreeEnsemble 5     [2,3] tree_roots=[0] nodes_modes=u8[1]=0 nodes_splits={T}[1]=1 leaf_weights={T}[2]=1,2 leaf_targetids=[0,0] nodes_falsenodeids=[1] nodes_truenodeids=[0] nodes_trueleafs=[1] nodes_falseleafs=[1] nodes_featureids=[1] n_targets=1
FlexAttention 1    [1,2,3,4] [1,2,5,4] [1,2,5,4]
Adagrad 1          []=0.1 []=1 [3] [3] [3]~1:2 norm_coefficient=0.0 @out=2
Adam 1             []=0.1 []=1 [3] [3] [3] [3]~1:2 @out=3
Momentum 1         []=0.1 []=1 [3] [3] [3] norm_coefficient=0.0 alpha=0.5 beta=0.5 mode=standard @out=2
"""
UNITS = {  # what a line's {name} stands for, by the types that the variables have
    "one": lambda t: "str[2]=['a','b']" if t["T"] == "str" else f"{t['T']}[2]=0,1",
    "dtype": lambda t: "output_dtype=1" if t["T2"] == "f8e8m0" else "",
    "fmod": lambda t: "fmod=1" if t["T"] in ("f16", "bf16", "f32", "f64") else "",
    "imputer": lambda t: ("imputed_value_int64s=[7] replaced_value_int64=1" if t["T"] in ("i32", "i64")
                          else "imputed_value_floats=[7.0] replaced_value_float=1.0"),
    "category": lambda t: "[3]=['b','a','z']" if t["T1"] == "str" else "[3]=1,0,9",
    "onehot": lambda t: "[2]=['b','a'] cats_strings=['a','b']" if t["T"] == "str" else "[2]=1,0 cats_int64s=[0,1]",
    "labels": lambda t: "classlabels_strings=['a','b']" if t["T2"] == "str" else "classlabels_ints=[0,1]",
    "labels64": lambda t: "classlabels_strings=['a','b']" if t["T2"] == "str" else "classlabels_int64s=[0,1]",
    "labels2": lambda t: labels(t, "T2"),
    "labels4": lambda t: labels(t, "T2") if {t["T1"], t["T2"]} <= set(LISTS) else tensors(t),
    "pool": lambda t: "pool_strings=['a','b','ab']" if t["T"] == "str" else "pool_int64s=[2,3,4]",
    "tree": lambda t: "nodes_falsenodeids=[2,0,0] nodes_truenodeids=[1,0,0] nodes_featureids=[0,0,0] nodes_hitrates=[1.0,1.0,1.0] "
                      "nodes_missing_value_tracks_true=[0,0,0] nodes_modes=['BRANCH_LEQ','LEAF','LEAF'] nodes_nodeids=[0,1,2] "
                      "nodes_treeids=[0,0,0] nodes_values=[1.0,0.0,0.0] post_transform=NONE",
}
LISTS = {"i64": ("int64s", "[1,2]"), "str": ("strings", "['a','b']"), "f32": ("floats", "[1.0,2.0]")}


def labels(types, to):
    (key, keys), (value, values) = LISTS[types["T1"]], LISTS[types[to]]
    data = "['b','z']" if types["T1"] == "str" else "2,9"
    return f"[2]={data} keys_{key}={keys} values_{value}={values}"


def tensors(types):
    def tensor(t):
        return f"{t}[2]=['a','b']" if t == "str" else f"{t}[2]=1,2"
    data = "['b','z']" if types["T1"] == "str" else "2,9"
    default = "str[1]=['x']" if types["T2"] == "str" else f"{types['T2']}[1]=5"
    return f"[2]={data} keys_tensor={tensor(types['T1'])} values_tensor={tensor(types['T2'])} default_tensor={default}"


# ---- types -----------------------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Kind:
    """tensor, seq, opt or optseq, of an element type."""
    wrap: str
    dtype: str


def parse_kind(text):
    match = re.fullmatch(r"(optional\()?(seq\()?tensor\((\w+)\)\)*", text)
    if not match or match[3] not in NAMES:
        return None
    return Kind(("opt" if match[1] else "") + ("seq" if match[2] else "") or "tensor", NAMES[match[3]])


def type_variables(schema):
    """{variable: [Kind]} of those that something of the model decides."""
    text = " ".join(i.type_str for i in schema.inputs) + form_of(schema)
    return {c.type_param_str: [k for k in map(parse_kind, sorted(c.allowed_type_strs)) if k]
            for c in schema.type_constraints
            if schema.name in CONTROL or schema.name in FREE or re.search(rf"\b{c.type_param_str}\b", text)}


# A unit of the form asks for the variables.
FREE = {"Constant", "LabelEncoder", "LinearClassifier", "SVMClassifier", "TreeEnsembleClassifier"}
# Variables that have to be of one element type, and the only ones to vary of an operator.
LINKED = {"SequenceInsert": ("S", "T"), "SequenceConstruct": ("T", "S"), "SequenceMap": ("S",), "Optional": ("V",),
          "OptionalGetElement": ("O",), "OptionalHasElement": ("O",), "SequenceEmpty": ("S",), "Gradient": ("T1",),
          "If": ("V",), "Loop": ("V",), "Scan": ("V",)}
BITS = {"bool": 8, "f32": 32, "f64": 64, "f16": 16, "bf16": 16, "c64": 64, "c128": 128}


def bits_of(kind):
    return BITS.get(kind.dtype) or int(re.match(r"[a-z]+(\d+)", kind.dtype)[1])


def usual_kind(kinds):
    for text in USUAL:
        if parse_kind(text) in kinds:
            return parse_kind(text)
    return kinds[0]


def same_element(kind, kinds):
    return next(k for k in kinds if k.dtype == kind.dtype)


def assignments(schema):
    """[{variable: Kind}]: the usual one, and each type of each variable in it."""
    variables = {v: kinds for v, kinds in type_variables(schema).items() if kinds}
    usual = {v: usual_kind(kinds) for v, kinds in variables.items()}
    tried = [usual]
    if schema.name == "BitCast":
        return [{"T1": a, "T2": b} for a in variables["T1"] for b in variables["T2"] if bits_of(a) == bits_of(b)]
    if schema.name in LINKED:
        first, *others = [v for v in LINKED[schema.name] if v in variables]
        return [{**usual, first: k, **{v: same_element(k, variables[v]) for v in others}} for k in variables[first]]
    for v, kinds in variables.items():
        tried += [{**usual, v: k} for k in kinds if k != usual[v]]
    if (schema.name, schema.since_version) == ("LabelEncoder", 1):      # from strings to numbers or back
        tried = [{"T1": a, "T2": b} for a in variables["T1"] for b in variables["T2"] if a != b]
    return tried


# ---- forms -----------------------------------------------------------------------------------------------------------

def table():
    found = {}
    for line in TABLE.strip().splitlines():
        op, since, rest = (line.split(None, 2) + [""])[:3]
        found.setdefault(op, {})[int(since)] = rest
    return found


FORMS = table()


def form_of(schema):
    """The words of a version of an operator."""
    forms = {since: text for since, text in FORMS.get(schema.name, {}).items() if since <= schema.since_version}
    if forms:
        return forms[max(forms)]
    optional = onnx.defs.OpSchema.FormalParameterOption
    words = []
    for i in schema.inputs:
        if i.option == optional.Optional:
            break
        words += ["[2,3,4]"] * (2 if i.option == optional.Variadic else 1)
    return " ".join(words)


@dataclass
class Model:
    """The nodes of one variant, with names that begin with its prefix."""
    prefix: str
    nodes: list = field(default_factory=list)
    feeds: list = field(default_factory=list)       # (name, dtype, array, constant)
    outputs: list = field(default_factory=list)

    def tensor(self, dtype, values, constant=False):
        name = f"{self.prefix}i{len(self.feeds)}"
        self.feeds.append((name, dtype, values, constant))
        return name

    def node(self, op, inputs, n_out=1, domain="", **attributes):
        outs = [f"{self.prefix}v{len(self.nodes)}_{i}" for i in range(n_out)]
        self.nodes.append(helper.make_node(op, inputs, outs, domain=domain, **attributes))
        return outs

    def wrapped(self, kind, name):
        """The tensor as what the operator takes."""
        if "seq" in kind.wrap:
            name = self.node("SequenceConstruct", [name, name])[0]
        return self.node("Optional", [name])[0] if "opt" in kind.wrap else name

    def unwrapped(self, kind, name):
        if "opt" in kind.wrap:
            name = self.node("OptionalGetElement", [name])[0]
        return self.node("ConcatFromSequence", [name], axis=0)[0] if "seq" in kind.wrap else name


def formal(schema, i):
    return schema.inputs[min(i, len(schema.inputs) - 1)]


def kind_of(types, type_str):
    return types[type_str] if type_str in types else parse_kind(type_str)


def output_kind(schema, types, variable):
    """Of an output whose type no input has: a sequence of input 0's elements, or a tensor."""
    allowed = next((c.allowed_type_strs for c in schema.type_constraints if c.type_param_str == variable), [""])
    return Kind("seq", types[schema.inputs[0].type_str].dtype) if allowed[0].startswith("seq(") else None


def substituted(text, types, codes):
    def word(match):
        name, mark = match[1], match[2]
        if name in UNITS:
            return UNITS[name]({v: k.dtype for v, k in types.items()})
        dtype = types[name].dtype
        return {"": dtype, "#": str(int(codes[dtype])), "@": TensorProto.DataType.Name(codes[dtype])}[mark]
    return re.sub(r"\{(\w+)([#@]?)\}", word, text)


def plain_model(schema, types, prefix, ops):
    """An operator by its form. ops: the suite of that name, which parses words."""
    m, options, attributes, names = Model(prefix), {}, {}, []
    rng = np.random.default_rng(zlib.crc32(f"{schema.name}{sorted((v, k.dtype) for v, k in types.items())}".encode()))
    for word in substituted(form_of(schema), types, ops.ONNX_TYPES).split():
        if word == "-":
            names.append("")
        elif word.startswith("@"):
            key, _, options[key[1:]] = word.partition("=")
        elif word.startswith("[") or word.startswith("!["):
            kind = kind_of(types, formal(schema, len(names)).type_str)
            names.append(m.wrapped(kind, m.tensor(kind.dtype, *input_values(word, kind.dtype, rng, ops))))
        else:
            key, value = ops.parse_attribute(word, rng)
            if key in schema.attributes:
                attributes[key] = value
    outs = m.node(schema.name, names, int(options.get("out", 1)), schema.domain, **attributes)
    for i, name in enumerate(outs):
        text = schema.outputs[min(i, len(schema.outputs) - 1)].type_str
        kind = kind_of(types, text) or output_kind(schema, types, text)
        m.outputs.append(m.unwrapped(kind, name) if kind else name)
    return m


def input_values(word, dtype, rng, ops):
    constant, word = word.startswith("!"), word.lstrip("!")
    dims, mark, values = re.match(r"(\[[^\]]*\])([=~]?)(.*)", word).groups()
    if dtype == "str" and mark == "=" and not values.startswith("["):
        values = repr(values.split(",")).replace(" ", "")
    elif dtype == "str" or not mark:
        mark, values = ("", "") if dtype == "str" else ("~", "0:1" if dtype == "i2" else "0:3")
    return ops.parse_tensor(dtype + dims + mark + values, rng).values, constant


# ---- operators with subgraphs, and others without a form -------------------------------------------------------------

def value_type(kind, ops):
    elem = int(ops.ONNX_TYPES[kind.dtype])
    proto = helper.make_tensor_type_proto(elem, None)
    if "seq" in kind.wrap:
        proto = helper.make_sequence_type_proto(proto)
    return helper.make_optional_type_proto(proto) if "opt" in kind.wrap else proto


def info(name, kind, ops):
    return helper.make_value_info(name, value_type(kind, ops))


def values_of(kind, shape, ops, seed=0):
    low = "" if kind.dtype == "str" else "~0:1" if kind.dtype == "i2" else "~0:3"
    return ops.parse_tensor(f"{kind.dtype}[{','.join(map(str, shape))}]{low}", np.random.default_rng(seed)).values


def identity_graph(name, inputs, outputs, ops, before=()):
    """outputs: (name, the value it repeats, kind)"""
    nodes = [*before, *(helper.make_node("Identity", [source], [out]) for out, source, _ in outputs)]
    return helper.make_graph(nodes, name, [info(n, k, ops) for n, k in inputs], [info(o, k, ops) for o, _, k in outputs])


def if_model(schema, types, prefix, ops):
    m, kind = Model(prefix), types["V"]
    a, b = (m.wrapped(kind, m.tensor(kind.dtype, values_of(kind, [2, 3], ops, s))) for s in (0, 1))
    cond = m.tensor("bool", np.array([False]))
    out = m.node("If", [cond], then_branch=identity_graph("t", [], [(prefix + "t", a, kind)], ops),
                 else_branch=identity_graph("e", [], [(prefix + "e", b, kind)], ops))
    m.outputs = [m.unwrapped(kind, out[0])]
    return m


def loop_model(schema, types, prefix, ops):
    m, kind, p = Model(prefix), types["V"], prefix
    start = m.wrapped(kind, m.tensor(kind.dtype, values_of(kind, [2, 3], ops)))
    count, go = m.tensor("i64", np.array(3), True), m.tensor("bool", np.array(True), True)
    scalar, flag = Kind("tensor", "i64"), Kind("tensor", "bool")
    outs = [(p + "go_", p + "go", flag), (p + "v_", p + "v", kind)]
    if kind.wrap == "tensor":
        outs.append((p + "s_", p + "v", kind))
    body = identity_graph("b", [(p + "n", scalar), (p + "go", flag), (p + "v", kind)], outs, ops)
    for i, dims in ((0, []), (1, [])):
        body.input[i].type.tensor_type.shape.CopyFrom(onnx.TensorShapeProto())
    out = m.node("Loop", [count, go, start], len(outs) - 1, body=body)
    m.outputs = [m.unwrapped(kind, out[0]), *out[1:]]
    return m


def scan_model(schema, types, prefix, ops):
    m, kind, p = Model(prefix), types["V"], prefix
    lead, first = ([1], [""]) if schema.since_version == 8 else ([], [])
    state = m.tensor(kind.dtype, values_of(kind, lead + [2], ops))
    rows = m.tensor(kind.dtype, values_of(kind, lead + [3, 2], ops, 1))
    body = identity_graph("b", [(p + "s", kind), (p + "x", kind)], [(p + "s_", p + "x", kind), (p + "y_", p + "s", kind)], ops)
    m.outputs = m.node("Scan", [*first, state, rows], 2, body=body, num_scan_inputs=1)
    return m


def sequence_map_model(schema, types, prefix, ops):
    m, kind, more, p = Model(prefix), types["S"], types["V"], prefix
    item = Kind("tensor", kind.dtype)
    each = m.wrapped(kind, m.tensor(kind.dtype, values_of(kind, [2, 3], ops)))
    other = m.wrapped(more, m.tensor(more.dtype, values_of(more, [2, 3], ops, 1)))
    inner = Kind("tensor", more.dtype)
    body = identity_graph("b", [(p + "x", item), (p + "z", inner)], [(p + "y_", p + "x", item), (p + "w_", p + "z", inner)], ops)
    out = m.node("SequenceMap", [each, other], 2, body=body)
    m.outputs = [m.unwrapped(kind, out[0]), m.unwrapped(Kind("seq", more.dtype), out[1])]
    return m


def optional_model(schema, types, prefix, ops):
    m, kind = Model(prefix), types["V"]
    inner = Kind("seq" if "seq" in kind.wrap else "tensor", kind.dtype)
    x = m.wrapped(inner, m.tensor(kind.dtype, values_of(kind, [2, 3], ops)))
    m.outputs = [m.unwrapped(inner, m.node("OptionalGetElement", m.node("Optional", [x]))[0])]
    m.outputs += m.node("OptionalHasElement", m.node("Optional", [], type=value_type(inner, ops)))
    return m


def get_element_model(schema, types, prefix, ops):
    m, kind = Model(prefix), types["O"]
    inner = Kind(kind.wrap.replace("opt", "") or "tensor", kind.dtype)
    out = m.node(schema.name, [m.wrapped(kind, m.tensor(kind.dtype, values_of(kind, [2, 3], ops)))])
    m.outputs = [m.unwrapped(inner, out[0])] if schema.name == "OptionalGetElement" else out
    return m


def sequence_empty_model(schema, types, prefix, ops):
    m, kind = Model(prefix), types["S"]
    empty = m.node("SequenceEmpty", [], dtype=int(ops.ONNX_TYPES[kind.dtype]))[0]
    x = m.tensor(kind.dtype, values_of(kind, [2, 3], ops))
    m.outputs = [m.unwrapped(kind, m.node("SequenceInsert", [empty, x])[0])]
    return m


def gradient_model(schema, types, prefix, ops):
    """The type of a value that is not differentiated."""
    m, kind, p = Model(prefix), types["T1"], prefix
    x = m.tensor("f32", values_of(Kind("tensor", "f32"), [2, 3], ops))
    z = m.tensor(kind.dtype, values_of(kind, [2, 3], ops))
    y = m.node("Mul", [x, x])
    m.outputs = m.node("Gradient", [x, z], 1, schema.domain, xs=[x], zs=[z], y=y[0]) + m.node("Identity", [z])
    return m


CONTROL = {"If": if_model, "Loop": loop_model, "Scan": scan_model, "SequenceMap": sequence_map_model,
           "Optional": optional_model, "OptionalGetElement": get_element_model, "OptionalHasElement": get_element_model,
           "SequenceEmpty": sequence_empty_model, "Gradient": gradient_model}


def variant_model(schema, types, prefix, ops):
    return CONTROL.get(schema.name, plain_model)(schema, types, prefix, ops)


# ---- models ----------------------------------------------------------------------------------------------------------

NEWEST = {"": 22}


def onnx_model(schema, variants, ops):
    """(model of these variants, {input: array}, how many outputs)"""
    graph = onnx.GraphProto(name="variants")
    feeds, count = {}, 0
    for v in variants:
        graph.node.extend(v.nodes)
        for name, dtype, values, constant in v.feeds:
            if constant:
                graph.initializer.append(ops.numpy_helper.from_array(np.asarray(values), name))
            else:
                graph.input.append(helper.make_tensor_value_info(name, ops.ONNX_TYPES[dtype], np.shape(values)))
                feeds[name] = np.asarray(values)
        graph.output.extend(onnx.ValueInfoProto(name=o) for o in v.outputs)
        count += len(v.outputs)
    sets = dict(NEWEST)
    sets[schema.domain] = schema.since_version
    used = {"", schema.domain}
    imports = [helper.make_opsetid(d, v) for d, v in sets.items() if d in used]
    return helper.make_model(graph, ir_version=14, opset_imports=imports), feeds, count
