"""Rows of the random graphs: onnxruntime's own operators, the domain com.microsoft.

The quantized ones have scales drawn at random, so that hardly a value lies at a half between two steps, where
onnxruntime's tables and fixed point may round the other way. QLinearSoftmax has no row: its table does so everywhere.
"""
import numpy as np

from graph_build import RUN_A, RUN_B
from graph_ops.contractions import window
from graph_ops.quantization import quantizer
from graph_ops.rows import axis_of, row

MS = "com.microsoft"


def ms(g, op, reads, n_out=1, **attributes):
    return g.add(op, reads, n_out=n_out, domain=MS, **attributes)


def known_size(g, x, axis=-1):
    n = g.spec(x)[axis]
    g.need(isinstance(n, int) and n > 0)
    return n


def has_elements(v):
    return all(a.size for a in v.data)


@row("contrib")
def gelu(g):
    x = g.pick("f32", low=-30, high=30, rank=(1, 2, 3, 4))
    op = g.one(["Gelu", "FastGelu", "QuickGelu", "BiasGelu", "FastGelu"])
    more = [g.leaf("f32", [known_size(g, x)])] if op == "BiasGelu" or op == "FastGelu" and g.chance(0.5) else []
    ms(g, op, [x] + more, alpha=g.one([None, 1.0, 0.5]) if op == "QuickGelu" else None)


@row("contrib", 1.5)
def fused_matmul(g):
    x = g.pick("f32", rank=(2, 3), where=has_elements)
    ta, tb = g.one([0, 0, 1]), g.one([0, 1])
    k = known_size(g, x, -2 if ta else -1)
    w = g.leaf("f32", [g.size(), k] if tb else [k, g.size()])
    ms(g, g.one(["FusedMatMul", "FusedMatMul", "TransposeMatMul"]), [x, w], transA=ta, transB=tb, alpha=g.one([None, 0.5, -2.0]))


@row("contrib")
def fused_gemm(g):
    x = g.pick("f32", rank=2, where=has_elements)
    ta, tb = g.one([0, 0, 1]), g.one([0, 1])
    k, n = known_size(g, x, 0 if ta else 1), g.size()
    w = g.leaf("f32", [n, k] if tb else [k, n])
    a = g.one([{"activation": "Relu"}, {"activation": "LeakyRelu", "activation_alpha": 0.2}, {"activation": "Tanh"},
               {"activation": "Sigmoid"}])
    ms(g, "FusedGemm", [x, w, g.leaf("f32", g.one([[n], [1, n], []])) if g.chance(0.8) else None], transA=ta, transB=tb,
       alpha=g.one([None, 0.5]), beta=g.one([None, 2.0]), **a)


@row("contrib")
def fused_conv(g):
    x = g.pick("f32", rank=4, where=lambda v: has_elements(v) and v.data[0].size < 4000)
    c = known_size(g, x, 1)
    a = window(g, x)
    w = g.leaf("f32", [g.one([1, 4, 8, 16]), c] + a["kernel_shape"], const=0.9)
    act = g.one([{"activation": "Relu"}, {"activation": "LeakyRelu", "activation_params": [0.1]}, {"activation": "Sigmoid"},
                 {"activation": "HardSigmoid", "activation_params": [0.2, 0.5]}, {"activation": "Clip", "activation_params": [-1.0, 1.0]}])
    y = ms(g, "FusedConv", [x, w, g.leaf("f32", [w.shape[0]]) if g.chance(0.6) else None], **a, **act)
    g.need(has_elements(y))


@row("contrib", 1.5)
def skip_norm(g):
    x = g.pick("f32", rank=3, where=lambda v: v.shape[-1] > 2 and has_elements(v))
    width = known_size(g, x)
    skip = g.partner(x)
    g.need(skip.rank == 3 and all(a.shape == b.shape for a, b in zip(skip.data, x.data)))
    simple = g.chance(0.5)
    parts = [g.leaf("f32", [width])] + ([] if simple else [g.leaf("f32", [width]) if g.chance(0.7) else None])
    parts.append(g.leaf("f32", [width]) if g.chance(0.4) else None)
    names = "SkipSimplifiedLayerNormalization" if simple else "SkipLayerNormalization"
    ms(g, names, [x, skip] + parts, n_out=4, skip=g.one([(1, 2, 3), (1, 2)]), epsilon=g.one([None, 1e-3]))


