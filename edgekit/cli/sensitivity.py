"""``edgekit sensitivity``: which layers lose the most when quantized, and a recipe that spares them."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgekit.cli._group import edgekit_command
from edgekit.cli._output import Outcome, command_line, progress

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from edgekit.layerwise.sensitivity import LayerSensitivity, Sensitivity

_EPILOG = """\b
Examples:
  edgekit sensitivity model.tflite --calibration train.npz
  edgekit sensitivity model.keras --calibration train.npz --data test.npz --html layers.html
  edgekit sensitivity model.tflite --calibration train.npz --emit-recipe spared.toml --reach 30
  edgekit sensitivity model.tflite -r int4 --calibration train.npz --spare int8 --spare-layers 3 --emit-recipe s.toml
"""
_SHOWN = 15
_SHOWN_NAME = 40
_DEFAULT_REACH_DB = 30.0


@edgekit_command(epilog=_EPILOG)
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--calibration",
    metavar="DATA",
    required=True,
    help="Samples that set the ranges; some measure the noise.",
)
@click.option(
    "-r", "--recipe", metavar="NAME|FILE.toml", default="int8", show_default=True, help="How to quantize."
)
@click.option(
    "-f", "--format", type=click.Choice(["tflite", "onnx"]), help="Format.  [default: the model's, tflite]"
)
@click.option("--preprocess", metavar="SPEC", help="Preprocessing contract of the samples.")
@click.option(
    "--calibration-samples", type=click.IntRange(min=1), metavar="N", help="How many set the ranges.  [256]"
)
@click.option(
    "--samples",
    type=click.IntRange(min=1),
    default=64,
    show_default=True,
    metavar="N",
    help="How many measure noise.",
)
@click.option(
    "--effort",
    type=click.Choice(["none", "low"]),
    default="low",
    show_default=True,
    help="As in quantize: low corrects biases.",
)
@click.option("--data", metavar="DATA", help="Labelled samples: the metric's drop with one layer quantized.")
@click.option("--metric", help="Which metric.  [default: chosen from labels and outputs]")
@click.option(
    "--top", type=click.IntRange(min=1), default=5, show_default=True, metavar="N", help="For so many layers."
)
@click.option("--all", "show_all", is_flag=True, help="Measure drops of all layers, and show all.")
@click.option(
    "--emit-recipe", type=click.Path(path_type=Path), metavar="FILE.toml", help="Write a recipe that spares."
)
@click.option(
    "--reach", "reach_db", type=float, metavar="DB", help="Spare layers until the SNR is so high.  [30]"
)
@click.option("--spare-layers", type=click.IntRange(min=1), metavar="N", help="Spare at most so many.")
@click.option("--spare", "spare_precision", metavar="NAME", help="What they get instead.  [default: float32]")
@click.option("--html", type=click.Path(path_type=Path), metavar="FILE", help="Write a page with a plot.")
@click.option("--overwrite", is_flag=True, help="Replace the files of --emit-recipe and --html.")
@click.option("--seed", default=0, show_default=True, help="Chooses the samples.")
@click.option("--dry-run", is_flag=True, help="Say what would be measured, and stop.")
def command(
    model: Path,
    *,
    show_all: bool,
    top: int,
    emit_recipe: Path | None,
    html: Path | None,
    overwrite: bool,
    dry_run: bool,
    **options: Any,
) -> Outcome:
    """Rank the layers of MODEL by what their quantization costs.

    The noise of each layer is measured at the model's outputs, with its weights or its result rounded and the rest in
    float. Layers are spared by the recipe of --emit-recipe, which `edgekit quantize -r` takes.
    """
    import edgekit
    from edgekit.files import check_output
    from edgekit.workflows.sensitivity import plan_sensitivity

    for path in (emit_recipe, html):
        if path is not None:
            check_output(path, overwrite=overwrite)
    wants = any(options[name] is not None for name in ("spare_layers", "spare_precision"))
    if options["reach_db"] is None and options["spare_layers"] is None and (emit_recipe is not None or wants):
        options["reach_db"] = _DEFAULT_REACH_DB
    if dry_run:
        plan = plan_sensitivity(model, options["recipe"], options["format"], options["spare_precision"])
        text = "would quantize {model} by {recipe} to {format} with {engine} and measure layers on {samples} samples"
        plan |= {"samples": options["samples"]}
        return Outcome({"dry_run": True, **plan}, [text.format(**plan)])
    with progress(f"measuring the layers of {model.name}") as advance:
        found = edgekit.sensitivity(model, top=None if show_all else top, progress=advance, **options)
    result, written = found.describe(), list[str]()
    result |= {"emitted": None, "html": None}
    if emit_recipe is not None and found.spared is not None:
        found.write_recipe(emit_recipe)
        result["emitted"] = str(emit_recipe)
        written.append(f"The recipe: {emit_recipe}")
    if html is not None:
        found.write_page(html)
        result["html"] = str(html)
        written.append(f"The same for a browser: {html}")
    following = emit_recipe or options["recipe"]
    output = model.with_suffix(f".quantized.{found.output_format}").name
    step = command_line(
        "quantize", model, "-o", output, "-r", following, "--calibration", options["calibration"]
    )
    view: list[RenderableType] = [
        found.sentence(),
        "",
        _table(found.layers, show_all=show_all),
        *_left_out(found, show_all=show_all),
    ]
    return Outcome(result, [*view, *written], found.findings, next_steps=[step])


def _left_out(found: "Sensitivity", *, show_all: bool) -> list[str]:
    count = 0 if show_all else len(found.layers) - _SHOWN
    return [f"and {count} more layers: --all shows them"] if count > 0 else []


def _table(layers: "tuple[LayerSensitivity, ...]", *, show_all: bool) -> "Table":
    from rich.table import Table
    from rich.text import Text

    from edgekit.layerwise.causes import short

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("#", justify="right")
    table.add_column("layer", overflow="fold")
    table.add_column("op")
    headings = [
        "bits",
        "alone\ndB",
        "weights\ndB",
        "result\ndB",
        "share of\nnoise",
        "weights\nmax/min",
        "result\nmax/min",
    ]
    has_drops = any(layer.metric_drop for layer in layers)
    for heading in [*headings, *(["drop"] if has_drops else [])]:
        table.add_column(heading, justify="right")
    for layer in layers if show_all else layers[:_SHOWN]:
        cells = [
            _bits(layer),
            _decibels(layer.snr_db),
            _decibels(layer.weights_snr_db) if layer.weight_bits else "-",
            _decibels(layer.activations_snr_db) if layer.activation_bits else "-",
            f"{layer.share_of_noise:.1%}",
            _ratio(layer.weights_imbalance),
            _ratio(layer.activations_imbalance),
        ]
        drop = [_drop(layer)] if has_drops else []
        table.add_row(str(layer.place), Text(_shortened(short(layer.name))), layer.operator, *cells, *drop)
    return table


def _bits(layer: "LayerSensitivity") -> str:
    return f"{layer.weight_bits or '-'}/{layer.activation_bits or '-'}"


def _drop(layer: "LayerSensitivity") -> str:
    if layer.metric_drop is None:
        return ""
    scale = 100 if layer.metric_drop.unit == "fraction" else 1
    drop, low, high = (scale * value for value in (layer.metric_drop.drop, *layer.metric_drop.ci95))
    return f"{drop:+.2f} [{low:+.2f}, {high:+.2f}]"


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _decibels(value: float) -> str:
    return "exact" if value == float("inf") else f"{value:.1f}"


def _shortened(name: str) -> str:
    """The end of a long name tells more than its beginning: layers share prefixes."""
    return name if len(name) <= _SHOWN_NAME else "\N{HORIZONTAL ELLIPSIS}" + name[-_SHOWN_NAME + 1 :]
