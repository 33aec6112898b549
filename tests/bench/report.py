"""Writes docs/performance.md and its pictures from what bench.py and footprint.py have measured.

A record of bench.py is {"model", "threads", "cpu" (that --cpu named, or ""), "date", "commit", "macs", "weight_bytes",
"int8", "engines": {name: {"version", "setup", "ms", "ratio": [lower quartile, median, upper], "difference", "failure", "idle_share"}}}: macs are
multiply-adds of the direct algorithms; a ratio is the engine's time over ours."""
import math
import os
import platform

ENGINE_NAMES = {"smelt": "smelt", "onnxruntime": "onnxruntime", "openvino_f32": "OpenVINO f32",
                "openvino_default": "OpenVINO default", "smelt_openblas": "smelt with OpenBLAS",
                "tl2cgen": "treelite, tl2cgen"}
TREE_PREFIX = "tree_"       # models of tree_models.py
PEER_NAMES = {k: v for k, v in ENGINE_NAMES.items() if k != "smelt"}   # columns; a ratio is taken to other engines


def record_key(record):
    """What a record is kept by, in the order of the page."""
    return record.get("cpu", ""), record["threads"], record["model"]


def number(x):
    """Three digits, and no more than are there."""
    return f"{x:.0f}" if x >= 100 else f"{x:.1f}" if x >= 10 else f"{x:.2f}" if x >= 1 else f"{x:.3g}"


def best_peer(record):
    """(name, ratio) of the fastest peer whose answers are within the bar, or None."""
    good = [(e["ratio"][1], name) for name, e in record["engines"].items()
            if not name.startswith("smelt") and "ratio" in e and not e["failure"]]
    if not good or record["engines"]["smelt"].get("failure"):
        return None
    name = min(good)[1]
    return name, record["engines"][name]["ratio"]


def line(record):
    """One line for the terminal."""
    parts = [f"{record['model']:24} {record['threads']} threads" + (f" {record['cpu']}" if record["cpu"] else "")]
    for name, e in record["engines"].items():
        text = f"{number(e['ms'])} ms" if "ms" in e else "-"
        if e.get("failure"):
            text += f" ({e['failure']})"
        if e.get("python"):
            text += f" (from Python: {e['python']})"
        parts.append(f"{ENGINE_NAMES[name]} {text}")
    best = best_peer(record)
    if best:
        low, middle, high = best[1]
        parts.append(f"ratio {middle:.2f} ({low:.2f} to {high:.2f})")
    return ", ".join(parts)


def limits(record, machine):
    """Milliseconds that arithmetic and reading the weights take at least on this machine, either may be None."""
    peaks = next((p for p in machine.get("peaks", []) if p["threads"] == record["threads"]), None)
    if not peaks:
        return None, None
    peak = peaks["i8_gops"] if record["int8"] and peaks.get("i8_gops") else peaks["f32_gflops"]
    memory = peaks["cache_gbs"] if record["weight_bytes"] < machine["cache_bytes"] else peaks["memory_gbs"]
    return 2e-6 * record["macs"] / peak, 1e-6 * record["weight_bytes"] / memory


def limit_cells(record, machine):
    arithmetic, weights = limits(record, machine)
    ours = record["engines"]["smelt"].get("ms")
    if arithmetic is None or not ours:
        return ["-", "-", "-"]
    share = 100 * max(arithmetic, weights) / ours
    return [number(arithmetic) if record["macs"] else "-", number(weights), f"{share:.0f} %"]


def engine_cell(entry, notes):
    if entry is None:
        return "-"
    if "ms" not in entry:
        return "-" + notes(entry.get("failure") or "was not timed")
    text = number(entry["ms"])
    if entry["failure"]:
        text += notes("beyond the bar: " + entry["failure"])
    if entry.get("from_c"):
        text += notes("called from C, as all engines of this row are that have no note")
    if "python" in entry:
        text += notes(f"called from Python while smelt is called from C: {entry['python']}")
    if "ONEDNN_MAX_CPU_ISA=AVX512" in entry["setup"]:
        text += notes("without the limit in ONEDNN_MAX_CPU_ISA it ends with an illegal instruction on this machine")
    return text


