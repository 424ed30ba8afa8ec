"""``compare``: several models on the same samples and against the clock, the first as baseline."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.artifact import Artifact, read_lineage
from edgekit.broken_samples import choose_broken, read_samples
from edgekit.catalog import load
from edgekit.data import Dataset, open_dataset
from edgekit.errors import DataError, DependencyError, DeviceError, ModelError, UsageError
from edgekit.findings import Finding, Level
from edgekit.formats import open_artifact
from edgekit.interleaved import RUNTIMES, BenchmarkOptions
from edgekit.metrics import Metric, RightOrWrong
from edgekit.pages import unique_names
from edgekit.pictures import data_url
from edgekit.tensor import element_count
from edgekit.verbs.benchmark import Benchmark, benchmark
from edgekit.verbs.evaluate import Evaluation, evaluate, paired
from edgekit.verbs.evaluate import planned as planned_evaluation
from edgekit.verbs.inspect import inspect
from edgekit.workflows.comparison import BrokenSample, ClassDrop, Compared, Comparison, pareto_front

Progress = Callable[[int, int], None]


def compare(
    models: Sequence[str | Path],
    data: str | Path | Dataset,
    *,
    metric: str | None = None,
    reference: str | Path | None = None,
    runtime: str | None = None,
    samples: int | None = None,
    workers: int | None = None,
    preprocess: str | None = None,
    latency: bool = True,
    max_seconds: float | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Comparison:
    """Compare models sample by sample with the first one, and measure their latencies in turn.

    Args:
        models: Two or more model files; the first is the baseline.
        data: A data spec (see ``open_dataset``), or a dataset.
        metric: The name of a file in ``metrics/``; chosen from labels and outputs when None.
        reference: The model that ``snr``, ``agreement``, ``mse`` and ``mae`` compare with. Where there are neither
            labels nor a reference, the first model is the reference.
        runtime: The name of a file in ``runtimes/``; that of each model's format when None.
        samples: So many samples, evenly spread; all when None.
        workers: Number of processes for each evaluation; one per core when None.
        preprocess: A preprocessing contract; "none" ignores those of the models' lineages.
        latency: Whether to benchmark the models on this machine.
        max_seconds: How long the benchmark of each model may take.
        seed: For the order of measuring, and the intervals.
        progress: Called with the numbers of samples done and of all, over all models.

    Raises:
        ModelError: A model is unreadable, fails, or has other outputs than the first.
        DataError: The samples or labels do not fit the models, or change from one reading to the next.
        UsageError: There are fewer than two models, or an option does not fit.
    """
    began = time.perf_counter()
    asked = _asked(models, data, metric=metric, reference=reference, preprocess=preprocess)
    asked.options.update(runtime=runtime, samples=samples)
    evaluations = _evaluate(asked, workers, progress)
    options = BenchmarkOptions(max_seconds=max_seconds, seed=seed)
    measured, noticed = _measure(asked, runtime, options) if latency else (None, ())
    names = asked.names
    compared = [
        _compared(name, artifact, found, evaluations[0])
        for name, artifact, found in zip(names, asked.artifacts, evaluations, strict=True)
    ]
    compared = _with_latencies(compared, measured)
    first = evaluations[0]
    module = _metric(first.metric)
    broken, pictures = _broken_samples(asked, evaluations, samples)
    findings = [*asked.findings, *_of_models(compared), *noticed, *pictures]
    return Comparison(
        data=asked.dataset.spec,
        metric=first.metric,
        unit=first.unit,
        higher_is_better=module.HIGHER_IS_BETTER,
        n=first.n,
        reference=asked.options["reference"] and str(asked.options["reference"]),
        class_names=_class_names(asked.dataset, evaluations),
        answer=_answer(module),
        models=_with_front(compared, module),
        latency_baseline=_first_measured(compared),
        broken_samples=broken,
        benchmark=measured,
        findings=tuple(dict.fromkeys(findings)),
        seconds=time.perf_counter() - began,
    )


def planned(models: Sequence[str | Path], data: str | Path | Dataset, **options: Any) -> dict[str, Any]:
    """What ``compare`` would do with these options, without running a model.

    Raises:
        EdgekitError: What ``compare`` would raise before it runs the first model.
    """
    given = {name: options.pop(name, None) for name in ("metric", "reference", "preprocess")}
    asked = _asked(models, data, **given)
    evaluated = {"runtime": options.get("runtime"), "samples": options.get("samples")}
    plans = [
        planned_evaluation(artifact, asked.dataset, **asked.options, **evaluated)[0]
        for artifact in asked.artifacts
    ]
    latency = options.get("latency", True)
    return {
        "data": asked.dataset.spec,
        "models": [
            {
                "name": name,
                "metric": plan["metric"],
                "runtime": plan["runtime"],
                "n": plan["n"],
                "benchmark": bool(latency and artifact.format in RUNTIMES.values()),
            }
            for name, plan, artifact in zip(asked.names, plans, asked.artifacts, strict=True)
        ],
    }


@dataclass(frozen=True)
class _Asked:
    """What is compared, on what; ``options`` are those of every evaluation."""

    artifacts: tuple[Artifact, ...]
    names: tuple[str, ...]
    dataset: Dataset
    options: dict[str, Any]
    findings: tuple[Finding, ...]


def _asked(
    models: Sequence[str | Path],
    data: str | Path | Dataset,
    *,
    metric: str | None,
    reference: str | Path | None,
    preprocess: str | None,
) -> _Asked:
    """All that can be refused before a model is run is refused here."""
    if len(models) < 2:
        raise UsageError("EK440", "A comparison takes two models or more.", "Name the baseline first.")
    artifacts = tuple(open_artifact(Path(model)) for model in models)
    for artifact in artifacts[1:]:
        _check_outputs(artifacts[0], artifact)
    dataset = open_dataset(data, preprocess=preprocess)
    findings: tuple[Finding, ...] = ()
    needs = None if metric is None else _metric(metric).NEEDS
    if reference is None and (needs == "reference" or (needs != "labels" and not dataset.has_labels)):
        reference = artifacts[0].path
        why = f"The metric {metric} compares with a reference" if needs else f"{dataset.spec} has no labels"
        text = f"{why}: the reference is {artifacts[0].path.name}, the first model."
        findings = (Finding("EK441", text, "--reference MODEL names another.", Level.NOTE),)
    options = {"metric": metric, "reference": reference, "preprocess": preprocess}
    names = tuple(unique_names([str(artifact.path) for artifact in artifacts]))
    return _Asked(artifacts, names, dataset, options, findings)


def _check_outputs(first: Artifact, other: Artifact) -> None:
    """Models of other classes answer another question."""
    sizes = [
        element_count(tuple(side for side in artifact.outputs[0].shape[1:] if side is not None))
        for artifact in (first, other)
        if None not in artifact.outputs[0].shape[1:]
    ]
    if len(sizes) == 2 and sizes[0] != sizes[1]:
        raise ModelError(
            "EK442",
            f"{other.path.name} gives {sizes[1]} values per sample, {first.path.name} {sizes[0]}.",
            "Compare models with the same outputs.",
        )


def _evaluate(asked: _Asked, workers: int | None, progress: Progress | None) -> list[Evaluation]:
    """Every model on the same samples, with the metric that fitted the first."""
    options, found = dict(asked.options), list[Evaluation]()
    for number, artifact in enumerate(asked.artifacts):
        part = None if progress is None else _part(progress, number, len(asked.artifacts))
        evaluation = evaluate(
            artifact, asked.dataset, **options, workers=workers, keep_digests=True, progress=part
        )
        options["metric"] = evaluation.metric
        found.append(evaluation)
        first = found[0]
        if _digests(first) != _digests(evaluation):
            raise DataError(
                "EK443",
                f"{asked.dataset.spec} gave other samples to {artifact.path.name} than to the first model.",
                "Samples must be the same each time they are read: fix the seed of your function.",
            )
    return found


def _digests(evaluation: Evaluation) -> str:
    return "" if evaluation.digests is None else evaluation.digests.digest()


def _part(progress: Progress, number: int, count: int) -> Progress:
    """The progress of one evaluation as that of all."""
    return lambda done, total: progress(number * total + done, count * total)


def _measure(
    asked: _Asked, runtime: str | None, options: BenchmarkOptions
) -> tuple[Benchmark | None, tuple[Finding, ...]]:
    """The latencies of all that a runtime of a device opens, measured in turn."""
    if runtime is not None:
        if runtime not in RUNTIMES:
            text = f"{runtime} is no runtime of a device, so no latency was measured."
            return None, (Finding("EK445", text, f"--runtime {' or '.join(RUNTIMES)} can be measured."),)
        options = replace(options, runtime=runtime)
    fitting = [artifact.path for artifact in asked.artifacts if artifact.format in RUNTIMES.values()]
    findings = [
        Finding(
            "EK444",
            f"{name} is a {artifact.format} model, which no device runs as it is: it has no latency.",
            f"Convert it first: edgekit quantize {artifact.path} -r float16 -o model.tflite",
            Level.NOTE,
        )
        for name, artifact in zip(asked.names, asked.artifacts, strict=True)
        if artifact.path not in fitting
    ]
    if not fitting:
        return None, tuple(findings)
    try:
        found = benchmark(fitting, options)
    except (ModelError, DependencyError, DeviceError) as error:
        return None, (*findings, Finding("EK445", f"No latency was measured: {error.message}", error.hint))
    return found, (*findings, *found.findings)


def _compared(name: str, artifact: Artifact, found: Evaluation, first: Evaluation) -> Compared:
    made = Compared(name, artifact, found, inspect(artifact.path), read_lineage(artifact.path))
    if found is first:
        return made
    return replace(made, drop=paired(first, found), class_drops=_class_drops(first, found))


def _class_drops(first: Evaluation, other: Evaluation) -> tuple[ClassDrop, ...]:
    """The drop within each class, for metrics that are right or wrong for a labelled sample."""
    metric = _metric(first.metric)
    if not isinstance(metric, RightOrWrong) or metric.NEEDS != "labels":
        return ()
    labels = first.rows[:, 0].astype(int)
    names = {int(item["class"]): str(item["name"]) for item in first.per_class if "class" in item}
    found = []
    for label in np.unique(labels).tolist():
        before, after = first.rows[labels == label], other.rows[labels == label]
        shares = [float(metric.correct(rows).mean()) for rows in (before, after)]
        name = names.get(label, str(label))
        found.append(ClassDrop(label, name, shares[0], shares[1], metric.drop(before, after)))
    return tuple(found)


def _with_latencies(compared: list[Compared], measured: Benchmark | None) -> list[Compared]:
    if measured is None:
        return compared
    # In the order in which they were given: a path given twice is measured twice.
    latencies = iter(zip(measured.models, [None, *measured.ratios], strict=True))
    found = []
    for model in compared:
        if model.artifact.format in RUNTIMES.values():
            own, ratio = next(latencies)
            found.append(replace(model, benchmark=own, ratio=ratio))
        else:
            found.append(model)
    return found


def _first_measured(compared: Sequence[Compared]) -> str | None:
    return next((model.name for model in compared if model.benchmark), None)


def _with_front(compared: Sequence[Compared], metric: Metric) -> tuple[Compared, ...]:
    """What no device runs as it is counts as slowest."""
    sign = -1 if metric.HIGHER_IS_BETTER else 1
    costs = [
        (
            float(model.artifact.size_bytes),
            model.benchmark.latency.median if model.benchmark else float("inf"),
            sign * model.evaluation.value,
        )
        for model in compared
    ]
    return tuple(
        replace(model, on_pareto_front=on_front)
        for model, on_front in zip(compared, pareto_front(costs), strict=True)
    )


def _of_models(compared: Sequence[Compared]) -> list[Finding]:
    """What was noticed about each model, under its name."""
    return [
        replace(finding, message=f"{model.name}: {finding.message.removeprefix(f'{model.name}: ')}")
        for model in compared
        for finding in (*model.evaluation.findings, *model.inspection.findings)
    ]


def _broken_samples(
    asked: _Asked, evaluations: Sequence[Evaluation], samples: int | None
) -> tuple[tuple[BrokenSample, ...], tuple[Finding, ...]]:
    """Some of the samples that the first model gets right and another wrong, as pictures where they are."""
    first, metric = evaluations[0], _metric(evaluations[0].metric)
    if not isinstance(metric, RightOrWrong) or first.digests is None:
        return (), ()
    right = np.array([metric.correct(found.rows) for found in evaluations])
    labels = first.rows[:, 0].astype(int)
    chosen = choose_broken(right, labels)
    column = metric.COLUMNS.index(_answer(metric))
    dataset = asked.dataset.spread(samples) if samples else asked.dataset
    pictures, findings = _pictures(dataset, chosen)
    return tuple(
        BrokenSample(
            number,
            first.digests.samples[number].tobytes().hex(),
            int(labels[number]),
            tuple(int(found.rows[number, column]) for found in evaluations),
            tuple(np.flatnonzero(~right[:, number]).tolist()),
            picture,
        )
        for number, picture in zip(chosen, pictures, strict=True)
    ), findings


def _pictures(dataset: Dataset, chosen: Sequence[int]) -> tuple[list[str | None], tuple[Finding, ...]]:
    try:
        return [data_url(sample) for sample in read_samples(dataset, chosen)], ()
    except DependencyError as error:
        finding = Finding("EK446", "The samples that broke are shown without pictures.", error.hint)
        return [None] * len(chosen), (finding,)


def _answer(metric: Metric) -> str:
    return metric.COLUMNS[1] if isinstance(metric, RightOrWrong) else "predicted"


def _class_names(dataset: Dataset, evaluations: Sequence[Evaluation]) -> tuple[str, ...]:
    """By class number; numbers where nothing names them."""
    if dataset.class_names:
        return dataset.class_names
    known = {
        int(item["class"]): str(item["name"])
        for found in evaluations
        for item in found.per_class
        if "class" in item
    }
    confusion = evaluations[0].confusion
    count = len(confusion) if confusion is not None else max(known, default=-1) + 1
    return tuple(known.get(number, str(number)) for number in range(count))


def _metric(name: str) -> Metric:
    module: Any = load("metrics", name)
    metric: Metric = module
    return metric
