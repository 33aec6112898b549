"""The rows of the random graphs: for each operator, how to draw a node of it. The builder is graph_build.py.

A row is a function of the graph that adds a node, or a few; it may give up by Reject (g.need) at any time. ROWS has them
with their family and weight. Families are what a graph is mostly made of (graph_kinds.py). Types come from the operators'
schemas; values are kept where the function is well conditioned, by choosing inputs in a range or drawing new ones.
"""
import numpy as np
import onnx

from graph_build import DTYPES, FLOATS, INTS, ONNX_TYPES, RUN_B, SCHEMA_TYPES, Reject

ROWS = []      # (family, weight, function)


def row(family, weight=1.0):
    def add(function):
        ROWS.append((family, weight, function))
        return function
    return add


def types_of(g, op, which=0):
    """dtypes that the schema allows for input `which`."""
    try:
        schema = onnx.defs.get_schema(op, g.opset)
    except onnx.defs.SchemaError:
        raise Reject(f"no {op} in opset {g.opset}") from None
    text = schema.inputs[min(which, len(schema.inputs) - 1)].type_str
    allowed = next((c.allowed_type_strs for c in schema.type_constraints if c.type_param_str == text), [text])
    return [SCHEMA_TYPES[t] for t in allowed if t in SCHEMA_TYPES]


def floats_of(g, op):
    return [d for d in types_of(g, op) if d in FLOATS]


def axis_of(g, rank):
    axis = g.rng.randrange(rank)
    return axis - rank if g.chance(0.3) else axis


# ---- elementwise -----------------------------------------------------------------------------------------------------

UNARY = {"Abs": None, "Acos": (-.95, .95), "Acosh": (1.05, 50), "Asin": (-.95, .95), "Asinh": (-1e3, 1e3),
         "Atan": None, "Atanh": (-.9, .9), "Ceil": None, "Celu": (-30, 30), "Cos": (-20, 20), "Cosh": (-6, 6),
         "Elu": (-30, 30), "Erf": None, "Exp": (-20, 6), "Floor": None, "Gelu": (-30, 30), "HardSigmoid": None,
         "HardSwish": None, "IsNaN": None, "IsInf": None, "LeakyRelu": None, "Log": (.05, 1e4), "Mish": (-30, 30),
         "Neg": None, "Relu": None, "Round": None, "Selu": (-30, 30), "Shrink": None, "Sigmoid": (-6, 30), "Sign": None,
         "Sin": (-20, 20), "Sinh": (-6, 6), "Softplus": (-30, 30), "Softsign": None, "Sqrt": (.01, 1e4),
         "Tan": (-1.2, 1.2), "Tanh": None, "ThresholdedRelu": None, "Not": None, "BitwiseNot": None, "Identity": None,
         "Reciprocal": (.1, 1e4)}
UNARY_ATTRIBUTES = {"Celu": ("alpha",), "Elu": ("alpha",), "HardSigmoid": ("alpha", "beta"), "LeakyRelu": ("alpha",),
                    "Selu": ("alpha", "gamma"), "Shrink": ("bias", "lambd"), "ThresholdedRelu": ("alpha",)}
JUDGED_BADLY = {("Shrink", "f64"), ("Shrink", "f16"), ("Erf", "f64"), ("Gelu", "f64"), ("Gelu", "f16")}      # onnxruntime computes these in another type
EXACT = {"Abs", "Ceil", "Floor", "IsNaN", "IsInf", "Neg", "Relu", "Round", "Sign", "Not", "BitwiseNot", "Identity",
         "Max", "Min", "Where", "Clip"}


def unary(op):
    def draw(g):
        low, high = UNARY[op] or (None, None)
        x = g.pick([d for d in types_of(g, op) if (op, d) not in JUDGED_BADLY], low=low, high=high)
        attributes = {a: round(g.rng.uniform(0.1, 1.2), 3) for a in UNARY_ATTRIBUTES.get(op, ()) if g.chance(0.7)}
        if op == "Gelu":
            attributes["approximate"] = g.one(["none", "tanh"])
        g.add(op, [x], exact=op in EXACT, reference=op not in ("Round", "HardSwish"), **attributes)
    return draw


for name in UNARY:
    row("eltwise", 0.25)(unary(name))


def binary(op):
    def draw(g):
        x = g.pick(types_of(g, op))
        pair = [x, g.partner(x)]
        g.rng.shuffle(pair)
        g.add(op, pair, exact=op in EXACT or x.dtype not in FLOATS, reference=True)
    return draw


for name in ("Add", "Sub", "Mul", "Add", "Mul", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "And", "Or", "Xor", "Equal",
             "Greater", "GreaterOrEqual", "Less", "LessOrEqual"):
    row("eltwise", 0.6)(binary(name))


@row("eltwise")
def div(g):
    x = g.pick(types_of(g, "Div"))
    g.add("Div", [x, g.partner(x, low=1, high=100)], reference=x.dtype in FLOATS)


@row("eltwise", 0.5)
def mod(g):
    x = g.pick(types_of(g, "Mod"))
    fmod = 1 if x.dtype in FLOATS or g.chance(0.3) else 0
    g.add("Mod", [x, g.partner(x, low=1, high=50)], exact=True, reference=True, fmod=fmod)


