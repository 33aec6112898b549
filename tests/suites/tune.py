"""--tune and --tune-cache: what is measured is written down, a cache gives the same bytes without measuring, results stay
right, and cache files from elsewhere are believed in nothing that would not fit."""
import itertools
import os
import re

from harness import Case, check

LINE = r"[0-9a-f]{16} \S+ (?:[a-z_0-9]+ -?\d+ )+; [\d.e+-]+ us f32 \[[\d, ]+\] over \[[\d, ]+\]"


def digits(ctx):
    return ctx.path("samples", "digits", "digits.onnx")


def compile_digits(ctx, *options, expect=0, winograd=False):
    """(bytes of the library, trace)"""
    out = os.path.join(ctx.new_dir(), "libnet.a")
    more = [] if winograd else ["--no-winograd"]
    done = ctx.smelt("compile", digits(ctx), "--name=net", "-o", out, "--trace=choose_schedules", *more, *options, expect=expect)
    if expect:
        check(not os.path.exists(out), "a library was written in spite of the error")
        return b"", done.stderr
    with open(out, "rb") as f:
        return f.read(), done.stderr


def tuned(ctx):
    """A cache of digits, its path; made once."""
    path = ctx.notes.get("tune")
    if not path:
        path = os.path.join(ctx.new_dir(), "net.tune")
        library, trace = compile_digits(ctx, "--tune=30", f"--tune-cache={path}")
        check("measured" in trace, trace)
        ctx.notes["tune"], ctx.notes["tuned library"] = path, library
    return path


def read(path):
    with open(path, encoding="ascii") as f:
        return f.read()


def file_with(ctx, data):
    path = os.path.join(ctx.new_dir(), "bad.tune")
    with open(path, "wb") as f:
        f.write(data if isinstance(data, bytes) else data.encode())
    return path


def reproducible(ctx):
    """A line for each contraction, sorted; with them nothing is measured, twice the same bytes, and the file is left alone."""
    path = tuned(ctx)
    text = read(path)
    lines = text.splitlines()
    check(lines[0] == "smelt tuning cache 1" and len(lines) >= 3 and lines[1:] == sorted(lines[1:]), text)
    check(all(re.fullmatch(LINE, line) for line in lines[1:]), text)
    for options in ([], ["--tune=30"], ["--tune=30", "-j1"], ["-j2"]):
        library, trace = compile_digits(ctx, f"--tune-cache={path}", *options)
        check("measured" not in trace, trace)
        check(library == ctx.notes["tuned library"], f"other bytes with {options}")
    check(read(path) == text, "the cache was changed")


def extended(ctx):
    """A kernel that is missing is measured and added; the other lines stay as they were."""
    lines = read(tuned(ctx)).splitlines()
    path = file_with(ctx, "\n".join([lines[0], "# kept by hand", "", *lines[2:]]) + "\n")
    _, trace = compile_digits(ctx, f"--tune-cache={path}", "--tune=30")
    check(len(re.findall("measured", trace)) == 1, trace)
    now = read(path).splitlines()
    check(set(lines[2:]) <= set(now) and len(now) == len(lines), "\n".join(now))


def other_choice(ctx):
    """The cache decides: a line with another tile of the candidates gives another kernel, and its result is right."""
    import numpy as np
    from model_files import smelt_run
    path = tuned(ctx)
    text = read(path)
    rows = [line for line in text.splitlines() if re.search(r" parts 1 ", line)]

    def accepted(row, n_vecs, unroll, flags):
        changed = re.sub(r"n_vecs \d+", f"n_vecs {n_vecs}", row)
        changed = re.sub(r"rows \d+ rows_2 \d+ unroll \d+", f"rows 1 rows_2 1 unroll {unroll}", changed)
        changed = re.sub(r"rows_outer \d prefetch \d", flags, changed)
        if changed == row:
            return None
        other = file_with(ctx, text.replace(row, changed))
        done = ctx.smelt("compile", digits(ctx), "--no-winograd", f"--tune-cache={other}", "-o",
                         os.path.join(ctx.new_dir(), "l.a"), expect=None)
        return other if done.returncode == 0 else None

    choices = itertools.product(rows, (2, 1), (1, 2, 3, 4),
                                ("rows_outer 0 prefetch 0", "rows_outer 0 prefetch 1", "rows_outer 1 prefetch 0"))
    found = next(filter(None, (accepted(*c) for c in choices)), None)
    check(found, f"no schedule with one row was accepted for {rows}")
    name, dims = re.search(r"input (\S+): f32\[([\d, ]+)\]", ctx.smelt("info", digits(ctx)).stdout).groups()
    shape = [int(n) for n in dims.split(",")]
    x = {name: np.linspace(0, 1, int(np.prod(shape)), dtype=np.float32).reshape(shape)}
    want = smelt_run(ctx, digits(ctx), x)
    for options in ([f"--tune-cache={found}"], [f"--tune-cache={path}"], [f"--tune-cache={found}", "--backend=interpret"]):
        got = smelt_run(ctx, digits(ctx), x, "--no-winograd", *options)
        for key, reference in want.items():
            check(np.allclose(got[key], reference, rtol=1e-5, atol=1e-6), f"{options}: {key} differs")


