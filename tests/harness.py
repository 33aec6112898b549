"""What the suites share: the case, its outcome, and the context that runs the compiler and other programs.

A suite is a module in tests/suites/ with `cases(ctx)`, which returns a list of Case; it may have `finish(ctx)`, called
after its last case. A case's function returns None or a short note on success, raises Failed (or any exception) on
failure and Skip when something it needs is absent. Only the standard library is imported here, so that suites which
need nothing else run without a venv.
"""
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, field
from typing import Callable, Optional

LABELS = ("nodev", "cpu", "gpu", "slow", "long")
SKIP_STATUS = 77


class Failed(Exception):
    """The case found something wrong; the text says what was expected and what came."""


class Skip(Exception):
    """The case could not be tried; the text says what is missing."""


@dataclass(frozen=True)
class Case:
    name: str
    run: Callable[[], Optional[str]]
    label: str = "nodev"    # nodev: compiler and text only; cpu: runs generated code; slow: minutes; long: before a release; gpu: needs the device


def text_table(text):
    """The rows of a table as lists of words between bars; a line that begins with a blank goes on with the row before."""
    rows = text.strip().replace("\n ", " ").splitlines()
    return [[cell.strip() for cell in row.split("|")] for row in rows]


def check(condition, text):
    if not condition:
        raise Failed(text)


ALLOWED_SYMBOLS = {"memcpy", "memset", "memmove"}


def tail(text, n_lines=12):
    lines = text.strip().splitlines()
    return "\n".join(lines[-n_lines:])


@dataclass
class Context:
    root: str
    smelt_path: str
    models: str
    update: bool = False
    scratch: str = ""
    notes: dict = field(default_factory=dict)    # suite name to anything it collects for finish()

    @property
    def build(self):
        return os.path.join(self.root, "build")

    @property
    def include(self):
        return os.path.join(self.root, "runtime", "include")

    def path(self, *parts):
        return os.path.join(self.root, *parts)

    def new_dir(self):
        """An empty folder, removed at the end of the run."""
        return tempfile.mkdtemp(dir=self.scratch)

    def run(self, *command, cwd=None, env=None, timeout=900, expect=0):
        """Runs a program to its end. Returns its CompletedProcess (text); Failed unless the exit status is `expect`
        (None: any). Status 77 is a Skip."""
        words = [str(w) for w in command]
        try:
            done = subprocess.run(words, cwd=cwd, env={**os.environ, **(env or {})}, timeout=timeout,
                                  stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
        except FileNotFoundError:
            raise Failed(f"program not found: {words[0]}") from None
        except subprocess.TimeoutExpired:
            raise Failed(f"still running after {timeout} s: {' '.join(words)}") from None
        if done.returncode == SKIP_STATUS and expect != SKIP_STATUS:
            raise Skip(tail(done.stdout + done.stderr, 1) or "exit status 77")
        if expect is not None and done.returncode != expect:
            raise Failed(f"exit status {done.returncode}, expected {expect}: {' '.join(words)}\n"
                         + tail(done.stdout + done.stderr))
        return done

    def smelt(self, *arguments, **options):
        """Runs the compiler; options as for run()."""
        if not os.access(self.smelt_path, os.X_OK):
            raise Failed(f"the compiler is not built: {self.smelt_path} (sh samples/quickstart.sh builds it)")
        return self.run(self.smelt_path, *arguments, **options)

    def compile(self, model, *options, suffix=".a", env=None, timeout=900):
        """Compiles in a new folder. Returns (folder, path of the one output with this suffix)."""
        folder = self.new_dir()
        self.smelt("compile", model, *options, cwd=folder, env=env, timeout=timeout)
        made = sorted(f for f in os.listdir(folder) if f.endswith(suffix))
        check(len(made) == 1, f"expected one *{suffix}, found {sorted(os.listdir(folder))}")
        return folder, os.path.join(folder, made[0])

    def symbols(self, archive):
        """(undefined names that no object of the archive defines, [(kind, name)] of the defined ones), by nm."""
        defined, undefined = [], set()
        for line in self.run("nm", archive).stdout.splitlines():
            words = line.split()
            if len(words) == 2 and words[0] == "U":
                undefined.add(words[1])
            elif len(words) == 3:
                defined.append((words[1], words[2]))
        return undefined - {name for _, name in defined}, defined

    def check_needs_nothing(self, archive):
        extra = self.symbols(archive)[0] - ALLOWED_SYMBOLS - {"_GLOBAL_OFFSET_TABLE_"}
        check(not extra, f"needs more than {sorted(ALLOWED_SYMBOLS)}: {sorted(extra)}")

    def tool(self, *names):
        """The first of these programs that is installed; Skip if none is."""
        for name in names:
            if shutil.which(name):
                return name
        raise Skip(f"not installed: {' or '.join(names)}")

    def model(self, name):
        """The path of a materialised model; Skip if it is absent."""
        path = os.path.join(self.models, name + ".onnx")
        if not os.path.exists(path):
            raise Skip(f"no {name}.onnx in {self.models}")
        return path

    def model_names(self):
        if not os.path.isdir(self.models):
            return []
        return sorted(f[:-len(".onnx")] for f in os.listdir(self.models) if f.endswith(".onnx"))
