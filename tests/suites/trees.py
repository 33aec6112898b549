"""Tree ensembles: shapes of trees, numbers of features and kinds of leaves that take different ways through the schedules,
trees in lockstep (ir/ops/tree_lanes.c) and blocks of rows (ir/ops/tree_rows.c). Each is walked in Python, node by node;
backends answer the same, and so does code for processors that load nodes one by one, since their gathers are slow. A row
has the same bits alone and among others."""
import os
import platform

import numpy as np
import onnx
from onnx import TensorProto as T
from onnx import helper

from compare import relative_difference
from harness import Case, check
from model_files import smelt_run

BAR = 2e-6
CODES = ["--backend=llvm", "--backend=c", "--backend=interpret"]
if platform.machine() == "x86_64":
    CODES += ["--cpu=znver3", "--cpu=haswell"]
GATHERS = {"znver5": False, "sapphirerapids": True}
ROWS = (5, 43)              # walked; a block, and some more

# name: trees, most branches of a tree, whether they lean to one side, features, targets, weights of a leaf (0: one, for the
# tree's own target), mode, whether NaN goes its own ways
ENSEMBLES = {
    "shallow": (9, 7, False, 5, 1, 1, "BRANCH_LEQ", False),
    "leaning": (40, 30, True, 33, 1, 1, "BRANCH_LT", False),
    "one_row_of_features": (17, 15, False, 16, 1, 1, "BRANCH_GT", True),
    "four_vectors": (130, 12, False, 64, 1, 1, "BRANCH_LEQ", True),
    "many_features": (20, 31, True, 70, 1, 1, "BRANCH_GTE", False),
    "dense": (33, 20, True, 20, 3, 3, "BRANCH_LEQ", False),
    "own_targets": (35, 9, False, 12, 5, 0, "BRANCH_LEQ", False),
    "sparse": (24, 9, False, 12, 5, 2, "BRANCH_LEQ", True),
    "lone_leaves": (19, 1, False, 3, 1, 1, "BRANCH_NEQ", False),
    "relative": (40, 1700, False, 20000, 1, 1, "BRANCH_LEQ", False),
    "few_trees": (3, 25, False, 9, 1, 1, "BRANCH_LT", True),
    "full_piece": (21, 31, True, 9, 1, 1, "BRANCH_LEQ", False),
    "pieces": (12, 90, False, 9, 1, 1, "BRANCH_GT", True),
    "leaning_pieces": (12, 40, True, 9, 3, 0, "BRANCH_LEQ", True),
    "dense_pieces": (10, 45, False, 9, 3, 3, "BRANCH_GTE", True),
    "some_features": (20, 3, False, 400, 1, 1, "BRANCH_LT", True),
    "not_equal": (12, 14, False, 9, 1, 1, "BRANCH_NEQ", False),
}
# Those that 1000 rows go through in blocks.
IN_BLOCKS = {"shallow", "leaning", "one_row_of_features", "four_vectors", "many_features", "dense", "own_targets",
             "lone_leaves", "few_trees", "full_piece", "pieces", "dense_pieces", "some_features", "not_equal"}


