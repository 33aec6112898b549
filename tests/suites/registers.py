"""Accumulators stay in registers: the assembler of tiles whose last vector is a part of one, and of other tiles that
are easily spilled. In the innermost loops that multiply and add, nothing may be stored to the stack; but the transforms
of fast filtering, which store their results, may. Sums that are stored under a mask are read without one, since a
masked load would keep the whole tile in memory. Halves are compared as float32 in vectors, since no x86 before its FP16
instructions compares them but one by one.
"""
import os
import re

import onnx
import onnx.parser

from harness import Case, check

HEAD = '<ir_version: 9, opset_import: ["" : 18]> registers '
MODELS = {
    "columns": "(float[64,96] x, float[96,40] w) => (float[64,40] y) { y = MatMul (x, w) }",
    "channels": "(float[1,96,28,28] x, float[24,96,1,1] w, float[24] b) => (float[1,24,26,26] y) "
                "{ r = Relu (x) z = Conv (r, w, b) v = Relu (z) y = MaxPool <kernel_shape = [3, 3]> (v) }",
    "products_of_one_vector": "(float[1,32,27,27] x, float[128,32,3,3] w, float[128] b) => (float[1,128,25,25] y) "
                              "{ r = Relu (x) z = Conv <pads = [1, 1, 1, 1]> (r, w, b) v = Relu (z) "
                              "y = MaxPool <kernel_shape = [3, 3]> (v) }",
    "products_of_28_sums": "(float[1,64,112,112] x, float[64,64,3,3] w, float[64] b) => (float[1,64,110,110] y) "
                           "{ r = Relu (x) z = Conv <pads = [1, 1, 1, 1]> (r, w, b) v = Relu (z) "
                           "y = MaxPool <kernel_shape = [3, 3]> (v) }",
}
STORE = r"vmov[au]p[sd]\s+%[xyz]mm\d+, "
TO_STACK = STORE + r"-?\d*\(%r[sb]p\)"
EDGE = "(float[33,64] x, float[64,20] w) => (float[33,20] y) { y = MatMul (x, w) }"
HALVES = "(float16[256] x, float16[256] z) => (float16[256] y) " \
         "{ s = Add (x, z) r = Relu (s) m = Max (r, x) c = Less (m, z) y = Where (c, m, x) }"
WEIGHTS = ("w", "b")
CPUS = ("skylake-avx512", "haswell")


def with_weights(text):
    """The model with its weights as constants."""
    model = onnx.parser.parse_model(HEAD + text)
    for v in [v for v in model.graph.input if v.name in WEIGHTS]:
        dims = [d.dim_value for d in v.type.tensor_type.shape.dim]
        n = 1
        for d in dims:
            n *= d
        model.graph.input.remove(v)
        model.graph.initializer.append(onnx.helper.make_tensor(v.name, onnx.TensorProto.FLOAT, dims,
                                                               [i % 7 - 3.0 for i in range(n)]))
    return model


def inner_loops(asm):
    """The bodies of loops without a label inside: from a label to the jump back to it."""
    label = None
    for line in asm.splitlines():
        if re.match(r"\.L\w+:", line):
            label, body = line.split(":")[0], []
        elif label:
            body.append(line)
            if re.match(rf"\s+j\w+\s+{re.escape(label)}$", line):
                yield body
                label = None


def cases(ctx):
    def one(text, cpu):
        def run():
            path = os.path.join(ctx.new_dir(), "net.onnx")
            onnx.save(with_weights(text), path)
            asm = ctx.smelt("compile", path, "--emit=asm", "--target=x86_64-linux-gnu", f"--cpu={cpu}", "-o", "-").stdout
            loops = [b for b in inner_loops(asm) if sum("vfmadd" in line for line in b) >= 8]
            loops = [b for b in loops if not any(re.search(STORE, line) and not re.search(TO_STACK, line) for line in b)]
            check(loops, "no loop of multiply-adds")
            for body in loops:
                spills = [line for line in body if re.search(TO_STACK, line)]
                check(not spills, f"{len(spills)} stores to the stack in a loop:\n" + "\n".join(body[:40]))
        return run

    def masked_edge():
        path = os.path.join(ctx.new_dir(), "net.onnx")
        onnx.save(with_weights(EDGE), path)
        text = ctx.smelt("compile", path, "--emit=llvm", "--target=x86_64-linux-gnu", "--cpu=x86-64-v4", "-o", "-").stdout
        check("llvm.masked.store" in text, "the store of 20 columns has no mask: the case tests nothing")
        check("llvm.masked.load" not in text, "sums are loaded under a mask")

    def halves(cpu):
        def run():
            path = os.path.join(ctx.new_dir(), "net.onnx")
            onnx.save(with_weights(HALVES), path)
            text = ctx.smelt("compile", path, "--emit=llvm", "--target=x86_64-linux-gnu", f"--cpu={cpu}", "-o", "-").stdout
            check("fptrunc" in text, "nothing is rounded to halves: the case tests nothing")
            check(not re.search(r"fcmp \w+ <\d+ x half>", text), "halves are compared as such")
        return run

    return [Case("masked_edge", masked_edge)] + [Case(f"halves.{cpu}", halves(cpu)) for cpu in CPUS] + \
        [Case(f"{name}.{cpu}", one(text, cpu)) for name, text in MODELS.items() for cpu in CPUS]
