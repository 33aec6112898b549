"""Hostile models (tests/bad): each with its exit code, message, time and memory; hostile names in every form of output;
truncations of small models. The sanitized compiler (build/asan) goes through what is small. docs/hostile.md has the
table of fixtures."""
import os
import sys

from harness import Case, Skip, check, tail

# Five small models; every byte of the smallest, and of the others as many places as keep the run short.
CUT = {"mlp_10_20_5": 1, "logreg_pipe_b1": 1, "mnist_cnn": 7, "kws_dscnn": 97, "gbm100_reg_b1": 997}
# What the sanitized compiler goes through each time: the smallest models of each section.
SMALL = "^(small|cut_|varint|length_|raw|typed|two_|sparse|slice|gather|scatter|range|split|int_|cast|location|offset_n)"


def cases(ctx):
    script = ctx.path("tests", "bad", "run_bad.py")
    asan = os.path.join(ctx.build, "asan", "driver", "smelt")

    def fixtures(binary, *words):
        def run():
            if not os.access(binary, os.X_OK):
                raise Skip(f"not built: {binary}")
            done = ctx.run(sys.executable, script, *words[:-1], binary, words[-1], timeout=3600, expect=None)
            check(done.returncode == 0, tail(done.stdout + done.stderr, 60))
            return tail(done.stdout, 1)
        return run

    def cuts(name, step, preset):
        def run():
            model = ctx.model(name)
            tool = os.path.join(ctx.build, preset, "tests", "bad", "onnx_open")
            if not os.access(tool, os.X_OK):
                raise Skip(f"not built: {tool}")
            return ctx.run(tool, f"--cuts={step}", model, timeout=3600).stdout.strip()
        return run

    def flips(name, binary, count):
        def run():
            return fixtures(binary, f"--mutate={count}", ctx.model(name))()
        return run

    made = [Case("fixtures.fast", fixtures(ctx.smelt_path, "--fast", "")),
            Case("fixtures", fixtures(ctx.smelt_path, ""), "long"),
            Case("fixtures.asan", fixtures(asan, "--fast", SMALL)),
            Case("fixtures.asan_all", fixtures(asan, ""), "long")]
    for name, step in CUT.items():
        made.append(Case(f"flips.{name}", flips(name, ctx.smelt_path, 500), "long"))
        made.append(Case(f"flips.{name}.asan", flips(name, asan, 50), "long"))
        made.append(Case(f"cuts.{name}", cuts(name, step, "release")))
        made.append(Case(f"cuts.{name}.asan", cuts(name, step * 10 + 1, "asan"), "long"))
        made.append(Case(f"cuts.{name}.all", cuts(name, 1, "release"), "long"))
    return made
