"""Winograd's filtering: convolutions of 3x3 or 5x5 taps, dilated or not, of volumes too, and of signals with any number of taps, stride and
dilation, between two pointwise ones, of sizes that make the compiler choose F(4x4) or F(2x2) or a line's parts (which its trace says), with
tiles that stick out, channels that fill no vector, and what may follow in the store.
onnxruntime judges; backends, -O and threads give the same bits; --no-winograd leaves the filtering out."""
import os

import numpy as np
import onnx
from onnx import TensorProto as T
from onnx import helper, numpy_helper

from compare import relative_difference
from harness import Case, check
from model_files import call_program, smelt_run
from suites.bits import RUNS, same_bytes
from suites.cross import TARGETS

BAR = 4e-6          # max difference over max reference: twice what was measured
CPUS = ("x86-64", "x86-64-v3", "x86-64-v4")

# name: expected filter, batch, channels in and out, height and width, pads, what follows the convolution
NETS = {
    "even": ("w4", 1, 64, 64, 16, 16, [1, 1, 1, 1], "relu"),
    "ragged": ("w4", 2, 40, 56, 23, 18, [1, 1, 1, 1], "sum"),
    "valid": ("w4", 1, 48, 32, 19, 21, [0, 0, 0, 0], "relu"),
    "lopsided": ("w4", 1, 64, 96, 20, 17, [2, 0, 1, 2], "silu"),
    "strips": ("w4", 1, 32, 32, 60, 61, [1, 1, 1, 1], "none"),
    "small": ("w2", 1, 128, 128, 6, 6, [1, 1, 1, 1], "relu"),
    "small_ragged": ("w2", 3, 104, 136, 5, 6, [1, 1, 1, 1], "sum"),
    "five_taps": ("w2k5", 1, 40, 56, 15, 17, [2, 2, 2, 2], "sum"),
    "volume": ("w4", 2, 32, 48, 14, 17, [1, 1, 1, 1], "sum"),
    "planes": ("w4", 1, 48, 40, 13, 18, [1, 1, 1, 1], "relu"),
    "free": ("w4", 2, 40, 48, 10, 15, [1, 1, 1, 1], "sum"),
    "free_batch": ("w4", 5, 64, 80, 12, 12, [1, 1, 1, 1], "relu"),
    "free_volume": ("w4", 2, 32, 32, 13, 9, [1, 1, 1, 1], "relu"),
    "deep_steps": ("w4", 1, 64, 64, 16, 16, [1, 1, 1, 1], "none"),
    "alone": ("w4", 2, 32, 56, 17, 22, [1, 1, 1, 1], "relu"),
    "apart": ("w4d2", 2, 64, 48, 16, 17, [2, 2, 2, 2], "sum"),
    "apart_wide": ("w4d3x2", 1, 64, 64, 12, 11, [1, 3, 4, 2], "silu"),
    "apart_far": ("w4d12", 1, 48, 64, 47, 29, [12, 12, 12, 12], "relu"),
    "apart_few": ("w2d4", 1, 72, 64, 8, 11, [4, 4, 4, 4], "sum"),
    "apart_valid": ("w4d4", 1, 48, 40, 33, 31, [0, 0, 0, 0], "relu"),
    "apart_five": ("w2k5d3", 1, 40, 56, 25, 19, [6, 5, 4, 6], "silu"),
    "apart_volume": ("w4d2", 1, 32, 48, 17, 16, [2, 2, 2, 2], "sum"),
    "apart_free": ("w4d2", 2, 40, 48, 11, 15, [2, 2, 2, 2], "sum"),
    "apart_alone": ("w4d4", 1, 32, 56, 30, 37, [4, 3, 5, 4], "relu"),
}

# Signals, name: expected filter, batch, channels in and out, length, taps, stride, dilation, pads, what follows, what is free.
# "turned" has channels last behind it, "wide" has parts of unlike length, "strided" a product less where a part is short, "apart" both steps, "last" ends before the signal does; "far"
# has all patches first, in memory of the size that the call has.
LINES = {
    "line": ("w4l3", 1, 64, 64, 150, 3, 1, 1, [1, 1], "relu", ""),
    "line_wide": ("w3l4", 2, 48, 56, 131, 7, 1, 1, [3, 3], "sum", ""),
    "line_dilated": ("w4l3", 1, 64, 64, 211, 3, 1, 5, [5, 5], "silu", ""),
    "line_both": ("w3l4", 1, 32, 64, 187, 11, 1, 3, [15, 15], "relu", ""),
    "line_strided": ("w4l3", 1, 96, 64, 401, 5, 2, 1, [0, 0], "relu", ""),
    "line_last": ("w5l2", 2, 96, 96, 1002, 8, 4, 1, [2, 1], "sum", ""),
    "line_apart": ("w4l3", 1, 64, 64, 400, 8, 3, 2, [3, 4], "relu", ""),
    "line_turned": ("w4l3", 2, 64, 72, 150, 3, 1, 1, [1, 1], "turned", ""),
    "line_free_turned": ("w4l3", 2, 64, 72, 150, 5, 2, 1, [1, 1], "turned", "nw"),
    "line_free": ("w4l3", 2, 64, 64, 150, 3, 1, 1, [1, 1], "sum", "nw"),
    "line_free_far": ("w4l3", 2, 256, 224, 61, 3, 1, 1, [1, 1], "relu", "nw"),
    "line_free_far_strided": ("w4l3", 1, 256, 240, 97, 5, 2, 1, [2, 2], "turned", "nw"),
    "line_free_dilated": ("w3l4", 1, 64, 64, 205, 7, 1, 3, [9, 9], "relu", "w"),
    "line_free_strided": ("w4l3", 1, 64, 96, 333, 5, 2, 1, [2, 2], "relu", "w"),
}

