"""The teacher's forward pass over the training samples: once, in its own runtime, and kept on disk."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from edgekit.artifact import Artifact, Format, TensorSpec, align
from edgekit.data import Dataset, open_dataset
from edgekit.errors import ModelError, UsageError
from edgekit.findings import Finding, Level
from edgekit.formats import open_artifact
from edgekit.runtimes import open_session
from edgekit.tensor import Array
from edgekit.train import teacher_cache
from edgekit.train.augmentation import Augmentation, Changes
from edgekit.train.job import Job

_BATCH = 256

Report = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True)
class Teacher:
    """A teacher, and how much its student listens to it; see ``edgekit.train.DistillationOptions``.

    ``model`` is in any format. ``features`` are pairs of layers, for which it has to be a Keras model.
    ``preprocess`` is its own contract where it differs from the student's. ``cache`` keeps its outputs for the
    next training. ``views`` is in how many ways each sample is shown to both, where samples are augmented: a student
    learns from what the teacher says of the very image that it sees (arXiv:2106.05237, section 3).
    """

    model: str | Path
    temperature: float = 4.0
    alpha: float = 0.9
    features: Sequence[tuple[str, str]] = ()
    feature_loss: Literal["hint", "attention", "relation"] = "hint"
    feature_weight: float = 1.0
    standardize: bool = False
    views: int = 8
    preprocess: str | None = None
    cache: bool = True

    def check(self) -> None:
        """Refuse numbers that make no loss.

        Raises:
            UsageError: alpha, temperature or weight are out of range.
        """
        if not 0 <= self.alpha <= 1 or not self.temperature > 0 or not self.feature_weight >= 0:
            raise UsageError(
                "EK768",
                f"alpha {self.alpha:g}, temperature {self.temperature:g} and feature weight "
                f"{self.feature_weight:g} make no loss.",
                "alpha lies in 0 to 1, the temperature above 0, and the weight is not negative.",
            )


def as_teacher(given: "str | Path | Teacher | None") -> Teacher | None:
    """A path as the teacher with the usual numbers; what is one already, and None, as they are."""
    return given if given is None or isinstance(given, Teacher) else Teacher(given)


def teach(
    job: Job, student: Artifact, teacher: Teacher, report: Report | None = None
) -> tuple[Job, list[Finding]]:
    """The job with what its teacher says of every sample.

    Args:
        job: A training.
        student: The model of the job.
        teacher: Whom it listens to.
        report: Told ``{"event": "teacher", "done": 512, "total": 20000}``.

    Raises:
        ModelError: The teacher has other outputs, fails, or is no Keras model where layers are asked for.
        DataError: The samples do not fit it.
        OutputError: Its outputs cannot be kept.
    """
    teacher.check()
    artifact = open_artifact(teacher.model)
    if teacher.features and artifact.format is not Format.KERAS:
        raise ModelError(
            "EK762",
            f"{artifact.path} is a {artifact.format} model: its layers have no names to pair.",
            "Give a .keras or .h5 teacher, or leave out --feature.",
        )
    names = _pairs(student, artifact)
    contract = teacher.preprocess or job.preprocess
    dataset = open_dataset(job.train, preprocess=contract).bind(artifact.inputs)
    samples = dataset.digest()
    described = dataset.preprocessing.describe() if dataset.preprocessing else None
    folder = teacher_cache.cache_folder() if teacher.cache else job.checkpoints / "teacher"
    tell = report or (lambda _event: None)
    of = {"teacher": artifact.sha256, "samples": samples, "preprocessing": described}
    augmentation = Augmentation.parse(job.augment) if job.augment else None
    found = []
    for view in range(teacher.views if augmentation else 1):
        changes = (augmentation or Augmentation()).view(view, dataset.count)
        which = {"augment": job.augment, "view": view} if view else {}
        place = folder / teacher_cache.key(**of, **which)
        compute = partial(_outputs, artifact, dataset, changes, tell)
        found.append(teacher_cache.rows(place, dataset.count, compute))
    findings = []
    if all(rows.cached for rows in found):
        message = f"The outputs of {artifact.path.name} on {dataset.count:,} samples were known already."
        findings.append(Finding("EK761", message, "Compute them anew with --no-cache.", Level.NOTE))
    specs = {spec.name: spec for spec in artifact.outputs}
    told = {
        "model": str(Path(teacher.model).absolute()),
        "sha256": artifact.sha256,
        "samples": samples,
        "rows": [str(rows.folder) for rows in found],
        "outputs": [[name, _unit(specs[name])] for name in names],
        "temperature": teacher.temperature,
        "alpha": teacher.alpha,
        "features": [list(pair) for pair in teacher.features],
        "feature_loss": teacher.feature_loss,
        "feature_weight": teacher.feature_weight,
        "standardize": teacher.standardize,
        "preprocess": teacher.preprocess,
    }
    return replace(job, teacher=told), findings


def _pairs(student: Artifact, teacher: Artifact) -> list[str]:
    """The teacher's outputs in the order of the student's."""
    try:
        pairs = align(student.outputs, teacher.outputs)
    except ValueError as error:
        raise ModelError(
            "EK760",
            f"The teacher has {len(teacher.outputs)} outputs, the student {len(student.outputs)}.",
            "Give a teacher that was made for the same task.",
        ) from error
    shapes = {spec.name: spec.shape for spec in teacher.outputs}
    for spec in student.outputs:
        other = shapes[pairs[spec.name]]
        if not _same(spec.shape[1:], other[1:]):
            raise ModelError(
                "EK760",
                f"The teacher gives {list(other[1:])} for a sample, the student {list(spec.shape[1:])}.",
                "Give a teacher of the same classes in the same order.",
            )
    return [pairs[spec.name] for spec in student.outputs]


def _same(one: tuple[int | None, ...], other: tuple[int | None, ...]) -> bool:
    return len(one) == len(other) and all(
        a is None or b is None or a == b for a, b in zip(one, other, strict=True)
    )


def _unit(spec: TensorSpec) -> float | None:
    """The step of a quantized output, None for real numbers."""
    return max(spec.quantization.scales) if spec.quantization else None


def _outputs(
    artifact: Artifact, dataset: Dataset, changes: Changes, report: Report
) -> Iterator[Mapping[str, Array]]:
    session = open_session(artifact, threads=len(os.sched_getaffinity(0)))
    try:
        for batch in dataset.batches(_BATCH):
            rows = slice(batch.first, batch.first + batch.count)
            yield session.run(changes.of(rows).applied(batch.inputs))
            report({"event": "teacher", "done": batch.first + batch.count, "total": dataset.count})
    finally:
        session.close()
