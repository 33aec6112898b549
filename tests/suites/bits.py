"""Same bits everywhere: under one schedule the interpreter, LLVM at -O0 and -O3, and C through gcc and clang give
identical output bytes, for the digits sample and the ten smallest models."""
import os

import numpy as np

from harness import Case, check
from model_files import call_program, smelt_run, stored

N_MODELS = 10
LARGE_BYTES = 1_000_000      # interpreting a larger model takes minutes

RUNS = (("llvm -O0", ("--backend=llvm", "-O0"), {}),
        ("llvm -O3", ("--backend=llvm", "-O3"), {}),
        ("c, gcc", ("--backend=c",), {"CC": "gcc"}),
        ("c, clang", ("--backend=c",), {"CC": "clang-19"}))


def digits_pair(ctx):
    """The digits network with a fixed picture; the outputs are there for their shape only."""
    picture = np.linspace(0, 1, 64, dtype=np.float32).reshape(1, 1, 8, 8)
    return {"image": picture}, {"probabilities": np.zeros((1, 10), np.float32)}


def inputs_of(ctx, name):
    return digits_pair(ctx) if name == "digits" else stored(ctx, name)


def model_path(ctx, name):
    return ctx.path("samples", "digits", "digits.onnx") if name == "digits" else ctx.model(name)


def same_bytes(what, got, want):
    for key in want:
        a, b = got[key], want[key]
        check(a.shape == b.shape and a.dtype == b.dtype, f"{what}: {key} is {a.dtype}{a.shape}, not {b.dtype}{b.shape}")
        if a.tobytes() != b.tobytes():
            n_differ = int((a.reshape(-1).view(np.uint8) != b.reshape(-1).view(np.uint8)).sum())
            check(False, f"{what}: {key} differs from the interpreter in {n_differ} of {a.nbytes} bytes")


def cases(ctx):
    def backends(name):
        def run():
            model = model_path(ctx, name)
            inputs, _ = inputs_of(ctx, name)
            want = smelt_run(ctx, model, inputs, "--backend=interpret")
            for what, options, env in RUNS:
                if "CC" in env:
                    ctx.tool(env["CC"])
                same_bytes(what, smelt_run(ctx, model, inputs, *options, env=env), want)
        return run

    def compilers(name):
        def run():
            model = model_path(ctx, name)
            inputs, outputs = inputs_of(ctx, name)
            want = smelt_run(ctx, model, inputs, "--backend=interpret")
            like = {k: want[k] for k in outputs}
            folder, source = ctx.compile(model, "--emit=c", "--name", "net", suffix=".c")
            for cc in ("gcc", "clang-19"):
                ctx.tool(cc)
                for level in ("-O0", "-O3"):
                    program = os.path.join(folder, f"call{cc}{level}")
                    ctx.run(cc, "-std=c11", level, "-ffp-contract=off", "-march=native", f"-I{ctx.include}", "-I", folder,
                            "-DMODEL=net_model", ctx.path("tests", "library", "call.c"), source, "-lm", "-o", program)
                    same_bytes(f"{cc} {level}", call_program(ctx, program, model, inputs, like), want)
        return run

    names = sorted(ctx.model_names(), key=lambda n: os.path.getsize(ctx.model(n)))[:N_MODELS]
    made = []
    for name in ["digits"] + names:
        label = "slow" if os.path.getsize(model_path(ctx, name)) > LARGE_BYTES else "cpu"
        made += [Case(f"backends_{name}", backends(name), label), Case(f"c_compilers_{name}", compilers(name), label)]
    return made
