"""Several models measured in turn: each in a worker process of its own, one at a time, in short blocks.

All stay loaded, and every round measures each of them once in an order that is shuffled anew: a machine
that slows down slows all of them, and their ratio holds.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np

from edgekit.artifact import Artifact, Format
from edgekit.catalog import unknown
from edgekit.errors import UsageError
from edgekit.measurement import Measurement
from edgekit.raw_tensors import RawSets
from edgekit.toolchain import Toolchain
from edgekit.worker_process import WorkerProcess

# The formats that each runtime opens, the first choice for a format first; native is for devices alone.
RUNTIMES = {
    "litert": Format.TFLITE,
    "native": Format.TFLITE,
    "tflite_runtime": Format.TFLITE,
    "onnxruntime": Format.ONNX,
}

_GPU = "gpu"
# ONNX Runtime's build for GPUs has the same module name as the one for CPUs.
_ONNX_GPU = "onnxruntime-webgpu"
_PRECISE = {"precision": "float32"}
_INSTEAD = {
    "native": "Name the library of a GPU delegate on the device, --delegate /PATH/LIBRARY, or use --runtime litert.",
    "tflite_runtime": "Name the library of a GPU delegate, --delegate /PATH/LIBRARY, or use --runtime litert.",
    "onnxruntime": "Leave --delegate out, give a .tflite model, or run it here: --device local.",
}
_ROUNDS = 30
_MIN_ROUNDS = 10
_MAX_RUNS = 30_000
_AUTO_SECONDS = 3.0
_ASKED_SECONDS = 60.0
_WARMUP_SECONDS = 5.0
_SETTLE_MS = 2.0
_SLOW_NS = 20_000_000
_LEAST_SUSTAINED_S = 10.0
_MOST_SUSTAINED_S = 86_400.0
_SUSTAINED_ROUND_S = 2.0
_SUSTAINED_RUNS = 500
# The part of a round under load that is timed.
_TIMED = 0.25


@dataclass(frozen=True)
class Delegate:
    """A TFLite delegate of the machine that runs the model.

    Either a library there, as in ``libneuron.so,cache=/tmp``, or ``gpu``: LiteRT's own accelerator, or ONNX Runtime's
    WebGPU provider. In LiteRT many GPUs compute real numbers in 16 bits unless they are told otherwise, with
    ``gpu,precision=float32``; ONNX Runtime computes in the types of the file.
    """

    library: str
    options: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``LIBRARY[,KEY=VALUE...]`` or ``gpu[,precision=float32]``.

        Raises:
            UsageError: An option has no value, or there is no library.
        """
        library, *options = text.split(",")
        pairs = [option.partition("=") for option in options]
        if not library or not all(key and sign for key, sign, _ in pairs):
            raise UsageError(
                "EK523", f"{text!r} names no delegate.", "Use --delegate LIBRARY[,KEY=VALUE...], gpu or cpu."
            )
        delegate = cls(library, {key: value for key, _, value in pairs})
        if delegate.is_gpu and dict(delegate.options) not in ({}, _PRECISE):
            raise UsageError(
                "EK523", f"{text!r}: the GPU takes no such option.", "Use gpu or gpu,precision=float32."
            )
        return delegate

    @property
    def is_gpu(self) -> bool:
        """Whether it is the GPU that a runtime reaches itself, and no library."""
        return self.library == _GPU

    @property
    def name(self) -> str:
        """What messages call it."""
        return "the GPU" if self.is_gpu else Path(self.library).name

    def require(self, runtime: str, *, is_here: bool) -> None:
        """Make sure that a runtime can use it; ``is_here`` says whether it runs on this machine.

        Raises:
            UsageError: It is the GPU, and the runtime has none.
            DependencyError: The toolchain that has it is not installed.
        """
        if not self.is_gpu or runtime == "litert":
            return
        toolchain = self.toolchain(runtime)
        if toolchain is None or not is_here:
            where = "" if is_here else " on a device"
            raise UsageError(
                "EK542",
                f"{runtime} has no GPU of its own{where}: {_GPU} is LiteRT's, or ONNX Runtime's on this machine.",
                _INSTEAD[runtime],
            )
        toolchain.require()

    def toolchain(self, runtime: str) -> Toolchain | None:
        """The environment in which a runtime of this machine has it; None is edgekit's own."""
        return Toolchain.load(_ONNX_GPU) if self.is_gpu and runtime == "onnxruntime" else None

    def describe(self) -> dict[str, Any]:
        """The delegate as it stands in JSON documents."""
        return {"library": self.library, "options": dict(self.options)}