@row("eltwise", 0.5)
def power(g):
    x = g.pick(("f32", "f64", "f16"), low=.1, high=20)
    if g.chance(0.5):
        e = g.const(np.asarray(g.one([2, 0.5, 3, -1, 1, 0, 1.5, -0.5]), DTYPES[x.dtype]))
    else:
        e = g.partner(x, low=-3, high=3)
    g.add("Pow", [x, e])


@row("eltwise", 0.3)
def bit_shift(g):
    x = g.pick(types_of(g, "BitShift"))
    g.add("BitShift", [x, g.partner(x, low=0, high=7)], exact=True, reference=True, direction=g.one(["LEFT", "RIGHT"]))


@row("eltwise", 0.5)
def p_relu(g):
    x = g.pick(floats_of(g, "PRelu"))
    g.add("PRelu", [x, g.partner(x, one_way=True)])


def variadic(op):
    def draw(g):
        xs = [g.pick([d for d in types_of(g, op) if d != "bf16"])]
        while len(xs) < 4 and g.chance(0.6):
            xs.append(g.partner(xs[0], one_way=len(xs) > 1))
        g.add(op, xs, exact=op in EXACT, reference=True)
    return draw


for name in ("Max", "Min", "Mean", "Sum"):
    row("eltwise", 0.5)(variadic(name))


@row("eltwise", 0.7)
def clip(g):
    x = g.pick([d for d in types_of(g, "Clip") if d != "bf16"])
    low = g.leaf(x.dtype, [], low=0 if x.dtype[0] == "u" else -2, high=1) if g.chance(0.7) else None
    high = g.leaf(x.dtype, [], low=2, high=5) if low is None or g.chance(0.7) else None
    g.add("Clip", [x, low, high], exact=True, reference=True)


@row("eltwise")
def where(g):
    x = g.pick()
    y = g.partner(x)
    c = g.partner(g.one([x, y]), dtype="bool")
    g.add("Where", [c, x, y], exact=True, reference=True)


@row("eltwise", 1.5)
def cast(g):
    x = g.pick()
    to = g.one(DTYPES)
    if x.dtype in FLOATS and to in INTS:
        info = np.iinfo(DTYPES[to])
        g.need(x.within(max(info.min, -2.0 ** 53), min(info.max - 1, 2.0 ** 53)))
    g.need(to != "f16" or x.within(-1e4, 1e4))
    g.add("Cast", [x], exact=to not in FLOATS or x.dtype == "bool", to=ONNX_TYPES[to])


@row("eltwise", 0.2)
def cast_like(g):
    x, y = g.pick(("f32", "i32", "i64", "bool", "f64")), g.pick(("f32", "f64"))
    g.add("CastLike", [x, y], exact=x.dtype != "f64")


@row("eltwise", 0.2)
def dropout(g):
    x = g.pick(("f32", "f64"))
    g.add("Dropout", [x], exact=True)


# ---- movement --------------------------------------------------------------------------------------------------------

def moved(g, op, reads, n_out=1, **attributes):
    return g.add(op, reads, n_out=n_out, exact=True, reference=True, **attributes)


@row("movement", 2)
def transpose(g):
    x = g.pick(rank=(1, 2, 3, 4, 5))
    perm = list(range(x.rank))
    g.rng.shuffle(perm)
    moved(g, "Transpose", [x], perm=perm if g.chance(0.9) else None)


def factors(g, n, rank):
    """`rank` sizes with product n."""
    dims = []
    for _ in range(rank - 1):
        d = g.one([i for i in range(1, n + 1) if n % i == 0][:12] or [1])
        dims.append(d)
        n //= max(d, 1)
    dims.append(n)
    g.rng.shuffle(dims)
    return dims


@row("movement", 2)
def reshape(g):
    x = g.pick()
    g.need(x.data[0].size > 0)
    spec = g.spec(x)
    if x.fixed:
        dims = factors(g, x.data[0].size, g.one([1, 2, 3, 4]))
        if g.chance(0.4) and dims:
            dims[g.rng.randrange(len(dims))] = -1
    else:               # merge or split around what is known, or all in one
        first = g.one([0] + [d for d in spec if isinstance(d, int)] + [-1])
        dims = g.one([[-1], [0, -1], [first, -1] if first > 0 else [-1], [-1, g.one([1, 2, 3])],
                      [0, 0, -1] if x.rank > 2 else [-1, 1]])
    moved(g, "Reshape", [x, g.ints(dims)])


@row("movement")
def reshape_computed(g):
    """What exporters write: the shape is taken apart and put together."""
    x = g.pick(rank=(2, 3, 4))
    s = g.add("Shape", [x], exact=True)
    keep = g.rng.randrange(x.rank)
    d = g.add("Gather", [s, g.ints(keep)], exact=True, axis=0)
    if g.chance(0.5):
        d = g.add("Unsqueeze", [d, g.ints([0])], exact=True)
    else:
        d = g.add("Reshape", [d, g.ints([1])], exact=True)
    parts = [d, g.ints([-1])]
    if g.chance(0.3):
        parts.append(g.ints([1]))
    g.rng.shuffle(parts)
    target = g.add("Concat", parts, exact=True, axis=0)
    moved(g, "Reshape", [x, target])


@row("movement", 0.5)
def flatten(g):
    x = g.pick()
    moved(g, "Flatten", [x], axis=g.rng.randint(-x.rank, x.rank) if g.chance(0.8) else None if x.rank else 0)


