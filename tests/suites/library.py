"""What a compiled library promises: its header is plain C and C++, it has no writable data and needs nothing but
memcpy, memset and memmove, it is reentrant and clean under the sanitizers and valgrind, wrong calls are statuses, and
the same model gives the same bytes whatever surrounds the compiler. The programs are in tests/library/."""
import hashlib
import os
import platform
import shutil

from harness import Case, Skip, check

# For tests/library/heap.c.
HEAP = """graph "net" {
  main {
    input %x: f32[4]
    input %shape: i64[2]
    const %two: i64[2] = {1, 1}
    %total: f32[] = ReduceSum(%x, _) {keepdims = 0}
    %wide = Expand(%total, %shape)
    %double = Add(%wide, %wide)
    %tiled = Tile(%double, %two)
    %again = Neg(%tiled)
    %sum = ReduceSum(%wide, _) {keepdims = 0}
    return %wide, %sum, %again
  }
}
"""

STRICT = ("-Wall", "-Wextra", "-Wpedantic", "-Werror", "-O1", "-g")


def cases(ctx):
    model = ctx.path("samples", "digits", "digits.onnx")
    programs = ctx.path("tests", "library")

    def flags(folder):
        return (f"-I{folder}", f"-I{ctx.include}", f"-I{programs}")

    def build(folder, source, *rest, cc="gcc", std="-std=c11"):
        """Links tests/library/SOURCE with `rest`; gives the program's path."""
        program = os.path.join(folder, os.path.splitext(source)[0])
        ctx.run(ctx.tool(cc), std, "-D_POSIX_C_SOURCE=200809L", *STRICT, *flags(folder), os.path.join(programs, source),
                *rest, "-lm", "-pthread", "-o", program)
        return program

    def header():
        folder, archive = ctx.compile(model)
        ctx.run(build(folder, "header.c", archive, std="-std=c99"))
        plus = os.path.join(folder, "header_plus")
        ctx.run(ctx.tool("g++"), "-std=c++17", *STRICT, *flags(folder), "-x", "c++", os.path.join(programs, "header.c"),
                "-x", "none", archive, "-lm", "-o", plus)
        ctx.run(plus)

    def two_models():
        folder, archive = ctx.compile(model)
        other, second = ctx.compile(model, "--name", "second")
        shutil.copy(os.path.join(other, "second.h"), folder)
        ctx.run(build(folder, "two_models.c", archive, second))

    def threads():
        folder, archive = ctx.compile(model)
        ctx.run(build(folder, "threads.c", archive))

    def statuses():
        folder, archive = ctx.compile(model)
        ctx.run(build(folder, "statuses.c", archive))

    def runtime_sources():
        folder = ctx.path("runtime")
        return [os.path.join(folder, f) for f in sorted(os.listdir(folder)) if f.endswith(".c")]

    def hooks(name, macs, *defines):
        """A model of about so many multiply-adds, through the runtime's pool of threads and an odd one."""
        def run():
            folder, archive = ctx.compile(model if name == "digits" else ctx.model(name), "--name", "net")
            ctx.run(build(folder, "hooks.c", *runtime_sources(), archive, "-DMODEL=net_model", f"-DMIN_MACS={macs}u",
                          *defines))
        return run

    def dims():
        folder, archive = ctx.compile(ctx.model("logreg_pipe_b1"), "--name", "net")
        ctx.run(build(folder, "dims.c", archive))

    def stack():
        folder, archive = ctx.compile(model)
        return ctx.run(build(folder, "stack.c", archive, "-Wl,-z,now")).stdout.strip() + " bytes"

    def heap(backend, *sanitizer):
        """What the hooks give comes back to them, whichever request they refuse."""
        def run():
            folder = ctx.new_dir()
            source = os.path.join(folder, "net.ir")
            with open(source, "w", encoding="utf-8") as f:
                f.write(HEAP)
            made, text = ctx.compile(source, f"--emit={backend}", "--name=net", suffix=".a" if backend == "lib" else ".c")
            if backend == "c":
                instrumented = os.path.join(made, "net.o")
                ctx.run(ctx.tool("gcc"), "-std=c99", *STRICT, "-ffp-contract=off", *sanitizer, *flags(made), "-c", text, "-o",
                        instrumented)
                text = instrumented
            ctx.run(build(made, "heap.c", text, *sanitizer))
        return run

    def shared():
        folder, archive = ctx.compile(model)
        _, library = ctx.compile(model, "--emit=shared", suffix=".so")
        ctx.run(build(folder, "shared.c", archive, "-ldl"), library)

    def weights_file():
        """The right file is taken; a damaged, cut, extended, exchanged or missing one is a status."""
        folder, archive = ctx.compile(model, "--weights=file")
        other, second = ctx.compile(model, "--name", "second")
        shutil.copy(os.path.join(other, "second.h"), folder)
        program = build(folder, "weights.c", archive, second, *runtime_sources())
        good = os.path.join(folder, "digits.weights")
        with open(good, "rb") as f:
            content = f.read()
        check(os.path.getsize(archive) < len(content) + 60000, "the archive holds the weights too")
        changed = lambda i: content[:i] + bytes([content[i] ^ 1]) + content[i + 1:]     # noqa: E731
        variants = {"header": changed(16), "first": changed(64), "last": changed(len(content) - 1),
                    "cut": content[:-1], "long": content + b"\0", "empty": b""}
        ctx.run(program, good, 0)
        ctx.run(program, os.path.join(folder, "missing"), 11)
        ctx.run(program, folder, 11)
        for name, bytes_ in variants.items():
            path = os.path.join(folder, name)
            with open(path, "wb") as f:
                f.write(bytes_)
            ctx.run(program, path, 6)

    def with_source(sanitizer, source, cc):
        """The model as C, instrumented together with the program, and the archive as LLVM made it."""
        def run():
            options = (f"-fsanitize={sanitizer}", "-fno-sanitize-recover=all")
            env = {"ASAN_OPTIONS": "detect_leaks=1:detect_stack_use_after_return=1", "TSAN_OPTIONS": "halt_on_error=1"}
            folder, archive = ctx.compile(model)
            ctx.run(build(folder, source, archive, *options, cc=cc), env=env)
            folder, text = ctx.compile(model, "--emit=c", suffix=".c")
            instrumented = os.path.join(folder, "model.o")
            ctx.run(ctx.tool(cc), "-std=c99", "-O1", "-g", "-ffp-contract=off", *options, *flags(folder), "-c", text,
                    "-o", instrumented)
            ctx.run(build(folder, source, instrumented, *options, cc=cc), env=env)
        return run

    def valgrind():
        ctx.tool("valgrind")
        if platform.machine() != "x86_64":
            raise Skip("valgrind is asked about x86-64 code only: it knows AVX2, and no wider")
        folder, archive = ctx.compile(model, "--cpu=x86-64-v3")
        ctx.run("valgrind", "-q", "--error-exitcode=9", "--leak-check=full", build(folder, "statuses.c", archive))

    def wrong_cpu(name, *dims):
        """Every pair of what a library was compiled for and where it runs: answers, or BAD_CPU, and never a signal."""
        levels = ("core2duo", "Nehalem", "SandyBridge", "Haswell")     # each has what those before it have
        compiled = {("--cpu=x86-64",): 0, ("--cpu=x86-64", "--features=+sse4.2"): 1, ("--cpu=sandybridge",): 2,
                    ("--cpu=haswell",): 3, ("--cpu=x86-64-v4",): 4, ("--cpu=cascadelake",): 4}

        def run():
            emulator = ctx.tool("qemu-x86_64-static")
            ctx.tool("x86_64-linux-gnu-gcc")
            for options, level in compiled.items():
                source = model if name == "digits" else ctx.model(name)
                folder, archive = ctx.compile(source, "--target=x86_64-linux-gnu", *options, *dims, "--name", "net")
                program = os.path.join(folder, "wrong_cpu")
                ctx.run("x86_64-linux-gnu-gcc", "-std=c11", "-static", *STRICT, f"-I{ctx.include}", "-DMODEL=net_model",
                        os.path.join(programs, "wrong_cpu.c"), archive, "-o", program)
                for i, cpu in enumerate(levels):
                    got = ctx.run(emulator, "-cpu", cpu, program).stdout.strip()
                    want = "0" if i >= level else "5"
                    check(got == want, f"compiled with {' '.join(options)}, run on {cpu}: status {got}, expected {want}")
        return run

    def no_writable_data():
        _, archive = ctx.compile(model)
        for line in ctx.run("nm", archive).stdout.splitlines():
            words = line.split()
            kind = words[-2] if len(words) >= 2 else ""
            relocated = kind in ("d", "D")      # .data.rel.ro counts as data for nm; the sections below decide
            check(kind not in ("b", "B", "C", "s", "S"), f"writable or common symbol: {line}")
            check(not relocated or has_only_relro(archive), f"symbol in a writable section: {line}")
        check(has_only_relro(archive), "the archive has a writable section with contents; objdump -h shows it")

    def has_only_relro(archive):
        rows = ctx.run("objdump", "-h", "-w", archive).stdout.splitlines()
        for row in rows:
            words = row.split()
            if len(words) < 7 or not words[0].isdigit() or "ALLOC" not in row:
                continue
            writable = "READONLY" not in row and not words[1].startswith(".data.rel.ro")
            if writable and int(words[2], 16) > 0:
                return False
        return True

    def needs_nothing():
        _, archive = ctx.compile(model)
        ctx.check_needs_nothing(archive)
        for kind, name in ctx.symbols(archive)[1]:
            check(kind.islower() or name.startswith("digits_"), f"exported symbol without the model's prefix: {name}")

    def digest(folder):
        """{file name: hash of its contents}"""
        made = {}
        for f in sorted(os.listdir(folder)):
            with open(os.path.join(folder, f), "rb") as content:
                made[f] = hashlib.sha256(content.read()).hexdigest()
        return made

    def comma_locale():
        """A locale whose decimal point is a comma, made where the system has none; {} if that cannot be done."""
        if not shutil.which("localedef"):
            return {"LC_ALL": "C.UTF-8"}
        folder = ctx.new_dir()
        ctx.run("localedef", "-i", "de_DE", "-f", "UTF-8", os.path.join(folder, "de_DE.UTF-8"), expect=None)
        return {"LC_ALL": "de_DE.UTF-8", "LOCPATH": folder}

    def same_bytes(*options, suffix):
        def run():
            want = digest(ctx.compile(model, *options, suffix=suffix)[0])
            copy = os.path.join(ctx.new_dir(), "digits.onnx")
            shutil.copy(model, copy)
            for what, path, extra, env in (
                    ("twice", model, (), {}), ("in another folder", copy, (), {}),
                    ("in another locale", model, (), comma_locale()),
                    ("in another time zone", model, (), {"TZ": "Asia/Kathmandu"}),
                    ("-j1", model, ("-j1",), {}), ("-j2", model, ("-j2",), {})):
                got = digest(ctx.compile(path, *options, *extra, suffix=suffix, env=env)[0])
                check(got == want, f"{what}: other bytes in {[f for f in want if got.get(f) != want[f]]}")
            return ", ".join(want)
        return run

    return [
        Case("header_is_c99_and_cpp17", header, "cpu"),
        Case("two_models_in_one_program", two_models, "cpu"),
        Case("eight_threads", threads, "cpu"),
        Case("wrong_calls_are_statuses", statuses, "cpu"),
        Case("wrong_dims_are_statuses", dims, "cpu"),
        Case("hooks", hooks("digits", 300000), "cpu"),
        Case("hooks_of_large_model", hooks("mobilenet_v2", 300000000, "-DIS_PARALLEL"), "cpu"),
        Case("heap", heap("lib"), "cpu"),
        Case("heap_c_under_asan", heap("c", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"), "cpu"),
        Case("stack_bound", stack, "cpu"),
        Case("shared_library", shared, "cpu"),
        Case("weights_file", weights_file, "cpu"),
        Case("threads_under_tsan", with_source("thread", "threads.c", "gcc"), "cpu"),
        Case("statuses_under_asan_gcc", with_source("address,undefined", "statuses.c", "gcc"), "cpu"),
        Case("statuses_under_asan_clang", with_source("address,undefined", "statuses.c", "clang-19"), "cpu"),
        Case("statuses_under_valgrind", valgrind, "cpu"),
        Case("small_model_on_wrong_cpu", wrong_cpu("digits"), "cpu"),
        Case("large_model_on_wrong_cpu", wrong_cpu("logreg_pipe_b1", "--dim=X_dim0=320000"), "cpu"),
        Case("no_writable_data", no_writable_data),
        Case("needs_only_mem_functions", needs_nothing),
        Case("same_bytes_archive", same_bytes(suffix=".a")),
        Case("same_bytes_c", same_bytes("--emit=c", suffix=".c")),
        Case("same_bytes_shared", same_bytes("--emit=shared", suffix=".so")),
    ]
