"""ImageDecoder: what Pillow says of each format and kind of pixels, through a compiled model that is linked with
libsmelt_image, and through `smelt run`; hostile files under the sanitizers; what is refused."""
import io
import os
import struct

import numpy as np
import onnx
from onnx import TensorProto, helper

from harness import Case, Skip, check

STRICT = ("-std=c11", "-D_POSIX_C_SOURCE=200809L", "-D_DEFAULT_SOURCE", "-Wall", "-Wextra", "-Werror", "-O1", "-g")
MODULES = ("libtiff-4", "libjpeg", "libpng", "libwebp", "libopenjp2")
FORMATS = ("RGB", "BGR", "Grayscale")


def picture(height=23, width=37):
    """A smooth picture with an edge and some noise, so that every decoder has something to do."""
    y, x = np.mgrid[0:height, 0:width]
    channels = [x * 6 % 256, y * 9 % 256, (x + y) * 4 % 256]
    noise = np.random.default_rng(7).integers(0, 8, (height, width, 3))
    rgb = np.clip(np.stack(channels, axis=2) + noise, 0, 255).astype(np.uint8)
    rgb[5:12, 8:20] = (250, 10, 60)
    return rgb


def saved(image, format_, **options):
    f = io.BytesIO()
    image.save(f, format_, **options)
    return f.getvalue()


# ---- files that Pillow does not write --------------------------------------------------------------------------------

def bmp(header, at_pixels, pixels):
    return b"BM" + struct.pack("<IHHI", at_pixels + len(pixels), 0, 0, at_pixels) + header + pixels


def bmp_header(height, width, bits, compression=0, colors=0):
    return struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, compression, 0, 0, 0, colors, 0)


def rows_of(array, reverse):
    """Rows of bytes, padded to words."""
    rows = array[::-1] if reverse else array
    return b"".join(r.tobytes() + b"\0" * (-len(r.tobytes()) % 4) for r in rows)


