"""Runs a model under its runtime's profiler, in a process that may crash: ``python -P -m edgekit.profiling.child``.

It gets one request as JSON on its command line, and writes what it found as JSON to the file that the request names.
"""

import ctypes
import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgekit.worker import TfliteSession

_WARM_RUNS = 20
# The accelerator's bit for the CPU, litert_common.h.
_CPU = 1
# LiteRtElementType, and kLiteRtTensorBufferLockModeWrite.
_ELEMENTS = {
    1: "float32",
    2: "int32",
    3: "uint8",
    4: "int64",
    6: "bool",
    7: "int16",
    9: "int8",
    10: "float16",
}
_WRITE = 1
# tflite::Profiler::EventType: an operator of the file, and one that a delegate runs.
_OPERATOR = 1 << 1
_DELEGATED = 1 << 3


def main() -> None:
    """Answer the one request."""
    request = json.loads(sys.argv[1])
    answer = {"litert": _litert, "onnxruntime": _onnxruntime}[request["runtime"]](request)
    Path(request["output"]).write_text(json.dumps(answer), encoding="utf-8")


def _litert(request: Mapping[str, Any]) -> dict[str, Any]:
    """LiteRT's own profiler, which its Python packages do not reach: by the C functions of the same library."""
    session = TfliteSession("ai_edge_litert", {**request, "delegate": None})
    session.load()
    session.allocate()
    model = _CompiledModel(request)
    runs = _until(model.run, request)
    seen = [model.profile() for _ in range(runs)]
    return {"groups": session.groups(), "kernels": _means(seen), "runs": runs}


def _means(runs: Sequence[Sequence[tuple[str, int, int, int]]]) -> list[dict[str, Any]]:
    """The mean time of each kernel over runs that all ran the same ones in the same order."""
    kernels = [event[:3] for event in runs[0]]
    if any([event[:3] for event in run] != kernels for run in runs):
        raise RuntimeError("one run differs from the next")
    return [
        {
            "kernel": name,
            "mean_us": sum(run[number][3] for run in runs) / len(runs),
            "place": place,
            "is_delegated": kind == _DELEGATED,
        }
        for number, (name, kind, place) in enumerate(kernels)
    ]


class _Layout(ctypes.Structure):
    _fields_ = [("packed", ctypes.c_uint32), ("sizes", ctypes.c_int32 * 8), ("strides", ctypes.c_uint32 * 8)]


class _TensorType(ctypes.Structure):
    _fields_ = [("element", ctypes.c_int32), ("layout", _Layout)]


class _Event(ctypes.Structure):
    """An entry of LiteRtGetProfilerEvents, as version 2.3.0 lays it out."""

    _fields_ = [
        ("tag", ctypes.c_char_p),
        ("kind", ctypes.c_uint32),
        ("start_us", ctypes.c_uint64),
        ("elapsed_us", ctypes.c_uint64),
        ("memory", ctypes.c_uint64 * 6),
        ("place", ctypes.c_int64),
        ("graph", ctypes.c_int64),
        ("source", ctypes.c_uint32),
    ]