@dataclass(frozen=True)
class BenchmarkOptions:
    """What to measure.

    ``runs`` None means as many as fit in ``max_seconds``; ``max_seconds`` None means 3 s per model, or 60 s
    where ``runs`` is given. ``warmup_runs`` None means until the latency is steady. ``data`` is a data spec
    whose first samples are the inputs; None means random inputs made from ``seed``. ``deadline_s`` bounds
    loading, and how much longer than planned any step may take. ``sustained_s`` keeps the machine under load for
    so long, of which a part of every two seconds is timed. ``cpu_affinity`` are the processors to run on. ``per_op``
    asks the runtime's profiler afterwards how long each operator takes.
    """

    runs: int | None = None
    warmup_runs: int | None = None
    max_seconds: float | None = None
    threads: int = 1
    runtime: str | None = None
    xnnpack: bool = True
    delegate: Delegate | None = None
    data: str | None = None
    seed: int = 0
    deadline_s: float = 120.0
    sustained_s: float | None = None
    cpu_affinity: tuple[int, ...] = ()
    per_op: bool = False

    def __post_init__(self) -> None:
        if self.runtime is not None and self.runtime not in RUNTIMES:
            raise unknown("runtime for benchmarks", self.runtime, sorted(RUNTIMES))
        limits: list[tuple[str, float | None, float]] = [
            ("--runs", self.runs, 1),
            ("--warmup", self.warmup_runs, 0),
            ("--threads", self.threads, 1),
        ]
        for name, value, least in limits:
            if value is not None and value < least:
                raise UsageError("EK522", f"{name} is {value}; it must be at least {least:g}.")
        if self.sustained_s is not None and not _LEAST_SUSTAINED_S <= self.sustained_s <= _MOST_SUSTAINED_S:
            raise UsageError("EK522", f"--sustained is {self.sustained_s:g} s; it must be from 10 s to 24 h.")
        if self.max_seconds is not None and not 0 < self.max_seconds < math.inf:
            raise UsageError("EK522", f"--max-seconds is {self.max_seconds:g}; it must be above 0.")

    @property
    def seconds(self) -> float:
        """The time that the timed runs of one model may take."""
        if self.sustained_s is not None:
            return self.sustained_s
        return self.max_seconds or (_AUTO_SECONDS if self.runs is None else _ASKED_SECONDS)


@dataclass(frozen=True)
class Subject:
    """A model and the runtime that will run it; ``path`` is where it lies on a device."""

    artifact: Artifact
    runtime: str
    path: str | None = None


