"""``edgekit cluster``: kernels of few values."""

from pathlib import Path
from typing import Any

import click

from edgekit.cli._group import edgekit_command
from edgekit.cli._output import Outcome
from edgekit.cli._training import chosen_teacher, epoch_progress, outcome, teacher_options, training_options

_EPILOG = """\b
Examples:
  edgekit cluster model.keras -o clustered.keras --train train.npz --validation val.npz --tflite clustered.tflite
  edgekit cluster model.keras -o clustered.keras --train train.npz --clusters 32 --init density --exclude '^conv1$'
"""


@edgekit_command(epilog=_EPILOG)
@click.argument("model", type=click.Path(path_type=Path))
@training_options
@teacher_options()
@click.option(
    "--clusters",
    type=click.IntRange(2, 256),
    default=16,
    show_default=True,
    help="Distinct values of each kernel.",
)
@click.option(
    "--init",
    type=click.Choice(["kmeans++", "linear", "density"]),
    default="kmeans++",
    show_default=True,
    help="How the first values are found.",
)
@click.option(
    "--exclude", multiple=True, metavar="REGEX", help="Layers that stay as they are. May be repeated."
)
def command(model: Path, output: Path, **options: Any) -> Outcome:
    """Train a Keras model whose kernels have few distinct values.

    Its file is as large as before, and much smaller once it is compressed. Batch normalizations are folded first.
    """
    import edgekit

    teacher = chosen_teacher(options)
    with epoch_progress(f"training {model.name}", options["epochs"]) as report:
        trained = edgekit.cluster(model, output, teacher=teacher, progress=report, **options)
    rows, before = trained.report["layers"], trained.report["before"]
    lines = [f"{len(rows)} kernels have at most {options['clusters']} distinct values each."]
    if trained.tflite and before:
        after = trained.tflite.describe()
        lines.append(
            f"Compressed with gzip the .tflite file has {after['gzip_bytes']:,} bytes; "
            f"the model as it was has {before['gzip_bytes']:,}."
        )
    return outcome(trained, lines)
