"""``edgekit qat``: quantization-aware training."""

from pathlib import Path
from typing import Any

import click

from edgekit.cli._group import edgekit_command
from edgekit.cli._output import Outcome
from edgekit.cli._training import chosen_teacher, epoch_progress, outcome, teacher_options, training_options

_EPILOG = """\b
Examples:
  edgekit qat model.keras -o qat.keras --train train.npz --validation val.npz --tflite int8.tflite
  edgekit qat model.keras -o qat4.keras --train train.npz --weight-bits 4 --epochs 10 --tflite int4.tflite
  edgekit qat model.keras -o qat4.keras --train train.npz --weight-bits 4 --teacher large.tflite
  edgekit qat model.h5 -o qat.keras --train images/ --exclude '^dense$' --ranges learned
  edgekit qat clustered.keras -o qat.keras --train train.npz --preserve clusters --tflite int8.tflite
"""


@edgekit_command(epilog=_EPILOG)
@click.argument("model", type=click.Path(path_type=Path))
@training_options
@teacher_options()
@click.option(
    "--weight-bits", type=click.Choice(["8", "4"]), default="8", show_default=True, help="Bits of a weight."
)
@click.option(
    "--activation-bits",
    type=click.Choice(["8", "16"]),
    default="8",
    show_default=True,
    help="Bits of what flows between layers.",
)
@click.option(
    "--per-channel/--per-tensor", default=True, show_default=True, help="One scale per channel of a kernel."
)
@click.option(
    "--ranges",
    type=click.Choice(["moving", "learned"]),
    default="moving",
    show_default=True,
    help="How the ranges of activations are found.",
)
@click.option(
    "--weight-ranges",
    type=click.Choice(["auto", "largest", "learned"]),
    default="auto",
    show_default=True,
    help="Where the ranges of weights end; auto is learned for 4 bits.",
)
@click.option("--exclude", multiple=True, metavar="REGEX", help="Layers that stay float32. May be repeated.")
@click.option(
    "--eight-bit",
    multiple=True,
    metavar="REGEX",
    help="With --weight-bits 4: layers whose weights keep 8 bits. May be repeated.",
)
@click.option(
    "--freeze-epochs",
    type=click.IntRange(min=0),
    default=1,
    show_default=True,
    help="Last epochs whose ranges stand still.",
)
@click.option(
    "--preserve",
    type=click.Choice(["auto", "sparsity", "clusters", "none"]),
    default="auto",
    show_default=True,
    help="Zeros or shared weights that stay.",
)
def command(model: Path, output: Path, **options: Any) -> Outcome:
    """Train a Keras model with the rounding of the device in it.

    Batch normalizations are folded first. The exported .tflite has the scales that were trained with.
    """
    import edgekit

    bits: dict[str, Any] = {name: int(options.pop(name)) for name in ("weight_bits", "activation_bits")}
    teacher = chosen_teacher(options)
    with epoch_progress(f"training {model.name}", options["epochs"]) as report:
        trained = edgekit.qat(model, output, teacher=teacher, progress=report, **bits, **options)
    lines = [f"{len(trained.report['quantized_layers'])} layers with weights are quantized."]
    return outcome(trained, lines)
