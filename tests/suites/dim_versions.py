"""--dim batch=1,8: one library with code for these sizes and for all others.

Every size must give what the model without versions gives (onnxruntime is the judge), a version has the bits of a model
compiled for just that size, the hooks say which one ran, and weights are there once. Lists that make no sense are refused.
A decoder has a version for single tokens without being asked.
"""
import os

import numpy as np
import onnx
import onnx.parser
from onnx import numpy_helper

from harness import Case, check
from model_files import smelt_run
from suites.ops import BACKENDS

# Products with weights, attention-like products of two tensors, a size that running finds, shape arithmetic.
NET = """
net (float[batch,seq,16] x) => (y, places, z) {
    h = MatMul (x, w0)
    b = Add (h, b0)
    r = Relu (b)
    t = Transpose <perm = [0, 2, 1]> (r)
    s = MatMul (r, t)
    p = Softmax (s)
    y = MatMul (p, r)
    places = NonZero (x)
    size = Shape (x)
    rows = Gather (size, one)
    pair = Concat <axis = 0> (rows, open)
    z = Reshape (y, pair)
}"""

# Its second output has no bound that an arena could have: memory of the allocation hook, in each version.
FREE = """
free (float[batch,seq] x, int64[2] shape) => (y, wide) {
    y = Exp (x)
    total = ReduceSum <keepdims = 0> (y)
    wide = Expand (total, shape)
}"""

BRANCH = """
branch (float[batch,4] x, float[other,4] w) => (y, n) {
    size = Shape <start = 0, end = 1> (x)
    scalar = Squeeze (size)
    many = Greater (scalar, two)
    y = If (many) <
        then_branch = many () => (float[batch,4] a) { a = Neg (x) },
        else_branch = few () => (float[batch,4] b) { b = Add (x, x) }
    >
    n = MatMul (w, turn)
}"""

# A decoder: two heads of 8, keys and values of the tokens before come in and go out longer.
DECODER = """
decoder (int64[batch,n] ids, float[batch,2,past,8] k0, float[batch,2,past,8] v0) => (y, k, v) {
    x = Gather (table, ids)
    qkv = MatMul (x, w)
    a, b, c = Split <axis = -1, num_outputs = 3> (qkv)
    qh = Reshape (a, heads)
    kh = Reshape (b, heads)
    vh = Reshape (c, heads)
    q = Transpose <perm = [0, 2, 1, 3]> (qh)
    k1 = Transpose <perm = [0, 2, 1, 3]> (kh)
    v1 = Transpose <perm = [0, 2, 1, 3]> (vh)
    k = Concat <axis = 2> (k0, k1)
    v = Concat <axis = 2> (v0, v1)
    kt = Transpose <perm = [0, 1, 3, 2]> (k)
    s = MatMul (q, kt)
    p = Softmax (s)
    o = MatMul (p, v)
    t = Transpose <perm = [0, 2, 1, 3]> (o)
    f = Reshape (t, flat)
    y = MatMul (f, out)
}"""

# For tests/library/versions.c.
PLAIN = """
plain (float[batch,seq,8] x) => (y, found) {
    y = Relu (x)
    m = MatMul (y, turn)
    kept = Greater (x, zero)
    at = NonZero (kept)
    places = Transpose <perm = [1, 0]> (at)
    chosen = GatherND (m, places)
    found = Abs (chosen)
}"""


def model(text, **constants):
    m = onnx.parser.parse_model('<ir_version: 10, opset_import: ["" : 21]>' + text)
    m.graph.initializer.extend(numpy_helper.from_array(np.array(v), n) for n, v in constants.items())
    return m


def net():
    rng = np.random.default_rng(3)
    w0 = rng.standard_normal((16, 24)) / 8      # scores of some tens: at a thousand, Softmax shows their last bit
    return model(NET, w0=w0.astype(np.float32), b0=np.ones(24, np.float32),
                 one=np.array([1], np.int64), open=np.array([-1], np.int64))


def branch():
    return model(BRANCH, two=np.int64(2), turn=np.eye(4, dtype=np.float32)[::-1].copy())


def decoder():
    rng = np.random.default_rng(5)
    def weights(*shape):
        return (rng.standard_normal(shape) / 4).astype(np.float32)
    return model(DECODER, table=weights(40, 16), w=weights(16, 48), out=weights(16, 40),
                 heads=np.array([0, 0, 2, 8], np.int64), flat=np.array([0, 0, 16], np.int64))


def feeds_decoder(batch, n, past):
    rng = np.random.default_rng(batch + n + past)
    return {"ids": rng.integers(0, 40, (batch, n)),
            **{name: rng.standard_normal((batch, 2, past, 8)).astype(np.float32) for name in ("k0", "v0")}}


