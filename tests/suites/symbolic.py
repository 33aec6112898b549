"""Symbolic dims: one compilation, several sizes, onnxruntime's answers.

CHAIN is shape arithmetic as exporters write it; each chain ends in an output of its own, which would be wrong, or
refused, if a content were lost on the way. FOUND are sizes that only a run finds, bounded by the input's dims."""
import numpy as np
import onnx
import onnx.parser
from onnx import TensorProto, helper, numpy_helper

from harness import Case, Failed, check
from model_files import smelt_run
from suites.ops import BACKENDS

SIZES = ((2, 5), (1, 1), (3, 8))
INT64_MIN = -2 ** 63

CONSTANTS = {"at0": 0, "at1": 1, "two": 2, "zero": 0, "one": 1, "axis0": [0], "axis1": [1], "axis2": [2], "heads": [4],
             "open": [-1], "ones": [1], "pads": [0, 1, 2, 0, 0, 0], "pairs": [-1, 2], "least": [INT64_MIN + 1],
             "parts": [6, 2], "neg": [-1]}

# (operator, inputs, outputs, attributes)
CHAIN = (
    ("Shape", "x", "dims", {}),
    ("Gather", "dims at0", "batch", {}),
    ("Gather", "dims at1", "length", {}),
    ("Unsqueeze", "batch axis0", "batch1", {}),
    ("Unsqueeze", "length axis0", "length1", {}),
    # split heads: x -> [batch, length * 2 / 2, 4, -1] -> transposed
    ("Mul", "length two", "double", {}),
    ("Div", "double two", "half", {}),
    ("Unsqueeze", "half axis0", "half1", {}),
    ("Concat", "batch1 half1 heads open", "split_shape", {"axis": 0}),
    ("Reshape", "x split_shape", "split", {}),
    ("Transpose", "split", "y_heads", {"perm": [0, 2, 1, 3]}),
    # positions: a range as long as the sequence, for every batch
    ("Range", "zero length one", "positions", {}),
    ("Concat", "batch1 length1", "grid", {"axis": 0}),
    ("Expand", "positions grid", "y_positions", {}),
    # the first `length` entries along axis 1
    ("Slice", "x axis0 length1 axis1", "y_slice", {}),
    # PyTorch's way to reorder pads: [begin, end] pairs, last axis first
    ("Reshape", "pads pairs", "pads2", {}),
    ("Slice", "pads2 open least axis0 neg", "pads3", {}),
    ("Transpose", "pads3", "pads4", {"perm": [1, 0]}),
    ("Reshape", "pads4 open", "pads5", {}),
    ("Pad", "x pads5", "y_pad", {}),
    # "-1 means 1" as Expand's exporters write it
    ("Equal", "length1 open", "is_open", {}),
    ("Where", "is_open ones length1", "filled", {}),
    ("ConstantOfShape", "filled", "y_zeros", {}),
    ("Split", "x parts", "y_part0 y_part1", {"axis": 2}),
    ("Size", "x", "y_size", {}),
    ("Shape", "y_heads", "y_shape", {}),
)


def chain_model():
    nodes = [helper.make_node(op, i.split(), o.split(), **attributes) for op, i, o, attributes in CHAIN]
    outputs = [o for _, _, names, _ in CHAIN for o in names.split() if o.startswith("y_")]
    constants = [numpy_helper.from_array(np.array(v, np.int64), k) for k, v in CONSTANTS.items()]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", "length", 8])
    graph = helper.make_graph(nodes, "chain", [x], [onnx.ValueInfoProto(name=o) for o in outputs], constants)
    return helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 22)])


FOUND = """
found (float[B,N] x, int64[1] k, float[B,N,4] boxes, float[B,C,N] scores) => (z, zt, part, t, i, kept, rows, twice) {
    z = NonZero (x)
    zt = Transpose <perm = [1, 0]> (z)
    gathered = GatherND (x, zt)
    part = Relu (gathered)
    t, i = TopK (x, k)
    limit = Constant <value = int64 {3}> ()
    iou = Constant <value = float {0.4}> ()
    least = Constant <value = float {0.1}> ()
    kept = NonMaxSuppression (boxes, scores, limit, iou, least)
    column = Constant <value = int64[1] {2}> ()
    rows = Gather <axis = 1> (kept, column)
    twice = Concat <axis = 0> (zt, zt)
}"""


