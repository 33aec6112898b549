"""Models with sequences whose length only running finds, for the suite `sequences`: name -> text of the graph, sets of inputs.

Trip counts are computed (n + 0) where they are inputs, and dims that are split are symbols."""
import numpy as np

I = np.int64
F = np.float32


def ramp(*dims):
    return np.arange(np.prod(dims), dtype=F).reshape(dims) - 3


def number(v):
    return np.array(v, I)


def loop(state, carried, body, out="(bool o, seq(float[2,3]) q)", element="float[2,3]"):
    """A Loop of n rounds that carries the sequence `state` as r and gives `carried`."""
    return (f"{carried} = Loop(n, g, {state}) <body = l (int64 i, bool h, seq({element}) r) => {out} "
            f"{{ o = Identity(h) {body} }}>")


HEAD = "zero = Constant<value_int = 0>() one = Constant<value_int = 1>() g = Constant<value = bool {1}>() n = Add(m, zero) "
GROW = "f = Cast<to = 1>(i) e = Add(a, f) q = SequenceInsert(r, e)"
A = ramp(2, 3)
TRUE = np.array(True)
COUNTS = [[A, number(n)] for n in (3, 1, 70)]
VECTOR = "float[k]"
# a vector of i + 1 elements in round i
GROWING = ("w = Constant<value_ints = [0]>() v = Constant<value_ints = [1]>() ",
           "k = Add(i, one) u = Unsqueeze(k, w) d = Expand(a, u) q = SequenceInsert(r, d)")