@row("contrib")
def embed_norm(g):
    batch, seq, width = g.one([1, 2]), g.size(True), g.one([4, 8, 12])
    ids = g.leaf("i32", [batch, seq], low=0, high=9, const=0)
    segments = g.leaf("i32", [batch, seq], low=0, high=1, const=0) if g.chance(0.5) else None
    tables = [g.leaf("f32", [10, width], const=1), g.leaf("f32", [9, width], const=1)]
    tables.append(g.leaf("f32", [2, width], const=1) if segments else None)
    ms(g, "EmbedLayerNormalization", [ids, segments] + tables + [g.leaf("f32", [width], const=1), g.leaf("f32", [width], const=1)],
       n_out=2, skip=(1,))


def words(g):
    """(x, batch, seq, width): what an attention reads."""
    x = g.pick("f32", rank=3, where=lambda v: v.shape[2] in (4, 6, 8, 12, 16) and has_elements(v) and v.data[0].size < 2000,
               low=-10, high=10)
    batch, seq, width = g.spec(x)
    g.need(batch is not None and seq is not None and isinstance(width, int))
    return x, batch, seq, width


@row("contrib", 1.5)
def multi_head_attention(g):
    x, batch, seq, width = words(g)
    heads = g.one([1, 2])
    same = g.chance(0.5)
    keys = seq if same else g.size(True)
    k, v = (g.leaf("f32", [batch, keys, width]) for _ in range(2))
    bias = g.leaf("f32", [3 * width]) if g.chance(0.4) else None
    mask = g.leaf("f32", [g.one([1, batch]), g.one([1, heads]), seq, keys]) if g.chance(0.3) else None
    ms(g, "MultiHeadAttention", [x, k, v, bias, None, mask], num_heads=heads, scale=g.one([None, 0.3]),
       unidirectional=1 if same and g.chance(0.3) else None)


