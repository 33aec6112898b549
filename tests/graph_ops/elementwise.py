"""Rows of the random graphs: one element of each input makes one of the output."""
import numpy as np

from graph_build import DTYPES, FLOATS, INTS, ONNX_TYPES
from graph_ops.rows import floats_of, row, types_of


UNARY = {"Abs": None, "Acos": (-.95, .95), "Acosh": (1.05, 50), "Asin": (-.95, .95), "Asinh": (-1e3, 1e3),
         "Atan": None, "Atanh": (-.9, .9), "Ceil": None, "Celu": (-30, 30), "Cos": (-20, 20), "Cosh": (-6, 6),
         "Elu": (-30, 30), "Erf": None, "Exp": (-20, 6), "Floor": None, "Gelu": (-30, 30), "HardSigmoid": None,
         "HardSwish": None, "IsNaN": None, "IsInf": None, "LeakyRelu": None, "Log": (.05, 1e4), "Mish": (-30, 30),
         "Neg": None, "Relu": None, "Round": None, "Selu": (-30, 30), "Shrink": None, "Sigmoid": (-6, 30), "Sign": None,
         "Sin": (-20, 20), "Sinh": (-6, 6), "Softplus": (-30, 30), "Softsign": None, "Sqrt": (.01, 1e4),
         "Tan": (-1.2, 1.2), "Tanh": None, "ThresholdedRelu": None, "Not": None, "BitwiseNot": None, "Identity": None,
         "Reciprocal": (.1, 1e4)}
UNARY_ATTRIBUTES = {"Celu": ("alpha",), "Elu": ("alpha",), "HardSigmoid": ("alpha", "beta"), "LeakyRelu": ("alpha",),
                    "Selu": ("alpha", "gamma"), "Shrink": ("bias", "lambd"), "ThresholdedRelu": ("alpha",)}
JUDGED_BADLY = {("Shrink", "f64"), ("Shrink", "f16"), ("Erf", "f64"), ("Gelu", "f64"), ("Gelu", "f16")}      # onnxruntime computes these in another type
EXACT = {"Abs", "Ceil", "Floor", "IsNaN", "IsInf", "Neg", "Relu", "Round", "Sign", "Not", "BitwiseNot", "Identity",
         "Max", "Min", "Where", "Clip"}


def unary(op):
    def draw(g):
        low, high = UNARY[op] or (None, None)
        x = g.pick([d for d in types_of(g, op) if (op, d) not in JUDGED_BADLY], low=low, high=high)
        attributes = {a: round(g.rng.uniform(0.1, 1.2), 3) for a in UNARY_ATTRIBUTES.get(op, ()) if g.chance(0.7)}
        if op == "Gelu":
            attributes["approximate"] = g.one(["none", "tanh"])
        g.add(op, [x], exact=op in EXACT, reference=op not in ("Round", "HardSwish"), **attributes)
    return draw


for name in UNARY:
    row("eltwise", 0.25)(unary(name))


def binary(op):
    def draw(g):
        x = g.pick(types_of(g, op))
        pair = [x, g.partner(x)]
        g.rng.shuffle(pair)
        g.add(op, pair, exact=op in EXACT or x.dtype not in FLOATS, reference=True)
    return draw


for name in ("Add", "Sub", "Mul", "Add", "Mul", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "And", "Or", "Xor", "Equal",
             "Greater", "GreaterOrEqual", "Less", "LessOrEqual"):
    row("eltwise", 0.6)(binary(name))


@row("eltwise")
def div(g):
    x = g.pick(types_of(g, "Div"))
    g.add("Div", [x, g.partner(x, low=1, high=100)], reference=x.dtype in FLOATS)


@row("eltwise", 0.5)
def mod(g):
    x = g.pick(types_of(g, "Mod"))
    fmod = 1 if x.dtype in FLOATS or g.chance(0.3) else 0
    g.add("Mod", [x, g.partner(x, low=1, high=50)], exact=True, reference=True, fmod=fmod)


@row("eltwise", 0.5)
def power(g):
    x = g.pick(("f32", "f64", "f16"), low=.1, high=20)
    if g.chance(0.5):
        e = g.const(np.asarray(g.one([2, 0.5, 3, -1, 1, 0, 1.5, -0.5]), DTYPES[x.dtype]))
    else:
        e = g.partner(x, low=-3, high=3)
    g.add("Pow", [x, e])


@row("eltwise", 0.3)
def bit_shift(g):
    x = g.pick(types_of(g, "BitShift"))
    g.add("BitShift", [x, g.partner(x, low=0, high=7)], exact=True, reference=True, direction=g.one(["LEFT", "RIGHT"]))


@row("eltwise", 0.5)
def p_relu(g):
    x = g.pick(floats_of(g, "PRelu"))
    g.add("PRelu", [x, g.partner(x, one_way=True)])


def variadic(op):
    def draw(g):
        xs = [g.pick([d for d in types_of(g, op) if d != "bf16"])]
        while len(xs) < 4 and g.chance(0.6):
            xs.append(g.partner(xs[0], one_way=len(xs) > 1))
        g.add(op, xs, exact=op in EXACT, reference=True)
    return draw


for name in ("Max", "Min", "Mean", "Sum"):
    row("eltwise", 0.5)(variadic(name))


@row("eltwise", 0.7)
def clip(g):
    x = g.pick([d for d in types_of(g, "Clip") if d != "bf16"])
    low = g.leaf(x.dtype, [], low=0 if x.dtype[0] == "u" else -2, high=1) if g.chance(0.7) else None
    high = g.leaf(x.dtype, [], low=2, high=5) if low is None or g.chance(0.7) else None
    g.add("Clip", [x, low, high], exact=True, reference=True)


@row("eltwise")
def where(g):
    x = g.pick()
    y = g.partner(x)
    c = g.partner(g.one([x, y]), dtype="bool")
    g.add("Where", [c, x, y], exact=True, reference=True)


@row("eltwise", 1.5)
def cast(g):
    x = g.pick()
    to = g.one(DTYPES)
    if x.dtype in FLOATS and to in INTS:
        info = np.iinfo(DTYPES[to])
        g.need(x.within(max(info.min, -2.0 ** 53), min(info.max - 1, 2.0 ** 53)))
    g.need(to != "f16" or x.within(-1e4, 1e4))
    g.add("Cast", [x], exact=to not in FLOATS or x.dtype == "bool", to=ONNX_TYPES[to])


@row("eltwise", 0.2)
def cast_like(g):
    x, y = g.pick(("f32", "i32", "i64", "bool", "f64")), g.pick(("f32", "f64"))
    g.add("CastLike", [x, y], exact=x.dtype != "f64")


@row("eltwise", 0.2)
def dropout(g):
    x = g.pick(("f32", "f64"))
    g.add("Dropout", [x], exact=True)