def bitmaps(rgb):
    """{name: (file, pixels)} of BMP's other forms."""
    height, width, _ = rgb.shape
    out = {"down.bmp": (bmp(bmp_header(-height, width, 24), 54, rows_of(rgb[:, :, ::-1], False)), rgb)}
    fields = (rgb >> (3, 2, 3)).astype(np.uint16)
    words = (fields[..., 0] << 11 | fields[..., 1] << 5 | fields[..., 2]).astype("<u2")
    masks = struct.pack("<III", 0xf800, 0x7e0, 0x1f)
    out["565.bmp"] = (bmp(bmp_header(height, width, 16, 3) + masks, 66, rows_of(words, True)),
                      (fields.astype(np.uint32) * 255 // (31, 63, 31)).astype(np.uint8))
    palette = np.arange(48, dtype=np.uint8).reshape(16, 3) * 5
    colors = b"".join(bytes(c[::-1]) + b"\0" for c in palette)
    index = np.zeros((3, 9), np.uint8)          # bottom row first: a run, pixels as they are, a jump, the end
    runs8 = bytes([4, 7, 0, 5, 1, 2, 3, 4, 5, 0, 0, 0, 0, 2, 2, 1, 3, 9, 0, 1])
    index[2], index[0, 2:5] = [7] * 4 + [1, 2, 3, 4, 5], 9
    out["rle8.bmp"] = (bmp(bmp_header(3, 9, 8, 1, 16) + colors, 118, runs8), palette[index])
    runs4 = bytes([4, 0x78, 0, 5, 0x12, 0x34, 0x50, 0, 0, 0, 0, 2, 2, 1, 3, 0x99, 0, 1])
    index[2] = [7, 8, 7, 8, 1, 2, 3, 4, 5]
    out["rle4.bmp"] = (bmp(bmp_header(3, 9, 4, 2, 16) + colors, 118, runs4), palette[index])
    short = struct.pack("<IHHHH", 12, 9, 3, 1, 8) + b"".join(bytes(c[::-1]) for c in palette)
    out["os2.bmp"] = (bmp(short, 74, rows_of(index, True)), palette[index])
    return out


def portable(rgb):
    """{name: (file, pixels)} of PNM's forms: text, comments, other largest values."""
    small = rgb[:3, :5]
    gray = small[:, :, 0]
    numbers = " ".join(str(v) for v in small.reshape(-1))
    wide = gray.astype(np.uint32) * 4
    bits = (gray > 100).astype(np.uint8)
    ten = ((wide * 255 + 511) // 1023).astype(np.uint8)
    return {"p3.ppm": (f"P3 # colours\n5 3\n# more\n255\n{numbers}\n".encode(), small),
            "p2.pgm": (b"P2 5 3 1023\n" + " ".join(map(str, wide.reshape(-1))).encode() + b"\n", ten[..., None].repeat(3, 2)),
            "p5.pgm": (b"P5 5 3 1023\n" + wide.astype(">u2").tobytes(), ten[..., None].repeat(3, 2)),
            "p1.pbm": (b"P1 5 3\n" + b"".join(bytes(48 + r) + b"\n" for r in bits),
                       (255 * (1 - bits)).astype(np.uint8)[..., None].repeat(3, 2))}


def collection():
    """{name: (file, pixels)}: every format, in the kinds that it has, as RGB."""
    from PIL import Image
    rgb = picture()
    image = Image.fromarray(rgb)
    alpha = image.copy()
    alpha.putalpha(Image.fromarray(np.ascontiguousarray(rgb[:, :, 0])))
    deep = rgb[:, :, 1].astype(np.uint16) * 257 ^ 0x35
    kinds = {"rgb": image, "l": image.convert("L"), "p": image.convert("P"), "1": image.convert("1"), "rgba": alpha,
             "la": alpha.convert("LA"), "cmyk": image.convert("CMYK")}
    how = {"bmp": [("rgb", {}), ("l", {}), ("p", {}), ("1", {}), ("rgba", {})],
           "jpeg": [("rgb", {}), ("rgb", {"quality": 95, "subsampling": 0}), ("rgb", {"progressive": True}), ("l", {}),
                    ("cmyk", {}), ("rgb", {"subsampling": 1})],
           "jpeg2000": [("rgb", {}), ("l", {}), ("rgba", {}), ("rgb", {"no_jp2": True}), ("la", {})],
           "png": [("rgb", {}), ("l", {}), ("p", {}), ("p", {"transparency": 3}), ("1", {}), ("rgba", {}), ("la", {})],
           "tiff": [("rgb", {}), ("rgb", {"compression": "tiff_lzw"}), ("rgb", {"compression": "tiff_deflate"}), ("l", {}),
                    ("p", {}), ("1", {"compression": "group4"}), ("rgba", {}), ("rgb", {"compression": "packbits"}),
                    ("rgb", {"big_tiff": True})],
           "webp": [("rgb", {}), ("rgb", {"lossless": True}), ("rgba", {"lossless": True, "exact": True})],
           "ppm": [("rgb", {}), ("l", {}), ("1", {})]}
    out = {}
    for format_, kind in ((f, k) for f in how for k in how[f]):
        data = saved(kinds[kind[0]], format_, **kind[1])
        name = "_".join([kind[0], *(f"{k}-{v}" for k, v in kind[1].items())]) + "." + format_
        out[name] = data, np.array(Image.open(io.BytesIO(data)).convert("RGB"))
    out["16.png"] = saved(Image.fromarray(deep), "png"), (deep >> 8).astype(np.uint8)[..., None].repeat(3, 2)
    out.update(bitmaps(rgb))
    out.update(portable(rgb))
    return out


def as_pixels(rgb, pixel_format):
    if pixel_format == "BGR":
        return rgb[:, :, ::-1]
    if pixel_format == "RGB":
        return rgb
    sums = rgb.astype(np.uint32) @ np.array([19595, 38470, 7471], np.uint32)
    return ((sums + 32768) >> 16).astype(np.uint8)[..., None]


def decoder_model(path, pixel_format, n="n", behind=()):
    """ImageDecoder, and perhaps nodes behind it that make the output."""
    nodes = [helper.make_node("ImageDecoder", ["data"], ["pixels"], pixel_format=pixel_format), *behind]
    last = nodes[-1].output[0]
    kind = TensorProto.FLOAT if behind else TensorProto.UINT8
    graph = helper.make_graph(nodes, "decoder", [helper.make_tensor_value_info("data", TensorProto.UINT8, [n])],
                              [helper.make_tensor_value_info(last, kind, None)])
    onnx.save(helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 22)]), path)


# ---- the cases -------------------------------------------------------------------------------------------------------

