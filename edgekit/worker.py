"""Runs a model on a device and measures it: one file that stands alone.

It needs Python 3.9, numpy and one runtime, and imports nothing of edgekit, so that copying this file is
all that a device needs. It reads requests, one JSON object per line, from standard input or from the file
named as its argument, and answers each with one JSON line on standard output:

    {"verb": "open", "nonce": "7f3a", "deadline_s": 60, "model": "m.tflite", "runtime": "litert", ...}
    {"reply": "open", "nonce": "7f3a", "load_ms": 1.9, ...}

Tensors follow their line as raw bytes, ``blob_bytes`` of them: every set of the first input, then every set
of the second and so on, each as the model takes it, in C order. Outputs come back in the same way.

A failed request is answered by {"error": {"kind", "message"}, "nonce"}. The answer to "close" is the last
line, {"done": true, "nonce": ...}: whoever reads must see it with its own nonce, because neither the exit
status nor the end of the stream of a remote command tells that the command finished.

A request that outlives its deadline ends the process, also when nobody is left at the other end.
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import functools
import gc
import importlib
import json
import math
import os
import platform
import re
import resource
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Callable

if TYPE_CHECKING:
    from collections.abc import Iterator

# Warm-up goes on until the medians of the last three windows agree within 3%. A window is as many runs
# as fill 20 ms, and at least three: below that, one interrupt of the kernel moves its median.
WINDOW_RUNS = 3
WINDOW_NS = 20_000_000
STEADY_WINDOWS = 3
STEADY_TOLERANCE = 0.03

LOAD_RUNS = 1000

_VULKAN_KINDS = {1: "Integrated GPU", 2: "Discrete GPU", 3: "Virtual GPU", 4: "CPU"}

# What LiteRT's newer interface takes and gives.
_GPU_DTYPES = {"float32", "float16", "int32", "int8", "uint8", "bool"}


class WorkerError(Exception):
    """An answer that says what went wrong: kind is dependency, delegate, gpu, model, data, usage or request."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class TfliteSession:
    """A model in LiteRT's interpreter, or in the older tflite_runtime, which has the same interface."""

    def __init__(self, package: str, request: dict[str, Any]) -> None:
        started = time.perf_counter_ns()
        self._module = _import(f"{package}.interpreter")
        self.import_ms = _ms_since(started)
        self.version = _version(package)
        self._request = request
        self._external = ""
        self.delegate = "none"

    def load(self) -> None:
        """Open the file; the tensors' memory is planned in ``feed_all``, once their shapes are known."""
        resolver = self._module.OpResolverType
        external = self._external_delegate()
        # Beside another delegate XNNPACK's operators could not be told from that one's.
        fast = self._request["xnnpack"] and not external
        wanted = resolver.AUTO if fast else resolver.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        try:
            self._interpreter = self._module.Interpreter(
                model_path=self._request["model"],
                num_threads=self._request["threads"],
                experimental_op_resolver_type=wanted,
                experimental_delegates=external,
            )
        except SystemError as error:
            # How tflite_runtime 2.14 fails beside NumPy 2: its metadata do not forbid it.
            raise WorkerError(
                "dependency", f"it fails with numpy {_version('numpy')}; numpy below 2 may cure it"
            ) from error
        except RuntimeError as error:
            if not external:
                raise
            raise WorkerError(
                "delegate", f"{self._external} refuses the model: {_sentence(error)}"
            ) from error
        self.invoke: Callable[[], Any] = self._interpreter.invoke

    def _external_delegate(self) -> list[Any]:
        """The delegate that the request names by its library, none where it names none."""
        asked = self._request.get("delegate")
        if not asked:
            return []
        try:
            delegate = self._module.load_delegate(asked["library"], asked.get("options") or {})
        except (ValueError, OSError, AttributeError) as error:
            reason = _sentence(error)
            raise WorkerError("delegate", f"{asked['library']} gives no delegate: {reason}") from error
        self._external = Path(asked["library"]).name
        return [delegate]

    def inputs(self) -> list[dict[str, Any]]:
        """Name, shape (None where free), dtype, scale and zero point of each input, in the file's order."""
        return _tflite_specs(
            self._interpreter.get_input_details(), _signature_names(self._interpreter, "input")
        )

    def outputs(self) -> list[dict[str, Any]]:
        """The same of each output."""
        return _tflite_specs(
            self._interpreter.get_output_details(), _signature_names(self._interpreter, "output")
        )

    def prepare(self, feeds: list[list[Any]]) -> None:
        """Plan the memory for the shapes of the first feed."""
        self._indices = [detail["index"] for detail in self._interpreter.get_input_details()]
        for detail, values in zip(self._interpreter.get_input_details(), feeds[0]):
            if tuple(detail["shape"]) != values.shape:
                self._interpreter.resize_tensor_input(detail["index"], values.shape)
        self.allocate()
        self._outputs = [detail["index"] for detail in self._interpreter.get_output_details()]
        if "DELEGATE" in self.operators():
            self.delegate = self._external or "xnnpack"

    def allocate(self) -> None:
        """Plan the memory of all tensors."""
        self._interpreter.allocate_tensors()

    def feed(self, values: list[Any]) -> None:
        """Put one set of inputs in place."""
        for index, value in zip(self._indices, values):
            self._interpreter.set_tensor(index, value)

    def forget(self) -> None:
        """Recurrent models keep their state from one run to the next: the next run starts afresh."""
        self._interpreter.reset_all_variables()

    def results(self) -> list[Any]:
        """The outputs of the last run."""
        return [self._interpreter.get_tensor(index) for index in self._outputs]

    def placement(self) -> dict[str, Any] | None:
        """Which operators the delegate took."""
        if not hasattr(self._interpreter, "_get_ops_details"):
            return None
        groups = self.groups()
        described = [{"op": name, "accelerated": group is not None} for name, group in groups]
        taken = sum(group is not None for _name, group in groups)
        percent = 100 * taken / len(described) if described else 0.0
        return {"accelerated_pct": round(percent, 1), "ops": described}

    def groups(self) -> list[tuple[str, int | None]]:
        """Every operator by name, and the number of the group in which the delegate took it, if it did.

        The interpreter lists the model's nodes and, after them, one DELEGATE node per group of nodes that
        was taken. A group is what lies between the inputs and the outputs of its DELEGATE node.
        """
        nodes = self._interpreter._get_ops_details()
        operators = [node for node in nodes if node["op_name"] != "DELEGATE"]
        producer = {int(tensor): node["index"] for node in operators for tensor in node["outputs"]}
        inputs_of = {node["index"]: [int(t) for t in node["inputs"]] for node in operators}
        taken: dict[int, int] = {}
        for number, group in enumerate(node for node in nodes if node["op_name"] == "DELEGATE"):
            border = {int(tensor) for tensor in group["inputs"]}
            pending = [int(tensor) for tensor in group["outputs"]]
            while pending:
                node = producer.get(pending.pop())
                if node is not None and node not in taken:
                    taken[node] = number
                    pending.extend(tensor for tensor in inputs_of[node] if tensor not in border)
        return [(node["op_name"], taken.get(node["index"])) for node in operators]

    def operators(self) -> list[str]:
        """The operators by name, in the order of their runs; none where the runtime does not tell."""
        details = getattr(self._interpreter, "_get_ops_details", list)
        return [node["op_name"] for node in details()]


