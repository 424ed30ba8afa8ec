"""How fast a model is, here or on a device, and how far the number can be trusted."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import edgekit
from edgekit import placement
from edgekit.artifact import Artifact
from edgekit.bench import Bench, HostBench
from edgekit.data import open_dataset
from edgekit.errors import ModelError, UsageError
from edgekit.findings import Finding, Level
from edgekit.formats import open_artifact
from edgekit.interleaved import RUNTIMES, BenchmarkOptions, Runner, Subject, measure
from edgekit.measurement import (
    Conditions,
    Disturbance,
    Measurement,
    NoiseVerdict,
    Record,
    Verdict,
    latency_ms,
    ratio,
    throttled,
    throughput_per_s,
)
from edgekit.noise import BUSY_PCT, judge
from edgekit.profiling import Profile
from edgekit.profiling.measured import profile
from edgekit.raw_tensors import RawSets, RawTensors
from edgekit.sustained import Sustained, first_against_last

_WINDOW_S = 0.3
# From here on it is no longer the noise of the machine.
_SLOWER = 1.05
# More distinct inputs than this tell nothing new about speed.
_SETS = 64
_CODES = {
    Verdict.NOISY: "EK501",
    Verdict.THROTTLED: "EK502",
    Verdict.DRIFTING: "EK503",
    Verdict.UNKNOWN: "EK504",
}


@dataclass(frozen=True)
class ModelBenchmark:
    """What was measured of one model. ``opened`` is the worker's account of loading it."""

    subject: Subject
    options: BenchmarkOptions
    opened: Mapping[str, Any]
    latency: Measurement
    noise: NoiseVerdict
    steady: bool
    device: str = "local"
    profile: Profile | None = None

    @property
    def sustained(self) -> Sustained | None:
        """The first minute against the last, of a run under load."""
        if self.options.sustained_s is None:
            return None
        return first_against_last(self.latency, self.options.seed)

    def describe(self) -> dict[str, Any]:
        """The fields of cli.md for one model, without conditions."""
        opened = self.opened
        return {
            "model": str(self.subject.artifact.path),
            "sha256": self.subject.artifact.sha256,
            "device": self.device,
            "runtime": self.subject.runtime,
            "runtime_version": opened["runtime_version"],
            "delegate": opened["delegate"],
            "accelerator": opened.get("accelerator"),
            "threads": self.options.threads,
            "batch": opened["batch"],
            "model_size_bytes": self.subject.artifact.size_bytes,
            "runtime_import_ms": opened["runtime_import_ms"],
            "load_ms": opened["load_ms"],
            "first_inference_ms": opened["first_inference_ms"],
            "latency_ms": latency_ms(self.latency, self.options.seed),
            "throughput_per_s": throughput_per_s(self.latency, opened["batch"]),
            "peak_memory_bytes": opened["peak_memory_bytes"],
            "peak_memory_method": opened["peak_memory_method"],
            "placement": opened["placement"],
            "sustained": None if self.sustained is None else self.sustained.describe(),
            "noise": self.noise.describe(),
            "per_op": None if self.profile is None else self.profile.describe(),
        }


@dataclass(frozen=True)
class Ratio:
    """How many times the baseline's median latency the candidate takes: below 1 is faster."""

    candidate: str
    baseline: str
    median_ratio: float
    ci95: tuple[float, float] | None

    def describe(self) -> dict[str, Any]:
        """The ratio as it stands in JSON documents."""
        interval = None if self.ci95 is None else list(self.ci95)
        return {
            "candidate": self.candidate,
            "baseline": self.baseline,
            "median_ratio": self.median_ratio,
            "ci95": interval,
        }


@dataclass(frozen=True)
class Benchmark:
    """The result of ``benchmark``: the first model is the baseline of the ratios."""

    models: tuple[ModelBenchmark, ...]
    ratios: tuple[Ratio, ...]
    before: Conditions
    after: Conditions
    disturbance: Disturbance
    findings: tuple[Finding, ...]
    device: str = "local"

    @property
    def throttled(self) -> bool:
        """Whether the machine said that it slowed down meanwhile."""
        return bool(throttled(self.before, self.after))

    @property
    def stable(self) -> bool:
        """Whether every series of latencies was stable."""
        return all(model.noise.verdict is Verdict.STABLE for model in self.models)

    def describe(self) -> dict[str, Any]:
        """The result as it stands in JSON documents: flat for one model, a list for several."""
        conditions = {
            "before": self.before.describe(),
            "after": self.after.describe(),
            "throttled": throttled(self.before, self.after),
            "other_cpu_pct": self.disturbance.other_cpu_pct,
            "steal_pct": self.disturbance.steal_pct,
        }
        if len(self.models) == 1:
            return {**self.models[0].describe(), "conditions": conditions}
        return {
            "device": self.device,
            "models": [model.describe() for model in self.models],
            "ratios": [entry.describe() for entry in self.ratios],
            "conditions": conditions,
        }

    def record(self) -> Record:
        """Every raw value, ready to be saved."""
        seed = self.models[0].options.seed
        facts = [
            ({key: v for key, v in m.describe().items() if key != "latency_ms"}, m.latency)
            for m in self.models
        ]
        return Record(self.device, tuple(facts), self.before, self.after, edgekit.__version__, seed)


