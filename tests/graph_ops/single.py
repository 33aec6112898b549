"""Rows of the random graphs: images, signals, attention: operators that stand alone."""
import numpy as np

from graph_ops.contractions import window
from graph_ops.movement import moved, shortest
from graph_ops.rows import row


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
        y = g.add("DFT", [x, None, g.ints(1)], onesided=1 if x.shape[2] == 1 and g.chance(0.5) else 0)
    else:
        y = g.add("DFT", [x], axis=1, inverse=g.one([0, 1]) if x.shape[2] == 2 else 0)
    for a in y.data:        # parts that are 0 but for roundings: what comes next may ask on which side
        g.need(((a == 0) | (np.abs(a) > 1e-5 * np.abs(a).max())).all())
