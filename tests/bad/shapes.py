"""The shapes and constants section: dims, attributes and constants that no exporter writes.

Refused ones name the node and the value that is wrong before anything of that size is allocated.
Accepted ones (tensors without elements, indices far outside, odd floats) are also run, by the
interpreter, which checks every access, and by compiled code.
"""
import math
import struct

from encode import FLOAT, INT64, STRING, attribute, blob, fixture, graph, model, node, num, section, tensor, value, varint

INT8, INT32, BOOL, DOUBLE = 3, 6, 9, 11


# ---- models of one node ----

def values(name, numbers, dtype=INT64, dims=None):
    form = {FLOAT: "f", INT64: "q", INT32: "i", INT8: "b", 2: "B", BOOL: "?", DOUBLE: "d"}[dtype]
    raw = struct.pack(f"<{len(numbers)}{form}", *numbers)
    return tensor(name, (len(numbers),) if dims is None else dims, dtype, raw)


def integer(name, v):
    return attribute(name, 2, num(3, v))


def integers(name, *v):
    return attribute(name, 7, b"".join(num(8, i) for i in v))


def real(name, v):
    return attribute(name, 1, varint(2 << 3 | 5) + struct.pack("<f", v))


def text(name, s):
    return attribute(name, 3, blob(4, s))


def symbolic(name, dims, dtype=FLOAT):
    """A graph input; a dim may be a name."""
    shape = b"".join(blob(1, num(1, d) if isinstance(d, int) else blob(2, d)) for d in dims)
    return blob(1, name) + blob(2, blob(1, num(1, dtype) + blob(2, shape)))


def build(nodes, inputs, consts=(), outputs=("y",), opset=17, more=b""):
    """inputs: name -> dims, or (dims, dtype). Outputs have no declared type."""
    g = b"".join(blob(1, n) for n in nodes) + blob(2, "g") + b"".join(blob(5, t) for t in consts)
    for name, dims in inputs.items():
        dims, dtype = dims if dims and isinstance(dims[0], tuple) else (dims, FLOAT)
        g += blob(11, symbolic(name, dims, dtype))
    return model(g + b"".join(blob(12, blob(1, o)) for o in outputs) + more, opset)


def one(op, ins, attrs=(), inputs=None, consts=(), outs=("y",), opset=17):
    return build([node(op, ins, outs, attrs, name="n")], {"x": (2, 3)} if inputs is None else inputs,
                 consts, [o for o in outs if o], opset)


def refused(name, why, *arguments, code=1, **keywords):
    """A fixture of one node 'n' that is refused with this message."""
    @fixture(name, code, rf"node 'n' \(.* #0, in main\): .*{why}")
    def _(d):
        return one(*arguments, **keywords)


def runs(name, prints, *arguments, given=(), **keywords):
    """A fixture of one node that is accepted and prints this when it runs."""
    @fixture(name, 0, r"^$", prints=prints, inputs=given)
    def _(d):
        return one(*arguments, **keywords)


BIG, FAR = 1 << 40, 1 << 62
LEAST, MOST = -(1 << 63), (1 << 63) - 1


# ---- reshaping to dims that are wrong or huge ----

section("shapes and constants")

for _name, _shape, _why in [
        ("minus_one_twice", [-1, -1], "-1"), ("negative", [-2, 3], "-2"),
        ("least", [LEAST, 3], str(LEAST)), ("mismatch", [5], ""), ("2_62", [FAR, 6], ""),
        ("overflow", [1 << 32, 1 << 32], ""), ("zero_copies_nothing", [6, 1, 0], ""),
        ("rank_17", [1] * 17, "at most"), ("not_dividing", [4, -1], "")]:
    refused(f"reshape_{_name}", _why, "Reshape", ["x", "s"], consts=[values("s", _shape)])

refused("expand_2_40", "too large", "Expand", ["x", "s"], inputs={"x": (1, 1)},
        consts=[values("s", [BIG, BIG])])
refused("expand_negative", "-1", "Expand", ["x", "s"], inputs={"x": (1,)}, consts=[values("s", [-1])])
refused("expand_mismatch", "", "Expand", ["x", "s"], consts=[values("s", [2, 4])])
refused("tile_overflow", str(FAR), "Tile", ["x", "r"], consts=[values("r", [FAR, FAR])])
refused("tile_negative", "-1", "Tile", ["x", "r"], consts=[values("r", [-1, 1])])
refused("tile_count", "1 repeats for rank 2", "Tile", ["x", "r"], consts=[values("r", [1])])
refused("pad_huge", str(FAR), "Pad", ["x", "p"], consts=[values("p", [FAR, 0, 0, 0])])
refused("pad_least", str(LEAST), "Pad", ["x", "p"], consts=[values("p", [LEAST, 0, 0, 0])])
refused("pad_cut_away", "cut by more", "Pad", ["x", "p"], consts=[values("p", [-2, 0, -2, 0])])
refused("pad_count", "pads has 3", "Pad", ["x", "p"], consts=[values("p", [0, 0, 0])])
refused("pad_mode", "mode", "Pad", ["x", "p"], [text("mode", "sideways")], consts=[values("p", [0] * 4)])
refused("constant_of_shape_overflow", "too large", "ConstantOfShape", ["s"], inputs={},
        consts=[values("s", [1 << 32, 1 << 32])])
