#!/usr/bin/env python3
"""One engine with one model in a process of its own, driven over pipes by bench.py.

    engines.py ENGINE MODEL.onnx INPUTS.npz OUTPUTS.npz --threads N [--calls CALLS.so]
               [--library LIB.so --runtime POOL.so --include DIR]

It loads the model, runs it once, writes the answers to OUTPUTS.npz and one line of JSON to standard output: version,
how it is set up, seconds to load. Then each line `SECONDS` on standard input is a slice: it runs the model for that
long and answers {"median": seconds of a run, "runs": n, "idle_cpu": processor seconds used since the last slice},
the last of which shows whether its threads disturbed another engine's slice. It ends with its input.

Runs that take less than BATCH_SECONDS are timed in batches, so that reading the clock does not count. Every engine is
called through the lowest call that its Python package has, with inputs and outputs bound before; where a run takes less
than SMALL_SECONDS and --calls gives the loops of calls.c, through its C interface (c_calls.py), or the answer has a
`python` that says why not. There a NAME.rows.npy beside the inputs gives the only input's values in turn: a processor that
sees the same row again and again knows the way through trees by heart, which no caller's rows let it.
"""
import argparse
import json
import os
import sys
import time
from itertools import repeat

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))
sys.dont_write_bytecode = True

import numpy as np  # noqa: E402

import c_calls  # noqa: E402
import tree_engine  # noqa: E402

BATCH_SECONDS = 1e-3
SMALL_SECONDS = 20e-6


class Smelt:
    """A library made by `smelt compile --emit=shared`."""

    def __init__(self, a, inputs):
        from model_files import interface
        from smelt_abi import SharedModel
        in_names, self.names = interface(a.model)
        self.model = SharedModel(a.library, a.include, [inputs[n] for n in in_names], a.runtime, a.threads)
        self.about = {"version": self.model.compiler, "setup": f"cpu {self.model.cpu}"}
        if a.engine == "smelt_openblas":
            self.about["setup"] += f", OPENBLAS_CORETYPE={os.environ.get('OPENBLAS_CORETYPE', 'as found')}"
        self.call = self.model.function, (self.model.argument,)
        self.arena_bytes = self.model.arena_bytes

    def outputs(self, like):
        return {n: self.model.output(i, like[n].dtype, like[n].size).reshape(like[n].shape)
                for i, n in enumerate(self.names)}

    def check(self):
        self.model.run()

    def from_c(self, loop, a, inputs, want):
        del a, inputs, want
        return loop.status(self.model.function, self.model.argument)

    def input_read_from_c(self):
        return self.model.inputs[0]


class OnnxRuntime:
    """onnxruntime's CPU provider, all optimizations, its threads spinning as they do by default."""

    def __init__(self, a, inputs):
        import onnxruntime
        o = onnxruntime.SessionOptions()
        o.intra_op_num_threads, o.inter_op_num_threads, o.log_severity_level = a.threads, 1, 3
        o.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        session = onnxruntime.InferenceSession(a.model, o, providers=["CPUExecutionProvider"])
        self.binding = session.io_binding()
        self.inputs = {n: np.ascontiguousarray(x) for n, x in inputs.items()}
        for n, x in self.inputs.items():
            self.binding.bind_cpu_input(n, x)
        self.names = [o.name for o in session.get_outputs()]
        for n in self.names:
            self.binding.bind_output(n, "cpu")
        session.run_with_iobinding(self.binding)
        self.about = {"version": onnxruntime.__version__, "setup": "CPUExecutionProvider, bound inputs"}
        self.session = session
        # bound results of fixed size are written in place from now on
        values = self.binding.get_outputs()
        if all(isinstance(d, int) for o in session.get_outputs() for d in o.shape):
            self.values = values
            for n, v in zip(self.names, values):
                self.binding.bind_ortvalue_output(n, v)
        self.call = session._sess.run_with_iobinding, (self.binding._iobinding, None)

    def outputs(self, like):
        del like
        return dict(zip(self.names, self.binding.copy_outputs_to_cpu()))

    def check(self):
        self.session.run_with_iobinding(self.binding)

    def from_c(self, loop, a, inputs, want):
        del inputs
        self.c = c_calls.OnnxRuntime(loop, a.model, self.inputs, want, a.threads)
        return self.c.call

    def input_read_from_c(self):
        return next(iter(self.c.inputs.values()))