def filters(ctx):
    """Fast filtering is a choice of its own: the cache decides between it and the tiles, and --no-winograd does not ask it."""
    import numpy as np
    from model_files import smelt_run
    path = os.path.join(ctx.new_dir(), "filters.tune")
    libraries = [compile_digits(ctx, *options, winograd=True)[0]
                 for options in (["--tune=30", f"--tune-cache={path}"], [f"--tune-cache={path}"], [f"--tune-cache={path}", "-j1"])]
    check(libraries[0] == libraries[1] == libraries[2], "the cache gives other bytes")
    text = read(path)
    row = next((line for line in text.splitlines() if " winograd " in line), None)
    check(row, text)
    x = {"image": np.linspace(0, 1, 64, dtype=np.float32).reshape(1, 1, 8, 8)}
    want = smelt_run(ctx, digits(ctx), x, "--no-winograd")
    filtered = "winograd 2 rows 1 n_vecs 1 strip 1 whole 0"
    for choice, names in (("winograd 0", False), (filtered, True)):
        other = file_with(ctx, text.replace(row, re.sub("winograd [^;]*", choice + " ", row)))
        library, trace = compile_digits(ctx, f"--tune-cache={other}", winograd=True)
        check(("w2_t1x1" in trace) == names, trace)
        check(library == compile_digits(ctx, f"--tune-cache={other}", "--tune=30", winograd=True)[0] or not names, "other bytes")
        for options in ([], ["--backend=interpret"]):
            got = smelt_run(ctx, digits(ctx), x, f"--tune-cache={other}", *options)
            for key, reference in want.items():
                check(np.allclose(got[key], reference, rtol=1e-4, atol=1e-5), f"{choice} {options}: {key} differs")
        _, trace = compile_digits(ctx, f"--tune-cache={other}")
        check(not re.search(r"w[24]_t", trace), "--no-winograd filters all the same:\n" + trace)
    for bad in ("winograd 3 rows 1 n_vecs 1 strip 1 whole 0", "winograd 2 rows 1 n_vecs 1 strip 0 whole 0", "winograd 1",
                "winograd 2 rows 99 n_vecs 1 strip 1 whole 0", "winograd 2 rows 1 n_vecs 1 strip 1 whole 7"):
        path = file_with(ctx, text.replace(row, re.sub("winograd [^;]*", bad + " ", row)))
        _, trace = compile_digits(ctx, f"--tune-cache={path}", expect=1, winograd=True)
        check("does not fit" in trace, f"{bad}: {trace}")


