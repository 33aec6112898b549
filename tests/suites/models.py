"""Whole models: for every one in build/models, `smelt run` on its stored inputs must answer as onnxruntime did. The
bars are those of tests/compare.py. Writes build/models_table.md, which the documentation takes over."""
import os
import time

from compare import compare, compare_detections, compare_tensors
from harness import Case, Failed, Skip
from model_files import smelt_run, stored

LARGE_BYTES = 60_000_000     # beyond this a model takes long enough to be labelled slow


# The tensors between a detector's network and its suppression.
HALVES = {"ssdlite320_mobilenet_v3": ("/m/Softmax_output_0", "/m/head/regression_head/Concat_12_output_0")}


def halves(ctx, name):
    """Both halves of a detector against onnxruntime's: what the network computes, and what is made of the same tensors."""
    import onnx
    import onnxruntime
    from onnx.utils import Extractor
    between, folder = list(HALVES[name]), ctx.new_dir()
    inputs, want = stored(ctx, name)
    whole = Extractor(onnx.shape_inference.infer_shapes(onnx.load(ctx.model(name))))
    head, tail = os.path.join(folder, "head.onnx"), os.path.join(folder, "tail.onnx")
    onnx.save(whole.extract_model(list(inputs), between), head)
    onnx.save(whole.extract_model(list(inputs) + between, list(want)), tail)

    def reference(path, feeds, names):
        onnxruntime.set_default_logger_severity(4)
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        return dict(zip(names, session.run(None, feeds)))

    tensors = reference(head, inputs, between)
    verdict = compare_tensors(name, smelt_run(ctx, head, inputs), tensors)
    if not verdict.failure:
        fed = {**inputs, **tensors}
        verdict = compare_detections(name, smelt_run(ctx, tail, fed), reference(tail, fed, list(want)), share=1.0)
    if verdict.failure:
        raise Failed(verdict.failure)
    return f"{verdict.measure} {verdict.worst:.2g}"


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
    made = [Case(n, one(n), "slow" if os.path.getsize(ctx.model(n)) > LARGE_BYTES else "cpu") for n in names]
    return made + [Case(f"{n}_halves", lambda n=n: halves(ctx, n), "cpu") for n in names if n in HALVES]


def finish(ctx):
    rows = ctx.notes["models"]
    if not rows:
        return
    with open(os.path.join(ctx.build, "models_table.md"), "w") as f:
        f.write("| model | measure, against onnxruntime | worst | bar | agrees (compile, load and run) |\n"
                "|---|---|---|---|---|\n" + "\n".join(rows) + "\n")
    print("\n".join(rows))
