"""Convolutions between others, in blocks of channels: groups of every size, channels that fill no vector, dilation beyond
the map. onnxruntime judges; interpreter, LLVM and C give the same bytes, on one thread and on two.
"""
import os
import re

import numpy as np
import onnx
import onnx.parser

from harness import Case, check, text_table
from model_files import smelt_run
from suites.blocks import feeds_of, judge

HEAD = '<ir_version: 9, opset_import: ["" : 18]> channels '
RUNS = (("llvm", 2), ("c", 1), ("interpret", 1))
CPUS = ("haswell", "x86-64-v2")

# name | channels in and out, groups, height and width | attributes of the convolution | what its schedule has to say
NETS = {name: ([int(n) for n in sizes.split()], attributes, vectors) for name, sizes, attributes, vectors in text_table("""
groups_of_8 | 48 48 6 12 15 | pads = [1, 1, 1, 1] | v16
groups_of_8_strided | 40 40 5 13 11 | pads = [1, 1, 1, 1], strides = [2, 2] | v16
groups_of_4 | 32 32 8 9 10 | pads = [1, 1, 1, 1] | v16
groups_of_2 | 32 32 16 9 21 | pads = [1, 1, 1, 1] | v16
groups_of_4_long | 32 32 8 9 37 | pads = [1, 3, 1, 1] | v16
groups_of_4_from_6 | 48 32 8 7 9 | pads = [1, 1, 1, 1] | v16
groups_of_5 | 45 45 9 6 11 | pads = [1, 1, 1, 1] | v16
groups_of_10 | 80 80 8 5 9 | pads = [1, 1, 1, 1] | v16
groups_of_12_strided | 60 60 5 9 13 | pads = [1, 1, 1, 1], strides = [2, 2] | v16
groups_of_16 | 48 48 3 8 29 | pads = [1, 1, 1, 1] | v16
groups_of_20 | 60 60 3 7 9 | pads = [1, 1, 1, 1] | v16
groups_of_24 | 48 48 2 9 14 | pads = [1, 1, 1, 1] | v16
groups_of_24_more | 72 72 3 5 29 | pads = [1, 1, 1, 1] | v16
groups_of_40 | 120 80 2 5 9 | pads = [1, 1, 1, 1] | v16
groups_of_32 | 64 64 2 7 7 | pads = [1, 1, 1, 1] | v16
groups_widen | 32 64 4 8 9 | | v16
groups_of_2_from_1 | 16 32 16 8 9 | pads = [1, 1, 1, 1] | v16
groups_of_3 | 18 18 6 8 9 | pads = [1, 1, 1, 1] | v16
dilated | 32 48 1 7 9 | pads = [6, 6, 6, 6], dilations = [6, 6] | v16
dilated_strided | 32 32 1 14 9 | pads = [9, 8, 9, 8], dilations = [9, 8], strides = [2, 1] | v16
dilated_groups | 32 32 4 9 17 | pads = [8, 8, 8, 8], dilations = [8, 8] | v16
taps_outside | 32 32 1 9 10 | pads = [12, 9, 12, 9], dilations = [12, 9] | v16
depthwise | 40 40 40 9 10 | pads = [1, 1, 1, 1] | v16
""")}

# name: nodes after a convolution `r` to 40 channels, channels of y, what the compiler has to say or not
HEADS = {
    "head_of_37": ("y = Conv <pads = [1, 1, 1, 1]> (r, w, b)", 37, 3, r"head \(Conv\): (t\d+x\d+x[123]|w\d_t\d+x\d)_v16"),
    "head_of_21": ("y = Conv (r, w, b)", 21, 1, r"head \(Conv\): t1x1\dx2_v16"),
    "head_of_3": ("y = Conv <pads = [2, 2, 2, 2]> (r, w, b)", 3, 5, r"head \(Conv\): t1x3x\d_v16, right factor in place"),
    "reflected": ("""p = Constant <value = int64[8] {0, 0, 1, 1, 0, 0, 1, 1}> ()
        q = Pad <mode = "reflect"> (r, p)
        y = Conv (q, w, b)""", 3, 3, r"head \(Conv\): t1x3x\d_v16, right factor in place"),
    "parts": ("""sizes = Constant <value = int64[3] {13, 18, 9}> ()
        c, d, e = Split <axis = 1> (r, sizes)
        f = Conv <group = 18, pads = [1, 1, 1, 1]> (d, w_d)
        g = Concat <axis = 1> (c, f, e)
        y = Conv (g, w, b)""", 21, 1, r"f \(Conv\): t1x\d+x1_v16"),
}


