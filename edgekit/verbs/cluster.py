"""Weight clustering of a Keras model: kernels of few values."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from edgekit.errors import UsageError
from edgekit.teacher_pass import Teacher, as_teacher
from edgekit.tflite_kernels import counts, stored_kernels
from edgekit.training import Report, Trained, job_for, train


def cluster(
    model: str | Path,
    output: str | Path,
    *,
    train_data: str | Path,
    epochs: int = 3,
    clusters: int = 16,
    init: Literal["kmeans++", "linear", "density"] = "kmeans++",
    exclude: Sequence[str] = (),
    teacher: str | Path | Teacher | None = None,
    overwrite: bool = False,
    resume: bool = False,
    progress: Report | None = None,
    **training: Any,
) -> Trained:
    """Train a model whose kernels have few distinct values, so that its file compresses well.

    Batch normalizations are folded first.

    Args:
        model: A Keras model, ``.keras`` or ``.h5``.
        output: The ``.keras`` file to write; ``tflite=FILE`` exports it as float too, and its kernels are read back.
        train_data: Labelled samples, as for every command.
        epochs: How often all of them are seen.
        clusters: Distinct values of each kernel, 2 to 256.
        init: How the first values are found: by k-means, evenly over the range, or by the density of the weights.
        exclude: Regular expressions; layers whose names match stay as they are.
        teacher: A model whose answers are learnt beside the labels, or a ``Teacher``.
        overwrite: Replace outputs that exist.
        resume: Go on after the last epoch of an interrupted run.
        progress: Told about epochs and steps.
        **training: Fields of ``edgekit.train.job.Job``.

    Raises:
        UsageError: An option or an output does not fit.
        ModelError: The model cannot be trained, or training failed.
        DataError: The data does not fit it.
    """
    if not 2 <= clusters <= 256:
        raise UsageError("EK757", f"{clusters} clusters are not possible.", "Give 2 to 256.")
    options = {"clusters": clusters, "init": init, "exclude": list(exclude)}
    job = job_for("cluster", model, output, train_data=train_data, epochs=epochs, options=options, **training)
    trained = train(job, teacher=as_teacher(teacher), overwrite=overwrite, resume=resume, progress=progress)
    stored = None
    if trained.tflite is not None:
        stored = [
            {"tensor": name, **counts(values)} for name, values in stored_kernels(trained.tflite.path).items()
        ]
    return replace(trained, report={**trained.report, "stored": stored})
