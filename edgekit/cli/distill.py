"""``edgekit distill``: a small model that learns from a large one."""

from pathlib import Path
from typing import Any

import click

from edgekit.cli._group import edgekit_command
from edgekit.cli._output import Outcome
from edgekit.cli._training import chosen_teacher, epoch_progress, outcome, teacher_options, training_options

_EPILOG = """\b
Examples:
  edgekit distill student.keras -o out.keras --teacher large.tflite --train train.npz --validation val.npz
  edgekit distill --student width:0.5 -o half.keras --teacher model.keras --train train.npz --epochs 20
  edgekit distill small.keras -o out.keras --teacher model.keras --train train.npz --feature conv5=conv3
"""


@edgekit_command(epilog=_EPILOG)
@click.argument("model", metavar="[STUDENT]", type=click.Path(path_type=Path), required=False)
@training_options
@teacher_options(required=True)
@click.option(
    "--student",
    metavar="width:FACTOR",
    help="Make it: STUDENT's, or the teacher's, layers scaled, weights fresh.",
)
def command(model: Path | None, output: Path, **options: Any) -> Outcome:
    """Train a student on labels and on its teacher's answers.

    The teacher may be of any format; it runs once over the samples, and its answers are kept for the next time.
    """
    import edgekit

    teacher = chosen_teacher(options)
    if teacher is None:
        raise RuntimeError("click lets nobody through without --teacher")
    with epoch_progress(f"training {output.name}", options["epochs"]) as report:
        trained = edgekit.distill(model, output, teacher=teacher, progress=report, **options)
    parameters = trained.report["parameters"]
    line = f"The student has {parameters['student']:,} parameters; it learnt from {teacher.model}."
    return outcome(trained, [line])
