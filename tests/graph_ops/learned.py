"""Rows of the random graphs: ai.onnx.ml, what was learned without a network."""
import numpy as np

from graph_build import WORDS
from graph_ops.rows import axis_of, row

ML = "ai.onnx.ml"


def ml(g, op, reads, n_out=1, **attributes):
    return g.add(op, reads, n_out=n_out, domain=ML, **attributes)


def table(g, dtypes=("f32",), **more):
    """A matrix with a known number of columns, and that number."""
    x = g.pick(dtypes, rank=2, where=lambda v: all(a.size for a in v.data), **more)
    n = g.spec(x)[1]
    g.need(isinstance(n, int))
    return x, n


def floats(g, n, low=-2.0, high=2.0):
    return [round(float(v), 3) for v in g.np.uniform(low, high, n)]


def classes(g, n):
    """Labels of n classes as an attribute."""
    if g.strings and g.chance(0.5):
        return {"classlabels_strings": [f"c{i}" for i in range(n)]}
    return {"classlabels_int64s": g.rng.sample(range(-3, 20), n)}


def named(labels, op):
    """TreeEnsembleClassifier has another name for labels than LinearClassifier."""
    return {k.replace("classlabels_ints", "classlabels_int64s") if op != "LinearClassifier" else k.replace("int64s", "ints"): v
            for k, v in labels.items()}


POST = ("NONE", "NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO")


@row("ml")
def scaler(g):
    x, n = table(g, ("f32", "i64", "i32"))
    one = g.chance(0.3)
    ml(g, "Scaler", [x], offset=floats(g, 1 if one else n), scale=floats(g, 1 if one else n, 0.1, 3))


@row("ml")
def normalizer(g):
    x, _ = table(g, ("f32", "i64"))
    ml(g, "Normalizer", [x], norm=g.one(["L1", "L2", "MAX"]))


@row("ml")
def binarizer(g):
    x = g.pick("f32", rank=(1, 2, 3))
    ml(g, "Binarizer", [x], threshold=g.one([0.0, 0.5, -1.25]))


@row("ml")
def imputer(g):
    x, n = table(g, ("f32", "i64"))
    many = g.chance(0.5)
    if x.dtype == "i64":
        ml(g, "Imputer", [x], exact=True, imputed_value_int64s=[g.rng.randint(-9, 9) for _ in range(n if many else 1)],
           replaced_value_int64=g.one([0, 1, 3]))
    else:
        ml(g, "Imputer", [x], exact=True, imputed_value_floats=floats(g, n if many else 1), replaced_value_float=g.one([float("nan"), 0.0]))


@row("ml")
def feature_extractor(g):
    x = g.pick(("f32", "i64", "i32", "f64"), rank=(1, 2, 3))
    n = g.spec(x)[-1]
    g.need(isinstance(n, int) and n > 0)
    count = g.size(True)
    y = g.leaf("i64", [count] if g.chance(0.5) else [1, count], low=0, high=n - 1)
    ml(g, "ArrayFeatureExtractor", [x, y], exact=True)


@row("ml", 0.7)
def feature_vectorizer(g):
    x, n = table(g, ("f32", "i64", "i32"))
    y = g.partner(x)
    g.need(y.rank == 2 and all(a.shape[0] == b.shape[0] for a, b in zip(x.data, y.data)))
    m = g.spec(y)[1]
    g.need(isinstance(m, int) and m > 0)
    ml(g, "FeatureVectorizer", [x, y], inputdimensions=[n, m])


@row("ml")
def linear_regressor(g):
    x, n = table(g, low=-1e3, high=1e3)
    targets = g.one([1, 2, 5])
    ml(g, "LinearRegressor", [x], coefficients=floats(g, n * targets), intercepts=floats(g, targets) if g.chance(0.7) else None,
       targets=targets)


@row("ml", 1.5)
def linear_classifier(g):
    x, n = table(g, low=-30, high=30)
    count = g.one([2, 3, 5])
    ml(g, "LinearClassifier", [x], n_out=2, coefficients=floats(g, n * count), intercepts=floats(g, count),
       post_transform=g.one(POST), **named(classes(g, count), "LinearClassifier"))


@row("ml", 0.8)
def svm(g):
    x, n = table(g, low=-5, high=5)
    count = g.one([2, 4, 7])
    kernel = g.one(["LINEAR", "RBF", "POLY", "SIGMOID"])
    shared = {"kernel_type": kernel, "kernel_params": [0.1, 0.5, 2.0], "support_vectors": floats(g, n * count)}
    if g.chance(0.5):
        ml(g, "SVMRegressor", [x], n_supports=count, coefficients=floats(g, count), rho=floats(g, 1), **shared)
        return
    split = [1, count - 1]
    ml(g, "SVMClassifier", [x], n_out=2, vectors_per_class=split, coefficients=floats(g, count), rho=floats(g, 1),
       **{k.replace("int64s", "ints"): v for k, v in classes(g, 2).items()}, **shared)