def table(records, machine, notes):
    peers = [e for e in PEER_NAMES if any(e in r["engines"] for r in records)]
    rows = ["| model | smelt | " + " | ".join(PEER_NAMES[e] for e in peers)
            + " | best peer / smelt | arithmetic at least | weights at least | of the limit |",
            "|---|" + "---|" * (len(peers) + 5)]
    for r in records:
        best = best_peer(r)
        ratio = "-" if not best else f"**{best[1][1]:.2f}** ({best[1][0]:.2f} to {best[1][2]:.2f})"
        cells = [r["model"], engine_cell(r["engines"]["smelt"], notes)]
        cells += [engine_cell(r["engines"].get(e), notes) for e in peers]
        rows.append("| " + " | ".join(cells + [ratio] + limit_cells(r, machine)) + " |")
    return "\n".join(rows)


class Notes:
    """Footnotes: the same text has the same number."""

    def __init__(self):
        self.texts = []

    def __call__(self, text):
        if text not in self.texts:
            self.texts.append(text)
        return f" [{self.texts.index(text) + 1}]"

    def list(self):
        return "\n".join(f"{i + 1}. {t}" for i, t in enumerate(self.texts))


# ---- the picture

def svg(records, n_threads):
    """Bars of the peers' time over ours, on a scale of powers of two; a line marks 1, whiskers the quartiles."""
    records = [r for r in records if best_peer(r)]
    left, row, width, top, top_scale, low_scale = 190, 22, 560, 46, 6.0, -1.0
    height = top + row * len(records) + 30

    def x(ratio):
        from math import log2
        return left + width * (min(max(log2(ratio), low_scale), top_scale) - low_scale) / (top_scale - low_scale)

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + width + 60} {height}" '
           'font-family="sans-serif" font-size="12">',
           '<style>text { fill: #222 } .bar { fill: #3a7ca5 } .slow { fill: #c8553d } .grid { stroke: #ddd } '
           '.one { stroke: #222 } .whisker { stroke: #222; stroke-width: 1.5 } '
           '@media (prefers-color-scheme: dark) { text { fill: #ddd } .grid { stroke: #444 } .one, .whisker '
           '{ stroke: #ddd } }</style>',
           f'<text x="{left}" y="16">time of the faster of onnxruntime and OpenVINO over smelt\'s, '
           f'{n_threads} thread{"s" * (n_threads > 1)}; right of 1 smelt is faster</text>']
    for power in range(int(low_scale), int(top_scale) + 1):
        at = x(2.0 ** power)
        out.append(f'<line class="{"one" if power == 0 else "grid"}" x1="{at:.1f}" x2="{at:.1f}" y1="{top - 8}" '
                   f'y2="{height - 22}"/><text x="{at:.1f}" y="{height - 8}" text-anchor="middle">'
                   f'{2.0 ** power:g}</text>')
    for i, r in enumerate(records):
        y = top + i * row
        low, middle, high = best_peer(r)[1]
        a, b = sorted((x(1.0), x(middle)))
        out.append(f'<text x="{left - 8}" y="{y + 11}" text-anchor="end">{r["model"]}</text>'
                   f'<rect class="{"bar" if middle >= 1 else "slow"}" x="{a:.1f}" y="{y}" width="{b - a:.1f}" '
                   f'height="14"/><line class="whisker" x1="{x(low):.1f}" x2="{x(high):.1f}" y1="{y + 7}" y2="{y + 7}"/>'
                   f'<text x="{max(b, x(high)) + 5:.1f}" y="{y + 11}">{middle:.2f}</text>')
    return "\n".join(out + ["</svg>"]) + "\n"


# ---- the page

def cpu_name():
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as f:
            return next((s.split(":", 1)[1].strip() for s in f if s.startswith("model name")), platform.machine())
    except OSError:
        return platform.machine()