@row("movement", 0.7)
def squeeze(g):
    x = g.pick(where=lambda v: any(d == 1 for d in v.shape) and v.rank)
    ones = [i for i, d in enumerate(x.shape) if d == 1]
    axes = g.rng.sample(ones, g.rng.randint(1, len(ones)))
    axes = [a - x.rank if g.chance(0.3) else a for a in axes]
    moved(g, "Squeeze", [x, g.ints(axes) if g.chance(0.8) or not x.fixed else None])


@row("movement")
def unsqueeze(g):
    x = g.pick(rank=(0, 1, 2, 3))
    n = g.one([1, 1, 2])
    axes = g.rng.sample(range(x.rank + n), n)
    moved(g, "Unsqueeze", [x, g.ints([a - x.rank - n if g.chance(0.3) else a for a in axes])])


@row("movement")
def expand(g):
    x = g.pick(rank=(0, 1, 2, 3))
    dims = [g.size(True) if d == 1 and g.chance(0.7) else 1 if d is None or g.chance(0.3) else d for d in g.spec(x)]
    if all(isinstance(d, int) for d in dims):
        dims = [g.size(True) for _ in range(g.one([0, 0, 1, 2]))] + dims
        moved(g, "Expand", [x, g.ints(dims)])
    else:
        y = g.partner(x)
        moved(g, "Expand", [x, g.add("Shape", [y], exact=True)])


@row("movement")
def tile(g):
    x = g.pick(rank=(1, 2, 3, 4))
    moved(g, "Tile", [x, g.ints([g.one([1, 1, 2, 3]) for _ in x.shape])])


@row("movement", 3)
def slice_(g):
    x = g.pick(rank=(1, 2, 3, 4, 5))
    axes = g.rng.sample(range(x.rank), g.rng.randint(1, min(x.rank, 3)))
    starts, ends, steps = [], [], []
    for a in axes:
        n = x.shape[a]
        step = g.one([1, 1, 1, 2, 3, -1, -1, -2])
        lo, hi = sorted((g.rng.randint(0, n), g.rng.randint(0, n)))
        lo, hi = (0, n) if g.chance(0.2) else (lo, hi)
        g.need(hi > lo or g.chance(0.03))
        s, e = (lo, hi) if step > 0 else (hi - 1, lo - 1)
        if step > 0 and g.chance(0.3):
            s, e = s - n, (e - n if e < n else g.one([n, 2 ** 31, 2 ** 63 - 1]))
        elif step < 0 and e < 0:
            e = g.one([-n - 1, -2 ** 31, -2 ** 63 + 1])
        starts.append(s), ends.append(e), steps.append(step)
    kind = g.one(["i64", "i64", "i32"]) if max(map(abs, ends)) < 2 ** 31 else "i64"
    parts = [g.ints(starts, kind), g.ints(ends, kind), g.ints([a - x.rank if g.chance(0.2) else a for a in axes], kind)]
    moved(g, "Slice", [x] + parts + ([g.ints(steps, kind)] if any(s != 1 for s in steps) or g.chance(0.3) else []))


@row("movement")
def split(g):
    x = g.pick(rank=(1, 2, 3, 4), where=lambda v: any(d > 1 for d in v.shape))
    axis = g.one([i for i, d in enumerate(x.shape) if d > 1])
    n = x.shape[axis]
    k = g.rng.randint(2, min(n, 4))
    if g.opset >= 18 and g.chance(0.4):
        moved(g, "Split", [x], n_out=k, axis=axis, num_outputs=k)
        return
    cuts = sorted(g.rng.randint(0 if g.chance(0.05) else 1, n) for _ in range(k - 1))
    sizes = [b - a for a, b in zip([0] + cuts, cuts + [n])]
    g.need(all(sizes) or g.chance(0.1))
    moved(g, "Split", [x, g.ints(sizes)], n_out=k, axis=axis - x.rank if g.chance(0.3) else axis)


@row("movement", 2.5)
def concat(g):
    x = g.pick(rank=(1, 2, 3, 4))
    axis = g.rng.randrange(x.rank)
    xs = [x]

    def fits(v):
        return v.dtype == x.dtype and v.rank == x.rank and all(
            p == q for r in (0, RUN_B) for i, (p, q) in enumerate(zip(v.data[r].shape, x.data[r].shape)) if i != axis)
    own, outer = g.visible()
    found = [v for v in own if fits(v)]
    for _ in range(g.one([1, 1, 2, 3])):
        if found and g.chance(0.7):
            xs.append(g.one(found[-6:]))
        else:
            spec = g.spec(x)
            g.need(all(d is not None or i == axis for i, d in enumerate(spec)))
            xs.append(g.leaf(x.dtype, spec[:axis] + [g.size(True)] + spec[axis + 1:]))
    g.rng.shuffle(xs)
    moved(g, "Concat", xs, axis=axis - x.rank if g.chance(0.3) else axis)