def grow(rng, ensemble):
    """For each tree its nodes: (feature, threshold, true child, false child, whether NaN is true), or [(target, weight)]."""
    n_trees, most, leaning, n_features, n_targets, n_weights, _, missing = ensemble
    trees = []
    for t in range(n_trees):
        nodes, leaves = [None], [0]
        for _ in range(int(rng.integers(0, 2)) if most == 1 else int(rng.integers(most // 2, most + 1))):
            at = leaves.pop() if leaning else leaves.pop(int(rng.integers(len(leaves))))
            nodes[at] = (int(rng.integers(n_features)), float(np.float32(rng.standard_normal())), len(nodes),
                         len(nodes) + 1, bool(missing and rng.integers(2)))
            leaves += [len(nodes), len(nodes) + 1]
            nodes += [None, None]
        for at in leaves:
            targets = [t % n_targets] if n_weights == 0 else sorted(rng.choice(n_targets, n_weights, replace=False))
            nodes[at] = [(int(to), float(np.float32(rng.standard_normal()))) for to in targets]
        trees.append(nodes)
    return trees


def save(path, trees, ensemble):
    mode, lists = ensemble[6], {}

    def put(name, value):
        lists.setdefault(name, []).append(value)
    for t, nodes in enumerate(trees):
        for i, node in enumerate(nodes):
            leaf = isinstance(node, list)
            feature, threshold, yes, no, nan = (0, 0.0, 0, 0, False) if leaf else node
            for name, value in (("treeids", t), ("nodeids", i), ("featureids", feature), ("values", threshold),
                                ("modes", "LEAF" if leaf else mode), ("truenodeids", yes), ("falsenodeids", no),
                                ("missing_value_tracks_true", int(nan))):
                put("nodes_" + name, value)
            for to, weight in node if leaf else ():
                for name, value in (("treeids", t), ("nodeids", i), ("ids", to), ("weights", weight)):
                    put("target_" + name, value)
    node = helper.make_node("TreeEnsembleRegressor", ["x"], ["y"], domain="ai.onnx.ml", n_targets=ensemble[4], **lists)
    graph = helper.make_graph([node], "trees", [helper.make_tensor_value_info("x", T.FLOAT, ("n", ensemble[3]))],
                              [helper.make_tensor_value_info("y", T.FLOAT, ("n", ensemble[4]))])
    onnx.save(helper.make_model(graph, ir_version=8, opset_imports=[
        helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]), path)


COMPARE = {"BRANCH_LEQ": lambda a, b: a <= b, "BRANCH_LT": lambda a, b: a < b, "BRANCH_GTE": lambda a, b: a >= b,
           "BRANCH_GT": lambda a, b: a > b, "BRANCH_NEQ": lambda a, b: a != b}


def walk(trees, x, ensemble):
    y = np.zeros((len(x), ensemble[4]), np.float64)
    for row, out in zip(x, y):
        for nodes in trees:
            node = nodes[0]
            while not isinstance(node, list):
                feature, threshold, yes, no, nan = node
                value = row[feature]
                taken = COMPARE[ensemble[6]](value, np.float32(threshold)) or (nan and np.isnan(value))
                node = nodes[yes if taken else no]
            for to, weight in node:
                out[to] += weight
    return y


def cases(ctx):
    def right(name, ensemble):
        def run():
            rng = np.random.default_rng(len(name))
            trees = grow(rng, ensemble)
            path = os.path.join(ctx.new_dir(), "trees.onnx")
            save(path, trees, ensemble)
            x = rng.standard_normal((ROWS[-1], ensemble[3])).astype(np.float32)
            x[rng.random(x.shape) < 0.1] = np.nan
            want, first = walk(trees, x, ensemble), None
            for code in CODES:
                for n in ROWS:
                    got = smelt_run(ctx, path, {"x": x[-n:]}, code)["y"]
                    worst = relative_difference(got, want[-n:])
                    check(worst <= BAR, f"{code}: {n} rows: differs by {worst:.2g} of the largest sum")
                    first = got if first is None else first
                    check(np.array_equal(got[-ROWS[0]:], first), f"{code}, {n} rows: other bits than {CODES[0]}")
            return ""
        return run

    def in_blocks(name, ensemble):
        def run():
            path = os.path.join(ctx.new_dir(), "trees.onnx")
            save(path, grow(np.random.default_rng(len(name)), ensemble), ensemble)
            text = ctx.smelt("compile", path, "--emit=kernel", "--cpu=x86-64-v4", "--dim=n=1000", "-o", "-").stdout
            check(("for piece in" in text) == (name in IN_BLOCKS), "goes another way")
        return run

    def shared_children(n):
        """Each of n branches has one child on both sides: 2^n ways to the only leaf."""
        def run():
            ensemble = (1, n, True, 2, 1, 1, "BRANCH_LEQ", False)
            path = os.path.join(ctx.new_dir(), "trees.onnx")
            save(path, [[(0, 0.5, i + 1, i + 1, False) for i in range(n)] + [[(0, 1.5)]]], ensemble)
            for rows in ROWS:
                y = smelt_run(ctx, path, {"x": np.zeros((rows, 2), np.float32)}, CODES[0])["y"]
                check(np.array_equal(y, np.full((rows, 1), np.float32(1.5))), f"{rows} rows: not the leaf's weight")
        return run

    def gathered(cpu, wanted):
        def run():
            ensemble = ENSEMBLES["four_vectors"]
            path = os.path.join(ctx.new_dir(), "trees.onnx")
            save(path, grow(np.random.default_rng(1), ensemble), ensemble)
            asm = ctx.smelt("compile", path, "--emit=asm", "--target=x86_64-linux-gnu", f"--cpu={cpu}", "-o", "-").stdout
            check(("gather" in asm) == wanted, "nodes are gathered" if not wanted else "nodes are not gathered")
        return run
    return ([Case(name, right(name, ensemble), "cpu") for name, ensemble in ENSEMBLES.items()]
            + [Case(f"{name}.blocks", in_blocks(name, ensemble), "nodev") for name, ensemble in ENSEMBLES.items()]
            + [Case(f"shared_children_{n}", shared_children(n), "cpu") for n in (5, 30, 63, 64, 200)]
            + [Case(f"nodes_of_{cpu}", gathered(cpu, wanted), "nodev") for cpu, wanted in GATHERS.items()])