def machine_text(machines):
    rows = ["| code for | threads | f32 FMA, GFLOP/s | int8 dot, GOP/s | L1, GB/s | L2, GB/s | last cache, GB/s "
            "| memory, GB/s |", "|---|---|---|---|---|---|---|---|"]
    for cpu, machine in sorted(machines.items()):
        for p in machine["peaks"]:
            rows.append("| " + " | ".join([cpu or "this machine", str(p["threads"])]
                                          + [number(p[k]) if p.get(k) else "-" for k in (
                "f32_gflops", "i8_gops", "l1_gbs", "l2_gbs", "cache_gbs", "memory_gbs")]) + " |")
    return "\n".join(rows)


def setups(records):
    """A line for each engine: its version and what it says about itself, as often as it differs."""
    seen = {}
    for r in records:
        for name, e in r["engines"].items():
            if "version" in e:
                seen.setdefault((name, e["version"]), set()).add(e["setup"])
    return "\n".join(f"* {ENGINE_NAMES[n]}: {v} ({'; '.join(sorted(s))})" for (n, v), s in sorted(seen.items()))


def footprint_text(rows):
    if not rows:
        return ""
    out = ["", "## Memory, start and size", "",
           "Of a program that is linked with the model, whose weights are mapped from a file: most resident memory of a "
           "process that runs once, beside weights and arena; milliseconds from the process's start to the first answer "
           "(weights in the page cache); code and tables without weights, of the library; processor seconds of "
           "`smelt compile`. Written by `tests/bench/footprint.py`.", "",
           "| model | weights, MB | arena, MB | most resident, MB | beyond both, MB | first answer, ms | code, kB "
           "| compile, s |", "|---|---|---|---|---|---|---|---|"]
    for name, r in sorted(rows.items()):
        beyond = r["beyond_mb"]
        out.append(f"| {name} | {number(r['weights_mb'])} | {number(r['arena_mb'])} | {number(r['resident_mb'])} | "
                   f"{beyond:.1f} | {number(r['first_ms'])} | {number(r['code_kb'])} | {number(r['compile_s'])} |")
    return "\n".join(out) + "\n"


def write(path, text):
    with open(path + ".tmp", "w", encoding="utf-8") as f:
        f.write(text)
    os.replace(path + ".tmp", path)


def mean_text(records):
    """The geometric mean of the ratios: models that are all call and no arithmetic left out."""
    ratios = [best_peer(r)[1][1] for r in records if best_peer(r) and not r["model"].startswith(("mlp_", "gbm", "logreg"))]
    if not ratios:
        return ""
    mean = math.exp(sum(math.log(x) for x in ratios) / len(ratios))
    return (f"\n\nGeometric mean of the ratios (without the perceptron of 300 multiply-adds, trees and the regression): "
            f"**{mean:.2f}**; the least is {min(ratios):.2f}.")


def section(records, cpu, n_threads, machine, path, notes):
    """Heading, picture and table of the records of one number of threads."""
    picture = f"{os.path.splitext(path)[0]}-{cpu + '-' if cpu else ''}{n_threads}.svg"
    write(picture, svg(records, n_threads))
    words = "One thread" if n_threads == 1 else f"{n_threads} threads"
    held = f", code for {cpu}" if cpu else ""
    about = ("OpenVINO is held to the same instructions as far as it asks oneDNN; a time of its below what arithmetic needs at "
              "least, where nobody uses Winograd's algorithm (the transformers), shows that its matrix products are not. "
              "onnxruntime takes what it finds and cannot be held.\n\n" if cpu else "")
    return (f"## {words}{held}\n\n{about}![{words.lower()}{held}]({os.path.basename(picture)})\n\n"
            + table(records, machine, notes) + mean_text(records))


