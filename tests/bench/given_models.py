"""Inputs and answers for models that come without: random ones, and what onnxruntime answers.

    pair(PATH, SCRATCH, DIMS)    the path of NAME.inputs.npz, with NAME.outputs.npz beside it

Files beside the model are taken as they are: inputs alone get answers, and nothing is written there. Floats are normally
distributed, whole numbers lie in 0..SMALL-1 so that they are good indices of most tables, bytes use their range. Free dims
are those of DIMS, else 1."""
import os

import numpy as np

SMALL = 10
DTYPES = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(float16)": np.float16, "tensor(bool)": bool,
          "tensor(int64)": np.int64, "tensor(int32)": np.int32, "tensor(int16)": np.int16, "tensor(int8)": np.int8,
          "tensor(uint64)": np.uint64, "tensor(uint32)": np.uint32, "tensor(uint16)": np.uint16, "tensor(uint8)": np.uint8}


def random_input(rng, kind, shape):
    if kind not in DTYPES:
        raise ValueError(f"no random values of {kind}: put NAME.inputs.npz beside the model")
    dtype = np.dtype(DTYPES[kind])
    if dtype.kind == "f":
        return rng.standard_normal(shape).astype(dtype)
    return rng.integers(0, {1: 256 if dtype == np.uint8 else SMALL}.get(dtype.itemsize, SMALL), shape).astype(dtype)


def inputs_of(session, dims):
    rng = np.random.default_rng(1)
    return {i.name: random_input(rng, i.type, [d if isinstance(d, int) else dims.get(d, 1) for d in i.shape])
            for i in session.get_inputs()}


def pair(path, scratch, dims):
    beside = path[:-len(".onnx")]
    if os.path.exists(beside + ".inputs.npz") and os.path.exists(beside + ".outputs.npz"):
        return beside + ".inputs.npz"
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    if os.path.exists(beside + ".inputs.npz"):
        with np.load(beside + ".inputs.npz") as z:
            inputs = {n: z[n] for n in z.files}
    else:
        inputs = inputs_of(session, dims)
    made = os.path.join(scratch, os.path.basename(beside))
    np.savez(made + ".inputs.npz", **inputs)
    names = [o.name for o in session.get_outputs()]
    np.savez(made + ".outputs.npz", **dict(zip(names, session.run(names, inputs))))
    return made + ".inputs.npz"