class GpuSession:
    """A model in LiteRT's newer interface, on its WebGPU accelerator; what the GPU does not take runs on the CPU.

    Damaged files can crash that interface, so the interpreter has to accept the file first. A run is the way of
    the inputs to the GPU, the work, and the way of the outputs back: the interface returns before the GPU is done.
    """

    def __init__(self, request: dict[str, Any]) -> None:
        started = time.perf_counter_ns()
        self._litert = _gpu_interface()
        self.import_ms = _ms_since(started)
        plain = TfliteSession("ai_edge_litert", {**request, "xnnpack": False, "delegate": None})
        self.version = plain.version
        self._request = request
        try:
            plain.load()
            self._specs = plain.inputs(), plain.outputs()
            plain.allocate()
            self._operators = plain.operators()
        except Exception as error:
            raise WorkerError("model", _sentence(error)) from error
        strange = {spec["dtype"] for spec in (*self._specs[0], *self._specs[1])} - _GPU_DTYPES
        if strange:
            raise WorkerError("gpu", f"LiteRT's interface to it passes no {' and no '.join(sorted(strange))}")
        self.delegate = "gpu"

    def load(self) -> None:
        """Compile the model, for the GPU alone if it takes all of it.

        Beside the CPU a model counts as accelerated also where XNNPACK took it, so that would tell nothing. A model
        that the GPU takes in part is compiled twice therefore, which its load time and memory include.
        """
        kinds, error = self._litert.HardwareAccelerator, None
        self._is_whole = True
        for kind in (kinds.GPU, kinds.GPU | kinds.CPU):
            with _overheard() as said:
                try:
                    self._model = self._compiled(kind)
                    error = None
                except RuntimeError as failure:
                    error = failure
            self._said = said[0]
            if error is None or "not accelerated" not in str(error):
                break
            self._is_whole = False
        if error is not None:
            raise WorkerError("gpu", _gpu_refusal(self._said, error)) from error
        if self._share() == 0:
            self.delegate = "none"

    def _compiled(self, kind: Any) -> Any:
        litert, mode = self._litert, self._litert.CpuKernelMode
        precise = self._request["delegate"].get("options", {}).get("precision") == "float32"
        options = litert.Options(
            hardware_accelerators=kind,
            cpu_options=litert.CpuOptions(
                num_threads=self._request["threads"],
                kernel_mode=mode.XNNPACK if self._request["xnnpack"] else mode.BUILTIN,
            ),
            gpu_options=litert.GpuOptions(enforce_f32=precise),
        )
        return litert.CompiledModel.from_file(self._request["model"], options=options)

    def inputs(self) -> list[dict[str, Any]]:
        """See ``TfliteSession``."""
        return self._specs[0]

    def outputs(self) -> list[dict[str, Any]]:
        """See ``TfliteSession``."""
        return self._specs[1]

    def prepare(self, feeds: list[list[Any]]) -> None:
        """Make the buffers for the shapes of the first feed."""
        key, names = next(iter(self._model.get_signature_list().items()))
        known = self._model.get_input_tensor_details(key)
        places = _order(self._specs[0], names["inputs"])
        for place, values in zip(places, feeds[0]):
            if tuple(known[names["inputs"][place]]["shape"]) != values.shape:
                self._model.resize_input_tensor(place, values.shape, strict=False)
        self._to_gpu, self._from_gpu = (
            self._model.create_input_buffers(0),
            self._model.create_output_buffers(0),
        )
        self._fed = [self._to_gpu[place] for place in places]
        self._read = []
        made = self._model.get_output_tensor_details(key)
        for spec, place in zip(self._specs[1], _order(self._specs[1], names["outputs"])):
            shape = [int(size) for size in made[names["outputs"][place]]["shape"]]
            self._read.append((self._from_gpu[place], shape, spec["dtype"]))

    def feed(self, values: list[Any]) -> None:
        """Keep one set of inputs, which every run takes to the GPU."""
        self._values = values

    def invoke(self) -> None:
        """One run, there and back."""
        for buffer, value in zip(self._fed, self._values):
            buffer.write(value)
        self._model.run_by_index(0, self._to_gpu, self._from_gpu)
        self._results = [buffer.read(math.prod(shape), dtype) for buffer, shape, dtype in self._read]

    def forget(self) -> None:
        """The interface refuses models with a state."""

    def results(self) -> list[Any]:
        """The outputs of the last run."""
        return [values.reshape(shape) for values, (_, shape, _) in zip(self._results, self._read)]

    def placement(self) -> dict[str, Any]:
        """The share of the operators that the GPU took, and which, where the accelerator's own words tell."""
        share, outside = self._share(), {reason.partition(":")[0] for reason in self._reasons()}
        left = sum(name in outside for name in self._operators)
        sure = share is not None and round((1 - share) * len(self._operators)) == left
        described = [
            {"op": name, "accelerated": name not in outside if sure else None} for name in self._operators
        ]
        return {"accelerated_pct": None if share is None else round(100 * share, 1), "ops": described}

    def accelerator(self) -> dict[str, Any]:
        """Which GPU it is, why it left operators to the CPU and what it warns of, in the accelerator's own words."""
        warnings = re.findall(r"^W\d{4} .*?\] (Shape mismatch in .*)$", self._said, re.MULTILINE)
        found = re.search(r"Selected adapter: (.+?), arch=.*?, adapterType=([^\n]*)", self._said)
        return {
            "name": found.group(1) if found else None,
            "type": found.group(2).strip() if found else None,
            "outside": self._reasons(),
            "warnings": [warning.strip()[:200] for warning in warnings][:20],
        }

    def _share(self) -> float | None:
        """The part of the operators that the GPU took; None where the accelerator does not say."""
        if self._is_whole:
            return 1.0
        found = re.search(
            r"(\d+|No) operations will run on the GPU, and (?:the remaining|all) (\d+) operations", self._said
        )
        if found is None:
            return None
        taken, left = int(found.group(1).replace("No", "0")), int(found.group(2))
        return taken / (taken + left) if taken + left else None

    def _reasons(self) -> list[str]:
        _, found, rest = self._said.partition("operations are not supported by GPU delegate:\n")
        lines = rest.partition(" operations will run on the GPU")[0].splitlines()[:-1]
        return [line.strip(" .")[:200] for line in lines][:20] if found and not self._is_whole else []


