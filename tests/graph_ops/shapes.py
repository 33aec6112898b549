"""Rows of the random graphs: shapes as values."""
import numpy as np
import onnx

from graph_build import DTYPES
from graph_ops.movement import moved
from graph_ops.rows import row


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