refused("constant_of_shape_negative", "-3", "ConstantOfShape", ["s"], inputs={}, consts=[values("s", [-3])])
refused("range_step_0", "step of the range is 0", "Range", ["a", "b", "c"], inputs={},
        consts=[values("a", [0], dims=()), values("b", [5], dims=()), values("c", [0], dims=())])
for _name, _floats in [("nan", (0, 1, math.nan)), ("step_0", (0, 1, 0)), ("inf", (0, math.inf, 1))]:
    refused(f"range_float_{_name}", "has no length", "Range", ["a", "b", "c"], inputs={},
            consts=[values(n, [v], FLOAT, ()) for n, v in zip("abc", _floats)])
refused("range_2_64", "too long", "Range", ["a", "b", "c"], inputs={},
        consts=[values(n, [v], dims=()) for n, v in zip("abc", (LEAST, MOST, 1))])
refused("resize_nan", "", "Resize", ["x", "", "s"], consts=[values("s", [math.nan, 1.0], FLOAT)])
refused("resize_negative", "", "Resize", ["x", "", "s"], consts=[values("s", [-1.0, 1.0], FLOAT)])
refused("resize_scale_2_40", "at most 2\\^30", "Resize", ["x", "", "s"], inputs={"x": (1,)},
        consts=[values("s", [float(BIG)], FLOAT)])
refused("resize_sizes_overflow", "", "Resize", ["x", "", "", "s"], consts=[values("s", [FAR, FAR])])
refused("resize_neither", "", "Resize", ["x"])
refused("one_hot_depth_negative", "depth is -1", "OneHot", ["x", "d", "v"], inputs={"x": ((2,), INT64)},
        consts=[values("d", [-1], dims=()), values("v", [0.0, 1.0], FLOAT)])
refused("eye_like_rank", "rank", "EyeLike", ["x"], inputs={"x": (2, 3, 4)})

# A tensor of 2^40 bytes and more: each may be addressed, none may be allocated.
LARGE = r"arena|too large|at most|limit"
for _name, _op, _ins, _inputs, _consts in [
        ("expand", "Expand", ["x", "s"], {"x": (1,)}, [values("s", [BIG])]),
        ("tile", "Tile", ["x", "s"], {"x": (1,)}, [values("s", [BIG])]),
        ("pad", "Pad", ["x", "s"], {"x": (1,)}, [values("s", [BIG, 0])]),
        ("constant_of_shape", "ConstantOfShape", ["s"], {}, [values("s", [BIG])]),
        ("range", "Range", ["a", "b", "c"], {}, [values(n, [v], dims=()) for n, v in zip("abc", (0, BIG, 1))]),
        ("resize", "Resize", ["x", "", "", "s"], {"x": (1,)}, [values("s", [BIG])]),
        ("one_hot", "OneHot", ["x", "s", "v"], {"x": ((1,), INT64)},
         [values("s", [BIG], dims=()), values("v", [0.0, 1.0], FLOAT)])]:
    # the output itself is the caller's memory; between two nodes it would be the arena's
    @fixture(f"2_40_{_name}", 0, r"^$|" + LARGE)
    def _(d, op=_op, ins=_ins, inputs=_inputs, consts=_consts):
        return one(op, ins, inputs=inputs, consts=consts)

    @fixture(f"2_40_{_name}_inner", 0, r"^$|" + LARGE)
    def _(d, op=_op, ins=_ins, inputs=_inputs, consts=_consts):
        axes = values("axes", [0])
        nodes = [node(op, ins, ["t"], name="n"), node("CumSum", ["t", "ax"], ["u"], name="c"),
                 node("ReduceSum", ["u", "axes"], ["y"], name="r")]
        return build(nodes, inputs, list(consts) + [axes, values("ax", [0], dims=())])


# ---- slices, gathers, splits ----

refused("slice_step_0", "step", "Slice", ["x", "a", "b", "c", "s"],
        consts=[values("a", [0]), values("b", [1]), values("c", [0]), values("s", [0])])
refused("slice_axis_99", "99", "Slice", ["x", "a", "b", "c"],
        consts=[values("a", [0]), values("b", [1]), values("c", [99])])
refused("slice_axis_twice", "", "Slice", ["x", "a", "b", "c"],
        consts=[values("a", [0, 0]), values("b", [1, 1]), values("c", [0, 0])])
refused("slice_lengths", "", "Slice", ["x", "a", "b"], consts=[values("a", [0, 0]), values("b", [1])])


def sliced(name, prints, a, b, s):
    runs(f"slice_{name}", prints, "Slice", ["x", "a", "b", "c", "s"], inputs={"x": (4,)},
         given=[values("x", [1, 2, 3, 4], FLOAT)],
         consts=[values("a", [a]), values("b", [b]), values("c", [0]), values("s", [s])])


sliced("least_to_most", r"y: f32\[4\] \{1, 2, 3, 4\}", LEAST, MOST, 1)
sliced("most_to_least", r"y: f32\[4\] \{4, 3, 2, 1\}", MOST, LEAST, -1)
sliced("step_most", r"y: f32\[1\] \{1\}", 0, MOST, MOST)
sliced("step_least", r"y: f32\[1\] \{4\}", MOST, LEAST, LEAST)
sliced("empty", r"y: f32\[0\] \{\}", 3, 1, 1)

