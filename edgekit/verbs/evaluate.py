"""``evaluate``: how good a model is on samples, measured in its own runtime."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgekit import answering
from edgekit.answering import Job, Result, Speed
from edgekit.artifact import Artifact, TensorSpec
from edgekit.catalog import load
from edgekit.contract import under_contract
from edgekit.data import Dataset, open_dataset
from edgekit.errors import ModelError, UsageError
from edgekit.findings import Finding, Level
from edgekit.formats import open_artifact
from edgekit.metric_choice import choose_metric
from edgekit.metrics import Context, Drop, Metric, Rows
from edgekit.predictions import PredictionsFile
from edgekit.runtimes import Session, check_runtime
from edgekit.sample_digests import SampleDigests
from edgekit.statistics import Interval
from edgekit.tensor import Array


@dataclass(frozen=True)
class Evaluation:
    """A model's metric on a dataset, with everything that a paired comparison needs.

    ``value`` is a fraction for accuracy-like metrics. ``rows`` holds the metric's numbers for every sample,
    in the order of the samples: for top1 label, predicted class and whether scores were tied. ``digests`` say
    which samples they were, where they were asked for.
    """

    model: Path
    metric: str
    unit: str
    value: float
    ci95: Interval
    n: int
    per_class: tuple[Mapping[str, Any], ...]
    confusion: Array | None
    samples_per_second: float
    seconds: float
    runtime: str
    workers: int
    rows: Rows
    digests: SampleDigests | None = None
    device: str = "local"
    findings: tuple[Finding, ...] = field(default_factory=tuple)

    def describe(self) -> dict[str, Any]:
        """The evaluation as it stands in JSON documents, without its rows."""
        return {
            "model": str(self.model),
            "metric": self.metric,
            "unit": self.unit,
            "value": self.value,
            "ci95": list(self.ci95),
            "n": self.n,
            "per_class": [{**item, "ci95": list(item["ci95"])} for item in self.per_class],
            "confusion": None if self.confusion is None else self.confusion.tolist(),
            "samples_per_second": self.samples_per_second,
            "seconds": self.seconds,
            "device": self.device,
            "runtime": self.runtime,
            "workers": self.workers,
        }


@dataclass(frozen=True)
class Place:
    """Where a model runs, if not here: the device's name, its runtime's, and the model as it runs there."""

    device: str
    runtime: str
    session: Session


@dataclass(frozen=True)
class PairedDrop:
    """How much worse the second of two models is on the same samples; negative where it is better.

    ``broken`` samples were right before and are wrong after, ``fixed`` ones the reverse; None for metrics
    that know no right and wrong.
    """

    drop: float
    drop_ci95: Interval
    broken: int | None
    fixed: int | None
    n: int


def evaluate(
    model: str | Path | Artifact,
    data: str | Path | Dataset,
    *,
    metric: str | None = None,
    reference: str | Path | Artifact | None = None,
    runtime: str | None = None,
    samples: int | None = None,
    workers: int | None = None,
    preprocess: str | None = None,
    save_predictions: Path | None = None,
    keep_digests: bool = False,
    place: Place | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Measure a model on labelled samples, or against a reference model.

    Args:
        model: A model file, or one that was opened before.
        data: A data spec (see ``open_dataset``), or a dataset.
        metric: The name of a file in ``metrics/``; chosen from labels and outputs when None.
        reference: The model to compare with, for ``snr``, ``agreement``, ``mse`` and ``mae``.
        runtime: The name of a file in ``runtimes/``; that of the model's format when None.
        samples: So many samples, evenly spread; all when None.
        workers: Number of processes; one per core when None.
        preprocess: A preprocessing contract; "none" ignores the one of the model's lineage.
        save_predictions: An .npz file to write, with one row per sample.
        keep_digests: Say which samples were used, to pair them with those of another run.
        place: Where the model runs, if not here.
        progress: Called with the numbers of samples done and of all.

    Raises:
        ModelError: The model is unreadable or fails.
        DataError: The samples or labels do not fit the model.
        UsageError: There is no such metric, runtime or contract, or an option does not fit.
    """
    began = time.perf_counter()
    job, dataset, findings = _planned(
        model,
        data,
        metric=metric,
        reference=reference,
        runtime=runtime,
        samples=samples,
        preprocess=preprocess,
    )
    job = replace(job, keep_outputs=save_predictions is not None, keep_digests=keep_digests)
    rows, digests, speed = _run(
        job,
        dataset,
        workers=workers,
        session=None if place is None else place.session,
        save_predictions=save_predictions,
        progress=progress,
    )
    outputs = tuple(spec.name for spec in job.model.outputs)
    summary = _metric(job.metric).summarize(rows, Context(_class_names(dataset, job.model), outputs))
    return Evaluation(
        model=job.model.path,
        metric=job.metric,
        unit=_metric(job.metric).UNIT,
        value=summary.value,
        ci95=summary.ci95,
        n=len(rows),
        per_class=summary.per_class,
        confusion=summary.confusion,
        samples_per_second=len(rows) / max(speed.seconds, 1e-9),
        seconds=time.perf_counter() - began,
        runtime=job.runtimes[0] if place is None else place.runtime,
        workers=speed.workers,
        rows=rows,
        digests=digests,
        device="local" if place is None else place.device,
        findings=(*findings, *summary.findings),
    )