LISTS = {
    # a list that a loop appends to, as torch.jit writes it
    "stacked": (f"f (float[2,3] a, int64 m) => (float[x,2,3] y) {{ {HEAD} s = SequenceEmpty() {loop('s', 'p', GROW)} "
                "y = ConcatFromSequence<axis = 0, new_axis = 1>(p) }", COUNTS),
    "stacked_last": (f"f (float[2,3] a, int64 m) => (float[2,3,x] y) {{ {HEAD} s = SequenceEmpty() {loop('s', 'p', GROW)} "
                     "y = ConcatFromSequence<axis = -1, new_axis = 1>(p) }", COUNTS),
    "joined": (f"f (float[2,3] a, int64 m) => (float[x,3] y) {{ {HEAD} s = SequenceEmpty() {loop('s', 'p', GROW)} "
               "y = ConcatFromSequence<axis = 0>(p) }", COUNTS),
    "joined_last": (f"f (float[2,3] a, int64 m) => (float[2,x] y) {{ {HEAD} s = SequenceEmpty() {loop('s', 'p', GROW)} "
                    "y = ConcatFromSequence<axis = 1>(p) }", COUNTS),
    "with_start": (f"f (float[2,3] a, int64 m) => (float[x,2,3] y) {{ {HEAD} s = SequenceConstruct(a, a) "
                   f"{loop('s', 'p', GROW)} y = ConcatFromSequence<axis = 0, new_axis = 1>(p) }}", COUNTS + [[A, number(0)]]),
    "given_back": (f"f (float[2,3] a, int64 m) => (seq(float[2,3]) p, int64 c) {{ {HEAD} s = SequenceEmpty() "
                   f"{loop('s', 'p', GROW)} c = SequenceLength(p) }}", COUNTS + [[A, number(0)]]),
    "of_vectors": (f"f (float[1] a, int64 m) => (seq({VECTOR}) p, int64 c, float[x] y) {{ {HEAD} {GROWING[0]} s = SequenceEmpty() "
                   f"{loop('s', 'p', GROWING[1], '(bool o, seq(float[k]) q)', VECTOR)} c = SequenceLength(p) "
                   "y = ConcatFromSequence<axis = 0>(p) }", [[ramp(1), number(n)] for n in (1, 4, 9)]),
    "of_texts": (f"f (string[2] a, int64 m) => (seq(string[2]) p) {{ {HEAD} s = SequenceEmpty<dtype = 8>() "
                 f"{loop('s', 'p', 'e = Identity(a) q = SequenceInsert(r, e)', '(bool o, seq(string[2]) q)', 'string[2]')} }}",
                 [[np.array(["a", "bcd"], object), number(n)] for n in (0, 3)]),
    "of_scalars": (f"f (float[2,3] a, int64 m) => (seq(int64) p, int64[x] y) {{ {HEAD} s = SequenceEmpty<dtype = 7>() "
                   f"{loop('s', 'p', 'e = Mul(i, i) q = SequenceInsert(r, e)', '(bool o, seq(int64) q)', 'int64')} "
                   "y = ConcatFromSequence<axis = 0, new_axis = 1>(p) }", COUNTS),
    "two_each": (f"f (float[2,3] a, int64 m) => (float[x,2,3] y) {{ {HEAD} s = SequenceEmpty() "
                 f"{loop('s', 'p', 'b = SequenceInsert(r, a) f = Cast<to = 1>(i) e = Add(a, f) q = SequenceInsert(b, e)')} "
                 "y = ConcatFromSequence<axis = 0, new_axis = 1>(p) }", COUNTS),
    "in_front": (f"f (float[2,3] a, int64 m) => (seq(float[2,3]) p) {{ {HEAD} s = SequenceConstruct(a) "
                 f"{loop('s', 'p', 'f = Cast<to = 1>(i) e = Add(a, f) q = SequenceInsert(r, e, zero)')} }}", COUNTS),
    "last_one_read": (f"f (float[2,3] a, int64 m) => (seq(float[2,3]) p) {{ {HEAD} minus = Constant<value_int = -1>() "
                      f"s = SequenceConstruct(a) {loop('s', 'p', 'b = SequenceAt(r, minus) e = Add(b, a) q = SequenceInsert(r, e)')} }}",
                      COUNTS),
    "erased": (f"f (float[2,3] a, int64 m, int64 j) => (seq(float[2,3]) y) {{ {HEAD} s = SequenceEmpty() {loop('s', 'p', GROW)} "
               "y = SequenceErase(p, j) }", [[A, number(4), number(j)] for j in (0, 3, -1, -4)]),
    "erased_last": (f"f (float[2,3] a, int64 m) => (seq(float[2,3]) y) {{ {HEAD} s = SequenceEmpty() {loop('s', 'p', GROW)} "
                    "y = SequenceErase(p) }", COUNTS),
    "inserted": (f"f (float[2,3] a, int64 m, int64 j) => (seq(float[2,3]) y) {{ {HEAD} s = SequenceEmpty() {loop('s', 'p', GROW)} "
                 "b = Neg(a) y = SequenceInsert(p, b, j) }", [[A, number(4), number(j)] for j in (0, 2, 4, -1, -4)]),
    "inserted_other": (f"f (float[2,3] a, float[1,5] b, int64 m, int64 j) => (seq(float[x,z]) y) {{ {HEAD} s = SequenceEmpty() "
                       f"{loop('s', 'p', GROW)} y = SequenceInsert(p, b, j) }}",
                       [[A, ramp(1, 5), number(4), number(j)] for j in (0, 2, 4, -1)]),
    "erased_vectors": (f"f (float[1] a, int64 m, int64 j) => (seq({VECTOR}) y) {{ {HEAD} {GROWING[0]} s = SequenceEmpty() "
                       f"{loop('s', 'p', GROWING[1], '(bool o, seq(float[k]) q)', VECTOR)} y = SequenceErase(p, j) }}",
                       [[ramp(1), number(5), number(j)] for j in (0, 2, 4, -2)]),
    "at": (f"f (float[2,3] a, int64 m, int64 j) => (float[2,3] y) {{ {HEAD} s = SequenceEmpty() {loop('s', 'p', GROW)} "
           "y = SequenceAt(p, j) }", [[A, number(5), number(j)] for j in (0, 4, -5, -1)]),
    "at_vectors": (f"f (float[1] a, int64 m, int64 j) => (float[x] y) {{ {HEAD} {GROWING[0]} s = SequenceEmpty() "
                   f"{loop('s', 'p', GROWING[1], '(bool o, seq(float[k]) q)', VECTOR)} y = SequenceAt(p, j) }}",
                   [[ramp(1), number(5), number(j)] for j in (0, 4, -5, -1)]),
    "sometimes": (f"f (float[2,3] a, int64 m) => (seq(float[2,3]) p) {{ {HEAD} two = Constant<value_int = 2>() s = SequenceEmpty() "
                  + loop("s", "p", "b = Mod(i, two) c = Equal(b, zero) f = Cast<to = 1>(i) e = Add(a, f) q = If(c) "
                         "<then_branch = t () => (seq(float[2,3]) u) { u = SequenceInsert(r, e) }, "
                         "else_branch = k () => (seq(float[2,3]) v) { v = Identity(r) }>") + " }", COUNTS),
    "until": (f"f (float[2,3] a, int64 m) => (seq(float[2,3]) p) {{ {HEAD} s = SequenceEmpty() p = Loop(, g, s) <body = l (int64 i, "
              "bool h, seq(float[2,3]) r) => (bool o, seq(float[2,3]) q) { k = Add(i, one) o = Less(k, n) q = SequenceInsert(r, a) }> }",
              COUNTS),
    "beside_others": (f"f (float[2,3] a, int64 m) => (float[2,3] z, seq(float[2,3]) p, int64[x] w) {{ {HEAD} s = SequenceEmpty() "
                      "z, p, w = Loop(n, g, a, s) <body = l (int64 i, bool h, float[2,3] b, seq(float[2,3]) r) => (bool o, "
                      "float[2,3] c, seq(float[2,3]) q, int64 j) { o = Identity(h) c = Add(b, a) q = SequenceInsert(r, b) "
                      "j = Identity(i) }> }", COUNTS),
    "state_grows": (f"f (float[2,3] a, int64 m) => (seq(float[x,3]) p) {{ {HEAD} s = SequenceEmpty() "
                    "z, p = Loop(n, g, a, s) <body = l (int64 i, bool h, float[b,3] b, seq(float[d,3]) r) => (bool o, "
                    "float[e,3] c, seq(float[e,3]) q) { o = Identity(h) c = Concat<axis = 0>(b, a) q = SequenceInsert(r, c) }> }",
                    [[A, number(n)] for n in (0, 1, 5)]),
    "grown_joined_last": (f"f (float[2,3] a, int64 m) => (float[3,x] y) {{ {HEAD} s = SequenceEmpty() "
                          "z, p = Loop(n, g, a, s) <body = l (int64 i, bool h, float[b,3] b, seq(float[3,d]) r) => (bool o, "
                          "float[e,3] c, seq(float[3,e]) q) { o = Identity(h) c = Concat<axis = 0>(b, a) t = Transpose(c) "
                          "q = SequenceInsert(r, t) }> y = ConcatFromSequence<axis = 1>(p) }", [[A, number(n)] for n in (1, 5)]),
    "nested": (f"f (float[2,3] a, int64 m) => (float[w,x,2,3] y) {{ {HEAD} s = SequenceEmpty() "
               + loop("s", "p", "x = SequenceEmpty() b = Loop(n, g, x) <body = k (int64 j, bool d, seq(float[2,3]) c) => "
                      "(bool f, seq(float[2,3]) v) { f = Identity(d) k = Add(i, j) l = Cast<to = 1>(k) t = Add(a, l) "
                      "v = SequenceInsert(c, t) }> e = ConcatFromSequence<axis = 0, new_axis = 1>(b) q = SequenceInsert(r, e)",
                      "(bool o, seq(float[x,2,3]) q)", "float[x,2,3]")
               + " y = ConcatFromSequence<axis = 0, new_axis = 1>(p) }", [[A, number(n)] for n in (1, 4)]),
    # pieces of a tensor
    "rows": ("f (float[b,3] x) => (seq(float[3]) y, int64 c) { y = SplitToSequence<keepdims = 0>(x) c = SequenceLength(y) }",
             [[ramp(n, 3)] for n in (1, 4)]),
    "rows_kept": ("f (float[2,b,3] x) => (seq(float[2,1,3]) y) { y = SplitToSequence<axis = 1>(x) }", [[ramp(2, n, 3)] for n in (1, 4)]),
    "pieces": ("f (float[b,3] x) => (seq(float[d,3]) y, int64 c) { n = Constant<value_int = 2>() y = SplitToSequence(x, n) "
               "c = SequenceLength(y) }", [[ramp(n, 3)] for n in (1, 4, 5)]),
    "pieces_inside": ("f (float[2,b,2] x) => (seq(float[2,d,2]) y) { n = Constant<value_int = 2>() "
                      "y = SplitToSequence<axis = 1>(x, n) }", [[ramp(2, n, 2)] for n in (1, 4, 5)]),
    "pieces_of": ("f (float[2,6] x, int64 m) => (seq(float[2,d]) y) { z = Constant<value_int = 0>() n = Add(m, z) "
                  "y = SplitToSequence<axis = 1>(x, n) }", [[ramp(2, 6), number(n)] for n in (1, 4, 6, 9)]),
    "pieces_listed": ("f (float[6,2] x, int64[k] n) => (seq(float[d,2]) y) { y = SplitToSequence(x, n) }",
                      [[ramp(6, 2), np.array(n, I)] for n in ([6], [1, 0, 5], [2, 2, 2])]),
    "piece_at": ("f (float[2,b] x, int64 j) => (float[2,d] y) { n = Constant<value_int = 2>() s = SplitToSequence<axis = 1>(x, n) "
                 "y = SequenceAt(s, j) }", [[ramp(2, 5), number(j)] for j in (0, 2, -1, -3)]),
    "pieces_rejoined": ("f (float[2,b] x) => (float[2,b] y, float[c,3] z) { n = Constant<value_int = 3>() "
                        "s = SplitToSequence<axis = 1>(x, n) y = ConcatFromSequence<axis = 1>(s) z = ConcatFromSequence<axis = 0>(s) }",
                        [[ramp(2, n)] for n in (3, 9)]),
    "pieces_stacked": ("f (float[2,b] x) => (float[c,2,3] y) { n = Constant<value_int = 3>() "
                       "s = SplitToSequence<axis = 1>(x, n) y = ConcatFromSequence<axis = 0, new_axis = 1>(s) }",
                       [[ramp(2, n)] for n in (3, 9)]),
    "piece_added": ("f (float[2,b] x, float[2,7] a) => (seq(float[2,d]) y) { n = Constant<value_int = 3>() "
                    "s = SplitToSequence<axis = 1>(x, n) y = SequenceInsert(s, a) }", [[ramp(2, n), ramp(2, 7)] for n in (3, 8)]),
    "each_row": ("f (float[b,3] x) => (float[3] y) { s = SplitToSequence<keepdims = 0>(x) c = SequenceLength(s) "
                 "g = Constant<value = bool {1}>() z = Constant<value = float[3] {0, 0, 0}>() y = Loop(c, g, z) <body = l (int64 i, "
                 "bool h, float[3] r) => (bool o, float[3] q) { o = Identity(h) e = SequenceAt(s, i) q = Add(r, e) }> }",
                 [[ramp(n, 3)] for n in (1, 4)]),
    "each_row_to_a_list": ("f (float[b,3] x) => (float[b,3] y) { s = SplitToSequence<keepdims = 0>(x) c = SequenceLength(s) "
                           "g = Constant<value = bool {1}>() z = SequenceEmpty() p = Loop(c, g, z) <body = l (int64 i, bool h, "
                           "seq(float[3]) r) => (bool o, seq(float[3]) q) { o = Identity(h) e = SequenceAt(s, i) t = Neg(e) "
                           "q = SequenceInsert(r, t) }> y = ConcatFromSequence<axis = 0, new_axis = 1>(p) }",
                           [[ramp(n, 3)] for n in (1, 4)]),
    # other operators
    "mapped": ("f (float[b,3] x, float[3] a) => (seq(float[3]) y) { s = SplitToSequence<keepdims = 0>(x) y = SequenceMap(s, a) "
               "<body = l (float[3] e, float[3] f) => (float[3] q) { q = Mul(e, f) }> }", [[ramp(n, 3), ramp(3)] for n in (1, 4)]),
    "mapped_pieces": ("f (float[2,b] x) => (seq(float[d,2]) y, seq(float) z) { n = Constant<value_int = 2>() "
                      "s = SplitToSequence<axis = 1>(x, n) y, z = SequenceMap(s) <body = l (float[2,d] e) => (float[d,2] q, float t) "
                      "{ q = Transpose(e) t = ReduceSum<keepdims = 0>(e) }> }", [[ramp(2, n)] for n in (1, 4, 5)]),
    "chosen": ("f (bool c, float[2,3] a) => (seq(float[2,3]) y, int64 n) { y = If(c) <then_branch = t () => (seq(float[2,3]) u) "
               "{ u = SequenceConstruct(a, a) }, else_branch = e () => (seq(float[2,3]) v) { b = Neg(a) v = SequenceConstruct(b) }> "
               "n = SequenceLength(y) }", [[np.array(c), A] for c in (True, False)]),
    "chosen_or_empty": ("f (bool c, float[2,3] a) => (seq(float[2,3]) y) { y = If(c) <then_branch = t () => (seq(float[2,3]) u) "
                        "{ u = SequenceConstruct(a, a) }, else_branch = e () => (seq(float[2,3]) v) { v = SequenceEmpty() }> }",
                        [[np.array(c), A] for c in (True, False)]),
    "chosen_shapes": ("f (bool c, float[2,3] a, float[2,b] x) => (seq(float[2,d]) y, float[2,e] z) { y = If(c) <then_branch = t () "
                      "=> (seq(float[2,d]) u) { u = SequenceConstruct(a, x, a) }, else_branch = e () => (seq(float[2,d]) v) "
                      "{ n = Constant<value_int = 2>() v = SplitToSequence<axis = 1>(x, n) }> p = Constant<value_int = -1>() "
                      "z = SequenceAt(y, p) }", [[np.array(c), A, ramp(2, n)] for c in (True, False) for n in (1, 5)]),
    "in_an_optional": ("f (float[b,3] x) => (seq(float[3]) y, bool h) { s = SplitToSequence<keepdims = 0>(x) o = Optional(s) "
                       "h = OptionalHasElement(o) y = OptionalGetElement(o) }", [[ramp(n, 3)] for n in (1, 4)]),
}

