"""Distillation: a small model that learns from a large one."""

import re
from pathlib import Path
from typing import Any

from edgekit.errors import UsageError
from edgekit.teacher_pass import Teacher
from edgekit.training import Report, Trained, job_for, train


def distill(
    model: str | Path | None,
    output: str | Path,
    *,
    teacher: str | Path | Teacher,
    train_data: str | Path,
    epochs: int = 10,
    student: str | None = None,
    overwrite: bool = False,
    resume: bool = False,
    progress: Report | None = None,
    **training: Any,
) -> Trained:
    """Train a student on labels and on what its teacher says of the same samples.

    Args:
        model: The student, ``.keras`` or ``.h5``; None to make it from the teacher.
        output: The ``.keras`` file to write; ``tflite=FILE`` exports it too.
        teacher: A model in any format, or a ``Teacher`` with temperature, alpha, pairs of layers and cache.
        train_data: Labelled samples.
        epochs: How often all of them are seen.
        student: ``"width:0.5"`` for the layers of ``model``, or of the teacher, with half of their channels and
            fresh weights.
        overwrite: Replace outputs that exist.
        resume: Go on after the last epoch of an interrupted run.
        progress: Told about the teacher's pass, epochs and steps.
        **training: Fields of ``edgekit.train.job.Job``: ``validation``, ``batch_size``, ``learning_rate`` ...

    Raises:
        UsageError: An option or an output does not fit.
        ModelError: The teacher has other outputs, or a model cannot be trained.
        DataError: The data does not fit them.
    """
    master = teacher if isinstance(teacher, Teacher) else Teacher(teacher)
    if model is None and student is None:
        raise UsageError("EK763", "There is no student.", "Give its file, or --student width:0.5.")
    options = {} if student is None else {"width": _width(student)}
    job = job_for(
        "distill",
        model or master.model,
        output,
        train_data=train_data,
        epochs=epochs,
        options=options,
        **training,
    )
    return train(job, teacher=master, overwrite=overwrite, resume=resume, progress=progress)


def _width(student: str) -> float:
    found = re.fullmatch(r"width:(\d*\.?\d+)", student)
    if found is None or not 0 < float(found[1]) <= 4:
        raise UsageError(
            "EK763",
            f"{student!r} describes no student.",
            "width:0.5 is one; a student of your own is given as a file in place of --student.",
        )
    return float(found[1])
