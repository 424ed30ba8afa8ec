"""``edgekit compat``: what of a model a target would accelerate, before anything is run."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgekit.cli._group import edgekit_command
from edgekit.cli._output import Outcome, command_line, progress
from edgekit.cli._reports import report_options, reporting

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from edgekit.verbs.compat import Compatibility

_EPILOG = """\b
Exit codes: 0, or 4 where operators do not run there or fewer are accelerated than --min-placement asks for.

\b
Examples:
  edgekit compat model.tflite -t raspberry-pi-5
  edgekit compat int8.tflite -t ethos-u55-128 --min-placement 100
  edgekit compat model.onnx -t linux-x86-64 --ops
  edgekit compat int8.tflite -t coral-edgetpu --sarif compat.sarif
"""
_REFUSED = 4


@edgekit_command(epilog=_EPILOG)
@click.argument("model", type=click.Path(path_type=Path))
@click.option("-t", "--target", required=True, metavar="NAME|FILE.toml", help="What it is for.")
@click.option(
    "--min-placement",
    type=click.FloatRange(0, 100),
    metavar="PCT",
    help="Fail where fewer percent of the operators would be accelerated.",
)
@click.option("--ops", is_flag=True, help="List every operator in the order in which they run.")
@report_options
@click.option("--overwrite", is_flag=True, help="Replace reports that exist.")
def command(
    model: Path, *, target: str, min_placement: float | None, ops: bool, overwrite: bool, **options: Any
) -> Outcome:
    """Say op by op where MODEL would run on a target, and why.

    Each operator is accelerated, stays on the CPU, is unsupported, or nothing is known of it; with the reason and
    what to change. Nothing is run: it is a prediction by rules.
    """
    import edgekit

    with reporting(options, overwrite=overwrite) as reported:
        with progress(f"reading {model.name}"):
            found = edgekit.compat(model, target=target)
        return reported(_outcome(found, model, min_placement, ops=ops))


def _outcome(found: "Compatibility", model: Path, required: float | None, *, ops: bool) -> Outcome:
    from edgekit.accelerators import Place
    from edgekit.findings import Finding, Level

    findings = list(found.findings)
    is_short = required is not None and found.placed_pct < required
    if is_short:
        text = f"{found.placed_pct:.1f}% of the operators of {model} would be accelerated; {required:g}% is required."
        findings.append(Finding("EK376", text, "The findings above say why.", Level.ERROR))
    is_refused = any(one.verdict.place is Place.UNSUPPORTED for one in found.placed)
    failed = is_short or is_refused
    return Outcome(
        found.describe(),
        [*_summary(found), *([_listed(found)] if ops else [])],
        findings,
        status="failed" if failed else "ok",
        exit_code=_REFUSED if failed else 0,
        next_steps=[] if ops else [command_line("compat", model, "-t", found.target.name, "--ops")],
    )


def _summary(found: "Compatibility") -> "Sequence[str | Table]":
    taken = f"{found.placed_pct:.1f}% of {len(found.placed)} operators"
    if found.placed_macs_pct is not None:
        taken += f", {found.placed_macs_pct:.1f}% of the MACs,"
    lines = [f"{found.artifact.path} on {found.target.name}: {taken} would run in {found.rules}."]
    if found.activation_bytes is not None:
        lines.append(f"Inner tensors take at least {found.activation_bytes:,} bytes.")
    return [*lines, _by_kind(found)]


def _by_kind(found: "Compatibility") -> "Table":
    from rich.table import Table
    from rich.text import Text

    groups: dict[tuple[str, str, str], list[int]] = {}
    for one in found.placed:
        key = one.operator.kind, one.verdict.place.value, one.verdict.reason
        groups.setdefault(key, []).append(one.macs or 0)
    table = Table()
    for heading in ("operator", "count", "where", "MACs", "why"):
        table.add_column(
            heading, justify="right" if heading in {"count", "MACs"} else "left", overflow="fold"
        )
    for (kind, place, reason), counts in groups.items():
        cells = kind, str(len(counts)), place, f"{sum(counts):,}" if sum(counts) else "", reason
        table.add_row(*map(Text, cells))
    return table


def _listed(found: "Compatibility") -> "Table":
    from rich.table import Table
    from rich.text import Text

    table = Table()
    for heading in ("#", "operator", "name", "where", "why", "what to change"):
        table.add_column(heading, overflow="fold")
    for position, one in enumerate(found.placed):
        verdict = one.verdict
        cells = (
            str(position),
            one.operator.kind,
            one.name,
            verdict.place.value,
            verdict.reason,
            verdict.advice,
        )
        table.add_row(*map(Text, cells))
    return table
