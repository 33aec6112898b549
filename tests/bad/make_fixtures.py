#!/usr/bin/env python3
"""Makes the hostile and broken model files that run_bad.py feeds to the compiler.

Every fixture is a function with a row above it: name, expected exit code and a pattern that the
messages must match (encode.py has the rest). The function gets an empty folder and returns the
model's bytes, which are written there as model.onnx, or a path to use instead. Here are encoding,
external data and graph structure; shapes.py and names.py have the others. One row and a few
lines for each fixture make the file long.

    make_fixtures.py FOLDER [NAME...]    writes them, each in a folder of its own
"""
import os
import random
import socket
import struct
import sys

from encode import (FIXTURES, FLOAT, INT4, INT64, LOCAL, STRING, attribute, blob, call, entry,
                    external, fixture, function, graph, make, model, node, num, relu, section,
                    small_model, tensor, value, varint)


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


@fixture("nesting_65", 1, r"nesting depth 64 exceeded")
def _(d):
    return nested_graphs(65)


@fixture("nesting_1000", 1, r"nesting depth 64 exceeded")
def _(d):
    return nested_graphs(1000)


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


# ---- external data ----

section("external data")

def with_external(d, t, size=8, name="w.bin"):
    if name:
        with open(os.path.join(d, name), "wb") as f:
            f.write(b"\0" * size)
    return model(graph([node("Add", ["x", "w"], ["y"])], initializers=[t]))


@fixture("external_good", 0, r"^$")
def _(d):
    return with_external(d, external("w", location="w.bin", offset="4", length="8"), 12)


@fixture("external_no_length", 0, r"^$")
def _(d):
    return with_external(d, external("w", location="./w.bin"))


for _name, _location, _why in [
        ("absolute", "/etc/passwd", "an absolute path"), ("proc", "/proc/self/mem", "absolute"),
        ("dotdot", "../x", "'..' is not allowed"), ("dotdot_inside", "sub/../../x", "'..'"),
        ("backslash", "a\\b", "a backslash"), ("drive", "C:x", "a drive letter"),
        ("nul", "w.bin\0x", "a NUL byte"), ("slash_end", "w.bin/", "it ends with '/'"),
        ("dot", ".", "it names a directory"), ("empty", "", "it is empty"),
        ("double_slash", "a//b", "an empty component"), ("long", "a/" * 2100, "longer than 4095"),
        ("long_component", "a" * 300, "longer than 255"), ("missing", "q.bin", "No such file")]:
    @fixture(f"location_{_name}", 1, rf"external data of tensor 'w': .*{_why}")
    def _(d, location=_location):
        return with_external(d, external("w", location=location))


@fixture("location_none", 1, r"external data of tensor 'w': it has no location")
def _(d):
    return with_external(d, external("w", offset="0"))


@fixture("symlink_file", 1, r"'l\.bin': a symbolic link is not allowed")
def _(d):
    os.symlink("w.bin", os.path.join(d, "l.bin"))
    return with_external(d, external("w", location="l.bin"))


@fixture("symlink_parent", 1, r"'sub/w\.bin': (a symbolic link is not allowed|Not a directory)")
def _(d):
    os.mkdir(os.path.join(d, "real"))
    os.symlink("real", os.path.join(d, "sub"))
    with open(os.path.join(d, "real", "w.bin"), "wb") as f:
        f.write(b"\0" * 8)
    return with_external(d, external("w", location="sub/w.bin"))


@fixture("sub_folder", 0, r"^$")
def _(d):
    os.mkdir(os.path.join(d, "sub"))
    with open(os.path.join(d, "sub", "w.bin"), "wb") as f:
        f.write(b"\0" * 8)
    return with_external(d, external("w", location="sub/w.bin"), name=None)


@fixture("hard_link", 1, r"several hard links")
def _(d):
    out = with_external(d, external("w", location="w.bin"))
    os.link(os.path.join(d, "w.bin"), os.path.join(d, "other.bin"))
    return out


@fixture("external_fifo", 1, r"'w\.bin': is a FIFO")
def _(d):
    os.mkfifo(os.path.join(d, "w.bin"))
    return with_external(d, external("w", location="w.bin"), name=None)


@fixture("external_directory", 1, r"'sub': is a directory")
def _(d):
    os.mkdir(os.path.join(d, "sub"))
    return with_external(d, external("w", location="sub"))


@fixture("offset_past_end", 1, r"offset 100 and length 8 go past the end of 'w.bin', which has 8")
def _(d):
    return with_external(d, external("w", location="w.bin", offset="100"))