for _name, _index in [("10_12", 10**12), ("minus_n_minus_1", -3), ("n", 2), ("least", LEAST)]:
    for _op in ["Gather", "GatherElements"]:
        refused(f"{_op.lower()}_constant_{_name}", str(_index), _op, ["x", "i"],
                consts=[values("i", [_index] * 3, dims=(1, 3))])
refused("gather_nd_constant", str(10**12), "GatherND", ["x", "i"], consts=[values("i", [[10**12]][0], dims=(1, 1))])
refused("scatter_nd_constant", str(10**12), "ScatterND", ["x", "i", "u"],
        consts=[values("i", [10**12], dims=(1, 1)), values("u", [1, 2, 3], FLOAT, (1, 3))])
refused("scatter_elements_constant", str(10**12), "ScatterElements", ["x", "i", "u"],
        consts=[values("i", [10**12], dims=(1, 1)), values("u", [1], FLOAT, (1, 1))])

X4, AT4 = values("x", [1, 2, 3, 4], FLOAT), values("i", [0, -4, 10**12, LEAST])
I4 = {"x": (4,), "i": ((4,), INT64)}
runs("gather_outside", r"y: f32\[4\] \{1, 1, \S+, \S+\}", "Gather", ["x", "i"], inputs=I4, given=[X4, AT4])
runs("gather_elements_outside", r"y: f32\[4\] \{1, 1, \S+, \S+\}", "GatherElements", ["x", "i"], inputs=I4,
     given=[X4, AT4])
runs("gather_nd_outside", r"y: f32\[4\] \{1, 1, \S+, \S+\}", "GatherND", ["x", "i"],
     inputs={"x": (4,), "i": ((4, 1), INT64)}, given=[X4, values("i", [0, -4, MOST, LEAST], dims=(4, 1))])
runs("scatter_elements_outside", r"y: f32\[4\] \{\S+, 2, 3, 4\}", "ScatterElements", ["x", "i", "u"],
     inputs={**I4, "u": (4,)}, given=[X4, AT4, values("u", [9, 9, 8, 7], FLOAT)])
runs("scatter_nd_outside", r"y: f32\[4\] \{\S+, 2, 3, 4\}", "ScatterND", ["x", "i", "u"],
     inputs={"x": (4,), "i": ((4, 1), INT64), "u": (4,)},
     given=[X4, values("i", [0, -4, MOST, LEAST], dims=(4, 1)), values("u", [9, 9, 8, 7], FLOAT)])
runs("one_hot_outside", r"y: f32\[4, 2\] \{1, 0, 0, 0, 0, 0, 0, 0\}", "OneHot", ["i", "d", "v"],
     inputs={"i": ((4,), INT64)}, given=[values("i", [0, -4, MOST, LEAST])],
     consts=[values("d", [2], dims=()), values("v", [0, 1], FLOAT)])

refused("split_sum", "", "Split", ["x", "s"], consts=[values("s", [1, 1])], outs=("y", "z"),
        inputs={"x": (4,)})
refused("split_negative", "", "Split", ["x", "s"], consts=[values("s", [-1, 5])], outs=("y", "z"),
        inputs={"x": (4,)})
refused("split_overflow", "", "Split", ["x", "s"], consts=[values("s", [MOST, MOST, 6])], outs=("y", "z", "w"),
        inputs={"x": (4,)})
refused("split_count", "", "Split", ["x", "s"], consts=[values("s", [4])], outs=("y", "z"), inputs={"x": (4,)})
refused("split_num_outputs_0", "num_outputs is 0", "Split", ["x"], [integer("num_outputs", 0)],
        outs=("y", "z"), opset=18)
refused("split_num_outputs_huge", "num_outputs is", "Split", ["x"], [integer("num_outputs", MOST)],
        outs=("y", "z"), opset=18)

# ---- axes ----

refused("transpose_twice", r"perm\[1\] is 0", "Transpose", ["x"], [integers("perm", 0, 0)])
refused("transpose_outside", r"perm\[1\] is 2", "Transpose", ["x"], [integers("perm", 0, 2)])
refused("transpose_short", "perm has 1", "Transpose", ["x"], [integers("perm", 0)])
refused("concat_axis_99", "axis 99", "Concat", ["x", "x"], [integer("axis", 99)])
refused("concat_axis_least", f"axis {LEAST}", "Concat", ["x", "x"], [integer("axis", LEAST)])
refused("concat_no_axis", "axis", "Concat", ["x", "x"])
refused("concat_mismatch", "does not continue", "Concat", ["x", "w"], [integer("axis", 0)],
        inputs={"x": (2, 3), "w": (2, 4)})
refused("squeeze_non_1", "", "Squeeze", ["x", "a"], consts=[values("a", [0])])
refused("squeeze_twice", "", "Squeeze", ["x", "a"], inputs={"x": (1, 3)}, consts=[values("a", [0, 0])])
refused("unsqueeze_outside", "", "Unsqueeze", ["x", "a"], consts=[values("a", [7])])
refused("unsqueeze_rank_17", "", "Unsqueeze", ["x", "a"], consts=[values("a", list(range(15)))])
refused("flatten_axis", "", "Flatten", ["x"], [integer("axis", 3)])
refused("softmax_axis", "axis 2", "Softmax", ["x"], [integer("axis", 2)])
refused("argmax_axis", "axis -3", "ArgMax", ["x"], [integer("axis", -3)])
refused("reduce_axis", "axis 5", "ReduceSum", ["x", "a"], consts=[values("a", [5])])
refused("reduce_axis_twice", "", "ReduceSum", ["x", "a"], consts=[values("a", [1, -1])])
refused("cumsum_axis", "", "CumSum", ["x", "a"], consts=[values("a", [9], dims=())])
refused("topk_k_negative", "", "TopK", ["x", "k"], consts=[values("k", [-1])], outs=("y", "z"))
refused("topk_k_large", "", "TopK", ["x", "k"], consts=[values("k", [4])], outs=("y", "z"))
refused("depth_to_space_0", "", "DepthToSpace", ["x"], [integer("blocksize", 0)], inputs={"x": (1, 4, 2, 2)})
refused("depth_to_space_huge", "", "DepthToSpace", ["x"], [integer("blocksize", 1 << 32)],
        inputs={"x": (1, 4, 2, 2)})
