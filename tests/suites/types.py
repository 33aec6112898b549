"""Cast between every two element types against numpy and ml_dtypes, and what small types go through unchanged.

The operand of a type is every value it has up to 16 bits, else random bits, special values, and, for every small float
type, its values, the middles between neighbours and what lies next to those: where rounding and overflow turn.
Compared are bits, except that any NaN equals any NaN. ONNX leaves open what an integer type gets from a float that is
outside of its range (or NaN): those elements are left out, as are e8m0's of negative numbers and the NaN of types that
have none.
"""
import os
import warnings

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from harness import Case, check
from suites.ops import load_outputs, save_inputs

FLOATS = {TensorProto.FLOAT: np.float32, TensorProto.DOUBLE: np.float64, TensorProto.FLOAT16: np.float16,
          TensorProto.BFLOAT16: ml_dtypes.bfloat16}
F8 = {TensorProto.FLOAT8E4M3FN: ml_dtypes.float8_e4m3fn, TensorProto.FLOAT8E4M3FNUZ: ml_dtypes.float8_e4m3fnuz,
      TensorProto.FLOAT8E5M2: ml_dtypes.float8_e5m2, TensorProto.FLOAT8E5M2FNUZ: ml_dtypes.float8_e5m2fnuz}
SMALL = {TensorProto.FLOAT6E2M3: ml_dtypes.float6_e2m3fn, TensorProto.FLOAT6E3M2: ml_dtypes.float6_e3m2fn,
         TensorProto.FLOAT4E2M1: ml_dtypes.float4_e2m1fn}
E8M0 = {TensorProto.FLOAT8E8M0: ml_dtypes.float8_e8m0fnu}
CODES = F8 | SMALL | E8M0
INTS = {TensorProto.INT8: np.int8, TensorProto.INT16: np.int16, TensorProto.INT32: np.int32,
        TensorProto.INT64: np.int64, TensorProto.UINT8: np.uint8, TensorProto.UINT16: np.uint16,
        TensorProto.UINT32: np.uint32, TensorProto.UINT64: np.uint64}
SMALL_INTS = {TensorProto.INT2: ml_dtypes.int2, TensorProto.INT4: ml_dtypes.int4, TensorProto.UINT2: ml_dtypes.uint2,
              TensorProto.UINT4: ml_dtypes.uint4}
BOOL = {TensorProto.BOOL: np.bool_}
COMPLEX = {TensorProto.COMPLEX64: np.complex64, TensorProto.COMPLEX128: np.complex128}
ALL = FLOATS | CODES | INTS | SMALL_INTS | BOOL
BITS = {TensorProto.FLOAT4E2M1: 4, TensorProto.FLOAT6E2M3: 6, TensorProto.FLOAT6E3M2: 6, TensorProto.INT2: 2,
        TensorProto.INT4: 4, TensorProto.UINT2: 2, TensorProto.UINT4: 4}
OPSET, IR_VERSION = 28, 14


def name_of(t):
    return TensorProto.DataType.Name(t).lower()


# ---- operands --------------------------------------------------------------------------------------------------------

