"""Other chips: small models compiled for ARM and RISC-V, linked statically with the cross compiler, run under qemu
and judged like everywhere else. What they need from elsewhere is checked too: 32-bit Arm has no 64-bit division."""
import os

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
}


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

    return [Case(f"{t}_{n}", one(n, t), "slow" if n == "mobilenet_v2" else "cpu") for t in TARGETS for n in MODELS]