refused("space_to_depth_negative", "", "SpaceToDepth", ["x"], [integer("blocksize", -2)],
        inputs={"x": (1, 4, 2, 2)})
refused("broadcast", "do not broadcast", "Add", ["x", "w"], inputs={"x": (2, 3), "w": (4,)})
refused("matmul_inner", "", "MatMul", ["x", "x"])
refused("gemm_rank", "", "Gemm", ["x", "w"], inputs={"x": (2, 3, 4), "w": (4, 4)})
refused("cast_to_99", "99", "Cast", ["x"], [integer("to", 99)])
refused("cast_to_negative", "-1", "Cast", ["x"], [integer("to", -1)])

for _name, _equation in [("million", "a" * 10**6), ("rank", "i,i->i"), ("dup_output", "ij->jj"), ("no_input", "->"),
                         ("garbage", "%s%n$()"), ("digits", "12->1"), ("unknown_output", "ij->ijk"),
                         ("ellipsis_twice", "......->"), ("arrows", "ij->i->j"), ("half_ellipsis", "i..->i"),
                         ("empty", "")]:
    refused(f"einsum_{_name}", "", "Einsum", ["x"], [text("equation", _equation)])
refused("einsum_dup_output_2", "", "Einsum", ["x", "x"], [text("equation", "i,i->jj")], inputs={"x": (3,)})
refused("einsum_53_letters", "", "Einsum", ["x"], [text("equation", "\u00e4j->j")])

# ---- windows ----

IMAGE = {"x": (1, 4, 8, 8)}


def weights(*dims):
    return values("w", [0.5] * math.prod(dims), FLOAT, dims)


for _op, _consts in [("Conv", [weights(4, 4, 3, 3)]), ("ConvTranspose", [weights(4, 4, 3, 3)]), ("MaxPool", []),
                     ("AveragePool", []), ("LpPool", [])]:
    _ins = ["x", "w"] if _consts else ["x"]
    _shape = [] if _consts else [integers("kernel_shape", 3, 3)]
    for _name, _attr, _why in [
            ("stride_0", integers("strides", 0, 1), r"strides\[0\] is 0, must be at least 1"),
            ("stride_negative", integers("strides", 1, -2), r"strides\[1\] is -2"),
            ("stride_huge", integers("strides", MOST, 1), "strides"),
            ("stride_count", integers("strides", 1), "strides has 1 values"),
            ("dilation_0", integers("dilations", 0, 1), r"dilations"),
            ("dilation_huge", integers("dilations", 1 << 31, 1), r"dilation"),
            ("pads_negative", integers("pads", -1, 0, 0, 0), r"pads\[0\] is -1"),
            ("pads_huge", integers("pads", FAR, 0, 0, 0), r"pads\[0\] is"),
            ("pads_count", integers("pads", 1, 1), r"pads has 2 values"),
            ("auto_pad", text("auto_pad", "SIDEWAYS"), r"auto_pad is 'SIDEWAYS'")]:
        if _op in ("LpPool", "AveragePool") and "dilation" in _name:
            continue
        refused(f"{_op.lower()}_{_name}", _why, _op, _ins, _shape + [_attr], inputs=IMAGE, consts=_consts)

for _op in ["MaxPool", "AveragePool"]:
    for _name, _kernel in [("0", (0, 3)), ("negative", (-3, 3)), ("huge", (FAR, 3)), ("count", (3,)),
                           ("too_large", (9, 9))]:
        refused(f"{_op.lower()}_kernel_{_name}", "", _op, ["x"], [integers("kernel_shape", *_kernel)], inputs=IMAGE)
    refused(f"{_op.lower()}_kernel_missing", "kernel_shape", _op, ["x"], inputs=IMAGE)
for _name, _group in [("0", 0), ("negative", -1), ("not_dividing", 3), ("huge", MOST)]:
    refused(f"conv_group_{_name}", "group", "Conv", ["x", "w"], [integer("group", _group)], inputs=IMAGE,
            consts=[weights(4, 4, 3, 3)])
    refused(f"conv_transpose_group_{_name}", "group", "ConvTranspose", ["x", "w"], [integer("group", _group)],
            inputs=IMAGE, consts=[weights(4, 4, 3, 3)])