class OnnxSession:
    """A model in ONNX Runtime, on its CPU execution provider."""

    def __init__(self, package: str, request: dict[str, Any]) -> None:
        started = time.perf_counter_ns()
        self._module = _import(package)
        self.import_ms = _ms_since(started)
        self.version = _version(package)
        self._request = request
        if request.get("delegate"):
            raise WorkerError("delegate", "ONNX Runtime takes no TFLite delegate")
        self.delegate = "CPUExecutionProvider"

    def load(self) -> None:
        """Open the file: the runtime optimizes the graph here."""
        self._session = self._module.InferenceSession(
            self._request["model"], self._options(), providers=[self.delegate]
        )

    def _options(self) -> Any:
        options = self._module.SessionOptions()
        options.intra_op_num_threads = self._request["threads"]
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        return options

    def inputs(self) -> list[dict[str, Any]]:
        """Name, shape (None where free) and dtype of each input."""
        return [_onnx_spec(value) for value in self._session.get_inputs()]

    def outputs(self) -> list[dict[str, Any]]:
        """The same of each output."""
        return [_onnx_spec(value) for value in self._session.get_outputs()]

    def prepare(self, _feeds: list[list[Any]]) -> None:
        """Bind the outputs once.

        ``session.run`` checks and converts its arguments in Python, about 20 microseconds that an
        application in C does not pay. Bound inputs and outputs leave only the run.
        """
        self._binding = self._session.io_binding()
        self._names = [value.name for value in self._session.get_inputs()]
        for value in self._session.get_outputs():
            self._binding.bind_output(value.name)
        self.invoke: Callable[[], Any] = functools.partial(self._session.run_with_iobinding, self._binding)

    def feed(self, values: list[Any]) -> None:
        """Put one set of inputs in place."""
        for name, value in zip(self._names, values):
            self._binding.bind_cpu_input(name, value)

    def forget(self) -> None:
        """ONNX models keep no state."""

    def results(self) -> list[Any]:
        """The outputs of the last run."""
        return list(self._binding.copy_outputs_to_cpu())

    def placement(self) -> dict[str, Any] | None:
        """ONNX Runtime tells where a node ran only in a profile, which would slow the runs down."""
        return None


