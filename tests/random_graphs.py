#!/usr/bin/env python3
"""Random valid graphs through every way of running them, against onnxruntime.

    random_graphs.py [--count N] [--seed S] [--kind KIND] [--jobs N] [--keep DIR] [--seconds T] [--smelt PATH]
                     [--backend llvm|c|interpret ...] [--no-reduce] [--list]

Graph number i grows from seed S + i (graph_kinds.py), so `--seed X --count 1` makes a graph again. Each is run by the
interpreter and by LLVM at -O0 and -O3, now and then with threads and through C, all under one --cpu (drawn: this machine,
haswell, x86-64). Those must agree bit for bit with each other, and with the judge (graph_build.py) within what the
roundings of the graph allow. Graphs with symbolic dims run a second time with other sizes.

What fails is reduced: fewer outputs, values in the middle become inputs, as long as it fails in the same way. --keep DIR
gets DIR/SEED/model.onnx, in/ and want/ (input_0.pb ..., output_0.pb ...) and report.txt with the command. The list at the
end groups failures by what the compiler said and by the operators that were left. Exit status 1 when there were any.
"""
import argparse
import collections
import multiprocessing
import os
import queue
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass

import numpy as np
import onnx
import onnx.printer
from onnx import TensorProto, numpy_helper

from graph_build import EPS, FLOATS, NAMES, RUN_A, RUN_B, needed_nodes, part_model
from graph_kinds import KINDS, grow

HERE = os.path.dirname(os.path.abspath(__file__))
TIMEOUT = 60            # of processor time; ten times that on the clock
OPTIONAL = ("fold_constants", "simplify", "fuse_stages", "assign_layouts", "share_memory", "choose_schedules",
            "block_stages", "roll_stages", "group_stages")       # passes that meaning does not need
REFUSED = re.compile(r"exit 3: .*((?:is|are) not supported|has no bound|known while compiling|is computed while running|known at compile time|needs a constant size|--dim gives it one)")
ROUNDINGS = {"f32": 64, "f64": 512, "f16": 6, "bf16": 3}    # of the largest value, beside what the twins differ by


@dataclass
class Failure:
    key: str          # what is the same for all failures of one kind
    text: str
    run: int = RUN_A
    options: tuple = ()
    outputs: tuple = ()     # those that are wrong, where that is known


# ---- running ---------------------------------------------------------------------------------------------------------

def save(folder, stem, arrays):
    os.makedirs(folder, exist_ok=True)
    for i, (name, a) in enumerate(arrays):
        with open(os.path.join(folder, f"{stem}_{i}.pb"), "wb") as f:
            f.write(numpy_helper.from_array(np.ascontiguousarray(a).reshape(a.shape), name).SerializeToString())


def load(folder, count):
    arrays = []
    for i in range(count):
        with open(os.path.join(folder, f"output_{i}.pb"), "rb") as f:
            arrays.append(numpy_helper.to_array(TensorProto.FromString(f.read())))
    return arrays


def first_message(text):
    """The message that tells failures apart: without file names, node names and numbers."""
    lines = [x for x in text.splitlines() if "error" in x or "unsupported" in x] or text.splitlines() or ["(silent)"]
    line = re.sub(r"\S*\.onnx:?", "", lines[0])
    line = re.sub(r"kernel k\S+: load of \S+", "load", line)
    line = re.sub(r"'[^']*'|\"[^\"]*\"", "'...'", line)
    return re.sub(r"\b[a-zA-Z]+\d+\b|\d+", "#", line).strip()[:160]