@row("movement", 1.5)
def pad(g):
    x = g.pick(types_of(g, "Pad"), rank=(1, 2, 3, 4))
    mode = g.one(["constant", "constant", "reflect", "edge"] + (["wrap"] if g.opset >= 19 else []))
    limit = 3 if mode != "reflect" else 2
    low = -1 if g.chance(0.2) else 0
    pads = [g.rng.randint(low, limit) if g.chance(0.6) else 0 for _ in range(2 * x.rank)]
    if mode == "reflect":
        pads = [min(p, x.shape[i % x.rank] - 1) for i, p in enumerate(pads)]
    if mode != "constant":
        pads = [max(p, 0) for p in pads]
        g.need(x.data[0].size)
    value = None
    if mode == "constant" and g.chance(0.5):
        value = g.leaf(x.dtype, [], const=0.7)
    axes = None
    if g.opset >= 18 and g.chance(0.3):
        chosen = g.rng.sample(range(x.rank), g.rng.randint(1, x.rank))
        pads = [pads[a] for a in chosen] + [pads[a + x.rank] for a in chosen]
        axes = g.ints([a - x.rank if g.chance(0.3) else a for a in chosen])
    moved(g, "Pad", [x, g.ints(pads), value, axes], mode=mode)


def indices(g, spec, n, kind=None, negative=0.3):
    """A tensor of indices below n."""
    g.need(n > 0)
    kind = kind or g.one(["i64", "i32"])
    low = -n if g.chance(negative) else 0
    return g.leaf(kind, spec, low=low, high=n - 1, const=0.5)


def shortest(x, axis):
    return min(a.shape[axis] for a in x.data)


@row("movement", 1.5)
def gather(g):
    x = g.pick(rank=(1, 2, 3, 4))
    axis = g.rng.randrange(x.rank)
    i = indices(g, g.shape(g.one([0, 1, 1, 2])), shortest(x, axis))
    moved(g, "Gather", [x, i], axis=axis - x.rank if g.chance(0.3) else axis)


@row("movement", 0.7)
def gather_elements(g):
    x = g.pick(rank=(1, 2, 3))
    axis = g.rng.randrange(x.rank)
    spec = [d if d is not None else 1 for d in g.spec(x)]
    spec[axis] = g.size(True)
    moved(g, "GatherElements", [x, indices(g, spec, shortest(x, axis))], axis=axis)


def nd_indices(g, x, lead, depth, first=0):
    """Indices [lead..., depth] into the axes of x from `first` on."""
    sizes = [shortest(x, first + i) for i in range(depth)]
    g.need(all(sizes))

    def draw(shape):
        return np.stack([g.np.integers(0, n, shape[:-1]) for n in sizes], -1).astype(np.int64).reshape(shape)
    return g.leaf("i64", lead + [depth], draw=draw)


@row("movement", 0.5)
def gather_nd(g):
    x = g.pick(rank=(1, 2, 3, 4))
    batch = 0
    if x.rank > 1 and x.fixed and g.chance(0.3):
        batch = 1
    depth = g.rng.randint(1, x.rank - batch)
    moved(g, "GatherND", [x, nd_indices(g, x, list(x.shape[:batch]) + g.shape(1), depth, batch)], batch_dims=batch)


@row("movement", 0.4)
def depth_to_space(g):
    b = g.one([1, 2, 3])
    x = g.pick(("f32", "f64", "u8"), rank=4, where=lambda v: v.shape[1] % (b * b) == 0, fresh=0.2)
    moved(g, "DepthToSpace", [x], blocksize=b, mode=g.one(["DCR", "CRD"]))


@row("movement", 0.4)
def space_to_depth(g):
    b = g.one([1, 2])
    x = g.pick(("f32", "f64"), rank=4, where=lambda v: v.shape[2] % b == 0 and v.shape[3] % b == 0, fresh=0.2)
    moved(g, "SpaceToDepth", [x], blocksize=b)


@row("movement", 0.6)
def trilu(g):
    x = g.pick([d for d in types_of(g, "Trilu")], rank=(2, 3, 4))
    k = g.leaf("i64", [], low=-3, high=4, const=0.8) if g.chance(0.6) else None
    moved(g, "Trilu", [x, k], upper=g.one([0, 1]))


@row("movement", 0.4)
def eye_like(g):
    x = g.pick(("f32", "i32", "i64", "bool", "f64"), rank=2)
    moved(g, "EyeLike", [x], k=g.rng.randint(-3, 3), dtype=ONNX_TYPES[g.one(["f32", "i64", "f64"])] if g.chance(0.5) else None)


@row("movement", 0.4)
def one_hot(g):
    n = g.size()
    i = g.pick(("i64", "i32"), rank=(0, 1, 2), low=-n, high=n - 1)
    depth = g.ints(n) if g.chance(0.5) else g.ints([n])
    values = g.leaf(g.one(["f32", "i64", "i32"]), [2])
    g.add("OneHot", [i, depth, values], exact=True, axis=g.rng.randint(-i.rank - 1, i.rank))


@row("movement", 0.3)
def reverse_sequence(g):
    x = g.pick(rank=(2, 3, 4), where=lambda v: v.fixed)
    g.need(min(x.shape) > 0)
    batch = g.one([0, 1])
    lengths = g.leaf("i64", [x.shape[batch]], low=1, high=x.shape[1 - batch])
    moved(g, "ReverseSequence", [x, lengths], batch_axis=batch, time_axis=1 - batch)


# ---- shape arithmetic --------------------------------------------------------------------------------------------------

@row("shape", 1.5)
def shape(g):
    x = g.pick(rank=(1, 2, 3, 4))
    if g.opset >= 15 and g.chance(0.5):
        g.add("Shape", [x], exact=True, start=g.rng.randint(-x.rank, x.rank - 1),
              end=g.rng.randint(-1, x.rank + 1) if g.chance(0.5) else None)
    else:
        g.add("Shape", [x], exact=True)