refused("conv_channels", "", "Conv", ["x", "w"], inputs=IMAGE, consts=[weights(4, 5, 3, 3)])
refused("conv_rank", "", "Conv", ["x", "w"], inputs=IMAGE, consts=[weights(4, 4, 3)])
refused("conv_bias", "", "Conv", ["x", "w", "b"], inputs=IMAGE, consts=[weights(4, 4, 3, 3), values("b", [1.0], FLOAT)])
refused("conv_output_empty", "too small", "Conv", ["x", "w"], inputs={"x": (1, 4, 2, 2)}, consts=[weights(4, 4, 3, 3)])
refused("conv_kernel_shape", r"kernel_shape\[0\] is 5", "Conv", ["x", "w"], [integers("kernel_shape", 5, 3)],
        inputs=IMAGE, consts=[weights(4, 4, 3, 3)])
refused("conv_transpose_output_padding", "", "ConvTranspose", ["x", "w"], [integers("output_padding", -1, 0)],
        inputs=IMAGE, consts=[weights(4, 4, 3, 3)])
refused("conv_transpose_output_shape", "", "ConvTranspose", ["x", "w"], [integers("output_shape", FAR, FAR)],
        inputs=IMAGE, consts=[weights(4, 4, 3, 3)])
refused("lrn_size_0", "", "LRN", ["x"], [integer("size", 0)], inputs=IMAGE)
refused("group_norm_groups", "", "GroupNormalization", ["x", "s", "b"], [integer("num_groups", 3)], inputs=IMAGE,
        consts=[values("s", [1.0] * 3, FLOAT), values("b", [1.0] * 3, FLOAT)], opset=18)
refused("batch_norm_lengths", "", "BatchNormalization", ["x", "s", "s", "s", "s"], inputs=IMAGE,
        consts=[values("s", [1.0] * 3, FLOAT)])

# ---- quantisation ----

for _name, _scale in [("0", 0.0), ("nan", math.nan), ("negative", -0.5), ("inf", math.inf)]:
    @fixture(f"quantize_scale_{_name}", 0, r"^$", prints=r"y: u8\[2, 3\]")
    def _(d, scale=_scale):
        return one("QuantizeLinear", ["x", "s", "z"],
                   consts=[values("s", [scale], FLOAT, ()), values("z", [3], 2, ())])
refused("quantize_zero_type", "", "DequantizeLinear", ["x", "s", "z"], inputs={"x": ((2, 3), INT8)},
        consts=[values("s", [1.0], FLOAT, ()), values("z", [3], 2, ())])
refused("quantize_axis_length", "", "QuantizeLinear", ["x", "s"], consts=[values("s", [1.0] * 7, FLOAT)])
refused("quantize_zero_length", "", "QuantizeLinear", ["x", "s", "z"], [integer("axis", 0)],
        consts=[values("s", [1.0] * 2, FLOAT), values("z", [1] * 3, 2)])
refused("quantize_axis", "axis 9", "QuantizeLinear", ["x", "s"], [integer("axis", 9)],
        consts=[values("s", [1.0] * 3, FLOAT)])

# ---- odd floats in attributes ----

ODD = [("nan", math.nan), ("inf", math.inf), ("minus_0", -0.0), ("denormal", 1e-45), ("negative", -1.0)]
for _name, _v in ODD:
    runs(f"leaky_relu_{_name}", r"y: f32\[2, 3\]", "LeakyRelu", ["x"], [real("alpha", _v)])
    runs(f"elu_{_name}", r"y: f32\[2, 3\]", "Elu", ["x"], [real("alpha", _v)])
    runs(f"layer_norm_{_name}", r"y: f32\[2, 3\]", "LayerNormalization", ["x", "s"], [real("epsilon", _v)],
         consts=[values("s", [1.0] * 3, FLOAT)])
    runs(f"batch_norm_{_name}", r"y: f32\[1, 4, 8, 8\]", "BatchNormalization", ["x", "s", "s", "s", "s"],
         [real("epsilon", _v)], inputs=IMAGE, consts=[values("s", [1.0] * 4, FLOAT)])
    runs(f"clip_{_name}", r"y: f32\[2, 3\]", "Clip", ["x", "a", "b"],
         consts=[values("a", [_v], FLOAT, ()), values("b", [_v], FLOAT, ())])
    runs(f"cast_folded_{_name}", r"y: i32\[1\]", "Cast", ["a"], [integer("to", INT32)], inputs={},
         consts=[values("a", [_v], FLOAT)])
runs("cast_outside", r"y: i8\[4\]", "Cast", ["x"], [integer("to", INT8)], inputs={"x": (4,)},
     given=[values("x", [math.nan, math.inf, -3e38, 1e10], FLOAT)])
runs("topk_nan", r"y: f32\[2\]", "TopK", ["x", "k"], inputs={"x": (4,)}, outs=("y", "z"), consts=[values("k", [2])],
     given=[values("x", [math.nan, math.inf, -math.inf, math.nan], FLOAT)])
runs("argmax_nan", r"y: i64\[1\]", "ArgMax", ["x"], inputs={"x": (4,)},
     given=[values("x", [math.nan] * 4, FLOAT)])
runs("softmax_all_minus_inf", r"y: f32\[4\] \{-?nan, ", "Softmax", ["x"], inputs={"x": (4,)},
     given=[values("x", [-math.inf] * 4, FLOAT)])

# ---- integers at their ends: folded and at run time the same ----

