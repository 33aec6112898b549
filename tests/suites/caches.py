"""--cache=PLACES: a decoder's past and present are one buffer of the caller's, which grows in place.

Prompts and tokens one after the other, in the same buffers, must give what onnxruntime gives with the whole past as an
input; what lies behind the last place stays as it is, and a step that does not fit is refused before anything is written.
"""
import ctypes
import os

import numpy as np
import onnx
import onnx.parser
from onnx import numpy_helper

import smelt_abi
from harness import Case, check
from suites.dim_versions import DECODER as HEADS_FIRST

PLACES = 24
BAD_DIM, KEPT = 3, 2

# Keys as [batch, places, heads, size], two heads of 8, turned behind the cache. HEADS_FIRST has them the other way.
PLACES_FIRST = """
decoder (int64[batch,n] ids, float[batch,past,2,8] k0, float[batch,past,2,8] v0) => (y, k, v) {
    x = Gather (table, ids)
    a = MatMul (x, wq)
    b = MatMul (x, wk)
    c = MatMul (x, wv)
    qh = Reshape (a, heads)
    kh = Reshape (b, heads)
    vh = Reshape (c, heads)
    k = Concat <axis = 1> (k0, kh)
    v = Concat <axis = 1> (v0, vh)
    q = Transpose <perm = [0, 2, 1, 3]> (qh)
    kt = Transpose <perm = [0, 2, 3, 1]> (k)
    vt = Transpose <perm = [0, 2, 1, 3]> (v)
    s = MatMul (q, kt)
    p = Softmax (s)
    o = MatMul (p, vt)
    t = Transpose <perm = [0, 2, 1, 3]> (o)
    f = Reshape (t, flat)
    y = MatMul (f, out)
}"""

# The operator, with twice as many heads of queries.
ATTENTION = """
decoder (int64[batch,n] ids, float[batch,2,past,8] k0, float[batch,2,past,8] v0) => (y, k, v) {
    x = Gather (table, ids)
    a = MatMul (x, wide)
    b = MatMul (x, wk)
    c = MatMul (x, wv)
    o, k, v = Attention <q_num_heads = 4, kv_num_heads = 2, is_causal = 1> (a, b, c, , k0, v0)
    y = MatMul (o, out2)
}"""


def decoder(text):
    rng = np.random.default_rng(5)
    shapes = {"table": (40, 16), "w": (16, 48), "wq": (16, 16), "wk": (16, 16), "wv": (16, 16), "out": (16, 40),
              "wide": (16, 32), "out2": (32, 40)}
    m = onnx.parser.parse_model('<ir_version: 10, opset_import: ["" : 23]>' + text)
    used = {i for n in m.graph.node for i in n.input}
    constants = {name: (rng.standard_normal(shape) / 4).astype(np.float32) for name, shape in shapes.items()}
    constants.update(heads=np.array([0, 0, 2, 8]), flat=np.array([0, 0, 16]))
    m.graph.initializer.extend(numpy_helper.from_array(v, n) for n, v in constants.items() if n in used)
    return m


def saved(ctx, m):
    path = os.path.join(ctx.new_dir(), "decoder.onnx")
    onnx.save(m, path)
    return path


def library(ctx, path, backend):
    """(folder, a shared library with smelt_shared_model)"""
    if backend == "llvm":
        return ctx.compile(path, "--emit=shared", f"--cache={PLACES}", "--verify=1", suffix=".so")
    folder, source = ctx.compile(path, "--emit=c", f"--cache={PLACES}", "--verify=1", suffix=".c")
    made = os.path.join(folder, "decoder.so")
    ctx.run(ctx.tool("gcc", "cc"), "-std=c99", "-O1", "-ffp-contract=off", "-fPIC", "-shared", f"-I{ctx.include}", source,
            "-Wl,--defsym=smelt_shared_model=decoder_model", "-o", made)
    return folder, made


def floats(model, i, shape):
    """Output i as an array over its memory."""
    address = model.outputs[i][0]
    return np.ctypeslib.as_array((ctypes.c_float * int(np.prod(shape))).from_address(address)).reshape(shape)


def step(ctx, made, ids, past, caches):
    """One call over these caches, which it changes; its first output, or a status."""
    batch, n = ids.shape
    model = smelt_abi.SharedModel(made, ctx.include, [ids], symbols={"past": past})
    own = [floats(model, 1 + i, cache.shape) for i, cache in enumerate(caches)]
    for mine, cache in zip(own, caches):
        mine[...] = cache
    status = model.function(model.argument)
    if status:
        check(all(np.array_equal(mine, cache, equal_nan=True) for mine, cache in zip(own, caches)),
              "a call that was refused wrote something")
        return status
    for mine, cache in zip(own, caches):
        cache[...] = mine
    return floats(model, 0, (batch, n, 40)).copy()


