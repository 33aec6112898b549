#!/usr/bin/env python3
"""Makes the hostile and broken model files that run_bad.py feeds to the compiler.

Every fixture is a function with a row above it: name, expected exit code and a pattern that the
messages must match (encode.py has the rest). The function gets an empty folder and returns the
model's bytes, which are written there as model.onnx, or a path to use instead. Here are encoding
and tensors; external_data.py, structure.py, shapes.py and names.py have the others.

    make_fixtures.py FOLDER [NAME...]    writes them, each in a folder of its own
"""
import os
import random
import socket
import struct
import sys

from encode import (FIXTURES, FLOAT, INT4, INT64, STRING, attribute, blob, fixture, graph, make, model, node,
                    num, relu, section, small_model, tensor, varint)


# ---- encoding ----

section("encoding")

@fixture("small_good", 0, r"^$")
def _(d):
    return small_model()


@fixture("empty_file", 1, r"empty file")
def _(d):
    return b""


@fixture("cut_in_graph", 1,
         r"byte \d+: .*ModelProto\.graph has a length of \d+, but only \d+ bytes")
def _(d):
    return small_model()[:-3]


@fixture("varint_11_bytes", 1, r"byte 1: varint too long")
def _(d):
    return b"\x08" + b"\x80" * 10 + b"\x01"


@fixture("varint_over_64_bits", 1, r"byte 1: varint too long")
def _(d):
    return b"\x08" + b"\xff" * 9 + b"\x02"


@fixture("varint_cut", 1, r"a varint goes past the end")
def _(d):
    return small_model()[2:] + b"\x08\x80"


@fixture("length_2_63", 1, r"has a length of 9223372036854775808, but only")
def _(d):
    return num(1, 8) + b"\x3a" + varint(1 << 63) + b"ab"


@fixture("length_2_64_minus_1", 1, r"has a length of 18446744073709551615")
def _(d):
    return b"\x3a" + varint(-1) + b"ab"


for _wire, _text in [(3, "a group"), (4, "a group"), (6, "reserved"), (7, "reserved")]:
    @fixture(f"wire_type_{_wire}", 1, rf"wire type {_wire}, .*{_text}")
    def _(d, wire=_wire):
        return small_model() + varint(30 << 3 | wire)


@fixture("field_number_0", 1, r"field number 0")
def _(d):
    return small_model() + b"\x00\x01"


@fixture("wrong_wire_type", 1, r"ModelProto\.graph has wire type 0, expected 2")
def _(d):
    return num(1, 8) + num(7, 3)


@fixture("wrong_wire_type_singular_packed", 1, r"ModelProto\.ir_version has wire type 2")
def _(d):
    return blob(1, b"\x08")


@fixture("packed_and_unpacked", 0, r"^$")
def _(d):
    packed = blob(1, varint(1) + varint(2)) + num(2, FLOAT) + blob(8, "w") + blob(9, b"\0" * 8)
    floats = b"".join(varint(4 << 3 | 5) + struct.pack("<f", f) for f in (1, 2))
    t2 = tensor("v", raw=None, more=floats)
    return model(graph([node("Add", ["x", "w"], ["t"]), node("Add", ["t", "v"], ["y"])],
                       initializers=[packed, t2]))


@fixture("packed_floats_cut", 1, r"TensorProto\.float_data has 7 packed bytes, no multiple of 4")
def _(d):
    return model(graph([relu()], initializers=[tensor("w", raw=None, more=blob(4, b"\0" * 7))]))


@fixture("packed_varint_cut", 1, r"packed TensorProto\.int64_data")
def _(d):
    t = tensor("w", dtype=INT64, raw=None, more=blob(7, b"\x01\x80"))
    return model(graph([relu()], initializers=[t]))


@fixture("unknown_fields_million", 0, r"^$", slow=True)
def _(d):
    return small_model() + num(1000, 5) * 1000000


@fixture("unknown_field_2_gib", 0, r"^$")
def _(d):
    path = os.path.join(d, "model.onnx")  # sparse: takes no space on disk
    with open(path, "wb") as f:
        f.write(small_model() + varint(1000 << 3 | 2) + varint(2 << 30))
        f.truncate(f.tell() + (2 << 30))
    return path


FIXTURES[-1]["mib"] = 4096  # address space of the mapping; the memory taken is small


@fixture("weights_3_gib", 0, r"^$", mib=4096)
def _(d):
    n = 3 << 30  # the last field of the last message of the file, and a hole on disk
    head = num(2, 2) + blob(8, "w") + num(1, n) + varint(9 << 3 | 2) + varint(n)
    start = graph([relu()]) + varint(5 << 3 | 2) + varint(len(head) + n) + head
    start = model() + varint(7 << 3 | 2) + varint(len(start) + n) + start
    path = os.path.join(d, "model.onnx")
    with open(path, "wb") as f:
        f.write(start)
        f.truncate(len(start) + n)
    return path