class OnnxGpuSession(OnnxSession):
    """A model in ONNX Runtime, on its WebGPU execution provider; what the GPU does not take runs on the CPU.

    Real numbers are computed in the types of the file. The first run is profiled, because nothing else tells where a
    node runs: later runs are not slowed down by that.
    """

    def __init__(self, package: str, request: dict[str, Any]) -> None:
        super().__init__(package, {**request, "delegate": None})
        self._provider = "WebGpuExecutionProvider"
        if self._provider not in self._module.get_available_providers():
            raise WorkerError("gpu", f"ONNX Runtime {self._module.__version__} is built without WebGPU")
        self.version = self._module.__version__
        self.delegate = "gpu"

    def load(self) -> None:
        """Open the file. Without a GPU the runtime would take the CPU, and only print that on standard output."""
        self._folder = tempfile.TemporaryDirectory(prefix="edgekit-")
        options = self._options()
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(self._folder.name, "run"))
        try:
            self._session = self._module.InferenceSession(
                self._request["model"], options, providers=[self._provider], enable_fallback=0
            )
        except Exception as error:
            if "webgpu" not in str(error).lower():
                raise
            raise WorkerError("gpu", f"ONNX Runtime finds no GPU ({_onnx_reason(error)})") from error
        if self._provider not in self._session.get_providers():
            raise WorkerError("gpu", "ONNX Runtime took the CPU instead")

    def prepare(self, feeds: list[list[Any]]) -> None:
        """See ``OnnxSession``; a run is the way of the inputs to the GPU, the work, and the way of the outputs back."""
        super().prepare(feeds)
        run = self.invoke

        def invoke() -> None:
            try:
                run()
            except Exception as error:
                raise WorkerError("gpu", f"the GPU refuses the model ({_onnx_reason(error)})") from error

        self.invoke = invoke

    def placement(self) -> dict[str, Any]:
        """Which nodes ran on the GPU, of the graph as the runtime optimized it; copies to and fro are none."""
        events = json.loads(Path(self._session.end_profiling()).read_text())
        self._folder.cleanup()
        told = (event["args"] | {"node": event["name"]} for event in events if "args" in event)
        # A node in a loop runs many times.
        nodes = {(one["node"], one["node_index"]): one for one in told if one.get("provider")}
        described = [
            {"op": one["op_name"], "accelerated": one["provider"] == self._provider}
            for one in nodes.values()
            if not one["op_name"].startswith("Memcpy")
        ]
        taken = sum(one["accelerated"] for one in described)
        if not taken:
            self.delegate = "none"
        percent = 100 * taken / len(described) if described else 0.0
        return {"accelerated_pct": round(percent, 1), "ops": described}

    def accelerator(self) -> dict[str, Any]:
        """Which GPU it is; the runtime does not tell, so that with several of them it is one of those named."""
        devices = _vulkan_devices()
        kinds = {kind for _, kind in devices}
        return {
            "name": " or ".join(name for name, _ in devices) or None,
            "type": kinds.pop() if len(kinds) == 1 else None,
            "outside": [],
            "warnings": [],
        }


def _wants_gpu(request: dict[str, Any]) -> bool:
    return (request.get("delegate") or {}).get("library") == "gpu"


def _litert(request: dict[str, Any]) -> Any:
    """LiteRT: its GPU is reached by another interface than all else."""
    return GpuSession(request) if _wants_gpu(request) else TfliteSession("ai_edge_litert", request)


def _onnxruntime(request: dict[str, Any]) -> Any:
    """ONNX Runtime, in the build for GPUs where one is asked for: both are the same module."""
    return (OnnxGpuSession if _wants_gpu(request) else OnnxSession)("onnxruntime", request)


RUNTIMES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "litert": _litert,
    "tflite_runtime": functools.partial(TfliteSession, "tflite_runtime"),
    "onnxruntime": _onnxruntime,
}


