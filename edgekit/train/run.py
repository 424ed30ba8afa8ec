"""One job from its files to its files: load, prepare, fit, save, export. The training process does nothing else."""

import importlib
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import keras

from edgekit import files
from edgekit.artifact import TensorSpec
from edgekit.data import open_dataset
from edgekit.findings import Finding
from edgekit.train import objective
from edgekit.train.augmentation import Augmentation
from edgekit.train.checkpoint import Checkpoint
from edgekit.train.export import export_float, export_qat, export_sparse
from edgekit.train.feeding import Feed
from edgekit.train.fitting import fit
from edgekit.train.job import Job
from edgekit.train.loading import load_trainable
from edgekit.train.methods import Context
from edgekit.train.teaching import with_teacher

_SOME = 512


def run(job: Job, report: Callable[[Mapping[str, Any]], None]) -> dict[str, Any]:
    """Do a job.

    Args:
        job: What to do.
        report: Told about each epoch, see ``fitting.fit``.

    Returns:
        ``{"epochs": [...], "report": {...}, "findings": [...], "seconds": 12.3}``.

    Raises:
        EdgekitError: Anything that the user should know in one sentence.
    """
    began = time.monotonic()
    keras.utils.set_random_seed(job.seed)
    trainable = load_trainable(Path(job.model))
    specs = tuple(
        TensorSpec(tensor.name, tuple(tensor.shape), keras.backend.standardize_dtype(tensor.dtype))
        for tensor in trainable.model.inputs
    )
    names = tuple(spec.name for spec in specs)
    train = open_dataset(job.train, preprocess=job.preprocess).bind(specs)
    validation = (
        open_dataset(job.validation, preprocess=job.preprocess).bind(specs) if job.validation else None
    )
    checkpoint = Checkpoint(job.checkpoints, job, files.sha256(Path(job.model)) + train.digest())
    context = Context(
        job, train, validation, job.checkpoints, lambda text: report({"event": "say", "text": text})
    )
    goal = objective.choose(trainable.model, trainable.compiled, job, Feed(train, names).labels(_SOME))
    prepared = importlib.import_module(f"edgekit.train.methods.{job.method}").prepare(
        trainable.model, context
    )
    prepared = with_teacher(prepared, trainable.model, goal.loss, context)
    feeds = (
        Feed(
            train,
            names,
            prepared.targets,
            mirrored=prepared.mirrored_targets,
            augmentation=Augmentation.parse(job.augment) if job.augment else None,
        ),
        Feed(validation, names) if validation else None,
    )
    epochs, findings = fit(prepared, goal, job, feeds, checkpoint=checkpoint, report=report)
    model = prepared.finish(prepared.model)
    with files.atomic_write(Path(job.output)) as partial:
        # Keras decides by the name what it writes.
        named = partial.with_name(partial.name + ".keras")
        try:
            model.save(named)
            named.rename(partial)
        finally:
            named.unlink(missing_ok=True)
    if job.tflite:
        findings += _export(model, prepared.export, job)
    return {
        "epochs": [asdict(epoch) for epoch in epochs],
        "report": prepared.report(model),
        "findings": [finding.describe() for finding in (*trainable.findings, *prepared.findings, *findings)],
        "watched": goal.watched,
        "seconds": time.monotonic() - began,
    }


def _export(model: Any, how: str, job: Job) -> list[Finding]:
    """Write the ``.tflite`` file as the method wants it."""
    output = str(job.tflite)
    if how == "sparse":
        return export_sparse(model, output, keep_names=job.keep_names)
    (export_qat if how == "trained" else export_float)(model, output, keep_names=job.keep_names)
    return []