class OpenVino:
    """OpenVINO's CPU plugin for one request at a time; in f32 or in the precision it chooses."""

    def __init__(self, a, inputs, precision="f32"):
        import openvino
        self.precision = precision
        config = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": a.threads, "NUM_STREAMS": 1}
        if precision:
            config["INFERENCE_PRECISION_HINT"] = precision
        compiled = openvino.Core().compile_model(a.model, "CPU", config)
        self.request = compiled.create_infer_request()
        self.inputs = {}
        for port in compiled.inputs:
            name = next(n for n in inputs if n in port.names)
            self.inputs[name] = np.ascontiguousarray(inputs[name])
            self.request.set_tensor(port, openvino.Tensor(self.inputs[name], shared_memory=True))
        self.compiled = compiled
        chosen = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
        limit = os.environ.get("ONEDNN_MAX_CPU_ISA")
        self.about = {"version": openvino.__version__.split("-")[0],
                      "setup": f"latency hint, computes in {chosen}" + (f", ONEDNN_MAX_CPU_ISA={limit}" if limit else "")}
        self.request.infer()
        # what its own infer() calls in the end; with inputs bound, nothing is handed over
        self.call = super(type(self.request), self.request).infer, ({}, True, True)

    def outputs(self, like):
        answers = {}
        for port in self.compiled.outputs:
            name = next(n for n in like if n in port.names)
            answers[name] = np.array(self.request.get_tensor(port).data)
        return {n: answers[n] for n in like}

    def check(self):
        self.request.infer()

    def from_c(self, loop, a, inputs, want):
        del inputs
        order = {n: want[n] for port in self.compiled.outputs for n in want if n in port.names}
        self.c = c_calls.OpenVino(loop, a.model, self.inputs, order, a.threads, self.precision)
        return self.c.call

    def input_read_from_c(self):
        return next(iter(self.inputs.values()))


ENGINES = {"smelt": Smelt, "smelt_openblas": Smelt, "onnxruntime": OnnxRuntime, "openvino_f32": OpenVino,
           "openvino_default": lambda a, inputs: OpenVino(a, inputs, None), "tl2cgen": tree_engine.Tl2cgen}


def batch_of(call):
    """batch(n): n runs of call = (function, arguments)."""
    function, arguments = call

    def batch(n):
        for _ in repeat(None, n):
            function(*arguments)
    return batch


def run_slice(batch, n_batch, seconds):
    """Seconds of one run in each batch, for as long as `seconds`, one batch at least."""
    clock, times = time.perf_counter, []
    end = clock() + seconds
    start = clock()
    while not times or start < end:
        batch(n_batch)
        now = clock()
        times.append((now - start) / n_batch)
        start = now
    return times


def main():
    p = argparse.ArgumentParser()
    for word in ("engine", "model", "inputs", "outputs"):
        p.add_argument(word)
    p.add_argument("--threads", type=int, default=1)
    for word in ("--library", "--runtime", "--include", "--calls"):
        p.add_argument(word)
    a = p.parse_args()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)             # what the engine prints is not part of the conversation
    with np.load(a.inputs) as z:
        inputs = {n: z[n] for n in z.files}
    with np.load(a.inputs.replace(".inputs.", ".outputs.")) as z:
        want = {n: z[n] for n in z.files}
    start = time.perf_counter()
    engine = ENGINES[a.engine](a, inputs)
    engine.check()
    seconds = time.perf_counter() - start
    got = engine.outputs(want)
    np.savez(a.outputs, **got)
    batch = batch_of(engine.call)
    one = min(run_slice(batch, 1, 0.05))
    rows = a.inputs.replace(".inputs.npz", ".rows.npy")
    if a.calls and one < (SMALL_SECONDS if a.engine == "smelt" else float("inf")):
        try:
            loop = c_calls.Loop(a.calls)
            batch = engine.from_c(loop, a, inputs, got)
            if os.path.exists(rows):
                loop.take_turns(engine.input_read_from_c(), np.load(rows))
            one = min(run_slice(batch, 1, 0.05))
            engine.about["from_c"] = True
        except (RuntimeError, OSError, KeyError, IndexError) as e:
            engine.about["python"] = str(e)
    n_batch = max(1, int(BATCH_SECONDS / one))
    run_slice(batch, n_batch, 0.2)
    answers.write(json.dumps({**engine.about, "load_seconds": seconds}) + "\n")
    answers.flush()
    used = time.process_time()
    for line in sys.stdin:
        idle = time.process_time() - used
        times = run_slice(batch, n_batch, float(line))
        answers.write(json.dumps({"median": float(np.median(times)), "runs": len(times) * n_batch, "idle_cpu": idle}) + "\n")
        answers.flush()
        used = time.process_time()
    engine.check()
    return 0


if __name__ == "__main__":
    sys.exit(main())