@row("shape", 0.5)
def size(g):
    g.add("Size", [g.pick()], exact=True)


def small_sizes(v):
    return v.rank == 1 and 0 < v.shape[0] <= 4 and v.within(1, 24) and all(0 < a.prod() < 3000 for a in v.data)


@row("shape")
def shape_arithmetic(g):
    s = g.pick("i64", where=lambda v: v.rank <= 1 and v.within(-1000, 1000) and v.data[0].size)
    op = g.one(["Add", "Sub", "Mul", "Div", "Max", "Min"])
    g.add(op, [s, g.ints(g.one([1, 2, 3])) if g.chance(0.5) else g.ints([g.one([1, 2, 3])])], exact=True)


@row("shape", 0.7)
def constant_of_shape(g):
    s = g.pick("i64", where=small_sizes, fresh=0)
    value = onnx.numpy_helper.from_array(np.asarray([g.one([0, 1, 2])], DTYPES[g.one(["f32", "i64", "bool", "i32", "f64"])]))
    moved(g, "ConstantOfShape", [s], value=value if g.chance(0.8) else None)


@row("shape", 0.7)
def expand_to(g):
    s = g.pick("i64", where=small_sizes, fresh=0)
    x = g.leaf(g.one(DTYPES), [1] * s.shape[0] if g.chance(0.5) else [])
    moved(g, "Expand", [x, s])


@row("shape", 0.5)
def range_(g):
    d = g.one(["i64", "f32", "i32", "f64"])
    if d == "i64" and g.chance(0.7):
        limit = g.pick("i64", rank=0, low=1, high=60)
    else:
        limit = g.const(np.asarray(g.one([1, 5, 9, 16]), DTYPES[d]))
    start, step = g.one([(0, 1), (1, 1), (2, 3), (-3, 2)])
    moved(g, "Range", [g.const(np.asarray(start, DTYPES[d])), limit, g.const(np.asarray(step, DTYPES[d]))])


# ---- reductions --------------------------------------------------------------------------------------------------------

REDUCE = ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceLogSum",
          "ReduceLogSumExp", "ReduceSumSquare")


def fits_integer(op, a):
    """Is every integer result of this reduction far from the dtype's end, over whichever axes?"""
    wide = np.abs(a.astype(np.float64))
    most = {"ReduceProd": np.prod(np.maximum(wide, 1)), "ReduceSumSquare": np.sum(wide * wide)}.get(op, 0)
    return most < float(np.iinfo(a.dtype).max)


def reduction(op):
    def draw(g):
        low, high = {"ReduceLogSum": (.05, 100), "ReduceLogSumExp": (-10, 10), "ReduceProd": (-3, 3)}.get(op, (None, None))
        rounds = op in ("ReduceL2", "ReduceLogSum", "ReduceLogSumExp")     # integers near a step of the result
        x = g.pick([d for d in types_of(g, op) if d != "bf16" and (d in FLOATS or not rounds)], low=low, high=high)
        g.need(all(a.size for a in x.data))
        if x.dtype not in FLOATS:       # onnxruntime saturates some integers that overflow, and wraps others
            g.need(all(fits_integer(op, a) for a in x.data))
        axes = g.rng.sample(range(x.rank), g.rng.randint(0, x.rank))
        axes = [a - x.rank if g.chance(0.3) else a for a in axes]
        keep = g.one([0, 1, None])
        if g.opset >= 18 or op == "ReduceSum":
            given = g.ints(axes) if axes or g.chance(0.2) else None
            g.add(op, [x, given], keepdims=keep, reference=True, exact=op in ("ReduceMax", "ReduceMin"),
                  noop_with_empty_axes=1 if g.chance(0.15) else None)
        else:
            g.add(op, [x], keepdims=keep, reference=True, axes=axes or None)
    return draw


for name in REDUCE:
    row("reduce", 0.7)(reduction(name))


@row("reduce")
def arg_reduce(g):
    op = g.one(["ArgMax", "ArgMin"])
    x = g.pick([d for d in types_of(g, op) if d != "bf16"], rank=(1, 2, 3, 4), where=lambda v: all(a.size for a in v.data))
    g.add(op, [x], exact=True, reference=True, axis=axis_of(g, x.rank), keepdims=g.one([0, 1]),
          select_last_index=g.one([0, 0, 1]))


@row("reduce", 0.7)
def cum_sum(g):
    x = g.pick(("f32", "f64", "i32", "i64"), rank=(1, 2, 3))
    g.add("CumSum", [x, g.const(np.asarray(axis_of(g, x.rank), np.int64))], exclusive=g.one([0, 1]), reverse=g.one([0, 1]))


@row("reduce", 1.5)
def softmax(g):
    x = g.pick(("f32", "f64", "f16"), rank=(1, 2, 3, 4), low=-30, high=30)
    g.add(g.one(["Softmax", "Softmax", "LogSoftmax"]), [x], axis=axis_of(g, x.rank) if g.chance(0.8) else None)


@row("reduce", 0.3)
def hardmax(g):
    x = g.pick(("f32", "f64"), rank=(1, 2, 3))
    g.add("Hardmax", [x], axis=axis_of(g, x.rank), exact=True)


def known(g, spec):
    g.need(all(isinstance(d, int) for d in spec))
    return spec


