"""Contractions and row-wise stages in blocks of rows: chains that no single operator has, judged by onnxruntime.

Every model has more rows than one block, mostly a last block that is smaller. The interpreter, LLVM and C have to give
the same bytes, on one, two and seven threads.
"""
import os

import numpy as np
import onnx
import onnx.parser

from harness import Case, check
from model_files import smelt_run

HEAD = '<ir_version: 9, opset_import: ["" : 18]> blocks '
ATTENTION = """
    root = Constant <value = float {0.3535}> ()
    qs = Mul (q, root)
    ks = Mul (k, root)
    kt = Transpose <perm = [0, 1, 3, 2]> (ks)
    s = MatMul (qs, kt)"""
TAIL = """
    p = Softmax <axis = -1> (t)
    y = MatMul (p, v)"""

# name: signature, nodes, shapes of inputs (a list of them where dims are symbolic)
MODELS = {
    "ragged": ("(float[1,2,70,8] q, float[1,2,33,8] k, float[1,2,33,5] v) => (float[1,2,70,5] y)",
               ATTENTION + "t = Identity (s)" + TAIL, [((1, 2, 70, 8), (1, 2, 33, 8), (1, 2, 33, 5))]),
    "masked": ("(float[2,2,70,8] q, float[2,2,40,8] k, float[2,2,40,16] v, float[2,1,1,40] m) => (float[2,2,70,16] y)",
               ATTENTION + "t = Add (s, m)" + TAIL, [((2, 2, 70, 8), (2, 2, 40, 8), (2, 2, 40, 16), (2, 1, 1, 40))]),
    "lower": ("(float[1,3,130,8] q, float[1,3,130,8] k, float[1,3,130,8] v) => (float[1,3,130,8] y)",
              ATTENTION + """
    ones = Constant <value = float {1}> ()
    sizes = Constant <value = int64[2] {130, 130}> ()
    all = Expand (ones, sizes)
    low = Trilu <upper = 0> (all)
    zero = Constant <value = float {0}> ()
    hidden = Equal (low, zero)
    least = Constant <value = float {-10000}> ()
    t = Where (hidden, least, s)""" + TAIL, [((1, 3, 130, 8),) * 3]),
    "symbolic": ("(float[b,2,n,8] q, float[b,2,m,8] k, float[b,2,m,8] v) => (float[b,2,n,8] y)",
                 ATTENTION + "t = Identity (s)" + TAIL,
                 [((1, 2, 100, 8), (1, 2, 37, 8), (1, 2, 37, 8)), ((2, 2, 3, 8), (2, 2, 64, 8), (2, 2, 64, 8)),
                  ((1, 2, 64, 8), (1, 2, 1, 8), (1, 2, 1, 8)), ((0, 2, 5, 8), (0, 2, 6, 8), (0, 2, 6, 8))]),
    "heads_last": ("(float[1,90,4,8] q, float[1,90,4,8] k, float[1,90,4,8] v) => (float[1,90,32] y)", """
    qh = Transpose <perm = [0, 2, 1, 3]> (q)
    kh = Transpose <perm = [0, 2, 3, 1]> (k)
    vh = Transpose <perm = [0, 2, 1, 3]> (v)
    s = MatMul (qh, kh)
    p = Softmax <axis = -1> (s)
    c = MatMul (p, vh)
    o = Transpose <perm = [0, 2, 1, 3]> (c)
    d = Constant <value = int64[3] {1, 90, 32}> ()
    y = Reshape (o, d)""", [((1, 90, 4, 8),) * 3]),
    "shared_heads": ("(float[1,6,75,8] q, float[1,1,40,8] k, float[1,1,40,8] v) => (float[1,6,75,8] y)",
                     ATTENTION + "t = Identity (s)" + TAIL, [((1, 6, 75, 8), (1, 1, 40, 8), (1, 1, 40, 8))]),
    "probabilities": ("(float[3,70,8] q, float[3,8,24] k, float[3,24,8] v) => (float[3,70,8] y, float[3,70,24] p)", """
    s = MatMul (q, k)
    p = Softmax <axis = -1> (s)
    y = MatMul (p, v)""", [((3, 70, 8), (3, 8, 24), (3, 24, 8))]),
    "normalized": ("(float[150,24] x, float[24,40] w, float[40] g, float[40] c) => (float[150,40] y)", """
    h = MatMul (x, w)
    y = LayerNormalization <axis = -1> (h, g, c)""", [((150, 24), (24, 40), (40,), (40,))]),
    "decoder": ("(float[1,24,1,64] q, float[1,24,p,64] old, float[1,24,1,64] now) => "
                "(float[1,24,1,64] y, float[1,24,r,64] k)", """
    k = Concat <axis = 2> (old, now)
    kt = Transpose <perm = [0, 1, 3, 2]> (k)
    s = MatMul (q, kt)
    p = Softmax <axis = -1> (s)
    y = MatMul (p, k)""", [((1, 24, 1, 64), (1, 24, 37, 64), (1, 24, 1, 64)), ((1, 24, 1, 64), (1, 24, 1, 64), (1, 24, 1, 64))]),
    "three": ("(float[150,24] x, float[24,16] u, float[16,32] v, float[32,8] w) => (float[150,8] y)", """
    a = MatMul (x, u)
    b = Softmax <axis = -1> (a)
    c = MatMul (b, v)
    d = LogSoftmax <axis = -1> (c)
    y = MatMul (d, w)""", [((150, 24), (24, 16), (16, 32), (32, 8))]),
}
RUNS = (("llvm", 2), ("llvm", 7), ("c", 1), ("c", 2), ("interpret", 1))


def judge(path, feeds):
    import onnxruntime
    onnxruntime.set_default_logger_severity(4)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return dict(zip([o.name for o in session.get_outputs()], session.run(None, feeds)))


def feeds_of(model, shapes):
    rng = np.random.default_rng(7)
    return {v.name: rng.standard_normal(s).astype(np.float32) for v, s in zip(model.graph.input, shapes)}


def cases(ctx):
    def chain(name):
        def run():
            signature, nodes, sizes = MODELS[name]
            model = onnx.parser.parse_model(HEAD + signature + " {" + nodes + "\n}")
            path = os.path.join(ctx.new_dir(), name + ".onnx")
            onnx.save(model, path)
            said = ctx.smelt("compile", path, "--emit=program", "-o", os.devnull, "--trace=block_stages", expect=0)
            check("in blocks of" in said.stderr, "no stages run in blocks")
            for shapes in sizes:
                feeds = feeds_of(model, shapes)
                first = smelt_run(ctx, path, feeds, "--backend=llvm", "--threads=1")
                for key, want in judge(path, feeds).items():
                    check(np.allclose(first[key], want, rtol=1e-4, atol=1e-5),
                          f"{shapes}: {key} is {first[key]}, expected {want}")
                for backend, threads in RUNS:
                    got = smelt_run(ctx, path, feeds, f"--backend={backend}", f"--threads={threads}")
                    for key in first:
                        check(got[key].tobytes() == first[key].tobytes(),
                              f"{shapes}: {key} differs with {backend} on {threads} threads")
        return run

    return [Case(name, chain(name), "cpu") for name in MODELS]
