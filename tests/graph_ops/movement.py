"""Rows of the random graphs: elements move, nothing is computed."""
import numpy as np

from graph_build import ONNX_TYPES, RUN_B
from graph_ops.rows import row, types_of


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
    judge = "reference" if x.dtype == "str" else None      # onnxruntime moves one string of each row
    moved(g, "Gather", [x, i], axis=axis - x.rank if g.chance(0.3) else axis, judge=judge)


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
    x = g.pick([d for d in types_of(g, "Trilu") if d != "str"], rank=(2, 3, 4))
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