def grows(ctx, text, axis, backend):
    """Prompts and single tokens, from an empty past on."""
    import onnxruntime
    m = decoder(text)
    path = saved(ctx, m)
    folder, made = library(ctx, path, backend)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(7)
    for batch in (1, 3):
        shape = [batch, 2, PLACES, 8] if axis == 2 else [batch, PLACES, 2, 8]
        caches = [np.full(shape, np.nan, np.float32) for _ in range(2)]
        past = 0
        for n in (5, 1, 1, 4, 1, 9, 3):
            ids = rng.integers(0, 40, (batch, n))
            old = [np.take(c, range(past), axis) for c in caches]
            want = session.run(None, {"ids": ids, "k0": old[0], "v0": old[1]})
            got = step(ctx, made, ids, past, caches)
            past += n
            for name, g, w in zip("ykv", [got] + [np.take(c, range(past), axis) for c in caches], want):
                check(np.allclose(g, w, rtol=1e-5, atol=1e-5), f"batch {batch}, {n} behind {past - n}: {name} differs")
            behind = [np.take(c, range(past, PLACES), axis) for c in caches]
            check(all(np.isnan(b).all() for b in behind), f"batch {batch}, {n} behind {past - n}: more is written than is new")
        check(step(ctx, made, ids[:, :1], past, caches) == BAD_DIM, "a step beyond the last place is not refused")
    with open(os.path.join(folder, "decoder.h"), encoding="utf-8") as f:
        header = f.read()
    check("kept   k: f32" in header and "kept   v: f32" in header and f"past: 0 to {PLACES}" in header, header)
    check("k0" not in header and "v0" not in header, "the past is an input of the header")


def described(ctx):
    """The table says which outputs are kept, and that the past is no input."""
    path = saved(ctx, decoder(HEADS_FIRST))
    for backend in ("llvm", "c"):
        _, made = library(ctx, path, backend)
        model = smelt_abi.SharedModel(made, ctx.include, [np.zeros((1, 1), np.int64)], symbols={"past": 2})
        types = smelt_abi.structures(ctx.include)
        flags = [t.flags for t in (types["tensor_info"] * 3).from_address(model.model.outputs)]
        check(model.model.n_inputs == 1 and flags == [0, KEPT, KEPT], f"{backend}: {model.model.n_inputs} inputs, {flags}")


def no_copy(ctx):
    """A step of one token writes so many numbers as are new: the arena has no room for keys, and no kernel loops over old
    ones to store them."""
    path = saved(ctx, decoder(HEADS_FIRST))
    text = ctx.smelt("compile", path, "--emit=kernel", f"--cache={PLACES}", "-o", "-").stdout
    stores = [line.strip() for line in text.splitlines() if line.strip().startswith(("k[", "v["))]
    check(stores and all("past" in line for line in stores), f"stores that begin elsewhere than behind the past: {stores}")
    check('kept' in text, "the kernels' text does not say what is kept")


def refused(ctx):
    """A model whose outputs go on from no input; one with more places than the buffers; and one whose past a branch reads, which wants dense memory."""
    plain = onnx.parser.parse_model('<ir_version: 10, opset_import: ["" : 21]> plain (float[n,4] x) => (y) { y = Neg (x) }')
    done = ctx.smelt("compile", saved(ctx, plain), "--cache=8", expect=1)
    check("no output is an input with more places behind it" in done.stderr, done.stderr)
    path = saved(ctx, decoder(HEADS_FIRST))
    done = ctx.smelt("compile", path, "--cache=8", "--dim=past=9", "--dim=n=1", expect=1)
    check("--cache=8: 'k' has 10 places" in done.stderr, done.stderr)
    branch = onnx.parser.parse_model("""<ir_version: 10, opset_import: ["" : 21]>
        branch (float[past,4] p, float[1,4] x, bool c) => (y, z) {
            y = Concat <axis = 0> (p, x)
            z = If (c) < then_branch = a () => (float[r,4] t) { t = Neg (p) },
                         else_branch = b () => (float[s,4] e) { e = Abs (x) } >
        }""")
    done = ctx.smelt("compile", saved(ctx, branch), "--cache=8", expect=1)
    check("no output is an input with more places behind it" in done.stderr, done.stderr)


def cases(ctx):
    forms = {"heads_first": (HEADS_FIRST, 2), "places_first": (PLACES_FIRST, 1), "attention": (ATTENTION, 2)}
    return [Case(f"{name}.{backend}", lambda f=form, b=backend: grows(ctx, *f, b), "cpu")
            for name, form in forms.items() for backend in ("llvm", "c")] + [
        Case("described", lambda: described(ctx), "cpu"), Case("no_copy", lambda: no_copy(ctx)),
        Case("refused", lambda: refused(ctx))]
