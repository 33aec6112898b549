"""The documents tell the truth: paths and links they name exist, the manual page has the options of `smelt --help` and
no others, and the table of passes is the code's."""
import glob
import os
import re

from harness import Case, check

FOLDERS = "frontend|ir|passes|codegen|runtime|driver|tests|samples|docs|cmake"
# A path in running text or code: a known folder, then anything a file name here has. What stands before must not be
# part of a longer path (build/release/driver/smelt).
PATH = re.compile(rf"(?<![\w./-])(?:\.\./)?((?:{FOLDERS})/[\w./*-]*)")
LINK = re.compile(r"\]\(([^)#\s]+)")
# Words that stand for a name in a path: tests/ops/NAME.case
PLACEHOLDER = re.compile(r"(?:^|[/.])(?:NAME|OP|PASS|DIR|FAMILY|MODEL)(?:$|[/.])")
OPTION = re.compile(r"(?<![\w-])(--[a-z][a-z-]*|-[A-Za-z](?![a-z]{2}))")
COMMANDS = ("compile", "run", "bench", "info", "check")


def read(ctx, path):
    with open(ctx.path(path), encoding="utf-8") as f:
        return f.read()


def documents(ctx):
    patterns = ("*.md", "docs/*.md", "ir/*.md", "samples/*.md", "samples/*/*.md")
    found = [os.path.relpath(p, ctx.root) for pattern in patterns for p in sorted(glob.glob(ctx.path(pattern)))]
    check("README.md" in found and "docs/design.md" in found, f"README.md or docs/design.md is missing: {found}")
    return found


def missing_paths(ctx, document):
    text = read(ctx, document)
    folder = os.path.dirname(document)
    named = [m.group(1).rstrip(".-") for m in PATH.finditer(text)]
    named += [os.path.normpath(os.path.join(folder, t)) for t in LINK.findall(text) if ":" not in t]
    return sorted({p for p in named if not PLACEHOLDER.search(p) and not glob.glob(ctx.path(p))})


def options_in(text):
    return set(OPTION.findall(text))


def help_options(ctx):
    text = ctx.smelt("--help").stdout + "".join(ctx.smelt(c, "--help").stdout for c in COMMANDS)
    # an option starts its line; what its help text mentions does not count
    found = {m.group(1) for m in re.finditer(r"^ +(--[a-z][a-z-]*|-[A-Za-z])(?=[\s=\d]|$)", text, re.M)}
    check(len(found) > 20, f"only {len(found)} options found in the help: its form has changed")
    return found


def manual_text(ctx):
    """The manual page without roff: requests, fonts and escaped hyphens."""
    text = read(ctx, "docs/smelt.1")
    text = re.sub(r'^\.\\".*$', "", text, flags=re.M)
    text = re.sub(r"\\f(?:\[\w*\]|\(..|.)", "", text)
    text = text.replace("\\-", "-").replace("\\&", "")
    return re.sub(r"^\.[A-Z]+ ?", "", text, flags=re.M).replace('"', "")


def table_rows(text):
    """The Markdown tables of a text: lists of rows, the heading first, cells without backquotes."""
    tables, rows = [], []
    for line in text.splitlines() + [""]:
        if line.startswith("|"):
            cells = [c.strip().strip("`").replace("\\|", "|") for c in re.split(r"(?<!\\)\|", line.strip())[1:-1]]
            if not all(re.fullmatch(r":?-+:?", c) for c in cells):
                rows.append(cells)
        elif rows:
            tables.append(rows)
            rows = []
    return tables


def table(text, document, first, second):
    for rows in table_rows(text):
        if rows[0][:2] == [first, second]:
            return rows[0], rows[1:]
    check(False, f"{document}: no table whose columns begin with '{first}' and '{second}'")


