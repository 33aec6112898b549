"""What random graphs are made of: rows mixed by family, and the shapes of real networks. See graph_build.py.

grow(seed) gives a finished Graph. Its kind (KINDS) says how often each family of graph_ops is drawn, with what it
begins, and how large it gets. Bodies of If, Loop and Scan are graphs that are grown by the same rows.
"""
import numpy as np
from onnx import helper

from graph_build import DTYPES, ONNX_TYPES, RUN_A, RUN_B, Graph, Reject, Value, graph_body, same_type
from graph_ops import ROWS, conv, row, shortest

OPSETS = (13, 17, 18, 19, 21, 22, 22, 22, 23)


# ---- pieces of networks ------------------------------------------------------------------------------------------------

def normal(g, shape, scale, dtype="f32"):
    g.need(all(isinstance(d, int) for d in shape))
    return g.const((g.np.standard_normal(shape) * scale).astype(DTYPES[dtype]))


@row("net", 3)
def conv_block(g):
    """Convolution, perhaps normalized, activated, added to what came in or concatenated with it."""
    d = g.one(["f32"] * 8 + ["f16", "f64"])
    x = g.pick(d, rank=4, where=lambda v: v.data[0].size < 4000 and min(v.shape) > 0, fresh=0.05)
    c = g.spec(x)[1]
    g.need(isinstance(c, int))
    k = g.one([1, 1, 3, 3, 5])
    same = g.chance(0.5)
    depthwise = g.chance(0.3)
    n = c if depthwise or same else g.one([3, 8, 16, 20, 32])
    w = normal(g, (n, 1 if depthwise else c, k, k), 0.4, d)
    b = g.leaf(d, [n], const=1) if g.chance(0.5) else None
    stride = 1 if same else g.one([1, 2])
    y = g.add("Conv", [x, w, b], group=c if depthwise else 1, pads=[k // 2] * 4, strides=[stride] * 2)
    if g.chance(0.3):
        y = g.add("BatchNormalization", [y] + [g.leaf(d, [n], const=1) for _ in range(3)]
                  + [g.leaf(d, [n], low=.5, high=2, const=1)])
    activation = g.one(["Relu", "Relu", "Sigmoid", "HardSwish", "Clip", "LeakyRelu", None])
    if activation == "Clip":
        y = g.add("Clip", [y, g.const(DTYPES[d].type(0)), g.const(DTYPES[d].type(6))], exact=True)
    elif activation and (activation != "HardSwish" or g.opset >= 14):
        y = g.add(activation, [y])
    if y.shape == x.shape and y.data[RUN_B].shape == x.data[RUN_B].shape and g.chance(0.6):
        y = g.add(g.one(["Add", "Add", "Mul"]), [x, y] if g.chance(0.5) else [y, x])
    elif y.shape[2:] == x.shape[2:] and g.chance(0.5):
        g.add("Concat", [x, y], exact=True, axis=1)


@row("net", 0.7)
def squeeze_excite(g):
    x = g.pick("f32", rank=4, fresh=0.1)
    c = g.spec(x)[1]
    g.need(isinstance(c, int))
    s = g.add("GlobalAveragePool", [x])
    w1 = g.leaf("f32", [g.one([1, 4, 8]), c, 1, 1], const=1)
    s = g.add("Relu", [g.add("Conv", [s, w1])])
    s = g.add("Sigmoid", [g.add("Conv", [s, g.leaf("f32", [c, w1.shape[0], 1, 1], const=1)])])
    g.add("Mul", [x, s])


@row("attention", 2)
def attention(g):
    """Heads split by Reshape and Transpose, scores, mask, Softmax, and back."""
    x = g.pick("f32", rank=3, where=lambda v: v.shape[2] in (4, 6, 8, 12, 16) and v.data[0].size < 2000, fresh=0.1)
    _, seq, width = g.spec(x)
    g.need(isinstance(width, int))
    heads = g.one([1, 2])
    parts = []
    for _ in range(3):
        y = g.add("MatMul", [x, normal(g, (width, width), 0.4)])
        if g.chance(0.5):
            y = g.add("Add", [y, g.leaf("f32", [width], const=1)])
        y = g.add("Reshape", [y, g.ints([0, 0, heads, width // heads])], exact=True)
        parts.append(y)
    q = g.add("Transpose", [parts[0]], exact=True, perm=[0, 2, 1, 3])
    k = g.add("Transpose", [parts[1]], exact=True, perm=[0, 2, 3, 1])
    v = g.add("Transpose", [parts[2]], exact=True, perm=[0, 2, 1, 3])
    s = g.add("MatMul", [q, k])
    s = g.add(g.one(["Div", "Mul"]), [s, g.const(np.float32(g.one([2, 0.5])))])
    if g.chance(0.5) and isinstance(seq, int):
        s = g.add("Where", [g.leaf("bool", [1, 1, seq, seq]), s, g.const(np.float32(-20))], exact=True)
    p = g.add("Softmax", [s], axis=-1)
    o = g.add("Transpose", [g.add("MatMul", [p, v])], exact=True, perm=[0, 2, 1, 3])
    o = g.add("Reshape", [o, g.ints([0, 0, -1])], exact=True)
    g.add("Add", [x, o])


@row("attention")
def feed_forward(g):
    x = g.pick("f32", rank=(2, 3), where=lambda v: 2 < v.shape[-1] < 40 and v.data[0].size < 3000)
    width = g.spec(x)[-1]
    g.need(isinstance(width, int))
    inner = g.one([8, 16, 33])
    y = g.add("MatMul", [x, normal(g, (width, inner), 0.3)])
    y = g.add("Add", [g.leaf("f32", [inner], const=1), y])
    if g.chance(0.5):       # Gelu as exporters write it
        e = g.add("Erf", [g.add("Div", [y, g.const(np.float32(2 ** 0.5))])])
        y = g.add("Mul", [g.add("Mul", [y, g.add("Add", [e, g.const(np.float32(1))])]), g.const(np.float32(0.5))])
    else:
        y = g.add("Mul", [y, g.add("Sigmoid", [y])])
    y = g.add("MatMul", [y, normal(g, (inner, width), 0.3)])
    g.add("Add", [x, y])


@row("attention")
def written_norm(g):
    """LayerNormalization in single operators."""
    x = g.pick("f32", rank=(2, 3), where=lambda v: v.shape[-1] > 2)
    axes = {"axes": [-1]} if g.opset < 18 else {}
    more = [] if g.opset < 18 else [g.ints([-1])]
    d = g.add("Sub", [x, g.add("ReduceMean", [x] + more, **axes)])
    squared = g.add("Pow", [d, g.const(np.float32(2))]) if g.chance(0.5) else g.add("Mul", [d, d])
    var = g.add("ReduceMean", [squared] + more, **axes)
    y = g.add("Div", [d, g.add("Sqrt", [g.add("Add", [var, g.const(np.float32(1e-2))])])])
    width = g.spec(x)[-1]
    if isinstance(width, int):
        y = g.add("Add", [g.add("Mul", [y, g.leaf("f32", [width], const=1)]), g.leaf("f32", [width], const=1)])


@row("quantize", 1.5)
def qdq_conv(g):
    x = g.pick("f32", rank=4, where=lambda v: v.data[0].size < 2000)
    c = g.spec(x)[1]
    g.need(isinstance(c, int))
    scale, zero = g.const(np.float32(0.05)), g.const(np.asarray(g.one([0, 128]), np.uint8))
    q = g.add("QuantizeLinear", [x, scale, zero], exact=True)
    d = g.add("DequantizeLinear", [q, scale, zero])
    n, k = g.one([4, 8, 16]), g.one([1, 3])
    w = g.leaf("i8", [n, c, k, k], low=-100, high=100, const=1)
    ws = g.const(g.np.uniform(0.005, 0.02, n).astype(np.float32))
    wd = g.add("DequantizeLinear", [w, ws, g.const(np.zeros(n, np.int8))], axis=0)
    y = g.add("Conv", [d, wd], pads=[k // 2] * 4)
    y = g.add("Relu", [y]) if g.chance(0.5) else y
    qy = g.add("QuantizeLinear", [y, scale, zero], exact=True)
    g.add("DequantizeLinear", [qy, scale, zero])


# ---- control flow ------------------------------------------------------------------------------------------------------

def body_graph(g, weights, n_nodes):
    b = Graph(0, parent=g)
    b.symbolic = g.symbolic
    b.mix = weights
    for _ in range(n_nodes):
        grow_once(b)
    return b


BODY_MIX = {"eltwise": 4, "movement": 2, "reduce": 1, "contract": 0.7, "shape": 0.3, "select": 0.2}


@row("control", 1.5)
def if_(g):
    """Both branches give values of one type: what they computed, brought to it by an elementwise node."""
    x = g.pick(("f32", "f32", "i64", "f64"), rank=(0, 1, 2, 3))
    branches, captures = [], [x]
    for _ in range(2):
        b = body_graph(g, BODY_MIX, g.rng.randint(0, 3))
        found = [v for n in b.nodes for v in n.outs if same_type(v, x)]
        if found and g.chance(0.8):
            out = g.one(found)
        else:
            mixed = [v for v in b.values + [x] if v.dtype == x.dtype and v.kind != "const"][-4:]
            b.capture(x)
            y = g.one(mixed)
            try:
                out = b.add(g.one(["Add", "Sub", "Max"]), [x, y])
                b.need(same_type(out, x))
            except Reject:
                out = b.add(g.one(["Neg", "Identity", "Abs"]), [x])
        branches.append((b, out))
        captures += [v for v in b.captured if v not in captures]
    condition = g.pick("bool", where=lambda v: v.rank == 0 or v.shape == (1,) and v.fixed, fresh=0.3) \
        if g.chance(0.6) else g.input("bool", [])
    captures = [v for v in captures if v in g.values or g.parent]
    bodies = [graph_body(b, g.name("branch"), [], [(out.name, out)]) for b, out in branches]
    g.add("If", [condition], captures=captures, then_branch=bodies[0], else_branch=bodies[1])


@row("control", 1.2)
def loop(g):
    """States that keep their shapes, and stacked results of each round."""
    states = [g.pick(("f32", "f32", "i64"), rank=(0, 1, 2, 3), low=-1e3, high=1e3) for _ in range(g.one([1, 1, 2]))]
    b = Graph(0, parent=g)
    b.mix, b.symbolic = BODY_MIX, g.symbolic
    i, go = b.name("i"), b.name("go")
    counter = Value(i, "node", [np.asarray(0, np.int64)] * 4)
    inner = [Value(b.name("s"), "node", v.data) for v in states]
    b.values += [counter] + inner
    for _ in range(g.rng.randint(1, 4)):
        grow_once(b)
    results = []
    for s in inner:
        found = [v for n in b.nodes for v in n.outs if same_type(v, s)]
        results.append(g.one(found) if found and g.chance(0.8) else b.add("Neg", [s]))
        if results[-1].dtype == "f32":
            results[-1] = b.add(g.one(["Tanh", "Sin", "Softsign"]), [results[-1]])     # no Sigmoid: its tails
    stacked = [v for n in b.nodes for v in n.outs if v.dtype != "bool" and v.data[0].size < 500]
    stacked = g.rng.sample(stacked, min(len(stacked), g.one([0, 1, 2])))
    keep = b.add("Identity", [Value(go, "node", [np.asarray(True)] * 4)]) if g.chance(0.7) else None
    out_go = keep.name if keep else go
    infos = [helper.make_tensor_value_info(i, ONNX_TYPES["i64"], []), helper.make_tensor_value_info(go, ONNX_TYPES["bool"], [])]
    infos += [helper.make_tensor_value_info(s.name, ONNX_TYPES[s.dtype], [None] * s.rank if not s.fixed else s.shape) for s in inner]
    truth = Value(out_go, "node", [np.asarray(True)] * 4)
    outs = [(out_go, truth)] + [(v.name, v) for v in results]
    copies = [b.add("Identity", [v], exact=True) for v in stacked]
    outs += [(v.name, v) for v in copies]
    body = graph_body(b, g.name("body"), infos, outs)
    trips = g.ints(g.one([1, 2, 3, 4])) if g.chance(0.7) else g.input("i64", [], low=1, high=4)
    made_inside = set(v.name for v in b.values) | {go}
    captures = [v for v in b.captured if v.name not in made_inside]
    start = g.const(np.asarray(True)) if g.chance(0.6) else None
    n_out = len(states) + len(copies)
    if n_out == 1:
        g.add("Loop", [trips, start] + states, captures=captures, body=body)
    else:
        g.add("Loop", [trips, start] + states, n_out=n_out, captures=captures, body=body)


@row("control")
def scan(g):
    """One state, one or two sequences, one or two results."""
    xs = [g.pick("f32", rank=(2, 3), where=lambda v: v.shape[0] > 0, low=-100, high=100)]
    if g.chance(0.3):
        spec = g.spec(xs[0])
        g.need(spec[0] is not None)
        xs.append(g.leaf("f32", [spec[0]] + g.shape(1, symbolic=0, zero=0)))
    b = Graph(0, parent=g)
    b.mix, b.symbolic = BODY_MIX, 0.0
    state = g.leaf("f32", [d if d is not None else 1 for d in g.spec(xs[0])[1:]])
    inner = [Value(b.name("s"), "node", state.data)]
    inner += [Value(b.name("e"), "node", [a[0] for a in x.data]) for x in xs]
    b.values += inner
    for _ in range(g.rng.randint(1, 3)):
        grow_once(b)
    found = [v for n in b.nodes for v in n.outs if same_type(v, inner[0])]
    mixed = b.add("Add", [inner[0], g.one(found)]) if found else b.add("Mul", [inner[0], inner[0]])
    new = b.add(g.one(["Tanh", "Sin"]), [mixed])
    results = g.rng.sample([v for n in b.nodes for v in n.outs if v.dtype in ("f32", "i64")], 1)
    results = [b.add("Identity", [v], exact=True) for v in results]
    infos = [helper.make_tensor_value_info(v.name, ONNX_TYPES["f32"], [None] * v.rank if not v.fixed else v.shape) for v in inner]
    body = graph_body(b, g.name("body"), infos, [(v.name, v) for v in [new] + results])
    made_inside = {v.name for v in b.values}
    a = {"scan_input_directions": [g.one([0, 1]) for _ in xs]} if g.chance(0.3) else {}
    if g.chance(0.2):
        a["scan_output_directions"] = [1] * len(results)
    g.add("Scan", [state] + xs, n_out=1 + len(results), captures=[v for v in b.captured if v.name not in made_inside],
          body=body, num_scan_inputs=len(xs), **a)


# ---- growing a whole graph -----------------------------------------------------------------------------------------------

EVERYTHING = {"eltwise": 4, "movement": 3, "shape": 0.7, "reduce": 2, "contract": 2, "quantize": 0.7, "select": 0.7,
              "net": 0.5, "attention": 0.5, "control": 0.4, "contrib": 0.4, "compound": 0.3, "ml": 0.15, "text": 0.1}
KINDS = {
    # name: (weight, mix of families, first input: dtype and dims or None, most nodes)
    "mixed": (4, EVERYTHING, None, 25),
    "conv": (2.5, {"net": 4, "contract": 1.5, "eltwise": 0.7, "movement": 0.7, "reduce": 0.4}, ("f32", 4), 20),
    "attention": (1.5, {"attention": 2, "reduce": 1, "eltwise": 1, "movement": 1, "contract": 0.5}, ("f32", 3), 25),
    "movement": (2, {"movement": 4, "eltwise": 1, "reduce": 0.3, "shape": 0.2}, None, 20),
    "reduce": (1, {"reduce": 3, "eltwise": 2, "movement": 1}, None, 15),
    "contract": (1.5, {"contract": 3, "eltwise": 1.5, "movement": 1.2, "reduce": 0.5}, ("f32", 2), 15),
    "shapes": (1, {"shape": 3, "movement": 2, "eltwise": 1, "reduce": 0.5}, None, 20),
    "quantize": (1, {"quantize": 3, "eltwise": 0.5, "movement": 0.7, "net": 0.5}, ("f32", 4), 15),
    "select": (1, {"select": 3, "eltwise": 1, "movement": 1.5, "reduce": 0.5, "shape": 0.3}, None, 15),
    "large": (0.7, {"eltwise": 2, "movement": 1.5, "reduce": 1.5, "contract": 1.5, "net": 1}, "large", 6),
    "special": (1, {"special": 2, "eltwise": 1.5, "movement": 1.5, "reduce": 0.5}, ("f32", 4), 12),
    "control": (1, {"control": 2, "eltwise": 1, "movement": 1, "reduce": 0.5}, None, 10),
    "contrib": (1.5, {"contrib": 3, "eltwise": 1, "movement": 1, "quantize": 0.4}, ("f32", 3), 12),
    "ml": (1, {"ml": 3, "eltwise": 0.7, "movement": 0.7, "text": 0.2}, ("f32", 2), 8),
    "text": (0.7, {"text": 3, "movement": 1.5, "ml": 0.5, "compound": 0.3, "select": 0.2}, None, 10),
    "compound": (1, {"compound": 2, "eltwise": 1, "movement": 1, "control": 0.4, "shape": 0.3}, None, 10),
}
WITH_STRINGS = {"text": 1, "ml": 0.4, "movement": 0.15, "compound": 0.2, "select": 0.1}      # how often


def grow_once(g):
    """One more row, chosen by the mix; several tries."""
    families = list(g.mix)
    for _ in range(30):
        family = g.rng.choices(families, [g.mix[f] for f in families])[0]
        rows = [(w, f) for fam, w, f in ROWS if fam == family]
        draw = g.rng.choices([f for _, f in rows], [w for w, _ in rows])[0]
        if g.attempt(draw):
            return True
    return False


def first_input(g, start):
    if not start:
        g.pick(fresh=1)
        return
    if start == "large":        # enough work for loops that run in parallel
        g.most_elements = 400000
        g.input("f32", g.one([[1, 32, 40, 40], [4, 128, 96], [200, 300], [64, 1000], [1, 17, 70, 33], [20000], [3, 64, 128]]))
        return
    dtype, rank = start
    batch = g.dim(g.symbolic) if g.chance(0.5) else 1
    if rank == 4:
        g.input(dtype, [batch if isinstance(batch, str) or batch < 4 else 1, g.one([1, 3, 4, 8, 16, 17, 32]),
                        g.one([4, 5, 7, 8, 10]), g.one([4, 5, 8, 9])])
    elif rank == 3:
        g.input(dtype, [batch if isinstance(batch, str) or batch < 4 else 1, g.dim(g.symbolic), g.one([4, 6, 8, 12, 16])])
    else:
        g.input(dtype, [g.dim(g.symbolic), g.one([5, 8, 16, 24, 33, 64])])


def grow(seed, kind=None):
    g = Graph(seed)
    g.opset = g.one(OPSETS)
    names = list(KINDS)
    g.kind = kind or g.rng.choices(names, [KINDS[n][0] for n in names])[0]
    _, g.mix, start, most = KINDS[g.kind]
    g.symbolic = g.one([0, 0, 0, 0.3, 0.5])
    g.strings = g.chance(WITH_STRINGS.get(g.kind, 0))
    for _ in range(g.one([1, 1, 2])):
        first_input(g, start)
    target = g.rng.randint(3, most)
    while len(g.nodes) < target and grow_once(g):
        pass
    choose_outputs(g)
    return g


def choose_outputs(g):
    """What nothing reads, and a few of the others."""
    read = {v for n in g.nodes for v in n.reads}
    made = [v for n in g.nodes for v in n.outs]
    g.outputs = [v for v in made if v not in read or g.chance(0.12)]
    g.rng.shuffle(g.outputs)
    g.outputs = g.outputs[:10]
    if g.outputs and g.chance(0.05):      # an input or a constant as it is
        g.outputs += [v for v in g.rng.sample(g.values, min(2, len(g.values))) if v not in g.outputs and v.kind != "node"]
