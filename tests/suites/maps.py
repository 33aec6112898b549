"""Operators of ai.onnx.ml that take or give maps, which are flattened in the interface (docs/abi.md): a map input is its
keys, ascending, and its values; ZipMap's output is the values alone. onnxruntime judges with real dictionaries."""
import os

import numpy as np
import onnx
from onnx import TensorProto as T
from onnx import helper, numpy_helper

from harness import Case, check

ARRAYS = {T.STRING: object, T.INT64: np.int64, T.FLOAT: np.float32}

# name: operator, types of key and value, the map, attributes
MAPS = {
    "vector_of_names": ("DictVectorizer", T.STRING, T.FLOAT, {"a": 1.5, "c": 2.5, "zz": 9.0},
                        {"string_vocabulary": ["b", "a", "c", "d"]}),
    "vector_of_numbers": ("DictVectorizer", T.INT64, T.FLOAT, {1: 1.5, 5: 2.5}, {"int64_vocabulary": [5, 2, 1]}),
    "dense": ("CastMap", T.INT64, T.FLOAT, {1: 1.5, 5: 2.5}, {"cast_to": "TO_FLOAT", "map_form": "DENSE"}),
    "sparse": ("CastMap", T.INT64, T.FLOAT, {1: 1.5, 5: 2.5},
               {"cast_to": "TO_FLOAT", "map_form": "SPARSE", "max_map": 7}),
    "to_int64": ("CastMap", T.INT64, T.FLOAT, {-1: 1.5, 5: 2.5}, {"cast_to": "TO_INT64", "map_form": "DENSE"}),
}


def save_model(path, op, inputs, attributes, output=None):
    node = helper.make_node(op, [v.name for v in inputs], ["y"], domain="ai.onnx.ml", **attributes)
    imports = [helper.make_opsetid("", 20), helper.make_opsetid("ai.onnx.ml", 3)]
    graph = helper.make_graph([node], "maps", inputs, [output or onnx.ValueInfoProto(name="y")])
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=9), path)


def onnxruntime_says(path, feeds):
    import onnxruntime
    onnxruntime.set_default_logger_severity(4)
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, feeds)[0]


def run_smelt(ctx, path, arrays, backend):
    folder = ctx.new_dir()
    for i, a in enumerate(arrays):
        with open(os.path.join(folder, f"input_{i}.pb"), "wb") as f:
            f.write(numpy_helper.from_array(a).SerializeToString())
    ctx.smelt("run", path, f"--backend={backend}", "--inputs", folder, "--outputs", folder, expect=0)
    with open(os.path.join(folder, "output_0.pb"), "rb") as f:
        return numpy_helper.to_array(T.FromString(f.read()))


def cases(ctx):
    def flattened(name, backend):
        def run():
            op, key, value, given, attributes = MAPS[name]
            map_type = helper.make_map_type_proto(key, helper.make_tensor_type_proto(value, []))
            path = os.path.join(ctx.new_dir(), "map.onnx")
            save_model(path, op, [onnx.ValueInfoProto(name="x", type=map_type)], attributes)
            keys = sorted(given)
            got = run_smelt(ctx, path, [np.array(keys, ARRAYS[key]), np.array([given[k] for k in keys], ARRAYS[value])],
                            backend)
            want = onnxruntime_says(path, {"x": given})
            check(got.shape == want.shape and (got == want).all(), f"{got.tolist()}, expected {want.tolist()}")
        return run

    def zipped(attributes):
        def run():
            path = os.path.join(ctx.new_dir(), "zip.onnx")
            save_model(path, "ZipMap", [helper.make_tensor_value_info("x", T.FLOAT, [2, 3])], attributes)
            x = np.array([[0.25, 0.5, 0.25], [1, 0, -2]], np.float32)
            got = run_smelt(ctx, path, [x], "llvm")
            want = onnxruntime_says(path, {"x": x})
            labels = list(attributes.values())[0]
            check(got.tolist() == [[row[k] for k in labels] for row in want], f"{got.tolist()}, expected {want}")
        return run

    labels = {"numbers": {"classlabels_int64s": [7, 8, 9]}, "names": {"classlabels_strings": ["a", "b", "c"]}}
    return [Case(f"{n}.{b}", flattened(n, b), "nodev" if b == "interpret" else "cpu")
            for n in MAPS for b in ("interpret", "llvm", "c")] + [
        Case(f"zip_{n}", zipped(a), "cpu") for n, a in labels.items()]
