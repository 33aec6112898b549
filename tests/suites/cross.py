"""Other chips: small models compiled for ARM and RISC-V, linked statically with the cross compiler, run under qemu
and judged like everywhere else. What they need from elsewhere is checked too: 32-bit Arm has no 64-bit division.
A model on strings, whose elements have another size there, is called by tests/library/strings.c."""
import os

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from compare import compare
from harness import Case, Failed
from model_files import call_program, smelt_run, stored
from suites.bits import digits_pair

MODELS = ("digits", "mnist_cnn", "kws_dscnn", "mlp_10_20_5", "tiny_autoencoder", "mobilenet_v2")

# name: options of smelt, the cross compiler and its options, the emulator
TARGETS = {
    "aarch64": (("--target=aarch64-linux-gnu",), ("aarch64-linux-gnu-gcc",), ("qemu-aarch64-static",)),
    "armv7": (("--target=arm-linux-gnueabihf",), ("arm-linux-gnueabihf-gcc",), ("qemu-arm-static",)),
    "armv7_neon": (("--target=arm-linux-gnueabihf", "--cpu=cortex-a7", "--fast-math"), ("arm-linux-gnueabihf-gcc",),
                   ("qemu-arm-static", "-cpu", "cortex-a7")),
    "riscv64_v": (("--target=riscv64-linux-gnu", "--features=+v"), ("riscv64-linux-gnu-gcc",),
                  ("qemu-riscv64-static", "-cpu", "rv64,v=true,vlen=128,vext_spec=v1.0")),
    "riscv64_v256": (("--target=riscv64-linux-gnu", "--features=+v,+zvl256b"), ("riscv64-linux-gnu-gcc",),
                     ("qemu-riscv64-static", "-cpu", "rv64,v=true,vlen=256,vext_spec=v1.0")),
}


def words_model():
    names = numpy_helper.from_array(np.array(["zero", "one", "two"], dtype=object), "names")
    nodes = [helper.make_node("RegexFullMatch", ["x"], ["m"], pattern=r"[a-z]+\d*"),
             helper.make_node("LabelEncoder", ["x"], ["c"], domain="ai.onnx.ml", keys_strings=["cat", "dog", "bird7"],
                              values_int64s=[1, 2, 3], default_int64=-1),
             helper.make_node("Gather", ["names", "i"], ["g"]), helper.make_node("Where", ["m", "x", "g"], ["w"]),
             helper.make_node("Cast", ["f"], ["t"], to=TensorProto.STRING)]
    inputs = [("x", TensorProto.STRING), ("i", TensorProto.INT64), ("f", TensorProto.FLOAT)]
    outputs = [("m", TensorProto.BOOL), ("c", TensorProto.INT64), ("w", TensorProto.STRING), ("t", TensorProto.STRING)]
    graph = helper.make_graph(nodes, "words", [helper.make_tensor_value_info(n, t, ["n"]) for n, t in inputs],
                              [helper.make_tensor_value_info(n, t, ["n"]) for n, t in outputs], [names])
    imports = [helper.make_opsetid("", 20), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=imports, ir_version=9)


def cases(ctx):
    def one(name, target):
        def run():
            options, cc, emulator = TARGETS[target]
            ctx.tool(cc[0])
            ctx.tool(emulator[0])
            if name == "digits":
                model = ctx.path("samples", "digits", "digits.onnx")
                inputs, _ = digits_pair(ctx)
                want = smelt_run(ctx, model, inputs)
            else:
                model = ctx.model(name)
                inputs, want = stored(ctx, name)
            folder, archive = ctx.compile(model, *options, "--name", "net")
            ctx.check_needs_nothing(archive)
            program = os.path.join(folder, "call")
            ctx.run(*cc, "-static", "-std=c11", "-O2", f"-I{ctx.include}", "-I", folder, "-DMODEL=net_model",
                    ctx.path("tests", "library", "call.c"), archive, "-lm", "-o", program)
            verdict = compare(name, call_program(ctx, program, model, inputs, want, emulator), want)
            if verdict.failure:
                raise Failed(verdict.failure)
            return f"{verdict.measure} {verdict.worst:.2g}"
        return run

    def strings(target):
        def run():
            options, cc, emulator = TARGETS.get(target, ((), ("cc",), ()))
            for tool in cc[:1] + emulator[:1]:
                ctx.tool(tool)
            model = os.path.join(ctx.new_dir(), "words.onnx")
            onnx.save(words_model(), model)
            folder, archive = ctx.compile(model, *options, "--name", "net")
            ctx.check_needs_nothing(archive)
            program = os.path.join(folder, "call")
            ctx.run(*cc, "-static", "-std=c11", "-O2", f"-I{ctx.include}", "-I", folder,
                    ctx.path("tests", "library", "strings.c"), archive, "-lm", "-o", program)
            return ctx.run(*emulator, program).stdout.strip()
        return run

    def vector_length():
        """A host asks for the length that the model was compiled for."""
        program = os.path.join(ctx.new_dir(), "supports")
        _, cc, emulator = TARGETS["riscv64_v256"]
        for tool in cc + emulator[:1]:
            ctx.tool(tool)
        ctx.run(*cc, "-static", "-std=gnu11", "-O2", f"-I{ctx.include}", ctx.path("tests", "library", "supports.c"),
                ctx.path("runtime", "cpu.c"), "-o", program)
        for target, want in (("riscv64_v", "lacks zvl256b"), ("riscv64_v256", "has all")):
            said = ctx.run(*TARGETS[target][2], program, "v,zvl256b").stdout.strip()
            if said != want:
                raise Failed(f"{target}: {said}; expected: {want}")

    return [Case(f"{t}_{n}", one(n, t), "slow" if n == "mobilenet_v2" else "cpu") for t in TARGETS for n in MODELS] + [
        Case(f"{t}_strings", strings(t), "cpu") for t in ("host", "armv7", "riscv64_v")] + [
        Case("riscv64_vector_length", vector_length, "cpu")]