def tree_sections(records, notes):
    """Tree ensembles beside the tools that compile them: a table for each number of threads."""
    if not records:
        return []
    parts = ["## Tree ensembles\n\nMade by `tests/bench/tree_models.py` with scikit-learn, one node of ai.onnx.ml each: boosted level "
             "by level (gbm, gbc) and leaf by leaf (leafwise), random forests grown to the last sample (forest, forest_reg), "
             "500 features (wide), 20 small trees (tiny). treelite's model is built of the same attributes; tl2cgen's C is "
             "compiled by gcc -O3. With 1 row all are called from C and each call gets another row: the same one again and again "
             "would teach the processor its way through nested conditions (with one row repeated tl2cgen is up to 1.6 times "
             "faster than smelt on the deep forests). Ratios are taken to the faster peer."]
    for n_threads in sorted({r["threads"] for r in records}):
        chosen = [r for r in records if r["threads"] == n_threads]
        peers = [e for e in PEER_NAMES if any(e in r["engines"] for r in chosen)]
        rows = [f"| {n_threads} thread{'s' * (n_threads > 1)} | smelt | " + " | ".join(PEER_NAMES[e] for e in peers)
                + " | best peer / smelt |", "|---|---|" + "---|" * (len(peers) + 1)]
        for r in chosen:
            best = best_peer(r)
            ratio = "-" if not best else f"**{best[1][1]:.2f}** ({best[1][0]:.2f} to {best[1][2]:.2f})"
            cells = [engine_cell(r["engines"].get(e), notes) for e in ["smelt", *peers]]
            rows.append("| " + " | ".join([r["model"][len(TREE_PREFIX):], *cells, ratio]) + " |")
        parts.append("\n".join(rows))
    return ["\n\n".join(parts)]


def write_page(results, path):
    records, machines, notes = results["records"], results.get("machines", {}), Notes()
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    sections = []
    trees = [r for r in records if r["model"].startswith(TREE_PREFIX)]
    nets = [r for r in records if r not in trees]
    for cpu, n_threads in sorted({record_key(r)[:2] for r in nets}):
        chosen = [r for r in nets if record_key(r)[:2] == (cpu, n_threads)]
        sections.append(section(chosen, cpu, n_threads, machines.get(cpu, {}), path, notes))
    sections += tree_sections(trees, notes)
    dates = sorted({r["date"] for r in records})
    commits = sorted({r["commit"] for r in records})
    disturbance = max((e.get("idle_share", 0) for r in records for e in r["engines"].values()), default=0)
    text = f"""# Performance

Every engine runs in a process of its own, pinned to the same processors, in turns of slices of less than half a second;
the others wait on a pipe meanwhile. Times are milliseconds, medians over the slices; the ratio is the time of the
fastest peer that answers within the bar of `tests/compare.py` over ours, in slices of one round (median, quartiles):
above 1 smelt is faster. All engines get the same inputs, and their outputs are compared before they are timed. Written
by `tests/bench/bench.py`.

The limit is what no engine that computes directly can beat on this machine: multiply-adds of the direct algorithms at
the measured peak, and each weight read once at the measured bandwidth (of the last cache if the weights fit there).
"Of the limit" is the larger of them over our time; Winograd's algorithm may exceed 100 %. Calls from Python cost each
engine some tenths of a microsecond to a microsecond: models of less than 20 us are called from C instead, all engines alike,
through smelt's generic call, onnxruntime's RunWithBinding and OpenVINO's ov_infer_request_infer.

Machine: {cpu_name()}, {os.cpu_count()} processors, Linux {platform.release()}. Measured {" to ".join(dates[::len(dates) - 1 or 1])}, smelt at
{", ".join(commits)}; Python {platform.python_version()}. Engines that waited used at most {100 * disturbance:.1f} % of a processor.

{setups(records)}

Peaks, measured by `smelt bench --machine`:

{machine_text(machines)}

""" + "\n\n".join(sections) + "\n" + ("\n" + notes.list() + "\n" if notes.texts else "") + footprint_text(results.get("footprint"))
    write(path, text)
    print(f"wrote {path}")
