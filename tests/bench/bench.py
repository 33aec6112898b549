#!/usr/bin/env python3
"""Times compiled models against onnxruntime, in one process, in turns.

    bench.py [NAME ...] [--seconds 6] [--smelt PATH] [--models DIR] [-o docs/performance.md]

Both sides use one thread, pinned to one processor. Time is cut into slices of less than half a second that alternate
(A B A B ...), so that both see the same clock and the same neighbours; a slice's figure is its median run. The ratio
is taken between neighbouring slices; its median and its quartiles are reported. The answers are compared before
anything is timed: a model that answers wrongly is not timed. --quick prints only and takes a second a model.
"""
import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TESTS = os.path.dirname(HERE)
ROOT = os.path.dirname(TESTS)
sys.path.insert(0, TESTS)
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[variable] = "1"

import numpy as np  # noqa: E402
import onnxruntime  # noqa: E402

from compare import DETECTORS, compare  # noqa: E402
from harness import Context  # noqa: E402
from model_files import interface, stored  # noqa: E402
from smelt_abi import SharedModel  # noqa: E402

SLICE_SECONDS = 0.4


def run_slice(run, seconds):
    """Median seconds of one run, over runs that fill `seconds` (at least one)."""
    times = []
    end = time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def interleave(ours, theirs, seconds):
    """(our medians, their medians), a figure a slice, after a warm-up slice of each."""
    a, b = [], []
    run_slice(ours, SLICE_SECONDS)
    run_slice(theirs, SLICE_SECONDS)
    end = time.perf_counter() + seconds
    while len(a) < 3 or time.perf_counter() < end:
        a.append(run_slice(ours, SLICE_SECONDS))
        b.append(run_slice(theirs, SLICE_SECONDS))
    return np.array(a), np.array(b)


def onnxruntime_session(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def bench_model(ctx, name, seconds):
    """A row of the table."""
    path = ctx.model(name)
    inputs, want = stored(ctx, name)
    in_names, out_names = interface(path)
    session = onnxruntime_session(path)
    _, library = ctx.compile(path, "--emit=shared", suffix=".so")
    model = SharedModel(library, ctx.include, [inputs[n] for n in in_names])
    model.run()
    got = {n: model.output(i, want[n].dtype, want[n].size).reshape(want[n].shape) for i, n in enumerate(out_names)}
    verdict = compare(name, got, want)
    if verdict.failure:
        return f"| {name} | - | - | wrong answer: {verdict.failure} |"
    ours, theirs = interleave(model.run, lambda: session.run(None, inputs), seconds)
    low, middle, high = np.percentile(theirs / ours, (25, 50, 75))
    return (f"| {name} | {1e3 * np.median(ours):.3f} | {1e3 * np.median(theirs):.3f} | "
            f"**{middle:.2f}** ({low:.2f} to {high:.2f}) |")


def machine():
    with open("/proc/cpuinfo", encoding="utf-8") as f:
        cpu = next((line.split(":", 1)[1].strip() for line in f if line.startswith("model name")), platform.machine())
    return f"{cpu}, {os.cpu_count()} processors, Linux {platform.release()}"


def write_page(ctx, rows, path):
    commit = subprocess.run(["git", "-C", ROOT, "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout
    text = f"""# Performance

One thread each, in one process, in alternating slices of {SLICE_SECONDS} s. Milliseconds are medians; the ratio is
onnxruntime's time over ours in neighbouring slices (median, quartiles): above 1 smelt is faster.
Written by `tests/bench/bench.py`.

Machine: {machine()}.
Versions: smelt at {commit.strip() or 'an unknown commit'}, onnxruntime {onnxruntime.__version__}, \
numpy {np.__version__}, Python {platform.python_version()}.

| model | smelt, ms | onnxruntime, ms | onnxruntime / smelt |
|---|---|---|---|
""" + "\n".join(rows) + "\n"
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path + ".tmp", "w", encoding="utf-8") as f:
        f.write(text)
    os.replace(path + ".tmp", path)
    print(f"wrote {path}")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("names", nargs="*")
    p.add_argument("--seconds", type=float, default=6.0)
    p.add_argument("--quick", action="store_true")
    p.add_argument("--smelt", default=os.path.join(ROOT, "build", "release", "driver", "smelt"))
    p.add_argument("--models", default=os.path.join(ROOT, "build", "models"))
    p.add_argument("-o", "--out", default=os.path.join(ROOT, "docs", "performance.md"))
    a = p.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    rows, n_failed = [], 0
    with tempfile.TemporaryDirectory(prefix="smelt-bench-") as scratch:
        ctx = Context(root=ROOT, smelt_path=os.path.abspath(a.smelt), models=os.path.abspath(a.models), scratch=scratch)
        names = a.names or [n for n in ctx.model_names() if n not in DETECTORS]
        if not names:
            sys.exit(f"bench.py: no models in {ctx.models}")
        for name in names:
            try:
                row = bench_model(ctx, name, 1.0 if a.quick else a.seconds)
            except Exception as e:
                row = f"| {name} | - | - | did not run: {str(e).splitlines()[0]} |"
            n_failed += "| - | - |" in row
            rows.append(row)
            print(row, flush=True)
        if not a.quick:
            write_page(ctx, rows, a.out)
    return 1 if n_failed else 0


if __name__ == "__main__":
    sys.exit(main())
