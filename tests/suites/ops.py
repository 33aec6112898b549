"""Every operator against an outside judge: tests/ops/OP.case, run by the interpreter, LLVM and the C backend.

A case file is lines of words; '#' starts a comment. The file's name is the operator (OP or OP-part).

    case NAME INPUT... [attr=VALUE...]              must agree with the judge
    each NAME ... {A|B} ...                         a case for every combination of the choices (case_lines.py)
    error "TEXT" INPUT... [attr=VALUE...]           must be refused as invalid with a message that has TEXT
    unsupported "TEXT" INPUT... [attr=VALUE...]     valid, but refused with a message that has TEXT

An INPUT is DTYPE[DIMS], then perhaps where its values come from; '-' is an absent input and a leading '!' makes a
constant of it. Without more the values are random. A dim NAME:N is symbolic and N when the model runs. A range may be
followed by '*' and factors for the last axis.

A string tensor's values are a Python list, such as "str[2]=['a b','']".

    f32[2,3]    f32[2,3]~-1:1    f32[2,3]~0:1*1,1,9    i64[3]=0,-1,2    f32[2]=nan,inf    !i64[2]=1,2    f32[batch:4,8]    i64[]=7

A VALUE is a Python literal without spaces or a bare word: axis=-1 perm=[0,2,1] mode=linear value=i64[1]=5 (a tensor).
Words that start with '@' speak to this runner: @out=N (number of outputs; @out=1,0,1 names the first and third only),
@judge=ref (onnx's reference instead of onnxruntime; @judge=formula: numpy in contrib_formulas.py;
@judge=parts: onnxruntime on either part of complex numbers, in f32), @domain=D, @ml=N
(version of ai.onnx.ml), @opset=N, @tol=T and @abs=T (a wider relative or absolute tolerance) and @within=N (integers
may differ by N), with a comment that says why. Files in a folder tests/ops/DOMAIN/ have that domain.

A file opset-N has old forms of many operators, judged by tests/old_forms.py: a case's name begins with its operator, and
the opset is N. A refused one has its operator as @op=OP.

The judge is onnxruntime; where it lacks a dtype, onnxruntime on f32 rounded back, else onnx's reference evaluator. All
cases of a file are one model: a process per file and backend. The refused cases of a file are one model, too.
"""
import ast
import os
import re
import shlex
import zlib
from dataclasses import dataclass, field

import numpy as np
import onnx
import ml_dtypes    # comes with onnx
from onnx import TensorProto, helper, numpy_helper

import contrib_formulas
import old_forms
from case_lines import case_lines
from harness import Case, Failed, Skip, check

OPSET = 22
IR_VERSION = 10
BACKENDS = {"interpret": "nodev", "llvm": "cpu", "c": "cpu"}
DTYPES = {"f32": np.float32, "f64": np.float64, "f16": np.float16, "bf16": ml_dtypes.bfloat16, "i8": np.int8,
          "i16": np.int16, "i32": np.int32, "i64": np.int64, "u8": np.uint8, "u16": np.uint16, "u32": np.uint32,
          "u64": np.uint64, "bool": np.bool_, "f8e4m3fn": ml_dtypes.float8_e4m3fn,
          "f8e4m3fnuz": ml_dtypes.float8_e4m3fnuz, "f8e5m2": ml_dtypes.float8_e5m2,
          "f8e5m2fnuz": ml_dtypes.float8_e5m2fnuz, "f8e8m0": ml_dtypes.float8_e8m0fnu,
          "f6e2m3": ml_dtypes.float6_e2m3fn, "f6e3m2": ml_dtypes.float6_e3m2fn, "f4e2m1": ml_dtypes.float4_e2m1fn,
          "i2": ml_dtypes.int2, "i4": ml_dtypes.int4, "u2": ml_dtypes.uint2, "u4": ml_dtypes.uint4, "c64": np.complex64,
          "c128": np.complex128, "str": np.object_}