class Runner:
    """One loaded model and the blocks that were measured of it so far."""

    def __init__(
        self, subject: Subject, options: BenchmarkOptions, process: WorkerProcess, feeds: RawSets | None
    ) -> None:
        self.subject = subject
        self.process = process
        self._options = options
        self._blocks: list[tuple[float, ...]] = []
        self._starts_ns: list[int] = []
        opened = process.ask(
            "open",
            deadline_s=options.deadline_s,
            model=subject.path or str(subject.artifact.path.absolute()),
            runtime=subject.runtime,
            threads=options.threads,
            xnnpack=options.xnnpack,
            delegate=None if options.delegate is None else options.delegate.describe(),
            seed=options.seed,
            cpu_affinity=list(options.cpu_affinity),
            blob=b"" if feeds is None else feeds.content,
            **({} if feeds is None else feeds.request()),
        )
        warm_s = _WARMUP_SECONDS if options.warmup_runs is None else _ASKED_SECONDS
        warmed = process.ask(
            "warm", deadline_s=warm_s + options.deadline_s, runs=options.warmup_runs, max_seconds=warm_s
        )
        self.opened = {**opened, **{key: value for key, value in warmed.items() if key.startswith("peak_")}}
        self.steady = bool(warmed["steady"])
        self._warmups: list[float] = warmed["samples_ns"]
        latest = self._warmups[-20:] or [opened["first_inference_ms"] * 1e6]
        self.typical_ns = max(1.0, float(np.median(latest)))

    def block(self, runs: int, seconds: float, load_s: float = 0.0) -> float:
        """Measure one block, bounded by runs and by time; returns the seconds that it took.

        ``load_s`` are seconds of runs before it that are not timed.
        """
        reply = self.process.ask(
            "measure",
            deadline_s=load_s + seconds + self._options.deadline_s,
            runs=runs,
            max_seconds=seconds,
            load_ms=load_s * 1e3,
            settle_ms=_SETTLE_MS if self.typical_ns < _SLOW_NS else 0.0,
        )
        self._warmups.extend(reply["settle_ns"])
        self._blocks.append(tuple(reply["samples_ns"]))
        self._starts_ns.append(int(reply["start_ns"]))
        return load_s + sum(self._blocks[-1]) / 1e9

    def latency(self) -> Measurement:
        """All blocks so far."""
        starts = tuple((start - self._starts_ns[0]) / 1e9 for start in self._starts_ns)
        return Measurement("latency", "ns", tuple(self._blocks), tuple(self._warmups), starts)


def measure(
    runners: Sequence[Runner], options: BenchmarkOptions, progress: Callable[[int, int], None]
) -> None:
    """Let the workers measure in turn until the runs or the time are used up."""
    if options.sustained_s is not None:
        _sustain(runners, options.sustained_s, progress)
        return
    slowest_ns = max(runner.typical_ns for runner in runners)
    rounds = max(_MIN_ROUNDS, min(_ROUNDS, int(options.seconds * 1e9 / slowest_ns)))
    if options.runs is not None:
        rounds = min(_ROUNDS, options.runs)
    spent_s = [0.0] * len(runners)
    bounded = options.max_seconds is not None or options.runs is not None
    order = np.random.default_rng(options.seed)
    for number in range(rounds):
        # All stop together, or block i of one model would no longer stand beside block i of the other.
        if number and max(spent_s) >= options.seconds and (bounded or number >= _MIN_ROUNDS):
            break
        for index in order.permutation(len(runners)).tolist():
            runs, seconds = _block_size(runners[index], options, rounds, number)
            left_s = max(options.seconds - spent_s[index], 1e-3)
            spent_s[index] += runners[index].block(runs, min(seconds, left_s))
        progress(number + 1, rounds)


def _sustain(runners: Sequence[Runner], seconds: float, progress: Callable[[int, int], None]) -> None:
    """Keep the machine under load; the models share the time. A run longer than a round is timed itself."""
    started = time.monotonic()
    while time.monotonic() - started < seconds:
        for runner in runners:
            timed_s = _SUSTAINED_ROUND_S * _TIMED
            load_s = 0.0 if runner.typical_ns > timed_s * 1e9 else _SUSTAINED_ROUND_S - timed_s
            runner.block(_SUSTAINED_RUNS, timed_s, load_s / len(runners))
        progress(min(int(time.monotonic() - started), int(seconds)), int(seconds))


def _block_size(runner: Runner, options: BenchmarkOptions, rounds: int, number: int) -> tuple[int, float]:
    """Runs and seconds of one block. Slow moments may stretch it to twice its planned time."""
    if options.runs is not None:
        return options.runs // rounds + (number < options.runs % rounds), options.seconds
    seconds = options.seconds / rounds
    return max(1, min(int(seconds * 1e9 / runner.typical_ns), _MAX_RUNS // rounds)), 2 * seconds
