"""Inputs and outputs of models as files: the stored .npz pairs, `smelt run`, and the raw files of library/call.c."""
import os

import numpy as np
import onnx
from onnx import numpy_helper

from harness import Failed, check


def stored(ctx, name):
    """(inputs, onnxruntime's outputs) of a materialised model, each {name: array} in the model's order."""
    path = ctx.model(name)[:-len(".onnx")]
    with np.load(path + ".inputs.npz") as z:
        inputs = {k: z[k] for k in z.files}
    if not os.path.exists(path + ".outputs.npz"):
        raise Failed(f"{path}.outputs.npz is missing: materialise the models where onnxruntime is installed")
    with np.load(path + ".outputs.npz") as z:
        return inputs, {k: z[k] for k in z.files}


def interface(path):
    """(input names, output names) in the model's order; weights that are listed as inputs do not count."""
    graph = onnx.load(path, load_external_data=False).graph
    weights = {t.name for t in graph.initializer}
    return [v.name for v in graph.input if v.name not in weights], [v.name for v in graph.output]


def smelt_run(ctx, model, inputs, *options, env=None, timeout=900):
    """`smelt run`: {output name: array}, in the model's order."""
    folder = ctx.new_dir()
    words = []
    for i, (name, array) in enumerate(inputs.items()):
        file = os.path.join(folder, f"in{i}.npy")
        np.save(file, array)
        words += ["--input", f"{name}={file}"]
    out = os.path.join(folder, "out")
    os.mkdir(out)
    ctx.smelt("run", model, *words, "--outputs", out, *options, env=env, timeout=timeout)
    answers = {}
    for i, name in enumerate(interface(model)[1]):
        file = os.path.join(out, f"output_{i}.pb")
        check(os.path.exists(file), f"smelt run wrote no output_{i}.pb but {sorted(os.listdir(out))}")
        tensor = onnx.TensorProto()
        with open(file, "rb") as f:
            tensor.ParseFromString(f.read())
        answers[name] = numpy_helper.to_array(tensor)
    return answers


def call_program(ctx, program, model, inputs, like, emulator=()):
    """Runs a program made of library/call.c: {output name: array}, with the shapes and dtypes of `like`."""
    folder = ctx.new_dir()
    source, target = os.path.join(folder, "in.bin"), os.path.join(folder, "out.bin")
    with open(source, "wb") as f:
        for name in interface(model)[0]:
            f.write(np.ascontiguousarray(inputs[name]).tobytes())
    ctx.run(*emulator, program, source, target)
    with open(target, "rb") as f:
        data = f.read()
    sizes = [a.nbytes for a in like.values()]
    check(len(data) == sum(sizes), f"{program} wrote {len(data)} bytes, expected {sum(sizes)}")
    answers, at = {}, 0
    for (name, array), n_bytes in zip(like.items(), sizes):
        answers[name] = np.frombuffer(data[at:at + n_bytes], array.dtype).reshape(array.shape)
        at += n_bytes
    return answers