COMPLEX = ("c64", "c128")
SMALL_FLOATS = [d for d in DTYPES if d[0] == "f" and "e" in d]
ONNX_TYPES = {"f32": TensorProto.FLOAT, "f64": TensorProto.DOUBLE, "f16": TensorProto.FLOAT16,
              "bf16": TensorProto.BFLOAT16, "i8": TensorProto.INT8, "i16": TensorProto.INT16, "i32": TensorProto.INT32,
              "i64": TensorProto.INT64, "u8": TensorProto.UINT8, "u16": TensorProto.UINT16, "u32": TensorProto.UINT32,
              "u64": TensorProto.UINT64, "bool": TensorProto.BOOL, "f8e4m3fn": TensorProto.FLOAT8E4M3FN,
              "f8e4m3fnuz": TensorProto.FLOAT8E4M3FNUZ, "f8e5m2": TensorProto.FLOAT8E5M2,
              "f8e5m2fnuz": TensorProto.FLOAT8E5M2FNUZ, "f8e8m0": TensorProto.FLOAT8E8M0,
              "f6e2m3": TensorProto.FLOAT6E2M3, "f6e3m2": TensorProto.FLOAT6E3M2, "f4e2m1": TensorProto.FLOAT4E2M1,
              "i2": TensorProto.INT2, "i4": TensorProto.INT4, "u2": TensorProto.UINT2, "u4": TensorProto.UINT4,
              "c64": TensorProto.COMPLEX64, "c128": TensorProto.COMPLEX128, "str": TensorProto.STRING}
# relative, absolute: a few roundings of the dtype on top of the functions' 4 ULP; judges sum in another order
TOLERANCE = {np.dtype(np.float32): (1e-5, 1e-6), np.dtype(np.float64): (1e-12, 1e-13),
             np.dtype(np.float16): (2e-3, 1e-4), np.dtype(ml_dtypes.bfloat16): (1.6e-2, 1e-3)}
WORDS = ["", "a", "b", "ab", "abc", "Abc", "a b", " c ", "1", "-2.5", "\u00e9t\u00e9", "\u65e5\u672c", "x" * 40]
INPUT = re.compile(r"(!?)(f32|f64|f16|bf16|[iu](?:2|4|8|16|32|64)|bool|f8e\w+|f6e\w+|f4e\w+|c64|c128|str)\[([^\]]*)\](?:=(.*)|~(.*):([^*]*)(?:\*(.*))?)?$")


@dataclass
class Tensor:
    dtype: str
    dims: list       # int, or (name, value)
    values: np.ndarray
    constant: bool

    @property
    def shape(self):
        return tuple(d if isinstance(d, int) else d[1] for d in self.dims)


@dataclass
class OpCase:
    op: str
    name: str
    kind: str                 # case, error, unsupported
    text: str = ""            # of the message expected
    inputs: list = field(default_factory=list)      # Tensor or None
    attributes: dict = field(default_factory=dict)
    options: dict = field(default_factory=dict)

    @property
    def wanted(self):
        """Of each output, whether it has a name."""
        text = self.options.get("out", "1")
        return [bool(int(t)) for t in text.split(",")] if "," in text else [True] * int(text)

    @property
    def n_out(self):
        return sum(self.wanted)


def is_float(dtype):
    return dtype in ("f32", "f64", "f16", "bf16") or dtype in SMALL_FLOATS


def random_values(rng, dtype, shape, low, high):
    if dtype == "str":
        return np.array([WORDS[i] for i in rng.integers(0, len(WORDS), int(np.prod(shape)))], object).reshape(shape)
    if dtype in COMPLEX:
        v = random_values(rng, "f64", (*shape, 2), low, high).round(2) @ [1, 1j]
    elif low is not None:
        v = rng.uniform(low, high, shape) if is_float(dtype) else rng.integers(int(low), int(high) + 1, shape)
    elif is_float(dtype):
        v = rng.standard_normal(shape) * 2
    elif dtype == "bool":
        v = rng.integers(0, 2, shape)
    else:
        top = {"i2": 1, "u2": 3, "i4": 7}.get(dtype, 10)
        v = rng.integers(0 if dtype[0] == "u" else max(-10, -top - 1), top + 1, shape)
    return np.asarray(v).astype(DTYPES[dtype])


def parse_number(word, dtype):
    if dtype in COMPLEX:
        return complex(word)
    if word in ("true", "false"):
        return word == "true"
    return float(word) if is_float(dtype) else int(word)


