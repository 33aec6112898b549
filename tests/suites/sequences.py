"""Sequences and optionals: results against onnxruntime, data files of both kinds, and what is refused with a message."""
import os

import numpy as np
import onnx
import onnx.parser
from onnx import numpy_helper

from harness import Case, check
from list_models import BAD_LISTS, LISTS

BACKENDS = (("interpret", "nodev"), ("llvm", "cpu"), ("c", "cpu"))
HEAD = '<ir_version: 10, opset_import: ["" : 21]>\n'
I = np.int64
A, B, C = (np.arange(6, dtype=np.float32).reshape(2, 3) + k for k in (0, 10, 20))
WIDE = np.ones((2, 5), np.float32)
TRUE, FALSE = np.array(True), np.array(False)

# name: text of the graph, inputs
MODELS = {
    "at_negative": ("f (float[2,3] a, float[2,3] b) => (float[2,3] y) { s = SequenceConstruct(a, b) "
                    "p = Constant<value_int = -1>() y = SequenceAt(s, p) }", [A, B]),
    "at_while_running": ("f (float[2,3] a, float[2,3] b, float[2,3] c, int64 p) => (float[2,3] y) "
                         "{ s = SequenceConstruct(a, b, c) y = SequenceAt(s, p) }", [A, B, C, np.array(-3, I)]),
    "at_of_other_dims": ("f (float[2,3] a, float[2,5] b, int64 p) => (float[2,k] y) "
                         "{ s = SequenceConstruct(a, b) y = SequenceAt(s, p) }", [A, WIDE, np.array(1, I)]),
    "insert_first": ("f (float[2,3] a, float[2,5] b) => (seq(float[n,k]) y) { s = SequenceConstruct(a, a) "
                     "p = Constant<value_int = 0>() y = SequenceInsert(s, b, p) }", [A, WIDE]),
    "insert_while_running": ("f (float[2,3] a, float[2,3] b, int64 p) => (seq(float[2,3]) y) "
                             "{ s = SequenceConstruct(a, a) y = SequenceInsert(s, b, p) }", [A, B, np.array(-1, I)]),
    "insert_at_end": ("f (float[2,3] a, float[2,3] b, int64 p) => (seq(float[2,3]) y) "
                      "{ s = SequenceConstruct(a, a) y = SequenceInsert(s, b, p) }", [A, B, np.array(2, I)]),
    "erase_last": ("f (float[2,3] a, float[2,3] b) => (seq(float[2,3]) y) { s = SequenceConstruct(a, b) "
                   "y = SequenceErase(s) }", [A, B]),
    "erase_while_running": ("f (float[2,3] a, float[2,3] b, float[2,3] c, int64 p) => (seq(float[2,3]) y, int64 n) "
                            "{ s = SequenceConstruct(a, b, c) y = SequenceErase(s, p) n = SequenceLength(y) }",
                            [A, B, C, np.array(1, I)]),
    "concat_new_axis": ("f (float[2,3] a, float[2,3] b) => (float[2,3,2] y) { s = SequenceConstruct(a, b) "
                        "y = ConcatFromSequence<axis = -1, new_axis = 1>(s) }", [A, B]),
    "concat_of_input": ("f (seq(float[2,k]) s) => (float[2,m] y) { y = ConcatFromSequence<axis = 1>(s) }", [[A, WIDE]]),
    "split_evenly": ("f (float[2,5] x) => (seq(float[2,k]) y) { n = Constant<value_int = 2>() "
                     "y = SplitToSequence<axis = -1>(x, n) }", [WIDE]),
    "split_at_sizes": ("f (float[2,5] x, int64[3] n) => (seq(float[2,k]) y) { y = SplitToSequence<axis = 1>(x, n) }",
                       [WIDE, np.array([1, 0, 4], I)]),
    "split_squeezed": ("f (float[2,3] x) => (seq(float[3]) y) { y = SplitToSequence<keepdims = 0>(x) }", [A]),
    "empty_length": ("f (float[2] x) => (int64 n, float[2] y) { s = SequenceEmpty() n = SequenceLength(s) y = Neg(x) }",
                     [np.ones(2, np.float32)]),
    "identity_of_strings": ("f (seq(string[k]) s) => (seq(string[k]) y) { y = Identity(s) }",
                            [[np.array(["a", "bcd"], object), np.array([""], object)]]),
    "if_of_sequences": ("f (bool c, float[2,3] a, float[2,5] b) => (seq(float[2,k]) y) "
                        "{ y = If(c) <then_branch = t () => (seq(float[2,k]) u) { u = SequenceConstruct(a, b) }, "
                        "else_branch = e () => (seq(float[2,k]) v) { v = SequenceConstruct(b, b) }> }", [FALSE, A, WIDE]),
    "split_behind_if": ("f (bool c, float[2,3] a, float[2,3] b) => (float[3] y, float[3] z) "      # its length follows from both branches
                        "{ d = Neg(b) k = If(c) <then_branch = t () => (float[2,3] u) { u = Add(a, d) }, "
                        "else_branch = e () => (float[2,3] v) { v = Mul(d, d) }> p = Constant<value_int = 1>() "
                        "s = SplitToSequence<keepdims = 0>(k) y = SequenceAt(s, p) q = Constant<value_int = 0>() "
                        "z = SequenceAt(s, q) }", [FALSE, A, B]),
    "split_behind_loop": ("f (float[2,3] a, int64 n) => (float[3] y) { g = Constant<value = bool {1}>() "
                          "d = Abs(a) k = Loop(n, g, a) <body = l (int64 i, bool h, float[2,3] r) => (bool o, float[2,3] q) "
                          "{ o = Identity(h) q = Add(r, d) }> p = Constant<value_int = -1>() "
                          "s = SplitToSequence<keepdims = 0>(k) y = SequenceAt(s, p) }", [A, np.array(3, I)]),
    "loop_of_sequence": ("f (float[2,3] a) => (seq(float[2,3]) y) { s = SequenceEmpty() n = Constant<value_int = 3>() "
                         "g = Constant<value = bool {1}>() y = Loop(n, g, s) <body = b (int64 i, bool h, seq(float[2,3]) r) "
                         "=> (bool o, seq(float[2,3]) q) { o = Identity(h) f = Cast<to = 1>(i) e = Add(a, f) "
                         "q = SequenceInsert(r, e) }> }", [A]),
    "captured_in_loop": ("f (float[2,3] a, float[2,3] b, int64 n) => (float[2,3] y) { s = SequenceConstruct(a, b, a) "
                         "g = Constant<value = bool {1}>() y = Loop(n, g, a) <body = l (int64 i, bool h, float[2,3] r) "
                         "=> (bool o, float[2,3] q) { o = Identity(h) e = SequenceAt(s, i) q = Add(r, e) }> }",
                         [A, B, np.array(2, I)]),
    "map_of_two": ("f (seq(float[2,k]) s, float[2,1] x) => (seq(float[2,k]) y) { y = SequenceMap(s, x) "
                   "<body = b (float[2,k] e, float[2,1] f) => (float[2,k] q) { q = Mul(e, f) }> }",
                   [[A, WIDE], np.array([[2], [3]], np.float32)]),
    "optional_of_tensor": ("f (float[2,3] a) => (float[2,3] y, bool h) { o = Optional(a) h = OptionalHasElement(o) "
                           "y = OptionalGetElement(o) }", [A]),
}

