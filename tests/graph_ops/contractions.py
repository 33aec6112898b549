"""Rows of the random graphs: products summed, windows, recurrent cells."""
import numpy as np

from graph_ops.movement import shortest
from graph_ops.rows import row


@row("contract", 3)
def matmul(g):
    d = g.one(["f32", "f32", "f32", "f64", "f16", "i32"])
    x = g.pick(d, rank=(1, 2, 3, 4))
    spec = g.spec(x)
    k = spec[-1]
    g.need(k is not None)
    n = [] if g.chance(0.1) else [g.one([1, 2, 3, 5, 8, 9, 16, 17, 24, 31, 32, 33, 40])]
    own, _ = g.visible()
    found = [v for v in own if v.dtype == d and v.rank >= 2 and all(v.data[r].shape[-2] == x.data[r].shape[-1] for r in (0, 2))]
    if found and g.chance(0.5):
        w = g.one(found)
    else:
        lead = []
        if n and x.rank > 2 and g.chance(0.4):
            lead = [1 if e is None or g.chance(0.3) else e for e in spec[:-2]][g.rng.randrange(x.rank - 2):]
        w = g.leaf(d, lead + [k] + n, const=0.6)
    g.need(x.data[0].size * (w.shape[-1] if w.rank > 1 else 1) < 400000)
    g.add("MatMul", [x, w])


@row("contract", 1.5)
def gemm(g):
    d = g.one(["f32", "f32", "f64"])
    x = g.pick(d, rank=2)
    ta, tb = g.one([0, 0, 1]), g.one([0, 1])
    spec = g.spec(x)
    m, k = (spec[1], spec[0]) if ta else spec
    g.need(k is not None and m is not None)
    n = g.one([1, 3, 8, 10, 16, 17, 33])
    w = g.leaf(d, [n, k] if tb else [k, n], const=0.7)
    c = g.leaf(d, g.one([[n], [1, n], [m, n], [m, 1], [], [1]]), const=0.7) if g.chance(0.7) else None
    beta = g.one([None, 0.5])
    g.need(beta is None or all(a.size for a in x.data))     # without products onnxruntime gives c, not beta * c
    g.add("Gemm", [x, w, c], transA=ta, transB=tb, alpha=g.one([None, 0.5, -2.0]), beta=beta)


