"""Passes as text: each tests/ir/PASS/NAME.ir holds a comment that says what it guards, `# run: OPTIONS`, a module in
IR text, `# expect`, and the whole text that the compiler must print. With --update the text is rewritten instead."""
import difflib
import os

from harness import Case, Failed, Skip, check


def split(text, path):
    """(head with the run line and the input, options, expected text)"""
    lines = text.splitlines(keepends=True)
    run = [line for line in lines if line.startswith("# run:")]
    marks = [i for i, line in enumerate(lines) if line.strip() == "# expect"]
    check(lines and lines[0].startswith("#") and not lines[0].startswith("# run:"),
          f"{path}: the first line must be a comment that says what the test guards")
    check(len(run) == 1 and len(marks) <= 1, f"{path}: needs one '# run:' line and at most one '# expect'")
    at = marks[0] if marks else len(lines)
    return "".join(lines[:at]), run[0].split(":", 1)[1].split(), "".join(lines[at + 1:])


def cases(ctx):
    top = ctx.path("tests", "ir")

    def one(path):
        def run():
            with open(path, encoding="utf-8") as f:
                head, options, want = split(f.read(), os.path.relpath(path, ctx.root))
            if not any(o.startswith("--emit=") for o in options):
                options = options + ["--emit=graph"]
            folder = ctx.new_dir()
            source, out = os.path.join(folder, "in.ir"), os.path.join(folder, "out.txt")
            with open(source, "w", encoding="utf-8") as f:
                f.write(head)
            ctx.smelt(source, *options, "-o", out)
            with open(out, encoding="utf-8") as f:
                got = f.read()
            if ctx.update:
                with open(path, "w", encoding="utf-8") as f:
                    f.write(head + "# expect\n" + got)
                return "unchanged" if got == want else "rewritten"
            if got != want:
                diff = difflib.unified_diff(want.splitlines(), got.splitlines(), "expected", "got", lineterm="")
                raise Failed("\n".join(diff))
            return None
        return run

    def none():
        raise Skip("no tests/ir/*/*.ir")

    found = []
    for where, folders, files in os.walk(top):
        folders.sort()
        for f in sorted(files):
            if f.endswith(".ir"):
                path = os.path.join(where, f)
                found.append(Case(os.path.relpath(path, top)[:-len(".ir")], one(path)))
    return found or [Case("all", none)]
