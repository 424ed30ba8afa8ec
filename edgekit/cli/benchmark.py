"""``edgekit benchmark``: how fast models are, on this machine or on devices."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgekit.cli._devices import (
    Duration,
    Processors,
    chosen_delegate,
    chosen_devices,
    device_options,
    findings_of,
)
from edgekit.cli._group import edgekit_command
from edgekit.cli._output import Outcome, command_line, progress
from edgekit.cli._per_op import operator_times
from edgekit.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import RenderableType

    from edgekit.devices.device import Device
    from edgekit.findings import Finding
    from edgekit.interleaved import BenchmarkOptions, Subject
    from edgekit.measurement import Measurement
    from edgekit.verbs.benchmark import Benchmark, ModelBenchmark
    from edgekit.workflows.benchmark_on_devices import DeviceBenchmark

_EXAMPLES = """\b
Examples:
  edgekit benchmark model.tflite
  edgekit benchmark float.tflite int8.tflite --threads 2
  edgekit benchmark model.onnx --runs 500 --save model.json
  edgekit benchmark int8.tflite --per-op
  edgekit benchmark model.tflite --require-stable --json
  edgekit benchmark model.tflite --device pi4 --device pi5
  edgekit benchmark model.tflite --device pi4 --sustained 10m --cpu-affinity 2,3
