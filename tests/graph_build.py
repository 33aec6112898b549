"""Grows one random graph, every value of it computed while it grows. The operators are in graph_ops.

A Graph keeps for each value four arrays: two runs (RUN_A, RUN_B: other data, and other sizes of the symbolic dims) and of
each a twin, which is the same run with every float result off by some roundings. So the builder knows what it needs to
know without a theory of its own:

    a node that fails in a run is not valid there (a broadcast that only fits by chance): it is not taken
    a node whose integers or bools differ between a run and its twin depends on roundings: it is not taken
    a node whose floats differ much between them is badly conditioned: it is not taken
    the difference that is left is what the model's result may be off by: Value.slack

The judge of a node is onnxruntime on a model of that node alone, without its optimizations; where it has no kernel for a
dtype, onnxruntime on f32 with the results rounded back, else onnx's reference evaluator.
"""
import random
from dataclasses import dataclass

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

DTYPES = {"f32": np.dtype(np.float32), "f64": np.dtype(np.float64), "f16": np.dtype(np.float16),
          "bf16": np.dtype(ml_dtypes.bfloat16), "i8": np.dtype(np.int8), "i16": np.dtype(np.int16),
          "i32": np.dtype(np.int32), "i64": np.dtype(np.int64), "u8": np.dtype(np.uint8), "u16": np.dtype(np.uint16),
          "u32": np.dtype(np.uint32), "u64": np.dtype(np.uint64), "bool": np.dtype(np.bool_)}
ALL_DTYPES = {**DTYPES, "str": np.dtype(object), "i4": np.dtype(ml_dtypes.int4), "u4": np.dtype(ml_dtypes.uint4)}
NAMES = {v: k for k, v in ALL_DTYPES.items()}
ONNX_TYPES = {k: TensorProto.STRING if k == "str" else helper.np_dtype_to_tensor_dtype(v) for k, v in ALL_DTYPES.items()}
SCHEMA_TYPES = {"tensor(float)": "f32", "tensor(double)": "f64", "tensor(float16)": "f16", "tensor(bfloat16)": "bf16",
                "tensor(int8)": "i8", "tensor(int16)": "i16", "tensor(int32)": "i32", "tensor(int64)": "i64",
                "tensor(uint8)": "u8", "tensor(uint16)": "u16", "tensor(uint32)": "u32", "tensor(uint64)": "u64",
                "tensor(bool)": "bool", "tensor(string)": "str"}
WORDS = ["", "a", "b", "ab", "Ab", "a b", "the cat", "1", "-7", "12", "\u00e9t\u00e9", "\u65e5\u672c", "x" * 30]
OTHER_DOMAINS = {"ai.onnx.ml": 3, "com.microsoft": 1}
FLOATS = ("f32", "f64", "f16", "bf16")
INTS = ("i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64")
EPS = {"f32": 2.0 ** -23, "f64": 2.0 ** -52, "f16": 2.0 ** -10, "bf16": 2.0 ** -7}
NOISE = {"f32": 16, "f64": 16, "f16": 2, "bf16": 1}         # roundings that a twin is off by
LARGEST = {"f32": 1e6, "f64": 1e9, "f16": 500, "bf16": 1e4}
ILL = {"f32": 1e-3, "f64": 1e-6, "f16": 0.1, "bf16": 0.2}     # difference of twins, of the largest value
RUN_A, TWIN_A, RUN_B, TWIN_B = range(4)


class Reject(Exception):
    """This draw gives no node; the caller draws again."""


class Unjudged(Exception):
    """This judge cannot take the node; another may."""


@dataclass(eq=False)
class Value:
    name: str
    kind: str                # input, const, node
    data: list               # the four arrays
    spec: list = None        # an input's dims: int or name of a symbol
    dtype: str = ""
    exact: bool = True       # nothing behind it rounds

    def __post_init__(self):
        self.dtype = NAMES[self.data[0].dtype]

    @property
    def shape(self):
        return self.data[RUN_A].shape

    @property
    def rank(self):
        return self.data[RUN_A].ndim

    @property
    def fixed(self):
        return self.data[RUN_A].shape == self.data[RUN_B].shape

    def within(self, low, high):
        if self.dtype == "str":
            return False
        with np.errstate(all="ignore"):     # bounds that the dtype does not have
            return all(a.size == 0 or (a.min() >= low and a.max() <= high) for a in self.data)

    def slack(self, run):
        """How far apart the twins are, per element and on average (an element may be near its twin by chance), in f64."""
        a, b = (self.data[run + i].astype(np.float64) for i in (0, 1))
        return np.abs(a - b) + (np.abs(a - b).mean() if a.size else 0)


