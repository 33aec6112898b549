"""What measures can be trusted in form: smelt bench's JSON and page, the machine's peaks, and tests/bench from the
engine's process to the page that it writes."""
import html.parser
import json
import os
import re
import shutil
import sys
import xml.dom.minidom

from harness import Case, Skip, check

PEAKS = ("f32_gflops", "f64_gflops", "i8_gops", "l1_gbs", "l2_gbs", "cache_gbs", "memory_gbs")
STEP = {"name": str, "op": str, "kernels": str, "us": float, "share": float, "busy": float, "gflops": float, "gbs": float,
        "of_peak": float, "flops": int, "bytes": int}


def digits(ctx):
    return ctx.path("samples", "digits", "digits.onnx")


def machine(ctx):
    """Every peak is there and positive, caches are not slower than memory, two threads are not slower than one half."""
    answer = json.loads(ctx.smelt("bench", "--machine", "--json", "--threads=2").stdout)
    check([p["threads"] for p in answer["peaks"]] == [1, 2] and answer["cache_bytes"] > 0, str(answer))
    for p in answer["peaks"]:
        check(set(p) == {"threads", *PEAKS}, str(p))
        check(all(p[k] > 0 for k in PEAKS if k != "i8_gops") and p["i8_gops"] >= 0, str(p))
        check(p["l1_gbs"] > p["memory_gbs"] and p["f32_gflops"] > 0.5, str(p))
    text = ctx.smelt("bench", "--machine").stdout
    check(re.search(r"f32 multiply-add +[\d.]+ GFLOP/s", text) and "read, memory" in text, text)


def check_profile(profile):
    check(profile["peak_gflops"] > 0 and profile["runs"] == 7 and len(profile["steps"]) >= 5, str(profile)[:500])
    for step in profile["steps"]:
        check(set(step) == set(STEP), f"keys {sorted(step)}")
        check(all(isinstance(step[k], (int, float) if t is float else t) for k, t in STEP.items()), str(step))
        check(step["kernels"] and step["us"] > 0 and step["bytes"] > 0 and step["of_peak"] >= 0, str(step))
    check(99 < sum(s["share"] for s in profile["steps"]) < 101, "the shares do not add up")
    conv = next(s for s in profile["steps"] if s["name"] == "conv2")
    check(conv["flops"] >= 2 * 16 * 32 * 3 * 3 * 8 * 8, f"conv2: {conv['flops']} operations")


def profile(ctx):
    done = ctx.smelt("bench", digits(ctx), "--runs=7", "--profile", "--json")
    check_profile(json.loads(done.stdout))
    both = json.loads(ctx.smelt("bench", digits(ctx), "--runs=7", "--profile", "--json", "--threads=2").stdout)
    check_profile(both)
    check(all(0 < step["busy"] < 130 for step in both["steps"]), str([step["busy"] for step in both["steps"]]))
    text = ctx.smelt("bench", digits(ctx), "--runs=7", "--profile").stdout
    check(re.search(r"% peak +step: kernels\n", text) and re.search(r"conv2 \(Conv\): k\d+_conv", text), text)


class Page(html.parser.HTMLParser):
    """What a browser would load from elsewhere, and the text of the script."""
    def __init__(self):
        super().__init__()
        self.loads, self.script, self.tag = [], "", ""

    def handle_starttag(self, tag, attrs):
        self.tag = tag
        self.loads += [v for k, v in attrs if k in ("src", "href")]

    def handle_data(self, data):
        self.script += data if self.tag == "script" else ""


def page(ctx):
    """The page loads nothing, and its data are the JSON of --profile, also where a name would end the script."""
    import onnx
    folder = ctx.new_dir()
    source = os.path.join(folder, "hostile.onnx")
    model = onnx.load(digits(ctx))
    next(n for n in model.graph.node if n.name == "pool").name = "</script><b>&\""
    onnx.save(model, source)
    out = os.path.join(folder, "profile.html")
    ctx.smelt("bench", source, "--runs=7", "--html", out)
    with open(out, encoding="utf-8") as f:
        text = f.read()
    p = Page()
    p.feed(text)
    check(not p.loads and text.count("</script>") == 1, f"loads {p.loads}")
    data = re.search(r"const data = (\{.*?\});?\n;\nconst columns", p.script, re.S)
    check(data, text[:3000])
    answer = json.loads(data.group(1))
    check_profile(answer)
    check(any(s["name"] == "</script><b>&\"" for s in answer["steps"]), "the hostile name is not there")


