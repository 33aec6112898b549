#!/usr/bin/env python3
"""Train the network of this sample and write every file that the sample needs.

    python train.py [-o DIR]        a quarter of a minute; needs numpy, scikit-learn, onnx, onnxruntime

Writes, into DIR (default: this folder):
    digits.onnx     a small convolution network, 8x8 grey picture to ten probabilities
    images.h        the 360 held-out pictures and what they show, as C arrays
    expected.txt    what onnxruntime answers for each of those pictures, and how many are right

The data are scikit-learn's handwritten digits (1797 pictures, bundled with the package: nothing is
downloaded). The network and its training (Adam, cross-entropy, gradients by hand) are numpy alone.

The three files are the same bytes from run to run: seeds are fixed, sums are float64, and the trained
weights are rounded to 1/4096, so that a last-bit difference between two BLAS libraries does not show.
"""
import argparse
import os
import sys

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"      # must be set before numpy loads: the order of BLAS sums depends on it

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits

HELD_OUT = 360
EPOCHS = 25
BATCH = 32
STEP = 2e-3
WEIGHT_GRID = 4096
ACCURACY_BAR = 0.97


# ---- the network, forwards and backwards -------------------------------------------------------

def patches(x):
    """[n,c,h,w] to [n,h,w,c*9]: each pixel's 3x3 neighbourhood, zero outside the picture."""
    n, c, h, w = x.shape
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    return windows.transpose(0, 2, 3, 1, 4, 5).reshape(n, h, w, c * 9)


def unpatch(columns, c):
    """The transpose of patches(): add each neighbourhood's gradient back to its pixels."""
    n, h, w, _ = columns.shape
    columns = columns.reshape(n, h, w, c, 3, 3)
    padded = np.zeros((n, c, h + 2, w + 2))
    for dy in range(3):
        for dx in range(3):
            padded[:, :, dy:dy + h, dx:dx + w] += columns[..., dy, dx].transpose(0, 3, 1, 2)
    return padded[:, :, 1:-1, 1:-1]


def conv_forward(x, weight, bias):
    columns = patches(x)
    y = columns @ weight.reshape(len(weight), -1).T + bias
    return y.transpose(0, 3, 1, 2), columns


def conv_backward(gradient, columns, weight):
    g = gradient.transpose(0, 2, 3, 1)
    flat = g.reshape(-1, g.shape[-1])
    d_weight = (flat.T @ columns.reshape(len(flat), -1)).reshape(weight.shape)
    d_columns = g @ weight.reshape(len(weight), -1)
    return unpatch(d_columns, weight.shape[1]), d_weight, flat.sum(axis=0)


def loss_and_gradients(p, x, labels):
    """Mean cross-entropy of a batch, and its gradient for every parameter in p."""
    n = len(x)
    y1, columns1 = conv_forward(x, p["conv1.weight"], p["conv1.bias"])
    a1 = np.maximum(y1, 0)
    y2, columns2 = conv_forward(a1, p["conv2.weight"], p["conv2.bias"])
    a2 = np.maximum(y2, 0)
    c = a2.shape[1]
    windows = a2.reshape(n, c, 4, 2, 4, 2).transpose(0, 1, 2, 4, 3, 5).reshape(n, c, 4, 4, 4)
    winner = windows.argmax(axis=-1)[..., None]
    pooled = np.take_along_axis(windows, winner, -1)[..., 0].reshape(n, -1)
    logits = pooled @ p["gemm.weight"] + p["gemm.bias"]
    logits -= logits.max(axis=1, keepdims=True)
    probability = np.exp(logits)
    probability /= probability.sum(axis=1, keepdims=True)
    loss = -np.log(probability[np.arange(n), labels]).mean()

    d_logits = probability
    d_logits[np.arange(n), labels] -= 1
    d_logits /= n
    g = {"gemm.weight": pooled.T @ d_logits, "gemm.bias": d_logits.sum(axis=0)}
    d_windows = np.zeros_like(windows)
    d_pooled = (d_logits @ p["gemm.weight"].T).reshape(n, c, 4, 4, 1)
    np.put_along_axis(d_windows, winner, d_pooled, -1)
    d_a2 = d_windows.reshape(n, c, 4, 4, 2, 2).transpose(0, 1, 2, 4, 3, 5).reshape(n, c, 8, 8)
    d_a1, g["conv2.weight"], g["conv2.bias"] = conv_backward(d_a2 * (y2 > 0), columns2, p["conv2.weight"])
    _, g["conv1.weight"], g["conv1.bias"] = conv_backward(d_a1 * (y1 > 0), columns1, p["conv1.weight"])
    return loss, g


# ---- training ----------------------------------------------------------------------------------

def initial_parameters(rng):
    def normal(*shape, fan_in):
        return rng.standard_normal(shape) * np.sqrt(2.0 / fan_in)
    return {"conv1.weight": normal(16, 1, 3, 3, fan_in=9), "conv1.bias": np.zeros(16),
            "conv2.weight": normal(32, 16, 3, 3, fan_in=144), "conv2.bias": np.zeros(32),
            "gemm.weight": normal(512, 10, fan_in=512), "gemm.bias": np.zeros(10)}