# One kernel, called for tensors of two lengths: each call has its own number of parallel iterations.
TWINS = """
twins (float[B,N,16] x, float[B,M,16] y) => (px, py, c) {
    px = Softmax <axis = -1> (x)
    py = Softmax <axis = -1> (y)
    qx = MatMul (x, table_square)
    qy = MatMul (y, table_square)
    c = Einsum <equation = "bnc,bmc->bnm"> (qx, qy)
}"""


def twins_model():
    model = onnx.parser.parse_model('<ir_version: 10, opset_import: ["" : 21]>' + TWINS)
    square = np.random.default_rng(5).integers(-2, 3, (16, 16)).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(square, "table_square"))
    return model


def twins_feeds(batch, length):
    rng = np.random.default_rng(length)
    return {name: rng.integers(-3, 4, (batch, n, 16)).astype(np.float32)
            for name, n in (("x", length), ("y", 2 * length + 1))}


def found_model():
    return onnx.parser.parse_model('<ir_version: 10, opset_import: ["" : 21]>' + FOUND)


def chain_feeds(batch, length):
    return {"x": np.random.default_rng(batch).standard_normal((batch, length, 8)).astype(np.float32)}


def found_feeds(batch, length):
    rng = np.random.default_rng(length)
    x = rng.standard_normal((batch, length)).astype(np.float32) * rng.integers(0, 2, (batch, length))
    corner = rng.random((batch, length, 2)) * 2
    boxes = np.concatenate([corner, corner + rng.random((batch, length, 2))], axis=2)
    return {"x": x.astype(np.float32), "k": np.array([(length + 1) // 2], np.int64), "boxes": boxes.astype(np.float32),
            "scores": rng.random((batch, batch + 1, length)).astype(np.float32)}


def run(ctx, model, make_feeds, sizes, backend):
    import onnxruntime
    path = f"{ctx.new_dir()}/{model.graph.name}.onnx"
    onnx.save(model, path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for batch, length in sizes:
        feeds = make_feeds(batch, length)
        want = session.run(None, feeds)
        got = smelt_run(ctx, path, feeds, f"--backend={backend}")
        for name, reference in zip([o.name for o in model.graph.output], want):
            check(got[name].shape == reference.shape and np.allclose(got[name], reference, rtol=1e-6, atol=1e-7),
                  f"batch {batch}, length {length}: {name}: {got[name].shape}, expected {reference.shape}")


# Rows and maps whose ends fill no vector, in lanes along rows, along columns, and across rows of 7.
RESTS = """
rests (float[B,N] x, float[B,7] y, float[3,B] z) => (e, p, q, s, m, c, n, pa, pb, h, b) {
    e = Exp (x)
    p = Softmax <axis = -1> (x)
    q = LogSoftmax <axis = -1> (x)
    one = Constant <value = int64[1] {1}> ()
    zero = Constant <value = int64[1] {0}> ()
    s = ReduceSum <keepdims = 0> (x, one)
    m = ReduceMax <keepdims = 0> (x, zero)
    c = CumSum (x, zero)
    n = LpNormalization <axis = 1> (x)
    pa = Softmax <axis = -1> (y)
    pb = LogSoftmax <axis = -1> (y)
    h = Softmax <axis = 0> (z)
    b = Cast <to = 2> (x)
}"""


REST_SIZES = ((1, 1), (2, 7), (3, 15), (16, 16), (17, 17), (35, 31), (5, 33), (70, 129))


def rests_model():
    return onnx.parser.parse_model('<ir_version: 10, opset_import: ["" : 21]>' + RESTS)


def rests_feeds(batch, length):
    rng = np.random.default_rng(length)
    return {name: rng.integers(0, 9, shape).astype(np.float32) / 2 + 1
            for name, shape in (("x", (batch, length)), ("y", (batch, 7)), ("z", (3, batch)))}


# What only some sizes fit: n = 13 for Split, m = n for Add, k found as m for Mul, n * 2 = 26 for Reshape.
TIED = """
tied (float[N,2] x, float[M,2] w, int64[1] k) => (a, b, sum, product, moved) {
    parts = Constant <value = int64[2] {7, 6}> ()
    grid = Constant <value = int64[3] {13, 2, 1}> ()
    a, b = Split <axis = 0> (x, parts)
    sum = Add (x, w)
    t, i = TopK <axis = 0> (x, k)
    product = Mul (t, w)
    moved = Reshape (x, grid)
}"""
TIED_SIZES = ((13, 13, 13, True), (12, 12, 12, False), (14, 14, 14, False), (13, 12, 12, False))


def run_tied(ctx, backend):
    path = f"{ctx.new_dir()}/tied.onnx"
    onnx.save(onnx.parser.parse_model('<ir_version: 10, opset_import: ["" : 21]>' + TIED), path)
    for n, m, k, fits in TIED_SIZES:
        feeds = {"x": np.arange(n * 2, dtype=np.float32).reshape(n, 2), "w": np.ones((m, 2), np.float32),
                 "k": np.array([k], np.int64)}
        try:
            got = smelt_run(ctx, path, feeds, f"--backend={backend}")
            check(fits, f"{n}, {m}, {k} fit, it seems")
            check(np.array_equal(got["b"], feeds["x"][7:]) and np.array_equal(got["sum"], feeds["x"] + 1), f"{got}")
        except Failed as e:
            check(not fits and "a dimension is not one that the model accepts" in str(e), str(e))


# Of a row that is shorter than the window even what lies in the arena would have a size below 0.
SHORT = """
short (float[1,2,N] x, float[4,2,25] w) => (y) {
    axis = Constant <value = int64 {2}> ()
    c = Conv (x, w)
    s = CumSum (c, axis)
    y = CumSum <reverse = 1> (s, axis)
}"""


def run_short(ctx, backend):
    path = f"{ctx.new_dir()}/short.onnx"
    onnx.save(onnx.parser.parse_model('<ir_version: 10, opset_import: ["" : 21]>' + SHORT), path)
    for n in (30, 25, 20, 1):
        feeds = {"x": np.ones((1, 2, n), np.float32), "w": np.ones((4, 2, 25), np.float32)}
        try:
            got = smelt_run(ctx, path, feeds, f"--backend={backend}")
            rising = np.arange(1, n - 23) * 50.0
            want = np.broadcast_to(np.cumsum(rising[::-1])[::-1], (1, 4, n - 24))
            check(n >= 25 and np.array_equal(got["y"], want), f"{n}: {got}")
        except Failed as e:
            check(n < 25 and "a dimension is not one that the model accepts" in str(e), f"{n}: {e}")


# Sizes of two inputs that have to be equal, or not to be larger: whichever is, nothing is cut off in silence.
PAIRS = (
    ("add", "float[n] x, float[m] w", "y = Add (x, w)", "n == m"),
    ("less", "float[2,n] x, float[2,m] w", "y = Less (w, x)", "n == m"),
    ("where", "float[n] x, float[m] w", "c = Greater (x, x)  y = Where (c, x, w)", "n == m"),
    ("concat", "float[n,2] x, float[m,3] w", "y = Concat <axis = 1> (x, w)", "n == m"),
    ("matmul", "float[3,n] x, float[m,4] w", "y = MatMul (x, w)", "n == m"),
    ("batches", "float[n,3,2] x, float[m,2,4] w", "y = MatMul (x, w)", "n == m"),
    ("einsum", "float[n,3] x, float[m,3] w", 'y = Einsum <equation = "ij,ij->j"> (x, w)', "n == m"),
    ("scatter", "float[9] x, float[n] u, int64[m] i", "y = ScatterElements (x, i, u)", "n == m"),
    ("scatter_rows", "float[n,9] x, float[m,2] u, int64[m,2] i", "y = ScatterElements <axis = 1> (x, i, u)", "m <= n"),
    ("scatter_nd", "float[9] x, float[n] u, int64[m,1] i", "y = ScatterND (x, i, u)", "n == m"),
    ("squeeze", "float[n,1,m] x", "y = Squeeze (x)", "n != 1 and m != 1"),
)
PAIR_SIZES = ((4, 4), (4, 5), (5, 4), (2, 7), (1, 3), (3, 1))


def run_pair(ctx, inputs, body, fits, backend):
    import onnxruntime
    m = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 21]> pair ({inputs}) => (y) {{ {body} }}')
    path = f"{ctx.new_dir()}/pair.onnx"
    onnx.save(m, path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for n, other in PAIR_SIZES:
        given = {"n": n, "m": other}
        feeds = {}
        for i in m.graph.input:
            shape = [given.get(d.dim_param, d.dim_value) for d in i.type.tensor_type.shape.dim]
            kind = np.int64 if i.type.tensor_type.elem_type == TensorProto.INT64 else np.float32
            feeds[i.name] = (np.arange(np.prod(shape)) % 7).reshape(shape).astype(kind)
        good = eval(fits, {}, given)
        try:
            got = smelt_run(ctx, path, feeds, f"--backend={backend}")
        except Failed as e:
            check(not good and "a dimension is not one that the model accepts" in str(e), f"{given}: {e}")
            continue
        check(good, f"{given} fit, it seems: {got}")
        want = session.run(None, feeds)[0]
        check(got["y"].shape == want.shape and np.array_equal(got["y"], want), f"{given}: {got}, expected {want}")


# A length that is 0 or 1, whatever the input's: it broadcasts where it is 1.
AT_MOST_ONE = """
most (float[2,n] x) => (y) {
    two = Constant <value = int64[1] {2}> ()
    three = Constant <value = int64[1] {3}> ()
    one = Constant <value = int64[1] {1}> ()
    part = Slice (x, two, three, one)
    y = Add (part, x)
}"""


# Each shape is that of the tensor before, turned around by arithmetic on data: as one expression of the inputs, the last
# dim would have more terms than fit into any memory.
NESTED = 24


def nested_model():
    turn = """
    s{0} = Shape (x{0})
    a{0} = Mul (s{0}, k)
    b{0} = Gather (a{0}, swapped)
    x{1} = Reshape (x{0}, b{0})"""
    body = "".join(turn.format(i, i + 1) for i in range(NESTED))
    return onnx.parser.parse_model(f"""<ir_version: 10, opset_import: ["" : 21]>
nested (float[B,N] x, int64[1] k) => (y) {{
    swapped = Constant <value = int64[2] {{1, 0}}> ()
    x0 = Relu (x) {body}
    y = Concat <axis = 1> (x{NESTED}, x0)
}}""")


def nested_feeds(batch, length):
    return {"x": np.arange(batch * length, dtype=np.float32).reshape(batch, length), "k": np.array([1], np.int64)}


def most_feeds(n, _):
    return {"x": np.arange(2 * n, dtype=np.float32).reshape(2, n)}


# What exporters write for dims that they do not know: height and width of one image need not be equal.
PLACEHOLDERS = ("?", "None", "-1", "unknown")


def run_placeholder(ctx, word):
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [word, word]) for name in "xy")
    path = f"{ctx.new_dir()}/m.onnx"
    onnx.save(helper.make_model(helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [x], [y])), path)
    said = ctx.smelt("info", path).stdout
    check("input x: f32[x_dim0, x_dim1]" in said, said)


