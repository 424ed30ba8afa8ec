"""``edgekit demo``: the whole story on a small real model."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgekit.cli._group import edgekit_command
from edgekit.cli._output import Outcome, progress, say

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from rich.table import Table

_EPILOG = """\b
Examples:
  edgekit demo
  edgekit demo /tmp/digits --overwrite
  edgekit demo --json > demo.json
"""


@edgekit_command(epilog=_EPILOG)
@click.argument("folder", default="edgekit-demo", metavar="[DIR]", type=click.Path(path_type=Path))
@click.option("--overwrite", is_flag=True, help="Replace the files of an earlier demo in DIR.")
@click.option("--seed", default=0, show_default=True, help="Chooses samples, and the order of measuring.")
@click.option("--dry-run", is_flag=True, help="Print the commands that it stands for, and stop.")
def command(folder: Path, overwrite: bool, seed: int, dry_run: bool) -> Outcome:
    """Quantize, evaluate and benchmark a small real model, offline.

    It takes about a minute. A network for handwritten digits becomes float16, dynamic-range int8 and full int8
    files. One table and one HTML page show size, accuracy and latency with their intervals. DIR is
    ./edgekit-demo unless given.
    """
    from edgekit.workflows.demo import demo, planned

    if dry_run:
        commands = planned(seed=seed)
        return Outcome({"dry_run": True, "commands": list(commands)}, ["\n".join(commands)])
    with progress("edgekit demo") as advance:
        result = demo(folder, overwrite=overwrite, seed=seed, tell=_tell, progress=advance)
    document = result.describe()
    page = f"\nThe same for a browser: {result.page}"
    return Outcome(document, [_table(document["models"]), page], result.findings, next_steps=document["next"])


def _tell(command_line: str) -> None:
    say(f"$ {command_line}")


def _table(models: "Sequence[Mapping[str, Any]]") -> "Table":
    """One row for each file, with the interval of a number under it."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold", leading=1)
    table.add_column("model")
    count = models[0]["evaluation"]["n"]
    for heading in ("kB", "gzip", f"top-1\nn = {count}", "drop\npoints", "median\nms", "times\nfloat32"):
        table.add_column(heading, justify="right")
    table.add_column("made by")
    for model in models:
        table.add_row(*_cells(model))
    return table


def _cells(model: "Mapping[str, Any]") -> list[str]:
    from edgekit.pages import milliseconds

    judged, latency, ratio = model["evaluation"], model["latency_ms"], model["ratio"]
    cells = [
        Path(model["artifact"]["path"]).name,
        f"{model['artifact']['size_bytes'] / 1000:.1f}",
        f"{model['artifact']['gzip_bytes'] / 1000:.1f}",
        _under(judged["value"], judged["ci95"], lambda share: f"{100 * share:.2f}%"),
        _under(judged.get("drop"), judged.get("drop_ci95"), lambda share: f"{100 * share:+.2f}"),
    ]
    if latency is None:
        return [*cells, "-", "-", "shipped"]
    times = "1" if ratio is None else _under(ratio["median_ratio"], ratio["ci95"], lambda part: f"{part:.2f}")
    median = _under(latency["median"], latency["ci95_median"], milliseconds)
    return [*cells, median, times, model["engine"] or "shipped"]


def _under(value: float | None, interval: "Sequence[float] | None", shown: "Callable[[float], str]") -> str:
    """A number with its interval on the line below."""
    if value is None:
        return "-"
    return shown(value) + ("" if interval is None else f"\n{shown(interval[0])} to {shown(interval[1])}")
