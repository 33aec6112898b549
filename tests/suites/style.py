"""House rules that a program can check: which folder includes which, functions that are banned, and that every
operator of ir/ops.def is described in ir/IR.md and has its tests/ops/NAME.case. Needs no compiler."""
import os
import re

from harness import Case, Skip, check

FOLDERS = ("frontend", "ir", "passes", "codegen", "runtime", "driver")

# Folder to what its files may include from the project. codegen also sees the tables and formats that it
# shares with the runtime (docs/abi.md, "Files").
ARROWS = {
    "ir": {"ir"},
    "frontend": {"ir", "frontend"},
    "passes": {"ir", "passes"},
    "codegen": {"ir", "codegen"},
    "runtime": {"runtime"},
    "driver": set(FOLDERS),
}
ALLOWED_FILES = {"codegen": {"runtime/include/" + name for name in
                            ("smelt_abi.def", "smelt_cpu.def", "smelt_weights.h", "smelt_hash.h")}}

# (what, pattern, folders or files it is allowed in)
BANNED = (
    ("strcpy", r"\bstrcpy\s*\(", ()),
    ("strcat", r"\bstrcat\s*\(", ()),
    ("sprintf", r"\bv?sprintf\s*\(", ()),
    ("strtok", r"\bstrtok\s*\(", ()),
    ("atoi", r"\bato[ifl]l?\s*\(", ()),
    ("alloca", r"\balloca\s*\(", ()),
    ("gets", r"\bgets\s*\(", ()),
    ("malloc outside ir/support and runtime", r"\b(malloc|calloc|realloc)\s*\(", ("ir/support/", "runtime/")),
    ("exit outside driver/main.c", r"\b_?exit\s*\(", ("driver/main.c", "ir/support/arena.c")),
    ("printing to stdout in library code", r"\b(printf|puts|putchar)\s*\(|\bstdout\b", ("driver/",)),
)


def sources(root, folders=FOLDERS, endings=(".c", ".h", ".def")):
    for folder in folders:
        for where, subfolders, files in os.walk(os.path.join(root, folder)):
            subfolders.sort()
            for f in sorted(files):
                if f.endswith(endings):
                    yield os.path.relpath(os.path.join(where, f), root)


def code_only(text):
    """The text without comments and without what stands in quotes; line breaks stay."""
    token = re.compile(r"/\*.*?\*/|//[^\n]*|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'", re.S)

    def blank(m):
        s = m.group()
        return '""' if s[0] == '"' else "' '" if s[0] == "'" else "\n" * s.count("\n")
    return token.sub(blank, text)


def read(root, path):
    with open(os.path.join(root, path), encoding="utf-8") as f:
        return f.read()


def cases(ctx):
    root = ctx.root

    def arrows():
        wrong = []
        n = 0
        for path in sources(root):
            folder = path.split(os.sep)[0]
            for i, line in enumerate(read(root, path).splitlines(), 1):
                m = re.match(r'\s*#\s*include\s+["<]([^">]+)[">]', line)
                if not m:
                    continue
                n += 1
                target = m.group(1)
                top = target.split("/")[0]
                if top == ".." or target.startswith("../"):
                    wrong.append(f"{path}:{i}: include from the project's root, not with '..': {target}")
                elif top in FOLDERS and top not in ARROWS[folder] and target not in ALLOWED_FILES.get(folder, ()):
                    wrong.append(f"{path}:{i}: {folder}/ must not include {target}")
        check(n, "no #include found: the folders have moved")
        check(not wrong, "\n".join(wrong))
        return f"{n} includes"

    def banned():
        wrong = []
        for path in sources(root, endings=(".c", ".h")):
            text = code_only(read(root, path))
            for what, pattern, allowed in BANNED:
                if path.startswith(tuple(allowed)) if allowed else False:
                    continue
                for m in re.finditer(pattern, text):
                    wrong.append(f"{path}:{text.count(chr(10), 0, m.start()) + 1}: {what}")
        check(not wrong, "\n".join(wrong))

    def operators():
        path = "ir/ops.def"
        if not os.path.exists(ctx.path(path)):
            raise Skip(f"no {path}")
        text = re.sub(r"/\*.*?\*/", "", read(root, path), flags=re.S)
        names = re.findall(r"^\s*OP\(\s*(\w+)", text, re.M)
        check(len(names) > 20 and len(set(names)) == len(names), f"{path}: {len(names)} rows, or one is there twice")
        return names

    def described():
        names = operators()
        check(os.path.exists(ctx.path("ir/IR.md")), "ir/IR.md does not exist")
        headings = " ".join(re.findall(r"^#+ .*$", read(root, "ir/IR.md"), re.M))
        known = set(re.findall(r"\w+", headings))
        without = [n for n in names if n not in known]
        check(not without, f"{len(without)} of {len(names)} operators have no heading in ir/IR.md: {' '.join(without)}")
        return f"{len(names)} operators"

    def tested():
        names = [n for n in operators() if n not in ("Custom", "ImageDecoder", "Inverse")]    # suites/custom.py, images.py; com.microsoft
        without = [n for n in names if not os.path.exists(ctx.path("tests/ops", n + ".case"))]
        check(not without, f"{len(without)} of {len(names)} operators have no tests/ops/NAME.case: {' '.join(without)}")
        return f"{len(names)} operators"

    def scripts():
        n = 0
        for top in ("samples", "tests", ".ci"):
            for where, _, files in os.walk(ctx.path(top)):
                for f in files:
                    if f.endswith(".sh"):
                        ctx.run("sh", "-n", os.path.join(where, f))
                        n += 1
        check(n >= 5, f"only {n} scripts found")
        return f"{n} scripts"

    return [Case("arrows", arrows), Case("banned_functions", banned), Case("every_op_is_described", described),
            Case("every_op_has_a_case", tested), Case("shell_scripts_parse", scripts)]