@row("reduce", 1.2)
def layer_norm(g):
    x = g.pick(("f32", "f64", "f16"), rank=(2, 3, 4), where=lambda v: v.shape[-1] > 2)
    axis = g.one([-1, -1, x.rank - 1, x.rank - 2])
    inner = known(g, g.spec(x)[axis:])
    scale = g.leaf(x.dtype, inner)
    bias = g.leaf(x.dtype, inner) if g.chance(0.7) else None
    if g.opset >= 23 and g.chance(0.3):
        g.add("RMSNormalization", [x, scale], axis=axis)
    else:
        g.add("LayerNormalization", [x, scale, bias], axis=axis, epsilon=1e-3 if g.chance(0.3) else None)


@row("reduce", 0.8)
def channel_norm(g):
    x = g.pick("f32", rank=(3, 4), where=lambda v: all(a.shape[2] * a.shape[-1] > 2 for a in v.data))
    c = known(g, g.spec(x)[1:2])
    op = g.one(["InstanceNormalization", "BatchNormalization", "GroupNormalization"])
    if op == "BatchNormalization":
        parts = [g.leaf("f32", c) for _ in range(3)] + [g.leaf("f32", c, low=.5, high=2)]
        g.add(op, [x] + parts)
    elif op == "InstanceNormalization":
        g.add(op, [x, g.leaf("f32", c), g.leaf("f32", c)])
    else:
        g.need(g.opset >= 21)
        groups = g.one([i for i in range(1, c[0] + 1) if c[0] % i == 0])
        g.add(op, [x, g.leaf("f32", c), g.leaf("f32", c)], reference=True, num_groups=groups)


@row("reduce", 0.4)
def lp_norm(g):
    x = g.pick(("f32", "f64"), rank=(1, 2, 3))
    g.add("LpNormalization", [x], axis=axis_of(g, x.rank), p=g.one([1, 2]))


@row("reduce", 0.4)
def lrn(g):
    x = g.pick("f32", rank=4)
    g.add("LRN", [x], size=g.one([3, 5]), alpha=0.01, beta=g.one([0.75, 0.5]), bias=g.one([1.0, 2.0]))


@row("reduce", 0.3)
def mean_variance(g):
    x = g.pick("f32", rank=4, where=lambda v: all(a.shape[2] * a.shape[3] > 2 for a in v.data))
    g.add("MeanVarianceNormalization", [x], axes=g.one([[0, 2, 3], [2, 3]]))


# ---- contractions and windows ------------------------------------------------------------------------------------------

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
    g.add("Gemm", [x, w, c], transA=ta, transB=tb, alpha=g.one([None, 0.5, -2.0]), beta=g.one([None, 0.5]))


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


# ---- quantization ------------------------------------------------------------------------------------------------------

def quantizer(g, dtype, c=None):
    """(scale, zero point) constants, for each channel when c is given."""
    shape = () if c is None else (c,)
    scale = g.const(np.asarray(g.np.uniform(0.02, 0.2, shape)).astype(np.float32))
    low, high = (0, 255) if dtype == "u8" else (-20, 20)
    return scale, g.const(np.asarray(g.np.integers(low, high, shape)).astype(DTYPES[dtype]))


@row("quantize", 2)
def quantize(g):
    x = g.pick("f32", rank=(1, 2, 3, 4))
    d = g.one(["u8", "i8"] + (["i16", "u16"] if g.opset >= 21 else []))
    if g.chance(0.3) and isinstance(g.spec(x)[-1], int):
        axis = x.rank - 1
        scale, zero = quantizer(g, d, x.shape[axis])
        g.add("QuantizeLinear", [x, scale, zero], exact=True, axis=axis)
    else:
        scale, zero = quantizer(g, d)
        g.add("QuantizeLinear", [x, scale, zero if g.chance(0.8) or d != "u8" else None], exact=True)


@row("quantize", 2)
def dequantize(g):
    x = g.pick(("u8", "i8", "i32") + (("i16", "u16") if g.opset >= 21 else ()), rank=(1, 2, 3, 4), low=-300, high=300)
    scale, zero = quantizer(g, x.dtype)
    g.add("DequantizeLinear", [x, scale, zero if x.dtype != "i32" else None])


@row("quantize", 1.5)
def qdq(g):
    x = g.pick("f32", rank=(1, 2, 3, 4))
    scale, zero = quantizer(g, g.one(["u8", "i8"]))
    q = g.add("QuantizeLinear", [x, scale, zero], exact=True)
    g.add("DequantizeLinear", [q, scale, zero])


@row("quantize", 0.7)
def dynamic_quantize(g):
    g.add("DynamicQuantizeLinear", [g.pick("f32", rank=(1, 2, 3))], n_out=3)


@row("quantize")
def matmul_integer(g):
    x = g.pick("u8", rank=(2, 3))
    k = g.spec(x)[-1]
    g.need(k is not None)
    w = g.leaf(g.one(["u8", "i8"]), [k, g.size()], const=0.8)
    za = g.leaf("u8", []) if g.chance(0.5) else None
    zb = g.leaf(w.dtype, []) if za is not None and g.chance(0.5) else None
    g.add("MatMulInteger", [x, w, za, zb], exact=True)