def cases(ctx):
    def paths():
        wrong = []
        names = documents(ctx)
        for document in names:
            wrong += [f"{document}: there is no {p}" for p in missing_paths(ctx, document)]
        check(not wrong, "\n".join(wrong))
        return f"{len(names)} documents"

    def options():
        known, described = help_options(ctx), options_in(manual_text(ctx))
        check(known <= described, f"docs/smelt.1 lacks {' '.join(sorted(known - described))}")
        check(described <= known, f"docs/smelt.1 has, and --help has not: {' '.join(sorted(described - known))}")
        return f"{len(known)} options"

    def choices():
        """The words of an option that takes one of several: --emit=lib|shared|..."""
        text, manual, n = "".join(ctx.smelt(c, "--help").stdout for c in COMMANDS), manual_text(ctx), 0
        for option, words in sorted(set(re.findall(r"^ +(--[a-z-]+)=([a-z]+(?:\|[a-z]+)+)", text, re.M))):
            without = [w for w in words.split("|") if not re.search(rf"\b{w}\b", manual)]
            check(not without, f"docs/smelt.1 lacks {' '.join(without)} of {option}")
            n += 1
        check(n >= 4, f"only {n} options with choices found in the help: its form has changed")
        return f"{n} options"

    def mentioned():
        """Options that the other documents mention after the word smelt are options."""
        known = help_options(ctx)
        wrong = []
        for document in documents(ctx):
            for line in read(ctx, document).splitlines():
                m = re.search(r"(?:^|[\s`])smelt (?:[a-z]+ )?[^#`]*", line)
                for option in sorted(options_in(m.group()) - known if m else ()):
                    wrong.append(f"{document}: no option {option}: {line.strip()}")
        check(not wrong, "\n".join(wrong))

    def passes():
        source = read(ctx, "passes/passes.def")
        rows = re.findall(r'^PASS\((\w+),\s*(\w+),\s*\d+,.*?"(.*)"\)\s*$', source, re.M)
        check(len(rows) > 5, "passes/passes.def: its form has changed")
        want = [[name, level.lower(), doc] for name, level, doc in rows]
        _, got = table(read(ctx, "docs/design.md"), "docs/design.md", "pass", "level")
        wrong = [f"row {i + 1}: docs/design.md has {g}, passes/passes.def {w}"
                 for i, (g, w) in enumerate(zip(got, want)) if g != w]
        check(not wrong and len(got) == len(want), "\n".join(wrong) or f"{len(got)} rows, {len(want)} passes")
        return f"{len(want)} passes"

    def contrib():
        """README's count and the table and the exceptions of docs/contrib.md are the operators of com.microsoft."""
        words = [line.split() for line in ctx.smelt("--list=ops").stdout.splitlines()]
        want = {w[1] for w in words if w[:1] == ["com.microsoft"]}
        check(len(want) > 40, "--list=ops: its form has changed")
        text = read(ctx, "docs/contrib.md")
        _, rows = table(text, "docs/contrib.md", "family", "operators")
        got = [name for row in rows for name in re.sub(r";.*|\([^)]*\)", "", row[1]).split()]
        check(len(got) == len(set(got)) and set(got) == want,
              f"docs/contrib.md: not there {sorted(want - set(got))}, too much {sorted(set(got) - want)}")
        said = re.search(r"onnxruntime's\s+own operators (\d+) are read", read(ctx, "README.md"))
        check(said and int(said.group(1)) == len(want), f"README.md: {said and said.group()}, but there are {len(want)}")
        without = set(re.search(r"that have none there\s*\(([^)]*)\)", text).group(1).replace(",", " ").split())
        cases = glob.glob(ctx.path("tests/ops/com.microsoft/*.case"))
        formulas = {os.path.basename(c)[:-5] for c in cases if all("@judge=formula" in line for line in open(c, encoding="utf-8")
                                                                  if line.startswith("case "))}
        check(without == formulas, f"docs/contrib.md: without a kernel {sorted(without)}, judged by formulas {sorted(formulas)}")
        return f"{len(want)} operators"

    return [Case("contrib", contrib), Case("paths", paths), Case("manual_page_has_every_option", options),
            Case("manual_page_has_every_choice", choices), Case("options_mentioned", mentioned),
            Case("passes", passes)]