def same_type(a, v):
    return a.dtype == v.dtype and all(p.shape == q.shape for p, q in zip(a.data, v.data))


@dataclass
class Node:
    protos: list             # one node of the model, or a chain with sequences or optionals between them
    reads: list              # Values, those captured by its bodies as well
    outs: list


# ---- the judge -------------------------------------------------------------------------------------------------------

def session_of(model):
    import onnxruntime
    onnxruntime.set_default_logger_severity(4)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])


def imports_of(opset):
    return [helper.make_opsetid("", opset)] + [helper.make_opsetid(d, v) for d, v in OTHER_DOMAINS.items()]


def single_model(protos, reads, opset, widen):
    inputs, constants = [], []
    for v in reads:
        wide = widen and v.dtype in ("f16", "bf16")
        if v.kind == "const":
            constants.append(numpy_helper.from_array(v.data[0].astype(np.float32) if wide else v.data[0], v.name))
        else:
            dtype = TensorProto.FLOAT if wide else ONNX_TYPES[v.dtype]
            inputs.append(helper.make_tensor_value_info(v.name, dtype, [None] * v.rank))
    outs = [onnx.ValueInfoProto(name=o) for o in outs_of(protos)]
    graph = helper.make_graph(protos, "node", inputs, outs, constants)
    return helper.make_model(graph, ir_version=10, opset_imports=imports_of(opset))


def outs_of(protos):
    """What a chain of nodes makes and does not read itself."""
    read = {i for p in protos for i in p.input}
    return [o for p in protos for o in p.output if o and o not in read]


def noise_nodes(clean, name, dtype):
    """Nodes and constants of name = clean + clean * (some roundings) * sin(clean / eps): neighbours get other noise."""
    constants = [numpy_helper.from_array(np.asarray(c, DTYPES[dtype]), name + end)
                 for end, c in (("_f", 1 / EPS[dtype]), ("_e", NOISE[dtype] * EPS[dtype]))]
    steps = [("Mul", clean, name + "_f"), ("Sin", name + "_0"), ("Mul", name + "_1", name + "_e"), ("Mul", name + "_2", clean)]
    nodes = [helper.make_node(op, reads, [f"{name}_{i}"]) for i, (op, *reads) in enumerate(steps)]
    return nodes + [helper.make_node("Add", [clean, name + "_3"], [name])], constants


def noisy_bodies(protos, types):
    """The nodes with noise behind every float that the nodes of their bodies make; types: dtypes by name."""
    made = []
    for p in protos:
        q = onnx.NodeProto()
        q.CopyFrom(p)
        for a in q.attribute:
            if a.HasField("g"):
                add_noise(a.g, types)
        made.append(q)
    return made


def add_noise(body, types):
    nodes = noisy_bodies(body.node, types)
    del body.node[:]
    for n in nodes:
        floats = [(k, o) for k, o in enumerate(n.output) if types.get(o) in ("f32", "f64")]
        for k, o in floats:
            n.output[k] = o + "_clean"
        body.node.append(n)
        for _, o in floats:
            more, constants = noise_nodes(o + "_clean", o, types[o])
            body.node.extend(more)
            body.initializer.extend(constants)


