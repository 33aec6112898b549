"""Rows of the random graphs: what data selects: TopK, NonZero, scatters."""
import numpy as np

from graph_ops.movement import shortest
from graph_ops.rows import row, types_of


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
