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
from edgekit.data import Dataset, open_dataset
from edgekit.data.function import FunctionSource
from edgekit.data.output_labels import with_output_labels
from edgekit.findings import Finding
from edgekit.train import objective
from edgekit.train.augmentation import Augmentation
from edgekit.train.checkpoint import Checkpoint
from edgekit.train.distributed import check_batches, devices_of
from edgekit.train.export import export_float, export_qat, export_sparse
from edgekit.train.fake_quant import FakeQuant
from edgekit.train.feeding import Feed
from edgekit.train.fitting import fit
from edgekit.train.job import Job
from edgekit.train.loading import load_trainable, with_lists, with_structure_of
from edgekit.train.methods import Context
from edgekit.train.teaching import with_teacher
from edgekit.train.tf_config import cluster_of
from edgekit.train.workers import Workers, joined

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
    keras.utils.set_random_seed(job.seed)
    with joined(cluster_of(job.strategy), report) as workers, devices_of(job.strategy) as findings:
        done = _run(job, workers, report)
        noticed = [finding.describe() for finding in findings]
        return {**done, "findings": [*noticed, *done["findings"]]}


def _run(job: Job, workers: Workers, report: Callable[[Mapping[str, Any]], None]) -> dict[str, Any]:
    began = time.monotonic()
    trainable = load_trainable(Path(job.model))
    plain = with_lists(trainable.model)
    names = tuple(tensor.name for tensor in plain.inputs)
    train = _dataset(job.train, trainable.model, job)
    validation = _dataset(job.validation, trainable.model, job) if job.validation else None
    checkpoint = Checkpoint(job.checkpoints, job, files.sha256(Path(job.model)) + _identity(train))
    goal = objective.choose(plain, trainable.compiled, job, Feed(train, names).labels(_SOME))
    context = Context(
        job,
        train,
        validation,
        job.checkpoints,
        lambda text: report({"event": "say", "text": text}),
        goal.loss,
    )
    prepared = importlib.import_module(f"edgekit.train.methods.{job.method}").prepare(plain, context)
    prepared = with_teacher(prepared, plain, goal.loss, context)
    feeds = (
        Feed(
            train,
            names,
            prepared.targets,
            views=prepared.views,
            augmentation=Augmentation.parse(job.augment) if job.augment else None,
        ),
        Feed(validation, names) if validation else None,
    )
    if feeds[1]:
        objective.check_labels(plain, goal.loss, feeds[1].labels(_SOME))
    check_batches(train.count, job.batch_size, workers.count)
    epochs, findings = fit(prepared, goal, job, feeds, checkpoint=checkpoint, workers=workers, report=report)
    if checkpoint.refused:
        message = "What an interrupted run left is not of this training, or is damaged; it began anew."
        findings.append(Finding("EK738", message, "Give the same options with --resume."))
    model = with_structure_of(trainable.model, prepared.finish(prepared.model))
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


def _dataset(spec: str, model: Any, job: Job) -> Dataset:
    specs = tuple(
        TensorSpec(tensor.name, tuple(tensor.shape), keras.backend.standardize_dtype(tensor.dtype))
        for tensor in model.inputs
    )
    # A Sequential model has one output, and no names of outputs. QAT puts a layer of its own behind each.
    outputs = [
        name.removesuffix("_output") if isinstance(model.get_layer(name), FakeQuant) else name
        for name in getattr(model, "output_names", None) or [model.layers[-1].name]
    ]
    return with_output_labels(open_dataset(spec, preprocess=job.preprocess), outputs).bind(specs)


def _identity(dataset: Dataset) -> str:
    """What tells whether the data are those of an interrupted run: a function's code, else the samples.

    A function may give other samples each time, to augment them.
    """
    if isinstance(dataset.source, FunctionSource):
        return files.sha256(dataset.source.path)
    return dataset.digest()


def _export(model: Any, how: str, job: Job) -> list[Finding]:
    """Write the ``.tflite`` file as the method wants it."""
    output = str(job.tflite)
    if how == "sparse":
        return export_sparse(model, output, keep_names=job.keep_names)
    (export_qat if how == "trained" else export_float)(model, output, keep_names=job.keep_names)
    return []