def by_onnxruntime(protos, reads, opset, widen, types):
    narrow = next((v.dtype for v in reads if v.dtype in ("f16", "bf16")), None)
    has_bodies = any(a.HasField("g") for p in protos for a in p.attribute)
    if protos[0].op_type.startswith("Reduce") and not all(a.size for a in reads[0].data):
        raise Unjudged("of no elements, it keeps axes that are counted from the end")
    try:
        session = session_of(single_model(protos, reads, opset, widen))
        twin = session_of(single_model(noisy_bodies(protos, types), reads, opset, widen)) if has_bodies else session
    except Exception as e:      # no kernel for these types, or no valid node: pybind's exceptions have no common base
        raise Unjudged(str(e)) from None
    runs = []
    for i in range(4):
        feeds = {v.name: v.data[i].astype(np.float32) if widen and v.dtype in ("f16", "bf16") else v.data[i]
                 for v in reads if v.kind != "const"}
        out = [np.asarray(a) for a in (twin if i % 2 else session).run(None, feeds)]
        if any(a.dtype == object and a.shape == () and a.item() is None for a in out):
            raise Unjudged("no tensor: what a loop without rounds did not make")
        if widen:
            out = [a.astype(DTYPES[narrow]) if a.dtype == np.float32 else a for a in out]
        runs.append(out)
    return runs


def by_reference(protos, reads, opset):
    from onnx.reference import ReferenceEvaluator
    model = single_model(protos, reads, opset, False)
    evaluator = ReferenceEvaluator(model)
    types = onnx.shape_inference.infer_shapes(model).graph.output
    types = [helper.tensor_dtype_to_np_dtype(o.type.tensor_type.elem_type) for o in types]   # numpy widens some sums
    runs = [[np.asarray(a).astype(t) for a, t in zip(evaluator.run(None, {v.name: v.data[i] for v in reads if v.kind != "const"}), types)]
            for i in range(4)]
    if any(a.dtype == object and not all(isinstance(e, str) for e in a.flat) for run in runs for a in run):
        raise Unjudged("numbers among strings: what it pads strings with is 0")
    return runs


def cast(proto, reads):
    to = NAMES[helper.tensor_dtype_to_np_dtype(next(a.i for a in proto.attribute if a.name == "to"))]
    return [[v.astype(DTYPES[to])] for v in reads[0].data]


def evaluate(protos, reads, opset, types, reference, judge=None):
    """[outputs of each of the four runs]. reference: onnx's evaluator may judge it, too; judge: it alone does."""
    has_bf16 = any(v.dtype == "bf16" for v in reads)
    has_bodies = any(a.HasField("g") for p in protos for a in p.attribute)
    if has_bodies and has_bf16:
        raise Reject("no judge takes bf16 in a body")
    if protos[0].op_type == "Cast" and reads[0].dtype in DTYPES and protos[0].attribute[0].i != TensorProto.STRING:
        return cast(protos[0], reads)
    ways = [] if has_bf16 else [lambda: by_onnxruntime(protos, reads, opset, False, types)]
    if not has_bodies and (has_bf16 or any(v.dtype == "f16" for v in reads)):
        ways.append(lambda: by_onnxruntime(protos, reads, opset, True, types))
    ways = [] if judge else ways
    if reference or judge:
        ways.append(lambda: by_reference(protos, reads, opset))
    for way in ways:
        try:
            with np.errstate(all="ignore"):
                return way()
        except Unjudged:
            continue
        except Exception as e:  # what fails while it runs is not valid
            raise Reject(str(e)) from None
    raise Reject("no judge")


def has_version(op, opset):
    try:
        onnx.defs.get_schema(op, opset)
        return True
    except onnx.defs.SchemaError:
        return False


# ---- growing ---------------------------------------------------------------------------------------------------------

