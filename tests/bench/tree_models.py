#!/usr/bin/env python3
"""Tree ensembles to time beside treelite with tl2cgen and onnxruntime: scikit-learn fits them on data with noise, and
each becomes one node of ai.onnx.ml, for 1 row and for 1,000.

    tree_models.py DIR [NAME ...]

DIR gets tree_NAME_b1.onnx and tree_NAME_b1000.onnx with .inputs.npz and .outputs.npz (onnxruntime's answers), for
`bench.py --models DIR`, and rows that take turns in calls with 1 row (engines.py). Shapes of trees differ: boosted and level by level (gbm, gbc), boosted and grown leaf by leaf
(leafwise), grown to single samples (forest, forest_reg), over many features (wide), and few (tiny).

Features are f32. A threshold t of scikit-learn's is f64, and `x <= t` holds for the f32 values at or below the largest
f32 that is not above t: that is what the model gets.
"""
import os
import sys

import numpy as np
import onnx
import onnxruntime
from onnx import helper

ROWS = (1, 1000)
ROWS_IN_TURN = 1000         # of the models for 1 row: each call gets the next


def data(n_features, n_classes=0, n_samples=4000):
    """Samples whose target hangs on a few features and pairs of them, with a quarter of noise."""
    rng = np.random.default_rng(n_features + n_classes)
    x = rng.standard_normal((n_samples, n_features)).astype(np.float32)
    y = x[:, 0] * x[:, 1] + np.sin(2 * x[:, 2]) + x[:, 3:8].sum(1) / 2
    y += rng.standard_normal(n_samples) * y.std() / 4
    return x, np.digitize(y, np.quantile(y, np.arange(1, n_classes) / n_classes)) if n_classes else y


def below(threshold):
    """The largest f32 not above the f64."""
    near = threshold.astype(np.float32)
    return np.where(near > threshold, np.nextafter(near, np.float32(-np.inf)), near)


class Nodes:
    """The attributes of an ensemble, tree by tree."""

    def __init__(self, prefix):
        self.prefix, self.n_trees = prefix, 0
        self.lists = {f"nodes_{w}": [] for w in ("treeids", "nodeids", "featureids", "values", "modes", "truenodeids",
                                                 "falsenodeids")}
        self.lists.update({f"{prefix}_{w}": [] for w in ("treeids", "nodeids", "ids", "weights")})

    def add(self, feature, threshold, yes, no, weights):
        """weights: of node i a list of (target, weight), used where yes[i] is negative."""
        n, tree, lists = len(feature), self.n_trees, self.lists
        leaf = np.asarray(yes) < 0
        for word, values in (("treeids", [tree] * n), ("nodeids", range(n)), ("featureids", np.where(leaf, 0, feature)),
                             ("values", np.where(leaf, 0, below(np.asarray(threshold, np.float64)))),
                             ("modes", np.where(leaf, "LEAF", "BRANCH_LEQ")), ("truenodeids", np.where(leaf, 0, yes)),
                             ("falsenodeids", np.where(leaf, 0, no))):
            lists["nodes_" + word] += list(values)
        for node in np.flatnonzero(leaf):
            for target, weight in weights(node):
                for word, value in (("treeids", tree), ("nodeids", node), ("ids", target), ("weights", weight)):
                    lists[f"{self.prefix}_{word}"].append(value)
        self.n_trees += 1

    def add_fitted(self, tree, weights):
        self.add(tree.feature, tree.threshold, tree.children_left, tree.children_right, weights)


def classes_of(tree, share):
    """Each leaf's probabilities, times the tree's share of the forest; of two classes only the second's, with which
    onnxruntime decides, as class 0."""
    p = tree.value[:, 0, :] / tree.value[:, 0, :].sum(1, keepdims=True) * share
    if p.shape[1] == 2:
        p = p[:, 1:]
    return lambda node: [(c, p[node, c]) for c in range(p.shape[1])]


def regression(model, share, base):
    nodes = Nodes("target")
    for t in np.ravel(model.estimators_):
        nodes.add_fitted(t.tree_, lambda node, v=t.tree_.value: [(0, v[node, 0, 0] * share)])
    return "TreeEnsembleRegressor", {**nodes.lists, "n_targets": 1, "post_transform": "NONE"}, base


def voting(model):
    nodes = Nodes("class")
    for t in model.estimators_:
        nodes.add_fitted(t.tree_, classes_of(t.tree_, 1 / len(model.estimators_)))
    return ("TreeEnsembleClassifier", {**nodes.lists, "post_transform": "NONE",
                                       "classlabels_int64s": list(range(model.n_classes_))}, None)


def boosted_classes(model):
    nodes = Nodes("class")
    for stage in model.estimators_:
        for c, t in enumerate(stage):
            nodes.add_fitted(t.tree_, lambda node, v=t.tree_.value, c=c: [(c, v[node, 0, 0] * model.learning_rate)])
    base = np.log(model.init_.class_prior_)
    return ("TreeEnsembleClassifier", {**nodes.lists, "post_transform": "SOFTMAX",
                                       "classlabels_int64s": list(range(model.n_classes_))}, list(base - base.mean()))


