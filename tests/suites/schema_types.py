"""Every operator of ONNX, in every version, for every element type that its schema allows.

The models are those of schema_models.py, all types of a version in one. onnxruntime is the judge, onnx's reference evaluator
where it lacks a type; of what neither runs, that it compiles and runs is what is tested.
"""
import os
import warnings

import numpy as np
import onnx.defs

import schema_models
from harness import Case, check
from suites import ops

# The answer is random: only its type counts.
RANDOM = {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
# What the evaluator computes otherwise than ONNX says: operators, or some of their types.
NO_REFERENCE = {
    "Loop": "it joins scan outputs instead of stacking them", "Hardmax": "versions before 13 are as the newest",
    "Softmax": "as Hardmax", "LogSoftmax": "as Hardmax", "Selu": "version 1 has other defaults",
    "GRU": "versions 1 and 3 are as the newest", "Scan": "version 8 is as the newest",
    "BatchNormalization": "versions before 9 train", "GridSample": "weights of integers are integers",
    "QLinearMatMul": "sums of small floats are small floats", "LRN": "it divides otherwise",
    "Cast": "floats have fewer digits as strings", "CastLike": "as Cast",
    "SVMRegressor": "scores have the type of the input", "LinearRegressor": "as SVMRegressor",
    "TreeEnsembleRegressor": "as SVMRegressor"}
NO_REFERENCE_OF_COMPLEX = {"Resize"}                                # it computes the real part
NO_REFERENCE_OF_FILLERS = {"CenterCropPad", "Pad", "Trilu"}          # zeros: of strings '0', of f8e8m0 NaN
# onnxruntime's: the wrong strings move; exp and log of integers are integers; of two classes any score makes the second win.
NO_ORT = {*(("TreeEnsembleClassifier", t) for t in ("f32", "f64", "i32", "i64")), ("Gather", "str"), ("Loop", "str"), ("ReduceLogSumExp", "i32"), ("ReduceLogSumExp", "i64")}
# Allowed by the schema, and without a meaning: refused with a message.
MEANINGLESS = {("Col2Im", "str"): "are accepted", ("GridSample", "str"): "are accepted"}
ORT_TYPES = set(ops.DTYPES) - set(ops.SMALL_FLOATS) - {"bf16", "i2", "u2", "i4", "u4", "c64", "c128"}
ORT_IR_VERSION = 10
# No tensors: maps exist inside of scikit-learn's graphs only.
MAPS = {"CastMap", "DictVectorizer", "ZipMap", "ImageDecoder"}


def schemas():
    return sorted((s for s in onnx.defs.get_all_schemas_with_history() if not s.deprecated and s.name not in MAPS),
                  key=lambda s: (s.domain, s.name, s.since_version))


def run_smelt(ctx, schema, variants, backend):
    """(outputs, '') or (None, message)"""
    model, feeds, count = schema_models.onnx_model(schema, variants, ops)
    folder = ctx.new_dir()
    path = os.path.join(folder, "model.onnx")
    onnx.save(model, path)
    ops.save_inputs(os.path.join(folder, "in"), model, feeds)
    done = ctx.smelt("run", path, f"--backend={backend}", "--inputs", os.path.join(folder, "in"), "--outputs",
                     os.path.join(folder, "out"), expect=None)
    if done.returncode:
        return None, (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[0][len(path):]
    return ops.load_outputs(os.path.join(folder, "out"), count), ""


def run_onnxruntime(model, variant, feeds):
    import onnxruntime
    onnxruntime.set_default_logger_severity(4)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    older = onnx.ModelProto.FromString(model.SerializeToString())
    older.ir_version = min(model.ir_version, ORT_IR_VERSION)
    session = onnxruntime.InferenceSession(older.SerializeToString(), options, ["CPUExecutionProvider"])
    return session.run(variant.outputs, feeds)


def judged(schema, types, variant):
    """(answers or None, are they the reference evaluator's)"""
    from onnx.reference import ReferenceEvaluator
    model, feeds, _ = schema_models.onnx_model(schema, [variant], ops)
    dtypes = {dtype for _, dtype, _, _ in variant.feeds} | {k.dtype for k in types.values()}
    try:
        if dtypes <= ORT_TYPES and not any((schema.name, d) in NO_ORT for d in dtypes):
            return run_onnxruntime(model, variant, feeds), False
    except Exception:       # it lacks the type or the version
        pass
    is_wrong = (schema.name in NO_REFERENCE
                or (schema.name in NO_REFERENCE_OF_FILLERS and dtypes & {"str", "f8e8m0"})
                or (schema.name in NO_REFERENCE_OF_COMPLEX and dtypes & set(ops.COMPLEX)))
    if is_wrong or any("opt" in k.wrap for k in types.values()):     # it gives an optional's tensor another axis
        return None, True
    try:
        return ReferenceEvaluator(model).run(variant.outputs, feeds), True
    except Exception:
        return None, True


def rounding(types):
    """Tolerances: judges compute f64 in f32, and round each step of the small floats. How exact results are, others test."""
    dtypes = {k.dtype for k in types.values()}
    for dtype, tolerance in (("bf16", {"tol": 5e-2, "abs": 4e-2}), ("f16", {"tol": 6e-3, "abs": 2e-3}),
                             ("f64", {"tol": 2e-6, "abs": 2e-6})):
        if dtype in dtypes:
            return tolerance
    return {}


def variant_problem(schema, types, variant, got):
    """'' or how the outputs are wrong."""
    if schema.name in RANDOM:
        return ""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        want, is_reference = judged(schema, types, variant)
    for g, w in zip(got, map(np.asarray, want or [])):
        if is_reference and g.dtype != w.dtype and g.dtype.kind not in "OUS":
            w = w.astype(g.dtype)       # it widens; types are checked before
        text = ops.difference(ops.OpCase(schema.name, "", "case", options=rounding(types)), g, w)
        if text:
            return text + (" (onnx's evaluator)" if is_reference else " (onnxruntime)")
    return ""


def type_problem(schema, types, got):
    """'' or which output has another type than its schema says."""
    if schema.name in schema_models.CONTROL:
        return ""
    for i, g in enumerate(got):
        text = schema.outputs[min(i, len(schema.outputs) - 1)].type_str
        kind = schema_models.kind_of(types, text)
        if kind and kind.wrap == "tensor" and kind.dtype != "str" and g.dtype != ops.DTYPES[kind.dtype]:
            return f"output {i} is {g.dtype}, expected {kind.dtype}"
    return ""


def is_meaningless(schema, types):
    return next((text for (name, dtype), text in MEANINGLESS.items()
                 if name == schema.name and any(k.dtype == dtype for k in types.values())), None)


def run_version(ctx, schema, backend):
    types = schema_models.assignments(schema)
    made = [schema_models.variant_model(schema, t, f"v{i}_", ops) for i, t in enumerate(types)]
    kept = [v for t, v in zip(types, made) if not is_meaningless(schema, t)]
    got, message = run_smelt(ctx, schema, kept, backend)
    problems = []
    for t, v in zip(types, made):
        words = " ".join(f"{k}={x.wrap if x.wrap != 'tensor' else ''}{x.dtype}" for k, x in t.items())
        reason = is_meaningless(schema, t)
        if message or reason:
            mine, text = run_smelt(ctx, schema, [v], backend)
        else:
            mine, got, text = got[:len(v.outputs)], got[len(v.outputs):], ""
        if reason:
            text = "" if reason in text else f"expected the message '{reason}', not: {text or 'none'}"
        else:
            text = text or type_problem(schema, t, mine) or variant_problem(schema, t, v, mine)
        if text:
            problems.append(f"{schema.name}-{schema.since_version} {words}: {text}")
    if message and not problems:
        problems.append(f"{schema.name}-{schema.since_version}: all types together: {message}")
    return len(types), problems


def run_operator(ctx, versions, backend):
    counts, problems = 0, []
    for s in versions:
        n, wrong = run_version(ctx, s, backend)
        counts += n
        problems += wrong
    check(not problems, "\n".join(problems))
    return f"{counts} types of {len(versions)} versions"


def cases(ctx):
    by_name = {}
    for s in schemas():
        by_name.setdefault((s.domain, s.name), []).append(s)
    return [Case(f"{name}.{b}", lambda v=v, b=b: run_operator(ctx, v, b), label)
            for b, label in (("llvm", "slow"), ("interpret", "long"), ("c", "long")) for (_, name), v in by_name.items()]
