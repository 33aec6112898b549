"""treelite with tl2cgen for a model that is one TreeEnsembleRegressor or TreeEnsembleClassifier.

The attributes become a treelite model by its ModelBuilder, tl2cgen writes nested conditions in C, and the C compiler
makes a library of them (-O3, as tl2cgen has it), once for a model in a process. With one thread the library's own
`predict(row, margin, result)` is called from a loop in C, row after row: its rows are unions as large as an f32, so x
is handed over as it lies. With more threads its Predictor splits the rows. Labels, which it has none of, are not
compared."""
import ctypes
import os
import tempfile

import numpy as np
import onnx
from onnx import helper

OPS = {"BRANCH_LEQ": "<=", "BRANCH_LT": "<", "BRANCH_GTE": ">=", "BRANCH_GT": ">"}
UNIT_NODES = 4000           # nodes in one file of C, so that compilers end in a minute
POST = {b"NONE": ("identity", "identity_multiclass"), b"SOFTMAX": ("softmax", "softmax"),
        b"LOGISTIC": ("sigmoid", "multiclass_ova")}


class Refused(Exception):
    """The model is not one that can be handed to treelite here."""


def read(path):
    """(operator, attributes of the only node, number of features, names of the outputs)"""
    graph = onnx.load(path).graph
    if len(graph.node) != 1 or graph.node[0].op_type not in ("TreeEnsembleRegressor", "TreeEnsembleClassifier"):
        raise Refused("is not a single tree ensemble")
    node = graph.node[0]
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    shape = graph.input[0].type.tensor_type.shape.dim
    return node.op_type, attributes, shape[1].dim_value, list(node.output)


def trees_of(attributes, prefix):
    """For each tree {node: (feature, threshold, operator, true child, false child)} and {leaf: [(target, weight)]}."""
    trees = {}
    a = {k[len("nodes_"):]: v for k, v in attributes.items() if k.startswith("nodes_")}
    for i, tree in enumerate(a["treeids"]):
        nodes, leaves = trees.setdefault(tree, ({}, {}))
        mode = a["modes"][i].decode()
        if mode == "LEAF":
            leaves[a["nodeids"][i]] = []
        elif mode in OPS:
            nodes[a["nodeids"][i]] = (a["featureids"][i], a["values"][i], OPS[mode], a["truenodeids"][i],
                                      a["falsenodeids"][i])
        else:
            raise Refused(f"has comparisons {mode}")
    for tree, node, target, weight in zip(*(attributes[f"{prefix}_{w}"] for w in ("treeids", "nodeids", "ids",
                                                                                  "weights"))):
        trees[tree][1][node].append((target, weight))
    return list(trees.values())


def build(path):
    """(the treelite model of a file, its branches, names of its outputs, whether it has one score for two classes)"""
    from treelite import model_builder as mb
    op, attributes, n_features, outputs = read(path)
    is_classes = op == "TreeEnsembleClassifier"
    trees = trees_of(attributes, "class" if is_classes else "target")
    n_targets = len(attributes["classlabels_int64s"]) if is_classes else attributes.get("n_targets", 1)
    single = [{t for leaf in leaves.values() for t, _ in leaf} for _, leaves in trees]
    by_class = all(len(t) == 1 for t in single)        # each tree votes for one target
    two = is_classes and n_targets == 2 and all(t == {0} for t in single)      # the second's probability
    if two and attributes.get("post_transform", b"NONE") != b"NONE":
        raise Refused("has another transform of a single score")
    n_targets = 1 if two else n_targets
    post = POST.get(attributes.get("post_transform", b"NONE"))
    if not post:
        raise Refused("has another transform")
    base = list(attributes.get("base_values", [])) or [0.0] * n_targets
    builder = mb.ModelBuilder(
        threshold_type="float32", leaf_output_type="float32",
        metadata=mb.Metadata(num_feature=n_features, task_type="kMultiClf" if n_targets > 1 else "kRegressor",
                             average_tree_output=False, num_target=1, num_class=[n_targets],
                             leaf_vector_shape=(1, 1 if by_class else n_targets)),
        tree_annotation=mb.TreeAnnotation(num_tree=len(trees), target_id=[0] * len(trees),
                                          class_id=[min(t) if by_class else -1 for t in single]),
        postprocessor=mb.PostProcessorFunc(post[n_targets > 1]), base_scores=base)
    for nodes, leaves in trees:
        builder.start_tree()
        children = {c for n in nodes.values() for c in n[3:]}
        keys = {node: i for i, node in enumerate(sorted({*nodes, *leaves}, key=lambda n: (n in children, n)))}
        for node, key in keys.items():
            builder.start_node(key)
            if node in nodes:
                feature, threshold, operator, yes, no = nodes[node]
                builder.numerical_test(feature, threshold, default_left=False, opname=operator,
                                       left_child_key=keys[yes], right_child_key=keys[no])
            elif by_class:
                builder.leaf(leaves[node][0][1])
            else:
                weights = dict(leaves[node])
                builder.leaf([weights.get(t, 0.0) for t in range(n_targets)])
            builder.end_node()
        builder.end_tree()
    model = builder.commit()
    return model, sum(len(nodes) for nodes, _ in trees), outputs, two


class Tl2cgen:
    """An engine of engines.py."""

    def __init__(self, a, inputs):
        import tl2cgen
        import treelite
        model, n_nodes, names, self.two = build(a.model)
        self.folder = tempfile.TemporaryDirectory(prefix="bench-trees-")
        path = os.path.join(self.folder.name, "model.so")
        n_units = -(-n_nodes // UNIT_NODES)
        tl2cgen.export_lib(model, toolchain="gcc", libpath=path, nthread=1,
                           params={"parallel_comp": n_units} if n_units > 1 else {})
        self.x = np.ascontiguousarray(next(iter(inputs.values())))
        self.name = names[-1]
        self.about = {"version": f"{tl2cgen.__version__}, treelite {treelite.__version__}", "setup": "gcc -O3"}
        self.predictor = tl2cgen.Predictor(path, nthread=a.threads)
        self.matrix = tl2cgen.DMatrix(self.x, dtype="float32")
        self.answer = self.predictor.predict(self.matrix)
        self.library = ctypes.CDLL(path)
        self.call = self.predictor.predict, (self.matrix,)

    def outputs(self, like):
        scores = self.answer.reshape(len(self.x), -1)
        return {self.name: np.hstack([1 - scores, scores]) if self.two else scores.reshape(like[self.name].shape)}

    def check(self):
        self.answer = self.predictor.predict(self.matrix)

    def from_c(self, loop, a, inputs, want):
        del inputs, want
        if a.threads > 1 and len(self.x) > 1:
            raise RuntimeError("its threads are in the Predictor")
        result = np.zeros_like(self.answer.reshape(len(self.x), -1))
        call = loop.rows(self.library.predict, self.x, result)
        call(1)
        if not np.array_equal(result, self.answer.reshape(result.shape)):
            raise RuntimeError("called from C it answers otherwise")
        return call

    def input_read_from_c(self):
        return self.x
