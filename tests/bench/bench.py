#!/usr/bin/env python3
"""Times compiled models beside onnxruntime and OpenVINO, and writes docs/performance.md with its pictures.

    bench.py [NAME ...] [--threads 1,2] [--engines E,F] [--seconds 8] [--cpu NAME]
             [--smelt PATH] [--models DIR] [--results FILE] [-o docs/performance.md] [--quick] [--page]
    bench.py --models-from DIR [NAME ...] [--dim NAME=N ...] [--threads 1] [--engines E,F] [--seconds 8]

Every engine runs in a process of its own (engines.py), pinned to the same processors, and waits on a pipe while
another one is measured. Time is cut into slices of less than half a second that take turns (A B C, B C A, ...), so
that all see the same clock and the same neighbours. A slice's figure is its median run; a ratio is taken between
slices of one round; its median and quartiles are reported. Outputs are compared with the stored ones before anything
is timed. Models that take us less than 20 us through Python are called from C by all engines, in loops of calls.c
(c_calls.py); an engine for which that is not possible is called from Python, and marked. An engine that answers beyond the bar is timed and marked, and no ratio is taken to it.

Engines: onnxruntime, openvino_f32, openvino_default (whatever precision it chooses), smelt_openblas (our library made
with --blas=openblas, for models with a matrix product that it takes), tl2cgen (treelite's compiler of tree ensembles, for
models that are one: tree_engine.py, and tree_models.py makes some); all of them without --engines. What an engine cannot
take is left out of its column.

--cpu=haswell compiles for processors with AVX2 and no more, and holds OpenVINO to the same; onnxruntime takes the
instructions that it finds and cannot be held, so it is left out.

Results are kept by model, number of threads and --cpu in --results (default build/bench/results.json), so the table can be
measured in pieces; --page writes the page from what is there. --quick prints only, and takes five rounds a model.
--models-from DIR times the .onnx files of any folder and ends with a list of ratios; nothing is kept, no page written.
Inputs are NAME.inputs.npz beside the model, or random ones (given_models.py) with --dim for free sizes; answers are
NAME.outputs.npz or onnxruntime's. A model that some engine refuses, or that is answered beyond the bar, is told so.
The packages are those of tests/bench/requirements.txt; an engine whose package is absent is left out.
"""
import argparse
import ctypes.util
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TESTS = os.path.dirname(HERE)
ROOT = os.path.dirname(TESTS)
sys.path[:0] = [TESTS, HERE]
sys.dont_write_bytecode = True

import numpy as np  # noqa: E402

import report  # noqa: E402
from given_models import pair  # noqa: E402
from compare import compare  # noqa: E402
from harness import Context  # noqa: E402
from model_files import stored  # noqa: E402