for _name, _op, _a, _b, _attrs, _prints in [
        ("div_least", "Div", [LEAST, 7, LEAST], [-1, 0, 0], [], r"\{-9\.22337e\+18, \S+, \S+\}"),
        ("mod_0", "Mod", [LEAST, 7, 5], [-1, 0, 3], [], r"\{0, \S+, 2\}"),
        ("fmod_0", "Mod", [LEAST, 7, 5], [-1, 0, 3], [integer("fmod", 1)], r"\{0, \S+, 2\}"),
        ("pow_large", "Pow", [LEAST, 3, 0], [MOST, 63, -1], [], r"\{"),
        ("sub_wraps", "Sub", [LEAST, 0, 1], [1, LEAST, 1], [], r"\{9\.22337e\+18, -9\.22337e\+18, 0\}"),
        ("mul_wraps", "Mul", [LEAST, MOST, 1], [-1, MOST, 1], [], r"\{-9\.22337e\+18, 1, 1\}")]:
    runs(f"int_{_name}_folded", r"y: i64\[3\] " + _prints, _op, ["a", "b"], _attrs, inputs={},
         consts=[values("a", _a), values("b", _b)])
    runs(f"int_{_name}", r"y: i64\[3\] " + _prints, _op, ["a", "b"], _attrs,
         inputs={"a": ((3,), INT64), "b": ((3,), INT64)}, given=[values("a", _a), values("b", _b)])
for _way in ["LEFT", "RIGHT"]:
    _a, _b = values("a", [255, 255, 1], 2), values("b", [8, 255, 1], 2)
    _prints = r"y: u8\[3\] \{0, 0, %d\}" % (2 if _way == "LEFT" else 0)
    runs(f"shift_{_way.lower()}", _prints, "BitShift", ["a", "b"], [text("direction", _way)],
         inputs={"a": ((3,), 2), "b": ((3,), 2)}, given=[_a, _b])
    runs(f"shift_{_way.lower()}_folded", _prints, "BitShift", ["a", "b"], [text("direction", _way)], inputs={},
         consts=[_a, _b])
runs("abs_least", r"y: i64\[1\] \{-9\.22337e\+18\}", "Abs", ["a"], inputs={}, consts=[values("a", [LEAST])])
runs("neg_least", r"y: i64\[1\] \{-9\.22337e\+18\}", "Neg", ["a"], inputs={}, consts=[values("a", [LEAST])])

# ---- tensors without elements ----

