"""Whole networks with symbolic sizes: one library, five sizes, onnxruntime's answers.

A residual network with a symbolic batch; a densely connected one, one of inverted residuals with gates and one that
enlarges images, whose height and width are symbolic, too; convolutions along a symbolic length; and two transformers
with symbolic batch and length: an encoder as PyTorch exports it (Shape, Gather, Concat, Reshape around every attention,
a mask from attention_mask) and a decoder whose causal mask is cut out of a table. The narrow ones run with every change,
those of the real widths (ResNet-50, BERT base, GPT-2) before a release.
"""
import ctypes
import os

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from harness import Case, check
from suites.ops import BACKENDS

SHORT_ARENA = 4                # smelt_status
FLOAT, INT = TensorProto.FLOAT, TensorProto.INT64


class Net:
    """Collects nodes and weights; every method gives the name of its result."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.nodes, self.constants, self.count = [], {}, 0

    def const(self, value):
        key = f"c{len(self.constants)}"
        self.constants[key] = np.asarray(value)
        return key

    def weight(self, *shape, scale=None):
        scale = scale or 1 / np.sqrt(np.prod(shape[1:]) if len(shape) == 4 else shape[0])
        return self.const((self.rng.standard_normal(shape) * scale).astype(np.float32))

    def op(self, kind, *inputs, n=1, **attributes):
        outs = [f"v{self.count + i}" for i in range(n)]
        self.count += n
        self.nodes.append(helper.make_node(kind, list(inputs), outs, **attributes))
        return outs[0] if n == 1 else outs

    def model(self, name, inputs, output):
        self.nodes.append(helper.make_node("Identity", [output], ["y"]))
        constants = [numpy_helper.from_array(v, k) for k, v in self.constants.items()]
        infos = [helper.make_tensor_value_info(k, t, d) for k, t, d in inputs]
        graph = helper.make_graph(self.nodes, name, infos, [helper.make_tensor_value_info("y", FLOAT, None)], constants)
        return helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 17)])

    # ---- convolutions

    def conv(self, x, width, into, size, stride=1, relu=True):
        x = self.op("Conv", x, self.weight(into, width, size, size), self.weight(into, scale=.1), kernel_shape=[size, size],
                    strides=[stride] * 2, pads=[size // 2] * 4)
        return self.op("Relu", x) if relu else x

    # ---- transformers

    def shape_of(self, x):
        s = self.op("Shape", x)
        parts = [self.op("Gather", s, self.const(np.int64(i))) for i in (0, 1)]
        return [self.op("Unsqueeze", p, self.const(np.array([0], np.int64))) for p in parts]

    def linear(self, x, wide, into):
        return self.op("Add", self.op("MatMul", x, self.weight(wide, into)), self.weight(into, scale=.1))

    def norm(self, x, width):
        scale, bias = self.weight(width, scale=.1), self.weight(width, scale=.1)
        return self.op("LayerNormalization", x, self.op("Add", scale, self.const(np.float32(1))), bias, axis=-1)

    def heads(self, x, heads, each):
        batch, length = self.shape_of(x)
        tail = [self.const(np.array([n], np.int64)) for n in (heads, each)]
        x = self.op("Reshape", x, self.op("Concat", batch, length, *tail, axis=0))
        return self.op("Transpose", x, perm=[0, 2, 1, 3])

    def attention(self, x, width, heads, mask):
        q, k, v = (self.heads(self.linear(x, width, width), heads, width // heads) for _ in range(3))
        scores = self.op("MatMul", q, self.op("Transpose", k, perm=[0, 1, 3, 2]))
        scores = self.op("Div", scores, self.const(np.float32(np.sqrt(width // heads))))
        seen = self.op("MatMul", self.op("Softmax", mask(scores), axis=-1), v)
        seen = self.op("Transpose", seen, perm=[0, 2, 1, 3])
        batch, length = self.shape_of(x)
        seen = self.op("Reshape", seen, self.op("Concat", batch, length, self.const(np.array([width], np.int64)), axis=0))
        return self.linear(seen, width, width)

    def embedded(self, ids, words, positions, width):
        x = self.op("Gather", self.weight(words, width, scale=1), ids)
        _, length = self.shape_of(ids)
        table = self.weight(positions, width, scale=1)
        first = [self.const(np.array([i], np.int64)) for i in (0, 0)]
        return self.op("Add", x, self.op("Slice", table, first[0], length, first[1]))


def resnet(widths, depths, classes):
    n = Net(1)
    x = n.conv("x", 3, widths[0], 7, 2)
    x = n.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    had = widths[0]
    for stage, (width, depth) in enumerate(zip(widths, depths)):
        for i in range(depth):
            stride = 2 if stage and not i else 1
            y = n.conv(n.conv(n.conv(x, had, width, 1), width, width, 3, stride), width, 4 * width, 1, relu=False)
            x = x if i else n.conv(x, had, 4 * width, 1, stride, relu=False)
            x, had = n.op("Relu", n.op("Mul", n.op("Add", x, y), n.const(np.float32(.7)))), 4 * width
    x = n.op("Flatten", n.op("GlobalAveragePool", x))
    y = n.linear(x, had, classes)
    return n, y


def resnet_model(widths, depths, classes, side):
    n, y = resnet(widths, depths, classes)
    return n.model("resnet", [("x", FLOAT, ["batch", 3, side, side])], y)


def dense_model(width, layers, classes):
    """Images of any height and width: each layer reads a stack of all before it, and every other one halves the map."""
    n = Net(4)
    x, had = n.conv("x", 3, 2 * width, 5, 2), 2 * width
    for i in range(layers):
        scaled = n.op("Relu", n.op("Mul", x, n.weight(1, had, 1, 1, scale=.5)))
        y = n.conv(n.conv(scaled, had, 3 * width, 1), 3 * width, width, 3)
        x, had = n.op("Concat", x, y, n.op("Relu", y), axis=1), had + 2 * width
        x = n.conv(x, had, had, 3, 2) if i % 2 else x
    x = n.op("Flatten", n.op("GlobalAveragePool", x))
    return n.model("dense", [("x", FLOAT, ["batch", 3, "height", "width"])], n.linear(x, had, classes))


def mobile_model(width, blocks):
    """Inverted residuals of images of any size, whose rows roll, with gates that scale what they project."""
    n = Net(7)
    x, had = n.conv("x", 3, width, 3, 2), width
    for i in range(blocks):
        into, wide, stride = width + 8 * (i // 2), 6 * had, 2 - i % 2
        y = n.conv(x, had, wide, 1)
        y = n.op("Relu", n.op("Conv", y, n.weight(wide, 1, 3, 3), n.weight(wide, scale=.1), kernel_shape=[3, 3], group=wide,
                              strides=[stride] * 2, pads=[1] * 4))
        gate = n.conv(n.op("GlobalAveragePool", y), wide, had, 1)
        gate = n.op("Sigmoid", n.conv(gate, had, wide, 1, relu=False))
        y = n.conv(n.op("Mul", y, gate) if i % 3 == 2 else y, wide, into, 1, relu=False)
        x, had = n.op("Add", x, y) if stride == 1 and had == into else y, into
    x = n.op("Flatten", n.op("GlobalAveragePool", n.conv(x, had, 8 * had, 1)))
    return n.model("mobile", [("x", FLOAT, ["batch", 3, "height", "width"])], n.linear(x, 8 * had, 10))


def upscaler_model(width):
    """A larger image of one channel: lanes lie along rows of any length, and phases of a ConvTranspose end in them."""
    n = Net(5)
    x = n.conv("x", 1, width, 5)
    y = n.conv(n.conv(x, width, 12, 1), 12, 12, 3)
    x = n.op("ConvTranspose", n.op("Concat", x, y, axis=1), n.weight(width + 12, 1, 9, 9, scale=.05), kernel_shape=[9, 9],
             strides=[2, 2], pads=[4] * 4, output_padding=[1, 1])
    return n.model("upscaler", [("x", FLOAT, ["batch", 1, "height", "width"])], x)


def signal_model(width):
    """Convolutions along time with so many taps that their sums wait for the next part of the weights."""
    n = Net(6)
    x, had = "x", 1
    for taps in (39, 39, 9):
        x = n.op("Relu", n.op("Conv", x, n.weight(width, had, taps, scale=1 / np.sqrt(had * taps)), n.weight(width, scale=.1),
                              kernel_shape=[taps], pads=[taps // 2] * 2))
        had = width
    return n.model("signal", [("x", FLOAT, ["batch", 1, "length"])], x)


def bert_model(width, heads, layers, words, positions):
    n = Net(2)
    x = n.norm(n.embedded("ids", words, positions, width), width)
    attended = n.op("Unsqueeze", n.op("Cast", "mask", to=FLOAT), n.const(np.array([1, 2], np.int64)))
    hidden = n.op("Mul", n.op("Sub", n.const(np.float32(1)), attended), n.const(np.float32(-1e4)))
    for _ in range(layers):
        x = n.norm(n.op("Add", x, n.attention(x, width, heads, lambda s: n.op("Add", s, hidden))), width)
        h = n.linear(x, width, 4 * width)
        half = n.op("Div", h, n.const(np.float32(np.sqrt(2))))
        h = n.op("Mul", n.op("Mul", h, n.op("Add", n.op("Erf", half), n.const(np.float32(1)))), n.const(np.float32(.5)))
        x = n.norm(n.op("Add", x, n.linear(h, 4 * width, width)), width)
    return n.model("bert", [("ids", INT, ["batch", "length"]), ("mask", INT, ["batch", "length"])], x)


def gpt2_model(width, heads, layers, words, positions):
    n = Net(3)
    x = n.embedded("ids", words, positions, width)
    table = n.const(np.tril(np.ones((1, 1, positions, positions), bool)))

    def causal(scores):
        s = n.op("Shape", scores)
        rows, columns = (n.op("Slice", s, *(n.const(np.array([v], np.int64)) for v in (i, i + 1))) for i in (2, 3))
        cut = n.op("Slice", table, n.const(np.array([0], np.int64)), rows, n.const(np.array([2], np.int64)))
        cut = n.op("Slice", cut, n.const(np.array([0], np.int64)), columns, n.const(np.array([3], np.int64)))
        return n.op("Where", cut, scores, n.const(np.float32(-1e4)))

    for _ in range(layers):
        x = n.op("Add", x, n.attention(n.norm(x, width), width, heads, causal))
        h = n.linear(n.norm(x, width), width, 4 * width)
        cube = n.op("Mul", n.op("Pow", h, n.const(np.float32(3))), n.const(np.float32(.044715)))
        inner = n.op("Mul", n.op("Add", h, cube), n.const(np.float32(np.sqrt(2 / np.pi))))
        h = n.op("Mul", n.op("Mul", h, n.const(np.float32(.5))), n.op("Add", n.op("Tanh", inner), n.const(np.float32(1))))
        x = n.op("Add", x, n.linear(h, 4 * width, width))
    return n.model("gpt2", [("ids", INT, ["batch", "length"])], n.norm(x, width))


SIDES = {"narrow": 40, "real": 224}
MODELS = {     # name: (how it is made, sizes of the calls)
    "narrow": {"resnet": (lambda: resnet_model((8, 16), (2, 2), 10, 40), [(b,) for b in (1, 2, 3, 5, 8)]),
               "dense": (lambda: dense_model(32, 4, 10), [(1, 64, 64), (3, 33, 47), (1, 1, 1), (2, 8, 230), (1, 57, 113)]),
               "mobile": (lambda: mobile_model(16, 6), [(1, 64, 64), (2, 33, 47), (1, 1, 1), (3, 8, 230), (1, 225, 113)]),
               "upscaler": (lambda: upscaler_model(48), [(1, 180, 32), (2, 33, 65), (1, 1, 1), (3, 5, 17), (2, 9, 230)]),
               "signal": (lambda: signal_model(64), [(2, 27), (2, 53), (3, 16), (1, 1), (1, 300), (4, 41)]),
               "bert": (lambda: bert_model(32, 4, 2, 100, 64), [(1, 7), (2, 16), (3, 1), (1, 64), (5, 33)]),
               "gpt2": (lambda: gpt2_model(48, 4, 2, 100, 64), [(1, 5), (2, 16), (3, 1), (1, 64), (4, 31)])},
    "real": {"resnet": (lambda: resnet_model((64, 128, 256, 512), (3, 4, 6, 3), 1000, 224), [(b,) for b in (1, 2, 3, 5, 8)]),
             "bert": (lambda: bert_model(768, 12, 12, 30522, 512), [(1, 128), (2, 64), (3, 17), (1, 1), (4, 100)]),
             "gpt2": (lambda: gpt2_model(768, 12, 12, 50257, 1024), [(1, 64), (2, 33), (3, 8), (1, 200), (4, 1)])}}


def feeds(name, kind, sizes):
    rng = np.random.default_rng(sum(sizes))
    if name == "resnet":
        return {"x": rng.standard_normal((sizes[0], 3, SIDES[kind], SIDES[kind])).astype(np.float32)}
    if name in ("upscaler", "signal"):
        return {"x": rng.standard_normal((sizes[0], 1, *sizes[1:])).astype(np.float32)}
    if name in ("dense", "mobile"):
        return {"x": rng.standard_normal((sizes[0], 3, *sizes[1:])).astype(np.float32)}
    ids = {"ids": rng.integers(0, 100, sizes)}
    if name == "bert":
        ids["mask"] = (np.arange(sizes[1]) < rng.integers(1, sizes[1] + 1, (sizes[0], 1))).astype(np.int64)
    return ids


def call(function, sizes, inputs, out):
    """The typed call, with as much arena as it asks for."""
    pointers = [ctypes.c_void_p(a.ctypes.data) for a in inputs] + [ctypes.c_void_p(out.ctypes.data)]
    n_bytes = 1 << 16
    while True:
        arena = ctypes.create_string_buffer(n_bytes)
        status = function(*map(ctypes.c_int64, sizes), *pointers, arena, ctypes.c_size_t(n_bytes))
        if status != SHORT_ARENA or n_bytes > 1 << 33:
            return status
        n_bytes *= 2


def run(ctx, name, kind, backend):
    import onnxruntime
    make, all_sizes = MODELS[kind][name]
    path = os.path.join(ctx.new_dir(), "net.onnx")
    onnx.save(make(), path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    if backend == "c":
        folder, source = ctx.compile(path, "--emit=c", suffix=".c")
        library = os.path.join(folder, "net.so")
        ctx.run(ctx.tool("gcc", "cc"), "-std=c99", "-O2", "-ffp-contract=off", "-march=native", "-fPIC", "-shared", "-w",
                f"-I{folder}", f"-I{ctx.include}", source, "-lm", "-o", library)
    else:
        _, library = ctx.compile(path, "--emit=shared", suffix=".so")
    function = ctypes.CDLL(library).net_run
    worst = 0
    for sizes in all_sizes:
        data = feeds(name, kind, sizes)
        want = session.run(None, data)[0]
        got = np.full(want.shape, np.nan, np.float32)
        status = call(function, sizes, list(data.values()), got)
        check(status == 0, f"sizes {sizes}: status {status}")
        difference = np.abs(got - want).max() / np.abs(want).max()
        check(difference < 1e-4, f"sizes {sizes}: largest difference {difference:.2g} of the largest value")
        worst = max(worst, difference)
    return f"{worst:.2g}"


def cases(ctx):
    narrow = [Case(f"{name}.{backend}", lambda n=name, b=backend: run(ctx, n, "narrow", b), label)
              for name in MODELS["narrow"] for backend, label in BACKENDS.items() if backend != "interpret"]
    return narrow + [Case(f"{name}_of_real_width", lambda n=name: run(ctx, n, "real", "llvm"), "long") for name in MODELS["real"]]
