"""Matrix tiles (ir/tile.h): products of bytes of every pair of signs, of bf16, and of several heights, as marked loops on
every backend, judged by numpy; and that AMX machines get their instructions and others loops."""
import os

import numpy as np
import onnx
from onnx import numpy_helper

from harness import Case, check

COLUMNS, BLOCKS = 16, 3     # of one product; products that are summed
NUMPY = {"u8": np.uint8, "i8": np.int8, "bf16": np.float32}
WORD = {"u8": 4, "i8": 4, "bf16": 2}    # elements of a word; 16 words are the depth of one product
DOTS = {("bf16", "bf16"): "tdpbf16ps",
        ("u8", "u8"): "tdpbuud", ("u8", "i8"): "tdpbusd", ("i8", "u8"): "tdpbsud", ("i8", "i8"): "tdpbssd"}


class Text:
    """IR text with the names of loop variables counted, as each may be bound once."""

    def __init__(self):
        self.lines, self.count = [], 0

    def nest(self, loops, statement):
        """loops: (extent, mark) from the outside; statement: a function of their variables."""
        names = []
        for extent, mark in loops:
            names.append(f"v{self.count}")
            self.count += 1
            self.lines.append(f"for {names[-1]} in 0..{extent} {mark} {{")
        self.lines += [statement(*names)] + ["}"] * len(loops)


def product_kernel(heights, a_type, b_type):
    """y[M, 16] = x[M, K] times w, M the sum of the heights: a tile for each height, one after the other."""
    n = WORD[a_type]
    k, m = 16 * n * BLOCKS, sum(heights)
    acc_type, zero = ("f32", "0.0") if a_type == "bf16" else ("i32", "0i32")
    t = Text()
    start = 0
    for i, rows in enumerate(heights):
        acc, tile, columns = f"acc{i}", (rows, "tile"), (COLUMNS, "vector")
        t.lines += ["if 0 <= 1 {", f"alloc {acc}: {acc_type}[{rows * COLUMNS}] tile"]
        t.nest([tile, columns], lambda r, l: f"{acc}[{r}*16 + {l}] = {zero}")
        t.lines.append(f"for k{i} in 0..{BLOCKS} {{")

        def left(r, w, q):
            return f"{acc_type}(x[{start * k} + k{i}*{16 * n} + {r}*{k} + {w}*{n} + {q}])"

        def right(w, q, l):
            return f"{acc_type}(w[k{i}*{256 * n} + {w}*{16 * n} + {l}*{n} + {q}])"

        if a_type == "bf16":
            t.nest([tile, columns], lambda r, l: "\n".join(
                [f"alloc sum{i}: f32[2] reg", f"for q{i} in 0..2 unroll {{", f"sum{i}[q{i}] = 0.0",
                 f"for w{i} in 0..16 {{",
                 f"sum{i}[q{i}] = fma({left(r, f'w{i}', f'q{i}')}, {right(f'w{i}', f'q{i}', l)}, sum{i}[q{i}])",
                 "}", "}", f"{acc}[{r}*16 + {l}] = {acc}[{r}*16 + {l}] + (sum{i}[0] + sum{i}[1])"]))
        else:
            t.nest([tile, (16, ""), (4, ""), columns],
                   lambda r, w, q, l: f"{acc}[{r}*16 + {l}] = {acc}[{r}*16 + {l}] + {left(r, w, q)}*{right(w, q, l)}")
        t.lines.append("}")
        t.nest([tile, columns], lambda r, l: f"y[{start * COLUMNS} + {r}*16 + {l}] = {acc}[{r}*16 + {l}]")
        t.lines.append("}")
        start += rows
    body = "\n".join(t.lines)
    n_x, n_w, n_y = m * k, k * COLUMNS, m * COLUMNS
    return f"""kernels "net" {{
buf x: {a_type}[{n_x}] input 0
buf w: {b_type}[{n_w}] input 1
buf y: {acc_type}[{n_y}] output 0
input "x": {a_type}[{m}, {k}] = x
input "w": {b_type}[{n_w}] = w
output "y": {acc_type}[{m}, {COLUMNS}] = y
node 0 MatMulInteger "product"
kernel k0(x: {a_type}[{n_x}] param noalias, w: {b_type}[{n_w}] param noalias, y: {acc_type}[{n_y}] param written noalias) {{
{body}
}}
entry {{
node 0
call k0(x, w, y)
}}
}}
"""


