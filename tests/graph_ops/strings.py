"""Rows of the random graphs: text. Movement of strings is done by the rows of movement.py, in graphs that have strings."""
import numpy as np
from onnx import TensorProto

from graph_build import WORDS
from graph_ops.rows import row


@row("text")
def concat_strings(g):
    x = g.pick("str", rank=(0, 1, 2, 3))
    g.need(g.opset >= 20)
    g.add("StringConcat", [x, g.partner(x)], exact=True, reference=True)


@row("text")
def compare_strings(g):
    x = g.pick("str", rank=(0, 1, 2, 3))
    g.need(g.opset >= 19)
    e = g.add("Equal", [x, g.partner(x)], exact=True)
    if g.chance(0.5):
        g.add("Where", [e, x, g.const(np.asarray(g.one(WORDS), object))], exact=True)


@row("text", 0.8)
def normalize_strings(g):
    x = g.pick("str", rank=1, where=lambda v: v.shape[0] > 0)
    g.add("StringNormalizer", [x], exact=True, case_change_action=g.one(["NONE", "LOWER", "UPPER"]),
          is_case_sensitive=g.one([0, 1]), stopwords=g.rng.sample([w for w in WORDS if w.isascii()], 3) if g.chance(0.5) else None)


@row("text")
def split_strings(g):
    x = g.pick("str", rank=(1, 2))
    g.need(g.opset >= 20 and all(a.size for a in x.data))
    g.add("StringSplit", [x], n_out=2, exact=True, reference=True, delimiter=g.one([" ", "a", None, "b"]), maxsplit=g.one([None, 1, 2]))


@row("text")
def match_strings(g):
    x = g.pick("str", rank=(1, 2))
    g.need(g.opset >= 20)
    pattern = g.one(["a+", "[a-z]*", ".*b", "(a|b)*", "[^a]+", "-?[0-9]+", "x{3,40}", "\\w+ \\w+", ".", ""])
    g.add("RegexFullMatch", [x], exact=True, reference=True, pattern=pattern)


@row("text", 0.8)
def text_of_numbers(g):
    x = g.pick(("i64", "i32", "bool", "u8"), rank=(0, 1, 2))
    g.add("Cast", [x], exact=True, to=TensorProto.STRING)


@row("text", 0.8)
def numbers_of_text(g):
    words = np.asarray(["0", "-7", "12", "100", "+3"], object)
    x = g.leaf("str", g.shape(g.one([0, 1, 2])), draw=lambda s: g.np.choice(words, s))
    g.add("Cast", [x], exact=True, to=g.one([TensorProto.INT64, TensorProto.FLOAT, TensorProto.INT32]))


@row("text", 0.8)
def n_grams(g):
    x = g.pick(("str", "i64"), rank=(1, 2), where=lambda v: all(a.size for a in v.data))
    g.need(x.dtype == "str" or x.within(-20, 20))
    pool = {"pool_strings": g.rng.sample(WORDS, 5)} if x.dtype == "str" else {"pool_int64s": g.rng.sample(range(-3, 9), 5)}
    mode = g.one(["TF", "IDF", "TFIDF"])
    g.add("TfIdfVectorizer", [x], mode=mode, max_gram_length=2, max_skip_count=g.one([0, 1, 3]), min_gram_length=g.one([1, 2]),
          ngram_counts=[0, 3], ngram_indexes=[0, 1, 2, 3], weights=None if mode == "TF" else [0.5, 1.0, 2.0, 1.5], **pool)


@row("text", 0.7)
def gather_strings(g):
    x = g.leaf("str", [g.size()], const=0.7)
    i = g.leaf("i64", g.shape(g.one([0, 1, 2])), low=0, high=x.shape[0] - 1)
    g.add("Gather", [x, i], exact=True, judge="reference")