def nested_graphs(depth):
    """If within If, built from the inside out."""
    g = graph([relu()], inputs=())
    for _ in range(depth):
        g = graph([node("If", ["x"], ["y"], [attribute("then_branch", 5, blob(6, g))])], inputs=())
    return model(g)


for n_levels in (65, 1000):
    fixture(f"nesting_{n_levels}", 1, r"nesting depth 64 exceeded")(lambda d, n=n_levels: nested_graphs(n))


@fixture("type_nesting_100", 1, r"nesting depth 64 exceeded \(by a TypeProto\)")
def _(d):
    t = blob(1, num(1, FLOAT))
    for _ in range(100):
        t = blob(4, blob(1, t))
    return model(graph([relu()], more=blob(11, blob(1, "q") + blob(2, t))))


@fixture("two_graphs", 1, r"byte \d+: ModelProto\.graph occurs twice")
def _(d):
    g = graph([relu()])
    return model(g, more=blob(7, g))


@fixture("two_names", 1, r"NodeProto\.name occurs twice")
def _(d):
    return model(graph([relu() + blob(3, "again")]))


@fixture("oneof_twice", 1, r"Dimension\.dim_param occurs twice, or beside another member")
def _(d):
    shape = blob(1, num(1, 2) + blob(2, "n"))
    v = blob(1, "q") + blob(2, blob(1, num(1, FLOAT) + blob(2, shape)))
    return model(graph([relu()], more=blob(11, v)))


@fixture("name_with_nul", 1, r"NodeProto\.name contains a NUL byte")
def _(d):
    return model(graph([relu(name="a\0b")]))


@fixture("name_64_mib", 1, r"NodeProto\.name is 67108864 bytes long; names have at most 65536", slow=True)
def _(d):
    return model(graph([relu(name="n" * (64 << 20))]))


@fixture("name_not_utf8", 1, r"node '\\xff\\xfe\\x1b\[31m'.*input 0, 'q'")
def _(d):
    return model(graph([node("Relu", ["q"], ["y"]) + blob(3, b"\xff\xfe\x1b[31m")]))


@fixture("data_type_99", 1, r"tensor 'w': data_type 99 is unknown")
def _(d):
    return model(graph([relu()], initializers=[tensor("w", dtype=99)]))


@fixture("data_type_negative", 1, r"tensor 'w': data_type -7 is unknown")
def _(d):
    return model(graph([relu()], initializers=[tensor("w", dtype=-7)]))


@fixture("attribute_type_mismatch", 1,
         r"node 'n' \(Relu #0, in main\): attribute 'k' is declared INT but carries .* FLOATS")
def _(d):
    a = attribute("k", 2, blob(7, b"\0" * 8))
    return model(graph([node("Relu", ["x"], ["y"], [a], name="n")]))


@fixture("attribute_type_negative", 1, r"attribute 'k' has the unknown type -3")
def _(d):
    return model(graph([node("Relu", ["x"], ["y"], [attribute("k", -3, num(3, 1))])]))


@fixture("attribute_graph_missing", 1, r"attribute 'k' is declared GRAPH but has no value")
def _(d):
    return model(graph([node("If", ["x"], ["y"], [attribute("k", 5, b"")])]))


@fixture("attribute_twice", 1, r"attribute 'k' is given twice")
def _(d):
    return model(graph([node("Relu", ["x"], ["y"], [attribute("k", 2, num(3, 1))] * 2)]))


@fixture("attribute_reference_outside", 1, r"only functions have attributes")
def _(d):
    a = attribute("k", 2, blob(21, "outer"))
    return model(graph([node("Relu", ["x"], ["y"], [a])]))


for _name, _bytes, _hint in [
        ("text", b"this is no model\n", "text"), ("gzip", b"\x1f\x8b\x08\0\0\0\0\0", "gzip"),
        ("elf", b"\x7fELF\2\1\1" + b"\0" * 64, "ELF"), ("pickle", b"\x80\4\x95\0\0\0\0", "pickle"),
        ("tflite", b"\x1c\0\0\0TFL3" + b"\0" * 32, "TensorFlow Lite"),
        ("safetensors", struct.pack("<Q", 20) + b'{"a":{"dtype":"F32"}}', "safetensors"),
        ("zip", b"PK\3\4" + b"\0" * 30, "zip"), ("hdf5", b"\x89HDF\r\n\x1a\n" + b"\0" * 9, "HDF5"),
        ("lfs", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "Git LFS")]:
    @fixture(f"looks_like_{_name}", 1, rf"not an ONNX model: looks like .*{_hint}")
    def _(d, data=_bytes):
        return data


@fixture("path_directory", 1, r"is a directory")
def _(d):
    return d


@fixture("path_fifo", 1, r"is a FIFO")
def _(d):
    os.mkfifo(os.path.join(d, "model.onnx"))
    return os.path.join(d, "model.onnx")


@fixture("path_device", 1, r"is a device")
def _(d):
    return "/dev/zero"


