"""``edgekit baseline``: what later models are judged by, made, shown and replaced."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgekit.cli._group import edgekit_command
from edgekit.cli._output import Outcome, command_line, progress

if TYPE_CHECKING:
    from rich.console import RenderableType

    from edgekit.baseline import Baseline

_EPILOG = """\b
Examples:
  edgekit baseline create model.keras --data test.npz -o baseline.json
  edgekit baseline show baseline.json
  edgekit baseline promote candidate.json baseline.json
"""


_CREATE_EPILOG = """\b
Examples:
  edgekit baseline create model.keras --data test.npz -o baseline.json
  edgekit baseline create model.tflite --data test.npz --metric snr --reference model.keras -o baseline.json
"""
_SHOW_EPILOG = "Example: edgekit baseline show baseline.json"
_PROMOTE_EPILOG = """\b
Examples:
  edgekit check model.tflite --baseline baseline.json --save-candidate candidate.json
  edgekit baseline promote candidate.json baseline.json
"""


@click.group(epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Keep what a model did on every sample, to judge later ones.

    A baseline is one JSON file for your repository: predictions, latencies and conditions, not only means.
    """


@edgekit_command(name="create", epilog=_CREATE_EPILOG)
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--data", required=True, metavar="DATA", help="Samples with labels, as for `edgekit evaluate`.")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The baseline's file.")
@click.option("--metric", metavar="NAME", help="As for `edgekit evaluate`.  [default: what fits]")
@click.option("--reference", metavar="MODEL", help="What snr, agreement, mse and mae compare with.")
@click.option("--runtime", metavar="NAME", help="What executes the model.  [default: its format's]")
@click.option("--samples", type=click.IntRange(min=1), metavar="N", help="Only N samples, evenly spread.")
@click.option(
    "--workers", type=click.IntRange(min=1), metavar="N", help="Processes.  [default: one per core]"
)
@click.option("--preprocess", metavar="SPEC", help="Preprocessing contract of the samples.")
@click.option("--latency/--no-latency", default=True, help="Benchmark the model too.  [default: yes]")
@click.option("--max-seconds", type=float, metavar="S", help="Time for the benchmark.  [default: 3]")
@click.option("--overwrite", is_flag=True, help="Replace a file that exists.")
def create(model: Path, data: str, output: Path, **options: Any) -> Outcome:
    """Measure MODEL on every sample and keep all of it."""
    import edgekit

    with progress(f"evaluating {model.name}") as advance:
        made, findings = edgekit.create_baseline(model, data, output, progress=advance, **options)
    next_step = command_line("check", "CANDIDATE", "--baseline", output)
    return Outcome(_result(made, output), view=_view(made), findings=findings, next_steps=[next_step])


@edgekit_command(name="show", epilog=_SHOW_EPILOG)
@click.argument("file", type=click.Path(path_type=Path))
def show(file: Path) -> Outcome:
    """Say what a baseline holds."""
    import edgekit

    found = edgekit.Baseline.read(file)
    return Outcome(_result(found, file), view=_view(found))


@edgekit_command(name="promote", epilog=_PROMOTE_EPILOG)
@click.argument("candidate", type=click.Path(path_type=Path))
@click.argument("baseline", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Also where the check did not pass, or was of another baseline.")
def promote(candidate: Path, baseline: Path, *, force: bool) -> Outcome:
    """Put a checked CANDIDATE in the place of BASELINE.

    CANDIDATE is what `edgekit check --save-candidate` wrote; the old baseline is noted in the new one's history.
    """
    import edgekit

    found = edgekit.promote(candidate, baseline, force=force)
    return Outcome(_result(found, baseline), view=[f"promoted to {baseline}", *_view(found)])


for subcommand in (create, show, promote):
    command.add_command(subcommand)


def _result(baseline: "Baseline", path: Path) -> dict[str, Any]:
    record = baseline.benchmark
    latency = None
    if record is not None:
        from edgekit.measurement import latency_ms

        facts, measured = record.models[0]
        latency = {
            "latency_ms": latency_ms(measured),
            "runtime": facts.get("runtime"),
            "threads": facts.get("threads"),
            "conditions": record.before.describe(),
        }
    return {"path": str(path), **baseline.summary(), "latency": latency}


def _view(baseline: "Baseline") -> "list[RenderableType]":
    from rich.table import Table

    from edgekit.measurement import latency_ms

    model, unit = baseline.model, baseline.unit
    low, high = (_shown(end, unit) for end in baseline.ci95)
    rows = {
        "model": f"{model['path']} ({model['format']}, sha256 {model['sha256'][:12]})",
        "size": f"{model['size_bytes']:,} bytes, {model['gzip_bytes']:,} after gzip",
        "data": f"{baseline.data}, {baseline.n:,} samples",
        baseline.metric: f"{_shown(baseline.value, unit)} (95% {low} to {high}) in {baseline.runtime}",
        "latency": "none",
        "made": f"{baseline.created} by edgekit {baseline.edgekit_version}",
    }
    if baseline.benchmark is not None:
        facts, latency = baseline.benchmark.models[0]
        median = latency_ms(latency)["median"]
        machine = baseline.benchmark.before.cpu_model or "an unknown processor"
        rows["latency"] = (
            f"{median:.3f} ms median in {facts['runtime']}, {facts['threads']} thread(s), {machine}"
        )
    if baseline.reference is not None:
        rows["reference"] = str(baseline.reference["path"])
    if baseline.lineage is not None:
        rows["lineage"] = f"{baseline.lineage.get('recipe')} from {baseline.lineage.get('source_path')}"
    if baseline.history:
        last = baseline.history[-1]
        rows["before it"] = (
            f"{len(baseline.history)}, last {last['model_path']} at {_shown(last['value'], unit)}"
        )
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold")
    table.add_column()
    for name, value in rows.items():
        table.add_row(name, value)
    return [table]


def _shown(value: float | str, unit: str) -> str:
    number = float(value)
    if unit == "fraction":
        return f"{100 * number:.2f}%"
    return f"{number:.2f} dB" if unit == "dB" else f"{number:.6g}"
