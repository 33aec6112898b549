"""Random numbers: the generator's words against its published answers, distributions, seeds, loops, the same on all backends.

A model's numbers are a function of seed and index (ir/ops/random.c), so uniform ones are compared bit by bit with Philox in
numpy, which itself is held to the known answers of its authors. The rest is judged by mean, variance and the distance of
Kolmogorov and Smirnov: what a wrong generator or a wrong formula would miss by far. Nothing here depends on luck: the seeds
are fixed, so a test that passes once passes always.
"""
import math
import os

import numpy as np
import onnx
import onnx.parser
from onnx import TensorProto, helper, numpy_helper

from harness import Case, check
from suites.ops import BACKENDS, load_outputs, save_inputs

# words of the counter, key -> words: D. E. Shaw Research, Random123, kat_vectors, philox2x32 with 10 rounds
KNOWN = (((0, 0), 0, (0xff1dae59, 0x6cd10df2)), ((0xffffffff, 0xffffffff), 0xffffffff, (0x2c3f628b, 0xab4fd7ad)),
         ((0x243f6a88, 0x85a308d3), 0x13198a2e, (0xdd7ce038, 0xf62a4c12)))
MASK = np.uint64(0xffffffff)
COUNT = {"interpret": 4000, "llvm": 200000, "c": 200000}


def philox(first, second, key):
    first, second, key = np.asarray(first, np.uint64), np.asarray(second, np.uint64), int(key)
    for _ in range(10):
        product = first * np.uint64(0xd256d193)
        first, second = (product >> np.uint64(32)) ^ np.uint64(key) ^ second, product & MASK
        key = (key + 0x9e3779b9) & 0xffffffff
    return first, second


def key_of(seed):
    h = int(np.float32(seed).view(np.uint32))
    h = (h ^ h >> 16) * 0x85ebca6b & 0xffffffff
    h = (h ^ h >> 13) * 0xc2b2ae35 & 0xffffffff
    return h ^ h >> 16


def uniform(seed, count, stream=0):
    first, _ = philox(np.arange(count), np.full(count, stream << 8), key_of(seed))
    return ((first >> np.uint64(8)).astype(np.float32) * np.float32(2.0 ** -24)).astype(np.float32)


def known_answers():
    for counter, key, words in KNOWN:
        got = tuple(int(w) for w in philox(*counter, key))
        check(got == words, f"counter {counter}, key {key}: {got}, expected {words}")


# ---- running -------------------------------------------------------------------------------------------------------------

def run(ctx, model, backend, feeds=None):
    """The outputs, in order."""
    folder = ctx.new_dir()
    path = os.path.join(folder, "m.onnx")
    onnx.save(model, path)
    save_inputs(os.path.join(folder, "in"), model, feeds or {})
    os.makedirs(os.path.join(folder, "out"))
    ctx.smelt("run", path, f"--backend={backend}", "--inputs", os.path.join(folder, "in"), "--outputs",
              os.path.join(folder, "out"))
    return load_outputs(os.path.join(folder, "out"), len(model.graph.output))


def model_of(nodes, inputs=(), constants=(), n_out=None):
    outputs = [o for n in nodes for o in n.output] if n_out is None else n_out
    graph = helper.make_graph(nodes, "g", list(inputs), [onnx.ValueInfoProto(name=o) for o in outputs],
                              [numpy_helper.from_array(np.asarray(v), k) for k, v in constants])
    return helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 22)])


def node(op, inputs, outputs, **attributes):
    return helper.make_node(op, inputs.split(), outputs.split(), **attributes)


# ---- distributions -------------------------------------------------------------------------------------------------------

def distance(sample, cdf):
    """Kolmogorov and Smirnov's: the largest difference of the sample's distribution from this one, times sqrt(n)."""
    x = np.sort(np.asarray(sample, np.float64).ravel())
    want, n = cdf(x), x.size
    return max((want - np.arange(n) / n).max(), (np.arange(1, n + 1) / n - want).max()) * math.sqrt(n)


