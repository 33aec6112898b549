#!/usr/bin/env python3
"""Runs a binary over every fixture and checks exit code, message, time, memory and leavings.

    run_bad.py [--fast] [--table] BINARY [PATTERN]
    run_bad.py --mutate=N BINARY MODEL           compiles N copies of MODEL with a few bits flipped

BINARY is smelt (each fixture goes through `smelt check`, `info` and `compile`, and through `run`
where it says what that prints) or onnx_open, the reader alone. Each run has a limit of processor time and, unless
the binary has a sanitizer, a memory limit. Then a small model is cut at every byte, bits of it are
flipped and noise is read: whatever the bytes, the exit code is 0, 1 or 3 and a failure says something.
--fast leaves the large fixtures out and cuts less. --table prints the fixtures as docs/hostile.md has
them, with the message that BINARY gave.
"""
import argparse
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile

import make_fixtures
import external_data  # noqa: F401  each adds its fixtures to the table
import structure  # noqa: F401
import names  # noqa: F401
import shapes  # noqa: F401
from encode import FIXTURES, make, small_model

READER_SECTIONS = ("encoding", "tensors", "external data", "graph structure")
UNSEEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
INCLUDE = ["-I", os.path.join(ROOT, "runtime", "include")]
CONSUMERS = [(".h", ["cc", "-x", "c", "-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-fsyntax-only"] + INCLUDE),
             (".h", ["c++", "-x", "c++", "-std=c++17", "-Wall", "-Wextra", "-Werror", "-fsyntax-only"] + INCLUDE),
             # C99 promises no string above 4095 bytes; a name may be as long as 64 KiB
             (".c", ["cc", "-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-Wno-overlength-strings",
                     "-fsyntax-only"] + INCLUDE),
             (".s", ["cc", "-c", "-o", os.devnull]), (".ll", ["llvm-as-19", "-o", os.devnull])]


class Runner:
    def __init__(self, binary, fast):
        self.fast = fast
        self.binary = os.path.abspath(binary)
        self.is_smelt = os.path.basename(binary).startswith("smelt")
        with open(binary, "rb") as f:
            self.is_sanitized = b"__asan_init" in f.read()
        self.n_runs = 0
        self.failures = []
        self.rows = []

    def commands(self, f, path, folder):
        """Those of a fixture; in a fast run only the ones that do the most."""
        made = self.all_commands(f, path, folder)
        if not self.fast or not self.is_smelt or f["compiles"] != f["code"]:
            return made
        return made[3:] if f["prints"] is not None else made[2:]

    def all_commands(self, f, path, folder):
        """(words, exit code expected, pattern of stderr, pattern of stdout)"""
        if not self.is_smelt:
            return [([self.binary, path], f["code"], f["pattern"], "")]
        # info does not compile what is huge
        late = f["pattern"] if f["compiles"] == f["code"] else ""
        made = [(["check", path], f["code"], f["pattern"], ""), (["info", path], None, late, ""),
                (["compile", path, "-o", os.path.join(folder, "out.a")], f["compiles"], late, "")]
        if f["prints"] is not None:
            given = os.path.join(folder, "given")
            os.mkdir(given)
            for i, t in enumerate(f["inputs"]):
                with open(os.path.join(given, f"input_{i}.pb"), "wb") as out:
                    out.write(t)
            data = ["--inputs", given] if f["inputs"] else []
            for backend in ("interpret", "llvm"):
                made.append((["run", path, f"--backend={backend}"] + data, 0, "", f["prints"]))
        made += self.emit_commands(f, path, folder)
        return [([self.binary] + w + (f["options"] if w[0] != "check" else []), code, e, o) for w, code, e, o in made]

    @staticmethod
    def emit_commands(f, path, folder):
        """Every form of text that comes out, for models whose names are hostile."""
        if f["section"] != "names in emitted text":
            return []
        out = os.path.join(folder, "out.")
        return [(["info", path, "--json"], 0, "", r"^\{"),
                (["compile", path, "--emit=asm", "-o", out + "s"], 0, "", ""),
                (["compile", path, "--emit=llvm", "-o", out + "ll"], 0, "", ""),
                (["compile", path, "--stop-after=plan_memory", "--dump=all", "--trace=all", "-o", out + "x"],
                 None, "", "")] + [
                (["compile", path, f"--emit={kind}", "-o", out + suffix], 0, "", "")
                for kind, suffix in (("graph", "graph"), ("kernel", "kernel"), ("c", "c"))]

    def run(self, command, mib, seconds):
        def limit():
            if not self.is_sanitized:
                resource.setrlimit(resource.RLIMIT_AS, (mib << 20, mib << 20))
            resource.setrlimit(resource.RLIMIT_CPU, (seconds * scale, seconds * scale + 1))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        scale = 8 if self.is_sanitized else 1
        self.n_runs += 1
        try:
            done = subprocess.run(command, capture_output=True, timeout=seconds * scale * 20,
                                  preexec_fn=limit, stdin=subprocess.DEVNULL, check=False)
        except subprocess.TimeoutExpired:
            return None, f"no end within {seconds * scale * 20} s", ""
        if done.returncode in (-signal.SIGXCPU, -signal.SIGKILL):
            return None, f"no end within {seconds * scale} s of processor time", ""
        return done.returncode, done.stderr.decode(errors="replace"), done.stdout.decode(errors="replace")

    def fail(self, what, why, text):
        self.failures.append(what)
        print(f"FAIL {what}: {why}\n{text[:2000]}")

    @staticmethod
    def limit(f, key, command):
        limits = f[key] if isinstance(f[key], dict) else {"": f[key]}
        return limits.get(command[1], limits[""])

    def check_fixture(self, f, folder):
        path = make(f, folder)
        said = ""
        commands = self.commands(f, path, folder)
        kept = {e.name for e in os.scandir(folder)}
        for command, expected, errors, prints in commands:
            code, text, out = self.run(command, self.limit(f, "mib", command), self.limit(f, "seconds", command))
            what = f"{f['name']} ({' '.join(command[1:])})"
            said = said or text.strip()
            # only what is run as well has to be supported
            if code == 2 and "--emit takes" in text:
                continue    # this compiler does not emit that
            is_loose = expected == 0 and f["prints"] is None and "check" not in command
            accepted = {f["code"], f["compiles"], 3} if expected is None else {0, 3} if is_loose else {expected}
            if code not in accepted:
                self.fail(what, f"exit code {code}, expected {expected}", text)
            elif code == f["code"] and not re.search(errors, text.strip(), re.M):
                self.fail(what, f"no message like {errors!r}", text)
            elif code and not text.strip():
                self.fail(what, f"exit code {code} without a message", text)
            elif "--json" in command and not is_json(out):
                self.fail(what, "what it printed is no JSON", out)
            elif not re.search(prints, out):
                self.fail(what, f"printed nothing like {prints!r}", out)
            elif UNSEEN.search(text) or UNSEEN.search(out):
                self.fail(what, "a control character reached the terminal", repr(text + out))
            left = {e.name for e in os.scandir(folder)} - kept
            if left and code != 0:
                self.fail(what, f"left {sorted(left)} behind", text)
        if f["section"] == "names in emitted text":
            self.check_emitted(f["name"], folder)
        self.rows.append((f, said.replace(folder + "/", "").replace(folder, ".")))

    def check_emitted(self, name, folder):
        """What was made from hostile names: JSON parses, C and assembler take the rest, nothing is hidden in it."""
        outs = {e.name: e.path for e in os.scandir(folder)}
        tried = [(suffix, command) for suffix, command in CONSUMERS if shutil.which(command[0])]
        for file, path in outs.items():
            with open(path, "rb") as f:
                data = f.read()
            if file.endswith((".h", ".s", ".ll", ".c", ".graph", ".kernel")) and UNSEEN.search(data.decode(errors="replace")):
                self.fail(f"{name} ({file})", "a control character is in it", "")
            for suffix, command in tried:
                if not file.endswith(suffix):
                    continue
                done = subprocess.run(command + [path], capture_output=True, cwd=folder, check=False)
                if done.returncode:
                    self.fail(f"{name} ({file})", f"{command[0]} refuses it", done.stderr.decode(errors="replace"))

    def check_bytes(self, what, data, folder, words=("check",), mib=512, seconds=2):
        path = os.path.join(folder, "model.onnx")
        with open(path, "wb") as out:
            out.write(data)
        command = [self.binary, *words, path] if self.is_smelt else [self.binary, path]
        code, text, _ = self.run(command, mib, seconds)
        if code not in (0, 1, 3):
            self.fail(what, f"exit code {code}", text)
        elif code and not text.strip():
            self.fail(what, f"exit code {code} without a message", text)


