"""Benchmarks on devices: several side by side, cooled where they are too hot, judged by whether they held out."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgekit import benchmark_model
from edgekit.bench import DeviceBench
from edgekit.benchmark_model import BenchmarkModelResult
from edgekit.devices.device import Device
from edgekit.devices.shell import Shell
from edgekit.errors import DependencyError, EdgekitError
from edgekit.findings import Finding
from edgekit.formats import open_artifact
from edgekit.interleaved import BenchmarkOptions
from edgekit.measurement import Conditions
from edgekit.side_by_side import side_by_side
from edgekit.verbs.benchmark import Benchmark, benchmark

_ATTEMPTS = 3
_LONGEST_S = 600.0
_LOOK_EVERY_S = 5.0
# Without a thermometer nobody knows when it has cooled.
_BLIND_S = 60.0
_WARMER_C = 2.0
_THROTTLED_NOW = 0xF


@dataclass(frozen=True)
class DeviceBenchmark:
    """What came of one device: its benchmark, or why there is none."""

    device: Device
    benchmark: Benchmark | None = None
    error: EdgekitError | None = None
    reference: tuple[BenchmarkModelResult, ...] = ()

    def describe(self) -> dict[str, Any]:
        """The result as it stands in JSON documents; ``benchmark_model`` has what that tool says of each model."""
        if self.benchmark is not None:
            said = [one.describe() for one in self.reference]
            return {**self.benchmark.describe(), **({"benchmark_model": said} if said else {})}
        return {"device": self.device.name, "error": None if self.error is None else self.error.describe()}


def benchmark_on_devices(
    models: Sequence[Path],
    devices: Sequence[Device],
    options: BenchmarkOptions | None = None,
    *,
    cooldown: bool = False,
    reference_tool: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[DeviceBenchmark, ...]:
    """Measure models on devices.

    Args:
        models: One or more ``.tflite`` or ``.onnx`` files.
        devices: Where to measure, side by side.
        options: What to measure.
        cooldown: Where a device throttled, wait until it is cool and measure again, up to three times.
        reference_tool: Where the devices have Google's benchmark_model, to be run on the same files too;
            "auto" looks for it.
        progress: Told the rounds that are done and their number, over all devices.

    Returns:
        One result per device, in their order. With several, one that fails has its error in its place.

    Raises:
        EdgekitError: With one device, what went wrong; else only what is wrong before any device is asked.
    """
    options = options or BenchmarkOptions()
    for path in models:
        open_artifact(Path(path))

    def job(device: Device) -> Callable[[Callable[[int, int], None]], DeviceBenchmark]:
        def work(report: Callable[[int, int], None]) -> DeviceBenchmark:
            found = _cooled(models, device, options, cooldown=cooldown, progress=report)
            said = () if reference_tool is None else _reference(found, device, reference_tool)
            return DeviceBenchmark(device, found, reference=said)

        return work

    found = side_by_side([job(device) for device in devices], progress)
    return tuple(
        DeviceBenchmark(device, error=result) if isinstance(result, EdgekitError) else result
        for device, result in zip(devices, found, strict=True)
    )


def _reference(found: Benchmark, device: Device, asked: str) -> tuple[BenchmarkModelResult, ...]:
    """What Google's tool says of the same files.

    Raises:
        DependencyError: The device has no such program.
    """
    with Shell(device) as shell:
        program = benchmark_model.find(shell, None if asked == "auto" else asked)
        if program is None:
            raise DependencyError(
                "EK866",
                f"{device.name} has no benchmark_model{'' if asked == 'auto' else f' at {asked}'}.",
                "Push Google's program there, for example to /data/local/tmp, and make it executable.",
            )
        paths = [model.subject.path or str(model.subject.artifact.path) for model in found.models]
        threads = found.models[0].options.threads
        return tuple(benchmark_model.run(shell, program, path, threads) for path in paths)


def _cooled(
    models: Sequence[Path],
    device: Device,
    options: BenchmarkOptions,
    *,
    cooldown: bool,
    progress: Callable[[int, int], None],
) -> Benchmark:
    found = benchmark(models, options, bench=DeviceBench(device, options.delegate), progress=progress)
    waited: list[Finding] = []
    for attempt in range(2, _ATTEMPTS + 1):
        if not (cooldown and found.throttled):
            break
        seconds = _cool_down(device, models[0], found.before, options)
        text = f"{device.name} throttled; after {seconds:.0f} s of cooling it was measured again (attempt {attempt})."
        waited.append(Finding("EK863", text, "The numbers are those of the last attempt."))
        found = benchmark(models, options, bench=DeviceBench(device, options.delegate), progress=progress)
    return replace(found, findings=(*waited, *found.findings))


def _cool_down(device: Device, model: Path, start: Conditions, options: BenchmarkOptions) -> float:
    """Wait until the device is as cool as it was, ten minutes at most; returns the seconds."""
    started = time.monotonic()
    with DeviceBench(device, options.delegate) as bench:
        bench.subject(open_artifact(Path(model)), options.runtime)
        while (seconds := time.monotonic() - started) < _LONGEST_S:
            now = bench.conditions([], 0.0)
            hot = bool((now.throttle_flags or 0) & _THROTTLED_NOW)
            if now.temperature_c is None or start.temperature_c is None:
                hot = hot or seconds < _BLIND_S
            else:
                hot = hot or now.temperature_c > start.temperature_c + _WARMER_C
            if not hot:
                break
            time.sleep(_LOOK_EVERY_S)
    return time.monotonic() - started
