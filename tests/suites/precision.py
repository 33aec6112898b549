"""--precision=bf16 and f16: factors rounded to 16 bits, sums in f32. The same bits on every backend under one schedule, and
within what the rounding of factors explains of the answer in float64; matrix units (AMX), dot products of pairs and
vectors alike."""
import os

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from harness import Case, check
from model_files import smelt_run

# Relative rounding of a factor. An element of a product of two has an error below 2*step*sum|x||w|, and each further
# layer adds as much; the bars below are for whole tensors, by the norm, where errors of either sign mostly cancel.
STEP = {"bf16": 2.0 ** -9, "f16": 2.0 ** -12}

# name: rows, depth, columns of MatMuls, one after the other with Tanh between them
PRODUCTS = {
    "square": (64, 64, (64,)),
    "ragged": (37, 96, (50, 19)),
    "few_rows": (3, 64, (40,)),
    "one_row": (1, 256, (300,)),
    "odd_depth": (20, 67, (33,)),
    "deep": (16, 1024, (32,)),
    "chain": (18, 64, (128, 96, 10)),
}

# name: channels in, (channels out, window, stride, pad, dilation) of convolutions, one after the other with Relu
CONVS = {
    "pointwise": (64, ((96, 1, 1, 0, 1),)),
    "windows": (32, ((64, 3, 1, 1, 1), (64, 3, 1, 1, 1))),
    "strided": (64, ((32, 3, 2, 1, 1), (48, 1, 2, 0, 1))),
    "dilated": (32, ((32, 3, 1, 2, 2),)),
    "image": (3, ((32, 3, 2, 1, 1), (64, 3, 1, 1, 1), (40, 1, 1, 0, 1))),
}
SIZE = (13, 15)

# Processors whose instructions for bf16 this machine may lack: tiles, and dot products of pairs.
ELSEWHERE = ("sapphirerapids", "cooperlake")

BACKENDS = {"llvm": (), "llvm_O0": ("-O0",), "c": ("--backend=c",)}


def constant(weights, array):
    weights.append(numpy_helper.from_array(array.astype(np.float32), f"w{len(weights)}"))
    return weights[-1].name


def product_net(spec, random):
    rows, depth, columns = spec
    nodes, weights, x = [], [], random.standard_normal((rows, depth)).astype(np.float32)
    name, want = "x", x.astype(np.float64)
    for i, n in enumerate(columns):
        w = (random.standard_normal((depth, n)) / np.sqrt(depth)).astype(np.float32)
        nodes.append(helper.make_node("MatMul", [name, constant(weights, w)], [f"p{i}"]))
        nodes.append(helper.make_node("Tanh", [f"p{i}"], [f"t{i}"]))
        name, depth, want = f"t{i}", n, np.tanh(want @ w)
    return nodes, weights, x, want


