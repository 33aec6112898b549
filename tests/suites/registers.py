"""What has to stay in registers does: the sums of a product whose rows end within a vector are stored under a mask, but
read without one, since a masked load would keep the whole tile in memory."""
import os

from harness import Case, check

GRAPH = """graph "t" {
  main {
    input %x: f32[33, 64]
    const %w: f32[64, 20] = random 1
    %y = MatMul(%x, %w)
    return %y
  }
}
"""


def cases(ctx):
    def masked_edge():
        folder = ctx.new_dir()
        path = os.path.join(folder, "t.ir")
        with open(path, "w") as f:
            f.write(GRAPH)
        text = ctx.smelt("compile", path, "--emit=llvm", "--target=x86_64-linux-gnu", "--cpu=x86-64-v4", "-o", "-").stdout
        check("llvm.masked.store" in text, "the store of 20 columns has no mask: the case tests nothing")
        check("llvm.masked.load" not in text, "sums are loaded under a mask")
    return [Case("masked_edge", masked_edge, "nodev")]
