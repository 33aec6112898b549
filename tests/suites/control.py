"""If, Loop and Scan: results against onnxruntime, and what is refused with a message.

The case files of tests/ops cannot write subgraphs down; these models are built here or stand in control_models.py.
Every backend runs every model.
"""
import os

import numpy as np
import onnx
import onnx.parser
from onnx import TensorProto, helper, numpy_helper

from control_models import ASSUMED, LOOP_START, MODELS
from dynamic_models import DYNAMIC
from harness import Case, check
from suites.ops import BACKENDS, load_outputs, save_inputs

FLOAT, INT, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


def info(name, dtype=FLOAT, dims=None):
    return helper.make_tensor_value_info(name, dtype, dims)


def branch(op, output, inputs=("x",), **attributes):
    return helper.make_graph([helper.make_node(op, list(inputs), [output], **attributes)], output, [], [info(output)])


def model(nodes, inputs, outputs, constants=()):
    graph = helper.make_graph(nodes, "control", inputs, [info(o) for o in outputs],
                              [numpy_helper.from_array(np.array(v), n) for n, v in constants])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def loop_body(again, carried=("Add", ("a", "a"), {})):
    op, operands, attributes = carried
    nodes = [helper.make_node(op, list(operands), ["b"], **attributes),
             helper.make_node("ReduceSum", ["b"], ["sum"], keepdims=0), helper.make_node(*again)]
    return helper.make_graph(nodes, "body", [info("i", INT, []), info("go", BOOL, []), info("a")],
                             [info("on", BOOL, []), info("b"), info("sum")])


GO_ON, STOP_EARLY = ("Identity", ["go"], ["on"]), ("Less", ["sum", "limit"], ["on"])
X, XS, FLAG = info("x", FLOAT, [2, 3]), info("xs", FLOAT, [2, 5, 3]), info("c", BOOL, [])
DOUBLED = branch("Concat", "e", ("x", "x"), axis=0)
SUMMED = branch("ReduceSum", "u", keepdims=0)
STEP = helper.make_graph([helper.make_node("Add", ["s", "e"], ["t"]), helper.make_node("Relu", ["t"], ["o"])], "step",
                         [info("s"), info("e")], [info("t"), info("o")])

# before version 9, a Scan ran over a batch axis in front of everything
OLD_STEP = helper.make_graph([helper.make_node("Add", ["s", "e"], ["t"]), helper.make_node("Relu", ["t"], ["o"])], "step",
                             [info("s", FLOAT, [3]), info("e", FLOAT, [3])], [info("t", FLOAT, [3]), info("o", FLOAT, [3])])


def if_node(then_branch, else_branch):
    return helper.make_node("If", ["c"], ["y"], "choice", then_branch=then_branch, else_branch=else_branch)


def loop_node(body, limit="n", condition=""):
    return helper.make_node("Loop", [limit, condition, "x"], ["y", "z"], "loop", body=body)


def scan_node(**attributes):
    return helper.make_node("Scan", ["x", "xs"], ["y", "z"], "scan", body=STEP, num_scan_inputs=1, **attributes)


def good_models():
    x = np.arange(6, dtype=np.float32).reshape(2, 3) - 2
    xs = np.linspace(-2, 3, 30, dtype=np.float32).reshape(2, 5, 3)
    for value in (True, False):
        feeds = {"x": x, "c": np.array(value)}
        yield f"if_{value}", model([if_node(branch("Relu", "t"), branch("Neg", "e"))], [X, FLAG], ["y"]), feeds
        yield f"if_sizes_{value}", model([if_node(branch("Relu", "t"), DOUBLED)], [X, FLAG], ["y"]), feeds
        yield (f"if_known_{value}", model([if_node(branch("Relu", "t"), SUMMED)], [X], ["y"], [("c", value)]),
               {"x": x})
    for direction in (0, 1):
        old = model([helper.make_node("Scan", ["", "x", "xs"], ["y", "z"], body=OLD_STEP, num_scan_inputs=1,
                                      directions=[direction])], [info("x", FLOAT, [2, 3]), XS], ["y", "z"])
        old.opset_import[0].version, old.ir_version = 8, 3
        del old.graph.output[:]
        old.graph.output.extend([info("y", FLOAT, [2, 3]), info("z", FLOAT, [2, 5, 3])])
        yield f"scan_8_{direction}", old, {"x": x, "xs": xs}
    for n in (0, 1, 5):
        yield f"loop_{n}", model([loop_node(loop_body(GO_ON))], [X], ["y", "z"], [("n", n)]), {"x": x}
    yield ("loop_stops", model([loop_node(loop_body(STOP_EARLY))], [X], ["y", "z"],
                               [("n", 9), ("limit", np.float32(20))]), {"x": x})
    doubles = loop_body(GO_ON, ("Concat", ("a", "a"), {"axis": 0}))
    for n in (0, 1, 3):
        yield f"loop_grows_{n}", model([loop_node(doubles)], [X], ["y", "z"], [("n", n)]), {"x": x}
    for value in (True, False):
        yield (f"loop_unbounded_{value}", model([loop_node(loop_body(STOP_EARLY), "", "c")], [X, FLAG], ["y", "z"],
                                                [("limit", np.float32(20))]), {"x": x, "c": np.array(value)})
    for reverse in (0, 1):
        attributes = {"scan_input_axes": [1], "scan_input_directions": [reverse]}
        yield f"scan_{reverse}", model([scan_node(**attributes)], [X, XS], ["y", "z"]), {"x": x, "xs": xs}
        attributes |= {"scan_output_axes": [-1], "scan_output_directions": [reverse]}
        yield f"scan_out_{reverse}", model([scan_node(**attributes)], [X, XS], ["y", "z"]), {"x": x, "xs": xs}


