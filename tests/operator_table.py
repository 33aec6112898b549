#!/usr/bin/env python3
"""Writes docs/operators.md: every operator of ONNX by version, type and backend, from what the tests passed.

    operator_table.py [--smelt PATH] [--cases DIR] llvm=FILE c=FILE interpret=FILE

FILE is what `conformance.py --backend B --results FILE` wrote for all cases. The table is a function of onnx's schemas,
`smelt --list=ops`, the cases of tests/ops/ and the list of conformance cases that do not pass, which stands at the end
of the document. The suite `conformance` runs the cases again, and fails when the list or the table is not true.
"""
import argparse
import os
import re
import subprocess
import sys
from collections import defaultdict

import onnx
import onnx.defs
from onnx import TensorProto

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
DOCUMENT = os.path.join(ROOT, "docs", "operators.md")
BACKENDS = ("llvm", "c", "interpret")
HEADER = """# Operators

Every operator of ONNX {onnx}, its versions, the element types that tests have shown, and the cases passed by backend.
`tests/operator_table.py` writes this file from what the tests passed, and the suite `conformance` fails when it is not
true. An operator is written once and reaches every backend, so the three columns are the same but for what the
interpreter is too slow for.

* **versions**: the opsets in which the operator changed and that smelt reads; ~~struck out~~: not read.
* **types**: the element types of passing cases, of ONNX's and of our own (`tests/suites/schema_types.py` runs each version
  with each), and in brackets those that the specification allows and no case has.
* **llvm, c, interpret**: of ONNX's own backend cases for this operator, how many pass. `-`: it has none.
* **own**: cases in `tests/ops/`, which run on all three.
"""
# Why a case cannot pass, where the message of the run does not say it.
REASONS = {
    "test_dft_inverse": "the stored answer has numpy's f32 noise, 1.9e-7, where the exact value is 0 and ours is 0; the tolerance is 1e-7",
    "test_dft_inverse_opset19": "as test_dft_inverse",
    "test_attention_4d_causal_fp16_expanded": "the stored answer has numpy's f16 sums; ours, summed in f32, is nearer to the f64 value",
}
SHORT = {"float": "f32", "double": "f64", "float16": "f16", "bfloat16": "bf16", "int8": "i8", "int16": "i16",
         "int32": "i32", "int64": "i64", "uint8": "u8", "uint16": "u16", "uint32": "u32", "uint64": "u64",
         "float8e4m3fn": "f8e4m3fn", "float8e4m3fnuz": "f8e4m3fnuz", "float8e5m2": "f8e5m2",
         "float8e5m2fnuz": "f8e5m2fnuz", "float8e8m0": "f8e8m0", "float4e2m1": "f4e2m1", "int4": "i4", "uint4": "u4",
         "float6e2m3": "f6e2m3", "float6e3m2": "f6e3m2", "int2": "i2", "uint2": "u2", "complex64": "c64", "complex128": "c128"}
ORDER = ["f32", "f64", "f16", "bf16", "i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64", "bool", "string"]


def domain_of(name):
    return "" if name == "ai.onnx" else name


def short_type(enum):
    name = TensorProto.DataType.Name(enum).lower()
    return SHORT.get(name, name)


def sort_types(types):
    return sorted(types, key=lambda t: (ORDER.index(t) if t in ORDER else len(ORDER), t))


# ---- what the schemas allow and what smelt reads -----------------------------------------------------------------------

def schemas():
    """{(domain, operator): {version: schema}}, deprecated ones left out"""
    found = defaultdict(dict)
    for s in onnx.defs.get_all_schemas_with_history():
        if not s.deprecated:
            found[s.domain, s.name][s.since_version] = s
    return found


def read_versions(smelt):
    """{(domain, operator): [since]}"""
    text = subprocess.run([smelt, "--list=ops"], capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in text.splitlines()]
    return {(domain_of(r[0]), r[1]): [int(v) for v in r[2:]] for r in rows}


def allowed_types(schema):
    types = set()
    for constraint in schema.type_constraints:
        for text in constraint.allowed_type_strs:
            match = re.search(r"tensor\((\w+)\)", text)
            if match:
                types.add(SHORT.get(match.group(1), match.group(1)))
    return types


# ---- what tests have shown -----------------------------------------------------------------------------------------------

def element_type(type_proto):
    kind = type_proto.WhichOneof("value")
    if kind in ("sequence_type", "optional_type"):
        return element_type(getattr(type_proto, kind).elem_type)
    return type_proto.tensor_type.elem_type if kind == "tensor_type" else 0


def case_evidence(folder):
    """(domain, operator, types) of a one-operator case, else None"""
    model = onnx.load(os.path.join(folder, "model.onnx"))
    nodes = [n for n in model.graph.node if n.op_type != "Constant"]
    if len(nodes) != 1 or model.functions:
        return None
    infos = [*model.graph.input, *model.graph.output]
    types = {element_type(v.type) for v in infos} | {t.data_type for t in model.graph.initializer}
    return domain_of(nodes[0].domain), nodes[0].op_type, {short_type(t) for t in types if t}