def parse_tensor(word, rng):
    match = INPUT.match(word)
    check(match, f"not an input: {word}")
    constant, dtype, dim_text, values, low, high, factors = match.groups()
    dims = []
    for d in filter(None, dim_text.split(",")):
        name, _, value = d.rpartition(":")
        dims.append((name, int(value)) if name else int(d))
    t = Tensor(dtype, dims, None, bool(constant))
    if values is not None and dtype == "str":
        t.values = np.array(ast.literal_eval(values), dtype=object).reshape(t.shape)
    elif values is not None:
        numbers = [parse_number(v, dtype) for v in filter(None, values.split(","))]
        flat = np.array(numbers, dtype=np.float64 if is_float(dtype) else DTYPES[dtype] if dtype in COMPLEX else object).astype(DTYPES[dtype])
        t.values = np.full(t.shape, flat[0]) if flat.size == 1 else flat.reshape(t.shape)
    else:
        t.values = random_values(rng, dtype, t.shape, float(low) if low else None, float(high) if high else None)
    if factors:
        t.values *= np.array(factors.split(","), t.values.dtype)
    return t


def parse_attribute(word, rng):
    name, _, value = word.partition("=")
    if INPUT.match(value):
        t = parse_tensor(value, rng)
        return name, numpy_helper.from_array(t.values)
    if value in ("nan", "inf", "-inf"):
        return name, float(value)
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


def parse_line(op, line, number):
    words = shlex.split(line, comments=True)
    if not words:
        return None
    check(words[0] in ("case", "error", "unsupported") and len(words) > 1, f"line {number}: {line}")
    kind = words[0]
    name = words[1] if kind == "case" else f"{kind}_{number}"
    c = OpCase(op, re.sub(r"\W", "_", name), kind, "" if kind == "case" else words[1])
    rng = np.random.default_rng(zlib.crc32(f"{op}/{name}".encode()))
    for word in words[2:]:
        if word == "-":
            c.inputs.append(None)
        elif word[0] == "@":
            key, _, value = word[1:].partition("=")
            c.options[key] = value
        elif INPUT.match(word):
            c.inputs.append(parse_tensor(word, rng))
        else:
            key, value = parse_attribute(word, rng)
            c.attributes[key] = value
    return c


def read_cases(path):
    op, _, part = os.path.splitext(os.path.basename(path))[0].partition("-")
    folder = os.path.basename(os.path.dirname(path))
    with open(path, encoding="utf-8") as f:
        parsed = [parse_line(op, line, number) for number, line in case_lines(f)]
    cases = [c for c in parsed if c]
    for c in cases:
        c.options.setdefault("domain", "" if folder == "ops" else folder)
    for c in cases if op == "opset" else ():
        c.op = c.options.get("op", c.name.split("_")[0])
        c.options.update(opset=part, judge="old")
    check(len({c.name for c in cases}) == len(cases), f"{path}: two cases have one name")
    return cases


# ---- models ----------------------------------------------------------------------------------------------------------

def build_model(cases, widen=False):
    """(model, {input name: array}, [output names of each case]). widen: f16 and bf16 become f32."""
    nodes, inputs, constants, outputs, feeds, out_names = [], [], [], [], {}, []
    for i, c in enumerate(cases):
        names = []
        for j, t in enumerate(c.inputs):
            names.append("" if t is None else f"c{i}_in{j}")
            if t is None:
                continue
            wide = widen and t.dtype in ("f16", "bf16")
            dtype = TensorProto.FLOAT if wide else ONNX_TYPES[t.dtype]
            values = t.values.astype(np.float32) if wide else t.values
            if t.constant:
                constants.append(numpy_helper.from_array(values, names[j]))
                continue
            dims = [d if isinstance(d, int) else f"c{i}_{d[0]}" for d in t.dims]
            inputs.append(helper.make_tensor_value_info(names[j], dtype, dims))
            feeds[names[j]] = values
        listed = [f"c{i}_out{j}" if wanted else "" for j, wanted in enumerate(c.wanted)]
        outs = [o for o in listed if o]
        nodes.append(helper.make_node(c.op, names, listed, name=c.name, domain=c.options.get("domain", ""),
                                      **c.attributes))
        outputs += [onnx.ValueInfoProto(name=o) for o in outs]
        out_names.append(outs)
    graph = helper.make_graph(nodes, "cases", inputs, outputs, constants)
    opset = max(int(c.options.get("opset", OPSET)) for c in cases)
    ml = max(int(c.options.get("ml", 4)) for c in cases)
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("ai.onnx.ml", ml),
               helper.make_opsetid("ai.onnx.preview", 1)]
    others = {c.options["domain"] for c in cases} - {"", "ai.onnx.ml", "ai.onnx.preview"}
    imports += [helper.make_opsetid(domain, 1) for domain in sorted(others)]
    return helper.make_model(graph, ir_version=IR_VERSION, opset_imports=imports), feeds, out_names