class Runner:
    def __init__(self, smelt, folder, backends):
        self.smelt, self.folder, self.backends = smelt, folder, backends

    def ways(self, seed, graph):
        """Options of each run of this graph; the first is what the others are compared with, unless they change what is
        compiled (is_other)."""
        draw = np.random.default_rng(seed + 77)
        cpu = draw.choice(["native", "native", "native", "haswell", "x86-64"])
        ways = [("--backend=interpret",), ("-O0",), ("-O3",)]
        if draw.random() < 0.2 or graph.kind == "large":
            ways.append(("-O3", "--threads=2"))
        if draw.random() < 0.1:
            ways.append(("--backend=c",))
        if draw.random() < 0.25:
            ways.insert(1, ("--backend=interpret", f"--no-pass={draw.choice(OPTIONAL)}"))
        if graph.symbols and draw.random() < 0.5:
            ways.insert(1, ("-O1",) + tuple(f"--dim={n}={sizes[0]}" for n, sizes in graph.symbols.items()))
        if self.backends:
            ways = [w for w in [("--backend=interpret",), ("-O0",), ("-O3",), ("--backend=c",)]
                    if (w[0].partition("=")[2] or "llvm") in self.backends]
        return [(f"--cpu={cpu}", "-j", "1") + w for w in ways]

    def run(self, model_path, options, n_outputs, inputs):
        """(outputs, None) or (None, Failure)"""
        out = os.path.join(self.folder, "out")
        shutil.rmtree(out, ignore_errors=True)
        command = [self.smelt, "run", model_path, *options, "--inputs", inputs, "--outputs", out, "--verify=1"]
        os.makedirs(out)
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=10 * TIMEOUT, cwd=self.folder, errors="replace",
                                  preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (TIMEOUT, TIMEOUT + 5)))
            is_late = done.returncode == -signal.SIGXCPU
        except subprocess.TimeoutExpired:
            is_late = True
        if is_late:
            return None, Failure("timeout", "timeout", options=options)
        if done.returncode:
            return None, Failure(f"exit {done.returncode}: {first_message(done.stderr)}", done.stderr.strip(), options=options)
        return load(out, n_outputs), None


def is_other(options):
    """Do they change the order of roundings?"""
    return any(o.startswith(("--no-pass", "--dim")) for o in options)


def same_bits(a, b):
    return a.shape == b.shape and (a.tolist() == b.tolist() if a.dtype == object else a.tobytes() == b.tobytes())


def judge(value, got, run):
    """'' when the array is what the value has in this run. Numbers below EPS ** 3 are like zeros: onnxruntime cuts the
    tails of a sigmoid off."""
    want = value.data[run]
    if got.shape != want.shape:
        return f"shape {list(got.shape)}, expected {list(want.shape)}"
    if got.dtype != want.dtype:
        return f"dtype {got.dtype}, expected {want.dtype}"
    kind = NAMES[want.dtype]
    if kind not in FLOATS or value.exact:
        wrong = np.atleast_1d(got != want)
        if kind in FLOATS:
            wrong &= ~(np.abs(np.atleast_1d(got).astype(np.float64) - want) <= EPS[kind] ** 3)
    else:
        g, w = got.astype(np.float64), want.astype(np.float64)
        allowed = 8 * value.slack(run) + ROUNDINGS[kind] * EPS[kind] * np.abs(w).max(initial=0) + EPS[kind] ** 3
        wrong = np.atleast_1d(~(np.abs(g - w) <= allowed))
    if not wrong.any():
        return ""
    at = tuple(int(i) for i in np.argwhere(wrong)[0])
    return (f"{int(wrong.sum())} of {wrong.size} differ, first at {list(at)}: {np.atleast_1d(got)[at]}, "
            f"expected {np.atleast_1d(want)[at]}")


def try_part(runner, graph, outputs, cut, ways, runs):
    """The first Failure of this part of the graph, or None."""
    model, inputs = part_model(graph, outputs, cut)
    path = os.path.join(runner.folder, "model.onnx")
    onnx.save(model, path)
    symbols = {d.dim_param for i in model.graph.input for d in i.type.tensor_type.shape.dim}
    ways = [tuple(o for o in w if not o.startswith("--dim=") or o.split("=")[1] in symbols) for w in ways]
    for run in runs:
        folder = os.path.join(runner.folder, "in")
        shutil.rmtree(folder, ignore_errors=True)
        save(folder, "input", [(v.name, v.data[run]) for v in inputs])
        first = None
        for options in ways if run == RUN_A else [ways[0], ways[-1]]:
            got, failure = runner.run(path, options, len(outputs), folder)
            if failure:
                failure.run = run
                return failure
            first = got if first is None else first
            unlike = [v for v, a, b in zip(outputs, got, first) if not same_bits(a, b)]
            wrong = [(v, judge(v, a, run)) for v, a in zip(outputs, got)]
            wrong = [(v, text) for v, text in wrong if text]
            if wrong:
                text = "\n".join(f"{v.name}: {text}" for v, text in wrong)
                return Failure("wrong", text, run, options, tuple(v for v, _ in wrong))
            if unlike and not is_other(options):
                return Failure("bits", f"{options} gives other bits than {ways[0]} for " + " ".join(v.name for v in unlike),
                               run, options, tuple(unlike))
    return None


