"""Models whose shapes follow from the data, for suites/control.py; the form is that of control_models.py.

Every model here needs a size, an axis or a count that only a run knows; each runs several times with other values.
"""
from control_models import BODY

WHILE = "body = b (int64 i, bool go, "

DYNAMIC = [
    ("reshape_read", "float[2,3,4] x, int64[2] s => y", "y = Reshape (x, s)",
     [((2, 3, 4), s) for s in ([6, 4], [-1, 4], [24, 1], [2, -1], [0, 12])]),
    ("reshape_then_add", "float[2,6] x, int64[3] s, float[1] b => y", "r = Reshape (x, s)  y = Add (r, b)",
     [((2, 6), s, (1,)) for s in ([3, 2, 2], [-1, 1, 3], [1, 12, 1])]),
    ("expand_read", "float[3,1] x, int64[3] s => y", "y = Expand (x, s)",
     [((3, 1), s) for s in ([2, 3, 4], [1, 1, 5], [1, 3, 1], [0, 3, 2])]),
    ("expand_broadcast", "float[N] x, int64[1] s, float[4] b => y", "e = Expand (x, s)  y = Mul (e, b)",
     [((1,), [4], (4,)), ((4,), [1], (4,)), ((1,), [1], (4,))]),
    ("range_read", "int64 a, int64 b, int64 c => y", "y = Range (a, b, c)",
     [(0, 5, 1), (3, 20, 4), (7, -5, -3), (2, 2, 1), (5, 1, 2)]),
    ("range_float", "float a, float b, float c => y", "y = Range (a, b, c)",
     [(0, 5, 1), (1, 2, 0.25), (3, -1, -0.5), (1, 0, 1)]),
    ("range_uses", "int64 n, float[5] x => y", """
        zero = Constant <value = int64 {0}> ()  one = Constant <value = int64 {1}> ()
        r = Range (zero, n, one)  g = Gather (x, r)  y = ReduceSum <keepdims = 0> (g)""",
     [(n, (5,)) for n in (0, 1, 3, 5)]),
    ("fill_read", "int64[2] s => y", "f = ConstantOfShape <value = float[1] {2.5}> (s)  y = Neg (f)",
     [([2, 3],), ([0, 4],), ([1, 1],)]),
    ("slice_read", "float[5,6] x, int64[1] a, int64[1] b => y", "y = Slice (x, a, b)",
     [((5, 6), a, b) for a, b in (([1], [3]), ([-2], [99]), ([3], [1]), ([0], [-1]))]),
    ("rows_of_any_number", "float[N,48] x => y", """
        a = Constant <value = float {0}> ()  b = Constant <value = float {1536}> ()  c = Constant <value = float {1}> ()
        r = Range (a, b, c)  q = Sin (r)  s = Constant <value = int64[2] {48, 32}> ()
        w = Reshape (q, s)  m = MatMul (x, w)  y = Softmax <axis = -1> (m)""",
     [((n, 48),) for n in (1, 5, 24, 65, 130)]),
    # as exporters write an EmbeddingBag: nothing but the lists' own slices says that they have one entry
    ("slice_from_a_list_to_its_next", "float[6,4] x, int64[N] o, int64[1] i => y", """
        one = Constant <value = int64[1] {1}> ()  two = Constant <value = int64[1] {2}> ()
        j = Add (i, one)  a = Slice (o, i, j)
        n = Add (i, one)  l = Add (i, two)  b = Slice (o, n, l)
        zero = Constant <value = int64[1] {0}> ()
        s = Slice (x, a, b)  y = ReduceSum <keepdims = 0> (s, zero)""",
     [((6, 4), o, [i]) for o in ([0, 2, 5, 6], [1, 1, 4]) for i in (0, 1)]),
    ("slice_all_read", "float[5,6] x, int64[2] a, int64[2] b, int64[2] d, int64[2] s => y", "y = Slice (x, a, b, d, s)",
     [((5, 6), [1, 0], [4, 6], [0, 1], [1, 2]), ((5, 6), [-1, 5], [-99, 0], [0, -1], [-2, -1]),
      ((5, 6), [0, 1], [3, 2], [1, 0], [2, 1])]),
    ("slice_feeds_matmul", "float[4,6] x, int64[1] n, float[6,3] w => y", """
        z = Constant <value = int64[1] {0}> ()
        s = Slice (x, z, n, z)  y = MatMul (s, w)""",
     [((4, 6), [n], (6, 3)) for n in (0, 1, 3, 4)]),
    ("tile_read", "float[2,3] x, int64[2] r => y", "y = Tile (x, r)",
     [((2, 3), r) for r in ([1, 1], [2, 3], [0, 2], [3, 1])]),
    ("pad_read", "float[2,3] x, int64[4] p, float v => y", "y = Pad (x, p, v)",
     [((2, 3), p, 1.5) for p in ([0, 0, 0, 0], [1, 2, 0, 1], [-1, 0, 0, 2])]),
    ("pad_edge_read", "float[4,3] x, int64[4] p => y", 'y = Pad <mode = "edge"> (x, p)',
     [((4, 3), p) for p in ([0, 0, 0, 0], [1, 2, 3, 1], [2, 0, 0, 0])]),
    ("pad_axes_read", "float[2,3] x, int64[2] p, int64[1] a => y", 'y = Pad <mode = "reflect"> (x, p, "", a)',
     [((2, 3), [1, 1], [0]), ((2, 3), [2, 1], [1]), ((2, 3), [0, 2], [-1])]),
    ("resize_sizes_read", "float[1,1,4,5] x, int64[4] s => y",
     'y = Resize <mode = "nearest"> (x, "", "", s)', [((1, 1, 4, 5), [1, 1, h, w]) for h, w in ((8, 10), (3, 3), (4, 5))]),
    ("resize_scales_read", "float[1,1,4,5] x, float[4] s => y",
     'y = Resize <mode = "linear"> (x, "", s)', [((1, 1, 4, 5), [1, 1, h, w]) for h, w in ((2, 2), (0.5, 1.5))]),
    ("top_k_read", "float[3,7] x, int64[1] k => v, i", "v, i = TopK <axis = 1> (x, k)",
     [((3, 7), [k]) for k in (1, 3, 7)]),
    ("split_read", "float[6,2] x, int64[2] s => a, b", "a, b = Split <axis = 0> (x, s)",
     [((6, 2), s) for s in ([2, 4], [6, 0], [1, 5])]),
    ("reduce_axes_read", "float[2,3,4] x, int64[2] a => s, m", """
        s = ReduceSum <keepdims = 0> (x, a)  m = ReduceMean <keepdims = 1> (x, a)""",
     [((2, 3, 4), a) for a in ([0, 1], [-1, 0], [1, 2])]),
    ("logsumexp_axes_read", "float[2,3] x, int64[1] a => y", "y = ReduceLogSumExp <keepdims = 0> (x, a)",
     [((2, 3), [0]), ((2, 3), [1]), ((2, 3), [-1])]),
    ("cumsum_axis_read", "float[2,3,4] x, int64 a => y", "y = CumSum <reverse = 1> (x, a)",
     [((2, 3, 4), a) for a in (0, 1, 2, -1)]),
    ("squeeze_read", "float[1,3,1] x, int64[1] a => y", "y = Squeeze (x, a)", [((1, 3, 1), [0]), ((1, 3, 1), [2])]),
    ("unsqueeze_read", "float[3,2] x, int64[2] a => y", "y = Unsqueeze (x, a)",
     [((3, 2), a) for a in ([0, 1], [0, 3], [-1, 1])]),
    ("one_hot_read", "int64[3] x, int64 d, float[2] v => y", "y = OneHot (x, d, v)",
     [([0, 2, 1], d, [0, 1]) for d in (1, 3, 5)]),
    ("nonzero_gathers", "float[2,3] x, float[2] b => y", """
        c = Greater (x, l)  nz = NonZero (c)  nt = Transpose (nz)  g = GatherND (x, nt)
        l = Constant <value = float {0.0}> ()  y = Exp (g)""",
     [((2, 3), (2,)), ([[1, 2, 3], [4, 5, 6]], (2,)), ([[-1, -2, -3], [-4, -5, -6]], (2,))]),
    ("compress_read", "float[3,4] x, bool[3] c => y, z", """
        y = Compress <axis = 0> (x, c)  z = Compress (x, c)""",
     [((3, 4), c) for c in ([True, False, True], [False, False, False], [True, True, True])]),
    ("compress_unbounded", "float[2] x, int64[1] n => y", """
        e = Tile (x, n)  l = Constant <value = float {0.0}> ()  c = Greater (e, l)  y = Compress (e, c)""",
     [([1, -1], [n]) for n in (0, 1, 4)]),
    ("unique_sorted", "float[N] x => y, i, v, c", "y, i, v, c = Unique (x)",
     [([2, 1, 1, 3, 4, 3],), ([1],), ([5, 4, 3, 2, 1, 5, 4],)]),
    ("unique_in_order", "float[N] x => y, i, v, c", "y, i, v, c = Unique <sorted = 0> (x)",
     [([2, 1, 1, 3, 4, 3],), ([1],), ([5, 4, 3, 2, 1, 5, 4],)]),
    ("unique_axis", "float[3,3] x => y, i, v, c", "y, i, v, c = Unique <axis = 0> (x)",
     [([[1, 0, 0], [1, 0, 0], [2, 3, 4]],), ([[1, 0, 0], [0, 1, 0], [1, 0, 0]],), ((3, 3),)]),
    ("unique_axis_1", "int64[2,4] x => y, v", 'y, i, v = Unique <axis = 1, sorted = 0> (x)',
     [([[3, 1, 3, 1], [0, 1, 0, 2]],), ([[3, 3, 3, 3], [0, 0, 0, 0]],)]),
    ("unique_of_found", "float[6] x => y, c", """
        nz = NonZero (x)  f = Flatten <axis = 0> (nz)  s = Squeeze (f, ax0)  g = Gather (x, s)
        y, i, v, c = Unique (g)""",
     [([1, 0, 2, 2, 0, 1],), ([0, 0, 3, 0, 0, 0],), ([1, 2, 3, 4, 5, 6],)]),
    ("loop_collects", "int64 n, float[2] x => y, z", """
        y, z = Loop (n, t, x) <""" + BODY + """float[2] a) => (go, d, d) { d = Add (a, x) }>""",
     [(n, (2,)) for n in (0, 1, 5, 9)]),
    ("loop_grows_read", "int64 n, float[1,2] x => y", """
        y = Loop (n, t, x) <""" + BODY + """float[m,2] a) => (go, d) { d = Concat <axis = 0> (a, x) }>
        """, [(n, (1, 2)) for n in (0, 1, 4)]),
    ("loop_grows_and_stacks", "int64 n, float[2] x => y, z", """
        y, z = Loop (n, t, x) <""" + BODY + """float[m] a) => (go, d, s) {
            d = Concat <axis = 0> (a, a)  s = ReduceSum (d) }>""",
     [(n, (2,)) for n in (0, 1, 3)]),
    ("loop_shrinks", "int64 n, float[6] x => y", """
        y = Loop (n, t, x) <""" + BODY + """float[m] a) => (go, d) {
            s = Constant <value = int64[1] {1}> ()  e = Constant <value = int64[1] {99}> ()  d = Slice (a, s, e) }>""",
     [(n, (6,)) for n in (0, 1, 3, 6)]),
    ("loop_stacks_found", "int64 n, float[6] x => z", """
        z = Loop (n, t) <body = b (int64 i, bool go) => (go, g) {
            nz = NonZero (x)  f = Squeeze (nz, ax0)  g = Gather (x, f) }>""",
     [(n, [1, 0, 2, 0, 0, 3]) for n in (1, 2, 5)]),
    ("loop_range_body", "int64 n, float[3] x => z", """
        one = Constant <value = int64 {1}> ()  zero = Constant <value = int64 {0}> ()
        z = Loop (n, t, x) <""" + BODY + """float[m] a) => (go, d) {
            j = Add (i, one)  r = Range (zero, j, one)  f = Cast <to = 1> (r)  d = Concat <axis = 0> (f, x) }>""",
     [(n, (3,)) for n in (0, 1, 2, 4)]),
    ("loop_slices_by_slices", "float[N,2] x, int64[M] which, int64 n => z", """
        z = Loop (n, t) <body = b (int64[1] i, bool go) => (go, row) {
            j = Add (i, ax)  from = Slice (which, i, j)  to = Add (from, ax)
            part = Slice (x, from, to, ax0)  row = Squeeze (part, ax0) }>""",
     [((4, 2), [3, 0, 1], n) for n in (1, 3)] + [((1, 2), [0], 1)]),
    ("loop_ends_itself", "float x => y, z", """
        big = Constant <value = int64 {9223372036854775807}> ()
        y, z = Loop (big, t, x) <""" + WHILE + """float a) => (on, d, d) {
            two = Constant <value = float {2.0}> ()  lim = Constant <value = float {100.0}> ()
            d = Mul (a, two)  on = Less (d, lim) }>""",
     [(1.0,), (60.0,), (0.01,)]),
    ("if_sizes_read", "float[4] x, int64[1] n, bool c => y", """
        r = If (c) <then_branch = g () => (p) { p = Tile (x, n) }, else_branch = h () => (q) { q = Neg (x) }>
        y = Exp (r)""",
     [((4,), [n], c) for n in (0, 1, 3) for c in (True, False)]),
    ("if_in_loop_sizes", "float[2] x, int64 n => y", """
        one = Constant <value = int64 {1}> ()
        y = Loop (n, t, x) <""" + BODY + """float[m] a) => (go, d) {
            odd = BitwiseAnd (i, one)  c = Equal (odd, one)
            d = If (c) <then_branch = g () => (p) { p = Concat <axis = 0> (a, x) },
                        else_branch = h () => (q) { q = Neg (a) }> }>""",
     [((2,), n) for n in (0, 1, 2, 5)]),
    ("where_of_found", "float[5] x => y", """
        nz = NonZero (x)  f = Squeeze (nz, ax0)  g = Gather (x, f)  h = Gather (x, f)
        c = Greater (g, l)  y = Where (c, g, h)  l = Constant <value = float {0.0}> ()""",
     [([1, 0, -2, 3, 0],), ([0, 0, 0, 0, 0],)]),
    # sizes that a round changes
    ("loop_turns", "float[7,2,3] x, int64 n => y", """
        y = Loop (n, t, x) <""" + BODY + """float[?,?,?] a) => (go, c) {
            b = Transpose (a)  c = Neg (b) }>""",
     [((7, 2, 3), n) for n in (0, 1, 2, 3)]),
    ("loop_size_of_the_other", "float[3] x, int64 n => y, z", """
        y, z = Loop (n, t, x, x) <""" + BODY + """float[?] a, float[?] b) => (go, d, e) {
            c = Concat <axis = 0> (a, a)  d = Sin (c)  e = Cos (a) }>""",
     [((3,), n) for n in (0, 1, 3)]),
    ("loop_swaps_sizes", "float[2] x, float[3] w, int64 n => y, z", """
        y, z = Loop (n, t, x, w) <""" + BODY + """float[?] a, float[?] b) => (go, c, d) {
            c = Concat <axis = 0> (b, b)  d = Identity (a) }>""",
     [((2,), (3,), n) for n in (0, 1, 2, 3)]),
    # slices whose sizes were found before a Scan, or are found in it
    ("scan_found_before", "float[3,2] x, int64 n => y", """
        f = Loop (n, t, x) <""" + BODY + """float[3,?] a) => (go, b) { b = Concat <axis = 1> (a, a) }>
        y = Scan (f) <num_scan_inputs = 1, scan_output_axes = [1], body = b (float[?] e) => (o) { o = Neg (e) }>""",
     [((3, 2), n) for n in (0, 1, 3)]),
    ("scan_found_inside", "float[3,2] x, int64 n, bool go0 => y, z", """
        y, z = Scan (x) <num_scan_inputs = 1, scan_output_axes = [0, 1], scan_output_directions = [0, 1],
            body = b (float[2] e) => (g, h) {
                q, f = Loop (n, go0, e) <""" + BODY + """float[2] a) => (go, c, d) { c = Sin (a)  d = ReduceSum <keepdims = 0> (c) }>
                g = Neg (f)  h = Sin (f) }>""",
     [((3, 2), n, True) for n in (1, 3)]),
    ("scan_counts_inside", "float[3,4] x => y", """
        y = Scan (x) <num_scan_inputs = 1, scan_output_axes = [1], scan_output_directions = [1], body = b (float[4] e) => (o) {
            k2 = Constant <value = float {0.0}> ()
            p = Greater (e, k2)  q = Compress <axis = 0> (e, p)  o = Neg (q) }>""",
     [([[1, -1, 2, -2], [-3, -3, 4, 5], [6, 7, -8, -8]],), ([[1, 2, 3, 4]] * 3,)]),
    ("scan_counts_backwards", "float[3,4] x => y, z", """
        y, z = Scan (x) <num_scan_inputs = 1, scan_output_directions = [1, 0], body = b (float[4] e) => (o, m) {
            p = NonZero (e)  o = Neg (p)  m = NonZero (e) }>""",
     [([[1, 0, 2, 0], [0, 3, 4, 0], [6, 0, 0, 8]],), ([[1, 2, 3, 4]] * 3,)]),
    # what is known of the first state's size does not hold for the next
    ("loop_size_of_state", "float[2,3] x, int64 n => y, w, v", """
        y, w, v = Loop (n, t, x) <""" + BODY + """float[b,3] a) => (go, c, k, d) {
            c = Concat <axis = 0> (a, x)  k = Size (a)  s = Shape (a)  f = Cast <to = 1> (s)
            d = ReduceProd <keepdims = 0> (f) }>""",
     [((2, 3), n) for n in (0, 1, 4)]),
    ("loop_if_of_size", "float[2,3] x, int64 n => y, w", """
        y, w = Loop (n, t, x) <""" + BODY + """float[b,3] a) => (go, c, r) {
            c = Concat <axis = 0> (a, x)  k = Size (a)  lim = Constant <value = int64 {7}> ()  small = Less (k, lim)
            r = If (small) <then_branch = th () => (p) { p = ReduceSum <keepdims = 0> (a) },
                            else_branch = el () => (q) { q = ReduceMax <keepdims = 0> (a) }> }>""",
     [((2, 3), n) for n in (1, 4)]),
]