def cases(ctx):
    notes = ctx.notes.setdefault("images", {})

    def files():
        if "files" not in notes:
            try:
                notes["files"] = collection()
            except ImportError:
                raise Skip("Pillow is not installed (tests/requirements.txt)") from None
        return notes["files"]

    def flags():
        done = ctx.run(ctx.tool("pkg-config"), "--cflags", "--libs", *MODULES, expect=None)
        if done.returncode:
            raise Skip("not installed: " + done.stderr.splitlines()[-1])
        return done.stdout.split()

    def program(pixel_format, backend, *sanitizer):
        """tests/library/decode.c with a model and all sources of the decoders."""
        folder, libraries = ctx.new_dir(), flags()
        model = os.path.join(folder, "m.onnx")
        decoder_model(model, pixel_format)
        suffix = {"llvm": ".a", "c": ".c"}[backend]
        code = os.path.join(folder, "net" + suffix)
        ctx.smelt("compile", model, "--name=net", "-o", code, *(["--emit=c"] if backend == "c" else []))
        sources = [os.path.join(ctx.path("runtime", *d), f) for d in ((), ("image",))
                   for f in sorted(os.listdir(ctx.path("runtime", *d))) if f.endswith(".c")]
        made = os.path.join(folder, "decode")
        ctx.run(ctx.tool("gcc"), *STRICT, *sanitizer, f"-I{folder}", f"-I{ctx.include}", ctx.path("tests", "library", "decode.c"),
                code, *sources, *libraries, "-lm", "-pthread", "-o", made)
        return folder, made

    def write_files(folder, chosen):
        paths = []
        for name in chosen:
            paths.append(os.path.join(folder, name))
            with open(paths[-1], "wb") as f:
                f.write(files()[name][0])
        return paths

    def read_result(path):
        with open(path + ".out", "rb") as f:
            dims = [int(v) for v in f.readline().split()]
            return np.frombuffer(f.read(), np.uint8).reshape(dims)

    def agrees(name, got, want):
        check(got.shape == want.shape, f"{name}: shape {got.shape}, expected {want.shape}")
        worst = int(np.abs(got.astype(int) - want.astype(int)).max())
        check(worst == 0, f"{name}: {(got != want).mean():.1%} of the bytes differ, by {worst} at most")

    def formats(pixel_format, backend):
        folder, made = program(pixel_format, backend)
        paths = write_files(folder, files())
        ctx.run(made, "files", *paths)
        for path in paths:
            name = os.path.basename(path)
            agrees(name, read_result(path), as_pixels(files()[name][1], pixel_format))
        return f"{len(paths)} files"

    def hostile(what):
        """Under AddressSanitizer and UBSan, in the code of the C backend as well."""
        folder, made = program("Grayscale", "c", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
        chosen = [n for n in files() if len(files()[n][0]) < 6000]
        limits = {"ASAN_OPTIONS": "max_allocation_size_mb=1024:allocator_may_return_null=1"}
        ctx.run(made, *what, *write_files(folder, chosen), env=limits)
        return f"{len(chosen)} files"

    def no_images():
        """Nothing, text, headers that lie about sizes, and more pixels than the limit: no pixels, and no error."""
        folder, made = program("RGB", "llvm")
        png = bytearray(files()["rgb.png"][0])
        png[16:24] = struct.pack(">II", 60000, 60000)
        lies = {"text": b"hello", "one": b"B", "large.png": bytes(png), "large.ppm": b"P6 100000 100000 255\n", "huge.pgm":
                b"P5 99999999999999999999 1 255\n", "zero.pgm": b"P5 0 5 255\n",
                "large.bmp": bmp(bmp_header(2**31 - 1, 2**31 - 1, 24), 54, b""), "short.bmp": b"BM" + b"\0" * 20}
        for name, data in lies.items():
            with open(os.path.join(folder, name), "wb") as f:
                f.write(data)
        ctx.run(made, "files", *(os.path.join(folder, n) for n in lies))
        for name in lies:
            check(read_result(os.path.join(folder, name)).shape == (0, 0, 3), name)

    def inside_a_model(backend):
        """The pixels as a network wants them: through smelt run, with operators behind the decoder."""
        folder = ctx.new_dir()
        name = "rgb.png"
        data, rgb = files()[name]
        behind = [helper.make_node("Cast", ["pixels"], ["f"], to=TensorProto.FLOAT),
                  helper.make_node("Transpose", ["f"], ["t"], perm=[2, 0, 1]),
                  helper.make_node("ReduceSum", ["t"], ["y"], keepdims=0)]
        model = os.path.join(folder, "m.onnx")
        decoder_model(model, "BGR", behind=behind)
        np.save(os.path.join(folder, "data.npy"), np.frombuffer(data, np.uint8))
        done = ctx.smelt("run", model, f"--backend={backend}", "--input", f"data={folder}/data.npy", "--outputs", folder,
                         "--output-format=npy", "--verify=2", expect=None)
        if done.returncode == 3 and "were missing" in done.stderr:
            raise Skip("smelt was built without libsmelt_image")
        check(done.returncode == 0, done.stderr)
        got = np.load(os.path.join(folder, "output_0.npy"))
        check(got == rgb.astype(np.float64).sum(), f"{got}, expected {rgb.sum()}")

    def refused():
        """Pixel formats that do not exist; the header of a compiled model says what is to be linked."""
        folder = ctx.new_dir()
        model = os.path.join(folder, "m.onnx")
        decoder_model(model, "YUV")
        done = ctx.smelt("check", model, expect=1)
        check("pixel_format is 'YUV'" in done.stderr, done.stderr)
        decoder_model(model, "RGB", n=4)
        ctx.smelt("compile", model, "--name=net", "-o", os.path.join(folder, "libnet.a"))
        header = open(os.path.join(folder, "net.h"), encoding="utf-8").read()
        check("smelt_image_size" in header and "-lsmelt_image" in header, header)

    return [*(Case(f"formats.{p}.{b}", lambda p=p, b=b: formats(p, b), "cpu") for p in FORMATS for b in ("llvm", "c")),
            Case("cut_off", lambda: hostile(["cut"]), "cpu"), Case("bits_turned", lambda: hostile(["flip", "200"]), "cpu"),
            Case("no_images", no_images, "cpu"), Case("refused", refused),
            *(Case(f"inside_a_model.{b}", lambda b=b: inside_a_model(b), "cpu") for b in ("llvm", "c", "interpret"))]