def window(g, x, kernel=(1, 2, 3, 3, 5), dilate=True):
    """Attributes of a window over the axes of x behind the channels."""
    n = x.rank - 2
    shape = [g.one([k for k in kernel if k <= shortest(x, i + 2)] or [1]) for i in range(n)]
    a = {"kernel_shape": shape, "strides": [g.one([1, 1, 1, 2, 3]) for _ in range(n)] if g.chance(0.7) else None}
    if dilate and g.chance(0.2):
        a["dilations"] = [g.one([1, 2]) if 2 * k - 1 <= shortest(x, i + 2) else 1 for i, k in enumerate(shape)]
    if g.chance(0.15):
        a["auto_pad"] = g.one(["SAME_UPPER", "SAME_LOWER", "VALID"])
        a.pop("dilations", None)
    elif g.chance(0.7):
        a["pads"] = [g.rng.randint(0, max(0, k // 2)) for k in shape] * 2 if g.chance(0.7) else \
            [g.rng.randint(0, max(0, k - 1)) for k in shape + shape]
    return a


@row("contract", 2.5)
def conv(g):
    x = g.pick(g.one(["f32", "f32", "f32", "f64", "f16"]), rank=g.one([3, 4, 4, 4, 5]))
    c = g.spec(x)[1]
    g.need(isinstance(c, int) and c > 0 and x.data[0].size < 4000)
    group = g.one([1, 1, 1, c] + [i for i in range(1, c + 1) if c % i == 0])
    per = g.one([1, 2, 3, 8]) if group > 1 else g.one([1, 3, 8, 16, 17, 24])
    g.need(group * per <= 64)
    a = window(g, x)
    w = g.leaf(x.dtype, [group * per, c // group] + a["kernel_shape"], const=0.85)
    b = g.leaf(x.dtype, [group * per], const=0.85) if g.chance(0.6) else None
    if g.chance(0.2):
        a.pop("kernel_shape")
    y = g.add("Conv", [x, w, b], reference=x.dtype == "f64", group=group, **a)
    g.need(all(d.size for d in y.data))


@row("contract", 0.7)
def conv_transpose(g):
    x = g.pick("f32", rank=g.one([3, 4, 4]))
    c = g.spec(x)[1]
    g.need(isinstance(c, int) and c > 0 and x.data[0].size < 1500)
    group = g.one([1, 1, c] + [i for i in range(1, c + 1) if c % i == 0])
    per = g.one([1, 2, 3, 8])
    a = window(g, x, kernel=(1, 2, 3, 4))
    g.need("auto_pad" not in a)
    if a["strides"] and g.chance(0.3):
        a["output_padding"] = [g.rng.randint(0, s - 1) for s in a["strides"]]
    w = g.leaf("f32", [c, per] + a["kernel_shape"], const=0.8)
    b = g.leaf("f32", [group * per]) if g.chance(0.5) else None
    y = g.add("ConvTranspose", [x, w, b], group=group, **a)
    g.need(all(d.size for d in y.data))


EQUATIONS = ("ij,jk->ik", "ij,kj->ik", "bij,bjk->bik", "bhid,bhjd->bhij", "bhij,bhjd->bhid", "ij->ji", "ii->i", "ij->",
             "ij,ij->ij", "i,j->ij", "ij,j->i", "bij,jk->bik", "ij,ik->jk", "abc->cab", "bij,bij->b", "...ij,...jk->...ik")


@row("contract", 0.8)
def einsum(g):
    equation = g.one(EQUATIONS)
    left = equation.split("->")[0].split(",")
    x = g.pick("f32", rank=len(left[0].replace("...", "")), fresh=0.3)
    letters = left[0].replace("...", "")
    sizes = dict(zip(letters, g.spec(x)))
    g.need(all(d is not None for d in sizes.values()))
    reads = [x]
    if len(left) > 1:
        for letter in left[1].replace("...", ""):
            sizes.setdefault(letter, g.size(True))
        reads.append(g.leaf("f32", [sizes[i] for i in left[1].replace("...", "")]))
    g.add("Einsum", reads, equation=equation)


@row("contract", 1.5)
def pool(g):
    op = g.one(["MaxPool", "AveragePool", "AveragePool", "LpPool"])
    x = g.pick(["f32"] if op != "MaxPool" else ["f32", "f64", "u8", "i8"], rank=g.one([3, 4, 4, 5]))
    a = window(g, x, kernel=(1, 2, 3), dilate=op == "MaxPool" or g.opset >= 19 and op == "AveragePool")
    if "auto_pad" not in a and g.chance(0.4) and op != "LpPool":
        a["ceil_mode"] = 1
    if op == "AveragePool":
        a["count_include_pad"] = g.one([0, 1])
    if op == "LpPool":
        a["p"] = g.one([1, 2])
        steps = zip(a["kernel_shape"], a.get("strides") or [1] * len(a["kernel_shape"]))
        g.need("auto_pad" not in a or all(k >= s for k, s in steps))     # its judge pads by negative numbers there
    pads = a.get("pads") or [0]
    g.need(max(pads) < min(a["kernel_shape"]) or not any(pads))
    if op == "MaxPool" and g.chance(0.2):
        y = g.add(op, [x], n_out=2, exact=True, **a)[0]
    else:
        y = g.add(op, [x], exact=op == "MaxPool", **a)
    g.need(all(d.size for d in y.data))


@row("contract", 0.4)
def global_pool(g):
    x = g.pick("f32", rank=(3, 4))
    g.add(g.one(["GlobalAveragePool", "GlobalMaxPool"]), [x])


@row("contract", 0.9)
def resize(g):
    x = g.pick(g.one(["f32", "f32", "f32", "u8"]), rank=4)
    g.need(x.data[0].size < 3000)
    mode = g.one(["nearest", "linear", "cubic"]) if x.dtype == "f32" else "nearest"
    a = {"mode": mode, "coordinate_transformation_mode": g.one(["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"])}
    if mode == "nearest":
        a["nearest_mode"] = g.one(["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])
    if mode == "cubic" or a["coordinate_transformation_mode"] == "align_corners":   # onnxruntime: other for some scales
        a["judge"] = "reference"
    if g.chance(0.5) or not x.fixed:
        factors = [1, 1, g.one([2, 0.5, 1.5, 3, 1]), g.one([2, 0.5, 1.25, 1])]
        # onnxruntime only copies where no size changes, whatever the scales say
        g.need(all(f == 1 or int(n * f) != n for v in x.data for n, f in zip(v.shape, factors)))
        scales = g.const(np.asarray(factors, np.float32))
        g.add("Resize", [x, None, scales], exact=mode == "nearest", **a)
    else:
        sizes = g.ints(list(x.shape[:2]) + [g.size(), g.size()])
        g.add("Resize", [x, None, None, sizes], exact=mode == "nearest", **a)


@row("contract", 0.5)
def recurrent(g):
    op = g.one(["RNN", "GRU", "LSTM"])
    x = g.pick("f32", rank=3, where=lambda v: v.data[0].size < 600, low=-4, high=4)  # onnxruntime cuts a sigmoid's tails off
    seq, batch, width = g.spec(x)
    g.need(isinstance(width, int) and seq is not None and batch is not None)
    hidden, gates = g.one([1, 3, 4, 8]), {"RNN": 1, "GRU": 3, "LSTM": 4}[op]
    direction = g.one(["forward", "reverse", "bidirectional"])
    dirs = 2 if direction == "bidirectional" else 1
    w = g.leaf("f32", [dirs, gates * hidden, width], const=0.9)
    r = g.leaf("f32", [dirs, gates * hidden, hidden], low=-.5, high=.5, const=0.9)
    b = g.leaf("f32", [dirs, 2 * gates * hidden]) if g.chance(0.7) else None
    h = g.leaf("f32", [dirs, batch, hidden]) if g.chance(0.3) else None
    lengths = None
    if isinstance(seq, int) and g.chance(0.2):
        lengths = g.leaf("i32", [batch], low=1, high=seq)
    a = {"linear_before_reset": g.one([0, 1])} if op == "GRU" else {}
    g.add(op, [x, w, r, b, lengths, h], n_out=3 if op == "LSTM" else 2, hidden_size=hidden, direction=direction, **a)