class Graph:
    def __init__(self, seed, opset=22, parent=None):
        self.parent = parent
        self.opset = parent.opset if parent else opset
        self.rng = parent.rng if parent else random.Random(seed)
        self.np = parent.np if parent else np.random.default_rng(seed)
        self.symbols = parent.symbols if parent else {}        # name: (size in run A, in run B)
        self.counter = parent.counter if parent else [0]
        self.types = parent.types if parent else {}            # dtype of every value by name, those of bodies too
        self.strings = parent.strings if parent else False     # do values of any type include strings?
        self.values, self.nodes, self.captured = [], [], []

    # -- names and choices

    def name(self, stem):
        self.counter[0] += 1
        return f"{stem}{self.counter[0]}"

    def chance(self, p):
        return self.rng.random() < p

    def one(self, items):
        items = list(items)
        if not items:
            raise Reject("nothing to choose from")
        return self.rng.choice(items)

    def need(self, condition):
        if not condition:
            raise Reject("a condition of the row")

    # -- leaves

    def arrays(self, spec, draw):
        shapes = [tuple(d if isinstance(d, int) else self.symbols[d][r] for d in spec) for r in (0, 1)]
        a, b = draw(shapes[0]), draw(shapes[1])
        return [a, a, b, b]

    def drawn(self, dtype, low=None, high=None):
        """A function from a shape to random values."""
        def draw(shape):
            if dtype == "str":
                return self.np.choice(np.asarray(WORDS, object), shape)
            if dtype in FLOATS:
                v = self.np.standard_normal(shape) if low is None else self.np.uniform(low, high, shape)
            elif dtype == "bool":
                v = self.np.integers(0, 2, shape)
            else:
                lo = (0 if dtype[0] == "u" else -10) if low is None else low
                v = self.np.integers(int(lo), int(10 if high is None else high) + 1, shape)
            return np.asarray(v).astype(ALL_DTYPES[dtype])
        return draw

    def input(self, dtype, spec, draw=None, low=None, high=None):
        """A new input of the model. In a body, where there are none: a value of the graph outside."""
        if self.parent:
            v = self.parent.input(dtype, spec, draw, low, high)
            self.capture(v)
            return v
        if any(d == 0 for d in spec) or len(self.inputs()) >= 12:
            return self.const(self.arrays(spec, draw or self.drawn(dtype, low, high))[0])
        v = Value(self.name("x"), "input", self.arrays(spec, draw or self.drawn(dtype, low, high)), list(spec))
        self.values.append(v)
        return v

    def const(self, array):
        v = Value(self.name("c"), "const", [array] * 4)
        self.values.append(v)
        return v

    def leaf(self, dtype, spec, draw=None, low=None, high=None, const=0.4):
        if all(isinstance(d, int) for d in spec) and self.chance(const):
            return self.const(self.arrays(spec, draw or self.drawn(dtype, low, high))[0])
        return self.input(dtype, spec, draw, low, high)

    def ints(self, numbers, dtype="i64"):
        return self.const(np.asarray(numbers, DTYPES[dtype]))

    def capture(self, v):
        if v not in self.captured:
            self.captured.append(v)

    def inputs(self):
        return [v for v in self.values if v.kind == "input"]

    def spec(self, v):
        """The dims as ints and symbols; None for those that only the run knows."""
        dims = []
        for a, b in zip(v.shape, v.data[RUN_B].shape):
            names = [n for n, pair in self.symbols.items() if pair == (a, b)]
            dims.append(a if a == b else names[0] if names else None)
        return dims

    def size(self, small=False):
        return self.one([1, 2, 3, 4, 5] if small else [1, 2, 3, 3, 4, 5, 5, 6, 7, 8, 9, 11, 13, 16, 17, 19])

    def dim(self, symbolic=0.0, small=False):
        """A size, or perhaps a symbol."""
        if not self.chance(symbolic):
            return self.size(small)
        if len(self.symbols) < 3 and (not self.symbols or self.chance(0.3)):
            used = [s for pair in self.symbols.values() for s in pair]
            free = [s for s in range(2, 14) if s not in used]
            self.symbols[self.name("n")] = tuple(self.rng.sample(free, 2))
        return self.one(self.symbols)

    def shape(self, rank=None, symbolic=None, zero=0.01):
        rank = self.one([0, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 5]) if rank is None else rank
        symbolic = self.symbolic if symbolic is None else symbolic
        dims = [self.dim(symbolic, small=rank > 3) for _ in range(rank)]
        if dims and self.chance(zero):
            dims[self.rng.randrange(rank)] = 0
        return dims

    most_elements = 20000
    symbolic = 0.0       # how often a dim of a new input is a symbol

    # -- choosing what to read

    def visible(self):
        outer, g = [], self.parent
        while g:
            outer += g.values
            g = g.parent
        return self.values, outer

    def pick(self, dtypes=None, rank=None, where=None, fresh=0.1, low=None, high=None):
        """A value with one of these dtypes, of this rank (an int, a tuple or None) and for which `where` holds: one that
        is there, rather a late one, or a new leaf."""
        dtypes = (dtypes,) if isinstance(dtypes, str) else dtypes or (*DTYPES, "str")[:len(DTYPES) + self.strings]
        ranks = (rank,) if isinstance(rank, int) else rank

        def fits(v):
            return (v.dtype in dtypes and (ranks is None or v.rank in ranks)
                    and (low is None or v.within(low, high)) and (not where or where(v)))
        own, outer = self.visible()
        found = [v for v in own if fits(v)] or [v for v in outer if fits(v)]
        if found and not self.chance(fresh):
            computed = [v for v in found if v.kind != "const"]
            v = self.one((computed or found)[-6:] if self.chance(0.75) else found)
            if v in outer:
                self.capture(v)
            return v
        weights = {"f32": 8, "i64": 2, "i32": 2, "f16": 2, "f64": 2}
        allowed = [d for d in dtypes for _ in range(weights.get(d, 1))]
        for _ in range(8):
            v = self.leaf(self.one(allowed), self.shape(self.one(ranks) if ranks else None), low=low, high=high, const=0.15)
            if not where or where(v):
                return v
        raise Reject("no value fits")

    def partner(self, v, dtype=None, one_way=False, low=None, high=None, fresh=0.4):
        """A value that broadcasts with v (one_way: to v's shape)."""
        dtype = dtype or v.dtype

        def fits(w):
            try:
                for r in (RUN_A, RUN_B):
                    shape = np.broadcast_shapes(v.data[r].shape, w.data[r].shape)
                    if one_way and shape != v.data[r].shape or np.prod(shape) > self.most_elements:
                        return False
            except ValueError:
                return False
            return low is None or w.within(low, high)
        own, outer = self.visible()
        found = [w for w in own + outer if w.dtype == dtype and fits(w)]
        if found and not self.chance(fresh):
            w = self.one(found[-8:])
            if w in outer:
                self.capture(w)
            return w
        dims = [1 if d is None else d for d in self.spec(v)]
        dims = [1 if self.chance(0.25) else d for d in dims]
        dims = dims[self.rng.randrange(len(dims) + 1):] if self.chance(0.4) else dims
        if not one_way:
            dims = [self.size(True) if d == 1 and self.chance(0.2) else d for d in dims]
            dims = [self.size(True)] + dims if self.chance(0.05) and len(dims) < 5 else dims
        return self.leaf(dtype, dims, low=low, high=high)

    # -- nodes

    def noisy(self, array):
        kind = NAMES.get(array.dtype)
        if kind not in FLOATS or not array.size:
            return array
        wide = array.astype(np.float64)
        step = NOISE[kind] * EPS[kind]
        top = np.abs(wide).max()
        if not np.isfinite(top):
            return array
        wide = wide + step * (wide * self.np.uniform(-1, 1, wide.shape) + 0.1 * top * self.np.uniform(-1, 1, wide.shape)
                              * (wide != 0))
        return wide.astype(array.dtype)

    def accept(self, runs):
        """Arrays of one output in the four runs: are they fit to go on with?"""
        kind = NAMES.get(runs[0].dtype)
        self.need(kind is not None)
        for r in (RUN_A, RUN_B):
            a, b = runs[r], runs[r + 1]
            self.need(a.shape == b.shape and a.size <= self.most_elements and a.ndim <= 7)
            if kind not in FLOATS:
                self.need(np.array_equal(a, b))
                continue
            with np.errstate(invalid="ignore"):
                a, b = a.astype(np.float64), b.astype(np.float64)
                self.need(np.isfinite(a).all() and np.isfinite(b).all())
                top = np.abs(a).max(initial=0)
                self.need((top == 0 or 1e-6 < top <= LARGEST[kind]) and np.abs(a - b).max(initial=0) <= ILL[kind] * top)
        self.need(runs[RUN_A].ndim == runs[RUN_B].ndim)

    def add(self, op, reads, n_out=1, exact=False, reference=False, captures=(), domain="", skip=(), judge=None,
            **attributes):
        """A node. reads: Values or None. Returns its output, or a list when n_out is given as more than 1; outputs whose
        number is in `skip` are not asked for. exact: its results are never rounded."""
        self.need(domain or has_version(op, self.opset))
        names = ["" if v is None else v.name for v in reads]
        while names and not names[-1]:
            names.pop()
        outs = ["" if i in skip else self.name("v") for i in range(n_out)]
        attributes = {k: v for k, v in attributes.items() if v is not None}
        proto = helper.make_node(op, names, outs, name=self.name(op), domain=domain, **attributes)
        distinct = list(dict.fromkeys([v for v in reads if v is not None] + list(captures)))
        made = self.chain([proto], distinct, exact, reference, judge)
        return made[0] if n_out == 1 else made

    def chain(self, protos, distinct, exact=False, reference=False, judge=None):
        """Nodes that are judged as one, since what lies between them is no tensor. Returns the Values that they make and
        do not read. distinct: what they read."""
        read = distinct
        if not exact:       # roundings inside of it: long sums, recurrences
            read = [Value(v.name, "node", [a if i % 2 == 0 else self.noisy(a) for i, a in enumerate(v.data)]) if v.kind != "const" else v for v in distinct]
        results = evaluate(protos, read, self.opset, self.types, reference, judge)
        made = []
        for k, out in enumerate(outs_of(protos)):
            runs = [results[i][k] for i in range(4)]
            if not exact:
                runs = [a if i % 2 == 0 else self.noisy(a) for i, a in enumerate(runs)]
            self.accept(runs)
            made.append(Value(out, "node", runs, exact=exact and all(v.exact for v in distinct)))
            self.types[out] = made[-1].dtype
        self.values += made
        self.nodes.append(Node(protos, distinct, made))
        for v in distinct:
            if self.parent and v not in self.values:
                self.capture(v)
        return made

    def attempt(self, row):
        """Calls the row's function; a rejected draw leaves nothing behind. True when it added something."""
        kept = (len(self.values), len(self.nodes), len(self.captured))
        outer, g = [], self.parent
        while g:
            outer.append((g, len(g.values)))
            g = g.parent
        try:
            row(self)
        except Reject:
            del self.values[kept[0]:], self.nodes[kept[1]:], self.captured[kept[2]:]
            for g, n in outer:
                del g.values[n:]
            return False
        return len(self.nodes) > kept[1]


