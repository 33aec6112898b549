"""Quantized networks: sums of bytes are exact, and what follows is rounded in the order that docs/design.md gives. The judge
is numpy with 64-bit sums; every byte has to agree, on every backend, with and without dot-product instructions."""
import json
import os

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from harness import Case, check
from model_files import call_program, smelt_run

RANGE = {"u8": (0, 255), "i8": (-128, 127)}
DTYPE = {"u8": np.uint8, "i8": np.int8}

# name: x type, w type, weight zero points, per channel, channels in and out, window, stride, padding, group, activation
CONVS = {
    "pointwise": ("u8", "i8", 0, True, 32, 48, 1, 1, 0, 1, None),
    "signed": ("i8", "i8", 0, True, 32, 32, 3, 1, 1, 1, "relu"),
    "unsigned_weights": ("u8", "u8", 128, False, 16, 16, 3, 1, 1, 1, "relu"),
    "asymmetric_weights": ("u8", "i8", 7, True, 16, 24, 3, 2, 1, 1, None),
    "asymmetric_both": ("i8", "u8", 99, True, 20, 32, 1, 1, 0, 1, "clip"),
    "odd_channels": ("u8", "i8", 0, True, 13, 17, 3, 1, 1, 1, "relu"),
    "three_channels": ("u8", "i8", 0, True, 3, 32, 7, 2, 3, 1, "relu"),
    "one_channel": ("i8", "i8", 0, False, 1, 8, 3, 1, 1, 1, "clip"),
    "depthwise": ("u8", "i8", 0, True, 32, 32, 3, 1, 1, 32, "clip"),
    "depthwise_signed": ("i8", "i8", 3, True, 16, 16, 3, 2, 1, 16, "relu"),
    "taps": ("u8", "i8", 0, True, 32, 32, 3, 1, 1, 32, "relu"),
    "taps_of_5": ("i8", "i8", 0, True, 32, 32, 5, 2, 2, 32, None),
    "taps_asymmetric": ("u8", "u8", 131, False, 48, 48, 3, 1, 1, 48, None),     # weights of nine bits in two parts
    "taps_odd_channels": ("u8", "i8", -3, True, 24, 24, 3, 2, 1, 24, None),
    "taps_inside": ("u8", "i8", 0, True, 32, 32, 3, 1, 0, 32, None),            # no border: three bytes a word
    "tiles": ("u8", "i8", 0, True, 64, 64, 3, 1, 1, 1, "relu"),
    "tiles_signed": ("i8", "i8", 0, True, 64, 80, 3, 2, 1, 1, None),
    "tiles_asymmetric": ("u8", "u8", 131, False, 128, 64, 1, 1, 0, 1, "relu"),
    "groups": ("u8", "i8", 0, True, 32, 32, 3, 1, 1, 2, None),
    "groups_of_4": ("u8", "i8", 0, True, 32, 32, 3, 1, 1, 8, "relu"),
    "groups_of_4_asymmetric": ("i8", "u8", 99, False, 32, 32, 3, 2, 1, 8, None),
    "groups_of_8": ("u8", "i8", 0, True, 40, 40, 3, 2, 1, 5, None),     # the last vector sticks out
    "groups_of_4_to_8": ("i8", "i8", 0, True, 32, 64, 3, 1, 1, 8, "relu"),
    "groups_of_3": ("u8", "i8", 0, True, 48, 48, 3, 1, 1, 16, None),    # joined until they are whole vectors
    "groups_of_24": ("i8", "i8", 0, True, 48, 48, 3, 1, 1, 2, None),
}

# Maps of a width that leaves two or three rows of a tile beside fours, which are stored at once.
WIDTHS = {"left_2": 14, "left_3": 7, "left_3_signed": 7, "left_2_clip": 6}
CONVS.update({
    "left_2": ("u8", "i8", 0, True, 32, 64, 1, 1, 0, 1, "relu"), "left_3": ("u8", "i8", 0, True, 32, 64, 3, 1, 1, 1, None),
    "left_3_signed": ("i8", "i8", 0, True, 32, 64, 1, 1, 0, 1, None),
    "left_2_clip": ("i8", "i8", 0, True, 32, 48, 3, 1, 1, 1, "clip"),
})

