"""Runs of small models called from C instead of Python: for each engine a function `call(n)` that makes n runs.

Where a run takes less than some tens of microseconds, the call through Python is a good part of it, and another one for
each package. Here a loop in C (calls.c, compiled by bench.py) calls what each engine offers to C programs, with inputs
and outputs bound once before: smelt_model.run, RunWithBinding of onnxruntime's C interface, ov_infer_request_infer of
OpenVINO's. The libraries are those of the Python packages. Before it is timed, each answers once more and has to give
what it gave to Python."""
import ctypes
import glob
import os

import numpy as np

POINTER = ctypes.c_void_p

# Places in onnxruntime's table of functions (struct OrtApi), which only grows at its end, and its interface's version.
ORT_API = {"CreateEnv": 3, "CreateSession": 7, "CreateSessionOptions": 10, "SetSessionGraphOptimizationLevel": 23,
           "SetIntraOpNumThreads": 24, "SetInterOpNumThreads": 25, "CreateTensorWithDataAsOrtValue": 49,
           "CreateCpuMemoryInfo": 69, "GetErrorMessage": 2, "RunWithBinding": 133, "CreateIoBinding": 134,
           "BindInput": 136, "BindOutput": 137}
ORT_VERSION, ORT_ENABLE_ALL, ORT_ERRORS_ONLY = 16, 99, 3
# ONNX's numbers of element types, which are onnxruntime's; and OpenVINO's
ORT_TYPE = {"float32": 1, "uint8": 2, "int8": 3, "uint16": 4, "int16": 5, "int32": 6, "int64": 7, "bool": 9,
            "float16": 10, "float64": 11, "uint32": 12, "uint64": 13}
OV_TYPE = {"bool": 1, "float16": 3, "float32": 4, "float64": 5, "int8": 7, "int16": 8, "int32": 9, "int64": 10,
           "uint8": 14, "uint16": 15, "uint32": 16, "uint64": 17}


class Loop:
    """calls.c's two loops."""

    def __init__(self, path):
        self.library = ctypes.CDLL(path)

    def take_turns(self, array, rows):
        """From now on each run gets another one of the rows in `array`, which the engine reads."""
        self.rows_in_turn = np.ascontiguousarray(rows, array.dtype)
        self.library.take_turns(POINTER(array.ctypes.data), POINTER(self.rows_in_turn.ctypes.data),
                                ctypes.c_long(array.nbytes), ctypes.c_long(len(rows)))

    def status(self, function, argument):
        """Calls int function(argument) until it is not 0."""
        def call(n):
            if self.library.repeat_status(function, argument, ctypes.c_long(n)):
                raise RuntimeError("a run failed")
        return call

    def binding(self, function, session, binding):
        """Calls OrtStatus *function(session, NULL, binding) until it is not NULL."""
        def call(n):
            if self.library.repeat_binding(function, session, binding, ctypes.c_long(n)):
                raise RuntimeError("a run failed")
        return call

    def rows(self, function, x, result):
        """Calls void function(row of x, 0, row of result) for each row."""
        def call(n):
            self.library.repeat_rows(function, POINTER(x.ctypes.data), ctypes.c_long(x[0].nbytes),
                                     POINTER(result.ctypes.data), ctypes.c_long(result[0].nbytes), ctypes.c_long(len(x)),
                                     ctypes.c_long(n))
        return call


def same(outputs, want):
    for name, array in outputs.items():
        if not np.array_equal(array, want[name].reshape(array.shape), equal_nan=True):
            raise RuntimeError(f"called from C it answers otherwise for {name}")