def is_json(text):
    try:
        json.loads(text)
        return True
    except ValueError:
        return False


def flipped(rng, whole, count):
    for i in range(count):
        data = bytearray(whole)
        for _ in range(rng.randrange(1, 4)):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        yield f"flip {i}", bytes(data)


def mutated(rng, count, every):
    whole = small_model()
    for n in range(0, len(whole), every):
        yield f"cut at {n}", whole[:n]
    yield from flipped(rng, whole, count)
    for i, noise in enumerate(make_fixtures.random_files(count)):
        yield f"noise {i}", noise


def print_table(rows):
    heading = None
    for f, said in rows:
        if f["section"] != heading:
            heading = f["section"]
            print(f"\n### {heading.capitalize()}\n\n| fixture | exit | message |\n|---|---|---|")
        code = str(f["code"]) if f["code"] == f["compiles"] else f"{f['code']}, compile {f['compiles']}"
        line = (said.splitlines() or [""])[0].replace("model.onnx: ", "", 1)
        line = line if len(line) <= 150 else line[:147] + "..."
        line = line.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("`", "'")
        print(f"| {f['name']} | {code} | {line} |")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--fast", action="store_true")
    p.add_argument("--table", action="store_true")
    p.add_argument("--mutate", type=int, default=0)
    p.add_argument("binary")
    p.add_argument("pattern", nargs="?", default="")
    a = p.parse_args()
    runner = Runner(a.binary, a.fast)
    root = tempfile.mkdtemp(prefix="smelt-bad-")
    try:
        for f in [] if a.mutate else FIXTURES:
            if not re.search(a.pattern, f["name"]) or (a.fast and f["slow"]):
                continue
            if not runner.is_smelt and f["section"] not in READER_SECTIONS:
                continue
            folder = os.path.join(root, f["name"])
            os.mkdir(folder)
            runner.check_fixture(f, folder)
            shutil.rmtree(folder)
        if a.mutate:
            with open(a.pattern, "rb") as f:
                whole = f.read()
            words = ("compile", "-o", os.path.join(root, "out.a"))
            for what, data in flipped(random.Random(11), whole, a.mutate):
                runner.check_bytes(what, data, root, words, 2048, 20)
        elif not a.pattern and not a.table:
            count = 20 if a.fast else 100 if runner.is_sanitized else 1000
            for what, data in mutated(random.Random(7), count, 7 if a.fast else 1):
                runner.check_bytes(what, data, root)
    finally:
        shutil.rmtree(root)
    if a.table:
        print_table(runner.rows)
    else:
        print(f"{runner.n_runs} runs, {len(runner.failures)} failures")
    sys.exit(1 if runner.failures else 0)


if __name__ == "__main__":
    main()
