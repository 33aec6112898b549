"""ctypes view of runtime/include/smelt.h, built from the rows of smelt_abi.def, so that the two cannot differ. Gives
SharedModel: a library made by `smelt compile --emit=shared`, with preset arrays to run on."""
import ctypes
import os
import re

import numpy as np

KINDS = {"U32": ctypes.c_uint32, "U64": ctypes.c_uint64, "I64": ctypes.c_int64, "SIZE": ctypes.c_size_t,
         "PTR": ctypes.c_void_p, "FN": ctypes.c_void_p}
RUN_FN = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)
SYMBOLS_FN = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)
ARENA_FN = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(ctypes.c_uint64))
ALLOC_FN = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
FREE_FN = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)
TENSOR_ALLOCATED = 1
SHARED_SYMBOL = "smelt_shared_model"
ABI_VERSION = 1
ARENA_ALIGN = 64


def structures(include):
    """{"model": a ctypes.Structure, "call": ..., ...}"""
    with open(os.path.join(include, "smelt_abi.def"), encoding="utf-8") as f:
        rows = re.findall(r"^SMELT_FIELD\((\w+),\s*(\w+),\s*[^,]+,\s*(\w+)\)", f.read(), re.M)
    fields = {}
    for owner, kind, name in rows:
        fields.setdefault(owner, []).append((name, KINDS[kind]))
    return {owner: type(owner, (ctypes.Structure,), {"_fields_": f}) for owner, f in fields.items()}


def aligned(n_bytes, alignment=ARENA_ALIGN):
    """(address, the array that owns it)"""
    block = np.zeros(n_bytes + alignment, np.uint8)
    return (block.ctypes.data + alignment - 1) // alignment * alignment, block


class SharedModel:
    """One model, one set of inputs, ready to run again and again: on the calling thread, or on a pool of `threads`
    from `runtime`, libsmelt_runtime as a shared library. `function(argument)` is a run without any check around it,
    but for a model that allocates outputs: those of the run before are given back first."""

    def __init__(self, path, include, inputs, runtime=None, threads=1, symbols=()):
        """symbols: {name: value} of those that no input's shape tells."""
        types = structures(include)
        self.library = ctypes.CDLL(path)
        self.model = types["model"].in_dll(self.library, SHARED_SYMBOL)
        if self.model.abi != ABI_VERSION:
            raise ValueError(f"{path}: ABI version {self.model.abi}, expected {ABI_VERSION}")
        m = self.model
        if len(inputs) != m.n_inputs:
            raise ValueError(f"{path}: {m.n_inputs} inputs, {len(inputs)} given")
        self.symbols = (ctypes.c_int64 * max(m.n_symbols, 1))()
        self._choose_symbols(types, inputs, dict(symbols))
        self.inputs = [np.ascontiguousarray(a) for a in inputs]
        sizes = list(self._sizes(types["tensor_info"], m.outputs, m.n_outputs))
        self.outputs = [(None, None) if n is None else aligned(n) for n in sizes]
        n_bytes = ctypes.c_uint64()
        self._ok(ARENA_FN(m.arena_bytes_for)(ctypes.addressof(self.symbols), ctypes.byref(n_bytes)), "arena_bytes_for")
        self.arena_bytes = n_bytes.value
        self.arena = aligned(self.arena_bytes)
        self._in = (ctypes.c_void_p * max(m.n_inputs, 1))(*[a.ctypes.data for a in self.inputs])
        self._out = (ctypes.c_void_p * max(m.n_outputs, 1))(*[address for address, _ in self.outputs])
        self.call = types["call"](
            struct_size=ctypes.sizeof(types["call"]), n_inputs=m.n_inputs, n_outputs=m.n_outputs,
            n_symbols=m.n_symbols, inputs=ctypes.addressof(self._in), outputs=ctypes.addressof(self._out),
            symbols=ctypes.addressof(self.symbols), arena=self.arena[0], arena_bytes=self.arena_bytes,
            hooks=self._pool_hooks(types["hooks"], runtime, threads))
        self.argument = ctypes.c_void_p(ctypes.addressof(self.call))
        self.allocated = [i for i, n in enumerate(sizes) if n is None]
        self.function = RUN_FN(m.run)
        if self.allocated:
            run, self.function = self.function, RUN_FN(lambda argument: self._give_back() or run(argument))
        self.compiler, self.cpu = (ctypes.string_at(p).decode() for p in (m.compiler, m.cpu))

    def _pool_hooks(self, hooks, runtime, threads):
        """The address of hooks: the C library's memory, and a pool that lives as long as the process."""
        c = ctypes.CDLL(None)
        c.malloc.restype, c.malloc.argtypes, c.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
        self._memory = ALLOC_FN(lambda _, n: c.malloc(n)), FREE_FN(lambda _, p: c.free(p))
        alloc, free = (ctypes.cast(f, ctypes.c_void_p) for f in self._memory)
        if threads == 1:
            self._hooks = hooks(struct_size=ctypes.sizeof(hooks), alloc=alloc, free=free)
            return ctypes.addressof(self._hooks)
        self._runtime = ctypes.CDLL(runtime)
        pool = ctypes.c_void_p()
        self._ok(self._runtime.smelt_pool_create(ctypes.c_uint32(threads), ctypes.byref(pool)), "smelt_pool_create")
        self._hooks = hooks(struct_size=ctypes.sizeof(hooks), pool=pool, alloc=alloc, free=free,
                            parallel_for=ctypes.cast(self._runtime.smelt_pool_parallel_for, ctypes.c_void_p))
        return ctypes.addressof(self._hooks)

    @staticmethod
    def _ok(status, what):
        if status != 0:
            raise RuntimeError(f"{what}: status {status}")

    def _infos(self, info, address, n):
        return (info * n).from_address(address) if n else []

    def _choose_symbols(self, types, inputs, given):
        """Free dims take their value from the inputs' shapes, or from `given`; symbols_for fills the others."""
        for i, symbol in enumerate(self._infos(types["symbol"], self.model.symbols, self.model.n_symbols)):
            self.symbols[i] = given.get(ctypes.string_at(symbol.name).decode(), 0)
        for info, array in zip(self._infos(types["tensor_info"], self.model.inputs, self.model.n_inputs), inputs):
            dims = (ctypes.c_int64 * info.rank).from_address(info.dims) if info.rank else []
            for d, extent in zip(dims, array.shape):
                if d < 0:
                    self.symbols[-1 - d] = extent
        if self.model.n_symbols:
            self._ok(SYMBOLS_FN(self.model.symbols_for)(ctypes.addressof(self.symbols)), "symbols_for")

    def _sizes(self, info, address, n):
        """Bytes of each tensor, never less than what it needs: 16 bytes an element hold every dtype. None where the
        model allocates them."""
        for t in self._infos(info, address, n):
            count = 1
            for d in ((ctypes.c_int64 * t.rank).from_address(t.dims) if t.rank else []):
                count *= d if d >= 0 else self.symbols[-1 - d]
            yield None if t.flags & TENSOR_ALLOCATED else min(t.max_bytes, 16 * count)

    def _give_back(self):
        for i in self.allocated:
            if self._out[i]:
                self._memory[1](None, self._out[i])
                self._out[i] = None

    def run(self):
        self._ok(self.function(self.argument), "run")

    def output(self, i, dtype, n_elements):
        """The first elements of output i, copied."""
        address = self._out[i]
        n_bytes = n_elements * np.dtype(dtype).itemsize
        return np.frombuffer(ctypes.string_at(address, n_bytes), dtype).copy()