def run_onnxruntime(c, widen):
    import onnxruntime
    onnxruntime.set_default_logger_severity(4)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    model, feeds, outs = build_model([c], widen)
    if any(v.dtype == ml_dtypes.bfloat16 for v in feeds.values()):
        raise NotImplementedError("onnxruntime's Python interface takes no bf16")
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    return session.run(outs[0], feeds)


def run_reference(c):
    from onnx.reference import ReferenceEvaluator
    model, feeds, outs = build_model([c])
    return ReferenceEvaluator(model).run(outs[0], feeds)


def run_parts(c):
    """Of a linear operator on complex numbers: what onnxruntime makes of the parts, where only real attributes add."""
    def part(take, kept):
        inputs = [t and Tensor("f32" if t.dtype in COMPLEX else t.dtype, t.dims,
                               take(t.values).astype(np.float32) if t.dtype in COMPLEX else t.values, t.constant)
                  for t in c.inputs]
        attributes = {k: v for k, v in c.attributes.items() if kept or k != "extrapolation_value"}
        return run_onnxruntime(OpCase(c.op, c.name, c.kind, "", inputs, attributes, c.options), False)
    dtype = DTYPES[next(t.dtype for t in c.inputs if t and t.dtype in COMPLEX)]
    return [(re + 1j * im).astype(dtype) for re, im in zip(part(np.real, True), part(np.imag, False))]


def judged(c):
    """The judge's outputs. Those of a widened run come back in f32 and are rounded when they are compared."""
    if c.options.get("judge") == "old":
        return [np.asarray(a) for a in old_forms.judge(c)]
    ways = [lambda: run_onnxruntime(c, False), lambda: run_onnxruntime(c, True), lambda: run_reference(c)]
    if c.options.get("judge") == "ref":
        ways = ways[2:]
    if c.options.get("judge") == "formula":
        ways = [lambda: contrib_formulas.answer(c.op, [t and t.values for t in c.inputs], c.attributes,
                                                c.n_out)]
    if c.options.get("judge") == "parts":
        ways = [lambda: run_parts(c)]
    problems = []
    for way in ways:
        try:
            return [np.asarray(a) for a in way()]
        except Exception as e:  # any judge may refuse; all of them is a broken case
            problems.append(str(e).splitlines()[0] if str(e) else type(e).__name__)
    raise Failed(f"{c.name}: no judge takes it: {'; '.join(problems)}")


# ---- comparison ------------------------------------------------------------------------------------------------------

def difference(c, got, want):
    """'' when they agree, else what is wrong."""
    if got.shape != want.shape:
        return f"shape {list(got.shape)}, expected {list(want.shape)}"
    if want.dtype == np.uint8 and any(got.dtype == DTYPES[d] for d in SMALL_FLOATS):
        want = want.view(got.dtype)     # as onnxruntime's Python interface shows them
    if want.dtype.kind in "OUS" and got.dtype.kind in "OUS":
        got, want = (np.array([s.decode() if isinstance(s, bytes) else str(s) for s in a.ravel()],
                              object).reshape(a.shape) for a in (got, want))
    if got.dtype != want.dtype:
        if got.dtype not in (np.float16, ml_dtypes.bfloat16) or want.dtype != np.float32:
            return f"dtype {got.dtype}, expected {want.dtype}"
        want = want.astype(got.dtype)
    if got.dtype.kind == "c":
        got, want = (np.stack([a.real, a.imag], axis=-1) for a in (got, want))
    if got.dtype not in TOLERANCE and "within" in c.options:
        wrong = np.abs(got.astype(np.int64) - want.astype(np.int64)) > int(c.options["within"])
    elif any(got.dtype == DTYPES[d] for d in SMALL_FLOATS):
        g, w = got.astype(np.float64), want.astype(np.float64)
        wrong = ~((g == w) | (np.isnan(g) & np.isnan(w)))
    elif got.dtype not in TOLERANCE:
        wrong = got != want
    else:
        relative, absolute = TOLERANCE[got.dtype]
        relative = float(c.options.get("tol", relative))
        absolute = float(c.options.get("abs", absolute))
        g, w = got.astype(np.float64), want.astype(np.float64)
        with np.errstate(invalid="ignore"):
            wrong = ~((g == w) | (np.isnan(g) & np.isnan(w)) | (np.abs(g - w) <= absolute + relative * np.abs(w)))
    if not wrong.any():
        return ""
    at = tuple(int(i) for i in np.argwhere(wrong)[0]) if wrong.ndim else ()
    return f"{int(wrong.sum())} of {wrong.size} differ, first at {list(at)}: {got[at]}, expected {want[at]}"


