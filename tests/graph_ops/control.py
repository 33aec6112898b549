"""Rows of the random graphs: If, Loop and Scan.

Bodies are graphs that are grown by the same rows, these among them, so that they nest (DEPTH); what they read of the graphs
around them is captured. While a body grows, its values are those of the first round: a row that needs what another round
would give (a size that no longer fits) is found to be invalid when the whole node is judged.
"""
import numpy as np
from onnx import helper

from graph_build import ONNX_TYPES, Graph, Reject, Value, graph_body, same_type
from graph_ops.rows import axis_of, grow_once, row

DEPTH = 2       # bodies in bodies in ...
BODY_MIX = {"eltwise": 4, "movement": 2, "reduce": 1, "contract": 0.7, "shape": 0.3, "select": 0.2, "control": 0.4}


def new_body(g):
    b = Graph(0, parent=g)
    depth, outer = 0, g
    while outer:
        depth, outer = depth + 1, outer.parent
    b.mix = {f: w for f, w in BODY_MIX.items() if f != "control" or depth < DEPTH}
    b.symbolic = g.symbolic
    return b


def grow_body(b, most):
    for _ in range(b.rng.randint(min(1, most), most)):
        grow_once(b)


def info(v, sizes=True):
    """The declaration of a body's input; its sizes, where they stay and sizes says so."""
    return helper.make_tensor_value_info(v.name, ONNX_TYPES[v.dtype], list(v.shape) if v.fixed and sizes else [None] * v.rank)


def scalar(name, value):
    return Value(name, "node", [np.asarray(value)] * 4)


def outer_values(b, own=()):
    """What the body reads of the graphs around it."""
    inside = {v.name for v in b.values} | set(own)
    return [v for v in b.captured if v.name not in inside]


def some_results(b, most, where):
    """Copies of what the body computed, to be further results."""
    found = [v for n in b.nodes for v in n.outs if where(v)]
    return [b.add("Identity", [v], exact=True) for v in b.rng.sample(found, min(len(found), most))]


# ---- If --------------------------------------------------------------------------------------------------------------

def same_as(b, x):
    """Something of x's type and sizes: what the branch computed, or brought to it by one node."""
    found = [v for n in b.nodes for v in n.outs if same_type(v, x)]
    if found and b.chance(0.8):
        return b.one(found)
    mixed = [v for v in b.values + [x] if v.dtype == x.dtype and v.kind != "const"][-4:]
    try:
        out = b.add(b.one(["Add", "Sub", "Max"]), [x, b.one(mixed)])
        b.need(same_type(out, x))
        return out
    except Reject:
        return b.add(b.one(["Neg", "Identity", "Abs"]), [x])


def resized(b, x):
    """Something of x's type and rank whose sizes are others."""
    axis, end = axis_of(b, x.rank), b.rng.randint(1, 3)
    kind = b.one(["join", "cut", "turn", "tile", "sum"])
    if kind == "join":
        return b.add("Concat", [x, b.one([v for v in b.values + [x] if same_type(v, x)])], exact=True, axis=axis)
    if kind == "cut":
        return b.add("Slice", [x, b.ints([0]), b.ints([end]), b.ints([axis])], exact=True)
    if kind == "turn":
        return b.add("Transpose", [x], exact=True)
    if kind == "tile":
        return b.add("Tile", [x, b.ints([b.one([1, 2]) for _ in x.shape])], exact=True)
    b.need(x.dtype == "f32" and b.opset >= 18)
    return b.add("ReduceSum", [x, b.ints([axis])], keepdims=1)


@row("control", 1.5)
def if_(g):
    """Branches that give one to three values, now and then of other sizes."""
    xs = [g.pick(("f32", "f32", "i64", "f64"), rank=(0, 1, 2, 3)) for _ in range(g.one([1, 1, 2, 3]))]
    sizes = g.chance(0.3)
    branches, captures = [], []
    for _ in range(2):
        b = new_body(g)
        for x in xs:
            b.capture(x)
        grow_body(b, 3)
        branches.append((b, [resized(b, x) if x.rank and sizes and b.chance(0.6) else same_as(b, x) for x in xs]))
        captures += [v for v in outer_values(b) if v not in captures]
    condition = g.pick("bool", where=lambda v: v.rank == 0 or v.shape == (1,) and v.fixed, fresh=0.3) \
        if g.chance(0.6) else g.input("bool", [])
    bodies = [graph_body(b, g.name("branch"), [], [(o.name, o) for o in outs]) for b, outs in branches]
    g.add("If", [condition], n_out=len(xs), captures=captures, then_branch=bodies[0], else_branch=bodies[1])


