"""Chains of convolutions and pools that run a few rows at a time (roll_stages): judged by onnxruntime, and by the same model
without the pass, which has to give the same bytes.

The machine is one with a small second level of cache, for which tensors of some hundred KB are large. The interpreter,
LLVM and C have to give the same bytes, on one, two and seven threads.
"""
import os
import platform

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from harness import Case, check
from model_files import smelt_run
from suites.blocks import judge

CPU = {"x86_64": "x86-64-v3", "aarch64": "cortex-a76"}.get(platform.machine())


class Chain:
    """A model that grows from its input `x`."""

    def __init__(self, shape):
        self.rng = np.random.default_rng(11)
        self.shape, self.nodes, self.weights, self.last = shape, [], [], "x"

    def add(self, op, *inputs, **attributes):
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        self.last = name
        return name

    def constant(self, *shape):
        name = f"w{len(self.weights)}"
        values = (self.rng.integers(-8, 9, shape) / 16).astype(np.float32)
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def conv(self, n_in, n_out, size=1, group=1, relu=True, **attributes):
        weights, bias = self.constant(n_out, n_in // group, size, size), self.constant(n_out)
        attributes.setdefault("pads", [size // 2] * 4)
        self.add("Conv", self.last, weights, bias, group=group, **attributes)
        return self.add("Relu", self.last) if relu else self.last

    def depthwise(self, n, size=3, **attributes):
        return self.conv(n, n, size, group=n, **attributes)

    def model(self):
        shape = [d if isinstance(d, str) else int(d) for d in self.shape]
        graph = helper.make_graph(
            self.nodes, "rolling", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info(self.last, TensorProto.FLOAT, None)], self.weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def inverted(stride=1, size=3, **attributes):
    c = Chain((1, 4, 72, 40))
    c.conv(4, 64)
    c.depthwise(64, size, strides=[stride, stride], **attributes)
    c.conv(64, 16, relu=False)
    return c


def residual():
    c = Chain((1, 3, 60, 56))
    c.conv(3, 16, 3)
    first = c.last
    c.conv(16, 64)
    c.depthwise(64)
    c.conv(64, 16, relu=False)
    c.add("Add", first, c.last)
    c.conv(16, 64)
    c.depthwise(64, strides=[2, 2])
    return c


def pooled():
    c = Chain((1, 3, 150, 90))
    c.conv(3, 64, strides=[2, 2])
    c.add("MaxPool", c.last, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    c.conv(64, 16)
    return c


def averaged():
    c = inverted()
    c.conv(16, 64)
    c.add("AveragePool", c.last, kernel_shape=[2, 3], strides=[1, 1], pads=[0, 1, 1, 1])
    return c


def batched(n):
    c = inverted()
    c.shape = (n,) + c.shape[1:]
    return c


def gated():
    """All of the depthwise convolution's result is needed twice: by the mean, and by what the mean scales."""
    c = Chain((1, 4, 72, 40))
    c.conv(4, 64)
    wide = c.depthwise(64, strides=[2, 2])
    c.add("GlobalAveragePool", wide)
    c.conv(64, 64)
    c.add("Mul", wide, c.last)
    c.conv(64, 16)
    return c


def two_readers():
    """Two readers with windows of different height, which then meet."""
    c = Chain((1, 4, 90, 40))
    start = c.conv(4, 64)
    tall = c.add("MaxPool", start, kernel_shape=[5, 3], strides=[2, 2], pads=[2, 1, 2, 1])
    short = c.add("AveragePool", start, kernel_shape=[1, 2], strides=[2, 2], pads=[0, 0, 0, 0])
    c.add("Add", tall, short)
    c.conv(64, 16)
    return c


MODELS = {
    "expand_depthwise_project": (inverted(), ()),
    "stride_2": (inverted(2), ()),
    "five_taps_stride_2": (inverted(2, 5), ()),
    "dilated": (inverted(2, 3, dilations=[3, 2], pads=[3, 2, 3, 2]), ()),
    "no_border": (inverted(1, 3, pads=[0, 0, 0, 0]), ()),
    "uneven_border": (inverted(2, 3, pads=[0, 2, 1, 0]), ()),
    "residual": (residual(), ()),
    "max_pool": (pooled(), ()),
    "average_pool": (averaged(), ()),
    "batch_3": (batched(3), (3,)),
    "symbolic_batch": (batched("n"), (2, 1, 5)),
    "gated": (gated(), ()),
    "two_readers": (two_readers(), ()),
}
SUMS = ("gated",)   # sums over all rows are cut in two for rolling (passes/roll_sums.c), and rounded otherwise
RUNS = (("llvm", 2), ("llvm", 7), ("c", 1), ("interpret", 1))


def cases(ctx):
    def chain(name):
        def run():
            grown, batches = MODELS[name]
            model = grown.model()
            path = os.path.join(ctx.new_dir(), name + ".onnx")
            onnx.save(model, path)
            cpu = [f"--cpu={CPU}"] if CPU else []
            said = ctx.smelt("compile", path, "--emit=program", "-o", os.devnull, "--trace=roll_stages", *cpu, expect=0)
            check(not CPU or "rows at a time" in said.stderr, "no stages roll")
            rest = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim][1:]
            for n in batches or (1,):
                values = np.random.default_rng(3).standard_normal([n] + rest).astype(np.float32)
                feeds = {"x": values}
                first = smelt_run(ctx, path, feeds, "--backend=llvm", "--threads=1", *cpu)
                for key, want in judge(path, feeds).items():
                    check(np.allclose(first[key], want, rtol=1e-4, atol=1e-4), f"{key} is {first[key]}, expected {want}")
                apart = smelt_run(ctx, path, feeds, "--backend=llvm", "--threads=1", "--no-pass=roll_stages", *cpu)
                for key in first:
                    check(name in SUMS or apart[key].tobytes() == first[key].tobytes(),
                          f"batch {n}: {key} differs from the stages apart")
                for backend, threads in RUNS:
                    got = smelt_run(ctx, path, feeds, f"--backend={backend}", f"--threads={threads}", *cpu)
                    for key in first:
                        check(got[key].tobytes() == first[key].tobytes(),
                              f"batch {n}: {key} differs with {backend} on {threads} threads")
        return run

    return [Case(name, chain(name), "cpu") for name in MODELS]
