"""The external data section: files beside the model that are not what it says, or not beside it."""
import os

from encode import blob, external, fixture, graph, model, node, relu, section

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