def graph_body(g, name, inputs, outputs):
    """The GraphProto of a body; constants made in it are its own. inputs: ValueInfoProto."""
    constants = [numpy_helper.from_array(v.data[0], v.name) for v in g.values if v.kind == "const"]
    outs = [helper.make_tensor_value_info(o, ONNX_TYPES[v.dtype], None) for o, v in outputs]
    return helper.make_graph([p for n in g.nodes for p in n.protos], name, inputs, outs, constants)


# ---- a part of a graph as a model ----------------------------------------------------------------------------------

def needed_nodes(graph, outputs, cut):
    wanted, nodes = {v for v in outputs if v not in cut}, []
    for n in reversed(graph.nodes):
        if any(o in wanted for o in n.outs):
            nodes.append(n)
            wanted |= {v for v in n.reads if v not in cut}
    return nodes[::-1]


def part_model(graph, outputs, cut=()):
    """(model, its inputs as Values): what computes these outputs, the values in `cut` being inputs (constants, where they
    have no elements)."""
    cut = set(cut)
    nodes = needed_nodes(graph, outputs, cut)
    made = {o for n in nodes for o in n.outs}
    leaves = [v for v in dict.fromkeys(v for n in nodes for v in n.reads) if v in cut or v not in made]
    leaves += [v for v in outputs if v not in leaves and v not in made]
    constants = [v for v in leaves if v.kind == "const" or (v in cut and v.data[0].size == 0)]
    inputs = [v for v in leaves if v not in constants]
    infos = [helper.make_tensor_value_info(v.name, ONNX_TYPES[v.dtype], v.spec if v.spec is not None else
                                           [d if d is not None else f"{v.name}_{i}" for i, d in enumerate(graph.spec(v))])
             for v in inputs]
    outs = [onnx.ValueInfoProto(name=v.name) for v in outputs]
    proto = helper.make_graph([p for n in nodes for p in n.protos], "random", infos, outs,
                              [numpy_helper.from_array(v.data[0], v.name) for v in constants])
    return helper.make_model(proto, ir_version=10, opset_imports=imports_of(graph.opset)), inputs