def versions(ctx):
    """Versions for listed sizes are measured as models of these sizes are, and the cache gives the same bytes."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper
    model, path, out = (os.path.join(ctx.new_dir(), name) for name in ("net.onnx", "net.tune", "libnet.a"))
    w = numpy_helper.from_array(np.random.default_rng(1).standard_normal((40, 80)).astype(np.float32), "w")
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", d]) for n, d in (("x", 40), ("y", 80)))
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"], "product")], "net", [x], [y], [w])
    onnx.save(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]), model)
    libraries, traces = [], []
    for more in (["--tune=20"], [], ["-j1"]):
        options = [model, "--dim=batch=6,14", f"--tune-cache={path}", "-o", out, "--trace=choose_schedules", *more]
        traces.append(ctx.smelt("compile", *options).stderr)
        with open(out, "rb") as f:
            libraries.append(f.read())
    check(traces[0].count(": measured ") == 2 and "measured" not in "".join(traces[1:]), "\n".join(traces))
    check(libraries[0] == libraries[1] == libraries[2], "other bytes")


def places_in_constants(ctx):
    """A kernel that reads a table where constants say, which it trusts, is measured with places that exist."""
    pos = ", ".join(str(n * 61) for n in range(64))
    path = os.path.join(ctx.new_dir(), "net.ir")
    with open(path, "w", encoding="ascii") as f:
        f.write(f"""graph "t" {{
  main {{
    input %x: f32[64, 64]
    const %w: f32[64, 48] = random 1
    const %t: f32[4096, 48] = random 2
    const %pos: i64[64] = {{{pos}}}
    %m = MatMul(%x, %w) "sum"
    %e = Gather(%t, %pos)
    %y = Add(%m, %e)
    return %y
  }}
}}
""")
    done = ctx.smelt("compile", path, "-o", path + ".a", "--tune=20", "--trace=choose_schedules", "--no-pass=fold_constants,fold_stages")
    check("measured" in done.stderr, done.stderr)


def hostile(ctx):
    """Every broken cache is told with its line, and no library is written."""
    good = read(tuned(ctx))
    first, row = good.splitlines()[:2]
    key = row[:16]
    files = {
        "an empty file": (b"", "line 1"),
        "another version": (good.replace("cache 1", "cache 9"), "line 1"),
        "a binary": (bytes(range(256)) * 40, "line 1"),
        "a zero byte": (good.encode() + b"\0", "zero byte"),
        "a long line": (f"{first}\n{key} cpu {'a 1 ' * 400}; x\n", "line 2"),
        "a short key": (f"{first}\n12ab cpu lanes 4 ; x\n", "line 2"),
        "a key of capitals": (f"{first}\n{'A' * 16} cpu lanes 4 ; x\n", "line 2"),
        "no remark": (f"{first}\n{row.split(';')[0]}\n", "line 2"),
        "a key alone": (f"{first}\n{key}\n", "line 2"),
        "no schedule": (f"{first}\n{key} cpu ; x\n", "line 2"),
        "a name without number": (f"{first}\n{key} cpu lanes ; x\n", "line 2"),
        "a huge number": (f"{first}\n{key} cpu lanes 99999999999999999999 ; x\n", "line 2"),
        "a format": (f"{first}\n{key} cpu %s%n %n ; x\n", "line 2"),
        "an escape": (f"{first}\n{key} cpu lanes 4 ; \x1b[2J\n", "line 2"),
        "the same key twice": (good + row + "\n", "earlier line"),
        "too many words": (f"{first}\n{key} cpu {'a 1 ' * 40}; x\n", "line 2"),
    }
    for field, value in (("lanes", 0), ("lanes", 1000), ("n_vecs", -1), ("n_vecs", 4096), ("vec_axis", 99), ("row_axis", -7),
                         ("rows_2", 0), ("rows_2", 100000000), ("unroll", 0), ("parts", 0), ("parts", 7777), ("row_tiles", -3)):
        files[f"{field} {value}"] = (good.replace(row, re.sub(rf"\b{field} -?\d+", f"{field} {value}", row)), "does not fit")
    files["fields in another order"] = (good.replace(row, re.sub(r"(vec_axis \d+) (lanes \d+)", r"\2 \1", row)), "does not fit")
    for name, (data, message) in files.items():
        path = file_with(ctx, data)
        for options in ([], ["--tune=1"]):
            _, text = compile_digits(ctx, f"--tune-cache={path}", *options, expect=1)
            check(message in text and "bad.tune" in text or "does not fit" in text, f"{name}: expected '{message}':\n{text}")
    missing = os.path.join(ctx.new_dir(), "none.tune")
    _, text = compile_digits(ctx, f"--tune-cache={missing}", expect=1)
    check("No such file" in text, text)
    return f"{len(files) + 1} files"


def elsewhere(ctx):
    """Measuring is for this machine; a cache may be given for any, and lines of other machines mean nothing to it."""
    _, text = compile_digits(ctx, "--tune=1", "--target=aarch64-linux-gnu", expect=1)
    check("measures on this machine" in text, text)
    with_cache, _ = compile_digits(ctx, f"--tune-cache={tuned(ctx)}", "--target=aarch64-linux-gnu")
    without, _ = compile_digits(ctx, "--target=aarch64-linux-gnu")
    check(with_cache == without, "a cache of another machine changed the library")


def no_time(ctx):
    """Without time nothing is measured nor written, and the model is as without --tune."""
    path = os.path.join(ctx.new_dir(), "none.tune")
    library, trace = compile_digits(ctx, "--tune=0", f"--tune-cache={path}")
    plain, _ = compile_digits(ctx)
    check("measured" not in trace and not os.path.exists(path) and library == plain, trace)


def cases(ctx):
    return [Case(f.__name__, lambda f=f: f(ctx), "cpu")
            for f in (reproducible, extended, other_choice, filters, versions, places_in_constants, hostile, elsewhere, no_time)]