def head_of(nodes, channels, taps):
    model = onnx.parser.parse_model(HEAD + f"""(float[2,7,19,32] x) => (float[2,{channels},h,w] y) {{
        a = Conv (x, w_a)
        r = Relu (a)
        {nodes}
    }}""")
    model.graph.node[-1].name = "head"
    rng = np.random.default_rng(3)
    for node in model.graph.node[:-1]:
        node.name = node.output[0]
    shapes = {"w_a": (40, 7, 1, 1), "w": (channels, 40, taps, taps), "b": (channels,)}
    if "w_d" in nodes:
        shapes["w_d"] = (18, 1, 3, 3)
    for name, shape in shapes.items():
        w = rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
        model.graph.initializer.append(onnx.numpy_helper.from_array(w.astype(np.float32), name))
    return model


def model_of(n_in, n_out, groups, height, width, attributes):
    attributes = f"<group = {groups}{', ' if attributes else ''}{attributes}>"
    text = f"""(float[2,6,{height},{width}] x) => (float[2,5,h,w] y) {{
        a = Conv (x, w_a, b_a)
        r = Relu (a)
        c = Conv {attributes} (r, w_c, b_c)
        s = Relu (c)
        y = Conv (s, w_y)
    }}"""
    model = onnx.parser.parse_model(HEAD + text)
    rng = np.random.default_rng(3)
    shapes = {"w_a": (n_in, 6, 1, 1), "b_a": (n_in,), "w_c": (n_out, n_in // groups, 3, 3), "b_c": (n_out,),
              "w_y": (5, n_out, 1, 1)}
    for name, shape in shapes.items():
        w = rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
        model.graph.initializer.append(onnx.numpy_helper.from_array(w.astype(np.float32), name))
    return model


def cases(ctx):
    def agree(model, shape, said_by):
        """onnxruntime's answer on every backend; said_by(trace) checks how the compiler went about it."""
        path = os.path.join(ctx.new_dir(), "net.onnx")
        onnx.save(model, path)
        said_by(ctx.smelt("compile", path, "--emit=program", "-o", os.devnull, "--trace=choose_schedules",
                          "--target=x86_64-linux-gnu", "--cpu=x86-64-v4").stderr)
        feeds = feeds_of(model, [shape])
        want = judge(path, feeds)["y"]
        first = smelt_run(ctx, path, feeds, "--backend=llvm", "--threads=1")["y"]
        check(np.allclose(first, want, rtol=1e-4, atol=1e-5), f"off by {np.abs(first - want).max()}")
        for backend, threads in RUNS:
            got = smelt_run(ctx, path, feeds, f"--backend={backend}", f"--threads={threads}")["y"]
            check(got.tobytes() == first.tobytes(), f"differs with {backend} on {threads} threads")
        for cpu in CPUS:
            got = smelt_run(ctx, path, feeds, f"--cpu={cpu}")["y"]
            check(np.allclose(got, want, rtol=1e-4, atol=1e-5), f"{cpu}: off by {np.abs(got - want).max()}")

    def net(name):
        def run():
            sizes, attributes, vectors = NETS[name]

            def has_vectors(said):
                tiles = re.findall(r": t\d+x\d+x\d+_(v\d+)", said)
                check(len(tiles) == 3 - (not vectors) and (vectors or "v16") == tiles[len(tiles) // 2], f"tiles {tiles}:\n{said}")

            agree(model_of(*sizes, attributes), (2, 6, sizes[3], sizes[4]), has_vectors)
        return run

    def head(name):
        def run():
            *parts, pattern = HEADS[name]
            agree(head_of(*parts), (2, 7, 19, 32), lambda said: check(re.search(pattern, said), f"no {pattern}:\n{said}"))
        return run

    def stray_lanes():
        """A part's read leaves all lanes out for the blocks of other parts, where it is far outside of its tensor: it must
        not read there, not even under a mask, since that takes long where there is no memory."""
        path = os.path.join(ctx.new_dir(), "net.onnx")
        onnx.save(head_of(*HEADS["parts"][:3]), path)
        text = os.path.join(ctx.new_dir(), "net.ll")
        ctx.smelt("compile", path, "--emit=llvm", "-o", text, "--target=x86_64-linux-gnu", "--cpu=x86-64-v4")
        with open(text, encoding="utf-8") as f:
            check(re.search(r"select i1 .*, ptr %nowhere", f.read()), "no address is chosen by the mask")

    return [*(Case(name, net(name), "cpu") for name in NETS), *(Case(name, head(name), "cpu") for name in HEADS),
            Case("stray_lanes_read_nothing", stray_lanes, "cpu")]
