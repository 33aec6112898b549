#!/usr/bin/env python3
"""The only test runner.

    run.py [filter ...] [--label nodev|cpu|slow|long|gpu|all]... [--update] [--smelt PATH] [--models DIR] [--list]

A filter is a part of a case's name, SUITE/CASE; without one all cases are taken. Labels: nodev needs the compiler and
no device, cpu also runs generated code, slow takes minutes, long is for releases, gpu needs the device. The default is nodev and cpu.
--update rewrites the expectations of text tests instead of comparing; read the diff.

Prints a line per case, the reason below each that failed, and closes with the line `N passed, N failed, N skipped`.
Exit status: 0 all passed, 1 something failed, 2 a bad command line, 77 nothing could be tried.
"""
import argparse
import importlib
import os
import shutil
import sys
import tempfile
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
sys.dont_write_bytecode = True

from harness import LABELS, SKIP_STATUS, Case, Context, Failed, Skip  # noqa: E402


def parse_arguments():
    root = os.path.dirname(HERE)
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("filter", nargs="*")
    p.add_argument("--label", action="append", choices=LABELS + ("all",))
    p.add_argument("--update", action="store_true")
    p.add_argument("--list", action="store_true")
    p.add_argument("--smelt", default=os.path.join(root, "build", "release", "driver", "smelt"))
    p.add_argument("--models", default=os.path.join(root, "build", "models"))
    return p.parse_args()


def load_suites(ctx):
    """[(suite name, module or None, its cases)]. A suite whose imports are missing is one skipped case."""
    suites = []
    for file in sorted(os.listdir(os.path.join(HERE, "suites"))):
        name, extension = os.path.splitext(file)
        if extension != ".py" or name.startswith("_"):
            continue
        try:
            module = importlib.import_module("suites." + name)
        except ModuleNotFoundError as e:
            if e.name and e.name.split(".")[0] in ("numpy", "onnx", "onnxruntime", "sklearn", "ml_dtypes"):
                suites.append((name, None, [Case("import", missing(e.name))]))
                continue
            raise
        suites.append((name, module, module.cases(ctx)))
    return suites


def missing(package):
    def run():
        raise Skip(f"the Python package {package} is not installed; sh tests/run.sh makes a venv with it")
    return run


def run_case(case):
    """(outcome, text)"""
    try:
        return "ok", case.run() or ""
    except Skip as e:
        return "skip", str(e)
    except Failed as e:
        return "FAIL", str(e)
    except Exception:
        return "FAIL", traceback.format_exc().strip()


def report(outcome, full_name, seconds, text):
    indented = "".join("\n        " + line for line in text.splitlines()) if outcome == "FAIL" else ""
    note = f"  ({text})" if text and outcome != "FAIL" else ""
    print(f"{outcome:4}  {full_name}  {seconds:.1f} s{note}{indented}", flush=True)


def main():
    a = parse_arguments()
    labels = set(LABELS if a.label and "all" in a.label else a.label or ("nodev", "cpu"))
    ctx = Context(root=os.path.dirname(HERE), smelt_path=os.path.abspath(a.smelt),
                  models=os.path.abspath(a.models), update=a.update)
    ctx.scratch = tempfile.mkdtemp(prefix="smelt-tests-")
    count = {"ok": 0, "FAIL": 0, "skip": 0}
    matched = 0
    try:
        for suite, module, cases in load_suites(ctx):
            ran = False
            for case in cases:
                full_name = f"{suite}/{case.name}"
                if case.label not in labels or (a.filter and not any(f in full_name for f in a.filter)):
                    continue
                matched += 1
                if a.list:
                    print(f"{full_name}  [{case.label}]")
                    continue
                start = time.monotonic()
                outcome, text = run_case(case)
                count[outcome] += 1
                ran = True
                report(outcome, full_name, time.monotonic() - start, text)
            if ran and hasattr(module, "finish"):
                module.finish(ctx)
    finally:
        shutil.rmtree(ctx.scratch, ignore_errors=True)
    if not matched:
        print(f"no case matches {' '.join(a.filter) or 'these labels'}", file=sys.stderr)
        return 2
    if a.list:
        return 0
    print(f"{count['ok']} passed, {count['FAIL']} failed, {count['skip']} skipped")
    if count["FAIL"]:
        return 1
    return 0 if count["ok"] else SKIP_STATUS


if __name__ == "__main__":
    sys.exit(main())