def planned(
    model: str | Path | Artifact, data: str | Path | Dataset, **options: Any
) -> tuple[dict[str, Any], Any]:
    """What ``evaluate`` would do with these options, and what it would say, without running the model.

    Raises:
        EdgekitError: What ``evaluate`` would raise before it runs the model.
    """
    job, dataset, findings = _planned(model, data, **options)
    plan = {
        "model": str(job.model.path),
        "metric": job.metric,
        "runtime": job.runtimes[0],
        "n": dataset.count,
    }
    return plan, findings


def paired(before: Evaluation, after: Evaluation) -> PairedDrop:
    """Compare two evaluations of the same metric on the same samples.

    Raises:
        UsageError: They are of different metrics or samples.
    """
    same_samples = before.rows.shape == after.rows.shape
    if same_samples and _metric(before.metric).NEEDS == "labels":
        same_samples = np.array_equal(before.rows[:, 0], after.rows[:, 0])
    if before.metric != after.metric or not same_samples:
        raise UsageError(
            "EK425",
            "The two evaluations are not of the same metric and samples.",
            "Evaluate both models on the same data with the same --metric.",
        )
    found: Drop = _metric(before.metric).drop(before.rows, after.rows)
    return PairedDrop(found.value, found.ci95, found.broken, found.fixed, len(before.rows))


def _planned(
    model: str | Path | Artifact,
    data: str | Path | Dataset,
    *,
    metric: str | None,
    reference: str | Path | Artifact | None,
    runtime: str | None,
    samples: int | None,
    preprocess: str | None,
) -> tuple[Job, Dataset, tuple[Finding, ...]]:
    """All that can be refused without running the model is refused here."""
    artifact = _opened(model)
    dataset, findings = under_contract(open_dataset(data, preprocess=preprocess), artifact, preprocess)
    dataset = (dataset.spread(samples) if samples else dataset).bind(artifact.inputs)
    other = None if reference is None else _opened(reference)
    name, chosen = choose_metric(metric, artifact, dataset, has_reference=other is not None)
    check_runtime(artifact, runtime)
    job = Job(artifact, dataset.preparation, name, runtime)
    if other is not None and _metric(name).NEEDS != "labels":
        job = replace(
            job,
            reference=other,
            reference_preparation=dataset.bind(other.inputs).preparation,
            outputs=match_outputs(artifact.outputs, other.outputs),
        )
    return job, dataset, (*findings, *chosen, *_several_outputs(artifact, name))


def _opened(model: str | Path | Artifact) -> Artifact:
    return model if isinstance(model, Artifact) else open_artifact(Path(model))


def _metric(name: str) -> Metric:
    module: Any = load("metrics", name)
    metric: Metric = module
    return metric


def match_outputs(outputs: tuple[TensorSpec, ...], reference: tuple[TensorSpec, ...]) -> dict[str, str]:
    """Which of a reference's outputs stands for which output: by name, else by shapes that occur once.

    Raises:
        ModelError: Neither tells.
    """
    names = {spec.name for spec in outputs}
    if names == {spec.name for spec in reference}:
        return {name: name for name in names}
    if len(outputs) == len(reference) == 1:
        return {outputs[0].name: reference[0].name}
    own = {spec.shape[1:]: spec.name for spec in outputs}
    others = {spec.shape[1:]: spec.name for spec in reference}
    if own.keys() == others.keys() and len(own) == len(outputs) == len(reference):
        return {name: others[shape] for shape, name in own.items()}
    raise ModelError(
        "EK415",
        f"The outputs {', '.join(sorted(names))} cannot be matched with the reference's "
        f"{', '.join(sorted(spec.name for spec in reference))}.",
        "Compare models whose outputs have the same names, or different shapes.",
    )


def _run(
    job: Job,
    dataset: Dataset,
    *,
    workers: int | None,
    session: Session | None,
    save_predictions: Path | None,
    progress: Callable[[int, int], None] | None,
) -> tuple[Rows, SampleDigests | None, Speed]:
    speed, done = Speed(), 0
    parts: list[Result] = []
    with PredictionsFile(save_predictions) as predictions:
        for result in answering.answers(job, dataset, workers=workers, speed=speed, session=session):
            predictions.add(result)
            # Outputs and labels may be large: what is not asked for is let go.
            kept = replace(result, outputs=None)
            parts.append(kept if job.keep_digests else replace(kept, digests=None, labels=None))
            done += result.count
            if progress:
                progress(done, dataset.count)
    rows = np.concatenate([part.rows for part in parts])
    return rows, _digests(parts) if job.keep_digests else None, speed


def _digests(parts: Sequence[Result]) -> SampleDigests:
    digests = np.concatenate([part.digests for part in parts if part.digests is not None])
    labels = [part.labels for part in parts if part.labels is not None]
    return SampleDigests.of(digests, np.concatenate(labels) if labels else None)


def _class_names(dataset: Dataset, artifact: Artifact) -> tuple[str, ...]:
    """One name per score of the first output; numbers where nothing names them."""
    if dataset.class_names:
        return dataset.class_names
    classes = max((side or 0 for side in artifact.outputs[0].shape[1:]), default=0)
    return tuple(str(number) for number in range(classes))


def _several_outputs(artifact: Artifact, metric: str) -> tuple[Finding, ...]:
    if len(artifact.outputs) == 1 or metric == "snr":
        return ()
    first, *rest = (spec.name for spec in artifact.outputs)
    return (
        Finding(
            "EK405",
            f"{metric} is measured on the output {first!r} alone, not on {', '.join(rest)}.",
            "--metric snr with --reference MODEL compares all outputs.",
            Level.NOTE,
        ),
    )
