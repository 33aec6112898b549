"""ONNX's own backend cases (tests/conformance.py): all of them through LLVM, a third through C and the interpreter.

docs/operators.md lists the cases that do not pass. One that is not listed and fails, one that is listed and passes,
and a table that says anything else than what `tests/operator_table.py` would write, are failures of this suite.
"""
import concurrent.futures
import os

from harness import Case, check

import conformance
import operator_table

HOW = "for b in llvm c interpret; do tests/conformance.py --backend $b --results $b.txt; done\n" \
      "tests/operator_table.py llvm=llvm.txt c=c.txt interpret=interpret.txt"


def load(ctx):
    """Written to the build folder once; every suite run reads them there."""
    return conformance.load_cases(os.path.join(ctx.build, "conformance"))


def run(ctx, backend, cases):
    listed = operator_table.listed_as_not_passing(operator_table.read_document())
    wrong = []
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        runs = [(c, pool.submit(conformance.run_conformance_case, c, ctx.smelt_path, backend)) for c in cases]
        for case, done in runs:
            outcome, reason = done.result()
            expected = listed.get((case.name, backend), ("passed", ""))[0]
            if outcome != expected:
                wrong.append(f"{case.name}: {outcome}, docs/operators.md says {expected}  {conformance.one_line(reason)}")
    check(not wrong, "\n".join(wrong[:40]))
    return f"{len(cases)} cases"


def table(ctx):
    text = operator_table.read_document()
    wanted = operator_table.render(ctx.smelt_path, load(ctx), operator_table.listed_as_not_passing(text))
    differing = [line for line in wanted.splitlines() if line not in set(text.splitlines())]
    check(text == wanted, "docs/operators.md is not what it would be:\n" + "\n".join(differing[:10]) + "\n" + HOW)


def some(ctx, backend, third):
    cases = [c for c in load(ctx) if conformance.applies(c, backend)]
    return run(ctx, backend, conformance.third_of(cases) if third else cases)


def cases(ctx):
    return [Case("interpret_third", lambda: some(ctx, "interpret", True)),
            Case("llvm", lambda: some(ctx, "llvm", False), "cpu"),
            Case("c_third", lambda: some(ctx, "c", True), "cpu"),
            Case("c", lambda: some(ctx, "c", False), "long"),
            Case("interpret", lambda: some(ctx, "interpret", False), "long"),
            Case("table", lambda: table(ctx))]