def decodes(ctx, backend):
    """A step of one token runs code of its own, which --dim=n=1,1000 would not say again; weights are there once."""
    import json
    m = decoder()
    compare(ctx, m, feeds_decoder, ((1, 1, 5), (3, 1, 9), (1, 4, 2), (2, 7, 3), (9, 1, 17), (2, 5, 0), (1, 1, 0)), {},
            backend)
    path = saved(ctx, m)
    made = json.loads(ctx.smelt("info", path, "--json").stdout)
    general = json.loads(ctx.smelt("info", path, "--json", "--dim=n=1000,1001").stdout)
    check(made["versions"] == ["n=1", "other sizes"], f"{made['versions']}")
    check(made["packed_weight_bytes"] == general["packed_weight_bytes"], "weights are there twice")
    kernels = ctx.smelt("compile", path, "--emit=kernel", "-o", "-").stdout
    calls = [line for line in kernels[kernels.index("if n == 1 {"):].splitlines() if " call k" in line]
    check(not calls[0].endswith("n)") and "(batch" in calls[0], f"the version's kernels do not know that n is 1: {calls[0]}")
    fixed = json.loads(ctx.smelt("info", path, "--json", "--dim=batch=4").stdout)
    check("versions" not in fixed, f"with 4 rows: {fixed}")


def feeds_net(batch, seq):
    x = np.random.default_rng(batch * 100 + seq).integers(-2, 3, (batch, seq, 16))
    return {"x": x.astype(np.float32)}


def feeds_free(batch, seq):
    return {"x": np.full((batch, seq), 0.5, np.float32), "shape": np.array([batch + 1, seq], np.int64)}


def feeds_branch(batch, other):
    return {"x": np.arange(batch * 4, dtype=np.float32).reshape(batch, 4), "w": np.ones((other, 4), np.float32)}


def saved(ctx, m):
    path = os.path.join(ctx.new_dir(), m.graph.name + ".onnx")
    onnx.save(m, path)
    return path


def compare(ctx, m, feeds, sizes, lists, backend):
    """Each size against onnxruntime; where a version is for it, the bits of the model that has just this size."""
    import onnxruntime
    path = saved(ctx, m)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    options = [f"--dim={name}={','.join(map(str, values))}" for name, values in lists.items()]
    for size in sizes:
        data = feeds(*size)
        want = session.run(None, data)
        got = smelt_run(ctx, path, data, f"--backend={backend}", "--verify=2", *options)
        for name, reference in zip([o.name for o in m.graph.output], want):
            check(got[name].shape == reference.shape and np.allclose(got[name], reference, rtol=1e-5, atol=1e-5),
                  f"sizes {size}: {name}: {got[name].shape}, expected {reference.shape}")
        given = dict(zip(lists, size))
        if lists and all(v in lists[n] for n, v in given.items()):
            alone = smelt_run(ctx, path, data, f"--backend={backend}", *(f"--dim={n}={v}" for n, v in given.items()))
            for name in got:
                check(np.array_equal(got[name], alone[name]), f"sizes {size}: {name} differs from the model for these alone")


def library(ctx, options, calls):
    """Builds tests/library/versions.c with the model; returns the arena's bytes of each call that ran."""
    m = model(PLAIN, zero=np.float32(0), turn=np.eye(8, dtype=np.float32))
    folder, archive = ctx.compile(saved(ctx, m), "--name", "net", *options)
    with open(os.path.join(folder, "net.h"), encoding="utf-8") as f:
        header = f.read()
    program = os.path.join(folder, "versions")
    ctx.run(ctx.tool("gcc", "cc"), "-std=c11", "-Wall", "-Wextra", "-Werror", "-O1", f"-I{folder}", f"-I{ctx.include}",
            ctx.path("tests", "library", "versions.c"), archive, "-o", program)
    out = ctx.run(program, *[w for c in calls for w in c]).stdout.split()
    return [int(x) for x in out], header


def picks(ctx):
    calls = [(1, 3, "batch=1"), (8, 3, "batch=8"), (8, 11, "batch=8"), (2, 3, "other sizes"), (7, 1, "other sizes")]
    arenas, header = library(ctx, ["--dim=batch=1,8"], calls)
    check("code   for batch=1\n" in header and "code   for other sizes\n" in header, "the header does not list the versions")
    check(arenas[0] < arenas[1] < arenas[2], f"arenas of batch 1, 8 and 8: {arenas}")
    _, plain = library(ctx, [], [])
    check("code   for" not in plain, "a header without versions speaks of them")


def picks_of_two(ctx):
    calls = [(b, s, f"batch={b}, seq={s}") for b in (1, 4) for s in (2, 9)]
    library(ctx, ["--dim=batch=1,4", "--dim=seq=2,9"], calls + [(1, 3, "other sizes"), (2, 2, "other sizes")])


