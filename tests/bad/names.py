"""The section on names that reach emitted text, and what is left of scale: models whose size grows in odd places.

A name may hold anything; it reaches messages, headers, C, assembler and dumps only escaped. run_bad.py emits each of
these models in every form and looks for the payload in what comes out.
"""
from encode import FLOAT, INT64, blob, fixture, node, section, tensor, value
from shapes import build, integer, symbolic, text, values

section("names in emitted text")

HOSTILE = [
    ("comment", "*/ int main(){return 42;} /*"), ("line_comment", "\\\n#error pwned\n//"),
    ("shell", '";system("id");"'), ("newline", "a\n#include </etc/passwd>\nb"), ("format", "%s%n%1$s"),
    ("html", "<script>alert(1)</script>"), ("bidi", "\u202eevil\u2066"), ("ansi", "\x1b[2J\x1b]0;x\x07"),
    ("json", '"},{"x":"'), ("make", "$(shell id)`id`;|&"), ("trigraph", "??/\n??*/"), ("keyword", "int"),
    ("libc", "printf"), ("main", "main"), ("reserved", "__x"), ("digit", "9lives"), ("dots", "../../a.b"),
    ("quote", "it's"), ("backslash", "\\"), ("long", "n" * 10000), ("not_utf8", b"\xff\xfe\x80"),
    ("include_c", '#include "/etc/passwd"'), ("asm", '.globl main\nmain: ret'), ("c1", "\u009b2J"), ("blank", " "),
    ("ir_text", '"} graph @g { %0 = '), ("unicode", "\u00e9\u4e2d\U0001f600")]


def named(name):
    """A model in which everything has this name: a convolution has code, a constant, a symbol and two nodes."""
    name = name.encode() if isinstance(name, str) else name
    n = lambda suffix: name + suffix  # noqa: E731
    nodes = [node("MatMul", [n(b"x"), n(b"w")], [n(b"t")], name=n(b"")),
             node("Softmax", [n(b"t")], [n(b"y")], name=n(b""))]
    dims = blob(1, blob(2, n(b"d"))) + blob(1, b"\x08\x02")
    x = blob(1, n(b"x")) + blob(2, blob(1, b"\x08\x01" + blob(2, dims)))
    w = tensor(n(b"w"), (2, 2), FLOAT, b"\0\0\x80\x3f" * 4)
    return build(nodes, {}, [w], [n(b"y")], more=blob(11, x))


for _name, _payload in HOSTILE:
    @fixture(f"name_{_name}", 0, r"^$")
    def _(d, payload=_payload):
        return named(payload)



@fixture("names_collide", 0, r"^$")
def _(d):
    """a.b, a_b, A_b: one identifier each."""
    names = ["a.b", "a_b", "A_b", "a-b", "a b", "int", "printf", "arena", "model", "main", "x", "_x", "__x"]
    nodes = [node("Relu", [n], ["out " + n], name=n) for n in names]
    return build(nodes, {n: (2,) for n in names}, outputs=["out " + n for n in names])


section("scale")


def chain(n, op, more=(), consts=(), attrs=()):
    nodes = [node(op, [f"v{i}" if i else "x", *more], [f"v{i + 1}"], attrs) for i in range(n)]
    return build(nodes, {"x": (2, 2)}, consts, [f"v{n}"])


WIDE = {"check": 2, "info": 2, "": 30}
WIDER = {"check": 2, "info": 2, "": 60}


@fixture("chain_relu_20000", 0, r"^$", mib=768, seconds=WIDE)
def _(d):
    return chain(20000, "Relu")


@fixture("chain_add_20000", 0, r"^$", mib=768, seconds=WIDE)
def _(d):
    return chain(20000, "Add", ["x"])


@fixture("chain_matmul_20000", 0, r"^$", mib={"compile": 4096, "": 1024}, seconds=WIDER, slow=True)
def _(d):
    return chain(20000, "MatMul", ["w"], [values("w", [1.0] * 4, FLOAT, (2, 2))])


@fixture("chain_softmax_20000", 0, r"^$", mib=1024, seconds=WIDE, slow=True)
def _(d):
    return chain(20000, "Softmax")


def grown(n, is_summed):
    """A constant that grows to 4 MiB, perhaps its sum, n steps, and what is costly behind them."""
    nodes = [node("Expand", ["c", "s"], ["v0"])]
    if is_summed:
        nodes = [node("Expand", ["c", "s"], ["g"]), node("ReduceSum", ["g"], ["v0"])]
    nodes += [node("Sin" if i % 2 else "Neg", [f"v{i}"], [f"v{i + 1}"]) for i in range(n)]
    nodes += [node("Softmax", [f"v{n}"], ["q"]), node("Add", ["x", "q"], ["y"])]
    return build(nodes, {"x": (1, 1)}, [values("c", [1.0], FLOAT, (1, 1)), values("s", [1, 1 << 20])])


@fixture("grown_wide", 0, r"^$", seconds=WIDE)
def _(d):
    return grown(3000, False)


@fixture("grown_deep", 0, r"^$", mib=768, seconds=WIDE)
def _(d):
    return grown(40000, True)


@fixture("chain_of_shapes", 0, r"^$", seconds=WIDE)
def _(d):
    """Each step computes with the size that the step before found: an expression 20000 deep."""
    nodes = [node("Shape", ["x"], ["v0"])]
    for i in range(20000):
        nodes.append(node(["Add", "Mul", "Div"][i % 3], [f"v{i}", "c"], [f"v{i + 1}"]))
    nodes.append(node("Cast", ["v20000"], ["y"], [integer("to", 1)]))
    return build(nodes, {"x": ("N",)}, [values("c", [3])])