"""
_BARS = "▁▂▃▄▅▆▇█"
_INCONCLUSIVE = 6
_MISPLACED = 4


class _Warmup(click.ParamType):  # type: ignore[type-arg] # generic only since click 8.4
    """A number of runs, or ``auto``."""

    name = "N|auto"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        if value == "auto":
            return "auto"
        return int(click.INT.convert(value, param, ctx))


@edgekit_command(epilog=_EXAMPLES)
@click.argument("models", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="MODEL...")
@click.option("--runs", type=int, help="Timed runs per model.  [default: as many as fit in the time]")
@click.option(
    "--warmup", type=_Warmup(), default="auto", show_default=True, help="Warm-up runs; auto: until steady."
)
@click.option(
    "--max-seconds", type=float, help="Time for the timed runs of a model.  [default: 3, with --runs 60]"
)
@click.option("--threads", type=int, default=1, show_default=True, help="Threads that the runtime may use.")
@click.option(
    "--runtime", metavar="NAME", help="litert, onnxruntime or tflite_runtime.  [default: by format]"
)
@click.option("--no-xnnpack", is_flag=True, help="Run .tflite files on the built-in kernels.")
@device_options
@click.option(
    "--sustained",
    "sustained_s",
    type=Duration(),
    metavar="DURATION",
    help="Keep the machine under load for so long, and compare the first minute with the last.",
)
@click.option(
    "--cooldown",
    type=click.Choice(["none", "auto"]),
    default="none",
    show_default=True,
    help="auto: where a device throttled, wait until it is cool and measure again.",
)
@click.option(
    "--benchmark-model",
    metavar="auto|PATH",
    help="Run Google's benchmark_model, where the device has it, on the same files too.",
)
@click.option(
    "--cpu-affinity", type=Processors(), metavar="CPUS", help="Run on these processors: 2,3 or 0-3."
)
@click.option(
    "--require-placement",
    type=click.FloatRange(0, 100),
    metavar="PCT",
    help="Exit with 4 where less than this share of the operators is accelerated.",
)
@click.option("--per-op", is_flag=True, help="Ask the runtime's profiler how long each operator takes, too.")
@click.option("--data", metavar="DATA", help="Samples to run on, as for evaluate.  [default: random]")
@click.option(
    "--seed", type=int, default=0, show_default=True, help="For random inputs, order and intervals."
)
@click.option("--save", type=click.Path(path_type=Path), help="Write every raw sample to this JSON file.")
@click.option("--overwrite", is_flag=True, help="Replace the file of --save.")
@click.option("--require-stable", is_flag=True, help="Exit with 6 where the latencies are not stable.")
@click.option("--dry-run", is_flag=True, help="Say what would be measured, and stop.")
def command(
    models: tuple[Path, ...],
    save: Path | None,
    overwrite: bool,
    require_stable: bool,
    dry_run: bool,
    **chosen: Any,
) -> Outcome:
    """Measure latency and its noise, load time and memory.

    Several models are measured in turn, so that their ratios hold when the machine is uneven. The first
    one is the baseline. On a device the model is sent once, runs in the runtime that edgekit device setup put
    there, and every raw sample comes back; a device that throttled meanwhile gives exit status 6.
    """
    from edgekit.devices.device import Device
    from edgekit.files import check_output
    from edgekit.interleaved import BenchmarkOptions
    from edgekit.verbs.benchmark import benchmark, subjects
    from edgekit.workflows.benchmark_on_devices import DeviceBenchmark, benchmark_on_devices

    cooldown, required = chosen.pop("cooldown") == "auto", chosen.pop("require_placement")
    devices = chosen_devices(chosen.pop("devices"))
    tool = chosen.pop("benchmark_model")
    if tool is not None and not devices:
        raise UsageError("EK522", "--benchmark-model is for devices.", "Add --device NAME.")
    if chosen["per_op"] and devices:
        raise UsageError("EK522", "--per-op is for this machine.", "Leave out --device.")
    warmup, affinity = chosen.pop("warmup"), chosen.pop("cpu_affinity")
    options = BenchmarkOptions(
        warmup_runs=None if warmup == "auto" else warmup,
        xnnpack=not chosen.pop("no_xnnpack"),
        delegate=chosen_delegate(chosen.pop("delegate")),
        cpu_affinity=affinity or (),
        **chosen,
    )
    if save is not None:
        check_output(save, overwrite=overwrite)
        if len(devices) > 1:
            raise UsageError(
                "EK522", "--save takes the samples of one device.", "Measure one device at a time."
            )
    if dry_run:
        # What a device has is not asked now.
        known = replace(options, runtime=None) if devices else options
        return _plan(subjects(models, known), options, devices)
    if not devices:
        with progress("measuring") as advance:
            here = benchmark(models, options, progress=advance)
        found: Sequence[DeviceBenchmark] = [DeviceBenchmark(Device("local", "local"), here)]
    else:
        with progress("measuring") as advance:
            found = benchmark_on_devices(
                models, devices, options, cooldown=cooldown, reference_tool=tool, progress=advance
            )
    if save is not None and found[0].benchmark is not None:
        found[0].benchmark.record().save(save)
    return _outcome(models, found, require_stable=require_stable, required=required)


def _outcome(
    models: tuple[Path, ...],
    found: "Sequence[DeviceBenchmark]",
    *,
    require_stable: bool,
    required: float | None,
) -> Outcome:
    from edgekit.findings import Finding, Level

    results = [one.benchmark for one in found if one.benchmark is not None]
    failures = [one for one in found if one.benchmark is None]
    findings = findings_of({result.device: result.findings for result in results})
    throttled = [result.device for result in results if result.throttled and result.device != "local"]
    for device in throttled:
        text = f"{device} throttled while it was measured: the numbers are not those of a cool device."
        findings.append(Finding("EK864", text, "--cooldown auto waits and measures again."))
    inconclusive = bool(throttled) or (require_stable and not all(result.stable for result in results))
    misplaced = [] if required is None else list(_misplaced(results, required))
    findings += misplaced
    findings += [
        Finding(one.error.code, one.error.message, one.error.hint, Level.ERROR)
        for one in failures
        if one.error
    ]
    code, status = (_INCONCLUSIVE, "inconclusive") if inconclusive else (0, "ok")
    if misplaced:
        code, status = _MISPLACED, "failed"
    if failures and failures[0].error is not None:
        code, status = failures[0].error.exit_code, "failed"
    documents = [one.describe() for one in found]
    return Outcome(
        documents[0] if len(documents) == 1 else {"devices": documents},
        view=[*_view(results, failures), *(line for one in found for line in _tool_view(one))],
        findings=findings,
        status=status,
        exit_code=code,
        next_steps=_next_steps(models),
    )


def _misplaced(results: "Sequence[Benchmark]", required: float) -> "Iterator[Finding]":
    from edgekit.findings import Finding, Level

    for result in results:
        for model in result.models:
            placement = model.opened["placement"]
            if placement is None:
                told = f"{model.subject.runtime} does not tell what is accelerated"
            elif placement["accelerated_pct"] is None:
                told = "it is not known how many of the operators are accelerated"
            elif placement["accelerated_pct"] < required:
                told = f"{placement['accelerated_pct']:g}% of the operators is accelerated"
            else:
                continue
            name = f"{model.subject.artifact.path.name} on {result.device}"
            text = f"{name}: {told}; {required:g}% is required."
            yield Finding("EK515", text, "See placement in --json for the operators outside.", Level.ERROR)


def _plan(chosen: "Sequence[Subject]", options: "BenchmarkOptions", devices: "Sequence[Device]") -> Outcome:
    runs = "as many runs as fit" if options.runs is None else f"{options.runs} runs"
    warmup = "until steady" if options.warmup_runs is None else f"{options.warmup_runs} runs"
    steps = [
        f"{subject.artifact.path} in {options.runtime or subject.runtime}, {options.threads} thread(s), "
        f"warm-up {warmup}, then {runs} in at most {options.seconds:g} s{place}"
        for place in ([f" on {device.name} ({device.url})" for device in devices] or [""])
        for subject in chosen
    ]
    return Outcome({"dry_run": True, "steps": steps}, view=[f"would measure {step}" for step in steps])


def _next_steps(models: tuple[Path, ...]) -> list[str]:
    if len(models) > 1:
        return []
    command = command_line("benchmark", models[0], "OTHER_MODEL")
    return [f"{command} measures both in turn and gives their ratio"]


def _tool_view(found: "DeviceBenchmark") -> list[str]:
    return [
        f"{said.program} says {said.mean_ms:.3f} ms on average, first {said.first_inference_ms:.3f}, "
        f"init {said.init_ms:.1f}"
        for said in found.reference
    ]


def _view(
    results: "Sequence[Benchmark]", failures: "Sequence[DeviceBenchmark]" = ()
) -> "list[RenderableType]":
    """One table for all devices, then what each model did on each."""
    from rich.table import Table

    several = len(results) + len(failures) > 1
    table = Table(box=None, pad_edge=False, header_style="bold")
    if several:
        table.add_column("device")
    for number, heading in enumerate(
        ("model", "kB", "load ms", "first", "median", "95% interval", "p90", "p99", "peak MB")
    ):
        table.add_column(heading, justify="right" if number else "left", no_wrap=number > 0, overflow="fold")
    parts: list[RenderableType] = [table, ""]
    for result in results:
        for model in result.models:
            table.add_row(*([result.device] if several else []), *_row(model))
        parts.extend(_details(result))
    for failure in failures:
        table.add_row(failure.device.name, "failed")
    return parts


def _details(result: "Benchmark") -> "Iterator[RenderableType]":
    for model in result.models:
        facts = f"{len(model.latency.values)} runs, {_where(model)}, {model.noise.verdict}"
        yield f"{histogram(model.latency)}  {model.subject.artifact.path.name}: {facts}"
        yield from _course(model)
        if model.profile is not None:
            yield operator_times(model.subject.artifact.path.name, model.profile)
    for entry in result.ratios:
        interval = f" (95%: {entry.ci95[0]:.3f} to {entry.ci95[1]:.3f})" if entry.ci95 else ""
        names = Path(entry.candidate).name, Path(entry.baseline).name
        yield f"{names[0]} takes {entry.median_ratio:.3f} times as long as {names[1]}{interval}"


def _course(model: "ModelBenchmark", width: int = 60) -> list[str]:
    """The latency over the time of a sustained run, and what the last minute is to the first."""
    import numpy as np

    kept = model.sustained
    if kept is None:
        return []
    medians = [
        float(np.median(part)) for part in np.array_split(model.latency.block_medians, width) if len(part)
    ]
    low, high = min(medians), max(medians)
    steps = [round((value - low) / (high - low) * (len(_BARS) - 1)) if high > low else 0 for value in medians]
    interval = f" (95%: {kept.ci95.low:.3f} to {kept.ci95.high:.3f})" if kept.ci95 else ""
    line = "".join(_BARS[step] for step in steps)
    return [
        f"{line}  {_number(low / 1e6)} to {_number(high / 1e6)} ms over {kept.seconds:.0f} s under load",
        f"last {kept.window_s:.0f} s: {kept.ratio:.3f} times the first{interval}",
    ]


def _where(model: "ModelBenchmark") -> str:
    """The runtime, with XNNPACK where there is one."""
    with_delegate = {"xnnpack": " with XNNPACK", "none": " without XNNPACK", "gpu": " on its GPU"}
    place = "" if model.device == "local" else f" on {model.device}"
    return model.subject.runtime + place + with_delegate.get(model.opened["delegate"], "")


def _row(model: "ModelBenchmark") -> list[str]:
    facts = model.describe()
    latency = facts["latency_ms"]
    interval, memory = latency["ci95_median"], facts["peak_memory_bytes"]
    return [
        Path(facts["model"]).name,
        f"{facts['model_size_bytes'] / 1000:.1f}",
        f"{facts['load_ms']:.1f}",
        _number(facts["first_inference_ms"]),
        _number(latency["median"]),
        "-" if interval is None else f"{_number(interval[0])}-{_number(interval[1])}",
        _number(latency["p90"]),
        _number(latency["p99"]),
        "unknown" if memory is None else f"{memory / 1e6:.1f}",
    ]


def _number(value_ms: float) -> str:
    """Milliseconds with about three significant digits and without an exponent."""
    return f"{value_ms:.{2 if value_ms >= 1 else 3 if value_ms >= 0.1 else 4}f}"


def histogram(latency: "Measurement", width: int = 32) -> str:
    """The distribution from the least latency to p99 in one line: ``0.101 ▁█▅▂▁ 0.140 ms``.

    Heights are square roots of the counts, or a tail of one run in a hundred could not be seen.
    """
    import numpy as np

    low, high = float(latency.values.min()), latency.percentile(99)
    if high <= low:
        return f"{_number(low / 1e6)} {_BARS[-1]} {_number(high / 1e6)} ms"
    counts, _ = np.histogram(latency.values, bins=width, range=(low, high))
    heights = np.ceil(np.sqrt(counts / counts.max()) * len(_BARS)).astype(int)
    bars = "".join(_BARS[height - 1] if height else " " for height in heights)
    return f"{_number(low / 1e6)} {bars} {_number(high / 1e6)} ms"