EMPTY = [
    ("relu", "Relu", ["x"], [], {"x": (0, 3)}, [], r"f32\[0, 3\] \{\}"),
    ("add", "Add", ["x", "w"], [], {"x": (0, 3)}, [values("w", [1.0], FLOAT)], r"f32\[0, 3\] \{\}"),
    ("matmul_rows", "MatMul", ["x", "w"], [], {"x": (0, 3)}, [weights(3, 4)], r"f32\[0, 4\] \{\}"),
    ("matmul_inner", "MatMul", ["x", "w"], [], {"x": (2, 0)}, [weights(0, 4)],
     r"f32\[2, 4\] \{0, 0, 0, 0, 0, 0, 0, 0\}"),
    ("matmul_columns", "MatMul", ["x", "w"], [], {"x": (2, 3)}, [weights(3, 0)], r"f32\[2, 0\] \{\}"),
    ("gemm_inner", "Gemm", ["x", "w", "c"], [], {"x": (2, 0)}, [weights(0, 2), values("c", [5.0], FLOAT)],
     r"f32\[2, 2\] \{5, 5, 5, 5\}"),
    ("conv_batch", "Conv", ["x", "w"], [], {"x": (0, 4, 8, 8)}, [weights(4, 4, 3, 3)], r"f32\[0, 4, 6, 6\] \{\}"),
    ("conv_outputs", "Conv", ["x", "w"], [], IMAGE, [weights(0, 4, 3, 3)], r"f32\[1, 0, 6, 6\] \{\}"),
    ("pool_batch", "MaxPool", ["x"], [integers("kernel_shape", 3, 3)], {"x": (0, 4, 8, 8)}, [],
     r"f32\[0, 4, 6, 6\] \{\}"),
    ("softmax_rows", "Softmax", ["x"], [], {"x": (0, 3)}, [], r"f32\[0, 3\] \{\}"),
    ("softmax_axis", "Softmax", ["x"], [], {"x": (3, 0)}, [], r"f32\[3, 0\] \{\}"),
    ("log_softmax", "LogSoftmax", ["x"], [], {"x": (3, 0)}, [], r"f32\[3, 0\] \{\}"),
    ("reduce_sum", "ReduceSum", ["x", "a"], [], {"x": (2, 0)}, [values("a", [1])], r"f32\[2, 1\] \{0, 0\}"),
    ("reduce_prod", "ReduceProd", ["x"], [integers("axes", 1)], {"x": (2, 0)}, [], r"f32\[2, 1\] \{1, 1\}"),
    ("reduce_max", "ReduceMax", ["x"], [integers("axes", 1)], {"x": (2, 0)}, [], r"f32\[2, 1\] \{-inf, -inf\}"),
    ("reduce_min", "ReduceMin", ["x"], [integers("axes", 1)], {"x": (2, 0)}, [], r"f32\[2, 1\] \{inf, inf\}"),
    ("reduce_mean", "ReduceMean", ["x"], [integers("axes", 1)], {"x": (2, 0)}, [], r"f32\[2, 1\] \{-?nan, -?nan\}"),
    ("reduce_kept", "ReduceMean", ["x"], [integers("axes", 1)], {"x": (0, 2)}, [], r"f32\[0, 1\] \{\}"),
    ("concat", "Concat", ["x", "w"], [integer("axis", 0)], {"x": (0, 2)}, [weights(1, 2)], r"f32\[1, 2\] \{0\.5, 0\.5\}"),
    ("concat_all", "Concat", ["x", "x"], [integer("axis", 0)], {"x": (0, 2)}, [], r"f32\[0, 2\] \{\}"),
    ("gather_none", "Gather", ["x", "i"], [], {"x": (3, 2)}, [values("i", [])], r"f32\[0, 2\] \{\}"),
    ("reshape", "Reshape", ["x", "s"], [], {"x": (0, 4)}, [values("s", [2, 0])], ""),
    ("transpose", "Transpose", ["x"], [], {"x": (0, 4)}, [], r"f32\[4, 0\] \{\}"),
    ("expand", "Expand", ["x", "s"], [], {"x": (1, 3)}, [values("s", [0, 3])], r"f32\[0, 3\] \{\}"),
    ("tile", "Tile", ["x", "s"], [], {"x": (2, 3)}, [values("s", [0, 1])], r"f32\[0, 3\] \{\}"),
    ("pad", "Pad", ["x", "p"], [], {"x": (0,)}, [values("p", [1, 1])], r"f32\[2\] \{0, 0\}"),
    ("split", "Split", ["x", "s"], [integer("axis", 1)], {"x": (2, 3)}, [values("s", [0, 3])], r"f32\[2, 0\] \{\}"),
    ("nonzero", "NonZero", ["x"], [], {"x": (0, 3)}, [], r"i64\[2, 0\] \{\}"),
    ("topk", "TopK", ["x", "k"], [], {"x": (0, 3)}, [values("k", [2])], r"f32\[0, 2\] \{\}"),
    ("topk_0", "TopK", ["x", "k"], [], {"x": (2, 3)}, [values("k", [0])], r"f32\[2, 0\] \{\}"),
    ("cumsum", "CumSum", ["x", "a"], [], {"x": (0, 3)}, [values("a", [0], dims=())], r"f32\[0, 3\] \{\}"),
    ("one_hot", "OneHot", ["i", "d", "v"], [], {"i": ((3,), INT64)},
     [values("d", [0], dims=()), values("v", [0.0, 1.0], FLOAT)], r"f32\[3, 0\] \{\}"),
    ("shape", "Shape", ["x"], [], {"x": (0, 3)}, [], r"i64\[2\] \{0, 3\}"),
    ("size", "Size", ["x"], [], {"x": (0, 3)}, [], r"i64\[\] \{0\}"),
    ("constant_of_shape", "ConstantOfShape", ["s"], [], {}, [values("s", [0, 3])], r"f32\[0, 3\] \{\}"),
    ("layer_norm", "LayerNormalization", ["x", "s"], [], {"x": (0, 3)}, [values("s", [1.0] * 3, FLOAT)],
     r"f32\[0, 3\] \{\}"),
    ("instance_norm", "InstanceNormalization", ["x", "s", "s"], [], {"x": (0, 4, 8, 8)},
     [values("s", [1.0] * 4, FLOAT)], r"f32\[0, 4, 8, 8\] \{\}"),
    ("batch_norm", "BatchNormalization", ["x", "s", "s", "s", "s"], [], {"x": (0, 4, 8, 8)},
     [values("s", [1.0] * 4, FLOAT)], r"f32\[0, 4, 8, 8\] \{\}"),
    ("resize", "Resize", ["x", "", "s"], [], {"x": (0, 4)}, [values("s", [2.0, 2.0], FLOAT)], r"f32\[0, 8\] \{\}"),
    ("cast", "Cast", ["x"], [integer("to", INT64)], {"x": (0,)}, [], r"i64\[0\] \{\}"),
    ("where", "Where", ["c", "x", "x"], [], {"x": (0,)}, [values("c", [True], BOOL)], r"f32\[0\] \{\}"),
    ("einsum", "Einsum", ["x"], [text("equation", "ij->j")], {"x": (0, 3)}, [], r"f32\[3\] \{0, 0, 0\}"),
    ("global_pool", "GlobalAveragePool", ["x"], [], {"x": (0, 4, 8, 8)}, [], r"f32\[0, 4, 1, 1\] \{\}"),
    ("quantize", "QuantizeLinear", ["x", "s"], [], {"x": (0, 3)}, [values("s", [1.0], FLOAT, ())], r"u8\[0, 3\] \{\}"),
]
for _name, _op, _ins, _attrs, _inputs, _consts, _prints in EMPTY:
    # in a model's input 0 says that a dim is not known: the empty tensor is a constant, or cut from an input
    def _constant(dims):
        dims, dtype = dims if dims and isinstance(dims[0], tuple) else (dims, FLOAT)
        return [1] * math.prod(dims), dtype, dims

    _folded = [values(n, *_constant(dims)) for n, dims in _inputs.items()]
    if _prints:
        _outs = ("y", "z") if _op in ("TopK", "Split") else ("y",)
        runs(f"empty_{_name}_folded", "y: " + _prints, _op, _ins, _attrs, inputs={}, consts=_consts + _folded,
             outs=_outs)

        @fixture(f"empty_{_name}", 0, r"^$", prints="y: " + _prints)
        def _(d, op=_op, ins=_ins, attrs=_attrs, given=_inputs, consts=_consts, outs=_outs):
            nodes, inputs = [], {}
            for n, dims in given.items():
                dims, dtype = dims if dims and isinstance(dims[0], tuple) else (dims, FLOAT)
                inputs["in_" + n] = (tuple(i or 2 for i in dims), dtype)
                consts = consts + [values("e_" + n, dims), values("b_" + n, [0] * len(dims))]
                nodes.append(node("Slice", ["in_" + n, "b_" + n, "e_" + n], [n], name="s"))
            return build(nodes + [node(op, ins, outs, attrs, name="n")], inputs, consts, outs)