def cases(ctx):
    most = onnx.parser.parse_model('<ir_version: 10, opset_import: ["" : 21]>' + AT_MOST_ONE)
    placeholders = [Case(f"placeholder_{i}", lambda w=w: run_placeholder(ctx, w)) for i, w in enumerate(PLACEHOLDERS)]
    return placeholders + sized_cases(ctx) + [
        Case(f"pair_{name}.{backend}", lambda i=i, t=t, f=f, b=backend: run_pair(ctx, i, t, f, b), label)
        for name, i, t, f in PAIRS for backend, label in BACKENDS.items()] + [
        Case(f"at_most_one.{backend}", lambda b=backend: run(ctx, most, most_feeds, ((3, 0), (4, 0), (9, 0), (1, 0)), b), label)
        for backend, label in BACKENDS.items()]


def sized_cases(ctx):
    found_sizes = SIZES + ((7, 300),)
    tied = [Case(f"{name}.{backend}", lambda b=backend, r=r: r(ctx, b), label)
            for name, r in (("tied", run_tied), ("short", run_short)) for backend, label in BACKENDS.items()]
    return tied + [Case(f"{name}.{backend}", lambda m=m, f=f, s=s, b=backend: run(ctx, m(), f, s, b), label)
            for name, m, f, s in (("chain", chain_model, chain_feeds, SIZES), ("found", found_model, found_feeds, found_sizes),
                                 ("twins", twins_model, twins_feeds, SIZES + ((40, 60),)),
                                 ("rests", rests_model, rests_feeds, REST_SIZES),
                                 ("nested", nested_model, nested_feeds, SIZES))
            for backend, label in BACKENDS.items()]