def leafwise_regression(model):
    nodes = Nodes("target")
    for (predictor,) in model._predictors:
        n = predictor.nodes
        leaf = n["is_leaf"].astype(bool)
        yes, no = (np.where(leaf, -1, n[side].astype(np.int64)) for side in ("left", "right"))
        nodes.add(n["feature_idx"], n["num_threshold"], yes, no, lambda node, v=n["value"]: [(0, v[node])])
    return ("TreeEnsembleRegressor", {**nodes.lists, "n_targets": 1, "post_transform": "NONE"},
            [float(np.ravel(model._baseline_prediction)[0])])


def ensembles():
    """{name: (what fits and converts it, number of features)}"""
    from sklearn import ensemble as e

    def gbm(n_trees, depth, n_features):
        x, y = data(n_features)
        model = e.GradientBoostingRegressor(n_estimators=n_trees, max_depth=depth, random_state=0).fit(x, y)
        return regression(model, model.learning_rate, [float(np.ravel(model.init_.constant_)[0])])

    def forest(kind, n_trees, n_features, n_classes, **settings):
        x, y = data(n_features, n_classes, 1500)
        model = kind(n_estimators=n_trees, random_state=0, n_jobs=1, **settings).fit(x, y)
        return voting(model) if n_classes else regression(model, 1 / n_trees, None)

    def gbc():
        return boosted_classes(e.GradientBoostingClassifier(n_estimators=40, max_depth=4, random_state=0)
                               .fit(*data(20, 5)))

    def leafwise():
        return leafwise_regression(e.HistGradientBoostingRegressor(max_iter=300, random_state=0).fit(*data(50)))

    return {"gbm100": (lambda: gbm(100, 6, 32), 32), "tiny": (lambda: gbm(20, 3, 8), 8), "gbc": (gbc, 20),
            "leafwise": (leafwise, 50),
            "forest": (lambda: forest(e.RandomForestClassifier, 50, 20, 3), 20),
            "forest_reg": (lambda: forest(e.RandomForestRegressor, 20, 20, 0), 20),
            "wide": (lambda: forest(e.ExtraTreesClassifier, 100, 500, 2, max_depth=8, max_features=0.3), 500)}


def is_tied(scores):
    """Rows whose label hangs on how the sums are rounded."""
    best = np.sort(scores, 1)
    return best[:, -1] - best[:, -2] < 1e-5


def write(folder, name, made, n_features, n_rows):
    kind, attributes, base = made
    outputs = [("y", onnx.TensorProto.FLOAT, (n_rows, 1))]
    if kind == "TreeEnsembleClassifier":
        n_classes = len(attributes["classlabels_int64s"])
        outputs = [("label", onnx.TensorProto.INT64, (n_rows,)), ("y", onnx.TensorProto.FLOAT, (n_rows, n_classes))]
    if base is not None:
        attributes = {**attributes, "base_values": base}
    attributes = {k: np.asarray(v).tolist() if isinstance(v, list) else v for k, v in attributes.items()}
    node = helper.make_node(kind, ["x"], [o[0] for o in outputs], domain="ai.onnx.ml", **attributes)
    graph = helper.make_graph([node], name, [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT,
                                                                           (n_rows, n_features))],
                              [helper.make_tensor_value_info(*o) for o in outputs])
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17),
                                                                  helper.make_opsetid("ai.onnx.ml", 3)])
    path = os.path.join(folder, f"tree_{name}_b{n_rows}")
    onnx.save(model, path + ".onnx")
    session = onnxruntime.InferenceSession(path + ".onnx", providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(7)
    x = rng.standard_normal((n_rows, n_features)).astype(np.float32)
    answers = session.run(None, {"x": x})
    while len(answers) > 1 and (tied := is_tied(answers[1])).any():
        x[tied] = rng.standard_normal((tied.sum(), n_features))
        answers = session.run(None, {"x": x})
    np.savez(path + ".inputs.npz", x=x)
    if n_rows == 1:
        np.save(path + ".rows.npy", rng.standard_normal((ROWS_IN_TURN, n_features)).astype(np.float32))
    np.savez(path + ".outputs.npz", **dict(zip([o[0] for o in outputs], answers)))


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    folder, wanted = sys.argv[1], sys.argv[2:]
    os.makedirs(folder, exist_ok=True)
    for name, (make, n_features) in ensembles().items():
        if wanted and name not in wanted:
            continue
        made = make()
        for n_rows in ROWS:
            write(folder, name, made, n_features, n_rows)
        print(f"{name}: {made[1]['nodes_treeids'][-1] + 1} trees, {len(made[1]['nodes_treeids'])} nodes", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