runs("empty_reduce_max_int", r"y: i64\[2, 1\] \{-9\.22337e\+18, -9\.22337e\+18\}", "ReduceMax", ["x"],
     [integers("axes", 1)], inputs={}, consts=[values("x", [], INT64, (2, 0))])
refused("empty_argmax", "", "ArgMax", ["x"], [integer("axis", 1)], inputs={}, consts=[values("x", [], FLOAT, (2, 0))])
runs("empty_gather_from", r"y: f32\[1, 2\] \{0, 0\}", "Gather", ["x", "i"], inputs={"i": ((1,), INT64)},
     consts=[values("x", [], FLOAT, (0, 2))])
refused("empty_pad_edge", "empty", "Pad", ["x", "p"], [text("mode", "edge")], inputs={},
        consts=[values("x", [], FLOAT, (0,)), values("p", [1, 1])])

# ---- symbolic dims ----


@fixture("dim_contradiction", 0, r"^$|must be|differ", compiles=None)
def _(d):
    """N is 2 along one input and 3 along the other once both are fixed."""
    return build([node("Add", ["x", "w"], ["y"], name="n")], {"x": ("N", 3), "w": ("N", 3)})


@fixture("dim_fixed_contradiction", 0, r"^$|node 'n' .*do not broadcast", compiles=1, options=["--dim=N=3", "--dim=M=4"])
def _(d):
    return build([node("Add", ["x", "w"], ["y"], name="n")], {"x": ("N",), "w": ("M",)})


for _name, _dim in [("plus", "1+"), ("product", "N*N"), ("minus", "-1"), ("digits", "12"), ("blank", " "),
                    ("quote", '"'), ("c", "*/ int main(){}"), ("keyword", "int"), ("escape", "\x1b[31m"),
                    ("bidi", "\u202e"), ("long", "n" * 10000), ("format", "%s%n")]:
    @fixture(f"dim_param_{_name}", 0, r"^$")
    def _(d, dim=_dim):
        return build([node("Relu", ["x"], ["y"], name="n")], {"x": (dim, 3)})


@fixture("dim_input_negative", 0, r"^$")
def _(d):
    """What is not positive is not known: exporters write -1 and 0 for it."""
    return build([node("Relu", ["x"], ["y"], name="n")], {"x": (-5,)})


@fixture("dim_input_2_62", 1, r"input 'x'.*too large|overflow|too large")
def _(d):
    return build([node("Relu", ["x"], ["y"], name="n")], {"x": (FAR,)})


@fixture("dim_input_product", 1, r"too large|overflow")
def _(d):
    return build([node("Relu", ["x"], ["y"], name="n")], {"x": (1 << 32, 1 << 32)})


@fixture("dims_named_500", 0, r"^$", seconds={"compile": 20, "": 2})
def _(d):
    """Sums and products of many symbols stay small."""
    names = [f"x{i}" for i in range(500)]
    return build([node("Concat", names, ["y"], [integer("axis", 0)], name="n")],
                 {n: (f"N{n}", 3) for n in names})


# ---- strings and sparse tensors ----

@fixture("strings_million", 3, r"STRING", mib=4096, seconds=6, slow=True)
def _(d):
    strings = blob(6, b"s" * 1024) * 10**6
    return build([node("Identity", ["s"], ["y"], name="n")], {},
                 [tensor("s", (10**6,), STRING, None, strings)])


def sparse(indices, dims=(4,), count=2):
    """A sparse initializer 's': values 1, 2 at these flat indices."""
    t = blob(1, tensor("s", (count,), FLOAT, struct.pack(f"<{count}f", *range(1, count + 1))))
    t += blob(2, values("", indices)) + b"".join(num(3, i) for i in dims)
    return build([node("Relu", ["s"], ["y"], name="n")], {}, more=blob(15, t))


for _name, _indices in [("outside", [1, 4]), ("negative", [-1, 2]), ("unsorted", [2, 1]), ("twice", [1, 1]),
                        ("count", [1, 2, 3]), ("least", [LEAST, 0])]:
    @fixture(f"sparse_{_name}", 1, r"'s'")
    def _(d, indices=_indices):
        return sparse(indices)


@fixture("sparse_good", 0, r"^$", prints=r"y: f32\[4\] \{0, 1, 0, 2\}")
def _(d):
    return sparse([1, 3])


@fixture("sparse_2_40", 1, r"'s'")
def _(d):
    return sparse([1, 3], dims=(BIG,))


@fixture("attribute_unnamed", 1, r"node 'n' \(Relu #0, in main\): attribute")
def _(d):
    return one("Relu", ["x"], [attribute("", 2, num(3, 1))])


@fixture("variadic_gap", 1, r"\(SequenceConstruct #0, in main\): input 1 is required and may not be left out")
def _(d):
    return model(graph([node("SequenceConstruct", ["x", "", "x"], ["y"])]))