def train(x, labels, rng):
    """Adam with a step that falls to zero along half a cosine."""
    p = initial_parameters(rng)
    mean = {k: np.zeros_like(v) for k, v in p.items()}
    square = {k: np.zeros_like(v) for k, v in p.items()}
    steps = EPOCHS * (len(x) // BATCH)
    t = 0
    for epoch in range(EPOCHS):
        order = rng.permutation(len(x))
        total = 0.0
        for first in range(0, len(x) - BATCH + 1, BATCH):
            rows = order[first:first + BATCH]
            loss, g = loss_and_gradients(p, x[rows], labels[rows])
            total += loss
            step = STEP * 0.5 * (1 + np.cos(np.pi * t / steps))
            t += 1
            for k in p:
                mean[k] = 0.9 * mean[k] + 0.1 * g[k]
                square[k] = 0.999 * square[k] + 0.001 * g[k] ** 2
                corrected = np.sqrt(square[k] / (1 - 0.999 ** t)) + 1e-8
                p[k] -= step * mean[k] / (1 - 0.9 ** t) / corrected
        print(f"epoch {epoch + 1:2}: loss {total / (len(x) // BATCH):.4f}", file=sys.stderr)
    return {k: (np.rint(v * WEIGHT_GRID) / WEIGHT_GRID).astype(np.float32) for k, v in p.items()}


# ---- the three files ---------------------------------------------------------------------------

def write_model(p, path):
    nodes = [
        helper.make_node("Conv", ["image", "conv1.weight", "conv1.bias"], ["conv1"], name="conv1",
                         kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["conv1"], ["relu1"], name="relu1"),
        helper.make_node("Conv", ["relu1", "conv2.weight", "conv2.bias"], ["conv2"], name="conv2",
                         kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["conv2"], ["relu2"], name="relu2"),
        helper.make_node("MaxPool", ["relu2"], ["pool"], name="pool", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Flatten", ["pool"], ["flat"], name="flatten", axis=1),
        helper.make_node("Gemm", ["flat", "gemm.weight", "gemm.bias"], ["logits"], name="gemm"),
        helper.make_node("Softmax", ["logits"], ["probabilities"], name="softmax", axis=1),
    ]
    graph = helper.make_graph(
        nodes, "digits",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 1, 8, 8])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [1, 10])],
        [numpy_helper.from_array(v, k) for k, v in sorted(p.items())])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)],
                              producer_name="samples/digits/train.py")
    model.ir_version = 8
    onnx.checker.check_model(model, full_check=True)
    with open(path, "wb") as f:
        f.write(model.SerializeToString(deterministic=True))


def write_images(pixels, labels, path):
    halves = [[",".join(str(int(v)) for v in half) for half in picture.reshape(2, -1)] for picture in pixels]
    truth = [",".join(str(int(v)) for v in labels[i:i + 30]) for i in range(0, len(labels), 30)]
    with open(path, "w", newline="\n") as f:
        f.write("/* The held-out pictures: 8 rows of 8 pixels, 0 (paper) to 16 (ink). Written by train.py. */\n"
                "#ifndef IMAGES_H\n#define IMAGES_H\n\n"
                f"#define N_IMAGES {len(halves)}\n\n"
                "static const unsigned char image_pixels[N_IMAGES][64] = {\n")
        f.writelines("    {" + upper + ",\n     " + lower + "},\n" for upper, lower in halves)
        f.write("};\n\nstatic const unsigned char image_truth[N_IMAGES] = {\n")
        f.writelines("    " + row + ",\n" for row in truth)
        f.write("};\n\n#endif\n")


def write_expected(model_path, pixels, labels, path):
    """One line per picture (number, truth, answer), then the score. Returns the accuracy."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model_path, options, providers=["CPUExecutionProvider"])
    answers = [int(session.run(None, {"image": (picture / 16).astype(np.float32)[None, None]})[0].argmax())
               for picture in pixels]
    right = sum(int(a == t) for a, t in zip(answers, labels))
    with open(path, "w", newline="\n") as f:
        f.writelines(f"{i} {t} {a}\n" for i, (t, a) in enumerate(zip(labels, answers)))
        f.write(f"accuracy {right}/{len(labels)}\n")
    return right / len(labels)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--out", default=os.path.dirname(os.path.abspath(__file__)))
    out = parser.parse_args().out
    os.makedirs(out, exist_ok=True)
    data = load_digits()
    rng = np.random.Generator(np.random.PCG64(7))
    order = rng.permutation(len(data.images))
    held, rest = order[:HELD_OUT], order[HELD_OUT:]
    parameters = train(data.images[rest][:, None] / 16, data.target[rest], rng)
    model_path = os.path.join(out, "digits.onnx")
    write_model(parameters, model_path)
    write_images(data.images[held], data.target[held], os.path.join(out, "images.h"))
    accuracy = write_expected(model_path, data.images[held], data.target[held],
                              os.path.join(out, "expected.txt"))
    print(f"{accuracy:.4f} of {HELD_OUT} held-out pictures recognised by onnxruntime")
    return 0 if accuracy >= ACCURACY_BAR else 1


if __name__ == "__main__":
    sys.exit(main())