def refused_models():
    for what, node in (("read", ("Shape", ["y"], ["z"])), ("given", ("Neg", ["y"], ["z"]))):
        yield f"if_rank_is_{what}", 3, "has rank 0 or 2, as the condition of an If says while running", model(
            [if_node(branch("ReduceSum", "t"), SUMMED), helper.make_node(*node)], [X, FLAG], ["z"])
    yield "scan_axis", 1, "axis 4 is outside of rank 3", model(
        [scan_node(scan_input_axes=[4])], [X, XS], ["y", "z"])
    yield "no_window_fits", 1, "leaves an output size of -1", model(
        [helper.make_node("Compress", ["image", "keep"], ["few"], axis=3), helper.make_node("Conv", ["few", "w"], ["y"])],
        [info("image", FLOAT, [1, 2, 5, 3]), info("keep", BOOL, [3])], ["y"], [("w", np.ones((4, 2, 5, 5), np.float32))])


def parsed_models(models=MODELS + DYNAMIC):
    """(name, model, [feeds of each run]) of models written as in control_models.py."""
    for name, signature, text, runs in models:
        inputs, outputs = signature.split(" => ")
        tables = "ax = Constant <value = int64[1] {1}> ()\n  ax0 = Constant <value = int64[1] {0}> ()\n"
        m = onnx.parser.parse_model('<ir_version: 10, opset_import: ["" : 21, "com.microsoft" : 1]>\n' +
                                    f"{name} ({inputs}) => ({outputs}) {{\n  {LOOP_START}{tables}{text}\n}}")
        rng = np.random.default_rng(len(name))
        all_feeds = []
        for run in runs:
            feeds = {}
            for v, value in zip(m.graph.input, run):
                dtype = helper.tensor_dtype_to_np_dtype(v.type.tensor_type.elem_type)
                feeds[v.name] = (rng.standard_normal(value) if isinstance(value, tuple) else np.array(value)).astype(dtype)
            all_feeds.append(feeds)
        yield name, m, all_feeds


def run_good(ctx, m, all_feeds, backend):
    import onnxruntime
    onnxruntime.set_default_logger_severity(4)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(m.SerializeToString(), options, providers=["CPUExecutionProvider"])
    folder = ctx.new_dir()
    path = os.path.join(folder, "m.onnx")
    onnx.save(m, path)
    for number, feeds in enumerate(all_feeds):
        data, out = os.path.join(folder, f"in{number}"), os.path.join(folder, f"out{number}")
        save_inputs(data, m, feeds)
        os.makedirs(out)
        ctx.smelt("run", path, f"--backend={backend}", "--inputs", data, "--outputs", out, "--verify=1")
        for i, want in enumerate(session.run(None, feeds)):
            got = load_outputs(out, i + 1)[i]
            where = f"run {number}: output {i}"
            check(got.shape == want.shape, f"{where} has shape {got.shape}, expected {want.shape}")
            equal = got.tolist() == want.tolist() if got.dtype == object else np.allclose(got, want, rtol=1e-5, atol=1e-6)
            check(equal, f"{where} is {got}, expected {want}")


def run_assumed(ctx, text, feeds, good, backend):
    """A model of which a rank has to be assumed: runs that are as assumed are right, others end with an error."""
    m = onnx.parser.parse_model('<ir_version: 10, opset_import: ["" : 21]>' + text)
    if good:
        run_good(ctx, m, [feeds], backend)
        return
    folder = ctx.new_dir()
    path, data = os.path.join(folder, "m.onnx"), os.path.join(folder, "in")
    onnx.save(m, path)
    save_inputs(data, m, feeds)
    done = ctx.smelt("run", path, f"--backend={backend}", "--inputs", data, expect=1)
    check("ranks depend on it" in done.stderr and "the run failed" in done.stderr, f"refused with:\n{done.stderr}")


def run_refused(ctx, m, status, text):
    path = os.path.join(ctx.new_dir(), "m.onnx")
    onnx.save(m, path)
    done = ctx.smelt("compile", path, "-o", os.path.join(ctx.new_dir(), "x.a"), expect=status)
    check(text in done.stderr, f"no message with '{text}':\n{done.stderr}")


def cases(ctx):
    models = [(name, m, [feeds]) for name, m, feeds in good_models()] + list(parsed_models(MODELS + DYNAMIC))
    good = [Case(f"{name}.{backend}", lambda m=m, f=f, b=backend: run_good(ctx, m, f, b), label)
            for name, m, f in models for backend, label in BACKENDS.items()]
    rng = np.random.default_rng(3)
    for name, text, runs in ASSUMED:
        for i, (good_run, *values) in enumerate(runs):
            feeds = {v.name: np.asarray(rng.standard_normal(x) if isinstance(x, tuple) else x).astype(
                helper.tensor_dtype_to_np_dtype(v.type.tensor_type.elem_type))
                for v, x in zip(onnx.parser.parse_graph(text).input, values)}
            good += [Case(f"{name}_{i}.{b}", lambda t=text, f=feeds, g=good_run, b=b: run_assumed(ctx, t, f, g, b), label)
                     for b, label in BACKENDS.items()]
    return good + [Case(name, lambda m=m, s=s, t=t: run_refused(ctx, m, s, t)) for name, s, t, m in refused_models()]
