#!/usr/bin/env python3
"""Runs a binary over every fixture of make_fixtures.py and checks exit code, message and leavings.

    run_bad.py BINARY [PATTERN]

BINARY is smelt (each fixture goes through `smelt info` and `smelt compile`) or onnx_open, the
reader alone. Each run has a time limit and, unless the binary has a sanitizer, a memory limit.
Then a small model is cut at every byte, bits of it are flipped and noise is read: whatever the
bytes, the exit code is 0, 1 or 3 and a failure says something.
"""
import os
import random
import re
import resource
import shutil
import subprocess
import sys
import tempfile

import make_fixtures


class Runner:
    def __init__(self, binary):
        self.binary = os.path.abspath(binary)
        self.is_smelt = os.path.basename(binary).startswith("smelt")
        with open(binary, "rb") as f:
            self.is_sanitized = b"__asan_init" in f.read()
        self.n_runs = 0
        self.failures = []

    def commands(self, path, folder):
        if not self.is_smelt:
            return [[self.binary, path]]
        out = os.path.join(folder, "out")
        return [[self.binary, "info", path], [self.binary, "compile", path, "-o", out]]

    def run(self, command, mib, seconds):
        def limit():
            if not self.is_sanitized:
                resource.setrlimit(resource.RLIMIT_AS, (mib << 20, mib << 20))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        scale = 8 if self.is_sanitized else 1
        self.n_runs += 1
        try:
            done = subprocess.run(command, capture_output=True, timeout=seconds * scale,
                                  preexec_fn=limit, stdin=subprocess.DEVNULL, check=False)
        except subprocess.TimeoutExpired:
            return None, f"no end within {seconds * scale} s"
        return done.returncode, done.stderr.decode(errors="replace")

    def fail(self, what, why, text):
        self.failures.append(what)
        print(f"FAIL {what}: {why}\n{text[:2000]}")

    def check_fixture(self, f, folder):
        path = make_fixtures.make(f, folder)
        kept = {e.name for e in os.scandir(folder)}
        for command in self.commands(path, folder):
            code, text = self.run(command, f["mib"], f["seconds"])
            what = f"{f['name']} ({' '.join(command[1:-1])})"
            # compiling what reads well may still meet an operator or type that is not supported
            accepted = {0, 1, 3} if "compile" in command and f["code"] == 0 else {f["code"]}
            if code not in accepted:
                self.fail(what, f"exit code {code}, expected {f['code']}", text)
            elif code == f["code"] and not re.search(f["pattern"], text.strip(), re.M):
                self.fail(what, f"no message like {f['pattern']!r}", text)
            elif re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", text):
                self.fail(what, "a control character reached the terminal", repr(text))
            left = {e.name for e in os.scandir(folder)} - kept
            if left and code != 0:
                self.fail(what, f"left {sorted(left)} behind", text)

    def check_bytes(self, what, data, folder):
        path = os.path.join(folder, "model.onnx")
        with open(path, "wb") as out:
            out.write(data)
        code, text = self.run(self.commands(path, folder)[0], 512, 2)
        if code not in (0, 1, 3):
            self.fail(what, f"exit code {code}", text)
        elif code and not text.strip():
            self.fail(what, f"exit code {code} without a message", text)


def mutated(rng, count):
    whole = make_fixtures.small_model()
    for n in range(len(whole)):
        yield f"cut at {n}", whole[:n]
    for i in range(count):
        data = bytearray(whole)
        for _ in range(rng.randrange(1, 4)):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        yield f"flip {i}", bytes(data)
    for i, noise in enumerate(make_fixtures.random_files(count)):
        yield f"noise {i}", noise


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    runner = Runner(sys.argv[1])
    wanted = sys.argv[2] if len(sys.argv) > 2 else ""
    root = tempfile.mkdtemp(prefix="smelt-bad-")
    try:
        for f in make_fixtures.FIXTURES:
            if not re.search(wanted, f["name"]):
                continue
            folder = os.path.join(root, f["name"])
            os.mkdir(folder)
            runner.check_fixture(f, folder)
            shutil.rmtree(folder)
        if not wanted:
            for what, data in mutated(random.Random(7), 100 if runner.is_sanitized else 1000):
                runner.check_bytes(what, data, root)
    finally:
        shutil.rmtree(root)
    print(f"{runner.n_runs} runs, {len(runner.failures)} failures")
    sys.exit(1 if runner.failures else 0)


if __name__ == "__main__":
    main()
