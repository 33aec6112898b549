"""The debug flags of the command line: what they print, and that they find what they are for."""
import os
import subprocess

from harness import Case, check


def digits(ctx):
    return ctx.path("samples", "digits", "digits.onnx")


def check_passes(ctx):
    """Every optional pass keeps the results; LLVM and C give the interpreter's bits."""
    out = ctx.smelt("run", digits(ctx), "--check-passes", cwd=ctx.new_dir()).stdout
    lines = [line.split(None, 1) for line in out.splitlines()]
    passes = ctx.smelt("--list=passes").stdout
    named = [name for name, _ in lines[1:-2]]
    check(lines[0] == ["none", "reference"] and len(named) >= 5 and all(n in passes for n in named), out)
    check([line for line in lines[-2:]] == [["llvm", "same bits"], ["c", "same bits"]], out)


def max_rewrites(ctx):
    """N rewrites are traced, and the result does not depend on N beyond rounding."""
    def traced(n):
        done = ctx.smelt("run", digits(ctx), f"--max-rewrites={n}", "--trace=simplify,fuse_stages,assign_layouts")
        return [line for line in done.stderr.splitlines() if "relu" in line or "conv" in line or "gemm" in line]
    check(len(traced(0)) == 0 and len(traced(2)) == 2, f"{traced(0)}\n{traced(2)}")


def bug_report(ctx):
    """A failing pass leaves the IR before it in a file and says how to get there again."""
    folder = ctx.new_dir()
    done = ctx.smelt("run", digits(ctx), cwd=folder, env={"SMELT_BUG": "share_memory"}, expect=70)
    path = os.path.join(folder, "smelt-bug-share_memory.ir")
    check("in pass share_memory" in done.stderr and "--stop-after=share_memory" in done.stderr, done.stderr)
    with open(path, encoding="utf-8") as f:
        text = f.read()
    check(text.startswith("# after assign_layouts") and "contract" in text, text[:200])


def standard_output(ctx):
    """-o - adds to a file that standard output goes to, like any other program."""
    path = os.path.join(ctx.new_dir(), "out")
    with open(path, "w", encoding="utf-8") as f:
        f.write("first\n")
        f.flush()
        subprocess.run([ctx.smelt_path, "--emit=graph", "-o", "-", digits(ctx)], stdout=f, check=True, timeout=60)
        f.write("last\n")
    with open(path, encoding="utf-8") as f:
        text = f.read()
    check(text.startswith("first\ngraph ") and "}\nlast\n" in text, text[:200])


def cases(ctx):
    return [Case("standard_output", lambda: standard_output(ctx)),
            Case("check_passes", lambda: check_passes(ctx), "cpu"), Case("max_rewrites", lambda: max_rewrites(ctx), "cpu"),
            Case("bug_report", lambda: bug_report(ctx))]
