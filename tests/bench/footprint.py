#!/usr/bin/env python3
"""Measures what a program with a compiled model in it needs: memory, time to the first answer, size of the code, and
processor time of the compiler; and writes them into docs/performance.md.

    footprint.py [NAME ...] [--runs 9] [--smelt PATH] [--models DIR] [--results FILE] [-o docs/performance.md] [--quick]

The program is tests/library/call.c, linked with the library; its weights are pages of the executable's file, as they
are of a weights file. It reads the inputs from a file, runs once and writes the outputs, which are compared. First
answer: from the start of the process to its end, least of some runs, so that the weights are in the page cache. Most
resident memory: as the kernel counts it. Code: what `size` calls text and data of the library's objects when the
weights are in a file of their own. Compile: user and system seconds of `smelt compile`.

Exit status 1 if a model misses a bar of BARS. Symbolic dims: the smallest that the model accepts.
"""
import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TESTS = os.path.dirname(HERE)
ROOT = os.path.dirname(TESTS)
sys.path[:0] = [TESTS, HERE]
sys.dont_write_bytecode = True

import report  # noqa: E402
from bench import load  # noqa: E402
from compare import compare  # noqa: E402
from harness import Context, Failed, Skip, check  # noqa: E402
from model_files import call_program, interface, stored  # noqa: E402

BARS = {   # model: {figure: the most it may be}; beyond_mb is resident memory beyond weights and arena
    "resnet50": {"beyond_mb": 5.0, "first_ms": 80.0, "compile_s": 10.0},
    "mobilenet_v2": {"first_ms": 20.0, "code_kb": 400.0},
    "bert_base_128": {"code_kb": 300.0, "compile_s": 20.0},
    "mlp_10_20_5": {"code_kb": 4.0},
}


def timed(ctx, words, **options):
    """(processor seconds, most resident bytes) of a program that ends well, by /usr/bin/time."""
    done = ctx.run("/usr/bin/time", "-f", "%U %S %M", *words, **options)
    user, system, kilobytes = done.stderr.split()[-3:]
    return float(user) + float(system), 1024 * int(kilobytes)


def code_bytes(ctx, archive):
    """Text and data of all objects, without the weights."""
    total = re.findall(r"^\s*(\d+)\s+(\d+)\s+\d+\s+\d+\s+\w+\s+\(TOTALS\)", ctx.run("size", "-t", archive).stdout, re.M)
    check(total, "size -t printed no totals")
    return sum(int(n) for n in total[0])


def first_answer(program, model, inputs, ctx, runs):
    """Seconds of the quickest of some runs of the whole process."""
    folder = ctx.new_dir()
    source, target = os.path.join(folder, "in.bin"), os.path.join(folder, "out.bin")
    with open(source, "wb") as f:
        for name in interface(model)[0]:
            f.write(inputs[name].tobytes())
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        subprocess.run([program, source, target], check=True, close_fds=False)
        times.append(time.perf_counter() - start)
    _, resident = timed(ctx, [program, source, target])
    return min(times), resident


def measure(ctx, name, runs):
    """The figures of a model, as report.py shows them."""
    path = ctx.model(name)
    inputs, want = stored(ctx, name)
    folder = ctx.new_dir()
    seconds, _ = timed(ctx, [ctx.smelt_path, "compile", path, "--name=net"], cwd=folder)
    archive, program = os.path.join(folder, "libnet.a"), os.path.join(folder, "program")
    ctx.run(os.environ.get("CC", "cc"), "-O2", "-I", ctx.include, "-DMODEL=net_model", ctx.path("tests", "library", "call.c"),
            archive, "-lm", "-o", program)
    verdict = compare(name, call_program(ctx, program, path, inputs, want), want)
    check(not verdict.failure, verdict.failure)
    least, resident = first_answer(program, path, inputs, ctx, runs)
    apart = ctx.new_dir()
    ctx.smelt("compile", path, "--name=net", "--weights=file", cwd=apart)
    info = json.loads(ctx.smelt("info", path, "--json").stdout)
    figures = {"weights_mb": info["packed_weight_bytes"] / 1e6, "arena_mb": info.get("arena_bytes", 0) / 1e6,
               "resident_mb": resident / 1e6, "first_ms": 1e3 * least,
               "code_kb": code_bytes(ctx, os.path.join(apart, "libnet.a")) / 1e3, "compile_s": seconds}
    figures["beyond_mb"] = figures["resident_mb"] - figures["weights_mb"] - figures["arena_mb"]
    return figures


def missed(name, figures):
    return [f"{name}: {key} is {report.number(figures[key])}, the bar is {bar:g}"
            for key, bar in BARS.get(name, {}).items() if figures[key] > bar]


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("names", nargs="*")
    p.add_argument("--runs", type=int, default=9)
    p.add_argument("--quick", action="store_true", help="print only")
    p.add_argument("--smelt", default=os.path.join(ROOT, "build", "release", "driver", "smelt"))
    p.add_argument("--models", default=os.path.join(ROOT, "build", "models"))
    p.add_argument("--results", default=os.path.join(ROOT, "build", "bench", "results.json"))
    p.add_argument("-o", "--out", default=os.path.join(ROOT, "docs", "performance.md"))
    a = p.parse_args()
    results, problems = load(a.results), []
    with tempfile.TemporaryDirectory(prefix="smelt-bench-") as scratch:
        ctx = Context(root=ROOT, smelt_path=os.path.abspath(a.smelt), models=os.path.abspath(a.models), scratch=scratch)
        for name in a.names or ctx.model_names():
            try:
                figures = measure(ctx, name, a.runs)
            except (Failed, Skip) as e:
                problems.append(f"{name}: {e}")
                continue
            results.setdefault("footprint", {})[name] = figures
            print(f"{name:24} " + ", ".join(f"{k} {report.number(v)}" for k, v in figures.items()), flush=True)
            problems += missed(name, figures)
    print("\n".join(problems))
    if not a.quick:
        os.makedirs(os.path.dirname(a.results), exist_ok=True)
        with open(a.results, "w", encoding="utf-8") as f:
            json.dump(results, f, indent=1)
        report.write_page(results, a.out)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