def save(path, array, t):
    """bf16 is stored from f32 by its upper half: the arrays hold nothing that this would round."""
    if t == "bf16":
        tensor = onnx.TensorProto(data_type=onnx.TensorProto.BFLOAT16, dims=array.shape,
                                  raw_data=(array.view(np.uint32) >> 16).astype(np.uint16).tobytes())
    else:
        tensor = numpy_helper.from_array(array)
    with open(path, "wb") as f:
        f.write(tensor.SerializeToString())


def draw(random, t, shape):
    if t == "bf16":
        return (random.standard_normal(shape).astype(np.float32).view(np.uint32) & 0xFFFF0000).view(np.float32)
    lo, hi = (0, 256) if t == "u8" else (-128, 128)
    a = random.integers(lo, hi, shape).astype(NUMPY[t])
    a.ravel()[:shape[1]] = lo       # the largest products
    return a


def write_kernel(ctx, heights, a_type, b_type):
    folder = ctx.new_dir()
    path = os.path.join(folder, "product.ir")
    with open(path, "w") as f:
        f.write(product_kernel(heights, a_type, b_type))
    return folder, path


def cases(ctx):
    def product(heights, types, options):
        def run():
            folder, path = write_kernel(ctx, heights, *types)
            random, n = np.random.default_rng(len(heights)), WORD[types[0]]
            x = draw(random, types[0], (sum(heights), 16 * n * BLOCKS))
            w = draw(random, types[1], (16 * n * BLOCKS, COLUMNS))
            save(os.path.join(folder, "input_0.pb"), x, types[0])
            # n rows of w together, column by column
            words = np.ascontiguousarray(w.reshape(-1, n, COLUMNS).swapaxes(1, 2)).ravel()
            save(os.path.join(folder, "input_1.pb"), words, types[1])

            def run_with(*how):
                ctx.smelt("run", path, "--inputs", folder, "--outputs", folder, *how)
                with open(os.path.join(folder, "output_0.pb"), "rb") as f:
                    return numpy_helper.to_array(onnx.TensorProto.FromString(f.read()))

            got, want = run_with(*options), x.astype(np.float64) @ w.astype(np.float64)
            if types[0] != "bf16":
                check((got == want).all(), f"{(got != want).sum()} of {want.size} elements differ")
                return
            check((got == run_with("--backend=interpret")).all(), "not the interpreter's bits")
            # 96 products of numbers around 1, each sum rounded to 24 bits
            check(np.abs(got - want).max() < 1e-5, f"differs by {np.abs(got - want).max()}")
        return run

    def instructions(types):
        def run():
            _, path = write_kernel(ctx, [16], *types)
            asm = [ctx.smelt("compile", path, "--emit=asm", "--target=x86_64-linux-gnu", f"--cpu={cpu}", "-o", "-").stdout
                   for cpu in ("sapphirerapids", "cascadelake")]
            for word in (DOTS[types], "tileloadd", "tilestored", "tilerelease", "syscall"):
                check(word in asm[0], f"no {word} for sapphirerapids")
                check(word not in asm[1], f"{word} for cascadelake, which has no AMX")
        return run

    def refused():
        folder, path = write_kernel(ctx, [16], "u8", "i8")
        with open(path) as f:
            text = f.read().replace("v3*4 + v4", "v3*8 + v4")     # strides that no form has
        with open(path, "w") as f:
            f.write(text)
        done = ctx.smelt("compile", path, "--emit=kernel", "-o", "-", expect=1)
        check("tile loop" in done.stderr, f"message: {done.stderr}")

    backends = {"interpret": ["--backend=interpret"], "llvm": [], "c": ["--backend=c"],
                "llvm_O0": ["-O0"], "llvm_avx2": ["--cpu=haswell"]}
    made = []
    for types in DOTS:
        sign = "_".join(types)
        made += [Case(f"{sign}.{b}", product([16], types, o), "nodev" if b == "interpret" else "cpu")
                 for b, o in backends.items()]
        made.append(Case(f"{sign}.instructions", instructions(types)))
    for heights in ([1], [14, 14], [16, 5], [7, 16, 3]):
        made += [Case(f"heights_{'_'.join(map(str, heights))}.{b}", product(heights, ("u8", "i8"), backends[b]), "cpu")
                 for b in ("interpret", "llvm")]
    return made + [Case("other_form_is_refused", refused)]