def only(ctx):
    """Without general code the sizes between are refused, and the largest arena is that of the largest version."""
    arenas, header = library(ctx, ["--dim=batch=1,4", "--dim=seq=2,9", "--only-versions"],
                             [(1, 2, "batch=1, seq=2"), (4, 9, "batch=4, seq=9"), (2, 9, "refused"), (1, 3, "refused")])
    check("other sizes" not in header and "batch: 1 to 4" in header, "the header accepts other sizes")
    check(f"#define NET_ARENA_BYTES {arenas[1]}u" in header, f"NET_ARENA_BYTES is not {arenas[1]}")


def weights_once(ctx):
    """The same bytes are one constant, whichever version they are for."""
    import json
    path = saved(ctx, net())
    alone = json.loads(ctx.smelt("info", path, "--json").stdout)
    several = json.loads(ctx.smelt("info", path, "--json", "--dim=batch=2,8", "--dim=seq=32,64").stdout)
    check(len(several["versions"]) == 5 and "versions" not in alone, f"{several['versions']}")
    check(several["packed_weight_bytes"] == alone["packed_weight_bytes"],
          f"{several['packed_weight_bytes']} bytes of weights, {alone['packed_weight_bytes']} without versions")


REFUSED = (("twice", ["--dim=batch=1,1"], "a number is there twice"),
           ("empty", ["--dim=batch=1,"], "takes NAME=N or NAME=N,N,..."),
           ("word", ["--dim=batch=1,x"], "takes NAME=N or NAME=N,N,..."),
           ("zero", ["--dim=x:0=0,1"], "x:0=0: a dim lies between 1 and"),
           ("unknown", ["--dim=rows=1,8"], "--dim rows: no input has a symbolic dim of this name"),
           ("fixed", ["--dim=x:2=16,8"], "--dim x:2: the model fixes this dim to 16"),
           ("many", ["--dim=batch=1,2,3,4,5", "--dim=seq=1,2,3,4"], "make 20 versions; at most 16 are made"),
           ("only", ["--dim=batch=1", "--only-versions"], "--only-versions needs a --dim with several numbers"))


def refused(ctx, options, message):
    done = ctx.smelt("compile", saved(ctx, net()), "--emit=kernel", "-o", "-", *options, expect=None)
    check(done.returncode == 1 and message in done.stderr, f"exit status {done.returncode}: {done.stderr}")


def bad_version(ctx):
    """What is wrong with one version only says for which."""
    m = model("bad (float[batch,6] x) => (y) { shape = Constant <value = int64[2] {4, 9}> () y = Reshape (x, shape) }")
    done = ctx.smelt("compile", saved(ctx, m), "--dim=batch=6,5", expect=1)
    check("this was found for batch=5" in done.stderr, done.stderr)


def by_place(ctx, backend):
    """An axis of one input; the other input with that name keeps its symbol."""
    m = model("pair (float[n,4] x, float[n,4] w) => (y) { y = Add (x, w) }")
    path = saved(ctx, m)
    for n in (1, 2, 3):
        x = np.arange(n * 4, dtype=np.float32).reshape(n, 4)
        got = smelt_run(ctx, path, {"x": x, "w": x}, "--dim=x:0=2,3", f"--backend={backend}")
        check(np.array_equal(got["y"], x + x), f"{n}: {got}")


def cases(ctx):
    sizes = ((1, 3), (8, 3), (8, 11), (2, 5), (3, 3))
    each = []
    for backend, label in BACKENDS.items():
        each += [Case(f"{name}.{backend}", lambda a=a, b=backend: compare(ctx, *a, b), label) for name, a in (
            ("batch", (net(), feeds_net, sizes, {"batch": (1, 8)})),
            ("both", (net(), feeds_net, sizes, {"batch": (8, 2), "seq": (3, 5)})),
            ("heap", (model(FREE), feeds_free, sizes, {"batch": (1, 8), "seq": (3, 4)})),
            ("if", (branch(), feeds_branch, ((1, 2), (8, 2), (2, 2), (3, 3)), {"batch": (1, 8)})))]
        each.append(Case(f"place.{backend}", lambda b=backend: by_place(ctx, b), label))
        each.append(Case(f"decodes.{backend}", lambda b=backend: decodes(ctx, b), label))
    return each + [Case("picks", lambda: picks(ctx), "cpu"), Case("picks_of_two", lambda: picks_of_two(ctx), "cpu"),
                   Case("only", lambda: only(ctx), "cpu"), Case("weights_once", lambda: weights_once(ctx)),
                   Case("bad_version", lambda: bad_version(ctx))] + [
        Case(f"refused_{name}", lambda o=o, t=t: refused(ctx, o, t)) for name, o, t in REFUSED]
