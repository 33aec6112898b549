"""Every version of every operator that the onnx package knows is read, or refused with a reason.

frontend/onnx/ops.def has a row for each form that is read, frontend/onnx/refused.def the operators that are not, with why.
A version belongs to the newest row that does not follow it, and that row must take what the version's schema allows: its
attributes, by name and type, and as many inputs and outputs. A row may take more, where several versions share it.
"""
import re

import onnx.defs

from harness import Case, check

ROW = re.compile(r'ONNX\((\w+),\s*"([^"]*)",\s*(\d+),\s*(-?\d+),\s*(-?\d+),\s*(-?\d+),\s*"([^"]*)",\s*(\w+)\)')
REFUSED = re.compile(r'REFUSED\((\w+),\s*"([^"]*)",\s*"([^"]+)"\)')
LETTER = {"FLOAT": "f", "INT": "i", "STRING": "s", "TENSOR": "t", "GRAPH": "g", "FLOATS": "F", "INTS": "I", "STRINGS": "S",
          "SPARSE_TENSOR": "p", "TYPE_PROTO": "y"}
MANY = 1000        # what a schema says for "any number" is larger
# Attributes that a version's schema has and no file of that version: forms that older files leave to their importer.
FEWER_INPUTS = {("", "Loop"): "its condition may be left out", ("", "Resize"): "opset 11 files left roi out",
                ("", "BatchNormalization"): "one row for two versions"}


def rows(ctx):
    """{(domain, operator): [(since, inputs min, max, outputs max, {attribute: (letter, required)})]}"""
    found = {}
    with open(ctx.path("frontend", "onnx", "ops.def"), encoding="utf-8") as f:
        for op, domain, since, low, high, outs, attrs, _ in ROW.findall(f.read()):
            each = dict(a.split(":") for a in attrs.split())
            each = {k: (v[0], v.endswith("!")) for k, v in each.items()}
            found.setdefault((domain, op), []).append((int(since), int(low), int(high), int(outs), each))
    return found


def refused(ctx):
    with open(ctx.path("frontend", "onnx", "refused.def"), encoding="utf-8") as f:
        return {(domain, op) for op, domain, _ in REFUSED.findall(f.read())}


def is_enough(have, want):
    return have < 0 or (want < MANY and have >= want)


def differences(schema, row):
    """What the schema allows and the row does not."""
    since, low, high, outs, attrs = row
    wrong = []
    if not is_enough(high, schema.max_input):
        wrong.append(f"takes {high} inputs of {schema.max_input}")
    if low > schema.min_input:
        wrong.append(f"needs {low} inputs, {schema.min_input} will do")
    if not is_enough(outs, schema.max_output):
        wrong.append(f"gives {outs} outputs of {schema.max_output}")
    for name, a in schema.attributes.items():
        letter = LETTER[a.type.name]
        got, required = attrs.get(name, ("", False))
        if got != letter and letter != "y":
            wrong.append(f"attribute {name}: {got or 'missing'}, has to be {letter}")
        if required and not a.required:
            wrong.append(f"attribute {name} is not required")
    return wrong


def read(ctx):
    have, no, wrong, n = rows(ctx), refused(ctx), [], 0
    for s in onnx.defs.get_all_schemas_with_history():
        if s.deprecated:
            continue
        n += 1
        key, words = (s.domain, s.name), f"{s.name}-{s.since_version} of {s.domain or 'ai.onnx'}"
        fitting = [r for r in have.get(key, []) if r[0] <= s.since_version]
        if fitting:
            row = max(fitting, key=lambda r: r[0])
            wrong += [f"{words}: row {row[0]} {d}" for d in differences(s, row)]
        elif key not in no:
            wrong.append(f"{words}: neither read nor refused with a reason")
    check(not wrong, "\n".join(sorted(wrong)))
    return f"{n} versions of {len({(s.domain, s.name) for s in onnx.defs.get_all_schemas_with_history()})} operators"


def stale(ctx):
    """An operator whose first version is read needs no reason any more."""
    first = {}
    for s in onnx.defs.get_all_schemas_with_history():
        key = s.domain, s.name
        first[key] = min(first.get(key, s.since_version), s.since_version)
    have = rows(ctx)
    gone = [f"{op} of {domain or 'ai.onnx'} is read: its row in refused.def can go" for domain, op in sorted(refused(ctx))
            if any(r[0] <= first.get((domain, op), 1) for r in have.get((domain, op), []))]
    check(not gone, "\n".join(gone))


def cases(ctx):
    return [Case("all_are_read_or_refused", lambda: read(ctx)), Case("no_reason_is_stale", lambda: stale(ctx))]
