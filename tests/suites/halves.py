"""Nets in float16 and bfloat16, whose tensors the compiler keeps in float32 where they are read often (passes/widen_halves.c):
every operator's result is rounded to 16 bits once, whatever is fused, widened or laid out. All numbers are small
integers, so that sums are exact in any order and the roundings, which start at 2048 and 256, decide every bit; numpy judges."""
import os

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper

from harness import Case, check
from model_files import smelt_run

DTYPES = {"f16": (TensorProto.FLOAT16, np.float16), "bf16": (TensorProto.BFLOAT16, ml_dtypes.bfloat16)}

# options of a run; code of another CPU is what the interpreter and C run, too
WAYS = {"llvm": (), "c": ("--backend=c",), "interpret": ("--backend=interpret",), "haswell": ("--cpu=x86-64-v3", "--backend=c"),
        "no_conversions": ("--cpu=x86-64-v2",), "matrix_unit": ("--cpu=sapphirerapids", "--backend=c"),
        "not_widened": ("--no-pass=widen_halves",)}


class Net:
    """Nodes, and beside each its result as whole numbers in float64."""

    def __init__(self, dtype, shape, most):
        self.type, self.numpy = DTYPES[dtype]
        self.random = np.random.default_rng(7)
        self.nodes, self.weights, self.value = [], [], {}
        self.x = self.random.integers(-most, most + 1, shape).astype(np.float32)
        self.add("Cast", ["x"], self.x.astype(np.float64), to=self.type)

    def add(self, op, inputs, result, **attributes):
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], **attributes))
        self.value[name] = result.astype(np.float32).astype(self.numpy).astype(np.float64)
        return name

    def constant(self, *shape):
        array = self.random.integers(-1, 2, shape)
        name = f"w{len(self.weights)}"
        raw = array.astype(self.numpy).tobytes()
        self.weights.append(helper.make_tensor(name, self.type, shape, raw, raw=True))
        return name, array.astype(np.float64)

    def conv(self, x, channels, window, stride=1, group=1):
        v, pad = self.value[x], window // 2
        name, w = self.constant(channels, v.shape[1] // group, window, window)
        v = np.pad(v, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
        rows, columns = ((n - window) // stride + 1 for n in v.shape[2:])
        parts = []
        for g in range(group):
            a, b = (np.split(t, group, axis)[g] for t, axis in ((v, 1), (w, 0)))
            parts.append(sum(np.einsum("nchw,oc->nohw", a[:, :, i:i + stride * rows:stride, j:j + stride * columns:stride]
                                       [:, :, :rows, :columns], b[:, :, i, j])
                             for i in range(window) for j in range(window)))
        return self.add("Conv", [x, name], np.concatenate(parts, 1), strides=[stride] * 2, pads=[pad] * 4, group=group)

    def pool(self, op, x, window, stride, pad):
        v = np.pad(self.value[x], ((0, 0), (0, 0), (pad, pad), (pad, pad)), constant_values=-np.inf if pad else 0)
        rows, columns = ((n - window) // stride + 1 for n in v.shape[2:])
        all_taps = np.stack([v[:, :, i:i + stride * rows:stride, j:j + stride * columns:stride][:, :, :rows, :columns]
                             for i in range(window) for j in range(window)])
        result = all_taps.max(0) if op == "MaxPool" else all_taps.mean(0)
        return self.add(op, [x], result, kernel_shape=[window] * 2, strides=[stride] * 2, pads=[pad] * 4)

    def relu(self, x):
        return self.add("Relu", [x], np.maximum(self.value[x], 0))

    def sum(self, a, b):
        return self.add("Add", [a, b], self.value[a] + self.value[b])

    def matmul(self, a, columns):
        name, w = self.constant(self.value[a].shape[-1], columns)
        return self.add("MatMul", [a, name], self.value[a] @ w)


def residual(n):
    a = n.relu(n.conv("t0", 32, 3))
    b = n.relu(n.sum(n.conv(n.conv(a, 8, 1), 32, 3), a))
    return n.conv(b, 48, 1, stride=2)


def depthwise(n):
    a = n.relu(n.conv("t0", 40, 1))
    return n.conv(n.conv(a, 40, 3, stride=2, group=40), 24, 1)


def grouped(n):
    return n.pool("MaxPool", n.relu(n.conv(n.conv("t0", 32, 3, group=4), 64, 3, group=2)), 3, 2, 1)


def branches(n):
    all_of_it = [n.conv("t0", 32, 1), n.conv("t0", 16, 3), n.pool("MaxPool", "t0", 3, 1, 1)]
    joined = n.add("Concat", all_of_it, np.concatenate([n.value[t] for t in all_of_it], 1), axis=1)
    return n.pool("AveragePool", n.conv(joined, 20, 1), 2, 2, 0)


def large_weights(n):
    return n.conv(n.conv("t0", 64, 1), 96, 3)


def products(n):
    a = n.relu(n.matmul("t0", 80))
    b = n.matmul(a, 33)
    turned = n.add("Transpose", [b], n.value[b].transpose(0, 1, 3, 2), perm=[0, 1, 3, 2])
    c = n.matmul("t0", 33)
    return n.add("MatMul", [c, turned], n.value[c] @ n.value[turned])


# and the largest number in the input
NETS = {residual: 8, depthwise: 100, grouped: 24, branches: 32, large_weights: 16, products: 8}


def build(ctx, make, dtype):
    net = Net(dtype, (1, 16, 18, 20), NETS[make])
    last = make(net)
    want = net.value[last]
    check(np.isfinite(want).all(), "the net overflows")
    net.nodes.append(helper.make_node("Cast", [last], ["y"], to=TensorProto.FLOAT))
    ends = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, v.shape)] for name, v in (("x", net.x), ("y", want))]
    path = os.path.join(ctx.new_dir(), "net.onnx")
    graph = helper.make_graph(net.nodes, "halves", *ends, net.weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10), path)
    return path, net, want


def cases(ctx):
    def net_by(make, dtype, options):
        def run():
            path, net, want = build(ctx, make, dtype)
            got = smelt_run(ctx, path, {"x": net.x}, "--no-winograd", *options)["y"]
            wrong = int((got != want).sum())
            check(got.shape == want.shape and not wrong, f"{wrong} of {want.size} elements differ")
        return run

    def roundings_count():
        for make in NETS:
            for dtype in DTYPES:
                _, net, _ = build(ctx, make, dtype)
                step = 2048 if dtype == "f16" else 256
                most = max(abs(v).max() for v in net.value.values())
                check(most > step, f"{make.__name__}: numbers up to {most:g} are never rounded in {dtype}")

    def widened_where_read_often():
        path, _, _ = build(ctx, residual, "f16")
        text = ctx.smelt(path, "--emit=program", "-o", "-", "--cpu=x86-64-v3", "--target=x86_64-linux-gnu").stdout
        halves = [line for line in text.splitlines() if ": f16[" in line and "contract" in line]
        check(not halves and "f32(f16(" in text, f"stages in f16: {halves}")

    made = [Case("roundings_count", roundings_count), Case("widened_where_read_often", widened_where_read_often)]
    made += [Case(f"{make.__name__}.{dtype}.{way}", net_by(make, dtype, options), "cpu")
             for make in NETS for dtype in DTYPES for way, options in WAYS.items()]
    return made