def optional_loop(state, type_, body, more=""):
    """A Loop of n rounds that carries the optional `state` as r and gives p."""
    return (f"p{more} = Loop(n, g, {state}) <body = l (int64 i, bool h, optional({type_}) r) => (bool o, optional({type_}) q{more.replace(', ', ', float[2,3] ')}) "
            f"{{ o = Identity(h) {body} }}> has = OptionalHasElement(p)")


ROUNDS = [[A, number(n)] for n in (3, 0, 1, 70)]
# what an optional holds after some rounds, or -a where it holds nothing
TAKEN = ("y = If(has) <then_branch = t () => (float[k,l] u) { u = OptionalGetElement(p) }, else_branch = e () => (float[k,l] v) "
         "{ v = Neg(a) }>")
OLD_OR = ("c = OptionalHasElement(r) d = If(c) <then_branch = t () => (float[k,l] u) { w = OptionalGetElement(r) %s }, "
          "else_branch = e () => (float[k,l] v) { v = Abs(a) }> q = Optional(d)")
NONE = "s = Optional<type: type_proto = float[2,3]>() "
LISTS |= {
    "optional_fills": (f"f (float[2,3] a, int64 m) => (float[k,l] y, bool has) {{ {HEAD} {NONE} "
                       f"{optional_loop('s', 'float[2,3]', OLD_OR % 'u = Add(w, a)')} {TAKEN} }}", ROUNDS),
    "optional_grows": (f"f (float[2,3] a, int64 m) => (float[k,l] y, bool has) {{ {HEAD} s = Optional<type: type_proto = float[k,l]>() "
                       f"{optional_loop('s', 'float[k,l]', OLD_OR % 'u = Concat<axis = 0>(w, a)')} {TAKEN} }}", ROUNDS),
    "optional_there": (f"f (float[2,3] a, int64 m) => (float[k,l] y, bool has) {{ {HEAD} s = Optional(a) "
                       f"{optional_loop('s', 'float[k,l]', 'c = OptionalGetElement(r) d = Sub(c, a) q = Optional(d)')} {TAKEN} }}", ROUNDS),
    "optional_and_slices": (f"f (float[2,3] a, int64 m) => (float[k,l] y, float[x,2,3] z, bool has) {{ {HEAD} s = Optional(a) "
                            f"{optional_loop('s', 'float[2,3]', 'c = OptionalGetElement(r) d = Mul(c, a) q = Optional(d) b = Neg(c)', ', b')} "
                            f"z = Identity(b) {TAKEN} }}", [[A, number(n)] for n in (3, 1)]),
    "optional_sequence": (f"f (float[2,3] a, int64 m) => (int64 y, bool has) {{ {HEAD} s = Optional<type: type_proto = seq(float[2,3])>() "
                          + optional_loop("s", "seq(float[2,3])",
                                          "c = OptionalHasElement(r) d = If(c) <then_branch = t () => (seq(float[2,3]) u) "
                                          "{ w = OptionalGetElement(r) u = SequenceInsert(w, a) }, else_branch = e () => "
                                          "(seq(float[2,3]) v) { v = SequenceConstruct(a, a) }> q = Optional(d)")
                          + " y = If(has) <then_branch = t () => (int64 u) { w = OptionalGetElement(p) u = SequenceLength(w) }, "
                          "else_branch = e () => (int64 v) { v = Constant<value_int = -1>() }> }", ROUNDS),
}

# Elements that do not fit: the run ends with BAD_DATA.
BAD_LISTS = {
    "unequal_stacked": (LISTS["pieces_stacked"][0], [ramp(2, 8)]),
    "unequal_vectors": (LISTS["of_vectors"][0].replace("<axis = 0>(p)", "<axis = 0, new_axis = 1>(p)"), [ramp(1), number(3)]),
    "unequal_joined": ("f (bool c, float[2,3] a, float[1,b] x) => (float[d,3] y) { s = If(c) <then_branch = t () => (seq(float[e,d]) u) "
                       "{ u = SequenceConstruct(a, x) }, else_branch = e () => (seq(float[e,d]) v) { v = SequenceConstruct(x) }> "
                       "y = ConcatFromSequence<axis = 0>(s) }", [TRUE, A, ramp(1, 4)]),
}