# name: options of smelt, whether its schedules fuse multiply-adds
TARGETS = {
    "interpret": (("--backend=interpret",), None), "c": (("--backend=c",), None), "llvm": ((), None),
    "llvm_O0": (("-O0",), None), "sse2": (("--cpu=x86-64",), False), "avx2": (("--cpu=x86-64-v3",), True),
    "avx512": (("--cpu=x86-64-v4",), True), "amx_loops": (("--cpu=sapphirerapids", "--backend=interpret"), True),
}


# name, target, the instruction that multiplies bytes there
PROCESSORS = [("alderlake", "x86_64-linux-gnu", "vpdpbusd"), ("znver5", "x86_64-linux-gnu", "vpdpbusd"),
              ("haswell", "x86_64-linux-gnu", "vpmaddwd"), ("nehalem", "x86_64-linux-gnu", "pmaddwd"),
              ("cortex-a55", "aarch64-linux-gnu", "sdot"), ("cortex-x4", "aarch64-linux-gnu", "usdot")]


class Net:
    """A graph of quantized layers that grows node by node, and beside it the bytes that it has to give."""

    def __init__(self, seed, fused):
        self.random = np.random.default_rng(seed)
        self.fused = fused
        self.nodes, self.weights = [], []
        self.least = 11     # different bytes, for the result to say something

    def const(self, array):
        name = f"c{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def node(self, op, inputs, **attributes):
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], **attributes))
        return name

    def quantizer(self, dtype, scale, zero):
        return [self.const(np.float32(scale)), self.const(DTYPE[dtype](zero))]

    def bytes_of(self, dtype, shape):
        low, high = RANGE[dtype]
        return self.random.integers(low, high + 1, shape, DTYPE[dtype])


def saturated(v, dtype):
    return np.clip(v, *RANGE[dtype]).astype(DTYPE[dtype])


