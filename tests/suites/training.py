"""Gradient and the optimizers of ai.onnx.preview.training.

Gradients are judged by central differences of what onnx's evaluator computes forward, in f64: h = 1e-5 leaves an error of about
1e-9. Optimizers are judged by their formulas in numpy, over several steps that feed each other.
"""
import numpy as np
import onnx
import onnx.parser
from onnx import TensorProto, helper

from harness import Case, check, text_table
from suites.ops import BACKENDS
from suites.random import model_of, node, run

TRAINING = "ai.onnx.preview.training"

# name | inputs as NAME[DIMS] | those to differentiate by | the nodes up to y
FUNCTIONS = {name: parts for name, *parts in text_table("""
arithmetic | a[2,3] b[3] c[2,1] | a b c | s = Add (a, b) p = Mul (s, c) q = Sub (p, b) y = Div (q, a)
scalars | a[2,3] b[] | a b | s = Mul (a, b) y = Add (s, b)
functions | a[2,3] b[2,3] | a b | t = Tanh (a) s = Sigmoid (b) e = Exp (t) l = Log (s) r = Sqrt (e) n = Neg (l) p =
    Reciprocal (s) o = Softplus (b) i = Sin (a) k = Cos (b) m = Sum (r, n, p, o, i) y = Mul (m, k)
kinks | a[3,4] b[3,4] | a b | r = Relu (a) l = LeakyRelu <alpha = 0.1> (b) v = Abs (a) m = Mean (r, l, v) g = Less (a,
    b) y = Where (g, m, a)
powers | a[2,3] b[3] | a b | p = Abs (a) y = Pow (p, b)
product | a[4,3] b[3,5] c[5] | a b c | m = MatMul (a, b) s = Add (m, c) y = Tanh (s)
batches | a[2,4,3] b[3,5] | a b | m = MatMul (a, b) y = Mul (m, m)
gemm | a[4,3] b[4,5] c[5] | a b c | m = Gemm <transA = 1, alpha = 0.5, beta = 2.0> (a, b, c) y = Mul (m, m)
gemm_both | a[4,3] b[5,4] c[3,5] | a b c | m = Gemm <transA = 1, transB = 1> (a, b, c) y = Mul (m, m)
sums | a[2,3,4] | a | x = Constant <value = int64[1] {1}> () s = ReduceSum <keepdims = 0> (a, x) q = Mul (s, s) m =
    ReduceMean <keepdims = 0> (a) y = Mul (q, m)
shapes | a[2,6] b[3,4] | a b | d = Constant <value = int64[2] {3, 4}> () r = Reshape (a, d) t = Transpose (b) u =
    MatMul (r, t) f = Flatten (u) j = Concat <axis = 1> (f, f) y = Mul (j, j)
softmaxes | a[3,4] b[3,4] | a b | s = Softmax (a) l = LogSoftmax <axis = 0> (b) y = Mul (s, l)
gathers | a[5,3] | a | i = Constant <value = int64[4] {1, 1, 0, -1}> () g = Gather (a, i) y = Mul (g, g)
slices | a[5,4] b[2,6] | a b | z = Constant <value = int64[2] {4, 0}> () e = Constant <value = int64[2] {-6, 4}> () x
    = Constant <value = int64[2] {0, 1}> () k = Constant <value = int64[2] {-2, 1}> () s = Slice (a, z, e, x, k) p, q,
    r = Split <axis = 1, num_outputs = 3> (b) u = Mul (p, r) v = ReduceSum <keepdims = 0> (u) i = Constant <value =
    int64[3] {3, 0, 3}> () g = Gather <axis = 1> (s, i) h = Mul (g, g) y = Mul (h, v)
tiles | a[1,4,2,2] | a | n = Constant <value = int64[4] {2, 1, 1, 2}> () t = Tile (a, n) d = DepthToSpace <blocksize =
    2> (t) s = SpaceToDepth <blocksize = 2> (d) y = Mul (s, s)
conv | x[2,3,5,4] w[4,3,3,2] b[4] | x w b | c = Conv <pads = [1, 0, 1, 1]> (x, w, b) y = Mul (c, c)
conv_strides | x[1,2,9] w[3,2,3] | x w | c = Conv <strides = [3], dilations = [2], pads = [1, 0]> (x, w) y = Mul (c,
    c)
conv_groups | x[2,4,6,5] w[6,2,2,3] | x w | c = Conv <group = 2, strides = [2, 1]> (x, w) y = Tanh (c)
conv_depthwise | x[1,3,4,4] w[3,1,3,3] | x w | c = Conv <group = 3, pads = [1, 1, 1, 1]> (x, w) y = Mul (c, c)
max_pool | x[2,2,6,5] | x | m = MaxPool <kernel_shape = [2, 3], strides = [2, 1], pads = [0, 1, 0, 1]> (x) y = Mul (m,
    m)
average_pools | x[1,2,6,5] | x | m = AveragePool <kernel_shape = [2, 3], strides = [2, 1], pads = [0, 1, 0, 1]> (x) n
    = AveragePool <kernel_shape = [2, 3], strides = [2, 1], pads = [0, 1, 0, 1], count_include_pad = 1> (x) g =
    GlobalAveragePool (x) p = Mul (m, n) y = Mul (p, g)
classifier | x[6,4] w[4,3] b[3] | w b | t = Constant <value = int64[6] {0, 2, 1, 1, 2, 0}> () h = Gemm (x, w, b) y =
    SoftmaxCrossEntropyLoss (h, t)
""")}


