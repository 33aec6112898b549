"""Models with regions for suites/control.py, in ONNX's text form.

Each is (name, inputs, text of the graph, [feeds of a run]); a run's feeds are the shapes or values of the inputs in order:
a tuple is a shape to be filled with random numbers, anything else a value. Every run uses the same compiled model.
"""

LOOP_START = "t = Constant <value = bool {1}> ()\n  k3 = Constant <value = int64 {3}> ()\n"
BODY = "body = b (int64 i, bool go, "

MODELS = [
    ("loop_swap", "float[2,3] x, float[2,3] w, int64 n => y, z", """
        y, z = Loop (n, t, x, w) <""" + BODY + """float[2,3] a, float[2,3] b) => (go2, b2, a2) {
            go2 = Identity (go)  b2 = Identity (b)  a2 = Identity (a) }>""",
     [((2, 3), (2, 3), n) for n in (0, 1, 2, 3)]),
    ("loop_swap_bare", "float[4] x, float[4] w, float[4] v, int64 n => y, z, u", """
        y, z, u = Loop (n, t, x, w, v) <""" + BODY + """float[4] a, float[4] b, float[4] c) => (go, b, c, a) {
            unused = Neg (a) }>""",
     [((4,), (4,), (4,), n) for n in (0, 1, 2, 4)]),
    ("loop_mixes", "float[2,3] x, float[2,3] w => y, z", """
        y, z = Loop (k3, t, x, w) <""" + BODY + """float[2,3] a, float[2,3] b) => (go, s, d) {
            s = Add (a, b)  d = Sub (b, a) }>""",
     [((2, 3), (2, 3))]),
    ("loop_outer_value", "float[5] x, float[5] w => y, z, stack", """
        e = Exp (w)
        y, z, stack = Loop (k3, t, x, x) <""" + BODY + """float[5] a, float[5] b) => (go, e1, s, e2) {
            e1 = Identity (e)  e2 = Identity (e)  s = Add (b, a) }>
        """,
     [((5,), (5,))]),
    ("loop_constant_out", "float[2] x => y, stack", """
        y, stack = Loop (k3, t, x) <""" + BODY + """float[2] a) => (go, c, a) {
            c = Constant <value = float[2] {3.0, 4.0}> () }>""",
     [((2,),)]),
    ("loop_counter", "int64 x, int64 n => y, z", """
        y, z = Loop (n, t, x, x) <""" + BODY + """int64 a, int64 b) => (go, j, s) {
            j = Identity (i)  s = Add (b, i) }>""",
     [(7, n) for n in (0, 1, 5)]),
    ("loop_flag_carried", "int64 x, bool f => y, z", """
        y, z = Loop (k3, t, x, f) <""" + BODY + """int64 a, bool b) => (b, s, go) {
            one = Constant <value = int64 {1}> ()  s = Add (a, one) }>""",
     [(7, True), (7, False)]),
    # the body makes z anew, so its first value may have any rank
    ("loop_unread_state", "float[2,3] x => y, z, u", """
        zero = Constant <value = float {0.0}> ()
        y, z, u = Loop (k3, t, x, zero, zero) <""" + BODY + """float[2,3] a, float[2,3] b, float[m] c) => (go, s, e, r) {
            s = Add (a, a)  e = Exp (a)  ax2 = Constant <value = int64[1] {0}> ()  r = ReduceSum <keepdims = 0> (a, ax2) }>""",
     [((2, 3),)]),
    # one number as float[] and as float[1]
    ("loop_one_number", "float[3] x => y, z", """
        zero = Constant <value = float {0.0}> ()  one = Constant <value = float[1] {1.0}> ()
        y, z = Loop (k3, t, x, zero) <""" + BODY + """float[3] a, float c) => (go, s, d) {
            s = Add (a, c)  d = Add (c, one) }>""",
     [((3,),)]),
    ("loop_one_flag", "float[3] x => y, z", """
        f = Constant <value = bool {0}> ()  two = Constant <value = float[1] {2.0}> ()
        y, z = Loop (k3, t, x, f) <""" + BODY + """float[3] a, bool c) => (on, s, d) {
            s = Add (a, a)  sum = ReduceSum <keepdims = 0> (a)  big = Less (two, sum)  d = Or (big, c)  n = Not (d)
            on = And (go, n) }>""",
     [([0.1, 0.2, 0.3],), ([5.0, 0.2, 0.3],)]),
    ("loop_no_trips", "float[3] x => y", """
        y = Loop ("", t, x) <""" + BODY + """float[3] a) => (on, d) {
            two = Constant <value = float {2.0}> ()  lim = Constant <value = float {1000.0}> ()
            one = Constant <value = float {1.0}> ()
            q = Abs (a)  r = Add (q, one)  d = Mul (r, two)
            sum = ReduceSum <keepdims = 0> (d)  on = Less (sum, lim) }>""",
     [((3,),)]),
    ("loop_condition_false", "float[3] x, bool f => y, z", """
        y, z = Loop (k3, f, x) <""" + BODY + """float[3] a) => (go, d, d) {
            d = Add (a, a) }>""",
     [((3,), False), ((3,), True)]),
    ("loop_stacks", "float[2,3] x => y, p, q, r", """
        y, p, q, r = Loop (k3, t, x) <""" + BODY + """float[2,3] a) => (go, d, d, a, c) {
            d = Add (a, a)
            c = Concat <axis = 0> (d, a) }>""",
     [((2, 3),)]),
    ("loop_keeps_outer", "float[8,8] x => y, after", """
        big = Exp (x)
        once = Sigmoid (big)
        y = Loop (k3, t, x) <""" + BODY + """float[8,8] a) => (go, d) {
            m = MatMul (a, big)  n = Softmax (m)  o = MatMul (n, once)  d = Add (o, a) }>
        after = Mul (y, once)""",
     [((8, 8),)]),
    ("loop_reduction_outside", "float[4,6] x => y", """
        s = ReduceSum <keepdims = 1> (x, ax)
        y = Loop (k3, t, x) <""" + BODY + """float[4,6] a) => (go, d) {
            h = Mul (s, s)  d = Add (a, h) }>""",
     [((4, 6),)]),
    ("loop_row_scalars", "float[4,6] x => y, z", """
        s = ReduceSum <keepdims = 1> (x, ax)
        q = ReduceMax <keepdims = 1> (x, ax)
        d0 = Sub (x, q)  z = Mul (d0, s)
        y = Loop (k3, t, x) <""" + BODY + """float[4,6] a) => (go, d) {
            h = Mul (a, s)  d = Add (h, q) }>""",
     [((4, 6),)]),
    ("loop_rows_inside", "float[4,6] x => y, z", """
        y, z = Loop (k3, t, x) <""" + BODY + """float[4,6] a) => (go, d, s) {
            s = ReduceSum <keepdims = 1> (a, ax)
            h = Softmax <axis = 1> (a)  g = Add (h, s)  d = LpNormalization <axis = 1> (g) }>""",
     [((4, 6),)]),
    ("loop_convolves", "float[1,8,9,9] x, float[8,8,3,3] v => y, z", """
        small = Constant <value = float {0.05}> ()
        w = Mul (v, small)
        y, z = Loop (k3, t, x) <""" + BODY + """float[1,8,9,9] a) => (go, d, p) {
            c = Conv <pads = [1, 1, 1, 1]> (a, w)  e = Relu (c)  f = Tanh (e)
            g = Conv <pads = [1, 1, 1, 1]> (f, w)  d = Tanh (g)
            p = MaxPool <kernel_shape = [3, 3]> (f) }>""",
     [((1, 8, 9, 9), (8, 8, 3, 3))]),
    ("loop_matmuls", "float[5,5] x, float[5,5] w => y", """
        y = Loop (k3, t, x) <""" + BODY + """float[5,5] a) => (go, d) {
            b = MatMul (w, a)  c = MatMul (a, b)  d = Tanh (c) }>""",
     [((5, 5), (5, 5))]),
    ("loop_finds", "float[7] x => y, counts", """
        y, counts = Loop (k3, t, x) <""" + BODY + """float[7] a) => (go, d, sum) {
            one = Constant <value = float {1.0}> ()
            r = Relu (a)  n = NonZero (r)  m = Transpose (n)  g = GatherND (a, m)
            sum = ReduceSum <keepdims = 1> (g)
            d = Sub (a, one) }>""",
     [((7,),), ([5, 4, 3, 2, 1, 0, -1],)]),
    ("loop_sized", "float[B,3] x, int64 n => y, z", """
        y, z = Loop (k3, t, x) <""" + BODY + """float[B,3] a) => (go, d, s) {
            d = Add (a, x)  s = Softmax <axis = 0> (d) }>""",
     [((2, 3), 1), ((1, 3), 1), ((40, 3), 1)]),
    ("if_loop", "float[2,3] x, bool f, int64 n => y", """
        y = If (f) <then_branch = g () => (p) {
                p = Loop (n, t, x) <""" + BODY + """float[2,3] a) => (go, d) { d = Add (a, x) }> },
            else_branch = h () => (q) { q = Exp (x) }>""",
     [((2, 3), True, 3), ((2, 3), True, 0), ((2, 3), False, 3)]),
    ("loop_output_used", "float[2,3] x => y, z", """
        y = Loop (k3, t, x) <""" + BODY + """float[2,3] a) => (go, d) { d = Add (a, a) }>
        z = Relu (y)""",
     [((2, 3),)]),
    ("loop_nested", "float[2,3] x => y, stack", """
        y, stack = Loop (k3, t, x) <""" + BODY + """float[2,3] a) => (go, c, st) {
            e = Abs (a)
            c, st = Loop (k3, t, a) <body = c (int64 j, bool go2, float[2,3] b) => (go2, d, f) {
                g = Cast <to = 1> (i)
                f0 = Add (b, e)  d = Sub (f0, x)  f = Add (d, g) }>
            }>""",
     [((2, 3),)]),
    ("loop_runs_nested", "float[2,3] x, int64 n, int64 o => y", """
        y = Loop (n, t, x) <""" + BODY + """float[2,3] a) => (go, c) {
            c = Loop (o, t, a) <body = c (int64 j, bool go2, float[2,3] b) => (go2, d) {
                g = Cast <to = 1> (j)  h = Cast <to = 1> (i)
                f0 = Add (b, g)  d = Sub (f0, h) }>
            }>""",
     [((2, 3), n, o) for n, o in ((0, 3), (1, 0), (2, 3), (3, 1))]),
    ("loop_if", "float[2,3] x, int64 n => y", """
        y = Loop (n, t, x) <""" + BODY + """float[2,3] a) => (go, c) {
            two = Constant <value = int64 {2}> ()  zero = Constant <value = int64 {0}> ()
            r = Mod (i, two)  even = Equal (r, zero)
            c = If (even) <then_branch = g () => (p) { p = Add (a, x) }, else_branch = h () => (q) { q = Neg (a) }>
            }>""",
     [((2, 3), n) for n in (0, 1, 4)]),
    ("loop_sorts", "float[6] x => y, v", """
        y, v = Loop (k3, t, x) <""" + BODY + """float[6] a) => (go, vals, ids) {
            six = Constant <value = int64[1] {6}> ()
            b = Sin (a)
            vals, ids = TopK (b, six) }>""",
     [((6,),)]),
    ("loop_scatters", "float[3,4] x, float[1,4] u, int64 n => y", """
        y = Loop (n, t, x) <""" + BODY + """float[3,4] a) => (go, s) {
            ones = Constant <value = int64[2] {1, 1}> ()
            at = Reshape (i, ones)
            s = ScatterND (a, at, u) }>""",
     [((3, 4), (1, 4), n) for n in (0, 2, 3)]),
    ("if_outer", "float[2,3] x, bool f => y, z", """
        e = Exp (x)
        y, z = If (f) <then_branch = g () => (e1, p) { e1 = Identity (e)  p = Neg (e) },
                       else_branch = h () => (q, q2) { q = Constant <value = float[2,3] {1.0,2.0,3.0,4.0,5.0,6.0}> ()
                                                      q2 = Abs (x) }>""",
     [((2, 3), True), ((2, 3), False)]),
    ("if_repeats", "float[2,3] x, bool f => y, z", """
        y, z = If (f) <then_branch = g () => (p, p2) { p = Neg (x)  p2 = Identity (p) },
                       else_branch = h () => (q, q2) { q = Identity (x)  q2 = Identity (x) }>""",
     [((2, 3), True), ((2, 3), False)]),
    ("if_ranks_unseen", "float[5] x, float[1] a, bool f, bool g => y, z", """
        one = Constant <value = float {1.0}> ()  two = Constant <value = float {2.0}> ()
        s = If (f) <then_branch = t () => (p) { p = Identity (one) },
                    else_branch = e () => (q) { r = Div (two, a)
                                                q = If (g) <then_branch = t2 () => (p2) { p2 = Identity (two) },
                                                            else_branch = e2 () => (q2) { q2 = Neg (r) }> }>
        h = Mul (s, two)
        y = Mul (x, h)
        z = Where (f, s, x)""",
     [((5,), [4.0], f, g) for f in (True, False) for g in (True, False)]),
    ("if_found", "float[7] x, bool f => y, z", """
        y = If (f) <then_branch = g () => (p) { p = NonZero (x) },
                    else_branch = h () => (q) { q = Constant <value = int64[1,2] {5, 6}> () }>
        z = Add (y, y)""",
     [((7,), True), ((7,), False), ([0, 0, 0, 0, 0, 0, 0], True), ([0, 1, 0, 2, 0, 0, 3], True)]),
    ("if_of_found", "float[7] x, bool f => y", """
        n = NonZero (x)
        y = If (f) <then_branch = g () => (p) { p = Neg (n) }, else_branch = h () => (q) { q = Add (n, n) }>""",
     [([0, 1, 0, 2, 0, 0, 3], True), ((7,), False)]),
    ("if_sized", "float[B,3] x, bool f => y, z", """
        y = If (f) <then_branch = g () => (p) { p = Neg (x) },
                    else_branch = h () => (q) { q = Concat <axis = 0> (x, x) }>
        z = ReduceSum <keepdims = 0> (y, ax0)""",
     [((2, 3), True), ((4, 3), False), ((1, 3), False)]),
    ("if_nested", "float[2,3] x, bool f, bool h => y", """
        y = If (f) <then_branch = g () => (p) {
                p = If (h) <then_branch = g2 () => (p2) { p2 = Neg (x) }, else_branch = h2 () => (q2) { q2 = Abs (x) }> },
            else_branch = h () => (q) { q = Exp (x) }>""",
     [((2, 3), a, b) for a in (True, False) for b in (True, False)]),
    ("if_program", "float[6] x, bool f => y", """
        six = Constant <value = int64[1] {6}> ()
        y = If (f) <then_branch = g () => (p) { p, i = TopK (x, six) }, else_branch = h () => (q) { q = Neg (x) }>""",
     [((6,), True), ((6,), False)]),
    ("if_concat_parts", "float[2] x, bool f => y, z", """
        y, z = If (f) <then_branch = g () => (p, c) { p = Neg (x)  c = Concat <axis = 0> (p, x) },
                       else_branch = h () => (q, d) { q = Exp (x)  d = Concat <axis = 0> (x, q) }>""",
     [((2,), True), ((2,), False)]),
    ("scan_states", "float[3] x, float[3] w, float[5,3] s, float[3,5] r => a, b, p, q", """
        e = Exp (x)
        a, b, p, q = Scan (x, w, s, r) <num_scan_inputs = 2, scan_input_axes = [0, 1], scan_input_directions = [1, 0],
            scan_output_axes = [1, 0], scan_output_directions = [0, 1],
            body = b (float[3] u, float[3] v, float[3] i, float[3] j) => (v2, u2, o1, o2) {
                o1 = Mul (u, i)  o2 = Add (v, j)  v2 = Add (o1, e)  u2 = Sub (o2, u) }>""",
     [((3,), (3,), (5, 3), (3, 5))]),
    ("scan_swap", "float[3] x, float[3] w, float[5,3] s => a, b, p, q", """
        a, b, p, q = Scan (x, w, s) <num_scan_inputs = 1,
            body = b (float[3] u, float[3] v, float[3] i) => (v2, u2, i2, c) {
                v2 = Identity (v)  u2 = Identity (u)  i2 = Identity (i)  c = Constant <value = float {2.0}> () }>""",
     [((3,), (3,), (5, 3))]),
    # u is written over element by element, v is read at other places, w is read behind what makes the next one
    ("scan_in_place", "float[40] x, float[40] y, float[40] z, float[6,40] s => a, b, c, p", """
        a, b, c, p = Scan (x, y, z, s) <num_scan_inputs = 1,
            body = b (float[40] u, float[40] v, float[40] w, float[40] i) => (u2, v2, w2, o) {
                at = Constant <value = int64[1] {13}> ()  from = Constant <value = int64[1] {0}> ()
                end = Constant <value = int64[1] {40}> ()
                head = Slice (v, from, at)  tail = Slice (v, at, end)  turned = Concat <axis = 0> (tail, head)
                su = Sigmoid (u)  u1 = Mul (su, i)  u2 = Add (u1, u)  v2 = Sub (turned, u2)
                w2 = Add (w, i)  ew = ReduceMax <keepdims = 1> (w2)  o1 = Mul (ew, v2)  o = Sub (o1, w) }>""",
     [((40,), (40,), (40,), (6, 40))]),
    ("scan_sized", "float[B,3] x, float[B,T,3] s => a, p", """
        a, p = Scan (x, s) <num_scan_inputs = 1, scan_input_axes = [1], scan_output_axes = [1],
            body = b (float[B,3] u, float[B,3] i) => (v, o) {
                v = Add (u, i)  o = Softmax <axis = 1> (v) }>""",
     [((2, 3), (2, 5, 3)), ((1, 3), (1, 1, 3)), ((3, 3), (3, 4, 3))]),
    ("scan_stateless", "float[4,2,3] s => p", """
        p = Scan (s) <num_scan_inputs = 1, scan_input_axes = [-1], scan_output_axes = [-1],
            body = b (float[4,2] i) => (o) { o = Neg (i) }>""",
     [((4, 2, 3),)]),
    ("scan_in_loop", "float[3] x, float[5,3] s, int64 n => y", """
        y = Loop (n, t, x) <""" + BODY + """float[3] a) => (go, c) {
            c, o = Scan (a, s) <num_scan_inputs = 1, body = c (float[3] u, float[3] v) => (w, w2) {
                w = Add (u, v)  w2 = Mul (w, a) }>
            }>""",
     [((3,), (5, 3), n) for n in (0, 1, 3)]),
]

