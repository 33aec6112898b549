"""Rows of the random graphs: quantizers and integer products."""
import numpy as np

from graph_build import DTYPES
from graph_ops.contractions import window
from graph_ops.rows import row


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