@fixture("length_past_end", 1, r"offset 4 and length 8 go past the end of 'w.bin', which has 8")
def _(d):
    return with_external(d, external("w", location="w.bin", offset="4", length="8"))


@fixture("offset_2_63_minus_1", 1, r"offset 9223372036854775807 and length 8 go past")
def _(d):
    return with_external(d, external("w", location="w.bin", offset=str(2**63 - 1)))


for _name, _offset in [("negative", "-1"), ("text", "abc"), ("hex", "0x10"), ("none", ""),
                       ("plus", "+1"), ("blank", " 1"), ("2_63", str(2**63)), ("huge", "9" * 400)]:
    @fixture(f"offset_{_name}", 1, r"offset '.*' is not a decimal number below 2\^63")
    def _(d, offset=_offset):
        return with_external(d, external("w", location="w.bin", offset=offset))


@fixture("external_length_mismatch", 1, r"length is 4, but its dims ask for 8 bytes")
def _(d):
    return with_external(d, external("w", location="w.bin", length="4"))


@fixture("external_overlap", 0, r"^$")
def _(d):
    ts = [external("w", location="w.bin"), external("v", location="w.bin", offset="4")]
    with open(os.path.join(d, "w.bin"), "wb") as f:
        f.write(b"\0" * 12)
    return model(graph([node("Add", ["w", "v"], ["y"])], initializers=ts))


@fixture("external_unknown_key", 1, r"the key '__class__' is unknown")
def _(d):
    return with_external(d, external("w", location="w.bin", more=[("__class__", "x")]))


@fixture("external_key_twice", 1, r"the key 'location' occurs twice")
def _(d):
    return with_external(d, external("w", location="w.bin", more=[("location", "w.bin")]))


@fixture("external_and_raw", 1, r"raw_data is present beside external data")
def _(d):
    return with_external(d, external("w", location="w.bin") + blob(9, b"\0" * 8))


@fixture("external_many_files", 0, r"^$", seconds=10, slow=True)
def _(d):
    names = [f"t{i}" for i in range(20000)]
    for name in names:
        with open(os.path.join(d, name), "wb") as f:
            f.write(b"\0" * 8)
    return model(graph([relu()], initializers=[external(n, location=n) for n in names]))


# ---- graph structure ----

section("graph structure")

@fixture("cycle_2", 1, r"a cycle of 2 nodes: 'b' \(Relu #1\) -> 'a' \(Relu #0\) -> 'b'"
         r"|a cycle of 2 nodes: 'a' \(Relu #0\) -> 'b' \(Relu #1\) -> 'a'")
def _(d):
    return model(graph([relu("q", "y", "a"), relu("y", "q", "b")]))


@fixture("cycle_100000", 1, r"a cycle of 100000 nodes: .*\(99992 more\)", slow=True)
def _(d):
    n = 100000
    return model(graph([relu(f"v{(i - 1) % n}", f"v{i}") for i in range(n)], outputs=("v1",)))


@fixture("cycle_shortest", 1, r"a cycle of 3 nodes")
def _(d):
    n = 1000
    nodes = [relu(f"v{(i - 1) % n}", f"v{i}") for i in range(n)]
    nodes[0] = node("Add", [f"v{n - 1}", "v2"], ["v0"])
    return model(graph(nodes, outputs=("v1",)))


@fixture("own_output", 1, r"a node needs its own output: 'n' \(Relu #0\)")
def _(d):
    return model(graph([relu("y", "y", "n")]))


@fixture("output_twice", 1,
         r"'y' is defined twice: output of node 'a' \(Relu #0\) and output of node 'b' \(Relu #1\)")
def _(d):
    return model(graph([relu(name="a"), relu(name="b")]))


@fixture("output_is_input", 1, r"'x' is defined twice: input #0 and output of node 'a'")
def _(d):
    return model(graph([relu("x", "x", "a")], outputs=("x",)))


@fixture("output_is_initializer", 1, r"'w' is defined twice: initializer #0 and output of node")
def _(d):
    return model(graph([relu("x", "w")], outputs=("w",), initializers=[tensor("w")]))


@fixture("initializer_twice", 1, r"'w' is defined twice: initializer #0 and initializer #1")
def _(d):
    return model(graph([relu()], initializers=[tensor("w"), tensor("w")]))


@fixture("initializer_twice_with_input", 1, r"'x' is defined twice: initializer #0 and init.* #1")
def _(d):
    return model(graph([relu()], initializers=[tensor("x"), tensor("x")]))