# ---- Loop ------------------------------------------------------------------------------------------------------------

def bounded(b, v):
    """Floats that stay near zero however often the body runs."""
    return b.add(b.one(["Tanh", "Sin", "Softsign"]), [v]) if v.dtype in ("f32", "f64") else v     # no Sigmoid: its tails


def going_on(b, go, counter, states):
    """What the body says of another round: (name, Value). As it came, a copy of it, or something computed."""
    kind = b.one(["same", "copy", "copy", "count", "sum"])
    whole = [s for s in states if s.dtype == "i64" and s.data[0].size]
    if kind == "same":
        return go.name, go
    if kind == "count":
        made = b.add("Less", [counter, b.ints(b.rng.randint(0, 3))], exact=True)
    elif kind == "sum" and whole:
        total = b.add("ReduceSum", [b.one(whole)], exact=True, keepdims=0)
        made = b.add("Less", [total, b.ints(b.rng.randint(0, 40))], exact=True)
    else:
        made = b.add("Identity", [go])
    return made.name, made


def begin_loop(g, states):
    """(body, its inputs: counter, flag, states)"""
    b = new_body(g)
    counter, go = scalar(b.name("i"), np.int64(0)), scalar(b.name("go"), True)
    inner = [Value(b.name("s"), "node", v.data) for v in states]
    b.values += [counter] + inner
    return b, counter, go, inner


def end_loop(g, b, counter, go, inner, states, results, stacked, sizes=True):
    name, truth = going_on(b, go, counter, inner)
    outs = [(name, truth)] + [(v.name, v) for v in results + stacked]
    infos = [info(counter), info(go)] + [info(s, sizes) for s in inner]
    body = graph_body(b, g.name("body"), infos, outs)
    counted = name in (go.name,) or g.chance(0.8)
    trips = None
    if counted:
        trips = g.ints(g.one([0, 1, 2, 3, 3, 4, 4])) if g.chance(0.7) else g.input("i64", [], low=0, high=4)
    else:
        g.need(truth in b.values and any(truth in n.outs and n.protos[0].op_type == "Less" and n.reads[0] is counter
                                         for n in b.nodes))      # else it may go on for ever
    start = g.const(np.asarray(True)) if g.chance(0.6) else g.input("bool", []) if g.chance(0.2) else None
    made = g.add("Loop", [trips, start] + states, n_out=len(results) + len(stacked), captures=outer_values(b, [go.name]), body=body)
    made = made if isinstance(made, list) else [made]
    for stack, slice_ in zip(made[len(states):], stacked):      # of no slices, onnxruntime does not know the sizes
        g.need(all(a.shape[0] or a.shape[1:] == s.shape for a, s in zip(stack.data, slice_.data)))


@row("control", 1.2)
def loop(g):
    """States that keep their sizes, and stacked results of each round."""
    states = [g.pick(("f32", "f32", "i64"), rank=(0, 1, 2, 3), low=-1e3, high=1e3) for _ in range(g.one([1, 1, 2, 3]))]
    b, counter, go, inner = begin_loop(g, states)
    grow_body(b, 4)
    results = [bounded(b, same_as(b, s)) for s in inner]
    if len(results) > 1 and same_type(results[0], results[1]) and g.chance(0.3):
        results[:2] = results[1::-1]
    stacked = some_results(b, g.one([0, 1, 2]), lambda v: v.dtype != "bool" and v.data[0].size < 500)
    end_loop(g, b, counter, go, inner, states, results, stacked)


