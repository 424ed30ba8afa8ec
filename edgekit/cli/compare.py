"""``edgekit compare``: models side by side on the same samples."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgekit.cli._group import edgekit_command
from edgekit.cli._output import Outcome, command_line, progress

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import RenderableType
    from rich.table import Table

_EPILOG = """\b
Examples:
  edgekit compare float.tflite int8.tflite --data test.npz
  edgekit compare model.keras a.tflite b.tflite --data photos/ --html report.html
  edgekit compare a.onnx b.onnx --data unlabelled.npz --metric agreement
  edgekit compare float.tflite int8.tflite --data test.npz --save run.json --no-latency
"""
_SHOWN_CLASSES = 5
_LEGEND = "* no other model is at least as good in size, latency and {metric}, and better in one"


@edgekit_command(epilog=_EPILOG)
@click.argument("models", nargs=-1, required=True, metavar="MODEL MODEL...", type=click.Path(path_type=Path))
@click.option(
    "--data",
    required=True,
    metavar="DATA",
    help="Samples: .npz, .npy, folder of images, spec, FILE.py:function.",
)
@click.option(
    "--metric", metavar="NAME", help="top1, top5, auc, mse, mae, snr, agreement.  [default: what fits]"
)
@click.option(
    "--reference", metavar="MODEL", help="What snr, agreement and others compare with.  [default: the first]"
)
@click.option("--runtime", metavar="NAME", help="What executes the models.  [default: their formats']")
@click.option("--samples", type=click.IntRange(min=1), metavar="N", help="Only N samples, evenly spread.")
@click.option(
    "--workers", type=click.IntRange(min=1), metavar="N", help="Processes.  [default: one per core]"
)
@click.option(
    "--preprocess", metavar="SPEC", help="Preprocessing contract of the samples; none ignores the lineages'."
)
@click.option("--max-seconds", type=float, metavar="S", help="Time to benchmark each model.  [default: 3]")
@click.option("--no-latency", is_flag=True, help="Do not benchmark the models.")
@click.option("--seed", default=0, show_default=True, help="For the order of measuring, and intervals.")
@click.option(
    "--save",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write all of it as JSON, for `edgekit report`.",
)
@click.option("--html", type=click.Path(path_type=Path), metavar="FILE", help="Write a page that shows it.")
@click.option("--overwrite", is_flag=True, help="Replace files that exist.")
@click.option("--dry-run", is_flag=True, help="Say what would be measured, and stop.")
def command(
    models: tuple[Path, ...],
    data: str,
    *,
    no_latency: bool,
    save: Path | None,
    html: Path | None,
    overwrite: bool,
    dry_run: bool,
    **options: Any,
) -> Outcome:
    """Compare models with the first one on the same samples.

    Size, latency in turn, accuracy with the paired drop and its interval, what broke and what was fixed, per class.
    """
    import edgekit
    from edgekit.files import check_output
    from edgekit.workflows.compare import planned

    for output in (save, html):
        if output is not None:
            check_output(output, overwrite=overwrite)
    if dry_run:
        plan = planned(models, data, latency=not no_latency, **options)
        return Outcome({"dry_run": True, **plan}, view=_steps(plan))
    with progress(f"comparing {len(models)} models") as advance:
        found = edgekit.compare(models, data, latency=not no_latency, progress=advance, **options)
    findings = list(found.findings)
    if save is not None:
        found.save(save)
    if html is not None:
        findings += edgekit.report([found], html, overwrite=True).findings
    result = found.describe()
    written = [f"\nThe same for a browser: {html}"] if html else []
    return Outcome(
        result,
        view=[_table(result), _LEGEND.format(**result), *_classes(result), *written],
        findings=findings,
        next_steps=[command_line("report", save, "--html", "report.html")] if save and not html else (),
    )


def _steps(plan: Mapping[str, Any]) -> list[str]:
    return [
        f"would measure {{metric}} of {{name}} in {{runtime}} on {{n}} samples{latency}".format(**model)
        for model in plan["models"]
        for latency in [" and its latency" if model["benchmark"] else ""]
    ]


def _table(result: Mapping[str, Any]) -> "Table":
    """One row for each model, with the interval of a number under it."""
    from rich.table import Table

    from edgekit.pages import drop_in, milliseconds, value_in

    unit = result["unit"]
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("model", overflow="fold")
    difference = "points" if unit == "fraction" else unit
    value = f"{result['metric']}\nn = {result['n']:,}"
    for heading in ("kB", "gzip", value, f"drop\n{difference}", "broken\nfixed", "median\nms", "times"):
        table.add_column(heading, justify="right")
    for model in result["models"]:
        drop, speed, ratio = model["drop"] or {}, model["benchmark"], model["ratio"]
        latency = speed["latency_ms"] if speed else {}
        table.add_row(
            f"{model['name']} *" if model["pareto"] else model["name"],
            f"{model['artifact']['size_bytes'] / 1000:,.1f}",
            f"{model['artifact']['gzip_bytes'] / 1000:,.1f}",
            _under(model["evaluation"]["value"], model["evaluation"]["ci95"], lambda v: value_in(v, unit)),
            _under(drop.get("drop"), drop.get("drop_ci95"), lambda v: drop_in(v, unit)),
            "-" if drop.get("broken") is None else f"{drop['broken']:,}\n{drop['fixed']:,}",
            _under(latency.get("median"), latency.get("ci95_median"), milliseconds),
            _under(ratio["median_ratio"], ratio["ci95"], lambda v: f"{v:.2f}")
            if ratio
            else "1"
            if speed
            else "-",
        )
    return table


def _classes(result: Mapping[str, Any]) -> "list[RenderableType]":
    """The classes that lost most, over all models."""
    from rich.table import Table

    from edgekit.pages import drop_in

    losses = [
        (item["drop"], model["name"], item)
        for model in result["models"]
        for item in (model["drop"] or {}).get("per_class", ())
        if item["drop"] > 0
    ]
    worst = sorted(losses, key=lambda loss: -loss[0])[:_SHOWN_CLASSES]
    if not worst:
        return []
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("worst classes", overflow="fold")
    table.add_column("model", overflow="fold")
    for heading in ("n", "drop, points", "95% interval", "broken", "fixed"):
        table.add_column(heading, justify="right")
    for _, name, item in worst:
        low, high = (drop_in(end, result["unit"]) for end in item["drop_ci95"])
        counts = (str(item["broken"]), str(item["fixed"]))
        drop = drop_in(item["drop"], result["unit"])
        table.add_row(item["name"], name, str(item["n"]), drop, f"{low} to {high}", *counts)
    return ["", table]


def _under(
    value: float | None, interval: Sequence[float | None] | None, shown: "Callable[[Any], str]"
) -> str:
    """A number with its interval on the line below."""
    if value is None:
        return "-"
    ends = interval or []
    return shown(value) + (f"\n{shown(ends[0])} to {shown(ends[1])}" if ends and None not in ends else "")
