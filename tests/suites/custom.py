"""Operators of the user's own (docs/custom.md): C functions through every backend, as sources, objects, archives and shared
objects; functions of another model; what is refused, and each bad line of a declaration with its number."""
import os

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from harness import Case, check

SOURCE = """#include <stdint.h>
void scale_rows(const float *x, const float *by, const int64_t *list, const uint8_t *word, float *y, int64_t n,
                int64_t c, int64_t k, int64_t w) {
    for (int64_t i = 0; i < n * (c + 1); i++) y[i] = (float)(list[k - 1] + word[w - 1]);
    for (int64_t i = 0; i < n * c; i++) y[i / c * (c + 1) + i % c] = x[i] * *by;
}
void flip(const uint8_t *x, uint8_t *y, int64_t n) {
    for (int64_t i = 0; i < n; i++) y[i] = !x[i];
}
void count(const float *x, const float *z, int64_t *y, int32_t *twice, int64_t n, int64_t c) {
    *y = n * 100 + c;
    *twice = (int32_t)(2 * c) + (x[0] > z[0]);
}
"""
OPS = """# of com.own
op com.own ScaleRows scale_rows(x: f32[n, c], by: float = 2.0, list: ints[k], word: string[w]) -> (y: f32[n, c + 1])
op com.own Flip flip(x: bool[n]) -> (y: bool[n])
op com.own Count count(x: f32[n, c], z: f32[min(c, 3), ceildiv(n, 2)]) -> (y: i64[], twice: i32[1])
"""


def model_of(nodes, inputs, outputs, constants=()):
    graph = helper.make_graph(nodes, "own", [helper.make_tensor_value_info(*i) for i in inputs],
                              [helper.make_tensor_value_info(*o) for o in outputs],
                              [numpy_helper.from_array(v, name) for name, v in constants])
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.own", 1)]
    return helper.make_model(graph, ir_version=10, opset_imports=opsets)


def own_node(op, inputs, outputs, **attributes):
    return helper.make_node(op, inputs, outputs, name=op.lower(), domain="com.own", **attributes)


def write(folder, name, text):
    path = os.path.join(folder, name)
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)
    return path


def scale_model(**attributes):
    """A custom operator between others, in a branch as well, whose size is symbolic."""
    nodes = [helper.make_node("Neg", ["x"], ["m"]),
             own_node("ScaleRows", ["m"], ["s"], **{"list": [1, 2, 40], "word": "ab", **attributes}),
             helper.make_node("Mul", ["s", "two"], ["y"])]
    return model_of(nodes, [("x", TensorProto.FLOAT, ["n", 3])], [("y", TensorProto.FLOAT, ["n", 4])],
                    [("two", np.float32(2))])