# ---- reducing --------------------------------------------------------------------------------------------------------

def reduce_graph(runner, graph, failure, ways):
    """(outputs, cut, failure) of the smallest part found that fails the same way."""
    runs = [failure.run]
    keep = [w for w in ways if set(w) >= set(failure.options)] or ways
    if failure.key == "bits":
        keep = [ways[0]] + keep
    ways = keep

    def fails(outputs, cut):
        got = try_part(runner, graph, outputs, cut, ways, runs)
        return got if got and got.key == failure.key else None
    outputs, cut = list(graph.outputs), []
    if failure.run == RUN_B and len(ways) == 1:
        ways = ways * 2
    for v in list(failure.outputs) + (outputs if not failure.outputs else []):
        got = fails([v], cut)
        if got:
            outputs, failure = [v], got
            break
    else:
        for v in list(outputs):
            fewer = [o for o in outputs if o is not v]
            got = fewer and fails(fewer, cut)
            if got:
                outputs, failure = fewer, got
    progress = True
    while progress:
        progress = False
        nodes = needed_nodes(graph, outputs, set(cut))
        for n in reversed(nodes):
            for v in n.outs:
                if v in cut or v in outputs or v.data[0].size == 0:
                    continue
                if not any(n in needed_nodes(graph, outputs, set(cut)) for n in graph.nodes if v in n.outs):
                    continue
                got = fails(outputs, cut + [v])
                if got:
                    cut, failure, progress = cut + [v], got, True
        for n in nodes[:-1]:      # an earlier value as the output
            for v in n.outs:
                if len(outputs) == 1 and v not in cut and v not in outputs:
                    got = fails([v], cut)
                    if got:
                        outputs, failure, progress = [v], got, True
                        break
            if progress:
                break
    return outputs, cut, failure


def keep_failure(folder, runner, graph, seed, outputs, cut, failure):
    target = os.path.join(folder, str(seed))
    shutil.rmtree(target, ignore_errors=True)
    os.makedirs(target)
    model, inputs = part_model(graph, outputs, cut)
    onnx.save(model, os.path.join(target, "model.onnx"))
    save(os.path.join(target, "in"), "input", [(v.name, v.data[failure.run]) for v in inputs])
    save(os.path.join(target, "want"), "output", [(v.name, v.data[failure.run]) for v in outputs])
    with open(os.path.join(target, "report.txt"), "w", encoding="utf-8") as f:
        f.write(f"seed {seed}, kind {graph.kind}, opset {graph.opset}, symbols {graph.symbols}\n{failure.key}\n{failure.text}\n"
                f"smelt run model.onnx {' '.join(failure.options)} --inputs in --outputs out\n\n"
                f"{onnx.printer.to_text(model)}\n")


# ---- many ------------------------------------------------------------------------------------------------------------

def one_graph(work):
    """(seed, number of nodes, None or (key, operators, text))"""
    seed, a = work
    folder = tempfile.mkdtemp(prefix="smelt-random-")
    try:
        graph = grow(seed, a.kind)
        if not graph.outputs:
            return seed, 0, None
        runner = Runner(a.smelt, folder, a.backend)
        ways = runner.ways(seed, graph)
        failure = try_part(runner, graph, graph.outputs, (), ways, [RUN_A, RUN_B] if graph.symbols else [RUN_A])
        if not failure:
            return seed, len(graph.nodes), None
        outputs, cut = graph.outputs, []
        if not a.no_reduce and not REFUSED.match(failure.key):
            outputs, cut, failure = reduce_graph(runner, graph, failure, ways)
        if a.keep and not REFUSED.match(failure.key):
            keep_failure(a.keep, runner, graph, seed, outputs, cut, failure)
        operators = " ".join(p.op_type for n in needed_nodes(graph, outputs, set(cut)) for p in n.protos)
        return seed, len(graph.nodes), (failure.key, operators, failure.text)
    except Exception:  # a bug of the generator must not end the batch
        return seed, 0, ("generator", "", traceback.format_exc(limit=-3))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def worker(a, seeds, results):
    """Takes seeds until there are none; tells what it begins with, so that a crash of a judge has a name."""
    for seed in iter(seeds.get, None):
        results.put((seed, None))
        results.put((seed, one_graph((seed, a))))