def convolve(x, w, stride, pad, dilation):
    x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    k = w.shape[2]
    rows, columns = ((n - dilation * (k - 1) - 1) // stride + 1 for n in x.shape[2:])
    y = 0
    for i in range(k):
        for j in range(k):
            part = x[:, :, i * dilation:i * dilation + stride * rows:stride, j * dilation:j * dilation + stride * columns:stride]
            y = y + np.einsum("nchw,oc->nohw", part[:, :, :rows, :columns], w[:, :, i, j])
    return y


def conv_net(spec, random):
    channels, layers = spec
    x = random.standard_normal((2, channels, *SIZE)).astype(np.float32)
    nodes, weights, name, want = [], [], "x", x.astype(np.float64)
    for i, (out, k, stride, pad, dilation) in enumerate(layers):
        w = (random.standard_normal((out, channels, k, k)) / np.sqrt(channels * k * k)).astype(np.float32)
        bias = random.standard_normal(out).astype(np.float32)
        nodes.append(helper.make_node("Conv", [name, constant(weights, w), constant(weights, bias)], [f"c{i}"],
                                      strides=[stride] * 2, pads=[pad] * 4, dilations=[dilation] * 2))
        nodes.append(helper.make_node("Relu", [f"c{i}"], [f"r{i}"]))
        want = np.maximum(convolve(want, w.astype(np.float64), stride, pad, dilation) + bias.reshape(1, -1, 1, 1), 0)
        name, channels = f"r{i}", out
    return nodes, weights, x, want


def save(ctx, nodes, weights, x, want):
    graph = helper.make_graph(
        nodes, "precision", [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, want.shape)], weights)
    path = os.path.join(ctx.new_dir(), "net.onnx")
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def cases(ctx):
    def net(maker, spec, precision, cpu):
        def run():
            random = np.random.default_rng(5)
            nodes, weights, x, want = maker(spec, random)
            path, option = save(ctx, nodes, weights, x, want), [f"--precision={precision}"]
            option += [f"--cpu={cpu}"] if cpu else []
            judged = list(smelt_run(ctx, path, {"x": x}, *option, "--backend=interpret").values())[0]
            error = np.linalg.norm(judged - want) / np.linalg.norm(want)
            bar = 2 * STEP[precision] * len(nodes)
            check(error < bar, f"differs by {error:.3g} of its norm, the bar is {bar:.3g}")
            check(precision != "bf16" or error > 1e-6, f"only {error:.3g}: nothing was rounded")
            for what, options in BACKENDS.items():
                if cpu in ELSEWHERE and what.startswith("llvm"):
                    continue        # the machine may lack it
                got = list(smelt_run(ctx, path, {"x": x}, *option, *options).values())[0]
                check(got.tobytes() == judged.tobytes(), f"{what} has other bits than the interpreter")
            return f"{error:.2g}"
        return run

    def pairs():
        """Rounded rows by rounded weights are dot products of pairs, in matrices and in windows."""
        for maker, spec in ((product_net, PRODUCTS["square"]), (conv_net, CONVS["windows"])):
            nodes, weights, x, want = maker(spec, np.random.default_rng(1))
            path = save(ctx, nodes, weights, x, want)
            asm = ctx.smelt("compile", path, "--emit=asm", "--precision=bf16", "--target=x86_64-linux-gnu", "--cpu=znver4", "-o", "-").stdout
            check(asm.count("vdpbf16ps") > 50, "no dot products of bf16")

    def half_the_weights():
        nodes, weights, x, want = product_net((64, 256, (256, 256)), np.random.default_rng(1))
        path = save(ctx, nodes, weights, x, want)
        sizes = {}
        for precision in ("f32", "f16", "bf16"):
            folder = ctx.new_dir()
            ctx.smelt("compile", path, f"--precision={precision}", "--weights=file", "--name", "net", cwd=folder)
            sizes[precision] = sum(os.path.getsize(os.path.join(folder, f)) for f in os.listdir(folder) if "weights" in f)
        check(sizes["f32"] > 4 * 2 * 256 * 256, f"weights files: {sizes}")
        for precision in ("f16", "bf16"):
            check(sizes[precision] < 0.51 * sizes["f32"], f"weights files: {sizes}")

    def report():
        nodes, weights, x, want = product_net((64, 256, (256,)), np.random.default_rng(1))
        path = save(ctx, nodes, weights, x, want)
        shares = []
        for options in (["--precision=bf16"], ["--precision=f16"], []):
            text = ctx.smelt("run", path, "--report-error", *options).stdout.splitlines()[-1]
            check("by root mean square" in text, f"no report: {text}")
            shares.append(float(text.split("; ")[1].split(" by")[0]))
        check(1e-4 < shares[0] < 1e-2 and 1e-5 < shares[1] < shares[0] and shares[2] == 0, f"reported {shares}")

    made = [Case("pairs", pairs), Case("half_the_weights", half_the_weights), Case("report_of_the_error", report, "cpu")]
    for cpu in ("", "x86-64-v3", *ELSEWHERE):
        where = cpu or "here"
        for precision in STEP:
            if cpu in ELSEWHERE and precision == "f16":
                continue            # no other code than with vectors
            made += [Case(f"{n}.{precision}.{where}", net(product_net, s, precision, cpu), "cpu") for n, s in PRODUCTS.items()]
            made += [Case(f"conv_{n}.{precision}.{where}", net(conv_net, s, precision, cpu), "cpu") for n, s in CONVS.items()]
    return made
