"""What fixtures are made of: the table that they enter, protobuf's wire format and ONNX's messages.

Models are encoded byte by byte, since most of what is tested no ONNX library would write.
"""
import os

FIXTURES = []


def fixture(name, code, pattern, mib=512, seconds=2, compiles=None, prints=None, inputs=(),
            options=(), slow=False):
    """Declares a fixture: a row of the table in docs/hostile.md.

    code, pattern     exit code (0 accepted, 1 invalid, 3 not supported) and what the messages match
    mib, seconds      limits of one command; a dict for limits by command: {"compile": 10, "": 2}
    compiles          exit code of `compile` and `run` where it differs from that of `check`
    prints, inputs    the model is run by the interpreter and by LLVM on these tensors, and what is
                      printed matches
    options           more words of the command line
    slow              left out of the fast subset
    """
    def add(make):
        FIXTURES.append(dict(name=name, code=code, pattern=pattern, make=make, mib=mib,
                             seconds=seconds, compiles=code if compiles is None else compiles,
                             prints=prints, inputs=list(inputs), options=list(options), slow=slow,
                             section=SECTION[0]))
        return make
    return add


SECTION = [""]


def section(name):
    """The heading of the fixtures that follow."""
    SECTION[0] = name


# ---- the wire format ----

def varint(v):
    v &= (1 << 64) - 1
    out = bytearray()
    while v >= 0x80:
        out.append(v & 0x7f | 0x80)
        v >>= 7
    out.append(v)
    return bytes(out)


def num(field, v):
    return varint(field << 3) + varint(v)


def blob(field, payload):
    if isinstance(payload, str):
        payload = payload.encode()
    return varint(field << 3 | 2) + varint(len(payload)) + payload


# ---- ONNX's messages ----

FLOAT, INT64, STRING, INT4 = 1, 7, 8, 22


def dims_of(dims):
    return b"".join(num(1, d) for d in dims)


def tensor(name, dims=(2,), dtype=FLOAT, raw=b"\0" * 8, more=b""):
    out = dims_of(dims) + num(2, dtype) + blob(8, name)
    return out + (blob(9, raw) if raw is not None else b"") + more


def entry(key, value):
    return blob(1, key) + blob(2, value)


def external(name, dims=(2,), more=(), **keys):
    out = b"".join(blob(13, entry(k, v)) for k, v in list(keys.items()) + list(more))
    return tensor(name, dims, raw=None, more=out + num(14, 1))


def value(name, dims=(2,), dtype=FLOAT):
    shape = b"".join(blob(1, num(1, d)) for d in dims)
    return blob(1, name) + blob(2, blob(1, num(1, dtype) + blob(2, shape)))


def attribute(name, kind, payload):
    return blob(1, name) + payload + num(20, kind)


def node(op, inputs, outputs, attributes=(), name="", domain=""):
    out = b"".join(blob(1, i) for i in inputs) + b"".join(blob(2, o) for o in outputs)
    out += (blob(3, name) if name else b"") + blob(4, op)
    out += b"".join(blob(5, a) for a in attributes)
    return out + (blob(7, domain) if domain else b"")


def graph(nodes=(), inputs=("x",), outputs=("y",), initializers=(), more=b""):
    out = b"".join(blob(1, n) for n in nodes) + blob(2, "g")
    out += b"".join(blob(5, t) for t in initializers)
    out += b"".join(blob(11, value(i)) for i in inputs)
    return out + b"".join(blob(12, value(o)) for o in outputs) + more


def model(g=None, opset=17, ir=8, more=b""):
    out = num(1, ir) + (blob(8, blob(1, "") + num(2, opset)) if opset is not None else b"")
    return out + (blob(7, g) if g is not None else b"") + more


def relu(inp="x", out="y", name="r"):
    return node("Relu", [inp], [out], name=name)


def small_model():
    """x -> Add w -> Relu -> y: what the truncation runs cut."""
    add = node("Add", ["x", "w"], ["t"], name="add")
    return model(graph([add, relu("t")], initializers=[tensor("w")]))


def function(name, nodes, inputs=("a",), outputs=("b",), domain="local"):
    out = blob(1, name) + b"".join(blob(4, i) for i in inputs)
    out += b"".join(blob(5, o) for o in outputs) + b"".join(blob(7, n) for n in nodes)
    out += blob(9, blob(1, "") + num(2, 17)) + blob(9, blob(1, domain) + num(2, 1))
    return out + blob(10, domain)


LOCAL = blob(8, blob(1, "local") + num(2, 1))


def call(name, inp, out):
    return node(name, [inp], [out], domain="local")


def make(f, folder):
    """Makes one fixture in an empty folder; returns the model's path."""
    made = f["make"](folder)
    if isinstance(made, str):
        return made
    path = os.path.join(folder, "model.onnx")
    with open(path, "wb") as out:
        out.write(made)
    return path