class _CompiledModel:
    """A model in LiteRT 2.3's C interface, compiled for the CPU with its profiler on."""

    def __init__(self, request: Mapping[str, Any]) -> None:
        import ai_edge_litert

        self._library = ctypes.CDLL(str(Path(ai_edge_litert.__file__).parent / "libLiteRt.so"))
        self._keep = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda _pointer: None)
        self._texts: list[Any] = []
        environment, self._model = ctypes.c_void_p(), ctypes.c_void_p()
        self._call("LiteRtCreateEnvironment", ctypes.c_int(0), None, ctypes.byref(environment))
        path = str(request["model"]).encode()
        self._call("LiteRtCreateModelFromFile", environment, path, ctypes.byref(self._model))
        self._compiled = ctypes.c_void_p()
        options = self._options(request)
        self._call(
            "LiteRtCreateCompiledModel", environment, self._model, options, ctypes.byref(self._compiled)
        )
        signature = ctypes.c_void_p()
        self._call("LiteRtGetModelSignature", self._model, ctypes.c_size_t(0), ctypes.byref(signature))
        self._inputs = self._buffers(environment, signature, "Input")
        self._outputs = self._buffers(environment, signature, "Output")
        self._profiler = ctypes.c_void_p()
        self._call("LiteRtCompiledModelGetProfiler", self._compiled, ctypes.byref(self._profiler))
        if not self._profiler.value:
            raise RuntimeError("LiteRT gives no profiler")

    def run(self) -> None:
        """One run."""
        self._call(
            "LiteRtRunCompiledModel",
            self._compiled,
            ctypes.c_size_t(0),
            ctypes.c_size_t(len(self._inputs)),
            self._inputs,
            ctypes.c_size_t(len(self._outputs)),
            self._outputs,
        )

    def profile(self) -> list[tuple[str, int, int, int]]:
        """One run: name, kind, place and microseconds of each kernel, in order."""
        self._call("LiteRtResetProfiler", self._profiler)
        self._call("LiteRtStartProfiler", self._profiler)
        self.run()
        self._call("LiteRtStopProfiler", self._profiler)
        count = ctypes.c_int()
        self._call("LiteRtGetNumProfilerEvents", self._profiler, ctypes.byref(count))
        events = (_Event * count.value)()
        self._call("LiteRtGetProfilerEvents", self._profiler, count, events)
        return [
            ((event.tag or b"").decode(errors="replace"), event.kind, event.place, event.elapsed_us)
            for event in events
            if event.kind in (_OPERATOR, _DELEGATED)
        ]

    def _options(self, request: Mapping[str, Any]) -> ctypes.c_void_p:
        options = ctypes.c_void_p()
        self._call("LiteRtCreateOptions", ctypes.byref(options))
        self._call("LiteRtSetOptionsHardwareAccelerators", options, ctypes.c_int(_CPU))
        mode = "" if request["xnnpack"] else 'kernel_mode = "builtin"\n'
        for name, text in (
            (b"runtime_options_string", "enable_profiling = true\n"),
            (b"xnnpack", f"num_threads = {int(request['threads'])}\n{mode}"),
        ):
            held = ctypes.create_string_buffer(text.encode())
            self._texts.append(held)
            entry = ctypes.c_void_p()
            self._call(
                "LiteRtCreateOpaqueOptions",
                name,
                ctypes.cast(held, ctypes.c_void_p),
                self._keep,
                ctypes.byref(entry),
            )
            self._call("LiteRtAddOpaqueOptions", options, entry)
        return options

    def _buffers(self, environment: ctypes.c_void_p, signature: ctypes.c_void_p, side: str) -> Any:
        count = ctypes.c_size_t()
        self._call(f"LiteRtGetNumSignature{side}s", signature, ctypes.byref(count))
        buffers = (ctypes.c_void_p * count.value)()
        for number in range(count.value):
            tensor, needs, buffer = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_void_p()
            kind, index = _TensorType(), ctypes.c_size_t(number)
            self._call(f"LiteRtGetSignature{side}TensorByIndex", signature, index, ctypes.byref(tensor))
            self._call("LiteRtGetRankedTensorType", tensor, ctypes.byref(kind))
            for axis, size in enumerate(kind.layout.sizes):
                kind.layout.sizes[axis] = max(1, size) if size < 0 else size
            call = f"LiteRtGetCompiledModel{side}BufferRequirements"
            self._call(call, self._compiled, ctypes.c_size_t(0), index, ctypes.byref(needs))
            call = "LiteRtCreateManagedTensorBufferFromRequirements"
            self._call(call, environment, ctypes.byref(kind), needs, ctypes.byref(buffer))
            if side == "Input":
                self._fill(buffer, kind.element)
            buffers[number] = buffer.value
        return buffers

    def _fill(self, buffer: ctypes.c_void_p, element: int) -> None:
        """Random numbers: what the memory held before may be no numbers at all, which are slow."""
        import numpy as np

        size, address = ctypes.c_size_t(), ctypes.c_void_p()
        self._call("LiteRtGetTensorBufferSize", buffer, ctypes.byref(size))
        dtype = np.dtype(_ELEMENTS.get(element, "uint8"))
        content = _random(dtype, size.value // dtype.itemsize).tobytes()
        self._call("LiteRtLockTensorBuffer", buffer, ctypes.byref(address), ctypes.c_int(_WRITE))
        ctypes.memmove(address, content, len(content))
        self._call("LiteRtUnlockTensorBuffer", buffer)

    def _call(self, name: str, *arguments: Any) -> None:
        function = getattr(self._library, name)
        function.restype = ctypes.c_int32
        status = function(*arguments)
        if status:
            raise RuntimeError(f"{name} gives status {status}")


def _onnxruntime(request: Mapping[str, Any]) -> dict[str, Any]:
    """ONNX Runtime's profiler: one event for each node of the graph that it optimized."""
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = request["threads"]
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        plain = onnxruntime.InferenceSession(request["model"], options, providers=["CPUExecutionProvider"])
        feed = {value.name: _random_input(value) for value in plain.get_inputs()}
        runs = _until(lambda: plain.run(None, feed), request)
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = onnxruntime.InferenceSession(request["model"], options, providers=["CPUExecutionProvider"])
        for _ in range(_WARM_RUNS + runs):
            session.run(None, feed)
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    return {"events": _node_times(events, runs), "runs": runs}


def _random_input(value: Any) -> Any:
    import numpy as np

    shape = [size if isinstance(size, int) and size > 0 else 1 for size in value.shape]
    name = value.type.removeprefix("tensor(").removesuffix(")")
    dtype = np.dtype({"float": "float32", "double": "float64"}.get(name, name))
    return _random(dtype, int(np.prod(shape))).reshape(shape)


def _random(dtype: Any, count: int) -> Any:
    """Real numbers from 0 to 1; of wide integers, which are indices or lengths, 0 and 1."""
    import numpy as np

    generator = np.random.default_rng(0)
    if dtype.kind == "f":
        return generator.random(count).astype(dtype)
    return generator.integers(0, 100 if dtype.itemsize == 1 else 2, count).astype(dtype)


def _node_times(events: list[dict[str, Any]], runs: int) -> list[dict[str, Any]]:
    """Mean times of the last ``runs`` runs by node, in the order in which they run first."""
    times: dict[str, tuple[str, list[float]]] = {}
    for event in events:
        name = str(event.get("name", ""))
        if event.get("cat") == "Node" and name.endswith("_kernel_time"):
            kind = str(event["args"]["op_name"])
            times.setdefault(name.removesuffix("_kernel_time"), (kind, []))[1].append(float(event["dur"]))
    return [
        {"kind": kind, "name": name, "mean_us": sum(found[-runs:]) / max(1, len(found[-runs:]))}
        for name, (kind, found) in times.items()
    ]


def _until(run: Callable[[], Any], request: Mapping[str, Any]) -> int:
    """How many runs fit into the time that was asked for, after some that warm up."""
    started = time.perf_counter()
    for _ in range(_WARM_RUNS):
        run()
        if time.perf_counter() - started > request["seconds"]:
            break
    started = time.perf_counter()
    run()
    once = max(1e-6, time.perf_counter() - started)
    return max(int(request["least_runs"]), min(int(request["most_runs"]), int(request["seconds"] / once)))


if __name__ == "__main__":
    main()