@fixture("shapes_square", 0, r"^$", seconds=WIDE)
def _(d):
    """N squared 500 times over, then used as a size."""
    nodes = [node("Shape", ["x"], ["v0"])]
    for i in range(500):
        nodes.append(node("Mul" if i % 2 else "Add", [f"v{i}", f"v{i}"], [f"v{i + 1}"]))
    nodes.append(node("Expand", ["one", "v500"], ["y"]))
    return build(nodes, {"x": ("N",)}, [values("one", [1.0], FLOAT)])


@fixture("shapes_of_sums", 0, r"^$", seconds=WIDE)
def _(d):
    """Dims that are products of sums of dims: (a+b)(a+b)..., which an eager normal form would blow up."""
    nodes = [node("Concat", ["x", "w"], ["v0"], [integer("axis", 0)])]
    for i in range(60):
        nodes.append(node("Shape", [f"v{i}"], [f"s{i}"]))
        nodes.append(node("Tile", ["x", f"s{i}"], [f"t{i}"]))
        nodes.append(node("Concat", [f"t{i}", "w"], [f"v{i + 1}"], [integer("axis", 0)]))
    return build(nodes, {"x": ("A",), "w": ("B",)}, outputs=["v60"])


for _op in ["Sum", "Max", "Mean", "Min"]:
    for _n in [300, 100000]:
        @fixture(f"{_op.lower()}_of_{_n}", 0, r"^$", mib=1024, seconds=WIDE, slow=_n > 300 and _op != "Sum")
        def _(d, op=_op, n=_n):
            return build([node(op, [f"x{i % 400}" for i in range(n)], ["y"], name="n")],
                         {f"x{i}": (2,) for i in range(400)})


@fixture("einsum_of_300", 3, r"300 operands; at most 64", seconds=WIDE)
def _(d):
    return build([node("Einsum", [f"x{i}" for i in range(300)], ["y"], [text("equation", ",".join(["i"] * 300) + "->i")],
                       name="n")], {f"x{i}": (2,) for i in range(300)})


@fixture("concat_10000", 0, r"^$", mib=1024, seconds=WIDE, slow=True)
def _(d):
    return build([node("Concat", ["x"] * 10000, ["y"], [integer("axis", 0)], name="n")], {"x": (2,)})


@fixture("split_10000", 0, r"^$|10001 inputs and outputs; at most 4096", compiles=1, mib=1024, seconds=WIDE, slow=True)
def _(d):
    outs = [f"y{i}" for i in range(10000)]
    return build([node("Split", ["x"], outs, [integer("axis", 0)], name="n")], {"x": (10000,)}, outputs=outs)


@fixture("inputs_20000", 0, r"^$|40000 inputs and outputs; at most 4096", compiles=1, mib=1024, seconds=WIDE, slow=True)
def _(d):
    return build([node("Relu", [f"x{i}"], [f"y{i}"]) for i in range(20000)], {f"x{i}": (2,) for i in range(20000)},
                 outputs=[f"y{i}" for i in range(20000)])


@fixture("inputs_2000", 0, r"^$", mib={"compile": 4096, "": 1024}, seconds=WIDER, slow=True)
def _(d):
    return build([node("Relu", [f"x{i}"], [f"y{i}"]) for i in range(2000)], {f"x{i}": (2,) for i in range(2000)},
                 outputs=[f"y{i}" for i in range(2000)])


@fixture("initializers_100000", 0, r"^$", mib=1024, seconds=WIDE, slow=True)
def _(d):
    consts = [values(f"w{i}", [float(i)], FLOAT, ()) for i in range(100000)]
    return build([node("Relu", ["x"], ["y"])], {"x": (2,)}, consts)


@fixture("fan_out_20000", 0, r"^$", mib=1024, seconds=WIDE)
def _(d):
    """One value with 20000 readers, all of them needed."""
    nodes = [node("Exp", ["x"], ["e"])] + [node("Relu", ["e"], [f"v{i}"]) for i in range(20000)]
    nodes.append(node("Sum", [f"v{i}" for i in range(20000)], ["y"]))
    return build(nodes, {"x": (2,)})


@fixture("random_dims_deep_reshape", 0, r"^$", seconds=WIDE)
def _(d):
    nodes = [node("Reshape", [f"v{i}" if i else "x", "s" if i % 2 else "t"], [f"v{i + 1}"]) for i in range(5000)]
    return build(nodes, {"x": (6, 4)}, [values("s", [3, 8]), values("t", [2, -1])], ["v5000"])


# loops

def body(nodes, outputs, inputs=()):
    g = b"".join(blob(1, n) for n in nodes) + blob(2, "b")
    g += b"".join(blob(11, i) for i in inputs) + b"".join(blob(12, blob(1, o)) for o in outputs)
    return blob(1, "body") + blob(6, g) + b"\xa0\x01\x05"


def loop(trip, carried="v"):
    inputs = [symbolic("i", (), INT64), symbolic("c", (), 9), symbolic("a", (2,))]
    b = body([node("Identity", ["c"], ["c2"]), node("Relu", ["a"], ["b"])], ["c2", "b"], inputs)
    return build([node("Loop", [trip, "", "x"], ["y"], [b], name="n")], {"x": (2,)},
                 [values("m", [(1 << 63) - 1], dims=())])


@fixture("loop_trip_2_63", 0, r"^$")
def _(d):
    return loop("m")


@fixture("loop_without_bound", 0, r"^$")
def _(d):
    return loop("")