# Nets without the pointwise convolutions around: the caller's dense tensors are what is read and written.
ALONE = ("alone", "apart_alone")

# Of the nets that have a third axis in front of height and width: size, taps, pad on both sides, stride, dilation
DEPTHS = {"volume": (5, 3, 1, 1, 1), "free_volume": (3, 3, 1, 1, 1), "planes": (3, 1, 0, 1, 1), "deep_steps": (7, 3, 1, 2, 1),
          "apart_volume": (7, 3, 3, 1, 3)}

# Dilations of the nets whose taps are not next to each other.
APART = {"apart": (2, 2), "apart_wide": (3, 2), "apart_far": (12, 12), "apart_few": (4, 4), "apart_valid": (4, 4), "apart_five": (3, 3),
         "apart_volume": (2, 2), "apart_free": (2, 2), "apart_alone": (4, 4)}

# What of a net's sizes the compiler is not told. With a free batch of small maps slots share channels, too.
FREE = {"free": "nhw", "apart_free": "nhw", "free_volume": "ndhw", "free_batch": "n"}


def after(nodes, how, of, beside):
    """Appends what follows the convolution's result `of`; the name of the last value."""
    if how == "sum":
        nodes.append(helper.make_node("Add", [of, beside], ["added"]))
        of = "added"
    if how in ("sum", "relu"):
        nodes.append(helper.make_node("Relu", [of], ["shown"]))
        return "shown"
    if how == "silu":
        nodes.append(helper.make_node("Sigmoid", [of], ["gate"]))
        nodes.append(helper.make_node("Mul", [of, "gate"], ["shown"]))
        return "shown"
    return of