def own_cases():
    """{(domain, operator): (number of cases, types)}"""
    found = {}
    folder = os.path.join(HERE, "ops")
    for file in sorted(os.listdir(folder)):
        if not file.endswith(".case"):
            continue
        stem = file[:-len(".case")].split("-")[0]
        with open(os.path.join(folder, file), encoding="utf-8") as f:
            lines = [line.split("#")[0] for line in f if line.startswith("case ")]
        for line in lines:
            op = stem if stem != "opset" else line.split()[1].split("_")[0]
            domain = re.search(r"@domain=(\S+)", line)
            key = domain.group(1) if domain else "", op
            n, types = found.get(key, (0, set()))
            found[key] = n + 1, types | set(re.findall(r"(?<![\w.])!?([a-z]+\d\w*|bool|string)\[", line))
    return found


def swept_types(schema):
    """The types that tests/suites/schema_types.py runs."""
    import schema_models
    from suites import ops, schema_types
    if schema.name in schema_types.MAPS:
        return set()
    kinds = {k for types in schema_models.assignments(schema) for k in types.values()}
    return {short_type(ops.ONNX_TYPES[k.dtype]) for k in kinds if (schema.name, k.dtype) not in schema_types.MEANINGLESS}


# ---- the document --------------------------------------------------------------------------------------------------------

def version_cell(versions, since):
    return " ".join(str(v) if since and min(since) <= v else f"~~{v}~~" for v in sorted(versions))


def type_cell(shown, allowed):
    missing = sort_types(allowed - shown)
    return " ".join(sort_types(shown & allowed)) + (f" ({' '.join(missing)})" if missing else "")


def render(smelt, cases, not_passing):
    """The document. cases: [ConformanceCase]; not_passing: {(case name, backend): (outcome, reason)}"""
    from conformance import applies
    read, own, all_schemas = read_versions(smelt), own_cases(), schemas()
    passed = defaultdict(lambda: {b: [0, 0] for b in BACKENDS})
    total = {b: [0, 0] for b in BACKENDS}
    types = defaultdict(set)
    for case in cases:
        evidence = case_evidence(case.folder)
        key = evidence[:2] if evidence else None
        for b in BACKENDS:
            if not applies(case, b):
                continue
            good = (case.name, b) not in not_passing
            for count in ([passed[key][b]] if key else []) + [total[b]]:
                count[0] += good
                count[1] += 1
        if evidence and (case.name, "llvm") not in not_passing:
            types[key] |= evidence[2]
    lines = [HEADER.format(onnx=onnx.__version__), "| ONNX's backend cases | passed | of |", "|---|---|---|"]
    lines += [f"| {b} | {total[b][0]} | {total[b][1]} |" for b in BACKENDS]
    for domain in sorted({d for d, _ in all_schemas} | {d for d, _ in read}):
        lines += ["", f"## {domain or 'ai.onnx'}", "",
                  "| operator | versions | types | llvm | c | interpret | own |", "|---|---|---|---|---|---|---|"]
        names = {n for d, n in all_schemas if d == domain} | {n for d, n in read if d == domain}
        for name in sorted(names):
            key = domain, name
            versions = all_schemas.get(key) or {v: None for v in read[key]}
            newest = versions[max(versions)]
            n_own, own_types = own.get(key, (0, set()))
            shown = types[key] | own_types | (swept_types(newest) if newest and key in read else set())
            allowed = allowed_types(newest) if newest else shown
            counts = [f"{p}/{n}" if n else "-" for p, n in (passed[key][b] for b in BACKENDS)]
            lines.append(f"| {name} | {version_cell(versions, read.get(key, []))} | {type_cell(shown, allowed)} | "
                         + " | ".join(counts) + f" | {n_own or '-'} |")
    lines += ["", "## Cases that do not pass", ""]
    if not_passing:
        lines += ["| case | backend | outcome | reason |", "|---|---|---|---|"]
        lines += [f"| {name} | {b} | {outcome} | {reason} |"
                  for (name, b), (outcome, reason) in sorted(not_passing.items())]
    else:
        lines.append("None.")
    return "\n".join(lines) + "\n"


def listed_as_not_passing(text):
    """{(case name, backend): (outcome, reason)} of the document's last table"""
    rows = re.findall(r"^\| (\S+) \| (\w+) \| (failed|refused) \| (.*) \|$", text, re.MULTILINE)
    return {(name, backend): (outcome, reason) for name, backend, outcome, reason in rows}


def read_document():
    with open(DOCUMENT, encoding="utf-8") as f:
        return f.read()


def main():
    from conformance import load_cases
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("results", nargs="+")
    p.add_argument("--smelt", default=os.path.join(ROOT, "build", "release", "driver", "smelt"))
    p.add_argument("--cases", default=os.path.join(ROOT, "build", "conformance"))
    a = p.parse_args()
    not_passing = {}
    for argument in a.results:
        backend, _, path = argument.partition("=")
        with open(path, encoding="utf-8") as f:
            for line in f:
                name, outcome, reason = line.rstrip("\n").split("\t")
                if outcome != "passed":
                    not_passing[name, backend] = outcome, REASONS.get(name, reason)
    with open(DOCUMENT, "w", encoding="utf-8") as f:
        f.write(render(a.smelt, load_cases(os.path.abspath(a.cases)), not_passing))
    return 0


if __name__ == "__main__":
    sys.exit(main())