@fixture("path_socket", 1, r"is a socket")
def _(d):
    here = os.getcwd()
    os.chdir(d)  # a socket's path is short
    try:
        with socket.socket(socket.AF_UNIX) as s:
            s.bind("model.onnx")
    finally:
        os.chdir(here)
    return os.path.join(d, "model.onnx")


@fixture("path_missing", 1, r"No such file")
def _(d):
    return os.path.join(d, "model.onnx")


@fixture("empty_messages_bomb", 1, r"more than \d+ NodeProto messages|need too much memory", slow=True)
def _(d):
    return model(graph(more=b"\x0a\x00" * 8000000))


@fixture("empty_tensors_bomb", 1, r"need too much memory", mib=1024, slow=True)
def _(d):
    return model(graph(more=b"\x2a\x00" * 10000000))


# ---- tensors ----

section("tensors")

@fixture("raw_short", 1, r"raw_data has 7 bytes, but its dims \[2\] of FLOAT ask for 8")
def _(d):
    return model(graph([relu()], initializers=[tensor("w", raw=b"\0" * 7)]))


@fixture("raw_long", 1, r"raw_data has 12 bytes, but its dims \[2\] of FLOAT ask for 8")
def _(d):
    return model(graph([relu()], initializers=[tensor("w", raw=b"\0" * 12)]))


@fixture("raw_and_typed", 1, r"both raw_data and float_data are present")
def _(d):
    return model(graph([relu()], initializers=[tensor("w", more=blob(4, b"\0" * 8))]))


@fixture("two_typed", 1, r"both float_data and int32_data are present")
def _(d):
    t = tensor("w", raw=None, more=blob(4, b"\0" * 8) + blob(5, b"\0\0"))
    return model(graph([relu()], initializers=[t]))


@fixture("no_data", 1, r"it has no data, but its dims \[2\] of FLOAT ask for 2 elements")
def _(d):
    return model(graph([relu()], initializers=[tensor("w", raw=None)]))


@fixture("no_data_zero_size", 0, r"^$")
def _(d):
    return model(graph([relu()], initializers=[tensor("w", dims=(0, 1 << 62), raw=None)]))


@fixture("wrong_typed_field", 1, r"FLOAT values belong in float_data, not in int64_data")
def _(d):
    return model(graph([relu()], initializers=[tensor("w", raw=None, more=blob(7, b"\0\0"))]))


@fixture("typed_count", 1, r"float_data has 1 values, but its dims \[2\] of FLOAT ask for 2")
def _(d):
    return model(graph([relu()], initializers=[tensor("w", raw=None, more=blob(4, b"\0" * 4))]))


@fixture("typed_range", 1, r"int32_data\[1\] is 300, which does not fit INT8")
def _(d):
    t = tensor("w", dtype=3, raw=None, more=blob(5, varint(1) + varint(300)))
    return model(graph([relu()], initializers=[t]))


@fixture("raw_strings", 1, r"strings cannot be in raw_data")
def _(d):
    return model(graph([relu()], initializers=[tensor("w", dtype=STRING)]))


@fixture("dim_negative", 1, r"dims\[0\] is -2")
def _(d):
    return model(graph([relu()], initializers=[tensor("w", dims=(-2,))]))


@fixture("dims_overflow", 1, r"overflows 64 bits")
def _(d):
    return model(graph([relu()], initializers=[tensor("w", dims=(1 << 32, 1 << 32))]))


@fixture("dim_2_62", 1, r"overflows 64 bits")
def _(d):
    return model(graph([relu()], initializers=[tensor("w", dims=(1 << 62,))]))


@fixture("rank_17", 1, r"rank 17, at most 16")
def _(d):
    return model(graph([relu()], initializers=[tensor("w", dims=(1,) * 17)]))


@fixture("int4_odd", 0, r"^$")
def _(d):
    return model(graph([relu()], initializers=[tensor("w", (3,), INT4, b"\x21\x03")]))


@fixture("int4_short", 1, r"raw_data has 1 bytes, but its dims \[3\] of INT4 ask for 2")
def _(d):
    return model(graph([relu()], initializers=[tensor("w", (3,), INT4, b"\x21")]))


def random_files(count=1000):
    """4 KiB of noise each; the first bytes of half of them are a good start of a model."""
    rng = random.Random(20)
    for i in range(count):
        noise = bytes(rng.getrandbits(8) for _ in range(4096))
        yield noise if i % 2 else small_model()[:rng.randrange(40)] + noise


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    import external_data  # noqa: F401  each adds its fixtures to the table
    import structure  # noqa: F401
    import names  # noqa: F401
    import shapes  # noqa: F401
    for f in FIXTURES:
        if len(sys.argv) > 2 and f["name"] not in sys.argv[2:]:
            continue
        folder = os.path.join(sys.argv[1], f["name"])
        os.makedirs(folder)
        print(make(f, folder))


if __name__ == "__main__":
    main()
