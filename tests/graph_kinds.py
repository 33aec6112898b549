"""What random graphs are made of: rows mixed by family, and the shapes of real networks. See graph_build.py.

grow(seed) gives a finished Graph. Its kind (KINDS) says how often each family of graph_ops is drawn, with what it
begins, and how large it gets. Bodies of If, Loop and Scan are graphs that are grown by the same rows.
"""
import numpy as np

from graph_build import DTYPES, RUN_B, Graph
from graph_ops import grow_once, row

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