def follows(name, sample, mean, variance, cdf=None, low=-np.inf, high=np.inf):
    x, n = np.asarray(sample, np.float64).ravel(), sample.size
    check(x.min() >= low and x.max() <= high, f"{name}: {x.min()} .. {x.max()} leaves {low} .. {high}")
    error = abs(x.mean() - mean) / math.sqrt(variance / n)
    check(error < 4, f"{name}: mean {x.mean()}, expected {mean}: {error:.1f} standard errors")
    check(abs(x.var() / variance - 1) < 8 / math.sqrt(n), f"{name}: variance {x.var()}, expected {variance}")
    if cdf:
        d = distance(x, cdf)     # above 1.95 once in a thousand samples
        check(d < 1.95, f"{name}: the distance from its distribution is {d:.2f}")


def normal_cdf(mean, scale):
    return np.vectorize(lambda v: 0.5 * math.erfc((mean - v) / (scale * math.sqrt(2))))


def distributions(ctx, backend):
    n = COUNT[backend]
    types = {"f32": TensorProto.FLOAT, "f64": TensorProto.DOUBLE, "f16": TensorProto.FLOAT16}
    nodes = [node("RandomUniform", "", f"u_{t}", shape=[n], low=-2.0, high=3.0, seed=7.0 + i, dtype=v)
             for i, (t, v) in enumerate(types.items())]
    nodes += [node("RandomNormal", "", f"n_{t}", shape=[n], mean=1.5, scale=0.5, seed=17.0 + i, dtype=v)
              for i, (t, v) in enumerate(types.items())]
    out = run(ctx, model_of(nodes), backend)
    for (t, _), u, g in zip(types.items(), out[:3], out[3:]):
        exact = t != "f16"       # f16's steps are seen in large samples
        follows(f"uniform {t}", u, 0.5, 25 / 12, (lambda v: (v + 2) / 5) if exact else None, -2, 3)
        follows(f"normal {t}", g, 1.5, 0.25, normal_cdf(1.5, 0.5) if exact else None)
        pairs = np.corrcoef(np.asarray(g[:-1], np.float64), np.asarray(g[1:], np.float64))[0, 1]
        check(abs(pairs) < 4 / math.sqrt(n), f"normal {t}: neighbours correlate, {pairs}")
    check(abs(np.corrcoef(out[0], out[1])[0, 1]) < 4 / math.sqrt(n), "two seeds give correlated numbers")
    return f"{n} numbers each"