def all_graphs(a):
    """What one_graph() says of every seed, in the order in which they end. A process that dies is replaced."""
    seeds, results = multiprocessing.Queue(), multiprocessing.Queue()
    for i in range(a.count):
        seeds.put(a.seed + i)
    for _ in range(a.jobs):
        seeds.put(None)

    def start():
        p = multiprocessing.Process(target=worker, args=(a, seeds, results), daemon=True)
        p.start()
        return p
    workers, begun = [start() for _ in range(a.jobs)], set()
    try:
        while workers:
            try:
                seed, got = results.get(timeout=1)
                begun.add(seed)
                if got:
                    begun.discard(seed)
                    yield got
            except queue.Empty:
                ended = [p for p in workers if not p.is_alive()]
                workers = [p for p in workers if p.is_alive()] + [start() for p in ended if p.exitcode]
                if ended and not workers:
                    for seed in begun:
                        yield seed, 0, ("generator", "", "the process ended: a judge crashed")
    finally:
        for p in workers:
            p.terminate()


def run_many(a, say):
    """[(seed, key, operators, text)] of what failed, {message: how often} of what smelt says it does not do, and the
    number of graphs and nodes."""
    failures, refused, n_graphs, n_nodes, start = [], collections.Counter(), 0, 0, time.monotonic()
    for seed, nodes, failed in all_graphs(a):
        n_graphs += nodes > 0
        n_nodes += nodes
        if failed and REFUSED.match(failed[0]):
            refused[failed[0]] += 1
        elif failed:
            failures.append((seed,) + failed)
            say(f"seed {seed}: {failed[0]} [{failed[1]}]\n    " + "\n    ".join(failed[2].splitlines()[:6]))
        if a.seconds and time.monotonic() - start > a.seconds:
            break
    return failures, refused, n_graphs, n_nodes


def parse_arguments(words=None):
    root = os.path.dirname(HERE)
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--count", type=int, default=100)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--kind", choices=list(KINDS))
    p.add_argument("--jobs", type=int, default=2)
    p.add_argument("--keep")
    p.add_argument("--seconds", type=float, default=0)
    p.add_argument("--smelt", default=os.path.join(root, "build", "release", "driver", "smelt"))
    p.add_argument("--backend", action="append", choices=("llvm", "c", "interpret"))
    p.add_argument("--no-reduce", action="store_true")
    p.add_argument("--list", action="store_true")
    a = p.parse_args(words)
    a.smelt = os.path.abspath(a.smelt)
    a.keep = a.keep and os.path.abspath(a.keep)
    return a


def main():
    a = parse_arguments()
    if a.list:
        for seed in range(a.seed, a.seed + a.count):
            g = grow(seed, a.kind)
            print(f"# seed {seed}, {g.kind}, opset {g.opset}\n{onnx.printer.to_text(part_model(g, g.outputs)[0])}")
        return 0
    start = time.monotonic()
    failures, refused, n_graphs, n_nodes = run_many(a, lambda text: print(text, flush=True))
    groups = collections.defaultdict(list)
    for seed, key, operators, _ in failures:
        groups[(key, operators)].append(seed)
    for (key, operators), seeds in sorted(groups.items(), key=lambda kv: -len(kv[1])):
        print(f"{len(seeds):4}  {key}  [{operators}]  seeds {' '.join(map(str, seeds[:5]))}")
    for key, n in refused.most_common():
        print(f"{n:4}  refused  {key}")
    print(f"{n_graphs} graphs, {n_nodes} nodes, {sum(refused.values())} refused, {len(failures)} failures, {time.monotonic() - start:.0f} s")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
