"""``edgekit benchmark``: how fast models are on this machine."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgekit.cli._group import edgekit_command
from edgekit.cli._output import Outcome, command_line, progress

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from edgekit.interleaved import BenchmarkOptions, Subject
    from edgekit.measurement import Measurement
    from edgekit.verbs.benchmark import Benchmark, ModelBenchmark

_EXAMPLES = """\b
Examples:
  edgekit benchmark model.tflite
  edgekit benchmark float.tflite int8.tflite --threads 2
  edgekit benchmark model.onnx --runs 500 --save model.json
  edgekit benchmark model.tflite --require-stable --json
"""
_BARS = "▁▂▃▄▅▆▇█"
_INCONCLUSIVE = 6


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
    one is the baseline.
    """
    from edgekit.files import check_output
    from edgekit.interleaved import BenchmarkOptions
    from edgekit.verbs.benchmark import benchmark, subjects

    warmup = chosen.pop("warmup")
    options = BenchmarkOptions(
        warmup_runs=None if warmup == "auto" else warmup, xnnpack=not chosen.pop("no_xnnpack"), **chosen
    )
    if save is not None:
        check_output(save, overwrite=overwrite)
    if dry_run:
        return _plan(subjects(models, options), options)
    with progress("measuring") as advance:
        result = benchmark(models, options, progress=advance)
    if save is not None:
        result.record().save(save)
    inconclusive = require_stable and not result.stable
    return Outcome(
        result.describe(),
        view=_view(result),
        findings=result.findings,
        status="inconclusive" if inconclusive else "ok",
        exit_code=_INCONCLUSIVE if inconclusive else 0,
        next_steps=_next_steps(models),
    )


def _plan(chosen: "Sequence[Subject]", options: "BenchmarkOptions") -> Outcome:
    runs = "as many runs as fit" if options.runs is None else f"{options.runs} runs"
    warmup = "until steady" if options.warmup_runs is None else f"{options.warmup_runs} runs"
    steps = [
        f"{subject.artifact.path} in {subject.runtime}, {options.threads} thread(s), "
        f"warm-up {warmup}, then {runs} in at most {options.seconds:g} s"
        for subject in chosen
    ]
    return Outcome({"dry_run": True, "steps": steps}, view=[f"would measure {step}" for step in steps])


def _next_steps(models: tuple[Path, ...]) -> list[str]:
    if len(models) > 1:
        return []
    command = command_line("benchmark", models[0], "OTHER_MODEL")
    return [f"{command} measures both in turn and gives their ratio"]


def _view(result: "Benchmark") -> "list[RenderableType]":
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, heading in enumerate(
        ("model", "kB", "load ms", "first", "median", "95% interval", "p90", "p99", "peak MB")
    ):
        table.add_column(heading, justify="right" if number else "left", no_wrap=number > 0, overflow="fold")
    for model in result.models:
        table.add_row(*_row(model))
    parts: list[RenderableType] = [table, ""]
    for model in result.models:
        facts = f"{len(model.latency.values)} runs, {_where(model)}, {model.noise.verdict}"
        parts.append(f"{histogram(model.latency)}  {model.subject.artifact.path.name}: {facts}")
    for entry in result.ratios:
        interval = f" (95%: {entry.ci95[0]:.3f} to {entry.ci95[1]:.3f})" if entry.ci95 else ""
        names = Path(entry.candidate).name, Path(entry.baseline).name
        parts.append(f"{names[0]} takes {entry.median_ratio:.3f} times as long as {names[1]}{interval}")
    return parts


def _where(model: "ModelBenchmark") -> str:
    """The runtime, with XNNPACK where there is one."""
    with_delegate = {"xnnpack": " with XNNPACK", "none": " without XNNPACK"}
    return model.subject.runtime + with_delegate.get(model.opened["delegate"], "")


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
