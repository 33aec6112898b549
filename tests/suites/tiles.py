"""Matrix tiles (ir/tile.h): byte products of every pair of signs and of several heights, as marked loops on every
backend, judged by numpy; and that AMX machines get their instructions and others loops."""
import os

import numpy as np
import onnx
from onnx import numpy_helper

from harness import Case, check

DEPTH, COLUMNS, BLOCKS = 64, 16, 3     # of one product; products that are summed
NUMPY = {"u8": np.uint8, "i8": np.int8}
DOTS = {("u8", "u8"): "tdpbuud", ("u8", "i8"): "tdpbusd", ("i8", "u8"): "tdpbsud", ("i8", "i8"): "tdpbssd"}


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
    k, m = DEPTH * BLOCKS, sum(heights)
    t = Text()
    start = 0
    for i, rows in enumerate(heights):
        acc, tile = f"acc{i}", (rows, "tile")
        t.lines += ["if 0 <= 1 {", f"alloc {acc}: i32[{rows * COLUMNS}] tile"]
        t.nest([tile, (COLUMNS, "vector")], lambda r, l: f"{acc}[{r}*16 + {l}] = 0i32")
        t.lines.append(f"for k{i} in 0..{BLOCKS} {{")
        t.nest([tile, (16, ""), (4, ""), (COLUMNS, "vector")],
               lambda r, w, q, l: f"{acc}[{r}*16 + {l}] = {acc}[{r}*16 + {l}] + "
                                  f"i32(x[{start * k} + k{i}*64 + {r}*{k} + {w}*4 + {q}])*"
                                  f"i32(w[k{i}*1024 + {w}*64 + {l}*4 + {q}])")
        t.lines.append("}")
        t.nest([tile, (COLUMNS, "vector")],
               lambda r, l: f"y[{start * COLUMNS} + {r}*16 + {l}] = {acc}[{r}*16 + {l}]")
        t.lines.append("}")
        start += rows
    body = "\n".join(t.lines)
    n_x, n_w, n_y = m * k, k * COLUMNS, m * COLUMNS
    return f"""kernels "net" {{
buf x: {a_type}[{n_x}] input 0
buf w: {b_type}[{n_w}] input 1
buf y: i32[{n_y}] output 0
input "x": {a_type}[{m}, {k}] = x
input "w": {b_type}[{n_w}] = w
output "y": i32[{m}, {COLUMNS}] = y
node 0 MatMulInteger "product"
kernel k0(x: {a_type}[{n_x}] param noalias, w: {b_type}[{n_w}] param noalias, y: i32[{n_y}] param written noalias) {{
{body}
}}
entry {{
node 0
call k0(x, w, y)
}}
}}
"""


def save(path, array):
    with open(path, "wb") as f:
        f.write(numpy_helper.from_array(array).SerializeToString())


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
            draw = np.random.default_rng(len(heights))
            ranges = [(0, 256) if t == "u8" else (-128, 128) for t in types]
            x = draw.integers(*ranges[0], (sum(heights), DEPTH * BLOCKS)).astype(NUMPY[types[0]])
            w = draw.integers(*ranges[1], (DEPTH * BLOCKS, COLUMNS)).astype(NUMPY[types[1]])
            x[0], w[:, 0] = ranges[0][0], ranges[1][0]      # the largest products
            save(os.path.join(folder, "input_0.pb"), x)
            # four rows of w, column by column
            save(os.path.join(folder, "input_1.pb"), np.ascontiguousarray(w.reshape(-1, 4, COLUMNS).swapaxes(1, 2)).ravel())
            ctx.smelt("run", path, "--inputs", folder, "--outputs", folder, *options)
            with open(os.path.join(folder, "output_0.pb"), "rb") as f:
                got = numpy_helper.to_array(onnx.TensorProto.FromString(f.read()))
            want = x.astype(np.int64) @ w.astype(np.int64)
            check((got == want).all(), f"{(got != want).sum()} of {want.size} elements differ")
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