def subjects(models: Sequence[Path], options: BenchmarkOptions) -> tuple[Subject, ...]:
    """The models with the runtime that each will have; nothing is run.

    Raises:
        ModelError: A file is unreadable, or of a format that no benchmarked runtime opens.
        UsageError: The runtime asked for does not open a file's format.
    """
    return tuple(_subject(open_artifact(Path(path)), options) for path in models)


def benchmark(
    models: Sequence[Path],
    options: BenchmarkOptions | None = None,
    *,
    bench: Bench | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Benchmark:
    """Measure models; with several, their ratios to the first.

    Args:
        models: One or more ``.tflite`` or ``.onnx`` files.
        options: What to measure.
        bench: The machine to measure on, which is left when all is done; None is this one.
        progress: Told the rounds that are done and their number, only while nothing is being measured.

    Raises:
        ModelError: A model is unreadable, is refused by its runtime, crashes it or hangs.
        DataError: The data do not fit a model.
        DependencyError: A runtime is not installed.
        UsageError: The runtime does not open the format.
        DeviceError: A measuring process broke off.
    """
    options = options or BenchmarkOptions()
    opened = [open_artifact(Path(path)) for path in models]
    runtimes: list[str | None] = [options.runtime] * len(opened)
    if bench is None:
        bench, runtimes = (
            HostBench(options.delegate),
            [_subject(artifact, options).runtime for artifact in opened],
        )
    with contextlib.ExitStack() as stack:
        stack.enter_context(bench)
        chosen = [bench.subject(*pair) for pair in zip(opened, runtimes, strict=True)]
        before = bench.conditions([], _WINDOW_S)
        runners = []
        for subject in chosen:
            process = stack.enter_context(bench.worker(subject))
            runners.append(Runner(subject, options, process, feeds_of(subject, options)))
        workers = [runner.process for runner in runners]
        start = bench.conditions(workers, 0.0)
        measure(runners, options, progress or (lambda _done, _total: None))
        after = bench.conditions(workers, _WINDOW_S)
        for process in workers:
            process.close()
    disturbance = Disturbance.between(start, after)
    measured = tuple(_result(runner, options, (before, after, disturbance), bench.name) for runner in runners)
    found = (*_machine_findings(before), *(finding for m in measured for finding in _model_findings(m)))
    if options.per_op:
        measured, more = _profiled(measured)
        found = (*found, *more)
    return Benchmark(measured, _ratios(measured, options.seed), before, after, disturbance, found, bench.name)


def _result(
    runner: Runner,
    options: BenchmarkOptions,
    around: tuple[Conditions, Conditions, Disturbance],
    device: str,
) -> ModelBenchmark:
    latency = runner.latency()
    noise = judge(latency, *around)
    return ModelBenchmark(runner.subject, options, runner.opened, latency, noise, runner.steady, device)


def _profiled(measured: Sequence[ModelBenchmark]) -> tuple[tuple[ModelBenchmark, ...], list[Finding]]:
    """The same with the time of each operator, and why that is missing of some."""
    results = [profile(one.subject.artifact, one.subject.runtime, one.options) for one in measured]
    pairs = zip(measured, results, strict=True)
    made = tuple(replace(one, profile=found) for one, (found, _findings) in pairs)
    return made, [finding for _profile, findings in results for finding in findings]


def _subject(artifact: Artifact, options: BenchmarkOptions) -> Subject:
    fitting = [n for n, accepted in RUNTIMES.items() if accepted is artifact.format and n != "native"]
    if not fitting:
        raise ModelError(
            "EK520",
            f"{artifact.path} is a {artifact.format} model, which no device runs as it is.",
            f"Convert it first: edgekit quantize {artifact.path} -r float16 -o model.tflite",
        )
    runtime = options.runtime or fitting[0]
    if runtime not in fitting:
        raise UsageError(
            "EK521",
            f"{runtime} does not open {artifact.path}, which is a {artifact.format} model.",
            f"Use --runtime {' or '.join(fitting)}, or leave the option out.",
        )
    if runtime == "onnxruntime" and not options.xnnpack:
        raise UsageError(
            "EK521", f"{artifact.path} runs in onnxruntime, which uses no XNNPACK.", "Leave out --no-xnnpack."
        )
    return Subject(artifact, runtime)


def feeds_of(subject: Subject, options: BenchmarkOptions) -> RawSets | None:
    """The first samples of the user's data as the worker takes them, None for random inputs."""
    if options.data is None:
        return None
    dataset = open_dataset(options.data).bind(subject.artifact.inputs)
    raw = RawTensors(subject.artifact)
    # Whole sets only: a filled up one would repeat its last sample.
    count = min(dataset.count, _SETS * raw.batch)
    batch = dataset.take(range(max(1, count // raw.batch) * raw.batch if count >= raw.batch else count))
    return raw.sets(batch.inputs)


def _ratios(measured: Sequence[ModelBenchmark], seed: int) -> tuple[Ratio, ...]:
    baseline = measured[0]
    found = []
    for candidate in measured[1:]:
        estimate, interval = ratio(candidate.latency, baseline.latency, seed)
        paths = str(candidate.subject.artifact.path), str(baseline.subject.artifact.path)
        found.append(Ratio(*paths, estimate, interval))
    return tuple(found)


def _machine_findings(before: Conditions) -> Iterator[Finding]:
    busy = [process for process in before.busy_processes or () if process.cpu_pct >= BUSY_PCT]
    if busy:
        names = ", ".join(f"{process.name} ({process.cpu_pct:.0f}%)" for process in busy)
        yield Finding(
            "EK505",
            f"Other processes were busy before the measurement began: {names}.",
            "Stop them and measure again.",
        )
    readable = {"governor": "governor", "temperature_c": "temperature", "frequency_mhz": "frequency"}
    cannot = {readable[field] for field in before.unreadable if field in readable}
    if (before.throttle_events, before.throttle_flags, before.thermal_status) == (None, None, None):
        cannot.add("throttling")
    if cannot:
        yield Finding("EK506", f"The machine does not show its {', '.join(sorted(cannot))}.", "", Level.NOTE)


def _model_findings(measured: ModelBenchmark) -> Iterator[Finding]:
    name = measured.subject.artifact.path.name
    options, opened, noise = measured.options, measured.opened, measured.noise
    if noise.verdict in _CODES:
        yield Finding(_CODES[noise.verdict], f"{name}: {noise.verdict}. {noise.reason}", noise.next_step)
    if not measured.steady:
        yield Finding(
            "EK507",
            f"{name}: the latency was not steady when warm-up ended.",
            "Stop other work, or raise --warmup.",
        )
    done = len(measured.latency.values)
    if options.runs is not None and done < options.runs:
        hint = f"Raise --max-seconds, or lower --runs to {done}."
        yield Finding(
            "EK508", f"{name}: {done} of {options.runs} runs fitted in {options.seconds:g} s.", hint
        )
    for tensor in opened["inputs"]:
        free = [
            used
            for size, used in zip(tensor["shape"][1:], tensor["used_shape"][1:], strict=True)
            if size is None
        ]
        if free and options.data is None:
            shape = "x".join(str(size) for size in tensor["used_shape"])
            text = f"{name}: the input {tensor['name']} has free dimensions; it was measured at {shape}."
            yield Finding("EK509", text, "Give samples of the real size with --data.")
    kept = measured.sustained
    if kept is not None and kept.ci95 is not None and kept.ci95[0] > _SLOWER:
        yield Finding(
            "EK514",
            f"{name}: under load it became {100 * (kept.ratio - 1):.0f}% slower: {kept.first_ms:.3g} ms in the first "
            f"{kept.window_s:.0f} s, {kept.last_ms:.3g} ms in the last.",
            "Count on the latency of the last minute, or cool the device better.",
        )
    yield from placement.findings(
        opened, name, measured.subject.runtime, options.delegate, xnnpack=options.xnnpack
    )
    if opened["peak_memory_bytes"] is None or "reset" not in opened["peak_memory_method"]:
        yield Finding(
            "EK513", f"{name}: peak memory is {opened['peak_memory_method'] or 'unknown'}.", "", Level.NOTE
        )
