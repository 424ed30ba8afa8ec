"""Baselines: made from a model and data, and replaced by a candidate that was checked."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import edgekit
from edgekit import files
from edgekit.artifact import Artifact, read_lineage
from edgekit.baseline import Baseline, digest_of
from edgekit.errors import InternalError, ModelError, UsageError
from edgekit.findings import Finding, Level
from edgekit.formats import open_artifact
from edgekit.interleaved import BenchmarkOptions
from edgekit.measurement import Record
from edgekit.verbs.benchmark import benchmark
from edgekit.verbs.evaluate import Evaluation, evaluate
from edgekit.versions import installed_versions

Progress = Callable[[int, int], None]

# More would make a baseline that nobody can review.
_MOST_HISTORY = 100


def create_baseline(
    model: str | Path,
    data: str | Path,
    output: str | Path,
    *,
    metric: str | None = None,
    reference: str | Path | None = None,
    runtime: str | None = None,
    samples: int | None = None,
    workers: int | None = None,
    preprocess: str | None = None,
    latency: bool = True,
    max_seconds: float | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> tuple[Baseline, tuple[Finding, ...]]:
    """Measure a model on every sample and against the clock, and keep all of it in one file.

    Args:
        model: The model that later ones are judged by.
        data: A data spec (see ``open_dataset``).
        output: The baseline's file, ``"baseline.json"``.
        metric: The name of a file in ``metrics/``; chosen from labels and outputs when None.
        reference: The model that ``snr``, ``agreement``, ``mse`` and ``mae`` compare with.
        runtime: The name of a file in ``runtimes/``; that of the model's format when None.
        samples: So many samples, evenly spread; all when None.
        workers: Number of processes; one per core when None.
        preprocess: A preprocessing contract; "none" ignores the one of the model's lineage.
        latency: Whether to benchmark the model on this machine.
        max_seconds: How long the benchmark may take.
        overwrite: Whether a file at ``output`` may be replaced.
        progress: Called with the numbers of samples done and of all.

    Returns:
        The baseline, and what was noticed.

    Raises:
        ModelError: The model is unreadable or fails.
        DataError: The samples or labels do not fit the model.
        UsageError: An option does not fit.
        OutputError: The output exists, or cannot be written.
    """
    path = Path(output)
    files.check_output(path, overwrite=overwrite)
    artifact = open_artifact(Path(model))
    evaluation = evaluate(
        artifact,
        data,
        metric=metric,
        reference=reference,
        runtime=runtime,
        samples=samples,
        workers=workers,
        preprocess=preprocess,
        keep_digests=True,
        progress=progress,
    )
    record, noticed = _measured(artifact, max_seconds) if latency else (None, ())
    made = from_evaluation(
        artifact, evaluation, data=data, reference=reference, preprocess=preprocess, benchmark=record
    )
    made.save(path)
    return made, (*evaluation.findings, *noticed)


def from_evaluation(
    artifact: Artifact,
    evaluation: Evaluation,
    *,
    data: str | Path,
    reference: str | Path | None,
    preprocess: str | None,
    benchmark: Record | None,
) -> Baseline:
    """The baseline that an evaluation with digests makes."""
    if evaluation.digests is None:
        raise InternalError("EK910", "A baseline was asked for without digests.", "")
    other = None if reference is None else open_artifact(Path(reference))
    return Baseline(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        edgekit_version=edgekit.__version__,
        model=artifact.describe(),
        data=str(data),
        preprocess=preprocess,
        metric=evaluation.metric,
        unit=evaluation.unit,
        value=evaluation.value,
        ci95=evaluation.ci95,
        runtime=evaluation.runtime,
        device=evaluation.device,
        digests=evaluation.digests,
        rows=evaluation.rows,
        class_names=tuple(str(item["name"]) for item in evaluation.per_class if "name" in item),
        reference=None if other is None else {"path": str(other.path), "sha256": other.sha256},
        lineage=read_lineage(artifact.path),
        versions=installed_versions(),
        benchmark=benchmark,
    )


def promote(candidate: str | Path, baseline: str | Path, *, force: bool = False) -> Baseline:
    """Put a checked candidate in the place of the baseline that it was checked against.

    Args:
        candidate: What ``edgekit check --save-candidate`` wrote.
        baseline: The file to replace.
        force: Also where the check did not pass, or was against another baseline.

    Raises:
        DataError: One of the two is no baseline.
        UsageError: The candidate was not checked against this baseline, or did not pass.
    """
    path = Path(baseline)
    with files.locked_folder(path.resolve().parent):
        new, old = Baseline.read(Path(candidate)), Baseline.read(path)
        if not force:
            _check_promotion(new, Path(candidate), path)
        entry = {
            "model_sha256": old.model["sha256"],
            "model_path": old.model["path"],
            "metric": old.metric,
            "value": old.value,
            "n": old.n,
            "created": old.created,
        }
        promoted = replace(new, history=(*old.history, entry)[-_MOST_HISTORY:])
        promoted.save(path)
    return promoted


def _check_promotion(new: Baseline, candidate: Path, path: Path) -> None:
    checked: Any = new.checked or {}
    if not checked:
        raise UsageError(
            "EK479",
            f"{candidate} was not checked.",
            f"edgekit check MODEL --baseline {path} --save-candidate {candidate}, or --force.",
        )
    if checked.get("baseline_sha256") != digest_of(path):
        raise UsageError(
            "EK479",
            f"{candidate} was checked against another baseline than what {path} is now.",
            "Check it again, or use --force.",
        )
    if checked.get("verdict") != "pass":
        raise UsageError(
            "EK479",
            f"The verdict on {candidate} is {checked.get('verdict')}, not pass.",
            "--force promotes it anyway.",
        )


def _measured(artifact: Artifact, max_seconds: float | None) -> tuple[Record | None, tuple[Finding, ...]]:
    try:
        found = benchmark([artifact.path], BenchmarkOptions(max_seconds=max_seconds))
    except ModelError as error:
        text = f"The baseline has no latencies: {error.message}"
        return None, (Finding("EK480", text, error.hint, Level.NOTE),)
    return found.record(), found.findings