def parse_inputs(text):
    for word in text.split():
        name, dims = word[:-1].split("[")
        yield name, [int(d) for d in dims.split(",") if d]


def function_model(name, gradient):
    inputs, wrt, body = FUNCTIONS[name]
    args = ", ".join(f"double[{','.join(map(str, d))}] {n}" if d else f"double {n}" for n, d in parse_inputs(inputs))
    text = f'<ir_version: 10, opset_import: ["" : 21, "{TRAINING}" : 1]> g ({args}) => (double y) {{ {body} }}'
    model = onnx.parser.parse_model(text.replace("(double y)", "(y)"))
    if gradient:
        xs = wrt.split()
        zs = [n for n, _ in parse_inputs(inputs) if n not in xs]
        model.graph.node.append(helper.make_node("Gradient", xs + zs, [f"d{n}" for n in xs], domain=TRAINING, xs=xs, y="y",
                                                 **({"zs": zs} if zs else {})))
        model.graph.output.extend(onnx.ValueInfoProto(name=f"d{n}") for n in xs)
    return model


def values(name):
    rng = np.random.default_rng(len(name))
    return {n: rng.uniform(0.2, 1.5, d) * rng.choice([-1, 1], d) if name == "kinks" else rng.uniform(0.3, 1.5, d)
            for n, d in parse_inputs(FUNCTIONS[name][0])}


def forward(name):
    from onnx.reference import ReferenceEvaluator
    judge = ReferenceEvaluator(function_model(name, False))
    return lambda feeds: float(np.sum(judge.run(None, feeds)[0]))


def central_differences(f, feeds, name, h=1e-5):
    out = np.zeros_like(feeds[name])
    for at in np.ndindex(out.shape):
        ends = []
        for sign in (1, -1):
            moved = np.array(feeds[name])
            moved[at] += sign * h
            ends.append(f({**feeds, name: moved}))
        out[at] = (ends[0] - ends[1]) / (2 * h)
    return out


def gradients(ctx, backend):
    for name, (_, wrt, _) in FUNCTIONS.items():
        feeds = values(name)
        got = run(ctx, function_model(name, True), backend, feeds)[1:]
        f = forward(name)
        for x, g in zip(wrt.split(), got):
            want = central_differences(f, feeds, x)
            check(g.shape == want.shape, f"{name}: d{x} has shape {g.shape}, expected {want.shape}")
            worst = np.max(np.abs(g - want) / (1 + np.abs(want)))
            check(worst < 1e-6, f"{name}: d{x} is off by {worst}")
    return f"{len(FUNCTIONS)} functions"


OTHER_PLACE = f"""
<ir_version: 10, opset_import: ["" : 21, "{TRAINING}" : 1]>
g (double[3] x, double[3] at) => (y, there, second, bell) {{
    s = Mul (x, x)
    y = Mul (s, x)
    there = {TRAINING}.Gradient <xs = ["x"], y = "y"> (at)
    first = {TRAINING}.Gradient <xs = ["x"], y = "y"> (x)
    second = {TRAINING}.Gradient <xs = ["x"], y = "first"> (x)
    e = Erf (x)
    bell = {TRAINING}.Gradient <xs = ["x"], y = "e"> (x)
}}"""


def other_place(ctx, backend):
    """Values other than those of xs, the derivative of a derivative, and Erf, which onnx's evaluator computes in f32."""
    x, at = np.array([1.0, -2.0, 0.5]), np.array([3.0, 0.25, -1.0])
    y, there, second, bell = run(ctx, onnx.parser.parse_model(OTHER_PLACE), backend, {"x": x, "at": at})
    for what, got, want in (("y", y, x ** 3), ("dy at other values", there, 3 * at ** 2), ("d2y", second, 6 * x),
                            ("dErf", bell, 2 / np.sqrt(np.pi) * np.exp(-x * x))):
        check(np.allclose(got, want, rtol=1e-12), f"{what}: {got}, expected {want}")


