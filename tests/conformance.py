#!/usr/bin/env python3
"""ONNX's own backend tests, all 2,033 of them, through `smelt run`.

    conformance.py [filter ...] [--backend llvm|c|interpret] [--third] [--jobs N] [--cases DIR] [--smelt PATH]
                   [--failures] [--results FILE]

A filter is a part of a case's name or, as =OP, a whole operator; without one all cases are taken. The cases are those
that the installed onnx package has (1.23.2: 1,884 node, 23 simple, 82 pytorch-converted, 35 pytorch-operator, 9 light
models), judged with the tolerances of its own runner. Each is written once to --cases (default build/conformance) as
model.onnx and test_data_set_N/*.pb, so that a failing one can be repeated by hand:

    smelt run build/conformance/test_abs/model.onnx --inputs build/conformance/test_abs/test_data_set_0 --outputs /tmp/o

Prints the cases that did not pass with their reasons, then a table of passed / failed / refused by operator. refused is
exit status 3, a clear "not supported"; everything else that is no pass is failed. --third takes every third case of
each operator, beginning with its first. --failures leaves the table out. --results writes CASE<tab>OUTCOME<tab>REASON lines.

Exit status: 0 all passed, 1 not, 2 a bad command line.
"""
import argparse
import concurrent.futures
import json
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import numpy_helper

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
KINDS = ("node", "simple", "pytorch-converted", "pytorch-operator", "real")
# What these give is random by nature (Dropout: with a training_mode): their stored answer says shape and type only.
RANDOM_OPS = {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
# The interpreter takes cases of up to about a million operations; these models have a hundred times more.
INTERPRETER_SKIPS = ("real",)
TIMEOUT_S = 300


@dataclass(frozen=True)
class ConformanceCase:
    name: str
    kind: str
    op: str            # the operator under test; "model" where it is several
    folder: str        # model.onnx and test_data_set_N/
    rtol: float
    atol: float


# ---- the cases -------------------------------------------------------------------------------------------------------

def operator_of(model):
    """The operator of a one-node model or, in the cases that show its function body, of the function."""
    ops = {n.op_type for n in model.graph.node if n.op_type != "Constant"}
    return ops.pop() if len(ops) == 1 else "model"


def write_value(path, value, value_type):
    """An input or an answer as the proto that its type asks for; an absent optional is an OptionalProto of no kind."""
    kind = value_type.WhichOneof("value")
    if isinstance(value, onnx.TensorProto) and kind == "tensor_type":
        proto = value
    elif kind == "sequence_type":
        proto = numpy_helper.from_list([np.asarray(v) for v in value])
    elif kind == "optional_type":
        proto = onnx.OptionalProto()
        if value is not None:
            proto = numpy_helper.from_optional(value if isinstance(value, list) else np.asarray(value))
    else:
        proto = numpy_helper.from_array(np.asarray(value))
    with open(path, "wb") as f:
        f.write(proto.SerializeToString())


def write_set(folder, number, model, inputs, outputs):
    folder = os.path.join(folder, f"test_data_set_{number}")
    os.makedirs(folder)
    for what, values, infos in (("input", inputs, model.graph.input), ("output", outputs, model.graph.output)):
        for i, value in enumerate(values):
            write_value(os.path.join(folder, f"{what}_{i}.pb"), value, infos[i].type)


def write_node_case(test, folder):
    os.makedirs(folder)
    onnx.save(test.model, os.path.join(folder, "model.onnx"))
    for i, (inputs, outputs) in enumerate(test.data_sets):
        write_set(folder, i, test.model, inputs, outputs)
    return test.model


def write_light_case(test, folder, data_folder):
    """The input is the one that the package's runner makes: 0, 1/n, 2/n, ..."""
    source = os.path.join(data_folder, "light", os.path.basename(test.url))
    model = onnx.load(source)
    initialized = {t.name for t in model.graph.initializer}
    given = [v for v in model.graph.input if v.name not in initialized]
    inputs = []
    for info in given:
        shape = tuple(d.dim_value if d.HasField("dim_value") else 1 for d in info.type.tensor_type.shape.dim)
        n = int(np.prod(shape))
        inputs.append((np.arange(n).reshape(shape) / n).astype(np.float32))
    sets = os.path.join(folder, "test_data_set_0")
    os.makedirs(sets)
    shutil.copy(source, os.path.join(folder, "model.onnx"))
    for i, value in enumerate(inputs):
        write_value(os.path.join(sets, f"input_{i}.pb"), value, given[i].type)
    for i in range(len(model.graph.output)):
        shutil.copy(source[:-len(".onnx")] + f"_output_{i}.pb", os.path.join(sets, f"output_{i}.pb"))
    return model


def write_cases(cases_folder):
    """Writes all cases; the list of them is index.json, written last."""
    from onnx.backend.test.loader import DATA_DIR, load_model_tests
    warnings.simplefilter("ignore", RuntimeWarning)      # of the cases that overflow on purpose
    shutil.rmtree(cases_folder, ignore_errors=True)
    os.makedirs(cases_folder)
    index = []
    for kind in KINDS:
        for test in sorted(load_model_tests(kind=kind), key=lambda t: t.name):
            folder = os.path.join(cases_folder, test.name if kind == "node" else f"{kind}_{test.name}")
            if test.model is not None:
                model = write_node_case(test, folder)
            elif test.url:
                model = write_light_case(test, folder, DATA_DIR)
            else:
                shutil.copytree(test.model_dir, folder)
                model = onnx.load(os.path.join(folder, "model.onnx"))
            index.append([os.path.basename(folder), kind, operator_of(model), test.rtol, test.atol])
    with open(os.path.join(cases_folder, "index.json"), "w", encoding="utf-8") as f:
        json.dump({"onnx": onnx.__version__, "cases": index}, f)


def load_cases(cases_folder):
    """[ConformanceCase], written first if they are not there or those of another onnx."""
    index = os.path.join(cases_folder, "index.json")
    try:
        with open(index, encoding="utf-8") as f:
            found = json.load(f)
    except FileNotFoundError:
        found = {}
    if found.get("onnx") != onnx.__version__:
        write_cases(cases_folder)
        with open(index, encoding="utf-8") as f:
            found = json.load(f)
    return [ConformanceCase(name, kind, op, os.path.join(cases_folder, name), rtol, atol)
            for name, kind, op, rtol, atol in found["cases"]]


def third_of(cases):
    """Every third case of each operator, beginning with its first: all operators are touched."""
    seen, taken = {}, []
    for case in cases:
        n = seen.get(case.op, 0)
        seen[case.op] = n + 1
        if n % 3 == 0:
            taken.append(case)
    return taken


# ---- judging ---------------------------------------------------------------------------------------------------------

def read_value(path, value_type):
    with open(path, "rb") as f:
        data = f.read()
    kind = value_type.WhichOneof("value")
    if kind == "sequence_type":
        return numpy_helper.to_list(onnx.SequenceProto.FromString(data))
    if kind == "optional_type":
        return numpy_helper.to_optional(onnx.OptionalProto.FromString(data))
    return numpy_helper.to_array(onnx.TensorProto.FromString(data))


def compare(got, want, rtol, atol, values):
    """AssertionError where the package's runner would raise one. values False: shape and dtype only."""
    if want is None or got is None:
        assert want is None and got is None, f"got {got}, expected {want}"
        return
    if isinstance(want, list):
        assert isinstance(got, list) and len(got) == len(want), f"got {len(got)} elements, expected {len(want)}"
        for g, w in zip(got, want):
            compare(g, w, rtol, atol, values)
        return
    assert got.shape == want.shape, f"shape {list(got.shape)}, expected {list(want.shape)}"
    if want.dtype == object or want.dtype.kind in "US":
        np.testing.assert_array_equal(got.astype(str), want.astype(str))
        return
    assert got.dtype == want.dtype, f"dtype {got.dtype}, expected {want.dtype}"
    if not values:
        return
    if want.dtype.name == "bfloat16":
        rtol = max(rtol, 2**-6)         # as the package's runner: two units in the last place
    if want.dtype.name not in np.sctypeDict:        # numpy does not compare the types of ml_dtypes
        got, want = got.astype(np.float32), want.astype(np.float32)
    np.testing.assert_allclose(got, want, rtol=rtol, atol=atol)


def is_random(node):
    return node.op_type in RANDOM_OPS or (node.op_type == "Dropout" and len(node.input) > 2 and bool(node.input[2]))


def last_lines(text, n):
    return "\n".join(line for line in text.strip().splitlines()[-n:])


def run_set(case, model, data_set, smelt, backend):
    """(outcome, reason)"""
    with tempfile.TemporaryDirectory(prefix="smelt-conformance-") as out:
        command = [smelt, "run", os.path.join(case.folder, "model.onnx"), "--inputs", data_set, "--outputs", out,
                   f"--backend={backend}", "-O1", "-j", "1"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired:
            return "failed", f"still running after {TIMEOUT_S} s"
        if done.returncode:
            return "refused" if done.returncode == 3 else "failed", \
                f"exit status {done.returncode}\n" + last_lines(done.stderr or done.stdout, 4)
        random = any(is_random(n) for n in model.graph.node)
        n_outputs = len([f for f in os.listdir(data_set) if f.startswith("output_")])
        for i in range(n_outputs):
            info = model.graph.output[i]
            try:
                want = read_value(os.path.join(data_set, f"output_{i}.pb"), info.type)
                got = read_value(os.path.join(out, f"output_{i}.pb"), info.type)
                compare(got, want, case.rtol, case.atol, not random)
            except Exception as e:  # whatever is wrong with this answer is a failure of this case
                return "failed", f"output {info.name}: {type(e).__name__}: " + "\n".join(str(e).strip().splitlines()[:8])
    return "passed", ""


def run_conformance_case(case, smelt, backend):
    """(outcome, reason) with outcome passed, failed or refused"""
    model = onnx.load(os.path.join(case.folder, "model.onnx"))
    sets = sorted(d for d in os.listdir(case.folder) if d.startswith("test_data_set_"))
    for data_set in sets:
        outcome, reason = run_set(case, model, os.path.join(case.folder, data_set), smelt, backend)
        if outcome != "passed":
            return outcome, reason
    return "passed", ""


def one_line(reason):
    """The reason without the path of the model, for tables."""
    text = " ".join(line.split("model.onnx: ")[-1].strip() for line in reason.splitlines() if "exit status" not in line)
    return text.replace("|", "/")[:200]


def applies(case, backend):
    return backend != "interpret" or case.kind not in INTERPRETER_SKIPS


# ---- command line ----------------------------------------------------------------------------------------------------

def parse_arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("filter", nargs="*")
    p.add_argument("--backend", choices=("llvm", "c", "interpret"), default="llvm")
    p.add_argument("--third", action="store_true")
    p.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    p.add_argument("--cases", default=os.path.join(ROOT, "build", "conformance"))
    p.add_argument("--smelt", default=os.path.join(ROOT, "build", "release", "driver", "smelt"))
    p.add_argument("--failures", action="store_true")
    p.add_argument("--results")
    return p.parse_args()


def print_table(outcomes):
    by_op = {}
    for case, outcome, _ in outcomes:
        by_op.setdefault(case.op, {"passed": 0, "failed": 0, "refused": 0})[outcome] += 1
    print(f"{'operator':34} passed failed refused")
    for op in sorted(by_op):
        n = by_op[op]
        print(f"{op:34} {n['passed']:6} {n['failed']:6} {n['refused']:7}")


def main():
    a = parse_arguments()
    smelt = os.path.abspath(a.smelt)
    cases = [c for c in load_cases(os.path.abspath(a.cases)) if applies(c, a.backend)]
    if a.third:
        cases = third_of(cases)
    if a.filter:
        cases = [c for c in cases if any(c.op == f[1:] if f.startswith("=") else f in c.name for f in a.filter)]
    if not cases:
        print("no case matches", file=sys.stderr)
        return 2
    outcomes = []
    with concurrent.futures.ThreadPoolExecutor(a.jobs) as pool:
        runs = [(c, pool.submit(run_conformance_case, c, smelt, a.backend)) for c in cases]
        for case, run in runs:
            outcome, reason = run.result()
            outcomes.append((case, outcome, reason))
            if outcome != "passed":
                print(f"{outcome:7}  {case.name}  [{case.op}]\n" + "\n".join("         " + line for line in reason.splitlines()),
                      flush=True)
    if a.results:
        with open(a.results, "w", encoding="utf-8") as f:
            f.writelines(f"{c.name}\t{outcome}\t{one_line(reason)}\n" for c, outcome, reason in outcomes)
    if not a.failures:
        print_table(outcomes)
    n = {k: sum(o == k for _, o, _ in outcomes) for k in ("passed", "failed", "refused")}
    print(f"{a.backend}: {n['passed']} passed, {n['failed']} failed, {n['refused']} refused of {len(outcomes)}")
    return 0 if n["passed"] == len(outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