def all_codes(t):
    n = 1 << BITS.get(t, 8)
    if t in SMALL_INTS and name_of(t).startswith("int"):
        return np.arange(-n // 2, n // 2).astype(np.int8).astype(SMALL_INTS[t])
    if t in SMALL_INTS:
        return np.arange(n).astype(np.uint8).astype(SMALL_INTS[t])
    return np.arange(n).astype(np.uint8).view(CODES[t])


def turning_points():
    """Doubles around which the rounding to some small float type turns."""
    points = []
    for t, dtype in (F8 | SMALL).items():
        values = all_codes(t).astype(np.float64)
        values = np.unique(values[np.isfinite(values)])
        largest, step = values[-1], values[-1] - values[-2]
        points += [values, (values[1:] + values[:-1]) / 2, [largest + step / 2, largest + step]]
    powers = np.ldexp(1.0, np.arange(-130, 129))
    points += [powers, 1.5 * powers]
    points = np.concatenate([np.asarray(p, np.float64) for p in points])
    return np.concatenate([points, -points])


def operand(t):
    if t in CODES or t in SMALL_INTS:
        return all_codes(t)
    dtype, rng = ALL[t], np.random.default_rng(t)
    if t == TensorProto.BOOL:
        return np.array([False, True])
    width = np.dtype(dtype).itemsize
    if width <= 2:
        return np.arange(1 << 8 * width).astype(f"u{width}").view(dtype)
    wild = rng.integers(0, 1 << 64, 3000, dtype=np.uint64).astype(f"u{width}").view(dtype)
    tame = (rng.standard_normal(3000) * 10.0 ** rng.integers(-3, 12, 3000))
    if t in INTS:
        info = np.iinfo(dtype)
        few = np.clip(tame, float(info.min), min(float(info.max) / 2, 2.0 ** 40)).astype(dtype)
        ends = np.array([0, 1, info.max, info.max - 1, info.min, info.max // 2 + 1], dtype)
        return np.concatenate([wild, few, ends])
    with np.errstate(over="ignore"):
        near = turning_points().astype(dtype)
    near = np.concatenate([near, np.nextafter(near, dtype(np.inf)), np.nextafter(near, dtype(-np.inf))])
    special = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, -np.nan], dtype)
    return np.concatenate([wild, tame.astype(dtype), near, special])


# ---- the judge -------------------------------------------------------------------------------------------------------

def to_power(x, saturate, round_mode):
    """e8m0 by exact arithmetic: x >= 0 as a power of two between 2^-127 and 2^127."""
    single = x.astype(np.float32)
    v = single.astype(np.float64)
    part, e = np.frexp(v)      # v = part * 2^e, part in [1/2, 1)
    e = e - 1
    exact = part == 0.5
    up = {"up": ~exact, "down": np.zeros_like(exact), "nearest": part >= 0.75}[round_mode]
    e = np.where(v == 0, -1000, np.where(np.isinf(v), 1000, e + up))
    code = np.clip(e + 127, 0, 254)
    if not saturate:
        code = np.where((e < -127) | (e > 127), 255, code)
    return np.where(np.isnan(v), 255, code).astype(np.uint8).view(ml_dtypes.float8_e8m0fnu)


def cast(x, t, saturate, round_mode):
    dtype = ALL[t]
    if t in E8M0:
        return to_power(x, saturate, round_mode)
    if t in BOOL:
        return x.astype(np.float64) != 0
    if t in F8 and saturate:
        info = ml_dtypes.finfo(dtype)
        return once(np.clip(x.astype(np.float64), float(info.min), float(info.max)), dtype)
    if t in CODES:
        return once(x, dtype)
    if t in SMALL_INTS:
        whole = np.trunc(x.astype(np.float64)) if x.dtype.kind not in "iub" else x
        return whole.astype(np.int64).astype(np.uint8).astype(np.int8).astype(dtype)
    if x.dtype in [np.dtype(d) for d in SMALL_INTS.values()]:
        return x.astype(np.int64).astype(dtype)
    if x.dtype.kind in "iub" and t in FLOATS and np.dtype(dtype).itemsize == 2 and x.dtype.itemsize > 2:
        return once(x, dtype)
    return x.astype(dtype)


def once(x, dtype):
    """x in a narrow float with one rounding: numpy and ml_dtypes round twice, by way of f32. Here that is an f32 rounded
    to odd, from which the second rounding gives what one would have."""
    wide = x.astype(np.float64)
    single = wide.astype(np.float32)
    back = single.astype(np.float64)
    bits = single.view(np.uint32)
    odd = (bits & 1) == 1
    toward = np.where(np.abs(back) < np.abs(wide), bits + 1, bits - 1)
    return np.where((back == wide) | odd | np.isnan(wide), bits, toward).astype(np.uint32).view(np.float32).astype(dtype)


def defined(x, t):
    """Where ONNX says what comes out."""
    wide = x.astype(np.float64)
    if t in E8M0:
        return ~(np.signbit(wide) & (wide != 0)) & ~((wide == 0) & np.signbit(wide))
    if t in SMALL:
        return ~np.isnan(wide)
    is_whole = x.dtype.kind in "iub" or x.dtype in [np.dtype(d) for d in SMALL_INTS.values()]
    if (t not in INTS and t not in SMALL_INTS) or is_whole:
        return np.ones(x.shape, bool)
    info = np.iinfo(ALL[t]) if t in INTS else ml_dtypes.iinfo(ALL[t])
    return (np.trunc(wide) >= float(info.min)) & (np.trunc(wide) < float(info.max) + 1)


def bits(x):
    return x.view(f"u{x.dtype.itemsize}")


def differences(x, got, want, t):
    wrong = bits(got) != bits(want)
    if t in FLOATS or t in CODES:
        wrong &= ~(np.isnan(got.astype(np.float64)) & np.isnan(want.astype(np.float64)))
    return wrong & defined(x, t)


# ---- the cases -------------------------------------------------------------------------------------------------------

def variants(t):
    if t in E8M0:
        return [(s, r) for s in (1, 0) for r in ("up", "down", "nearest")]
    return [(1, "up"), (0, "up")] if t in F8 else [(1, "up")]


def run_model(ctx, model, feeds, count, backend):
    folder = ctx.new_dir()
    path = os.path.join(folder, "types.onnx")
    onnx.save(model, path)
    save_inputs(os.path.join(folder, "in"), model, feeds)
    out = os.path.join(folder, "out")
    ctx.smelt("run", path, f"--backend={backend}", "--inputs", os.path.join(folder, "in"), "--outputs", out)
    return load_outputs(out, count)


def run_casts(ctx, source, backend):
    x = operand(source)
    jobs = [(t, s, r) for t in ALL if t != source for s, r in variants(t)]
    nodes = [helper.make_node("Cast", ["x"], [f"y{i}"], to=t, **({"saturate": s, "round_mode": r} if t in CODES else {}))
             for i, (t, s, r) in enumerate(jobs)]
    outputs = [helper.make_tensor_value_info(f"y{i}", t, x.shape) for i, (t, _, _) in enumerate(jobs)]
    graph = helper.make_graph(nodes, "casts", [helper.make_tensor_value_info("x", source, x.shape)], outputs)
    model = helper.make_model(graph, ir_version=IR_VERSION, opset_imports=[helper.make_opsetid("", OPSET)])
    problems = []
    for (t, s, r), got in zip(jobs, run_model(ctx, model, {"x": x}, len(jobs), backend)):
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            want = cast(x, t, s, r)
            wrong = differences(x, got, want, t)
        if wrong.any():
            i = int(np.argmax(wrong))
            problems.append(f"to {name_of(t)} (saturate={s}, {r}): {int(wrong.sum())} of {wrong.size} differ, first "
                            f"{x[i]!r}: {got[i]!r}, expected {want[i]!r}")
    check(not problems, "\n".join(problems))
    return f"{len(jobs)} casts of {x.size}"


def run_movement(ctx, backend):
    """A constant and an input of every type through Concat, Transpose, Gather, Pad, Where and an Expand to nothing."""
    nodes, inputs, constants, outputs, feeds, want = [], [], [], [], {}, []
    constants += [numpy_helper.from_array(np.array([1, 0, 1]), "picks"),
                  numpy_helper.from_array(np.array([0, 1, 0, 1]), "pads"),
                  numpy_helper.from_array(np.array([True, False, True, True, False]), "mask")]
    for t in list(ALL) + list(COMPLEX):
        if t in COMPLEX:
            all_values = (np.arange(8) + 1j * np.arange(8)[::-1]).astype(COMPLEX[t])
        else:
            all_values = operand(t)[:8]
        n = name_of(t)
        x, c = np.resize(all_values, (2, 3)), np.resize(all_values[::-1], (2, 2))
        inputs.append(helper.make_tensor_value_info(f"x_{n}", t, x.shape))
        constants.append(numpy_helper.from_array(c, f"c_{n}"))
        feeds[f"x_{n}"] = x
        nodes += [helper.make_node("Concat", [f"x_{n}", f"c_{n}"], [f"j_{n}"], axis=1),
                  helper.make_node("Gather", [f"j_{n}", "picks"], [f"g_{n}"], axis=0),
                  helper.make_node("Transpose", [f"g_{n}"], [f"t_{n}"], perm=[1, 0]),
                  helper.make_node("Identity", [f"t_{n}"], [f"o_{n}"])]
        joined = np.concatenate([x, c], axis=1)
        want.append(joined[[1, 0, 1]].T)
        outputs.append(helper.make_tensor_value_info(f"o_{n}", t, want[-1].shape))
    graph = helper.make_graph(nodes, "movement", inputs, outputs, constants)
    model = helper.make_model(graph, ir_version=IR_VERSION, opset_imports=[helper.make_opsetid("", OPSET)])
    got = run_model(ctx, model, feeds, len(want), backend)
    wrong = [v.name for v, g, w in zip(outputs, got, want) if g.tobytes() != np.ascontiguousarray(w).tobytes()]
    check(not wrong, f"changed on their way: {wrong}")
    return f"{len(want)} types"


def run_complex_library(ctx):
    """c64 and c128 in the typed call's header and the generic call, and as .npz of `smelt run`."""
    from smelt_abi import SharedModel
    folder, feeds = ctx.new_dir(), {}
    nodes, inputs, outputs = [], [], []
    for t, dtype in COMPLEX.items():
        n = name_of(t)
        feeds[n] = (np.arange(6).reshape(2, 3) - 2.5j).astype(dtype)
        inputs.append(helper.make_tensor_value_info(n, t, ["rows", 3]))
        outputs.append(helper.make_tensor_value_info("t_" + n, t, [3, "rows"]))
        nodes.append(helper.make_node("Transpose", [n], ["t_" + n], perm=[1, 0]))
    model = helper.make_model(helper.make_graph(nodes, "complex", inputs, outputs), ir_version=IR_VERSION,
                              opset_imports=[helper.make_opsetid("", OPSET)])
    path = os.path.join(folder, "complex.onnx")
    onnx.save(model, path)
    ctx.smelt("compile", path, "--name=pairs", "--emit=shared", cwd=folder)
    ctx.smelt("compile", path, "--name=fixed", "--dim", "rows=2", cwd=folder)
    with open(os.path.join(folder, "fixed.h"), encoding="utf-8") as f:
        header = f.read()
    for words in ("const float complex64[2*2*3]", "const double complex128[2*2*3]", "double t_complex128[2*3*2]"):
        check(words in header, f"the header lacks '{words}'")
    library = SharedModel(os.path.join(folder, "libpairs.so"), ctx.include, list(feeds.values()))
    library.run()
    np.savez(os.path.join(folder, "in.npz"), **feeds)
    swapped = os.path.join(folder, "swapped.npy")
    np.save(swapped, feeds["complex128"].astype(">c16"))
    ctx.smelt("run", path, f"--input=complex64={folder}/in.npz:complex64", f"--input=complex128={swapped}", "--outputs", folder,
              "--output-format=npy")
    for i, x in enumerate(feeds.values()):
        check(np.array_equal(library.output(i, x.dtype, 6), x.T.ravel()), f"output {i} of the library is wrong")
        check(np.array_equal(np.load(os.path.join(folder, f"output_{i}.npy")), x.T), f"output {i} of the run is wrong")


def cases(ctx):
    made = [Case(f"movement.{b}", lambda b=b: run_movement(ctx, b), label)
            for b, label in (("interpret", "nodev"), ("llvm", "cpu"), ("c", "cpu"))]
    made.append(Case("complex_library", lambda: run_complex_library(ctx), "cpu"))
    for source in ALL:
        for b, label in (("interpret", "nodev"), ("llvm", "cpu"), ("c", "cpu")):
            made.append(Case(f"cast_{name_of(source)}.{b}", lambda s=source, b=b: run_casts(ctx, s, b), label))
    return made