def refused(ctx):
    """An operator without a rule is named."""
    body = f'<ir_version: 10, opset_import: ["" : 21, "{TRAINING}" : 1]> g (float[1,4,4,4] x, float[1] w) => (d)' \
           f' {{ p = Mul (x, w) y = LRN <size = 3> (p) d = {TRAINING}.Gradient <xs = ["w"], zs = ["x"], y = "y"> (w, x) }}'
    path = ctx.new_dir() + "/m.onnx"
    onnx.save(onnx.parser.parse_model(body), path)
    done = ctx.smelt("compile", path, "-o", ctx.new_dir() + "/m.a", expect=3)
    check("the derivative of LRN is not supported" in done.stderr, done.stderr)


# ---- optimizers ----------------------------------------------------------------------------------------------------------

def adagrad(r, t, x, g, h, decay_factor=0.0, epsilon=1e-6, norm_coefficient=0.0):
    g = norm_coefficient * x + g
    h = h + g * g
    return x - r / (1 + t * decay_factor) * g / (np.sqrt(h) + epsilon), h


def momentum(r, t, x, g, v, alpha, beta, norm_coefficient, mode):
    g = norm_coefficient * x + g
    v = alpha * v + (beta if t > 0 else 1) * g
    return x - r * (g + alpha * v if mode == "nesterov" else v), v


def adam(r, t, x, g, v, h, alpha=0.9, beta=0.999, epsilon=1e-6, norm_coefficient=0.0, norm_coefficient_post=0.0):
    g = norm_coefficient * x + g
    v, h = alpha * v + (1 - alpha) * g, beta * h + (1 - beta) * g * g
    r = r * np.sqrt(1 - beta ** t) / (1 - alpha ** t) if t > 0 else r
    return (1 - norm_coefficient_post) * (x - r * v / (np.sqrt(h) + epsilon)), v, h


RULES = (("Adagrad", adagrad, 1, {}), ("Adagrad", adagrad, 1, {"decay_factor": 0.25, "norm_coefficient": 0.5}),
         ("Momentum", momentum, 1, {"alpha": 0.75, "beta": 0.5, "norm_coefficient": 0.0, "mode": "standard"}),
         ("Momentum", momentum, 1, {"alpha": 0.75, "beta": 0.5, "norm_coefficient": 0.25, "mode": "nesterov"}),
         ("Adam", adam, 2, {}),
         ("Adam", adam, 2, {"alpha": 0.5, "beta": 0.75, "norm_coefficient": 0.25, "norm_coefficient_post": 0.125}))


def optimizer_model(op, n_states, attributes, dtype):
    """Two tensors, of which one is a scalar, in one node; R and T as scalars and as lists of one."""
    groups = ("x", "g", "v", "h")[:2 + n_states]
    names = [f"{k}{i}" for k in groups for i in range(2)]
    outs = [f"{k}{i}_new" for k in ("x",) + groups[2:] for i in range(2)]
    info = helper.make_tensor_value_info
    inputs = [info("r", TensorProto.FLOAT, [1]), info("t", TensorProto.INT64, [])]
    inputs += [info(n, dtype, [3, 2] if n.endswith("0") else []) for n in names]
    model = model_of([node(op, "r t " + " ".join(names), " ".join(outs), domain=TRAINING, **attributes)], inputs)
    model.opset_import.append(helper.make_opsetid(TRAINING, 1))
    return model, names


def optimizers(ctx, backend):
    for row, (op, rule, n_states, attributes) in enumerate(RULES):
        as_type = (np.float32, np.float64)[row % 2]
        model, names = optimizer_model(op, n_states, attributes, helper.np_dtype_to_tensor_dtype(np.dtype(as_type)))
        rng = np.random.default_rng(3)
        state = {n: rng.uniform(0.1, 1, (3, 2) if n.endswith("0") else ()).astype(as_type) for n in names}
        for t in range(2):
            got = run(ctx, model, backend, {"r": np.array([0.1], np.float32), "t": np.int64(t), **state})
            want = [rule(np.float64(np.float32(0.1)), t, *(state[f"{k}{i}"].astype(np.float64)
                         for k in "xgvh"[:2 + n_states]), **attributes) for i in range(2)]
            flat = [want[i][k] for k in range(1 + n_states) for i in range(2)]
            for name, a, b in zip((o.name for o in model.graph.output), got, flat):
                check(a.dtype == as_type and a.shape == np.shape(b), f"{op}: {name} is {a.dtype}{a.shape}")
                check(np.allclose(a, b, rtol=3e-6), f"{op} {attributes} step {t}: {name} is {a}, expected {b}")
            state.update({o.name[:-4]: a for o, a in zip(model.graph.output, got)})


def cases(ctx):
    made = [Case("refused", lambda: refused(ctx))]
    for what in (gradients, other_place, optimizers):
        made += [Case(f"{what.__name__}.{b}", lambda w=what, b=b: w(ctx, b), label) for b, label in BACKENDS.items()]
    return made