def grown_tree(g, n_features, depth, tree, nodes):
    """Appends a tree's nodes (id, feature, mode, value, true, false) and returns its root's id."""
    me = sum(1 for t in nodes if t[0] == tree)
    nodes.append(None)
    slot = len(nodes) - 1
    nodes[slot] = [tree, me, 0, "LEAF", 0.0, 0, 0]
    if depth and g.chance(0.9):
        mode = "BRANCH_LEQ" if g.chance(0.8) else g.one(["BRANCH_LT", "BRANCH_GT", "BRANCH_GTE", "BRANCH_EQ"])
        left = grown_tree(g, n_features, depth - 1, tree, nodes)
        right = grown_tree(g, n_features, depth - 1, tree, nodes)
        nodes[slot] = [tree, me, g.rng.randrange(n_features), mode, floats(g, 1)[0], left, right]
    return me


def ensemble(g, n_features, post="NONE"):
    nodes = []
    for tree in range(g.one([1, 2, 5, 9])):
        grown_tree(g, n_features, g.one([0, 1, 2, 4]), tree, nodes)
    columns = list(zip(*nodes))
    names = ("nodes_treeids", "nodes_nodeids", "nodes_featureids", "nodes_modes", "nodes_values", "nodes_truenodeids", "nodes_falsenodeids")
    a = {k: list(v) for k, v in zip(names, columns)}
    leaves = [(t, i) for t, i, _, mode, *_ in nodes if mode == "LEAF"]
    return a, leaves


@row("ml", 1.5)
def trees(g):
    x, n = table(g, ("f32", "f32", "f64", "i64"))
    a, leaves = ensemble(g, n)
    if g.chance(0.5):
        targets = g.one([1, 1, 3])
        ml(g, "TreeEnsembleRegressor", [x], n_targets=targets, aggregate_function=g.one(["SUM", "SUM", "AVERAGE", "MIN", "MAX"]),
           target_treeids=[t for t, _ in leaves], target_nodeids=[i for _, i in leaves],
           target_ids=[g.rng.randrange(targets) for _ in leaves], target_weights=floats(g, len(leaves)),
           base_values=floats(g, 1) if targets == 1 and g.chance(0.4) else None, **a)
        return
    count = g.one([2, 3, 4])     # of two, onnxruntime takes scores of one class only; it forgets the labels otherwise
    ml(g, "TreeEnsembleClassifier", [x], n_out=2, class_treeids=[t for t, _ in leaves], class_nodeids=[i for _, i in leaves],
       class_ids=[0 if count == 2 else g.rng.randrange(count) for _ in leaves], class_weights=floats(g, len(leaves)),
       post_transform=g.one(POST), base_values=floats(g, count) if count > 2 and g.chance(0.3) else None, **classes(g, count), **a)


@row("ml", 1.2)
def label_encoder(g):
    kinds = {"i64": ("keys_int64s", "values_int64s", "default_int64"), "f32": ("keys_floats", "values_floats", "default_float"),
             "str": ("keys_strings", "values_strings", "default_string")}
    x = g.pick(("i64", "f32", "str") if g.strings else ("i64", "f32"), rank=(1, 2, 3))
    to = g.one(["i64", "f32", "str"] if g.strings else ["i64", "f32"])
    g.need(x.dtype != "f32" or to != "f32" or g.chance(0.5))

    def draw(d, n, keys):
        if d == "str":
            return g.rng.sample(WORDS, n)
        if d == "i64" or keys:
            numbers = g.rng.sample(range(-10, 11), n)
            return [float(i) for i in numbers] if d == "f32" else numbers
        return floats(g, n)
    n = g.one([1, 2, 5, 8])
    default = {"i64": -1, "f32": 0.5, "str": "none"}[to]
    ml(g, "LabelEncoder", [x], exact=True, **{kinds[x.dtype][0]: draw(x.dtype, n, True), kinds[to][1]: draw(to, n, False), kinds[to][2]: default})


@row("ml")
def one_hot_encoder(g):
    x = g.pick(("i64", "f32", "str") if g.strings else ("i64", "f32"), rank=(1, 2))
    cats = {"cats_strings": g.rng.sample(WORDS, 3)} if x.dtype == "str" else {"cats_int64s": g.rng.sample(range(-5, 6), 4)}
    ml(g, "OneHotEncoder", [x], exact=True, zeros=1, **cats)


@row("ml", 0.7)
def category_mapper(g):
    g.need(g.strings)
    x = g.pick(("i64", "str"), rank=(1, 2))
    words = g.rng.sample(WORDS, 4)
    a = {"default_string": "other"} if x.dtype == "i64" else {"default_int64": -7}
    ml(g, "CategoryMapper", [x], exact=True, cats_int64s=g.rng.sample(range(-5, 6), 4), cats_strings=words, **a)


@row("ml", 0.5)
def flags(g):
    """What a pipeline does with a label: compare, and choose."""
    x = g.pick("i64", rank=(1, 2))
    e = g.add("Equal", [x, g.ints(g.rng.randint(-3, 9))], exact=True)
    g.add("Where", [e, g.const(np.float32(1.5)), g.const(np.float32(-0.5))], exact=True, reference=True)
    g.need(axis_of(g, x.rank) is not None)