class Worker:
    """Answers requests. One model per process, so that memory and load time are those of that model."""

    def __init__(self) -> None:
        self._session: Any = None
        self._feeds: list[list[Any]] = []
        self._memory: Any = None

    def answer(self, request: dict[str, Any], blob: bytes) -> tuple[dict[str, Any], bytes]:
        """The reply to one request, and the bytes that follow it."""
        verb = str(request.get("verb"))
        if verb == "conditions":
            return conditions(request), b""
        if verb == "open":
            return self.open(request, blob), b""
        if verb not in {"warm", "measure", "predict"}:
            raise WorkerError("request", f"unknown verb {verb!r}")
        if self._session is None:
            raise WorkerError("request", "no model is open")
        if verb == "predict":
            return self.predict(request, blob)
        return (self.warm if verb == "warm" else self.measure)(request), b""

    def open(self, request: dict[str, Any], blob: bytes) -> dict[str, Any]:
        """Import the runtime, load the model, run it once."""
        if request.get("cpu_affinity"):
            _pin(request["cpu_affinity"])
        session = RUNTIMES[request["runtime"]](request)
        gc.collect()
        gc.disable()  # a collection in the middle of a run would be measured as the model's
        generator = _generator(int(request.get("seed", 0)))
        self._memory = PeakMemory()
        try:
            started = time.perf_counter_ns()
            session.load()
            load_ns = time.perf_counter_ns() - started
            specs = session.inputs()
            self._memory.pause()
            given = int(request.get("feeds", 0))
            self._feeds = _unpacked(specs, request, blob) if given else [_random_set(specs, generator)]
            self._memory.resume()
            started = time.perf_counter_ns()
            session.prepare(self._feeds)
            load_ns += time.perf_counter_ns() - started
            session.feed(self._feeds[0])
            started = time.perf_counter_ns()
            session.invoke()
            first_ns = time.perf_counter_ns() - started
        except WorkerError:
            raise
        except Exception as error:  # every runtime has exceptions of its own
            raise WorkerError("model", _sentence(error)) from error
        peak = self._memory.read()
        self._session = session
        self._memory.pause()
        placed = session.placement()
        seen = {"accelerator": session.accelerator()} if hasattr(session, "accelerator") else {}
        self._memory.resume()
        shapes = [list(values.shape) for values in self._feeds[0]]
        return {
            "runtime_version": session.version,
            "runtime_import_ms": session.import_ms,
            "delegate": session.delegate,
            "load_ms": load_ns / 1e6,
            "first_inference_ms": first_ns / 1e6,
            "batch": shapes[0][0] if shapes and shapes[0] else 1,
            "inputs": [{**spec, "used_shape": shape} for spec, shape in zip(specs, shapes)],
            "outputs": session.outputs(),
            "placement": placed,
            **seen,
            **peak,
        }

    def warm(self, request: dict[str, Any]) -> dict[str, Any]:
        """Run until the latency is steady, or a given number of times; bounded by time either way."""
        until = time.perf_counter_ns() + int(float(request["max_seconds"]) * 1e9)
        wanted = request.get("runs")
        samples = self._run(int(wanted), until) if wanted else []
        steady = wanted is not None and len(samples) >= int(wanted)
        medians: list[int] = []
        while wanted is None and not steady and time.perf_counter_ns() < until:
            typical = medians[-1] if medians else 0
            window = self._run(max(WINDOW_RUNS, WINDOW_NS // typical if typical else 0), until)
            samples.extend(window)
            if len(window) >= WINDOW_RUNS:
                medians.append(max(1, sorted(window)[len(window) // 2]))
            latest = medians[-STEADY_WINDOWS:]
            steady = len(latest) == STEADY_WINDOWS and max(latest) <= (1 + STEADY_TOLERANCE) * min(latest)
        # Before the samples are turned into text: that takes memory which is not the model's.
        peak = self._memory.read()
        return {"samples_ns": samples, "steady": steady, **peak}

    def measure(self, request: dict[str, Any]) -> dict[str, Any]:
        """One block: a few runs that bring the caches back, kept apart, then at most ``runs`` timed ones.

        Before them ``load_ms`` of runs that nobody counts: a device under load heats up, a waiting one cools.
        """
        loaded_at = time.perf_counter_ns() + int(float(request.get("load_ms", 0.0)) * 1e6)
        while time.perf_counter_ns() < loaded_at:
            self._run(LOAD_RUNS, loaded_at)
        settle_ns = int(float(request.get("settle_ms", 0.0)) * 1e6)
        settling = (
            self._run(max(1, int(request["runs"])), time.perf_counter_ns() + settle_ns) if settle_ns else []
        )
        started = time.perf_counter_ns()
        switches = _involuntary_switches()
        samples = self._run(int(request["runs"]), started + int(float(request["max_seconds"]) * 1e9))
        return {
            "start_ns": started,
            "settle_ns": settling,
            "samples_ns": samples,
            "involuntary_switches": _involuntary_switches() - switches,
        }

    def predict(self, request: dict[str, Any], blob: bytes) -> tuple[dict[str, Any], bytes]:
        """The outputs for sets of inputs, each computed from a fresh state."""
        session, columns = self._session, []
        try:
            sets = _unpacked(session.inputs(), request, blob)
            if [values.shape for values in sets[0]] != [values.shape for values in self._feeds[0]]:
                session.prepare(sets)
                self._feeds = sets[:1]
            for values in sets:
                session.forget()
                session.feed(values)
                session.invoke()
                columns.append([_packed(value) for value in session.results()])
        except WorkerError:
            raise
        except Exception as error:
            raise WorkerError("model", _sentence(error)) from error
        described = [{"shape": shape, "dtype": dtype} for shape, dtype, _ in columns[0]] if columns else []
        if any(
            [part[:2] for part in row] != [(entry["shape"], entry["dtype"]) for entry in described]
            for row in columns
        ):
            raise WorkerError("model", "an output changes its shape from run to run")
        content = b"".join(row[number][2] for number in range(len(described)) for row in columns)
        return {"outputs": described}, content

    def _run(self, runs: int, until_ns: int) -> list[int]:
        """Latencies in ns of up to ``runs`` runs. Only the call of the runtime lies between two readings."""
        samples = array.array("q", bytes(8 * runs))
        invoke, feed, feeds, clock = (
            self._session.invoke,
            self._session.feed,
            self._feeds,
            time.perf_counter_ns,
        )
        count = 0
        try:
            for count in range(1, runs + 1):
                if len(feeds) > 1:
                    feed(feeds[count % len(feeds)])
                start = clock()
                invoke()
                end = clock()
                samples[count - 1] = end - start
                if end >= until_ns:
                    break
        except Exception as error:
            raise WorkerError("model", _sentence(error)) from error
        return samples[:count].tolist()


class PeakMemory:
    """The most memory that the process held, above what it held with the bare runtime imported.

    The mark of the kernel (VmHWM) is reset before loading where the kernel allows it. Where it does not,
    the mark still counts if loading raised it; else only the present size is known. What is made between
    ``pause`` and ``resume`` is the measurement's own, the inputs, and does not count.

    First use also pages in the runtime's code: some megabytes even for the smallest model.
    """

    def __init__(self) -> None:
        self._was_reset = _reset_peak()
        self._base, self._mark = _memory()
        self._highest = 0

    def pause(self) -> None:
        """Note the peak so far: what follows is not the model's."""
        self.read()
        self._paused = _memory()[0]

    def resume(self) -> None:
        """Count again, above what the pause added."""
        self._was_reset = _reset_peak()
        now, self._mark = _memory()
        if now is not None and self._base is not None and self._paused is not None:
            self._base += now - self._paused

    def read(self) -> dict[str, Any]:
        """The peak so far, and how it is known; None where the system does not tell."""
        now, peak = _memory()
        if now is None or peak is None or self._base is None or self._mark is None:
            return {"peak_memory_bytes": None, "peak_memory_method": None}
        known = self._was_reset or peak > self._mark
        self._highest = max(self._highest, (peak if known else now) - self._base)
        method = (
            "VmHWM, reset before loading" if self._was_reset else "VmHWM" if known else "VmRSS after the runs"
        )
        return {"peak_memory_bytes": self._highest, "peak_memory_method": method}


def _pin(processors: list[int]) -> None:
    """Keep this process, and the threads that it will start, on some processors."""
    try:
        os.sched_setaffinity(0, processors)
    except (OSError, ValueError, AttributeError) as error:
        listed = ", ".join(str(number) for number in processors)
        raise WorkerError("usage", f"processors {listed} cannot be used: {_sentence(error)}") from error


def _generator(seed: int) -> Any:
    """A generator that has imported all it needs."""
    import numpy as np

    generator = np.random.default_rng(seed)
    generator.random()
    return generator


def _random_set(specs: list[dict[str, Any]], generator: Any) -> list[Any]:
    return [_random(generator, spec) for spec in specs]


def _random(generator: Any, spec: dict[str, Any]) -> Any:
    """Random input: 0 to 1 for real numbers, the whole range for quantized ones.

    Wide integers are indices or lengths: 0 and 1 are inside any table that has two entries.
    """
    import numpy as np

    shape, dtype = [size or 1 for size in spec["shape"]], np.dtype(spec["dtype"])
    if dtype.kind == "f":
        return generator.random(shape).astype(dtype)
    if dtype.kind in "iu" and dtype.itemsize <= 2:
        limits = np.iinfo(dtype)
        return generator.integers(limits.min, limits.max, shape, dtype, endpoint=True)
    if dtype.kind in "iub":
        return generator.integers(0, 2, shape).astype(dtype)
    raise WorkerError("model", f"the input {spec['name']} holds {dtype}: only numbers can be made up")


def _unpacked(specs: list[dict[str, Any]], request: dict[str, Any], blob: bytes) -> list[list[Any]]:
    """The sets of inputs that follow a request, in the model's own dtypes and order."""
    import numpy as np

    count, shapes = int(request["feeds"]), request["shapes"]
    if len(shapes) != len(specs) or count < 1:
        raise WorkerError("data", f"the model has {len(specs)} inputs, the data {len(shapes)}")
    columns, position = [], 0
    for spec, shape in zip(specs, shapes):
        fits = len(shape) == len(spec["shape"]) and all(
            own in (None, given) for own, given in zip(spec["shape"], shape)
        )
        if not fits:
            raise WorkerError("data", f"the input {spec['name']} takes {spec['shape']}, the data has {shape}")
        dtype = np.dtype(spec["dtype"])
        if dtype.kind not in "fiub":
            raise WorkerError("data", f"the input {spec['name']} holds {dtype}: only numbers can be sent")
        size = count * math.prod(shape)
        if position + size * dtype.itemsize > len(blob):
            raise WorkerError("data", f"{len(blob)} bytes were sent, fewer than {count} sets of inputs")
        columns.append(np.frombuffer(blob, dtype, size, position).reshape(count, *shape))
        position += size * dtype.itemsize
    if position != len(blob):
        raise WorkerError("data", f"{len(blob)} bytes were sent, more than {count} sets of inputs")
    return [[column[i] for column in columns] for i in range(count)]


def _packed(values: Any) -> tuple[list[int], str, bytes]:
    """Shape, dtype and bytes of an output."""
    if values.dtype.kind not in "fiub":
        raise WorkerError("model", f"an output holds {values.dtype}: only numbers can be sent back")
    return list(values.shape), values.dtype.name, values.tobytes()


def conditions(request: dict[str, Any]) -> dict[str, Any]:
    """What the machine is and what it is doing. What cannot be read is None; nothing is guessed."""
    own = {os.getpid(), *request.get("own_pids", [])}
    frequencies = _integers("/sys/devices/system/cpu/cpufreq/policy*/scaling_cur_freq")
    maxima = _integers("/sys/devices/system/cpu/cpufreq/policy*/cpuinfo_max_freq")
    governors = sorted(set(_texts("/sys/devices/system/cpu/cpufreq/policy*/scaling_governor")))
    temperatures = _integers("/sys/class/thermal/thermal_zone*/temp")
    throttles = _integers("/sys/devices/system/cpu/cpu*/thermal_throttle/core_throttle_count")
    cpuinfo = _text("/proc/cpuinfo") or ""
    megahertz = [float(value) for value in re.findall(r"cpu MHz\s*:\s*([\d.]+)", cpuinfo)]
    memory = dict(re.findall(r"(\w+):\s+(\d+) kB", _text("/proc/meminfo") or ""))
    started, before = time.perf_counter(), _process_ticks()
    time.sleep(float(request.get("window_s", 0.3)))
    seconds, after = time.perf_counter() - started, _process_ticks()
    return {
        "time": time.time(),
        "cpu_model": _cpu_model(cpuinfo),
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
        "governor": "+".join(governors) or None,
        "frequency_mhz": max(frequencies) / 1e3 if frequencies else max(megahertz, default=None),
        "max_frequency_mhz": max(maxima) / 1e3 if maxima else None,
        "temperature_c": max(temperatures) / 1e3 if temperatures else None,
        "throttle_events": sum(throttles) if throttles else None,
        "throttle_flags": _pi_throttle_flags(),
        "load_average": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
        "busy_processes": _busy(before, after, seconds, own),
        "memory_available_bytes": _kib(memory.get("MemAvailable")),
        "memory_total_bytes": _kib(memory.get("MemTotal")),
        "kernel": f"{platform.system()} {platform.release()}",
        "virtualized": _virtualized(cpuinfo),
        "cpu_ticks": _cpu_ticks(),
        "own_ticks": sum(ticks for pid, (_name, ticks) in (after or {}).items() if pid in own),
    }


def _process_ticks() -> dict[int, tuple[str, int]] | None:
    """Name, and clock ticks used so far, of every process; None where there is no /proc."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        stat = _text(path)
        if stat:
            # The name stands in brackets and may hold spaces and brackets itself.
            name, _, rest = stat.partition("(")[2].rpartition(")")
            fields = rest.split()
            found[int(path.parent.name)] = (name, int(fields[11]) + int(fields[12]))
    return found or None


def _busy(before: Any, after: Any, seconds: float, own: set[int]) -> list[dict[str, Any]] | None:
    """The other processes that took 5% of a core or more, the busiest first, five at most."""
    if before is None or after is None:
        return None
    hertz = os.sysconf("SC_CLK_TCK")
    shares = [
        {"pid": pid, "name": name, "cpu_pct": round(100 * (ticks - before[pid][1]) / hertz / seconds, 1)}
        for pid, (name, ticks) in after.items()
        if pid in before and pid not in own
    ]
    return sorted((s for s in shares if s["cpu_pct"] >= 5), key=lambda s: -s["cpu_pct"])[:5]


def _cpu_ticks() -> dict[str, int] | None:
    """Ticks of all cores since the start of the machine: all, busy, and taken away by the hypervisor."""
    line = (_text("/proc/stat") or "").partition("\n")[0].split()[1:]
    if len(line) < 8:
        return None
    ticks = [int(value) for value in line[:8]]  # user nice system idle iowait irq softirq steal
    return {"total": sum(ticks), "busy": sum(ticks) - ticks[3] - ticks[4] - ticks[7], "steal": ticks[7]}


def _cpu_model(cpuinfo: str) -> str | None:
    board = (_text("/proc/device-tree/model") or "").strip("\0")
    found = re.search(r"^model name\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    return ", ".join(part for part in (board, found.group(1) if found else "") if part) or None


def _virtualized(cpuinfo: str) -> bool | None:
    """Whether a hypervisor shows itself; None where neither answer is certain."""
    if (
        re.search(r"^flags\s*:.*\bhypervisor\b", cpuinfo, re.MULTILINE)
        or Path("/sys/hypervisor/type").exists()
    ):
        return True
    return False if re.search(r"^flags\s*:", cpuinfo, re.MULTILINE) else None


def _pi_throttle_flags() -> int | None:
    """The Raspberry Pi's flags: bit 0 undervoltage, 1 capped, 2 throttled, 3 hot; 16 to 19 since boot."""
    text = _text("/sys/devices/platform/soc/soc:firmware/get_throttled")
    return int(text, 16) if text else None


def _text(path: Any) -> str | None:
    try:
        return Path(path).read_text(errors="replace").strip()
    except OSError:
        return None


def _texts(pattern: str) -> list[str]:
    found = (_text(path) for path in sorted(Path("/").glob(pattern.lstrip("/"))))
    return [text for text in found if text]


def _integers(pattern: str) -> list[int]:
    return [int(text) for text in _texts(pattern) if text.lstrip("-").isdigit()]


def _kib(text: str | None) -> int | None:
    return int(text) * 1024 if text else None


def _memory() -> tuple[int | None, int | None]:
    """Present and highest resident size in bytes."""
    fields = dict(re.findall(r"(\w+):\s+(\d+) kB", _text("/proc/self/status") or ""))
    return _kib(fields.get("VmRSS")), _kib(fields.get("VmHWM"))


def _reset_peak() -> bool:
    """Set VmHWM back to the present size; False where the kernel refuses."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _involuntary_switches() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


def _gpu_interface() -> Any:
    """LiteRT's module for models on its GPU accelerator."""
    package = _import("ai_edge_litert")
    # Without these instructions the accelerator ends the process as soon as it is loaded.
    features = re.search(r"^Features\s*:(.*)$", _text("/proc/cpuinfo") or "", re.MULTILINE)
    if platform.machine() == "aarch64" and features and "atomics" not in features.group(1).split():
        raise WorkerError("gpu", "LiteRT's WebGPU accelerator needs a processor with LSE")
    folder = Path(package.__file__).parent
    if not list(folder.glob("libLiteRt*GpuAccelerator.*")):
        raise WorkerError("gpu", f"LiteRT {_version('ai_edge_litert')} has no WebGPU accelerator there")
    try:
        interface = importlib.import_module("ai_edge_litert.compiled_model")
    except ImportError as error:
        raise WorkerError(
            "gpu", f"LiteRT's interface to it cannot be imported: {_sentence(error)}"
        ) from error
    if not hasattr(interface, "GpuOptions"):
        raise WorkerError("gpu", f"LiteRT {_version('ai_edge_litert')} is too old for it")
    return interface


def _gpu_refusal(said: str, error: Exception) -> str:
    """Why a model did not come onto the GPU; the exception has little more than lines of source code."""
    lines = re.findall(r"^(?:ERROR: (?:\[[^]]*\] )?|E\d{4} [^]]*\] )(.*[^:\s])\s*$", said, re.MULTILINE)
    reason = lines[0].strip(" .") if lines else _sentence(error)
    if "WebGPU environment" in said and "Created a WebGPU environment" not in said:
        return f"LiteRT finds no GPU ({reason})"
    return f"the GPU refuses the model ({reason})"


def _onnx_reason(error: Exception) -> str:
    """What ONNX Runtime says without the place in its source code."""
    text = _sentence(error).rpartition("Status Message: ")[2].rpartition(" was false. ")[2]
    return re.sub(r"^\S+\.(?:cc|h):\d+ (?:\w+ )?", "", text).strip(" .")


def _vulkan_devices() -> list[tuple[str, str]]:
    """Name and kind of every device that Vulkan finds; none where it cannot be asked."""
    try:
        vulkan = ctypes.CDLL("libvulkan.so.1")
    except OSError:
        return []
    instance, count = ctypes.c_void_p(), ctypes.c_uint32()
    # A VkInstanceCreateInfo has 64 bytes: the first field is its own type, 1, and the rest may be empty.
    if vulkan.vkCreateInstance((ctypes.c_uint64 * 8)(1), None, ctypes.byref(instance)):
        return []
    vulkan.vkEnumeratePhysicalDevices(instance, ctypes.byref(count), None)
    handles, found = (ctypes.c_void_p * count.value)(), []
    vulkan.vkEnumeratePhysicalDevices(instance, ctypes.byref(count), handles)
    for handle in handles[: count.value]:
        # VkPhysicalDeviceProperties, 824 bytes: after four numbers the kind of device, and 256 bytes of name.
        properties = ctypes.create_string_buffer(1024)
        vulkan.vkGetPhysicalDeviceProperties(ctypes.c_void_p(handle), properties)
        kind = int.from_bytes(properties.raw[16:20], sys.byteorder)
        name = properties.raw[20:276].partition(b"\0")[0].decode(errors="replace")
        found.append((name, _VULKAN_KINDS.get(kind, "other")))
    vulkan.vkDestroyInstance(instance, None)
    return found


def _order(specs: list[dict[str, Any]], names: list[str]) -> list[int]:
    """Where each tensor of the graph stands in the signature."""
    own = [spec["name"] for spec in specs]
    if sorted(own) != sorted(names) or len(set(own)) != len(own):
        raise WorkerError("gpu", "the model's signature names other tensors than its graph")
    return [names.index(name) for name in own]


@contextlib.contextmanager
def _overheard() -> Iterator[list[str]]:
    """Collect what a library prints on standard error, as one text at the end; it is printed there too."""
    said: list[str] = []
    kept = os.dup(2)
    # In memory where the system can: a device may have no folder that takes temporary files.
    memory = getattr(os, "memfd_create", None)
    with os.fdopen(memory("said"), "w+b") if memory else tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield said
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            file.seek(0)
            content = file.read()
            said.append(content.decode(errors="replace"))
            os.write(2, content)


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except Exception as error:  # a runtime built for another numpy fails with any exception
        raise WorkerError(
            "dependency", f"{name.partition('.')[0]} cannot be imported: {_sentence(error)}"
        ) from error


def _version(package: str) -> str:
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "unknown"


def _tflite_specs(details: list[Any], names: dict[str, str]) -> list[dict[str, Any]]:
    described = []
    for detail in details:
        signature = detail.get("shape_signature")
        free = signature if signature is not None and len(signature) else detail["shape"]
        scale, zero_point = detail["quantization"]
        described.append(
            {
                "name": names.get(detail["name"], detail["name"]),
                "shape": [None if size < 0 else int(size) for size in free],
                "dtype": _dtype_name(detail["dtype"]),
                "scale": float(scale),
                "zero_point": int(zero_point),
            }
        )
    return described


def _onnx_spec(value: Any) -> dict[str, Any]:
    return {
        "name": value.name,
        "shape": [size if isinstance(size, int) and size >= 0 else None for size in value.shape],
        "dtype": _onnx_dtype(value.type),
        "scale": 0.0,
        "zero_point": 0,
    }


def _dtype_name(dtype: Any) -> str:
    import numpy as np

    return str(np.dtype(dtype).name)


def _signature_names(interpreter: Any, side: str) -> dict[str, str]:
    """The signature's names of the inputs by the tensors' names; empty where there is not one signature."""
    runners = interpreter.get_signature_list() if hasattr(interpreter, "get_signature_list") else {}
    if len(runners) != 1:
        return {}
    key = next(iter(runners))
    details = getattr(interpreter.get_signature_runner(key), f"get_{side}_details")()
    return {detail["name"]: name for name, detail in details.items()}


def _onnx_dtype(text: str) -> str:
    """The name that numpy uses: ``tensor(float)`` is float32."""
    name = text[text.find("(") + 1 : -1]
    return {"float": "float32", "double": "float64", "string": "str"}.get(name, name)


def _ms_since(started_ns: int) -> float:
    return (time.perf_counter_ns() - started_ns) / 1e6


def _sentence(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text[:500] or type(error).__name__


def serve(requests: BinaryIO, write: Callable[[dict[str, Any], bytes], None]) -> int:
    """Answer requests until "close"; returns the exit status."""
    worker = Worker()
    for line in iter(requests.readline, b""):
        request = json.loads(line)
        nonce = request.get("nonce")
        # The default action of the signal ends the process even when a runtime hangs in C.
        signal.setitimer(signal.ITIMER_REAL, float(request.get("deadline_s", 0)))
        blob = requests.read(int(request.get("blob_bytes", 0)))
        if request.get("verb") == "close":
            write({"done": True, "nonce": nonce}, b"")
            return 0
        try:
            reply, content = worker.answer(request, blob)
            write({"reply": request["verb"], "nonce": nonce, **reply}, content)
        except WorkerError as failure:
            write({"error": {"kind": failure.kind, "message": str(failure)}, "nonce": nonce}, b"")
        signal.setitimer(signal.ITIMER_REAL, 0)
    return 1


def main() -> int:
    """Serve standard input, or the file named on the command line."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ctrl-C is the parent's: it ends its workers itself
    # Python puts this file's folder first, where edgekit's own modules would hide standard ones.
    here = str(Path(__file__).resolve().parent)
    sys.path[:] = [entry for entry in sys.path if entry and str(Path(entry).resolve()) != here]
    # Runtimes print to standard output; only replies may go there.
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)

    def write(reply: dict[str, Any], content: bytes) -> None:
        if content:
            reply["blob_bytes"] = len(content)
        replies.write(json.dumps(reply).encode() + b"\n")
        replies.write(content)
        replies.flush()

    if len(sys.argv) > 1:
        with Path(sys.argv[1]).open("rb") as requests:
            return serve(requests, write)
    return serve(sys.stdin.buffer, write)


if __name__ == "__main__":
    sys.exit(main())