@row("quantize")
def qlinear_matmul(g):
    x = g.pick("u8", rank=(2, 3))
    k = g.spec(x)[-1]
    g.need(k is not None)
    w = g.leaf(g.one(["u8", "i8"]), [k, g.size()], const=0.8)
    sx, zx = quantizer(g, "u8")
    sw, zw = quantizer(g, w.dtype)
    so, zo = quantizer(g, "u8")
    g.add("QLinearMatMul", [x, sx, zx, w, sw, zw, so, zo], exact=True)


@row("quantize")
def qlinear_conv(g):
    x = g.pick("u8", rank=4)
    c = g.spec(x)[1]
    g.need(isinstance(c, int) and c > 0 and x.data[0].size < 2000)
    a = window(g, x)
    w = g.leaf("i8", [g.one([1, 4, 8]), c] + a["kernel_shape"], const=1)
    sx, zx = quantizer(g, "u8")
    sw, _ = quantizer(g, "i8")
    so, zo = quantizer(g, "u8")
    b = g.leaf("i32", [w.shape[0]], const=1) if g.chance(0.5) else None
    y = g.add("QLinearConv", [x, sx, zx, w, sw, g.const(np.asarray(0, np.int8)), so, zo, b], exact=True, **a)
    g.need(all(d.size for d in y.data))


# ---- selection ---------------------------------------------------------------------------------------------------------

@row("select")
def top_k(g):
    x = g.pick([d for d in types_of(g, "TopK") if d != "bf16"], rank=(1, 2, 3))
    axis = g.rng.randrange(x.rank)
    n = shortest(x, axis)
    g.need(n > 0)
    k = g.leaf("i64", [1], low=1, high=n, const=0.9)
    g.add("TopK", [x, k], n_out=2, exact=True, reference=True, axis=axis, largest=g.one([0, 1]))


@row("select", 0.7)
def non_zero(g):
    x = g.pick(("f32", "i32", "i64", "bool"), rank=(1, 2, 3))
    g.add("NonZero", [x], exact=True)


@row("select", 0.4)
def nms(g):
    batch, boxes, classes = g.one([1, 2]), g.one([3, 6, 9]), g.one([1, 2])

    def corners(shape):
        low = g.np.uniform(0, 5, (batch, boxes, 2))
        return np.concatenate([low, low + g.np.uniform(1, 4, (batch, boxes, 2))], -1).astype(np.float32)
    b = g.leaf("f32", [batch, boxes, 4], draw=corners)
    s = g.leaf("f32", [batch, classes, boxes], low=0, high=1)
    most = g.ints([g.one([1, 2, 5])])
    iou = g.const(np.asarray([g.one([0.2, 0.5])], np.float32))
    least = g.const(np.asarray([0.1], np.float32)) if g.chance(0.5) else None
    g.add("NonMaxSuppression", [b, s, most, iou, least], exact=True)