# name: text, exit status, part of the message
REFUSED = {
    "unknown_rank": ("f (seq(float[]) s) => (int64 n) { n = SequenceLength(s) }", 3, "--shape s.0=2,3"),
    "outside": ("f (float[2] a) => (float[2] y) { s = SequenceConstruct(a) p = Constant<value_int = 1>() "
                "y = SequenceAt(s, p) }", 1, "outside of the sequence of 1"),
    "sequence_into_add": ("f (float[2] a) => (float[2] y) { s = SequenceConstruct(a) y = Add(s, a) }", 1,
                          "input 0 is a sequence, but has to be a tensor"),
    "tensor_as_sequence": ("f (float[2] a) => (int64 y) { y = SequenceLength(a) }", 1, "has to be a sequence"),
    "ranks": ("f (int64 n) => (seq(float[]) y) { s = SequenceEmpty() y = Loop(n, , s) <body = b (int64 i, bool h, seq(float[]) r) "
              "=> (bool o, seq(float[]) q) { o = Identity(h) q = Identity(r) }> }", 3, "the rank of the elements"),
    "optional_of_no_rank": ("f (int64 n) => (bool y) { s = Optional<type: type_proto = float[k]>() p = Loop(n, , s) <body = b (int64 i, "
                            "bool h, optional(float[]) r) => (bool o, optional(float[]) q) { o = Identity(h) q = Identity(r) }> "
                            "y = OptionalHasElement(p) }", 3, "which type and rank"),
    "split_sizes": ("f (float[2,5] x) => (seq(float[2,k]) y) { n = Constant<value_ints = [2, 2]>() "
                    "y = SplitToSequence<axis = 1>(x, n) }", 1, "do not add up"),
}