# A branch or a free length decides about a rank: (name, text, [(is the run one that is assumed, its feeds ...)]).
SQUEEZE_ONE = """shape = Shape (x)  at = Constant <value_int = 1> ()  one = Constant <value_int = 1> ()
    ax = Constant <value_ints = [1]> ()
    d = Gather (shape, at)  c = Equal (d, one)
    s = If (c) <then_branch = a () => (t) { t = Squeeze (x, ax) }, else_branch = b () => (e) { e = Identity (x) }>
"""
ASSUMED = [
    # only the squeezed one fits the output's rank
    ("squeezes", "g (float[n,k,4] x) => (float[p,q] y) { " + SQUEEZE_ONE + "y = Relu (s) }",
     [(True, (2, 1, 4)), (False, (2, 3, 4))]),
    # only the other one fits what reads it
    ("does_not_squeeze", "g (float[n,k,4] x) => (float[p,q,r] y) { " + SQUEEZE_ONE + """
        perm = Transpose <perm = [2, 0, 1]> (s)  y = Neg (perm) }""",
     [(True, (2, 3, 4)), (False, (2, 1, 4))]),
    # which of two ranks says an input: the first is taken where both would do
    ("says_an_input", """g (float[n,k] x, bool c) => (y) {
        y = If (c) <then_branch = a () => (t) { t = Relu (x) },
                    else_branch = b () => (e) { e = ReduceSum <keepdims = 0> (x) }> }""",
     [(True, (2, 3), True), (False, (2, 3), False)]),
    # conditions behind it depend on the rank, and the squeezed state goes through another If
    ("decides_others", "g (float[n,k,4] x, float[4] w) => (float[p,q] y) { " + SQUEEZE_ONE + """
        sh = Shape (s)  rank = Size (sh)  two = Constant <value_int = 2> ()  is2 = Equal (rank, two)  no = Not (is2)
        z = If (no) <then_branch = a2 () => (t2) { ax0 = Constant <value_ints = [0]> ()  t2 = Unsqueeze (s, ax0) },
                     else_branch = b2 () => (e2) { e2 = Identity (s) }>
        y = Add (z, w) }""",
     [(True, (2, 1, 4), (4,)), (False, (2, 3, 4), (4,))]),
    # in a branch
    ("within_a_branch", "g (float[n,k,4] x, bool f) => (float[p,q] y) {\n" + """
        y = If (f) <then_branch = o () => (u) { """ + SQUEEZE_ONE + """ u = Relu (s) },
                    else_branch = q () => (v) { ax1 = Constant <value_ints = [1]> ()
                        v = ReduceSum <keepdims = 0> (x, ax1) }> }""",
     [(True, (2, 1, 4), True), (True, (2, 3, 4), False), (False, (2, 3, 4), True)]),
    # a free length is 1, since the output has no axis for it
    ("squeezes_all", "g (float[n,4] x, float[4,1] w) => (float y) { p = MatMul (x, w)  s = Squeeze (p)  y = Relu (s) }",
     [(True, (1, 4), (4, 1)), (False, (3, 4), (4, 1))]),
    ("squeezes_some", "g (float[n,4] x, float[4,1] w) => (float[m] y) { p = MatMul (x, w)  s = Squeeze (p)  y = Relu (s) }",
     [(True, (3, 4), (4, 1)), (False, (1, 4), (4, 1))]),
    ("listed_axis", """g (float[n,4] x) => (y) { ax = Constant <value_ints = [0]> ()  y = Squeeze (x, ax) }""",
     [(True, (1, 4))]),
]