SLICE_SECONDS = 0.4
PAUSE_SECONDS = 0.01      # after a slice, for threads that spin before they sleep
PEERS = ("onnxruntime", "openvino_f32", "openvino_default", "smelt_openblas", "tl2cgen")
# What OpenVINO may use where its default ends with an illegal instruction: a virtual machine may show AMX and FP16
# that its processor state does not have.
OPENVINO_LIMIT = {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_VNNI"}
# --cpu NAME: what holds OpenVINO to the same instructions.
CPU_LIMITS = {"haswell": {"ONEDNN_MAX_CPU_ISA": "AVX2"}}


class Died(Exception):
    """The engine's process ended; the text says how, illegal whether it was by an illegal instruction."""

    def __init__(self, text, illegal):
        super().__init__(text)
        self.illegal = illegal


class Engine:
    """A child process that runs one model in one engine."""

    def __init__(self, name, words, cpus, environment):
        self.name = name
        self.process = subprocess.Popen(
            [sys.executable, os.path.join(HERE, "engines.py"), name, *words], env={**os.environ, **environment},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            preexec_fn=lambda: os.sched_setaffinity(0, cpus))
        try:
            self.about = self._answer()
        except Died:
            self.close()
            raise

    def _answer(self):
        line = self.process.stdout.readline()
        if line:
            return json.loads(line)
        self.process.stdin.close()
        text = self.process.stderr.read().strip().splitlines()
        status = self.process.wait()
        how = f"signal {signal.Signals(-status).name}" if status < 0 else (text[-1] if text else f"exit status {status}")
        raise Died(how, status == -signal.SIGILL)

    def slice(self, seconds):
        time.sleep(PAUSE_SECONDS)
        self.process.stdin.write(f"{seconds}\n")
        self.process.stdin.flush()
        return self._answer()

    def close(self):
        if not self.process.stdin.closed:
            self.process.stdin.close()
        self.process.stdout.close()
        self.process.stderr.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Bench:
    """What is the same for all models of a run: the compiler, the pool's library, the processors."""

    def __init__(self, ctx, peers, seconds, cpu="", dims=None):
        self.ctx, self.peers, self.seconds, self.cpu, self.dims = ctx, peers, seconds, cpu, dims
        self.flags = [f"--cpu={cpu}"] if cpu else []
        self.environment = {}       # engine to what it needs to survive here
        if cpu:
            self.peers = [p for p in peers if p == "openvino_f32"]      # its default is f32 there
            self.environment = {p: CPU_LIMITS[cpu] for p in self.peers}
        self.cpus = sorted(os.sched_getaffinity(0), reverse=True)
        self.runtime = os.path.join(ctx.new_dir(), "libsmelt_runtime.so")
        sources = [ctx.path("runtime", f) for f in sorted(os.listdir(ctx.path("runtime"))) if f.endswith(".c")]
        ctx.run(os.environ.get("CC", "cc"), "-O2", "-std=gnu11", "-shared", "-fPIC", "-pthread", "-I", ctx.include,
                *sources, "-o", self.runtime)
        self.calls = os.path.join(ctx.new_dir(), "libcalls.so")
        ctx.run(os.environ.get("CC", "cc"), "-O2", "-shared", "-fPIC", os.path.join(HERE, "calls.c"), "-o", self.calls)

    def start(self, name, words, n_threads):
        cpus = set(self.cpus[:n_threads])
        try:
            return Engine(name, words, cpus, {**openblas_settings(n_threads), **self.environment.get(name, {})})
        except Died as e:
            if not (e.illegal and name.startswith("openvino")) or name in self.environment:
                raise
            self.environment[name] = OPENVINO_LIMIT
            return self.start(name, words, n_threads)

    def openblas_library(self, path):
        """The library with calls of OpenBLAS in it; None where nothing is left to it."""
        if not ctypes.util.find_library("openblas"):
            return None
        folder = self.ctx.new_dir()
        trace = self.ctx.smelt("compile", path, "--blas=openblas", "--emit=shared", "--trace=choose_schedules",
                               "-o", os.path.join(folder, "blas.so")).stderr
        return os.path.join(folder, "blas.so") if "gemm_" in trace else None

    def given(self, name, path):
        """(path of the inputs, answers {name: array})"""
        if self.dims is None:
            return path[:-len(".onnx")] + ".inputs.npz", stored(self.ctx, name)[1]
        inputs = pair(path, self.ctx.new_dir(), self.dims)
        with np.load(inputs[:-len(".inputs.npz")] + ".outputs.npz") as z:
            return inputs, {n: z[n] for n in z.files}

    def model(self, name, n_threads):
        """The record of a model: see report.py."""
        ctx = self.ctx
        path = ctx.model(name)
        inputs, want = self.given(name, path)
        _, library = ctx.compile(path, "--emit=shared", *self.flags, suffix=".so")
        info = json.loads(ctx.smelt("info", path, "--json").stdout)
        answers = os.path.join(ctx.new_dir(), "answers.npz")
        is_fixed = all(re.fullmatch(r"\[[\d, ]*\]", i["shape"]) for i in info["inputs"])    # else the count is a bound
        words = [path, inputs, answers, "--threads", str(n_threads)]
        libraries = {"smelt": library}
        if "smelt_openblas" in self.peers:
            libraries["smelt_openblas"] = self.openblas_library(path)
        record = {"model": name, "threads": n_threads, "cpu": self.cpu, "engines": {}, "date": time.strftime("%Y-%m-%d"),
                  "commit": commit(), "macs": info.get("direct_multiply-adds", 0) if is_fixed else 0,
                  "weight_bytes": info["weight_bytes"],
                  "int8": any(o.endswith("QuantizeLinear") for o in info["operators"])}
        running = []
        try:
            for engine in ("smelt", *self.peers):
                if (engine in libraries and not libraries[engine]) or (engine == "tl2cgen" and not is_trees(info)):
                    continue
                entry = record["engines"][engine] = {}
                own = ["--library", libraries[engine], "--runtime", self.runtime, "--include", ctx.include] \
                    if engine in libraries else []
                if engine in ("smelt", "tl2cgen") or record["engines"]["smelt"].get("from_c"):
                    own += ["--calls", self.calls]
                try:
                    child = self.start(engine, words + own, n_threads)
                except Died as e:
                    entry["failure"] = f"did not run: {e}"
                    continue
                running.append(child)
                entry.update(child.about)
                with np.load(answers) as z:
                    got = {n: z[n] for n in z.files}
                asked = {n: w for n, w in want.items() if n in got or engine != "tl2cgen"}    # it has no labels
                verdict = compare(name, got, asked)
                entry["difference"], entry["failure"] = verdict.worst, verdict.failure
            self.measure(running, record)
        finally:
            for child in running:
                child.close()
        return record

    def measure(self, running, record):
        n = len(running)
        if not n or running[0].name != "smelt":
            return
        times, idle = {e.name: [] for e in running}, {e.name: 0.0 for e in running}
        start = time.perf_counter()
        for i in range(1000):
            if i >= 5 and time.perf_counter() - start > self.seconds:
                break
            for j in range(n):
                engine = running[(i + j) % n]
                answer = engine.slice(SLICE_SECONDS)
                times[engine.name].append(answer["median"])
                idle[engine.name] += answer["idle_cpu"]
        wall = time.perf_counter() - start
        ours = np.array(times["smelt"])
        for name, t in times.items():
            entry, t = record["engines"][name], np.array(t)
            entry["ms"] = float(1e3 * np.median(t))
            entry["slices"] = len(t)
            entry["idle_share"] = idle[name] / wall
            entry["ratio"] = [float(q) for q in np.percentile(t / ours, (25, 50, 75))]


def is_trees(info):
    """Whether the model is one tree ensemble and no more."""
    return sum(info["operators"].values()) == 1 and next(iter(info["operators"])).startswith("TreeEnsemble")


def openblas_settings(n_threads):
    """OpenBLAS knows processors by their number and takes the oldest for those it does not know: told by their
    instructions."""
    settings = {"OPENBLAS_NUM_THREADS": str(n_threads)}
    with open("/proc/cpuinfo", encoding="utf-8") as f:
        flags = set(next((line for line in f if line.startswith("flags")), "").split())
    core = "SkylakeX" if "avx512bw" in flags else "Haswell" if {"avx2", "fma"} <= flags else None
    if core:
        settings["OPENBLAS_CORETYPE"] = os.environ.get("OPENBLAS_CORETYPE", core)
    return settings


def commit():
    done = subprocess.run(["git", "-C", ROOT, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


def machine_peaks(ctx, flags):
    """What `smelt bench --machine --json` measures; nothing is divided by a data sheet's figure."""
    done = ctx.smelt("bench", "--machine", "--json", "--threads=2", *flags)
    return json.loads(done.stdout)


def available(peers):
    """The peers whose packages are installed, with a line for each that is not."""
    kept = []
    for peer in peers:
        module = peer.split("_")[0]
        if module != "smelt" and subprocess.run([sys.executable, "-c", f"import {module}"], capture_output=True).returncode:
            print(f"bench.py: {module} is not installed (tests/bench/requirements.txt); left out", file=sys.stderr)
        else:
            kept.append(peer)
    return kept


def load(path):
    if not os.path.exists(path):
        return {"records": []}
    with open(path, encoding="utf-8") as f:
        return json.load(f)


def keep(results, record, path):
    key = report.record_key
    others = [r for r in results["records"] if key(r) != key(record)]
    results["records"] = sorted(others + [record], key=key)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path + ".tmp", "w", encoding="utf-8") as f:
        json.dump(results, f, indent=1)
    os.replace(path + ".tmp", path)


def parse_arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("names", nargs="*")
    p.add_argument("--threads", default="1,2")
    p.add_argument("--engines", default=",".join(PEERS))
    p.add_argument("--seconds", type=float, default=8.0)
    p.add_argument("--cpu", choices=sorted(CPU_LIMITS), default="")
    p.add_argument("--quick", action="store_true")
    p.add_argument("--page", action="store_true")
    p.add_argument("--smelt", default=os.path.join(ROOT, "build", "release", "driver", "smelt"))
    p.add_argument("--models-from", metavar="DIR")
    p.add_argument("--dim", action="append", default=[], metavar="NAME=N")
    p.add_argument("--models", default=os.path.join(ROOT, "build", "models"))
    p.add_argument("--results", default=os.path.join(ROOT, "build", "bench", "results.json"))
    p.add_argument("-o", "--out", default=os.path.join(ROOT, "docs", "performance.md"))
    a = p.parse_args()
    unknown = [e for e in a.engines.split(",") if e and e not in PEERS]
    if unknown:
        p.error(f"engines are {', '.join(PEERS)}; not {', '.join(unknown)}")
    return a


def time_folder(a, ctx):
    """--models-from: the number of models that smelt does not compile or answers beyond the bar."""
    dims = {name: int(n) for name, n in (d.split("=") for d in a.dim)}
    bench = Bench(ctx, available([e for e in a.engines.split(",") if e]), 0.0 if a.quick else a.seconds, a.cpu, dims)
    records, n_failed = [], 0
    for name in a.names or ctx.model_names():
        for n_threads in (int(n) for n in a.threads.split(",")):
            try:
                record = bench.model(name, n_threads)
            except Exception as e:      # the next model is another matter
                print(f"{name}: {str(e).strip().splitlines()[-1] if str(e).strip() else type(e).__name__}", flush=True)
                n_failed += 1
                continue
            records.append(record)
            n_failed += bool(record["engines"]["smelt"].get("failure"))
            print(report.line(record), flush=True)
    ratios = sorted(((report.best_peer(r)[1][1], r) for r in records if report.best_peer(r)), key=lambda x: -x[0])
    if ratios:
        print("\nratio of the best peer's time to smelt's:")
    for ratio, r in ratios:
        print(f"{ratio:7.2f}  {r['model']}, {r['threads']} threads")
    return n_failed


def main():
    a = parse_arguments()
    if a.models_from:
        with tempfile.TemporaryDirectory(prefix="smelt-bench-") as scratch:
            ctx = Context(root=ROOT, smelt_path=os.path.abspath(a.smelt), models=os.path.abspath(a.models_from),
                          scratch=scratch)
            return 1 if time_folder(a, ctx) else 0
    results, n_failed = load(a.results), 0
    with tempfile.TemporaryDirectory(prefix="smelt-bench-") as scratch:
        ctx = Context(root=ROOT, smelt_path=os.path.abspath(a.smelt), models=os.path.abspath(a.models), scratch=scratch)
        if not a.page:
            peers = available([e for e in a.engines.split(",") if e])
            bench = Bench(ctx, peers, 0.0 if a.quick else a.seconds, a.cpu)
            if not a.quick:
                results.setdefault("machines", {})[a.cpu] = machine_peaks(ctx, bench.flags)
            names = a.names or ctx.model_names()
            if not names:
                sys.exit(f"bench.py: no models in {ctx.models}")
            for name in names:
                for n_threads in (int(n) for n in a.threads.split(",")):
                    record = bench.model(name, n_threads)
                    n_failed += bool(record["engines"]["smelt"].get("failure"))
                    print(report.line(record), flush=True)
                    if not a.quick:
                        keep(results, record, a.results)
        if not a.quick:
            report.write_page(results, a.out)
    return 1 if n_failed else 0


if __name__ == "__main__":
    sys.exit(main())