@row("control", 0.8)
def resizing_loop(g):
    """A state whose sizes each round changes: grown, cut, turned."""
    x = g.pick(("f32", "i64"), rank=(1, 2, 3), low=-1e3, high=1e3, where=lambda v: v.data[0].size < 200)
    states = [x] + [g.pick(("f32", "i64"), rank=(0, 1, 2), low=-1e3, high=1e3) for _ in range(g.one([0, 1]))]
    b, counter, go, inner = begin_loop(g, states)
    grow_body(b, 2)
    s = inner[0]
    axis = axis_of(b, s.rank)
    kind = b.one(["join", "join", "double", "cut", "turn", "choose"])
    if kind == "join":
        piece = b.one([v for v in b.values if v is not s and same_type(v, x)] or [x])
        b.capture(piece)
        made = b.add("Concat", b.rng.sample([s, piece], 2), exact=True, axis=axis)
    elif kind == "double":
        made = b.add("Concat", [s, s], exact=True, axis=axis)
    elif kind == "cut":
        starts, ends = b.one([([1], [2 ** 31]), ([0], [-1])])
        made = b.add("Slice", [s, b.ints(starts), b.ints(ends), b.ints([axis])], exact=True)
    elif kind == "turn":
        made = b.add("Transpose", [s], exact=True)
    else:
        made = b.add("Gather", [s, b.ints([0, 0, b.one([0, 1])])], exact=True, axis=axis)
    results = [bounded(b, made)] + [bounded(b, same_as(b, s)) for s in inner[1:]]
    stacked = []
    if g.chance(0.5):
        stacked.append(b.add(g.one(["ReduceMax", "ReduceMin"]), [results[0]], keepdims=0, exact=True))
    end_loop(g, b, counter, go, inner, states, results, stacked, sizes=False)


# ---- Scan ------------------------------------------------------------------------------------------------------------

@row("control", 1.5)
def scan(g):
    """States, one to three sequences along any axis in both directions, and stacked results in any axis and direction."""
    xs = [g.pick(("f32", "f32", "i64"), rank=(1, 2, 3), low=-100, high=100)]
    axes = [axis_of(g, xs[0].rank)]
    length = g.spec(xs[0])[axes[0]]
    g.need(length is not None and length != 0)
    for _ in range(g.one([0, 0, 1, 2])):
        dims = g.shape(g.one([0, 1, 2]), symbolic=0, zero=0)
        axes.append(axis_of(g, len(dims) + 1))
        dims.insert(axes[-1] % (len(dims) + 1), length)
        xs.append(g.leaf(g.one(["f32", "f32", "i64"]), dims))
    backwards = [int(g.chance(0.4)) for _ in xs]
    b = new_body(g)
    b.symbolic = 0.0
    states = scan_states(g, xs[0], axes[0])
    inner = [Value(b.name("s"), "node", v.data) for v in states]
    steps = [Value(b.name("e"), "node", [np.take(v, -1 if back else 0, axis) for v in x.data])
             for x, axis, back in zip(xs, axes, backwards)]
    b.values += inner + steps
    grow_body(b, 3)
    new = [bounded(b, same_as(b, s)) for s in inner]
    results = some_results(b, g.one([1, 1, 2]), lambda v: v.dtype in ("f32", "i64") and v.data[0].size < 500)
    g.need(new or results)
    g.need(len({v.name for v in new}) == len(new))      # onnxruntime loses slices of what two states take
    a = {"scan_input_axes": axes if any(axes) or g.chance(0.2) else None,
         "scan_input_directions": backwards if any(backwards) or g.chance(0.2) else None}
    if results and g.chance(0.5):
        a["scan_output_axes"] = [axis_of(g, v.rank + 1) for v in results]
    if results and g.chance(0.3):
        a["scan_output_directions"] = [g.one([0, 1]) for _ in results]
    sizes = all(v.fixed for v in inner + steps) and g.chance(0.7)
    body = graph_body(b, g.name("body"), [info(v, sizes) for v in inner + steps], [(v.name, v) for v in new + results])
    g.add("Scan", states + xs, n_out=len(new) + len(results), captures=outer_values(b), body=body, num_scan_inputs=len(xs), **a)


def scan_states(g, x, axis):
    """None, one of the size of a step, or two; small floats or whole numbers."""
    dims = [d if d is not None else 1 for d in g.spec(x)]
    del dims[axis]
    states = []
    for _ in range(g.one([0, 1, 1, 1, 2])):
        dims = dims if g.chance(0.7) else g.shape(g.one([0, 1, 2]), symbolic=0, zero=0)
        states.append(g.leaf(g.one(["f32", "f32", "i64"]), dims))
    return states