def draws(ctx, backend):
    """Bernoulli and Multinomial."""
    n = COUNT[backend]
    p = np.repeat(np.array([0, 0.1, 0.5, 0.9, 1], np.float32), n // 5)
    weights = np.array([[0.1, 0.2, 0, 0.7], [3, 1, 1, 0]])
    with np.errstate(divide="ignore"):
        logs = np.log(weights).astype(np.float32)
    info = helper.make_tensor_value_info
    model = model_of([node("Bernoulli", "p", "b", seed=3.0, dtype=TensorProto.INT32),
                      node("Bernoulli", "p", "same", seed=3.0),
                      node("Multinomial", "logs", "m", seed=5.0, sample_size=n // 4),
                      node("Multinomial", "logs", "m64", seed=5.0, sample_size=7, dtype=TensorProto.INT64)],
                     [info("p", TensorProto.FLOAT, p.shape), info("logs", TensorProto.FLOAT, logs.shape)])
    b, same, m, m64 = run(ctx, model, backend, {"p": p, "logs": logs})
    check(b.dtype == np.int32 and same.dtype == np.float32 and (b == same).all(), "Bernoulli: types, or one seed, differ")
    for i, want in enumerate((0, 0.1, 0.5, 0.9, 1)):
        got, each = b[p == p[i * (n // 5)]].mean(), n // 5
        check(abs(got - want) <= 4 * math.sqrt(want * (1 - want) / each), f"Bernoulli {want}: {got}")
    check(m.dtype == np.int32 and m64.dtype == np.int64 and m.shape == (2, n // 4) and m64.shape == (2, 7), "Multinomial: type")
    for row, w in zip(m, weights / weights.sum(1, keepdims=True)):
        got = np.bincount(row, minlength=4) / row.size
        bar = 4 * np.sqrt(w * (1 - w) / row.size)
        check((np.abs(got - w) <= bar).all(), f"Multinomial: shares {got}, expected {w}")


def dropout(ctx, backend):
    n = COUNT[backend]
    x = np.arange(1, n + 1, dtype=np.float32)
    info = helper.make_tensor_value_info
    model = model_of([node("Dropout", "x ratio on", "y mask", seed=4), node("Dropout", "x ratio flag", "z zmask", seed=4)],
                     [info("x", TensorProto.FLOAT, [n]), info("flag", TensorProto.BOOL, [])],
                     [("ratio", np.float32(0.3)), ("on", np.bool_(True))])
    for flag in (True, False):
        y, mask, z, zmask = run(ctx, model, backend, {"x": x, "flag": np.bool_(flag)})
        check(abs(mask.mean() - 0.7) < 4 * math.sqrt(0.21 / n), f"Dropout keeps {mask.mean()}, expected 0.7")
        want = np.where(mask, x / np.float32(0.7), 0)
        check(np.allclose(y, want, rtol=1e-6, atol=0), "Dropout: y is not x * mask / (1 - ratio)")
        want = y if flag else x
        check((z == want).all() and (zmask == (mask if flag else True)).all(), f"Dropout with training_mode {flag} given")


# ---- seeds and loops -----------------------------------------------------------------------------------------------------

def exact(ctx, backend):
    n = 1000
    nodes = [node("RandomUniform", "", "a", shape=[n], seed=7.0), node("RandomUniform", "", "b", shape=[10, n // 10], seed=7.0),
             node("RandomUniform", "", "c", shape=[n]), node("RandomUniform", "", "d", shape=[n]),
             node("RandomUniform", "", "e", shape=[n], seed=-7.25)]
    a, b, c, d, e = run(ctx, model_of(nodes), backend)
    check((a == uniform(7.0, n)).all(), "seed 7: not Philox's numbers")
    check((b.ravel() == a).all(), "one seed, another shape: other numbers")
    check((e == uniform(-7.25, n)).all(), "seed -7.25: not Philox's numbers")
    check((c == uniform(3.5, n)).all() and (d == uniform(4.5, n)).all(), "without a seed: not those of the node's number")


LOOP = """
<ir_version: 10, opset_import: ["" : 21]>
looped (bool go) => (rows) {
    n = Constant <value = int64 {5}> ()
    rows = Loop (n, go) <body = step (int64 i, bool on) => (bool still, float[16] row) {
        still = Identity (on)
        row = RandomUniform <shape = [16], seed = 2.0> ()
    }>
}"""


def loop(ctx, backend):
    got, = run(ctx, onnx.parser.parse_model(LOOP), backend, {"go": np.bool_(True)})
    want = np.stack([uniform(2.0, 16, stream=i) for i in range(5)])
    check(got.shape == want.shape and (got == want).all(), "a loop's iterations do not draw numbers of their own")


def alike(ctx):
    """Bits of normal numbers on the three backends."""
    model = model_of([node("RandomNormal", "", "a", shape=[500]), node("RandomNormal", "", "b", shape=[500], dtype=11),
                      node("RandomNormal", "", "c", shape=[500], dtype=10)])
    outs = {b: run(ctx, model, b) for b in BACKENDS}
    for b, out in outs.items():
        for x, y in zip(out, outs["interpret"]):
            check(x.tobytes() == y.tobytes(), f"{b} and the interpreter differ")


def cases(ctx):
    made = [Case("known_answers", known_answers), Case("alike", lambda: alike(ctx), "cpu")]
    for what in (exact, loop, distributions, draws, dropout):
        made += [Case(f"{what.__name__}.{b}", lambda w=what, b=b: w(ctx, b), label) for b, label in BACKENDS.items()]
    return made
