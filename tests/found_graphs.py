"""Graphs that were once computed wrongly, reduced; for suites/random_graphs.py. The format is that of control_models.py.

Each has a line that says what was wrong. Single operators go to tests/ops, passes on their own to tests/ir.
"""

FOUND = [
    # group_stages: a predicated read of a row's scalar lost its predicate
    ("grouped_predicate", "float[2,9,4] x, int64 k => y", """
        none = Constant <value = int64[0] {}> ()
        n = ReduceL2 (x, none)
        y = Trilu (n, k)""",
     [((2, 9, 4), 4), ((2, 9, 4), -4)]),
]
