"""What compiling costs and what the result needs: processor seconds and peak memory of `smelt compile -j1`, and the arena beside its
lower bound (the largest set of values alive at once), for every model. Writes build/cost_table.md."""
import os
import re

from harness import Case, Failed, Skip, check

MEMORY_FACTOR = 1.5          # peak memory over the model's size ...
MEMORY_BASE = 250e6          # ... beyond what LLVM and the compiler themselves take
CPU_SECONDS = {"resnet50": 10.0, "bert_base_128": 20.0}
CPU_SECONDS_OTHERS = 60.0
ARENA_SLACK = 1.10


def number(pattern, text, what):
    m = re.search(pattern, text, re.I | re.M)
    check(m, f"{what} not found in:\n{text[-1500:]}")
    return float(m.group(1).replace(",", ""))


def cases(ctx):
    rows = ctx.notes.setdefault("cost", [])

    def one(name):
        def run():
            model = ctx.model(name)
            if not os.path.exists("/usr/bin/time"):
                raise Skip("not installed: /usr/bin/time")
            check(os.access(ctx.smelt_path, os.X_OK), f"the compiler is not built: {ctx.smelt_path}")
            folder = ctx.new_dir()
            done = ctx.run("/usr/bin/time", "-f", "%U user %S system %M kilobytes", ctx.smelt_path, "compile", "-j1", model, cwd=folder)
            seconds = number(r"([\d.]+) user", done.stderr, "the time") + number(r"([\d.]+) system", done.stderr, "the time")
            peak = number(r" (\d+) kilobytes", done.stderr, "the memory") * 1024
            info = ctx.smelt("info", model).stdout
            free = sorted(set(re.findall(r"[\[ ,](\w*[A-Za-z_]\w*)[\],]", " ".join(re.findall(r"^input .*?(\[.*\])$", info, re.M)))))
            if free:         # the arena depends on the caller's dims: with 1 for each
                info = ctx.smelt("info", model, *[f"--dim={name}=1" for name in free]).stdout
            arena = number(r"^\s*arena bytes\W+([\d,]+)", info, "the line 'arena bytes: N' of smelt info")
            bound = number(r"^\s*arena lower bound\W+([\d,]+)", info, "the line 'arena lower bound: N' of smelt info")
            size = os.path.getsize(model)
            library = sum(os.path.getsize(os.path.join(folder, f)) for f in os.listdir(folder) if f.endswith(".a"))
            rows.append(f"| {name} | {size / 1e6:.1f} | {seconds:.1f} | {peak / 1e6:.0f} | {library / 1e6:.1f} | "
                        f"{arena:.0f} | {arena / bound if bound else 1:.3f} |")
            problems = []
            if peak > MEMORY_FACTOR * size + MEMORY_BASE:
                problems.append(f"peak memory {peak / 1e6:.0f} MB for a model of {size / 1e6:.0f} MB")
            if seconds > CPU_SECONDS.get(name, CPU_SECONDS_OTHERS):
                problems.append(f"compiling took {seconds:.0f} s of processor time")
            if arena > ARENA_SLACK * bound + 64:
                problems.append(f"arena {arena:.0f} bytes, lower bound {bound:.0f}")
            if problems:
                raise Failed("; ".join(problems))
            return f"{seconds:.1f} s, {peak / 1e6:.0f} MB"
        return run

    def none():
        raise Skip(f"no models in {ctx.models}")

    return [Case(n, one(n), "slow") for n in ctx.model_names()] or [Case("all", none, "slow")]


def finish(ctx):
    if not ctx.notes["cost"]:
        return
    with open(os.path.join(ctx.build, "cost_table.md"), "w") as f:
        f.write("| model | size, MB | compile, s of one core | peak, MB | library, MB | arena, bytes | arena / lower bound |\n"
                "|---|---|---|---|---|---|---|\n" + "\n".join(ctx.notes["cost"]) + "\n")
    print("\n".join(ctx.notes["cost"]))
