"""Rows of the random graphs: sequences and optionals. What lies between the first and the last node of a chain is no
tensor, so the chain is judged as one (Graph.chain)."""
from onnx import TensorProto, helper

from graph_build import ONNX_TYPES, same_type
from graph_ops.rows import axis_of, row


class Chain:
    """Nodes that are added together."""

    def __init__(self, g):
        self.g, self.protos, self.reads = g, [], []

    def take(self, v):
        if v not in self.reads:
            self.reads.append(v)
        return v.name

    def node(self, op, names, **attributes):
        out = self.g.name("q")
        attributes = {k: v for k, v in attributes.items() if v is not None}
        self.protos.append(helper.make_node(op, names, [out], name=self.g.name(op), **attributes))
        return out

    def scalar(self, number):
        return self.take(self.g.ints(number))

    def end(self, exact=True):
        return self.g.chain(self.protos, self.reads, exact=exact)


def use(c, s, length, rank=None):
    """Tensors of the sequence s, which has `length` elements (None: not known here)."""
    g = c.g
    for _ in range(g.one([1, 1, 2])):
        way = g.one(["at", "at", "length", "join", "stack"])
        if way == "at":
            g.need(length)
            n = g.rng.randint(-length, length - 1)
            at = c.take(g.input("i64", [], low=n, high=n)) if g.chance(0.3) else c.scalar(n)
            c.node("SequenceAt", [s, at])
        elif way == "length":
            c.node("SequenceLength", [s])
        elif rank is not None:
            stack = way == "stack"
            g.need(rank or stack)
            c.node("ConcatFromSequence", [s], axis=g.rng.randrange(-rank - stack, rank + stack), new_axis=int(stack))


@row("compound", 1.5)
def sequence_of(g):
    x = g.pick(rank=(0, 1, 2, 3))
    xs = [x] + [v for v in g.values if v is not x and v.dtype == x.dtype and v.rank == x.rank][-3:]
    if g.chance(0.6):
        xs = [v for v in xs if same_type(v, x)] * g.one([1, 2])
    c = Chain(g)
    s, n = c.node("SequenceConstruct", [c.take(v) for v in xs]), len(xs)
    for _ in range(g.one([0, 0, 1, 2])):
        if g.chance(0.5):
            at = c.scalar(g.rng.randint(-n, n)) if g.chance(0.6) else ""
            s, n = c.node("SequenceInsert", [s, c.take(x)] + ([at] if at else [])), n + 1
        elif n > 1:
            at = c.scalar(g.rng.randint(-n, n - 1)) if g.chance(0.6) else ""
            s, n = c.node("SequenceErase", [s] + ([at] if at else [])), n - 1
    use(c, s, n, x.rank)
    c.end()


