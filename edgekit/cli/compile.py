"""``edgekit compile``: a model for an accelerator."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgekit.cli._group import edgekit_command
from edgekit.cli._output import Outcome, progress

if TYPE_CHECKING:
    from rich.table import Table

    from edgekit.verbs.compile import Compiled

_EPILOG = """\b
Examples:
  edgekit compile int8.tflite -t ethos-u55-128 -o npu.tflite
  edgekit compile int8.tflite -t ethos-u85-256 -o npu.tflite --min-placement 100
  edgekit compile int8.tflite -t ethos-u55-128 --set accelerator_config=ethos-u55-32 -o npu.tflite
  edgekit compile int8.tflite -t microcontroller-tflm -o model.c
  edgekit compile model.keras -t ios-coreml -o model.mlpackage
"""
_LISTED = 12


def _settings(_context: click.Context, _parameter: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    pairs = [text.partition("=") for text in given]
    for text, (key, _, value) in zip(given, pairs, strict=True):
        if not (key and value):
            raise click.BadParameter(f"{text!r} is not of the form KEY=VALUE.")
    return {key.strip(): value.strip() for key, _, value in pairs}


@edgekit_command(epilog=_EPILOG)
@click.argument("model", type=click.Path(path_type=Path))
@click.option("-t", "--target", required=True, metavar="NAME|FILE.toml", help="What it is for.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    help="File to write, or folder for Core ML.",
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    callback=_settings,
    help="Tell the compiler something else than the profile does; edgekit targets show has the keys.",
)
@click.option(
    "--min-placement",
    type=click.FloatRange(0, 100),
    metavar="PCT",
    help="Fail where fewer percent of the operators run on the accelerator.",
)
@click.option("--overwrite", is_flag=True, help="Replace OUTPUT where it exists.")
def command(
    model: Path,
    target: str,
    output: Path,
    *,
    settings: dict[str, str],
    min_placement: float | None,
    overwrite: bool,
) -> Outcome:
    """Compile MODEL for a target's NPU or a microcontroller.

    What an NPU's compiler wrote is read back: operators that stay on the CPU are named, and a file without anything
    for the accelerator is an error. Cycles and times are the compiler's estimates. A microcontroller gets an array in C
    and a header with its operators and the size of the tensor arena, an iPhone a Core ML package of the source model.
    """
    import edgekit

    with progress(f"compiling {model.name} for {target}"):
        compiled = edgekit.compile(
            model,
            output,
            target=target,
            settings=settings,
            min_placement=min_placement,
            overwrite=overwrite,
        )
    view = [_summary(compiled)]
    if any(operator.cycles for operator in compiled.compilation.operators):
        view.append(_operators(compiled))
    return Outcome(compiled.describe(), view, compiled.findings)


def _summary(compiled: "Compiled") -> "Table":
    from rich.table import Table

    compilation = compiled.compilation
    title = f"{compiled.path} by {compilation.compiler} {compilation.version}: {compilation.basis}"
    table = Table(title=title, title_justify="left")
    table.add_column("")
    table.add_column("", justify="right")
    table.add_row("target", compiled.target.name)
    table.add_row("operators on the accelerator", f"{compiled.placed_pct:.1f}%")
    for name, value in compilation.estimates.items():
        table.add_row(*_with_unit(name, value))
    return table


def _with_unit(name: str, value: float) -> tuple[str, str]:
    """``("sram", "2,336 B")`` for ``sram_bytes``."""
    stem, _, unit = name.rpartition("_")
    words = stem.replace("_", " ")
    if unit == "ms":
        return words, f"{value:.3g} ms"
    if unit == "hz":
        return words, f"{value / 1e6:,.0f} MHz"
    return words, f"{value:,.0f}" + (" B" if unit == "bytes" else "")


def _operators(compiled: "Compiled") -> "Table":
    """The operators that take longest."""
    from rich.table import Table

    found = compiled.compilation.operators
    total = sum(operator.cycles for operator in found) or 1
    table = Table(title="slowest operators", title_justify="left")
    headings = ["operator", "place", "cycles", "share", "MACs"]
    if not any(operator.macs for operator in found):
        del headings[-1]
    for heading in headings:
        table.add_column(heading, justify="left" if heading in {"operator", "place"} else "right")
    for operator in sorted(found, key=lambda one: -one.cycles)[:_LISTED]:
        share = f"{operator.cycles / total:.0%}"
        cells = [operator.kind, operator.place, f"{operator.cycles:,}", share, f"{operator.macs:,}"]
        table.add_row(*cells[: len(headings)])
    return table