@fixture("initializer_of_input", 0, r"^$")
def _(d):
    return model(graph([relu()], inputs=("x", "w"), initializers=[tensor("w")]))


@fixture("input_twice", 1, r"'x' is defined twice: input #0 and input #1")
def _(d):
    return model(graph([relu()], inputs=("x", "x")))


@fixture("input_dangling", 1, r"input 0, 'inptu', is not defined; did you mean 'input'\?")
def _(d):
    return model(graph([relu("inptu")], inputs=("input",)))


@fixture("output_dangling", 1, r"output 0, 'probs', is never produced; did you mean 'prob'\?")
def _(d):
    return model(graph([relu("x", "prob")], outputs=("probs",)))


@fixture("unsorted", 0, r"^$")
def _(d):
    return model(graph([relu("t", "y", "last"), relu("x", "t", "first")]))


# Checked and described at once; to compile takes time and memory in proportion, or memory's end.
HUGE, HUGE_SECONDS = {"compile": 6144, "": 1536}, {"compile": 400, "": 4}


@fixture("chain_million", 0, r"^$", mib=HUGE, seconds=HUGE_SECONDS, slow=True)
def _(d):
    n = 1000000
    nodes = [relu(f"v{i}" if i else "x", f"v{i + 1}", "") for i in range(n)]
    return model(graph(nodes, outputs=(f"v{n}",)))


@fixture("chain_million_reversed", 0, r"^$", mib=HUGE, seconds=HUGE_SECONDS, slow=True)
def _(d):
    n = 1000000
    nodes = [relu(f"v{i}" if i else "x", f"v{i + 1}", "") for i in range(n)]
    return model(graph(nodes[::-1], outputs=(f"v{n}",)))


@fixture("fan_out_million", 0, r"^$", mib=HUGE, seconds=HUGE_SECONDS, slow=True)
def _(d):
    return model(graph([relu("x", f"v{i}", "") for i in range(1000000)], outputs=("v7",)))


@fixture("concat_million", 0, r"^$|1000000 calls of kernels; at most 65536", compiles=1, mib=HUGE, seconds=HUGE_SECONDS, slow=True)
def _(d):
    axis = attribute("axis", 2, num(3, 0))
    return model(graph([node("Concat", ["x"] * 1000000, ["y"], [axis])]))


@fixture("recursive_function", 1, r"functions call themselves: 'f' -> 'f'")
def _(d):
    f = function("f", [call("f", "a", "b")])
    return model(graph([call("f", "x", "y")]), more=LOCAL + blob(25, f))


@fixture("mutual_recursion", 1, r"functions call themselves: '(f' -> 'g' -> 'f|g' -> 'f' -> 'g)'")
def _(d):
    f, g = function("f", [call("g", "a", "b")]), function("g", [call("f", "a", "b")])
    return model(graph([call("f", "x", "y")]), more=LOCAL + blob(25, f) + blob(25, g))


def doubling(n):
    """f0 is a Relu, each next function calls the one before twice."""
    out = blob(25, function("f0", [node("Relu", ["a"], ["b"])]))
    for i in range(1, n + 1):
        body = [call(f"f{i - 1}", "a", "t"), call(f"f{i - 1}", "t", "b")]
        out += blob(25, function(f"f{i}", body))
    return model(graph([call(f"f{n}", "x", "y")]), more=LOCAL + out)


@fixture("function_bomb_2_29", 1, r"\d+ nodes after inlining functions; at most 5000000")
def _(d):
    return doubling(29)


@fixture("function_bomb_2_5000", 1, r"more than \d+ nodes after inlining", slow=True)
def _(d):
    return doubling(5000)


@fixture("function_good", 0, r"^$")
def _(d):
    return doubling(3)


@fixture("function_twice", 1, r"function 'f' of domain 'local' is defined twice")
def _(d):
    f = blob(25, function("f", [node("Relu", ["a"], ["b"])]))
    return model(graph([call("f", "x", "y")]), more=LOCAL + f + f)


@fixture("function_dangling", 1,
         r"node '' \(Relu #0, in function f\): input 0, 'q', is not defined")
def _(d):
    f = function("f", [node("Relu", ["q"], ["b"])])
    return model(graph([call("f", "x", "y")]), more=LOCAL + blob(25, f))


def branch(nodes, outputs=("y",), name="then_branch"):
    return attribute(name, 5, blob(6, graph(nodes, inputs=(), outputs=outputs)))


