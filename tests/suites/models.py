"""Whole models: for every one in build/models, `smelt run` on its stored inputs must answer as onnxruntime did. The
bars are those of tests/compare.py. Writes build/models_table.md, which the documentation takes over."""
import os
import time

from compare import compare
from harness import Case, Failed, Skip
from model_files import smelt_run, stored

LARGE_BYTES = 60_000_000     # beyond this a model takes long enough to be labelled slow


def cases(ctx):
    rows = ctx.notes.setdefault("models", [])

    def one(name):
        def run():
            inputs, want = stored(ctx, name)
            start = time.monotonic()
            try:
                verdict = compare(name, smelt_run(ctx, ctx.model(name), inputs), want)
            except Failed:
                rows.append(f"| {name} | - | - | - | did not run |")
                raise
            seconds = time.monotonic() - start
            rows.append(f"| {name} | {verdict.measure} | {verdict.worst:.2g} | {verdict.bar:.2g} | "
                        f"{'**no**' if verdict.failure else 'yes'}, {seconds:.1f} s |")
            if verdict.failure:
                raise Failed(verdict.failure)
            return f"{verdict.measure} {verdict.worst:.2g}"
        return run

    def none():
        raise Skip(f"no models in {ctx.models}: shared/models/materialize.py makes them")

    names = ctx.model_names()
    if not names:
        return [Case("all", none, "cpu")]
    return [Case(n, one(n), "slow" if os.path.getsize(ctx.model(n)) > LARGE_BYTES else "cpu") for n in names]


def finish(ctx):
    rows = ctx.notes["models"]
    if not rows:
        return
    with open(os.path.join(ctx.build, "models_table.md"), "w") as f:
        f.write("| model | measure, against onnxruntime | worst | bar | agrees (compile, load and run) |\n"
                "|---|---|---|---|---|\n" + "\n".join(rows) + "\n")
    print("\n".join(rows))