@row("select", 0.8)
def scatter_elements(g):
    x = g.pick(("f32", "i64", "i32", "f64"), rank=(1, 2, 3), where=lambda v: v.fixed)
    axis = g.rng.randrange(x.rank)
    n = x.shape[axis]
    reduction = g.one([None, None, "add", "mul"] + (["max", "min"] if g.opset >= 18 else [])) if g.opset >= 16 else None
    g.need(x.data[0].size)
    count = g.rng.randint(1, n)
    shape = list(x.shape)
    shape[axis] = count

    def draw(s):
        if reduction:
            return g.np.integers(0, n, s)
        flat = np.stack([g.np.permutation(n)[:count] for _ in range(int(np.prod(s)) // count)] or [np.zeros(count)])
        return np.moveaxis(flat.reshape([d for i, d in enumerate(s) if i != axis] + [count]), -1, axis).astype(np.int64)
    i = g.leaf("i64", shape, draw=draw)
    g.add("ScatterElements", [x, i, g.leaf(x.dtype, shape)], reference=True, exact=not reduction, axis=axis, reduction=reduction)


@row("select", 0.8)
def scatter_nd(g):
    x = g.pick(("f32", "i64", "i32", "f64", "bool"), rank=(1, 2, 3), where=lambda v: v.fixed)
    depth = g.rng.randint(1, x.rank)
    reduction = g.one([None, None, "add", "mul"]) if g.opset >= 16 and x.dtype != "bool" else None
    cells = int(np.prod(x.shape[:depth]))
    count = g.rng.randint(1, min(cells, 9)) if cells else 0
    g.need(count)

    def draw(s):
        chosen = g.np.integers(0, cells, count) if reduction else g.np.permutation(cells)[:count]
        return np.stack(np.unravel_index(chosen, x.shape[:depth]), -1).astype(np.int64)
    i = g.leaf("i64", [count, depth], draw=draw)
    g.add("ScatterND", [x, i, g.leaf(x.dtype, [count] + list(x.shape[depth:]))], reference=True, exact=not reduction,
          reduction=reduction)


# ---- images, signals, attention as single operators --------------------------------------------------------------------

@row("special")
def grid_sample(g):
    x = g.pick("f32", rank=4, where=lambda v: min(v.shape) > 0 and v.fixed and v.data[0].size < 2000)
    grid = g.leaf("f32", [x.shape[0], g.size(True), g.size(True), 2], low=-1.1, high=1.1)
    mode = g.one(["bilinear", "nearest", "bicubic"] if g.opset < 20 else ["linear", "nearest", "cubic"])
    g.add("GridSample", [x, grid], mode=mode, padding_mode=g.one(["zeros", "border", "reflection"]),
          align_corners=g.one([0, 1]))


@row("special", 0.5)
def affine_grid(g):
    n, h, w = g.one([1, 2]), g.size(True), g.size(True)
    g.add("AffineGrid", [g.leaf("f32", [n, 2, 3]), g.ints([n, 3, h, w])], align_corners=g.one([0, 1]), judge="reference")


@row("special", 0.7)
def roi_align(g):
    x = g.pick("f32", rank=4, where=lambda v: v.fixed and min(v.shape[2:]) > 3)

    def boxes(shape):
        low = g.np.uniform(0, 1.5, (shape[0], 2))
        return np.concatenate([low, low + g.np.uniform(1, 2, (shape[0], 2))], -1).astype(np.float32)
    n = g.one([1, 2, 3])
    g.add("RoiAlign", [x, g.leaf("f32", [n, 4], draw=boxes), g.leaf("i64", [n], low=0, high=x.shape[0] - 1)],
          output_height=g.one([1, 2, 3]), output_width=2, sampling_ratio=g.one([0, 1, 2]), mode=g.one(["avg", "max"]))


@row("special", 0.7)
def attention(g):
    batch, heads, seq, past, width = g.one([1, 2]), g.one([1, 2, 3]), g.one([1, 3, 5]), g.one([2, 5, 7]), g.one([4, 8])
    q = g.pick("f32", rank=4, where=lambda v: v.fixed and v.data[0].size < 3000 and min(v.shape) > 0, low=-10, high=10)
    batch, heads, seq, width = q.shape
    k = g.leaf("f32", [batch, heads, past, width])
    v = g.leaf("f32", [batch, heads, past, g.one([width, 3])])
    mask = g.leaf("bool", [seq, past]) if g.chance(0.2) else g.leaf("f32", [seq, past]) if g.chance(0.4) else None
    g.add("Attention", [q, k, v, mask], is_causal=g.one([0, 1]) if mask is None else 0, scale=g.one([None, 0.5]))


@row("special", 0.5)
def rotary(g):
    x = g.pick("f32", rank=4, where=lambda v: v.fixed and v.shape[3] % 2 == 0 and min(v.shape) > 0)
    batch, _, seq, width = x.shape
    parts = [g.leaf("f32", [batch, seq, width // 2]) for _ in range(2)]
    g.add("RotaryEmbedding", [x] + parts, interleaved=g.one([0, 1]))


@row("special", 0.5)
def crop_or_pad(g):
    x = g.pick(rank=(1, 2, 3), where=lambda v: v.fixed)
    axes = g.rng.sample(range(x.rank), g.rng.randint(1, x.rank))
    moved(g, "CenterCropPad", [x, g.ints([g.size() for _ in axes])], axes=axes)


@row("special", 0.5)
def compress(g):
    x = g.pick(rank=(1, 2, 3), where=lambda v: min(v.shape) > 0)
    axis = g.rng.randrange(x.rank)
    n = shortest(x, axis)
    g.add("Compress", [x, g.leaf("bool", [n])], exact=True, axis=axis if g.chance(0.8) else None)


@row("special", 0.5)
def unique(g):
    x = g.pick(("f32", "i64"), rank=(1, 2), where=lambda v: min(v.shape) > 0)
    g.add("Unique", [x], n_out=4, exact=True, sorted=g.one([0, 1]), axis=g.rng.randrange(x.rank) if g.chance(0.3) else None)


@row("special", 0.5)
def det(g):
    n = g.one([1, 2, 3])
    g.add("Det", [g.leaf("f32", g.one([[], [2]]) + [n, n])])


@row("special", 0.6)
def conv_integer(g):
    x = g.pick("u8", rank=4, where=lambda v: min(v.shape) > 0)
    c = g.spec(x)[1]
    g.need(isinstance(c, int) and x.data[0].size < 2000)
    a = window(g, x)
    w = g.leaf("u8", [g.one([1, 4, 8]), c] + a["kernel_shape"], const=0.9)
    y = g.add("ConvInteger", [x, w, g.leaf("u8", []) if g.chance(0.5) else None], exact=True, **a)
    g.need(all(d.size for d in y.data))


@row("special", 0.4)
def global_lp_pool(g):
    g.add("GlobalLpPool", [g.pick("f32", rank=(3, 4), where=lambda v: min(v.shape) > 0)], p=g.one([1, 2]))


@row("special", 0.4)
def col_to_image(g):
    h, w, kh, kw = g.one([3, 4, 5]), g.one([4, 5]), g.one([1, 2, 3]), g.one([1, 2])
    x = g.leaf("f32", [g.one([1, 2]), g.one([1, 3]) * kh * kw, (h - kh + 1) * (w - kw + 1)])
    g.add("Col2Im", [x, g.ints([h, w]), g.ints([kh, kw])])


@row("special", 0.5)
def swish(g):
    g.add("Swish", [g.pick("f32", low=-6, high=30)], reference=True, alpha=g.one([None, 0.5]))


@row("special", 0.6)
def fourier(g):
    x = g.leaf("f32", [g.one([1, 2]), g.one([4, 5, 8, 9]), g.one([1, 2])])
    if g.opset >= 20:
        g.add("DFT", [x, None, g.ints(1)], onesided=1 if x.shape[2] == 1 and g.chance(0.5) else 0)
    else:
        g.add("DFT", [x], axis=1, inverse=g.one([0, 1]) if x.shape[2] == 2 else 0)
