"""--blas=openblas: matrix products in memory, however they are transposed, batched and followed up, go to the library and
give what our own kernels give; what is no matrix in memory does not go there."""
import ctypes.util
import os

from harness import Case, Skip, check

TOLERANCE = {"float32": 1e-5, "float64": 1e-13}


def need_openblas():
    if not ctypes.util.find_library("openblas"):
        raise Skip("OpenBLAS is not installed (libopenblas-dev)")


def products():
    """{name: (nodes as (operator, inputs, outputs, attributes), {input: shape}, {weight: shape}, whether BLAS takes it)}"""
    return {
        "plain": ([("MatMul", "xw", "y", {})], {"x": (37, 65)}, {"w": (65, 41)}, True),
        "bias_relu": ([("Gemm", "xwb", "t", {}), ("Relu", "t", "y", {})], {"x": (33, 64)}, {"w": (64, 50), "b": (50,)}, True),
        "scaled": ([("Gemm", "xw", "y", {"alpha": 0.5, "transB": 1})], {"x": (40, 64)}, {"w": (50, 64)}, None),
        "trans_a": ([("Gemm", "xw", "y", {"transA": 1})], {"x": (64, 33)}, {"w": (64, 50)}, True),
        "trans_b": ([("Gemm", "xw", "y", {"transB": 1})], {"x": (33, 64)}, {"w": (50, 64)}, True),
        "trans_both": ([("Gemm", "xz", "y", {"transA": 1, "transB": 1})], {"x": (64, 33), "z": (50, 64)}, {}, True),
        "transposed_result": ([("MatMul", "xw", "t", {}), ("Transpose", "t", "y", {"perm": [1, 0]})],
                              {"x": (40, 64)}, {"w": (64, 48)}, True),
        "batch": ([("MatMul", "xz", "y", {})], {"x": (3, 5, 40, 32), "z": (3, 5, 32, 36)}, {}, True),
        "batch_of_one_weight": ([("MatMul", "xw", "y", {})], {"x": (3, 40, 32)}, {"w": (32, 36)}, True),
        "broadcast": ([("MatMul", "xz", "y", {})], {"x": (4, 1, 40, 32), "z": (1, 2, 32, 36)}, {}, True),
        "row": ([("MatMul", "xw", "y", {})], {"x": (1, 300)}, {"w": (300, 200)}, False),
        "eight_rows": ([("MatMul", "xw", "y", {})], {"x": (8, 300)}, {"w": (300, 200)}, True),
        "column": ([("MatMul", "xz", "y", {})], {"x": (300, 200), "z": (200, 1)}, {}, False),
        "heads": ([("Transpose", "x", "t", {"perm": [0, 2, 1, 3]}), ("Transpose", "z", "u", {"perm": [0, 2, 3, 1]}),
                   ("MatMul", "tu", "y", {})], {"x": (2, 40, 3, 32), "z": (2, 44, 3, 32)}, {}, True),
        "residual": ([("MatMul", "xw", "t", {}), ("Add", "tz", "y", {})], {"x": (40, 64), "z": (40, 48)}, {"w": (64, 48)}, True),
        "einsum": ([("Einsum", "xz", "y", {"equation": "bij,bkj->bki"})], {"x": (2, 33, 64), "z": (2, 50, 64)}, {}, True),
        "small": ([("MatMul", "xw", "y", {})], {"x": (4, 5)}, {"w": (5, 6)}, False),
        "conv": ([("Conv", "xw", "y", {})], {"x": (1, 16, 20, 20)}, {"w": (32, 16, 3, 3)}, False),
        "windows": ([("Conv", "xw", "y", {})], {"x": (1, 1, 300)}, {"w": (64, 1, 9)}, False),
    }


def build(nodes, inputs, weights, dtype, free):
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper
    rng = np.random.default_rng(5)
    kind = {"float32": TensorProto.FLOAT, "float64": TensorProto.DOUBLE}[dtype]
    made = [helper.make_node(op, list(ins), list(outs), name=outs, **attributes) for op, ins, outs, attributes in nodes]
    shapes = {n: (["n", *s[1:]] if free and n == "x" else s) for n, s in inputs.items()}
    graph = helper.make_graph(made, "g", [helper.make_tensor_value_info(n, kind, s) for n, s in shapes.items()],
                              [helper.make_tensor_value_info("y", kind, None)],
                              [numpy_helper.from_array(rng.standard_normal(s).astype(dtype), n) for n, s in weights.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model, {n: rng.standard_normal(s).astype(dtype) for n, s in inputs.items()}


def agree(ctx, name, dtype="float32", free=False):
    import numpy as np
    import onnx
    from model_files import smelt_run
    need_openblas()
    nodes, inputs, weights, taken = products()[name]
    model, values = build(nodes, inputs, weights, dtype, free)
    path = os.path.join(ctx.new_dir(), "model.onnx")
    onnx.save(model, path)
    trace = ctx.smelt("compile", path, "--blas=openblas", "--trace=choose_schedules", "-o", os.path.join(ctx.new_dir(), "m.a")).stderr
    called = ("sgemm_" if dtype == "float32" else "dgemm_") in trace
    check(taken is None or called == taken, f"BLAS {'takes' if called else 'does not take'} {name}:\n{trace}")
    want = smelt_run(ctx, path, values)["y"]
    for backend in ("llvm", "c", "interpret"):
        got = smelt_run(ctx, path, values, "--blas=openblas", f"--backend={backend}", env={"OPENBLAS_NUM_THREADS": "1"})["y"]
        worst = float(np.abs(got - want).max() / np.abs(want).max())
        check(got.shape == want.shape and worst <= TOLERANCE[dtype], f"{backend}: differs by {worst:.3g}")


def linked(ctx):
    """A library says what it needs, and a shared one has it."""
    import numpy as np
    import onnx
    from smelt_abi import SharedModel
    need_openblas()
    nodes, inputs, weights, _ = products()["bias_relu"]
    model, values = build(nodes, inputs, weights, "float32", False)
    folder = ctx.new_dir()
    path = os.path.join(folder, "net.onnx")
    onnx.save(model, path)
    ctx.smelt("compile", path, "--blas=openblas", cwd=folder)
    with open(os.path.join(folder, "net.h"), encoding="utf-8") as f:
        header = f.read()
    check("void sgemm_(const uint8_t *" in header and "to be linked with it" in header and "-lopenblas" in header, header)
    check("sgemm_" in ctx.symbols(os.path.join(folder, "libnet.a"))[0], "the library does not ask for sgemm_")
    ctx.smelt("compile", path, "--blas=openblas", "--emit=shared", cwd=folder)
    shared = SharedModel(os.path.join(folder, "libnet.so"), ctx.include, [values["x"]])
    shared.run()
    w = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    want = np.maximum(values["x"] @ w["w"] + w["b"], 0)
    got = shared.output(0, np.float32, want.size).reshape(want.shape)
    check(np.abs(got - want).max() < 1e-4, f"differs by {np.abs(got - want).max()}")


def cases(ctx):
    found = [Case(name, lambda name=name: agree(ctx, name), "cpu") for name in products()]
    found += [Case(f"{name}_f64", lambda name=name: agree(ctx, name, "float64"), "cpu") for name in ("plain", "heads", "trans_both")]
    found += [Case(f"{name}_free", lambda name=name: agree(ctx, name, "float32", True), "cpu") for name in ("plain", "bias_relu", "batch")]
    return found + [Case("linked", lambda: linked(ctx), "cpu")]