@row("contrib", 1.5)
def packed_attention(g):
    x, batch, seq, width = words(g)
    heads = g.one([1, 2])
    w, b = g.leaf("f32", [width, 3 * width], const=1), g.leaf("f32", [3 * width], const=1)
    mask = None
    if isinstance(seq, int) and g.chance(0.5):
        mask = g.one([lambda: g.leaf("i32", [batch, seq], low=0, high=1), lambda: g.leaf("i32", [batch], low=1, high=seq)])()
    past = g.leaf("f32", [2, batch, heads, g.size(True), width // heads]) if mask is None and g.chance(0.3) else None
    ms(g, "Attention", [x, w, b, mask, past], n_out=2 if past else 1, num_heads=heads, unidirectional=g.one([0, 1]))


@row("contrib", 1.2)
def group_query_attention(g):
    batch, heads, kv, size = g.one([1, 2]), g.one([2, 4]), g.one([1, 2]), g.one([8, 16])
    seq, past = g.one([(g.one([2, 3, 5]), 0), (1, g.one([2, 3, 7]))])
    q = g.leaf("f32", [batch, seq, heads * size], const=0)
    k, v = (g.leaf("f32", [batch, seq, kv * size], const=0) for _ in range(2))
    olds = [g.leaf("f32", [batch, kv, past, size], const=0) for _ in range(2)] if past else [None, None]
    total = past + seq
    lengths, most = g.ints([total - 1] * batch, "i32"), g.ints(total, "i32")
    rotate = g.chance(0.4)
    tables = [g.leaf("f32", [total + 3, size // 2], const=1) for _ in range(2)] if rotate else []
    ms(g, "GroupQueryAttention", [q, k, v] + olds + [lengths, most] + tables, n_out=3, num_heads=heads, kv_num_heads=kv,
       do_rotary=int(rotate), rotary_interleaved=g.one([0, 1]) if rotate else None, scale=g.one([None, 0.3]),
       softcap=g.one([None, None, 5.0]))


@row("contrib", 0.6)
def ms_rotary(g):
    batch, seq, heads, size = g.one([1, 2]), g.one([1, 3, 5]), g.one([1, 2]), g.one([4, 8])
    x = g.leaf("f32", [batch, seq, heads * size], const=0)
    positions = g.leaf("i64", [batch, seq], low=0, high=8) if g.chance(0.6) else g.ints([g.one([0, 2])])
    tables = [g.leaf("f32", [9, size // 2], const=1) for _ in range(2)]
    ms(g, "RotaryEmbedding", [x, positions] + tables, interleaved=g.one([0, 1]))


@row("contrib", 1.5)
def matmul_bits(g):
    x = g.pick("f32", rank=(2, 3), where=has_elements)
    k, n, block = known_size(g, x), g.one([1, 3, 8, 17, 32]), g.one([16, 32])
    blocks = -(-k // block)
    bits = g.one([4, 4, 8])
    b = g.leaf("u8", [n, blocks, block * bits // 8], low=0, high=255, const=1)
    scales = g.leaf("f32", [n, blocks], low=0.01, high=0.1, const=1)
    zeros = g.leaf("u8", [n, -(-blocks * bits // 8)], low=0, high=255, const=1) if g.chance(0.5) else None
    ms(g, "MatMulNBits", [x, b, scales, zeros], K=k, N=n, block_size=block, bits=bits)


@row("contrib")
def matmul_bnb4(g):
    x = g.pick("f32", rank=(2, 3), where=has_elements)
    k, n, block = known_size(g, x), g.one([2, 4, 8, 32]), g.one([16, 32, 64])
    g.need(k * n % 2 == 0)
    b = g.leaf("u8", [(k * n + 1) // 2], low=0, high=255, const=1)
    scales = g.leaf("f32", [-(-k * n // block)], low=0.1, high=1, const=1)
    ms(g, "MatMulBnb4", [x, b, scales], K=k, N=n, block_size=block, quant_type=g.one([0, 1]))


@row("contrib", 0.8)
def gather_blocks(g):
    rows, width, block = g.one([5, 9]), g.one([16, 32, 48]), 16
    table = g.leaf("u8", [rows, width // 2], low=0, high=255, const=1)
    scales = g.leaf("f32", [rows, width // block], low=0.01, high=0.1, const=1)
    indices = g.leaf("i64", g.shape(g.one([0, 1, 2]), symbolic=0, zero=0), low=0, high=rows - 1, const=0.1)
    ms(g, "GatherBlockQuantized", [table, indices, scales], gather_axis=0, quantize_axis=1, block_size=block, bits=4)


def byte(g, **more):
    return g.pick("u8", **more)


@row("contrib", 1.5)
def q_binary(g):
    x = byte(g, rank=(1, 2, 3, 4))
    y = g.partner(x)
    parts = []
    for v in (x, y):
        parts += [v] + list(quantizer(g, "u8"))
    ms(g, g.one(["QLinearAdd", "QLinearMul"]), parts + list(quantizer(g, "u8")), exact=True)


@row("contrib")
def q_unary(g):
    x = byte(g, rank=(1, 2, 3, 4))
    op = g.one(["QLinearSigmoid", "QLinearLeakyRelu"])
    ms(g, op, [x, *quantizer(g, "u8"), *quantizer(g, "u8")], exact=True, alpha=0.1 if op == "QLinearLeakyRelu" else None)


@row("contrib")
def q_pool(g):
    x = byte(g, rank=4, where=lambda v: has_elements(v) and v.data[0].size < 4000)
    if g.chance(0.5):
        ms(g, "QLinearGlobalAveragePool", [x, *quantizer(g, "u8"), *quantizer(g, "u8")], exact=True, channels_last=g.one([0, 1]))
        return
    a = window(g, x, kernel=(2, 3), dilate=False)
    y = ms(g, "QLinearAveragePool", [x, *quantizer(g, "u8"), *quantizer(g, "u8")], exact=True, count_include_pad=g.one([0, 1]), **a)
    g.need(has_elements(y))


@row("contrib")
def q_concat(g):
    x = byte(g, rank=(1, 2, 3))
    axis = axis_of(g, x.rank)
    y = g.partner(x)
    g.need(x.rank == y.rank)
    ms(g, "QLinearConcat", [*quantizer(g, "u8"), x, *quantizer(g, "u8"), y, *quantizer(g, "u8")], exact=True, axis=axis)


@row("contrib", 0.7)
def q_where(g):
    x = byte(g, rank=(1, 2, 3))
    y = g.partner(x)
    c = g.partner(x, dtype="bool")
    ms(g, "QLinearWhere", [c, x, *quantizer(g, "u8"), y, *quantizer(g, "u8"), *quantizer(g, "u8")], exact=True)


@row("contrib", 1.2)
def q_gemm(g):
    x = byte(g, rank=2, where=has_elements)
    k, n = known_size(g, x), g.size()
    tb = g.one([0, 1])
    w = g.leaf(g.one(["u8", "i8"]), [n, k] if tb else [k, n], const=0.9)
    out = list(quantizer(g, "u8")) if g.chance(0.6) else []
    bias = g.leaf("i32", [n]) if g.chance(0.5) else None
    ms(g, "QGemm", [x, *quantizer(g, "u8"), w, *quantizer(g, w.dtype), bias] + out, exact=bool(out), transB=tb, alpha=1.0)


@row("contrib")
def integer_matmuls(g):
    dynamic = g.chance(0.5)
    x = g.pick("f32" if dynamic else "u8", rank=(2, 3), where=has_elements, low=-100, high=300)
    k, n = known_size(g, x), g.size()
    w = g.leaf(g.one(["u8", "i8"]), [k, n], const=0.9)
    sw, zw = quantizer(g, w.dtype)
    bias = g.leaf("f32", [n]) if g.chance(0.5) else None
    if dynamic:
        ms(g, "DynamicQuantizeMatMul", [x, w, sw, zw if g.chance(0.5) else None, bias])
    else:
        sx, zx = quantizer(g, "u8")
        ms(g, "MatMulIntegerToFloat", [x, w, sx, sw, zx if g.chance(0.7) else None, zw if g.chance(0.5) else None, bias])


@row("contrib", 0.5)
def q_attention(g):
    batch, seq, width, heads = g.one([1, 2]), g.size(True), g.one([4, 8]), g.one([1, 2])
    x = g.leaf("u8", [batch, seq, width], low=0, high=255, const=0)
    w = g.leaf("i8", [width, 3 * width], low=-100, high=100, const=1)
    sx, zx = quantizer(g, "u8")
    sw, _ = quantizer(g, "i8")
    ms(g, "QAttention", [x, w, g.leaf("f32", [3 * width], const=1), sx, sw, None, zx, g.const(np.int8(0))], num_heads=heads)


@row("contrib", 0.5)
def nhwc_max_pool(g):
    x = byte(g, rank=4, where=lambda v: has_elements(v) and min(v.shape[1:3]) > 2)
    ms(g, "NhwcMaxPool", [x], exact=True, kernel_shape=[g.one([1, 2, 3]), g.one([2, 3])], strides=g.one([[1, 1], [2, 1]]))


@row("contrib", 0.5)
def distances(g):
    x = g.pick("f32", rank=2, where=lambda v: has_elements(v) and v.within(-100, 100))
    y = g.leaf("f32", [g.size(), known_size(g, x)])
    ms(g, "CDist", [x, y], metric=g.one(["euclidean", "sqeuclidean"]))


@row("contrib", 0.5)
def inverse(g):
    n = g.one([1, 2, 3, 5, 9])

    def draw(shape):        # far from singular
        return (np.eye(n) * g.one([2, -3]) * n + g.np.uniform(-1, 1, shape)).astype(np.float32)
    ms(g, "Inverse", [g.leaf("f32", g.one([[], [2], [2, 3]]) + [n, n], draw=draw)])


@row("contrib", 0.4)
def same_in_both(g):
    x = g.pick(("f32", "i64"), rank=2)
    ms(g, "Trilu", [x, g.ints(g.one([-1, 0, 1, 2]))], exact=True, upper=g.one([0, 1]))


@row("contrib", 0.4)
def ms_expand_dims(g):
    x = g.pick(("f32", "i64", "i32"), rank=(1, 2, 3))
    ms(g, "ExpandDims", [x, g.ints(g.rng.randint(-x.rank - 1, x.rank), "i32")], exact=True)


@row("contrib", 0.4)
def ms_pad(g):
    x = g.pick("f32", rank=(1, 2, 3))
    pads = g.leaf("i64", [2 * x.rank], low=0, high=2)
    ms(g, "Pad", [x, pads, g.leaf("f32", []) if g.chance(0.5) else None], exact=True)


@row("contrib", 0.3)
def conv_transpose_pads(g):
    x = g.pick("f32", rank=4, where=lambda v: v.data[0].size < 1500 and has_elements(v))
    c, k = known_size(g, x, 1), g.one([2, 3])
    w = g.leaf("f32", [c, g.one([1, 4]), k, k], const=1)
    y = ms(g, "ConvTransposeWithDynamicPads", [x, w, g.leaf("i64", [4], low=0, high=1, const=1)], strides=g.one([[1, 1], [2, 2]]))
    g.need(all(y.data[r].size for r in (RUN_A, RUN_B)))