class OnnxRuntime:
    """A session with the same options as that of engines.py, and memory of ours for all tensors."""

    def __init__(self, loop, path, inputs, want, threads):
        import onnxruntime
        folder = os.path.join(os.path.dirname(onnxruntime.__file__), "capi")
        library = ctypes.CDLL(sorted(glob.glob(os.path.join(folder, "libonnxruntime.so*")))[0])
        library.OrtGetApiBase.restype = ctypes.POINTER(POINTER)
        get_api = ctypes.CFUNCTYPE(POINTER, ctypes.c_uint32)(library.OrtGetApiBase()[0])
        self.table = (POINTER * 200).from_address(get_api(ORT_VERSION))
        environment, options, session, memory, binding = (POINTER() for _ in range(5))
        self("CreateEnv", ctypes.c_int(ORT_ERRORS_ONLY), b"bench", ctypes.byref(environment))
        self("CreateSessionOptions", ctypes.byref(options))
        self("SetSessionGraphOptimizationLevel", options, ctypes.c_int(ORT_ENABLE_ALL))
        self("SetIntraOpNumThreads", options, ctypes.c_int(threads))
        self("SetInterOpNumThreads", options, ctypes.c_int(1))
        self("CreateSession", environment, path.encode(), options, ctypes.byref(session))
        self("CreateCpuMemoryInfo", ctypes.c_int(1), ctypes.c_int(0), ctypes.byref(memory))
        self("CreateIoBinding", session, ctypes.byref(binding))
        self.outputs = {n: np.zeros_like(np.ascontiguousarray(a)) for n, a in want.items()}
        self.inputs = {n: np.ascontiguousarray(a) for n, a in inputs.items()}
        for how, arrays in (("BindInput", self.inputs), ("BindOutput", self.outputs)):
            for name, a in arrays.items():
                self(how, binding, name.encode(), self._value(memory, a))
        self.call = loop.binding(POINTER(self.table[ORT_API["RunWithBinding"]]), session, binding)
        self.call(1)
        same(self.outputs, want)

    def _value(self, memory, array):
        value, dims = POINTER(), (ctypes.c_int64 * array.ndim)(*array.shape)
        self("CreateTensorWithDataAsOrtValue", memory, POINTER(array.ctypes.data), ctypes.c_size_t(array.nbytes), dims,
             ctypes.c_size_t(array.ndim), ctypes.c_int(ORT_TYPE[array.dtype.name]), ctypes.byref(value))
        return value

    def __call__(self, name, *arguments):
        status = ctypes.CFUNCTYPE(POINTER)(self.table[ORT_API[name]])(*arguments)
        if status:
            text = ctypes.CFUNCTYPE(ctypes.c_char_p, POINTER)(self.table[ORT_API["GetErrorMessage"]])(status)
            raise RuntimeError(f"{name}: {text.decode()}")


class OvShape(ctypes.Structure):
    _fields_ = [("rank", ctypes.c_int64), ("dims", ctypes.POINTER(ctypes.c_int64))]


class OpenVino:
    """A request with the settings of engines.py. Inputs and outputs are taken in the model's order."""

    def __init__(self, loop, path, inputs, want, threads, precision):
        import openvino
        folder = os.path.join(os.path.dirname(openvino.__file__), "libs")
        self.library = ctypes.CDLL(sorted(glob.glob(os.path.join(folder, "libopenvino_c.so*")))[0])
        core, compiled, request = POINTER(), POINTER(), POINTER()
        settings = [b"PERFORMANCE_HINT", b"LATENCY", b"INFERENCE_NUM_THREADS", str(threads).encode(), b"NUM_STREAMS",
                    b"1"] + ([b"INFERENCE_PRECISION_HINT", precision.encode()] if precision else [])
        self("ov_core_create", ctypes.byref(core))
        self("ov_core_compile_model_from_file", core, path.encode(), b"CPU", ctypes.c_size_t(len(settings)),
             ctypes.byref(compiled), *(ctypes.c_char_p(s) for s in settings))
        self("ov_compiled_model_create_infer_request", compiled, ctypes.byref(request))
        self.outputs = {n: np.zeros_like(np.ascontiguousarray(a)) for n, a in want.items()}
        self.inputs = {n: np.ascontiguousarray(a) for n, a in inputs.items()}
        for way, arrays in (("input", self.inputs), ("output", self.outputs)):
            for i, a in enumerate(arrays.values()):
                self(f"ov_infer_request_set_{way}_tensor_by_index", request, ctypes.c_size_t(i), self._tensor(a))
        self.call = loop.status(self.library.ov_infer_request_infer, request)
        self.call(1)
        same(self.outputs, want)

    def _tensor(self, array):
        dims, tensor = (ctypes.c_int64 * max(1, array.ndim))(*array.shape), POINTER()
        self("ov_tensor_create_from_host_ptr", ctypes.c_int(OV_TYPE[array.dtype.name]), OvShape(array.ndim, dims),
             POINTER(array.ctypes.data), ctypes.byref(tensor))
        return tensor

    def __call__(self, name, *arguments):
        status = getattr(self.library, name)(*arguments)
        if status:
            raise RuntimeError(f"{name}: status {status}")
