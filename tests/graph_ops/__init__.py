"""The rows of the random graphs: for each operator, how to draw a node of it. The builder is graph_build.py.

There is a file for each family. A row is a function of the graph that adds a node, or a few; it may give up by Reject
(g.need) at any time. ROWS has them
with their family and weight. Families are what a graph is mostly made of (graph_kinds.py). Types come from the operators'
schemas; values are kept where the function is well conditioned, by choosing inputs in a range or drawing new ones.
"""
# The order of ROWS is that of these lines: a seed means the same graph as long as it stays.
import graph_ops.elementwise  # noqa: F401
import graph_ops.movement  # noqa: F401
import graph_ops.shapes  # noqa: F401
import graph_ops.reductions  # noqa: F401
import graph_ops.contractions  # noqa: F401
import graph_ops.quantization  # noqa: F401
import graph_ops.selection  # noqa: F401
import graph_ops.single  # noqa: F401
import graph_ops.contrib  # noqa: F401
import graph_ops.learned  # noqa: F401
import graph_ops.strings  # noqa: F401
import graph_ops.compound  # noqa: F401
import graph_ops.control  # noqa: F401
from graph_ops.rows import ROWS, grow_once, row  # noqa: F401
