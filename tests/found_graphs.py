"""Graphs that were once computed wrongly, or slowly, reduced; for suites/random_graphs.py. The format is that of control_models.py.

Each has a line that says what was wrong. Single operators go to tests/ops, passes on their own to tests/ir.
"""

FOUND = [
    # group_stages: a predicated read of a row's scalar lost its predicate
    ("grouped_predicate", "float[2,9,4] x, int64 k => y", """
        none = Constant <value = int64[0] {}> ()
        n = ReduceL2 (x, none)
        y = Trilu (n, k)""",
     [((2, 9, 4), 4), ((2, 9, 4), -4)]),
    # share_memory: a slice of a concatenation was taken for a concatenation of whole tensors
    ("sliced_concat", "float[1,16,8,9] x, float[1,16,8,9] w => a, b", """
        both = Concat <axis = 1> (x, w)
        sizes = Constant <value = int64[2] {5, 4}> ()
        a, b = Split <axis = 3> (both, sizes)""",
     [((1, 16, 8, 9), (1, 16, 8, 9))]),
    ("short_concat", "float[2,3] x, float[4,3] w => a", """
        both = Concat <axis = 0> (x, w)
        zero = Constant <value = int64[1] {0}> ()
        five = Constant <value = int64[1] {5}> ()
        first = Slice (both, zero, five)
        a = Identity (first)""",
     [((2, 3), (4, 3))]),
    # share_memory: a masked tensor in a concatenation lost its mask
    ("masked_concat", "float[3,3] x => y", """
        low = Trilu <upper = 0> (x)
        y = Concat <axis = 0> (low, x)""",
     [((3, 3),)]),
    # choose_schedules: lanes of a last vector beyond the channels of an input that is not blocked
    ("depthwise_point", "float[1,35,1,1] x, float[35,1,3,3] w, float[1] v => y", """
        c = Conv <group = 35, pads = [1, 1, 1, 1]> (x, w)
        y = MatMul (c, v)""",
     [((1, 35, 1, 1), (35, 1, 3, 3), (1,))]),
    # Resize of a symbolic dim: the other dims were not seen to be constants, so that a 1 did not broadcast
    ("resized_one", "float[4,1,n,5] x, float[2,1,1] w => y", """
        scales = Constant <value = float[4] {1, 1, 1.5, 0.5}> ()
        none = Constant <value = float[0] {}> ()
        r = Resize <coordinate_transformation_mode = "asymmetric", mode = "nearest", nearest_mode = "floor"> (x, none, scales)
        y = Mul (r, w)""",
     [((4, 1, 3, 5), (2, 1, 1)), ((4, 1, 7, 5), (2, 1, 1))]),
    # DynamicQuantizeLinear of zeros: the scale was 0
    ("quantized_zeros", "float[3] x => y, s, z", "y, s, z = DynamicQuantizeLinear (x)", [([0, 0, 0],), ([0, 2, -1],)]),
    # Equal of strings: a length found while running that is 1 did not broadcast
    ("pieces_of_one", "string[4] x, string[4] w => y", """
        pieces, n = StringSplit <delimiter = " "> (x)
        y = Equal (w, pieces)""",
     [(["a", "b", "", "b"], ["b", "a", "c", ""]), (["a b c d", "", "e", "f g h"], ["a", "g", "", "d"])]),
    # run: no elements, but rounds without a bound, were too large
    ("rounds_of_nothing", "float[0,3] x, int64 n => y, z", """
        y, z = Loop (n, t, x) <body = b (int64 i, bool go, float[0,3] a) => (go2, e, f) {
            go2 = Identity (go)  e = Neg (a)  f = Identity (e) }>""",
     [((0, 3), 4), ((0, 3), 0)]),
    # infer_shapes: what reads a text that is an output as well came to read the output's copy, before it was made
    ("read_output_text", "string[3] x, string[3] w => u, y, v", """
        u = Identity (x)
        y = RegexFullMatch <pattern = "a+"> (u)
        v = StringConcat (u, w)""",
     [(["a", "aa", "b"], ["c", "", "dd"])]),
    # import: the pool of TfIdfVectorizer behind an operator whose strings were not known to be some
    ("tokens_weighed", "string[N] x => y", """
        u = com.microsoft.Tokenizer <mark = 0, mincharnum = 1, pad_value = "_", tokenexp = "[a-zA-Z0-9_]+"> (x)
        y = TfIdfVectorizer <mode = "TF", min_gram_length = 1, max_gram_length = 2, max_skip_count = 0, ngram_counts = [0, 2],
            ngram_indexes = [1, 0, 2, 3], pool_strings = ["cat", "the", "the", "cat", "cat", "sat"]> (u)""",
     [(["the cat sat", "", "cat, the cat!"],), (["sat"],)]),
    # share_memory: a concatenation whose parts had their places in it took on the halo of another one around it
    ("concat_of_concat", "float[1,32,8,5] x, float[1,16,8,5] w => y", """
        turns = Constant <value = int64[4] {48, 48, 1, 1}> ()
        taps = Constant <value = int64[4] {3, 96, 5, 5}> ()
        square = ConstantOfShape <value = float[1] {0.02}> (turns)
        filter = ConstantOfShape <value = float[1] {0.01}> (taps)
        a = Concat <axis = 1> (x, w)
        b = Conv (a, square)
        c = Concat <axis = 1> (a, b)
        y = Conv <pads = [2, 2, 2, 2], strides = [2, 2]> (c, filter)""",
     [((1, 32, 8, 5), (1, 16, 8, 5))]),
    # assign_layouts: tokens that are resized beside others were written element by element
    ("resized_tokens", "float[1,12,32] x, float[1,32,12,16] z, float[16,64,1,1] w => y", """
        shape = Constant <value = int64[4] {1, 32, 3, 4}> ()
        none = Constant <value = float[0] {}> ()
        by = Constant <value = float[4] {1.0, 1.0, 4.0, 4.0}> ()
        turned = Transpose <perm = [0, 2, 1]> (x)
        i = Reshape (turned, shape)
        r = Resize <mode = "linear"> (i, none, by)
        c = Concat <axis = 1> (r, z)
        y = Conv (c, w)""",
     [((1, 12, 32), (1, 32, 12, 16), (16, 64, 1, 1))]),
    # fuse_stages: heads stored innermost left an attention's product without vectors
    ("heads_innermost", "float[2,3,10,8] q, float[2,3,8,10] k, float[2,3,10,16] v => y", """
        shape = Constant <value = int64[3] {2, 10, 48}> ()
        s = MatMul (q, k)
        e = Softmax <axis = -1> (s)
        o = MatMul (e, v)
        turned = Transpose <perm = [0, 2, 3, 1]> (o)
        y = Reshape (turned, shape)""",
     [((2, 3, 10, 8), (2, 3, 8, 10), (2, 3, 10, 16))]),
    # assign_layouts: rows of an image whose channels lie last were taken for channels
    ("image_of_windows", "float[4,64,24] x, float[24,24,3,3] w => y", """
        cut = Constant <value = int64[5] {2, 2, 8, 8, 24}> ()
        shape = Constant <value = int64[4] {1, 16, 16, 24}> ()
        a = Reshape (x, cut)
        b = Transpose <perm = [0, 2, 1, 3, 4]> (a)
        c = Reshape (b, shape)
        d = Transpose <perm = [0, 3, 1, 2]> (c)
        hundredth = Constant <value = float {0.01}> ()
        small = Mul (w, hundredth)
        e = Conv <pads = [1, 1, 1, 1]> (d, small)
        y = Transpose <perm = [0, 2, 3, 1]> (e)""",
     [((4, 64, 24), (24, 24, 3, 3))]),
    # fuse_stages: a window asked at each tap whether the token that it looks at, of a part, is there
    ("window_of_tokens", "float[1,65,72] x, float[24,1,5,5] w => y", """
        begin = Constant <value = int64[2] {1, 24}> ()
        end = Constant <value = int64[2] {65, 48}> ()
        axes = Constant <value = int64[2] {1, 2}> ()
        shape = Constant <value = int64[4] {1, 24, 8, 8}> ()
        s = Slice (x, begin, end, axes)
        turned = Transpose <perm = [0, 2, 1]> (s)
        i = Reshape (turned, shape)
        y = Conv <pads = [2, 2, 2, 2], group = 24> (i, w)""",
     [((1, 65, 72), (24, 1, 5, 5))]),
    # choose_schedules: taps far apart multiplied zeros, since channels were the outer loop and had no groups
    ("far_taps_of_many_channels", "float[1,16,24,24] x => y", """
        begin = Constant <value = int64 {0}> ()
        one = Constant <value = int64 {1}> ()
        n = Constant <value = int64 {36864}> ()
        period = Constant <value = int64 {13}> ()
        middle = Constant <value = float {6.0}> ()
        scale = Constant <value = float {0.004}> ()
        narrow = Constant <value = int64[4] {256, 16, 3, 3}> ()
        wide = Constant <value = int64[4] {16, 256, 3, 3}> ()
        all = Range (begin, n, one)
        rest = Mod (all, period)
        whole = Cast <to = 1> (rest)
        centered = Sub (whole, middle)
        small = Mul (centered, scale)
        v = Reshape (small, narrow)
        w = Reshape (small, wide)
        a = Conv <pads = [1, 1, 1, 1]> (x, v)
        b = Relu (a)
        c = Conv <dilations = [12, 12], pads = [12, 12, 12, 12]> (b, w)
        y = Relu (c)""",
     [((1, 16, 24, 24),)]),
    # share_memory: memory was wanted for a result whose size, without a bound, was found only behind what it is a view of
    ("reshaped_to_a_later_size", "float[N] x, int64[2] s => y", """
        e = Softmax <axis = 0> (x)
        less = Neg (s)
        u = Neg (less)
        y = Reshape (e, u)""",
     [((6,), [2, 3]), ((6,), [-1, 1]), ((7,), [7, 1])]),
    ("concat_with_a_later_size", "float[1,1,1000] x, int64[2] s => y", """
        rows = Constant <value = int64 {0}> ()
        columns = Constant <value = int64 {2}> ()
        shape = Constant <value = int64[3] {1, -1, 1000}> ()
        e = CumSum (x, columns)
        less = Neg (s)
        u = Neg (less)
        f = ConstantOfShape <value = float[1] {0.5}> (u)
        g = CumSum (f, rows)
        h = Reshape (g, shape)
        y = Concat <axis = 1> (e, h)""",
     [((1, 1, 1000), [2, 1000]), ((1, 1, 1000), [1, 3000]), ((1, 1, 1000), [0, 5])]),
    # lower_kernels: what a free dim may be at most, four times, was more than 64 bits hold
    ("four_free_dims", "float[A,B,M,K] x, float[8,16] w => y", "y = MatMul (x, w)", [((1, 2, 3, 8), (8, 16)), ((2, 1, 9, 8), (8, 16))]),
    # split_phases: the terms of a predicate that nothing fulfils were looked for
    ("nothing_but_padding", "float[3,4] x, float[4,20] w => y", """
        pads = Constant <value = int64[4] {-3, 0, 6, 0}> ()
        p = Pad (x, pads)
        y = MatMul (p, w)""",
     [((3, 4), (4, 20))]),
    # schedule_guards: a product left taps out by a predicate whose places were not read, and could not be compiled
    ("product_of_picked_columns", "float[4,5] x, bool[5] keep, float[5,3] w => y, z", """
        fixed = Constant <value = float[5,3] {1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3, 4, 5, 6}> ()
        c = Compress <axis = 1> (x, keep)
        y = MatMul (c, fixed)
        z = MatMul (c, w)""",
     [((4, 5), [True] * 5, (5, 3))]),
    ("product_of_few_picked_columns", "float[4,7] x, bool[7] keep, bool[5] other, float[5,2] v => y", """
        c = Compress <axis = 1> (x, keep)
        w = Compress <axis = 0> (v, other)
        y = MatMul (c, w)""",
     [((4, 7), [True, False, True, False, False, True, False], [True, True, False, False, True], (5, 2)),
      ((4, 7), [False] * 7, [False] * 5, (5, 2))]),
]