def cases(ctx):
    def build(model, ops=OPS, link="own.c", source=SOURCE):
        folder = ctx.new_dir()
        write(folder, "own.c", source)
        onnx.save(model, os.path.join(folder, "own.onnx"))
        return folder, write(folder, "own.ops", ops + (f"link {link}\n" if link else ""))

    def run(folder, ops, feeds, backend="llvm", expect=0, verify=2):
        words = ["run", os.path.join(folder, "own.onnx"), "--op-file", ops, f"--backend={backend}", f"--verify={verify}",
                 "--outputs", os.path.join(folder, "out"), "--output-format=npy"]
        os.makedirs(os.path.join(folder, "out"), exist_ok=True)
        for name, value in feeds.items():
            np.save(os.path.join(folder, name + ".npy"), value)
            words += ["--input", f"{name}={os.path.join(folder, name)}.npy"]
        done = ctx.smelt(*words, expect=expect)
        names = sorted(f for f in os.listdir(os.path.join(folder, "out")) if f.endswith(".npy"))
        return [np.load(os.path.join(folder, "out", f)) for f in names], done.stderr

    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    scaled = np.concatenate([-x * 3, np.full((2, 1), 40 + ord("b"), np.float32)], axis=1) * 2

    def functions(backend):
        folder, ops = build(scale_model(by=3.0))
        got, _ = run(folder, ops, {"x": x}, backend)
        check(np.array_equal(got[0], scaled), f"{got[0]}, expected {scaled}")
        z = np.full((3, 1), -1, np.float32)
        nodes = [own_node("Count", ["x", "z"], ["y", "t"]), own_node("Flip", ["b"], ["f"])]
        folder, ops = build(model_of(nodes, [("x", TensorProto.FLOAT, ["n", "c"]), ("z", TensorProto.FLOAT, [3, "h"]),
                                             ("b", TensorProto.BOOL, [3])],
                                     [("y", TensorProto.INT64, []), ("t", TensorProto.INT32, [1]),
                                      ("f", TensorProto.BOOL, [3])]))
        got, _ = run(folder, ops, {"x": x, "z": z, "b": np.array([True, False, True])}, backend)
        check([v.tolist() for v in got] == [203, [7], [False, True, False]], f"{got}")

    def in_a_branch(backend):
        """The call in a Loop's body, with default attributes."""
        i = helper.make_tensor_value_info("i", TensorProto.INT64, [])
        inner = helper.make_graph(
            [own_node("ScaleRows", ["v"], ["w"], list=[5], word="\x00"),
             helper.make_node("Slice", ["w", "zero", "three", "one"], ["next"]),
             helper.make_node("Identity", ["go"], ["going"])], "body",
            [i, helper.make_tensor_value_info("go", TensorProto.BOOL, []),
             helper.make_tensor_value_info("v", TensorProto.FLOAT, [2, 3])],
            [helper.make_tensor_value_info("going", TensorProto.BOOL, []),
             helper.make_tensor_value_info("next", TensorProto.FLOAT, [2, 3])])
        nodes = [helper.make_node("Loop", ["times", "", "x"], ["y"], body=inner)]
        constants = [("times", np.int64(3))] + [(n, np.array([v], np.int64)) for n, v in
                                                (("zero", 0), ("three", 3), ("one", 1))]
        folder, ops = build(model_of(nodes, [("x", TensorProto.FLOAT, [2, 3])], [("y", TensorProto.FLOAT, [2, 3])],
                                     constants))
        got, _ = run(folder, ops, {"x": x}, backend, verify=1)
        check(np.array_equal(got[0], x * 8), f"{got[0]}")

    def files():
        """The functions as an object, an archive and a shared object."""
        for name, commands in (("own.o", [["-c", "own.c", "-o", "own.o"]]),
                               ("own.so", [["-shared", "-fPIC", "own.c", "-o", "own.so"]]),
                               ("own.a", [["-c", "-fPIC", "own.c", "-o", "part.o"], ["ar", "rc", "own.a", "part.o"]])):
            folder, ops = build(scale_model(by=3.0), link=name)
            for words in commands:
                compiler = [] if words[0] == "ar" else [ctx.tool("gcc"), "-fPIC"]
                ctx.run(*compiler, *words, cwd=folder)
            os.remove(os.path.join(folder, "own.c"))
            got, _ = run(folder, ops, {"x": x})
            check(np.array_equal(got[0], scaled), f"{name}: {got[0]}")

    def text_form():
        """The kernels print and parse back to the same."""
        folder, ops = build(scale_model())
        once, twice = os.path.join(folder, "a.ir"), os.path.join(folder, "b.ir")
        ctx.smelt("compile", os.path.join(folder, "own.onnx"), "--op-file", ops, "--emit=kernel", "-o", once)
        ctx.smelt("compile", once, "--emit=kernel", "-o", twice)
        first, second = (open(p, encoding="utf-8").read() for p in (once, twice))
        check("extern scale_rows(" in first and first == second, "the kernels differ after a round trip")
        with open(twice, "w", encoding="utf-8") as f:
            f.write(first.replace("extern scale_rows(", "extern abort("))
        done = ctx.smelt("run", twice, "--op-file", ops, expect=1)    # IR text may not call whatever it names
        check("'abort' is not declared" in done.stderr, done.stderr)

    def unlinked():
        """Without a link line the header says what the library needs; smelt run says what is missing."""
        folder, ops = build(scale_model(), link="")
        ctx.smelt("check", os.path.join(folder, "own.onnx"), "--op-file", ops)
        ctx.smelt("check", os.path.join(folder, "own.onnx"), expect=3)
        ctx.smelt("compile", os.path.join(folder, "own.onnx"), "--op-file", ops, "-o", os.path.join(folder, "libown.a"))
        header = open(os.path.join(folder, "own.h"), encoding="utf-8").read()
        check("to be linked with it" in header and "void scale_rows(const float *" in header, header)
        _, printed = run(folder, ops, {"x": x}, expect=1)
        check("'scale_rows' is in no file" in printed, printed)

    def sample():
        ctx.run(ctx.path("samples", "custom", "run.sh"), env={"SMELT": ctx.smelt_path})

    def refused():
        """Models that do not fit the declarations."""
        for text, model in (
                ("attribute 'list' is missing", scale_model(list=None)),
                ("attribute 'by' has another type", scale_model(by=3)),
                ("attribute 'odd' is not declared in line 2", scale_model(odd=1)),
                ("an input is i32, but has to be f32", model_of(
                    [own_node("ScaleRows", ["x"], ["y"], list=[1], word="a")], [("x", TensorProto.INT32, [2, 3])],
                    [("y", TensorProto.FLOAT, [2, 4])])),
                ("an input has rank 1", model_of(
                    [own_node("ScaleRows", ["x"], ["y"], list=[1], word="a")], [("x", TensorProto.FLOAT, [2])],
                    [("y", TensorProto.FLOAT, [2, 4])])),
                ("a dim is 5, but has to be 3", model_of(
                    [own_node("Count", ["x", "z"], ["y"])], [("x", TensorProto.FLOAT, [2, 4]),
                                                             ("z", TensorProto.FLOAT, [5, 1])],
                    [("y", TensorProto.INT64, [])])),
                ("has 2 inputs and 1 outputs, but line 3", model_of(
                    [own_node("Flip", ["x", "x"], ["y"])], [("x", TensorProto.BOOL, [2])],
                    [("y", TensorProto.BOOL, [2])]))):
            folder, ops = build(model)
            done = ctx.smelt("compile", os.path.join(folder, "own.onnx"), "--op-file", ops, "-o",
                             os.path.join(folder, "x.a"), expect=1)
            check(text in done.stderr, f"no message with '{text}'\n{done.stderr}")

    def bad_lines():
        good = "op a B c(x: f32[n]) -> (y: f32[n])\n"
        for text, line in (("starts with 'op', 'link' or 'functions'", "open a"),
                           ("'(' is missing", "op a B c"),
                           ("an operator's name is missing", "op a"),
                           ("no name in C: '9c'", "op a B 9c(x: f32[n]) -> (y: f32[n])"),
                           ("is no element type", "op a B d(x: g32[n]) -> (y: f32[n])"),
                           ("'m' is not the dim of an input", "op a B d(x: f32[n]) -> (y: f32[m])"),
                           ("']' is missing", "op a B d(x: f32[n) -> (y: f32)"),
                           ("there are no outputs", "op a B d(x: f32[n]) -> ()"),
                           ("a divisor may be 0", "op a B d(x: f32[n]) -> (y: f32[4 / (n - 1)])"),
                           ("nest too deeply", "op a B d(x: f32[n]) -> (y: f32[" + "(" * 99 + "n" + ")" * 99 + "])"),
                           ("there is no function 'log'", "op a B d(x: f32[n]) -> (y: f32[log(n)])"),
                           ("a rank is above", "op a B d(x: f32[" + ",".join(["1"] * 40) + "]) -> (y: f32[1])"),
                           ("a number is missing", "op a B d(x: f32[n], s: float = z) -> (y: f32[n])"),
                           ("a list needs its length", "op a B d(x: f32[n], s: ints) -> (y: f32[n])"),
                           ("behind an attribute", "op a B d(s: int = 1, x: f32[n]) -> (y: f32[n])"),
                           ("other types in another line: 'c'", "op a D c(x: i32[n]) -> (y: f32[n])"),
                           ("other parameters in another line", "op a B d(x: f32[n], z: f32[n]) -> (y: f32[n])"),
                           ("more after the declaration", "op a B d(x: f32[n]) -> (y: f32[n]) now"),
                           ("a file's name is missing", "link")):
            folder, ops = build(scale_model(), ops=good + "\n" + line + "\n", link="")
            done = ctx.smelt("compile", os.path.join(folder, "own.onnx"), "--op-file", ops, expect=1)
            check("line 3: " in done.stderr and text in done.stderr, f"{line}: no '{text}'\n{done.stderr}")

    made = [Case(f"functions.{b}", lambda b=b: functions(b), "cpu") for b in ("llvm", "c", "interpret")]
    made += [Case(f"in_a_branch.{b}", lambda b=b: in_a_branch(b), "cpu") for b in ("llvm", "c", "interpret")]
    return made + [Case("files", files, "cpu"), Case("text_form", text_form), Case("unlinked", unlinked),
                   Case("sample", sample, "cpu"), Case("refused", refused), Case("bad_lines", bad_lines)]