def engines(ctx):
    """bench.py with onnxruntime alone: answers compared, slices taken, idle threads quiet, and a page from it."""
    import numpy as np
    import onnxruntime
    folder = ctx.new_dir()
    path = os.path.join(folder, "digits.onnx")
    with open(digits(ctx), "rb") as f, open(path, "wb") as g:
        g.write(f.read())
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    x = session.get_inputs()[0]
    inputs = {x.name: np.linspace(0, 1, 64, dtype=np.float32).reshape([d if isinstance(d, int) else 1 for d in x.shape])}
    np.savez(path.replace(".onnx", ".inputs.npz"), **inputs)
    np.savez(path.replace(".onnx", ".outputs.npz"), **dict(zip([o.name for o in session.get_outputs()], session.run(None, inputs))))
    results, out = os.path.join(folder, "results.json"), os.path.join(folder, "page.md")
    ctx.run(sys.executable, ctx.path("tests", "bench", "bench.py"), "digits", "--models", folder, "--engines", "onnxruntime",
            "--seconds", "0", "--smelt", ctx.smelt_path, "--results", results, "-o", out)
    with open(results, encoding="utf-8") as f:
        records = json.load(f)["records"]
    check([r["threads"] for r in records] == [1, 2], str(records)[:300])
    for r in records:
        ours, theirs = r["engines"]["smelt"], r["engines"]["onnxruntime"]
        check(not ours["failure"] and not theirs["failure"] and ours["difference"] <= 1e-4, str(r))
        check(0 < ours["ms"] < 1000 and theirs["ms"] > 0 and ours["ratio"][1] == 1.0 and r["macs"] > 1e5, str(r))
        check(theirs["ratio"][0] <= theirs["ratio"][1] <= theirs["ratio"][2], str(r))
    with open(out, encoding="utf-8") as f:
        text = f.read()
    check(text.count("| digits |") == 2 and "## One thread" in text and "## 2 threads" in text, text)
    for n in (1, 2):
        picture = xml.dom.minidom.parse(os.path.join(folder, f"page-{n}.svg"))
        check(len(picture.getElementsByTagName("rect")) == 1, f"page-{n}.svg")
    ctx.run(sys.executable, ctx.path("tests", "bench", "footprint.py"), "digits", "--models", folder, "--runs", "2",
            "--smelt", ctx.smelt_path, "--results", results, "-o", out)
    with open(results, encoding="utf-8") as f:
        figures = json.load(f)["footprint"]["digits"]
    check(figures["code_kb"] < 40 and figures["first_ms"] < 1000 and figures["beyond_mb"] < 5, str(figures))
    with open(out, encoding="utf-8") as f:
        check("## Memory, start and size" in f.read(), "the page lacks the footprint")


def allocated_outputs(ctx):
    """A model whose output has no bound, which each run allocates anew, is timed like any other."""
    import numpy as np
    from onnx import TensorProto, helper, save
    folder = ctx.new_dir()
    path = os.path.join(folder, "expand.onnx")
    x, shape = (helper.make_tensor_value_info(n, t, d) for n, t, d in (("x", TensorProto.FLOAT, [3, 1]), ("shape", TensorProto.INT64, [2])))
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, None])
    graph = helper.make_graph([helper.make_node("Expand", ["x", "shape"], ["y"])], "g", [x, shape], [y])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    inputs = {"x": np.arange(3, dtype=np.float32).reshape(3, 1), "shape": np.array([3, 5], np.int64)}
    np.savez(path.replace(".onnx", ".inputs.npz"), **inputs)
    np.savez(path.replace(".onnx", ".outputs.npz"), y=np.broadcast_to(inputs["x"], (3, 5)))
    done = ctx.run(sys.executable, ctx.path("tests", "bench", "bench.py"), "--models-from", folder, "--threads", "1", "--quick",
                   "--engines", "onnxruntime", "--smelt", ctx.smelt_path)
    check(re.search(r"expand +1 threads, smelt [\d.]+ ms, onnxruntime [\d.]+ ms, ratio", done.stdout), done.stdout)


def folder_of_models(ctx):
    """--models-from: random inputs, onnxruntime's answers, nothing written into the folder."""
    try:
        import onnxruntime  # noqa: F401
    except ImportError:
        raise Skip("not installed: onnxruntime") from None
    folder = ctx.new_dir()
    shutil.copy(digits(ctx), folder)
    done = ctx.run(sys.executable, ctx.path("tests", "bench", "bench.py"), "--models-from", folder, "--threads", "1", "--quick",
                   "--engines", "onnxruntime", "--smelt", ctx.smelt_path)
    check(re.search(r"digits +1 threads, smelt [\d.]+ ms, onnxruntime [\d.]+ ms, ratio", done.stdout), done.stdout)
    check(re.search(r"ratio of the best.*\n +[\d.]+  digits, 1 threads", done.stdout), done.stdout)
    check(os.listdir(folder) == ["digits.onnx"], f"written: {os.listdir(folder)}")


def cases(ctx):
    return [Case("machine", lambda: machine(ctx), "cpu"), Case("profile", lambda: profile(ctx), "cpu"),
            Case("page", lambda: page(ctx), "cpu"), Case("engines", lambda: engines(ctx), "cpu"),
            Case("folder", lambda: folder_of_models(ctx), "cpu"),
            Case("allocated", lambda: allocated_outputs(ctx), "cpu")]