@fixture("capture", 0, r"^$")
def _(d):
    then, other = branch([relu("x", "p")], ("p",)), branch([relu("x", "q")], ("q",), "else_branch")
    cond = tensor("c", dims=(), dtype=9, raw=b"\1")
    return model(graph([node("If", ["c"], ["y"], [then, other])], initializers=[cond]))


@fixture("capture_later", 0, r"^$")
def _(d):
    then, other = branch([relu("t", "p")], ("p",)), branch([relu("x", "q")], ("q",), "else_branch")
    cond = tensor("c", dims=(), dtype=9, raw=b"\1")
    nodes = [node("If", ["c"], ["y"], [then, other]), relu("x", "t")]
    return model(graph(nodes, initializers=[cond]))


@fixture("capture_cycle", 1, r"a node needs its own output: 'if' \(If #0\)")
def _(d):
    then = branch([relu("y", "p")], ("p",))
    return model(graph([node("If", ["x"], ["y"], [then], name="if")]))


@fixture("capture_unknown", 1, r"node 'r' \(Relu #0, in main/If_0\.then_branch\): input 0, 'zz'")
def _(d):
    return model(graph([node("If", ["x"], ["y"], [branch([relu("zz", "p")], ("p",))])]))


@fixture("inner_value_used_outside", 1, r"input 0, 'p', is not defined")
def _(d):
    then = branch([relu("x", "p")], ("p",))
    return model(graph([node("If", ["x"], ["t"], [then]), relu("p")]))


@fixture("shadowing", 0, r"warning: .*'t' hides a value")
def _(d):
    then, other = branch([relu("x", "t")], ("t",)), branch([relu("x", "q")], ("q",), "else_branch")
    cond = tensor("c", dims=(), dtype=9, raw=b"\1")
    nodes = [relu("x", "t"), node("If", ["c"], ["u"], [then, other]),
             node("Add", ["t", "u"], ["y"])]
    return model(graph(nodes, initializers=[cond]))


@fixture("opset_missing", 1, r"opset_import is missing")
def _(d):
    return model(graph([relu()]), opset=None)


@fixture("opset_0", 1, r"version 0, must be at least 1")
def _(d):
    return model(graph([relu()]), opset=0)


@fixture("opset_negative", 1, r"version -1, must be at least 1")
def _(d):
    return model(graph([relu()]), opset=-1)


@fixture("opset_9999", 3, r"opset version 9999 of domain 'ai\.onnx' is newer than 28")
def _(d):
    return model(graph([relu()]), opset=9999)


@fixture("opset_twice", 1, r"domain '' is imported twice, as version 17 and 18")
def _(d):
    return model(graph([relu()]), more=blob(8, num(2, 18)))


@fixture("domain_not_imported", 1, r"opset_import lacks domain 'acme', which 2 nodes use \(Foo is")
def _(d):
    return model(graph([node("Foo", ["x"], ["t"], domain="acme"),
                        node("Bar", ["t"], ["y"], domain="acme")]))


@fixture("ir_version_missing", 1, r"ir_version is missing")
def _(d):
    return model(graph([relu()]))[2:]


@fixture("ir_version_99", 3, r"IR version 99 is not supported; 1 to 14 are")
def _(d):
    return model(graph([relu()]), ir=99)


@fixture("no_graph", 1, r"the model has no graph")
def _(d):
    return model(None)


@fixture("no_op_type", 1, r"it names no operator")
def _(d):
    return model(graph([blob(1, "x") + blob(2, "y")]))


@fixture("unnamed_initializer", 1, r"initializer 0 has no name")
def _(d):
    return model(graph([relu()], initializers=[tensor("")]))


@fixture("twenty_problems", 1, r"smelt: \d+ more problems are not shown|(.*\n){19}")
def _(d):
    return model(graph([relu(f"missing_{i}", f"o{i}") for i in range(50)], outputs=()))


def random_files(count=1000):
    """4 KiB of noise each; the first bytes of half of them are a good start of a model."""
    rng = random.Random(20)
    for i in range(count):
        noise = bytes(rng.getrandbits(8) for _ in range(4096))
        yield noise if i % 2 else small_model()[:rng.randrange(40)] + noise


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    import names  # noqa: F401  each adds its fixtures to the table
    import shapes  # noqa: F401
    for f in FIXTURES:
        if len(sys.argv) > 2 and f["name"] not in sys.argv[2:]:
            continue
        folder = os.path.join(sys.argv[1], f["name"])
        os.makedirs(folder)
        print(make(f, folder))


if __name__ == "__main__":
    main()
