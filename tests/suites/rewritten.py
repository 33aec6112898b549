"""Models as onnxruntime's optimizer writes them back (SessionOptions.optimized_model_filepath), at each of its levels: they
mean what they meant before. The highest level lays convolutions out for the vectors of the machine it runs on
(com.microsoft.nchwc), in blocks of channels whose size the file tells only by the numbers of channels it has."""
import os
import platform

import numpy as np
import onnx

from harness import Case, Skip, check
from model_files import smelt_run
from suites.ops import BACKENDS
from suites.symbolic_models import FLOAT, INT, Net, bert_model

BLOCKED = "com.microsoft.nchwc"
LEVELS = {"basic": "ORT_ENABLE_BASIC", "extended": "ORT_ENABLE_EXTENDED", "all": "ORT_ENABLE_ALL"}
WARNING = "weights are read as blocks of"
IMAGE = [("x", FLOAT, [2, 3, 13, 14])]


def pools(channels):
    n = Net(1)
    x = n.op("MaxPool", n.conv("x", 3, 16, 3), kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)
    y = n.op("AveragePool", n.conv(x, 16, channels, 3), kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    y = n.op("Relu", n.op("Add", y, n.conv(y, channels, channels, 1, relu=False)))
    y = n.conv(y, channels, 32, 3)
    y = n.op("Concat", y, n.conv(y, 32, 16, 1), axis=1)
    return n.model("pools", IMAGE, n.op("Sub", n.op("GlobalMaxPool", y), n.op("GlobalAveragePool", y)))


def groups():
    """Depthwise, and groups of whole blocks."""
    n = Net(2)
    x = n.conv("x", 3, 32, 3, 2)
    x = n.op("Conv", x, n.weight(32, 1, 3, 3), n.weight(32), group=32, pads=[1, 1, 1, 1])
    x = n.op("Conv", n.op("Clip", x, n.const(np.float32(0)), n.const(np.float32(6))), n.weight(64, 16, 3, 3), group=2)
    x = n.op("LeakyRelu", x, alpha=.2)
    y = n.op("HardSigmoid", n.conv(n.op("GlobalAveragePool", x), 64, 64, 1, relu=False), alpha=.3, beta=.4)
    return n.model("groups", IMAGE, n.op("Mul", x, y))


def enlarged():
    n = Net(3)
    x = n.conv("x", 3, 16, 3)
    scales = n.const(np.array([1, 1, 2, 3], np.float32))
    x = n.op("Resize", x, "", scales, mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    x = n.op("Resize", n.conv(x, 16, 20, 3), "", scales, mode="linear", coordinate_transformation_mode="half_pixel")
    return n.model("enlarged", IMAGE, n.conv(x, 20, 8, 1))


def channels_last():
    n = Net(4)
    x = n.op("Transpose", "x", perm=[0, 3, 1, 2])
    x = n.op("Transpose", n.conv(n.conv(x, 20, 24, 3), 24, 16, 3), perm=[0, 2, 3, 1])
    return n.model("channels_last", [("x", FLOAT, [2, 9, 8, 20])], x)


def reshaped():
    """The channels before the convolution are known after float arithmetic, which importing does not do."""
    n = Net(5)
    batch, length = n.shape_of("x")
    half = n.op("Floor", n.op("Mul", n.op("Cast", length, to=FLOAT), n.const(np.array([.5], np.float32))))
    shape = n.op("Concat", batch, n.op("Cast", half, to=INT), n.const(np.array([2, 1], np.int64)), axis=0)
    return n.model("reshaped", [("x", FLOAT, ["batch", 40])], n.conv(n.op("Reshape", "x", shape), 20, 24, 1))


NETS = {"pools": lambda: pools(24), "whole_blocks": lambda: pools(32), "groups": groups, "enlarged": enlarged,
        "channels_last": channels_last, "reshaped": reshaped, "bert": lambda: bert_model(32, 4, 2, 100, 64)}


def feeds(name, model):
    rng = np.random.default_rng(len(name))
    if name == "bert":
        return {"ids": rng.integers(0, 100, (2, 9)), "mask": (np.arange(9) < [[9], [5]]).astype(np.int64)}
    dims = [d.dim_value or 3 for d in model.graph.input[0].type.tensor_type.shape.dim]
    return {"x": rng.standard_normal(dims).astype(np.float32)}


def rewritten(ctx, name, level):
    """(path of the model that onnxruntime wrote, inputs, the answers of the one it read)"""
    import onnxruntime
    onnxruntime.set_default_logger_severity(4)
    model = NETS[name]()
    path = os.path.join(ctx.new_dir(), "rewritten.onnx")
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, LEVELS[level])
    options.optimized_model_filepath = path
    providers = ["CPUExecutionProvider"]
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=providers)
    plain = onnxruntime.SessionOptions()
    plain.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    inputs = feeds(name, model)
    return path, inputs, onnxruntime.InferenceSession(model.SerializeToString(), plain, providers=providers).run(None, inputs)


def agrees(ctx, name, level, *options):
    path, inputs, wanted = rewritten(ctx, name, level)
    got = smelt_run(ctx, path, inputs, *options)["y"]
    check(got.shape == wanted[0].shape, f"shape {got.shape}, expected {wanted[0].shape}")
    worst = np.abs(got - wanted[0]).max() / np.abs(wanted[0]).max()
    check(worst < 1e-5, f"differs by {worst:.2g} of the largest value")


def blocked_here():
    if platform.machine().lower() not in ("x86_64", "amd64"):
        raise Skip("onnxruntime lays nothing out in blocks here")


def operators(ctx):
    """The nets above have every operator of the domain."""
    blocked_here()
    words = [line.split() for line in ctx.smelt("--list=ops").stdout.splitlines()]
    known = {w[1] for w in words if w[:1] == [BLOCKED]}
    found = set()
    for name in NETS:
        found |= {n.op_type for n in onnx.load(rewritten(ctx, name, "all")[0]).graph.node if n.domain == BLOCKED}
    check(known == found, f"not in any net {sorted(known - found)}, not known {sorted(found - known)}")
    return f"{len(known)} operators"


def other_machine(ctx, cpu):
    """Blocks of a file that shows their size are that for every target."""
    blocked_here()
    agrees(ctx, "pools", "all", "--backend=interpret", f"--cpu={cpu}")


def warned(ctx):
    """Where both sizes fit, a message says which one is taken."""
    blocked_here()
    for name, expected in (("whole_blocks", True), ("pools", False)):
        path = rewritten(ctx, name, "all")[0]
        done = ctx.smelt("compile", path, "-o", os.path.join(ctx.new_dir(), "x.a"))
        check((WARNING in done.stderr) == expected, f"{name}: stderr is {done.stderr!r}")


def cases(ctx):
    good = [Case(f"{name}.{level}.{backend}", lambda n=name, v=level, b=backend: agrees(ctx, n, v, f"--backend={b}"), label)
            for name in NETS for level in LEVELS for backend, label in BACKENDS.items()]
    return good + [Case("operators", lambda: operators(ctx)), Case("warned", lambda: warned(ctx))] + [
        Case(f"blocks_for.{cpu}", lambda c=cpu: other_machine(ctx, c)) for cpu in ("haswell", "x86-64-v4")]