# Bytes of a file that should be a SequenceProto with a tensor f32[2], exit status, part of the message.
GOOD_TENSOR = bytes([8, 2, 16, 1, 74, 8]) + bytes(8)
BAD_DATA = {
    "cut": (bytes([16, 1, 26, 14]) + GOOD_TENSOR[:9], 1, "is not a SequenceProto"),
    "of_maps": (bytes([16, 4]), 3, "is a sequence of something else than tensors"),
    "short_tensor": (bytes([16, 1, 26, 6, 8, 2, 16, 1, 74, 0]), 1, "fewer elements than its dims ask for"),
    "negative_dim": (bytes([16, 1, 26, 13, 8] + [255] * 9 + [1, 16, 1]), 1, "has bad dims"),
    "noise": (bytes(range(255, 155, -1)), 1, "is not a SequenceProto"),
}


def save(folder, text):
    path = os.path.join(folder, "m.onnx")
    onnx.save(onnx.parser.parse_model(HEAD + text), path)
    return path


def write(path, value):
    proto = numpy_helper.from_list(value) if isinstance(value, list) else numpy_helper.from_array(value)
    with open(path, "wb") as f:
        f.write(proto.SerializeToString())


def read(path, is_list):
    with open(path, "rb") as f:
        data = f.read()
    if is_list:
        return numpy_helper.to_list(onnx.SequenceProto.FromString(data))
    return numpy_helper.to_array(onnx.TensorProto.FromString(data))


def same(got, want, what):
    if isinstance(want, list):
        check(len(got) == len(want), f"{what}: {len(got)} elements, expected {len(want)}")
        for i, (g, w) in enumerate(zip(got, want)):
            same(g, w, f"{what}.{i}")
        return
    want = np.asarray(want)
    check(got.shape == want.shape, f"{what}: shape {got.shape}, expected {want.shape}")
    check((got.astype(want.dtype) == want).all(), f"{what}: {got.tolist()}, expected {want.tolist()}")


def answers(path, inputs):
    import onnxruntime
    onnxruntime.set_default_logger_severity(4)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, dict(zip([v.name for v in session.get_inputs()], inputs)))


def run_folder(ctx, path, inputs, backend, expect=0):
    folder = os.path.dirname(path)
    for i, value in enumerate(inputs):
        write(os.path.join(folder, f"input_{i}.pb"), value)
    return ctx.smelt("run", path, f"--backend={backend}", "--inputs", folder, "--outputs", folder, "--verify=2", expect=expect)