def save_inputs(folder, model, feeds):
    os.makedirs(folder)
    for i, v in enumerate(model.graph.input):
        with open(os.path.join(folder, f"input_{i}.pb"), "wb") as f:
            f.write(numpy_helper.from_array(np.asarray(feeds[v.name]), v.name).SerializeToString())


def load_outputs(folder, count):
    arrays = []
    for i in range(count):
        with open(os.path.join(folder, f"output_{i}.pb"), "rb") as f:
            arrays.append(numpy_helper.to_array(TensorProto.FromString(f.read())))
    return arrays


def compare_cases(cases, got):
    """got: the outputs of all cases, flat."""
    problems, at = [], 0
    for c in cases:
        for j, want in enumerate(judged(c)):
            text = difference(c, got[at + j], want)
            if text:
                problems.append(f"{c.op}/{c.name}: output {j}: {text}")
        at += c.n_out
    check(not problems, "\n".join(problems))


def run_good(ctx, path, backend):
    cases = [c for c in read_cases(path) if c.kind == "case"]
    if not cases:
        raise Skip("no case of a result")
    folder = ctx.new_dir()
    model, feeds, outs = build_model(cases)
    model_path = os.path.join(folder, "cases.onnx")
    onnx.save(model, model_path)
    save_inputs(os.path.join(folder, "in"), model, feeds)
    os.makedirs(os.path.join(folder, "out"))
    done = ctx.smelt("run", model_path, f"--backend={backend}", "--verify=1", "--inputs", os.path.join(folder, "in"), "--outputs",
                     os.path.join(folder, "out"), expect=None)
    if done.returncode == 2 and "--backend takes" in done.stderr:
        raise Skip(f"this compiler's run has no backend {backend}")
    check(done.returncode == 0, f"smelt run: exit status {done.returncode}\n{done.stderr}")
    compare_cases(cases, load_outputs(os.path.join(folder, "out"), sum(len(o) for o in outs)))
    return f"{len(cases)} cases"


def refusal(ctx, part, status):
    """Compiles the cases as one model: (the cases that got no message with their text, what was printed)."""
    model_path = os.path.join(ctx.new_dir(), "cases.onnx")
    onnx.save(build_model(part)[0], model_path)
    done = ctx.smelt("compile", model_path, "-o", os.path.join(ctx.new_dir(), "x.a"), expect=status)
    lines = done.stderr.splitlines()
    return [c for c in part if not any(c.name in line and c.text in line for line in lines)], done.stderr


def run_refused(ctx, path):
    """What the importer refuses is not seen by the passes behind it: cases left over are tried one by one."""
    n_cases = 0
    for kind, status in (("error", 1), ("unsupported", 3)):
        refused = [c for c in read_cases(path) if c.kind == kind]
        n_cases += len(refused)
        for first in range(0, len(refused), 16):     # the compiler stops after 20 messages
            silent, printed = refusal(ctx, refused[first:first + 16], status)
            for c in silent:
                still_silent, printed = refusal(ctx, [c], status)
                check(not still_silent, f"{c.name}: no message with '{c.text}'\n{printed}")
    return f"{n_cases} refused"


def case_files(folder):
    """(path, name), also of those in the folders of other domains."""
    found = []
    for at, _, files in os.walk(folder):
        found += [os.path.join(at, f) for f in files if f.endswith(".case")]
    return sorted((path, os.path.relpath(path, folder)[:-len(".case")]) for path in found)


def cases(ctx):
    made = []
    for path, name in case_files(ctx.path("tests", "ops")):
        for backend, label in BACKENDS.items():
            made.append(Case(f"{name}.{backend}", lambda p=path, b=backend: run_good(ctx, p, b), label))
        if any(c.kind != "case" for c in read_cases(path)):
            made.append(Case(f"{name}.refused", lambda p=path: run_refused(ctx, p)))
    return made