@row("compound", 1.2)
def split_sequence(g):
    x = g.pick(rank=(1, 2, 3), where=lambda v: v.data[0].size > 0)
    axis = axis_of(g, x.rank)
    n = x.shape[axis]
    c = Chain(g)
    names, length, a = [c.take(x)], None, {}
    way = g.one(["ones", "ones", "equal", "parts"])
    if way == "equal":
        part = g.rng.randint(1, n)
        names.append(c.scalar(part))
        length = -(-n // part)
    elif way == "parts":
        g.need(x.fixed)
        cuts = sorted(g.rng.sample(range(1, n), min(n - 1, g.one([0, 1, 2]))))
        names.append(c.scalar([b - a for a, b in zip([0] + cuts, cuts + [n])]))
        length = len(cuts) + 1
    else:
        a["keepdims"] = g.one([0, 1, None])
        length = n
    s = c.node("SplitToSequence", names, axis=axis, **a)
    use(c, s, length if g.spec(x)[axis] is not None and isinstance(g.spec(x)[axis], int) else None,
        x.rank - (a.get("keepdims") == 0))
    c.end()


@row("compound")
def optional(g):
    x = g.pick(rank=(0, 1, 2))
    c = Chain(g)
    o = c.node("Optional", [c.take(x)])
    c.node("OptionalHasElement", [o])
    if g.chance(0.7):
        c.node("OptionalGetElement", [o])
    c.end()


def mapped_body(g, v, op):
    one = helper.make_tensor_value_info(g.name("e"), ONNX_TYPES[v.dtype], [None] * v.rank)
    out = g.name("r")
    node = helper.make_node(op, [one.name] if op in ("Neg", "Abs", "Shape") else [one.name, one.name], [out])
    kind = TensorProto.INT64 if op == "Shape" else ONNX_TYPES[v.dtype]
    rank = 1 if op == "Shape" else v.rank
    return helper.make_graph([node], g.name("map"), [one], [helper.make_tensor_value_info(out, kind, [None] * rank)]), rank


@row("compound")
def mapped(g):
    x = g.pick(("f32", "i64", "f64"), rank=(1, 2, 3))
    g.need(g.opset >= 17)
    xs = [x] + [v for v in g.values if v is not x and same_type(v, x)][-2:]
    c = Chain(g)
    s = c.node("SequenceConstruct", [c.take(v) for v in xs])
    body, rank = mapped_body(g, x, g.one(["Neg", "Add", "Abs", "Shape"]))
    use(c, c.node("SequenceMap", [s], body=body), len(xs), rank)
    c.end()


@row("compound")
def grown_in_loop(g):
    """A loop that appends what it computes to a sequence; joined behind it."""
    x = g.pick(("f32", "i64"), rank=(0, 1, 2), low=-1e3, high=1e3)
    c = Chain(g)
    name, trips = c.take(x), g.one([1, 2, 4])
    count = c.take(g.input("i64", [], low=trips, high=trips + 3)) if g.chance(0.5) else c.scalar(trips)
    start = c.node("SequenceEmpty", [], dtype=ONNX_TYPES[x.dtype])
    i, go, s, more, t, kept = (g.name(n) for n in ("i", "go", "s", "m", "t", "k"))
    nodes = [helper.make_node("Cast", [i], [t], to=ONNX_TYPES[x.dtype]), helper.make_node("Add", [name, t], [t + "_1"]),
             helper.make_node("SequenceInsert", [s, t + "_1"], [more]), helper.make_node("Identity", [go], [kept])]
    kind = helper.make_sequence_type_proto(helper.make_tensor_type_proto(ONNX_TYPES[x.dtype], None))
    scalar = [helper.make_tensor_value_info(i, TensorProto.INT64, []), helper.make_tensor_value_info(go, TensorProto.BOOL, [])]
    body = helper.make_graph(nodes, g.name("body"), scalar + [helper.make_value_info(s, kind)],
                             [helper.make_tensor_value_info(kept, TensorProto.BOOL, []), helper.make_value_info(more, kind)])
    use(c, c.node("Loop", [count, "", start], body=body), trips, x.rank)
    c.end(exact=x.dtype == "i64")


@row("compound")
def grown_of_pieces(g):
    """The same with elements of other sizes in each iteration, perhaps only some of them."""
    x = g.pick(rank=(1, 2))
    c = Chain(g)
    name, trips = c.take(x), g.one([1, 2, 4])
    count = c.take(g.input("i64", [], low=trips, high=trips + 3))
    start, zero, one = c.node("SequenceEmpty", [], dtype=ONNX_TYPES[x.dtype]), c.take(g.ints([0])), c.take(g.ints([1]))
    i, go, s, more, t, kept, piece = (g.name(n) for n in ("i", "go", "s", "m", "t", "k", "p"))
    kind = helper.make_sequence_type_proto(helper.make_tensor_type_proto(ONNX_TYPES[x.dtype], None))
    nodes = [helper.make_node("Unsqueeze", [i, zero], [t]), helper.make_node("Add", [t, one], [t + "_1"]),
             helper.make_node("Slice", [name, zero, t + "_1", zero], [piece]), helper.make_node("Identity", [go], [kept])]
    if g.chance(0.5):
        nodes.append(helper.make_node("SequenceInsert", [s, piece], [more]))
    else:                                                        # not in the rounds before `from`, of which there are fewer
        start_at, branches = c.scalar(trips - 1), []
        nodes.append(helper.make_node("GreaterOrEqual", [i, start_at], [t + "_2"]))
        for op, inputs in (("SequenceInsert", [s, piece]), ("Identity", [s])):
            out = g.name("b")
            branches.append(helper.make_graph([helper.make_node(op, inputs, [out])], g.name("branch"), [],
                                              [helper.make_value_info(out, kind)]))
        nodes.append(helper.make_node("If", [t + "_2"], [more], then_branch=branches[0], else_branch=branches[1]))
    scalar = [helper.make_tensor_value_info(i, TensorProto.INT64, []), helper.make_tensor_value_info(go, TensorProto.BOOL, [])]
    body = helper.make_graph(nodes, g.name("body"), scalar + [helper.make_value_info(s, kind)],
                             [helper.make_tensor_value_info(kept, TensorProto.BOOL, []), helper.make_value_info(more, kind)])
    grown = c.node("Loop", [count, "", start], body=body)
    c.node("ConcatFromSequence", [grown], axis=0)
    c.node("SequenceLength", [grown])
    c.node("SequenceAt", [grown, c.scalar(g.one([0, -1]))])
    c.end()


@row("compound")
def chosen_sequence(g):
    """An If whose branches give sequences, of one length or two."""
    x = g.pick(rank=(1, 2, 3))
    same = [v for v in g.values if same_type(v, x)][-3:]
    c = Chain(g)
    condition = c.take(g.input("bool", []))
    kind = helper.make_sequence_type_proto(helper.make_tensor_type_proto(ONNX_TYPES[x.dtype], None))
    bodies, n = [], g.one([1, 2, 3])
    for length in (n, n + g.one([0, 2])):
        out = g.name("s")
        node = helper.make_node("SequenceConstruct", [c.take(g.one(same + [x])) for _ in range(length)], [out])
        bodies.append(helper.make_graph([node], g.name("branch"), [], [helper.make_value_info(out, kind)]))
    use(c, c.node("If", [condition], then_branch=bodies[0], else_branch=bodies[1]), n, x.rank)
    c.end()
