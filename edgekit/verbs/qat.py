"""Quantization-aware training of a Keras model."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from edgekit.findings import Finding, Level
from edgekit.teacher_pass import Teacher, as_teacher
from edgekit.tflite_kernels import counts, holds, stored_kernels
from edgekit.training import Report, Trained, job_for, train


def qat(
    model: str | Path,
    output: str | Path,
    *,
    train_data: str | Path,
    epochs: int = 3,
    weight_bits: Literal[4, 8] = 8,
    activation_bits: Literal[8, 16] = 8,
    per_channel: bool = True,
    ranges: Literal["moving", "learned"] = "moving",
    weight_ranges: Literal["auto", "largest", "learned"] = "auto",
    exclude: Sequence[str] = (),
    eight_bit: Sequence[str] = (),
    freeze_epochs: int = 1,
    preserve: Literal["auto", "sparsity", "clusters", "none"] = "auto",
    teacher: str | Path | Teacher | None = None,
    overwrite: bool = False,
    resume: bool = False,
    progress: Report | None = None,
    **training: Any,
) -> Trained:
    """Train a model with the rounding of the device in it.

    Args:
        model: A Keras model, ``.keras`` or ``.h5``.
        output: The ``.keras`` file to write; ``tflite=FILE`` exports it too, with the scales of the training.
        train_data: Labelled samples, as for every command.
        epochs: How often all of them are seen.
        weight_bits: 8, or 4 for half the size.
        activation_bits: 8, or 16.
        per_channel: One scale per output channel of a convolution, else one per layer.
        ranges: Activations' ranges follow what is seen (``"moving"``), or are trained (``"learned"``).
        weight_ranges: Those of weights end at the largest one, or where training puts their ends; ``"auto"`` is
            the second for 4 bits.
        exclude: Regular expressions; layers whose names match stay float.
        eight_bit: Regular expressions; with ``weight_bits=4`` layers whose names match keep weights of 8 bits.
        freeze_epochs: So many epochs at the end train with ranges that stand still.
        preserve: What pruning or clustering made and is to stay: zeros, or equal weights; found with ``"auto"``.
        teacher: A model whose answers are learnt beside the labels, or a ``Teacher``.
        overwrite: Replace outputs that exist.
        resume: Go on after the last epoch of an interrupted run.
        progress: Told about epochs and steps.
        **training: Fields of ``edgekit.train.job.Job``: ``validation``, ``batch_size``, ``learning_rate``, ``loss``,
            ``early_stopping``, ``seed``, ``tflite`` ...

    Raises:
        UsageError: An option or an output does not fit.
        ModelError: The model cannot be trained or exported, or training failed.
        DataError: The data does not fit it.
    """
    options = {
        "weight_bits": weight_bits,
        "activation_bits": activation_bits,
        "per_channel": per_channel,
        "ranges": ranges,
        "weight_ranges": weight_ranges,
        "exclude": list(exclude),
        "eight_bit": list(eight_bit),
        "freeze_epochs": min(freeze_epochs, epochs - 1),
        "preserve": preserve,
    }
    job = job_for("qat", model, output, train_data=train_data, epochs=epochs, options=options, **training)
    master = as_teacher(teacher)
    trained = train(job, teacher=master, overwrite=overwrite, resume=resume, progress=progress)
    return _with_structure(trained) if trained.tflite and trained.report["kept"] else trained


def _with_structure(trained: Trained) -> Trained:
    """The result with the zeros and distinct integers of the file, and a finding where they are not as kept."""
    if trained.tflite is None:
        return trained
    stored = stored_kernels(trained.tflite.path)
    rows = [{"tensor": name, **counts(values)} for name, values in stored.items()]
    findings = list(trained.findings)
    if not holds(trained.report["kept"], list(stored.values())):
        message = f"{trained.tflite.path.name} has fewer zeros, or more distinct weights, than the model it began with."
        findings.append(Finding("EK759", message, "Please report this as a bug.", Level.ERROR))
    return replace(trained, report={**trained.report, "stored": rows}, findings=tuple(findings))