def agree(ctx, text, sets, backend):
    """C compilers take their time: one set of inputs for them."""
    path = save(ctx.new_dir(), text)
    for inputs in sets[:1] if backend == "c" else sets:
        want = answers(path, inputs)
        run_folder(ctx, path, inputs, backend)
        for i, w in enumerate(want):
            same(read(os.path.join(os.path.dirname(path), f"output_{i}.pb"), isinstance(w, list)), w, f"output {i}")


def in_a_library(ctx):
    """Lists in the interface of a compiled model: one library, any number of elements of any shape."""
    from smelt_abi import SharedModel
    folder = ctx.new_dir()
    path = save(folder, "f (seq(float[k,l]) s) => (seq(float[l,k]) y, float[m] z, int64 n) { y = SequenceMap(s) <body = b (float[k,l] e) "
                "=> (float[l,k] t) { t = Transpose(e) }> n = SequenceLength(s) w = SequenceMap(s) <body = c (float[k,l] e) => "
                "(float r) { r = ReduceSum<keepdims = 0>(e) }> z = ConcatFromSequence<axis = 0, new_axis = 1>(w) }")
    ctx.smelt("compile", path, "--name=lists", "--emit=shared", cwd=folder)
    for given in ([A, WIDE, A], [WIDE], [A, np.zeros((0, 4), np.float32)]):
        values = np.concatenate([e.ravel() for e in given])
        shapes = np.array([e.shape for e in given], I)
        model = SharedModel(os.path.join(folder, "liblists.so"), ctx.include, [values, shapes])
        model.run()
        want = np.concatenate([e.T.ravel() for e in given])
        check(np.array_equal(model.output(0, np.float32, want.size), want), "the elements are wrong")
        check(np.array_equal(model.output(1, I, shapes.size), shapes[:, ::-1].ravel()), "the shapes are wrong")
        sums = np.array([e.sum() for e in given])
        check(np.allclose(model.output(2, np.float32, len(given)), sums), "the sums are wrong")
        check(model.output(3, I, 1)[0] == len(given), "the length is wrong")


def cases(ctx):
    def judged(name, backend):
        def run():
            text, inputs = MODELS[name]
            agree(ctx, text, [inputs], backend)
        return run

    def refused(name):
        def run():
            text, status, message = REFUSED[name]
            done = ctx.smelt("check", save(ctx.new_dir(), text), expect=status)
            check(message in done.stderr, f"said {done.stderr}, expected {message}")
        return run

    def bad_data(name):
        def run():
            data, status, message = BAD_DATA[name]
            folder = ctx.new_dir()
            path = save(folder, "f (seq(float[2]) s) => (int64 n) { n = SequenceLength(s) }")
            with open(os.path.join(folder, "input_0.pb"), "wb") as f:
                f.write(data)
            done = ctx.smelt("run", path, "--shape", "s.0=2", "--inputs", folder, expect=status)
            check(message in done.stderr, f"said {done.stderr}, expected {message}")
        return run

    def bad_list(name, backend):
        text, inputs = BAD_LISTS[name]
        done = run_folder(ctx, save(ctx.new_dir(), text), inputs, backend, expect=1)
        check("the run failed" in done.stderr, done.stderr)

    lists = [Case(f"list.{n}.{b}", lambda n=n, b=b: agree(ctx, *LISTS[n], b), label) for n in LISTS for b, label in BACKENDS] + \
        [Case(f"bad_list.{n}.{b}", lambda n=n, b=b: bad_list(n, b), label) for n in BAD_LISTS for b, label in BACKENDS]
    return lists + [Case("in_a_library", lambda: in_a_library(ctx), "cpu")] + \
        [Case(f"{n}.{b}", judged(n, b), label) for n in MODELS for b, label in BACKENDS] + \
        [Case(f"refused.{n}", refused(n), "nodev") for n in REFUSED] + \
        [Case(f"bad_data.{n}", bad_data(n), "nodev") for n in BAD_DATA]