def convolve(x, w, stride, pad, group):
    """The sum in 64 bits; x and w without their zero points."""
    x = np.pad(x.astype(np.int64), ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    n, _, height, width = x.shape
    out, per_group, k, _ = w.shape
    rows, columns = (height - k) // stride + 1, (width - k) // stride + 1
    y = np.zeros((n, out, rows, columns), np.int64)
    for g in range(group):
        o = slice(g * out // group, (g + 1) * out // group)
        for i in range(k):
            for j in range(k):
                part = x[:, g * per_group:(g + 1) * per_group, i:i + stride * rows:stride, j:j + stride * columns:stride]
                y[:, o] += np.einsum("nchw,oc->nohw", part, w[o, :, i, j].astype(np.int64))
    return y


def conv_layer(net, x, bytes_in, scale, zero, spec):
    """DequantizeLinear, Conv, activation, QuantizeLinear. (name, bytes, scale, zero) of the result."""
    dtype, w_dtype, w_zero, per_channel, c_in, c_out, k, stride, pad, group, activation = spec
    w = net.bytes_of(w_dtype, (c_out, c_in // group, k, k))
    w_scale = net.random.uniform(0.001, 0.01, c_out if per_channel else ()).astype(np.float32)
    w_zeros = np.full(w_scale.shape, w_zero, DTYPE[w_dtype])
    bias = net.random.integers(-9000, 9000, c_out).astype(np.int32)
    b_scale = (np.float32(scale) * w_scale).astype(np.float32)
    axis = {"axis": 0} if per_channel else {}
    d = net.node("DequantizeLinear", [x] + net.quantizer(dtype, scale, zero))
    dw = net.node("DequantizeLinear", [net.const(w), net.const(w_scale), net.const(w_zeros)], **axis)
    db = net.node("DequantizeLinear", [net.const(bias), net.const(b_scale)], **axis)
    y = net.node("Conv", [d, dw, db], strides=[stride] * 2, pads=[pad] * 4, group=group)
    y_scale = np.float32(0.01 * np.sqrt(c_in // group * k * k) * 2)
    y_zero = {"u8": 100, "i8": -20}[dtype]
    low, high = -np.inf, np.inf
    if activation == "relu":
        y, low = net.node("Relu", [y]), y_zero
    elif activation == "clip":
        y = net.node("Clip", [y, net.const(np.float32(0)), net.const(np.float32(1))])
        low, high = y_zero, np.rint(np.float32(1) / y_scale) + y_zero
    y = net.node("QuantizeLinear", [y] + net.quantizer(dtype, y_scale, y_zero))
    centred = w.astype(np.int64) - w_zero
    total = convolve(bytes_in.astype(np.int64) - int(zero), centred, stride, pad, group)
    total = total + bias.reshape(1, -1, 1, 1)
    ratio = np.broadcast_to(b_scale / y_scale, c_out).astype(np.float32).reshape(1, -1, 1, 1)
    v = np.rint(total.astype(np.float32) * ratio) + np.float32(y_zero)
    return y, saturated(np.clip(v, low, high), dtype), y_scale, y_zero


def input_bytes(net, dtype, shape):
    """A float input and its quantization: (name of the bytes, bytes, scale, zero, the floats)."""
    scale, zero = np.float32(0.02), {"u8": 77, "i8": -5}[dtype]
    x = net.random.uniform(-2.5, 3.5, shape).astype(np.float32)
    q = net.node("QuantizeLinear", ["x"] + net.quantizer(dtype, scale, zero))
    return q, saturated(np.rint(x / scale) + np.float32(zero), dtype), scale, zero, x


def conv_net(spec, fused, is_inner=False, width=9):
    """The layer behind one and, if it is to be inner, in front of one: an output of the model is not blocked."""
    net = Net(7, fused)
    dtype, channels = spec[0], spec[4]
    q, values, scale, zero, x = input_bytes(net, dtype, (1, channels, 11, width))
    first = (dtype, "i8", 0, True, channels, channels, 1, 1, 0, 1, None)  # so that the input of the layer is a result
    q, values, scale, zero = conv_layer(net, q, values, scale, zero, first)
    q, values, scale, zero = conv_layer(net, q, values, scale, zero, spec)
    if is_inner:
        q, values, _, _ = conv_layer(net, q, values, scale, zero, (dtype, "i8", 0, True, spec[5], 24, 1, 1, 0, 1, None))
    return net, {"x": x}, q, values


def product_net(depth, dtype, fused):
    """A matrix product of bytes, with the rest of a block of 64 along the sum."""
    net = Net(13, fused)
    q, values, scale, zero, x = input_bytes(net, dtype, (40, depth))
    w, w_scale = net.bytes_of("i8", (depth, 48)), np.float32(0.004)
    d = net.node("DequantizeLinear", [q] + net.quantizer(dtype, scale, zero))
    dw = net.node("DequantizeLinear", [net.const(w)] + net.quantizer("i8", w_scale, 0))
    y_scale, y_zero = np.float32(0.03 * np.sqrt(depth)), {"u8": 100, "i8": -20}[dtype]
    y = net.node("QuantizeLinear", [net.node("MatMul", [d, dw])] + net.quantizer(dtype, y_scale, y_zero))
    total = (values.astype(np.int64) - int(zero)) @ w.astype(np.int64)
    v = np.rint(total.astype(np.float32) * np.float32(np.float32(scale * w_scale) / y_scale)) + np.float32(y_zero)
    return net, {"x": x}, y, saturated(v, dtype)


def residual_net(dtype, fused, y_scale=1.1):
    """Two branches added and quantized, between layers; the maximum and the product of bytes too."""
    net = Net(11, fused)
    if y_scale < 1e-6:
        net.least = 2    # the largest byte, and the one that stands for 0
    spec = (dtype, "i8", 0, True, 16, 16, 3, 1, 1, 1, "relu")
    q, values, scale, zero, x = input_bytes(net, dtype, (1, 16, 8, 8))
    a = conv_layer(net, q, values, scale, zero, spec)
    b = conv_layer(net, a[0], a[1], a[2], a[3], spec[:-1] + (None,))
    d = [net.node("DequantizeLinear", [t[0]] + net.quantizer(dtype, t[2], t[3])) for t in (a, b)]
    y_scale, y_zero = np.float32(y_scale), {"u8": 3, "i8": -100}[dtype]
    y = net.node("Relu", [net.node("Add", d)])
    y = net.node("QuantizeLinear", [y] + net.quantizer(dtype, y_scale, y_zero))
    ratio = [np.float32(t[2] / y_scale) for t in (a, b)]
    zeros = np.float32(ratio[0] * np.float32(a[3])) + np.float32(ratio[1] * np.float32(b[3]))
    total = np.float32(y_zero) - np.float32(zeros)
    for t, r in ((b, ratio[1]), (a, ratio[0])):
        product = t[1].astype(np.float64) * np.float64(r)
        total = (product + total if fused else product.astype(np.float32) + total).astype(np.float32)
    values = saturated(np.maximum(np.rint(total), y_zero), dtype)
    p = net.node("MaxPool", [net.node("DequantizeLinear", [y] + net.quantizer(dtype, y_scale, y_zero))],
                 kernel_shape=[2, 2], strides=[2, 2])
    p = net.node("QuantizeLinear", [p] + net.quantizer(dtype, y_scale, y_zero))
    pooled = values.reshape(1, 16, 4, 2, 4, 2).max((3, 5))
    return net, {"x": x}, p, pooled


def parts_net(dtype, fused):
    """A product of what many tensors of bytes make side by side."""
    net = Net(17, fused)
    q, values, scale, zero, x = input_bytes(net, dtype, (6, 48))
    step = [net.node("Slice", [q] + [net.const(np.array([v], np.int64)) for v in (4 * i, 4 * i + 4, 1)]) for i in range(12)]
    order = np.arange(48).reshape(12, 4)[::-1].ravel()
    joined = net.node("Concat", step[::-1], axis=1)
    w, w_scale = net.bytes_of("i8", (48, 16)), np.float32(0.004)
    d = net.node("DequantizeLinear", [joined] + net.quantizer(dtype, scale, zero))
    dw = net.node("DequantizeLinear", [net.const(w)] + net.quantizer("i8", w_scale, 0))
    y_scale, y_zero = np.float32(0.2), {"u8": 100, "i8": -20}[dtype]
    y = net.node("QuantizeLinear", [net.node("MatMul", [d, dw])] + net.quantizer(dtype, y_scale, y_zero))
    total = (values[:, order].astype(np.int64) - int(zero)) @ w.astype(np.int64)
    v = np.rint(total.astype(np.float32) * np.float32(np.float32(scale * w_scale) / y_scale)) + np.float32(y_zero)
    return net, {"x": x}, y, saturated(v, dtype)


def table_net(dtype, fused):
    """x * sigmoid(x) with quantization at every step is a function of a byte: as long as it is written out it has the
    same bits, so the judge is the same network on a model input of bytes, one for each value."""
    net = Net(3, fused)
    d = net.node("DequantizeLinear", ["x"] + net.quantizer(dtype, 0.05, 20))
    s = net.node("QuantizeLinear", [net.node("Sigmoid", [d])] + net.quantizer(dtype, 0.003, 0))
    s = net.node("DequantizeLinear", [s] + net.quantizer(dtype, 0.003, 0))
    y = net.node("QuantizeLinear", [net.node("Mul", [d, s])] + net.quantizer(dtype, 0.04, -7 if dtype == "i8" else 9))
    low, high = RANGE[dtype]
    x = np.arange(low, high + 1).astype(DTYPE[dtype]).reshape(16, 16)
    whole = x.astype(np.int32) - 20
    d = (whole.astype(np.float32) * np.float32(0.05)).astype(np.float64)
    q = saturated(np.rint((1 / (1 + np.exp(-d))).astype(np.float32) / np.float32(0.003)), dtype)
    zero, ratio = (-7 if dtype == "i8" else 9), np.float32(np.float32(0.05) * np.float32(0.003)) / np.float32(0.04)
    product = (whole * q.astype(np.int32)).astype(np.float32)
    return net, {"x": x}, y, saturated(np.rint(product * np.float32(ratio) + np.float32(zero)), dtype)


def table_store_net(dtype, fused):
    """x * sigmoid(x) behind a convolution, in front of another one: read from a table in the store."""
    net = Net(13, fused)
    spec = (dtype, "i8", 0, True, 32, 32, 3, 1, 1, 1, None)
    q, values, scale, zero, x = input_bytes(net, dtype, (1, 32, 11, 9))
    q, values, scale, zero = conv_layer(net, q, values, scale, zero, spec)
    d = net.node("DequantizeLinear", [q] + net.quantizer(dtype, scale, zero))
    s = net.node("QuantizeLinear", [net.node("Sigmoid", [d])] + net.quantizer(dtype, 0.003, 0))
    s = net.node("DequantizeLinear", [s] + net.quantizer(dtype, 0.003, 0))
    y_scale, y_zero = np.float32(0.05), (-7 if dtype == "i8" else 9)
    q = net.node("QuantizeLinear", [net.node("Mul", [d, s])] + net.quantizer(dtype, y_scale, y_zero))
    whole = values.astype(np.int32) - zero
    real = (whole.astype(np.float32) * np.float32(scale)).astype(np.float64)
    gate = saturated(np.rint((1 / (1 + np.exp(-real))).astype(np.float32) / np.float32(0.003)), dtype)
    ratio = np.float32(np.float32(scale) * np.float32(0.003)) / y_scale
    product = (whole * gate.astype(np.int32)).astype(np.float32)
    values = saturated(np.rint(product * np.float32(ratio) + np.float32(y_zero)), dtype)
    q, values, _, _ = conv_layer(net, q, values, y_scale, y_zero, spec[:5] + (24, 1, 1, 0, 1, None))
    return net, {"x": x}, q, values


# name: bits, rows of x, block, with zero points; what the kernel of the product has to read
CODES = {
    "codes_2": (2, 1, 32, False, "& 3i32"), "codes_4": (4, 1, 32, False, "& 15i32"),
    "codes_4_zeros": (4, 1, 64, True, "& 15i32"), "codes_4_rows": (4, 5, 32, True, "& 15i32"),
    "codes_8": (8, 1, 32, False, "u8[1048576]"),
    "codes_4_bytes": (4, 1, 32, False, "dot4_us(", 4), "codes_4_zeros_bytes": (4, 3, 128, True, "dot4_us(", 4),
    "codes_2_bytes": (2, 1, 16, True, "dot4_us(", 4), "codes_8_bytes": (8, 2, 32, True, "dot4_us(", 4),
    "codes_4_rows_bytes": (4, 11, 32, False, "dot4_us(", 4), "codes_4_free_bytes": (4, 7, 32, True, "dot4_us(", 4, "n"),
}


def codes_model(bits, rows, block, has_zeros, level=0, free=None):
    """A product with packed weights of a few bits: the model, its input, and the product in f64. level 4: of x in bytes; free: the rows'
    number has this name."""
    random, n, k = np.random.default_rng(5), 1024, 1024
    q = random.integers(0, 1 << bits, (n, k // block, block))
    scale = random.uniform(0.01, 0.02, (n, k // block)).astype(np.float32)
    zero = random.integers(0, 1 << bits, (n, k // block)) if has_zeros else np.full((n, k // block), 1 << bits - 1)

    def pack(codes):
        codes = codes.reshape(*codes.shape[:-1], -1, 8 // bits)
        return (codes << np.arange(0, 8, bits)).sum(-1).astype(np.uint8)

    x = random.uniform(-1, 1, (rows, k)).astype(np.float32)
    factor = x.astype(np.float64)
    if level == 4:
        runs = x.reshape(rows, -1, block)
        most = np.abs(runs).max(-1, keepdims=True)
        factor = (np.rint(runs * (np.float32(127) / most)).astype(np.float64) * (most / np.float32(127))).reshape(rows, k)
    want = factor @ ((q - zero[..., None]) * scale[..., None].astype(np.float64)).reshape(n, k).T
    weights = [numpy_helper.from_array(pack(q), "q"), numpy_helper.from_array(scale.ravel(), "s")]
    names = ["x", "q", "s"]
    if has_zeros:
        weights.append(numpy_helper.from_array(pack(zero).ravel(), "z"))
        names.append("z")
    node = helper.make_node("MatMulNBits", names, ["y"], domain="com.microsoft", K=k, N=n, bits=bits, block_size=block,
                            accuracy_level=level)
    graph = helper.make_graph([node], "codes", [helper.make_tensor_value_info("x", TensorProto.FLOAT, (free or rows, k))],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, (free or rows, n))], weights)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8), {"x": x}, want


# name: type of weights in blocks, their length, with zero points, rows of x (a name: free), what the kernel of the product has to read
BLOCKS = {
    "blocks_i4": ("INT4", 32, False, 1, "& 15i32"), "blocks_u4_zeros": ("UINT4", 64, True, 4, "& 15i32"),
    "blocks_i4_zeros": ("INT4", 16, True, 7, "& 15i32"), "blocks_i4_rows": ("INT4", 32, False, 40, "& 15i32"),
    "blocks_i4_free": ("INT4", 128, True, "n", "& 15i32"), "blocks_i8": ("INT8", 32, True, 2, "i8[262144]"),
    "blocks_u8_free": ("UINT8", 64, False, "n", "u8[262144]"), "blocks_i4_odd": ("INT4", 25, True, 3, "i8["),
}


def blocks_model(kind, block, has_zeros, rows, _):
    """A product with weights that DequantizeLinear makes of blocks: the model, its input, and the product in f64."""
    random, k, n = np.random.default_rng(6), 800 if block == 25 else 1024, 256
    low, high = {"INT4": (-8, 7), "UINT4": (0, 15), "INT8": (-128, 127), "UINT8": (0, 255)}[kind]
    q, zero = (random.integers(low, high + 1, (size, n)) for size in (k, k // block))
    scale = random.uniform(0.01, 0.02, (k // block, n)).astype(np.float32)
    x = random.uniform(-1, 1, (7 if rows == "n" else rows, k)).astype(np.float32)
    whole = q - np.repeat(zero * has_zeros, block, 0)
    want = x.astype(np.float64) @ (whole * np.repeat(scale.astype(np.float64), block, 0))
    weights = [helper.make_tensor("q", getattr(TensorProto, kind), q.shape, q.ravel()), numpy_helper.from_array(scale, "s")]
    if has_zeros:
        weights.append(helper.make_tensor("z", getattr(TensorProto, kind), zero.shape, zero.ravel()))
    nodes = [helper.make_node("DequantizeLinear", [w.name for w in weights], ["w"], axis=0, block_size=block),
             helper.make_node("MatMul", ["x", "w"], ["y"])]
    graph = helper.make_graph(nodes, "blocks", [helper.make_tensor_value_info("x", TensorProto.FLOAT, (rows, k))],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, (rows, n))], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), {"x": x}, want


def save(ctx, net, inputs, output, values, free=()):
    """free: axes of input and output whose length the model leaves open."""
    def dims(shape):
        return [f"d{axis}" if axis in free else n for axis, n in enumerate(shape)]

    kinds = {np.dtype(np.float32): TensorProto.FLOAT, np.dtype(np.uint8): TensorProto.UINT8,
             np.dtype(np.int8): TensorProto.INT8}
    graph = helper.make_graph(
        net.nodes, "quantized", [helper.make_tensor_value_info("x", kinds[inputs["x"].dtype], dims(inputs["x"].shape))],
        [helper.make_tensor_value_info(output, kinds[values.dtype], [None] * values.ndim if free else values.shape)], net.weights)
    path = os.path.join(ctx.new_dir(), "net.onnx")
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def makers():
    for name, spec in CONVS.items():
        yield name, lambda fused, spec=spec, is_inner=name.startswith(("tiles", "groups_", "taps", "left_")), \
            width=WIDTHS.get(name, 9): conv_net(spec, fused, is_inner, width)
    for depth in (96, 80, 161):
        yield f"product_of_{depth}", lambda fused, depth=depth: product_net(depth, "u8" if depth % 2 == 0 else "i8", fused)
    for dtype in RANGE:
        yield f"parts_{dtype}", lambda fused, dtype=dtype: parts_net(dtype, fused)
        yield f"residual_{dtype}", lambda fused, dtype=dtype: residual_net(dtype, fused)
        # the quotient is more than an i32 holds
        yield f"residual_far_{dtype}", lambda fused, dtype=dtype: residual_net(dtype, fused, 1e-10)
        yield f"table_store_{dtype}", lambda fused, dtype=dtype: table_store_net(dtype, fused)
        yield f"table_{dtype}", lambda fused, dtype=dtype: table_net(dtype, fused)


def judge(got, want, least=11):
    differ = got.astype(int) != want.astype(int)
    check(got.shape == want.shape and not differ.any(),
          f"{differ.sum()} of {want.size} bytes differ, by {np.abs(got.astype(int) - want.astype(int)).max()} at most")
    check(len(np.unique(want)) >= least, "the expected bytes say too little")


# Axes that are free; of a batch that is free the map is known, and borders are what is read of its halo.
FREE = {"batch": (0,), "map": (0, 2, 3)}


def cases(ctx):
    def here(make, target, free=()):
        def run():
            options, fused = TARGETS[target]
            net, inputs, output, want = make(True if fused is None else fused)
            path = save(ctx, net, inputs, output, want, free)
            judge(smelt_run(ctx, path, inputs, *options)[output], want, net.least)
        return run

    def elsewhere(make):
        def run():
            ctx.tool("aarch64-linux-gnu-gcc")
            ctx.tool("qemu-aarch64-static")
            net, inputs, output, want = make(True)
            path = save(ctx, net, inputs, output, want)
            folder, archive = ctx.compile(path, "--target=aarch64-linux-gnu", "--features=+dotprod", "--name", "net")
            program = os.path.join(folder, "call")
            ctx.run("aarch64-linux-gnu-gcc", "-static", "-std=c11", "-O2", f"-I{ctx.include}", "-I", folder,
                    "-DMODEL=net_model", ctx.path("tests", "library", "call.c"), archive, "-lm", "-o", program)
            judge(call_program(ctx, program, path, inputs, {output: want},
                               ("qemu-aarch64-static", "-cpu", "max"))[output], want, net.least)
        return run

    def tiles(name):
        def run():
            net, inputs, output, want = conv_net(CONVS[name], True, True)
            path = save(ctx, net, inputs, output, want)
            asm = ctx.smelt("compile", path, "--emit=asm", "--target=x86_64-linux-gnu", "--cpu=sapphirerapids", "-o", "-").stdout
            check("tdpb" in asm, "no product of tiles")
        return run

    def processor(cpu, triple, word):
        def run():
            net, inputs, output, want = conv_net(CONVS["pointwise"], True)
            path = save(ctx, net, inputs, output, want)
            asm = ctx.smelt("compile", path, "--emit=asm", f"--target={triple}", f"--cpu={cpu}", "-o", "-").stdout
            check(word in asm, f"no {word} for {cpu}")
        return run

    def rests(depth):
        def run():
            net, inputs, output, want = product_net(depth, "u8", True)
            path = save(ctx, net, inputs, output, want)
            asm = ctx.smelt("compile", path, "--emit=asm", "--target=x86_64-linux-gnu", "--cpu=sapphirerapids", "-o", "-").stdout
            check("tdpb" in asm, "no product of tiles")
        return run

    def codes(name, target):
        def run():
            if name in BLOCKS:
                reads = BLOCKS[name][-1]
                model, inputs, want = blocks_model(*BLOCKS[name])
            else:
                bits, rows, block, has_zeros, reads, *level = CODES[name]
                model, inputs, want = codes_model(bits, rows, block, has_zeros, *level)
            path = os.path.join(ctx.new_dir(), "codes.onnx")
            onnx.save(model, path)
            options = TARGETS[target][0]
            got = smelt_run(ctx, path, inputs, *options)["y"]
            error = np.abs(got - want).max() / np.abs(want).max()
            check(error < 5e-6, f"differs by {error} of the largest value")
            text = ctx.smelt("compile", path, "--emit=kernel", "--cpu=cascadelake", "-o", "-").stdout
            check(reads in text, f"no {reads} in the kernel")
        return run

    def packs():
        net, inputs, output, want = table_store_net("u8", True)
        path = save(ctx, net, inputs, output, want)
        asm = ctx.smelt("compile", path, "--emit=asm", "--target=x86_64-linux-gnu", "--cpu=icelake-server", "-o", "-").stdout
        check("vpackuswb" in asm, "bytes are not packed")
        check("vpermi2b" in asm or "vpermt2b" in asm, "the table is not permuted")

    def counts():
        """Work is counted in multiply-adds, however many of them an instruction does; what encodes bytes adds little."""
        net, inputs, output, want = conv_net(CONVS["pointwise"], True, True)
        path = save(ctx, net, inputs, output, want)
        direct, counted = set(), []
        for cpu in ("x86-64", "haswell", "cascadelake", "znver5"):
            info = json.loads(ctx.smelt("info", path, "--json", "--target=x86_64-linux-gnu", f"--cpu={cpu}").stdout)
            direct.add(info["direct_multiply-adds"])
            counted.append(info["multiply-adds"])
        check(len(direct) == 1 and all(1 <= n / min(direct) < 1.4 for n in counted), f"{direct}: {counted}")

    def groups(name):
        def run():
            net, inputs, output, want = conv_net(CONVS[name], True, True)
            path = save(ctx, net, inputs, output, want)
            asm = ctx.smelt("compile", path, "--emit=kernel", "--cpu=cascadelake", "-o", "-").stdout
            check(asm.count("dot4_us(") >= 3, "a layer without dot products")
        return run

    return [Case("packs", packs), Case("counts", counts), Case("rests_96", rests(96)), Case("rests_161", rests(161))] + [Case(f"processor_{cpu}", processor(cpu, *rest)) for cpu, *rest in PROCESSORS] + [Case(f"{name}_tiles", tiles(name)) for name in CONVS if name.startswith("tiles")] + [
        Case(f"{name}_{t}", codes(name, t), "cpu") for name in (*CODES, *BLOCKS) for t in TARGETS] + [
        Case(f"{name}_dots", groups(name)) for name in CONVS if name.startswith(("groups", "taps"))] + [
        Case(f"{name}_{t}", here(make, t), "cpu") for name, make in makers() for t in TARGETS] + [
        Case(f"{name}_free_{axes}_{t}", here(make, t, FREE[axes]), "cpu")
        for name, make in makers() if name in CONVS for axes in FREE for t in ("interpret", "llvm", "avx2")] + [
        Case(f"{name}_aarch64", elsewhere(make), "cpu") for name, make in makers()]
