"""Rows of the random graphs: folds over axes, and norms."""
import numpy as np

from graph_build import FLOATS
from graph_ops.rows import axis_of, row, types_of


REDUCE = ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceLogSum",
          "ReduceLogSumExp", "ReduceSumSquare")


def fits_integer(op, a):
    """Is every integer result of this reduction far from the dtype's end, over whichever axes?"""
    if a.dtype == np.bool_:
        return True
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