def save_net(path, name):
    filter_name, batch, n_in, n_out, height, width, pads, how = NETS[name]
    depth, free, alone, apart = DEPTHS.get(name), FREE.get(name, ""), name in ALONE, APART.get(name, (1, 1))
    taps = 5 if "k5" in filter_name else 3
    random = np.random.default_rng(7)
    weights, nodes = [], []

    def conv(x, y, c, o, size, **attributes):
        window = [size, size]
        if depth:
            window.insert(0, depth[1] if size > 1 else 1)
        w = random.standard_normal((o, c, *window)) / np.sqrt(c * np.prod(window))
        weights.append(numpy_helper.from_array(w.astype(np.float32), y + "_w"))
        weights.append(numpy_helper.from_array(random.standard_normal(o).astype(np.float32), y + "_b"))
        nodes.append(helper.make_node("Conv", [x, y + "_w", y + "_b"], [y], name=y, **attributes))

    if not alone:
        conv("x", "first", 3, n_in, 1)
    down, right = (n + pads[i] + pads[i + 2] - apart[i] * (taps - 1) for i, n in enumerate((height, width)))
    x_dims, y_dims, steps = [batch, n_in if alone else 3, height, width], [batch, n_out if alone else 4, down, right], {}
    if depth:
        size, deep, pad, stride, dilation = depth
        x_dims.insert(2, size)
        y_dims.insert(2, (size + 2 * pad - dilation * (deep - 1) - 1) // stride + 1)
        pads = [pad, *pads[:2], pad, *pads[2:]]
        steps = {"strides": [stride, 1, 1]}
        apart = (dilation, *apart)
    conv("x" if alone else "first", "middle", n_in, n_out, taps, pads=pads, dilations=apart, **steps)
    if how == "sum":
        conv("x", "beside", 3, n_out, 1, **steps)
    last = after(nodes, how, "middle", "beside")
    if alone:
        nodes.append(helper.make_node("Identity", [last], ["y"]))
    else:
        conv(last, "y", n_out, 4, 1)
    names = ["n", "c", "d", "h", "w"] if depth else ["n", "c", "h", "w"]
    x_type, y_type = ([s if s in free else d for s, d in zip(names, dims)] for dims in (x_dims, y_dims))
    graph = helper.make_graph(nodes, "net", [helper.make_tensor_value_info("x", T.FLOAT, x_type)],
                              [helper.make_tensor_value_info("y", T.FLOAT, y_type)], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return {"x": random.standard_normal(x_dims).astype(np.float32)}


def save_line(path, net):
    _, batch, n_in, n_out, length, taps, stride, dilation, pads, how, free = net
    random = np.random.default_rng(7)
    weights, nodes = [], []

    def conv(x, y, c, o, size, **attributes):
        w = random.standard_normal((o, c, size)) / np.sqrt(c * size)
        weights.append(numpy_helper.from_array(w.astype(np.float32), y + "_w"))
        weights.append(numpy_helper.from_array(random.standard_normal(o).astype(np.float32), y + "_b"))
        nodes.append(helper.make_node("Conv", [x, y + "_w", y + "_b"], [y], name=y, **attributes))

    wide = (length + sum(pads) - dilation * (taps - 1) - 1) // stride + 1
    conv("x", "first", 3, n_in, 1)
    conv("first", "middle", n_in, n_out, taps, pads=pads, strides=[stride], dilations=[dilation])
    if how == "sum":
        conv("x", "beside", 3, n_out, taps, pads=pads, strides=[stride], dilations=[dilation])
    if how == "turned":
        nodes.append(helper.make_node("Transpose", ["middle"], ["last"], perm=[0, 2, 1]))
        weights.append(numpy_helper.from_array(random.standard_normal((n_out, 4)).astype(np.float32), "mix"))
        nodes.append(helper.make_node("MatMul", [after(nodes, "relu", "last", ""), "mix"], ["y"]))
    else:
        conv(after(nodes, how, "middle", "beside"), "y", n_out, 4, 1)
    x_type, y_type = ([s if s in free else d for s, d in zip("ncw", dims)] for dims in ([batch, 3, length], [batch, 4, wide]))
    if "w" in free and (stride > 1 or length != wide):
        y_type[2] = "wide"
    if how == "turned":
        y_type[1:] = reversed(y_type[1:])
    graph = helper.make_graph(nodes, "net", [helper.make_tensor_value_info("x", T.FLOAT, x_type)],
                              [helper.make_tensor_value_info("y", T.FLOAT, y_type)], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return {"x": random.standard_normal((batch, 3, length)).astype(np.float32)}


def judge(path, feeds):
    import onnxruntime
    onnxruntime.set_default_logger_severity(4)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return {"y": session.run(None, feeds)[0]}


def is_chosen(ctx, path, what, *options):
    done = ctx.smelt("compile", path, "--emit=program", "-o", os.devnull, "--trace=choose_schedules", *options)
    line = next((s for s in done.stderr.splitlines() if "middle" in s), "")
    return f" {what}_t" in line, line


def near(got, want):
    worst = relative_difference(got["y"], want["y"])
    check(worst <= BAR, f"differs by {worst:.3g} of the largest value, the bar is {BAR:g}")
    return f"{worst:.2g}"


def cases(ctx):
    def made(name):
        path = os.path.join(ctx.new_dir(), "net.onnx")
        return path, save_line(path, LINES[name]) if name in LINES else save_net(path, name)

    def right(name, cpu):
        def run():
            path, feeds = made(name)
            if cpu == CPUS[-1]:
                what = (LINES.get(name) or NETS[name])[0]
                chosen, line = is_chosen(ctx, path, what, f"--cpu={cpu}")
                check(chosen, f"{what} was not chosen: {line}")
            return near(smelt_run(ctx, path, feeds, f"--cpu={cpu}"), judge(path, feeds))
        return run

    def same(name):
        def run():
            path, feeds = made(name)
            want = smelt_run(ctx, path, feeds, "--backend=interpret")
            for what, options, env in RUNS:
                if "CC" in env:
                    ctx.tool(env["CC"])
                same_bytes(what, smelt_run(ctx, path, feeds, *options, env=env), want)
            for threads in (1, 2, 7):
                same_bytes(f"{threads} threads", smelt_run(ctx, path, feeds, f"--threads={threads}"), want)
        return run

    def foreign(name, target):
        def run():
            options, cc, emulator = TARGETS[target]
            ctx.tool(cc[0])
            ctx.tool(emulator[0])
            path, feeds = made(name)
            want = judge(path, feeds)
            folder, archive = ctx.compile(path, *options, "--name", "net")
            program = os.path.join(folder, "call")
            ctx.run(*cc, "-static", "-std=c11", "-O2", f"-I{ctx.include}", "-I", folder, "-DMODEL=net_model",
                    ctx.path("tests", "library", "call.c"), archive, "-lm", "-o", program)
            return near(call_program(ctx, program, path, feeds, want, emulator), want)
        return run

    def switched_off():
        path, feeds = made("even")
        for what in ("w2", "w4"):
            check(not is_chosen(ctx, path, what, "--cpu=x86-64-v4", "--no-winograd")[0], f"{what} in spite of the switch")
        return near(smelt_run(ctx, path, feeds, "--no-winograd"), judge(path, feeds))

    nets = [*NETS, *LINES]
    return ([Case(f"{n}.{c}", right(n, c), "cpu") for n in nets for c in CPUS] +
            [Case(f"same_bits_{n}", same(n), "cpu") for n in nets] +
            [Case(f"{t}_{n}", foreign(n, t), "cpu") for t in ("aarch64", "riscv64_v") for n in ("ragged", "small_ragged", "line_wide")] +
            [Case("switched_off", switched_off, "cpu")])
